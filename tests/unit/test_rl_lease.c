/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests of the lease server: grants and their order, revocation, reservation, blocking, deaths,
 * epochs, the process cap, words. Driven through its step face.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/status.h"
#include "raylet/rl_lease.h"

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

enum { OUTS = 256, CPU1, CPU2, GPU1, HUGE, ACTOR, KEYS };

struct fixture {
    struct rl_lease m;
    struct res_names names;
    struct sched_keys keys;
    uint32_t key[KEYS];
    struct arena arena;
    struct step_out v[OUTS];
    struct step_outs outs;
    uint64_t now, timer;
    bool auto_spawn, auto_taken, running;
};

static void
put(struct res_set *set, uint32_t name, int64_t amount)
{
    assert_int_equal(res_set_put(set, name, (struct res_amount){ amount * RES_UNIT }), ST_OK);
}

static void
start(struct fixture *f, uint32_t cpus, uint32_t cap)
{
    static const struct {
        uint32_t name;
        int64_t amount;
    } asks[KEYS] = {
        [CPU1] = { RES_CPU, 1 },  [CPU2] = { RES_CPU, 2 },  [GPU1] = { RES_GPU, 1 },
        [HUGE] = { RES_CPU, 99 }, [ACTOR] = { RES_CPU, 0 },
    };
    memset(f, 0, sizeof(*f));
    assert_int_equal(res_names_init(&f->names, &counting), ST_OK);
    sched_keys_init(&f->keys, &counting);
    for (uint32_t i = CPU1; i < KEYS; i++) {
        struct sched_key key = { 0 };
        put(&key.resources, asks[i].name, asks[i].amount);
        key.placement = key.resources;
        if (i == ACTOR) {
            put(&key.placement, RES_CPU, 1);
        }
        assert_int_equal(sched_keys_intern(&f->keys, &key, &f->key[i]), ST_OK);
    }
    struct res_set total = { 0 };
    put(&total, RES_CPU, cpus);
    put(&total, RES_GPU, 2);
    struct rl_lease_config config;
    rl_lease_config_default(&config, cpus);
    config.pool.prestart = false;
    config.pool.cap = cap;
    arena_init(&f->arena, &counting);
    assert_int_equal(rl_lease_init(&f->m, &counting, &config, &total, &f->names, &f->keys), ST_OK);
    f->outs = (struct step_outs){ .v = f->v, .capacity = OUTS, .arena = &f->arena };
    f->now = 1000 * MS;
    f->auto_spawn = f->auto_taken = true;
}

static void
stop(struct fixture *f)
{
    rl_lease_fini(&f->m);
    sched_keys_fini(&f->keys);
    res_names_fini(&f->names);
    arena_fini(&f->arena);
    assert_int_equal(live_bytes, 0);
}

static int step(struct fixture *f, uint16_t kind, uint64_t peer, const void *msg);

/* Does what the raylet's I/O would do with the outs from `from` on. */
static void
serve(struct fixture *f, uint32_t from)
{
    const uint32_t end = f->outs.count; /* what the answers bring is served by them */
    for (uint32_t i = from; i < end; i++) {
        const struct step_out out = f->v[i];
        if (out.kind == RL_OUT_TIMER) {
            f->timer = out.when_ns;
        } else if (out.kind == RL_POOL_OUT_START && f->auto_spawn) {
            const struct rl_in_spawned spawned = { .pid = (int32_t)(1000 + out.peer) };
            assert_int_equal(step(f, RL_IN_SPAWNED, out.peer, &spawned), ST_OK);
            assert_int_equal(step(f, RL_IN_HELLO, out.peer, NULL), ST_OK);
        } else if (out.kind == RL_OUT_TAKE_BACK && f->auto_taken) {
            const struct rl_in_taken taken = {
                .epoch = ((const struct rl_out_take_back *)out.msg)->epoch,
                .running = f->running,
            };
            assert_int_equal(step(f, RL_IN_TAKEN, out.peer, &taken), ST_OK);
        }
    }
}

