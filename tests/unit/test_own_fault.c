/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of the ownership machine: deaths, nonsense from peers, memory that runs out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "own_world.h"

/* --- deaths
 * ---------------------------------------------------------------------------------------- */

static void
test_an_owners_death_is_told_to_waiters(void **state)
{
    struct world *w = *state;
    const struct id_object id = oid(1);
    struct own_ref *there = borrowed(w, A, own_return_create(&w->p[A].own, &id, 0), B);
    there->waiters = 3;
    own_want(&w->p[B].own, there, outs(w, B));
    flush(w, B);
    died(w, B, A);
    assert_int_equal(there->state, OWN_GONE);
    assert_int_equal(there->status, ST_OWNER_DIED);
    assert_int_equal(notes_of(w, B, OWN_OUT_READY), 1);
    const uint32_t sent = w->mail_sent;
    drop(w, B, there);
    assert_int_equal(w->mail_sent, sent);
    tick(w, B, SECOND);
    assert_int_equal(notes_of(w, B, OWN_OUT_PROC_GONE), 1);
}

static void
test_a_dead_borrower_stays_listed_for_the_grace(void **state)
{
    struct world *w = *state;
    struct own_ref *ref = put(w, A, 1, NULL, 0);
    borrowed(w, A, ref, B);
    drop(w, A, ref);
    died(w, A, B);
    assert_int_equal(last_note(w, A, OWN_OUT_TIMER).when_ns, w->now + SECOND);
    tick(w, A, SECOND - 1);
    assert_true(knows(w, A, 1));
    tick(w, A, 1);
    assert_false(knows(w, A, 1));
    assert_int_equal(notes_of(w, A, OWN_OUT_PROC_GONE), 1);
}

static void
test_what_a_dead_caller_lent_is_registered_at_once(void **state)
{
    struct world *w = *state;
    struct own_ref *at_b = borrowed(w, A, put(w, A, 1, NULL, 0), B);
    const struct own_item item = item_of(w, B, at_b);
    struct own_frame *frame = own_frame_open(&w->p[C].own, peer_of(w, C, B), 0);
    struct own_ref *at_c = own_frame_add(&w->p[C].own, frame, &item);
    assert_int_equal(w->mail_count, 0);
    died(w, C, B);
    assert_mail(w, 0, OWN_MSG_REGISTER, C, A);
    died(w, A, B);
    deliver_all(w);
    assert_int_equal(at_c->reg, OWN_REG_LISTED);
    /* One that is opened later is registered as it comes. */
    struct own_ref *other = put(w, A, 2, NULL, 0);
    const struct own_item late = item_of(w, A, other);
    struct own_frame *second = own_frame_open(&w->p[C].own, peer_of(w, C, B), 0);
    assert_non_null(own_frame_add(&w->p[C].own, second, &late));
    uint64_t kept;
    own_frame_close(&w->p[C].own, frame, &kept, outs(w, C));
    flush(w, C);
    assert_mail(w, 0, OWN_MSG_REGISTER, C, A);
    assert_mail(w, 1, OWN_MSG_RELEASE, C, A);
    own_frame_close(&w->p[C].own, second, &kept, outs(w, C));
    flush(w, C);
    deliver_all(w);
    assert_int_equal(w->p[C].own.stats.borrowed, 0);
}

static void
test_an_attempt_that_died_leaves_a_pin_for_the_grace(void **state)
{
    struct world *w = *state;
    struct own_ref *ref = put(w, A, 1, NULL, 0);
    own_task_submitted(&ref, 1);
    const uint32_t b = peer_of(w, A, B);
    assert_int_equal(own_task_failed(&w->p[A].own, &ref, 1, b, true, outs(w, A)), ST_OK);
    flush(w, A);
    died(w, A, B);
    drop(w, A, ref);
    assert_true(knows(w, A, 1));
    tick(w, A, SECOND);
    assert_false(knows(w, A, 1));
    /* One that never began leaves none. */
    ref = put(w, A, 2, NULL, 0);
    own_task_submitted(&ref, 1);
    drop(w, A, ref);
    assert_int_equal(own_task_failed(&w->p[A].own, &ref, 1, OWN_SELF, true, outs(w, A)), ST_OK);
    flush(w, A);
    assert_false(knows(w, A, 2));
}

