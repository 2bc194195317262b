/* SPDX-License-Identifier: Apache-2.0 */
/* Processes on Linux. See os_proc.h. */
#include "os/os_proc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/status.h"
#include "os/os_basic.h"

/* ---- starting -------------------------------------------------------------------------------- */

static int
place_fd(int fd, int target)
{
    if (fd < 0) {
        fd = open("/dev/null", target == 0 ? O_RDONLY : O_WRONLY);
        if (fd < 0) {
            return errno;
        }
    }
    if (fd != target) {
        return dup2(fd, target) < 0 ? errno : 0;
    }
    return fcntl(fd, F_SETFD, 0) < 0 ? errno : 0;
}

/* Runs in the child, which shares the parent's memory until it executes: only system calls, and no
 * change to anything but *error. */
static void
child_execute(const struct os_spawn *spec, pid_t parent, volatile int *error)
{
    if (spec->new_session && setsid() < 0) {
        *error = errno;
        return;
    }
    if (spec->die_with_parent) {
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0) {
            *error = errno;
            return;
        }
        if (getppid() != parent) {
            *error = ESRCH; /* it ended in between; nobody reads this */
            return;
        }
    }
    if (spec->subreaper && prctl(PR_SET_CHILD_SUBREAPER, 1) < 0) {
        *error = errno;
        return;
    }
    const int standard[3] = { spec->stdin_fd, spec->stdout_fd, spec->stderr_fd };
    for (int i = 0; i < 3; i++) {
        const int failed = place_fd(standard[i], i);
        if (failed) {
            *error = failed;
            return;
        }
    }
    for (size_t i = 0; i < spec->keep_count; i++) {
        if (fcntl(spec->keep[i], F_SETFD, 0) < 0) {
            *error = errno;
            return;
        }
    }
    if (spec->cwd && chdir(spec->cwd) < 0) {
        *error = errno;
        return;
    }
    os_signal_reset();
    /* execvpe doesn't change what the pointers lead to, its type merely predates const. */
    char *const *argv = (char *const *)(uintptr_t)spec->argv;
    char *const *envp = spec->envp ? (char *const *)(uintptr_t)spec->envp : environ;
    (void)execvpe(argv[0], argv, envp);
    *error = errno;
}

int
os_proc_spawn(const struct os_spawn *spec, pid_t *pid)
{
    *pid = 0;
    ASSERT(spec->argv && spec->argv[0]);
    for (size_t i = 0; i < spec->keep_count; i++) {
        ASSERT(spec->keep[i] > 2);
    }
    volatile int error = 0;
    const pid_t self = getpid();
    /* With every signal blocked no handler of the parent can run on the shared stack. */
    sigset_t all, before;
    sigfillset(&all);
    if (sigprocmask(SIG_BLOCK, &all, &before) < 0) {
        return st_fail_errno(ST_SYSTEM, errno, "can't block signals");
    }
    /* vfork, since posix_spawn can set no death signal, and the memory map of a raylet with a large
     * store mapped is slow to copy. */
    const pid_t child = OS_VFORK();
    if (child == 0) {
        child_execute(spec, self, &error);
        _exit(127);
    }
    const int fork_errno = errno;
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
    if (child < 0) {
        return st_fail_errno(ST_SYSTEM, fork_errno, "can't start %s", spec->argv[0]);
    }
    if (error) {
        while (waitpid(child, NULL, 0) < 0 && errno == EINTR) {
        }
        return st_fail_errno(ST_SYSTEM, error, "can't execute %s", spec->argv[0]);
    }
    *pid = child;
    return ST_OK;
}

/* ---- reaping --------------------------------------------------------------------------------- */

