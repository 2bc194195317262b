/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ownership: which objects this process owns or borrows, who refers to them, and when they go.
 *
 * One `struct own` a process (driver or worker). It is pure: no call, no lock, no clock, no payload
 * bytes; the core worker calls it under its engine lock and carries out what it gives back
 * (`struct step_outs`: messages to peers, values to drop, waiters to wake, a timer to arm). The
 * only field that others may touch without the lock is own_ref.local, through own_local_add and
 * own_local_try_drop. docs/protocols/ownership.md tells the protocol and its invariants.
 *
 * Rules for the caller
 *   - Every function that takes `outs` needs room for OWN_OUTS_MIN of them. When `outs->more` is
 * set after a call, carry out what is there and call own_step with STEP_CONTINUE, until it isn't.
 *     All outs of own_frame_close must be on their way to the peers before the frame's reply is
 *     published, and the reply before anything else is passed in; a connection delivers in order.
 *   - A function that allocates returns NULL or ST_OUT_OF_MEMORY and has then changed nothing but
 *     possibly counts that the same call, repeated, settles; it may be repeated.
 *   - A `struct own_ref *` stays valid for as long as the caller holds one of its counts.
 *   - Frames of a process whose death was told (own_died) are not passed in any more.
 *
 * Processes are numbered by the machine: own_proc gives the number of a worker id, OWN_SELF is this
 * process. `peer` of ins and outs is such a number.
 */
#ifndef RAY_OWN_OWN_H
#define RAY_OWN_OWN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/id.h"
#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/pages.h"
#include "base/status.h"
#include "base/step.h"
#include "own/own_msg.h"

enum {
    OWN_SELF = 0,       /* number of this process */
    OWN_OUTS_MIN = 8,   /* room for outs that every call needs */
    OWN_FLAG_LOST = 64, /* own_ref.flags, the others are private: see own_is_lost */
};

/* In-kinds of own_step beside STEP_CONTINUE and the messages of own_msg.h. */
enum own_in_kind {
    OWN_IN_TIMER = 32, /* the time asked for by OWN_OUT_TIMER has come */
    OWN_IN_DIED = 33,  /* process `peer` is dead and all that it had sent was passed in */
};

/* Out-kinds beside the messages of own_msg.h (`peer`: to whom; `payload`: the value's handle). */
enum own_out_kind {
    /* `msg` is the struct own_ref, its state no longer PENDING; `payload` is what was in its
     * `waiters`, which is 0 now. Told once each time that `waiters` was set. */
    OWN_OUT_READY = 64,
    /* Nothing refers to `payload` (value handle) and `peer` (lineage handle) any more: release
     * both, where not 0. `when_ns` is the enum own_state that the value had, with OWN_DROP_* bits.
     */
    OWN_OUT_DROP = 65,
    /* Call own_step with OWN_IN_TIMER at `when_ns`. Replaces the timer asked for before. */
    OWN_OUT_TIMER = 66,
    /* Nothing here refers to dead process `peer` any more: its number means nothing from now on. */
    OWN_OUT_PROC_GONE = 67,
    /* `msg` is a struct own_ref whose value was lost and is wanted: it is to be made again, from
     * `payload`, its lineage. It ends in own_return_done, also when it can't be made. */
    OWN_OUT_REMAKE = 68,
};

/* Bits in `when_ns` of OWN_OUT_DROP beside the state. */
enum {
    OWN_DROP_STATE_MASK = 0xff,
    OWN_DROP_OWNED = 0x100,  /* the value ends here; else only this process's copy does */
    OWN_DROP_PSEUDO = 0x200, /* it was an actor's: its last handle is gone */
};

enum own_state {
    OWN_PENDING = 0, /* no value yet, here */
    OWN_INLINE = 1,  /* `value` is bytes in this process */
    OWN_STORE = 2,   /* `value` is a hint record of the object store */
    OWN_ERROR = 3,   /* `value` is an error record */
    OWN_GONE = 4,    /* no value any more; `status` says why */
};

