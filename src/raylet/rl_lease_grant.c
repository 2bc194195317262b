/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lease server's choices: who is granted what, for whom resources are kept, whose lease is
 * revoked, and what happens at the process cap. Rules: docs/protocols/leases.md, server 1 to 5, 11.
 */
#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "raylet/rl_lease_priv.h"

enum {
    SHARE_ALL = 10000,
    WAITING_LOOK_MAX = 64, /* requests looked at for revocation, */
    LANE_LOOK_MAX = 4,     /* of each job's lane */
};
#define REVOKE_PERIOD_NS UINT64_C(1000000)

uint32_t
rl_grant_share(const struct rl_lease *m, const struct rl_job *job)
{
    uint32_t share = 0;
    for (uint32_t i = 0; i < m->node.total.count; i++) {
        const int64_t total = m->node.total.items[i].amount.v;
        if (total > 0 && job->held[i] > 0) {
            const uint32_t part =
                (uint32_t)((double)job->held[i] / (double)total * (double)SHARE_ALL);
            share = part > share ? part : share;
        }
    }
    return share;
}

bool
rl_grant_fits(const struct rl_lease *m, const struct rl_request *request, char *why)
{
    return sched_node_fits(&m->node, m->names, &request->key->placement, why) &&
           (request->placed_alike ||
            sched_node_fits(&m->node, m->names, &request->key->resources, why));
}

static bool
wants(const struct rl_request *request, uint32_t name)
{
    return res_set_get(&request->key->placement, name).v > 0 ||
           res_set_get(&request->key->resources, name).v > 0;
}

/* Whether `set` asks for something that is short and that `other` asks for too. */
static bool
competes(const struct rl_lease *m, const struct res_set *set, const struct rl_request *other)
{
    for (uint32_t i = 0; i < set->count; i++) {
        const uint32_t name = set->items[i].name;
        if (res_set_get(&m->node.available, name).v < set->items[i].amount.v &&
            wants(other, name)) {
            return true;
        }
    }
    return false;
}

bool
rl_grant_kept(const struct rl_lease *m, const struct rl_request *request, uint64_t now_ns)
{
    const struct rl_request *r = m->reserved;
    return r && r != request && now_ns < m->reserve_until_ns &&
           (competes(m, &r->key->placement, request) || competes(m, &r->key->resources, request));
}

/* --- grants ----------------------------------------------------------------------------------- */

/* The lease has a process: tell its owner. */
static void
activate(struct rl_lease *m, struct rl_lease_record *lease, struct rl_worker *worker,
         uint64_t now_ns, struct step_outs *outs)
{
    ASSERT(!worker->lease && lease->owner);
    worker->lease = lease;
    lease->worker = worker;
    lease->epoch = ++worker->epoch;
    lease->granted_ns = now_ns;
    rl_lease_set_state(m, lease, RL_LEASE_ACTIVE);
    if (lease->kind == SCHED_LEASE_ACTOR) {
        rl_pool_dedicate(&m->pool, worker, lease->detached);
    } else { /* what a detached actor asks for outlives the job as it does */
        worker->detached = lease->owner->worker && lease->owner->worker->detached;
    }
    m->stats.granted++;
    m->progress = true;
    struct sched_lease_grant *msg =
        step_emit(outs, RL_OUT_GRANT, lease->owner->number, sizeof(*msg));
    ASSERT(msg);
    *msg = (struct sched_lease_grant){
        .cookie = lease->cookie,
        .lease = lease->id,
        .worker = worker->number,
        .epoch = lease->epoch,
        .gpu_mask = lease->hold.gpu_mask,
        .omp = lease->omp,
    };
}

static struct rl_worker *
take_worker(struct rl_lease *m, const struct rl_lease_record *lease, uint64_t now_ns)
{
    return rl_pool_take(&m->pool, now_ns, lease->class_, lease->omp, lease->hold.gpu_mask,
                        lease->kind == SCHED_LEASE_ACTOR);
}

