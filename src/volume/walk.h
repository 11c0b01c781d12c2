/* Depth-first through a tree by descriptors: one stream open for each level, nothing else kept, so
 * a directory may hold any number of entries. Links are told and never entered; a directory that
 * was swapped for something else is not entered either. Private to volume/. One thread each. */
#ifndef WALK_H
#define WALK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"
#include "beneath.h"

/* A place among the FILE_WALKS_MAX that may be under way; ERR_CAPACITY. */
int walk_enter(struct err *err);
void walk_leave(void);

struct walk {
    const char *const *skip;
    struct {
        DIR *d;
        size_t len; /* of path, up to this directory */
    } level[PATH_DEPTH_MAX + 1];
    unsigned depth; /* levels open */
    char path[PATH_BYTES_MAX];
    size_t len;
    bool pending;     /* the entry told last is a directory to enter */
    uint64_t dropped; /* entries not told or not entered */
    uint64_t deep;    /* of them: too deep or with a path too long */
};
struct walk_entry {
    int dir; /* verified, of the entry */
    const char *name;
    const char *path; /* below the start; valid until the next call */
    enum { WALK_FILE, WALK_DIR, WALK_LINK, WALK_OTHER } type; /* as the directory says */
};

int walk_begin(struct walk *w, int root, const char *path, const char *const *skip,
               struct err *err);
/* 1: an entry; 0: the end; -1: error. After a directory comes what it holds. */
int walk_next(struct walk *w, struct walk_entry *ret, struct err *err);
/* Does not enter the directory told last. */
void walk_prune(struct walk *w);
void walk_end(struct walk *w);
bool walk_skipped(const char *const *skip, const char *name);

#endif