static int
step(struct fixture *f, uint16_t kind, uint64_t peer, const void *msg)
{
    const uint32_t from = f->outs.count;
    const struct step_in in = { .kind = kind, .now_ns = f->now, .peer = peer, .msg = msg };
    const int status = rl_lease_step(&f->m, &in, &f->outs);
    assert_false(f->outs.more);
    serve(f, from);
    return status;
}

static void
clear(struct fixture *f)
{
    f->outs.count = 0;
}

static void
wait_ms(struct fixture *f, uint64_t ms)
{
    f->now += ms * MS;
    assert_int_equal(step(f, RL_IN_TICK, 0, NULL), ST_OK);
}

static uint64_t
driver(struct fixture *f, uint32_t job)
{
    const uint64_t number = rl_pool_number(&f->m.pool);
    const struct rl_in_driver msg = { .job = job, .pid = 77 };
    assert_int_equal(step(f, RL_IN_DRIVER, number, &msg), ST_OK);
    return number;
}

static void
ask(struct fixture *f, uint64_t owner, uint32_t key, uint32_t count, uint32_t depth)
{
    struct sched_lease_request msg = {
        .cookie = key,
        .key = f->key[key],
        .count = count,
        .depth = depth,
        .kind = key == ACTOR ? SCHED_LEASE_ACTOR : SCHED_LEASE_TASK,
        .name = "work",
    };
    assert_int_equal(step(f, RL_IN_REQUEST, owner, &msg), ST_OK);
}

static uint32_t
count_of(const struct fixture *f, uint16_t kind, uint64_t peer)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < f->outs.count; i++) {
        n += f->v[i].kind == kind && (peer == 0 || f->v[i].peer == peer);
    }
    return n;
}

/* The last message of this kind to the peer. */
static const void *
last(const struct fixture *f, uint16_t kind, uint64_t peer)
{
    for (uint32_t i = f->outs.count; i-- > 0;) {
        if (f->v[i].kind == kind && (peer == 0 || f->v[i].peer == peer)) {
            return f->v[i].msg;
        }
    }
    fail_msg("no out of kind %u", kind);
    return NULL;
}

static struct sched_lease_grant
granted(const struct fixture *f, uint64_t owner)
{
    return *(const struct sched_lease_grant *)last(f, RL_OUT_GRANT, owner);
}

static void
give_back(struct fixture *f, uint64_t owner, uint64_t lease, uint32_t flags)
{
    const struct sched_lease_return msg = { .lease = lease, .flags = flags };
    assert_int_equal(step(f, RL_IN_RETURN, owner, &msg), ST_OK);
}

static void
block(struct fixture *f, const struct sched_lease_grant *grant, bool blocked)
{
    const struct sched_lease_blocked msg = { .epoch = grant->epoch, .blocked = blocked };
    assert_int_equal(step(f, RL_IN_BLOCKED, grant->worker, &msg), ST_OK);
}

static int64_t
free_cpus(const struct fixture *f)
{
    return res_set_get(&f->m.node.available, RES_CPU).v / RES_UNIT;
}

static void
test_a_lease_from_request_to_reuse(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, 1, 64);
    const uint64_t d = driver(&f, 1);
    ask(&f, d, CPU1, 2, 0);
    assert_int_equal(count_of(&f, RL_OUT_GRANT, d), 1);
    const struct sched_lease_grant first = granted(&f, d);
    assert_int_equal(first.cookie, CPU1);
    assert_int_equal(first.omp, 1);
    assert_int_equal(free_cpus(&f), 0);
    clear(&f);
    give_back(&f, d, first.lease, 0);
    const struct sched_lease_grant second = granted(&f, d);
    assert_int_equal(second.worker, first.worker);
    assert_true(second.epoch > first.epoch);
    assert_true(second.lease > first.lease);
    assert_int_equal(count_of(&f, RL_POOL_OUT_START, 0), 0);
    give_back(&f, d, first.lease, 0); /* crossed with something: ignored */
    const struct sched_lease_return never = { .lease = 1000 };
    assert_int_equal(step(&f, RL_IN_RETURN, d, &never), ST_PROTOCOL);
    stop(&f);
}

