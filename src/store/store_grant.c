/* SPDX-License-Identifier: Apache-2.0 */
/* Grants, their return, and the adoption of seals. See store_server.h and docs/protocols/store.md.
 */
#include "base/flt.h"
#include "base/status.h"
#include "store/store_priv.h"

#include <string.h>

enum {
    HUGE_ALIGN_MIN = 8 * 1024 * 1024, /* from here on an object begins on a huge page if it can */
    AHEAD_MAX = 128 * 1024 * 1024,    /* most that is prefaulted after a large object */
    HOLDERS_TOLD = 5,
};

static uint64_t
hash_of_offset(uint64_t offset)
{
    return id_mix64(offset);
}

static struct store_hold *
hold_find(const struct store *store, uint64_t offset)
{
    struct map_link *link = NULL;
    MAP_FOR_HASH (link, &store->holds, hash_of_offset(offset)) {
        struct store_hold *hold = CONTAINER_OF(link, struct store_hold, by_offset);
        if (hold->span->offset == offset) {
            return hold;
        }
    }
    return NULL;
}

/* ---- granting ---- */

static int
fail_full(struct store *store, uint64_t size)
{
    struct str text;
    store_adopt_all(store); /* so that what was sealed counts for its owner */
    str_init(&text, store->config.mem);
    store_describe_holders(store, HOLDERS_TOLD, &text);
    const double mib = 1024.0 * 1024.0;
    const int status = st_fail(
        ST_STORE_FULL,
        "the object store can't hold %.1f MiB more: %.1f of %.1f MiB are in use, and the largest "
        "free part has %.1f MiB. The most is held as follows:%s\nDrop references that are no "
        "longer "
        "needed, return less at a time, or start with a larger object_store_memory.",
        (double)size / mib, (double)store->space.used / mib, (double)store->config.capacity / mib,
        (double)store_space_largest(&store->space) / mib, str_text(&text));
    str_fini(&text);
    return status;
}

/* Space, after freeing whatever waits to be freed when that is needed. */
static struct store_span *
take_space(struct store *store, uint64_t size)
{
    if (!list_is_empty(&store->dying_fresh)) {
        store_scan(store, false); /* what was just freed is the warmest */
    }
    for (unsigned attempt = 0; attempt < 2; attempt++) {
        struct store_span *span = NULL;
        if (size >= HUGE_ALIGN_MIN) {
            span = store_space_take(&store->space, size, STORE_CHUNK);
        }
        if (!span) {
            span = store_space_take(&store->space, size, STORE_PAGE);
        }
        if (span || list_is_empty(&store->dying_pinned)) {
            return span;
        }
        store_scan(store, true);
    }
    return NULL;
}

/* Slots and seal entries for a grant; all or none. */
static bool
give_slots(struct store *store, struct store_proc *proc, struct store_hold *hold, uint32_t n,
           struct store_grant *out)
{
    for (uint32_t i = 0; i < n; i++) {
        struct store_slot *slot = store_slot_take(store);
        if (!slot) {
            n = i;
            break;
        }
        slot->hold = hold;
        slot->hold_index = (uint8_t)i;
        const uint16_t seal = proc->seals[--proc->seals_free];
        hold->slots[i].slot = slot->number;
        hold->slots[i].seal = seal;
        hold->slots[i].state = STORE_HOLD_OPEN;
        hold->slot_count = i + 1;
        out->slots[i] = (struct store_grant_slot){ .generation = slot->generation,
                                                   .slot = slot->number,
                                                   .seal = seal };
        store_row_grant(store_slot_row(store, slot), slot->generation, hold->span->offset,
                        hold->span->size, &proc->worker);
        (void)FAULT("store.grant.between_rows");
    }
    return n > 0; /* a region with fewer slots than usual still serves */
}

static int
check_proc(struct store *store, struct store_proc *proc, uint32_t slots)
{
    if (!proc || proc->dead) {
        return st_fail(ST_CLOSED, "the object store grants nothing to a process that is gone");
    }
    store_adopt_proc(store, proc);
    if (proc->seals_free < slots) {
        return st_fail(ST_LIMIT,
                       "%s pid=%d has %d objects of the store unfinished, which is the most",
                       proc->label, proc->pid, STORE_SEALS);
    }
    if (store->slots_free < slots) {
        store_scan(store, true);
    }
    if (store->slots_free < slots) {
        return st_fail(ST_STORE_FULL, "the object store holds %u objects, the most it has room for",
                       store->config.slot_count);
    }
    return ST_OK;
}

