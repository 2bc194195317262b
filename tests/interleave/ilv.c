/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The search of the interleaving checker: actors as coroutines, states saved as bytes, depth-first.
 *
 * An actor runs on its own stack until it stands before an operation, where it leaves with _longjmp
 * and is later resumed with the operation's result. Saving an actor is copying its jump buffer and
 * the used part of its stack; restoring is copying back to the same addresses. So a step costs well
 * under a microsecond, and no schedule is ever run again from its beginning.
 */
#include "ilv_priv.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#error "the checker moves stacks by hand: build it without sanitizers"
#endif

#define STACK_SIZE (32u * 1024)
#define STACK_CLEAN                                                                                \
    (4u * 1024) /* kept zero below the stack pointer, so that equal states look equal */
#define MAX_STATES  (UINT64_C(12) * 1000 * 1000)
#define MAX_CHOICES 64
#define NOBODY      ILV_ACTORS

enum status { STATUS_READY = 1, STATUS_DONE, STATUS_DEAD };

struct actor {
    jmp_buf context;
    struct ilv_pending pending;
    struct ilv_answer answer;
    char *sp;
    enum status status;
};

/* One way on from a state. */
struct choice {
    unsigned char actor, kill;
    unsigned short variant;
};

/* One state on the current path. */
struct frame {
    struct ilv_buf saved;
    struct choice choices[MAX_CHOICES];
    unsigned n_choices, next;
    uint64_t number;
    double paths;
    char taken[112]; /* the choice being followed, for the trace */
};

static const struct ilv_model *model;
static const char *rule_off;
static unsigned char *state;
static char *stacks;
static struct actor actors[ILV_ACTORS];
static unsigned current;
static jmp_buf scheduler;
static const char *violation;
static char violation_text[160];
static const char *gave_up; /* why the search can't be complete */
static unsigned kills;
static struct frame **frames;
static unsigned frames_cap;

void *
ilv_checked(void *memory)
{
    if (!memory) {
        fputs("ilv: out of memory\n", stderr);
        exit(2);
    }
    return memory;
}

void
ilv_buf_add(struct ilv_buf *buf, const void *from, size_t len)
{
    const size_t padded = (len + 7) & ~(size_t)7;

    if (buf->len + padded > buf->cap) {
        buf->cap = 2 * (buf->len + padded);
        buf->bytes = ilv_checked(realloc(buf->bytes, buf->cap));
    }
    memcpy(buf->bytes + buf->len, from, len);
    memset(buf->bytes + buf->len + len, 0, padded - len);
    buf->len += padded;
}

/* ---- coroutines ---- */

static char *
stack_low(unsigned actor)
{
    return stacks + (size_t)actor * STACK_SIZE;
}

static inline char *
stack_pointer(void)
{
    char *sp;

#if defined(__x86_64__)
    __asm__ volatile("mov %%rsp, %0" : "=r"(sp));
#elif defined(__aarch64__)
    __asm__ volatile("mov %0, sp" : "=r"(sp));
#else
#error "say how to read the stack pointer here"
#endif
    return sp;
}

/* Leaves the actor; returns when the scheduler has performed its step. */
static __attribute__((noinline)) void
leave(void)
{
    struct actor *self = &actors[current];

    if (_setjmp(self->context) == 0) {
        self->sp = stack_pointer();
        _longjmp(scheduler, 1);
    }
}

static void
actor_main(void)
{
    model->actors[current].run(state);
    actors[current].status = STATUS_DONE;
    _longjmp(scheduler, 1);
}

/* Runs an actor until it stands before its next step, has ended, or has found a violation. */
static __attribute__((noinline)) void
resume(unsigned actor)
{
    char *low = stack_low(actor);
    char *clean = actors[actor].sp - STACK_CLEAN;

    if (clean < low) {
        clean = low;
    }
    memset(clean, 0, (size_t)(actors[actor].sp - clean));
    current = actor;
    if (_setjmp(scheduler) == 0) {
        _longjmp(actors[actor].context, 1);
    }
    current = NOBODY;
}

