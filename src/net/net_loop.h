/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Event loop over epoll: watched descriptors and timers.
 *
 * One thread at a time may use a loop, or several under one lock with net_loop_wait outside of it:
 * net_loop_wait touches nothing but the epoll descriptor and the caller's array, and
 * net_loop_dispatch tolerates events of watches that have been removed meanwhile.
 *
 * A watch or timer is the caller's memory; it is the caller's again when removed or disarmed. Both
 * may be removed from within any callback.
 */
#ifndef RAY_NET_LOOP_H
#define RAY_NET_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "base/heap.h"
#include "base/mem.h"

struct net_loop;

struct net_watch {
    int fd;
    uint32_t slot; /* place in the loop + 1, 0 when not watched */
    uint32_t generation;
    void (*on_ready)(void *ctx, uint32_t events); /* EPOLLIN, EPOLLOUT, EPOLLHUP, EPOLLERR */
    void *ctx;
};

struct net_timer {
    struct heap_node node;
    void (*on_timer)(void *ctx);
    void *ctx;
};

enum { NET_LOOP_EVENTS = 64 }; /* events of one wait */

struct net_events {
    int count;
    struct epoll_event v[NET_LOOP_EVENTS];
};

int net_loop_create(const struct mem *mem, struct net_loop **out) MUST_USE;
/* Nothing may be watched any more. */
void net_loop_destroy(struct net_loop **loop);

/* In the child of a fork: closes the loop's descriptor and all that it watches. Nothing else may be
 * done with it then. */
void net_loop_close_in_child(struct net_loop *loop);

int net_loop_add(struct net_loop *loop, struct net_watch *watch, uint32_t events) MUST_USE;
int net_loop_change(struct net_loop *loop, struct net_watch *watch, uint32_t events) MUST_USE;
void net_loop_remove(struct net_loop *loop, struct net_watch *watch);

/* Arms, or arms anew, for a time of os_now_ns. */
int net_loop_arm(struct net_loop *loop, struct net_timer *timer, uint64_t when_ns) MUST_USE;
void net_loop_disarm(struct net_loop *loop, struct net_timer *timer);
/* When the next timer is due, UINT64_MAX when none is armed. */
uint64_t net_loop_next_timer(const struct net_loop *loop);

/* Waits until something is ready, `until_ns` is reached, or a signal comes (count 0). */
void net_loop_wait(struct net_loop *loop, uint64_t until_ns, struct net_events *events);
/* Calls back for the events and for the timers that were due when it began; one that is armed again
 * has its next turn in the next dispatch. Returns how many callbacks were made. */
int net_loop_dispatch(struct net_loop *loop, const struct net_events *events);

/* Waits and dispatches until net_loop_stop. */
void net_loop_run(struct net_loop *loop);
void net_loop_stop(struct net_loop *loop);

#endif
