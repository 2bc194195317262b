/* SPDX-License-Identifier: Apache-2.0 */
/* World `own`: nodes, and what the core worker does with the machine's outs. See sim_own.h. */
#include "sim_own.h"

#include <string.h>

enum { VALUE_OBJECT_BITS = 16, TIMER_GRACE = 0, TIMER_UNREACHABLE = 1 };

struct own_addr
node_addr(uint32_t proc)
{
    struct own_addr addr;
    memset(&addr, 0x5a, sizeof(addr));
    memcpy(addr.worker.b, &proc, sizeof(proc));
    return addr;
}

uint32_t
node_peer(struct sim_own *w, struct sim_node *n, uint32_t proc)
{
    const struct own_addr addr = node_addr(proc);
    uint32_t number = 0;
    SIM_CHECK(w->sim, own_proc(&n->own, &addr, &number) == ST_OK, "own_proc failed");
    return number;
}

uint32_t
node_proc(const struct sim_node *n, uint32_t peer)
{
    uint32_t proc;
    memcpy(&proc, own_proc_addr(&n->own, peer)->worker.b, sizeof(proc));
    return proc;
}

struct id_object
object_id(uint32_t object)
{
    struct id_object id;
    memset(&id, 0, sizeof(id));
    const uint64_t spread = id_mix64(object + 1);
    memcpy(id.b, &spread, sizeof(spread));
    memcpy(id.b + 24, &object, sizeof(object));
    return id;
}

uint32_t
object_of(const struct id_object *id)
{
    uint32_t object;
    memcpy(&object, id->b + 24, sizeof(object));
    return object;
}

uint32_t
object_new(struct sim_own *w, uint32_t owner)
{
    SIM_CHECK(w->sim, w->object_count < OBJECTS_MAX, "the world's table of objects is full");
    w->objects[w->object_count] = (struct sim_object){ .owner = owner, .excused = w->lax };
    return w->object_count++;
}

uint64_t
value_new(struct sim_own *w, struct sim_node *n, uint32_t object)
{
    SIM_CHECK(w->sim, n->value_count < VALUES_MAX, "too many values in P%u", n->number);
    const uint64_t value = ++w->value << VALUE_OBJECT_BITS | object;
    n->values[n->value_count++] = value;
    return value;
}

void
value_end(struct sim_own *w, struct sim_node *n, uint64_t value)
{
    for (uint32_t i = 0; i < n->value_count; i++) {
        if (n->values[i] == value) {
            n->values[i] = n->values[--n->value_count];
            return;
        }
    }
    sim_fail(w->sim, "I5: P%u was given back value %llx, which it had no more", n->number,
             (unsigned long long)value);
}

void
handle_add(struct sim_own *w, struct sim_node *n, struct own_ref *ref, uint32_t run)
{
    if (n->handle_count == HANDLES_MAX) {
        own_local_drop(&n->own, ref, node_outs(w, n));
        node_flush(w, n);
        return;
    }
    n->handles[n->handle_count++] =
        (struct sim_handle){ .ref = ref, .object = object_of(&ref->id), .run = run };
}

void
handle_drop(struct sim_own *w, struct sim_node *n, uint32_t index)
{
    struct sim_handle h = n->handles[index];
    n->handles[index] = n->handles[--n->handle_count];
    SIM_TRACE(w->sim, "P%u drops a handle of o%u%s", n->number, h.object,
              h.captured ? " (captured)" : "");
    if (h.captured) {
        own_capture_drop(&n->own, h.ref, node_outs(w, n));
    } else if (!own_local_try_drop(h.ref)) {
        own_local_drop(&n->own, h.ref, node_outs(w, n));
    }
    node_flush(w, n);
}

/* --- nodes --------------------------------------------------------------------------------------
 */

