/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lease server: what arrives, and what it means for leases, requests and processes. The choice
 * of who is granted what is in rl_lease_grant.c. See rl_lease.h and docs/protocols/leases.md.
 */
#include "raylet/rl_lease.h"

#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "raylet/rl_lease_priv.h"

#define LEASE_MS UINT64_C(1000000)

void
rl_lease_config_default(struct rl_lease_config *config, uint32_t cpus)
{
    *config = (struct rl_lease_config){
        .quantum_ns = 50 * LEASE_MS,
        .reserve_first_ns = 100 * LEASE_MS,
        .reserve_max_ns = 5000 * LEASE_MS,
        .cap_grace_ns = 1000 * LEASE_MS,
        .cap_actor_grace_ns = 30000 * LEASE_MS,
        .requests_max = 4096,
    };
    rl_pool_config_default(&config->pool, cpus);
}

int
rl_lease_init(struct rl_lease *m, const struct mem *mem, const struct rl_lease_config *config,
              const struct res_set *total, struct res_names *names, struct sched_keys *keys)
{
    *m = (struct rl_lease){
        .mem = mem,
        .config = *config,
        .names = names,
        .keys = keys,
        .next_lease = 1,
        .timer_ns = UINT64_MAX,
        .reserve_length_ns = config->reserve_first_ns,
    };
    TRY(sched_node_init(&m->node, total));
    rl_pool_init(&m->pool, mem, &config->pool);
    map_init(&m->procs, mem);
    map_init(&m->leases, mem);
    map_init(&m->jobs, mem);
    map_init(&m->requests, mem);
    slab_init(&m->proc_slab, mem, sizeof(struct rl_proc));
    slab_init(&m->lease_slab, mem, sizeof(struct rl_lease_record));
    slab_init(&m->request_slab, mem, sizeof(struct rl_request));
    slab_init(&m->job_slab, mem, sizeof(struct rl_job));
    list_init(&m->job_list);
    for (uint32_t i = 0; i < COUNT_OF(m->lists); i++) {
        list_init(&m->lists[i]);
    }
    return ST_OK;
}

void
rl_lease_fini(struct rl_lease *m)
{
    rl_pool_fini(&m->pool);
    map_fini(&m->procs);
    map_fini(&m->leases);
    map_fini(&m->jobs);
    map_fini(&m->requests);
    slab_fini(&m->proc_slab);
    slab_fini(&m->lease_slab);
    slab_fini(&m->request_slab);
    slab_fini(&m->job_slab);
}

/* The lease is over for its owner; its resources stay until the process is gone. */
void
rl_lease_make_dead(struct rl_lease *m, struct rl_lease_record *lease)
{
    list_remove(&lease->of_owner);
    lease->owner = NULL;
    if (rl_rule_is_off(m, RL_RULE_RECLAIM) && lease->hold.set) {
        rl_lease_account(m, lease, -1);
        sched_node_give(&m->node, &lease->hold);
    }
    rl_lease_set_state(m, lease, RL_LEASE_DEAD);
}

void
rl_lease_end(struct rl_lease *m, uint64_t now_ns, struct rl_lease_record *lease,
             enum rl_pool_reason reason, struct step_outs *outs)
{
    rl_lease_make_dead(m, lease);
    if (lease->worker->state < RL_WORKER_EXITING) {
        rl_pool_kill(&m->pool, now_ns, lease->worker, reason, outs);
        m->stats.killed++;
    }
}

static void
set_blocked(struct rl_lease *m, struct rl_lease_record *lease, bool blocked)
{
    rl_lease_account(m, lease, -1);
    if (blocked) {
        sched_node_block(&m->node, &lease->hold);
    } else {
        sched_node_unblock(&m->node, &lease->hold);
    }
    rl_lease_account(m, lease, 1);
}

void
rl_lease_emit_failed(struct rl_lease *m, uint64_t owner, uint32_t cookie, uint32_t count,
                     int status, const char *text, struct step_outs *outs)
{
    struct sched_lease_failed *msg = step_emit(outs, RL_OUT_FAILED, owner, sizeof(*msg));
    ASSERT(msg);
    msg->cookie = cookie;
    msg->count = count;
    msg->status = status;
    (void)snprintf(msg->text, sizeof(msg->text), "%s", text);
    m->stats.failed += count;
}

/* --- drivers and requests --------------------------------------------------------------------- */

