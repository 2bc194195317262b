/* SPDX-License-Identifier: Apache-2.0 */
/* World `own`: the random program, and tasks as caller and executor carry them out. */
#include "sim_own.h"

#include <string.h>

static struct sim_node *
random_node(struct sim_own *w)
{
    for (;;) {
        struct sim_node *n = w->nodes[1 + sim_below(w->sim, w->node_count)];
        if (n) {
            return n;
        }
    }
}

/* Another process that `n` doesn't know to be dead; 0 when there is none. */
static uint32_t
random_other(struct sim_own *w, const struct sim_node *n)
{
    const uint32_t start = (uint32_t)sim_below(w->sim, w->node_count);
    for (uint32_t i = 0; i < w->node_count; i++) {
        const uint32_t proc = 1 + (start + i) % w->node_count;
        if (proc != n->number && !(n->known_dead >> proc & 1)) {
            return proc;
        }
    }
    return 0;
}

/* A random handle; in a lax history rather one whose registration is in `reg`, since what came too
 * late is rare and what is asked of it rarer. The node has handles. */
static struct own_ref *
random_ref(struct sim_own *w, const struct sim_node *n, enum own_reg reg)
{
    const uint32_t start = (uint32_t)sim_below(w->sim, n->handle_count);
    for (uint32_t i = 0; w->lax && i < n->handle_count; i++) {
        struct own_ref *ref = n->handles[(start + i) % n->handle_count].ref;
        if (ref->kind == OWN_BORROWED && ref->reg == reg && sim_chance(w->sim, 500)) {
            return ref;
        }
    }
    return n->handles[start].ref;
}

/* Up to `max` random handles of the node, with repetition. */
static uint32_t
random_refs(struct sim_own *w, const struct sim_node *n, struct own_ref **refs, uint32_t max)
{
    uint32_t count = n->handle_count ? (uint32_t)sim_below(w->sim, max + 1) : 0;
    for (uint32_t i = 0; i < count; i++) {
        refs[i] = random_ref(w, n, OWN_REG_GONE);
    }
    return count;
}

static struct own_item
item_of_object(const struct sim_own *w, uint32_t object)
{
    return (struct own_item){ .object = object_id(object),
                              .owner = node_addr(w->objects[object].owner) };
}

static void
set_inner(struct sim_own *w, uint32_t object, struct own_ref *const *refs, uint32_t count)
{
    struct sim_object *o = &w->objects[object];
    o->inner_count = count;
    for (uint32_t i = 0; i < count; i++) {
        o->inner[i] = object_of(&refs[i]->id);
    }
    SIM_TRACE(w->sim, "  o%u of P%u holds %u references: o%u o%u o%u", object, o->owner, count,
              count > 0 ? o->inner[0] : 0, count > 1 ? o->inner[1] : 0,
              count > 2 ? o->inner[2] : 0);
}

/* What was read out of a value that is freed, or whose owner is long dead, may be gone. */
static void
excuse_if_uncovered(struct sim_own *w, const struct sim_node *n, uint32_t object)
{
    const struct sim_object *o = &w->objects[object];
    const bool owner_long_dead =
        !w->nodes[o->owner] && sim_now(w->sim) - w->died_ns[o->owner] > n->own.grace_ns / 2;
    if (o->has_value && (o->freed || o->excused || owner_long_dead)) {
        excuse_inner(w, object);
    }
}

void
act_deserialise(struct sim_own *w, struct sim_node *n, struct own_ref *ref, uint32_t run)
{
    const uint32_t object = object_of(&ref->id);
    const struct sim_object *o = &w->objects[object];
    if (!o->has_value) {
        return;
    }
    excuse_if_uncovered(w, n, object);
    for (uint32_t i = 0; i < o->inner_count; i++) {
        if (sim_chance(w->sim, 700)) {
            const struct own_item item = item_of_object(w, o->inner[i]);
            struct own_ref *inner = own_borrow(&n->own, NULL, ref, &item, node_outs(w, n));
            SIM_CHECK(w->sim, inner, "own_borrow failed");
            SIM_TRACE(w->sim, "P%u takes o%u out of o%u", n->number, o->inner[i], object);
            handle_add(w, n, inner, run);
            node_flush(w, n);
        }
    }
}

/* --- tasks, the caller
 * ------------------------------------------------------------------------------ */