enum own_kind {
    OWN_OWNED = 0,
    OWN_BORROWED = 1,
};

/* How far a borrowed reference is registered with its owner. */
enum own_reg {
    OWN_REG_NONE = 0,   /* covered by somebody else's pin */
    OWN_REG_QUEUED = 1, /* to be sent */
    OWN_REG_SENT = 2,   /* not answered yet */
    OWN_REG_LISTED = 3, /* acknowledged */
    OWN_REG_GONE = 4,   /* the owner is dead or has answered that it is gone */
};

struct own_borrower; /* private: a listed holder of an owned object */
struct own_getter;   /* private: a peer that waits for an owned object's value */
struct own_cover;    /* private: what keeps a reference alive until it is registered */
struct own_proc;     /* private */

struct own_contained {
    uint32_t count;
    struct own_ref *v[];
};

/* One object id known to this process, 160 bytes; the counts say who in this process refers to it.
 */
struct own_ref {
    struct map_link link; /* own.refs */
    struct id_object id;
    uint8_t kind;       /* enum own_kind */
    uint8_t state;      /* enum own_state */
    uint8_t reg;        /* enum own_reg, BORROWED only */
    uint8_t flags;      /* private */
    uint64_t value;     /* the engine's handle, 0 none; given back by OWN_OUT_DROP */
    uint64_t lineage;   /* the engine's handle, 0 none; given back by OWN_OUT_DROP */
    uint64_t task;      /* the engine's: the open task whose return it is; 0 none */
    uint64_t waiters;   /* the engine's: head of its waiter list, who each hold a handle; 0 none */
    uint32_t local;     /* handles held by the program; atomic, see own_local_* */
    uint32_t submitted; /* arguments of tasks not answered yet */
    uint32_t contained_in; /* objects owned here whose value holds this reference */
    uint32_t pins;  /* transit pins, open frames, captures, covers, a running task's returns */
    uint32_t owner; /* process number, OWN_SELF when OWNED */
    int32_t status; /* why it is GONE; with a value in the store: why it has no lineage, or 0 */
    union {
        uint64_t seq; /* of the registration last sent, BORROWED only */
        uint32_t
            remakes; /* OWNED: lineages that need it as an argument; they keep the entry alone */
    };
    union {
        struct own_borrower *borrowers; /* OWNED */
        struct own_cover *covers;       /* BORROWED: let go when the registration is answered */
    };
    struct own_getter *getters;      /* OWNED */
    struct own_contained *contained; /* OWNED: references inside its value */
    struct own_ref *work_next;       /* private: work list */
    struct list by_owner;            /* BORROWED: the owner's list of references borrowed from it */
};

_Static_assert(sizeof(struct own_ref) <= 160, "a million pending references stay below 200 MB");

/* A bundle of references that came in one message under its sender's pin (a task's arguments, a
 * reply's returns). Opaque. */
struct own_frame;

struct own_config {
    uint64_t grace_ns; /* how long a dead process's entries stay; 0 takes one second */
};

struct own_stats {
    uint64_t owned, borrowed;           /* entries */
    uint64_t lent;                      /* owned entries with listed borrowers */
    uint64_t transits, frames;          /* bundles pinned for others, received from others */
    uint64_t registers, releases;       /* messages sent */
    uint64_t late_registers, late_gets; /* answered GONE */
};

struct own {
    uint32_t magic;
    uint32_t mutations; /* simulator only: rules switched off, see own_mutate.h */
    const struct mem *mem;
    struct own_addr self;
    uint64_t grace_ns;
    struct map refs;
    struct slab ref_slab;
    struct own_ref *work_first, *work_last;
    struct slab cover_slab, borrower_slab, getter_slab, frame_slab;
    struct map listings;
    struct map procs_by_id;
    struct pages procs;   /* own_proc by number; numbers are not used again */
    uint32_t proc_count;  /* numbers given so far, OWN_SELF among them */
    struct list grace;    /* dead processes whose entries stay, by time of death */
    struct list leaving;  /* dead processes that nothing refers to */
    struct list finished; /* frames whose TRANSIT_DONE is to be sent */
    uint64_t timer_ns;    /* armed for, 0 none */
    uint64_t seq;         /* last used by this process */
    uint64_t token;       /* last used by this process */
    struct own_stats stats;
};

