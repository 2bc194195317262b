/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Doorbells: how a process that publishes into a ring knows whether it must wake the reader, and
 * how the reader finds out which of up to 4096 rings have something. Every process has one page,
 * which it alone receives on and into which all local peers mark. A bell itself is a byte on the
 * unix socket of the connection, or an eventfd within a process: that is the caller's part.
 *
 *   offset   written by        struct net_bell_page
 *        0   receiver          magic u32 | version u32
 *       64   receiver          state u32 | threshold u32
 *      128   all, by RMW       summary u64: bit i = leaf[i] may have bits set
 *      136   all, by RMW       leaf[64] u64: bit j of leaf i = ring 64 i + j may have frames
 *
 * Senders set bits and never write the state. The receiver clears summary, then leaf, then reads
 * the ring. Each mark therefore finds either a reader that will still look, or a state that says
 * ring.
 *
 *   state     a mark needs a bell            who drains
 *   POLLING   never                          the leader, at once
 *   LAZY      urgent, or at the threshold    the background thread's tick (1 ms); or a leader
 *   DOZING    waited for or urgent, or at    the leader, who waits for many frames and blocks for
 *             the threshold                  a tick at most
 *   ASLEEP    always                         whoever consumes the bell
 *
 * A sender that has rung does not ring again until it has found its bit clear: the bell on its way
 * makes the receiver drain everything marked so far. So a burst into a sleeper costs one bell.
 *
 * The peers can scribble over the page: then marks get lost and this process sleeps until the next
 * bell, but nothing is read outside the page, and no decision about this process's own
 * threads depends on it: leader, parked and the true state are in struct net_bell, in private
 * memory. A sender killed between its steps leaves at most a bit without a bell or a leaf without
 * its summary; its death notice makes the receiver drain its ring, whatever the bits say.
 */
#ifndef RAY_NET_BELL_H
#define RAY_NET_BELL_H

#include "base/atom.h"
#include "base/status.h"

#define NET_BELL_VERSION 2u
#define NET_BELL_LEAVES  64u
#define NET_BELL_RINGS   (64u * NET_BELL_LEAVES)

enum net_bell_state {
    NET_BELL_POLLING = 0,
    NET_BELL_ASLEEP = 1,
    NET_BELL_LAZY = 2,
    NET_BELL_DOZING = 3,
};

/* How soon a frame must be seen. */
enum net_bell_need {
    NET_BELL_CALM = 0,   /* others follow it soon, or it can wait for a tick */
    NET_BELL_WAITED = 1, /* at once by who waits; who is busy with something else may take a tick */
    NET_BELL_URGENT = 2, /* at once */
};

struct net_bell_page {
    uint32_t magic;
    uint32_t version;

    /* Receiver: store, fence, load summary. Sender: set bits, fence, load this. */
    _Alignas(64) struct atom_u32 state;
    /* Unread bytes in one ring at which a LAZY or DOZING receiver wants a bell. */
    struct atom_u32 threshold;

    /* Set by senders (release: hands over the ring's tail), cleared by the receiver (acquire). The
     * first leaves share the summary's cache line. */
    _Alignas(64) struct atom_u64 summary;
    struct atom_u64 leaf[NET_BELL_LEAVES];
};

_Static_assert(offsetof(struct net_bell_page, state) == 64, "shared layout");
_Static_assert(offsetof(struct net_bell_page, summary) == 128, "shared layout");
_Static_assert(offsetof(struct net_bell_page, leaf) == 136, "shared layout");
_Static_assert(sizeof(struct net_bell_page) == 704, "shared layout");

/* ---- sender ---- */

/* One ring's sender, private to its process, used by one thread at a time. */
struct net_bell_tx {
    struct net_bell_page *page; /* the receiver's */
    uint32_t ring;              /* the ring's number there */
    bool rung;                  /* a bell was sent since the bit was last found clear */
};

/* Attach to a peer's page. ST_PROTOCOL if what stands there is none; ST_INVALID_ARGUMENT for the
 * ring. */
MUST_USE int net_bell_tx_init(struct net_bell_tx *tx, void *memory, size_t len, uint32_t ring);

/*
 * Something was published into the ring, or room was made in the ring of the other direction for a
 * sender that waits for it (then urgent). `unread` is net_ring_unread_bytes. True: send the bell.
 */
