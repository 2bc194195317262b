/* SPDX-License-Identifier: Apache-2.0 */
/* One node's resources and its GPUs. See sched_node.h. */
#include "sched/sched_node.h"

#include <stdio.h>

#include "base/status.h"

int
sched_node_init(struct sched_node *node, const struct res_set *total)
{
    *node = (struct sched_node){ .total = *total };
    const int64_t gpus = res_set_get(total, RES_GPU).v / RES_UNIT;
    if (gpus > SCHED_GPU_MAX) {
        return st_fail(ST_LIMIT, "a node can have %d GPUs, %lld were given", SCHED_GPU_MAX,
                       (long long)gpus);
    }
    node->gpu_count = (uint32_t)gpus;
    for (uint32_t i = 0; i < node->gpu_count; i++) {
        node->gpu_free[i] = RES_UNIT;
    }
    TRY(res_set_put(&node->total, RES_GPU, (struct res_amount){ gpus * RES_UNIT }));
    node->available = node->total;
    return ST_OK;
}

/* An amount as people write it: memory in bytes, others with up to four decimals. */
static void
amount_text(int64_t v, char *out, size_t size)
{
    if (v % RES_UNIT == 0) {
        (void)snprintf(out, size, "%lld", (long long)(v / RES_UNIT));
    } else {
        (void)snprintf(out, size, "%.4f", (double)v / RES_UNIT);
    }
}

enum { AMOUNT_TEXT_MAX = 32 };

bool
sched_node_feasible(const struct sched_node *node, const struct res_names *names,
                    const struct res_set *want, char *why)
{
    for (uint32_t i = 0; i < want->count; i++) {
        const struct res_item *item = &want->items[i];
        const int64_t have = res_set_get(&node->total, item->name).v;
        const bool split =
            item->name == RES_GPU && item->amount.v > RES_UNIT && item->amount.v % RES_UNIT != 0;
        if (item->amount.v <= have && !split) {
            continue;
        }
        if (why) {
            char ask[AMOUNT_TEXT_MAX], is[AMOUNT_TEXT_MAX];
            amount_text(item->amount.v, ask, sizeof(ask));
            amount_text(have, is, sizeof(is));
            if (split) {
                (void)snprintf(why, SCHED_WHY_MAX,
                               "asks for %s GPU, but more than one GPU must be "
                               "a whole number",
                               ask);
            } else {
                (void)snprintf(why, SCHED_WHY_MAX, "asks for %s %s, but the node has %s in all",
                               ask, res_names_text(names, item->name), have ? is : "none");
            }
        }
        return false;
    }
    return true;
}

/* The devices that would serve `amount`; 0 when they can't (or amount is 0). */
static uint64_t
gpu_choose(const struct sched_node *node, int64_t amount)
{
    if (amount >= RES_UNIT) {
        int64_t left = amount / RES_UNIT;
        uint64_t mask = 0;
        for (uint32_t i = 0; i < node->gpu_count && left > 0; i++) {
            if (node->gpu_free[i] == RES_UNIT) {
                mask |= UINT64_C(1) << i;
                left--;
            }
        }
        return left == 0 && amount % RES_UNIT == 0 ? mask : 0;
    }
    uint32_t best = SCHED_GPU_MAX;
    for (uint32_t i = 0; i < node->gpu_count; i++) {
        if (node->gpu_free[i] >= amount &&
            (best == SCHED_GPU_MAX || node->gpu_free[i] < node->gpu_free[best])) {
            best = i;
        }
    }
    return best == SCHED_GPU_MAX ? 0 : UINT64_C(1) << best;
}

bool
sched_node_fits(const struct sched_node *node, const struct res_names *names,
                const struct res_set *want, char *why)
{
    for (uint32_t i = 0; i < want->count; i++) {
        const struct res_item *item = &want->items[i];
        const int64_t have = res_set_get(&node->available, item->name).v;
        const bool scattered = item->amount.v <= have && item->name == RES_GPU &&
                               gpu_choose(node, item->amount.v) == 0;
        if (item->amount.v <= have && !scattered) {
            continue;
        }
        if (why) {
            char ask[AMOUNT_TEXT_MAX], is[AMOUNT_TEXT_MAX], all[AMOUNT_TEXT_MAX];
            amount_text(item->amount.v, ask, sizeof(ask));
            amount_text(have, is, sizeof(is));
            amount_text(res_set_get(&node->total, item->name).v, all, sizeof(all));
            (void)snprintf(why, SCHED_WHY_MAX, "waits for %s %s: %s of %s %s%s", ask,
                           res_names_text(names, item->name), is, all,
                           have == RES_UNIT ? "is free" : "are free",
                           scattered ? ", but not on one device" : "");
        }
        return false;
    }
    return true;
}

static void
gpu_change(struct sched_node *node, const struct sched_hold *hold, int64_t sign)
{
    const int64_t amount = res_set_get(hold->set, RES_GPU).v;
    const int64_t each = amount >= RES_UNIT ? RES_UNIT : amount;
    for (uint32_t i = 0; i < node->gpu_count; i++) {
        if (hold->gpu_mask >> i & 1) {
            node->gpu_free[i] += sign * each;
            ASSERT(node->gpu_free[i] >= 0 && node->gpu_free[i] <= RES_UNIT);
        }
    }
}

void
sched_node_take(struct sched_node *node, const struct res_set *want, struct sched_hold *hold)
{
    *hold = (struct sched_hold){ .set = want };
    const int64_t gpus = res_set_get(want, RES_GPU).v;
    if (gpus > 0) {
        hold->gpu_mask = gpu_choose(node, gpus);
        ASSERT(hold->gpu_mask != 0);
        gpu_change(node, hold, -1);
    }
    res_set_subtract(&node->available, want);
}

static void
cpu_change(struct sched_node *node, const struct sched_hold *hold, int64_t sign)
{
    const int64_t cpu = res_set_get(hold->set, RES_CPU).v;
    for (uint32_t i = 0; cpu != 0 && i < node->available.count; i++) {
        if (node->available.items[i].name == RES_CPU) {
            node->available.items[i].amount.v += sign * cpu;
        }
    }
}

void
sched_node_give(struct sched_node *node, struct sched_hold *hold)
{
    if (!hold->set) {
        return;
    }
    sched_node_unblock(node, hold);
    gpu_change(node, hold, 1);
    res_set_add(&node->available, hold->set);
    *hold = (struct sched_hold){ 0 };
}

void
sched_node_block(struct sched_node *node, struct sched_hold *hold)
{
    if (hold->set && !hold->cpu_given_back) {
        hold->cpu_given_back = true;
        cpu_change(node, hold, 1);
    }
}

void
sched_node_unblock(struct sched_node *node, struct sched_hold *hold)
{
    if (hold->set && hold->cpu_given_back) {
        hold->cpu_given_back = false;
        cpu_change(node, hold, -1);
    }
}

bool
sched_node_helps(const struct sched_node *node, const struct sched_hold *hold,
                 const struct res_set *want)
{
    for (uint32_t i = 0; hold->set && i < want->count; i++) {
        const uint32_t name = want->items[i].name;
        const int64_t ask = want->items[i].amount.v;
        const bool is_short = ask > res_set_get(&node->available, name).v ||
                              (name == RES_GPU && gpu_choose(node, ask) == 0);
        if (is_short && res_set_get(hold->set, name).v > 0 &&
            !(name == RES_CPU && hold->cpu_given_back)) {
            return true;
        }
    }
    return false;
}
