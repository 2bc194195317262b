/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ray-sim: plays histories of the simulated worlds and reports the first broken invariant.
 *
 *   ray-sim --world own --seeds 10000       kept seeds first, then 10,000 from --first-seed on
 *   ray-sim --world own --seed 77 --trace   one history, told in full
 *   ray-sim --breaks --seeds 10000          over connections that break and go on
 *   ray-sim --world own --mutations         switches off one rule at a time: each must be noticed
 *
 * Exit status 0: all is well; 1: an invariant broke (or a mutation went unnoticed); 2: wrong usage.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

struct options {
    const char *world;    /* "all" or a name */
    const char *seed_dir; /* kept seeds: <dir>/<world>.txt */
    const char *mutate;   /* one rule to switch off, NULL none */
    uint64_t first_seed, seeds, seed;
    bool single, trace, mutations, keep, breaks;
};

enum { TAIL_LINES = 80, KEPT_MAX = 4096 };

static void
usage(void)
{
    fputs("usage: ray-sim [--world NAME|all] [--seeds N] [--first-seed S] [--seed X] [--trace]\n"
          "               [--seed-dir DIR] [--keep] [--breaks] [--mutate RULE] [--mutations]\n"
          "worlds:",
          stderr);
    for (uint32_t i = 0; sim_worlds[i]; i++) {
        fprintf(stderr, " %s", sim_worlds[i]->name);
    }
    fputc('\n', stderr);
}

static bool
number(const char *text, uint64_t *out)
{
    char *end;
    *out = strtoull(text, &end, 0);
    return *text != '\0' && *end == '\0';
}

