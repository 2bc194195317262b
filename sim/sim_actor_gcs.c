/* SPDX-License-Identifier: Apache-2.0 */
/* World `actor`: ray-gcs around the control service's machine, and its clients' connections. */
#include "sim_actor.h"

#include <string.h>

enum { OUTS = 24, ROW_JOB = 0 };

/* --- bytes ------------------------------------------------------------------------------------
 */

ProtobufCBinaryData
sa_binary(void *bytes, size_t size)
{
    return (ProtobufCBinaryData){ .len = size, .data = bytes };
}

struct sa_bytes *
sa_pack(struct sa_world *w, const void *message)
{
    const size_t size = protobuf_c_message_get_packed_size(message);
    struct sa_bytes *bytes = mem_alloc(sim_mem(w->sim), sizeof(*bytes) + size + 1);
    bytes->size = protobuf_c_message_pack(message, bytes->data);
    return bytes;
}

void
sa_bytes_free(struct sa_world *w, struct sa_bytes *bytes)
{
    if (bytes) {
        mem_free(sim_mem(w->sim), bytes, sizeof(*bytes) + bytes->size + 1);
    }
}

void *
sa_unpack(struct sa_world *w, const ProtobufCMessageDescriptor *d, const void *msg)
{
    const struct sa_bytes *bytes = msg;
    void *message = protobuf_c_message_unpack(d, NULL, bytes->size, bytes->data);
    SIM_CHECK(w->sim, message, "a frame that can't be read");
    return message;
}

/* --- the machine ------------------------------------------------------------------------------
 */

static struct sa_row *
row_of(struct sa_world *w, const struct gcs_row *r)
{
    if (r->table == GCS_TABLE_JOBS) {
        return &w->rows[ROW_JOB];
    }
    struct sa_row *room = NULL;
    for (uint32_t i = ROW_JOB + 1; i < SA_ROWS; i++) {
        struct sa_row *row = &w->rows[i];
        if (row->used && memcmp(row->id.b, r->key, sizeof(row->id.b)) == 0) {
            return row;
        }
        room = room || row->used ? room : row;
    }
    if (!room) {
        sim_fail(w->sim, "too many rows");
    }
    memcpy(room->id.b, r->key, sizeof(room->id.b));
    return room;
}

static void
store_row(struct sa_world *w, const struct gcs_row *r)
{
    SIM_CHECK(w->sim, r->table != GCS_TABLE_KV && r->message, "an unexpected row");
    struct sa_row *row = row_of(w, r);
    sa_bytes_free(w, row->bytes);
    row->used = true;
    row->bytes = sa_pack(w, r->message);
}

static void
erase_row(struct sa_world *w, const struct gcs_row *r)
{
    struct sa_row *row = row_of(w, r);
    SIM_CHECK(w->sim, r->table == GCS_TABLE_ACTORS && row->used, "an unexpected row is erased");
    sa_bytes_free(w, row->bytes);
    *row = (struct sa_row){ 0 };
}

static void
carry_out(struct sa_world *w, struct sa_proc *p, const struct step_out *out)
{
    const uint32_t to = (uint32_t)(out->peer & UINT16_MAX);
    switch (out->kind) {
    case GCS_OUT_PUT:
        if (!(sim_mutations(w->sim) & SA_RULE_STORED) || sim_chance(w->sim, 900)) {
            store_row(w, out->msg);
        }
        return;
    case GCS_OUT_ERASE: /* of an actor that was killed, and that nobody ever created */
        erase_row(w, out->msg);
        return;
    case GCS_OUT_TIMER:
        sim_timer(w->sim, p->number, SA_TAG_START, out->when_ns);
        return;
    default: {
        if (out->peer >> 16 != p->generation[to]) {
            return; /* that connection has ended */
        }
        struct sa_bytes *bytes = sa_pack(w, out->msg);
        sim_send(w->sim, p->number, to, 0, out->kind, out->payload, bytes,
                 sizeof(*bytes) + bytes->size);
        sa_bytes_free(w, bytes);
    }
    }
}

