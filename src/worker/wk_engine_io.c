/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The progress engine: one lock, one leader at a time, one background thread.
 *
 * Whoever waits leads: it reads the rings, spins for a short time when that has paid, then sleeps
 * in the loop. When nobody waits, the background thread leads after a bell, or every millisecond
 * while work is in flight (the bell page is LAZY then, and peers need no system call to reach us).
 *
 * The background thread and a leader may sleep in the same epoll descriptor. Watches are edge
 * triggered, and the kernel wakes one sleeper, the one that came last: mostly the leader. Should
 * the background thread get an event all the same, it handles it and wakes the leader
 * (wake_leader). So does any other thread that has changed something, when it gives the lock up
 * (settle): what the leader waits for may come about without a message.
 */
#include <errno.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "os/os_basic.h"
#include "worker/wk_exec.h"
#include "worker/wk_priv.h"
#include "worker/wk_task.h"

enum { BACKGROUND = 1, IDLE_TICKS = 20, SPIN_SCORE_MAX = 16 };

struct wk_engine wk = { .lock = PTHREAD_MUTEX_INITIALIZER };

static _Thread_local uint32_t thread_number;
static _Thread_local bool waits_on; /* what ends its task's waits doesn't end this one */
static bool leader_sleeps;          /* the leader is in the loop's wait */
static uint64_t leader_changes;     /* wk.change_count when it went there */
static uint64_t leader_wakings;     /* how often it has returned from there */
static uint32_t dozes_in_vain;      /* ticks in a row that brought a dozing leader nothing */
static bool tick_kicked;       /* the background thread was kicked to tick, and has not woken yet */
static bool background_yields; /* the background thread waits for that to end */
static pthread_cond_t leader_woke = PTHREAD_COND_INITIALIZER;
static bool nudged; /* a sleeping leader should look */
static uint32_t spin_score, spin_pause;
static bool spin_paid; /* the last one */
/* Until when the background thread and the leader sleep in the loop. 0: awake, and it looks at the
 * timers before it sleeps; UINT64_MAX for the leader also when there is none, or it spins. */
static uint64_t background_until, leader_until = UINT64_MAX;
static bool timer_kick; /* a kick for an earlier timer is on its way */

/* ---- the lock ---- */

void
wk_lock(void)
{
    (void)pthread_mutex_lock(&wk.lock);
}

/* What whoever has the lock does before it gives it up. */
static void
settle(void)
{
    if (atom_ptr_load(&wk.releases, ATOM_RELAXED)) {
        wk_drain_releases();
    }
    if (wk.lineage_due && wk.running) {
        wk_pump();
    }
    if (wk.loop && background_until > 0 && !timer_kick) {
        const uint64_t timer = net_loop_next_timer(wk.loop);
        if (timer < background_until && timer < leader_until) {
            timer_kick = true; /* armed since they went to sleep: nobody would see it in time */
            wk_kick();
        }
    }
    if (leader_sleeps && wk.change_count != leader_changes && !nudged) {
        nudged = true; /* what it waits for may have come about in this process */
        wk_kick();
    }
    wk.now_ns = 0;
}

void
wk_unlock(void)
{
    settle();
    (void)pthread_mutex_unlock(&wk.lock);
    while (atom_ptr_load(&wk.releases, ATOM_ACQUIRE) && pthread_mutex_trylock(&wk.lock) == 0) {
        settle();
        (void)pthread_mutex_unlock(&wk.lock);
    }
}

int
wk_enter(void)
{
    if (wk.forked) {
        return st_fail(ST_NOT_INITIALIZED,
                       "ray can't be used in a process forked from one that uses it");
    }
    wk_lock();
    if (!wk.ready) {
        wk_unlock();
        return st_fail(ST_NOT_INITIALIZED, "ray has not been started: call ray.init() first");
    }
    if (wk.raylet_dead) {
        const char *evidence = wk.raylet_evidence ? wk.raylet_evidence : "";
        const int status = st_fail(
            ST_RAYLET_DIED, "the local raylet died%s%s; call ray.shutdown() and ray.init() again",
            *evidence ? ": " : "", evidence);
        wk_unlock();
        return status;
    }
    return ST_OK;
}

