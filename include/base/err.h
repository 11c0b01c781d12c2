/* Errors: a value on the caller's stack, filled by the call that saw the fault.
 *
 * Every fallible call returns 0 or -1 and takes `struct err *` last; it is never NULL and is
 * touched only on failure. errno and library codes become an err at the call that saw them.
 * Nothing to free. Threads: any (an err belongs to one thread at a time). */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <stdbool.h>

/* code, name on the wire, may the client simply try again? */
#define ERR_CODES(E)                                   \
    E(ERR_INTERNAL, "internal", false)                 \
    E(ERR_INVALID, "invalid_request", false)           \
    E(ERR_NOT_SUPPORTED, "not_supported", false)       \
    E(ERR_UNAUTHORIZED, "unauthorized", false)         \
    E(ERR_FORBIDDEN, "forbidden", false)               \
    E(ERR_MISDIRECTED, "misdirected_request", false)   \
    E(ERR_NOT_FOUND, "not_found", false)               \
    E(ERR_METHOD, "method_not_allowed", false)         \
    E(ERR_CONFLICT, "conflict", false)                 \
    E(ERR_PRECONDITION, "precondition_failed", false)  \
    E(ERR_IN_PROGRESS, "request_in_progress", true)    \
    E(ERR_IDEMPOTENCY, "idempotency_mismatch", false)  \
    E(ERR_TOO_LARGE, "too_large", false)               \
    E(ERR_MEDIA_TYPE, "unsupported_media_type", false) \
    E(ERR_PATH_ESCAPE, "path_escape", false)           \
    E(ERR_QUOTA, "quota_exceeded", true)               \
    E(ERR_NO_SPACE, "no_space", false)                 \
    E(ERR_CAPACITY, "sandbox_capacity", true)          \
    E(ERR_UNAVAILABLE, "sandbox_unavailable", true)    \
    E(ERR_ENGINE, "engine_unavailable", true)          \
    E(ERR_TIMEOUT, "timeout", true)                    \
    E(ERR_CANCELLED, "cancelled", true)                \
    E(ERR_SHUTDOWN, "shutting_down", true)

enum err_code {
#define ERR_ENUM(code, name, retryable) code,
    ERR_CODES(ERR_ENUM)
#undef ERR_ENUM
        ERR_CODE_COUNT
};

struct err {
    enum err_code code;
    int sys; /* errno where one was seen, else 0 */
    char msg[320];
    char remedy[240]; /* what the reader can do about it; empty where there is nothing to say */
};

/* Name of a code as clients see it; static. */
const char *err_name(enum err_code code);
bool err_retryable(enum err_code code);

/* Fills *err; always returns -1, so that `return err_set(...)` reads as the failure it is. */
int err_set(struct err *err, enum err_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* As err_set; appends ": <strerror(sys)>" and keeps sys. ENOSPC and EDQUOT become ERR_NO_SPACE. */
int err_sys(struct err *err, int sys, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Puts "what: " before the message that is there already; returns -1. */
int err_wrap(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Says what to do about it; returns -1. */
int err_remedy(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#if defined(__clang_analyzer__) && !defined(ERR_HOME)
/* Static analysis sees one file at a time: this tells it that they always return -1. */
#define err_set(...) (err_set(__VA_ARGS__), -1)
#define err_sys(...) (err_sys(__VA_ARGS__), -1)
#define err_wrap(...) (err_wrap(__VA_ARGS__), -1)
#define err_remedy(...) (err_remedy(__VA_ARGS__), -1)
#endif

#endif
