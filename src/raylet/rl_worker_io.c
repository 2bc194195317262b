/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making workers: from the pool's decision to a registered process. Two ways: a fork of the job's
 * zygote, or, for programs that are their own workers, the program started again.
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

enum { BIRTHS_MAX = 50 };

/* ---- records --------------------------------------------------------------------------------- */

struct rl_process *
rl_process_new(struct raylet *r, enum rl_process_kind kind, uint64_t number, struct rl_job_io *job)
{
    struct rl_process *p = mem_alloc(r->mem, sizeof(*p));
    if (!p) {
        return NULL;
    }
    memset(p, 0, sizeof(*p));
    p->magic = RL_PROCESS_MAGIC;
    p->kind = kind;
    p->raylet = r;
    p->job = job;
    p->number = number;
    p->pidfd.fd = -1;
    p->birth.fd = -1;
    p->birth_fds[0] = p->birth_fds[1] = p->birth_fds[2] = -1;
    struct list *const lists[] = { &p->of_zygote, &p->watchers, &p->watching, &p->of_dying };
    for (size_t i = 0; i < COUNT_OF(lists); i++) {
        list_init(lists[i]);
    }
    rl_log_init(&p->out, r);
    rl_log_init(&p->err, r);
    os_random(p->id.b, sizeof(p->id.b));
    os_random(p->token, sizeof(p->token));
    if (map_insert(&r->by_number, &p->by_number, id_mix64(number)) != ST_OK) {
        mem_free(r->mem, p, sizeof(*p));
        return NULL;
    }
    if (map_insert(&r->by_id, &p->by_id, id_hash(p->id.b, sizeof(p->id.b))) != ST_OK) {
        map_remove(&r->by_number, &p->by_number);
        mem_free(r->mem, p, sizeof(*p));
        return NULL;
    }
    list_push_back(&r->processes, &p->all);
    job->processes++;
    return p;
}

static void
free_watcher(struct raylet *r, struct rl_watcher *w)
{
    list_remove(&w->of_process);
    list_remove(&w->of_watcher);
    mem_free(r->mem, w, sizeof(*w));
}

void
rl_process_free(struct rl_process *p)
{
    struct raylet *r = p->raylet;
    ASSERT(p->magic == RL_PROCESS_MAGIC && !p->dying);
    LIST_FOR_SAFE (l, next, &p->watchers) {
        free_watcher(r, LIST_ENTRY(l, struct rl_watcher, of_process));
    }
    LIST_FOR_SAFE (k, following, &p->watching) {
        free_watcher(r, LIST_ENTRY(k, struct rl_watcher, of_watcher));
    }
    rl_conn_drop(p);
    net_loop_disarm(r->loop, &p->conn_timer);
    if (p->pidfd.fd >= 0) {
        net_loop_remove(r->loop, &p->pidfd);
        os_close(&p->pidfd.fd);
    }
    if (p->birth.fd >= 0) {
        net_loop_remove(r->loop, &p->birth);
        os_close(&p->birth.fd);
    }
    for (int i = 0; i < 3; i++) {
        os_close(&p->birth_fds[i]);
    }
    rl_log_close(&p->out);
    rl_log_close(&p->err);
    rl_gcs_forget_process(r, p);
    rl_store_forget_process(p);
    list_remove(&p->of_zygote);
    list_remove(&p->all);
    map_remove(&r->by_number, &p->by_number);
    map_remove(&r->by_id, &p->by_id);
    rl_process_forget_pid(p);
    struct rl_job_io *job = p->job;
    if (job->driver == p) {
        job->driver = NULL;
    }
    job->processes--;
    p->magic = 0;
    mem_free(r->mem, p, sizeof(*p));
    rl_job_check(job);
}

int
rl_process_set_pid(struct rl_process *p, pid_t pid)
{
    p->pid = pid;
    TRY(map_insert(&p->raylet->by_pid, &p->by_pid, id_mix64((uint64_t)pid)));
    p->in_pids = true;
    return ST_OK;
}

/* Its number may be used again from now on. */
void
rl_process_forget_pid(struct rl_process *p)
{
    if (p->in_pids) {
        map_remove(&p->raylet->by_pid, &p->by_pid);
        p->in_pids = false;
    }
}

/* ---- pipes and names ------------------------------------------------------------------------- */

static int
make_pipe(int *reader, int *writer)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0) {
        return st_fail_errno(ST_SYSTEM, errno, "can't make a pipe");
    }
    if (fcntl(fds[0], F_SETFL, O_NONBLOCK) < 0) {
        os_close(&fds[0]);
        os_close(&fds[1]);
        return st_fail_errno(ST_SYSTEM, errno, "can't set up a pipe");
    }
    *reader = fds[0];
    *writer = fds[1];
    return ST_OK;
}

static int
open_logs(struct rl_process *p)
{
    int reader = -1;
    TRY(make_pipe(&reader, &p->birth_fds[0]));
    TRY(rl_log_open(&p->out, reader, p->job, p, false));
    TRY(make_pipe(&reader, &p->birth_fds[1]));
    return rl_log_open(&p->err, reader, p->job, p, true);
}

