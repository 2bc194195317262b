/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the ownership machine. Transitions change counts and states and *touch* entries; own_pump
 * then settles each touched entry: it looks at what is true of it now and does what follows (tell
 * waiters, register, answer, release, free), one out at a time, for as long as there is room. So
 * nothing recurses, a step's outs are bounded, and a count that rises again in time undoes nothing.
 */
#ifndef RAY_OWN_OWN_PRIV_H
#define RAY_OWN_OWN_PRIV_H

#include "own/own.h"
#include "own/own_mutate.h"

enum { OWN_MAGIC = 0x6f776e31 };

/* own_ref.flags */
enum {
    REF_WORK = 1,             /* in the work list */
    REF_WANT = 2,             /* a GET is to be sent */
    REF_ASKED = 4,            /* a GET was sent and not answered */
    REF_PSEUDO = 8,           /* stands for an actor */
    REF_TRANSFER = 16,        /* waits for the answer to a TRANSFER */
    REF_LOSE = 32,            /* its value is to be dropped: GONE with `status` */
    REF_LOST = OWN_FLAG_LOST, /* PENDING: its value isn't there any more, nobody makes it again */
};

/* Tokens chosen by the receiver of references have this bit, those of the sender have not. */
#define OWN_TOKEN_KEPT (UINT64_C(1) << 63)

struct own_proc {
    struct map_link link; /* own.procs_by_id */
    struct own_addr addr;
    uint32_t number;
    bool dead;
    bool settled;         /* dead and its grace is over */
    uint64_t deadline_ns; /* end of the grace */
    struct list order;    /* own.grace or own.leaving */
    struct list borrowed; /* own_ref.by_owner: what it owns */
    struct list listings; /* own_borrower.by_proc: what it holds of ours */
    struct list getters;  /* own_getter.by_proc */
    struct list transits; /* own_transit.link: pinned for it */
    struct list frames;   /* own_frame.link: received from it */
};

struct own_borrower {
    struct map_link link; /* own.listings, by (ref, process) */
    struct own_ref *ref;
    struct own_proc *proc;
    uint64_t seq;
    struct own_borrower *next, **at; /* the ref's list */
    struct list by_proc;
};

struct own_getter {
    struct own_ref *ref;
    struct own_proc *proc;
    struct own_getter *next, **at; /* the ref's list */
    struct list by_proc;
};

/* Keeps `ref` held by an open frame; later, that `frame` or `outer` waits for its registration. */
struct own_cover {
    struct own_cover *next; /* of the frame, later of the ref */
    struct own_ref *ref;
    struct own_frame *frame; /* or NULL */
    struct own_ref *outer;   /* or NULL */
};

struct own_frame {
    struct list link;  /* own_proc.frames */
    struct list ready; /* own.finished */
    struct own_proc *proc;
    uint64_t token;
    uint32_t pending; /* registrations not answered */
    bool closed;
    bool orphan;    /* its sender is dead: nobody waits for TRANSIT_DONE */
    bool elsewhere; /* the reply may overtake what is sent to its sender */
    struct own_cover *covers;
};

struct own_transit {
    struct list link; /* own_proc.transits */
    uint64_t token;
    uint32_t count;
    struct own_ref *refs[];
};

/* --- own.c --- */

static inline uint32_t
own_local(const struct own_ref *ref)
{
    return __atomic_load_n(&ref->local, __ATOMIC_ACQUIRE);
}

/* Whether anything in this process refers to it, or (owned) anybody is listed. */
static inline bool
own_is_held(const struct own_ref *ref)
{
    return own_local(ref) || ref->submitted || ref->contained_in || ref->pins ||
           (ref->kind == OWN_OWNED && ref->borrowers);
}

void own_touch(struct own *own, struct own_ref *ref);
static inline void
own_unpin(struct own *own, struct own_ref *ref)
{
    ASSERT(ref->pins > 0);
    if (--ref->pins == 0) {
        own_touch(own, ref);
    }
}

/* Does whatever is due while there is room; sets outs->more when some is left. */
int own_pump(struct own *own, struct step_outs *outs);

struct own_ref *own_ref_make(struct own *own, const struct id_object *id, enum own_kind kind,
                             struct own_proc *owner);
/* The entry of an item, made BORROWED (or, late, GONE) when new. `*made` may be NULL. */
struct own_ref *own_ref_of_item(struct own *own, const struct own_item *item, bool *made);
/* Counts `inner` into the value of `ref`, instead of what its last value held. */
int own_contain(struct own *own, struct own_ref *ref, struct own_ref *const *inner, uint32_t count)
    MUST_USE;
/* The value is to be dropped and the entry to become GONE. */
void own_lose(struct own *own, struct own_ref *ref, int32_t status);
/* Asks for registration where it is still only covered. */
void own_enlist(struct own *own, struct own_ref *ref);
/* The registration was answered, cancelled or made pointless: lets go what waited for it. */
void own_uncover(struct own *own, struct own_ref *ref);

/* A message to `peer`, zeroed; NULL when there is no room or no memory. */
void *own_emit(struct step_outs *outs, uint16_t kind, uint32_t peer, size_t size);
/* A value handle that nobody wants goes back to the engine. There must be room. */
void own_discard(struct step_outs *outs, uint64_t value, uint8_t state);

/* --- own_proc.c --- */

struct own_proc *own_proc_find(const struct own *own, uint32_t number);
int own_proc_make(struct own *own, const struct own_addr *addr, struct own_proc **out) MUST_USE;
/* Forgets a dead process that nothing refers to any more, at the next pump. */
void own_proc_review(struct own *own, struct own_proc *proc);
bool own_proc_is_idle(const struct own_proc *proc);
void own_proc_forget(struct own *own, struct own_proc *proc);
void own_expire(struct own *own, uint64_t now_ns);
int own_list_borrower(struct own *own, struct own_ref *ref, struct own_proc *proc, uint64_t seq)
    MUST_USE;
struct own_borrower *own_listing(const struct own *own, const struct own_ref *ref,
                                 const struct own_proc *proc);
void own_unlist(struct own *own, struct own_borrower *b);
void own_getter_remove(struct own *own, struct own_getter *g);

/* --- own_frame.c --- */

/* Pins `refs` for `proc` until its TRANSIT_DONE(token) or the end of its grace. */
int own_transit_add(struct own *own, struct own_proc *proc, uint64_t token,
                    struct own_ref *const *refs, uint32_t count) MUST_USE;
void own_transit_drop(struct own *own, struct own_proc *proc, struct own_transit *t);
void own_frame_settle(struct own *own, struct own_frame *frame);
void own_frame_free(struct own *own, struct own_frame *frame);

#endif
