/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Named fault points, present in release builds.
 *
 *     TRY(FAULT("store.grant.before_row"));    returns 0, or the status that was asked for
 *     (void)FAULT("store.seal.before_commit"); between two shared stores: crash, stop or delay
 *     FAULT_STEP("net.ring.before_tail");      the same, where even a load would cost too much
 *     if (FAULT_DROP("net.frame.out")) {       true: lose this message
 *
 * FAULT_STEP stands between the shared stores of rings, doorbells, windows and leases, on the way
 * of every task. It is there only in a build with RAY_FAULT_STEPS (`make crash`), else it is
 * nothing.
 *
 * Any other point costs one load and one branch until it is armed, by RAY_FAULT in the environment
 * (read by os_fault_init) or by flt_arm. The text is a comma-separated list of
 *
 *     [role/]name:action[:trigger]
 *
 *     name      of a point, or a prefix that ends in '*'
 *     role      only processes that gave this role to flt_arm ("raylet", "worker", "gcs", "driver")
 *     action    error[=STATUS] (default SYSTEM), delay[=ms] (default 10), crash (SIGKILL to self),
 *               stop (SIGSTOP to self), drop, count (does nothing; hits are counted)
 *     trigger   nth=N, every=K, prob=P/SEED (P in 0..1), once, always (default)
 *
 * Points register themselves in a linker section, so they can be listed; every shared object has a
 * list of its own. Arming is for one thread at a time; hitting is safe from any thread and from
 * signal handlers. base makes no system call: delay, crash and stop are done by hooks that os
 * installs; without hooks a crash is a trap and the others do nothing.
 */
#ifndef RAY_BASE_FLT_H
#define RAY_BASE_FLT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/assert.h"
#include "base/atom.h"

enum flt_action {
    FLT_NONE,
    FLT_ERROR,
    FLT_DELAY,
    FLT_CRASH,
    FLT_STOP,
    FLT_DROP,
    FLT_COUNT,
};

enum flt_trigger {
    FLT_ALWAYS,
    FLT_NTH,
    FLT_EVERY,
    FLT_PROB,
};

struct flt_point {
    const char *name;
    struct atom_u32 armed; /* 0 or 1: the only word the fast path reads */
    bool drops;            /* a FAULT_DROP point: takes drop, refuses error */
    uint8_t action;        /* enum flt_action; fields from here on are set before armed */
    uint8_t trigger;
    int32_t status;     /* of FLT_ERROR */
    uint64_t delay_ms;  /* of FLT_DELAY */
    uint64_t n;         /* of FLT_NTH, FLT_EVERY */
    uint64_t threshold; /* of FLT_PROB: fires when a mix of (seed, hit) is below it */
    uint64_t seed;
    struct atom_u64 hits;  /* times passed while armed */
    struct atom_u64 fired; /* times the action was taken */
};

struct flt_hooks {
    void (*delay)(uint64_t ms);
    void (*crash)(void);
    void (*stop)(void);
};

/* Hooks must outlive the process's last point. NULL takes them away. */
void flt_set_hooks(const struct flt_hooks *hooks);

/*
 * Arms the points that `text` names; entries for another role are skipped. ST_INVALID_ARGUMENT on a
 * malformed entry (those before it stay armed). A name that matches no point is ST_NOT_FOUND when
 * `strict`, else ignored: an environment is shared by programs with different points.
 */
int flt_arm(const char *text, const char *role, bool strict) MUST_USE;

/* Disarms every point and zeroes the counts. */
void flt_disarm_all(void);

/* The point whose name follows `after` in byte order (NULL: the first), NULL at the end. Points of
 * the same name are told once. */
const struct flt_point *flt_next(const char *after);

/* Hits while armed, over all points of that name; 0 for an unknown name. */
uint64_t flt_hits(const char *name);
uint64_t flt_fired(const char *name);

/* The slow path of an armed point: 0, a negative status, or FLT_DROPPED. */
enum { FLT_DROPPED = 1 };
int flt_hit(struct flt_point *point);

/* The section holds pointers, not points: sanitizers may pad what they instrument, and a NULL
 * between pointers is skipped. */
#ifndef RAY_CHECK_INTERLEAVE
#define FLT_POINT_(text, drops_)                                                                   \
    __extension__({                                                                                \
        static struct flt_point flt_here_ = { .name = (text), .drops = (drops_) };                 \
        static struct flt_point *flt_ref_ __attribute__((section("ray_flt"), used)) = &flt_here_;  \
        __builtin_expect(atom_u32_load(&flt_here_.armed, ATOM_ACQUIRE) != 0, 0)                    \
            ? flt_hit(&flt_here_)                                                                  \
            : 0;                                                                                   \
    })
#else
/* The interleaving checker kills before every step by itself. */
#define FLT_POINT_(text, drops_) (0)
#endif

#define FAULT(text)      FLT_POINT_(text, false)
#define FAULT_DROP(text) (FLT_POINT_(text, true) == FLT_DROPPED)

#ifdef RAY_FAULT_STEPS
#define FAULT_STEP(text) ((void)FLT_POINT_(text, false))
#else
#define FAULT_STEP(text) ((void)0)
#endif

#endif
