/* SPDX-License-Identifier: Apache-2.0 */
/* The status table and each thread's error record. See status.h. */
#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct st_info infos[] = {
    { ST_OK, "OK", "success", false, ST_LOST_NOTHING, "" },
#define STATUS(name, number, text, retryable, lost, python)                                        \
    { -(number), #name, text, retryable, ST_LOST_##lost, python },
#include "base/status.def"
#undef STATUS
};

static const struct st_info unknown = { -10000, "UNKNOWN",    "unknown status",
                                        false,  ST_LOST_CALL, "RaySystemError" };

static _Thread_local struct st_error last;

const struct st_info *
st_info(int status)
{
    for (size_t i = 0; i < COUNT_OF(infos); i++) {
        if (infos[i].status == status) {
            return &infos[i];
        }
    }
    return &unknown;
}

struct st_error *
st_last(void)
{
    return &last;
}

__attribute__((format(printf, 3, 0))) static void
fill(int status, int os_errno, const char *format, va_list args)
{
    char text[ST_TEXT_MAX];
    const int n = vsnprintf(text, sizeof(text), format, args);
    ASSERT(n >= 0);
    last.status = status;
    last.os_errno = os_errno;
    last.pid = 0;
    memcpy(last.text, text, sizeof(last.text));
}

#undef st_fail /* what status.h tells the analyzer */
#undef st_fail_errno

int
st_fail(int status, const char *format, ...)
{
    ASSERT(status < 0);
    va_list args;
    va_start(args, format);
    fill(status, 0, format, args);
    va_end(args);
    return status;
}

int
st_fail_errno(int status, int os_errno, const char *format, ...)
{
    ASSERT(status < 0);
    va_list args;
    va_start(args, format);
    fill(status, os_errno, format, args);
    va_end(args);
    const size_t used = strlen(last.text);
    const char *why = strerrordesc_np(os_errno);
    (void)snprintf(last.text + used, sizeof(last.text) - used, ": %s", why ? why : "unknown error");
    return status;
}
