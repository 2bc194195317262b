/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What another process of libray can say: templates, pushes, replies, messages of ownership, and
 * the pieces that values travel in. Each input is one connection: frames of {kind u8, size u16,
 * body}.
 */
#include <stdlib.h>
#include <string.h>

#include "os/os_basic.h"
#include "worker/wk_exec.h"
#include "worker/wk_priv.h"
#include "worker/wk_task.h"

static struct wk_link *
begin(void)
{
    struct own_addr self, other;
    memset(&self, 1, sizeof(self));
    memset(&other, 2, sizeof(other));
    wk.mem = os_mem_system();
    own_init(&wk.own, wk.mem, &self, NULL);
    arena_init(&wk.out_arena, wk.mem);
    map_init(&wk.peers, wk.mem);
    str_init(&wk.frees, wk.mem);
    list_init(&wk.exec_queue);
    list_init(&wk.begun);
    struct wk_link *link = calloc(1, sizeof(*link));
    if (link) {
        link->peer = wk_peer_get(&other);
        link->peer->dead = true; /* nothing is sent to it */
        link->window_memory = link;
        list_init(&link->held);
    }
    return link;
}

static void
end(struct wk_link *link)
{
    wk_exec_link_gone(link);
    wk_link_templates_free(link);
    free(link);
    wk_peers_close();
    wk_own_end();
    arena_fini(&wk.out_arena);
    str_fini(&wk.frees);
}

static void
read_value(const struct ray_value *value)
{
    struct ray_failure failure = { .struct_size = sizeof(failure) };
    if (value->kind == WK_VALUE_ERROR && ray_value_failure(value, &failure) == RAY_OK) {
        volatile size_t sum = strlen(failure.text) + strlen(failure.function) +
                              strlen(failure.node_ip) + strlen(failure.class_name);
        for (size_t i = 0; i < failure.data_size; i++) {
            sum = sum + ((const uint8_t *)failure.data)[i];
        }
    }
    uint8_t *copy = malloc(wk_value_piece_bytes(value));
    if (copy) {
        ASSERT(wk_value_encode(value, copy) == wk_value_piece_bytes(value));
        free(copy);
    }
}

static void
read_pieces(const uint8_t *at, const uint8_t *limit)
{
    struct wk_piece piece;
    while (wk_piece_decode(&at, limit, &piece) == ST_OK) {
        struct ray_value *value = wk_value_of_piece(&piece);
        if (value) {
            read_value(value);
            ray_value_release(value);
        }
    }
}

static void
read_frame(struct wk_link *link, uint8_t kind, const uint8_t *body, size_t size)
{
    switch (kind) {
    case 0:
        read_pieces(body, body + size);
        break;
    case PEER_TEMPLATE:
        (void)!wk_on_template(link, body, size);
        break;
    case PEER_PUSH:
        (void)!wk_on_push(link, body, size);
        break;
    case PEER_DONE:
        wk_on_done(link, body, size);
        break;
    case PEER_ITEM:
        (void)!wk_on_item(link, body, size);
        break;
    case PEER_TOLD:
        (void)!wk_on_told(link, body, size);
        break;
    case PEER_BOUNCED:
        wk_on_bounced(link, body, size);
        break;
    case PEER_CANCEL:
        (void)!wk_on_cancel(link, body, size);
        break;
    case PEER_CANCEL_REF:
        (void)!wk_on_cancel_ref(body, size);
        break;
    default:
        if (kind > PEER_OWN_FIRST && kind <= PEER_OWN_LAST) {
            (void)!wk_on_own_message(link, kind, body, size);
        }
        break;
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wk_link *link = begin();
    while (link && size >= 3) {
        uint16_t length;
        memcpy(&length, data + 1, sizeof(length));
        const size_t n = length < size - 3 ? length : size - 3;
        uint8_t *body = malloc(n + 1); /* of its own, so that a byte too many is seen */
        if (body) {
            memcpy(body, data + 3, n);
            read_frame(link, data[0], body, n);
            free(body);
        }
        data += 3 + n;
        size -= 3 + n;
    }
    if (link) {
        end(link);
    }
    return 0;
}
