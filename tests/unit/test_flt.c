/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of src/base/flt: arming, triggers, listing, hooks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/flt.h"
#include "base/status.h"

static uint64_t delayed_ms;
static unsigned crashes, stops;

static void
on_delay(uint64_t ms)
{
    delayed_ms += ms;
}

static jmp_buf crashed;
static void
on_crash(void)
{
    crashes++;
    longjmp(crashed, 1);
}

static void
on_stop(void)
{
    stops++;
}

static const struct flt_hooks hooks = { on_delay, on_crash, on_stop };

static int
pass_one(void)
{
    return FAULT("test.flt.one");
}

static int
pass_two(void)
{
    return FAULT("test.flt.two");
}

static bool
pass_drop(void)
{
    return FAULT_DROP("test.flt.zdrop");
}

static int
reset(void **state)
{
    (void)state;
    flt_disarm_all();
    flt_set_hooks(&hooks);
    delayed_ms = 0;
    crashes = stops = 0;
    return 0;
}

static void
test_unarmed_points_do_nothing(void **state)
{
    (void)state;
    assert_int_equal(pass_one(), 0);
    assert_false(pass_drop());
    assert_int_equal(flt_hits("test.flt.one"), 0);
}

static void
test_listing_is_sorted_and_complete(void **state)
{
    (void)state;
    const struct flt_point *p = flt_next("test.flt.");
    assert_string_equal(p->name, "test.flt.one");
    p = flt_next(p->name);
    assert_string_equal(p->name, "test.flt.two");
    p = flt_next(p->name);
    assert_string_equal(p->name, "test.flt.zdrop");
    assert_null(flt_next("test.flt.zdrop"));
}

static void
test_error_and_triggers(void **state)
{
    (void)state;
    assert_int_equal(
        flt_arm("test.flt.one:error=STORE_FULL:nth=3,test.flt.two:error:every=2", NULL, true),
        ST_OK);
    const int one[] = { 0, 0, ST_STORE_FULL, 0 };
    const int two[] = { 0, ST_SYSTEM, 0, ST_SYSTEM };
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(pass_one(), one[i]);
        assert_int_equal(pass_two(), two[i]);
    }
    assert_int_equal(flt_hits("test.flt.one"), 4);
    assert_int_equal(flt_fired("test.flt.two"), 2);
    assert_non_null(strstr(st_last()->text, "test.flt.two"));
}

static void
test_probability_replays_from_its_seed(void **state)
{
    (void)state;
    uint64_t pattern[2] = { 0, 0 };
    unsigned fired = 0;
    for (int round = 0; round < 2; round++) {
        assert_int_equal(flt_arm("test.flt.one:error:prob=0.25/77", NULL, true), ST_OK);
        for (unsigned i = 0; i < 4000; i++) {
            const bool hit = pass_one() != 0;
            fired += hit;
            if (i < 64 && hit) {
                pattern[round] |= UINT64_C(1) << i;
            }
        }
    }
    assert_int_equal(pattern[0], pattern[1]);
    assert_in_range(fired, 1700, 2300);
    assert_int_equal(flt_arm("test.flt.one:error:prob=0", NULL, true), ST_OK);
    assert_int_equal(pass_one(), 0);
    assert_int_equal(flt_arm("test.flt.one:error:prob=1", NULL, true), ST_OK);
    assert_int_equal(pass_one(), ST_SYSTEM);
}

static void
test_hooks_do_what_base_cannot(void **state)
{
    (void)state;
    assert_int_equal(flt_arm("test.flt.*:delay=7:once", NULL, true), ST_OK);
    assert_int_equal(pass_one(), 0);
    assert_int_equal(pass_one(), 0);
    assert_false(pass_drop());
    assert_int_equal(delayed_ms, 14);
    assert_int_equal(flt_arm("test.flt.one:crash,test.flt.two:stop", NULL, true), ST_OK);
    assert_int_equal(pass_two(), 0);
    assert_int_equal(stops, 1);
    if (setjmp(crashed) == 0) {
        (void)pass_one();
    }
    assert_int_equal(crashes, 1);
}

static void
test_drop_and_roles(void **state)
{
    (void)state;
    assert_int_equal(
        flt_arm("raylet/test.flt.zdrop:drop:nth=2,worker/test.flt.one:error", "raylet", true),
        ST_OK);
    assert_false(pass_drop());
    assert_true(pass_drop());
    assert_int_equal(pass_one(), 0);
    /* A pattern arms only the points that can drop. */
    assert_int_equal(flt_arm("test.flt.*:drop", NULL, true), ST_OK);
    assert_true(pass_drop());
    assert_int_equal(pass_one(), 0);
}

static void
test_malformed_text_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "test.flt.one",
        "test.flt.one:",
        "test.flt.one:explode",
        "test.flt.one:error=NO",
        "test.flt.one:error:nth=",
        "test.flt.one:error:nth=0",
        "test.flt.one:error:every=0",
        "test.flt.one:error:prob=1.5",
        "test.flt.one:error:prob=0.1/x",
        "test.flt.one:delay=1s",
        "test.flt.one:error:sometimes",
        "test.flt.one:drop",
        "test.flt.zdrop:error",
        "test.flt.one:crash=1",
        "test.flt.one:error:prob=0.1234567890",
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        assert_int_equal(flt_arm(bad[i], NULL, false), ST_INVALID_ARGUMENT);
    }
    assert_int_equal(pass_one(), 0);
    assert_int_equal(flt_arm("test.nosuch:crash", NULL, true), ST_NOT_FOUND);
    assert_int_equal(flt_arm("test.nosuch:crash", NULL, false), ST_OK);
    assert_int_equal(flt_arm("", NULL, true), ST_OK);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_unarmed_points_do_nothing, reset),
        cmocka_unit_test_setup(test_listing_is_sorted_and_complete, reset),
        cmocka_unit_test_setup(test_error_and_triggers, reset),
        cmocka_unit_test_setup(test_probability_replays_from_its_seed, reset),
        cmocka_unit_test_setup(test_hooks_do_what_base_cannot, reset),
        cmocka_unit_test_setup(test_drop_and_roles, reset),
        cmocka_unit_test_setup(test_malformed_text_is_refused, reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
