/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests that break each rule of the harness on purpose, one a rule. test_harness.c runs them one by
 * one and checks what the harness says. They are no entries of CTest.
 */
#include "harness.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

static void
passes(void **state)
{
    (void)state;
}

static void
fails(void **state)
{
    (void)state;
    assert_int_equal(1, 2);
}

static void
skips(void **state)
{
    (void)state;
    skip();
}

static void
leaks_descriptor(void **state)
{
    (void)state;
    assert_true(open("/dev/null", O_RDONLY) >= 0);
}

static void
leaks_shared_memory(void **state)
{
    (void)state;
    int fd = shm_open(getenv("HARNESS_VICTIM_SHM"), O_CREAT | O_RDWR, 0600);
    assert_true(fd >= 0);
    close(fd);
}

static void
leaks_process(void **state)
{
    (void)state;
    if (fork() == 0) {
        for (;;) {
            pause();
        }
    }
}

static void
hangs(void **state)
{
    (void)state;
    for (;;) {
        pause();
    }
}

static void
exits(void **state)
{
    (void)state;
    _exit(0);
}

static void
crashes(void **state)
{
    (void)state;
    kill(getpid(), SIGKILL);
}

static void
fills_its_directory(void **state)
{
    (void)state;
    char path[512];
    snprintf(path, sizeof(path), "%s/file", harness_dir());
    printf("directory: %s\n", harness_dir());
    fflush(stdout);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    fclose(file);
    assert_string_equal(getenv("TMPDIR"), harness_dir());
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(passes),
        cmocka_unit_test(fails),
        cmocka_unit_test(skips),
        cmocka_unit_test(leaks_descriptor),
        cmocka_unit_test(leaks_shared_memory),
        cmocka_unit_test(leaks_process),
        cmocka_unit_test(hangs),
        cmocka_unit_test(exits),
        cmocka_unit_test(crashes),
        cmocka_unit_test(fills_its_directory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
