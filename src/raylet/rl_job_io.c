/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jobs of drivers that are connected here. A job lives from its driver's hello until nothing of it
 * is left: driver, workers and zygote. ray-gcs numbers it, and the driver's hello is answered then.
 */
#include <stdio.h>
#include <string.h>

#include "os/os_basic.h"
#include "raylet/rl_io.h"

struct rl_job_io *
rl_job_new(struct raylet *r, const Ray__Node__JobConfig *config)
{
    struct rl_job_io *job = mem_alloc(r->mem, sizeof(*job));
    if (!job) {
        return NULL;
    }
    memset(job, 0, sizeof(*job));
    job->magic = RL_JOB_MAGIC_IO;
    job->raylet = r;
    ID_SET_NIL(&job->id);
    const size_t size = ray__node__job_config__get_packed_size(config);
    uint8_t *packed = mem_alloc(r->mem, size + 1);
    if (packed) {
        (void)ray__node__job_config__pack(config, packed);
        job->config = ray__node__job_config__unpack(NULL, size, packed);
        mem_free(r->mem, packed, size + 1);
    }
    if (!job->config) {
        mem_free(r->mem, job, sizeof(*job));
        return NULL;
    }
    list_push_back(&r->jobs, &job->all);
    return job;
}

struct rl_job_io *
rl_job_find(const struct raylet *r, const struct id_job *id)
{
    LIST_FOR (l, &r->jobs) {
        struct rl_job_io *job = LIST_ENTRY(l, struct rl_job_io, all);
        if (job->number != 0 && ID_EQ(job->id, *id)) {
            return job;
        }
    }
    return NULL;
}

struct rl_job_io *
rl_job_by_number(const struct raylet *r, uint32_t number)
{
    LIST_FOR (l, &r->jobs) {
        struct rl_job_io *job = LIST_ENTRY(l, struct rl_job_io, all);
        ASSERT(job->magic == RL_JOB_MAGIC_IO);
        if (number != 0 && job->number == number) {
            return job;
        }
    }
    return NULL;
}

/* ray-gcs has numbered the job: its driver can be let in. */
void
rl_job_added(struct rl_job_io *job, const Ray__Gcs__JobAdded *m)
{
    struct raylet *r = job->raylet;
    struct rl_process *driver = job->driver;
    if (m->status != ST_OK || !rl_take_id(&m->job_id, job->id.b, sizeof(job->id.b))) {
        if (driver && !driver->dead) {
            rl_refuse_process(driver, job->hello_request, m->status,
                              "the control service could not add the job");
            rl_conn_drop(driver);
            rl_driver_died(driver);
        }
        return;
    }
    job->number = id_job_to_int(&job->id);
    (void)snprintf(job->job_namespace, sizeof(job->job_namespace), "%s", m->job_namespace);
    if (!driver || driver->dead) {
        Ray__Gcs__FinishJob finish = RAY__GCS__FINISH_JOB__INIT;
        finish.job_id = rl_bytes(job->id.b, sizeof(job->id.b));
        rl_gcs_tell(r, GCS_FINISH_JOB, &finish.base);
        job->told_gcs = true;
        return;
    }
    job->actor_owner = rl_pool_number(&r->lease.pool);
    if (rl_lease_on_driver(&r->lease, driver->number, job->number, driver->pid) != ST_OK ||
        rl_lease_on_driver(&r->lease, job->actor_owner, job->number, driver->pid) != ST_OK) {
        rl_refuse_process(driver, job->hello_request, st_last()->status, st_last()->text);
        rl_conn_drop(driver);
        rl_driver_died(driver);
        return;
    }
    rl_send_hello_reply(driver, job->hello_request);
}

bool
rl_job_goes_on(const struct rl_job_io *job)
{
    return !job->raylet->stopping && (!job->ended || job->keeps);
}

/* The machine ends what belongs to the job, but for detached actors and what works for them; of a
 * job that doesn't go on, whoever asks for its actors' leases too. */
static void
end_leases(struct rl_job_io *job)
{
    struct raylet *r = job->raylet;
    const uint64_t now = os_now_ns();
    const bool goes_on = rl_job_goes_on(job);
    rl_lease_on_job_end(&r->lease, now, job->number, goes_on);
    if (!goes_on) {
        struct rl_outs o;
        rl_outs_begin(r, &o);
        rl_lease_on_dead(&r->lease, now, job->actor_owner, "its job is over", &o.outs);
        rl_outs_finish(r, &o);
        rl_lease_on_reclaimed(&r->lease, os_now_ns(), job->actor_owner);
    }
    rl_pump(r);
}

/* Its processes, but for those that go on, are ended. */
static void
finish(struct rl_job_io *job)
{
    struct raylet *r = job->raylet;
    job->ended = true;
    if (job->number != 0) {
        LIST_FOR_SAFE (l, next, &r->actors) {
            struct rl_actor *a = LIST_ENTRY(l, struct rl_actor, all);
            if (a->job == job && a->state == RL_ACTOR_WAITING && !rl_actor_outlives(r, a->spec)) {
                rl_actor_forget(r, a);
            }
        }
        end_leases(job);
    }
    if (job->zygote && !rl_job_goes_on(job)) {
        rl_zygote_end(job->zygote);
    }
    rl_job_check(job);
}

