/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests of the ownership machine: single transitions and short conversations of up to four
 * processes, A to D, whose messages the test delivers itself. Long and random ones are sim's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "own/own.h"

enum { PROCS = 4, MAIL_MAX = 256, NOTES_MAX = 256, SECOND = 1000000000 };
enum { A, B, C, D };

/* Counts bytes; fails the allocation number `fail_at` (from 1). */
struct meter {
    int64_t bytes;
    uint64_t calls, fail_at;
};

static void *
metered_resize(void *ctx, void *old, size_t old_size, size_t new_size)
{
    struct meter *meter = ctx;
    if (new_size > 0 && ++meter->calls == meter->fail_at) {
        return NULL;
    }
    meter->bytes += (int64_t)new_size - (int64_t)old_size;
    if (new_size == 0) {
        free(old);
        return NULL;
    }
    return realloc(old, new_size);
}

struct mail {
    int from, to;
    uint16_t kind;
    uint64_t payload;
    union {
        struct own_msg_register reg;
        struct own_msg_register_ack ack;
        struct own_msg_release release;
        struct own_msg_transit_done done;
        struct own_msg_get get;
        struct own_msg_value value;
        struct own_msg_free free;
        struct own_msg_transfer transfer;
    } m;
    struct own_item items[4];
};

struct proc {
    struct own own;
    struct step_outs outs;
    struct step_out room[32];
    struct arena arena;
    struct step_out notes[NOTES_MAX]; /* READY, DROP, TIMER, PROC_GONE */
    uint32_t note_count;
};

struct world {
    struct meter meter;
    struct mem mem;
    struct proc p[PROCS];
    struct mail mail[MAIL_MAX];
    uint32_t mail_count, mail_sent; /* in the queue; since the beginning */
    uint32_t capacity;              /* of outs */
    uint64_t now;
};

static struct own_addr
addr_of(int proc)
{
    struct own_addr addr;
    memset(&addr, 0x11 * (proc + 1), sizeof(addr));
    return addr;
}

static int
setup(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    w->mem = (struct mem){ .resize = metered_resize, .ctx = &w->meter };
    w->capacity = OWN_OUTS_MIN;
    w->now = 1;
    for (int i = 0; i < PROCS; i++) {
        const struct own_addr addr = addr_of(i);
        own_init(&w->p[i].own, &w->mem, &addr, NULL);
        arena_init(&w->p[i].arena, &w->mem);
    }
    *state = w;
    return 0;
}

static int
teardown(void **state)
{
    struct world *w = *state;
    for (int i = 0; i < PROCS; i++) {
        own_fini(&w->p[i].own);
        arena_fini(&w->p[i].arena);
    }
    const bool clean = w->meter.bytes == 0;
    free(w);
    return clean ? 0 : -1;
}

static uint32_t
peer_of(struct world *w, int at, int of)
{
    const struct own_addr addr = addr_of(of);
    uint32_t number;
    assert_int_equal(own_proc(&w->p[at].own, &addr, &number), ST_OK);
    return number;
}

static int
proc_of(struct world *w, int at, uint64_t peer)
{
    return own_proc_addr(&w->p[at].own, (uint32_t)peer)->worker.b[0] / 0x11 - 1;
}

static size_t
mail_size(uint16_t kind)
{
    static const size_t sizes[] = {
        [OWN_MSG_REGISTER] = sizeof(struct own_msg_register),
        [OWN_MSG_REGISTER_ACK] = sizeof(struct own_msg_register_ack),
        [OWN_MSG_RELEASE] = sizeof(struct own_msg_release),
        [OWN_MSG_TRANSIT_DONE] = sizeof(struct own_msg_transit_done),
        [OWN_MSG_GET] = sizeof(struct own_msg_get),
        [OWN_MSG_VALUE] = sizeof(struct own_msg_value),
        [OWN_MSG_FREE] = sizeof(struct own_msg_free),
        [OWN_MSG_TRANSFER] = sizeof(struct own_msg_transfer),
    };
    return sizes[kind];
}

/* Room for the next call into process `at`. */
static struct step_outs *
outs(struct world *w, int at)
{
    struct proc *p = &w->p[at];
    p->outs = (struct step_outs){ .v = p->room, .capacity = w->capacity, .arena = &p->arena };
    return &p->outs;
}

