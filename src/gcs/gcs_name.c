/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of actors: one living actor for each name of a namespace. The index holds every actor that
 * has a name, from its registration, which is stored before it is acknowledged, until it is dead or
 * nothing refers to it; it is made again from the rows of actors, so it has no row of its own.
 */
#include <string.h>

#include "gcs/gcs_priv.h"
#include "proto/kinds.h"

uint64_t
gcs_name_hash(const char *space, const char *name)
{
    return id_hash(space, strlen(space)) * 31 + id_hash(name, strlen(name));
}

struct gcs_actor *
gcs_find_named(const struct gcs *gcs, const char *space, const char *name)
{
    struct map_link *l;
    MAP_FOR_HASH (l, &gcs->names, gcs_name_hash(space, name)) {
        struct gcs_actor *actor = CONTAINER_OF(l, struct gcs_actor, by_name);
        const Ray__Gcs__CreateActor *spec = actor->row.spec;
        if (strcmp(spec->name, name) == 0 && strcmp(spec->actor_namespace, space) == 0) {
            return actor;
        }
    }
    return NULL;
}

static void
describe(const struct gcs_actor *actor, Ray__Gcs__NamedActor *out)
{
    out->actor_id = actor->row.spec->actor_id;
    out->class_name = actor->row.spec->class_name;
    out->name = actor->row.spec->name;
    out->actor_namespace = actor->row.spec->actor_namespace;
}

int
gcs_on_find_named(struct gcs *gcs, const struct step_in *in, struct step_outs *outs)
{
    const Ray__Gcs__FindNamed *msg = in->msg;
    const struct gcs_actor *actor = gcs_find_named(gcs, msg->actor_namespace, msg->name);
    Ray__Gcs__NamedActor *m =
        gcs_emit(outs, GCS_NAMED_ACTOR, in->peer, in->payload, &ray__gcs__named_actor__descriptor);
    if (m && actor) {
        describe(actor, m);
        m->face_info = actor->row.spec->face_info;
    } else if (m) {
        m->status = ST_NOT_FOUND;
    }
    return ST_OK;
}

int
gcs_on_list_named(struct gcs *gcs, const struct step_in *in, struct step_outs *outs)
{
    const Ray__Gcs__ListNamed *msg = in->msg;
    Ray__Gcs__NamedList *m =
        gcs_emit(outs, GCS_NAMED_LIST, in->peer, in->payload, &ray__gcs__named_list__descriptor);
    Ray__Gcs__NamedActor *items = arena_alloc(outs->arena, sizeof(*items) * (gcs->names.count + 1));
    Ray__Gcs__NamedActor **pointers =
        arena_alloc(outs->arena, sizeof(*pointers) * (gcs->names.count + 1));
    ASSERT(m && items && pointers); /* a daemon may end on a small allocation */
    m->actors = pointers;
    struct map_walk walk;
    map_walk_init(&walk);
    for (struct map_link *l = map_walk_next(&gcs->names, &walk); l;
         l = map_walk_next(&gcs->names, &walk)) {
        const struct gcs_actor *actor = CONTAINER_OF(l, struct gcs_actor, by_name);
        if (msg->actor_namespace[0] == '\0' ||
            strcmp(actor->row.spec->actor_namespace, msg->actor_namespace) == 0) {
            Ray__Gcs__NamedActor *item = &items[m->n_actors];
            ray__gcs__named_actor__init(item);
            describe(actor, item);
            pointers[m->n_actors++] = item;
        }
    }
    return ST_OK;
}
