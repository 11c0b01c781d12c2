/* Services: names and their neighbours. */
#include <string.h>

#include "base/str.h"
#include "check.h"
#include "model/service.h"

#define X32 "abcdefghijklmnopqrstuvwxyz012345"

static const struct {
    const char *name, *health_path;
    uint32_t port;
    const char *error;
} rows[] = {
    { "a", NULL, 0, NULL },
    { "0", NULL, 0, NULL },
    { "web", NULL, 3000, NULL },
    { "a-b", NULL, 0, NULL },
    { "a--b", NULL, 0, NULL },
    { X32, NULL, 0, NULL },
    { "web", "/health", 80, NULL },
    { "web", "/", 65535, NULL },
    { "", NULL, 0, "name: has 1 to 32 characters" },
    { X32 "6", NULL, 0, "name: has 1 to 32 characters" },
    { "-a", NULL, 0, "name: has small letters" },
    { "a-", NULL, 0, "name: has small letters" },
    { "-", NULL, 0, "name: has small letters" },
    { "A", NULL, 0, "name: has small letters" },
    { "a b", NULL, 0, "name: has small letters" },
    { "a_b", NULL, 0, "name: has small letters" },
    { "a/b", NULL, 0, "name: has small letters" },
    { "..", NULL, 0, "name: has small letters" },
    { "\xc3\xa4", NULL, 0, "name: has small letters" },
    { "a\n", NULL, 0, "name: has small letters" },
    { "web", "health", 80, "health_path: must begin with /" },
    { "web", "", 80, "health_path: must begin with /" },
    { "web", "/a b", 80, "health_path: has visible ASCII" },
    { "web", "/a\r\nX: y", 80, "health_path: has visible ASCII" },
    { "web", "/\xc3\xa4", 80, "health_path: has visible ASCII" },
    { "web", "/health", 0, "health_path: needs a port" },
};

int main(void)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err err = { .msg = "" };
        struct service s = { .name = str_dup(rows[i].name),
                             .cmd = str_dup("x"),
                             .health_path =
                                 rows[i].health_path ? str_dup(rows[i].health_path) : NULL,
                             .port = rows[i].port };
        int rc = service_check(&s, &err);
        if (!CHECK_ROW(rows[i].name,
                       rows[i].error ? rc < 0 && strstr(err.msg, rows[i].error) : rc == 0))
            printf("# %s\n", err.msg);
        struct services list = { .items = { s }, .count = 1 };
        services_release(&list);
        CHECK(list.count == 0 && !list.items[0].name && !list.items[0].health_path);
    }
    CHECK(service_restart_names[SERVICE_NEVER + 1] == NULL);
    return check_done();
}
