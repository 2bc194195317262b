/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams: what the owner of a streaming task has of it, around the machine of wk_stream.h. See
 * docs/protocols/generators.md.
 *
 * An item that comes becomes an object of this process, whose one handle the stream holds until the
 * reader takes it. The record lives as long as the task or the reader; the engine's lock guards it.
 */
#include <stdlib.h>
#include <string.h>

#include "os/os_basic.h"
#include "worker/wk_priv.h"
#include "worker/wk_stream.h"
#include "worker/wk_task.h"

struct ray_stream {
    struct wk_stream s;
    struct list tell_link; /* engine.tells, while s.timer_ns is set */
    uint64_t session;
    struct wk_task *task;   /* NULL: answered, or never submitted */
    bool dynamic, held;     /* held: by its reader */
    bool broken;            /* no memory for an item: what comes after it is freed */
    struct own_ref *done;   /* one handle, for the reader */
    struct own_ref *next;   /* of item s.received: somebody waits for it; or NULL. One handle */
    struct own_ref **items; /* unread: a ring of `capacity`, 0 or a power of two. One handle each */
    uint32_t first, count, capacity;
};

/* ---- life ---- */

struct ray_stream *
wk_stream_make(struct wk_task *task, const struct ray_options *options)
{
    struct ray_stream *st = calloc(1, sizeof(*st));
    if (st) {
        wk_stream_init(&st->s, options->backpressure);
        list_init(&st->tell_link);
        st->session = wk.session;
        st->dynamic = options->generator == RAY_GENERATOR_DYNAMIC;
        st->task = task;
    }
    return st;
}

void
wk_stream_begin(struct wk_task *task)
{
    if (!task->stream->dynamic) {
        task->stream->done = task->return_one;
    }
}

struct ray_stream *
wk_stream_give(struct wk_task *task)
{
    task->stream->held = true;
    return task->stream;
}

static void
destroy(struct ray_stream *st)
{
    list_remove(&st->tell_link);
    free(st->items);
    free(st);
}

static void
drop_handle(struct own_ref *ref)
{
    struct wk_outs o;
    own_local_drop(&wk.own, ref, wk_outs_begin(&o));
    wk_outs_end(&o);
}

static struct own_ref *
take_first(struct ray_stream *st)
{
    struct own_ref *ref = st->items[st->first];
    st->first = (st->first + 1) & (st->capacity - 1);
    st->count--;
    return ref;
}

static void
free_unread(struct ray_stream *st)
{
    while (st->count > 0) {
        drop_handle(take_first(st));
    }
}

/* What was awaited never comes: the end has. */
static void
end_next(struct ray_stream *st, int status)
{
    struct own_ref *next = st->next;
    struct wk_outs o;
    if (!next) {
        return;
    }
    st->next = NULL;
    (void)!own_return_done(&wk.own, next, OWN_GONE, 0, status, NULL, 0, wk_outs_begin(&o));
    wk_outs_end(&o);
    drop_handle(next);
    wk_changed();
}

void
wk_stream_task_gone(struct wk_task *task)
{
    struct ray_stream *st = task->stream;
    task->stream = NULL;
    st->task = NULL;
    if (!st->held) {
        destroy(st);
    }
}

void
wk_streams_fini(void)
{
    while (!list_is_empty(&wk.tells)) {
        (void)list_take_front(&wk.tells);
    }
}

/* ---- telling the producer ---- */

/* Says what there is to be said, now or by the timer. */
static void
speak(struct ray_stream *st)
{
    struct wk_stream_told told;
    uint64_t when_ns;
    if (!st->task || (st->s.limit == 0 && !st->s.dropped)) {
        return;
    }
    const bool now = wk_stream_tell(&st->s, wk_now(), &told, &when_ns);
    if (st->s.timer_ns == 0) {
        list_remove(&st->tell_link);
    }
    if (when_ns != 0) {
        const bool alone = list_is_empty(&wk.tells);
        list_push_back(&wk.tells, &st->tell_link);
        if (alone) { /* else it is armed, for no later */
            (void)!net_loop_arm(wk.loop, &wk.stream_timer, when_ns);
        }
    }
    struct wk_frame frame;
    if (now &&
        wk_frame_begin(&frame, st->task->pushed_on, PEER_TOLD, sizeof(struct peer_told)) == ST_OK) {
        const struct peer_told body = { .push_number = st->task->push.number,
                                        .word = st->task->push.word,
                                        .read = told.read,
                                        .flags = told.flags };
        memcpy(frame.body, &body, sizeof(body));
        wk_frame_end(&frame, NET_BELL_WAITED);
    }
}