static int
parse(int argc, char **argv, struct options *o)
{
    static const struct option names[] = {
        { "world", required_argument, NULL, 'w' },
        { "seeds", required_argument, NULL, 'n' },
        { "first-seed", required_argument, NULL, 'f' },
        { "seed", required_argument, NULL, 's' },
        { "seed-dir", required_argument, NULL, 'd' },
        { "mutate", required_argument, NULL, 'm' },
        { "mutations", no_argument, NULL, 'M' },
        { "trace", no_argument, NULL, 't' },
        { "keep", no_argument, NULL, 'k' },
        { "breaks", no_argument, NULL, 'b' },
        { NULL, 0, NULL, 0 },
    };
    bool good = true;
    int c;
    while (good && (c = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (c) {
        case 'w':
            o->world = optarg;
            break;
        case 'n':
            good = number(optarg, &o->seeds);
            break;
        case 'f':
            good = number(optarg, &o->first_seed);
            break;
        case 's':
            good = o->single = number(optarg, &o->seed);
            break;
        case 'd':
            o->seed_dir = optarg;
            break;
        case 'm':
            o->mutate = optarg;
            break;
        case 'M':
            o->mutations = true;
            break;
        case 't':
            o->trace = true;
            break;
        case 'k':
            o->keep = true;
            break;
        case 'b':
            o->breaks = true;
            break;
        default:
            good = false;
        }
    }
    return good && optind == argc ? 0 : -1;
}

/* The bit of a rule's name; 0 when the world has no such rule. */
static uint32_t
mutation_bit(const struct sim_world *world, const char *name)
{
    for (uint32_t i = 0; world->mutations && world->mutations[i]; i++) {
        if (strcmp(world->mutations[i], name) == 0) {
            return UINT32_C(1) << i;
        }
    }
    return 0;
}

/* Plays it again with a trace and prints the end of that. */
static void
print_tail(const struct sim_world *world, struct sim_play how)
{
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    if (!stream) {
        return;
    }
    struct sim_result result;
    how.trace = stream;
    sim_run(world, &how, &result);
    fclose(stream);
    size_t start = size;
    for (uint32_t lines = 0; start > 0; start--) {
        if (text[start - 1] == '\n' && ++lines > TAIL_LINES) {
            break;
        }
    }
    fwrite(text + start, 1, size - start, stdout);
    free(text);
}

static void
seeds_path(const struct options *o, const struct sim_world *world, char *path, size_t size)
{
    snprintf(path, size, "%s/%s%s.txt", o->seed_dir, world->name, o->breaks ? "-breaks" : "");
}

static void
keep_seed(const struct options *o, const struct sim_world *world, uint64_t seed)
{
    char path[1024];
    seeds_path(o, world, path, sizeof(path));
    FILE *f = fopen(path, "a");
    if (f) {
        fprintf(f, "%" PRIu64 "\n", seed);
        fclose(f);
    }
}

/* One history; prints what went wrong. */
static bool
play_one(const struct options *o, const struct sim_world *world, uint64_t seed, uint64_t *steps)
{
    const struct sim_play how = {
        .seed = seed,
        .breaks = o->breaks,
        .mutations = o->mutate ? mutation_bit(world, o->mutate) : 0,
        .trace = o->trace ? stdout : NULL,
    };
    struct sim_result result;
    sim_run(world, &how, &result);
    *steps += result.steps;
    if (!result.failed) {
        return true;
    }
    if (!o->trace) {
        print_tail(world, how);
    }
    printf("world %s, seed %" PRIu64 ": %s\nreplay: ray-sim --world %s --seed %" PRIu64
           " --trace%s\n",
           world->name, seed, result.text, world->name, seed, o->breaks ? " --breaks" : "");
    if (o->keep) {
        keep_seed(o, world, seed);
    }
    return false;
}

/* The seeds that once failed. */
static uint32_t
kept_seeds(const struct options *o, const struct sim_world *world, uint64_t *seeds)
{
    char line[128];
    char path[1024];
    seeds_path(o, world, path, sizeof(path));
    FILE *f = fopen(path, "r");
    uint32_t count = 0;
    while (f && count < KEPT_MAX && fgets(line, sizeof(line), f)) {
        char *end;
        const uint64_t seed = strtoull(line, &end, 0);
        if (end != line) {
            seeds[count++] = seed;
        }
    }
    if (f) {
        fclose(f);
    }
    return count;
}

static bool
play_many(const struct options *o, const struct sim_world *world)
{
    uint64_t steps = 0;
    if (o->single) {
        return play_one(o, world, o->seed, &steps);
    }
    static uint64_t kept[KEPT_MAX];
    const uint32_t kept_count = kept_seeds(o, world, kept);
    for (uint32_t i = 0; i < kept_count; i++) {
        if (!play_one(o, world, kept[i], &steps)) {
            return false;
        }
    }
    for (uint64_t i = 0; i < o->seeds; i++) {
        if (!play_one(o, world, o->first_seed + i, &steps)) {
            return false;
        }
    }
    printf("world %s%s: %u kept and %" PRIu64 " seeds from %" PRIu64 ", %" PRIu64
           " steps: all hold\n",
           world->name, o->breaks ? " over connections that break" : "", kept_count, o->seeds,
           o->first_seed, steps);
    return true;
}

/* Each rule, switched off alone, must break an invariant within the seeds given. */
static bool
try_mutations(const struct options *o, const struct sim_world *world)
{
    static uint64_t kept[KEPT_MAX];
    const uint32_t kept_count = kept_seeds(o, world, kept);
    bool all = true;
    for (uint32_t i = 0; world->mutations && world->mutations[i]; i++) {
        struct sim_result result = { 0 };
        uint64_t seed = 0;
        for (uint64_t k = 0; !result.failed && k < kept_count + o->seeds; k++) {
            seed = k < kept_count ? kept[k] : o->first_seed + k - kept_count;
            const struct sim_play how = { .seed = seed,
                                          .breaks = o->breaks,
                                          .mutations = UINT32_C(1) << i };
            sim_run(world, &how, &result);
        }
        if (result.failed) {
            printf("world %s without %s: noticed by seed %" PRIu64 ": %s\n", world->name,
                   world->mutations[i], seed, result.text);
        } else {
            printf("world %s without %s: NOT NOTICED in %" PRIu64 " seeds\n", world->name,
                   world->mutations[i], o->seeds);
            all = false;
        }
    }
    return all;
}

int
main(int argc, char **argv)
{
    struct options o = { .world = "all", .seed_dir = "sim/seeds", .first_seed = 1, .seeds = 1000 };
    if (parse(argc, argv, &o)) {
        usage();
        return 2;
    }
    bool found = false;
    bool good = true;
    for (uint32_t i = 0; sim_worlds[i]; i++) {
        const struct sim_world *world = sim_worlds[i];
        if (strcmp(o.world, "all") != 0 && strcmp(o.world, world->name) != 0) {
            continue;
        }
        if (o.mutate && !mutation_bit(world, o.mutate)) {
            continue;
        }
        found = true;
        good = (o.mutations ? try_mutations(&o, world) : play_many(&o, world)) && good;
    }
    if (!found) {
        usage();
        return 2;
    }
    return good ? 0 : 1;
}
