/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The messages of the ownership protocol, decoded. Read by the machine (own.h), filled by the wire
 * decoder. docs/protocols/ownership.md tells the conversation.
 *
 * A message's holder, borrower or requester is always the process that sent it, which the
 * connection has proven; so none of them is a field. Every struct is of fixed size but for
 * own_msg_transfer, whose items are bounded by OWN_ITEMS_MAX.
 */
#ifndef RAY_OWN_OWN_MSG_H
#define RAY_OWN_OWN_MSG_H

#include <stdint.h>

#include "base/id.h"

enum { OWN_ITEMS_MAX = 1 << 20 }; /* references in one value, task or transfer */

/* Kinds of messages between processes: in-kinds and out-kinds of the machine alike. */
enum own_msg_kind {
    OWN_MSG_REGISTER = 1,     /* borrower -> owner: list me */
    OWN_MSG_REGISTER_ACK = 2, /* owner -> borrower: you are listed, or the object is gone */
    OWN_MSG_RELEASE = 3,      /* borrower -> owner: I hold it no more */
    OWN_MSG_TRANSIT_DONE = 4, /* receiver -> sender of references: drop that transit pin */
    OWN_MSG_GET = 5,          /* anyone -> owner: tell me the value once it is there */
    OWN_MSG_VALUE = 6,        /* owner -> whoever asked; the bytes or the hint are the payload */
    OWN_MSG_FREE = 7,         /* anyone -> owner: drop the value now, whoever refers to it */
    OWN_MSG_TRANSFER = 8,     /* creator -> owner to be: a put for you; the value is the payload */
    OWN_MSG_LAST = OWN_MSG_TRANSFER,
};

/* Where a process is found. `node` is for routing only: the worker id alone names the process. */
struct own_addr {
    struct id_worker worker;
    struct id_node node;
};

/* A reference on its way: what it names and who answers for it. */
struct own_item {
    struct id_object object;
    struct own_addr owner;
};

struct own_msg_register {
    struct id_object object;
    uint64_t seq; /* of the sender; grows with every REGISTER and RELEASE that it sends */
};

struct own_msg_register_ack {
    struct id_object object;
    uint64_t seq;   /* copied from the REGISTER or TRANSFER */
    int32_t status; /* ST_OK, or why it is gone (ST_OBJECT_GONE, ST_OBJECT_FREED) */
};

struct own_msg_release {
    struct id_object object;
    uint64_t seq;
};

struct own_msg_transit_done {
    uint64_t token; /* of the task reply, return value or transfer that carried the references */
};

struct own_msg_get {
    struct id_object object;
};

struct own_msg_value {
    struct id_object object;
    uint8_t state;  /* enum own_state, never OWN_PENDING */
    int32_t status; /* for OWN_GONE: why */
};

struct own_msg_free {
    struct id_object object;
};

struct own_msg_transfer {
    struct id_object object;
    uint64_t seq;   /* lists the creator as a borrower, as a REGISTER would */
    uint64_t token; /* of the creator's transit pins on `items`; 0 without items */
    uint8_t state;  /* enum own_state: OWN_INLINE, OWN_STORE or OWN_ERROR */
    uint32_t count;
    const struct own_item *items; /* references inside the value */
};

#endif
