/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tasks from the owner's side: queueing by scheduling key, pushing to leases, the end.
 *
 * submit -> (WAITING for arguments) -> READY in its key's queue -> PUSHED in a window -> replied.
 * A pushed task can come back: recalled by us, bounced by its worker, or found unstarted when its
 * worker died; then it is READY again and is charged nothing. Started and lost, it is charged one
 * of its retries. wk_lease decides where and how many; this file does it,
 * with wk_grant.c for the words with the raylet and wk_reply.c for what comes back.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/heap.h"
#include "os/os_basic.h"
#include "worker/wk_actor.h"
#include "worker/wk_exec.h"
#include "worker/wk_inbox.h"
#include "worker/wk_lineage.h"
#include "worker/wk_priv.h"
#include "worker/wk_task.h"

#define PUSH_LATER_NS UINT64_C(50000000)

/* ---- queues ---- */

/* The task's arguments are all here. */
void
wk_task_make_ready(struct wk_task *task)
{
    task->state = WK_TASK_READY;
    if (task->actor) {
        wk_actor_ready(task->actor, task);
        return;
    }
    struct wk_key *key = task->key;
    list_push_back(&key->ready, &task->link);
    key->ready_count++;
    wk_lease_on_ready(&wk.leases, key->lease_key, 1, task->depth, wk_now());
    wk_key_mark_dirty(key);
}

/* A pushed task is the key's again, ahead of those that never were pushed. The lease client has
 * been told, or will be, by whoever calls. */
void
wk_task_take_back(struct wk_task *task)
{
    wk_task_forget_pushed(task);
    task->state = WK_TASK_READY;
    list_push_front(&task->key->ready, &task->link);
    task->key->ready_count++;
    wk_key_mark_dirty(task->key);
}

/* ---- submission ---- */

int
wk_task_submit(struct ray_function *function, struct ray_options *options,
               const struct ray_arg *args, size_t arg_count, ray_ref **refs,
               struct ray_stream **stream)
{
    static uint32_t submissions;
    if (!options) {
        options = wk_options_default();
    }
    if (!options || arg_count > OWN_ITEMS_MAX) {
        return st_fail(ST_INVALID_ARGUMENT, "%zu arguments", arg_count);
    }
    TRY(wk_enter());
    const struct id_actor none = id_actor_nil_of(&wk.job);
    const struct id_task by = wk_id_source()->task;
    const struct id_task id = id_source_child(wk_id_source(), &none);
    struct wk_key *key = wk_options_key(options);
    struct wk_task *task = NULL;
    int status = key ? wk_task_create(function, options, args, arg_count, &id, &task)
                     : st_fail(ST_OUT_OF_MEMORY, "no memory for a scheduling key");
    if (status == ST_OK) {
        status = wk_task_begin(task, refs);
    }
    if (status == ST_OK && arg_count > 0 && wk_task_want_args(task) != ST_OK) {
        status = ST_OUT_OF_MEMORY;
        wk_task_undo(task);
        task = NULL;
    }
    if (status == ST_OK) {
        if (stream) {
            *stream = wk_stream_give(task);
        }
        task->key = key;
        task->depth = wk_depth();
        if (!*key->lease_key->name) {
            (void)snprintf(key->lease_key->name, sizeof(key->lease_key->name), "%s",
                           function->name);
        }
        wk.tasks_pending++;
        struct wk_exec *parent = wk_submitter(&by);
        if (parent) {
            list_push_back(&parent->children, &task->sibling);
        }
        if (task->deps_pending == 0) {
            wk_task_make_ready(task);
            wk_pump();
        }
        if (wk.tasks_pending > 1) {
            wk_keep_ticking();
        }
        if (++submissions % 16 == 0) {
            wk_poll();
        }
    } else if (task) {
        wk_task_abandon(task);
    }
    wk_unlock();
    return status;
}

RAY_API int
ray_task_submit(ray_function *function, ray_options *options, const struct ray_arg *args,
                size_t arg_count, ray_ref **refs)
{
    if (options && options->generator == RAY_GENERATOR_STREAMING) {
        return st_fail(ST_INVALID_ARGUMENT, "a streaming task is submitted by ray_stream_submit");
    }
    return wk_task_submit(function, options, args, arg_count, refs, NULL);
}

