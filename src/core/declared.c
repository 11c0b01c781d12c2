/* Declared services. The row's list was checked when it was written; the file is the sandbox's and
 * hostile: it is opened as any file of a workspace, bounded, and decoded strictly. */
#include "declared.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"
#include "inside.h"
#include "wire/json.h"
#include "wire/yaml.h"

#define FILE_BYTES_MAX (64 * KIB)
#define STOPPED_MAX (2 * SERVICES_MAX) /* names that are declared no more are among them */

struct list_body {
    struct objv services;
};
static const struct field list_rows[] = {
    FIELD_LIST(struct list_body, services, struct service, &service_shape, .hi = SERVICES_MAX,
               .flags = FIELD_NULLABLE),
};
static const struct shape list_shape = SHAPE("sandbox.yaml", list_rows);

/* Of the row; names of the file's services may be among the stopped ones. */
struct row_body {
    struct objv services;
    struct strv stopped;
};
static const struct field row_rows[] = {
    FIELD_LIST(struct row_body, services, struct service, &service_shape, .hi = SERVICES_MAX),
    FIELD_STRV(struct row_body, stopped, .hi = STOPPED_MAX),
};
static const struct shape row_shape = SHAPE("services", row_rows);

static char *dup_or_null(const char *text)
{
    return text ? str_dup(text) : NULL;
}

void declared_copy(struct service *to, const struct service *from)
{
    *to = (struct service){ .name = str_dup(from->name),
                            .cmd = str_dup(from->cmd),
                            .cwd = dup_or_null(from->cwd),
                            .port = from->port,
                            .health_path = dup_or_null(from->health_path),
                            .ready_log = dup_or_null(from->ready_log),
                            .restart = from->restart };
    for (size_t i = 0; i < from->env.count; i++)
        strmap_add(&to->env, from->env.names[i], from->env.values[i]);
}

/* What a shape cannot tell; the message begins with the path. */
static int check_one(const struct service *items, size_t i, struct err *err)
{
    struct strv argv = { 0 };
    int rc = service_check(&items[i], err);
    if (rc == 0)
        rc = json_command(items[i].cmd, &argv, err);
    if (rc == 0)
        rc = core_check_env(&items[i].env, err);
    if (rc == 0)
        rc = core_check_cwd(items[i].cwd, err);
    for (size_t k = 0; k < i && rc == 0; k++)
        if (str_eq(items[k].name, items[i].name))
            rc = err_set(err, ERR_INVALID, "name: %s is there twice", items[i].name);
    strv_release(&argv);
    if (rc == 0)
        return 0;
    struct err was = *err;
    return err_set(err, was.code, "services.%zu.%s", i, was.msg);
}

static int check_list(const void *obj, struct err *err)
{
    const struct list_body *body = obj;
    for (size_t i = 0; i < body->services.count; i++)
        if (check_one(body->services.items, i, err) < 0)
            return -1;
    return 0;
}

/* Takes those that are not there yet by name, or none of them when there are too many. */
static int take(struct services *to, const struct objv *from, struct err *err)
{
    const struct service *items = from->items;
    size_t had = to->count;
    for (size_t i = 0; i < from->count; i++) {
        bool there = false;
        for (size_t k = 0; k < had; k++)
            there = there || str_eq(to->items[k].name, items[i].name);
        if (there)
            continue;
        if (to->count == SERVICES_MAX) {
            while (to->count > had)
                shape_release(&service_shape, &to->items[--to->count]);
            return err_set(err, ERR_INVALID, "services: with those declared elsewhere more than %d",
                           SERVICES_MAX);
        }
        declared_copy(&to->items[to->count++], &items[i]);
    }
    return 0;
}

int declared_read_row(const struct sandbox *s, struct services *ret, struct err *err)
{
    struct row_body body = { 0 };
    if (!s->services)
        return 0;
    if (json_decode(&row_shape, s->services, strlen(s->services), &body, err) < 0)
        return err_wrap(err, "services of the row");
    int rc = take(ret, &body.services, err);
    for (size_t i = 0; i < body.stopped.count; i++)
        strv_add(&ret->stopped, body.stopped.items[i]);
    shape_release(&row_shape, &body);
    return rc;
}

/* As file_open(). */
static int open_file(int root, int *ret_fd, struct err *err)
{
    static const char *const names[] = { DECLARED_FILE, DECLARED_FILE_ABOVE };
    struct file_path path;
    uint64_t size;
    int rc = -1;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        rc = file_path_parse(names[i], &path, err);
        if (rc == 0)
            rc = file_open(root, &path, ret_fd, &size, err);
        if (rc == 0 || err->code != ERR_NOT_FOUND)
            break;
    }
    return rc;
}

