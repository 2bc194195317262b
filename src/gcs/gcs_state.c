/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables as JSON, in the shapes that Ray's users know: nodes, cluster_resources, actors, jobs.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/res.h"
#include "base/str.h"
#include "gcs/gcs_priv.h"
#include "proto/kinds.h"

/* Appends a JSON string; bytes that aren't ASCII text are escaped or passed on as they are. */
static void
put_text(struct str *out, const char *text)
{
    str_append(out, "\"", 1);
    for (const char *p = text; *p; p++) {
        const unsigned char c = (unsigned char)*p;
        if (c == '"' || c == '\\') {
            const char two[2] = { '\\', *p };
            str_append(out, two, 2);
        } else if (c < 0x20 || c == 0x7f) {
            str_printf(out, "\\u%04x", c);
        } else {
            str_append(out, p, 1);
        }
    }
    str_append(out, "\"", 1);
}

static void
put_key(struct str *out, const char *key)
{
    put_text(out, key);
    str_append(out, ": ", 2);
}

static void
put_text_field(struct str *out, const char *key, const char *text)
{
    put_key(out, key);
    put_text(out, text);
    str_append(out, ", ", 2);
}

static void
put_hex_field(struct str *out, const char *key, const void *bytes, size_t size)
{
    char hex[ID_HEX_MAX];
    put_text_field(out, key, size <= sizeof(struct id_object) ? id_hex(bytes, size, hex) : "");
}

static void
put_number_field(struct str *out, const char *key, int64_t number)
{
    put_key(out, key);
    str_printf(out, "%" PRId64 ", ", number);
}

static void
put_bool_field(struct str *out, const char *key, bool value)
{
    put_key(out, key);
    str_printf(out, "%s, ", value ? "true" : "false");
}

/* Amounts with at most four decimals and at least one: 2.0, 0.5, 1.0E10 isn't used. */
static void
put_amount(struct str *out, int64_t amount)
{
    const int64_t whole = amount / RES_UNIT;
    int64_t part = amount % RES_UNIT;
    part = part < 0 ? -part : part;
    str_printf(out, "%s%" PRId64 ".", amount < 0 && whole == 0 ? "-" : "", whole);
    int digits = 4;
    while (digits > 1 && part % 10 == 0) {
        part /= 10;
        digits--;
    }
    str_printf(out, "%0*" PRId64, digits, part);
}

static void
put_resources(struct str *out, const Ray__Gcs__RegisterNode *info)
{
    str_append(out, "{", 1);
    for (size_t i = 0; i < info->n_resources; i++) {
        if (i > 0) {
            str_append(out, ", ", 2);
        }
        put_key(out, info->resources[i]->name);
        put_amount(out, info->resources[i]->amount);
    }
    str_append(out, "}", 1);
}

static void
put_node(struct str *out, const struct gcs_node *node)
{
    const Ray__Gcs__RegisterNode *info = node->info;
    str_append(out, "{", 1);
    put_hex_field(out, "NodeID", node->id.b, sizeof(node->id.b));
    put_bool_field(out, "Alive", node->alive);
    put_text_field(out, "NodeManagerAddress", info->node_ip);
    put_text_field(out, "NodeManagerHostname", info->node_name);
    put_number_field(out, "NodeManagerPort", 0);
    put_number_field(out, "ObjectManagerPort", 0);
    put_text_field(out, "ObjectStoreSocketName", info->raylet_socket);
    put_text_field(out, "RayletSocketName", info->raylet_socket);
    put_number_field(out, "MetricsExportPort", 0);
    put_text_field(out, "NodeName", info->node_ip);
    put_number_field(out, "RuntimeEnvAgentPort", 0);
    put_text_field(out, "DeathReason", "UNSPECIFIED");
    put_text_field(out, "DeathReasonMessage", "");
    put_bool_field(out, "alive", node->alive);
    put_key(out, "Resources");
    put_resources(out, info);
    str_append(out, ", ", 2);
    put_key(out, "Labels");
    str_append(out, "{", 1);
    put_key(out, "ray.io/node-id");
    char hex[ID_HEX_MAX];
    put_text(out, ID_HEX(node->id, hex));
    str_append(out, "}}", 2);
}

static void
put_nodes(const struct gcs *gcs, struct str *out)
{
    str_append(out, "[", 1);
    bool first = true;
    LIST_FOR (l, &gcs->node_list) {
        if (!first) {
            str_append(out, ", ", 2);
        }
        first = false;
        put_node(out, LIST_ENTRY(l, struct gcs_node, all));
    }
    str_append(out, "]", 1);
}

/* What a living node has of a resource, -1 for none. */
static int64_t
amount_on(const struct gcs_node *node, const char *name)
{
    for (size_t i = 0; node->alive && i < node->info->n_resources; i++) {
        if (strcmp(node->info->resources[i]->name, name) == 0) {
            return node->info->resources[i]->amount;
        }
    }
    return -1;
}

/* The sum over all living nodes; -1 when a node before `here` has it too: then it has been told. */
static int64_t
amount_from(const struct gcs *gcs, const struct gcs_node *here, const char *name)
{
    int64_t sum = 0;
    bool before = true;
    LIST_FOR (l, &gcs->node_list) {
        const struct gcs_node *node = LIST_ENTRY(l, struct gcs_node, all);
        before = before && node != here;
        const int64_t amount = amount_on(node, name);
        if (before && amount >= 0) {
            return -1;
        }
        sum += amount > 0 ? amount : 0;
    }
    return sum;
}

