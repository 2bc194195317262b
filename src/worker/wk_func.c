/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Functions, options, and the templates that peers learn them by.
 *
 * Functions and options outlive a session (init to shutdown); what belongs to a session (captured
 * references, templates, the scheduling key) is made again when it is first used in the next one.
 * Equal options are one object, so that `.options()` in a loop makes neither keys nor templates.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os/os_basic.h"
#include "worker/wk_priv.h"

enum { NAME_MAX_BYTES = 1 << 16 };

static struct map options_table = { 0 };

static char *
copy_text(const char *text)
{
    return strdup(text ? text : "");
}

/* ---- functions ---- */

static void
free_templates(struct ray_function *function)
{
    while (function->templates) {
        struct wk_template *t = function->templates;
        function->templates = t->next;
        str_fini(&t->frame);
        ray_options_release(t->options);
        free(t);
    }
}

static void
free_function(struct ray_function *function)
{
    free_templates(function);
    free(function->captured);
    ray_value_release(function->definition);
    free(function->name);
    free(function->method);
    free(function);
}

/* The definition's bytes with the references inside of it, which are pinned for the job. */
static int
take_definition(struct ray_function *function, const struct ray_payload *payload)
{
    size_t size = 0;
    for (size_t i = 0; i < payload->buf_count; i++) {
        size += payload->bufs[i].size;
    }
    uint8_t *data;
    struct own_item *items;
    function->definition =
        wk_value_create(WK_VALUE_INLINE, size, (uint32_t)payload->ref_count, &data, &items);
    if (!function->definition) {
        return st_fail(ST_OUT_OF_MEMORY, "no memory for a definition of %zu bytes", size);
    }
    function->definition->format = payload->format;
    for (size_t i = 0; i < payload->buf_count; i++) {
        memcpy(data, payload->bufs[i].data, payload->bufs[i].size);
        data += payload->bufs[i].size;
    }
    if (payload->ref_count == 0) {
        return ST_OK;
    }
    TRY(wk_enter());
    const int status = wk_refs_check(payload->refs, payload->ref_count, false);
    for (size_t i = 0; i < payload->ref_count && status == ST_OK; i++) {
        struct own_ref *ref = (struct own_ref *)payload->refs[i];
        own_item_of(&wk.own, ref, &items[i]);
        own_capture(ref);
    }
    function->session = wk.session;
    wk_unlock();
    return status;
}

RAY_API int
ray_function_create(const struct ray_function_desc *desc, ray_function **out)
{
    *out = NULL;
    if (!desc->name || strlen(desc->name) > NAME_MAX_BYTES) {
        return st_fail(ST_INVALID_ARGUMENT, "a function needs a name of at most %d bytes",
                       NAME_MAX_BYTES);
    }
    struct ray_function *function = calloc(1, sizeof(*function));
    if (!function) {
        return st_fail(ST_OUT_OF_MEMORY, "no memory for function %s", desc->name);
    }
    atom_u32_store(&function->refs, 1, ATOM_RELAXED);
    function->kind = desc->kind;
    memcpy(function->hash, desc->hash, sizeof(function->hash));
    function->name = copy_text(desc->name);
    function->method = copy_text(desc->method);
    int status = ST_OK;
    if (!function->name || !function->method) {
        status = st_fail(ST_OUT_OF_MEMORY, "no memory for function %s", desc->name);
    } else if (desc->definition.buf_count > 0) {
        status = take_definition(function, &desc->definition);
    }
    if (status != ST_OK) {
        free_function(function);
        return status;
    }
    *out = function;
    return RAY_OK;
}

RAY_API ray_function *
ray_function_retain(ray_function *function)
{
    (void)atom_u32_fetch_add(&function->refs, 1, ATOM_RELAXED);
    return function;
}

RAY_API void
ray_function_release(ray_function *function)
{
    if (function && atom_u32_fetch_add(&function->refs, UINT32_MAX, ATOM_ACQ_REL) == 1) {
        free_function(function);
    }
}

