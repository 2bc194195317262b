/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stream world: owners whose readers take what workers make, through the machines of
 * worker/wk_stream.h. Here are the engine around them (pushes, replies, retries, deaths), readers
 * and programs with a will of their own, and the invariants of docs/protocols/generators.md:
 *
 *   S1 a reader gets items 0, 1, 2, ... , each once, with the value of that index
 *   S2 it gets all that were made, then, if the task failed, one failure, then the end, once
 *   S3 never more unread items than the limit, and no program that is ahead of its reader by more
 *   S4 what nobody read is freed, once, when its reader goes; so is all that comes after
 *   S5 every waiter is answered; every task ends, also an endless one whose reader is gone
 *   S6 nothing of an attempt whose death was acted upon is taken
 *   S7 when all is quiet, a program waits only if its reader is behind by the whole limit
 */
#include <string.h>

#include "sim.h"

#include "base/assert.h"
#include "base/status.h"
#include "worker/wk_stream.h"

enum {
    STREAMS_MAX = 48,
    VALUES_MAX = 4000,
    RUNS_MAX = 64, /* on one worker */
    OWNERS_MAX = 3,
    OUTS = 8,
    ENDLESS = 1000000,
    TAG_TELL = 0,
};

enum message { MSG_PUSH = 1, MSG_ITEM, MSG_DONE, MSG_TELL };
enum value_state { VALUE_NONE, VALUE_SENT, VALUE_KEPT, VALUE_GIVEN, VALUE_FREED };

struct value {
    uint32_t stream, index, worker;
    uint8_t state;
};

struct push_msg {
    uint32_t stream, attempt, known, limit;
};
struct item_msg {
    uint32_t stream;
    struct wk_stream_item_msg item;
};
struct done_msg {
    uint32_t stream, attempt;
    bool failed;
};
struct tell_msg {
    uint32_t stream;
    struct wk_stream_told told;
};

/* What the program is, at the owner. */
struct stream {
    struct wk_stream s;
    uint32_t owner, worker; /* worker 0: no attempt is under way */
    uint32_t total;         /* items that the program makes */
    uint32_t limit, attempt, retries;
    bool raises, raises_once; /* after its items; the second: only in its first attempt */
    bool crashed;             /* it ended since no retry was left */
    uint32_t kept[VALUES_MAX / STREAMS_MAX];
    uint32_t kept_first, kept_count; /* of values that the reader has not taken, oldest first */
    uint32_t failure_index;          /* of the failure as an item, or UINT32_MAX */
    uint32_t given;
    bool waiting, told_over, gone;
    uint64_t timer_ns;
};

struct run {
    struct wk_yield y;
    uint32_t stream, attempt, owner;
    bool may_go;
};
struct worker {
    bool alive;
    bool owner_dead[OWNERS_MAX + 1]; /* as it has learned */
    struct run runs[RUNS_MAX];
    uint32_t count;
};

struct world {
    struct sim *sim;
    uint32_t owners;
    bool owner_alive[OWNERS_MAX + 1];
    struct stream streams[STREAMS_MAX];
    uint32_t stream_count;
    struct value values[VALUES_MAX]; /* handle = place + 1 */
    uint32_t value_count;
    struct worker workers[SIM_PROCS_MAX + 1];
    uint32_t kills_left, live_workers;
    bool kills_owners;
};

/* ---- values ---- */

static uint64_t
value_make(struct world *w, uint32_t stream, uint32_t index, uint32_t worker)
{
    ASSERT(w->value_count < VALUES_MAX);
    w->values[w->value_count++] =
        (struct value){ .stream = stream, .index = index, .worker = worker, .state = VALUE_SENT };
    return w->value_count;
}

static void
value_free(struct world *w, uint64_t handle)
{
    struct value *v = &w->values[handle - 1];
    SIM_CHECK(w->sim, v->state != VALUE_FREED, "value %u of stream %u is freed twice", v->index,
              v->stream);
    v->state = VALUE_FREED;
}

