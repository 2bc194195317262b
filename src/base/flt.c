/* SPDX-License-Identifier: Apache-2.0 */
/* The registry of fault points and the parser of what arms them. See flt.h. */
#include "base/flt.h"

#include <string.h>

#include "base/id.h"
#include "base/status.h"

/* Bounds of the linker section; weak, since a program may hold no point. */
extern struct flt_point *__start_ray_flt[] __attribute__((weak, visibility("hidden")));
extern struct flt_point *__stop_ray_flt[] __attribute__((weak, visibility("hidden")));

static struct atom_ptr hooks; /* const struct flt_hooks * */

/* One parsed entry, applied to every point it names. */
struct entry {
    const char *name;
    size_t name_length;
    bool prefix;
    struct flt_point what; /* action, trigger and their numbers */
};

/* Reads what may be a sanitizer's padding, so it must not be instrumented. */
__attribute__((no_sanitize_address)) static struct flt_point *
point_at(size_t i)
{
    return __start_ray_flt[i];
}

static size_t
section_count(void)
{
    if (!__start_ray_flt || !__stop_ray_flt) {
        return 0;
    }
    return ((uintptr_t)__stop_ray_flt - (uintptr_t)__start_ray_flt) / sizeof(struct flt_point *);
}

void
flt_set_hooks(const struct flt_hooks *new_hooks)
{
    atom_ptr_store(&hooks, (void *)(uintptr_t)new_hooks, ATOM_RELEASE);
}

static bool
fires(const struct flt_point *point, uint64_t hit)
{
    switch ((enum flt_trigger)point->trigger) {
    case FLT_ALWAYS:
        return true;
    case FLT_NTH:
        return hit == point->n;
    case FLT_EVERY:
        return hit % point->n == 0;
    case FLT_PROB:
        return id_mix64(point->seed + hit * UINT64_C(0x9e3779b97f4a7c15)) < point->threshold;
    }
    return false;
}

int
flt_hit(struct flt_point *point)
{
    const uint64_t hit = atom_u64_fetch_add(&point->hits, 1, ATOM_RELAXED) + 1;
    if (!fires(point, hit)) {
        return ST_OK;
    }
    atom_u64_fetch_add(&point->fired, 1, ATOM_RELAXED);
    const struct flt_hooks *h = atom_ptr_load(&hooks, ATOM_ACQUIRE);
    switch ((enum flt_action)point->action) {
    case FLT_ERROR:
        return st_fail(point->status, "fault point %s: %s", point->name,
                       st_info(point->status)->text);
    case FLT_DELAY:
        if (h) {
            h->delay(point->delay_ms);
        }
        return ST_OK;
    case FLT_CRASH:
        if (!h) {
            __builtin_trap();
        }
        h->crash();
        return ST_OK; /* it was another's turn to die */
    case FLT_STOP:
        if (h) {
            h->stop();
        }
        return ST_OK;
    case FLT_DROP:
        return FLT_DROPPED;
    case FLT_NONE:
    case FLT_COUNT:
        return ST_OK;
    }
    return ST_OK;
}

static bool
is_word(const char *text, size_t length, const char *word)
{
    return strlen(word) == length && memcmp(text, word, length) == 0;
}

static bool
parse_number(const char *text, size_t length, uint64_t *out)
{
    uint64_t v = 0;
    if (length == 0 || length > 18) {
        return false;
    }
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return false;
        }
        v = v * 10 + (uint64_t)(text[i] - '0');
    }
    *out = v;
    return true;
}

