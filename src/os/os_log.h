/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log lines of daemons and of libray's own: to standard error, which a daemon has as its log file.
 *
 *     2026-11-21 21:04:07.123456 E raylet[4711] can't start a worker: ...
 *
 * One write a line, so lines of several processes don't mix. A loop of errors can't fill a disk: a
 * process that has written 64 MiB says so and falls silent, or, where the file is its own, begins a
 * new one (os_log_own_file). Any thread.
 */
#ifndef RAY_OS_LOG_H
#define RAY_OS_LOG_H

#include <stdint.h>

enum os_log_level { OS_LOG_ERROR = 0, OS_LOG_WARN = 1, OS_LOG_INFO = 2, OS_LOG_DEBUG = 3 };

/* Names the process in its lines and sets the level: RAY_LOG_LEVEL (error, warn, info, debug) or
 * info. `component` is static text. */
void os_log_init(const char *component);
/* The file that standard error is belongs to this process (a daemon's log): when it has written
 * RAY_ROTATION_MAX_BYTES (64 MiB; 0: no limit) the file gets the name "<file>.1", over an older one
 * of that name, and a new one takes its place. Call once, after os_log_init and before any thread;
 * without effect when standard error is no file. */
void os_log_own_file(void);
void os_log(enum os_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The whole number of 0 and more that an environment variable gives, or `otherwise`; what is no
 * such number is logged and ignored. Not after threads run that change the environment. */
uint64_t os_env_number(const char *name, uint64_t otherwise);

#endif
