/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pins: hazard entries in the process's control page. An entry is taken under the caller's lock and
 * given back by any thread, through a stack that is pushed to by one and emptied whole, so that it
 * needs no tags. See storec.h and docs/protocols/store.md.
 */
#include "base/status.h"
#include "store/storec_priv.h"

static struct storec_pin_entry *
entry_of(const struct storec *store, uint32_t entry)
{
    return &store->pin_pages[entry / STORE_PINS_PER_PAGE][entry % STORE_PINS_PER_PAGE];
}

/* A free entry, or STORE_PINS when there is none. */
static uint32_t
take_entry(struct storec *store)
{
    if (store->pin_free == 0) {
        store->pin_free = atom_u32_exchange(&store->pin_freed, 0, ATOM_ACQUIRE);
    }
    if (store->pin_free != 0) {
        const uint32_t entry = store->pin_free - 1;
        store->pin_free = entry_of(store, entry)->next;
        return entry;
    }
    if (store->pin_fresh == STORE_PINS) {
        return STORE_PINS;
    }
    const uint32_t page = store->pin_fresh / STORE_PINS_PER_PAGE;
    if (!store->pin_pages[page]) {
        store->pin_pages[page] =
            mem_alloc(store->mem, STORE_PINS_PER_PAGE * sizeof(struct storec_pin_entry));
        if (!store->pin_pages[page]) {
            return STORE_PINS;
        }
    }
    return store->pin_fresh++;
}

static int
fail_pin(struct storec *store, uint32_t entry, enum store_pin_verdict verdict)
{
    store_pin_clear(&store->pins, entry);
    entry_of(store, entry)->next = store->pin_free;
    store->pin_free = entry + 1;
    switch (verdict) {
    case STORE_PIN_DYING:
        return ST_WOULD_BLOCK;
    case STORE_PIN_BOUNDS:
        return st_fail(ST_PROTOCOL, "an object's hint lies outside the memory granted for it");
    case STORE_PIN_GONE:
    case STORE_PIN_OK:
        break;
    }
    return st_fail(ST_OBJECT_FREED, "the object was freed by its owner");
}

int
storec_pin(struct storec *store, const struct store_hint *hint, struct storec_view *view)
{
    *view = (struct storec_view){ 0 };
    if (atom_u32_load(&store->forked, ATOM_RELAXED)) {
        return st_fail(ST_CLOSED, "a forked child can't use its parent's object store");
    }
    if (hint->epoch != store->epoch || hint->generation == 0 ||
        hint->generation > STORE_GENERATION_MAX) {
        return st_fail(ST_OBJECT_FREED, "the object was in a store that is no more");
    }
    if (hint->slot >= store->slot_count || hint->size > store->data_size ||
        hint->offset > store->data_size - hint->size) {
        return st_fail(ST_PROTOCOL, "an object's hint lies outside the store");
    }
    const uint32_t entry = take_entry(store);
    if (entry == STORE_PINS) {
        return st_fail(ST_LIMIT, "this process reads too many objects at once (the most is %d)",
                       STORE_PINS);
    }
    atom_u32_store(&entry_of(store, entry)->meta, 0, ATOM_RELAXED);
    store_pin_publish(&store->pins, entry, store_name_word(hint->slot, hint->generation));
    const enum store_pin_verdict verdict = store_pin_check(&store->rows[hint->slot], hint);
    if (verdict != STORE_PIN_OK) {
        return fail_pin(store, entry, verdict);
    }
    store->pinned++;
    *view = (struct storec_view){
        .data = store->data + hint->offset,
        .size = hint->size,
        .store = store,
        .pin = entry + 1,
    };
    return ST_OK;
}

bool
storec_is_there(const struct storec *store, const struct store_hint *hint)
{
    return hint->epoch == store->epoch && hint->slot < store->slot_count &&
           store_pin_check(&store->rows[hint->slot], hint) == STORE_PIN_OK;
}

/* Clears the word and pushes the entry for the next pin. */
static void
free_entry(struct storec *store, uint32_t entry)
{
    struct storec_pin_entry *mine = entry_of(store, entry);
    store_pin_clear(&store->pins, entry);
    uint32_t head = atom_u32_load(&store->pin_freed, ATOM_RELAXED);
    do {
        mine->next = head;
    } while (!atom_u32_cas(&store->pin_freed, &head, entry + 1));
}

