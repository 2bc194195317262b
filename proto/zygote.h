/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The conversation of a raylet with a zygote, over a SOCK_SEQPACKET pair whose end the zygote finds
 * by RAY_ZYGOTE_FD. One packet a message, little-endian, fixed sizes but for the environment.
 *
 *   raylet                 zygote            intermediate        worker
 *     |<------ READY --------|                    |                |
 *     |------- FORK -------->| fork ------------->| fork --------->|  waits
 *     |<------------------ birth pair: BORN ------|                |
 *     |  (registers the pid)                      |                |
 *     |------------------- birth pair: GO ------->| exits          |
 *     |                                            (worker is now the raylet's child: it sets its
 *     |<------------------ Hello ----------------------------------| death signal and goes on)
 *
 * FORK brings three descriptors: stdout, stderr, and one end of the birth pair (a second
 * SOCK_SEQPACKET pair, made for this worker alone). The end of the birth pair without a BORN means
 * that no worker was made. A child of the raylet that was never registered is an orphan.
 */
#ifndef RAY_PROTO_ZYGOTE_H
#define RAY_PROTO_ZYGOTE_H

#include <stdint.h>

enum {
    ZYGOTE_MAGIC = 0x5a594752, /* "RGYZ" */
    ZYGOTE_TOKEN_SIZE = 16,
    ZYGOTE_FORK_FDS = 3,
    ZYGOTE_ENV_MAX = 8192,
};

enum zygote_kind {
    ZYGOTE_READY = 1, /* zygote -> raylet: zygote_head, the interpreter is warm */
    ZYGOTE_FORK = 2,  /* raylet -> zygote: zygote_fork */
    ZYGOTE_BORN = 3,  /* intermediate -> raylet: zygote_born */
    ZYGOTE_GO = 4,    /* raylet -> intermediate: zygote_head */
};

struct zygote_head {
    uint32_t magic;
    uint32_t kind; /* enum zygote_kind */
};

/* Followed by env_size bytes: NAME=value strings, each with its NUL, added to the environment of
 * the worker alone. */
struct zygote_fork {
    struct zygote_head head;
    uint8_t token[ZYGOTE_TOKEN_SIZE];
    int32_t raylet_pid;
    uint32_t env_size;
};

struct zygote_born {
    struct zygote_head head;
    uint8_t token[ZYGOTE_TOKEN_SIZE];
    int32_t pid;
    int32_t error; /* an errno when there is no worker, pid is 0 then */
};

_Static_assert(sizeof(struct zygote_fork) == 32, "fixed layout");
_Static_assert(sizeof(struct zygote_born) == 32, "fixed layout");

#endif
