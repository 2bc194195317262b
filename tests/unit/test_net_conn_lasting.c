/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lasting connections over real sockets that break at any byte, in both directions.
 *
 * Between the two ends stands a relay that passes bytes and descriptors on, as many as it is told,
 * and then cuts: both sides, or one while the other hasn't seen it yet. RAY_TEST_SEED replays one
 * history.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/rand.h"
#include "base/status.h"
#include "counted_mem.h"
#include "net/net_conn.h"
#include "os/os_basic.h"
#include "os/os_sock.h"

enum { KIND_DATA = 7, KIND_RESUME = 8, KIND_RESUMED = 9, KIND_BELL = 10, PIPES = 5 };

/* ---- memory that is counted ---- */

static struct counted_mem memory = { .allocations_left = -1 };
static const struct mem counted = { .resize = counted_mem_resize, .ctx = &memory };

/* ---- the two ends ---- */

struct end {
    struct net_conn *conn;
    bool opener;
    uint64_t sent, handled;
    uint64_t bells, resumes;
    int over; /* status with which it ended for good */
};

/* One way through the relay. */
struct way {
    char bytes[4096];
    size_t have;
    int fds[OS_SOCK_FDS_MAX];
    int fd_count;
};

struct relay {
    int ends[2]; /* towards the opener, towards the accepting side; -1: cut */
    struct way ways[2];
    size_t budget; /* bytes until it cuts */
};

static struct rand dice;

static size_t
below(size_t n)
{
    return (size_t)rand_below(&dice, n);
}

static struct net_loop *loop;
static struct end ends[2];
static struct net_conn *fresh; /* accepted; hasn't said yet whose it is */
static struct relay relay = { .ends = { -1, -1 } };
static int pipes[PIPES][2];
static ino_t inodes[PIPES];
static bool down; /* the opener has no socket */

static size_t
size_of(uint64_t number)
{
    return number % 97 == 13 ? 200000 + number % 5 : number % 11 == 3 ? 9000 : number * 7 % 300;
}
static int
fds_of(uint64_t number)
{
    return number % 13 == 5 ? (int)(number % 3) + 1 : 0;
}
static uint8_t
byte_of(uint64_t number, size_t at)
{
    return (uint8_t)(number * 31 + at * 7);
}

struct body {
    uint64_t number;
    char bytes[];
};

static void
send_next(struct end *e)
{
    const uint64_t number = ++e->sent;
    const size_t size = size_of(number);
    struct body *body = malloc(sizeof(*body) + size);
    body->number = number;
    for (size_t i = 0; i < size; i++) {
        body->bytes[i] = (char)byte_of(number, i);
    }
    int fds[3];
    for (int i = 0; i < fds_of(number); i++) {
        fds[i] = pipes[(number + (uint64_t)i) % PIPES][0];
    }
    const struct iovec iov[2] = { { body, 5 }, { (char *)body + 5, sizeof(*body) - 5 + size } };
    assert_int_equal(net_conn_send(e->conn, KIND_DATA, 1, 0, iov, 2, fds, fds_of(number)), ST_OK);
    free(body);
}

static void
check_data(struct end *e, const struct net_frame *frame)
{
    struct body head;
    memcpy(&head, frame->body, sizeof(head));
    e->handled++;
    assert_int_equal(head.number, e->handled); /* each once, in order */
    assert_int_equal(frame->size, sizeof(head) + size_of(head.number));
    for (size_t i = 0; i < size_of(head.number); i += 1 + i / 50) {
        assert_int_equal(frame->body[sizeof(head) + i], byte_of(head.number, i));
    }
    assert_int_equal(frame->fd_count, fds_of(head.number));
    for (int i = 0; i < frame->fd_count; i++) {
        struct stat stat;
        assert_int_equal(fstat(frame->fds[i], &stat), 0);
        assert_int_equal(stat.st_ino, inodes[(head.number + (uint64_t)i) % PIPES]);
        if (i % 2 == 0) {
            os_close(&frame->fds[i]);
        }
    }
}

static void
on_frame(void *ctx, struct net_conn *conn, const struct net_frame *frame)
{
    struct end *e = ctx;
    assert_ptr_equal(conn, e->conn);
    if (!(frame->header.flags & NET_FRAME_CONTROL)) {
        check_data(e, frame);
    } else if (frame->header.kind == KIND_BELL) {
        e->bells++;
    } else {
        uint64_t count;
        assert_int_equal(frame->header.kind, KIND_RESUMED);
        assert_true(e->opener);
        memcpy(&count, frame->body, sizeof(count));
        assert_int_equal(net_conn_resume(conn, count), ST_OK);
        e->resumes++;
    }
}

