/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests of what the control service decides about actors (src/gcs/gcs_actor.c, gcs_name.c,
 * gcs_watch.c): their lives, names, creators, and those whose arguments are still to come.
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
#include "gcs_world.h"
#include "proto/kinds.h"

static void
test_an_actor_lives(void **state)
{
    (void)state;
    struct world w;
    gw_open(&w);
    gw_watch(&w, DRIVER, 1); /* before it is known */
    assert_int_equal(w.sent_count, 0);
    assert_int_equal(gw_create(&w, 1, (struct gw_spec){ 0 }), ST_OK);
    Ray__Gcs__ActorRow *row = gw_stored(&w, 1);
    assert_non_null(row);
    ray__gcs__actor_row__free_unpacked(row, NULL);
    gw_assert_started(&w, 0);
    gw_assert_update(&w, DRIVER, RAY__GCS__ACTOR_STATE__PENDING_CREATION, 0);
    assert_int_equal(gw_create(&w, 1, (struct gw_spec){ 0 }), ST_OK); /* asked twice, made once */
    assert_null(gw_take(&w, RAYLET, GCS_START_ACTOR, &ray__gcs__start_actor__descriptor));
    gw_placed(&w, 1, 0);
    gw_assert_update(&w, DRIVER, RAY__GCS__ACTOR_STATE__ALIVE, 0);
    gw_built(&w, 1, 0, ST_OK);
    gw_assert_update(&w, DRIVER, RAY__GCS__ACTOR_STATE__ALIVE, 0);
    gw_placed(&w, 1, 7); /* another incarnation's: nothing */
    assert_int_equal(w.sent_count, 0);
    gw_exited(&w, 1, 0, false, "SIGSEGV");
    gw_assert_update(&w, DRIVER, RAY__GCS__ACTOR_STATE__DEAD, 0);
    row = gw_stored(&w, 1);
    assert_string_equal(row->reason, "SIGSEGV");
    assert_int_equal(row->spec->spec.len, 0); /* the dead are kept small */
    ray__gcs__actor_row__free_unpacked(row, NULL);
    gw_close(&w);
}

static void
test_restarts_are_counted(void **state)
{
    (void)state;
    struct world w;
    gw_open(&w);
    gw_make_alive(&w, 1, (struct gw_spec){ .max_restarts = 2 });
    gw_watch(&w, DRIVER, 1);
    gw_exited(&w, 1, 0, false, "first");
    gw_assert_started(&w, 1);
    gw_assert_update(&w, DRIVER, RAY__GCS__ACTOR_STATE__RESTARTING, 1);
    gw_exited(&w, 1, 0, false, "an old death told again");
    assert_int_equal(w.sent_count, 0);
    gw_placed(&w, 1, 1);
    assert_int_equal(gw_kill_actor(&w, 1, false), ST_OK); /* counts as a death like others */
    gw_assert_stopped(&w, false);
    gw_exited(&w, 1, 1, true, "ray.kill");
    gw_assert_started(&w, 2);
    gw_placed(&w, 1, 2);
    gw_exited(&w, 1, 2, false, "third");
    gw_assert_update(&w, DRIVER, RAY__GCS__ACTOR_STATE__DEAD, 2);
    /* One that leaves by itself isn't started again. */
    gw_make_alive(&w, 2, (struct gw_spec){ .max_restarts = -1 });
    gw_exited(&w, 2, 0, true, "exit_actor");
    assert_null(gw_take(&w, RAYLET, GCS_START_ACTOR, &ray__gcs__start_actor__descriptor));
    gw_close(&w);
}

static void
test_kill_is_at_once_and_final(void **state)
{
    (void)state;
    struct world w;
    gw_open(&w);
    gw_make_alive(&w, 1, (struct gw_spec){ .max_restarts = -1 });
    gw_watch(&w, DRIVER, 1);
    gw_forget_sent(&w);
    assert_int_equal(gw_kill_actor(&w, 1, true), ST_OK);
    gw_assert_stopped(&w, false);
    gw_assert_update(&w, DRIVER, RAY__GCS__ACTOR_STATE__DEAD, 0);
    gw_exited(&w, 1, 0, false, "killed");
    assert_int_equal(w.sent_count, 0);
    assert_int_equal(gw_kill_actor(&w, 1, true), ST_OK);
    assert_int_equal(gw_kill_actor(&w, 99, true), ST_NOT_FOUND);
    gw_close(&w);
}

