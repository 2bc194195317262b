/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of net_loop and net_conn over real sockets: order, large frames, descriptors, bad frames.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/status.h"
#include "net/net_conn.h"
#include "os/os_basic.h"
#include "os/os_sock.h"

struct end {
    struct net_conn *conn;
    uint64_t frames, bytes, next_id;
    int close_status;
    int got_fd;
    bool destroy_in_frame;
};

static void
on_frame(void *ctx, struct net_conn *conn, const struct net_frame *frame)
{
    struct end *e = ctx;
    assert_int_equal(frame->header.request_id, e->next_id);
    e->next_id++;
    e->frames++;
    e->bytes += frame->size;
    for (uint32_t i = 0; i < frame->size; i += 997) {
        assert_int_equal(frame->body[i], (uint8_t)frame->header.request_id);
    }
    if (frame->fd_count > 0) {
        e->got_fd = frame->fds[0];
        frame->fds[0] = -1;
    }
    if (e->destroy_in_frame) {
        assert_ptr_equal(conn, e->conn);
        net_conn_destroy(&e->conn);
    }
}

static void
on_close(void *ctx, struct net_conn *conn, int status)
{
    struct end *e = ctx;
    assert_ptr_equal(conn, e->conn);
    assert_int_equal(e->close_status, 0);
    e->close_status = status;
    net_conn_destroy(&e->conn);
}

static const struct net_conn_ops ops = { on_frame, on_close };

static struct net_loop *loop;

static void
pair(struct end *a, struct end *b)
{
    int fds[2];
    *a = *b = (struct end){ .got_fd = -1 };
    assert_int_equal(os_sock_pair(fds), ST_OK);
    assert_int_equal(net_loop_create(os_mem_system(), &loop), ST_OK);
    assert_int_equal(net_conn_create(loop, os_mem_system(), fds[0], &ops, a, &a->conn), ST_OK);
    assert_int_equal(net_conn_create(loop, os_mem_system(), fds[1], &ops, b, &b->conn), ST_OK);
}

static void
turn(void)
{
    struct net_events events;
    net_loop_wait(loop, 0, &events);
    (void)net_loop_dispatch(loop, &events);
}

static void
send_one(struct end *from, uint64_t id, size_t size, int fd)
{
    char *body = malloc(size + 1);
    memset(body, (uint8_t)id, size);
    struct iovec iov[2] = { { body, size / 2 }, { body + size / 2, size - size / 2 } };
    assert_int_equal(net_conn_send(from->conn, 7, 1, id, iov, 2, &fd, fd >= 0 ? 1 : 0), ST_OK);
    free(body);
}

static void
finish(struct end *a, struct end *b)
{
    net_conn_destroy(&a->conn);
    net_conn_destroy(&b->conn);
    net_loop_destroy(&loop);
}

static void
test_frames_keep_order_through_a_full_socket(void **state)
{
    (void)state;
    struct end a, b;
    pair(&a, &b);
    uint64_t bytes = 0;
    for (uint64_t id = 0; id < 3000; id++) {
        const size_t size = id % 100 == 0 ? 300000 : id % 17 * 100;
        bytes += size;
        send_one(&a, id, size, -1);
    }
    assert_true(net_conn_queued(a.conn) > 0);
    while (b.frames < 3000) {
        turn();
    }
    assert_int_equal(b.bytes, bytes);
    assert_int_equal(net_conn_queued(a.conn), 0);
    finish(&a, &b);
}

static void
test_descriptors_come_with_their_frame(void **state)
{
    (void)state;
    struct end a, b;
    pair(&a, &b);
    int pipe_fds[2];
    assert_int_equal(pipe(pipe_fds), 0);
    for (uint64_t id = 0; id < 500; id++) {
        send_one(&a, id, 2000, id == 3 || id == 499 ? pipe_fds[1] : -1);
    }
    while (b.frames < 500) {
        turn();
        if (b.got_fd >= 0) {
            assert_true(b.next_id > 3);
            assert_int_equal(write(b.got_fd, "x", 1), 1);
            os_close(&b.got_fd);
        }
    }
    char got[2];
    assert_int_equal(read(pipe_fds[0], got, 2), 2);
    os_close(&pipe_fds[0]);
    os_close(&pipe_fds[1]);
    finish(&a, &b);
}

