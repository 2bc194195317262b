/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages of ownership between processes: the machine's outs as frames, and frames as its ins.
 */
#include <stdlib.h>
#include <string.h>

#include "os/os_basic.h"
#include "worker/wk_lineage.h"
#include "worker/wk_priv.h"

/* ---- sending ---- */

static const size_t own_msg_sizes[OWN_MSG_LAST + 1] = {
    [OWN_MSG_REGISTER] = sizeof(struct own_msg_register),
    [OWN_MSG_REGISTER_ACK] = sizeof(struct own_msg_register_ack),
    [OWN_MSG_RELEASE] = sizeof(struct own_msg_release),
    [OWN_MSG_TRANSIT_DONE] = sizeof(struct own_msg_transit_done),
    [OWN_MSG_GET] = sizeof(struct own_msg_get),
    [OWN_MSG_VALUE] = sizeof(struct own_msg_value),
    [OWN_MSG_FREE] = sizeof(struct own_msg_free),
    [OWN_MSG_TRANSFER] = sizeof(struct own_msg_transfer),
};

void
wk_peer_send_own(const struct step_out *out)
{
    struct wk_peer *peer = wk_peer_of_proc((uint32_t)out->peer);
    struct wk_link *link = peer && !peer->announced ? wk_peer_any_link(peer) : NULL;
    if (!link) {
        return; /* its death is on the way, and settles everything */
    }
    struct ray_value *value = NULL;
    struct own_msg_value gone;
    const void *body = out->msg;
    const bool has_value = out->kind == OWN_MSG_VALUE || out->kind == OWN_MSG_TRANSFER;
    if (has_value) {
        memcpy(&value, &out->payload, sizeof(value));
    }
    if (out->kind == OWN_MSG_VALUE) {
        memcpy(&gone, out->msg, sizeof(gone));
        if (wk_id_is_actor(&gone.object)) { /* what is there is no value */
            gone.state = OWN_GONE;
            gone.status = ST_INVALID_ARGUMENT;
            body = &gone;
            value = NULL;
        }
    }
    const size_t fixed = wk_pad8(own_msg_sizes[out->kind]);
    const size_t size = fixed + (value ? wk_value_piece_bytes(value) : 0);
    struct wk_frame frame;
    if (wk_frame_begin(&frame, link, (uint16_t)(PEER_OWN_FIRST + out->kind), size) != ST_OK) {
        return;
    }
    memset(frame.body, 0, fixed);
    memcpy(frame.body, body, own_msg_sizes[out->kind]);
    if (value) {
        (void)wk_value_encode(value, frame.body + fixed);
        wk_value_heard(value);
    }
    wk_frame_end(&frame, out->kind == OWN_MSG_GET || out->kind == OWN_MSG_VALUE ? NET_BELL_URGENT
                                                                                : NET_BELL_CALM);
}

/* ---- receiving ---- */

union own_message {
    struct own_msg_get get;
    struct own_msg_register_ack ack;
    struct own_msg_value value;
    struct own_msg_free free;
    struct own_msg_transfer transfer;
    uint8_t bytes[256];
};

/* The value that follows a VALUE or TRANSFER; NULL when there is none. */
static int
read_value(const uint8_t *at, const uint8_t *end, struct ray_value **out)
{
    *out = NULL;
    if (at >= end) {
        return ST_OK;
    }
    struct wk_piece piece;
    TRY(wk_piece_decode(&at, end, &piece));
    *out = wk_value_of_piece(&piece);
    return *out ? ST_OK : st_fail(ST_PROTOCOL, "a value that can't be read");
}

/* The message as the machine gets it: nothing that the peer says about the value but the value. */
static int
read_own_message(uint16_t kind, const uint8_t *body, size_t size, union own_message *message,
                 struct ray_value **value)
{
    if (kind > OWN_MSG_LAST || own_msg_sizes[kind] == 0 || size < wk_pad8(own_msg_sizes[kind])) {
        return st_fail(ST_PROTOCOL, "a malformed message of ownership, kind %u", kind);
    }
    memcpy(message->bytes, body, own_msg_sizes[kind]);
    if (kind == OWN_MSG_VALUE || kind == OWN_MSG_TRANSFER) {
        TRY(read_value(body + wk_pad8(own_msg_sizes[kind]), body + size, value));
    }
    switch ((enum own_msg_kind)kind) {
    case OWN_MSG_VALUE:
        message->value.state = *value ? (uint8_t)wk_state_of(*value) : OWN_GONE;
        return *value || message->value.status < 0
                   ? ST_OK
                   : st_fail(ST_PROTOCOL, "a value that is gone without a reason");
    case OWN_MSG_TRANSFER:
        if (!*value || wk_id_is_actor(&message->transfer.object)) {
            return st_fail(ST_PROTOCOL, "a transfer without its value, or of an actor");
        }
        message->transfer.state = (uint8_t)wk_state_of(*value);
        message->transfer.items = (*value)->items;
        message->transfer.count = (*value)->item_count;
        return ST_OK;
    case OWN_MSG_REGISTER_ACK:
        return message->ack.status <= 0 ? ST_OK : st_fail(ST_PROTOCOL, "an answer of no status");
    case OWN_MSG_FREE:
        return wk_id_is_actor(&message->free.object)
                   ? st_fail(ST_PROTOCOL, "an actor can't be freed")
                   : ST_OK;
    case OWN_MSG_REGISTER:
    case OWN_MSG_RELEASE:
    case OWN_MSG_TRANSIT_DONE:
    case OWN_MSG_GET:
        break;
    }
    return ST_OK;
}

int
wk_on_own_message(struct wk_link *link, uint16_t kind, const uint8_t *body, size_t size)
{
    union own_message message;
    const uint16_t own_kind = (uint16_t)(kind - PEER_OWN_FIRST);
    struct ray_value *value = NULL;
    const int readable = read_own_message(own_kind, body, size, &message, &value);
    if (readable != ST_OK) {
        ray_value_release(value);
        return readable;
    }
    if ((own_kind == OWN_MSG_VALUE && message.value.state >= OWN_ERROR) ||
        (own_kind == OWN_MSG_REGISTER_ACK && message.ack.status < 0)) {
        wk.error_count++;
    }
    if (own_kind == OWN_MSG_GET) {
        struct own_ref *asked = own_find(&wk.own, &message.get.object);
        if (asked) {
            wk_ref_verify(asked); /* it may be asked for since it was lost */
        }
    }
    struct step_in in = {
        .kind = own_kind,
        .now_ns = wk_now(),
        .peer = link->peer->proc,
        .msg = &message,
    };
    memcpy(&in.payload, &value, sizeof(value));
    struct wk_outs o;
    const int status = own_step(&wk.own, &in, wk_outs_begin(&o));
    wk_outs_end(&o);
    if (status != ST_OK && value) {
        ray_value_release(value);
    }
    wk_changed();
    return status == ST_OUT_OF_MEMORY ? ST_OK : status;
}
