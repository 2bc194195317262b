/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The actor world: callers, actors that restart, ray-gcs with its store, one raylet. The actor
 * client (wk_caller.c) and the control service (src/gcs) are the real ones; here are the callers'
 * engines, chaos, and the invariants of docs/protocols/actors.md.
 */
#include "sim_actor.h"

#include <string.h>

#define RULE_NAME(name, text) #name,
static const char *const mutations[] = {
    WK_CALLER_RULES(RULE_NAME)
    /* of the engines, in the order of enum sa_rule */
    "current",
    "announced",
    "watch_again",
    "ask_again",
    "tell_again",
    "start",
    "stored",
    "untold",
    "kill_again",
    "watch_place",
    NULL,
};

/* --- names ------------------------------------------------------------------------------------
 */

struct id_actor
sa_actor_id(uint32_t actor)
{
    struct id_actor id = { .b = { (uint8_t)(actor + 1) } };
    id.b[12] = 1; /* the job */
    return id;
}

uint32_t
sa_actor_of(const ProtobufCBinaryData *actor_id)
{
    ASSERT(actor_id->len == sizeof(struct id_actor));
    return actor_id->data[0] - 1u;
}

struct id_worker
sa_worker_id(uint32_t proc)
{
    struct id_worker id = { .b = { (uint8_t)(proc & 255), (uint8_t)(proc >> 8), 1 } };
    return id;
}

uint32_t
sa_proc_of(const ProtobufCBinaryData *worker_id)
{
    return worker_id->len ? worker_id->data[0] + 256u * worker_id->data[1] : 0;
}

struct sa_proc *
sa_proc_new(struct sa_world *w, enum sa_role role, const char *text)
{
    struct sa_proc *p = mem_alloc(sim_mem(w->sim), sizeof(*p));
    memset(p, 0, sizeof(*p));
    p->role = role;
    p->number = sim_proc_add(w->sim, text);
    w->procs[p->number] = p;
    return p;
}

/* --- callers ----------------------------------------------------------------------------------
 */

static void
answer(struct sa_world *w, struct sa_call *call)
{
    SIM_CHECK(w->sim, !call->answered, "call %u is answered twice", call->index);
    call->answered = true;
}

static void
watch(struct sa_world *w, struct sa_proc *p, uint32_t actor)
{
    struct id_actor id = sa_actor_id(actor);
    Ray__Gcs__WatchActor m = RAY__GCS__WATCH_ACTOR__INIT;
    m.actor_id = sa_binary(id.b, sizeof(id.b));
    p->views[actor].watching = true;
    sa_say(w, p, GCS_WATCH_ACTOR, 0, &m);
}

static void
send_call(struct sa_world *w, struct sa_proc *p, struct sa_call *call, uint32_t worker)
{
    SIM_CHECK(w->sim, w->push_count < SA_PUSHES, "calls are sent again and again");
    SIM_CHECK(w->sim, !call->answered, "call %u is sent though it was answered", call->index);
    call->push = ++w->push_count;
    w->pushes[call->push] =
        (struct sa_push){ .call = call->index, .worker = worker, .word = SA_POSTED };
    SIM_TRACE(w->sim, "P%u sends call %u (number %llu of actor %u) to P%u", p->number, call->index,
              (unsigned long long)call->call.sequence, call->actor, worker);
    if (!p->broken[worker]) {
        sim_send(w->sim, p->number, worker, 0, SA_MSG_PUSH, call->push, NULL, 0);
    }
}

static void
fail_call(struct sa_world *w, struct sa_call *call, uint64_t verdict)
{
    SIM_TRACE(w->sim, "call %u fails: %llu", call->index, (unsigned long long)verdict);
    answer(w, call);
    if (verdict == WK_CALL_ACTOR_DEAD) {
        const int state = sa_stored_state(w, call->actor);
        const bool never = state == -1 && !sim_proc_alive(w->sim, w->actors[call->actor].creator);
        SIM_CHECK(w->sim, state == RAY__GCS__ACTOR_STATE__DEAD || never,
                  "call %u fails for the death of actor %u, which isn't dead", call->index,
                  call->actor);
    } else {
        SIM_CHECK(w->sim, call->runs > 0, "call %u, which never began, fails", call->index);
        SIM_CHECK(w->sim, call->call.retries_left == 0, "call %u fails with retries left",
                  call->index);
    }
}

