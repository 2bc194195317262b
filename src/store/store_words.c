/* SPDX-License-Identifier: Apache-2.0 */
/* The raylet's steps on rows, pins and seals. See store_words.h. */
#include "store/store_words.h"

#include "base/flt.h"

void
store_row_grant(struct store_row *row, uint64_t generation, uint64_t offset, uint64_t size,
                const struct id_worker *creator)
{
    atom_u64_store(&row->bounds_offset, offset, ATOM_RELAXED);
    atom_u64_store(&row->bounds_size, size, ATOM_RELAXED);
    atom_u64_store(&row->object_offset, 0, ATOM_RELAXED);
    atom_u64_store(&row->object_size, 0, ATOM_RELAXED);
    const struct store_identity what = { .creator = *creator };
    atom_copy_in(&row->what, &what, sizeof(what));
    (void)FAULT("store.grant.before_row_word");
    atom_u64_store(&row->word, store_row_word(generation, STORE_GRANTED), ATOM_RELEASE);
}

void
store_row_seal(struct store_row *row, uint64_t generation, const struct store_sealed *sealed)
{
    atom_u64_store(&row->object_offset, sealed->offset, ATOM_RELAXED);
    atom_u64_store(&row->object_size, sealed->size, ATOM_RELAXED);
    atom_copy_in(&row->what, &sealed->what, sizeof(sealed->what));
    (void)FAULT("store.adopt.before_row_word");
    atom_u64_store(&row->word, store_row_word(generation, STORE_SEALED), ATOM_RELEASE);
}

void
store_row_dying(struct store_row *row, uint64_t generation)
{
    if (ATOM_RULE(store_mark_dying)) {
        atom_u64_store(&row->word, store_row_word(generation, STORE_DYING), ATOM_RELAXED);
    }
    (void)FAULT("store.free.after_dying");
}

void
store_row_restore(struct store_row *row, uint64_t generation)
{
    atom_u64_store(&row->word, store_row_word(generation, STORE_SEALED), ATOM_RELEASE);
}

void
store_row_free(struct store_row *row, uint64_t generation)
{
    (void)FAULT("store.free.before_row_word");
    atom_u64_store(&row->word, store_row_word(generation, STORE_FREE), ATOM_RELEASE);
}

void
store_scan_fence(void)
{
    if (ATOM_RULE(store_scan_fence)) {
        atom_fence();
    }
}

void
store_scan_pins(const struct store_pins *pins, bool (*on_pin)(void *ctx, uint64_t name), void *ctx)
{
    uint32_t pages = atom_u32_load(pins->pages, ATOM_ACQUIRE);
    if (pages > pins->pages_max) {
        pages = pins->pages_max; /* nonsense from the process harms only its own pins */
    }
    if (!ATOM_RULE(store_scan_all_pages) && pages > 1) {
        pages = 1;
    }
    for (uint32_t i = 0; i < pages * pins->per_page; i++) {
        const uint64_t name = atom_u64_load(&pins->pins[i], ATOM_ACQUIRE);
        if (name != 0 && !on_pin(ctx, name)) {
            return;
        }
    }
}

bool
store_seal_read(const struct store_seal *seal, uint32_t slot, uint64_t generation,
                struct store_sealed *out)
{
    const enum atom_order order = ATOM_RULE(store_adopt_acquire) ? ATOM_ACQUIRE : ATOM_RELAXED;
    if (atom_u64_load(&seal->commit, order) != store_name_word(slot, generation)) {
        return false;
    }
    out->offset = atom_u64_load(&seal->offset, ATOM_RELAXED);
    out->size = atom_u64_load(&seal->size, ATOM_RELAXED);
    atom_copy_out(&out->what, &seal->what, sizeof(out->what));
    return true;
}
