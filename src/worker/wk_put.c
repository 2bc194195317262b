/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values into the shared store and out of it, and put.
 */
#include <stdlib.h>
#include <string.h>

#include "os/os_basic.h"
#include "worker/wk_actor.h"
#include "worker/wk_exec.h"
#include "worker/wk_priv.h"

#define FREE_DELAY_NS UINT64_C(5000000) /* frees of small objects go together, soon */

/* ---- frees ---- */

void
wk_flush_frees(void)
{
    if (wk.frees.size == 0 || !wk.raylet) {
        return;
    }
    Ray__Node__StoreFree message = RAY__NODE__STORE_FREE__INIT;
    message.slots.data = (uint8_t *)wk.frees.data;
    message.slots.len = wk.frees.size;
    (void)!wk_node_send(NODE_STORE_FREE, (const ProtobufCMessage *)&message, 0);
    str_clear(&wk.frees);
}

static void
send_returns(void)
{
    uint64_t offsets[32];
    size_t n = 0;
    while (n < COUNT_OF(offsets) && storec_next_return(wk.store, &offsets[n])) {
        n++;
    }
    if (n > 0) {
        Ray__Node__StoreReturn message = RAY__NODE__STORE_RETURN__INIT;
        message.offsets = offsets;
        message.n_offsets = n;
        (void)!wk_node_send(NODE_STORE_RETURN, (const ProtobufCMessage *)&message, 0);
    }
}

enum own_state
wk_state_of(const struct ray_value *value)
{
    switch ((enum wk_value_kind)value->kind) {
    case WK_VALUE_HINT:
        return OWN_STORE;
    case WK_VALUE_ERROR:
        return OWN_ERROR;
    case WK_VALUE_INLINE:
    case WK_VALUE_VIEW:
        break;
    }
    return OWN_INLINE;
}

void
wk_value_free_stored(const struct ray_value *value)
{
    const struct store_ref slot = { value->hint.generation, value->hint.slot, 0 };
    str_append(&wk.frees, &slot, sizeof(slot));
    if (wk.frees.size >= 64 * sizeof(slot) || value->size > STORE_SMALL_MAX) {
        wk_flush_frees();
    } else if (wk.frees.size == sizeof(slot)) {
        (void)!net_loop_arm(wk.loop, &wk.free_timer, wk_now() + FREE_DELAY_NS);
    }
}

/* The machine gives a value back: nothing refers to it any more. */
void
wk_value_drop(uint64_t handle, uint64_t state)
{
    if (state & OWN_DROP_PSEUDO) {
        struct wk_actor *actor;
        memcpy(&actor, &handle, sizeof(actor));
        wk_actor_out_of_scope(actor);
        return;
    }
    struct ray_value *value;
    memcpy(&value, &handle, sizeof(value));
    if (!value) {
        return;
    }
    if ((state & OWN_DROP_OWNED) && value->kind == WK_VALUE_HINT) {
        wk_value_free_stored(value);
    }
    ray_value_release(value);
}

/* ---- into the store ---- */

/* Asks the raylet for memory and waits: a region (size 0) or one object's. When the store is full
 * the raylet asks everybody for what can be given back before it answers. */
static int
ask_store(uint64_t size, struct store_grant *grant)
{
    Ray__Node__StoreAsk message = RAY__NODE__STORE_ASK__INIT;
    message.size = size;
    message.urgent = true;
    struct wk_ask ask = { 0 };
    wk_flush_releases();
    wk_flush_frees();
    int status = wk_node_ask(NODE_STORE_ASK, (const ProtobufCMessage *)&message, &ask, UINT64_MAX);
    Ray__Node__StoreGrant *answer = NULL;
    if (status == ST_OK) {
        answer = ray__node__store_grant__unpack(NULL, ask.answer.size, (uint8_t *)ask.answer.data);
        if (!answer || (answer->status == 0 && answer->grant.len != sizeof(*grant))) {
            status = st_fail(ST_PROTOCOL, "the raylet's grant of memory can't be read");
        } else if (answer->status != 0) {
            status = st_fail(answer->status, "%s", answer->text);
        } else {
            memcpy(grant, answer->grant.data, sizeof(*grant));
        }
    }
    if (answer) {
        ray__node__store_grant__free_unpacked(answer, NULL);
    }
    wk_ask_fini(&ask);
    return status;
}