/* ---- waking ---- */

void
wk_kick(void)
{
    const uint64_t one = 1;
    (void)!write(wk.kick_fd, &one, sizeof(one));
}

void
wk_on_kick(void *ctx, uint32_t events)
{
    (void)ctx;
    (void)events;
    uint64_t count;
    (void)!read(wk.kick_fd, &count, sizeof(count));
    tick_kicked = false;
    if (nudged) { /* the background thread, should it have come first, then wakes the leader */
        nudged = false;
        wk_changed();
    }
}

void
wk_changed(void)
{
    wk.change_count++;
    if (wk.waiters > 0) {
        (void)pthread_cond_broadcast(&wk.changed);
    }
}

void
wk_nudge(void)
{
    wk_changed();
    if (leader_sleeps) {
        nudged = true;
        wk_kick();
    }
}

/* ---- leading ---- */

static uint32_t
my_number(void)
{
    if (thread_number == 0) {
        thread_number = BACKGROUND + 1 + atom_u32_fetch_add(&wk.next_thread, 1, ATOM_RELAXED);
    }
    return thread_number;
}

/* Handles everything that is there, as the leader. */
static void
drain(void)
{
    wk_rings_drain();
    wk_pump();
}

/* Whoever consumes a bell takes the bitmap too, whoever leads: the sender that rang does not ring
 * again before it finds its bit clear. */
static void
dispatch(const struct net_events *events)
{
    wk.now_ns = 0; /* or timers that the loop finds due would not be so by wk_now */
    (void)net_loop_dispatch(wk.loop, events);
    drain();
}

/* Lock held by the caller, who doesn't lead (or leads no more) and has seen net_bell_leave ask. */
static void
leave_lead(bool lazy)
{
    while (net_bell_leave(&wk.bell, lazy)) {
        if (!net_bell_any(&wk.bell)) {
            if (!tick_kicked) { /* once, until somebody has taken it: it may take a while to wake */
                tick_kicked = true;
                wk_kick();
            }
            break;
        }
        if (!net_bell_lead(&wk.bell, my_number())) {
            break;
        }
        drain();
        lazy = lazy || wk.exec_count > 0;
    }
    if (wk.waiters > 0) {
        (void)pthread_cond_broadcast(&wk.changed);
    }
}

/* A few results are awaited by event loops that sleep elsewhere: each should wake them at once. */
static bool
awaited_elsewhere(void)
{
    return wk.foreign_awaits > 0 && wk.tasks_pushed < WK_DOZE_PUSHED;
}

static bool
rests_lazily(void)
{
    return !awaited_elsewhere() && (spin_paid || atom_u32_load(&wk.ticking, ATOM_RELAXED) != 0 ||
                                    wk.exec_count > 0 || (wk.tasks_pending > 0 && !wk_current));
}

/* Looks at the bell page for up to WK_SPIN_NS without the lock. True: something came. */
static bool
spin(uint64_t start_ns)
{
    uint64_t last = start_ns;
    bool hit = false;
    wk_unlock();
    for (uint32_t i = 1; !hit; i++) {
        hit = net_bell_any(&wk.bell);
        atom_pause();
        if (i % 32 == 0) {
            const uint64_t now = os_now_ns();
            if (now - last > WK_SPIN_NS) { /* preempted: the processor is wanted elsewhere */
                wk.spin_off_until_ns = now + 10000000;
                break;
            }
            last = now;
            if (now - start_ns > WK_SPIN_NS) {
                break;
            }
        }
    }
    wk_lock();
    if (hit) {
        wk_rings_expect();
    }
    wk.now_ns = last; /* a microsecond ago */
    spin_paid = hit;
    if (hit) {
        spin_score = spin_score + 2 < SPIN_SCORE_MAX ? spin_score + 2 : SPIN_SCORE_MAX;
    } else if (spin_score > 0) {
        spin_score--;
    }
    return hit;
}

