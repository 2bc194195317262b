/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who wants to know of which actor, and the pump that turns changed actors into outs.
 *
 * A watch may come before its actor is known, since creator and borrower talk over different
 * connections: such an actor is kept as unknown for a while, then its watchers are told that there
 * is none, so that nobody waits for ever.
 */
#include <string.h>

#include "gcs/gcs_priv.h"
#include "proto/kinds.h"

void
gcs_watch_free(struct gcs *gcs, struct gcs_watch *watch)
{
    struct gcs_peer *peer = gcs_find_peer(gcs, watch->peer);
    if (peer) {
        peer->watch_count--;
    }
    gcs->watch_count--;
    list_remove(&watch->of_actor);
    list_remove(&watch->of_peer);
    mem_free(gcs->mem, watch, sizeof(*watch));
}

struct gcs_actor *
gcs_unknown_actor(struct gcs *gcs, const struct id_actor *id)
{
    struct gcs_actor *actor = gcs_actor_new(gcs, id);
    if (actor) {
        actor->unknown_until_ns = gcs->now_ns + gcs->config.unknown_watch_ns;
        list_push_back(&gcs->unknown_actors, &actor->order);
    }
    return actor;
}

int
gcs_on_watch_actor(struct gcs *gcs, const struct step_in *in)
{
    const Ray__Gcs__WatchActor *msg = in->msg;
    struct id_actor id;
    if (!gcs_take_id(&msg->actor_id, id.b, sizeof(id.b))) {
        return st_fail(ST_PROTOCOL, "an actor id of %zu bytes", msg->actor_id.len);
    }
    struct gcs_peer *peer = gcs_find_peer(gcs, in->peer);
    ASSERT(peer);
    if (peer->watch_count >= GCS_PEER_WATCHES_MAX) {
        return st_fail(ST_LIMIT, "more than %d watches", GCS_PEER_WATCHES_MAX);
    }
    struct gcs_actor *actor = gcs_find_actor(gcs, &id);
    if (!actor) {
        actor = gcs_unknown_actor(gcs, &id);
    }
    struct gcs_watch *watch = actor ? mem_alloc(gcs->mem, sizeof(*watch)) : NULL;
    if (!watch) {
        return st_fail(ST_OUT_OF_MEMORY, "no memory for a watch");
    }
    *watch = (struct gcs_watch){ .actor = actor, .peer = in->peer };
    list_push_back(&actor->watches, &watch->of_actor);
    list_push_back(&peer->watches, &watch->of_peer);
    peer->watch_count++;
    gcs->watch_count++;
    if (actor->known) {
        actor->want_notify = true;
        gcs_mark_dirty(gcs, actor);
    }
    return ST_OK;
}

/* Watchers of actors that nobody created in time learn that there is none. */
void
gcs_expire_unknown(struct gcs *gcs)
{
    for (;;) {
        struct list *first = list_first(&gcs->unknown_actors);
        if (!first) {
            return;
        }
        struct gcs_actor *actor = LIST_ENTRY(first, struct gcs_actor, order);
        if (actor->unknown_until_ns > gcs->now_ns) {
            return;
        }
        list_remove(&actor->order);
        map_remove(&gcs->actors, &actor->by_id);
        actor->row.state = RAY__GCS__ACTOR_STATE__DEAD;
        actor->row.status = ST_ACTOR_DIED;
        actor->row.never_started = true;
        gcs_set_string(gcs, &actor->row.reason,
                       "no such actor is known; it ended so long ago that it was forgotten, or it "
                       "was never created");
        actor->want_notify = true;
        list_remove(&actor->dirty);
        list_push_back(&gcs->erase_actors, &actor->dirty);
    }
}

/* ---- the pump -------------------------------------------------------------------------------- */

