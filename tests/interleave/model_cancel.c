/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Models of cancelling a task that runs: the interrupt that names one task against the end of that
 * task, and against its wait in the engine. The words and functions are net_window's and
 * wk_interrupt.h's own; the engine's lock, the signal and the interpreter are reduced to a word
 * each: `pending`, a signal sent to the main thread; `tripped`, what its handler leaves for the
 * interpreter, which looks at it when it likes.
 *
 * The leader stands for the owner, too: what the owner sends it in order is here done in order.
 */
#include "ilv.h"

#include "net/net_window.h"
#include "worker/wk_interrupt.h"

enum { LEADER, MAIN };

#define TASKS 2u

struct cancel_state {
    _Alignas(64) unsigned char memory[64 + 8 * TASKS];
    struct net_window_owner owner;
    uint64_t own[2 * TASKS];
    struct net_window_worker worker;
    struct net_window_push push[TASKS];
    struct atom_u32 tail;        /* pushes published */
    struct atom_u32 lock;        /* the engine's */
    struct atom_u32 current;     /* the running task + 1, 0 none; under the lock */
    struct wk_interrupt record;  /* of the running task: the next one's lies where this one's did */
    struct wk_interrupt process; /* what there would be instead, without interrupt_in_record */
    struct atom_u32 pending;
    struct atom_u32 sleeping, nudged, break_wait; /* cancel-wait */
    bool tripped, interruptible, recalled, endless;
    unsigned running; /* the main thread's own idea of `current` */
    unsigned interrupted[TASKS], broken_calls[TASKS], own_code_hit;
};

static void
setup(void *state)
{
    struct cancel_state *s = state;

    ilv_expect(net_window_format(s->memory, sizeof s->memory, TASKS) == ST_OK, "format");
    ilv_expect(net_window_owner_init(&s->owner, s->memory, sizeof s->memory, s->own) == ST_OK,
               "owner");
    ilv_expect(net_window_worker_init(&s->worker, s->memory, sizeof s->memory) == ST_OK, "worker");
    ilv_name(s->owner.words, 8 * TASKS, "window");
    ilv_name(&s->tail, 4, "tail");
    ilv_name(&s->lock, 4, "lock");
    ilv_name(&s->current, 4, "current");
    ilv_name(&s->record, sizeof s->record, "record");
    ilv_name(&s->process, sizeof s->process, "process");
    ilv_name(&s->pending, 4, "pending");
    ilv_name(&s->sleeping, 4, "sleeping");
    ilv_name(&s->nudged, 4, "nudged");
    ilv_name(&s->break_wait, 4, "break wait");
}

static bool
is_unlocked(const void *state)
{
    const struct cancel_state *s = state;

    return s->lock.raw == 0;
}

static void
lock(struct cancel_state *s)
{
    for (;;) {
        uint32_t free_word = 0;

        ilv_block(is_unlocked, "the lock");
        if (atom_u32_cas(&s->lock, &free_word, 1)) {
            return;
        }
    }
}

static void
unlock(struct cancel_state *s)
{
    atom_u32_store(&s->lock, 0, ATOM_RELEASE);
}

static struct wk_interrupt *
mark_of(struct cancel_state *s)
{
    return ilv_rule("interrupt_in_record") ? &s->record : &s->process;
}

/* ---- the leader ---- */

static void
name_task(struct cancel_state *s, unsigned task)
{
    const bool locked = ilv_rule("interrupt_locked");

    if (locked) {
        lock(s);
    }
    const uint32_t current = atom_u32_load(&s->current, ATOM_RELAXED);
    if (current > 0 && wk_interrupt_names(&s->push[task], &s->push[current - 1])) {
        wk_interrupt_ask(mark_of(s));
        atom_u32_store(&s->pending, 1, ATOM_RELEASE);
    }
    if (locked) {
        unlock(s);
    }
}

static void
lead(void *state)
{
    struct cancel_state *s = state;

    for (unsigned i = 0; i < TASKS; i++) {
        ilv_expect(net_window_post(&s->owner, &s->push[i]) == ST_OK, "no word");
        atom_u32_store(&s->tail, i + 1, ATOM_RELEASE);
    }
    if (net_window_recall(&s->owner, &s->push[0])) {
        s->recalled = true;
    } else {
        name_task(s, 0);
    }
}

/* ---- the main thread ---- */

