/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mark by which a running task is told that it was cancelled. It lies in the record of the task
 * itself, so that it can't be mistaken for another's, and goes with it.
 *
 *   cancelled   written by whoever leads, under the engine's lock; 0 -> 1, never back
 *   asked       0 -> 1 by whoever leads, under the lock, while the task is the running one;
 *               1 -> 0 by the task's thread, by exchange, without the lock
 *
 * Partners: the leader's release store of `asked` with the thread's acquire exchange. A process
 * that is killed takes both words with it. docs/protocols/cancellation.md tells the races,
 * tests/interleave/model_cancel.c runs them.
 */
#ifndef RAY_WORKER_WK_INTERRUPT_H
#define RAY_WORKER_WK_INTERRUPT_H

#include "base/atom.h"
#include "net/net_window.h"

struct wk_interrupt {
    struct atom_u32 cancelled;
    struct atom_u32 asked;
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
    atom_u32_store(&i->cancelled, 1, ATOM_RELAXED);
    atom_u32_store(&i->asked, 1, ATOM_RELEASE);
}

/* True once for each time it was asked, or several that came together: the taker interrupts. */
static inline bool
wk_interrupt_take(struct wk_interrupt *i)
{
    return atom_u32_load(&i->asked, ATOM_RELAXED) != 0 &&
           atom_u32_exchange(&i->asked, 0, ATOM_ACQ_REL) != 0;
}

#endif
