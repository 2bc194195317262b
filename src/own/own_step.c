/* SPDX-License-Identifier: Apache-2.0 */
/* What other processes say: one handler a message, and own_step, which picks it. */
#include <string.h>

#include "own/own_priv.h"

/* An owned entry by id; NULL when there is none. */
static struct own_ref *
find_owned(const struct own *own, const struct id_object *id)
{
    struct own_ref *ref = own_find(own, id);
    return ref && ref->kind == OWN_OWNED ? ref : NULL;
}

/* An entry borrowed from `proc`, by id; NULL when there is none. */
static struct own_ref *
find_borrowed(const struct own *own, const struct id_object *id, const struct own_proc *proc)
{
    struct own_ref *ref = own_find(own, id);
    return ref && ref->kind == OWN_BORROWED && ref->owner == proc->number ? ref : NULL;
}

static int
send_ack(struct step_outs *outs, const struct own_proc *proc, const struct id_object *object,
         uint64_t seq, int32_t status)
{
    struct own_msg_register_ack *ack =
        own_emit(outs, OWN_MSG_REGISTER_ACK, proc->number, sizeof(*ack));
    if (!ack) {
        return ST_OUT_OF_MEMORY;
    }
    ack->object = *object;
    ack->seq = seq;
    ack->status = status;
    return ST_OK;
}

static int
on_register(struct own *own, struct own_proc *proc, const struct own_msg_register *m,
            struct step_outs *outs)
{
    struct own_ref *ref = find_owned(own, &m->object);
    if (!ref) {
        own->stats.late_registers++;
        return OWN_WITHOUT(own, late_register)
                   ? ST_OK
                   : send_ack(outs, proc, &m->object, m->seq, ST_OBJECT_GONE);
    }
    TRY(own_list_borrower(own, ref, proc, m->seq));
    return send_ack(outs, proc, &m->object, m->seq, ST_OK);
}

static void
on_register_ack(struct own *own, struct own_proc *proc, const struct own_msg_register_ack *m)
{
    struct own_ref *ref = find_borrowed(own, &m->object, proc);
    if (!ref || ref->reg != OWN_REG_SENT || ref->seq != m->seq) {
        return;
    }
    if (m->status == ST_OK) {
        ref->reg = OWN_REG_LISTED;
    } else {
        ref->reg = OWN_REG_GONE;
        own_lose(own, ref, m->status);
    }
    own_uncover(own, ref);
    own_touch(own, ref);
}

static void
on_release(struct own *own, struct own_proc *proc, const struct own_msg_release *m)
{
    struct own_ref *ref = find_owned(own, &m->object);
    struct own_borrower *b = ref ? own_listing(own, ref, proc) : NULL;
    if (b && (m->seq > b->seq || OWN_WITHOUT(own, sequence))) {
        own_unlist(own, b);
    }
}

static void
on_transit_done(struct own *own, struct own_proc *proc, const struct own_msg_transit_done *m)
{
    if (m->token == 0 || OWN_WITHOUT(own, transit_release)) {
        return;
    }
    LIST_FOR (pos, &proc->transits) {
        struct own_transit *t = LIST_ENTRY(pos, struct own_transit, link);
        if (t->token == m->token) {
            own_transit_drop(own, proc, t);
            return;
        }
    }
}

static int
on_get(struct own *own, struct own_proc *proc, const struct own_msg_get *m, struct step_outs *outs)
{
    struct own_ref *ref = find_owned(own, &m->object);
    if (!ref) {
        own->stats.late_gets++;
        if (OWN_WITHOUT(own, late_get)) {
            return ST_OK;
        }
        struct own_msg_value *v = own_emit(outs, OWN_MSG_VALUE, proc->number, sizeof(*v));
        if (!v) {
            return ST_OUT_OF_MEMORY;
        }
        v->object = m->object;
        v->state = OWN_GONE;
        v->status = ST_OBJECT_GONE;
        return ST_OK;
    }
    struct own_getter *g = slab_take(&own->getter_slab);
    if (!g) {
        return ST_OUT_OF_MEMORY;
    }
    *g = (struct own_getter){ .ref = ref, .proc = proc, .next = ref->getters, .at = &ref->getters };
    if (g->next) {
        g->next->at = &g->next;
    }
    ref->getters = g;
    list_init(&g->by_proc);
    list_push_back(&proc->getters, &g->by_proc);
    if (ref->state != OWN_PENDING || ref->flags & (REF_LOSE | REF_LOST)) {
        own_touch(own, ref);
    }
    return ST_OK;
}

static int
on_value(struct own *own, struct own_proc *proc, const struct own_msg_value *m, uint64_t payload,
         struct step_outs *outs)
{
    if (m->state == OWN_PENDING || m->state > OWN_GONE) {
        return ST_PROTOCOL;
    }
    struct own_ref *ref = find_borrowed(own, &m->object, proc);
    const uint8_t flags = ref ? ref->flags : 0;
    if (!(flags & REF_ASKED) || flags & REF_LOSE || ref->state != OWN_PENDING) {
        own_discard(outs, payload, m->state); /* nobody waits for it any more */
        return ST_OK;
    }
    ref->flags &= (uint8_t)~REF_ASKED;
    ref->state = m->state;
    ref->value = payload;
    ref->status = m->status;
    own_touch(own, ref);
    return ST_OK;
}

