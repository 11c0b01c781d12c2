/* Globs and matchers. Plain text goes through memmem; everything else is PCRE2's, compiled to
 * machine code where the system allows that, with a bound on the steps of one match. A pattern
 * sees whole buffers, which is fast, so a match that runs over the end of its line is looked at
 * again with that line alone: lines are what people search. */
#include "match.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>

#include "base/limits.h"
#include "base/str.h"

#define JIT_STACK_MIN (32 * KIB)
#define JIT_STACK_MAX (512 * KIB)
#define HEAP_KIB 4096 /* of one match without machine code */

/* --- globs --- */

/* Does c belong to the class at p (behind its '[')? *ret_end: behind its ']', or NULL: no class. */
static bool in_class(const char *p, unsigned char c, const char **ret_end)
{
    bool negated = *p == '!' || *p == '^', in = false;
    p += negated;
    const char *first = p;
    *ret_end = NULL;
    for (; *p && (*p != ']' || p == first); p++) {
        unsigned char lo = (unsigned char)*p, hi = lo;
        if (p[1] == '-' && p[2] && p[2] != ']') {
            hi = (unsigned char)p[2];
            p += 2;
        }
        in = in || (lo <= c && c <= hi);
    }
    if (*p == ']')
        *ret_end = p + 1;
    return in != negated && c != '/';
}

/* One character of the text; a UTF-8 sequence is one for '?'. */
static size_t char_len(const char *t)
{
    unsigned char c = (unsigned char)*t;
    size_t n = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;
    return str_utf8(t, strnlen(t, n)) && strnlen(t, n) == n ? n : 1;
}

/* One element of the pattern that is no star against the text: bytes of both, or false. */
static bool one(const char *p, const char *t, size_t *ret_p, size_t *ret_t)
{
    const char *end = NULL;
    *ret_p = *ret_t = 1;
    if (*t == '\0' || *p == '\0')
        return false;
    if (*p == '?') {
        *ret_t = char_len(t);
        return *t != '/';
    }
    if (*p == '[') {
        bool in = in_class(p + 1, (unsigned char)*t, &end);
        if (end) {
            *ret_p = (size_t)(end - p);
            return in;
        }
    }
    if (*p == '\\' && p[1]) {
        *ret_p = 2;
        return p[1] == *t;
    }
    return *p == *t;
}

/* Goes back to the last star, and behind that to the last double star; earlier ones need no second
 * look, for what follows them has been found as early as it can be. */
bool glob_match(const char *p, const char *t)
{
    const char *star_p = NULL, *star_t = NULL, *any_p = NULL, *any_t = NULL;
    bool dirs = false; /* the double star stands for whole directories */
    while (*p || *t) {
        size_t np, nt;
        if (p[0] == '*' && p[1] == '*') {
            p += strspn(p, "*");
            dirs = *p == '/';
            p += dirs; /* it may stand for none at all */
            any_p = p;
            any_t = t;
            star_p = NULL;
        } else if (*p == '*') {
            star_p = ++p;
            star_t = t;
        } else if (one(p, t, &np, &nt)) {
            p += np;
            t += nt;
        } else if (star_p && *star_t && *star_t != '/') {
            p = star_p;
            t = ++star_t;
        } else if (any_p && *any_t) {
            const char *slash = dirs ? strchr(any_t, '/') : any_t;
            if (!slash)
                return false;
            p = any_p;
            t = any_t = slash + 1;
            star_p = NULL;
        } else {
            return false;
        }
    }
    return true;
}

/* --- lines --- */

struct matcher {
    char *plain; /* or NULL: */
    size_t plain_len;
    pcre2_code *code;
    pcre2_match_data *found;
    pcre2_match_context *bounds;
    pcre2_jit_stack *stack;
};

void matcher_free(struct matcher *m)
{
    if (!m)
        return;
    pcre2_jit_stack_free(m->stack);
    pcre2_match_context_free(m->bounds);
    pcre2_match_data_free(m->found);
    pcre2_code_free(m->code);
    free(m->plain);
    free(m);
}

