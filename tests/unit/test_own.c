/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of the ownership machine: counts, borrowing, values. Long and random histories are sim's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "own_world.h"

/* --- sizes -------------------------------------------------------------------------------------
 */

static void
test_a_pending_reference_costs_less_than_200_bytes(void **state)
{
    struct world *w = *state;
    assert_int_equal(sizeof(struct own_ref), 160);
    const int64_t before = w->meter.bytes;
    enum { COUNT = 131072 };
    for (uint32_t i = 0; i < COUNT; i++) {
        const struct id_object id = oid(i);
        assert_non_null(own_return_create(&w->p[A].own, &id, 0));
    }
    assert_true((w->meter.bytes - before) / COUNT < 200);
}

/* A long-lived process: each of many others is known, watched die, and forgotten; a few stay. */
static void
test_processes_that_are_gone_take_no_memory(void **state)
{
    struct world *w = *state;
    struct own *own = &w->p[A].own;
    enum { COUNT = 100000, STAY = 1000 };
    uint32_t number = 0, last = 0;
    int64_t before = 0;
    for (uint32_t i = 0; i < COUNT; i++) {
        struct own_addr addr = addr_of(B);
        memcpy(addr.worker.b, &i, sizeof(i));
        addr.worker.b[8] = 0xaa;
        assert_int_equal(own_proc(own, &addr, &number), ST_OK);
        assert_true(number > last); /* never used before */
        assert_true(own_proc_is_dead(own, last) || last % STAY == 0);
        if (number % STAY != 0) {
            own_died(own, number, w->now, outs(w, A));
            flush(w, A);
            tick(w, A, 2 * SECOND);
            assert_int_equal(last_note(w, A, OWN_OUT_PROC_GONE).peer, number);
            w->p[A].note_count = 0;
        }
        last = number;
        if (i == COUNT / 100) {
            before = w->meter.bytes;
        }
    }
    /* What stays keeps its page of numbers; what has gone has left a word a page. */
    const int64_t kept = (int64_t)(COUNT / STAY) * (int64_t)(sizeof(struct pages_page) + 1024);
    assert_true(w->meter.bytes - before < kept + COUNT / 16);
    assert_true(own_proc_is_dead(own, 7));
    assert_false(own_proc_is_dead(own, STAY));
}

/* --- counting ------------------------------------------------------------------------------------
 */

static void
test_put_and_drop_gives_the_value_back(void **state)
{
    struct world *w = *state;
    struct own_ref *ref = put(w, A, 1, NULL, 0);
    own_local_add(ref);
    assert_true(own_local_try_drop(ref)); /* two handles: without the lock */
    assert_true(knows(w, A, 1));
    drop(w, A, ref);
    assert_false(knows(w, A, 1));
    const struct step_out out = last_note(w, A, OWN_OUT_DROP);
    assert_int_equal(out.payload, 1001);
    assert_int_equal(out.when_ns, OWN_INLINE | OWN_DROP_OWNED);
    assert_int_equal(w->mail_sent, 0);
}

static void
test_an_actors_last_handle_is_told(void **state)
{
    struct world *w = *state;
    const struct id_object id = oid(1);
    struct own_ref *ref = own_put(&w->p[A].own, &id, OWN_INLINE, 0, true, NULL, 0);
    drop(w, A, ref);
    assert_true(last_note(w, A, OWN_OUT_DROP).when_ns & OWN_DROP_PSEUDO);
}

static void
test_frees_cascade_however_little_room_there_is(void **state)
{
    struct world *w = *state;
    struct own_ref *outer = put(w, A, 0, NULL, 0);
    for (uint32_t i = 1; i < 100; i++) {
        struct own_ref *const inner = outer;
        outer = put(w, A, i, &inner, 1);
        drop(w, A, inner);
    }
    assert_int_equal(notes_of(w, A, OWN_OUT_DROP), 0);
    drop(w, A, outer);
    assert_int_equal(notes_of(w, A, OWN_OUT_DROP), 100);
    assert_int_equal(w->p[A].own.stats.owned, 0);
}

