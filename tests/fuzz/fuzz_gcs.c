/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages of gcs.proto as ray-gcs takes them: any sequence of frames over a few connections that
 * come and go, with time passing. The machine refuses or answers, and its rows decode again.
 */
#include <stdlib.h>

#include "base/status.h"
#include "fuzz_input.h"
#include "gcs/gcs.h"
#include "net/net_msg.h"
#include "os/os_basic.h"
#include "proto/gcs_rows.pb-c.h"
#include "proto/kinds.h"

enum { OUTS = 32, PEERS = 4, KIND_FIRST = GCS_GCS_HELLO, KIND_COUNT = 25 };

static struct gcs *gcs;
static struct arena arena;
static uint64_t now_ns;

static void
check_row(const struct gcs_row *row)
{
    if (!row->message) {
        return;
    }
    const size_t size = protobuf_c_message_get_packed_size(row->message);
    uint8_t *bytes = malloc(size + 1);
    if (!bytes) {
        return;
    }
    (void)protobuf_c_message_pack(row->message, bytes);
    const ProtobufCMessage *message = row->message;
    ProtobufCMessage *again = protobuf_c_message_unpack(message->descriptor, NULL, size, bytes);
    ASSERT(again);
    protobuf_c_message_free_unpacked(again, NULL);
    free(bytes);
}

static int
step(uint16_t kind, uint64_t peer, uint64_t request, const void *message)
{
    struct step_out v[OUTS];
    struct step_in in = {
        .kind = kind, .now_ns = now_ns, .peer = peer, .payload = request, .msg = message
    };
    int status = ST_OK;
    struct step_outs outs;
    do {
        outs = (struct step_outs){ .v = v, .capacity = OUTS, .arena = &arena };
        const int now = gcs_step(gcs, &in, &outs);
        status = status == ST_OK ? now : status;
        for (uint32_t i = 0; i < outs.count; i++) {
            if (v[i].kind == GCS_OUT_PUT) {
                check_row(v[i].msg);
            } else if (v[i].kind >= KIND_FIRST) {
                ASSERT(protobuf_c_message_get_packed_size(v[i].msg) < (size_t)1 << 30);
            }
        }
        arena_reset(&arena);
        in.kind = STEP_CONTINUE;
    } while (outs.more);
    return status;
}

static void
give_frame(struct fuzz_input *in, uint64_t peer)
{
    const uint16_t kind = (uint16_t)(KIND_FIRST + fuzz_number(in, 1) % KIND_COUNT);
    const uint64_t request = fuzz_number(in, 1);
    size_t size = 0;
    const uint8_t *body = fuzz_string(in, &size);
    struct net_frame frame = { .header = { .kind = kind, .request_id = request },
                               .body = body,
                               .size = (uint32_t)size };
    ProtobufCMessage *message = NULL;
    if (net_msg_unpack(&frame, 1024 * 1024, &message) != ST_OK) {
        return;
    }
    if (step(kind, peer, request, message) != ST_OK) {
        (void)step(GCS_IN_CLOSED, peer, 0, NULL);
    }
    net_msg_free(message);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = { data, size };
    struct gcs_config config;
    gcs_config_default(&config);
    config.dead_actors_max = config.dead_jobs_max = 4;
    config.kv_bytes_max = 4096;
    now_ns = 1;
    arena_init(&arena, os_mem_system());
    if (gcs_create(os_mem_system(), &config, &gcs) != ST_OK) {
        abort();
    }
    (void)step(GCS_IN_LOADED, 0, 0, NULL);
    while (in.left > 0) {
        const uint64_t op = fuzz_number(&in, 1);
        const uint64_t peer = 1 + (op >> 4) % PEERS;
        if (op % 16 == 0) {
            (void)step(GCS_IN_CLOSED, peer, 0, NULL);
        } else if (op % 16 == 1) {
            now_ns += UINT64_C(1000000000) * fuzz_number(&in, 1);
            (void)step(GCS_IN_TICK, 0, 0, NULL);
        } else {
            give_frame(&in, peer);
        }
    }
    gcs_destroy(&gcs);
    arena_fini(&arena);
    return 0;
}
