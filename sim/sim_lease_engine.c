/* SPDX-License-Identifier: Apache-2.0 */
/* Owners and workers of the lease world: an engine reduced to windows, FIFOs and run loops. */
#include <string.h>

#include "sim_lease.h"

#include "base/status.h"

static void *
take(struct sl_world *w, size_t size)
{
    void *p = mem_alloc(sim_mem(w->sim), size);
    ASSERT(p);
    memset(p, 0, size);
    return p;
}

static void *
grow(struct sl_world *w, void *v, uint32_t *capacity)
{
    const uint32_t now = *capacity ? 2 * *capacity : 64;
    const struct mem *mem = sim_mem(w->sim);
    v = mem->resize(mem->ctx, v, *capacity * sizeof(void *), now * sizeof(void *));
    ASSERT(v);
    *capacity = now;
    return v;
}

/* --- owner -------------------------------------------------------------------------------------
 */

void
sl_owner_init(struct sl_world *w, struct sl_proc *p)
{
    struct wk_lease_config config;
    wk_lease_config_default(&config);
    const uint32_t all = sim_mutations(w->sim);
    config.rules_off = (all & (SL_RULE_ASK_FIRST - 1)) >> 14;
    wk_leases_init(&p->client, sim_mem(w->sim), &config);
    for (uint32_t i = 0; i < SL_KEYS; i++) {
        list_init(&p->fifo[i]);
    }
    p->is_owner = true;
    /* The functions that meet were short so far. */
    p->fns[SL_FN_MEET] = (struct wk_lease_fn){ .samples = 10, .ewma_ns = 20000 };
}

static void
free_held(struct sl_world *w, struct sl_held *held)
{
    mem_free(sim_mem(w->sim), held, sizeof(*held));
}

void
sl_owner_fini(struct sl_world *w, struct sl_proc *p)
{
    if (!p->is_owner) {
        return;
    }
    struct map_walk walk;
    map_walk_init(&walk);
    for (struct map_link *l; (l = map_walk_next(&p->client.by_id, &walk)) != NULL;) {
        struct wk_lease *lease = CONTAINER_OF(l, struct wk_lease, by_id);
        struct sl_held *held = sl_held_of(lease);
        LIST_FOR_SAFE (k, next, &held->pushes) {
            list_remove(k);
        }
        free_held(w, held);
    }
    wk_leases_fini(&p->client);
    p->is_owner = false;
}

static void
to_raylet(struct sl_world *w, struct sl_proc *p, uint16_t kind, const void *msg, size_t size)
{
    sim_send(w->sim, p->number, SL_RAYLET, 0, kind, 0, msg, size);
}

static void
push(struct sl_world *w, struct sl_proc *p, struct sl_task *task, struct wk_lease *lease)
{
    struct sl_held *held = sl_held_of(lease);
    const bool behind = !list_is_empty(&held->pushes);
    SIM_CHECK(w->sim, !held->blocked, "P%u pushes to a worker that said it waits", p->number);
    SIM_CHECK(w->sim, lease->state != WK_LEASE_REVOKED, "P%u pushes under a revoked lease",
              p->number);
    SIM_CHECK(w->sim, !behind || p->fns[task->fn].samples > 0,
              "P%u pushes a task of unknown length behind another", p->number);
    if (w->push_count == w->push_capacity) {
        w->pushes = grow(w, w->pushes, &w->push_capacity);
    }
    struct sl_push *u = take(w, sizeof(*u));
    w->pushes[w->push_count] = u;
    *u = (struct sl_push){
        .index = w->push_count++,
        .owner = p->number,
        .worker = held->worker,
        .task = task,
        .lease = lease->id,
        .epoch = lease->epoch,
        .word = SL_POSTED,
    };
    list_init(&u->of_inbox);
    list_push_back(&held->pushes, &u->of_lease);
    list_remove(&task->link);
    task->state = SL_TASK_PUSHED;
    task->push = u;
    SIM_TRACE(w->sim, "P%u pushes task %u to P%u, lease %llu epoch %llu", p->number, task->index,
              held->worker, (unsigned long long)lease->id, (unsigned long long)lease->epoch);
    sim_send(w->sim, p->number, held->worker, 0, SL_MSG_PUSH, u->index, NULL, 0);
}

