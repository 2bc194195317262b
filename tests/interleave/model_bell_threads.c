/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Models of net_bell within the receiving process: a main thread that leads while it waits and
 * leaves for its own code, lazily or not; the background thread, which parks, ticks and answers
 * bells; and a sender. Rings are read under a lock, as the engine does; a ring is reduced to its
 * tail.
 */
#include "ilv.h"

#include "net/net_bell.h"

enum { MAIN, BACKGROUND, SENDER };

struct threads_state {
    struct net_bell_page page;
    struct net_bell bell;
    struct net_bell_tx tx;
    _Alignas(8) struct atom_u64 tail;
    struct atom_u32 socket; /* bells on their way */
    struct atom_u32 kick;   /* the background thread's eventfd */
    struct atom_u32 woken;  /* the main thread's */
    struct atom_u32 lock;   /* guards the ring's consumer side */
    unsigned read;          /* under the lock */
    unsigned ticks;         /* how often the background thread may yet leave lazily */
};

static unsigned frames;
static enum net_bell_need last; /* of the last frame */
static bool doze, tick;         /* how main sleeps while it waits */

static void
setup(void *state)
{
    struct threads_state *s = state;

    ilv_expect(net_bell_init(&s->bell, &s->page, sizeof s->page, 64) == ST_OK, "init");
    ilv_expect(net_bell_tx_init(&s->tx, &s->page, sizeof s->page, 7) == ST_OK, "tx");
    s->page.threshold.raw = 3;
    s->ticks = 1;
    ilv_name(&s->page.state, 4, "page.state");
    ilv_name(&s->bell.state, 4, "own.state");
    ilv_name(&s->page.threshold, 4, "threshold");
    ilv_name(&s->page.summary, 8, "summary");
    ilv_name(s->page.leaf, sizeof s->page.leaf, "leaf");
    ilv_name(&s->bell.leader, 4, "leader");
    ilv_name(&s->bell.parked, 4, "parked");
    ilv_name(&s->tail, 8, "tail");
    ilv_name(&s->socket, 4, "socket");
    ilv_name(&s->kick, 4, "kick");
    ilv_name(&s->woken, 4, "woken");
    ilv_name(&s->lock, 4, "lock");
}

static void
send(void *state)
{
    struct threads_state *s = state;

    for (unsigned i = 1; i <= frames; i++) {
        atom_u64_store(&s->tail, i, ATOM_RELEASE);
        if (net_bell_mark(&s->tx, i, i == frames ? last : NET_BELL_CALM)) {
            atom_u32_fetch_add(&s->socket, 1, ATOM_ACQ_REL);
        }
    }
}

static bool
unlocked(const void *state)
{
    return ((const struct threads_state *)state)->lock.raw == 0;
}

static void
lock(struct threads_state *s)
{
    do {
        ilv_block(unlocked, "the engine lock");
    } while (atom_u32_exchange(&s->lock, 1, ATOM_ACQUIRE) != 0);
}

static void
unlock(struct threads_state *s)
{
    atom_u32_store(&s->lock, 0, ATOM_RELEASE);
}

static void
read_ring(struct threads_state *s)
{
    s->read = (unsigned)atom_u64_load(&s->tail, ATOM_ACQUIRE);
}

static void
drain(struct threads_state *s)
{
    struct net_bell_take take;
    uint32_t ring;

    lock(s);
    net_bell_take_begin(&s->bell, &take);
    while (net_bell_take_next(&take, &ring)) {
        read_ring(s);
    }
    unlock(s);
}

/* ---- the background thread ---- */

static bool
bell_or_kick(const void *state)
{
    const struct threads_state *s = state;

    return s->socket.raw != 0 || s->kick.raw != 0;
}

/* Ticks while somebody leads, lazily, do nothing and are left out. */
static bool
tick_matters(const void *state)
{
    const struct threads_state *s = state;

    return bell_or_kick(state) || s->bell.leader.raw == NET_BELL_NOBODY ||
           s->bell.state.raw != NET_BELL_LAZY;
}

/* Leads, drains, and leaves: lazily while work is outstanding, which may be so for a while. */
static void
background_drive(struct threads_state *s)
{
    while (net_bell_lead(&s->bell, 2)) {
        bool lazy = false;

        drain(s);
        if (s->ticks > 0) {
            s->ticks--;
            lazy = ilv_choose(2, "leave lazily?") != 0;
        }
        if (!net_bell_leave(&s->bell, lazy)) {
            return;
        }
    }
}