/* ---- options ---- */

RAY_API void
ray_task_options_default(struct ray_task_options *options)
{
    *options = (struct ray_task_options){
        .struct_size = sizeof(*options),
        .num_returns = 1,
        .max_retries = 3,
        .max_pending_calls = -1,
        .max_concurrency = 1,
    };
}

int
wk_check_resource(const struct ray_resource *from, struct res_amount *amount)
{
    const size_t length = from->name ? strlen(from->name) : 0;
    if (length == 0 || length >= RES_NAME_MAX || !res_amount_from_double(from->amount, amount)) {
        return st_fail(ST_INVALID_ARGUMENT,
                       "resource '%s' has amount %g; names have 1 to %d bytes, amounts are "
                       "multiples of 0.0001 and not negative",
                       length ? from->name : "", from->amount, RES_NAME_MAX - 1);
    }
    return ST_OK;
}

static int
copy_resources(const struct ray_resource *from, size_t count, struct wk_resource **out,
               uint32_t *out_count)
{
    *out = NULL;
    *out_count = 0;
    if (count > RES_SET_MAX) {
        return st_fail(ST_LIMIT, "%zu kinds of resource, at most %d are allowed", count,
                       RES_SET_MAX);
    }
    struct wk_resource *copy = calloc(count ? count : 1, sizeof(*copy));
    if (!copy) {
        return st_fail(ST_OUT_OF_MEMORY, "no memory for options");
    }
    uint32_t n = 0;
    for (size_t i = 0; i < count; i++) {
        struct res_amount amount;
        const int status = wk_check_resource(&from[i], &amount);
        if (status != ST_OK) {
            free(copy);
            return status;
        }
        if (amount.v > 0) {
            memcpy(copy[n].name, from[i].name, strlen(from[i].name));
            copy[n++].amount = amount;
        }
    }
    *out = copy;
    *out_count = n;
    return ST_OK;
}

/* As text, for the template: see struct peer_template. */
static int
copy_groups(const struct ray_task_options *from, char **out)
{
    if (from->group_count == 0) {
        *out = copy_text(from->concurrency_group);
        return *out ? ST_OK : st_fail(ST_OUT_OF_MEMORY, "no memory for options");
    }
    struct str text;
    str_init(&text, os_mem_system());
    for (size_t i = 0; i < from->group_count; i++) {
        const struct ray_concurrency_group *group = &from->groups[i];
        if (!group->name || !*group->name || strchr(group->name, '\n') ||
            group->max_concurrency < 1) {
            str_fini(&text);
            return st_fail(ST_INVALID_ARGUMENT,
                           "a concurrency group needs a name of one line and a limit of 1 or more, "
                           "'%s' has %d",
                           group->name ? group->name : "", group->max_concurrency);
        }
        str_printf(&text, "%d %s\n", group->max_concurrency, group->name);
    }
    *out = text.failed ? NULL : strdup(str_text(&text));
    str_fini(&text);
    return *out ? ST_OK : st_fail(ST_OUT_OF_MEMORY, "no memory for options");
}

static void
free_options(struct ray_options *o)
{
    free(o->name);
    free(o->actor_name);
    free(o->actor_namespace);
    free(o->groups);
    free(o->metadata);
    free(o->face_info);
    free(o->resources);
    free(o->placement);
    str_fini(&o->canonical);
    ray_options_release(o->unnamed);
    free(o);
}

