/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests of the control service's decisions (src/gcs/gcs*.c but the *_io files).
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

/* ---- actors ---- */

struct spec {
    const char *name;
    int64_t max_restarts;
    bool detached, register_only;
    uint8_t owner; /* byte of a worker's id; 0: the driver */
};

static int
create(struct world *w, uint8_t n, struct spec spec)
{
    struct id_actor id = gw_actor_id(w, n);
    Ray__Gcs__CreateActor m = RAY__GCS__CREATE_ACTOR__INIT;
    char class_name[] = "Counter", name[64], bytes[] = "creation frame";
    (void)snprintf(name, sizeof(name), "%s", spec.name ? spec.name : "");
    m.actor_id = (ProtobufCBinaryData){ sizeof(id.b), id.b };
    m.job_id = (ProtobufCBinaryData){ sizeof(w->job.b), w->job.b };
    struct id_worker owner = w->driver;
    if (spec.owner) {
        memset(owner.b, spec.owner, sizeof(owner.b));
    }
    m.owner_worker_id = (ProtobufCBinaryData){ sizeof(owner.b), owner.b };
    m.class_name = class_name;
    m.name = name;
    m.detached = spec.detached;
    m.register_only = spec.register_only;
    m.face_info = (ProtobufCBinaryData){ 4, (uint8_t *)bytes };
    m.max_restarts = spec.max_restarts;
    if (!spec.register_only) {
        m.spec = (ProtobufCBinaryData){ sizeof(bytes), (uint8_t *)bytes };
    }
    assert_int_equal(gw_step(w, DRIVER, GCS_CREATE_ACTOR, 9, &m), ST_OK);
    return gw_take_done(w, DRIVER);
}

static void
watch(struct world *w, uint64_t peer, uint8_t n)
{
    struct id_actor id = gw_actor_id(w, n);
    Ray__Gcs__WatchActor m = RAY__GCS__WATCH_ACTOR__INIT;
    m.actor_id = (ProtobufCBinaryData){ sizeof(id.b), id.b };
    assert_int_equal(gw_step(w, peer, GCS_WATCH_ACTOR, 0, &m), ST_OK);
}

/* The raylet was asked to start the actor. */
static void
assert_started(struct world *w, uint64_t incarnation)
{
    Ray__Gcs__StartActor *m =
        gw_take(w, RAYLET, GCS_START_ACTOR, &ray__gcs__start_actor__descriptor);
    assert_non_null(m);
    assert_int_equal(m->incarnation, incarnation);
    assert_string_equal((char *)m->actor->spec.data, "creation frame");
    gw_drop(m);
}

static void
assert_stopped(struct world *w, bool graceful)
{
    Ray__Gcs__StopActor *m = gw_take(w, RAYLET, GCS_STOP_ACTOR, &ray__gcs__stop_actor__descriptor);
    assert_non_null(m);
    assert_int_equal(m->graceful, graceful);
    gw_drop(m);
}

/* What the raylet tells is answered, so that it isn't told again. */
static void
tell(struct world *w, uint16_t kind, const void *m)
{
    assert_int_equal(gw_step(w, RAYLET, kind, 11, m), ST_OK);
    assert_int_equal(gw_take_done(w, RAYLET), ST_OK);
}

static void
placed(struct world *w, uint8_t n, uint64_t incarnation)
{
    struct id_actor id = gw_actor_id(w, n);
    Ray__Gcs__ActorPlaced m = RAY__GCS__ACTOR_PLACED__INIT;
    uint8_t worker[28];
    char peer[] = "w1";
    memset(worker, n, sizeof(worker));
    m.actor_id = (ProtobufCBinaryData){ sizeof(id.b), id.b };
    m.incarnation = incarnation;
    m.worker_id = (ProtobufCBinaryData){ sizeof(worker), worker };
    m.peer_socket = peer;
    m.pid = 100 + (int32_t)incarnation;
    tell(w, GCS_ACTOR_PLACED, &m);
}

static void
built(struct world *w, uint8_t n, uint64_t incarnation, int status)
{
    struct id_actor id = gw_actor_id(w, n);
    Ray__Node__ActorConstructed m = RAY__NODE__ACTOR_CONSTRUCTED__INIT;
    uint8_t failure[] = "traceback";
    m.actor_id = (ProtobufCBinaryData){ sizeof(id.b), id.b };
    m.incarnation = incarnation;
    m.status = status;
    if (status != ST_OK) {
        m.failure = (ProtobufCBinaryData){ sizeof(failure), failure };
    }
    tell(w, GCS_ACTOR_BUILT, &m);
}