static void
test_a_dead_process_is_not_heard_any_more(void **state)
{
    struct world *w = *state;
    struct own_ref *ref = put(w, A, 1, NULL, 0);
    uint64_t kept;
    lend(w, A, ref, B, true, &kept);
    died(w, A, B);
    deliver_all(w); /* the REGISTER */
    assert_int_equal(own_holders(ref, NULL, 0), 0);
    const struct own_msg_value value = { .object = oid(9), .state = OWN_INLINE };
    assert_int_equal(step(w, A, OWN_MSG_VALUE, B, 88, &value), ST_OK);
    assert_int_equal(last_note(w, A, OWN_OUT_DROP).payload, 88);
}

/* --- what a peer may get wrong
 * ------------------------------------------------------------------------ */

static void
test_nonsense_is_refused(void **state)
{
    struct world *w = *state;
    struct own_ref *ref = put(w, A, 1, NULL, 0);
    const struct own_msg_register reg = { .object = ref->id, .seq = 1 };
    assert_int_equal(step(w, A, 99, B, 0, &reg), ST_PROTOCOL);
    assert_int_equal(step(w, A, OWN_MSG_REGISTER, A, 0, &reg), ST_PROTOCOL);
    struct step_in in = { .kind = OWN_MSG_REGISTER, .peer = 4711, .msg = &reg };
    assert_int_equal(own_step(&w->p[A].own, &in, outs(w, A)), ST_PROTOCOL);
    struct own_msg_value value = { .object = ref->id, .state = OWN_PENDING };
    assert_int_equal(step(w, A, OWN_MSG_VALUE, B, 5, &value), ST_PROTOCOL);
    value.state = 17;
    assert_int_equal(step(w, A, OWN_MSG_VALUE, B, 5, &value), ST_PROTOCOL);
    struct own_msg_transfer transfer = { .object = ref->id, .state = OWN_INLINE, .seq = 1 };
    assert_int_equal(step(w, A, OWN_MSG_TRANSFER, B, 5, &transfer), ST_PROTOCOL);
    transfer.object = oid(2);
    transfer.state = OWN_GONE;
    assert_int_equal(step(w, A, OWN_MSG_TRANSFER, B, 5, &transfer), ST_PROTOCOL);
    transfer.state = OWN_INLINE;
    transfer.count = OWN_ITEMS_MAX + 1;
    assert_int_equal(step(w, A, OWN_MSG_TRANSFER, B, 5, &transfer), ST_PROTOCOL);
    assert_int_equal(w->mail_count, 0);
    assert_int_equal(w->p[A].own.stats.owned, 1);
}

static void
test_messages_from_the_wrong_process_change_nothing(void **state)
{
    struct world *w = *state;
    struct own_ref *ref = put(w, A, 1, NULL, 0);
    struct own_ref *there = borrowed(w, A, ref, B);
    own_want(&w->p[B].own, there, outs(w, B));
    flush(w, B);
    const struct own_msg_value value = { .object = ref->id, .state = OWN_INLINE };
    assert_int_equal(step(w, B, OWN_MSG_VALUE, C, 66, &value), ST_OK);
    assert_int_equal(there->state, OWN_PENDING);
    assert_int_equal(last_note(w, B, OWN_OUT_DROP).payload, 66);
    const struct own_msg_register_ack ack = { .object = ref->id, .seq = there->seq, .status = -43 };
    assert_int_equal(step(w, B, OWN_MSG_REGISTER_ACK, C, 0, &ack), ST_OK);
    assert_int_equal(there->reg, OWN_REG_LISTED);
    const struct own_msg_release release = { .object = ref->id, .seq = 1000 };
    assert_int_equal(step(w, A, OWN_MSG_RELEASE, C, 0, &release), ST_OK);
    assert_int_equal(own_holders(ref, NULL, 0), 1);
    const struct own_msg_transit_done done = { .token = 1 };
    assert_int_equal(step(w, A, OWN_MSG_TRANSIT_DONE, C, 0, &done), ST_OK);
    /* Asked of one that only borrows it. */
    const struct own_msg_get get = { .object = ref->id };
    w->mail_count = 0;
    assert_int_equal(step(w, B, OWN_MSG_GET, C, 0, &get), ST_OK);
    assert_int_equal(w->mail[0].m.value.state, OWN_GONE);
}

/* --- memory that runs out
 * ----------------------------------------------------------------------------- */

/* Repeats a call until memory is there. */
#define AGAIN(call)                                                                                \
    do {                                                                                           \
    } while (!(call))

