/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests of the object store's client over real memory files, with the real server in the same
 * process: regions, large objects, pins and views, forks, lifetime, memory given back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/flt.h"
#include "base/status.h"
#include "harness.h"
#include "os/os_basic.h"
#include "os/os_shm.h"
#include "os/os_thread.h"
#include "store/store_server.h"
#include "store/storec.h"

#define MIB (UINT64_C(1) << 20)

static int64_t live_bytes; /* of the client */

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

struct node {
    struct store_shm *shm;
    struct store *store;
    struct store_fds fds;
    uint32_t proc;
    struct storec *client;
    unsigned threads;
};

static const struct id_worker me = { .b = { 1, 2, 3 } };

static struct id_object
object(unsigned n)
{
    struct id_object id = { .b = { (uint8_t)n, (uint8_t)(n >> 8), (uint8_t)(n >> 16), 9 } };
    return id;
}

static unsigned threads_started;

static void *
thread_start(void (*fn)(void *), void *arg)
{
    threads_started++;
    return os_thread_start(fn, arg);
}

static void
node_open(struct node *n, uint64_t capacity, bool huge)
{
    memset(n, 0, sizeof(*n));
    const struct store_shm_config shm = { .mem = os_mem_system(),
                                          .capacity = capacity,
                                          .huge = huge };
    assert_int_equal(store_shm_open(&shm, &n->shm), ST_OK);
    struct store_config config = { .mem = os_mem_system(), .epoch = 5, .idle_ns = 1000 };
    store_shm_configure(n->shm, &config);
    assert_int_equal(store_create(&config, &n->store), ST_OK);
    assert_int_equal(store_proc_add(n->store, &me, getpid(), "driver", &n->proc), ST_OK);
    assert_int_equal(store_shm_fds(n->shm, n->proc, &n->fds), ST_OK);
    const struct storec_config client = {
        .mem = &counting,
        .data_fd = n->fds.data,
        .slots_fd = n->fds.slots,
        .ctl_fd = n->fds.ctl,
        .ctl_fixed_fd = n->fds.ctl_fixed,
        .helper = { thread_start, os_thread_join },
    };
    assert_int_equal(storec_open(&client, &n->client), ST_OK);
}

static void
node_close(struct node *n)
{
    storec_close(&n->client);
    store_destroy(&n->store);
    store_shm_close(&n->shm);
}

/* What the engine does around a create. */
static int
create(struct node *n, uint64_t size, struct storec_object *out)
{
    struct store_grant grant;
    uint64_t offset = 0;
    if (size > STORE_SMALL_MAX) {
        TRY(store_grant_object(n->store, n->proc, size, &grant));
        return storec_create_in(n->client, &grant, size, out);
    }
    int status = storec_create(n->client, size, out);
    if (status == ST_WOULD_BLOCK) {
        TRY(store_grant_region(n->store, n->proc, &grant));
        storec_asked(n->client, 1);
        assert_int_equal(storec_on_grant(n->client, &grant), ST_OK);
        status = storec_create(n->client, size, out);
    }
    while (storec_next_return(n->client, &offset)) {
        assert_int_equal(store_on_return(n->store, n->proc, offset), ST_OK);
    }
    return status;
}

static void
fill(void *data, uint64_t size, unsigned seed)
{
    unsigned char *bytes = data;
    for (uint64_t i = 0; i < size; i++) {
        bytes[i] = (unsigned char)(i * 7 + seed + (i >> 12));
    }
}

static bool
is_filled(const void *data, uint64_t size, unsigned seed)
{
    const unsigned char *bytes = data;
    for (uint64_t i = 0; i < size; i++) {
        if (bytes[i] != (unsigned char)(i * 7 + seed + (i >> 12))) {
            return false;
        }
    }
    return true;
}