static void
test_a_return_that_nobody_wants_is_dropped_when_it_comes(void **state)
{
    struct world *w = *state;
    const struct id_object id = oid(1);
    struct own_ref *ref = own_return_create(&w->p[A].own, &id, 77);
    drop(w, A, ref);
    assert_true(knows(w, A, 1));
    assert_int_equal(own_return_done(&w->p[A].own, ref, OWN_STORE, 5, 0, NULL, 0, outs(w, A)),
                     ST_OK);
    flush(w, A);
    assert_false(knows(w, A, 1));
    assert_int_equal(last_note(w, A, OWN_OUT_DROP).payload, 5);
    assert_int_equal(last_note(w, A, OWN_OUT_DROP).peer, 77);
}

static void
test_waiters_are_told_once(void **state)
{
    struct world *w = *state;
    const struct id_object id = oid(1);
    struct own_ref *ref = own_return_create(&w->p[A].own, &id, 0);
    ref->waiters = 42;
    assert_int_equal(own_return_done(&w->p[A].own, ref, OWN_INLINE, 5, 0, NULL, 0, outs(w, A)),
                     ST_OK);
    flush(w, A);
    assert_int_equal(notes_of(w, A, OWN_OUT_READY), 1);
    assert_int_equal(last_note(w, A, OWN_OUT_READY).payload, 42);
    assert_ptr_equal(last_note(w, A, OWN_OUT_READY).msg, ref);
    assert_int_equal(ref->waiters, 0);
    drop(w, A, ref);
}

/* A return with its value in the store, and a lineage when that isn't 0. */
static struct own_ref *
stored_return(struct world *w, unsigned n, uint64_t lineage, int32_t status,
              struct own_ref *const *inner, uint32_t count)
{
    const struct id_object id = oid(n);
    struct own_ref *ref = own_return_create(&w->p[A].own, &id, 0);
    own_set_lineage(ref, lineage);
    assert_int_equal(
        own_return_done(&w->p[A].own, ref, OWN_STORE, n, status, inner, count, outs(w, A)), ST_OK);
    flush(w, A);
    return ref;
}

static void
lose(struct world *w, struct own_ref *ref)
{
    own_value_lost(&w->p[A].own, ref, outs(w, A));
    flush(w, A);
}

static void
want(struct world *w, struct own_ref *ref)
{
    own_want(&w->p[A].own, ref, outs(w, A));
    flush(w, A);
}

static void
test_a_value_made_again_replaces_what_it_held(void **state)
{
    struct world *w = *state;
    struct own_ref *first = put(w, A, 1, NULL, 0);
    struct own_ref *second = put(w, A, 2, NULL, 0);
    struct own_ref *ref = stored_return(w, 3, 77, 0, &first, 1);
    drop(w, A, first);
    lose(w, ref);
    assert_int_equal(ref->state, OWN_PENDING);
    assert_false(knows(w, A, 1));
    assert_int_equal(notes_of(w, A, OWN_OUT_REMAKE), 0); /* nobody wants it */
    want(w, ref);
    want(w, ref);
    assert_int_equal(notes_of(w, A, OWN_OUT_REMAKE), 1);
    assert_int_equal(last_note(w, A, OWN_OUT_REMAKE).payload, 77);
    assert_ptr_equal(last_note(w, A, OWN_OUT_REMAKE).msg, ref);
    assert_int_equal(own_return_done(&w->p[A].own, ref, OWN_STORE, 6, 0, &second, 1, outs(w, A)),
                     ST_OK);
    flush(w, A);
    drop(w, A, second);
    assert_true(knows(w, A, 2));
    drop(w, A, ref);
    assert_false(knows(w, A, 2));
    assert_int_equal(last_note(w, A, OWN_OUT_DROP).peer, 0);
}

static void
test_what_has_no_lineage_is_gone(void **state)
{
    struct world *w = *state;
    struct own_ref *plain = stored_return(w, 1, 0, ST_OBJECT_LOST, NULL, 0);
    struct own_ref *unknown = stored_return(w, 2, 0, 0, NULL, 0);
    struct own_ref *evicted = stored_return(w, 3, 77, 0, NULL, 0);
    struct own_ref *late = stored_return(w, 4, 77, 0, NULL, 0);
    lose(w, plain);
    lose(w, unknown);
    lose(w, late);
    own_forget_lineage(&w->p[A].own, evicted, ST_OBJECT_LINEAGE_EVICTED, outs(w, A));
    own_forget_lineage(&w->p[A].own, late, ST_OBJECT_LINEAGE_EVICTED, outs(w, A));
    flush(w, A);
    lose(w, evicted);
    assert_int_equal(plain->state, OWN_GONE);
    assert_int_equal(plain->status, ST_OBJECT_LOST);
    assert_int_equal(unknown->status, ST_OBJECT_UNRECONSTRUCTABLE);
    assert_int_equal(evicted->status, ST_OBJECT_LINEAGE_EVICTED);
    assert_int_equal(late->state, OWN_GONE);
    assert_int_equal(late->status, ST_OBJECT_LINEAGE_EVICTED);
    drop(w, A, plain);
    drop(w, A, unknown);
    drop(w, A, evicted);
    drop(w, A, late);
}

