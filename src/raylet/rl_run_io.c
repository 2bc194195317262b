/* SPDX-License-Identifier: Apache-2.0 */
/* The raylet's start, loop and end. See rl_run_io.h. */
#include "raylet/rl_run_io.h"

#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "os/os_basic.h"
#include "raylet/rl_boot_io.h"
#include "raylet/rl_io.h"

#define RUN_MS UINT64_C(1000000)
/* Longest time between the order to stop and the kill of what hasn't. */
#define STOP_GRACE_NS  (700 * RUN_MS)
#define SWEEP_DELAY_NS (200 * RUN_MS)

/* ---- the end --------------------------------------------------------------------------------- */

static void
on_stop_timer(void *ctx)
{
    struct raylet *r = ctx;
    if (!r->stopping) {
        rl_session_sweep(&r->session); /* the timer's other use: some time after the start */
        return;
    }
    r->stop_phase++;
    if (r->stop_phase > 1) {
        os_log(OS_LOG_WARN, "some processes don't end; the guard sees to them");
        net_loop_stop(r->loop);
        return;
    }
    rl_kill_everything(r);
    rl_arm(r, &r->stop_timer, os_now_ns() + STOP_GRACE_NS);
}

void
rl_stop(struct raylet *r, const char *why)
{
    if (r->stopping) {
        return;
    }
    os_log(OS_LOG_INFO, "ends: %s", why);
    r->stopping = true;
    net_accept_close(&r->accept);
    if (net_loop_arm(r->loop, &r->stop_timer, os_now_ns() + STOP_GRACE_NS) != ST_OK) {
        net_loop_stop(r->loop);
        return;
    }
    LIST_FOR_SAFE (l, next, &r->jobs) {
        struct rl_job_io *job = LIST_ENTRY(l, struct rl_job_io, all);
        rl_job_end(job);
        if (job->zygote) {
            rl_zygote_end(job->zygote); /* of one that had ended, but went on */
        }
    }
    LIST_FOR_SAFE (k, following, &r->processes) {
        struct rl_process *p = LIST_ENTRY(k, struct rl_process, all);
        if (p->kind == RL_WORKER_PROCESS) {
            rl_worker_kill(p, "the runtime ends");
        }
    }
    rl_pump(r);
    rl_stop_check(r);
}

void
rl_fail(struct raylet *r, int status, const char *why)
{
    if (r->failed == ST_OK) {
        r->failed = status;
        (void)snprintf(r->failure, sizeof(r->failure), "%s", why);
        os_log(OS_LOG_ERROR, "%s", why);
    }
    rl_stop(r, why);
}

/* Workers first, then zygotes with their jobs, then ray-gcs; and the last goodbye. */
void
rl_stop_check(struct raylet *r)
{
    if (!r->stopping) {
        return;
    }
    LIST_FOR (l, &r->processes) {
        if (LIST_ENTRY(l, struct rl_process, all)->kind == RL_WORKER_PROCESS) {
            return;
        }
    }
    LIST_FOR (l, &r->jobs) {
        const struct rl_job_io *job = LIST_ENTRY(l, struct rl_job_io, all);
        if (job->zygote && job->zygote->pid != 0) {
            return;
        }
    }
    if (r->gcs.pid != 0) {
        os_proc_signal(r->gcs.pid, SIGTERM);
        return;
    }
    LIST_FOR (l, &r->jobs) {
        struct rl_job_io *job = LIST_ENTRY(l, struct rl_job_io, all);
        if (job->goodbye && job->driver) {
            const Ray__Node__Goodbye bye = RAY__NODE__GOODBYE__INIT;
            rl_send(job->driver, NODE_GOODBYE, job->goodbye_request, &bye.base);
        }
    }
    net_loop_stop(r->loop);
}