static bool
may_spin(uint64_t now)
{
    if (!wk.spin_allowed || now < wk.spin_off_until_ns || !wk_rings_any()) {
        return false;
    }
    if (spin_score == 0 && ++spin_pause % 64 == 0) {
        spin_score = 1;
    }
    return spin_score > 0;
}

/* The leader's turn: until done, the deadline, or a signal. */
static int
lead(bool (*done)(void *ctx), void *ctx, uint64_t deadline_ns)
{
    struct net_events events;
    for (;;) {
        if (!wk.running) {
            return ST_CLOSED;
        }
        drain();
        if (!waits_on && wk_wait_is_broken()) {
            return ST_INTERRUPTED;
        }
        if (done(ctx)) {
            return ST_OK;
        }
        if (wk.raylet_dead && !wk.ending) {
            return ST_RAYLET_DIED;
        }
        const uint64_t now = wk_now();
        if (now >= deadline_ns) {
            return ST_TIMED_OUT;
        }
        if (may_spin(now)) {
            /* Without the lock: another thread may have handled meanwhile what this one waits for.
             */
            const uint64_t changes = wk.change_count;
            if (spin(now) || wk.change_count != changes || !wk.running) {
                continue;
            }
        }
        const bool doze = wk.tasks_pushed >= WK_DOZE_PUSHED && dozes_in_vain < IDLE_TICKS;
        if (!net_bell_sleep_prepare(&wk.bell, doze)) {
            wk.now_ns = 0;
            continue;
        }
        const uint64_t timer = net_loop_next_timer(wk.loop);
        uint64_t until = timer < deadline_ns ? timer : deadline_ns;
        if (doze && now + WK_TICK_NS < until) {
            until = now + WK_TICK_NS;
        }
        spin_paid = false;
        leader_sleeps = true;
        leader_changes = wk.change_count;
        leader_until = until;
        wk_unlock();
        net_loop_wait(wk.loop, until, &events);
        wk_lock();
        leader_sleeps = timer_kick = false;
        leader_wakings++;
        leader_until = UINT64_MAX;
        if (background_yields) {
            (void)pthread_cond_signal(&leader_woke);
        }
        net_bell_poll_begin(&wk.bell);
        if (!wk.running) {
            return ST_CLOSED;
        }
        const uint64_t changes = wk.change_count;
        dispatch(&events);
        dozes_in_vain = wk.change_count != changes ? 0 : dozes_in_vain + doze;
        if (events.count == 0 && wk_now() < until) {
            drain();
            return done(ctx) ? ST_OK : ST_INTERRUPTED;
        }
    }
}

/* Waits for another thread that leads. Returns regularly, so that signals are looked at. */
static int
follow(uint64_t deadline_ns)
{
    uint64_t until = wk_now() + 100000000;
    if (deadline_ns < until) {
        until = deadline_ns;
    }
    const struct timespec limit = { (time_t)(until / 1000000000u), (long)(until % 1000000000u) };
    const uint64_t changes = wk.change_count;
    settle();
    if (wk.change_count != changes) {
        return ST_OK; /* and looks again */
    }
    wk.waiters++;
    const int error = pthread_cond_timedwait(&wk.changed, &wk.lock, &limit);
    wk.waiters--;
    return error == ETIMEDOUT && until < deadline_ns ? ST_INTERRUPTED : ST_OK;
}

