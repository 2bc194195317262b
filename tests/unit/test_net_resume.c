/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of net_resume: what is kept and forgotten, rewinding, counts that can't be, memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rand.h"
#include "base/status.h"
#include "counted_mem.h"
#include "net/net_frame.h"
#include "net/net_resume.h"

/* ---- memory that is counted, and that runs out ---- */

static struct counted_mem memory = { .allocations_left = -1 };
static const struct mem counted = { .resize = counted_mem_resize, .ctx = &memory };

static struct rand dice;

static size_t
below(size_t n)
{
    return (size_t)rand_below(&dice, n);
}

/* ---- frames ---- */

static uint8_t
byte_of(uint64_t number, size_t at)
{
    return (uint8_t)(number * 31 + at * 7);
}

/* Appends frame `number` with so many bytes behind its header, in three pieces. */
static int
append(struct net_resume *r, uint64_t number, size_t size, size_t written)
{
    uint8_t *body = malloc(size + 1);
    for (size_t i = 0; i < size; i++) {
        body[i] = byte_of(number, i);
    }
    struct net_frame_header header = { .length = (uint32_t)(NET_FRAME_HEADER + size),
                                       .request_id = number };
    const struct iovec iov[3] = { { &header, sizeof(header) },
                                  { body, size / 3 },
                                  { body + size / 3, size - size / 3 } };
    const int status = net_resume_append(r, iov, 3, written);
    free(body);
    return status;
}

/* The next thing to be written is this frame, from byte `from` of it on; so much of it goes. */
static void
write_of(struct net_resume *r, uint64_t number, size_t size, size_t from, size_t count)
{
    const char *bytes = NULL;
    const size_t n = net_resume_unwritten(r, &bytes);
    assert_true(n >= count);
    for (size_t i = 0; i < count; i++) {
        const size_t at = from + i;
        if (at >= NET_FRAME_HEADER) {
            assert_int_equal((uint8_t)bytes[i], byte_of(number, at - NET_FRAME_HEADER));
        } else if (at == 0 && count >= NET_FRAME_HEADER) {
            struct net_frame_header header;
            memcpy(&header, bytes, sizeof(header));
            assert_int_equal(header.length, NET_FRAME_HEADER + size);
            assert_int_equal(header.request_id, number);
        }
    }
    net_resume_wrote(r, count);
}

static void
write_whole(struct net_resume *r, uint64_t number, size_t size)
{
    write_of(r, number, size, 0, NET_FRAME_HEADER + size);
}

static size_t
unwritten(const struct net_resume *r)
{
    const char *bytes;
    return net_resume_unwritten(r, &bytes);
}

static struct net_resume r;

static void
begin(bool lasting)
{
    memory.in_use = memory.peak = 0;
    memory.allocations_left = -1;
    net_resume_init(&r, &counted, lasting);
}

static void
end(void)
{
    net_resume_fini(&r);
    assert_int_equal(memory.in_use, 0);
}

/* ---- tests ---- */

static void
test_what_is_written_is_kept_until_it_is_handled(void **state)
{
    (void)state;
    begin(true);
    for (uint64_t n = 1; n <= 4; n++) {
        assert_int_equal(append(&r, n, 100, 0), ST_OK);
    }
    write_whole(&r, 1, 100);
    write_whole(&r, 2, 100);
    write_of(&r, 3, 100, 0, 50);
    assert_int_equal(net_resume_on_told(&r, 1), ST_OK);
    assert_int_equal(net_resume_waiting(&r), 2 * 116 - 50);
    net_resume_broke(&r);
    assert_int_equal(unwritten(&r), 0);
    assert_int_equal(net_resume_ask(&r), 0);
    assert_int_equal(unwritten(&r), 0);
    assert_int_equal(net_resume_on_count(&r, 1), ST_OK);
    for (uint64_t n = 2; n <= 4; n++) {
        write_whole(&r, n, 100);
    }
    assert_int_equal(unwritten(&r), 0);
    assert_int_equal(net_resume_on_told(&r, 4), ST_OK);
    assert_int_equal(r.out.size, 0);
    end();
}

