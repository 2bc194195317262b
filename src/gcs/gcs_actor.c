/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Actors: creation, placement, restart and death. States and legal moves are drawn in gcs.h.
 *
 * Who may end an actor, and how it shows:
 *   its constructor fails       DEAD, ST_ACTOR_INIT_FAILED with the failed value
 *   its process ends            RESTARTING while restarts are left and it didn't leave by itself
 *   it can't be placed          DEAD, never started, with the raylet's reason
 *   nothing refers to it        told to leave when its constructor is through; DEAD when it has
 * left
 *   kill(no_restart)            DEAD at once, its process is killed after that
 *   its job or creator ends     likewise, unless it is detached
 *
 * A name is in the index from the registration until the actor is DEAD or nothing refers to it.
 */
#include <string.h>

#include "gcs/gcs_priv.h"

#define KILLED "The actor is dead because it was killed by `ray.kill`."

struct gcs_actor *
gcs_find_actor(const struct gcs *gcs, const struct id_actor *id)
{
    struct map_link *l;
    MAP_FOR_HASH (l, &gcs->actors, id_hash(id->b, sizeof(id->b))) {
        struct gcs_actor *actor = CONTAINER_OF(l, struct gcs_actor, by_id);
        if (ID_EQ(actor->id, *id)) {
            ASSERT(actor->magic == GCS_ACTOR_MAGIC);
            return actor;
        }
    }
    return NULL;
}

struct gcs_actor *
gcs_actor_new(struct gcs *gcs, const struct id_actor *id)
{
    struct gcs_actor *actor = mem_alloc(gcs->mem, sizeof(*actor));
    if (!actor) {
        return NULL;
    }
    memset(actor, 0, sizeof(*actor));
    actor->magic = GCS_ACTOR_MAGIC;
    actor->id = *id;
    ray__gcs__actor_row__init(&actor->row);
    struct list *const lists[] = { &actor->of_job, &actor->dirty, &actor->order, &actor->watches };
    for (size_t i = 0; i < COUNT_OF(lists); i++) {
        list_init(lists[i]);
    }
    if (map_insert(&gcs->actors, &actor->by_id, id_hash(id->b, sizeof(id->b)))) {
        mem_free(gcs->mem, actor, sizeof(*actor));
        return NULL;
    }
    return actor;
}

void
gcs_actor_free_name(struct gcs *gcs, struct gcs_actor *actor)
{
    if (actor->in_names) {
        map_remove(&gcs->names, &actor->by_name);
        actor->in_names = false;
    }
}

static void
leave_indexes(struct gcs *gcs, struct gcs_actor *actor)
{
    gcs_actor_free_name(gcs, actor);
    if (actor->in_owners) {
        map_remove(&gcs->owners, &actor->by_owner);
        actor->in_owners = false;
    }
}

/* The caller has taken it out of the table of ids. */
void
gcs_actor_free(struct gcs *gcs, struct gcs_actor *actor)
{
    LIST_FOR_SAFE (l, next, &actor->watches) {
        gcs_watch_free(gcs, LIST_ENTRY(l, struct gcs_watch, of_actor));
    }
    list_remove(&actor->of_job);
    list_remove(&actor->dirty);
    list_remove(&actor->order);
    gcs_free_message(gcs, actor->row.spec);
    gcs_set_string(gcs, &actor->row.peer_socket, NULL);
    gcs_set_string(gcs, &actor->row.reason, NULL);
    gcs_set_bytes(gcs, &actor->row.failure, NULL);
    actor->magic = 0;
    mem_free(gcs->mem, actor, sizeof(*actor));
}

void
gcs_mark_dirty(struct gcs *gcs, struct gcs_actor *actor)
{
    list_remove(&actor->dirty);
    list_push_back(&gcs->dirty_actors, &actor->dirty);
}

/* The record has changed: to be stored, and to be told to whoever watches. */
void
gcs_actor_changed(struct gcs *gcs, struct gcs_actor *actor)
{
    actor->want_put = true;
    actor->want_notify = true;
    LIST_FOR (l, &actor->watches) {
        LIST_ENTRY(l, struct gcs_watch, of_actor)->told = false;
    }
    gcs_mark_dirty(gcs, actor);
}

