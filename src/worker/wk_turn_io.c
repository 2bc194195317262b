/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Turns of event loops: a loop of the face, on a thread of its group, comes here when it has
 * nothing to do, and so leads the engine, or follows; calls begin in it without a hand-over.
 *
 * The loop's own descriptors are in an epoll descriptor of its own, which the engine's watches for
 * edges: a loop that comes here has just found nothing ready there.
 */
#include <sys/epoll.h>

#include "os/os_basic.h"
#include "worker/wk_group.h"
#include "worker/wk_inbox.h"

/* Calls that one turn begins before the loop gets to run them. */
enum { TURN_CALLS = 64 };

/* The thread's event loop. */
static _Thread_local struct turn {
    struct net_watch watch;
    bool readable;
    const struct ray_inbox *inbox;
} my_turn = { .watch = { .fd = -1 } };

static void
on_readable(void *ctx, uint32_t events)
{
    struct turn *turn = ctx;
    (void)events;
    turn->readable = true;
    wk_changed();
}

static int
watch_descriptor(int fd)
{
    struct turn *turn = &my_turn;
    if (turn->watch.fd == fd) {
        return ST_OK;
    }
    if (turn->watch.fd >= 0) {
        net_loop_remove(wk.loop, &turn->watch);
    }
    turn->watch = (struct net_watch){ .fd = fd, .on_ready = on_readable, .ctx = turn };
    turn->readable = false;
    const int status = fd >= 0 ? net_loop_add(wk.loop, &turn->watch, EPOLLIN | EPOLLET) : ST_OK;
    if (status != ST_OK) {
        turn->watch.fd = -1;
    }
    return status;
}

static bool
turn_is_due(void *ctx)
{
    const struct turn *turn = ctx;
    return turn->readable || (wk_my_group && wk_group_may_begin(wk_my_group)) ||
           (turn->inbox && turn->inbox->count > 0) || (wk_my_group && wk_my_group->cancels > 0) ||
           wk_must_leave();
}

static void
begin_calls(void)
{
    for (uint32_t i = 0;
         i < TURN_CALLS && wk_my_group && wk_group_may_begin(wk_my_group) && !wk.leave_now; i++) {
        wk_group_run_first(wk_my_group);
    }
}

static void
wait_for_turn(struct turn *turn, int64_t timeout_ns)
{
    const uint64_t deadline = timeout_ns < 0 ? UINT64_MAX : os_now_ns() + (uint64_t)timeout_ns;
    wk_unlock();
    wk_call_back(wk.worker_options->before_wait);
    wk_lock();
    (void)!wk_wait(turn_is_due, turn, deadline);
    wk_unlock();
    wk_call_back(wk.worker_options->after_wait);
    wk_lock();
}

RAY_API int
ray_worker_turn(ray_inbox *inbox, int fd, int64_t timeout_ns, bool *readable)
{
    struct turn *turn = &my_turn;
    *readable = false;
    wk_lock();
    if (!wk.running || !wk.worker_options) {
        wk_unlock();
        return st_fail(ST_CLOSED, "this process runs no calls");
    }
    const int status = watch_descriptor(fd);
    if (status != ST_OK) {
        wk_unlock();
        return status;
    }
    turn->inbox = inbox;
    wk_poll();
    if (timeout_ns != 0 && !turn_is_due(turn)) {
        wait_for_turn(turn, timeout_ns);
    }
    begin_calls();
    *readable = turn->readable;
    turn->readable = false;
    turn->inbox = NULL;
    const bool closed = wk_must_leave();
    wk_unlock();
    return closed ? RAY_E_CLOSED : RAY_OK;
}
