/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The smallest program with ray.h: a C function becomes a task, runs in another process, and its
 * value comes back. The program's own binary, started again, is the worker.
 */
#include <ray/ray.h>

#include <stdio.h>
#include <unistd.h>

static int
greet(ray_task *task)
{
    char name[32] = "", text[96];
    if (ray_task_arg_copy(task, 0, name, sizeof(name) - 1) < 0) {
        return RAY_E_INVALID_ARGUMENT;
    }
    const int size =
        snprintf(text, sizeof(text), "hello, %s, from process %d", name, (int)getpid());
    return ray_task_return_bytes(task, 0, text, (size_t)size);
}
RAY_REMOTE(greet);

static int
run(void)
{
    ray_ref *ref = NULL;
    ray_value *value = NULL;
    int status = ray_call_bytes(ray_remote_greet, "world", 5, &ref); /* returns at once */
    if (status == RAY_OK) {
        status = ray_get(ref, -1, &value); /* waits */
    }
    if (status == RAY_OK) {
        printf("%.*s\n", (int)ray_value_size(value), (const char *)ray_value_data(value));
    }
    ray_value_release(value);
    ray_ref_release(ref);
    return status;
}

int
main(int argc, char **argv)
{
    int status = ray_init(argc, argv, NULL); /* a worker never comes back from here */
    if (status == RAY_OK) {
        status = run();
    }
    if (status != RAY_OK) {
        fprintf(stderr, "%s\n", ray_error_text());
    }
    return ray_shutdown() != RAY_OK || status != RAY_OK;
}
