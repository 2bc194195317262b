/* SPDX-License-Identifier: Apache-2.0 */
/* The simulation framework: clock, connections, deaths, timers, checks. See sim.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/id.h"
#include "sim_priv.h"

/* --- memory ------------------------------------------------------------------------------------
 */

static void *
tracked_resize(void *ctx, void *old, size_t old_size, size_t new_size)
{
    struct sim *sim = ctx;
    struct block *b = old ? (struct block *)old - 1 : NULL;
    if (b) {
        SIM_CHECK(sim, b->size == old_size, "freed with size %zu, allocated with %llu", old_size,
                  (unsigned long long)b->size);
        list_remove(&b->link);
    }
    sim->bytes += new_size - old_size;
    if (new_size == 0) {
        free(b);
        return NULL;
    }
    b = realloc(b, sizeof(*b) + new_size);
    if (!b) {
        abort();
    }
    b->size = new_size;
    list_push_back(&sim->blocks, &b->link);
    return b + 1;
}

void *
sim_alloc(struct sim *sim, size_t size)
{
    void *p = mem_alloc(&sim->mem, size);
    memset(p, 0, size);
    return p;
}

/* --- what worlds ask -----------------------------------------------------------------------------
 */

struct sim_params *
sim_params(struct sim *sim)
{
    return &sim->params;
}

const struct mem *
sim_mem(struct sim *sim)
{
    return &sim->mem;
}

uint64_t
sim_now(const struct sim *sim)
{
    return sim->now;
}

uint64_t
sim_below(struct sim *sim, uint64_t n)
{
    return rand_below(&sim->rand, n);
}

bool
sim_chance(struct sim *sim, uint32_t per_mille)
{
    return rand_below(&sim->rand, 1000) < per_mille;
}

uint32_t
sim_mutations(const struct sim *sim)
{
    return sim->mutations;
}

bool
sim_is_healing(const struct sim *sim)
{
    return sim->healing;
}

bool
sim_tracing(const struct sim *sim)
{
    return sim->trace != NULL;
}

void
sim_trace(struct sim *sim, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    fprintf(sim->trace, "%12.6f ms  ", (double)sim->now / 1e6);
    vfprintf(sim->trace, format, ap);
    fputc('\n', sim->trace);
    va_end(ap);
}

void
sim_fail(struct sim *sim, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    vsnprintf(sim->result->text, sizeof(sim->result->text), format, ap);
    va_end(ap);
    sim->result->failed = true;
    SIM_TRACE(sim, "VIOLATION: %s", sim->result->text);
    longjmp(sim->fail, 1);
}

static struct proc *
proc_of(const struct sim *sim, uint32_t number)
{
    ASSERT(number >= 1 && number <= sim->proc_count);
    return sim->procs[number];
}

bool
sim_proc_alive(const struct sim *sim, uint32_t number)
{
    return proc_of(sim, number)->alive;
}

uint32_t
sim_proc_count(const struct sim *sim)
{
    return sim->proc_count;
}

/* --- events
 * ---------------------------------------------------------------------------------------- */

struct event *
sim_event(struct sim *sim, enum event_kind kind, uint64_t when, uint32_t proc, uint32_t other)
{
    struct event *e = sim_alloc(sim, sizeof(*e));
    e->kind = kind;
    e->proc = proc;
    e->other = other;
    if (heap_push(&sim->events, &e->node, when)) {
        abort();
    }
    return e;
}

static void
drop_event(struct sim *sim, struct event *e)
{
    heap_remove(&sim->events, &e->node);
    mem_free(&sim->mem, e, sizeof(*e));
}

/* Mostly short, at times long, at times none: so that everything overtakes everything. */
uint64_t
sim_random_delay(struct sim *sim, uint64_t max)
{
    switch (sim_below(sim, 4)) {
    case 0:
        return 0;
    case 1:
        return sim_below(sim, max + 1);
    default:
        return sim_below(sim, max / 16 + 1);
    }
}

struct conn *
sim_conn(struct sim *sim, uint32_t from, uint32_t to, uint32_t lane)
{
    const uint64_t hash = id_mix64((uint64_t)from << 32 | (uint64_t)to << 8 | lane);
    struct map_link *l;
    MAP_FOR_HASH (l, &sim->conns, hash) {
        struct conn *c = CONTAINER_OF(l, struct conn, link);
        if (c->from == from && c->to == to && c->lane == lane) {
            return c;
        }
    }
    struct conn *c = sim_alloc(sim, sizeof(*c));
    c->from = from;
    c->to = to;
    c->lane = lane;
    list_init(&c->queue);
    if (map_insert(&sim->conns, &c->link, hash)) {
        abort();
    }
    return c;
}

static bool
has_bit(const uint64_t *set, uint32_t i)
{
    return set[i / 64] >> i % 64 & 1;
}

