/* Server-sent events: one frame in is one frame out. A small reader, written from the standard,
 * reads back what the writer wrote. */
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "check.h"
#include "wire/sse.h"

static const struct {
    const char *name;
    int64_t id;
    const char *event, *data, *want;
} rows[] = {
    { "plain", -1, "stdout", "{}", "event: stdout\ndata: {}\n\n" },
    { "id", 7, "exit", "x", "id: 7\nevent: exit\ndata: x\n\n" },
    { "id zero", 0, "e", "x", "id: 0\nevent: e\ndata: x\n\n" },
    { "empty data", -1, "e", "", "event: e\ndata: \n\n" },
    { "two lines", -1, "e", "a\nb", "event: e\ndata: a\ndata: b\n\n" },
    { "crlf", -1, "e", "a\r\nb", "event: e\ndata: a\ndata: b\n\n" },
    { "cr", -1, "e", "a\rb", "event: e\ndata: a\ndata: b\n\n" },
    { "cr cr", -1, "e", "a\r\rb", "event: e\ndata: a\ndata: \ndata: b\n\n" },
    { "line end last", -1, "e", "a\n", "event: e\ndata: a\ndata: \n\n" },
    { "only a line end", -1, "e", "\n", "event: e\ndata: \ndata: \n\n" },
    { "forged frame", -1, "e", "a\n\nevent: exit\ndata: 0\n\n",
      "event: e\ndata: a\ndata: \ndata: event: exit\ndata: data: 0\ndata: \ndata: \n\n" },
    { "forged frame, crlf", -1, "e", "a\r\n\r\nid: 9",
      "event: e\ndata: a\ndata: \ndata: id: 9\n\n" },
    { "leading space", -1, "e", " a", "event: e\ndata:  a\n\n" },
    { "colon", -1, "e", ":a", "event: e\ndata: :a\n\n" },
    { "high bytes", -1, "e", "\xe2\x82\xac", "event: e\ndata: \xe2\x82\xac\n\n" },
};

/* Data of the first event in text as a browser would hand it out; counts the events. */
static unsigned read_back(const char *text, struct buf *data)
{
    unsigned events = 0;
    bool any = false;
    while (*text) {
        size_t n = strcspn(text, "\n");
        if (n == 0 && any) {
            events++;
            any = false;
        } else if (str_starts(text, "data:")) {
            size_t skip = text[5] == ' ' ? 6 : 5;
            if (any && events == 0)
                buf_addc(data, '\n');
            if (events == 0)
                buf_add(data, text + skip, n - skip);
            any = true;
        }
        text += n + (text[n] == '\n');
    }
    return events;
}

int main(void)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        AUTO(buf) struct buf b = BUF_INIT(4096);
        AUTO(buf) struct buf back = BUF_INIT(4096);
        AUTO(buf) struct buf want = BUF_INIT(4096);
        sse_event(&b, rows[i].id, rows[i].event, rows[i].data);
        if (!CHECK_ROW(rows[i].name, str_eq(buf_str(&b), rows[i].want)))
            printf("# got: %s\n", buf_str(&b));
        for (const char *p = rows[i].data; *p; p++) { /* every line end comes back as LF */
            buf_addc(&want, *p == '\r' ? '\n' : *p);
            p += p[0] == '\r' && p[1] == '\n';
        }
        CHECK_ROW(rows[i].name, read_back(buf_str(&b), &back) == 1);
        CHECK_STR(buf_str(&want), buf_str(&back));
    }
    AUTO(buf) struct buf b = BUF_INIT(64);
    sse_comment(&b, "still here");
    CHECK_STR(": still here\n\n", buf_str(&b));
    sse_event(&b, -1, "e",
              "0123456789012345678901234567890123456789012345678901234567890123456789");
    CHECK(b.failed);
    return check_done();
}
