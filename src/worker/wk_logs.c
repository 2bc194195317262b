/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The callback thread: printed lines of workers, ready callbacks, and failures that nobody has
 * looked at, outside of the engine's lock.
 *
 * It is made when there is first something for it. Callbacks enter the face's language, so they
 * are never made by the background thread.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "worker/wk_priv.h"

enum { UNHANDLED_MAX = 1000 }; /* failures that wait to be told of; those beyond are counted */

struct callback {
    struct list link;
    struct ray_value *failure; /* that nobody has looked at, or */
    ray_ready_fn fn;           /* NULL: a log line */
    void *ctx;
    bool cancelled, is_stderr;
    int pid;
    size_t size;
    char *text; /* name, NUL, lines */
};

struct wk_callbacks {
    pthread_mutex_t lock;
    pthread_cond_t filled;
    struct list queue;
    uint32_t unhandled;       /* in the queue */
    size_t unhandled_dropped; /* since the last that was told of */
    pthread_t thread;
    bool stop;
};

static ray_log_fn log_fn;
static void *log_ctx;
static ray_unhandled_fn unhandled_fn;
static void *unhandled_ctx;
static bool ignores_unhandled;

static void
plain_log(const struct callback *c)
{
    const char *lines = c->text + strlen(c->text) + 1, *end = lines + c->size;
    FILE *to = c->is_stderr ? stderr : stdout;
    while (lines < end) {
        const char *stop = memchr(lines, '\n', (size_t)(end - lines));
        const int n = (int)((stop ? stop : end) - lines);
        (void)fprintf(to, "(%s pid=%d) %.*s\n", c->text, c->pid, n, lines);
        lines += n + 1;
    }
    (void)fflush(to);
}

static void
plain_unhandled(const struct ray_value *failure, size_t dropped)
{
    struct wk_failure f;
    wk_value_read_failure(failure, &f);
    if (dropped > 0) {
        (void)fprintf(stderr, "%zu unhandled errors came faster than they could be told.\n",
                      dropped);
    }
    (void)fprintf(stderr,
                  "Unhandled error (suppress with 'RAY_IGNORE_UNHANDLED_ERRORS=1'): %s: "
                  "%s\n",
                  f.function, f.text);
    (void)fflush(stderr);
}

static void
tell_unhandled(struct wk_callbacks *cb, struct ray_value *failure)
{
    (void)pthread_mutex_lock(&cb->lock);
    const size_t dropped = cb->unhandled_dropped;
    cb->unhandled_dropped = 0;
    cb->unhandled--;
    (void)pthread_mutex_unlock(&cb->lock);
    if (unhandled_fn) {
        unhandled_fn(unhandled_ctx, failure, dropped);
    } else if (!ignores_unhandled) {
        plain_unhandled(failure, dropped);
    }
    ray_value_release(failure);
}

static void
run_one(struct wk_callbacks *cb, struct callback *c)
{
    if (c->failure) {
        tell_unhandled(cb, c->failure);
    } else if (c->fn) {
        c->fn(c->ctx, c->cancelled);
    } else if (log_fn) {
        log_fn(log_ctx, c->text, c->pid, c->is_stderr, c->text + strlen(c->text) + 1, c->size);
    } else {
        plain_log(c);
    }
    free(c->text);
    free(c);
}

static void *
callback_main(void *arg)
{
    struct wk_callbacks *cb = arg;
    (void)pthread_mutex_lock(&cb->lock);
    for (;;) {
        struct list *first = list_pop_front(&cb->queue);
        if (first) {
            (void)pthread_mutex_unlock(&cb->lock);
            run_one(cb, LIST_ENTRY(first, struct callback, link));
            (void)pthread_mutex_lock(&cb->lock);
        } else if (cb->stop) {
            break;
        } else {
            (void)pthread_cond_wait(&cb->filled, &cb->lock);
        }
    }
    (void)pthread_mutex_unlock(&cb->lock);
    return NULL;
}

