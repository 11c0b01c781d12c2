/* The filter of Traefik's Docker endpoint: whatever comes in, what passes is one of five requests
 * and has no body. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "filter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct front_request r = { .what = FRONT_EVENTS };
    char *text = malloc(size ? size : 1); /* of that very size: a read beyond it is seen */
    if (!text)
        abort();
    if (size > 0)
        memcpy(text, data, size);
    front_filter(text, size, &r);
    if (r.what != FRONT_REFUSED) {
        if (size < 4 || memcmp(text, "GET ", 4) != 0 ||
            memcmp(text + size - 4, "\r\n\r\n", 4) != 0 ||
            memmem(text, size - 4, "\r\n\r\n", 4) != NULL)
            abort();
    }
    size_t n = strlen(r.ref);
    if ((n > 0) != (r.what == FRONT_INSPECT) || (n > 0 && n != 64 && n != 28) ||
        strspn(r.ref, "0123456789abcdefghjkmnpqrstvwxyz-") != n)
        abort();
    free(text);
    return 0;
}