static void
test_an_argument_stays_for_its_lineage(void **state)
{
    struct world *w = *state;
    struct own_ref *inner = put(w, A, 1, NULL, 0);
    struct own_ref *made = stored_return(w, 2, 88, 0, &inner, 1);
    struct own_ref *small = put(w, A, 3, NULL, 0);
    struct own_ref *args[] = { made, small };
    own_lineage_hold(args, 2);
    drop(w, A, inner);
    drop(w, A, made);
    drop(w, A, small);
    assert_true(knows(w, A, 2) && knows(w, A, 3));
    assert_false(knows(w, A, 1)); /* the large value went, and what was inside */
    assert_int_equal(made->state, OWN_PENDING);
    assert_int_equal(small->state, OWN_INLINE);
    own_task_submitted(args, 2);
    want(w, made);
    assert_int_equal(notes_of(w, A, OWN_OUT_REMAKE), 1);
    assert_int_equal(own_return_done(&w->p[A].own, made, OWN_STORE, 9, 0, NULL, 0, outs(w, A)),
                     ST_OK);
    flush(w, A);
    assert_int_equal(own_task_failed(&w->p[A].own, args, 2, OWN_SELF, true, outs(w, A)), ST_OK);
    flush(w, A);
    assert_int_equal(made->state, OWN_PENDING); /* given up again */
    own_lineage_drop(&w->p[A].own, args, 2, outs(w, A));
    flush(w, A);
    assert_false(knows(w, A, 2) || knows(w, A, 3));
    assert_int_equal(last_note(w, A, OWN_OUT_DROP).when_ns & OWN_DROP_STATE_MASK, OWN_INLINE);
}

static void
test_a_lost_value_that_another_asks_for(void **state)
{
    struct world *w = *state;
    struct own_ref *ref = stored_return(w, 1, 77, 0, NULL, 0);
    struct own_item item;
    own_item_of(&w->p[A].own, ref, &item);
    struct own_ref *there = own_borrow(&w->p[B].own, NULL, NULL, &item, outs(w, B));
    flush(w, B);
    deliver_all(w);
    lose(w, ref);
    own_want(&w->p[B].own, there, outs(w, B));
    flush(w, B);
    deliver_all(w);
    assert_int_equal(notes_of(w, A, OWN_OUT_REMAKE), 1);
    assert_int_equal(there->state, OWN_PENDING);
    assert_int_equal(own_return_done(&w->p[A].own, ref, OWN_STORE, 9, 0, NULL, 0, outs(w, A)),
                     ST_OK);
    flush(w, A);
    deliver_all(w);
    assert_int_equal(there->state, OWN_STORE);
    drop(w, B, there);
    deliver_all(w);
    drop(w, A, ref);
}

static void
test_a_capture_holds(void **state)
{
    struct world *w = *state;
    struct own_ref *ref = put(w, A, 1, NULL, 0);
    own_capture(ref);
    drop(w, A, ref);
    assert_true(knows(w, A, 1));
    own_capture_drop(&w->p[A].own, ref, outs(w, A));
    flush(w, A);
    assert_false(knows(w, A, 1));
}

/* --- borrowing -----------------------------------------------------------------------------------
 */

static void
test_an_argument_that_is_not_kept_costs_no_message(void **state)
{
    struct world *w = *state;
    struct own_ref *ref = put(w, A, 1, NULL, 0);
    uint64_t kept;
    lend(w, A, ref, B, false, &kept);
    drop(w, A, ref);
    assert_true(knows(w, A, 1)); /* the pending task holds it */
    replied(w, A, ref, B, kept);
    assert_int_equal(kept, 0);
    assert_int_equal(w->mail_sent, 0);
    assert_false(knows(w, A, 1));
    assert_false(knows(w, B, 1));
}

