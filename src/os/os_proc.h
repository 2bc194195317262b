/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes: starting, watching, reaping and finding them.
 *
 * Spawning is done by the process's main thread, which ends last, since a death signal set with
 * `die_with_parent` belongs to the spawning thread. docs/protocols/processes.md tells the protocol
 * that these calls serve.
 */
#ifndef RAY_OS_PROC_H
#define RAY_OS_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/assert.h"

/* What to start. Descriptors that aren't named are closed in the child if they are close-on-exec.
 */
struct os_spawn {
    const char *const *argv; /* NULL terminated; argv[0] without a slash is looked for in PATH */
    const char *const *envp; /* NULL: the caller's */
    const char *cwd;         /* NULL: the caller's */
    int stdin_fd, stdout_fd, stderr_fd; /* -1: /dev/null */
    const int *keep;                    /* inherited under their numbers, all above 2 */
    size_t keep_count;
    bool new_session;     /* setsid: the terminal's signals are not for it */
    bool die_with_parent; /* SIGKILL when the calling thread ends */
    bool subreaper;       /* the child's orphaned descendants become its children */
};

/* Starts a program without copying the caller's memory map. Fails with ST_SYSTEM, also when the
 * program could not be executed; then there is no process. */
int os_proc_spawn(const struct os_spawn *spec, pid_t *pid) MUST_USE;

/* A fork that shares its parent's memory until it ends, while the parent waits: for a child that
 * makes one system call after the other and never returns from the function that called this. A
 * macro, since a function that has called vfork may not return in the child. Block all signals
 * around it. */
#if defined(__SANITIZE_THREAD__)
#define OS_VFORK_UNDER_TSAN
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define OS_VFORK_UNDER_TSAN
#endif
#endif
#ifdef OS_VFORK_UNDER_TSAN
/* Thread sanitizer makes vfork a fork, which shares no memory and runs the handlers of forks. libc
 * has a second name for it, which is left alone. */
pid_t __vfork(void) __attribute__((returns_twice));
#define OS_VFORK() __vfork()
#else
#define OS_VFORK() vfork()
#endif

/* The end of a child. */
struct os_exit {
    pid_t pid;
    int code;   /* exit code, when signal is 0 */
    int signal; /* what ended it, 0 when it exited */
    bool core_dumped;
    uint64_t memory_peak; /* bytes resident at most */
};

/* Reaps one child that has ended: ST_OK, ST_WOULD_BLOCK when none has, ST_NOT_FOUND when there is
 * no child at all. */
int os_proc_reap(struct os_exit *out) MUST_USE;
/* The same, and waits for one. ST_INTERRUPTED when a signal comes first. */
int os_proc_reap_wait(struct os_exit *out) MUST_USE;
/* Waits for one child and reaps it. ST_NOT_FOUND when it isn't there (any more). */
int os_proc_wait(pid_t pid, struct os_exit *out) MUST_USE;
/* "exit code 1", "SIGSEGV (core dumped)": a phrase. Returns `out`. */
char *os_exit_text(const struct os_exit *exit, char *out, size_t capacity);

/* Orphaned descendants become children of this process. */
int os_proc_become_subreaper(void) MUST_USE;
/* Sends `signal` to this process when the thread that made it ends; 0 none. */
int os_proc_on_parent_death(int signal) MUST_USE;

/* Children of this process as the kernel lists them. The number found (which may exceed
 * `capacity`: then only so many are written), or a status. */
int64_t os_proc_children(pid_t *out, size_t capacity);

/* Sends a signal to a process or, when it's gone, does nothing. */
void os_proc_signal(pid_t pid, int signal);

/* Whether the process is gone, or dies: descriptors end before a parent can see the death. */
bool os_proc_is_ending(pid_t pid);

/* How gladly the kernel kills the process when memory runs out: -1000 to 1000. A courtesy: what
 * can't be set is left alone. */
void os_proc_set_oom_score(pid_t pid, int score);

/* A descriptor that is readable when the process has ended. */
int os_pidfd_open(pid_t pid, int *fd) MUST_USE;
bool os_pidfd_is_dead(int fd);
/* The process a pidfd stands for, 0 when it's gone, -1 when the descriptor is something else. */
pid_t os_pidfd_pid(int fd);

/* A non-blocking descriptor that tells of `signals` (0 terminated), which are blocked in the
 * calling thread. */
int os_signal_open(const int *signals, int *fd) MUST_USE;
/* The next signal that came, 0 when there is none. */
int os_signal_next(int fd);

/* Unblocks every signal and puts ignored ones back to their default: for a forked child. */
void os_signal_reset(void);

/* The absolute path of this process's executable. */
int os_proc_self_path(char *out, size_t capacity) MUST_USE;

#endif