/* Runs an actor for the first time, up to its first step. */
static __attribute__((noinline)) void
start(unsigned actor)
{
    ucontext_t fresh;

    if (getcontext(&fresh)) {
        abort();
    }
    memset(stack_low(actor), 0, STACK_SIZE);
    memset(&actors[actor], 0, sizeof actors[actor]);
    fresh.uc_stack.ss_sp = stack_low(actor);
    fresh.uc_stack.ss_size = STACK_SIZE;
    fresh.uc_link = NULL;
    makecontext(&fresh, actor_main, 0);
    actors[actor].status = STATUS_READY;
    current = actor;
    if (_setjmp(scheduler) == 0) {
        setcontext(&fresh);
    }
    current = NOBODY;
}

/* ---- what the code under test calls ---- */

static struct ilv_answer
step(const struct ilv_pending *p)
{
    if (current == NOBODY) {
        fputs("ilv: outside actors only loads, stores and fences of base/atom.h work\n", stderr);
        abort();
    }
    actors[current].pending = *p;
    leave();
    return actors[current].answer;
}

static struct ilv_pending
pending(enum ilv_kind kind, const void *addr, unsigned size, int order)
{
    struct ilv_pending p;

    memset(&p, 0, sizeof p); /* also the padding: it is hashed */
    p.kind = kind;
    p.addr = (void *)(uintptr_t)addr;
    p.size = size;
    p.order = order;
    return p;
}

uint64_t
ilv_load(const void *addr, unsigned size, int order)
{
    if (current == NOBODY) {
        return ilv_mem_raw(addr, size);
    }
    const struct ilv_pending p = pending(ILV_LOAD, addr, size, order);

    return step(&p).value;
}

void
ilv_store(void *addr, unsigned size, uint64_t value, int order)
{
    if (current == NOBODY) {
        memcpy(addr, &value, size);
        return;
    }
    struct ilv_pending p = pending(ILV_STORE, addr, size, order);

    p.operand = value;
    step(&p);
}

uint64_t
ilv_update(void *addr, unsigned size, enum ilv_rmw op, uint64_t operand, int order)
{
    struct ilv_pending p = pending(ILV_UPDATE, addr, size, order);

    p.rmw = op;
    p.operand = operand;
    return step(&p).value;
}

bool
ilv_cas(void *addr, unsigned size, uint64_t *expected, uint64_t desired)
{
    struct ilv_pending p = pending(ILV_CAS, addr, size, ATOM_ACQ_REL);

    p.expected = *expected;
    p.operand = desired;
    const struct ilv_answer answer = step(&p);

    *expected = answer.value;
    return answer.flag;
}

void
ilv_fence(void)
{
    if (current != NOBODY) {
        const struct ilv_pending p = pending(ILV_FENCE, NULL, 0, ATOM_SEQ_CST);

        step(&p);
    }
}

static unsigned
copy_unit(const void *shared, size_t len)
{
    return ((uintptr_t)shared | len) % 8 == 0 ? 8 : 1;
}

void
ilv_copy_in(void *shared, const void *from, size_t len)
{
    const unsigned unit = copy_unit(shared, len);

    for (size_t i = 0; i < len; i += unit) {
        uint64_t value = 0;

        memcpy(&value, (const char *)from + i, unit);
        if (current == NOBODY) {
            ilv_store((char *)shared + i, unit, value, ATOM_RELAXED);
            continue;
        }
        struct ilv_pending p = pending(ILV_WRITE, (char *)shared + i, unit, ATOM_RELAXED);

        p.operand = value;
        step(&p);
    }
}

void
ilv_copy_out(void *to, const void *shared, size_t len)
{
    const unsigned unit = copy_unit(shared, len);

    for (size_t i = 0; i < len; i += unit) {
        uint64_t value;

        if (current == NOBODY) {
            value = ilv_load((const char *)shared + i, unit, ATOM_RELAXED);
        } else {
            const struct ilv_pending p =
                pending(ILV_READ, (const char *)shared + i, unit, ATOM_RELAXED);

            value = step(&p).value;
        }
        memcpy((char *)to + i, &value, unit);
    }
}