/* What a dead worker had on its way, or would have had. */
static void
values_die(struct world *w, uint32_t worker, uint32_t stream)
{
    for (uint32_t i = 0; i < w->value_count; i++) {
        struct value *v = &w->values[i];
        if (v->worker == worker && v->state == VALUE_SENT && v->stream == stream) {
            v->state = VALUE_FREED;
        }
    }
}

/* ---- the owner's engine ---- */

static void push(struct world *w, uint32_t number);

static void
arm(struct world *w, uint32_t owner)
{
    uint64_t first = 0;
    for (uint32_t i = 0; i < w->stream_count; i++) {
        const struct stream *st = &w->streams[i];
        if (st->owner == owner && st->timer_ns && (!first || st->timer_ns < first)) {
            first = st->timer_ns;
        }
    }
    sim_timer(w->sim, owner, TAG_TELL, first);
}

static void
keep(struct world *w, struct stream *st, const struct step_out *out)
{
    struct value *v = &w->values[out->payload - 1];
    SIM_CHECK(w->sim, v->state == VALUE_SENT, "stream %u keeps a value of a dead attempt",
              v->stream);
    SIM_CHECK(w->sim, &w->streams[v->stream] == st && v->index == out->peer,
              "value %u of stream %u became item %u", v->index, v->stream, (uint32_t)out->peer);
    v->state = VALUE_KEPT;
    if (st->gone) {
        return; /* seen when all is quiet */
    }
    ASSERT(st->kept_count < COUNT_OF(st->kept));
    st->kept[(st->kept_first + st->kept_count++) % COUNT_OF(st->kept)] = (uint32_t)out->payload;
}

static void
give(struct world *w, struct stream *st, uint32_t index)
{
    SIM_CHECK(w->sim, !st->told_over && !st->gone, "an item after the end");
    SIM_CHECK(w->sim, index == st->given, "item %u comes after %u", index, st->given);
    st->given++;
    st->waiting = false;
    if (index == st->failure_index) {
        return;
    }
    SIM_CHECK(w->sim, st->kept_count > 0, "item %u has no value", index);
    struct value *v = &w->values[st->kept[st->kept_first] - 1];
    st->kept_first = (st->kept_first + 1) % COUNT_OF(st->kept);
    st->kept_count--;
    SIM_CHECK(w->sim, v->state == VALUE_KEPT && v->index == index, "item %u is value %u, state %u",
              index, v->index, v->state);
    v->state = VALUE_GIVEN;
}

static void
told_over(struct world *w, struct stream *st)
{
    const bool failed = st->crashed || st->raises;
    SIM_CHECK(w->sim, !st->told_over, "the end is told twice");
    SIM_CHECK(w->sim, st->s.over, "the end is told before it");
    SIM_CHECK(w->sim, st->crashed || st->given == st->total + (st->raises ? 1 : 0),
              "the end after %u items of %u", st->given, st->total);
    SIM_CHECK(w->sim, !failed || st->failure_index + 1 == st->given, "an end without its failure");
    st->told_over = true;
    st->waiting = false;
}

static void
unread(struct world *w, struct stream *st, uint32_t count)
{
    const uint32_t failures = st->failure_index != UINT32_MAX && st->given <= st->failure_index;
    SIM_CHECK(w->sim, count == st->kept_count + failures, "%u of %u unread items are freed", count,
              st->kept_count + failures);
    for (; st->kept_count > 0; st->kept_count--) {
        value_free(w, st->kept[st->kept_first]);
        st->kept_first = (st->kept_first + 1) % COUNT_OF(st->kept);
    }
}

static void step(struct world *w, uint32_t number, uint16_t kind, const void *msg,
                 uint64_t payload);

