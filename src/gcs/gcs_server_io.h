/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ray-gcs without its main: a loop, the connections, the store, around the decisions of gcs.h.
 * Everything that arrived in one round of the loop is decided, then committed in one transaction,
 * and only then answered. If a commit fails the process ends: what it holds in memory is no
 * promise, what is in the file is, and the raylet starts it again.
 */
#ifndef RAY_GCS_SERVER_IO_H
#define RAY_GCS_SERVER_IO_H

#include <stdbool.h>

#include "base/assert.h"

struct gcs_server_config {
    int listen_fd;        /* a listening unix socket; taken over */
    const char *database; /* path of the file */
    bool durable;
};

/* Serves until SIGTERM. */
int gcs_server_run(const struct gcs_server_config *config) MUST_USE;

#endif
