/* SPDX-License-Identifier: Apache-2.0 */
/* World `own`: the naive model's view, compared with what the machines hold. */
#include "sim_own.h"

#include <string.h>

void
excuse_inner(struct sim_own *w, uint32_t object)
{
    const struct sim_object *o = &w->objects[object];
    for (uint32_t i = 0; i < o->inner_count; i++) {
        if (!w->objects[o->inner[i]].excused) {
            w->objects[o->inner[i]].excused = true;
            excuse_inner(w, o->inner[i]); /* inner objects are older: the depth is bounded */
        }
    }
}

/* I1: what the program holds is there, at its owner too, while that lives. */
void
check_holders(struct sim *sim, void *world)
{
    struct sim_own *w = world;
    for (uint32_t i = 1; i <= w->node_count; i++) {
        const struct sim_node *n = w->nodes[i];
        if (n) {
            check_lineages(w, n, false);
        }
        for (uint32_t k = 0; n && k < n->handle_count; k++) {
            const struct sim_handle *h = &n->handles[k];
            const struct sim_object *o = &w->objects[h->object];
            const struct sim_node *owner = w->nodes[o->owner];
            if (o->excused || !owner) {
                continue;
            }
            const struct own_ref *ref = owner == n ? h->ref : own_find(&owner->own, &h->ref->id);
            SIM_CHECK(sim, ref && ref->kind == OWN_OWNED,
                      "I1: P%u holds o%u, which its owner P%u has freed", i, h->object, o->owner);
            SIM_CHECK(sim, owner == n || h->ref->reg != OWN_REG_GONE,
                      "I1: P%u was told that o%u is gone, but P%u lives", i, h->object, o->owner);
        }
    }
}

/* --- when all is quiet ---------------------------------------------------------------------------
 */

struct reach {
    struct sim_own *w;
    uint32_t needs[OBJECTS_MAX]; /* bits: processes that refer to it directly */
    bool reached[OBJECTS_MAX];
    uint32_t stack[OBJECTS_MAX];
    uint32_t depth;
};

static void
reach_object(struct reach *r, uint32_t by, uint32_t object)
{
    r->needs[object] |= UINT32_C(1) << by;
    if (!r->reached[object] && r->w->nodes[r->w->objects[object].owner]) {
        r->reached[object] = true;
        r->stack[r->depth++] = object;
    }
}

/* Whether the value, and so what is inside, is still there. */
static bool
has_inside(const struct sim_own *w, const struct sim_object *o, uint32_t object)
{
    if (!o->has_value) {
        return false;
    }
    if (!o->freed && !o->excused) {
        return true;
    }
    const struct id_object id = object_id(object);
    const struct own_ref *ref = own_find(&w->nodes[o->owner]->own, &id);
    return ref && has_bytes(ref->state);
}

static void
reach_all(struct reach *r)
{
    struct sim_own *w = r->w;
    for (uint32_t i = 1; i <= w->node_count; i++) {
        for (uint32_t k = 0; w->nodes[i] && k < w->nodes[i]->handle_count; k++) {
            reach_object(r, i, w->nodes[i]->handles[k].object);
        }
    }
    for (uint32_t i = 1; i <= w->node_count; i++) {
        const struct sim_node *n = w->nodes[i];
        for (uint32_t k = 0; n && k < n->lineage_count; k++) {
            for (uint32_t m = 0; m < n->lineages[k].call.arg_count; m++) {
                reach_object(r, i, object_of(&n->lineages[k].arg_ids[m]));
            }
        }
    }
    while (r->depth > 0) {
        const uint32_t object = r->stack[--r->depth];
        const struct sim_object *o = &w->objects[object];
        for (uint32_t i = 0; has_inside(w, o, object) && i < o->inner_count; i++) {
            reach_object(r, o->owner, o->inner[i]);
        }
    }
}

/* Both ends agree on who is listed. */
static void
check_listing(const struct sim_own *w, const struct sim_node *n, const struct own_ref *ref)
{
    uint32_t holders[NODES_MAX];
    const uint32_t count = own_holders(ref, holders, NODES_MAX);
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t proc = node_proc(n, holders[i]);
        const struct own_ref *there =
            w->nodes[proc] ? own_find(&w->nodes[proc]->own, &ref->id) : NULL;
        SIM_CHECK(w->sim, there && there->reg == OWN_REG_LISTED,
                  "I3: P%u lists P%u for o%u, which doesn't hold it", n->number, proc,
                  object_of(&ref->id));
    }
}