static void
wake(struct world *w, uint32_t number)
{
    if (w->streams[number].waiting && !w->streams[number].gone) {
        w->streams[number].waiting = false;
        step(w, number, WK_STREAM_IN_READ, NULL, 0);
    }
}

static void
carry_out(struct world *w, uint32_t number, const struct step_out *out)
{
    struct stream *st = &w->streams[number];
    struct tell_msg tell = { .stream = number };
    struct push_msg m = { .stream = number, .limit = st->limit };
    switch (out->kind) {
    case WK_STREAM_OUT_KNOWN:
        m.attempt = st->attempt;
        memcpy(&m.known, out->msg, sizeof(m.known));
        sim_send(w->sim, st->owner, st->worker, 0, MSG_PUSH, 0, &m, sizeof(m));
        break;
    case WK_STREAM_OUT_KEEP:
        keep(w, st, out);
        break;
    case WK_STREAM_OUT_FREE:
        if (w->values[out->payload - 1].state == VALUE_SENT) { /* the dead one's are freed */
            value_free(w, out->payload);
        }
        break;
    case WK_STREAM_OUT_GIVE:
        give(w, st, (uint32_t)out->peer);
        break;
    case WK_STREAM_OUT_OVER:
        told_over(w, st);
        break;
    case WK_STREAM_OUT_WAKE:
        wake(w, number);
        break;
    case WK_STREAM_OUT_FAILED:
        st->failure_index = (uint32_t)out->peer;
        break;
    case WK_STREAM_OUT_UNREAD:
        unread(w, st, (uint32_t)out->peer);
        break;
    case WK_STREAM_OUT_TELL:
        memcpy(&tell.told, out->msg, sizeof(tell.told));
        st->timer_ns = 0;
        sim_send(w->sim, st->owner, st->worker, 0, MSG_TELL, 0, &tell, sizeof(tell));
        break;
    case WK_STREAM_OUT_TIMER:
        st->timer_ns = out->when_ns;
        arm(w, st->owner);
        break;
    default:
        sim_fail(w->sim, "stream %u: out %u", number, out->kind);
    }
}

static void
step(struct world *w, uint32_t number, uint16_t kind, const void *msg, uint64_t payload)
{
    struct step_out v[OUTS];
    struct arena arena;
    struct stream *st = &w->streams[number];
    arena_init(&arena, sim_mem(w->sim));
    struct step_outs outs = { .v = v, .capacity = OUTS, .arena = &arena };
    const struct step_in in = {
        .kind = kind, .now_ns = sim_now(w->sim), .msg = msg, .payload = payload
    };
    if (kind == WK_STREAM_IN_READ) {
        st->waiting = true; /* until it is given something */
    }
    SIM_CHECK(w->sim, wk_stream_step(&st->s, &in, &outs) == ST_OK, "in %u is refused", kind);
    const uint32_t failures = st->s.failed && !st->s.dropped;
    SIM_CHECK(w->sim, st->limit == 0 || st->s.received - st->s.read <= st->limit + failures,
              "stream %u has %u unread items, over its limit of %u", number,
              st->s.received - st->s.read, st->limit);
    for (uint32_t i = 0; i < outs.count; i++) {
        carry_out(w, number, &v[i]);
    }
    arena_fini(&arena);
}

static uint32_t
worker_any(struct world *w)
{
    for (;;) {
        const uint32_t n = 1 + (uint32_t)sim_below(w->sim, sim_proc_count(w->sim));
        if (w->workers[n].alive && sim_proc_alive(w->sim, n)) {
            return n;
        }
    }
}

static void
push(struct world *w, uint32_t number)
{
    struct stream *st = &w->streams[number];
    st->worker = worker_any(w);
    SIM_TRACE(w->sim, "stream %u: attempt %u goes to P%u", number, st->attempt, st->worker);
    step(w, number, WK_STREAM_IN_PUSH, &st->attempt, 0);
}

