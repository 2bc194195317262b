/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Executing: tasks that are pushed to this process, until the main thread takes them.
 *
 * Whichever thread leads decodes a push and queues it; the main thread takes it, starts it in its
 * window (unless it was recalled), runs it through the face's callback and replies (wk_run.c).
 * While the main thread's task waits for something, unstarted tasks of leases are sent back.
 */
#include <stdlib.h>
#include <string.h>

#include "worker/wk_exec.h"
#include "worker/wk_group.h"
#include "worker/wk_priv.h"

_Thread_local struct wk_exec *wk_current;

/* ---- receiving a push ---- */

void
wk_exec_free(struct wk_exec *e)
{
    while (!list_is_empty(&e->children)) { /* they go on as nobody's */
        list_remove(e->children.next);
    }
    for (uint32_t i = 0; i < e->push.arg_count; i++) {
        ray_value_release(e->views[i]);
        if (e->args[i].base) {
            e->args[i].frame = NULL;
            ray_value_release(&e->args[i]);
        }
    }
    for (int32_t i = 0; e->tmpl && e->returns && i < e->tmpl->num_returns; i++) {
        if (e->returns[i] && !e->delivered && e->returns[i]->kind == WK_VALUE_HINT) {
            wk_value_free_stored(e->returns[i]); /* its owner has not heard of it */
        }
        ray_value_release(e->returns[i]);
    }
    for (uint32_t i = 0; i < e->return_ref_count; i++) {
        struct wk_outs o;
        own_local_drop(&wk.own, e->return_refs[i], wk_outs_begin(&o));
        wk_outs_end(&o);
    }
    if (e->room_inbox) {
        wk_exec_room_end(e);
    }
    free(e->return_refs);
    free(e->arg_refs);
    if (e->returns != &e->return_one) {
        free(e->returns);
    }
    ray_value_release(e->failure);
    if (e->owns_template && e->tmpl && --e->tmpl->owners == 0) {
        wk_peer_template_free(e->tmpl);
    }
    ray_value_release(e->block);
}

/* The references inside an argument stand under the task's frame. */
static int
cover_items(struct wk_exec *e, const struct ray_value *arg, bool caller_borrows)
{
    if (e->caller == OWN_SELF) {
        return ST_OK; /* an actor calls itself: the call's own counts are in this process */
    }
    if (!e->frame) {
        e->frame = own_frame_open(&wk.own, e->caller, 0);
    }
    for (uint32_t i = 0; i < arg->item_count; i++) {
        struct own_ref *ref = e->frame ? own_frame_add(&wk.own, e->frame, &arg->items[i]) : NULL;
        if (!ref) {
            return st_fail(ST_OUT_OF_MEMORY, "no memory for the references of an argument");
        }
        if (caller_borrows) {
            struct wk_outs o;
            own_register(&wk.own, ref, wk_outs_begin(&o));
            wk_outs_end(&o);
        }
    }
    return ST_OK;
}

/* Arguments are read in place: the frame's bytes are copied once, into `block`. The values of hints
 * and of those that hold references are embedded in the exec record. */
static int
decode_args(struct wk_exec *e, size_t offset)
{
    const uint8_t *at = (const uint8_t *)e->block->data + offset;
    const uint8_t *end = (const uint8_t *)e->block->data + e->block->size;
    for (uint32_t i = 0; i < e->push.arg_count; i++) {
        struct wk_piece piece;
        TRY(wk_piece_decode(&at, end, &piece));
        if (!wk_value_embed(&piece, e->block, &e->args[i])) {
            return st_fail(ST_PROTOCOL, "an argument can't be read");
        }
        if (piece.head.item_count == 0) {
            continue;
        }
        TRY(cover_items(e, &e->args[i], (piece.head.flags & PEER_PIECE_BORROWED) != 0));
        e->args[i].frame = e->frame;
    }
    return ST_OK;
}

