/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of generators' machines: order, ends, retries, back-pressure, readers that go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/status.h"
#include "worker/wk_stream.h"

#define MS UINT64_C(1000000)

static void
items_are_read_in_order_and_then_the_end(void **state)
{
    struct wk_stream s;
    uint32_t index;
    (void)state;
    wk_stream_init(&s, 0);
    assert_int_equal(wk_stream_push(&s, 0), 0);
    assert_int_equal(wk_stream_look(&s), WK_STREAM_NOTHING);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(wk_stream_item(&s, 0, i), WK_STREAM_KEEP);
    }
    assert_false(wk_stream_end(&s, false, &index));
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(wk_stream_read(&s), WK_STREAM_ITEM);
        assert_int_equal(s.read, i + 1);
    }
    assert_int_equal(wk_stream_read(&s), WK_STREAM_OVER);
    assert_int_equal(wk_stream_read(&s), WK_STREAM_OVER);
}

static void
a_failure_is_the_last_item(void **state)
{
    struct wk_stream s;
    uint32_t index = 99;
    (void)state;
    wk_stream_init(&s, 0);
    (void)wk_stream_push(&s, 0);
    assert_int_equal(wk_stream_item(&s, 0, 0), WK_STREAM_KEEP);
    assert_true(wk_stream_end(&s, true, &index));
    assert_int_equal(index, 1);
    assert_int_equal(wk_stream_read(&s), WK_STREAM_ITEM);
    assert_int_equal(wk_stream_read(&s), WK_STREAM_ITEM);
    assert_int_equal(wk_stream_read(&s), WK_STREAM_OVER);
}

static void
a_second_attempt_goes_on_where_the_first_died(void **state)
{
    struct wk_stream s;
    (void)state;
    wk_stream_init(&s, 0);
    (void)wk_stream_push(&s, 0);
    assert_int_equal(wk_stream_item(&s, 0, 0), WK_STREAM_KEEP);
    assert_int_equal(wk_stream_item(&s, 0, 1), WK_STREAM_KEEP);
    wk_stream_attempt_over(&s);
    assert_int_equal(wk_stream_item(&s, 0, 2), WK_STREAM_STALE);
    assert_int_equal(wk_stream_push(&s, 1), 2);
    assert_int_equal(wk_stream_item(&s, 0, 2), WK_STREAM_STALE);
    assert_int_equal(wk_stream_item(&s, 1, 1), WK_STREAM_WRONG);
    assert_int_equal(wk_stream_item(&s, 1, 3), WK_STREAM_WRONG);
    assert_int_equal(wk_stream_item(&s, 1, 2), WK_STREAM_KEEP);
    assert_int_equal(s.received, 3);
}

static void
what_is_unread_goes_with_its_reader(void **state)
{
    struct wk_stream s;
    struct wk_stream_told told;
    uint64_t when;
    uint32_t index;
    (void)state;
    wk_stream_init(&s, 0);
    (void)wk_stream_push(&s, 0);
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(wk_stream_item(&s, 0, i), WK_STREAM_KEEP);
    }
    assert_int_equal(wk_stream_read(&s), WK_STREAM_ITEM);
    assert_false(wk_stream_tell(&s, MS, &told, &when));
    assert_int_equal(wk_stream_drop(&s, false), 3);
    assert_true(wk_stream_tell(&s, MS, &told, &when));
    assert_int_equal(told.flags, WK_STREAM_STOP);
    assert_false(wk_stream_tell(&s, MS, &told, &when)); /* once an attempt */
    assert_int_equal(wk_stream_item(&s, 0, 4), WK_STREAM_UNREAD);
    wk_stream_attempt_over(&s);
    (void)wk_stream_push(&s, 1);
    assert_true(wk_stream_tell(&s, MS, &told, &when));
    assert_false(wk_stream_end(&s, true, &index)); /* nobody reads the failure */
}

