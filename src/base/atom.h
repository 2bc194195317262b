/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Atomic operations. The one header of the tree that names them: every word that two processes or
 * two threads share without a lock is one of the structs below and is touched only through these
 * functions, so that a reader can find every such word, and a checker can stand behind every
 * access.
 *
 * Two builds:
 *  - normally each function is one compiler builtin and costs one instruction or two;
 *  - with RAY_CHECK_INTERLEAVE each function hands the access to the exhaustive interleaving
 *    checker of tests/interleave, which decides who runs next and, in its weak mode, which of the
 *    values that the memory model allows a load returns. What is checked is the code that ships.
 *
 * Orders are chosen per call and follow docs/protocols: there is no seq_cst load or store, because
 * a store that must be seen before a later load needs the fence spelled out where a reader sees it.
 * Compare-and-swap is always acq_rel, and acquire when it fails.
 *
 * ATOM_RULE(name) marks a step that a protocol needs. It is the constant true in a normal build;
 * the checker switches one rule off at a time and must then find a violation, which is how the
 * project knows that the step is needed.
 */
#ifndef RAY_BASE_ATOM_H
#define RAY_BASE_ATOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Words are aligned to their size even where the compiler would pack them tighter. */
struct atom_u32 {
    _Alignas(4) uint32_t raw; /* touched only by this header, and by set-up before it is shared */
};

struct atom_u64 {
    _Alignas(8) uint64_t raw;
};

struct atom_ptr {
    _Alignas(8) void *raw;
};

_Static_assert(sizeof(struct atom_u32) == 4, "a shared word has its natural size");
_Static_assert(sizeof(struct atom_u64) == 8, "a shared word has its natural size");
_Static_assert(sizeof(struct atom_ptr) == sizeof(void *), "a shared pointer has its natural size");

enum atom_order {
    ATOM_RELAXED = __ATOMIC_RELAXED,
    ATOM_ACQUIRE = __ATOMIC_ACQUIRE,
    ATOM_RELEASE = __ATOMIC_RELEASE,
    ATOM_ACQ_REL = __ATOMIC_ACQ_REL,
    ATOM_SEQ_CST = __ATOMIC_SEQ_CST
};

/* The order of a hand-over that the checker can weaken: `order`, or relaxed with the rule off. */
#define ATOM_ORDER(rule, order) (ATOM_RULE(rule) ? (order) : ATOM_RELAXED)

#define ATOM_INLINE             static inline __attribute__((always_inline))

#ifdef RAY_CHECK_INTERLEAVE

/* What the checker must do for one access; see tests/interleave/ilv.h. */
enum ilv_rmw { ILV_RMW_EXCHANGE = 0, ILV_RMW_ADD, ILV_RMW_OR, ILV_RMW_AND };

uint64_t ilv_load(const void *addr, unsigned size, int order);
void ilv_store(void *addr, unsigned size, uint64_t value, int order);
uint64_t ilv_update(void *addr, unsigned size, enum ilv_rmw op, uint64_t operand, int order);
bool ilv_cas(void *addr, unsigned size, uint64_t *expected, uint64_t desired);
void ilv_fence(void);
void ilv_copy_in(void *shared, const void *from, size_t len);
void ilv_copy_out(void *to, const void *shared, size_t len);
bool ilv_rule(const char *name);

#define ATOM_RULE(name)            ilv_rule(#name)

#define ATOM_LOAD(T, a, order)     ((T)ilv_load(&(a)->raw, sizeof(T), (int)(order)))
#define ATOM_STORE(T, a, v, order) ilv_store(&(a)->raw, sizeof(T), (uint64_t)(v), (int)(order))
#define ATOM_EXCHANGE(T, a, v, order)                                                              \
    ((T)ilv_update(&(a)->raw, sizeof(T), ILV_RMW_EXCHANGE, (uint64_t)(v), (int)(order)))
#define ATOM_ADD(T, a, v, order)                                                                   \
    ((T)ilv_update(&(a)->raw, sizeof(T), ILV_RMW_ADD, (uint64_t)(v), (int)(order)))
#define ATOM_OR(T, a, v, order)                                                                    \
    ((T)ilv_update(&(a)->raw, sizeof(T), ILV_RMW_OR, (uint64_t)(v), (int)(order)))
#define ATOM_AND(T, a, v, order)                                                                   \
    ((T)ilv_update(&(a)->raw, sizeof(T), ILV_RMW_AND, (uint64_t)(v), (int)(order)))

#else

#define ATOM_RULE(name)               true

