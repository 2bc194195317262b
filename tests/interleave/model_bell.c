/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Models of net_bell between processes: two senders and a receiver that drains, and sleeps when
 * nothing is marked. A receiver that sleeps while something is published and no bell is on its way
 * hangs, which the checker reports. The functions run are net_bell's own; a ring is reduced to its
 * tail.
 */
#include "ilv.h"

#include "net/net_bell.h"

enum { SENDER_A, SENDER_B, RECEIVER };

struct bell_state {
    struct net_bell_page page;
    struct net_bell bell;
    struct net_bell_tx tx[2];
    _Alignas(8) struct atom_u64 tail[2];
    struct atom_u32 socket; /* bells on their way to the receiver */
    unsigned published[2];  /* what the receiver must get */
    unsigned read[2];
    unsigned bells; /* sent in all */
    bool heard;     /* of sender A's death */
};

/* One search's constants. */
static unsigned frames[2];
static uint32_t rings[2];
static bool early_stop; /* the receiver reads one frame a time and marks the ring again */

static void
setup(void *state)
{
    struct bell_state *s = state;

    ilv_expect(net_bell_init(&s->bell, &s->page, sizeof s->page, 128) == ST_OK, "init");
    ilv_name(&s->page.state, 4, "page.state");
    ilv_name(&s->bell.state, 4, "own.state");
    ilv_name(&s->page.summary, 8, "summary");
    ilv_name(&s->bell.leader, 4, "leader");
    ilv_name(s->page.leaf, sizeof s->page.leaf, "leaf");
    ilv_name(&s->tail[0], 8, "tail A");
    ilv_name(&s->tail[1], 8, "tail B");
    ilv_name(&s->socket, 4, "socket");
    for (unsigned i = 0; i < 2; i++) {
        ilv_expect(net_bell_tx_init(&s->tx[i], &s->page, sizeof s->page, rings[i]) == ST_OK, "tx");
    }
}

static void
send_all(struct bell_state *s, unsigned self)
{
    for (unsigned i = 1; i <= frames[self]; i++) {
        atom_u64_store(&s->tail[self], i, ATOM_RELEASE);
        s->published[self] = i;
        if (net_bell_mark(&s->tx[self], i - s->read[self], NET_BELL_CALM)) {
            atom_u32_fetch_add(&s->socket, 1, ATOM_ACQ_REL);
            s->bells++;
        }
    }
}

static void
send_a(void *state)
{
    send_all(state, 0);
}

static void
send_b(void *state)
{
    send_all(state, 1);
}

static void
read_ring(struct bell_state *s, unsigned i)
{
    const uint64_t tail = atom_u64_load(&s->tail[i], ATOM_ACQUIRE);

    if (early_stop && tail > s->read[i] + 1) {
        s->read[i]++;
        if (ilv_rule("bell_self_mark")) {
            net_bell_self_mark(&s->bell, rings[i]);
        }
    } else if (tail > s->read[i]) {
        s->read[i] = (unsigned)tail;
    }
}

static void
drain(struct bell_state *s)
{
    struct net_bell_take take;
    uint32_t ring;

    if (!ilv_rule("bell_clear_first")) {
        read_ring(s, 0);
        read_ring(s, 1);
    }
    net_bell_take_begin(&s->bell, &take);
    while (net_bell_take_next(&take, &ring)) {
        const unsigned i = ring == rings[0] ? 0 : 1;

        ilv_expect(ring == rings[i], "a ring that nobody marked");
        if (ilv_rule("bell_clear_first")) {
            read_ring(s, i);
        }
    }
}

/* A sender's end is told by the kernel: it wakes, and its ring is drained whatever the bits say. */
static bool
bell_or_death(const void *state)
{
    const struct bell_state *s = state;

    return s->socket.raw != 0 || (ilv_dead_now(SENDER_A) && !s->heard);
}

static bool
finished(const struct bell_state *s)
{
    return (s->heard || s->read[0] == frames[0]) && s->read[1] == frames[1];
}

static void
hear_of_death(struct bell_state *s)
{
    s->heard = ilv_is_dead(SENDER_A);
    if (s->heard && ilv_rule("bell_drain_at_death")) {
        s->read[0] = (unsigned)atom_u64_load(&s->tail[0], ATOM_ACQUIRE);
    }
    ilv_expect(!s->heard || s->read[0] == s->published[0], "published before the death, and lost");
}

