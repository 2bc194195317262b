/* SPDX-License-Identifier: Apache-2.0 */
/* Words for the checker's traces: names of locations, and what a step did. */
#include "ilv_priv.h"

#include <stdio.h>

struct place_name {
    uintptr_t from, to;
    const char *name;
};

static struct place_name names[64];
static unsigned n_names;

void
ilv_names_reset(void)
{
    n_names = 0;
}

void
ilv_name(const void *addr, size_t len, const char *name)
{
    if (n_names < sizeof names / sizeof names[0]) {
        names[n_names++] = (struct place_name){ (uintptr_t)addr, (uintptr_t)addr + len, name };
    }
}

static const char *
location_name(const void *addr, char *text, size_t cap)
{
    const uintptr_t at = (uintptr_t)addr;

    for (unsigned i = 0; i < n_names; i++) {
        if (at >= names[i].from && at < names[i].to) {
            if (at == names[i].from) {
                return names[i].name;
            }
            snprintf(text, cap, "%s+%zu", names[i].name, (size_t)(at - names[i].from));
            return text;
        }
    }
    snprintf(text, cap, "state+%zu", (size_t)(at - (uintptr_t)ilv_state()));
    return text;
}

void
ilv_describe(const char *who, const struct ilv_pending *p, const struct ilv_answer *answer,
             bool stale, char *to, size_t cap)
{
    static const char *const rmw_names[] = { "exchange", "add", "or", "and" };
    char text[64];
    const char *where = p->addr ? location_name(p->addr, text, sizeof text) : "";
    const unsigned long long held = answer->value, operand = p->operand;

    switch (p->kind) {
    case ILV_LOAD:
    case ILV_READ:
        snprintf(to, cap, "%s loads %s = %#llx%s", who, where, held, stale ? " (stale)" : "");
        break;
    case ILV_STORE:
    case ILV_WRITE:
        snprintf(to, cap, "%s stores %s = %#llx", who, where, operand);
        break;
    case ILV_UPDATE:
        snprintf(to, cap, "%s %s %s, %#llx: was %#llx", who, rmw_names[p->rmw], where, operand,
                 held);
        break;
    case ILV_CAS:
        snprintf(to, cap, "%s cas %s %#llx -> %#llx: %s%#llx", who, where,
                 (unsigned long long)p->expected, operand,
                 answer->flag ? "done, was " : "fails on ", held);
        break;
    case ILV_FENCE:
        snprintf(to, cap, "%s fences", who);
        break;
    case ILV_BLOCK:
        snprintf(to, cap, "%s passes: %s", who, p->what);
        break;
    case ILV_CHOOSE:
        snprintf(to, cap, "%s chooses %llu: %s", who, held, p->what);
        break;
    case ILV_PAUSE:
        snprintf(to, cap, "%s: %s", who, p->what);
        break;
    case ILV_IS_DEAD:
        snprintf(to, cap, "%s asks whether %s is dead: %s", who, p->what,
                 answer->flag ? "yes" : "no");
        break;
    }
}
