/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of the lease client: picking, predictions, asking, overrun, bounce, revocation, linger. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/status.h"
#include "worker/wk_lease.h"

#define MS UINT64_C(1000000)
#define US UINT64_C(1000)

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

enum { OUTS = 32 };
struct fixture {
    struct wk_leases c;
    struct wk_lease_key *key;
    struct wk_lease_fn quick, fresh;
    struct arena arena;
    struct step_out v[OUTS];
    struct step_outs outs;
    uint64_t now, next_lease;
};

static int
setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct wk_lease_config config;
    wk_lease_config_default(&config);
    wk_leases_init(&f->c, &counting, &config);
    f->key = wk_lease_get_key(&f->c, 3);
    arena_init(&f->arena, &counting);
    f->outs = (struct step_outs){ .v = f->v, .capacity = OUTS, .arena = &f->arena };
    f->now = 1000 * MS;
    f->quick = (struct wk_lease_fn){ .samples = 5, .ewma_ns = 100 * US };
    f->next_lease = 1;
    *state = f;
    return 0;
}

static int
teardown(void **state)
{
    struct fixture *f = *state;
    wk_leases_fini(&f->c);
    arena_fini(&f->arena);
    assert_int_equal(live_bytes, 0);
    free(f);
    return 0;
}

static void
pump(struct fixture *f)
{
    f->outs.count = 0;
    arena_reset(&f->arena);
    wk_lease_pump(&f->c, f->now, &f->outs);
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

static uint32_t
asked(const struct fixture *f)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < f->outs.count; i++) {
        if (f->v[i].kind == WK_OUT_REQUEST) {
            n += ((const struct sched_lease_request *)f->v[i].msg)->count;
        }
    }
    return n;
}

static struct wk_lease *
grant(struct fixture *f)
{
    const struct sched_lease_grant msg = {
        .cookie = 3, .lease = f->next_lease++, .worker = 100, .epoch = 1, .omp = 1
    };
    return wk_lease_on_grant(&f->c, &msg, f->now);
}

static void
ready(struct fixture *f, uint32_t n)
{
    wk_lease_on_ready(&f->c, f->key, n, 0, f->now);
}

static struct wk_lease *
pick(struct fixture *f, const struct wk_lease_fn *fn)
{
    return wk_lease_pick(&f->c, f->key, fn, false, f->now);
}

static void
test_unknown_functions_go_one_by_one(void **state)
{
    struct fixture *f = *state;
    struct wk_lease *a = grant(f), *b = grant(f);
    ready(f, 5);
    struct wk_lease *first = pick(f, &f->fresh), *second = pick(f, &f->fresh);
    assert_true((first == a && second == b) || (first == b && second == a));
    assert_null(pick(f, &f->fresh));
    assert_null(pick(f, &f->quick)); /* nor a quick one behind an unknown one */
    wk_lease_on_done(&f->c, first, &f->fresh, f->now, 50 * US);
    assert_int_equal(f->fresh.ewma_ns, 50 * US);
    assert_ptr_equal(pick(f, &f->fresh), first);
    assert_ptr_equal(pick(f, &f->fresh), first); /* known to be short now */
}

/* Options that ask for it say so, not the function, which others call without them. */
static void
test_alone_is_of_the_call(void **state)
{
    struct fixture *f = *state;
    struct wk_lease *a = grant(f);
    ready(f, 5);
    assert_ptr_equal(pick(f, &f->quick), a);
    assert_null(wk_lease_pick(&f->c, f->key, &f->quick, true, f->now));
    assert_ptr_equal(pick(f, &f->quick), a);
    wk_lease_on_done(&f->c, a, &f->quick, f->now, 50 * US);
    wk_lease_on_done(&f->c, a, &f->quick, f->now, 50 * US);
    assert_ptr_equal(wk_lease_pick(&f->c, f->key, &f->quick, true, f->now), a);
    assert_null(pick(f, &f->quick)); /* nor is anything pushed behind it */
    wk_lease_on_done(&f->c, a, &f->quick, f->now, 50 * US);
    assert_ptr_equal(pick(f, &f->quick), a);
    assert_ptr_equal(pick(f, &f->quick), a);
}

static void
test_short_work_spreads_up_to_a_window(void **state)
{
    struct fixture *f = *state;
    struct wk_lease *a = grant(f), *b = grant(f);
    ready(f, 100);
    uint32_t n = 0;
    while (pick(f, &f->quick)) {
        n++;
    }
    assert_int_equal(n, 20); /* 1 ms of 100 us, twice */
    assert_int_equal(a->inflight, 10);
    assert_int_equal(b->inflight, 10);
    assert_int_equal(f->key->ready, 80);
    wk_lease_on_done(&f->c, a, &f->quick, f->now, 100 * US);
    assert_ptr_equal(pick(f, &f->quick), a);
    assert_null(pick(f, &f->quick));
    pump(f);
    assert_int_equal(asked(f), 8); /* 79 tasks of 100 us are 8 windows */
    struct wk_lease_fn tiny = { .samples = 1, .ewma_ns = 0 };
    struct wk_lease *c = grant(f);
    ready(f, 1000);
    for (n = 0; pick(f, &tiny); n++) {
    }
    assert_int_equal(c->inflight, 256);
}

