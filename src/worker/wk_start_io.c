/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting and stopping the engine: its loop, bell, timers and background thread; and what a fork
 * in user code makes of it.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "os/os_basic.h"
#include "os/os_shm.h"
#include "worker/wk_exec.h"
#include "worker/wk_inbox.h"
#include "worker/wk_priv.h"
#include "worker/wk_task.h"

/* ---- timers ---- */

static void
on_own_timer(void *ctx)
{
    (void)ctx;
    struct wk_outs o;
    const struct step_in in = { .kind = OWN_IN_TIMER, .now_ns = wk_now() };
    (void)!own_step(&wk.own, &in, wk_outs_begin(&o));
    wk_outs_end(&o);
    wk_peers_sweep();
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

/* ---- forks in user code ---- */

/*
 * What is pinned at a fork stays pinned until the child has executed another program or ended: its
 * views are the parent's, and no page of its own tells of them. It has the only writing end of a
 * close-on-exec pipe, whose end tells us. Everything else of ours is closed in the child: a process
 * that outlives us must not make our connections look alive.
 */
struct fork_hold {
    struct list link; /* fork_holds */
    struct net_watch watch;
    uint32_t token;
};

static struct list fork_holds = { &fork_holds, &fork_holds };
static int forking_end = -1; /* the child's */

static void
end_hold(struct fork_hold *hold)
{
    net_loop_remove(wk.loop, &hold->watch);
    os_close(&hold->watch.fd);
    list_remove(&hold->link);
    free(hold);
}

static void
on_child_over(void *ctx, uint32_t events)
{
    struct fork_hold *hold = ctx;
    (void)events;
    if (wk.store) {
        storec_fork_release(wk.store, hold->token);
    }
    end_hold(hold);
}

/* Without memory or descriptors the child's views are as good as its parent's pins. */
static void
hold_for_child(void)
{
    int ends[2];
    struct fork_hold *hold = calloc(1, sizeof(*hold));
    if (!hold || pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) {
        free(hold);
        return;
    }
    hold->watch = (struct net_watch){ .fd = ends[0], .on_ready = on_child_over, .ctx = hold };
    list_push_back(&fork_holds, &hold->link);
    forking_end = ends[1];
    if (net_loop_add(wk.loop, &hold->watch, EPOLLIN) != ST_OK ||
        storec_fork_hold(wk.store, &hold->token) != ST_OK) {
        end_hold(hold);
        os_close(&forking_end);
    }
}

static void
before_fork(void)
{
    if (!wk.forked) {
        wk_lock();
        if (wk.running && wk.store && storec_pins_held(wk.store) > 0) {
            hold_for_child();
        }
    }
}

static void
after_fork_parent(void)
{
    if (!wk.forked) {
        os_close(&forking_end); /* there was no child: the pipe ends now */
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
        net_loop_close_in_child(wk.loop);
        os_close(&wk.bell_fd);
        wk_inboxes_close_in_child();
        if (wk.store) {
            storec_after_fork_child(wk.store);
        }
    }
    (void)pthread_mutex_unlock(&wk.lock);
}

/* ---- start ---- */

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
    const int error = pthread_create(&wk.background, &attr, wk_background_main, NULL);
    (void)pthread_attr_destroy(&attr);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (error != 0) {
        return st_fail_errno(ST_SYSTEM, error, "start the background thread");
    }
    wk.background_running = true;
    return ST_OK;
}

static int
make_bell(void)
{
    TRY(os_shm_create("ray-bell", 4096, &wk.bell_fd));
    TRY(os_shm_map(wk.bell_fd, 0, 4096, OS_SHM_WRITE, 0, &wk.bell_memory));
    TRY(os_shm_no_fork(wk.bell_memory, 4096));
    TRY(net_bell_init(&wk.bell, wk.bell_memory, 4096, WK_RINGS_MAX));
    net_bell_set_threshold(&wk.bell, WK_BELL_BYTES);
    return ST_OK;
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
    wk_lead_begin();
    arena_init(&wk.out_arena, wk.mem);
    TRY(net_loop_create(wk.mem, &wk.loop));
    TRY(make_bell());
    wk.kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (wk.kick_fd < 0) {
        return st_fail_errno(ST_SYSTEM, errno, "eventfd");
    }
    wk.kick_watch = (struct net_watch){ .fd = wk.kick_fd, .on_ready = wk_on_kick };
    TRY(net_loop_add(wk.loop, &wk.kick_watch, EPOLLIN | EPOLLET));
    wk.own_timer = (struct net_timer){ .on_timer = on_own_timer };
    wk.lease_timer = (struct net_timer){ .on_timer = on_lease_timer };
    wk.free_timer = (struct net_timer){ .on_timer = on_free_timer };
    wk.stream_timer = (struct net_timer){ .on_timer = wk_stream_on_timer };
    wk.push_timer = (struct net_timer){ .on_timer = wk_on_push_timer };
    wk.room_timer = (struct net_timer){ .on_timer = wk_yield_on_timer };
    list_init(&wk.tells);
    return start_thread();
}

/* ---- stop ---- */

/* Lock held. Kicks and gives the lock up for a moment. */
static void
kick_and_rest(void)
{
    const uint64_t until = wk_now() + WK_TICK_NS;
    const struct timespec limit = { (time_t)(until / 1000000000u), (long)(until % 1000000000u) };
    wk_kick();
    wk_changed();
    wk.now_ns = 0;
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
    while (wk.loop && !list_is_empty(&fork_holds)) {
        end_hold(LIST_ENTRY(fork_holds.next, struct fork_hold, link));
    }
    if (wk.loop) {
        net_loop_disarm(wk.loop, &wk.own_timer);
        net_loop_disarm(wk.loop, &wk.lease_timer);
        net_loop_disarm(wk.loop, &wk.evidence_timer);
        net_loop_disarm(wk.loop, &wk.free_timer);
        net_loop_disarm(wk.loop, &wk.stream_timer);
        net_loop_disarm(wk.loop, &wk.push_timer);
        net_loop_disarm(wk.loop, &wk.room_timer);
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
