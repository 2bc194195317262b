/* SPDX-License-Identifier: Apache-2.0 */
/* The boot conversation. See rl_boot_io.h. */
#include "raylet/rl_boot_io.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "os/os_basic.h"

enum {
    BOOT_WAIT_MS = 10000,
    BOOT_MAX = 1024 * 1024,
    STORE_MIN = 8 * 1024 * 1024,
};
#define STORE_MAX_DEFAULT (UINT64_C(200) * 1000 * 1000 * 1000)

/* Reads exactly `size` bytes. */
static int
read_all(int fd, void *out, size_t size)
{
    for (size_t done = 0; done < size;) {
        struct pollfd p = { .fd = fd, .events = POLLIN };
        const int ready = poll(&p, 1, BOOT_WAIT_MS);
        if (ready == 0) {
            return st_fail(ST_TIMED_OUT, "no configuration came in %d ms", BOOT_WAIT_MS);
        }
        const ssize_t n = ready < 0 ? -1 : recv(fd, (char *)out + done, size - done, MSG_DONTWAIT);
        if (n > 0) {
            done += (size_t)n;
        } else if (n == 0) {
            return st_fail(ST_CLOSED, "the starting process has gone");
        } else if (errno != EINTR && errno != EAGAIN) {
            return st_fail_errno(ST_SYSTEM, errno, "can't read the configuration");
        }
    }
    return ST_OK;
}

int
rl_boot_receive(int fd, Ray__Node__Boot **out)
{
    *out = NULL;
    struct net_frame frame = { 0 };
    TRY(read_all(fd, &frame.header, sizeof(frame.header)));
    if (frame.header.kind != NODE_BOOT || frame.header.length < NET_FRAME_HEADER ||
        frame.header.length > BOOT_MAX) {
        return st_fail(ST_PROTOCOL, "a frame of kind %u and %u bytes instead of Boot",
                       frame.header.kind, frame.header.length);
    }
    frame.size = frame.header.length - NET_FRAME_HEADER;
    uint8_t *body = malloc(frame.size + 1);
    if (!body) {
        return st_fail(ST_OUT_OF_MEMORY, "no memory for the configuration");
    }
    frame.body = body;
    int status = read_all(fd, body, frame.size);
    ProtobufCMessage *message = NULL;
    if (status == ST_OK) {
        status = net_msg_unpack(&frame, BOOT_MAX, &message);
    }
    free(body);
    *out = (Ray__Node__Boot *)message;
    return status;
}

void
rl_boot_reply(const struct raylet *r, int fd, int status)
{
    char path[RL_PATH_MAX];
    (void)snprintf(path, sizeof(path), "%s/raylet", r->session.socket_dir);
    Ray__Node__BootReply m = RAY__NODE__BOOT_REPLY__INIT;
    m.status = status;
    if (status == ST_OK) {
        m.raylet_socket = path;
        m.session_dir = rl_text(r->session.dir);
        m.node_id = rl_bytes(r->node_id.b, sizeof(r->node_id.b));
        m.raylet_pid = getpid();
    } else {
        m.text = st_last()->text;
    }
    const size_t size = ray__node__boot_reply__get_packed_size(&m);
    uint8_t *frame = malloc(NET_FRAME_HEADER + size);
    if (!frame) {
        return;
    }
    const struct net_frame_header header = { .length = (uint32_t)(NET_FRAME_HEADER + size),
                                             .kind = NODE_BOOT_REPLY };
    memcpy(frame, &header, sizeof(header));
    (void)ray__node__boot_reply__pack(&m, frame + NET_FRAME_HEADER);
    if (send(fd, frame, NET_FRAME_HEADER + size, MSG_NOSIGNAL) < 0) {
        os_log(OS_LOG_WARN, "the starting process has gone");
    }
    free(frame);
}

/* ---- resources ------------------------------------------------------------------------------- */

static bool
is_given(const Ray__Node__Boot *boot, const char *name)
{
    for (size_t i = 0; i < boot->n_resources; i++) {
        if (strcmp(boot->resources[i]->name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* How many of the node's GPUs this user lets us see. */
static uint32_t
visible_gpus(uint32_t found)
{
    const char *list = getenv("CUDA_VISIBLE_DEVICES");
    if (!list) {
        return found;
    }
    uint32_t n = list[0] == '\0' || strcmp(list, "NoDevFiles") == 0 || list[0] == '-' ? 0 : 1;
    for (const char *p = list; n > 0 && *p; p++) {
        n += *p == ',';
    }
    return n < found ? n : found;
}

static int
put(struct raylet *r, struct res_set *set, const char *name, uint64_t whole)
{
    uint32_t number = 0;
    TRY(res_names_intern(&r->names, name, strlen(name), &number));
    const uint64_t most = (uint64_t)RES_AMOUNT_MAX / RES_UNIT;
    const struct res_amount amount = { (int64_t)(whole < most ? whole : most) * RES_UNIT };
    return res_set_put(set, number, amount);
}

/* Bytes of the store: what is given, else 30 % of memory. */
static int
choose_store_size(struct raylet *r, const Ray__Node__Boot *boot)
{
    uint64_t size = boot->object_store_memory;
    if (size == 0) {
        size = r->machine.memory_total / 10 * 3;
        size = size < STORE_MAX_DEFAULT ? size : STORE_MAX_DEFAULT;
    }
    if (size < STORE_MIN) {
        size = STORE_MIN;
    }
    if (size > r->machine.memory_total) {
        os_log(OS_LOG_WARN, "the object store of %llu bytes is larger than the memory of %llu",
               (unsigned long long)size, (unsigned long long)r->machine.memory_total);
    }
    r->store_size = (size + STORE_CHUNK - 1) / STORE_CHUNK * STORE_CHUNK;
    return ST_OK;
}

int
rl_boot_resources(struct raylet *r, const Ray__Node__Boot *boot, struct res_set *out)
{
    res_set_init(out);
    os_res_detect("", &r->machine);
    TRY(rl_key_set(r, boot->resources, boot->n_resources, out));
    TRY(choose_store_size(r, boot));
    if (!is_given(boot, "CPU")) {
        TRY(put(r, out, "CPU", r->machine.cpus));
    }
    const uint32_t gpus = visible_gpus(r->machine.gpus);
    if (!is_given(boot, "GPU") && gpus > 0) {
        TRY(put(r, out, "GPU", gpus));
    }
    if (gpus > 0 && r->machine.gpu_name[0]) {
        char name[OS_GPU_NAME_MAX + 32];
        (void)snprintf(name, sizeof(name), "accelerator_type:%s", r->machine.gpu_name);
        TRY(put(r, out, name, 1));
    }
    if (!is_given(boot, "memory")) {
        TRY(put(r, out, "memory", r->machine.memory_total / 10 * 7));
    }
    TRY(put(r, out, "object_store_memory", r->store_size));
    char node[96];
    (void)snprintf(node, sizeof(node), "node:%s", r->node_ip);
    TRY(put(r, out, node, 1));
    return put(r, out, "node:__internal_head__", 1);
}
