/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model of what threads of one process share about pins: views end on any thread, without a lock,
 * while the thread that has the lock holds them for a forked child, releases them and pins anew.
 * The code is src/store/storec_pin.c itself, over a store that lies in the model's state.
 */
#include "ilv.h"

#include "base/status.h"
#include "store/storec_priv.h"

enum { VIEWS = 1, MEMORY = STORE_PINS_PER_PAGE * 8 + 256 };

struct fork_state {
    struct storec store;
    struct store_row row;
    struct atom_u32 pages;
    struct atom_u64 pins[STORE_PINS_PER_PAGE];
    struct storec_view views[VIEWS];
    bool ending[VIEWS]; /* that view's unpin has begun */
    bool child_has[VIEWS], released, destroyed;
    _Alignas(16) unsigned char memory[MEMORY];
    size_t used;
};

static const struct store_hint hint = { .generation = 1, .size = 8, .slot = 0, .epoch = 1 };

/* A bump allocator in the state: what is freed isn't used again. */
static void *
state_resize(void *ctx, void *old, size_t old_size, size_t new_size)
{
    struct fork_state *s = ilv_state();
    (void)ctx;
    (void)old;
    (void)old_size;
    if (new_size == 0) {
        return NULL;
    }
    void *p = s->memory + s->used;
    s->used += (new_size + 15) & ~(size_t)15;
    ilv_expect(s->used <= MEMORY, "the model's memory is too small");
    return p;
}

static const struct mem state_mem = { .resize = state_resize };

/* storec_open.c has the real one, which unmaps. */
void
storec_destroy(struct storec *store)
{
    struct fork_state *s = ilv_state();
    ilv_expect(store == &s->store && !s->destroyed, "the store ends twice");
    s->destroyed = true;
}

static void
setup(void *state)
{
    struct fork_state *s = state;
    s->row.word.raw = store_row_word(1, STORE_SEALED);
    s->row.bounds_size.raw = 4096;
    s->store.mem = &state_mem;
    s->store.rows = &s->row;
    s->store.slot_count = 1;
    s->store.data_size = 4096;
    s->store.data = s->memory;
    s->store.epoch = 1;
    s->store.refs.raw = STOREC_OPEN;
    s->store.pins = (struct store_pins){ &s->pages, s->pins, STORE_PINS_PER_PAGE, 1 };
    list_init(&s->store.forks);
    s->store.pin_pages[0] =
        state_resize(NULL, NULL, 0, STORE_PINS_PER_PAGE * sizeof(struct storec_pin_entry));
    s->store.pin_fresh = VIEWS; /* an entry was used before and is free */
    s->store.pin_free = 1;
    for (unsigned i = 0; i < VIEWS; i++) {
        ilv_expect(storec_pin(&s->store, &hint, &s->views[i]) == ST_OK, "pin");
    }
    ilv_name(s->pins, 16, "pins");
    ilv_name(&s->store.pin_freed, 4, "pin_freed");
    ilv_name(&s->store.refs, 8, "refs");
    ilv_name(s->store.pin_pages[0], 32, "entries");
}

static void
end_view(struct fork_state *s, unsigned i)
{
    s->ending[i] = true;
    storec_unpin(&s->views[i]);
}

static void
end_first(void *state)
{
    end_view(state, 0);
}

/* The thread with the lock: a fork, the child's end, and pins that use entries again. */
static void
fork_and_pin(void *state)
{
    struct fork_state *s = state;
    struct storec_view again;
    uint32_t token = 0;
    ilv_expect(storec_fork_hold(&s->store, &token) == ST_OK, "hold");
    for (unsigned i = 0; i < VIEWS; i++) { /* the fork: the child has the views that are there */
        s->child_has[i] = !s->ending[i];
    }
    ilv_expect(storec_pin(&s->store, &hint, &again) == ST_OK, "pin beside the child");
    s->released = true;
    storec_fork_release(&s->store, token);
    ilv_expect(s->pins[again.pin - 1].raw != 0, "a new view lost its pin");
    storec_unpin(&again);
}

static void
invariant(const void *state)
{
    const struct fork_state *s = state;
    for (unsigned i = 0; i < VIEWS; i++) {
        ilv_expect(s->released || !s->child_has[i] || s->pins[i].raw != 0,
                   "the child's view is not pinned");
        ilv_expect(s->ending[i] || s->pins[i].raw != 0, "a living view is not pinned");
    }
}

static void
finish(const void *state)
{
    const struct fork_state *s = state;
    unsigned entries = 0;
    for (unsigned i = 0; i < s->store.pin_fresh; i++) {
        ilv_expect(s->pins[i].raw == 0, "a pin stays for ever");
    }
    const uint32_t heads[2] = { s->store.pin_free, s->store.pin_freed.raw };
    for (unsigned i = 0; i < 2; i++) {
        for (uint32_t e = heads[i]; e && entries <= s->store.pin_fresh; entries++) {
            e = s->store.pin_pages[0][e - 1].next;
        }
    }
    ilv_expect(entries == s->store.pin_fresh, "an entry is lost, or free twice");
    ilv_expect(s->store.refs.raw == STOREC_OPEN - s->store.pinned, "the count of views is wrong");
}

static const struct ilv_model forks = {
    .name = "store-fork",
    .about = "a thread ends a view while another holds it for a child, pins anew and releases",
    .state_size = sizeof(struct fork_state),
    .actors = { { .name = "engine", .run = fork_and_pin }, { .name = "other", .run = end_first } },
    .n_actors = 2,
    .setup = setup,
    .invariant = invariant,
    .finish = finish,
    .rules = { { "store_hold_undone", "the hold of a view that had ended would never be released" },
               { "store_unpin_leaves_held", "the child's view would lose its pin" },
               { "store_release_clears", "what the child held would stay pinned for ever" } },
};

int
main(int argc, char **argv)
{
    static const struct ilv_model *const models[] = { &forks };
    return ilv_main(argc, argv, models, sizeof(models) / sizeof(models[0]));
}
