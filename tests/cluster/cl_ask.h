/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What tests of the daemons ask for over the connections of cl_client.h: state, a stored value,
 * actors. Everything ends the test when the answer isn't as said.
 */
#ifndef RAY_TESTS_CL_ASK_H
#define RAY_TESTS_CL_ASK_H

#include "base/id.h"
#include "cl_client.h"

/* What the raylet tells about `what`, as JSON. */
void cl_ask_state(struct cl_runtime *rt, const char *what, char *out, size_t capacity);
/* Lets the raylet do one more round of its loop; false when it has ended instead. */
bool cl_answers(struct cl_runtime *rt);
/* Stores the one value that cl_assert_value asks for. */
void cl_put_value(struct cl_runtime *rt, const char *value);
void cl_assert_value(struct cl_conn *gcs, const char *value);
/* `what` tells the role of cl_roles.c what to do. It is watched. */
struct id_actor cl_create_actor(struct cl_runtime *rt, const char *what, int64_t max_restarts);
/* Waits until the actor is in that state (and constructed, when it is to be alive). */
Ray__Gcs__ActorUpdate *cl_wait_for_actor(struct cl_runtime *rt, const struct id_actor *id,
                                         Ray__Gcs__ActorState state, uint64_t incarnation);
/* Its process. */
pid_t cl_wait_alive(struct cl_runtime *rt, const struct id_actor *id, uint64_t incarnation);
/* `reason` is a part of what is told. */
void cl_wait_dead(struct cl_runtime *rt, const struct id_actor *id, uint64_t incarnation,
                  int status, const char *reason);
void cl_kill_actor(struct cl_runtime *rt, const struct id_actor *id, bool no_restart);

#endif
