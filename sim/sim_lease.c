/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lease world: drivers and nested workers around one raylet. The lease server, its pool and the
 * lease clients are the real ones; here is the raylet's I/O (spawning, pages, reaping), chaos, and
 * the invariants of docs/protocols/leases.md.
 */
#include <string.h>

#include "sim_lease.h"

#include "base/status.h"

static const char *const mutations[] = {
    /* the server's, in the order of enum rl_lease_rule */
    "fits",
    "deepest",
    "fair",
    "turns",
    "withdraw",
    "held",
    "reserve",
    "take_back",
    "reclaim",
    "epoch",
    "revoke",
    "cap",
    "orphans",
    /* the pool's */
    "settling",
    /* the client's, in the order of enum wk_lease_rule */
    "overrun",
    "blocked",
    "revoked",
    "unknown",
    "linger",
    "cancel",
    /* of the engine around the client: the order of what it says */
    "ask_first",
    "unblock_first",
    /* of cancelling tasks */
    "cancel_recall",
    "cancel_counts",
    "cancel_names",
    "cancel_retry",
    NULL,
};
enum { SERVER_RULES = 13, POOL_RULE = 1 << 13 };

enum todo_kind { TODO_SPAWN, TODO_TAKEN, TODO_RECLAIM };

/* --- the raylet's I/O --------------------------------------------------------------------------
 */

static void
todo_arm(struct sl_world *w)
{
    const struct heap_node *first = heap_first(&w->todo);
    sim_timer(w->sim, SL_RAYLET, SL_TAG_TODO, first ? (first->when ? first->when : 1) : 0);
}

static void
todo_add(struct sl_world *w, enum todo_kind kind, uint64_t a, uint64_t b, uint64_t delay_ns)
{
    struct sl_todo *t = mem_alloc(sim_mem(w->sim), sizeof(*t));
    ASSERT(t);
    *t = (struct sl_todo){ .kind = kind, .a = a, .b = b };
    ASSERT(heap_push(&w->todo, &t->node, sim_now(w->sim) + delay_ns) == ST_OK);
    todo_arm(w);
}

static void
send_out(struct sl_world *w, const struct step_out *out, uint16_t kind, size_t size)
{
    const struct sl_proc *p = sl_by_token(w, out->peer);
    SIM_CHECK(w->sim, p, "the server speaks to process %llu that never was",
              (unsigned long long)out->peer);
    sim_send(w->sim, SL_RAYLET, p->number, 0, kind, 0, out->msg, size);
}

static void
on_grant(struct sl_world *w, const struct step_out *out)
{
    const struct sched_lease_grant *msg = out->msg;
    struct sl_proc *p = sl_by_token(w, msg->worker);
    SIM_CHECK(w->sim, p && msg->epoch > p->last_epoch, "an epoch that doesn't grow");
    p->last_epoch = p->page_epoch = msg->epoch;
    SIM_TRACE(w->sim, "raylet grants lease %llu (epoch %llu) on P%u to #%llu, cookie %x",
              (unsigned long long)msg->lease, (unsigned long long)msg->epoch, p->number,
              (unsigned long long)out->peer, msg->cookie);
    send_out(w, out, SL_MSG_GRANT, sizeof(*msg));
}

static void
kill_token(struct sl_world *w, uint64_t token)
{
    const struct sl_proc *p = sl_by_token(w, token);
    if (p && p->alive) {
        sim_proc_kill(w->sim, p->number);
    }
}

static void
on_take_back(struct sl_world *w, const struct step_out *out)
{
    struct sl_proc *p = sl_get_token(w, out->peer);
    const uint64_t epoch = ((const struct rl_out_take_back *)out->msg)->epoch;
    SIM_CHECK(w->sim, epoch >= p->last_epoch, "an epoch that shrinks");
    p->last_epoch = p->page_epoch = epoch;
    todo_add(w, TODO_TAKEN, out->peer, epoch,
             sim_chance(w->sim, 700) ? 0 : sim_below(w->sim, 200 * SL_US));
}

