/* SPDX-License-Identifier: Apache-2.0 */
/* Control messages on connections. See net_msg.h. */
#include "net/net_msg.h"

#include <stdlib.h>

#include "base/status.h"
#include "proto/gcs.pb-c.h"
#include "proto/kinds.h"
#include "proto/node.pb-c.h"

/* One row for each row of proto/kinds.h; a test compares them. */
static const struct {
    uint16_t kind;
    const ProtobufCMessageDescriptor *descriptor;
} kinds[] = {
    { NODE_HELLO, &ray__node__hello__descriptor },
    { NODE_HELLO_REPLY, &ray__node__hello_reply__descriptor },
    { NODE_REFUSED, &ray__node__refused__descriptor },
    { NODE_LEASE_REQUEST, &ray__node__lease_request__descriptor },
    { NODE_LEASE_CANCEL, &ray__node__lease_cancel__descriptor },
    { NODE_LEASE_GRANT, &ray__node__lease_grant__descriptor },
    { NODE_LEASE_TROUBLE, &ray__node__lease_trouble__descriptor },
    { NODE_LEASE_RETURN, &ray__node__lease_return__descriptor },
    { NODE_LEASE_REVOKE, &ray__node__lease_revoke__descriptor },
    { NODE_BLOCKED, &ray__node__blocked__descriptor },
    { NODE_UNBLOCKED, &ray__node__unblocked__descriptor },
    { NODE_WATCH, &ray__node__watch__descriptor },
    { NODE_PROCESS_DIED, &ray__node__process_died__descriptor },
    { NODE_STORE_ASK, &ray__node__store_ask__descriptor },
    { NODE_STORE_GRANT, &ray__node__store_grant__descriptor },
    { NODE_STORE_FREE, &ray__node__store_free__descriptor },
    { NODE_STORE_RETURN, &ray__node__store_return__descriptor },
    { NODE_STORE_PRESSURE, &ray__node__store_pressure__descriptor },
    { NODE_BECOME_ACTOR, &ray__node__become_actor__descriptor },
    { NODE_ACTOR_CONSTRUCTED, &ray__node__actor_constructed__descriptor },
    { NODE_LEAVE, &ray__node__leave__descriptor },
    { NODE_LEAVING, &ray__node__leaving__descriptor },
    { NODE_LOG_LINES, &ray__node__log_lines__descriptor },
    { NODE_STATE_ASK, &ray__node__state_ask__descriptor },
    { NODE_STATE_ANSWER, &ray__node__state_answer__descriptor },
    { NODE_END_JOB, &ray__node__end_job__descriptor },
    { NODE_GOODBYE, &ray__node__goodbye__descriptor },
    { NODE_LEASE_CANCELLED, &ray__node__lease_cancelled__descriptor },
    { NODE_OWNING, &ray__node__owning__descriptor },
    { NODE_STORE_CHECK, &ray__node__store_check__descriptor },
    { NODE_STORE_CHECKED, &ray__node__store_checked__descriptor },
    { NODE_BOOT, &ray__node__boot__descriptor },
    { NODE_BOOT_REPLY, &ray__node__boot_reply__descriptor },
    { NODE_RAYLET_EXITED, &ray__node__raylet_exited__descriptor },
    { GCS_GCS_HELLO, &ray__gcs__gcs_hello__descriptor },
    { GCS_DONE, &ray__gcs__done__descriptor },
    { GCS_REGISTER_NODE, &ray__gcs__register_node__descriptor },
    { GCS_ADD_JOB, &ray__gcs__add_job__descriptor },
    { GCS_JOB_ADDED, &ray__gcs__job_added__descriptor },
    { GCS_FINISH_JOB, &ray__gcs__finish_job__descriptor },
    { GCS_CREATE_ACTOR, &ray__gcs__create_actor__descriptor },
    { GCS_START_ACTOR, &ray__gcs__start_actor__descriptor },
    { GCS_ACTOR_PLACED, &ray__gcs__actor_placed__descriptor },
    { GCS_ACTOR_NOT_PLACED, &ray__gcs__actor_not_placed__descriptor },
    { GCS_ACTOR_EXITED, &ray__gcs__actor_exited__descriptor },
    { GCS_WATCH_ACTOR, &ray__gcs__watch_actor__descriptor },
    { GCS_ACTOR_UPDATE, &ray__gcs__actor_update__descriptor },
    { GCS_ACTOR_OUT_OF_SCOPE, &ray__gcs__actor_out_of_scope__descriptor },
    { GCS_KILL_ACTOR, &ray__gcs__kill_actor__descriptor },
    { GCS_STOP_ACTOR, &ray__gcs__stop_actor__descriptor },
    { GCS_KV_PUT, &ray__gcs__kv_put__descriptor },
    { GCS_KV_GET, &ray__gcs__kv_get__descriptor },
    { GCS_KV_DELETE, &ray__gcs__kv_delete__descriptor },
    { GCS_KV_KEYS, &ray__gcs__kv_keys__descriptor },
    { GCS_KV_VALUE, &ray__gcs__kv_value__descriptor },
    { GCS_GCS_STATE_ASK, &ray__gcs__gcs_state_ask__descriptor },
    { GCS_STATE_JSON, &ray__gcs__state_json__descriptor },
    { GCS_ACTOR_BUILT, &ray__node__actor_constructed__descriptor },
    { GCS_PROCESS_GONE, &ray__gcs__process_gone__descriptor },
    { GCS_FIND_NAMED, &ray__gcs__find_named__descriptor },
    { GCS_NAMED_ACTOR, &ray__gcs__named_actor__descriptor },
    { GCS_LIST_NAMED, &ray__gcs__list_named__descriptor },
    { GCS_NAMED_LIST, &ray__gcs__named_list__descriptor },
};

