/* The bounded buffer: ceiling, first failure kept, always terminated. */
#include <string.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "check.h"

static void check_ceiling(void)
{
    struct err err;
    AUTO(buf) struct buf b = BUF_INIT(8);
    CHECK_STR("", buf_str(&b));
    buf_adds(&b, "12345");
    buf_addc(&b, '6');
    buf_addf(&b, "%d", 78);
    CHECK(b.len == 8 && !b.failed && buf_done(&b, &err) == 0);
    CHECK_STR("12345678", buf_str(&b));
    buf_add(&b, "", 0);
    CHECK(!b.failed);
    buf_addc(&b, '9');
    CHECK(b.failed && b.len == 8);
    buf_reset(&b);
    CHECK(b.len == 0 && !b.failed);
    CHECK_STR("", buf_str(&b));
    buf_adds(&b, "123456789");
    CHECK(b.failed && b.len == 0);
    buf_adds(&b, "1");
    CHECK(b.len == 0); /* the first failure sticks: no gap in the middle */
    CHECK(buf_done(&b, &err) == -1 && err.code == ERR_TOO_LARGE);
    CHECK_STR("more than 8 bytes", err.msg);
}

static void check_room(void)
{
    AUTO(buf) struct buf b = BUF_INIT(100);
    char *room = buf_room(&b, 10);
    CHECK(room != NULL);
    memcpy(room, "abc", 3);
    buf_grew(&b, 3);
    CHECK_STR("abc", buf_str(&b));
    CHECK(buf_room(&b, 98) == NULL && b.failed);
    CHECK(buf_room(&b, (size_t)-1) == NULL);
}

static void check_drop_and_take(void)
{
    AUTO(buf) struct buf b = BUF_INIT(100);
    buf_drop(&b, 0);
    buf_adds(&b, "headtail");
    buf_drop(&b, 4);
    CHECK_STR("tail", buf_str(&b));
    buf_drop(&b, 4);
    CHECK_STR("", buf_str(&b));
    char *empty = buf_take(&b);
    CHECK_STR("", empty);
    free(empty);
    empty = buf_take(&b); /* nothing there: still a text */
    CHECK_STR("", empty);
    free(empty);
    buf_add(&b, "a\0b", 3);
    CHECK(b.len == 3 && b.data[3] == 0);
    buf_release(&b);
    buf_release(&b);
    CHECK(b.max == 100 && b.data == NULL);
}

static void check_growth(void)
{
    AUTO(buf) struct buf b = BUF_INIT(100000);
    for (int i = 0; i < 100000; i++)
        buf_addc(&b, (char)('a' + i % 26));
    bool same = true;
    for (int i = 0; i < 100000; i++)
        same = same && b.data[i] == 'a' + i % 26;
    CHECK(same && b.len == 100000 && !b.failed && b.cap <= 100001);
}

int main(void)
{
    check_ceiling();
    check_room();
    check_drop_and_take();
    check_growth();
    return check_done();
}
