/* Links of an archive by their text. */
#include "wire/archive.h"

#include "check.h"

static const struct {
    const char *name, *target;
    bool inside;
} links[] = {
    { "a", "b", true },          { "a", "d/b", true },
    { "d/a", "../b", true },     { "d/e/a", "../../b", true },
    { "./d/a", "../b", true },   { "a", "./b", true },
    { "a", "..", false },        { "a", "../b", false },
    { "d/a", "../../b", false }, { "./a", "../b", false },
    { "a", "/etc", false },      { "a", "", false },
    { "a", NULL, false },        { "a", "d/../../b", false },
    { "a", "d/..", false },      { "d/a", "../x/../..", false },
    { "d//a", "../..", false },  { "a", "c:/x", false },
    { "a", "b\\c", false },      { "a", "b\x1b[2J", false },
    { "a", "\xff", false },      { "a", "../", false },
};

int main(void)
{
    for (size_t i = 0; i < sizeof links / sizeof links[0]; i++)
        CHECK_ROW(links[i].target,
                  archive_link_stays(links[i].name, links[i].target) == links[i].inside);
    return check_done();
}