/* Regions are asked for ahead of need, so that a small object mostly finds one. */
static void
ask_ahead(void)
{
    const unsigned wanted = storec_regions_wanted(wk.store);
    for (unsigned i = 0; i < wanted; i++) {
        Ray__Node__StoreAsk message = RAY__NODE__STORE_ASK__INIT;
        if (wk_node_send(NODE_STORE_ASK, (const ProtobufCMessage *)&message, WK_REQUEST_AHEAD) !=
            ST_OK) {
            return;
        }
        storec_asked(wk.store, 1);
    }
}

void
wk_on_region_ahead(const uint8_t *body, size_t size)
{
    struct store_grant grant;
    Ray__Node__StoreGrant *message = ray__node__store_grant__unpack(NULL, size, body);
    int status = ST_PROTOCOL;
    if (message && message->status == 0 && message->grant.len == sizeof(grant)) {
        memcpy(&grant, message->grant.data, sizeof(grant));
        status = storec_on_grant(wk.store, &grant);
    }
    if (status != ST_OK) {
        storec_asked(wk.store, -1); /* whoever needs it asks again, and waits */
    }
    if (message) {
        ray__node__store_grant__free_unpacked(message, NULL);
    }
    wk_changed();
}

static int
create_object(uint64_t size, struct storec_object *object)
{
    struct store_grant grant;
    if (size > STORE_SMALL_MAX) {
        TRY(ask_store(size, &grant));
        return storec_create_in(wk.store, &grant, size, object);
    }
    for (;;) {
        const int status = storec_create(wk.store, size, object);
        if (status != ST_WOULD_BLOCK) {
            ask_ahead();
            return status;
        }
        storec_asked(wk.store, 1);
        const int asked = ask_store(0, &grant);
        if (asked != ST_OK) {
            storec_asked(wk.store, -1);
            return asked;
        }
        TRY(storec_on_grant(wk.store, &grant));
    }
}

static void
copy_payload(const struct ray_payload *payload, uint8_t *to, struct storec *store)
{
    for (size_t i = 0; i < payload->buf_count; i++) {
        const struct ray_buf *buf = &payload->bufs[i];
        if (buf->size == 0) {
            continue;
        }
        if (store && buf->size > 64 * 1024) {
            storec_copy(store, to, buf->data, buf->size);
        } else {
            memcpy(to, buf->data, buf->size);
        }
        to += buf->size;
    }
}

static struct own_item *
items_of(const struct ray_payload *payload)
{
    struct own_item *items = malloc((payload->ref_count + 1) * sizeof(*items));
    for (size_t i = 0; items && i < payload->ref_count; i++) {
        own_item_of(&wk.own, wk_ref_of(payload->refs[i]), &items[i]);
    }
    return items;
}

/* Writes the bytes into the store. The lock is given up during a large copy. */
static int
store_payload(const struct ray_payload *payload, size_t size, const struct id_object *id,
              const struct id_worker *owner, struct ray_value **out)
{
    struct storec_object object;
    struct store_hint hint;
    TRY(create_object(size, &object));
    if (size > STORE_SMALL_MAX) {
        wk.inside++; /* the mapping stays until the copy is through */
        wk_unlock();
        storec_prepare(&object);
        copy_payload(payload, object.data, object.store);
        wk_lock();
        wk.inside--;
        if (!wk.running) {
            storec_abort(object.store, &object); /* keeps the memory mapped until now */
            return st_fail(ST_CLOSED, "ray was shut down while an object was stored");
        }
    } else {
        copy_payload(payload, object.data, object.store);
    }
    struct own_item *items = items_of(payload);
    if (!items) {
        storec_abort(wk.store, &object);
        send_returns();
        return st_fail(ST_OUT_OF_MEMORY, "no memory for %zu references", payload->ref_count);
    }
    storec_seal(wk.store, &object, id, 0, owner, &hint);
    *out = wk_value_create_hint(&hint, payload->format, items, (uint32_t)payload->ref_count);
    free(items);
    send_returns();
    return *out ? ST_OK : st_fail(ST_OUT_OF_MEMORY, "no memory for an object's record");
}

