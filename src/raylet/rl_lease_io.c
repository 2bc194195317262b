/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between the lease machine and the world: messages of owners and workers in, outs carried out.
 *
 * What a step brings about is carried out before the next: outs go into connections' queues,
 * control pages are written, processes are started and killed. Taking a worker back reads its page
 * at once, and its answer is one more input, so rl_outs_finish repeats until nothing follows.
 */
#include <stdio.h>
#include <string.h>

#include "net/net_window.h"
#include "os/os_basic.h"
#include "raylet/rl_io.h"

enum { LEASES_A_FRAME = 64 };

void
rl_outs_begin(struct raylet *r, struct rl_outs *o)
{
    o->outs = (struct step_outs){ .v = o->v, .capacity = RL_OUTS, .arena = &r->arena };
}

/* ---- grants ---------------------------------------------------------------------------------- */

/* Grants of one key to one owner that go out in one frame. */
struct batch {
    struct rl_process *owner;
    uint32_t cookie;
    size_t count;
    Ray__Node__Lease leases[LEASES_A_FRAME];
    Ray__Node__Lease *pointers[LEASES_A_FRAME];
    uint32_t gpus[LEASES_A_FRAME][SCHED_GPU_MAX];
};

static void
flush_batch(struct batch *b)
{
    if (b->count == 0) {
        return;
    }
    Ray__Node__LeaseGrant m = RAY__NODE__LEASE_GRANT__INIT;
    m.key = b->cookie;
    m.n_leases = b->count;
    m.leases = b->pointers;
    rl_send(b->owner, NODE_LEASE_GRANT, 0, &m.base);
    b->count = 0;
}

static void
write_lease_page(struct raylet *r, const struct rl_process *worker,
                 const struct sched_lease_grant *grant)
{
    struct store_lease lease = { .epoch = grant->epoch, .omp_threads = grant->omp };
    for (uint32_t i = 0; i < SCHED_GPU_MAX && lease.gpu_count < STORE_GPUS_MAX; i++) {
        if (grant->gpu_mask >> i & 1) {
            lease.gpus[lease.gpu_count++] = i;
        }
    }
    store_proc_grant_lease(r->store, worker->store_proc, &lease);
}

static void
on_grant(struct raylet *r, const struct step_out *out, struct batch *b)
{
    const struct sched_lease_grant *grant = out->msg;
    struct rl_process *worker = rl_find_number(r, grant->worker);
    ASSERT(worker && worker->has_store);
    write_lease_page(r, worker, grant);
    if (rl_actor_granted(r, out->peer, grant)) {
        return;
    }
    struct rl_process *owner = rl_find_number(r, out->peer);
    if (!owner) {
        return; /* its death is being told to the machine */
    }
    if (b->count == LEASES_A_FRAME || b->owner != owner || b->cookie != grant->cookie) {
        flush_batch(b);
    }
    b->owner = owner;
    b->cookie = grant->cookie;
    Ray__Node__Lease *lease = &b->leases[b->count];
    ray__node__lease__init(lease);
    lease->lease_id = grant->lease;
    lease->epoch = grant->epoch;
    lease->worker_id = rl_bytes(worker->id.b, sizeof(worker->id.b));
    lease->pid = worker->pid;
    lease->peer_socket = worker->peer_socket;
    lease->window_worker = worker->store_proc;
    lease->gpu_ids = b->gpus[b->count];
    for (uint32_t i = 0; i < SCHED_GPU_MAX; i++) {
        if (grant->gpu_mask >> i & 1) {
            lease->gpu_ids[lease->n_gpu_ids++] = i;
        }
    }
    b->pointers[b->count++] = lease;
}

/* ---- other outs ------------------------------------------------------------------------------ */

static void
send_trouble(struct raylet *r, uint64_t owner, uint64_t key, uint32_t count, int status,
             const char *text)
{
    struct rl_process *p = rl_find_number(r, owner);
    if (!p) {
        return;
    }
    Ray__Node__LeaseTrouble m = RAY__NODE__LEASE_TROUBLE__INIT;
    m.key = key;
    m.count = count;
    m.fatal = count > 0;
    m.status = status;
    m.text = rl_text(text);
    rl_send(p, NODE_LEASE_TROUBLE, 0, &m.base);
}

static void
on_cancelled(struct raylet *r, const struct step_out *out)
{
    const struct sched_lease_cancelled *msg = out->msg;
    struct rl_process *p = rl_find_number(r, out->peer);
    if (p) {
        Ray__Node__LeaseCancelled m = RAY__NODE__LEASE_CANCELLED__INIT;
        m.key = msg->cookie;
        m.count = msg->count;
        rl_send(p, NODE_LEASE_CANCELLED, 0, &m.base);
    }
}