static void
on_close(void *ctx, struct net_conn *conn, int status)
{
    struct end *e = ctx;
    assert_ptr_equal(conn, e->conn);
    if (status != ST_CLOSED && status != ST_SYSTEM) {
        e->over = status;
    } else if (e->opener) {
        down = true;
    }
}

static const struct net_conn_ops ops = { on_frame, on_close };

/* RESUME on a connection that was just accepted. */
static void
on_fresh_frame(void *ctx, struct net_conn *conn, const struct net_frame *frame)
{
    (void)ctx;
    uint64_t count;
    assert_int_equal(frame->header.kind, KIND_RESUME);
    assert_int_equal(frame->header.flags, NET_FRAME_CONTROL);
    memcpy(&count, frame->body, sizeof(count));
    struct end *e = &ends[1];
    if (net_conn_adopt(e->conn, conn) == ST_OK) {
        const uint64_t handled = net_conn_handled(e->conn);
        if (net_conn_send_control(e->conn, KIND_RESUMED, &handled, sizeof(handled)) == ST_OK) {
            assert_int_equal(net_conn_resume(e->conn, count), ST_OK);
            net_conn_ring_bell(e->conn, KIND_BELL);
        }
    }
    net_conn_destroy(&fresh);
}

static void
on_fresh_close(void *ctx, struct net_conn *conn, int status)
{
    (void)ctx;
    (void)conn;
    (void)status;
    net_conn_destroy(&fresh);
}

static const struct net_conn_ops fresh_ops = { on_fresh_frame, on_fresh_close };

static void
turn(void)
{
    struct net_events events;
    net_loop_wait(loop, 0, &events);
    (void)net_loop_dispatch(loop, &events);
}

/* ---- the relay ---- */

static void
cut_end(int which)
{
    os_close(&relay.ends[which]);
    for (int i = 0; i < 2; i++) {
        struct way *way = &relay.ways[i];
        while (way->fd_count > 0) {
            os_close(&way->fds[--way->fd_count]);
        }
        way->have = 0;
    }
}

/* Moves bytes from one side to the other, at most `limit`. */
static void
move(int from, size_t limit)
{
    struct way *way = &relay.ways[from];
    if (relay.ends[from] < 0) {
        return;
    }
    if (way->have == 0) {
        const size_t want = limit < sizeof(way->bytes) ? limit : sizeof(way->bytes);
        const int64_t n =
            os_sock_receive(relay.ends[from], way->bytes, want, way->fds, &way->fd_count);
        if (n < 0) { /* that side has closed it */
            cut_end(from);
            return;
        }
        way->have = (size_t)n;
        relay.budget -= (size_t)n;
    }
    if (way->have > 0 && relay.ends[!from] >= 0) {
        struct iovec iov = { way->bytes, way->have };
        const int64_t n = os_sock_send(relay.ends[!from], &iov, 1, way->fds, way->fd_count);
        if (n > 0) {
            while (way->fd_count > 0) {
                os_close(&way->fds[--way->fd_count]);
            }
            memmove(way->bytes, way->bytes + n, way->have - (size_t)n);
            way->have -= (size_t)n;
        } else if (n < 0) {
            cut_end(!from);
        }
    } else if (way->have > 0) { /* nobody there: it goes nowhere */
        while (way->fd_count > 0) {
            os_close(&way->fds[--way->fd_count]);
        }
        way->have = 0;
    }
}