static bool
push_ready(struct sl_world *w, struct sl_proc *p)
{
    bool any = false;
    for (uint32_t k = 0; k < SL_KEYS; k++) {
        while (!list_is_empty(&p->fifo[k])) {
            struct sl_task *task = LIST_ENTRY(list_first(&p->fifo[k]), struct sl_task, link);
            struct wk_lease_key *key = wk_lease_get_key(&p->client, k);
            struct wk_lease *lease =
                wk_lease_pick(&p->client, key, &p->fns[task->fn], false, sim_now(w->sim));
            if (!lease) {
                break;
            }
            push(w, p, task, lease);
            any = true;
        }
    }
    return any;
}

void
sl_requeue(struct sl_proc *p, struct sl_push *u)
{
    list_remove(&u->of_lease);
    u->settled = true;
    u->task->state = SL_TASK_READY;
    list_push_front(&p->fifo[u->task->key], &u->task->link);
}

/* Takes back all that is unstarted, newest first, so that the oldest ends up in front. */
static void
recall(struct sl_world *w, struct sl_proc *p, uint64_t id)
{
    struct wk_lease *lease = wk_lease_find(&p->client, id);
    if (!lease) {
        return;
    }
    struct sl_held *held = sl_held_of(lease);
    uint32_t n = 0;
    for (struct list *l = held->pushes.prev; l != &held->pushes;) {
        struct sl_push *u = LIST_ENTRY(l, struct sl_push, of_lease);
        l = l->prev;
        if (u->word == SL_POSTED) {
            u->word = SL_RECALLED;
            sl_requeue(p, u);
            n++;
        }
    }
    SIM_TRACE(w->sim, "P%u recalls %u from lease %llu", p->number, n, (unsigned long long)id);
    wk_lease_on_recalled(&p->client, lease, n, true, sim_now(w->sim));
}

static bool
carry_out(struct sl_world *w, struct sl_proc *p, const struct step_out *out)
{
    switch (out->kind) {
    case WK_OUT_REQUEST: {
        const struct sched_lease_request *msg = out->msg;
        SIM_TRACE(w->sim, "P%u asks for %u of key %u, depth %u", p->number, msg->count, msg->key,
                  msg->depth);
        to_raylet(w, p, SL_MSG_REQUEST, msg, sizeof(*msg));
        return false;
    }
    case WK_OUT_CANCEL:
        to_raylet(w, p, SL_MSG_CANCEL, out->msg, sizeof(struct sched_lease_cancel));
        return false;
    case WK_OUT_RETURN:
        SIM_TRACE(w->sim, "P%u returns lease %llu", p->number, (unsigned long long)out->peer);
        to_raylet(w, p, SL_MSG_RETURN, out->msg, sizeof(struct sched_lease_return));
        return false;
    case WK_OUT_RECALL:
        recall(w, p, out->peer);
        return true;
    default:
        sim_fail(w->sim, "the lease client says %u", out->kind);
    }
}

/* Windows of leases that the pump is about to return go with them. */
static void
drop_windows(struct sl_world *w, struct sl_proc *p, const struct step_outs *outs,
             struct sl_held **held, uint32_t count)
{
    for (uint32_t i = 0; i < outs->count; i++) {
        if (outs->v[i].kind != WK_OUT_RETURN) {
            continue;
        }
        for (uint32_t k = 0; k < count; k++) {
            if (held[k] && held[k]->lease == outs->v[i].peer) {
                SIM_CHECK(w->sim, list_is_empty(&held[k]->pushes),
                          "P%u returns lease %llu with tasks in flight", p->number,
                          (unsigned long long)held[k]->lease);
                free_held(w, held[k]);
                held[k] = NULL;
            }
        }
    }
}

static uint32_t
all_held(const struct sl_proc *p, struct sl_held **held, uint32_t max)
{
    uint32_t n = 0;
    struct map_walk walk;
    map_walk_init(&walk);
    for (struct map_link *l; n < max && (l = map_walk_next(&p->client.by_id, &walk)) != NULL;) {
        held[n++] = sl_held_of(CONTAINER_OF(l, struct wk_lease, by_id));
    }
    return n;
}

