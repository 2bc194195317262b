/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A single-producer, single-consumer ring of frames in memory that two processes share. A hot local
 * connection has two, one for each direction. The producer's process calls the tx half, under its
 * own lock if it has several threads; the consumer's the rx half. Neither ever waits for the other:
 * a full ring is ST_WOULD_BLOCK, the caller queues on its heap and asks for room.
 *
 * The peer is hostile as far as memory safety goes: whatever it writes into the shared part, this
 * side reads only inside the ring, and says ST_PROTOCOL. What a frame holds can still change
 * while it is read, so decoders copy headers out before they check them.
 *
 * Telling the peer that there is something to read is net_bell's part: publish, then mark.
 *
 *   offset   written by   struct net_ring_shm
 *        0   creator      magic u32 | version u32 | size u64              (before it is shared)
 *       64   producer     tail u64 | want_room u64
 *      128   consumer     head u64
 *      192                data: `size` bytes, a power of two
 *
 * Positions (tail, head) count bytes since the start and never wrap; position & (size - 1) is the
 * offset. tail - head is what is published and unread. Records are aligned to 8 bytes:
 *
 *      0       4       8                8 + len
 *      | len   | kind  | frame bytes ... | padding to 8 |
 *
 *   kind NET_RING_DATA: a frame of len bytes, contiguous.
 *   kind NET_RING_WRAP: nothing more up to the end of the ring; the next record is at offset 0.
 *
 * Killed anywhere, the producer leaves whole frames behind tail and whatever it wrote in front of
 * it invisible: the consumer drains to tail on the death notice, and nothing needs repair. A killed
 * consumer leaves unread frames, which the producer treats as never read (docs/protocols).
 */
#ifndef RAY_NET_RING_H
#define RAY_NET_RING_H

#include "base/atom.h"
#include "base/status.h"

#define NET_RING_VERSION 1u
#ifdef RAY_CHECK_INTERLEAVE
#define NET_RING_SIZE_MIN 64u /* small enough to be full, and to go round, within a few steps */
#else
#define NET_RING_SIZE_MIN (16u * 1024)
#endif
#define NET_RING_SIZE_MAX (1024u * 1024)

struct net_ring_shm {
    uint32_t magic;
    uint32_t version;
    uint64_t size;

    /* Release store by the producer after the frames; acquired by the consumer before it reads. */
    _Alignas(64) struct atom_u64 tail;
    /* Counts the producer's requests for room. Producer: add, fence, load head. Consumer: store
     * head, fence, load this; a value not answered yet is owed a bell. */
    struct atom_u64 want_room;

    /* Release store by the consumer after the frame was copied out; acquired by the producer before
     * it writes there again. */
    _Alignas(64) struct atom_u64 head;

    _Alignas(64) unsigned char data[];
};

_Static_assert(offsetof(struct net_ring_shm, tail) == 64, "shared layout");
_Static_assert(offsetof(struct net_ring_shm, want_room) == 72, "shared layout");
_Static_assert(offsetof(struct net_ring_shm, head) == 128, "shared layout");
_Static_assert(offsetof(struct net_ring_shm, data) == 192, "shared layout");

/* The producer's side, private to its process. */
struct net_ring_tx {
    struct net_ring_shm *shm;
    uint64_t size;      /* the checked copy: the shared one is not trusted again */
    uint64_t tail;      /* reserved so far */
    uint64_t published; /* what shm->tail holds */
    uint64_t head;      /* the consumer's head when last looked at */
    uint64_t wanted;    /* what shm->want_room holds */
};

/* The consumer's side, private to its process. */
struct net_ring_rx {
    struct net_ring_shm *shm;
    uint64_t size;
    uint64_t head;     /* read so far */
    uint64_t released; /* what shm->head holds */
    uint64_t tail;     /* the producer's tail when last looked at */
    uint64_t next;     /* where the record that peek showed ends; head when none was shown */
    uint64_t answered; /* the request for room last answered with a bell */
};

/* Bytes of shared memory that a ring of `size` data bytes takes. */
size_t net_ring_bytes(uint64_t size);

