/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Zygotes, on the raylet's side: one a job, started when its driver says hello, started again when
 * it dies. Requests wait here until it is ready. Packets are in proto/zygote.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "os/os_basic.h"
#include "raylet/rl_io.h"

/* Ends in a row before it was ready, after which those that wait are told. One that ends by itself
 * will do so again; a kill comes from outside and may be the last, so those only count by their
 * time. */
enum { ZYGOTE_EXITS_MAX = 3 };
#define ZYGOTE_KILLED_MAX_NS UINT64_C(60000000000)

/* ---- requests -------------------------------------------------------------------------------- */

/* ST_WOULD_BLOCK when the socket is full. */
static int
send_fork(struct rl_zygote *z, struct rl_process *p)
{
    char environment[ZYGOTE_ENV_MAX];
    const size_t size = rl_worker_environment(p, environment, sizeof(environment));
    struct zygote_fork head = {
        .head = { .magic = ZYGOTE_MAGIC, .kind = ZYGOTE_FORK },
        .raylet_pid = getpid(),
        .env_size = (uint32_t)size,
    };
    memcpy(head.token, p->token, sizeof(head.token));
    struct iovec parts[2] = { { &head, sizeof(head) }, { environment, size } };
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * ZYGOTE_FORK_FDS)];
    } control;
    memset(&control, 0, sizeof(control));
    struct msghdr message = {
        .msg_iov = parts,
        .msg_iovlen = 2,
        .msg_control = &control,
        .msg_controllen = sizeof(control),
    };
    struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int) * ZYGOTE_FORK_FDS);
    memcpy(CMSG_DATA(c), p->birth_fds, sizeof(int) * ZYGOTE_FORK_FDS);
    for (;;) {
        const ssize_t n = sendmsg(z->watch.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0) {
            return ST_OK;
        }
        if (errno == EAGAIN) {
            return ST_WOULD_BLOCK;
        }
        if (errno != EINTR) {
            return st_fail_errno(ST_CONNECTION, errno, "can't ask the zygote");
        }
    }
}

static void
wait_for(struct rl_zygote *z, uint32_t events)
{
    if (net_loop_change(z->job->raylet->loop, &z->watch, events) != ST_OK) {
        os_log(OS_LOG_ERROR, "%s", st_last()->text);
    }
}

/* Sends what waits, as far as the socket takes it. */
static void
send_waiting(struct rl_zygote *z)
{
    while (z->ready) {
        struct list *first = list_first(&z->waiting);
        if (!first) {
            wait_for(z, EPOLLIN);
            return;
        }
        struct rl_process *p = LIST_ENTRY(first, struct rl_process, of_zygote);
        const int status = send_fork(z, p);
        if (status == ST_WOULD_BLOCK) {
            wait_for(z, EPOLLIN | EPOLLOUT);
            return;
        }
        if (status != ST_OK) {
            return; /* it is dying: they wait for the next one */
        }
        list_remove(&p->of_zygote);
        for (int i = 0; i < ZYGOTE_FORK_FDS; i++) {
            os_close(&p->birth_fds[i]);
        }
    }
}

void
rl_zygote_fork(struct rl_zygote *z, struct rl_process *p)
{
    list_push_back(&z->waiting, &p->of_zygote);
    send_waiting(z);
}

static void
close_socket(struct rl_zygote *z)
{
    if (z->watch.fd >= 0) {
        net_loop_remove(z->job->raylet->loop, &z->watch);
        os_close(&z->watch.fd);
    }
    z->ready = false;
}

static void
on_zygote(void *ctx, uint32_t events)
{
    struct rl_zygote *z = ctx;
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        struct zygote_head head;
        const ssize_t n = recv(z->watch.fd, &head, sizeof(head), MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
            close_socket(z); /* its end is seen by reaping */
            return;
        }
        if (n == (ssize_t)sizeof(head) && head.magic == ZYGOTE_MAGIC && head.kind == ZYGOTE_READY) {
            z->ready = true;
            z->exits = 0;
            z->unready_ns = 0;
        }
    }
    send_waiting(z);
}

/* ---- start and end --------------------------------------------------------------------------- */

static int
open_pipe_log(struct rl_zygote *z, struct rl_log *log, bool is_stderr, int *writer)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0) {
        return st_fail_errno(ST_SYSTEM, errno, "can't make a pipe");
    }
    *writer = fds[1];
    if (fcntl(fds[0], F_SETFL, O_NONBLOCK) < 0) {
        os_close(&fds[0]);
        return st_fail_errno(ST_SYSTEM, errno, "can't set up a pipe");
    }
    return rl_log_open(log, fds[0], z->job, NULL, is_stderr);
}

/* The driver's environment and the number of the socket. NULL without memory. */
static char **
make_environment(const Ray__Node__JobConfig *config, char *fd_variable)
{
    char **env = calloc(config->n_environment + 2, sizeof(*env));
    size_t n = 0;
    for (size_t i = 0; env && i < config->n_environment; i++) {
        if (strncmp(config->environment[i], "RAY_ZYGOTE_FD=", 14) != 0) {
            env[n++] = config->environment[i];
        }
    }
    if (env) {
        env[n] = fd_variable;
    }
    return env;
}