static void
client_step(struct sa_world *w, struct sa_proc *p, uint32_t actor, uint16_t kind, uint64_t peer,
            struct sa_call *subject, const void *msg)
{
    struct step_out v[4];
    struct step_in in = { .kind = kind, .now_ns = sim_now(w->sim), .peer = peer, .msg = msg };
    const struct wk_call *name = subject ? &subject->call : NULL;
    memcpy(&in.payload, &name, sizeof(name));
    struct step_outs outs;
    do {
        outs = (struct step_outs){ .v = v,
                                   .arena = &w->arena,
                                   .capacity = 1 + (uint32_t)sim_below(w->sim, COUNT_OF(v)) };
        const int status = wk_caller_step(&p->views[actor].client, &in, &outs);
        SIM_CHECK(w->sim, status == ST_OK, "the client refuses %u", kind);
        for (uint32_t i = 0; i < outs.count; i++) {
            struct wk_call *call;
            memcpy(&call, &v[i].payload, sizeof(call));
            if (v[i].kind == WK_CALLER_OUT_ASK) {
                watch(w, p, actor);
            } else if (v[i].kind == WK_CALLER_OUT_SEND) {
                send_call(w, p, CONTAINER_OF(call, struct sa_call, call), (uint32_t)v[i].peer);
            } else {
                fail_call(w, CONTAINER_OF(call, struct sa_call, call), v[i].peer);
            }
        }
        in.kind = STEP_CONTINUE;
    } while (outs.more);
}

static void
say_kill(struct sa_world *w, struct sa_proc *p, uint32_t actor, bool for_good)
{
    struct id_actor id = sa_actor_id(actor);
    char reason[] = "ray.kill";
    Ray__Gcs__KillActor m = RAY__GCS__KILL_ACTOR__INIT;
    m.actor_id = sa_binary(id.b, sizeof(id.b));
    m.no_restart = for_good;
    m.reason = reason;
    SIM_TRACE(w->sim, "P%u kills actor %u%s", p->number, actor, for_good ? " for good" : "");
    sa_request(w, p, GCS_KILL_ACTOR, &m);
}

static void
on_update(struct sa_world *w, struct sa_proc *p, const Ray__Gcs__ActorUpdate *m)
{
    const uint32_t actor = sa_actor_of(&m->actor_id);
    struct sa_view *view = &p->views[actor];
    const uint32_t place = sa_proc_of(&m->worker_id);
    const struct wk_caller_in_alive alive = { .incarnation = m->incarnation };
    SIM_TRACE(w->sim, "P%u hears that actor %u is in state %d, incarnation %llu, P%u", p->number,
              actor, (int)m->state, (unsigned long long)m->incarnation, place);
    if (view->client.state == ACTOR_DEAD) {
        return;
    }
    if (view->client.held && m->state != RAY__GCS__ACTOR_STATE__DEAD &&
        !(sim_mutations(w->sim) & SA_RULE_KILL_AGAIN)) {
        say_kill(w, p, actor, true); /* it had not been created when this process killed it */
    }
    if (w->actors[actor].creator != p->number) {
        view->client.max_pending = m->max_pending_calls;
        if (m->unordered && !view->client.unordered) {
            wk_caller_unorder(&view->client);
        }
    }
    switch (m->state) {
    case RAY__GCS__ACTOR_STATE__ALIVE: {
        const bool dead = place == 0 || p->saw_dead[place];
        const bool as_new = (sim_mutations(w->sim) & SA_RULE_ANNOUNCED) != 0;
        if (place != 0 && !(sim_mutations(w->sim) & SA_RULE_WATCH_PLACE)) {
            sim_watch(w->sim, p->number, place);
        }
        client_step(w, p, actor, WK_CALLER_IN_ALIVE, dead && !as_new ? 0 : place, NULL, &alive);
        return;
    }
    case RAY__GCS__ACTOR_STATE__RESTARTING:
        client_step(w, p, actor, WK_CALLER_IN_RESTARTING, 0, NULL, NULL);
        return;
    case RAY__GCS__ACTOR_STATE__DEAD:
        client_step(w, p, actor, WK_CALLER_IN_DEAD, 0, NULL, NULL);
        return;
    case RAY__GCS__ACTOR_STATE__DEPENDENCIES_UNREADY:
    case RAY__GCS__ACTOR_STATE__PENDING_CREATION:
    case _RAY__GCS__ACTOR_STATE_IS_INT_SIZE:
        return;
    }
}

