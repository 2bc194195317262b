/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The conversation between two processes of libray: owner and worker, borrower and owner.
 *
 * It is the hot path, so its frames have fixed little-endian layouts instead of packed messages.
 * They travel over the unix socket of the connection and, once it is hot, through two rings.
 *
 *     connecting side                              accepting side
 *       |------------ PEER_HELLO (window fd) ---------->|
 *       |------------ TEMPLATE, PUSH, PUSH, ... ------->|   tasks go one way: from whoever
 * connected
 *       |------------ CANCEL -------------------------->|   of a task that has started
 *       |<----------- ITEM, DONE, BOUNCED, ... ---------|
 *       |------------ TOLD ---------------------------->|
 *       |<----------- OWN_* messages both ways -------->|
 *       |<----------- CANCEL_REF both ways ------------>|   a borrower asks the owner to cancel
 *       |------------ RING_OFFER (ring fd, bell fd) --->|   after 64 frames in 100 ms
 *       |<----------- RING_ACCEPT (bell fd) ------------|   the accepting side's last socket frame
 *       |------------ RING_SWITCH --------------------->|   the connecting side's last socket frame
 *       |------------ RESUME (handled) ---------------->|   on a new socket, when the old one ended
 *       |<----------- RESUMED (handled) ----------------|   (docs/protocols/connections.md)
 *
 * A side reads its ring only after the other's last socket frame, so order is kept over the switch.
 * After it the socket carries bells, and frames too large for the ring: each is announced in the
 * ring by VIA_SOCKET, at which the reader waits for the socket's next frame.
 *
 * Everything read from a peer is checked against the frame's end; pieces are 8-byte aligned.
 *
 *   PUSH      struct peer_push, then arg_count pieces
 *   DONE      struct peer_done, then return_count pieces
 *   ITEM      struct peer_item, then one piece
 *   TEMPLATE  struct peer_template, its texts and metadata (each padded), then the definition's
 * piece piece     struct peer_piece, size bytes (padded), item_count struct own_item (padded as a
 * whole) OWN_*     the struct of own/own_msg.h; VALUE and TRANSFER are followed by a piece
 */
#ifndef RAY_PROTO_PEER_H
#define RAY_PROTO_PEER_H

#include <stdint.h>

#include "base/id.h"

enum peer_kind {
    PEER_HELLO = 200,
    PEER_TEMPLATE = 201,
    PEER_PUSH = 202,
    PEER_DONE = 203,
    PEER_BOUNCED = 204,
    PEER_ITEM = 205,
    PEER_TOLD = 206,
    PEER_CANCEL = 208,     /* owner -> worker that has started the task */
    PEER_CANCEL_REF = 209, /* borrower -> owner */
    PEER_OWN_FIRST = 210,  /* PEER_OWN_FIRST + enum own_msg_kind */
    PEER_OWN_LAST = 229,
    PEER_RING_OFFER = 230,
    PEER_RING_ACCEPT = 231,
    PEER_RING_SWITCH = 232,
    PEER_VIA_SOCKET = 233,
    PEER_BELL = 234,    /* this and the next two are control frames */
    PEER_RESUME = 235,  /* the first frame of a socket by which a link goes on */
    PEER_RESUMED = 236, /* its answer; with a status, at any time: the link is given up */
};

struct peer_hello {
    uint32_t protocol_version;
    uint32_t window_bytes; /* length of the window file, 0: the connecting side pushes no tasks */
    struct id_worker worker;
    struct id_node node;
    uint64_t link; /* the connecting side's number of this connection; only grows */
};

struct peer_resume {
    uint32_t protocol_version;
    uint32_t zero;
    struct id_worker worker;
    struct id_node node;
    uint64_t link;    /* as in its greeting */
    uint64_t handled; /* frames of the accepting side's, bells and the like not counted */
};

struct peer_resumed {
    uint64_t handled; /* frames of the connecting side's */
    int32_t status;   /* 0, or why the connection can't go on */
    uint32_t zero;
};

/* How the bytes of a value travel. */
enum peer_piece_kind {
    PEER_INLINE = 1, /* the bytes themselves */
    PEER_HINT = 2,   /* a struct store_hint: they lie in the node's store */
    PEER_ERROR = 3,  /* an encoded failure (worker/wk_value.h) */
};

