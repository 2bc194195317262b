/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A listening socket of a loop. When there is no descriptor for a connection (or no memory), it
 * stays in the socket's queue: the socket is left alone for a while then, and looked at again. A
 * loop that went on watching it would find it ready at once, and do nothing else.
 *
 * Used by the loop's thread alone. The descriptor is the caller's.
 */
#ifndef RAY_NET_NET_ACCEPT_H
#define RAY_NET_NET_ACCEPT_H

#include <stdbool.h>

#include "base/assert.h"
#include "net/net_loop.h"

/* How long it is left alone. */
#define NET_ACCEPT_PAUSE_NS UINT64_C(100000000)

struct net_accept {
    struct net_loop *loop; /* NULL: not open */
    struct net_watch watch;
    struct net_timer timer;
    bool failing;                             /* since the last connection that came through */
    void (*on_connection)(void *ctx, int fd); /* takes fd; may close the listener */
    void *ctx;
};

int net_accept_open(struct net_accept *a, struct net_loop *loop, int fd,
                    void (*on_connection)(void *ctx, int fd), void *ctx) MUST_USE;
/* Accepts no more. May be called again, and on one that is all zero. */
void net_accept_close(struct net_accept *a);

#endif
