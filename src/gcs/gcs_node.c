/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nodes: registration, and what follows when a raylet registers again after this service was
 * restarted or the connection was lost. What runs on a node is the raylet's word; what ought to run
 * is this service's; where they differ the raylet is told.
 */
#include <string.h>

#include "gcs/gcs_priv.h"

struct gcs_node *
gcs_find_node(const struct gcs *gcs, const struct id_node *id)
{
    struct map_link *l;
    MAP_FOR_HASH (l, &gcs->nodes, id_hash(id->b, sizeof(id->b))) {
        struct gcs_node *node = CONTAINER_OF(l, struct gcs_node, link);
        if (ID_EQ(node->id, *id)) {
            ASSERT(node->magic == GCS_NODE_MAGIC);
            return node;
        }
    }
    return NULL;
}

void
gcs_node_free(struct gcs *gcs, struct gcs_node *node)
{
    gcs_free_message(gcs, node->info);
    node->magic = 0;
    mem_free(gcs->mem, node, sizeof(*node));
}

static struct gcs_node *
node_new(struct gcs *gcs, const struct id_node *id)
{
    struct gcs_node *node = mem_alloc(gcs->mem, sizeof(*node));
    if (!node) {
        return NULL;
    }
    memset(node, 0, sizeof(*node));
    node->magic = GCS_NODE_MAGIC;
    node->id = *id;
    node->started_ms = gcs_wall_ms(gcs);
    if (map_insert(&gcs->nodes, &node->link, id_hash(id->b, sizeof(id->b)))) {
        mem_free(gcs->mem, node, sizeof(*node));
        return NULL;
    }
    list_push_back(&gcs->node_list, &node->all);
    return node;
}

/* Whether the node's totals cover everything that is asked for. */
static bool
node_covers(const struct gcs_node *node, const Ray__Gcs__CreateActor *spec)
{
    for (size_t i = 0; i < spec->n_placement; i++) {
        const Ray__Node__Resource *want = spec->placement[i];
        bool found = want->amount == 0;
        for (size_t j = 0; j < node->info->n_resources && !found; j++) {
            const Ray__Node__Resource *have = node->info->resources[j];
            found = have->amount >= want->amount && strcmp(have->name, want->name) == 0;
        }
        if (!found) {
            return false;
        }
    }
    return true;
}

/* A node that doesn't have enough still gets the request: it says why it waits. */
struct gcs_node *
gcs_choose_node(const struct gcs *gcs, const Ray__Gcs__CreateActor *spec)
{
    struct gcs_node *any = NULL;
    LIST_FOR (l, &gcs->node_list) {
        struct gcs_node *node = LIST_ENTRY(l, struct gcs_node, all);
        if (!node->alive) {
            continue;
        }
        if (node_covers(node, spec)) {
            return node;
        }
        if (!any) {
            any = node;
        }
    }
    return any;
}

void
gcs_on_raylet_closed(struct gcs *gcs, struct gcs_node *node)
{
    (void)gcs;
    node->peer = 0; /* it reconnects by itself; a node that is dead is declared so elsewhere */
}

static int
check_registration(const Ray__Gcs__RegisterNode *msg)
{
    if (msg->node_id.len != sizeof(struct id_node) || msg->n_resources > GCS_RESOURCES_MAX ||
        strlen(msg->node_ip) > GCS_NAME_MAX || strlen(msg->node_name) > GCS_NAME_MAX) {
        return st_fail(ST_PROTOCOL, "a node's registration makes no sense");
    }
    return ST_OK;
}

static const Ray__Gcs__LiveActor *
find_live(const Ray__Gcs__RegisterNode *msg, const struct gcs_actor *actor)
{
    for (size_t i = 0; i < msg->n_actors; i++) {
        const Ray__Gcs__LiveActor *live = msg->actors[i];
        if (live->actor_id.len == sizeof(actor->id.b) &&
            memcmp(live->actor_id.data, actor->id.b, sizeof(actor->id.b)) == 0) {
            return live;
        }
    }
    return NULL;
}

