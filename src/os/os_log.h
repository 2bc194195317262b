/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log lines of daemons and of libray's own: to standard error, which a daemon has as its log file.
 *
 *     2026-11-21 21:04:07.123456 E raylet[4711] can't start a worker: ...
 *
 * One write a line, so lines of several processes don't mix. A process that has written LOG_MAX
 * bytes says so and falls silent: a loop of errors can't fill a disk. Any thread.
 */
#ifndef RAY_OS_LOG_H
#define RAY_OS_LOG_H

enum os_log_level { OS_LOG_ERROR = 0, OS_LOG_WARN = 1, OS_LOG_INFO = 2, OS_LOG_DEBUG = 3 };

/* Names the process in its lines and sets the level: RAY_LOG_LEVEL (error, warn, info, debug) or
 * info. `component` is static text. */
void os_log_init(const char *component);
void os_log(enum os_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