/* The handler for Python: true, it raises. */
static bool
handle(struct cancel_state *s)
{
    s->tripped = false;
    if (ilv_rule("interrupt_only_inside") && !s->interruptible) {
        return false;
    }
    if (!wk_interrupt_take(mark_of(s))) {
        return false;
    }
    if (!s->interruptible) {
        s->own_code_hit++;
        return false;
    }
    s->interrupted[s->running - 1]++;
    return true;
}

/* A signal is delivered at the latest at the end of a system call, which it ends. */
static void
system_call(struct cancel_state *s)
{
    if (atom_u32_exchange(&s->pending, 0, ATOM_ACQ_REL) != 0) {
        s->tripped = true;
        if (s->running > 0) {
            s->broken_calls[s->running - 1]++;
        }
    }
}

/* Between two bytecodes. */
static bool
interpret(struct cancel_state *s)
{
    if (ilv_choose(2, "a system call?")) {
        system_call(s);
    }
    return s->tripped && ilv_choose(2, "the interpreter looks?") && handle(s);
}

static bool
is_signalled(const void *state)
{
    const struct cancel_state *s = state;

    return s->pending.raw != 0 || s->tripped;
}

/* The user's function: ends by itself, or sleeps until it is interrupted. */
static void
call(struct cancel_state *s, unsigned task)
{
    if (ilv_rule("interrupt_take_first") && wk_interrupt_take(mark_of(s))) {
        s->interrupted[task]++;
        return;
    }
    s->interruptible = true;
    bool over = interpret(s);
    while (!over && task == 0 && s->endless) {
        ilv_block(is_signalled, "a signal that ends the task's sleep");
        system_call(s);
        over = s->tripped && handle(s);
    }
    if (!over) {
        (void)interpret(s);
    }
    s->interruptible = false;
}

static void
run_task(struct cancel_state *s, unsigned task)
{
    const bool locked = ilv_rule("interrupt_start_locked");

    if (locked) {
        lock(s);
    }
    if (!net_window_start(&s->worker, &s->push[task])) {
        if (locked) {
            unlock(s);
        }
        return;
    }
    if (!locked) {
        lock(s);
    }
    atom_u32_store(&s->record.state, WK_INTERRUPT_NONE, ATOM_RELAXED); /* a new record */
    atom_u32_store(&s->current, task + 1, ATOM_RELAXED);
    s->running = task + 1;
    unlock(s);
    (void)interpret(s); /* arguments are read */
    call(s, task);
    (void)interpret(s); /* returns are written */
    lock(s);
    atom_u32_store(&s->current, 0, ATOM_RELAXED);
    if (ilv_rule("interrupt_taken_in")) {
        system_call(s);
    }
    s->running = 0;
    unlock(s);
}

static bool
is_pushed(const void *state)
{
    const struct cancel_state *s = state;

    return s->tail.raw == TASKS;
}

static void
run_main(void *state)
{
    struct cancel_state *s = state;

    do {
        ilv_block(is_pushed, "the pushes");
    } while (atom_u32_load(&s->tail, ATOM_ACQUIRE) != TASKS);
    s->endless = ilv_choose(2, "the first task sleeps for ever?") != 0;
    for (unsigned i = 0; i < TASKS; i++) {
        run_task(s, i);
        (void)interpret(s); /* the worker's own code */
    }
}

static void
invariant(const void *state)
{
    const struct cancel_state *s = state;

    ilv_expect(s->interrupted[1] == 0, "another task is interrupted");
    ilv_expect(s->broken_calls[1] == 0, "a system call of another task is interrupted");
    ilv_expect(s->own_code_hit == 0, "the worker's own code is interrupted");
    ilv_expect(s->interrupted[0] <= 1, "interrupted twice");
    ilv_expect(!s->recalled || s->interrupted[0] == 0, "taken back, and interrupted");
}

static const struct ilv_model name_model = {
    .name = "cancel-name",
    .about = "two tasks, the first taken back or named while it begins, runs, sleeps or ends",
    .state_size = sizeof(struct cancel_state),
    .actors = { { .name = "leader", .run = lead }, { .name = "main", .run = run_main } },
    .n_actors = 2,
    .setup = setup,
    .invariant = invariant,
    .rules = { { "interrupt_names", "whatever runs when the message comes is interrupted" },
               { "interrupt_start_locked", "started, but not yet there to be named: it is lost" },
               { "interrupt_locked", "the task ends between the look and the mark" },
               { "interrupt_in_record", "a mark that was not taken is found by the next task" },
               { "interrupt_only_inside", "the interpreter looks while results are written" },
               { "interrupt_take_first", "a signal handled before the function began is lost" },
               { "interrupt_taken_in", "the signal ends a system call of the next task" } },
};

