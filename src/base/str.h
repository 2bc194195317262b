/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A growable byte buffer over an injected allocator: encoders, texts, queues of bytes. Failure to
 * grow is sticky (`failed`), so that a chain of appends is checked once at its end.
 */
#ifndef RAY_BASE_STR_H
#define RAY_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/mem.h"

struct str {
    const struct mem *mem;
    char *data; /* NULL while capacity is 0; not NUL terminated */
    size_t size, capacity;
    bool failed;
};

void str_init(struct str *s, const struct mem *mem);
void str_fini(struct str *s);
/* Makes room for n more bytes and returns where they start (size unchanged), or NULL (failed). */
char *str_reserve(struct str *s, size_t n);
/* Gives memory back, down to this capacity if what is in it leaves so much; or does nothing. */
void str_shrink(struct str *s, size_t capacity);
void str_append(struct str *s, const void *bytes, size_t n);
void str_printf(struct str *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The text with a NUL after it (not counted in size), "" when empty or failed. */
const char *str_text(struct str *s);

static inline void
str_clear(struct str *s)
{
    s->size = 0;
    s->failed = false;
}

#endif
