/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rings whose other side is hostile: the shared memory is what the input says, and changes between
 * any two calls. Both halves stay inside the memory and say ST_PROTOCOL at worst.
 */
#include <stdlib.h>

#include "base/status.h"
#include "fuzz_input.h"
#include "net/net_ring.h"

enum { RING = NET_RING_SIZE_MIN };

static unsigned sum;

/* The other side writes somewhere. */
static void
scribble(struct fuzz_input *in, uint8_t *memory, size_t bytes)
{
    size_t length = 0;
    const size_t at = (size_t)fuzz_number(in, 2) % bytes;
    const uint8_t *from = fuzz_string(in, &length);
    if (length > 0) {
        memcpy(memory + at, from, length < bytes - at ? length : bytes - at);
    }
}

static bool
read_one(struct net_ring_rx *rx)
{
    const void *frame;
    size_t length;
    if (net_ring_peek(rx, &frame, &length) != ST_OK) {
        return false;
    }
    for (size_t i = 0; i < length; i++) {
        sum += ((const uint8_t *)frame)[i];
    }
    (void)!net_ring_advance(rx);
    return true;
}

static void
write_one(struct net_ring_tx *tx, size_t length)
{
    void *frame;
    if (net_ring_reserve(tx, length, &frame) == ST_OK) {
        memset(frame, 0xa5, length);
        net_ring_publish(tx);
    } else {
        (void)!net_ring_want_room(tx, length);
    }
    sum += (unsigned)net_ring_unread_bytes(tx) + (unsigned)net_ring_free_bytes(tx);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = { data, size };
    const size_t bytes = net_ring_bytes(RING);
    uint8_t *memory = aligned_alloc(64, (bytes + 63) & ~(size_t)63);
    struct net_ring_rx rx;
    struct net_ring_tx tx;
    if (!memory || net_ring_format(memory, bytes, RING) != ST_OK) {
        abort();
    }
    memset(memory + sizeof(struct net_ring_shm), 0, RING);
    if (fuzz_number(&in, 1) % 4 == 0) {
        scribble(&in, memory, sizeof(struct net_ring_shm));
    }
    if (net_ring_rx_init(&rx, memory, bytes) == ST_OK &&
        net_ring_tx_init(&tx, memory, bytes) == ST_OK) {
        for (int steps = 0; in.left > 0 && steps < 1000; steps++) {
            const uint64_t op = fuzz_number(&in, 1);
            if (op % 4 == 0) {
                scribble(&in, memory, sizeof(struct net_ring_shm) + 256);
            } else if (op % 4 == 1) {
                scribble(&in, memory, bytes);
            } else if (op % 4 == 2) {
                write_one(&tx, (size_t)fuzz_number(&in, 2) % (RING / 2));
            } else {
                for (int i = 0; i < 8 && read_one(&rx); i++) {
                }
                (void)!net_ring_release(&rx);
            }
        }
    }
    free(memory);
    return 0;
}
