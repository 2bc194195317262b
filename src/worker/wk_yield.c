/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Generators where they run: items on their way to the owner, and waiting for its reader. See
 * docs/protocols/generators.md; the machine is struct wk_yield (wk_stream.h).
 */
#include <stdlib.h>
#include <string.h>

#include "worker/wk_exec.h"
#include "worker/wk_group.h"
#include "worker/wk_inbox.h"
#include "worker/wk_priv.h"
#include "worker/wk_task.h"

/* Bytes on their way to the owner, beyond its ring and socket: then the program waits. */
#define UNSENT_MAX ((size_t)4 * 1024 * 1024)

RAY_API enum ray_generator_kind
ray_task_generator(const ray_task *task)
{
    const uint32_t flags = wk_exec_of(task)->tmpl->flags;
    return flags & PEER_TEMPLATE_STREAMING ? RAY_GENERATOR_STREAMING
           : flags & PEER_TEMPLATE_DYNAMIC ? RAY_GENERATOR_DYNAMIC
                                           : RAY_GENERATOR_NONE;
}

RAY_API uint32_t
ray_task_yielded(const ray_task *task)
{
    return wk_exec_of(task)->yield.made;
}

static size_t
unsent(const struct wk_link *link)
{
    return link->overflow.size - link->overflow_start + net_conn_queued(link->conn);
}

static bool
has_room(void *ctx)
{
    const struct wk_exec *e = ctx;
    return !e->from || e->from->broken || wk.raylet_dead ||
           (wk_yield_has_room(&e->yield) && unsent(e->from) <= UNSENT_MAX);
}

/* ---- sending ---- */

/* How soon the owner must see it: others follow soon when they come quickly. */
static enum net_bell_need
need_of_item(struct wk_exec *e)
{
    const uint64_t now = wk_now();
    const bool quick = now - e->yielded_ns < WK_PROMPT_NS;
    e->yielded_ns = now;
    return quick ? NET_BELL_CALM : NET_BELL_WAITED;
}

static size_t
item_bytes(const struct ray_value *value, const struct ray_payload *payload)
{
    if (value) {
        return wk_value_piece_bytes(value);
    }
    return wk_piece_bytes(wk_payload_size(payload), (uint32_t)payload->ref_count);
}

/* `value` NULL: the payload goes inline. */
static int
send_item(struct wk_exec *e, uint32_t index, const struct ray_value *value,
          const struct ray_payload *payload)
{
    const size_t refs = payload ? payload->ref_count : 0;
    struct peer_item head = { .push_number = e->push.push_number,
                              .word = e->push.word,
                              .index = index };
    const size_t bytes = item_bytes(value, payload);
    struct own_ref *const *inner = NULL;
    if (!e->from) {
        return ST_CLOSED;
    }
    if (refs > 0) {
        memcpy(&inner, &payload->refs, sizeof(inner));
        if (e->caller != OWN_SELF) {
            TRY(own_reply_pin(&wk.own, e->caller, inner, (uint32_t)refs, &head.token));
        }
    }
    struct wk_frame frame;
    TRY(wk_frame_begin(&frame, e->from, PEER_ITEM, sizeof(head) + bytes));
    memcpy(frame.body, &head, sizeof(head));
    if (value) {
        (void)wk_value_encode(value, frame.body + sizeof(head));
    } else {
        (void)wk_payload_encode(payload, frame.body + sizeof(head));
    }
    for (size_t i = 0; i < refs && e->caller == OWN_SELF; i++) {
        own_local_add(inner[i]); /* handles that go to the reader, who is this process */
    }
    wk_frame_end(&frame, need_of_item(e));
    return ST_OK;
}

