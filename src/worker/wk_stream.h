/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Generators: how the items of one streaming task go from the process that makes them to the one
 * that owns and reads them. Two state machines, both pure: `struct wk_stream` at the owner, one a
 * streaming task from its submission until reader and task are through; `struct wk_yield` where an
 * attempt of the task runs. docs/protocols/generators.md tells the protocol and its invariants.
 *
 * They hold no values and send nothing: the engine (or the simulator) carries out what they say,
 * either through the typed transitions or through wk_stream_step and wk_yield_step, which dispatch
 * to them. Neither allocates, and nothing here fails.
 *
 *   producer: wk_yield_item -> SEND it, SKIP it, or STOP; then resume the program only once
 *             wk_yield_has_room
 *   owner:    wk_stream_item says what becomes of an item that came; wk_stream_read what a reader
 *             gets; after each transition wk_stream_tell says whether the producer is told
 * something
 */
#ifndef RAY_WORKER_WK_STREAM_H
#define RAY_WORKER_WK_STREAM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/step.h"

enum {
    WK_STREAM_ITEMS_MAX = 100000000, /* of one task: as many object ids are set aside for it */
    WK_STREAM_FIRST_INDEX = 2,       /* of item 0's object id; 1 is the task's own return */
};
/* A reader that takes few items tells of them after so long, if the producer may wait. */
#define WK_STREAM_TELL_NS UINT64_C(1000000)

/* Rules that the simulator switches off one by one, to show that each is needed. */
enum wk_stream_rule {
    WK_STREAM_RULE_KNOWN = 1 << 0,   /* a new attempt is told which items are there */
    WK_STREAM_RULE_STALE = 1 << 1,   /* items of an attempt that is over are nothing */
    WK_STREAM_RULE_FAILURE = 1 << 2, /* a failure is the last item */
    WK_STREAM_RULE_UNREAD = 1 << 3,  /* what comes for a reader that is gone is freed */
    WK_STREAM_RULE_PUSHED = 1 << 4,  /* a new attempt knows nothing of what was read before it */
    WK_STREAM_RULE_TIMER = 1 << 5,   /* few items read are told of in the end */
    WK_STREAM_RULE_STOP = 1 << 6,    /* a producer whose reader is gone is stopped */
    WK_STREAM_RULE_WAKE = 1 << 7,    /* who waits for an item is told of the end, too */
    WK_STREAM_RULE_ROOM = 1 << 8,    /* a producer without room doesn't go on */
    WK_STREAM_RULE_MUTE = 1 << 9,    /* with nobody to read, but to see the end, it needs no room */
    WK_STREAM_RULES = 10,
};

/* ---- the owner's side ---- */

struct wk_stream {
    uint32_t magic;
    uint32_t rules_off; /* enum wk_stream_rule; 0 but in the simulator */
    uint32_t limit;     /* back-pressure: at most so many items unread; 0: none */
    uint32_t attempt;   /* that was pushed last */
    uint32_t received; /* items 0 to received - 1 have come; with `failed`, the last is a failure */
    uint32_t read;     /* of these, the reader has taken so many, or they went with it */
    uint32_t told;     /* of `read`, this attempt's producer knows */
    bool pushed;       /* an attempt is under way */
    bool over;         /* the task was answered: nothing more comes */
    bool failed;       /* over, and it failed */
    bool dropped;      /* nobody can read any more */
    bool awaited;      /* dropped, but somebody wants to know when the task has ended */
    bool ended_told;   /* dropped, and this attempt's producer knows */
    bool waited;       /* somebody waits for item `received`, or the end */
    uint64_t timer_ns; /* the tell that waits, 0: none */
};

/* What the producer is told. */
struct wk_stream_told {
    uint32_t attempt;
    uint32_t read;  /* so many items were read, of any attempt */
    uint32_t flags; /* enum wk_stream_told_flags */
};
enum wk_stream_told_flags {
    WK_STREAM_STOP = 1, /* nobody reads any more: end at the next item */
    WK_STREAM_MUTE = 2, /* nobody reads, but the end is awaited: go on, and send nothing */
};

void wk_stream_init(struct wk_stream *s, uint32_t limit);

/* An attempt is sent to a worker. Gives how many items are known: it need not make them again. */
uint32_t wk_stream_push(struct wk_stream *s, uint32_t attempt);

enum wk_stream_fate {
    WK_STREAM_KEEP,   /* it is the next item */
    WK_STREAM_UNREAD, /* nobody will read it: its value is freed */
    WK_STREAM_STALE,  /* of an attempt that is over: nothing that is this one's to free */
    WK_STREAM_WRONG,  /* no producer sends that */
};
enum wk_stream_fate wk_stream_item(struct wk_stream *s, uint32_t attempt, uint32_t index);

/* The attempt that was pushed is over, and another may follow. */
void wk_stream_attempt_over(struct wk_stream *s);
/* The task is answered for good. True: the failure is to be made the item of that index. */
bool wk_stream_end(struct wk_stream *s, bool failed, uint32_t *index);

