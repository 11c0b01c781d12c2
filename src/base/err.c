/* Errors. Messages are cut, never overrun; wrapping keeps the innermost words when room is short.
 */
#define ERR_HOME /* the functions themselves are here */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    bool retryable;
} err_rows[ERR_CODE_COUNT] = {
#define ERR_ROW(code, wire_name, again) [code] = { wire_name, again },
    ERR_CODES(ERR_ROW)
#undef ERR_ROW
};

const char *err_name(enum err_code code)
{
    return (unsigned)code < ERR_CODE_COUNT ? err_rows[code].name : "internal";
}

bool err_retryable(enum err_code code)
{
    return (unsigned)code < ERR_CODE_COUNT && err_rows[code].retryable;
}

int err_set(struct err *err, enum err_code code, const char *fmt, ...)
{
    va_list ap;
    err->code = code;
    err->sys = 0;
    err->remedy[0] = 0;
    va_start(ap, fmt);
    (void)vsnprintf(err->msg, sizeof err->msg, fmt, ap);
    va_end(ap);
    return -1;
}

int err_sys(struct err *err, int sys, const char *fmt, ...)
{
    va_list ap;
    char text[128];
    err->code = sys == ENOSPC || sys == EDQUOT ? ERR_NO_SPACE : ERR_INTERNAL;
    err->sys = sys;
    err->remedy[0] = 0;
    va_start(ap, fmt);
    int n = vsnprintf(err->msg, sizeof err->msg, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof err->msg)
        (void)snprintf(err->msg + n, sizeof err->msg - (size_t)n, ": %s",
                       strerror_r(sys, text, sizeof text));
    return -1;
}

int err_wrap(struct err *err, const char *fmt, ...)
{
    va_list ap;
    char inner[sizeof err->msg];
    memcpy(inner, err->msg, sizeof inner);
    va_start(ap, fmt);
    int n = vsnprintf(err->msg, sizeof err->msg, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof err->msg)
        (void)snprintf(err->msg + n, sizeof err->msg - (size_t)n, ": %.*s",
                       (int)(sizeof err->msg - (size_t)n), inner);
    return -1;
}

int err_remedy(struct err *err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(err->remedy, sizeof err->remedy, fmt, ap);
    va_end(ap);
    return -1;
}
