/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net_ring by itself, against a hostile peer, between threads, and between processes of which one
 * is killed. That no interleaving breaks it is tests/interleave/model_ring.c's part.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/rand.h"
#include "net/net_ring.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SIZE = 16 * 1024, PAGE = 4096 };

struct pair {
    unsigned char *memory;
    size_t len;
    struct net_ring_tx tx;
    struct net_ring_rx rx;
};

/* The ring ends where an unmapped page begins, so that a read past it is a crash. */
static void
pair_init(struct pair *pair)
{
    const size_t pages = (net_ring_bytes(SIZE) + PAGE - 1) / PAGE * PAGE;
    unsigned char *base =
        mmap(NULL, pages + PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    assert_true(base != MAP_FAILED);
    assert_int_equal(mprotect(base + pages, PAGE, PROT_NONE), 0);
    pair->len = net_ring_bytes(SIZE);
    pair->memory = base + (pages - pair->len);
    assert_int_equal((uintptr_t)pair->memory % 64, 0);
    assert_int_equal(net_ring_format(pair->memory, pair->len, SIZE), ST_OK);
    assert_int_equal(net_ring_tx_init(&pair->tx, pair->memory, pair->len), ST_OK);
    assert_int_equal(net_ring_rx_init(&pair->rx, pair->memory, pair->len), ST_OK);
}

static void
pair_fini(struct pair *pair)
{
    const size_t pages = (net_ring_bytes(SIZE) + PAGE - 1) / PAGE * PAGE;

    assert_int_equal(munmap(pair->memory + pair->len - pages, pages + PAGE), 0);
}

/* Where nobody waits for room, and so nobody is told. */
static void
advance(struct net_ring_rx *rx)
{
    assert_false(net_ring_advance(rx));
}

static void
release(struct net_ring_rx *rx)
{
    assert_false(net_ring_release(rx));
}

/* Frame number i: its length and bytes follow from i. */
static size_t
frame_len(uint64_t i, size_t max)
{
    return (size_t)(i * UINT64_C(2654435761) % (max + 1));
}

static unsigned char
frame_byte(uint64_t i, size_t at)
{
    return (unsigned char)(i * 31 + at * 7);
}

static void
fill(void *frame, uint64_t i, size_t len)
{
    for (size_t at = 0; at < len; at++) {
        ((unsigned char *)frame)[at] = frame_byte(i, at);
    }
}

static bool
frame_right(const void *frame, uint64_t i, size_t len)
{
    for (size_t at = 0; at < len; at++) {
        if (((const unsigned char *)frame)[at] != frame_byte(i, at)) {
            return false;
        }
    }
    return true;
}

static void
test_format_checks(void **state)
{
    _Alignas(64) static unsigned char memory[192 + SIZE];
    struct net_ring_shm *shm = (struct net_ring_shm *)(void *)memory;
    struct net_ring_tx tx;
    struct net_ring_rx rx;

    (void)state;
    assert_int_equal(net_ring_format(memory, sizeof memory, SIZE - 8), ST_INVALID_ARGUMENT);
    assert_int_equal(net_ring_format(memory, sizeof memory, 8192), ST_INVALID_ARGUMENT);
    assert_int_equal(net_ring_format(memory, sizeof memory, 2 * SIZE), ST_INVALID_ARGUMENT);
    assert_int_equal(net_ring_format(memory, SIZE_MAX, 2 * NET_RING_SIZE_MAX), ST_INVALID_ARGUMENT);
    assert_int_equal(net_ring_tx_init(&tx, memory, sizeof memory), ST_PROTOCOL);
    assert_int_equal(net_ring_format(memory, sizeof memory, SIZE), ST_OK);
    assert_int_equal(net_ring_tx_init(&tx, memory, sizeof memory), ST_OK);
    assert_int_equal(net_ring_rx_init(&rx, memory, sizeof memory), ST_OK);
    assert_int_equal(net_ring_rx_init(&rx, memory, sizeof memory - 1), ST_PROTOCOL);
    shm->version++;
    assert_int_equal(net_ring_rx_init(&rx, memory, sizeof memory), ST_PROTOCOL);
    shm->version--;
    shm->size = UINT64_C(1) << 63;
    assert_int_equal(net_ring_rx_init(&rx, memory, sizeof memory), ST_PROTOCOL);
    shm->size = SIZE;
    shm->tail.raw = SIZE + 8;
    assert_int_equal(net_ring_tx_init(&tx, memory, sizeof memory), ST_PROTOCOL);
}

/* Any order of reserving, publishing and reading, against counters. */
static void
test_random_order(void **state)
{
    struct pair pair;
    struct rand rand;
    uint64_t reserved = 0, published = 0, read = 0;
    const size_t max = net_ring_frame_max(SIZE);

    (void)state;
    pair_init(&pair);
    rand_init(&rand, 7);
    for (unsigned step = 0; step < 200000; step++) {
        const uint64_t what = rand_below(&rand, 8);

        if (what < 4) {
            void *frame = NULL;
            const size_t len = frame_len(reserved, step % 3 ? 100 : max);
            const int status = net_ring_reserve(&pair.tx, len, &frame);

            if (status == ST_OK) {
                fill(frame, len, len); /* contents by length: which is checked below */
                reserved++;
            } else {
                assert_int_equal(status, ST_WOULD_BLOCK);
                assert_true(reserved > read);
            }
        } else if (what == 4) {
            net_ring_publish(&pair.tx);
            published = reserved;
        } else {
            const void *frame;
            size_t len;
            const int status = net_ring_peek(&pair.rx, &frame, &len);

            assert_int_equal(status, read < published ? ST_OK : ST_WOULD_BLOCK);
            if (status == ST_OK) {
                assert_true(frame_right(frame, len, len));
                advance(&pair.rx);
                read++;
            }
        }
    }
    assert_true(read > 10000);
    pair_fini(&pair);
}

static void
test_full_and_room(void **state)
{
    struct pair pair;
    const size_t max = net_ring_frame_max(SIZE);
    const void *got;
    void *frame;
    size_t len;
    unsigned n = 0;

    (void)state;
    pair_init(&pair);
    assert_int_equal(net_ring_reserve(&pair.tx, max + 1, &frame), ST_LIMIT);
    assert_int_equal(net_ring_peek(&pair.rx, &got, &len), ST_WOULD_BLOCK);
    while (net_ring_reserve(&pair.tx, max, &frame) == ST_OK) {
        n++;
    }
    assert_int_equal(n, 4);
    assert_int_equal(net_ring_free_bytes(&pair.tx), 0);
    assert_int_equal(net_ring_peek(&pair.rx, &got, &len), ST_WOULD_BLOCK); /* not published */
    net_ring_publish(&pair.tx);
    assert_int_equal(net_ring_unread_bytes(&pair.tx), SIZE);

    /* Asked for: told once. Not asked for: not told. */
    assert_false(net_ring_want_room(&pair.tx, max));
    assert_int_equal(net_ring_peek(&pair.rx, &got, &len), ST_OK);
    assert_int_equal(len, max);
    assert_true(net_ring_advance(&pair.rx)); /* a quarter: released at once */
    assert_true(net_ring_want_room(&pair.tx, max));
    assert_int_equal(net_ring_peek(&pair.rx, &got, &len), ST_OK);
    assert_true(net_ring_advance(&pair.rx)); /* asked again meanwhile, though it saw the room */
    assert_int_equal(net_ring_peek(&pair.rx, &got, &len), ST_OK);
    assert_false(net_ring_advance(&pair.rx));
    assert_false(net_ring_release(&pair.rx));
    assert_int_equal(net_ring_free_bytes(&pair.tx), SIZE / 4 * 3);
    assert_int_equal(net_ring_reserve(&pair.tx, max, &frame), ST_OK);
    pair_fini(&pair);
}

/* What a drain keeps back is never in the way: after each, at any place in the ring, the largest
 * frame fits. */
static void
test_settled_ring_takes_any_frame(void **state)
{
    struct pair pair;
    const void *got;
    void *frame;
    size_t len;

    (void)state;
    pair_init(&pair);
    const size_t max = net_ring_frame_max(SIZE);
    for (size_t i = 0; i < 3 * SIZE / 8; i++) {
        const size_t small = i % 40;
        assert_int_equal(net_ring_reserve(&pair.tx, max, &frame), ST_OK);
        assert_int_equal(net_ring_reserve(&pair.tx, small, &frame), ST_OK);
        net_ring_publish(&pair.tx);
        for (int n = 0; n < 2; n++) {
            assert_int_equal(net_ring_peek(&pair.rx, &got, &len), ST_OK);
            advance(&pair.rx);
        }
        assert_false(net_ring_settle(&pair.rx));
        assert_int_equal(net_ring_reserve(&pair.tx, small, &frame), ST_OK);
        net_ring_publish(&pair.tx);
        assert_int_equal(net_ring_peek(&pair.rx, &got, &len), ST_OK);
        advance(&pair.rx);
        assert_false(net_ring_settle(&pair.rx)); /* too little to be worth a fence */
    }
    pair_fini(&pair);
}

/* A frame shown again is the same; a release in between gives nothing back that is not read. */
static void
test_peek_is_stable(void **state)
{
    struct pair pair;
    const void *first, *second;
    void *frame;
    size_t len;

    (void)state;
    pair_init(&pair);
    for (uint64_t i = 0; i < 3; i++) {
        assert_int_equal(net_ring_reserve(&pair.tx, 40, &frame), ST_OK);
        fill(frame, i, 40);
    }
    net_ring_publish(&pair.tx);
    assert_int_equal(net_ring_peek(&pair.rx, &first, &len), ST_OK);
    assert_int_equal(net_ring_peek(&pair.rx, &second, &len), ST_OK);
    assert_ptr_equal(first, second);
    release(&pair.rx);
    assert_int_equal(net_ring_free_bytes(&pair.tx), SIZE - 3 * 48);
    advance(&pair.rx);
    assert_int_equal(net_ring_peek(&pair.rx, &second, &len), ST_OK);
    assert_true(frame_right(second, 1, len));
    pair_fini(&pair);
}

/* A producer that writes anything anywhere: an error or frames inside the ring, never a crash. */
static void
test_hostile_producer(void **state)
{
    struct pair pair;
    struct rand rand;
    unsigned errors = 0, frames = 0;
    volatile unsigned char sink = 0;

    (void)state;
    pair_init(&pair);
    rand_init(&rand, 99);
    for (unsigned round = 0; round < 20000; round++) {
        struct net_ring_shm *shm = pair.tx.shm;

        assert_int_equal(net_ring_format(pair.memory, pair.len, SIZE), ST_OK);
        assert_int_equal(net_ring_rx_init(&pair.rx, pair.memory, pair.len), ST_OK);
        shm->tail.raw =
            rand_below(&rand, 2) ? 8 * rand_below(&rand, SIZE / 8 + 2) : rand_next(&rand);
        for (unsigned i = 0; i < SIZE / 8; i += 1 + (unsigned)rand_below(&rand, 64)) {
            const uint64_t kind = rand_below(&rand, 4) ? 0x44 : 0x57;
            const uint64_t header =
                kind << 32 | (rand_below(&rand, 8) ? rand_below(&rand, 600) : rand_next(&rand));

            memcpy(shm->data + 8 * (size_t)i, &header, sizeof header);
        }
        for (unsigned i = 0; i < 3000; i++) {
            const void *frame;
            size_t len;
            const int status = net_ring_peek(&pair.rx, &frame, &len);

            if (status != ST_OK) {
                errors += status == ST_PROTOCOL;
                break;
            }
            assert_true((const unsigned char *)frame >= shm->data &&
                        (const unsigned char *)frame + len <= shm->data + SIZE);
            if (len) {
                sink = ((const unsigned char *)frame)[len - 1];
            }
            advance(&pair.rx);
            frames++;
        }
    }
    (void)sink;
    assert_true(errors > 1000 && frames > 1000);
    pair_fini(&pair);
}

static void
test_hostile_consumer(void **state)
{
    struct pair pair;
    void *frame;

    (void)state;
    pair_init(&pair);
    while (net_ring_reserve(&pair.tx, 1000, &frame) == ST_OK) {
    }
    net_ring_publish(&pair.tx);
    pair.tx.shm->head.raw = SIZE + 8; /* more than was written */
    assert_int_equal(net_ring_reserve(&pair.tx, 1000, &frame), ST_PROTOCOL);
    assert_int_equal(net_ring_free_bytes(&pair.tx), 0);
    assert_true(net_ring_want_room(&pair.tx, 1000)); /* do not sleep: reserve tells why */
    pair.tx.shm->head.raw = 4096;
    assert_int_equal(net_ring_reserve(&pair.tx, 1000, &frame), ST_OK);
    pair.tx.shm->head.raw = 2048; /* back again */
    while (net_ring_reserve(&pair.tx, 1000, &frame) == ST_OK) {
    }
    assert_int_equal(net_ring_reserve(&pair.tx, 1000, &frame), ST_PROTOCOL);
    pair_fini(&pair);
}

enum { THREAD_FRAMES = 100000 };

static void *
produce(void *arg)
{
    struct pair *pair = arg;

    for (uint64_t i = 0; i < THREAD_FRAMES; i++) {
        const size_t len = frame_len(i, i % 100 ? 80 : net_ring_frame_max(SIZE));
        void *frame;

        while (net_ring_reserve(&pair->tx, len, &frame) != ST_OK) {
            net_ring_publish(&pair->tx);
            sched_yield();
        }
        fill(frame, i, len);
        if (i % 3 == 0 || i + 1 == THREAD_FRAMES) {
            net_ring_publish(&pair->tx);
        }
    }
    return NULL;
}

static void
test_threads(void **state)
{
    struct pair pair;
    pthread_t producer;

    (void)state;
    pair_init(&pair);
    assert_int_equal(pthread_create(&producer, NULL, produce, &pair), 0);
    for (uint64_t i = 0; i < THREAD_FRAMES;) {
        const void *frame;
        size_t len;
        const int status = net_ring_peek(&pair.rx, &frame, &len);

        if (status == ST_WOULD_BLOCK) {
            release(&pair.rx);
            sched_yield();
            continue;
        }
        assert_int_equal(status, ST_OK);
        assert_int_equal(len, frame_len(i, i % 100 ? 80 : net_ring_frame_max(SIZE)));
        assert_true(frame_right(frame, i, len));
        advance(&pair.rx);
        i++;
    }
    assert_int_equal(pthread_join(producer, NULL), 0);
    pair_fini(&pair);
}

/* A producer process that is killed at an arbitrary moment: every frame up to tail is whole. */
static void
test_killed_producer(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 20; round++) {
        struct pair pair;
        uint64_t i = 0;
        int status;
        size_t len;
        const void *frame;

        pair_init(&pair);
        const pid_t child = fork();

        assert_true(child >= 0);
        if (child == 0) {
            for (uint64_t n = 0;;) {
                void *to;

                if (net_ring_reserve(&pair.tx, frame_len(n, 200), &to) == ST_OK) {
                    fill(to, n, frame_len(n, 200));
                    n++;
                }
                net_ring_publish(&pair.tx);
            }
        }
        while (i < 1000 * (round + 1)) {
            if (net_ring_peek(&pair.rx, &frame, &len) == ST_OK) {
                assert_int_equal(len, frame_len(i, 200));
                assert_true(frame_right(frame, i, len));
                advance(&pair.rx);
                i++;
            } else {
                release(&pair.rx);
                sched_yield();
            }
        }
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, &status, 0), child);
        while (net_ring_peek(&pair.rx, &frame, &len) == ST_OK) {
            assert_int_equal(len, frame_len(i, 200));
            assert_true(frame_right(frame, i, len));
            advance(&pair.rx);
            i++;
        }
        assert_int_equal(pair.rx.head, pair.tx.shm->tail.raw);
        pair_fini(&pair);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_format_checks),
        cmocka_unit_test(test_random_order),
        cmocka_unit_test(test_full_and_room),
        cmocka_unit_test(test_settled_ring_takes_any_frame),
        cmocka_unit_test(test_peek_is_stable),
        cmocka_unit_test(test_hostile_producer),
        cmocka_unit_test(test_hostile_consumer),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_killed_producer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
