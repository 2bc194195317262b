/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one end of a connection has to remember so that the connection can break and go on: the
 * frames that the other end isn't known to have handled, and how many of the other's were handled
 * here. docs/protocols/connections.md tells the protocol.
 *
 * Pure: bytes and counts. Whoever drives it has the socket, writes what net_resume_unwritten gives,
 * and exchanges counts with the other end: in every frame, and when a new socket is there.
 *
 *   down ---- net_resume_ask (a new socket) ----> asking
 *   any state ---- net_resume_on_count (what the other end has handled) ----> up
 *   any state ---- net_resume_broke ----> down
 *
 * Also for connections that don't survive their socket (`lasting` false): then what was written is
 * forgotten, and only what waits for room is held.
 */
#ifndef RAY_NET_RESUME_H
#define RAY_NET_RESUME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/str.h"

/* Rules that the simulator switches off one by one, to show that each is needed. */
enum net_resume_rule {
    NET_RESUME_RULE_KEEP = 1 << 0,   /* K1: what is written stays until it is handled */
    NET_RESUME_RULE_REWIND = 1 << 1, /* K2: a new socket gets what isn't handled, from its start */
    NET_RESUME_RULE_ASK = 1 << 2,    /* K4: nothing is written before the other's count came */
    NET_RESUME_RULES = 3,
};

struct net_resume {
    struct str out; /* whole frames, oldest first, but for the first of one that isn't lasting */
    size_t start;   /* of the first that the other end isn't known to have handled */
    size_t written; /* what lies before went out on the present socket */
    uint64_t base;  /* bytes ever before `start` */
    bool lasting;
    bool down;           /* nothing may be written: no socket, or the other's count is awaited */
    uint64_t sent;       /* frames appended in all */
    uint64_t known;      /* of these, the other end is known to have handled so many */
    uint64_t handled;    /* frames of the other end's */
    uint64_t told;       /* of these, it was told of so many */
    uint64_t bytes_told; /* bytes handled since */
    uint32_t rules_off;  /* enum net_resume_rule; 0 but in the simulator */
};

void net_resume_init(struct net_resume *r, const struct mem *mem, bool lasting);
void net_resume_fini(struct net_resume *r);

/* Appends one frame, of which the first `written` bytes went out already (only when nothing else is
 * unwritten). ST_OUT_OF_MEMORY: nothing was appended, and the connection can't go on. */
int net_resume_append(struct net_resume *r, const struct iovec *iov, int count, size_t written)
    MUST_USE;

/* Bytes that wait for a socket or for room in it. */
static inline size_t
net_resume_waiting(const struct net_resume *r)
{
    return r->out.size - r->written;
}
/* What may be written now, 0 when nothing; valid until the next call. */
size_t net_resume_unwritten(const struct net_resume *r, const char **bytes);
void net_resume_wrote(struct net_resume *r, size_t bytes);
/* Position in the stream of what is written next; only a rewind takes it back. */
static inline uint64_t
net_resume_position(const struct net_resume *r)
{
    return r->base + (r->written - r->start);
}

/* How many frames were handled, to be put into a frame that is sent now. */
static inline uint64_t
net_resume_tell(struct net_resume *r)
{
    r->told = r->handled;
    r->bytes_told = 0;
    return r->handled;
}
/* One more frame is handled. */
static inline void
net_resume_on_frame(struct net_resume *r, size_t bytes)
{
    r->handled++;
    r->bytes_told += bytes;
}
/* So much was handled since it was told that it is to be told without waiting for a frame. */
static inline bool
net_resume_must_tell(const struct net_resume *r)
{
    return r->handled - r->told >= 32 || r->bytes_told >= 64 * (size_t)1024;
}
/* The other end has handled `count` frames: what was kept of them is forgotten. An older count
 * changes nothing. ST_PROTOCOL: it says more than was written. */
int net_resume_on_told(struct net_resume *r, uint64_t count) MUST_USE;

/* The socket has ended. */
void net_resume_broke(struct net_resume *r);
/* The connecting side has a new socket: what it has handled, for RESUME. */
uint64_t net_resume_ask(struct net_resume *r);
/* The other end's count has come over a new socket: goes on from there. ST_PROTOCOL: it has
 * forgotten what it handled, or counts what was never sent. */
int net_resume_on_count(struct net_resume *r, uint64_t count) MUST_USE;

#endif