const ProtobufCMessageDescriptor *
net_msg_descriptor(uint16_t kind)
{
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        if (kinds[i].kind == kind) {
            return kinds[i].descriptor;
        }
    }
    return NULL;
}

int
net_msg_send(struct net_conn *conn, uint16_t kind, uint64_t request_id,
             const ProtobufCMessage *message, const int *fds, int fd_count)
{
    ASSERT_HOT(net_msg_descriptor(kind) == message->descriptor);
    enum { SMALL = 2048 };
    uint8_t small[SMALL];
    const size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *bytes = size <= SMALL ? small : malloc(size);
    if (!bytes) {
        return st_fail(ST_OUT_OF_MEMORY, "no memory for a message of %zu bytes", size);
    }
    (void)protobuf_c_message_pack(message, bytes);
    const struct iovec body = { bytes, size };
    const int status =
        net_conn_send(conn, kind, 0, request_id, &body, size > 0 ? 1 : 0, fds, fd_count);
    if (bytes != small) {
        free(bytes);
    }
    return status;
}

int
net_msg_unpack(const struct net_frame *frame, uint32_t max, ProtobufCMessage **out)
{
    *out = NULL;
    const ProtobufCMessageDescriptor *descriptor = net_msg_descriptor(frame->header.kind);
    if (!descriptor) {
        return st_fail(ST_PROTOCOL, "unknown frame kind %u", frame->header.kind);
    }
    if (frame->size > max) {
        return st_fail(ST_PROTOCOL, "a %s of %u bytes", descriptor->short_name, frame->size);
    }
    *out = protobuf_c_message_unpack(descriptor, NULL, frame->size, frame->body);
    if (!*out) {
        return st_fail(ST_PROTOCOL, "a malformed %s of %u bytes", descriptor->short_name,
                       frame->size);
    }
    return ST_OK;
}

void
net_msg_free(ProtobufCMessage *message)
{
    if (message) {
        protobuf_c_message_free_unpacked(message, NULL);
    }
}
