/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of the actor client: order, restarts, deaths, broken connections, limits, the step face. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/status.h"
#include "worker/wk_caller.h"

enum { CALLS = 8, WINDOW = 4 };

struct fixture {
    struct wk_caller c;
    struct wk_call call[CALLS]; /* call[i] has number i + 1 */
    uint32_t submitted;
};

static void
begin(struct fixture *f)
{
    memset(f, 0, sizeof(*f));
    wk_caller_init(&f->c, WINDOW);
    for (uint32_t i = 0; i < CALLS; i++) {
        list_init(&f->call[i].link);
    }
}

static void
submit(struct fixture *f, int32_t retries, bool waits)
{
    wk_caller_submit(&f->c, &f->call[f->submitted++], retries, waits);
}

/* Sends what can be sent; the numbers in order, as one decimal. */
static uint32_t
send_all(struct fixture *f)
{
    uint32_t sent = 0;
    for (struct wk_call *call; (call = wk_caller_next(&f->c)) != NULL;) {
        wk_caller_sent(&f->c, call);
        sent = sent * 10 + (uint32_t)call->sequence;
    }
    return sent;
}

/* Answers what fails; the numbers in order, as one decimal. All have the verdict given. */
static uint32_t
fail_all(struct fixture *f, enum wk_call_verdict verdict)
{
    uint32_t failed = 0;
    for (struct wk_call *call; (call = wk_caller_failed(&f->c)) != NULL;) {
        assert_int_equal(call->verdict, verdict);
        failed = failed * 10 + (uint32_t)call->sequence;
        wk_caller_answered(&f->c, call);
    }
    return failed;
}

static void
test_calls_go_in_order_as_far_as_the_window_goes(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    for (uint32_t i = 0; i < 6; i++) {
        submit(&f, 0, false);
    }
    assert_int_equal(send_all(&f), 0);
    assert_true(wk_caller_on_alive(&f.c, 0, 10));
    assert_int_equal(send_all(&f), 1234);
    wk_caller_answered(&f.c, &f.call[0]);
    assert_int_equal(send_all(&f), 5);
    assert_int_equal(f.c.pending, 5);
}

static void
test_a_late_argument_holds_up_what_follows_unless_unordered(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    (void)wk_caller_on_alive(&f.c, 0, 10);
    submit(&f, 0, true);
    submit(&f, 0, false);
    assert_int_equal(send_all(&f), 0);
    wk_caller_unorder(&f.c);
    assert_int_equal(send_all(&f), 2);
    submit(&f, 0, true);
    submit(&f, 0, false);
    assert_int_equal(send_all(&f), 4);
    wk_caller_ready(&f.c, &f.call[0]);
    wk_caller_ready(&f.c, &f.call[2]);
    assert_int_equal(send_all(&f), 13);
}

static void
test_a_death_waits_for_the_word_and_keeps_the_order(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    (void)wk_caller_on_alive(&f.c, 0, 10);
    submit(&f, 0, false);
    submit(&f, 1, false);
    submit(&f, 0, false);
    assert_int_equal(send_all(&f), 123);
    submit(&f, 0, false);
    f.call[0].begun = f.call[1].begun = true;
    assert_true(wk_caller_on_died(&f.c, 10));
    assert_false(wk_caller_on_alive(&f.c, 0, 0)); /* old news */
    assert_null(wk_caller_failed(&f.c));
    assert_int_equal(send_all(&f), 0);
    wk_caller_on_restarting(&f.c);
    assert_int_equal(fail_all(&f, WK_CALL_PROCESS_DIED), 1);
    assert_true(wk_caller_on_alive(&f.c, 1, 11));
    assert_int_equal(send_all(&f), 234);
    assert_int_equal(f.call[1].attempt, 1);
    assert_int_equal(f.call[1].retries_left, 0);
    assert_int_equal(f.call[2].attempt, 0);
}

static void
test_a_dead_actor_fails_all_and_what_comes_later(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    (void)wk_caller_on_alive(&f.c, 0, 10);
    submit(&f, -1, false);
    assert_int_equal(send_all(&f), 1);
    submit(&f, -1, true);
    submit(&f, -1, false);
    wk_caller_on_dead(&f.c);
    assert_int_equal(fail_all(&f, WK_CALL_ACTOR_DEAD), 3); /* the first may still be replied to */
    assert_false(wk_caller_on_died(&f.c, 10));
    assert_int_equal(fail_all(&f, WK_CALL_ACTOR_DEAD), 1);
    wk_caller_ready(&f.c, &f.call[1]);
    submit(&f, 0, false);
    assert_int_equal(fail_all(&f, WK_CALL_ACTOR_DEAD), 24);
    assert_int_equal(f.c.pending, 0);
    assert_false(wk_caller_on_alive(&f.c, 1, 11));
}

