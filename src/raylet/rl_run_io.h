/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The raylet's two processes: the guard, and the raylet that it makes.
 *
 * The driver spawns the program; that process forks the guard and exits at once, so the driver has
 * a child for a moment only. The guard leads a session of its own, forks the raylet, and waits.
 * When the raylet has ended the guard writes RayletExited to the boot socket pair, kills what the
 * raylet left, removes its sockets, and exits: the end of the boot pair tells that everything is
 * gone.
 */
#ifndef RAY_RL_RUN_IO_H
#define RAY_RL_RUN_IO_H

#include "base/assert.h"
#include "raylet/rl_session_io.h"

struct rl_run_config {
    int boot_fd;      /* a connected unix stream socket: Boot comes, BootReply goes */
    int driver_pidfd; /* of the driver that the runtime ends with; -1: it ends by SIGTERM only */
    struct rl_session *shared; /* where the raylet tells its guard what to remove */
};

/* The whole of the program: comes back with an exit code in the first process, exits in the others.
 */
int rl_guard_main(int boot_fd, int driver_pidfd);

/* The raylet proper, in the guard's child. The exit code. */
int rl_raylet_run(const struct rl_run_config *config);

#endif
