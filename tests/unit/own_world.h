/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Four processes, A to D, with an ownership machine each, whose messages a test delivers itself.
 * Shared by the programs that test src/own. Everything ends the test when it isn't as said.
 */
#ifndef RAY_TESTS_UNIT_OWN_WORLD_H
#define RAY_TESTS_UNIT_OWN_WORLD_H

#include <stdbool.h>

#include "own/own.h"

enum { PROCS = 4, MAIL_MAX = 256, NOTES_MAX = 256, SECOND = 1000000000 };
enum { A, B, C, D };

/* Counts bytes; fails the allocation number `fail_at` (from 1). */
struct meter {
    int64_t bytes;
    uint64_t calls, fail_at;
};

struct mail {
    int from, to;
    uint16_t kind;
    uint64_t payload;
    union {
        struct own_msg_register reg;
        struct own_msg_register_ack ack;
        struct own_msg_release release;
        struct own_msg_transit_done done;
        struct own_msg_get get;
        struct own_msg_value value;
        struct own_msg_free free;
        struct own_msg_transfer transfer;
    } m;
    struct own_item items[4];
};

struct proc {
    struct own own;
    struct step_outs outs;
    struct step_out room[32];
    struct arena arena;
    struct step_out notes[NOTES_MAX]; /* READY, DROP, TIMER, PROC_GONE */
    uint32_t note_count;
};

struct world {
    struct meter meter;
    struct mem mem;
    struct proc p[PROCS];
    struct mail mail[MAIL_MAX];
    uint32_t mail_count, mail_sent; /* in the queue; since the beginning */
    uint32_t capacity;              /* of outs */
    uint64_t now;
};

struct own_addr addr_of(int proc);
/* For cmocka: makes and ends a struct world; fails when memory is left. */
int setup(void **state);
int teardown(void **state);
uint32_t peer_of(struct world *w, int at, int of);
int proc_of(struct world *w, int at, uint64_t peer);
/* Room for the next call into process `at`; then flush. */
struct step_outs *outs(struct world *w, int at);
void flush(struct world *w, int at);
/* One message, timer or death into process `at`. */
int step(struct world *w, int at, uint16_t kind, int from, uint64_t payload, const void *msg);
/* The oldest message. */
void deliver_one(struct world *w);
void deliver_all(struct world *w);
void assert_mail(struct world *w, uint32_t index, uint16_t kind, int from, int to);
uint32_t notes_of(struct world *w, int at, uint16_t kind);
/* The last out of that kind that is no message. */
struct step_out last_note(struct world *w, int at, uint16_t kind);
struct id_object oid(uint32_t number);
struct own_item item_of(struct world *w, int at, const struct own_ref *ref);
/* Object `number` with value handle 1000 + number. */
struct own_ref *put(struct world *w, int at, uint32_t number, struct own_ref *const *inner,
                    uint32_t count);
/* Drops the last handle. */
void drop(struct world *w, int at, struct own_ref *ref);
bool knows(struct world *w, int at, uint32_t number);
void died(struct world *w, int at, int dead);
void tick(struct world *w, int at, uint64_t by);
/* `to` runs a task of `from` with one argument, and keeps a handle of it or doesn't. Returns what
 * it kept; `*kept` is the reply's word. The caller's side is not answered yet. */
struct own_ref *lend(struct world *w, int from, struct own_ref *arg, int to, bool keep,
                     uint64_t *kept);
void replied(struct world *w, int at, struct own_ref *arg, int executor, uint64_t kept);
/* `to` holds and is listed for an object of `from`. */
struct own_ref *borrowed(struct world *w, int from, struct own_ref *ref, int to);

#endif