static void
on_done(struct sa_world *w, struct sa_proc *p, uint32_t number)
{
    struct sa_push *push = &w->pushes[number];
    struct sa_call *call = &w->calls[push->call];
    const bool current = call->push == number && !push->settled;
    if (!current && !(sim_mutations(w->sim) & SA_RULE_CURRENT)) {
        return; /* of an attempt that is given up */
    }
    push->settled = true;
    SIM_TRACE(w->sim, "P%u has the reply of call %u", p->number, call->index);
    answer(w, call);
    SIM_CHECK(w->sim, call->runs > 0, "a reply of a call that never began");
    client_step(w, p, call->actor, WK_CALLER_IN_ANSWERED, 0, call, NULL);
}

static void
caller_deliver(struct sa_world *w, struct sa_proc *p, uint32_t from, uint16_t kind,
               uint64_t payload, const void *msg)
{
    if (kind == SA_MSG_DONE) {
        on_done(w, p, (uint32_t)payload);
    } else if (from != p->gcs) {
        return; /* it is dead */
    } else if (kind == GCS_DONE) {
        sa_answered(w, p, payload);
    } else if (kind == GCS_ACTOR_UPDATE) {
        Ray__Gcs__ActorUpdate *m = sa_unpack(w, &ray__gcs__actor_update__descriptor, msg);
        on_update(w, p, m);
        protobuf_c_message_free_unpacked(&m->base, NULL);
    }
}

static void
caller_connect(struct sa_world *w, struct sa_proc *p)
{
    if (!sa_connect(w, p)) {
        return;
    }
    for (uint32_t i = 0; i < SA_ACTORS; i++) {
        if (p->views[i].watching && p->views[i].client.state != ACTOR_DEAD &&
            !(sim_mutations(w->sim) & SA_RULE_WATCH_AGAIN)) {
            watch(w, p, i);
        }
    }
}

/* What is in flight with a process, read from its words: after its death, or to be taken back. */
static void
look(struct sa_world *w, struct sa_view *view, uint32_t worker, bool take_back)
{
    if (!wk_caller_is_with(&view->client, worker)) {
        return;
    }
    LIST_FOR (l, &view->client.sent) {
        struct wk_call *call = LIST_ENTRY(l, struct wk_call, link);
        struct sa_push *push = &w->pushes[CONTAINER_OF(call, struct sa_call, call)->push];
        call->begun = push->word == SA_STARTED;
        push->word = take_back && push->word == SA_POSTED ? SA_RECALLED : push->word;
        push->settled = true;
    }
}

static void
caller_saw_death(struct sa_world *w, struct sa_proc *p, uint32_t dead)
{
    const struct sa_proc *d = w->procs[dead];
    if (d->role == SA_GCS) {
        if (p->gcs == dead || p->gcs == 0) {
            caller_connect(w, p);
        }
    } else if (d->role == SA_WORKER) {
        look(w, &p->views[d->actor], dead, false);
        client_step(w, p, d->actor, WK_CALLER_IN_DIED, dead, NULL, NULL);
        LIST_FOR (l, &p->views[d->actor].client.sent) {
            struct wk_call *call = LIST_ENTRY(l, struct wk_call, link);
            const struct sa_call *c = CONTAINER_OF(call, struct sa_call, call);
            SIM_CHECK(w->sim, w->pushes[c->push].worker != dead,
                      "call %u is in flight with P%u, whose death was acted on", c->index, dead);
        }
    }
}