static void
send_push(struct sim_own *w, struct sim_node *n, const struct sim_call *c)
{
    struct sim_push m;
    memset(&m, 0, sizeof(m));
    m.task = c->task;
    m.arg_count = c->arg_count;
    m.return_count = c->return_count;
    memcpy(m.return_objects, c->return_objects, sizeof(m.return_objects));
    for (uint32_t i = 0; i < c->arg_count; i++) {
        const struct own_ref *arg = c->args[i];
        own_item_of(&n->own, arg, &m.args[i]);
        m.resolved[i] = has_bytes(arg->state) && sim_chance(w->sim, 500);
        m.bare[i] = m.resolved[i] && sim_chance(w->sim, 500);
        SIM_TRACE(w->sim, "  argument o%u%s", object_of(&arg->id),
                  m.resolved[i] ? " with its value" : "");
    }
    SIM_TRACE(w->sim, "P%u -> P%u PUSH t%u, %u arguments, %u returns", n->number, c->executor,
              c->task, c->arg_count, c->return_count);
    sim_send(w->sim, n->number, c->executor, LANE_HOT, MSG_PUSH, 0, &m, sizeof(m));
}

/* The caller keeps nothing of what it has just lent: only the pending task refers to it. */
static void
drop_lent(struct sim_own *w, struct sim_node *n, const struct sim_call *c)
{
    for (uint32_t i = n->handle_count; i-- > 0;) {
        for (uint32_t k = 0; i < n->handle_count && k < c->arg_count; k++) {
            if (n->handles[i].ref == c->args[k]) {
                handle_drop(w, n, i);
            }
        }
    }
}

static void
act_submit(struct sim_own *w, struct sim_node *n)
{
    const uint32_t executor = random_other(w, n);
    if (executor == 0 || n->call_count == CALLS_MAX) {
        return;
    }
    struct sim_call *c = &n->calls[n->call_count++];
    *c = (struct sim_call){ .task = ++w->task, .executor = executor, .attempts = 1 };
    c->arg_count = random_refs(w, n, c->args, ARGS_MAX);
    c->return_count = (uint32_t)sim_below(w->sim, RETURNS_MAX + 1);
    own_task_submitted(c->args, c->arg_count);
    for (uint32_t i = 0; i < c->return_count; i++) {
        c->return_objects[i] = object_new(w, n->number);
        w->objects[c->return_objects[i]].task = c->task;
        const struct id_object id = object_id(c->return_objects[i]);
        c->returns[i] = own_return_create(&n->own, &id, 0);
        SIM_CHECK(w->sim, c->returns[i], "own_return_create failed");
        SIM_TRACE(w->sim, "  return o%u", c->return_objects[i]);
    }
    send_push(w, n, c);
    for (uint32_t i = 0; i < c->return_count; i++) {
        handle_add(w, n, c->returns[i], 0);
    }
    if (sim_chance(w->sim, w->lend_per_mille)) {
        drop_lent(w, n, c);
    }
}

static void
end_call(struct sim_node *n, struct sim_call *c)
{
    *c = n->calls[--n->call_count];
}

static void
fail_returns(struct sim_own *w, struct sim_node *n, struct sim_call *c, int32_t status)
{
    for (uint32_t i = 0; i < c->return_count && !c->cancelled; i++) {
        if (!c->returns[i]) {
            continue;
        }
        SIM_CHECK(w->sim,
                  own_return_done(&n->own, c->returns[i], OWN_GONE, 0, status, NULL, 0,
                                  node_outs(w, n)) == ST_OK,
                  "own_return_done failed");
        node_flush(w, n);
    }
}

static void
act_cancel(struct sim_own *w, struct sim_node *n)
{
    if (n->call_count > 0) {
        struct sim_call *c = &n->calls[sim_below(w->sim, n->call_count)];
        if (c->lineage != 0) {
            return; /* it runs again: whoever wants more of its results still joins */
        }
        SIM_TRACE(w->sim, "P%u cancels t%u", n->number, c->task);
        fail_returns(w, n, c, ST_TASK_CANCELLED);
        c->cancelled = true;
    }
}