/* An order to stop would end the wait for a process, and nobody would hear of that. */
static void
test_a_kill_before_there_is_a_process_waits_for_it(void **state)
{
    (void)state;
    struct world w;
    gw_open(&w);
    assert_int_equal(gw_create(&w, 1, (struct gw_spec){ .max_restarts = 1 }), ST_OK);
    gw_assert_started(&w, 0);
    assert_int_equal(gw_kill_actor(&w, 1, false), ST_OK);
    assert_int_equal(w.sent_count, 0);
    gw_placed(&w, 1, 0);
    gw_assert_stopped(&w, false);
    gw_exited(&w, 1, 0, true, "ray.kill");
    gw_assert_started(&w, 1);
    gw_close(&w);
}

/* The news of a process's end comes over another connection than what it had asked for. */
static void
test_the_dead_create_nothing(void **state)
{
    (void)state;
    struct world w;
    gw_open(&w);
    Ray__Gcs__ProcessGone m = RAY__GCS__PROCESS_GONE__INIT;
    m.worker_id = (ProtobufCBinaryData){ sizeof(w.driver.b), w.driver.b };
    gw_tell(&w, GCS_PROCESS_GONE, &m);
    gw_tell(&w, GCS_PROCESS_GONE, &m);
    assert_int_equal(gw_create(&w, 1, (struct gw_spec){ 0 }), ST_OWNER_DIED);
    assert_int_equal(w.sent_count, 0);
    assert_int_equal(gw_create(&w, 2, (struct gw_spec){ .detached = true }), ST_OK);
    gw_assert_started(&w, 0);
    gw_close(&w);
}

static void
test_out_of_scope_waits_for_the_constructor(void **state)
{
    (void)state;
    struct world w;
    gw_open(&w);
    assert_int_equal(gw_create(&w, 1, (struct gw_spec){ 0 }), ST_OK);
    gw_placed(&w, 1, 0);
    gw_forget_sent(&w);
    struct id_actor id = gw_actor_id(&w, 1);
    Ray__Gcs__ActorOutOfScope m = RAY__GCS__ACTOR_OUT_OF_SCOPE__INIT;
    m.actor_id = (ProtobufCBinaryData){ sizeof(id.b), id.b };
    assert_int_equal(gw_step(&w, DRIVER, GCS_ACTOR_OUT_OF_SCOPE, 3, &m), ST_OK);
    assert_int_equal(gw_take_done(&w, DRIVER), ST_OK);
    assert_int_equal(w.sent_count, 0);
    gw_built(&w, 1, 0, ST_OK);
    gw_assert_stopped(&w, true);
    gw_close(&w);
}

static void
test_a_failed_constructor_is_passed_on(void **state)
{
    (void)state;
    struct world w;
    gw_open(&w);
    assert_int_equal(gw_create(&w, 1, (struct gw_spec){ .max_restarts = 5 }), ST_OK);
    gw_placed(&w, 1, 0);
    gw_built(&w, 1, 0, ST_TASK_FAILED);
    gw_forget_sent(&w);
    gw_watch(&w, DRIVER, 1);
    Ray__Gcs__ActorUpdate *u =
        gw_take(&w, DRIVER, GCS_ACTOR_UPDATE, &ray__gcs__actor_update__descriptor);
    assert_int_equal(u->state, RAY__GCS__ACTOR_STATE__DEAD);
    assert_int_equal(u->status, ST_ACTOR_INIT_FAILED);
    assert_string_equal((char *)u->failure.data, "traceback");
    gw_drop(u);
    gw_close(&w);
}

