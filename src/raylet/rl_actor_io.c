/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Actors of this node: ray-gcs says which are to run, a lease gives each a worker, the worker says
 * when its constructor is through, and ray-gcs is told of every step.
 *
 *   WAITING --granted--> PLACED --process dead--> gone
 *      +-- failed, stopped, job over --> gone
 */
#include <stdio.h>
#include <string.h>

#include "os/os_basic.h"
#include "raylet/rl_io.h"

static struct rl_actor *
find_actor(const struct raylet *r, const ProtobufCBinaryData *id)
{
    struct id_actor actor_id;
    if (!rl_take_id(id, actor_id.b, sizeof(actor_id.b))) {
        return NULL;
    }
    struct map_link *l;
    MAP_FOR_HASH (l, &r->actors_by_id, id_hash(actor_id.b, sizeof(actor_id.b))) {
        struct rl_actor *a = CONTAINER_OF(l, struct rl_actor, by_id);
        if (ID_EQ(a->id, actor_id)) {
            ASSERT(a->magic == RL_ACTOR_MAGIC);
            return a;
        }
    }
    return NULL;
}

static struct rl_actor *
find_cookie(const struct raylet *r, uint64_t owner, uint32_t cookie)
{
    struct map_link *l;
    MAP_FOR_HASH (l, &r->actors_by_cookie, id_mix64(cookie)) {
        struct rl_actor *a = CONTAINER_OF(l, struct rl_actor, by_cookie);
        if (a->cookie == cookie && a->job->actor_owner == owner) {
            return a;
        }
    }
    return NULL;
}

void
rl_actor_forget(struct raylet *r, struct rl_actor *a)
{
    if (a->process) {
        a->process->actor = NULL;
    }
    map_remove(&r->actors_by_id, &a->by_id);
    map_remove(&r->actors_by_cookie, &a->by_cookie);
    list_remove(&a->all);
    ray__gcs__create_actor__free_unpacked(a->spec, NULL);
    a->magic = 0;
    mem_free(r->mem, a, sizeof(*a));
}

/* ---- telling ray-gcs ------------------------------------------------------------------------- */

static void
tell_placed(struct raylet *r, const struct rl_actor *a)
{
    Ray__Gcs__ActorPlaced m = RAY__GCS__ACTOR_PLACED__INIT;
    m.actor_id = rl_bytes(a->id.b, sizeof(a->id.b));
    m.incarnation = a->incarnation;
    m.worker_id = rl_bytes(a->process->id.b, sizeof(a->process->id.b));
    m.peer_socket = a->process->peer_socket;
    m.pid = a->process->pid;
    rl_gcs_tell(r, GCS_ACTOR_PLACED, &m.base);
}

static void
tell_not_placed(struct raylet *r, const Ray__Gcs__StartActor *start, int status, const char *text)
{
    Ray__Gcs__ActorNotPlaced m = RAY__GCS__ACTOR_NOT_PLACED__INIT;
    m.actor_id = start->actor->actor_id;
    m.incarnation = start->incarnation;
    m.status = status;
    m.text = rl_text(text);
    rl_gcs_tell(r, GCS_ACTOR_NOT_PLACED, &m.base);
}

void
rl_actor_tell_all(struct raylet *r, Ray__Gcs__RegisterNode *m)
{
    size_t count = 0;
    LIST_FOR (l, &r->actors) {
        count += LIST_ENTRY(l, struct rl_actor, all)->state == RL_ACTOR_PLACED;
    }
    Ray__Gcs__LiveActor *live = arena_alloc(&r->arena, sizeof(*live) * (count + 1));
    m->actors = arena_alloc(&r->arena, sizeof(*m->actors) * (count + 1));
    ASSERT(live && m->actors);
    LIST_FOR (l, &r->actors) {
        struct rl_actor *a = LIST_ENTRY(l, struct rl_actor, all);
        if (a->state != RL_ACTOR_PLACED) {
            continue; /* ray-gcs asks again */
        }
        Ray__Gcs__LiveActor *one = &live[m->n_actors];
        ray__gcs__live_actor__init(one);
        one->actor_id = rl_bytes(a->id.b, sizeof(a->id.b));
        one->incarnation = a->incarnation;
        one->worker_id = rl_bytes(a->process->id.b, sizeof(a->process->id.b));
        one->peer_socket = a->process->peer_socket;
        one->pid = a->process->pid;
        one->constructed = a->constructed;
        m->actors[m->n_actors++] = one;
    }
}

/* ---- start ----------------------------------------------------------------------------------- */