/* An attempt has failed: another, or the end. */
static void
attempt_failed(struct world *w, uint32_t number, bool crash)
{
    struct stream *st = &w->streams[number];
    const bool failed = true;
    st->worker = 0;
    if (st->retries > 0) {
        st->retries--;
        st->attempt++;
        step(w, number, WK_STREAM_IN_ATTEMPT_OVER, NULL, 0);
        push(w, number);
        return;
    }
    st->crashed = crash;
    step(w, number, WK_STREAM_IN_END, &failed, 0);
}

static void
on_done(struct world *w, uint32_t from, const struct done_msg *m)
{
    struct stream *st = &w->streams[m->stream];
    const bool failed = m->failed;
    if (st->worker != from || st->attempt != m->attempt || st->s.over) {
        return; /* its word in the window is free: a stale attempt */
    }
    if (failed && st->raises_once && st->retries > 0) {
        attempt_failed(w, m->stream, false);
        return;
    }
    st->worker = 0;
    st->raises = failed;
    step(w, m->stream, WK_STREAM_IN_END, &failed, 0);
}

static void
submit(struct world *w)
{
    if (w->stream_count >= STREAMS_MAX) {
        return;
    }
    const uint32_t owner = 1 + (uint32_t)sim_below(w->sim, w->owners);
    if (!w->owner_alive[owner]) {
        return;
    }
    struct stream *st = &w->streams[w->stream_count];
    memset(st, 0, sizeof(*st));
    st->owner = owner;
    st->total = sim_chance(w->sim, 100) ? ENDLESS : (uint32_t)sim_below(w->sim, 14);
    st->limit = sim_chance(w->sim, 500) ? 1 + (uint32_t)sim_below(w->sim, 6) : 0;
    if (st->total == ENDLESS && st->limit == 0) {
        st->limit = 5; /* or it would fill this world */
    }
    st->retries = (uint32_t)sim_below(w->sim, 4);
    st->raises_once = sim_chance(w->sim, 200);
    st->raises = st->raises_once || sim_chance(w->sim, 200);
    st->failure_index = UINT32_MAX;
    wk_stream_init(&st->s, st->limit);
    st->s.rules_off = sim_mutations(w->sim);
    push(w, w->stream_count++);
}

static void
drop(struct world *w, uint32_t number)
{
    struct stream *st = &w->streams[number];
    const bool awaited = st->total != ENDLESS && sim_chance(w->sim, 300);
    SIM_TRACE(w->sim, "stream %u: its reader goes%s", number, awaited ? ", the end awaited" : "");
    st->gone = true;
    st->waiting = false;
    step(w, number, WK_STREAM_IN_DROP, &awaited, 0);
}

/* ---- workers ---- */

static void
run_step(struct world *w, uint32_t worker, struct run *r, uint16_t kind, const void *msg,
         uint64_t payload, bool *stop)
{
    struct step_out v[OUTS];
    struct arena arena;
    arena_init(&arena, sim_mem(w->sim));
    struct step_outs outs = { .v = v, .capacity = OUTS, .arena = &arena };
    const struct step_in in = { .kind = kind, .msg = msg, .payload = payload };
    SIM_CHECK(w->sim, wk_yield_step(&r->y, &in, &outs) == ST_OK, "the producer refuses %u", kind);
    for (uint32_t i = 0; i < outs.count; i++) {
        struct item_msg m = { .stream = r->stream };
        switch (v[i].kind) {
        case WK_YIELD_OUT_SEND:
            m.item = (struct wk_stream_item_msg){ r->attempt, (uint32_t)v[i].peer };
            sim_send(w->sim, worker, r->owner, 0, MSG_ITEM, v[i].payload, &m, sizeof(m));
            break;
        case WK_YIELD_OUT_FREE:
            value_free(w, v[i].payload);
            break;
        case WK_YIELD_OUT_STOP:
            *stop = true;
            break;
        case WK_YIELD_OUT_GO:
            r->may_go = true;
            break;
        default:
            sim_fail(w->sim, "the producer says %u", v[i].kind);
        }
    }
    arena_fini(&arena);
}

