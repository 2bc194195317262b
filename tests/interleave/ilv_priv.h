/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of the interleaving checker: the memory machine (ilv_mem.c), the search with its
 * coroutines (ilv.c) and its table of states (ilv_seen.c), traces (ilv_trace.c), the runner
 * (ilv_main.c). One thread; everything here is the checker's own and none of it is visible to
 * models.
 */
#ifndef RAY_TESTS_ILV_PRIV_H
#define RAY_TESTS_ILV_PRIV_H

#include "ilv.h"

#define ILV_LOCS 64 /* shared words of one model */
#define ILV_HIST 16 /* values of one word that somebody may still read */

enum ilv_kind {
    ILV_LOAD = 1,
    ILV_STORE,
    ILV_UPDATE,
    ILV_CAS,
    ILV_FENCE,
    ILV_WRITE, /* bytes that must not be shared at that moment: atom_copy_in */
    ILV_READ,
    ILV_BLOCK,
    ILV_CHOOSE,
    ILV_PAUSE,
    ILV_IS_DEAD
};

/* The step an actor stands before. */
struct ilv_pending {
    enum ilv_kind kind;
    unsigned size;
    int order;
    enum ilv_rmw rmw;
    void *addr;
    uint64_t operand;  /* value stored, added, desired; number of ways; actor asked for */
    uint64_t expected; /* of a compare-and-swap */
    bool (*ready)(const void *state);
    const char *what;
};

/* What a step gives back to its actor. */
struct ilv_answer {
    uint64_t value; /* loaded or held before */
    bool flag;      /* swapped; dead */
};

/* A growing run of bytes, length a multiple of 8. */
struct ilv_buf {
    unsigned char *bytes;
    size_t len, cap;
};

void ilv_buf_add(struct ilv_buf *buf, const void *from, size_t len);

/* Forgets all locations. */
void ilv_mem_reset(enum ilv_memory memory, unsigned n_actors);
/* How many outcomes the access has, at least one. */
unsigned ilv_mem_variants(unsigned actor, const struct ilv_pending *p);
/* Performs it. */
struct ilv_answer ilv_mem_apply(unsigned actor, const struct ilv_pending *p, unsigned variant);
/* Drops what none of the live actors can read any more, so that equal states have equal bytes. */
void ilv_mem_settle(const bool *live);
/* The actor has been told by the kernel of all that `other` did. */
void ilv_mem_join(unsigned actor, unsigned other);
void ilv_mem_save(struct ilv_buf *buf);
void ilv_mem_restore(const unsigned char *bytes);
/* NULL, or the race that the last access was. */
const char *ilv_mem_race(void);
/* NULL, or which bound of the machine was broken: nothing is proven then. */
const char *ilv_mem_failure(void);

uint64_t ilv_mem_raw(const void *addr, unsigned size);

/* The number of a saved state; *fresh if it was never seen before. */
uint64_t ilv_seen_number(const struct ilv_buf *buf, bool *fresh);
/* Paths from that state to an end: set when it has been searched. */
double *ilv_seen_paths(uint64_t number);
uint64_t ilv_seen_count(void);
void ilv_seen_reset(void);

/* One line for a trace: what this step of `who` was and gave. */
void ilv_describe(const char *who, const struct ilv_pending *p, const struct ilv_answer *answer,
                  bool stale, char *to, size_t cap);
void ilv_names_reset(void);

/* Memory or the end of the program. */
void *ilv_checked(void *memory);

#endif
