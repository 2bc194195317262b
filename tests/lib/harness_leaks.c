/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counts of what a test may leave behind: descriptors, shared-memory names, processes, files. All
 * of it is read from /proc and /dev/shm, so that nothing in the code under test has to cooperate.
 */
#include "harness_priv.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char shm_directory[] = "/dev/shm";

static bool
is_number(const char *text)
{
    return text[0] != '\0' && text[strspn(text, "0123456789")] == '\0';
}

void
harness_names_init(struct harness_names *names, const char *directory)
{
    names->count = 0;
    names->name = calloc(HARNESS_NAMES_MAX, sizeof(names->name[0]));
    DIR *dir = names->name ? opendir(directory) : NULL;
    if (!dir) {
        return;
    }
    char own[16];
    snprintf(own, sizeof(own), "%d", dirfd(dir));
    bool fds = strcmp(directory, "/proc/self/fd") == 0;
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        if (e->d_name[0] == '.' || (fds && strcmp(e->d_name, own) == 0) ||
            names->count == HARNESS_NAMES_MAX) {
            continue;
        }
        snprintf(names->name[names->count++], HARNESS_NAME_BYTES, "%s", e->d_name);
    }
    closedir(dir);
}

void
harness_names_fini(struct harness_names *names)
{
    free(names->name);
    *names = (struct harness_names){ 0 };
}

static bool
names_contain(const struct harness_names *names, const char *name)
{
    for (size_t i = 0; i < names->count; i++) {
        if (strcmp(names->name[i], name) == 0) {
            return true;
        }
    }
    return false;
}

size_t
harness_fds_report(const struct harness_names *before)
{
    struct harness_names now;
    harness_names_init(&now, "/proc/self/fd");
    size_t leaked = 0;
    for (size_t i = 0; i < now.count; i++) {
        if (names_contain(before, now.name[i])) {
            continue;
        }
        char path[HARNESS_NAME_BYTES + 32];
        char target[512];
        snprintf(path, sizeof(path), "/proc/self/fd/%s", now.name[i]);
        ssize_t n = readlink(path, target, sizeof(target) - 1);
        target[n > 0 ? n : 0] = '\0';
        fprintf(stderr, "harness: descriptor %s was left open: %s\n", now.name[i], target);
        leaked++;
    }
    harness_names_fini(&now);
    return leaked;
}

/* True when a link in a directory of links (a process's fd or map_files) leads to `target`. */
static bool
links_lead_to(const char *directory, const char *target)
{
    DIR *dir = opendir(directory);
    if (!dir) {
        return false;
    }
    bool found = false;
    for (struct dirent *e = readdir(dir); e && !found; e = readdir(dir)) {
        char link[512];
        ssize_t n = readlinkat(dirfd(dir), e->d_name, link, sizeof(link) - 1);
        if (n > 0) {
            link[n] = '\0';
            found = strcmp(link, target) == 0;
        }
    }
    closedir(dir);
    return found;
}

static bool
is_mapped_by(const char *pid, const char *target)
{
    char path[HARNESS_NAME_BYTES + 32];
    snprintf(path, sizeof(path), "/proc/%s/maps", pid);
    FILE *maps = fopen(path, "re");
    if (!maps) {
        return false;
    }
    bool found = false;
    char line[1024];
    while (!found && fgets(line, sizeof(line), maps)) {
        found = strstr(line, target) != NULL;
    }
    fclose(maps);
    return found;
}

/* True when some living process has the file open or mapped. */
static bool
is_held(const char *target)
{
    struct harness_names processes;
    harness_names_init(&processes, "/proc");
    bool held = false;
    for (size_t i = 0; i < processes.count && !held; i++) {
        const char *pid = processes.name[i];
        if (!is_number(pid)) {
            continue;
        }
        char path[HARNESS_NAME_BYTES + 32];
        snprintf(path, sizeof(path), "/proc/%s/fd", pid);
        held = links_lead_to(path, target) || is_mapped_by(pid, target);
    }
    harness_names_fini(&processes);
    return held;
}

size_t
harness_shm_report(const struct harness_names *before)
{
    struct harness_names now;
    harness_names_init(&now, shm_directory);
    size_t leaked = 0;
    for (size_t i = 0; i < now.count; i++) {
        char path[HARNESS_NAME_BYTES + 32];
        struct stat st;
        snprintf(path, sizeof(path), "%s/%s", shm_directory, now.name[i]);
        /* Whether it is there is asked last: others' semaphores come and go within the search. */
        if (names_contain(before, now.name[i]) || is_held(path) || stat(path, &st) != 0 ||
            st.st_uid != geteuid()) {
            continue;
        }
        fprintf(stderr, "harness: shared memory was left: %s, %lld bytes\n", path,
                (long long)st.st_size);
        leaked++;
    }
    harness_names_fini(&now);
    return leaked;
}

pid_t
harness_find_child(pid_t except)
{
    struct harness_names processes;
    harness_names_init(&processes, "/proc");
    pid_t found = 0;
    for (size_t i = 0; i < processes.count && !found; i++) {
        char path[HARNESS_NAME_BYTES + 32];
        char text[1024];
        if (!is_number(processes.name[i])) {
            continue;
        }
        snprintf(path, sizeof(path), "/proc/%s/stat", processes.name[i]);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
        if (fd >= 0) {
            close(fd);
        }
        text[n > 0 ? n : 0] = '\0';
        /* The name, in parentheses, may hold anything: what follows the last one is regular. */
        const char *rest = strrchr(text, ')');
        pid_t pid = (pid_t)strtol(processes.name[i], NULL, 10);
        /* Then: a space, the state's letter, a space, the parent. */
        if (rest && strlen(rest) > 4 && strtol(rest + 4, NULL, 10) == getpid() && pid != except) {
            found = pid;
        }
    }
    harness_names_fini(&processes);
    return found;
}

static void
print_file(const char *label, const char *path)
{
    char text[512];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    if (fd >= 0) {
        close(fd);
    }
    for (ssize_t i = 0; i < n; i++) {
        if (text[i] == '\0' || text[i] == '\n') {
            text[i] = ' ';
        }
    }
    text[n > 0 ? n : 0] = '\0';
    fprintf(stderr, "harness:   %s %s\n", label, text);
}

void
harness_process_print(pid_t pid)
{
    char path[HARNESS_NAME_BYTES + 64];
    char tasks[64];
    snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
    fprintf(stderr, "harness: process %d\n", (int)pid);
    print_file("command", path);
    snprintf(tasks, sizeof(tasks), "/proc/%d/task", (int)pid);
    struct harness_names threads;
    harness_names_init(&threads, tasks);
    for (size_t i = 0; i < threads.count; i++) {
        snprintf(path, sizeof(path), "%s/%s/comm", tasks, threads.name[i]);
        print_file("thread", path);
        snprintf(path, sizeof(path), "%s/%s/wchan", tasks, threads.name[i]);
        print_file("  waits in", path);
        snprintf(path, sizeof(path), "%s/%s/syscall", tasks, threads.name[i]);
        print_file("  call", path);
    }
    harness_names_fini(&threads);
}

static int
remove_one(const char *path, const struct stat *st, int kind, struct FTW *walk)
{
    (void)st;
    (void)kind;
    (void)walk;
    return remove(path);
}

void
harness_tree_remove(const char *path)
{
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}
