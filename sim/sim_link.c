/* SPDX-License-Identifier: Apache-2.0 */
/*
 * World `link`: processes that only send to one another, over connections that break. That each
 * message comes once and in order sim_wire.c checks at every one; this world makes the traffic, and
 * switches the rules of docs/protocols/connections.md off.
 */
#include "net/net_resume.h"
#include "sim.h"

enum { PROCS_MAX = 5 };

struct link_world {
    uint32_t procs;
};

static const char *const link_mutations[] = { "keep", "rewind", "ask", "one_socket", NULL };
_Static_assert(NET_RESUME_RULES == 3, "the first ones above, in the order of net_resume_rule");

static void *
create(struct sim *sim)
{
    struct link_world *w = mem_alloc(sim_mem(sim), sizeof(*w));
    struct sim_params *params = sim_params(sim);
    w->procs = 2 + (uint32_t)sim_below(sim, PROCS_MAX - 1);
    params->breaks = true;
    params->local = false;
    params->resume_rules_off = sim_mutations(sim) & ((1u << NET_RESUME_RULES) - 1);
    params->read_old_sockets = (sim_mutations(sim) >> NET_RESUME_RULES & 1) != 0;
    for (uint32_t i = 0; i < w->procs; i++) {
        (void)sim_proc_add(sim, "peer");
    }
    return w;
}

static void
destroy(struct sim *sim, void *world)
{
    mem_free(sim_mem(sim), world, sizeof(struct link_world));
}

static void
act(struct sim *sim, void *world)
{
    const struct link_world *w = world;
    const uint32_t a = 1 + (uint32_t)sim_below(sim, w->procs);
    const uint32_t b = 1 + (uint32_t)sim_below(sim, w->procs);
    if (!sim_proc_alive(sim, a) || a == b) {
        return;
    }
    if (sim_chance(sim, 10)) {
        sim_proc_kill(sim, a);
    } else if (sim_chance(sim, 50)) {
        sim_proc_stop(sim, a, sim_below(sim, 100 * SIM_MS));
    } else {
        for (uint64_t n = sim_chance(sim, 100) ? 100 : 1 + sim_below(sim, 5); n > 0; n--) {
            sim_send(sim, a, b, 0, 1, 0, NULL, 0);
        }
    }
}

/* Some are answered. */
static void
deliver(struct sim *sim, void *world, uint32_t proc, uint32_t from, uint16_t kind, uint64_t payload,
        const void *msg)
{
    (void)world;
    (void)payload;
    (void)msg;
    if (kind == 1 && sim_chance(sim, 300)) {
        sim_send(sim, proc, from, 0, 2, 0, NULL, 0);
    }
}

static void
quiet(struct sim *sim, void *world)
{
    (void)sim;
    (void)world;
}

const struct sim_world sim_world_link = {
    .name = "link",
    .create = create,
    .destroy = destroy,
    .act = act,
    .deliver = deliver,
    .quiet = quiet,
    .mutations = link_mutations,
};