void
on_executor_died(struct sim_own *w, struct sim_node *n, uint32_t dead)
{
    const uint32_t peer = node_peer(w, n, dead);
    for (uint32_t i = n->call_count; i-- > 0;) {
        struct sim_call *c = &n->calls[i];
        if (c->executor != dead) {
            continue;
        }
        const uint32_t next = random_other(w, n);
        const bool again = next && !c->cancelled && c->attempts < 3 && sim_chance(w->sim, 600);
        SIM_TRACE(w->sim, "P%u: an attempt of t%u died%s", n->number, c->task,
                  again ? ", trying again" : "");
        if (!again) {
            fail_returns(w, n, c, ST_WORKER_CRASHED);
        }
        SIM_CHECK(w->sim,
                  own_task_failed(&n->own, c->args, c->arg_count, peer, !again, node_outs(w, n)) ==
                      ST_OK,
                  "own_task_failed failed");
        node_flush(w, n);
        if (again) {
            c->executor = next;
            c->attempts++;
            send_push(w, n, c);
        } else {
            const struct sim_call ended = *c;
            end_call(n, c);
            lineage_answered(w, n, &ended);
            lineage_work(w, n);
        }
    }
}

bool
call_again(struct sim_own *w, struct sim_node *n, const struct sim_call *c)
{
    const uint32_t executor = random_other(w, n);
    if (executor == 0) {
        return false;
    }
    struct sim_call *again = &n->calls[n->call_count++];
    *again = *c;
    again->executor = executor;
    again->attempts = 1;
    own_task_submitted(again->args, again->arg_count);
    send_push(w, n, again);
    return true;
}

/* Takes over one return value; the references inside it are in the reply's frame already. */
static void
take_return(struct sim_own *w, struct sim_node *n, const struct sim_call *c, uint32_t i,
            enum own_state state, struct own_ref *const *inner, uint32_t count)
{
    const uint32_t object = c->return_objects[i];
    if (c->returns[i]->state == OWN_PENDING && has_bytes((uint8_t)state)) {
        set_inner(w, object, inner, count);
        w->objects[object].has_value = true;
    }
    if (state == OWN_STORE) {
        lineage_attach(w, n, c, c->returns[i]);
    }
    SIM_CHECK(w->sim,
              own_return_done(&n->own, c->returns[i], state, value_new(w, n, object), 0, inner,
                              count, node_outs(w, n)) == ST_OK,
              "own_return_done failed");
    node_flush(w, n);
}

static void
give_up_args(struct sim_own *w, struct sim_node *n, const struct sim_call *c, uint32_t peer,
             uint64_t kept)
{
    SIM_CHECK(w->sim,
              own_task_replied(&n->own, c->args, c->arg_count, peer, kept, node_outs(w, n)) ==
                  ST_OK,
              "own_task_replied failed");
    node_flush(w, n);
}

void
on_reply(struct sim_own *w, struct sim_node *n, uint32_t from, const struct sim_reply *m)
{
    uint32_t index = 0;
    while (index < n->call_count && n->calls[index].task != m->task) {
        index++;
    }
    SIM_CHECK(w->sim, index < n->call_count && n->calls[index].executor == from,
              "P%u: a reply for t%u, which isn't pending", n->number, m->task);
    struct sim_call c = n->calls[index];
    end_call(n, &n->calls[index]);
    lineage_begin(w, n, &c);
    const uint32_t peer = node_peer(w, n, from);
    const bool args_first = sim_chance(w->sim, 500);
    if (args_first) {
        give_up_args(w, n, &c, peer, m->kept);
    }
    struct own_frame *frame = m->token ? own_frame_open(&n->own, peer, m->token) : NULL;
    for (uint32_t i = 0; i < m->return_count; i++) {
        struct own_ref *inner[INNER_MAX];
        for (uint32_t k = 0; k < m->inner_count[i]; k++) {
            inner[k] = own_frame_add(&n->own, frame, &m->inner[i][k]);
            SIM_CHECK(w->sim, inner[k], "own_frame_add failed");
        }
        if (!c.cancelled && c.returns[i]) {
            take_return(w, n, &c, i, (enum own_state)m->state[i], inner, m->inner_count[i]);
        }
    }
    if (frame) {
        own_frame_close_reply(&n->own, frame, node_outs(w, n));
        node_flush(w, n);
    }
    if (!args_first) {
        give_up_args(w, n, &c, peer, m->kept);
    }
    lineage_answered(w, n, &c);
    lineage_work(w, n);
}

/* --- tasks, the executor
 * ------------------------------------------------------------------------------- */