/* The task doesn't run here; no reply will tell what it kept. */
void
wk_exec_discard(struct wk_exec *e)
{
    if (e->frame) {
        struct wk_outs o;
        own_frame_abandon(&wk.own, e->frame, wk_outs_begin(&o));
        wk_outs_end(&o);
        e->frame = NULL;
    }
    wk_exec_free(e);
}

/* Makes the record of a push whose body is `body`. `tmpl` is borrowed. */
int
wk_exec_make(const uint8_t *body, size_t size, uint32_t caller, struct wk_exec **out)
{
    struct peer_push push;
    *out = NULL;
    if (size < sizeof(push)) {
        return st_fail(ST_PROTOCOL, "a push of %zu bytes", size);
    }
    memcpy(&push, body, sizeof(push));
    if (push.arg_count > size / sizeof(struct peer_piece)) {
        return st_fail(ST_PROTOCOL, "a push of %zu bytes with %u arguments", size, push.arg_count);
    }
    /* One block: this record, the arguments' records, their views, the body. The program may keep
     * an argument, and with it the block, longer than its task. */
    const size_t records =
        sizeof(struct wk_exec) + push.arg_count * (sizeof(struct ray_value) + sizeof(void *));
    uint8_t *data = NULL;
    struct ray_value *block = wk_value_create(WK_VALUE_INLINE, records + size, 0, &data, NULL);
    if (!block) {
        return st_fail(ST_OUT_OF_MEMORY, "no memory for a task");
    }
    memset(data, 0, records);
    memcpy(data + records, body, size);
    struct wk_exec *e = (struct wk_exec *)(void *)data;
    e->block = block;
    e->push = push;
    e->caller = caller;
    e->args = (struct ray_value *)(void *)(e + 1);
    e->views = (struct ray_value **)(void *)(e->args + push.arg_count);
    list_init(&e->link);
    list_init(&e->children);
    const int status = decode_args(e, records + sizeof(push));
    if (status != ST_OK) {
        wk_exec_discard(e);
        return status;
    }
    *out = e;
    return ST_OK;
}

/* ---- void frames ---- */

/*
 * A task that its owner has taken back leaves its frame here, void. It would be dropped in its
 * turn; but who waits behind a long call gets no turn, and its owner may go on submitting and
 * cancelling. So the queues are looked through whenever they have doubled: what is kept is bounded
 * by what is in flight, and the others keep their order.
 */
enum { SWEEP_COUNT = 1024, SWEEP_BYTES = 16 * 1024 * 1024 };

static bool
is_void(const struct wk_exec *e)
{
    const struct net_window_push push = { e->push.word, e->push.push_number };
    return e->from && !e->from->broken && !net_window_is_posted(&e->from->worker_window, &push);
}

/* Gives the bytes of what stays. */
static uint64_t
sweep_queue(struct list *queue)
{
    uint64_t bytes = 0;
    LIST_FOR_SAFE (l, next, queue) {
        struct wk_exec *e = LIST_ENTRY(l, struct wk_exec, link);
        if (is_void(e)) {
            list_remove(&e->link);
            wk.exec_count--;
            wk_exec_discard(e);
        } else {
            bytes += e->block->size;
        }
    }
    return bytes;
}

/* A push has been queued. */
void
wk_exec_queued(const struct wk_exec *e)
{
    wk.exec_count++;
    wk.swept.bytes += e->block->size;
    if (wk.exec_count < wk.swept.count_limit && wk.swept.bytes < wk.swept.bytes_limit) {
        return;
    }
    uint64_t bytes = sweep_queue(&wk.exec_queue);
    for (uint32_t i = 0; wk.groups && i < wk.groups->count; i++) {
        bytes += sweep_queue(&wk.groups->group[i].queue);
    }
    wk.swept.count_limit = wk.exec_count > SWEEP_COUNT / 2 ? wk.exec_count * 2 : SWEEP_COUNT;
    wk.swept.bytes_limit = bytes > SWEEP_BYTES ? bytes : SWEEP_BYTES;
    wk.swept.bytes = 0;
    if (wk.leaving) {
        wk_leave_changed();
    }
}