static void
name_logs(struct rl_process *p)
{
    char id[ID_HEX_MAX], job[ID_HEX_MAX], path[192];
    ID_HEX(p->id, id);
    ID_HEX(p->job->id, job);
    (void)snprintf(path, sizeof(path), "worker-%s-%s-%d.out", id, job, p->pid);
    rl_log_name(&p->out, p->pid, path);
    (void)snprintf(path, sizeof(path), "worker-%s-%s-%d.err", id, job, p->pid);
    rl_log_name(&p->err, p->pid, path);
}

size_t
rl_worker_environment(const struct rl_process *p, char *out, size_t capacity)
{
    char token[2 * ZYGOTE_TOKEN_SIZE + 1];
    id_hex(p->token, sizeof(p->token), token);
    const int n = snprintf(out, capacity, "RAY_RAYLET_SOCKET=%s/raylet%cRAY_START_TOKEN=%s",
                           p->raylet->session.socket_dir, '\0', token);
    ASSERT(n > 0 && (size_t)n + 1 < capacity);
    return (size_t)n + 1;
}

/* ---- birth by zygote ------------------------------------------------------------------------- */

static void
close_birth(struct rl_process *p)
{
    if (p->birth.fd >= 0) {
        net_loop_remove(p->raylet->loop, &p->birth);
        os_close(&p->birth.fd);
    }
}

/* Registers the newborn, and lets the pool say whether it may go. */
static void
on_born(struct rl_process *p, const struct zygote_born *born)
{
    struct raylet *r = p->raylet;
    if (born->error != 0 || born->pid <= 0) {
        char text[128];
        const char *why = strerrordesc_np(born->error);
        (void)snprintf(text, sizeof(text), "the zygote could not fork: %s", why ? why : "?");
        rl_worker_start_failed(p, text);
        return;
    }
    if (rl_process_set_pid(p, born->pid) != ST_OK) {
        rl_worker_start_failed(p, "no memory for a process");
        return;
    }
    name_logs(p);
    os_log(OS_LOG_DEBUG, "worker number %llu is process %d", (unsigned long long)p->number, p->pid);
    struct rl_outs o;
    rl_outs_begin(r, &o);
    rl_lease_on_spawned(&r->lease, os_now_ns(), p->number, p->pid, &o.outs);
    rl_outs_finish(r, &o);
}

static void on_birth(void *ctx, uint32_t events);

static int
start_by_zygote(struct rl_process *p)
{
    int pair[2];
    p->births++;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        return st_fail_errno(ST_SYSTEM, errno, "can't make a socket pair");
    }
    p->birth = (struct net_watch){ .fd = pair[0], .on_ready = on_birth, .ctx = p };
    p->birth_fds[2] = pair[1];
    const int status = net_loop_add(p->raylet->loop, &p->birth, EPOLLIN);
    if (status != ST_OK) {
        os_close(&p->birth.fd);
        return status;
    }
    if (p->job->zygote->pid == 0) {
        TRY(rl_zygote_start(p->job));
    }
    rl_zygote_fork(p->job->zygote, p);
    return ST_OK;
}

/* The zygote died over this birth: the next one is asked, unless that has happened too often.
 * Whatever the dead one made after all ends with its side of the old pair. */
static void
be_born_again(struct rl_process *p)
{
    close_birth(p);
    rl_log_close(&p->out);
    rl_log_close(&p->err);
    int status = ST_RAYLET_DIED;
    if (p->births < BIRTHS_MAX && rl_job_goes_on(p->job)) {
        status = open_logs(p);
        status = status == ST_OK ? start_by_zygote(p) : status;
    }
    if (status != ST_OK) {
        rl_worker_start_failed(p, "the zygote ended, or could not fork");
    }
}

