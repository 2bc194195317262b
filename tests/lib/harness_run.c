/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The runner: reads the command line, and runs each wanted test in a process of its own.
 *
 * The parent is the subreaper of all that a test starts, so it knows what a test left running, also
 * when the test was killed. Nothing of the parent but its command line reaches a test.
 */
#include "harness.h"
#include "harness_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

int __real__cmocka_run_group_tests(const char *group, const struct CMUnitTest *tests, size_t count,
                                   CMFixtureFunction setup, CMFixtureFunction teardown);
/* There in sanitized builds: where their reports go, here what a test provokes on purpose. */
void __sanitizer_set_report_fd(void *fd) __attribute__((weak));

int __wrap__cmocka_run_group_tests(const char *group, const struct CMUnitTest *tests, size_t count,
                                   CMFixtureFunction setup, CMFixtureFunction teardown);

/* There when the program has linked src/base. */
typedef void (*panic_fn)(const char *expression, const char *where, const char *function);
__attribute__((weak)) void assert_set_panic(panic_fn fn);

enum { TIMEOUT_DEFAULT_S = 30, GRACE_MS = 10000, EXIT_NO_SUCH_TEST = 3 };

static struct {
    const char *program;
    const char *test; /* The one test that is wanted; NULL: all. */
    double timeout_s;
    bool list;
    bool here;
    bool has_run;    /* A wanted test was found. */
    bool *has_ended; /* Shared with the test's process, which sets it as its last word. */
    char dir[256];
} harness = { .timeout_s = TIMEOUT_DEFAULT_S };

/* One group of tests, as cmocka was given it. */
struct group {
    const char *name;
    CMFixtureFunction setup;
    CMFixtureFunction teardown;
};

static bool
is_traced(void)
{
    char text[4096];
    int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    if (fd >= 0) {
        close(fd);
    }
    text[n > 0 ? n : 0] = '\0';
    const char *tracer = strstr(text, "TracerPid:");
    return tracer && strtol(tracer + strlen("TracerPid:"), NULL, 10) != 0;
}

double
harness_timeout_multiplier(void)
{
    const char *text = getenv("RAY_TEST_TIMEOUT_MULTIPLIER");
    double factor = text ? strtod(text, NULL) : 1.0;
    return factor > 0 ? factor : 1.0;
}

static void
on_panic(const char *expression, const char *where, const char *function)
{
    fprintf(stderr, "assertion failed: %s at %s in %s\n", expression, where, function);
    fflush(stderr);
    abort();
}

static void
check_that_a_test_ran(void)
{
    if (harness.test && !harness.has_run) {
        fprintf(stderr, "harness: %s has no test %s\n", harness.program, harness.test);
        fflush(NULL);
        _exit(EXIT_NO_SUCH_TEST);
    }
}

/* Runs before main, which cmocka's users write without arguments. */
__attribute__((constructor)) static void
read_command_line(int argc, char **argv)
{
    harness.program = argc > 0 ? argv[0] : "test";
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--list") == 0) {
            harness.list = true;
        } else if (strcmp(argv[i], "--here") == 0) {
            harness.here = true;
        } else if (strcmp(argv[i], "--test") == 0) {
            harness.test = value;
            i++;
        } else if (strcmp(argv[i], "--timeout") == 0) {
            harness.timeout_s = strtod(value, NULL);
            i++;
        }
    }
    harness.here = harness.here || is_traced();
    if (assert_set_panic) {
        assert_set_panic(on_panic);
    }
    atexit(check_that_a_test_ran);
}

static void
fail_system(const char *what)
{
    fprintf(stderr, "harness: %s: %s\n", what, strerror(errno));
    fflush(NULL);
    _exit(EXIT_FAILURE);
}

static void
make_dir(void)
{
    const char *base = getenv("TMPDIR");
    snprintf(harness.dir, sizeof(harness.dir), "%s/ray-test-XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(harness.dir)) {
        fail_system("mkdtemp");
    }
}

const char *
harness_dir(void)
{
    return harness.dir;
}

/* Runs one test in this process, with the counts before and after it; returns 0 or 1. */
static int
run_here(const struct group *group, const struct CMUnitTest *test)
{
    struct harness_names fds;
    setenv("TMPDIR", harness.dir, 1);
    harness_names_init(&fds, "/proc/self/fd");
    int failed =
        __real__cmocka_run_group_tests(group->name, test, 1, group->setup, group->teardown);
    size_t leaked = harness_fds_report(&fds);
    harness_names_fini(&fds);
    return failed != 0 || leaked != 0;
}

/* Waits until the process can be reaped; false when the time was up before. */
static bool
wait_exit(pid_t pid, double seconds)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0) {
        fail_system("pidfd_open");
    }
    struct timespec start;
    clock_gettime(CLOCK_MONOTONIC, &start);
    int ready = 0;
    for (;;) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        double passed =
            (double)(now.tv_sec - start.tv_sec) + (double)(now.tv_nsec - start.tv_nsec) / 1e9;
        double left_ms = (seconds - passed) * 1e3;
        struct pollfd p = { .fd = fd, .events = POLLIN };
        ready = poll(&p, 1, left_ms > 0 ? (int)left_ms + 1 : 0);
        if (ready > 0 || (ready == 0 && left_ms <= 0)) {
            break;
        }
        if (ready < 0 && errno != EINTR) {
            fail_system("poll");
        }
    }
    close(fd);
    return ready > 0;
}