/* The actor runs there: take over where it stands. */
static void
take_over(struct gcs *gcs, struct gcs_actor *actor, struct gcs_node *node,
          const Ray__Gcs__LiveActor *live)
{
    actor->node = node;
    Ray__Gcs__ActorPlaced placed = RAY__GCS__ACTOR_PLACED__INIT;
    placed.actor_id = live->actor_id;
    placed.incarnation = live->incarnation;
    placed.worker_id = live->worker_id;
    placed.peer_socket = live->peer_socket;
    placed.pid = live->pid;
    (void)gcs_on_actor_placed(gcs, &placed);
    actor->row.constructed = live->constructed;
    if (actor->row.killed) {
        gcs_actor_stop(gcs, actor, false, "ray.kill");
    } else if (actor->row.out_of_scope && live->constructed) {
        gcs_actor_stop(gcs, actor, true, "nothing refers to it");
    }
}

/* Every actor that this service thinks is on the node, against the node's word. */
static void
reconcile_actors(struct gcs *gcs, struct gcs_node *node, const Ray__Gcs__RegisterNode *msg)
{
    struct map_walk walk;
    map_walk_init(&walk);
    for (struct map_link *l = map_walk_next(&gcs->actors, &walk); l;
         l = map_walk_next(&gcs->actors, &walk)) {
        struct gcs_actor *actor = CONTAINER_OF(l, struct gcs_actor, by_id);
        if (!actor->known) {
            continue;
        }
        const bool here = actor->row.node_id.len > 0 && ID_EQ(actor->node_id, node->id);
        const bool dead = actor->row.state == RAY__GCS__ACTOR_STATE__DEAD;
        if (here) {
            actor->node = node;
        }
        const Ray__Gcs__LiveActor *live = here ? find_live(msg, actor) : NULL;
        if (dead) {
            if (live) {
                gcs_actor_stop(gcs, actor, false, "it has ended");
            }
        } else if (live && live->incarnation == actor->row.incarnation) {
            take_over(gcs, actor, node, live);
        } else if (here && actor->row.state == RAY__GCS__ACTOR_STATE__ALIVE) {
            gcs_actor_end_of_process(gcs, actor, false,
                                     "its process ended while the control service was away");
        } else if (actor->row.state != RAY__GCS__ACTOR_STATE__DEPENDENCIES_UNREADY &&
                   (here || actor->row.node_id.len == 0)) {
            gcs_actor_start(gcs, actor); /* the order may have been lost; it is idempotent */
        }
    }
}

/* Drivers that ended while nobody listened. */
static void
reconcile_jobs(struct gcs *gcs, const Ray__Gcs__RegisterNode *msg)
{
    LIST_FOR (l, &gcs->job_list) {
        struct gcs_job *job = LIST_ENTRY(l, struct gcs_job, all);
        bool alive = job->row.ended_ms != 0;
        for (size_t i = 0; i < msg->n_jobs && !alive; i++) {
            alive = msg->jobs[i].len == sizeof(job->id.b) &&
                    memcmp(msg->jobs[i].data, job->id.b, sizeof(job->id.b)) == 0;
        }
        if (!alive) {
            gcs_finish_job(gcs, job);
        }
    }
}

int
gcs_on_register_node(struct gcs *gcs, const struct step_in *in, struct step_outs *outs)
{
    const Ray__Gcs__RegisterNode *msg = in->msg;
    TRY(check_registration(msg));
    struct gcs_peer *peer = gcs_find_peer(gcs, in->peer);
    ASSERT(peer);
    if (!ID_IS_NIL(peer->worker)) {
        return st_fail(ST_PROTOCOL, "a worker registers as a node");
    }
    struct id_node id;
    (void)gcs_take_id(&msg->node_id, id.b, sizeof(id.b));
    struct gcs_node *node = gcs_find_node(gcs, &id);
    Ray__Gcs__RegisterNode slim = *msg;
    slim.n_actors = 0;
    slim.n_jobs = 0;
    Ray__Gcs__RegisterNode *info = gcs_copy_message(gcs, &slim.base);
    if (!node && info) {
        node = node_new(gcs, &id);
    }
    if (!node || !info) {
        gcs_free_message(gcs, info);
        gcs_emit_done(outs, in, ST_OUT_OF_MEMORY, "no memory for a node");
        return ST_OK;
    }
    gcs_free_message(gcs, node->info);
    node->info = info;
    node->alive = true;
    node->peer = in->peer;
    peer->node = node;
    gcs_emit_done(outs, in, ST_OK, NULL);
    reconcile_jobs(gcs, msg);
    reconcile_actors(gcs, node, msg);
    return ST_OK;
}