uint32_t
node_add(struct sim_own *w)
{
    struct sim_node *n = mem_alloc(sim_mem(w->sim), sizeof(*n));
    memset(n, 0, sizeof(*n));
    n->number = sim_proc_add(w->sim, "worker");
    const struct own_addr self = node_addr(n->number);
    const struct own_config config = { .grace_ns = w->lax ? SIM_MS / 10 : 0 };
    own_init(&n->own, sim_mem(w->sim), &self, &config);
    n->own.mutations = sim_mutations(w->sim);
    arena_init(&n->arena, sim_mem(w->sim));
    ASSERT(n->number <= NODES_MAX);
    w->nodes[n->number] = n;
    w->node_count = n->number;
    return n->number;
}

static void
node_free(struct sim_own *w, uint32_t proc)
{
    struct sim_node *n = w->nodes[proc];
    if (n) {
        own_fini(&n->own);
        arena_fini(&n->arena);
        mem_free(sim_mem(w->sim), n, sizeof(*n));
        w->nodes[proc] = NULL;
    }
}

struct step_outs *
node_outs(struct sim_own *w, struct sim_node *n)
{
    const uint32_t room = OWN_OUTS_MIN + (uint32_t)sim_below(w->sim, 25);
    n->outs = (struct step_outs){ .v = n->out_space, .capacity = room, .arena = &n->arena };
    return &n->outs;
}

static void
check_seq(struct sim_own *w, struct sim_node *n, uint64_t seq)
{
    SIM_CHECK(w->sim, seq > n->last_seq, "I2: P%u sends sequence %llu after %llu", n->number,
              (unsigned long long)seq, (unsigned long long)n->last_seq);
    n->last_seq = seq;
}

static void
send_transfer(struct sim_own *w, struct sim_node *n, uint32_t to, const struct step_out *out)
{
    char bytes[sizeof(struct own_msg_transfer) + INNER_MAX * sizeof(struct own_item)];
    const struct own_msg_transfer *m = out->msg;
    ASSERT(m->count <= INNER_MAX);
    memcpy(bytes, m, sizeof(*m));
    memcpy(bytes + sizeof(*m), m->items, m->count * sizeof(struct own_item));
    const uint64_t object = object_of(&m->object);
    SIM_TRACE(w->sim, "P%u -> P%u TRANSFER o%llu seq %llu", n->number, to,
              (unsigned long long)object, (unsigned long long)m->seq);
    check_seq(w, n, m->seq);
    value_end(w, n, out->payload);
    sim_send(w->sim, n->number, to, LANE_HOT, out->kind, 0, bytes, sizeof(bytes));
}

#define LLU(x) ((unsigned long long)(x))

static void
send_message(struct sim_own *w, struct sim_node *n, const struct step_out *out)
{
    const uint32_t to = node_proc(n, (uint32_t)out->peer);
    n->unreachable |= n->known_dead & UINT32_C(1) << to; /* connecting fails: told dead again */
    size_t size = 0;
    uint32_t lane = LANE_HOT;
    switch ((enum own_msg_kind)out->kind) {
    case OWN_MSG_REGISTER: {
        const struct own_msg_register *m = out->msg;
        SIM_TRACE(w->sim, "P%u -> P%u REGISTER o%u seq %llu", n->number, to, object_of(&m->object),
                  LLU(m->seq));
        check_seq(w, n, m->seq);
        size = sizeof(*m);
        break;
    }
    case OWN_MSG_REGISTER_ACK: {
        const struct own_msg_register_ack *m = out->msg;
        SIM_TRACE(w->sim, "P%u -> P%u ACK o%u seq %llu status %d", n->number, to,
                  object_of(&m->object), LLU(m->seq), m->status);
        size = sizeof(*m);
        break;
    }
    case OWN_MSG_RELEASE: {
        const struct own_msg_release *m = out->msg;
        SIM_TRACE(w->sim, "P%u -> P%u RELEASE o%u seq %llu", n->number, to, object_of(&m->object),
                  LLU(m->seq));
        check_seq(w, n, m->seq);
        size = sizeof(*m);
        lane = LANE_RELEASES;
        break;
    }
    case OWN_MSG_TRANSIT_DONE: {
        const struct own_msg_transit_done *m = out->msg;
        SIM_TRACE(w->sim, "P%u -> P%u TRANSIT_DONE %llx", n->number, to, LLU(m->token));
        size = sizeof(*m);
        break;
    }
    case OWN_MSG_GET: {
        const struct own_msg_get *m = out->msg;
        SIM_TRACE(w->sim, "P%u -> P%u GET o%u", n->number, to, object_of(&m->object));
        size = sizeof(*m);
        break;
    }
    case OWN_MSG_VALUE: {
        const struct own_msg_value *m = out->msg;
        SIM_TRACE(w->sim, "P%u -> P%u VALUE o%u state %u", n->number, to, object_of(&m->object),
                  m->state);
        size = sizeof(*m);
        break;
    }
    case OWN_MSG_FREE: {
        const struct own_msg_free *m = out->msg;
        SIM_TRACE(w->sim, "P%u -> P%u FREE o%u", n->number, to, object_of(&m->object));
        size = sizeof(*m);
        break;
    }
    case OWN_MSG_TRANSFER:
        send_transfer(w, n, to, out);
        return;
    default:
        UNREACHABLE();
    }
    sim_send(w->sim, n->number, to, lane, out->kind, out->payload != 0, out->msg, size);
}