RAY_API int
ray_call_bytes(ray_function *function, const void *data, size_t size, ray_ref **out)
{
    const struct ray_buf buf = { data, size };
    const struct ray_arg arg = { .value = { .bufs = &buf, .buf_count = 1 } };
    *out = NULL;
    return ray_task_submit(function, NULL, &arg, 1, out);
}

static void
tell_waiter(const struct wk_waiter *waiter, bool cancelled)
{
    if (waiter->inbox) {
        wk_inbox_put(waiter->inbox, waiter->ctx);
    } else {
        wk_callback_push(waiter->fn, waiter->ctx, cancelled);
    }
}

void
wk_on_ref_ready(struct own_ref *ref, uint64_t waiters)
{
    struct wk_waiter *waiter;
    memcpy(&waiter, &waiters, sizeof(waiter));
    (void)ref;
    while (waiter) {
        struct wk_waiter *next = waiter->next;
        if (waiter->task) {
            ASSERT(waiter->task->deps_pending > 0);
            if (--waiter->task->deps_pending == 0) {
                wk_task_make_ready(waiter->task);
            }
        } else {
            tell_waiter(waiter, false);
            ray_ref_release((ray_ref *)waiter->handle); /* after this lock */
        }
        free(waiter);
        waiter = next;
    }
}

/* ---- pushing ---- */

static int
send_template(struct wk_link *link, struct wk_template *t)
{
    if (t->number >= link->template_capacity) {
        const uint32_t capacity = (t->number + 64) & ~63u;
        uint8_t *grown = realloc(link->template_sent, capacity);
        if (!grown) {
            return st_fail(ST_OUT_OF_MEMORY, "no memory to keep a peer's templates");
        }
        memset(grown + link->template_capacity, 0, capacity - link->template_capacity);
        link->template_sent = grown;
        link->template_capacity = capacity;
    }
    if (link->template_sent[t->number]) {
        return ST_OK;
    }
    struct wk_frame frame;
    TRY(wk_frame_begin(&frame, link, PEER_TEMPLATE, t->frame.size));
    memcpy(frame.body, t->frame.data, t->frame.size);
    wk_frame_end(&frame, NET_BELL_CALM);
    link->template_sent[t->number] = 1;
    return ST_OK;
}

int
wk_task_push(struct wk_task *task, struct wk_link *link, uint64_t epoch)
{
    TRY(wk_link_window(link));
    TRY(send_template(link, task->tmpl));
    size_t size;
    TRY(wk_task_args_bytes(task, &size));
    size += sizeof(struct peer_push);
    TRY(net_window_post(link->window, &task->push));
    struct wk_frame frame;
    const int status = wk_frame_begin(&frame, link, PEER_PUSH, size);
    if (status != ST_OK) {
        if (net_window_recall(link->window, &task->push)) {
            (void)!net_window_free(link->window, &task->push);
        }
        return status;
    }
    const struct peer_push head = {
        .push_number = task->push.number,
        .word = task->push.word,
        .template_number = task->tmpl->number,
        .epoch = epoch,
        .sequence = task->sequence,
        .task = task->id,
        .attempt = task->attempt,
        .arg_count = task->arg_count,
        .depth = task->depth,
        .items_known = task->stream ? wk_stream_push_items(task) : 0,
    };
    memcpy(frame.body, &head, sizeof(head));
    (void)wk_task_args_encode(task, frame.body + sizeof(head));
    link->inflight[task->push.word] = task;
    link->inflight_count++;
    wk.tasks_pushed++;
    task->pushed_on = link;
    task->state = WK_TASK_PUSHED;
    wk_frame_end(&frame, NET_BELL_CALM);
    if (task->stream) {
        wk_stream_pushed(task);
    }
    return ST_OK;
}

/* A worker that can't be reached, with nothing in flight: its lease is of no use to anybody. */
static void
give_up_lease(struct wk_lease *lease, uint64_t now)
{
    const uint64_t id = lease->id;
    wk_lease_on_dead(&wk.leases, lease, 0, now);
    wk_lease_send_return(id, SCHED_RETURN_KILL);
}

