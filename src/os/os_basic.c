/* SPDX-License-Identifier: Apache-2.0 */
/* Clock, memory, randomness, panic, descriptors. See os_basic.h. */
#include "os/os_basic.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

uint64_t
os_now_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t
os_wall_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void *
system_resize(void *ctx, void *old, size_t old_size, size_t new_size)
{
    (void)ctx;
    (void)old_size;
    if (new_size == 0) {
        free(old);
        return NULL;
    }
    return realloc(old, new_size);
}

const struct mem *
os_mem_system(void)
{
    static const struct mem system_mem = { .resize = system_resize };
    return &system_mem;
}

void
os_random(void *out, size_t size)
{
    uint8_t *p = out;
    while (size > 0) {
        const ssize_t n = getrandom(p, size, 0);
        if (n < 0) {
            if (errno == EINTR) {
                continue;
            }
            abort();
        }
        p += n;
        size -= (size_t)n;
    }
}

static void
panic(const char *expression, const char *where, const char *function)
{
    char text[512];
    const int n = snprintf(text, sizeof(text), "ray: panic: assertion `%s` failed at %s in %s\n",
                           expression, where, function);
    if (n > 0) {
        (void)!write(STDERR_FILENO, text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1);
    }
    abort();
}

void
os_panic_install(void)
{
    assert_set_panic(panic);
}

void
os_close(int *fd)
{
    if (*fd >= 0) {
        const int saved = errno;
        (void)close(*fd);
        errno = saved;
        *fd = -1;
    }
}

void
os_raise_fd_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        const rlim_t want = limit.rlim_max < 65536 ? limit.rlim_max : 65536;
        if (limit.rlim_cur < want) {
            limit.rlim_cur = want;
            (void)setrlimit(RLIMIT_NOFILE, &limit);
        }
    }
}

int64_t
os_read_text(const char *path, char *buf, size_t capacity)
{
    ASSERT(capacity > 0);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    size_t used = 0;
    while (used < capacity - 1) {
        const ssize_t n = read(fd, buf + used, capacity - 1 - used);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            break;
        }
        used += (size_t)n;
    }
    os_close(&fd);
    buf[used] = '\0';
    return (int64_t)used;
}
