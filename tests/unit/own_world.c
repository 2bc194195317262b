/* SPDX-License-Identifier: Apache-2.0 */
/* Processes for the tests of src/own. See own_world.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "own_world.h"

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

struct own_addr
addr_of(int proc)
{
    struct own_addr addr;
    memset(&addr, 0x11 * (proc + 1), sizeof(addr));
    return addr;
}

int
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

int
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

uint32_t
peer_of(struct world *w, int at, int of)
{
    const struct own_addr addr = addr_of(of);
    uint32_t number;
    assert_int_equal(own_proc(&w->p[at].own, &addr, &number), ST_OK);
    return number;
}

int
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

struct step_outs *
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
void
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

int
step(struct world *w, int at, uint16_t kind, int from, uint64_t payload, const void *msg)
{
    struct step_in in = { .kind = kind, .now_ns = w->now, .payload = payload, .msg = msg };
    in.peer = from == at ? OWN_SELF : peer_of(w, at, from);
    const int status = own_step(&w->p[at].own, &in, outs(w, at));
    flush(w, at);
    return status;
}

void
deliver_one(struct world *w)
{
    struct mail mail = w->mail[0];
    memmove(w->mail, w->mail + 1, --w->mail_count * sizeof(w->mail[0]));
    if (mail.kind == OWN_MSG_TRANSFER) {
        mail.m.transfer.items = mail.items;
    }
    assert_int_equal(step(w, mail.to, mail.kind, mail.from, mail.payload, &mail.m), ST_OK);
}

void
deliver_all(struct world *w)
{
    while (w->mail_count > 0) {
        deliver_one(w);
    }
}

void
assert_mail(struct world *w, uint32_t index, uint16_t kind, int from, int to)
{
    assert_true(index < w->mail_count);
    assert_int_equal(w->mail[index].kind, kind);
    assert_int_equal(w->mail[index].from, from);
    assert_int_equal(w->mail[index].to, to);
}

uint32_t
notes_of(struct world *w, int at, uint16_t kind)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < w->p[at].note_count; i++) {
        count += w->p[at].notes[i].kind == kind;
    }
    return count;
}

struct step_out
last_note(struct world *w, int at, uint16_t kind)
{
    for (uint32_t i = w->p[at].note_count; i-- > 0;) {
        if (w->p[at].notes[i].kind == kind) {
            return w->p[at].notes[i];
        }
    }
    fail_msg("no such out");
    return (struct step_out){ 0 };
}

struct id_object
oid(uint32_t number)
{
    struct id_object id;
    memset(&id, 0, sizeof(id));
    memcpy(id.b, &number, sizeof(number));
    return id;
}

struct own_item
item_of(struct world *w, int at, const struct own_ref *ref)
{
    struct own_item item;
    own_item_of(&w->p[at].own, ref, &item);
    return item;
}

struct own_ref *
put(struct world *w, int at, uint32_t number, struct own_ref *const *inner, uint32_t count)
{
    const struct id_object id = oid(number);
    struct own_ref *ref =
        own_put(&w->p[at].own, &id, OWN_INLINE, 1000 + number, false, inner, count);
    assert_non_null(ref);
    return ref;
}

void
drop(struct world *w, int at, struct own_ref *ref)
{
    assert_false(own_local_try_drop(ref));
    own_local_drop(&w->p[at].own, ref, outs(w, at));
    flush(w, at);
}

bool
knows(struct world *w, int at, uint32_t number)
{
    const struct id_object id = oid(number);
    return own_find(&w->p[at].own, &id) != NULL;
}

void
died(struct world *w, int at, int dead)
{
    own_died(&w->p[at].own, peer_of(w, at, dead), w->now, outs(w, at));
    flush(w, at);
}

void
tick(struct world *w, int at, uint64_t by)
{
    w->now += by;
    assert_int_equal(step(w, at, OWN_IN_TIMER, at, 0, NULL), ST_OK);
}

struct own_ref *
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

void
replied(struct world *w, int at, struct own_ref *arg, int executor, uint64_t kept)
{
    assert_int_equal(
        own_task_replied(&w->p[at].own, &arg, 1, peer_of(w, at, executor), kept, outs(w, at)),
        ST_OK);
    flush(w, at);
}

struct own_ref *
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
