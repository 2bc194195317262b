/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A real runtime - driver, raylet, ray-gcs, workers - in which one process is killed between two
 * stores into shared memory: of windows, rings, doorbells, leases and the object store, at the nth
 * time that a process of the role comes there. Each case is a fault point, a role and a count;
 * after each, every task is accounted for (crash_check.h), all resources are given back, and no
 * process, descriptor, socket or file is left.
 *
 *     RAY_CRASH_CASE=worker/net.window.after_post:3   only this case
 *     RAY_CHAOS_FULL=1                                every count; else one for each point and role
 *     RAY_TEST_SEED=n                                 other sizes; without FULL also other counts
 *     RAY_CHAOS_KEEP=1                                the files stay, in /tmp/ray-crash-*
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/flt.h"
#include "crash_check.h"
#include "harness.h"
#include "net/net_bell.h"
#include "net/net_ring.h"
#include "net/net_window.h"
#include "os/os_basic.h"
#include "ray/ray.h"
#include "store/store_server.h"
#include "store/storec.h"

enum { CASE_LIMIT_S = 20, MARKS_MAX = 8192, QUICK_COUNTS = 4 };

static const char *const role_names[] = { "", "worker", "driver", "raylet" };
static const unsigned counts[] = { 1, 2, 7, 30, 120, 400 };

struct one_case {
    const char *point;
    enum crash_role role;
    unsigned nth;
};

/* What a test has seen of its cases. */
struct tally {
    unsigned cases, kills;
};

/* The archives that hold fault points must be in this program, so that it can list them. */
__attribute__((used)) static void *const holders[] = {
    (void *)net_bell_init, (void *)net_ring_tx_init, (void *)net_window_post,
    (void *)store_proc_grant_lease, (void *)storec_status_begin
};

static uint64_t
seed(void)
{
    const char *given = getenv("RAY_TEST_SEED");
    return given ? strtoull(given, NULL, 10) : 1;
}

/* ---- which process passes a point ---- */

static bool
starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool
is_one_of(const char *name, const char *prefix, const char *const *ends, size_t count)
{
    for (size_t i = 0; starts_with(name, prefix) && i < count; i++) {
        if (strcmp(name + strlen(prefix), ends[i]) == 0) {
            return true;
        }
    }
    return false;
}

static bool
is_passed_by(const char *name, enum crash_role role)
{
    static const char *const of_raylet[] = { "before_epoch", "after_epoch" };
    static const char *const of_worker[] = { "before_start", "after_start",    "before_bounce",
                                             "after_bounce", "before_running", "after_running",
                                             "before_idle",  "after_idle" };
    if (starts_with(name, "lease.grant.") ||
        is_one_of(name, "net.window.", of_raylet, COUNT_OF(of_raylet))) {
        return role == CRASH_RAYLET;
    }
    if (starts_with(name, "lease.status.") ||
        is_one_of(name, "net.window.", of_worker, COUNT_OF(of_worker))) {
        return role == CRASH_WORKER;
    }
    if (starts_with(name, "net.") || starts_with(name, "store.seal.") ||
        starts_with(name, "store.pin.")) {
        return role == CRASH_WORKER || role == CRASH_DRIVER;
    }
    return role == CRASH_RAYLET;
}

/*
 * What the death of a worker may cost: the task that it ran. Nothing where the thread that runs
 * tasks dies itself, before it has started the next or after it has answered the last; only tasks
 * that told of themselves where that thread sends back what is behind a task that waits. The first
 * frames that a worker publishes in a ring are answers.
 */
static void
price_of(const struct one_case *c, bool killed, struct crash_price *price)
{
    static const char *const between[] = { "net.window.before_running", "net.window.after_running",
                                           "net.window.before_start", "net.window.before_idle",
                                           "net.window.after_idle" };
    static const char *const waiting[] = { "net.window.before_bounce", "net.window.after_bounce" };
    const bool answered = strcmp(c->point, "net.ring.after_tail") == 0 && c->nth <= 30;
    *price = (struct crash_price){ .died = killed ? c->role : CRASH_NOBODY };
    if (price->died != CRASH_WORKER || answered ||
        is_one_of(c->point, "", between, COUNT_OF(between))) {
        return;
    }
    price->charged = 1;
    price->unrun = !is_one_of(c->point, "", waiting, COUNT_OF(waiting));
}

/* ---- one case ---- */