void
wk_stream_on_timer(void *ctx)
{
    struct list due;
    (void)ctx;
    list_init(&due);
    list_splice_back(&due, &wk.tells);
    uint64_t next_ns = UINT64_MAX;
    while (!list_is_empty(&due)) {
        struct ray_stream *st = LIST_ENTRY(list_take_front(&due), struct ray_stream, tell_link);
        if (st->s.timer_ns > wk_now()) {
            next_ns = st->s.timer_ns < next_ns ? st->s.timer_ns : next_ns;
            list_push_back(&wk.tells, &st->tell_link);
        } else {
            speak(st);
        }
    }
    if (next_ns != UINT64_MAX) {
        (void)!net_loop_arm(wk.loop, &wk.stream_timer, next_ns);
    }
}

uint32_t
wk_stream_push_items(struct wk_task *task)
{
    return wk_stream_push(&task->stream->s, task->attempt);
}

void
wk_stream_pushed(struct wk_task *task)
{
    speak(task->stream);
}

void
wk_stream_unpushed(struct wk_task *task)
{
    wk_stream_attempt_over(&task->stream->s);
    list_remove(&task->stream->tell_link);
}

/* ---- what comes ---- */

static bool
reserve(struct ray_stream *st)
{
    if (st->count < st->capacity) {
        return true;
    }
    const uint32_t capacity = st->capacity ? 2 * st->capacity : 16;
    struct own_ref **grown = malloc(capacity * sizeof(struct own_ref *));
    if (!grown) {
        return false;
    }
    for (uint32_t i = 0; i < st->count; i++) {
        grown[i] = st->items[(st->first + i) & (st->capacity - 1)];
    }
    free(st->items);
    st->items = grown;
    st->capacity = capacity;
    st->first = 0;
    return true;
}

/* The reference of an item that is to come: the one that somebody waits for, or a new one. Lasts
 * until it gets its value. */
static struct own_ref *
ref_of_item(struct ray_stream *st, const struct id_task *task, uint32_t index)
{
    struct own_ref *ref = st->next;
    if (!ref && reserve(st)) {
        const struct id_object id = id_object_of_return(task, index + WK_STREAM_FIRST_INDEX);
        ref = own_return_create(&wk.own, &id, 0);
    } else if (!reserve(st)) {
        ref = NULL;
    }
    return ref;
}

static void
append(struct ray_stream *st, struct own_ref *ref)
{
    st->items[(st->first + st->count++) & (st->capacity - 1)] = ref;
    st->next = NULL; /* if it was that */
    wk_changed();
}

/* The failure becomes the last item; without memory for that, the task's own reference does. */
static void
append_failure(struct ray_stream *st, uint32_t index, struct ray_value *failure)
{
    struct own_ref *ref = failure ? ref_of_item(st, &st->task->id, index) : NULL;
    if (!ref) {
        end_next(st, ST_OUT_OF_MEMORY);
        if (st->done && reserve(st)) {
            own_local_add(st->done);
            append(st, st->done);
        } else {
            st->s.received--; /* the end without a cause */
        }
        return;
    }
    struct wk_outs o;
    uint64_t handle;
    (void)ray_value_retain(failure);
    memcpy(&handle, &failure, sizeof(handle));
    wk.error_count++;
    (void)!own_return_done(&wk.own, ref, OWN_ERROR, handle, 0, NULL, 0, wk_outs_begin(&o));
    wk_outs_end(&o);
    append(st, ref);
}

static void
end_stream(struct ray_stream *st, struct ray_value *failure, bool failed)
{
    uint32_t index;
    if (wk_stream_end(&st->s, failed, &index)) {
        append_failure(st, index, failure);
    }
    end_next(st, ST_END_OF_STREAM);
    wk_changed();
}

