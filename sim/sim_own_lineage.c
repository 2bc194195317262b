/* SPDX-License-Identifier: Apache-2.0 */
/*
 * World `own`: values in the store, which may be lost at any time, and tasks that are kept to make
 * them again. Beside the program's handles, the model knows which tasks are kept and how often each
 * has run again.
 */
#include "sim_own.h"

enum { RUNS_AGAIN_MAX = 3 };

static struct sim_lineage *
find(struct sim_own *w, struct sim_node *n, uint64_t id)
{
    for (uint32_t i = 0; i < n->lineage_count; i++) {
        if (n->lineages[i].id == id) {
            return &n->lineages[i];
        }
    }
    sim_fail(w->sim, "I5: P%u: lineage %llu is not there", n->number, (unsigned long long)id);
}

/* ---- keeping ---- */

void
lineage_begin(struct sim_own *w, struct sim_node *n, struct sim_call *c)
{
    bool may = n->lineage_count < LINEAGES_MAX && c->return_count > 0 && !c->cancelled &&
               sim_chance(w->sim, 800);
    for (uint32_t i = 0; i < c->arg_count; i++) {
        may = may && c->args[i]->kind == OWN_OWNED;
    }
    if (c->lineage != 0 || !may) {
        return;
    }
    struct sim_lineage *l = &n->lineages[n->lineage_count++];
    *l = (struct sim_lineage){ .id = ++w->lineage, .call = *c, .running = true };
    l->call.lineage = c->lineage = l->id;
    for (uint32_t i = 0; i < c->arg_count; i++) {
        l->arg_ids[i] = c->args[i]->id;
    }
    own_lineage_hold(c->args, c->arg_count);
    SIM_TRACE(w->sim, "P%u keeps t%u as lineage %llu", n->number, c->task,
              (unsigned long long)l->id);
}

void
lineage_attach(struct sim_own *w, struct sim_node *n, const struct sim_call *c, struct own_ref *ref)
{
    if (c->lineage != 0 && ref->lineage == 0) {
        find(w, n, c->lineage)->entries++;
        own_set_lineage(ref, c->lineage);
    }
}

void
lineage_answered(struct sim_own *w, struct sim_node *n, const struct sim_call *c)
{
    if (c->lineage != 0) {
        find(w, n, c->lineage)->running = false;
    }
}

void
lineage_release(struct sim_own *w, struct sim_node *n, uint64_t id)
{
    struct sim_lineage *l = find(w, n, id);
    SIM_CHECK(w->sim, l->entries > 0, "I5: P%u: lineage %llu came back too often", n->number,
              (unsigned long long)id);
    l->entries--;
}

/* ---- making again ---- */

void
lineage_wanted(struct sim_own *w, struct sim_node *n, uint64_t id, struct own_ref *ref)
{
    struct sim_lineage *l = find(w, n, id);
    const uint32_t object = object_of(&ref->id);
    if (!l->running) {
        l->running = l->due = true;
        for (uint32_t i = 0; i < l->call.return_count; i++) {
            l->call.returns[i] = NULL;
        }
    }
    for (uint32_t i = 0; i < l->call.return_count; i++) {
        if (l->call.return_objects[i] == object) {
            l->call.returns[i] = ref;
        }
    }
    for (uint32_t i = 0; i < n->call_count; i++) { /* an attempt under way brings it too */
        for (uint32_t k = 0; n->calls[i].lineage == id && k < l->call.return_count; k++) {
            n->calls[i].returns[k] = l->call.returns[k];
        }
    }
}

static void
fail_again(struct sim_own *w, struct sim_node *n, struct sim_lineage *l)
{
    const struct sim_call c = l->call;
    l->running = false;
    for (uint32_t i = 0; i < c.return_count; i++) {
        if (c.returns[i]) {
            SIM_CHECK(w->sim,
                      own_return_done(&n->own, c.returns[i], OWN_GONE, 0, ST_OBJECT_MAX_ATTEMPTS,
                                      NULL, 0, node_outs(w, n)) == ST_OK,
                      "own_return_done failed");
            node_flush(w, n);
        }
    }
}

static void
run_again(struct sim_own *w, struct sim_node *n, struct sim_lineage *l)
{
    l->due = false;
    if (l->again == RUNS_AGAIN_MAX || !call_again(w, n, &l->call)) {
        fail_again(w, n, l);
        return;
    }
    l->again++;
    const struct sim_call c = l->call;
    for (uint32_t i = 0; i < c.arg_count; i++) {
        if (own_is_lost(c.args[i])) {
            own_want(&n->own, c.args[i], node_outs(w, n));
            node_flush(w, n);
        }
    }
}

/* Nothing names it any more. */
static void
end(struct sim_own *w, struct sim_node *n, struct sim_lineage *l)
{
    const struct sim_call c = l->call;
    SIM_TRACE(w->sim, "P%u forgets lineage %llu of t%u", n->number, (unsigned long long)l->id,
              c.task);
    *l = n->lineages[--n->lineage_count];
    own_lineage_drop(&n->own, c.args, c.arg_count, node_outs(w, n));
    node_flush(w, n);
}

void
lineage_work(struct sim_own *w, struct sim_node *n)
{
    if (n->lineages_busy) {
        return;
    }
    n->lineages_busy = true;
    for (uint32_t i = 0; i < n->lineage_count; i++) {
        struct sim_lineage *l = &n->lineages[i];
        if (l->due && n->call_count < CALLS_MAX) {
            run_again(w, n, l);
            i = UINT32_MAX; /* what that has changed may lie before */
        } else if (!l->running && l->entries == 0) {
            end(w, n, l);
            i = UINT32_MAX;
        }
    }
    n->lineages_busy = false;
}

/* ---- losing ---- */

void
act_lose(struct sim_own *w, struct sim_node *n)
{
    if (n->handle_count == 0) {
        return;
    }
    struct own_ref *ref = n->handles[sim_below(w->sim, n->handle_count)].ref;
    if (ref->kind != OWN_OWNED || ref->state != OWN_STORE) {
        return;
    }
    const uint32_t object = object_of(&ref->id);
    const bool again = ref->lineage != 0;
    SIM_TRACE(w->sim, "P%u loses the value of o%u%s", n->number, object,
              again ? "" : ", which can't be made again");
    excuse_inner(w, object);
    w->objects[object].freed = w->objects[object].freed || !again;
    own_value_lost(&n->own, ref, node_outs(w, n));
    SIM_CHECK(w->sim, ref->state == OWN_PENDING || !again,
              "I6: P%u gives o%u up, although it has a lineage", n->number, object);
    node_flush(w, n);
}

/* ---- checks ---- */

void
check_lineages(struct sim_own *w, const struct sim_node *n, bool quiet)
{
    for (uint32_t i = 0; i < n->lineage_count; i++) {
        const struct sim_lineage *l = &n->lineages[i];
        for (uint32_t k = 0; k < l->call.arg_count; k++) {
            SIM_CHECK(w->sim, own_find(&n->own, &l->arg_ids[k]),
                      "I6: P%u has forgotten an argument of t%u, which it keeps", n->number,
                      l->call.task);
        }
        SIM_CHECK(w->sim, l->again <= RUNS_AGAIN_MAX, "I6: t%u runs again too often", l->call.task);
        SIM_CHECK(w->sim, !quiet || (!l->running && l->entries > 0),
                  "I6: P%u keeps t%u for nothing", n->number, l->call.task);
    }
}