/* Sockets with a relay between: gives one end of each. */
static void
make_relay(int *opener, int *accepted)
{
    int first[2], second[2];
    cut_end(0);
    cut_end(1);
    assert_int_equal(os_sock_pair(first), ST_OK);
    assert_int_equal(os_sock_pair(second), ST_OK);
    *opener = first[0];
    *accepted = second[0];
    relay.ends[0] = first[1];
    relay.ends[1] = second[1];
    relay.budget = SIZE_MAX;
    const int small = 4096;
    for (int i = 0; i < 2 && below(3) == 0; i++) {
        (void)setsockopt(i ? *opener : *accepted, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    }
}

/* The opener connects again, and asks. */
static void
ask(void)
{
    int opener, accepted;
    if (fresh) { /* the one before is accepted first, as from a listener */
        net_conn_drain(fresh);
        net_conn_destroy(&fresh);
    }
    make_relay(&opener, &accepted);
    assert_int_equal(net_conn_create(loop, &counted, accepted, &fresh_ops, NULL, &fresh), ST_OK);
    const uint64_t handled = net_conn_handled(ends[0].conn);
    down = net_conn_ask(ends[0].conn, opener, KIND_RESUME, &handled, sizeof(handled)) != ST_OK;
}

static void
begin(void)
{
    int opener, accepted;
    memory.in_use = memory.peak = 0;
    memory.allocations_left = -1;
    down = false;
    for (int i = 0; i < PIPES; i++) {
        struct stat stat;
        assert_int_equal(pipe(pipes[i]), 0);
        assert_int_equal(fstat(pipes[i][0], &stat), 0);
        inodes[i] = stat.st_ino;
    }
    assert_int_equal(net_loop_create(os_mem_system(), &loop), ST_OK);
    make_relay(&opener, &accepted);
    const int fds[2] = { opener, accepted };
    for (int i = 0; i < 2; i++) {
        ends[i] = (struct end){ .opener = i == 0 };
        assert_int_equal(net_conn_create(loop, &counted, fds[i], &ops, &ends[i], &ends[i].conn),
                         ST_OK);
        net_conn_make_lasting(ends[i].conn);
    }
}

static void
end(void)
{
    net_conn_destroy(&ends[0].conn);
    net_conn_destroy(&ends[1].conn);
    net_conn_destroy(&fresh);
    cut_end(0);
    cut_end(1);
    net_loop_destroy(&loop);
    for (int i = 0; i < PIPES; i++) {
        os_close(&pipes[i][0]);
        os_close(&pipes[i][1]);
    }
    assert_int_equal(memory.in_use, 0);
}

/* Both sides see an end at last. */
static void
cut_rest(void)
{
    if (relay.ends[0] < 0 || relay.ends[1] < 0) {
        cut_end(0);
        cut_end(1);
    }
}

/* Without breaks, until nothing more moves. */
static void
settle(void)
{
    for (int idle = 0; idle < 20; idle++) {
        const uint64_t before = ends[0].handled + ends[1].handled + ends[0].resumes;
        const size_t had = relay.budget;
        if (down) {
            ask();
        }
        cut_rest();
        for (int i = 0; i < 20; i++) {
            relay.budget = relay.budget < SIZE_MAX / 2 ? SIZE_MAX : relay.budget;
            move(0, 4096);
            move(1, 4096);
            turn();
        }
        if (before != ends[0].handled + ends[1].handled + ends[0].resumes || had != relay.budget) {
            idle = 0;
        }
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ends[i].handled, ends[!i].sent);
        assert_int_equal(net_conn_queued(ends[i].conn), 0);
        assert_int_equal(ends[i].over, 0);
    }
}

/* ---- tests ---- */

static void
random_break(void)
{
    switch (below(5)) {
    case 0:
        cut_end(0);
        break;
    case 1:
        cut_end(1);
        break;
    case 2: /* the opener asks although nobody has seen an end */
        if (net_conn_fd(ends[0].conn) >= 0) {
            (void)shutdown(net_conn_fd(ends[0].conn), SHUT_RDWR);
        }
        break;
    case 3:
        if (net_conn_fd(ends[1].conn) >= 0) {
            (void)shutdown(net_conn_fd(ends[1].conn), (int)below(3));
        }
        break;
    default:
        cut_end(0);
        cut_end(1);
    }
}

static void
random_history(unsigned seed)
{
    rand_init(&dice, seed);
    begin();
    int breaks = 0;
    while (ends[0].sent + ends[1].sent < 1500 || breaks < 60) {
        const size_t what = below(16);
        if (what < 6) {
            struct end *e = &ends[below(2)];
            /* Sometimes faster than the relay passes it on. */
            if (net_conn_queued(e->conn) < 2000000) {
                send_next(e);
            }
        } else if (what < 10) {
            const size_t limit = below(3) ? 4096 : 1 + below(40);
            move((int)below(2), limit < relay.budget ? limit : relay.budget);
        } else if (what < 13) {
            turn();
        } else if (what == 13) {
            net_conn_ring_bell(ends[below(2)].conn, KIND_BELL);
        } else if (what == 14 && relay.budget > SIZE_MAX / 2) {
            const size_t most[] = { 100, 30000, 2000000 }; /* whole large frames get through too */
            relay.budget = below(most[below(3)]);
        }
        if (relay.budget == 0) {
            breaks++;
            random_break();
            relay.budget = SIZE_MAX;
        }
        if (below(8) == 0) {
            cut_rest();
        }
        if (down && below(3) == 0) {
            ask();
            relay.budget = below(8) ? SIZE_MAX : below(60); /* before it is answered */
        }
    }
    settle();
    end();
}