static int
send_payload(struct wk_exec *e, uint32_t index, const struct ray_payload *payload)
{
    TRY(wk_refs_check(payload->refs, payload->ref_count, false));
    if (payload->ref_count > OWN_ITEMS_MAX) {
        return st_fail(ST_LIMIT, "%zu references inside one item, at most %d are allowed",
                       payload->ref_count, OWN_ITEMS_MAX);
    }
    if (wk_payload_size(payload) <= RAY_INLINE_MAX) {
        return send_item(e, index, NULL, payload);
    }
    struct ray_value *value;
    const struct id_object id = id_object_of_return(&e->push.task, index + WK_STREAM_FIRST_INDEX);
    TRY(wk_value_of_payload(payload, &id, &e->caller_id, &value));
    const int status = send_item(e, index, value, payload);
    if (status != ST_OK) {
        wk_value_free_stored(value); /* its owner has not heard of it */
    }
    ray_value_release(value);
    return status;
}

/* What the machine says of the next item. ST_OK with *sends false: it is not sent. */
static int
begin_item(struct wk_exec *e, uint32_t *index, bool *sends)
{
    *sends = false;
    if (!(e->tmpl->flags & (PEER_TEMPLATE_STREAMING | PEER_TEMPLATE_DYNAMIC))) {
        return st_fail(ST_INVALID_ARGUMENT, "%.200s is not a generator", e->tmpl->function_name);
    }
    if (!e->from) {
        return ST_CLOSED;
    }
    if (e->yield.made % 32 == 0) {
        wk_poll(); /* what its reader has told */
    }
    switch (wk_yield_item(&e->yield, index)) {
    case WK_YIELD_STOP:
        return ST_CLOSED;
    case WK_YIELD_FULL:
        return st_fail(ST_LIMIT, "a generator yields at most %d items", WK_STREAM_ITEMS_MAX);
    case WK_YIELD_SEND:
        *sends = true;
        break;
    case WK_YIELD_SKIP:
        break;
    }
    return ST_OK;
}

RAY_API int
ray_task_yield(ray_task *task, const struct ray_payload *payload, bool *full)
{
    struct wk_exec *e = wk_exec_of(task);
    uint32_t index;
    bool sends;
    wk_lock();
    int status = begin_item(e, &index, &sends);
    if (status == ST_OK && sends) {
        status = send_payload(e, index, payload);
    }
    *full = status == ST_OK && !has_room(e);
    wk_unlock();
    return status;
}

RAY_API int
ray_task_yield_failure(ray_task *task, int status, const char *text,
                       const struct ray_payload *payload)
{
    struct wk_exec *e = wk_exec_of(task);
    uint32_t index;
    bool sends;
    struct ray_value *failure = wk_exec_failure(e, status, text, payload);
    if (!failure) {
        return st_fail(ST_OUT_OF_MEMORY, "no memory for a failure");
    }
    wk_lock();
    int done = begin_item(e, &index, &sends);
    if (done == ST_OK && sends) {
        done = send_item(e, index, failure, NULL);
    }
    wk_unlock();
    ray_value_release(failure);
    return done;
}

/* ---- waiting for the reader ---- */

RAY_API int
ray_task_yield_wait(ray_task *task)
{
    struct wk_exec *e = wk_exec_of(task);
    TRY(wk_enter());
    int status;
    do { /* whoever writes what was unsent tells nobody: one looks again */
        const bool unread = !wk_yield_has_room(&e->yield);
        status = wk_wait(has_room, e, unread ? UINT64_MAX : wk_now() + WK_TICK_NS);
    } while (status == ST_TIMED_OUT);
    wk_unlock();
    return status;
}

RAY_API int
ray_task_yield_notify(ray_task *task, ray_inbox *inbox, void *token)
{
    struct wk_exec *e = wk_exec_of(task);
    TRY(wk_enter());
    int status = e->room_inbox ? st_fail(ST_INVALID_ARGUMENT, "it is awaited already")
                               : wk_inbox_await(inbox);
    if (status == ST_OK) {
        e->room_inbox = inbox;
        e->room_token = token;
        wk_exec_room_changed(e);
    }
    wk_unlock();
    return status;
}

void
wk_exec_room_end(struct wk_exec *e)
{
    struct ray_inbox *inbox = e->room_inbox;
    e->room_inbox = NULL;
    wk_inbox_put(inbox, e->room_token);
}