struct peer_piece {
    uint64_t size;
    uint32_t format;     /* the face's */
    uint32_t item_count; /* references inside the value */
    uint32_t kind;       /* enum peer_piece_kind */
    uint32_t flags;      /* enum peer_piece_flags */
};
enum peer_piece_flags {
    /* An argument that is the value of an object which the pusher borrowed: the pusher's cover for
     * the references inside ends with that object's owner, so the executor registers them. */
    PEER_PIECE_BORROWED = 1,
};

/* What is the same for every call of a function with certain options; sent once a connection. Its
 * text `groups` is of a class its concurrency groups, each "limit name\n"; of a method the name of
 * its group, empty for the default one. */
struct peer_template {
    uint32_t number; /* the pusher's, from 1 up */
    uint32_t kind;   /* enum ray_function_kind */
    int32_t num_returns;
    int32_t max_calls;
    uint32_t flags; /* enum peer_template_flags */
    uint32_t name_size, function_name_size, method_size, resources_size, groups_size, metadata_size;
    uint8_t hash[20];
    int32_t max_concurrency;   /* RAY_CLASS: calls at once in the group without a name */
    uint32_t backpressure;     /* of a generator: at most so many items unread; 0: no limit */
    int32_t exception_retries; /* attempts that may follow a failure; -1 for ever */
    uint32_t zero;
};
enum peer_template_flags {
    PEER_TEMPLATE_RETRIABLE = 1, /* killing the worker loses nothing that can't be redone */
    PEER_TEMPLATE_HAS_DEFINITION = 2,
    PEER_TEMPLATE_EVENT_LOOP = 4, /* RAY_CLASS: its calls run in event loops of the face */
    PEER_TEMPLATE_STREAMING = 8,  /* it yields ITEMs, for a reader */
    PEER_TEMPLATE_DYNAMIC = 16,   /* it yields ITEMs, to which its return refers */
};

struct peer_push {
    uint64_t push_number; /* of the window word */
    uint32_t word;
    uint32_t template_number;
    uint64_t epoch;    /* of the lease; 0 for actor calls */
    uint64_t sequence; /* actor calls: order of submission, from 1 */
    struct id_task task;
    uint32_t attempt;
    uint32_t arg_count;
    uint32_t depth;       /* nesting depth of the task */
    uint32_t items_known; /* of a generator: that earlier attempts have made */
};

struct peer_done {
    uint64_t push_number;
    uint32_t word;
    uint32_t return_count;
    uint64_t duration_ns;
    uint64_t kept_token;    /* own_frame_close of the executor */
    uint64_t returns_token; /* own_reply_pin; 0 when the returns hold no references */
    int32_t status;         /* 0, or all returns are this failure */
    uint32_t flags;         /* enum peer_done_flags */
};
enum peer_done_flags {
    PEER_DONE_RETRY_ALLOWED = 1, /* retry_exceptions covers this failure */
    PEER_DONE_LEAVING = 2,       /* max_calls: the worker takes no more tasks */
    PEER_DONE_ARGS_LOST = 4,     /* it never ran: an argument isn't in the store any more */
};

/* One item of a generator (docs/protocols/generators.md), in the order of `index`, before the DONE
 * of its task. */
struct peer_item {
    uint64_t push_number; /* of the window word */
    uint32_t word;
    uint32_t index;
    uint64_t token; /* own_reply_pin; 0 when the item holds no references */
};

/* To the generator: how far its reader is. */
struct peer_told {
    uint64_t push_number;
    uint32_t word;
    uint32_t read;  /* items, of any attempt */
    uint32_t flags; /* enum wk_stream_told_flags */
    uint32_t zero;
};

struct peer_bounced {
    uint64_t push_number;
    uint32_t word;
    uint32_t zero;
};

/* The task of that push is cancelled: whoever has it running acts, anybody else ignores it. */
struct peer_cancel {
    uint64_t push_number;
    uint32_t word;
    uint32_t flags; /* enum peer_cancel_flags */
};
enum peer_cancel_flags {
    PEER_CANCEL_FORCE = 1,     /* the process ends; not for actors' calls */
    PEER_CANCEL_RECURSIVE = 2, /* also what the task has submitted */
};

/* Not answered: what becomes of the task is what the object's value tells. */
struct peer_cancel_ref {
    struct id_object object;
    uint32_t flags; /* enum peer_cancel_flags */
};
_Static_assert(sizeof(struct peer_cancel_ref) == 32, "its layout");

struct peer_ring {
    uint64_t
        ring_bytes; /* of one ring's memory; the file has two, connecting side's sending first */
    uint64_t bell_bytes; /* of the sender's bell page */
    uint32_t ring_index; /* at which the sender of this frame wants to be marked */
    uint32_t zero;
};

#endif
