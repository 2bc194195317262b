/* SPDX-License-Identifier: Apache-2.0 */
/* Log lines on standard error. See os_log.h. */
#include "os/os_log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "os/os_basic.h"

enum { LINE_MAX_SIZE = 4096, PATH_ROOM = 512, LOG_MAX = 64 * 1024 * 1024 };

static const char *log_component = "ray";
static enum os_log_level log_level = OS_LOG_INFO;
static atomic_long log_written;
static long log_max = LOG_MAX;
static char log_file[PATH_ROOM]; /* empty: standard error isn't this process's own */

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

uint64_t
os_env_number(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name); /* early: see os_log.h */
    if (!text || !*text) {
        return otherwise;
    }
    char *end = NULL;
    errno = 0;
    const unsigned long long n = strtoull(text, &end, 10);
    if (*end || errno != 0 || *text == '-') {
        os_log(OS_LOG_WARN, "%s=%.40s is no number and is ignored", name, text);
        return otherwise;
    }
    return n;
}

void
os_log_own_file(void)
{
    const uint64_t most = os_env_number("RAY_ROTATION_MAX_BYTES", LOG_MAX);
    char path[PATH_ROOM];
    struct stat st;
    log_max = most == 0 || most > LONG_MAX / 2 ? LONG_MAX / 2 : (long)most;
    const ssize_t n = readlink("/proc/self/fd/2", path, sizeof(path) - sizeof(".1"));
    if (n <= 0 || (size_t)n >= sizeof(path) - sizeof(".1") || fstat(STDERR_FILENO, &st) < 0 ||
        !S_ISREG(st.st_mode)) {
        return;
    }
    path[n] = '\0';
    /* What a process wrote that had the file before counts too. */
    atomic_store(&log_written, st.st_size < log_max ? (long)st.st_size : log_max);
    memcpy(log_file, path, (size_t)n + 1);
}

/* False: the old file stays, and nothing more is written to it. */
static bool
begin_new_file(void)
{
    char old[PATH_ROOM];
    if (!*log_file) {
        return false;
    }
    (void)snprintf(old, sizeof(old), "%.*s.1", (int)(sizeof(old) - sizeof(".1")), log_file);
    if (rename(log_file, old) < 0) {
        return false;
    }
    int fd = open(log_file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    const bool begun = fd >= 0 && dup2(fd, STDERR_FILENO) >= 0;
    os_close(&fd);
    return begun;
}

static void
write_line(const char *line, size_t size)
{
    const long before = atomic_fetch_add(&log_written, (long)size);
    if (before > log_max) {
        return; /* or another thread is about to begin a new file: its line came first */
    }
    if (before + (long)size > log_max && begin_new_file()) {
        atomic_store(&log_written, (long)size);
    } else if (before + (long)size > log_max) {
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