static void
carry_out(struct sl_world *w, const struct step_out *out)
{
    switch (out->kind) {
    case RL_OUT_TIMER:
        sim_timer(w->sim, SL_RAYLET, SL_TAG_SERVER, out->when_ns);
        return;
    case RL_OUT_GRANT:
        on_grant(w, out);
        return;
    case RL_OUT_CANCELLED:
        send_out(w, out, SL_MSG_CANCELLED, sizeof(struct sched_lease_cancelled));
        return;
    case RL_OUT_FAILED:
        send_out(w, out, SL_MSG_FAILED, sizeof(struct sched_lease_failed));
        return;
    case RL_OUT_PENDING:
        send_out(w, out, SL_MSG_PENDING, sizeof(struct sched_lease_pending));
        return;
    case RL_OUT_REVOKE:
        send_out(w, out, SL_MSG_REVOKE, sizeof(struct sched_lease_note));
        return;
    case RL_OUT_WITHDRAW:
        send_out(w, out, SL_MSG_WITHDRAW, sizeof(struct sched_lease_note));
        return;
    case RL_OUT_LEASE_DEAD:
        send_out(w, out, SL_MSG_LEASE_DEAD, sizeof(struct sched_lease_note));
        return;
    case RL_OUT_TAKE_BACK:
        on_take_back(w, out);
        return;
    case RL_POOL_OUT_START:
        todo_add(w, TODO_SPAWN, out->peer, 0, 200 * SL_US + sim_below(w->sim, SIM_MS));
        return;
    case RL_POOL_OUT_GO:
        send_out(w, out, SL_MSG_GO, 0);
        return;
    case RL_POOL_OUT_EXIT:
        send_out(w, out, SL_MSG_EXIT, 0);
        return;
    case RL_POOL_OUT_KILL:
        kill_token(w, out->peer);
        return;
    default:
        sim_fail(w->sim, "the server says %u", out->kind);
    }
}

static void
server_step(struct sl_world *w, uint16_t kind, uint64_t peer, const void *msg)
{
    struct step_out v[SL_OUTS];
    uint16_t now_kind = kind;
    bool more = true;
    while (more) {
        struct arena arena;
        arena_init(&arena, sim_mem(w->sim));
        struct step_outs outs = {
            .v = v,
            .arena = &arena,
            .capacity = RL_LEASE_OUTS_MIN + (uint32_t)sim_below(w->sim, SL_OUTS - 7),
        };
        const struct step_in in = {
            .kind = now_kind, .now_ns = sim_now(w->sim), .peer = peer, .msg = msg
        };
        const int status = rl_lease_step(&w->server, &in, &outs);
        SIM_CHECK(w->sim, status == ST_OK || kind == RL_IN_HELLO, "the server refuses %u: %s", kind,
                  st_last()->text);
        sl_check_grants(w);
        for (uint32_t i = 0; i < outs.count; i++) {
            carry_out(w, &outs.v[i]);
        }
        more = outs.more;
        now_kind = STEP_CONTINUE;
        arena_fini(&arena);
    }
}

static void
spawn(struct sl_world *w, uint64_t token)
{
    const bool no_room = sim_proc_count(w->sim) >= SIM_PROCS_MAX - 4;
    if (no_room || (w->kills && !sim_is_healing(w->sim) && sim_chance(w->sim, 30))) {
        const struct rl_in_evidence msg = { .text = "fork: no more processes" };
        server_step(w, RL_IN_START_FAILED, token, &msg);
        return;
    }
    struct sl_proc *p = &w->procs[sim_proc_add(w->sim, "worker")];
    p->used = p->alive = true;
    p->number = sim_proc_count(w->sim);
    p->token = token;
    list_init(&p->inbox);
    sl_owner_init(w, p);
    for (uint32_t i = 1; i < p->number; i++) {
        p->saw_dead[i] = !w->procs[i].alive; /* no notice will come of those */
    }
    const struct rl_in_spawned msg = { .pid = (int32_t)p->number };
    server_step(w, RL_IN_SPAWNED, token, &msg);
}

