/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Models of net_window: every task runs once, wherever that is; a task that was taken back never
 * runs here; after a death the words tell which had begun; and a lease that changes hands leaves no
 * task of the old one running. The functions run are net_window's own; the ring is reduced to
 * frames and a tail, replies to a flag a task.
 */
#include "ilv.h"

#include "net/net_window.h"

enum { OWNER, WORKER };

#define TASKS 3u

struct frame {
    struct net_window_push push;
    uint64_t task;
};

struct window_state {
    _Alignas(64) unsigned char memory[64 + 8 * 3];
    struct net_window_owner owner;
    uint64_t own[2 * 3]; /* its private memory */
    struct net_window_worker worker;
    struct frame frames[2 * TASKS];
    struct atom_u32 tail;         /* frames published */
    struct atom_u32 reply[TASKS]; /* replies published */
    struct atom_u32 woken;        /* something for the owner to look at */
    struct net_window_push push[TASKS];
    bool in_flight[TASKS];
    unsigned sent, head;       /* frames, by the owner's and the worker's count */
    unsigned ran_here[TASKS];  /* by the worker */
    unsigned ran_there[TASKS]; /* pushed elsewhere, where it runs */
    unsigned charged[TASKS];   /* attempts lost */
};

static uint32_t words;
static unsigned tasks;
static bool bounces;

static void
setup(void *state)
{
    struct window_state *s = state;

    ilv_expect(net_window_format(s->memory, sizeof s->memory, words) == ST_OK, "format");
    ilv_expect(net_window_owner_init(&s->owner, s->memory, sizeof s->memory, s->own) == ST_OK,
               "owner");
    ilv_expect(net_window_worker_init(&s->worker, s->memory, sizeof s->memory) == ST_OK, "worker");
    ilv_name(s->owner.words, 8 * words, "window");
    ilv_name(s->frames, sizeof s->frames, "frame");
    ilv_name(&s->tail, 4, "tail");
    ilv_name(s->reply, sizeof s->reply, "reply");
    ilv_name(&s->woken, 4, "woken");
}

/* ---- the owner ---- */

static void
publish(struct window_state *s, unsigned task, const struct net_window_push *push)
{
    const struct frame frame = { *push, task };

    atom_copy_in(&s->frames[s->sent], &frame, sizeof frame);
    s->sent++;
    atom_u32_store(&s->tail, s->sent, ATOM_RELEASE);
}

/* Pushes a task. False: no word is free. */
static bool
push_task(struct window_state *s, unsigned task)
{
    const struct net_window_owner *o = &s->owner;
    if (o->n_free == 0 && o->n_used == o->n_words) {
        return false;
    }
    if (!ilv_rule("window_post_first")) { /* the frame before the word: which it will be is known */
        const struct net_window_push early = { o->n_free > 0 ? o->free_words[o->n_free - 1]
                                                             : o->n_used,
                                               o->last_number + 1 };

        publish(s, task, &early);
    }
    ilv_expect(net_window_post(&s->owner, &s->push[task]) == ST_OK, "a free word, and no post");
    s->in_flight[task] = true;
    if (ilv_rule("window_post_first")) {
        publish(s, task, &s->push[task]);
    }
    return true;
}

static void
done(struct window_state *s, unsigned task)
{
    ilv_expect(net_window_free(&s->owner, &s->push[task]) == ST_OK, "freed twice");
    s->in_flight[task] = false;
}

static void
elsewhere(struct window_state *s, unsigned task)
{
    done(s, task);
    s->ran_there[task]++;
}

/* Looks at one task in flight: replied to, bounced, or neither. */
static void
look_at(struct window_state *s, unsigned task)
{
    enum net_window_state state;

    if (atom_u32_load(&s->reply[task], ATOM_ACQUIRE)) {
        done(s, task);
        return;
    }
    ilv_expect(net_window_look(&s->owner, &s->push[task], &state) == ST_OK, "a broken word");
    if (state == NET_WINDOW_BOUNCED) {
        elsewhere(s, task);
    }
}

static unsigned
n_in_flight(const struct window_state *s)
{
    unsigned n = 0;

    for (unsigned i = 0; i < tasks; i++) {
        n += s->in_flight[i];
    }
    return n;
}

