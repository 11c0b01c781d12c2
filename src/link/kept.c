/* Processes that outlive their streams, and the list of what has changed.
 *
 * An agent may flood us with frames: of each peer only the last word is kept, and a sandbox stands
 * in the list of changes at most once. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/str.h"
#include "peer.h"

void peer_reset(struct peer *p)
{
    free(TAKE(p->ports));
    free(TAKE(p->kept));
    p->port_count = p->kept_count = 0;
}

void change_note(struct link *l, struct peer *p, uint32_t what)
{
    mu_held(&l->lock);
    if (!l->noting)
        return;
    if (p->change) {
        p->change->what |= what;
        return;
    }
    struct change *c = mem_new(1, sizeof *c);
    *c = (struct change){ .id = p->id, .what = what };
    p->change = c;
    *(l->change_last ? &l->change_last->next : &l->change_first) = c;
    l->change_last = c;
    uint64_t one = 1;
    (void)!write(l->changes_fd, &one, sizeof one); /* full means that it is set already */
}

int link_changes_fd(struct link *l)
{
    mu_lock(&l->lock);
    l->noting = true;
    mu_unlock(&l->lock);
    return l->changes_fd;
}

bool link_next_change(struct link *l, struct sandbox_id *ret_id, uint32_t *ret_what)
{
    mu_lock(&l->lock);
    struct change *c = l->change_first;
    if (c) {
        l->change_first = c->next;
        if (!c->next) {
            uint64_t count;
            l->change_last = NULL;
            (void)!read(l->changes_fd, &count, sizeof count); /* only to quieten it */
        }
        struct peer *p = peer_find(l, &c->id);
        if (p && p->change == c)
            p->change = NULL;
        *ret_id = c->id;
        *ret_what = c->what;
    }
    mu_unlock(&l->lock);
    free(c);
    return c != NULL;
}

int kept_hear(struct link *l, struct peer *p, const struct frame *f)
{
    mu_held(&l->lock);
    size_t count = f->len / 8;
    if (f->len % 8 != 0 || count > LINK_KEPT_MAX)
        return -1;
    uint64_t *kept = mem_new(count ? count : 1, sizeof *kept);
    for (size_t i = 0; i < count; i++)
        kept[i] = frame_u64(f->payload + 8 * i);
    free(p->kept);
    p->kept = kept;
    p->kept_count = count;
    change_note(l, p, LINK_CHANGE_PROCESSES);
    return 0;
}

size_t link_processes(struct link *l, const struct sandbox_id *id, uint64_t *out, size_t max)
{
    mu_lock(&l->lock);
    const struct peer *p = peer_find(l, id);
    size_t n = p ? p->kept_count : 0;
    n = n < max ? n : max;
    if (n > 0)
        memcpy(out, p->kept, n * sizeof *out);
    mu_unlock(&l->lock);
    return n;
}

static int tell(struct link *l, const struct sandbox_id *id, const uint8_t *frame, size_t len,
                struct err *err)
{
    mu_lock(&l->lock);
    struct peer *p = peer_find(l, id);
    int r = p ? control_send(l, p, frame, len) : -1;
    mu_unlock(&l->lock);
    return r < 0 ? err_set(err, ERR_UNAVAILABLE, "the sandbox's agent is not connected") : 0;
}

int link_forget_process(struct link *l, const struct sandbox_id *id, uint64_t process,
                        struct err *err)
{
    uint8_t frame[FRAME_HEADER + 8];
    frame_header(frame, FRAME_FORGET, 8);
    frame_set_u64(frame + FRAME_HEADER, process);
    return tell(l, id, frame, sizeof frame, err);
}

int link_signal_process(struct link *l, const struct sandbox_id *id, uint64_t process,
                        uint32_t signal, bool tree, struct err *err)
{
    uint8_t frame[FRAME_HEADER + 13];
    frame_header(frame, FRAME_NUDGE, 13);
    frame_set_u64(frame + FRAME_HEADER, process);
    frame_set_u32(frame + FRAME_HEADER + 8, signal);
    frame[FRAME_HEADER + 12] = tree;
    return tell(l, id, frame, sizeof frame, err);
}

/* The first frame of an attached stream. */
static int read_attached(int fd, uint64_t offset, int64_t deadline_ms, struct frame_attached *ret,
                         struct err *err)
{
    uint8_t data[FRAME_HEADER + FRAME_ATTACHED_LEN];
    enum frame_type type;
    uint32_t len;
    if (stream_receive(fd, data, FRAME_HEADER, NULL, deadline_ms, err) < 0)
        return -1;
    int r = frame_peek(data, FRAME_HEADER, &type, &len);
    if (r > 0 && type == FRAME_FAILED && len >= FRAME_FAILED_MIN) {
        if (stream_receive(fd, data, FRAME_FAILED_MIN, NULL, deadline_ms, err) < 0)
            return -1;
        if (frame_u32(data) == ESRCH)
            return err_set(err, ERR_NOT_FOUND, "the sandbox keeps no such process");
        return err_set(err, ERR_UNAVAILABLE, "the sandbox's process cannot be reached now");
    }
    if (r > 0 && type == FRAME_ATTACHED && len == FRAME_ATTACHED_LEN) {
        if (stream_receive(fd, data, len, NULL, deadline_ms, err) < 0)
            return -1;
        struct frame f = { .type = type, .payload = data, .len = len };
        struct frame_attached a;
        if (frame_get_attached(&f, &a) == 0 && (a.first >= offset || a.first == a.next)) {
            *ret = a;
            return 0;
        }
    }
    return err_set(err, ERR_UNAVAILABLE, "the sandbox's agent sent nonsense");
}

int link_attach(struct link *l, const struct sandbox_id *id, uint64_t process, uint64_t offset,
                int64_t deadline_ms, int *ret_fd, struct frame_attached *ret_at, struct err *err)
{
    uint8_t frame[FRAME_HEADER + 24];
    uint64_t number;
    AUTO(stranger) int fd = -1;
    int64_t latest = clock_mono_ms() + LINK_STREAM_MS;
    deadline_ms = deadline_ms < latest ? deadline_ms : latest;
    frame_header(frame, FRAME_ATTACH, 24);
    frame_set_u64(frame + FRAME_HEADER + 8, process);
    frame_set_u64(frame + FRAME_HEADER + 16, offset);
    if (stream_ask(l, id, frame, sizeof frame, deadline_ms, &number, &fd, err) < 0 ||
        read_attached(fd, offset, deadline_ms, ret_at, err) < 0)
        return -1;
    *ret_fd = TAKE_FD(fd);
    return 0;
}