/* A conversation that allocates everywhere; `w->meter.fail_at` fails one allocation of it. */
static void
converse(struct world *w)
{
    struct own *a = &w->p[A].own;
    struct own *b = &w->p[B].own;
    const struct own_addr addr_a = addr_of(A);
    const struct own_addr addr_b = addr_of(B);
    uint32_t peer_a, peer_b;
    AGAIN(own_proc(a, &addr_b, &peer_b) == ST_OK);
    AGAIN(own_proc(b, &addr_a, &peer_a) == ST_OK);
    const struct id_object ids[] = { oid(1), oid(2), oid(3) };
    struct own_ref *inner, *outer, *there, *given;
    AGAIN((inner = own_put(a, &ids[0], OWN_INLINE, 1, false, NULL, 0)));
    AGAIN((outer = own_put(a, &ids[1], OWN_INLINE, 2, false, &inner, 1)));
    own_task_submitted(&outer, 1);
    const struct own_item item = item_of(w, A, outer);
    const struct own_item nested = item_of(w, A, inner);
    struct own_frame *frame;
    AGAIN((frame = own_frame_open(b, peer_a, 0)));
    AGAIN((there = own_frame_add(b, frame, &item)));
    struct own_ref *taken;
    AGAIN((flush(w, B), taken = own_borrow(b, NULL, there, &nested, outs(w, B))));
    flush(w, B);
    AGAIN((flush(w, B),
           own_put_for(b, &ids[2], peer_a, OWN_INLINE, 3, &taken, 1, &given, outs(w, B)) == ST_OK));
    flush(w, B);
    there->pins++; /* kept, by an actor say */
    uint64_t kept;
    own_frame_close(b, frame, &kept, outs(w, B));
    flush(w, B);
    AGAIN((flush(w, A), own_task_replied(a, &outer, 1, peer_b, 123, outs(w, A)) == ST_OK));
    flush(w, A);
    own_want(b, there, outs(w, B));
    flush(w, B);
    while (w->mail_count > 0) {
        struct mail mail = w->mail[0];
        memmove(w->mail, w->mail + 1, --w->mail_count * sizeof(w->mail[0]));
        mail.m.transfer.items = mail.kind == OWN_MSG_TRANSFER ? mail.items : mail.m.transfer.items;
        AGAIN(step(w, mail.to, mail.kind, mail.from, mail.payload, &mail.m) == ST_OK);
    }
    assert_int_equal(there->state, OWN_INLINE);
    assert_true(own_is_listed(there) && own_is_listed(taken) && own_is_listed(given));
    const struct own_msg_transit_done done = { .token = 123 };
    AGAIN(step(w, A, OWN_MSG_TRANSIT_DONE, B, 0, &done) == ST_OK);
    own_capture_drop(b, there, outs(w, B));
    flush(w, B);
    drop(w, B, taken);
    drop(w, B, given);
    drop(w, A, inner);
    drop(w, A, outer);
    deliver_all(w);
    assert_int_equal(a->stats.owned + b->stats.owned + b->stats.borrowed, 0);
    assert_int_equal(a->stats.transits + b->stats.transits + a->stats.frames + b->stats.frames, 0);
    assert_int_equal(a->cover_slab.live + b->cover_slab.live + a->borrower_slab.live, 0);
}

static void
test_every_allocation_may_fail_once(void **state)
{
    struct world *w = *state;
    uint64_t calls = 1;
    for (uint64_t fail_at = 0; fail_at <= calls; fail_at++) {
        void *fresh;
        assert_int_equal(setup(&fresh), 0);
        struct world *one = fresh;
        one->meter.fail_at = fail_at;
        converse(one);
        calls = one->meter.calls;
        assert_int_equal(teardown(&fresh), 0);
    }
    assert_true(calls > 20);
    (void)w;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_an_owners_death_is_told_to_waiters),
        TEST(test_a_dead_borrower_stays_listed_for_the_grace),
        TEST(test_what_a_dead_caller_lent_is_registered_at_once),
        TEST(test_an_attempt_that_died_leaves_a_pin_for_the_grace),
        TEST(test_a_dead_process_is_not_heard_any_more),
        TEST(test_nonsense_is_refused),
        TEST(test_messages_from_the_wrong_process_change_nothing),
        TEST(test_every_allocation_may_fail_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
