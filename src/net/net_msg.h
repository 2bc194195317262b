/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Control messages on framed connections: packing, unpacking, and the tables that say which message
 * a frame kind carries. Any process; as thread-safe as the connection that is used.
 */
#ifndef RAY_NET_MSG_H
#define RAY_NET_MSG_H

#include <stdbool.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

#include "base/assert.h"
#include "net/net_conn.h"

/* The message of a frame kind of proto/kinds.h, NULL for a kind that isn't one. */
const ProtobufCMessageDescriptor *net_msg_descriptor(uint16_t kind);

/* Packs and sends, or queues. `message` must be of the kind's type. */
int net_msg_send(struct net_conn *conn, uint16_t kind, uint64_t request_id,
                 const ProtobufCMessage *message, const int *fds, int fd_count) MUST_USE;

/* Decodes a frame's body of at most `max` bytes into memory of its own, to be freed by
 * net_msg_free. ST_PROTOCOL for an unknown kind, a longer body, or bytes that aren't such a
 * message. */
int net_msg_unpack(const struct net_frame *frame, uint32_t max, ProtobufCMessage **out) MUST_USE;
void net_msg_free(ProtobufCMessage *message);

#endif