static void
test_a_kept_argument_of_the_caller_registers_before_the_reply(void **state)
{
    struct world *w = *state;
    struct own_ref *ref = put(w, A, 1, NULL, 0);
    uint64_t kept;
    struct own_ref *there = lend(w, A, ref, B, true, &kept);
    assert_int_equal(kept, 0);
    assert_int_equal(w->mail_count, 1);
    assert_mail(w, 0, OWN_MSG_REGISTER, B, A);
    deliver_one(w);
    replied(w, A, ref, B, kept);
    drop(w, A, ref);
    assert_true(knows(w, A, 1));
    assert_true(own_is_needed(&w->p[A].own));
    uint32_t holder;
    assert_int_equal(own_holders(own_find(&w->p[A].own, &ref->id), &holder, 1), 1);
    assert_int_equal(proc_of(w, A, holder), B);
    deliver_all(w);
    assert_int_equal(there->reg, OWN_REG_LISTED);
    drop(w, B, there);
    assert_mail(w, 0, OWN_MSG_RELEASE, B, A);
    deliver_all(w);
    assert_false(knows(w, A, 1));
    assert_false(own_is_needed(&w->p[A].own));
}

static void
test_a_kept_argument_of_a_third_is_pinned_until_transit_done(void **state)
{
    struct world *w = *state;
    struct own_ref *at_b = borrowed(w, A, put(w, A, 1, NULL, 0), B);
    uint64_t kept;
    struct own_ref *at_c = lend(w, B, at_b, C, true, &kept);
    assert_int_not_equal(kept, 0);
    replied(w, B, at_b, C, kept);
    drop(w, B, at_b);
    assert_true(knows(w, B, 1)); /* the transit pin */
    assert_true(own_is_needed(&w->p[B].own));
    assert_mail(w, 0, OWN_MSG_REGISTER, C, A);
    deliver_one(w);
    assert_mail(w, 0, OWN_MSG_REGISTER_ACK, A, C);
    deliver_one(w);
    assert_mail(w, 0, OWN_MSG_TRANSIT_DONE, C, B);
    deliver_one(w);
    assert_mail(w, 0, OWN_MSG_RELEASE, B, A);
    deliver_one(w);
    assert_false(knows(w, B, 1));
    assert_int_equal(at_c->reg, OWN_REG_LISTED);
    assert_true(knows(w, A, 1));
}

static void
test_references_in_returns_are_pinned_by_the_executor(void **state)
{
    struct world *w = *state;
    const struct id_object id = oid(1);
    struct own_ref *result = own_return_create(&w->p[A].own, &id, 0);
    struct own_ref *inner = put(w, B, 2, NULL, 0);
    const struct own_item item = item_of(w, B, inner);
    uint64_t token;
    assert_int_equal(own_reply_pin(&w->p[B].own, peer_of(w, B, A), &inner, 1, &token), ST_OK);
    drop(w, B, inner);
    assert_true(knows(w, B, 2));
    struct own_frame *frame = own_frame_open(&w->p[A].own, peer_of(w, A, B), token);
    struct own_ref *there = own_frame_add(&w->p[A].own, frame, &item);
    assert_int_equal(own_return_done(&w->p[A].own, result, OWN_INLINE, 9, 0, &there, 1, outs(w, A)),
                     ST_OK);
    own_frame_close_reply(&w->p[A].own, frame, outs(w, A));
    flush(w, A);
    /* The sender owns it: both leave at once, in this order. */
    assert_mail(w, 0, OWN_MSG_REGISTER, A, B);
    assert_mail(w, 1, OWN_MSG_TRANSIT_DONE, A, B);
    deliver_all(w);
    assert_true(knows(w, B, 2));
    drop(w, A, result);
    deliver_all(w);
    assert_false(knows(w, B, 2));
    assert_false(knows(w, A, 2));
}