static void
put_cluster_resources(const struct gcs *gcs, struct str *out)
{
    str_append(out, "{", 1);
    bool first = true;
    LIST_FOR (l, &gcs->node_list) {
        const struct gcs_node *node = LIST_ENTRY(l, struct gcs_node, all);
        for (size_t i = 0; node->alive && i < node->info->n_resources; i++) {
            const char *name = node->info->resources[i]->name;
            const int64_t sum = amount_from(gcs, node, name);
            if (sum >= 0) {
                str_append(out, ", ", first ? 0 : 2);
                first = false;
                put_key(out, name);
                put_amount(out, sum);
            }
        }
    }
    str_append(out, "}", 1);
}

static const char *
state_text(Ray__Gcs__ActorState state)
{
    const ProtobufCEnumValue *value =
        protobuf_c_enum_descriptor_get_value(&ray__gcs__actor_state__descriptor, (int)state);
    return value ? value->name : "UNKNOWN";
}

static void
put_actor(struct str *out, const struct gcs_actor *actor)
{
    const Ray__Gcs__ActorRow *row = &actor->row;
    const bool dead = row->state == RAY__GCS__ACTOR_STATE__DEAD;
    str_append(out, "{", 1);
    put_hex_field(out, "ActorID", actor->id.b, sizeof(actor->id.b));
    put_text_field(out, "ActorClassName", row->spec->class_name);
    put_bool_field(out, "IsDetached", row->spec->detached);
    put_text_field(out, "Name", row->spec->name);
    put_text_field(out, "Namespace", row->spec->actor_namespace);
    put_hex_field(out, "JobID", row->spec->job_id.data, row->spec->job_id.len);
    put_hex_field(out, "NodeID", row->node_id.data, row->node_id.len);
    put_hex_field(out, "WorkerID", row->worker_id.data, row->worker_id.len);
    put_text_field(out, "State", state_text(row->state));
    put_number_field(out, "NumRestarts", (int64_t)row->restarts);
    put_number_field(out, "StartTime", (int64_t)row->started_ms);
    put_number_field(out, "EndTime", (int64_t)row->ended_ms);
    put_text_field(out, "DeathCause", dead ? row->reason : "");
    put_key(out, "Pid");
    str_printf(out, "%d}", row->pid);
}

static void
put_actors(const struct gcs *gcs, struct str *out)
{
    str_append(out, "[", 1);
    bool first = true;
    struct map_walk walk;
    map_walk_init(&walk);
    for (struct map_link *l = map_walk_next(&gcs->actors, &walk); l;
         l = map_walk_next(&gcs->actors, &walk)) {
        const struct gcs_actor *actor = CONTAINER_OF(l, struct gcs_actor, by_id);
        if (actor->known) {
            if (!first) {
                str_append(out, ", ", 2);
            }
            first = false;
            put_actor(out, actor);
        }
    }
    str_append(out, "]", 1);
}

static void
put_jobs(const struct gcs *gcs, struct str *out)
{
    str_append(out, "[", 1);
    bool first = true;
    LIST_FOR (l, &gcs->job_list) {
        const struct gcs_job *job = LIST_ENTRY(l, struct gcs_job, all);
        if (!first) {
            str_append(out, ", ", 2);
        }
        first = false;
        str_append(out, "{", 1);
        put_hex_field(out, "JobID", job->id.b, sizeof(job->id.b));
        put_text_field(out, "Namespace", job->row.job_namespace);
        put_number_field(out, "DriverPid", job->row.driver_pid);
        put_number_field(out, "StartTime", (int64_t)job->row.started_ms);
        put_number_field(out, "EndTime", (int64_t)job->row.ended_ms);
        put_bool_field(out, "IsDead", job->row.ended_ms != 0);
        put_key(out, "Entrypoint");
        put_text(out, job->row.entrypoint);
        str_append(out, "}", 1);
    }
    str_append(out, "]", 1);
}

int
gcs_on_state_ask(struct gcs *gcs, const struct step_in *in, struct step_outs *outs)
{
    const Ray__Gcs__GcsStateAsk *msg = in->msg;
    static const struct {
        const char *what;
        void (*put)(const struct gcs *gcs, struct str *out);
    } tables[] = {
        { "nodes", put_nodes },
        { "cluster_resources", put_cluster_resources },
        { "actors", put_actors },
        { "jobs", put_jobs },
    };
    Ray__Gcs__StateJson *m =
        gcs_emit(outs, GCS_STATE_JSON, in->peer, in->payload, &ray__gcs__state_json__descriptor);
    if (!m) {
        return ST_OK;
    }
    m->status = ST_NOT_FOUND;
    for (size_t i = 0; i < COUNT_OF(tables); i++) {
        if (strcmp(tables[i].what, msg->what) == 0) {
            struct str text;
            str_init(&text, gcs->mem);
            tables[i].put(gcs, &text);
            m->json = text.failed ? NULL : arena_copy(outs->arena, str_text(&text), text.size + 1);
            m->status = m->json ? ST_OK : ST_OUT_OF_MEMORY;
            str_fini(&text);
            break;
        }
    }
    if (!m->json) {
        m->json = (char *)(uintptr_t)protobuf_c_empty_string;
    }
    return ST_OK;
}