void
rl_grant_form(struct rl_lease *m, uint64_t now_ns, struct step_outs *outs)
{
    LIST_FOR_SAFE (l, next, &m->lists[RL_LEASE_FORMING]) {
        if (m->pool.count[RL_WORKER_IDLE] == 0 || !rl_has_room(outs, 1)) {
            return;
        }
        struct rl_lease_record *lease = LIST_ENTRY(l, struct rl_lease_record, link);
        struct rl_worker *worker = take_worker(m, lease, now_ns);
        if (worker) {
            rl_pool_wait(&m->pool, lease->class_, -1);
            activate(m, lease, worker, now_ns, outs);
        }
    }
}

/* One unit of the request becomes a lease. False without memory. */
static bool
grant_one(struct rl_lease *m, struct rl_request *request, uint64_t now_ns, struct step_outs *outs)
{
    struct rl_lease_record *lease = slab_take(&m->lease_slab);
    if (!lease) {
        return false;
    }
    struct rl_job *job = request->owner->job;
    *lease = (struct rl_lease_record){
        .magic = RL_LEASE_MAGIC,
        .state = RL_LEASE_FORMING,
        .id = m->next_lease,
        .owner = request->owner,
        .job = job,
        .class_ = request->class_,
        .key = request->key,
        .key_number = request->key_number,
        .cookie = request->cookie,
        .depth = request->depth,
        .omp = sched_key_omp(request->key),
        .kind = request->kind,
        .detached = request->detached,
        .first_task = request->first_task,
    };
    memcpy(lease->name, request->name, sizeof(lease->name));
    if (map_insert(&m->leases, &lease->by_id, id_mix64(lease->id)) != ST_OK) {
        slab_give(&m->lease_slab, lease);
        return false;
    }
    m->next_lease++;
    job->leases++;
    m->in_state[RL_LEASE_FORMING]++;
    list_push_back(&m->lists[RL_LEASE_FORMING], &lease->link);
    list_push_back(&request->owner->leases, &lease->of_owner);
    sched_node_take(&m->node, &request->key->resources, &lease->hold);
    rl_lease_account(m, lease, 1);
    job->last_lane = request->kind;
    list_remove(&job->link);
    list_push_back(&m->job_list, &job->link);
    struct rl_worker *worker = take_worker(m, lease, now_ns);
    if (worker) {
        activate(m, lease, worker, now_ns, outs);
    } else {
        rl_pool_wait(&m->pool, lease->class_, 1);
    }
    request->since_ns = now_ns;
    request->count--;
    m->stats.pending_units--;
    if (request->count == 0 || m->reserved == request) {
        m->reserved = NULL;
        m->reserve_pause_ns = 0;
        m->reserve_length_ns = m->config.reserve_first_ns;
    }
    if (request->count == 0) {
        rl_lease_request_drop(m, request);
    } else {
        request->serial = m->next_serial++; /* behind others of its depth */
        rl_lease_enqueue(m, request);
    }
    return true;
}

/* What a look through the queues found. */
struct scan {
    struct rl_request *grantable; /* first in order that can be served now */
    struct rl_request *short_of;  /* first in order that lacks resources */
    struct rl_request *capped;    /* deepest that lacks only a process */
    uint32_t grantable_share, short_share;
};

static void
scan_lane(struct rl_lease *m, struct list *lane, uint64_t now_ns, uint32_t share, bool *found,
          struct scan *scan)
{
    uint32_t failed_key = UINT32_MAX;
    LIST_FOR (l, lane) {
        struct rl_request *r = LIST_ENTRY(l, struct rl_request, of_lane);
        ASSERT(r->magic == RL_REQUEST_MAGIC);
        if (r->infeasible || r->class_->broken || r->key_number == failed_key) {
            continue;
        }
        const bool fits =
            rl_grant_fits(m, r, NULL) || (rl_rule_is_off(m, RL_RULE_FITS) && !wants(r, RES_GPU));
        if (!fits) {
            failed_key = r->key_number;
            if (!scan->short_of || share < scan->short_share) {
                scan->short_of = r;
                scan->short_share = share;
            }
        } else if (!rl_pool_can_serve(&m->pool, r->class_)) {
            if (!scan->capped || r->depth > scan->capped->depth) {
                scan->capped = r;
            }
        } else if (!rl_grant_kept(m, r, now_ns)) {
            if (!scan->grantable || share < scan->grantable_share) {
                scan->grantable = r;
                scan->grantable_share = share;
            }
            *found = true;
            return;
        }
    }
}