/* This thread has taken a bell: it drains, whoever leads, and wakes who has waited for what came.
 */
static void
answer_bell(struct threads_state *s)
{
    if (!ilv_rule("bell_consumer_drains")) {
        return;
    }
    if (ilv_rule("bell_consumer_takes")) {
        drain(s);
    } else { /* reads the ring that the bell came for and leaves its bit set */
        lock(s);
        read_ring(s);
        unlock(s);
    }
    if (s->read == frames && ilv_rule("bell_wake_waiters")) { /* what main waits for */
        atom_u32_store(&s->woken, 1, ATOM_RELEASE);
    }
}

static void
background(void *state)
{
    struct threads_state *s = state;

    while (s->read < frames) {
        if (net_bell_park_prepare(&s->bell)) {
            ilv_block(bell_or_kick, "a bell or a kick");
        } else {
            ilv_block(tick_matters, "a tick");
            /* A millisecond is enough to see who leads: an update reads the last value. */
            (void)atom_u32_fetch_add(&s->bell.leader, 0, ATOM_ACQ_REL);
        }
        net_bell_park_end(&s->bell);
        atom_u32_exchange(&s->kick, 0, ATOM_ACQ_REL);
        if (atom_u32_exchange(&s->socket, 0, ATOM_ACQ_REL) != 0) {
            answer_bell(s);
        }
        background_drive(s);
    }
}

/* ---- the main thread ---- */

static void
leave(struct threads_state *s, bool lazy)
{
    if (net_bell_leave(&s->bell, lazy)) {
        atom_u32_fetch_add(&s->kick, 1, ATOM_ACQ_REL);
    }
}

/* Leads once and goes back to its own code, lazily. What comes then is the background thread's. */
static void
main_lazy(void *state)
{
    struct threads_state *s = state;

    if (net_bell_lead(&s->bell, 1)) {
        drain(s);
        leave(s, true);
    }
}

/* Leads once and leaves for good. */
static void
main_leaves(void *state)
{
    struct threads_state *s = state;

    if (net_bell_lead(&s->bell, 1)) {
        drain(s);
        leave(s, false);
    }
}

static bool
bell_or_woken(const void *state)
{
    const struct threads_state *s = state;

    return s->socket.raw != 0 || s->woken.raw != 0;
}

/* Ticks that find nothing are left out. */
static bool
bell_woken_or_tick(const void *state)
{
    return bell_or_woken(state) || ((const struct threads_state *)state)->page.summary.raw != 0;
}

/* Waits, as a get does, for all frames: leads if it can and sleeps; else the leader wakes it. */
static void
main_waits(void *state)
{
    struct threads_state *s = state;

    while (!net_bell_lead(&s->bell, 1)) {
        ilv_pause("somebody else leads just now");
        if (s->read == frames) {
            return;
        }
    }
    for (;;) {
        drain(s);
        if (s->read == frames) {
            break;
        }
        if (net_bell_sleep_prepare(&s->bell, doze)) {
            if (tick && ilv_rule("bell_doze_tick")) {
                ilv_block(bell_woken_or_tick, "a bell, the background thread, or a tick");
            } else {
                ilv_block(bell_or_woken, "a bell, or the background thread");
            }
            atom_u32_exchange(&s->woken, 0, ATOM_ACQ_REL);
            atom_u32_exchange(&s->socket, 0, ATOM_ACQ_REL);
            net_bell_poll_begin(&s->bell);
        }
    }
    leave(s, false);
}

static void
finish(const void *state)
{
    ilv_expect(((const struct threads_state *)state)->read == frames, "a frame never arrived");
}

static void
setup_one(void *state)
{
    frames = 1;
    last = NET_BELL_CALM;
    doze = tick = false;
    setup(state);
}

static void
setup_doze(void *state)
{
    setup_one(state);
    doze = tick = true;
}

static void
setup_waited(void *state)
{
    setup_one(state);
    last = ilv_rule("bell_doze_waited") ? NET_BELL_WAITED : NET_BELL_CALM;
    doze = true;
}