static void
on_driver_pidfd(void *ctx, uint32_t events)
{
    (void)events;
    struct raylet *r = ctx;
    net_loop_remove(r->loop, &r->driver_pidfd);
    os_close(&r->driver_pidfd.fd);
    LIST_FOR_SAFE (l, next, &r->processes) {
        struct rl_process *p = LIST_ENTRY(l, struct rl_process, all);
        if (p->kind == RL_DRIVER && !p->dead && p->pidfd.fd >= 0 && os_pidfd_is_dead(p->pidfd.fd)) {
            rl_driver_died(p);
        }
    }
    rl_stop(r, "the driver that it belongs to has ended");
    rl_jobs_sweep(r);
}

/* ---- the start ------------------------------------------------------------------------------- */

static int
redirect_log(const struct raylet *r)
{
    char path[RL_PATH_MAX + 32];
    (void)snprintf(path, sizeof(path), "%s/logs/raylet.err", r->session.dir);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0 || dup2(fd, STDERR_FILENO) < 0 || dup2(fd, STDOUT_FILENO) < 0) {
        os_close(&fd);
        return st_fail(ST_SYSTEM, "can't write %s", path);
    }
    os_close(&fd);
    return ST_OK;
}

static int
start(struct raylet *r, const Ray__Node__Boot *boot, struct rl_session *shared)
{
    if (boot->protocol_version != RAY_PROTOCOL_VERSION) {
        return st_fail(ST_PROTOCOL, "the driver speaks protocol version %u, the raylet %d",
                       boot->protocol_version, RAY_PROTOCOL_VERSION);
    }
    const int status = rl_session_open(&r->session, boot->temp_dir,
                                       boot->driver_pid > 0 ? boot->driver_pid : getpid());
    memcpy(shared, &r->session, sizeof(*shared)); /* also what was made before a failure */
    TRY(status);
    TRY(redirect_log(r));
    struct res_set total;
    TRY(rl_boot_resources(r, boot, &total));
    struct rl_lease_config config;
    const double cpus = res_amount_to_double(res_set_get(&total, RES_CPU));
    rl_lease_config_default(&config, cpus < 1 ? 1 : (uint32_t)ceil(cpus));
    TRY(rl_lease_init(&r->lease, r->mem, &config, &total, &r->names, &r->keys));
    TRY(rl_conn_listen(r));
    TRY(rl_gcs_open(r)); /* early: it starts while the rest is made */
    TRY(rl_store_open(r));
    if (r->driver_pidfd.fd >= 0) {
        TRY(net_loop_add(r->loop, &r->driver_pidfd, EPOLLIN));
    } else {
        const int stands = rl_session_stand(&r->session);
        memcpy(shared, &r->session, sizeof(*shared));
        TRY(stands);
    }
    return net_loop_arm(r->loop, &r->stop_timer, os_now_ns() + SWEEP_DELAY_NS);
}

static int
prepare(struct raylet *r, const struct rl_run_config *config)
{
    r->mem = os_mem_system();
    struct list *const lists[] = { &r->links, &r->processes, &r->jobs,        &r->actors,
                                   &r->dying, &r->graves,    &r->store_waits, &r->old_logs };
    for (size_t i = 0; i < COUNT_OF(lists); i++) {
        list_init(lists[i]);
    }
    struct map *const maps[] = { &r->by_number,    &r->by_pid,           &r->by_id,
                                 &r->actors_by_id, &r->actors_by_cookie, &r->graves_by_id,
                                 &r->gcs.requests };
    for (size_t i = 0; i < COUNT_OF(maps); i++) {
        map_init(maps[i], r->mem);
    }
    rl_logs_configure(r);
    arena_init(&r->arena, r->mem);
    sched_keys_init(&r->keys, r->mem);
    list_init(&r->gcs.untold);
    r->listener = -1;
    r->gcs.listener = -1;
    r->session.lock = -1;
    r->guard = getppid();
    r->next_cookie = 1;
    r->standalone = config->driver_pidfd >= 0;
    r->driver_pidfd =
        (struct net_watch){ .fd = config->driver_pidfd, .on_ready = on_driver_pidfd, .ctx = r };
    r->signals = (struct net_watch){ .fd = -1, .on_ready = rl_on_signals, .ctx = r };
    r->stop_timer = (struct net_timer){ .on_timer = on_stop_timer, .ctx = r };
    r->lease_timer = (struct net_timer){ .on_timer = rl_lease_on_timer, .ctx = r };
    os_random(r->node_id.b, sizeof(r->node_id.b));
    (void)snprintf(r->node_ip, sizeof(r->node_ip), "127.0.0.1");
    if (gethostname(r->host_name, sizeof(r->host_name) - 1) < 0) {
        r->host_name[0] = '\0';
    }
    static const int signals[] = { SIGCHLD, SIGTERM, SIGINT, 0 };
    TRY(os_proc_become_subreaper());
    TRY(res_names_init(&r->names, r->mem));
    TRY(os_signal_open(signals, &r->signals.fd));
    TRY(net_loop_create(r->mem, &r->loop));
    return net_loop_add(r->loop, &r->signals, EPOLLIN);
}

