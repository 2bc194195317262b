/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of src/os/os_log.c: what a process's log file may grow to. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "harness.h"
#include "os/os_basic.h"
#include "os/os_log.h"

enum { LINES = 500, FILE_MAX = 10000, TEXT_ROOM = 1 << 18 };

static const char *
path_of(const char *name)
{
    static char paths[4][512];
    static int next;
    char *path = paths[next++ % 4];
    (void)snprintf(path, sizeof(paths[0]), "%s/%s", harness_dir(), name);
    return path;
}

/* A process whose standard error is that file writes numbered lines. */
static void
log_lines(const char *path, bool own, const char *most, int first, int count)
{
    const pid_t child = fork();
    if (child == 0) {
        const int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (fd < 0 || dup2(fd, STDERR_FILENO) < 0 ||
            setenv("RAY_ROTATION_MAX_BYTES", most, 1) < 0) {
            _exit(1);
        }
        os_log_init("test");
        if (own) {
            os_log_own_file();
        }
        for (int i = first; i < first + count; i++) {
            os_log(OS_LOG_INFO, "line %d of it", i);
        }
        _exit(0);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

/* The numbers of the file's lines, one after the other; the last, or -1. */
static int
check_lines(const char *path, int *first)
{
    static char text[TEXT_ROOM];
    int last = -1;
    *first = -1;
    if (os_read_text(path, text, sizeof(text)) < 0) {
        return -1;
    }
    for (const char *at = strstr(text, "line "); at; at = strstr(at + 1, "line ")) {
        const int number = (int)strtol(at + 5, NULL, 10);
        if (last >= 0) {
            assert_int_equal(number, last + 1);
        } else {
            *first = number;
        }
        last = number;
    }
    return last;
}

static void
test_own_file_begins_anew(void **state)
{
    (void)state;
    const char *path = path_of("own.log");
    const char *before = path_of("own.log.1");
    log_lines(path, true, "10000", 0, LINES);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_true(st.st_size > 0 && st.st_size <= FILE_MAX);
    assert_int_equal(stat(before, &st), 0);
    assert_true(st.st_size > FILE_MAX / 2 && st.st_size <= FILE_MAX);
    int first = -1, first_before = -1;
    assert_int_equal(check_lines(path, &first), LINES - 1);
    assert_int_equal(check_lines(before, &first_before), first - 1);

    /* The next process goes on where this one ended: its lines count together with the old ones. */
    log_lines(path, true, "10000", LINES, LINES);
    assert_int_equal(stat(path, &st), 0);
    assert_true(st.st_size <= FILE_MAX);
    assert_int_equal(check_lines(path, &first), 2 * LINES - 1);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(unlink(before), 0);
}

static void
test_no_limit(void **state)
{
    (void)state;
    const char *path = path_of("free.log");
    int first = -1;
    log_lines(path, true, "0", 0, LINES);
    assert_int_equal(check_lines(path, &first), LINES - 1);
    assert_int_equal(first, 0);
    assert_int_not_equal(access(path_of("free.log.1"), F_OK), 0);
    assert_int_equal(unlink(path), 0);
}

/* A user's file, say by 2> in a shell, is never renamed. */
static void
test_file_of_somebody_else(void **state)
{
    (void)state;
    const char *path = path_of("user.log");
    int first = -1;
    log_lines(path, false, "10000", 0, LINES);
    assert_int_equal(check_lines(path, &first), LINES - 1);
    assert_int_not_equal(access(path_of("user.log.1"), F_OK), 0);
    assert_int_equal(unlink(path), 0);
}

static void
test_number_of_the_environment(void **state)
{
    (void)state;
    static const char name[] = "RAY_TEST_OS_LOG_NUMBER";
    assert_int_equal(unsetenv(name), 0);
    assert_true(os_env_number(name, 7) == 7);
    static const struct {
        const char *text;
        uint64_t wanted;
    } cases[] = { { "", 7 },    { "0", 0 }, { "12", 12 },
                  { "-1", 7 },  { "x", 7 }, { "18446744073709551616", 7 },
                  { "1 KB", 7 } };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(setenv(name, cases[i].text, 1), 0);
        assert_true(os_env_number(name, 7) == cases[i].wanted);
    }
    assert_int_equal(unsetenv(name), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_own_file_begins_anew),
        cmocka_unit_test(test_no_limit),
        cmocka_unit_test(test_file_of_somebody_else),
        cmocka_unit_test(test_number_of_the_environment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
