/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this machine has: processors, memory and GPUs, as far as this process may use them. Limits
 * of control groups (both versions) and the processor affinity count.
 */
#ifndef RAY_OS_RES_H
#define RAY_OS_RES_H

#include <stdbool.h>
#include <stdint.h>

enum { OS_GPU_NAME_MAX = 64 };

struct os_machine {
    uint32_t cpus;             /* whole ones, at least 1 */
    bool cpu_quota;            /* a control group limits processor time */
    uint64_t memory_total;     /* bytes: the smaller of the machine's and the group's limit */
    uint64_t memory_available; /* bytes not in use now */
    uint32_t gpus;
    char gpu_name[OS_GPU_NAME_MAX]; /* model of the first: "A100", "" when there is none */
};

/* `root` is put before every path that is read: "" but in tests. */
void os_res_detect(const char *root, struct os_machine *out);

#endif
