/* YAML of a hostile workspace: whatever is decoded is released, a refusal names a line, and what is
 * taken can be written into a row. */
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "model/service.h"
#include "wire/yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct body {
    struct objv services;
    char *any;
};
static const struct field rows[] = {
    FIELD_LIST(struct body, services, struct service, &service_shape, .hi = SERVICES_MAX,
               .flags = FIELD_NULLABLE),
    FIELD_ANY(struct body, any),
};
static const struct shape shape = SHAPE("body", rows);

static int check(const void *obj, struct err *err)
{
    const struct body *b = obj;
    const struct service *items = b->services.items;
    for (size_t i = 0; i < b->services.count; i++)
        if (service_check(&items[i], err) < 0) {
            struct err was = *err;
            return err_set(err, was.code, "services.%zu.%s", i, was.msg);
        }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct body b = { .any = NULL };
    struct err err = { .msg = "" };
    if (size > 64 * KIB)
        return 0;
    if (yaml_decode(&shape, (const char *)data, size, &b, check, &err) == 0) {
        const struct service *items = b.services.items;
        for (size_t i = 0; i < b.services.count; i++)
            if (!items[i].name || !items[i].cmd || items[i].port > 65535)
                abort();
        shape_release(&shape, &b);
    } else if (!strstr(err.msg, "(line ") || b.services.items || b.any) {
        abort();
    }
    return 0;
}