static void
on_note(struct raylet *r, const struct step_out *out)
{
    const struct sched_lease_note *note = out->msg;
    struct rl_process *owner = rl_find_number(r, out->peer);
    struct rl_process *worker = rl_find_number(r, note->worker);
    if (!owner) {
        return;
    }
    if (out->kind == RL_OUT_LEASE_DEAD) {
        if (worker) {
            rl_death_collect(owner, worker);
        }
        return;
    }
    Ray__Node__LeaseRevoke m = RAY__NODE__LEASE_REVOKE__INIT;
    m.lease_id = note->lease;
    m.withdrawn = out->kind == RL_OUT_WITHDRAW;
    rl_send(owner, NODE_LEASE_REVOKE, 0, &m.base);
}

/* Writes the next epoch, fences, and looks whether a task of an older one runs. */
static void
take_back(struct raylet *r, const struct step_out *out, struct rl_outs *next)
{
    const struct rl_out_take_back *msg = out->msg;
    const struct rl_process *worker = rl_find_number(r, out->peer);
    bool running = false;
    if (worker && worker->has_store) {
        struct store_ctl_raylet *half = store_proc_raylet_half(r->store, worker->store_proc);
        struct store_ctl_process *own = store_proc_process_half(r->store, worker->store_proc);
        const uint64_t now_running =
            net_window_change_epoch(&half->lease_epoch, &own->running, msg->epoch);
        running = now_running != 0 && now_running < msg->epoch;
        /* Its notice may still be on the way, and the process is free from now on. */
        if (atom_u32_load(&own->status.flags, ATOM_ACQUIRE) & STORE_STATUS_OWNING) {
            rl_lease_on_owning(&r->lease, os_now_ns(), out->peer, true);
        }
    }
    rl_lease_on_taken(&r->lease, os_now_ns(), out->peer, msg->epoch, running, &next->outs);
}

static void
on_pool_out(struct raylet *r, const struct step_out *out)
{
    struct rl_process *p = rl_find_number(r, out->peer);
    const struct rl_pool_end *end = out->msg;
    switch (out->kind) {
    case RL_POOL_OUT_START:
        rl_worker_start(r, out->msg);
        break;
    case RL_POOL_OUT_GO:
        if (p) {
            rl_worker_go(p);
        }
        break;
    case RL_POOL_OUT_EXIT:
        if (p) {
            rl_worker_exit(p, rl_pool_reason_text(end->reason));
        }
        break;
    case RL_POOL_OUT_KILL:
        if (p) {
            rl_worker_kill(p, rl_pool_reason_text(end->reason));
        }
        break;
    default:
        UNREACHABLE();
    }
}

static void
carry_out_one(struct raylet *r, const struct step_out *out, struct batch *b, struct rl_outs *next)
{
    switch (out->kind) {
    case RL_OUT_TIMER:
        rl_arm(r, &r->lease_timer, out->when_ns);
        break;
    case RL_OUT_GRANT:
        on_grant(r, out, b);
        break;
    case RL_OUT_CANCELLED:
        on_cancelled(r, out);
        break;
    case RL_OUT_FAILED: {
        const struct sched_lease_failed *m = out->msg;
        if (!rl_actor_failed(r, out->peer, m)) {
            send_trouble(r, out->peer, m->cookie, m->count, m->status, m->text);
        }
        break;
    }
    case RL_OUT_PENDING: {
        const struct sched_lease_pending *m = out->msg;
        if (!rl_actor_pending(r, out->peer, m)) {
            send_trouble(r, out->peer, m->cookie, 0, ST_TASK_UNSCHEDULABLE, m->text);
        }
        break;
    }
    case RL_OUT_REVOKE:
    case RL_OUT_WITHDRAW:
    case RL_OUT_LEASE_DEAD:
        on_note(r, out);
        break;
    case RL_OUT_TAKE_BACK:
        take_back(r, out, next);
        break;
    default:
        on_pool_out(r, out);
        break;
    }
}

/* Carries out a set; what that brings about at once goes into `next`. */
static void
carry_out(struct raylet *r, struct rl_outs *o, struct rl_outs *next)
{
    struct batch b;
    b.count = 0;
    b.owner = NULL;
    b.cookie = 0;
    rl_outs_begin(r, next);
    for (uint32_t i = 0; i < o->outs.count; i++) {
        carry_out_one(r, &o->outs.v[i], &b, next);
        if (next->outs.capacity - next->outs.count < RL_LEASE_OUTS_MIN) {
            /* Few outs follow from taking back, so this is rare: make room by carrying them out. */
            flush_batch(&b);
            struct rl_outs more;
            carry_out(r, next, &more);
            *next = more;
            next->outs.v = next->v;
        }
    }
    flush_batch(&b);
}

void
rl_outs_finish(struct raylet *r, struct rl_outs *o)
{
    if (r->pumping) {
        /* Called while outs are carried out (a process could not be started): these are carried
         * out, and the one that is at it pumps once more. */
        struct rl_outs next;
        carry_out(r, o, &next);
        while (next.outs.count > 0) {
            struct rl_outs after;
            carry_out(r, &next, &after);
            next = after;
            next.outs.v = next.v;
        }
        r->pump_again = true;
        return;
    }
    r->pumping = true;
    bool again = true;
    struct rl_outs next;
    while (again) {
        carry_out(r, o, &next);
        r->pump_again = false;
        if (next.outs.capacity - next.outs.count >= RL_LEASE_OUTS_MIN) {
            rl_lease_pump(&r->lease, os_now_ns(), &next.outs);
        }
        again = next.outs.count > 0 || next.outs.more || r->pump_again;
        *o = next;
        o->outs.v = o->v;
        o->outs.more = false;
    }
    r->pumping = false;
    arena_reset(&r->arena);
    rl_store_work_soon(r);
}