static int
grant(struct store *store, uint32_t number, uint16_t kind, uint64_t size, uint32_t slots,
      struct store_grant *out)
{
    struct store_proc *proc = store_proc_find(store, number);
    memset(out, 0, sizeof(*out));
    TRY(check_proc(store, proc, slots));
    TRY(FAULT("store.grant.before_space"));
    struct store_span *span = take_space(store, size);
    if (!span) {
        return fail_full(store, size);
    }
    struct store_hold *hold = slab_take(&store->hold_slab);
    if (!hold) {
        store_space_give(&store->space, span);
        return st_fail(ST_OUT_OF_MEMORY, "no memory for the record of a grant");
    }
    *hold = (struct store_hold){ .proc = proc, .span = span, .kind = kind };
    list_init(&hold->by_proc);
    if (map_insert(&store->holds, &hold->by_offset, hash_of_offset(span->offset)) != ST_OK) {
        slab_give(&store->hold_slab, hold);
        store_space_give(&store->space, span);
        return st_fail(ST_OUT_OF_MEMORY, "no memory for the record of a grant");
    }
    list_push_back(&proc->holds, &hold->by_proc);
    proc->hold_bytes += span->size;
    store->counts.grants++;
    store->counts.grant_bytes += span->size;
    const bool cold = store_chunks_take(&store->chunks, span->offset, span->size);
    if (cold && size >= HUGE_ALIGN_MIN) { /* the next of its size should find memory there */
        store_chunks_ahead(&store->chunks, span->offset + span->size,
                           size < AHEAD_MAX ? size : AHEAD_MAX);
    }
    *out = (struct store_grant){
        .offset = span->offset, .size = span->size, .kind = kind, .cold = cold
    };
    if (!give_slots(store, proc, hold, slots, out)) {
        store_hold_close(store, hold);
        return st_fail(ST_OUT_OF_MEMORY, "no memory for the object store's slots");
    }
    out->slot_count = hold->slot_count;
    return ST_OK;
}

int
store_grant_region(struct store *store, uint32_t proc, struct store_grant *out)
{
    return grant(store, proc, STORE_GRANT_REGION, STORE_REGION_SIZE, STORE_REGION_SLOTS, out);
}

int
store_grant_object(struct store *store, uint32_t proc, uint64_t size, struct store_grant *out)
{
    memset(out, 0, sizeof(*out));
    if (size > store->config.capacity) {
        return fail_full(store, size);
    }
    return grant(store, proc, STORE_GRANT_OBJECT, store_round(size ? size : 1, STORE_PAGE), 1, out);
}

/* ---- adoption ---- */

static bool
overlaps_sealed(const struct store *store, const struct store_hold *hold, uint64_t offset,
                uint64_t size)
{
    for (uint32_t i = 0; i < hold->slot_count; i++) {
        if (hold->slots[i].state != STORE_HOLD_SEALED) {
            continue;
        }
        const struct store_slot *other = store_slot_find(store, hold->slots[i].slot);
        if (offset < other->offset + other->size && other->offset < offset + size) {
            return true;
        }
    }
    return false;
}

/* The bytes of a grant that an object takes, whole STORE_ALIGNs; false when the process lies. */
static bool
check_bounds(const struct store *store, const struct store_hold *hold,
             const struct store_sealed *sealed)
{
    const uint64_t start = hold->span->offset;
    const uint64_t room = hold->span->size;
    if (sealed->offset < start || sealed->offset % STORE_ALIGN != 0 ||
        sealed->offset - start >= room || sealed->size > room - (sealed->offset - start)) {
        return false;
    }
    const uint64_t size = store_round(sealed->size ? sealed->size : 1, STORE_ALIGN);
    return !overlaps_sealed(store, hold, sealed->offset, size);
}

static void
end_unsealed(struct store *store, struct store_hold *hold, uint32_t i)
{
    struct store_slot *slot = store_slot_find(store, hold->slots[i].slot);
    ASSERT(slot->state == STORE_GRANTED && slot->hold == hold);
    store_row_free(store_slot_row(store, slot), slot->generation);
    slot->hold = NULL;
    hold->slots[i].state = STORE_HOLD_DONE;
    hold->proc->seals[hold->proc->seals_free++] = hold->slots[i].seal;
    store_slot_give(store, slot);
}

static void
adopt_slot(struct store *store, struct store_hold *hold, uint32_t i,
           const struct store_sealed *sealed)
{
    struct store_proc *proc = hold->proc;
    struct store_slot *slot = store_slot_find(store, hold->slots[i].slot);
    ASSERT(slot->state == STORE_GRANTED && slot->hold == hold);
    slot->offset = sealed->offset;
    slot->size = store_round(sealed->size ? sealed->size : 1, STORE_ALIGN);
    slot->id = sealed->what.id;
    slot->attempt = sealed->what.attempt;
    struct store_holder *holder = store_holder_get(store, &sealed->what.owner);
    ASSERT(holder); /* a few bytes: without them the raylet can't go on */
    const int inserted = map_insert(&store->ids, &slot->by_id, id_object_hash(&slot->id));
    ASSERT(inserted == ST_OK);
    store_row_seal(store_slot_row(store, slot), slot->generation, sealed);
    slot->state = STORE_SEALED;
    store_holder_add(store, holder, slot);
    list_push_back(&proc->created, &slot->by_creator);
    hold->slots[i].state = STORE_HOLD_SEALED;
    (void)FAULT("store.adopt.before_recycle");
    proc->seals[proc->seals_free++] = hold->slots[i].seal;
    if (holder->dead) {
        store_begin_free(store, slot);
    }
}