static struct rl_actor *
actor_new(struct raylet *r, struct rl_job_io *job, const Ray__Gcs__StartActor *m)
{
    struct rl_actor *a = mem_alloc(r->mem, sizeof(*a));
    if (!a) {
        return NULL;
    }
    memset(a, 0, sizeof(*a));
    a->magic = RL_ACTOR_MAGIC;
    a->incarnation = m->incarnation;
    a->job = job;
    a->cookie = r->next_cookie++;
    const size_t size = ray__gcs__create_actor__get_packed_size(m->actor);
    uint8_t *packed = mem_alloc(r->mem, size + 1);
    if (packed) {
        (void)ray__gcs__create_actor__pack(m->actor, packed);
        a->spec = ray__gcs__create_actor__unpack(NULL, size, packed);
        mem_free(r->mem, packed, size + 1);
    }
    if (!a->spec || !rl_take_id(&a->spec->actor_id, a->id.b, sizeof(a->id.b))) {
        goto free_actor;
    }
    if (map_insert(&r->actors_by_id, &a->by_id, id_hash(a->id.b, sizeof(a->id.b))) != ST_OK) {
        goto free_actor;
    }
    if (map_insert(&r->actors_by_cookie, &a->by_cookie, id_mix64(a->cookie)) != ST_OK) {
        map_remove(&r->actors_by_id, &a->by_id);
        goto free_actor;
    }
    list_push_back(&r->actors, &a->all);
    return a;

free_actor:
    if (a->spec) {
        ray__gcs__create_actor__free_unpacked(a->spec, NULL);
    }
    mem_free(r->mem, a, sizeof(*a));
    return NULL;
}

bool
rl_actor_outlives(const struct raylet *r, const Ray__Gcs__CreateActor *spec)
{
    struct id_worker owner;
    if (spec->detached || !rl_take_id(&spec->owner_worker_id, owner.b, sizeof(owner.b))) {
        return spec->detached;
    }
    const struct rl_process *p = rl_find_id(r, &owner);
    const struct rl_worker *worker = p ? rl_pool_find(&r->lease.pool, p->number) : NULL;
    return worker && worker->detached;
}

/* Asks for the actor's lease. */
static int
request_lease(struct raylet *r, struct rl_actor *a)
{
    struct sched_key key;
    memset(&key, 0, sizeof(key));
    TRY(rl_key_set(r, a->spec->held, a->spec->n_held, &key.resources));
    TRY(rl_key_set(r, a->spec->placement, a->spec->n_placement, &key.placement));
    key.env_hash = a->spec->runtime_env;
    struct sched_lease_request request = {
        .cookie = a->cookie,
        .count = 1,
        .depth = a->spec->depth,
        .kind = SCHED_LEASE_ACTOR,
        .detached = rl_actor_outlives(r, a->spec),
        .first_task = id_task_of_actor_creation(&a->id),
    };
    TRY(sched_keys_intern(&r->keys, &key, &request.key));
    (void)snprintf(request.name, sizeof(request.name), "%s", a->spec->class_name);
    struct rl_outs o;
    rl_outs_begin(r, &o);
    TRY(rl_lease_on_request(&r->lease, os_now_ns(), a->job->actor_owner, &request, &o.outs));
    rl_outs_finish(r, &o);
    return ST_OK;
}

void
rl_on_start_actor(struct raylet *r, const Ray__Gcs__StartActor *m)
{
    struct id_job job_id;
    if (!m->actor || !rl_take_id(&m->actor->job_id, job_id.b, sizeof(job_id.b))) {
        os_log(OS_LOG_ERROR, "the control service asks for an actor that makes no sense");
        return;
    }
    struct rl_actor *a = find_actor(r, &m->actor->actor_id);
    if (a && a->incarnation == m->incarnation) {
        if (a->state == RL_ACTOR_PLACED) {
            tell_placed(r, a); /* asked again */
        }
        return;
    }
    struct id_actor id;
    if (rl_take_id(&m->actor->actor_id, id.b, sizeof(id.b)) &&
        rl_gcs_exit_is_untold(r, &id, m->incarnation)) {
        return; /* it ran, and ended: the order was given before that was known */
    }
    struct rl_job_io *job = rl_job_find(r, &job_id);
    const bool outlives = rl_actor_outlives(r, m->actor);
    if (a || !job || r->stopping || (job->ended && !(job->keeps && outlives))) {
        tell_not_placed(r, m, ST_ACTOR_DIED,
                        a ? "an earlier life of it has not ended yet" : "its job has ended");
        return;
    }
    os_log(OS_LOG_DEBUG, "actor %s is to be started", m->actor->class_name);
    job->keeps = job->keeps || outlives;
    a = actor_new(r, job, m);
    if (!a) {
        tell_not_placed(r, m, ST_OUT_OF_MEMORY, "no memory for an actor, or its id is malformed");
        return;
    }
    if (request_lease(r, a) != ST_OK) {
        tell_not_placed(r, m, st_last()->status, st_last()->text);
        rl_actor_forget(r, a);
    }
}

/* The machine has a worker for one of the leases asked for here. False: it is a task's. */
bool
rl_actor_granted(struct raylet *r, uint64_t owner, const struct sched_lease_grant *grant)
{
    struct rl_actor *a = find_cookie(r, owner, grant->cookie);
    if (!a) {
        return false;
    }
    struct rl_process *p = rl_find_number(r, grant->worker);
    ASSERT(p && a->state == RL_ACTOR_WAITING);
    a->state = RL_ACTOR_PLACED;
    a->lease = grant->lease;
    a->process = p;
    p->actor = a;
    Ray__Node__BecomeActor m = RAY__NODE__BECOME_ACTOR__INIT;
    m.actor_id = rl_bytes(a->id.b, sizeof(a->id.b));
    m.incarnation = a->incarnation;
    m.spec = a->spec->spec;
    m.name = a->spec->name;
    m.detached = a->spec->detached;
    rl_send(p, NODE_BECOME_ACTOR, 0, &m.base);
    tell_placed(r, a);
    return true;
}

