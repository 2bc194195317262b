/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Models of net_ring: what is published arrives, whole, once and in order; nobody overwrites what
 * is being read; a sender that waits for room is woken; whatever dies, the rest goes on. The
 * functions run are net_ring's own.
 */
#include "ilv.h"

#include "net/net_ring.h"

enum { PRODUCER, CONSUMER };

#define RING_SIZE  128u /* records of 16 and 32 bytes */
#define FRAMES_MAX 8u

struct ring_state {
    _Alignas(64) unsigned char memory[192 + RING_SIZE];
    struct net_ring_tx tx;
    struct net_ring_rx rx;
    struct atom_u32 bell; /* to the producer: bytes in its socket */
    unsigned published, received;
};

/* One search's constants. */
struct plan {
    uint64_t size;
    unsigned frames, batch;
    unsigned words[FRAMES_MAX]; /* payload of each frame */
};

static const struct plan *plan;

static void
setup(void *state, const struct plan *p)
{
    struct ring_state *s = state;

    plan = p;
    ilv_expect(net_ring_format(s->memory, sizeof s->memory, p->size) == ST_OK, "format");
    ilv_expect(net_ring_tx_init(&s->tx, s->memory, sizeof s->memory) == ST_OK, "tx");
    ilv_expect(net_ring_rx_init(&s->rx, s->memory, sizeof s->memory) == ST_OK, "rx");
    ilv_name(&s->tx.shm->tail, 8, "tail");
    ilv_name(&s->tx.shm->want_room, 8, "want_room");
    ilv_name(&s->tx.shm->head, 8, "head");
    ilv_name(s->tx.shm->data, p->size, "data");
    ilv_name(&s->bell, 4, "bell");
}

static uint64_t
payload(unsigned frame, unsigned word)
{
    return 0x100 * (frame + 1) + word;
}

static bool
room_told(const void *state)
{
    const struct ring_state *s = state;

    return s->bell.raw != 0 || ilv_dead_now(CONSUMER);
}

/* Reserves, waiting for room. False: the consumer is dead. */
static bool
reserve(struct ring_state *s, size_t len, void **frame)
{
    for (;;) {
        const int status = net_ring_reserve(&s->tx, len, frame);

        if (status == ST_OK) {
            return true;
        }
        ilv_expect(status == ST_WOULD_BLOCK, "the ring is reported broken");
        if (net_ring_want_room(&s->tx, len)) {
            continue;
        }
        ilv_block(room_told, "room, or the consumer's death");
        if (atom_u32_exchange(&s->bell, 0, ATOM_ACQ_REL) == 0 && ilv_is_dead(CONSUMER)) {
            return false;
        }
    }
}

static void
produce(void *state)
{
    struct ring_state *s = state;

    for (unsigned i = 0; i < plan->frames; i++) {
        void *frame = NULL;

        if (!reserve(s, 8u * plan->words[i], &frame)) {
            return;
        }
        for (unsigned w = 0; w < plan->words[i]; w++) {
            const uint64_t value = payload(i, w);

            atom_copy_in((unsigned char *)frame + 8u * w, &value, sizeof value);
        }
        if ((i + 1) % plan->batch == 0 || i + 1 == plan->frames) {
            net_ring_publish(&s->tx);
            s->published = i + 1;
        }
    }
}

static bool
frames_or_end(const void *state)
{
    const struct ring_state *s = state;

    return s->tx.shm->tail.raw != s->rx.head || ilv_dead_now(PRODUCER) || ilv_done_now(PRODUCER);
}

static void
bell_if(struct ring_state *s, bool owed)
{
    if (owed) {
        atom_u32_fetch_add(&s->bell, 1, ATOM_ACQ_REL);
    }
}