static struct store_hint
put(struct node *n, uint64_t size, unsigned seed)
{
    struct storec_object o;
    struct store_hint hint;
    const struct id_object id = object(seed);
    assert_int_equal(create(n, size, &o), ST_OK);
    assert_int_equal((uintptr_t)o.data % STORE_ALIGN, 0);
    fill(o.data, size, seed);
    storec_seal(n->client, &o, &id, 0, &me, &hint);
    assert_null(o.data);
    return hint;
}

static void
drop(struct node *n, const struct store_hint *hint)
{
    const struct store_ref ref = { .generation = hint->generation, .slot = hint->slot };
    assert_int_equal(store_free(n->store, &me, &ref), ST_OK);
}

static uint64_t
used(struct node *n)
{
    struct store_stats s;
    store_stats(n->store, &s);
    return s.used;
}

static void
test_put_and_get(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {
        0, 1, 63, 64, 4096, 100001, 512 * 1024, 512 * 1024 + 1, 3 * 1024 * 1024 + 17
    };
    struct store_hint hints[COUNT_OF(sizes)];
    struct storec_view views[COUNT_OF(sizes)];
    struct node n;
    node_open(&n, 64 * MIB, false);
    for (unsigned i = 0; i < COUNT_OF(sizes); i++) {
        hints[i] = put(&n, sizes[i], i);
        assert_int_equal(hints[i].size, sizes[i]);
    }
    for (unsigned i = 0; i < COUNT_OF(sizes); i++) {
        assert_int_equal(storec_pin(n.client, &hints[i], &views[i]), ST_OK);
        assert_true(is_filled(views[i].data, sizes[i], i));
    }
    assert_int_equal(storec_pins_held(n.client), COUNT_OF(sizes));
    for (unsigned i = 0; i < COUNT_OF(sizes); i++) {
        drop(&n, &hints[i]);
    }
    (void)store_work(n.store, 1);
    for (unsigned i = 0; i < COUNT_OF(sizes); i++) {
        assert_true(is_filled(views[i].data, sizes[i], i));
        storec_unpin(&views[i]);
        storec_unpin(&views[i]); /* harmless */
        assert_int_equal(storec_pin(n.client, &hints[i], &views[i]), ST_WOULD_BLOCK);
    }
    (void)store_work(n.store, MIB * MIB);
    assert_int_equal(storec_pin(n.client, &hints[0], &views[0]), ST_OBJECT_FREED);
    storec_give_back(n.client, false);
    uint64_t offset = 0;
    while (storec_next_return(n.client, &offset)) {
        assert_int_equal(store_on_return(n.store, n.proc, offset), ST_OK);
    }
    assert_int_equal(used(&n), 0);
    node_close(&n);
    assert_int_equal(live_bytes, 0);
}

static void
test_bad_hints_are_refused(void **state)
{
    (void)state;
    struct node n;
    struct storec_view view;
    node_open(&n, 8 * MIB, false);
    const struct store_hint good = put(&n, 2 * MIB, 1);
    store_adopt(n.store, n.proc);
    struct store_hint bad = good;
    bad.epoch++;
    assert_int_equal(storec_pin(n.client, &bad, &view), ST_OBJECT_FREED);
    bad = good;
    bad.generation = 0;
    assert_int_equal(storec_pin(n.client, &bad, &view), ST_OBJECT_FREED);
    bad.generation = good.generation + (UINT64_C(1) << STORE_GENERATION_BITS);
    assert_int_equal(storec_pin(n.client, &bad, &view), ST_OBJECT_FREED);
    bad = good;
    bad.slot = UINT32_MAX;
    assert_int_equal(storec_pin(n.client, &bad, &view), ST_PROTOCOL);
    bad = good;
    bad.size = UINT64_MAX;
    assert_int_equal(storec_pin(n.client, &bad, &view), ST_PROTOCOL);
    bad = good;
    bad.offset = UINT64_MAX - 5;
    assert_int_equal(storec_pin(n.client, &bad, &view), ST_PROTOCOL);
    bad = good;
    bad.offset += 4096;
    assert_int_equal(storec_pin(n.client, &bad, &view), ST_PROTOCOL);
    bad = good;
    bad.slot++; /* never granted */
    assert_int_equal(storec_pin(n.client, &bad, &view), ST_OBJECT_FREED);
    assert_int_equal(storec_pin(n.client, &good, &view), ST_OK);
    storec_unpin(&view);

    struct storec_object o;
    struct store_grant grant;
    assert_int_equal(store_grant_object(n.store, n.proc, MIB, &grant), ST_OK);
    struct store_grant lie = grant;
    lie.offset = 8 * MIB;
    assert_int_equal(storec_create_in(n.client, &lie, MIB, &o), ST_PROTOCOL);
    lie = grant;
    lie.slots[0].seal = STORE_SEALS;
    assert_int_equal(storec_create_in(n.client, &lie, MIB, &o), ST_PROTOCOL);
    assert_int_equal(storec_create_in(n.client, &grant, 2 * MIB, &o), ST_PROTOCOL);
    assert_int_equal(storec_on_grant(n.client, &grant), ST_PROTOCOL);
    node_close(&n);
    assert_int_equal(live_bytes, 0);
}