static void
exited(struct world *w, uint8_t n, uint64_t incarnation, bool intended, const char *evidence)
{
    struct id_actor id = gw_actor_id(w, n);
    Ray__Gcs__ActorExited m = RAY__GCS__ACTOR_EXITED__INIT;
    char text[64];
    (void)snprintf(text, sizeof(text), "%s", evidence);
    m.actor_id = (ProtobufCBinaryData){ sizeof(id.b), id.b };
    m.incarnation = incarnation;
    m.evidence = text;
    m.intended = intended;
    tell(w, GCS_ACTOR_EXITED, &m);
}

static int
kill_actor(struct world *w, uint8_t n, bool no_restart)
{
    struct id_actor id = gw_actor_id(w, n);
    Ray__Gcs__KillActor m = RAY__GCS__KILL_ACTOR__INIT;
    m.actor_id = (ProtobufCBinaryData){ sizeof(id.b), id.b };
    m.no_restart = no_restart;
    assert_int_equal(gw_step(w, DRIVER, GCS_KILL_ACTOR, 10, &m), ST_OK);
    return gw_take_done(w, DRIVER);
}

/* The latest update that `peer` got about an actor. */
static void
assert_update(struct world *w, uint64_t peer, Ray__Gcs__ActorState state, uint64_t incarnation)
{
    Ray__Gcs__ActorUpdate *last = NULL;
    for (;;) {
        Ray__Gcs__ActorUpdate *m =
            gw_take(w, peer, GCS_ACTOR_UPDATE, &ray__gcs__actor_update__descriptor);
        if (!m) {
            break;
        }
        gw_drop(last);
        last = m;
    }
    if (!last) {
        fail_msg("peer %u was told nothing", (unsigned)peer);
        return;
    }
    assert_int_equal(last->state, state);
    assert_int_equal(last->incarnation, incarnation);
    gw_drop(last);
}

static void
make_alive(struct world *w, uint8_t n, struct spec spec)
{
    assert_int_equal(create(w, n, spec), ST_OK);
    assert_started(w, 0);
    placed(w, n, 0);
    built(w, n, 0, ST_OK);
}

/* ---- tests ---- */

static void
test_jobs_are_numbered_once(void **state)
{
    (void)state;
    struct world w;
    gw_open(&w);
    assert_int_equal(id_job_to_int(&w.job), 1);
    struct id_job again = gw_add_job(&w, &w.driver, "");
    assert_true(ID_EQ(again, w.job));
    struct id_worker other;
    memset(other.b, 9, sizeof(other.b));
    struct id_job second = gw_add_job(&w, &other, "mine");
    assert_int_equal(id_job_to_int(&second), 2);
    gw_restart(&w);
    gw_register_node(&w, NULL, &second);
    again = gw_add_job(&w, &other, "");
    assert_true(ID_EQ(again, second));
    memset(other.b, 10, sizeof(other.b));
    second = gw_add_job(&w, &other, "");
    assert_int_equal(id_job_to_int(&second), 3); /* numbers are never used twice */
    gw_close(&w);
}

/* The job was stored, and its number lost with the process that gave it: the raylet registers
 * without it, then asks again. */
static void
test_a_job_that_was_not_heard_of_goes_on(void **state)
{
    (void)state;
    struct world w;
    gw_open(&w);
    gw_restart(&w);
    gw_register_node(&w, NULL, NULL);
    const struct id_job again = gw_add_job(&w, &w.driver, "");
    assert_true(ID_EQ(again, w.job));
    assert_int_equal(create(&w, 1, (struct spec){ 0 }), ST_OK);
    gw_restart(&w);
    gw_register_node(&w, NULL, &w.job);
    assert_int_equal(create(&w, 2, (struct spec){ 0 }), ST_OK);
    gw_close(&w);
}

