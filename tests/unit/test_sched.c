/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of src/sched: keys, a node's resources and GPUs, the hybrid placement policy. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/status.h"
#include "sched/sched_key.h"
#include "sched/sched_node.h"
#include "sched/sched_place.h"

static int64_t live_bytes;
static int64_t fail_after = -1;

static void *
counting_resize(void *ctx, void *old, size_t old_size, size_t new_size)
{
    (void)ctx;
    if (new_size > 0 && fail_after >= 0 && fail_after-- == 0) {
        return NULL;
    }
    live_bytes += (int64_t)new_size - (int64_t)old_size;
    if (new_size == 0) {
        free(old);
        return NULL;
    }
    return realloc(old, new_size);
}
static const struct mem counting = { .resize = counting_resize };

static struct res_set
set_of(uint32_t name, double amount)
{
    struct res_set set = { 0 };
    struct res_amount a;
    assert_true(res_amount_from_double(amount, &a));
    assert_int_equal(res_set_put(&set, name, a), ST_OK);
    return set;
}

static struct sched_node
node_of(double cpus, double gpus)
{
    struct res_set total = set_of(RES_CPU, cpus);
    struct res_amount a;
    assert_true(res_amount_from_double(gpus, &a));
    assert_int_equal(res_set_put(&total, RES_GPU, a), ST_OK);
    struct sched_node node;
    assert_int_equal(sched_node_init(&node, &total), ST_OK);
    return node;
}

static void
test_equal_keys_share_a_number(void **state)
{
    (void)state;
    struct sched_keys keys;
    sched_keys_init(&keys, &counting);
    struct sched_key key = { .resources = set_of(RES_CPU, 1), .env_hash = 7 };
    key.placement = key.resources;
    uint32_t a, b;
    assert_int_equal(sched_keys_intern(&keys, &key, &a), ST_OK);
    assert_int_equal(sched_keys_intern(&keys, &key, &b), ST_OK);
    assert_int_equal(a, b);
    key.env_hash = 8;
    assert_int_equal(sched_keys_intern(&keys, &key, &b), ST_OK);
    assert_int_not_equal(a, b);
    key.placement = set_of(RES_CPU, 2);
    uint32_t c;
    assert_int_equal(sched_keys_intern(&keys, &key, &c), ST_OK);
    assert_int_not_equal(b, c);
    assert_int_equal(sched_keys_get(&keys, b)->env_hash, 8);
    for (uint32_t i = 0; i < 100; i++) {
        key.strategy = i + 1;
        assert_int_equal(sched_keys_intern(&keys, &key, &c), ST_OK);
        assert_int_equal(c, 3 + i);
    }
    sched_keys_fini(&keys);
    assert_int_equal(live_bytes, 0);
}

static void
test_interning_survives_every_failed_allocation(void **state)
{
    (void)state;
    for (int64_t n = 0; n < 6; n++) {
        struct sched_keys keys;
        sched_keys_init(&keys, &counting);
        const struct sched_key key = { .env_hash = 1 };
        uint32_t number;
        fail_after = n;
        const int status = sched_keys_intern(&keys, &key, &number);
        fail_after = -1;
        assert_int_equal(status, n < 3 ? ST_OUT_OF_MEMORY : ST_OK);
        assert_int_equal(sched_keys_intern(&keys, &key, &number), ST_OK);
        sched_keys_fini(&keys);
        assert_int_equal(live_bytes, 0);
    }
}

static void
test_omp_is_whole_cpus(void **state)
{
    (void)state;
    struct sched_key key = { .resources = set_of(RES_CPU, 4) };
    assert_int_equal(sched_key_omp(&key), 4);
    key.resources = set_of(RES_CPU, 0.5);
    assert_int_equal(sched_key_omp(&key), 1);
    key.resources = set_of(RES_CPU, 0);
    assert_int_equal(sched_key_omp(&key), 1);
    key.resources = set_of(RES_CPU, 2.5);
    assert_int_equal(sched_key_omp(&key), 2);
}

static void
test_resuming_overdraws_and_holds_back(void **state)
{
    (void)state;
    struct sched_node node = node_of(1, 0);
    const struct res_set one = set_of(RES_CPU, 1);
    struct sched_hold a, b;
    sched_node_take(&node, &one, &a);
    assert_false(sched_node_fits(&node, NULL, &one, NULL));
    sched_node_block(&node, &a);
    sched_node_block(&node, &a);
    assert_true(sched_node_fits(&node, NULL, &one, NULL));
    sched_node_take(&node, &one, &b);
    sched_node_unblock(&node, &a);
    assert_int_equal(res_set_get(&node.available, RES_CPU).v, -RES_UNIT);
    sched_node_give(&node, &b);
    assert_false(sched_node_fits(&node, NULL, &one, NULL));
    sched_node_block(&node, &a);
    sched_node_give(&node, &a); /* while blocked */
    sched_node_give(&node, &a);
    assert_int_equal(res_set_get(&node.available, RES_CPU).v, RES_UNIT);
}