int
rl_lease_on_driver(struct rl_lease *m, uint64_t proc, uint32_t job, int32_t pid)
{
    if (rl_lease_proc(m, proc)) {
        return st_fail(ST_PROTOCOL, "process %llu is known already", (unsigned long long)proc);
    }
    struct rl_proc *driver = rl_lease_add_proc(m, proc, job, NULL);
    if (!driver) {
        return ST_OUT_OF_MEMORY;
    }
    driver->pid = pid;
    return ST_OK;
}

void
rl_lease_prestart(struct rl_lease *m, uint32_t job, uint64_t env_hash, uint32_t count)
{
    struct rl_class *class_ = rl_pool_class(&m->pool, job, env_hash);
    if (class_) {
        class_->prestarted = true;
        class_->prestart = count < m->pool.config.cpus ? count : m->pool.config.cpus;
    }
}

void
rl_lease_enqueue(struct rl_lease *m, struct rl_request *request)
{
    list_remove(&request->of_lane);
    struct list *lane = &request->owner->job->lanes[request->kind];
    struct list *at = lane->prev;
    while (at != lane && !rl_rule_is_off(m, RL_RULE_DEEPEST)) {
        const struct rl_request *before = LIST_ENTRY(at, struct rl_request, of_lane);
        if (before->depth > request->depth ||
            (before->depth == request->depth && before->serial < request->serial)) {
            break;
        }
        at = at->prev;
    }
    list_push_front(at, &request->of_lane);
}

static int
check_request(const struct rl_lease *m, const struct sched_lease_request *msg)
{
    const bool good = msg->key < m->keys->count && msg->count >= 1 && msg->count <= RL_COUNT_MAX &&
                      msg->depth <= RL_DEPTH_MAX &&
                      (msg->kind == SCHED_LEASE_TASK || msg->kind == SCHED_LEASE_ACTOR) &&
                      memchr(msg->name, '\0', sizeof(msg->name));
    return good ? ST_OK : st_fail(ST_PROTOCOL, "a lease request with values out of range");
}

/* Tells once that the request can never be granted here. */
static void
check_feasible(struct rl_lease *m, struct rl_request *request, struct step_outs *outs)
{
    char why[SCHED_WHY_MAX];
    if (sched_node_feasible(&m->node, m->names, &request->key->placement, why) &&
        sched_node_feasible(&m->node, m->names, &request->key->resources, why)) {
        return;
    }
    request->infeasible = true;
    struct sched_lease_pending *msg =
        step_emit(outs, RL_OUT_PENDING, request->owner->number, sizeof(*msg));
    ASSERT(msg);
    msg->cookie = request->cookie;
    (void)snprintf(msg->text, sizeof(msg->text),
                   "%s '%s' can't be scheduled: it %s. It stays pending until a node that has "
                   "enough joins; else ask for less, or start ray with more.",
                   request->kind == SCHED_LEASE_ACTOR ? "actor" : "task",
                   request->name[0] ? request->name : "?", why);
}

static struct rl_request *
add_request(struct rl_lease *m, uint64_t now_ns, struct rl_proc *owner,
            const struct sched_lease_request *msg)
{
    const struct sched_key *key = sched_keys_get(m->keys, msg->key);
    struct rl_class *class_ = rl_pool_class(&m->pool, owner->job->number, key->env_hash);
    struct rl_request *request = class_ ? slab_take(&m->request_slab) : NULL;
    if (!request) {
        return NULL;
    }
    *request = (struct rl_request){
        .magic = RL_REQUEST_MAGIC,
        .owner = owner,
        .class_ = class_,
        .key = key,
        .key_number = msg->key,
        .cookie = msg->cookie,
        .kind = msg->kind,
        .detached = msg->detached,
        .serial = m->next_serial++,
        .since_ns = now_ns,
        .placed_alike = res_set_equal(&key->placement, &key->resources),
    };
    list_init(&request->of_lane);
    if (map_insert(&m->requests, &request->by_cookie,
                   rl_lease_request_hash(owner->number, msg->cookie)) != ST_OK) {
        slab_give(&m->request_slab, request);
        return NULL;
    }
    list_push_back(&owner->requests, &request->of_owner);
    owner->request_count++;
    owner->job->requests++;
    m->stats.pending_records++;
    return request;
}

