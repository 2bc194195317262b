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
 * (wake_leader).
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "os/os_basic.h"
#include "os/os_shm.h"
#include "worker/wk_priv.h"

enum { BACKGROUND = 1, IDLE_TICKS = 20, SPIN_SCORE_MAX = 16 };

struct wk_engine wk = { .lock = PTHREAD_MUTEX_INITIALIZER };

static _Thread_local uint32_t thread_number;
static bool leader_sleeps;     /* the leader is in the loop's wait */
static bool tick_kicked;       /* the background thread was kicked to tick, and has not woken yet */
static bool background_yields; /* the background thread waits for that to end */
static pthread_cond_t leader_woke = PTHREAD_COND_INITIALIZER;
static uint32_t spin_score, spin_pause;
/* Until when the background thread and the leader sleep in the loop. 0: awake, and it looks at the
 * timers before it sleeps; UINT64_MAX for the leader also when there is none, or it spins. */
static uint64_t background_until, leader_until = UINT64_MAX;
static bool timer_kick; /* a kick for an earlier timer is on its way */

/* ---- releases: handles dropped while another thread held the lock ---- */

struct wk_release {
    struct wk_release *next;
    struct own_ref *ref;
};

static void
drain_releases(void)
{
    struct wk_release *list = atom_ptr_exchange(&wk.releases, NULL, ATOM_ACQ_REL);
    while (list) {
        struct wk_release *next = list->next;
        if (wk.running && !wk_ref_is_stale(list->ref)) {
            struct wk_outs o;
            own_local_drop(&wk.own, list->ref, wk_outs_begin(&o));
            wk_outs_end(&o);
        }
        free(list);
        list = next;
    }
}

void
wk_flush_releases(void)
{
    if (atom_ptr_load(&wk.releases, ATOM_ACQUIRE)) {
        drain_releases();
    }
}

enum { STALE_KIND = 0xff };

bool
wk_ref_is_stale(const struct own_ref *ref)
{
    return ref->kind == STALE_KIND;
}

static void
make_stale(void *ctx, const struct own_ref *ref)
{
    bool *any = ctx;
    struct own_ref *writable;
    memcpy(&writable, &ref, sizeof(ref));
    if (__atomic_load_n(&ref->local, __ATOMIC_RELAXED) > 0) {
        *any = true;
    }
    if (ref->value && !(ref->kind == OWN_OWNED && wk_id_is_actor(&ref->id))) {
        ray_value_release(wk_ref_value(ref));
    }
    writable->value = 0;
    writable->kind = STALE_KIND;
}

/* Ends the ownership machine and gives its values up. Handles that the program still has point into
 * the machine's slab: then that stays, buried here, and they are marked. */
void
wk_own_end(void)
{
    static struct buried {
        struct buried *next;
        struct slab slab;
    } * graveyard;
    bool any = false;
    own_walk(&wk.own, make_stale, &any);
    struct buried *grave = any ? malloc(sizeof(*grave)) : NULL;
    if (grave) {
        *grave = (struct buried){ .next = graveyard, .slab = wk.own.ref_slab };
        graveyard = grave;
    }
    if (any) {
        slab_init(&wk.own.ref_slab, wk.mem, sizeof(struct own_ref));
    }
    own_fini(&wk.own);
}

RAY_API void
ray_ref_release(ray_ref *handle)
{
    struct own_ref *ref = (struct own_ref *)handle;
    if (!ref || wk.forked || wk_ref_is_stale(ref) || own_local_try_drop(ref)) {
        return;
    }
    if (pthread_mutex_trylock(&wk.lock) == 0) {
        if (wk.running && !wk_ref_is_stale(ref)) {
            struct wk_outs o;
            own_local_drop(&wk.own, ref, wk_outs_begin(&o));
            wk_outs_end(&o);
        }
        wk_unlock();
        return;
    }
    struct wk_release *node = malloc(sizeof(*node));
    if (!node) {
        return; /* the handle leaks rather than anything else */
    }
    node->ref = ref;
    void *head = atom_ptr_load(&wk.releases, ATOM_RELAXED);
    do {
        node->next = head;
    } while (!atom_ptr_cas(&wk.releases, &head, node));
    /* Whoever held the lock looks at the list after giving it up; if that was just before the node
     * went in, the lock is free now. */
    if (pthread_mutex_trylock(&wk.lock) == 0) {
        wk_unlock();
    }
}