static void
machine_step(struct sa_world *w, struct sa_proc *p, uint16_t kind, uint64_t peer, uint64_t request,
             const void *msg)
{
    struct step_out v[OUTS];
    struct step_in in = {
        .kind = kind, .now_ns = sim_now(w->sim), .peer = peer, .payload = request, .msg = msg
    };
    struct step_outs outs;
    do {
        outs = (struct step_outs){
            .v = v,
            .arena = &w->arena,
            .capacity = GCS_OUTS_MIN + (uint32_t)sim_below(w->sim, OUTS - GCS_OUTS_MIN + 1),
        };
        const int status = gcs_step(p->machine, &in, &outs);
        SIM_CHECK(w->sim, status == ST_OK, "ray-gcs refuses %u: %s", kind, st_last()->text);
        for (uint32_t i = 0; i < outs.count; i++) {
            carry_out(w, p, &outs.v[i]);
        }
        arena_reset(&w->arena);
        in.kind = STEP_CONTINUE;
    } while (outs.more);
}

static void
load_row(struct sa_world *w, struct sa_proc *p, const struct sa_row *row, uint16_t kind,
         const ProtobufCMessageDescriptor *d)
{
    if (row->used) {
        void *message = sa_unpack(w, d, row->bytes);
        machine_step(w, p, kind, 0, 0, message);
        protobuf_c_message_free_unpacked(message, NULL);
    }
}

void
sa_gcs_start(struct sa_world *w)
{
    struct sa_proc *p = sa_proc_new(w, SA_GCS, "ray-gcs");
    struct gcs_config config;
    gcs_config_default(&config);
    SIM_CHECK(w->sim, gcs_create(sim_mem(w->sim), &config, &p->machine) == ST_OK, "no machine");
    load_row(w, p, &w->rows[ROW_JOB], GCS_IN_LOAD_JOB, &ray__gcs__job_row__descriptor);
    for (uint32_t i = ROW_JOB + 1; i < SA_ROWS; i++) {
        load_row(w, p, &w->rows[i], GCS_IN_LOAD_ACTOR, &ray__gcs__actor_row__descriptor);
    }
    machine_step(w, p, GCS_IN_LOADED, 0, 0, NULL);
    w->gcs = p->number;
}

/* All callers belong to one job, whose driver does nothing else and doesn't die. */
void
sa_gcs_first(struct sa_world *w)
{
    struct sa_proc *p = w->procs[w->gcs];
    struct id_worker driver = sa_worker_id(SIM_PROCS_MAX);
    Ray__Gcs__GcsHello hello = RAY__GCS__GCS_HELLO__INIT;
    Ray__Gcs__AddJob job = RAY__GCS__ADD_JOB__INIT;
    hello.protocol_version = RAY_PROTOCOL_VERSION;
    job.worker_id = sa_binary(driver.b, sizeof(driver.b));
    p->generation[SIM_PROCS_MAX] = 1; /* its answer goes nowhere */
    machine_step(w, p, GCS_GCS_HELLO, SIM_PROCS_MAX, 0, &hello);
    machine_step(w, p, GCS_ADD_JOB, SIM_PROCS_MAX, 0, &job);
    machine_step(w, p, GCS_IN_CLOSED, SIM_PROCS_MAX, 0, NULL);
}

void
sa_gcs_end(struct sa_world *w, struct sa_proc *p)
{
    (void)w;
    gcs_destroy(&p->machine);
}

static uint64_t
peer_of(const struct sa_proc *p, uint32_t proc)
{
    return (uint64_t)p->generation[proc] << 16 | proc;
}

static const ProtobufCMessageDescriptor *
descriptor_of(struct sa_world *w, uint16_t kind)
{
    switch (kind) {
    case GCS_GCS_HELLO:
        return &ray__gcs__gcs_hello__descriptor;
    case GCS_REGISTER_NODE:
        return &ray__gcs__register_node__descriptor;
    case GCS_CREATE_ACTOR:
        return &ray__gcs__create_actor__descriptor;
    case GCS_WATCH_ACTOR:
        return &ray__gcs__watch_actor__descriptor;
    case GCS_ACTOR_OUT_OF_SCOPE:
        return &ray__gcs__actor_out_of_scope__descriptor;
    case GCS_KILL_ACTOR:
        return &ray__gcs__kill_actor__descriptor;
    case GCS_ACTOR_PLACED:
        return &ray__gcs__actor_placed__descriptor;
    case GCS_ACTOR_NOT_PLACED:
        return &ray__gcs__actor_not_placed__descriptor;
    case GCS_ACTOR_EXITED:
        return &ray__gcs__actor_exited__descriptor;
    case GCS_ACTOR_BUILT:
        return &ray__node__actor_constructed__descriptor;
    case GCS_PROCESS_GONE:
        return &ray__gcs__process_gone__descriptor;
    default:
        sim_fail(w->sim, "ray-gcs is sent frame %u", kind);
    }
}

