/* SPDX-License-Identifier: Apache-2.0 */
/* Entries: making, counting, settling and freeing them. See own.h and own_priv.h. */
#include "own/own.h"

#include <string.h>

#include "own/own_priv.h"

void
own_init(struct own *own, const struct mem *mem, const struct own_addr *self,
         const struct own_config *config)
{
    *own = (struct own){ .magic = OWN_MAGIC, .mem = mem, .self = *self };
    own->grace_ns = config && config->grace_ns ? config->grace_ns : UINT64_C(1000000000);
    map_init(&own->refs, mem);
    map_init(&own->listings, mem);
    map_init(&own->procs_by_id, mem);
    pages_init(&own->procs, mem);
    slab_init(&own->ref_slab, mem, sizeof(struct own_ref));
    slab_init(&own->cover_slab, mem, sizeof(struct own_cover));
    slab_init(&own->borrower_slab, mem, sizeof(struct own_borrower));
    slab_init(&own->getter_slab, mem, sizeof(struct own_getter));
    slab_init(&own->frame_slab, mem, sizeof(struct own_frame));
    list_init(&own->grace);
    list_init(&own->leaving);
    list_init(&own->finished);
    own->proc_count = 1; /* number 0 is this process */
}

static size_t
contained_size(uint32_t count)
{
    return sizeof(struct own_contained) + count * sizeof(struct own_ref *);
}

static void
free_contained(struct own *own, struct own_ref *ref)
{
    if (ref->contained) {
        mem_free(own->mem, ref->contained, contained_size(ref->contained->count));
        ref->contained = NULL;
    }
}

void
own_fini(struct own *own)
{
    ASSERT(own->magic == OWN_MAGIC);
    struct map_walk walk;
    map_walk_init(&walk);
    for (struct map_link *l; (l = map_walk_next(&own->refs, &walk));) {
        free_contained(own, CONTAINER_OF(l, struct own_ref, link));
    }
    uint32_t number = 0;
    for (struct own_proc *proc; (proc = pages_next(&own->procs, &number)); number++) {
        LIST_FOR_SAFE (pos, next, &proc->transits) {
            struct own_transit *t = LIST_ENTRY(pos, struct own_transit, link);
            mem_free(own->mem, t, sizeof(*t) + t->count * sizeof(struct own_ref *));
        }
        mem_free(own->mem, proc, sizeof(*proc));
    }
    pages_fini(&own->procs);
    map_fini(&own->refs);
    map_fini(&own->listings);
    map_fini(&own->procs_by_id);
    slab_fini(&own->ref_slab);
    slab_fini(&own->cover_slab);
    slab_fini(&own->borrower_slab);
    slab_fini(&own->getter_slab);
    slab_fini(&own->frame_slab);
    own->magic = 0;
}

/* --- entries -----------------------------------------------------------------------------------
 */

struct own_ref *
own_find(const struct own *own, const struct id_object *id)
{
    struct map_link *l;
    MAP_FOR_HASH (l, &own->refs, id_object_hash(id)) {
        struct own_ref *ref = CONTAINER_OF(l, struct own_ref, link);
        if (ID_EQ(ref->id, *id)) {
            return ref;
        }
    }
    return NULL;
}

struct own_ref *
own_ref_make(struct own *own, const struct id_object *id, enum own_kind kind,
             struct own_proc *owner)
{
    struct own_ref *ref = slab_take(&own->ref_slab);
    if (!ref) {
        return NULL;
    }
    memset(ref, 0, sizeof(*ref));
    ref->id = *id;
    ref->kind = (uint8_t)kind;
    if (map_insert(&own->refs, &ref->link, id_object_hash(id))) {
        slab_give(&own->ref_slab, ref);
        return NULL;
    }
    if (kind == OWN_OWNED) {
        own->stats.owned++;
        return ref;
    }
    own->stats.borrowed++;
    ref->owner = owner->number;
    list_push_back(&owner->borrowed, &ref->by_owner);
    if (owner->dead && !OWN_WITHOUT(own, owner_death)) {
        ref->reg = OWN_REG_GONE;
        ref->state = OWN_GONE;
        ref->status = ST_OWNER_DIED;
    }
    return ref;
}