static void
emit_update(struct gcs_actor *actor, uint64_t peer, struct step_outs *outs)
{
    Ray__Gcs__ActorUpdate *m =
        gcs_emit(outs, GCS_ACTOR_UPDATE, peer, 0, &ray__gcs__actor_update__descriptor);
    if (!m) {
        return;
    }
    const Ray__Gcs__ActorRow *row = &actor->row;
    m->actor_id.data = actor->id.b;
    m->actor_id.len = sizeof(actor->id.b);
    m->state = row->state;
    m->incarnation = row->incarnation;
    m->worker_id = row->worker_id;
    m->peer_socket = row->peer_socket;
    m->pid = row->pid;
    m->status = row->status;
    m->reason = row->reason;
    m->failure = row->failure;
    m->never_started = row->never_started;
    m->constructed = row->constructed;
    m->kept_token = row->kept_token;
    if (row->spec) {
        m->class_name = row->spec->class_name;
        m->name = row->spec->name;
        m->actor_namespace = row->spec->actor_namespace;
        m->unordered = row->spec->unordered;
        m->max_pending_calls = row->spec->max_pending_calls;
    }
    if (actor->node) {
        m->node_ip = actor->node->info->node_ip;
    }
}

/* Tells watchers as far as there is room. True when all have been told. */
static bool
pump_updates(struct gcs_actor *actor, struct step_outs *outs)
{
    LIST_FOR (l, &actor->watches) {
        struct gcs_watch *watch = LIST_ENTRY(l, struct gcs_watch, of_actor);
        if (watch->told) {
            continue;
        }
        if (outs->count >= outs->capacity) {
            return false;
        }
        emit_update(actor, watch->peer, outs);
        watch->told = true;
    }
    actor->want_notify = false;
    return true;
}

static void
emit_start(struct gcs_actor *actor, struct step_outs *outs)
{
    Ray__Gcs__StartActor *m =
        gcs_emit(outs, GCS_START_ACTOR, actor->node->peer, 0, &ray__gcs__start_actor__descriptor);
    if (m) {
        m->actor = actor->row.spec;
        m->incarnation = actor->row.incarnation;
    }
}

static void
emit_stop(struct gcs_actor *actor, struct step_outs *outs)
{
    Ray__Gcs__StopActor *m =
        gcs_emit(outs, GCS_STOP_ACTOR, actor->node->peer, 0, &ray__gcs__stop_actor__descriptor);
    if (m) {
        m->actor_id.data = actor->id.b;
        m->actor_id.len = sizeof(actor->id.b);
        m->incarnation = actor->row.incarnation;
        m->graceful = actor->stop_graceful;
        m->reason = (char *)(uintptr_t)actor->stop_reason; /* only read: it is packed */
    }
}

/* True when everything that the actor wants has been emitted. */
static bool
pump_actor(struct gcs_actor *actor, struct step_outs *outs)
{
    if (outs->capacity - outs->count < 3) {
        return false;
    }
    if (actor->want_put) {
        gcs_emit_put(outs, GCS_TABLE_ACTORS, actor->id.b, sizeof(actor->id.b), &actor->row);
        actor->want_put = false;
    }
    const bool reachable = actor->node && actor->node->peer != 0;
    if (actor->want_start && reachable) {
        emit_start(actor, outs);
    }
    if (actor->want_stop && reachable) {
        emit_stop(actor, outs);
    }
    /* To a raylet that can't be reached both are said again when it registers. */
    actor->want_start = false;
    actor->want_stop = false;
    return !actor->want_notify || pump_updates(actor, outs);
}

void
gcs_pump_actors(struct gcs *gcs, struct step_outs *outs)
{
    gcs_forget_oldest(gcs);
    LIST_FOR_SAFE (l, next, &gcs->dirty_actors) {
        struct gcs_actor *actor = LIST_ENTRY(l, struct gcs_actor, dirty);
        if (!pump_actor(actor, outs)) {
            outs->more = true;
            return;
        }
        list_remove(&actor->dirty);
    }
    LIST_FOR_SAFE (l, next, &gcs->erase_actors) {
        struct gcs_actor *actor = LIST_ENTRY(l, struct gcs_actor, dirty);
        if (outs->capacity - outs->count < 1 ||
            (actor->want_notify && !pump_updates(actor, outs)) ||
            outs->capacity - outs->count < 1) {
            outs->more = true;
            return;
        }
        if (actor->known || actor->killed_unknown) {
            gcs_emit_put(outs, GCS_TABLE_ACTORS, actor->id.b, sizeof(actor->id.b), NULL);
        }
        list_remove(&actor->dirty);
        list_push_back(&gcs->freed_actors, &actor->dirty); /* the outs still point into it */
    }
}