static void
test_names_are_taken_while_their_actor_lives(void **state)
{
    (void)state;
    struct world w;
    gw_open(&w);
    gw_make_alive(&w, 1, (struct gw_spec){ .name = "boss" });
    assert_int_equal(gw_create(&w, 2, (struct gw_spec){ .name = "boss" }), ST_EXISTS);
    assert_int_equal(gw_kill_actor(&w, 1, true), ST_OK);
    assert_int_equal(gw_create(&w, 2, (struct gw_spec){ .name = "boss" }), ST_OK);
    gw_restart(&w);
    gw_register_node(&w, NULL, &w.job);
    assert_int_equal(gw_create(&w, 3, (struct gw_spec){ .name = "boss" }), ST_EXISTS);
    gw_close(&w);
}

/* The number of the actor that has the name, -1 when nobody has. */
static int
find_named(struct world *w, const char *name)
{
    Ray__Gcs__FindNamed m = RAY__GCS__FIND_NAMED__INIT;
    char text[64], space[] = "";
    (void)snprintf(text, sizeof(text), "%s", name);
    m.name = text;
    m.actor_namespace = space;
    assert_int_equal(gw_step(w, OTHER, GCS_FIND_NAMED, 12, &m), ST_OK);
    Ray__Gcs__NamedActor *found =
        gw_take(w, OTHER, GCS_NAMED_ACTOR, &ray__gcs__named_actor__descriptor);
    assert_non_null(found);
    int n = -1;
    for (uint8_t i = 1; found->status == ST_OK && i < 100 && n < 0; i++) {
        struct id_actor id = gw_actor_id(w, i);
        n = memcmp(found->actor_id.data, id.b, sizeof(id.b)) == 0 ? i : -1;
    }
    if (found->status == ST_OK) {
        assert_int_equal(found->face_info.len, 4);
        assert_string_equal(found->class_name, "Counter");
    } else {
        assert_int_equal(found->status, ST_NOT_FOUND);
    }
    gw_drop(found);
    return n;
}

static size_t
count_names(struct world *w)
{
    Ray__Gcs__ListNamed m = RAY__GCS__LIST_NAMED__INIT;
    assert_int_equal(gw_step(w, OTHER, GCS_LIST_NAMED, 13, &m), ST_OK);
    Ray__Gcs__NamedList *list =
        gw_take(w, OTHER, GCS_NAMED_LIST, &ray__gcs__named_list__descriptor);
    assert_non_null(list);
    const size_t count = list->n_actors;
    gw_drop(list);
    return count;
}

static void
open_with_other(struct world *w)
{
    struct id_worker other;
    memset(other.b, 99, sizeof(other.b));
    gw_open(w);
    gw_hello(w, OTHER, &other);
}

/* A name is found from its registration until nobody can reach the actor by it any more. */
static void
test_names_are_found(void **state)
{
    (void)state;
    struct world w;
    open_with_other(&w);
    assert_int_equal(find_named(&w, "boss"), -1);
    gw_make_alive(&w, 1, (struct gw_spec){ .name = "boss", .max_restarts = 1 });
    gw_make_alive(&w, 2, (struct gw_spec){ .name = "clerk" });
    assert_int_equal(find_named(&w, "boss"), 1);
    assert_int_equal(count_names(&w), 2);
    gw_exited(&w, 1, 0, false, "killed");
    assert_int_equal(find_named(&w, "boss"), 1); /* it is restarting */
    gw_exited(&w, 1, 1, false, "killed");
    assert_int_equal(find_named(&w, "boss"), -1);
    struct id_actor id = gw_actor_id(&w, 2);
    Ray__Gcs__ActorOutOfScope scope = RAY__GCS__ACTOR_OUT_OF_SCOPE__INIT;
    scope.actor_id = (ProtobufCBinaryData){ sizeof(id.b), id.b };
    assert_int_equal(gw_step(&w, DRIVER, GCS_ACTOR_OUT_OF_SCOPE, 7, &scope), ST_OK);
    assert_int_equal(find_named(&w, "clerk"), -1); /* though its process may still be there */
    assert_int_equal(gw_create(&w, 3, (struct gw_spec){ .name = "clerk" }), ST_OK);
    assert_int_equal(count_names(&w), 1);
    gw_close(&w);
}

