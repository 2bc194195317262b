/* SPDX-License-Identifier: Apache-2.0 */
/* The test program as worker and zygote. See cl_roles.h. */
#include "cl_roles.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/id.h"
#include "base/status.h"
#include "net/net_conn.h"
#include "net/net_loop.h"
#include "net/net_msg.h"
#include "os/os_basic.h"
#include "os/os_proc.h"
#include "os/os_sock.h"
#include "proto/kinds.h"
#include "proto/node.pb-c.h"
#include "ray/ray.h"

struct worker {
    struct net_loop *loop;
    struct net_conn *conn;
    const char *behaviour;
    int exit_code;
};

/* Returns when the process between has ended: the kernel sends the signal as it gives this one to
 * its new parent, so who asks for the parent from now on sees the new one. */
static void
wait_for_adoption(pid_t middle)
{
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGUSR1);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    (void)prctl(PR_SET_PDEATHSIG, SIGUSR1);
    while (getppid() == middle) {
        (void)sigwaitinfo(&set, NULL);
    }
    (void)prctl(PR_SET_PDEATHSIG, 0);
}

/* Two forks away, so that only a subreaper is its parent, in a session of its own. */
static void
leave_orphan(void)
{
    const pid_t first = fork();
    if (first == 0) {
        const pid_t middle = getpid();
        if (setsid() < 0 || fork() != 0) {
            _exit(0);
        }
        wait_for_adoption(middle);
        (void)printf("orphan %d\n", (int)getpid());
        (void)fflush(stdout);
        for (;;) {
            (void)pause();
        }
    }
}

static void
on_served(struct worker *w)
{
    if (strcmp(w->behaviour, "print") == 0) {
        (void)printf("first line\nsecond line\n");
        (void)fprintf(stderr, "a complaint\nanother\n");
        (void)fflush(stdout);
    } else if (strcmp(w->behaviour, "orphan") == 0) {
        leave_orphan();
    }
}

static void
on_become_actor(struct worker *w, const Ray__Node__BecomeActor *m)
{
    const char *spec = (const char *)m->spec.data;
    if (m->spec.len == 4 && memcmp(spec, "exit", 4) == 0) {
        exit(7);
    }
    Ray__Node__ActorConstructed done = RAY__NODE__ACTOR_CONSTRUCTED__INIT;
    uint8_t failure[] = "why it failed";
    done.actor_id = m->actor_id;
    done.incarnation = m->incarnation;
    if (m->spec.len == 4 && memcmp(spec, "fail", 4) == 0) {
        done.status = ST_TASK_FAILED;
        done.failure.data = failure;
        done.failure.len = sizeof(failure);
    }
    if (net_msg_send(w->conn, NODE_ACTOR_CONSTRUCTED, 0, &done.base, NULL, 0) != ST_OK) {
        w->exit_code = 2;
        net_loop_stop(w->loop);
    }
}

static void
on_frame(void *ctx, struct net_conn *conn, const struct net_frame *frame)
{
    (void)conn;
    struct worker *w = ctx;
    ProtobufCMessage *m = NULL;
    if (net_msg_unpack(frame, 1 << 24, &m) != ST_OK) {
        w->exit_code = 2;
        net_loop_stop(w->loop);
        return;
    }
    if (frame->header.kind == NODE_HELLO_REPLY) {
        on_served(w);
    } else if (frame->header.kind == NODE_BECOME_ACTOR) {
        on_become_actor(w, (const Ray__Node__BecomeActor *)m);
    } else if (frame->header.kind == NODE_LEAVE || frame->header.kind == NODE_REFUSED) {
        w->exit_code = frame->header.kind == NODE_LEAVE ? 0 : 4;
        net_loop_stop(w->loop);
    }
    net_msg_free(m);
}

static void
on_close(void *ctx, struct net_conn *conn, int status)
{
    (void)conn;
    (void)status;
    struct worker *w = ctx;
    w->exit_code = 5;
    net_loop_stop(w->loop);
}

/* Stops the raylet until this process is gone, so that it hears its greeting from the dead. */
static void
stop_raylet_while_alive(int socket_fd)
{
    const pid_t raylet = getppid();
    int self = -1;
    if (os_pidfd_open(getpid(), &self) != ST_OK || kill(raylet, SIGSTOP) != 0) {
        exit(1);
    }
    if (fork() == 0) {
        struct pollfd p = { .fd = self, .events = POLLIN };
        os_close(&socket_fd);
        while (poll(&p, 1, -1) < 0) {
        }
        (void)kill(raylet, SIGCONT);
        _exit(0);
    }
}

static int
worker_main(void)
{
    static const struct net_conn_ops ops = { .on_frame = on_frame, .on_close = on_close };
    struct worker w = { .behaviour = getenv("CL_WORKER") };
    const char *socket = getenv("RAY_RAYLET_SOCKET"), *token = getenv("RAY_START_TOKEN");
    uint8_t bytes[16];
    int fd = -1;
    if (!w.behaviour || !socket || !token ||
        !id_from_hex(token, strlen(token), bytes, sizeof(bytes))) {
        return 1;
    }
    if (strcmp(w.behaviour, "die") == 0) {
        (void)fprintf(stderr, "this worker doesn't feel like it\n");
        return 3;
    }
    char peer[32];
    (void)snprintf(peer, sizeof(peer), "w%d", (int)getpid());
    Ray__Node__Hello hello = RAY__NODE__HELLO__INIT;
    hello.protocol_version = RAY_PROTOCOL_VERSION;
    hello.role = RAY__NODE__ROLE__WORKER;
    hello.pid = getpid();
    hello.start_token.data = bytes;
    hello.start_token.len = sizeof(bytes);
    hello.peer_socket = peer;
    if (os_sock_connect(socket, &fd) != ST_OK) {
        return 1;
    }
    const bool vanishes = strncmp(w.behaviour, "vanish ", 7) == 0 && unlink(w.behaviour + 7) == 0;
    if (vanishes) {
        stop_raylet_while_alive(fd);
    }
    if (net_loop_create(os_mem_system(), &w.loop) != ST_OK ||
        net_conn_create(w.loop, os_mem_system(), fd, &ops, &w, &w.conn) != ST_OK ||
        net_msg_send(w.conn, NODE_HELLO, 0, &hello.base, NULL, 0) != ST_OK) {
        (void)fprintf(stderr, "%s\n", st_last()->text);
        return 1;
    }
    if (vanishes) {
        _exit(0);
    }
    net_loop_run(w.loop);
    net_conn_destroy(&w.conn);
    net_loop_destroy(&w.loop);
    return w.exit_code;
}

int
cl_role_main(const char *role)
{
    if (strcmp(role, "zygote") == 0) {
        const int in_worker = ray_zygote_run();
        return in_worker == 1 ? worker_main() : in_worker;
    }
    return worker_main();
}