int
wk_on_push(struct wk_link *link, const uint8_t *body, size_t size)
{
    struct wk_exec *e;
    struct peer_push head;
    if (size >= sizeof(head)) {
        memcpy(&head, body, sizeof(head));
        net_window_expect(&link->worker_window, head.word);
    }
    TRY(wk_exec_make(body, size, link->peer->proc, &e));
    struct wk_peer_template *tmpl = pages_get(&link->templates, e->push.template_number);
    if (!tmpl || !link->window_memory) {
        wk_exec_discard(e);
        return st_fail(ST_PROTOCOL, "a push without its template or window");
    }
    e->from = link;
    e->caller_id = link->peer->addr.worker;
    e->tmpl = tmpl;
    wk_yield_init(&e->yield, e->tmpl->backpressure, e->push.items_known);
    if (e->push.epoch != 0 && (wk.bouncing || wk.leaving)) {
        wk_exec_bounce(e);
        return ST_OK;
    }
    if (wk.groups) {
        wk_group_push(e);
        return ST_OK;
    }
    list_push_back(&wk.exec_queue, &e->link);
    wk_exec_queued(e);
    wk_changed();
    return ST_OK;
}

/* ---- sending back ---- */

/* Sends a task of a lease back unrun, unless its owner has taken it back already. */
void
wk_exec_bounce(struct wk_exec *e)
{
    const struct net_window_push push = { e->push.word, e->push.push_number };
    struct wk_link *link = e->from;
    struct wk_frame frame;
    if (link && net_window_bounce(&link->worker_window, &push) &&
        wk_frame_begin(&frame, link, PEER_BOUNCED, sizeof(struct peer_bounced)) == ST_OK) {
        const struct peer_bounced body = { .push_number = push.number, .word = push.word };
        memcpy(frame.body, &body, sizeof(body));
        wk_frame_end(&frame, NET_BELL_URGENT);
    }
    wk_exec_discard(e);
}

void
wk_bounce_all(void)
{
    LIST_FOR_SAFE (l, next, &wk.exec_queue) {
        struct wk_exec *e = LIST_ENTRY(l, struct wk_exec, link);
        if (e->push.epoch != 0) {
            list_remove(&e->link);
            wk.exec_count--;
            wk_exec_bounce(e);
        }
    }
}

void
wk_exec_orphan(struct wk_exec *e)
{
    pages_clear(&e->from->templates, e->push.template_number);
    e->from = NULL;
    e->owns_template = true;
    e->tmpl->owners++;
    wk_exec_room_changed(e); /* it has no reader any more */
}

void
wk_exec_link_gone(struct wk_link *link)
{
    LIST_FOR_SAFE (l, next, &wk.exec_queue) {
        struct wk_exec *e = LIST_ENTRY(l, struct wk_exec, link);
        if (e->from == link) {
            list_remove(&e->link);
            wk.exec_count--;
            wk_exec_discard(e);
        }
    }
    if (wk.groups) {
        wk_groups_link_gone(link);
    }
    if (wk.current && wk.current->from == link) {
        wk_exec_orphan(wk.current);
    }
}

/* ---- the task of this thread ---- */

struct id_source *
wk_id_source(void)
{
    return wk_current ? &wk_current->source : wk.current ? &wk.current->source : &wk.source;
}

struct wk_exec *
wk_submitter(const struct id_task *task)
{
    struct wk_exec *e = wk_current ? wk_current : wk.current;
    return e && ID_EQ(e->push.task, *task) ? e : NULL;
}

uint32_t
wk_depth(void)
{
    const struct wk_exec *e = wk_current ? wk_current : wk.current;
    return e ? e->push.depth + 1 : 0;
}
