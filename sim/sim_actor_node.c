/* SPDX-License-Identifier: Apache-2.0 */
/*
 * World `actor`: what the raylet does for actors (as rl_actor_io.c does it, without leases), and
 * the processes that run them.
 */
#include "sim_actor.h"

#include <string.h>

#define US UINT64_C(1000)

/* --- the raylet -------------------------------------------------------------------------------
 */

static void
fill_placed(const struct sa_world *w, uint32_t actor, struct id_actor *id, struct id_worker *worker,
            Ray__Gcs__ActorPlaced *m)
{
    const struct sa_record *r = &w->actors[actor].record;
    *id = sa_actor_id(actor);
    *worker = sa_worker_id(r->process);
    *m = (Ray__Gcs__ActorPlaced)RAY__GCS__ACTOR_PLACED__INIT;
    m->actor_id = sa_binary(id->b, sizeof(id->b));
    m->incarnation = r->incarnation;
    m->worker_id = sa_binary(worker->b, sizeof(worker->b));
    m->pid = (int32_t)r->process;
}

static void
tell_placed(struct sa_world *w, uint32_t actor)
{
    struct id_actor id;
    struct id_worker worker;
    Ray__Gcs__ActorPlaced m;
    fill_placed(w, actor, &id, &worker, &m);
    sa_request(w, w->procs[SA_RAYLET], GCS_ACTOR_PLACED, &m);
}

static void
tell_not_placed(struct sa_world *w, uint32_t actor, uint64_t incarnation)
{
    struct id_actor id = sa_actor_id(actor);
    char text[] = "it can't be placed";
    Ray__Gcs__ActorNotPlaced m = RAY__GCS__ACTOR_NOT_PLACED__INIT;
    m.actor_id = sa_binary(id.b, sizeof(id.b));
    m.incarnation = incarnation;
    m.status = ST_ACTOR_DIED;
    m.text = text;
    sa_request(w, w->procs[SA_RAYLET], GCS_ACTOR_NOT_PLACED, &m);
}

void
sa_node_connected(struct sa_world *w, struct sa_proc *p)
{
    Ray__Gcs__RegisterNode m = RAY__GCS__REGISTER_NODE__INIT;
    Ray__Gcs__LiveActor live[SA_ACTORS], *lives[SA_ACTORS];
    struct id_actor ids[SA_ACTORS];
    struct id_worker workers[SA_ACTORS];
    struct id_job job = { .b = { 1 } };
    struct id_node node = { .b = { 7 } };
    ProtobufCBinaryData jobs[1] = { sa_binary(job.b, sizeof(job.b)) };
    m.node_id = sa_binary(node.b, sizeof(node.b));
    m.jobs = jobs;
    m.n_jobs = 1;
    m.actors = lives;
    for (uint32_t i = 0; i < SA_ACTORS; i++) {
        const struct sa_record *r = &w->actors[i].record;
        if (r->state == SA_PLACED) {
            Ray__Gcs__ActorPlaced placed;
            Ray__Gcs__LiveActor *one = &live[m.n_actors];
            fill_placed(w, i, &ids[i], &workers[i], &placed);
            ray__gcs__live_actor__init(one);
            one->actor_id = placed.actor_id;
            one->incarnation = placed.incarnation;
            one->worker_id = placed.worker_id;
            one->pid = placed.pid;
            one->constructed = r->constructed;
            lives[m.n_actors++] = one;
        }
    }
    sa_say(w, p, GCS_REGISTER_NODE, 0, &m);
}

static void
arm_start(struct sa_world *w)
{
    uint64_t first = 0;
    for (uint32_t i = 0; i < SA_ACTORS; i++) {
        const struct sa_record *r = &w->actors[i].record;
        if (r->state == SA_WAITING && (first == 0 || r->ready_ns < first)) {
            first = r->ready_ns;
        }
    }
    sim_timer(w->sim, SA_RAYLET, SA_TAG_START, first);
}

/* ray-gcs isn't known to have stored that this life of the actor has ended. */
static bool
exit_is_untold(struct sa_world *w, uint32_t actor, uint64_t incarnation)
{
    const struct sa_proc *p = w->procs[SA_RAYLET];
    bool found = false;
    for (uint32_t i = 0; i < p->frame_count && !found; i++) {
        if (p->frames[i].kind == GCS_ACTOR_EXITED) {
            Ray__Gcs__ActorExited *m =
                sa_unpack(w, &ray__gcs__actor_exited__descriptor, p->frames[i].bytes);
            found = sa_actor_of(&m->actor_id) == actor && m->incarnation == incarnation;
            protobuf_c_message_free_unpacked(&m->base, NULL);
        }
    }
    return found;
}