static void
run_end(struct world *w, uint32_t worker, struct run *r, bool failed)
{
    const struct done_msg m = { .stream = r->stream, .attempt = r->attempt, .failed = failed };
    struct worker *wk = &w->workers[worker];
    sim_send(w->sim, worker, r->owner, 0, MSG_DONE, 0, &m, sizeof(m));
    *r = wk->runs[--wk->count];
}

/* The program makes its next item, or ends. */
static void
run_on(struct world *w, uint32_t worker, struct run *r)
{
    const struct stream *st = &w->streams[r->stream];
    if (r->y.made >= st->total) {
        run_end(w, worker, r, st->raises && (!st->raises_once || r->attempt == 0));
        return;
    }
    if (w->value_count >= VALUES_MAX) {
        return;
    }
    bool stop = false;
    r->may_go = false;
    SIM_CHECK(w->sim,
              st->gone || st->limit == 0 || r->attempt != st->attempt ||
                  r->y.made < st->s.read + st->limit,
              "stream %u: the program makes item %u, its reader is at %u", r->stream, r->y.made,
              st->s.read);
    const uint64_t value = value_make(w, r->stream, r->y.made, worker);
    run_step(w, worker, r, WK_YIELD_IN_ITEM, NULL, value, &stop);
    if (stop) {
        run_end(w, worker, r, false);
    }
}

static bool
work(struct world *w, uint32_t worker)
{
    struct worker *wk = &w->workers[worker];
    if (!wk->alive || wk->count == 0) {
        return false;
    }
    struct run *r = &wk->runs[sim_below(w->sim, wk->count)];
    if (!r->may_go || (w->streams[r->stream].total == ENDLESS && w->value_count >= VALUES_MAX)) {
        return false;
    }
    run_on(w, worker, r);
    return true;
}

static void
on_push(struct world *w, uint32_t worker, uint32_t from, const struct push_msg *m)
{
    struct worker *wk = &w->workers[worker];
    if (wk->owner_dead[from]) {
        return;
    }
    ASSERT(wk->count < RUNS_MAX);
    struct run *r = &wk->runs[wk->count++];
    *r = (struct run){ .stream = m->stream, .attempt = m->attempt, .owner = from, .may_go = true };
    wk_yield_init(&r->y, m->limit, m->known);
    r->y.rules_off = sim_mutations(w->sim);
}

static void
on_tell(struct world *w, uint32_t worker, const struct tell_msg *m)
{
    struct worker *wk = &w->workers[worker];
    for (uint32_t i = 0; i < wk->count; i++) {
        struct run *r = &wk->runs[i];
        if (r->stream == m->stream && r->attempt == m->told.attempt) {
            bool stop = false;
            run_step(w, worker, r, WK_YIELD_IN_TOLD, &m->told, 0, &stop);
            return;
        }
    }
}

static void
worker_add(struct world *w)
{
    if (sim_proc_count(w->sim) < SIM_PROCS_MAX) {
        const uint32_t n = sim_proc_add(w->sim, "worker");
        w->workers[n].alive = true;
        w->live_workers++;
    }
}

/* ---- the world ---- */

static void *
world_create(struct sim *sim)
{
    struct world *w = mem_alloc(sim_mem(sim), sizeof(*w));
    memset(w, 0, sizeof(*w));
    w->sim = sim;
    w->owners = 1 + (uint32_t)sim_below(sim, OWNERS_MAX);
    for (uint32_t i = 1; i <= w->owners; i++) {
        w->owner_alive[sim_proc_add(sim, "owner")] = true;
    }
    const uint32_t workers = 1 + (uint32_t)sim_below(sim, 4);
    for (uint32_t i = 0; i < workers; i++) {
        worker_add(w);
    }
    w->kills_left = (uint32_t)sim_below(sim, 10);
    w->kills_owners = sim_chance(sim, 200);
    sim_params(sim)->actions = 100 + (uint32_t)sim_below(sim, 500);
    return w;
}

