/* Visitors: a hash table of bounded size. An entry without anything open and with a full bucket
 * says nothing and is dropped by the next sweep. */
#include "visitor.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/str.h"

#define TABLE 4096 /* buckets; a power of two */
#define SWEEP_MS 10000
#define MINUTE_MS 60000

void visitors_init(struct visitors *v, int64_t rate, int64_t burst, uint32_t wakes_max,
                   uint32_t open_max)
{
    *v = (struct visitors){
        .rate = rate, .burst = burst, .wakes_max = wakes_max, .open_max = open_max
    };
    v->table = mem_new(TABLE, sizeof *v->table);
}

void visitors_release(struct visitors *v)
{
    for (size_t i = 0; v->table && i < TABLE; i++)
        while (v->table[i]) {
            struct visitor *who = v->table[i];
            v->table[i] = who->next;
            free(who);
        }
    free(v->table);
    *v = (struct visitors){ 0 };
}

static void refill(const struct visitors *v, struct visitor *who, int64_t now_ms)
{
    int64_t gained = (now_ms - who->refilled_at_ms) * v->rate; /* ms times 1/s: thousandths */
    who->refilled_at_ms = now_ms;
    who->tokens_milli += gained;
    if (who->tokens_milli > v->burst * 1000)
        who->tokens_milli = v->burst * 1000;
}

static void sweep(struct visitors *v, int64_t now_ms)
{
    v->swept_at_ms = now_ms;
    for (size_t i = 0; i < TABLE; i++)
        for (struct visitor **at = &v->table[i]; *at;) {
            struct visitor *who = *at;
            refill(v, who, now_ms);
            if (who->open > 0 || who->tokens_milli < v->burst * 1000 ||
                now_ms - who->minute_at_ms < MINUTE_MS) {
                at = &who->next;
                continue;
            }
            *at = who->next;
            free(who);
            v->count--;
        }
}

static size_t hash(const struct in6_addr *key)
{
    uint64_t a, b;
    memcpy(&a, key->s6_addr, sizeof a);
    memcpy(&b, key->s6_addr + 8, sizeof b);
    a = (a ^ b) * 0x9e3779b97f4a7c15u;
    return (size_t)(a >> 32) & (TABLE - 1);
}

struct visitor *visitor_of(struct visitors *v, const struct in6_addr *address, int64_t now_ms)
{
    struct in6_addr key = *address;
    if (!IN6_IS_ADDR_V4MAPPED(&key))
        memset(key.s6_addr + 8, 0, 8);
    struct visitor **at = &v->table[hash(&key)];
    for (struct visitor *who = *at; who; who = who->next)
        if (memcmp(&who->key, &key, sizeof key) == 0)
            return who;
    if (now_ms - v->swept_at_ms > SWEEP_MS)
        sweep(v, now_ms);
    if (v->count >= EDGE_VISITORS_MAX)
        return NULL;
    struct visitor *who = mem_new(1, sizeof *who);
    *who = (struct visitor){ .next = *at,
                             .key = key,
                             .tokens_milli = v->burst * 1000,
                             .refilled_at_ms = now_ms,
                             .minute_at_ms = now_ms - MINUTE_MS };
    *at = who;
    v->count++;
    return who;
}

bool visitor_request(struct visitors *v, struct visitor *who, int64_t now_ms)
{
    refill(v, who, now_ms);
    if (who->tokens_milli < 1000)
        return false;
    who->tokens_milli -= 1000;
    return true;
}

bool visitor_wake(struct visitors *v, struct visitor *who, int64_t now_ms)
{
    if (now_ms - who->minute_at_ms >= MINUTE_MS) {
        who->minute_at_ms = now_ms;
        who->wakes = 0;
    }
    if (who->wakes >= v->wakes_max)
        return false;
    who->wakes++;
    return true;
}

bool visitor_open(struct visitors *v, struct visitor *who)
{
    if (who->open >= v->open_max)
        return false;
    who->open++;
    return true;
}

void visitor_close(struct visitor *who)
{
    who->open--;
}

/* --- addresses --- */

static void mapped(uint32_t four, struct in6_addr *ret)
{
    *ret = (struct in6_addr){ .s6_addr = { [10] = 0xff, [11] = 0xff } };
    memcpy(ret->s6_addr + 12, &four, sizeof four);
}

bool address_of(const struct sockaddr_storage *from, struct in6_addr *ret)
{
    if (from->ss_family == AF_INET)
        mapped(((const struct sockaddr_in *)(const void *)from)->sin_addr.s_addr, ret);
    else if (from->ss_family == AF_INET6)
        *ret = ((const struct sockaddr_in6 *)(const void *)from)->sin6_addr;
    else
        return false;
    return true;
}

bool address_parse(const char *text, struct in6_addr *ret)
{
    struct in_addr four;
    if (inet_pton(AF_INET, text, &four) == 1) {
        mapped(four.s_addr, ret);
        return true;
    }
    return inet_pton(AF_INET6, text, ret) == 1;
}

bool address_loopback(const struct in6_addr *a)
{
    return IN6_IS_ADDR_LOOPBACK(a) || (IN6_IS_ADDR_V4MAPPED(a) && a->s6_addr[12] == 127);
}

void address_text(const struct in6_addr *a, char out[ADDRESS_TEXT])
{
    if (IN6_IS_ADDR_V4MAPPED(a))
        (void)inet_ntop(AF_INET, a->s6_addr + 12, out, ADDRESS_TEXT); /* fits */
    else
        (void)inet_ntop(AF_INET6, a, out, ADDRESS_TEXT);
}
