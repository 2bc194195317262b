/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Intrusive doubly linked circular lists. A `struct list` is both the head and the link; an element
 * that is in no list points to itself, so removal is always safe after list_init.
 */
#ifndef RAY_BASE_LIST_H
#define RAY_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "base/assert.h"

struct list {
    struct list *next, *prev;
};

static inline void
list_init(struct list *l)
{
    l->next = l->prev = l;
}

static inline bool
list_is_empty(const struct list *l)
{
    return l->next == l;
}

static inline void
list_push_back(struct list *head, struct list *element)
{
    element->prev = head->prev;
    element->next = head;
    head->prev->next = element;
    head->prev = element;
}

static inline void
list_push_front(struct list *head, struct list *element)
{
    list_push_back(head->next, element);
}

/* Takes the element out of whatever list it is in; it may be removed again. */
static inline void
list_remove(struct list *element)
{
    element->prev->next = element->next;
    element->next->prev = element->prev;
    list_init(element);
}

/* The first element, still linked; NULL when empty. */
static inline struct list *
list_first(const struct list *head)
{
    // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it doesn't see that what was freed was removed
    return list_is_empty(head) ? NULL : head->next;
}

static inline struct list *
list_last(const struct list *head)
{
    return list_is_empty(head) ? NULL : head->prev;
}

static inline struct list *
list_pop_front(struct list *head)
{
    struct list *element = list_first(head);
    if (element) {
        list_remove(element);
    }
    return element;
}

/* The first element, unlinked; the list isn't empty. */
__attribute__((returns_nonnull)) static inline struct list *
list_take_front(struct list *head)
{
    struct list *element = head->next;
    ASSERT(element != head);
    list_remove(element); // NOLINT(clang-analyzer-unix.Malloc): as in list_first
    return element;
}

/* Moves all of `from` to the end of `to`; `from` is empty after. */
static inline void
list_splice_back(struct list *to, struct list *from)
{
    if (!list_is_empty(from)) {
        from->next->prev = to->prev;
        to->prev->next = from->next;
        from->prev->next = to;
        to->prev = from->prev;
        list_init(from);
    }
}

#define LIST_ENTRY(link, type, member) CONTAINER_OF(link, type, member)
#define LIST_FOR(pos, head)            for (struct list *pos = (head)->next; pos != (head); pos = pos->next)
/* `next_` keeps the walk safe against removal of `pos`. */
#define LIST_FOR_SAFE(pos, next_, head)                                                            \
    for (struct list *pos = (head)->next, *next_ = pos->next; pos != (head);                       \
         pos = next_, next_ = pos->next)

#endif