static void
world_destroy(struct sim *sim, void *world)
{
    mem_free(sim_mem(sim), world, sizeof(struct world));
}

static void
kill_one(struct world *w)
{
    if (w->kills_left == 0) {
        return;
    }
    w->kills_left--;
    const uint32_t owner = 1 + (uint32_t)sim_below(w->sim, w->owners);
    if (w->kills_owners && w->owner_alive[owner] && sim_chance(w->sim, 150)) {
        sim_proc_kill(w->sim, owner);
        return;
    }
    if (w->live_workers == 1) {
        worker_add(w);
    }
    if (w->live_workers > 1) {
        sim_proc_kill(w->sim, worker_any(w));
    }
}

static bool
reads(const struct world *w, const struct stream *st)
{
    return w->owner_alive[st->owner] && !st->gone && !st->waiting && !st->told_over;
}

static void
world_act(struct sim *sim, void *world)
{
    struct world *w = world;
    const uint64_t dice = sim_below(sim, 100);
    const uint32_t any = w->stream_count ? (uint32_t)sim_below(sim, w->stream_count) : 0;
    if (dice < 8 || w->stream_count == 0) {
        submit(w);
    } else if (dice < 55) {
        (void)work(w, worker_any(w));
    } else if (dice < 92) {
        if (reads(w, &w->streams[any])) {
            step(w, any, WK_STREAM_IN_READ, NULL, 0);
        }
    } else if (dice < 96) {
        if (w->owner_alive[w->streams[any].owner] && !w->streams[any].gone) {
            drop(w, any);
        }
    } else {
        kill_one(w);
    }
}

static void
world_deliver(struct sim *sim, void *world, uint32_t proc, uint32_t from, uint16_t kind,
              uint64_t payload, const void *msg)
{
    struct world *w = world;
    struct item_msg item;
    (void)sim;
    switch (kind) {
    case MSG_PUSH:
        on_push(w, proc, from, msg);
        break;
    case MSG_TELL:
        on_tell(w, proc, msg);
        break;
    case MSG_DONE:
        on_done(w, from, msg);
        break;
    default:
        memcpy(&item, msg, sizeof(item));
        step(w, item.stream, WK_STREAM_IN_ITEM, &item.item, payload);
        break;
    }
}

static void
world_dropped(struct sim *sim, void *world, uint32_t proc, uint32_t from, uint16_t kind,
              uint64_t payload, const void *msg)
{
    struct world *w = world;
    (void)sim;
    (void)proc;
    (void)from;
    (void)msg;
    if (kind == MSG_ITEM && w->values[payload - 1].state == VALUE_SENT) {
        value_free(w, payload); /* with its creator, or its owner */
    }
}

static void
world_died(struct sim *sim, void *world, uint32_t proc, uint32_t dead)
{
    struct world *w = world;
    (void)sim;
    if (proc > w->owners) { /* a worker: what it runs for the dead is over */
        struct worker *wk = &w->workers[proc];
        if (dead <= w->owners) {
            wk->owner_dead[dead] = true;
        }
        for (uint32_t i = wk->count; i-- > 0;) {
            if (wk->runs[i].owner == dead) {
                wk->runs[i] = wk->runs[--wk->count];
            }
        }
        return;
    }
    for (uint32_t i = 0; i < w->stream_count; i++) {
        struct stream *st = &w->streams[i];
        if (st->owner == proc && st->worker == dead && !st->s.over) {
            values_die(w, dead, i);
            attempt_failed(w, i, true);
        }
    }
}

