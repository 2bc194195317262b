/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests of the object store's server over plain memory: grants, adoption, frees, pins, deaths,
 * accounting, giving memory back. The process's side is played with its real steps on the words.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/status.h"
#include "store/store_server.h"
#include "store/store_words.h"

#define MIB (UINT64_C(1) << 20)

enum { SLOTS = 4096, CHUNKS_MAX = 64 };

static int64_t live_bytes;
static int64_t fail_after = -1; /* allocations until one fails; negative: never */

static void *
counting_resize(void *ctx, void *old, size_t old_size, size_t new_size)
{
    (void)ctx;
    if (new_size > 0 && fail_after >= 0 && fail_after-- == 0) {
        return NULL;
    }
    live_bytes += (int64_t)new_size - (int64_t)old_size;
    if (new_size == 0) {
        free(old);
        return NULL;
    }
    return realloc(old, new_size);
}

static const struct mem counting = { .resize = counting_resize };

struct world {
    struct store *store;
    struct store_row *rows;
    int open_files;
    uint8_t has_memory[CHUNKS_MAX]; /* of each chunk, as the system would see it */
    unsigned prefaults;
    bool fail_ctl;
};

static int
world_ctl_open(void *ctx, uint32_t proc, struct store_ctl_map *out)
{
    struct world *w = ctx;
    (void)proc;
    if (w->fail_ctl) {
        return st_fail(ST_SYSTEM, "no more files");
    }
    out->raylet = calloc(1, sizeof(*out->raylet));
    out->process = calloc(1, sizeof(*out->process));
    w->open_files++;
    return ST_OK;
}

static void
world_ctl_close(void *ctx, uint32_t proc, const struct store_ctl_map *map)
{
    struct world *w = ctx;
    (void)proc;
    free(map->raylet);
    free(map->process);
    w->open_files--;
}

static int
world_punch(void *ctx, uint64_t offset, uint64_t size)
{
    struct world *w = ctx;
    assert_int_equal(offset % STORE_CHUNK, 0);
    assert_int_equal(size, STORE_CHUNK);
    w->has_memory[offset / STORE_CHUNK] = 0;
    return ST_OK;
}

static int
world_prefault(void *ctx, uint64_t offset, uint64_t size)
{
    struct world *w = ctx;
    (void)size;
    w->has_memory[offset / STORE_CHUNK] = 1;
    w->prefaults++;
    return ST_OK;
}

static struct id_worker
worker(unsigned n)
{
    struct id_worker id = { .b = { (uint8_t)n, (uint8_t)(n >> 8) } };
    return id;
}

static struct id_object
object(unsigned n)
{
    struct id_object id = { .b = { (uint8_t)n, (uint8_t)(n >> 8), 7 } };
    return id;
}

static void
world_init(struct world *w, uint64_t capacity)
{
    memset(w, 0, sizeof(*w));
    w->rows = calloc(SLOTS, sizeof(*w->rows));
    const struct store_config config = {
        .mem = &counting,
        .backing = { w, world_ctl_open, world_ctl_close, world_punch, world_prefault },
        .rows = w->rows,
        .slot_count = SLOTS,
        .capacity = capacity,
        .epoch = 77,
        .idle_ns = 1000,
        .raylet_pid = 1,
    };
    assert_int_equal(store_create(&config, &w->store), ST_OK);
}

static void
world_fini(struct world *w)
{
    store_destroy(&w->store);
    assert_null(w->store);
    assert_int_equal(w->open_files, 0);
    free(w->rows);
    assert_int_equal(live_bytes, 0);
}

static uint32_t
add_proc(struct world *w, unsigned n)
{
    const struct id_worker id = worker(n);
    uint32_t proc = 0;
    assert_int_equal(store_proc_add(w->store, &id, (int32_t)(1000 + n), "worker", &proc), ST_OK);
    return proc;
}

/* What storec does: seals slot i of a grant. */
static struct store_hint
seal(struct world *w, uint32_t proc, const struct store_grant *grant, unsigned i, uint64_t at,
     uint64_t size, unsigned id, unsigned owner)
{
    const struct store_grant_slot *slot = &grant->slots[i];
    const struct store_sealed sealed = { .offset = grant->offset + at,
                                         .size = size,
                                         .what = { .id = object(id), .owner = worker(owner) } };
    struct store_ctl_process *half = store_proc_process_half(w->store, proc);
    store_seal_write(&half->seals[slot->seal], slot->slot, slot->generation, &sealed);
    return (struct store_hint){ .generation = slot->generation,
                                .offset = sealed.offset,
                                .size = size,
                                .slot = slot->slot,
                                .epoch = 77 };
}