static void
run_todo(struct sl_world *w)
{
    struct heap_node *first;
    while ((first = heap_first(&w->todo)) != NULL && first->when <= sim_now(w->sim)) {
        heap_remove(&w->todo, first);
        struct sl_todo *t = CONTAINER_OF(first, struct sl_todo, node);
        const struct sl_todo copy = *t;
        mem_free(sim_mem(w->sim), t, sizeof(*t));
        if (copy.kind == TODO_SPAWN) {
            spawn(w, copy.a);
        } else if (copy.kind == TODO_RECLAIM) {
            server_step(w, RL_IN_RECLAIMED, copy.a, NULL);
        } else {
            const struct sl_proc *p = sl_get_token(w, copy.a);
            const struct rl_in_taken msg = {
                .epoch = copy.b,
                .running = p->page_running != 0 && p->page_running < copy.b,
            };
            server_step(w, RL_IN_TAKEN, copy.a, &msg);
        }
    }
    todo_arm(w);
}

static void
raylet_deliver(struct sl_world *w, uint32_t from, uint16_t kind, uint64_t payload, const void *msg)
{
    static const char *const names[] = { "",        "request", "cancel", "return",
                                         "blocked", "hello",   "owning" };
    const uint64_t token = w->procs[from].token;
    SIM_TRACE(w->sim, "raylet hears %s from P%u",
              kind == SL_MSG_BLOCKED && !((const struct sched_lease_blocked *)msg)->blocked
                  ? "unblocked"
              : kind < COUNT_OF(names) ? names[kind]
                                       : "?",
              from);
    switch (kind) {
    case SL_MSG_REQUEST:
        server_step(w, RL_IN_REQUEST, token, msg);
        return;
    case SL_MSG_CANCEL:
        server_step(w, RL_IN_CANCEL, token, msg);
        return;
    case SL_MSG_RETURN:
        server_step(w, RL_IN_RETURN, token, msg);
        return;
    case SL_MSG_BLOCKED: {
        const struct sched_lease_blocked *blocked = msg;
        w->procs[from].told_blocked_epoch = blocked->blocked ? blocked->epoch : 0;
        server_step(w, RL_IN_BLOCKED, token, msg);
        return;
    }
    case SL_MSG_HELLO:
        server_step(w, RL_IN_HELLO, token, NULL);
        return;
    case SL_MSG_OWNING: {
        const struct rl_in_owning owning = { .owning = payload != 0 };
        server_step(w, RL_IN_OWNING, token, &owning);
        return;
    }
    default:
        sim_fail(w->sim, "the raylet got message %u", kind);
    }
}

/* --- creation ----------------------------------------------------------------------------------
 */

static void
put(struct res_set *set, uint32_t name, int64_t amount)
{
    ASSERT(res_set_put(set, name, (struct res_amount){ amount }) == ST_OK);
}

static void
make_keys(struct sl_world *w)
{
    static const struct {
        uint32_t name;
        int64_t amount;
    } asks[SL_KEYS] = {
        [SL_KEY_CPU1] = { RES_CPU, RES_UNIT },        [SL_KEY_CPU2] = { RES_CPU, 2 * RES_UNIT },
        [SL_KEY_HALF] = { RES_CPU, RES_UNIT / 2 },    [SL_KEY_CPU0] = { RES_CPU, 0 },
        [SL_KEY_GPU1] = { RES_GPU, RES_UNIT },        [SL_KEY_GPU_HALF] = { RES_GPU, 5000 },
        [SL_KEY_HUGE] = { RES_CPU, 1000 * RES_UNIT }, [SL_KEY_ACTOR] = { RES_CPU, 0 },
    };
    for (uint32_t i = 0; i < SL_KEYS; i++) {
        struct sched_key key = { 0 };
        put(&key.resources, asks[i].name, asks[i].amount);
        key.placement = key.resources;
        if (i == SL_KEY_ACTOR) {
            put(&key.placement, RES_CPU, RES_UNIT);
        }
        uint32_t number;
        ASSERT(sched_keys_intern(&w->keys, &key, &number) == ST_OK && number == i);
    }
}

static struct sl_proc *
add_driver(struct sl_world *w, uint32_t job)
{
    struct sl_proc *p = &w->procs[sim_proc_add(w->sim, "driver")];
    p->used = p->alive = p->is_driver = true;
    p->number = sim_proc_count(w->sim);
    p->job = job;
    p->token = rl_pool_number(&w->server.pool);
    list_init(&p->inbox);
    sl_owner_init(w, p);
    const struct rl_in_driver msg = { .job = job, .pid = (int32_t)p->number };
    server_step(w, RL_IN_DRIVER, p->token, &msg);
    w->driver_count++;
    return p;
}