/* The largest frame a ring of `size` takes: a quarter of it with its header. Larger ones go another
 * way. */
size_t net_ring_frame_max(uint64_t size);

/*
 * Lays out an empty ring in `len` bytes at `memory` (64-byte aligned). By whoever creates the
 * memory, before it is shared. ST_INVALID_ARGUMENT if size is no power of two within the bounds or
 * too large for the memory.
 */
MUST_USE int net_ring_format(void *memory, size_t len, uint64_t size);

/* Attach to a formatted ring in `len` bytes. ST_PROTOCOL if what stands there is no such ring. */
MUST_USE int net_ring_tx_init(struct net_ring_tx *tx, void *memory, size_t len);
MUST_USE int net_ring_rx_init(struct net_ring_rx *rx, void *memory, size_t len);

/* ---- producer ---- */

/*
 * Makes room for a frame of `len` bytes and points at it: contiguous, 8-byte aligned, to be filled
 * before net_ring_publish. Several may be reserved and published together. ST_WOULD_BLOCK if the
 * ring is full, ST_LIMIT if no ring of this size ever takes it, ST_PROTOCOL if the consumer's head
 * is impossible.
 */
MUST_USE int net_ring_reserve(struct net_ring_tx *tx, size_t len, void **frame);

/* Shows everything reserved to the consumer: one release store. Then mark the bell. */
void net_ring_publish(struct net_ring_tx *tx);

/* Published bytes that the consumer had not released when last looked at: what a bell threshold is
 * compared with. At most the truth is smaller. */
uint64_t net_ring_unread_bytes(const struct net_ring_tx *tx);

/* Data bytes not in use, headers included, by a fresh look at the consumer's head. */
uint64_t net_ring_free_bytes(struct net_ring_tx *tx);

/*
 * After ST_WOULD_BLOCK for `len`: asks the consumer for a bell once it has made room. True: there
 * is room by now, reserve again. False: the bell will come.
 */
MUST_USE bool net_ring_want_room(struct net_ring_tx *tx, size_t len);

/* Once the consumer has read what was published: the lines that the next frame is written to are
 * fetched from its cache, so that publishing need not wait for them. */
static inline void
net_ring_expect_write(const struct net_ring_tx *tx)
{
    const unsigned char *at = tx->shm->data + (tx->tail & (tx->size - 1));
    atom_expect_write(&tx->shm->tail);
    atom_expect_write(at);
    atom_expect_write(at + 64);
}

/* ---- consumer ---- */

/* Something was published: the lines of the oldest unread frame are fetched from the producer's
 * cache while the bell is still being taken. */
static inline void
net_ring_expect_read(const struct net_ring_rx *rx)
{
    const unsigned char *at = rx->shm->data + (rx->head & (rx->size - 1));
    atom_expect_read(&rx->shm->tail);
    atom_expect_read(at);
    atom_expect_read(at + 64);
}

/*
 * The oldest unread frame, in place: valid until net_ring_release or the ring's quarter mark (see
 * net_ring_advance). ST_WOULD_BLOCK if there is none, ST_PROTOCOL if the producer broke the
 * ring: close the connection. Peeking again without advancing shows the same frame.
 */
MUST_USE int net_ring_peek(struct net_ring_rx *rx, const void **frame, size_t *len);

/*
 * Done with the frame that was peeked. Its space goes back to the producer at the next release,
 * which happens here once a quarter of the ring is due. True: bell the producer, it waits for room.
 */
MUST_USE bool net_ring_advance(struct net_ring_rx *rx);

/* Gives all read space back. True: bell the producer. */
MUST_USE bool net_ring_release(struct net_ring_rx *rx);

/*
 * After a drain, before sleeping: the same, unless it is less than a sixteenth of the ring. Nobody
 * can wait for that: the largest frame, with what is left unused before the ring's end, takes half
 * of it. So a short exchange pays no fence. True: bell the producer.
 */
MUST_USE bool net_ring_settle(struct net_ring_rx *rx);

#endif
