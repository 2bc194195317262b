/* SPDX-License-Identifier: Apache-2.0 */
/* Connections that go on after a break: counts and kept frames. See net_resume.h. */
#include "net/net_resume.h"

#include "base/assert.h"
#include "base/status.h"
#include "net/net_frame.h"

enum {
    RESUME_KEEP = 128 * 1024, /* larger buffers are given back when little is left in them */
    RESUME_IDLE = 1024,       /* and these when they run empty: there may be thousands of peers */
};

#ifdef RAY_MUTATIONS
#define WITHOUT(r, rule) (((r)->rules_off & NET_RESUME_RULE_##rule) != 0)
#else
#define WITHOUT(r, rule) false
#endif

void
net_resume_init(struct net_resume *r, const struct mem *mem, bool lasting)
{
    *r = (struct net_resume){ .lasting = lasting };
    str_init(&r->out, mem);
}

void
net_resume_fini(struct net_resume *r)
{
    str_fini(&r->out);
}

static void
move_to_front(struct net_resume *r)
{
    if (r->start > 0) {
        memmove(r->out.data, r->out.data + r->start, r->out.size - r->start);
        r->out.size -= r->start;
        r->written -= r->start;
        r->start = 0;
    }
}

/* A little may stay for long: the other end doesn't tell of its last frames before it sends. */
static void
forget_before(struct net_resume *r, size_t start)
{
    r->base += start - r->start;
    r->start = start;
    if (r->written < start) {
        r->written = start;
    }
    if (r->start == r->out.size) {
        r->out.size = r->start = r->written = 0;
        if (r->out.capacity > RESUME_IDLE) {
            str_fini(&r->out);
        }
    } else if (r->out.capacity > RESUME_KEEP && r->out.size - r->start < r->out.capacity / 8) {
        move_to_front(r);
        str_shrink(&r->out, r->out.capacity / 4);
    }
}

static void
compact(struct net_resume *r)
{
    if (r->start > RESUME_KEEP && r->start > r->out.size / 2) {
        move_to_front(r);
    }
}

int
net_resume_append(struct net_resume *r, const struct iovec *iov, int count, size_t written)
{
    ASSERT(written == 0 || net_resume_waiting(r) == 0);
    size_t skip = r->lasting ? 0 : written;
    compact(r);
    const size_t before = r->out.size;
    for (int i = 0; i < count; i++) {
        if (skip >= iov[i].iov_len) {
            skip -= iov[i].iov_len;
            continue;
        }
        str_append(&r->out, (const char *)iov[i].iov_base + skip, iov[i].iov_len - skip);
        skip = 0;
    }
    if (r->out.failed) {
        r->out.failed = false;
        r->out.size = before;
        return st_fail(ST_OUT_OF_MEMORY, "no memory for a message that waits to be sent");
    }
    r->sent++;
    if (r->lasting) {
        r->written += written;
    } else {
        r->base += written;
    }
    return ST_OK;
}

size_t
net_resume_unwritten(const struct net_resume *r, const char **bytes)
{
    if (net_resume_waiting(r) == 0 || (r->down && !WITHOUT(r, ASK))) {
        return 0;
    }
    *bytes = r->out.data + r->written;
    return r->out.size - r->written;
}

void
net_resume_wrote(struct net_resume *r, size_t bytes)
{
    r->written += bytes;
    if (!r->lasting || WITHOUT(r, KEEP)) {
        forget_before(r, r->written);
    }
}

int
net_resume_on_told(struct net_resume *r, uint64_t count)
{
    size_t at = r->start;
    uint64_t known = r->known;
    if (count > r->sent) {
        return st_fail(ST_PROTOCOL, "a peer has handled %llu messages of %llu",
                       (unsigned long long)count, (unsigned long long)r->sent);
    }
    if (WITHOUT(r, KEEP)) {
        return ST_OK;
    }
    for (; known < count; known++) {
        struct net_frame_header header;
        memcpy(&header, r->out.data + at, sizeof(header));
        if (at + header.length > r->written) {
            return st_fail(ST_PROTOCOL, "a peer has handled a message that it didn't get");
        }
        at += header.length;
    }
    r->known = known;
    forget_before(r, at);
    return ST_OK;
}

void
net_resume_broke(struct net_resume *r)
{
    r->down = true;
}

uint64_t
net_resume_ask(struct net_resume *r)
{
    r->down = true;
    return net_resume_tell(r);
}

int
net_resume_on_count(struct net_resume *r, uint64_t count)
{
    if (count < r->known && !WITHOUT(r, KEEP)) {
        return st_fail(ST_PROTOCOL, "a peer has forgotten %llu messages that it had handled",
                       (unsigned long long)(r->known - count));
    }
    TRY(net_resume_on_told(r, count));
    if (!WITHOUT(r, REWIND)) {
        r->written = r->start;
    }
    r->down = false;
    return ST_OK;
}
