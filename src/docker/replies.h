/* Decoders of the Engine's replies: pure functions, bounded, believing nothing. Whatever is not as
 * the API says is ERR_ENGINE. Threads: any. */
#ifndef DOCKER_REPLIES_H
#define DOCKER_REPLIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/field.h"
#include "base/limits.h"
#include "model/runtime.h"

/* An inspected container, ours or not. */
struct seen_container {
    struct runtime_container c;
    bool ours;         /* labels of this instance with a well-formed id */
    uint32_t revision; /* 0: none */
    uint32_t nofile;   /* 0: none set */
};

int reply_inspect(const struct buf *b, const char *instance, const char *network,
                  struct seen_container *ret, struct err *err);
/* Containers of this instance; seeds and those without a well-formed id are left out. Caller frees.
 */
int reply_list(const struct buf *b, const char *network, struct runtime_container **ret,
               size_t *ret_count, struct err *err);
/* Ids of seeds that another run of the daemon made; zeroed *ret is filled, caller releases. */
int reply_old_seeds(const struct buf *b, const char *boot, struct strv *ret, struct err *err);
/* {"Id": ...} of create and image: the whole text is at most size - 1 bytes. */
int reply_id(const struct buf *b, char *ret, size_t size, struct err *err);
/* ERR_CONFLICT unless it is a bridge of ours that keeps sandboxes apart. */
int reply_network(const struct buf *b, const char *instance, struct err *err);
/* "key: value" lines. */
int reply_describe(const struct buf *version, const struct buf *info, struct buf *out,
                   struct err *err);

/* Why a container could not be made or started, told in our own words from the Engine's. */
enum cause { CAUSE_OTHER, CAUSE_NOFILE, CAUSE_NETWORK, CAUSE_IMAGE };
enum cause reply_cause(const struct buf *b, const char *doing, struct err *err);

/* --- the event stream --- */

/* Cuts a stream into JSON objects, however it was split on the way. Zeroed to begin. */
struct splitter {
    struct buf object; /* max must be set; see SPLITTER_INIT */
    unsigned depth;
    bool in_string;
    bool escaped;
};
#define SPLITTER_INIT                        \
    {                                        \
        .object = BUF_INIT(ENGINE_EVENT_MAX) \
    }
/* Calls fn for each whole object. -1 when one is too long or the stream is no sequence of objects.
 */
int splitter_feed(struct splitter *s, const char *data, size_t len,
                  void (*fn)(void *ctx, const struct buf *object), void *ctx, struct err *err);
void splitter_reset(struct splitter *s);

/* Is it news of a sandbox of this instance? */
bool reply_event(const struct buf *b, const char *instance, struct sandbox_id *ret,
                 enum runtime_event_kind *ret_kind);

#endif