static void
on_start(struct sa_world *w, const Ray__Gcs__StartActor *m)
{
    const uint32_t actor = sa_actor_of(&m->actor->actor_id);
    SIM_TRACE(w->sim, "the raylet is to start actor %u, incarnation %llu", actor,
              (unsigned long long)m->incarnation);
    struct sa_record *r = &w->actors[actor].record;
    if (r->state != SA_ABSENT && r->incarnation == m->incarnation) {
        if (r->state == SA_PLACED) {
            tell_placed(w, actor); /* asked again */
        }
        return;
    }
    if (exit_is_untold(w, actor, m->incarnation) && !(sim_mutations(w->sim) & SA_RULE_UNTOLD)) {
        return; /* it ran, and ended: the order was given before that was known */
    }
    const bool full = sim_proc_count(w->sim) >= SIM_PROCS_MAX - 8;
    if (r->state != SA_ABSENT || full || sim_chance(w->sim, 10)) {
        tell_not_placed(w, actor, m->incarnation);
        return;
    }
    *r = (struct sa_record){
        .state = SA_WAITING,
        .incarnation = m->incarnation,
        .ready_ns = sim_now(w->sim) + 1 + sim_below(w->sim, 3 * SIM_MS),
    };
    arm_start(w);
}

static void
on_stop(struct sa_world *w, const Ray__Gcs__StopActor *m)
{
    struct sa_record *r = &w->actors[sa_actor_of(&m->actor_id)].record;
    SIM_TRACE(w->sim, "the raylet is to stop actor %u, incarnation %llu: %s",
              sa_actor_of(&m->actor_id), (unsigned long long)m->incarnation, m->reason);
    if (r->state == SA_ABSENT || r->incarnation != m->incarnation) {
        return; /* gone already */
    }
    if (r->state == SA_WAITING) {
        *r = (struct sa_record){ 0 };
        arm_start(w);
    } else if (m->graceful) {
        sim_send(w->sim, SA_RAYLET, r->process, 0, SA_MSG_EXIT, 0, NULL, 0);
    } else {
        r->stopping = true;
        if (sim_proc_alive(w->sim, r->process)) {
            sim_proc_kill(w->sim, r->process);
        }
    }
}

/* A worker is there for those that have waited long enough. */
void
sa_node_start(struct sa_world *w)
{
    for (uint32_t i = 0; i < SA_ACTORS; i++) {
        struct sa_record *r = &w->actors[i].record;
        if (r->state == SA_WAITING && r->ready_ns <= sim_now(w->sim)) {
            struct sa_proc *p = sa_proc_new(w, SA_WORKER, "actor");
            p->actor = i;
            r->state = SA_PLACED;
            r->process = p->number;
            SIM_TRACE(w->sim, "P%u is actor %u, incarnation %llu", p->number, i,
                      (unsigned long long)r->incarnation);
            sim_timer(w->sim, p->number, SA_TAG_BUILT,
                      sim_now(w->sim) + 1 + sim_below(w->sim, 2 * SIM_MS));
            tell_placed(w, i);
        }
    }
    arm_start(w);
}

static void
on_built(struct sa_world *w, uint32_t from, int status)
{
    const uint32_t actor = w->procs[from]->actor;
    struct sa_record *r = &w->actors[actor].record;
    if (r->state != SA_PLACED || r->process != from) {
        return;
    }
    struct id_actor id = sa_actor_id(actor);
    Ray__Node__ActorConstructed m = RAY__NODE__ACTOR_CONSTRUCTED__INIT;
    m.actor_id = sa_binary(id.b, sizeof(id.b));
    m.incarnation = r->incarnation;
    m.status = status;
    r->constructed = status == ST_OK;
    sa_request(w, w->procs[SA_RAYLET], GCS_ACTOR_BUILT, &m);
}

void
sa_node_deliver(struct sa_world *w, struct sa_proc *p, uint32_t from, uint16_t kind,
                uint64_t payload, const void *msg)
{
    if (kind == SA_MSG_BUILT) {
        on_built(w, from, payload ? ST_ACTOR_INIT_FAILED : ST_OK);
    } else if (from != p->gcs) {
        return; /* it is dead */
    } else if (kind == GCS_DONE) {
        sa_answered(w, p, payload);
    } else if (kind == GCS_START_ACTOR) {
        Ray__Gcs__StartActor *m = sa_unpack(w, &ray__gcs__start_actor__descriptor, msg);
        on_start(w, m);
        protobuf_c_message_free_unpacked(&m->base, NULL);
    } else if (kind == GCS_STOP_ACTOR) {
        Ray__Gcs__StopActor *m = sa_unpack(w, &ray__gcs__stop_actor__descriptor, msg);
        on_stop(w, m);
        protobuf_c_message_free_unpacked(&m->base, NULL);
    }
}

