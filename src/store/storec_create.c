/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Creating objects: regions held ahead of need, single grants for large objects, seals.
 *
 * A region is filled from its start and never reused: what is freed in there goes back to the
 * raylet with the region, and only a new grant makes it usable. See storec.h and
 * docs/protocols/store.md.
 */
#include "base/flt.h"
#include "base/status.h"
#include "os/os_shm.h"
#include "store/storec_priv.h"

#include <string.h>

static uint64_t
rounded(uint64_t size)
{
    return ((size ? size : 1) + STORE_ALIGN - 1) & ~(uint64_t)(STORE_ALIGN - 1);
}

/* ---- the writable view ---- */

/* Which parts of the second view are writable follows the grants. A few stay writable after their
 * last object: changing protection costs as much as a third of a copy, and the next grant is often
 * of the same, warm memory. */
static void
forbid(struct storec *store, uint64_t offset, uint64_t size)
{
    const int status = os_shm_protect(store->writable + offset, size, OS_SHM_NONE);
    (void)status; /* it stays writable for this library's own bugs, no more */
}

static void
warm_remove(struct storec *store, uint32_t i)
{
    store->warm_count--;
    memmove(&store->warm[i], &store->warm[i + 1], (store->warm_count - i) * sizeof(store->warm[0]));
}

static int
allow(struct storec *store, const struct store_grant *grant)
{
    for (uint32_t i = store->warm_count; i-- > 0;) {
        const uint64_t offset = store->warm[i].offset;
        const uint64_t size = store->warm[i].size;
        if (offset == grant->offset && size == grant->size) {
            warm_remove(store, i);
            return ST_OK;
        }
        if (offset < grant->offset + grant->size && grant->offset < offset + size) {
            warm_remove(store, i);
            forbid(store, offset, size);
        }
    }
    return os_shm_protect(store->writable + grant->offset, grant->size, OS_SHM_WRITE);
}

static void
retire_range(struct storec *store, const struct store_grant *grant)
{
    if (store->warm_count == STOREC_WARM_MAX) {
        forbid(store, store->warm[0].offset, store->warm[0].size);
        warm_remove(store, 0);
    }
    store->warm[store->warm_count].offset = grant->offset;
    store->warm[store->warm_count].size = grant->size;
    store->warm_count++;
}

/* ---- grants ---- */

static int
check_grant(const struct storec *store, const struct store_grant *grant, uint16_t kind)
{
    bool good = grant->kind == kind && grant->offset % STORE_PAGE == 0 && grant->size > 0 &&
                grant->size % STORE_PAGE == 0 && grant->size <= store->data_size &&
                grant->offset <= store->data_size - grant->size && grant->slot_count > 0 &&
                grant->slot_count <= STORE_REGION_SLOTS;
    for (uint32_t i = 0; good && i < grant->slot_count; i++) {
        const struct store_grant_slot *slot = &grant->slots[i];
        good = slot->slot < store->slot_count && slot->seal < STORE_SEALS && slot->generation > 0 &&
               slot->generation <= STORE_GENERATION_MAX;
    }
    return good ? ST_OK : st_fail(ST_PROTOCOL, "the raylet's grant of memory makes no sense");
}

static int
add_grant(struct storec *store, const struct store_grant *grant, struct list *list,
          struct storec_grant **out)
{
    *out = NULL;
    struct storec_grant *held = slab_take(&store->grants);
    if (!held) {
        return st_fail(ST_OUT_OF_MEMORY, "no memory for the record of a grant");
    }
    const int status = allow(store, grant);
    if (status != ST_OK) {
        slab_give(&store->grants, held);
        return status;
    }
    *held = (struct storec_grant){ .grant = *grant };
    list_init(&held->link);
    list_push_back(list, &held->link);
    *out = held;
    return ST_OK;
}

/* To be told back to the raylet. */
static void
queue_return(struct storec *store, struct storec_grant *held)
{
    ASSERT(held->making == 0);
    list_remove(&held->link);
    retire_range(store, &held->grant);
    list_push_back(&store->returns, &held->link);
}

