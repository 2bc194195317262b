/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The zygote's side of making workers: ray_zygote_run of ray.h. The packets are in proto/zygote.h,
 * the reasons in docs/protocols/processes.md.
 *
 * Single threaded, and everything here may run in an interpreter that has been warmed up but holds
 * no connection and no store mapping. Intermediates are reaped by the kernel (SIGCHLD ignored), so
 * the zygote never waits for anything but its next request.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/status.h"
#include "os/os_basic.h"
#include "os/os_proc.h"
#include "ray/ray.h"
#include "worker/wk_zygote_io.h"

static int
open_zygote_fd(int *out)
{
    const char *text = getenv("RAY_ZYGOTE_FD");
    char *end = NULL;
    const long fd = text ? strtol(text, &end, 10) : -1;
    if (!text || end == text || *end != '\0' || fd < 3 || fd > 1 << 20 ||
        fcntl((int)fd, F_SETFD, FD_CLOEXEC) < 0) {
        return st_fail(ST_NOT_SUPPORTED,
                       "this process was not started as a zygote: RAY_ZYGOTE_FD is %s",
                       text ? text : "not set");
    }
    (void)unsetenv("RAY_ZYGOTE_FD");
    *out = (int)fd;
    return ST_OK;
}

static int
send_packet(int fd, const void *packet, size_t size)
{
    for (;;) {
        const ssize_t n = send(fd, packet, size, MSG_NOSIGNAL);
        if (n == (ssize_t)size) {
            return ST_OK;
        }
        if (n >= 0 || errno != EINTR) {
            return st_fail_errno(ST_CONNECTION, n < 0 ? errno : EIO, "can't tell the raylet");
        }
    }
}

void
wk_zygote_close_fds(struct wk_fork_request *request)
{
    for (int i = 0; i < ZYGOTE_FORK_FDS; i++) {
        os_close(&request->fds[i]);
    }
}

/* Takes the descriptors of a message; how many came. Those beyond the expected ones are closed. */
static int
take_fds(struct msghdr *message, struct wk_fork_request *request)
{
    int count = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        const size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int fd = -1;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
            if (count < ZYGOTE_FORK_FDS) {
                request->fds[count] = fd;
            } else {
                os_close(&fd);
            }
            count++;
        }
    }
    return count;
}

/* Whether `size` bytes are whole NAME=value strings. */
static bool
environment_is_sound(const char *environment, size_t size)
{
    if (size > 0 && environment[size - 1] != '\0') {
        return false;
    }
    for (size_t at = 0; at < size; at += strlen(environment + at) + 1) {
        const char *equals = strchr(environment + at, '=');
        if (!equals || equals == environment + at) {
            return false;
        }
    }
    return true;
}

int
wk_zygote_receive(int fd, struct wk_fork_request *request)
{
    for (int i = 0; i < ZYGOTE_FORK_FDS; i++) {
        request->fds[i] = -1;
    }
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * 8)];
    } control;
    struct iovec parts[2] = {
        { &request->head, sizeof(request->head) },
        { request->environment, ZYGOTE_ENV_MAX },
    };
    struct msghdr message = {
        .msg_iov = parts,
        .msg_iovlen = 2,
        .msg_control = &control,
        .msg_controllen = sizeof(control),
    };
    ssize_t n = -1;
    do {
        n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return st_fail_errno(ST_CONNECTION, errno, "can't read from the raylet");
    }
    if (n == 0) {
        return ST_CLOSED;
    }
    const int fds = take_fds(&message, request);
    const struct zygote_fork *h = &request->head;
    if ((size_t)n < sizeof(*h) || h->head.magic != ZYGOTE_MAGIC || h->head.kind != ZYGOTE_FORK ||
        h->env_size != (size_t)n - sizeof(*h) || fds != ZYGOTE_FORK_FDS ||
        !environment_is_sound(request->environment, h->env_size) ||
        (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) {
        wk_zygote_close_fds(request);
        return st_fail(ST_PROTOCOL, "the raylet sent a malformed request of %zd bytes", n);
    }
    request->environment[h->env_size] = '\0';
    return ST_OK;
}

/*
 * In the worker: waits until the intermediate has ended and the raylet is the parent, and only then
 * asks to die with it. The wait is for the parent's death signal, which the kernel sends after it
 * has given the child its new parent.
 */