/* A frame that the socket took at once is kept like one that waited. */
static void
test_what_went_out_before_it_was_appended_is_kept(void **state)
{
    (void)state;
    begin(true);
    assert_int_equal(append(&r, 1, 200, 216), ST_OK);
    assert_int_equal(net_resume_waiting(&r), 0);
    assert_int_equal(append(&r, 2, 200, 7), ST_OK);
    assert_int_equal(net_resume_waiting(&r), 209);
    write_of(&r, 2, 200, 7, 20);
    net_resume_broke(&r);
    assert_int_equal(append(&r, 3, 10, 0), ST_OK);
    assert_int_equal(net_resume_on_count(&r, 0), ST_OK);
    write_whole(&r, 1, 200);
    write_whole(&r, 2, 200);
    write_whole(&r, 3, 10);
    end();
}

static void
test_counts_that_cannot_be_are_refused(void **state)
{
    (void)state;
    begin(true);
    for (uint64_t n = 1; n <= 3; n++) {
        assert_int_equal(append(&r, n, 40, 0), ST_OK);
    }
    write_whole(&r, 1, 40);
    write_of(&r, 2, 40, 0, 55);
    const size_t size = r.out.size;
    assert_int_equal(net_resume_on_told(&r, 4), ST_PROTOCOL); /* never sent */
    assert_int_equal(net_resume_on_told(&r, UINT64_MAX), ST_PROTOCOL);
    assert_int_equal(net_resume_on_told(&r, 2), ST_PROTOCOL); /* not written to its end */
    assert_int_equal(net_resume_on_told(&r, 3), ST_PROTOCOL);
    assert_int_equal(r.out.size, size);
    net_resume_wrote(&r, 1);
    assert_int_equal(net_resume_on_told(&r, 2), ST_OK);
    assert_int_equal(net_resume_on_told(&r, 0), ST_OK); /* older: changes nothing */
    assert_int_equal(r.known, 2);
    net_resume_broke(&r);
    assert_int_equal(net_resume_on_count(&r, 1), ST_PROTOCOL); /* it has forgotten one */
    assert_int_equal(net_resume_on_count(&r, 4), ST_PROTOCOL);
    assert_int_equal(net_resume_on_count(&r, 3), ST_PROTOCOL);
    assert_int_equal(net_resume_on_count(&r, UINT64_MAX), ST_PROTOCOL);
    assert_true(r.down);
    assert_int_equal(net_resume_on_count(&r, 2), ST_OK);
    write_whole(&r, 3, 40);
    end();
}

/* After a rewind nothing counts as written that isn't written again. */
static void
test_a_count_of_what_is_yet_to_be_sent_again(void **state)
{
    (void)state;
    begin(true);
    for (uint64_t n = 1; n <= 3; n++) {
        assert_int_equal(append(&r, n, 8, 24), ST_OK);
    }
    net_resume_broke(&r);
    assert_int_equal(net_resume_on_count(&r, 1), ST_OK);
    assert_int_equal(net_resume_on_told(&r, 2), ST_PROTOCOL);
    write_whole(&r, 2, 8);
    assert_int_equal(net_resume_on_told(&r, 2), ST_OK);
    assert_int_equal(net_resume_on_told(&r, 3), ST_PROTOCOL);
    end();
}