/* "0.25" or "1" as a threshold over 2^64; at most nine decimals. */
static bool
parse_probability(const char *text, size_t length, uint64_t *out)
{
    const char *dot = memchr(text, '.', length);
    const size_t whole = dot ? (size_t)(dot - text) : length;
    uint64_t units = 0;
    if (!parse_number(text, whole, &units) || units > 1) {
        return false;
    }
    uint64_t billionths = units * UINT64_C(1000000000);
    if (dot) {
        const size_t digits = length - whole - 1;
        uint64_t fraction = 0;
        if (digits > 9 || !parse_number(dot + 1, digits, &fraction)) {
            return false;
        }
        for (size_t i = digits; i < 9; i++) {
            fraction *= 10;
        }
        billionths += fraction;
    }
    if (billionths > UINT64_C(1000000000)) {
        return false;
    }
    *out = billionths == UINT64_C(1000000000) ? UINT64_MAX
                                              : billionths * (UINT64_MAX / UINT64_C(1000000000));
    return true;
}

static bool
parse_status(const char *text, size_t length, int32_t *out)
{
    static const int all[] = {
#define STATUS(name, number, text_, retryable, lost, python) -(number),
#include "base/status.def"
#undef STATUS
    };
    for (size_t i = 0; i < COUNT_OF(all); i++) {
        if (is_word(text, length, st_info(all[i])->name)) {
            *out = all[i];
            return true;
        }
    }
    return false;
}

/* Splits "word=value"; value is empty without '='. */
static size_t
split(const char *text, size_t length, const char **value, size_t *value_length)
{
    const char *eq = memchr(text, '=', length);
    const size_t word = eq ? (size_t)(eq - text) : length;
    *value = eq ? eq + 1 : text + length;
    *value_length = eq ? length - word - 1 : 0;
    return word;
}

static bool
parse_action(const char *text, size_t length, struct flt_point *what)
{
    const char *value = NULL;
    size_t n = 0;
    const size_t word = split(text, length, &value, &n);
    if (is_word(text, word, "error")) {
        what->action = FLT_ERROR;
        what->status = ST_SYSTEM;
        return n == 0 || parse_status(value, n, &what->status);
    }
    if (is_word(text, word, "delay")) {
        what->action = FLT_DELAY;
        what->delay_ms = 10;
        return n == 0 || parse_number(value, n, &what->delay_ms);
    }
    if (is_word(text, length, "crash")) {
        what->action = FLT_CRASH;
    } else if (is_word(text, length, "stop")) {
        what->action = FLT_STOP;
    } else if (is_word(text, length, "drop")) {
        what->action = FLT_DROP;
    } else if (is_word(text, length, "count")) {
        what->action = FLT_COUNT;
    } else {
        return false;
    }
    return true;
}

static bool
parse_trigger(const char *text, size_t length, struct flt_point *what)
{
    const char *value = NULL;
    size_t n = 0;
    const size_t word = split(text, length, &value, &n);
    if (is_word(text, length, "always")) {
        what->trigger = FLT_ALWAYS;
        return true;
    }
    if (is_word(text, length, "once")) {
        what->trigger = FLT_NTH;
        what->n = 1;
        return true;
    }
    if (is_word(text, word, "nth") || is_word(text, word, "every")) {
        what->trigger = text[0] == 'n' ? FLT_NTH : FLT_EVERY;
        return parse_number(value, n, &what->n) && what->n > 0;
    }
    if (is_word(text, word, "prob")) {
        const char *slash = memchr(value, '/', n);
        const size_t p = slash ? (size_t)(slash - value) : n;
        what->trigger = FLT_PROB;
        return parse_probability(value, p, &what->threshold) &&
               (!slash || parse_number(slash + 1, n - p - 1, &what->seed));
    }
    return false;
}

static bool
matches(const struct entry *entry, const char *name)
{
    const size_t n = strlen(name);
    return (entry->prefix ? n >= entry->name_length : n == entry->name_length) &&
           memcmp(name, entry->name, entry->name_length) == 0;
}

static void
arm_point(struct flt_point *point, const struct flt_point *what)
{
    atom_u32_store(&point->armed, 0, ATOM_RELEASE);
    point->action = what->action;
    point->trigger = what->trigger;
    point->status = what->status;
    point->delay_ms = what->delay_ms;
    point->n = what->n;
    point->threshold = what->threshold;
    point->seed = what->seed;
    atom_u64_store(&point->hits, 0, ATOM_RELAXED);
    atom_u64_store(&point->fired, 0, ATOM_RELAXED);
    atom_u32_store(&point->armed, 1, ATOM_RELEASE);
}

