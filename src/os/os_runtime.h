/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where this user's runtimes are on this machine: what the raylet makes, and what a driver or the
 * command line looks for.
 *
 *   <runtime base>/<8 hex digits>/     one runtime: its sockets ("raylet"), `lock`, `session`, and
 *                                      `standing` when it outlives whoever started it
 *   <temp>/ray_current_cluster         the address of the standing runtime: the path of its
 *                                    raylet's socket
 *
 * The runtime base is ray-c in XDG_RUNTIME_DIR when that is private, else /tmp/.ray-<uid>. A lock
 * that can be had (flock) is one of a dead runtime. Files of other users are never heeded.
 */
#ifndef RAY_OS_RUNTIME_H
#define RAY_OS_RUNTIME_H

#include <stdbool.h>
#include <stddef.h>

#include "base/assert.h"

enum { OS_RUNTIME_BASE_MAX = 62, OS_RUNTIME_PATH_MAX = 256 };

/* The directory that sessions are made in: `wanted`, else /tmp/ray, or, when that can't be written
 * or others could change what is made there, one of the user's own. It exists afterwards. */
int os_runtime_temp(const char *wanted, char *out, size_t capacity) MUST_USE;
/* The base of socket directories, made when missing. */
int os_runtime_base(char out[OS_RUNTIME_BASE_MAX]) MUST_USE;
/* Removes a base whose name is of one runtime alone, when that has gone from it. */
void os_runtime_drop_base(const char *base);
/* Takes the lock of a runtime's directory; false when it lives, or can't be opened. */
bool os_runtime_take_lock(const char *dir, int *fd);
bool os_runtime_is_name(const char *name);

/* The standing runtime of the directory `temp`: false when none is named there, or by somebody
 * else. Whether it lives shows when one connects. */
bool os_runtime_current(const char *temp, char *out, size_t capacity);
int os_runtime_set_current(const char *temp, const char *address) MUST_USE;
/* Forgets it, if it is `address`. */
void os_runtime_drop_current(const char *temp, const char *address);
/* Whether somebody of this user listens there; *pid (may be NULL): who. */
bool os_runtime_answers(const char *address, int *pid);

/* Calls fn with the raylet's socket of each living runtime of this user, until it returns false.
 * Makes nothing. */
int os_runtime_each(bool (*fn)(void *ctx, const char *address, bool standing), void *ctx) MUST_USE;

#endif