static int compile(struct matcher *m, const char *text, bool regex, bool ignore_case,
                   struct err *err)
{
    uint32_t options = PCRE2_UTF | PCRE2_MATCH_INVALID_UTF | PCRE2_NEVER_BACKSLASH_C;
    options |= regex ? PCRE2_MULTILINE : PCRE2_LITERAL;
    options |= ignore_case ? PCRE2_CASELESS : 0;
    if (!regex)
        options &= ~(uint32_t)PCRE2_NEVER_BACKSLASH_C;
    int code = 0;
    size_t at = 0;
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (context)
        (void)pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    m->code = pcre2_compile((PCRE2_SPTR)text, strlen(text), options, &code, &at, context);
    pcre2_compile_context_free(context);
    if (!m->code) {
        PCRE2_UCHAR why[128] = "";
        (void)pcre2_get_error_message(code, why, sizeof(why));
        return err_set(err, ERR_INVALID, "q: %s (at byte %zu)", (const char *)why, at);
    }
    (void)pcre2_jit_compile(m->code, PCRE2_JIT_COMPLETE); /* where that is forbidden: slower */
    m->found = pcre2_match_data_create(1, NULL);
    m->bounds = pcre2_match_context_create(NULL);
    m->stack = pcre2_jit_stack_create(JIT_STACK_MIN, JIT_STACK_MAX, NULL);
    if (!m->found || !m->bounds || !m->stack)
        return err_set(err, ERR_INTERNAL, "out of memory");
    pcre2_jit_stack_assign(m->bounds, NULL, m->stack);
    (void)pcre2_set_match_limit(m->bounds, FILE_SEARCH_STEPS_MAX);
    (void)pcre2_set_heap_limit(m->bounds, HEAP_KIB);
    return 0;
}

int matcher_new(const char *text, bool regex, bool ignore_case, struct matcher **ret,
                struct err *err)
{
    if (!*text || strlen(text) > FILE_SEARCH_PATTERN_MAX || strchr(text, '\n'))
        return err_set(err, ERR_INVALID, "q: must be one line of 1 to %u bytes",
                       FILE_SEARCH_PATTERN_MAX);
    struct matcher *m = mem_new(1, sizeof(*m));
    if (!regex && !ignore_case) {
        m->plain = str_dup(text);
        m->plain_len = strlen(text);
    } else if (compile(m, text, regex, ignore_case, err) < 0) {
        matcher_free(m);
        return -1;
    }
    *ret = m;
    return 0;
}

/* 1, 0 or -1; options: of the subject's ends. */
static int run(struct matcher *m, const char *data, size_t len, size_t from, size_t *ret_at,
               size_t *ret_end)
{
    int rc = pcre2_match(m->code, (PCRE2_SPTR)data, len, from, 0, m->found, m->bounds);
    if (rc == PCRE2_ERROR_NOMATCH)
        return 0;
    if (rc < 0)
        return -1;
    const size_t *at = pcre2_get_ovector_pointer(m->found);
    *ret_at = at[0] < at[1] ? at[0] : at[1]; /* \K may turn them round */
    *ret_end = at[1];
    return 1;
}

int matcher_find(struct matcher *m, const char *data, size_t len, size_t from, size_t *ret_at,
                 size_t *ret_end)
{
    if (m->plain) {
        const char *p = memmem(data + from, len - from, m->plain, m->plain_len);
        if (!p)
            return 0;
        *ret_at = (size_t)(p - data);
        *ret_end = *ret_at + m->plain_len;
        return 1;
    }
    while (from <= len) {
        int rc = run(m, data, len, from, ret_at, ret_end);
        if (rc <= 0)
            return rc;
        const char *start = memrchr(data, '\n', *ret_at);
        size_t line = start ? (size_t)(start - data) + 1 : 0;
        const char *stop = memchr(data + *ret_at, '\n', len - *ret_at);
        size_t end = stop ? (size_t)(stop - data) : len;
        if (*ret_end <= end && line <= *ret_at)
            return 1;
        rc = run(m, data + line, end - line, from > line ? from - line : 0, ret_at, ret_end);
        if (rc) {
            *ret_at += line;
            *ret_end += line;
            return rc;
        }
        from = end + 1;
    }
    return 0;
}
