/* Ids: one canonical form, whatever the case; a million of them without a repeat. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/str.h"
#include "check.h"
#include "model/id.h"

#define MANY 1000000

static const struct {
    const char *name, *text;
    const char *want; /* NULL: refused */
} rows[] = {
    { "upper", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "01ARZ3NDEKTSV4RRFFQ69G5FAV" },
    { "lower", "01arz3ndektsv4rrffq69g5fav", "01ARZ3NDEKTSV4RRFFQ69G5FAV" },
    { "mixed", "01aRz3NdEkTsV4RrFfQ69g5FaV", "01ARZ3NDEKTSV4RRFFQ69G5FAV" },
    { "lowest", "00000000000000000000000000", "00000000000000000000000000" },
    { "highest", "7ZZZZZZZZZZZZZZZZZZZZZZZZZ", "7ZZZZZZZZZZZZZZZZZZZZZZZZZ" },
    { "129 bits", "80000000000000000000000000", NULL },
    { "130 bits", "ZZZZZZZZZZZZZZZZZZZZZZZZZZ", NULL },
    { "empty", "", NULL },
    { "25 letters", "01ARZ3NDEKTSV4RRFFQ69G5FA", NULL },
    { "27 letters", "01ARZ3NDEKTSV4RRFFQ69G5FAV0", NULL },
    { "I", "01ARZ3NDEKTSV4RRFFQ69G5FAI", NULL },
    { "L", "01ARZ3NDEKTSV4RRFFQ69G5FAL", NULL },
    { "O", "O1ARZ3NDEKTSV4RRFFQ69G5FAV", NULL },
    { "U", "01ARZ3NDEKTSU4RRFFQ69G5FAV", NULL },
    { "i", "01arz3ndektsv4rrffq69g5fai", NULL },
    { "u", "01arz3ndektsu4rrffq69g5fav", NULL },
    { "space before", " 1ARZ3NDEKTSV4RRFFQ69G5FAV", NULL },
    { "space after", "01ARZ3NDEKTSV4RRFFQ69G5FA ", NULL },
    { "line end", "01ARZ3NDEKTSV4RRFFQ69G5FA\n", NULL },
    { "slash", "01ARZ3NDEKTSV4RRFFQ69G5FA/", NULL },
    { "dots", "../../../../../../etc/pass", NULL },
    { "hyphen", "01ARZ3NDEK-SV4RRFFQ69G5FAV", NULL },
    { "underscore", "01ARZ3NDEK_SV4RRFFQ69G5FAV", NULL },
    { "percent", "01ARZ3NDEKTSV4RRFFQ69G5%41", NULL },
    { "high byte", "01ARZ3NDEKTSV4RRFFQ69G5FA\xc3", NULL },
    { "full-width",
      "\xef\xbc\x90"
      "1ARZ3NDEKTSV4RRFFQ69G5F",
      NULL },
    { "a uuid", "550e8400-e29b-41d4-a716-44", NULL },
    { "at sign", "@1ARZ3NDEKTSV4RRFFQ69G5FAV", NULL },
    { "backtick", "`1ARZ3NDEKTSV4RRFFQ69G5FAV", NULL },
    { "brace", "{1ARZ3NDEKTSV4RRFFQ69G5FAV", NULL },
};

static void check_rows(void)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct sandbox_id id = { "untouched" };
        struct err err;
        int rc = sandbox_id_parse(rows[i].text, &id, &err);
        if (rows[i].want)
            CHECK_ROW(rows[i].name, rc == 0 && str_eq(id.text, rows[i].want));
        else
            CHECK_ROW(rows[i].name,
                      rc == -1 && err.code == ERR_INVALID && str_eq(id.text, "untouched"));
    }
}

static int order(const void *a, const void *b)
{
    return memcmp(a, b, ID_LEN);
}

static void check_many(void)
{
    struct sandbox_id *ids = mem_new(MANY, sizeof *ids), back;
    struct err err;
    bool legal = true, rising = true, unique = true;
    for (size_t i = 0; i < MANY; i++) {
        sandbox_id_new(&ids[i]);
        legal = legal && sandbox_id_parse(ids[i].text, &back, &err) == 0 &&
                sandbox_id_eq(&ids[i], &back);
        rising = rising && (i == 0 || memcmp(ids[i - 1].text, ids[i].text, 10) <= 0);
    }
    qsort(ids, MANY, sizeof *ids, order);
    for (size_t i = 1; i < MANY; i++)
        unique = unique && !sandbox_id_eq(&ids[i - 1], &ids[i]);
    CHECK(legal);
    CHECK(rising); /* the first ten letters are the time: holds unless the clock is set back */
    CHECK(unique);
    free(ids);
}

/* The first ten letters, read back, are the millisecond of birth. */
static void check_time(void)
{
    static const char alphabet[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    struct sandbox_id id;
    char lower[ID_LEN + 1];
    int64_t before = clock_wall_ms(), ms = 0;
    sandbox_id_new(&id);
    for (int i = 0; i < 10; i++)
        ms = ms * 32 + (strchr(alphabet, id.text[i]) - alphabet);
    CHECK(ms >= before && ms <= clock_wall_ms());
    sandbox_id_lower(&id, lower);
    CHECK(strlen(lower) == ID_LEN && strcasecmp(lower, id.text) == 0 &&
          strspn(lower, "0123456789abcdefghjkmnpqrstvwxyz") == ID_LEN);
}

int main(void)
{
    check_rows();
    check_many();
    check_time();
    return check_done();
}