static struct storec_grant *
current_region(const struct storec *store)
{
    struct list *first = list_first(&store->regions);
    return first ? LIST_ENTRY(first, struct storec_grant, link) : NULL;
}

static void
close_region(struct storec *store, struct storec_grant *held)
{
    store->region_count--;
    held->closing = true;
    if (held->making == 0) {
        queue_return(store, held);
    } else {
        list_remove(&held->link);
        list_push_back(&store->closing, &held->link);
    }
}

int
storec_on_grant(struct storec *store, const struct store_grant *grant)
{
    struct storec_grant *held = NULL;
    if (atom_u32_load(&store->forked, ATOM_RELAXED)) {
        return ST_CLOSED;
    }
    store->asked -= store->asked > 0 ? 1 : 0;
    TRY(check_grant(store, grant, STORE_GRANT_REGION));
    TRY(add_grant(store, grant, &store->regions, &held));
    store->region_count++;
    store->hungry = false;
    return ST_OK;
}

unsigned
storec_regions_wanted(const struct storec *store)
{
    const struct storec_grant *current = current_region(store);
    uint32_t target = store->hungry ? 1 : 0;
    if (current && current->bump > current->grant.size / 2) {
        target = 1 + store->ahead;
    } else if (current && current->bump > 0) {
        target = store->ahead; /* one until this process has shown that it needs more */
    }
    const uint32_t have = store->region_count + store->asked;
    return target > have ? target - have : 0;
}

void
storec_asked(struct storec *store, int n)
{
    const int64_t asked = (int64_t)store->asked + n;
    store->asked = asked > 0 ? (uint32_t)asked : 0;
}

bool
storec_next_return(struct storec *store, uint64_t *offset)
{
    *offset = 0;
    struct list *first = list_pop_front(&store->returns);
    if (!first) {
        return false;
    }
    struct storec_grant *held = LIST_ENTRY(first, struct storec_grant, link);
    *offset = held->grant.offset;
    slab_give(&store->grants, held);
    return true;
}

void
storec_give_back(struct storec *store, bool keep_current)
{
    const struct storec_grant *current = current_region(store);
    LIST_FOR_SAFE (link, next, &store->regions) {
        struct storec_grant *held = LIST_ENTRY(link, struct storec_grant, link);
        if (!(keep_current && held == current) && held->making == 0) {
            close_region(store, held);
        }
    }
    store->ahead = 1;
    store->hungry = false;
    while (store->warm_count > 0) {
        forbid(store, store->warm[0].offset, store->warm[0].size);
        warm_remove(store, 0);
    }
}

/* ---- objects ---- */

static void
begin_object(struct storec *store, struct storec_grant *held, uint64_t size,
             struct storec_object *out)
{
    ASSERT(held);
    const struct store_grant_slot *slot = &held->grant.slots[held->next_slot++];
    const uint64_t offset = held->grant.offset + held->bump;
    held->bump += rounded(size);
    held->making++;
    store->making++;
    *out = (struct storec_object){
        .data = store->writable + offset,
        .size = size,
        .offset = offset,
        .generation = slot->generation,
        .store = store,
        .grant = held,
        .slot = slot->slot,
        .seal = slot->seal,
    };
}

int
storec_create(struct storec *store, uint64_t size, struct storec_object *out)
{
    *out = (struct storec_object){ 0 };
    if (atom_u32_load(&store->forked, ATOM_RELAXED)) {
        return st_fail(ST_CLOSED, "a forked child can't use its parent's object store");
    }
    if (size > STORE_SMALL_MAX) {
        return st_fail(ST_INVALID_ARGUMENT, "an object of %llu bytes needs a grant of its own",
                       (unsigned long long)size);
    }
    struct storec_grant *held = NULL;
    while ((held = current_region(store)) != NULL) {
        if (held->next_slot < held->grant.slot_count &&
            rounded(size) <= held->grant.size - held->bump) {
            begin_object(store, held, size, out);
            return ST_OK;
        }
        close_region(store, held);
    }
    if (store->asked > 0 && store->ahead < STOREC_AHEAD_MAX) {
        store->ahead *= 2; /* the raylet's answers come too late for this pace */
    }
    store->hungry = true;
    return ST_WOULD_BLOCK;
}