static void
test_regions_are_asked_for_ahead(void **state)
{
    (void)state;
    struct node n;
    struct storec_object o[3];
    struct store_grant grant;
    struct store_hint hint;
    uint64_t offset = 0;
    node_open(&n, 64 * MIB, false);
    assert_int_equal(storec_regions_wanted(n.client), 0);
    assert_int_equal(storec_create(n.client, 400000, &o[0]), ST_WOULD_BLOCK);
    assert_int_equal(storec_regions_wanted(n.client), 1);
    storec_asked(n.client, 1);
    assert_int_equal(storec_regions_wanted(n.client), 0);
    assert_int_equal(store_grant_region(n.store, n.proc, &grant), ST_OK);
    assert_int_equal(storec_on_grant(n.client, &grant), ST_OK);
    assert_int_equal(storec_create(n.client, 400000, &o[0]), ST_OK);
    assert_int_equal(storec_regions_wanted(n.client), 0);
    assert_int_equal(storec_create(n.client, 400000, &o[1]), ST_OK);
    assert_int_equal(storec_regions_wanted(n.client), 1); /* more than half is used */
    assert_int_equal(storec_create(n.client, 400000, &o[2]), ST_WOULD_BLOCK);

    /* The full region goes back when what is made in it is done; an aborted slot counts too. */
    const struct id_object id = object(1);
    assert_false(storec_next_return(n.client, &offset));
    storec_abort(n.client, &o[1]);
    assert_false(storec_next_return(n.client, &offset));
    storec_seal(n.client, &o[0], &id, 0, &me, &hint);
    assert_true(storec_next_return(n.client, &offset));
    assert_int_equal(offset, grant.offset);
    assert_int_equal(store_on_return(n.store, n.proc, offset), ST_OK);
    assert_int_equal(used(&n), 400000);

    /* An abort gives slot and memory to the next object of the region. */
    assert_int_equal(create(&n, 1000, &o[0]), ST_OK);
    const struct storec_object first = o[0];
    storec_abort(n.client, &o[0]);
    assert_int_equal(create(&n, 1000, &o[0]), ST_OK);
    assert_int_equal(o[0].offset, first.offset);
    assert_int_equal(o[0].generation, first.generation);
    storec_abort(n.client, &o[0]);

    /* An aborted large object's grant comes back, with nothing of it kept. */
    assert_int_equal(create(&n, 2 * MIB, &o[0]), ST_OK);
    storec_abort(n.client, &o[0]);
    storec_give_back(n.client, false);
    while (storec_next_return(n.client, &offset)) {
        assert_int_equal(store_on_return(n.store, n.proc, offset), ST_OK);
    }
    assert_int_equal(used(&n), 400000);
    node_close(&n);
    assert_int_equal(live_bytes, 0);
}

static void
write_to(void *arg)
{
    *(volatile unsigned char *)arg = 1;
}

