/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests of the control service's decisions (src/gcs/gcs*.c but the *_io files): a machine in a
 * world of one raylet (peer 1) and some clients, with a model of the store from which it is loaded
 * again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/id.h"
#include "base/status.h"
#include "gcs/gcs.h"
#include "proto/gcs_rows.pb-c.h"
#include "proto/kinds.h"

enum { SENT_MAX = 4096, ROWS_MAX = 4096, RAYLET = 1, DRIVER = 2, OTHER = 3 };

struct sent {
    uint64_t peer, request;
    uint16_t kind;
    uint8_t *bytes;
    size_t size;
};

struct row {
    enum gcs_table table;
    uint8_t key[64], *bytes;
    size_t key_size, size;
};

struct world {
    struct gcs *gcs;
    struct gcs_config config;
    struct arena arena;
    struct sent sent[SENT_MAX];
    size_t sent_count;
    struct row rows[ROWS_MAX];
    size_t row_count;
    uint64_t now, timer;
    uint32_t capacity; /* of outs: small, so that continuing is exercised */
    struct id_node node;
    struct id_worker driver;
    struct id_job job;
};

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

/* ---- the world ------------------------------------------------------------------------------- */

/* The caller frees it. */
static uint8_t *
pack(const ProtobufCMessage *message, size_t *size)
{
    *size = protobuf_c_message_get_packed_size(message);
    uint8_t *bytes = calloc(1, *size + 1);
    assert_non_null(bytes);
    (void)protobuf_c_message_pack(message, bytes);
    return bytes;
}

static void
model_row(struct world *w, const struct step_out *out)
{
    const struct gcs_row *r = out->msg;
    size_t at = 0;
    assert_true(r->key_size <= sizeof(w->rows[0].key));
    while (at < w->row_count &&
           (w->rows[at].table != r->table || w->rows[at].key_size != r->key_size ||
            memcmp(w->rows[at].key, r->key, r->key_size) != 0)) {
        at++;
    }
    if (at < w->row_count) {
        free(w->rows[at].bytes);
        w->rows[at] = w->rows[--w->row_count];
    }
    if (out->kind == GCS_OUT_ERASE) {
        assert_null(r->message);
        return;
    }
    ASSERT(w->row_count < ROWS_MAX);
    struct row *row = &w->rows[w->row_count++];
    row->table = r->table;
    row->key_size = r->key_size;
    memcpy(row->key, r->key, r->key_size);
    row->bytes = pack(r->message, &row->size);
}

static void
carry_out(struct world *w, const struct step_outs *outs)
{
    for (uint32_t i = 0; i < outs->count; i++) {
        const struct step_out *out = &outs->v[i];
        if (out->kind == GCS_OUT_PUT || out->kind == GCS_OUT_ERASE) {
            model_row(w, out);
        } else if (out->kind == GCS_OUT_TIMER) {
            w->timer = out->when_ns;
        } else {
            ASSERT(w->sent_count < SENT_MAX);
            struct sent *s = &w->sent[w->sent_count++];
            *s = (struct sent){ .peer = out->peer, .request = out->payload, .kind = out->kind };
            /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): close_world frees it */
            s->bytes = pack(out->msg, &s->size);
        }
    }
}

static int
step(struct world *w, uint64_t peer, uint16_t kind, uint64_t request, const void *msg)
{
    struct step_out v[128];
    struct step_in in = {
        .kind = kind, .now_ns = w->now, .peer = peer, .payload = request, .msg = msg
    };
    int status = ST_OK;
    struct step_outs outs;
    do {
        outs = (struct step_outs){ .v = v, .capacity = w->capacity, .arena = &w->arena };
        const int now = gcs_step(w->gcs, &in, &outs);
        status = status == ST_OK ? now : status;
        carry_out(w, &outs);
        arena_reset(&w->arena);
        in.kind = STEP_CONTINUE;
    } while (outs.more);
    return status;
}

/* Takes the first frame of that kind to that peer; NULL when there is none. */
static void *
take(struct world *w, uint64_t peer, uint16_t kind, const ProtobufCMessageDescriptor *d)
{
    for (size_t i = 0; i < w->sent_count; i++) {
        struct sent *s = &w->sent[i];
        if (s->peer == peer && s->kind == kind) {
            void *m = protobuf_c_message_unpack(d, NULL, s->size, s->bytes);
            assert_non_null(m);
            free(s->bytes);
            memmove(s, s + 1, (w->sent_count - i - 1) * sizeof(*s));
            w->sent_count--;
            return m;
        }
    }
    return NULL;
}