int
wk_value_of_payload(const struct ray_payload *payload, const struct id_object *id,
                    const struct id_worker *owner, struct ray_value **out)
{
    size_t size = 0;
    for (size_t i = 0; i < payload->buf_count; i++) {
        size += payload->bufs[i].size;
    }
    *out = NULL;
    if (payload->ref_count > OWN_ITEMS_MAX) {
        return st_fail(ST_LIMIT, "%zu references inside one value, at most %d are allowed",
                       payload->ref_count, OWN_ITEMS_MAX);
    }
    if (size > RAY_INLINE_MAX) {
        return store_payload(payload, size, id, owner, out);
    }
    uint8_t *data;
    struct own_item *items;
    struct ray_value *value =
        wk_value_create(WK_VALUE_INLINE, size, (uint32_t)payload->ref_count, &data, &items);
    if (!value) {
        return st_fail(ST_OUT_OF_MEMORY, "no memory for a value of %zu bytes", size);
    }
    value->format = payload->format;
    copy_payload(payload, data, NULL);
    for (size_t i = 0; i < payload->ref_count; i++) {
        own_item_of(&wk.own, wk_ref_of(payload->refs[i]), &items[i]);
    }
    *out = value;
    return ST_OK;
}

/* ---- out of the store ---- */

static int
compare_slots(const void *a, const void *b)
{
    struct store_ref x, y;
    memcpy(&x, a, sizeof(x));
    memcpy(&y, b, sizeof(y));
    if (x.slot != y.slot) {
        return x.slot < y.slot ? -1 : 1;
    }
    return x.generation < y.generation ? -1 : x.generation > y.generation;
}

struct slot_search {
    struct store_ref *slots; /* sorted */
    size_t count;
    bool *known;
};

static void
mark_known(void *ctx, const struct own_ref *ref)
{
    const struct slot_search *search = ctx;
    if (ref->state == OWN_STORE) {
        const struct ray_value *value = wk_ref_value(ref);
        const struct store_ref slot = { value->hint.generation, value->hint.slot, 0 };
        const struct store_ref *found =
            bsearch(&slot, search->slots, search->count, sizeof(slot), compare_slots);
        if (found) {
            search->known[found - search->slots] = true;
        }
    }
}

void
wk_free_unknown_slots(struct store_ref *slots, size_t count)
{
    struct slot_search search = { slots, count, calloc(count, sizeof(bool)) };
    if (!search.known) {
        return; /* they stay until this process ends */
    }
    qsort(slots, count, sizeof(*slots), compare_slots);
    own_walk(&wk.own, mark_known, &search); /* once, however many there are */
    for (size_t i = 0; i < count; i++) {
        if (!search.known[i]) {
            str_append(&wk.frees, &slots[i], sizeof(slots[i]));
        }
    }
    free(search.known);
    wk_flush_frees();
}

/* A pinned view of what a hint names. */
static int
open_hint(struct ray_value *value, struct ray_value **out)
{
    struct ray_value *view = calloc(1, sizeof(*view));
    if (!view) {
        return st_fail(ST_OUT_OF_MEMORY, "no memory for a view of an object");
    }
    int status = storec_pin(wk.store, &value->hint, &view->view);
    if (status == ST_WOULD_BLOCK) {
        Ray__Node__StoreCheck message = RAY__NODE__STORE_CHECK__INIT;
        struct wk_ask ask = { 0 };
        message.hint.data = (uint8_t *)&value->hint;
        message.hint.len = sizeof(value->hint);
        status =
            wk_node_ask(NODE_STORE_CHECK, (const ProtobufCMessage *)&message, &ask, UINT64_MAX);
        wk_ask_fini(&ask);
        if (status == ST_OK) {
            status = storec_pin(wk.store, &value->hint, &view->view);
        }
        if (status == ST_WOULD_BLOCK) { /* asked about, so for good: others still read it */
            status = st_fail(ST_OBJECT_FREED, "the object was freed by its owner");
        }
    }
    if (status != ST_OK) {
        free(view);
        return status;
    }
    atom_u32_store(&view->refs, 1, ATOM_RELAXED);
    view->kind = WK_VALUE_VIEW;
    view->format = value->format;
    view->size = value->hint.size;
    view->data = view->view.data;
    view->item_count = value->item_count;
    view->items = value->items;
    view->base = ray_value_retain(value);
    *out = view;
    return ST_OK;
}

