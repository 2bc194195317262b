/* SPDX-License-Identifier: Apache-2.0 */
/* The growable buffer. See str.h. */
#include "base/str.h"

#include <stdarg.h>
#include <stdio.h>

void
str_init(struct str *s, const struct mem *mem)
{
    *s = (struct str){ .mem = mem };
}

void
str_fini(struct str *s)
{
    mem_free(s->mem, s->data, s->capacity);
    s->data = NULL;
    s->size = s->capacity = 0;
}

char *
str_reserve(struct str *s, size_t n)
{
    if (s->failed) {
        return NULL;
    }
    if (s->capacity - s->size < n || !s->data) {
        size_t capacity = s->capacity ? s->capacity : 64;
        while (capacity - s->size < n) {
            if (capacity > SIZE_MAX / 2) {
                s->failed = true;
                return NULL;
            }
            capacity *= 2;
        }
        char *data = s->mem->resize(s->mem->ctx, s->data, s->capacity, capacity);
        if (!data) {
            s->failed = true;
            return NULL;
        }
        s->data = data;
        s->capacity = capacity;
    }
    return s->data + s->size;
}

void
str_shrink(struct str *s, size_t capacity)
{
    if (capacity == 0 || capacity < s->size || capacity >= s->capacity) {
        return;
    }
    char *data = s->mem->resize(s->mem->ctx, s->data, s->capacity, capacity);
    if (data) {
        s->data = data;
        s->capacity = capacity;
    }
}

void
str_append(struct str *s, const void *bytes, size_t n)
{
    char *room = n > 0 ? str_reserve(s, n) : NULL;
    if (room) {
        memcpy(room, bytes, n);
        s->size += n;
    }
}

void
str_printf(struct str *s, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    ASSERT(n >= 0);
    char *room = str_reserve(s, (size_t)n + 1);
    if (room) {
        va_start(args, format);
        (void)vsnprintf(room, (size_t)n + 1, format, args);
        va_end(args);
        s->size += (size_t)n;
    }
}

const char *
str_text(struct str *s)
{
    char *end = str_reserve(s, 1);
    if (!end) {
        return "";
    }
    *end = '\0';
    return s->data;
}