static void
drop(void *m)
{
    if (m) {
        protobuf_c_message_free_unpacked(m, NULL);
    }
}

static void
forget_sent(struct world *w)
{
    while (w->sent_count > 0) {
        free(w->sent[--w->sent_count].bytes);
    }
}

static int
take_done(struct world *w, uint64_t peer)
{
    Ray__Gcs__Done *m = take(w, peer, GCS_DONE, &ray__gcs__done__descriptor);
    assert_non_null(m);
    const int status = m->status;
    drop(m);
    return status;
}

static void
hello(struct world *w, uint64_t peer, const struct id_worker *id)
{
    Ray__Gcs__GcsHello m = RAY__GCS__GCS_HELLO__INIT;
    struct id_worker copy;
    m.protocol_version = RAY_PROTOCOL_VERSION;
    if (id) {
        copy = *id;
        m.worker_id = (ProtobufCBinaryData){ sizeof(copy.b), copy.b };
    }
    assert_int_equal(step(w, peer, GCS_GCS_HELLO, 0, &m), ST_OK);
}

/* Registers the node; `live` and `job` may be NULL. */
static void
register_node(struct world *w, Ray__Gcs__LiveActor *live, const struct id_job *job)
{
    Ray__Gcs__RegisterNode m = RAY__GCS__REGISTER_NODE__INIT;
    Ray__Node__Resource cpu = RAY__NODE__RESOURCE__INIT, *resources[1] = { &cpu };
    char name[] = "CPU", ip[] = "127.0.0.1";
    struct id_job job_copy;
    ProtobufCBinaryData jobs[1];
    cpu.name = name;
    cpu.amount = 40000;
    m.node_id = (ProtobufCBinaryData){ sizeof(w->node.b), w->node.b };
    m.node_ip = ip;
    m.resources = resources;
    m.n_resources = 1;
    if (live) {
        m.actors = &live;
        m.n_actors = 1;
    }
    if (job) {
        job_copy = *job;
        jobs[0] = (ProtobufCBinaryData){ sizeof(job_copy.b), job_copy.b };
        m.jobs = jobs;
        m.n_jobs = 1;
    }
    assert_int_equal(step(w, RAYLET, GCS_REGISTER_NODE, 5, &m), ST_OK);
    assert_int_equal(take_done(w, RAYLET), ST_OK);
}

static struct id_job
add_job(struct world *w, const struct id_worker *driver, const char *space)
{
    Ray__Gcs__AddJob m = RAY__GCS__ADD_JOB__INIT;
    struct id_worker copy = *driver;
    char name[64];
    (void)snprintf(name, sizeof(name), "%s", space);
    m.worker_id = (ProtobufCBinaryData){ sizeof(copy.b), copy.b };
    m.job_namespace = name;
    assert_int_equal(step(w, RAYLET, GCS_ADD_JOB, 6, &m), ST_OK);
    Ray__Gcs__JobAdded *added = take(w, RAYLET, GCS_JOB_ADDED, &ray__gcs__job_added__descriptor);
    assert_non_null(added);
    assert_int_equal(added->status, ST_OK);
    assert_true(added->job_namespace[0] != '\0');
    struct id_job job;
    memcpy(job.b, added->job_id.data, sizeof(job.b));
    drop(added);
    return job;
}

static void
open_machine(struct world *w)
{
    assert_int_equal(gcs_create(&counting, &w->config, &w->gcs), ST_OK);
}

static void
open_world(struct world *w)
{
    memset(w, 0, sizeof(*w));
    live_bytes = 0;
    gcs_config_default(&w->config);
    arena_init(&w->arena, &counting);
    w->capacity = GCS_OUTS_MIN;
    w->now = 1000;
    memset(w->node.b, 7, sizeof(w->node.b));
    memset(w->driver.b, 8, sizeof(w->driver.b));
    open_machine(w);
    assert_int_equal(step(w, 0, GCS_IN_LOADED, 0, NULL), ST_OK);
    hello(w, RAYLET, NULL);
    hello(w, DRIVER, &w->driver);
    register_node(w, NULL, NULL);
    w->job = add_job(w, &w->driver, "");
}

static void
close_world(struct world *w)
{
    gcs_destroy(&w->gcs);
    forget_sent(w);
    for (size_t i = 0; i < w->row_count; i++) {
        free(w->rows[i].bytes);
    }
    arena_fini(&w->arena);
    assert_int_equal(live_bytes, 0);
}