/* Reads one frame if there is one, and checks it. */
static bool
read_one(struct ring_state *s)
{
    const void *frame;
    size_t len;
    const int status = net_ring_peek(&s->rx, &frame, &len);

    if (status == ST_WOULD_BLOCK) {
        return false;
    }
    ilv_expect(status == ST_OK, "the ring is reported broken");
    ilv_expect(s->received < plan->frames && len == 8u * plan->words[s->received],
               "a frame of another length");
    for (unsigned w = 0; w < plan->words[s->received]; w++) {
        uint64_t value;

        atom_copy_out(&value, (const unsigned char *)frame + 8u * w, sizeof value);
        ilv_expect(value == payload(s->received, w), "a frame with other contents");
    }
    s->received++;
    bell_if(s, net_ring_advance(&s->rx));
    return true;
}

static void
consume(void *state)
{
    struct ring_state *s = state;

    while (s->received < plan->frames) {
        if (read_one(s)) {
            continue;
        }
        bell_if(s, net_ring_release(&s->rx));
        ilv_block(frames_or_end, "a frame, or the producer's end");
        if (ilv_is_dead(PRODUCER)) {
            while (ilv_rule("ring_drain_at_death") && read_one(s)) {
            }
            ilv_expect(s->received == s->published, "published before the death, and lost");
            return;
        }
    }
    bell_if(s, net_ring_release(&s->rx));
}

static void
finish(const void *state)
{
    const struct ring_state *s = state;

    if (!ilv_dead_now(PRODUCER) && !ilv_dead_now(CONSUMER)) {
        ilv_expect(s->received == plan->frames, "a frame never arrived");
    }
}

static void
setup_full(void *state)
{
    static const struct plan small = { 64, 7, 1, { 1, 1, 1, 1, 1, 1, 1 } };

    setup(state, &small);
}

static void
setup_wrap(void *state)
{
    static const struct plan mixed = { 128, 6, 2, { 3, 3, 3, 1, 2, 3 } };

    setup(state, &mixed);
}

static void
setup_death(void *state)
{
    static const struct plan few = { 64, 5, 2, { 1, 1, 1, 1, 1 } };

    setup(state, &few);
}

static const struct ilv_model full = {
    .name = "ring-full",
    .about = "7 frames through a ring that holds 4: room is asked for and told",
    .state_size = sizeof(struct ring_state),
    .actors = { { .name = "producer", .run = produce }, { .name = "consumer", .run = consume } },
    .n_actors = 2,
    .setup = setup_full,
    .finish = finish,
    .rules = { { "ring_tail_release", "the frame may become visible after the tail" },
               { "ring_tail_acquire", "the frame may be read before the tail" },
               { "ring_head_release", "the space may be reused while it is read" },
               { "ring_head_acquire", "the space may be written before the head is read" },
               { "ring_want_fence",
                 "the request may become visible after the head was read again" },
               { "ring_want_recheck", "the head may have moved before the request was made" },
               { "ring_answer_fence", "the request may be read before the head is visible" } },
};

static const struct ilv_model wrap = {
    .name = "ring-wrap",
    .about = "6 frames of 1 to 3 words, published in twos, past the ring's end",
    .state_size = sizeof(struct ring_state),
    .actors = { { .name = "producer", .run = produce }, { .name = "consumer", .run = consume } },
    .n_actors = 2,
    .setup = setup_wrap,
    .finish = finish,
};

static const struct ilv_model death = {
    .name = "ring-death",
    .about = "5 frames, published in twos; either side is killed before any of its steps",
    .state_size = sizeof(struct ring_state),
    .actors = { { .name = "producer", .run = produce, .may_die = true },
                { .name = "consumer", .run = consume, .may_die = true } },
    .n_actors = 2,
    .max_kills = 1,
    .setup = setup_death,
    .finish = finish,
    .rules = { { "ring_drain_at_death", "what was published before a death would be lost" } },
};

int
main(int argc, char **argv)
{
    static const struct ilv_model *const models[] = { &full, &wrap, &death };

    return ilv_main(argc, argv, models, sizeof models / sizeof models[0]);
}