static void
test_several_breaks_before_an_answer(void **state)
{
    (void)state;
    begin(true);
    assert_int_equal(append(&r, 1, 8, 24), ST_OK);
    for (int i = 0; i < 5; i++) {
        net_resume_broke(&r);
        net_resume_on_frame(&r, 10);
        assert_int_equal(net_resume_ask(&r), i + 1);
        assert_int_equal(append(&r, (uint64_t)i + 2, 8, 0), ST_OK);
        assert_int_equal(unwritten(&r), 0);
    }
    assert_int_equal(net_resume_on_count(&r, 0), ST_OK);
    assert_int_equal(net_resume_on_count(&r, 0), ST_OK); /* answered twice */
    for (uint64_t n = 1; n <= 6; n++) {
        write_whole(&r, n, 8);
    }
    end();
}

static void
test_it_says_when_it_must_tell(void **state)
{
    (void)state;
    begin(true);
    for (int i = 0; i < 31; i++) {
        net_resume_on_frame(&r, 100);
    }
    assert_false(net_resume_must_tell(&r));
    net_resume_on_frame(&r, 0);
    assert_true(net_resume_must_tell(&r));
    assert_int_equal(net_resume_tell(&r), 32);
    assert_false(net_resume_must_tell(&r));
    net_resume_on_frame(&r, 64 * 1024 - 1);
    assert_false(net_resume_must_tell(&r));
    net_resume_on_frame(&r, 1);
    assert_true(net_resume_must_tell(&r));
    assert_int_equal(net_resume_ask(&r), 34);
    assert_false(net_resume_must_tell(&r));
    end();
}

static void
test_without_lasting_only_what_waits_is_held(void **state)
{
    (void)state;
    begin(false);
    assert_int_equal(append(&r, 1, 100, 116), ST_OK);
    assert_int_equal(r.out.size, 0);
    assert_int_equal(net_resume_position(&r), 116);
    assert_int_equal(append(&r, 2, 100, 30), ST_OK);
    assert_int_equal(r.out.size, 86);
    assert_int_equal(net_resume_position(&r), 146);
    assert_int_equal(append(&r, 3, 100, 0), ST_OK);
    write_of(&r, 2, 100, 30, 86);
    assert_int_equal(net_resume_position(&r), 232);
    assert_int_equal(r.out.size - r.start, 116);
    write_whole(&r, 3, 100);
    assert_int_equal(r.out.size, 0);
    assert_int_equal(net_resume_position(&r), 348);
    end();
}

/* Every byte has a place in the stream for good, whatever is forgotten, moved or rewound. */
static void
check_positions(bool lasting, unsigned seed)
{
    enum { FRAMES = 4000 };
    static uint64_t place[FRAMES + 2];
    static size_t size[FRAMES + 1];
    uint64_t next = 1, writing = 1, told = 0;
    size_t into = 0, kept_most = 0;
    rand_init(&dice, seed);
    begin(lasting);
    place[1] = 0;
    while (told < FRAMES) {
        const size_t what = below(10);
        if (what < 4 && next <= FRAMES) {
            size[next] = below(50) == 0 ? below(300000) : below(500);
            size_t written = 0;
            if (net_resume_waiting(&r) == 0 && !r.down && below(2)) {
                written = below(size[next] + NET_FRAME_HEADER + 1);
            }
            assert_int_equal(append(&r, next, size[next], written), ST_OK);
            place[next + 1] = place[next] + NET_FRAME_HEADER + size[next];
            if (written > 0) {
                assert_int_equal(writing, next);
                into = written;
            }
            next++;
        } else if (what < 8 && unwritten(&r) > 0) {
            assert_int_equal(net_resume_position(&r), place[writing] + into);
            const size_t left = NET_FRAME_HEADER + size[writing] - into;
            const size_t count = below(2) ? left : 1 + below(left);
            write_of(&r, writing, size[writing], into, count);
            into += count;
        } else if (what == 8 && lasting) {
            told += below(writing - told);
            assert_int_equal(net_resume_on_told(&r, told), ST_OK);
            assert_int_equal(r.base, place[told + 1]);
        } else if (what == 9 && lasting && below(10) == 0) {
            net_resume_broke(&r);
            told += below(writing - told);
            assert_int_equal(net_resume_on_count(&r, told), ST_OK);
            writing = told + 1;
            into = 0;
            assert_int_equal(net_resume_position(&r), place[writing]);
        }
        while (writing < next && into == NET_FRAME_HEADER + size[writing]) {
            writing++;
            into = 0;
        }
        if (!lasting) {
            told = writing - 1;
        }
        const size_t kept =
            (size_t)(place[next] - (lasting ? place[told + 1] : place[writing] + into));
        assert_int_equal(r.out.size - r.start, kept);
        kept_most = kept > kept_most ? kept : kept_most;
    }
    assert_int_equal(r.out.size, 0);
    assert_true(memory.in_use <= 1024);
    assert_true(memory.peak <=
                6 * (kept_most + 256 * 1024)); /* the forgotten part is moved away in time */
    end();
}