static void
test_estimates_rise_fast_and_fall_slowly(void **state)
{
    struct fixture *f = *state;
    struct wk_lease *a = grant(f);
    struct wk_lease_fn fn = { 0 };
    const uint64_t samples[] = { 100, 1100, 600, UINT64_MAX };
    const uint32_t wanted[] = { 100, 600, 600, 600 + (UINT32_MAX - 600) / 2 };
    for (uint32_t i = 0; i < 4; i++) {
        ready(f, 1);
        assert_ptr_equal(pick(f, &fn), a);
        wk_lease_on_done(&f->c, a, &fn, f->now, samples[i]);
        assert_int_equal(fn.ewma_ns, wanted[i]);
    }
    ready(f, 1);
    assert_ptr_equal(pick(f, &fn), a);
    wk_lease_on_done(&f->c, a, &fn, f->now, 0);
    assert_int_equal(fn.ewma_ns, wanted[3] - wanted[3] / 8);
}

static void
test_asking_doubles_or_waits(void **state)
{
    struct fixture *f = *state;
    uint32_t messages = 0;
    for (uint32_t i = 0; i < 1000; i++) {
        ready(f, 1);
        pump(f);
        messages += count_of(f, WK_OUT_REQUEST);
    }
    assert_int_equal(messages, 9); /* 1, 2, 4 ... 256 */
    assert_int_equal(f->key->asking, 256);
    f->now += 2 * MS;
    pump(f);
    assert_int_equal(asked(f), 0); /* never more at once */
}

static void
test_unneeded_units_are_cancelled_after_a_while(void **state)
{
    struct fixture *f = *state;
    ready(f, 4);
    pump(f);
    assert_int_equal(asked(f), 4);
    wk_lease_on_unready(&f->c, f->key, 4, f->now);
    pump(f);
    assert_int_equal(f->outs.count, 0);
    assert_int_equal(f->c.deadline_ns, f->now + 5 * MS);
    f->now += 5 * MS;
    pump(f);
    assert_int_equal(count_of(f, WK_OUT_CANCEL), 1);
    const struct sched_lease_cancel *msg = f->v[0].msg;
    assert_int_equal(msg->count, 4);
    struct wk_lease *a = grant(f); /* crossed with the cancel */
    assert_non_null(a);
    ready(f, 5); /* one has a lease, four need asking again */
    assert_ptr_equal(pick(f, &f->fresh), a);
    pump(f);
    assert_int_equal(asked(f), 4);
    const struct sched_lease_cancelled answer = { .cookie = 3, .count = 3 };
    wk_lease_on_cancelled(&f->c, &answer, f->now);
    assert_int_equal(f->key->asking, 4);
}

static void
test_what_is_behind_an_overrun_is_recalled_for_the_next_lease(void **state)
{
    struct fixture *f = *state;
    struct wk_lease *a = grant(f);
    ready(f, 3);
    for (uint32_t i = 0; i < 3; i++) {
        assert_ptr_equal(pick(f, &f->quick), a);
    }
    pump(f);
    assert_int_equal(f->outs.count, 0);
    f->now += 2 * MS;
    assert_true(f->c.deadline_ns <= f->now);
    pump(f);
    assert_int_equal(count_of(f, WK_OUT_RECALL), 0); /* there is nowhere to go */
    assert_true(asked(f) >= 1);
    ready(f, 1);
    assert_null(pick(f, &f->quick)); /* closed until its front task ends */
    struct wk_lease *b = grant(f);
    pump(f);
    assert_int_equal(count_of(f, WK_OUT_RECALL), 1);
    assert_int_equal(f->v[0].peer, a->id);
    wk_lease_on_recalled(&f->c, a, 2, true, f->now);
    for (uint32_t i = 0; i < 3; i++) {
        assert_ptr_equal(pick(f, &f->quick), b);
    }
    pump(f);
    assert_int_equal(count_of(f, WK_OUT_RECALL), 0); /* asked once */
    ready(f, 1);
    wk_lease_on_done(&f->c, a, &f->quick, f->now, 2 * MS);
    assert_ptr_equal(pick(f, &f->quick), a);
}