int
rl_lease_on_request(struct rl_lease *m, uint64_t now_ns, uint64_t owner,
                    const struct sched_lease_request *msg, struct step_outs *outs)
{
    TRY(check_request(m, msg));
    struct rl_proc *proc = rl_lease_proc(m, owner);
    if (!proc) {
        return st_fail(ST_PROTOCOL, "a lease request from an unknown process");
    }
    if (proc->job->ended && !msg->detached && !(proc->worker && proc->worker->detached)) {
        return ST_OK; /* it is about to end itself */
    }
    struct rl_request *request = rl_lease_request(m, owner, msg->cookie);
    if (request && (request->key_number != msg->key || request->kind != msg->kind ||
                    request->count > RL_COUNT_MAX)) {
        return st_fail(ST_PROTOCOL, "a lease request that contradicts an earlier one");
    }
    const bool is_new = !request;
    if (is_new && proc->request_count >= m->config.requests_max) {
        rl_lease_emit_failed(m, owner, msg->cookie, msg->count, ST_LIMIT,
                             "this process waits for too many different kinds of lease at once",
                             outs);
        return ST_OK;
    }
    if (is_new && !(request = add_request(m, now_ns, proc, msg))) {
        rl_lease_emit_failed(m, owner, msg->cookie, msg->count, ST_LIMIT,
                             "the raylet is out of memory", outs);
        return ST_OK;
    }
    request->count += msg->count;
    m->stats.pending_units += msg->count;
    request->first_task = msg->first_task;
    memcpy(request->name, msg->name, sizeof(request->name));
    if (is_new || msg->depth > request->depth) {
        request->depth = msg->depth;
        rl_lease_enqueue(m, request);
    }
    if (is_new) {
        check_feasible(m, request, outs);
    }
    m->changed = true;
    return ST_OK;
}

int
rl_lease_on_cancel(struct rl_lease *m, uint64_t now_ns, uint64_t owner,
                   const struct sched_lease_cancel *msg, struct step_outs *outs)
{
    (void)now_ns;
    struct rl_proc *proc = rl_lease_proc(m, owner);
    if (!proc) {
        return st_fail(ST_PROTOCOL, "a cancel from an unknown process");
    }
    uint32_t left = msg->count;
    struct rl_request *request = rl_lease_request(m, owner, msg->cookie);
    if (request) {
        const uint32_t n = left < request->count ? left : request->count;
        left -= n;
        request->count -= n;
        m->stats.pending_units -= n;
        if (request->count == 0) {
            rl_lease_request_drop(m, request);
        }
    }
    /* Those that still wait for their process have not been answered either. */
    for (struct list *l = proc->leases.prev; left > 0 && l != &proc->leases;) {
        struct rl_lease_record *lease = LIST_ENTRY(l, struct rl_lease_record, of_owner);
        l = l->prev;
        if (lease->state == RL_LEASE_FORMING && lease->cookie == msg->cookie) {
            rl_lease_free(m, lease);
            left--;
        }
    }
    struct sched_lease_cancelled *out = step_emit(outs, RL_OUT_CANCELLED, owner, sizeof(*out));
    ASSERT(out);
    out->cookie = msg->cookie;
    out->count = msg->count - left;
    m->stats.cancelled += out->count;
    m->changed = true;
    return ST_OK;
}

/* --- the end of leases ------------------------------------------------------------------------ */

void
rl_lease_emit_take_back(struct rl_worker *worker, struct step_outs *outs)
{
    struct rl_out_take_back *msg = step_emit(outs, RL_OUT_TAKE_BACK, worker->number, sizeof(*msg));
    ASSERT(msg);
    msg->epoch = worker->epoch;
}

/* The process is used up. */
static void
retire(struct rl_lease *m, uint64_t now_ns, struct rl_lease_record *lease, struct step_outs *outs)
{
    struct rl_worker *worker = lease->worker;
    worker->retire = true;
    if (worker->owning) {
        rl_lease_free(m, lease);
        rl_pool_drain(&m->pool, now_ns, worker);
        return;
    }
    if (lease->hold.gpu_mask) {
        rl_lease_make_dead(m, lease); /* its memory on the device lives as long as it does */
    } else {
        rl_lease_free(m, lease);
    }
    rl_pool_exit(&m->pool, now_ns, worker, RL_END_RETIRED, outs);
}