static void
repair(struct sa_world *w, struct sa_proc *p)
{
    for (uint32_t i = 1; i <= sim_proc_count(w->sim); i++) {
        if (p->broken[i]) {
            p->broken[i] = false;
            const uint32_t actor = w->procs[i]->actor;
            if (!p->saw_dead[i]) {
                look(w, &p->views[actor], i, true);
                client_step(w, p, actor, WK_CALLER_IN_BROKEN, i, NULL, NULL);
            }
        }
    }
}

/* --- checks -----------------------------------------------------------------------------------
 */

void
sa_begins(struct sa_world *w, struct sa_proc *p, uint32_t number)
{
    struct sa_call *call = &w->calls[w->pushes[number].call];
    SIM_TRACE(w->sim, "P%u begins call %u of P%u", p->number, call->index, call->caller);
    call->runs++;
    SIM_CHECK(w->sim, w->pushes[number].worker == p->number, "a call reaches another process");
    SIM_CHECK(w->sim, call->retries < 0 || call->runs <= 1 + (uint32_t)call->retries,
              "call %u begins %u times with %d retries", call->index, call->runs, call->retries);
    call->last_in = p->number;
    if (!sim_proc_alive(w->sim, call->caller)) {
        return;
    }
    SIM_CHECK(w->sim, !call->held, "call %u begins after its caller killed the actor", call->index);
    SIM_CHECK(w->sim, !call->answered, "call %u begins after it was answered", call->index);
    for (uint32_t i = call->index - 1; i > 0 && !w->actors[call->actor].unordered; i--) {
        const struct sa_call *before = &w->calls[i];
        SIM_CHECK(w->sim,
                  before->caller != call->caller || before->actor != call->actor ||
                      before->answered || before->last_in == p->number,
                  "call %u begins before call %u, which was made first", call->index, i);
    }
}

/* The last handle is gone: ownership tells the creator. */
static void
look_for_handles(struct sa_world *w)
{
    for (uint32_t i = 0; i < SA_ACTORS; i++) {
        struct sa_actor *a = &w->actors[i];
        bool needed =
            !a->created || a->out_of_scope || a->late || !sim_proc_alive(w->sim, a->creator);
        for (uint32_t k = 1; k <= sim_proc_count(w->sim) && !needed; k++) {
            const struct sa_proc *p = w->procs[k];
            needed = p->role == SA_CALLER && sim_proc_alive(w->sim, k) &&
                     (p->views[i].handle || p->views[i].client.pending > 0);
        }
        if (!needed) {
            struct id_actor id = sa_actor_id(i);
            Ray__Gcs__ActorOutOfScope m = RAY__GCS__ACTOR_OUT_OF_SCOPE__INIT;
            m.actor_id = sa_binary(id.b, sizeof(id.b));
            a->out_of_scope = true;
            SIM_TRACE(w->sim, "nobody refers to actor %u", i);
            sa_request(w, w->procs[a->creator], GCS_ACTOR_OUT_OF_SCOPE, &m);
        }
    }
}

static void
check(struct sim *sim, void *world)
{
    (void)sim;
    look_for_handles(world);
}

