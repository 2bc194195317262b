/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The small services of the operating system: clock, memory, randomness, panic output, descriptors.
 * Every function may be called from any thread.
 */
#ifndef RAY_OS_BASIC_H
#define RAY_OS_BASIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

/* Nanoseconds of CLOCK_MONOTONIC. */
uint64_t os_now_ns(void);
/* Nanoseconds since 1970. */
uint64_t os_wall_ns(void);

/* The system's allocator; never NULL. */
const struct mem *os_mem_system(void);

/* Fills `out` with bytes of the kernel's generator. Ends the process if there is none. */
void os_random(void *out, size_t size);

/* Makes failed assertions write a report to stderr and abort. Call once, early in main. */
void os_panic_install(void);

/* Closes *fd when it is >= 0 and sets it to -1. errno is kept. */
void os_close(int *fd);

/* Raises the soft limit of open descriptors to min(hard, 65536). */
void os_raise_fd_limit(void);

/* Whole small file as NUL-terminated text into buf; the length, or -1. */
int64_t os_read_text(const char *path, char *buf, size_t capacity);

#endif
