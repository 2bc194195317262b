/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A main for fuzz targets built without libFuzzer: gives the target the empty input and then every
 * file of each directory (or file) named on the command line, once, so that any compiler, sanitizer
 * or debugger can replay a corpus. A directory that isn't there yet counts as empty.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int
replay_file(const char *path, size_t size)
{
    FILE *file = fopen(path, "rbe");
    uint8_t *data = malloc(size ? size : 1);
    int failed = !file || !data || fread(data, 1, size, file) != size;
    if (failed) {
        fprintf(stderr, "fuzz_replay: can't read %s\n", path);
    } else {
        LLVMFuzzerTestOneInput(data, size);
    }
    free(data);
    if (file) {
        fclose(file);
    }
    return failed;
}

static int
replay(const char *path, size_t *count)
{
    struct stat st;
    if (stat(path, &st) != 0) {
        return 0;
    }
    if (!S_ISDIR(st.st_mode)) {
        (*count)++;
        return replay_file(path, (size_t)st.st_size);
    }
    DIR *dir = opendir(path);
    int failed = !dir;
    for (struct dirent *e = dir ? readdir(dir) : NULL; e; e = readdir(dir)) {
        char child[4096];
        if (e->d_name[0] != '.') {
            snprintf(child, sizeof(child), "%s/%s", path, e->d_name);
            failed |= replay(child, count);
        }
    }
    if (dir) {
        closedir(dir);
    }
    return failed;
}

int
main(int argc, char **argv)
{
    static const uint8_t nothing[1];
    size_t count = 0;
    int failed = 0;
    LLVMFuzzerTestOneInput(nothing, 0);
    for (int i = 1; i < argc; i++) {
        failed |= replay(argv[i], &count);
    }
    printf("replayed %zu inputs\n", count);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
