/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A zygote's requests as they come from the raylet (proto/zygote.h): received, checked, and only
 * then looked at. Single threaded; called by ray_zygote_run, and by what tests the decoding.
 */
#ifndef RAY_WORKER_WK_ZYGOTE_IO_H
#define RAY_WORKER_WK_ZYGOTE_IO_H

#include "base/assert.h"
#include "proto/zygote.h"

struct wk_fork_request {
    struct zygote_fork head;
    char environment[ZYGOTE_ENV_MAX + 1]; /* NAME=value strings; an empty one ends them */
    int fds[ZYGOTE_FORK_FDS];             /* stdout, stderr, birth pair */
};

/* ST_OK with a request, whose descriptors are the caller's; ST_CLOSED when the raylet has gone;
 * ST_PROTOCOL and no descriptors for anything malformed. */
int wk_zygote_receive(int fd, struct wk_fork_request *request) MUST_USE;
void wk_zygote_close_fds(struct wk_fork_request *request);

#endif