static void
test_breaks_at_any_byte(void **state)
{
    (void)state;
    const char *text = getenv("RAY_TEST_SEED");
    const unsigned first = text ? (unsigned)strtoul(text, NULL, 10) : 1;
    const char *more = getenv("RAY_TEST_COUNT");
    const unsigned count = more ? (unsigned)strtoul(more, NULL, 10) : text ? 1 : 40;
    for (unsigned seed = first; seed < first + count; seed++) {
        print_message("RAY_TEST_SEED=%u\n", seed);
        random_history(seed);
    }
}

/* Every byte of a short history, one after the other, in either direction. */
static void
test_a_break_at_each_byte_of_a_frame(void **state)
{
    (void)state;
    for (int from = 0; from < 2; from++) {
        for (size_t at = 0; at < 600; at++) {
            begin();
            for (int i = 0; i < 6; i++) {
                send_next(&ends[0]);
                send_next(&ends[1]);
            }
            turn();
            for (size_t moved = 0; moved < at;) {
                relay.budget = SIZE_MAX;
                move(from, at - moved);
                if (relay.budget == SIZE_MAX) {
                    break;
                }
                moved += SIZE_MAX - relay.budget;
                turn();
            }
            cut_end((int)(at % 2));
            turn();
            cut_end(!(at % 2));
            turn();
            settle();
            assert_int_equal(ends[0].resumes, 1);
            end();
        }
    }
}

/* All goes one way, and is told in control frames: neither side's memory grows. */
static void
test_one_way_traffic_keeps_little(void **state)
{
    (void)state;
    begin();
    for (int i = 0; i < 20000; i++) {
        send_next(&ends[0]);
        while (net_conn_queued(ends[0].conn) > 0 || i % 16 == 0) {
            const uint64_t before = ends[1].handled;
            move(0, 4096);
            turn();
            move(1, 4096);
            turn();
            if (net_conn_queued(ends[0].conn) == 0 && before == ends[1].handled) {
                break;
            }
        }
    }
    settle();
    assert_true(memory.peak < 3 * 1024 * 1024);
    end();
}

/* The sender may forget what was handled although the word of it couldn't be sent at once: the
 * receiver's own frames waited for room. */
static void
test_the_count_is_told_when_there_is_room_again(void **state)
{
    (void)state;
    begin();
    while (net_conn_queued(ends[1].conn) < 300000) {
        send_next(&ends[1]);
    }
    const size_t before = memory.in_use;
    while (ends[0].sent < 600) {
        send_next(&ends[0]);
    }
    while (ends[1].handled < 600) {
        move(0, 4096);
        turn();
    }
    assert_true(memory.in_use > before);
    settle();
    assert_true(memory.in_use < 500000); /* both have forgotten nearly all */
    end();
}

/* The same when nothing but bells fill the socket. */
static void
test_the_count_is_told_after_many_bells(void **state)
{
    (void)state;
    begin();
    for (int i = 0; i < 20000; i++) {
        net_conn_ring_bell(ends[1].conn, KIND_BELL);
    }
    assert_int_equal(net_conn_queued(ends[1].conn), 0);
    while (ends[0].sent < 600) {
        send_next(&ends[0]);
    }
    while (ends[1].handled < 600) {
        move(0, 4096);
        turn();
    }
    settle();
    assert_true(memory.in_use < 500000);
    end();
}

/* Descriptors that went are closed here once the other side has them, also without its traffic. */
static int
open_fds(void)
{
    int count = 0;
    for (int fd = 0; fd < 1000; fd++) {
        count += fcntl(fd, F_GETFD) >= 0;
    }
    return count;
}

static void
test_kept_descriptors_are_given_back(void **state)
{
    (void)state;
    begin();
    const int before = open_fds();
    while (ends[0].sent < 200) {
        send_next(&ends[0]);
        settle();
    }
    assert_int_equal(open_fds(), before);
    for (int i = 0; i < 20; i++) {
        while (ends[1].sent % 13 != 5) {
            send_next(&ends[1]);
        }
        send_next(&ends[1]);
        cut_end(i % 2);
        turn();
    }
    settle();
    assert_int_equal(open_fds(), before);
    end();
}

