/* SPDX-License-Identifier: Apache-2.0 */
/* Unix stream sockets. See os_sock.h. */
#include "os/os_sock.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/status.h"
#include "os/os_basic.h"

static int
address(const char *path, struct sockaddr_un *out)
{
    const size_t length = strlen(path);
    if (length == 0 || length > OS_SOCK_PATH_MAX) {
        return st_fail(ST_INVALID_ARGUMENT, "socket path '%s' is longer than %d bytes", path,
                       OS_SOCK_PATH_MAX);
    }
    memset(out, 0, sizeof(*out));
    out->sun_family = AF_UNIX;
    memcpy(out->sun_path, path, length);
    return ST_OK;
}

static int
make_socket(int *fd)
{
    *fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return *fd >= 0 ? ST_OK : st_fail_errno(ST_SYSTEM, errno, "socket");
}

int
os_sock_listen(const char *path, int *fd)
{
    struct sockaddr_un to;
    *fd = -1;
    TRY(address(path, &to));
    int made = -1;
    TRY(make_socket(&made));
    (void)unlink(path);
    if (bind(made, (struct sockaddr *)&to, sizeof(to)) != 0 || listen(made, 4096) != 0) {
        const int status = st_fail_errno(ST_SYSTEM, errno, "listen at %s", path);
        os_close(&made);
        return status;
    }
    *fd = made;
    return ST_OK;
}

int
os_sock_connect(const char *path, int *fd)
{
    struct sockaddr_un to;
    *fd = -1;
    TRY(address(path, &to));
    int made = -1;
    TRY(make_socket(&made));
    if (connect(made, (struct sockaddr *)&to, sizeof(to)) != 0) {
        const int status = st_fail_errno(errno == EAGAIN ? ST_WOULD_BLOCK : ST_CONNECTION, errno,
                                         "connect to %s", path);
        os_close(&made);
        return status;
    }
    *fd = made;
    return ST_OK;
}

int
os_sock_accept(int listener, int *fd)
{
    *fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (*fd >= 0) {
        return ST_OK;
    }
    if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED) {
        return ST_WOULD_BLOCK;
    }
    return st_fail_errno(ST_SYSTEM, errno, "accept");
}

int
os_sock_pair(int fds[2])
{
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) != 0) {
        fds[0] = fds[1] = -1;
        return st_fail_errno(ST_SYSTEM, errno, "socketpair");
    }
    return ST_OK;
}

int
os_sock_peer(int fd, pid_t *pid, uid_t *uid)
{
    struct ucred who;
    socklen_t size = sizeof(who);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) != 0) {
        return st_fail_errno(ST_SYSTEM, errno, "credentials of a peer");
    }
    *pid = who.pid;
    *uid = who.uid;
    return ST_OK;
}

int64_t
os_sock_send(int fd, const struct iovec *iov, int count, const int *fds, int fd_count)
{
    ASSERT(fd_count >= 0 && fd_count <= OS_SOCK_FDS_MAX);
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * OS_SOCK_FDS_MAX)];
    } control;
    struct msghdr message = { .msg_iovlen = (size_t)count };
    /* sendmsg only reads the vector. */
    memcpy(&message.msg_iov, &iov, sizeof(iov));
    if (fd_count > 0) {
        const size_t bytes = sizeof(int) * (size_t)fd_count;
        memset(&control, 0, sizeof(control));
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(bytes);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(bytes);
        memcpy(CMSG_DATA(header), fds, bytes);
    }
    for (;;) {
        const ssize_t n = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0) {
            return n;
        }
        if (errno == EINTR) {
            continue;
        }
        if (errno == EAGAIN || errno == ENOBUFS) {
            return 0;
        }
        if (errno == EPIPE || errno == ECONNRESET) {
            return ST_CLOSED;
        }
        return st_fail_errno(ST_SYSTEM, errno, "send");
    }
}

static void
take_fds(struct msghdr *message, int *fds, int *fd_count)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        const size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
            if (*fd_count < OS_SOCK_FDS_MAX) {
                fds[(*fd_count)++] = fd;
            } else {
                os_close(&fd);
            }
        }
    }
}

int64_t
os_sock_receive(int fd, void *buf, size_t size, int *fds, int *fd_count)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * OS_SOCK_FDS_MAX)];
    } control;
    struct iovec iov = { .iov_base = buf, .iov_len = size };
    struct msghdr message = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof(control.bytes),
    };
    for (;;) {
        const ssize_t n = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (n > 0) {
            take_fds(&message, fds, fd_count);
            return n;
        }
        if (n == 0) {
            return ST_CLOSED;
        }
        if (errno == EINTR) {
            continue;
        }
        if (errno == EAGAIN) {
            return 0;
        }
        if (errno == ECONNRESET) {
            return ST_CLOSED;
        }
        return st_fail_errno(ST_SYSTEM, errno, "receive");
    }
}

void
os_sock_shutdown(int fd)
{
    (void)shutdown(fd, SHUT_RDWR);
}