static void
quiet(struct sim *sim, void *world)
{
    struct sa_world *w = world;
    for (uint32_t i = 1; i <= w->call_count; i++) {
        const struct sa_call *call = &w->calls[i];
        SIM_CHECK(sim, call->answered || !sim_proc_alive(sim, call->caller),
                  "call %u of P%u is never answered (place %u)", i, call->caller, call->call.place);
    }
    for (uint32_t i = 1; i <= sim_proc_count(sim); i++) {
        const struct sa_proc *p = w->procs[i];
        SIM_CHECK(sim, p->role != SA_WORKER || !sim_proc_alive(sim, i),
                  "P%u, a process of actor %u, is left", i, p->actor);
        for (uint32_t k = 0; k < SA_ACTORS && p->role == SA_CALLER && sim_proc_alive(sim, i); k++) {
            const struct wk_caller *c = &p->views[k].client;
            SIM_CHECK(sim, c->pending == 0 && c->sent_count == 0, "P%u has calls that are over", i);
            SIM_CHECK(sim, !p->views[k].watching || c->state == ACTOR_DEAD,
                      "P%u doesn't know that actor %u is dead", i, k);
        }
    }
    for (uint32_t i = 0; i < SA_ACTORS; i++) {
        SIM_CHECK(sim, w->actors[i].record.state == SA_ABSENT, "the raylet still has actor %u", i);
        const int state = sa_stored_state(w, i);
        SIM_CHECK(sim, state == -1 || state == RAY__GCS__ACTOR_STATE__DEAD,
                  "actor %u is stored in state %d", i, state);
    }
    for (uint32_t i = 1; i <= sim_proc_count(sim); i++) {
        SIM_CHECK(sim, !sim_proc_alive(sim, i) || w->procs[i]->frame_count == 0,
                  "P%u has requests without an answer", i);
    }
}

/* --- chaos ------------------------------------------------------------------------------------
 */

/* A live process of that role; NULL when there is none. */
static struct sa_proc *
random_proc(struct sa_world *w, enum sa_role role)
{
    const uint32_t n = sim_proc_count(w->sim);
    const uint32_t start = (uint32_t)sim_below(w->sim, n);
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t k = 1 + (start + i) % n;
        if (w->procs[k]->role == role && sim_proc_alive(w->sim, k)) {
            return w->procs[k];
        }
    }
    return NULL;
}

static void
add_caller(struct sa_world *w)
{
    struct sa_proc *p = sa_proc_new(w, SA_CALLER, "caller");
    for (uint32_t i = 0; i < SA_ACTORS; i++) {
        wk_caller_init(&p->views[i].client, SA_WINDOW);
        p->views[i].client.rules_off =
            sim_mutations(w->sim) & ((UINT32_C(1) << WK_CALLER_RULE_COUNT) - 1);
    }
    caller_connect(w, p);
}

/* With the constructor's arguments, or without as long as they are late. */
static void
ask_for_actor(struct sa_world *w, struct sa_proc *p, uint32_t actor)
{
    const struct sa_actor *a = &w->actors[actor];
    struct id_actor id = sa_actor_id(actor);
    struct id_worker owner = sa_worker_id(p->number);
    struct id_job job = { .b = { 1 } };
    uint8_t spec[4] = { 1 };
    Ray__Gcs__CreateActor m = RAY__GCS__CREATE_ACTOR__INIT;
    m.actor_id = sa_binary(id.b, sizeof(id.b));
    m.job_id = sa_binary(job.b, sizeof(job.b));
    m.owner_worker_id = sa_binary(owner.b, sizeof(owner.b));
    m.max_restarts = a->max_restarts;
    m.unordered = a->unordered;
    m.max_pending_calls = a->max_pending;
    m.register_only = a->late;
    if (!a->late) {
        m.spec = sa_binary(spec, sizeof(spec));
    }
    sa_request(w, p, GCS_CREATE_ACTOR, &m);
}

/* What a constructor waits for has come. */
static void
complete_actor(struct sa_world *w, uint32_t actor)
{
    struct sa_actor *a = &w->actors[actor];
    if (a->late && sim_proc_alive(w->sim, a->creator)) {
        a->late = false;
        SIM_TRACE(w->sim, "P%u has what actor %u waits for", a->creator, actor);
        if (w->procs[a->creator]->views[actor].client.state != ACTOR_DEAD) {
            ask_for_actor(w, w->procs[a->creator], actor);
        }
    }
}

