/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Directories of one runtime.
 *
 *   <temp>/session_<time>_<pid>/        kept: logs/ and how the raylet ended
 *   <temp>/session_latest               link to the newest
 *   <runtime base>/<8 hex digits>/      sockets and a lock; mode 0700, gone with the runtime
 *
 * os_runtime.h tells more of both. Names are short, since a socket's path has at most 107 bytes.
 * The lock is held (flock) by guard and raylet: a directory whose lock can be had is what a dead
 * runtime left, and is swept.
 */
#ifndef RAY_RL_SESSION_IO_H
#define RAY_RL_SESSION_IO_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/assert.h"

enum { RL_PATH_MAX = 256, RL_SOCKET_DIR_MAX = 72 };

struct rl_session {
    char dir[RL_PATH_MAX]; /* absolute */
    char name[128];        /* session_<time>_<pid> */
    char socket_dir[RL_SOCKET_DIR_MAX];
    char temp[RL_PATH_MAX - 128]; /* that `dir` is in */
    bool standing;                /* outlives who started it, and is found by its file there */
    int lock;                     /* -1 none */
};

/* Makes both directories. `temp`: "" for /tmp/ray, or, when that can't be written, one of the
 * user's own. */
int rl_session_open(struct rl_session *session, const char *temp, pid_t pid) MUST_USE;
/* Makes it the one that drivers find. ST_EXISTS: there is another, which lives. */
int rl_session_stand(struct rl_session *session) MUST_USE;
/* Removes everything but logs. Also called by the guard, after the raylet is gone. */
void rl_session_remove(const struct rl_session *session);
/* Removes what dead runtimes of this user left. */
void rl_session_sweep(const struct rl_session *own);

#endif
