/* SPDX-License-Identifier: Apache-2.0 */
/*
 * References in motion: tasks and their returns on the caller's side, frames and reply pins on the
 * executor's, transfers on both. Rules R1 to R5 of docs/protocols/ownership.md.
 */
#include <string.h>

#include "own/own_priv.h"

/* --- transit pins
 * ----------------------------------------------------------------------------------- */

int
own_transit_add(struct own *own, struct own_proc *proc, uint64_t token, struct own_ref *const *refs,
                uint32_t count)
{
    struct own_transit *t = mem_alloc(own->mem, sizeof(*t) + count * sizeof(struct own_ref *));
    if (!t) {
        return ST_OUT_OF_MEMORY;
    }
    t->token = token;
    t->count = count;
    for (uint32_t i = 0; i < count; i++) {
        t->refs[i] = refs[i];
        refs[i]->pins++;
    }
    list_init(&t->link);
    list_push_back(&proc->transits, &t->link);
    own->stats.transits++;
    return ST_OK;
}

void
own_transit_drop(struct own *own, struct own_proc *proc, struct own_transit *t)
{
    list_remove(&t->link);
    for (uint32_t i = 0; i < t->count; i++) {
        own_unpin(own, t->refs[i]);
    }
    own->stats.transits--;
    mem_free(own->mem, t, sizeof(*t) + t->count * sizeof(struct own_ref *));
    own_proc_review(own, proc);
}

/* --- the caller's side of tasks
 * ----------------------------------------------------------------------- */

struct own_ref *
own_return_create(struct own *own, const struct id_object *id, uint64_t lineage)
{
    struct own_ref *ref = own_ref_make(own, id, OWN_OWNED, NULL);
    if (ref) {
        ref->lineage = lineage;
        ref->local = 1;
        ref->pins = 1;
    }
    return ref;
}

static void
give_up_args(struct own *own, struct own_ref *const *args, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        ASSERT(args[i]->submitted > 0);
        if (--args[i]->submitted == 0 && !own_is_held(args[i])) {
            own_touch(own, args[i]);
        }
    }
}

int
own_task_replied(struct own *own, struct own_ref *const *args, uint32_t count, uint32_t executor,
                 uint64_t kept, struct step_outs *outs)
{
    if (kept != 0 && count > 0 && !OWN_WITHOUT(own, kept_pin)) {
        struct own_proc *proc = own_proc_find(own, executor);
        if (proc && !proc->settled) {
            TRY(own_transit_add(own, proc, kept, args, count));
        }
    }
    give_up_args(own, args, count);
    return own_pump(own, outs);
}

int
own_task_failed(struct own *own, struct own_ref *const *args, uint32_t count, uint32_t executor,
                bool last, struct step_outs *outs)
{
    struct own_proc *proc = executor == OWN_SELF ? NULL : own_proc_find(own, executor);
    if (proc && !proc->settled && count > 0 && !OWN_WITHOUT(own, failed_pin)) {
        TRY(own_transit_add(own, proc, 0, args, count));
    }
    if (last) {
        give_up_args(own, args, count);
    }
    return own_pump(own, outs);
}

int
own_return_done(struct own *own, struct own_ref *ref, enum own_state state, uint64_t value,
                int32_t status, struct own_ref *const *inner, uint32_t count,
                struct step_outs *outs)
{
    ASSERT(ref->kind == OWN_OWNED && ref->pins > 0 && state != OWN_PENDING);
    if (ref->state != OWN_PENDING || ref->flags & REF_LOSE) {
        ref->state = (uint8_t)state; /* freed explicitly before it came: given back, GONE again */
        ref->value = value;
        ref->flags |= REF_LOSE;
        own_touch(own, ref);
    } else {
        TRY(own_contain(own, ref, inner, count));
        ref->state = (uint8_t)state;
        ref->value = value;
        ref->status = status;
    }
    ref->pins--;
    if (ref->waiters || ref->getters || !own_is_held(ref)) {
        own_touch(own, ref);
    }
    return own_pump(own, outs);
}

/* --- frames
 * ---------------------------------------------------------------------------------------------- */

struct own_frame *
own_frame_open(struct own *own, uint32_t from, uint64_t token)
{
    struct own_proc *proc = own_proc_find(own, from);
    ASSERT(proc);
    struct own_frame *frame = slab_take(&own->frame_slab);
    if (frame) {
        *frame = (struct own_frame){ .proc = proc, .token = token, .orphan = proc->dead };
        list_init(&frame->link);
        list_init(&frame->ready);
        list_push_back(&proc->frames, &frame->link);
        own->stats.frames++;
    }
    return frame;
}

