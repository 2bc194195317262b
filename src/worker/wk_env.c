/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The variables that a task's lease decides: OMP_NUM_THREADS and CUDA_VISIBLE_DEVICES. They are set
 * in the worker's main thread before the first task of a lease, so before user code could have read
 * them; a worker is only leased again for the same values.
 *
 * What the user set for the whole job holds: OMP_NUM_THREADS is then left alone, and the devices of
 * a lease are numbers in the list that CUDA_VISIBLE_DEVICES had.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/wk_priv.h"

enum { DEVICE_LIST_MAX = 1024 };

static struct {
    bool looked;
    bool omp_given, devices_given;
    char devices[DEVICE_LIST_MAX]; /* as the job's environment has them */
    uint64_t epoch;                /* whose values are set */
} set;

static void
look_at_job(void)
{
    set.looked = true;
    set.omp_given = getenv("OMP_NUM_THREADS") != NULL;
    const char *devices = getenv("CUDA_VISIBLE_DEVICES");
    set.devices_given = devices && *devices && strlen(devices) < sizeof(set.devices);
    if (set.devices_given) {
        (void)snprintf(set.devices, sizeof(set.devices), "%s", devices);
    }
}

/* Entry `index` of the job's list, "" beyond its end. The result isn't terminated. */
static const char *
given_device(uint32_t index, size_t *size)
{
    const char *at = set.devices;
    for (; index > 0 && at; index--) {
        at = strchr(at, ',');
        at = at ? at + 1 : NULL;
    }
    *size = at ? strcspn(at, ",") : 0;
    return at ? at : "";
}

static void
set_devices(const struct store_ctl_raylet *page)
{
    const char *untouched = getenv("RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES");
    if (untouched && strcmp(untouched, "0") != 0 && *untouched) {
        return;
    }
    uint32_t count = atom_u32_load(&page->gpu_count, ATOM_RELAXED);
    count = count < STORE_GPUS_MAX ? count : STORE_GPUS_MAX;
    char list[DEVICE_LIST_MAX] = "";
    size_t used = 0;
    for (uint32_t i = 0; i < count && used < sizeof(list); i++) {
        const uint32_t number = atom_u32_load(&page->gpus[i], ATOM_RELAXED);
        const char *comma = i > 0 ? "," : "";
        int n;
        if (set.devices_given) {
            size_t size = 0;
            const char *device = given_device(number, &size);
            n = snprintf(list + used, sizeof(list) - used, "%s%.*s", comma, (int)size, device);
        } else {
            n = snprintf(list + used, sizeof(list) - used, "%s%u", comma, number);
        }
        used += n > 0 ? (size_t)n : 0;
    }
    (void)setenv("CUDA_VISIBLE_DEVICES", list, 1);
}

void
wk_env_apply(void)
{
    const uint64_t epoch = atom_u64_load(&wk.raylet_page->lease_epoch, ATOM_ACQUIRE);
    if (set.looked && set.epoch == epoch) {
        return;
    }
    if (!set.looked) {
        look_at_job();
    }
    set.epoch = epoch;
    const uint32_t omp = atom_u32_load(&wk.raylet_page->omp_threads, ATOM_RELAXED);
    if (omp > 0 && !set.omp_given) {
        char text[16];
        (void)snprintf(text, sizeof(text), "%u", omp);
        (void)setenv("OMP_NUM_THREADS", text, 1);
    }
    set_devices(wk.raylet_page);
}