static int read_file(struct core *c, const struct sandbox *s, struct services *ret, struct err *err)
{
    struct list_body body = { 0 };
    AUTO(fd) int root = -1;
    AUTO(fd) int fd = -1;
    AUTO(buf) struct buf text = BUF_INIT(FILE_BYTES_MAX);
    if (volume_open(c->p.volume, &s->id, &root, err) < 0)
        return err->code == ERR_NOT_FOUND ? 0 : -1;
    if (open_file(root, &fd, err) < 0)
        return err->code == ERR_NOT_FOUND ? 0 : err_wrap(err, "sandbox.yaml");
    if (fd_read_to_end(fd, &text, err) < 0 ||
        yaml_decode(&list_shape, buf_str(&text), text.len, &body, check_list, err) < 0)
        return err_wrap(err, "sandbox.yaml");
    int rc = take(ret, &body.services, err);
    shape_release(&list_shape, &body);
    return rc < 0 ? err_wrap(err, "sandbox.yaml") : 0;
}

int declared_read(struct core *c, const struct sandbox *s, struct services *ret, struct err *err)
{
    *ret = (struct services){ 0 };
    if (declared_read_row(s, ret, err) < 0)
        return -1;
    return read_file(c, s, ret, err);
}

static void put_one(struct json_out *o, const struct service *v)
{
    json_open(o, NULL);
    json_put(o, "name", v->name);
    json_put_raw(o, "cmd", v->cmd);
    if (v->cwd)
        json_put(o, "cwd", v->cwd);
    if (v->env.count) {
        json_open(o, "env");
        for (size_t i = 0; i < v->env.count; i++)
            json_put(o, v->env.names[i], v->env.values[i]);
        json_close(o);
    }
    if (v->port)
        json_put_int(o, "port", v->port);
    if (v->health_path)
        json_put(o, "health_path", v->health_path);
    if (v->ready_log)
        json_put(o, "ready_log", v->ready_log);
    json_put(o, "restart", service_restart_names[v->restart]);
    json_close(o);
}

/* What a shell's line begins with besides the program: "cd dir &&", NAME=value, exec. */
static const char *skip_preamble(const char *line)
{
    for (;;) {
        line += strspn(line, " \t\n;&|");
        size_t len = strcspn(line, " \t\n;&|");
        bool cd = len == 2 && memcmp(line, "cd", 2) == 0;
        bool exec = len == 4 && memcmp(line, "exec", 4) == 0;
        const char *after = line + (cd ? strcspn(line, "\n;&|") : len);
        if (!*after || !(cd || exec || memchr(line, '=', len)))
            return line;
        line = after;
    }
}

/* The program's name of a command line, as far as it fits a service's name. */
static void name_of(const char *line, char out[SERVICE_NAME_MAX + 1])
{
    size_t len = strcspn(line, " \t\n;&|"), from = len, n = 0;
    while (from > 0 && line[from - 1] != '/')
        from--;
    for (const char *c = line + from; c < line + len && n < SERVICE_NAME_MAX; c++) {
        char small = *c >= 'A' && *c <= 'Z' ? (char)(*c - 'A' + 'a') : *c;
        bool letter = (small >= 'a' && small <= 'z') || (small >= '0' && small <= '9');
        if (letter || (n > 0 && out[n - 1] != '-'))
            out[n++] = letter ? small : '-';
    }
    while (n > 0 && out[n - 1] == '-')
        n--;
    out[n] = 0;
    if (n == 0)
        (void)str_copy(out, SERVICE_NAME_MAX + 1, "exec");
}

void core_service_name(const struct strv *argv, char out[SERVICE_NAME_MAX + 1])
{
    bool shell =
        argv->count > 2 && str_eq(argv->items[0], "/bin/sh") && str_eq(argv->items[1], "-c");
    name_of(shell ? skip_preamble(argv->items[2]) : argv->items[0], out);
}

int declared_to_json(const struct service *items, size_t count, const struct strv *stopped,
                     char **ret, struct err *err)
{
    struct buf b = BUF_INIT(SERVICES_BYTES_MAX);
    struct json_out o = JSON_OUT(&b);
    if (count > SERVICES_MAX)
        return err_set(err, ERR_INVALID, "services: more than %d", SERVICES_MAX);
    json_open(&o, NULL);
    json_list(&o, "services");
    for (size_t i = 0; i < count; i++) {
        if (check_one(items, i, err) < 0) {
            buf_release(&b);
            return -1;
        }
        put_one(&o, &items[i]);
    }
    json_unlist(&o);
    if (stopped && stopped->count) {
        json_list(&o, "stopped");
        for (size_t i = 0; i < stopped->count; i++)
            json_put(&o, NULL, stopped->items[i]);
        json_unlist(&o);
    }
    json_close(&o);
    if (b.failed) {
        buf_release(&b);
        return err_set(err, ERR_INVALID, "services: together longer than %d bytes",
                       SERVICES_BYTES_MAX);
    }
    *ret = buf_take(&b);
    return 0;
}