/* The value of an argument, without the reference: what is inside stands in the frame. */
static void
open_bare(struct sim_own *w, struct sim_node *n, const struct sim_run *run, uint32_t object,
          uint32_t until)
{
    const struct sim_object *o = &w->objects[object];
    excuse_if_uncovered(w, n, object);
    for (uint32_t i = 0; o->has_value && i < o->inner_count; i++) {
        const struct own_item item = item_of_object(w, o->inner[i]);
        struct own_ref *ref = own_frame_add(&n->own, run->frame, &item);
        SIM_CHECK(w->sim, ref, "own_frame_add failed");
        if (o->owner != run->caller) {
            own_register(&n->own, ref, node_outs(w, n));
            node_flush(w, n);
        }
        if (sim_chance(w->sim, 700)) {
            (void)own_borrow(&n->own, run->frame, NULL, &item, node_outs(w, n));
            SIM_TRACE(w->sim, "P%u takes o%u out of the value of o%u", n->number, o->inner[i],
                      object);
            handle_add(w, n, ref, until);
            node_flush(w, n);
        }
    }
}

void
on_push(struct sim_own *w, struct sim_node *n, uint32_t from, const struct sim_push *m)
{
    SIM_CHECK(w->sim, n->run_count < RUNS_MAX, "too many tasks run on P%u", n->number);
    struct sim_run run = { .task = m->task, .caller = from, .return_count = m->return_count };
    run.serial = ++w->run;
    memcpy(run.return_objects, m->return_objects, sizeof(run.return_objects));
    struct own_ref *refs[ARGS_MAX] = { NULL };
    if (m->arg_count > 0) {
        run.frame = own_frame_open(&n->own, node_peer(w, n, from), 0);
    }
    for (uint32_t i = 0; i < m->arg_count; i++) {
        if (!m->bare[i]) {
            refs[i] = own_frame_add(&n->own, run.frame, &m->args[i]);
            SIM_CHECK(w->sim, refs[i], "own_frame_add failed");
        }
    }
    SIM_TRACE(w->sim, "P%u starts t%u", n->number, m->task);
    n->runs[n->run_count++] = run;
    for (uint32_t i = 0; i < m->arg_count; i++) {
        const uint32_t until = sim_chance(w->sim, w->keep_per_mille) ? 0 : run.serial;
        if (m->bare[i]) {
            open_bare(w, n, &run, object_of(&m->args[i].object), until);
            continue;
        }
        if (sim_chance(w->sim, 600)) {
            struct own_ref *ref =
                own_borrow(&n->own, run.frame, NULL, &m->args[i], node_outs(w, n));
            SIM_CHECK(w->sim, ref == refs[i], "own_borrow found another entry");
            handle_add(w, n, ref, until);
            node_flush(w, n);
        }
        if (m->resolved[i]) {
            act_deserialise(w, n, refs[i], until);
        }
    }
}

static void
drop_run_handles(struct sim_own *w, struct sim_node *n, uint32_t serial)
{
    for (uint32_t i = n->handle_count; i-- > 0;) {
        if (n->handles[i].run == serial) {
            handle_drop(w, n, i);
        }
    }
}

/* References to put into a return value. Only such as are older than the return itself: a task that
 * returns a reference to its own result (or two that return each other's) makes a cycle, which no
 * counting frees. */
static uint32_t
older_refs(struct sim_own *w, const struct sim_node *n, struct own_ref **refs, uint32_t object)
{
    const uint32_t count = random_refs(w, n, refs, INNER_MAX);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (object_of(&refs[i]->id) < object) {
            refs[kept++] = refs[i];
        }
    }
    return kept;
}

bool
run_is_blocked(const struct sim_node *n, const struct sim_run *run)
{
    for (uint32_t i = 0; i < n->want_count; i++) {
        if (n->wants[i].run == run->serial) {
            return true;
        }
    }
    return false;
}

