/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Detection of resources on Linux. See os_res.h. What can't be read counts as no limit, so that an
 * unusual machine gives larger rather than no figures.
 */
#include "os/os_res.h"

#include <ctype.h>
#include <dirent.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "os/os_basic.h"

enum { TEXT_MAX = 16384 };

/* What one control group (with all above it) allows. */
struct limits {
    double cpus;          /* 0 when there is no limit */
    uint64_t memory;      /* UINT64_MAX when there is no limit */
    uint64_t memory_used; /* of the group that has the limit */
};

static bool
read_file(const char *root, const char *path, char *text, size_t capacity)
{
    char full[PATH_MAX];
    const int n = snprintf(full, sizeof(full), "%s%s", root, path);
    return n > 0 && (size_t)n < sizeof(full) && os_read_text(full, text, capacity) > 0;
}

static bool
read_number(const char *root, const char *dir, const char *name, uint64_t *out)
{
    char path[PATH_MAX], text[128];
    const int n = snprintf(path, sizeof(path), "%s/%s", dir, name);
    if (n <= 0 || (size_t)n >= sizeof(path) || !read_file(root, path, text, sizeof(text)) ||
        !isdigit((unsigned char)text[0])) {
        return false;
    }
    *out = strtoull(text, NULL, 10);
    return true;
}

static void
limit_cpus(struct limits *limits, double quota, double period)
{
    if (quota > 0 && period > 0 && (limits->cpus <= 0 || quota / period < limits->cpus)) {
        limits->cpus = quota / period;
    }
}

static void
limit_memory(struct limits *limits, uint64_t most, uint64_t used)
{
    if (most < limits->memory) {
        limits->memory = most;
        limits->memory_used = used;
    }
}

static void
read_group_v2(const char *root, const char *dir, struct limits *limits)
{
    char path[PATH_MAX], text[128];
    const int n = snprintf(path, sizeof(path), "%s/cpu.max", dir);
    if (n > 0 && (size_t)n < sizeof(path) && read_file(root, path, text, sizeof(text))) {
        double quota = 0, period = 0;
        if (sscanf(text, "%lf %lf", &quota, &period) == 2) {
            limit_cpus(limits, quota, period);
        }
    }
    uint64_t most = 0, used = 0;
    if (read_number(root, dir, "memory.max", &most)) {
        (void)read_number(root, dir, "memory.current", &used);
        limit_memory(limits, most, used);
    }
}

static void
read_group_v1(const char *root, const char *dir, struct limits *limits)
{
    uint64_t quota = 0, period = 0, most = 0, used = 0;
    if (read_number(root, dir, "cpu.cfs_quota_us", &quota) &&
        read_number(root, dir, "cpu.cfs_period_us", &period)) {
        limit_cpus(limits, (double)quota, (double)period);
    }
    if (read_number(root, dir, "memory.limit_in_bytes", &most)) {
        (void)read_number(root, dir, "memory.usage_in_bytes", &used);
        limit_memory(limits, most, used);
    }
}

/* Reads a group's directory and every one above it up to `mount`. In a container the path told by
 * /proc may not exist below the mount; then only the mount itself is read. */
static void
read_groups(const char *root, const char *mount, const char *group, bool v2, struct limits *limits)
{
    char dir[PATH_MAX];
    const int n = snprintf(dir, sizeof(dir), "%s%s", mount, strcmp(group, "/") == 0 ? "" : group);
    if (n <= 0 || (size_t)n >= sizeof(dir)) {
        return;
    }
    const size_t mount_length = strlen(mount);
    for (;;) {
        if (v2) {
            read_group_v2(root, dir, limits);
        } else {
            read_group_v1(root, dir, limits);
        }
        char *slash = strrchr(dir, '/');
        if (!slash || (size_t)(slash - dir) < mount_length) {
            break;
        }
        *slash = '\0';
    }
}

static bool
has_word(const char *list, const char *word)
{
    const size_t length = strlen(word);
    for (const char *p = list; p; p = strchr(p, ',')) {
        p += *p == ',';
        if (strncmp(p, word, length) == 0 && (p[length] == ',' || p[length] == '\0')) {
            return true;
        }
    }
    return false;
}

