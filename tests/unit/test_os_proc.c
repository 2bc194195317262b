/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of src/os/os_proc.c: spawning, reaping, orphans, death signals, descriptors of processes.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/status.h"
#include "harness.h"
#include "os/os_basic.h"
#include "os/os_proc.h"

/* Runs a shell command; its stdout. The exit goes to *exit. */
static const char *
run(const char *command, const struct os_spawn *like, struct os_exit *exit)
{
    static char text[4096];
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    const char *const argv[] = { "sh", "-c", command, NULL };
    struct os_spawn spec = *like;
    spec.argv = argv;
    spec.stdin_fd = -1;
    spec.stdout_fd = fds[1];
    spec.stderr_fd = -1;
    pid_t pid = 0;
    assert_int_equal(os_proc_spawn(&spec, &pid), ST_OK);
    os_close(&fds[1]);
    size_t size = 0;
    for (ssize_t n = 1; n > 0; size += (size_t)(n > 0 ? n : 0)) {
        n = read(fds[0], text + size, sizeof(text) - 1 - size);
    }
    text[size] = '\0';
    os_close(&fds[0]);
    assert_int_equal(os_proc_wait(pid, exit), ST_OK);
    assert_int_equal(exit->pid, pid);
    return text;
}

static void
test_spawn_sets_everything_up(void **state)
{
    (void)state;
    struct os_exit exit;
    const char *const env[] = { "PATH=/usr/bin:/bin", "X=17", NULL };
    const struct os_spawn plain = { .envp = env, .cwd = "/" };
    assert_string_equal(run("echo $X; pwd; cat", &plain, &exit), "17\n/\n");
    assert_int_equal(exit.code, 0);
    (void)run("exit 5", &plain, &exit);
    assert_int_equal(exit.code, 5);
    assert_int_equal(exit.signal, 0);
    (void)run("kill -9 $$", &plain, &exit);
    assert_int_equal(exit.signal, SIGKILL);
    char text[64];
    assert_string_equal(os_exit_text(&exit, text, sizeof(text)), "killed by signal 9 (SIGKILL)");
    assert_true(exit.memory_peak > 0);
}

static void
test_only_named_descriptors_are_kept(void **state)
{
    (void)state;
    struct os_exit exit;
    int kept = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int dropped = open("/dev/null", O_RDONLY | O_CLOEXEC);
    const struct os_spawn spec = { .keep = &kept, .keep_count = 1 };
    char command[128], expected[32];
    (void)snprintf(command, sizeof(command),
                   "for i in %d %d; do [ -e /proc/self/fd/$i ] && echo $i; done; true", kept,
                   dropped);
    (void)snprintf(expected, sizeof(expected), "%d\n", kept);
    assert_string_equal(run(command, &spec, &exit), expected);
    assert_int_equal(fcntl(kept, F_GETFD), FD_CLOEXEC); /* here it is as it was */
    os_close(&kept);
    os_close(&dropped);
}

static void
test_spawn_tells_why_it_failed(void **state)
{
    (void)state;
    const char *const missing[] = { "/no/such/program", NULL };
    const char *const here[] = { "/bin/true", NULL };
    const struct os_spawn no_program = {
        .argv = missing, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1
    };
    const struct os_spawn no_dir = {
        .argv = here, .cwd = "/no/such/dir", .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1
    };
    pid_t pid = 1;
    assert_int_equal(os_proc_spawn(&no_program, &pid), ST_SYSTEM);
    assert_non_null(strstr(st_last()->text, "/no/such/program"));
    assert_int_equal(pid, 0);
    assert_int_equal(os_proc_spawn(&no_dir, &pid), ST_SYSTEM);
    struct os_exit exit;
    assert_int_equal(os_proc_reap(&exit), ST_NOT_FOUND); /* nothing is left behind */
}

static void
test_ignored_and_blocked_signals_are_not_inherited(void **state)
{
    (void)state;
    struct os_exit exit;
    const struct os_spawn spec = { .stdin_fd = -1 };
    sigset_t set, before;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    assert_int_equal(sigprocmask(SIG_BLOCK, &set, &before), 0);
    void (*old)(int) = signal(SIGINT, SIG_IGN);
    unsigned long blocked = 1, ignored = 1;
    const char *text =
        run("grep -E 'SigBlk|SigIgn' /proc/self/status | tr -d '\\n\\t'", &spec, &exit);
    assert_int_equal(sscanf(text, "SigBlk:%lxSigIgn:%lx", &blocked, &ignored), 2);
    /* 32 and 33 are libc's own, which no program can change: posix_spawn leaves them ignored. */
    assert_int_equal(blocked, 0);
    assert_int_equal(ignored & ~0x180000000UL, 0);
    (void)signal(SIGINT, old);
    assert_int_equal(sigprocmask(SIG_SETMASK, &before, NULL), 0);
}

