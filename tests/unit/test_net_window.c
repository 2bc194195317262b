/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net_window by itself, against a peer that scribbles, and between two threads that race for each
 * task. That no interleaving breaks it is tests/interleave/model_window.c's part.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "net/net_window.h"

#include <pthread.h>
#include <sched.h>

enum { WORDS = 8 };

struct window {
    _Alignas(64) unsigned char memory[64 + 8 * WORDS];
    struct net_window_owner owner;
    struct net_window_worker worker;
    uint64_t own[2 * WORDS]; /* the owner's private memory */
};

static struct window window;

static int
setup(void **state)
{
    memset(&window, 0, sizeof window);
    assert_int_equal(net_window_format(window.memory, sizeof window.memory, WORDS), ST_OK);
    assert_int_equal(
        net_window_owner_init(&window.owner, window.memory, sizeof window.memory, window.own),
        ST_OK);
    assert_int_equal(net_window_worker_init(&window.worker, window.memory, sizeof window.memory),
                     ST_OK);
    *state = &window;
    return 0;
}

static enum net_window_state
look(const struct net_window_push *push)
{
    enum net_window_state at = NET_WINDOW_FREE;

    assert_int_equal(net_window_look(&window.owner, push, &at), ST_OK);
    return at;
}

static void
test_format_checks(void **state)
{
    struct window *w = *state;
    struct net_window_shm *shm = (struct net_window_shm *)(void *)w->memory;

    assert_int_equal(net_window_format(w->memory, sizeof w->memory, 0), ST_INVALID_ARGUMENT);
    assert_int_equal(net_window_format(w->memory, sizeof w->memory, WORDS + 1),
                     ST_INVALID_ARGUMENT);
    assert_int_equal(net_window_format(w->memory, SIZE_MAX, NET_WINDOW_WORDS_MAX + 1),
                     ST_INVALID_ARGUMENT);
    shm->n_words = WORDS + 1;
    assert_int_equal(net_window_owner_init(&w->owner, w->memory, sizeof w->memory, w->own),
                     ST_PROTOCOL);
    assert_int_equal(net_window_worker_init(&w->worker, w->memory, sizeof w->memory), ST_PROTOCOL);
    shm->n_words = 0;
    assert_int_equal(net_window_owner_init(&w->owner, w->memory, sizeof w->memory, w->own),
                     ST_PROTOCOL);
    shm->n_words = WORDS;
    shm->version++;
    assert_int_equal(net_window_owner_init(&w->owner, w->memory, sizeof w->memory, w->own),
                     ST_PROTOCOL);
    shm->version--;
    shm->magic++;
    assert_int_equal(net_window_owner_init(&w->owner, w->memory, sizeof w->memory, w->own),
                     ST_PROTOCOL);
}

/* The legal moves, each once, and each illegal one refused. */
static void
test_moves(void **state)
{
    struct window *w = *state;
    struct net_window_push a, b;

    assert_int_equal(net_window_post(&w->owner, &a), ST_OK);
    assert_int_equal(look(&a), NET_WINDOW_POSTED);
    assert_true(net_window_is_posted(&w->worker, &a));
    assert_true(net_window_start(&w->worker, &a));
    assert_false(net_window_is_posted(&w->worker, &a));
    assert_int_equal(look(&a), NET_WINDOW_STARTED);
    assert_false(net_window_start(&w->worker, &a));
    assert_false(net_window_recall(&w->owner, &a));
    assert_false(net_window_bounce(&w->worker, &a));
    assert_int_equal(net_window_free(&w->owner, &a), ST_OK);
    assert_int_equal(net_window_free(&w->owner, &a), ST_PROTOCOL);

    assert_int_equal(net_window_post(&w->owner, &b), ST_OK);
    assert_int_equal(b.word, a.word); /* the word freed last */
    assert_true(b.number > a.number);
    assert_true(net_window_is_posted(&w->worker, &b));
    assert_false(net_window_is_posted(&w->worker, &a));
    assert_false(net_window_start(&w->worker, &a)); /* an old frame */
    assert_false(net_window_recall(&w->owner, &a));
    assert_true(net_window_recall(&w->owner, &b));
    assert_int_equal(look(&b), NET_WINDOW_RECALLED);
    assert_false(net_window_start(&w->worker, &b));
    assert_false(net_window_bounce(&w->worker, &b));
    assert_int_equal(net_window_free(&w->owner, &b), ST_OK);
    assert_false(net_window_start(&w->worker, &b));

    assert_int_equal(net_window_post(&w->owner, &a), ST_OK);
    assert_true(net_window_bounce(&w->worker, &a));
    assert_int_equal(look(&a), NET_WINDOW_BOUNCED);
    assert_false(net_window_recall(&w->owner, &a));
}

static void
test_full(void **state)
{
    struct window *w = *state;
    struct net_window_push push[WORDS], more;

    for (unsigned i = 0; i < WORDS; i++) {
        assert_int_equal(net_window_post(&w->owner, &push[i]), ST_OK);
        assert_int_equal(push[i].word, i);
    }
    assert_int_equal(net_window_post(&w->owner, &more), ST_WOULD_BLOCK);
    assert_int_equal(net_window_free(&w->owner, &push[3]), ST_OK);
    assert_int_equal(net_window_post(&w->owner, &more), ST_OK);
    assert_int_equal(more.word, 3);
}

