/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What becomes of actors: the word of ray-gcs, deaths of their processes, connections that failed,
 * and what each means for the calls that are under way.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/wk_actor.h"
#include "worker/wk_task.h"

/* ---- the word of ray-gcs ---- */

static void
fail_all(struct wk_actor *actor, struct list *calls)
{
    while (!list_is_empty(calls)) {
        struct wk_task *task = LIST_ENTRY(list_take_front(calls), struct wk_task, link);
        wk_task_fail(task, wk_actor_death(actor), OWN_SELF);
    }
}

/* The failure of a constructor, with the face's bytes, as every call gets it. */
static struct ray_value *
init_failure(const struct wk_actor *actor, const Ray__Gcs__ActorUpdate *update)
{
    struct wk_piece piece;
    struct wk_failure inner;
    const uint8_t *at = update->failure.data;
    struct ray_value *value = NULL;
    if (update->failure.len > 0 &&
        wk_piece_decode(&at, update->failure.data + update->failure.len, &piece) == ST_OK) {
        value = wk_value_of_piece(&piece);
    }
    if (!value || value->kind != WK_VALUE_ERROR) {
        ray_value_release(value);
        return NULL;
    }
    wk_value_read_failure(value, &inner);
    inner.status = ST_ACTOR_INIT_FAILED;
    inner.actor_init_failed = true;
    inner.actor_id = actor->id.b;
    inner.class_name = actor->class_name;
    struct ray_value *failure = wk_value_create_failure(&inner);
    ray_value_release(value);
    return failure;
}

void
wk_actor_die(struct wk_actor *actor, int status, const char *reason,
             const Ray__Gcs__ActorUpdate *update)
{
    if (actor->state == ACTOR_DEAD) {
        return;
    }
    actor->state = ACTOR_DEAD;
    if (update) {
        actor->death = init_failure(actor, update);
    }
    if (!actor->death) {
        const struct wk_failure failure = {
            .status = status < 0 ? status : ST_ACTOR_DIED,
            .pid = update ? update->pid : 0,
            .never_started = update && update->never_started,
            .actor_id = actor->id.b,
            .class_name = actor->class_name,
            .node_ip = update && *update->node_ip ? update->node_ip : wk.node_ip,
            .text = reason && *reason ? reason : "The actor died unexpectedly.",
        };
        actor->death = wk_value_create_failure(&failure);
    }
    wk_actor_end_creation(actor, actor->constructed > actor->incarnation ? OWN_SELF
                                                                         : wk_actor_proc(actor));
    fail_all(actor, &actor->limbo);
    wk_actor_mark_dirty(actor);
}

/* False: that process is known to be dead, this is old news; the next update tells. */
static bool
set_place(struct wk_actor *actor, const Ray__Gcs__ActorUpdate *update)
{
    struct own_addr addr = { .node = wk.self.node };
    if (update->worker_id.len != sizeof(addr.worker.b)) {
        return false;
    }
    memcpy(addr.worker.b, update->worker_id.data, sizeof(addr.worker.b));
    struct wk_peer *peer = wk_peer_get(&addr);
    if (!peer || peer->announced) {
        return false;
    }
    if (actor->peer && actor->peer != peer) {
        if (actor->last_peer) {
            return false; /* two deaths are still to be told; the first asks anew for the place */
        }
        /* Restarted before the first process's death was told: that one settles its calls. */
        actor->last_peer = actor->peer;
    }
    if (!*peer->socket) {
        (void)snprintf(peer->socket, sizeof(peer->socket), "%s", update->peer_socket);
    }
    peer->pid = update->pid;
    wk_peer_watch(peer); /* its death ends what it may have kept of the constructor's arguments */
    peer->actor = actor;
    actor->peer = peer;
    actor->state = ACTOR_ALIVE;
    return true;
}

/* Whether a call that an attempt has failed is made again. */
bool
wk_actor_call_again(struct wk_task *task)
{
    if (task->retries_left == 0) {
        return false;
    }
    if (task->retries_left > 0) {
        task->retries_left--;
    }
    task->attempt++;
    return true;
}

/* Calls that were in flight: what had not begun, or may run again, goes again, in order, before
 * what is queued. */
static void
leave_limbo(struct wk_actor *actor)
{
    struct list again;
    list_init(&again);
    while (!list_is_empty(&actor->limbo)) {
        struct wk_task *task = LIST_ENTRY(list_take_front(&actor->limbo), struct wk_task, link);
        if (task->push.number == 0 /* settled as unstarted */ || wk_actor_call_again(task)) {
            list_push_back(&again, &task->link);
            continue;
        }
        const struct wk_failure failure = {
            .status = ST_ACTOR_UNAVAILABLE,
            .actor_id = actor->id.b,
            .class_name = actor->class_name,
            .node_ip = wk.node_ip,
            .text = "its process died while the call ran, and it is being restarted",
        };
        wk_task_fail(task, wk_value_create_failure(&failure), OWN_SELF);
    }
    list_splice_back(&again, &actor->queue);
    list_splice_back(&actor->queue, &again);
}