static void
take_out(struct world *w, int at, const struct step_out *out)
{
    struct proc *p = &w->p[at];
    if (out->kind > OWN_MSG_LAST) {
        assert_true(p->note_count < NOTES_MAX);
        p->notes[p->note_count++] = *out;
        return;
    }
    assert_true(w->mail_count < MAIL_MAX);
    struct mail *mail = &w->mail[w->mail_count++];
    w->mail_sent++;
    memset(mail, 0, sizeof(*mail));
    mail->from = at;
    mail->to = proc_of(w, at, out->peer);
    mail->kind = out->kind;
    mail->payload = out->payload;
    memcpy(&mail->m, out->msg, mail_size(out->kind));
    if (out->kind == OWN_MSG_TRANSFER && mail->m.transfer.count > 0) {
        assert_true(mail->m.transfer.count <= 4);
        memcpy(mail->items, mail->m.transfer.items,
               mail->m.transfer.count * sizeof(struct own_item));
    }
}

/* Takes the outs of the last call into `at`, and all that follow. */
static void
flush(struct world *w, int at)
{
    struct proc *p = &w->p[at];
    for (;;) {
        for (uint32_t i = 0; i < p->outs.count; i++) {
            take_out(w, at, &p->outs.v[i]);
        }
        arena_reset(&p->arena);
        if (!p->outs.more) {
            p->outs.count = 0;
            return;
        }
        const struct step_in in = { .kind = STEP_CONTINUE };
        (void)!own_step(&p->own, &in, outs(w, at));
    }
}

static int
step(struct world *w, int at, uint16_t kind, int from, uint64_t payload, const void *msg)
{
    struct step_in in = { .kind = kind, .now_ns = w->now, .payload = payload, .msg = msg };
    in.peer = from == at ? OWN_SELF : peer_of(w, at, from);
    const int status = own_step(&w->p[at].own, &in, outs(w, at));
    flush(w, at);
    return status;
}

/* Delivers the oldest message. */
static void
deliver_one(struct world *w)
{
    struct mail mail = w->mail[0];
    memmove(w->mail, w->mail + 1, --w->mail_count * sizeof(w->mail[0]));
    if (mail.kind == OWN_MSG_TRANSFER) {
        mail.m.transfer.items = mail.items;
    }
    assert_int_equal(step(w, mail.to, mail.kind, mail.from, mail.payload, &mail.m), ST_OK);
}

static void
deliver_all(struct world *w)
{
    while (w->mail_count > 0) {
        deliver_one(w);
    }
}

static void
assert_mail(struct world *w, uint32_t index, uint16_t kind, int from, int to)
{
    assert_true(index < w->mail_count);
    assert_int_equal(w->mail[index].kind, kind);
    assert_int_equal(w->mail[index].from, from);
    assert_int_equal(w->mail[index].to, to);
}

static uint32_t
notes_of(struct world *w, int at, uint16_t kind)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < w->p[at].note_count; i++) {
        count += w->p[at].notes[i].kind == kind;
    }
    return count;
}

static const struct step_out *
last_note(struct world *w, int at, uint16_t kind)
{
    for (uint32_t i = w->p[at].note_count; i-- > 0;) {
        if (w->p[at].notes[i].kind == kind) {
            return &w->p[at].notes[i];
        }
    }
    fail_msg("no such out");
    return NULL;
}

static struct id_object
oid(uint32_t number)
{
    struct id_object id;
    memset(&id, 0, sizeof(id));
    memcpy(id.b, &number, sizeof(number));
    return id;
}

static struct own_item
item_of(struct world *w, int at, const struct own_ref *ref)
{
    struct own_item item;
    own_item_of(&w->p[at].own, ref, &item);
    return item;
}

static struct own_ref *
put(struct world *w, int at, uint32_t number, struct own_ref *const *inner, uint32_t count)
{
    const struct id_object id = oid(number);
    struct own_ref *ref =
        own_put(&w->p[at].own, &id, OWN_INLINE, 1000 + number, false, inner, count);
    assert_non_null(ref);
    return ref;
}

static void
drop(struct world *w, int at, struct own_ref *ref)
{
    assert_false(own_local_try_drop(ref));
    own_local_drop(&w->p[at].own, ref, outs(w, at));
    flush(w, at);
}

static bool
knows(struct world *w, int at, uint32_t number)
{
    const struct id_object id = oid(number);
    return own_find(&w->p[at].own, &id) != NULL;
}

static void
died(struct world *w, int at, int dead)
{
    own_died(&w->p[at].own, peer_of(w, at, dead), w->now, outs(w, at));
    flush(w, at);
}

static void
tick(struct world *w, int at, uint64_t by)
{
    w->now += by;
    assert_int_equal(step(w, at, OWN_IN_TIMER, at, 0, NULL), ST_OK);
}

/* `to` runs a task of `from` with one argument, and keeps a handle of it or doesn't. Returns what it
 * kept; `*kept` is the reply's word. The caller's side is not answered yet. */
