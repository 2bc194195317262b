/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rings and doorbells together, as a connection uses them: a sender with more frames than the ring
 * holds keeps the rest on its heap, asks for room and sleeps; a receiver drains, gives space back
 * and sleeps. Bells go both ways: "there is something to read", and "there is room", which is a
 * mark of the sender's own page under the same connection. Nobody may sleep while the other waits
 * for it.
 */
#include "ilv.h"

#include "net/net_bell.h"
#include "net/net_ring.h"

enum { SENDER, RECEIVER };
enum { CONNECTION = 2 }; /* its number on either page */

struct transport_state {
    _Alignas(64) unsigned char memory[192 + 64]; /* four records of 16 bytes */
    struct net_ring_tx tx;
    struct net_ring_rx rx;
    struct net_bell_page page[2];
    struct net_bell bell[2];
    struct net_bell_tx ring_bell[2]; /* [i]: used by i, on the other's page */
    struct atom_u32 socket[2];       /* bells on their way to i */
    unsigned queued, received;
    unsigned bells[2], rests[2]; /* bells to i; times that i went to rest */
};

static unsigned frames;
static bool counting; /* of bells and rests: it makes the states many */

static void
setup(void *state)
{
    struct transport_state *s = state;

    ilv_expect(net_ring_format(s->memory, sizeof s->memory, 64) == ST_OK, "format");
    ilv_expect(net_ring_tx_init(&s->tx, s->memory, sizeof s->memory) == ST_OK, "tx");
    ilv_expect(net_ring_rx_init(&s->rx, s->memory, sizeof s->memory) == ST_OK, "rx");
    for (unsigned i = 0; i < 2; i++) {
        ilv_expect(net_bell_init(&s->bell[i], &s->page[i], sizeof s->page[i], 8) == ST_OK, "bell");
    }
    for (unsigned i = 0; i < 2; i++) {
        ilv_expect(net_bell_tx_init(&s->ring_bell[i], &s->page[1 - i], sizeof s->page[0],
                                    CONNECTION) == ST_OK,
                   "bell tx");
    }
    s->queued = frames;
    ilv_name(&s->tx.shm->tail, 8, "tail");
    ilv_name(&s->tx.shm->want_room, 8, "want_room");
    ilv_name(&s->tx.shm->head, 8, "head");
    ilv_name(s->tx.shm->data, 64, "data");
    ilv_name(&s->page[0].state, 4, "sender's state");
    ilv_name(&s->page[0].summary, 8, "sender's summary");
    ilv_name(s->page[0].leaf, sizeof s->page[0].leaf, "sender's leaf");
    ilv_name(&s->page[1].state, 4, "receiver's state");
    ilv_name(&s->page[1].summary, 8, "receiver's summary");
    ilv_name(s->page[1].leaf, sizeof s->page[1].leaf, "receiver's leaf");
    ilv_name(&s->socket[0], 4, "bell to sender");
    ilv_name(&s->socket[1], 4, "bell to receiver");
}

static void
mark(struct transport_state *s, unsigned self, uint64_t unread, enum net_bell_need need)
{
    if (net_bell_mark(&s->ring_bell[self], unread, need)) {
        s->bells[1 - self] += counting;
        atom_u32_fetch_add(&s->socket[1 - self], 1, ATOM_ACQ_REL);
    }
}

static bool
bell_for_sender(const void *state)
{
    return ((const struct transport_state *)state)->socket[SENDER].raw != 0;
}

static bool
bell_for_receiver(const void *state)
{
    return ((const struct transport_state *)state)->socket[RECEIVER].raw != 0;
}

/* Nothing to do: sleeps unless something was marked meanwhile. */
static void
rest(struct transport_state *s, unsigned self)
{
    s->rests[self] += counting;
    if (net_bell_sleep_prepare(&s->bell[self], false)) {
        ilv_block(self == SENDER ? bell_for_sender : bell_for_receiver, "a bell");
        atom_u32_exchange(&s->socket[self], 0, ATOM_ACQ_REL);
        net_bell_poll_begin(&s->bell[self]);
    }
}

/* Everything marked on one's page; here that is the one connection or nothing. */
static void
take(struct transport_state *s, unsigned self)
{
    struct net_bell_take taken;
    uint32_t ring;

    net_bell_take_begin(&s->bell[self], &taken);
    while (net_bell_take_next(&taken, &ring)) {
        ilv_expect(ring == CONNECTION, "a ring that nobody marked");
    }
}