/* ---- nonsense ---- */

static void
give_count(int to, uint64_t count)
{
    const struct net_frame_header header = { NET_FRAME_HEADER, NET_FRAME_TOLD, NET_FRAME_CONTROL,
                                             count };
    assert_int_equal(write(relay.ends[to], &header, sizeof(header)), sizeof(header));
    turn();
}

static void
test_nonsense_ends_it_for_good(void **state)
{
    (void)state;
    const uint64_t counts[] = { 3, UINT64_MAX, UINT64_C(1) << 63 };
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        begin();
        send_next(&ends[0]);
        send_next(&ends[0]);
        give_count(0, 2);
        give_count(0, 1);
        assert_int_equal(ends[0].over, 0);
        give_count(0, counts[i]);
        assert_int_equal(ends[0].over, ST_PROTOCOL);
        assert_int_equal(net_conn_send(ends[0].conn, 1, 0, 0, NULL, 0, NULL, 0), ST_CLOSED);
        const uint64_t word = 5; /* yet it can say so */
        assert_int_equal(net_conn_send_control(ends[0].conn, KIND_BELL, &word, sizeof(word)),
                         ST_OK);
        end();
    }
}

static void
test_what_lies_behind_the_question_is_refused(void **state)
{
    (void)state;
    begin();
    int sockets[2];
    assert_int_equal(os_sock_pair(sockets), ST_OK);
    struct {
        struct net_frame_header header;
        uint64_t count;
        struct net_frame_header next;
    } bytes = { { NET_FRAME_HEADER + 8, KIND_RESUME, NET_FRAME_CONTROL, 0 },
                0,
                { NET_FRAME_HEADER, KIND_DATA, 0, 0 } };
    assert_int_equal(write(sockets[0], &bytes, 27), 27);
    assert_int_equal(net_conn_create(loop, &counted, sockets[1], &fresh_ops, NULL, &fresh), ST_OK);
    const int old = net_conn_fd(ends[1].conn);
    turn();
    assert_null(fresh);
    assert_int_equal(net_conn_fd(ends[1].conn), old); /* goes on with what it has */
    send_next(&ends[0]);
    settle();
    os_close(&sockets[0]);
    end();
}

static void
test_counts_on_a_new_socket_that_cannot_be(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        for (uint64_t count = 0; count < 8; count++) {
            begin();
            while (ends[i].sent < 6) {
                send_next(&ends[i]);
            }
            for (int j = 0; j < 40; j++) {
                move(i, 4096);
                turn();
            }
            assert_int_equal(ends[!i].handled, 6);
            send_next(&ends[!i]); /* tells of 6; 5 is with a descriptor, told of already */
            for (int j = 0; j < 40; j++) {
                move(!i, 4096);
                turn();
            }
            (void)shutdown(net_conn_fd(ends[0].conn), SHUT_RDWR);
            turn();
            assert_int_equal(net_conn_resume(ends[i].conn, count),
                             count == 6 ? ST_OK : ST_PROTOCOL);
            end();
        }
    }
}

/* Wherever memory runs out, the one that sends hears of it, and nothing leaks. */
static void
test_memory_that_runs_out(void **state)
{
    (void)state;
    bool failed = true;
    for (long left = 0; failed; left++) {
        begin();
        failed = false;
        memory.allocations_left = left;
        for (uint64_t n = 1; n < 20 && !failed; n++) {
            const struct iovec iov = { pipes, sizeof(pipes) };
            failed = net_conn_send(ends[0].conn, 1, 0, 0, &iov, 1, pipes[0], n % 3 == 0) != ST_OK;
            if (n == 10) {
                cut_end(0);
                turn();
            }
        }
        memory.allocations_left = -1;
        end();
    }
}

int
main(void)
{
    rand_init(&dice, 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_breaks_at_any_byte),
        cmocka_unit_test(test_a_break_at_each_byte_of_a_frame),
        cmocka_unit_test(test_one_way_traffic_keeps_little),
        cmocka_unit_test(test_the_count_is_told_when_there_is_room_again),
        cmocka_unit_test(test_the_count_is_told_after_many_bells),
        cmocka_unit_test(test_kept_descriptors_are_given_back),
        cmocka_unit_test(test_nonsense_ends_it_for_good),
        cmocka_unit_test(test_what_lies_behind_the_question_is_refused),
        cmocka_unit_test(test_counts_on_a_new_socket_that_cannot_be),
        cmocka_unit_test(test_memory_that_runs_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