static void
test_an_actor_lives(void **state)
{
    (void)state;
    struct world w;
    gw_open(&w);
    watch(&w, DRIVER, 1); /* before it is known */
    assert_int_equal(w.sent_count, 0);
    assert_int_equal(create(&w, 1, (struct spec){ 0 }), ST_OK);
    Ray__Gcs__ActorRow *row = gw_stored(&w, 1);
    assert_non_null(row);
    ray__gcs__actor_row__free_unpacked(row, NULL);
    assert_started(&w, 0);
    assert_update(&w, DRIVER, RAY__GCS__ACTOR_STATE__PENDING_CREATION, 0);
    assert_int_equal(create(&w, 1, (struct spec){ 0 }), ST_OK); /* asked twice, made once */
    assert_null(gw_take(&w, RAYLET, GCS_START_ACTOR, &ray__gcs__start_actor__descriptor));
    placed(&w, 1, 0);
    assert_update(&w, DRIVER, RAY__GCS__ACTOR_STATE__ALIVE, 0);
    built(&w, 1, 0, ST_OK);
    assert_update(&w, DRIVER, RAY__GCS__ACTOR_STATE__ALIVE, 0);
    placed(&w, 1, 7); /* another incarnation's: nothing */
    assert_int_equal(w.sent_count, 0);
    exited(&w, 1, 0, false, "SIGSEGV");
    assert_update(&w, DRIVER, RAY__GCS__ACTOR_STATE__DEAD, 0);
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
    make_alive(&w, 1, (struct spec){ .max_restarts = 2 });
    watch(&w, DRIVER, 1);
    exited(&w, 1, 0, false, "first");
    assert_started(&w, 1);
    assert_update(&w, DRIVER, RAY__GCS__ACTOR_STATE__RESTARTING, 1);
    exited(&w, 1, 0, false, "an old death told again");
    assert_int_equal(w.sent_count, 0);
    placed(&w, 1, 1);
    assert_int_equal(kill_actor(&w, 1, false), ST_OK); /* counts as a death like others */
    assert_stopped(&w, false);
    exited(&w, 1, 1, true, "ray.kill");
    assert_started(&w, 2);
    placed(&w, 1, 2);
    exited(&w, 1, 2, false, "third");
    assert_update(&w, DRIVER, RAY__GCS__ACTOR_STATE__DEAD, 2);
    /* One that leaves by itself isn't started again. */
    make_alive(&w, 2, (struct spec){ .max_restarts = -1 });
    exited(&w, 2, 0, true, "exit_actor");
    assert_null(gw_take(&w, RAYLET, GCS_START_ACTOR, &ray__gcs__start_actor__descriptor));
    gw_close(&w);
}

static void
test_kill_is_at_once_and_final(void **state)
{
    (void)state;
    struct world w;
    gw_open(&w);
    make_alive(&w, 1, (struct spec){ .max_restarts = -1 });
    watch(&w, DRIVER, 1);
    gw_forget_sent(&w);
    assert_int_equal(kill_actor(&w, 1, true), ST_OK);
    assert_stopped(&w, false);
    assert_update(&w, DRIVER, RAY__GCS__ACTOR_STATE__DEAD, 0);
    exited(&w, 1, 0, false, "killed");
    assert_int_equal(w.sent_count, 0);
    assert_int_equal(kill_actor(&w, 1, true), ST_OK);
    assert_int_equal(kill_actor(&w, 99, true), ST_NOT_FOUND);
    gw_close(&w);
}

/* An order to stop would end the wait for a process, and nobody would hear of that. */
static void
test_a_kill_before_there_is_a_process_waits_for_it(void **state)
{
    (void)state;
    struct world w;
    gw_open(&w);
    assert_int_equal(create(&w, 1, (struct spec){ .max_restarts = 1 }), ST_OK);
    assert_started(&w, 0);
    assert_int_equal(kill_actor(&w, 1, false), ST_OK);
    assert_int_equal(w.sent_count, 0);
    placed(&w, 1, 0);
    assert_stopped(&w, false);
    exited(&w, 1, 0, true, "ray.kill");
    assert_started(&w, 1);
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
    tell(&w, GCS_PROCESS_GONE, &m);
    tell(&w, GCS_PROCESS_GONE, &m);
    assert_int_equal(create(&w, 1, (struct spec){ 0 }), ST_OWNER_DIED);
    assert_int_equal(w.sent_count, 0);
    assert_int_equal(create(&w, 2, (struct spec){ .detached = true }), ST_OK);
    assert_started(&w, 0);
    gw_close(&w);
}

static void
test_out_of_scope_waits_for_the_constructor(void **state)
{
    (void)state;
    struct world w;
    gw_open(&w);
    assert_int_equal(create(&w, 1, (struct spec){ 0 }), ST_OK);
    placed(&w, 1, 0);
    gw_forget_sent(&w);
    struct id_actor id = gw_actor_id(&w, 1);
    Ray__Gcs__ActorOutOfScope m = RAY__GCS__ACTOR_OUT_OF_SCOPE__INIT;
    m.actor_id = (ProtobufCBinaryData){ sizeof(id.b), id.b };
    assert_int_equal(gw_step(&w, DRIVER, GCS_ACTOR_OUT_OF_SCOPE, 3, &m), ST_OK);
    assert_int_equal(gw_take_done(&w, DRIVER), ST_OK);
    assert_int_equal(w.sent_count, 0);
    built(&w, 1, 0, ST_OK);
    assert_stopped(&w, true);
    gw_close(&w);
}

