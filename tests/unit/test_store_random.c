/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random histories of the object store's server over plain memory, against a naive record: whatever
 * is granted, sealed, pinned, freed, evicted or dies in whatever order, no two living things ever
 * share a byte, nothing pinned is used again, and in the end nothing is left. RAY_TEST_SEED replays
 * one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rand.h"
#include "base/status.h"
#include "store/store_priv.h"

#define MIB (UINT64_C(1) << 20)

enum {
    SLOTS = 512,
    CAPACITY_MIB = 32,
    UNITS = CAPACITY_MIB * 1024 * 1024 / STORE_ALIGN,
    PROCS = 6,
    OBJECTS = 600,
    GRANTS = 64,
    STEPS = 2500,
};

struct model_proc {
    uint32_t number; /* 0: none */
    struct id_worker id;
    uint32_t pin_of[8]; /* object + 1 */
};

struct model_object {
    struct store_hint hint;
    unsigned owner; /* index of the proc that owned it at creation */
    struct id_worker owner_id, creator_id;
    bool alive;
    unsigned pins;
};

struct model_grant {
    struct store_grant grant;
    unsigned proc;
    uint32_t next;
    uint64_t bump;
    bool held;
};

struct world {
    struct store *store;
    struct store_row *rows;
    struct rand rand;
    struct model_proc procs[PROCS];
    struct model_object objects[OBJECTS];
    unsigned object_count;
    struct model_grant grants[GRANTS];
    unsigned next_worker;
    uint64_t now;
};

static uint8_t taken[UNITS]; /* scratch of check_disjoint */

static void *
plain_resize(void *ctx, void *old, size_t old_size, size_t new_size)
{
    (void)ctx;
    (void)old_size;
    if (new_size == 0) {
        free(old);
        return NULL;
    }
    return realloc(old, new_size);
}

static const struct mem plain = { .resize = plain_resize };

static int
ctl_open(void *ctx, uint32_t proc, struct store_ctl_map *out)
{
    (void)ctx;
    (void)proc;
    out->raylet = calloc(1, sizeof(*out->raylet));
    out->process = calloc(1, sizeof(*out->process));
    return ST_OK;
}

static void
ctl_close(void *ctx, uint32_t proc, const struct store_ctl_map *map)
{
    (void)ctx;
    (void)proc;
    free(map->raylet);
    free(map->process);
}

static int
no_memory_moves(void *ctx, uint64_t offset, uint64_t size)
{
    (void)ctx;
    (void)offset;
    (void)size;
    return ST_OK;
}

static unsigned
below(struct world *w, unsigned n)
{
    return (unsigned)rand_below(&w->rand, n);
}

static void
take_units(uint64_t offset, uint64_t size)
{
    for (uint64_t i = offset / STORE_ALIGN; i < (offset + size + STORE_ALIGN - 1) / STORE_ALIGN;
         i++) {
        assert_int_equal(taken[i], 0);
        taken[i] = 1;
    }
}

static bool
in_held_grant(const struct world *w, const struct model_object *object)
{
    for (unsigned i = 0; i < GRANTS; i++) {
        const struct model_grant *g = &w->grants[i];
        if (g->held && object->hint.offset >= g->grant.offset &&
            object->hint.offset < g->grant.offset + g->grant.size) {
            return true;
        }
    }
    return false;
}

/* Held grants, and living or pinned objects outside of them, share no byte. */
static void
check_disjoint(struct world *w)
{
    memset(taken, 0, sizeof(taken));
    for (unsigned i = 0; i < GRANTS; i++) {
        if (w->grants[i].held) {
            take_units(w->grants[i].grant.offset, w->grants[i].grant.size);
        }
    }
    for (unsigned i = 0; i < w->object_count; i++) {
        const struct model_object *o = &w->objects[i];
        if ((o->alive || o->pins > 0) && !in_held_grant(w, o)) {
            take_units(o->hint.offset, o->hint.size ? o->hint.size : 1);
        }
    }
    store_space_verify(&w->store->space);
}

static void
do_proc_add(struct world *w, unsigned p)
{
    struct model_proc *proc = &w->procs[p];
    memset(proc, 0, sizeof(*proc));
    w->next_worker++;
    memcpy(proc->id.b, &w->next_worker, sizeof(w->next_worker));
    assert_int_equal(store_proc_add(w->store, &proc->id, 1, "worker", &proc->number), ST_OK);
}