static void
set_bit(uint64_t *set, uint32_t i)
{
    set[i / 64] |= UINT64_C(1) << i % 64;
}

static uint64_t
notice_time(struct sim *sim, uint32_t dead, uint32_t observer)
{
    uint64_t earliest = sim->now;
    if (sim->params.local) {
        for (uint32_t lane = 0; lane < SIM_LANES; lane++) {
            const struct conn *c = sim_conn(sim, dead, observer, lane);
            earliest = c->last_arrival > earliest ? c->last_arrival : earliest;
        }
    }
    const uint64_t when = sim->now + sim_random_delay(sim, sim->params.notice_max_ns);
    return when > earliest ? when : earliest;
}

/* Sees to it that `observer` learns of the death, once. */
void
sim_tell_death(struct sim *sim, uint32_t dead, uint32_t observer)
{
    struct proc *p = proc_of(sim, observer);
    if (p->alive && !has_bit(p->told_dead, dead)) {
        set_bit(p->told_dead, dead);
        sim_event(sim, EV_NOTICE, notice_time(sim, dead, observer), observer, dead);
    }
}

/* At the end of the connection, to arrive after all before it. */
static struct message *
add_message(struct sim *sim, struct conn *c, size_t size)
{
    struct message *m = sim_alloc(sim, sizeof(*m) + size);
    m->size = size;
    list_push_back(&c->queue, &m->link);
    if (sim->params.breaks) {
        return m; /* its bytes arrive, not itself */
    }
    uint64_t when = sim->now + sim_random_delay(sim, sim->params.delay_max_ns);
    if (when < c->last_arrival) {
        when = c->last_arrival;
    }
    c->last_arrival = when;
    sim_event(sim, EV_MESSAGE, when, c->to, c->from)->conn = c;
    return m;
}

void
sim_send(struct sim *sim, uint32_t from, uint32_t to, uint32_t lane, uint16_t kind,
         uint64_t payload, const void *msg, size_t size)
{
    ASSERT(lane < SIM_LANES && from != to);
    struct conn *c = sim_conn(sim, from, to, lane);
    struct proc *sender = proc_of(sim, from);
    if (!proc_of(sim, to)->alive) {
        sim_tell_death(sim, to, from); /* one that started later learns it when it can't connect */
    }
    const bool lost = sim->params.breaks && !proc_of(sim, to)->alive;
    if (!sender->alive || c->cut || lost || has_bit(sender->known_dead, to)) {
        if (sim->world->dropped) {
            sim->world->dropped(sim, sim->state, to, from, kind, payload, msg);
        }
        return;
    }
    struct message *m = add_message(sim, c, size);
    m->kind = kind;
    m->payload = payload;
    if (size > 0) {
        memcpy(m->bytes, msg, size);
    }
    if (sim->params.breaks) {
        sim_wire_send(sim, c, m);
    }
}

void
sim_timer(struct sim *sim, uint32_t proc, uint32_t tag, uint64_t when_ns)
{
    ASSERT(tag < SIM_TIMERS);
    struct proc *p = proc_of(sim, proc);
    if (p->timers[tag]) {
        drop_event(sim, p->timers[tag]);
        p->timers[tag] = NULL;
    }
    if (when_ns != 0 && p->alive) {
        const uint64_t when = when_ns < sim->now ? sim->now : when_ns;
        p->timers[tag] = sim_event(sim, EV_TIMER, when, proc, tag);
    }
}

/* --- processes
 * ------------------------------------------------------------------------------------- */

uint32_t
sim_proc_add(struct sim *sim, const char *role)
{
    ASSERT(sim->proc_count < SIM_PROCS_MAX);
    struct proc *p = sim_alloc(sim, sizeof(*p));
    p->role = role;
    p->alive = true;
    sim->procs[++sim->proc_count] = p;
    SIM_TRACE(sim, "P%u starts (%s)", sim->proc_count, role);
    return sim->proc_count;
}

void
sim_proc_stop(struct sim *sim, uint32_t proc, uint64_t duration_ns)
{
    struct proc *p = proc_of(sim, proc);
    /* Not while it is stopped: what was put off to the old time would change order. */
    if (p->alive && p->stopped_until <= sim->now) {
        p->stopped_until = sim->now + duration_ns;
        SIM_TRACE(sim, "P%u stopped for %.3f ms", proc, (double)duration_ns / 1e6);
    }
}

void
sim_drop_message(struct sim *sim, struct conn *c, struct message *m)
{
    list_remove(&m->link);
    if (sim->world->dropped && !m->end) {
        sim->world->dropped(sim, sim->state, c->to, c->from, m->kind, m->payload, m->bytes);
    }
    mem_free(&sim->mem, m, sizeof(*m) + m->size);
}