struct own_ref *
own_ref_of_item(struct own *own, const struct own_item *item, bool *made)
{
    struct own_ref *ref = own_find(own, &item->object);
    if (made) {
        *made = !ref;
    }
    if (ref) {
        return ref;
    }
    if (ID_EQ(item->owner.worker, own->self.worker)) {
        ref = own_ref_make(own, &item->object, OWN_OWNED, NULL);
        if (ref) {
            ref->state = OWN_GONE; /* it was freed before this reference came back */
            ref->status = ST_OBJECT_GONE;
        }
        return ref;
    }
    struct own_proc *owner;
    if (own_proc_make(own, &item->owner, &owner)) {
        return NULL;
    }
    ref = own_ref_make(own, &item->object, OWN_BORROWED, owner);
    if (!ref) {
        own_proc_review(own, owner);
    }
    return ref;
}

static void
uncontain(struct own *own, struct own_ref *ref)
{
    struct own_contained *c = ref->contained;
    for (uint32_t i = 0; c && i < c->count && !OWN_WITHOUT(own, cascade); i++) {
        ASSERT(c->v[i]->contained_in > 0);
        if (--c->v[i]->contained_in == 0) {
            own_touch(own, c->v[i]);
        }
    }
    free_contained(own, ref);
}

int
own_contain(struct own *own, struct own_ref *ref, struct own_ref *const *inner, uint32_t count)
{
    struct own_contained *c = NULL;
    if (count > 0 && !OWN_WITHOUT(own, contained)) {
        c = mem_alloc(own->mem, contained_size(count));
        if (!c) {
            return ST_OUT_OF_MEMORY;
        }
        c->count = count;
    }
    for (uint32_t i = 0; c && i < count; i++) {
        c->v[i] = inner[i];
        inner[i]->contained_in++;
    }
    uncontain(own, ref); /* of a value that was made again */
    ref->contained = c;
    return ST_OK;
}

void
own_touch(struct own *own, struct own_ref *ref)
{
    if (ref->flags & REF_WORK) {
        return;
    }
    ref->flags |= REF_WORK;
    ref->work_next = NULL;
    if (own->work_last) {
        own->work_last->work_next = ref;
    } else {
        own->work_first = ref;
    }
    own->work_last = ref;
}

void
own_lose(struct own *own, struct own_ref *ref, int32_t status)
{
    if (ref->state != OWN_GONE && !(ref->flags & REF_LOSE)) {
        ref->status = status;
        ref->flags |= REF_LOSE;
        own_touch(own, ref);
    }
}

void
own_enlist(struct own *own, struct own_ref *ref)
{
    if (ref->kind == OWN_BORROWED && ref->reg == OWN_REG_NONE) {
        ref->reg = OWN_REG_QUEUED;
        own_touch(own, ref);
    }
}

void
own_uncover(struct own *own, struct own_ref *ref)
{
    ASSERT(ref->kind == OWN_BORROWED);
    struct own_cover *c = ref->covers;
    ref->covers = NULL;
    while (c) {
        struct own_cover *next = c->next;
        if (c->outer) {
            own_unpin(own, c->outer);
        }
        if (c->frame) {
            ASSERT(c->frame->pending > 0);
            c->frame->pending--;
            own_frame_settle(own, c->frame);
        }
        slab_give(&own->cover_slab, c);
        c = next;
    }
}

/* --- outs ----------------------------------------------------------------------------------------
 */

void *
own_emit(struct step_outs *outs, uint16_t kind, uint32_t peer, size_t size)
{
    return outs->count < outs->capacity ? step_emit(outs, kind, peer, size) : NULL;
}

