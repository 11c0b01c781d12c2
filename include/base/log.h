/* Structured log: one JSON line an event on standard error.
 *
 *   log_info("sandbox.started", KV_STR("id", id->text), KV_INT("took_ms", took));
 *
 * Event names are noun.verb, keys carry units. Secrets have no KV_. Control bytes are escaped, so a
 * line is always one line. Threads: any; a line is written by one write(2). */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

struct log_kv {
    const char *key;
    const char *text; /* NULL: number */
    int64_t number;
};

/* A function, so that arrays may be given without a warning that they are never NULL. */
static inline struct log_kv kv_str(const char *key, const char *text)
{
    return (struct log_kv){ .key = key, .text = text ? text : "" };
}
#define KV_STR(k, v) kv_str((k), (v))
#define KV_INT(k, v) ((struct log_kv){ .key = (k), .number = (int64_t)(v) })
#define KV_ERR(e) ((struct log_kv){ .key = "error", .text = (e)->msg })

void log_set_level(enum log_level level);
bool log_on(enum log_level level);
/* kv ends with a row whose key is NULL. */
void log_line(enum log_level level, const char *event, const struct log_kv *kv);

#define LOG_AT(level, event, ...)                                                 \
    do {                                                                          \
        if (log_on(level))                                                        \
            log_line((level), (event),                                            \
                     (const struct log_kv[]){ __VA_ARGS__ __VA_OPT__(, ){ 0 } }); \
    } while (0)
#define log_debug(event, ...) LOG_AT(LOG_DEBUG, event __VA_OPT__(, ) __VA_ARGS__)
#define log_info(event, ...) LOG_AT(LOG_INFO, event __VA_OPT__(, ) __VA_ARGS__)
#define log_warn(event, ...) LOG_AT(LOG_WARN, event __VA_OPT__(, ) __VA_ARGS__)
#define log_error(event, ...) LOG_AT(LOG_ERROR, event __VA_OPT__(, ) __VA_ARGS__)

#endif