static void
do_grant(struct world *w, unsigned p)
{
    unsigned at = 0;
    while (at < GRANTS && w->grants[at].held) {
        at++;
    }
    if (at == GRANTS) {
        return;
    }
    struct model_grant *g = &w->grants[at];
    const bool region = below(w, 2);
    const int status = region ? store_grant_region(w->store, w->procs[p].number, &g->grant)
                              : store_grant_object(w->store, w->procs[p].number,
                                                   1 + below(w, 6 * 1024 * 1024), &g->grant);
    assert_true(status == ST_OK || status == ST_STORE_FULL);
    if (status == ST_OK) {
        g->proc = p;
        g->next = 0;
        g->bump = 0;
        g->held = true;
    }
}

static void
do_seal(struct world *w, struct model_grant *g)
{
    const struct store_grant_slot *slot = &g->grant.slots[g->next];
    const uint64_t room = g->grant.size - g->bump;
    if (w->object_count == OBJECTS || g->next == g->grant.slot_count || room < STORE_ALIGN) {
        return;
    }
    struct model_object *o = &w->objects[w->object_count];
    const uint64_t size = rand_below(&w->rand, room < 300000 ? room : 300000);
    unsigned owner = below(w, PROCS);
    owner = w->procs[owner].number ? owner : g->proc;
    struct store_sealed sealed = { .offset = g->grant.offset + g->bump, .size = size };
    memcpy(sealed.what.id.b, &w->object_count, sizeof(w->object_count));
    sealed.what.owner = w->procs[owner].id;
    struct store_ctl_process *half = store_proc_process_half(w->store, w->procs[g->proc].number);
    store_seal_write(&half->seals[slot->seal], slot->slot, slot->generation, &sealed);
    *o = (struct model_object){
        .hint = { slot->generation, sealed.offset, size, slot->slot, 3 },
        .owner = owner,
        .owner_id = w->procs[owner].id,
        .creator_id = w->procs[g->proc].id,
        .alive = true,
    };
    w->object_count++;
    g->next++;
    g->bump += store_round(size ? size : 1, STORE_ALIGN);
    if (g->grant.kind == STORE_GRANT_OBJECT) {
        g->held = false; /* closes by its adoption */
        store_adopt(w->store, w->procs[g->proc].number);
    }
}

static void
do_return(struct world *w, struct model_grant *g)
{
    g->held = false;
    assert_int_equal(store_on_return(w->store, w->procs[g->proc].number, g->grant.offset), ST_OK);
}

static void
do_pin(struct world *w, unsigned p, unsigned object)
{
    struct model_object *o = &w->objects[object];
    struct store_ctl_process *half = store_proc_process_half(w->store, w->procs[p].number);
    const struct store_pins pins = { &half->pin_pages, half->pins, STORE_PINS_PER_PAGE,
                                     STORE_PIN_PAGES };
    const unsigned at = below(w, COUNT_OF(w->procs[p].pin_of));
    const uint32_t entry = at * 400; /* over several pages */
    if (w->procs[p].pin_of[at]) {
        store_pin_clear(&pins, entry);
        w->objects[w->procs[p].pin_of[at] - 1].pins--;
        w->procs[p].pin_of[at] = 0;
        return;
    }
    store_pin_publish(&pins, entry, store_name_word(o->hint.slot, o->hint.generation));
    const enum store_pin_verdict verdict = store_pin_check(&w->rows[o->hint.slot], &o->hint);
    assert_int_equal(verdict == STORE_PIN_OK, o->alive);
    assert_int_equal(store_check(w->store, &o->hint) == ST_OK, o->alive);
    if (verdict == STORE_PIN_OK) {
        w->procs[p].pin_of[at] = object + 1;
        o->pins++;
    } else {
        store_pin_clear(&pins, entry);
    }
}

static void
do_free(struct world *w, unsigned object)
{
    struct model_object *o = &w->objects[object];
    const struct store_ref ref = { o->hint.generation, o->hint.slot, 0 };
    assert_int_equal(store_free(w->store, &o->owner_id, &ref), o->alive ? ST_OK : ST_NOT_FOUND);
    o->alive = false;
}