void
act_finish_run(struct sim_own *w, struct sim_node *n, uint32_t index)
{
    const struct sim_run run = n->runs[index];
    n->runs[index] = n->runs[--n->run_count];
    const bool answer = !(n->known_dead >> run.caller & 1);
    struct sim_reply m;
    memset(&m, 0, sizeof(m));
    m.task = run.task;
    m.return_count = run.return_count;
    struct own_ref *pinned[RETURNS_MAX * INNER_MAX] = { NULL };
    uint32_t count = 0;
    SIM_TRACE(w->sim, "P%u ends t%u", n->number, run.task);
    for (uint32_t i = 0; i < run.return_count && answer; i++) {
        m.state[i] = sim_chance(w->sim, 500)   ? OWN_STORE
                     : sim_chance(w->sim, 700) ? OWN_INLINE
                                               : OWN_ERROR;
        m.inner_count[i] =
            has_bytes(m.state[i]) ? older_refs(w, n, &pinned[count], run.return_objects[i]) : 0;
        for (uint32_t k = 0; k < m.inner_count[i]; k++) {
            own_item_of(&n->own, pinned[count++], &m.inner[i][k]);
        }
    }
    if (answer && count > 0) {
        SIM_CHECK(w->sim,
                  own_reply_pin(&n->own, node_peer(w, n, run.caller), pinned, count, &m.token) ==
                      ST_OK,
                  "own_reply_pin failed");
    }
    drop_run_handles(w, n, run.serial);
    if (run.frame) {
        own_frame_close(&n->own, run.frame, &m.kept, node_outs(w, n));
        node_flush(w, n);
    }
    if (answer) {
        SIM_TRACE(w->sim, "P%u -> P%u REPLY t%u kept %llx token %llx, %u references", n->number,
                  run.caller, run.task, (unsigned long long)m.kept, (unsigned long long)m.token,
                  count);
        sim_send(w->sim, n->number, run.caller, LANE_HOT, MSG_REPLY, 0, &m, sizeof(m));
    }
}

/* --- objects
 * -------------------------------------------------------------------------------------------- */

static void
act_put(struct sim_own *w, struct sim_node *n)
{
    struct own_ref *inner[INNER_MAX];
    const uint32_t count = random_refs(w, n, inner, INNER_MAX);
    const uint32_t object = object_new(w, n->number);
    const struct id_object id = object_id(object);
    SIM_TRACE(w->sim, "P%u puts o%u", n->number, object);
    struct own_ref *ref =
        own_put(&n->own, &id, OWN_INLINE, value_new(w, n, object), false, inner, count);
    SIM_CHECK(w->sim, ref, "own_put failed");
    set_inner(w, object, inner, count);
    w->objects[object].has_value = true;
    handle_add(w, n, ref, 0);
}

static void
wait_for(struct sim_own *w, struct sim_node *n, struct own_ref *ref, uint32_t run, bool transfer)
{
    n->wants[n->want_count++] = (struct sim_want){
        .id = ++w->want, .ref = ref, .object = object_of(&ref->id), .run = run, .transfer = transfer
    };
    ref->waiters = w->want;
}

static void
act_put_for(struct sim_own *w, struct sim_node *n)
{
    const uint32_t owner = random_other(w, n);
    if (owner == 0 || n->want_count == WANTS_MAX) {
        return;
    }
    struct own_ref *inner[INNER_MAX];
    const uint32_t count = random_refs(w, n, inner, INNER_MAX);
    const uint32_t object = object_new(w, owner);
    const struct id_object id = object_id(object);
    SIM_TRACE(w->sim, "P%u puts o%u for P%u", n->number, object, owner);
    set_inner(w, object, inner, count);
    struct own_ref *ref;
    const int status = own_put_for(&n->own, &id, node_peer(w, n, owner), OWN_INLINE,
                                   value_new(w, n, object), inner, count, &ref, node_outs(w, n));
    SIM_CHECK(w->sim, status == ST_OK, "own_put_for failed: %d", status);
    wait_for(w, n, ref, 0, true);
    node_flush(w, n);
}

/* The running task that waits for `ref`, rather one that was given it; 0: somebody else does. A
 * task waits only for tasks that were submitted before it, so there is no circle. */
static uint32_t
who_waits(struct sim_own *w, const struct sim_node *n, const struct own_ref *ref)
{
    if (n->run_count == 0) {
        return 0;
    }
    const struct sim_run *run = &n->runs[sim_below(w->sim, n->run_count)];
    for (uint32_t i = 0; i < n->run_count; i++) {
        for (uint32_t k = 0; k < n->handle_count; k++) {
            if (n->handles[k].ref == ref && n->handles[k].run == n->runs[i].serial) {
                run = &n->runs[i];
            }
        }
    }
    return w->objects[object_of(&ref->id)].task < run->task ? run->serial : 0;
}

/* What the owner had told of it isn't there: asks again. */
static void
stale_hint(struct sim_own *w, struct sim_node *n, struct own_ref *ref)
{
    SIM_TRACE(w->sim, "P%u finds its hint of o%u stale", n->number, object_of(&ref->id));
    const uint64_t value = ref->value;
    own_forget_value(ref);
    value_end(w, n, value);
    own_want(&n->own, ref, node_outs(w, n));
    node_flush(w, n);
}