static bool
woken_or_death(const void *state)
{
    const struct window_state *s = state;

    return s->woken.raw != 0 || ilv_dead_now(WORKER);
}

/* The worker is dead: drain, read the words, act. */
static void
bury(struct window_state *s)
{
    struct net_window_entry entries[3];
    uint32_t n = 0;

    for (unsigned i = 0; i < tasks && ilv_rule("window_drain_first"); i++) {
        if (s->in_flight[i] && atom_u32_load(&s->reply[i], ATOM_ACQUIRE)) {
            done(s, i);
        }
    }
    ilv_expect(net_window_snapshot(s->memory, sizeof s->memory, entries, 3, &n) == ST_OK, "window");
    for (unsigned i = 0; i < tasks; i++) {
        if (s->in_flight[i]) {
            s->charged[i] += net_window_had_started(entries, n, &s->push[i]);
            elsewhere(s, i);
        }
    }
}

/* Waits until nothing is in flight. */
static void
wait_all(struct window_state *s)
{
    while (n_in_flight(s) > 0) {
        ilv_block(woken_or_death, "a reply, a bounce or a death");
        if (ilv_dead_now(WORKER) && ilv_is_dead(WORKER)) {
            bury(s);
            return;
        }
        if (!ilv_rule("window_reap_first") && ilv_choose(2, "the connection was closed")) {
            bury(s); /* guessed, not told */
            return;
        }
        atom_u32_exchange(&s->woken, 0, ATOM_ACQ_REL);
        for (unsigned i = 0; i < tasks; i++) {
            if (s->in_flight[i]) {
                look_at(s, i);
            }
        }
    }
}

/* Pushes one task after the other through a single word, and takes some back. */
static void
own_recalling(void *state)
{
    struct window_state *s = state;

    for (unsigned i = 0; i < tasks; i++) {
        if (!push_task(s, i)) {
            wait_all(s);
            ilv_expect(push_task(s, i), "no word though nothing is in flight");
        }
        if (i + 1 < tasks && net_window_recall(&s->owner, &s->push[i])) {
            elsewhere(s, i);
        }
    }
    wait_all(s);
}

/* Pushes all at once; the worker runs, bounces or dies. */
static void
own_pushing(void *state)
{
    struct window_state *s = state;

    for (unsigned i = 0; i < tasks; i++) {
        ilv_expect(push_task(s, i), "no word");
    }
    if (net_window_recall(&s->owner, &s->push[tasks - 1])) {
        elsewhere(s, tasks - 1);
    }
    wait_all(s);
}

/* ---- the worker ---- */

static bool
frame_or_end(const void *state)
{
    const struct window_state *s = state;

    return s->tail.raw != s->head || ilv_done_now(OWNER);
}

static void
wake_owner(struct window_state *s)
{
    atom_u32_fetch_add(&s->woken, 1, ATOM_ACQ_REL);
}

static void
run_task(struct window_state *s, const struct frame *frame)
{
    if (!net_window_start(&s->worker, &frame->push)) {
        return;
    }
    s->ran_here[frame->task]++;
    ilv_pause("runs the task");
    atom_u32_store(&s->reply[frame->task], 1, ATOM_RELEASE);
    wake_owner(s);
}

static void
work(void *state)
{
    struct window_state *s = state;

    for (;;) {
        struct frame frame;

        ilv_block(frame_or_end, "a frame");
        if (atom_u32_load(&s->tail, ATOM_ACQUIRE) == s->head) {
            if (ilv_done_now(OWNER) && s->sent == s->head) {
                return;
            }
            continue;
        }
        atom_copy_out(&frame, &s->frames[s->head++], sizeof frame);
        if (bounces && ilv_choose(2, "blocked: bounce?")) {
            if (net_window_bounce(&s->worker, &frame.push)) {
                wake_owner(s);
            }
        } else {
            run_task(s, &frame);
        }
    }
}

static void
invariant(const void *state)
{
    const struct window_state *s = state;

    for (unsigned i = 0; i < tasks; i++) {
        ilv_expect(s->ran_here[i] + s->ran_there[i] <= 1 + s->charged[i], "a task runs twice");
        ilv_expect(!s->charged[i] || !s->reply[i].raw, "charged though it had replied");
        ilv_expect(!s->charged[i] || s->ran_here[i], "charged though it had never run");
    }
}