void
wk_push_later(void)
{
    if (!heap_has(&wk.push_timer.node)) {
        (void)!net_loop_arm(wk.loop, &wk.push_timer, wk_now() + PUSH_LATER_NS);
    }
}

void
wk_on_push_timer(void *ctx)
{
    (void)ctx; /* wk_pump follows every dispatch */
    for (uint32_t i = 0; i < wk.wkey_count; i++) {
        if (wk.wkeys[i]) {
            wk_key_mark_dirty(wk.wkeys[i]);
        }
    }
    struct map_walk walk;
    map_walk_init(&walk);
    for (struct map_link *l; (l = map_walk_next(&wk.actors, &walk));) {
        wk_actor_mark_dirty(CONTAINER_OF(l, struct wk_actor, link));
    }
}

/* The task at the front could not be pushed. True: others may be. */
static bool
push_failed(struct wk_task *task, struct wk_lease *lease, const struct wk_link *link, int status,
            uint64_t now)
{
    if (status == ST_LIMIT) { /* no connection ever takes it */
        wk_lease_on_recalled(&wk.leases, lease, 1, false, now);
        const struct wk_failure failure = {
            .status = status,
            .text = st_last()->text,
            .function = task->function->name,
            .node_ip = wk.node_ip,
            .task_id = task->id.b,
        };
        wk_task_fail(task, wk_value_create_failure(&failure), OWN_SELF);
        return true;
    }
    list_push_front(&task->key->ready, &task->link);
    task->key->ready_count++;
    if (status == ST_SYSTEM || status == ST_OUT_OF_MEMORY) {
        wk_lease_on_recalled(&wk.leases, lease, 1, true, now);
        wk_push_later();
        return false;
    }
    /* Closed to more until it answers; a lease with nothing in flight would be picked again. */
    wk_lease_on_bounced(&wk.leases, lease, 1, now);
    if ((!link || link->broken) && lease->inflight == 0) {
        give_up_lease(lease, now);
        return true;
    }
    return !link || link->broken;
}

/* Pushes what the leases take. */
static void
push_ready(struct wk_key *key, uint64_t now)
{
    while (!list_is_empty(&key->ready)) {
        struct wk_task *task = LIST_ENTRY((&key->ready)->next, struct wk_task, link);
        struct wk_lease *lease = wk_lease_pick(&wk.leases, key->lease_key,
                                               &task->function->lease_fn, task->tmpl->alone, now);
        if (!lease) {
            return;
        }
        struct wk_lease_ref *ref;
        memcpy(&ref, &lease->user, sizeof(ref));
        struct wk_link *link = wk_peer_link(ref->peer);
        list_remove(&task->link);
        key->ready_count--;
        const int status = link ? wk_task_push(task, link, lease->epoch) : ST_CLOSED;
        if (status == ST_OK) {
            task->lease = lease;
        } else if (!push_failed(task, lease, link, status, now)) {
            return;
        }
    }
}

/* A worker that owns what others refer to isn't ended for being idle. That it owns nothing any more
 * is said only when nothing runs, so that a busy one doesn't say both over and over. */
void
wk_tell_owning(void)
{
    const bool owning = own_is_needed(&wk.own);
    if (owning == wk.told_owning || (!owning && (wk_is_running() || wk.exec_count > 0))) {
        return;
    }
    Ray__Node__Owning message = RAY__NODE__OWNING__INIT;
    message.owning = owning;
    storec_status_flags(wk.store, owning ? STORE_STATUS_OWNING : 0,
                        owning ? 0 : STORE_STATUS_OWNING);
    if (wk_node_send(NODE_OWNING, (const ProtobufCMessage *)&message, 0) == ST_OK) {
        wk.told_owning = owning;
    }
}

/* Lets the lease client say what it has to say. */
static void
lease_speak(uint64_t now)
{
    struct wk_outs o;
    do {
        struct step_outs *outs = wk_outs_begin(&o);
        wk_lease_pump(&wk.leases, now, outs);
        for (uint32_t i = 0; i < outs->count; i++) {
            wk_lease_say(&outs->v[i]);
        }
        const bool more = outs->more;
        outs->count = 0;
        outs->more = false;
        wk_outs_end(&o);
        if (!more) {
            break;
        }
    } while (true);
    if (wk.leases.deadline_ns != UINT64_MAX) {
        (void)!net_loop_arm(wk.loop, &wk.lease_timer, wk.leases.deadline_ns);
    }
    while (!list_is_empty(&wk.dirty_keys)) {
        struct wk_key *key = LIST_ENTRY(list_take_front(&wk.dirty_keys), struct wk_key, dirty_link);
        push_ready(key, now);
    }
}