enum wk_stream_turn {
    WK_STREAM_ITEM,    /* the reader gets the first unread item */
    WK_STREAM_NOTHING, /* it is still to come */
    WK_STREAM_OVER,    /* all are read */
};
/* Without taking anything. */
enum wk_stream_turn wk_stream_look(const struct wk_stream *s);
enum wk_stream_turn wk_stream_read(struct wk_stream *s);
/* Somebody waits for what comes next; only when wk_stream_look says NOTHING. */
void wk_stream_wait(struct wk_stream *s);
/* Whether who waits is to be woken, since the last time it was asked. */
bool wk_stream_wakes(struct wk_stream *s);

/* The reader goes. `awaited`: others want to know when the task has ended. Gives the number of
 * items that are unread: they are freed. */
uint32_t wk_stream_drop(struct wk_stream *s, bool awaited);

/* Whether the producer is to be told something now, and what; if not, *when_ns is the time at which
 * to ask again, unless 0. */
bool wk_stream_tell(struct wk_stream *s, uint64_t now_ns, struct wk_stream_told *told,
                    uint64_t *when_ns);

/* The same as messages. Kinds of ins: */
enum wk_stream_in_kind {
    WK_STREAM_IN_PUSH = 1, /* msg: uint32_t attempt; out: KNOWN */
    WK_STREAM_IN_ITEM = 2, /* msg: struct wk_stream_item_msg, payload: the value's handle */
    WK_STREAM_IN_ATTEMPT_OVER = 3,
    WK_STREAM_IN_END = 4,   /* msg: bool failed */
    WK_STREAM_IN_READ = 5,  /* out: GIVE, or OVER, or none: then the reader waits */
    WK_STREAM_IN_DROP = 6,  /* msg: bool awaited */
    WK_STREAM_IN_TIMER = 7, /* the time of TIMER has come */
};
enum wk_stream_out_kind {
    WK_STREAM_OUT_KNOWN = 1,  /* msg: uint32_t, for the push */
    WK_STREAM_OUT_KEEP = 2,   /* payload becomes item `peer` */
    WK_STREAM_OUT_FREE = 3,   /* payload is nobody's */
    WK_STREAM_OUT_GIVE = 4,   /* item `peer` is the reader's */
    WK_STREAM_OUT_OVER = 5,   /* the reader is told of the end */
    WK_STREAM_OUT_WAKE = 6,   /* who waited looks again */
    WK_STREAM_OUT_FAILED = 7, /* the failure becomes item `peer` */
    WK_STREAM_OUT_UNREAD = 8, /* the last `peer` items are freed */
    WK_STREAM_OUT_TELL = 9,   /* msg: struct wk_stream_told, to the producer */
    WK_STREAM_OUT_TIMER = 10, /* when_ns */
    WK_STREAM_OUT_WRONG = 11, /* the producer sent nonsense; payload is nobody's */
    WK_STREAM_OUTS_MIN = 4,
};
struct wk_stream_item_msg {
    uint32_t attempt, index;
};
int wk_stream_step(struct wk_stream *s, const struct step_in *in, struct step_outs *outs) MUST_USE;

/* ---- the producer's side ---- */

struct wk_yield {
    uint32_t rules_off;
    uint32_t limit; /* as the owner's */
    uint32_t known; /* items that the owner has from earlier attempts */
    uint32_t made;  /* by this attempt */
    uint32_t read;  /* as told */
    bool stopped, mute;
};

void wk_yield_init(struct wk_yield *y, uint32_t limit, uint32_t known);

enum wk_yield_turn {
    WK_YIELD_SEND, /* to the owner, as item *index */
    WK_YIELD_SKIP, /* the owner has it, or nobody wants it */
    WK_YIELD_STOP, /* nobody reads any more: the program is to end */
    WK_YIELD_FULL, /* it has made as many as there can be */
};
enum wk_yield_turn wk_yield_item(struct wk_yield *y, uint32_t *index);
/* Whether the program may go on to make another. */
bool wk_yield_has_room(const struct wk_yield *y);
void wk_yield_told(struct wk_yield *y, uint32_t read, uint32_t flags);

enum wk_yield_in_kind {
    WK_YIELD_IN_ITEM = 1, /* the program has made one; payload: its value's handle */
    WK_YIELD_IN_TOLD = 2, /* msg: struct wk_stream_told */
};
enum wk_yield_out_kind {
    WK_YIELD_OUT_SEND = 1, /* payload, as item `peer` */
    WK_YIELD_OUT_FREE = 2, /* payload is nobody's */
    WK_YIELD_OUT_STOP = 3, /* the program is to end */
    WK_YIELD_OUT_GO = 4,   /* it may go on */
};
int wk_yield_step(struct wk_yield *y, const struct step_in *in, struct step_outs *outs) MUST_USE;

#endif