static void
test_a_settling_worker_is_looked_at_again_and_never_killed(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, 1, 64);
    const uint64_t d = driver(&f, 1);
    ask(&f, d, CPU1, 1, 0);
    const struct sched_lease_grant g = granted(&f, d);
    f.running = true;
    give_back(&f, d, g.lease, 0);
    clear(&f);
    ask(&f, d, CPU1, 1, 0);
    assert_int_equal(count_of(&f, RL_OUT_GRANT, 0), 0);
    wait_ms(&f, 2);
    assert_int_equal(count_of(&f, RL_OUT_TAKE_BACK, g.worker), 1);
    assert_int_equal(count_of(&f, RL_POOL_OUT_KILL, 0), 0);
    f.running = false;
    wait_ms(&f, 2);
    assert_int_equal(granted(&f, d).worker, g.worker);
    stop(&f);
}

static void
test_messages_that_make_no_sense_are_refused(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, 1, 64);
    const uint64_t d = driver(&f, 1), other = driver(&f, 1);
    ask(&f, d, CPU1, 1, 0);
    const struct sched_lease_grant g = granted(&f, d);
    struct sched_lease_request bad = { .key = 999, .count = 1 };
    assert_int_equal(step(&f, RL_IN_REQUEST, d, &bad), ST_PROTOCOL);
    bad = (struct sched_lease_request){ .key = 0, .count = 0 };
    assert_int_equal(step(&f, RL_IN_REQUEST, d, &bad), ST_PROTOCOL);
    bad = (struct sched_lease_request){ .key = 0, .count = 1, .depth = UINT32_MAX };
    assert_int_equal(step(&f, RL_IN_REQUEST, d, &bad), ST_PROTOCOL);
    bad = (struct sched_lease_request){ .key = 0, .count = 1 };
    memset(bad.name, 'x', sizeof(bad.name));
    assert_int_equal(step(&f, RL_IN_REQUEST, d, &bad), ST_PROTOCOL);
    bad = (struct sched_lease_request){ .key = 0, .count = 1 };
    assert_int_equal(step(&f, RL_IN_REQUEST, 12345, &bad), ST_PROTOCOL);
    const struct sched_lease_return stolen = { .lease = g.lease };
    assert_int_equal(step(&f, RL_IN_RETURN, other, &stolen), ST_PROTOCOL);
    const struct rl_in_driver again = { .job = 1 };
    assert_int_equal(step(&f, RL_IN_DRIVER, d, &again), ST_PROTOCOL);
    assert_int_equal(step(&f, RL_IN_HELLO, 4711, NULL), ST_PROTOCOL);
    assert_int_equal(step(&f, 999, d, NULL), ST_PROTOCOL);
    assert_int_equal(rl_lease_find(&f.m, g.lease)->state, RL_LEASE_ACTIVE);
    stop(&f);
}

static void
test_cancel_answers_what_was_left(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, 1, 64);
    const uint64_t d = driver(&f, 1);
    f.auto_spawn = false;
    ask(&f, d, CPU1, 10, 0); /* one of them is forming */
    const struct sched_lease_cancel some = { .cookie = CPU1, .count = 4 };
    assert_int_equal(step(&f, RL_IN_CANCEL, d, &some), ST_OK);
    assert_int_equal(((const struct sched_lease_cancelled *)last(&f, RL_OUT_CANCELLED, d))->count,
                     4);
    const struct sched_lease_cancel all = { .cookie = CPU1, .count = 1000 };
    assert_int_equal(step(&f, RL_IN_CANCEL, d, &all), ST_OK);
    assert_int_equal(((const struct sched_lease_cancelled *)last(&f, RL_OUT_CANCELLED, d))->count,
                     6);
    assert_int_equal(free_cpus(&f), 1);
    struct rl_lease_stats stats;
    rl_lease_get_stats(&f.m, &stats);
    assert_int_equal(stats.leases + stats.pending_records + stats.pending_units, 0);
    stop(&f);
}