void
rl_pump(struct raylet *r)
{
    struct rl_outs o;
    rl_outs_begin(r, &o);
    rl_outs_finish(r, &o);
}

void
rl_lease_on_timer(void *ctx)
{
    struct raylet *r = ctx;
    struct rl_outs o;
    rl_outs_begin(r, &o);
    const struct step_in in = { .kind = RL_IN_TICK, .now_ns = os_now_ns() };
    if (rl_lease_step(&r->lease, &in, &o.outs) != ST_OK) {
        os_log(OS_LOG_ERROR, "%s", st_last()->text);
    }
    rl_outs_finish(r, &o);
}

/* ---- messages -------------------------------------------------------------------------------- */

int
rl_key_set(struct raylet *r, Ray__Node__Resource *const *from, size_t count, struct res_set *out)
{
    res_set_init(out);
    if (count > RES_SET_MAX) {
        return st_fail(ST_PROTOCOL, "%zu kinds of resource, at most %d are allowed", count,
                       RES_SET_MAX);
    }
    for (size_t i = 0; i < count; i++) {
        const size_t length = strlen(from[i]->name);
        if (length == 0 || length >= RES_NAME_MAX || from[i]->amount < 0 ||
            from[i]->amount > RES_AMOUNT_MAX) {
            return st_fail(ST_PROTOCOL, "the resource '%.*s' makes no sense", RES_NAME_MAX,
                           from[i]->name);
        }
        uint32_t name = 0;
        TRY(res_names_intern(&r->names, from[i]->name, length, &name));
        TRY(res_set_put(out, name, (struct res_amount){ from[i]->amount }));
    }
    return ST_OK;
}

int
rl_on_lease_request(struct rl_process *p, const Ray__Node__LeaseRequest *m)
{
    struct raylet *r = p->raylet;
    if (m->key > UINT32_MAX || m->count == 0) {
        return st_fail(ST_PROTOCOL, "a lease request for %u of key %llu", m->count,
                       (unsigned long long)m->key);
    }
    if (!rl_job_goes_on(p->job)) {
        return ST_OK; /* it will be told to end */
    }
    struct sched_key key;
    memset(&key, 0, sizeof(key));
    TRY(rl_key_set(r, m->resources, m->n_resources, &key.resources));
    key.placement = key.resources;
    key.env_hash = m->runtime_env;
    struct sched_lease_request request = {
        .cookie = (uint32_t)m->key,
        .count = m->count,
        .depth = m->depth,
        .kind = SCHED_LEASE_TASK,
    };
    TRY(sched_keys_intern(&r->keys, &key, &request.key));
    ID_SET_NIL(&request.first_task);
    (void)snprintf(request.name, sizeof(request.name), "%s", m->what);
    struct rl_outs o;
    rl_outs_begin(r, &o);
    TRY(rl_lease_on_request(&r->lease, os_now_ns(), p->number, &request, &o.outs));
    rl_outs_finish(r, &o);
    return ST_OK;
}

int
rl_on_lease_cancel(struct rl_process *p, const Ray__Node__LeaseCancel *m)
{
    if (m->key > UINT32_MAX) {
        return st_fail(ST_PROTOCOL, "a cancellation of key %llu", (unsigned long long)m->key);
    }
    struct raylet *r = p->raylet;
    const struct sched_lease_cancel msg = { .cookie = (uint32_t)m->key, .count = m->count };
    struct rl_outs o;
    rl_outs_begin(r, &o);
    TRY(rl_lease_on_cancel(&r->lease, os_now_ns(), p->number, &msg, &o.outs));
    rl_outs_finish(r, &o);
    return ST_OK;
}

int
rl_on_lease_return(struct rl_process *p, const Ray__Node__LeaseReturn *m)
{
    struct raylet *r = p->raylet;
    const struct sched_lease_return msg = {
        .lease = m->lease_id,
        .flags = (m->worker_is_leaving ? (uint32_t)SCHED_RETURN_RETIRE : 0) |
                 (m->kill_worker ? (uint32_t)SCHED_RETURN_KILL : 0),
    };
    struct rl_outs o;
    rl_outs_begin(r, &o);
    TRY(rl_lease_on_return(&r->lease, os_now_ns(), p->number, &msg, &o.outs));
    rl_outs_finish(r, &o);
    return ST_OK;
}

int
rl_on_blocked(struct rl_process *p, uint64_t epoch, bool blocked)
{
    struct raylet *r = p->raylet;
    const struct sched_lease_blocked msg = { .epoch = epoch, .blocked = blocked };
    TRY(rl_lease_on_blocked(&r->lease, os_now_ns(), p->number, &msg));
    rl_pump(r);
    return ST_OK;
}
