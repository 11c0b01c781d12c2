/* The API over libcurl: one request at a time on a connection of the calling thread's own.
 * Private to cli/.
 *
 * What the API answers with other than 2xx becomes an err of the same code, with its message and
 * remedy. What it does not answer is ERR_UNAVAILABLE, and is retryable as such. */
#ifndef CLI_HTTP_H
#define CLI_HTTP_H

#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"
#include "wire/json.h"

struct http; /* where the API is, and who we are; after http_new any thread may use it */

struct http_place {
    const char *url;        /* NULL: the local default */
    const char *token;      /* NULL: none */
    const char *token_file; /* NULL: none; wins over token */
    const char *ca_file;    /* NULL: the system's */
};
int http_new(const struct http_place *place, struct http **ret, struct err *err);
void http_free(struct http *h);
const char *http_url(const struct http *h);
/* "Authorization: Bearer …", or NULL. */
const char *http_authorization(const struct http *h);

struct request {
    const char *method;
    const char *path; /* with its query, encoded */
    const char *accept, *type;
    const char *body; /* whole, NULL: none */
    size_t body_len;
    /* or a body in pieces: at most size bytes into out, 0: its end, -1: failed */
    ssize_t (*read)(void *ctx, void *out, size_t size, struct err *err);
    void *ctx;
    int64_t size;     /* of it; -1: unknown */
    const char *what; /* what is waited for, for people at a terminal; NULL: nothing is said */
};

/* A reply that is read as it comes. */
struct reply;
/* Returns when its head is there and says 2xx. Caller reply_close()s. */
int reply_open(struct http *h, const struct request *rq, struct reply **ret, struct err *err);
/* 1 and some bytes, which stay until the next call; 0 at the end; -1. */
int reply_read(struct reply *r, const char **ret_data, size_t *ret_len, struct err *err);
/* Content-Length; -1: unknown. */
int64_t reply_length(const struct reply *r);
/* A reply that has not ended is broken off. NULL is fine. */
void reply_close(struct reply *r);
static inline void auto_reply(struct reply **r)
{
    reply_close(*r);
}

/* All of it. */
int http_call(struct http *h, const struct request *rq, struct buf *ret, struct err *err);
/* As JSON; a reply without a body leaves NULL. */
int http_json(struct http *h, const struct request *rq, struct json **ret, struct err *err);

/* The API's error object, or whatever else came with such a status, as an err; returns -1. */
int http_error(long status, const char *body, size_t len, struct err *err);

/* A libcurl handle set up for the API's address, without a path: for websocket.c. */
void *http_easy(const struct http *h, const char *path);
/* What libcurl says went wrong with it. */
int http_trouble(const struct http *h, int curl_code, struct err *err);

#endif