bool
rl_actor_failed(struct raylet *r, uint64_t owner, const struct sched_lease_failed *failed)
{
    struct rl_actor *a = find_cookie(r, owner, failed->cookie);
    if (!a) {
        return false;
    }
    Ray__Gcs__StartActor start = RAY__GCS__START_ACTOR__INIT;
    start.actor = a->spec;
    start.incarnation = a->incarnation;
    tell_not_placed(r, &start, failed->status, failed->text);
    rl_actor_forget(r, a);
    return true;
}

/* It can't be placed here now; people are told once, by the driver's log. */
bool
rl_actor_pending(struct raylet *r, uint64_t owner, const struct sched_lease_pending *m)
{
    const struct rl_actor *a = find_cookie(r, owner, m->cookie);
    if (!a) {
        return false;
    }
    os_log(OS_LOG_WARN, "actor %s waits: %s", a->spec->class_name, m->text);
    if (a->job->driver) {
        Ray__Node__LogLines lines = RAY__NODE__LOG_LINES__INIT;
        char text[SCHED_REASON_MAX + 256];
        const int n =
            snprintf(text, sizeof(text), "the actor waits and can't be created now: %s\n", m->text);
        lines.name = a->spec->class_name;
        lines.is_stderr = true;
        lines.text = rl_bytes(text, n > 0 ? (size_t)n : 0);
        rl_send(a->job->driver, NODE_LOG_LINES, 0, &lines.base);
    }
    return true;
}

/* ---- life and end ---------------------------------------------------------------------------- */

int
rl_on_actor_constructed(struct rl_process *p, const Ray__Node__ActorConstructed *m)
{
    struct rl_actor *a = find_actor(p->raylet, &m->actor_id);
    if (!a || a->process != p || a->incarnation != m->incarnation) {
        return st_fail(ST_PROTOCOL, "it constructed an actor that it doesn't serve");
    }
    a->constructed = m->status == ST_OK;
    os_log(OS_LOG_DEBUG, "worker %d has constructed %s", p->pid, a->spec->class_name);
    rl_gcs_tell(p->raylet, GCS_ACTOR_BUILT, &m->base);
    return ST_OK;
}

static void
cancel_lease(struct raylet *r, struct rl_actor *a)
{
    const struct sched_lease_cancel msg = { .cookie = a->cookie, .count = 1 };
    const uint64_t owner = a->job->actor_owner;
    rl_actor_forget(r, a);
    struct rl_outs o;
    rl_outs_begin(r, &o);
    if (rl_lease_on_cancel(&r->lease, os_now_ns(), owner, &msg, &o.outs) != ST_OK) {
        os_log(OS_LOG_ERROR, "%s", st_last()->text);
    }
    rl_outs_finish(r, &o);
}

void
rl_on_stop_actor(struct raylet *r, const Ray__Gcs__StopActor *m)
{
    struct rl_actor *a = find_actor(r, &m->actor_id);
    if (!a || a->incarnation != m->incarnation) {
        return; /* gone already */
    }
    if (a->state == RL_ACTOR_WAITING) {
        cancel_lease(r, a);
        return;
    }
    struct rl_process *p = a->process;
    os_log(OS_LOG_DEBUG, "worker %d is to stop: %s", p->pid, m->reason);
    if (m->graceful) {
        rl_worker_exit(p, m->reason);
        return;
    }
    a->stopping = true;
    (void)snprintf(p->leaving, sizeof(p->leaving), "%s", m->reason[0] ? m->reason : "ray.kill");
    p->leaving_intended = true;
    const struct sched_lease_return msg = { .lease = a->lease, .flags = SCHED_RETURN_KILL };
    struct rl_outs o;
    rl_outs_begin(r, &o);
    if (rl_lease_on_return(&r->lease, os_now_ns(), a->job->actor_owner, &msg, &o.outs) != ST_OK) {
        rl_worker_kill(p, m->reason);
    }
    rl_outs_finish(r, &o);
}

void
rl_actor_process_died(struct rl_process *p)
{
    struct rl_actor *a = p->actor;
    if (!a) {
        return;
    }
    Ray__Gcs__ActorExited m = RAY__GCS__ACTOR_EXITED__INIT;
    m.actor_id = rl_bytes(a->id.b, sizeof(a->id.b));
    m.incarnation = a->incarnation;
    m.worker_id = rl_bytes(p->id.b, sizeof(p->id.b));
    m.evidence = p->evidence;
    m.intended = p->leaving_intended;
    rl_gcs_tell_exit(p->raylet, &m);
    rl_actor_forget(p->raylet, a);
}