int
wk_value_open(struct ray_value *value, struct own_ref *outer, struct ray_value **out)
{
    *out = NULL;
    if (value->kind == WK_VALUE_HINT) {
        TRY(open_hint(value, out));
    } else if (value->item_count == 0 || !outer) {
        *out = ray_value_retain(value);
        return ST_OK;
    } else {
        struct ray_value *view = calloc(1, sizeof(*view));
        if (!view) {
            return st_fail(ST_OUT_OF_MEMORY, "no memory for a value");
        }
        *view = *value;
        atom_u32_store(&view->refs, 1, ATOM_RELAXED);
        view->embedded = false;
        view->base = ray_value_retain(value);
        *out = view;
    }
    if (outer && (*out)->item_count > 0) {
        own_local_add(outer);
        (*out)->outer = outer;
    }
    return ST_OK;
}

/* ---- put ---- */

static int
put_locked(const struct ray_payload *payload, struct own_ref **out)
{
    TRY(wk_refs_check(payload->refs, payload->ref_count, false));
    const struct id_object id = id_source_put(wk_id_source());
    struct ray_value *value;
    TRY(wk_value_of_payload(payload, &id, &wk.self.worker, &value));
    uint64_t handle;
    memcpy(&handle, &value, sizeof(handle));
    struct own_ref *const *inner;
    memcpy(&inner, &payload->refs, sizeof(inner));
    *out = own_put(&wk.own, &id, wk_state_of(value), handle, false, inner,
                   (uint32_t)payload->ref_count);
    if (!*out) {
        wk_value_drop(handle, (uint64_t)wk_state_of(value) | OWN_DROP_OWNED);
        return st_fail(ST_OUT_OF_MEMORY, "no memory for a reference");
    }
    return ST_OK;
}

static bool
is_settled(void *ctx)
{
    const struct own_ref *ref = ctx;
    return own_is_listed(ref) || ref->state == OWN_GONE || ref->reg == OWN_REG_GONE;
}

/* A put that the actor's process owns: handed out once it is known there. */
static int
put_for_locked(const struct ray_payload *payload, struct wk_actor *actor, struct own_ref **out)
{
    struct wk_peer *peer;
    TRY(wk_actor_wait_peer(actor, &peer));
    const struct id_object id = id_source_put(wk_id_source());
    const struct id_worker owner = peer->addr.worker;
    struct ray_value *value;
    TRY(wk_value_of_payload(payload, &id, &owner, &value));
    if (wk_actor_peer(actor) != peer || !ID_EQ(peer->addr.worker, owner)) {
        /* The lock was given up, and that process has died. */
        if (value->kind == WK_VALUE_HINT) {
            wk_value_free_stored(value);
        }
        ray_value_release(value);
        return st_fail(ST_OWNER_DIED, "the actor that was to own the value died");
    }
    uint64_t handle;
    memcpy(&handle, &value, sizeof(handle));
    struct own_ref *const *inner;
    memcpy(&inner, &payload->refs, sizeof(inner));
    struct own_ref *ref = NULL;
    struct wk_outs o;
    int status = own_put_for(&wk.own, &id, peer->proc, wk_state_of(value), handle, inner,
                             (uint32_t)payload->ref_count, &ref, wk_outs_begin(&o));
    wk_outs_end(&o);
    if (status != ST_OK && value->kind == WK_VALUE_HINT) {
        wk_value_free_stored(value);
    }
    if (status != ST_OK || peer->proc != OWN_SELF) {
        ray_value_release(value); /* the owner has a copy; the store's frees come with its death */
    }
    if (status != ST_OK) {
        return st_fail(status, "the value can't be given to the actor's process");
    }
    status = wk_wait_on(is_settled, ref, UINT64_MAX);
    if (status == ST_OK && !own_is_listed(ref)) {
        status = st_fail(ST_OWNER_DIED, "the actor that was to own the value died");
    }
    if (status != ST_OK) {
        struct wk_outs last;
        own_local_drop(&wk.own, ref, wk_outs_begin(&last));
        wk_outs_end(&last);
        return status;
    }
    *out = ref;
    return ST_OK;
}

RAY_API int
ray_put(const struct ray_payload *payload, ray_actor *owner, ray_ref **out)
{
    *out = NULL;
    TRY(wk_enter());
    struct own_ref *ref = NULL;
    const int status =
        owner ? put_for_locked(payload, wk_actor_of(owner), &ref) : put_locked(payload, &ref);
    if (status == ST_OK) {
        *out = (ray_ref *)ref;
    }
    wk_unlock();
    return status;
}
