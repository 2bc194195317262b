/* SPDX-License-Identifier: Apache-2.0 */
/* A process's steps on its pins and seals. See store_words.h. */
#include "store/store_words.h"

#include "base/flt.h"

void
store_pin_publish(const struct store_pins *pins, uint32_t entry, uint64_t name)
{
    const uint32_t pages = entry / pins->per_page + 1;
    if (atom_u32_load(pins->pages, ATOM_RELAXED) < pages && ATOM_RULE(store_page_before_pin)) {
        atom_u32_store(pins->pages, pages, ATOM_RELEASE);
        (void)FAULT("store.pin.after_page");
    }
    atom_u64_store(&pins->pins[entry], name, ATOM_RELAXED);
    if (ATOM_RULE(store_pin_fence)) {
        atom_fence();
    }
    if (!ATOM_RULE(store_page_before_pin)) {
        atom_u32_store(pins->pages, pages, ATOM_RELEASE);
    }
    (void)FAULT("store.pin.after_publish");
}

void
store_pin_clear(const struct store_pins *pins, uint32_t entry)
{
    (void)FAULT("store.pin.before_clear");
    const enum atom_order order = ATOM_RULE(store_clear_release) ? ATOM_RELEASE : ATOM_RELAXED;
    atom_u64_store(&pins->pins[entry], 0, order);
}

enum store_pin_verdict
store_pin_check(const struct store_row *row, const struct store_hint *hint)
{
    const uint64_t word = atom_u64_load(&row->word, ATOM_ACQUIRE);
    if (ATOM_RULE(store_check_generation) && store_word_generation(word) != hint->generation) {
        return STORE_PIN_GONE;
    }
    if (ATOM_RULE(store_check_state)) {
        switch (store_word_state(word)) {
        case STORE_GRANTED: /* the hint overtook the raylet's adoption */
            if (!ATOM_RULE(store_accept_granted)) {
                return STORE_PIN_DYING;
            }
            break;
        case STORE_SEALED:
            break;
        case STORE_DYING:
            return STORE_PIN_DYING;
        default:
            return STORE_PIN_GONE;
        }
    }
    const uint64_t offset = atom_u64_load(&row->bounds_offset, ATOM_RELAXED);
    const uint64_t size = atom_u64_load(&row->bounds_size, ATOM_RELAXED);
    if (hint->offset < offset || hint->offset - offset > size ||
        hint->size > size - (hint->offset - offset)) {
        return STORE_PIN_BOUNDS;
    }
    return STORE_PIN_OK;
}

void
store_seal_write(struct store_seal *seal, uint32_t slot, uint64_t generation,
                 const struct store_sealed *sealed)
{
    const uint64_t name = store_name_word(slot, generation);
    const enum atom_order order = ATOM_RULE(store_commit_release) ? ATOM_RELEASE : ATOM_RELAXED;
    (void)FAULT("store.seal.before_fields");
    if (!ATOM_RULE(store_commit_last)) {
        atom_u64_store(&seal->commit, name, ATOM_RELEASE);
    }
    atom_u64_store(&seal->offset, sealed->offset, ATOM_RELAXED);
    (void)FAULT("store.seal.after_offset");
    atom_u64_store(&seal->size, sealed->size, ATOM_RELAXED);
    atom_copy_in(&seal->what, &sealed->what, sizeof(sealed->what));
    (void)FAULT("store.seal.after_identity");
    atom_fence_nontemporal(); /* the data may have been written past the cache */
    (void)FAULT("store.seal.before_commit");
    atom_u64_store(&seal->commit, name, order);
    (void)FAULT("store.seal.after_commit");
}
