/* SPDX-License-Identifier: Apache-2.0 */
/* Where runtimes are. See os_runtime.h. */
#include "os/os_runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/status.h"
#include "os/os_basic.h"
#include "os/os_dir.h"
#include "os/os_sock.h"

/* ---- directories ----------------------------------------------------------------------------- */

int
os_runtime_temp(const char *wanted, char *out, size_t capacity)
{
    if (wanted && wanted[0] != '\0') {
        if (wanted[0] != '/') {
            return st_fail(ST_INVALID_ARGUMENT, "the temporary directory must be absolute: %s",
                           wanted);
        }
        TRY(os_path(out, capacity, "%s", wanted));
        return os_dir_make(out, 0755);
    }
    TRY(os_path(out, capacity, "/tmp/ray"));
    if (os_dir_make(out, 0755) == ST_OK) {
        os_dir_make_sticky(out); /* Ray itself makes it for everybody */
        if (os_dir_writable(out) && os_dir_trusted(out)) {
            return ST_OK;
        }
    }
    const struct passwd *user = getpwuid(geteuid());
    if (user && user->pw_name && !strchr(user->pw_name, '/')) {
        TRY(os_path(out, capacity, "/tmp/ray-%s", user->pw_name));
    } else {
        TRY(os_path(out, capacity, "/tmp/ray-%u", (unsigned)geteuid()));
    }
    TRY(os_dir_make(out, 0700));
    if (!os_dir_private(out)) {
        return st_fail(
            ST_SYSTEM,
            "neither /tmp/ray nor %s can be used for session files: remove the latter, or "
            "name another directory with _temp_dir",
            out);
    }
    return ST_OK;
}

static int
use_base(const char *base)
{
    const int status = os_dir_make_new(base, 0700);
    if (status != ST_OK && status != ST_EXISTS) {
        return status;
    }
    return os_dir_private(base) ? ST_OK
                                : st_fail(ST_SYSTEM, "%s is not private to this user", base);
}

/* That in XDG_RUNTIME_DIR, if it is there and private. */
static bool
user_base(char out[OS_RUNTIME_BASE_MAX])
{
    /* tidy: getenv: read only, and nothing here changes the environment */
    const char *run = getenv("XDG_RUNTIME_DIR");
    return run && run[0] == '/' && os_dir_private(run) &&
           os_path(out, OS_RUNTIME_BASE_MAX, "%s/ray-c", run) == ST_OK;
}

int
os_runtime_base(char out[OS_RUNTIME_BASE_MAX])
{
    if (user_base(out) && use_base(out) == ST_OK) {
        return ST_OK;
    }
    TRY(os_path(out, OS_RUNTIME_BASE_MAX, "/tmp/.ray-%u", (unsigned)geteuid()));
    if (use_base(out) == ST_OK) {
        return ST_OK;
    }
    /* Somebody took the name: a random one, which this runtime alone uses. */
    uint32_t random = 0;
    os_random(&random, sizeof(random));
    TRY(os_path(out, OS_RUNTIME_BASE_MAX, "/tmp/.ray-%u-%08x", (unsigned)geteuid(), random));
    return use_base(out);
}

bool
os_runtime_take_lock(const char *dir, int *fd)
{
    char path[OS_RUNTIME_PATH_MAX];
    *fd = -1;
    if (os_path(path, sizeof(path), "%s/lock", dir) != ST_OK) {
        return false;
    }
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (*fd < 0) {
        return false;
    }
    if (flock(*fd, LOCK_EX | LOCK_NB) < 0) {
        os_close(fd);
        return false;
    }
    return true;
}

bool
os_runtime_is_name(const char *name)
{
    return strlen(name) == 8 && strspn(name, "0123456789abcdef") == 8;
}

/* ---- the standing runtime -------------------------------------------------------------------- */

static int
current_path(const char *temp, char *out, size_t capacity)
{
    return os_path(out, capacity, "%s/ray_current_cluster", temp);
}

bool
os_runtime_current(const char *temp, char *out, size_t capacity)
{
    char path[OS_RUNTIME_PATH_MAX];
    struct stat st;
    out[0] = '\0';
    if (current_path(temp, path, sizeof(path)) != ST_OK || lstat(path, &st) < 0 ||
        !S_ISREG(st.st_mode) || st.st_uid != geteuid() || os_read_text(path, out, capacity) <= 0) {
        return false;
    }
    out[strcspn(out, "\n")] = '\0';
    return out[0] == '/';
}

