/* SPDX-License-Identifier: Apache-2.0 */
/* Session and socket directories. See rl_session_io.h. */
#include "raylet/rl_session_io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/id.h"
#include "base/status.h"
#include "os/os_basic.h"
#include "os/os_dir.h"
#include "os/os_log.h"
#include "os/os_runtime.h"

/* ---- the session directory ------------------------------------------------------------------- */

static int
session_name(char *out, size_t capacity, pid_t pid)
{
    const uint64_t now_us = os_wall_ns() / 1000;
    const time_t seconds = (time_t)(now_us / 1000000);
    struct tm local;
    char when[64];
    if (!localtime_r(&seconds, &local) ||
        strftime(when, sizeof(when), "%Y-%m-%d_%H-%M-%S", &local) == 0) {
        return st_fail(ST_SYSTEM, "can't tell the time");
    }
    return os_path(out, capacity, "session_%s_%06u_%d", when, (unsigned)(now_us % 1000000),
                   (int)pid);
}

static int
make_session_dir(struct rl_session *s, const char *temp, pid_t pid)
{
    char path[RL_PATH_MAX];
    char *const base = s->temp;
    TRY(os_runtime_temp(temp, s->temp, sizeof(s->temp)));
    TRY(session_name(s->name, sizeof(s->name), pid));
    TRY(os_path(s->dir, sizeof(s->dir), "%s/%s", base, s->name));
    TRY(os_dir_make_new(s->dir, 0755));
    TRY(os_path(path, sizeof(path), "%s/logs", s->dir));
    TRY(os_dir_make_new(path, 0755));
    TRY(os_path(path, sizeof(path), "%s/session_latest", base));
    if (os_link_replace(s->dir, path) != ST_OK) {
        os_log(OS_LOG_WARN, "%s", st_last()->text); /* somebody else's: no reason not to start */
    }
    return ST_OK;
}

/* ---- the socket directory -------------------------------------------------------------------- */

static int
fill_socket_dir(struct rl_session *s, const char *hidden)
{
    char path[RL_PATH_MAX];
    if (!os_runtime_take_lock(hidden, &s->lock)) {
        return st_fail_errno(ST_SYSTEM, errno, "can't lock %s", hidden);
    }
    TRY(os_path(path, sizeof(path), "%s/session", hidden));
    TRY(os_file_write(path, s->dir, strlen(s->dir), 0600));
    if (rename(hidden, s->socket_dir) < 0) {
        return st_fail_errno(ST_SYSTEM, errno, "can't make %s", s->socket_dir);
    }
    return ST_OK;
}

static int
make_socket_dir(struct rl_session *s)
{
    char base[OS_RUNTIME_BASE_MAX], hidden[RL_SOCKET_DIR_MAX + 1];
    TRY(os_runtime_base(base));
    uint32_t random = 0;
    os_random(&random, sizeof(random));
    TRY(os_path(s->socket_dir, sizeof(s->socket_dir), "%s/%08x", base, random));
    /* It gets its name when it is locked, so that no sweeper takes it for a dead one. */
    TRY(os_path(hidden, sizeof(hidden), "%s/.%08x", base, random));
    TRY(os_dir_make_new(hidden, 0700));
    const int status = fill_socket_dir(s, hidden);
    if (status != ST_OK) {
        const struct st_error error = *st_last();
        (void)!os_dir_remove(hidden);
        *st_last() = error;
    }
    return status;
}

int
rl_session_open(struct rl_session *s, const char *temp, pid_t pid)
{
    memset(s, 0, sizeof(*s));
    s->lock = -1;
    TRY(make_session_dir(s, temp, pid));
    return make_socket_dir(s);
}

static int
stand(struct rl_session *s)
{
    char path[RL_PATH_MAX], address[RL_PATH_MAX], other[RL_PATH_MAX];
    TRY(os_path(address, sizeof(address), "%s/raylet", s->socket_dir));
    if (os_runtime_current(s->temp, other, sizeof(other)) && os_runtime_answers(other, NULL)) {
        return st_fail(ST_EXISTS,
                       "a Ray runtime is already running at %s: join it, stop it with `ray stop`, "
                       "or use another --temp-dir",
                       other);
    }
    TRY(os_path(path, sizeof(path), "%s/standing", s->socket_dir));
    TRY(os_file_write(path, "", 0, 0600));
    s->standing = true;
    return os_runtime_set_current(s->temp, address);
}

