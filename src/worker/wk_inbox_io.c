/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inboxes of event loops; see wk_inbox.h.
 */
#include "worker/wk_inbox.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "os/os_basic.h"
#include "worker/wk_task.h"

static struct list with_fd = { &with_fd, &with_fd }; /* ray_inbox.link */

RAY_API int
ray_inbox_create(ray_inbox **out)
{
    struct ray_inbox *inbox = calloc(1, sizeof(*inbox));
    *out = inbox;
    if (!inbox) {
        return st_fail(ST_OUT_OF_MEMORY, "no memory for an inbox");
    }
    inbox->refs = 1;
    inbox->fd = -1;
    list_init(&inbox->link);
    return RAY_OK;
}

static void
signal_fd(struct ray_inbox *inbox)
{
    const uint64_t one = 1;
    if (inbox->fd >= 0 && !inbox->signalled) {
        inbox->signalled = true;
        (void)!write(inbox->fd, &one, sizeof(one));
    }
}

RAY_API int
ray_inbox_fd(ray_inbox *inbox)
{
    wk_lock();
    if (inbox->fd < 0) {
        inbox->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (inbox->fd >= 0) {
            list_push_back(&with_fd, &inbox->link);
            wk.foreign_awaits += inbox->awaited;
            if (inbox->count > 0) {
                signal_fd(inbox);
            }
        }
    }
    const int fd = inbox->fd;
    wk_unlock();
    return fd >= 0 ? fd : st_fail(ST_SYSTEM, "no descriptor for an inbox");
}

static void
drop(struct ray_inbox *inbox)
{
    if (--inbox->refs == 0) {
        list_remove(&inbox->link);
        os_close(&inbox->fd);
        free(inbox->tokens);
        free(inbox);
    }
}

void
wk_inboxes_close_in_child(void)
{
    LIST_FOR (l, &with_fd) {
        os_close(&LIST_ENTRY(l, struct ray_inbox, link)->fd);
    }
}

/* Room for one token more than there are, and are to come. */
static int
reserve(struct ray_inbox *inbox)
{
    const size_t need = inbox->count + inbox->awaited + 1;
    if (need <= inbox->capacity) {
        return ST_OK;
    }
    const size_t capacity = inbox->capacity ? 2 * inbox->capacity : 16;
    void **grown = malloc(capacity * sizeof(*grown));
    if (!grown) {
        return st_fail(ST_OUT_OF_MEMORY, "no memory for an inbox");
    }
    for (size_t i = 0; i < inbox->count; i++) {
        grown[i] = inbox->tokens[(inbox->first + i) & (inbox->capacity - 1)];
    }
    free(inbox->tokens);
    inbox->tokens = grown;
    inbox->capacity = capacity;
    inbox->first = 0;
    return ST_OK;
}

static void
append(struct ray_inbox *inbox, void *token)
{
    inbox->tokens[(inbox->first + inbox->count) & (inbox->capacity - 1)] = token;
    inbox->count++;
    signal_fd(inbox);
    wk_changed();
}

int
wk_inbox_await(struct ray_inbox *inbox)
{
    TRY(reserve(inbox));
    inbox->refs++;
    inbox->awaited++;
    if (inbox->fd >= 0) {
        wk.foreign_awaits++;
        wk_rest_awaited();
    }
    return ST_OK;
}

void
wk_inbox_put(struct ray_inbox *inbox, void *token)
{
    inbox->awaited--;
    if (inbox->fd >= 0) {
        wk.foreign_awaits--;
    }
    append(inbox, token);
    drop(inbox);
}

RAY_API int
ray_ref_notify(ray_ref *handle, ray_inbox *inbox, void *token)
{
    TRY(wk_enter());
    struct own_ref *ref = wk_ref_of(handle);
    int status = wk_refs_check(&handle, 1, true);
    if (status == ST_OK) {
        status = reserve(inbox);
    }
    if (status == ST_OK) {
        wk_ref_want(ref);
        if (ref->state != OWN_PENDING) {
            append(inbox, token);
        } else {
            struct wk_waiter *waiter = malloc(sizeof(*waiter));
            if (waiter) {
                *waiter = (struct wk_waiter){ .handle = ref, .inbox = inbox, .ctx = token };
                own_local_add(ref); /* the caller may drop it before */
                memcpy(&waiter->next, &ref->waiters, sizeof(waiter->next));
                memcpy(&ref->waiters, &waiter, sizeof(waiter));
                (void)!wk_inbox_await(inbox); /* there is room */
            } else {
                status = st_fail(ST_OUT_OF_MEMORY, "no memory to wait for a reference");
            }
        }
    }
    wk_unlock();
    return status;
}

RAY_API size_t
ray_inbox_take(ray_inbox *inbox, void **tokens, size_t capacity)
{
    wk_lock();
    size_t n = 0;
    for (; n < capacity && inbox->count > 0; n++) {
        tokens[n] = inbox->tokens[inbox->first];
        inbox->first = (inbox->first + 1) & (inbox->capacity - 1);
        inbox->count--;
    }
    if (inbox->count == 0 && inbox->signalled) {
        uint64_t count;
        (void)!read(inbox->fd, &count, sizeof(count));
        inbox->signalled = false;
    }
    wk_unlock();
    return n;
}

RAY_API bool
ray_inbox_is_awaited(ray_inbox *inbox)
{
    wk_lock();
    const bool awaited = inbox->awaited > 0 || inbox->count > 0;
    wk_unlock();
    return awaited;
}

RAY_API void
ray_inbox_release(ray_inbox *inbox)
{
    if (inbox) {
        wk_lock();
        drop(inbox);
        wk_unlock();
    }
}
