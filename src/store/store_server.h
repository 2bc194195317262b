/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The object store's server: the raylet's memory for objects on its node. It grants regions and
 * single objects to processes, adopts what they seal, frees on an owner's word once no process pins
 * it, and gives memory back to the operating system.
 *
 * Runs in the raylet, on its one loop thread; nothing here blocks or waits, and store_work does its
 * share in slices well under a millisecond. Decisions are pure functions over a private shadow of
 * the slot table (store_*.c); memory files come through struct store_backing, which store_shm.c
 * implements with src/os and tests and sim/ with plain memory. Everything read from a process's
 * half of its control file is checked and never trusted.
 *
 * Failure: a status, with the thread's st_error filled. A dead process costs nothing but the calls
 * store_proc_dead and store_proc_drop; see docs/protocols/store.md.
 */
#ifndef RAY_STORE_SERVER_H
#define RAY_STORE_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/mem.h"
#include "base/str.h"
#include "store/store_layout.h"

struct store;

/* Memory files, behind function pointers so that the decisions need no system call. */
struct store_ctl_map {
    struct store_ctl_raylet *raylet;   /* writable */
    struct store_ctl_process *process; /* the server only reads it */
};
struct store_backing {
    void *ctx;
    /* A new control file, zeroed and mapped. */
    int (*ctl_open)(void *ctx, uint32_t proc, struct store_ctl_map *out);
    void (*ctl_close)(void *ctx, uint32_t proc, const struct store_ctl_map *map);
    /* Gives pages of the data file to the system. Offset and size are multiples of the chunk. */
    int (*punch)(void *ctx, uint64_t offset, uint64_t size);
    /* Makes pages present, with huge ones where that works. May fail: it is a courtesy. */
    int (*prefault)(void *ctx, uint64_t offset, uint64_t size);
};

struct store_config {
    const struct mem *mem;
    struct store_backing backing;
    struct store_row *rows; /* the mapped slot table, zeroed */
    uint32_t slot_count;
    uint64_t capacity; /* bytes of the data file: a multiple of STORE_CHUNK */
    uint32_t epoch;    /* not 0; differs from that of any store before it (random) */
    uint64_t idle_ns;  /* free memory goes back to the system after so long; 0: 2 s */
    int32_t raylet_pid;
};

enum {
    STORE_CHUNK = 2 * 1024 * 1024, /* unit of residence, punching and huge pages */
};

/* Slots for a capacity when nothing else is said: one for each 16 KiB, within bounds. */
uint32_t store_slots_for(uint64_t capacity);

int store_create(const struct store_config *config, struct store **out) MUST_USE;
/* All control files are closed; objects are gone. */
void store_destroy(struct store **pointer);

/* ---- the real memory files (store_shm.c) ---- */

struct store_shm;
struct store_shm_config {
    const struct mem *mem;
    uint64_t capacity;   /* rounded up to whole chunks */
    uint32_t slot_count; /* 0: store_slots_for(capacity) */
    bool huge;           /* try huge pages when prefaulting */
};
/* Descriptors to pass to a process (borrowed; close-on-exec). */
struct store_fds {
    int data;      /* read and write */
    int slots;     /* reopened read-only */
    int ctl;       /* read and write: the process maps its own half with it */
    int ctl_fixed; /* the same file reopened read-only: the raylet's half */
};

int store_shm_open(const struct store_shm_config *config, struct store_shm **out) MUST_USE;
/* Fills backing, rows, slot_count and capacity of `config`. */
void store_shm_configure(struct store_shm *shm, struct store_config *config);
/* Of a process that store_proc_add returned and that wasn't dropped. */
int store_shm_fds(struct store_shm *shm, uint32_t proc, struct store_fds *out) MUST_USE;
/* After store_destroy. Removes nothing that a process still maps. */
void store_shm_close(struct store_shm **pointer);

/* ---- processes ---- */

/* A new process: its control file is made. `label` (copied, at most 63 bytes) names it in messages
 * to people: "driver", "worker". `*number` is never reused. */
int store_proc_add(struct store *store, const struct id_worker *worker, int32_t pid,
                   const char *label, uint32_t *number) MUST_USE;

/* For lease epochs, GPUs, RUNNING, windows and status words. Borrowed until store_proc_drop. */
struct store_ctl_raylet *store_proc_raylet_half(struct store *store, uint32_t number);
struct store_ctl_process *store_proc_process_half(struct store *store, uint32_t number);

/* What the raylet tells a worker with a lease. */
struct store_lease {
    uint64_t epoch;
    uint32_t omp_threads; /* 0: leave alone */
    uint32_t gpu_count;
    uint32_t gpus[STORE_GPUS_MAX]; /* device numbers, ascending */
};

