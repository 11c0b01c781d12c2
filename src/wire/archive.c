/* Links are judged by their text: where they really lead is for another file system to say. */
#include "wire/archive.h"

#include <stddef.h>
#include <string.h>

#include "base/str.h"

static bool is_harmless(const char *target)
{
    if (*target == '\0' || *target == '/' || strpbrk(target, "\\:") ||
        !str_utf8(target, strlen(target)))
        return false;
    for (const char *p = target; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return false;
    return true;
}

bool archive_link_stays(const char *name, const char *target)
{
    int depth = -1; /* of the directory that the link is in */
    bool named = false;
    if (!target || !is_harmless(target))
        return false;
    for (const char *p = name; *p;) {
        size_t len = strcspn(p, "/");
        depth += len > 0 && !(len == 1 && *p == '.');
        p += len + (p[len] == '/');
    }
    for (const char *p = target; *p;) {
        size_t len = strcspn(p, "/");
        if (len == 2 && memcmp(p, "..", 2) == 0) {
            if (named || --depth < 0)
                return false;
        } else if (len > 0 && !(len == 1 && *p == '.')) {
            named = true;
        }
        p += len + (p[len] == '/');
    }
    return true;
}