/* A subreaper gets its grandchildren, finds them, and reaps them. */
static void
test_orphans_come_to_the_subreaper(void **state)
{
    (void)state;
    assert_int_equal(os_proc_become_subreaper(), ST_OK);
    struct os_exit exit;
    const struct os_spawn spec = { .new_session = true };
    const char *text = run("sleep 1000 >/dev/null & echo $!", &spec, &exit);
    int orphan = 0;
    assert_int_equal(sscanf(text, "%d", &orphan), 1);
    pid_t found[8];
    assert_int_equal(os_proc_children(found, 8), 1);
    assert_int_equal(found[0], orphan);
    assert_int_equal(os_proc_reap(&exit), ST_WOULD_BLOCK);
    os_proc_signal(orphan, SIGKILL);
    assert_int_equal(os_proc_reap_wait(&exit), ST_OK);
    assert_int_equal(exit.pid, orphan);
    assert_int_equal(os_proc_reap(&exit), ST_NOT_FOUND);
    os_proc_signal(orphan, SIGKILL); /* gone: nothing happens */
}

static void
spawn_and_leave(void *arg)
{
    const char *const argv[] = { "sleep", "1000", NULL };
    const struct os_spawn spec = {
        .argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .die_with_parent = true
    };
    pid_t *pid = arg;
    if (os_proc_spawn(&spec, pid) != ST_OK) {
        _exit(1);
    }
    _exit(0);
}

static void
test_child_dies_with_its_parent(void **state)
{
    (void)state;
    assert_int_equal(os_proc_become_subreaper(), ST_OK);
    static pid_t ignored;
    assert_int_equal(harness_child(spawn_and_leave, &ignored), 0);
    struct os_exit exit;
    assert_int_equal(os_proc_reap_wait(&exit), ST_OK); /* it has come to us, dying */
    assert_int_equal(exit.signal, SIGKILL);
}

static void
test_descriptors_of_processes(void **state)
{
    (void)state;
    int self = -1, child_fd = -1;
    assert_int_equal(os_pidfd_open(getpid(), &self), ST_OK);
    assert_int_equal(os_pidfd_pid(self), getpid());
    assert_false(os_pidfd_is_dead(self));
    const char *const argv[] = { "sleep", "1000", NULL };
    const struct os_spawn spec = { .argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1 };
    pid_t pid = 0;
    assert_int_equal(os_proc_spawn(&spec, &pid), ST_OK);
    assert_int_equal(os_pidfd_open(pid, &child_fd), ST_OK);
    os_proc_signal(pid, SIGKILL);
    struct os_exit exit;
    assert_int_equal(os_proc_wait(pid, &exit), ST_OK);
    assert_true(os_pidfd_is_dead(child_fd));
    assert_int_equal(os_pidfd_pid(child_fd), 0);
    assert_int_equal(os_pidfd_open(pid, &pid), ST_SYSTEM);
    os_close(&self);
    os_close(&child_fd);
    int file = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_int_equal(os_pidfd_pid(file), -1);
    os_close(&file);
}

static void
test_signals_come_through_a_descriptor(void **state)
{
    (void)state;
    static const int signals[] = { SIGUSR1, SIGTERM, 0 };
    int fd = -1;
    assert_int_equal(os_signal_open(signals, &fd), ST_OK);
    assert_int_equal(os_signal_next(fd), 0);
    assert_int_equal(raise(SIGUSR1), 0);
    assert_int_equal(os_signal_next(fd), SIGUSR1);
    assert_int_equal(os_signal_next(fd), 0);
    os_close(&fd);
}

/* A killed process counts as ending before it is reaped. */
static void
test_ending_is_seen(void **state)
{
    (void)state;
    const pid_t pid = fork();
    if (pid == 0) {
        for (;;) {
            (void)pause();
        }
    }
    assert_true(pid > 0);
    assert_false(os_proc_is_ending(getpid()));
    assert_false(os_proc_is_ending(pid));
    assert_int_equal(kill(pid, SIGKILL), 0);
    siginfo_t info;
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    assert_true(os_proc_is_ending(pid));
    struct os_exit ended;
    assert_int_equal(os_proc_wait(pid, &ended), ST_OK);
    assert_true(os_proc_is_ending(pid));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spawn_sets_everything_up),
        cmocka_unit_test(test_only_named_descriptors_are_kept),
        cmocka_unit_test(test_spawn_tells_why_it_failed),
        cmocka_unit_test(test_ending_is_seen),
        cmocka_unit_test(test_ignored_and_blocked_signals_are_not_inherited),
        cmocka_unit_test(test_orphans_come_to_the_subreaper),
        cmocka_unit_test(test_child_dies_with_its_parent),
        cmocka_unit_test(test_descriptors_of_processes),
        cmocka_unit_test(test_signals_come_through_a_descriptor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