/* An out without a message of its own. False when there is no room. */
static bool
note(struct step_outs *outs, struct step_out out)
{
    if (outs->count >= outs->capacity) {
        return false;
    }
    outs->v[outs->count++] = out;
    return true;
}

void
own_discard(struct step_outs *outs, uint64_t value, uint8_t state)
{
    if (value) {
        const bool room = note(
            outs, (struct step_out){ .kind = OWN_OUT_DROP, .payload = value, .when_ns = state });
        ASSERT(room);
    }
}

/* Gives value and lineage back to the engine. */
static bool
drop_value(struct step_outs *outs, struct own_ref *ref, bool end)
{
    const bool pseudo = end && ref->flags & REF_PSEUDO;
    if (ref->value || ref->lineage || pseudo) {
        const uint64_t bits = ref->state | (ref->kind == OWN_OWNED ? OWN_DROP_OWNED : 0u) |
                              (pseudo ? OWN_DROP_PSEUDO : 0u);
        if (!note(outs, (struct step_out){ .kind = OWN_OUT_DROP,
                                           .peer = ref->lineage,
                                           .payload = ref->value,
                                           .when_ns = bits })) {
            return false;
        }
        ref->value = ref->lineage = 0;
    }
    return true;
}

/* The value goes, the entry and its lineage stay. */
static bool
lose_stored(struct own *own, struct step_outs *outs, struct own_ref *ref)
{
    ASSERT(ref->kind == OWN_OWNED && ref->state == OWN_STORE);
    if (!note(outs, (struct step_out){ .kind = OWN_OUT_DROP,
                                       .payload = ref->value,
                                       .when_ns = OWN_STORE | OWN_DROP_OWNED })) {
        return false;
    }
    ref->value = 0;
    uncontain(own, ref);
    if (ref->lineage && !OWN_WITHOUT(own, remake)) {
        ref->state = OWN_PENDING;
        ref->flags |= REF_LOST;
    } else {
        ref->state = OWN_GONE;
        ref->status = ref->status ? ref->status : ST_OBJECT_UNRECONSTRUCTABLE;
    }
    return true;
}

/* --- settling
 * ------------------------------------------------------------------------------------- */

static bool
tell_waiters(struct step_outs *outs, struct own_ref *ref)
{
    if (ref->waiters) {
        if (!note(outs, (struct step_out){
                            .kind = OWN_OUT_READY, .payload = ref->waiters, .msg = ref })) {
            return false;
        }
        ref->waiters = 0;
    }
    return true;
}

static bool
answer_getters(struct own *own, struct step_outs *outs, struct own_ref *ref)
{
    while (ref->getters) {
        struct own_getter *g = ref->getters;
        struct own_msg_value *m = own_emit(outs, OWN_MSG_VALUE, g->proc->number, sizeof(*m));
        if (!m) {
            return false;
        }
        outs->v[outs->count - 1].payload = ref->value;
        m->object = ref->id;
        m->state = ref->state;
        m->status = ref->status;
        own_getter_remove(own, g);
    }
    return true;
}

static bool
lose_value(struct own *own, struct step_outs *outs, struct own_ref *ref)
{
    if (ref->flags & REF_LOSE) {
        if (!drop_value(outs, ref, false)) {
            return false;
        }
        ref->flags &= (uint8_t) ~(REF_LOSE | REF_LOST | REF_WANT);
        ref->state = OWN_GONE;
        if (ref->kind == OWN_OWNED) {
            uncontain(own, ref);
        }
    }
    return true;
}

static void
free_ref(struct own *own, struct own_ref *ref)
{
    ASSERT(!(ref->flags & REF_WORK));
    map_remove(&own->refs, &ref->link);
    if (ref->kind == OWN_OWNED) {
        own->stats.owned--;
        uncontain(own, ref);
    } else {
        own->stats.borrowed--;
        list_remove(&ref->by_owner);
        own_proc_review(own, own_proc_find(own, ref->owner));
    }
    slab_give(&own->ref_slab, ref);
}