void
wk_lock(void)
{
    (void)pthread_mutex_lock(&wk.lock);
}

void
wk_unlock(void)
{
    if (atom_ptr_load(&wk.releases, ATOM_RELAXED)) {
        drain_releases();
    }
    if (wk.loop && background_until > 0 && !timer_kick) {
        const uint64_t timer = net_loop_next_timer(wk.loop);
        if (timer < background_until && timer < leader_until) {
            timer_kick = true; /* armed since they went to sleep: nobody would see it in time */
            wk_kick();
        }
    }
    (void)pthread_mutex_unlock(&wk.lock);
    while (atom_ptr_load(&wk.releases, ATOM_ACQUIRE) && pthread_mutex_trylock(&wk.lock) == 0) {
        drain_releases();
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

/* ---- outs of the ownership machine ---- */

struct step_outs *
wk_outs_begin(struct wk_outs *o)
{
    wk.out_depth++;
    o->outs = (struct step_outs){ .v = o->v, .capacity = WK_OUTS, .arena = &wk.out_arena };
    return &o->outs;
}

static void
carry_out(const struct step_out *out)
{
    if (out->kind <= OWN_MSG_LAST) {
        wk_peer_send_own(out);
        return;
    }
    switch ((enum own_out_kind)out->kind) {
    case OWN_OUT_READY: {
        struct own_ref *ref;
        memcpy(&ref, &out->msg, sizeof(ref));
        wk_on_ref_ready(ref, out->payload);
        break;
    }
    case OWN_OUT_DROP:
        wk_value_drop(out->payload, out->when_ns);
        break;
    case OWN_OUT_TIMER:
        (void)!net_loop_arm(wk.loop, &wk.own_timer, out->when_ns);
        break;
    case OWN_OUT_PROC_GONE:
        if (out->peer < wk.peer_capacity && wk.peer_by_proc[out->peer]) {
            wk.peer_by_proc[out->peer]->proc = UINT32_MAX;
            wk.peer_by_proc[out->peer] = NULL;
        }
        break;
    }
}

void
wk_outs_end(struct wk_outs *o)
{
    for (;;) {
        for (uint32_t i = 0; i < o->outs.count; i++) {
            carry_out(&o->v[i]);
        }
        if (!o->outs.more) {
            break;
        }
        o->outs.count = 0;
        o->outs.more = false;
        const struct step_in in = { .kind = STEP_CONTINUE, .now_ns = os_now_ns() };
        if (own_step(&wk.own, &in, &o->outs) != ST_OK) {
            break; /* out of memory: the machine goes on at its next step */
        }
    }
    if (--wk.out_depth == 0) {
        arena_reset(&wk.out_arena);
    }
}

static void
on_own_timer(void *ctx)
{
    (void)ctx;
    struct wk_outs o;
    const struct step_in in = { .kind = OWN_IN_TIMER, .now_ns = os_now_ns() };
    (void)!own_step(&wk.own, &in, wk_outs_begin(&o));
    wk_outs_end(&o);
    wk_changed(); /* a worker that leaves may be needed no more */
}

static void
on_lease_timer(void *ctx)
{
    (void)ctx; /* wk_pump follows every dispatch */
}

static void
on_free_timer(void *ctx)
{
    (void)ctx;
    wk_flush_frees();
}

/* ---- waking ---- */

void
wk_kick(void)
{
    const uint64_t one = 1;
    (void)!write(wk.kick_fd, &one, sizeof(one));
}

static void
on_kick(void *ctx, uint32_t events)
{
    (void)ctx;
    (void)events;
    uint64_t count;
    (void)!read(wk.kick_fd, &count, sizeof(count));
    tick_kicked = false;
}

void
wk_changed(void)
{
    wk.change_count++;
    if (wk.waiters > 0) {
        (void)pthread_cond_broadcast(&wk.changed);
    }
}

static uint32_t
my_number(void)
{
    if (thread_number == 0) {
        thread_number = BACKGROUND + 1 + atom_u32_fetch_add(&wk.next_thread, 1, ATOM_RELAXED);
    }
    return thread_number;
}

/* ---- leading ---- */

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

static bool
rests_lazily(void)
{
    return atom_u32_load(&wk.ticking, ATOM_RELAXED) != 0 || wk.exec_count > 0 ||
           (wk.tasks_pending > 0 && !wk_current);
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
        if (done(ctx)) {
            return ST_OK;
        }
        if (wk.raylet_dead && !wk.ending) {
            return ST_RAYLET_DIED;
        }
        const uint64_t now = os_now_ns();
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
        if (!net_bell_sleep_prepare(&wk.bell)) {
            continue;
        }
        const uint64_t timer = net_loop_next_timer(wk.loop);
        const uint64_t until = timer < deadline_ns ? timer : deadline_ns;
        leader_sleeps = true;
        leader_until = until;
        wk_unlock();
        net_loop_wait(wk.loop, until, &events);
        wk_lock();
        leader_sleeps = timer_kick = false;
        leader_until = UINT64_MAX;
        if (background_yields) {
            (void)pthread_cond_signal(&leader_woke);
        }
        net_bell_poll_begin(&wk.bell);
        if (!wk.running) {
            return ST_CLOSED;
        }
        dispatch(&events);
        if (events.count == 0 && os_now_ns() < until) {
            drain();
            return done(ctx) ? ST_OK : ST_INTERRUPTED;
        }
    }
}

/* Waits for another thread that leads. Returns regularly, so that signals are looked at. */
static int
follow(uint64_t deadline_ns)
{
    uint64_t until = os_now_ns() + 100000000;
    if (deadline_ns < until) {
        until = deadline_ns;
    }
    const struct timespec limit = { (time_t)(until / 1000000000u), (long)(until % 1000000000u) };
    wk.waiters++;
    const int error = pthread_cond_timedwait(&wk.changed, &wk.lock, &limit);
    wk.waiters--;
    return error == ETIMEDOUT && until < deadline_ns ? ST_INTERRUPTED : ST_OK;
}

static int
wait_inside(bool (*done)(void *ctx), void *ctx, uint64_t deadline_ns)
{
    while (!done(ctx)) {
        if (!wk.running) {
            return st_fail(ST_NOT_INITIALIZED, "ray was shut down while a call waited");
        }
        if (wk.raylet_dead && !wk.ending) {
            return ST_RAYLET_DIED;
        }
        if (os_now_ns() >= deadline_ns) {
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

/* As wait_once, within a task: after a millisecond its CPU is lent to others. */
static int
wait_in_task(bool (*done)(void *ctx), void *ctx, uint64_t deadline_ns)
{
    const uint64_t soon = os_now_ns() + WK_BLOCKED_NS;
    int status = wait_once(done, ctx, soon < deadline_ns ? soon : deadline_ns);
    if (status == ST_TIMED_OUT && soon < deadline_ns) {
        wk_set_blocked(true);
        status = wait_once(done, ctx, deadline_ns);
        wk_set_blocked(false);
    }
    return status;
}

int
wk_wait(bool (*done)(void *ctx), void *ctx, uint64_t deadline_ns)
{
    if (done(ctx)) {
        return ST_OK;
    }
    const bool is_task = wk_current != NULL && !wk.is_driver;
    const int status =
        is_task ? wait_in_task(done, ctx, deadline_ns) : wait_once(done, ctx, deadline_ns);
    if (status == ST_RAYLET_DIED) {
        const char *evidence = wk.raylet_evidence ? wk.raylet_evidence : "";
        return st_fail(ST_RAYLET_DIED, "the local raylet died%s%s", *evidence ? ": " : "",
                       evidence);
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
    if (atom_u32_load(&wk.ticking, ATOM_RELAXED) == 0 && net_bell_lead(&wk.bell, my_number())) {
        leave_lead(true);
    }
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
    const bool in_flight = wk.tasks_pending > 0 || wk.exec_count > 0 || wk.current != NULL;
    const bool again = net_bell_leave(&wk.bell, in_flight && *idle_ticks < IDLE_TICKS);
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
    wk_kick();
    while (leader_sleeps && !wk.background_stop) {
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

static void *
background_main(void *arg)
{
    (void)arg;
    uint32_t idle_ticks = 0;
    uint64_t seen_changes = 0;
    struct net_events events;
    thread_number = BACKGROUND;
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
            const uint64_t tick = os_now_ns() + WK_TICK_NS;
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
        if (events.count > 0 || net_loop_next_timer(wk.loop) <= os_now_ns()) {
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

/* ---- forks in user code ---- */

static void
before_fork(void)
{
    if (!wk.forked) {
        wk_lock();
    }
}

static void
after_fork_parent(void)
{
    if (!wk.forked) {
        wk_unlock();
    }
}

static void
after_fork_child(void)
{
    if (wk.forked) {
        return;
    }
    if (wk.running) {
        wk.forked = true;
        if (wk.store) {
            storec_after_fork_child(wk.store);
        }
    }
    (void)pthread_mutex_unlock(&wk.lock);
}

/* ---- start and stop ---- */

static int
start_thread(void)
{
    sigset_t all, old;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    pthread_attr_t attr;
    (void)pthread_attr_init(&attr);
    (void)pthread_attr_setstacksize(&attr, 512 * 1024);
    wk.background_stop = wk.background_ended = false;
    const int error = pthread_create(&wk.background, &attr, background_main, NULL);
    (void)pthread_attr_destroy(&attr);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (error != 0) {
        return st_fail_errno(ST_SYSTEM, error, "start the background thread");
    }
    (void)pthread_setname_np(wk.background, "ray-io");
    wk.background_running = true;
    return ST_OK;
}

static int
make_bell(void)
{
    TRY(os_shm_create("ray-bell", 4096, &wk.bell_fd));
    TRY(os_shm_map(wk.bell_fd, 0, 4096, OS_SHM_WRITE, 0, &wk.bell_memory));
    TRY(os_shm_no_fork(wk.bell_memory, 4096));
    return net_bell_init(&wk.bell, wk.bell_memory, 4096, WK_RINGS_MAX);
}

int
wk_engine_start(void)
{
    static bool once;
    if (!once) {
        pthread_condattr_t attr;
        (void)pthread_condattr_init(&attr);
        (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        (void)pthread_cond_init(&wk.changed, &attr);
        (void)pthread_condattr_destroy(&attr);
        (void)pthread_atfork(before_fork, after_fork_parent, after_fork_child);
        once = true;
    }
    wk.mem = os_mem_system();
    wk.kick_fd = -1;
    wk.bell_fd = -1;
    wk.session++;
    spin_score = SPIN_SCORE_MAX / 2;
    background_until = 0;
    timer_kick = false;
    arena_init(&wk.out_arena, wk.mem);
    TRY(net_loop_create(wk.mem, &wk.loop));
    TRY(make_bell());
    wk.kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (wk.kick_fd < 0) {
        return st_fail_errno(ST_SYSTEM, errno, "eventfd");
    }
    wk.kick_watch = (struct net_watch){ .fd = wk.kick_fd, .on_ready = on_kick };
    TRY(net_loop_add(wk.loop, &wk.kick_watch, EPOLLIN | EPOLLET));
    wk.own_timer = (struct net_timer){ .on_timer = on_own_timer };
    wk.lease_timer = (struct net_timer){ .on_timer = on_lease_timer };
    wk.free_timer = (struct net_timer){ .on_timer = on_free_timer };
    return start_thread();
}

/* Lock held. Kicks and gives the lock up for a moment. */
static void
kick_and_rest(void)
{
    const uint64_t until = os_now_ns() + WK_TICK_NS;
    const struct timespec limit = { (time_t)(until / 1000000000u), (long)(until % 1000000000u) };
    wk_kick();
    wk_changed();
    (void)pthread_cond_timedwait(&wk.changed, &wk.lock, &limit);
}

/* Lock not held; `running` is false. Waits for the background thread, and for those of the
 * program's that wait or copy inside of the engine. A kick wakes one sleeper of the loop,
 * whichever; so they are repeated. */
void
wk_engine_stop_thread(void)
{
    wk_lock();
    wk.background_stop = true;
    while ((wk.background_running && !wk.background_ended) || wk.inside > 0) {
        kick_and_rest();
    }
    wk_unlock();
    if (wk.background_running) {
        (void)pthread_join(wk.background, NULL);
        wk.background_running = false;
    }
}

void
wk_engine_stop(void)
{
    if (wk.loop) {
        net_loop_disarm(wk.loop, &wk.own_timer);
        net_loop_disarm(wk.loop, &wk.lease_timer);
        net_loop_disarm(wk.loop, &wk.evidence_timer);
        net_loop_disarm(wk.loop, &wk.free_timer);
        net_loop_remove(wk.loop, &wk.kick_watch);
        net_loop_destroy(&wk.loop);
    }
    os_close(&wk.kick_fd);
    os_close(&wk.bell_fd);
    if (wk.bell_memory) {
        os_shm_unmap(wk.bell_memory, 4096);
        wk.bell_memory = NULL;
    }
    arena_fini(&wk.out_arena);
}