static void
choose(struct sl_world *w)
{
    struct sim *sim = w->sim;
    struct sim_params *params = sim_params(sim);
    params->local = !params->breaks; /* one node: all connections are local */
    params->drains = params->breaks;
    params->delay_max_ns = sim_chance(sim, 500) ? 100 * SL_US : SIM_MS;
    if (sim_chance(sim, 200)) {
        params->delay_max_ns = 20 * SIM_MS;
    }
    params->notice_max_ns = SIM_MS;
    params->act_max_ns = sim_chance(sim, 500) ? SIM_MS : 8 * SIM_MS;
    params->actions = 10 + (uint32_t)sim_below(sim, 70);
    w->mode = sim_chance(sim, 500) ? SL_CHAOS : (enum sl_mode)(1 + sim_below(sim, SL_MODES - 1));
    w->cpus = 1 + (uint32_t)sim_below(sim, 3);
    w->gpus = (uint32_t)sim_below(sim, 3);
    w->cap = 64;
    w->nest_max = 1 + (uint32_t)sim_below(sim, 3);
    w->kills = w->mode == SL_CHAOS && sim_chance(sim, 800);
    w->stops = w->mode == SL_CHAOS && sim_chance(sim, 300);
    w->owning = w->mode == SL_CHAOS && sim_chance(sim, 300);
    if (w->mode == SL_NEST) {
        w->cpus = 1 + (uint32_t)sim_below(sim, 2);
    } else if (w->mode == SL_MEET) {
        w->cpus = 2;
    } else if (w->mode == SL_CAP) {
        w->cap = 3 + (uint32_t)sim_below(sim, 3);
        w->nest_max = w->cap + 2;
        params->actions = 4;
    } else if (w->mode == SL_STREAM) {
        w->cpus = 1 + (uint32_t)sim_below(sim, 2);
        params->actions = 12;
    }
    w->cancels =
        (w->mode == SL_CHAOS || w->mode == SL_NEST || w->mode == SL_FLAT) && sim_chance(sim, 400);
}

static void *
create(struct sim *sim)
{
    struct sl_world *w = mem_alloc(sim_mem(sim), sizeof(*w));
    ASSERT(w);
    memset(w, 0, sizeof(*w));
    w->sim = sim;
    w->seen_lease = 1;
    choose(w);
    arena_init(&w->arena, sim_mem(sim));
    heap_init(&w->todo, sim_mem(sim));
    ASSERT(res_names_init(&w->names, sim_mem(sim)) == ST_OK);
    sched_keys_init(&w->keys, sim_mem(sim));
    make_keys(w);
    struct res_set total = { 0 };
    put(&total, RES_CPU, w->cpus * RES_UNIT);
    put(&total, RES_GPU, w->gpus * RES_UNIT);
    struct rl_lease_config config;
    rl_lease_config_default(&config, w->cpus);
    config.rules_off = sim_mutations(sim) & ((1U << SERVER_RULES) - 1);
    config.pool.no_settling = (sim_mutations(sim) & POOL_RULE) != 0;
    config.pool.cap = w->cap;
    config.pool.prestart = sim_chance(sim, 500);
    config.pool.idle_timeout_ns = 50 * SIM_MS;
    config.pool.exit_grace_ns = 20 * SIM_MS;
    ASSERT(rl_lease_init(&w->server, sim_mem(sim), &config, &total, &w->names, &w->keys) == ST_OK);
    const uint32_t raylet = sim_proc_add(sim, "raylet");
    ASSERT(raylet == SL_RAYLET);
    w->procs[SL_RAYLET].used = w->procs[SL_RAYLET].alive = true;
    const uint32_t drivers = w->mode == SL_CHAOS || w->mode == SL_STREAM || w->mode == SL_FLAT
                                 ? 1 + (uint32_t)sim_below(sim, 2)
                                 : 1;
    for (uint32_t i = 0; i < drivers; i++) {
        (void)add_driver(w, i + 1);
    }
    return w;
}

