/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pi by throwing darts: sampling tasks in many processes, and an actor that they tell how far they
 * are, for a progress bar while they run.   monte_carlo_pi [samples of each of 100 tasks]
 */
#include <ray/ray.h>

#include <stdio.h>
#include <stdlib.h>

enum { TASKS = 100, REPORTS = 10, BAR = 32 };

/* The actor's constructor: its state is the number of reports so far. */
static int
progress(ray_task *task)
{
    ray_task_set_state(task, calloc(1, sizeof(uint64_t)));
    return ray_task_state(task) ? RAY_OK : RAY_E_OUT_OF_MEMORY;
}
RAY_REMOTE(progress);

/* The actor's method: adds some, and says how many there are. */
static int
report(ray_task *task)
{
    uint64_t more = 0, *reports = ray_task_state(task);
    ray_task_arg_copy(task, 0, &more, sizeof(more));
    *reports += more;
    return ray_task_return_bytes(task, 0, reports, sizeof(*reports));
}
RAY_REMOTE(report);

static void
check(int status)
{
    if (status != RAY_OK) {
        fprintf(stderr, "\n%s\n", ray_error_text());
        exit(1);
    }
}

/* The task: throws its darts, and tells the actor whose handle is in the argument. */
static int
sample(ray_task *task)
{
    uint64_t work[2] = { 0 }, inside = 0; /* a seed, and how many darts */
    ray_ref *handle = NULL, *answer = NULL;
    ray_actor *actor = NULL;
    ray_task_arg_copy(task, 0, work, sizeof(work));
    check(ray_value_ref(ray_task_arg(task, 0), 0, &handle));
    check(ray_actor_from_ref(handle, &actor));
    const uint64_t one = 1;
    for (uint64_t i = 0, x = work[0]; i < REPORTS; i++) {
        for (uint64_t n = work[1] * i / REPORTS; n < work[1] * (i + 1) / REPORTS; n++) {
            x = x * 6364136223846793005u + 1442695040888963407u;
            const double a = (double)(x >> 43) / 0x1p21, b = (double)(x << 21 >> 43) / 0x1p21;
            inside += a * a + b * b < 1;
        }
        check(ray_actor_call_bytes(actor, ray_remote_report, &one, sizeof(one), &answer));
        ray_ref_release(answer); /* nobody waits for it */
    }
    ray_actor_release(actor);
    ray_ref_release(handle);
    return ray_task_return_bytes(task, 0, &inside, sizeof(inside));
}
RAY_REMOTE(sample);

int
main(int argc, char **argv)
{
    ray_actor *actor = NULL;
    ray_ref *handle = NULL, *answer = NULL, *refs[TASKS];
    check(ray_init(argc, argv, NULL)); /* a worker never comes back from here */
    check(ray_actor_create(ray_remote_progress, NULL, NULL, 0, &actor));
    check(ray_actor_ref(actor, &handle));
    const uint64_t each = argc > 1 ? strtoull(argv[1], NULL, 10) : 10000000;
    for (uint64_t i = 0; i < TASKS; i++) {
        const uint64_t work[2] = { i * 0x9e3779b97f4a7c15u, each };
        const struct ray_buf buf = { work, sizeof(work) };
        const struct ray_arg arg = { .value = { &buf, 1, &handle, 1, 0 } };
        check(ray_task_submit(ray_remote_sample, NULL, &arg, 1, &refs[i]));
    }
    for (uint64_t done = 0, inside = 0, none = 0, i = 0; i < TASKS; ray_ref_release(refs[i++])) {
        uint64_t one = 0;
        check(ray_get_bytes(refs[i], -1, &one, sizeof(one)));
        inside += one;
        check(ray_actor_call_bytes(actor, ray_remote_report, &none, sizeof(none), &answer));
        check(ray_get_bytes(answer, -1, &done, sizeof(done)));
        ray_ref_release(answer);
        const int full = i + 1 < TASKS ? (int)(done * BAR / (TASKS * REPORTS)) : BAR;
        printf("\r[%-*.*s] pi is about %.6f ", BAR, full, "################################",
               4.0 * (double)inside / (double)((i + 1) * each));
        fflush(stdout);
    }
    printf("\n");
    ray_ref_release(handle);
    ray_actor_release(actor);
    return ray_shutdown();
}
