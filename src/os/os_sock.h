/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unix stream sockets: non-blocking, close-on-exec, with descriptor passing and peer credentials.
 */
#ifndef RAY_OS_SOCK_H
#define RAY_OS_SOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/assert.h"

enum {
    OS_SOCK_PATH_MAX = 107, /* bytes of a socket's path without its NUL */
    OS_SOCK_FDS_MAX = 16,   /* descriptors in one message */
};

/* Listens at `path`, replacing a stale file. */
int os_sock_listen(const char *path, int *fd) MUST_USE;
/* Connects; a unix connect doesn't wait unless the listener's queue is full. */
int os_sock_connect(const char *path, int *fd) MUST_USE;
/* Accepts one connection: ST_OK, ST_WOULD_BLOCK, or ST_SYSTEM. */
int os_sock_accept(int listener, int *fd) MUST_USE;
int os_sock_pair(int fds[2]) MUST_USE;

/* Process and user at the other end, as they were when it connected. */
int os_sock_peer(int fd, pid_t *pid, uid_t *uid) MUST_USE;

/* Sends what fits now. The number of bytes sent, 0 when nothing fits, or a status. Descriptors go
 * with the first byte, or not at all when 0 is returned. Never raises SIGPIPE. */
int64_t os_sock_send(int fd, const struct iovec *iov, int count, const int *fds, int fd_count);

/* Receives what is there. Bytes, 0 when nothing is there now, ST_CLOSED at the end of the stream,
 * or ST_SYSTEM. Received descriptors are appended to fds (capacity OS_SOCK_FDS_MAX from *fd_count
 * on; those beyond are closed). */
int64_t os_sock_receive(int fd, void *buf, size_t size, int *fds, int *fd_count);

/* Ends both directions: the other side reads the end of the stream, and so does this one. */
void os_sock_shutdown(int fd);

#endif
