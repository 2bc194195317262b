/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mark by which a running task is told that it was cancelled. It lies in the record of the task
 * itself, so that it can't be mistaken for another's, and goes with it.
 *
 *   NONE -> ASKED    by whoever leads, under the engine's lock, while the task is the running one
 *   ASKED -> TAKEN   by the task's thread, by compare-and-swap, without the lock: it interrupts
 *   TAKEN -> ASKED   by whoever leads, as above: the task is cancelled once more
 *
 * One word holds both "it is cancelled" and "take it", so that who sees the one can have the other.
 * Partners: the leader's release store of ASKED with the thread's compare-and-swap. A process
 * that is killed takes the word with it. docs/protocols/cancellation.md tells the races,
 * tests/interleave/model_cancel.c runs them.
 */
#ifndef RAY_WORKER_WK_INTERRUPT_H
#define RAY_WORKER_WK_INTERRUPT_H

#include "base/atom.h"
#include "net/net_window.h"

enum wk_interrupt_state { WK_INTERRUPT_NONE, WK_INTERRUPT_ASKED, WK_INTERRUPT_TAKEN };

struct wk_interrupt {
    struct atom_u32 state; /* enum wk_interrupt_state */
};

/* Whether a cancellation that names `named` is for the task that was pushed as `pushed`, over the
 * same connection. */
static inline bool
wk_interrupt_names(const struct net_window_push *named, const struct net_window_push *pushed)
{
    return !ATOM_RULE(interrupt_names) ||
           (named->word == pushed->word && named->number == pushed->number);
}

static inline void
wk_interrupt_ask(struct wk_interrupt *i)
{
    atom_u32_store(&i->state, WK_INTERRUPT_ASKED, ATOM_RELEASE);
}

/* It never goes back. */
static inline bool
wk_interrupt_is_cancelled(const struct wk_interrupt *i)
{
    return atom_u32_load(&i->state, ATOM_RELAXED) != WK_INTERRUPT_NONE;
}

/* True once for each time it was asked, or several that came together: the taker interrupts. */
static inline bool
wk_interrupt_take(struct wk_interrupt *i)
{
    uint32_t asked = WK_INTERRUPT_ASKED;
    return atom_u32_load(&i->state, ATOM_RELAXED) == WK_INTERRUPT_ASKED &&
           atom_u32_cas(&i->state, &asked, WK_INTERRUPT_TAKEN);
}

#endif