static void
create_actor(struct sa_world *w, struct sa_proc *p, uint32_t actor)
{
    static const int64_t restarts[] = { 0, 1, 3, -1 };
    struct sa_actor *a = &w->actors[actor];
    *a = (struct sa_actor){
        .created = true,
        .creator = p->number,
        .unordered = sim_chance(w->sim, 250),
        .fails = sim_chance(w->sim, 50),
        .max_restarts = w->storm ? -1 : restarts[sim_below(w->sim, COUNT_OF(restarts))],
        .max_pending = sim_chance(w->sim, 200) ? 4 : -1,
    };
    a->late = w->late && sim_chance(w->sim, 700);
    SIM_TRACE(w->sim, "P%u creates actor %u, %lld restarts%s%s", p->number, actor,
              (long long)a->max_restarts, a->unordered ? ", unordered" : "",
              a->late ? ", without its arguments" : "");
    ask_for_actor(w, p, actor);
    p->views[actor].handle = true;
    p->views[actor].client.max_pending = a->max_pending;
    p->views[actor].client.unordered = a->unordered;
    watch(w, p, actor);
}

static void
submit(struct sa_world *w, struct sa_proc *p, uint32_t actor)
{
    static const int32_t retries[] = { 0, 0, 1, 2, -1 };
    struct sa_view *view = &p->views[actor];
    if (w->call_count >= SA_CALLS || !wk_caller_admits(&view->client)) {
        return;
    }
    struct sa_call *call = &w->calls[++w->call_count];
    *call = (struct sa_call){
        .index = w->call_count,
        .caller = p->number,
        .actor = actor,
        .held = view->client.held,
        .retries = retries[sim_below(w->sim, COUNT_OF(retries))],
    };
    list_init(&call->call.link);
    const struct wk_caller_in_submit msg = { .retries = call->retries,
                                             .waits = sim_chance(w->sim, 150) };
    SIM_TRACE(w->sim, "P%u submits call %u of actor %u, %d retries%s", p->number, call->index,
              actor, call->retries, msg.waits ? ", waits for arguments" : "");
    client_step(w, p, actor, WK_CALLER_IN_SUBMIT, 0, call, &msg);
}

/* Arguments have come: of one call, or of all. */
static void
arguments_come(struct sa_world *w, bool all)
{
    const uint32_t start = w->call_count ? (uint32_t)sim_below(w->sim, w->call_count) : 0;
    for (uint32_t i = 0; i < w->call_count; i++) {
        struct sa_call *call = &w->calls[1 + (start + i) % w->call_count];
        if (call->call.waits && !call->answered && sim_proc_alive(w->sim, call->caller)) {
            client_step(w, w->procs[call->caller], call->actor, WK_CALLER_IN_READY, 0, call, NULL);
            if (!all) {
                return;
            }
        }
    }
}

static void
kill_actor(struct sa_world *w, struct sa_proc *p, uint32_t actor)
{
    const bool for_good = sim_chance(w->sim, 500);
    say_kill(w, p, actor, for_good);
    if (for_good) {
        client_step(w, p, actor, WK_CALLER_IN_HOLD, 0, NULL, NULL);
    }
}

/* Something that a caller does with one of its handles. */
static void
use_handle(struct sa_world *w, struct sa_proc *p, uint32_t actor)
{
    const uint64_t what = sim_below(w->sim, 100);
    if (what < 75) {
        for (uint64_t n = 1 + sim_below(w->sim, 5); n > 0; n--) {
            submit(w, p, actor);
        }
    } else if (what < 90) {
        struct sa_proc *other = random_proc(w, SA_CALLER);
        if (!other->views[actor].handle) {
            SIM_TRACE(w->sim, "P%u gets a handle of actor %u", other->number, actor);
            other->views[actor].handle = true;
            if (!other->views[actor].watching) {
                watch(w, other, actor);
            }
        }
    } else if (what < 96) {
        SIM_TRACE(w->sim, "P%u drops its handle of actor %u", p->number, actor);
        p->views[actor].handle = false;
    } else {
        kill_actor(w, p, actor);
    }
}