static void
test_a_blocked_worker_gets_nothing(void **state)
{
    struct fixture *f = *state;
    struct wk_lease *a = grant(f);
    ready(f, 4);
    for (uint32_t i = 0; i < 4; i++) {
        assert_ptr_equal(pick(f, &f->quick), a);
    }
    wk_lease_on_bounced(&f->c, a, 3, f->now);
    assert_int_equal(f->key->ready, 3);
    assert_null(pick(f, &f->quick));
    pump(f);
    assert_true(asked(f) >= 1); /* others must do it */
    wk_lease_on_unblocked(&f->c, a, f->now);
    assert_ptr_equal(pick(f, &f->quick), a);
    wk_lease_on_bounced(&f->c, a, 1, f->now);
    wk_lease_on_done(&f->c, a, &f->quick, f->now, 100 * US); /* says the same */
    assert_ptr_equal(pick(f, &f->quick), a);
}

static void
test_an_unreachable_worker_is_not_tried_again(void **state)
{
    struct fixture *f = *state;
    struct wk_lease *a = grant(f);
    ready(f, 1);
    assert_ptr_equal(pick(f, &f->quick), a);
    wk_lease_on_bounced(&f->c, a, 1, f->now);
    assert_null(pick(f, &f->quick));
    pump(f);
    assert_int_equal(asked(f), 1);
    f->now += 10 * MS;
    pump(f);
    assert_int_equal(count_of(f, WK_OUT_RETURN), 1);
}

static void
test_a_revoked_lease_is_recalled_and_returned(void **state)
{
    struct fixture *f = *state;
    struct wk_lease *a = grant(f);
    const uint64_t id = a->id;
    ready(f, 3);
    for (uint32_t i = 0; i < 3; i++) {
        assert_ptr_equal(pick(f, &f->quick), a);
    }
    wk_lease_on_revoke(&f->c, id, f->now);
    pump(f);
    assert_int_equal(count_of(f, WK_OUT_RECALL), 1);
    wk_lease_on_recalled(&f->c, a, 2, true, f->now);
    assert_null(pick(f, &f->quick));
    wk_lease_on_withdraw(&f->c, id, f->now);
    assert_ptr_equal(pick(f, &f->quick), a);
    wk_lease_on_revoke(&f->c, id, f->now);
    wk_lease_on_recalled(&f->c, a, 1, true, f->now);
    wk_lease_on_done(&f->c, a, &f->quick, f->now, 100 * US);
    pump(f);
    /* What is still needed is asked for before the return frees the CPU. */
    assert_int_equal(f->v[0].kind, WK_OUT_REQUEST);
    assert_int_equal(f->v[1].kind, WK_OUT_RETURN);
    assert_null(wk_lease_find(&f->c, id));
    wk_lease_on_revoke(&f->c, id, f->now); /* crossed: nothing */
    wk_lease_on_withdraw(&f->c, id, f->now);
}

static void
test_idle_leases_linger_longer_when_it_pays(void **state)
{
    struct fixture *f = *state;
    struct wk_lease *a = grant(f);
    for (uint32_t i = 0; i < 6; i++) {
        ready(f, 1);
        assert_ptr_equal(pick(f, &f->quick), a);
        wk_lease_on_done(&f->c, a, &f->quick, f->now, 100 * US);
        f->now += f->key->linger_ns - MS;
        pump(f);
        assert_int_equal(count_of(f, WK_OUT_RETURN), 0);
    }
    assert_int_equal(f->key->linger_ns, 50 * MS);
    f->now += 2 * MS;
    pump(f);
    assert_int_equal(count_of(f, WK_OUT_RETURN), 1);
    assert_int_equal(f->key->linger_ns, 25 * MS);
    assert_int_equal(f->c.leases, 0);
}

static void
test_death_gives_back_the_unstarted(void **state)
{
    struct fixture *f = *state;
    struct wk_lease *a = grant(f);
    ready(f, 4);
    for (uint32_t i = 0; i < 4; i++) {
        assert_ptr_equal(pick(f, &f->quick), a);
    }
    const uint64_t id = a->id;
    wk_lease_on_dead(&f->c, a, 3, f->now);
    assert_int_equal(f->key->ready, 3);
    assert_int_equal(f->c.inflight, 0);
    assert_null(wk_lease_find(&f->c, id));
    pump(f);
    assert_int_equal(asked(f), 3);
}

static void
test_retiring_returns_with_the_flag(void **state)
{
    struct fixture *f = *state;
    struct wk_lease *a = grant(f);
    ready(f, 1);
    assert_ptr_equal(pick(f, &f->quick), a);
    wk_lease_retire(&f->c, a, f->now);
    wk_lease_on_done(&f->c, a, &f->quick, f->now, 100 * US);
    pump(f);
    assert_int_equal(count_of(f, WK_OUT_RETURN), 1);
    for (uint32_t i = 0; i < f->outs.count; i++) {
        if (f->v[i].kind == WK_OUT_RETURN) {
            assert_int_equal(((const struct sched_lease_return *)f->v[i].msg)->flags,
                             SCHED_RETURN_RETIRE);
        }
    }
}