static void
destroy(struct sim *sim, void *world)
{
    struct sl_world *w = world;
    const struct mem *mem = sim_mem(sim);
    for (uint32_t i = 1; i <= sim_proc_count(sim); i++) {
        sl_owner_fini(w, &w->procs[i]);
    }
    for (uint32_t i = 0; i < w->task_count; i++) {
        mem_free(mem, w->tasks[i], sizeof(struct sl_task));
    }
    for (uint32_t i = 0; i < w->push_count; i++) {
        mem_free(mem, w->pushes[i], sizeof(struct sl_push));
    }
    mem_free(mem, w->tasks, w->task_capacity * sizeof(void *));
    mem_free(mem, w->pushes, w->push_capacity * sizeof(void *));
    for (struct heap_node *n; (n = heap_first(&w->todo)) != NULL;) {
        heap_remove(&w->todo, n);
        mem_free(mem, CONTAINER_OF(n, struct sl_todo, node), sizeof(struct sl_todo));
    }
    heap_fini(&w->todo);
    rl_lease_fini(&w->server);
    sched_keys_fini(&w->keys);
    res_names_fini(&w->names);
    arena_fini(&w->arena);
    mem_free(mem, w, sizeof(*w));
}

/* --- chaos -------------------------------------------------------------------------------------
 */

static struct sl_proc *
some_driver(struct sl_world *w)
{
    const uint32_t first = SL_RAYLET + 1 + (uint32_t)sim_below(w->sim, w->driver_count);
    for (uint32_t i = 0; i < w->driver_count; i++) {
        struct sl_proc *p =
            &w->procs[SL_RAYLET + 1 + (first - SL_RAYLET - 1 + i) % w->driver_count];
        if (p->alive) {
            return p;
        }
    }
    return NULL;
}

static void
submit_some(struct sl_world *w, struct sl_proc *p, bool flat)
{
    struct sim *sim = w->sim;
    enum sl_key key = SL_KEY_CPU1;
    if (!flat && sim_chance(sim, 400)) {
        key = (enum sl_key)sim_below(sim, SL_KEY_HUGE);
        if ((key >= SL_KEY_GPU1 && w->gpus == 0) || (key == SL_KEY_CPU2 && w->cpus < 2)) {
            key = SL_KEY_HUGE;
        }
    }
    static const uint64_t longest[SL_FNS] = {
        [SL_FN_SHORT] = 40 * SL_US,
        [SL_FN_MEDIUM] = 600 * SL_US,
        [SL_FN_LONG] = 30 * SIM_MS,
        [SL_FN_MIXED] = 3 * SIM_MS,
    };
    const enum sl_fn fns[] = { SL_FN_SHORT, SL_FN_MEDIUM, SL_FN_LONG, SL_FN_MIXED };
    const enum sl_fn fn = fns[sim_below(sim, COUNT_OF(fns))];
    const uint32_t n = 1 + (uint32_t)sim_below(sim, fn == SL_FN_SHORT ? 24 : 6);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t duration = longest[fn] / 2 + sim_below(sim, longest[fn] / 2);
        if (fn == SL_FN_MIXED && sim_chance(sim, 700)) {
            duration = 20 * SL_US;
        }
        sl_submit_done(w, p, sl_submit(w, p, key, fn, duration));
    }
    sl_owner_run(w, p);
}

static void
submit_nested(struct sl_world *w, struct sl_proc *p, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        struct sl_task *task = sl_submit(w, p, SL_KEY_CPU1, SL_FN_NEST, 30 * SL_US);
        task->levels =
            w->mode == SL_CAP ? w->nest_max : 1 + (uint32_t)sim_below(w->sim, w->nest_max);
        sl_submit_done(w, p, task);
    }
    sl_owner_run(w, p);
}

static void
submit_stream(struct sl_world *w, struct sl_proc *p, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        struct sl_task *task =
            sl_submit(w, p, SL_KEY_CPU1, SL_FN_LONG, 3 * SIM_MS + sim_below(w->sim, 5 * SIM_MS));
        task->stream = true;
        sl_submit_done(w, p, task);
    }
    sl_owner_run(w, p);
}