static void
test_a_failed_constructor_is_passed_on(void **state)
{
    (void)state;
    struct world w;
    gw_open(&w);
    assert_int_equal(create(&w, 1, (struct spec){ .max_restarts = 5 }), ST_OK);
    placed(&w, 1, 0);
    built(&w, 1, 0, ST_TASK_FAILED);
    gw_forget_sent(&w);
    watch(&w, DRIVER, 1);
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
    make_alive(&w, 1, (struct spec){ .name = "boss" });
    assert_int_equal(create(&w, 2, (struct spec){ .name = "boss" }), ST_EXISTS);
    assert_int_equal(kill_actor(&w, 1, true), ST_OK);
    assert_int_equal(create(&w, 2, (struct spec){ .name = "boss" }), ST_OK);
    gw_restart(&w);
    gw_register_node(&w, NULL, &w.job);
    assert_int_equal(create(&w, 3, (struct spec){ .name = "boss" }), ST_EXISTS);
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
    make_alive(&w, 1, (struct spec){ .name = "boss", .max_restarts = 1 });
    make_alive(&w, 2, (struct spec){ .name = "clerk" });
    assert_int_equal(find_named(&w, "boss"), 1);
    assert_int_equal(count_names(&w), 2);
    exited(&w, 1, 0, false, "killed");
    assert_int_equal(find_named(&w, "boss"), 1); /* it is restarting */
    exited(&w, 1, 1, false, "killed");
    assert_int_equal(find_named(&w, "boss"), -1);
    struct id_actor id = gw_actor_id(&w, 2);
    Ray__Gcs__ActorOutOfScope scope = RAY__GCS__ACTOR_OUT_OF_SCOPE__INIT;
    scope.actor_id = (ProtobufCBinaryData){ sizeof(id.b), id.b };
    assert_int_equal(gw_step(&w, DRIVER, GCS_ACTOR_OUT_OF_SCOPE, 7, &scope), ST_OK);
    assert_int_equal(find_named(&w, "clerk"), -1); /* though its process may still be there */
    assert_int_equal(create(&w, 3, (struct spec){ .name = "clerk" }), ST_OK);
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
    const struct spec registered = { .name = "early", .register_only = true };
    assert_int_equal(create(&w, 1, registered), ST_OK);
    assert_int_equal(create(&w, 1, registered), ST_OK); /* the answer was lost */
    assert_null(gw_take(&w, RAYLET, GCS_START_ACTOR, &ray__gcs__start_actor__descriptor));
    assert_int_equal(create(&w, 2, (struct spec){ .name = "early" }), ST_EXISTS);
    struct id_worker other;
    memset(other.b, 99, sizeof(other.b));
    gw_restart(&w);
    gw_hello(&w, OTHER, &other);
    gw_register_node(&w, NULL, &w.job);
    assert_null(gw_take(&w, RAYLET, GCS_START_ACTOR, &ray__gcs__start_actor__descriptor));
    assert_int_equal(find_named(&w, "early"), 1);
    assert_int_equal(create(&w, 2, (struct spec){ .name = "early" }), ST_EXISTS);
    assert_int_equal(create(&w, 1, (struct spec){ .name = "early" }), ST_OK);
    assert_started(&w, 0);
    assert_int_equal(create(&w, 1, (struct spec){ .name = "early" }), ST_OK); /* asked again */
    assert_null(gw_take(&w, RAYLET, GCS_START_ACTOR, &ray__gcs__start_actor__descriptor));
    placed(&w, 1, 0);
    built(&w, 1, 0, ST_OK);
    assert_int_equal(find_named(&w, "early"), 1);
    assert_int_equal(create(&w, 3, (struct spec){ .name = "never", .register_only = true }), ST_OK);
    assert_int_equal(kill_actor(&w, 3, true), ST_OK);
    assert_int_equal(find_named(&w, "never"), -1);
    assert_int_equal(create(&w, 3, (struct spec){ .name = "never" }), ST_OK); /* crossed with it */
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
    const struct spec by_worker = {
        .name = "a", .detached = true, .register_only = true, .owner = 50
    };
    assert_int_equal(create(&w, 1, by_worker), ST_OK);
    assert_int_equal(create(&w, 2, (struct spec){ .name = "b", .detached = true, .owner = 50 }),
                     ST_OK);
    struct id_worker owner;
    memset(owner.b, 50, sizeof(owner.b));
    Ray__Gcs__ProcessGone gone = RAY__GCS__PROCESS_GONE__INIT;
    gone.worker_id = (ProtobufCBinaryData){ sizeof(owner.b), owner.b };
    tell(&w, GCS_PROCESS_GONE, &gone);
    assert_int_equal(find_named(&w, "a"), -1);
    assert_int_equal(find_named(&w, "b"), 2);
    const struct spec by_driver = { .name = "c", .detached = true, .register_only = true };
    assert_int_equal(create(&w, 3, by_driver), ST_OK);
    Ray__Gcs__FinishJob m = RAY__GCS__FINISH_JOB__INIT;
    m.job_id = (ProtobufCBinaryData){ sizeof(w.job.b), w.job.b };
    tell(&w, GCS_FINISH_JOB, &m);
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
    make_alive(&w, 1, (struct spec){ .name = "root", .detached = true });
    make_alive(&w, 2, (struct spec){ .name = "child", .owner = 1 }); /* the worker of `placed` */
    make_alive(&w, 3, (struct spec){ .name = "drivers" });
    Ray__Gcs__FinishJob m = RAY__GCS__FINISH_JOB__INIT;
    m.job_id = (ProtobufCBinaryData){ sizeof(w.job.b), w.job.b };
    tell(&w, GCS_FINISH_JOB, &m);
    assert_int_equal(find_named(&w, "root"), 1);
    assert_int_equal(find_named(&w, "child"), 2);
    assert_int_equal(find_named(&w, "drivers"), -1);
    assert_int_equal(create(&w, 4, (struct spec){ .name = "more", .owner = 1 }), ST_OK);
    assert_int_equal(kill_actor(&w, 1, true), ST_OK);
    struct id_worker owner;
    memset(owner.b, 1, sizeof(owner.b));
    Ray__Gcs__ProcessGone gone = RAY__GCS__PROCESS_GONE__INIT;
    gone.worker_id = (ProtobufCBinaryData){ sizeof(owner.b), owner.b };
    tell(&w, GCS_PROCESS_GONE, &gone);
    assert_int_equal(count_names(&w), 0);
    assert_int_equal(create(&w, 5, (struct spec){ .owner = 1 }), ST_NOT_FOUND);
    gw_close(&w);
}