void
sl_owner_run(struct sl_world *w, struct sl_proc *p)
{
    if (!p->is_owner) {
        return;
    }
    struct step_out v[SL_OUTS];
    struct sl_held *held[256];
    bool again = true;
    while (again) {
        again = push_ready(w, p);
        const uint32_t count = all_held(p, held, COUNT_OF(held));
        struct step_outs outs = { .v = v, .capacity = WK_LEASE_OUTS_MIN, .arena = &w->arena };
        wk_lease_pump(&p->client, sim_now(w->sim), &outs);
        drop_windows(w, p, &outs, held, count);
        for (uint32_t i = 0; i < outs.count; i++) {
            again = carry_out(w, p, &outs.v[i]) || again;
        }
        again = again || outs.more;
        arena_reset(&w->arena);
    }
    const uint64_t when = p->client.deadline_ns;
    sim_timer(w->sim, p->number, SL_TAG_CLIENT, when == UINT64_MAX ? 0 : when);
}

struct sl_task *
sl_submit(struct sl_world *w, struct sl_proc *p, enum sl_key key, enum sl_fn fn,
          uint64_t duration_ns)
{
    if (w->task_count == w->task_capacity) {
        w->tasks = grow(w, w->tasks, &w->task_capacity);
    }
    struct sl_task *task = take(w, sizeof(*task));
    w->tasks[w->task_count] = task;
    *task = (struct sl_task){
        .index = w->task_count++,
        .owner = p->number,
        .key = key,
        .fn = fn,
        .duration_ns = duration_ns,
        .retries = 3,
        .submitted_ns = sim_now(w->sim),
    };
    return task;
}

void
sl_submit_done(struct sl_world *w, struct sl_proc *p, struct sl_task *task)
{
    list_push_back(&p->fifo[task->key], &task->link);
    struct wk_lease_key *key = wk_lease_get_key(&p->client, task->key);
    ASSERT(key);
    wk_lease_on_ready(&p->client, key, 1, task->depth, sim_now(w->sim));
    w->watched_open += task->watched ? 1 : 0;
}

void
sl_task_finished(struct sl_world *w, struct sl_task *task, enum sl_task_state state)
{
    ASSERT(task->state == SL_TASK_READY || task->state == SL_TASK_PUSHED);
    task->state = state;
    w->watched_open -= task->watched ? 1 : 0;
    SIM_TRACE(w->sim, "task %u ends: %s", task->index,
              state == SL_TASK_DONE        ? "done"
              : state == SL_TASK_FAILED    ? "failed"
              : state == SL_TASK_CANCELLED ? "cancelled"
                                           : "lost");
    if (task->parent && state != SL_TASK_LOST) {
        ASSERT(task->parent->children_left > 0);
        task->parent->children_left--;
    }
}

void
sl_ask_actor(struct sl_world *w, struct sl_proc *p)
{
    if (p->actor_count + p->actors_asked == SL_ACTORS_MAX) {
        return;
    }
    const bool holds = sim_chance(w->sim, 200) && w->mode != SL_STREAM;
    const struct sched_lease_request msg = {
        .cookie = (uint32_t)SL_COOKIE_ACTOR + (holds ? 1 : 0),
        .key = holds ? SL_KEY_CPU1 : SL_KEY_ACTOR,
        .count = 1,
        .kind = SCHED_LEASE_ACTOR,
        .name = "Actor",
    };
    p->actors_asked++;
    to_raylet(w, p, SL_MSG_REQUEST, &msg, sizeof(msg));
}

void
sl_return_actor(struct sl_world *w, struct sl_proc *p, uint32_t i)
{
    const struct sched_lease_return msg = { .lease = p->actors[i], .flags = SCHED_RETURN_KILL };
    p->actors[i] = p->actors[--p->actor_count];
    to_raylet(w, p, SL_MSG_RETURN, &msg, sizeof(msg));
}

/* The user gives up on what can never be scheduled. */
void
sl_cancel_huge(struct sl_world *w, struct sl_proc *p)
{
    uint32_t n = 0;
    LIST_FOR_SAFE (l, next, &p->fifo[SL_KEY_HUGE]) {
        list_remove(l);
        sl_task_finished(w, LIST_ENTRY(l, struct sl_task, link), SL_TASK_FAILED);
        n++;
    }
    if (n > 0) {
        wk_lease_on_unready(&p->client, wk_lease_get_key(&p->client, SL_KEY_HUGE), n,
                            sim_now(w->sim));
        sl_owner_run(w, p);
    }
}

/* --- what reaches an owner -----------------------------------------------------------------------
 */

/* The raylet hears of it before it hears of any return that the same replies bring about: else the
 * CPU looks free in between, and a shallower task is let in. */
