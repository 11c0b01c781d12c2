/* Bodies: llhttp finds where they end, this file writes them on in framing of our own. */
#include "body.h"

#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "rewrite.h"

#define CHUNK_FRAME 16 /* size line and end of one chunk of ours, at most */
#define FEED_MIN 1024  /* smaller pieces are not worth a chunk of their own */
/* What comes in chunks goes in chunks of the same cut; a piece of one that was split, or all of a
 * body without chunks, gets one more frame. */
#define FEED_FRAMES (2 * CHUNK_FRAME)

static void put(struct body *b, const void *data, size_t len)
{
    if (!buffer_add(b->out, data, len))
        b->full = true;
}

static int on_headers(llhttp_t *p)
{
    struct body *b = p->data;
    return b->no_body ? 1 : 0;
}

static int on_data(llhttp_t *p, const char *at, size_t len)
{
    struct body *b = p->data;
    char size[CHUNK_FRAME];
    b->noise = 0;
    if (b->as == BODY_CHUNKED)
        put(b, size, (size_t)snprintf(size, sizeof size, "%zx\r\n", len));
    put(b, at, len);
    if (b->as == BODY_CHUNKED)
        put(b, "\r\n", 2);
    return b->full ? HPE_USER : HPE_OK;
}

static int on_chunk(llhttp_t *p)
{
    struct body *b = p->data;
    if (p->content_length > 0)
        return HPE_OK;
    b->trailing = true;
    return HPE_PAUSED;
}

static int on_end(llhttp_t *p)
{
    struct body *b = p->data;
    b->done = true;
    return HPE_PAUSED; /* what follows is not ours */
}

static const llhttp_settings_t hooks = {
    .on_headers_complete = on_headers,
    .on_body = on_data,
    .on_chunk_header = on_chunk,
    .on_message_complete = on_end,
};

/* llhttp over data; how far it came. -1: refused. */
static int run(struct body *b, const char *data, size_t len, size_t *ret_used)
{
    llhttp_errno_t rc = llhttp_execute(&b->parser, data, len);
    *ret_used = len;
    if (rc == HPE_OK)
        return 0;
    const char *at = llhttp_get_error_pos(&b->parser);
    if (rc == HPE_PAUSED_UPGRADE) /* the request asks for it; what follows is not ours either */
        b->done = true;
    else if (rc != HPE_PAUSED)
        return -1;
    *ret_used = (size_t)(at - data);
    llhttp_resume(&b->parser);
    return 0;
}

int body_begin(struct body *b, bool response, const char *head, size_t len, bool no_body,
               enum body_out as, struct buffer *out)
{
    size_t used;
    *b = (struct body){ .as = as, .out = out, .no_body = no_body };
    llhttp_init(&b->parser, response ? HTTP_RESPONSE : HTTP_REQUEST, &hooks);
    b->parser.data = b;
    if (run(b, head, len, &used) < 0)
        return -1;
    if (no_body) /* there is nothing to be found out */
        b->done = true;
    return b->done || used == len ? 0 : -1;
}

static int feed_trailers(struct body *b, const char *data, size_t len, size_t *ret_used)
{
    struct head lines;
    ssize_t size = head_size(data, len, EDGE_TRAILER_MAX);
    size_t used;
    *ret_used = 0;
    if (size <= 0)
        return size < 0 ? -1 : 0;
    if (buffer_room(b->out) < (size_t)size + CHUNK_FRAME)
        return 0;
    if (head_trailers(data, (size_t)size, &lines) < 0 || run(b, data, (size_t)size, &used) < 0 ||
        !b->done)
        return -1;
    if (b->as == BODY_CHUNKED) {
        put(b, "0\r\n", 3);
        rewrite_trailers(b->out, &lines);
        put(b, "\r\n", 2);
    }
    *ret_used = (size_t)size;
    return 0;
}

int body_feed(struct body *b, const char *data, size_t len, size_t *ret_used)
{
    size_t room = buffer_room(b->out), used;
    *ret_used = 0;
    while (!b->done && !b->trailing && len > 0 && room >= FEED_MIN) {
        size_t take = len < room - FEED_FRAMES ? len : room - FEED_FRAMES;
        size_t before = buffer_len(b->out);
        if (run(b, data, take, &used) < 0)
            return -1;
        if (buffer_len(b->out) == before && (b->noise += used) > EDGE_CHUNK_NOISE_MAX)
            return -1;
        data += used;
        len -= used;
        *ret_used += used;
        room = buffer_room(b->out);
        if (used == 0)
            break;
    }
    if (!b->trailing || b->done)
        return 0;
    int rc = feed_trailers(b, data, len, &used);
    *ret_used += used;
    return rc;
}

bool body_until_close(const struct body *b)
{
    return !b->done && llhttp_message_needs_eof(&b->parser);
}

int body_finish(struct body *b)
{
    if (b->done)
        return 0;
    if (!body_until_close(b))
        return -1;
    if (b->as == BODY_CHUNKED)
        put(b, "0\r\n\r\n", 5);
    b->done = true;
    return b->full ? -1 : 0;
}