/* The name is taken first, and survives this process; what the actor is made of comes later. */
static void
test_a_registered_actor_waits_for_its_arguments(void **state)
{
    (void)state;
    struct world w;
    open_with_other(&w);
    const struct gw_spec registered = { .name = "early", .register_only = true };
    assert_int_equal(gw_create(&w, 1, registered), ST_OK);
    assert_int_equal(gw_create(&w, 1, registered), ST_OK); /* the answer was lost */
    assert_null(gw_take(&w, RAYLET, GCS_START_ACTOR, &ray__gcs__start_actor__descriptor));
    assert_int_equal(gw_create(&w, 2, (struct gw_spec){ .name = "early" }), ST_EXISTS);
    struct id_worker other;
    memset(other.b, 99, sizeof(other.b));
    gw_restart(&w);
    gw_hello(&w, OTHER, &other);
    gw_register_node(&w, NULL, &w.job);
    assert_null(gw_take(&w, RAYLET, GCS_START_ACTOR, &ray__gcs__start_actor__descriptor));
    assert_int_equal(find_named(&w, "early"), 1);
    assert_int_equal(gw_create(&w, 2, (struct gw_spec){ .name = "early" }), ST_EXISTS);
    assert_int_equal(gw_create(&w, 1, (struct gw_spec){ .name = "early" }), ST_OK);
    gw_assert_started(&w, 0);
    assert_int_equal(gw_create(&w, 1, (struct gw_spec){ .name = "early" }),
                     ST_OK); /* asked again */
    assert_null(gw_take(&w, RAYLET, GCS_START_ACTOR, &ray__gcs__start_actor__descriptor));
    gw_placed(&w, 1, 0);
    gw_built(&w, 1, 0, ST_OK);
    assert_int_equal(find_named(&w, "early"), 1);
    assert_int_equal(gw_create(&w, 3, (struct gw_spec){ .name = "never", .register_only = true }),
                     ST_OK);
    assert_int_equal(gw_kill_actor(&w, 3, true), ST_OK);
    assert_int_equal(find_named(&w, "never"), -1);
    assert_int_equal(gw_create(&w, 3, (struct gw_spec){ .name = "never" }),
                     ST_OK); /* crossed with it */
    assert_null(gw_take(&w, RAYLET, GCS_START_ACTOR, &ray__gcs__start_actor__descriptor));
    gw_close(&w);
}

/* Nobody is told that there is no such actor while its arguments are on the way. */
static void
test_an_actor_that_waits_for_arguments_is_known(void **state)
{
    (void)state;
    struct world w;
    gw_open(&w);
    gw_hello(&w, OTHER, NULL);
    gw_watch(&w, OTHER, 1);
    assert_int_equal(gw_create(&w, 1, (struct gw_spec){ .register_only = true }), ST_OK);
    gw_assert_update(&w, OTHER, RAY__GCS__ACTOR_STATE__DEPENDENCIES_UNREADY, 0);
    w.now += 10 * w.config.unknown_watch_ns;
    assert_int_equal(gw_step(&w, 0, GCS_IN_TICK, 0, NULL), ST_OK);
    assert_null(gw_take(&w, OTHER, GCS_ACTOR_UPDATE, &ray__gcs__actor_update__descriptor));
    assert_int_equal(gw_kill_actor(&w, 1, false), ST_OK); /* nothing to start again */
    gw_restart(&w);
    gw_register_node(&w, NULL, &w.job);
    assert_null(gw_take(&w, RAYLET, GCS_START_ACTOR, &ray__gcs__start_actor__descriptor));
    gw_watch(&w, DRIVER, 1);
    gw_assert_update(&w, DRIVER, RAY__GCS__ACTOR_STATE__DEPENDENCIES_UNREADY, 0);
    assert_int_equal(gw_create(&w, 1, (struct gw_spec){ .register_only = true }), ST_OK);
    gw_make_alive(&w, 1, (struct gw_spec){ 0 });
    assert_null(gw_take(&w, RAYLET, GCS_STOP_ACTOR, &ray__gcs__stop_actor__descriptor));
    gw_assert_update(&w, DRIVER, RAY__GCS__ACTOR_STATE__ALIVE, 0);
    /* What was sent twice may come in any order. */
    assert_int_equal(gw_create(&w, 1, (struct gw_spec){ .register_only = true }), ST_OK);
    gw_watch(&w, DRIVER, 1);
    gw_assert_update(&w, DRIVER, RAY__GCS__ACTOR_STATE__ALIVE, 0);
    gw_close(&w);
}