static void
new_directory(char dir[128])
{
    static unsigned number;
    char path[256];
    if (getenv("RAY_CHAOS_KEEP")) {
        (void)snprintf(dir, 128, "/tmp/ray-crash-XXXXXX");
        assert_non_null(mkdtemp(dir));
    } else {
        (void)snprintf(dir, 128, "%s/c%u", harness_dir(), number++);
        assert_int_equal(mkdir(dir, 0700), 0);
    }
    (void)snprintf(path, sizeof(path), "%s/run", dir);
    assert_int_equal(mkdir(path, 0700), 0);
    crash_token_path(dir, path);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
    crash_marks_path(dir, path);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
}

/* Waits for the next end of a child until the deadline. Its pid, 0 when there is none any more. */
static pid_t
next_end(const struct one_case *c, uint64_t deadline_ns, int *status)
{
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGCHLD);
    for (;;) {
        const pid_t pid = waitpid(-1, status, WNOHANG);
        if (pid != 0) {
            assert_true(pid > 0 || errno == ECHILD);
            return pid > 0 ? pid : 0;
        }
        const uint64_t now = os_now_ns();
        if (now >= deadline_ns) {
            fail_msg("%s/%s:%u hangs: a process is left", role_names[c->role], c->point, c->nth);
        }
        const struct timespec left = { .tv_sec = (time_t)((deadline_ns - now) / 1000000000 + 1) };
        (void)sigtimedwait(&set, NULL, &left);
    }
}

/* Runs the driver, and waits for the end of everything that it began. Its wait status. */
static int
run_driver(const struct one_case *c, const struct crash_world *world)
{
    sigset_t set, before;
    int status = 0, last = 0;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGCHLD);
    assert_int_equal(sigprocmask(SIG_BLOCK, &set, &before), 0);
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
    const pid_t driver = fork();
    assert_true(driver >= 0);
    if (driver == 0) {
        (void)sigprocmask(SIG_SETMASK, &before, NULL);
        crash_driver(world);
    }
    const uint64_t limit_ns =
        (uint64_t)(CASE_LIMIT_S * harness_timeout_multiplier()) * UINT64_C(1000000000);
    const uint64_t deadline = os_now_ns() + limit_ns;
    for (pid_t pid = next_end(c, deadline, &status); pid; pid = next_end(c, deadline, &status)) {
        last = pid == driver ? status : last;
    }
    assert_int_equal(sigprocmask(SIG_SETMASK, &before, NULL), 0);
    return last;
}

/* Fails when the directory holds something else than `only` (or anything at all). */
static void
expect_nothing_in(const char *path, const char *only)
{
    DIR *dir = opendir(path);
    for (struct dirent *e = dir ? readdir(dir) : NULL; e; e = readdir(dir)) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
            (!only || strcmp(e->d_name, only) != 0)) {
            fail_msg("%s/%s is left", path, e->d_name);
        }
    }
    if (dir) {
        closedir(dir);
    }
}

static void
expect_only_logs(const char *dir)
{
    char path[512];
    (void)snprintf(path, sizeof(path), "%s/run/ray-c", dir);
    expect_nothing_in(path, NULL);
    DIR *sessions = opendir(dir);
    assert_non_null(sessions);
    for (struct dirent *e = readdir(sessions); e; e = readdir(sessions)) {
        if (starts_with(e->d_name, "session_")) {
            (void)snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
            expect_nothing_in(path, "logs");
        }
    }
    closedir(sessions);
}

static size_t
read_marks(const char *dir, struct crash_mark marks[MARKS_MAX])
{
    char path[256];
    crash_marks_path(dir, path);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    const size_t count = fread(marks, sizeof(marks[0]), MARKS_MAX, file);
    (void)fclose(file);
    assert_in_range(count, 0, MARKS_MAX - 1);
    return count;
}

/* What was told, and what is left. */
static void
judge(const struct one_case *c, const struct crash_world *world, bool killed, int status)
{
    static struct crash_mark marks[MARKS_MAX];
    struct crash_verdict verdict;
    struct crash_price price;
    const bool driver_killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    price_of(c, killed, &price);
    crash_check(world->report, marks, read_marks(world->dir, marks), &price, &verdict);
    print_message("  %s, %u runs, %u charged, %u of them unrun, %u unsent\n",
                  killed ? "killed" : "was not reached", verdict.runs, verdict.charged,
                  verdict.unrun, verdict.unsent);
    if (world->report->text[0]) {
        fail_msg("the driver: %s", world->report->text);
    }
    if (killed && c->role == CRASH_DRIVER ? !driver_killed : status != 0) {
        fail_msg("the driver ended with wait status %#x", (unsigned)status);
    }
    if (verdict.text[0]) {
        fail_msg("%s", verdict.text);
    }
    expect_only_logs(world->dir);
}

