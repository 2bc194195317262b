/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many bytes a second can be copied into shared memory that is already there (a memfd whose
 * pages have all been touched), which is the most that putting a large object can reach.  Measured
 * for 80, 100 and 800 MB, by memcpy and by non-temporal stores, with one thread and with two; the
 * best of them is the limit.
 *
 * The source matters: an array just made by NumPy's zeros() was never written, so that the kernel
 * shows one page of zeros for all of it, and reading it costs next to nothing.  The workloads of
 * bench/workloads.py put such arrays, as Ray's own benchmark does.  Hence each figure comes twice:
 * "of an unwritten source" and "of a written source".
 */
#include "lim_common.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define LIM_MEGABYTE    1000000u
#define LIM_THREADS_MAX 2u
#define LIM_COPIES_MIN  3u

typedef void copy_fn(unsigned char *to, const unsigned char *from, size_t size);

struct lim_method {
    const char *name;
    copy_fn *copy;
    bool usable;
};

struct lim_slice {
    copy_fn *copy;
    unsigned char *to;
    const unsigned char *from;
    size_t size;
};

static void
copy_plain(unsigned char *to, const unsigned char *from, size_t size)
{
    memcpy(to, from, size);
}

#if defined(__x86_64__)
/*
 * Both streaming copies want a target on a 64-byte boundary, which slices of the mapping have; what
 * is left over at the end of a slice goes by memcpy.
 */
__attribute__((target("avx512f"))) static void
copy_stream_512(unsigned char *to, const unsigned char *from, size_t size)
{
    size_t at = 0;
    for (; at + 256 <= size; at += 256) {
        const __m512i a = _mm512_loadu_si512((const void *)(from + at));
        const __m512i b = _mm512_loadu_si512((const void *)(from + at + 64));
        const __m512i c = _mm512_loadu_si512((const void *)(from + at + 128));
        const __m512i d = _mm512_loadu_si512((const void *)(from + at + 192));
        _mm512_stream_si512((void *)(to + at), a);
        _mm512_stream_si512((void *)(to + at + 64), b);
        _mm512_stream_si512((void *)(to + at + 128), c);
        _mm512_stream_si512((void *)(to + at + 192), d);
    }
    memcpy(to + at, from + at, size - at);
    _mm_sfence();
}

__attribute__((target("avx2"))) static void
copy_stream_256(unsigned char *to, const unsigned char *from, size_t size)
{
    size_t at = 0;
    for (; at + 128 <= size; at += 128) {
        const __m256i a = _mm256_loadu_si256((const void *)(from + at));
        const __m256i b = _mm256_loadu_si256((const void *)(from + at + 32));
        const __m256i c = _mm256_loadu_si256((const void *)(from + at + 64));
        const __m256i d = _mm256_loadu_si256((const void *)(from + at + 96));
        _mm256_stream_si256((void *)(to + at), a);
        _mm256_stream_si256((void *)(to + at + 32), b);
        _mm256_stream_si256((void *)(to + at + 64), c);
        _mm256_stream_si256((void *)(to + at + 96), d);
    }
    memcpy(to + at, from + at, size - at);
    _mm_sfence();
}
#endif

static void *
copy_thread(void *argument)
{
    const struct lim_slice *slice = argument;
    slice->copy(slice->to, slice->from, slice->size);
    return NULL;
}

/* One copy of the whole, in seconds; the extra threads are made for it and end with it. */
static double
copy_once(copy_fn *copy, unsigned char *to, const unsigned char *from, size_t size,
          unsigned thread_count)
{
    struct lim_slice slices[LIM_THREADS_MAX];
    pthread_t threads[LIM_THREADS_MAX];
    const size_t share = size / thread_count & ~(size_t)4095;
    const double begin_s = lim_now_s();
    for (unsigned i = 0; i < thread_count; i++) {
        const size_t at = i * share;
        slices[i] = (struct lim_slice){ .copy = copy,
                                        .to = to + at,
                                        .from = from + at,
                                        .size = i + 1 == thread_count ? size - at : share };
        if (i > 0 && pthread_create(&threads[i], NULL, copy_thread, &slices[i]) != 0) {
            lim_die("pthread_create");
        }
    }
    copy_thread(&slices[0]);
    for (unsigned i = 1; i < thread_count; i++) {
        if (pthread_join(threads[i], NULL) != 0) {
            lim_die("pthread_join");
        }
    }
    return lim_now_s() - begin_s;
}

