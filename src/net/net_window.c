/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Task windows; the header tells layout, moves and repair. What each step is for is told in
 * docs/protocols/windows.md, and tests/interleave/model_window.c shows it.
 */
#include "net/net_window.h"

#include "base/flt.h"

#include <inttypes.h>

#define NET_WINDOW_MAGIC 0x52596e77u /* "RYnw" */

static uint64_t
word_of(uint64_t number, enum net_window_state state)
{
    return number << 8 | (uint64_t)state;
}

size_t
net_window_bytes(uint32_t n_words)
{
    return offsetof(struct net_window_shm, words) + (size_t)n_words * sizeof(struct atom_u64);
}

int
net_window_format(void *memory, size_t len, uint32_t n_words)
{
    struct net_window_shm *shm = memory;

    if (n_words == 0 || n_words > NET_WINDOW_WORDS_MAX || net_window_bytes(n_words) > len) {
        return st_fail(ST_INVALID_ARGUMENT, "a task window of %u words in %zu bytes", n_words, len);
    }
    memset(shm, 0, sizeof *shm); /* the words are FREE: memory that nobody touches costs none */
    shm->version = NET_WINDOW_VERSION;
    shm->n_words = n_words;
    shm->magic = NET_WINDOW_MAGIC;
    return ST_OK;
}

/* Checks the header and copies out what it says, once. */
static int
attach(const struct net_window_shm *shm, size_t len, uint32_t *n_words)
{
    if (len < offsetof(struct net_window_shm, words) || shm->magic != NET_WINDOW_MAGIC) {
        return st_fail(ST_PROTOCOL, "shared memory that should hold a task window holds none");
    }
    if (shm->version != NET_WINDOW_VERSION) {
        return st_fail(ST_PROTOCOL, "a task window of version %u, this process knows %u",
                       shm->version, NET_WINDOW_VERSION);
    }
    *n_words = *(const volatile uint32_t *)&shm->n_words;
    if (*n_words == 0 || *n_words > NET_WINDOW_WORDS_MAX || net_window_bytes(*n_words) > len) {
        return st_fail(ST_PROTOCOL, "a task window that claims %u words in %zu bytes", *n_words,
                       len);
    }
    return ST_OK;
}

/* ---- owner ---- */

size_t
net_window_owner_bytes(uint32_t n_words)
{
    return n_words * (sizeof(uint64_t) + sizeof(uint16_t));
}

int
net_window_owner_init(struct net_window_owner *owner, void *memory, size_t len, void *own)
{
    struct net_window_shm *shm = memory;
    uint32_t n_words = 0;

    TRY(attach(shm, len, &n_words));
    memset(owner, 0, sizeof *owner);
    owner->words = shm->words;
    owner->n_words = n_words;
    owner->numbers = own;
    owner->free_words = (uint16_t *)(void *)(owner->numbers + n_words);
    return ST_OK;
}

/* Is the push in flight, in a word that it holds? */
static bool
holds(const struct net_window_owner *owner, const struct net_window_push *push)
{
    return push->word < owner->n_words && push->number != 0 &&
           owner->numbers[push->word] == push->number;
}

int
net_window_post(struct net_window_owner *owner, struct net_window_push *push)
{
    ASSERT(owner->last_number < NET_WINDOW_PUSH_MAX);
    if (owner->n_free > 0) {
        push->word = owner->free_words[--owner->n_free];
    } else if (owner->n_used < owner->n_words) {
        push->word = owner->n_used++;
    } else {
        return ST_WOULD_BLOCK;
    }
    if (ATOM_RULE(window_push_number)) {
        owner->last_number++;
    } else {
        owner->last_number = 1;
    }
    push->number = owner->last_number;
    owner->numbers[push->word] = push->number;
    FAULT_STEP("net.window.before_post");
    atom_u64_store(&owner->words[push->word], word_of(push->number, NET_WINDOW_POSTED),
                   ATOM_RELEASE);
    FAULT_STEP("net.window.after_post");
    return ST_OK;
}

/* One of the three moves out of POSTED; of two that race, one succeeds. */
static bool
move(struct atom_u64 *word, uint64_t number, enum net_window_state to)
{
    uint64_t expected = word_of(number, NET_WINDOW_POSTED);

    return atom_u64_cas(word, &expected, word_of(number, to));
}

bool
net_window_recall(struct net_window_owner *owner, const struct net_window_push *push)
{
    FAULT_STEP("net.window.before_recall");
    const bool ours =
        holds(owner, push) && move(&owner->words[push->word], push->number, NET_WINDOW_RECALLED);
    FAULT_STEP("net.window.after_recall");
    return ours;
}

int
net_window_look(const struct net_window_owner *owner, const struct net_window_push *push,
                enum net_window_state *state)
{
    if (!holds(owner, push)) {
        return st_fail(ST_PROTOCOL, "push %" PRIu64 " is not in flight", push->number);
    }
    const uint64_t word = atom_u64_load(&owner->words[push->word], ATOM_ACQUIRE);