static void
test_positions_hold_over_long_streams(void **state)
{
    (void)state;
    const char *text = getenv("RAY_TEST_SEED");
    const unsigned first = text ? (unsigned)strtoul(text, NULL, 10) : 1;
    for (unsigned seed = first; seed < first + (text ? 1 : 20); seed++) {
        print_message("RAY_TEST_SEED=%u\n", seed);
        check_positions(true, seed);
        check_positions(false, seed);
    }
}

/* Traffic without end in one direction, each frame handled soon after: memory stays small. */
static void
test_memory_stays_bounded_when_counts_come(void **state)
{
    (void)state;
    begin(true);
    for (uint64_t n = 1; n <= 100000; n++) {
        assert_int_equal(append(&r, n, 1000, 1016), ST_OK);
        if (n % 32 == 0) {
            assert_int_equal(net_resume_on_told(&r, n - 5), ST_OK);
        }
    }
    assert_true(memory.peak < 1024 * 1024);
    assert_int_equal(net_resume_on_told(&r, 100000), ST_OK);
    assert_true(memory.in_use <= 1024);
    end();
}

/* Wherever memory runs out: nothing was appended, and what was is as before. */
static void
test_memory_that_runs_out(void **state)
{
    (void)state;
    for (long left = 0;; left++) {
        begin(true);
        assert_int_equal(append(&r, 1, 10, 26), ST_OK);
        uint64_t sent = 1;
        memory.allocations_left = left;
        for (uint64_t n = 2; n < 40; n++) {
            const size_t size = r.out.size;
            if (append(&r, n, n * 700, 0) == ST_OK) {
                sent = n;
                continue;
            }
            assert_int_equal(r.out.size, size);
            assert_false(r.out.failed);
            assert_int_equal(r.sent, sent);
            break;
        }
        const bool through = memory.allocations_left != 0;
        memory.allocations_left = -1;
        net_resume_broke(&r);
        assert_int_equal(net_resume_on_count(&r, 0), ST_OK);
        write_whole(&r, 1, 10);
        for (uint64_t n = 2; n <= sent; n++) {
            write_whole(&r, n, n * 700);
        }
        assert_int_equal(unwritten(&r), 0);
        assert_int_equal(net_resume_on_told(&r, sent), ST_OK);
        end();
        if (through) {
            assert_true(left > 1);
            break;
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_written_is_kept_until_it_is_handled),
        cmocka_unit_test(test_what_went_out_before_it_was_appended_is_kept),
        cmocka_unit_test(test_counts_that_cannot_be_are_refused),
        cmocka_unit_test(test_a_count_of_what_is_yet_to_be_sent_again),
        cmocka_unit_test(test_several_breaks_before_an_answer),
        cmocka_unit_test(test_it_says_when_it_must_tell),
        cmocka_unit_test(test_without_lasting_only_what_waits_is_held),
        cmocka_unit_test(test_positions_hold_over_long_streams),
        cmocka_unit_test(test_memory_stays_bounded_when_counts_come),
        cmocka_unit_test(test_memory_that_runs_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
