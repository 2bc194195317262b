/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Other processes: their numbers, what they hold of ours, and their deaths.
 *
 * A process is alive, then dead within its grace (listings and transit pins stay), then settled
 * (they are gone), and is forgotten once nothing refers to it: no borrowed entry names it as owner.
 */
#include <string.h>

#include "own/own_priv.h"

struct own_proc *
own_proc_find(const struct own *own, uint32_t number)
{
    return pages_get(&own->procs, number);
}

static struct own_proc *
by_worker(const struct own *own, const struct id_worker *worker, uint64_t hash)
{
    struct map_link *l;
    MAP_FOR_HASH (l, &own->procs_by_id, hash) {
        struct own_proc *proc = CONTAINER_OF(l, struct own_proc, link);
        if (ID_EQ(proc->addr.worker, *worker)) {
            return proc;
        }
    }
    return NULL;
}

int
own_proc_make(struct own *own, const struct own_addr *addr, struct own_proc **out)
{
    const uint64_t hash = id_hash(addr->worker.b, sizeof(addr->worker.b));
    *out = by_worker(own, &addr->worker, hash);
    if (*out) {
        return ST_OK;
    }
    struct own_proc *proc =
        own->proc_count < UINT32_MAX ? mem_alloc(own->mem, sizeof(*proc)) : NULL;
    if (!proc) {
        return ST_OUT_OF_MEMORY;
    }
    memset(proc, 0, sizeof(*proc));
    if (pages_set(&own->procs, own->proc_count, proc) != ST_OK) {
        mem_free(own->mem, proc, sizeof(*proc));
        return ST_OUT_OF_MEMORY;
    }
    if (map_insert(&own->procs_by_id, &proc->link, hash)) {
        pages_clear(&own->procs, own->proc_count);
        mem_free(own->mem, proc, sizeof(*proc));
        return ST_OUT_OF_MEMORY;
    }
    proc->addr = *addr;
    proc->number = own->proc_count++;
    list_init(&proc->order);
    list_init(&proc->borrowed);
    list_init(&proc->listings);
    list_init(&proc->getters);
    list_init(&proc->transits);
    list_init(&proc->frames);
    *out = proc;
    return ST_OK;
}

int
own_proc(struct own *own, const struct own_addr *addr, uint32_t *out)
{
    *out = OWN_SELF;
    if (ID_EQ(addr->worker, own->self.worker)) {
        return ST_OK;
    }
    struct own_proc *proc;
    TRY(own_proc_make(own, addr, &proc));
    *out = proc->number;
    return ST_OK;
}

const struct own_addr *
own_proc_addr(const struct own *own, uint32_t number)
{
    if (number == OWN_SELF) {
        return &own->self;
    }
    const struct own_proc *proc = own_proc_find(own, number);
    ASSERT(proc);
    return &proc->addr;
}

bool
own_proc_is_dead(const struct own *own, uint32_t number)
{
    const struct own_proc *proc = own_proc_find(own, number);
    return number != OWN_SELF && (!proc || proc->dead);
}

bool
own_proc_is_idle(const struct own_proc *proc)
{
    return list_is_empty(&proc->borrowed) && list_is_empty(&proc->listings) &&
           list_is_empty(&proc->getters) && list_is_empty(&proc->transits) &&
           list_is_empty(&proc->frames);
}

void
own_proc_review(struct own *own, struct own_proc *proc)
{
    if (proc->settled && list_is_empty(&proc->order) && own_proc_is_idle(proc)) {
        list_push_back(&own->leaving, &proc->order);
    }
}

void
own_proc_forget(struct own *own, struct own_proc *proc)
{
    list_remove(&proc->order);
    map_remove(&own->procs_by_id, &proc->link);
    pages_clear(&own->procs, proc->number);
    mem_free(own->mem, proc, sizeof(*proc));
}

/* --- listings
 * -------------------------------------------------------------------------------------- */

static uint64_t
listing_hash(const struct own_ref *ref, const struct own_proc *proc)
{
    return ref->link.hash ^ id_mix64(proc->number);
}

struct own_borrower *
own_listing(const struct own *own, const struct own_ref *ref, const struct own_proc *proc)
{
    struct map_link *l;
    MAP_FOR_HASH (l, &own->listings, listing_hash(ref, proc)) {
        struct own_borrower *b = CONTAINER_OF(l, struct own_borrower, link);
        if (b->ref == ref && b->proc == proc) {
            return b;
        }
    }
    return NULL;
}