/* --- changing the row --- */

static int read_now(struct core *c, const struct sandbox_id *id, struct services *ret,
                    struct err *err)
{
    const struct sandbox *now = registry_get(c->registry, id);
    int rc = now ? declared_read_row(now, ret, err)
                 : err_set(err, ERR_NOT_FOUND, "no sandbox %s", id->text);
    core_unref(now);
    return rc;
}

static void show_services(struct sandbox *row, void *ctx)
{
    free(row->services);
    row->services = str_dup(ctx);
}

static int write_row(struct core *c, const struct sandbox_id *id, const struct services *list,
                     struct err *err)
{
    AUTO(free) char *json = NULL;
    if (declared_to_json(list->items, list->count, &list->stopped, &json, err) < 0 ||
        store_set_services(c->p.store, id, json, err) < 0)
        return -1;
    (void)registry_update(c->registry, id, show_services, json); /* gone: nothing to show */
    return 0;
}

static void drop_at(struct strv *v, size_t at)
{
    free(v->items[at]);
    memmove(v->items + at, v->items + at + 1, (v->count - at - 1) * sizeof v->items[0]);
    v->count--;
}

/* false: it was so already. */
static bool mark_stopped(struct strv *v, const char *name, bool stopped)
{
    size_t at = 0;
    while (at < v->count && !str_eq(v->items[at], name))
        at++;
    if ((at < v->count) == stopped)
        return false;
    if (!stopped) {
        drop_at(v, at);
        return true;
    }
    if (v->count == STOPPED_MAX) /* the oldest belongs to no service any more, very likely */
        drop_at(v, 0);
    strv_add(v, name);
    return true;
}

int declared_full(struct err *err)
{
    (void)err_set(err, ERR_CONFLICT, "the sandbox has %d services already", SERVICES_MAX);
    return err_remedy(err, "Remove one, or give it the name of one, in whose place it comes.");
}

int declared_add(struct core *c, const struct sandbox *s, const struct service *spec,
                 struct err *err)
{
    struct services list = { 0 };
    int rc = read_now(c, &s->id, &list, err);
    size_t at = 0;
    while (rc == 0 && at < list.count && !str_eq(list.items[at].name, spec->name))
        at++;
    if (rc == 0 && at == SERVICES_MAX)
        rc = declared_full(err);
    if (rc == 0) {
        if (at < list.count)
            shape_release(&service_shape, &list.items[at]);
        else
            list.count++;
        declared_copy(&list.items[at], spec);
        (void)mark_stopped(&list.stopped, spec->name, false); /* it runs */
        rc = write_row(c, &s->id, &list, err);
    }
    services_release(&list);
    return rc;
}

int declared_stop(struct core *c, const struct sandbox *s, const char *name, bool stopped,
                  struct err *err)
{
    struct services list = { 0 };
    int rc = read_now(c, &s->id, &list, err);
    if (rc == 0 && mark_stopped(&list.stopped, name, stopped))
        rc = write_row(c, &s->id, &list, err);
    services_release(&list);
    return rc;
}

int declared_remove(struct core *c, const struct sandbox *s, const char *name, bool *ret_was,
                    struct err *err)
{
    struct services list = { 0 };
    int rc = read_now(c, &s->id, &list, err);
    size_t at = 0;
    while (at < list.count && !str_eq(list.items[at].name, name))
        at++;
    *ret_was = at < list.count;
    if (*ret_was) {
        shape_release(&service_shape, &list.items[at]);
        list.count--;
        memmove(list.items + at, list.items + at + 1, (list.count - at) * sizeof list.items[0]);
    }
    bool marked = mark_stopped(&list.stopped, name, false); /* nobody of that name is left */
    if (rc == 0 && (*ret_was || marked))
        rc = write_row(c, &s->id, &list, err);
    services_release(&list);
    return rc;
}

bool declared_in_file(struct core *c, const struct sandbox *s, const char *name)
{
    struct services list = { 0 };
    struct err ignored; /* core_services tells of a wrong one */
    bool found = false;
    (void)read_file(c, s, &list, &ignored);
    for (size_t i = 0; i < list.count; i++)
        found = found || str_eq(list.items[i].name, name);
    services_release(&list);
    return found;
}

bool declared_stopped(const struct services *list, const char *name)
{
    for (size_t i = 0; i < list->stopped.count; i++)
        if (str_eq(list->stopped.items[i], name))
            return true;
    return false;
}