void
wk_stream_answered(struct wk_task *task, struct ray_value *failure)
{
    struct ray_stream *st = task->stream;
    if (!st->s.over) {
        const bool failed = wk_task_return(task, 0)->state == OWN_ERROR ||
                            wk_task_return(task, 0)->state == OWN_GONE;
        end_stream(st, failure, failure ? true : failed && !st->dynamic);
    }
    if (st->dynamic) {
        free_unread(st); /* the return refers to them */
    }
}

/* Without memory for an item: the stream has failed here, though its task goes on. */
static void
break_stream(struct ray_stream *st)
{
    struct ray_value *failure = wk_failure_of_status(ST_OUT_OF_MEMORY, "no memory for an item");
    st->s.received--;
    st->broken = true;
    end_stream(st, failure, true);
    ray_value_release(failure);
}

static void
keep_item(struct ray_stream *st, const struct wk_piece *piece, const struct peer_item *item,
          uint32_t executor)
{
    struct own_ref *ref = ref_of_item(st, &st->task->id, item->index);
    if (!ref) {
        wk_drop_piece(piece, item->token, executor);
        break_stream(st);
        return;
    }
    struct own_frame *frame =
        piece->head.item_count > 0 ? wk_piece_frame(item->token, executor) : NULL;
    wk_take_piece(st->task, ref, piece, frame, item->token, executor);
    if (frame) {
        struct wk_outs o;
        own_frame_close_reply(&wk.own, frame, wk_outs_begin(&o));
        wk_outs_end(&o);
    }
    append(st, ref);
}

int
wk_on_item(struct wk_link *link, const uint8_t *body, size_t size)
{
    struct peer_item item;
    struct wk_piece piece;
    if (size < sizeof(item)) {
        return st_fail(ST_PROTOCOL, "an item of %zu bytes", size);
    }
    memcpy(&item, body, sizeof(item));
    const uint8_t *at = body + sizeof(item);
    TRY(wk_piece_decode(&at, body + size, &piece));
    struct wk_task *task = wk_task_find_pushed(link, item.word, item.push_number);
    if (!task) {
        return ST_OK; /* of an attempt that is over */
    }
    struct ray_stream *st = task->stream;
    const uint32_t executor = link->peer->proc;
    if (!st) {
        return st_fail(ST_PROTOCOL, "an item of a task that yields none");
    }
    if (st->broken) {
        wk_drop_piece(&piece, item.token, executor);
        return ST_OK;
    }
    switch (wk_stream_item(&st->s, task->attempt, item.index)) {
    case WK_STREAM_KEEP:
        keep_item(st, &piece, &item, executor);
        break;
    case WK_STREAM_UNREAD:
        wk_drop_piece(&piece, item.token, executor);
        break;
    case WK_STREAM_STALE:
        break;
    case WK_STREAM_WRONG:
        return st_fail(ST_PROTOCOL, "item %u of a task whose next is %u", item.index,
                       st->s.received);
    }
    speak(st);
    return ST_OK;
}

/* ---- the reader ---- */

RAY_API int
ray_stream_submit(ray_function *function, ray_options *options, const struct ray_arg *args,
                  size_t arg_count, ray_stream **out)
{
    ray_ref *done;
    *out = NULL;
    if (!options || options->generator != RAY_GENERATOR_STREAMING) {
        return st_fail(ST_INVALID_ARGUMENT, "options of a stream that are of none");
    }
    return wk_task_submit(function, options, args, arg_count, &done, out);
}

RAY_API int
ray_stream_call(ray_actor *actor, ray_function *method, ray_options *options,
                const struct ray_arg *args, size_t arg_count, ray_stream **out)
{
    ray_ref *done;
    *out = NULL;
    if (!options || options->generator != RAY_GENERATOR_STREAMING) {
        return st_fail(ST_INVALID_ARGUMENT, "options of a stream that are of none");
    }
    return wk_actor_submit(actor, method, options, args, arg_count, &done, out);
}

static bool
next_is_here(void *ctx)
{
    const struct ray_stream *st = ctx;
    return wk_stream_look(&st->s) != WK_STREAM_NOTHING;
}