static void
set_node(struct gcs_actor *actor, struct gcs_node *node)
{
    actor->node = node;
    actor->row.node_id = (ProtobufCBinaryData){ 0 };
    if (node) {
        actor->node_id = node->id;
        actor->row.node_id.data = actor->node_id.b;
        actor->row.node_id.len = sizeof(actor->node_id.b);
    }
}

static void
set_worker(struct gcs_actor *actor, const ProtobufCBinaryData *id)
{
    actor->row.worker_id = (ProtobufCBinaryData){ 0 };
    if (id && gcs_take_id(id, actor->worker.b, sizeof(actor->worker.b))) {
        actor->row.worker_id.data = actor->worker.b;
        actor->row.worker_id.len = sizeof(actor->worker.b);
    }
}

/* Sends it to a node to be started, when there is one. */
void
gcs_actor_start(struct gcs *gcs, struct gcs_actor *actor)
{
    struct gcs_node *node = gcs_choose_node(gcs, actor->row.spec);
    set_node(actor, node);
    actor->want_put = true; /* a service that comes after this one is to know where it may run */
    actor->want_start = node != NULL;
    actor->want_stop = false;
    gcs_mark_dirty(gcs, actor);
}

/* `reason` is static text. */
void
gcs_actor_stop(struct gcs *gcs, struct gcs_actor *actor, bool graceful, const char *reason)
{
    actor->want_start = false;
    actor->want_stop = true;
    actor->stop_graceful = graceful;
    actor->stop_reason = reason;
    gcs_mark_dirty(gcs, actor);
}

/* ---- death ----------------------------------------------------------------------------------- */

/* What is kept of a dead actor: who it was, not what it was made of. */
static void
shrink_spec(struct gcs *gcs, struct gcs_actor *actor)
{
    Ray__Gcs__CreateActor slim = *actor->row.spec;
    slim.spec = (ProtobufCBinaryData){ 0 };
    slim.n_placement = 0;
    slim.n_held = 0;
    slim.face_info = (ProtobufCBinaryData){ 0 };
    void *copy = gcs_copy_message(gcs, &slim.base);
    if (copy) {
        gcs_free_message(gcs, actor->row.spec);
        actor->row.spec = copy;
    }
}

/* Keeps the list of the dead within its limit; watchers of the forgotten have been told. */
void
gcs_forget_oldest(struct gcs *gcs)
{
    while (gcs->dead_count > gcs->config.dead_actors_max) {
        struct list *first = list_first(&gcs->dead_actors);
        ASSERT(first);
        struct gcs_actor *oldest = LIST_ENTRY(first, struct gcs_actor, order);
        gcs->dead_count--;
        map_remove(&gcs->actors, &oldest->by_id);
        list_remove(&oldest->order);
        list_remove(&oldest->of_job);
        list_remove(&oldest->dirty);
        list_push_back(&gcs->erase_actors, &oldest->dirty);
    }
}

static void
enter_dead(struct gcs *gcs, struct gcs_actor *actor)
{
    leave_indexes(gcs, actor);
    gcs->actor_count--;
    gcs->dead_count++;
    list_push_back(&gcs->dead_actors, &actor->order);
    shrink_spec(gcs, actor);
}

void
gcs_actor_die(struct gcs *gcs, struct gcs_actor *actor, int status, const char *reason)
{
    if (actor->row.state == RAY__GCS__ACTOR_STATE__DEAD) {
        return;
    }
    actor->row.never_started = actor->row.started_ms == 0;
    actor->row.state = RAY__GCS__ACTOR_STATE__DEAD;
    actor->row.status = status;
    gcs_set_string(gcs, &actor->row.reason, reason);
    actor->row.ended_ms = gcs_wall_ms(gcs);
    actor->want_start = false;
    enter_dead(gcs, actor);
    gcs_actor_changed(gcs, actor);
}

