/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checker's runner: every model in both memory models with all its rules, then with each rule
 * switched off in turn. A rule whose absence breaks nothing is reported as a failure: either it
 * isn't needed, or the model doesn't exercise what it is for.
 */
#include "ilv.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static const char *const memory_names[] = { "sc", "weak" };
static struct ilv_result result; /* large, and one at a time */
static bool verbose;

static double
seconds_now(void)
{
    struct timespec now;

    timespec_get(&now, TIME_UTC);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Sufficient: with all rules no schedule breaks anything. */
static bool
check_whole(const struct ilv_model *model, enum ilv_memory memory)
{
    const double begin = seconds_now();

    ilv_search(model, memory, NULL, &result);
    const bool good = !result.violated && !result.incomplete;

    printf("  %-4s %9llu states %10llu steps %9.3g schedules %6.2f s  %s\n", memory_names[memory],
           (unsigned long long)result.states, (unsigned long long)result.steps, result.schedules,
           seconds_now() - begin, good ? "no violation" : "FAILED");
    if (!good) {
        printf("    %s: %s\n%s", result.violated ? "violation" : "gave up", result.text,
               result.violated ? result.trace : "");
    }
    return good;
}

/* Needed: without this rule some schedule does. */
static bool
check_rule(const struct ilv_model *model, const struct ilv_rule *rule)
{
    const unsigned last = model->sc_only ? ILV_SC : ILV_WEAK;

    for (unsigned memory = ILV_SC; memory <= last; memory++) {
        ilv_search(model, (enum ilv_memory)memory, rule->name, &result);
        if (result.violated) {
            printf("  without %-28s %-4s violation: %s\n", rule->name, memory_names[memory],
                   result.text);
            if (verbose) {
                printf("    (%s)\n%s", rule->why, result.trace);
            }
            return true;
        }
        if (result.incomplete) {
            printf("  without %-28s %-4s gave up: %s\n", rule->name, memory_names[memory],
                   result.text);
        }
    }
    printf("  without %-28s FAILED: no violation found (%s)\n", rule->name, rule->why);
    return false;
}

static bool
check_model(const struct ilv_model *model)
{
    bool good = true;

    printf("%s: %s\n", model->name, model->about);
    good &= check_whole(model, ILV_SC);
    if (!model->sc_only) {
        good &= check_whole(model, ILV_WEAK);
    }
    for (const struct ilv_rule *rule = model->rules; rule->name; rule++) {
        good &= check_rule(model, rule);
    }
    fflush(stdout);
    return good;
}

int
ilv_main(int argc, char **argv, const struct ilv_model *const *models, unsigned n_models)
{
    const char *only = NULL;
    bool good = true;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-v") == 0) {
            verbose = true;
        } else if (strcmp(argv[i], "-m") == 0 && i + 1 < argc) {
            only = argv[++i];
        } else {
            fprintf(stderr, "usage: %s [-v] [-m model]\n", argv[0]);
            return 2;
        }
    }
    for (unsigned i = 0; i < n_models; i++) {
        if (!only || strcmp(only, models[i]->name) == 0) {
            good &= check_model(models[i]);
        }
    }
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