#define ATOM_LOAD(T, a, order)        __atomic_load_n(&(a)->raw, (int)(order))
#define ATOM_STORE(T, a, v, order)    __atomic_store_n(&(a)->raw, (v), (int)(order))
#define ATOM_EXCHANGE(T, a, v, order) __atomic_exchange_n(&(a)->raw, (v), (int)(order))
#define ATOM_ADD(T, a, v, order)      __atomic_fetch_add(&(a)->raw, (v), (int)(order))
#define ATOM_OR(T, a, v, order)       __atomic_fetch_or(&(a)->raw, (v), (int)(order))
#define ATOM_AND(T, a, v, order)      __atomic_fetch_and(&(a)->raw, (v), (int)(order))

#endif

/* ---- 32 bits ---- */

ATOM_INLINE uint32_t
atom_u32_load(const struct atom_u32 *a, enum atom_order order)
{
    return ATOM_LOAD(uint32_t, a, order);
}

ATOM_INLINE void
atom_u32_store(struct atom_u32 *a, uint32_t value, enum atom_order order)
{
    ATOM_STORE(uint32_t, a, value, order);
}

/* Sets the word and returns what it held. */
ATOM_INLINE uint32_t
atom_u32_exchange(struct atom_u32 *a, uint32_t value, enum atom_order order)
{
    return ATOM_EXCHANGE(uint32_t, a, value, order);
}

/* The fetch_ functions return the value before the change. */
ATOM_INLINE uint32_t
atom_u32_fetch_add(struct atom_u32 *a, uint32_t value, enum atom_order order)
{
    return ATOM_ADD(uint32_t, a, value, order);
}

ATOM_INLINE uint32_t
atom_u32_fetch_or(struct atom_u32 *a, uint32_t bits, enum atom_order order)
{
    return ATOM_OR(uint32_t, a, bits, order);
}

ATOM_INLINE uint32_t
atom_u32_fetch_and(struct atom_u32 *a, uint32_t bits, enum atom_order order)
{
    return ATOM_AND(uint32_t, a, bits, order);
}

/* True if the word held *expected and now holds `desired`; else *expected is what it held. */
ATOM_INLINE bool
atom_u32_cas(struct atom_u32 *a, uint32_t *expected, uint32_t desired)
{
#ifdef RAY_CHECK_INTERLEAVE
    uint64_t held = *expected;
    const bool swapped = ilv_cas(&a->raw, sizeof a->raw, &held, desired);

    *expected = (uint32_t)held;
    return swapped;
#else
    return __atomic_compare_exchange_n(&a->raw, expected, desired, false, __ATOMIC_ACQ_REL,
                                       __ATOMIC_ACQUIRE);
#endif
}

/* ---- 64 bits ---- */

ATOM_INLINE uint64_t
atom_u64_load(const struct atom_u64 *a, enum atom_order order)
{
    return ATOM_LOAD(uint64_t, a, order);
}

ATOM_INLINE void
atom_u64_store(struct atom_u64 *a, uint64_t value, enum atom_order order)
{
    ATOM_STORE(uint64_t, a, value, order);
}

ATOM_INLINE uint64_t
atom_u64_exchange(struct atom_u64 *a, uint64_t value, enum atom_order order)
{
    return ATOM_EXCHANGE(uint64_t, a, value, order);
}

ATOM_INLINE uint64_t
atom_u64_fetch_add(struct atom_u64 *a, uint64_t value, enum atom_order order)
{
    return ATOM_ADD(uint64_t, a, value, order);
}

ATOM_INLINE uint64_t
atom_u64_fetch_or(struct atom_u64 *a, uint64_t bits, enum atom_order order)
{
    return ATOM_OR(uint64_t, a, bits, order);
}

ATOM_INLINE uint64_t
atom_u64_fetch_and(struct atom_u64 *a, uint64_t bits, enum atom_order order)
{
    return ATOM_AND(uint64_t, a, bits, order);
}

ATOM_INLINE bool
atom_u64_cas(struct atom_u64 *a, uint64_t *expected, uint64_t desired)
{
#ifdef RAY_CHECK_INTERLEAVE
    return ilv_cas(&a->raw, sizeof a->raw, expected, desired);
#else
    return __atomic_compare_exchange_n(&a->raw, expected, desired, false, __ATOMIC_ACQ_REL,
                                       __ATOMIC_ACQUIRE);
#endif
}

/* ---- pointers, for threads of one process only ---- */