MUST_USE bool net_bell_mark(struct net_bell_tx *tx, uint64_t unread, enum net_bell_need need);

/* ---- receiver ---- */

/* Who polls and blocks on behalf of the process: nobody, or a thread by its number (above 0). */
#define NET_BELL_NOBODY 0u

/* The receiving process's own side; shared by its threads. */
struct net_bell {
    struct net_bell_page *page;
    uint32_t n_rings; /* bits at and above are ignored */
    /* Compare-and-swapped from NOBODY by who takes the lead, stored by who leaves it. */
    _Alignas(64) struct atom_u32 leader;
    /* The page's state as it really is. Written by the leader, before it leaves. */
    struct atom_u32 state;
    /* The background thread blocks without a timer. It: store, fence, load leader and state. Who
     * goes LAZY: store state, fence, load this. */
    struct atom_u32 parked;
};

/* Lays out a page (memory of sizeof(struct net_bell_page), 64-byte aligned) in state ASLEEP without
 * a leader, and attaches to it. Before it is shared. */
MUST_USE int net_bell_init(struct net_bell *bell, void *memory, size_t len, uint32_t n_rings);

/* Rings may be added while running, up to NET_BELL_RINGS. By the leader. */
void net_bell_set_rings(struct net_bell *bell, uint32_t n_rings);

/* Unread bytes in one ring that end a LAZY or DOZING receiver's rest; 0 at first: any do. */
void net_bell_set_threshold(struct net_bell *bell, uint32_t bytes);

/* Takes the lead if nobody has it. `thread` is above 0. The state is then POLLING, or stays LAZY:
 * the leader sees all marks either way, and the senders keep the state in their caches. */
MUST_USE bool net_bell_lead(struct net_bell *bell, uint32_t thread);

/*
 * The leader leaves: nobody drives any more until the next bell (lazy false) or tick (lazy true:
 * only if the background thread ticks, or is kicked as this says). True: kick the background
 * thread, it must tick, or there is something to drain. The background thread itself leaves so
 * after a tick or a bell and takes true as "lead again".
 */
MUST_USE bool net_bell_leave(struct net_bell *bell, bool lazy);

/* Leader: may it block now, to be woken by bells? `doze`: not by those of CALM frames below the
 * threshold, so it blocks for a tick at most. False: there is something to drain; the state is
 * POLLING again. */
MUST_USE bool net_bell_sleep_prepare(struct net_bell *bell, bool doze);

/* Leader, after having blocked: no more bells please. */
void net_bell_poll_begin(struct net_bell *bell);

/*
 * Background thread: may it block without a timer? (It watches bells and its kick whenever it
 * blocks.) False: it must tick, since the state is LAZY, or drain, since nobody leads and bits
 * are set. After either, or after having blocked: net_bell_park_end.
 */
MUST_USE bool net_bell_park_prepare(struct net_bell *bell);
void net_bell_park_end(struct net_bell *bell);

/* Anything marked? A cheap look, for spinning: one load. */
bool net_bell_any(const struct net_bell *bell);

/*
 * The marked rings, each bit cleared before its ring is handed out. By whoever consumed a bell,
 * ticks or leads, under the lock that guards the rings' consumer sides. Whoever consumes a bell
 * must do this, and not only read the ring that the bell came for: a bit that stays set keeps its
 * sender from ringing again.
 *
 *     net_bell_take_begin(bell, &take);
 *     while (net_bell_take_next(&take, &ring)) {
 *         drain ring;  (stopped early? net_bell_self_mark(bell, ring))
 *     }
 *
 * Whoever breaks out of the loop calls net_bell_take_end, which marks again what was not handed
 * out.
 */
struct net_bell_take {
    struct net_bell *bell;
    uint64_t summary; /* leaves not yet taken */
    uint64_t leaf;    /* rings of the leaf being walked, not yet handed out */
    uint32_t index;   /* of that leaf */
};

void net_bell_take_begin(struct net_bell *bell, struct net_bell_take *take);
MUST_USE bool net_bell_take_next(struct net_bell_take *take, uint32_t *ring);
void net_bell_take_end(struct net_bell_take *take);

/* The receiver marks a ring that it has not read to the end. */
void net_bell_self_mark(struct net_bell *bell, uint32_t ring);

#endif