/* Keeps a random prefix of what is on its way on this connection. */
static void
cut_tail(struct sim *sim, struct conn *c)
{
    uint32_t count = 0;
    LIST_FOR (l, &c->queue) {
        count = LIST_ENTRY(l, struct message, link)->end ? 0 : count + 1;
    }
    uint32_t lost = (uint32_t)sim_below(sim, count + 1);
    while (lost-- > 0) {
        sim_drop_message(sim, c, LIST_ENTRY(c->queue.prev, struct message, link));
    }
}

void
sim_proc_kill(struct sim *sim, uint32_t proc)
{
    struct proc *p = proc_of(sim, proc);
    ASSERT(p->alive);
    p->alive = false;
    SIM_TRACE(sim, "P%u is killed", proc);
    for (uint32_t tag = 0; tag < SIM_TIMERS; tag++) {
        sim_timer(sim, proc, tag, 0);
    }
    struct map_walk walk;
    map_walk_init(&walk);
    for (struct map_link *l; (l = map_walk_next(&sim->conns, &walk));) {
        struct conn *c = CONTAINER_OF(l, struct conn, link);
        if (c->from == proc && !sim->params.local && !sim->params.breaks) {
            cut_tail(sim, c);
        }
    }
    if (sim->world->killed) {
        sim->world->killed(sim, sim->state, proc);
    }
    for (uint32_t i = 1; i <= sim->proc_count; i++) {
        sim_tell_death(sim, proc, i);
    }
    sim_wire_killed(sim, proc);
}

void
sim_watch(struct sim *sim, uint32_t proc, uint32_t watched)
{
    if (!proc_of(sim, watched)->alive) {
        sim_tell_death(sim, watched, proc);
    }
}

void
sim_break(struct sim *sim, uint32_t a, uint32_t b, uint32_t lane)
{
    ASSERT(proc_of(sim, a)->alive && proc_of(sim, b)->alive && sim->world->broke);
    struct conn *const both[] = { sim_conn(sim, a, b, lane), sim_conn(sim, b, a, lane) };
    if (both[0]->cut || both[1]->cut || sim->params.breaks) {
        return; /* it is broken, and one end doesn't know yet; or it goes on when it breaks */
    }
    SIM_TRACE(sim, "the connection between P%u and P%u breaks", a, b);
    for (size_t i = 0; i < COUNT_OF(both); i++) {
        cut_tail(sim, both[i]);
        add_message(sim, both[i], 0)->end = true;
        both[i]->cut = true;
    }
}

/* --- the loop
 * ---------------------------------------------------------------------------------------- */

static void
on_message(struct sim *sim, struct conn *c)
{
    if (list_is_empty(&c->queue)) {
        return; /* cut off by its sender's death */
    }
    struct message *m = LIST_ENTRY(list_first(&c->queue), struct message, link);
    if (!proc_of(sim, c->to)->alive) {
        sim_drop_message(sim, c, m);
        return;
    }
    list_remove(&m->link);
    if (m->end) {
        sim_conn(sim, c->to, c->from, c->lane)->cut = false;
        SIM_TRACE(sim, "P%u learns that its connection with P%u broke", c->to, c->from);
        sim->world->broke(sim, sim->state, c->to, c->from);
        mem_free(&sim->mem, m, sizeof(*m) + m->size);
        return;
    }
    sim->world->deliver(sim, sim->state, c->to, c->from, m->kind, m->payload, m->bytes);
    mem_free(&sim->mem, m, sizeof(*m) + m->size);
}

static void
on_act(struct sim *sim)
{
    if (sim->actions_left == 0) {
        SIM_TRACE(sim, "--- healing ---");
        sim->healing = true;
        if (sim->world->heal) {
            sim->world->heal(sim, sim->state);
        }
        return;
    }
    sim->actions_left--;
    sim->world->act(sim, sim->state);
    sim_event(sim, EV_ACT, sim->now + sim_random_delay(sim, sim->params.act_max_ns), 0, 0);
}

static void
dispatch(struct sim *sim, const struct event *e)
{
    struct proc *p;
    switch (e->kind) {
    case EV_ACT:
        on_act(sim);
        break;
    case EV_MESSAGE:
        on_message(sim, e->conn);
        break;
    case EV_NOTICE:
        p = proc_of(sim, e->proc);
        if (p->alive && sim->params.drains) {
            sim_wire_drain(sim, e->other, e->proc);
        }
        if (p->alive) {
            SIM_TRACE(sim, "P%u learns that P%u is dead", e->proc, e->other);
            set_bit(p->known_dead, e->other);
            if (sim->world->died) {
                sim->world->died(sim, sim->state, e->proc, e->other);
            }
        }
        break;
    case EV_TIMER:
        p = proc_of(sim, e->proc);
        p->timers[e->other] = NULL;
        SIM_TRACE(sim, "P%u timer %u", e->proc, e->other);
        sim->world->timer(sim, sim->state, e->proc, e->other);
        break;
    case EV_BREAK:
        sim_wire_on_break(sim);
        break;
    case EV_CONNECT:
        sim_wire_on_connect(sim, e->wire);
        break;
    case EV_BYTES:
        sim_wire_on_bytes(sim, e->pipe);
        break;
    default:
        UNREACHABLE();
    }
}