static void
test_revoked_after_the_quantum_and_withdrawn(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, 1, 64);
    const uint64_t a = driver(&f, 1), b = driver(&f, 2);
    ask(&f, a, CPU1, 1000000, 0);
    const struct sched_lease_grant g = granted(&f, a);
    wait_ms(&f, 60);
    assert_int_equal(count_of(&f, RL_OUT_REVOKE, 0), 0); /* its own queue is no reason */
    ask(&f, b, CPU1, 1, 0);
    wait_ms(&f, 2);
    wait_ms(&f, 60);
    assert_int_equal(count_of(&f, RL_OUT_REVOKE, a), 1); /* once */
    const struct sched_lease_cancel cancel = { .cookie = CPU1, .count = 1 };
    assert_int_equal(step(&f, RL_IN_CANCEL, b, &cancel), ST_OK);
    wait_ms(&f, 2);
    assert_int_equal(count_of(&f, RL_OUT_WITHDRAW, a), 1);
    assert_int_equal(rl_lease_find(&f.m, g.lease)->state, RL_LEASE_ACTIVE);
    ask(&f, b, CPU1, 1, 0);
    wait_ms(&f, 10);
    assert_int_equal(count_of(&f, RL_OUT_REVOKE, a), 1); /* a new quantum */
    wait_ms(&f, 60);
    assert_int_equal(count_of(&f, RL_OUT_REVOKE, a), 2);
    clear(&f);
    give_back(&f, a, g.lease, 0);
    assert_int_equal(count_of(&f, RL_OUT_GRANT, b), 1);
    assert_int_equal(count_of(&f, RL_OUT_GRANT, a), 0);
    stop(&f);
}

static void
test_an_actor_is_placed_beside_a_million_tasks(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, 1, 64);
    const uint64_t d = driver(&f, 1);
    ask(&f, d, CPU1, 1000000, 0);
    const struct sched_lease_grant task = granted(&f, d);
    ask(&f, d, ACTOR, 1, 0);
    wait_ms(&f, 60);
    assert_int_equal(count_of(&f, RL_OUT_REVOKE, d), 1);
    clear(&f);
    give_back(&f, d, task.lease, 0);
    /* It needed a CPU to be placed and holds none: the task's turn comes at once, too. */
    assert_int_equal(count_of(&f, RL_OUT_GRANT, d), 2);
    assert_int_equal(free_cpus(&f), 0);
    struct rl_lease_stats stats;
    rl_lease_get_stats(&f.m, &stats);
    assert_int_equal(stats.pending_records, 1);
    stop(&f);
}

static void
test_deepest_first_and_a_child_takes_its_parents_cpu(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, 1, 64);
    const uint64_t d = driver(&f, 1);
    ask(&f, d, CPU1, 10000, 0);
    struct sched_lease_grant outer = granted(&f, d);
    uint32_t most = 0;
    for (uint32_t i = 0; i < 50; i++) {
        ask(&f, outer.worker, CPU1, 1, 1);
        block(&f, &outer, true);
        const struct sched_lease_grant inner = granted(&f, outer.worker);
        block(&f, &outer, false);
        assert_int_equal(free_cpus(&f), -1);
        give_back(&f, outer.worker, inner.lease, 0);
        assert_int_equal(free_cpus(&f), 0);
        give_back(&f, d, outer.lease, 0);
        outer = granted(&f, d);
        most = rl_pool_processes(&f.m.pool) > most ? rl_pool_processes(&f.m.pool) : most;
        clear(&f);
        arena_reset(&f.arena);
    }
    assert_true(most <= 2);
    stop(&f);
}

static void
test_a_stale_blocked_notice_changes_nothing(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, 1, 64);
    const uint64_t d = driver(&f, 1);
    ask(&f, d, CPU1, 2, 0);
    const struct sched_lease_grant old = granted(&f, d);
    give_back(&f, d, old.lease, 0);
    const struct sched_lease_grant now = granted(&f, d);
    assert_int_equal(now.worker, old.worker);
    block(&f, &old, true);
    assert_int_equal(free_cpus(&f), 0);
    block(&f, &now, true);
    block(&f, &now, true);
    assert_int_equal(free_cpus(&f), 1);
    block(&f, &now, false);
    assert_int_equal(free_cpus(&f), 0);
    stop(&f);
}

