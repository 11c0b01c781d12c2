/* Which port of which sandbox a request is for, and what of its target is ours. Pure; threads: any.
 */
#ifndef EDGE_ROUTE_H
#define EDGE_ROUTE_H

#include "head.h"
#include "model/id.h"

struct route {
    struct sandbox_id id;
    uint16_t port;
};

enum route_found {
    ROUTE_FOUND,
    ROUTE_UNKNOWN,  /* a well-formed name of nobody here */
    ROUTE_AMBIGUOUS /* malformed, missing or contradicting: 400 */
};

/* By Host, else by E2b-Sandbox-Id and E2b-Sandbox-Port. Where a preview's name and those headers
 * disagree nothing is guessed. */
enum route_found edge_route_find(const struct head *h, const char *domain, struct route *ret);
/* From a lower-case host name. */
bool route_host(const char *name, const char *domain, struct route *ret);

#define ROUTE_CODE_MAX 512
/* The value of the parameter `sandboxed_code` in the target's query; false: none (or a value that
 * cannot be one of ours). */
bool route_code(struct span target, char out[ROUTE_CODE_MAX]);
/* The target without that parameter, as a path on the same host: never one that a browser reads as
 * another host. false: does not fit. */
bool route_without_code(struct span target, char *out, size_t size);

#endif
