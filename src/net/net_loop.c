/* SPDX-License-Identifier: Apache-2.0 */
/* The event loop. See net_loop.h. */
#include "net/net_loop.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/status.h"
#include "os/os_basic.h"

struct loop_slot {
    struct net_watch *watch; /* NULL when free */
    uint32_t generation;
    uint32_t next_free; /* slot + 1 */
};

struct net_loop {
    const struct mem *mem;
    int epoll_fd;
    bool stop;
    struct loop_slot *slots;
    uint32_t slot_count, slot_capacity;
    uint32_t free_slot; /* slot + 1, 0 none */
    struct heap timers;
};

int
net_loop_create(const struct mem *mem, struct net_loop **out)
{
    *out = NULL;
    struct net_loop *loop = mem_alloc(mem, sizeof(*loop));
    if (!loop) {
        return st_fail(ST_OUT_OF_MEMORY, "no memory for an event loop");
    }
    *loop = (struct net_loop){ .mem = mem };
    heap_init(&loop->timers, mem);
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll_fd < 0) {
        const int status = st_fail_errno(ST_SYSTEM, errno, "epoll_create");
        mem_free(mem, loop, sizeof(*loop));
        return status;
    }
    *out = loop;
    return ST_OK;
}

void
net_loop_destroy(struct net_loop **loop)
{
    struct net_loop *l = *loop;
    if (l) {
        os_close(&l->epoll_fd);
        heap_fini(&l->timers);
        mem_free(l->mem, l->slots, l->slot_capacity * sizeof(*l->slots));
        mem_free(l->mem, l, sizeof(*l));
        *loop = NULL;
    }
}

static int
take_slot(struct net_loop *loop, uint32_t *out)
{
    if (loop->free_slot) {
        *out = loop->free_slot - 1;
        loop->free_slot = loop->slots[*out].next_free;
        return ST_OK;
    }
    if (loop->slot_count == loop->slot_capacity) {
        const uint32_t capacity = loop->slot_capacity ? 2 * loop->slot_capacity : 16;
        struct loop_slot *slots =
            loop->mem->resize(loop->mem->ctx, loop->slots, loop->slot_capacity * sizeof(*slots),
                              capacity * sizeof(*slots));
        if (!slots) {
            return st_fail(ST_OUT_OF_MEMORY, "no memory to watch a descriptor");
        }
        loop->slots = slots;
        loop->slot_capacity = capacity;
    }
    *out = loop->slot_count++;
    loop->slots[*out] = (struct loop_slot){ 0 };
    return ST_OK;
}

static uint64_t
event_data(const struct net_watch *watch)
{
    return (uint64_t)watch->generation << 32 | (watch->slot - 1);
}

static void
free_slot(struct net_loop *loop, uint32_t slot)
{
    loop->slots[slot].watch = NULL;
    loop->slots[slot].generation++;
    loop->slots[slot].next_free = loop->free_slot;
    loop->free_slot = slot + 1;
}

void
net_loop_close_in_child(struct net_loop *loop)
{
    for (uint32_t i = 0; i < loop->slot_count; i++) {
        if (loop->slots[i].watch) {
            os_close(&loop->slots[i].watch->fd);
        }
    }
    os_close(&loop->epoll_fd);
}

int
net_loop_add(struct net_loop *loop, struct net_watch *watch, uint32_t events)
{
    ASSERT(watch->slot == 0);
    uint32_t slot = 0;
    TRY(take_slot(loop, &slot));
    loop->slots[slot].watch = watch;
    watch->slot = slot + 1;
    watch->generation = loop->slots[slot].generation;
    struct epoll_event event = { .events = events, .data.u64 = event_data(watch) };
    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, watch->fd, &event) != 0) {
        const int status = st_fail_errno(ST_SYSTEM, errno, "watch descriptor %d", watch->fd);
        free_slot(loop, slot);
        watch->slot = 0;
        return status;
    }
    return ST_OK;
}

int
net_loop_change(struct net_loop *loop, struct net_watch *watch, uint32_t events)
{
    ASSERT(watch->slot != 0);
    struct epoll_event event = { .events = events, .data.u64 = event_data(watch) };
    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, watch->fd, &event) != 0) {
        return st_fail_errno(ST_SYSTEM, errno, "watch descriptor %d", watch->fd);
    }
    return ST_OK;
}

void
net_loop_remove(struct net_loop *loop, struct net_watch *watch)
{
    if (watch->slot == 0) {
        return;
    }
    (void)epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
    free_slot(loop, watch->slot - 1);
    watch->slot = 0;
}

int
net_loop_arm(struct net_loop *loop, struct net_timer *timer, uint64_t when_ns)
{
    heap_remove(&loop->timers, &timer->node);
    return heap_push(&loop->timers, &timer->node, when_ns);
}

void
net_loop_disarm(struct net_loop *loop, struct net_timer *timer)
{
    heap_remove(&loop->timers, &timer->node);
}

uint64_t
net_loop_next_timer(const struct net_loop *loop)
{
    const struct heap_node *first = heap_first(&loop->timers);
    return first ? first->when : UINT64_MAX;
}

void
net_loop_wait(struct net_loop *loop, uint64_t until_ns, struct net_events *events)
{
    struct timespec timeout;
    struct timespec *limit = NULL;
    if (until_ns != UINT64_MAX) {
        const uint64_t now = until_ns ? os_now_ns() : 0;
        const uint64_t left = until_ns > now ? until_ns - now : 0;
        timeout.tv_sec = (time_t)(left / 1000000000u);
        timeout.tv_nsec = (long)(left % 1000000000u);
        limit = &timeout;
    }
    const int n = epoll_pwait2(loop->epoll_fd, events->v, NET_LOOP_EVENTS, limit, NULL);
    events->count = n > 0 ? n : 0;
}

int
net_loop_dispatch(struct net_loop *loop, const struct net_events *events)
{
    int calls = 0;
    const uint64_t now = heap_first(&loop->timers) ? os_now_ns() : 0;
    for (int i = 0; i < events->count; i++) {
        const uint32_t slot = (uint32_t)events->v[i].data.u64;
        const uint32_t generation = (uint32_t)(events->v[i].data.u64 >> 32);
        if (slot >= loop->slot_count || loop->slots[slot].generation != generation ||
            !loop->slots[slot].watch) {
            continue;
        }
        struct net_watch *watch = loop->slots[slot].watch;
        watch->on_ready(watch->ctx, events->v[i].events);
        calls++;
    }
    /* One that arms itself again at once has its next turn in the next dispatch. */
    size_t left = now ? loop->timers.count : 0;
    for (struct heap_node *n; left > 0 && (n = heap_first(&loop->timers)) && n->when <= now;
         calls++, left--) {
        struct net_timer *timer = CONTAINER_OF(n, struct net_timer, node);
        heap_remove(&loop->timers, n);
        timer->on_timer(timer->ctx);
    }
    return calls;
}

void
net_loop_run(struct net_loop *loop)
{
    struct net_events events;
    loop->stop = false;
    while (!loop->stop) {
        net_loop_wait(loop, net_loop_next_timer(loop), &events);
        (void)net_loop_dispatch(loop, &events);
    }
}

void
net_loop_stop(struct net_loop *loop)
{
    loop->stop = true;
}