static void
test_an_actor_that_waits_for_arguments_can_end(void **state)
{
    (void)state;
    struct world w;
    gw_open(&w);
    for (uint8_t n = 1; n <= 4; n++) {
        gw_watch(&w, DRIVER, n);
    }
    assert_int_equal(gw_kill_actor(&w, 1, true), ST_OK); /* it overtook the creator's word */
    for (uint8_t n = 1; n <= 4; n++) {
        const struct gw_spec spec = { .register_only = true, .detached = n == 3 };
        assert_int_equal(gw_create(&w, n, spec), ST_OK);
    }
    assert_int_equal(gw_create(&w, 1, (struct gw_spec){ 0 }), ST_OK); /* too late, and no harm */
    assert_int_equal(gw_kill_actor(&w, 2, true), ST_OK);
    assert_int_equal(gw_create(&w, 2, (struct gw_spec){ 0 }), ST_OK);
    struct gcs_stats stats;
    gcs_get_stats(w.gcs, &stats);
    assert_int_equal(stats.dead_actors, 2);
    gw_assert_update(&w, DRIVER, RAY__GCS__ACTOR_STATE__DEAD, 0);
    Ray__Gcs__ProcessGone gone = RAY__GCS__PROCESS_GONE__INIT;
    gone.worker_id = (ProtobufCBinaryData){ sizeof(w.driver.b), w.driver.b };
    gw_tell(&w, GCS_PROCESS_GONE, &gone);
    gcs_get_stats(w.gcs, &stats);
    assert_int_equal(stats.dead_actors, 4); /* also the detached one: nobody can complete it */
    assert_int_equal(stats.actors, 0);
    gw_assert_update(&w, DRIVER, RAY__GCS__ACTOR_STATE__DEAD, 0);
    assert_null(gw_take(&w, RAYLET, GCS_START_ACTOR, &ray__gcs__start_actor__descriptor));
    gw_close(&w);
}

/* One whose arguments are to come ends with who would send them, detached or not. */
static void
test_registered_actors_end_with_their_creator(void **state)
{
    (void)state;
    struct world w;
    open_with_other(&w);
    const struct gw_spec by_worker = {
        .name = "a", .detached = true, .register_only = true, .owner = 50
    };
    assert_int_equal(gw_create(&w, 1, by_worker), ST_OK);
    assert_int_equal(
        gw_create(&w, 2, (struct gw_spec){ .name = "b", .detached = true, .owner = 50 }), ST_OK);
    struct id_worker owner;
    memset(owner.b, 50, sizeof(owner.b));
    Ray__Gcs__ProcessGone gone = RAY__GCS__PROCESS_GONE__INIT;
    gone.worker_id = (ProtobufCBinaryData){ sizeof(owner.b), owner.b };
    gw_tell(&w, GCS_PROCESS_GONE, &gone);
    assert_int_equal(find_named(&w, "a"), -1);
    assert_int_equal(find_named(&w, "b"), 2);
    const struct gw_spec by_driver = { .name = "c", .detached = true, .register_only = true };
    assert_int_equal(gw_create(&w, 3, by_driver), ST_OK);
    Ray__Gcs__FinishJob m = RAY__GCS__FINISH_JOB__INIT;
    m.job_id = (ProtobufCBinaryData){ sizeof(w.job.b), w.job.b };
    gw_tell(&w, GCS_FINISH_JOB, &m);
    assert_int_equal(find_named(&w, "c"), -1);
    assert_int_equal(find_named(&w, "b"), 2);
    gw_close(&w);
}

