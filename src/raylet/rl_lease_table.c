/* SPDX-License-Identifier: Apache-2.0 */
/* The lease server's tables: processes, jobs, requests, leases; and what is booked to whom. */
#include <stdio.h>
#include <string.h>

#include "base/id.h"
#include "base/status.h"
#include "raylet/rl_lease_priv.h"

struct rl_proc *
rl_lease_proc(const struct rl_lease *m, uint64_t number)
{
    struct map_link *l;
    MAP_FOR_HASH (l, &m->procs, id_mix64(number)) {
        struct rl_proc *proc = CONTAINER_OF(l, struct rl_proc, by_number);
        if (proc->number == number) {
            ASSERT(proc->magic == RL_PROC_MAGIC);
            return proc;
        }
    }
    return NULL;
}

struct rl_lease_record *
rl_lease_get(const struct rl_lease *m, uint64_t id)
{
    struct map_link *l;
    MAP_FOR_HASH (l, &m->leases, id_mix64(id)) {
        struct rl_lease_record *lease = CONTAINER_OF(l, struct rl_lease_record, by_id);
        if (lease->id == id) {
            ASSERT(lease->magic == RL_LEASE_MAGIC);
            return lease;
        }
    }
    return NULL;
}

const char *
rl_lease_state_text(enum rl_lease_state state)
{
    static const char *const text[] = {
        [RL_LEASE_FORMING] = "forming", [RL_LEASE_ACTIVE] = "active",
        [RL_LEASE_REVOKED] = "revoked", [RL_LEASE_ORPHAN] = "orphan",
        [RL_LEASE_DEAD] = "dead",
    };
    return (size_t)state < COUNT_OF(text) ? text[state] : "unknown";
}

const struct rl_lease_record *
rl_lease_find(const struct rl_lease *m, uint64_t lease)
{
    return rl_lease_get(m, lease);
}

const struct rl_lease_record *
rl_lease_of_worker(const struct rl_lease *m, uint64_t worker)
{
    const struct rl_worker *w = rl_pool_find(&m->pool, worker);
    return w ? w->lease : NULL;
}

uint64_t
rl_lease_request_hash(uint64_t owner, uint32_t cookie)
{
    return id_mix64(id_mix64(owner) + cookie);
}

struct rl_request *
rl_lease_request(const struct rl_lease *m, uint64_t owner, uint32_t cookie)
{
    struct map_link *l;
    MAP_FOR_HASH (l, &m->requests, rl_lease_request_hash(owner, cookie)) {
        struct rl_request *request = CONTAINER_OF(l, struct rl_request, by_cookie);
        if (request->owner->number == owner && request->cookie == cookie) {
            ASSERT(request->magic == RL_REQUEST_MAGIC);
            return request;
        }
    }
    return NULL;
}

struct rl_job *
rl_lease_job(const struct rl_lease *m, uint32_t number)
{
    struct map_link *l;
    MAP_FOR_HASH (l, &m->jobs, id_mix64(number)) {
        struct rl_job *job = CONTAINER_OF(l, struct rl_job, by_number);
        if (job->number == number) {
            ASSERT(job->magic == RL_JOB_MAGIC);
            return job;
        }
    }
    return NULL;
}

static struct rl_job *
get_job(struct rl_lease *m, uint32_t number)
{
    struct rl_job *job = rl_lease_job(m, number);
    if (job) {
        return job;
    }
    job = slab_take(&m->job_slab);
    if (!job) {
        return NULL;
    }
    *job = (struct rl_job){ .magic = RL_JOB_MAGIC, .number = number };
    list_init(&job->lanes[SCHED_LEASE_TASK]);
    list_init(&job->lanes[SCHED_LEASE_ACTOR]);
    if (map_insert(&m->jobs, &job->by_number, id_mix64(number)) != ST_OK) {
        slab_give(&m->job_slab, job);
        return NULL;
    }
    list_push_back(&m->job_list, &job->link);
    return job;
}

void
rl_lease_forget_job_if_over(struct rl_lease *m, struct rl_job *job)
{
    if (job->procs == 0 && job->leases == 0 && job->requests == 0) {
        map_remove(&m->jobs, &job->by_number);
        list_remove(&job->link);
        job->magic = 0;
        slab_give(&m->job_slab, job);
    }
}

struct rl_proc *
rl_lease_add_proc(struct rl_lease *m, uint64_t number, uint32_t job_number,
                  struct rl_worker *worker)
{
    struct rl_job *job = get_job(m, job_number);
    struct rl_proc *proc = job ? slab_take(&m->proc_slab) : NULL;
    if (!proc) {
        return NULL;
    }
    *proc =
        (struct rl_proc){ .magic = RL_PROC_MAGIC, .number = number, .job = job, .worker = worker };
    list_init(&proc->leases);
    list_init(&proc->requests);
    if (map_insert(&m->procs, &proc->by_number, id_mix64(number)) != ST_OK) {
        slab_give(&m->proc_slab, proc);
        return NULL;
    }
    job->procs++;
    return proc;
}

void
rl_lease_set_state(struct rl_lease *m, struct rl_lease_record *lease, enum rl_lease_state state)
{
    list_remove(&lease->link);
    m->in_state[lease->state]--;
    lease->state = state;
    m->in_state[state]++;
    list_push_back(&m->lists[state], &lease->link);
}

void
rl_lease_account(struct rl_lease *m, const struct rl_lease_record *lease, int64_t sign)
{
    int64_t *account = lease->kind == SCHED_LEASE_ACTOR ? m->actor_held : lease->job->held;
    if (!lease->hold.set) {
        return;
    }
    for (uint32_t i = 0; i < m->node.total.count; i++) {
        const uint32_t name = m->node.total.items[i].name;
        if (name != RES_CPU || !lease->hold.cpu_given_back) {
            account[i] += sign * res_set_get(lease->hold.set, name).v;
            ASSERT(account[i] >= 0);
        }
    }
}

void
rl_lease_free(struct rl_lease *m, struct rl_lease_record *lease)
{
    rl_lease_account(m, lease, -1);
    sched_node_give(&m->node, &lease->hold);
    if (lease->state == RL_LEASE_FORMING) {
        rl_pool_wait(&m->pool, lease->class_, -1);
    }
    if (lease->worker) {
        ASSERT(lease->worker->lease == lease);
        lease->worker->lease = NULL;
    }
    list_remove(&lease->of_owner);
    list_remove(&lease->link);
    m->in_state[lease->state]--;
    map_remove(&m->leases, &lease->by_id);
    struct rl_job *job = lease->job;
    lease->magic = 0;
    slab_give(&m->lease_slab, lease);
    job->leases--;
    rl_lease_forget_job_if_over(m, job);
    m->changed = m->progress = true;
}

void
rl_lease_request_drop(struct rl_lease *m, struct rl_request *request)
{
    if (m->reserved == request) {
        m->reserved = NULL;
        m->reserve_length_ns = m->config.reserve_first_ns;
        m->reserve_pause_ns = 0;
    }
    if (m->capped == request) {
        m->capped = NULL;
    }
    m->stats.pending_units -= request->count;
    m->stats.pending_records--;
    list_remove(&request->of_lane);
    list_remove(&request->of_owner);
    map_remove(&m->requests, &request->by_cookie);
    request->owner->request_count--;
    request->owner->job->requests--;
    request->magic = 0;
    slab_give(&m->request_slab, request);
    m->changed = true;
}