static void
scan_queues(struct rl_lease *m, uint64_t now_ns, struct scan *scan)
{
    *scan = (struct scan){ 0 };
    LIST_FOR (l, &m->job_list) {
        struct rl_job *job = LIST_ENTRY(l, struct rl_job, link);
        ASSERT(job->magic == RL_JOB_MAGIC);
        /* Without the rule: the oldest job always first. */
        const uint32_t share =
            rl_rule_is_off(m, RL_RULE_FAIR) ? job->number : rl_grant_share(m, job);
        bool found = false;
        enum sched_lease_kind first =
            job->last_lane == SCHED_LEASE_TASK ? SCHED_LEASE_ACTOR : SCHED_LEASE_TASK;
        if (rl_rule_is_off(m, RL_RULE_TURNS)) {
            first = SCHED_LEASE_TASK;
        }
        scan_lane(m, &job->lanes[first], now_ns, share, &found, scan);
        if (!found) {
            scan_lane(m, &job->lanes[first == SCHED_LEASE_TASK], now_ns, share, &found, scan);
        }
    }
}

/* Whether the request would fit if every task lease ended. */
static bool
could_fit(const struct rl_lease *m, const struct rl_request *r)
{
    for (uint32_t i = 0; i < m->node.total.count; i++) {
        const struct res_item *item = &m->node.total.items[i];
        const int64_t most = item->amount.v - m->actor_held[i];
        if (res_set_get(&r->key->placement, item->name).v > most ||
            res_set_get(&r->key->resources, item->name).v > most) {
            return false;
        }
    }
    return true;
}

/* Keeps resources for the first in order once it has waited long enough, for a period. */
static uint64_t
reserve(struct rl_lease *m, const struct scan *scan, uint64_t now_ns)
{
    if (rl_rule_is_off(m, RL_RULE_RESERVE)) {
        return UINT64_MAX;
    }
    if (m->reserved) {
        if (now_ns < m->reserve_until_ns) {
            return m->reserve_until_ns;
        }
        /* The others' turn, for as long. */
        m->reserve_pause_ns = now_ns + m->reserve_length_ns;
        m->reserve_length_ns = 2 * m->reserve_length_ns < m->config.reserve_max_ns
                                   ? 2 * m->reserve_length_ns
                                   : m->config.reserve_max_ns;
        m->reserved = NULL;
        m->changed = true;
        return m->reserve_pause_ns;
    }
    struct rl_request *r = scan->short_of;
    if (!r || !could_fit(m, r)) {
        return UINT64_MAX;
    }
    const uint64_t due = r->since_ns + m->config.reserve_first_ns;
    const uint64_t from = due > m->reserve_pause_ns ? due : m->reserve_pause_ns;
    if (now_ns < from) {
        return from;
    }
    m->reserved = r;
    m->reserve_until_ns = now_ns + m->reserve_length_ns;
    return m->reserve_until_ns;
}

uint64_t
rl_grant_requests(struct rl_lease *m, uint64_t now_ns, struct step_outs *outs)
{
    if (m->stats.pending_records == 0) {
        m->changed = false;
        m->capped = NULL;
        return UINT64_MAX;
    }
    if (!m->changed && now_ns < m->scan_ns) {
        return m->scan_ns;
    }
    struct scan scan;
    m->changed = true;
    for (;;) {
        scan_queues(m, now_ns, &scan);
        if (!scan.grantable) {
            m->changed = false;
            break;
        }
        if (!rl_has_room(outs, 1) || !grant_one(m, scan.grantable, now_ns, outs)) {
            break;
        }
    }
    m->capped = scan.capped;
    const bool had = m->reserved != NULL;
    m->scan_ns = reserve(m, &scan, now_ns);
    if (had && !m->reserved) {
        m->scan_ns = now_ns; /* what was kept is free for the others */
    }
    return m->scan_ns;
}

