/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scheduling keys: what a task asks of the machine, never which function it is.
 *
 * A key = resources + strategy + runtime environment (interpreter or program included, as one
 * 64-bit hash). Equal keys share leases, queues and counters. A table gives each key a small
 * number; owners and the raylet have tables of their own. Pure; used by raylet, worker and sim,
 * under whatever lock guards the machine that embeds it. Fails only for memory or its maximum.
 */
#ifndef RAY_SCHED_KEY_H
#define RAY_SCHED_KEY_H

#include <stdint.h>

#include "base/map.h"
#include "base/mem.h"
#include "base/res.h"

enum { SCHED_KEYS_MAX = 65536 };

struct sched_key {
    struct res_set resources; /* held while a lease of this key lives */
    struct res_set placement; /* must be available at the moment of the grant; an actor's can be
                                 more than it holds (1 CPU to be placed, then none). Equal to
                                 resources for tasks. */
    uint64_t strategy;        /* opaque; 0 is the default */
    uint64_t env_hash;        /* interpreter or program, and runtime environment */
};

struct sched_keys {
    const struct mem *mem;
    struct map map;
    struct sched_key_row **by_number;
    uint32_t count, capacity;
};

void sched_keys_init(struct sched_keys *keys, const struct mem *mem);
void sched_keys_fini(struct sched_keys *keys);
/* The number of an equal key, made when new. ST_LIMIT beyond SCHED_KEYS_MAX. */
int sched_keys_intern(struct sched_keys *keys, const struct sched_key *key, uint32_t *out) MUST_USE;
/* Borrowed for the table's life; `number` must have come from this table. */
const struct sched_key *sched_keys_get(const struct sched_keys *keys, uint32_t number);

/* What OMP_NUM_THREADS is under a lease of this key: its whole CPUs, at least 1. */
uint32_t sched_key_omp(const struct sched_key *key);

#endif
