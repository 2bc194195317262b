/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of net_accept: connections come through, and wait while there is no descriptor for them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/status.h"
#include "harness.h"
#include "net/net_accept.h"
#include "os/os_basic.h"
#include "os/os_sock.h"

struct world {
    struct net_loop *loop;
    struct net_accept accept;
    char path[512];
    int listener, accepted;
    bool close_at_first;
};

static void
on_connection(void *ctx, int fd)
{
    struct world *w = ctx;
    w->accepted++;
    os_close(&fd);
    if (w->close_at_first) {
        net_accept_close(&w->accept);
    }
}

static void
open_world(struct world *w)
{
    *w = (struct world){ .listener = -1 };
    (void)snprintf(w->path, sizeof(w->path), "%s/s", harness_dir());
    assert_int_equal(net_loop_create(os_mem_system(), &w->loop), ST_OK);
    assert_int_equal(os_sock_listen(w->path, &w->listener), ST_OK);
    assert_int_equal(net_accept_open(&w->accept, w->loop, w->listener, on_connection, w), ST_OK);
}

static void
close_world(struct world *w)
{
    net_accept_close(&w->accept);
    net_accept_close(&w->accept);
    net_loop_destroy(&w->loop);
    os_close(&w->listener);
}

/* One turn of the loop, until an event or a timer; how many callbacks it made. */
static int
turn(struct world *w)
{
    struct net_events events;
    net_loop_wait(w->loop, net_loop_next_timer(w->loop), &events);
    return net_loop_dispatch(w->loop, &events);
}

static void
test_connections_come_through(void **state)
{
    (void)state;
    struct world w;
    int clients[3];
    open_world(&w);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(os_sock_connect(w.path, &clients[i]), ST_OK);
    }
    assert_int_equal(turn(&w), 1);
    assert_int_equal(w.accepted, 3);
    for (int i = 0; i < 3; i++) {
        os_close(&clients[i]);
    }
    close_world(&w);
}

static void
test_it_may_be_closed_by_a_connection(void **state)
{
    (void)state;
    struct world w;
    int clients[2];
    open_world(&w);
    w.close_at_first = true;
    assert_int_equal(os_sock_connect(w.path, &clients[0]), ST_OK);
    assert_int_equal(os_sock_connect(w.path, &clients[1]), ST_OK);
    assert_int_equal(turn(&w), 1);
    assert_int_equal(w.accepted, 1);
    os_close(&clients[0]);
    os_close(&clients[1]);
    close_world(&w);
}

static void
test_without_descriptors_they_wait(void **state)
{
    (void)state;
    struct world w;
    struct rlimit before, none;
    int client = -1;
    open_world(&w);
    assert_int_equal(os_sock_connect(w.path, &client), ST_OK);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = (struct rlimit){ .rlim_cur = 0, .rlim_max = before.rlim_max };
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    const uint64_t begin_ns = os_now_ns();
    assert_int_equal(turn(&w), 1);
    /* The loop has nothing to do now until the time has come, and then again. */
    for (int i = 1; i <= 2; i++) {
        assert_int_equal(turn(&w), 1); /* the timer */
        assert_true(os_now_ns() - begin_ns >= (uint64_t)i * NET_ACCEPT_PAUSE_NS);
        assert_int_equal(turn(&w), 1); /* the socket */
        assert_int_equal(w.accepted, 0);
    }
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(turn(&w), 1);
    assert_int_equal(turn(&w), 1);
    assert_int_equal(w.accepted, 1);
    os_close(&client);
    close_world(&w);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_connections_come_through),
        cmocka_unit_test(test_it_may_be_closed_by_a_connection),
        cmocka_unit_test(test_without_descriptors_they_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
