/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the processes of one node share of the object store: three kinds of memory file.
 *
 *   data      one a node, mapped read-only by everyone for readers; writable views are the
 *             creator's own and never leave its libray.
 *   slots     one a node, struct store_row[slot_count]: written by the raylet alone, others get a
 *             descriptor that was reopened read-only.
 *   control   one a process, two halves: the raylet's (mapped read-only by the process) and the
 *             process's (checked by the raylet, never trusted).
 *
 * docs/protocols/store.md tells states, legal moves, races and recovery. Every shared word below is
 * an atom_* and names its writer; other bytes are handed over by the word named beside them.
 * Offsets and sizes are bytes, numbers are little-endian, and the layout is the same for every
 * build of one STORE_LAYOUT_VERSION.
 */
#ifndef RAY_STORE_LAYOUT_H
#define RAY_STORE_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#include "base/atom.h"
#include "base/id.h"

enum {
    STORE_LAYOUT_VERSION = 1,
    STORE_CTL_MAGIC = 0x5243544c, /* "LTCR" */

    STORE_PAGE = 4096,               /* grants begin and end on it */
    STORE_ALIGN = 64,                /* objects begin on it */
    STORE_REGION_SIZE = 1024 * 1024, /* granted ahead of need */
    STORE_REGION_SLOTS = 16,         /* slots that come with a region */
    STORE_SMALL_MAX = 512 * 1024,    /* larger objects are asked of the raylet one by one */

    STORE_SLOT_BITS = 22,
    STORE_SLOT_MAX = 1 << STORE_SLOT_BITS,
    STORE_GENERATION_BITS = 42,
    STORE_STATE_BITS = 8,

    STORE_SEALS = 1024,        /* seal entries of a process */
    STORE_PINS_PER_PAGE = 512, /* a page of pins */
    STORE_PIN_PAGES = 2048,    /* sparse: a page costs memory when it is first used */
    STORE_PINS = STORE_PINS_PER_PAGE * STORE_PIN_PAGES,

    STORE_GPUS_MAX = 32,
    STORE_WINDOW_WORDS = 256, /* task window words for remote owners */
    STORE_NAMES = 30,         /* function names a process shows */
    STORE_NAME_MAX = 128,
};

#define STORE_GENERATION_MAX ((UINT64_C(1) << STORE_GENERATION_BITS) - 1)

/* ---- hints: how an object is named in messages ---- */

/* Made by seal, carried by messages; a hint received from the owner or the creator proves that the
 * object was sealed. Valid only for the store whose epoch it carries. */
struct store_hint {
    uint64_t generation;
    uint64_t offset; /* of the object's first byte in the data file */
    uint64_t size;
    uint32_t slot;
    uint32_t epoch; /* of the store; 0 is no hint */
};
_Static_assert(sizeof(struct store_hint) == 32, "a hint is 32 bytes");

/* A slot in one life. Owners name what they free so; never by object id alone. */
struct store_ref {
    uint64_t generation;
    uint32_t slot;
    uint32_t pad;
};
_Static_assert(sizeof(struct store_ref) == 16, "a slot reference is 16 bytes");

/* ---- rows of the slot table ---- */

/* What lies in a slot, and to whom it belongs. */
struct store_identity {
    struct id_object id;
    struct id_worker owner;
    struct id_worker creator;
    uint32_t attempt;
};
_Static_assert(sizeof(struct store_identity) == 88, "ids have no padding");

/*
 * FREE -> GRANTED (generation + 1) -> SEALED -> DYING -> FREE; also GRANTED -> FREE when the
 * creator's grant ends unsealed (nobody was given a hint, so nobody can hold a pin that matters),
 * and DYING -> SEALED of the same generation when an eviction finds a pin.
 */
enum store_state {
    STORE_FREE = 0,
    STORE_GRANTED = 1,
    STORE_SEALED = 2,
    STORE_DYING = 3,
};

/*
 *   0  word            generation << 8 | state
 *   8  bounds_offset   the grant's bounds: fixed for a generation, written before its word
 *  16  bounds_size
 *  24  object_offset   from adoption on, written before SEALED
 *  32  object_size
 *  40  what.id (28)    from adoption on, zeroes before
 *  68  what.owner (28) from adoption on, zeroes before
 *  96  what.creator (28), 124 what.attempt
 */
struct store_row {
    struct atom_u64 word;
    struct atom_u64 bounds_offset;
    struct atom_u64 bounds_size;
    struct atom_u64 object_offset;
    struct atom_u64 object_size;
    struct store_identity what; /* handed over by word */
};
_Static_assert(sizeof(struct store_row) == 128, "a row is two cache lines");
_Static_assert(offsetof(struct store_row, what) == 40, "the identity is aligned");

static inline uint64_t
store_row_word(uint64_t generation, enum store_state state)
{
    return generation << STORE_STATE_BITS | (uint64_t)state;
}

static inline uint64_t
store_word_generation(uint64_t word)
{
    return word >> STORE_STATE_BITS;
}

static inline unsigned
store_word_state(uint64_t word)
{
    return (unsigned)(word & ((1u << STORE_STATE_BITS) - 1));
}

/* ---- the control file of one process ---- */

/*
 * One word that names a slot in one life: a pin entry, or the commit word of a seal entry. 0 is
 * none, since generations begin at 1.
 */
static inline uint64_t
store_name_word(uint32_t slot, uint64_t generation)
{
    return generation << STORE_SLOT_BITS | slot;
}

