/* Ids: whatever case comes in, one form comes out, and it stays itself. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "model/id.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(free) char *text = str_ndup((const char *)data, size);
    struct sandbox_id id, again;
    struct err err;
    char lower[ID_LEN + 1];
    if (sandbox_id_parse(text, &id, &err) < 0)
        return 0;
    if (strlen(text) != ID_LEN || strspn(id.text, "0123456789ABCDEFGHJKMNPQRSTVWXYZ") != ID_LEN ||
        id.text[0] > '7')
        abort();
    sandbox_id_lower(&id, lower);
    if (sandbox_id_parse(lower, &again, &err) < 0 || !sandbox_id_eq(&id, &again))
        abort();
    return 0;
}