static void
test_the_outer_object_stays_until_the_inner_is_registered(void **state)
{
    struct world *w = *state;
    struct own_ref *inner = put(w, C, 1, NULL, 0);
    struct own_ref *inner_at_a = borrowed(w, C, inner, A);
    struct own_ref *outer = put(w, A, 2, &inner_at_a, 1);
    struct own_ref *outer_at_b = borrowed(w, A, outer, B);
    const struct own_item item = item_of(w, C, inner);
    struct own_ref *inner_at_b = own_borrow(&w->p[B].own, NULL, outer_at_b, &item, outs(w, B));
    flush(w, B);
    drop(w, B, outer_at_b);
    assert_true(knows(w, B, 2));
    assert_mail(w, 0, OWN_MSG_REGISTER, B, C);
    deliver_one(w);
    deliver_one(w); /* the ACK */
    assert_false(knows(w, B, 2));
    assert_mail(w, 0, OWN_MSG_RELEASE, B, A);
    drop(w, A, inner_at_a);
    drop(w, A, outer);
    drop(w, C, inner);
    deliver_all(w);
    assert_false(knows(w, A, 2));
    assert_true(knows(w, C, 1)); /* B alone */
    drop(w, B, inner_at_b);
    deliver_all(w);
    assert_false(knows(w, C, 1));
}

static void
test_inner_references_of_a_resolved_argument_can_register_at_once(void **state)
{
    struct world *w = *state;
    struct own_ref *inner = put(w, C, 1, NULL, 0);
    const struct own_item item = item_of(w, C, inner);
    struct own_frame *frame = own_frame_open(&w->p[B].own, peer_of(w, B, A), 0);
    struct own_ref *there = own_frame_add(&w->p[B].own, frame, &item);
    own_register(&w->p[B].own, there, outs(w, B));
    flush(w, B);
    assert_mail(w, 0, OWN_MSG_REGISTER, B, C);
    deliver_all(w);
    uint64_t kept;
    own_frame_close(&w->p[B].own, frame, &kept, outs(w, B));
    flush(w, B);
    assert_int_equal(kept, 0);
    assert_mail(w, 0, OWN_MSG_RELEASE, B, C);
    deliver_all(w);
}

static void
test_a_reply_that_travels_elsewhere_waits_for_its_senders_references_too(void **state)
{
    struct world *w = *state;
    struct own_ref *ref = put(w, A, 1, NULL, 0);
    const struct own_item item = item_of(w, A, ref);
    struct own_frame *frame = own_frame_open(&w->p[B].own, peer_of(w, B, A), 0);
    (void)own_frame_add(&w->p[B].own, frame, &item);
    struct own_ref *there = own_borrow(&w->p[B].own, frame, NULL, &item, outs(w, B));
    flush(w, B);
    uint64_t kept;
    own_frame_reply_elsewhere(frame);
    own_frame_close(&w->p[B].own, frame, &kept, outs(w, B));
    flush(w, B);
    assert_true(kept != 0); /* so the reply, should it come first, keeps the argument at A */
    assert_mail(w, 0, OWN_MSG_REGISTER, B, A);
    own_task_submitted(&ref, 1);
    assert_int_equal(own_task_replied(&w->p[A].own, &ref, 1, peer_of(w, A, B), kept, outs(w, A)),
                     ST_OK);
    flush(w, A);
    drop(w, A, ref);
    assert_true(knows(w, A, 1));
    deliver_all(w);
    assert_true(knows(w, A, 1)); /* B is listed */
    drop(w, B, there);
    deliver_all(w);
    assert_false(knows(w, A, 1));
}

static void
test_an_older_release_changes_nothing(void **state)
{
    struct world *w = *state;
    struct own_ref *ref = put(w, A, 1, NULL, 0);
    struct own_ref *there = borrowed(w, A, ref, B);
    drop(w, B, there);
    const struct mail release = w->mail[0]; /* held up */
    w->mail_count = 0;
    borrowed(w, A, ref, B);
    drop(w, A, ref);
    assert_int_equal(step(w, A, release.kind, B, 0, &release.m), ST_OK);
    assert_true(knows(w, A, 1));
}

static void
test_a_release_waits_for_the_answer_to_its_registration(void **state)
{
    struct world *w = *state;
    uint64_t kept;
    struct own_ref *ref = put(w, A, 1, NULL, 0);
    struct own_ref *there = lend(w, A, ref, B, true, &kept);
    drop(w, B, there);
    assert_int_equal(w->mail_count, 1);
    assert_true(knows(w, B, 1));
    deliver_one(w);
    deliver_one(w);
    assert_mail(w, 0, OWN_MSG_RELEASE, B, A);
    assert_false(knows(w, B, 1));
}

