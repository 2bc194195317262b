/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net_bell by itself, against a peer that scribbles, and with a receiver that really sleeps, among
 * threads and among processes of which one is killed. That no interleaving breaks it is
 * the part of tests/interleave/model_bell.c and model_bell_threads.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/rand.h"
#include "net/net_bell.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static _Alignas(64) struct net_bell_page page;
static struct net_bell bell;

static int
setup(void **state)
{
    (void)state;
    return net_bell_init(&bell, &page, sizeof page, NET_BELL_RINGS);
}

static struct net_bell_tx
sender(uint32_t ring)
{
    struct net_bell_tx tx = { 0 };

    assert_int_equal(net_bell_tx_init(&tx, &page, sizeof page, ring), ST_OK);
    return tx;
}

/* Takes everything; the rings in the order given, their number in *n. */
static void
take_all(uint32_t *rings, unsigned cap, unsigned *n)
{
    struct net_bell_take take;
    uint32_t ring;

    *n = 0;
    net_bell_take_begin(&bell, &take);
    while (net_bell_take_next(&take, &ring)) {
        assert_true(*n < cap);
        rings[(*n)++] = ring;
    }
    net_bell_take_end(&take);
}

static void
test_checks(void **state)
{
    struct net_bell_tx tx;

    (void)state;
    assert_int_equal(net_bell_init(&bell, &page, sizeof page - 1, 1), ST_INVALID_ARGUMENT);
    assert_int_equal(net_bell_init(&bell, &page, sizeof page, NET_BELL_RINGS + 1),
                     ST_INVALID_ARGUMENT);
    assert_int_equal(net_bell_tx_init(&tx, &page, sizeof page, NET_BELL_RINGS),
                     ST_INVALID_ARGUMENT);
    assert_int_equal(net_bell_tx_init(&tx, &page, sizeof page - 1, 0), ST_PROTOCOL);
    page.version++;
    assert_int_equal(net_bell_tx_init(&tx, &page, sizeof page, 0), ST_PROTOCOL);
    page.version--;
    page.magic = 0;
    assert_int_equal(net_bell_tx_init(&tx, &page, sizeof page, 0), ST_PROTOCOL);
}

static void
test_states(void **state)
{
    struct net_bell_tx tx = sender(9);
    uint32_t rings[4];
    unsigned n;

    (void)state;
    assert_true(net_bell_mark(&tx, 0, NET_BELL_CALM));  /* born asleep */
    assert_false(net_bell_mark(&tx, 0, NET_BELL_CALM)); /* one bell a sleep */
    assert_true(net_bell_lead(&bell, 1));
    assert_false(net_bell_lead(&bell, 2));
    take_all(rings, 4, &n);
    assert_int_equal(n, 1);
    assert_int_equal(rings[0], 9);

    assert_false(net_bell_mark(&tx, 1000000, NET_BELL_URGENT)); /* polling */
    assert_false(net_bell_sleep_prepare(&bell, false));         /* it was marked */
    take_all(rings, 4, &n);
    assert_int_equal(n, 1);
    assert_true(net_bell_sleep_prepare(&bell, false));
    assert_true(net_bell_mark(&tx, 0, NET_BELL_CALM));
    net_bell_poll_begin(&bell);
    take_all(rings, 4, &n);

    net_bell_set_threshold(&bell, 500);
    assert_false(net_bell_leave(&bell, true)); /* lazy; the ticker runs */
    assert_false(net_bell_mark(&tx, 499, NET_BELL_CALM));
    assert_true(net_bell_mark(&tx, 500, NET_BELL_CALM));
    assert_false(net_bell_mark(&tx, 600, NET_BELL_CALM)); /* rung already */
    assert_true(net_bell_lead(&bell, 2));
    take_all(rings, 4, &n);
    assert_int_equal(n, 1);
    assert_false(net_bell_leave(&bell, true));
    assert_true(net_bell_mark(&tx, 0, NET_BELL_URGENT)); /* urgent */
    take_all(rings, 4, &n);
    assert_true(net_bell_lead(&bell, 1));
    assert_int_equal(page.state.raw, NET_BELL_LAZY); /* left as it is */
    assert_true(net_bell_sleep_prepare(&bell, true));
    assert_int_equal(page.state.raw, NET_BELL_DOZING);
    assert_false(net_bell_mark(&tx, 499, NET_BELL_CALM));
    assert_true(net_bell_mark(&tx, 499, NET_BELL_WAITED));
    page.state.raw = 4711; /* scribbled */
    take_all(rings, 4, &n);
    assert_true(net_bell_mark(&tx, 0, NET_BELL_CALM));
}

