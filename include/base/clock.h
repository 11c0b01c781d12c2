/* The two clocks. Wall clock is for people and for what is stored; the monotonic one is for
 * deadlines. Threads: any. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

int64_t clock_mono_ms(void);
int64_t clock_mono_us(void);
int64_t clock_wall_ms(void);

#define CLOCK_TEXT_MAX 32
/* RFC 3339, UTC. With ms: "2026-11-29T15:12:01.042Z"; without: "2026-11-29T15:12:01Z". */
void clock_format_ms(int64_t wall_ms, char out[CLOCK_TEXT_MAX]);
void clock_format_s(int64_t wall_ms, char out[CLOCK_TEXT_MAX]);

/* Milliseconds from now until a monotonic deadline, clamped to 0..INT_MAX: fit for poll(). */
int clock_left_ms(int64_t deadline_ms);

#endif
