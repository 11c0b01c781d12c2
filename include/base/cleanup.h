/* Cleanup by attribute: a variable declared AUTO(kind) is released on every way out of its scope;
 * TAKE(x) hands the value on and leaves the empty value behind. Threads: any. */
#ifndef BASE_CLEANUP_H
#define BASE_CLEANUP_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define AUTO(kind) __attribute__((cleanup(auto_##kind)))

/* Takes a pointer's value and leaves NULL. */
#define TAKE(p)                     \
    __extension__({                 \
        __typeof__(p) taken_ = (p); \
        (p) = NULL;                 \
        taken_;                     \
    })
/* Takes a descriptor and leaves -1. */
#define TAKE_FD(fd)           \
    __extension__({           \
        int taken_fd_ = (fd); \
        (fd) = -1;            \
        taken_fd_;            \
    })

static inline void auto_free(void *p)
{
    void **slot = p;
    free(*slot);
    *slot = NULL;
}

static inline void auto_fd(const int *fd)
{
    if (*fd >= 0)
        (void)close(*fd); /* nothing to be done about a failed close of what we drop */
}

static inline void auto_file(FILE **f)
{
    if (*f)
        (void)fclose(*f);
}

#endif