static struct store_pins
pins_of(struct world *w, uint32_t proc)
{
    struct store_ctl_process *half = store_proc_process_half(w->store, proc);
    return (struct store_pins){ &half->pin_pages, half->pins, STORE_PINS_PER_PAGE,
                                STORE_PIN_PAGES };
}

static enum store_pin_verdict
pin(struct world *w, uint32_t proc, uint32_t entry, const struct store_hint *hint)
{
    const struct store_pins pins = pins_of(w, proc);
    store_pin_publish(&pins, entry, store_name_word(hint->slot, hint->generation));
    return store_pin_check(&w->rows[hint->slot], hint);
}

static void
unpin(struct world *w, uint32_t proc, uint32_t entry)
{
    const struct store_pins pins = pins_of(w, proc);
    store_pin_clear(&pins, entry);
}

static struct store_ref
ref_of(const struct store_hint *hint)
{
    return (struct store_ref){ .generation = hint->generation, .slot = hint->slot };
}

static int
free_by(struct world *w, unsigned owner, const struct store_hint *hint)
{
    const struct id_worker id = worker(owner);
    const struct store_ref ref = ref_of(hint);
    return store_free(w->store, &id, &ref);
}

static struct store_stats
stats(struct world *w)
{
    struct store_stats s;
    store_stats(w->store, &s);
    return s;
}

static void
test_life_of_an_object(void **state)
{
    (void)state;
    struct world w;
    struct store_grant grant;
    world_init(&w, 16 * MIB);
    const uint32_t p = add_proc(&w, 1);
    assert_int_equal(store_proc_raylet_half(w.store, p)->store_epoch, 77);
    assert_int_equal(store_grant_object(w.store, p, 3 * MIB + 5, &grant), ST_OK);
    assert_int_equal(grant.size, 3 * MIB + 4096);
    assert_int_equal(grant.slot_count, 1);
    assert_true(grant.cold);
    const struct store_hint hint = seal(&w, p, &grant, 0, 0, 3 * MIB + 5, 1, 1);

    /* The hint overtakes the raylet: GRANTED is good enough. */
    assert_int_equal(store_word_state(w.rows[hint.slot].word.raw), STORE_GRANTED);
    assert_int_equal(pin(&w, p, 0, &hint), STORE_PIN_OK);
    store_adopt(w.store, p);
    assert_int_equal(store_word_state(w.rows[hint.slot].word.raw), STORE_SEALED);
    assert_int_equal(pin(&w, p, 1, &hint), STORE_PIN_OK);
    unpin(&w, p, 1);
    assert_int_equal(stats(&w).objects, 1);
    assert_int_equal(stats(&w).grants, 0);
    /* The part that the object doesn't need is free already. */
    assert_int_equal(stats(&w).used, 3 * MIB + 64);

    struct store_hint found;
    const struct id_object id = object(1);
    assert_int_equal(store_find(w.store, &id, &found), ST_OK);
    assert_memory_equal(&found, &hint, sizeof(hint));

    /* Only the owner frees, and the space stays while it is pinned. */
    assert_int_equal(free_by(&w, 2, &hint), ST_INVALID_ARGUMENT);
    assert_int_equal(free_by(&w, 1, &hint), ST_OK);
    assert_int_equal(free_by(&w, 1, &hint), ST_NOT_FOUND);
    assert_int_equal(store_find(w.store, &id, &found), ST_NOT_FOUND);
    const uint64_t next = store_work(w.store, 100);
    assert_true(next > 100 && next != UINT64_MAX);
    assert_int_equal(stats(&w).dying, 1);
    assert_int_equal(pin(&w, p, 1, &hint), STORE_PIN_DYING);
    unpin(&w, p, 1);
    assert_int_equal(store_check(w.store, &hint), ST_OBJECT_FREED);
    unpin(&w, p, 0);
    (void)store_work(w.store, next);
    assert_int_equal(stats(&w).dying, 0);
    assert_int_equal(stats(&w).used, 0);
    assert_int_equal(pin(&w, p, 1, &hint), STORE_PIN_GONE);

    /* The slot's next life is another. */
    assert_int_equal(store_grant_object(w.store, p, MIB, &grant), ST_OK);
    assert_int_equal(grant.slots[0].slot, hint.slot);
    assert_int_equal(grant.slots[0].generation, hint.generation + 1);
    assert_int_equal(grant.offset, hint.offset); /* and its memory the same, warm */
    assert_false(grant.cold);
    assert_int_equal(pin(&w, p, 1, &hint), STORE_PIN_GONE);
    world_fini(&w);
}

