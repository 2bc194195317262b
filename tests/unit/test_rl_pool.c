/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of the worker pool: starts, retries, reuse, idle reaping, draining, ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "raylet/rl_pool.h"

#define MS UINT64_C(1000000)

static int64_t live_bytes;

static void *
counting_resize(void *ctx, void *old, size_t old_size, size_t new_size)
{
    (void)ctx;
    live_bytes += (int64_t)new_size - (int64_t)old_size;
    if (new_size == 0) {
        free(old);
        return NULL;
    }
    return realloc(old, new_size);
}
static const struct mem counting = { .resize = counting_resize };

enum { OUTS = 64 };
struct fixture {
    struct rl_pool pool;
    struct arena arena;
    struct step_out v[OUTS];
    struct step_outs outs;
    uint64_t now, next;
};

static int
setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct rl_pool_config config;
    rl_pool_config_default(&config, 2);
    config.prestart = false;
    rl_pool_init(&f->pool, &counting, &config);
    arena_init(&f->arena, &counting);
    f->outs = (struct step_outs){ .v = f->v, .capacity = OUTS, .arena = &f->arena };
    f->now = 1000 * MS;
    *state = f;
    return 0;
}

static int
teardown(void **state)
{
    struct fixture *f = *state;
    rl_pool_fini(&f->pool);
    arena_fini(&f->arena);
    assert_int_equal(live_bytes, 0);
    free(f);
    return 0;
}

static void
pump(struct fixture *f)
{
    f->next = rl_pool_pump(&f->pool, f->now, &f->outs);
}

static void
clear(struct fixture *f)
{
    f->outs.count = 0;
    f->outs.more = false;
}

static uint32_t
count_of(const struct fixture *f, uint16_t kind)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < f->outs.count; i++) {
        n += f->v[i].kind == kind;
    }
    return n;
}

/* Whom the first out of this kind is about. */
static uint64_t
peer_of(const struct fixture *f, uint16_t kind)
{
    for (uint32_t i = 0; i < f->outs.count; i++) {
        if (f->v[i].kind == kind) {
            return f->v[i].peer;
        }
    }
    fail_msg("no out of kind %u", kind);
    return 0;
}

/* A newborn of the class, idle. */
static struct rl_worker *
born(struct fixture *f, struct rl_class *class_)
{
    rl_pool_wait(&f->pool, class_, 1);
    clear(f);
    pump(f);
    const uint64_t number = peer_of(f, RL_POOL_OUT_START);
    rl_pool_on_spawned(&f->pool, f->now, number, 4242, &f->outs);
    assert_int_equal(peer_of(f, RL_POOL_OUT_GO), number);
    assert_true(rl_pool_on_hello(&f->pool, f->now, number, &f->outs));
    rl_pool_wait(&f->pool, class_, -1);
    clear(f);
    return rl_pool_find(&f->pool, number);
}

static void
test_starts_what_is_waited_for_and_no_more(void **state)
{
    struct fixture *f = *state;
    struct rl_class *class_ = rl_pool_class(&f->pool, 1, 9);
    pump(f);
    assert_int_equal(f->outs.count, 0);
    rl_pool_wait(&f->pool, class_, 1);
    pump(f);
    pump(f);
    assert_int_equal(count_of(f, RL_POOL_OUT_START), 1);
    const struct rl_pool_start *start = f->v[0].msg;
    assert_int_equal(start->job, 1);
    assert_int_equal(start->env_hash, 9);
    for (uint32_t i = 0; i < 5; i++) {
        rl_pool_wait(&f->pool, class_, 1);
    }
    pump(f);
    assert_int_equal(count_of(f, RL_POOL_OUT_START), 2); /* two at a time on two CPUs */
}

static void
test_prestarts_as_many_as_cpus_at_first_demand(void **state)
{
    struct fixture *f = *state;
    f->pool.config.prestart = true;
    struct rl_class *class_ = rl_pool_class(&f->pool, 1, 9);
    rl_pool_wait(&f->pool, class_, 1);
    pump(f);
    assert_int_equal(count_of(f, RL_POOL_OUT_START), 2);
}

