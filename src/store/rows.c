/* Rows of `sandbox`. Three columns have types of their own (id, state, secret) and come first; all
 * others are walked by the field table, in its order. */
#include "rows.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/field.h"
#include "base/limits.h"
#include "base/str.h"
#include "wire/json.h"

/* Words of the schema; those of the wire may change without it. */
static const char *const state_words[] = {
#define STATE_WORD(name, v1, legacy, truth) [SANDBOX_##name] = #name,
    SANDBOX_STATES(STATE_WORD)
#undef STATE_WORD
        [SANDBOX_STATE_COUNT] = NULL
};
static const char *const visibility_words[] = {
    [VISIBILITY_PUBLIC] = "PUBLIC", [VISIBILITY_PRIVATE] = "PRIVATE", NULL
};
static const char *const idle_words[] = {
    [IDLE_SLEEP] = "SLEEP", [IDLE_PAUSE] = "PAUSE", [IDLE_ALWAYS_ON] = "ALWAYS_ON", NULL
};

#define LIMIT(m)                                                                                   \
    {                                                                                              \
        .name = #m, .type = FIELD_TYPE_U32, .seen = SIZE_MAX,                                      \
        .offset =                                                                                  \
            offsetof(struct sandbox, limits.m) + FIELD_CHECK_(struct sandbox, limits.m, uint32_t), \
    }
static const struct field fields[] = {
    FIELD_STR(struct sandbox, tenant),
    FIELD_STR(struct sandbox, node),
    FIELD_BOOL(struct sandbox, purge),
    FIELD_STR(struct sandbox, image),
    FIELD_STR(struct sandbox, image_digest),
    FIELD_STR(struct sandbox, container_id),
    FIELD_U32(struct sandbox, epoch),
    LIMIT(memory_mib),
    LIMIT(cpu_milli),
    LIMIT(pids),
    LIMIT(disk_mib),
    FIELD_U32(struct sandbox, nofile),
    FIELD_STR(struct sandbox, memory_high),
    FIELD_ENUM(struct sandbox, visibility, .names = visibility_words),
    FIELD_ENUM(struct sandbox, idle_policy, .names = idle_words),
    FIELD_U16V(struct sandbox, ports),
    FIELD_MAP(struct sandbox, env),
    FIELD_MAP(struct sandbox, metadata),
    FIELD_STR(struct sandbox, external_user),
    FIELD_STR(struct sandbox, external_project),
    FIELD_STR(struct sandbox, external_workspace),
    FIELD_STR(struct sandbox, error_message),
    FIELD_I64(struct sandbox, created_at_ms),
    FIELD_I64(struct sandbox, updated_at_ms),
    FIELD_I64(struct sandbox, last_active_at_ms),
    FIELD_I64(struct sandbox, stopped_at_ms),
    FIELD_I64(struct sandbox, keepalive_until_ms),
    FIELD_U32(struct sandbox, idle_timeout_ms),
    FIELD_U32(struct sandbox, stop_timeout_ms),
    FIELD_U32(struct sandbox, ttl_s),
    FIELD_STR(struct sandbox, services),
};
#define FIELD_COUNT (sizeof fields / sizeof fields[0])
#define FIRST_FIELD 3
static const char *const first_columns[FIRST_FIELD] = { "id", "state", "secret" };

const char *rows_visibility(enum sandbox_visibility v)
{
    return visibility_words[v];
}

const char *rows_state(enum sandbox_state s)
{
    return state_words[s];
}

static bool word_index(const char *const *words, const char *text, int *ret)
{
    for (int i = 0; text && words[i]; i++)
        if (str_eq(words[i], text)) {
            *ret = i;
            return true;
        }
    return false;
}

int rows_check(struct db *db, struct err *err)
{
    sqlite3_stmt *st = db->st[Q_SANDBOX_LOAD];
    int count = sqlite3_column_count(st);
    bool ok = count == FIRST_FIELD + (int)FIELD_COUNT;
    for (int i = 0; ok && i < count; i++)
        ok = str_eq(sqlite3_column_name(st, i),
                    i < FIRST_FIELD ? first_columns[i] : fields[i - FIRST_FIELD].name);
    return ok ? 0 : err_set(err, ERR_INTERNAL, "query sandbox_load does not fit the row table");
}

/* --- writing --- */

static char *ports_text(const struct u16v *v)
{
    struct buf b = BUF_INIT(1 * KIB);
    struct json_out o = JSON_OUT(&b);
    json_list(&o, NULL);
    for (size_t i = 0; i < v->count; i++)
        json_put_int(&o, NULL, v->items[i]);
    json_unlist(&o);
    return buf_take(&b);
}

static int bind_owned(sqlite3_stmt *st, int at, char *text)
{
    return sqlite3_bind_text(st, at, text, -1, free);
}