static struct wk_callbacks *
start(void)
{
    struct wk_callbacks *cb = calloc(1, sizeof(*cb));
    if (!cb) {
        return NULL;
    }
    (void)pthread_mutex_init(&cb->lock, NULL);
    (void)pthread_cond_init(&cb->filled, NULL);
    list_init(&cb->queue);
    sigset_t all, old;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    const int error = pthread_create(&cb->thread, NULL, callback_main, cb);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (error != 0) {
        free(cb);
        return NULL;
    }
    (void)pthread_setname_np(cb->thread, "ray-callback");
    return cb;
}

/* False: there is no thread; the callback is the caller's still. */
static bool
push(struct callback *c)
{
    if (!wk.callbacks) {
        wk.callbacks = start();
    }
    if (!wk.callbacks) {
        return false;
    }
    (void)pthread_mutex_lock(&wk.callbacks->lock);
    list_push_back(&wk.callbacks->queue, &c->link);
    (void)pthread_cond_signal(&wk.callbacks->filled);
    (void)pthread_mutex_unlock(&wk.callbacks->lock);
    return true;
}

/* Whether one more failure may wait to be told of. */
static bool
count_unhandled(struct wk_callbacks *cb)
{
    (void)pthread_mutex_lock(&cb->lock);
    const bool fits = cb->unhandled < UNHANDLED_MAX;
    if (fits) {
        cb->unhandled++;
    } else {
        cb->unhandled_dropped++;
    }
    (void)pthread_mutex_unlock(&cb->lock);
    return fits;
}

bool
wk_unhandled_take(struct ray_value *failure)
{
    failure->unheard = false;
    if (!wk.ready || wk.forked) {
        return false; /* the session ends: what is left was kept by the program until now */
    }
    if (!wk.callbacks) {
        wk.callbacks = start();
    }
    struct callback *c = calloc(1, sizeof(*c));
    if (!c || !wk.callbacks || !count_unhandled(wk.callbacks)) {
        free(c);
        return false;
    }
    atom_u32_store(&failure->refs, 1, ATOM_RELAXED);
    c->failure = failure;
    (void)push(c);
    return true;
}

RAY_API void
ray_on_unhandled(ray_unhandled_fn fn, void *ctx)
{
    wk_lock();
    unhandled_fn = fn;
    unhandled_ctx = ctx;
    wk_unlock();
}

void
wk_unhandled_start(void)
{
    /* tidy: getenv: read once, when a session starts */
    ignores_unhandled = getenv("RAY_IGNORE_UNHANDLED_ERRORS") != NULL;
}

void
wk_callback_push(ray_ready_fn fn, void *ctx, bool cancelled)
{
    struct callback *c = calloc(1, sizeof(*c));
    if (c) {
        *c = (struct callback){ .fn = fn, .ctx = ctx, .cancelled = cancelled };
        if (!push(c)) {
            free(c);
        }
    }
}

void
wk_logs_start(ray_log_fn fn, void *ctx)
{
    log_fn = fn;
    log_ctx = ctx;
}

void
wk_logs_push(const Ray__Node__LogLines *lines)
{
    const size_t name = strlen(lines->name) + 1;
    struct callback *c = calloc(1, sizeof(*c));
    if (!c) {
        return;
    }
    c->text = malloc(name + lines->text.len + 1);
    if (!c->text) {
        free(c);
        return;
    }
    memcpy(c->text, lines->name, name);
    memcpy(c->text + name, lines->text.data, lines->text.len);
    c->text[name + lines->text.len] = '\0';
    c->size = lines->text.len;
    c->pid = lines->pid;
    c->is_stderr = lines->is_stderr;
    if (!push(c)) {
        free(c->text);
        free(c);
    }
}

/* Everything queued is still called; no lock held. */
void
wk_logs_stop(void)
{
    struct wk_callbacks *cb = wk.callbacks;
    wk.callbacks = NULL;
    if (!cb) {
        return;
    }
    (void)pthread_mutex_lock(&cb->lock);
    cb->stop = true;
    (void)pthread_cond_signal(&cb->filled);
    (void)pthread_mutex_unlock(&cb->lock);
    (void)pthread_join(cb->thread, NULL);
    (void)pthread_cond_destroy(&cb->filled);
    (void)pthread_mutex_destroy(&cb->lock);
    free(cb);
}