void
wk_pump(void)
{
    uint64_t now = 0;
    if (wk_lineage_due()) {
        wk_lineage_work();
    }
    while (!list_is_empty(&wk.dirty_keys)) {
        struct wk_key *key = LIST_ENTRY(list_take_front(&wk.dirty_keys), struct wk_key, dirty_link);
        now = now ? now : wk_now();
        push_ready(key, now);
    }
    wk_actors_pump();
    if (!list_is_empty(&wk.leases.dirty) ||
        (wk.leases.deadline_ns != UINT64_MAX && wk.leases.deadline_ns <= wk_now())) {
        do { /* what a recall brought back may need a lease, or have emptied one */
            lease_speak(now ? now : wk_now());
        } while (!list_is_empty(&wk.leases.dirty));
    }
    if (wk.ready && !wk.is_driver) {
        wk_tell_owning();
    }
    if (wk.doomed) {
        wk_end_doomed();
    }
}

/* ---- the end ---- */

/* At shutdown: who waits for a reference that will not come is told so. Tasks that wait belong to
 * nobody else, but for those of actors, which are in their queues. */
static void
cancel_waiters(void *ctx, const struct own_ref *ref)
{
    (void)ctx;
    struct own_ref *writable;
    struct wk_waiter *waiter;
    memcpy(&writable, &ref, sizeof(ref));
    memcpy(&waiter, &ref->waiters, sizeof(waiter));
    writable->waiters = 0;
    while (waiter) {
        struct wk_waiter *next = waiter->next;
        if (!waiter->task) {
            tell_waiter(waiter, true);
            (void)__atomic_sub_fetch(&writable->local, 1, __ATOMIC_ACQ_REL);
        } else if (--waiter->task->deps_pending == 0 && !waiter->task->actor) {
            wk_task_destroy(waiter->task);
        }
        free(waiter);
        waiter = next;
    }
}

static void
end_callbacks(void *ctx, const struct own_ref *ref)
{
    (void)ctx;
    struct own_ref *writable;
    struct wk_waiter *waiter, *kept = NULL;
    memcpy(&writable, &ref, sizeof(ref));
    memcpy(&waiter, &ref->waiters, sizeof(waiter));
    while (waiter) {
        struct wk_waiter *next = waiter->next;
        if (waiter->task) {
            waiter->next = kept;
            kept = waiter;
        } else {
            tell_waiter(waiter, false); /* it looks, and is told */
            free(waiter);
        }
        waiter = next;
    }
    memcpy(&writable->waiters, &kept, sizeof(kept));
}

void
wk_callbacks_end(void)
{
    own_walk(&wk.own, end_callbacks, NULL);
}

void
wk_tasks_destroy(struct list *tasks)
{
    while (!list_is_empty(tasks)) {
        wk_task_destroy(LIST_ENTRY(tasks->next, struct wk_task, link));
    }
}

void
wk_link_tasks_destroy(struct wk_link *link)
{
    for (uint32_t i = 0; link && link->inflight && i < link->window->n_used; i++) {
        if (link->inflight[i]) {
            wk_task_destroy(link->inflight[i]);
            link->inflight[i] = NULL;
        }
    }
    if (link) {
        wk.tasks_pushed -= link->inflight_count;
        link->inflight_count = 0;
    }
}

void
wk_tasks_fini(void)
{
    own_walk(&wk.own, cancel_waiters, NULL);
    wk_streams_fini();
    for (uint32_t i = 0; i < wk.wkey_count; i++) {
        if (wk.wkeys[i]) {
            wk_tasks_destroy(&wk.wkeys[i]->ready);
        }
    }
    while (!list_is_empty(&wk.lease_refs)) {
        free(LIST_ENTRY(list_take_front(&wk.lease_refs), struct wk_lease_ref, link));
    }
}