void
sl_unblock_parent(struct sl_world *w, struct sl_proc *p)
{
    if (p->phase == SL_WAITING && p->current->task->children_left == 0) {
        sl_resume(w, p);
    }
}

void
sl_resume(struct sl_world *w, struct sl_proc *p)
{
    const struct sl_push *u = p->current;
    const struct sched_lease_blocked msg = { .epoch = u->epoch, .blocked = false };
    to_raylet(w, p, SL_MSG_BLOCKED, &msg, sizeof(msg));
    if (p->bounced) {
        sim_send(w->sim, p->number, u->owner, 0, SL_MSG_UNBLOCKED, u->lease, NULL, 0);
    }
    p->phase = SL_RUNNING;
    sim_timer(w->sim, p->number, SL_TAG_WORKER, sim_now(w->sim) + 20 * SL_US);
}

static void
on_done(struct sl_world *w, struct sl_proc *p, struct sl_push *u, uint64_t duration_ns)
{
    struct wk_lease *lease = wk_lease_find(&p->client, u->lease);
    if (u->settled || !lease) {
        return; /* of an incarnation whose death was acted on */
    }
    struct sl_held *held = sl_held_of(lease);
    struct sl_task *task = u->task;
    SIM_CHECK(w->sim, u->word == SL_FINISHED, "a reply for a task that isn't finished");
    list_remove(&u->of_lease);
    u->settled = true;
    held->blocked = false;
    SIM_CHECK(w->sim, !u->interrupted || task->cancelled, "task %u ends as if cancelled",
              task->index);
    task->successes++;
    SIM_CHECK(w->sim, task->successes == 1, "task %u succeeded twice", task->index);
    wk_lease_on_done(&p->client, lease, &p->fns[task->fn], sim_now(w->sim), duration_ns);
    sl_task_finished(w, task, u->interrupted ? SL_TASK_CANCELLED : SL_TASK_DONE);
    if (task->stream && (w->watch_due || w->watched_open > 0)) {
        struct sl_task *next =
            sl_submit(w, p, task->key, task->fn, 3 * SIM_MS + sim_below(w->sim, 5 * SIM_MS));
        next->stream = true;
        sl_submit_done(w, p, next);
    }
    if (!sl_is_off(w, SL_RULE_UNBLOCK_FIRST)) {
        sl_unblock_parent(w, p);
    }
}

static void
on_bounced(struct sl_world *w, struct sl_proc *p, const struct sl_push *u)
{
    struct wk_lease *lease = wk_lease_find(&p->client, u->lease);
    if (!lease) {
        return;
    }
    struct sl_held *held = sl_held_of(lease);
    uint32_t n = 0;
    for (struct list *l = held->pushes.prev; l != &held->pushes;) {
        struct sl_push *b = LIST_ENTRY(l, struct sl_push, of_lease);
        l = l->prev;
        if (b->word == SL_BOUNCED) {
            sl_requeue(p, b);
            n++;
        }
    }
    if (n > 0) {
        wk_lease_on_bounced(&p->client, lease, n, sim_now(w->sim));
        held->blocked = lease->blocked || !list_is_empty(&held->pushes);
    }
}

/* Worker dead, announced, and all that it had published drained: read the window. */
static void
act_on_death(struct sl_world *w, struct sl_proc *p, struct wk_lease *lease)
{
    struct sl_held *held = sl_held_of(lease);
    uint32_t unstarted = 0, charged = 0;
    for (struct list *l = held->pushes.prev; l != &held->pushes;) {
        struct sl_push *u = LIST_ENTRY(l, struct sl_push, of_lease);
        l = l->prev;
        if (u->word == SL_POSTED || u->word == SL_BOUNCED) {
            sl_requeue(p, u);
            unstarted++;
            continue;
        }
        SIM_CHECK(w->sim, u->started_ns > 0, "task %u is charged and never ran", u->task->index);
        /* What waited for another socket died with its sender. */
        const bool lost = u->word == SL_FINISHED && sim_params(w->sim)->breaks;
        SIM_CHECK(w->sim, u->word == SL_STARTED || lost, "a reply was lost in a ring");
        SIM_CHECK(w->sim, lost || ++charged <= 1, "two tasks charged for one death");
        list_remove(&u->of_lease);
        u->settled = true;
        u->task->charged++;
        if (u->task->cancelled && !sl_is_off(w, SL_RULE_CANCEL_RETRY)) {
            sl_task_finished(w, u->task, SL_TASK_CANCELLED);
        } else if (u->task->retries-- > 0) {
            u->task->state = SL_TASK_READY;
            u->task->children_left = 0;
            list_push_back(&p->fifo[u->task->key], &u->task->link);
            wk_lease_on_ready(&p->client, wk_lease_get_key(&p->client, u->task->key), 1,
                              u->task->depth, sim_now(w->sim));
        } else {
            sl_task_finished(w, u->task, SL_TASK_FAILED);
        }
    }
    free_held(w, held);
    wk_lease_on_dead(&p->client, lease, unstarted, sim_now(w->sim));
    sl_unblock_parent(w, p);
}

