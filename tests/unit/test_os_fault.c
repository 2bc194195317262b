/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of src/os/os_fault.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/flt.h"
#include "base/status.h"
#include "harness.h"
#include "os/os_fault.h"

static void
pass(void *role)
{
    if (os_fault_init(role) != ST_OK) {
        _exit(2);
    }
    (void)FAULT("test.os.fault");
}

static void
test_armed_by_the_environment_for_a_role(void **state)
{
    (void)state;
    char worker[] = "worker", driver[] = "driver";
    assert_int_equal(setenv("RAY_FAULT", "worker/test.os.fault:crash", 1), 0);
    int status = harness_child(pass, worker);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_int_equal(harness_child(pass, driver), 0);
    assert_int_equal(setenv("RAY_FAULT", "nonsense", 1), 0);
    status = harness_child(pass, driver);
    assert_int_equal(WEXITSTATUS(status), 2);
    assert_int_equal(unsetenv("RAY_FAULT"), 0);
}

/* Of all that come to a crash, the one that gets the token dies. */
static void
test_a_token_is_for_one_death(void **state)
{
    (void)state;
    char token[256], worker[] = "worker";
    (void)snprintf(token, sizeof(token), "%s/token", harness_dir());
    assert_int_equal(mkdir(token, 0700), 0); /* any file will do */
    assert_int_equal(setenv("RAY_FAULT", "test.os.fault:crash", 1), 0);
    assert_int_equal(setenv("RAY_FAULT_TOKEN", token, 1), 0);
    const int status = harness_child(pass, worker);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_int_not_equal(access(token, F_OK), 0);
    assert_int_equal(harness_child(pass, worker), 0);
    assert_int_equal(harness_child(pass, worker), 0);
    assert_int_equal(unsetenv("RAY_FAULT"), 0);
    assert_int_equal(unsetenv("RAY_FAULT_TOKEN"), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_armed_by_the_environment_for_a_role),
        cmocka_unit_test(test_a_token_is_for_one_death),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