static void
fault(struct sa_world *w)
{
    static const enum sa_role roles[] = { SA_WORKER, SA_WORKER, SA_WORKER, SA_CALLER, SA_GCS };
    struct sa_proc *p = random_proc(w, roles[sim_below(w->sim, COUNT_OF(roles))]);
    const uint64_t what = sim_below(w->sim, 3);
    if (!p || (p->role == SA_GCS && !w->gcs_dies) || sim_proc_count(w->sim) >= SIM_PROCS_MAX - 16) {
        return;
    }
    struct sa_proc *other = random_proc(w, sim_chance(w->sim, 800) ? SA_CALLER : SA_NODE);
    if (what == 0 && w->kills) {
        sim_proc_kill(w->sim, p->number);
    } else if (what == 1 && w->breaks && p->role != SA_CALLER && other &&
               (other->role == SA_CALLER || p->role == SA_GCS)) {
        sim_break(w->sim, p->number, other->number, 0);
    } else if (what == 2) {
        sim_proc_stop(w->sim, p->number, sim_below(w->sim, 20 * SIM_MS));
    }
}

static void
act(struct sim *sim, void *world)
{
    struct sa_world *w = world;
    struct sa_proc *p = random_proc(w, SA_CALLER);
    uint32_t callers = 0;
    for (uint32_t i = 1; i <= sim_proc_count(sim); i++) {
        callers += w->procs[i]->role == SA_CALLER && sim_proc_alive(sim, i);
    }
    if (!p || (callers < SA_CALLERS && sim_chance(sim, 50))) {
        add_caller(w);
        return;
    }
    const uint32_t actor = (uint32_t)sim_below(sim, SA_ACTORS);
    const uint64_t what = sim_below(sim, 100);
    if (!w->actors[actor].created) {
        create_actor(w, p, actor);
    } else if (what < (w->storm ? 45 : 20)) {
        fault(w);
    } else if (what < (w->storm ? 50 : 30)) {
        arguments_come(w, false);
        complete_actor(w, actor);
    } else if (p->views[actor].handle) {
        use_handle(w, p, actor);
    }
}

static bool
wind_down(struct sim *sim, void *world)
{
    struct sa_world *w = world;
    if (w->wound_down == 0) {
        arguments_come(w, true);
        for (uint32_t k = 0; k < SA_ACTORS; k++) {
            complete_actor(w, k);
        }
    } else if (w->wound_down == 1) {
        for (uint32_t i = 1; i <= sim_proc_count(sim); i++) {
            for (uint32_t k = 0; k < SA_ACTORS; k++) {
                w->procs[i]->views[k].handle = false;
            }
        }
        look_for_handles(w);
    }
    return w->wound_down++ < 2;
}

/* --- the world --------------------------------------------------------------------------------
 */

static void *
create(struct sim *sim)
{
    struct sa_world *w = mem_alloc(sim_mem(sim), sizeof(*w));
    memset(w, 0, sizeof(*w));
    w->sim = sim;
    w->kills = sim_chance(sim, 800);
    w->gcs_dies = sim_chance(sim, 500);
    w->breaks = sim_chance(sim, 500);
    const uint64_t kind = sim_below(sim, 1000);
    w->storm = kind < 300;
    w->late = kind >= 700;
    arena_init(&w->arena, sim_mem(sim));
    struct sa_proc *node = sa_proc_new(w, SA_NODE, "raylet");
    sa_gcs_start(w);
    sa_gcs_first(w);
    if (sa_connect(w, node)) {
        sa_node_connected(w, node);
    }
    for (uint64_t n = 1 + sim_below(sim, SA_CALLERS); n > 0; n--) {
        add_caller(w);
    }
    return w;
}

static void
killed(struct sim *sim, void *world, uint32_t proc)
{
    struct sa_world *w = world;
    struct sa_proc *p = w->procs[proc];
    (void)sim;
    sa_forget_frames(w, p);
    if (p->machine) {
        sa_gcs_end(w, p);
    }
}

