/* SPDX-License-Identifier: Apache-2.0 */
/* The hybrid placement policy. See sched_place.h. */
#include "sched/sched_place.h"

enum { USE_FULL = 10000, TOP_MAX = 32 };

uint32_t
sched_place_use(const struct sched_node *node, const struct res_set *want)
{
    int64_t worst = 0;
    for (uint32_t i = 0; i < want->count; i++) {
        const int64_t total = res_set_get(&node->total, want->items[i].name).v;
        const int64_t left =
            res_set_get(&node->available, want->items[i].name).v - want->items[i].amount.v;
        if (total <= 0) {
            return USE_FULL;
        }
        const double part = (double)(total - left) / (double)total * USE_FULL;
        const int64_t use = part < 0 ? 0 : part > 2.0 * USE_FULL ? 2 * USE_FULL : (int64_t)part;
        worst = use > worst ? use : worst;
    }
    return (uint32_t)worst;
}

struct candidate {
    uint32_t index, use;
};

/* Keeps the k best by use, in order; earlier ones win ties. */
static void
keep_best(struct candidate *best, uint32_t *count, uint32_t k, struct candidate c)
{
    uint32_t at = *count;
    while (at > 0 && best[at - 1].use > c.use) {
        at--;
    }
    if (at >= k) {
        return;
    }
    const uint32_t last = *count < k ? (*count)++ : k - 1;
    for (uint32_t i = last; i > at; i--) {
        best[i] = best[i - 1];
    }
    best[at] = c;
}

uint32_t
sched_place_hybrid(const struct sched_node *const *nodes, uint32_t count, uint32_t local,
                   const struct res_set *want, const struct sched_place_policy *policy,
                   struct rand *rand)
{
    struct candidate now[TOP_MAX], later[1];
    uint32_t now_count = 0, later_count = 0;
    const uint32_t k = policy->top_k < 1 ? 1 : policy->top_k > TOP_MAX ? TOP_MAX : policy->top_k;
    for (uint32_t step = 0; step < count; step++) {
        /* The local node comes first, the others in their order. */
        uint32_t i = step;
        if (local < count) {
            i = step == 0 ? local : step <= local ? step - 1 : step;
        }
        if (!sched_node_feasible(nodes[i], NULL, want, NULL)) {
            continue;
        }
        const struct candidate c = { i, sched_place_use(nodes[i], want) };
        if (!sched_node_fits(nodes[i], NULL, want, NULL)) {
            keep_best(later, &later_count, 1, c);
        } else if (c.use <= policy->threshold) {
            return i;
        } else {
            keep_best(now, &now_count, k, c);
        }
    }
    if (now_count > 0) {
        return now[rand_below(rand, now_count)].index;
    }
    return later_count > 0 ? later[0].index : SCHED_PLACE_NONE;
}
