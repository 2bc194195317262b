/* SPDX-License-Identifier: Apache-2.0 */
/* Listening sockets. See net_accept.h. */
#include "net/net_accept.h"

#include <sys/epoll.h>

#include "base/status.h"
#include "os/os_basic.h"
#include "os/os_log.h"
#include "os/os_sock.h"

static void
pause_accepting(struct net_accept *a)
{
    if (!a->failing) { /* once: it may go on for long */
        os_log(OS_LOG_WARN, "connections have to wait: %s", st_last()->text);
    }
    a->failing = true;
    if (net_loop_arm(a->loop, &a->timer, os_now_ns() + NET_ACCEPT_PAUSE_NS) == ST_OK) {
        net_loop_remove(a->loop, &a->watch);
    }
}

static void
on_timer(void *ctx)
{
    struct net_accept *a = ctx;
    if (net_loop_add(a->loop, &a->watch, EPOLLIN) != ST_OK) {
        pause_accepting(a);
    }
}

static void
on_ready(void *ctx, uint32_t events)
{
    (void)events;
    struct net_accept *a = ctx;
    while (a->loop) {
        int fd = -1;
        const int status = os_sock_accept(a->watch.fd, &fd);
        if (status == ST_WOULD_BLOCK) {
            return;
        }
        if (status != ST_OK) {
            pause_accepting(a);
            return;
        }
        a->failing = false;
        a->on_connection(a->ctx, fd);
    }
}

int
net_accept_open(struct net_accept *a, struct net_loop *loop, int fd,
                void (*on_connection)(void *ctx, int fd), void *ctx)
{
    *a = (struct net_accept){ .on_connection = on_connection, .ctx = ctx };
    a->watch = (struct net_watch){ .fd = fd, .on_ready = on_ready, .ctx = a };
    a->timer = (struct net_timer){ .on_timer = on_timer, .ctx = a };
    TRY(net_loop_add(loop, &a->watch, EPOLLIN));
    a->loop = loop;
    return ST_OK;
}

void
net_accept_close(struct net_accept *a)
{
    if (a->loop) {
        net_loop_disarm(a->loop, &a->timer);
        net_loop_remove(a->loop, &a->watch);
        a->loop = NULL;
    }
}