/* Its process is gone, or never came to be known: restart or end. */
void
gcs_actor_end_of_process(struct gcs *gcs, struct gcs_actor *actor, bool intended,
                         const char *evidence)
{
    const int64_t most = actor->row.spec->max_restarts;
    const bool left = most < 0 || actor->row.restarts < (uint64_t)most;
    const bool restart = left && (!intended || actor->row.killed) && !actor->row.out_of_scope;
    set_worker(actor, NULL);
    gcs_set_string(gcs, &actor->row.peer_socket, NULL);
    actor->row.pid = 0;
    if (!restart) {
        gcs_actor_die(gcs, actor, ST_ACTOR_DIED, evidence);
        return;
    }
    actor->row.state = RAY__GCS__ACTOR_STATE__RESTARTING;
    actor->row.incarnation++;
    actor->row.restarts++;
    actor->row.constructed = false;
    actor->row.killed = false;
    gcs_set_string(gcs, &actor->row.reason, evidence);
    gcs_actor_changed(gcs, actor);
    gcs_actor_start(gcs, actor);
}

/* ---- creation -------------------------------------------------------------------------------- */

static int
check_spec(const Ray__Gcs__CreateActor *msg)
{
    if (msg->actor_id.len != sizeof(struct id_actor) || msg->job_id.len != sizeof(struct id_job) ||
        (msg->owner_worker_id.len != 0 && msg->owner_worker_id.len != sizeof(struct id_worker))) {
        return st_fail(ST_PROTOCOL, "an id of the wrong size");
    }
    if (strlen(msg->class_name) > GCS_NAME_MAX || strlen(msg->name) > GCS_NAME_MAX ||
        strlen(msg->actor_namespace) > GCS_NAME_MAX || strlen(msg->owner_socket) > GCS_NAME_MAX ||
        msg->n_placement > GCS_RESOURCES_MAX || msg->n_held > GCS_RESOURCES_MAX) {
        return st_fail(ST_PROTOCOL, "a name is too long, or there are too many resources");
    }
    return ST_OK;
}

/* Makes the record of a checked spec complete and puts it into the indexes. */
static int
adopt_spec(struct gcs *gcs, struct gcs_actor *actor, const Ray__Gcs__CreateActor *msg)
{
    Ray__Gcs__CreateActor *spec = gcs_copy_message(gcs, &msg->base);
    if (!spec) {
        return st_fail(ST_OUT_OF_MEMORY, "no memory for an actor");
    }
    actor->row.spec = spec;
    struct id_job job;
    (void)gcs_take_id(&spec->job_id, job.b, sizeof(job.b));
    actor->job = gcs_find_job(gcs, &job);
    if (actor->job) {
        list_push_back(&actor->job->actors, &actor->of_job);
    }
    if (spec->name[0] != '\0' && actor->row.state != RAY__GCS__ACTOR_STATE__DEAD &&
        !actor->row.out_of_scope) {
        TRY(map_insert(&gcs->names, &actor->by_name,
                       gcs_name_hash(spec->actor_namespace, spec->name)));
        actor->in_names = true;
    }
    if (gcs_take_id(&spec->owner_worker_id, actor->owner.b, sizeof(actor->owner.b)) &&
        actor->row.state != RAY__GCS__ACTOR_STATE__DEAD) {
        TRY(map_insert(&gcs->owners, &actor->by_owner,
                       id_hash(actor->owner.b, sizeof(actor->owner.b))));
        actor->in_owners = true;
    }
    if (!actor->known) {
        list_remove(&actor->order); /* of those that were only watched */
    }
    actor->known = true;
    return ST_OK;
}

/* ---- processes that have ended --------------------------------------------------------------- */

static struct gcs_gone *
find_gone(const struct gcs *gcs, const struct id_worker *id)
{
    struct map_link *l;
    MAP_FOR_HASH (l, &gcs->gone, id_hash(id->b, sizeof(id->b))) {
        struct gcs_gone *gone = CONTAINER_OF(l, struct gcs_gone, link);
        if (ID_EQ(gone->id, *id)) {
            return gone;
        }
    }
    return NULL;
}

void
gcs_gone_free(struct gcs *gcs, struct gcs_gone *gone)
{
    map_remove(&gcs->gone, &gone->link);
    list_remove(&gone->order);
    mem_free(gcs->mem, gone, sizeof(*gone));
}