static void
on_lease_dead(struct sl_world *w, struct sl_proc *p, const struct sched_lease_note *msg)
{
    for (uint32_t i = 0; i < p->actor_count; i++) {
        if (p->actors[i] == msg->lease) {
            p->actors[i] = p->actors[--p->actor_count];
            return;
        }
    }
    struct wk_lease *lease = wk_lease_find(&p->client, msg->lease);
    if (!lease) {
        return;
    }
    sl_held_of(lease)->told_dead = true;
    if (p->saw_dead[sl_held_of(lease)->worker]) {
        act_on_death(w, p, lease);
    }
}

void
sl_owner_saw_death(struct sl_world *w, struct sl_proc *p, uint32_t dead)
{
    p->saw_dead[dead] = 1;
    struct sl_held *held[256];
    const uint32_t n = p->is_owner ? all_held(p, held, COUNT_OF(held)) : 0;
    for (uint32_t i = 0; i < n; i++) {
        if (held[i]->worker == dead && held[i]->told_dead) {
            act_on_death(w, p, wk_lease_find(&p->client, held[i]->lease));
        }
    }
    sl_owner_run(w, p);
}

static uint32_t
proc_of_token(const struct sl_world *w, uint64_t token)
{
    for (uint32_t i = 1; i <= sim_proc_count(w->sim); i++) {
        if (w->procs[i].token == token) {
            return i;
        }
    }
    sim_fail(w->sim, "a lease on a worker that never was");
}

static void
on_grant(struct sl_world *w, struct sl_proc *p, const struct sched_lease_grant *msg)
{
    if (msg->cookie >= SL_COOKIE_ACTOR) {
        p->actors_asked--;
        p->actors[p->actor_count++] = msg->lease;
        w->watched_open -= w->watched_open > 0 && w->mode == SL_STREAM ? 1 : 0;
        return;
    }
    struct wk_lease *lease = wk_lease_on_grant(&p->client, msg, sim_now(w->sim));
    ASSERT(lease);
    struct sl_held *held = take(w, sizeof(*held));
    list_init(&held->pushes);
    held->lease = msg->lease;
    held->worker = proc_of_token(w, msg->worker);
    lease->user = (uint64_t)(uintptr_t)held;
}

static void
on_failed(struct sl_world *w, struct sl_proc *p, const struct sched_lease_failed *msg)
{
    SIM_TRACE(w->sim, "P%u: %u of cookie %u failed: %s", p->number, msg->count, msg->cookie,
              msg->text);
    if (msg->cookie >= SL_COOKIE_ACTOR) {
        p->actors_asked -= msg->count;
        return;
    }
    if (!wk_lease_on_failed(&p->client, msg, sim_now(w->sim))) {
        return;
    }
    uint32_t n = 0;
    LIST_FOR_SAFE (l, next, &p->fifo[msg->cookie]) {
        list_remove(l);
        sl_task_finished(w, LIST_ENTRY(l, struct sl_task, link), SL_TASK_FAILED);
        n++;
    }
    wk_lease_on_unready(&p->client, wk_lease_get_key(&p->client, msg->cookie), n, sim_now(w->sim));
    sl_unblock_parent(w, p);
}