static void
test_stray_writes_fault(void **state)
{
    (void)state;
    struct node n;
    struct storec_view view;
    struct storec_object o;
    node_open(&n, 8 * MIB, false);
    const struct store_hint hint = put(&n, 2 * MIB, 3);
    assert_int_equal(storec_pin(n.client, &hint, &view), ST_OK);
    assert_true(harness_dies(write_to, (void *)(uintptr_t)view.data));
    assert_true(is_filled(view.data, view.size, 3));
    /* The raylet's half and the slot table can't be made writable at all. */
    const struct store_ctl_raylet *half = storec_raylet_half(n.client);
    void *page = (void *)(uintptr_t)half;
    assert_true(mprotect(page, 4096, PROT_READ | PROT_WRITE) != 0);
    /* In a child, memory of an object being made is not there. */
    assert_int_equal(create(&n, 100, &o), ST_OK);
    assert_true(harness_dies(write_to, o.data));
    storec_abort(n.client, &o);
    storec_unpin(&view);
    node_close(&n);
}

static void
test_views_outlive_the_store(void **state)
{
    (void)state;
    struct node n;
    struct storec_view a, b;
    node_open(&n, 8 * MIB, false);
    const struct store_hint hint = put(&n, 2 * MIB, 3);
    assert_int_equal(storec_pin(n.client, &hint, &a), ST_OK);
    assert_int_equal(storec_pin(n.client, &hint, &b), ST_OK);
    node_close(&n); /* also the server's end */
    assert_true(live_bytes > 0);
    assert_true(is_filled(a.data, a.size, 3));
    storec_unpin(&a);
    assert_true(is_filled(b.data, b.size, 3));
    storec_unpin(&b);
    assert_int_equal(live_bytes, 0);
}

static void
test_objects_being_made_outlive_the_store(void **state)
{
    (void)state;
    struct node n;
    struct storec_object small, large;
    struct storec_view view;
    node_open(&n, 8 * MIB, false);
    const struct store_hint hint = put(&n, 1000, 3);
    assert_int_equal(create(&n, 1000, &small), ST_OK);
    assert_int_equal(create(&n, 2 * MIB, &large), ST_OK);
    assert_int_equal(storec_pin(n.client, &hint, &view), ST_OK);
    node_close(&n);
    memset(large.data, 1, large.size); /* as a thread would that copies without the lock */
    storec_abort(large.store, &large);
    assert_true(is_filled(view.data, view.size, 3));
    storec_unpin(&view);
    memset(small.data, 1, small.size);
    assert_true(live_bytes > 0);
    storec_abort(small.store, &small);
    assert_int_equal(live_bytes, 0);
}

static void
in_child(void *arg)
{
    struct storec_view *view = arg;
    struct storec *store = view->store;
    struct storec_object o;
    storec_after_fork_child(store);
    const bool read = is_filled(view->data, view->size, 4);
    const bool closed = storec_create(store, 10, &o) == ST_CLOSED;
    storec_unpin(view);
    storec_close(&store);
    _exit(read && closed ? 0 : 1);
}

static void
test_forked_children_keep_their_views(void **state)
{
    (void)state;
    struct node n;
    struct storec_view a, b, other;
    uint32_t first = 0, second = 0;
    node_open(&n, 16 * MIB, false);
    const struct store_hint hint = put(&n, 2 * MIB, 4);
    const struct store_hint plain = put(&n, 2 * MIB, 5);
    assert_int_equal(storec_pin(n.client, &hint, &a), ST_OK);
    assert_int_equal(storec_pin(n.client, &hint, &b), ST_OK);
    assert_int_equal(storec_pin(n.client, &plain, &other), ST_OK);
    storec_unpin(&other);
    assert_int_equal(storec_fork_hold(n.client, &first), ST_OK);
    assert_int_equal(harness_child(in_child, &a), 0);
    assert_int_equal(storec_pins_held(n.client), 2);
    storec_unpin(&a);
    assert_int_equal(storec_fork_hold(n.client, &second), ST_OK);
    storec_unpin(&b);
    drop(&n, &hint);
    drop(&n, &plain);
    (void)store_work(n.store, 1);
    assert_int_equal(used(&n), 2 * MIB); /* nothing holds the plain one */
    storec_fork_release(n.client, first);
    (void)store_work(n.store, UINT64_C(1) << 40);
    assert_int_equal(used(&n), 2 * MIB); /* the second child may read it */
    storec_fork_release(n.client, second);
    storec_fork_release(n.client, second);
    (void)store_work(n.store, UINT64_C(1) << 41);
    assert_int_equal(used(&n), 0);
    assert_int_equal(storec_pins_held(n.client), 0);
    node_close(&n);
    assert_int_equal(live_bytes, 0);
}

