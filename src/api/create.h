/* Creating, the part that both families of routes share. */
#ifndef CREATE_H
#define CREATE_H

#include "req.h"
#include "wire/json.h"

/* Checks the decoded body, creates, answers with what render writes; keeps the answer for the
 * request's Idempotency-Key. */
void create_run(struct req *r, bool v1,
                void (*render)(struct json_out *o, struct req *r, const struct sandbox *s));

#endif