static void
test_a_workers_death_tells_first_and_releases_last(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, 1, 64);
    const uint64_t d = driver(&f, 1);
    ask(&f, d, CPU1, 2, 0);
    const struct sched_lease_grant g = granted(&f, d);
    clear(&f);
    const struct rl_in_evidence evidence = { .text = "signal 9" };
    assert_int_equal(step(&f, RL_IN_DEAD, g.worker, &evidence), ST_OK);
    const struct sched_lease_note *note = last(&f, RL_OUT_LEASE_DEAD, d);
    assert_int_equal(note->lease, g.lease);
    assert_int_equal(note->worker, g.worker);
    assert_int_equal(free_cpus(&f), 0);
    assert_int_equal(count_of(&f, RL_OUT_GRANT, 0), 0);
    give_back(&f, d, g.lease, 0); /* crossed */
    assert_int_equal(step(&f, RL_IN_RECLAIMED, g.worker, NULL), ST_OK);
    assert_int_equal(count_of(&f, RL_OUT_GRANT, d), 1);
    assert_int_equal(step(&f, RL_IN_DEAD, g.worker, &evidence), ST_OK); /* twice is nothing */
    stop(&f);
}

static void
test_an_owners_death_takes_back_kills_or_drains(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, 4, 64);
    const uint64_t d = driver(&f, 1);
    const struct rl_in_evidence evidence = { .text = "signal 9" };
    const struct rl_in_owning owning = { .owning = true }, not_owning = { .owning = false };
    for (uint32_t turn = 0; turn < 3; turn++) {
        ask(&f, d, CPU1, 1, 0);
        const struct sched_lease_grant outer = granted(&f, d);
        ask(&f, outer.worker, CPU1, 1, 1);
        const struct sched_lease_grant inner = granted(&f, outer.worker);
        assert_int_equal(step(&f, RL_IN_OWNING, inner.worker, turn == 2 ? &owning : &not_owning),
                         ST_OK);
        clear(&f);
        f.running = turn == 1;
        assert_int_equal(step(&f, RL_IN_DEAD, outer.worker, &evidence), ST_OK);
        assert_int_equal(step(&f, RL_IN_RECLAIMED, outer.worker, NULL), ST_OK);
        f.running = false;
        const struct rl_worker *worker = rl_pool_find(&f.m.pool, inner.worker);
        if (turn == 0) {
            assert_int_equal(worker->state, RL_WORKER_IDLE);
        } else if (turn == 1) {
            assert_int_equal(count_of(&f, RL_POOL_OUT_KILL, inner.worker), 1);
            assert_int_equal(free_cpus(&f), 3); /* until it is dead and reclaimed */
            assert_int_equal(step(&f, RL_IN_DEAD, inner.worker, &evidence), ST_OK);
            assert_int_equal(step(&f, RL_IN_RECLAIMED, inner.worker, NULL), ST_OK);
        } else {
            assert_int_equal(worker->state, RL_WORKER_DRAINING);
            assert_int_equal(step(&f, RL_IN_OWNING, inner.worker, &not_owning), ST_OK);
            assert_int_equal(worker->state, RL_WORKER_IDLE);
        }
        assert_int_equal(free_cpus(&f), 4);
    }
    stop(&f);
}

