/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Task windows: one shared word per task in flight on a connection, so that an owner can take a
 * task back without the worker's help, and so that after a death everybody knows which tasks had
 * begun. The owner's process calls the owner half, the worker's the worker half; raylet and owner
 * read the words after a death. For local connections the words lie beside the rings; for remote
 * owners the worker keeps them in its control page and calls both halves itself.
 *
 *   offset   written by        struct net_window_shm
 *        0   creator           magic u32 | version u32 | n_words u32 | zero u32
 *       64   as listed below   words u64 [n_words]
 *
 *   word:   63               8 7       0
 *          |   push number    |  state  |
 *
 *   FREE or an end state -> POSTED   owner   store, before the frame is published
 *   POSTED    -> STARTED             worker  CAS, just before the task runs
 *   POSTED    -> RECALLED            owner   CAS; the frame still in the ring is then void
 *   POSTED    -> BOUNCED             worker  CAS; the frame it sends afterwards only wakes the
 *
 * An end state stays until the word is posted anew: that the owner has acted on it is noted in its
 * private memory alone, and saves a store into a cache line of the worker's.
 *
 * Every CAS compares state and push number, and the frame carries the push number: a frame of an
 * earlier push of the same word finds another number and is dropped.
 *
 * Killed at any step, the worker leaves: POSTED or BOUNCED, the task never ran and is pushed
 * elsewhere uncharged; STARTED without a reply in the drained connection, the attempt is charged;
 * STARTED with a reply, done. RECALLED was the owner's already. A killed owner takes its tasks with
 * it: the worker is killed or taken back by the raylet.
 */
#ifndef RAY_NET_WINDOW_H
#define RAY_NET_WINDOW_H

#include "base/atom.h"
#include "base/status.h"

#define NET_WINDOW_VERSION   1u
#define NET_WINDOW_WORDS_MAX 16384u
#define NET_WINDOW_PUSH_MAX  ((UINT64_C(1) << 56) - 1)

enum net_window_state {
    NET_WINDOW_FREE = 0,
    NET_WINDOW_POSTED = 1,
    NET_WINDOW_STARTED = 2,
    NET_WINDOW_RECALLED = 3,
    NET_WINDOW_BOUNCED = 4
};

struct net_window_shm {
    uint32_t magic;
    uint32_t version;
    uint32_t n_words;
    uint32_t zero;
    /* Owner's stores release, every CAS is acq_rel: partner is the other side's CAS or load. */
    _Alignas(64) struct atom_u64 words[];
};

_Static_assert(offsetof(struct net_window_shm, words) == 64, "shared layout");

/* What a push frame carries beside the task. */
struct net_window_push {
    uint32_t word;   /* index */
    uint64_t number; /* 1..NET_WINDOW_PUSH_MAX, never the same twice in one window */
};

/* One word, read. */
struct net_window_entry {
    enum net_window_state state;
    uint64_t number;
};

/* The owner's side, private to its process, under its lock. Words are used from the lowest up, so
 * that a large window costs as much memory as pushes were ever in flight at once. */
struct net_window_owner {
    struct atom_u64 *words;
    uint32_t n_words;
    uint32_t n_used; /* words below it have been used */
    uint32_t n_free; /* of those */
    uint64_t last_number;
    uint64_t *numbers;    /* per word: the push that holds it; 0 none */
    uint16_t *free_words; /* stack; the word freed last is posted next */
};

/* The worker's side, private to its process. */
struct net_window_worker {
    struct atom_u64 *words;
    uint32_t n_words;
};

size_t net_window_bytes(uint32_t n_words);
/* Of the owner's private memory. */
size_t net_window_owner_bytes(uint32_t n_words);

/* Lays out a window of FREE words in `len` bytes of zeros at `memory` (64-byte aligned), before it
 * is shared. */
MUST_USE int net_window_format(void *memory, size_t len, uint32_t n_words);

/* Attach. ST_PROTOCOL if what stands there is no window. `own` is memory of zeros, the owner's as
 * long as it is used: net_window_owner_bytes. */
