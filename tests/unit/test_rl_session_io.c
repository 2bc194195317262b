/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of src/raylet/rl_session_io.c: directories of a runtime, and what dead ones left. */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/status.h"
#include "harness.h"
#include "os/os_basic.h"
#include "os/os_dir.h"
#include "os/os_runtime.h"
#include "os/os_sock.h"
#include "raylet/rl_session_io.h"

static void
open_session(struct rl_session *s)
{
    char temp[256];
    (void)snprintf(temp, sizeof(temp), "%s/temp", harness_dir());
    assert_int_equal(chmod(harness_dir(), 0700), 0);
    assert_int_equal(setenv("XDG_RUNTIME_DIR", harness_dir(), 1), 0);
    assert_int_equal(rl_session_open(s, temp, 4711), ST_OK);
}

static void
test_directories_are_made_and_removed(void **state)
{
    (void)state;
    struct rl_session s;
    open_session(&s);
    assert_int_equal(strncmp(s.name, "session_", 8), 0);
    assert_non_null(strstr(s.name, "_4711"));
    assert_true(os_dir_private(s.socket_dir));
    assert_true(strlen(s.socket_dir) + sizeof("/p4194304-00000000") < OS_SOCK_PATH_MAX);
    char path[512], link[512];
    (void)snprintf(path, sizeof(path), "%s/logs", s.dir);
    assert_true(os_dir_writable(path));
    (void)snprintf(path, sizeof(path), "%s/temp/session_latest", harness_dir());
    const ssize_t n = readlink(path, link, sizeof(link) - 1);
    assert_true(n > 0);
    link[n] = '\0';
    assert_string_equal(link, s.dir);
    (void)snprintf(path, sizeof(path), "%s/gcs.db", s.dir);
    assert_int_equal(os_file_write(path, "x", 1, 0600), ST_OK);
    rl_session_remove(&s);
    assert_int_not_equal(access(path, F_OK), 0);
    assert_int_not_equal(access(s.socket_dir, F_OK), 0);
    (void)snprintf(path, sizeof(path), "%s/logs", s.dir);
    assert_int_equal(access(path, F_OK), 0);
    os_close(&s.lock);
}

static void
test_only_the_dead_are_swept(void **state)
{
    (void)state;
    struct rl_session living, dead, own;
    open_session(&living);
    open_session(&dead);
    open_session(&own);
    char path[512];
    (void)snprintf(path, sizeof(path), "%s/gcs.db", dead.dir);
    assert_int_equal(os_file_write(path, "x", 1, 0600), ST_OK);
    os_close(&dead.lock); /* as the end of its processes does */
    rl_session_sweep(&own);
    assert_int_equal(access(living.socket_dir, F_OK), 0);
    assert_int_equal(access(own.socket_dir, F_OK), 0);
    assert_int_not_equal(access(dead.socket_dir, F_OK), 0);
    assert_int_not_equal(access(path, F_OK), 0);
    rl_session_remove(&living);
    rl_session_remove(&own);
    os_close(&living.lock);
    os_close(&own.lock);
}

static int
count_sockets(const struct rl_session *s)
{
    char base[512];
    (void)snprintf(base, sizeof(base), "%s/ray-c", harness_dir());
    int count = 0;
    DIR *dir = opendir(base);
    assert_non_null(dir);
    for (const struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        count += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    }
    (void)closedir(dir);
    assert_true(count == 0 || s->socket_dir[0] != '\0');
    return count;
}

static void
test_half_made_ones_go_too(void **state)
{
    (void)state;
    struct rl_session failed, own;
    struct rlimit before, none;
    open_session(&own);
    /* Without room for a file's bytes. */
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    none = (struct rlimit){ .rlim_cur = 0, .rlim_max = before.rlim_max };
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
    char path[512];
    (void)snprintf(path, sizeof(path), "%s/temp", harness_dir());
    assert_int_equal(rl_session_open(&failed, path, 1), ST_SYSTEM);
    assert_non_null(strstr(st_last()->text, "can't write"));
    os_close(&failed.lock);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(count_sockets(&own), 1);
    /* Of processes that were killed meanwhile: an old one, and one that may still be alive. */
    (void)snprintf(path, sizeof(path), "%s/ray-c/.00000001", harness_dir());
    assert_int_equal(os_dir_make(path, 0700), ST_OK);
    (void)snprintf(path, sizeof(path), "%s/ray-c/.00000002", harness_dir());
    assert_int_equal(os_dir_make(path, 0700), ST_OK);
    const struct timespec old[2] = { { .tv_sec = 1 }, { .tv_sec = 1 } };
    assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
    rl_session_sweep(&own);
    assert_int_equal(count_sockets(&own), 2);
    assert_int_not_equal(access(path, F_OK), 0);
    rl_session_remove(&own);
    os_close(&own.lock);
}

