/* SPDX-License-Identifier: Apache-2.0 */
/* The control service's frame: connections, dispatch, memory of records. See gcs.h. */
#include "gcs/gcs.h"

#include <string.h>

#include "gcs/gcs_priv.h"
#include "proto/kinds.h"

void
gcs_config_default(struct gcs_config *config)
{
    *config = (struct gcs_config){
        .actors_max = 1000000,
        .dead_actors_max = 100000,
        .dead_jobs_max = 10000,
        .kv_bytes_max = UINT64_C(1) << 30,
        .unknown_watch_ns = UINT64_C(10) * 1000000000,
    };
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* protobuf-c frees without a size, so each block carries its own before it. */
enum { BLOCK_HEAD = 16 };

static void *
block_alloc(void *ctx, size_t size)
{
    const struct mem *mem = ctx;
    uint8_t *block = mem_alloc(mem, size + BLOCK_HEAD);
    if (!block) {
        return NULL;
    }
    memcpy(block, &size, sizeof(size));
    return block + BLOCK_HEAD;
}

static void
block_free(void *ctx, void *p)
{
    if (p) {
        const struct mem *mem = ctx;
        uint8_t *block = (uint8_t *)p - BLOCK_HEAD;
        size_t size = 0;
        memcpy(&size, block, sizeof(size));
        mem_free(mem, block, size + BLOCK_HEAD);
    }
}

void *
gcs_copy_message(struct gcs *gcs, const ProtobufCMessage *message)
{
    const size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *packed = mem_alloc(gcs->mem, size + 1);
    if (!packed) {
        return NULL;
    }
    (void)protobuf_c_message_pack(message, packed);
    void *copy = protobuf_c_message_unpack(message->descriptor, &gcs->allocator, size, packed);
    mem_free(gcs->mem, packed, size + 1);
    return copy;
}

void
gcs_free_message(struct gcs *gcs, void *message)
{
    if (message) {
        protobuf_c_message_free_unpacked(message, &gcs->allocator);
    }
}

static bool
is_empty_string(const char *text)
{
    return !text || text == protobuf_c_empty_string;
}

void
gcs_set_string(struct gcs *gcs, char **field, const char *text)
{
    enum { TEXT_MAX = 4096 };
    char *copy = NULL;
    const size_t length = text ? strnlen(text, TEXT_MAX) : 0;
    if (length > 0) {
        copy = mem_alloc(gcs->mem, length + 1);
        if (copy) {
            memcpy(copy, text, length);
            copy[length] = '\0';
        }
    }
    if (!is_empty_string(*field)) {
        mem_free(gcs->mem, *field, strlen(*field) + 1);
    }
    /* protobuf-c's empty string is never written to; its type merely predates const. */
    *field = copy ? copy : (char *)(uintptr_t)protobuf_c_empty_string;
}

void
gcs_set_bytes(struct gcs *gcs, ProtobufCBinaryData *field, const ProtobufCBinaryData *from)
{
    mem_free(gcs->mem, field->data, field->len);
    *field = (ProtobufCBinaryData){ 0 };
    if (from && from->len > 0) {
        field->data = mem_alloc(gcs->mem, from->len);
        if (field->data) {
            memcpy(field->data, from->data, from->len);
            field->len = from->len;
        }
    }
}

bool
gcs_take_id(const ProtobufCBinaryData *from, void *to, size_t size)
{
    if (from->len != size) {
        return false;
    }
    memcpy(to, from->data, size);
    return true;
}

uint64_t
gcs_wall_ms(const struct gcs *gcs)
{
    const uint64_t ms = (uint64_t)((int64_t)gcs->now_ns + gcs->config.wall_offset_ns) / 1000000;
    return ms > 0 ? ms : 1; /* 0 stands for "not yet" */
}

/* ---- outs ------------------------------------------------------------------------------------ */

void *
gcs_emit(struct step_outs *outs, uint16_t kind, uint64_t peer, uint64_t request,
         const ProtobufCMessageDescriptor *descriptor)
{
    void *message = step_emit(outs, kind, peer, descriptor->sizeof_message);
    if (!message) {
        outs->count--; /* not sent; the peer asks again when it reconnects */
        return NULL;
    }
    outs->v[outs->count - 1].payload = request;
    protobuf_c_message_init(descriptor, message);
    return message;
}

void
gcs_emit_done(struct step_outs *outs, const struct step_in *in, int status, const char *text)
{
    Ray__Gcs__Done *done =
        gcs_emit(outs, GCS_DONE, in->peer, in->payload, &ray__gcs__done__descriptor);
    if (done) {
        done->status = status;
        if (text && *text) {
            const size_t size = strlen(text) + 1;
            char *copy = arena_copy(outs->arena, text, size);
            done->text = copy ? copy : done->text;
        }
    }
}

void
gcs_emit_put(struct step_outs *outs, enum gcs_table table, const void *key, size_t key_size,
             const void *message)
{
    struct gcs_row *row =
        step_emit(outs, message ? GCS_OUT_PUT : GCS_OUT_ERASE, 0, sizeof(struct gcs_row));
    ASSERT(row); /* a daemon may end on a small allocation: better than an unstored promise */
    void *copy = arena_copy(outs->arena, key, key_size);
    ASSERT(copy);
    *row = (struct gcs_row){
        .table = table, .key = copy, .key_size = (uint32_t)key_size, .message = message
    };
}

/* ---- connections ----------------------------------------------------------------------------- */

struct gcs_peer *
gcs_find_peer(const struct gcs *gcs, uint64_t number)
{
    struct map_link *l;
    MAP_FOR_HASH (l, &gcs->peers, id_mix64(number)) {
        struct gcs_peer *peer = CONTAINER_OF(l, struct gcs_peer, link);
        if (peer->number == number) {
            ASSERT(peer->magic == GCS_PEER_MAGIC);
            return peer;
        }
    }
    return NULL;
}

static int
on_hello(struct gcs *gcs, const struct step_in *in)
{
    const Ray__Gcs__GcsHello *msg = in->msg;
    if (gcs_find_peer(gcs, in->peer)) {
        return st_fail(ST_PROTOCOL, "a second hello");
    }
    if (msg->protocol_version != RAY_PROTOCOL_VERSION) {
        return st_fail(ST_PROTOCOL, "protocol version %u, this is version %d",
                       msg->protocol_version, RAY_PROTOCOL_VERSION);
    }
    struct gcs_peer *peer = mem_alloc(gcs->mem, sizeof(*peer));
    if (!peer) {
        return st_fail(ST_OUT_OF_MEMORY, "no memory for a connection");
    }
    memset(peer, 0, sizeof(*peer));
    peer->magic = GCS_PEER_MAGIC;
    peer->number = in->peer;
    list_init(&peer->watches);
    ID_SET_NIL(&peer->worker);
    if (msg->worker_id.len > 0 &&
        !gcs_take_id(&msg->worker_id, peer->worker.b, sizeof(peer->worker.b))) {
        mem_free(gcs->mem, peer, sizeof(*peer));
        return st_fail(ST_PROTOCOL, "a worker id of %zu bytes", msg->worker_id.len);
    }
    if (map_insert(&gcs->peers, &peer->link, id_mix64(in->peer))) {
        mem_free(gcs->mem, peer, sizeof(*peer));
        return st_fail(ST_OUT_OF_MEMORY, "no memory for a connection");
    }
    return ST_OK;
}

static void
free_watches(struct gcs *gcs, struct gcs_peer *peer)
{
    LIST_FOR_SAFE (l, next, &peer->watches) {
        gcs_watch_free(gcs, LIST_ENTRY(l, struct gcs_watch, of_peer));
    }
}

static void
peer_free(struct gcs *gcs, struct gcs_peer *peer)
{
    free_watches(gcs, peer);
    peer->magic = 0;
    mem_free(gcs->mem, peer, sizeof(*peer));
}

static void
on_closed(struct gcs *gcs, uint64_t number)
{
    struct gcs_peer *peer = gcs_find_peer(gcs, number);
    if (peer) {
        if (peer->node && peer->node->peer == number) {
            gcs_on_raylet_closed(gcs, peer->node);
        }
        map_remove(&gcs->peers, &peer->link);
        peer_free(gcs, peer);
    }
}

static void
free_forgotten(struct gcs *gcs)
{
    LIST_FOR_SAFE (l, next, &gcs->freed_actors) {
        gcs_actor_free(gcs, LIST_ENTRY(l, struct gcs_actor, dirty));
    }
}

/* ---- life ------------------------------------------------------------------------------------ */

int
gcs_create(const struct mem *mem, const struct gcs_config *config, struct gcs **out)
{
    *out = NULL;
    struct gcs *gcs = mem_alloc(mem, sizeof(*gcs));
    if (!gcs) {
        return st_fail(ST_OUT_OF_MEMORY, "no memory for the control service");
    }
    memset(gcs, 0, sizeof(*gcs));
    gcs->magic = GCS_MAGIC;
    gcs->mem = mem;
    gcs->config = *config;
    gcs->allocator = (ProtobufCAllocator){
        .alloc = block_alloc,
        .free = block_free,
        .allocator_data = (void *)(uintptr_t)mem, /* only its functions are used */
    };
    struct map *const maps[] = { &gcs->peers, &gcs->nodes,  &gcs->jobs, &gcs->drivers, &gcs->actors,
                                 &gcs->names, &gcs->owners, &gcs->kv,   &gcs->gone };
    for (size_t i = 0; i < COUNT_OF(maps); i++) {
        map_init(maps[i], mem);
    }
    struct list *const lists[] = { &gcs->node_list,    &gcs->job_list,       &gcs->dead_jobs,
                                   &gcs->dirty_actors, &gcs->dead_actors,    &gcs->kv_list,
                                   &gcs->erase_actors, &gcs->unknown_actors, &gcs->freed_actors,
                                   &gcs->gone_list };
    for (size_t i = 0; i < COUNT_OF(lists); i++) {
        list_init(lists[i]);
    }
    gcs->next_job = 1;
    gcs->timer_ns = UINT64_MAX;
    *out = gcs;
    return ST_OK;
}

void
gcs_destroy(struct gcs **pgcs)
{
    struct gcs *gcs = *pgcs;
    if (!gcs) {
        return;
    }
    ASSERT(gcs->magic == GCS_MAGIC);
    struct map_walk walk;
    map_walk_init(&walk);
    for (struct map_link *l = map_walk_next(&gcs->peers, &walk); l;
         l = map_walk_next(&gcs->peers, &walk)) {
        free_watches(gcs, CONTAINER_OF(l, struct gcs_peer, link)); /* they look their peers up */
    }
    map_walk_init(&walk);
    for (struct map_link *l = map_walk_next(&gcs->peers, &walk); l;
         l = map_walk_next(&gcs->peers, &walk)) {
        peer_free(gcs, CONTAINER_OF(l, struct gcs_peer, link));
    }
    map_walk_init(&walk);
    for (struct map_link *l = map_walk_next(&gcs->actors, &walk); l;
         l = map_walk_next(&gcs->actors, &walk)) {
        gcs_actor_free(gcs, CONTAINER_OF(l, struct gcs_actor, by_id));
    }
    list_splice_back(&gcs->freed_actors, &gcs->erase_actors);
    free_forgotten(gcs);
    LIST_FOR_SAFE (l, next, &gcs->gone_list) {
        gcs_gone_free(gcs, LIST_ENTRY(l, struct gcs_gone, order));
    }
    LIST_FOR_SAFE (l, next, &gcs->job_list) {
        gcs_job_free(gcs, LIST_ENTRY(l, struct gcs_job, all));
    }
    LIST_FOR_SAFE (l, next, &gcs->node_list) {
        gcs_node_free(gcs, LIST_ENTRY(l, struct gcs_node, all));
    }
    LIST_FOR_SAFE (l, next, &gcs->kv_list) {
        gcs_kv_free(gcs, LIST_ENTRY(l, struct gcs_kv, all));
    }
    struct map *const maps[] = { &gcs->peers, &gcs->nodes,  &gcs->jobs, &gcs->drivers, &gcs->actors,
                                 &gcs->names, &gcs->owners, &gcs->kv,   &gcs->gone };
    for (size_t i = 0; i < COUNT_OF(maps); i++) {
        map_fini(maps[i]);
    }
    gcs->magic = 0;
    mem_free(gcs->mem, gcs, sizeof(*gcs));
    *pgcs = NULL;
}

void
gcs_get_stats(const struct gcs *gcs, struct gcs_stats *out)
{
    *out = (struct gcs_stats){
        .peers = (uint32_t)gcs->peers.count,
        .nodes = (uint32_t)gcs->nodes.count,
        .jobs = (uint32_t)gcs->jobs.count,
        .actors = gcs->actor_count,
        .dead_actors = gcs->dead_count,
        .watches = gcs->watch_count,
        .kv_entries = (uint32_t)gcs->kv.count,
        .kv_bytes = gcs->kv_bytes,
    };
}

/* ---- dispatch -------------------------------------------------------------------------------- */

static int
dispatch_local(struct gcs *gcs, const struct step_in *in)
{
    switch ((enum gcs_in)in->kind) {
    case GCS_IN_TICK:
        gcs->timer_ns = UINT64_MAX;
        gcs_expire_unknown(gcs);
        return ST_OK;
    case GCS_IN_CLOSED:
        on_closed(gcs, in->peer);
        return ST_OK;
    case GCS_IN_LOAD_ACTOR:
        return gcs_on_load_actor(gcs, in->msg);
    case GCS_IN_LOAD_JOB:
        return gcs_on_load_job(gcs, in->msg);
    case GCS_IN_LOAD_KV:
        return gcs_on_load_kv(gcs, in->msg);
    case GCS_IN_LOADED:
        gcs->loaded = true;
        return ST_OK;
    }
    return st_fail(ST_PROTOCOL, "unknown event %u", in->kind);
}

/* What only a raylet may tell; after a lost connection also before it registers again. */
static int
on_told(struct gcs *gcs, const struct step_in *in)
{
    switch (in->kind) {
    case GCS_FINISH_JOB:
        return gcs_on_finish_job(gcs, in->msg);
    case GCS_ACTOR_PLACED:
        return gcs_on_actor_placed(gcs, in->msg);
    case GCS_ACTOR_NOT_PLACED:
        return gcs_on_actor_not_placed(gcs, in->msg);
    case GCS_ACTOR_EXITED:
        return gcs_on_actor_exited(gcs, in->msg);
    case GCS_ACTOR_BUILT:
        return gcs_on_actor_built(gcs, in->msg);
    case GCS_PROCESS_GONE:
        return gcs_on_process_gone(gcs, in->msg);
    default:
        return st_fail(ST_PROTOCOL, "unexpected frame kind %u", in->kind);
    }
}

static int
dispatch_raylet(struct gcs *gcs, const struct step_in *in, struct step_outs *outs)
{
    if (in->kind == GCS_ADD_JOB) {
        return gcs_on_add_job(gcs, in, outs);
    }
    TRY(on_told(gcs, in));
    gcs_emit_done(outs, in, ST_OK, NULL); /* it need not be told again */
    return ST_OK;
}

static int
dispatch_frame(struct gcs *gcs, const struct step_in *in, struct step_outs *outs)
{
    if (in->kind == GCS_GCS_HELLO) {
        return on_hello(gcs, in);
    }
    const struct gcs_peer *peer = gcs_find_peer(gcs, in->peer);
    if (!peer) {
        return st_fail(ST_PROTOCOL, "frame kind %u before hello", in->kind);
    }
    switch (in->kind) {
    case GCS_REGISTER_NODE:
        return gcs_on_register_node(gcs, in, outs);
    case GCS_CREATE_ACTOR:
        return gcs_on_create_actor(gcs, in, outs);
    case GCS_WATCH_ACTOR:
        return gcs_on_watch_actor(gcs, in);
    case GCS_ACTOR_OUT_OF_SCOPE:
        return gcs_on_out_of_scope(gcs, in, outs);
    case GCS_KILL_ACTOR:
        return gcs_on_kill_actor(gcs, in, outs);
    case GCS_FIND_NAMED:
        return gcs_on_find_named(gcs, in, outs);
    case GCS_LIST_NAMED:
        return gcs_on_list_named(gcs, in, outs);
    case GCS_KV_PUT:
        return gcs_on_kv_put(gcs, in, outs);
    case GCS_KV_GET:
        return gcs_on_kv_get(gcs, in, outs);
    case GCS_KV_DELETE:
        return gcs_on_kv_delete(gcs, in, outs);
    case GCS_KV_KEYS:
        return gcs_on_kv_keys(gcs, in, outs);
    case GCS_GCS_STATE_ASK:
        return gcs_on_state_ask(gcs, in, outs);
    default:
        if (!ID_IS_NIL(peer->worker)) {
            return st_fail(ST_PROTOCOL, "frame kind %u is for raylets", in->kind);
        }
        return dispatch_raylet(gcs, in, outs);
    }
}

/* Tells when the oldest watch of an unknown actor is to be given up, if that has changed. */
static void
pump_timer(struct gcs *gcs, struct step_outs *outs)
{
    struct list *first = list_first(&gcs->unknown_actors);
    if (!first) {
        return; /* a tick too many does no harm */
    }
    const uint64_t when = LIST_ENTRY(first, struct gcs_actor, order)->unknown_until_ns;
    if (when < gcs->timer_ns) {
        gcs->timer_ns = when;
        (void)step_emit(outs, GCS_OUT_TIMER, 0, 0);
        outs->v[outs->count - 1].when_ns = when;
    }
}

int
gcs_step(struct gcs *gcs, const struct step_in *in, struct step_outs *outs)
{
    ASSERT(gcs->magic == GCS_MAGIC);
    ASSERT(outs->capacity - outs->count >= GCS_OUTS_MIN);
    gcs->now_ns = in->now_ns;
    outs->more = false;
    free_forgotten(gcs);
    gcs_pump_forgotten_jobs(gcs, outs);
    int status = ST_OK;
    if (in->kind != STEP_CONTINUE) {
        status = in->kind < 100 ? dispatch_local(gcs, in) : dispatch_frame(gcs, in, outs);
    }
    gcs_pump_jobs(gcs, outs);
    gcs_pump_actors(gcs, outs);
    if (!outs->more) {
        if (outs->capacity - outs->count >= 1) {
            pump_timer(gcs, outs);
        } else {
            outs->more = true;
        }
    }
    return status;
}