static inline uint32_t
store_name_slot(uint64_t word)
{
    return (uint32_t)(word & (STORE_SLOT_MAX - 1));
}

static inline uint64_t
store_name_generation(uint64_t word)
{
    return word >> STORE_SLOT_BITS;
}

/*
 * The raylet's half, one page. The first part is written before the process gets the file; the
 * lease part whenever a lease changes hands: fields first, then `lease_epoch`.
 */
struct store_ctl_raylet {
    uint32_t magic;   /* STORE_CTL_MAGIC */
    uint32_t version; /* STORE_LAYOUT_VERSION */
    uint32_t store_epoch;
    uint32_t proc; /* the raylet's number of this process, never used twice by a raylet */
    uint64_t data_size;
    uint64_t slot_count;
    int32_t raylet_pid;
    int32_t pid;
    uint8_t reserved_a[24];

    /* 64: the lease. Writer: raylet. Partner of lease_epoch: store_ctl_process.running. */
    struct atom_u64 lease_epoch; /* 0: no lease */
    struct atom_u32 omp_threads; /* value for OMP_NUM_THREADS, 0: leave alone */
    struct atom_u32 gpu_count;
    struct atom_u32 gpus[STORE_GPUS_MAX]; /* device numbers, ascending */
    uint8_t reserved_b[4096 - 64 - 16 - 4 * STORE_GPUS_MAX];
};
_Static_assert(sizeof(struct store_ctl_raylet) == 4096, "the raylet's half is one page");
_Static_assert(offsetof(struct store_ctl_raylet, lease_epoch) == 64, "the lease has its own line");

/* What a process is doing, for whoever looks: written under `seq` (odd while being written). */
struct store_status {
    struct atom_u32 seq;
    struct atom_u32 flags;    /* enum store_status_flag */
    struct atom_u64 task[3];  /* TaskID; all ones when idle */
    struct atom_u64 start_ns; /* CLOCK_MONOTONIC, 0 when idle */
    struct atom_u32 name;     /* index into names; when idle STORE_NAMES + that of the last one */
    struct atom_u32 attempt;
    uint8_t reserved[16];
};
_Static_assert(sizeof(struct store_status) == 64, "one line");

enum store_status_flag {
    STORE_STATUS_BUSY = 1,      /* a task or a method runs */
    STORE_STATUS_RETRIABLE = 2, /* killing it loses nothing that can't be redone */
    STORE_STATUS_ACTOR = 4,
    STORE_STATUS_BLOCKED = 8, /* waits in get, wait or for memory */
    STORE_STATUS_OWNING = 16, /* as NODE_OWNING told last; stays when the task ends */
};

/* A sealed object, told by its creator. Writer: the process; fields first, `commit` last. */
struct store_seal {
    struct atom_u64 commit; /* store_name_word of the slot; anything else: not sealed */
    struct atom_u64 offset;
    struct atom_u64 size;
    struct store_identity what; /* handed over by commit; its creator is not used */
    uint8_t reserved[16];
};
_Static_assert(sizeof(struct store_seal) == 128, "two lines");

/* The process's half, from offset 4096. */
struct store_ctl_process {
    struct atom_u64 running;   /* lease epoch of the task that runs, 0 none. Partner: lease_epoch */
    struct atom_u32 pin_pages; /* pages of pins in use: grows, and is set before the first entry */
    struct atom_u32 reserved_word;
    uint8_t reserved_a[48];
    struct store_status status;                             /* 64 */
    uint8_t reserved_b[128];                                /* 128 */
    struct atom_u64 names[STORE_NAMES][STORE_NAME_MAX / 8]; /* 256: texts, under status.seq */
    struct atom_u64 window[STORE_WINDOW_WORDS];             /* 4096: task words for remote owners */
    uint8_t reserved_c[2048];                               /* to a page's end */
    struct store_seal seals[STORE_SEALS];                   /* 8192 */
    struct atom_u64 pins[STORE_PINS]; /* store_name_word of the slot; 0 free */
};
_Static_assert(offsetof(struct store_ctl_process, status) == 64, "drawn layout");
_Static_assert(offsetof(struct store_ctl_process, names) == 256, "drawn layout");
_Static_assert(offsetof(struct store_ctl_process, window) == 4096, "drawn layout");
_Static_assert(offsetof(struct store_ctl_process, seals) == 8192, "drawn layout");
_Static_assert(offsetof(struct store_ctl_process, pins) == 8192 + 128 * STORE_SEALS,
               "pins begin on a page");

#define STORE_CTL_SIZE (sizeof(struct store_ctl_raylet) + sizeof(struct store_ctl_process))
_Static_assert(STORE_CTL_SIZE % STORE_PAGE == 0, "whole pages");

/* ---- what messages between a process and its raylet carry ---- */

enum store_grant_kind {
    STORE_GRANT_REGION = 1,
    STORE_GRANT_OBJECT = 2,
};

/* A slot of a grant, and the place of its seal entry in the creator's page. */
struct store_grant_slot {
    uint64_t generation;
    uint32_t slot;
    uint32_t seal;
};

/* Space and slots given to a process. `offset` names the grant in returns. */
struct store_grant {
    uint64_t offset; /* page-aligned */
    uint64_t size;   /* whole pages */
    uint16_t kind;   /* enum store_grant_kind */
    uint16_t cold;   /* not 0: some of it has no memory yet (storec_prepare) */
    uint32_t slot_count;
    struct store_grant_slot slots[STORE_REGION_SLOTS];
};

#endif
