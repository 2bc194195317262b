/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of the harness: each runs one test of harness_victims and looks at what came of it. */
#include "harness.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char output[65536];

/* Runs harness_victims, which lies beside this program; its output goes to `output`. */
static int
run_victims(const char *arguments)
{
    char self[1024];
    char command[2048];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    assert_true(n > 0);
    self[n] = '\0';
    *strrchr(self, '/') = '\0';
    snprintf(command, sizeof(command), "%s/harness_victims %s 2>&1", self, arguments);
    FILE *pipe = popen(command, "re");
    assert_non_null(pipe);
    size_t length = fread(output, 1, sizeof(output) - 1, pipe);
    output[length] = '\0';
    return pclose(pipe);
}

static void
assert_says(const char *text)
{
    if (!strstr(output, text)) {
        fail_msg("no \"%s\" in: %s", text, output);
    }
}

static void
test_lists_each_test_and_runs_none(void **state)
{
    (void)state;
    assert_int_equal(run_victims("--list"), 0);
    assert_says("test: passes\n");
    assert_says("test: hangs\n");
    assert_null(strstr(output, "RUN"));
}

static void
test_runs_only_the_one_named(void **state)
{
    (void)state;
    assert_int_equal(run_victims("--test passes"), 0);
    assert_says("passes");
    assert_null(strstr(output, "leaks"));
    assert_int_equal(run_victims("--test passes --here"), 0);
    assert_says("passes");
}

static void
test_a_name_without_a_test_fails(void **state)
{
    (void)state;
    assert_int_not_equal(run_victims("--test no_such_test"), 0);
    assert_says("has no test no_such_test");
}

static void
test_a_failure_and_a_skip_are_told(void **state)
{
    (void)state;
    assert_int_not_equal(run_victims("--test fails"), 0);
    assert_says("fails failed");
    assert_int_equal(run_victims("--test skips"), 0);
    assert_says("SKIPPED");
}

static void
test_a_leaked_descriptor_fails(void **state)
{
    (void)state;
    assert_int_not_equal(run_victims("--test leaks_descriptor"), 0);
    assert_says("left open: /dev/null");
}

static void
test_leaked_shared_memory_fails(void **state)
{
    (void)state;
    char name[64];
    snprintf(name, sizeof(name), "/ray_test_harness_%d", (int)getpid());
    setenv("HARNESS_VICTIM_SHM", name, 1);
    int status = run_victims("--test leaks_shared_memory");
    assert_int_equal(shm_unlink(name), 0);
    assert_int_not_equal(status, 0);
    assert_says("shared memory was left: /dev/shm/ray_test_harness_");
}

static void
test_a_process_left_running_fails_and_is_ended(void **state)
{
    (void)state;
    setenv("RAY_TEST_TIMEOUT_MULTIPLIER", "0.1", 1);
    assert_int_not_equal(run_victims("--test leaks_process --timeout 300"), 0);
    assert_says("a process was left running");
    const char *at = strstr(output, "process ");
    int pid = 0;
    for (; at && !pid; at = strstr(at + 1, "process ")) {
        pid = (int)strtol(at + strlen("process "), NULL, 10);
    }
    assert_true(pid > 0);
    assert_int_not_equal(kill(pid, 0), 0);
}

static void
test_a_hang_ends_at_the_limit_and_tells_where(void **state)
{
    (void)state;
    setenv("RAY_TEST_TIMEOUT_MULTIPLIER", "0.5", 1);
    assert_int_not_equal(run_victims("--test hangs --timeout 1"), 0);
    assert_says("passed its limit of 0.5 s");
    assert_says("thread harness_victims");
}

static void
test_the_multiplier_is_one_or_what_is_set(void **state)
{
    (void)state;
    unsetenv("RAY_TEST_TIMEOUT_MULTIPLIER");
    assert_true(harness_timeout_multiplier() == 1.0);
    setenv("RAY_TEST_TIMEOUT_MULTIPLIER", "5", 1);
    assert_true(harness_timeout_multiplier() == 5.0);
    setenv("RAY_TEST_TIMEOUT_MULTIPLIER", "nonsense", 1);
    assert_true(harness_timeout_multiplier() == 1.0);
}

static void
test_an_exit_or_a_death_in_the_middle_fails(void **state)
{
    (void)state;
    assert_int_not_equal(run_victims("--test exits"), 0);
    assert_says("exited in the middle");
    assert_int_not_equal(run_victims("--test crashes"), 0);
    assert_says("ended by signal 9");
}

static void
test_the_directory_is_removed(void **state)
{
    (void)state;
    assert_int_equal(run_victims("--test fills_its_directory"), 0);
    char *directory = strstr(output, "directory: ");
    assert_non_null(directory);
    directory += strlen("directory: ");
    directory[strcspn(directory, "\n")] = '\0';
    assert_int_not_equal(access(directory, F_OK), 0);
    /* This test's own directory is there as long as it runs. */
    assert_int_equal(access(harness_dir(), F_OK), 0);
}

static void
test_without_a_name_every_test_runs(void **state)
{
    (void)state;
    char name[64];
    snprintf(name, sizeof(name), "/ray_test_harness_%d", (int)getpid());
    setenv("HARNESS_VICTIM_SHM", name, 1);
    setenv("RAY_TEST_TIMEOUT_MULTIPLIER", "0.25", 1);
    int status = run_victims("--timeout 20"); /* one of them waits for it */
    assert_int_equal(shm_unlink(name), 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 7);
}

static void
do_nothing(void *arg)
{
    (void)arg;
}

static void
do_exit(void *arg)
{
    _exit(*(int *)arg);
}

static void
do_abort(void *arg)
{
    (void)arg;
    abort();
}

static void
test_children_and_their_deaths(void **state)
{
    (void)state;
    int code = 5;
    assert_int_equal(harness_child(do_nothing, NULL), 0);
    assert_int_equal(WEXITSTATUS(harness_child(do_exit, &code)), 5);
    assert_false(harness_dies(do_exit, &code));
    assert_true(harness_dies(do_abort, NULL));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lists_each_test_and_runs_none),
        cmocka_unit_test(test_runs_only_the_one_named),
        cmocka_unit_test(test_a_name_without_a_test_fails),
        cmocka_unit_test(test_a_failure_and_a_skip_are_told),
        cmocka_unit_test(test_a_leaked_descriptor_fails),
        cmocka_unit_test(test_leaked_shared_memory_fails),
        cmocka_unit_test(test_a_process_left_running_fails_and_is_ended),
        cmocka_unit_test(test_a_hang_ends_at_the_limit_and_tells_where),
        cmocka_unit_test(test_the_multiplier_is_one_or_what_is_set),
        cmocka_unit_test(test_an_exit_or_a_death_in_the_middle_fails),
        cmocka_unit_test(test_the_directory_is_removed),
        cmocka_unit_test(test_without_a_name_every_test_runs),
        cmocka_unit_test(test_children_and_their_deaths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