static void
destroy(struct sim *sim, void *world)
{
    struct sa_world *w = world;
    for (uint32_t i = 1; i <= sim_proc_count(sim); i++) {
        killed(sim, w, i);
        mem_free(sim_mem(sim), w->procs[i], sizeof(*w->procs[i]));
    }
    for (uint32_t i = 0; i < SA_ROWS; i++) {
        sa_bytes_free(w, w->rows[i].bytes);
    }
    arena_fini(&w->arena);
    mem_free(sim_mem(sim), w, sizeof(*w));
}

static void
deliver(struct sim *sim, void *world, uint32_t proc, uint32_t from, uint16_t kind, uint64_t payload,
        const void *msg)
{
    struct sa_world *w = world;
    struct sa_proc *p = w->procs[proc];
    (void)sim;
    if (p->saw_dead[from] && p->role != SA_CALLER) {
        return; /* its connection was closed at the news */
    }
    if (p->role == SA_GCS) {
        sa_gcs_deliver(w, p, from, kind, payload, msg);
    } else if (p->role == SA_NODE) {
        sa_node_deliver(w, p, from, kind, payload, msg);
    } else if (p->role == SA_CALLER) {
        caller_deliver(w, p, from, kind, payload, msg);
    } else {
        sa_worker_deliver(w, p, from, kind, payload);
    }
}

static void
died(struct sim *sim, void *world, uint32_t proc, uint32_t dead)
{
    struct sa_world *w = world;
    struct sa_proc *p = w->procs[proc];
    (void)sim;
    p->saw_dead[dead] = true;
    if (p->role == SA_GCS) {
        sa_gcs_closed(w, p, dead);
    } else if (p->role == SA_NODE) {
        sa_node_saw_death(w, p, dead);
    } else if (p->role == SA_CALLER) {
        caller_saw_death(w, p, dead);
    } else {
        sa_worker_lost(w, p, dead);
    }
}

static void
broke(struct sim *sim, void *world, uint32_t proc, uint32_t other)
{
    struct sa_world *w = world;
    struct sa_proc *p = w->procs[proc];
    if (p->saw_dead[other] || (w->procs[other]->role == SA_GCS && p->gcs != other)) {
        return; /* that was acted on already */
    }
    if (p->role == SA_GCS) {
        sa_gcs_closed(w, p, other);
    } else if (p->role == SA_WORKER) {
        sa_worker_lost(w, p, other);
    } else if (w->procs[other]->role == SA_GCS) {
        if (p->role == SA_CALLER) {
            caller_connect(w, p);
        } else if (sa_connect(w, p)) {
            sa_node_connected(w, p);
        }
    } else {
        p->broken[other] = true;
        sim_timer(sim, proc, SA_TAG_REPAIR, sim_now(sim) + 1 + sim_below(sim, 2 * SIM_MS));
    }
}

static void
timer(struct sim *sim, void *world, uint32_t proc, uint32_t tag)
{
    struct sa_world *w = world;
    struct sa_proc *p = w->procs[proc];
    (void)sim;
    if (p->role == SA_WORKER) {
        sa_worker_timer(w, p, tag);
    } else if (p->role == SA_GCS) {
        sa_gcs_tick(w, p);
    } else if (tag == SA_TAG_START) {
        sa_node_start(w);
    } else if (tag == SA_TAG_REPAIR) {
        repair(w, p);
    } else if (p->role == SA_CALLER) {
        caller_connect(w, p);
    } else if (sa_connect(w, p)) {
        sa_node_connected(w, p);
    }
}

const struct sim_world sim_world_actor = {
    .name = "actor",
    .create = create,
    .destroy = destroy,
    .act = act,
    .deliver = deliver,
    .died = died,
    .broke = broke,
    .timer = timer,
    .killed = killed,
    .check = check,
    .wind_down = wind_down,
    .quiet = quiet,
    .mutations = mutations,
};