int
own_list_borrower(struct own *own, struct own_ref *ref, struct own_proc *proc, uint64_t seq)
{
    struct own_borrower *b = own_listing(own, ref, proc);
    if (b) {
        b->seq = seq > b->seq ? seq : b->seq;
        return ST_OK;
    }
    b = slab_take(&own->borrower_slab);
    if (!b) {
        return ST_OUT_OF_MEMORY;
    }
    *b = (struct own_borrower){ .ref = ref, .proc = proc, .seq = seq };
    if (map_insert(&own->listings, &b->link, listing_hash(ref, proc))) {
        slab_give(&own->borrower_slab, b);
        return ST_OUT_OF_MEMORY;
    }
    own->stats.lent += ref->borrowers ? 0 : 1;
    b->next = ref->borrowers;
    b->at = &ref->borrowers;
    if (b->next) {
        b->next->at = &b->next;
    }
    ref->borrowers = b;
    list_push_back(&proc->listings, &b->by_proc);
    return ST_OK;
}

void
own_unlist(struct own *own, struct own_borrower *b)
{
    *b->at = b->next;
    if (b->next) {
        b->next->at = b->at;
    }
    list_remove(&b->by_proc);
    map_remove(&own->listings, &b->link);
    if (!b->ref->borrowers) {
        own->stats.lent--;
        own_touch(own, b->ref);
    }
    slab_give(&own->borrower_slab, b);
}

void
own_getter_remove(struct own *own, struct own_getter *g)
{
    *g->at = g->next;
    if (g->next) {
        g->next->at = g->at;
    }
    list_remove(&g->by_proc);
    own_proc_review(own, g->proc);
    slab_give(&own->getter_slab, g);
}

/* --- deaths
 * ---------------------------------------------------------------------------------------- */

static void
lose_owner(struct own *own, struct own_proc *proc)
{
    LIST_FOR (pos, &proc->borrowed) {
        struct own_ref *ref = LIST_ENTRY(pos, struct own_ref, by_owner);
        ref->reg = OWN_REG_GONE;
        ref->flags &= (uint8_t) ~(REF_WANT | REF_ASKED);
        own_lose(own, ref, ST_OWNER_DIED);
        own_uncover(own, ref);
        own_touch(own, ref);
    }
}

/* Nobody covers what came from it any more, once its own entries have gone. */
static void
orphan_frames(struct own *own, struct own_proc *proc)
{
    LIST_FOR_SAFE (pos, next, &proc->frames) {
        struct own_frame *frame = LIST_ENTRY(pos, struct own_frame, link);
        frame->orphan = true;
        for (struct own_cover *c = frame->covers; c; c = c->next) {
            if (!OWN_WITHOUT(own, orphan_register)) {
                own_enlist(own, c->ref);
            }
        }
    }
}

void
own_died(struct own *own, uint32_t number, uint64_t now_ns, struct step_outs *outs)
{
    struct own_proc *proc = own_proc_find(own, number);
    if (proc && !proc->dead) {
        proc->dead = true;
        proc->deadline_ns = now_ns + own->grace_ns;
        list_push_back(&own->grace, &proc->order);
        if (!OWN_WITHOUT(own, owner_death)) {
            lose_owner(own, proc);
        }
        orphan_frames(own, proc);
        LIST_FOR_SAFE (pos, next, &proc->getters) {
            if (!OWN_WITHOUT(own, drop_getters)) {
                own_getter_remove(own, LIST_ENTRY(pos, struct own_getter, by_proc));
            }
        }
        LIST_FOR_SAFE (pos, next, &proc->listings) {
            if (OWN_WITHOUT(own, grace_listing)) {
                own_unlist(own, LIST_ENTRY(pos, struct own_borrower, by_proc));
            }
        }
        LIST_FOR_SAFE (pos, next, &proc->transits) {
            if (OWN_WITHOUT(own, grace_transit)) {
                own_transit_drop(own, proc, LIST_ENTRY(pos, struct own_transit, link));
            }
        }
    }
    (void)own_pump(own, outs);
}

void
own_expire(struct own *own, uint64_t now_ns)
{
    own->timer_ns = 0;
    for (struct list *l; (l = list_first(&own->grace));) {
        struct own_proc *proc = LIST_ENTRY(l, struct own_proc, order);
        if (proc->deadline_ns > now_ns) {
            break;
        }
        list_remove(&proc->order);
        proc->settled = true;
        LIST_FOR_SAFE (pos, next, &proc->listings) {
            own_unlist(own, LIST_ENTRY(pos, struct own_borrower, by_proc));
        }
        LIST_FOR_SAFE (pos, next, &proc->transits) {
            own_transit_drop(own, proc, LIST_ENTRY(pos, struct own_transit, link));
        }
        own_proc_review(own, proc);
    }
}