static void
test_the_end_of_a_job_ends_its_actors(void **state)
{
    (void)state;
    struct world w;
    gw_open(&w);
    static const uint8_t last = 60;
    for (uint8_t n = 1; n <= last; n++) {
        make_alive(&w, n, (struct spec){ .detached = n == 7 });
        watch(&w, DRIVER, n);
    }
    gw_forget_sent(&w);
    Ray__Gcs__FinishJob m = RAY__GCS__FINISH_JOB__INIT;
    m.job_id = (ProtobufCBinaryData){ sizeof(w.job.b), w.job.b };
    tell(&w, GCS_FINISH_JOB, &m);
    for (int i = 0; i < last - 1; i++) {
        assert_stopped(&w, false);
        gw_drop(gw_take(&w, DRIVER, GCS_ACTOR_UPDATE, &ray__gcs__actor_update__descriptor));
    }
    assert_int_equal(w.sent_count, 0);
    struct gcs_stats stats;
    gcs_get_stats(w.gcs, &stats);
    assert_int_equal(stats.actors, 1);
    assert_int_equal(stats.dead_actors, last - 1);
    assert_int_equal(create(&w, 100, (struct spec){ 0 }), ST_NOT_FOUND); /* too late */
    gw_close(&w);
}

static void
test_actors_end_with_their_creator(void **state)
{
    (void)state;
    struct world w;
    gw_open(&w);
    make_alive(&w, 1, (struct spec){ .max_restarts = -1 });
    make_alive(&w, 2, (struct spec){ .detached = true });
    make_alive(&w, 3, (struct spec){ 0 });
    gw_forget_sent(&w);
    Ray__Gcs__ProcessGone m = RAY__GCS__PROCESS_GONE__INIT;
    m.worker_id = (ProtobufCBinaryData){ sizeof(w.driver.b), w.driver.b };
    tell(&w, GCS_PROCESS_GONE, &m);
    assert_stopped(&w, false);
    assert_stopped(&w, false);
    assert_int_equal(w.sent_count, 0);
    gw_close(&w);
}

static void
test_a_watch_of_nothing_is_answered_in_time(void **state)
{
    (void)state;
    struct world w;
    gw_open(&w);
    watch(&w, DRIVER, 1);
    assert_int_equal(w.timer, w.now + w.config.unknown_watch_ns);
    w.now = w.timer;
    assert_int_equal(gw_step(&w, 0, GCS_IN_TICK, 0, NULL), ST_OK);
    Ray__Gcs__ActorUpdate *u =
        gw_take(&w, DRIVER, GCS_ACTOR_UPDATE, &ray__gcs__actor_update__descriptor);
    assert_int_equal(u->state, RAY__GCS__ACTOR_STATE__DEAD);
    assert_int_equal(u->status, ST_NOT_FOUND);
    gw_drop(u);
    assert_int_equal(gw_step(&w, 0, GCS_IN_CLOSED, 0, NULL), ST_OK); /* frees what was forgotten */
    gw_close(&w);
}