static void
test_a_drivers_end_ends_its_job_but_not_detached_actors(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, 4, 64);
    const uint64_t d = driver(&f, 1), other = driver(&f, 2);
    ask(&f, other, CPU1, 1, 0);
    ask(&f, d, CPU1, 1, 0);
    ask(&f, d, ACTOR, 1, 0);
    struct sched_lease_request msg = {
        .cookie = 50,
        .key = f.key[ACTOR],
        .count = 1,
        .kind = SCHED_LEASE_ACTOR,
        .detached = true,
    };
    assert_int_equal(step(&f, RL_IN_REQUEST, d, &msg), ST_OK);
    const struct sched_lease_grant detached = granted(&f, d);
    clear(&f);
    const struct rl_in_evidence evidence = { .text = "gone" };
    const struct rl_in_job job = { .job = 1 };
    assert_int_equal(step(&f, RL_IN_DEAD, d, &evidence), ST_OK);
    assert_int_equal(step(&f, RL_IN_JOB_END, 0, &job), ST_OK);
    assert_int_equal(count_of(&f, RL_POOL_OUT_KILL, 0), 2);
    assert_int_equal(count_of(&f, RL_POOL_OUT_KILL, detached.worker), 0);
    assert_int_equal(rl_lease_find(&f.m, detached.lease)->state, RL_LEASE_ACTIVE);
    rl_lease_kill(&f.m, f.now, detached.lease, &f.outs);
    assert_int_equal(count_of(&f, RL_POOL_OUT_KILL, detached.worker), 1);
    stop(&f);
}

/* A job that goes on without its driver: its detached actors, and what works for them. */
static void
test_a_job_goes_on_for_a_detached_actor(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, 4, 64);
    const uint64_t d = driver(&f, 1), asks = driver(&f, 1);
    struct sched_lease_request msg = {
        .cookie = 50,
        .key = f.key[ACTOR],
        .count = 1,
        .kind = SCHED_LEASE_ACTOR,
        .detached = true,
    };
    assert_int_equal(step(&f, RL_IN_REQUEST, asks, &msg), ST_OK);
    const struct sched_lease_grant detached = granted(&f, asks);
    clear(&f);
    ask(&f, d, CPU1, 1, 0);
    const struct sched_lease_grant of_driver = granted(&f, d);
    clear(&f);
    ask(&f, detached.worker, CPU1, 1, 1);
    const struct sched_lease_grant of_actor = granted(&f, detached.worker);
    clear(&f);
    const struct rl_in_evidence evidence = { .text = "gone" };
    const struct rl_in_job job = { .job = 1, .goes_on = true };
    assert_int_equal(step(&f, RL_IN_JOB_END, 0, &job), ST_OK);
    assert_int_equal(step(&f, RL_IN_DEAD, d, &evidence), ST_OK);
    assert_int_equal(count_of(&f, RL_POOL_OUT_KILL, of_driver.worker), 1);
    assert_int_equal(count_of(&f, RL_POOL_OUT_KILL, detached.worker), 0);
    assert_int_equal(count_of(&f, RL_POOL_OUT_KILL, of_actor.worker), 0);
    /* It is served as before, and so is its being started again. */
    give_back(&f, detached.worker, of_actor.lease, 0);
    clear(&f);
    ask(&f, detached.worker, CPU1, 1, 1);
    (void)granted(&f, detached.worker);
    clear(&f);
    msg.cookie = 51;
    assert_int_equal(step(&f, RL_IN_REQUEST, asks, &msg), ST_OK);
    (void)granted(&f, asks);
    stop(&f);
}

static void
test_gpus_have_devices_and_stay_with_a_retired_process(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, 4, 64);
    const uint64_t d = driver(&f, 1);
    ask(&f, d, GPU1, 3, 0);
    assert_int_equal(count_of(&f, RL_OUT_GRANT, d), 2);
    const struct sched_lease_grant g = granted(&f, d);
    assert_int_equal(g.gpu_mask, 2);
    clear(&f);
    give_back(&f, d, g.lease, SCHED_RETURN_RETIRE);
    assert_int_equal(count_of(&f, RL_POOL_OUT_EXIT, g.worker), 1);
    assert_int_equal(count_of(&f, RL_OUT_GRANT, d), 0);
    const struct rl_in_evidence evidence = { .text = "exit status 0" };
    assert_int_equal(step(&f, RL_IN_DEAD, g.worker, &evidence), ST_OK);
    assert_int_equal(count_of(&f, RL_OUT_LEASE_DEAD, 0), 0); /* it was returned */
    assert_int_equal(step(&f, RL_IN_RECLAIMED, g.worker, NULL), ST_OK);
    assert_int_equal(granted(&f, d).gpu_mask, 2);
    stop(&f);
}