static int
reap(pid_t which, struct os_exit *out, int options)
{
    memset(out, 0, sizeof(*out));
    int status = 0;
    struct rusage usage;
    memset(&usage, 0, sizeof(usage));
    const pid_t pid = wait4(which, &status, options, &usage);
    if (pid == 0) {
        return ST_WOULD_BLOCK;
    }
    if (pid < 0) {
        switch (errno) {
        case ECHILD:
            return ST_NOT_FOUND;
        case EINTR:
            return ST_INTERRUPTED;
        default:
            return st_fail_errno(ST_SYSTEM, errno, "can't reap");
        }
    }
    out->pid = pid;
    if (WIFSIGNALED(status)) {
        out->signal = WTERMSIG(status);
        out->core_dumped = WCOREDUMP(status) != 0;
    } else {
        out->code = WEXITSTATUS(status);
    }
    out->memory_peak = (uint64_t)usage.ru_maxrss * 1024;
    return ST_OK;
}

int
os_proc_reap(struct os_exit *out)
{
    int status = reap(-1, out, WNOHANG);
    while (status == ST_INTERRUPTED) {
        status = reap(-1, out, WNOHANG);
    }
    return status;
}

int
os_proc_reap_wait(struct os_exit *out)
{
    return reap(-1, out, 0);
}

int
os_proc_wait(pid_t pid, struct os_exit *out)
{
    int status = reap(pid, out, 0);
    while (status == ST_INTERRUPTED) {
        status = reap(pid, out, 0);
    }
    return status;
}

char *
os_exit_text(const struct os_exit *exit, char *out, size_t capacity)
{
    if (exit->signal) {
        const char *name = sigabbrev_np(exit->signal);
        (void)snprintf(out, capacity, "killed by signal %d (SIG%s)%s", exit->signal,
                       name ? name : "?", exit->core_dumped ? ", core dumped" : "");
    } else {
        (void)snprintf(out, capacity, "exit code %d", exit->code);
    }
    return out;
}

bool
os_proc_is_ending(pid_t pid)
{
    enum { EXITING = 4 }; /* PF_EXITING in the kernel's flags, proc(5) */
    char path[64], text[512];
    (void)snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
    if (os_read_text(path, text, sizeof(text)) <= 0) {
        return true;
    }
    const char *after = strrchr(text, ')'); /* a name may contain anything */
    char state = 0;
    unsigned flags = 0;
    return !after || sscanf(after + 1, " %c %*d %*d %*d %*d %*d %u", &state, &flags) != 2 ||
           state == 'Z' || state == 'X' || (flags & EXITING) != 0;
}

int
os_proc_become_subreaper(void)
{
    if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0) {
        return st_fail_errno(ST_SYSTEM, errno, "can't become a child subreaper");
    }
    return ST_OK;
}

int
os_proc_on_parent_death(int signal)
{
    if (prctl(PR_SET_PDEATHSIG, signal) < 0) {
        return st_fail_errno(ST_SYSTEM, errno, "can't set the death signal");
    }
    return ST_OK;
}

/* ---- finding --------------------------------------------------------------------------------- */

/* Appends the numbers of one `children` file. The new count. */
static size_t
read_children_file(const char *path, pid_t *out, size_t capacity, size_t count)
{
    FILE *file = fopen(path, "re");
    if (!file) {
        return count;
    }
    int pid = 0;
    while (fscanf(file, "%d", &pid) == 1) {
        if (count < capacity) {
            out[count] = pid;
        }
        count++;
    }
    (void)fclose(file);
    return count;
}

/* For kernels without /proc/<pid>/task/<tid>/children: looks at the parent of every process. */
static size_t
scan_all_processes(pid_t *out, size_t capacity)
{
    DIR *dir = opendir("/proc");
    if (!dir) {
        return 0;
    }
    size_t count = 0;
    const pid_t self = getpid();
    for (const struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        const long pid = strtol(e->d_name, NULL, 10);
        if (pid <= 0) {
            continue;
        }
        char path[64], text[512];
        (void)snprintf(path, sizeof(path), "/proc/%ld/stat", pid);
        if (os_read_text(path, text, sizeof(text)) <= 0) {
            continue;
        }
        const char *after = strrchr(text, ')'); /* a name may contain anything */
        int parent = 0;
        if (after && sscanf(after + 1, " %*c %d", &parent) == 1 && parent == self) {
            if (count < capacity) {
                out[count] = (pid_t)pid;
            }
            count++;
        }
    }
    (void)closedir(dir);
    return count;
}