/* After a restart the raylet says what runs; the differences are settled. */
static void
test_a_restart_is_not_noticed(void **state)
{
    (void)state;
    struct world w;
    gw_open(&w);
    make_alive(&w, 1, (struct spec){ 0 });                      /* still runs */
    make_alive(&w, 2, (struct spec){ .max_restarts = 1 });      /* died meanwhile */
    assert_int_equal(create(&w, 3, (struct spec){ 0 }), ST_OK); /* the order got lost */
    gw_restart(&w);
    watch(&w, DRIVER, 1);
    watch(&w, DRIVER, 2);
    gw_forget_sent(&w);
    struct id_actor id = gw_actor_id(&w, 1);
    uint8_t worker[28] = { 1 };
    Ray__Gcs__LiveActor live = RAY__GCS__LIVE_ACTOR__INIT;
    live.actor_id = (ProtobufCBinaryData){ sizeof(id.b), id.b };
    live.worker_id = (ProtobufCBinaryData){ sizeof(worker), worker };
    live.constructed = true;
    gw_register_node(&w, &live, &w.job);
    struct gcs_stats stats;
    gcs_get_stats(w.gcs, &stats);
    assert_int_equal(stats.actors, 3);
    Ray__Gcs__StartActor *m = NULL;
    bool second = false, third = false;
    while ((m = gw_take(&w, RAYLET, GCS_START_ACTOR, &ray__gcs__start_actor__descriptor)) != NULL) {
        second |= m->actor->actor_id.data[0] == 2 && m->incarnation == 1;
        third |= m->actor->actor_id.data[0] == 3 && m->incarnation == 0;
        gw_drop(m);
    }
    assert_true(second);
    assert_true(third);
    /* And one that was killed while the raylet was away is stopped when it shows up. */
    assert_int_equal(gw_step(&w, RAYLET, GCS_IN_CLOSED, 0, NULL), ST_OK);
    assert_int_equal(kill_actor(&w, 1, true), ST_OK);
    gw_forget_sent(&w);
    gw_hello(&w, RAYLET, NULL);
    gw_register_node(&w, &live, &w.job);
    assert_stopped(&w, false);
    gw_close(&w);
}

/* Orders to stop that were stored, and then lost with the service that was to give them. */
static void
test_lost_orders_to_stop_are_given_again(void **state)
{
    (void)state;
    struct world w;
    gw_open(&w);
    assert_int_equal(create(&w, 1, (struct spec){ 0 }), ST_OK); /* waits at the raylet */
    assert_int_equal(kill_actor(&w, 1, true), ST_OK);
    make_alive(&w, 2, (struct spec){ .max_restarts = 1 });
    assert_int_equal(kill_actor(&w, 2, false), ST_OK);
    gw_restart(&w);
    struct id_actor id = gw_actor_id(&w, 2);
    uint8_t worker[28] = { 1 };
    Ray__Gcs__LiveActor live = RAY__GCS__LIVE_ACTOR__INIT;
    live.actor_id = (ProtobufCBinaryData){ sizeof(id.b), id.b };
    live.worker_id = (ProtobufCBinaryData){ sizeof(worker), worker };
    gw_register_node(&w, &live, &w.job);
    assert_stopped(&w, false);
    gw_forget_sent(&w);
    placed(&w, 1, 0);
    assert_stopped(&w, false);
    gw_close(&w);
}

static void
test_a_job_whose_driver_is_gone_ends_at_registration(void **state)
{
    (void)state;
    struct world w;
    gw_open(&w);
    make_alive(&w, 1, (struct spec){ 0 });
    gw_restart(&w);
    gw_register_node(&w, NULL, NULL);
    Ray__Gcs__ActorRow *row = gw_stored(&w, 1);
    assert_int_equal(row->state, RAY__GCS__ACTOR_STATE__DEAD);
    ray__gcs__actor_row__free_unpacked(row, NULL);
    gw_close(&w);
}

