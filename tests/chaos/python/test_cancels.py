# SPDX-License-Identifier: Apache-2.0
"""Many cancels of short tasks that are pipelined: only the named ones are ever interrupted."""

import os

from worlds import count


def test_only_the_named_task_is_interrupted(world, rng):
    """Who is interrupted tells its number outside, before the exception goes on its way."""
    path = os.path.join(world.path, "interrupted")
    code = """
    from ray.exceptions import TaskCancelledError
    rng = random.Random(argument["seed"])
    start(num_cpus=2)

    @ray.remote(max_retries=0)
    def short(number, path):
        try:
            end = time.perf_counter_ns() + 50_000
            while time.perf_counter_ns() < end:
                pass
            return number
        except KeyboardInterrupt:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.write(fd, b"%d\\n" % number)
            os.close(fd)
            raise

    path = argument["path"]
    ray.get([short.remote(-1, path) for _ in range(100)])  # now they are pushed in depth
    number, gone, named = 0, 0, set()
    while len(named) < argument["cancels"]:
        refs = {i: short.remote(i, path) for i in range(number, number + 500)}
        number += 500
        # From the front. In step with the replies they find tasks that run or are pushed; at once,
        # such as are queued.
        behind = rng.choice([0, 1, 2, 3, 5, 20])
        for i, ref in refs.items():
            if rng.random() < 0.6:
                if behind and i - behind in refs:
                    ray.wait([refs[i - behind]])
                ray.cancel(ref)
                named.add(i)
        for i, ref in refs.items():
            try:
                assert ray.get(ref) == i
            except TaskCancelledError:
                assert i in named, f"task {i} was cancelled by nobody"
                gone += 1
        say("batch")
    told = []
    if os.path.exists(path):
        with open(path) as lines:
            told = [int(line) for line in lines]
    assert len(told) == len(set(told)) and set(told) <= named
    ray.shutdown()
    say("end", cancels=len(named), tasks=number, cancelled=gone, running=len(told))
    """
    cancels = count(3000, 100_000)
    argument = {"seed": rng.getrandbits(32), "path": path, "cancels": cancels}
    driver = world.start(code, argument)
    heard = driver.hear()
    while heard["what"] == "batch":
        heard = driver.hear()
    assert heard["what"] == "end"
    print(heard)
    driver.finish()