static void
make_canonical(struct ray_options *o)
{
    str_init(&o->canonical, os_mem_system());
    str_printf(&o->canonical, "%d %d %d %d %d %d %lld %d %d %d %d %d %u|%s|%s|%s|%s|",
               o->num_returns, o->max_retries, o->max_calls, o->max_concurrency, o->max_restarts,
               o->max_task_retries, (long long)o->max_pending_calls, o->retry_exceptions,
               (int)o->lifetime, o->event_loop, o->unordered, (int)o->generator, o->backpressure,
               o->name, o->actor_name, o->actor_namespace, o->groups);
    str_printf(&o->canonical, "%d %zu %zu|", o->get_if_exists, o->metadata_size, o->face_info_size);
    for (uint32_t i = 0; i < o->resource_count; i++) {
        str_printf(&o->canonical, "%s=%lld,", o->resources[i].name,
                   (long long)o->resources[i].amount.v);
    }
    str_append(&o->canonical, "|", 1);
    for (uint32_t i = 0; i < o->placement_count; i++) {
        str_printf(&o->canonical, "%s=%lld,", o->placement[i].name,
                   (long long)o->placement[i].amount.v);
    }
    str_append(&o->canonical, o->metadata, o->metadata_size);
    str_append(&o->canonical, o->face_info, o->face_info_size);
}

/* What an actor is called, and how long it lives. */
static int
fill_actor_names(const struct ray_task_options *from, struct ray_options *o)
{
    TRY(wk_check_name("an actor's name", from->actor_name));
    TRY(wk_check_name("a namespace", from->actor_namespace));
    if (from->get_if_exists && !from->actor_name) {
        return st_fail(ST_INVALID_ARGUMENT, "get_if_exists needs a name");
    }
    o->lifetime = from->lifetime;
    o->get_if_exists = from->get_if_exists;
    o->actor_name = copy_text(from->actor_name);
    o->actor_namespace = copy_text(from->actor_namespace);
    return ST_OK;
}

static uint8_t *
copy_bytes(const void *bytes, size_t size)
{
    uint8_t *copy = malloc(size + 1);
    if (copy && size > 0) {
        memcpy(copy, bytes, size);
    }
    return copy;
}

bool
wk_options_detached(const struct ray_options *o)
{
    return o->lifetime == RAY_LIFETIME_DETACHED ||
           (o->lifetime == RAY_LIFETIME_OF_JOB && wk.detached_by_default);
}

RAY_API bool
ray_options_wait(const ray_options *options)
{
    return *options->actor_name || wk_options_detached(options);
}

static int
fill_options(const struct ray_task_options *from, struct ray_options *o)
{
    if (from->num_returns < 0 || from->max_retries < -1 || from->max_calls < 0) {
        return st_fail(ST_INVALID_ARGUMENT,
                       "num_returns is %d, max_retries %d, max_calls %d; allowed are >= 0, >= -1, "
                       ">= 0",
                       from->num_returns, from->max_retries, from->max_calls);
    }
    if (from->generator != RAY_GENERATOR_NONE && from->num_returns != 1) {
        return st_fail(ST_INVALID_ARGUMENT, "a generator has num_returns %d, not 1",
                       from->num_returns);
    }
    if (from->max_restarts < -1 || from->max_task_retries < -1) {
        return st_fail(
            ST_INVALID_ARGUMENT,
            "max_restarts is %d, max_task_retries %d; allowed are -1 (for ever) and more",
            from->max_restarts, from->max_task_retries);
    }
    TRY(fill_actor_names(from, o));
    TRY(copy_groups(from, &o->groups));
    o->num_returns = from->num_returns;
    o->max_retries = from->max_retries;
    o->retry_exceptions = from->retry_exceptions;
    o->max_calls = from->max_calls;
    o->max_concurrency = from->max_concurrency > 0 ? from->max_concurrency
                         : from->in_event_loop     ? RAY_EVENT_LOOP_CONCURRENCY
                                                   : 1;
    o->event_loop = from->in_event_loop;
    o->unordered = from->call_order == RAY_CALL_ORDER_DEFAULT
                       ? o->event_loop || o->max_concurrency > 1 || from->group_count > 0
                       : from->call_order == RAY_CALL_ORDER_FREE;
    if (!o->unordered && (o->event_loop || o->max_concurrency > 1)) {
        return st_fail(ST_INVALID_ARGUMENT, "an actor with threads or an event loop can't keep "
                                            "the order of its calls");
    }
    o->generator = from->generator;
    o->backpressure = from->generator_backpressure;
    o->max_restarts = from->max_restarts;
    o->max_task_retries = from->max_task_retries;
    o->max_pending_calls = from->max_pending_calls;
    o->name = copy_text(from->name);
    o->metadata = copy_bytes(from->metadata, from->metadata_size);
    o->face_info = copy_bytes(from->face_info, from->face_info_size);
    if (!o->name || !o->actor_name || !o->actor_namespace || !o->metadata || !o->face_info) {
        return st_fail(ST_OUT_OF_MEMORY, "no memory for options");
    }
    o->metadata_size = from->metadata_size;
    o->face_info_size = from->face_info_size;
    TRY(copy_resources(from->resources, from->resource_count, &o->resources, &o->resource_count));
    TRY(copy_resources(from->placement_resources, from->placement_resource_count, &o->placement,
                       &o->placement_count));
    make_canonical(o);
    return o->canonical.failed ? st_fail(ST_OUT_OF_MEMORY, "no memory for options") : ST_OK;
}

