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
    assert_int_equal(gw_create(&w, 1, (struct gw_spec){ 0 }), ST_OK);
    gw_restart(&w);
    gw_register_node(&w, NULL, &w.job);
    assert_int_equal(gw_create(&w, 2, (struct gw_spec){ 0 }), ST_OK);
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
        gw_make_alive(&w, n, (struct gw_spec){ .detached = n == 7 });
        gw_watch(&w, DRIVER, n);
    }
    gw_forget_sent(&w);
    Ray__Gcs__FinishJob m = RAY__GCS__FINISH_JOB__INIT;
    m.job_id = (ProtobufCBinaryData){ sizeof(w.job.b), w.job.b };
    gw_tell(&w, GCS_FINISH_JOB, &m);
    for (int i = 0; i < last - 1; i++) {
        gw_assert_stopped(&w, false);
        gw_drop(gw_take(&w, DRIVER, GCS_ACTOR_UPDATE, &ray__gcs__actor_update__descriptor));
    }
    assert_int_equal(w.sent_count, 0);
    struct gcs_stats stats;
    gcs_get_stats(w.gcs, &stats);
    assert_int_equal(stats.actors, 1);
    assert_int_equal(stats.dead_actors, last - 1);
    assert_int_equal(gw_create(&w, 100, (struct gw_spec){ 0 }), ST_NOT_FOUND); /* too late */
    gw_close(&w);
}

/* After a restart the raylet says what runs; the differences are settled. */
static void
test_a_restart_is_not_noticed(void **state)
{
    (void)state;
    struct world w;
    gw_open(&w);
    gw_make_alive(&w, 1, (struct gw_spec){ 0 });                      /* still runs */
    gw_make_alive(&w, 2, (struct gw_spec){ .max_restarts = 1 });      /* died meanwhile */
    assert_int_equal(gw_create(&w, 3, (struct gw_spec){ 0 }), ST_OK); /* the order got lost */
    gw_restart(&w);
    gw_watch(&w, DRIVER, 1);
    gw_watch(&w, DRIVER, 2);
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
    assert_int_equal(gw_kill_actor(&w, 1, true), ST_OK);
    gw_forget_sent(&w);
    gw_hello(&w, RAYLET, NULL);
    gw_register_node(&w, &live, &w.job);
    gw_assert_stopped(&w, false);
    gw_close(&w);
}

static void
test_a_job_whose_driver_is_gone_ends_at_registration(void **state)
{
    (void)state;
    struct world w;
    gw_open(&w);
    gw_make_alive(&w, 1, (struct gw_spec){ 0 });
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
        gw_make_alive(&w, n, (struct gw_spec){ 0 });
        gw_exited(&w, n, 0, false, "gone");
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
        gw_tell(&w, GCS_FINISH_JOB, &m);
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
    gw_make_alive(&w, 1, (struct gw_spec){ .name = "quo\"te\n" });
    assert_int_equal(gw_create(&w, 2, (struct gw_spec){ .register_only = true }), ST_OK);
    static const struct {
        const char *what, *expect;
    } asks[] = {
        { "nodes", "\"Resources\": {\"CPU\": 4.0}" },
        { "cluster_resources", "{\"CPU\": 4.0}" },
        { "actors", "\"Name\": \"quo\\\"te\\u000a\"" },
        { "actors", "\"State\": \"DEPENDENCIES_UNREADY\"" },
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
        cmocka_unit_test(test_the_end_of_a_job_ends_its_actors),
        cmocka_unit_test(test_a_restart_is_not_noticed),
        cmocka_unit_test(test_a_job_whose_driver_is_gone_ends_at_registration),
        cmocka_unit_test(test_the_dead_are_forgotten_beyond_the_limit),
        cmocka_unit_test(test_key_value),
        cmocka_unit_test(test_peers_that_make_no_sense_are_cut_off),
        cmocka_unit_test(test_tables_as_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
