/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The steps on shared words that docs/protocols/store.md proves: rows, pins, seals. Real code for
 * both sides and, compiled anew, for the interleaving checker (tests/interleave/store_*.c), so no
 * function here touches anything but the words it is given. ATOM_RULE names each step that
 * leaving out breaks the protocol.
 */
#ifndef RAY_STORE_STORE_WORDS_H
#define RAY_STORE_STORE_WORDS_H

#include <stdbool.h>

#include "store/store_layout.h"

/* A process's pins. In a real page: per_page STORE_PINS_PER_PAGE, pages_max STORE_PIN_PAGES. */
struct store_pins {
    struct atom_u32 *pages; /* pages in use; writer: the process */
    struct atom_u64 *pins;
    uint32_t per_page;
    uint32_t pages_max;
};

/* What a seal entry says. */
struct store_sealed {
    uint64_t offset, size;
    struct store_identity what;
};

/* ---- the raylet's side ---- */

/* FREE -> GRANTED of that generation. */
void store_row_grant(struct store_row *row, uint64_t generation, uint64_t offset, uint64_t size,
                     const struct id_worker *creator);
/* GRANTED -> SEALED. */
void store_row_seal(struct store_row *row, uint64_t generation, const struct store_sealed *sealed);
/* SEALED -> DYING. The scan comes after a store_scan_fence. */
void store_row_dying(struct store_row *row, uint64_t generation);
/* DYING -> SEALED: an eviction gives up. */
void store_row_restore(struct store_row *row, uint64_t generation);
/* DYING or GRANTED -> FREE. */
void store_row_free(struct store_row *row, uint64_t generation);

/* Between marking any number of rows DYING and the scan for them. */
void store_scan_fence(void);
/* Calls on_pin for each entry in use, until it returns false. Entries are a process's word: to
 * check. */
void store_scan_pins(const struct store_pins *pins, bool (*on_pin)(void *ctx, uint64_t name),
                     void *ctx);

/* Whether the entry says that this slot is sealed, and if so what it says. Adoption. */
bool store_seal_read(const struct store_seal *seal, uint32_t slot, uint64_t generation,
                     struct store_sealed *out);

/* ---- a process's side ---- */

/* Publishes a pin at a free entry, fenced: check the row next. */
void store_pin_publish(const struct store_pins *pins, uint32_t entry, uint64_t name);
void store_pin_clear(const struct store_pins *pins, uint32_t entry);

enum store_pin_verdict {
    STORE_PIN_OK,
    STORE_PIN_GONE,   /* that life of the slot is over */
    STORE_PIN_DYING,  /* being freed or moved: ask */
    STORE_PIN_BOUNDS, /* the hint lies outside its grant */
};
/* After publishing: whether the object may be read under the pin. */
enum store_pin_verdict store_pin_check(const struct store_row *row, const struct store_hint *hint);

/* Fields first, then the commit word. `sealed` names the object; its data were written before. */
void store_seal_write(struct store_seal *seal, uint32_t slot, uint64_t generation,
                      const struct store_sealed *sealed);

#endif