/* --- life --------------------------------------------------------------------------------- */

void own_init(struct own *own, const struct mem *mem, const struct own_addr *self,
              const struct own_config *config);
/* Frees everything, telling nobody. Values and lineage still held are the caller's to find first
 * (own_walk). */
void own_fini(struct own *own);

/* Any message (`in->msg` is its struct of own_msg.h), death, timer or STEP_CONTINUE. Returns ST_OK,
 * ST_OUT_OF_MEMORY (nothing changed, the same step may be repeated) or ST_PROTOCOL (the peer sent
 * nonsense; nothing changed). The payload of a message that failed stays the caller's. */
int own_step(struct own *own, const struct step_in *in, struct step_outs *outs) MUST_USE;

/* --- processes ---------------------------------------------------------------------------- */

/* The number of the process at `addr`, made when new; OWN_SELF for this one. A number stays as long
 * as the process lives or anything here refers to it; OWN_OUT_PROC_GONE ends it. */
int own_proc(struct own *own, const struct own_addr *addr, uint32_t *out) MUST_USE;
/* Where process `number` is found; valid while the number is. */
const struct own_addr *own_proc_addr(const struct own *own, uint32_t number);
bool own_proc_is_dead(const struct own *own, uint32_t number);

/* --- references held by the program --------------------------------------------------------- */

/* NULL when this process knows no such object. Counts nothing. */
struct own_ref *own_find(const struct own *own, const struct id_object *id);

/* One more handle, where the caller already holds one (or the lock and a fresh ref). Lock-free. */
static inline void
own_local_add(struct own_ref *ref)
{
    (void)__atomic_fetch_add(&ref->local, 1, __ATOMIC_RELAXED);
}

/* Drops a handle without the lock unless it is the last one. False: nothing was dropped, and the
 * caller passes `ref` to own_local_drop under the lock (through its release list). Because the last
 * handle goes only under the lock, `ref` can't be freed between the two. */
static inline bool
own_local_try_drop(struct own_ref *ref)
{
    uint32_t n = __atomic_load_n(&ref->local, __ATOMIC_RELAXED);
    while (n > 1) {
        if (__atomic_compare_exchange_n(&ref->local, &n, n - 1, true, __ATOMIC_RELEASE,
                                        __ATOMIC_RELAXED)) {
            return true;
        }
    }
    return false;
}

/* Drops one handle; frees or releases the object when nothing refers to it any more. */
void own_local_drop(struct own *own, struct own_ref *ref, struct step_outs *outs);

/* The reference in a form that can be sent. */
void own_item_of(const struct own *own, const struct own_ref *ref, struct own_item *out);

/* --- making objects ------------------------------------------------------------------------- */

/* A return value of a task that is about to be submitted: OWNED, PENDING, one local handle, and one
 * pin of the running task that own_return_done gives up. NULL: out of memory. The id must be new.
 */
struct own_ref *own_return_create(struct own *own, const struct id_object *id, uint64_t lineage);

/* A put, or the pseudo-object of an actor (`pseudo`): OWNED with its value, one local handle.
 * `inner` are the references inside the value. NULL: out of memory. */
struct own_ref *own_put(struct own *own, const struct id_object *id, enum own_state state,
                        uint64_t value, bool pseudo, struct own_ref *const *inner, uint32_t count);

/* put(_owner=): the value goes to process `owner` by TRANSFER with `value` as payload handle; the
 * reference is BORROWED, PENDING, with one local handle. The caller hands the reference on only
 * when own_is_listed says so, waiting as for a value (`waiters`). */
int own_put_for(struct own *own, const struct id_object *id, uint32_t owner, enum own_state state,
                uint64_t value, struct own_ref *const *inner, uint32_t count, struct own_ref **out,
                struct step_outs *outs) MUST_USE;