static void
test_gpus_are_packed_by_device(void **state)
{
    (void)state;
    struct sched_node node = node_of(8, 2);
    const struct res_set half = set_of(RES_GPU, 0.5);
    const struct res_set third = set_of(RES_GPU, 0.3);
    const struct res_set one = set_of(RES_GPU, 1);
    const struct res_set two = set_of(RES_GPU, 2);
    struct sched_hold a, b, c, d;
    sched_node_take(&node, &half, &a);
    sched_node_take(&node, &third, &b);
    assert_int_equal(a.gpu_mask, 1);
    assert_int_equal(b.gpu_mask, 1); /* the fullest that has room */
    assert_false(sched_node_fits(&node, NULL, &two, NULL));
    sched_node_take(&node, &half, &c);
    assert_int_equal(c.gpu_mask, 2);
    sched_node_give(&node, &a);
    /* 0.7 and 0.5 are free: more than one, but on no one device. */
    struct res_names names;
    assert_int_equal(res_names_init(&names, &counting), ST_OK);
    char why[SCHED_WHY_MAX];
    assert_false(sched_node_fits(&node, &names, &one, why));
    assert_non_null(strstr(why, "not on one device"));
    sched_node_give(&node, &c);
    sched_node_take(&node, &one, &d);
    assert_int_equal(d.gpu_mask, 2);
    sched_node_give(&node, &b);
    sched_node_give(&node, &d);
    sched_node_take(&node, &two, &d);
    assert_int_equal(d.gpu_mask, 3);
    sched_node_give(&node, &d);
    assert_int_equal(node.gpu_free[0], RES_UNIT);
    res_names_fini(&names);
}

static void
test_words_for_what_never_fits(void **state)
{
    (void)state;
    struct res_names names;
    assert_int_equal(res_names_init(&names, &counting), ST_OK);
    uint32_t custom;
    assert_int_equal(res_names_intern(&names, "Custom", 6, &custom), ST_OK);
    const struct sched_node node = node_of(2, 1);
    char why[SCHED_WHY_MAX];
    struct res_set want = set_of(RES_CPU, 64);
    assert_false(sched_node_feasible(&node, &names, &want, why));
    assert_string_equal(why, "asks for 64 CPU, but the node has 2 in all");
    want = set_of(custom, 0.5);
    assert_false(sched_node_feasible(&node, &names, &want, why));
    assert_string_equal(why, "asks for 0.5000 Custom, but the node has none in all");
    want = set_of(RES_GPU, 1.5);
    assert_false(sched_node_feasible(&node, &names, &want, why));
    want = set_of(RES_CPU, 2);
    assert_true(sched_node_feasible(&node, &names, &want, why));
    res_names_fini(&names);
    struct res_set many = set_of(RES_GPU, 65);
    struct sched_node bad;
    assert_int_equal(sched_node_init(&bad, &many), ST_LIMIT);
}

static void
test_help_is_of_what_is_short(void **state)
{
    (void)state;
    struct sched_node node = node_of(2, 1);
    const struct res_set cpu2 = set_of(RES_CPU, 2);
    const struct res_set cpu1 = set_of(RES_CPU, 1);
    const struct res_set gpu = set_of(RES_GPU, 1);
    struct sched_hold a, b;
    sched_node_take(&node, &cpu1, &a);
    sched_node_take(&node, &gpu, &b);
    assert_true(sched_node_helps(&node, &a, &cpu2));
    assert_false(sched_node_helps(&node, &b, &cpu2));
    assert_false(sched_node_helps(&node, &a, &cpu1)); /* one is free */
    assert_true(sched_node_helps(&node, &b, &gpu));
    sched_node_block(&node, &a);
    assert_false(sched_node_helps(&node, &a, &cpu2));
}

static void
test_hybrid_packs_then_spreads(void **state)
{
    (void)state;
    struct sched_node nodes[3] = { node_of(4, 0), node_of(4, 0), node_of(16, 0) };
    const struct sched_node *views[3] = { &nodes[0], &nodes[1], &nodes[2] };
    const struct sched_place_policy policy = { .threshold = 5000, .top_k = 1 };
    struct rand rand;
    rand_init(&rand, 1);
    const struct res_set one = set_of(RES_CPU, 1);
    const struct res_set eight = set_of(RES_CPU, 8);
    const struct res_set huge = set_of(RES_CPU, 64);
    struct sched_hold hold;
    assert_int_equal(sched_place_hybrid(views, 3, 1, &one, &policy, &rand), 1);
    sched_node_take(&nodes[1], &one, &hold);
    sched_node_take(&nodes[1], &one, &hold);
    /* The local one would be used by 3/4 now: the next below the threshold. */
    assert_int_equal(sched_place_hybrid(views, 3, 1, &one, &policy, &rand), 0);
    assert_int_equal(sched_place_hybrid(views, 3, 1, &eight, &policy, &rand), 2);
    assert_int_equal(sched_place_hybrid(views, 3, 1, &huge, &policy, &rand), SCHED_PLACE_NONE);
    sched_node_take(&nodes[2], &eight, &hold);
    sched_node_take(&nodes[2], &one, &hold);
    assert_int_equal(sched_place_hybrid(views, 3, 1, &eight, &policy, &rand), 2); /* later */
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal_keys_share_a_number),
        cmocka_unit_test(test_interning_survives_every_failed_allocation),
        cmocka_unit_test(test_omp_is_whole_cpus),
        cmocka_unit_test(test_resuming_overdraws_and_holds_back),
        cmocka_unit_test(test_gpus_are_packed_by_device),
        cmocka_unit_test(test_words_for_what_never_fits),
        cmocka_unit_test(test_help_is_of_what_is_short),
        cmocka_unit_test(test_hybrid_packs_then_spreads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
