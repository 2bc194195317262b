/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Actors by name, and handles that don't count: taking a name at ray-gcs, finding who has it, and
 * listing what is taken. All three wait for the answer; ray-gcs stores a name before it answers,
 * and a request whose answer was lost is sent again and answered alike.
 */
#include <stdlib.h>
#include <string.h>

#include "worker/wk_actor.h"

int
wk_check_name(const char *what, const char *name)
{
    if (name && (!*name || strlen(name) > RAY_NAME_MAX)) {
        return st_fail(ST_INVALID_ARGUMENT, "%s has 1 to %d bytes, this one %zu", what,
                       RAY_NAME_MAX, strlen(name));
    }
    return ST_OK;
}

/* ---- taking a name ---- */

void
wk_actor_fill_spec(const struct id_actor *id, const struct ray_options *o, const char *class_name,
                   Ray__Gcs__CreateActor *out)
{
    out->actor_id.data = (uint8_t *)(uintptr_t)id->b; /* only read: it is packed */
    out->actor_id.len = sizeof(id->b);
    out->job_id.data = wk.job.b;
    out->job_id.len = sizeof(wk.job.b);
    out->owner_worker_id.data = wk.self.worker.b;
    out->owner_worker_id.len = sizeof(wk.self.worker.b);
    wk_set_text(&out->owner_socket, wk.socket_name);
    wk_set_text(&out->class_name, class_name);
    wk_set_text(&out->name, o->actor_name);
    wk_set_text(&out->actor_namespace, *o->actor_namespace ? o->actor_namespace : wk.job_namespace);
    out->detached = wk_options_detached(o);
    out->max_restarts = o->max_restarts;
    out->unordered = o->unordered;
    out->max_pending_calls = o->max_pending_calls;
    out->face_info.data = o->face_info;
    out->face_info.len = o->face_info_size;
}

int
wk_actor_ask_creation(const Ray__Gcs__CreateActor *message)
{
    struct wk_ask ask;
    int status = wk_gcs_ask(GCS_CREATE_ACTOR, (const ProtobufCMessage *)message, &ask, UINT64_MAX);
    if (status == ST_OK) {
        Ray__Gcs__Done *done =
            ray__gcs__done__unpack(NULL, ask.answer.size, (const uint8_t *)ask.answer.data);
        status = !done               ? st_fail(ST_PROTOCOL, "ray-gcs' answer can't be read")
                 : done->status != 0 ? st_fail(done->status, "%s", done->text)
                                     : ST_OK;
        if (done) {
            ray__gcs__done__free_unpacked(done, NULL);
        }
    }
    wk_ask_fini(&ask);
    return status;
}

int
wk_actor_register(const struct id_actor *id, const struct ray_options *options,
                  const char *class_name)
{
    Ray__Gcs__CreateActor message = RAY__GCS__CREATE_ACTOR__INIT;
    wk_actor_fill_spec(id, options, class_name, &message);
    message.register_only = true;
    return wk_actor_ask_creation(&message);
}

void
wk_actor_unregister(const struct id_actor *id)
{
    Ray__Gcs__KillActor message = RAY__GCS__KILL_ACTOR__INIT;
    message.actor_id.data = (uint8_t *)(uintptr_t)id->b;
    message.actor_id.len = sizeof(id->b);
    message.no_restart = true;
    wk_set_text(&message.reason, "its creator could not go on with its creation");
    (void)!wk_gcs_request(GCS_KILL_ACTOR, (const ProtobufCMessage *)&message, NULL, NULL);
}

/* ---- finding ---- */

/* The record of an actor that this process may not know yet, with one more weak handle. */
static ray_actor *
weak_handle(const struct id_actor *id, const char *class_name)
{
    struct wk_actor *actor = wk_actor_find(id);
    if (!actor) {
        actor = wk_actor_make(id, class_name);
        if (!actor) {
            return NULL;
        }
        wk_actor_watch(actor);
    }
    return wk_actor_weak(actor);
}

static int
take_found(const Ray__Gcs__NamedActor *found, const char *name, const char *space, ray_actor **out)
{
    struct id_actor id;
    if (found->status == ST_NOT_FOUND) {
        return st_fail(ST_NOT_FOUND,
                       "Failed to look up actor with name '%s': no living actor of the namespace "
                       "'%s' has it. It was never created, has ended, or is in another namespace.",
                       name, space);
    }
    if (found->status != 0 || found->actor_id.len != sizeof(id.b)) {
        return st_fail(ST_PROTOCOL, "ray-gcs' answer makes no sense");
    }
    memcpy(id.b, found->actor_id.data, sizeof(id.b));
    *out = weak_handle(&id, found->class_name);
    if (!*out) {
        return st_fail(ST_OUT_OF_MEMORY, "no memory for an actor handle");
    }
    struct wk_actor *actor = wk_actor_of(*out);
    if (actor->face_info.size == 0) { /* handed out already, it must stay where it is */
        str_append(&actor->face_info, found->face_info.data, found->face_info.len);
    }
    return ST_OK;
}