static void
setup_three(void *state)
{
    frames = 3;
    last = NET_BELL_URGENT;
    doze = tick = false;
    setup(state);
    ((struct threads_state *)state)->ticks = 2;
}

#define ACTORS(main_thread)                                                                        \
    {                                                                                              \
        { .name = "main", .run = main_thread },                                                    \
            { .name = "background", .run = background, .may_block_forever = true },                \
        {                                                                                          \
            .name = "sender", .run = send                                                          \
        }                                                                                          \
    }

static const struct ilv_model lazy = {
    .name = "bell-lazy",
    .about = "1 frame; main goes LAZY, the background thread parks, ticks and disarms",
    .state_size = sizeof(struct threads_state),
    .actors = ACTORS(main_lazy),
    .n_actors = 3,
    .setup = setup_one,
    .finish = finish,
    .rules = { { "bell_leave_fence", "LAZY may be visible after `parked` was read" },
               { "bell_park_fence", "`parked` may be visible after the state was read" },
               { "bell_park_recheck", "LAZY may be set before `parked`" },
               { "bell_lazy_kick", "LAZY with a parked ticker: nobody ticks" } },
};

static const struct ilv_model leaves = {
    .name = "bell-leave",
    .about = "1 frame; main leads once and leaves",
    .state_size = sizeof(struct threads_state),
    .actors = ACTORS(main_leaves),
    .n_actors = 3,
    .setup = setup_one,
    .finish = finish,
    .rules = { { "bell_leave_fence", "the bits may be read before ASLEEP is visible" },
               { "bell_leave_recheck", "marked while main polled: no bell is on its way" } },
};

static const struct ilv_model waits = {
    .name = "bell-wait",
    .about = "1 frame; main waits for it, bells may be taken by either thread",
    .state_size = sizeof(struct threads_state),
    .actors = ACTORS(main_waits),
    .n_actors = 3,
    .setup = setup_one,
    .finish = finish,
    .rules = { { "bell_consumer_drains", "the bell is gone and the leader sleeps on" },
               { "bell_wake_waiters", "what main waits for was read by the other thread" } },
};

static const struct ilv_model dozes = {
    .name = "bell-doze",
    .about = "the same, and main dozes: it blocks for a tick at most",
    .state_size = sizeof(struct threads_state),
    .actors = ACTORS(main_waits),
    .n_actors = 3,
    .setup = setup_doze,
    .finish = finish,
    .sc_only = true, /* a tick relies on stores to become visible in time, which is no step there */
    .rules = { { "bell_doze_tick", "a calm frame rings no bell: main sleeps on" } },
};

static const struct ilv_model dozes_on = {
    .name = "bell-doze-waited",
    .about = "the same without the tick: a frame that is waited for rings by itself",
    .state_size = sizeof(struct threads_state),
    .actors = ACTORS(main_waits),
    .n_actors = 3,
    .setup = setup_waited,
    .finish = finish,
    .rules = { { "bell_doze_waited", "a calm frame would ring no bell" } },
};

#define LARGE(variable, label, main_thread, ...)                                                   \
    static const struct ilv_model variable = {                                                     \
        .name = label,                                                                             \
        .about =                                                                                   \
            "the same with 3 frames, the last urgent, and 2 ticks; too large for weak memory",     \
        .state_size = sizeof(struct threads_state),                                                \
        .actors = ACTORS(main_thread),                                                             \
        .n_actors = 3,                                                                             \
        .setup = setup_three,                                                                      \
        .finish = finish,                                                                          \
        .rules = { __VA_ARGS__ },                                                                  \
        .sc_only = true,                                                                           \
    }

LARGE(lazy_large, "bell-lazy-3", main_lazy, { NULL, NULL });
LARGE(leaves_large, "bell-leave-3", main_leaves, { NULL, NULL });
LARGE(waits_large, "bell-wait-3", main_waits,
      { "bell_consumer_takes", "a bit left set keeps its sender from ringing again" });

int
main(int argc, char **argv)
{
    static const struct ilv_model *const models[] = { &lazy,         &leaves,     &waits,
                                                      &dozes,        &dozes_on,   &lazy_large,
                                                      &leaves_large, &waits_large };

    return ilv_main(argc, argv, models, sizeof models / sizeof models[0]);
}