/* What a detached actor has made ends with it, not with the driver of the job. */
static void
test_a_job_goes_on_for_detached_actors(void **state)
{
    (void)state;
    struct world w;
    open_with_other(&w);
    gw_make_alive(&w, 1, (struct gw_spec){ .name = "root", .detached = true });
    gw_make_alive(&w, 2,
                  (struct gw_spec){ .name = "child", .owner = 1 }); /* the worker of `placed` */
    gw_make_alive(&w, 3, (struct gw_spec){ .name = "drivers" });
    Ray__Gcs__FinishJob m = RAY__GCS__FINISH_JOB__INIT;
    m.job_id = (ProtobufCBinaryData){ sizeof(w.job.b), w.job.b };
    gw_tell(&w, GCS_FINISH_JOB, &m);
    assert_int_equal(find_named(&w, "root"), 1);
    assert_int_equal(find_named(&w, "child"), 2);
    assert_int_equal(find_named(&w, "drivers"), -1);
    assert_int_equal(gw_create(&w, 4, (struct gw_spec){ .name = "more", .owner = 1 }), ST_OK);
    assert_int_equal(gw_kill_actor(&w, 1, true), ST_OK);
    struct id_worker owner;
    memset(owner.b, 1, sizeof(owner.b));
    Ray__Gcs__ProcessGone gone = RAY__GCS__PROCESS_GONE__INIT;
    gone.worker_id = (ProtobufCBinaryData){ sizeof(owner.b), owner.b };
    gw_tell(&w, GCS_PROCESS_GONE, &gone);
    assert_int_equal(count_names(&w), 0);
    assert_int_equal(gw_create(&w, 5, (struct gw_spec){ .owner = 1 }), ST_NOT_FOUND);
    gw_close(&w);
}

static void
test_actors_end_with_their_creator(void **state)
{
    (void)state;
    struct world w;
    gw_open(&w);
    gw_make_alive(&w, 1, (struct gw_spec){ .max_restarts = -1 });
    gw_make_alive(&w, 2, (struct gw_spec){ .detached = true });
    gw_make_alive(&w, 3, (struct gw_spec){ 0 });
    gw_forget_sent(&w);
    Ray__Gcs__ProcessGone m = RAY__GCS__PROCESS_GONE__INIT;
    m.worker_id = (ProtobufCBinaryData){ sizeof(w.driver.b), w.driver.b };
    gw_tell(&w, GCS_PROCESS_GONE, &m);
    gw_assert_stopped(&w, false);
    gw_assert_stopped(&w, false);
    assert_int_equal(w.sent_count, 0);
    gw_close(&w);
}

static void
test_a_watch_of_nothing_is_answered_in_time(void **state)
{
    (void)state;
    struct world w;
    gw_open(&w);
    gw_watch(&w, DRIVER, 1);
    assert_int_equal(w.timer, w.now + w.config.unknown_watch_ns);
    w.now = w.timer;
    assert_int_equal(gw_step(&w, 0, GCS_IN_TICK, 0, NULL), ST_OK);
    Ray__Gcs__ActorUpdate *u =
        gw_take(&w, DRIVER, GCS_ACTOR_UPDATE, &ray__gcs__actor_update__descriptor);
    assert_int_equal(u->state, RAY__GCS__ACTOR_STATE__DEAD);
    assert_int_equal(u->status, ST_ACTOR_DIED);
    gw_drop(u);
    assert_int_equal(gw_step(&w, 0, GCS_IN_CLOSED, 0, NULL), ST_OK); /* frees what was forgotten */
    gw_close(&w);
}

