/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A zygote's packets: whatever comes, with any number of descriptors, is a request that can be
 * carried out or is refused without leaving a descriptor open.
 */
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/status.h"
#include "fuzz_input.h"
#include "os/os_basic.h"
#include "os/os_sock.h"
#include "worker/wk_zygote_io.h"

static struct wk_fork_request request;
static size_t sum;

static void
check(int status)
{
    for (int i = 0; i < ZYGOTE_FORK_FDS; i++) {
        ASSERT((request.fds[i] >= 0) == (status == ST_OK));
    }
    if (status != ST_OK) {
        return;
    }
    for (const char *p = request.environment; *p; p += strlen(p) + 1) {
        const char *equals = strchr(p, '=');
        ASSERT(equals && equals > p);
        sum += strlen(equals);
    }
    wk_zygote_close_fds(&request);
}

/* A packet of the right shape around the input's environment, or the input as it is. */
static void
send_packet(struct fuzz_input *in, int fd)
{
    const uint64_t op = fuzz_number(in, 1);
    size_t size = 0;
    const uint8_t *from = fuzz_string(in, &size);
    struct zygote_fork head = { .head = { ZYGOTE_MAGIC, ZYGOTE_FORK }, .env_size = (uint32_t)size };
    const struct iovec iov[2] = { { &head, sizeof(head) }, { (void *)(uintptr_t)from, size } };
    int fds[OS_SOCK_FDS_MAX];
    for (int i = 0; i < OS_SOCK_FDS_MAX; i++) {
        fds[i] = STDIN_FILENO;
    }
    const int fd_count = op % 2 ? ZYGOTE_FORK_FDS : (int)(op >> 1) % (OS_SOCK_FDS_MAX + 1);
    if (op & 0x80) {
        (void)os_sock_send(fd, iov + 1, 1, fds, fd_count);
    } else {
        (void)os_sock_send(fd, iov, 2, fds, fd_count);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = { data, size };
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) {
        abort();
    }
    while (in.left > 0) {
        send_packet(&in, ends[1]);
        check(wk_zygote_receive(ends[0], &request));
    }
    os_close(&ends[1]);
    check(wk_zygote_receive(ends[0], &request));
    os_close(&ends[0]);
    return 0;
}