static int
spawn(struct rl_zygote *z, int socket_fd, int out, int err)
{
    const Ray__Node__JobConfig *config = z->job->config;
    char variable[64];
    (void)snprintf(variable, sizeof(variable), "RAY_ZYGOTE_FD=%d", socket_fd);
    char **env = make_environment(config, variable);
    const char **argv = calloc(config->n_zygote_argv + 1, sizeof(*argv));
    int status = ST_OUT_OF_MEMORY;
    if (env && argv) {
        for (size_t i = 0; i < config->n_zygote_argv; i++) {
            argv[i] = config->zygote_argv[i];
        }
        const struct os_spawn spec = {
            .argv = argv,
            .envp = (const char *const *)env,
            .cwd = config->working_directory[0] ? config->working_directory : NULL,
            .stdin_fd = -1,
            .stdout_fd = out,
            .stderr_fd = err,
            .keep = &socket_fd,
            .keep_count = 1,
            .new_session = true,
            .die_with_parent = true,
        };
        status = os_proc_spawn(&spec, &z->pid);
    } else {
        (void)st_fail(status, "no memory for a command line");
    }
    free(env);
    free(argv);
    return status;
}

static int
start(struct rl_zygote *z)
{
    struct raylet *r = z->job->raylet;
    rl_log_close(&z->out);
    rl_log_close(&z->err);
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        return st_fail_errno(ST_SYSTEM, errno, "can't make a socket pair");
    }
    int out = -1, err = -1;
    int status = open_pipe_log(z, &z->out, false, &out);
    if (status == ST_OK) {
        status = open_pipe_log(z, &z->err, true, &err);
    }
    if (status == ST_OK) {
        status = spawn(z, pair[1], out, err);
    }
    os_close(&out);
    os_close(&err);
    os_close(&pair[1]);
    if (status != ST_OK) {
        os_close(&pair[0]);
        return status;
    }
    /* Its workers inherit it. */
    os_proc_set_oom_score(z->pid, RL_WORKER_OOM_SCORE);
    char path[96];
    (void)snprintf(path, sizeof(path), "zygote-%d.out", (int)z->pid);
    rl_log_name(&z->out, z->pid, path);
    (void)snprintf(path, sizeof(path), "zygote-%d.err", (int)z->pid);
    rl_log_name(&z->err, z->pid, path);
    z->watch = (struct net_watch){ .fd = pair[0], .on_ready = on_zygote, .ctx = z };
    return net_loop_add(r->loop, &z->watch, EPOLLIN);
}

int
rl_zygote_start(struct rl_job_io *job)
{
    struct raylet *r = job->raylet;
    if (!job->zygote) {
        struct rl_zygote *z = mem_alloc(r->mem, sizeof(*z));
        if (!z) {
            return st_fail(ST_OUT_OF_MEMORY, "no memory for a zygote");
        }
        memset(z, 0, sizeof(*z));
        z->job = job;
        z->watch.fd = -1;
        list_init(&z->waiting);
        rl_log_init(&z->out, r);
        rl_log_init(&z->err, r);
        job->zygote = z;
    }
    return job->zygote->pid == 0 ? start(job->zygote) : ST_OK;
}

bool
rl_is_zygote(const struct raylet *r, pid_t pid)
{
    LIST_FOR (l, &r->jobs) {
        const struct rl_job_io *job = LIST_ENTRY(l, struct rl_job_io, all);
        if (job->zygote && job->zygote->pid == pid) {
            return true;
        }
    }
    return false;
}

/* Those that wait for it have no process; after several deaths in a row they are told why. */
static void
fail_waiting(struct rl_zygote *z, const char *evidence)
{
    for (struct list *l = list_first(&z->waiting); l; l = list_first(&z->waiting)) {
        rl_worker_start_failed(LIST_ENTRY(l, struct rl_process, of_zygote), evidence);
    }
}

static void
on_exit_of(struct rl_zygote *z, const struct os_exit *exit)
{
    struct rl_job_io *job = z->job;
    z->pid = 0;
    close_socket(z);
    rl_log_drain(&z->out);
    rl_log_drain(&z->err);
    const bool idle = job->ended && list_is_empty(&z->waiting);
    if (!rl_job_goes_on(job) || idle) {
        fail_waiting(z, "its job is over");
        rl_job_check(job);
        return;
    }
    char how[128], tail[RL_TAIL_MAX + 1], text[RL_TAIL_MAX + 256];
    (void)os_exit_text(exit, how, sizeof(how));
    (void)rl_log_tail(&z->err, tail, sizeof(tail));
    (void)snprintf(text, sizeof(text),
                   "the zygote (pid %d), which makes the job's workers, ended: %s%s%s",
                   (int)exit->pid, how, tail[0] ? "; the last it said was:\n" : "", tail);
    os_log(OS_LOG_WARN, "%s", text);
    const uint64_t now = os_now_ns();
    z->exits += exit->signal != SIGKILL;
    z->unready_ns = z->unready_ns ? z->unready_ns : now;
    if (z->exits >= ZYGOTE_EXITS_MAX || now - z->unready_ns > ZYGOTE_KILLED_MAX_NS) {
        z->exits = 0;
        z->unready_ns = 0;
        fail_waiting(z, text);
        return; /* the next request for a worker tries again */
    }
    if (start(z) != ST_OK) {
        fail_waiting(z, st_last()->text);
    }
}

bool
rl_zygote_on_exit(struct raylet *r, const struct os_exit *exit)
{
    LIST_FOR (l, &r->jobs) {
        const struct rl_job_io *job = LIST_ENTRY(l, struct rl_job_io, all);
        if (job->zygote && job->zygote->pid == exit->pid) {
            on_exit_of(job->zygote, exit);
            return true;
        }
    }
    return false;
}

void
rl_zygote_end(struct rl_zygote *z)
{
    close_socket(z);
    if (z->pid != 0) {
        os_proc_signal(z->pid, SIGKILL);
    }
}

void
rl_zygote_free(struct rl_zygote **pz)
{
    struct rl_zygote *z = *pz;
    if (z) {
        const struct raylet *r = z->job->raylet;
        close_socket(z);
        rl_log_close(&z->out);
        rl_log_close(&z->err);
        mem_free(r->mem, z, sizeof(*z));
        *pz = NULL;
    }
}