int
os_runtime_set_current(const char *temp, const char *address)
{
    char path[OS_RUNTIME_PATH_MAX];
    TRY(current_path(temp, path, sizeof(path)));
    return os_file_write(path, address, strlen(address), 0600);
}

void
os_runtime_drop_current(const char *temp, const char *address)
{
    char path[OS_RUNTIME_PATH_MAX], now[OS_RUNTIME_PATH_MAX];
    if (os_runtime_current(temp, now, sizeof(now)) && strcmp(now, address) == 0 &&
        current_path(temp, path, sizeof(path)) == ST_OK) {
        (void)unlink(path);
    }
}

bool
os_runtime_answers(const char *address, int *pid)
{
    int fd = -1;
    pid_t peer = 0;
    uid_t uid = 0;
    if (os_sock_connect(address, &fd) != ST_OK) {
        return false;
    }
    const bool ours = os_sock_peer(fd, &peer, &uid) == ST_OK && uid == geteuid();
    os_close(&fd);
    if (pid) {
        *pid = (int)peer;
    }
    return ours;
}

/* ---- all of them ----------------------------------------------------------------------------- */

struct each {
    const char *base;
    bool (*fn)(void *ctx, const char *address, bool standing);
    void *ctx;
    bool over; /* fn has said so */
};

static bool
look_at(void *ctx, const char *name)
{
    struct each *each = ctx;
    char dir[OS_RUNTIME_PATH_MAX], path[OS_RUNTIME_PATH_MAX];
    int lock = -1;
    if (!os_runtime_is_name(name) ||
        os_path(dir, sizeof(dir), "%s/%s", each->base, name) != ST_OK || !os_dir_private(dir)) {
        return true;
    }
    if (os_runtime_take_lock(dir, &lock)) {
        os_close(&lock); /* dead: the next runtime sweeps it */
        return true;
    }
    if (os_path(path, sizeof(path), "%s/standing", dir) != ST_OK) {
        return true;
    }
    const bool standing = access(path, F_OK) == 0;
    if (os_path(path, sizeof(path), "%s/raylet", dir) != ST_OK) {
        return true;
    }
    each->over = !each->fn(each->ctx, path, standing);
    return !each->over;
}

static int
look_in(struct each *each, const char *base)
{
    each->base = base;
    return os_dir_private(base) ? os_dir_each(base, look_at, each) : ST_OK;
}

/* What follows in a name of /tmp that is one of this user's bases: "" for the usual one, else what
 * makes it one runtime's own. NULL: it is something else. */
static const char *
after_base_name(const char *name)
{
    char plain[OS_RUNTIME_BASE_MAX];
    const int n = snprintf(plain, sizeof(plain), ".ray-%u", (unsigned)geteuid());
    if (strncmp(name, plain, (size_t)n) != 0) {
        return NULL;
    }
    const char *rest = name + n;
    return *rest == '\0' || (*rest == '-' && os_runtime_is_name(rest + 1)) ? rest : NULL;
}

void
os_runtime_drop_base(const char *base)
{
    const char *rest = strncmp(base, "/tmp/", 5) == 0 ? after_base_name(base + 5) : NULL;
    if (rest && *rest != '\0') {
        (void)rmdir(base); /* only when it is empty */
    }
}

static bool
look_at_base(void *ctx, const char *name)
{
    struct each *each = ctx;
    char base[OS_RUNTIME_BASE_MAX];
    if (after_base_name(name) && os_path(base, sizeof(base), "/tmp/%s", name) == ST_OK &&
        look_in(each, base) != ST_OK) {
        return true; /* it has gone meanwhile */
    }
    return !each->over;
}

int
os_runtime_each(bool (*fn)(void *ctx, const char *address, bool standing), void *ctx)
{
    char base[OS_RUNTIME_BASE_MAX];
    struct each each = { .fn = fn, .ctx = ctx };
    return user_base(base) ? look_in(&each, base) : os_dir_each("/tmp", look_at_base, &each);
}
