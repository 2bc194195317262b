/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Templates as peers tell them: a function with its options, once a connection, and which pushes
 * then name by number.
 */
#include <stdlib.h>
#include <string.h>

#include "worker/wk_exec.h"
#include "worker/wk_priv.h"

void
wk_peer_template_free(struct wk_peer_template *t)
{
    if (t) {
        ray_value_release(t->definition);
        free(t->text);
        free(t);
    }
}

void
wk_link_templates_free(struct wk_link *link)
{
    uint32_t number = 0;
    for (struct wk_peer_template *t; (t = pages_next(&link->templates, &number)); number++) {
        wk_peer_template_free(t);
    }
    pages_fini(&link->templates);
}

enum { TEXTS = 6 };

/* The texts of a template, each with its NUL, and the metadata. */
static int
take_texts(struct wk_peer_template *t, const struct peer_template *head, const uint8_t **at,
           const uint8_t *end)
{
    const uint32_t sizes[TEXTS] = { head->name_size,   head->function_name_size,
                                    head->method_size, head->resources_size,
                                    head->groups_size, head->metadata_size };
    size_t total = 0, spaced = 0;
    for (int i = 0; i < TEXTS; i++) {
        if (sizes[i] > NET_FRAME_MAX) {
            return st_fail(ST_PROTOCOL, "a template's text of %u bytes", sizes[i]);
        }
        total += sizes[i];
        spaced += wk_pad8(sizes[i]);
    }
    if (spaced > (size_t)(end - *at)) {
        return st_fail(ST_PROTOCOL, "a template's texts are cut off");
    }
    t->text = malloc(total + 1);
    if (!t->text) {
        return st_fail(ST_OUT_OF_MEMORY, "no memory for a template");
    }
    char *parts[TEXTS], *to = t->text;
    for (int i = 0; i < TEXTS; i++) {
        parts[i] = to;
        memcpy(to, *at, sizes[i]);
        if (i < TEXTS - 1 && (sizes[i] == 0 || to[sizes[i] - 1] != '\0')) {
            return st_fail(ST_PROTOCOL, "a template's text has no end");
        }
        to += sizes[i];
        *at += wk_pad8(sizes[i]);
    }
    t->name = parts[0];
    t->function_name = parts[1];
    t->method = parts[2];
    t->resources = parts[3];
    t->groups = parts[4];
    t->metadata = (uint8_t *)parts[5];
    t->metadata_size = sizes[5];
    return ST_OK;
}

int
wk_peer_template_decode(const uint8_t *body, size_t size, struct wk_peer_template **out)
{
    struct peer_template head;
    *out = NULL;
    if (size < wk_pad8(sizeof(head))) {
        return st_fail(ST_PROTOCOL, "a template of %zu bytes", size);
    }
    memcpy(&head, body, sizeof(head));
    struct wk_peer_template *t = calloc(1, sizeof(*t));
    if (!t) {
        return st_fail(ST_OUT_OF_MEMORY, "no memory for a template");
    }
    t->number = head.number;
    t->kind = head.kind;
    t->num_returns = head.num_returns;
    t->max_calls = head.max_calls;
    t->flags = head.flags;
    t->max_concurrency = head.max_concurrency;
    t->backpressure = head.backpressure;
    t->exception_retries = head.exception_retries;
    memcpy(t->hash, head.hash, sizeof(t->hash));
    const uint8_t *at = body + wk_pad8(sizeof(head)), *end = body + size;
    int status = take_texts(t, &head, &at, end);
    if (status == ST_OK && (head.num_returns < 0 || head.num_returns > OWN_ITEMS_MAX)) {
        status = st_fail(ST_PROTOCOL, "a template with %d returns", head.num_returns);
    }
    if (status == ST_OK && (head.flags & (PEER_TEMPLATE_STREAMING | PEER_TEMPLATE_DYNAMIC)) &&
        head.num_returns != 1) {
        status = st_fail(ST_PROTOCOL, "a generator with %d returns", head.num_returns);
    }
    if (status == ST_OK && (head.flags & PEER_TEMPLATE_HAS_DEFINITION)) {
        struct wk_piece piece;
        status = wk_piece_decode(&at, end, &piece);
        if (status == ST_OK) {
            t->definition = wk_value_of_piece(&piece);
            status = t->definition && t->definition->kind == WK_VALUE_INLINE
                         ? ST_OK
                         : st_fail(ST_PROTOCOL, "a definition can't be read");
        }
    }
    if (status != ST_OK) {
        wk_peer_template_free(t);
        return status;
    }
    *out = t;
    return ST_OK;
}

int
wk_on_template(struct wk_link *link, const uint8_t *body, size_t size)
{
    struct wk_peer_template *t;
    TRY(wk_peer_template_decode(body, size, &t));
    if (t->number > 1u << 24) {
        const uint32_t number = t->number;
        wk_peer_template_free(t);
        return st_fail(ST_PROTOCOL, "template number %u", number);
    }
    if (pages_get(&link->templates, t->number)) {
        wk_peer_template_free(t); /* said twice: the first is in use */
        return ST_OK;
    }
    link->templates.mem = wk.mem;
    if (pages_set(&link->templates, t->number, t) != ST_OK) {
        wk_peer_template_free(t);
        return st_fail(ST_OUT_OF_MEMORY, "no memory for a peer's templates");
    }
    t->name_key = id_hash(t->name, strlen(t->name));
    return ST_OK;
}