static void
on_waiter_ready(struct sim_own *w, struct sim_node *n, const struct step_out *out)
{
    for (uint32_t i = 0; i < n->want_count; i++) {
        if (n->wants[i].id == out->payload) {
            SIM_CHECK(w->sim, !n->wants[i].ready && n->wants[i].ref == out->msg,
                      "I4: P%u: a waiter is answered twice, or for another object", n->number);
            n->wants[i].ready = true;
            return;
        }
    }
    sim_fail(w->sim, "I4: P%u: nobody waits as %llu", n->number, LLU(out->payload));
}

static void
carry_out(struct sim_own *w, struct sim_node *n, const struct step_out *out)
{
    switch (out->kind) {
    case OWN_OUT_READY:
        on_waiter_ready(w, n, out);
        break;
    case OWN_OUT_DROP:
        if (out->payload) {
            const uint32_t object = out->payload & ((1u << VALUE_OBJECT_BITS) - 1);
            value_end(w, n, out->payload);
            if (out->when_ns == (OWN_STORE | OWN_DROP_OWNED)) {
                w->objects[object].has_value = false;
            }
        }
        if (out->peer != 0) {
            lineage_release(w, n, out->peer);
        }
        break;
    case OWN_OUT_REMAKE: {
        struct own_ref *ref;
        memcpy(&ref, &out->msg, sizeof(ref));
        lineage_wanted(w, n, out->payload, ref);
        break;
    }
    case OWN_OUT_TIMER:
        sim_timer(w->sim, n->number, TIMER_GRACE, out->when_ns);
        break;
    case OWN_OUT_PROC_GONE:
        break;
    default:
        send_message(w, n, out);
    }
}

/* A waiter was told: it reads the value, or learns that its transfer arrived. */
static void
serve_want(struct sim_own *w, struct sim_node *n, struct sim_want want)
{
    SIM_TRACE(w->sim, "P%u: o%u is ready, state %u", n->number, want.object, want.ref->state);
    if (want.transfer) {
        if (own_is_listed(want.ref)) {
            w->objects[want.object].has_value = true;
            handle_add(w, n, want.ref, 0);
            return;
        }
    } else if (has_bytes(want.ref->state)) {
        act_deserialise(w, n, want.ref, 0);
    }
    own_local_drop(&n->own, want.ref, node_outs(w, n));
    node_flush(w, n);
}

