/* Env files: any bytes end in pairs or in one line that says where. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "envfile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct env_file f;
    struct err err;
    if (envfile_parse("f", (const char *)data, size, &f, &err) == 0) {
        for (size_t i = 0; i < f.count; i++)
            if (!*f.pairs[i].name || !envfile_get(&f, f.pairs[i].name) || f.pairs[i].line == 0)
                abort();
        envfile_release(&f);
    } else if (err.code != ERR_INVALID || strncmp(err.msg, "f:", 2) != 0) {
        abort();
    }
    return 0;
}
