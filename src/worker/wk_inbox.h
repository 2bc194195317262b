/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inboxes: where an event loop learns of references that became ready. Whoever finds a reference
 * ready, under the engine's lock, puts the token in; there is room for it since the token was
 * announced, so that can't fail. Private to src/worker; the engine's lock guards everything.
 */
#ifndef RAY_WORKER_WK_INBOX_H
#define RAY_WORKER_WK_INBOX_H

#include "worker/wk_priv.h"

struct ray_inbox {
    struct list link; /* of those with a descriptor */
    uint32_t refs;    /* the program's, and one a token to come */
    uint32_t awaited; /* tokens to come */
    int fd;           /* an eventfd, -1 none */
    bool signalled;
    size_t first, count, capacity;
    void **tokens; /* a ring of `capacity`, which is 0 or a power of two */
};

/* A token is announced: there is room for it, and it keeps the inbox. */
int wk_inbox_await(struct ray_inbox *inbox) MUST_USE;
/* A token that was announced comes. */
void wk_inbox_put(struct ray_inbox *inbox, void *token);
/* In a child of the user's fork. */
void wk_inboxes_close_in_child(void);

#endif