/* Whoever writes what was unsent tells nobody: while an event loop waits for that alone, one looks
 * again. */
static void
wait_for_room(struct wk_exec *e)
{
    if (has_room(e)) {
        wk_exec_room_end(e);
    } else if (wk_yield_has_room(&e->yield) && !heap_has(&wk.room_timer.node) &&
               net_loop_arm(wk.loop, &wk.room_timer, wk_now() + WK_TICK_NS) != ST_OK) {
        wk_exec_room_end(e); /* without memory to wait with */
    }
}

void
wk_exec_room_changed(struct wk_exec *e)
{
    if (e->room_inbox) {
        wait_for_room(e);
    }
    wk_changed();
}

void
wk_yield_on_timer(void *ctx)
{
    (void)ctx;
    LIST_FOR (l, &wk.begun) {
        struct wk_exec *e = LIST_ENTRY(l, struct wk_exec, link);
        if (e->room_inbox) {
            wait_for_room(e);
        }
    }
    wk_changed();
}

static struct wk_exec *
find_in(struct list *list, const struct wk_link *link, const struct peer_told *told)
{
    LIST_FOR (l, list) {
        struct wk_exec *e = LIST_ENTRY(l, struct wk_exec, link);
        if (e->from == link && e->push.word == told->word &&
            e->push.push_number == told->push_number) {
            return e;
        }
    }
    return NULL;
}

static struct wk_exec *
find_exec(const struct wk_link *link, const struct peer_told *told)
{
    struct wk_exec *e = wk.current;
    if (e && e->from == link && e->push.word == told->word &&
        e->push.push_number == told->push_number) {
        return e;
    }
    e = find_in(&wk.begun, link, told);
    e = e ? e : find_in(&wk.exec_queue, link, told);
    for (uint32_t i = 0; !e && wk.groups && i < wk.groups->count; i++) {
        e = find_in(&wk.groups->group[i].queue, link, told);
    }
    return e;
}

int
wk_on_told(struct wk_link *link, const uint8_t *body, size_t size)
{
    struct peer_told told;
    if (size != sizeof(told)) {
        return st_fail(ST_PROTOCOL, "a generator is told %zu bytes", size);
    }
    memcpy(&told, body, sizeof(told));
    struct wk_exec *e = find_exec(link, &told);
    if (e) {
        wk_yield_told(&e->yield, told.read, told.flags);
        wk_exec_room_changed(e);
    }
    return ST_OK;
}

/* ---- items that a return refers to ---- */

RAY_API int
ray_task_yielded_ref(ray_task *task, uint32_t index, ray_ref **out)
{
    struct wk_exec *e = wk_exec_of(task);
    *out = NULL;
    if (index >= e->yield.made) {
        return st_fail(ST_INVALID_ARGUMENT, "item %u of %u", index, e->yield.made);
    }
    TRY(wk_enter());
    struct own_item item = { .object = id_object_of_return(&e->push.task,
                                                           index + WK_STREAM_FIRST_INDEX) };
    struct own_ref *ref = NULL;
    int status = ST_OK;
    const struct wk_peer *peer = e->caller == OWN_SELF ? NULL : wk_peer_of_proc(e->caller);
    if (e->caller == OWN_SELF) {
        item.owner = wk.self;
    } else if (peer) {
        item.owner = peer->addr;
    } else {
        status = st_fail(ST_CLOSED, "the task's caller is gone");
    }
    if (status == ST_OK) {
        struct wk_outs o;
        if (e->caller != OWN_SELF && !e->frame) {
            e->frame = own_frame_open(&wk.own, e->caller, 0);
        }
        ref = own_borrow(&wk.own, e->frame, NULL, &item, wk_outs_begin(&o));
        wk_outs_end(&o);
        status = ref ? ST_OK : st_fail(ST_OUT_OF_MEMORY, "no memory for a reference");
    }
    wk_unlock();
    *out = (ray_ref *)ref;
    return status;
}