/* Not before ray-gcs has said that it knows: of actors that were made before, it has asked by then
 * for those that outlive the driver, and only here is known how their processes are made. */
void
rl_job_end(struct rl_job_io *job)
{
    struct raylet *r = job->raylet;
    if (job->ended) {
        return;
    }
    rl_gcs_forget_job(job);
    if (job->number != 0 && !job->told_gcs) {
        Ray__Gcs__FinishJob m = RAY__GCS__FINISH_JOB__INIT;
        m.job_id = rl_bytes(job->id.b, sizeof(job->id.b));
        job->finish_tell = rl_gcs_tell(r, GCS_FINISH_JOB, &m.base);
        job->told_gcs = true;
    }
    if (r->stopping || job->finish_tell == 0) {
        finish(job);
    }
}

void
rl_job_told(struct raylet *r, uint64_t tell)
{
    LIST_FOR_SAFE (l, next, &r->jobs) {
        struct rl_job_io *job = LIST_ENTRY(l, struct rl_job_io, all);
        if (job->finish_tell == tell && !job->ended) {
            finish(job);
        }
    }
    rl_jobs_sweep(r);
}

int
rl_on_end_job(struct rl_process *p, uint64_t request, const Ray__Node__EndJob *m)
{
    struct raylet *r = p->raylet;
    struct rl_job_io *job = p->job;
    if (p->kind != RL_DRIVER) {
        return st_fail(ST_PROTOCOL, "a worker ends the job");
    }
    job->goodbye = true;
    job->goodbye_request = request;
    if (m->stop_runtime && job->config->standalone) {
        rl_stop(r, "its driver said so");
        return ST_OK;
    }
    rl_job_end(job);
    return ST_OK;
}

/* Whether it is about to end. */
static bool
is_ending(const struct rl_process *p)
{
    const struct rl_worker *worker = rl_pool_find(&p->raylet->lease.pool, p->number);
    return p->kind == RL_WORKER_PROCESS &&
           (p->dead || !worker || worker->doomed || worker->kill_sent);
}

/* Whether workers or the zygote of the job are left, of those that the driver waits for. */
static bool
has_processes(const struct rl_job_io *job)
{
    const uint32_t drivers = job->driver ? 1 : 0;
    if (!rl_job_goes_on(job)) {
        return job->processes > drivers || (job->zygote && job->zygote->pid != 0);
    }
    LIST_FOR (l, &job->raylet->processes) {
        const struct rl_process *p = LIST_ENTRY(l, struct rl_process, all);
        if (p->job == job && is_ending(p)) {
            return true;
        }
    }
    return false;
}

/* Whether an actor of the job is there, or is being started. */
static bool
has_actors(const struct rl_job_io *job)
{
    LIST_FOR (l, &job->raylet->actors) {
        if (LIST_ENTRY(l, struct rl_actor, all)->job == job) {
            return true;
        }
    }
    return false;
}

void
rl_job_check(struct rl_job_io *job)
{
    if (!job->ended) {
        return;
    }
    if (has_processes(job)) {
        return;
    }
    if (job->goodbye && job->driver && !job->raylet->stopping) {
        const Ray__Node__Goodbye m = RAY__NODE__GOODBYE__INIT;
        rl_send(job->driver, NODE_GOODBYE, job->goodbye_request, &m.base);
        job->goodbye = false;
    }
    rl_stop_check(job->raylet);
}

static void
job_free(struct rl_job_io *job)
{
    struct raylet *r = job->raylet;
    if (job->keeps && job->number != 0 && !r->stopping) {
        job->keeps = false;
        end_leases(job);
    }
    rl_zygote_free(&job->zygote);
    list_remove(&job->all);
    ray__node__job_config__free_unpacked(job->config, NULL);
    job->magic = 0;
    mem_free(r->mem, job, sizeof(*job));
}

/* Nothing of it needs processes at the moment: they end, and the zygote after them. A detached
 * actor that is started again brings them back. */
static void
rest(struct rl_job_io *job)
{
    if (job->processes > (job->driver ? 1u : 0u)) {
        end_leases(job);
    } else if (job->zygote && job->zygote->pid != 0) {
        rl_zygote_end(job->zygote);
    }
}

void
rl_jobs_sweep(struct raylet *r)
{
    uint32_t kept = 0;
    LIST_FOR (l, &r->jobs) {
        struct rl_job_io *job = LIST_ENTRY(l, struct rl_job_io, all);
        if (job->ended && job->keeps && !r->stopping) {
            kept++;
            if (!has_actors(job)) {
                rest(job);
            }
        }
    }
    LIST_FOR_SAFE (l, next, &r->jobs) {
        struct rl_job_io *job = LIST_ENTRY(l, struct rl_job_io, all);
        const bool keeps = job->keeps && !r->stopping && kept <= RL_JOBS_KEPT_MAX;
        if (!job->ended || job->driver || job->processes > 0 || keeps || has_actors(job) ||
            (job->zygote && job->zygote->pid != 0)) {
            continue;
        }
        kept -= job->keeps ? 1 : 0;
        job_free(job);
    }
}