static void
an_awaited_end_comes_without_readers(void **state)
{
    struct wk_stream s;
    struct wk_yield y;
    struct wk_stream_told told;
    uint64_t when;
    uint32_t index;
    (void)state;
    wk_stream_init(&s, 1);
    wk_yield_init(&y, 1, wk_stream_push(&s, 0));
    assert_int_equal(wk_yield_item(&y, &index), WK_YIELD_SEND);
    assert_false(wk_yield_has_room(&y));
    assert_int_equal(wk_stream_item(&s, 0, index), WK_STREAM_KEEP);
    assert_int_equal(wk_stream_drop(&s, true), 1);
    assert_true(wk_stream_tell(&s, MS, &told, &when));
    assert_int_equal(told.flags, WK_STREAM_MUTE);
    wk_yield_told(&y, told.read, told.flags);
    for (int i = 0; i < 10; i++) {
        assert_true(wk_yield_has_room(&y));
        assert_int_equal(wk_yield_item(&y, &index), WK_YIELD_SKIP);
    }
}

static void
who_waits_is_woken_by_an_item_the_end_or_the_drop(void **state)
{
    struct wk_stream s;
    uint32_t index;
    (void)state;
    wk_stream_init(&s, 0);
    (void)wk_stream_push(&s, 0);
    wk_stream_wait(&s);
    assert_false(wk_stream_wakes(&s));
    assert_int_equal(wk_stream_item(&s, 0, 0), WK_STREAM_KEEP);
    assert_true(wk_stream_wakes(&s));
    assert_false(wk_stream_wakes(&s));
    assert_int_equal(wk_stream_read(&s), WK_STREAM_ITEM);
    wk_stream_wait(&s);
    assert_false(wk_stream_end(&s, false, &index));
    assert_true(wk_stream_wakes(&s));

    wk_stream_init(&s, 0);
    wk_stream_wait(&s);
    assert_int_equal(wk_stream_drop(&s, false), 0);
    assert_true(wk_stream_wakes(&s));
}

static void
back_pressure_is_told_of_in_batches(void **state)
{
    struct wk_stream s;
    struct wk_yield y;
    struct wk_stream_told told;
    uint64_t when;
    uint32_t index;
    (void)state;
    wk_stream_init(&s, 8);
    wk_yield_init(&y, 8, wk_stream_push(&s, 0));
    for (uint32_t i = 0; i < 8; i++) {
        assert_true(wk_yield_has_room(&y));
        assert_int_equal(wk_yield_item(&y, &index), WK_YIELD_SEND);
        assert_int_equal(wk_stream_item(&s, 0, index), WK_STREAM_KEEP);
    }
    assert_false(wk_yield_has_room(&y));
    assert_int_equal(wk_stream_read(&s), WK_STREAM_ITEM);
    assert_false(wk_stream_tell(&s, 5 * MS, &told, &when));
    assert_int_equal(when, 5 * MS + WK_STREAM_TELL_NS);
    assert_int_equal(wk_stream_read(&s), WK_STREAM_ITEM);
    assert_false(wk_stream_tell(&s, 5 * MS, &told, &when));
    assert_int_equal(when, 0); /* it is armed */
    assert_true(wk_stream_tell(&s, 5 * MS + WK_STREAM_TELL_NS, &told, &when));
    assert_int_equal(told.read, 2);
    wk_yield_told(&y, told.read, told.flags);
    assert_true(wk_yield_has_room(&y));
    for (int i = 0; i < 4; i++) {
        assert_int_equal(wk_stream_read(&s), WK_STREAM_ITEM);
    }
    assert_true(wk_stream_tell(&s, 7 * MS, &told, &when)); /* half of the limit: at once */
    assert_int_equal(told.read, 6);
}