static void
test_reuse_needs_the_same_class_value_and_devices(void **state)
{
    struct fixture *f = *state;
    struct rl_class *a = rl_pool_class(&f->pool, 1, 9);
    struct rl_class *b = rl_pool_class(&f->pool, 2, 9);
    assert_ptr_equal(a, rl_pool_class(&f->pool, 1, 9));
    struct rl_worker *w = born(f, a);
    assert_null(rl_pool_take(&f->pool, f->now, b, 1, 0, false));
    assert_ptr_equal(rl_pool_take(&f->pool, f->now, a, 2, 1, false), w); /* unbound: takes any */
    rl_pool_settle(&f->pool, f->now, w);
    rl_pool_idle(&f->pool, f->now, w);
    assert_null(rl_pool_take(&f->pool, f->now, a, 1, 1, false));
    assert_null(rl_pool_take(&f->pool, f->now, a, 2, 2, false));
    assert_ptr_equal(rl_pool_take(&f->pool, f->now, a, 2, 1, false), w);
    /* One that fits exactly is preferred to a fresh one. */
    rl_pool_idle(&f->pool, f->now, w);
    struct rl_worker *fresh = born(f, a);
    assert_ptr_not_equal(fresh, w);
    assert_ptr_equal(rl_pool_take(&f->pool, f->now, a, 2, 1, false), w);
    assert_ptr_equal(rl_pool_take(&f->pool, f->now, a, 1, 0, false), fresh);
}

static void
test_settling_ones_count_as_found(void **state)
{
    struct fixture *f = *state;
    struct rl_class *class_ = rl_pool_class(&f->pool, 1, 9);
    struct rl_worker *w = born(f, class_);
    assert_ptr_equal(rl_pool_take(&f->pool, f->now, class_, 1, 0, false), w);
    rl_pool_settle(&f->pool, f->now, w);
    rl_pool_wait(&f->pool, class_, 1);
    pump(f);
    assert_int_equal(count_of(f, RL_POOL_OUT_START), 0);
    assert_true(f->next <= f->now + 5 * MS);
    f->now += 5 * MS; /* it takes too long */
    pump(f);
    assert_int_equal(count_of(f, RL_POOL_OUT_START), 1);
}

static void
test_three_failures_break_a_class(void **state)
{
    struct fixture *f = *state;
    struct rl_class *class_ = rl_pool_class(&f->pool, 1, 9);
    rl_pool_wait(&f->pool, class_, 1);
    pump(f);
    rl_pool_on_start_failed(&f->pool, f->now, peer_of(f, RL_POOL_OUT_START), "fork: EAGAIN");
    clear(f);
    pump(f);
    assert_int_equal(f->outs.count, 0);
    assert_int_equal(f->next, f->now + 100 * MS);
    f->now = f->next;
    pump(f);
    const uint64_t second = peer_of(f, RL_POOL_OUT_START);
    rl_pool_on_spawned(&f->pool, f->now, second, 7, &f->outs);
    rl_pool_on_dead(&f->pool, f->now, second, "exit status 1");
    rl_pool_on_reclaimed(&f->pool, second);
    f->now += 200 * MS;
    clear(f);
    pump(f);
    const uint64_t third = peer_of(f, RL_POOL_OUT_START);
    rl_pool_on_spawned(&f->pool, f->now, third, 8, &f->outs);
    clear(f);
    f->now += 60000 * MS; /* it never says hello */
    pump(f);
    assert_int_equal(peer_of(f, RL_POOL_OUT_KILL), third);
    assert_true(class_->broken);
    assert_non_null(strstr(class_->evidence, "in time"));
    assert_false(rl_pool_on_hello(&f->pool, f->now, third, &f->outs)); /* too late */
    clear(f);
    pump(f);
    assert_int_equal(f->outs.count, 0);
    rl_pool_mend(&f->pool, f->now, class_);
    pump(f);
    assert_int_equal(count_of(f, RL_POOL_OUT_START), 1);
}

