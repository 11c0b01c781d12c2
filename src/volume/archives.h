/* What reading and writing archives share. Private to volume/. */
#ifndef ARCHIVES_H
#define ARCHIVES_H

#include <locale.h>

/* libarchive converts names by the thread's character set, and fails in "C": UTF-8 for as long as
 * it works. */
struct utf8_locale {
    locale_t mine, before;
};
static inline void utf8_begin(struct utf8_locale *l)
{
    l->mine = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    l->before = l->mine ? uselocale(l->mine) : (locale_t)0;
}
static inline void utf8_end(struct utf8_locale *l)
{
    if (!l->mine)
        return;
    (void)uselocale(l->before);
    freelocale(l->mine);
}

#endif