/* Somebody who must be served although a stream never ends: an actor, another job, a large task. */
static void
submit_watched(struct sl_world *w)
{
    struct sl_proc *first = &w->procs[SL_RAYLET + 1];
    if (w->driver_count > 1) {
        struct sl_proc *p = &w->procs[SL_RAYLET + 2];
        struct sl_task *task = sl_submit(w, p, SL_KEY_CPU1, SL_FN_SHORT, 30 * SL_US);
        task->watched = true;
        sl_submit_done(w, p, task);
        sl_owner_run(w, p);
    } else if (w->cpus > 1 && sim_chance(w->sim, 500)) {
        struct sl_task *task = sl_submit(w, first, SL_KEY_CPU2, SL_FN_SHORT, 30 * SL_US);
        task->watched = true;
        sl_submit_done(w, first, task);
        sl_owner_run(w, first);
    } else {
        w->watched_open++;
        sl_ask_actor(w, first);
    }
}

static void
act_stream(struct sl_world *w)
{
    w->acts++;
    if (w->acts == 1) {
        w->watch_due = true;
        submit_stream(w, &w->procs[SL_RAYLET + 1], 4 * w->cpus);
    } else if (w->watch_due && w->acts > 5) {
        w->watch_due = false;
        w->watch_ns = sim_now(w->sim) + 1;
        submit_watched(w);
    }
}

static void
act_meet(struct sl_world *w)
{
    struct sl_proc *p = &w->procs[SL_RAYLET + 1];
    if (w->task_count == 0 || (w->tasks[0]->state == SL_TASK_DONE && sim_chance(w->sim, 200))) {
        struct sl_task *a = sl_submit(w, p, SL_KEY_CPU1, SL_FN_MEET, 0);
        struct sl_task *b = sl_submit(w, p, SL_KEY_CPU1, SL_FN_MEET, 0);
        for (uint32_t i = 0; i + 2 < w->task_count; i++) {
            if (w->tasks[i]->fn == SL_FN_MEET && w->tasks[i]->state != SL_TASK_DONE) {
                /* One pair at a time, else four could wait on two CPUs: this one is a no-op. */
                a->fn = b->fn = SL_FN_SHORT;
                a->duration_ns = b->duration_ns = 10 * SL_US;
            }
        }
        a->partner = b;
        b->partner = a;
        sl_submit_done(w, p, a);
        sl_submit_done(w, p, b);
        sl_owner_run(w, p);
    } else {
        submit_some(w, p, true);
    }
}

static void
kill_some(struct sl_world *w)
{
    const uint32_t n = sim_proc_count(w->sim);
    const uint32_t i = SL_RAYLET + 1 + (uint32_t)sim_below(w->sim, n - SL_RAYLET);
    if (w->procs[i].alive && (!w->procs[i].is_driver || sim_chance(w->sim, 100))) {
        sim_proc_kill(w->sim, i);
    }
}

static void
act_chaos(struct sl_world *w, struct sl_proc *p)
{
    struct sim *sim = w->sim;
    switch (sim_below(sim, 10)) {
    case 0:
    case 1:
        submit_nested(w, p, 1 + (uint32_t)sim_below(sim, 3));
        return;
    case 2:
        sl_ask_actor(w, p);
        return;
    case 3:
        if (p->actor_count > 0) {
            sl_return_actor(w, p, (uint32_t)sim_below(sim, p->actor_count));
        }
        return;
    case 4:
        if (w->kills) {
            kill_some(w);
        }
        return;
    case 5:
        if (w->stops) {
            sim_proc_stop(sim, SL_RAYLET + 1 + (uint32_t)sim_below(sim, sim_proc_count(sim) - 1),
                          sim_below(sim, 20 * SIM_MS));
        }
        return;
    case 6:
        sl_cancel_huge(w, p);
        return;
    default:
        submit_some(w, p, false);
        return;
    }
}