/* Writes the lease into the process's page: fields first, then the epoch. A raylet killed between
 * takes the worker with it, so nobody reads a half of it. */
void store_proc_grant_lease(struct store *store, uint32_t number, const struct store_lease *lease);

/* A consistent copy of what the process says it does. False: it was being changed each time. */
struct store_status_copy {
    struct id_task task;
    uint64_t start_ns;
    uint32_t flags; /* enum store_status_flag */
    uint32_t attempt;
    char name[STORE_NAME_MAX];
};
bool store_proc_status(struct store *store, uint32_t number, struct store_status_copy *out);

/*
 * The process is reaped (not: signalled, not: end of file). Adopts all that it sealed; grants it
 * nothing any more. Next, store_proc_seals for the announcement; when its children are gone too,
 * store_proc_drop. No effect on an unknown number.
 */
void store_proc_dead(struct store *store, uint32_t number);

/* Calls on_seal for every living object that the process created and another owns, ordered by
 * owner. The owner frees those that no reply named, compared by (slot, generation). */
void store_proc_seals(struct store *store, uint32_t number,
                      void (*on_seal)(const struct id_worker *owner, const struct store_ref *ref,
                                      const struct id_object *id, void *ctx),
                      void *ctx);

/* Drops pins, unsealed space and the control file of a dead process; also what it owned here, as
 * store_on_owner_dead. Its children must be gone. */
void store_proc_drop(struct store *store, uint32_t number);

/* ---- grants, adoption, frees ---- */

/* ST_OK; ST_STORE_FULL with a text that names the biggest holders; ST_LIMIT when the process holds
 * too many unsealed slots; ST_CLOSED for a dead one. After ST_STORE_FULL, retry when
 * store_freed_count has changed. */
int store_grant_region(struct store *store, uint32_t proc, struct store_grant *out) MUST_USE;
int store_grant_object(struct store *store, uint32_t proc, uint64_t size, struct store_grant *out)
    MUST_USE;

/* The process gives back a grant, by its offset: a region it has done with, or an object that it
 * aborted. What it sealed in there stays. ST_NOT_FOUND when it has no such grant. */
int store_on_return(struct store *store, uint32_t number, uint64_t offset) MUST_USE;

/* Copies new seals of a process into the table. Cheap when there are none. */
void store_adopt(struct store *store, uint32_t number);

/* The owner's word that an object may go, or that of the creator, who then has told nobody of it.
 * ST_NOT_FOUND: not that life of that slot (already gone); ST_INVALID_ARGUMENT: somebody else's.
 * Takes effect once no process pins it. */
int store_free(struct store *store, const struct id_worker *who, const struct store_ref *ref)
    MUST_USE;

/* The owner died: all it owns here is freed, also what is adopted later. */
void store_on_owner_dead(struct store *store, const struct id_worker *owner);

/* A copy that this node may drop at will: freed if no process pins it, else it stays as it was.
 * ST_OK: gone. ST_WOULD_BLOCK: pinned. ST_NOT_FOUND as store_free. */
int store_evict(struct store *store, const struct store_ref *ref) MUST_USE;

/* What a reader is told whose pin met an unexpected row: ST_OK (try again), ST_OBJECT_FREED. */
int store_check(struct store *store, const struct store_hint *hint) MUST_USE;

/* The sealed object of that id (any attempt; the latest adopted). ST_NOT_FOUND. */
int store_find(struct store *store, const struct id_object *id, struct store_hint *out) MUST_USE;

/* ---- housekeeping ---- */

/*
 * A slice of pending work: scans for pins and frees, gives idle memory back, prefaults. At most
 * about half a millisecond. Returns when to call again: `now_ns` for at once, UINT64_MAX when
 * nothing is pending until another call is made.
 */
uint64_t store_work(struct store *store, uint64_t now_ns);

struct store_stats {
    uint64_t capacity, used; /* used: granted, sealed or dying bytes */
    uint64_t objects;        /* sealed and not freed */
    uint64_t sealed_bytes;
    uint64_t dying, dying_bytes;  /* freed by the owner, still pinned or not scanned yet */
    uint64_t grants, grant_bytes; /* held by processes */
    uint64_t resident_max;        /* upper bound of memory in use, in whole chunks */
    uint64_t freed;               /* as store_freed_count */
    uint64_t bad_entries;         /* words of processes that made no sense */
    uint32_t slots_free;
};
void store_stats(const struct store *store, struct store_stats *out);
/* Grows whenever space is freed. */
uint64_t store_freed_count(const struct store *store);

/* Appends one line for each of the `n` biggest holders: who, how much, in how many objects. */
void store_describe_holders(const struct store *store, unsigned n, struct str *out);

#endif