static void
act_want(struct sim_own *w, struct sim_node *n)
{
    if (n->handle_count == 0 || n->want_count == WANTS_MAX) {
        return;
    }
    struct own_ref *ref = random_ref(w, n, OWN_REG_NONE);
    if (ref->waiters) {
        return;
    }
    if (ref->state != OWN_PENDING) {
        if (ref->kind == OWN_BORROWED && ref->state == OWN_STORE && sim_chance(w->sim, 300)) {
            stale_hint(w, n, ref);
        } else if (has_bytes(ref->state)) {
            own_local_add(ref); /* the value may go away while it is read; the object may not */
            act_deserialise(w, n, ref, 0);
            own_local_drop(&n->own, ref, node_outs(w, n));
            node_flush(w, n);
        }
        return;
    }
    SIM_TRACE(w->sim, "P%u waits for o%u", n->number, object_of(&ref->id));
    own_local_add(ref);
    const uint32_t blocked = who_waits(w, n, ref);
    wait_for(w, n, ref, blocked, false);
    own_want(&n->own, ref, node_outs(w, n));
    node_flush(w, n);
}

static void
act_free(struct sim_own *w, struct sim_node *n)
{
    if (!w->frees || n->handle_count == 0) {
        return;
    }
    const struct sim_handle h = n->handles[sim_below(w->sim, n->handle_count)];
    SIM_TRACE(w->sim, "P%u frees o%u explicitly", n->number, h.object);
    w->objects[h.object].freed = true;
    excuse_inner(w, h.object);
    SIM_CHECK(w->sim, own_free(&n->own, h.ref, node_outs(w, n)) == ST_OK, "own_free failed");
    node_flush(w, n);
}

static void
act_copy(struct sim_own *w, struct sim_node *n)
{
    if (n->handle_count > 0 && n->handle_count < HANDLES_MAX) {
        struct own_ref *ref = n->handles[sim_below(w->sim, n->handle_count)].ref;
        const bool capture = sim_chance(w->sim, 100);
        if (capture) {
            own_capture(ref);
        } else if (ref->local > 0) {
            own_local_add(ref);
        } else {
            return; /* only a capture holds it */
        }
        handle_add(w, n, ref, 0);
        n->handles[n->handle_count - 1].captured = capture;
    }
}

static void
act_kill(struct sim_own *w, struct sim_node *n)
{
    uint32_t alive = 0;
    for (uint32_t i = 1; i <= w->node_count; i++) {
        alive += w->nodes[i] != NULL;
    }
    if (w->kills_left > 0 && alive > 2) {
        w->kills_left--;
        sim_proc_kill(w->sim, n->number);
    } else if (w->node_count < NODES_MAX && alive < 6) {
        (void)node_add(w);
    }
}

void
act_any(struct sim *sim, void *world)
{
    struct sim_own *w = world;
    struct sim_node *n = random_node(w);
    const uint64_t dice = sim_below(sim, 100);
    if (dice < 24) {
        act_submit(w, n);
    } else if (dice < 36) {
        act_put(w, n);
    } else if (dice < 52) {
        const uint64_t drops = 1 + sim_below(sim, w->drops_max);
        for (uint64_t i = 0; i < drops && n->handle_count > 0; i++) {
            handle_drop(w, n, (uint32_t)sim_below(sim, n->handle_count));
        }
    } else if (dice < 66) {
        act_want(w, n);
    } else if (dice < 86) {
        const uint32_t i = n->run_count ? (uint32_t)sim_below(sim, n->run_count) : 0;
        if (n->run_count > 0 && !run_is_blocked(n, &n->runs[i])) {
            act_finish_run(w, n, i);
        }
    } else if (dice < 90) {
        act_copy(w, n);
    } else if (dice < 92) {
        act_put_for(w, n);
    } else if (dice < 93) {
        act_free(w, n);
    } else if (dice < 94) {
        for (uint32_t i = 0; w->losses && i < 4; i++) {
            act_lose(w, n);
        }
    } else if (dice < 95) {
        act_cancel(w, n);
    } else if (dice < 97) {
        if (w->stops) {
            sim_proc_stop(sim, n->number, sim_below(sim, (w->lax ? 2000 : 60) * SIM_MS));
        }
    } else {
        act_kill(w, n);
    }
}