int
wk_actor_find_named(const char *name, const char *space, ray_actor **out)
{
    Ray__Gcs__FindNamed message = RAY__GCS__FIND_NAMED__INIT;
    struct wk_ask ask;
    space = space && *space ? space : wk.job_namespace;
    wk_set_text(&message.name, name);
    wk_set_text(&message.actor_namespace, space);
    int status = wk_gcs_ask(GCS_FIND_NAMED, (const ProtobufCMessage *)&message, &ask, UINT64_MAX);
    if (status == ST_OK) {
        Ray__Gcs__NamedActor *found =
            ray__gcs__named_actor__unpack(NULL, ask.answer.size, (const uint8_t *)ask.answer.data);
        status = found ? take_found(found, name, space, out)
                       : st_fail(ST_PROTOCOL, "ray-gcs' answer can't be read");
        if (found) {
            ray__gcs__named_actor__free_unpacked(found, NULL);
        }
    }
    wk_ask_fini(&ask);
    return status;
}

RAY_API int
ray_actor_find(const char *name, const char *actor_namespace, ray_actor **out)
{
    *out = NULL;
    TRY(wk_check_name("an actor's name", name ? name : ""));
    TRY(wk_check_name("a namespace", actor_namespace));
    TRY(wk_enter());
    const int status = wk_actor_find_named(name, actor_namespace, out);
    wk_unlock();
    return status;
}

RAY_API int
ray_actor_from_id(const uint8_t *id, ray_actor **out)
{
    struct id_actor actor_id;
    *out = NULL;
    memcpy(actor_id.b, id, sizeof(actor_id.b));
    TRY(wk_enter());
    *out = weak_handle(&actor_id, "");
    wk_unlock();
    return *out ? RAY_OK : st_fail(ST_OUT_OF_MEMORY, "no memory for an actor handle");
}

RAY_API bool
ray_actor_is_counted(const ray_actor *handle)
{
    return !wk_actor_handle_is_weak(handle) && !wk_actor_of(handle)->detached;
}

RAY_API const void *
ray_actor_face_info(const ray_actor *handle, size_t *size)
{
    const struct wk_actor *actor = wk_actor_of(handle);
    *size = 0;
    wk_lock();
    const char *data = actor->face_info.size > 0 ? actor->face_info.data : NULL;
    *size = actor->face_info.size;
    wk_unlock();
    return data;
}

/* ---- listing ---- */

/* One block: the list, then the texts. */
static struct ray_actor_name *
copy_names(const Ray__Gcs__NamedList *list)
{
    size_t bytes = sizeof(struct ray_actor_name);
    for (size_t i = 0; i < list->n_actors; i++) {
        bytes += sizeof(struct ray_actor_name) + strlen(list->actors[i]->name) +
                 strlen(list->actors[i]->actor_namespace) + 2;
    }
    struct ray_actor_name *names = malloc(bytes);
    if (!names) {
        return NULL;
    }
    char *at = (char *)(names + list->n_actors + 1);
    for (size_t i = 0; i < list->n_actors; i++) {
        const size_t name = strlen(list->actors[i]->name) + 1;
        const size_t space = strlen(list->actors[i]->actor_namespace) + 1;
        memcpy(at, list->actors[i]->name, name);
        memcpy(at + name, list->actors[i]->actor_namespace, space);
        names[i] = (struct ray_actor_name){ .name = at, .actor_namespace = at + name };
        at += name + space;
    }
    return names;
}

RAY_API int
ray_actor_list_names(const char *actor_namespace, struct ray_actor_name **out, size_t *count)
{
    *out = NULL;
    *count = 0;
    TRY(wk_enter());
    Ray__Gcs__ListNamed message = RAY__GCS__LIST_NAMED__INIT;
    struct wk_ask ask;
    wk_set_text(&message.actor_namespace, actor_namespace ? actor_namespace : wk.job_namespace);
    int status = wk_gcs_ask(GCS_LIST_NAMED, (const ProtobufCMessage *)&message, &ask, UINT64_MAX);
    if (status == ST_OK) {
        Ray__Gcs__NamedList *list =
            ray__gcs__named_list__unpack(NULL, ask.answer.size, (const uint8_t *)ask.answer.data);
        *out = list ? copy_names(list) : NULL;
        *count = *out ? list->n_actors : 0;
        status = *out ? ST_OK : st_fail(ST_OUT_OF_MEMORY, "no memory for a list of names");
        if (list) {
            ray__gcs__named_list__free_unpacked(list, NULL);
        }
    }
    wk_ask_fini(&ask);
    wk_unlock();
    return status;
}