void
node_flush(struct sim_own *w, struct sim_node *n)
{
    for (;;) {
        for (uint32_t i = 0; i < n->outs.count; i++) {
            carry_out(w, n, &n->outs.v[i]);
        }
        arena_reset(&n->arena);
        const bool more = n->outs.more;
        n->outs.count = 0;
        if (!more) {
            break;
        }
        const struct step_in in = { .kind = STEP_CONTINUE, .now_ns = sim_now(w->sim) };
        SIM_CHECK(w->sim, own_step(&n->own, &in, node_outs(w, n)) == ST_OK, "CONTINUE failed");
    }
    for (uint32_t i = 0; i < n->want_count; i++) {
        if (n->wants[i].ready) {
            const struct sim_want want = n->wants[i];
            n->wants[i] = n->wants[--n->want_count];
            serve_want(w, n, want); /* flushes again, so start anew */
            i = UINT32_MAX;
        }
    }
    lineage_work(w, n);
    if (n->unreachable) {
        sim_timer(w->sim, n->number, TIMER_UNREACHABLE, sim_now(w->sim));
    }
}

/* --- callbacks of the framework
 * ---------------------------------------------------------------------- */

static void
step_machine(struct sim_own *w, struct sim_node *n, uint32_t from, uint16_t kind, uint64_t payload,
             const void *msg)
{
    struct own_msg_transfer transfer;
    struct step_in in = { .kind = kind, .now_ns = sim_now(w->sim), .msg = msg };
    const bool dead = n->known_dead >> from & 1;
    in.peer = dead ? n->dead_peer[from] : node_peer(w, n, from);
    if (kind == OWN_MSG_VALUE && payload) {
        in.payload = value_new(w, n, object_of(&((const struct own_msg_value *)msg)->object));
    } else if (kind == OWN_MSG_TRANSFER) {
        memcpy(&transfer, msg, sizeof(transfer));
        transfer.items = (const struct own_item *)((const char *)msg + sizeof(transfer));
        in.payload = value_new(w, n, object_of(&transfer.object));
        in.msg = &transfer;
        struct sim_object *o = &w->objects[object_of(&transfer.object)];
        o->has_value = true;
    }
    const int status = own_step(&n->own, &in, node_outs(w, n));
    SIM_CHECK(w->sim, status == ST_OK, "P%u: step of kind %u failed: %d", n->number, kind, status);
    node_flush(w, n);
}

static void
world_deliver(struct sim *sim, void *world, uint32_t proc, uint32_t from, uint16_t kind,
              uint64_t payload, const void *msg)
{
    (void)sim;
    struct sim_own *w = world;
    struct sim_node *n = w->nodes[proc];
    if (kind == MSG_PUSH || kind == MSG_REPLY) {
        if (n->known_dead >> from & 1) {
            return; /* its death was acted upon */
        }
        if (kind == MSG_PUSH) {
            on_push(w, n, from, msg);
        } else {
            on_reply(w, n, from, msg);
        }
        return;
    }
    step_machine(w, n, from, kind, payload, msg);
}

static void
world_died(struct sim *sim, void *world, uint32_t proc, uint32_t dead)
{
    struct sim_own *w = world;
    struct sim_node *n = w->nodes[proc];
    n->known_dead |= UINT32_C(1) << dead;
    n->dead_peer[dead] = node_peer(w, n, dead);
    const bool calls_first = sim_chance(sim, 500);
    if (calls_first) {
        on_executor_died(w, n, dead);
    }
    own_died(&n->own, node_peer(w, n, dead), sim_now(sim), node_outs(w, n));
    node_flush(w, n);
    if (!calls_first) {
        on_executor_died(w, n, dead);
    }
}

static void
world_timer(struct sim *sim, void *world, uint32_t proc, uint32_t tag)
{
    struct sim_own *w = world;
    struct sim_node *n = w->nodes[proc];
    while (tag == TIMER_UNREACHABLE && n->unreachable) {
        const uint32_t dead = (uint32_t)__builtin_ctz(n->unreachable);
        n->unreachable &= n->unreachable - 1;
        own_died(&n->own, node_peer(w, n, dead), sim_now(sim), node_outs(w, n));
        node_flush(w, n);
    }
    if (tag == TIMER_UNREACHABLE) {
        return;
    }
    const struct step_in in = { .kind = OWN_IN_TIMER, .now_ns = sim_now(sim) };
    SIM_CHECK(sim, own_step(&n->own, &in, node_outs(w, n)) == ST_OK, "the timer's step failed");
    node_flush(w, n);
}

