/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Doorbells; the header tells layout and states. What each step is for is told in
 * docs/protocols/rings-and-doorbells.md, and tests/interleave/model_bell*.c show it.
 */
#include "net/net_bell.h"

#include "base/flt.h"

#define NET_BELL_MAGIC 0x52596c62u /* "RYlb" */

/* ---- sender ---- */

int
net_bell_tx_init(struct net_bell_tx *tx, void *memory, size_t len, uint32_t ring)
{
    const struct net_bell_page *page = memory;

    if (ring >= NET_BELL_RINGS) {
        return st_fail(ST_INVALID_ARGUMENT, "ring %u of a doorbell page of %u", ring,
                       NET_BELL_RINGS);
    }
    if (len < sizeof *page || page->magic != NET_BELL_MAGIC) {
        return st_fail(ST_PROTOCOL, "shared memory that should hold a doorbell page holds none");
    }
    if (page->version != NET_BELL_VERSION) {
        return st_fail(ST_PROTOCOL, "a doorbell page of version %u, this process knows %u",
                       page->version, NET_BELL_VERSION);
    }
    *tx = (struct net_bell_tx){ .page = memory, .ring = ring };
    return ST_OK;
}

static uint64_t
leaf_bit(uint32_t ring)
{
    return UINT64_C(1) << (ring % 64);
}

static uint64_t
summary_bit(uint32_t ring)
{
    return UINT64_C(1) << (ring / 64);
}

/* Leaf, then summary, whatever they held. Returns whether the ring's bit was set already. */
static bool
set_bits(struct net_bell_page *page, uint32_t ring)
{
    const enum atom_order order = ATOM_ORDER(bell_bits_release, ATOM_ACQ_REL);
    uint64_t held;

    if (!ATOM_RULE(bell_bits_always) &&
        (atom_u64_load(&page->leaf[ring / 64], ATOM_ACQUIRE) & leaf_bit(ring))) {
        return true;
    }
    FAULT_STEP("net.bell.before_leaf");
    if (ATOM_RULE(bell_leaf_first)) {
        held = atom_u64_fetch_or(&page->leaf[ring / 64], leaf_bit(ring), order);
        FAULT_STEP("net.bell.after_leaf");
        if (ATOM_RULE(bell_summary_always) || held == 0) {
            atom_u64_fetch_or(&page->summary, summary_bit(ring), order);
        }
    } else {
        atom_u64_fetch_or(&page->summary, summary_bit(ring), order);
        held = atom_u64_fetch_or(&page->leaf[ring / 64], leaf_bit(ring), order);
    }
    FAULT_STEP("net.bell.after_summary");
    return (held & leaf_bit(ring)) != 0;
}

bool
net_bell_mark(struct net_bell_tx *tx, uint64_t unread, enum net_bell_need need)
{
    bool wanted;

    if (!set_bits(tx->page, tx->ring) && ATOM_RULE(bell_rung_reset)) {
        tx->rung = false;
    }
    if (ATOM_RULE(bell_mark_fence)) {
        atom_fence_after_update(); /* partners: the fences after set_state */
    }
    switch (atom_u32_load(&tx->page->state, ATOM_RELAXED)) {
    case NET_BELL_POLLING:
        return false;
    case NET_BELL_LAZY:
        wanted =
            need == NET_BELL_URGENT || unread >= atom_u32_load(&tx->page->threshold, ATOM_RELAXED);
        break;
    case NET_BELL_DOZING:
        wanted =
            need != NET_BELL_CALM || unread >= atom_u32_load(&tx->page->threshold, ATOM_RELAXED);
        break;
    default: /* asleep; or scribbled over, when a bell too many does no harm */
        wanted = true;
        break;
    }
    if (!wanted || tx->rung) {
        return false;
    }
    tx->rung = true;
    return true;
}

/* ---- receiver ---- */

/* For the senders, and for this process's own threads. Whoever calls fences if it must. */
static void
set_state(struct net_bell *bell, enum net_bell_state state)
{
    FAULT_STEP("net.bell.before_state");
    atom_u32_store(&bell->page->state, (uint32_t)state, ATOM_RELAXED);
    FAULT_STEP("net.bell.after_state");
    atom_u32_store(&bell->state, (uint32_t)state, ATOM_RELAXED);
}

int
net_bell_init(struct net_bell *bell, void *memory, size_t len, uint32_t n_rings)
{
    struct net_bell_page *page = memory;

    if (len < sizeof *page || n_rings > NET_BELL_RINGS) {
        return st_fail(ST_INVALID_ARGUMENT, "a doorbell page of %u rings in %zu bytes", n_rings,
                       len);
    }
    memset(page, 0, sizeof *page);
    memset(bell, 0, sizeof *bell);
    bell->page = page;
    bell->n_rings = n_rings;
    set_state(bell, NET_BELL_ASLEEP);
    page->version = NET_BELL_VERSION;
    page->magic = NET_BELL_MAGIC;
    return ST_OK;
}

void
net_bell_set_rings(struct net_bell *bell, uint32_t n_rings)
{
    ASSERT(n_rings <= NET_BELL_RINGS);
    bell->n_rings = n_rings;
}

void
net_bell_set_threshold(struct net_bell *bell, uint32_t bytes)
{
    atom_u32_store(&bell->page->threshold, bytes, ATOM_RELAXED);
}