static void
test_region_space_returns_when_it_closes(void **state)
{
    (void)state;
    struct world w;
    struct store_grant grant;
    world_init(&w, 8 * MIB);
    const uint32_t p = add_proc(&w, 1);
    assert_int_equal(store_grant_region(w.store, p, &grant), ST_OK);
    assert_int_equal(grant.slot_count, STORE_REGION_SLOTS);
    const struct store_hint a = seal(&w, p, &grant, 0, 0, 100000, 1, 1);
    const struct store_hint b = seal(&w, p, &grant, 1, 100032, 200000, 2, 1);
    const struct store_hint c = seal(&w, p, &grant, 2, 300032, 0, 3, 1);
    assert_int_equal(free_by(&w, 1, &b), ST_OK);
    (void)store_work(w.store, 1);
    assert_int_equal(stats(&w).used, MIB); /* the creator still fills this region */
    assert_int_equal(stats(&w).objects, 2);
    assert_int_equal(store_on_return(w.store, p, grant.offset), ST_OK);
    assert_int_equal(stats(&w).used, 100032 + 64);
    assert_int_equal(store_on_return(w.store, p, grant.offset), ST_NOT_FOUND);
    assert_int_equal(pin(&w, p, 0, &a), STORE_PIN_OK);
    assert_int_equal(pin(&w, p, 1, &b), STORE_PIN_GONE);
    assert_int_equal(pin(&w, p, 2, &c), STORE_PIN_OK);
    unpin(&w, p, 0);
    unpin(&w, p, 2);
    assert_int_equal(free_by(&w, 1, &a), ST_OK);
    assert_int_equal(free_by(&w, 1, &c), ST_OK);
    (void)store_work(w.store, 2);
    assert_int_equal(stats(&w).used, 0);
    assert_int_equal(stats(&w).slots_free, SLOTS);
    world_fini(&w);
}

static void
test_lies_of_a_process_are_refused(void **state)
{
    (void)state;
    struct world w;
    struct store_grant grant;
    world_init(&w, 8 * MIB);
    const uint32_t p = add_proc(&w, 1);
    assert_int_equal(store_grant_region(w.store, p, &grant), ST_OK);
    (void)seal(&w, p, &grant, 0, MIB - 64, 128, 1, 1); /* past the end */
    (void)seal(&w, p, &grant, 1, 8, 64, 2, 1);         /* not aligned */
    (void)seal(&w, p, &grant, 2, 0, UINT64_MAX - 3, 3, 1);
    (void)seal(&w, p, &grant, 3, 0, 4096, 4, 1);  /* good */
    (void)seal(&w, p, &grant, 4, 4032, 64, 5, 1); /* overlaps it */
    (void)seal(&w, p, &grant, 5, UINT64_C(0) - grant.offset, 64, 6, 1);
    (void)seal(&w, p, &grant, 6, MIB, 0, 7, 1);
    struct store_ctl_process *half = store_proc_process_half(w.store, p);
    half->pin_pages.raw = UINT32_MAX; /* and pins of slots that don't exist */
    half->pins[5].raw = UINT64_MAX;
    half->pins[STORE_PINS - 1].raw = store_name_word(3, 999);
    store_adopt(w.store, p);
    assert_int_equal(stats(&w).objects, 1);
    assert_int_equal(stats(&w).bad_entries, 6);
    half->status.name.raw = 5000;
    half->status.seq.raw = 1;
    struct store_status_copy copy;
    assert_false(store_proc_status(w.store, p, &copy));
    half->status.seq.raw = 2;
    assert_true(store_proc_status(w.store, p, &copy));
    store_proc_drop(w.store, p);
    (void)store_work(w.store, 1);
    assert_int_equal(stats(&w).used, 0);
    world_fini(&w);
}

struct listed {
    unsigned count;
    struct store_ref refs[8];
    uint8_t owners[8];
};