    switch (word & 0xff) {
    case NET_WINDOW_POSTED:
    case NET_WINDOW_STARTED:
    case NET_WINDOW_RECALLED:
    case NET_WINDOW_BOUNCED:
        if (word >> 8 == push->number) {
            *state = (enum net_window_state)(word & 0xff);
            return ST_OK;
        }
        break;
    default:
        break;
    }
    return st_fail(ST_PROTOCOL, "task window word %u holds %#" PRIx64 " instead of push %" PRIu64,
                   push->word, word, push->number);
}

int
net_window_free(struct net_window_owner *owner, const struct net_window_push *push)
{
    if (!holds(owner, push)) {
        return st_fail(ST_PROTOCOL, "push %" PRIu64 " is not in flight", push->number);
    }
    /* It is posted next, mostly: then the worker's cache has given it back. */
    __builtin_prefetch(&owner->words[push->word], 1);
    owner->numbers[push->word] = 0;
    owner->free_words[owner->n_free++] = (uint16_t)push->word;
    return ST_OK;
}

/* ---- worker ---- */

int
net_window_worker_init(struct net_window_worker *worker, void *memory, size_t len)
{
    struct net_window_shm *shm = memory;
    uint32_t n_words = 0;

    TRY(attach(shm, len, &n_words));
    worker->words = shm->words;
    worker->n_words = n_words;
    return ST_OK;
}

bool
net_window_is_posted(const struct net_window_worker *worker, const struct net_window_push *push)
{
    return push->word < worker->n_words && push->number <= NET_WINDOW_PUSH_MAX &&
           atom_u64_load(&worker->words[push->word], ATOM_ACQUIRE) ==
               (push->number << 8 | NET_WINDOW_POSTED);
}

bool
net_window_start(struct net_window_worker *worker, const struct net_window_push *push)
{
    FAULT_STEP("net.window.before_start");
    const bool ours = push->word < worker->n_words && push->number <= NET_WINDOW_PUSH_MAX &&
                      move(&worker->words[push->word], push->number, NET_WINDOW_STARTED);
    FAULT_STEP("net.window.after_start");
    return ours;
}

bool
net_window_bounce(struct net_window_worker *worker, const struct net_window_push *push)
{
    FAULT_STEP("net.window.before_bounce");
    const bool ours = push->word < worker->n_words && push->number <= NET_WINDOW_PUSH_MAX &&
                      move(&worker->words[push->word], push->number, NET_WINDOW_BOUNCED);
    FAULT_STEP("net.window.after_bounce");
    return ours;
}

/* ---- after a death ---- */

int
net_window_snapshot(const void *memory, size_t len, struct net_window_entry *entries, uint32_t cap,
                    uint32_t *n)
{
    const struct net_window_shm *shm = memory;
    uint32_t n_words = 0;

    TRY(attach(shm, len, &n_words));
    *n = n_words < cap ? n_words : cap;
    for (uint32_t i = 0; i < *n; i++) {
        const uint64_t word = atom_u64_load(&shm->words[i], ATOM_ACQUIRE);

        /* A state that is none was scribbled by the dead worker: it counts as started. */
        entries[i].state = (word & 0xff) <= NET_WINDOW_BOUNCED
                               ? (enum net_window_state)(word & 0xff)
                               : NET_WINDOW_STARTED;
        entries[i].number = word >> 8;
    }
    return ST_OK;
}

bool
net_window_had_started(const struct net_window_entry *entries, uint32_t n,
                       const struct net_window_push *push)
{
    if (push->word >= n || entries[push->word].number != push->number) {
        return true; /* no witness that it never ran */
    }
    return entries[push->word].state == NET_WINDOW_STARTED;
}

/* ---- the lease's epoch ---- */

bool
net_window_run_begin(struct atom_u64 *running, const struct atom_u64 *epoch_word, uint64_t epoch)
{
    FAULT_STEP("net.window.before_running");
    atom_u64_store(running, epoch, ATOM_RELAXED);
    FAULT_STEP("net.window.after_running");
    if (ATOM_RULE(epoch_worker_fence)) {
        atom_fence(); /* partner: net_window_change_epoch */
    }
    if (!ATOM_RULE(epoch_reread) || atom_u64_load(epoch_word, ATOM_ACQUIRE) == epoch) {
        return true;
    }
    net_window_run_end(running);
    return false;
}

void
net_window_run_end(struct atom_u64 *running)
{
    FAULT_STEP("net.window.before_idle");
    atom_u64_store(running, NET_WINDOW_IDLE, ATOM_ORDER(epoch_idle_release, ATOM_RELEASE));
    FAULT_STEP("net.window.after_idle");
}

uint64_t
net_window_change_epoch(struct atom_u64 *epoch_word, const struct atom_u64 *running, uint64_t epoch)
{
    FAULT_STEP("net.window.before_epoch");
    atom_u64_store(epoch_word, epoch, ATOM_RELEASE);
    FAULT_STEP("net.window.after_epoch");
    if (ATOM_RULE(epoch_raylet_fence)) {
        atom_fence(); /* partner: net_window_run_begin */
    }
    return atom_u64_load(running, ATOM_ACQUIRE);
}