/*
 * Ends what a test left running. What ends by itself within a grace period isn't counted: a
 * killed child may not have been scheduled yet. Returns how many had to be killed.
 */
static size_t
end_leftovers(void)
{
    size_t killed = 0;
    for (;;) {
        pid_t pid = harness_find_child(0);
        if (!pid) {
            return killed;
        }
        if (!wait_exit(pid, GRACE_MS / 1e3 * harness_timeout_multiplier())) {
            fprintf(stderr, "harness: a process was left running\n");
            harness_process_print(pid);
            kill(pid, SIGKILL);
            killed++;
        }
        waitpid(pid, NULL, 0);
    }
}

/* A child that exits in the middle of its test, with whatever status, has not passed it. */
static int
report_end(const char *name, int status)
{
    if (WIFSIGNALED(status)) {
        fprintf(stderr, "harness: %s ended by signal %d (%s)\n", name, WTERMSIG(status),
                strsignal(WTERMSIG(status)));
        return 1;
    }
    if (WEXITSTATUS(status) != 0) {
        fprintf(stderr, "harness: %s failed, exit status %d\n", name, WEXITSTATUS(status));
        return 1;
    }
    if (!*harness.has_ended) {
        fprintf(stderr, "harness: %s exited in the middle\n", name);
        return 1;
    }
    return 0;
}

/* Runs one test in a child and judges what it left; returns 0 or 1. */
static int
run_in_child(const struct group *group, const struct CMUnitTest *test)
{
    struct harness_names shm;
    int status = 0;
    int failed = 0;
    double limit_s = harness.timeout_s * harness_timeout_multiplier();
    pid_t parent = getpid();

    if (!harness.has_ended) {
        harness.has_ended = mmap(NULL, sizeof(*harness.has_ended), PROT_READ | PROT_WRITE,
                                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (harness.has_ended == MAP_FAILED) {
            fail_system("mmap");
        }
    }
    *harness.has_ended = false;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    harness_names_init(&shm, "/dev/shm");
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) {
        fail_system("fork");
    }
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) {
            _exit(EXIT_FAILURE);
        }
        int result = run_here(group, test);
        *harness.has_ended = true;
        exit(result);
    }
    if (!wait_exit(pid, limit_s)) {
        fprintf(stderr, "harness: %s passed its limit of %g s\n", test->name, limit_s);
        harness_process_print(pid);
        kill(pid, SIGKILL);
        failed = 1;
    }
    if (waitpid(pid, &status, 0) != pid) {
        fail_system("waitpid");
    }
    failed |= report_end(test->name, status);
    failed |= end_leftovers() != 0;
    failed |= harness_shm_report(&shm) != 0;
    harness_names_fini(&shm);
    fflush(NULL);
    return failed;
}

int
__wrap__cmocka_run_group_tests(const char *group_name, const struct CMUnitTest *tests, size_t count,
                               CMFixtureFunction setup, CMFixtureFunction teardown)
{
    const struct group group = { .name = group_name, .setup = setup, .teardown = teardown };
    int failed = 0;
    for (size_t i = 0; i < count; i++) {
        if (harness.list) {
            printf("test: %s\n", tests[i].name);
            continue;
        }
        if (harness.test && strcmp(harness.test, tests[i].name) != 0) {
            continue;
        }
        harness.has_run = true;
        make_dir();
        failed += harness.here ? run_here(&group, &tests[i]) : run_in_child(&group, &tests[i]);
        harness_tree_remove(harness.dir);
    }
    return failed;
}

int
harness_child(void (*fn)(void *arg), void *arg)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) {
        fail_system("fork");
    }
    if (pid == 0) {
        /* cmocka catches these; here they must end the process. */
        const int caught[] = { SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS };
        for (size_t i = 0; i < sizeof(caught) / sizeof(caught[0]); i++) {
            signal(caught[i], SIG_DFL);
        }
        int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        const struct rlimit no_core = { 0, 0 };
        setrlimit(RLIMIT_CORE, &no_core);
        if (null >= 0) {
            dup2(null, STDERR_FILENO);
        }
        if (null >= 0 && __sanitizer_set_report_fd) {
            __sanitizer_set_report_fd((void *)(intptr_t)null);
        }
        fn(arg);
        _exit(EXIT_SUCCESS);
    }
    int status = 0;
    while (waitpid(pid, &status, 0) != pid) {
        if (errno != EINTR) {
            fail_system("waitpid");
        }
    }
    return status;
}

bool
harness_dies(void (*fn)(void *arg), void *arg)
{
    return WIFSIGNALED(harness_child(fn, arg));
}