static void
on_seal(const struct id_worker *owner, const struct store_ref *ref, const struct id_object *id,
        void *ctx)
{
    struct listed *l = ctx;
    (void)id;
    l->refs[l->count] = *ref;
    l->owners[l->count++] = owner->b[0];
}

static void
test_death_of_a_creator(void **state)
{
    (void)state;
    struct world w;
    struct store_grant grant, large;
    struct listed listed = { 0 };
    world_init(&w, 16 * MIB);
    const uint32_t creator = add_proc(&w, 1);
    const uint32_t owner = add_proc(&w, 2);
    assert_int_equal(store_grant_region(w.store, creator, &grant), ST_OK);
    assert_int_equal(store_grant_object(w.store, creator, 2 * MIB, &large), ST_OK);
    const struct store_hint a = seal(&w, creator, &grant, 0, 0, 1000, 1, 2);
    const struct store_hint own = seal(&w, creator, &grant, 1, 1024, 1000, 2, 1);
    const struct store_hint b = seal(&w, creator, &grant, 2, 2048, 1000, 3, 3);
    const struct store_hint c = seal(&w, creator, &grant, 3, 4096, 1000, 4, 2);
    assert_int_equal(pin(&w, creator, 700, &a), STORE_PIN_OK); /* in a second page */
    assert_int_equal(free_by(&w, 2, &a), ST_OK);
    (void)store_work(w.store, 1);
    assert_int_equal(stats(&w).dying, 1);

    store_proc_dead(w.store, creator);
    store_proc_dead(w.store, creator);
    assert_int_equal(store_grant_region(w.store, creator, &large), ST_CLOSED);
    store_proc_seals(w.store, creator, on_seal, &listed);
    assert_int_equal(listed.count, 2);
    assert_true(listed.owners[0] != listed.owners[1]);
    assert_int_equal(stats(&w).dying, 1); /* its pins count until it is dropped */

    store_proc_drop(w.store, creator);
    store_proc_drop(w.store, creator);
    assert_int_equal(store_work(w.store, 2), 2 + 1000); /* idle chunks, nothing dying */
    assert_int_equal(stats(&w).dying, 0);
    assert_int_equal(stats(&w).objects, 2); /* the others' stay, its own is gone */
    assert_int_equal(stats(&w).used, 2 * 1024);
    assert_int_equal(pin(&w, owner, 0, &own), STORE_PIN_GONE);
    assert_int_equal(pin(&w, owner, 0, &c), STORE_PIN_OK);
    unpin(&w, owner, 0);

    /* The remote owner 3 dies, then 2. */
    const struct id_worker three = worker(3), two = worker(2);
    store_on_owner_dead(w.store, &three);
    store_on_owner_dead(w.store, &two);
    (void)store_work(w.store, 3);
    assert_int_equal(stats(&w).used, 0);
    assert_int_equal(store_check(w.store, &b), ST_OBJECT_FREED);
    world_fini(&w);
}

/* A task sealed it and then failed: its owner never hears of it. */
static void
test_a_creator_frees_what_it_told_nobody_of(void **state)
{
    (void)state;
    struct world w;
    struct store_grant grant;
    world_init(&w, 16 * MIB);
    const uint32_t p = add_proc(&w, 1);
    for (int adopted = 0; adopted < 2; adopted++) {
        assert_int_equal(store_grant_object(w.store, p, MIB, &grant), ST_OK);
        const struct store_hint hint = seal(&w, p, &grant, 0, 0, MIB, 1, 2);
        if (adopted) {
            store_adopt(w.store, p);
        }
        assert_int_equal(free_by(&w, 3, &hint), ST_INVALID_ARGUMENT);
        assert_int_equal(free_by(&w, 1, &hint), ST_OK);
        (void)store_work(w.store, 1);
        assert_int_equal(stats(&w).objects, 0);
        assert_int_equal(stats(&w).used, 0);
    }
    world_fini(&w);
}

static void
test_adoption_for_a_dead_owner_frees(void **state)
{
    (void)state;
    struct world w;
    struct store_grant grant;
    world_init(&w, 8 * MIB);
    const uint32_t p = add_proc(&w, 1);
    const struct id_worker nine = worker(9);
    store_on_owner_dead(w.store, &nine);
    assert_int_equal(store_grant_object(w.store, p, MIB, &grant), ST_OK);
    const struct store_hint hint = seal(&w, p, &grant, 0, 0, MIB, 1, 9);
    store_adopt(w.store, p);
    (void)store_work(w.store, 1);
    assert_int_equal(stats(&w).used, 0);
    assert_int_equal(store_check(w.store, &hint), ST_OBJECT_FREED);
    world_fini(&w);
}

