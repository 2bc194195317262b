/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The runtime around each test of the C face, and the short forms that c_face.h describes.
 */
#include "c_face.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static struct ray_context context;

void
c_face_main(int argc, char **argv)
{
    if (getenv("RAY_START_TOKEN")) {
        exit(ray_init(argc, argv, NULL) == RAY_OK ? 0 : 1);
    }
}

void
c_face_expect(int wanted, int status, const char *call, const char *file, int line)
{
    if (status != wanted) {
        (void)fprintf(stderr, "%s gave %s, not %s: %s\n", call, ray_status_name(status),
                      ray_status_name(wanted), status == RAY_OK ? "" : ray_error_text());
        _fail(file, line);
    }
}

static int
start(double num_cpus, uint64_t store_bytes)
{
    struct ray_init_options options;
    ray_init_options_default(&options);
    options.num_cpus = num_cpus;
    options.num_gpus = 0;
    options.object_store_memory = store_bytes;
    options.temp_dir = harness_dir();
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    MUST(ray_init(0, NULL, &options));
    context.struct_size = sizeof(context);
    MUST(ray_context_get(&context));
    return 0;
}

int
c_face_start_with(double num_cpus)
{
    return start(num_cpus, 256u << 20);
}

int
c_face_start(void **state)
{
    (void)state;
    return c_face_start_with(2);
}

int
c_face_start_small(void **state)
{
    (void)state;
    return start(2, 64u << 20);
}

const struct ray_context *
c_face_context(void)
{
    return &context;
}

static void
expect_only_logs(const char *session_dir)
{
    DIR *dir = opendir(session_dir);
    assert_non_null(dir);
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        if (e->d_name[0] != '.' && strcmp(e->d_name, "logs") != 0) {
            fail_msg("%s/%s was left", session_dir, e->d_name);
        }
    }
    closedir(dir);
}

void
c_face_expect_gone(const struct ray_context *of)
{
    char sockets[sizeof(of->raylet_socket)];
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR) {
    }
    assert_int_equal(errno, ECHILD);
    (void)snprintf(sockets, sizeof(sockets), "%s", of->raylet_socket);
    char *slash = strrchr(sockets, '/');
    assert_non_null(slash);
    *slash = '\0';
    if (access(sockets, F_OK) == 0) {
        fail_msg("the directory %s was left", sockets);
    }
    expect_only_logs(of->session_dir);
}

int
c_face_stop(void **state)
{
    (void)state;
    MUST(ray_shutdown());
    c_face_expect_gone(&context);
    return 0;
}

/* ---- calls ---- */

ray_ref *
c_face_call(ray_function *function, ray_options *options, uint64_t number)
{
    const struct ray_buf buf = { &number, sizeof(number) };
    const struct ray_arg arg = { .value = { .bufs = &buf, .buf_count = 1 } };
    ray_ref *ref = NULL;
    MUST(ray_task_submit(function, options, &arg, 1, &ref));
    return ref;
}

ray_ref *
c_face_call_text(ray_function *function, ray_options *options, const char *text)
{
    const struct ray_buf buf = { text, strlen(text) + 1 };
    const struct ray_arg arg = { .value = { .bufs = &buf, .buf_count = 1 } };
    ray_ref *ref = NULL;
    MUST(ray_task_submit(function, options, &arg, 1, &ref));
    return ref;
}

ray_ref *
c_face_method(ray_actor *actor, ray_function *method, uint64_t number)
{
    ray_ref *ref = NULL;
    MUST(ray_actor_call_bytes(actor, method, &number, sizeof(number), &ref));
    return ref;
}

uint64_t
c_face_number(ray_ref *ref)
{
    uint64_t number = UINT64_MAX;
    MUST(ray_get_bytes(ref, -1, &number, sizeof(number)));
    ray_ref_release(ref);
    return number;
}

const char *
c_face_failure(int status, ray_ref *ref)
{
    static char text[4096];
    uint64_t number;
    EXPECT(status, ray_get_bytes(ref, -1, &number, sizeof(number)));
    (void)snprintf(text, sizeof(text), "%s", ray_error_text());
    ray_ref_release(ref);
    return text;
}

ray_options *
c_face_options(const struct ray_task_options *options)
{
    ray_options *made = NULL;
    MUST(ray_options_create(options, &made));
    return made;
}

uint64_t
c_face_arg(ray_task *task)
{
    uint64_t number = UINT64_MAX;
    if (ray_task_arg_copy(task, 0, &number, sizeof(number)) != (int64_t)sizeof(number)) {
        number = UINT64_MAX;
    }
    return number;
}

int
c_face_return(ray_task *task, uint64_t number)
{
    return ray_task_return_bytes(task, 0, &number, sizeof(number));
}

/* ---- meeting places: a FIFO each, whose opening waits for the other side ---- */

void
c_face_gate_create(const char *name, char path[128])
{
    (void)snprintf(path, 128, "%s/%s", harness_dir(), name);
    assert_int_equal(mkfifo(path, 0600), 0);
}

void
c_face_gate_tell(const char *path, uint64_t number)
{
    const int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, &number, sizeof(number)) != (ssize_t)sizeof(number)) {
        abort();
    }
    close(fd);
}

uint64_t
c_face_gate_ask(const char *path)
{
    uint64_t number = 0;
    ssize_t n;
    do { /* again when it was only an earlier teller that had not closed it yet */
        const int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0) {
            abort();
        }
        n = read(fd, &number, sizeof(number));
        close(fd);
    } while (n == 0);
    if (n != (ssize_t)sizeof(number)) {
        abort();
    }
    return number;
}

void
c_face_wait_process(int pid)
{
    const int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0) {
        assert_int_equal(errno, ESRCH);
        return;
    }
    struct pollfd p = { .fd = fd, .events = POLLIN };
    while (poll(&p, 1, -1) < 0) {
        assert_int_equal(errno, EINTR);
    }
    close(fd);
}

pid_t
c_face_child(pid_t parent, const char *name)
{
    pid_t found = 0;
    DIR *dir = opendir("/proc");
    assert_non_null(dir);
    for (struct dirent *e = readdir(dir); e && !found; e = readdir(dir)) {
        char path[300], text[512] = "";
        (void)snprintf(path, sizeof(path), "/proc/%s/stat", e->d_name);
        const int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0) {
            continue;
        }
        const ssize_t n = read(fd, text, sizeof(text) - 1);
        close(fd);
        char *open_paren = strchr(text, '('), *close_paren = strrchr(text, ')');
        if (n <= 0 || !open_paren || !close_paren) {
            continue;
        }
        *close_paren = '\0';
        if (strcmp(open_paren + 1, name) == 0 &&
            strtol(close_paren + 4, NULL, 10) == (long)parent) {
            found = (pid_t)strtol(text, NULL, 10);
        }
    }
    closedir(dir);
    return found;
}
