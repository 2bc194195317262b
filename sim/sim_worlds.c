/* SPDX-License-Identifier: Apache-2.0 */
/* The worlds that ray-sim knows. */
#include "sim.h"

extern const struct sim_world sim_world_own;
extern const struct sim_world sim_world_lease;
extern const struct sim_world sim_world_actor;
extern const struct sim_world sim_world_stream;
extern const struct sim_world sim_world_link;

const struct sim_world *const sim_worlds[] = {
    &sim_world_own, &sim_world_lease, &sim_world_actor, &sim_world_stream, &sim_world_link, NULL,
};