static void
test_a_kill_that_overtook_the_creation_is_stored(void **state)
{
    (void)state;
    struct world w;
    gw_open(&w);
    gw_watch(&w, DRIVER, 1);
    gw_watch(&w, DRIVER, 2);
    assert_int_equal(gw_kill_actor(&w, 1, true), ST_OK);
    assert_int_equal(gw_kill_actor(&w, 2, true), ST_OK);
    gw_restart(&w);
    gw_register_node(&w, NULL, &w.job);
    assert_int_equal(gw_create(&w, 1, (struct gw_spec){ 0 }), ST_OK);
    gw_watch(&w, DRIVER, 1);
    gw_assert_update(&w, DRIVER, RAY__GCS__ACTOR_STATE__DEAD, 0);
    Ray__Gcs__ActorRow *row = gw_stored(&w, 1);
    assert_non_null(row);
    assert_int_equal(row->state, RAY__GCS__ACTOR_STATE__DEAD);
    assert_int_equal(row->unknown_id.len, 0);
    gw_drop(row);
    gw_restart(&w); /* once more, with what became of the first */
    assert_int_equal(gw_create(&w, 1, (struct gw_spec){ 0 }), ST_OK);
    struct gcs_stats stats;
    gcs_get_stats(w.gcs, &stats);
    assert_int_equal(stats.dead_actors, 1);
    /* Nobody ever creates the second: nothing is left of it. */
    w.now += w.config.unknown_watch_ns;
    assert_int_equal(gw_step(&w, 0, GCS_IN_TICK, 0, NULL), ST_OK);
    assert_null(gw_stored(&w, 2));
    assert_int_equal(gw_step(&w, 0, GCS_IN_CLOSED, 0, NULL), ST_OK); /* frees what was forgotten */
    gw_close(&w);
}

/* Orders to stop that were stored, and then lost with the service that was to give them. */
static void
test_lost_orders_to_stop_are_given_again(void **state)
{
    (void)state;
    struct world w;
    gw_open(&w);
    assert_int_equal(gw_create(&w, 1, (struct gw_spec){ 0 }), ST_OK); /* waits at the raylet */
    assert_int_equal(gw_kill_actor(&w, 1, true), ST_OK);
    gw_make_alive(&w, 2, (struct gw_spec){ .max_restarts = 1 });
    assert_int_equal(gw_kill_actor(&w, 2, false), ST_OK);
    gw_restart(&w);
    struct id_actor id = gw_actor_id(&w, 2);
    uint8_t worker[28] = { 1 };
    Ray__Gcs__LiveActor live = RAY__GCS__LIVE_ACTOR__INIT;
    live.actor_id = (ProtobufCBinaryData){ sizeof(id.b), id.b };
    live.worker_id = (ProtobufCBinaryData){ sizeof(worker), worker };
    gw_register_node(&w, &live, &w.job);
    gw_assert_stopped(&w, false);
    gw_forget_sent(&w);
    gw_placed(&w, 1, 0);
    gw_assert_stopped(&w, false);
    gw_close(&w);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_actor_lives),
        cmocka_unit_test(test_restarts_are_counted),
        cmocka_unit_test(test_kill_is_at_once_and_final),
        cmocka_unit_test(test_a_kill_that_overtook_the_creation_is_stored),
        cmocka_unit_test(test_a_kill_before_there_is_a_process_waits_for_it),
        cmocka_unit_test(test_the_dead_create_nothing),
        cmocka_unit_test(test_out_of_scope_waits_for_the_constructor),
        cmocka_unit_test(test_a_failed_constructor_is_passed_on),
        cmocka_unit_test(test_names_are_taken_while_their_actor_lives),
        cmocka_unit_test(test_names_are_found),
        cmocka_unit_test(test_a_registered_actor_waits_for_its_arguments),
        cmocka_unit_test(test_an_actor_that_waits_for_arguments_is_known),
        cmocka_unit_test(test_an_actor_that_waits_for_arguments_can_end),
        cmocka_unit_test(test_registered_actors_end_with_their_creator),
        cmocka_unit_test(test_a_job_goes_on_for_detached_actors),
        cmocka_unit_test(test_actors_end_with_their_creator),
        cmocka_unit_test(test_a_watch_of_nothing_is_answered_in_time),
        cmocka_unit_test(test_lost_orders_to_stop_are_given_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