static void
remember_gone(struct gcs *gcs, const struct id_worker *id)
{
    struct gcs_gone *gone = find_gone(gcs, id) ? NULL : mem_alloc(gcs->mem, sizeof(*gone));
    if (!gone) {
        return;
    }
    *gone = (struct gcs_gone){ .id = *id };
    if (map_insert(&gcs->gone, &gone->link, id_hash(id->b, sizeof(id->b))) != ST_OK) {
        mem_free(gcs->mem, gone, sizeof(*gone));
        return;
    }
    list_push_back(&gcs->gone_list, &gone->order);
    if (gcs->gone.count > GCS_GONE_MAX) {
        gcs_gone_free(gcs, LIST_ENTRY(gcs->gone_list.next, struct gcs_gone, order));
    }
}

/* Whether this request can be served; else why not. */
static int
may_create(struct gcs *gcs, const Ray__Gcs__CreateActor *msg)
{
    struct id_job job;
    (void)gcs_take_id(&msg->job_id, job.b, sizeof(job.b));
    const struct gcs_job *of = gcs_find_job(gcs, &job);
    struct id_worker owner;
    const bool by_driver = of && gcs_take_id(&msg->owner_worker_id, owner.b, sizeof(owner.b)) &&
                           ID_EQ(owner, of->driver);
    if (!of || (of->row.ended_ms != 0 && (by_driver || !gcs_job_goes_on(of)))) {
        return st_fail(ST_NOT_FOUND, "the actor's job has ended");
    }
    if ((!msg->detached || msg->register_only) &&
        gcs_take_id(&msg->owner_worker_id, owner.b, sizeof(owner.b)) &&
        find_gone(gcs, &owner)) { /* the news of its end has overtaken what it had asked for */
        return st_fail(ST_OWNER_DIED, "the process that creates the actor has died");
    }
    if (msg->name[0] != '\0' && gcs_find_named(gcs, msg->actor_namespace, msg->name)) {
        return st_fail(ST_EXISTS,
                       "The name %s (namespace=%s) is already taken by a living actor. Use another "
                       "name, or get that actor with its name.",
                       msg->name, msg->actor_namespace);
    }
    if (gcs->actor_count >= gcs->config.actors_max) {
        return st_fail(ST_LIMIT, "there are %u actors already", gcs->actor_count);
    }
    return ST_OK;
}

static void
unlink_new(struct gcs *gcs, struct gcs_actor *actor)
{
    leave_indexes(gcs, actor);
    map_remove(&gcs->actors, &actor->by_id);
    gcs_actor_free(gcs, actor);
}

/* What was registered gets the rest of its spec, unless it has ended meanwhile. */
static int
complete(struct gcs *gcs, struct gcs_actor *actor, const Ray__Gcs__CreateActor *msg)
{
    if (actor->row.state != RAY__GCS__ACTOR_STATE__DEPENDENCIES_UNREADY || msg->register_only) {
        return ST_OK;
    }
    /* Under which name, and whose it is, stays as it was registered. */
    Ray__Gcs__CreateActor whole = *msg;
    const Ray__Gcs__CreateActor *was = actor->row.spec;
    whole.name = was->name;
    whole.actor_namespace = was->actor_namespace;
    whole.job_id = was->job_id;
    whole.owner_worker_id = was->owner_worker_id;
    whole.detached = was->detached;
    Ray__Gcs__CreateActor *spec = gcs_copy_message(gcs, &whole.base);
    if (!spec) {
        return st_fail(ST_OUT_OF_MEMORY, "no memory for an actor");
    }
    gcs_free_message(gcs, actor->row.spec);
    actor->row.spec = spec;
    actor->row.state = RAY__GCS__ACTOR_STATE__PENDING_CREATION;
    gcs_actor_changed(gcs, actor);
    gcs_actor_start(gcs, actor);
    return ST_OK;
}

