/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small client of the daemons for tests: starts a runtime and speaks the protocols, with no
 * libray between. One thread; every wait has a limit and ends the test when it is passed.
 */
#ifndef RAY_TESTS_CL_CLIENT_H
#define RAY_TESTS_CL_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/id.h"
#include "net/net_conn.h"
#include "net/net_loop.h"
#include "net/net_msg.h"
#include "proto/gcs.pb-c.h"
#include "proto/kinds.h"
#include "proto/node.pb-c.h"

enum { CL_FRAMES_MAX = 4096, CL_WAIT_MS = 40000 };

/* A frame that has come and was not asked for yet. */
struct cl_frame {
    uint16_t kind;
    uint64_t request;
    ProtobufCMessage *message;
};

/* One connection with what it has received. */
struct cl_conn {
    struct cl_loop *loop;
    struct net_conn *conn;
    struct cl_frame frames[CL_FRAMES_MAX];
    size_t count;
    bool closed;
    int fds[8]; /* the last descriptors received */
    int fd_count;
};

struct cl_loop {
    struct net_loop *loop;
};

/* A runtime that this process started, with its first driver connection. */
struct cl_runtime {
    struct cl_loop loop;
    struct cl_conn boot, node, gcs;
    pid_t raylet, guard;
    char socket[128], socket_dir[128], session_dir[256];
    struct id_worker worker_id;
    struct id_job job_id;
    char *argv[8];
    size_t argc;
    bool by_zygote;        /* workers are forked by a zygote */
    const char *behaviour; /* environment CL_WORKER of workers */
    bool guest;            /* the runtime is somebody else's */
    bool expect_errors;    /* daemons log what this test does to them */
};

/* Starts daemons (2 CPUs, 64 MiB store) that end with process `pidfd`, waits for their readiness.
 */
void cl_boot(struct cl_runtime *rt, int driver_pidfd);
/* Says hello as a driver and waits for the answer; connects to ray-gcs too. */
void cl_hello(struct cl_runtime *rt);
/* Both. */
void cl_start(struct cl_runtime *rt);
/* Ends the job and the runtime, waits until the guard has gone, and checks that nothing is left. */
void cl_stop(struct cl_runtime *rt);
/* Lets go of everything of this process; fails when a daemon's log tells of a panic, of a
 * sanitizer's finding, or, unless `expect_errors`, of an error. */
void cl_close(struct cl_runtime *rt);
/* Nothing of the runtime is left but logs: processes, sockets, database. Waits for the former. */
void cl_assert_gone(struct cl_runtime *rt);

void cl_connect(struct cl_loop *loop, const char *path, struct cl_conn *out);
void cl_send(struct cl_conn *c, uint16_t kind, uint64_t request, const ProtobufCMessage *message,
             int fd);
/* The next frame of a kind (others stay); freed by the caller with net_msg_free. */
ProtobufCMessage *cl_expect(struct cl_conn *c, uint16_t kind);
/* As cl_expect, but returns NULL when the connection ends first. */
ProtobufCMessage *cl_expect_or_end(struct cl_conn *c, uint16_t kind);
void cl_expect_end(struct cl_conn *c);
void cl_conn_close(struct cl_conn *c);

/* Asks for one lease of so many CPUs (in 1/10000) and waits for the grant; key 1. */
Ray__Node__LeaseGrant *cl_lease(struct cl_runtime *rt, int64_t cpu);
void cl_return_lease(struct cl_runtime *rt, uint64_t lease_id);

/* Waits until the process has ended; false when that takes as long as only a hang does. */
bool cl_wait_gone(pid_t pid);
bool cl_is_alive(pid_t pid);
pid_t cl_parent_of(pid_t pid);
/* Children of a process; how many. */
size_t cl_children_of(pid_t pid, pid_t *out, size_t capacity);
/* The first child whose command line contains `text`, 0 when there is none. */
pid_t cl_find_child(pid_t parent, const char *text);
/* Reads a whole file; "" when there is none. */
const char *cl_read_file(const char *dir, const char *name, char *buf, size_t capacity);

#endif