int
storec_create_in(struct storec *store, const struct store_grant *grant, uint64_t size,
                 struct storec_object *out)
{
    struct storec_grant *held = NULL;
    *out = (struct storec_object){ 0 };
    if (atom_u32_load(&store->forked, ATOM_RELAXED)) {
        return st_fail(ST_CLOSED, "a forked child can't use its parent's object store");
    }
    TRY(check_grant(store, grant, STORE_GRANT_OBJECT));
    if (size > grant->size) {
        return st_fail(ST_PROTOCOL, "the raylet granted %llu bytes where %llu were asked for",
                       (unsigned long long)grant->size, (unsigned long long)size);
    }
    TRY(add_grant(store, grant, &store->larges, &held));
    begin_object(store, held, size, out);
    out->cold = grant->cold != 0;
    return ST_OK;
}

/* The grant has one object less in the making. */
static void
end_object(struct storec *store, struct storec_object *object, bool sealed)
{
    struct storec_grant *held = object->grant;
    ASSERT(held->making > 0 && store == object->store);
    held->making--;
    store->making--;
    if (held->grant.kind == STORE_GRANT_OBJECT) {
        if (sealed) { /* the raylet closes it when it adopts the seal */
            list_remove(&held->link);
            retire_range(store, &held->grant);
            slab_give(&store->grants, held);
        } else {
            queue_return(store, held);
        }
    } else if (held->closing && held->making == 0) {
        queue_return(store, held);
    }
    *object = (struct storec_object){ 0 };
    if (store->closed && atom_u64_fetch_add(&store->refs, UINT64_MAX, ATOM_ACQ_REL) == 1) {
        storec_destroy(store);
    }
}

void
storec_seal(struct storec *store, struct storec_object *object, const struct id_object *id,
            uint32_t attempt, const struct id_worker *owner, struct store_hint *hint)
{
    const struct store_sealed sealed = {
        .offset = object->offset,
        .size = object->size,
        .what = { .id = *id, .owner = *owner, .attempt = attempt },
    };
    ASSERT(object->grant && !atom_u32_load(&store->forked, ATOM_RELAXED));
    store_seal_write(&store->process->seals[object->seal], object->slot, object->generation,
                     &sealed);
    *hint = (struct store_hint){
        .generation = object->generation,
        .offset = object->offset,
        .size = object->size,
        .slot = object->slot,
        .epoch = store->epoch,
    };
    end_object(store, object, true);
}

void
storec_abort(struct storec *store, struct storec_object *object)
{
    struct storec_grant *held = object->grant;
    if (!held || atom_u32_load(&store->forked, ATOM_RELAXED)) {
        *object = (struct storec_object){ 0 };
        return;
    }
    /* Nobody has heard of this slot or read this memory: both can be used for another object. */
    held->grant.slots[--held->next_slot] = (struct store_grant_slot){
        .generation = object->generation, .slot = object->slot, .seal = object->seal
    };
    if (object->offset + rounded(object->size) == held->grant.offset + held->bump) {
        held->bump = object->offset - held->grant.offset;
    }
    end_object(store, object, false);
}

void
storec_prepare(struct storec_object *object)
{
    enum { HUGE = 2 * 1024 * 1024 };
    if (!object->cold || object->size < HUGE) {
        return;
    }
    const uintptr_t start = ((uintptr_t)object->data + HUGE - 1) & ~((uintptr_t)HUGE - 1);
    const uintptr_t end = ((uintptr_t)object->data + object->size) & ~((uintptr_t)HUGE - 1);
    char *at = (char *)object->data + (start - (uintptr_t)object->data);
    for (uintptr_t done = start; done < end; done += HUGE, at += HUGE) {
        if (os_shm_populate_huge(at, HUGE) != ST_OK) {
            break; /* small pages come by themselves */
        }
    }
    object->cold = false;
}