/* An actor that its creator tells of for the first time; `actor` when it is watched already. */
static int
create(struct gcs *gcs, struct gcs_actor *actor, const struct id_actor *id,
       const Ray__Gcs__CreateActor *msg)
{
    TRY(may_create(gcs, msg));
    if (!actor) {
        actor = gcs_actor_new(gcs, id);
    }
    if (!actor) {
        return st_fail(ST_OUT_OF_MEMORY, "no memory for an actor");
    }
    actor->row.unknown_id = (ProtobufCBinaryData){ 0 };
    actor->row.state = msg->register_only ? RAY__GCS__ACTOR_STATE__DEPENDENCIES_UNREADY
                                          : RAY__GCS__ACTOR_STATE__PENDING_CREATION;
    actor->row.created_ms = gcs_wall_ms(gcs);
    const int status = adopt_spec(gcs, actor, msg);
    if (status != ST_OK) {
        unlink_new(gcs, actor);
        return status;
    }
    gcs->actor_count++;
    gcs_actor_changed(gcs, actor);
    if (actor->killed_unknown) {
        gcs_actor_die(gcs, actor, ST_ACTOR_DIED, KILLED);
    } else if (!msg->register_only) {
        gcs_actor_start(gcs, actor);
    }
    return ST_OK;
}

int
gcs_on_create_actor(struct gcs *gcs, const struct step_in *in, struct step_outs *outs)
{
    const Ray__Gcs__CreateActor *msg = in->msg;
    TRY(check_spec(msg));
    struct id_actor id;
    (void)gcs_take_id(&msg->actor_id, id.b, sizeof(id.b));
    struct gcs_actor *actor = gcs_find_actor(gcs, &id);
    /* Known: registered before, or asked for again after a lost connection. */
    const int status =
        actor && actor->known ? complete(gcs, actor, msg) : create(gcs, actor, &id, msg);
    gcs_emit_done(outs, in, status, status == ST_OK ? NULL : st_last()->text);
    return ST_OK;
}

/* It was killed before its creator told of it: that ends it, or shows that there is no such actor.
 */
static void
set_killed_unknown(struct gcs_actor *actor)
{
    actor->killed_unknown = true;
    actor->row.unknown_id.data = actor->id.b;
    actor->row.unknown_id.len = sizeof(actor->id.b);
}

int
gcs_on_load_actor(struct gcs *gcs, const Ray__Gcs__ActorRow *row)
{
    struct id_actor id;
    if (gcs_take_id(&row->unknown_id, id.b, sizeof(id.b)) && !gcs_find_actor(gcs, &id)) {
        struct gcs_actor *killed = gcs_unknown_actor(gcs, &id);
        if (!killed) {
            return st_fail(ST_OUT_OF_MEMORY, "no memory for an actor");
        }
        set_killed_unknown(killed);
        return ST_OK;
    }
    if (!row->spec || check_spec(row->spec) ||
        !gcs_take_id(&row->spec->actor_id, id.b, sizeof(id.b)) || gcs_find_actor(gcs, &id)) {
        return st_fail(ST_PROTOCOL, "a stored actor makes no sense");
    }
    struct gcs_actor *actor = gcs_actor_new(gcs, &id);
    if (!actor) {
        return st_fail(ST_OUT_OF_MEMORY, "no memory for an actor");
    }
    Ray__Gcs__ActorRow *to = &actor->row;
    to->state = row->state;
    to->incarnation = row->incarnation;
    to->pid = row->pid;
    to->constructed = row->constructed;
    to->out_of_scope = row->out_of_scope;
    to->status = row->status;
    to->never_started = row->never_started;
    to->created_ms = row->created_ms;
    to->started_ms = row->started_ms;
    to->ended_ms = row->ended_ms;
    to->restarts = row->restarts;
    to->killed = row->killed;
    to->kept_token = row->kept_token;
    gcs_set_string(gcs, &to->peer_socket, row->peer_socket);
    gcs_set_string(gcs, &to->reason, row->reason);
    gcs_set_bytes(gcs, &to->failure, &row->failure);
    set_worker(actor, &row->worker_id);
    if (gcs_take_id(&row->node_id, actor->node_id.b, sizeof(actor->node_id.b))) {
        to->node_id.data = actor->node_id.b;
        to->node_id.len = sizeof(actor->node_id.b);
    }
    const int status = adopt_spec(gcs, actor, row->spec);
    if (status != ST_OK) {
        unlink_new(gcs, actor);
        return status;
    }
    gcs->actor_count++;
    if (to->state == RAY__GCS__ACTOR_STATE__DEAD) {
        enter_dead(gcs, actor);
    }
    return ST_OK;
}