/* Whether somebody was killed. */
static bool
run_case(const struct one_case *c)
{
    char dir[128], fault[256], path[256];
    struct crash_report *report =
        mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(report != MAP_FAILED);
    (void)snprintf(fault, sizeof(fault), "%s/%s:crash:nth=%u", role_names[c->role], c->point,
                   c->nth);
    print_message("RAY_CRASH_CASE=%s/%s:%u RAY_TEST_SEED=%llu\n", role_names[c->role], c->point,
                  c->nth, (unsigned long long)seed());
    new_directory(dir);
    const struct crash_world world = { dir, fault, seed(), report };
    const int status = run_driver(c, &world);
    crash_token_path(dir, path);
    const bool killed = access(path, F_OK) != 0;
    judge(c, &world, killed, status);
    (void)munmap(report, sizeof(*report));
    return killed;
}

/* ---- the tests ---- */

static bool
is_built_in(void)
{
    const struct flt_point *p = flt_next("net.");
    return p && starts_with(p->name, "net.");
}

/* Points that the load does not come to, each with the reason, or not always. */
static bool
is_out_of_reach(const struct one_case *c)
{
    static const char *const never[] = {
        "net.bell.between_give_back", /* nobody stops a drain early */
        "store.evict.after_dying",    /* nothing is evicted yet */
    };
    /* Whether a ring is ever full, and a task slow enough, is a matter of luck. */
    static const char *const rarely[] = {
        "net.ring.before_want",
        "net.ring.after_want",
        "net.window.before_recall",
        "net.window.after_recall",
    };
    return is_one_of(c->point, "", never, COUNT_OF(never)) ||
           is_one_of(c->point, "", rarely, COUNT_OF(rarely));
}

/* One count of the point, which may be one that the load doesn't come to. */
static void
run_count(const struct one_case *c, struct tally *tally)
{
    const bool killed = run_case(c);
    tally->cases++;
    tally->kills += killed;
    if (!killed && c->nth == 1 && !is_out_of_reach(c)) {
        fail_msg("nobody comes to %s as %s", c->point, role_names[c->role]);
    }
}

static void
run_role(enum crash_role role)
{
    const bool full = getenv("RAY_CHAOS_FULL") != NULL;
    struct tally tally = { 0 };
    unsigned points = 0;
    if (getenv("RAY_CRASH_CASE") || !is_built_in()) {
        skip();
    }
    for (const struct flt_point *p = flt_next(NULL); p; p = flt_next(p->name)) {
        if (!is_passed_by(p->name, role)) {
            continue;
        }
        struct one_case c = { p->name, role, counts[(points + seed()) % QUICK_COUNTS] };
        points++;
        if (!full) {
            run_count(&c, &tally);
            continue;
        }
        for (size_t i = 0; i < COUNT_OF(counts); i++) {
            const unsigned before = tally.kills;
            c.nth = counts[i];
            run_count(&c, &tally);
            if (tally.kills == before) {
                break; /* nobody comes there so often */
            }
        }
    }
    print_message("%s: %u fault points, %u cases, %u kills\n", role_names[role], points,
                  tally.cases, tally.kills);
    assert_true(tally.kills > 0);
}

static void
test_worker_dies(void **state)
{
    (void)state;
    run_role(CRASH_WORKER);
}

static void
test_driver_dies(void **state)
{
    (void)state;
    run_role(CRASH_DRIVER);
}

static void
test_raylet_dies(void **state)
{
    (void)state;
    run_role(CRASH_RAYLET);
}

static void
test_given_case(void **state)
{
    (void)state;
    const char *given = getenv("RAY_CRASH_CASE");
    char name[128];
    if (!given) {
        skip();
    }
    struct one_case c = { .point = name };
    const char *slash = strchr(given, '/'), *colon = strrchr(given, ':');
    assert_true(slash && colon && slash < colon);
    (void)snprintf(name, sizeof(name), "%.*s", (int)(colon - slash - 1), slash + 1);
    c.nth = (unsigned)strtoul(colon + 1, NULL, 10);
    for (enum crash_role r = CRASH_WORKER; r <= CRASH_RAYLET; r++) {
        const size_t length = strlen(role_names[r]);
        c.role = starts_with(given, role_names[r]) && given[length] == '/' ? r : c.role;
    }
    assert_int_not_equal(c.role, CRASH_NOBODY);
    (void)run_case(&c);
}

int
main(int argc, char **argv)
{
    if (getenv("RAY_START_TOKEN")) {
        exit(ray_init(argc, argv, NULL) == RAY_OK ? 0 : 1);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_worker_dies),
        cmocka_unit_test(test_driver_dies),
        cmocka_unit_test(test_raylet_dies),
        cmocka_unit_test(test_given_case),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
