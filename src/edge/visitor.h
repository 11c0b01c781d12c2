/* Who visits, and how much: a token bucket of requests, connections and wakes for each address.
 * An IPv6 visitor is its /64. Threads: one at a time. */
#ifndef EDGE_VISITOR_H
#define EDGE_VISITOR_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct visitor {
    struct visitor *next; /* same bucket of the table */
    struct in6_addr key;
    uint32_t open;        /* connections and exchanges; an entry with any is kept */
    int64_t tokens_milli; /* thousandths of a request */
    int64_t refilled_at_ms;
    int64_t minute_at_ms; /* when the count of wakes began */
    uint32_t wakes;
};

struct visitors {
    struct visitor **table;
    uint32_t count;
    int64_t rate, burst; /* requests a second, and at once */
    uint32_t wakes_max;  /* a minute */
    uint32_t open_max;
    int64_t swept_at_ms;
};

void visitors_init(struct visitors *v, int64_t rate, int64_t burst, uint32_t wakes_max,
                   uint32_t open_max);
void visitors_release(struct visitors *v);
/* Finds or makes it. NULL: the table is full of visitors with something open. */
struct visitor *visitor_of(struct visitors *v, const struct in6_addr *address, int64_t now_ms);
/* May it ask once more? */
bool visitor_request(struct visitors *v, struct visitor *who, int64_t now_ms);
/* May it wake a sandbox? */
bool visitor_wake(struct visitors *v, struct visitor *who, int64_t now_ms);
/* false: it has too many open. */
bool visitor_open(struct visitors *v, struct visitor *who);
void visitor_close(struct visitor *who);

/* IPv4 becomes its mapped form. false: no address. */
bool address_of(const struct sockaddr_storage *from, struct in6_addr *ret);
bool address_parse(const char *text, struct in6_addr *ret);
bool address_loopback(const struct in6_addr *a);
#define ADDRESS_TEXT INET6_ADDRSTRLEN
/* A mapped address is written as IPv4. */
void address_text(const struct in6_addr *a, char out[ADDRESS_TEXT]);

#endif
