/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Questions of people: what this node has left, its workers, why something waits. What the whole
 * cluster knows is passed on to ray-gcs.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os/os_basic.h"
#include "raylet/rl_io.h"

static void
put_text(struct str *out, const char *text)
{
    str_append(out, "\"", 1);
    for (const char *p = text; *p; p++) {
        const unsigned char c = (unsigned char)*p;
        if (c == '"' || c == '\\' || c < 0x20) {
            str_printf(out, "\\u%04x", c);
        } else {
            str_append(out, p, 1);
        }
    }
    str_append(out, "\"", 1);
}

static void
put_available(const struct raylet *r, struct str *out)
{
    const struct res_set *have = &r->lease.node.available;
    bool first = true;
    str_append(out, "{", 1);
    for (uint32_t i = 0; i < have->count; i++) {
        int64_t amount = have->items[i].amount.v;
        if (have->items[i].name == RES_OBJECT_STORE_MEMORY) {
            struct store_stats stats;
            store_stats(r->store, &stats);
            amount = (int64_t)(stats.capacity - stats.used) * RES_UNIT;
        }
        if (amount <= 0) {
            continue; /* as Ray: what is used up isn't listed */
        }
        str_append(out, ", ", first ? 0 : 2);
        first = false;
        put_text(out, res_names_text(&r->names, have->items[i].name));
        str_printf(out, ": %" PRId64 ".%04" PRId64, amount / RES_UNIT, amount % RES_UNIT);
    }
    str_append(out, "}", 1);
}

static void
put_total(const struct raylet *r, struct str *out)
{
    const struct res_set *total = &r->lease.node.total;
    str_append(out, "{", 1);
    for (uint32_t i = 0; i < total->count; i++) {
        const int64_t amount = total->items[i].amount.v;
        str_append(out, ", ", i ? 2 : 0);
        put_text(out, res_names_text(&r->names, total->items[i].name));
        str_printf(out, ": %" PRId64 ".%04" PRId64, amount / RES_UNIT, amount % RES_UNIT);
    }
    str_append(out, "}", 1);
}

/* The node's id and how many leases are asked for, in the form of the others. */
static void
put_node(const struct raylet *r, struct str *out)
{
    char hex[ID_HEX_MAX];
    struct rl_lease_stats s;
    rl_lease_get_stats(&r->lease, &s);
    str_printf(out, "{\"%s\": 1, \"pending\": %" PRIu64 "}", ID_HEX(r->node_id, hex),
               s.pending_units);
}

static void
put_worker(struct str *out, const struct rl_process *p)
{
    char hex[ID_HEX_MAX];
    struct store_status_copy status = { .flags = 0 };
    const bool known = p->has_store && store_proc_status(p->raylet->store, p->store_proc, &status);
    const struct rl_worker *worker = rl_pool_find(&p->raylet->lease.pool, p->number);
    str_printf(out, "{\"worker_id\": \"%s\", \"pid\": %d, \"worker_type\": \"%s\"",
               ID_HEX(p->id, hex), p->pid, p->kind == RL_DRIVER ? "DRIVER" : "WORKER");
    str_printf(out, ", \"is_alive\": %s, \"state\": ", p->dead ? "false" : "true");
    put_text(out, worker ? rl_worker_state_text(worker->state) : "");
    str_printf(out, ", \"actor\": ");
    put_text(out, p->actor ? p->actor->spec->class_name : "");
    str_printf(out, ", \"running\": ");
    put_text(out, known && (status.flags & STORE_STATUS_BUSY) ? status.name : "");
    str_append(out, "}", 1);
}

static void
put_workers(const struct raylet *r, struct str *out)
{
    bool first = true;
    str_append(out, "[", 1);
    LIST_FOR (l, &r->processes) {
        str_append(out, ", ", first ? 0 : 2);
        first = false;
        put_worker(out, LIST_ENTRY(l, struct rl_process, all));
    }
    str_append(out, "]", 1);
}