static void
world_timer(struct sim *sim, void *world, uint32_t proc, uint32_t tag)
{
    struct world *w = world;
    (void)tag;
    for (uint32_t i = 0; i < w->stream_count; i++) {
        struct stream *st = &w->streams[i];
        if (st->owner == proc && st->timer_ns && st->timer_ns <= sim_now(sim)) {
            st->timer_ns = 0;
            step(w, i, WK_STREAM_IN_TIMER, NULL, 0);
        }
    }
    arm(w, proc);
}

static void
world_killed(struct sim *sim, void *world, uint32_t proc)
{
    struct world *w = world;
    (void)sim;
    if (proc <= w->owners) {
        w->owner_alive[proc] = false;
        for (uint32_t i = 0; i < w->value_count; i++) {
            struct value *v = &w->values[i];
            if (w->streams[v->stream].owner == proc && v->state == VALUE_KEPT) {
                v->state = VALUE_FREED;
            }
        }
        return;
    }
    w->workers[proc].alive = false;
    w->workers[proc].count = 0;
    w->live_workers--;
}

static void
check_room(struct world *w, uint32_t worker)
{
    for (uint32_t i = 0; i < w->workers[worker].count; i++) {
        const struct run *r = &w->workers[worker].runs[i];
        const struct stream *st = &w->streams[r->stream];
        SIM_CHECK(w->sim, r->may_go || st->s.read + st->limit <= r->y.made,
                  "stream %u: the program waits at item %u, its reader is at %u", r->stream,
                  r->y.made, st->s.read);
    }
}

/* Programs run on, readers read on; then readers of what never ends go; then all. */
static bool
world_wind_down(struct sim *sim, void *world)
{
    struct world *w = world;
    bool again = false;
    for (uint32_t i = w->owners + 1; i <= sim_proc_count(sim); i++) {
        check_room(w, i);
        for (uint32_t k = 0; k < w->workers[i].count; k++) {
            again = work(w, i) || again;
        }
    }
    for (uint32_t i = 0; i < w->stream_count; i++) {
        struct stream *st = &w->streams[i];
        if (!w->owner_alive[st->owner] || st->gone) {
            continue;
        }
        if (st->total == ENDLESS || st->told_over) {
            drop(w, i);
            again = true;
        } else if (reads(w, st)) {
            step(w, i, WK_STREAM_IN_READ, NULL, 0);
            again = true;
        }
    }
    return again;
}

static void
world_quiet(struct sim *sim, void *world)
{
    struct world *w = world;
    for (uint32_t i = 0; i < w->stream_count; i++) {
        const struct stream *st = &w->streams[i];
        if (!w->owner_alive[st->owner]) {
            continue;
        }
        SIM_CHECK(sim, !st->waiting, "stream %u: its reader waits for ever", i);
        SIM_CHECK(sim, st->s.over, "stream %u never ends", i);
    }
    for (uint32_t i = w->owners + 1; i <= sim_proc_count(sim); i++) {
        SIM_CHECK(sim, w->workers[i].count == 0, "P%u runs for ever", i);
    }
    for (uint32_t i = 0; i < w->value_count; i++) {
        const struct value *v = &w->values[i];
        SIM_CHECK(sim, v->state == VALUE_GIVEN || v->state == VALUE_FREED,
                  "value %u of stream %u is left over", v->index, v->stream);
    }
}

static const char *const rule_names[] = {
    "known", "stale", "failure", "unread", "pushed", "timer", "stop", "wake", "room", "mute", NULL,
};
_Static_assert(COUNT_OF(rule_names) == WK_STREAM_RULES + 1, "one name a rule");

const struct sim_world sim_world_stream = {
    .name = "stream",
    .create = world_create,
    .destroy = world_destroy,
    .act = world_act,
    .deliver = world_deliver,
    .dropped = world_dropped,
    .died = world_died,
    .timer = world_timer,
    .killed = world_killed,
    .wind_down = world_wind_down,
    .quiet = world_quiet,
    .mutations = rule_names,
};