MUST_USE int net_window_owner_init(struct net_window_owner *owner, void *memory, size_t len,
                                   void *own);
MUST_USE int net_window_worker_init(struct net_window_worker *worker, void *memory, size_t len);

/* ---- owner ---- */

/* Takes a free word and posts it. Before the frame is published. ST_WOULD_BLOCK: none is free. */
MUST_USE int net_window_post(struct net_window_owner *owner, struct net_window_push *push);

/* Takes the task back. True: it will never run; free the word and push the task elsewhere. False:
 * it has begun or was bounced (net_window_look tells), or the push is none of this owner's. */
MUST_USE bool net_window_recall(struct net_window_owner *owner, const struct net_window_push *push);

/*
 * Where a push of this owner stands. ST_PROTOCOL if the word holds what the rules don't allow:
 * another number, RECALLED while it was never recalled, a state that is none. (The peer can
 * scribble.)
 */
MUST_USE int net_window_look(const struct net_window_owner *owner,
                             const struct net_window_push *push, enum net_window_state *state);

/* Done with the push: replied to, recalled, bounced and acted on, or its worker is dead.
 * ST_PROTOCOL if it isn't in flight: a reply that names it is false. */
MUST_USE int net_window_free(struct net_window_owner *owner, const struct net_window_push *push);

/* ---- worker ---- */

/* A push has come: its word is fetched from the owner's cache while the task is unpacked. */
static inline void
net_window_expect(const struct net_window_worker *worker, uint32_t word)
{
    if (word < worker->n_words) {
        __builtin_prefetch(&worker->words[word], 1);
    }
}

/* Whether the push may still be started. Once false it stays so: its frame is void. */
MUST_USE bool net_window_is_posted(const struct net_window_worker *worker,
                                   const struct net_window_push *push);

/* Just before the task runs. False: it was recalled, or names no word: drop the frame. */
MUST_USE bool net_window_start(struct net_window_worker *worker,
                               const struct net_window_push *push);

/* Sends the task back unrun. True: tell the owner by a frame. False: it was recalled, drop it. */
MUST_USE bool net_window_bounce(struct net_window_worker *worker,
                                const struct net_window_push *push);

/* ---- after a death ---- */

/*
 * Copies the words, each by an acquire load: after the worker was reaped and its ring and socket
 * are drained. Returns how many, at most `cap`. For the death notice, and for the owner itself.
 */
MUST_USE int net_window_snapshot(const void *memory, size_t len, struct net_window_entry *entries,
                                 uint32_t cap, uint32_t *n);

/* Had the push, still in flight, begun when its worker died? Only then is an attempt charged. A
 * word that names another push was scribbled over, and counts as begun. */
bool net_window_had_started(const struct net_window_entry *entries, uint32_t n,
                            const struct net_window_push *push);

/* ---- the lease's epoch (PROTOCOLS 3) ---- */

/*
 * Two words of the worker's control page: `epoch` in the raylet's half, `running` in the worker's.
 * Whoever changes one of them stores, fences, and reads the other, so that a task of the old lease
 * and a grant of the new one can't both believe that they came first.
 */
#define NET_WINDOW_IDLE UINT64_C(0) /* running: nothing; epochs are above 0 */

/* Worker, before net_window_start of a task pushed with `epoch`. False: the lease has
 * changed hands, bounce the push. True: run it, then net_window_run_end. */
MUST_USE bool net_window_run_begin(struct atom_u64 *running, const struct atom_u64 *epoch_word,
                                   uint64_t epoch);
/* After the reply is published. */
void net_window_run_end(struct atom_u64 *running);

/* Raylet: the next epoch is in force. Returns what the worker runs: NET_WINDOW_IDLE, re-lease;
 * else the epoch of a task that may be running: kill. */
MUST_USE uint64_t net_window_change_epoch(struct atom_u64 *epoch_word,
                                          const struct atom_u64 *running, uint64_t epoch);

#endif
