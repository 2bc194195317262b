/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of src/os/os_dir.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/status.h"
#include "harness.h"
#include "os/os_basic.h"
#include "os/os_dir.h"

static const char *
in_dir(const char *name)
{
    static char paths[8][512];
    static int next;
    char *path = paths[next++ % 8];
    (void)snprintf(path, sizeof(paths[0]), "%s/%s", harness_dir(), name);
    return path;
}

static void
test_making(void **state)
{
    (void)state;
    assert_int_equal(os_dir_make(in_dir("a/b/c"), 0700), ST_OK);
    assert_int_equal(os_dir_make(in_dir("a/b/c"), 0700), ST_OK);
    assert_int_equal(os_dir_make_new(in_dir("a"), 0700), ST_EXISTS);
    assert_true(os_dir_private(in_dir("a")));
    assert_int_equal(chmod(in_dir("a"), 0750), 0);
    assert_false(os_dir_private(in_dir("a")));
    assert_int_equal(symlink("b", in_dir("a/link")), 0);
    assert_false(os_dir_private(in_dir("a/link")));
    assert_true(os_dir_trusted(in_dir("a")) && os_dir_trusted("/tmp"));
    assert_int_equal(chmod(in_dir("a/b"), 0777), 0);
    assert_false(os_dir_trusted(in_dir("a/b")) || os_dir_trusted(in_dir("a/link")));
    os_dir_make_sticky(in_dir("a/b"));
    assert_true(os_dir_trusted(in_dir("a/b")) && os_dir_trusted(in_dir("a/link")));
    assert_false(os_dir_trusted(in_dir("none")));
    assert_false(os_dir_is_full(harness_dir()));
    assert_true(os_dir_is_full("/proc"));
    assert_int_equal(os_file_write(in_dir("file"), "x", 1, 0600), ST_OK);
    assert_int_equal(os_dir_make(in_dir("file"), 0700), ST_SYSTEM);
    assert_int_equal(os_dir_make(in_dir("file/under"), 0700), ST_SYSTEM);
    assert_int_equal(os_dir_make("", 0700), ST_INVALID_ARGUMENT);
}

/* Links are removed, never followed. */
static void
test_removing(void **state)
{
    (void)state;
    assert_int_equal(os_dir_make(in_dir("keep"), 0700), ST_OK);
    assert_int_equal(os_file_write(in_dir("keep/it"), "x", 1, 0600), ST_OK);
    assert_int_equal(os_dir_make(in_dir("go/deep/er"), 0700), ST_OK);
    assert_int_equal(os_file_write(in_dir("go/deep/file"), "x", 1, 0600), ST_OK);
    assert_int_equal(symlink("../../keep", in_dir("go/deep/link")), 0);
    assert_int_equal(os_dir_remove(in_dir("go")), ST_OK);
    assert_int_equal(os_dir_remove(in_dir("go")), ST_OK);
    assert_int_not_equal(access(in_dir("go"), F_OK), 0);
    assert_int_equal(access(in_dir("keep/it"), F_OK), 0);
    assert_int_equal(symlink("keep", in_dir("alias")), 0);
    assert_int_equal(os_dir_remove(in_dir("alias")), ST_SYSTEM);
    assert_int_equal(access(in_dir("keep/it"), F_OK), 0);
}

static void
test_writing_replaces_at_once(void **state)
{
    (void)state;
    char text[16];
    assert_int_equal(os_file_write(in_dir("f"), "first", 5, 0600), ST_OK);
    assert_int_equal(os_file_write(in_dir("f"), "2nd", 3, 0600), ST_OK);
    assert_int_equal(os_read_text(in_dir("f"), text, sizeof(text)), 3);
    assert_string_equal(text, "2nd");
    assert_int_equal(os_file_write(in_dir("none/f"), "x", 1, 0600), ST_SYSTEM);
    assert_int_equal(os_link_replace("one", in_dir("l")), ST_OK);
    assert_int_equal(os_link_replace("two", in_dir("l")), ST_OK);
    const ssize_t n = readlink(in_dir("l"), text, sizeof(text));
    assert_int_equal(n, 3);
    assert_memory_equal(text, "two", 3);
}

static bool
count_until(void *ctx, const char *name)
{
    assert_true(name[0] != '.');
    int *left = ctx;
    return --*left > 0;
}

static void
test_walking(void **state)
{
    (void)state;
    assert_int_equal(os_dir_make(in_dir("x"), 0700), ST_OK);
    assert_int_equal(os_dir_make(in_dir("y"), 0700), ST_OK);
    int left = 10;
    assert_int_equal(os_dir_each(harness_dir(), count_until, &left), ST_OK);
    assert_int_equal(left, 8);
    left = 1;
    assert_int_equal(os_dir_each(harness_dir(), count_until, &left), ST_OK);
    assert_int_equal(left, 0);
    assert_int_equal(os_dir_each(in_dir("missing"), count_until, &left), ST_SYSTEM);
}

static void
test_paths_that_are_too_long(void **state)
{
    (void)state;
    char path[8];
    assert_int_equal(os_path(path, sizeof(path), "/%s/%d", "abc", 12), ST_OK);
    assert_string_equal(path, "/abc/12");
    assert_int_equal(os_path(path, sizeof(path), "/%s/%d", "abc", 123), ST_INVALID_ARGUMENT);
    assert_non_null(strstr(st_last()->text, "more than 7 bytes"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_making),
        cmocka_unit_test(test_removing),
        cmocka_unit_test(test_writing_replaces_at_once),
        cmocka_unit_test(test_walking),
        cmocka_unit_test(test_paths_that_are_too_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