static void
test_the_dead_are_forgotten_beyond_the_limit(void **state)
{
    (void)state;
    struct world w;
    gw_open(&w);
    gcs_destroy(&w.gcs);
    w.config.dead_actors_max = 3;
    w.config.dead_jobs_max = 1;
    gw_open_machine(&w);
    gw_hello(&w, RAYLET, NULL);
    gw_hello(&w, DRIVER, &w.driver);
    gw_register_node(&w, NULL, NULL);
    w.job = gw_add_job(&w, &w.driver, "");
    for (uint8_t n = 1; n <= 8; n++) {
        make_alive(&w, n, (struct spec){ 0 });
        exited(&w, n, 0, false, "gone");
    }
    struct gcs_stats stats;
    gcs_get_stats(w.gcs, &stats);
    assert_int_equal(stats.dead_actors, 3);
    assert_null(gw_stored(&w, 5));
    Ray__Gcs__ActorRow *row = gw_stored(&w, 6);
    assert_non_null(row);
    ray__gcs__actor_row__free_unpacked(row, NULL);
    for (uint8_t n = 0; n < 4; n++) {
        struct id_worker driver;
        memset(driver.b, 20 + n, sizeof(driver.b));
        const struct id_job job = gw_add_job(&w, &driver, "");
        struct id_job copy = job;
        Ray__Gcs__FinishJob m = RAY__GCS__FINISH_JOB__INIT;
        m.job_id = (ProtobufCBinaryData){ sizeof(copy.b), copy.b };
        tell(&w, GCS_FINISH_JOB, &m);
    }
    assert_int_equal(gw_step(&w, 999, GCS_IN_CLOSED, 0, NULL), ST_OK);
    gcs_get_stats(w.gcs, &stats);
    assert_int_equal(stats.jobs, 2); /* the living one and one of the dead */
    gw_close(&w);
}

static int
kv_put(struct world *w, const char *key, const char *value, bool overwrite)
{
    Ray__Gcs__KvPut m = RAY__GCS__KV_PUT__INIT;
    char table[] = "t", k[64], v[64];
    (void)snprintf(k, sizeof(k), "%s", key);
    (void)snprintf(v, sizeof(v), "%s", value);
    m.table = table;
    m.key = (ProtobufCBinaryData){ strlen(k), (uint8_t *)k };
    m.value = (ProtobufCBinaryData){ strlen(v), (uint8_t *)v };
    m.overwrite = overwrite;
    assert_int_equal(gw_step(w, DRIVER, GCS_KV_PUT, 1, &m), ST_OK);
    return gw_take_done(w, DRIVER);
}

static void
test_key_value(void **state)
{
    (void)state;
    struct world w;
    gw_open(&w);
    assert_int_equal(kv_put(&w, "aa", "1", false), ST_OK);
    assert_int_equal(kv_put(&w, "ab", "2", false), ST_OK);
    assert_int_equal(kv_put(&w, "b", "", false), ST_OK);
    assert_int_equal(kv_put(&w, "aa", "3", false), ST_EXISTS);
    assert_int_equal(kv_put(&w, "aa", "3", true), ST_OK);
    gw_restart(&w);
    char table[] = "t", prefix[] = "a";
    Ray__Gcs__KvKeys keys = RAY__GCS__KV_KEYS__INIT;
    keys.table = table;
    keys.prefix = (ProtobufCBinaryData){ 1, (uint8_t *)prefix };
    assert_int_equal(gw_step(&w, DRIVER, GCS_KV_KEYS, 4, &keys), ST_OK);
    Ray__Gcs__KvValue *m = gw_take(&w, DRIVER, GCS_KV_VALUE, &ray__gcs__kv_value__descriptor);
    assert_int_equal(m->n_keys, 2);
    gw_drop(m);
    Ray__Gcs__KvGet get = RAY__GCS__KV_GET__INIT;
    char key[] = "aa";
    get.table = table;
    get.key = (ProtobufCBinaryData){ 2, (uint8_t *)key };
    assert_int_equal(gw_step(&w, DRIVER, GCS_KV_GET, 5, &get), ST_OK);
    m = gw_take(&w, DRIVER, GCS_KV_VALUE, &ray__gcs__kv_value__descriptor);
    assert_int_equal(m->value.len, 1);
    assert_int_equal(m->value.data[0], '3');
    gw_drop(m);
    Ray__Gcs__KvDelete delete = RAY__GCS__KV_DELETE__INIT;
    delete.table = table;
    delete.key = get.key;
    assert_int_equal(gw_step(&w, DRIVER, GCS_KV_DELETE, 6, &delete), ST_OK);
    assert_int_equal(gw_take_done(&w, DRIVER), ST_OK);
    assert_int_equal(gw_step(&w, DRIVER, GCS_KV_DELETE, 6, &delete), ST_OK);
    assert_int_equal(gw_take_done(&w, DRIVER), ST_NOT_FOUND);
    gw_close(&w);
}

