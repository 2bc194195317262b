/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The object store's client side: create, write, seal, pin and read objects of this node's store.
 *
 * Runs in every worker and driver, inside libray. It does no I/O: where the raylet must be asked,
 * the functions say so and the engine sends the message and passes the answer in. Threads: create,
 * seal, abort, pin, on_grant, next_return, fork_* and close belong to one lock (the engine's);
 * storec_copy and storec_unpin may run on any thread at any time, without it.
 *
 * Addresses given out by pin are from a read-only view, so a stray write faults. Writable addresses
 * come from a second view of which only granted space is writable; they are for libray and its face
 * and must not be handed to user code, and are void after seal or abort.
 *
 * Lifetime: storec_close ends everything but reading. Page and mappings stay until the last view is
 * unpinned and the last object that was being made is aborted. In a child made by fork: call
 * storec_after_fork_child once; then unpin does nothing, the views stay readable and everything
 * else is ST_CLOSED.
 */
#ifndef RAY_STORE_STOREC_H
#define RAY_STORE_STOREC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/mem.h"
#include "store/store_layout.h"

struct storec;
struct storec_grant;

/* A helper thread for large copies: start runs fn(arg) on another thread and returns a handle
 * (NULL: it can't, and fn won't run); join waits for it. Both NULL: no second thread is used. */
struct storec_helper {
    void *(*start)(void (*fn)(void *), void *arg);
    void (*join)(void *handle);
};

struct storec_config {
    const struct mem *mem;
    int data_fd, slots_fd, ctl_fd, ctl_fixed_fd; /* as in struct store_fds; the caller's to close */
    struct storec_helper helper;
};

/* Maps the store. The descriptors may be closed afterwards. */
int storec_open(const struct storec_config *config, struct storec **out) MUST_USE;
void storec_close(struct storec **pointer);

/* The page this process shares with its raylet (lease epoch, GPUs; running, windows). */
const struct store_ctl_raylet *storec_raylet_half(const struct storec *store);
struct store_ctl_process *storec_process_half(struct storec *store);

/* ---- creating ---- */

/* An object being made; plain data, moved freely. */
struct storec_object {
    void *data; /* writable, 64-byte aligned, `size` bytes */
    uint64_t size;
    uint64_t offset;
    uint64_t generation;
    struct storec *store;       /* for abort and copy after storec_close */
    struct storec_grant *grant; /* where it lies */
    uint32_t slot;
    uint32_t seal;
    bool cold; /* see storec_prepare */
};

/*
 * An object of at most STORE_SMALL_MAX bytes, from a region held. ST_WOULD_BLOCK: no region has
 * room; ask the raylet for one, pass it to storec_on_grant and try again.
 */
int storec_create(struct storec *store, uint64_t size, struct storec_object *out) MUST_USE;

/* A larger object, in the grant that the raylet made for it. A bad grant is ST_PROTOCOL. */
int storec_create_in(struct storec *store, const struct store_grant *grant, uint64_t size,
                     struct storec_object *out) MUST_USE;

/* How many regions should be asked for now, ahead of need (those asked for already don't count
 * again: say so with storec_asked). 0 most of the time; one load. */
unsigned storec_regions_wanted(const struct storec *store);
/* n regions were asked for; negative: so many requests ended without one. */
void storec_asked(struct storec *store, int n);
/* A region from the raylet (an answer to one that was asked for). */
int storec_on_grant(struct storec *store, const struct store_grant *grant) MUST_USE;

/*
 * Declares the object complete. From here on nobody writes it, and the hint may be sent to anyone.
 * Never fails for an object that create gave.
 */
void storec_seal(struct storec *store, struct storec_object *object, const struct id_object *id,
                 uint32_t attempt, const struct id_worker *owner, struct store_hint *hint);

/* Gives the object up unsealed; the one call that is right after storec_close, with object->store.
 */
void storec_abort(struct storec *store, struct storec_object *object);

/* The next grant to tell the raylet back (message: its offset), true while there is one. Look after
 * every create, seal and abort; one load when there is none. */
bool storec_next_return(struct storec *store, uint64_t *offset);

/* Queues the return of every region in which nothing is being made: the raylet is short of memory,
 * or this process goes idle. `keep_current` leaves the region in use. */
void storec_give_back(struct storec *store, bool keep_current);

/* Gives a large object in cold memory its pages at once, huge ones where the kernel agrees: half
 * the time of first touch. For whoever writes it, before; without the lock. Nothing to do
 * otherwise. */
void storec_prepare(struct storec_object *object);

/* Copies into a created object: memcpy or non-temporal stores by size, a second thread from 32 MiB.
 */
void storec_copy(struct storec *store, void *to, const void *from, uint64_t size);

/* ---- reading ---- */

/* A pinned object. `data` stays valid and constant until unpin. */
struct storec_view {
    const void *data;
    uint64_t size;
    struct storec *store;
    uint32_t pin; /* entry, + 1; 0: not pinned */
};

/*
 * Pins what a hint names. ST_OK; ST_OBJECT_FREED: that life of the slot is over (or the hint is
 * another store's); ST_WOULD_BLOCK: being freed, ask the raylet (store_check) before
 * giving up; ST_PROTOCOL: the hint lies outside its grant; ST_LIMIT: too many pins.
 */
int storec_pin(struct storec *store, const struct store_hint *hint, struct storec_view *view)
    MUST_USE;
/* Whether what a hint names was there just now; nothing keeps it there. */
bool storec_is_there(const struct storec *store, const struct store_hint *hint);
/* Ends the view, and the store if it was closed and this was its last. From any thread, no lock. */
void storec_unpin(struct storec_view *view);
uint64_t storec_pins_held(const struct storec *store);

/* ---- forks in user code ---- */

/* Before fork, in the parent: pins again everything pinned now, for the child. ST_LIMIT when there
 * are not enough entries (the child's views may then vanish). `*token` names the pins. */
int storec_fork_hold(struct storec *store, uint32_t *token) MUST_USE;
/* The child has executed another program or is gone (told by a close-on-exec pipe's end). */
void storec_fork_release(struct storec *store, uint32_t token);
void storec_after_fork_child(struct storec *store);

/* ---- status words, for observability ---- */

/* Shows what runs. `name_key` is any number that belongs to this name alone (0: always copy), so
 * that the text is copied only when its place held another. */
void storec_status_begin(struct storec *store, const struct id_task *task, uint32_t attempt,
                         uint32_t flags, uint64_t start_ns, uint64_t name_key, const char *name);
void storec_status_flags(struct storec *store, uint32_t set, uint32_t clear);
void storec_status_end(struct storec *store);

#endif