void
sl_owner_deliver(struct sl_world *w, struct sl_proc *p, uint32_t from, uint16_t kind,
                 uint64_t payload, const void *msg)
{
    (void)from;
    const uint64_t now = sim_now(w->sim);
    const struct sched_lease_note *note = msg;
    switch (kind) {
    case SL_MSG_GRANT:
        on_grant(w, p, msg);
        break;
    case SL_MSG_CANCELLED:
        wk_lease_on_cancelled(&p->client, msg, now);
        break;
    case SL_MSG_FAILED:
        on_failed(w, p, msg);
        break;
    case SL_MSG_PENDING:
        break;
    case SL_MSG_REVOKE:
        wk_lease_on_revoke(&p->client, note->lease, now);
        break;
    case SL_MSG_WITHDRAW:
        wk_lease_on_withdraw(&p->client, note->lease, now);
        break;
    case SL_MSG_LEASE_DEAD:
        on_lease_dead(w, p, note);
        break;
    case SL_MSG_DONE:
        on_done(w, p, w->pushes[payload], *(const uint64_t *)msg);
        break;
    case SL_MSG_BOUNCED:
        on_bounced(w, p, w->pushes[payload]);
        break;
    case SL_MSG_UNBLOCKED: {
        struct wk_lease *lease = wk_lease_find(&p->client, payload);
        if (lease) {
            sl_held_of(lease)->blocked = false;
            wk_lease_on_unblocked(&p->client, lease, now);
        }
        break;
    }
    default:
        sim_fail(w->sim, "an owner got message %u", kind);
    }
    sl_owner_run(w, p);
    sl_unblock_parent(w, p); /* does nothing, but with its rule off */
}

/* --- worker ------------------------------------------------------------------------------------
 */

static void
bounce(struct sl_world *w, struct sl_proc *p, struct sl_push *u)
{
    list_remove(&u->of_inbox);
    if (u->word == SL_POSTED) {
        u->word = SL_BOUNCED;
        p->bounced = true;
        sim_send(w->sim, p->number, u->owner, 0, SL_MSG_BOUNCED, u->index, NULL, 0);
    }
}

/* The lease server's idea of who runs here, seen from outside. */
static void
check_may_run(struct sl_world *w, struct sl_proc *p, const struct sl_push *u)
{
    const struct rl_lease_record *lease = rl_lease_of_worker(&w->server, p->token);
    SIM_CHECK(w->sim, lease && lease->id == u->lease && lease->epoch == u->epoch,
              "P%u starts task %u of lease %llu, but is leased as %llu", p->number, u->task->index,
              (unsigned long long)u->lease, lease ? (unsigned long long)lease->id : 0ULL);
}

void
sl_again_at(struct sl_world *w, const struct sl_proc *p, uint64_t delay_ns)
{
    sim_timer(w->sim, p->number, SL_TAG_WORKER, sim_now(w->sim) + delay_ns);
}

/* A child must have reached the raylet before the parent's CPU is free. */
static void
start_nested(struct sl_world *w, struct sl_proc *p, struct sl_task *task)
{
    const uint32_t n = 1 + (uint32_t)sim_below(w->sim, task->levels > 2 ? 1 : 2);
    for (uint32_t i = 0; i < n; i++) {
        const bool nest = task->levels > 1;
        struct sl_task *child =
            sl_submit(w, p, task->key, nest ? SL_FN_NEST : SL_FN_SHORT, 30 * SL_US);
        child->depth = task->depth + 1;
        child->levels = nest ? task->levels - 1 : 0;
        child->parent = task;
        task->children_left++;
        sl_submit_done(w, p, child);
    }
    p->phase = SL_WAITING;
    if (!sl_is_off(w, SL_RULE_ASK_FIRST)) {
        sl_owner_run(w, p);
    }
    const struct sched_lease_blocked msg = { .epoch = p->current->epoch, .blocked = true };
    to_raylet(w, p, SL_MSG_BLOCKED, &msg, sizeof(msg));
    sl_owner_run(w, p);
    p->bounced = false;
    LIST_FOR_SAFE (l, next, &p->inbox) {
        bounce(w, p, LIST_ENTRY(l, struct sl_push, of_inbox));
    }
}

static void
start_task(struct sl_world *w, struct sl_proc *p)
{
    struct sl_push *u = p->current;
    struct sl_task *task = u->task;
    check_may_run(w, p, u);
    SIM_CHECK(w->sim, !task->cancelled, "P%u starts task %u, which was cancelled", p->number,
              task->index);
    u->word = SL_STARTED;
    u->started_ns = sim_now(w->sim) ? sim_now(w->sim) : 1;
    p->phase = SL_RUNNING;
    SIM_TRACE(w->sim, "P%u starts task %u", p->number, task->index);
    if (task->fn == SL_FN_NEST) {
        start_nested(w, p, task);
    } else if (task->fn == SL_FN_MEET) {
        task->met = true;
        if (task->partner->met && task->partner->state == SL_TASK_PUSHED) {
            for (uint32_t i = 1; i <= sim_proc_count(w->sim); i++) {
                struct sl_proc *o = &w->procs[i];
                if (o->alive && o->current && (o->current->task == task->partner || o == p)) {
                    sl_again_at(w, o, 10 * SL_US);
                }
            }
        }
    } else {
        sl_again_at(w, p, task->duration_ns);
    }
}

