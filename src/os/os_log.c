/* SPDX-License-Identifier: Apache-2.0 */
/* Log lines on standard error. See os_log.h. */
#include "os/os_log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LINE_MAX_SIZE = 4096, LOG_MAX = 64 * 1024 * 1024 };

static const char *log_component = "ray";
static enum os_log_level log_level = OS_LOG_INFO;
static atomic_long log_written;

void
os_log_init(const char *component)
{
    static const char *const names[] = { "error", "warn", "info", "debug" };
    log_component = component;
    const char *wanted = getenv("RAY_LOG_LEVEL");
    for (int i = 0; wanted && i < 4; i++) {
        if (strcmp(wanted, names[i]) == 0) {
            log_level = (enum os_log_level)i;
        }
    }
}

static void
write_line(const char *line, size_t size)
{
    const long before = atomic_fetch_add(&log_written, (long)size);
    if (before > LOG_MAX) {
        return;
    }
    if (before + (long)size > LOG_MAX) {
        line = "this process has logged too much and writes no more\n";
        size = strlen(line);
    }
    if (write(STDERR_FILENO, line, size) < 0) {
        return; /* there is nobody left to tell */
    }
}

void
os_log(enum os_log_level level, const char *format, ...)
{
    if (level > log_level) {
        return;
    }
    char line[LINE_MAX_SIZE];
    struct timespec now = { 0, 0 };
    struct tm local;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    size_t at = localtime_r(&now.tv_sec, &local)
                    ? strftime(line, sizeof(line), "%Y-%m-%d %H:%M:%S", &local)
                    : 0;
    const int n = snprintf(line + at, 128, ".%06ld %c %s[%d] ", now.tv_nsec / 1000, "EWID"[level],
                           log_component, (int)getpid());
    at += n > 0 && n < 128 ? (size_t)n : 0;
    va_list args;
    va_start(args, format);
    const size_t room = sizeof(line) - 1 - at; /* the line's end always has its place */
    /* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): version 14 loses va_start here */
    const int text = vsnprintf(line + at, room, format, args);
    va_end(args);
    if (text > 0) {
        at += (size_t)text < room ? (size_t)text : room - 1;
    }
    line[at++] = '\n';
    write_line(line, at);
}