static void
test_failures_fail_tasks_only_when_nothing_can_run_them(void **state)
{
    struct fixture *f = *state;
    ready(f, 2);
    pump(f);
    const struct sched_lease_failed limit = { .cookie = 3, .count = 2, .status = ST_LIMIT };
    assert_false(wk_lease_on_failed(&f->c, &limit, f->now));
    pump(f);
    assert_int_equal(asked(f), 0);
    f->now += 100 * MS;
    pump(f);
    assert_int_equal(asked(f), 2);
    struct wk_lease *a = grant(f);
    assert_ptr_equal(pick(f, &f->fresh), a);
    const struct sched_lease_failed cap = { .cookie = 3, .count = 1, .status = ST_PROCESS_CAP };
    assert_false(wk_lease_on_failed(&f->c, &cap, f->now)); /* one runs: it may be enough */
    f->now += 1000 * MS;
    pump(f);
    assert_int_equal(asked(f), 1);
    assert_false(wk_lease_on_failed(&f->c, &cap, f->now));
    assert_true(wk_lease_on_failed(&f->c, &cap, f->now)); /* three in a row */
}

static void
test_little_room_for_outs_is_enough(void **state)
{
    struct fixture *f = *state;
    for (uint32_t i = 0; i < 10; i++) {
        assert_non_null(grant(f));
    }
    f->now += 20 * MS;
    uint32_t returned = 0, rounds = 0;
    f->outs.capacity = 3;
    do {
        pump(f);
        returned += count_of(f, WK_OUT_RETURN);
    } while (f->outs.more && ++rounds < 100);
    assert_int_equal(returned, 10);
    f->outs.capacity = OUTS;
}

static void
test_the_step_face_does_the_same(void **state)
{
    struct fixture *f = *state;
    struct step_in in = { .kind = WK_IN_READY, .now_ns = f->now };
    const struct wk_in_ready two = { .key = 3, .count = 2, .depth = 1 };
    in.msg = &two;
    assert_int_equal(wk_lease_step(&f->c, &in, &f->outs), ST_OK);
    assert_int_equal(asked(f), 2);
    const struct sched_lease_grant g = { .cookie = 3, .lease = 9, .worker = 1, .epoch = 1 };
    in = (struct step_in){ .kind = WK_IN_GRANT, .now_ns = f->now, .msg = &g };
    f->outs.count = 0;
    assert_int_equal(wk_lease_step(&f->c, &in, &f->outs), ST_OK);
    assert_int_equal(count_of(f, WK_OUT_TIMER), 1);
    const struct sched_lease_grant unknown = { .cookie = 99, .lease = 10 };
    in.msg = &unknown;
    f->outs.count = 0;
    assert_int_equal(wk_lease_step(&f->c, &in, &f->outs), ST_OK);
    assert_int_equal(count_of(f, WK_OUT_RETURN), 1); /* nobody wants it */
    const struct sched_lease_pending words = { .cookie = 3, .text = "asks for too much" };
    in = (struct step_in){ .kind = WK_IN_PENDING, .now_ns = f->now, .msg = &words };
    f->outs.count = 0;
    assert_int_equal(wk_lease_step(&f->c, &in, &f->outs), ST_OK);
    assert_int_equal(wk_lease_step(&f->c, &in, &f->outs), ST_OK);
    assert_int_equal(count_of(f, WK_OUT_WARN), 1); /* the user is told once */
    in = (struct step_in){ .kind = WK_IN_RETIRE, .now_ns = f->now, .peer = 4711 };
    assert_int_equal(wk_lease_step(&f->c, &in, &f->outs), ST_NOT_FOUND);
    char why[256];
    wk_lease_why(&f->c, f->key, why, sizeof(why));
    assert_non_null(strstr(why, "2 tasks wait for a worker"));
}

int
main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_unknown_functions_go_one_by_one),
        T(test_alone_is_of_the_call),
        T(test_short_work_spreads_up_to_a_window),
        T(test_estimates_rise_fast_and_fall_slowly),
        T(test_asking_doubles_or_waits),
        T(test_unneeded_units_are_cancelled_after_a_while),
        T(test_what_is_behind_an_overrun_is_recalled_for_the_next_lease),
        T(test_a_blocked_worker_gets_nothing),
        T(test_an_unreachable_worker_is_not_tried_again),
        T(test_a_revoked_lease_is_recalled_and_returned),
        T(test_idle_leases_linger_longer_when_it_pays),
        T(test_death_gives_back_the_unstarted),
        T(test_retiring_returns_with_the_flag),
        T(test_failures_fail_tasks_only_when_nothing_can_run_them),
        T(test_little_room_for_outs_is_enough),
        T(test_the_step_face_does_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
