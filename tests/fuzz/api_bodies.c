/* Bodies of requests through their shapes and the rules between fields: no input may crash, and
 * what is accepted keeps the promises that core/ relies on. The first byte chooses the body's kind.
 */
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "shapes.h"
#include "wire/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void hold(bool promise)
{
    if (!promise)
        abort();
}

static void create(const char *text, size_t len, bool v1)
{
    const struct shape *shape = v1 ? &shape_create : &shape_create_legacy;
    struct create_body b = { 0 };
    struct core_create c;
    struct err err;
    if (json_decode(shape, text, len, &b, &err) < 0)
        return;
    if (create_check(&b, v1, &c, &err) == 0) {
        hold(c.ports.count <= SANDBOX_PORTS_MAX);
        for (size_t i = 1; i < c.ports.count; i++)
            hold(c.ports.items[i - 1] < c.ports.items[i]);
        hold(c.limits.cpu_milli == 0 ||
             (c.limits.cpu_milli >= 50 && c.limits.cpu_milli <= 1024000));
        hold(!c.has_id || strlen(c.id.text) == ID_LEN);
        hold(!c.by_project || c.external_project);
    }
    shape_release(shape, &b);
}

static void exec(const char *text, size_t len)
{
    struct exec_body b = { 0 };
    struct strv argv = { 0 };
    struct err err;
    if (json_decode(&shape_exec, text, len, &b, &err) < 0)
        return;
    if (exec_argv(&b, &argv, &err) == 0)
        hold(argv.count >= 1 && argv.count <= EXEC_ARGS_MAX && argv.items[0][0]);
    strv_release(&argv);
    shape_release(&shape_exec, &b);
}

static void keepalive(const char *text, size_t len)
{
    struct keepalive_body b = { 0 };
    struct err err;
    if (json_decode(&shape_keepalive, text, len, &b, &err) < 0)
        return;
    hold(!b.until_seen || b.until >= 1);
    shape_release(&shape_keepalive, &b);
}

static void put(const char *text, size_t len)
{
    struct put_body b = { 0 };
    struct err err;
    if (json_decode(&shape_put, text, len, &b, &err) < 0)
        return;
    hold(b.path && b.path[0] && b.content);
    shape_release(&shape_put, &b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    const char *text = (const char *)data + 1;
    switch (data[0]) {
    case 'c':
        create(text, size - 1, true);
        break;
    case 'l':
        create(text, size - 1, false);
        break;
    case 'e':
        exec(text, size - 1);
        break;
    case 'k':
        keepalive(text, size - 1);
        break;
    default:
        put(text, size - 1);
        break;
    }
    return 0;
}