static void
read_limits(const char *root, struct limits *limits)
{
    *limits = (struct limits){ .memory = UINT64_MAX };
    char *text = malloc(TEXT_MAX);
    if (!text || !read_file(root, "/proc/self/cgroup", text, TEXT_MAX)) {
        free(text);
        return;
    }
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char *controllers = strchr(line, ':'); /* "4:cpu,cpuacct:/path" or "0::/path" */
        char *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group) {
            continue;
        }
        controllers++;
        *group++ = '\0';
        if (*controllers == '\0') {
            read_groups(root, "/sys/fs/cgroup", group, true, limits);
        } else if (has_word(controllers, "cpu")) {
            read_groups(root, "/sys/fs/cgroup/cpu", group, false, limits);
        } else if (has_word(controllers, "memory")) {
            read_groups(root, "/sys/fs/cgroup/memory", group, false, limits);
        }
    }
    free(text);
}

static uint64_t
meminfo(const char *text, const char *name)
{
    const char *line = strstr(text, name);
    return line ? strtoull(line + strlen(name), NULL, 10) * 1024 : 0;
}

static uint32_t
affinity_cpus(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) > 0) {
        return (uint32_t)CPU_COUNT(&set);
    }
    const long online = sysconf(_SC_NPROCESSORS_ONLN); /* more processors than cpu_set_t has */
    return online > 0 ? (uint32_t)online : 1;
}

/* "NVIDIA A100-SXM4-40GB" and "Tesla V100-PCIE" become "A100" and "V100", as Ray names them. */
static void
short_gpu_name(const char *model, char out[OS_GPU_NAME_MAX])
{
    static const char *const makers[] = { "NVIDIA ", "Tesla ", "GeForce ", "Quadro " };
    for (size_t i = 0; i < sizeof(makers) / sizeof(makers[0]); i++) {
        if (strncmp(model, makers[i], strlen(makers[i])) == 0) {
            model += strlen(makers[i]);
        }
    }
    size_t n = 0;
    while (n + 1 < OS_GPU_NAME_MAX && (isalnum((unsigned char)model[n]) || model[n] == '_')) {
        out[n] = model[n];
        n++;
    }
    out[n] = '\0';
}

static void
detect_gpus(const char *root, struct os_machine *out)
{
    static const char place[] = "/proc/driver/nvidia/gpus";
    char path[PATH_MAX];
    (void)snprintf(path, sizeof(path), "%s%s", root, place);
    DIR *dir = opendir(path);
    if (!dir) {
        return;
    }
    for (const struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        if (e->d_name[0] == '.') {
            continue;
        }
        out->gpus++;
        char text[2048];
        const int n = snprintf(path, sizeof(path), "%s/%s/information", place, e->d_name);
        if (out->gpu_name[0] == '\0' && n > 0 && (size_t)n < sizeof(path) &&
            read_file(root, path, text, sizeof(text))) {
            const char *model = strstr(text, "Model:");
            if (model) {
                model += strlen("Model:");
                model += strspn(model, " \t");
                short_gpu_name(model, out->gpu_name);
            }
        }
    }
    (void)closedir(dir);
}

void
os_res_detect(const char *root, struct os_machine *out)
{
    memset(out, 0, sizeof(*out));
    struct limits limits;
    read_limits(root, &limits);

    out->cpus = affinity_cpus();
    if (limits.cpus > 0 && limits.cpus < (double)out->cpus) {
        out->cpu_quota = true;
        out->cpus = limits.cpus < 1 ? 1 : (uint32_t)limits.cpus;
    }
    char text[4096];
    if (read_file(root, "/proc/meminfo", text, sizeof(text))) {
        out->memory_total = meminfo(text, "MemTotal:");
        out->memory_available = meminfo(text, "MemAvailable:");
    }
    if (limits.memory < out->memory_total) {
        out->memory_total = limits.memory;
        const uint64_t left =
            limits.memory_used < limits.memory ? limits.memory - limits.memory_used : 0;
        if (left < out->memory_available) {
            out->memory_available = left;
        }
    }
    detect_gpus(root, out);
}