static void
test_many_pins(void **state)
{
    (void)state;
    enum { MANY = 20000 };
    struct node n;
    static struct storec_view views[MANY];
    node_open(&n, 8 * MIB, false);
    const struct store_hint hint = put(&n, 1000, 6);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < MANY; i++) {
            assert_int_equal(storec_pin(n.client, &hint, &views[i]), ST_OK);
        }
        assert_int_equal(storec_pins_held(n.client), MANY);
        for (unsigned i = 0; i < MANY - (round == 1); i++) {
            storec_unpin(&views[i]);
        }
    }
    struct store_ctl_process *half = storec_process_half(n.client);
    assert_int_equal(half->pin_pages.raw, (MANY + STORE_PINS_PER_PAGE - 1) / STORE_PINS_PER_PAGE);
    drop(&n, &hint);
    (void)store_work(n.store, 1);
    struct store_stats s;
    store_stats(n.store, &s);
    assert_int_equal(s.dying, 1); /* found in an extension page */
    storec_unpin(&views[MANY - 1]);
    (void)store_work(n.store, UINT64_C(1) << 40);
    store_stats(n.store, &s);
    assert_int_equal(s.dying, 0);
    node_close(&n);
    assert_int_equal(live_bytes, 0);
}

struct unpinner {
    struct storec_view *views;
    unsigned count;
};

static void
unpin_all(void *arg)
{
    const struct unpinner *u = arg;
    for (unsigned i = 0; i < u->count; i++) {
        storec_unpin(&u->views[i]);
    }
}

static void
test_unpin_from_other_threads(void **state)
{
    (void)state;
    enum { BATCH = 500, ROUNDS = 40, THREADS = 3 };
    static struct storec_view views[THREADS][2][BATCH];
    struct node n;
    struct unpinner jobs[THREADS][2];
    void *running[THREADS] = { NULL };
    node_open(&n, 8 * MIB, false);
    const struct store_hint hint = put(&n, 1000, 6);
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned t = 0; t < THREADS; t++) {
            struct unpinner *job = &jobs[t][round % 2];
            *job = (struct unpinner){ views[t][round % 2], BATCH };
            for (unsigned i = 0; i < BATCH; i++) {
                assert_int_equal(storec_pin(n.client, &hint, &job->views[i]), ST_OK);
            }
            if (running[t]) {
                os_thread_join(running[t]);
            }
            running[t] = thread_start(unpin_all, job);
            assert_non_null(running[t]);
        }
    }
    storec_close(&n.client); /* the last of them ends the store */
    for (unsigned t = 0; t < THREADS; t++) {
        os_thread_join(running[t]);
    }
    assert_int_equal(live_bytes, 0);
    node_close(&n);
}