/* The process ends and comes back with what is stored; nobody is connected. */
static void
restart(struct world *w)
{
    gcs_destroy(&w->gcs);
    forget_sent(w);
    open_machine(w);
    static const struct {
        enum gcs_table table;
        uint16_t kind;
        const ProtobufCMessageDescriptor *d;
    } tables[] = {
        { GCS_TABLE_JOBS, GCS_IN_LOAD_JOB, &ray__gcs__job_row__descriptor },
        { GCS_TABLE_ACTORS, GCS_IN_LOAD_ACTOR, &ray__gcs__actor_row__descriptor },
        { GCS_TABLE_KV, GCS_IN_LOAD_KV, &ray__gcs__kv_row__descriptor },
    };
    for (size_t t = 0; t < COUNT_OF(tables); t++) {
        for (size_t i = 0; i < w->row_count; i++) {
            if (w->rows[i].table == tables[t].table) {
                void *m =
                    protobuf_c_message_unpack(tables[t].d, NULL, w->rows[i].size, w->rows[i].bytes);
                assert_non_null(m);
                assert_int_equal(step(w, 0, tables[t].kind, 0, m), ST_OK);
                drop(m);
            }
        }
    }
    assert_int_equal(step(w, 0, GCS_IN_LOADED, 0, NULL), ST_OK);
    assert_int_equal(w->sent_count, 0);
    hello(w, RAYLET, NULL);
    hello(w, DRIVER, &w->driver);
}

/* ---- actors ---------------------------------------------------------------------------------- */

static struct id_actor
actor_id(const struct world *w, uint8_t n)
{
    struct id_actor id;
    memset(id.b, n, sizeof(id.b));
    memcpy(id.b + 12, w->job.b, sizeof(w->job.b));
    return id;
}

struct spec {
    const char *name;
    int64_t max_restarts;
    bool detached;
};

static int
create(struct world *w, uint8_t n, struct spec spec)
{
    struct id_actor id = actor_id(w, n);
    Ray__Gcs__CreateActor m = RAY__GCS__CREATE_ACTOR__INIT;
    char class_name[] = "Counter", name[64], bytes[] = "creation frame";
    (void)snprintf(name, sizeof(name), "%s", spec.name ? spec.name : "");
    m.actor_id = (ProtobufCBinaryData){ sizeof(id.b), id.b };
    m.job_id = (ProtobufCBinaryData){ sizeof(w->job.b), w->job.b };
    m.owner_worker_id = (ProtobufCBinaryData){ sizeof(w->driver.b), w->driver.b };
    m.class_name = class_name;
    m.name = name;
    m.detached = spec.detached;
    m.max_restarts = spec.max_restarts;
    m.spec = (ProtobufCBinaryData){ sizeof(bytes), (uint8_t *)bytes };
    assert_int_equal(step(w, DRIVER, GCS_CREATE_ACTOR, 9, &m), ST_OK);
    return take_done(w, DRIVER);
}

static void
watch(struct world *w, uint64_t peer, uint8_t n)
{
    struct id_actor id = actor_id(w, n);
    Ray__Gcs__WatchActor m = RAY__GCS__WATCH_ACTOR__INIT;
    m.actor_id = (ProtobufCBinaryData){ sizeof(id.b), id.b };
    assert_int_equal(step(w, peer, GCS_WATCH_ACTOR, 0, &m), ST_OK);
}

/* The raylet was asked to start the actor. */
static void
assert_started(struct world *w, uint64_t incarnation)
{
    Ray__Gcs__StartActor *m = take(w, RAYLET, GCS_START_ACTOR, &ray__gcs__start_actor__descriptor);
    assert_non_null(m);
    assert_int_equal(m->incarnation, incarnation);
    assert_string_equal((char *)m->actor->spec.data, "creation frame");
    drop(m);
}

static void
assert_stopped(struct world *w, bool graceful)
{
    Ray__Gcs__StopActor *m = take(w, RAYLET, GCS_STOP_ACTOR, &ray__gcs__stop_actor__descriptor);
    assert_non_null(m);
    assert_int_equal(m->graceful, graceful);
    drop(m);
}

static void
placed(struct world *w, uint8_t n, uint64_t incarnation)
{
    struct id_actor id = actor_id(w, n);
    Ray__Gcs__ActorPlaced m = RAY__GCS__ACTOR_PLACED__INIT;
    uint8_t worker[28];
    char peer[] = "w1";
    memset(worker, n, sizeof(worker));
    m.actor_id = (ProtobufCBinaryData){ sizeof(id.b), id.b };
    m.incarnation = incarnation;
    m.worker_id = (ProtobufCBinaryData){ sizeof(worker), worker };
    m.peer_socket = peer;
    m.pid = 100 + (int32_t)incarnation;
    assert_int_equal(step(w, RAYLET, GCS_ACTOR_PLACED, 0, &m), ST_OK);
}