static void
a_new_attempt_is_told_what_was_read(void **state)
{
    struct wk_stream s;
    struct wk_yield y;
    struct wk_stream_told told;
    uint64_t when;
    uint32_t index;
    (void)state;
    wk_stream_init(&s, 2);
    (void)wk_stream_push(&s, 0);
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(wk_stream_item(&s, 0, i), WK_STREAM_KEEP);
        assert_int_equal(wk_stream_read(&s), WK_STREAM_ITEM);
        assert_true(wk_stream_tell(&s, MS, &told, &when));
    }
    wk_stream_attempt_over(&s);
    wk_yield_init(&y, 2, wk_stream_push(&s, 1));
    assert_int_equal(wk_yield_item(&y, &index), WK_YIELD_SKIP);
    assert_int_equal(wk_yield_item(&y, &index), WK_YIELD_SKIP);
    assert_false(wk_yield_has_room(&y));
    assert_true(wk_stream_tell(&s, MS, &told, &when));
    wk_yield_told(&y, told.read, told.flags);
    assert_int_equal(wk_yield_item(&y, &index), WK_YIELD_SKIP);
    assert_int_equal(wk_yield_item(&y, &index), WK_YIELD_SKIP);
    assert_int_equal(wk_yield_item(&y, &index), WK_YIELD_SEND);
    assert_int_equal(index, 4);
}

static void
words_of_a_hostile_owner_do_no_harm(void **state)
{
    struct wk_yield y;
    uint32_t index;
    (void)state;
    wk_yield_init(&y, 1, UINT32_MAX);
    wk_yield_told(&y, UINT32_MAX, 0);
    wk_yield_told(&y, 3, 0); /* it never goes back */
    assert_true(wk_yield_has_room(&y));
    assert_int_equal(wk_yield_item(&y, &index), WK_YIELD_SKIP);
    y.made = WK_STREAM_ITEMS_MAX;
    assert_int_equal(wk_yield_item(&y, &index), WK_YIELD_FULL);
    wk_yield_told(&y, 0, WK_STREAM_STOP);
    assert_int_equal(wk_yield_item(&y, &index), WK_YIELD_STOP);
    struct wk_stream s;
    wk_stream_init(&s, 0);
    (void)wk_stream_push(&s, 0);
    s.received = WK_STREAM_ITEMS_MAX;
    assert_int_equal(wk_stream_item(&s, 0, WK_STREAM_ITEMS_MAX), WK_STREAM_WRONG);
}

static void
steps_say_what_the_transitions_do(void **state)
{
    struct wk_stream s;
    struct arena arena;
    struct step_out v[8];
    uint32_t attempt = 0;
    (void)state;
    static const struct mem none;
    arena_init(&arena, &none);
    struct step_outs outs = { .v = v, .capacity = 8, .arena = &arena };
    wk_stream_init(&s, 0);
    (void)wk_stream_push(&s, attempt);
    const struct wk_stream_item_msg item = { 0, 0 };
    struct step_in in = { .kind = WK_STREAM_IN_READ };
    assert_int_equal(wk_stream_step(&s, &in, &outs), ST_OK);
    assert_int_equal(outs.count, 0);
    in = (struct step_in){ .kind = WK_STREAM_IN_ITEM, .msg = &item, .payload = 77 };
    assert_int_equal(wk_stream_step(&s, &in, &outs), ST_OK);
    assert_int_equal(outs.count, 2);
    assert_int_equal(v[0].kind, WK_STREAM_OUT_KEEP);
    assert_int_equal(v[0].payload, 77);
    assert_int_equal(v[1].kind, WK_STREAM_OUT_WAKE);
    outs.count = 0;
    in = (struct step_in){ .kind = 99 };
    assert_int_equal(wk_stream_step(&s, &in, &outs), ST_PROTOCOL);
    arena_fini(&arena);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(items_are_read_in_order_and_then_the_end),
        cmocka_unit_test(a_failure_is_the_last_item),
        cmocka_unit_test(a_second_attempt_goes_on_where_the_first_died),
        cmocka_unit_test(what_is_unread_goes_with_its_reader),
        cmocka_unit_test(an_awaited_end_comes_without_readers),
        cmocka_unit_test(who_waits_is_woken_by_an_item_the_end_or_the_drop),
        cmocka_unit_test(back_pressure_is_told_of_in_batches),
        cmocka_unit_test(a_new_attempt_is_told_what_was_read),
        cmocka_unit_test(words_of_a_hostile_owner_do_no_harm),
        cmocka_unit_test(steps_say_what_the_transitions_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
