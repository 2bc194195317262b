/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two processes, each on a processor of its own, and a pair of single-producer single-consumer
 * rings between them in shared memory, both sides spinning.  It answers: how fast can one message
 * travel there and back, and how many messages of 100 bytes a second go one way, published one by
 * one and in batches of 64?
 *
 *   struct lim_ring   | tail (producer) | head (consumer) | data ... |
 *   each on its own cache line; tail and head count bytes for ever, their low bits are the offset.
 *   frame             | length u32 | payload, padded to a multiple of 8 |
 *   A length of LIM_RING_WRAP says: the rest up to the end of the ring is unused, go on at 0.
 */
#include "lim_common.h"

#include <sched.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LIM_RING_BYTES         65536u
#define LIM_RING_WRAP          UINT32_MAX
#define LIM_CACHE_LINE         64
#define LIM_SPINS_BEFORE_YIELD 20000u
#define LIM_ROUND_TRIPS        2000u
#define LIM_MESSAGES           100000u

struct lim_ring {
    alignas(LIM_CACHE_LINE) _Atomic uint32_t tail; /* pairs with the consumer's acquire */
    alignas(LIM_CACHE_LINE) _Atomic uint32_t head; /* pairs with the producer's acquire */
    alignas(LIM_CACHE_LINE) unsigned char data[LIM_RING_BYTES];
};

struct lim_shared {
    struct lim_ring there;
    struct lim_ring back;
};

/* One end's private view; what it last saw of the other end saves it most reads of that line. */
struct lim_end {
    struct lim_ring *ring;
    uint32_t own;
    uint32_t seen;
    uint32_t given; /* consumer: the head it last stored */
};

/* Messages begin with a word that tells the peer what to do. */
enum lim_order { LIM_ECHO = 1, LIM_COUNT = 2, LIM_COUNT_LAST = 3, LIM_STOP = 4 };

struct lim_message {
    uint32_t order;
    unsigned char rest[LIM_MESSAGE_BYTES - 4];
};

_Static_assert(sizeof(struct lim_message) == LIM_MESSAGE_BYTES, "messages are 100 bytes");

static inline void
spin(unsigned *count)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
    if (++*count >= LIM_SPINS_BEFORE_YIELD) {
        *count = 0;
        sched_yield();
    }
}

static inline uint32_t
frame_size(uint32_t length)
{
    return (length + (uint32_t)sizeof(uint32_t) + 7u) & ~7u;
}

/* Waits until `need` bytes can be written behind the producer's own position. */
static inline void
wait_for_room(struct lim_end *end, uint32_t need)
{
    unsigned spins = 0;
    while (LIM_RING_BYTES - (end->own - end->seen) < need) {
        end->seen = atomic_load_explicit(&end->ring->head, memory_order_acquire);
        if (LIM_RING_BYTES - (end->own - end->seen) >= need) {
            return;
        }
        /* What is written but not yet shown could be all that the consumer waits for. */
        atomic_store_explicit(&end->ring->tail, end->own, memory_order_release);
        spin(&spins);
    }
}

static inline void
ring_write(struct lim_end *end, const struct lim_message *message)
{
    const uint32_t size = frame_size(LIM_MESSAGE_BYTES);
    uint32_t offset = end->own & (LIM_RING_BYTES - 1);
    const uint32_t to_end = LIM_RING_BYTES - offset;
    if (to_end < size) {
        wait_for_room(end, to_end + size);
        const uint32_t wrap = LIM_RING_WRAP;
        memcpy(end->ring->data + offset, &wrap, sizeof(wrap));
        end->own += to_end;
        offset = 0;
    } else {
        wait_for_room(end, size);
    }
    const uint32_t length = LIM_MESSAGE_BYTES;
    memcpy(end->ring->data + offset, &length, sizeof(length));
    memcpy(end->ring->data + offset + sizeof(length), message, LIM_MESSAGE_BYTES);
    end->own += size;
}

static inline void
ring_publish(struct lim_end *end)
{
    atomic_store_explicit(&end->ring->tail, end->own, memory_order_release);
}