void
own_frame_free(struct own *own, struct own_frame *frame)
{
    ASSERT(frame->pending == 0 && !frame->covers);
    list_remove(&frame->ready);
    list_remove(&frame->link);
    own_proc_review(own, frame->proc);
    slab_give(&own->frame_slab, frame);
    own->stats.frames--;
}

/* Everything that a closed frame waited for is answered: says so to its sender. */
void
own_frame_settle(struct own *own, struct own_frame *frame)
{
    if (frame->closed && frame->pending == 0) {
        list_remove(&frame->ready);
        list_push_back(&own->finished, &frame->ready);
    }
}

/* The frame holds the reference from now on. */
static bool
hold(struct own *own, struct own_frame *frame, struct own_ref *ref)
{
    struct own_cover *c = slab_take(&own->cover_slab);
    if (!c) {
        return false;
    }
    *c = (struct own_cover){ .next = frame->covers, .ref = ref, .frame = frame };
    frame->covers = c;
    ref->pins++;
    if (frame->orphan) {
        own_enlist(own, ref);
    }
    return true;
}

struct own_ref *
own_frame_add(struct own *own, struct own_frame *frame, const struct own_item *item)
{
    bool made;
    struct own_ref *ref = own_ref_of_item(own, item, &made);
    if (ref && !hold(own, frame, ref)) {
        if (made) {
            own_touch(own, ref);
        }
        return NULL;
    }
    return ref;
}

void
own_register(struct own *own, struct own_ref *ref, struct step_outs *outs)
{
    if (!OWN_WITHOUT(own, resolved_register)) {
        own_enlist(own, ref);
    }
    (void)own_pump(own, outs);
}

/* A new entry, seen first while something was deserialised. */
static bool
cover_new(struct own *own, struct own_frame *frame, struct own_ref *outer, struct own_ref *ref)
{
    if (ref->kind == OWN_OWNED || ref->reg == OWN_REG_GONE) {
        return true;
    }
    if (frame && !outer) {
        return hold(own, frame, ref);
    }
    if (outer && !OWN_WITHOUT(own, outer_cover)) {
        struct own_cover *c = slab_take(&own->cover_slab);
        if (!c) {
            return false;
        }
        *c = (struct own_cover){ .next = ref->covers, .ref = ref, .outer = outer };
        ref->covers = c;
        outer->pins++;
    }
    own_enlist(own, ref);
    return true;
}

struct own_ref *
own_borrow(struct own *own, struct own_frame *frame, struct own_ref *outer,
           const struct own_item *item, struct step_outs *outs)
{
    bool made;
    struct own_ref *ref = own_ref_of_item(own, item, &made);
    /* One that was here is covered already: by an open frame, or until its ACK, or is listed. Only
     * one that was about to be forgotten is not. */
    const bool bare = ref && ref->kind == OWN_BORROWED && ref->reg == OWN_REG_NONE && !ref->pins;
    if (ref && (made || bare) && !cover_new(own, frame, outer, ref)) {
        own_touch(own, ref);
        ref = NULL;
    }
    if (ref) {
        own_local_add(ref);
    }
    (void)own_pump(own, outs);
    return ref;
}

/* Lets go what the frame held; what is still referred to is registered, and the frame waits for
 * that unless its sender owns it (whose REGISTER goes ahead of whatever is sent next). */
static void
let_go(struct own *own, struct own_frame *frame)
{
    for (struct own_cover *c = frame->covers; c; c = c->next) {
        c->ref->pins--;
    }
    struct own_cover *c = frame->covers;
    frame->covers = NULL;
    while (c) {
        struct own_cover *next = c->next;
        struct own_ref *ref = c->ref;
        const bool listed = ref->kind == OWN_OWNED || ref->reg >= OWN_REG_LISTED;
        const bool kept = own_is_held(ref) && !OWN_WITHOUT(own, kept_register);
        if (kept && !listed) {
            own_enlist(own, ref);
        }
        if (kept && !listed && (frame->elsewhere || ref->owner != frame->proc->number) &&
            !OWN_WITHOUT(own, wait_for_ack)) {
            c->next = ref->covers;
            ref->covers = c;
            frame->pending++;
        } else {
            own_touch(own, ref);
            slab_give(&own->cover_slab, c);
        }
        c = next;
    }
}