static int
wait_for_adoption(pid_t intermediate, pid_t raylet)
{
    sigset_t usr2, before;
    sigemptyset(&usr2);
    sigaddset(&usr2, SIGUSR2);
    if (sigprocmask(SIG_BLOCK, &usr2, &before) < 0) {
        return st_fail_errno(ST_SYSTEM, errno, "can't block a signal");
    }
    TRY(os_proc_on_parent_death(SIGUSR2));
    while (getppid() == intermediate) {
        (void)sigwaitinfo(&usr2, NULL);
    }
    TRY(os_proc_on_parent_death(SIGKILL));
    if (getppid() != raylet) {
        return st_fail(ST_RAYLET_DIED, "the raylet has gone");
    }
    const struct timespec none = { 0, 0 };
    while (sigtimedwait(&usr2, NULL, &none) > 0) {
    }
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
    return ST_OK;
}

/* The worker's first steps. Returns 1, the result of ray_zygote_run in a worker. */
static int
become_worker(struct wk_fork_request *request, pid_t intermediate, const sigset_t *mask)
{
    (void)signal(SIGCHLD, SIG_DFL);
    (void)sigprocmask(SIG_SETMASK, mask, NULL);
    if (wait_for_adoption(intermediate, request->head.raylet_pid) || os_proc_become_subreaper() ||
        dup2(request->fds[0], STDOUT_FILENO) < 0 || dup2(request->fds[1], STDERR_FILENO) < 0) {
        _exit(1);
    }
    wk_zygote_close_fds(request);
    for (char *p = request->environment; *p; p += strlen(p) + 1) {
        char *equals = strchr(p, '=');
        if (!equals || equals == p) {
            _exit(1);
        }
        *equals = '\0';
        if (setenv(p, equals + 1, 1) < 0) {
            _exit(1);
        }
        p = equals + 1;
    }
    return 1;
}

/*
 * The intermediate: makes the worker, tells the raylet its number, and ends when that is
 * registered. It shares the zygote's memory (vfork), which waits meanwhile: one copy of the memory
 * map is made for a worker, not two. So it changes nothing but its own part of the stack, and
 * returns only in the worker, whose memory is its own.
 */
static int
be_intermediate(struct wk_fork_request *request, const sigset_t *mask)
{
    const pid_t self = getpid();
    const int birth = request->fds[2];
    /* A worker that dies this early must not vanish: it is the raylet that reaps it, in a moment.
     */
    (void)signal(SIGCHLD, SIG_DFL);
    struct zygote_born born = {
        .head = { .magic = ZYGOTE_MAGIC, .kind = ZYGOTE_BORN },
    };
    memcpy(born.token, request->head.token, sizeof(born.token));
    const pid_t worker = fork();
    if (worker == 0) {
        return become_worker(request, self, mask);
    }
    if (worker < 0) {
        born.error = errno;
    } else {
        born.pid = worker;
    }
    struct zygote_head go = { 0 };
    ssize_t n = -1;
    if (send_packet(birth, &born, sizeof(born)) == ST_OK) {
        do {
            n = recv(birth, &go, sizeof(go), 0);
        } while (n < 0 && errno == EINTR);
    }
    if (worker > 0 &&
        (n != (ssize_t)sizeof(go) || go.magic != ZYGOTE_MAGIC || go.kind != ZYGOTE_GO)) {
        (void)kill(worker, SIGKILL); /* the raylet doesn't want it, or has gone */
    }
    _exit(0);
}

int
ray_zygote_run(void)
{
    int fd = -1;
    TRY(open_zygote_fd(&fd));
    (void)signal(SIGCHLD, SIG_IGN); /* intermediates leave no zombies */
    const struct zygote_head ready = { .magic = ZYGOTE_MAGIC, .kind = ZYGOTE_READY };
    int status = send_packet(fd, &ready, sizeof(ready));
    /* Static, so that a warm interpreter's stack stays small in every child. */
    static struct wk_fork_request request;
    while (status == ST_OK) {
        status = wk_zygote_receive(fd, &request);
        if (status != ST_OK) {
            break;
        }
        /* No handler may run in the intermediate. */
        sigset_t all, mask;
        sigfillset(&all);
        (void)sigprocmask(SIG_BLOCK, &all, &mask);
        const pid_t child = OS_VFORK();
        if (child == 0) {
            const int in_worker = be_intermediate(&request, &mask);
            os_close(&fd);
            return in_worker;
        }
        (void)sigprocmask(SIG_SETMASK, &mask, NULL);
        /* A failed fork is told by the end of the birth pair. */
        wk_zygote_close_fds(&request);
    }
    os_close(&fd);
    return status == ST_CLOSED ? 0 : status;
}
