/* SPDX-License-Identifier: Apache-2.0 */
/* The panic path of failed assertions. See assert.h. */
#include "base/assert.h"

static assert_panic_fn panic_hook;

void
assert_set_panic(assert_panic_fn fn)
{
    panic_hook = fn;
}

_Noreturn void
assert_fail(const char *expression, const char *where, const char *function)
{
    if (panic_hook) {
        panic_hook(expression, where, function);
    }
    __builtin_trap();
}
