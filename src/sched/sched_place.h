/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Placement of one request over views of many nodes: the hybrid policy.
 *
 * Nodes that can't ever hold the request are out; among those that can hold it now, the first in
 * order (the local one first) whose critical use stays below the threshold is taken, else the least
 * used of the best k, chosen at random; when none has room now, the least used that ever can.
 * Pure: the views are the caller's, randomness comes from the generator given.
 */
#ifndef RAY_SCHED_PLACE_H
#define RAY_SCHED_PLACE_H

#include <stdint.h>

#include "base/rand.h"
#include "sched/sched_node.h"

enum { SCHED_PLACE_NONE = UINT32_MAX, SCHED_PLACE_NODES_MAX = 4096 };

struct sched_place_policy {
    uint32_t threshold; /* of 10000: below this use a node is packed, above it is spread */
    uint32_t top_k;     /* at least 1 */
};

/* The largest use of any resource of `want` were it placed there, of 10000. */
uint32_t sched_place_use(const struct sched_node *node, const struct res_set *want);

/* Index of the chosen view; `local` is tried first. SCHED_PLACE_NONE when it fits nowhere ever. */
uint32_t sched_place_hybrid(const struct sched_node *const *nodes, uint32_t count, uint32_t local,
                            const struct res_set *want, const struct sched_place_policy *policy,
                            struct rand *rand);

#endif