/* ---- what raylets tell ----------------------------------------------------------------------- */

/* The actor of a message, if the message is about its present incarnation. */
static struct gcs_actor *
find_current(const struct gcs *gcs, const ProtobufCBinaryData *id, uint64_t incarnation)
{
    struct id_actor actor_id;
    if (!gcs_take_id(id, actor_id.b, sizeof(actor_id.b))) {
        return NULL;
    }
    struct gcs_actor *actor = gcs_find_actor(gcs, &actor_id);
    return actor && actor->known && actor->row.incarnation == incarnation &&
                   actor->row.state != RAY__GCS__ACTOR_STATE__DEAD
               ? actor
               : NULL;
}

/* One that waits for arguments has nobody any more who would send them. */
bool
gcs_ends_with_creator(const struct gcs_actor *actor)
{
    return actor->row.state != RAY__GCS__ACTOR_STATE__DEAD &&
           (!actor->row.spec->detached ||
            actor->row.state == RAY__GCS__ACTOR_STATE__DEPENDENCIES_UNREADY);
}

/* It died while it waited for its process. The order to stop may have been lost with the service
 * that gave it, and no registration names what waits. */
static void
stop_unwanted(struct gcs *gcs, const ProtobufCBinaryData *id)
{
    struct id_actor actor_id;
    struct gcs_actor *actor =
        gcs_take_id(id, actor_id.b, sizeof(actor_id.b)) ? gcs_find_actor(gcs, &actor_id) : NULL;
    if (actor && actor->known && actor->row.state == RAY__GCS__ACTOR_STATE__DEAD) {
        gcs_actor_stop(gcs, actor, false, "it has ended");
    }
}

int
gcs_on_actor_placed(struct gcs *gcs, const Ray__Gcs__ActorPlaced *msg)
{
    struct gcs_actor *actor = find_current(gcs, &msg->actor_id, msg->incarnation);
    if (!actor) {
        stop_unwanted(gcs, &msg->actor_id);
        return ST_OK;
    }
    actor->row.state = RAY__GCS__ACTOR_STATE__ALIVE;
    actor->row.pid = msg->pid;
    actor->row.started_ms = gcs_wall_ms(gcs);
    set_worker(actor, &msg->worker_id);
    gcs_set_string(gcs, &actor->row.peer_socket, msg->peer_socket);
    actor->want_start = false;
    gcs_actor_changed(gcs, actor);
    if (actor->row.killed) { /* while it had no process */
        gcs_actor_stop(gcs, actor, false, "ray.kill");
    }
    return ST_OK;
}

int
gcs_on_actor_not_placed(struct gcs *gcs, const Ray__Gcs__ActorNotPlaced *msg)
{
    struct gcs_actor *actor = find_current(gcs, &msg->actor_id, msg->incarnation);
    if (actor) {
        gcs_actor_die(gcs, actor, msg->status ? msg->status : ST_ACTOR_DIED, msg->text);
    }
    return ST_OK;
}

int
gcs_on_actor_built(struct gcs *gcs, const Ray__Node__ActorConstructed *msg)
{
    struct gcs_actor *actor = find_current(gcs, &msg->actor_id, msg->incarnation);
    if (!actor) {
        return ST_OK;
    }
    if (msg->status != ST_OK) {
        gcs_set_bytes(gcs, &actor->row.failure, &msg->failure);
        actor->row.kept_token = msg->kept_token;
        gcs_actor_die(gcs, actor, ST_ACTOR_INIT_FAILED, "its constructor raised an error");
        gcs_actor_stop(gcs, actor, true, "its constructor failed");
        return ST_OK;
    }
    actor->row.constructed = true;
    actor->row.kept_token = msg->kept_token;
    gcs_actor_changed(gcs, actor);
    if (actor->row.out_of_scope) {
        gcs_actor_stop(gcs, actor, true, "nothing refers to it");
    }
    return ST_OK;
}

int
gcs_on_actor_exited(struct gcs *gcs, const Ray__Gcs__ActorExited *msg)
{
    struct gcs_actor *actor = find_current(gcs, &msg->actor_id, msg->incarnation);
    if (actor) {
        gcs_actor_end_of_process(gcs, actor, msg->intended, msg->evidence);
    }
    return ST_OK;
}