int
rl_lease_on_return(struct rl_lease *m, uint64_t now_ns, uint64_t owner,
                   const struct sched_lease_return *msg, struct step_outs *outs)
{
    struct rl_lease_record *lease = rl_lease_get(m, msg->lease);
    if (!lease) {
        return msg->lease > 0 && msg->lease < m->next_lease
                   ? ST_OK /* crossed with the death of its worker */
                   : st_fail(ST_PROTOCOL, "the return of a lease that never was");
    }
    if (lease->state == RL_LEASE_DEAD) {
        return ST_OK;
    }
    if (!lease->owner || lease->owner->number != owner || lease->state == RL_LEASE_FORMING) {
        return st_fail(ST_PROTOCOL, "the return of a lease by a process that doesn't hold it");
    }
    struct rl_worker *worker = lease->worker;
    m->stats.returned++;
    m->changed = m->progress = true;
    if (worker->state != RL_WORKER_LEASED) {
        rl_lease_make_dead(m, lease); /* it is being ended already */
    } else if ((msg->flags & SCHED_RETURN_KILL) || lease->kind == SCHED_LEASE_ACTOR) {
        rl_lease_end(m, now_ns, lease, RL_END_RETURNED, outs);
    } else if (msg->flags & SCHED_RETURN_RETIRE) {
        retire(m, now_ns, lease, outs);
    } else {
        rl_lease_free(m, lease);
        worker->epoch++;
        if (rl_rule_is_off(m, RL_RULE_TAKE_BACK)) {
            rl_pool_idle(&m->pool, now_ns, worker);
        } else {
            rl_pool_settle(&m->pool, now_ns, worker);
            rl_lease_emit_take_back(worker, outs);
        }
    }
    return ST_OK;
}

int
rl_lease_on_blocked(struct rl_lease *m, uint64_t now_ns, uint64_t worker,
                    const struct sched_lease_blocked *msg)
{
    (void)now_ns;
    struct rl_worker *w = rl_pool_find(&m->pool, worker);
    if (!w) {
        return st_fail(ST_PROTOCOL, "a blocked notice from a process that is no worker");
    }
    struct rl_lease_record *lease = w->lease;
    if (!lease || lease->state == RL_LEASE_DEAD || w->state != RL_WORKER_LEASED ||
        (lease->epoch != msg->epoch && !rl_rule_is_off(m, RL_RULE_EPOCH))) {
        return ST_OK; /* crossed with the end of that lease */
    }
    set_blocked(m, lease, msg->blocked);
    rl_pool_set_blocked(&m->pool, w, msg->blocked);
    m->changed = m->progress = true;
    return ST_OK;
}

void
rl_lease_on_taken(struct rl_lease *m, uint64_t now_ns, uint64_t worker, uint64_t epoch,
                  bool running, struct step_outs *outs)
{
    struct rl_worker *w = rl_pool_find(&m->pool, worker);
    if (!w || w->epoch != epoch) {
        return;
    }
    struct rl_lease_record *lease = w->lease;
    if (w->state == RL_WORKER_SETTLING) {
        if (running) {
            const uint64_t waited = now_ns - w->since_ns;
            const uint64_t pause = waited < LEASE_MS ? LEASE_MS : waited;
            w->look_ns = now_ns + (pause < 50 * LEASE_MS ? pause : 50 * LEASE_MS);
        } else {
            rl_pool_idle(&m->pool, now_ns, w);
        }
        m->changed = true;
    } else if (lease && lease->state == RL_LEASE_ORPHAN && lease->taking) {
        if (w->state != RL_WORKER_LEASED) {
            rl_lease_make_dead(m, lease);
            return;
        }
        if (running) {
            rl_lease_end(m, now_ns, lease, RL_END_OWNER_DIED, outs);
            return;
        }
        rl_lease_free(m, lease);
        if (w->owning) {
            rl_pool_drain(&m->pool, now_ns, w);
        } else {
            rl_pool_idle(&m->pool, now_ns, w);
        }
    }
}

/* What a process owned when it died. The outs come from the pump. */
static void
end_owner(struct rl_lease *m, struct rl_proc *proc)
{
    LIST_FOR_SAFE (l, next, &proc->requests) {
        rl_lease_request_drop(m, LIST_ENTRY(l, struct rl_request, of_owner));
    }
    LIST_FOR_SAFE (l, next, &proc->leases) {
        struct rl_lease_record *lease = LIST_ENTRY(l, struct rl_lease_record, of_owner);
        list_remove(&lease->of_owner);
        lease->owner = NULL;
        if (lease->state == RL_LEASE_FORMING) {
            rl_lease_free(m, lease);
        } else if (!lease->detached && !rl_rule_is_off(m, RL_RULE_ORPHANS)) {
            rl_lease_set_state(m, lease, RL_LEASE_ORPHAN);
        }
    }
    struct rl_job *job = proc->job;
    map_remove(&m->procs, &proc->by_number);
    proc->magic = 0;
    slab_give(&m->proc_slab, proc);
    job->procs--;
    rl_lease_forget_job_if_over(m, job);
    m->changed = m->progress = true;
}