static int
wait_inside(bool (*done)(void *ctx), void *ctx, uint64_t deadline_ns)
{
    while (!done(ctx)) {
        if (!waits_on && wk_wait_is_broken()) {
            return ST_INTERRUPTED;
        }
        if (!wk.running) {
            return st_fail(ST_NOT_INITIALIZED, "ray was shut down while a call waited");
        }
        if (wk.raylet_dead && !wk.ending) {
            return ST_RAYLET_DIED;
        }
        if (deadline_ns != UINT64_MAX && wk_now() >= deadline_ns) {
            return ST_TIMED_OUT;
        }
        int status;
        if (net_bell_lead(&wk.bell, my_number())) {
            status = lead(done, ctx, deadline_ns);
            leave_lead(rests_lazily());
        } else {
            status = follow(deadline_ns);
        }
        if (status != ST_OK) {
            return status;
        }
    }
    return ST_OK;
}

static int
wait_once(bool (*done)(void *ctx), void *ctx, uint64_t deadline_ns)
{
    wk.inside++;
    const int status = wait_inside(done, ctx, deadline_ns);
    wk.inside--;
    return status;
}

/* As wait_once, within a task: its CPU is lent to others, after a millisecond, or at once when this
 * process has asked for leases (wk_grant.c does it when that comes later). */
static int
wait_in_task(bool (*done)(void *ctx), void *ctx, uint64_t deadline_ns)
{
    const uint64_t now = wk_now();
    const uint64_t soon = now + WK_BLOCKED_NS;
    if (now >= deadline_ns) {
        return wait_once(done, ctx, deadline_ns);
    }
    wk.task_wait.done = done;
    wk.task_wait.ctx = ctx;
    if (wk_leases_are_short(&wk.leases)) {
        wk_set_blocked(true);
    }
    int status = wait_once(done, ctx, soon < deadline_ns ? soon : deadline_ns);
    if (status == ST_TIMED_OUT && soon < deadline_ns) {
        if (!done(ctx)) {
            wk_set_blocked(true);
        }
        status = wait_once(done, ctx, deadline_ns);
    }
    wk.task_wait.done = NULL;
    wk_set_blocked(false);
    return status;
}

bool
wk_task_waits(void)
{
    return wk.task_wait.done && !(wk.current && wk.current->break_wait) &&
           !wk.task_wait.done(wk.task_wait.ctx);
}

int
wk_wait(bool (*done)(void *ctx), void *ctx, uint64_t deadline_ns)
{
    if (done(ctx)) {
        return ST_OK;
    }
    const bool is_task = wk_current != NULL && !wk.groups && !wk.is_driver;
    const int status =
        is_task ? wait_in_task(done, ctx, deadline_ns) : wait_once(done, ctx, deadline_ns);
    if (status == ST_RAYLET_DIED) {
        return wk_raylet_gone();
    }
    if (status == ST_CLOSED) {
        return st_fail(ST_NOT_INITIALIZED, "ray was shut down while a call waited");
    }
    if (status == ST_INTERRUPTED) {
        return st_fail(ST_INTERRUPTED, "the wait was interrupted by a signal");
    }
    if (status == ST_TIMED_OUT) {
        return st_fail(ST_TIMED_OUT, "Get timed out: some object(s) not ready.");
    }
    return status;
}

int
wk_wait_on(bool (*done)(void *ctx), void *ctx, uint64_t deadline_ns)
{
    int status;
    waits_on = true;
    do {
        status = wk_wait(done, ctx, deadline_ns);
    } while (status == ST_INTERRUPTED);
    waits_on = false;
    return status;
}

void
wk_poll(void)
{
    if (net_bell_any(&wk.bell) && net_bell_lead(&wk.bell, my_number())) {
        drain();
        leave_lead(rests_lazily());
    }
}

void
wk_keep_ticking(void)
{
    if (atom_u32_load(&wk.ticking, ATOM_RELAXED) == 0 && !awaited_elsewhere() &&
        net_bell_lead(&wk.bell, my_number())) {
        leave_lead(true);
    }
}

void
wk_rest_awaited(void)
{
    if (atom_u32_load(&wk.bell.state, ATOM_RELAXED) == NET_BELL_LAZY && awaited_elsewhere() &&
        net_bell_lead(&wk.bell, my_number())) {
        leave_lead(false);
    }
}