ATOM_INLINE void *
atom_ptr_load(const struct atom_ptr *a, enum atom_order order)
{
#ifdef RAY_CHECK_INTERLEAVE
    return (void *)(uintptr_t)ilv_load(&a->raw, sizeof a->raw, (int)order);
#else
    return __atomic_load_n(&a->raw, (int)order);
#endif
}

ATOM_INLINE void
atom_ptr_store(struct atom_ptr *a, void *value, enum atom_order order)
{
#ifdef RAY_CHECK_INTERLEAVE
    ilv_store(&a->raw, sizeof a->raw, (uint64_t)(uintptr_t)value, (int)order);
#else
    __atomic_store_n(&a->raw, value, (int)order);
#endif
}

ATOM_INLINE void *
atom_ptr_exchange(struct atom_ptr *a, void *value, enum atom_order order)
{
#ifdef RAY_CHECK_INTERLEAVE
    return (void *)(uintptr_t)ilv_update(&a->raw, sizeof a->raw, ILV_RMW_EXCHANGE,
                                         (uint64_t)(uintptr_t)value, (int)order);
#else
    return __atomic_exchange_n(&a->raw, value, (int)order);
#endif
}

ATOM_INLINE bool
atom_ptr_cas(struct atom_ptr *a, void **expected, void *desired)
{
#ifdef RAY_CHECK_INTERLEAVE
    uint64_t held = (uint64_t)(uintptr_t)*expected;
    const bool swapped = ilv_cas(&a->raw, sizeof a->raw, &held, (uint64_t)(uintptr_t)desired);

    *expected = (void *)(uintptr_t)held;
    return swapped;
#else
    return __atomic_compare_exchange_n(&a->raw, expected, desired, false, __ATOMIC_ACQ_REL,
                                       __ATOMIC_ACQUIRE);
#endif
}

/* ---- fences, plain bytes, spinning ---- */

/*
 * The full fence of every "store mine, then read yours" pair (PROTOCOLS 6): of two sides that both
 * store, fence and load, at least one sees the other's store. x86 needs it too.
 */
ATOM_INLINE void
atom_fence(void)
{
#ifdef RAY_CHECK_INTERLEAVE
    ilv_fence();
#else
/* The thread sanitizer does not model fences, and gcc says so. Nothing here relies on a fence alone
 * to hand data over, only on release and acquire, which it does model. */
#if defined(__GNUC__) && !defined(__clang__) && defined(__SANITIZE_THREAD__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wtsan"
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
#pragma GCC diagnostic pop
#else
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
#endif
}

/* The same just after a read-modify-write of this thread, which on x86 is a full fence itself. */
ATOM_INLINE void
atom_fence_after_update(void)
{
#if defined(RAY_CHECK_INTERLEAVE) || !defined(__x86_64__)
    atom_fence();
#else
    __asm__ volatile("" ::: "memory");
#endif
}

/* Orders non-temporal stores before what follows; ordinary release stores don't. */
ATOM_INLINE void
atom_fence_nontemporal(void)
{
#if !defined(RAY_CHECK_INTERLEAVE) && defined(__x86_64__)
    __builtin_ia32_sfence();
#endif
}

/*
 * Bytes that lie in shared memory and are handed over by a release store of some other word. In a
 * normal build a memcpy; the checker makes each word of them a step of its own.
 */
ATOM_INLINE void
atom_copy_in(void *shared, const void *from, size_t len)
{
#ifdef RAY_CHECK_INTERLEAVE
    ilv_copy_in(shared, from, len);
#else
    memcpy(shared, from, len);
#endif
}

ATOM_INLINE void
atom_copy_out(void *to, const void *shared, size_t len)
{
#ifdef RAY_CHECK_INTERLEAVE
    ilv_copy_out(to, shared, len);
#else
    memcpy(to, shared, len);
#endif
}

/* Fetches the line of `p` to be written, or to be read, soon. Changes nothing that a program sees.
 */
ATOM_INLINE void
atom_expect_write(const void *p)
{
#if defined(__x86_64__)
    __asm__ volatile("prefetchw %0" : : "m"(*(const char *)p)); /* older processors: no effect */
#else
    __builtin_prefetch(p, 1);
#endif
}

ATOM_INLINE void
atom_expect_read(const void *p)
{
    __builtin_prefetch(p, 0);
}

/* Tells the processor that this thread spins. */
ATOM_INLINE void
atom_pause(void)
{
#if !defined(RAY_CHECK_INTERLEAVE) && defined(__x86_64__)
    __builtin_ia32_pause();
#elif !defined(RAY_CHECK_INTERLEAVE) && defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif
