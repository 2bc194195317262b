/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The callback thread: printed lines of workers and ready callbacks, outside of the engine's lock.
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

struct callback {
    struct list link;
    ray_ready_fn fn; /* NULL: a log line */
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
    pthread_t thread;
    bool stop;
};

static ray_log_fn log_fn;
static void *log_ctx;

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
run_one(struct callback *c)
{
    if (c->fn) {
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
            run_one(LIST_ENTRY(first, struct callback, link));
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

static void
push(struct callback *c)
{
    if (!wk.callbacks) {
        wk.callbacks = start();
    }
    if (!wk.callbacks) {
        free(c->text);
        free(c);
        return;
    }
    (void)pthread_mutex_lock(&wk.callbacks->lock);
    list_push_back(&wk.callbacks->queue, &c->link);
    (void)pthread_cond_signal(&wk.callbacks->filled);
    (void)pthread_mutex_unlock(&wk.callbacks->lock);
}

void
wk_callback_push(ray_ready_fn fn, void *ctx, bool cancelled)
{
    struct callback *c = calloc(1, sizeof(*c));
    if (c) {
        *c = (struct callback){ .fn = fn, .ctx = ctx, .cancelled = cancelled };
        push(c);
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
    push(c);
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