static void
test_a_large_request_is_served_beside_a_stream(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, 2, 64);
    const uint64_t d = driver(&f, 1);
    ask(&f, d, CPU1, 1000, 0);
    uint64_t leases[2] = { 1, 2 };
    ask(&f, d, CPU2, 1, 0);
    bool served = false;
    for (uint32_t turn = 0; turn < 100 && !served; turn++) {
        /* One ends, then the other: never both free by chance. */
        wait_ms(&f, 7);
        clear(&f);
        give_back(&f, d, leases[turn % 2], 0);
        leases[turn % 2] = UINT64_C(1);
        for (uint32_t i = 0; i < f.outs.count; i++) {
            if (f.v[i].kind == RL_OUT_GRANT) {
                const struct sched_lease_grant *g = f.v[i].msg;
                served = served || g->cookie == CPU2;
                leases[turn % 2] = g->lease;
            }
        }
        arena_reset(&f.arena);
    }
    assert_true(served);
    stop(&f);
}

static void
test_what_can_never_run_is_told_once(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, 2, 64);
    const uint64_t d = driver(&f, 1);
    ask(&f, d, HUGE, 1, 0);
    ask(&f, d, HUGE, 5, 0);
    assert_int_equal(count_of(&f, RL_OUT_PENDING, d), 1);
    const struct sched_lease_pending *msg = last(&f, RL_OUT_PENDING, d);
    assert_non_null(strstr(msg->text, "asks for 99 CPU, but the node has 2 in all"));
    char why[RL_WHY_MAX];
    assert_true(rl_lease_why(&f.m, f.now + 1500 * MS, d, HUGE, why));
    assert_non_null(strstr(why, "6 of task 'work' {CPU: 99} for 1.500 s"));
    assert_false(rl_lease_why(&f.m, f.now, d, CPU1, why));
    ask(&f, d, CPU1, 1, 0); /* others are not held up */
    assert_int_equal(count_of(&f, RL_OUT_GRANT, d), 1);
    stop(&f);
}

static void
test_words_for_what_waits(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, 1, 64);
    const uint64_t d = driver(&f, 1);
    char why[RL_WHY_MAX];
    f.auto_spawn = false;
    ask(&f, d, CPU1, 2, 0);
    assert_true(rl_lease_why(&f.m, f.now, d, CPU1, why));
    assert_non_null(strstr(why, "waits for 1 CPU: 0 of 1 are free"));
    assert_non_null(strstr(why, "1 waits for a worker process that is being started"));
    stop(&f);
}

static void
test_failing_starts_fail_what_waits_with_the_evidence(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, 1, 64);
    const uint64_t d = driver(&f, 1);
    f.auto_spawn = false;
    ask(&f, d, CPU1, 5, 0);
    const struct rl_in_evidence evidence = { .text = "ImportError: no module named x" };
    for (uint32_t i = 0; i < 3; i++) {
        uint64_t number = 0;
        for (uint32_t k = 0; k < f.outs.count; k++) {
            number = f.v[k].kind == RL_POOL_OUT_START ? f.v[k].peer : number;
        }
        assert_int_equal(step(&f, RL_IN_START_FAILED, number, &evidence), ST_OK);
        wait_ms(&f, 500);
    }
    uint32_t failed = 0;
    for (uint32_t i = 0; i < f.outs.count; i++) {
        if (f.v[i].kind == RL_OUT_FAILED) {
            const struct sched_lease_failed *msg = f.v[i].msg;
            assert_int_equal(msg->status, ST_WORKER_CRASHED);
            assert_non_null(strstr(msg->text, "ImportError"));
            failed += msg->count;
        }
    }
    assert_int_equal(failed, 5);
    assert_int_equal(free_cpus(&f), 1);
    f.auto_spawn = true;
    ask(&f, d, CPU1, 1, 0); /* later demand tries anew */
    assert_int_equal(count_of(&f, RL_OUT_GRANT, d), 1);
    stop(&f);
}