static void
act(struct sim *sim, void *world)
{
    struct sl_world *w = world;
    struct sl_proc *p = some_driver(w);
    if (!p) {
        return;
    }
    if (w->cancels && sim_chance(sim, 300)) {
        sl_cancel_some(w);
        return;
    }
    switch (w->mode) {
    case SL_NEST:
        submit_nested(w, p, 1 + (uint32_t)sim_below(sim, 6));
        return;
    case SL_CAP:
        submit_nested(w, p, 1);
        return;
    case SL_STREAM:
        act_stream(w);
        return;
    case SL_MEET:
        act_meet(w);
        return;
    case SL_FLAT:
        submit_some(w, p, true);
        return;
    case SL_CHAOS:
    case SL_MODES:
        act_chaos(w, p);
        return;
    }
}

/* --- events ------------------------------------------------------------------------------------
 */

static void
deliver(struct sim *sim, void *world, uint32_t proc, uint32_t from, uint16_t kind, uint64_t payload,
        const void *msg)
{
    (void)sim;
    struct sl_world *w = world;
    struct sl_proc *p = &w->procs[proc];
    if (proc == SL_RAYLET) {
        raylet_deliver(w, from, kind, payload, msg);
    } else if (kind == SL_MSG_GO || kind == SL_MSG_EXIT || kind == SL_MSG_PUSH ||
               kind == SL_MSG_INTERRUPT) {
        sl_worker_deliver(w, p, from, kind, payload);
    } else {
        sl_owner_deliver(w, p, from, kind, payload, msg);
    }
}

static void
died(struct sim *sim, void *world, uint32_t proc, uint32_t dead)
{
    struct sl_world *w = world;
    if (proc != SL_RAYLET) {
        sl_owner_saw_death(w, &w->procs[proc], dead);
        return;
    }
    const struct sl_proc *d = &w->procs[dead];
    const struct rl_in_evidence msg = { .text = "killed by the simulator" };
    server_step(w, RL_IN_DEAD, d->token, &msg);
    if (d->is_driver) {
        const struct rl_in_job job = { .job = d->job };
        server_step(w, RL_IN_JOB_END, 0, &job);
    } else {
        todo_add(w, TODO_RECLAIM, d->token, 0, sim_below(sim, 2 * SIM_MS));
    }
}

static void
timer(struct sim *sim, void *world, uint32_t proc, uint32_t tag)
{
    (void)sim;
    struct sl_world *w = world;
    struct sl_proc *p = &w->procs[proc];
    if (tag == SL_TAG_SERVER) {
        server_step(w, RL_IN_TICK, 0, NULL);
    } else if (tag == SL_TAG_TODO) {
        run_todo(w);
    } else if (tag == SL_TAG_CLIENT) {
        sl_owner_run(w, p);
    } else {
        sl_worker_timer(w, p);
    }
}

static void
killed(struct sim *sim, void *world, uint32_t proc)
{
    (void)sim;
    struct sl_world *w = world;
    struct sl_proc *p = &w->procs[proc];
    p->alive = false;
    sl_owner_fini(w, p);
    for (uint32_t i = 0; i < w->task_count; i++) {
        struct sl_task *task = w->tasks[i];
        if (task->owner == proc &&
            (task->state == SL_TASK_READY || task->state == SL_TASK_PUSHED)) {
            sl_task_finished(w, task, SL_TASK_LOST);
        }
    }
}

static void
heal(struct sim *sim, void *world)
{
    (void)sim;
    struct sl_world *w = world;
    for (uint32_t i = 0; i < w->driver_count; i++) {
        struct sl_proc *p = &w->procs[SL_RAYLET + 1 + i];
        if (p->alive) {
            sl_cancel_huge(w, p);
        }
    }
}

static bool
wind_down(struct sim *sim, void *world)
{
    (void)sim;
    struct sl_world *w = world;
    bool any = false;
    for (uint32_t i = 0; i < w->driver_count; i++) {
        struct sl_proc *p = &w->procs[SL_RAYLET + 1 + i];
        while (p->alive && p->actor_count > 0) {
            sl_return_actor(w, p, 0);
            any = true;
        }
    }
    return any;
}

const struct sim_world sim_world_lease = {
    .name = "lease",
    .create = create,
    .destroy = destroy,
    .act = act,
    .deliver = deliver,
    .died = died,
    .timer = timer,
    .killed = killed,
    .check = sl_check,
    .heal = heal,
    .wind_down = wind_down,
    .quiet = sl_quiet,
    .mutations = mutations,
};