static int bind_field(sqlite3_stmt *st, int at, const struct field *f, const void *member)
{
    switch (f->type) {
    case FIELD_TYPE_STR:
        return sqlite3_bind_text(st, at, *(char *const *)member, -1, SQLITE_STATIC);
    case FIELD_TYPE_U32:
        return sqlite3_bind_int64(st, at, *(const uint32_t *)member);
    case FIELD_TYPE_I64:
        return sqlite3_bind_int64(st, at, *(const int64_t *)member);
    case FIELD_TYPE_BOOL:
        return sqlite3_bind_int64(st, at, *(const bool *)member);
    case FIELD_TYPE_ENUM:
        return sqlite3_bind_text(st, at, f->names[*(const int *)member], -1, SQLITE_STATIC);
    case FIELD_TYPE_U16V:
        return bind_owned(st, at, ports_text(member));
    case FIELD_TYPE_MAP:
        return bind_owned(st, at, strmap_to_json(member));
    default:
        return SQLITE_MISUSE;
    }
}

int rows_insert(struct db *db, const struct sandbox *s, struct err *err)
{
    sqlite3_stmt *st = db->st[Q_SANDBOX_INSERT];
    int count = sqlite3_bind_parameter_count(st);
    if (count != FIRST_FIELD + (int)FIELD_COUNT)
        return err_set(err, ERR_INTERNAL, "query sandbox_insert does not fit the row table");
    db_reset(db, Q_SANDBOX_INSERT);
    int rc = sqlite3_bind_text(st, sqlite3_bind_parameter_index(st, ":id"), s->id.text, -1,
                               SQLITE_STATIC);
    if (rc == SQLITE_OK)
        rc = sqlite3_bind_text(st, sqlite3_bind_parameter_index(st, ":state"),
                               state_words[s->state], -1, SQLITE_STATIC);
    if (rc == SQLITE_OK)
        rc = sqlite3_bind_blob(st, sqlite3_bind_parameter_index(st, ":secret"), s->secret,
                               sizeof s->secret, SQLITE_STATIC);
    for (size_t i = 0; i < FIELD_COUNT && rc == SQLITE_OK; i++) {
        char name[64];
        (void)snprintf(name, sizeof name, ":%s", fields[i].name);
        rc = bind_field(st, sqlite3_bind_parameter_index(st, name), &fields[i],
                        (const char *)s + fields[i].offset);
    }
    int result = rc == SQLITE_OK ? db_step(db, Q_SANDBOX_INSERT, err)
                                 : db_fail_code(rc, 0, err, "sandbox_insert");
    db_reset(db, Q_SANDBOX_INSERT);
    return result;
}

/* --- reading --- */

static bool read_ports(const char *text, struct u16v *ret)
{
    AUTO(json) struct json *j = NULL;
    struct err ignored; /* the caller names the column */
    if (!text || json_parse(text, strlen(text), &j, &ignored) < 0)
        return false;
    size_t count = json_count(j);
    if (count > sizeof ret->items / sizeof ret->items[0])
        return false;
    for (size_t i = 0; i < count; i++) {
        int64_t port;
        if (!json_int(json_item(j, i), &port) || port < 1 || port > UINT16_MAX)
            return false;
        ret->items[i] = (uint16_t)port;
    }
    ret->count = count;
    return true;
}

static bool read_field(sqlite3_stmt *row, int column, const struct field *f, void *member)
{
    const char *text = (const char *)sqlite3_column_text(row, column);
    int64_t number = sqlite3_column_int64(row, column);
    struct err ignored; /* the caller names the column */
    switch (f->type) {
    case FIELD_TYPE_STR:
        *(char **)member = db_text(row, column);
        return true;
    case FIELD_TYPE_U32:
        *(uint32_t *)member = (uint32_t)number;
        return number >= 0 && number <= UINT32_MAX;
    case FIELD_TYPE_I64:
        *(int64_t *)member = number;
        return true;
    case FIELD_TYPE_BOOL:
        *(bool *)member = number != 0;
        return true;
    case FIELD_TYPE_ENUM:
        return word_index(f->names, text, member);
    case FIELD_TYPE_U16V:
        return read_ports(text, member);
    case FIELD_TYPE_MAP:
        return text && strmap_from_json(text, member, &ignored) == 0;
    default:
        return false;
    }
}

int rows_read(struct db *db, struct sandbox **ret, struct err *err)
{
    sqlite3_stmt *row = db->st[Q_SANDBOX_LOAD];
    struct sandbox *s = mem_new(1, sizeof *s);
    const char *bad = NULL;
    int state = 0;
    struct err ignored; /* replaced below */
    const char *id = (const char *)sqlite3_column_text(row, 0);
    if (!id || sandbox_id_parse(id, &s->id, &ignored) < 0)
        bad = "id";
    else if (!word_index(state_words, (const char *)sqlite3_column_text(row, 1), &state))
        bad = "state";
    else if (!db_bytes(row, 2, s->secret, sizeof s->secret))
        bad = "secret";
    s->state = (enum sandbox_state)state;
    for (size_t i = 0; i < FIELD_COUNT && !bad; i++)
        if (!read_field(row, FIRST_FIELD + (int)i, &fields[i], (char *)s + fields[i].offset))
            bad = fields[i].name;
    if (!bad) {
        *ret = s;
        return 0;
    }
    (void)db_fail_code(SQLITE_CORRUPT, 0, err, "read a sandbox");
    (void)err_wrap(err, "sandbox %s, column %s", s->id.text, bad);
    sandbox_free(s);
    return -1;
}
