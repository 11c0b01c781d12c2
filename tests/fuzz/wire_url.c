/* URLs and hosts: what is accepted is canonical, and stays itself when it is read again. */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "wire/url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void hosts(const char *text)
{
    char name[HOST_NAME_MAX_BYTES + 1], again[HOST_NAME_MAX_BYTES + 1];
    char bracketed[HOST_NAME_MAX_BYTES + 3];
    uint16_t port = 0;
    struct err err;
    if (host_parse(text, name, &port, &err) == 0) {
        (void)snprintf(bracketed, sizeof bracketed, strchr(name, ':') ? "[%s]" : "%s", name);
        if (host_parse(bracketed, again, &port, &err) < 0 || !str_eq(name, again) || port != 0)
            abort();
        if (strpbrk(name, " \t\r\n/@?#%ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
            abort();
    }
    if (bind_parse(text, name, &port, &err) == 0) {
        struct in6_addr six;
        struct in_addr four;
        if (port == 0 ||
            (inet_pton(AF_INET, name, &four) != 1 && inet_pton(AF_INET6, name, &six) != 1))
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(free) char *text = str_ndup((const char *)data, size);
    AUTO(free) char *decoded = NULL;
    AUTO(buf) struct buf b = BUF_INIT(size * 3 + 1);
    struct query q;
    struct err err;
    hosts(text);
    if (query_parse(text, &q, &err) == 0)
        query_release(&q);
    if (url_decode((const char *)data, size, true, &decoded, &err) == 0) {
        AUTO(free) char *back = NULL;
        url_encode(&b, decoded);
        if (url_decode(buf_str(&b), b.len, true, &back, &err) < 0 || !str_eq(decoded, back))
            abort();
    }
    return 0;
}