static void
test_parking(void **state)
{
    struct net_bell_tx tx = sender(1);
    uint32_t rings[4];
    unsigned n;

    (void)state;
    assert_true(net_bell_park_prepare(&bell)); /* asleep, nothing marked */
    assert_true(net_bell_lead(&bell, 1));
    assert_true(net_bell_leave(&bell, true)); /* lazy needs a tick: kick */
    net_bell_park_end(&bell);
    assert_false(net_bell_park_prepare(&bell)); /* lazy: tick */
    net_bell_park_end(&bell);
    net_bell_set_threshold(&bell, 500);
    assert_true(net_bell_lead(&bell, 2));
    assert_false(net_bell_park_prepare(&bell)); /* somebody leads, but it is lazy still: tick */
    net_bell_park_end(&bell);
    net_bell_poll_begin(&bell);
    assert_true(net_bell_park_prepare(&bell)); /* somebody leads */
    net_bell_park_end(&bell);
    assert_false(net_bell_mark(&tx, 0, NET_BELL_CALM));
    assert_true(net_bell_leave(&bell, false));  /* marked while it polled */
    assert_false(net_bell_park_prepare(&bell)); /* and not drained yet */
    net_bell_park_end(&bell);
    take_all(rings, 4, &n);
    assert_int_equal(n, 1);
    assert_true(net_bell_park_prepare(&bell));
}

static void
test_bitmap(void **state)
{
    static uint32_t rings[NET_BELL_RINGS];
    struct net_bell_take take;
    uint32_t ring;
    unsigned n;

    (void)state;
    assert_true(net_bell_lead(&bell, 1));
    for (uint32_t i = 0; i < NET_BELL_RINGS; i++) {
        struct net_bell_tx tx = sender(i);

        assert_false(net_bell_mark(&tx, 0, NET_BELL_CALM));
    }
    net_bell_take_begin(&bell, &take); /* breaks off within a leaf: the rest is marked again */
    for (uint32_t i = 0; i < 100; i++) {
        assert_true(net_bell_take_next(&take, &ring));
        assert_int_equal(ring, i);
    }
    net_bell_take_end(&take);
    take_all(rings, NET_BELL_RINGS, &n);
    assert_int_equal(n, NET_BELL_RINGS - 100);
    assert_int_equal(rings[0], 100);
    assert_int_equal(rings[n - 1], NET_BELL_RINGS - 1);
    take_all(rings, NET_BELL_RINGS, &n);
    assert_int_equal(n, 0);
    net_bell_self_mark(&bell, 4000);
    assert_true(net_bell_any(&bell));
    assert_false(net_bell_sleep_prepare(&bell, false));
    take_all(rings, NET_BELL_RINGS, &n);
    assert_int_equal(n, 1);
    assert_int_equal(rings[0], 4000);
}

/* Whatever peers write into the page, the rings handed out are ones that exist. */
static void
test_hostile(void **state)
{
    struct rand rand;

    (void)state;
    rand_init(&rand, 3);
    net_bell_set_rings(&bell, 77);
    assert_true(net_bell_lead(&bell, 1));
    for (unsigned round = 0; round < 1000; round++) {
        struct net_bell_take take;
        uint32_t ring;
        unsigned n = 0;

        page.summary.raw = rand_next(&rand);
        for (unsigned i = 0; i < NET_BELL_LEAVES; i++) {
            page.leaf[i].raw = rand_next(&rand);
        }
        page.state.raw = (uint32_t)rand_next(&rand);
        page.threshold.raw = (uint32_t)rand_next(&rand);
        net_bell_take_begin(&bell, &take);
        while (net_bell_take_next(&take, &ring)) {
            assert_true(ring < 77);
            n++;
        }
        assert_true(n <= 77);
    }
}

