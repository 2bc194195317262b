/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one node has and has left, and the packing of its GPUs.
 *
 * `available` may be negative: a worker that resumes after blocking takes its CPU back without
 * waiting. A grant needs every amount it asks for to be there, so nothing that asks for CPU is
 * granted until the CPUs are paid back. Whole GPUs get distinct devices; fractions share one, the
 * fullest that still has room. Pure; belongs to the machine that embeds it.
 */
#ifndef RAY_SCHED_NODE_H
#define RAY_SCHED_NODE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/res.h"

enum { SCHED_GPU_MAX = 64, SCHED_WHY_MAX = 512 };

struct sched_node {
    struct res_set total;
    struct res_set available;
    uint32_t gpu_count;
    int64_t gpu_free[SCHED_GPU_MAX]; /* units of 1/10000 a device */
};

/* What one lease holds. `set` is borrowed from the key and outlives the hold. */
struct sched_hold {
    const struct res_set *set;
    uint64_t gpu_mask;   /* devices, bit i = index i */
    bool cpu_given_back; /* its worker is blocked */
};

/* Fails when GPUs are more than SCHED_GPU_MAX. A fraction of a device in `total` is dropped. */
int sched_node_init(struct sched_node *node, const struct res_set *total) MUST_USE;

/* Whether `want` could be had were the node empty. When not, and `why` isn't NULL, a sentence:
 * which resource, how much is asked, how much there is. `why` has room for SCHED_WHY_MAX. */
bool sched_node_feasible(const struct sched_node *node, const struct res_names *names,
                         const struct res_set *want, char *why);

/* Whether `want` can be had now; else `why` (may be NULL) names what is short, how much is asked,
 * how much is free of how much. */
bool sched_node_fits(const struct sched_node *node, const struct res_names *names,
                     const struct res_set *want, char *why);

/* Takes `want`, which fits. `want` must outlive the hold. */
void sched_node_take(struct sched_node *node, const struct res_set *want, struct sched_hold *hold);
/* Gives everything back (but a CPU that is given back already) and clears the hold. */
void sched_node_give(struct sched_node *node, struct sched_hold *hold);
/* The CPU of a blocked worker; both are without effect when done already. */
void sched_node_block(struct sched_node *node, struct sched_hold *hold);
void sched_node_unblock(struct sched_node *node, struct sched_hold *hold);

/* Whether a hold has (not given back) something of a resource that `want` is short of. */
bool sched_node_helps(const struct sched_node *node, const struct sched_hold *hold,
                      const struct res_set *want);

#endif