/* From the heap queue into the ring, as far as it goes. */
static void
flush(struct transport_state *s)
{
    unsigned put = 0;

    while (s->queued > 0) {
        const uint64_t value = frames - s->queued;
        void *frame;

        if (net_ring_reserve(&s->tx, sizeof value, &frame) != ST_OK) {
            break;
        }
        atom_copy_in(frame, &value, sizeof value);
        s->queued--;
        put++;
    }
    if (put > 0) {
        net_ring_publish(&s->tx);
        mark(s, SENDER, net_ring_unread_bytes(&s->tx), NET_BELL_CALM);
    }
}

static void
send(void *state)
{
    struct transport_state *s = state;

    ilv_expect(net_bell_lead(&s->bell[SENDER], 1), "nobody else leads");
    for (;;) {
        flush(s);
        if (s->queued == 0) {
            return;
        }
        if (net_ring_want_room(&s->tx, sizeof(uint64_t))) {
            continue;
        }
        rest(s, SENDER);
        take(s, SENDER);
    }
}

static void
tell_room(struct transport_state *s, bool owed)
{
    if (owed) {
        mark(s, RECEIVER, 0, NET_BELL_URGENT);
    }
}

static void
drain(struct transport_state *s)
{
    const void *frame;
    size_t len;

    while (net_ring_peek(&s->rx, &frame, &len) == ST_OK) {
        uint64_t value;

        atom_copy_out(&value, frame, sizeof value);
        ilv_expect(len == sizeof value && value == s->received, "another frame than expected");
        s->received++;
        tell_room(s, net_ring_advance(&s->rx));
    }
    tell_room(s, net_ring_release(&s->rx));
}

static void
receive(void *state)
{
    struct transport_state *s = state;

    ilv_expect(net_bell_lead(&s->bell[RECEIVER], 1), "nobody else leads");
    for (;;) {
        take(s, RECEIVER);
        drain(s);
        if (s->received == frames) {
            return;
        }
        rest(s, RECEIVER);
    }
}

static void
invariant(const void *state)
{
    const struct transport_state *s = state;

    /* One bell for each time that a side says it is going to sleep, however long the burst. */
    ilv_expect(s->bells[SENDER] <= 1 + s->rests[SENDER] &&
                   s->bells[RECEIVER] <= 1 + s->rests[RECEIVER],
               "more bells than sleeps");
}

static void
setup_five(void *state)
{
    frames = 5;
    counting = true;
    setup(state);
}

static void
setup_six(void *state)
{
    frames = 6;
    counting = false;
    setup(state);
}

#define RULES                                                                                      \
    {                                                                                              \
        { "ring_want_fence", "the request may become visible after the head was read again" },     \
            { "ring_want_recheck", "the head may have moved before the request was made" },        \
            { "ring_answer_fence", "the request may be read before the head is visible" },         \
            { "bell_mark_fence", "the state may be read before the bits are visible" },            \
            { "bell_sleep_fence", "the bits may be read before the state is visible" },            \
            { "bell_sleep_recheck", "a mark made while still polling rings no bell" },             \
        {                                                                                          \
            "bell_rung_reset", "the second sleep would get no bell"                                \
        }                                                                                          \
    }

static const struct ilv_model five = {
    .name = "transport-5",
    .about = "5 frames through a ring of 4, both sides asleep whenever they may",
    .state_size = sizeof(struct transport_state),
    .actors = { { .name = "sender", .run = send }, { .name = "receiver", .run = receive } },
    .n_actors = 2,
    .setup = setup_five,
    .invariant = invariant,
    .rules = RULES,
};

static const struct ilv_model six = {
    .name = "transport-6",
    .about = "6 frames: the ring may be full more than once",
    .state_size = sizeof(struct transport_state),
    .actors = { { .name = "sender", .run = send }, { .name = "receiver", .run = receive } },
    .n_actors = 2,
    .setup = setup_six,
    .invariant = invariant,
};

int
main(int argc, char **argv)
{
    static const struct ilv_model *const models[] = { &five, &six };

    return ilv_main(argc, argv, models, sizeof models / sizeof models[0]);
}