static void
test_a_late_registration_is_told_that_it_is_gone(void **state)
{
    struct world *w = *state;
    struct own_ref *ref = put(w, A, 1, NULL, 0);
    uint64_t kept;
    struct own_ref *there = lend(w, A, ref, B, true, &kept);
    w->p[A].own.grace_ns = 0;
    there->waiters = 7;
    replied(w, A, ref, B, 0);
    drop(w, A, ref); /* as if the cover had been lost */
    deliver_all(w);
    assert_int_equal(there->state, OWN_GONE);
    assert_int_equal(there->status, ST_OBJECT_GONE);
    assert_int_equal(last_note(w, B, OWN_OUT_READY).payload, 7);
    drop(w, B, there);
    assert_int_equal(w->mail_count, 0);
}

/* --- values
 * --------------------------------------------------------------------------------------- */

static void
test_get_is_answered_when_the_value_is_there(void **state)
{
    struct world *w = *state;
    const struct id_object id = oid(1);
    struct own_ref *ref = own_return_create(&w->p[A].own, &id, 0);
    struct own_ref *there = borrowed(w, A, ref, B);
    there->waiters = 3;
    own_want(&w->p[B].own, there, outs(w, B));
    flush(w, B);
    own_want(&w->p[B].own, there, outs(w, B)); /* asked once */
    flush(w, B);
    assert_int_equal(w->mail_count, 1);
    deliver_all(w);
    assert_int_equal(notes_of(w, B, OWN_OUT_READY), 0);
    assert_int_equal(own_return_done(&w->p[A].own, ref, OWN_STORE, 55, 0, NULL, 0, outs(w, A)),
                     ST_OK);
    flush(w, A);
    assert_mail(w, 0, OWN_MSG_VALUE, A, B);
    deliver_all(w);
    assert_int_equal(there->state, OWN_STORE);
    assert_int_equal(there->value, 55);
    assert_int_equal(notes_of(w, B, OWN_OUT_READY), 1);
    own_forget_value(there);
    own_want(&w->p[B].own, there, outs(w, B));
    flush(w, B);
    deliver_all(w);
    assert_int_equal(there->state, OWN_STORE);
    drop(w, B, there);
    assert_int_equal(last_note(w, B, OWN_OUT_DROP).when_ns, OWN_STORE);
    deliver_all(w);
    drop(w, A, ref);
}

static void
test_a_get_for_what_is_not_here_is_answered(void **state)
{
    struct world *w = *state;
    const struct own_item item = { .object = oid(1), .owner = addr_of(A) };
    struct own_frame *frame = own_frame_open(&w->p[B].own, peer_of(w, B, C), 0);
    struct own_ref *there = own_frame_add(&w->p[B].own, frame, &item);
    there->waiters = 3;
    own_want(&w->p[B].own, there, outs(w, B));
    flush(w, B);
    deliver_all(w);
    assert_int_equal(there->state, OWN_GONE);
    assert_int_equal(notes_of(w, B, OWN_OUT_READY), 1);
}

static void
test_explicit_free_reaches_owner_and_borrowers(void **state)
{
    struct world *w = *state;
    struct own_ref *inner = put(w, A, 1, NULL, 0);
    struct own_ref *ref = put(w, A, 2, &inner, 1);
    drop(w, A, inner);
    struct own_ref *there = borrowed(w, A, ref, B);
    assert_int_equal(own_free(&w->p[B].own, there, outs(w, B)), ST_OK);
    flush(w, B);
    assert_int_equal(there->status, ST_OBJECT_FREED);
    deliver_all(w);
    assert_int_equal(ref->state, OWN_GONE);
    assert_int_equal(ref->status, ST_OBJECT_FREED);
    assert_false(knows(w, A, 1));
    assert_int_equal(notes_of(w, A, OWN_OUT_DROP), 2);
    drop(w, B, there);
    deliver_all(w);
    drop(w, A, ref);
    assert_int_equal(notes_of(w, A, OWN_OUT_DROP), 2);
}

static void
test_a_return_freed_before_it_came_is_dropped(void **state)
{
    struct world *w = *state;
    const struct id_object id = oid(1);
    struct own_ref *ref = own_return_create(&w->p[A].own, &id, 0);
    assert_int_equal(own_free(&w->p[A].own, ref, outs(w, A)), ST_OK);
    flush(w, A);
    assert_int_equal(own_return_done(&w->p[A].own, ref, OWN_INLINE, 5, 0, NULL, 0, outs(w, A)),
                     ST_OK);
    flush(w, A);
    assert_int_equal(last_note(w, A, OWN_OUT_DROP).payload, 5);
    assert_int_equal(ref->state, OWN_GONE);
    drop(w, A, ref);
}

