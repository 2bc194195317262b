/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The seam between deciding and doing. Every state machine has the shape
 *
 *     int x_step(struct x *, const struct step_in *in, struct step_outs *outs);
 *
 * It is given a message, a timer or a local request together with the time, and gives back what is
 * to be sent, armed or answered. It makes no call and holds no payload bytes: payloads are handles
 * of whoever drives it. The number of outs of one step is bounded by their array; a machine that
 * has more sets `more`, and is stepped again with STEP_CONTINUE.
 */
#ifndef RAY_BASE_STEP_H
#define RAY_BASE_STEP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/mem.h"

enum { STEP_CONTINUE = 0 }; /* in-kind understood by every machine */

struct step_in {
    uint16_t kind;    /* the machine's own enum */
    uint64_t now_ns;  /* monotonic */
    uint64_t peer;    /* who sent it: the driver's number for a connection or process, 0 local */
    uint64_t payload; /* handle of bytes that the machine passes on but never reads */
    const void *msg;  /* struct that belongs to the kind; valid during the call */
};

struct step_out {
    uint16_t kind;    /* the machine's own enum */
    uint64_t peer;    /* to whom, or which timer or waiter */
    uint64_t when_ns; /* for timers */
    uint64_t payload;
    const void *msg; /* struct that belongs to the kind, in the outs' arena */
};

struct step_outs {
    struct step_out *v;
    uint32_t count, capacity;
    struct arena *arena; /* messages live here until the driver resets it */
    bool more;           /* step again with STEP_CONTINUE */
};

/* Appends an out and returns its zeroed message of `size` bytes (NULL when size is 0). The caller
 * has checked that there is room. NULL with size > 0 means that the arena is out of memory. */
void *step_emit(struct step_outs *outs, uint16_t kind, uint64_t peer, size_t size);

#endif
