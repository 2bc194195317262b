/* SPDX-License-Identifier: Apache-2.0 */
/* The raylet's parent. See rl_run_io.h. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/status.h"
#include "net/net_frame.h"
#include "os/os_basic.h"
#include "os/os_dir.h"
#include "os/os_log.h"
#include "os/os_proc.h"
#include "proto/kinds.h"
#include "proto/node.pb-c.h"
#include "raylet/rl_run_io.h"

enum { GUARD_CHILDREN = 4096, GUARD_TAIL = 1500 };

/* How long a raylet may live on after the driver that it ends with. It needs less to end in order.
 */
#define GUARD_PATIENCE_NS UINT64_C(1600000000)

static int
to_dev_null(void)
{
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    for (int i = 0; i < 3; i++) {
        if (fd != i && dup2(fd, i) < 0) {
            return -1;
        }
    }
    if (fd > 2) {
        os_close(&fd);
    }
    return 0;
}

/* The last bytes of the raylet's log: why it ended, if it knew. */
static void
read_tail(const struct rl_session *session, char *out, size_t capacity)
{
    out[0] = '\0';
    char path[RL_PATH_MAX + 32];
    (void)snprintf(path, sizeof(path), "%s/logs/raylet.err", session->dir);
    int fd = session->dir[0] ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) {
        return;
    }
    const off_t size = lseek(fd, 0, SEEK_END);
    const off_t from = size > (off_t)capacity - 1 ? size - ((off_t)capacity - 1) : 0;
    const ssize_t n = pread(fd, out, capacity - 1, from);
    out[n > 0 ? n : 0] = '\0';
    os_close(&fd);
    for (char *p = out; *p; p++) {
        if ((unsigned char)*p >= 0x80) {
            *p = '?'; /* a cut character would make the message unreadable */
        }
    }
}

/* One frame, written at once: a socket pair that nobody reads takes this much. */
static void
tell_driver(int boot_fd, const Ray__Node__RayletExited *m)
{
    const size_t size = ray__node__raylet_exited__get_packed_size(m);
    uint8_t *body = malloc(size + 1);
    if (!body) {
        return;
    }
    (void)ray__node__raylet_exited__pack(m, body);
    const struct net_frame_header header = { .length = (uint32_t)(NET_FRAME_HEADER + size),
                                             .kind = NODE_RAYLET_EXITED };
    struct iovec iov[2] = { { (void *)(uintptr_t)&header, sizeof(header) }, { body, size } };
    const struct msghdr message = { .msg_iov = iov, .msg_iovlen = 2 };
    (void)sendmsg(boot_fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT); /* the driver may be gone */
    free(body);
}

static void
report(int boot_fd, const struct rl_session *session, const struct os_exit *exit)
{
    char how[128], tail[GUARD_TAIL], text[GUARD_TAIL + 512];
    read_tail(session, tail, sizeof(tail));
    (void)os_exit_text(exit, how, sizeof(how));
    const bool full = session->dir[0] && os_dir_is_full(session->dir); /* for its log, too */
    (void)snprintf(text, sizeof(text),
                   "the raylet (pid %d) has ended: %s. Its log is in %s/logs%s%s%s", (int)exit->pid,
                   how, session->dir, full ? ", on a disk that has no room left" : "",
                   tail[0] ? "; its last lines:\n" : ".", tail);
    Ray__Node__RayletExited m = RAY__NODE__RAYLET_EXITED__INIT;
    m.exit_code = exit->code;
    m.signal = exit->signal;
    m.text = text;
    tell_driver(boot_fd, &m);
    if ((exit->code != 0 || exit->signal != 0) && session->dir[0]) {
        char path[RL_PATH_MAX + 32];
        (void)snprintf(path, sizeof(path), "%s/logs/raylet_exit.txt", session->dir);
        if (os_file_write(path, text, strlen(text), 0644) != ST_OK) {
            os_log(OS_LOG_WARN, "%s", st_last()->text);
        }
    }
}

/* Everything that the raylet left is this process's child now, or becomes it when its parent dies.
 */
static void
kill_the_rest(void)
{
    pid_t *pids = malloc(sizeof(*pids) * GUARD_CHILDREN);
    for (;;) {
        const int64_t n = pids ? os_proc_children(pids, GUARD_CHILDREN) : 0;
        for (int64_t i = 0; i < n && i < GUARD_CHILDREN; i++) {
            os_proc_signal(pids[i], SIGKILL);
        }
        struct os_exit exit;
        const int status = os_proc_reap_wait(&exit);
        if (status == ST_NOT_FOUND || (status != ST_OK && status != ST_INTERRUPTED)) {
            break;
        }
    }
    free(pids);
}