static struct own_ref *
lend(struct world *w, int from, struct own_ref *arg, int to, bool keep, uint64_t *kept)
{
    own_task_submitted(&arg, 1);
    const struct own_item item = item_of(w, from, arg);
    struct own *own = &w->p[to].own;
    struct own_frame *frame = own_frame_open(own, peer_of(w, to, from), 0);
    assert_non_null(frame);
    struct own_ref *there = own_frame_add(own, frame, &item);
    assert_non_null(there);
    assert_ptr_equal(own_borrow(own, frame, NULL, &item, outs(w, to)), there);
    flush(w, to);
    if (!keep) {
        drop(w, to, there);
    }
    own_frame_close(own, frame, kept, outs(w, to));
    flush(w, to);
    return keep ? there : NULL;
}

static void
replied(struct world *w, int at, struct own_ref *arg, int executor, uint64_t kept)
{
    assert_int_equal(own_task_replied(&w->p[at].own, &arg, 1, peer_of(w, at, executor), kept,
                                      outs(w, at)),
                     ST_OK);
    flush(w, at);
}

/* `to` holds and is listed for an object of `from`. */
static struct own_ref *
borrowed(struct world *w, int from, struct own_ref *ref, int to)
{
    uint64_t kept;
    struct own_ref *there = lend(w, from, ref, to, true, &kept);
    deliver_all(w);
    replied(w, from, ref, to, kept);
    deliver_all(w);
    assert_int_equal(there->reg, OWN_REG_LISTED);
    return there;
}

/* --- sizes ------------------------------------------------------------------------------------- */

static void
test_a_pending_reference_costs_less_than_200_bytes(void **state)
{
    struct world *w = *state;
    assert_int_equal(sizeof(struct own_ref), 152);
    const int64_t before = w->meter.bytes;
    enum { COUNT = 131072 };
    for (uint32_t i = 0; i < COUNT; i++) {
        const struct id_object id = oid(i);
        assert_non_null(own_return_create(&w->p[A].own, &id, 0));
    }
    assert_true((w->meter.bytes - before) / COUNT < 200);
}

/* --- counting ------------------------------------------------------------------------------------ */

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
    const struct step_out *out = last_note(w, A, OWN_OUT_DROP);
    assert_int_equal(out->payload, 1001);
    assert_int_equal(out->when_ns, OWN_INLINE | OWN_DROP_OWNED);
    assert_int_equal(w->mail_sent, 0);
}

static void
test_an_actors_last_handle_is_told(void **state)
{
    struct world *w = *state;
    const struct id_object id = oid(1);
    struct own_ref *ref = own_put(&w->p[A].own, &id, OWN_INLINE, 0, true, NULL, 0);
    drop(w, A, ref);
    assert_true(last_note(w, A, OWN_OUT_DROP)->when_ns & OWN_DROP_PSEUDO);
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
    assert_int_equal(
        own_return_done(&w->p[A].own, ref, OWN_STORE, 5, 0, NULL, 0, outs(w, A)), ST_OK);
    flush(w, A);
    assert_false(knows(w, A, 1));
    assert_int_equal(last_note(w, A, OWN_OUT_DROP)->payload, 5);
    assert_int_equal(last_note(w, A, OWN_OUT_DROP)->peer, 77);
}

static void
test_waiters_are_told_once(void **state)
{
    struct world *w = *state;
    const struct id_object id = oid(1);
    struct own_ref *ref = own_return_create(&w->p[A].own, &id, 0);
    ref->waiters = 42;
    assert_int_equal(
        own_return_done(&w->p[A].own, ref, OWN_INLINE, 5, 0, NULL, 0, outs(w, A)), ST_OK);
    flush(w, A);
    assert_int_equal(notes_of(w, A, OWN_OUT_READY), 1);
    assert_int_equal(last_note(w, A, OWN_OUT_READY)->payload, 42);
    assert_ptr_equal(last_note(w, A, OWN_OUT_READY)->msg, ref);
    assert_int_equal(ref->waiters, 0);
    drop(w, A, ref);
}