static void
test_copies_of_all_sizes(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {
        0, 1, 1000, 2 * 1024 * 1024 - 1, 2 * 1024 * 1024 + 77, 40 * 1024 * 1024 + 3
    };
    struct node n;
    node_open(&n, 64 * MIB, true);
    unsigned char *from = malloc(41 * MIB);
    fill(from, 41 * MIB, 8);
    for (unsigned i = 0; i < COUNT_OF(sizes); i++) {
        for (unsigned skew = 0; skew < 3; skew++) {
            struct storec_object o;
            assert_int_equal(create(&n, sizes[i] + 64, &o), ST_OK);
            storec_prepare(&o);
            memset(o.data, 0xee, sizes[i] + 64);
            threads_started = 0;
            unsigned char *to = (unsigned char *)o.data + skew * 13;
            storec_copy(n.client, to, from, sizes[i]);
            assert_memory_equal(to, from, sizes[i]);
            assert_int_equal(to[sizes[i]], 0xee);
            assert_int_equal(threads_started, sizes[i] >= 32 * MIB ? 1 : 0);
            storec_abort(n.client, &o);
            uint64_t offset = 0;
            while (storec_next_return(n.client, &offset)) {
                assert_int_equal(store_on_return(n.store, n.proc, offset), ST_OK);
            }
        }
    }
    free(from);
    node_close(&n);
    assert_int_equal(live_bytes, 0);
}

static void
test_the_file_is_small_again_after_a_large_object(void **state)
{
    (void)state;
    struct node n;
    uint64_t resident = 0;
    node_open(&n, 256 * MIB, true);
    assert_int_equal(os_shm_resident(n.fds.data, &resident), ST_OK);
    assert_int_equal(resident, 0);
    const struct store_hint hint = put(&n, 60 * MIB, 3);
    store_adopt(n.store, n.proc);
    uint64_t now = 1;
    while (store_work(n.store, now) == now) {
    }
    assert_int_equal(os_shm_resident(n.fds.data, &resident), ST_OK);
    assert_true(resident >= 60 * MIB);
    drop(&n, &hint);
    uint64_t next = now;
    while (next != UINT64_MAX) {
        next = store_work(n.store, now);
        now = next == UINT64_MAX ? now : next;
    }
    assert_int_equal(os_shm_resident(n.fds.data, &resident), ST_OK);
    assert_int_equal(resident, 0);
    const struct store_hint again = put(&n, 30 * MIB, 4);
    struct storec_view view;
    assert_int_equal(storec_pin(n.client, &again, &view), ST_OK);
    assert_true(is_filled(view.data, view.size, 4));
    storec_unpin(&view);
    node_close(&n);
}

/* One life of a node and a client; false when something was refused. Leaks are seen by the harness.
 */
static bool
try_life(uint64_t capacity)
{
    struct node n = { 0 };
    bool good = false;
    const struct store_shm_config shm = { .mem = &counting, .capacity = capacity, .huge = true };
    struct store_config config = { .mem = os_mem_system(), .epoch = 5, .idle_ns = 1 };
    struct storec_config client = { .mem = &counting };
    if (store_shm_open(&shm, &n.shm) != ST_OK) {
        return false;
    }
    store_shm_configure(n.shm, &config);
    if (store_create(&config, &n.store) != ST_OK) {
        goto close_shm;
    }
    if (store_proc_add(n.store, &me, 1, "driver", &n.proc) != ST_OK) {
        goto destroy;
    }
    assert_int_equal(store_shm_fds(n.shm, n.proc, &n.fds), ST_OK);
    client.data_fd = n.fds.data;
    client.slots_fd = n.fds.slots;
    client.ctl_fd = n.fds.ctl;
    client.ctl_fixed_fd = n.fds.ctl_fixed;
    if (storec_open(&client, &n.client) != ST_OK) {
        goto destroy;
    }
    struct storec_object o;
    struct storec_view view;
    struct store_hint hint;
    const struct id_object id = object(1);
    if (create(&n, 4 * MIB, &o) != ST_OK) {
        goto close_client;
    }
    storec_prepare(&o);
    memset(o.data, 1, o.size);
    storec_seal(n.client, &o, &id, 0, &me, &hint);
    if (storec_pin(n.client, &hint, &view) != ST_OK) {
        goto close_client;
    }
    storec_unpin(&view);
    drop(&n, &hint);
    for (uint64_t now = 1; now != UINT64_MAX;) {
        now = store_work(n.store, now);
    }
    good = true;
close_client:
    storec_close(&n.client);
destroy:
    store_destroy(&n.store);
close_shm:
    store_shm_close(&n.shm);
    return good;
}