static void
on_birth(void *ctx, uint32_t events)
{
    (void)events;
    struct rl_process *p = ctx;
    struct zygote_born born;
    const ssize_t n = recv(p->birth.fd, &born, sizeof(born), MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (p->pid != 0) {
        close_birth(p); /* the intermediate has ended; the worker's own end is seen by reaping */
        return;
    }
    if (n != (ssize_t)sizeof(born) || born.head.magic != ZYGOTE_MAGIC ||
        born.head.kind != ZYGOTE_BORN || memcmp(born.token, p->token, sizeof(p->token)) != 0) {
        be_born_again(p);
        return;
    }
    on_born(p, &born);
}

void
rl_worker_go(struct rl_process *p)
{
    if (p->birth.fd < 0) {
        return; /* started as a child of this process: nobody waits */
    }
    const struct zygote_head go = { .magic = ZYGOTE_MAGIC, .kind = ZYGOTE_GO };
    if (send(p->birth.fd, &go, sizeof(go), MSG_NOSIGNAL) != (ssize_t)sizeof(go)) {
        os_log(OS_LOG_WARN, "the intermediate of worker %d has gone", p->pid);
    }
    close_birth(p);
}

/* ---- birth by starting the program again ----------------------------------------------------- */

/* The driver's environment with the worker's own variables. NULL without memory; freed by free. */
static char **
make_environment(const struct rl_process *p, char *own, size_t own_size)
{
    const Ray__Node__JobConfig *config = p->job->config;
    char **env = calloc(config->n_environment + 8, sizeof(*env));
    if (!env) {
        return NULL;
    }
    size_t n = 0;
    for (size_t i = 0; i < config->n_environment; i++) {
        const char *e = config->environment[i];
        if (strncmp(e, "RAY_RAYLET_SOCKET=", 18) != 0 && strncmp(e, "RAY_START_TOKEN=", 16) != 0) {
            env[n++] = config->environment[i];
        }
    }
    for (size_t at = 0; at < own_size && n < config->n_environment + 7;
         at += strlen(own + at) + 1) {
        env[n++] = own + at;
    }
    return env;
}

static int
start_program(struct rl_process *p)
{
    const Ray__Node__JobConfig *config = p->job->config;
    if (config->n_program_argv == 0) {
        return st_fail(ST_INVALID_ARGUMENT, "the job doesn't say how its workers are started");
    }
    char own[1024];
    const size_t own_size = rl_worker_environment(p, own, sizeof(own));
    char **env = make_environment(p, own, own_size);
    const char **argv = calloc(config->n_program_argv + 1, sizeof(*argv));
    int status = st_fail(ST_OUT_OF_MEMORY, "no memory for a command line");
    pid_t pid = 0;
    if (env && argv) {
        for (size_t i = 0; i < config->n_program_argv; i++) {
            argv[i] = config->program_argv[i];
        }
        const struct os_spawn spec = {
            .argv = argv,
            .envp = (const char *const *)env,
            .cwd = config->working_directory[0] ? config->working_directory : NULL,
            .stdin_fd = -1,
            .stdout_fd = p->birth_fds[0],
            .stderr_fd = p->birth_fds[1],
            .new_session = true,
            .die_with_parent = true,
            .subreaper = true,
        };
        status = os_proc_spawn(&spec, &pid);
    }
    free(env);
    free(argv);
    TRY(status);
    os_close(&p->birth_fds[0]);
    os_close(&p->birth_fds[1]);
    status = rl_process_set_pid(p, pid);
    if (status != ST_OK) {
        os_proc_signal(pid, SIGKILL);
        return status;
    }
    os_proc_set_oom_score(pid, RL_WORKER_OOM_SCORE);
    name_logs(p);
    struct rl_outs o;
    rl_outs_begin(p->raylet, &o);
    rl_lease_on_spawned(&p->raylet->lease, os_now_ns(), p->number, pid, &o.outs);
    rl_outs_finish(p->raylet, &o);
    return ST_OK;
}

/* ---- start and end --------------------------------------------------------------------------- */

void
rl_worker_start(struct raylet *r, const struct rl_pool_start *start)
{
    struct rl_job_io *job = rl_job_by_number(r, start->job);
    struct rl_process *p =
        job && !r->stopping ? rl_process_new(r, RL_WORKER_PROCESS, start->worker, job) : NULL;
    if (!p) {
        rl_lease_on_start_failed(&r->lease, os_now_ns(), start->worker, "its job is over");
        rl_pump(r);
        return;
    }
    os_log(OS_LOG_DEBUG, "worker number %llu is started", (unsigned long long)p->number);
    int status = open_logs(p);
    if (status == ST_OK) {
        status = job->zygote ? start_by_zygote(p) : start_program(p);
    }
    if (status != ST_OK) {
        char text[ST_TEXT_MAX];
        (void)snprintf(text, sizeof(text), "%s", st_last()->text);
        rl_worker_start_failed(p, text);
    }
}

void
rl_worker_start_failed(struct rl_process *p, const char *evidence)
{
    struct raylet *r = p->raylet;
    os_log(!rl_job_goes_on(p->job) ? OS_LOG_INFO : OS_LOG_ERROR,
           "a worker could not be started: %s", evidence);
    rl_lease_on_start_failed(&r->lease, os_now_ns(), p->number, evidence);
    rl_process_free(p);
    rl_pump(r);
}

void
rl_worker_kill(struct rl_process *p, const char *why)
{
    if (p->dead) {
        return;
    }
    if (p->leaving[0] == '\0' || p->leaving_told) {
        (void)snprintf(p->leaving, sizeof(p->leaving), "%s", why);
        p->leaving_intended = p->leaving_told = false;
    }
    if (p->pid > 0) {
        os_proc_signal(p->pid, SIGKILL);
    } else {
        rl_worker_start_failed(p, why); /* closing the birth pair ends it, if it comes to be */
    }
}

void
rl_worker_exit(struct rl_process *p, const char *why)
{
    if (p->leaving[0] == '\0') {
        (void)snprintf(p->leaving, sizeof(p->leaving), "%s", why);
        p->leaving_intended = true;
    }
    Ray__Node__Leave m = RAY__NODE__LEAVE__INIT;
    m.graceful = true;
    m.reason = rl_text(why);
    rl_send(p, NODE_LEAVE, 0, &m.base);
}