void
rl_lease_on_dead(struct rl_lease *m, uint64_t now_ns, uint64_t proc, const char *evidence,
                 struct step_outs *outs)
{
    struct rl_worker *worker = rl_pool_find(&m->pool, proc);
    struct rl_lease_record *lease = worker ? worker->lease : NULL;
    if (worker) {
        rl_pool_on_dead(&m->pool, now_ns, proc, evidence);
    }
    if (lease && lease->state != RL_LEASE_DEAD) {
        if (lease->owner) {
            struct sched_lease_note *msg =
                step_emit(outs, RL_OUT_LEASE_DEAD, lease->owner->number, sizeof(*msg));
            ASSERT(msg);
            *msg = (struct sched_lease_note){ .lease = lease->id, .worker = proc };
        }
        rl_lease_make_dead(m, lease);
    }
    struct rl_proc *owner = rl_lease_proc(m, proc);
    if (owner) {
        end_owner(m, owner);
    }
    m->changed = m->progress = true;
}

void
rl_lease_on_reclaimed(struct rl_lease *m, uint64_t now_ns, uint64_t proc)
{
    (void)now_ns;
    struct rl_worker *worker = rl_pool_find(&m->pool, proc);
    if (!worker || worker->state != RL_WORKER_DEAD) {
        return;
    }
    if (worker->lease) {
        rl_lease_free(m, worker->lease);
    }
    rl_pool_on_reclaimed(&m->pool, proc);
    m->changed = m->progress = true;
}

/* Whether it is a detached actor, or works for one. `proc` may be NULL. */
static bool
is_of_detached(const struct rl_proc *proc)
{
    return proc && proc->worker && proc->worker->detached;
}

void
rl_lease_on_job_end(struct rl_lease *m, uint64_t now_ns, uint32_t job, bool goes_on)
{
    (void)now_ns;
    struct rl_job *record = rl_lease_job(m, job);
    if (record) {
        record->ended = true;
        for (uint32_t lane = 0; lane < RL_LANES; lane++) {
            LIST_FOR_SAFE (l, next, &record->lanes[lane]) {
                struct rl_request *request = LIST_ENTRY(l, struct rl_request, of_lane);
                if (!request->detached && !is_of_detached(request->owner)) {
                    rl_lease_request_drop(m, request);
                }
            }
        }
        LIST_FOR_SAFE (l, next, &m->lists[RL_LEASE_FORMING]) {
            struct rl_lease_record *lease = LIST_ENTRY(l, struct rl_lease_record, link);
            if (lease->job == record && !lease->detached && !is_of_detached(lease->owner)) {
                rl_lease_free(m, lease);
            }
        }
    }
    rl_pool_end_job(&m->pool, job, goes_on);
}

void
rl_lease_kill(struct rl_lease *m, uint64_t now_ns, uint64_t lease, struct step_outs *outs)
{
    struct rl_lease_record *record = rl_lease_get(m, lease);
    if (record && record->worker && record->worker->state < RL_WORKER_EXITING) {
        rl_pool_kill(&m->pool, now_ns, record->worker, RL_END_RAYLET, outs);
    }
}

/* --- processes -------------------------------------------------------------------------------- */

void
rl_lease_on_owning(struct rl_lease *m, uint64_t now_ns, uint64_t worker, bool owning)
{
    rl_pool_on_owning(&m->pool, now_ns, worker, owning);
    struct rl_worker *w = rl_pool_find(&m->pool, worker);
    if (w && w->state == RL_WORKER_DRAINING && w->lease && w->lease->state == RL_LEASE_DEAD) {
        rl_lease_free(m, w->lease); /* as when it had been known at the return */
    }
    m->changed = true;
}

void
rl_lease_on_spawned(struct rl_lease *m, uint64_t now_ns, uint64_t worker, int32_t pid,
                    struct step_outs *outs)
{
    rl_pool_on_spawned(&m->pool, now_ns, worker, pid, outs);
}

int
rl_lease_on_hello(struct rl_lease *m, uint64_t now_ns, uint64_t worker, struct step_outs *outs)
{
    if (!rl_pool_on_hello(&m->pool, now_ns, worker, outs)) {
        return st_fail(ST_PROTOCOL, "hello from a worker that nobody waits for");
    }
    struct rl_worker *w = rl_pool_find(&m->pool, worker);
    struct rl_proc *proc = rl_lease_add_proc(m, worker, w->class_->job, w);
    if (!proc) {
        rl_pool_kill(&m->pool, now_ns, w, RL_END_ORPHAN, outs);
        return ST_OUT_OF_MEMORY;
    }
    proc->pid = w->pid;
    m->changed = m->progress = true;
    return ST_OK;
}

void
rl_lease_on_start_failed(struct rl_lease *m, uint64_t now_ns, uint64_t worker, const char *evidence)
{
    rl_pool_on_start_failed(&m->pool, now_ns, worker, evidence);
    m->changed = true;
}
