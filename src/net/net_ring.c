/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rings of frames in shared memory; the header tells layout, states and repair. What each fence and
 * order is for is told in docs/protocols/rings-and-doorbells.md, and tests/interleave/model_ring.c
 * shows it.
 */
#include "net/net_ring.h"

#include "base/flt.h"

#include <inttypes.h>

#define NET_RING_MAGIC 0x52596772u /* "RYgr" */

#define NET_RING_DATA  UINT64_C(0x44)
#define NET_RING_WRAP  UINT64_C(0x57)

enum { HEADER_BYTES = 8 };

static uint64_t
record_bytes(uint64_t len)
{
    return HEADER_BYTES + ((len + 7) & ~UINT64_C(7));
}

size_t
net_ring_bytes(uint64_t size)
{
    return offsetof(struct net_ring_shm, data) + (size_t)size;
}

size_t
net_ring_frame_max(uint64_t size)
{
    return (size_t)(size / 4 - HEADER_BYTES);
}

static bool
size_valid(uint64_t size, size_t len)
{
    return size >= NET_RING_SIZE_MIN && size <= NET_RING_SIZE_MAX && (size & (size - 1)) == 0 &&
           net_ring_bytes(size) <= len;
}

int
net_ring_format(void *memory, size_t len, uint64_t size)
{
    struct net_ring_shm *shm = memory;

    if (!size_valid(size, len)) {
        return st_fail(ST_INVALID_ARGUMENT, "a ring of %" PRIu64 " bytes in %zu", size, len);
    }
    memset(shm, 0, offsetof(struct net_ring_shm, data));
    shm->version = NET_RING_VERSION;
    shm->size = size;
    shm->magic = NET_RING_MAGIC;
    return ST_OK;
}

/* Checks the header and copies out what it says, once. */
static int
attach(const struct net_ring_shm *shm, size_t len, uint64_t *size)
{
    if (len < offsetof(struct net_ring_shm, data) || shm->magic != NET_RING_MAGIC) {
        return st_fail(ST_PROTOCOL, "shared memory that should hold a ring holds none");
    }
    if (shm->version != NET_RING_VERSION) {
        return st_fail(ST_PROTOCOL, "a ring of version %u, this process knows %u", shm->version,
                       NET_RING_VERSION);
    }
    *size = *(const volatile uint64_t *)&shm->size;
    if (!size_valid(*size, len)) {
        return st_fail(ST_PROTOCOL, "a ring that claims %" PRIu64 " bytes in %zu", *size, len);
    }
    return ST_OK;
}

/* ---- producer ---- */

/* Takes a fresh look at the consumer's head, which moves only forward and never past tail. */
static int
look_at_head(struct net_ring_tx *tx)
{
    const uint64_t head =
        atom_u64_load(&tx->shm->head, ATOM_ORDER(ring_head_acquire, ATOM_ACQUIRE));

    if (head - tx->head > tx->published - tx->head) {
        return st_fail(ST_PROTOCOL, "the ring's reader claims to have read what was never written");
    }
    tx->head = head;
    return ST_OK;
}

int
net_ring_tx_init(struct net_ring_tx *tx, void *memory, size_t len)
{
    uint64_t size = 0;

    TRY(attach(memory, len, &size));
    *tx = (struct net_ring_tx){ .shm = memory, .size = size };
    tx->tail = atom_u64_load(&tx->shm->tail, ATOM_RELAXED); /* this side's own words */
    tx->wanted = atom_u64_load(&tx->shm->want_room, ATOM_RELAXED);
    tx->published = tx->tail;
    tx->head = atom_u64_load(&tx->shm->head, ATOM_ACQUIRE);
    if (tx->tail % 8 != 0 || tx->tail - tx->head > size) {
        return st_fail(ST_PROTOCOL, "a ring with impossible positions");
    }
    return ST_OK;
}

static void
write_header(struct net_ring_tx *tx, uint64_t offset, uint64_t kind, uint64_t len)
{
    const uint64_t header = kind << 32 | len;

    atom_copy_in(tx->shm->data + offset, &header, sizeof header);
}

/* Bytes from tail that a record of this size takes up: itself, and what a wrap skips before it. */
static uint64_t
need_bytes(const struct net_ring_tx *tx, uint64_t record)
{
    const uint64_t to_end = tx->size - (tx->tail & (tx->size - 1));

    return record <= to_end ? record : to_end + record;
}

static bool
has_room(const struct net_ring_tx *tx, uint64_t need)
{
    return tx->size - (tx->tail - tx->head) >= need;
}

int
net_ring_reserve(struct net_ring_tx *tx, size_t len, void **frame)
{
    if (__builtin_expect(len > net_ring_frame_max(tx->size), 0)) {
        return st_fail(ST_LIMIT, "a frame of %zu bytes for a ring of %" PRIu64, len, tx->size);
    }
    const uint64_t record = record_bytes(len);
    const uint64_t need = need_bytes(tx, record);

    if (!has_room(tx, need)) {
        TRY(look_at_head(tx));
        if (!has_room(tx, need)) {
            return ST_WOULD_BLOCK;
        }
    }
    if (need != record) {
        write_header(tx, tx->tail & (tx->size - 1), NET_RING_WRAP, 0);
        FAULT_STEP("net.ring.after_wrap");
        tx->tail += need - record;
    }
    const uint64_t offset = tx->tail & (tx->size - 1);

    write_header(tx, offset, NET_RING_DATA, len);
    FAULT_STEP("net.ring.after_header");
    *frame = tx->shm->data + offset + HEADER_BYTES;
    tx->tail += record;
    return ST_OK;
}