static void
test_idle_beyond_the_cpus_end_in_time(void **state)
{
    struct fixture *f = *state;
    struct rl_class *class_ = rl_pool_class(&f->pool, 1, 9);
    struct rl_worker *w[4];
    for (uint32_t i = 0; i < 4; i++) {
        w[i] = born(f, class_);
        assert_ptr_equal(rl_pool_take(&f->pool, f->now, class_, 1, 0, false), w[i]);
    }
    for (uint32_t i = 0; i < 4; i++) {
        rl_pool_idle(&f->pool, f->now, w[i]);
        f->now += MS;
    }
    rl_pool_on_owning(&f->pool, f->now, w[0]->number, true);
    pump(f);
    assert_int_equal(f->outs.count, 0);
    f->now = f->next;
    pump(f);
    assert_int_equal(count_of(f, RL_POOL_OUT_EXIT), 1);
    assert_int_equal(peer_of(f, RL_POOL_OUT_EXIT), w[1]->number); /* w[0] owns something */
    clear(f);
    f->now += 4 * MS;
    pump(f);
    assert_int_equal(peer_of(f, RL_POOL_OUT_EXIT), w[2]->number);
    clear(f);
    f->now += 5000 * MS; /* both are stubborn */
    pump(f);
    assert_int_equal(count_of(f, RL_POOL_OUT_KILL), 2);
    assert_int_equal(f->pool.count[RL_WORKER_IDLE], 2);
}

static void
test_an_actor_gets_a_process_that_owns_nothing(void **state)
{
    struct fixture *f = *state;
    struct rl_class *class_ = rl_pool_class(&f->pool, 1, 9);
    struct rl_worker *plain = born(f, class_);
    f->now += MS;
    struct rl_worker *owner = born(f, class_);
    rl_pool_on_owning(&f->pool, f->now, owner->number, true);
    assert_ptr_equal(rl_pool_take(&f->pool, f->now, class_, 1, 0, true), plain);
    assert_null(rl_pool_take(&f->pool, f->now, class_, 1, 0, true));
    f->pool.config.cap = 2; /* there can't be another */
    assert_ptr_equal(rl_pool_take(&f->pool, f->now, class_, 1, 0, true), owner);
}

static void
test_draining_is_bounded_and_ends(void **state)
{
    struct fixture *f = *state;
    f->pool.config.draining_max = 1;
    struct rl_class *class_ = rl_pool_class(&f->pool, 1, 9);
    struct rl_worker *w[2];
    for (uint32_t i = 0; i < 2; i++) {
        w[i] = born(f, class_);
        assert_ptr_equal(rl_pool_take(&f->pool, f->now, class_, 1, 0, false), w[i]);
        rl_pool_on_owning(&f->pool, f->now, w[i]->number, true);
    }
    rl_pool_drain(&f->pool, f->now, w[0]);
    rl_pool_drain(&f->pool, f->now, w[1]);
    pump(f);
    assert_int_equal(peer_of(f, RL_POOL_OUT_KILL), w[0]->number);
    clear(f);
    rl_pool_on_owning(&f->pool, f->now, w[1]->number, false);
    assert_int_equal(w[1]->state, RL_WORKER_IDLE);
    assert_ptr_equal(rl_pool_take(&f->pool, f->now, class_, 1, 0, false), w[1]);
    w[1]->retire = true;
    rl_pool_on_owning(&f->pool, f->now, w[1]->number, true);
    rl_pool_drain(&f->pool, f->now, w[1]);
    rl_pool_on_owning(&f->pool, f->now, w[1]->number, false);
    pump(f);
    assert_int_equal(peer_of(f, RL_POOL_OUT_EXIT), w[1]->number);
}