static void
test_peers_that_make_no_sense_are_cut_off(void **state)
{
    (void)state;
    struct world w;
    gw_open(&w);
    Ray__Gcs__GcsHello again = RAY__GCS__GCS_HELLO__INIT;
    again.protocol_version = RAY_PROTOCOL_VERSION;
    assert_int_equal(gw_step(&w, DRIVER, GCS_GCS_HELLO, 0, &again), ST_PROTOCOL);
    again.protocol_version = 77;
    assert_int_equal(gw_step(&w, OTHER, GCS_GCS_HELLO, 0, &again), ST_PROTOCOL);
    Ray__Gcs__FinishJob finish = RAY__GCS__FINISH_JOB__INIT;
    assert_int_equal(gw_step(&w, OTHER, GCS_FINISH_JOB, 0, &finish), ST_PROTOCOL);  /* no hello */
    assert_int_equal(gw_step(&w, DRIVER, GCS_FINISH_JOB, 0, &finish), ST_PROTOCOL); /* no raylet */
    assert_int_equal(gw_step(&w, RAYLET, GCS_FINISH_JOB, 0, &finish), ST_PROTOCOL); /* no id */
    Ray__Gcs__RegisterNode node = RAY__GCS__REGISTER_NODE__INIT;
    assert_int_equal(gw_step(&w, DRIVER, GCS_REGISTER_NODE, 0, &node), ST_PROTOCOL);
    Ray__Gcs__CreateActor actor = RAY__GCS__CREATE_ACTOR__INIT;
    assert_int_equal(gw_step(&w, DRIVER, GCS_CREATE_ACTOR, 0, &actor), ST_PROTOCOL);
    Ray__Gcs__WatchActor watch_nobody = RAY__GCS__WATCH_ACTOR__INIT;
    assert_int_equal(gw_step(&w, DRIVER, GCS_WATCH_ACTOR, 0, &watch_nobody), ST_PROTOCOL);
    assert_int_equal(w.sent_count, 0);
    gw_close(&w);
}

static void
test_tables_as_json(void **state)
{
    (void)state;
    struct world w;
    gw_open(&w);
    make_alive(&w, 1, (struct spec){ .name = "quo\"te\n" });
    static const struct {
        const char *what, *expect;
    } asks[] = {
        { "nodes", "\"Resources\": {\"CPU\": 4.0}" },
        { "cluster_resources", "{\"CPU\": 4.0}" },
        { "actors", "\"Name\": \"quo\\\"te\\u000a\"" },
        { "jobs", "\"JobID\": \"01000000\"" },
    };
    gw_forget_sent(&w);
    for (size_t i = 0; i < COUNT_OF(asks); i++) {
        Ray__Gcs__GcsStateAsk m = RAY__GCS__GCS_STATE_ASK__INIT;
        char what[64];
        (void)snprintf(what, sizeof(what), "%s", asks[i].what);
        m.what = what;
        assert_int_equal(gw_step(&w, DRIVER, GCS_GCS_STATE_ASK, 3, &m), ST_OK);
        Ray__Gcs__StateJson *json =
            gw_take(&w, DRIVER, GCS_STATE_JSON, &ray__gcs__state_json__descriptor);
        assert_int_equal(json->status, ST_OK);
        if (!strstr(json->json, asks[i].expect)) {
            fail_msg("%s: %s", asks[i].what, json->json);
        }
        gw_drop(json);
    }
    gw_close(&w);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_jobs_are_numbered_once),
        cmocka_unit_test(test_a_job_that_was_not_heard_of_goes_on),
        cmocka_unit_test(test_an_actor_lives),
        cmocka_unit_test(test_restarts_are_counted),
        cmocka_unit_test(test_kill_is_at_once_and_final),
        cmocka_unit_test(test_a_kill_before_there_is_a_process_waits_for_it),
        cmocka_unit_test(test_the_dead_create_nothing),
        cmocka_unit_test(test_out_of_scope_waits_for_the_constructor),
        cmocka_unit_test(test_a_failed_constructor_is_passed_on),
        cmocka_unit_test(test_names_are_taken_while_their_actor_lives),
        cmocka_unit_test(test_names_are_found),
        cmocka_unit_test(test_a_registered_actor_waits_for_its_arguments),
        cmocka_unit_test(test_registered_actors_end_with_their_creator),
        cmocka_unit_test(test_a_job_goes_on_for_detached_actors),
        cmocka_unit_test(test_the_end_of_a_job_ends_its_actors),
        cmocka_unit_test(test_actors_end_with_their_creator),
        cmocka_unit_test(test_a_watch_of_nothing_is_answered_in_time),
        cmocka_unit_test(test_a_restart_is_not_noticed),
        cmocka_unit_test(test_lost_orders_to_stop_are_given_again),
        cmocka_unit_test(test_a_job_whose_driver_is_gone_ends_at_registration),
        cmocka_unit_test(test_the_dead_are_forgotten_beyond_the_limit),
        cmocka_unit_test(test_key_value),
        cmocka_unit_test(test_peers_that_make_no_sense_are_cut_off),
        cmocka_unit_test(test_tables_as_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