/* ---- a wait in the engine ---- */

static void
break_wait(void *state)
{
    struct cancel_state *s = state;

    lock(s);
    wk_interrupt_ask(&s->record);
    atom_u32_store(&s->break_wait, 1, ATOM_RELAXED);
    if (ilv_rule("cancel_nudge") && atom_u32_load(&s->sleeping, ATOM_RELAXED) != 0) {
        atom_u32_store(&s->nudged, 1, ATOM_RELEASE);
    }
    atom_u32_store(&s->pending, 1, ATOM_RELEASE);
    unlock(s);
}

static bool
is_woken(const void *state)
{
    const struct cancel_state *s = state;

    return s->pending.raw != 0 || s->nudged.raw != 0;
}

/* One wait. True: it was interrupted by a signal or broken. */
static bool
sleep_once(struct cancel_state *s)
{
    atom_u32_store(&s->sleeping, 1, ATOM_RELAXED);
    unlock(s);
    if (ilv_choose(2, "a signal before the system call?")) {
        system_call(s);
    }
    ilv_block(is_woken, "a signal or a nudge");
    const uint32_t signalled = atom_u32_exchange(&s->pending, 0, ATOM_ACQ_REL);
    s->tripped = s->tripped || signalled != 0;
    lock(s);
    atom_u32_store(&s->sleeping, 0, ATOM_RELAXED);
    atom_u32_store(&s->nudged, 0, ATOM_RELAXED);
    return signalled != 0;
}

static void
wait_in_get(void *state)
{
    struct cancel_state *s = state;

    s->running = 1;
    s->interruptible = true;
    for (;;) {
        bool interrupted = false;

        if (s->tripped && handle(s)) {
            return;
        }
        lock(s);
        while (!interrupted) {
            if (ilv_rule("cancel_break_wait") && atom_u32_load(&s->break_wait, ATOM_RELAXED) != 0) {
                atom_u32_store(&s->break_wait, 0, ATOM_RELAXED);
                interrupted = true;
            } else {
                interrupted = sleep_once(s);
            }
        }
        unlock(s);
        system_call(s); /* the way back to the face has the signal delivered */
    }
}

static const struct ilv_model wait_model = {
    .name = "cancel-wait",
    .about = "a task that waits in the engine is cancelled before, while or as it falls asleep",
    .state_size = sizeof(struct cancel_state),
    .actors = { { .name = "leader", .run = break_wait }, { .name = "main", .run = wait_in_get } },
    .n_actors = 2,
    .setup = setup,
    .rules = { { "cancel_break_wait", "a signal handled just before the sleep is lost" },
               { "cancel_nudge", "the mark is set after the sleeper has looked" } },
};

/* ---- a function that asks ---- */

static void
ask(void *state)
{
    struct cancel_state *s = state;

    lock(s);
    wk_interrupt_ask(&s->record);
    unlock(s);
}

/* No signal is sent, no wait broken: it looks at the mark in its own record. */
static void
run_asking(void *state)
{
    struct cancel_state *s = state;

    for (unsigned i = 0; i < 2; i++) {
        const bool seen = wk_interrupt_is_cancelled(&s->record);

        if (wk_interrupt_take(&s->record)) {
            s->interrupted[0]++;
            ilv_expect(wk_interrupt_is_cancelled(&s->record), "interrupted, not cancelled");
        } else {
            ilv_expect(!seen || s->interrupted[0] > 0, "cancelled, and nothing to take");
        }
    }
    ilv_expect(s->interrupted[0] <= 1, "taken twice");
}

static const struct ilv_model ask_model = {
    .name = "cancel-ask",
    .about = "a function that asks whether it is cancelled, and takes the interrupt, at any moment",
    .state_size = sizeof(struct cancel_state),
    .actors = { { .name = "leader", .run = ask }, { .name = "main", .run = run_asking } },
    .n_actors = 2,
    .setup = setup,
};

int
main(int argc, char **argv)
{
    static const struct ilv_model *const models[] = { &name_model, &wait_model, &ask_model };

    return ilv_main(argc, argv, models, sizeof models / sizeof models[0]);
}