/* An equal one that is alive, with one more count. Lock held. */
static struct ray_options *
find_equal(const struct ray_options *o, uint64_t hash)
{
    struct map_link *l;
    MAP_FOR_HASH (l, &options_table, hash) {
        struct ray_options *other = CONTAINER_OF(l, struct ray_options, link);
        if (other->canonical.size == o->canonical.size &&
            memcmp(other->canonical.data, o->canonical.data, o->canonical.size) == 0) {
            return ray_options_retain(other);
        }
    }
    return NULL;
}

/* So that a template isn't kept for each name. */
static int
make_unnamed(const struct ray_task_options *options, struct ray_options **out)
{
    struct ray_task_options alike = *options;
    alike.actor_name = alike.actor_namespace = NULL;
    alike.get_if_exists = false;
    alike.face_info = NULL;
    alike.face_info_size = 0;
    return ray_options_create(&alike, out);
}

RAY_API int
ray_options_create(const struct ray_task_options *options, ray_options **out)
{
    *out = NULL;
    struct ray_options *o = calloc(1, sizeof(*o));
    if (!o) {
        return st_fail(ST_OUT_OF_MEMORY, "no memory for options");
    }
    atom_u32_store(&o->refs, 1, ATOM_RELAXED);
    int status = fill_options(options, o);
    if (status == ST_OK && options->actor_name) {
        status = make_unnamed(options, &o->unnamed);
    }
    if (status != ST_OK) {
        free_options(o);
        return status;
    }
    const uint64_t hash = id_hash(o->canonical.data, o->canonical.size);
    wk_lock();
    if (!options_table.mem) {
        map_init(&options_table, os_mem_system());
    }
    struct ray_options *equal = find_equal(o, hash);
    const bool inserted = !equal && map_insert(&options_table, &o->link, hash) == ST_OK;
    wk_unlock();
    if (equal || !inserted) {
        free_options(o);
    }
    *out = equal ? equal : inserted ? o : NULL;
    return *out ? RAY_OK : st_fail(ST_OUT_OF_MEMORY, "no memory for options");
}

RAY_API ray_options *
ray_options_retain(ray_options *options)
{
    (void)atom_u32_fetch_add(&options->refs, 1, ATOM_RELAXED);
    return options;
}

/* The last count goes under the table's lock, so that nobody finds what is about to be freed. The
 * engine lock serves for that; where it is held already (templates), it stays in the table. */
RAY_API void
ray_options_release(ray_options *options)
{
    if (!options) {
        return;
    }
    uint32_t n = atom_u32_load(&options->refs, ATOM_RELAXED);
    while (n > 1) {
        if (atom_u32_cas(&options->refs, &n, n - 1)) {
            return;
        }
    }
    if (pthread_mutex_trylock(&wk.lock) != 0) {
        return; /* stays, with its one count, for whoever asks for equal ones: bounded by kinds */
    }
    const bool last = atom_u32_fetch_add(&options->refs, UINT32_MAX, ATOM_ACQ_REL) == 1;
    if (last) {
        map_remove(&options_table, &options->link);
    }
    wk_unlock();
    if (last) {
        free_options(options);
    }
}

