/* The open end of a UTF-8 text. Only the last three bytes matter. */
#include "utf8.h"

static size_t char_len(unsigned char lead)
{
    if (lead >= 0xc2 && lead <= 0xdf)
        return 2;
    if (lead >= 0xe0 && lead <= 0xef)
        return 3;
    if (lead >= 0xf0 && lead <= 0xf4)
        return 4;
    return 1; /* ASCII, or not the beginning of anything */
}

size_t utf8_open(const char *text, size_t len)
{
    for (size_t back = 1; back <= 3 && back <= len; back++) {
        unsigned char c = (unsigned char)text[len - back];
        if ((c & 0xc0) == 0x80)
            continue; /* inside a character: its beginning lies further back */
        return char_len(c) > back ? back : 0;
    }
    return 0;
}