static void
put_store(const struct raylet *r, struct str *out)
{
    struct store_stats s;
    store_stats(r->store, &s);
    str_printf(out,
               "{\"capacity\": %" PRIu64 ", \"used\": %" PRIu64 ", \"objects\": %" PRIu64
               ", \"sealed_bytes\": %" PRIu64 ", \"dying\": %" PRIu64 ", \"grants\": %" PRIu64
               ", \"resident_max\": %" PRIu64 ", \"slots_free\": %u, \"bad_entries\": %" PRIu64 "}",
               s.capacity, s.used, s.objects, s.sealed_bytes, s.dying, s.grants, s.resident_max,
               s.slots_free, s.bad_entries);
}

static void
put_leases(const struct raylet *r, struct str *out)
{
    struct rl_lease_stats s;
    rl_lease_get_stats(&r->lease, &s);
    str_printf(out,
               "{\"leases\": %u, \"blocked\": %u, \"pending_units\": %" PRIu64
               ", \"granted\": %" PRIu64 ", \"returned\": %" PRIu64 ", \"revoked\": %" PRIu64
               ", \"taken_back\": %" PRIu64 ", \"killed\": %" PRIu64 "}",
               s.leases, s.blocked, s.pending_units, s.granted, s.returned, s.revoked, s.taken_back,
               s.killed);
}

static void
put_why(struct rl_process *p, const char *cookie, struct str *out)
{
    char text[RL_WHY_MAX];
    text[0] = '\0';
    (void)rl_lease_why(&p->raylet->lease, os_now_ns(), p->number,
                       (uint32_t)strtoul(cookie, NULL, 10), text);
    put_text(out, text);
}

/* What this node can tell to anybody. False: `what` is something else. */
static bool
put_known(const struct raylet *r, const char *what, struct str *out)
{
    static const struct {
        const char *what;
        void (*put)(const struct raylet *r, struct str *out);
    } known[] = {
        { "available_resources", put_available },
        { "resources", put_available },
        { "node_total", put_total },
        { "node", put_node },
        { "workers", put_workers },
        { "store", put_store },
        { "leases", put_leases },
    };
    for (size_t i = 0; i < COUNT_OF(known); i++) {
        if (strcmp(what, known[i].what) == 0) {
            known[i].put(r, out);
            return true;
        }
    }
    return false;
}

int
rl_on_state_ask_of_link(struct rl_link *link, uint64_t request, const Ray__Node__StateAsk *m)
{
    struct str text;
    str_init(&text, link->raylet->mem);
    Ray__Node__StateAnswer answer = RAY__NODE__STATE_ANSWER__INIT;
    answer.status = put_known(link->raylet, m->what, &text) ? ST_OK : ST_NOT_FOUND;
    answer.status = text.failed ? ST_OUT_OF_MEMORY : answer.status;
    answer.json = rl_text(str_text(&text));
    const int status = net_msg_send(link->conn, NODE_STATE_ANSWER, request, &answer.base, NULL, 0);
    str_fini(&text);
    return status;
}

int
rl_on_state_ask(struct rl_process *p, uint64_t request, const Ray__Node__StateAsk *m)
{
    struct raylet *r = p->raylet;
    struct str text;
    str_init(&text, r->mem);
    if (strncmp(m->what, "why:", 4) == 0) {
        put_why(p, m->what + 4, &text);
    } else if (!put_known(r, m->what, &text)) {
        str_fini(&text);
        return rl_gcs_forward_state(p, request, m->what);
    }
    Ray__Node__StateAnswer answer = RAY__NODE__STATE_ANSWER__INIT;
    answer.status = text.failed ? ST_OUT_OF_MEMORY : ST_OK;
    answer.json = rl_text(str_text(&text));
    rl_send(p, NODE_STATE_ANSWER, request, &answer.base);
    str_fini(&text);
    return ST_OK;
}