struct ray_options *
wk_options_default(void)
{
    /* Threads may come here together, without the lock. Release: by who made it; acquire: by all.
     */
    static struct atom_ptr cached;
    struct ray_options *known = atom_ptr_load(&cached, ATOM_ACQUIRE);
    if (!known) {
        struct ray_task_options plain;
        const struct ray_resource cpu = { "CPU", 1.0 };
        ray_task_options_default(&plain);
        plain.resources = &cpu;
        plain.resource_count = 1;
        if (ray_options_create(&plain, &known) == RAY_OK) {
            /* Who comes second finds the same one in the table, and its count too stays for ever.
             */
            atom_ptr_store(&cached, known, ATOM_RELEASE);
        }
    }
    return known;
}

/* ---- scheduling keys ---- */

static int
to_set(const struct wk_resource *from, uint32_t count, struct res_set *out)
{
    res_set_init(out);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t name;
        TRY(res_names_intern(&wk.names, from[i].name, strlen(from[i].name), &name));
        struct res_amount sum = res_set_get(out, name);
        sum.v += from[i].amount.v;
        TRY(res_set_put(out, name, sum));
    }
    return ST_OK;
}

static struct wk_key *
make_key(uint32_t number)
{
    if (number >= wk.wkey_count) {
        const uint32_t count = number + 16;
        struct wk_key **grown = realloc(wk.wkeys, count * sizeof(*grown));
        if (!grown) {
            return NULL;
        }
        memset(grown + wk.wkey_count, 0, (count - wk.wkey_count) * sizeof(*grown));
        wk.wkeys = grown;
        wk.wkey_count = count;
    }
    if (!wk.wkeys[number]) {
        struct wk_key *key = calloc(1, sizeof(*key));
        struct wk_lease_key *lease_key = key ? wk_lease_get_key(&wk.leases, number) : NULL;
        if (!lease_key) {
            free(key);
            return NULL;
        }
        key->number = number;
        key->lease_key = lease_key;
        list_init(&key->ready);
        list_init(&key->dirty_link);
        wk.wkeys[number] = key;
    }
    return wk.wkeys[number];
}

struct wk_key *
wk_options_key(struct ray_options *options)
{
    if (options->session == wk.session) {
        return options->key;
    }
    struct sched_key key = { 0 };
    uint32_t number;
    if (to_set(options->resources, options->resource_count, &key.resources) != ST_OK) {
        return NULL;
    }
    key.placement = key.resources;
    if (sched_keys_intern(&wk.keys, &key, &number) != ST_OK) {
        return NULL;
    }
    options->key = make_key(number);
    if (options->key) {
        options->session = wk.session;
    }
    return options->key;
}

struct wk_key *
wk_key_by_number(uint32_t number)
{
    return number < wk.wkey_count ? wk.wkeys[number] : NULL;
}

/* ---- templates ---- */

static void
append_padded(struct str *s, const void *bytes, size_t size)
{
    static const char zeros[8] = { 0 };
    str_append(s, bytes, size);
    str_append(s, zeros, wk_pad8(size) - size);
}

/* What the task or actor holds, in the form of get_assigned_resources. */
static void
describe_resources(const struct ray_options *o, struct str *out)
{
    str_append(out, "{", 1);
    for (uint32_t i = 0; i < o->resource_count; i++) {
        str_printf(out, "%s\"", i ? "," : "");
        for (const char *c = o->resources[i].name; *c; c++) {
            if (*c == '"' || *c == '\\') {
                str_append(out, "\\", 1);
            }
            str_append(out, c, 1);
        }
        str_printf(out, "\":%.17g", res_amount_to_double(o->resources[i].amount));
    }
    str_append(out, "}", 2); /* with its NUL */
}

