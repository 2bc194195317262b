/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frees, evictions and the scan for pins. Two steps: the row says DYING, then, after a fence, every
 * process's pins are read; what none of them names is free. Many slots share one scan.
 */
#include "base/flt.h"
#include "base/status.h"
#include "store/store_priv.h"

void
store_release_span(struct store *store, struct store_span *span)
{
    if (span->size >= STORE_CHUNK) {
        store_chunks_ahead(&store->chunks, 0, 0); /* warm memory comes back: it is used first */
    }
    store_chunks_give(&store->chunks, span->offset, span->size);
    store_space_give(&store->space, span);
    store->counts.freed++;
}

/* Out of the tables of the living. */
static void
unlink_living(struct store *store, struct store_slot *slot)
{
    ASSERT(slot->state == STORE_SEALED);
    store_holder_remove(store, slot);
    list_remove(&slot->by_creator);
    map_remove(&store->ids, &slot->by_id);
}

void
store_begin_free(struct store *store, struct store_slot *slot)
{
    unlink_living(store, slot);
    slot->state = STORE_DYING;
    store_row_dying(store_slot_row(store, slot), slot->generation);
    list_push_back(&store->dying_fresh, &slot->dying);
    store->counts.dying++;
    store->counts.dying_bytes += slot->size;
}

/* DYING, in no list of the dying, and no pin names it. */
static void
finish_free(struct store *store, struct store_slot *slot)
{
    ASSERT(slot->state == STORE_DYING && list_is_empty(&slot->dying));
    store_row_free(store_slot_row(store, slot), slot->generation);
    if (slot->hold) { /* its space stays with the open region */
        ASSERT(slot->hold->slots[slot->hold_index].slot == slot->number);
        slot->hold->slots[slot->hold_index].state = STORE_HOLD_DONE;
        slot->hold = NULL;
    } else {
        store_release_span(store, slot->span);
        slot->span = NULL;
    }
    store_slot_give(store, slot);
}

/* ---- the scan ---- */

static bool
on_pin(void *ctx, uint64_t name)
{
    struct store *store = ctx;
    struct store_slot *slot = store_slot_find(store, store_name_slot(name));
    if (slot && slot->generation == store_name_generation(name)) {
        slot->scan = store->scan_serial;
    }
    return true;
}

static void
read_all_pins(struct store *store)
{
    store->scan_serial++;
    store_scan_fence();
    LIST_FOR (link, &store->proc_list) {
        const struct store_proc *proc = LIST_ENTRY(link, struct store_proc, all);
        const struct store_pins pins = {
            .pages = &proc->ctl.process->pin_pages,
            .pins = proc->ctl.process->pins,
            .per_page = STORE_PINS_PER_PAGE,
            .pages_max = STORE_PIN_PAGES,
        };
        store_scan_pins(&pins, on_pin, store);
    }
}

static void
free_unpinned(struct store *store, struct list *dying)
{
    struct list work;
    list_init(&work);
    list_splice_back(&work, dying);
    struct list *link = NULL;
    while ((link = list_pop_front(&work)) != NULL) {
        struct store_slot *slot = LIST_ENTRY(link, struct store_slot, dying);
        if (slot->scan == store->scan_serial) {
            store->pinned_anew = store->pinned_anew || dying == &store->dying_fresh;
            list_push_back(&store->dying_pinned, &slot->dying);
        } else {
            store->counts.dying--;
            store->counts.dying_bytes -= slot->size;
            finish_free(store, slot);
        }
    }
}

void
store_scan(struct store *store, bool all)
{
    if (list_is_empty(&store->dying_fresh) && (!all || list_is_empty(&store->dying_pinned))) {
        return;
    }
    (void)FAULT("store.scan.before_fence");
    read_all_pins(store);
    if (all) {
        free_unpinned(store, &store->dying_pinned);
    }
    free_unpinned(store, &store->dying_fresh);
}

/* ---- requests ---- */

/* The living slot that a reference names; adopts its creator's seals first if need be. */
static struct store_slot *
find_sealed(struct store *store, const struct store_ref *ref)
{
    struct store_slot *slot = store_slot_find(store, ref->slot);
    if (!slot || slot->generation != ref->generation) {
        return NULL;
    }
    if (slot->state == STORE_GRANTED) {
        ASSERT(slot->hold);
        store_adopt_proc(store, slot->hold->proc);
    }
    return slot->state == STORE_SEALED && slot->generation == ref->generation ? slot : NULL;
}

static int
fail_gone(void)
{
    return st_fail(ST_NOT_FOUND, "the object is not in this node's store any more");
}

int
store_free(struct store *store, const struct id_worker *who, const struct store_ref *ref)
{
    struct store_slot *slot = find_sealed(store, ref);
    if (!slot) {
        return fail_gone();
    }
    if (!ID_EQ(slot->holder->worker, *who) &&
        !ID_EQ(store_slot_row(store, slot)->what.creator, *who)) {
        return st_fail(ST_INVALID_ARGUMENT, "only an object's owner can free it");
    }
    store_begin_free(store, slot);
    return ST_OK;
}

int
store_evict(struct store *store, const struct store_ref *ref)
{
    struct store_slot *slot = find_sealed(store, ref);
    if (!slot) {
        return fail_gone();
    }
    struct store_row *row = store_slot_row(store, slot);
    store_row_dying(row, slot->generation);
    (void)FAULT("store.evict.after_dying");
    read_all_pins(store);
    if (slot->scan == store->scan_serial) {
        store_row_restore(row, slot->generation);
        return ST_WOULD_BLOCK;
    }
    unlink_living(store, slot);
    slot->state = STORE_DYING;
    finish_free(store, slot);
    return ST_OK;
}

int
store_check(struct store *store, const struct store_hint *hint)
{
    const struct store_slot *slot = store_slot_find(store, hint->slot);
    if (hint->epoch != store->config.epoch || !slot || slot->generation != hint->generation ||
        slot->state == STORE_FREE || slot->state == STORE_DYING) {
        return st_fail(ST_OBJECT_FREED, "the object was freed by its owner");
    }
    return ST_OK;
}

static struct store_slot *
find_id(const struct store *store, const struct id_object *id)
{
    struct store_slot *best = NULL;
    struct map_link *link = NULL;
    MAP_FOR_HASH (link, &store->ids, id_object_hash(id)) {
        struct store_slot *slot = CONTAINER_OF(link, struct store_slot, by_id);
        if (ID_EQ(slot->id, *id) && (!best || slot->attempt > best->attempt)) {
            best = slot;
        }
    }
    return best;
}

int
store_find(struct store *store, const struct id_object *id, struct store_hint *out)
{
    *out = (struct store_hint){ 0 };
    struct store_slot *slot = find_id(store, id);
    if (!slot) {
        store_adopt_all(store);
        slot = find_id(store, id);
    }
    if (!slot) {
        return fail_gone();
    }
    *out = (struct store_hint){
        .generation = slot->generation,
        .offset = slot->offset,
        .size = atom_u64_load(&store_slot_row(store, slot)->object_size, ATOM_RELAXED),
        .slot = slot->number,
        .epoch = store->config.epoch,
    };
    return ST_OK;
}