void
rl_grant_broken(struct rl_lease *m, uint64_t now_ns, struct step_outs *outs)
{
    struct map_walk walk;
    map_walk_init(&walk);
    for (struct map_link *l; (l = map_walk_next(&m->pool.classes, &walk)) != NULL;) {
        struct rl_class *class_ = CONTAINER_OF(l, struct rl_class, link);
        if (!class_->broken) {
            continue;
        }
        char text[SCHED_REASON_MAX];
        (void)snprintf(text, sizeof(text),
                       "worker processes could not be started: %u tries in a row failed, the last "
                       "one with: %s",
                       class_->failures, class_->evidence);
        const int status = ST_WORKER_CRASHED;
        struct map_walk requests;
        map_walk_init(&requests);
        for (struct map_link *r; (r = map_walk_next(&m->requests, &requests)) != NULL;) {
            struct rl_request *request = CONTAINER_OF(r, struct rl_request, by_cookie);
            if (request->class_ != class_) {
                continue;
            }
            if (!rl_has_room(outs, 1)) {
                return;
            }
            rl_lease_emit_failed(m, request->owner->number, request->cookie, request->count, status,
                                 text, outs);
            rl_lease_request_drop(m, request);
        }
        LIST_FOR_SAFE (f, next, &m->lists[RL_LEASE_FORMING]) {
            struct rl_lease_record *lease = LIST_ENTRY(f, struct rl_lease_record, link);
            if (lease->class_ != class_) {
                continue;
            }
            if (!rl_has_room(outs, 1)) {
                return;
            }
            rl_lease_emit_failed(m, lease->owner->number, lease->cookie, 1, status, text, outs);
            rl_lease_free(m, lease);
        }
        rl_pool_mend(&m->pool, now_ns, class_);
    }
}

/* --- revocation ------------------------------------------------------------------------------- */

/* Whether the request may take the lease's place. */
static bool
outranks(const struct rl_lease *m, const struct rl_request *r, const struct rl_lease_record *lease)
{
    if (lease->kind == SCHED_LEASE_ACTOR ||
        (lease->owner == r->owner && lease->cookie == r->cookie)) {
        return false;
    }
    if (r == m->reserved || r->kind == SCHED_LEASE_ACTOR) {
        return true;
    }
    if (lease->job == r->owner->job) {
        return r->depth >= lease->depth;
    }
    return rl_grant_share(m, r->owner->job) < rl_grant_share(m, lease->job);
}

static bool
would_help(const struct rl_lease *m, const struct rl_request *r,
           const struct rl_lease_record *lease)
{
    return outranks(m, r, lease) && (sched_node_helps(&m->node, &lease->hold, &r->key->placement) ||
                                     sched_node_helps(&m->node, &lease->hold, &r->key->resources));
}

struct waiting {
    struct rl_request *v[WAITING_LOOK_MAX];
    uint32_t count;
    uint64_t units;
};

static void
collect_waiting(const struct rl_lease *m, struct waiting *waiting)
{
    waiting->count = 0;
    waiting->units = 0;
    LIST_FOR (l, &m->job_list) {
        const struct rl_job *job = LIST_ENTRY(l, struct rl_job, link);
        for (uint32_t lane = 0; lane < RL_LANES; lane++) {
            uint32_t looked = 0;
            LIST_FOR (k, &job->lanes[lane]) {
                struct rl_request *r = LIST_ENTRY(k, struct rl_request, of_lane);
                if (waiting->count == WAITING_LOOK_MAX || looked == LANE_LOOK_MAX) {
                    break;
                }
                if (!r->infeasible && !rl_grant_fits(m, r, NULL)) {
                    looked++;
                    waiting->v[waiting->count++] = r;
                    waiting->units += r == m->reserved ? RL_COUNT_MAX : r->count;
                }
            }
        }
    }
}

static bool
is_waited_for(const struct rl_lease *m, const struct waiting *waiting,
              const struct rl_lease_record *lease)
{
    for (uint32_t i = 0; i < waiting->count; i++) {
        if (would_help(m, waiting->v[i], lease)) {
            return true;
        }
    }
    return false;
}

static void
emit_note(const struct rl_lease_record *lease, uint16_t kind, struct step_outs *outs)
{
    struct sched_lease_note *msg = step_emit(outs, kind, lease->owner->number, sizeof(*msg));
    ASSERT(msg);
    *msg = (struct sched_lease_note){ .lease = lease->id, .worker = lease->worker->number };
}