void
wk_lead_begin(void)
{
    spin_score = SPIN_SCORE_MAX / 2;
    background_until = 0;
    leader_until = UINT64_MAX;
    leader_sleeps = false;
    timer_kick = tick_kicked = nudged = false; /* a kick may have ended with an earlier session */
}

/* ---- the background thread ---- */

/* One turn with the lock held. False: nothing was done, it may rest. */
static bool
background_turn(uint32_t *idle_ticks, uint64_t *seen_changes)
{
    if (!net_bell_lead(&wk.bell, BACKGROUND)) {
        return false;
    }
    drain();
    if (wk.change_count != *seen_changes) {
        *seen_changes = wk.change_count;
        *idle_ticks = 0;
    } else {
        (*idle_ticks)++;
    }
    const bool in_flight = wk.tasks_pending > 0 || wk.exec_count > 0 || wk_is_running();
    const bool lazy = (in_flight || spin_paid) && *idle_ticks < IDLE_TICKS && !awaited_elsewhere();
    const bool again = net_bell_leave(&wk.bell, lazy);
    if (wk.waiters > 0) {
        (void)pthread_cond_broadcast(&wk.changed);
    }
    return again && net_bell_any(&wk.bell);
}

/* An event was taken that the sleeping leader should have had. The background thread stays out of
 * the loop until the leader is awake, or it would take the kick too. */
static void
wake_leader(void)
{
    background_yields = true;
    const uint64_t wakings = leader_wakings;
    wk_kick();
    while (leader_wakings == wakings && leader_sleeps && !wk.background_stop) {
        wk.now_ns = 0;
        (void)pthread_cond_wait(&leader_woke, &wk.lock);
    }
    background_yields = false;
}

/* Waits without the lock, and returns with it. A tick that finds the lock taken is left out: who
 * has it looks at the rings, and would pay a system call for every time it gives the lock to us. */
static void
wait_in_background(struct net_events *events, uint64_t until, bool parked)
{
    net_loop_wait(wk.loop, until, events);
    while (events->count == 0 && !parked && pthread_mutex_trylock(&wk.lock) != 0) {
        net_loop_wait(wk.loop, os_now_ns() + WK_TICK_NS, events);
        if (events->count > 0) {
            break;
        }
    }
    if (events->count > 0 || parked) {
        wk_lock();
    }
}

void *
wk_background_main(void *arg)
{
    (void)arg;
    uint32_t idle_ticks = 0;
    uint64_t seen_changes = 0;
    struct net_events events;
    thread_number = BACKGROUND;
    (void)prctl(PR_SET_NAME, "ray-io", 0, 0, 0); /* by its starter it would go through /proc */
    wk_lock();
    while (!wk.background_stop) {
        if (background_turn(&idle_ticks, &seen_changes)) {
            continue;
        }
        uint64_t until = net_loop_next_timer(wk.loop);
        const bool parked = net_bell_park_prepare(&wk.bell);
        if (!parked) {
            net_bell_park_end(&wk.bell);
            if (atom_u32_load(&wk.bell.state, ATOM_RELAXED) != NET_BELL_LAZY) {
                continue;
            }
            const uint64_t tick = wk_now() + WK_TICK_NS;
            until = tick < until ? tick : until;
        } else {
            idle_ticks = 0;
        }
        atom_u32_store(&wk.ticking, !parked, ATOM_RELAXED);
        background_until = until;
        wk_unlock();
        wait_in_background(&events, until, parked);
        background_until = 0;
        timer_kick = false;
        if (parked) {
            net_bell_park_end(&wk.bell);
        }
        if (events.count > 0 || net_loop_next_timer(wk.loop) <= wk_now()) {
            const uint64_t changes = wk.change_count;
            dispatch(&events);
            if (wk.change_count != changes && leader_sleeps) {
                wake_leader();
            }
        }
    }
    wk.background_ended = true;
    wk_changed();
    wk_unlock();
    return NULL;
}