void
storec_unpin(struct storec_view *view)
{
    struct storec *store = view->store;
    const uint32_t pin = view->pin;
    *view = (struct storec_view){ 0 };
    if (pin == 0 || atom_u32_load(&store->forked, ATOM_RELAXED)) {
        return;
    }
    const uint32_t meta =
        atom_u32_fetch_or(&entry_of(store, pin - 1)->meta, STOREC_PIN_RELEASED, ATOM_ACQ_REL);
    if (meta == 0 || !ATOM_RULE(store_unpin_leaves_held)) { /* else the last fork hold clears it */
        free_entry(store, pin - 1);
    }
    if (atom_u64_fetch_add(&store->refs, UINT64_MAX, ATOM_ACQ_REL) == 1) {
        storec_destroy(store); /* closed, and this was the last view */
    }
}

uint64_t
storec_pins_held(const struct storec *store)
{
    return store->pinned - (STOREC_OPEN - atom_u64_load(&store->refs, ATOM_ACQUIRE));
}

/* ---- forks ---- */

static size_t
fork_size(uint32_t capacity)
{
    return sizeof(struct storec_fork) + (size_t)capacity * sizeof(uint32_t);
}

int
storec_fork_hold(struct storec *store, uint32_t *token)
{
    *token = 0;
    uint32_t n = 0;
    for (uint32_t i = 0; i < store->pin_fresh; i++) {
        n += atom_u64_load(&store->pins.pins[i], ATOM_RELAXED) != 0;
    }
    struct storec_fork *fork = mem_alloc(store->mem, fork_size(n));
    if (!fork) {
        return st_fail(ST_LIMIT, "no memory to keep a forked child's objects alive");
    }
    *fork = (struct storec_fork){ .token = ++store->last_token, .capacity = n };
    list_init(&fork->link);
    /* Entries can only become free meanwhile: taking one needs the lock, and so does a release. */
    for (uint32_t i = 0; i < store->pin_fresh && fork->count < n; i++) {
        struct storec_pin_entry *entry = entry_of(store, i);
        if (atom_u64_load(&store->pins.pins[i], ATOM_RELAXED) == 0) {
            continue;
        }
        if (atom_u32_fetch_add(&entry->meta, STOREC_PIN_HOLD, ATOM_ACQ_REL) ==
                STOREC_PIN_RELEASED &&
            ATOM_RULE(store_hold_undone)) {
            /* Its unpin came first and clears the word; the child has no view of it either. */
            (void)atom_u32_fetch_add(&entry->meta, 0U - STOREC_PIN_HOLD, ATOM_ACQ_REL);
            continue;
        }
        fork->entries[fork->count++] = i;
    }
    list_push_back(&store->forks, &fork->link);
    *token = fork->token;
    return ST_OK;
}

static void
fork_delete(struct storec *store, struct storec_fork *fork)
{
    list_remove(&fork->link);
    mem_free(store->mem, fork, fork_size(fork->capacity));
}

void
storec_fork_release(struct storec *store, uint32_t token)
{
    if (atom_u32_load(&store->forked, ATOM_RELAXED)) {
        return;
    }
    LIST_FOR_SAFE (link, next, &store->forks) {
        struct storec_fork *fork = LIST_ENTRY(link, struct storec_fork, link);
        if (fork->token != token) {
            continue;
        }
        for (uint32_t i = 0; i < fork->count; i++) {
            struct storec_pin_entry *entry = entry_of(store, fork->entries[i]);
            if (atom_u32_fetch_add(&entry->meta, 0U - STOREC_PIN_HOLD, ATOM_ACQ_REL) ==
                    STOREC_PIN_HOLD + STOREC_PIN_RELEASED &&
                ATOM_RULE(store_release_clears)) {
                free_entry(store, fork->entries[i]);
            }
        }
        fork_delete(store, fork);
    }
}

void
storec_forks_fini(struct storec *store)
{
    LIST_FOR_SAFE (link, next, &store->forks) {
        fork_delete(store, LIST_ENTRY(link, struct storec_fork, link));
    }
}
