/* Names that could break out of the command are refused; the table is made, recognised, missed when
 * a rule or all of it goes, and removed. The real part runs in a network namespace of its own and
 * is skipped, in words, where that is not permitted. */
#include "net/firewall.h"

#include <sched.h>
#include <string.h>

#include "check.h"

#define INSTANCE "0123456789abcdef"

static const struct {
    const char *row, *instance, *bridge;
} bad[] = {
    { "empty instance", "", "sbx-1" },
    { "short instance", "0123", "sbx-1" },
    { "long instance", "0123456789abcdef0", "sbx-1" },
    { "upper case", "0123456789ABCDEF", "sbx-1" },
    { "brace", "0123456789abcde}", "sbx-1" },
    { "newline", "0123456789abcde\n", "sbx-1" },
    { "null instance", NULL, "sbx-1" },
    { "empty bridge", INSTANCE, "" },
    { "long bridge", INSTANCE, "a234567890123456" },
    { "quote in bridge", INSTANCE, "a\"; flush" },
    { "wildcard bridge", INSTANCE, "sbx*" },
    { "newline in bridge", INSTANCE, "a\nb" },
};

static int shell(const char *command)
{
    return system(command);
}

int main(void)
{
    struct err err;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK_ROW(bad[i].row, firewall_apply(bad[i].instance, bad[i].bridge, &err) == -1 &&
                                  err.code == ERR_INVALID);
        CHECK_ROW(bad[i].row, firewall_check(bad[i].instance, bad[i].bridge, &err) == -1 &&
                                  err.code == ERR_INVALID);
    }
    CHECK(firewall_remove("x; flush ruleset", &err) == -1 && err.code == ERR_INVALID);
    if (unshare(CLONE_NEWNET) != 0) {
        printf("ok # SKIP no permission for a network namespace\n");
        return check_done();
    }
    CHECK(firewall_check(INSTANCE, "sbx-1", &err) == 0);
    if (!CHECK(firewall_apply(INSTANCE, "sbx-1", &err) == 0))
        printf("# %s\n", err.msg);
    CHECK(firewall_check(INSTANCE, "sbx-1", &err) == 1);
    CHECK(firewall_check(INSTANCE, "sbx-2", &err) == 0);
    CHECK(firewall_check("0123456789abcde0", "sbx-1", &err) == 0);
    CHECK(firewall_apply(INSTANCE, "sbx-2", &err) == 0); /* replaced, not added to */
    CHECK(firewall_check(INSTANCE, "sbx-2", &err) == 1);
    if (shell("nft --version >/dev/null 2>&1") == 0) {
        CHECK(shell("nft add rule inet sandboxed_" INSTANCE " forward accept") == 0);
        CHECK_ROW("a rule more", firewall_check(INSTANCE, "sbx-2", &err) == 0);
        CHECK(firewall_apply(INSTANCE, "sbx-2", &err) == 0);
        CHECK(firewall_check(INSTANCE, "sbx-2", &err) == 1);
        CHECK(shell("nft insert rule inet sandboxed_" INSTANCE " input accept") == 0);
        CHECK_ROW("a rule before", firewall_check(INSTANCE, "sbx-2", &err) == 0);
        CHECK(firewall_apply(INSTANCE, "sbx-2", &err) == 0);
        CHECK(shell("nft flush chain inet sandboxed_" INSTANCE " forward") == 0);
        CHECK_ROW("a chain emptied", firewall_check(INSTANCE, "sbx-2", &err) == 0);
        CHECK(firewall_apply(INSTANCE, "sbx-2", &err) == 0);
        CHECK(shell("nft flush ruleset") == 0);
        CHECK_ROW("all flushed", firewall_check(INSTANCE, "sbx-2", &err) == 0);
        CHECK(firewall_apply(INSTANCE, "sbx-2", &err) == 0);
    } else {
        printf("ok # SKIP the nft program is not here to alter the rules\n");
    }
    CHECK(firewall_remove(INSTANCE, &err) == 0);
    CHECK(firewall_check(INSTANCE, "sbx-2", &err) == 0);
    CHECK(firewall_remove(INSTANCE, &err) == 0);
    return check_done();
}
