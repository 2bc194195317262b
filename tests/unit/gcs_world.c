/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The world in which the control service's machine is tested.
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

int
gw_step(struct world *w, uint64_t peer, uint16_t kind, uint64_t request, const void *msg)
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
void *
gw_take(struct world *w, uint64_t peer, uint16_t kind, const ProtobufCMessageDescriptor *d)
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

void
gw_drop(void *m)
{
    if (m) {
        protobuf_c_message_free_unpacked(m, NULL);
    }
}

void
gw_forget_sent(struct world *w)
{
    while (w->sent_count > 0) {
        free(w->sent[--w->sent_count].bytes);
    }
}

int
gw_take_done(struct world *w, uint64_t peer)
{
    Ray__Gcs__Done *m = gw_take(w, peer, GCS_DONE, &ray__gcs__done__descriptor);
    assert_non_null(m);
    const int status = m->status;
    gw_drop(m);
    return status;
}

void
gw_hello(struct world *w, uint64_t peer, const struct id_worker *id)
{
    Ray__Gcs__GcsHello m = RAY__GCS__GCS_HELLO__INIT;
    struct id_worker copy;
    m.protocol_version = RAY_PROTOCOL_VERSION;
    if (id) {
        copy = *id;
        m.worker_id = (ProtobufCBinaryData){ sizeof(copy.b), copy.b };
    }
    assert_int_equal(gw_step(w, peer, GCS_GCS_HELLO, 0, &m), ST_OK);
}

/* Registers the node; `live` and `job` may be NULL. */
void
gw_register_node(struct world *w, Ray__Gcs__LiveActor *live, const struct id_job *job)
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
    assert_int_equal(gw_step(w, RAYLET, GCS_REGISTER_NODE, 5, &m), ST_OK);
    assert_int_equal(gw_take_done(w, RAYLET), ST_OK);
}

struct id_job
gw_add_job(struct world *w, const struct id_worker *driver, const char *space)
{
    Ray__Gcs__AddJob m = RAY__GCS__ADD_JOB__INIT;
    struct id_worker copy = *driver;
    char name[64];
    (void)snprintf(name, sizeof(name), "%s", space);
    m.worker_id = (ProtobufCBinaryData){ sizeof(copy.b), copy.b };
    m.job_namespace = name;
    assert_int_equal(gw_step(w, RAYLET, GCS_ADD_JOB, 6, &m), ST_OK);
    Ray__Gcs__JobAdded *added = gw_take(w, RAYLET, GCS_JOB_ADDED, &ray__gcs__job_added__descriptor);
    assert_non_null(added);
    assert_int_equal(added->status, ST_OK);
    assert_true(added->job_namespace[0] != '\0');
    struct id_job job;
    memcpy(job.b, added->job_id.data, sizeof(job.b));
    gw_drop(added);
    return job;
}

void
gw_open_machine(struct world *w)
{
    assert_int_equal(gcs_create(&counting, &w->config, &w->gcs), ST_OK);
}

void
gw_open(struct world *w)
{
    memset(w, 0, sizeof(*w));
    live_bytes = 0;
    gcs_config_default(&w->config);
    arena_init(&w->arena, &counting);
    w->capacity = GCS_OUTS_MIN;
    w->now = 1000;
    memset(w->node.b, 7, sizeof(w->node.b));
    memset(w->driver.b, 8, sizeof(w->driver.b));
    gw_open_machine(w);
    assert_int_equal(gw_step(w, 0, GCS_IN_LOADED, 0, NULL), ST_OK);
    gw_hello(w, RAYLET, NULL);
    gw_hello(w, DRIVER, &w->driver);
    gw_register_node(w, NULL, NULL);
    w->job = gw_add_job(w, &w->driver, "");
}

void
gw_close(struct world *w)
{
    gcs_destroy(&w->gcs);
    gw_forget_sent(w);
    for (size_t i = 0; i < w->row_count; i++) {
        free(w->rows[i].bytes);
    }
    arena_fini(&w->arena);
    assert_int_equal(live_bytes, 0);
}

/* The process ends and comes back with what is stored; nobody is connected. */
void
gw_restart(struct world *w)
{
    gcs_destroy(&w->gcs);
    gw_forget_sent(w);
    gw_open_machine(w);
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
                assert_int_equal(gw_step(w, 0, tables[t].kind, 0, m), ST_OK);
                gw_drop(m);
            }
        }
    }
    assert_int_equal(gw_step(w, 0, GCS_IN_LOADED, 0, NULL), ST_OK);
    assert_int_equal(w->sent_count, 0);
    gw_hello(w, RAYLET, NULL);
    gw_hello(w, DRIVER, &w->driver);
}

