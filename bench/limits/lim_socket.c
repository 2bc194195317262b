/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two processes and a unix stream socket between them.  It answers: how long does one message of
 * 100 bytes take there and back, with both sides blocking in read and with both sides waiting in
 * epoll, and how many go one way a second, with one write for each and with one write for 64?
 *
 * Both processes are bound to a processor, since a round trip on one processor takes less than half
 * of one between two, and the scheduler would choose now this, now that.  The figures are of two
 * processors unless they say "on one processor".
 */
#include "lim_common.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define LIM_ROUND_TRIPS 500u
#define LIM_BATCHES     1000u
#define LIM_READ_BYTES  65536u

/* A frame as a real protocol would have it: the length is read before the payload is used. */
struct lim_frame {
    uint32_t length;
    unsigned char payload[LIM_MESSAGE_BYTES];
};

_Static_assert(sizeof(struct lim_frame) == 104, "frames are packed");

static void
write_all(int fd, const void *data, size_t size)
{
    const unsigned char *next = data;
    while (size > 0) {
        const ssize_t n = send(fd, next, size, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EINTR || errno == EAGAIN) {
                continue;
            }
            lim_die("send");
        }
        next += n;
        size -= (size_t)n;
    }
}

/* Waits in epoll until fd can be read; epoll_fd < 0 means that read itself will block. */
static void
wait_readable(int epoll_fd)
{
    struct epoll_event event;
    while (epoll_fd >= 0 && epoll_wait(epoll_fd, &event, 1, -1) < 1) {
        if (errno != EINTR) {
            lim_die("epoll_wait");
        }
    }
}

/* Reads one whole frame; false at the end of the stream. */
static bool
read_frame(int fd, int epoll_fd, struct lim_frame *frame)
{
    size_t have = 0;
    while (have < sizeof(*frame)) {
        wait_readable(epoll_fd);
        const ssize_t n = read(fd, (unsigned char *)frame + have, sizeof(*frame) - have);
        if (n == 0) {
            return false;
        }
        if (n < 0) {
            if (errno == EINTR || errno == EAGAIN) {
                continue;
            }
            lim_die("read");
        }
        have += (size_t)n;
    }
    if (frame->length != LIM_MESSAGE_BYTES) {
        fprintf(stderr, "stream corrupted: length %u\n", frame->length);
        exit(1);
    }
    return true;
}

static int
make_epoll(int fd)
{
    const int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0) {
        lim_die("epoll_create1");
    }
    struct epoll_event event = { .events = EPOLLIN };
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
        lim_die("epoll_ctl");
    }
    if (fcntl(fd, F_SETFL, O_NONBLOCK) != 0) {
        lim_die("fcntl");
    }
    return epoll_fd;
}

static void
serve_echo(int fd, bool use_epoll)
{
    const int epoll_fd = use_epoll ? make_epoll(fd) : -1;
    struct lim_frame frame;
    while (read_frame(fd, epoll_fd, &frame)) {
        write_all(fd, &frame, sizeof(frame));
    }
}

/* Counts frames as they come and answers with one frame after each series. */
static void
serve_count(int fd, size_t series_count)
{
    static unsigned char buffer[LIM_READ_BYTES];
    size_t have = 0;
    size_t frame_count = 0;
    for (;;) {
        const ssize_t n = read(fd, buffer + have, sizeof(buffer) - have);
        if (n == 0) {
            return;
        }
        if (n < 0) {
            lim_die("read");
        }
        have += (size_t)n;
        size_t at = 0;
        struct lim_frame frame;
        while (have - at >= sizeof(frame)) {
            memcpy(&frame, buffer + at, sizeof(frame));
            if (frame.length != LIM_MESSAGE_BYTES) {
                fprintf(stderr, "stream corrupted: length %u\n", frame.length);
                exit(1);
            }
            at += sizeof(frame);
            if (++frame_count == series_count) {
                frame_count = 0;
                write_all(fd, &frame, sizeof(frame));
            }
        }
        memmove(buffer, buffer + at, have - at);
        have -= at;
    }
}