static void
test_eviction_gives_up_at_a_pin(void **state)
{
    (void)state;
    struct world w;
    struct store_grant grant;
    world_init(&w, 8 * MIB);
    const uint32_t p = add_proc(&w, 1);
    assert_int_equal(store_grant_object(w.store, p, MIB, &grant), ST_OK);
    const struct store_hint hint = seal(&w, p, &grant, 0, 0, MIB, 1, 1);
    const struct store_ref ref = ref_of(&hint);
    assert_int_equal(pin(&w, p, 0, &hint), STORE_PIN_OK);
    assert_int_equal(store_evict(w.store, &ref), ST_WOULD_BLOCK);
    assert_int_equal(pin(&w, p, 1, &hint), STORE_PIN_OK); /* new readers get it as before */
    unpin(&w, p, 0);
    unpin(&w, p, 1);
    assert_int_equal(store_evict(w.store, &ref), ST_OK);
    assert_int_equal(store_evict(w.store, &ref), ST_NOT_FOUND);
    assert_int_equal(stats(&w).used, 0);
    assert_int_equal(pin(&w, p, 0, &hint), STORE_PIN_GONE);
    world_fini(&w);
}

static void
test_a_full_store_names_the_holders(void **state)
{
    (void)state;
    struct world w;
    struct store_grant grant;
    world_init(&w, 16 * MIB);
    const uint32_t p = add_proc(&w, 1);
    const uint32_t q = add_proc(&w, 2);
    assert_int_equal(store_grant_object(w.store, p, 9 * MIB, &grant), ST_OK);
    const struct store_hint big = seal(&w, p, &grant, 0, 0, 9 * MIB, 1, 1);
    struct store_ctl_process *half = store_proc_process_half(w.store, p);
    memcpy(half->names[3], "load_everything", 16);
    half->status.name.raw = 3;
    assert_int_equal(store_grant_object(w.store, q, 3 * MIB, &grant), ST_OK);
    (void)seal(&w, q, &grant, 0, 0, 3 * MIB, 2, 7); /* owned by another node's worker */
    assert_int_equal(store_grant_object(w.store, q, 2 * MIB, &grant), ST_OK);
    assert_int_equal(store_grant_object(w.store, q, 17 * MIB, &grant), ST_STORE_FULL);
    assert_int_equal(store_grant_object(w.store, q, 4 * MIB, &grant), ST_STORE_FULL);
    const char *text = st_last()->text;
    const char *first = strstr(text, "9.0 MiB in 1 object owned by worker pid=1001 (in "
                                     "load_everything)");
    const char *second = strstr(text, "3.0 MiB in 1 object owned by");
    assert_non_null(first);
    assert_non_null(second);
    assert_true(first < second);
    assert_non_null(strstr(text, "2.0 MiB being written, most of it (2.0 MiB) by worker pid=1002"));

    /* A free that was announced but not scanned yet makes room at once; one still read doesn't. */
    assert_int_equal(pin(&w, q, 0, &big), STORE_PIN_OK);
    assert_int_equal(free_by(&w, 1, &big), ST_OK);
    assert_int_equal(store_grant_object(w.store, q, 4 * MIB, &grant), ST_STORE_FULL);
    assert_non_null(strstr(st_last()->text, "9.0 MiB freed by their owners but still read"));
    const uint64_t freed = store_freed_count(w.store);
    unpin(&w, q, 0);
    assert_int_equal(store_grant_object(w.store, q, 4 * MIB, &grant), ST_OK);
    assert_true(store_freed_count(w.store) > freed);
    world_fini(&w);
}