/* One event; false when there is none. */
static bool
advance(struct sim *sim)
{
    struct heap_node *first = heap_first(&sim->events);
    if (!first) {
        return false;
    }
    struct event *e = CONTAINER_OF(first, struct event, node);
    sim->now = first->when > sim->now ? first->when : sim->now;
    heap_remove(&sim->events, &e->node);
    const struct proc *p = e->proc ? proc_of(sim, e->proc) : NULL;
    if (p && p->alive && p->stopped_until > sim->now) {
        if (heap_push(&sim->events, &e->node, p->stopped_until)) {
            abort();
        }
        return true;
    }
    const struct event copy = *e;
    mem_free(&sim->mem, e, sizeof(*e));
    dispatch(sim, &copy);
    if (sim->world->check) {
        sim->world->check(sim, sim->state);
    }
    return true;
}

static void
draw_params(struct sim *sim, bool breaks)
{
    static const uint64_t delays[] = { SIM_MS / 100, SIM_MS, 20 * SIM_MS, 100 * SIM_MS };
    sim->params = (struct sim_params){
        .actions = 20 + (uint32_t)sim_below(sim, 80),
        .act_max_ns = delays[sim_below(sim, 4)] * 2,
        .delay_max_ns = delays[sim_below(sim, 4)],
        .notice_max_ns = delays[sim_below(sim, 4)],
        .local = sim_chance(sim, 500),
    };
    sim->params.breaks = breaks;
    sim->params.local = sim->params.local && !breaks;
}

static void
play(struct sim *sim, bool breaks)
{
    draw_params(sim, breaks);
    sim->state = sim->world->create(sim);
    sim->actions_left = sim->params.actions;
    sim_event(sim, EV_ACT, 0, 0, 0);
    if (sim->params.breaks) {
        sim_event(sim, EV_BREAK, 0, 0, 0);
    }
    do {
        while (advance(sim)) {
            SIM_CHECK(sim, ++sim->result->steps < SIM_STEPS_MAX, "never goes quiet");
        }
    } while (sim->world->wind_down && sim->world->wind_down(sim, sim->state));
    sim_wire_check(sim);
    sim->world->quiet(sim, sim->state);
}

/* Gives back what the framework itself holds. */
static void
forget(struct sim *sim)
{
    sim_wire_forget(sim);
    struct map_walk walk;
    map_walk_init(&walk);
    for (struct map_link *l; (l = map_walk_next(&sim->conns, &walk));) {
        struct conn *c = CONTAINER_OF(l, struct conn, link);
        mem_free(&sim->mem, c, sizeof(*c));
    }
    map_fini(&sim->conns);
    heap_fini(&sim->events);
    for (uint32_t i = 1; i <= sim->proc_count; i++) {
        mem_free(&sim->mem, sim->procs[i], sizeof(struct proc));
    }
}

/* The history being played, for a failed assertion of the machine under test. */
static struct sim *playing;

static _Noreturn void
on_panic(const char *expression, const char *where, const char *function)
{
    sim_fail(playing, "assertion %s failed in %s (%s)", expression, function, where);
}

void
sim_run(const struct sim_world *world, const struct sim_play *how, struct sim_result *result)
{
    struct sim *sim = calloc(1, sizeof(*sim));
    if (!sim) {
        abort();
    }
    *result = (struct sim_result){ 0 };
    sim->world = world;
    sim->result = result;
    sim->mutations = how->mutations;
    sim->trace = how->trace;
    sim->mem = (struct mem){ .resize = tracked_resize, .ctx = sim };
    list_init(&sim->blocks);
    list_init(&sim->wires);
    rand_init(&sim->rand, how->seed);
    heap_init(&sim->events, &sim->mem);
    map_init(&sim->conns, &sim->mem);
    playing = sim;
    assert_set_panic(on_panic);
    if (setjmp(sim->fail) == 0) {
        play(sim, how->breaks);
        sim->world->destroy(sim, sim->state);
        forget(sim);
        SIM_CHECK(sim, sim->bytes == 0, "%llu bytes were never given back",
                  (unsigned long long)sim->bytes);
    }
    for (struct list *l; (l = list_pop_front(&sim->blocks));) {
        free(LIST_ENTRY(l, struct block, link));
    }
    assert_set_panic(NULL);
    playing = NULL;
    free(sim);
}
