/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The frame: what every message of every conversation looks like, on sockets and in rings.
 *
 *   offset  size
 *        0     4  length      whole frame in bytes, header included; little endian like the rest
 *        4     2  kind        proto/kinds.h
 *        6     2  flags       bits 0-10 the kind's own; bit 11 a control frame; bits 12-15 how many
 *                            descriptors come with it
 *        8     8  request id  0 for one-way frames; an answer carries its question's. On a lasting
 *                            connection: how many frames of the receiver's the sender has handled
 *       16     -  body, then attachments
 *
 * A length below 16 or above NET_FRAME_MAX is malformed: it ends the connection.
 */
#ifndef RAY_NET_FRAME_H
#define RAY_NET_FRAME_H

#include <stdint.h>

struct net_frame_header {
    uint32_t length;
    uint16_t kind;
    uint16_t flags;
    uint64_t request_id;
};

_Static_assert(sizeof(struct net_frame_header) == 16, "wire layout");

enum {
    NET_FRAME_HEADER = 16,
    NET_FRAME_MAX = 256 * 1024 * 1024,
    NET_FRAME_CONTROL = 1 << 11, /* of a lasting connection: not counted, never sent again */
    NET_FRAME_TOLD = 0,          /* kind of a control frame that brings its count alone */
    NET_FRAME_FDS_SHIFT = 12,
    NET_FRAME_FDS_MAX = 15,
};

/* A decoded frame; body is readable during the callback that gets it. */
struct net_frame {
    struct net_frame_header header;
    const uint8_t *body;
    uint32_t size; /* of the body */
    int *fds;      /* descriptors that came with it; who takes one sets its place to -1 */
    int fd_count;
};

#endif