static inline bool
own_is_listed(const struct own_ref *ref)
{
    return ref->kind == OWN_OWNED || ref->reg == OWN_REG_LISTED;
}

/* --- submitting tasks: the caller's side ------------------------------------------------------ */

/* Holds the arguments (top-level and nested references alike) until the task is answered. */
static inline void
own_task_submitted(struct own_ref *const *args, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        args[i]->submitted++;
    }
}

/* The task is answered by process `executor`, in whatever way, current attempt or stale. `kept` is
 * from the reply (own_frame_close of the executor): 0, or the token that its TRANSIT_DONE will
 * name. Gives up the arguments, or turns them into a transit pin. Returns are told by
 * own_return_done, before or after. */
int own_task_replied(struct own *own, struct own_ref *const *args, uint32_t count,
                     uint32_t executor, uint64_t kept, struct step_outs *outs) MUST_USE;

/* An attempt ended without an answer. `executor`: the dead process that may have begun to run it
 * and so may have lent the arguments on (they stay pinned for its grace, so it must be dead or
 * about to be told so), OWN_SELF when none did. `last`: no other attempt follows, the arguments are
 * given up. An attempt that was answered and is to be repeated is no failure: own_task_submitted
 * once more, then own_task_replied with what that reply kept. */
int own_task_failed(struct own *own, struct own_ref *const *args, uint32_t count, uint32_t executor,
                    bool last, struct step_outs *outs) MUST_USE;

/* A return value has come (state INLINE, STORE or ERROR with `value`; `inner` are the references
 * inside it, added to the reply's frame) or never will (state GONE, `status`). Gives up the pin of
 * own_return_create. The value is dropped at once when nobody wants it. */
int own_return_done(struct own *own, struct own_ref *ref, enum own_state state, uint64_t value,
                    int32_t status, struct own_ref *const *inner, uint32_t count,
                    struct step_outs *outs) MUST_USE;

/* --- lineage: how a value in the store can be made again -----------------------------------------
 *
 * A lineage is the engine's record of a finished task. Whoever owns its returns hangs it on those
 * that are in the store, and counts it on the arguments, which have to be owned here as well. An
 * argument that only lineages need gives up its value, but for a small one, and stays as an entry:
 * it can be made again itself if it has a lineage.
 */

/* `lineage` comes back by OWN_OUT_DROP, once for each reference. The value isn't here yet. */
static inline void
own_set_lineage(struct own_ref *ref, uint64_t lineage)
{
    ref->lineage = lineage;
}
/* A lineage needs these arguments, all OWNED; or does no longer. */
static inline void
own_lineage_hold(struct own_ref *const *args, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        args[i]->remakes++;
    }
}
void own_lineage_drop(struct own *own, struct own_ref *const *args, uint32_t count,
                      struct step_outs *outs);
/* The engine gives its lineage up (too much memory): `status` is what losing the value means now.
 */
void own_forget_lineage(struct own *own, struct own_ref *ref, int32_t status,
                        struct step_outs *outs);
/* The value of an owned object is no longer in the store. It is made again when somebody wants it,
 * or, without lineage, is GONE. Nothing to do for other states. */
void own_value_lost(struct own *own, struct own_ref *ref, struct step_outs *outs);

/* --- receiving references ----------------------------------------------------------------------
 */

/* Opens a frame for references that came from process `from`: arguments of a task that is to run
 * here (token 0), or those inside a reply's return values (`token` of the reply). NULL: out of
 * memory. No frame is needed where there are no references. */
struct own_frame *own_frame_open(struct own *own, uint32_t from, uint64_t token);

/* Adds a reference to the frame: found or made, held by the frame. NULL: out of memory. */
struct own_ref *own_frame_add(struct own *own, struct own_frame *frame,
                              const struct own_item *item);

/* Registers a borrowed reference at once, although a frame covers it. The executor must do so for
 * the references inside an argument's resolved value when the caller isn't the owner of that
 * object: the frame's cover for them would end with that owner. */