static void
test_two_restarts_between_two_deaths(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    (void)wk_caller_on_alive(&f.c, 0, 10);
    submit(&f, 0, false);
    assert_int_equal(send_all(&f), 1);
    submit(&f, 0, false);
    assert_true(wk_caller_on_alive(&f.c, 1, 11));
    assert_int_equal(send_all(&f), 0);             /* the first's fate isn't known */
    assert_false(wk_caller_on_alive(&f.c, 2, 12)); /* asked for again */
    assert_true(wk_caller_on_died(&f.c, 11));
    assert_int_equal(f.c.sent_count, 1);
    assert_true(wk_caller_on_alive(&f.c, 2, 12));
    assert_int_equal(send_all(&f), 0);
    assert_true(wk_caller_on_died(&f.c, 10));
    assert_int_equal(send_all(&f), 12); /* it had not begun */
    assert_false(wk_caller_on_died(&f.c, 10));
    assert_int_equal(f.c.sent_count, 2);
}

static void
test_a_broken_connection_repeats_what_may_be_repeated(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    (void)wk_caller_on_alive(&f.c, 0, 10);
    submit(&f, 0, false);
    submit(&f, 1, false);
    submit(&f, 0, false);
    assert_int_equal(send_all(&f), 123);
    submit(&f, 0, false);
    f.call[0].begun = f.call[1].begun = true;
    wk_caller_on_broken(&f.c, 10);
    assert_int_equal(fail_all(&f, WK_CALL_CONNECTION_BROKEN), 1);
    assert_int_equal(send_all(&f), 234);
    f.call[1].begun = true;
    wk_caller_on_broken(&f.c, 10);
    assert_int_equal(fail_all(&f, WK_CALL_CONNECTION_BROKEN), 2);
    assert_int_equal(send_all(&f), 34);
}

static void
test_a_method_that_failed_goes_again_in_its_place(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    (void)wk_caller_on_alive(&f.c, 0, 10);
    for (uint32_t i = 0; i < 5; i++) {
        submit(&f, 1, false);
    }
    assert_int_equal(send_all(&f), 1234);
    wk_caller_again(&f.c, &f.call[1]);
    wk_caller_answered(&f.c, &f.call[0]);
    assert_int_equal(send_all(&f), 25);
}

static void
test_limits_cancelling_and_holding(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    f.c.max_pending = 2;
    submit(&f, 0, false);
    assert_true(wk_caller_admits(&f.c));
    submit(&f, 0, false);
    assert_false(wk_caller_admits(&f.c));
    wk_caller_answered(&f.c, &f.call[0]); /* cancelled before it was sent: nobody misses it */
    assert_true(wk_caller_admits(&f.c));
    f.c.held = true;
    (void)wk_caller_on_alive(&f.c, 0, 10);
    assert_int_equal(send_all(&f), 0);
    wk_caller_on_dead(&f.c);
    assert_int_equal(fail_all(&f, WK_CALL_ACTOR_DEAD), 2);
}

static uint64_t
number_of(const struct wk_call *call)
{
    uint64_t number;
    memcpy(&number, &call, sizeof(number));
    return number;
}

static void
test_the_step_face_says_the_same(void **state)
{
    (void)state;
    struct fixture f;
    struct step_out v[WK_CALLER_OUTS_MIN];
    struct step_outs outs = { .v = v, .capacity = COUNT_OF(v) };
    begin(&f);
    const struct wk_caller_in_submit plain = { 0 };
    for (uint32_t i = 0; i < 2; i++) {
        const struct step_in in = { .kind = WK_CALLER_IN_SUBMIT,
                                    .payload = number_of(&f.call[i]),
                                    .msg = &plain };
        assert_int_equal(wk_caller_step(&f.c, &in, &outs), ST_OK);
        assert_int_equal(outs.count, 0);
    }
    const struct wk_caller_in_alive first = { 0 };
    const struct step_in alive = { .kind = WK_CALLER_IN_ALIVE, .peer = 10, .msg = &first };
    assert_int_equal(wk_caller_step(&f.c, &alive, &outs), ST_OK);
    assert_int_equal(v[0].kind, WK_CALLER_OUT_SEND);
    assert_int_equal(v[0].peer, 10);
    assert_int_equal(v[0].payload, number_of(&f.call[0]));
    assert_true(outs.more);
    outs.count = 0;
    const struct step_in more = { .kind = STEP_CONTINUE };
    assert_int_equal(wk_caller_step(&f.c, &more, &outs), ST_OK);
    assert_int_equal(v[0].payload, number_of(&f.call[1]));
    assert_false(outs.more);
    outs.count = 0;
    const struct step_in died = { .kind = WK_CALLER_IN_DIED, .peer = 10 };
    assert_int_equal(wk_caller_step(&f.c, &died, &outs), ST_OK);
    assert_int_equal(v[0].kind, WK_CALLER_OUT_ASK);
    const struct step_in nonsense = { .kind = 99 };
    assert_int_equal(wk_caller_step(&f.c, &nonsense, &outs), ST_PROTOCOL);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_calls_go_in_order_as_far_as_the_window_goes),
        cmocka_unit_test(test_a_late_argument_holds_up_what_follows_unless_unordered),
        cmocka_unit_test(test_a_death_waits_for_the_word_and_keeps_the_order),
        cmocka_unit_test(test_a_dead_actor_fails_all_and_what_comes_later),
        cmocka_unit_test(test_two_restarts_between_two_deaths),
        cmocka_unit_test(test_a_broken_connection_repeats_what_may_be_repeated),
        cmocka_unit_test(test_a_method_that_failed_goes_again_in_its_place),
        cmocka_unit_test(test_limits_cancelling_and_holding),
        cmocka_unit_test(test_the_step_face_says_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