static void
built(struct world *w, uint8_t n, uint64_t incarnation, int status)
{
    struct id_actor id = actor_id(w, n);
    Ray__Node__ActorConstructed m = RAY__NODE__ACTOR_CONSTRUCTED__INIT;
    uint8_t failure[] = "traceback";
    m.actor_id = (ProtobufCBinaryData){ sizeof(id.b), id.b };
    m.incarnation = incarnation;
    m.status = status;
    if (status != ST_OK) {
        m.failure = (ProtobufCBinaryData){ sizeof(failure), failure };
    }
    assert_int_equal(step(w, RAYLET, GCS_ACTOR_BUILT, 0, &m), ST_OK);
}

static void
exited(struct world *w, uint8_t n, uint64_t incarnation, bool intended, const char *evidence)
{
    struct id_actor id = actor_id(w, n);
    Ray__Gcs__ActorExited m = RAY__GCS__ACTOR_EXITED__INIT;
    char text[64];
    (void)snprintf(text, sizeof(text), "%s", evidence);
    m.actor_id = (ProtobufCBinaryData){ sizeof(id.b), id.b };
    m.incarnation = incarnation;
    m.evidence = text;
    m.intended = intended;
    assert_int_equal(step(w, RAYLET, GCS_ACTOR_EXITED, 0, &m), ST_OK);
}

static int
kill_actor(struct world *w, uint8_t n, bool no_restart)
{
    struct id_actor id = actor_id(w, n);
    Ray__Gcs__KillActor m = RAY__GCS__KILL_ACTOR__INIT;
    m.actor_id = (ProtobufCBinaryData){ sizeof(id.b), id.b };
    m.no_restart = no_restart;
    assert_int_equal(step(w, DRIVER, GCS_KILL_ACTOR, 10, &m), ST_OK);
    return take_done(w, DRIVER);
}

/* The latest update that `peer` got about an actor. */
static void
assert_update(struct world *w, uint64_t peer, Ray__Gcs__ActorState state, uint64_t incarnation)
{
    Ray__Gcs__ActorUpdate *last = NULL;
    for (;;) {
        Ray__Gcs__ActorUpdate *m =
            take(w, peer, GCS_ACTOR_UPDATE, &ray__gcs__actor_update__descriptor);
        if (!m) {
            break;
        }
        drop(last);
        last = m;
    }
    if (!last) {
        fail_msg("peer %u was told nothing", (unsigned)peer);
        return;
    }
    assert_int_equal(last->state, state);
    assert_int_equal(last->incarnation, incarnation);
    drop(last);
}

static void
make_alive(struct world *w, uint8_t n, struct spec spec)
{
    assert_int_equal(create(w, n, spec), ST_OK);
    assert_started(w, 0);
    placed(w, n, 0);
    built(w, n, 0, ST_OK);
}