int64_t
os_proc_children(pid_t *out, size_t capacity)
{
    if (access("/proc/thread-self/children", R_OK) < 0) {
        return (int64_t)scan_all_processes(out, capacity);
    }
    DIR *dir = opendir("/proc/self/task");
    if (!dir) {
        return st_fail_errno(ST_SYSTEM, errno, "can't list the threads");
    }
    size_t count = 0;
    for (const struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        if (e->d_name[0] == '.') {
            continue;
        }
        char path[300];
        (void)snprintf(path, sizeof(path), "/proc/self/task/%s/children", e->d_name);
        count = read_children_file(path, out, capacity, count);
    }
    (void)closedir(dir);
    return (int64_t)count;
}

void
os_proc_signal(pid_t pid, int signal)
{
    if (pid > 1) {
        (void)kill(pid, signal); /* gone already, or not ours any more: nothing to do */
    }
}

void
os_proc_set_oom_score(pid_t pid, int score)
{
    char path[64], text[16];
    (void)snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", (int)pid);
    const int n = snprintf(text, sizeof(text), "%d", score);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0 && n > 0 && write(fd, text, (size_t)n) < 0) {
        errno = 0;
    }
    os_close(&fd);
}

int
os_pidfd_open(pid_t pid, int *fd)
{
    *fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (*fd < 0) {
        *fd = -1;
        return st_fail_errno(ST_SYSTEM, errno, "can't open a descriptor of process %d", (int)pid);
    }
    return ST_OK;
}

bool
os_pidfd_is_dead(int fd)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };
    return poll(&p, 1, 0) == 1 && (p.revents & POLLIN);
}

pid_t
os_pidfd_pid(int fd)
{
    char path[64], text[1024];
    (void)snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
    if (os_read_text(path, text, sizeof(text)) <= 0) {
        return -1;
    }
    const char *line = strstr(text, "\nPid:");
    if (!line) {
        return -1;
    }
    const long pid = strtol(line + 5, NULL, 10);
    return pid > 0 ? (pid_t)pid : 0;
}

/* ---- signals --------------------------------------------------------------------------------- */

int
os_signal_open(const int *signals, int *fd)
{
    *fd = -1;
    sigset_t set;
    sigemptyset(&set);
    for (; *signals; signals++) {
        sigaddset(&set, *signals);
    }
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0) {
        return st_fail_errno(ST_SYSTEM, errno, "can't block signals");
    }
    *fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (*fd < 0) {
        return st_fail_errno(ST_SYSTEM, errno, "can't open a signal descriptor");
    }
    return ST_OK;
}

int
os_signal_next(int fd)
{
    struct signalfd_siginfo info;
    for (;;) {
        const ssize_t n = read(fd, &info, sizeof(info));
        if (n == (ssize_t)sizeof(info)) {
            return (int)info.ssi_signo;
        }
        if (n < 0 && errno == EINTR) {
            continue;
        }
        return 0;
    }
}

void
os_signal_reset(void)
{
    for (int s = 1; s < NSIG; s++) {
        struct sigaction now;
        if (sigaction(s, NULL, &now) == 0 && now.sa_handler == SIG_IGN) {
            struct sigaction plain;
            memset(&plain, 0, sizeof(plain));
            plain.sa_handler = SIG_DFL;
            (void)sigaction(s, &plain, NULL);
        }
    }
    sigset_t none;
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

int
os_proc_self_path(char *out, size_t capacity)
{
    const ssize_t n = readlink("/proc/self/exe", out, capacity);
    if (n < 0 || (size_t)n >= capacity) {
        out[0] = '\0';
        return st_fail_errno(ST_SYSTEM, n < 0 ? errno : ENAMETOOLONG, "can't find the own program");
    }
    out[n] = '\0';
    return ST_OK;
}