static double
measure(copy_fn *copy, unsigned char *to, const unsigned char *from, size_t size,
        unsigned thread_count, double seconds)
{
    struct lim_samples samples = { .count = 0 };
    copy_once(copy, to, from, size, thread_count);
    const double stop_s = lim_now_s() + seconds;
    do {
        const double took_s = copy_once(copy, to, from, size, thread_count);
        lim_samples_add(&samples, (double)size / took_s * 1e-9);
    } while (lim_now_s() < stop_s || samples.count < LIM_COPIES_MIN);
    return lim_samples_median(&samples);
}

static unsigned char *
map_private(size_t size)
{
    void *address = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (address == MAP_FAILED) {
        lim_die("mmap of the source");
    }
    /* NumPy asks for huge pages on large arrays too. */
    madvise(address, size, MADV_HUGEPAGE);
    return address;
}

static unsigned char *
map_store(size_t size)
{
    const int fd = memfd_create("lim_copy", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)size) != 0) {
        lim_die("memfd");
    }
    void *address = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (address == MAP_FAILED) {
        lim_die("mmap of the memfd");
    }
    close(fd);
    memset(address, 1, size);
    return address;
}

/* Measures every method for one size, source and number of threads; the best one is returned. */
static double
measure_methods(const struct lim_method *methods, size_t method_count, unsigned char *to,
                const unsigned char *from, size_t size, unsigned thread_count, double seconds,
                const char *source_name)
{
    double best = 0.0;
    for (size_t i = 0; i < method_count; i++) {
        if (!methods[i].usable) {
            continue;
        }
        const double rate = measure(methods[i].copy, to, from, size, thread_count, seconds);
        char name[128];
        snprintf(name, sizeof(name), "copy %zu MB of %s source, %u thread%s, %s",
                 size / LIM_MEGABYTE, source_name, thread_count, thread_count > 1 ? "s" : "",
                 methods[i].name);
        lim_report(name, rate, "GB/s");
        best = rate > best ? rate : best;
    }
    return best;
}

int
main(int argc, char **argv)
{
    static const unsigned sizes_mb[] = { 80, 100, 800 };
    static const char *const source_names[] = { "an unwritten", "a written" };
    struct lim_method methods[] = {
        { "memcpy", copy_plain, true },
#if defined(__x86_64__)
        { "256-bit non-temporal", copy_stream_256, __builtin_cpu_supports("avx2") != 0 },
        { "512-bit non-temporal", copy_stream_512, __builtin_cpu_supports("avx512f") != 0 },
#endif
    };
    const size_t method_count = sizeof(methods) / sizeof(methods[0]);
    const double seconds = lim_seconds_from_args(argc, argv) / 10;
    const unsigned threads_max = lim_cpu_count() < 2 ? 1 : LIM_THREADS_MAX;
    const size_t store_size = (size_t)800 * LIM_MEGABYTE;
    unsigned char *store = map_store(store_size);
    unsigned char *sources[] = { map_private(store_size), map_private(store_size) };
    memset(sources[1], 2, store_size);
    for (size_t s = 0; s < sizeof(sizes_mb) / sizeof(sizes_mb[0]); s++) {
        const size_t size = (size_t)sizes_mb[s] * LIM_MEGABYTE;
        for (size_t source = 0; source < 2; source++) {
            double best = 0.0;
            for (unsigned threads = 1; threads <= threads_max; threads++) {
                const double rate = measure_methods(methods, method_count, store, sources[source],
                                                    size, threads, seconds, source_names[source]);
                best = rate > best ? rate : best;
            }
            char name[96];
            snprintf(name, sizeof(name), "copy %u MB of %s source", sizes_mb[s],
                     source_names[source]);
            lim_report(name, best, "GB/s");
        }
    }
    return 0;
}
