/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Questions to the daemons, and their answers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/status.h"
#include "cl_ask.h"

void
cl_ask_state(struct cl_runtime *rt, const char *what, char *out, size_t capacity)
{
    Ray__Node__StateAsk ask = RAY__NODE__STATE_ASK__INIT;
    char copy[64];
    (void)snprintf(copy, sizeof(copy), "%s", what);
    ask.what = copy;
    cl_send(&rt->node, NODE_STATE_ASK, 5, &ask.base, -1);
    Ray__Node__StateAnswer *m = (Ray__Node__StateAnswer *)cl_expect(&rt->node, NODE_STATE_ANSWER);
    assert_int_equal(m->status, ST_OK);
    (void)snprintf(out, capacity, "%s", m->json);
    net_msg_free(&m->base);
}

bool
cl_answers(struct cl_runtime *rt)
{
    Ray__Node__StateAsk ask = RAY__NODE__STATE_ASK__INIT;
    char what[] = "workers";
    ask.what = what;
    const int status = net_msg_send(rt->node.conn, NODE_STATE_ASK, 5, &ask.base, NULL, 0);
    assert_true(status == ST_OK || status == ST_CLOSED);
    ProtobufCMessage *m = cl_expect_or_end(&rt->node, NODE_STATE_ANSWER);
    net_msg_free(m);
    return m != NULL;
}

void
cl_put_value(struct cl_runtime *rt, const char *value)
{
    Ray__Gcs__KvPut m = RAY__GCS__KV_PUT__INIT;
    char table[] = "t", key[] = "k", copy[64];
    (void)snprintf(copy, sizeof(copy), "%s", value);
    m.table = table;
    m.key.data = (uint8_t *)key;
    m.key.len = 1;
    m.value.data = (uint8_t *)copy;
    m.value.len = strlen(copy);
    m.overwrite = true;
    cl_send(&rt->gcs, GCS_KV_PUT, 77, &m.base, -1);
    Ray__Gcs__Done *done = (Ray__Gcs__Done *)cl_expect(&rt->gcs, GCS_DONE);
    assert_int_equal(done->status, ST_OK);
    net_msg_free(&done->base);
}

void
cl_assert_value(struct cl_conn *gcs, const char *value)
{
    Ray__Gcs__KvGet m = RAY__GCS__KV_GET__INIT;
    char table[] = "t", key[] = "k";
    m.table = table;
    m.key.data = (uint8_t *)key;
    m.key.len = 1;
    cl_send(gcs, GCS_KV_GET, 78, &m.base, -1);
    Ray__Gcs__KvValue *got = (Ray__Gcs__KvValue *)cl_expect(gcs, GCS_KV_VALUE);
    assert_int_equal(got->status, ST_OK);
    assert_int_equal(got->value.len, strlen(value));
    assert_memory_equal(got->value.data, value, strlen(value));
    net_msg_free(&got->base);
}

struct id_actor
cl_create_actor(struct cl_runtime *rt, const char *what, int64_t max_restarts)
{
    static uint8_t serial;
    struct id_actor id;
    memset(id.b, ++serial, sizeof(id.b));
    memcpy(id.b + 12, rt->job_id.b, 4);
    char class_name[] = "Counter", spec[16];
    (void)snprintf(spec, sizeof(spec), "%s", what);
    Ray__Gcs__CreateActor m = RAY__GCS__CREATE_ACTOR__INIT;
    m.actor_id.data = id.b;
    m.actor_id.len = sizeof(id.b);
    m.job_id.data = rt->job_id.b;
    m.job_id.len = sizeof(rt->job_id.b);
    m.owner_worker_id.data = rt->worker_id.b;
    m.owner_worker_id.len = sizeof(rt->worker_id.b);
    m.class_name = class_name;
    m.max_restarts = max_restarts;
    m.spec.data = (uint8_t *)spec;
    m.spec.len = strlen(spec);
    cl_send(&rt->gcs, GCS_CREATE_ACTOR, 50, &m.base, -1);
    Ray__Gcs__Done *done = (Ray__Gcs__Done *)cl_expect(&rt->gcs, GCS_DONE);
    assert_int_equal(done->status, ST_OK);
    net_msg_free(&done->base);
    Ray__Gcs__WatchActor watch = RAY__GCS__WATCH_ACTOR__INIT;
    watch.actor_id = m.actor_id;
    cl_send(&rt->gcs, GCS_WATCH_ACTOR, 0, &watch.base, -1);
    return id;
}

/* Waits until the actor is in that state (and constructed, when it is to be alive). */
Ray__Gcs__ActorUpdate *
cl_wait_for_actor(struct cl_runtime *rt, const struct id_actor *id, Ray__Gcs__ActorState state,
                  uint64_t incarnation)
{
    for (;;) {
        Ray__Gcs__ActorUpdate *m = (Ray__Gcs__ActorUpdate *)cl_expect(&rt->gcs, GCS_ACTOR_UPDATE);
        const bool ours = memcmp(m->actor_id.data, id->b, sizeof(id->b)) == 0;
        if (ours && m->state == state && m->incarnation == incarnation &&
            (state != RAY__GCS__ACTOR_STATE__ALIVE || m->constructed)) {
            return m;
        }
        if (ours && m->state == RAY__GCS__ACTOR_STATE__DEAD) {
            fail_msg("the actor is dead: %s", m->reason);
        }
        net_msg_free(&m->base);
    }
}

pid_t
cl_wait_alive(struct cl_runtime *rt, const struct id_actor *id, uint64_t incarnation)
{
    Ray__Gcs__ActorUpdate *m = cl_wait_for_actor(rt, id, RAY__GCS__ACTOR_STATE__ALIVE, incarnation);
    const pid_t pid = m->pid;
    net_msg_free(&m->base);
    return pid;
}

void
cl_wait_dead(struct cl_runtime *rt, const struct id_actor *id, uint64_t incarnation, int status,
             const char *reason)
{
    Ray__Gcs__ActorUpdate *m = cl_wait_for_actor(rt, id, RAY__GCS__ACTOR_STATE__DEAD, incarnation);
    assert_int_equal(m->status, status);
    if (!strstr(m->reason, reason)) {
        fail_msg("'%s' doesn't say '%s'", m->reason, reason);
    }
    net_msg_free(&m->base);
}

void
cl_kill_actor(struct cl_runtime *rt, const struct id_actor *id, bool no_restart)
{
    Ray__Gcs__KillActor m = RAY__GCS__KILL_ACTOR__INIT;
    struct id_actor copy = *id;
    m.actor_id.data = copy.b;
    m.actor_id.len = sizeof(copy.b);
    m.no_restart = no_restart;
    cl_send(&rt->gcs, GCS_KILL_ACTOR, 60, &m.base, -1);
    net_msg_free(cl_expect(&rt->gcs, GCS_DONE));
}