/* Somebody wants a value that was lost. */
static bool
remake(struct step_outs *outs, struct own_ref *ref)
{
    if (!(ref->waiters || ref->getters || ref->flags & REF_WANT)) {
        return true;
    }
    if (!note(outs,
              (struct step_out){ .kind = OWN_OUT_REMAKE, .payload = ref->lineage, .msg = ref })) {
        return false;
    }
    ref->flags &= (uint8_t) ~(REF_LOST | REF_WANT);
    ref->pins++; /* of the running task */
    return true;
}

static bool
settle_owned(struct own *own, struct step_outs *outs, struct own_ref *ref)
{
    bool end = !own_is_held(ref);
    ASSERT(!end || !ref->waiters);
    if (end && ref->remakes > 0 && !OWN_WITHOUT(own, lineage_hold)) {
        if (ref->state == OWN_STORE &&
            !(answer_getters(own, outs, ref) && lose_stored(own, outs, ref))) {
            return false;
        }
        end = false;
    }
    if (end && ref->state == OWN_PENDING) {
        ref->state = OWN_GONE;
        ref->status = ST_OBJECT_GONE;
    }
    if (ref->flags & REF_LOST && ref->state == OWN_PENDING) {
        return remake(outs, ref);
    }
    if (ref->state != OWN_PENDING && !(tell_waiters(outs, ref) && answer_getters(own, outs, ref))) {
        return false;
    }
    if (end) {
        if (!drop_value(outs, ref, true)) {
            return false;
        }
        free_ref(own, ref);
    }
    return true;
}

static bool
send_register(struct own *own, struct step_outs *outs, struct own_ref *ref)
{
    struct own_msg_register *m = own_emit(outs, OWN_MSG_REGISTER, ref->owner, sizeof(*m));
    if (!m) {
        return false;
    }
    m->object = ref->id;
    m->seq = ref->seq = ++own->seq;
    ref->reg = OWN_REG_SENT;
    own->stats.registers++;
    return true;
}

/* No count is left: forget it, release it first, or wait for the answer to its registration. */
static bool
end_borrow(struct own *own, struct step_outs *outs, struct own_ref *ref)
{
    if (ref->reg == OWN_REG_QUEUED) {
        ref->reg = OWN_REG_NONE;
    }
    if (ref->reg == OWN_REG_SENT && !OWN_WITHOUT(own, release_after_ack)) {
        return true;
    }
    if (ref->reg == OWN_REG_LISTED || ref->reg == OWN_REG_SENT) {
        struct own_msg_release *m = own_emit(outs, OWN_MSG_RELEASE, ref->owner, sizeof(*m));
        if (!m) {
            return false;
        }
        m->object = ref->id;
        m->seq = ++own->seq;
        ref->reg = OWN_REG_NONE;
        own->stats.releases++;
    }
    if (!drop_value(outs, ref, true)) {
        return false;
    }
    own_uncover(own, ref);
    free_ref(own, ref);
    return true;
}

static bool
settle_borrowed(struct own *own, struct step_outs *outs, struct own_ref *ref)
{
    const bool transferred = ref->flags & REF_TRANSFER && ref->reg >= OWN_REG_LISTED;
    if (transferred) {
        ref->flags &= (uint8_t)~REF_TRANSFER;
    }
    if ((transferred || ref->state != OWN_PENDING) && !tell_waiters(outs, ref)) {
        ref->flags |= transferred ? REF_TRANSFER : 0;
        return false;
    }
    if (!own_is_held(ref)) {
        ASSERT(!ref->waiters);
        return end_borrow(own, outs, ref);
    }
    if (ref->reg == OWN_REG_QUEUED && !send_register(own, outs, ref)) {
        return false;
    }
    if (ref->flags & REF_WANT && ref->state == OWN_PENDING) {
        struct own_msg_get *m = own_emit(outs, OWN_MSG_GET, ref->owner, sizeof(*m));
        if (!m) {
            return false;
        }
        m->object = ref->id;
        ref->flags |= REF_ASKED;
    }
    ref->flags &= (uint8_t)~REF_WANT;
    return true;
}