void
wk_actor_on_update(const uint8_t *body, size_t size)
{
    Ray__Gcs__ActorUpdate *update = ray__gcs__actor_update__unpack(NULL, size, body);
    struct id_actor id;
    struct wk_actor *actor = NULL;
    if (update && update->actor_id.len == sizeof(id.b)) {
        memcpy(id.b, update->actor_id.data, sizeof(id.b));
        actor = wk_actor_find(&id);
    }
    if (actor && actor->state != ACTOR_DEAD) {
        if (!*actor->class_name && *update->class_name) {
            free(actor->class_name);
            actor->class_name = strdup(update->class_name);
        }
        if (!actor->owned) { /* its creator knows */
            actor->max_pending = update->max_pending_calls;
            if (update->unordered && !actor->unordered) {
                wk_actor_unorder(actor);
            }
        }
        switch (update->state) {
        case RAY__GCS__ACTOR_STATE__ALIVE:
            if (update->incarnation < actor->incarnation) {
                break;
            }
            actor->incarnation = update->incarnation;
            if (set_place(actor, update)) {
                leave_limbo(actor);
            }
            if (update->constructed) {
                wk_actor_creation_replied(actor, update->kept_token);
            }
            break;
        case RAY__GCS__ACTOR_STATE__RESTARTING:
            actor->state = ACTOR_RESTARTING;
            leave_limbo(actor);
            break;
        case RAY__GCS__ACTOR_STATE__DEAD:
            wk_actor_die(actor, update->status, update->reason, update);
            break;
        case RAY__GCS__ACTOR_STATE__DEPENDENCIES_UNREADY:
        case RAY__GCS__ACTOR_STATE__PENDING_CREATION:
        case _RAY__GCS__ACTOR_STATE_IS_INT_SIZE:
            break;
        }
        wk_actor_mark_dirty(actor);
        wk_changed();
    }
    if (update) {
        ray__gcs__actor_update__free_unpacked(update, NULL);
    }
}

/* ---- deaths ---- */

/* It may have begun there, and lent its arguments on; what becomes of it is known later. */
static void
attempt_died(struct wk_task *task, const struct wk_peer *peer)
{
    struct wk_outs o;
    (void)!own_task_failed(&wk.own, task->refs, task->ref_count,
                           peer->proc != UINT32_MAX ? peer->proc : OWN_SELF, false,
                           wk_outs_begin(&o));
    wk_outs_end(&o);
}

static int
by_sequence(const void *a, const void *b)
{
    struct wk_task *const *x = a;
    struct wk_task *const *y = b;
    return (*x)->sequence < (*y)->sequence ? -1 : 1;
}

void
wk_actor_on_link_failed(struct wk_actor *actor, struct wk_link *link)
{
    struct wk_task *found[WK_CALLS_WORDS];
    size_t n = 0;
    for (uint32_t i = 0; link->inflight && i < link->window->n_used; i++) {
        if (link->inflight[i] && link->inflight[i]->actor == actor) {
            found[n++] = link->inflight[i];
        }
    }
    qsort(found, n, sizeof(found[0]), by_sequence);
    while (n-- > 0) { /* last first, so that the queue begins with the first */
        struct wk_task *task = found[n];
        const bool again = net_window_recall(link->window, &task->push);
        wk_task_forget_pushed(task);
        if (again) {
            list_push_front(&actor->queue, &task->link);
            continue;
        }
        const struct wk_failure failure = {
            .status = ST_ACTOR_UNAVAILABLE,
            .actor_id = actor->id.b,
            .class_name = actor->class_name,
            .node_ip = wk.node_ip,
            .text = "the connection with its process ended while the call ran",
        };
        wk_task_fail(task, wk_value_create_failure(&failure), OWN_SELF);
    }
    wk_actor_mark_dirty(actor);
}

/* The actor's process is dead; what it sent has been read. */
void
wk_actor_on_peer_death(struct wk_actor *actor, struct wk_peer *peer)
{
    struct wk_task *found[WK_CALLS_WORDS];
    struct wk_link *link = peer->out;
    size_t n = 0;
    for (uint32_t i = 0; link && link->inflight && i < link->window->n_used; i++) {
        if (link->inflight[i] && link->inflight[i]->actor == actor) {
            found[n++] = link->inflight[i];
        }
    }
    qsort(found, n, sizeof(found[0]), by_sequence);
    for (size_t i = 0; i < n; i++) {
        enum net_window_state state = NET_WINDOW_STARTED;
        (void)!net_window_look(link->window, &found[i]->push, &state);
        wk_task_forget_pushed(found[i]);
        if (state != NET_WINDOW_STARTED) {
            found[i]->push.number = 0;
        } else {
            attempt_died(found[i], peer);
        }
        list_push_back(&actor->limbo, &found[i]->link);
    }
    if (actor->creation && actor->constructed <= actor->incarnation) {
        attempt_died(actor->creation, peer);
    }
    peer->actor = NULL;
    if (actor->last_peer == peer) {
        actor->last_peer = NULL;
    }
    if (actor->peer == peer) {
        actor->peer = NULL;
        actor->state = actor->state == ACTOR_ALIVE ? ACTOR_UNKNOWN : actor->state;
    }
    if (actor->state == ACTOR_DEAD) {
        fail_all(actor, &actor->limbo);
    }
    wk_actor_mark_dirty(actor);
    wk_actor_watch(actor);
}
