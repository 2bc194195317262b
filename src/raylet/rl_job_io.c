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

void
rl_job_end(struct rl_job_io *job)
{
    struct raylet *r = job->raylet;
    if (job->ended) {
        return;
    }
    job->ended = true;
    rl_gcs_forget_job(job);
    if (job->number != 0) {
        if (!job->told_gcs) {
            Ray__Gcs__FinishJob m = RAY__GCS__FINISH_JOB__INIT;
            m.job_id = rl_bytes(job->id.b, sizeof(job->id.b));
            rl_gcs_tell(r, GCS_FINISH_JOB, &m.base);
            job->told_gcs = true;
        }
        LIST_FOR_SAFE (l, next, &r->actors) {
            struct rl_actor *a = LIST_ENTRY(l, struct rl_actor, all);
            if (a->job == job && !a->spec->detached && a->state == RL_ACTOR_WAITING) {
                rl_actor_forget(r, a);
            }
        }
        const uint64_t now = os_now_ns();
        rl_lease_on_job_end(&r->lease, now, job->number);
        struct rl_outs o;
        rl_outs_begin(r, &o);
        rl_lease_on_dead(&r->lease, now, job->actor_owner, "its job is over", &o.outs);
        rl_outs_finish(r, &o);
        rl_lease_on_reclaimed(&r->lease, os_now_ns(), job->actor_owner);
        rl_pump(r);
    }
    if (job->zygote) {
        rl_zygote_end(job->zygote);
    }
    rl_job_check(job);
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

/* Whether workers or the zygote of the job are left. */
static bool
has_processes(const struct rl_job_io *job)
{
    const uint32_t drivers = job->driver ? 1 : 0;
    return job->processes > drivers || (job->zygote && job->zygote->pid != 0);
}

void
rl_job_check(struct rl_job_io *job)
{
    if (!job->ended || has_processes(job)) {
        return;
    }
    if (job->goodbye && job->driver && !job->raylet->stopping) {
        const Ray__Node__Goodbye m = RAY__NODE__GOODBYE__INIT;
        rl_send(job->driver, NODE_GOODBYE, job->goodbye_request, &m.base);
        job->goodbye = false;
    }
    rl_stop_check(job->raylet);
}

void
rl_jobs_sweep(struct raylet *r)
{
    LIST_FOR_SAFE (l, next, &r->jobs) {
        struct rl_job_io *job = LIST_ENTRY(l, struct rl_job_io, all);
        if (!job->ended || job->driver || has_processes(job)) {
            continue;
        }
        bool has_actors = false;
        LIST_FOR (k, &r->actors) {
            has_actors |= LIST_ENTRY(k, struct rl_actor, all)->job == job;
        }
        if (has_actors) {
            continue; /* of a detached one that is about to be started again */
        }
        rl_zygote_free(&job->zygote);
        list_remove(&job->all);
        ray__node__job_config__free_unpacked(job->config, NULL);
        job->magic = 0;
        mem_free(r->mem, job, sizeof(*job));
    }
}