static void
test_put_for_another_owner(void **state)
{
    struct world *w = *state;
    struct own_ref *inner = put(w, A, 1, NULL, 0);
    const struct id_object id = oid(2);
    struct own_ref *ref = NULL;
    assert_int_equal(own_put_for(&w->p[A].own, &id, peer_of(w, A, B), OWN_INLINE, 9, &inner, 1,
                                 &ref, outs(w, A)),
                     ST_OK);
    ref->waiters = 4;
    flush(w, A);
    drop(w, A, inner);
    assert_false(own_is_listed(ref));
    deliver_all(w);
    assert_true(own_is_listed(ref));
    assert_int_equal(last_note(w, A, OWN_OUT_READY).payload, 4);
    assert_int_equal(ref->state, OWN_PENDING);
    const struct own_ref *there = own_find(&w->p[B].own, &id);
    assert_int_equal(there->kind, OWN_OWNED);
    assert_int_equal(there->value, 9);
    assert_true(knows(w, A, 1)); /* B lists itself for what is inside */
    assert_int_equal(w->p[A].own.stats.transits, 0);
    drop(w, A, ref);
    deliver_all(w);
    assert_false(knows(w, B, 2));
    assert_false(knows(w, A, 1));
}

static void
test_put_for_a_dead_owner(void **state)
{
    struct world *w = *state;
    const struct id_object id = oid(2);
    struct own_ref *ref = NULL;
    const uint32_t b = peer_of(w, A, B);
    assert_int_equal(own_put_for(&w->p[A].own, &id, b, OWN_INLINE, 9, NULL, 0, &ref, outs(w, A)),
                     ST_OK);
    flush(w, A);
    ref->waiters = 4;
    died(w, A, B);
    assert_int_equal(ref->state, OWN_GONE);
    assert_int_equal(last_note(w, A, OWN_OUT_READY).payload, 4);
    const struct id_object other = oid(3);
    struct own_ref *none;
    assert_int_equal(
        own_put_for(&w->p[A].own, &other, b, OWN_INLINE, 9, NULL, 0, &none, outs(w, A)),
        ST_OWNER_DIED);
    assert_null(none);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_pending_reference_costs_less_than_200_bytes),
        TEST(test_processes_that_are_gone_take_no_memory),
        TEST(test_put_and_drop_gives_the_value_back),
        TEST(test_an_actors_last_handle_is_told),
        TEST(test_frees_cascade_however_little_room_there_is),
        TEST(test_a_return_that_nobody_wants_is_dropped_when_it_comes),
        TEST(test_waiters_are_told_once),
        TEST(test_a_value_made_again_replaces_what_it_held),
        TEST(test_what_has_no_lineage_is_gone),
        TEST(test_an_argument_stays_for_its_lineage),
        TEST(test_a_lost_value_that_another_asks_for),
        TEST(test_a_capture_holds),
        TEST(test_an_argument_that_is_not_kept_costs_no_message),
        TEST(test_a_kept_argument_of_the_caller_registers_before_the_reply),
        TEST(test_a_kept_argument_of_a_third_is_pinned_until_transit_done),
        TEST(test_references_in_returns_are_pinned_by_the_executor),
        TEST(test_the_outer_object_stays_until_the_inner_is_registered),
        TEST(test_inner_references_of_a_resolved_argument_can_register_at_once),
        TEST(test_a_reply_that_travels_elsewhere_waits_for_its_senders_references_too),
        TEST(test_an_older_release_changes_nothing),
        TEST(test_a_release_waits_for_the_answer_to_its_registration),
        TEST(test_a_late_registration_is_told_that_it_is_gone),
        TEST(test_get_is_answered_when_the_value_is_there),
        TEST(test_a_get_for_what_is_not_here_is_answered),
        TEST(test_explicit_free_reaches_owner_and_borrowers),
        TEST(test_a_return_freed_before_it_came_is_dropped),
        TEST(test_put_for_another_owner),
        TEST(test_put_for_a_dead_owner),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