/* ---- real sleeping ---- */

enum { SENDERS = 3, FRAMES = 20000 };

/* Shared with a child process where the test has one. */
struct shared {
    struct net_bell_page page;
    struct atom_u64 tail[SENDERS];
};

static struct shared *shared;
static int event;

static void
send_frames(unsigned self, uint64_t n)
{
    struct net_bell_tx tx;
    const uint64_t one = 1;

    assert_int_equal(net_bell_tx_init(&tx, &shared->page, sizeof shared->page, 70 * self), ST_OK);
    for (uint64_t i = 1; i <= n; i++) {
        atom_u64_store(&shared->tail[self], i, ATOM_RELEASE);
        if (net_bell_mark(&tx, i, NET_BELL_CALM)) {
            assert_int_equal(write(event, &one, sizeof one), (int)sizeof one);
        }
    }
}

static void *
send_thread(void *arg)
{
    send_frames(*(const unsigned *)arg, FRAMES);
    return NULL;
}

static void
shared_init(void)
{
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(shared != MAP_FAILED);
    event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert_true(event >= 0);
    assert_int_equal(net_bell_init(&bell, &shared->page, sizeof shared->page, 256), ST_OK);
    assert_true(net_bell_lead(&bell, 1));
}

static void
shared_fini(void)
{
    assert_int_equal(close(event), 0);
    assert_int_equal(munmap(shared, sizeof *shared), 0);
}

/* Drains what is marked, and sleeps if there was nothing. False: a bell was owed and did not come.
 */
static bool
drain_or_sleep(uint64_t *read_up_to, int timeout_ms)
{
    struct net_bell_take take;
    struct pollfd fd = { .fd = event, .events = POLLIN };
    uint32_t ring;
    bool any = false;
    uint64_t count;

    net_bell_take_begin(&bell, &take);
    while (net_bell_take_next(&take, &ring)) {
        assert_int_equal(ring % 70, 0);
        read_up_to[ring / 70] = atom_u64_load(&shared->tail[ring / 70], ATOM_ACQUIRE);
        any = true;
    }
    if (any || !net_bell_sleep_prepare(&bell, false)) {
        return true;
    }
    const int woken = poll(&fd, 1, timeout_ms);

    if (woken > 0) {
        assert_int_equal(read(event, &count, sizeof count), (int)sizeof count);
    }
    net_bell_poll_begin(&bell);
    return woken > 0;
}

static void
test_sleeping_receiver(void **state)
{
    pthread_t threads[SENDERS];
    unsigned numbers[SENDERS];
    uint64_t got[SENDERS] = { 0 };

    (void)state;
    shared_init();
    for (unsigned i = 0; i < SENDERS; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, send_thread, &numbers[i]), 0);
    }
    while (got[0] + got[1] + got[2] < SENDERS * FRAMES) {
        assert_true(drain_or_sleep(got, 60000)); /* only a lost bell waits as long */
    }
    for (unsigned i = 0; i < SENDERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    shared_fini();
}

/* A sender process is killed anywhere; draining its ring at its death finds what it had published.
 */
static void
test_killed_sender(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 20; round++) {
        uint64_t got[SENDERS] = { 0 };
        int status;

        shared_init();
        const pid_t child = fork();

        assert_true(child >= 0);
        if (child == 0) {
            send_frames(1, UINT64_MAX);
            _exit(0);
        }
        while (got[1] < 500 * (round + 1)) {
            assert_true(drain_or_sleep(got, 60000));
        }
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, &status, 0), child);
        const uint64_t tail = atom_u64_load(&shared->tail[1], ATOM_ACQUIRE);

        assert_true(tail >= got[1]);
        shared_fini();
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_checks, setup),  cmocka_unit_test_setup(test_states, setup),
        cmocka_unit_test_setup(test_parking, setup), cmocka_unit_test_setup(test_bitmap, setup),
        cmocka_unit_test_setup(test_hostile, setup), cmocka_unit_test(test_sleeping_receiver),
        cmocka_unit_test(test_killed_sender),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