static bool
settle_refs(struct own *own, struct step_outs *outs)
{
    while (own->work_first) {
        struct own_ref *ref = own->work_first;
        own->work_first = ref->work_next;
        if (!own->work_first) {
            own->work_last = NULL;
        }
        ref->flags &= (uint8_t)~REF_WORK;
        const bool done = lose_value(own, outs, ref) &&
                          (ref->kind == OWN_OWNED ? settle_owned(own, outs, ref)
                                                  : settle_borrowed(own, outs, ref));
        if (!done) {
            ref->flags |= REF_WORK;
            ref->work_next = own->work_first;
            own->work_first = ref;
            own->work_last = own->work_last ? own->work_last : ref;
            return false;
        }
    }
    return true;
}

static bool
finish_frames(struct own *own, struct step_outs *outs)
{
    for (struct list *l; (l = list_first(&own->finished));) {
        struct own_frame *frame = LIST_ENTRY(l, struct own_frame, ready);
        if (!frame->proc->dead) {
            struct own_msg_transit_done *m =
                own_emit(outs, OWN_MSG_TRANSIT_DONE, frame->proc->number, sizeof(*m));
            if (!m) {
                return false;
            }
            m->token = frame->token;
        }
        own_frame_free(own, frame);
    }
    return true;
}

static bool
forget_procs(struct own *own, struct step_outs *outs)
{
    for (struct list *l; (l = list_first(&own->leaving));) {
        struct own_proc *proc = LIST_ENTRY(l, struct own_proc, order);
        if (!own_proc_is_idle(proc)) {
            list_remove(&proc->order); /* something refers to it again; reviewed when that goes */
            continue;
        }
        if (!note(outs, (struct step_out){ .kind = OWN_OUT_PROC_GONE, .peer = proc->number })) {
            return false;
        }
        own_proc_forget(own, proc);
    }
    return true;
}

static bool
arm_timer(struct own *own, struct step_outs *outs)
{
    struct list *l = list_first(&own->grace);
    const uint64_t due = l ? CONTAINER_OF(l, struct own_proc, order)->deadline_ns : 0;
    if (due != 0 && due != own->timer_ns) {
        if (!note(outs, (struct step_out){ .kind = OWN_OUT_TIMER, .when_ns = due })) {
            return false;
        }
        own->timer_ns = due;
    }
    return true;
}

int
own_pump(struct own *own, struct step_outs *outs)
{
    /* TRANSIT_DONE comes after the REGISTERs that it stands for. */
    outs->more = !(settle_refs(own, outs) && finish_frames(own, outs) && forget_procs(own, outs) &&
                   arm_timer(own, outs));
    return outs->more && outs->count < outs->capacity ? ST_OUT_OF_MEMORY : ST_OK;
}

/* --- what the program does
 * ------------------------------------------------------------------------ */

void
own_local_drop(struct own *own, struct own_ref *ref, struct step_outs *outs)
{
    ASSERT(own_local(ref) > 0);
    if (__atomic_sub_fetch(&ref->local, 1, __ATOMIC_ACQ_REL) == 0 && !own_is_held(ref)) {
        own_touch(own, ref);
        (void)own_pump(own, outs);
    }
}

void
own_capture_drop(struct own *own, struct own_ref *ref, struct step_outs *outs)
{
    own_unpin(own, ref);
    (void)own_pump(own, outs);
}

void
own_item_of(const struct own *own, const struct own_ref *ref, struct own_item *out)
{
    out->object = ref->id;
    out->owner = *own_proc_addr(own, ref->owner);
}

