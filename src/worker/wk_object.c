/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects for the program: references, get and wait.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os/os_basic.h"
#include "worker/wk_lineage.h"
#include "worker/wk_priv.h"
#include "worker/wk_task.h"

/* ---- checks ---- */

struct ray_value *
wk_ref_value(const struct own_ref *ref)
{
    struct ray_value *value;
    memcpy(&value, &ref->value, sizeof(value));
    return value;
}

void
wk_ref_heard(const struct own_ref *ref)
{
    if (ref->state == OWN_ERROR) {
        wk_value_heard(wk_ref_value(ref));
    }
}

int
wk_refs_check(ray_ref *const *refs, size_t count, bool values)
{
    for (size_t i = 0; i < count; i++) {
        const struct own_ref *ref = wk_ref_of(refs[i]);
        if (!ref) {
            return st_fail(ST_INVALID_ARGUMENT, "reference %zu of %zu is NULL", i, count);
        }
        if (wk_ref_is_stale(ref)) {
            return st_fail(ST_NOT_FOUND, "ObjectRef objects are not valid across Ray sessions");
        }
        if (values && wk_id_is_actor(&ref->id)) {
            return st_fail(ST_INVALID_ARGUMENT, "an actor's handle has no value to get, wait for "
                                                "or pass by");
        }
    }
    return ST_OK;
}

struct ray_value *
wk_failure_of_status(int status, const char *text)
{
    const struct wk_failure failure = {
        .status = status,
        .text = text ? text : st_info(status)->text,
        .node_ip = wk.node_ip,
    };
    return wk_value_create_failure(&failure);
}

struct ray_value *
wk_failure_of_ref(const struct own_ref *ref, int status)
{
    char text[1024] = "";
    const struct wk_peer *owner = NULL;
    struct own_item item;
    own_item_of(&wk.own, ref, &item);
    if (ref->owner != OWN_SELF) {
        owner = pages_get(&wk.peer_by_proc, ref->owner);
    }
    if (status == ST_OWNER_DIED && owner) {
        (void)snprintf(text, sizeof(text), "The owner, pid %d, has ended: %s", owner->pid,
                       owner->evidence && *owner->evidence ? owner->evidence : "nobody saw how");
    } else if (status == ST_OBJECT_LOST) {
        (void)snprintf(text, sizeof(text), "The object is no longer in the store.");
    }
    const struct wk_failure failure = {
        .status = status,
        .pid = owner ? owner->pid : 0,
        .text = *text ? text : st_info(status)->text,
        .node_ip = wk.node_ip,
        .object_id = ref->id.b,
        .data = &item.owner,
        .data_size = sizeof(item.owner),
    };
    return wk_value_create_failure(&failure);
}

/* ---- references ---- */

RAY_API ray_ref *
ray_ref_retain(ray_ref *handle)
{
    own_local_add(wk_ref_of(handle));
    return handle;
}

RAY_API const uint8_t *
ray_ref_id(const ray_ref *handle)
{
    return ((const struct own_ref *)handle)->id.b;
}

RAY_API size_t
ray_ref_owner_address(const ray_ref *handle, void *out, size_t capacity)
{
    const struct own_ref *ref = (const struct own_ref *)handle;
    struct own_item item;
    size_t size = sizeof(item.owner);
    if (capacity >= size) {
        wk_lock();
        if (wk_ref_is_stale(ref)) {
            size = 0; /* nobody answers for it any more */
        } else {
            own_item_of(&wk.own, ref, &item);
            memcpy(out, &item.owner, size);
        }
        wk_unlock();
    }
    return size;
}

RAY_API int
ray_ref_from_address(const uint8_t *id, const void *owner, size_t owner_size, ray_ref **out)
{
    struct own_item item;
    *out = NULL;
    if (owner_size != sizeof(item.owner)) {
        return st_fail(ST_INVALID_ARGUMENT, "an owner's address has %zu bytes, not %zu",
                       sizeof(item.owner), owner_size);
    }
    memcpy(item.object.b, id, sizeof(item.object.b));
    memcpy(&item.owner, owner, sizeof(item.owner));
    TRY(wk_enter());
    struct wk_outs o;
    struct own_ref *ref = own_borrow(&wk.own, NULL, NULL, &item, wk_outs_begin(&o));
    wk_outs_end(&o);
    wk_unlock();
    *out = (ray_ref *)ref;
    return ref ? RAY_OK : st_fail(ST_OUT_OF_MEMORY, "no memory for a reference");
}

RAY_API void
ray_ref_pin_for_job(ray_ref *handle)
{
    if (wk_enter() == ST_OK) {
        if (!wk_ref_is_stale(wk_ref_of(handle))) {
            own_capture(wk_ref_of(handle));
        }
        wk_unlock();
    }
}