/* Makes the object of a TRANSFER, once its inner references are in the frame. */
static int
adopt(struct own *own, struct own_proc *proc, const struct own_msg_transfer *m, uint64_t payload,
      struct own_ref *const *inner, struct step_outs *outs)
{
    struct own_ref *ref =
        own_put(own, &m->object, (enum own_state)m->state, payload, false, inner, m->count);
    if (!ref) {
        return ST_OUT_OF_MEMORY;
    }
    int status = own_list_borrower(own, ref, proc, m->seq);
    if (status == ST_OK) {
        status = send_ack(outs, proc, &m->object, m->seq, ST_OK);
    }
    if (status != ST_OK) {
        ref->value = 0; /* the payload stays the caller's */
        struct own_borrower *b = own_listing(own, ref, proc);
        if (b) {
            own_unlist(own, b);
        }
    }
    ref->local = 0;
    own_touch(own, ref);
    return status;
}

static int
on_transfer(struct own *own, struct own_proc *proc, const struct own_msg_transfer *m,
            uint64_t payload, struct step_outs *outs)
{
    if (m->state == OWN_PENDING || m->state >= OWN_GONE || m->count > OWN_ITEMS_MAX ||
        (m->count > 0) != (m->token != 0) || own_find(own, &m->object)) {
        return ST_PROTOCOL;
    }
    if (m->count == 0) {
        return adopt(own, proc, m, payload, NULL, outs);
    }
    const size_t size = m->count * sizeof(struct own_ref *);
    struct own_ref **inner = mem_alloc(own->mem, size);
    if (!inner) {
        return ST_OUT_OF_MEMORY;
    }
    struct own_frame *frame = own_frame_open(own, proc->number, m->token);
    int status = frame ? ST_OK : ST_OUT_OF_MEMORY;
    for (uint32_t i = 0; status == ST_OK && i < m->count; i++) {
        inner[i] = own_frame_add(own, frame, &m->items[i]);
        status = inner[i] ? ST_OK : ST_OUT_OF_MEMORY;
    }
    if (status == ST_OK) {
        status = adopt(own, proc, m, payload, inner, outs);
    }
    if (frame && status == ST_OK) {
        own_frame_close_reply(own, frame, outs);
    } else if (frame) {
        own_frame_abandon(own, frame, outs);
    }
    mem_free(own->mem, inner, size);
    return status;
}

static int
on_message(struct own *own, struct own_proc *proc, const struct step_in *in, struct step_outs *outs)
{
    switch ((enum own_msg_kind)in->kind) {
    case OWN_MSG_REGISTER:
        return on_register(own, proc, in->msg, outs);
    case OWN_MSG_REGISTER_ACK:
        on_register_ack(own, proc, in->msg);
        return ST_OK;
    case OWN_MSG_RELEASE:
        on_release(own, proc, in->msg);
        return ST_OK;
    case OWN_MSG_TRANSIT_DONE:
        on_transit_done(own, proc, in->msg);
        return ST_OK;
    case OWN_MSG_GET:
        return on_get(own, proc, in->msg, outs);
    case OWN_MSG_VALUE:
        return on_value(own, proc, in->msg, in->payload, outs);
    case OWN_MSG_FREE: {
        struct own_ref *ref = find_owned(own, &((const struct own_msg_free *)in->msg)->object);
        if (ref) {
            own_lose(own, ref, ST_OBJECT_FREED);
        }
        return ST_OK;
    }
    case OWN_MSG_TRANSFER:
        return on_transfer(own, proc, in->msg, in->payload, outs);
    default:
        return ST_PROTOCOL;
    }
}

static void
discard_payload(const struct step_in *in, struct step_outs *outs)
{
    if (in->kind == OWN_MSG_VALUE) {
        own_discard(outs, in->payload, ((const struct own_msg_value *)in->msg)->state);
    } else if (in->kind == OWN_MSG_TRANSFER) {
        own_discard(outs, in->payload, ((const struct own_msg_transfer *)in->msg)->state);
    }
}

int
own_step(struct own *own, const struct step_in *in, struct step_outs *outs)
{
    ASSERT(own->magic == OWN_MAGIC);
    ASSERT(outs->capacity - outs->count >= OWN_OUTS_MIN);
    if (in->kind == STEP_CONTINUE) {
        return own_pump(own, outs);
    }
    if (in->kind == OWN_IN_TIMER) {
        own_expire(own, in->now_ns);
        return own_pump(own, outs);
    }
    if (in->peer == OWN_SELF || in->peer >= own->proc_count) {
        return ST_PROTOCOL;
    }
    if (in->kind == OWN_IN_DIED) {
        own_died(own, (uint32_t)in->peer, in->now_ns, outs);
        return ST_OK;
    }
    struct own_proc *proc = own_proc_find(own, (uint32_t)in->peer);
    if (!proc || (proc->dead && !OWN_WITHOUT(own, dead_frames))) {
        discard_payload(in, outs); /* its death was acted upon: too late */
        return ST_OK;
    }
    TRY(on_message(own, proc, in, outs));
    (void)own_pump(own, outs); /* a shortage shows in outs->more, the message itself is handled */
    return ST_OK;
}