/* When somebody else has the usual name in /tmp. */
static void
test_a_base_of_ones_own_goes_with_its_runtime(void **state)
{
    (void)state;
    struct rl_session s;
    char base[256];
    open_session(&s);
    rl_session_remove(&s);
    os_close(&s.lock);
    (void)snprintf(base, sizeof(base), "/tmp/.ray-%u-%08x", (unsigned)geteuid(),
                   (unsigned)getpid());
    assert_int_equal(os_dir_make_new(base, 0700), ST_OK);
    assert_int_equal(os_path(s.socket_dir, sizeof(s.socket_dir), "%s/00000001", base), ST_OK);
    assert_int_equal(os_dir_make_new(s.socket_dir, 0700), ST_OK);
    rl_session_remove(&s);
    assert_int_not_equal(access(base, F_OK), 0);
    assert_int_equal(os_dir_make_new(base, 0700), ST_OK);
    assert_int_equal(os_dir_make_new(s.socket_dir, 0700), ST_OK);
    os_runtime_drop_base(base); /* it is in use */
    os_runtime_drop_base(harness_dir());
    assert_int_equal(access(s.socket_dir, F_OK), 0);
    assert_int_equal(access(harness_dir(), F_OK), 0);
    rl_session_remove(&s);
}

/* A file that tells where the dead one's session was is not believed blindly. */
static void
test_a_forged_session_file_harms_nobody(void **state)
{
    (void)state;
    struct rl_session dead, own;
    char path[512], victim[512];
    open_session(&dead);
    open_session(&own);
    (void)snprintf(victim, sizeof(victim), "%s/victim", harness_dir());
    assert_int_equal(os_dir_make(victim, 0700), ST_OK);
    (void)snprintf(path, sizeof(path), "%s/session", dead.socket_dir);
    assert_int_equal(os_file_write(path, victim, strlen(victim), 0600), ST_OK);
    (void)snprintf(path, sizeof(path), "%s/gcs.db", victim);
    assert_int_equal(os_file_write(path, "x", 1, 0600), ST_OK);
    os_close(&dead.lock);
    rl_session_sweep(&own);
    assert_int_equal(access(path, F_OK), 0);
    assert_int_not_equal(access(dead.socket_dir, F_OK), 0);
    rl_session_remove(&own);
    os_close(&own.lock);
}

static void
test_bad_places_are_refused(void **state)
{
    (void)state;
    struct rl_session s;
    assert_int_equal(rl_session_open(&s, "relative/dir", 1), ST_INVALID_ARGUMENT);
    char file[512];
    (void)snprintf(file, sizeof(file), "%s/file", harness_dir());
    assert_int_equal(os_file_write(file, "x", 1, 0600), ST_OK);
    assert_int_equal(rl_session_open(&s, file, 1), ST_SYSTEM);
    char long_dir[1024];
    memset(long_dir, 'x', sizeof(long_dir));
    long_dir[0] = '/';
    long_dir[sizeof(long_dir) - 1] = '\0';
    assert_int_equal(rl_session_open(&s, long_dir, 1), ST_INVALID_ARGUMENT);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_directories_are_made_and_removed),
        cmocka_unit_test(test_only_the_dead_are_swept),
        cmocka_unit_test(test_half_made_ones_go_too),
        cmocka_unit_test(test_a_base_of_ones_own_goes_with_its_runtime),
        cmocka_unit_test(test_a_forged_session_file_harms_nobody),
        cmocka_unit_test(test_bad_places_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