RAY_API int
ray_value_ref(ray_value *value, size_t index, ray_ref **out)
{
    *out = NULL;
    if (index >= value->item_count) {
        return st_fail(ST_INVALID_ARGUMENT, "reference %zu of a value with %u", index,
                       value->item_count);
    }
    TRY(wk_enter());
    if (value->outer && wk_ref_is_stale(value->outer)) {
        wk_unlock();
        return st_fail(ST_NOT_FOUND, "the value is of an earlier Ray session");
    }
    struct wk_outs o;
    struct own_ref *ref =
        own_borrow(&wk.own, value->frame, value->outer, &value->items[index], wk_outs_begin(&o));
    wk_outs_end(&o);
    wk_unlock();
    *out = (ray_ref *)ref;
    return ref ? RAY_OK : st_fail(ST_OUT_OF_MEMORY, "no memory for a reference");
}

/* ---- get ---- */

static bool
is_pending(const struct own_ref *ref)
{
    return ref->state == OWN_PENDING;
}

void
wk_ref_want(struct own_ref *ref)
{
    if (is_pending(ref) && (ref->kind == OWN_BORROWED || own_is_lost(ref))) {
        struct wk_outs o;
        own_want(&wk.own, ref, wk_outs_begin(&o));
        wk_outs_end(&o);
    }
}

RAY_API bool
ray_ref_is_ready(ray_ref *handle)
{
    if (wk_enter() != ST_OK) {
        return false;
    }
    bool ready = false;
    if (wk_refs_check(&handle, 1, true) == ST_OK) {
        wk_ref_want(wk_ref_of(handle));
        ready = !is_pending(wk_ref_of(handle));
    }
    wk_unlock();
    return ready;
}

static int
open_ref(struct own_ref *ref, struct ray_value **out)
{
    switch ((enum own_state)ref->state) {
    case OWN_PENDING:
        return st_fail(ST_TIMED_OUT, "Get timed out: some object(s) not ready.");
    case OWN_ERROR:
        wk_value_heard(wk_ref_value(ref));
        break;
    case OWN_INLINE:
    case OWN_STORE:
        break;
    case OWN_GONE:
        *out = wk_failure_of_ref(ref, ref->status);
        return *out ? ST_OK : st_fail(ST_OUT_OF_MEMORY, "no memory for an error");
    }
    struct ray_value *value = ray_value_retain(wk_ref_value(ref));
    int status = wk_value_open(value, ref, out);
    if (status == ST_OBJECT_FREED) {
        wk_ref_lost(ref, value);
        status = st_fail(ST_WOULD_BLOCK, "the object's value was lost: it is asked for again");
    }
    ray_value_release(value);
    return status;
}

RAY_API int
ray_ref_value(ray_ref *handle, ray_value **out)
{
    *out = NULL;
    /* Ready values can be had also when the raylet is gone. */
    if (wk.forked) {
        return st_fail(ST_NOT_INITIALIZED, "ray can't be used in a forked process");
    }
    wk_lock();
    int status;
    if (!wk.running) {
        status = st_fail(ST_NOT_INITIALIZED, "ray has not been started");
    } else {
        status = wk_refs_check(&handle, 1, true);
    }
    if (status == ST_OK) {
        wk_ref_want(wk_ref_of(handle));
        status = open_ref(wk_ref_of(handle), out);
    }
    wk_unlock();
    return status;
}

/* ---- wait ---- */

/* Of a wait that begins now, by `clock`: wk_now under the lock, os_now_ns without. */
static uint64_t
deadline_of(int64_t timeout_ms, uint64_t (*clock)(void))
{
    const bool ever = timeout_ms >= 0 && timeout_ms < INT64_MAX / 2000000;
    return ever ? clock() + (uint64_t)timeout_ms * 1000000u : UINT64_MAX;
}

struct wait_all {
    ray_ref *const *refs;
    size_t count, next; /* all before `next` are ready */
    uint64_t seen_errors;
    size_t error_index;
};

/* What a wait for them begins with: asks for those that are borrowed, reads what has come. */
static int
begin_wait(ray_ref *const *refs, size_t count)
{
    TRY(wk_refs_check(refs, count, true));
    wk_pump();
    wk_poll();
    for (size_t i = 0; i < count; i++) {
        wk_ref_want(wk_ref_of(refs[i]));
    }
    if (wk_lineage_due()) {
        wk_pump();
    }
    return ST_OK;
}

static bool
is_error(const struct own_ref *ref)
{
    return ref->state == OWN_ERROR || ref->state == OWN_GONE;
}

static bool
all_ready(void *ctx)
{
    struct wait_all *w = ctx;
    if (w->error_index != SIZE_MAX) {
        return true; /* found before; it may be asked more than once */
    }
    while (w->next < w->count && !is_pending(wk_ref_of(w->refs[w->next]))) {
        if (w->error_index == SIZE_MAX && is_error(wk_ref_of(w->refs[w->next]))) {
            w->error_index = w->next;
            return true;
        }
        w->next++;
    }
    if (w->next == w->count) {
        return true;
    }
    if (w->seen_errors != wk.error_count) {
        w->seen_errors = wk.error_count;
        for (size_t i = w->next; i < w->count; i++) {
            if (is_error(wk_ref_of(w->refs[i]))) {
                w->error_index = i;
                return true;
            }
        }
    }
    return false;
}

