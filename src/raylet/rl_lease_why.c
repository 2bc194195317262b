/* SPDX-License-Identifier: Apache-2.0 */
/* The lease server in words: why something is pending, who waits for whom. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "raylet/rl_lease_priv.h"

/* A text that grows as far as it fits. */
struct words {
    char *text;
    uint32_t size, used;
};

static void __attribute__((format(printf, 2, 3))) say(struct words *w, const char *format, ...)
{
    if (w->used + 1 >= w->size) {
        return;
    }
    va_list args;
    va_start(args, format);
    /* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): version 14 loses va_start here */
    const int n = vsnprintf(w->text + w->used, w->size - w->used, format, args);
    va_end(args);
    if (n > 0) {
        w->used = (uint32_t)n < w->size - w->used ? w->used + (uint32_t)n : w->size - 1;
    }
}

static const char *
name_of(const char *name)
{
    return name[0] ? name : "?";
}

enum { CHAIN_MAX = 4096, CHAIN_HEAD = 4, CHAIN_TAIL = 4 };

void
rl_why_chain(const struct rl_lease *m, const struct rl_request *request, char *text, uint32_t size)
{
    (void)m;
    /* From the request up to the driver; told from the driver down. */
    const struct rl_lease_record *chain[CHAIN_HEAD + CHAIN_TAIL] = { NULL };
    uint32_t length = 0;
    const struct rl_proc *top = request->owner;
    for (const struct rl_proc *p = request->owner; p && length < CHAIN_MAX;) {
        const struct rl_lease_record *lease = p->worker ? p->worker->lease : NULL;
        top = p;
        if (!lease) {
            break;
        }
        /* The nearest CHAIN_TAIL stay, the farther ones rotate through the rest. */
        if (length < COUNT_OF(chain)) {
            chain[length] = lease;
        } else {
            memmove(&chain[CHAIN_TAIL], &chain[CHAIN_TAIL + 1],
                    (CHAIN_HEAD - 1) * sizeof(chain[0]));
            chain[COUNT_OF(chain) - 1] = lease;
        }
        length++;
        p = lease->owner;
    }
    ASSERT(top);
    struct words w = { .text = text, .size = size };
    say(&w, "%s (pid %d)", top->worker ? "worker" : "driver", top->pid);
    const uint32_t kept = length < COUNT_OF(chain) ? length : (uint32_t)COUNT_OF(chain);
    for (uint32_t i = kept; i-- > 0;) {
        if (length > kept && i == CHAIN_TAIL - 1) {
            say(&w, " -> ... %u more", length - kept);
        }
        const struct rl_lease_record *lease = chain[i];
        say(&w, " -> %s (pid %d%s)", name_of(lease->name), lease->worker->pid,
            lease->hold.cpu_given_back || lease->worker->blocked ? ", waiting" : "");
    }
    say(&w, " -> %s, which waits for a process. Nest less deeply, or raise the cap.",
        name_of(request->name));
}

static void
say_amounts(const struct rl_lease *m, struct words *w, const struct res_set *set)
{
    for (uint32_t i = 0; i < set->count; i++) {
        const double v = res_amount_to_double(set->items[i].amount);
        say(w, "%s%s: %.10g", i ? ", " : "", res_names_text(m->names, set->items[i].name), v);
    }
}

static void
say_queued(const struct rl_lease *m, uint64_t now_ns, const struct rl_request *r, struct words *w)
{
    char why[SCHED_WHY_MAX];
    say(w, "%u of %s '%s' {", r->count, r->kind == SCHED_LEASE_ACTOR ? "actor" : "task",
        name_of(r->name));
    say_amounts(m, w, &r->key->placement);
    say(w, "} for %.3f s: ", (double)(now_ns - r->since_ns) / 1e9);
    if (!sched_node_feasible(&m->node, m->names, &r->key->placement, why) ||
        !sched_node_feasible(&m->node, m->names, &r->key->resources, why)) {
        say(w, "it %s, so it can't run here at all.", why);
    } else if (!rl_grant_fits(m, r, why)) {
        say(w, "it %s.", why);
        say(w, " %u leases are held, %u of them were asked back, %u are of waiting tasks.",
            m->in_state[RL_LEASE_ACTIVE] + m->in_state[RL_LEASE_REVOKED],
            m->in_state[RL_LEASE_REVOKED], m->pool.blocked);
    } else if (!rl_pool_can_serve(&m->pool, r->class_)) {
        say(w, "it needs a process, and %u of at most %u exist; ", rl_pool_processes(&m->pool),
            m->config.pool.cap);
        rl_why_chain(m, r, w->text + w->used, w->size - w->used);
        w->used += (uint32_t)strlen(w->text + w->used);
    } else if (rl_grant_kept(m, r, now_ns)) {
        say(w, "what it asks for is kept for a larger one, '%s' {", name_of(m->reserved->name));
        say_amounts(m, w, &m->reserved->key->placement);
        say(w, "}, for %.3f s more.", (double)(m->reserve_until_ns - now_ns) / 1e9);
    } else {
        say(w, "it is about to be granted.");
    }
}

static void
say_forming(const struct rl_lease *m, const struct rl_proc *owner, uint32_t cookie, struct words *w)
{
    uint32_t forming = 0;
    const struct rl_class *class_ = NULL;
    LIST_FOR (l, &owner->leases) {
        const struct rl_lease_record *lease = LIST_ENTRY(l, struct rl_lease_record, of_owner);
        if (lease->state == RL_LEASE_FORMING && lease->cookie == cookie) {
            forming++;
            class_ = lease->class_;
        }
    }
    if (!class_) {
        return;
    }
    say(w, "%s%u wait%s for a worker process that is being started (%u starting).",
        w->used ? " " : "", forming, forming == 1 ? "s" : "", class_->starting);
    if (class_->failures) {
        say(w, " The last %u starts failed: %s.", class_->failures, class_->evidence);
    }
    (void)m;
}

bool
rl_lease_why(struct rl_lease *m, uint64_t now_ns, uint64_t owner, uint32_t cookie, char *text)
{
    struct words w = { .text = text, .size = RL_WHY_MAX };
    text[0] = '\0';
    const struct rl_proc *proc = rl_lease_proc(m, owner);
    const struct rl_request *request = rl_lease_request(m, owner, cookie);
    if (request) {
        say_queued(m, now_ns, request, &w);
    }
    if (proc) {
        say_forming(m, proc, cookie, &w);
    }
    return w.used > 0;
}

void
rl_lease_get_stats(const struct rl_lease *m, struct rl_lease_stats *out)
{
    *out = m->stats;
    out->forming = m->in_state[RL_LEASE_FORMING];
    out->revoked_now = m->in_state[RL_LEASE_REVOKED];
    out->blocked = m->pool.blocked;
    out->leases = 0;
    for (uint32_t i = 0; i < COUNT_OF(m->in_state); i++) {
        out->leases += m->in_state[i];
    }
    out->pending_units += out->forming;
}
