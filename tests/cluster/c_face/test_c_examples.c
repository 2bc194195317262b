/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The examples in C are run as a user runs them, and end as they should: right answer, nothing
 * left.
 */
#include "c_face.h"

#include <errno.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static void
run(const char *command, char *output, size_t capacity)
{
    char line[512];
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
    (void)snprintf(line, sizeof(line), "%s/%s", EXAMPLES_DIR, command);
    FILE *pipe = popen(line, "r"); /* tidy: popen: a fixed command, of this build */
    assert_non_null(pipe);
    output[fread(output, 1, capacity - 1, pipe)] = '\0';
    assert_int_equal(pclose(pipe), 0);
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR) {
    }
}

static void
test_hello(void **state)
{
    (void)state;
    char output[1024];
    run("hello", output, sizeof(output));
    assert_non_null(strstr(output, "hello, world, from process "));
}

static void
test_monte_carlo_pi(void **state)
{
    (void)state;
    static char output[64 * 1024];
    run("monte_carlo_pi 100000", output, sizeof(output));
    const char *last = strrchr(output, '\r');
    assert_non_null(last);
    const char *number = strstr(last, "about ");
    assert_non_null(number);
    const double pi = strtod(number + strlen("about "), NULL);
    assert_true(pi > 3.13 && pi < 3.15);
    assert_non_null(strstr(last, "[################################]"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hello),
        cmocka_unit_test(test_monte_carlo_pi),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
