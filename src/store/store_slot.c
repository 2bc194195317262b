/* SPDX-License-Identifier: Apache-2.0 */
/* Shadow slots: made in blocks, reused most recently freed first. See store_priv.h. */
#include "base/status.h"
#include "store/store_priv.h"

#include <string.h>

struct store_slot *
store_slot_find(const struct store *store, uint32_t number)
{
    if (number >= store->slots_made) {
        return NULL;
    }
    return &store->blocks[number / STORE_SLOT_BLOCK][number % STORE_SLOT_BLOCK];
}

struct store_row *
store_slot_row(struct store *store, const struct store_slot *slot)
{
    ASSERT_HOT(slot->number < store->config.slot_count);
    return &store->config.rows[slot->number];
}

/* Makes the next slot. False without memory. */
static bool
make_slot(struct store *store)
{
    const uint32_t number = store->slots_made;
    ASSERT(number < store->config.slot_count);
    if (number % STORE_SLOT_BLOCK == 0) {
        struct store_slot *block =
            mem_alloc(store->config.mem, STORE_SLOT_BLOCK * sizeof(struct store_slot));
        if (!block) {
            return false;
        }
        store->blocks[number / STORE_SLOT_BLOCK] = block;
    }
    struct store_slot *slot = &store->blocks[number / STORE_SLOT_BLOCK][number % STORE_SLOT_BLOCK];
    *slot = (struct store_slot){ .number = number, .state = STORE_FREE };
    list_init(&slot->by_owner);
    list_init(&slot->by_creator);
    list_init(&slot->dying);
    slot->next_free = store->free_slot;
    store->free_slot = (int32_t)number;
    store->slots_made++;
    return true;
}

struct store_slot *
store_slot_take(struct store *store)
{
    if (store->slots_free == 0 || (store->free_slot == STORE_NO_SLOT && !make_slot(store))) {
        return NULL;
    }
    struct store_slot *slot = store_slot_find(store, (uint32_t)store->free_slot);
    ASSERT(slot && slot->state == STORE_FREE);
    store->free_slot = slot->next_free;
    store->slots_free--;
    slot->generation++;
    slot->state = STORE_GRANTED;
    slot->span = NULL;
    return slot;
}

void
store_slot_give(struct store *store, struct store_slot *slot)
{
    ASSERT(slot->state != STORE_FREE && !slot->holder && !slot->span && !slot->hold);
    slot->state = STORE_FREE;
    if (slot->generation == STORE_GENERATION_MAX) {
        return; /* its generations are used up: never granted again */
    }
    slot->next_free = store->free_slot;
    store->free_slot = (int32_t)slot->number;
    store->slots_free++;
}

void
store_slots_fini(struct store *store)
{
    const uint32_t blocks = (store->config.slot_count + STORE_SLOT_BLOCK - 1) / STORE_SLOT_BLOCK;
    for (uint32_t i = 0; store->blocks && i < blocks; i++) {
        mem_free(store->config.mem, store->blocks[i], STORE_SLOT_BLOCK * sizeof(struct store_slot));
    }
    mem_free(store->config.mem, store->blocks, blocks * sizeof(struct store_slot *));
    store->blocks = NULL;
}