static void
test_failing_system_calls(void **state)
{
    (void)state;
    unsigned refused = 0;
    for (const struct flt_point *p = flt_next("os.shm."); p; p = flt_next(p->name)) {
        if (strncmp(p->name, "os.shm.", 7) != 0) {
            break;
        }
        for (unsigned nth = 1;; nth++) {
            char fault[128];
            (void)snprintf(fault, sizeof(fault), "%s:error:nth=%u", p->name, nth);
            flt_disarm_all();
            assert_int_equal(flt_arm(fault, NULL, true), ST_OK);
            const bool good = try_life(16 * MIB);
            assert_int_equal(live_bytes, 0);
            refused += !good;
            if (flt_fired(p->name) == 0) {
                if (!good || nth == 1) {
                    fail_msg("%s was passed %u times, the life was %s", p->name, nth - 1,
                             good ? "good" : "bad");
                }
                break;
            }
            assert_true(nth < 100);
        }
    }
    flt_disarm_all();
    assert_true(refused > 10);
}

static void
test_failing_allocations(void **state)
{
    (void)state;
    bool good = false;
    for (int64_t nth = 0; !good; nth++) {
        fail_after = nth;
        good = try_life(16 * MIB);
        good = good && fail_after >= 0; /* it ended before the allocation that was to fail */
        fail_after = -1;
        assert_int_equal(live_bytes, 0);
        assert_true(nth < 100);
    }
}

static void
test_status_words(void **state)
{
    (void)state;
    struct node n;
    struct store_status_copy copy;
    const struct id_task task = { .b = { 1, 2, 3, 4 } };
    node_open(&n, 8 * MIB, false);
    storec_status_begin(n.client, &task, 2, STORE_STATUS_RETRIABLE, 12345, 42, "module.function");
    storec_status_flags(n.client, STORE_STATUS_BLOCKED, 0);
    assert_true(store_proc_status(n.store, n.proc, &copy));
    assert_memory_equal(&copy.task, &task, sizeof(task));
    assert_int_equal(copy.start_ns, 12345);
    assert_int_equal(copy.attempt, 2);
    assert_int_equal(copy.flags, STORE_STATUS_BUSY | STORE_STATUS_RETRIABLE | STORE_STATUS_BLOCKED);
    assert_string_equal(copy.name, "module.function");
    storec_status_end(n.client);
    assert_true(store_proc_status(n.store, n.proc, &copy));
    assert_int_equal(copy.flags, 0);
    assert_true(ID_IS_NIL(copy.task));
    assert_string_equal(copy.name, "");
    char name[300];
    memset(name, 'x', sizeof(name));
    name[299] = 0;
    storec_status_begin(n.client, &task, 0, 0, 1, 42 + STORE_NAMES, name);
    assert_true(store_proc_status(n.store, n.proc, &copy));
    assert_int_equal(strlen(copy.name), STORE_NAME_MAX - 1);
    storec_status_begin(n.client, &task, 0, 0, 1, 42, "module.function");
    assert_true(store_proc_status(n.store, n.proc, &copy));
    assert_string_equal(copy.name, "module.function");
    node_close(&n);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_and_get),
        cmocka_unit_test(test_bad_hints_are_refused),
        cmocka_unit_test(test_regions_are_asked_for_ahead),
        cmocka_unit_test(test_stray_writes_fault),
        cmocka_unit_test(test_views_outlive_the_store),
        cmocka_unit_test(test_objects_being_made_outlive_the_store),
        cmocka_unit_test(test_forked_children_keep_their_views),
        cmocka_unit_test(test_many_pins),
        cmocka_unit_test(test_unpin_from_other_threads),
        cmocka_unit_test(test_copies_of_all_sizes),
        cmocka_unit_test(test_the_file_is_small_again_after_a_large_object),
        cmocka_unit_test(test_failing_system_calls),
        cmocka_unit_test(test_failing_allocations),
        cmocka_unit_test(test_status_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
