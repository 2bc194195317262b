/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copying into the store. Up to a few MiB memcpy is best: the reader finds the bytes in the cache.
 * Beyond, non-temporal stores save reading what is overwritten; for the largest, where both streams
 * outrun every buffer, memcpy is ahead again. Two threads from 32 MiB.
 */
#include "store/storec_priv.h"

#include <string.h>

#ifdef __x86_64__
#include <emmintrin.h>
#endif

#define STREAM_MIN      (UINT64_C(2) << 20)
#define STREAM_MAX      (UINT64_C(512) << 20)
#define TWO_THREADS_MIN (UINT64_C(32) << 20)

struct part {
    unsigned char *to;
    const unsigned char *from;
    uint64_t size;
    bool stream;
};

#ifdef __x86_64__
static void
copy_streaming(unsigned char *to, const unsigned char *from, uint64_t size)
{
    const uint64_t head = (0U - (uintptr_t)to) & 63;
    const uint64_t first = head < size ? head : size;
    memcpy(to, from, first);
    to += first;
    from += first;
    size -= first;
    for (; size >= 64; size -= 64, to += 64, from += 64) {
        const __m128i *in = (const __m128i *)(const void *)from;
        __m128i *out = (__m128i *)(void *)to;
        const __m128i a = _mm_loadu_si128(in);
        const __m128i b = _mm_loadu_si128(in + 1);
        const __m128i c = _mm_loadu_si128(in + 2);
        const __m128i d = _mm_loadu_si128(in + 3);
        _mm_stream_si128(out, a);
        _mm_stream_si128(out + 1, b);
        _mm_stream_si128(out + 2, c);
        _mm_stream_si128(out + 3, d);
    }
    memcpy(to, from, size);
    atom_fence_nontemporal();
}
#else
static void
copy_streaming(unsigned char *to, const unsigned char *from, uint64_t size)
{
    memcpy(to, from, size);
}
#endif

static void
copy_part(void *arg)
{
    const struct part *part = arg;
    if (part->stream) {
        copy_streaming(part->to, part->from, part->size);
    } else {
        memcpy(part->to, part->from, part->size);
    }
}

void
storec_copy(struct storec *store, void *to, const void *from, uint64_t size)
{
    struct part low = {
        .to = to, .from = from, .size = size, .stream = size >= STREAM_MIN && size < STREAM_MAX
    };
    if (size < TWO_THREADS_MIN || !store->helper.start) {
        copy_part(&low);
        return;
    }
    struct part high = low;
    low.size = size / 2 / 4096 * 4096;
    high.to += low.size;
    high.from += low.size;
    high.size -= low.size;
    void *other = store->helper.start(copy_part, &high);
    copy_part(&low);
    if (other) {
        store->helper.join(other);
    } else {
        copy_part(&high);
    }
}