static void
withdraw(struct rl_lease *m, const struct waiting *waiting, uint64_t now_ns, struct step_outs *outs)
{
    LIST_FOR_SAFE (l, next, &m->lists[RL_LEASE_REVOKED]) {
        struct rl_lease_record *lease = LIST_ENTRY(l, struct rl_lease_record, link);
        if (is_waited_for(m, waiting, lease) || rl_rule_is_off(m, RL_RULE_WITHDRAW)) {
            continue;
        }
        if (!rl_has_room(outs, 1)) {
            return;
        }
        lease->granted_ns = now_ns;
        rl_lease_set_state(m, lease, RL_LEASE_ACTIVE);
        m->stats.withdrawn++;
        emit_note(lease, RL_OUT_WITHDRAW, outs);
    }
}

static void
revoke(struct rl_lease *m, struct rl_lease_record *lease, struct step_outs *outs)
{
    rl_lease_set_state(m, lease, RL_LEASE_REVOKED);
    m->stats.revoked++;
    emit_note(lease, RL_OUT_REVOKE, outs);
    if (rl_rule_is_off(m, RL_RULE_HELD)) {
        rl_lease_account(m, lease, -1);
        sched_node_give(&m->node, &lease->hold);
        m->changed = true;
    }
}

uint64_t
rl_grant_revoke(struct rl_lease *m, uint64_t now_ns, struct step_outs *outs)
{
    if (m->in_state[RL_LEASE_REVOKED] == 0 &&
        (m->stats.pending_records == 0 || rl_rule_is_off(m, RL_RULE_REVOKE))) {
        return UINT64_MAX;
    }
    if (now_ns < m->revoke_ns) {
        return m->revoke_ns;
    }
    m->revoke_ns = now_ns + REVOKE_PERIOD_NS;
    struct waiting waiting;
    collect_waiting(m, &waiting);
    withdraw(m, &waiting, now_ns, outs);
    uint64_t next_ns = UINT64_MAX;
    LIST_FOR_SAFE (l, next, &m->lists[RL_LEASE_ACTIVE]) {
        struct rl_lease_record *lease = LIST_ENTRY(l, struct rl_lease_record, link);
        if (waiting.units <= m->in_state[RL_LEASE_REVOKED] || rl_rule_is_off(m, RL_RULE_REVOKE)) {
            break;
        }
        if (!lease->owner || !is_waited_for(m, &waiting, lease)) {
            continue;
        }
        const uint64_t due = lease->granted_ns + m->config.quantum_ns;
        if (due > now_ns || !rl_has_room(outs, 1)) {
            next_ns = rl_sooner(next_ns, due > m->revoke_ns ? due : m->revoke_ns);
            continue;
        }
        revoke(m, lease, outs);
    }
    return next_ns;
}

/* --- the process cap -------------------------------------------------------------------------- */

uint64_t
rl_grant_stuck(struct rl_lease *m, uint64_t now_ns, struct step_outs *outs)
{
    if (!m->capped || rl_pool_can_move(&m->pool) || rl_rule_is_off(m, RL_RULE_CAP)) {
        m->stuck_since_ns = 0;
        m->progress = false;
        return UINT64_MAX;
    }
    if (m->progress || m->stuck_since_ns == 0) {
        m->progress = false;
        m->stuck_since_ns = now_ns;
    }
    const uint64_t due = m->stuck_since_ns + (m->pool.actors > 0 ? m->config.cap_actor_grace_ns
                                                                 : m->config.cap_grace_ns);
    if (now_ns < due || !rl_has_room(outs, 1)) {
        return due;
    }
    struct rl_request *r = m->capped;
    char text[SCHED_REASON_MAX];
    const int n = snprintf(text, sizeof(text),
                           "the node's cap of %u worker processes is reached, all of them wait, "
                           "and one more would be needed: ",
                           m->config.pool.cap);
    ASSERT(n > 0 && (size_t)n < sizeof(text));
    rl_why_chain(m, r, text + n, (uint32_t)sizeof(text) - (uint32_t)n);
    rl_lease_emit_failed(m, r->owner->number, r->cookie, r->count, ST_PROCESS_CAP, text, outs);
    rl_lease_request_drop(m, r);
    m->capped = NULL;
    m->stuck_since_ns = now_ns;
    return now_ns + m->config.cap_grace_ns;
}