int
gcs_on_process_gone(struct gcs *gcs, const Ray__Gcs__ProcessGone *msg)
{
    struct id_worker owner;
    if (!gcs_take_id(&msg->worker_id, owner.b, sizeof(owner.b))) {
        return st_fail(ST_PROTOCOL, "a worker id of %zu bytes", msg->worker_id.len);
    }
    remember_gone(gcs, &owner);
    const uint64_t hash = id_hash(owner.b, sizeof(owner.b));
    struct map_link *next = NULL;
    for (struct map_link *l = map_first(&gcs->owners, hash); l; l = next) {
        next = map_next_same(l);
        struct gcs_actor *actor = CONTAINER_OF(l, struct gcs_actor, by_owner);
        if (ID_EQ(actor->owner, owner) && gcs_ends_with_creator(actor)) {
            gcs_actor_die(gcs, actor, ST_ACTOR_DIED,
                          "the process that created it has died, and it is not detached");
            gcs_actor_stop(gcs, actor, false, "its creator has died");
        }
    }
    return ST_OK;
}

/* ---- what its users tell --------------------------------------------------------------------- */

int
gcs_on_out_of_scope(struct gcs *gcs, const struct step_in *in, struct step_outs *outs)
{
    const Ray__Gcs__ActorOutOfScope *msg = in->msg;
    struct id_actor id;
    if (!gcs_take_id(&msg->actor_id, id.b, sizeof(id.b))) {
        return st_fail(ST_PROTOCOL, "an actor id of %zu bytes", msg->actor_id.len);
    }
    gcs_emit_done(outs, in, ST_OK, NULL);
    struct gcs_actor *actor = gcs_find_actor(gcs, &id);
    if (!actor || !actor->known || actor->row.out_of_scope || actor->row.spec->detached ||
        actor->row.state == RAY__GCS__ACTOR_STATE__DEAD) {
        return ST_OK;
    }
    actor->row.out_of_scope = true;
    gcs_actor_free_name(gcs, actor); /* from now on only who knows it already reaches it */
    gcs_actor_changed(gcs, actor);
    if (actor->row.constructed) {
        gcs_actor_stop(gcs, actor, true, "nothing refers to it");
    }
    return ST_OK;
}

int
gcs_on_kill_actor(struct gcs *gcs, const struct step_in *in, struct step_outs *outs)
{
    const Ray__Gcs__KillActor *msg = in->msg;
    struct id_actor id;
    if (!gcs_take_id(&msg->actor_id, id.b, sizeof(id.b))) {
        return st_fail(ST_PROTOCOL, "an actor id of %zu bytes", msg->actor_id.len);
    }
    struct gcs_actor *actor = gcs_find_actor(gcs, &id);
    if (actor && !actor->known && msg->no_restart) { /* it overtook its creator's word */
        set_killed_unknown(actor);
        actor->want_put = true;
        gcs_mark_dirty(gcs, actor);
        gcs_emit_done(outs, in, ST_OK, NULL);
        return ST_OK;
    }
    if (!actor || !actor->known) {
        gcs_emit_done(outs, in, ST_NOT_FOUND, "no such actor");
        return ST_OK;
    }
    /* Before its arguments are there nothing runs that could be killed and started again. */
    const bool begun = actor->row.state != RAY__GCS__ACTOR_STATE__DEPENDENCIES_UNREADY;
    if (actor->row.state != RAY__GCS__ACTOR_STATE__DEAD && (begun || msg->no_restart)) {
        if (msg->no_restart) {
            gcs_actor_die(gcs, actor, ST_ACTOR_DIED, msg->reason[0] ? msg->reason : KILLED);
        } else {
            actor->row.killed = true;
            gcs_actor_changed(gcs, actor);
        }
        /* What is still to be placed and may restart is killed when it is placed: an order to stop
         * would end the wait for a process, and nobody would hear of that. */
        if (msg->no_restart || actor->row.state == RAY__GCS__ACTOR_STATE__ALIVE) {
            gcs_actor_stop(gcs, actor, false, "ray.kill");
        }
    }
    gcs_emit_done(outs, in, ST_OK, NULL);
    return ST_OK;
}