bool
ilv_rule(const char *name)
{
    return !rule_off || strcmp(rule_off, name) != 0;
}

void
ilv_block(bool (*ready)(const void *), const char *what)
{
    struct ilv_pending p = pending(ILV_BLOCK, NULL, 0, 0);

    p.ready = ready;
    p.what = what;
    step(&p);
}

unsigned
ilv_choose(unsigned n, const char *what)
{
    struct ilv_pending p = pending(ILV_CHOOSE, NULL, 0, 0);

    p.operand = n;
    p.what = what;
    return (unsigned)step(&p).value;
}

void
ilv_pause(const char *what)
{
    struct ilv_pending p = pending(ILV_PAUSE, NULL, 0, 0);

    p.what = what;
    step(&p);
}

bool
ilv_is_dead(unsigned actor)
{
    struct ilv_pending p = pending(ILV_IS_DEAD, NULL, 0, 0);

    p.operand = actor;
    p.what = model->actors[actor].name;
    return step(&p).flag;
}

bool
ilv_dead_now(unsigned actor)
{
    return actors[actor].status == STATUS_DEAD;
}

bool
ilv_done_now(unsigned actor)
{
    return actors[actor].status == STATUS_DONE;
}

void *
ilv_state(void)
{
    return state;
}

void
ilv_expect(bool holds, const char *what)
{
    if (holds) {
        return;
    }
    if (!violation) {
        violation = what;
    }
    if (current != NOBODY) {
        _longjmp(scheduler, 1);
    }
}

/* ---- states ---- */

struct saved_actor {
    struct ilv_pending pending;
    char *sp;
    jmp_buf context;
};

static void
save(struct ilv_buf *buf)
{
    uint64_t head = kills;

    buf->len = 0;
    for (unsigned i = 0; i < model->n_actors; i++) {
        head = head << 8 | (uint64_t)actors[i].status;
    }
    ilv_buf_add(buf, &head, sizeof head);
    ilv_buf_add(buf, state, model->state_size);
    for (unsigned i = 0; i < model->n_actors; i++) {
        struct saved_actor saved;

        if (actors[i].status != STATUS_READY) {
            continue;
        }
        memset(&saved, 0, sizeof saved);
        saved.pending = actors[i].pending;
        saved.sp = actors[i].sp;
        memcpy(saved.context, actors[i].context, sizeof saved.context);
        ilv_buf_add(buf, &saved, sizeof saved);
        ilv_buf_add(buf, actors[i].sp, (size_t)(stack_low(i) + STACK_SIZE - actors[i].sp));
    }
    ilv_mem_save(buf);
}

static void
restore(const struct ilv_buf *buf)
{
    const unsigned char *from = buf->bytes;
    uint64_t head;

    memcpy(&head, from, sizeof head);
    from += sizeof head;
    memcpy(state, from, model->state_size);
    from += (model->state_size + 7) & ~(size_t)7;
    for (unsigned i = model->n_actors; i-- > 0; head >>= 8) {
        actors[i].status = (enum status)(head & 0xff);
    }
    kills = (unsigned)head;
    for (unsigned i = 0; i < model->n_actors; i++) {
        struct saved_actor saved;

        if (actors[i].status != STATUS_READY) {
            continue;
        }
        memcpy(&saved, from, sizeof saved);
        from += sizeof saved;
        actors[i].pending = saved.pending;
        actors[i].sp = saved.sp;
        memcpy(actors[i].context, saved.context, sizeof saved.context);
        const size_t used = (size_t)(stack_low(i) + STACK_SIZE - saved.sp);

        memcpy(saved.sp, from, used);
        from += (used + 7) & ~(size_t)7;
    }
    ilv_mem_restore(from);
}

/* ---- the search ---- */

