/* Small text tools. Threads: any. */
#ifndef BASE_STR_H
#define BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Copies text into out[size]; false (and out empty) when it does not fit. NULL counts as "". */
bool str_copy(char *out, size_t size, const char *text);
/* strdup/strndup that abort when memory is out (crash-only: small allocations). */
char *str_dup(const char *text);
char *str_ndup(const char *text, size_t len);
void *mem_new(size_t count, size_t size); /* calloc, aborts */
bool str_eq(const char *a, const char *b);
bool str_starts(const char *text, const char *prefix);
/* Constant time in len. */
bool mem_equal_ct(const void *a, const void *b, size_t len);
/* Erases in a way the compiler keeps. */
void mem_erase(void *p, size_t len);
/* Whole-text unsigned decimal; no sign, no space, no overflow. */
bool str_u64(const char *text, uint64_t *ret);
/* Well-formed UTF-8 without NUL? */
bool str_utf8(const char *text, size_t len);
/* Lower-case hex; out has 2*len+1 bytes. */
void hex_encode(const void *data, size_t len, char *out);
/* 0 to 15, either case; -1: no hex digit. */
int hex_digit(char c);
/* Random bytes from the kernel; aborts when there are none. */
void random_bytes(void *out, size_t len);

#endif
