/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The C face: functions registered with RAY_REMOTE, and the worker that runs them.
 *
 * A C program's workers are its own binary, started again; they know functions by name. The
 * library itself needs nothing of this: it is a user of ray.h like any other face.
 */
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "os/os_basic.h"
#include "worker/wk_exec.h"
#include "worker/wk_priv.h"

static struct ray_c_registration *registrations;

RAY_API void
ray_register_c_function(struct ray_c_registration *registration)
{
    registration->next = registrations;
    registrations = registration;
}

int
wk_c_functions_start(void)
{
    for (struct ray_c_registration *r = registrations; r; r = r->next) {
        if (*r->handle) {
            continue;
        }
        struct ray_function_desc desc = { .struct_size = sizeof(desc), .name = r->name };
        const uint64_t hash = id_hash(r->name, strlen(r->name));
        memcpy(desc.hash, &hash, sizeof(hash));
        TRY(ray_function_create(&desc, r->handle));
    }
    return RAY_OK;
}

static int
execute(void *ctx, ray_task *task)
{
    (void)ctx;
    const char *name = ray_task_function_name(task);
    for (const struct ray_c_registration *r = registrations; r; r = r->next) {
        if (strcmp(r->name, name) == 0) {
            return r->function(task);
        }
    }
    return st_fail(ST_NOT_FOUND, "this program has no function %s registered with RAY_REMOTE",
                   name);
}

/* ---- the common case: bytes in, bytes out ---- */

RAY_API int
ray_actor_call_bytes(ray_actor *actor, ray_function *method, const void *data, size_t size,
                     ray_ref **out)
{
    const struct ray_buf buf = { data, size };
    const struct ray_arg arg = { .value = { .bufs = &buf, .buf_count = 1 } };
    *out = NULL;
    return ray_actor_call(actor, method, NULL, &arg, 1, out);
}

RAY_API int
ray_get_bytes(ray_ref *ref, int64_t timeout_ms, void *out, size_t size)
{
    const uint64_t begin = timeout_ms >= 0 ? os_now_ns() : 0;
    ray_value *value = NULL;
    int64_t left_ms = timeout_ms;
    int status = ray_get(ref, left_ms, &value);
    while (status == RAY_E_INTERRUPTED && !wk_current_is_cancelled()) {
        if (timeout_ms >= 0) {
            const int64_t passed_ms = (int64_t)((os_now_ns() - begin) / 1000000u);
            left_ms = passed_ms < timeout_ms ? timeout_ms - passed_ms : 0;
        }
        status = ray_get(ref, left_ms, &value);
    }
    if (status == RAY_OK) {
        const size_t n = ray_value_size(value) < size ? ray_value_size(value) : size;
        if (n > 0) {
            memcpy(out, ray_value_data(value), n);
        }
        ray_value_release(value);
    }
    return status;
}

/* ---- workers ---- */

int
wk_c_worker_main(void)
{
    const struct ray_worker_options options = { .struct_size = sizeof(options),
                                                .execute = execute };
    if (wk_boot_worker() != ST_OK || wk_c_functions_start() != RAY_OK) {
        return 1;
    }
    const int code = ray_worker_run(&options);
    return code < 0 ? 1 : code;
}
