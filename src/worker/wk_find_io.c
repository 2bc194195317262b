/* SPDX-License-Identifier: Apache-2.0 */
/* Which runtime a driver joins: the documented search order. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os/os_runtime.h"
#include "worker/wk_priv.h"

static const char *
from_environment(const char *name)
{
    /* tidy: getenv: by the thread that calls ray_init, as the program may change it before */
    const char *text = getenv(name);
    return text && *text ? text : NULL;
}

/* The standing runtime, if it lives. */
static bool
find_standing(const char *temp_dir, char *out, size_t capacity)
{
    char temp[OS_RUNTIME_PATH_MAX];
    const char *wanted = temp_dir && *temp_dir ? temp_dir : from_environment("RAY_TMPDIR");
    return os_runtime_temp(wanted, temp, sizeof(temp)) == ST_OK &&
           os_runtime_current(temp, out, capacity) && os_runtime_answers(out, NULL);
}

RAY_API int
ray_find_runtime(const char *address, const char *temp_dir, char *out, size_t capacity)
{
    out[0] = '\0';
    const char *given = address && *address ? address : NULL;
    const char *env = from_environment("RAY_ADDRESS");
    if ((!given || strcmp(given, "auto") == 0) && env) {
        given = env;
    }
    if (given && strcmp(given, "local") == 0) {
        return RAY_OK;
    }
    if (!given || strcmp(given, "auto") == 0) {
        if (find_standing(temp_dir, out, capacity)) {
            return RAY_OK;
        }
        out[0] = '\0';
        return given ? st_fail(ST_CONNECTION,
                               "Could not find any running Ray instance. Please specify the one to "
                               "connect to by setting `address` or the environment variable "
                               "RAY_ADDRESS, or start one: `ray start --head`.")
                     : RAY_OK;
    }
    if (given[0] != '/') {
        return st_fail(ST_NOT_SUPPORTED,
                       "Connecting to %s: an address of another form than that of `ray start` (the "
                       "path of a socket) is not built yet",
                       given);
    }
    if (strlen(given) >= capacity || !os_runtime_answers(given, NULL)) {
        return st_fail(ST_CONNECTION, "no Ray runtime of this user answers at %s", given);
    }
    (void)snprintf(out, capacity, "%s", given);
    return RAY_OK;
}