void
store_adopt_proc(struct store *store, struct store_proc *proc)
{
    LIST_FOR_SAFE (link, next, &proc->holds) {
        struct store_hold *hold = LIST_ENTRY(link, struct store_hold, by_proc);
        bool adopted = false;
        for (uint32_t i = 0; i < hold->slot_count; i++) {
            struct store_sealed sealed;
            if (hold->slots[i].state != STORE_HOLD_OPEN) {
                continue;
            }
            const struct store_slot *slot = store_slot_find(store, hold->slots[i].slot);
            if (!store_seal_read(&proc->ctl.process->seals[hold->slots[i].seal], slot->number,
                                 slot->generation, &sealed)) {
                continue;
            }
            sealed.what.creator = proc->worker;
            if (check_bounds(store, hold, &sealed)) {
                adopt_slot(store, hold, i, &sealed);
                adopted = true;
            } else {
                store->counts.bad_entries++;
                end_unsealed(store, hold, i);
            }
        }
        if (adopted && hold->kind == STORE_GRANT_OBJECT) {
            store_hold_close(store, hold); /* one object: nothing more can come */
        }
    }
}

void
store_adopt_all(struct store *store)
{
    LIST_FOR_SAFE (link, next, &store->proc_list) {
        store_adopt_proc(store, LIST_ENTRY(link, struct store_proc, all));
    }
}

void
store_adopt(struct store *store, uint32_t number)
{
    struct store_proc *proc = store_proc_find(store, number);
    if (proc) {
        store_adopt_proc(store, proc);
    }
}

/* ---- closing ---- */

/* Alive or dying objects of a grant, by offset. */
static uint32_t
sorted_sealed(const struct store *store, const struct store_hold *hold,
              struct store_slot *out[STORE_REGION_SLOTS])
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < hold->slot_count; i++) {
        if (hold->slots[i].state != STORE_HOLD_SEALED) {
            continue;
        }
        struct store_slot *slot = store_slot_find(store, hold->slots[i].slot);
        uint32_t at = count++;
        for (; at > 0 && out[at - 1]->offset > slot->offset; at--) {
            out[at] = out[at - 1];
        }
        out[at] = slot;
    }
    return count;
}

void
store_hold_close(struct store *store, struct store_hold *hold)
{
    struct store_slot *sealed[STORE_REGION_SLOTS];
    for (uint32_t i = 0; i < hold->slot_count; i++) {
        if (hold->slots[i].state == STORE_HOLD_OPEN) {
            end_unsealed(store, hold, i);
        }
    }
    list_remove(&hold->by_proc);
    map_remove(&store->holds, &hold->by_offset);
    hold->proc->hold_bytes -= hold->span->size;
    store->counts.grants--;
    store->counts.grant_bytes -= hold->span->size;

    struct store_span *rest = hold->span;
    const uint32_t count = sorted_sealed(store, hold, sealed);
    for (uint32_t i = 0; i < count; i++) {
        struct store_slot *slot = sealed[i];
        ASSERT(rest && slot->offset >= rest->offset);
        if (slot->offset > rest->offset) {
            struct store_span *right = store_space_split(&store->space, rest, slot->offset);
            store_release_span(store, rest);
            rest = right;
        }
        slot->span = rest;
        slot->hold = NULL;
        rest = slot->size < slot->span->size
                   ? store_space_split(&store->space, slot->span, slot->offset + slot->size)
                   : NULL;
    }
    if (rest) {
        store_release_span(store, rest);
    }
    slab_give(&store->hold_slab, hold);
}

int
store_on_return(struct store *store, uint32_t number, uint64_t offset)
{
    struct store_proc *proc = store_proc_find(store, number);
    if (!proc) {
        return st_fail(ST_NOT_FOUND, "a grant came back from an unknown process");
    }
    store_adopt_proc(store, proc); /* may close it */
    struct store_hold *hold = hold_find(store, offset);
    if (!hold || hold->proc != proc) {
        return st_fail(ST_NOT_FOUND, "%s pid=%d gave back a grant that it doesn't hold",
                       proc->label, proc->pid);
    }
    (void)FAULT("store.return.before_close");
    store_hold_close(store, hold);
    return ST_OK;
}