struct own_ref *
own_put(struct own *own, const struct id_object *id, enum own_state state, uint64_t value,
        bool pseudo, struct own_ref *const *inner, uint32_t count)
{
    ASSERT(state == OWN_INLINE || state == OWN_STORE || state == OWN_ERROR);
    struct own_ref *ref = own_ref_make(own, id, OWN_OWNED, NULL);
    if (!ref) {
        return NULL;
    }
    if (own_contain(own, ref, inner, count)) {
        free_ref(own, ref);
        return NULL;
    }
    ref->state = (uint8_t)state;
    ref->value = value;
    ref->flags = pseudo ? REF_PSEUDO : 0;
    ref->local = 1;
    return ref;
}

void
own_lineage_drop(struct own *own, struct own_ref *const *args, uint32_t count,
                 struct step_outs *outs)
{
    for (uint32_t i = 0; i < count; i++) {
        ASSERT(args[i]->remakes > 0);
        if (--args[i]->remakes == 0 && !own_is_held(args[i])) {
            own_touch(own, args[i]);
        }
    }
    (void)own_pump(own, outs);
}

void
own_forget_lineage(struct own *own, struct own_ref *ref, int32_t status, struct step_outs *outs)
{
    ref->lineage = 0;
    if (ref->state == OWN_STORE) {
        ref->status = status;
    } else if (ref->flags & REF_LOST) {
        own_lose(own, ref, status);
    }
    (void)own_pump(own, outs);
}

void
own_value_lost(struct own *own, struct own_ref *ref, struct step_outs *outs)
{
    if (ref->kind == OWN_OWNED && ref->state == OWN_STORE && !(ref->flags & REF_LOSE)) {
        if (lose_stored(own, outs, ref)) {
            own_touch(own, ref);
        }
        (void)own_pump(own, outs);
    }
}

void
own_want(struct own *own, struct own_ref *ref, struct step_outs *outs)
{
    const bool wanted = ref->kind == OWN_BORROWED || ref->flags & REF_LOST;
    if (wanted && ref->state == OWN_PENDING && !(ref->flags & (REF_WANT | REF_ASKED | REF_LOSE))) {
        ref->flags |= REF_WANT;
        own_touch(own, ref);
        (void)own_pump(own, outs);
    }
}

void
own_forget_value(struct own_ref *ref)
{
    ASSERT(ref->kind == OWN_BORROWED);
    if (ref->state != OWN_GONE) {
        ref->state = OWN_PENDING;
        ref->value = 0;
        ref->flags &= (uint8_t) ~(REF_WANT | REF_ASKED);
    }
}

int
own_free(struct own *own, struct own_ref *ref, struct step_outs *outs)
{
    if (ref->kind == OWN_BORROWED && ref->reg != OWN_REG_GONE) {
        struct own_msg_free *m = own_emit(outs, OWN_MSG_FREE, ref->owner, sizeof(*m));
        if (!m) {
            return ST_OUT_OF_MEMORY;
        }
        m->object = ref->id;
    }
    own_lose(own, ref, ST_OBJECT_FREED);
    return own_pump(own, outs);
}

void
own_lost(struct own *own, struct own_ref *ref, int32_t status, struct step_outs *outs)
{
    own_lose(own, ref, status);
    (void)own_pump(own, outs);
}

bool
own_is_needed(const struct own *own)
{
    return own->stats.lent > 0 || own->stats.transits > 0;
}

void
own_walk(const struct own *own, void (*fn)(void *ctx, const struct own_ref *ref), void *ctx)
{
    struct map_walk walk;
    map_walk_init(&walk);
    for (struct map_link *l; (l = map_walk_next(&own->refs, &walk));) {
        fn(ctx, CONTAINER_OF(l, struct own_ref, link));
    }
}

uint32_t
own_holders(const struct own_ref *ref, uint32_t *procs, uint32_t max)
{
    uint32_t count = 0;
    if (ref->kind == OWN_OWNED) {
        for (const struct own_borrower *b = ref->borrowers; b; b = b->next, count++) {
            if (count < max) {
                procs[count] = b->proc->number;
            }
        }
    }
    return count;
}