static void
test_the_cap_fails_the_deepest_and_names_the_chain(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, 1, 3);
    const uint64_t d = driver(&f, 1);
    uint64_t owner = d;
    struct sched_lease_grant g = { 0 };
    for (uint32_t depth = 0; depth < 3; depth++) {
        ask(&f, owner, CPU1, 1, depth);
        g = granted(&f, owner);
        owner = g.worker;
        ask(&f, owner, CPU1, 1, depth + 1);
        const struct sched_lease_cancel cancel = { .cookie = CPU1, .count = 1 };
        if (depth < 2) {
            assert_int_equal(step(&f, RL_IN_CANCEL, owner, &cancel), ST_OK);
        }
        block(&f, &g, true);
    }
    clear(&f);
    wait_ms(&f, 500);
    assert_int_equal(count_of(&f, RL_OUT_FAILED, 0), 0);
    wait_ms(&f, 600);
    const struct sched_lease_failed *msg = last(&f, RL_OUT_FAILED, owner);
    assert_int_equal(msg->status, ST_PROCESS_CAP);
    assert_non_null(strstr(msg->text, "cap of 3 worker processes"));
    assert_non_null(strstr(msg->text, "driver (pid 77) -> work (pid 1002, waiting) -> work"));
    stop(&f);
}

static void
test_one_driver_cannot_starve_another(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, 2, 64);
    const uint64_t a = driver(&f, 1), b = driver(&f, 2);
    ask(&f, a, CPU1, 1000000, 0);
    ask(&f, b, CPU1, 1000000, 0);
    assert_int_equal(count_of(&f, RL_OUT_GRANT, a), 2);
    wait_ms(&f, 60);
    wait_ms(&f, 60);
    /* One each: then the shares are equal and nobody is revoked any more. */
    give_back(&f, a, 1, 0);
    assert_int_equal(count_of(&f, RL_OUT_GRANT, b), 1);
    clear(&f);
    wait_ms(&f, 2);
    wait_ms(&f, 200);
    assert_int_equal(count_of(&f, RL_OUT_REVOKE, b), 0);
    stop(&f);
}

static void
test_requests_an_owner_are_bounded(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, 1, 64);
    f.m.config.requests_max = 2;
    const uint64_t d = driver(&f, 1);
    ask(&f, d, CPU1, 2, 0);
    ask(&f, d, CPU2, 1, 0);
    ask(&f, d, GPU1, 1, 0); /* granted at once, so it leaves no record */
    ask(&f, d, HUGE, 7, 0);
    const struct sched_lease_failed *msg = last(&f, RL_OUT_FAILED, d);
    assert_int_equal(msg->status, ST_LIMIT);
    stop(&f);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_lease_from_request_to_reuse),
        cmocka_unit_test(test_a_settling_worker_is_looked_at_again_and_never_killed),
        cmocka_unit_test(test_messages_that_make_no_sense_are_refused),
        cmocka_unit_test(test_cancel_answers_what_was_left),
        cmocka_unit_test(test_revoked_after_the_quantum_and_withdrawn),
        cmocka_unit_test(test_an_actor_is_placed_beside_a_million_tasks),
        cmocka_unit_test(test_deepest_first_and_a_child_takes_its_parents_cpu),
        cmocka_unit_test(test_a_stale_blocked_notice_changes_nothing),
        cmocka_unit_test(test_a_workers_death_tells_first_and_releases_last),
        cmocka_unit_test(test_an_owners_death_takes_back_kills_or_drains),
        cmocka_unit_test(test_a_drivers_end_ends_its_job_but_not_detached_actors),
        cmocka_unit_test(test_a_job_goes_on_for_a_detached_actor),
        cmocka_unit_test(test_gpus_have_devices_and_stay_with_a_retired_process),
        cmocka_unit_test(test_a_large_request_is_served_beside_a_stream),
        cmocka_unit_test(test_what_can_never_run_is_told_once),
        cmocka_unit_test(test_words_for_what_waits),
        cmocka_unit_test(test_failing_starts_fail_what_waits_with_the_evidence),
        cmocka_unit_test(test_the_cap_fails_the_deepest_and_names_the_chain),
        cmocka_unit_test(test_one_driver_cannot_starve_another),
        cmocka_unit_test(test_requests_an_owner_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
