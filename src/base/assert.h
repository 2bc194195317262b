/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Assertions that stay on in release builds.
 *
 * ASSERT states a fact that only a bug of ours can break; the process ends with a report through
 * the panic hook. ASSERT_HOT is for debug builds only. COUNT_IF counts what should not happen but
 * can be survived. What comes from a peer, a user, a file or shared memory is checked, never
 * asserted. base makes no system call: the hook, installed by src/os, does the writing.
 */
#ifndef RAY_BASE_ASSERT_H
#define RAY_BASE_ASSERT_H

#include <stdint.h>

/* Called with the failed expression; must not return. `where` is "file:line", static text. */
typedef void (*assert_panic_fn)(const char *expression, const char *where, const char *function);

/* Installs the process's panic hook. NULL restores the default (a trap instruction). */
void assert_set_panic(assert_panic_fn fn);

_Noreturn void assert_fail(const char *expression, const char *where, const char *function);

#define ASSERT_STR2(x) #x
#define ASSERT_STR(x)  ASSERT_STR2(x)
#define ASSERT(cond)                                                                               \
    do {                                                                                           \
        if (__builtin_expect(!(cond), 0)) {                                                        \
            assert_fail(#cond, __FILE__ ":" ASSERT_STR(__LINE__), __func__);                       \
        }                                                                                          \
    } while (0)

#ifdef NDEBUG
#define ASSERT_HOT(cond) ((void)sizeof(cond))
#else
#ifdef RAY_DEBUG_ASSERTS
#define ASSERT_HOT(cond) ASSERT(cond)
#else
#define ASSERT_HOT(cond) ((void)sizeof(cond))
#endif
#endif

/* Marks a place that control can't reach. */
#define UNREACHABLE()                   assert_fail("unreachable", __FILE__ ":" ASSERT_STR(__LINE__), __func__)

#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define COUNT_OF(array)                 (sizeof(array) / sizeof((array)[0]))
#define MUST_USE                        __attribute__((warn_unused_result))

#endif