static int
check_session(const struct ray_stream *st)
{
    return st->session == wk.session
               ? ST_OK
               : st_fail(ST_NOT_FOUND, "generators are not valid across Ray sessions");
}

/* Takes what is there. */
static int
take(struct ray_stream *st, ray_ref **out)
{
    switch (wk_stream_look(&st->s)) {
    case WK_STREAM_ITEM:
        (void)wk_stream_read(&st->s);
        *out = (ray_ref *)take_first(st);
        speak(st);
        return RAY_OK;
    case WK_STREAM_OVER:
        return ST_END_OF_STREAM;
    case WK_STREAM_NOTHING:
        break;
    }
    return ST_TIMED_OUT;
}

RAY_API int
ray_stream_next(ray_stream *st, int64_t timeout_ms, ray_ref **out)
{
    *out = NULL;
    TRY(wk_enter());
    int status = check_session(st);
    if (status == ST_OK && !next_is_here(st)) {
        wk_poll();
    }
    if (status == ST_OK && timeout_ms != 0 && !next_is_here(st)) {
        wk_pump();
        const bool ever = timeout_ms > 0 && timeout_ms < INT64_MAX / 2000000;
        status = wk_wait(next_is_here, st,
                         ever ? wk_now() + (uint64_t)timeout_ms * 1000000u : UINT64_MAX);
    }
    if (status == ST_OK) {
        status = take(st, out);
    }
    wk_unlock();
    return status;
}

RAY_API int
ray_stream_peek(ray_stream *st, ray_ref **out)
{
    *out = NULL;
    TRY(wk_enter());
    int status = check_session(st);
    struct own_ref *ref = NULL;
    if (status == ST_OK) {
        const enum wk_stream_turn turn = wk_stream_look(&st->s);
        if (turn == WK_STREAM_NOTHING && !st->next) {
            const struct id_object id =
                id_object_of_return(&st->task->id, st->s.received + WK_STREAM_FIRST_INDEX);
            st->next = own_return_create(&wk.own, &id, 0);
        }
        ref = turn == WK_STREAM_ITEM   ? st->items[st->first]
              : turn == WK_STREAM_OVER ? st->done
                                       : st->next;
        status = ref ? ST_OK : st_fail(ST_OUT_OF_MEMORY, "no memory for a reference");
    }
    if (ref) {
        own_local_add(ref);
        *out = (ray_ref *)ref;
    }
    wk_unlock();
    return status;
}

RAY_API enum ray_stream_state
ray_stream_look(ray_stream *st)
{
    enum ray_stream_state state = RAY_STREAM_OVER;
    if (wk_enter() != ST_OK) {
        return state;
    }
    if (st->session == wk.session) {
        if (!next_is_here(st)) {
            wk_poll();
        }
        const enum wk_stream_turn turn = wk_stream_look(&st->s);
        state = turn == WK_STREAM_ITEM      ? RAY_STREAM_READY
                : turn == WK_STREAM_NOTHING ? RAY_STREAM_PENDING
                                            : RAY_STREAM_OVER;
    }
    wk_unlock();
    return state;
}

RAY_API ray_ref *
ray_stream_completed(ray_stream *st)
{
    return (ray_ref *)st->done;
}

/* Whether anybody but the reader has the task's own reference. */
static bool
end_is_awaited(const struct own_ref *done)
{
    return __atomic_load_n(&done->local, __ATOMIC_RELAXED) > 1 || done->submitted > 0 ||
           done->contained_in > 0 || done->borrowers || done->waiters;
}

RAY_API void
ray_stream_release(ray_stream *st)
{
    if (!st || wk.forked) {
        return;
    }
    wk_lock();
    st->held = false;
    if (wk.running && st->session == wk.session) {
        wk_flush_releases();
        (void)wk_stream_drop(&st->s, end_is_awaited(st->done));
        free_unread(st);
        end_next(st, ST_END_OF_STREAM);
        speak(st);
        drop_handle(st->done);
        st->done = NULL;
    }
    if (!st->task || st->session != wk.session || !wk.running) {
        destroy(st);
    }
    wk_unlock();
}