void
own_frame_reply_elsewhere(struct own_frame *frame)
{
    frame->elsewhere = true;
}

void
own_frame_close(struct own *own, struct own_frame *frame, uint64_t *kept, struct step_outs *outs)
{
    ASSERT(!frame->closed);
    *kept = 0;
    let_go(own, frame);
    frame->closed = true;
    if (frame->pending == 0) {
        own_frame_free(own, frame);
    } else {
        frame->token = ++own->token | OWN_TOKEN_KEPT;
        *kept = frame->token;
    }
    (void)own_pump(own, outs);
}

void
own_frame_close_reply(struct own *own, struct own_frame *frame, struct step_outs *outs)
{
    ASSERT(!frame->closed);
    let_go(own, frame);
    frame->closed = true;
    own_frame_settle(own, frame);
    (void)own_pump(own, outs);
}

void
own_frame_abandon(struct own *own, struct own_frame *frame, struct step_outs *outs)
{
    ASSERT(!frame->closed);
    while (frame->covers) {
        struct own_cover *c = frame->covers;
        frame->covers = c->next;
        own_unpin(own, c->ref);
        slab_give(&own->cover_slab, c);
    }
    own_frame_free(own, frame);
    (void)own_pump(own, outs);
}

int
own_reply_pin(struct own *own, uint32_t caller, struct own_ref *const *inner, uint32_t count,
              uint64_t *token)
{
    *token = 0;
    struct own_proc *proc = own_proc_find(own, caller);
    if (!proc || proc->dead || count == 0) {
        return ST_OK; /* nobody will read the reply */
    }
    *token = ++own->token;
    return OWN_WITHOUT(own, return_pin) ? ST_OK : own_transit_add(own, proc, *token, inner, count);
}

/* --- put for another owner
 * ------------------------------------------------------------------------------- */

static struct own_msg_transfer *
emit_transfer(struct own *own, const struct own_ref *ref, struct own_ref *const *inner,
              uint32_t count, struct step_outs *outs)
{
    struct own_item *items = arena_alloc(outs->arena, count * sizeof(*items));
    if (!items && count > 0) {
        return NULL;
    }
    struct own_msg_transfer *m = own_emit(outs, OWN_MSG_TRANSFER, ref->owner, sizeof(*m));
    if (m) {
        for (uint32_t i = 0; i < count; i++) {
            own_item_of(own, inner[i], &items[i]);
        }
        m->object = ref->id;
        m->items = items;
        m->count = count;
    }
    return m;
}

/* Takes back a reference that nobody has seen. */
static void
unmake(struct own *own, struct own_ref *ref, struct step_outs *outs)
{
    own_touch(own, ref);
    (void)own_pump(own, outs);
}

int
own_put_for(struct own *own, const struct id_object *id, uint32_t owner, enum own_state state,
            uint64_t value, struct own_ref *const *inner, uint32_t count, struct own_ref **out,
            struct step_outs *outs)
{
    *out = NULL;
    if (owner == OWN_SELF) {
        *out = own_put(own, id, state, value, false, inner, count);
        return *out ? ST_OK : ST_OUT_OF_MEMORY;
    }
    struct own_proc *proc = own_proc_find(own, owner);
    if (!proc || proc->dead) {
        return ST_OWNER_DIED;
    }
    struct own_ref *ref = own_ref_make(own, id, OWN_BORROWED, proc);
    if (!ref) {
        return ST_OUT_OF_MEMORY;
    }
    const uint64_t token = count > 0 ? ++own->token : 0;
    if (token && own_transit_add(own, proc, token, inner, count)) {
        unmake(own, ref, outs);
        return ST_OUT_OF_MEMORY;
    }
    struct own_msg_transfer *m = emit_transfer(own, ref, inner, count, outs);
    if (!m) {
        if (token) {
            own_transit_drop(own, proc, LIST_ENTRY(proc->transits.prev, struct own_transit, link));
        }
        unmake(own, ref, outs);
        return ST_OUT_OF_MEMORY;
    }
    outs->v[outs->count - 1].payload = value;
    m->seq = ref->seq = ++own->seq;
    m->token = token;
    m->state = (uint8_t)state;
    ref->reg = OWN_REG_SENT;
    ref->flags = REF_TRANSFER;
    ref->local = 1;
    *out = ref;
    return ST_OK;
}