static void
reply(struct sl_world *w, struct sl_proc *p)
{
    struct sl_push *u = p->current;
    const uint64_t duration_ns = sim_now(w->sim) - u->started_ns;
    u->word = SL_FINISHED;
    sim_send(w->sim, p->number, u->owner, 0, SL_MSG_DONE, u->index, &duration_ns,
             sizeof(duration_ns));
    p->phase = SL_REPLIED;
    if (w->owning && sim_chance(w->sim, 100)) {
        p->owning = !p->owning;
        sim_send(w->sim, p->number, SL_RAYLET, 0, SL_MSG_OWNING, p->owning, NULL, 0);
    }
}

/* One access to shared memory a call, unless luck lets several go in one breath. */
static void
worker_step(struct sl_world *w, struct sl_proc *p)
{
    struct sl_push *u = p->current;
    switch (p->phase) {
    case SL_IDLE:
        u = list_is_empty(&p->inbox) ? NULL
                                     : LIST_ENTRY(list_first(&p->inbox), struct sl_push, of_inbox);
        p->current = u;
        if (u) {
            list_remove(&u->of_inbox);
            p->page_running = u->epoch;
            p->phase = SL_WROTE_RUNNING;
        }
        return;
    case SL_WROTE_RUNNING:
        if (p->page_epoch != u->epoch) {
            bounce(w, p, u);
            p->page_running = 0;
            p->current = NULL;
            p->phase = SL_IDLE;
        } else {
            p->phase = SL_READ_EPOCH;
        }
        return;
    case SL_READ_EPOCH:
        if (u->word == SL_POSTED) {
            start_task(w, p);
        } else {
            p->page_running = 0;
            p->current = NULL;
            p->phase = SL_IDLE;
        }
        return;
    case SL_WAITING:
        return; /* its last child will wake it */
    case SL_RUNNING:
        reply(w, p);
        return;
    case SL_REPLIED:
        p->page_running = 0;
        p->current = NULL;
        p->phase = SL_IDLE;
        return;
    }
}

void
sl_worker_timer(struct sl_world *w, struct sl_proc *p)
{
    for (;;) {
        if (p->exit_asked && p->phase == SL_IDLE) {
            sim_proc_kill(w->sim, p->number);
            return;
        }
        const enum sl_phase before = p->phase;
        worker_step(w, p);
        if (p->phase == SL_RUNNING || p->phase == SL_WAITING ||
            (p->phase == SL_IDLE && before == SL_IDLE)) {
            return; /* its timer, its children or a push will go on */
        }
        if (p->phase == SL_IDLE && list_is_empty(&p->inbox) && !p->exit_asked) {
            return;
        }
        if (sim_chance(w->sim, 300)) {
            sl_again_at(w, p, sim_below(w->sim, 300 * SL_US));
            return;
        }
    }
}

void
sl_worker_deliver(struct sl_world *w, struct sl_proc *p, uint32_t from, uint16_t kind,
                  uint64_t payload)
{
    (void)from;
    switch (kind) {
    case SL_MSG_GO:
        to_raylet(w, p, SL_MSG_HELLO, NULL, 0);
        return;
    case SL_MSG_EXIT:
        if (sim_chance(w->sim, 100)) {
            return; /* stubborn: it has to be killed */
        }
        p->exit_asked = true;
        break;
    case SL_MSG_PUSH: {
        struct sl_push *u = w->pushes[payload];
        list_push_back(&p->inbox, &u->of_inbox);
        if (p->phase == SL_WAITING) {
            bounce(w, p, u);
            return;
        }
        break;
    }
    case SL_MSG_INTERRUPT:
        sl_worker_interrupt(w, p, w->pushes[payload >> 1], (payload & 1) != 0);
        return;
    default:
        sim_fail(w->sim, "a worker got message %u", kind);
    }
    if (p->phase == SL_IDLE) {
        sl_again_at(w, p, sim_below(w->sim, 20 * SL_US));
    }
}