static void
test_a_value_made_again_replaces_what_it_held(void **state)
{
    struct world *w = *state;
    struct own_ref *first = put(w, A, 1, NULL, 0);
    struct own_ref *second = put(w, A, 2, NULL, 0);
    const struct id_object id = oid(3);
    struct own_ref *ref = own_return_create(&w->p[A].own, &id, 0);
    assert_int_equal(
        own_return_done(&w->p[A].own, ref, OWN_STORE, 5, 0, &first, 1, outs(w, A)), ST_OK);
    drop(w, A, first);
    own_return_again(ref);
    assert_true(knows(w, A, 1));
    assert_int_equal(
        own_return_done(&w->p[A].own, ref, OWN_STORE, 6, 0, &second, 1, outs(w, A)), ST_OK);
    flush(w, A);
    assert_false(knows(w, A, 1));
    drop(w, A, second);
    assert_true(knows(w, A, 2));
    drop(w, A, ref);
    assert_false(knows(w, A, 2));
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

/* --- borrowing ----------------------------------------------------------------------------------- */

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
    assert_int_equal(
        own_return_done(&w->p[A].own, result, OWN_INLINE, 9, 0, &there, 1, outs(w, A)), ST_OK);
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
    assert_int_equal(last_note(w, B, OWN_OUT_READY)->payload, 7);
    drop(w, B, there);
    assert_int_equal(w->mail_count, 0);
}

/* --- values --------------------------------------------------------------------------------------- */

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
    assert_int_equal(
        own_return_done(&w->p[A].own, ref, OWN_STORE, 55, 0, NULL, 0, outs(w, A)), ST_OK);
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
    assert_int_equal(last_note(w, B, OWN_OUT_DROP)->when_ns, OWN_STORE);
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
    assert_int_equal(
        own_return_done(&w->p[A].own, ref, OWN_INLINE, 5, 0, NULL, 0, outs(w, A)), ST_OK);
    flush(w, A);
    assert_int_equal(last_note(w, A, OWN_OUT_DROP)->payload, 5);
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
    assert_int_equal(last_note(w, A, OWN_OUT_READY)->payload, 4);
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
    assert_int_equal(
        own_put_for(&w->p[A].own, &id, b, OWN_INLINE, 9, NULL, 0, &ref, outs(w, A)), ST_OK);
    flush(w, A);
    ref->waiters = 4;
    died(w, A, B);
    assert_int_equal(ref->state, OWN_GONE);
    assert_int_equal(last_note(w, A, OWN_OUT_READY)->payload, 4);
    const struct id_object other = oid(3);
    struct own_ref *none;
    assert_int_equal(
        own_put_for(&w->p[A].own, &other, b, OWN_INLINE, 9, NULL, 0, &none, outs(w, A)),
        ST_OWNER_DIED);
    assert_null(none);
}

/* --- deaths ---------------------------------------------------------------------------------------- */

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
    assert_int_equal(last_note(w, A, OWN_OUT_TIMER)->when_ns, w->now + SECOND);
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
    assert_int_equal(last_note(w, A, OWN_OUT_DROP)->payload, 88);
}

/* --- what a peer may get wrong ------------------------------------------------------------------------ */

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
    assert_int_equal(last_note(w, B, OWN_OUT_DROP)->payload, 66);
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

/* --- memory that runs out ----------------------------------------------------------------------------- */

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
    AGAIN((flush(w, B), own_put_for(b, &ids[2], peer_a, OWN_INLINE, 3, &taken, 1, &given,
                                    outs(w, B)) == ST_OK));
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
        mail.m.transfer.items = mail.kind == OWN_MSG_TRANSFER ? mail.items
                                                              : mail.m.transfer.items;
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
        TEST(test_a_pending_reference_costs_less_than_200_bytes),
        TEST(test_put_and_drop_gives_the_value_back),
        TEST(test_an_actors_last_handle_is_told),
        TEST(test_frees_cascade_however_little_room_there_is),
        TEST(test_a_return_that_nobody_wants_is_dropped_when_it_comes),
        TEST(test_waiters_are_told_once),
        TEST(test_a_value_made_again_replaces_what_it_held),
        TEST(test_a_capture_holds),
        TEST(test_an_argument_that_is_not_kept_costs_no_message),
        TEST(test_a_kept_argument_of_the_caller_registers_before_the_reply),
        TEST(test_a_kept_argument_of_a_third_is_pinned_until_transit_done),
        TEST(test_references_in_returns_are_pinned_by_the_executor),
        TEST(test_the_outer_object_stays_until_the_inner_is_registered),
        TEST(test_inner_references_of_a_resolved_argument_can_register_at_once),
        TEST(test_an_older_release_changes_nothing),
        TEST(test_a_release_waits_for_the_answer_to_its_registration),
        TEST(test_a_late_registration_is_told_that_it_is_gone),
        TEST(test_get_is_answered_when_the_value_is_there),
        TEST(test_a_get_for_what_is_not_here_is_answered),
        TEST(test_explicit_free_reaches_owner_and_borrowers),
        TEST(test_a_return_freed_before_it_came_is_dropped),
        TEST(test_put_for_another_owner),
        TEST(test_put_for_a_dead_owner),
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