void
sa_gcs_deliver(struct sa_world *w, struct sa_proc *p, uint32_t from, uint16_t kind,
               uint64_t payload, const void *msg)
{
    const ProtobufCMessageDescriptor *d = descriptor_of(w, kind);
    void *message = sa_unpack(w, d, msg);
    SIM_TRACE(w->sim, "P%u hears %s from P%u", p->number, d->short_name, from);
    machine_step(w, p, kind, peer_of(p, from), payload, message);
    protobuf_c_message_free_unpacked(message, NULL);
}

void
sa_gcs_closed(struct sa_world *w, struct sa_proc *p, uint32_t other)
{
    machine_step(w, p, GCS_IN_CLOSED, peer_of(p, other), 0, NULL);
    p->generation[other]++;
}

void
sa_gcs_tick(struct sa_world *w, struct sa_proc *p)
{
    machine_step(w, p, GCS_IN_TICK, 0, 0, NULL);
}

int
sa_stored_state(struct sa_world *w, uint32_t actor)
{
    const struct id_actor id = sa_actor_id(actor);
    for (uint32_t i = ROW_JOB + 1; i < SA_ROWS; i++) {
        if (w->rows[i].used && ID_EQ(w->rows[i].id, id)) {
            Ray__Gcs__ActorRow *row =
                sa_unpack(w, &ray__gcs__actor_row__descriptor, w->rows[i].bytes);
            const int state = (int)row->state;
            protobuf_c_message_free_unpacked(&row->base, NULL);
            return state;
        }
    }
    return -1;
}

/* --- its clients ------------------------------------------------------------------------------
 */

static void
send_bytes(struct sa_world *w, const struct sa_proc *p, uint16_t kind, uint64_t id,
           const struct sa_bytes *bytes)
{
    if (p->gcs) {
        sim_send(w->sim, p->number, p->gcs, 0, kind, id, bytes, sizeof(*bytes) + bytes->size);
    }
}

void
sa_say(struct sa_world *w, struct sa_proc *p, uint16_t kind, uint64_t id, const void *message)
{
    struct sa_bytes *bytes = sa_pack(w, message);
    send_bytes(w, p, kind, id, bytes);
    sa_bytes_free(w, bytes);
}

void
sa_request(struct sa_world *w, struct sa_proc *p, uint16_t kind, const void *message)
{
    SIM_CHECK(w->sim, p->frame_count < SA_FRAMES, "P%u has too many requests", p->number);
    struct sa_frame *frame = &p->frames[p->frame_count++];
    *frame = (struct sa_frame){ .kind = kind, .id = ++w->next_frame, .bytes = sa_pack(w, message) };
    send_bytes(w, p, kind, frame->id, frame->bytes);
}

void
sa_answered(struct sa_world *w, struct sa_proc *p, uint64_t id)
{
    for (uint32_t i = 0; i < p->frame_count; i++) {
        if (p->frames[i].id == id) {
            sa_bytes_free(w, p->frames[i].bytes);
            p->frame_count--;
            memmove(&p->frames[i], &p->frames[i + 1], (p->frame_count - i) * sizeof(p->frames[0]));
            return;
        }
    }
}

void
sa_forget_frames(struct sa_world *w, struct sa_proc *p)
{
    while (p->frame_count > 0) {
        sa_bytes_free(w, p->frames[--p->frame_count].bytes);
    }
}

bool
sa_connect(struct sa_world *w, struct sa_proc *p)
{
    p->gcs = 0;
    if (!sim_proc_alive(w->sim, w->gcs) || p->saw_dead[w->gcs]) {
        sim_timer(w->sim, p->number, SA_TAG_CONNECT, sim_now(w->sim) + SIM_MS);
        return false;
    }
    p->gcs = w->gcs;
    sim_timer(w->sim, p->number, SA_TAG_CONNECT, 0);
    struct id_worker id = sa_worker_id(p->number);
    Ray__Gcs__GcsHello hello = RAY__GCS__GCS_HELLO__INIT;
    hello.protocol_version = RAY_PROTOCOL_VERSION;
    if (p->role == SA_CALLER) {
        hello.worker_id = sa_binary(id.b, sizeof(id.b));
    }
    sa_say(w, p, GCS_GCS_HELLO, 0, &hello);
    const uint32_t rule = p->role == SA_CALLER ? SA_RULE_ASK_AGAIN : SA_RULE_TELL_AGAIN;
    for (uint32_t i = 0; i < p->frame_count && !(sim_mutations(w->sim) & rule); i++) {
        send_bytes(w, p, p->frames[i].kind, p->frames[i].id, p->frames[i].bytes);
    }
    return true;
}