static unsigned
variants_of(unsigned actor)
{
    const struct ilv_pending *p = &actors[actor].pending;

    switch (p->kind) {
    case ILV_BLOCK:
        return p->ready(state) ? 1 : 0;
    case ILV_CHOOSE:
        return (unsigned)p->operand;
    case ILV_LOAD:
    case ILV_CAS:
        return ilv_mem_variants(actor, p);
    case ILV_STORE:
    case ILV_WRITE:
    case ILV_READ:
    case ILV_UPDATE:
    case ILV_FENCE:
    case ILV_PAUSE:
    case ILV_IS_DEAD:
        return 1;
    }
    abort();
}

static void
add_choice(struct frame *frame, unsigned actor, bool kill, unsigned variant)
{
    if (frame->n_choices == MAX_CHOICES) {
        gave_up = "more ways on from one state than the checker has room for";
        return;
    }
    frame->choices[frame->n_choices++] =
        (struct choice){ (unsigned char)actor, kill ? 1 : 0, (unsigned short)variant };
}

/* Fills the frame's choices. Returns how many are steps, not kills. */
static unsigned
enumerate(struct frame *frame)
{
    unsigned steps;

    frame->n_choices = 0;
    for (unsigned i = 0; i < model->n_actors; i++) {
        if (actors[i].status == STATUS_READY) {
            const unsigned variants = variants_of(i);

            for (unsigned v = 0; v < variants; v++) {
                add_choice(frame, i, false, v);
            }
        }
    }
    steps = frame->n_choices;
    for (unsigned i = 0; i < model->n_actors && kills < model->max_kills; i++) {
        if (actors[i].status == STATUS_READY && model->actors[i].may_die) {
            add_choice(frame, i, true, 0);
        }
    }
    return steps;
}

static void
perform(struct actor *actor, unsigned self, unsigned variant)
{
    const struct ilv_pending *p = &actor->pending;
    const unsigned other = (unsigned)p->operand;

    memset(&actor->answer, 0, sizeof actor->answer);
    switch (p->kind) {
    case ILV_LOAD:
    case ILV_STORE:
    case ILV_WRITE:
    case ILV_READ:
    case ILV_UPDATE:
    case ILV_CAS:
    case ILV_FENCE:
        actor->answer = ilv_mem_apply(self, p, variant);
        break;
    case ILV_CHOOSE:
        actor->answer.value = variant;
        break;
    case ILV_IS_DEAD:
        actor->answer.flag = actors[other].status == STATUS_DEAD;
        if (actor->answer.flag) {
            ilv_mem_join(self, other);
        }
        break;
    case ILV_BLOCK:
    case ILV_PAUSE:
        break;
    }
}

static void
settle(void)
{
    bool live[ILV_ACTORS];

    for (unsigned i = 0; i < model->n_actors; i++) {
        live[i] = actors[i].status == STATUS_READY;
    }
    ilv_mem_settle(live);
}

/* Follows one choice from the state that is loaded. */
static void
follow(const struct choice *choice, struct frame *frame)
{
    struct actor *actor = &actors[choice->actor];

    if (choice->kill) {
        snprintf(frame->taken, sizeof frame->taken, "%s is killed",
                 model->actors[choice->actor].name);
        actor->status = STATUS_DEAD;
        kills++;
    } else {
        perform(actor, choice->actor, choice->variant);
        ilv_describe(model->actors[choice->actor].name, &actor->pending, &actor->answer,
                     choice->variant > 0, frame->taken, sizeof frame->taken);
        if (ilv_mem_race()) {
            violation = ilv_mem_race();
            return;
        }
        resume(choice->actor);
    }
    if (ilv_mem_failure()) {
        gave_up = ilv_mem_failure();
        return;
    }
    settle();
    if (!violation && model->invariant) {
        model->invariant(state);
    }
}

/* No step is possible: is that the end, or a hang? */
static void
check_end(void)
{
    for (unsigned i = 0; i < model->n_actors; i++) {
        if (actors[i].status == STATUS_READY && !model->actors[i].may_block_forever) {
            snprintf(violation_text, sizeof violation_text, "hang: %s waits for ever: %s",
                     model->actors[i].name, actors[i].pending.what);
            violation = violation_text;
            return;
        }
    }
    if (model->finish) {
        model->finish(state);
    }
}