/* A wait that ends with the first failure has told of those, too, that have come until then. */
static void
hear_errors(ray_ref *const *refs, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        wk_ref_heard(wk_ref_of(refs[i]));
    }
}

RAY_API int
ray_wait_all(ray_ref *const *refs, size_t count, int64_t timeout_ms, size_t *error_index)
{
    struct wait_all w = { .refs = refs, .count = count, .error_index = SIZE_MAX };
    if (error_index) {
        *error_index = SIZE_MAX;
    }
    TRY(wk_enter());
    int status = begin_wait(refs, count);
    w.seen_errors = wk.error_count - 1; /* look once at all */
    if (status == ST_OK) {
        status = wk_wait(all_ready, &w, deadline_of(timeout_ms, wk_now));
    }
    if (w.error_index != SIZE_MAX) {
        hear_errors(refs, count);
    }
    wk_unlock();
    if (error_index) {
        *error_index = w.error_index;
    }
    return status;
}

RAY_API int
ray_get(ray_ref *ref, int64_t timeout_ms, ray_value **out)
{
    *out = NULL;
    const uint64_t end = deadline_of(timeout_ms, os_now_ns);
    ray_value *value = NULL;
    int status;
    do { /* again when it turns out to be lost, or another thread has found that meanwhile */
        TRY(ray_wait_all(&ref, 1, timeout_ms, NULL));
        status = ray_ref_value(ref, &value);
        if (end != UINT64_MAX) {
            const uint64_t now = os_now_ns();
            timeout_ms = now < end ? (int64_t)((end - now) / 1000000) : 0;
        }
    } while (status == ST_WOULD_BLOCK || status == ST_TIMED_OUT);
    TRY(status);
    status = ray_value_status(value);
    if (status != ST_OK) {
        struct wk_failure failure;
        wk_value_read_failure(value, &failure);
        (void)st_fail(status, "%s", failure.text);
        ray_value_release(value);
        return status;
    }
    *out = value;
    return RAY_OK;
}

struct wait_some {
    ray_ref *const *refs;
    size_t count, wanted;
    uint64_t seen_changes;
    bool enough; /* as of then */
};

static bool
some_ready(void *ctx)
{
    struct wait_some *w = ctx;
    if (w->seen_changes == wk.change_count) {
        return w->enough;
    }
    w->seen_changes = wk.change_count;
    size_t ready = 0;
    for (size_t i = 0; i < w->count && ready < w->wanted; i++) {
        ready += !is_pending(wk_ref_of(w->refs[i]));
    }
    w->enough = ready >= w->wanted;
    return w->enough;
}

RAY_API int
ray_wait(ray_ref *const *refs, size_t count, size_t num_returns, int64_t timeout_ms,
         bool fetch_local, bool *ready)
{
    (void)fetch_local; /* on one node, what is ready is here */
    memset(ready, 0, count * sizeof(*ready));
    if (num_returns > count) {
        return st_fail(ST_INVALID_ARGUMENT, "%zu of %zu references are waited for", num_returns,
                       count);
    }
    struct wait_some w = { .refs = refs, .count = count, .wanted = num_returns };
    TRY(wk_enter());
    int status = begin_wait(refs, count);
    w.seen_changes = wk.change_count - 1;
    if (status == ST_OK) {
        status = wk_wait(some_ready, &w, deadline_of(timeout_ms, wk_now));
    }
    if (status == ST_TIMED_OUT) {
        status = ST_OK;
    }
    size_t marked = 0;
    for (size_t i = 0; i < count && marked < num_returns && status == ST_OK; i++) {
        ready[i] = !is_pending(wk_ref_of(refs[i]));
        marked += ready[i];
        if (ready[i]) {
            wk_ref_heard(wk_ref_of(refs[i]));
        }
    }
    wk_unlock();
    return status;
}

RAY_API int
ray_ref_on_ready(ray_ref *handle, ray_ready_fn fn, void *ctx)
{
    TRY(wk_enter());
    struct own_ref *ref = wk_ref_of(handle);
    int status = wk_refs_check(&handle, 1, true);
    if (status == ST_OK) {
        wk_ref_want(ref);
    }
    if (status == ST_OK && !is_pending(ref)) {
        wk_callback_push(fn, ctx, false);
    } else if (status == ST_OK) {
        struct wk_waiter *waiter = malloc(sizeof(*waiter));
        if (waiter) {
            *waiter = (struct wk_waiter){ .handle = ref, .fn = fn, .ctx = ctx };
            own_local_add(ref); /* the caller may drop it before */
            memcpy(&waiter->next, &ref->waiters, sizeof(waiter->next));
            memcpy(&ref->waiters, &waiter, sizeof(waiter));
        } else {
            status = st_fail(ST_OUT_OF_MEMORY, "no memory for a callback");
        }
    }
    wk_unlock();
    return status;
}