/* What is sent before there is a socket, descriptors too, goes first once there is one. */
static void
test_what_is_sent_before_connecting_waits(void **state)
{
    (void)state;
    struct end a = { .got_fd = -1 }, b = { .got_fd = -1 };
    int fds[2], sent;
    assert_int_equal(os_sock_pair(fds), ST_OK);
    assert_int_equal(net_loop_create(os_mem_system(), &loop), ST_OK);
    assert_int_equal(net_conn_create(loop, os_mem_system(), -1, &ops, &a, &a.conn), ST_OK);
    assert_int_equal(net_conn_create(loop, os_mem_system(), fds[1], &ops, &b, &b.conn), ST_OK);
    b.next_id = 1;
    sent = dup(0);
    assert_int_equal(net_conn_send(a.conn, 9, 0, 1, NULL, 0, NULL, 0), ST_OK);
    assert_int_equal(net_conn_send(a.conn, 9, 0, 2, NULL, 0, &sent, 1), ST_OK);
    assert_int_equal(close(sent), 0);
    net_conn_ring_bell(a.conn, 9);
    net_conn_drain(a.conn);
    turn();
    assert_int_equal(b.frames, 0);
    assert_int_equal(net_conn_attach(a.conn, fds[0]), ST_OK);
    assert_int_equal(net_conn_send(a.conn, 9, 0, 3, NULL, 0, NULL, 0), ST_OK);
    turn();
    assert_int_equal(b.frames, 3);
    assert_true(b.got_fd >= 0);
    assert_int_equal(close(b.got_fd), 0);
    net_conn_destroy(&a.conn);
    net_conn_destroy(&b.conn);
    assert_int_equal(net_conn_create(loop, os_mem_system(), -1, &ops, &a, &a.conn), ST_OK);
    assert_int_equal(net_conn_send(a.conn, 9, 0, 1, NULL, 0, NULL, 0), ST_OK);
    net_conn_destroy(&a.conn);
    net_loop_destroy(&loop);
}

static void
test_malformed_frame_ends_the_connection(void **state)
{
    (void)state;
    struct end a, b;
    pair(&a, &b);
    const struct net_frame_header bad = { .length = 3 };
    assert_int_equal(write(net_conn_fd(a.conn), &bad, sizeof(bad)), sizeof(bad));
    turn();
    assert_int_equal(b.close_status, ST_PROTOCOL);
    turn();
    assert_int_equal(a.close_status, ST_CLOSED);
    finish(&a, &b);
}

static void
test_a_reader_may_destroy_in_its_callback(void **state)
{
    (void)state;
    struct end a, b;
    pair(&a, &b);
    b.destroy_in_frame = true;
    send_one(&a, 0, 10, -1);
    send_one(&a, 1, 10, -1);
    turn();
    assert_null(b.conn);
    assert_int_equal(b.frames, 1);
    assert_int_equal(b.close_status, 0);
    turn();
    assert_int_equal(a.close_status, ST_CLOSED);
    finish(&a, &b);
}

static void
test_what_was_sent_before_a_death_arrives(void **state)
{
    (void)state;
    struct end a, b;
    pair(&a, &b);
    for (uint64_t id = 0; id < 50; id++) {
        send_one(&a, id, 1000, -1);
    }
    net_conn_destroy(&a.conn);
    net_conn_drain(b.conn);
    assert_int_equal(b.frames, 50);
    assert_int_equal(b.close_status, ST_CLOSED);
    finish(&a, &b);
}

static struct net_timer first, second;
static int fired;

static void
on_first(void *ctx)
{
    (void)ctx;
    fired++;
    net_loop_disarm(loop, &second);
}

static void
test_timers_fire_once_and_can_be_disarmed(void **state)
{
    (void)state;
    assert_int_equal(net_loop_create(os_mem_system(), &loop), ST_OK);
    first = (struct net_timer){ .on_timer = on_first };
    second = first;
    assert_int_equal(net_loop_next_timer(loop), UINT64_MAX);
    assert_int_equal(net_loop_arm(loop, &first, 5), ST_OK);
    assert_int_equal(net_loop_arm(loop, &second, 6), ST_OK);
    turn();
    turn();
    assert_int_equal(fired, 1);
    net_loop_destroy(&loop);
}

static void
on_again(void *ctx)
{
    struct net_timer *timer = ctx;
    fired++;
    assert_int_equal(net_loop_arm(loop, timer, 7), ST_OK); /* long past */
}

static void
test_a_timer_armed_again_at_once_does_not_keep_the_loop(void **state)
{
    (void)state;
    assert_int_equal(net_loop_create(os_mem_system(), &loop), ST_OK);
    first = (struct net_timer){ .on_timer = on_again, .ctx = &first };
    fired = 0;
    assert_int_equal(net_loop_arm(loop, &first, 5), ST_OK);
    turn();
    assert_int_equal(fired, 1);
    turn();
    assert_int_equal(fired, 2);
    net_loop_disarm(loop, &first);
    net_loop_destroy(&loop);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frames_keep_order_through_a_full_socket),
        cmocka_unit_test(test_descriptors_come_with_their_frame),
        cmocka_unit_test(test_what_is_sent_before_connecting_waits),
        cmocka_unit_test(test_malformed_frame_ends_the_connection),
        cmocka_unit_test(test_a_reader_may_destroy_in_its_callback),
        cmocka_unit_test(test_what_was_sent_before_a_death_arrives),
        cmocka_unit_test(test_timers_fire_once_and_can_be_disarmed),
        cmocka_unit_test(test_a_timer_armed_again_at_once_does_not_keep_the_loop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