/* Copies the next message out; its space is given back when everything visible has been read. */
static inline void
ring_read(struct lim_end *end, struct lim_message *message)
{
    unsigned spins = 0;
    for (;;) {
        if (end->own == end->seen) {
            if (end->given != end->own) {
                end->given = end->own;
                atomic_store_explicit(&end->ring->head, end->own, memory_order_release);
            }
            end->seen = atomic_load_explicit(&end->ring->tail, memory_order_acquire);
            if (end->own == end->seen) {
                spin(&spins);
                continue;
            }
        }
        const uint32_t offset = end->own & (LIM_RING_BYTES - 1);
        uint32_t length = 0;
        memcpy(&length, end->ring->data + offset, sizeof(length));
        if (length == LIM_RING_WRAP) {
            end->own += LIM_RING_BYTES - offset;
            continue;
        }
        if (length != LIM_MESSAGE_BYTES) {
            fprintf(stderr, "ring corrupted: length %u\n", length);
            exit(1);
        }
        memcpy(message, end->ring->data + offset + sizeof(length), LIM_MESSAGE_BYTES);
        end->own += frame_size(length);
        return;
    }
}

/* The peer answers every ECHO and the last message of a counted series. */
static int
serve(struct lim_shared *shared)
{
    struct lim_end in = { .ring = &shared->there };
    struct lim_end out = { .ring = &shared->back };
    struct lim_message message;
    for (;;) {
        ring_read(&in, &message);
        if (message.order == LIM_STOP) {
            return 0;
        }
        if (message.order != LIM_COUNT) {
            ring_write(&out, &message);
            ring_publish(&out);
        }
    }
}

static void
measure_round_trip(struct lim_end *out, struct lim_end *in, double seconds)
{
    struct lim_samples samples = { .count = 0 };
    struct lim_message message = { .order = LIM_ECHO };
    const double stop_s = lim_now_s() + seconds;
    do {
        const double begin_s = lim_now_s();
        for (unsigned i = 0; i < LIM_ROUND_TRIPS; i++) {
            ring_write(out, &message);
            ring_publish(out);
            ring_read(in, &message);
        }
        lim_samples_add(&samples, (lim_now_s() - begin_s) * 1e6 / LIM_ROUND_TRIPS);
    } while (lim_now_s() < stop_s);
    lim_report("ring round trip", lim_samples_median(&samples), "us");
}

static void
measure_messages(struct lim_end *out, struct lim_end *in, double seconds, unsigned batch_count,
                 const char *name)
{
    struct lim_samples samples = { .count = 0 };
    struct lim_message message = { .order = LIM_COUNT };
    const double stop_s = lim_now_s() + seconds;
    do {
        const double begin_s = lim_now_s();
        unsigned unpublished_count = 0;
        for (unsigned i = 1; i <= LIM_MESSAGES; i++) {
            message.order = i == LIM_MESSAGES ? LIM_COUNT_LAST : LIM_COUNT;
            ring_write(out, &message);
            if (++unpublished_count == batch_count || i == LIM_MESSAGES) {
                ring_publish(out);
                unpublished_count = 0;
            }
        }
        struct lim_message answer;
        ring_read(in, &answer);
        lim_samples_add(&samples, LIM_MESSAGES / (lim_now_s() - begin_s));
    } while (lim_now_s() < stop_s);
    lim_report(name, lim_samples_median(&samples), "messages/s");
}

int
main(int argc, char **argv)
{
    const double seconds = lim_seconds_from_args(argc, argv);
    struct lim_shared *shared = lim_map_shared(sizeof(*shared));
    if (lim_cpu_count() < 2) {
        fprintf(stderr, "a spinning ring needs two processors, this process may use one\n");
        return 1;
    }
    const pid_t peer = lim_fork_peer();
    lim_pin(peer == 0 ? 1 : 0);
    if (peer == 0) {
        _exit(serve(shared));
    }
    struct lim_end out = { .ring = &shared->there };
    struct lim_end in = { .ring = &shared->back };
    measure_round_trip(&out, &in, seconds);
    measure_messages(&out, &in, seconds, 1, "ring messages one by one");
    measure_messages(&out, &in, seconds, LIM_BATCH_COUNT, "ring messages in batches of 64");
    const struct lim_message stop = { .order = LIM_STOP };
    ring_write(&out, &stop);
    ring_publish(&out);
    lim_join_peer(peer);
    return 0;
}