/* It said that it owns something while it was asked to exit: it drains, and is not killed. */
static void
test_an_owner_that_was_asked_to_exit_drains(void **state)
{
    struct fixture *f = *state;
    struct rl_class *class_ = rl_pool_class(&f->pool, 1, 9);
    struct rl_worker *w = born(f, class_);
    rl_pool_exit(&f->pool, f->now, w, RL_END_IDLE, &f->outs);
    rl_pool_on_owning(&f->pool, f->now, w->number, true);
    assert_int_equal(w->state, RL_WORKER_DRAINING);
    clear(f);
    f->now += 2 * f->pool.config.exit_grace_ns;
    pump(f);
    assert_int_equal(count_of(f, RL_POOL_OUT_KILL), 0);
    rl_pool_on_owning(&f->pool, f->now, w->number, false);
    assert_int_equal(w->state, RL_WORKER_DRAINING); /* it doesn't run tasks any more */
    pump(f);
    assert_int_equal(peer_of(f, RL_POOL_OUT_EXIT), w->number);
    f->now += 2 * f->pool.config.exit_grace_ns;
    pump(f);
    assert_int_equal(peer_of(f, RL_POOL_OUT_KILL), w->number);
    rl_pool_on_owning(&f->pool, f->now, w->number, true);
    assert_int_equal(w->state, RL_WORKER_EXITING); /* too late */
}

static void
test_the_cap_makes_room_or_refuses(void **state)
{
    struct fixture *f = *state;
    f->pool.config.cap = 2;
    struct rl_class *a = rl_pool_class(&f->pool, 1, 9);
    struct rl_class *b = rl_pool_class(&f->pool, 2, 9);
    struct rl_worker *busy = born(f, a);
    assert_ptr_equal(rl_pool_take(&f->pool, f->now, a, 1, 0, false), busy);
    struct rl_worker *idle = born(f, a);
    assert_true(rl_pool_can_serve(&f->pool, b));
    rl_pool_wait(&f->pool, b, 1);
    pump(f);
    assert_int_equal(count_of(f, RL_POOL_OUT_START), 0);
    assert_int_equal(peer_of(f, RL_POOL_OUT_EXIT), idle->number);
    assert_false(rl_pool_can_serve(&f->pool, b)); /* that room is promised */
    clear(f);
    rl_pool_on_dead(&f->pool, f->now, idle->number, NULL);
    pump(f);
    assert_int_equal(count_of(f, RL_POOL_OUT_START), 1);
    assert_int_equal(rl_pool_processes(&f->pool), 2);
}

static void
test_the_end_of_a_job_kills_all_but_detached(void **state)
{
    struct fixture *f = *state;
    struct rl_class *class_ = rl_pool_class(&f->pool, 1, 9);
    struct rl_worker *detached = born(f, class_);
    assert_ptr_equal(rl_pool_take(&f->pool, f->now, class_, 1, 0, false), detached);
    rl_pool_dedicate(&f->pool, detached, true);
    struct rl_worker *idle = born(f, class_);
    rl_pool_wait(&f->pool, class_, 1);
    pump(f);
    const uint64_t starting = peer_of(f, RL_POOL_OUT_START);
    rl_pool_wait(&f->pool, class_, -1);
    clear(f);
    rl_pool_end_job(&f->pool, 1, false);
    f->outs.capacity = 1; /* little room: it goes on in the next call */
    pump(f);
    assert_true(f->outs.more);
    clear(f);
    f->outs.capacity = OUTS;
    pump(f);
    assert_int_equal(idle->state, RL_WORKER_EXITING);
    assert_int_equal(detached->state, RL_WORKER_LEASED);
    clear(f);
    /* The zygote reports it only now. */
    rl_pool_on_spawned(&f->pool, f->now, starting, 5, &f->outs);
    assert_int_equal(peer_of(f, RL_POOL_OUT_KILL), starting);
    rl_pool_on_spawned(&f->pool, f->now, 777, 6, &f->outs); /* never heard of */
    assert_int_equal(count_of(f, RL_POOL_OUT_KILL), 2);
    rl_pool_end_job(&f->pool, 99, false);
}

int
main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_starts_what_is_waited_for_and_no_more),
        T(test_prestarts_as_many_as_cpus_at_first_demand),
        T(test_reuse_needs_the_same_class_value_and_devices),
        T(test_settling_ones_count_as_found),
        T(test_three_failures_break_a_class),
        T(test_idle_beyond_the_cpus_end_in_time),
        T(test_an_actor_gets_a_process_that_owns_nothing),
        T(test_draining_is_bounded_and_ends),
        T(test_an_owner_that_was_asked_to_exit_drains),
        T(test_the_cap_makes_room_or_refuses),
        T(test_the_end_of_a_job_kills_all_but_detached),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