/* Makes the pair and the peer, which serves on that processor until the stream ends; we are on 0.
 */
static pid_t
start_peer(int *fd, bool use_epoll, unsigned cpu_index, size_t series_count)
{
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) {
        lim_die("socketpair");
    }
    const pid_t peer = lim_fork_peer();
    lim_pin(peer == 0 ? cpu_index : 0);
    if (peer == 0) {
        close(fds[0]);
        if (series_count > 0) {
            serve_count(fds[1], series_count);
        } else {
            serve_echo(fds[1], use_epoll);
        }
        _exit(0);
    }
    close(fds[1]);
    *fd = fds[0];
    return peer;
}

static void
measure_round_trip(double seconds, bool use_epoll, unsigned cpu_index, const char *name)
{
    int fd = -1;
    const pid_t peer = start_peer(&fd, use_epoll, cpu_index, 0);
    const int epoll_fd = use_epoll ? make_epoll(fd) : -1;
    struct lim_samples samples = { .count = 0 };
    struct lim_frame frame = { .length = LIM_MESSAGE_BYTES };
    const double stop_s = lim_now_s() + seconds;
    do {
        const double begin_s = lim_now_s();
        for (unsigned i = 0; i < LIM_ROUND_TRIPS; i++) {
            write_all(fd, &frame, sizeof(frame));
            if (!read_frame(fd, epoll_fd, &frame)) {
                fprintf(stderr, "the peer closed the stream\n");
                exit(1);
            }
        }
        lim_samples_add(&samples, (lim_now_s() - begin_s) * 1e6 / LIM_ROUND_TRIPS);
    } while (lim_now_s() < stop_s);
    if (epoll_fd >= 0) {
        close(epoll_fd);
    }
    close(fd);
    lim_join_peer(peer);
    lim_report(name, lim_samples_median(&samples), "us");
}

static void
measure_messages(double seconds, size_t batch_count, const char *name)
{
    static struct lim_frame batch[LIM_BATCH_COUNT];
    for (size_t i = 0; i < LIM_BATCH_COUNT; i++) {
        batch[i].length = LIM_MESSAGE_BYTES;
    }
    const size_t write_count = LIM_BATCHES * LIM_BATCH_COUNT / batch_count;
    const size_t series_count = write_count * batch_count;
    int fd = -1;
    const pid_t peer = start_peer(&fd, false, 1, series_count);
    struct lim_samples samples = { .count = 0 };
    const double stop_s = lim_now_s() + seconds;
    do {
        const double begin_s = lim_now_s();
        for (size_t i = 0; i < write_count; i++) {
            write_all(fd, batch, batch_count * sizeof(batch[0]));
        }
        struct lim_frame answer;
        if (!read_frame(fd, -1, &answer)) {
            fprintf(stderr, "the peer closed the stream\n");
            exit(1);
        }
        lim_samples_add(&samples, (double)series_count / (lim_now_s() - begin_s));
    } while (lim_now_s() < stop_s);
    close(fd);
    lim_join_peer(peer);
    lim_report(name, lim_samples_median(&samples), "messages/s");
}

int
main(int argc, char **argv)
{
    const double seconds = lim_seconds_from_args(argc, argv);
    measure_round_trip(seconds, false, 1, "unix socket round trip");
    measure_round_trip(seconds, false, 0, "unix socket round trip on one processor");
    measure_round_trip(seconds, true, 1, "unix socket round trip with epoll");
    measure_round_trip(seconds, true, 0, "unix socket round trip with epoll on one processor");
    measure_messages(seconds, 1, "unix socket messages one by one");
    measure_messages(seconds, LIM_BATCH_COUNT, "unix socket messages in batches of 64");
    return 0;
}