void
net_ring_publish(struct net_ring_tx *tx)
{
    FAULT_STEP("net.ring.before_tail");
    atom_u64_store(&tx->shm->tail, tx->tail, ATOM_ORDER(ring_tail_release, ATOM_RELEASE));
    FAULT_STEP("net.ring.after_tail");
    tx->published = tx->tail;
}

uint64_t
net_ring_unread_bytes(const struct net_ring_tx *tx)
{
    return tx->published - tx->head;
}

uint64_t
net_ring_free_bytes(struct net_ring_tx *tx)
{
    if (look_at_head(tx) != ST_OK) {
        return 0; /* reserve will say why */
    }
    return tx->size - (tx->tail - tx->head);
}

bool
net_ring_want_room(struct net_ring_tx *tx, size_t len)
{
    tx->wanted++;
    FAULT_STEP("net.ring.before_want");
    atom_u64_store(&tx->shm->want_room, tx->wanted, ATOM_RELAXED);
    FAULT_STEP("net.ring.after_want");
    if (ATOM_RULE(ring_want_fence)) {
        atom_fence(); /* partner: net_ring_release */
    }
    if (!ATOM_RULE(ring_want_recheck)) {
        return false;
    }
    /* A head that is impossible counts as room: the caller's next reserve reports it. */
    return look_at_head(tx) != ST_OK || has_room(tx, need_bytes(tx, record_bytes(len)));
}

/* ---- consumer ---- */

int
net_ring_rx_init(struct net_ring_rx *rx, void *memory, size_t len)
{
    uint64_t size = 0;

    TRY(attach(memory, len, &size));
    *rx = (struct net_ring_rx){ .shm = memory, .size = size };
    rx->head = atom_u64_load(&rx->shm->head, ATOM_RELAXED); /* this side's own word */
    if (rx->head % 8 != 0) {
        return st_fail(ST_PROTOCOL, "a ring with impossible positions");
    }
    rx->released = rx->head;
    rx->tail = rx->head;
    rx->next = rx->head;
    return ST_OK;
}

/* Nothing left of what was seen: takes a fresh look at the producer's tail. */
static int
look_at_tail(struct net_ring_rx *rx)
{
    const uint64_t tail =
        atom_u64_load(&rx->shm->tail, ATOM_ORDER(ring_tail_acquire, ATOM_ACQUIRE));

    if (tail - rx->released > rx->size || tail - rx->released < rx->head - rx->released ||
        tail % 8 != 0) {
        return st_fail(ST_PROTOCOL, "the ring's writer claims an impossible position");
    }
    rx->tail = tail;
    return tail == rx->head ? ST_WOULD_BLOCK : ST_OK;
}

int
net_ring_peek(struct net_ring_rx *rx, const void **frame, size_t *len)
{
    for (unsigned wraps = 0; wraps < 2; wraps++) {
        if (rx->head == rx->tail) {
            const int status = look_at_tail(rx);

            if (status != ST_OK) {
                return status;
            }
        }
        const uint64_t offset = rx->head & (rx->size - 1);
        const uint64_t ready = rx->tail - rx->head;
        const uint64_t to_end = rx->size - offset;
        uint64_t header;

        atom_copy_out(&header, rx->shm->data + offset, sizeof header); /* once: it may change */
        __asm__ volatile("" : "+r"(header)); /* the compiler may not read it again either */
        const uint64_t claimed = header & UINT32_MAX;

        if (header >> 32 == NET_RING_DATA && claimed <= net_ring_frame_max(rx->size) &&
            record_bytes(claimed) <= ready && record_bytes(claimed) <= to_end) {
            *frame = rx->shm->data + offset + HEADER_BYTES;
            *len = (size_t)claimed;
            rx->next = rx->head + record_bytes(claimed);
            return ST_OK;
        }
        if (header >> 32 != NET_RING_WRAP || offset == 0 || to_end > ready) {
            break;
        }
        rx->head += to_end;
        rx->next = rx->head;
    }
    return st_fail(ST_PROTOCOL, "a malformed record in a ring");
}

bool
net_ring_advance(struct net_ring_rx *rx)
{
    rx->head = rx->next;
    return rx->head - rx->released >= rx->size / 4 && net_ring_release(rx);
}

bool
net_ring_settle(struct net_ring_rx *rx)
{
    return rx->head - rx->released >= rx->size / 16 && net_ring_release(rx);
}

bool
net_ring_release(struct net_ring_rx *rx)
{
    if (rx->released == rx->head) {
        return false; /* whoever asked since the last release has seen it */
    }
    FAULT_STEP("net.ring.before_head");
    atom_u64_store(&rx->shm->head, rx->head, ATOM_ORDER(ring_head_release, ATOM_RELEASE));
    FAULT_STEP("net.ring.after_head");
    rx->released = rx->head;
    if (ATOM_RULE(ring_answer_fence)) {
        atom_fence(); /* partner: net_ring_want_room */
    }
    const uint64_t wanted = atom_u64_load(&rx->shm->want_room, ATOM_RELAXED);

    if (wanted == rx->answered) {
        return false;
    }
    rx->answered = wanted;
    return true;
}