static void
test_memory_goes_back_to_the_system(void **state)
{
    (void)state;
    struct world w;
    struct store_grant grant;
    world_init(&w, 64 * MIB);
    const uint32_t p = add_proc(&w, 1);
    assert_int_equal(store_grant_object(w.store, p, 20 * MIB, &grant), ST_OK);
    for (unsigned i = 0; i < 10; i++) {
        w.has_memory[i] = 1;
    }
    const struct store_hint hint = seal(&w, p, &grant, 0, 0, 20 * MIB, 1, 1);
    store_adopt(w.store, p);
    /* After the first large object some cold space ahead gets memory, a chunk a slice. */
    while (store_work(w.store, 10) == 10) {
    }
    assert_int_equal(w.prefaults, 10);
    assert_int_equal(stats(&w).resident_max, 40 * MIB);
    assert_int_equal(free_by(&w, 1, &hint), ST_OK);
    uint64_t next = store_work(w.store, 500);
    assert_int_equal(next, 1010); /* the prefaulted chunks, idle since 10 */
    uint64_t now = 500;
    unsigned slices = 0;
    while (next != UINT64_MAX) {
        now = next;
        next = store_work(w.store, now);
        slices++;
    }
    assert_int_equal(now, 1500);
    assert_int_equal(slices, 10); /* two chunks a slice */
    assert_int_equal(stats(&w).resident_max, 0);
    for (unsigned i = 0; i < CHUNKS_MAX; i++) {
        assert_int_equal(w.has_memory[i], 0);
    }
    world_fini(&w);
}

static void
test_limits_of_slots_and_seals(void **state)
{
    (void)state;
    struct world w;
    struct store_grant grant;
    world_init(&w, 32 * MIB);
    const uint32_t p = add_proc(&w, 1);
    unsigned granted = 0;
    int status = ST_OK;
    while ((status = store_grant_object(w.store, p, 4096, &grant)) == ST_OK) {
        granted++;
    }
    assert_int_equal(status, ST_LIMIT);
    assert_int_equal(granted, STORE_SEALS);
    /* Another process goes on until slots or bytes run out. */
    unsigned more = 0;
    for (unsigned n = 2; n < 5; n++) {
        const uint32_t q = add_proc(&w, n);
        while ((status = store_grant_object(w.store, q, 4096, &grant)) == ST_OK) {
            more++;
        }
    }
    assert_int_equal(granted + more, SLOTS);
    const uint32_t last = add_proc(&w, 6);
    assert_int_equal(store_grant_object(w.store, last, 4096, &grant), ST_STORE_FULL);
    store_proc_drop(w.store, p);
    assert_int_equal(store_grant_object(w.store, last, 4096, &grant), ST_OK);
    world_fini(&w);
}

static void
one_life(struct world *w)
{
    const struct id_worker id = worker(1);
    struct store_grant grant;
    uint32_t p = 0;
    if (store_proc_add(w->store, &id, 1, "worker", &p) != ST_OK) {
        return;
    }
    if (store_grant_region(w->store, p, &grant) == ST_OK) {
        fail_after = -1;
        (void)seal(w, p, &grant, 0, 0, 100, 1, 1);
    }
    fail_after = -1;
    store_proc_drop(w->store, p);
    (void)store_work(w->store, 1);
    assert_int_equal(stats(w).used, 0);
}

static void
test_failing_allocations_leak_nothing(void **state)
{
    (void)state;
    bool failed = true;
    for (int64_t n = 0; failed; n++) {
        struct world w;
        world_init(&w, 8 * MIB);
        fail_after = n;
        one_life(&w);
        failed = fail_after == -1 && n < 64;
        fail_after = -1;
        world_fini(&w);
    }
    struct world w;
    world_init(&w, 8 * MIB);
    w.fail_ctl = true;
    const struct id_worker id = worker(1);
    uint32_t p = 0;
    assert_int_equal(store_proc_add(w.store, &id, 1, "worker", &p), ST_SYSTEM);
    world_fini(&w);
    const struct store_config bad = {
        .mem = &counting, .capacity = 5, .slot_count = 1, .epoch = 1
    };
    assert_int_equal(store_create(&bad, &w.store), ST_INVALID_ARGUMENT);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_life_of_an_object),
        cmocka_unit_test(test_region_space_returns_when_it_closes),
        cmocka_unit_test(test_lies_of_a_process_are_refused),
        cmocka_unit_test(test_death_of_a_creator),
        cmocka_unit_test(test_a_creator_frees_what_it_told_nobody_of),
        cmocka_unit_test(test_adoption_for_a_dead_owner_frees),
        cmocka_unit_test(test_eviction_gives_up_at_a_pin),
        cmocka_unit_test(test_a_full_store_names_the_holders),
        cmocka_unit_test(test_memory_goes_back_to_the_system),
        cmocka_unit_test(test_limits_of_slots_and_seals),
        cmocka_unit_test(test_failing_allocations_leak_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