static struct frame *
frame_at(unsigned depth)
{
    if (depth >= frames_cap) {
        const unsigned cap = frames_cap ? 2 * frames_cap : 64;

        frames = ilv_checked(realloc(frames, cap * sizeof *frames));
        for (unsigned i = frames_cap; i < cap; i++) {
            frames[i] = ilv_checked(calloc(1, sizeof **frames));
        }
        frames_cap = cap;
    }
    return frames[depth];
}

/* Makes the loaded state, already saved in the frame, the end of the path. */
static void
enter(struct frame *frame, uint64_t number)
{
    frame->number = number;
    frame->next = 0;
    frame->paths = 0;
    frame->taken[0] = '\0';
    if (enumerate(frame) == 0 && !violation) {
        check_end();
        frame->paths = 1;
    }
}

static void
report(struct ilv_result *result, unsigned depth)
{
    size_t len = 0;

    result->violated = violation != NULL;
    result->incomplete = gave_up != NULL && !violation;
    if (violation || gave_up) {
        snprintf(result->text, sizeof result->text, "%s", violation ? violation : gave_up);
    }
    for (unsigned i = 0; violation && i <= depth; i++) {
        const int n = snprintf(result->trace + len, sizeof result->trace - len, "      %3u. %s\n",
                               i + 1, frames[i]->taken);

        if (!frames[i]->taken[0] || n < 0 || (size_t)n >= sizeof result->trace - len) {
            break;
        }
        len += (size_t)n;
    }
}

static void
prepare(const struct ilv_model *m, enum ilv_memory memory, const char *off)
{
    const size_t rounded = (m->state_size + 4095) & ~(size_t)4095;

    model = m;
    rule_off = off;
    current = NOBODY;
    violation = NULL;
    gave_up = NULL;
    kills = 0;
    ilv_names_reset();
    state = ilv_checked(aligned_alloc(4096, rounded));
    memset(state, 0, rounded);
    stacks = ilv_checked(aligned_alloc(4096, (size_t)ILV_ACTORS * STACK_SIZE));
    ilv_mem_reset(memory, m->n_actors);
    m->setup(state);
    for (unsigned i = 0; i < m->n_actors; i++) {
        start(i);
    }
}

static void
clean_up(void)
{
    ilv_seen_reset();
    free(state);
    free(stacks);
    for (unsigned i = 0; i < frames_cap; i++) {
        free(frames[i]->saved.bytes);
        free(frames[i]);
    }
    free(frames);
    frames = NULL;
    frames_cap = 0;
}

void
ilv_search(const struct ilv_model *m, enum ilv_memory memory, const char *off,
           struct ilv_result *result)
{
    unsigned depth = 0;
    bool fresh, loaded = true;

    memset(result, 0, sizeof *result);
    prepare(m, memory, off);
    save(&frame_at(0)->saved);
    enter(frames[0], ilv_seen_number(&frames[0]->saved, &fresh));
    while (!violation && !gave_up) {
        struct frame *frame = frames[depth];

        if (frame->next == frame->n_choices) { /* all ways tried: back to the state before */
            *ilv_seen_paths(frame->number) = frame->paths;
            if (depth == 0) {
                result->schedules = frame->paths;
                break;
            }
            frames[--depth]->paths += frame->paths;
            loaded = false;
            continue;
        }
        if (!loaded) {
            restore(&frame->saved);
        }
        follow(&frame->choices[frame->next++], frame);
        result->steps++;
        loaded = false;
        if (violation || gave_up) {
            break;
        }
        struct frame *next = frame_at(depth + 1);

        save(&next->saved);
        const uint64_t number = ilv_seen_number(&next->saved, &fresh);

        if (!fresh) {
            frame->paths += *ilv_seen_paths(number);
            continue;
        }
        if (ilv_seen_count() > MAX_STATES) {
            gave_up = "too many states: bound the model";
            break;
        }
        depth++;
        enter(next, number);
        loaded = true;
    }
    result->states = ilv_seen_count();
    report(result, depth);
    clean_up();
}