static void
receive(void *state)
{
    struct bell_state *s = state;

    ilv_expect(net_bell_lead(&s->bell, 1), "nobody else leads");
    for (;;) {
        drain(s);
        if (finished(s)) {
            return;
        }
        if (!net_bell_sleep_prepare(&s->bell, false)) {
            continue;
        }
        ilv_block(bell_or_death, "a bell or a death");
        if (!s->heard && ilv_dead_now(SENDER_A)) {
            hear_of_death(s);
        }
        atom_u32_exchange(&s->socket, 0, ATOM_ACQ_REL);
        net_bell_poll_begin(&s->bell);
    }
}

static void
finish(const void *state)
{
    const struct bell_state *s = state;

    ilv_expect(s->read[1] == frames[1] && (s->heard || s->read[0] == frames[0]),
               "a frame never arrived");
}

static void
setup_same_leaf(void *state)
{
    frames[0] = 2;
    frames[1] = 1;
    rings[0] = 3;
    rings[1] = 5;
    early_stop = false;
    setup(state);
}

static void
setup_two_leaves(void *state)
{
    frames[0] = 2;
    frames[1] = 1;
    rings[0] = 3;
    rings[1] = 70;
    early_stop = false;
    setup(state);
}

static void
setup_burst(void *state)
{
    frames[0] = 4;
    frames[1] = 0;
    rings[0] = 3;
    rings[1] = 5;
    early_stop = true;
    setup(state);
}

static void
setup_death(void *state)
{
    frames[0] = 1;
    frames[1] = 2;
    rings[0] = 3;
    rings[1] = 5;
    early_stop = false;
    setup(state);
}

#define ACTORS                                                                                     \
    {                                                                                              \
        { .name = "sender A", .run = send_a }, { .name = "sender B", .run = send_b },              \
        {                                                                                          \
            .name = "receiver", .run = receive                                                     \
        }                                                                                          \
    }

static const struct ilv_model same_leaf = {
    .name = "bell-sleep",
    .about = "3 frames from two senders in one leaf; the receiver sleeps whenever it may",
    .state_size = sizeof(struct bell_state),
    .actors = ACTORS,
    .n_actors = 3,
    .setup = setup_same_leaf,
    .finish = finish,
    .rules = { { "bell_mark_fence", "the state may be read before the bits are visible" },
               { "bell_sleep_fence", "the bits may be read before the state is visible" },
               { "bell_sleep_recheck", "a mark made while still polling rings no bell" },
               { "bell_bits_release", "the bit may be seen without the frame" },
               { "bell_take_acquire", "the bit may be seen without the frame" },
               { "bell_leaf_first", "the summary may be taken before the leaf is set" },
               { "bell_bits_always",
                 "a bit that looks set may be cleared already, before the frame" },
               { "bell_summary_first", "clearing the summary last wipes out a mark just made" },
               { "bell_clear_first", "a frame published after the look and before the clearing" },
               { "bell_rung_reset", "the second sleep would get no bell" } },
};

static const struct ilv_model two_leaves = {
    .name = "bell-leaves",
    .about = "the same in two leaves",
    .state_size = sizeof(struct bell_state),
    .actors = ACTORS,
    .n_actors = 3,
    .setup = setup_two_leaves,
    .finish = finish,
};

static const struct ilv_model burst = {
    .name = "bell-burst",
    .about = "4 frames from one sender to a receiver that reads one at a time and marks again",
    .state_size = sizeof(struct bell_state),
    .actors = ACTORS,
    .n_actors = 3,
    .setup = setup_burst,
    .finish = finish,
    .rules = { { "bell_self_mark", "what was left in the ring is forgotten" } },
};

static const struct ilv_model death = {
    .name = "bell-death",
    .about = "3 frames; one sender is killed before any of its steps",
    .state_size = sizeof(struct bell_state),
    .actors = { { .name = "sender A", .run = send_a, .may_die = true },
                { .name = "sender B", .run = send_b },
                { .name = "receiver", .run = receive } },
    .n_actors = 3,
    .max_kills = 1,
    .setup = setup_death,
    .finish = finish,
    .rules = { { "bell_drain_at_death", "killed after the tail, before the mark" },
               { "bell_summary_always",
                 "who found the leaf in use relies on a summary that the killed one never set" } },
};

int
main(int argc, char **argv)
{
    static const struct ilv_model *const models[] = { &same_leaf, &two_leaves, &burst, &death };

    return ilv_main(argc, argv, models, sizeof models / sizeof models[0]);
}