/* Gives up all records; the processes that they stand for are gone. */
static void
free_records(struct raylet *r)
{
    LIST_FOR_SAFE (l, next, &r->actors) {
        rl_actor_forget(r, LIST_ENTRY(l, struct rl_actor, all));
    }
    LIST_FOR_SAFE (k, following, &r->processes) {
        struct rl_process *p = LIST_ENTRY(k, struct rl_process, all);
        list_remove(&p->of_dying);
        p->dying = false;
        rl_process_free(p);
    }
    LIST_FOR (j, &r->jobs) {
        struct rl_job_io *job = LIST_ENTRY(j, struct rl_job_io, all);
        job->ended = true;
        if (job->zygote) {
            job->zygote->pid = 0;
        }
    }
    rl_jobs_sweep(r);
    rl_graves_free(r);
    rl_logs_free(r);
}

static void
finish(struct raylet *r)
{
    rl_conn_close_all(r);
    free_records(r);
    rl_gcs_close(r);
    rl_store_close(r);
    rl_session_remove(&r->session);
    if (r->lease.mem) {
        rl_lease_fini(&r->lease);
    }
    sched_keys_fini(&r->keys);
    res_names_fini(&r->names);
    arena_fini(&r->arena);
    struct map *const maps[] = { &r->by_number,    &r->by_pid,           &r->by_id,
                                 &r->actors_by_id, &r->actors_by_cookie, &r->graves_by_id };
    for (size_t i = 0; i < COUNT_OF(maps); i++) {
        map_fini(maps[i]);
    }
    struct net_timer *const timers[] = { &r->stop_timer, &r->lease_timer, &r->gcs.reconnect };
    for (size_t i = 0; i < COUNT_OF(timers); i++) {
        net_loop_disarm(r->loop, timers[i]);
    }
    net_loop_remove(r->loop, &r->signals);
    os_close(&r->signals.fd);
    net_loop_remove(r->loop, &r->driver_pidfd);
    os_close(&r->driver_pidfd.fd);
    net_loop_destroy(&r->loop);
    os_close(&r->session.lock);
    free(r);
}

int
rl_raylet_run(const struct rl_run_config *config)
{
    struct raylet *r = calloc(1, sizeof(*r));
    Ray__Node__Boot *boot = NULL;
    if (!r || prepare(r, config) != ST_OK) {
        return 1;
    }
    int status = rl_boot_receive(config->boot_fd, &boot);
    if (status == ST_OK) {
        status = start(r, boot, config->shared);
        net_msg_free(&boot->base);
        rl_boot_reply(r, config->boot_fd, status);
    }
    int boot_fd = config->boot_fd;
    os_close(&boot_fd); /* the guard has it still */
    if (status == ST_OK) {
        os_log(OS_LOG_INFO, "serves in %s", r->session.socket_dir);
        net_loop_run(r->loop);
        status = r->failed;
    } else {
        os_log(OS_LOG_ERROR, "can't start: %s", st_last()->text);
    }
    finish(r);
    return status == ST_OK ? 0 : 1;
}