bool
net_bell_any(const struct net_bell *bell)
{
    return atom_u64_load(&bell->page->summary, ATOM_ACQUIRE) != 0;
}

bool
net_bell_lead(struct net_bell *bell, uint32_t thread)
{
    uint32_t nobody = NET_BELL_NOBODY;

    ASSERT(thread != NET_BELL_NOBODY);
    if (!atom_u32_cas(&bell->leader, &nobody, thread)) {
        return false;
    }
    if (atom_u32_load(&bell->state, ATOM_RELAXED) != NET_BELL_LAZY) {
        set_state(bell, NET_BELL_POLLING);
    }
    return true;
}

bool
net_bell_leave(struct net_bell *bell, bool lazy)
{
    const enum net_bell_state rest = lazy ? NET_BELL_LAZY : NET_BELL_ASLEEP;

    if (atom_u32_load(&bell->state, ATOM_RELAXED) != rest) {
        set_state(bell, rest);
    }
    atom_u32_store(&bell->leader, NET_BELL_NOBODY, ATOM_RELEASE);
    if (ATOM_RULE(bell_leave_fence)) {
        atom_fence(); /* partners: net_bell_mark; for LAZY also net_bell_park_prepare */
    }
    if (lazy && ATOM_RULE(bell_lazy_kick) && atom_u32_load(&bell->parked, ATOM_RELAXED)) {
        return true;
    }
    return ATOM_RULE(bell_leave_recheck) && net_bell_any(bell);
}

bool
net_bell_sleep_prepare(struct net_bell *bell, bool doze)
{
    set_state(bell, doze ? NET_BELL_DOZING : NET_BELL_ASLEEP);
    if (ATOM_RULE(bell_sleep_fence)) {
        atom_fence(); /* partner: net_bell_mark */
    }
    if (ATOM_RULE(bell_sleep_recheck) && net_bell_any(bell)) {
        set_state(bell, NET_BELL_POLLING);
        return false;
    }
    return true;
}

void
net_bell_poll_begin(struct net_bell *bell)
{
    set_state(bell, NET_BELL_POLLING);
}

bool
net_bell_park_prepare(struct net_bell *bell)
{
    atom_u32_store(&bell->parked, 1, ATOM_RELAXED);
    if (ATOM_RULE(bell_park_fence)) {
        atom_fence(); /* partner: net_bell_leave */
    }
    if (!ATOM_RULE(bell_park_recheck)) {
        return true;
    }
    const bool led = atom_u32_load(&bell->leader, ATOM_ACQUIRE) != NET_BELL_NOBODY;

    if (atom_u32_load(&bell->state, ATOM_RELAXED) == NET_BELL_LAZY) {
        return false;
    }
    return led || !net_bell_any(bell); /* who leads now looks at `parked` when it leaves */
}

void
net_bell_park_end(struct net_bell *bell)
{
    atom_u32_store(&bell->parked, 0, ATOM_RELAXED);
}

void
net_bell_take_begin(struct net_bell *bell, struct net_bell_take *take)
{
    *take = (struct net_bell_take){ .bell = bell };
    if (!ATOM_RULE(bell_summary_first)) {
        take->summary = atom_u64_load(&bell->page->summary, ATOM_ACQUIRE);
    } else if (net_bell_any(bell)) {
        FAULT_STEP("net.bell.before_take");
        take->summary = atom_u64_exchange(&bell->page->summary, 0, ATOM_SEQ_CST);
        FAULT_STEP("net.bell.after_take");
    }
}

bool
net_bell_take_next(struct net_bell_take *take, uint32_t *ring)
{
    for (;;) {
        if (take->leaf) {
            *ring = 64 * take->index + (uint32_t)__builtin_ctzll(take->leaf);
            take->leaf &= take->leaf - 1;
            if (*ring < take->bell->n_rings) {
                return true;
            }
            continue; /* a peer's scribbling */
        }
        if (!take->summary) {
            return false;
        }
        take->index = (uint32_t)__builtin_ctzll(take->summary);
        take->summary &= take->summary - 1;
        take->leaf = atom_u64_exchange(&take->bell->page->leaf[take->index], 0,
                                       ATOM_ORDER(bell_take_acquire, ATOM_SEQ_CST));
        FAULT_STEP("net.bell.after_take_leaf");
        if (!ATOM_RULE(bell_summary_first)) { /* the order that loses a mark between the two */
            atom_u64_fetch_and(&take->bell->page->summary, ~(UINT64_C(1) << take->index),
                               ATOM_SEQ_CST);
        }
    }
}

void
net_bell_take_end(struct net_bell_take *take)
{
    if (take->leaf) {
        atom_u64_fetch_or(&take->bell->page->leaf[take->index], take->leaf, ATOM_ACQ_REL);
        FAULT_STEP("net.bell.between_give_back");
        take->summary |= UINT64_C(1) << take->index;
    }
    if (take->summary) {
        atom_u64_fetch_or(&take->bell->page->summary, take->summary, ATOM_ACQ_REL);
    }
    take->leaf = 0;
    take->summary = 0;
}

void
net_bell_self_mark(struct net_bell *bell, uint32_t ring)
{
    (void)set_bits(bell->page, ring);
}