int
rl_session_stand(struct rl_session *s)
{
    char base[OS_RUNTIME_BASE_MAX];
    TRY(os_runtime_base(base));
    /* Of several that are started at once, one looks and stands before the next one looks. */
    int lock = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (lock < 0 || flock(lock, LOCK_EX) < 0) {
        os_close(&lock);
        return st_fail_errno(ST_SYSTEM, errno, "can't lock %s", base);
    }
    const int status = stand(s);
    os_close(&lock);
    return status;
}

/* ---- removal --------------------------------------------------------------------------------- */

/* Of the path of the socket directory, the part that is its base. */
static int
base_length(const struct rl_session *s)
{
    const char *slash = strrchr(s->socket_dir, '/');
    return slash ? (int)(slash - s->socket_dir) : 0;
}

/* Files of a session that don't outlive its runtime. */
static void
remove_session_files(const char *dir)
{
    static const char *const names[] = { "gcs.db", "gcs.db-wal", "gcs.db-shm", "gcs.db-journal" };
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        char path[RL_PATH_MAX + 32];
        if (os_path(path, sizeof(path), "%s/%s", dir, names[i]) == ST_OK) {
            (void)unlink(path);
        }
    }
}

void
rl_session_remove(const struct rl_session *s)
{
    if (s->dir[0] != '\0') {
        remove_session_files(s->dir);
    }
    char address[RL_PATH_MAX];
    if (s->standing && os_path(address, sizeof(address), "%s/raylet", s->socket_dir) == ST_OK) {
        os_runtime_drop_current(s->temp, address);
    }
    if (s->socket_dir[0] != '\0' && os_dir_remove(s->socket_dir) != ST_OK) {
        os_log(OS_LOG_WARN, "%s", st_last()->text);
    }
    char base[RL_SOCKET_DIR_MAX];
    (void)snprintf(base, sizeof(base), "%.*s", base_length(s), s->socket_dir);
    os_runtime_drop_base(base);
}

/* ---- sweeping -------------------------------------------------------------------------------- */

struct sweep {
    const struct rl_session *own;
    char base[OS_RUNTIME_BASE_MAX];
};

/* A directory that never got its name: whoever was to give it that has died. */
static bool
is_unfinished(const struct sweep *sweep, const char *name)
{
    enum { LONG_S = 60 };
    char path[RL_PATH_MAX];
    struct stat st;
    return name[0] == '.' && os_runtime_is_name(name + 1) &&
           os_path(path, sizeof(path), "%s/%s", sweep->base, name) == ST_OK &&
           lstat(path, &st) == 0 && st.st_mtime < (time_t)(os_wall_ns() / 1000000000) - LONG_S;
}

static bool
sweep_one(void *ctx, const char *name)
{
    const struct sweep *sweep = ctx;
    struct rl_session dead = { .lock = -1 };
    if (!(os_runtime_is_name(name) || is_unfinished(sweep, name)) ||
        os_path(dead.socket_dir, sizeof(dead.socket_dir), "%s/%s", sweep->base, name) != ST_OK ||
        strcmp(dead.socket_dir, sweep->own->socket_dir) == 0 || !os_dir_private(dead.socket_dir) ||
        !os_runtime_take_lock(dead.socket_dir, &dead.lock)) {
        return true;
    }
    char path[RL_PATH_MAX];
    if (os_path(path, sizeof(path), "%s/session", dead.socket_dir) == ST_OK) {
        const int64_t n = os_read_text(path, dead.dir, sizeof(dead.dir));
        const char *last = n > 0 ? strrchr(dead.dir, '/') : NULL;
        if (!last || strncmp(last, "/session_", 9) != 0) {
            dead.dir[0] = '\0'; /* cut short: nothing to go by */
        }
    }
    os_log(OS_LOG_INFO, "removes what a dead runtime left in %s", dead.socket_dir);
    rl_session_remove(&dead);
    os_close(&dead.lock);
    return true;
}

void
rl_session_sweep(const struct rl_session *own)
{
    struct sweep sweep = { .own = own };
    const int length = base_length(own);
    if (length == 0 || (size_t)length >= sizeof(sweep.base)) {
        return;
    }
    memcpy(sweep.base, own->socket_dir, (size_t)length);
    if (os_dir_each(sweep.base, sweep_one, &sweep) != ST_OK) {
        os_log(OS_LOG_WARN, "%s", st_last()->text);
    }
}