void own_register(struct own *own, struct own_ref *ref, struct step_outs *outs);

/* The program deserialised a reference: found or made, with one more local handle. What covers it
 * until it is registered: `frame`, when it stood in a task's arguments themselves (and so was added
 * to the frame; registered only if it outlives that); `outer`, when it stood inside the value of
 * that object (registered at once; `outer` is kept until that is answered), whether or not a frame
 * is given too; or neither, when its exporter captured it (registered at once). NULL: out of
 * memory. */
struct own_ref *own_borrow(struct own *own, struct own_frame *frame, struct own_ref *outer,
                           const struct own_item *item, struct step_outs *outs);

/* The reply to this frame's task does not travel on the connection to its sender (an actor's
 * creation, told through ray-gcs): own_frame_close then waits for the sender's own references too.
 */
void own_frame_reply_elsewhere(struct own_frame *frame);

/* The task is over (flush the release list first). `*kept` is for the reply: 0 in the common case,
 * that nothing it was lent is kept that the caller itself doesn't own. Consumes the frame. */
void own_frame_close(struct own *own, struct own_frame *frame, uint64_t *kept,
                     struct step_outs *outs);
/* The reply's returns are all taken over. Consumes the frame. */
void own_frame_close_reply(struct own *own, struct own_frame *frame, struct step_outs *outs);

/* The message can't be handled after all (out of memory): as if it had not come. It may be handled
 * again; a task's is answered with an error and `kept` 0. Consumes the frame. */
void own_frame_abandon(struct own *own, struct own_frame *frame, struct step_outs *outs);

/* The executor's side of returns: pins the references inside the values of a reply for `caller`,
 * until it says TRANSIT_DONE. `*token` goes into the reply. `count` > 0. */
int own_reply_pin(struct own *own, uint32_t caller, struct own_ref *const *inner, uint32_t count,
                  uint64_t *token) MUST_USE;

/* --- values ------------------------------------------------------------------------------------
 */

/* PENDING since its value was lost, and nobody makes it again yet: own_want does. */
static inline bool
own_is_lost(const struct own_ref *ref)
{
    return (ref->flags & OWN_FLAG_LOST) != 0;
}
/* Asks a borrowed object's owner for its value, once, or has a lost value made again; nothing to do
 * for other states and kinds. Set `waiters` to be told (OWN_OUT_READY), unless the state is no
 * longer PENDING after the call. */
void own_want(struct own *own, struct own_ref *ref, struct step_outs *outs);
/* Forgets a borrowed object's cached value (its hint went stale), so that own_want asks again. The
 * value handle is the caller's. */
void own_forget_value(struct own_ref *ref);
/* ray's explicit free: drops the value now, here or at its owner. The references stay, GONE. */
int own_free(struct own *own, struct own_ref *ref, struct step_outs *outs) MUST_USE;
/* An owned object's value is lost for good, whatever its lineage: GONE. */
void own_lost(struct own *own, struct own_ref *ref, int32_t status, struct step_outs *outs);

/* Pinned by its exporter (captured in a definition, or by ray.cloudpickle) until the job ends. */
static inline void
own_capture(struct own_ref *ref)
{
    ref->pins++;
}
void own_capture_drop(struct own *own, struct own_ref *ref, struct step_outs *outs);

/* --- deaths and questions ------------------------------------------------------------------------
 */

/* Process `number` is dead. The same as OWN_IN_DIED. */
void own_died(struct own *own, uint32_t number, uint64_t now_ns, struct step_outs *outs);

/* Whether something owned here is referred to from elsewhere, or something is pinned here for
 * others: then the worker that would be stopped is DRAINING. */
bool own_is_needed(const struct own *own);

/* Every entry, for state queries and for own_fini: `fn` must not change the table. */
void own_walk(const struct own *own, void (*fn)(void *ctx, const struct own_ref *ref), void *ctx);
/* Processes listed as holders of an owned object; returns how many there are, writes up to `max`.
 */
uint32_t own_holders(const struct own_ref *ref, uint32_t *procs, uint32_t max);

#endif