static void
finish(const void *state)
{
    const struct window_state *s = state;

    invariant(state);
    for (unsigned i = 0; i < tasks; i++) {
        ilv_expect(s->ran_here[i] + s->ran_there[i] >= 1, "a task never runs");
    }
}

static void
setup_recall(void *state)
{
    words = 1;
    tasks = 3;
    bounces = false;
    setup(state);
}

static void
setup_pushing(void *state)
{
    words = 3;
    tasks = 3;
    bounces = true;
    setup(state);
}

static const struct ilv_model recall = {
    .name = "window-recall",
    .about = "3 tasks through one word, the first two taken back if they can be",
    .state_size = sizeof(struct window_state),
    .actors = { { .name = "owner", .run = own_recalling }, { .name = "worker", .run = work } },
    .n_actors = 2,
    .setup = setup_recall,
    .invariant = invariant,
    .finish = finish,
    .rules = { { "window_push_number", "an old frame finds its word posted anew and runs" },
               { "window_post_first",
                 "the worker finds the word not posted and drops the frame" } },
};

static const struct ilv_model death = {
    .name = "window-death",
    .about = "3 tasks run, bounced or taken back; the worker is killed before any of its steps",
    .state_size = sizeof(struct window_state),
    .actors = { { .name = "owner", .run = own_pushing },
                { .name = "worker", .run = work, .may_die = true } },
    .n_actors = 2,
    .max_kills = 1,
    .setup = setup_pushing,
    .invariant = invariant,
    .finish = finish,
    .rules = { { "window_drain_first", "a task whose reply lies unread would be charged" },
               { "window_reap_first", "a worker that only seems dead starts a posted task" } },
};

/* ---- the lease's epoch ---- */

enum { RAYLET, RUNNER };

struct epoch_state {
    _Alignas(8) struct atom_u64 epoch;
    struct atom_u64 running;
    struct atom_u64 replies; /* published by the worker */
    unsigned begun, ended;   /* tasks of the old lease */
    bool leased_anew, killed;
};

static void
setup_epoch(void *state)
{
    struct epoch_state *s = state;

    s->epoch.raw = 1;
    ilv_name(&s->epoch, 8, "epoch");
    ilv_name(&s->running, 8, "running");
    ilv_name(&s->replies, 8, "replies");
}

/* The old owner has died. */
static void
change_hands(void *state)
{
    struct epoch_state *s = state;

    if (net_window_change_epoch(&s->epoch, &s->running, 2) == NET_WINDOW_IDLE) {
        s->leased_anew = true;
        ilv_expect(atom_u64_load(&s->replies, ATOM_RELAXED) >= s->ended,
                   "a reply is still to come");
    } else {
        s->killed = true;
    }
}

static void
run_old(void *state)
{
    struct epoch_state *s = state;

    for (unsigned i = 0; i < 2; i++) {
        if (!net_window_run_begin(&s->running, &s->epoch, 1)) {
            return;
        }
        s->begun++;
        ilv_pause("starts and runs a task of the old lease");
        atom_u64_store(&s->replies, i + 1, ATOM_RELEASE);
        s->ended++;
        net_window_run_end(&s->running);
    }
}

static void
invariant_epoch(const void *state)
{
    const struct epoch_state *s = state;

    ilv_expect(!s->leased_anew || s->begun == s->ended,
               "a task of the old lease runs under the new one");
}

static const struct ilv_model epoch = {
    .name = "window-epoch",
    .about = "the raylet changes the epoch while the worker runs two tasks of the old lease",
    .state_size = sizeof(struct epoch_state),
    .actors = { { .name = "raylet", .run = change_hands }, { .name = "worker", .run = run_old } },
    .n_actors = 2,
    .setup = setup_epoch,
    .invariant = invariant_epoch,
    .rules = { { "epoch_raylet_fence", "RUNNING may be read before the epoch is visible" },
               { "epoch_worker_fence", "the epoch may be read before RUNNING is visible" },
               { "epoch_reread", "the epoch may have changed before RUNNING was written" },
               { "epoch_idle_release", "idle may be visible before the last reply" } },
};

int
main(int argc, char **argv)
{
    static const struct ilv_model *const models[] = { &recall, &death, &epoch };

    return ilv_main(argc, argv, models, sizeof models / sizeof models[0]);
}
