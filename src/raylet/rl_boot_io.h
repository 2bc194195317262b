/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The boot conversation (Boot, BootReply of proto/node.proto) and what the node is said to have.
 * Before the loop runs, so these calls wait: at most BOOT_WAIT_MS for the one frame that is
 * expected.
 */
#ifndef RAY_RL_BOOT_IO_H
#define RAY_RL_BOOT_IO_H

#include "raylet/rl_io.h"

int rl_boot_receive(int fd, Ray__Node__Boot **out) MUST_USE;
/* status: ST_OK, or why there is no raylet (the text is st_last's). */
void rl_boot_reply(const struct raylet *r, int fd, int status);
/* The node's totals: what is given, and what is detected for the rest. Sets store_size. */
int rl_boot_resources(struct raylet *r, const Ray__Node__Boot *boot, struct res_set *out) MUST_USE;

#endif