static void
do_evict(struct world *w, unsigned object)
{
    struct model_object *o = &w->objects[object];
    const struct store_ref ref = { o->hint.generation, o->hint.slot, 0 };
    const int expected = !o->alive ? ST_NOT_FOUND : o->pins ? ST_WOULD_BLOCK : ST_OK;
    assert_int_equal(store_evict(w->store, &ref), expected);
    o->alive = o->alive && expected != ST_OK;
}

static void
count_seal(const struct id_worker *owner, const struct store_ref *ref, const struct id_object *id,
           void *ctx)
{
    unsigned *count = ctx;
    (void)owner;
    (void)ref;
    (void)id;
    (*count)++;
}

static void
do_death(struct world *w, unsigned p)
{
    struct model_proc *proc = &w->procs[p];
    unsigned told = 0;
    unsigned expected = 0;
    store_proc_dead(w->store, proc->number);
    store_proc_seals(w->store, proc->number, count_seal, &told);
    for (unsigned i = 0; i < w->object_count; i++) {
        struct model_object *o = &w->objects[i];
        const bool owned = ID_EQ(o->owner_id, proc->id);
        expected += o->alive && ID_EQ(o->creator_id, proc->id) && !owned;
        o->alive = o->alive && !owned;
    }
    assert_int_equal(told, expected);
    for (unsigned i = 0; i < COUNT_OF(proc->pin_of); i++) {
        if (proc->pin_of[i]) {
            w->objects[proc->pin_of[i] - 1].pins--;
        }
    }
    for (unsigned i = 0; i < GRANTS; i++) {
        w->grants[i].held = w->grants[i].held && w->grants[i].proc != p;
    }
    store_proc_drop(w->store, proc->number);
    proc->number = 0;
}

static void
one_step(struct world *w)
{
    const unsigned what = below(w, 100);
    const unsigned p = below(w, PROCS);
    struct model_grant *g = &w->grants[below(w, GRANTS)];
    const unsigned object = w->object_count ? below(w, w->object_count) : 0;
    if (!w->procs[p].number) {
        do_proc_add(w, p);
    } else if (what < 20) {
        do_grant(w, p);
    } else if (what < 50 && g->held) {
        do_seal(w, g);
    } else if (what < 56 && g->held) {
        do_return(w, g);
    } else if (what < 75 && w->object_count) {
        do_pin(w, p, object);
    } else if (what < 88 && w->object_count) {
        do_free(w, object);
    } else if (what < 91 && w->object_count) {
        do_evict(w, object);
    } else if (what < 92) {
        do_death(w, p);
    } else {
        w->now += below(w, 4000000);
        (void)store_work(w->store, w->now);
    }
}

static void
one_history(uint64_t seed)
{
    static struct world w;
    memset(&w, 0, sizeof(w));
    rand_init(&w.rand, seed);
    w.rows = calloc(SLOTS, sizeof(*w.rows));
    const struct store_config config = {
        .mem = &plain,
        .backing = { &w, ctl_open, ctl_close, no_memory_moves, no_memory_moves },
        .rows = w.rows,
        .slot_count = SLOTS,
        .capacity = CAPACITY_MIB * MIB,
        .epoch = 3,
    };
    assert_int_equal(store_create(&config, &w.store), ST_OK);
    for (unsigned step = 0; step < STEPS; step++) {
        one_step(&w);
        if (step % 32 == 0) {
            check_disjoint(&w);
        }
    }
    for (unsigned p = 0; p < PROCS; p++) {
        if (w.procs[p].number) {
            do_death(&w, p);
        }
    }
    (void)store_work(w.store, UINT64_C(1) << 50);
    struct store_stats stats;
    store_stats(w.store, &stats);
    assert_int_equal(stats.used, 0);
    assert_int_equal(stats.objects, 0);
    assert_int_equal(stats.dying, 0);
    assert_int_equal(stats.grants, 0);
    assert_int_equal(stats.bad_entries, 0);
    assert_int_equal(stats.slots_free, SLOTS);
    check_disjoint(&w);
    store_destroy(&w.store);
    free(w.rows);
}

static void
test_random_histories(void **state)
{
    (void)state;
    const char *given = getenv("RAY_TEST_SEED");
    const uint64_t first = given ? strtoull(given, NULL, 10) : 1;
    for (uint64_t seed = first; seed < first + (given ? 1 : 40); seed++) {
        print_message("RAY_TEST_SEED=%llu\n", (unsigned long long)seed);
        one_history(seed);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_random_histories) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