static void
world_killed(struct sim *sim, void *world, uint32_t proc)
{
    struct sim_own *w = world;
    w->died_ns[proc] = sim_now(sim);
    node_free(w, proc);
}

static void *
world_create(struct sim *sim)
{
    struct sim_own *w = mem_alloc(sim_mem(sim), sizeof(*w));
    memset(w, 0, sizeof(*w));
    w->sim = sim;
    struct sim_params *params = sim_params(sim);
    /* Deaths close together must fit into the grace of one second, notices and stops included. */
    params->delay_max_ns = params->delay_max_ns > 40 * SIM_MS ? 40 * SIM_MS : params->delay_max_ns;
    params->notice_max_ns =
        params->notice_max_ns > 40 * SIM_MS ? 40 * SIM_MS : params->notice_max_ns;
    params->actions = 50 + (uint32_t)sim_below(sim, 450);
    w->kills_left = sim_chance(sim, 800) ? 1 + (uint32_t)sim_below(sim, 8) : 0;
    w->frees = sim_chance(sim, 200);
    w->stops = sim_chance(sim, 300);
    w->losses = sim_chance(sim, 300);
    w->lax = sim_chance(sim, 150);
    if (w->lax) {
        w->kills_left = 10;
        params->delay_max_ns = params->notice_max_ns = 40 * SIM_MS;
    }
    w->keep_per_mille = sim_chance(sim, 500) ? 150 : 500;
    w->lend_per_mille = (uint32_t)sim_below(sim, 3) * 400;
    w->drops_max = UINT32_C(1) << 2 * sim_below(sim, 3);
    const uint32_t nodes = 2 + (uint32_t)sim_below(sim, 4);
    for (uint32_t i = 0; i < nodes; i++) {
        (void)node_add(w);
    }
    return w;
}

static void
world_destroy(struct sim *sim, void *world)
{
    struct sim_own *w = world;
    for (uint32_t i = 1; i <= w->node_count; i++) {
        node_free(w, i);
    }
    mem_free(sim_mem(sim), w, sizeof(*w));
}

/* First every task ends; then what is there must be what is reachable; then every handle goes. */
static bool
world_wind_down(struct sim *sim, void *world)
{
    struct sim_own *w = world;
    bool again = false;
    for (uint32_t i = 1; i <= w->node_count; i++) {
        struct sim_node *n = w->nodes[i];
        for (uint32_t k = n ? n->run_count : 0; k-- > 0;) {
            if (!run_is_blocked(n, &n->runs[k])) {
                act_finish_run(w, n, k);
                again = true;
            }
        }
    }
    if (again) {
        return true;
    }
    if (w->stage++ > 0) {
        return false;
    }
    check_reachable(w);
    SIM_TRACE(sim, "--- every handle goes ---");
    for (uint32_t i = 1; i <= w->node_count; i++) {
        while (w->nodes[i] && w->nodes[i]->handle_count > 0) {
            handle_drop(w, w->nodes[i], w->nodes[i]->handle_count - 1);
        }
    }
    return true;
}

#define RULE_NAME(name, text) #name,
static const char *const rule_names[] = { OWN_RULES(RULE_NAME) NULL };
#undef RULE_NAME

const struct sim_world sim_world_own = {
    .name = "own",
    .create = world_create,
    .destroy = world_destroy,
    .act = act_any,
    .deliver = world_deliver,
    .died = world_died,
    .timer = world_timer,
    .killed = world_killed,
    .check = check_holders,
    .wind_down = world_wind_down,
    .quiet = check_empty,
    .mutations = rule_names,
};
