/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server's own records: its shadow of the slot table is the truth, the shared rows are copies.
 *
 *   store ── procs ── holds (grants not closed) ── slots granted with them
 *     │        └───── slots sealed by it, alive
 *     ├─ holders (owners, also of other nodes, also dead ones) ── slots owned, alive
 *     └─ dying slots: fresh (not scanned), pinned (found in a page; scanned again later)
 */
#ifndef RAY_STORE_STORE_PRIV_H
#define RAY_STORE_STORE_PRIV_H

#include "base/list.h"
#include "base/map.h"
#include "store/store_chunks.h"
#include "store/store_server.h"
#include "store/store_space.h"
#include "store/store_words.h"

enum {
    STORE_SLOT_BLOCK = 1024, /* shadow slots are made so many at a time */
    STORE_DEAD_MAX = 65536,  /* dead owners remembered */
    STORE_LABEL_MAX = 64,
    STORE_NO_SLOT = -1,
};

struct store_proc {
    struct map_link by_number;
    struct map_link by_worker;
    struct list all;
    struct id_worker worker;
    struct store_ctl_map ctl;
    struct list holds;   /* struct store_hold.by_proc */
    struct list created; /* struct store_slot.by_creator, sealed ones only */
    uint64_t hold_bytes;
    uint32_t number;
    int32_t pid;
    bool dead;
    uint16_t seals_free;
    uint16_t seals[STORE_SEALS]; /* free seal entries, the last is taken first */
    char label[STORE_LABEL_MAX];
};

/* An owner of objects here. Kept while it owns some, or as a memory of its death. */
struct store_holder {
    struct map_link link;
    struct id_worker worker;
    struct list slots; /* struct store_slot.by_owner */
    struct list dead_link;
    uint64_t bytes, objects;
    bool dead;
};

/* A slot that came with a grant, while the grant is open. */
enum store_hold_slot {
    STORE_HOLD_OPEN,   /* may still be sealed */
    STORE_HOLD_SEALED, /* adopted; alive or dying */
    STORE_HOLD_DONE,   /* gone */
};

/* A grant that its process has not given back. */
struct store_hold {
    struct list by_proc;
    struct map_link by_offset;
    struct store_proc *proc;
    struct store_span *span;
    uint32_t kind;
    uint32_t slot_count;
    struct {
        uint32_t slot;
        uint16_t seal;
        uint8_t state; /* enum store_hold_slot */
    } slots[STORE_REGION_SLOTS];
};

struct store_slot {
    struct list by_owner;   /* while SEALED */
    struct list by_creator; /* while SEALED and the creator is known */
    struct list dying;
    struct map_link by_id;       /* while SEALED */
    struct store_hold *hold;     /* until its grant closes */
    struct store_span *span;     /* from then on */
    struct store_holder *holder; /* while SEALED */
    uint64_t generation;
    uint64_t scan; /* serial of the last scan that found a pin */
    uint64_t offset, size;
    struct id_object id;
    uint32_t attempt;
    uint32_t number;
    int32_t next_free;
    uint8_t state; /* enum store_state */
    uint8_t hold_index;
};

struct store {
    struct store_config config;
    struct store_space space;
    struct store_chunks chunks;

    struct store_slot **blocks; /* STORE_SLOT_BLOCK each, made when first needed */
    uint32_t slots_made;        /* slots below it exist */
    uint32_t slots_free;        /* granted at once or after being made */
    int32_t free_slot;          /* most recently freed first, STORE_NO_SLOT at the end */

    struct map procs; /* by number */
    struct map procs_by_worker;
    struct list proc_list;
    uint32_t last_proc;
    struct slab proc_slab, hold_slab, holder_slab;

    struct map holds;   /* by offset */
    struct map holders; /* by worker */
    struct list dead_holders;
    uint32_t dead_count;
    struct map ids;

    struct list dying_fresh, dying_pinned;
    uint64_t scan_serial;
    uint64_t retry_at_ns, retry_after_ns; /* when to look at dying_pinned again */
    bool pinned_anew;                     /* something came to dying_pinned since store_work */
    bool pins_dropped;                    /* a process's pins went */

    struct store_stats counts; /* the parts that are counted as they happen */
};

/* ---- store_slot.c ---- */

/* NULL for a number that no grant ever used. */
struct store_slot *store_slot_find(const struct store *store, uint32_t number);
struct store_slot *store_slot_take(struct store *store);
/* The row says FREE already, or never said anything else. */
void store_slot_give(struct store *store, struct store_slot *slot);
void store_slots_fini(struct store *store);
struct store_row *store_slot_row(struct store *store, const struct store_slot *slot);

/* ---- store_owner.c ---- */

/* The record of an owner, made when new; NULL without memory. */
struct store_holder *store_holder_get(struct store *store, const struct id_worker *worker);
struct store_holder *store_holder_find(const struct store *store, const struct id_worker *worker);
void store_holder_add(struct store *store, struct store_holder *holder, struct store_slot *slot);
void store_holder_remove(struct store *store, struct store_slot *slot);
void store_holders_fini(struct store *store);
struct store_proc *store_proc_of_worker(const struct store *store, const struct id_worker *worker);
bool store_proc_status_of(const struct store_proc *proc, struct store_status_copy *out);

/* ---- store_free.c ---- */

/* SEALED -> DYING: out of every table of living objects, into the next scan. */
void store_begin_free(struct store *store, struct store_slot *slot);
/* Frees the dying that no process pins: fresh ones, and with `all` those found pinned before. */
void store_scan(struct store *store, bool all);
/* Space of a span goes back to the allocator. */
void store_release_span(struct store *store, struct store_span *span);

/* ---- store_grant.c ---- */

struct store_proc *store_proc_find(const struct store *store, uint32_t number);
/* Ends a grant: slots never sealed and space that no object uses are free. */
void store_hold_close(struct store *store, struct store_hold *hold);
void store_adopt_proc(struct store *store, struct store_proc *proc);
void store_adopt_all(struct store *store);

static inline uint64_t
store_round(uint64_t size, uint64_t to)
{
    return (size + to - 1) & ~(to - 1);
}

#endif