static Ray__Gcs__ActorRow *
stored(struct world *w, uint8_t n)
{
    const struct id_actor id = actor_id(w, n);
    for (size_t i = 0; i < w->row_count; i++) {
        if (w->rows[i].table == GCS_TABLE_ACTORS &&
            memcmp(w->rows[i].key, id.b, sizeof(id.b)) == 0) {
            return ray__gcs__actor_row__unpack(NULL, w->rows[i].size, w->rows[i].bytes);
        }
    }
    return NULL;
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void
test_jobs_are_numbered_once(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    assert_int_equal(id_job_to_int(&w.job), 1);
    struct id_job again = add_job(&w, &w.driver, "");
    assert_true(ID_EQ(again, w.job));
    struct id_worker other;
    memset(other.b, 9, sizeof(other.b));
    struct id_job second = add_job(&w, &other, "mine");
    assert_int_equal(id_job_to_int(&second), 2);
    restart(&w);
    register_node(&w, NULL, &second);
    again = add_job(&w, &other, "");
    assert_true(ID_EQ(again, second));
    memset(other.b, 10, sizeof(other.b));
    second = add_job(&w, &other, "");
    assert_int_equal(id_job_to_int(&second), 3); /* numbers are never used twice */
    close_world(&w);
}

static void
test_an_actor_lives(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    watch(&w, DRIVER, 1); /* before it is known */
    assert_int_equal(w.sent_count, 0);
    assert_int_equal(create(&w, 1, (struct spec){ 0 }), ST_OK);
    Ray__Gcs__ActorRow *row = stored(&w, 1);
    assert_non_null(row);
    ray__gcs__actor_row__free_unpacked(row, NULL);
    assert_started(&w, 0);
    assert_update(&w, DRIVER, RAY__GCS__ACTOR_STATE__PENDING_CREATION, 0);
    assert_int_equal(create(&w, 1, (struct spec){ 0 }), ST_OK); /* asked twice, made once */
    assert_null(take(&w, RAYLET, GCS_START_ACTOR, &ray__gcs__start_actor__descriptor));
    placed(&w, 1, 0);
    assert_update(&w, DRIVER, RAY__GCS__ACTOR_STATE__ALIVE, 0);
    built(&w, 1, 0, ST_OK);
    assert_update(&w, DRIVER, RAY__GCS__ACTOR_STATE__ALIVE, 0);
    placed(&w, 1, 7); /* another incarnation's: nothing */
    assert_int_equal(w.sent_count, 0);
    exited(&w, 1, 0, false, "SIGSEGV");
    assert_update(&w, DRIVER, RAY__GCS__ACTOR_STATE__DEAD, 0);
    row = stored(&w, 1);
    assert_string_equal(row->reason, "SIGSEGV");
    assert_int_equal(row->spec->spec.len, 0); /* the dead are kept small */
    ray__gcs__actor_row__free_unpacked(row, NULL);
    close_world(&w);
}

static void
test_restarts_are_counted(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
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
    assert_null(take(&w, RAYLET, GCS_START_ACTOR, &ray__gcs__start_actor__descriptor));
    close_world(&w);
}

static void
test_kill_is_at_once_and_final(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    make_alive(&w, 1, (struct spec){ .max_restarts = -1 });
    watch(&w, DRIVER, 1);
    forget_sent(&w);
    assert_int_equal(kill_actor(&w, 1, true), ST_OK);
    assert_stopped(&w, false);
    assert_update(&w, DRIVER, RAY__GCS__ACTOR_STATE__DEAD, 0);
    exited(&w, 1, 0, false, "killed");
    assert_int_equal(w.sent_count, 0);
    assert_int_equal(kill_actor(&w, 1, true), ST_OK);
    assert_int_equal(kill_actor(&w, 99, true), ST_NOT_FOUND);
    close_world(&w);
}

static void
test_out_of_scope_waits_for_the_constructor(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    assert_int_equal(create(&w, 1, (struct spec){ 0 }), ST_OK);
    placed(&w, 1, 0);
    forget_sent(&w);
    struct id_actor id = actor_id(&w, 1);
    Ray__Gcs__ActorOutOfScope m = RAY__GCS__ACTOR_OUT_OF_SCOPE__INIT;
    m.actor_id = (ProtobufCBinaryData){ sizeof(id.b), id.b };
    assert_int_equal(step(&w, DRIVER, GCS_ACTOR_OUT_OF_SCOPE, 0, &m), ST_OK);
    assert_int_equal(w.sent_count, 0);
    built(&w, 1, 0, ST_OK);
    assert_stopped(&w, true);
    close_world(&w);
}

static void
test_a_failed_constructor_is_passed_on(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    assert_int_equal(create(&w, 1, (struct spec){ .max_restarts = 5 }), ST_OK);
    placed(&w, 1, 0);
    built(&w, 1, 0, ST_TASK_FAILED);
    forget_sent(&w);
    watch(&w, DRIVER, 1);
    Ray__Gcs__ActorUpdate *u =
        take(&w, DRIVER, GCS_ACTOR_UPDATE, &ray__gcs__actor_update__descriptor);
    assert_int_equal(u->state, RAY__GCS__ACTOR_STATE__DEAD);
    assert_int_equal(u->status, ST_ACTOR_INIT_FAILED);
    assert_string_equal((char *)u->failure.data, "traceback");
    drop(u);
    close_world(&w);
}

static void
test_names_are_taken_while_their_actor_lives(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    make_alive(&w, 1, (struct spec){ .name = "boss" });
    assert_int_equal(create(&w, 2, (struct spec){ .name = "boss" }), ST_EXISTS);
    assert_int_equal(kill_actor(&w, 1, true), ST_OK);
    assert_int_equal(create(&w, 2, (struct spec){ .name = "boss" }), ST_OK);
    restart(&w);
    register_node(&w, NULL, &w.job);
    assert_int_equal(create(&w, 3, (struct spec){ .name = "boss" }), ST_EXISTS);
    close_world(&w);
}

static void
test_the_end_of_a_job_ends_its_actors(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    static const uint8_t last = 60;
    for (uint8_t n = 1; n <= last; n++) {
        make_alive(&w, n, (struct spec){ .detached = n == 7 });
        watch(&w, DRIVER, n);
    }
    forget_sent(&w);
    Ray__Gcs__FinishJob m = RAY__GCS__FINISH_JOB__INIT;
    m.job_id = (ProtobufCBinaryData){ sizeof(w.job.b), w.job.b };
    assert_int_equal(step(&w, RAYLET, GCS_FINISH_JOB, 0, &m), ST_OK);
    for (int i = 0; i < last - 1; i++) {
        assert_stopped(&w, false);
        drop(take(&w, DRIVER, GCS_ACTOR_UPDATE, &ray__gcs__actor_update__descriptor));
    }
    assert_int_equal(w.sent_count, 0);
    struct gcs_stats stats;
    gcs_get_stats(w.gcs, &stats);
    assert_int_equal(stats.actors, 1);
    assert_int_equal(stats.dead_actors, last - 1);
    assert_int_equal(create(&w, 100, (struct spec){ 0 }), ST_NOT_FOUND); /* too late */
    close_world(&w);
}

static void
test_actors_end_with_their_creator(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    make_alive(&w, 1, (struct spec){ .max_restarts = -1 });
    make_alive(&w, 2, (struct spec){ .detached = true });
    make_alive(&w, 3, (struct spec){ 0 });
    forget_sent(&w);
    Ray__Gcs__ProcessGone m = RAY__GCS__PROCESS_GONE__INIT;
    m.worker_id = (ProtobufCBinaryData){ sizeof(w.driver.b), w.driver.b };
    assert_int_equal(step(&w, RAYLET, GCS_PROCESS_GONE, 0, &m), ST_OK);
    assert_stopped(&w, false);
    assert_stopped(&w, false);
    assert_int_equal(w.sent_count, 0);
    close_world(&w);
}

static void
test_a_watch_of_nothing_is_answered_in_time(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    watch(&w, DRIVER, 1);
    assert_int_equal(w.timer, w.now + w.config.unknown_watch_ns);
    w.now = w.timer;
    assert_int_equal(step(&w, 0, GCS_IN_TICK, 0, NULL), ST_OK);
    Ray__Gcs__ActorUpdate *u =
        take(&w, DRIVER, GCS_ACTOR_UPDATE, &ray__gcs__actor_update__descriptor);
    assert_int_equal(u->state, RAY__GCS__ACTOR_STATE__DEAD);
    assert_int_equal(u->status, ST_NOT_FOUND);
    drop(u);
    assert_int_equal(step(&w, 0, GCS_IN_CLOSED, 0, NULL), ST_OK); /* frees what was forgotten */
    close_world(&w);
}

/* After a restart the raylet says what runs; the differences are settled. */
static void
test_a_restart_is_not_noticed(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    make_alive(&w, 1, (struct spec){ 0 });                      /* still runs */
    make_alive(&w, 2, (struct spec){ .max_restarts = 1 });      /* died meanwhile */
    assert_int_equal(create(&w, 3, (struct spec){ 0 }), ST_OK); /* the order got lost */
    restart(&w);
    watch(&w, DRIVER, 1);
    watch(&w, DRIVER, 2);
    forget_sent(&w);
    struct id_actor id = actor_id(&w, 1);
    uint8_t worker[28] = { 1 };
    Ray__Gcs__LiveActor live = RAY__GCS__LIVE_ACTOR__INIT;
    live.actor_id = (ProtobufCBinaryData){ sizeof(id.b), id.b };
    live.worker_id = (ProtobufCBinaryData){ sizeof(worker), worker };
    live.constructed = true;
    register_node(&w, &live, &w.job);
    struct gcs_stats stats;
    gcs_get_stats(w.gcs, &stats);
    assert_int_equal(stats.actors, 3);
    Ray__Gcs__StartActor *m = NULL;
    bool second = false, third = false;
    while ((m = take(&w, RAYLET, GCS_START_ACTOR, &ray__gcs__start_actor__descriptor)) != NULL) {
        second |= m->actor->actor_id.data[0] == 2 && m->incarnation == 1;
        third |= m->actor->actor_id.data[0] == 3 && m->incarnation == 0;
        drop(m);
    }
    assert_true(second);
    assert_true(third);
    /* And one that was killed while the raylet was away is stopped when it shows up. */
    assert_int_equal(step(&w, RAYLET, GCS_IN_CLOSED, 0, NULL), ST_OK);
    assert_int_equal(kill_actor(&w, 1, true), ST_OK);
    forget_sent(&w);
    hello(&w, RAYLET, NULL);
    register_node(&w, &live, &w.job);
    assert_stopped(&w, false);
    close_world(&w);
}

static void
test_a_job_whose_driver_is_gone_ends_at_registration(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    make_alive(&w, 1, (struct spec){ 0 });
    restart(&w);
    register_node(&w, NULL, NULL);
    Ray__Gcs__ActorRow *row = stored(&w, 1);
    assert_int_equal(row->state, RAY__GCS__ACTOR_STATE__DEAD);
    ray__gcs__actor_row__free_unpacked(row, NULL);
    close_world(&w);
}

static void
test_the_dead_are_forgotten_beyond_the_limit(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    gcs_destroy(&w.gcs);
    w.config.dead_actors_max = 3;
    w.config.dead_jobs_max = 1;
    open_machine(&w);
    hello(&w, RAYLET, NULL);
    hello(&w, DRIVER, &w.driver);
    register_node(&w, NULL, NULL);
    w.job = add_job(&w, &w.driver, "");
    for (uint8_t n = 1; n <= 8; n++) {
        make_alive(&w, n, (struct spec){ 0 });
        exited(&w, n, 0, false, "gone");
    }
    struct gcs_stats stats;
    gcs_get_stats(w.gcs, &stats);
    assert_int_equal(stats.dead_actors, 3);
    assert_null(stored(&w, 5));
    Ray__Gcs__ActorRow *row = stored(&w, 6);
    assert_non_null(row);
    ray__gcs__actor_row__free_unpacked(row, NULL);
    for (uint8_t n = 0; n < 4; n++) {
        struct id_worker driver;
        memset(driver.b, 20 + n, sizeof(driver.b));
        const struct id_job job = add_job(&w, &driver, "");
        struct id_job copy = job;
        Ray__Gcs__FinishJob m = RAY__GCS__FINISH_JOB__INIT;
        m.job_id = (ProtobufCBinaryData){ sizeof(copy.b), copy.b };
        assert_int_equal(step(&w, RAYLET, GCS_FINISH_JOB, 0, &m), ST_OK);
    }
    assert_int_equal(step(&w, 999, GCS_IN_CLOSED, 0, NULL), ST_OK);
    gcs_get_stats(w.gcs, &stats);
    assert_int_equal(stats.jobs, 2); /* the living one and one of the dead */
    close_world(&w);
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
    assert_int_equal(step(w, DRIVER, GCS_KV_PUT, 1, &m), ST_OK);
    return take_done(w, DRIVER);
}

static void
test_key_value(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    assert_int_equal(kv_put(&w, "aa", "1", false), ST_OK);
    assert_int_equal(kv_put(&w, "ab", "2", false), ST_OK);
    assert_int_equal(kv_put(&w, "b", "", false), ST_OK);
    assert_int_equal(kv_put(&w, "aa", "3", false), ST_EXISTS);
    assert_int_equal(kv_put(&w, "aa", "3", true), ST_OK);
    restart(&w);
    char table[] = "t", prefix[] = "a";
    Ray__Gcs__KvKeys keys = RAY__GCS__KV_KEYS__INIT;
    keys.table = table;
    keys.prefix = (ProtobufCBinaryData){ 1, (uint8_t *)prefix };
    assert_int_equal(step(&w, DRIVER, GCS_KV_KEYS, 4, &keys), ST_OK);
    Ray__Gcs__KvValue *m = take(&w, DRIVER, GCS_KV_VALUE, &ray__gcs__kv_value__descriptor);
    assert_int_equal(m->n_keys, 2);
    drop(m);
    Ray__Gcs__KvGet get = RAY__GCS__KV_GET__INIT;
    char key[] = "aa";
    get.table = table;
    get.key = (ProtobufCBinaryData){ 2, (uint8_t *)key };
    assert_int_equal(step(&w, DRIVER, GCS_KV_GET, 5, &get), ST_OK);
    m = take(&w, DRIVER, GCS_KV_VALUE, &ray__gcs__kv_value__descriptor);
    assert_int_equal(m->value.len, 1);
    assert_int_equal(m->value.data[0], '3');
    drop(m);
    Ray__Gcs__KvDelete delete = RAY__GCS__KV_DELETE__INIT;
    delete.table = table;
    delete.key = get.key;
    assert_int_equal(step(&w, DRIVER, GCS_KV_DELETE, 6, &delete), ST_OK);
    assert_int_equal(take_done(&w, DRIVER), ST_OK);
    assert_int_equal(step(&w, DRIVER, GCS_KV_DELETE, 6, &delete), ST_OK);
    assert_int_equal(take_done(&w, DRIVER), ST_NOT_FOUND);
    close_world(&w);
}

static void
test_peers_that_make_no_sense_are_cut_off(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    Ray__Gcs__GcsHello again = RAY__GCS__GCS_HELLO__INIT;
    again.protocol_version = RAY_PROTOCOL_VERSION;
    assert_int_equal(step(&w, DRIVER, GCS_GCS_HELLO, 0, &again), ST_PROTOCOL);
    again.protocol_version = 77;
    assert_int_equal(step(&w, OTHER, GCS_GCS_HELLO, 0, &again), ST_PROTOCOL);
    Ray__Gcs__FinishJob finish = RAY__GCS__FINISH_JOB__INIT;
    assert_int_equal(step(&w, OTHER, GCS_FINISH_JOB, 0, &finish), ST_PROTOCOL);  /* no hello */
    assert_int_equal(step(&w, DRIVER, GCS_FINISH_JOB, 0, &finish), ST_PROTOCOL); /* no raylet */
    assert_int_equal(step(&w, RAYLET, GCS_FINISH_JOB, 0, &finish), ST_PROTOCOL); /* no id */
    Ray__Gcs__RegisterNode node = RAY__GCS__REGISTER_NODE__INIT;
    assert_int_equal(step(&w, DRIVER, GCS_REGISTER_NODE, 0, &node), ST_PROTOCOL);
    Ray__Gcs__CreateActor actor = RAY__GCS__CREATE_ACTOR__INIT;
    assert_int_equal(step(&w, DRIVER, GCS_CREATE_ACTOR, 0, &actor), ST_PROTOCOL);
    Ray__Gcs__WatchActor watch_nobody = RAY__GCS__WATCH_ACTOR__INIT;
    assert_int_equal(step(&w, DRIVER, GCS_WATCH_ACTOR, 0, &watch_nobody), ST_PROTOCOL);
    assert_int_equal(w.sent_count, 0);
    close_world(&w);
}

static void
test_tables_as_json(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    make_alive(&w, 1, (struct spec){ .name = "quo\"te\n" });
    static const struct {
        const char *what, *expect;
    } asks[] = {
        { "nodes", "\"Resources\": {\"CPU\": 4.0}" },
        { "cluster_resources", "{\"CPU\": 4.0}" },
        { "actors", "\"Name\": \"quo\\\"te\\u000a\"" },
        { "jobs", "\"JobID\": \"01000000\"" },
    };
    forget_sent(&w);
    for (size_t i = 0; i < COUNT_OF(asks); i++) {
        Ray__Gcs__GcsStateAsk m = RAY__GCS__GCS_STATE_ASK__INIT;
        char what[64];
        (void)snprintf(what, sizeof(what), "%s", asks[i].what);
        m.what = what;
        assert_int_equal(step(&w, DRIVER, GCS_GCS_STATE_ASK, 3, &m), ST_OK);
        Ray__Gcs__StateJson *json =
            take(&w, DRIVER, GCS_STATE_JSON, &ray__gcs__state_json__descriptor);
        assert_int_equal(json->status, ST_OK);
        if (!strstr(json->json, asks[i].expect)) {
            fail_msg("%s: %s", asks[i].what, json->json);
        }
        drop(json);
    }
    close_world(&w);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_jobs_are_numbered_once),
        cmocka_unit_test(test_an_actor_lives),
        cmocka_unit_test(test_restarts_are_counted),
        cmocka_unit_test(test_kill_is_at_once_and_final),
        cmocka_unit_test(test_out_of_scope_waits_for_the_constructor),
        cmocka_unit_test(test_a_failed_constructor_is_passed_on),
        cmocka_unit_test(test_names_are_taken_while_their_actor_lives),
        cmocka_unit_test(test_the_end_of_a_job_ends_its_actors),
        cmocka_unit_test(test_actors_end_with_their_creator),
        cmocka_unit_test(test_a_watch_of_nothing_is_answered_in_time),
        cmocka_unit_test(test_a_restart_is_not_noticed),
        cmocka_unit_test(test_a_job_whose_driver_is_gone_ends_at_registration),
        cmocka_unit_test(test_the_dead_are_forgotten_beyond_the_limit),
        cmocka_unit_test(test_key_value),
        cmocka_unit_test(test_peers_that_make_no_sense_are_cut_off),
        cmocka_unit_test(test_tables_as_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