static int
apply(const struct entry *entry, bool strict)
{
    size_t found = 0;
    for (size_t i = 0; i < section_count(); i++) {
        struct flt_point *point = point_at(i);
        if (!point || !matches(entry, point->name)) {
            continue;
        }
        const bool fits =
            point->drops ? entry->what.action != FLT_ERROR : entry->what.action != FLT_DROP;
        if (!fits) {
            if (entry->prefix) {
                continue; /* a pattern takes the points it can */
            }
            return st_fail(ST_INVALID_ARGUMENT, "fault point %s can't %s", point->name,
                           point->drops ? "return an error" : "drop");
        }
        arm_point(point, &entry->what);
        found++;
    }
    if (found == 0 && strict) {
        return st_fail(ST_NOT_FOUND, "no fault point is named %.*s", (int)entry->name_length,
                       entry->name);
    }
    return ST_OK;
}

static int
arm_entry(const char *text, size_t length, const char *role, bool strict)
{
    const char *whole = text;
    const size_t whole_length = length;
    const char *slash = memchr(text, '/', length);
    const char *colon = memchr(text, ':', length);
    if (slash && colon && slash < colon) {
        const size_t n = (size_t)(slash - text);
        if (!role || !is_word(text, n, role)) {
            return ST_OK;
        }
        text += n + 1;
        length -= n + 1;
    }
    struct entry entry = { .name = text };
    if (colon) {
        entry.name_length = (size_t)(colon - text);
        const char *action = colon + 1;
        const size_t left = length - entry.name_length - 1;
        const char *second = memchr(action, ':', left);
        const size_t n = second ? (size_t)(second - action) : left;
        if (entry.name_length > 0 && text[entry.name_length - 1] == '*') {
            entry.prefix = true;
            entry.name_length--;
        }
        if (parse_action(action, n, &entry.what) &&
            (!second || parse_trigger(second + 1, left - n - 1, &entry.what))) {
            return apply(&entry, strict);
        }
    }
    return st_fail(ST_INVALID_ARGUMENT,
                   "malformed fault \"%.*s\": expected [role/]name:action[:trigger]",
                   (int)whole_length, whole);
}

int
flt_arm(const char *text, const char *role, bool strict)
{
    while (*text) {
        const char *comma = strchr(text, ',');
        const size_t n = comma ? (size_t)(comma - text) : strlen(text);
        if (n > 0) {
            TRY(arm_entry(text, n, role, strict));
        }
        text += n + (comma ? 1 : 0);
    }
    return ST_OK;
}

void
flt_disarm_all(void)
{
    for (size_t i = 0; i < section_count(); i++) {
        struct flt_point *point = point_at(i);
        if (point) {
            atom_u32_store(&point->armed, 0, ATOM_RELEASE);
            atom_u64_store(&point->hits, 0, ATOM_RELAXED);
            atom_u64_store(&point->fired, 0, ATOM_RELAXED);
        }
    }
}

const struct flt_point *
flt_next(const char *after)
{
    const struct flt_point *best = NULL;
    for (size_t i = 0; i < section_count(); i++) {
        const struct flt_point *point = point_at(i);
        if (point && (!after || strcmp(point->name, after) > 0) &&
            (!best || strcmp(point->name, best->name) < 0)) {
            best = point;
        }
    }
    return best;
}

uint64_t
flt_hits(const char *name)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < section_count(); i++) {
        const struct flt_point *point = point_at(i);
        if (point && strcmp(point->name, name) == 0) {
            sum += atom_u64_load(&point->hits, ATOM_RELAXED);
        }
    }
    return sum;
}

uint64_t
flt_fired(const char *name)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < section_count(); i++) {
        const struct flt_point *point = point_at(i);
        if (point && strcmp(point->name, name) == 0) {
            sum += atom_u64_load(&point->fired, ATOM_RELAXED);
        }
    }
    return sum;
}
