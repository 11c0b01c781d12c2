/* ULIDs: 48 bits of wall-clock milliseconds, then 80 random bits, in Crockford's base 32
 * (github.com/ulid/spec). libuuid gives the random bits straight from the kernel. */
#include "model/id.h"

#include <string.h>
#include <uuid/uuid.h>

#include "base/clock.h"
#include "base/str.h"

static const char alphabet[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

int sandbox_id_parse(const char *text, struct sandbox_id *ret, struct err *err)
{
    struct sandbox_id id;
    if (strnlen(text, ID_LEN + 1) != ID_LEN)
        return err_set(err, ERR_INVALID, "an id has %d characters", ID_LEN);
    for (int i = 0; i < ID_LEN; i++) {
        char c = text[i];
        if (c >= 'a' && c <= 'z')
            c = (char)(c - 'a' + 'A');
        if (!strchr(alphabet, c))
            return err_set(err, ERR_INVALID,
                           "an id has only the characters 0-9 and A-Z without I, L, O, U");
        id.text[i] = c;
    }
    if (id.text[0] > '7') /* 26 letters carry 130 bits; an id has 128 */
        return err_set(err, ERR_INVALID, "an id begins with 0 to 7");
    id.text[ID_LEN] = 0;
    *ret = id;
    return 0;
}

void sandbox_id_new(struct sandbox_id *ret)
{
    uint8_t bits[16];
    uuid_t random; /* version 4 fixes 6 bits; two of them give the 80 that are needed */
    uint64_t ms = (uint64_t)clock_wall_ms();
    for (int i = 0; i < 6; i++)
        bits[i] = (uint8_t)(ms >> (40 - 8 * i));
    uuid_generate_random(random);
    memcpy(bits + 6, random, 6); /* bytes 0-5 are all random */
    uuid_generate_random(random);
    memcpy(bits + 12, random, 4);
    for (int i = 0; i < ID_LEN; i++) {
        int bit = i * 5 - 2; /* two leading zero bits */
        unsigned v = 0;
        for (int k = 0; k < 5; k++, bit++)
            v = v << 1 | (bit < 0 ? 0u : (unsigned)(bits[bit / 8] >> (7 - bit % 8)) & 1u);
        ret->text[i] = alphabet[v];
    }
    ret->text[ID_LEN] = 0;
}

void sandbox_id_lower(const struct sandbox_id *id, char out[ID_LEN + 1])
{
    for (int i = 0; i <= ID_LEN; i++) {
        char c = id->text[i];
        out[i] = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
    }
}

bool sandbox_id_eq(const struct sandbox_id *a, const struct sandbox_id *b)
{
    return memcmp(a->text, b->text, ID_LEN) == 0;
}