static void
test_snapshot(void **state)
{
    struct window *w = *state;
    struct net_window_push push[4];
    struct net_window_entry entries[WORDS];
    uint32_t n = 0;

    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(net_window_post(&w->owner, &push[i]), ST_OK);
    }
    assert_true(net_window_start(&w->worker, &push[1]));
    assert_true(net_window_bounce(&w->worker, &push[2]));
    assert_int_equal(net_window_snapshot(w->memory, sizeof w->memory, entries, WORDS, &n), ST_OK);
    assert_int_equal(n, WORDS);
    assert_false(net_window_had_started(entries, n, &push[0]));
    assert_true(net_window_had_started(entries, n, &push[1]));
    assert_false(net_window_had_started(entries, n, &push[2]));
    assert_int_equal(entries[3].number, push[3].number);
    assert_int_equal(entries[7].state, NET_WINDOW_FREE);
    assert_int_equal(net_window_snapshot(w->memory, sizeof w->memory, entries, 2, &n), ST_OK);
    assert_int_equal(n, 2);
    assert_true(net_window_had_started(entries, n, &push[3])); /* no witness */
}

/* Words that the peer has scribbled over, and pushes that were never made. */
static void
test_hostile(void **state)
{
    struct window *w = *state;
    struct net_window_push push, wrong;
    struct net_window_entry entries[WORDS];
    enum net_window_state at;
    uint32_t n = 0;

    assert_int_equal(net_window_post(&w->owner, &push), ST_OK);
    wrong = push;
    wrong.word = WORDS;
    assert_false(net_window_start(&w->worker, &wrong));
    assert_false(net_window_bounce(&w->worker, &wrong));
    assert_false(net_window_recall(&w->owner, &wrong));
    assert_int_equal(net_window_free(&w->owner, &wrong), ST_PROTOCOL);
    wrong.word = UINT32_MAX;
    assert_false(net_window_start(&w->worker, &wrong));
    wrong = push;
    wrong.number += UINT64_C(1) << 56; /* would be the same word if the high bits fell off */
    assert_false(net_window_start(&w->worker, &wrong));
    wrong.number = 0;
    wrong.word = push.word + 1;
    assert_false(net_window_recall(&w->owner, &wrong)); /* a free word holds push 0 */

    w->owner.words[push.word].raw = (push.number + 1) << 8 | NET_WINDOW_POSTED;
    assert_int_equal(net_window_look(&w->owner, &push, &at), ST_PROTOCOL);
    w->owner.words[push.word].raw = push.number << 8 | 77;
    assert_int_equal(net_window_look(&w->owner, &push, &at), ST_PROTOCOL);
    assert_int_equal(net_window_snapshot(w->memory, sizeof w->memory, entries, WORDS, &n), ST_OK);
    assert_true(net_window_had_started(entries, n, &push));
    w->owner.words[push.word].raw = push.number << 8 | NET_WINDOW_FREE;
    assert_int_equal(net_window_look(&w->owner, &push, &at), ST_PROTOCOL);
}

static void
test_epoch(void **state)
{
    struct atom_u64 epoch = { 0 }, running = { 0 };

    (void)state;
    assert_int_equal(net_window_change_epoch(&epoch, &running, 1), NET_WINDOW_IDLE);
    assert_true(net_window_run_begin(&running, &epoch, 1));
    assert_int_equal(net_window_change_epoch(&epoch, &running, 2), 1);
    net_window_run_end(&running);
    assert_false(net_window_run_begin(&running, &epoch, 1));
    assert_int_equal(running.raw, NET_WINDOW_IDLE);
    assert_true(net_window_run_begin(&running, &epoch, 2));
}

/* ---- a race for every task ---- */

enum { ROUNDS = 20000 };

static struct net_window_push race_push;
static struct atom_u32 race_posted, race_seen, worker_wins;

static void *
race_worker(void *arg)
{
    (void)arg;
    for (uint32_t i = 1; i <= ROUNDS; i++) {
        while (atom_u32_load(&race_posted, ATOM_ACQUIRE) < i) {
            sched_yield();
        }
        const struct net_window_push push = race_push;
        const bool won = i % 5 ? net_window_start(&window.worker, &push)
                               : net_window_bounce(&window.worker, &push);

        if (won) {
            atom_u32_fetch_add(&worker_wins, 1, ATOM_RELAXED);
        }
        atom_u32_store(&race_seen, i, ATOM_RELEASE);
    }
    return NULL;
}

static void
test_race(void **state)
{
    struct window *w = *state;
    pthread_t thread;
    unsigned owner_wins = 0;

    assert_int_equal(pthread_create(&thread, NULL, race_worker, NULL), 0);
    for (uint32_t i = 1; i <= ROUNDS; i++) {
        struct net_window_push push;

        assert_int_equal(net_window_post(&w->owner, &push), ST_OK);
        race_push = push;
        atom_u32_store(&race_posted, i, ATOM_RELEASE);
        const bool won = net_window_recall(&w->owner, &push);
        const enum net_window_state at = look(&push);

        owner_wins += won;
        assert_int_equal(won, at == NET_WINDOW_RECALLED);
        assert_int_equal(net_window_free(&w->owner, &push), ST_OK);
        while (atom_u32_load(&race_seen, ATOM_ACQUIRE) < i) {
            sched_yield();
        }
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(owner_wins + worker_wins.raw, ROUNDS);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_format_checks, setup),
        cmocka_unit_test_setup(test_moves, setup),
        cmocka_unit_test_setup(test_full, setup),
        cmocka_unit_test_setup(test_snapshot, setup),
        cmocka_unit_test_setup(test_hostile, setup),
        cmocka_unit_test_setup(test_epoch, setup),
        cmocka_unit_test_setup(test_race, setup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