/* Until the raylet has ended. One that can't see the driver's end, or can't act on it (stopped, or
 * stuck), is killed. */
static void
watch(pid_t raylet, int driver_pidfd)
{
    int raylet_pidfd = -1;
    if (driver_pidfd < 0 || os_pidfd_open(raylet, &raylet_pidfd) != ST_OK) {
        return; /* its end is waited for in any case */
    }
    struct pollfd fds[2] = { { .fd = raylet_pidfd, .events = POLLIN },
                             { .fd = driver_pidfd, .events = POLLIN } };
    uint64_t deadline_ns = UINT64_MAX;
    while (!(fds[0].revents & POLLIN)) {
        const uint64_t now = os_now_ns();
        if (now >= deadline_ns) {
            os_proc_signal(raylet, SIGKILL);
            break;
        }
        const int timeout_ms =
            deadline_ns == UINT64_MAX ? -1 : (int)((deadline_ns - now) / 1000000) + 1;
        if (poll(fds, 2, timeout_ms) > 0 && (fds[1].revents & POLLIN)) {
            fds[1].fd = -1;
            deadline_ns = os_now_ns() + GUARD_PATIENCE_NS;
        }
    }
    os_close(&raylet_pidfd);
}

static _Noreturn void
guard(int boot_fd, int driver_pidfd, pid_t raylet, struct rl_session *shared)
{
    struct os_exit exit;
    memset(&exit, 0, sizeof(exit));
    watch(raylet, driver_pidfd);
    while (exit.pid != raylet) {
        const int status = os_proc_reap_wait(&exit);
        if (status != ST_OK && status != ST_INTERRUPTED) {
            break; /* not seen: there is a child until it is reaped here */
        }
    }
    shared->dir[sizeof(shared->dir) - 1] = '\0';
    shared->socket_dir[sizeof(shared->socket_dir) - 1] = '\0';
    const bool orderly = exit.code == 0 && exit.signal == 0;
    if (!orderly) {
        report(boot_fd, shared, &exit); /* first of all: somebody waits to know why */
    }
    kill_the_rest();
    rl_session_remove(shared);
    if (orderly) {
        report(boot_fd, shared, &exit);
    }
    _exit(0);
}

static _Noreturn void
be_raylet(pid_t guard_pid, const struct rl_run_config *config)
{
    /* Without its guard the raylet ends in good order. */
    if (os_proc_on_parent_death(SIGTERM) != ST_OK || getppid() != guard_pid) {
        _exit(1);
    }
    exit(rl_raylet_run(config));
}

static _Noreturn void
be_guard(int boot_fd, int driver_pidfd)
{
    struct rl_session *shared =
        mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (setsid() < 0 || to_dev_null() < 0 || shared == MAP_FAILED ||
        os_proc_become_subreaper() != ST_OK) {
        _exit(1);
    }
    shared->lock = -1;
    const struct rl_run_config config = { .boot_fd = boot_fd,
                                          .driver_pidfd = driver_pidfd,
                                          .shared = shared };
    const pid_t self = getpid();
    const pid_t raylet = fork();
    if (raylet == 0) {
        be_raylet(self, &config);
    }
    if (raylet < 0) {
        _exit(1);
    }
    guard(boot_fd, driver_pidfd, raylet, shared);
}

int
rl_guard_main(int boot_fd, int driver_pidfd)
{
    if (fcntl(boot_fd, F_SETFD, FD_CLOEXEC) < 0 ||
        (driver_pidfd >= 0 && fcntl(driver_pidfd, F_SETFD, FD_CLOEXEC) < 0)) {
        (void)st_fail_errno(ST_INVALID_ARGUMENT, errno, "a descriptor that was named isn't open");
        os_log(OS_LOG_ERROR, "%s", st_last()->text);
        return 1;
    }
    const pid_t child = fork();
    if (child == 0) {
        be_guard(boot_fd, driver_pidfd);
    }
    if (child < 0) {
        (void)st_fail_errno(ST_SYSTEM, errno, "can't fork");
        os_log(OS_LOG_ERROR, "%s", st_last()->text);
        return 1;
    }
    return 0;
}