static void
check_entry(const struct reach *r, const struct sim_node *n, const struct own_ref *ref)
{
    const struct sim_own *w = r->w;
    const uint32_t object = object_of(&ref->id);
    const struct sim_object *o = &w->objects[object];
    if (ref->kind == OWN_OWNED) {
        const bool held =
            ref->local || ref->submitted || ref->contained_in || ref->pins || ref->borrowers;
        SIM_CHECK(w->sim, r->reached[object] || o->excused,
                  "I3: P%u keeps o%u, to which nothing refers", n->number, object);
        SIM_CHECK(w->sim, held || ref->state != OWN_STORE,
                  "I6: P%u keeps the value of o%u, which only a lineage needs", n->number, object);
        check_listing(w, n, ref);
        return;
    }
    SIM_CHECK(w->sim, r->needs[object] >> n->number & 1,
              "I3: P%u borrows o%u, to which it has no reference", n->number, object);
    const bool gone = ref->reg == OWN_REG_GONE && (o->excused || !w->nodes[o->owner]);
    SIM_CHECK(w->sim, ref->reg == OWN_REG_LISTED || gone,
              "I3: P%u borrows o%u in registration state %u", n->number, object, ref->reg);
    SIM_CHECK(w->sim, w->nodes[o->owner] || ref->state == OWN_GONE,
              "I4: P%u wasn't told that o%u's owner is dead", n->number, object);
}

static void
check_node(struct reach *r, const struct sim_node *n)
{
    struct sim_own *w = r->w;
    check_lineages(w, n, true);
    SIM_CHECK(w->sim, n->want_count == 0, "I4: P%u still waits for o%u", n->number,
              n->wants[0].object);
    SIM_CHECK(w->sim, n->call_count == 0, "I4: P%u still waits for t%u", n->number,
              n->calls[0].task);
    SIM_CHECK(w->sim, n->own.stats.transits == 0, "I3: P%u keeps %llu transit pins", n->number,
              (unsigned long long)n->own.stats.transits);
    SIM_CHECK(w->sim, n->own.stats.frames == 0, "I3: P%u keeps %llu frames", n->number,
              (unsigned long long)n->own.stats.frames);
    SIM_CHECK(w->sim, n->own.getter_slab.live == 0, "I3: P%u keeps GETs", n->number);
    struct map_walk walk;
    map_walk_init(&walk);
    for (struct map_link *l; (l = map_walk_next(&n->own.refs, &walk));) {
        check_entry(r, n, CONTAINER_OF(l, struct own_ref, link));
    }
    for (uint32_t i = 0; i < w->object_count; i++) {
        const struct id_object id = object_id(i);
        SIM_CHECK(w->sim, !(r->needs[i] >> n->number & 1) || own_find(&n->own, &id),
                  "I3: P%u refers to o%u and doesn't know it", n->number, i);
    }
}

void
check_reachable(struct sim_own *w)
{
    struct reach *r = mem_alloc(sim_mem(w->sim), sizeof(*r));
    memset(r, 0, sizeof(*r));
    r->w = w;
    reach_all(r);
    for (uint32_t i = 1; i <= w->node_count; i++) {
        if (w->nodes[i]) {
            check_node(r, w->nodes[i]);
        }
    }
    mem_free(sim_mem(w->sim), r, sizeof(*r));
}

/* Numbers aren't used again: those of the dead name nothing, and take no page. */
static void
check_procs(struct sim *sim, const struct sim_node *n, uint32_t i)
{
    uint32_t count = 0, number = 0;
    for (; pages_next(&n->own.procs, &number); number++, count++) {
        SIM_CHECK(sim, !own_proc_is_dead(&n->own, number), "I3: P%u still remembers a dead process",
                  i);
    }
    SIM_CHECK(sim, count == n->own.procs_by_id.count, "I3: P%u knows %zu processes, %u by number",
              i, (size_t)n->own.procs_by_id.count, count);
    for (uint32_t page = 0; page < n->own.procs.count; page++) {
        SIM_CHECK(sim, !n->own.procs.page[page] || n->own.procs.page[page]->used > 0,
                  "I3: P%u keeps a page of the dead", i);
    }
}

/* Every handle was dropped: nothing may be left. */
void
check_empty(struct sim *sim, void *world)
{
    const struct sim_own *w = world;
    for (uint32_t i = 1; i <= w->node_count; i++) {
        const struct sim_node *n = w->nodes[i];
        if (!n) {
            continue;
        }
        SIM_CHECK(sim, n->own.stats.owned == 0 && n->own.refs.count == n->own.stats.borrowed,
                  "I3: P%u keeps %llu objects", i, (unsigned long long)n->own.stats.owned);
        SIM_CHECK(sim, n->own.stats.borrowed == 0, "I3: P%u keeps %llu borrowed references", i,
                  (unsigned long long)n->own.stats.borrowed);
        SIM_CHECK(sim, n->own.borrower_slab.live == 0 && !own_is_needed(&n->own),
                  "I3: P%u keeps listings or pins", i);
        SIM_CHECK(sim, n->own.cover_slab.live == 0 && n->own.frame_slab.live == 0,
                  "I3: P%u keeps frames or covers", i);
        SIM_CHECK(sim, n->lineage_count == 0, "I5: P%u never gave back %u lineages", i,
                  n->lineage_count);
        SIM_CHECK(sim, n->value_count == 0, "I5: P%u never gave back %u values", i, n->value_count);
        check_procs(sim, n, i);
    }
}