void
sa_node_saw_death(struct sa_world *w, struct sa_proc *p, uint32_t dead)
{
    const struct sa_proc *d = w->procs[dead];
    struct id_worker worker = sa_worker_id(dead);
    if (d->role == SA_GCS) {
        sa_gcs_start(w);
        if (sa_connect(w, p)) {
            sa_node_connected(w, p);
        }
    } else if (d->role == SA_CALLER) {
        Ray__Gcs__ProcessGone m = RAY__GCS__PROCESS_GONE__INIT;
        m.worker_id = sa_binary(worker.b, sizeof(worker.b));
        sa_request(w, p, GCS_PROCESS_GONE, &m);
    } else if (d->role == SA_WORKER) {
        struct sa_record *r = &w->actors[d->actor].record;
        SIM_CHECK(w->sim, r->process == dead, "P%u was an actor that the raylet forgot", dead);
        struct id_actor id = sa_actor_id(d->actor);
        Ray__Gcs__ActorExited m = RAY__GCS__ACTOR_EXITED__INIT;
        m.actor_id = sa_binary(id.b, sizeof(id.b));
        m.incarnation = r->incarnation;
        m.worker_id = sa_binary(worker.b, sizeof(worker.b));
        m.intended = d->leaving || r->stopping;
        sa_request(w, p, GCS_ACTOR_EXITED, &m);
        *r = (struct sa_record){ 0 };
    }
}

/* --- actors' processes ------------------------------------------------------------------------
 */

static uint32_t
at_once(const struct sa_world *w, const struct sa_proc *p)
{
    return w->actors[p->actor].unordered ? SA_AT_ONCE : 1;
}

static void
leave(struct sa_world *w, struct sa_proc *p)
{
    p->leaving = true;
    sim_proc_kill(w->sim, p->number);
}

/* Begins what can begin, in the order in which it came. */
static void
run(struct sa_world *w, struct sa_proc *p)
{
    while (p->constructed && p->inbox_count > 0) {
        uint32_t slot = 0;
        while (slot < at_once(w, p) && p->running[slot].push != 0) {
            slot++;
        }
        if (slot == at_once(w, p)) {
            return;
        }
        const struct sa_item item = p->inbox[0];
        memmove(&p->inbox[0], &p->inbox[1], --p->inbox_count * sizeof(p->inbox[0]));
        struct sa_push *push = &w->pushes[item.push];
        const bool mine = push->word == SA_POSTED || (sim_mutations(w->sim) & SA_RULE_START);
        if (item.deaf || !mine) {
            continue; /* its caller has taken it back, or will */
        }
        push->word = SA_STARTED;
        p->running[slot] = item;
        sa_begins(w, p, item.push);
        const uint64_t longest = sim_chance(w->sim, w->storm ? 300 : 800) ? 100 * US : 10 * SIM_MS;
        sim_timer(w->sim, p->number, slot, sim_now(w->sim) + 1 + sim_below(w->sim, longest));
    }
    if (p->leaving && p->inbox_count == 0) {
        for (uint32_t i = 0; i < SA_AT_ONCE; i++) {
            if (p->running[i].push != 0) {
                return;
            }
        }
        leave(w, p);
    }
}

void
sa_worker_deliver(struct sa_world *w, struct sa_proc *p, uint32_t from, uint16_t kind,
                  uint64_t payload)
{
    if (kind == SA_MSG_EXIT) {
        p->leaving = true;
    } else {
        SIM_CHECK(w->sim, kind == SA_MSG_PUSH && p->inbox_count < SA_INBOX, "P%u is sent %u",
                  p->number, kind);
        p->inbox[p->inbox_count++] = (struct sa_item){ (uint32_t)payload, from, false };
    }
    run(w, p);
}

/* The connection with a caller has ended: what it pushed isn't begun, and isn't answered. */
void
sa_worker_lost(struct sa_world *w, struct sa_proc *p, uint32_t caller)
{
    for (uint32_t i = 0; i < p->inbox_count; i++) {
        p->inbox[i].deaf = p->inbox[i].deaf || p->inbox[i].caller == caller;
    }
    for (uint32_t i = 0; i < SA_AT_ONCE; i++) {
        p->running[i].deaf = p->running[i].deaf || p->running[i].caller == caller;
    }
    (void)w;
}

void
sa_worker_timer(struct sa_world *w, struct sa_proc *p, uint32_t tag)
{
    if (tag == SA_TAG_BUILT) {
        const bool fails = w->actors[p->actor].fails;
        sim_send(w->sim, p->number, SA_RAYLET, 0, SA_MSG_BUILT, fails, NULL, 0);
        if (fails) {
            leave(w, p);
            return;
        }
        p->constructed = true;
    } else {
        const struct sa_item item = p->running[tag];
        p->running[tag] = (struct sa_item){ 0 };
        SIM_TRACE(w->sim, "P%u ends call %u", p->number, w->pushes[item.push].call);
        if (!item.deaf) {
            sim_send(w->sim, p->number, item.caller, 0, SA_MSG_DONE, item.push, NULL, 0);
        }
        if (sim_chance(w->sim, 3) && !sim_is_healing(w->sim)) {
            leave(w, p); /* exit_actor */
            return;
        }
    }
    run(w, p);
}
