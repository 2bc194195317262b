/* SPDX-License-Identifier: Apache-2.0 */
/* The client's own records. See storec.h for threads and lifetime. */
#ifndef RAY_STORE_STOREC_PRIV_H
#define RAY_STORE_STOREC_PRIV_H

#include "base/list.h"
#include "store/store_words.h"
#include "store/storec.h"

enum {
    STOREC_WARM_MAX = 4,  /* ranges left writable after their last object was sealed */
    STOREC_AHEAD_MAX = 8, /* regions held ahead of need */
};

/* A region or a large object's space, while this process may write it. */
struct storec_grant {
    struct list link;         /* regions, larges or returns */
    struct store_grant grant; /* slots[next_slot ..] are unused */
    uint64_t bump;            /* next free byte, from the grant's start */
    uint32_t next_slot;
    uint32_t making; /* created, neither sealed nor aborted */
    bool closing;    /* goes back when `making` is 0 */
};

/*
 * One pin entry's private half. An entry's word is cleared by whoever comes last of unpin and the
 * release of the last fork hold: both are one read-modify-write of `meta`.
 */
struct storec_pin_entry {
    uint32_t next;        /* in a free list: entry + 1 */
    struct atom_u32 meta; /* STOREC_PIN_RELEASED | holds * STOREC_PIN_HOLD */
};
enum { STOREC_PIN_RELEASED = 1, STOREC_PIN_HOLD = 2 };

struct storec_fork {
    struct list link;
    uint32_t token, count, capacity;
    uint32_t entries[];
};

struct storec {
    const struct mem *mem;
    struct storec_helper helper;

    const unsigned char *data; /* read-only, whole file */
    unsigned char *writable;   /* same file: no access but in granted space */
    const struct store_row *rows;
    const struct store_ctl_raylet *raylet;
    struct store_ctl_process *process;
    uint64_t data_size, slot_count;
    uint32_t epoch;

    /* Creating: under the lock. */
    struct slab grants;
    struct list regions; /* the first is in use, the rest are spare */
    struct list closing; /* regions waiting for their last objects */
    struct list larges;
    struct list returns;
    uint32_t region_count;
    uint32_t asked;
    uint32_t ahead;
    uint32_t making; /* objects, over all grants */
    bool hungry;     /* a create found no room */
    bool closed;
    struct {
        uint64_t offset, size;
    } warm[STOREC_WARM_MAX]; /* oldest first */
    uint32_t warm_count;

    /* Pins: taken under the lock, given back without. */
    struct store_pins pins;
    struct storec_pin_entry *pin_pages[STORE_PIN_PAGES];
    uint32_t pin_free;         /* entry + 1; the lock's list */
    uint32_t pin_fresh;        /* entries from here on were never used */
    struct atom_u32 pin_freed; /* entry + 1; pushed by unpin, taken whole by pin */
    uint64_t pinned;           /* pins ever made */
    struct atom_u64 refs;      /* STOREC_OPEN - unpins; after close: pins and objects left */
    struct atom_u32 forked;    /* this is a child: leave everything alone */
    struct list forks;
    uint32_t last_token;

    uint64_t name_keys[STORE_NAMES];
};

#define STOREC_OPEN (UINT64_C(1) << 62)

/* storec_open.c: unmaps all and frees the record. */
void storec_destroy(struct storec *store);
/* storec_pin.c */
void storec_forks_fini(struct storec *store);

#endif