static bool
encode_template(struct wk_template *t, const struct ray_function *f, const struct ray_options *o)
{
    const char *name = *o->name ? o->name : f->name;
    const bool retriable = o->max_retries != 0;
    struct str resources;
    str_init(&resources, os_mem_system());
    describe_resources(o, &resources);
    const struct peer_template head = {
        .number = t->number,
        .kind = (uint32_t)f->kind,
        .num_returns = f->kind == RAY_CLASS ? 0 : o->num_returns,
        .max_calls = o->max_calls,
        .flags = (retriable ? PEER_TEMPLATE_RETRIABLE : 0u) |
                 (f->definition ? PEER_TEMPLATE_HAS_DEFINITION : 0u) |
                 (o->event_loop ? PEER_TEMPLATE_EVENT_LOOP : 0u) |
                 (o->generator == RAY_GENERATOR_STREAMING ? PEER_TEMPLATE_STREAMING : 0u) |
                 (o->generator == RAY_GENERATOR_DYNAMIC ? PEER_TEMPLATE_DYNAMIC : 0u),
        .max_concurrency = o->max_concurrency,
        .backpressure = o->backpressure,
        .exception_retries = !o->retry_exceptions    ? 0
                             : f->kind == RAY_METHOD ? o->max_task_retries
                                                     : o->max_retries,
        .name_size = (uint32_t)strlen(name) + 1,
        .function_name_size = (uint32_t)strlen(f->name) + 1,
        .method_size = (uint32_t)strlen(f->method) + 1,
        .resources_size = (uint32_t)resources.size,
        .groups_size = (uint32_t)strlen(o->groups) + 1,
        .metadata_size = (uint32_t)o->metadata_size,
    };
    str_init(&t->frame, os_mem_system());
    struct peer_template copy = head;
    memcpy(copy.hash, f->hash, sizeof(copy.hash));
    append_padded(&t->frame, &copy, sizeof(copy));
    append_padded(&t->frame, name, head.name_size);
    append_padded(&t->frame, f->name, head.function_name_size);
    append_padded(&t->frame, f->method, head.method_size);
    append_padded(&t->frame, resources.data, resources.size);
    append_padded(&t->frame, o->groups, head.groups_size);
    append_padded(&t->frame, o->metadata, o->metadata_size);
    t->frame.failed = t->frame.failed || resources.failed;
    str_fini(&resources);
    if (f->definition) {
        char *room = str_reserve(&t->frame, wk_value_piece_bytes(f->definition));
        if (room) {
            memset(room, 0, wk_value_piece_bytes(f->definition));
            t->frame.size += wk_value_encode(f->definition, (uint8_t *)room);
        }
    }
    return !t->frame.failed;
}

/* GPUs and max_calls. */
static bool
runs_alone(const struct ray_options *options)
{
    bool alone = options->max_calls > 0;
    for (uint32_t i = 0; i < options->resource_count; i++) {
        alone = alone || strcmp(options->resources[i].name, "GPU") == 0;
    }
    return alone;
}

struct wk_template *
wk_template_get(struct ray_function *function, struct ray_options *options)
{
    if (function->session != wk.session) {
        free_templates(function);
        function->session = wk.session;
    }
    struct wk_template **at = &function->templates;
    for (; *at; at = &(*at)->next) {
        struct wk_template *t = *at;
        if (t->options == options) {
            *at = t->next; /* to the front */
            t->next = function->templates;
            function->templates = t;
            return t;
        }
    }
    struct wk_template *t = calloc(1, sizeof(*t));
    if (!t) {
        return NULL;
    }
    t->number = ++wk.template_count;
    if (!encode_template(t, function, options)) {
        str_fini(&t->frame);
        free(t);
        return NULL;
    }
    t->function = function;
    t->alone = runs_alone(options);
    t->options = ray_options_retain(options);
    t->next = function->templates;
    function->templates = t;
    return t;
}

void
wk_func_session_end(void)
{
    for (uint32_t i = 0; i < wk.wkey_count; i++) {
        free(wk.wkeys[i]);
    }
    free(wk.wkeys);
    wk.wkeys = NULL;
    wk.wkey_count = 0;
    wk.template_count = 0;
}
