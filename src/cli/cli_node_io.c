/* SPDX-License-Identifier: Apache-2.0 */
/* Talking to raylets: one frame out, one frame in, with a limit of time. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli/cli_priv.h"
#include "os/os_basic.h"
#include "os/os_runtime.h"
#include "os/os_sock.h"
#include "proto/kinds.h"
#include "proto/node.pb-c.h"

enum { FRAME_MAX = 16 << 20, ANSWER_MS = 10000 };

int
cli_send(int fd, uint16_t kind, uint64_t request, const ProtobufCMessage *message)
{
    const size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *frame = malloc(NET_FRAME_HEADER + size);
    if (!frame) {
        return st_fail(ST_OUT_OF_MEMORY, "no memory for a message");
    }
    const struct net_frame_header head = { .length = (uint32_t)(NET_FRAME_HEADER + size),
                                           .kind = kind,
                                           .request_id = request };
    memcpy(frame, &head, sizeof(head));
    (void)protobuf_c_message_pack(message, frame + NET_FRAME_HEADER);
    size_t done = 0;
    int status = ST_OK;
    while (done < NET_FRAME_HEADER + size && status == ST_OK) {
        struct pollfd p = { .fd = fd, .events = POLLOUT };
        (void)poll(&p, 1, ANSWER_MS);
        const ssize_t n = send(fd, frame + done, NET_FRAME_HEADER + size - done, MSG_NOSIGNAL);
        if (n > 0) {
            done += (size_t)n;
        } else if (errno != EINTR && errno != EAGAIN) {
            status = st_fail_errno(ST_CONNECTION, errno, "can't reach the raylet");
        }
    }
    free(frame);
    return status;
}

static int
read_all(int fd, void *out, size_t size, uint64_t deadline_ns)
{
    for (size_t done = 0; done < size;) {
        struct pollfd p = { .fd = fd, .events = POLLIN };
        const uint64_t now = os_now_ns();
        if (now >= deadline_ns) {
            return st_fail(ST_TIMED_OUT, "the raylet doesn't answer");
        }
        const int ready = poll(&p, 1, (int)((deadline_ns - now) / 1000000) + 1);
        const ssize_t n = ready > 0 ? recv(fd, (char *)out + done, size - done, MSG_DONTWAIT) : -1;
        if (n > 0) {
            done += (size_t)n;
        } else if (n == 0) {
            return st_fail(ST_CLOSED, "the raylet has closed the connection");
        } else if (ready > 0 && errno != EINTR && errno != EAGAIN) {
            return st_fail_errno(ST_CONNECTION, errno, "can't read the raylet's answer");
        }
    }
    return ST_OK;
}

int
cli_receive(int fd, uint16_t kind, const ProtobufCMessageDescriptor *type, int timeout_ms,
            ProtobufCMessage **out)
{
    const uint64_t deadline_ns = os_now_ns() + (uint64_t)timeout_ms * 1000000;
    struct net_frame_header head;
    *out = NULL;
    TRY(read_all(fd, &head, sizeof(head), deadline_ns));
    if (head.length < NET_FRAME_HEADER || head.length > FRAME_MAX) {
        return st_fail(ST_PROTOCOL, "a frame of %u bytes", head.length);
    }
    const size_t size = head.length - NET_FRAME_HEADER;
    uint8_t *body = malloc(size + 1);
    if (!body) {
        return st_fail(ST_OUT_OF_MEMORY, "no memory for an answer");
    }
    int status = read_all(fd, body, size, deadline_ns);
    if (status == ST_OK && head.kind != kind) {
        status = st_fail(ST_PROTOCOL, "a frame of kind %u instead of %u", head.kind, kind);
    }
    if (status == ST_OK) {
        *out = protobuf_c_message_unpack(type, NULL, size, body);
        status = *out ? ST_OK : st_fail(ST_PROTOCOL, "the raylet's answer can't be read");
    }
    free(body);
    return status;
}

int
cli_ask_pairs(const char *address, const char *what, struct cli_pair *out, int capacity)
{
    int fd = -1, count = -1;
    if (os_sock_connect(address, &fd) != ST_OK) {
        return -1;
    }
    Ray__Node__StateAsk ask = RAY__NODE__STATE_ASK__INIT;
    ask.what = (char *)(uintptr_t)what; /* only read */
    ProtobufCMessage *message = NULL;
    if (cli_send(fd, NODE_STATE_ASK, 1, &ask.base) == ST_OK &&
        cli_receive(fd, NODE_STATE_ANSWER, &ray__node__state_answer__descriptor, ANSWER_MS,
                    &message) == ST_OK) {
        const Ray__Node__StateAnswer *answer = (const Ray__Node__StateAnswer *)message;
        count = answer->status == 0 ? cli_parse_pairs(answer->json, out, capacity) : -1;
        if (count < 0) {
            (void)st_fail(ST_PROTOCOL, "the raylet's answer about %s can't be read", what);
        }
    }
    if (message) {
        protobuf_c_message_free_unpacked(message, NULL);
    }
    os_close(&fd);
    return count;
}

const char *
cli_temp_dir(const char *given)
{
    /* tidy: getenv: this program has one thread */
    const char *env = getenv("RAY_TMPDIR");
    return given && *given ? given : env && *env ? env : NULL;
}

int
cli_find_runtime(const char *given, char out[CLI_ADDRESS_MAX])
{
    /* tidy: getenv: this program has one thread */
    const char *env = getenv("RAY_ADDRESS");
    const char *address = given && *given ? given : env && *env ? env : "auto";
    if (address[0] == '/') {
        (void)snprintf(out, CLI_ADDRESS_MAX, "%s", address);
        return strlen(address) < CLI_ADDRESS_MAX && os_runtime_answers(out, NULL)
                   ? ST_OK
                   : st_fail(ST_CONNECTION, "no Ray runtime of this user answers at %s", address);
    } else if (strcmp(address, "auto") == 0 || strcmp(address, "local") == 0) {
        char temp[OS_RUNTIME_PATH_MAX];
        TRY(os_runtime_temp(cli_temp_dir(NULL), temp, sizeof(temp)));
        if (!os_runtime_current(temp, out, CLI_ADDRESS_MAX)) {
            out[0] = '\0';
        }
    } else {
        return st_fail(ST_NOT_SUPPORTED,
                       "the address %s: others than those of `ray start` (the "
                       "path of a socket) are not built yet",
                       address);
    }
    if (out[0] == '\0' || !os_runtime_answers(out, NULL)) {
        return st_fail(ST_CONNECTION,
                       "Could not find any running Ray instance. Please specify the one to connect "
                       "to with `--address` or the environment variable RAY_ADDRESS, or start one "
                       "with `ray start --head`.");
    }
    return ST_OK;
}