struct id_actor
gw_actor_id(const struct world *w, uint8_t n)
{
    struct id_actor id;
    memset(id.b, n, sizeof(id.b));
    memcpy(id.b + 12, w->job.b, sizeof(w->job.b));
    return id;
}

Ray__Gcs__ActorRow *
gw_stored(struct world *w, uint8_t n)
{
    const struct id_actor id = gw_actor_id(w, n);
    for (size_t i = 0; i < w->row_count; i++) {
        if (w->rows[i].table == GCS_TABLE_ACTORS &&
            memcmp(w->rows[i].key, id.b, sizeof(id.b)) == 0) {
            return ray__gcs__actor_row__unpack(NULL, w->rows[i].size, w->rows[i].bytes);
        }
    }
    return NULL;
}

/* ---- actors ---- */

int
gw_create(struct world *w, uint8_t n, struct gw_spec spec)
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

void
gw_watch(struct world *w, uint64_t peer, uint8_t n)
{
    struct id_actor id = gw_actor_id(w, n);
    Ray__Gcs__WatchActor m = RAY__GCS__WATCH_ACTOR__INIT;
    m.actor_id = (ProtobufCBinaryData){ sizeof(id.b), id.b };
    assert_int_equal(gw_step(w, peer, GCS_WATCH_ACTOR, 0, &m), ST_OK);
}

/* The raylet was asked to start the actor. */
void
gw_assert_started(struct world *w, uint64_t incarnation)
{
    Ray__Gcs__StartActor *m =
        gw_take(w, RAYLET, GCS_START_ACTOR, &ray__gcs__start_actor__descriptor);
    assert_non_null(m);
    assert_int_equal(m->incarnation, incarnation);
    assert_string_equal((char *)m->actor->spec.data, "creation frame");
    gw_drop(m);
}

void
gw_assert_stopped(struct world *w, bool graceful)
{
    Ray__Gcs__StopActor *m = gw_take(w, RAYLET, GCS_STOP_ACTOR, &ray__gcs__stop_actor__descriptor);
    assert_non_null(m);
    assert_int_equal(m->graceful, graceful);
    gw_drop(m);
}

/* What the raylet tells is answered, so that it isn't told again. */
void
gw_tell(struct world *w, uint16_t kind, const void *m)
{
    assert_int_equal(gw_step(w, RAYLET, kind, 11, m), ST_OK);
    assert_int_equal(gw_take_done(w, RAYLET), ST_OK);
}

void
gw_placed(struct world *w, uint8_t n, uint64_t incarnation)
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
    gw_tell(w, GCS_ACTOR_PLACED, &m);
}

void
gw_built(struct world *w, uint8_t n, uint64_t incarnation, int status)
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
    gw_tell(w, GCS_ACTOR_BUILT, &m);
}

void
gw_exited(struct world *w, uint8_t n, uint64_t incarnation, bool intended, const char *evidence)
{
    struct id_actor id = gw_actor_id(w, n);
    Ray__Gcs__ActorExited m = RAY__GCS__ACTOR_EXITED__INIT;
    char text[64];
    (void)snprintf(text, sizeof(text), "%s", evidence);
    m.actor_id = (ProtobufCBinaryData){ sizeof(id.b), id.b };
    m.incarnation = incarnation;
    m.evidence = text;
    m.intended = intended;
    gw_tell(w, GCS_ACTOR_EXITED, &m);
}

int
gw_kill_actor(struct world *w, uint8_t n, bool no_restart)
{
    struct id_actor id = gw_actor_id(w, n);
    Ray__Gcs__KillActor m = RAY__GCS__KILL_ACTOR__INIT;
    m.actor_id = (ProtobufCBinaryData){ sizeof(id.b), id.b };
    m.no_restart = no_restart;
    assert_int_equal(gw_step(w, DRIVER, GCS_KILL_ACTOR, 10, &m), ST_OK);
    return gw_take_done(w, DRIVER);
}

/* The latest update that `peer` got about an actor. */
void
gw_assert_update(struct world *w, uint64_t peer, Ray__Gcs__ActorState state, uint64_t incarnation)
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

void
gw_make_alive(struct world *w, uint8_t n, struct gw_spec spec)
{
    assert_int_equal(gw_create(w, n, spec), ST_OK);
    gw_assert_started(w, 0);
    gw_placed(w, n, 0);
    gw_built(w, n, 0, ST_OK);
}
