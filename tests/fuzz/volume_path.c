/* Any text as a path: a checked one never leads out, and checking it again changes nothing. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "volume/file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(int ok)
{
    if (!ok)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct file_path p, again;
    struct err err;
    char *text = malloc(size + 1);
    memcpy(text, data, size);
    text[size] = '\0';
    if (file_path_parse(text, &p, &err) == 0) {
        demand(p.text[0] != '/' && strlen(p.text) < PATH_BYTES_MAX);
        char whole[sizeof(p.text) + 16] = "/home/sandbox/";
        memcpy(whole + 14, p.text, strlen(p.text) + 1);
        for (const char *c = p.text; *c;) {
            size_t len = strcspn(c, "/");
            demand(len > 0 && len < 256 && !(len == 1 && *c == '.') &&
                   !(len == 2 && c[0] == '.' && c[1] == '.'));
            c += len + (c[len] == '/');
        }
        if (strlen(whole) <= PATH_BYTES_MAX) {
            int rc = file_path_parse(whole, &again, &err);
            /* the two components of the home directory may be the ones too many */
            demand(rc == 0 ? strcmp(p.text, again.text) == 0 : err.code == ERR_INVALID);
        }
    } else {
        demand(err.code == ERR_INVALID || err.code == ERR_PATH_ESCAPE);
    }
    free(text);
    return 0;
}
