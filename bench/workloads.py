# SPDX-License-Identifier: Apache-2.0
"""The local workloads, against Ray's public API only: the same file runs under ray-c and Ray.

    python workloads.py --list
    python workloads.py --only "tasks sync" --rounds 2
    python workloads.py --quick

The names are those of `ray microbenchmark` where it has the workload.  Two differences: "n" is at
least 2 even where half of the processors is 1, and arrays are of 80 and 800 million bytes exactly.
Its workloads for out-of-scope callbacks are not here, since they have no public API.
Each workload gets a runtime of its own, started by a plain `ray.init()`; those marked `alone` start
what they need themselves, and run.py measures those marked `once` in one round only.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import uuid

import measure
import processes

REGISTRY = measure.Registry()
workload = REGISTRY.workload

SMALL = b"ok"
PROBE_S = 30
READY_S = 120


def start():
    """Brings up a runtime whose first worker has already answered."""
    global ray
    import ray

    ray.init()
    ray.get(small_task().remote(), timeout=READY_S)


def stop():
    ray.shutdown()


def numpy():
    try:
        import numpy as np
    except ImportError:
        raise measure.Skip("NumPy is not installed for this interpreter") from None
    return np


# What the workloads are made of ------------------------------------------------------------------


def small_task():
    @ray.remote
    def small_value():
        return b"ok"

    return small_value


def actor_class(**options):
    @ray.remote(num_cpus=0, **options)
    class Actor:
        def small_value(self):
            return b"ok"

        def small_value_arg(self, _value):
            return b"ok"

    return Actor


def task_client_class():
    @ray.remote
    def small_value():
        return b"ok"

    @ray.remote(num_cpus=0)
    class TaskClient:
        def small_value_batch(self, count):
            ray.get([small_value.remote() for _ in range(count)])

    return TaskClient


def async_actor_class():
    @ray.remote(num_cpus=0)
    class AsyncActor:
        async def small_value(self):
            return b"ok"

        async def small_value_arg(self, _value):
            return b"ok"

    return AsyncActor


def client_class():
    @ray.remote(num_cpus=0)
    class Client:
        def __init__(self, servers):
            self.servers = servers

        def ready(self):
            return True

        def small_value_batch(self, count):
            refs = []
            for server in self.servers:
                refs.extend([server.small_value.remote() for _ in range(count)])
            ray.get(refs)

        def small_value_batch_arg(self, count):
            value = ray.put(0)
            refs = []
            for server in self.servers:
                refs.extend([server.small_value_arg.remote(value) for _ in range(count)])
            ray.get(refs)

    return Client


def ready_actors(actor, count, feature=None):
    """That many actors, each of which has answered; a missing feature skips the workload."""
    try:
        actors = [actor.remote() for _ in range(count)]
        answers = ray.get([each.small_value.remote() for each in actors], timeout=PROBE_S)
    except Exception as error:
        if feature is None:
            raise
        raise measure.Skip("no %s: %s" % (feature, str(error).splitlines()[:1])) from error
    if answers != [SMALL] * count:
        raise measure.Skip("no %s: it answered %r" % (feature or "actor", answers[:1]))
    return actors


# Objects -----------------------------------------------------------------------------------------


@workload("single client get calls (Plasma Store)")
def get_calls(bench):
    ref = ray.put(0)
    bench.rate(lambda: ray.get(ref), 1)


@workload("single client put calls (Plasma Store)")
def put_calls(bench):
    bench.rate(lambda: ray.put(0), 1)


@workload("multi client put calls (Plasma Store)")
def multi_put_calls(bench):
    @ray.remote
    def put_small():
        for _ in range(100):
            ray.put(0)

    bench.rate(lambda: ray.get([put_small.remote() for _ in range(10)]), 1000)


@workload("single client put gigabytes")
def put_gigabytes(bench):
    array = numpy().zeros(100_000_000, dtype="int64")
    bench.rate(lambda: ray.put(array), 0.8, "GB/s")


@workload("single client put gigabytes, written source")
def put_gigabytes_written(bench):
    array = numpy().ones(100_000_000, dtype="int64")
    bench.rate(lambda: ray.put(array), 0.8, "GB/s")


@workload("multi client put gigabytes")
def multi_put_gigabytes(bench):
    numpy()

    @ray.remote
    def put_large():
        import numpy as np

        for _ in range(10):
            ray.put(np.zeros(10_000_000, dtype=np.int64))

    bench.rate(lambda: ray.get([put_large.remote() for _ in range(10)]), 8.0, "GB/s")


@workload("single client get object containing 10k refs")
def get_containing_refs(bench):
    count = bench.size(10_000)

    @ray.remote
    def make(size):
        return [ray.put(1) for _ in range(size)]

    outer = make.remote(count)

    def step():
        if len(ray.get(outer)) != count:
            raise RuntimeError("references were lost")

    bench.rate(step, count / 10_000, "gets/s")


@workload("single client wait 1k refs")
def wait_refs(bench):
    task = small_task()

    def step():
        pending = [task.remote() for _ in range(1000)]
        fetch = True
        while pending:
            _ready, pending = ray.wait(pending, fetch_local=fetch)
            fetch = False

    bench.rate(step, 1, "rounds/s")


# Tasks -------------------------------------------------------------------------------------------


@workload("single client tasks and get batch")
def tasks_and_get_batch(bench):
    task = small_task()
    bench.rate(lambda: ray.get([task.remote() for _ in range(1000)]), 1, "batches/s")


@workload("single client tasks sync")
def tasks_sync(bench):
    task = small_task()
    bench.rate(lambda: ray.get(task.remote()), 1)


@workload("single client tasks async")
def tasks_async(bench):
    task = small_task()
    bench.rate(lambda: ray.get([task.remote() for _ in range(1000)]), 1000)


@workload("multi client tasks async")
def multi_tasks_async(bench):
    count = bench.size(10_000)
    actor = task_client_class()
    clients = [actor.remote() for _ in range(4)]
    ray.get([client.small_value_batch.remote(1) for client in clients])
    bench.rate(
        lambda: ray.get([client.small_value_batch.remote(count) for client in clients]), 4 * count
    )


# Actor calls -------------------------------------------------------------------------------------


def calls_sync(bench, actor):
    bench.rate(lambda: ray.get(actor.small_value.remote()), 1)


def calls_async(bench, actor):
    bench.rate(lambda: ray.get([actor.small_value.remote() for _ in range(1000)]), 1000)


def calls_one_to_many(bench, servers):
    count = bench.size(5000)
    client = client_class().remote(servers)
    ray.get(client.ready.remote())
    bench.rate(lambda: ray.get(client.small_value_batch.remote(count)), count * len(servers))


def calls_many_to_many(bench, servers):
    count = bench.size(5000)

    @ray.remote
    def work(actors):
        ray.get([actors[i % len(actors)].small_value.remote() for i in range(count)])

    bench.rate(lambda: ray.get([work.remote(servers) for _ in range(4)]), 4 * count)


@workload("1:1 actor calls sync")
def actor_sync(bench):
    calls_sync(bench, ready_actors(actor_class(), 1)[0])


@workload("1:1 actor calls async")
def actor_async(bench):
    calls_async(bench, ready_actors(actor_class(), 1)[0])


@workload("1:1 actor calls concurrent")
def actor_concurrent(bench):
    try:
        actor = actor_class(max_concurrency=16)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise measure.Skip("no max_concurrency: %s" % error) from error
    calls_async(bench, ready_actors(actor, 1, "max_concurrency")[0])


@workload("1:n actor calls async")
def actor_one_to_many(bench):
    calls_one_to_many(bench, ready_actors(actor_class(), bench.many))


@workload("n:n actor calls async")
def actor_many_to_many(bench):
    calls_many_to_many(bench, ready_actors(actor_class(), bench.many))


@workload("n:n actor calls with arg async")
def actor_many_with_arg(bench):
    count = bench.size(1000)
    client = client_class()
    clients = [client.remote([server]) for server in ready_actors(actor_class(), bench.many)]
    ray.get([each.ready.remote() for each in clients])
    bench.rate(
        lambda: ray.get([each.small_value_batch_arg.remote(count) for each in clients]),
        count * len(clients),
    )


@workload("1:1 async-actor calls sync")
def async_actor_sync(bench):
    calls_sync(bench, ready_actors(async_actor_class(), 1, "async actors")[0])


@workload("1:1 async-actor calls async")
def async_actor_async(bench):
    calls_async(bench, ready_actors(async_actor_class(), 1, "async actors")[0])


@workload("1:1 async-actor calls with args async")
def async_actor_args(bench):
    actor = ready_actors(async_actor_class(), 1, "async actors")[0]
    bench.rate(lambda: ray.get([actor.small_value_arg.remote(i) for i in range(1000)]), 1000)


@workload("1:n async-actor calls async")
def async_one_to_many(bench):
    calls_one_to_many(bench, ready_actors(async_actor_class(), bench.many, "async actors"))


@workload("n:n async-actor calls async")
def async_many_to_many(bench):
    calls_many_to_many(bench, ready_actors(async_actor_class(), bench.many, "async actors"))


# Queues and generators ---------------------------------------------------------------------------


@workload("Queue: put, one by one")
def queue_put(bench):
    queue = new_queue()

    def step():
        for _ in range(100):
            queue.put(SMALL)
        if len(queue.get_nowait_batch(100)) != 100:
            raise RuntimeError("items were lost")

    bench.rate(step, 100, "items/s")


@workload("Queue: put and get, one by one")
def queue_put_and_get(bench):
    queue = new_queue()

    def step():
        queue.put(SMALL)
        queue.get()

    bench.rate(step, 1, "pairs/s")


@workload("Queue: get in one task, put in another")
def queue_between_tasks(bench):
    queue = new_queue()

    @ray.remote
    def put(count):
        for i in range(count):
            queue.put(i)

    @ray.remote
    def get(count):
        return sum(queue.get() for _ in range(count))

    def step():
        total, _none = ray.get([get.remote(1000), put.remote(1000)])
        if total != sum(range(1000)):
            raise RuntimeError("items were lost")

    bench.rate(step, 1000, "items/s")


def new_queue():
    from ray.util.queue import Queue

    queue = Queue()
    queue.put(SMALL)
    queue.get()
    return queue


ITEMS = 5000


def read_all(generator, count):
    total = 0
    for ref in generator:
        total += ray.get(ref)
    if total != sum(range(count)):
        raise RuntimeError("items were lost")


@workload("streamed items of a task")
def streamed_items_of_a_task(bench):
    @ray.remote(num_returns="streaming")
    def count_up(count):
        for i in range(count):  # Ray can't send into the iterator of a range
            yield i

    bench.rate(lambda: read_all(count_up.remote(ITEMS), ITEMS), ITEMS, "items/s")


@workload("streamed items of an actor")
def streamed_items_of_an_actor(bench):
    @ray.remote
    class Source:
        def count_up(self, count):
            for i in range(count):
                yield i

    source = Source.remote()
    step = source.count_up.options(num_returns="streaming")
    bench.rate(lambda: read_all(step.remote(ITEMS), ITEMS), ITEMS, "items/s")


@workload("streamed items of an async actor")
def streamed_items_of_an_async_actor(bench):
    @ray.remote
    class Source:
        async def count_up(self, count):
            for i in range(count):
                yield i

    source = Source.remote()
    step = source.count_up.options(num_returns="streaming")
    bench.rate(lambda: read_all(step.remote(ITEMS), ITEMS), ITEMS, "items/s")


# Many of a thing on one node ---------------------------------------------------------------------


@workload("10,000 object arguments to one task")
def many_arguments(bench):
    count = bench.size(10_000)

    @ray.remote
    def add_up(*lists):
        return sum(map(sum, lists))

    def step():
        begin = time.perf_counter()
        refs = [ray.put([1] * 10_000) for _ in range(count)]
        if ray.get(add_up.remote(*refs)) != count * 10_000:
            raise RuntimeError("arguments were lost")
        return time.perf_counter() - begin

    bench.durations("10,000 object arguments to one task", step, count=1)


@workload("3,000 returns from one task")
def many_returns(bench):
    count = bench.size(3000)

    @ray.remote(num_returns=count)
    def many():
        return tuple([i] * 10_000 for i in range(count))

    def step():
        begin = time.perf_counter()
        refs = many.remote()
        refs = refs if isinstance(refs, list) else [refs]
        for i, ref in enumerate(refs):
            value = ray.get(ref)
            if count > 1 and (len(value) != 10_000 or value[0] != i):
                raise RuntimeError("return %d is wrong" % i)
        return time.perf_counter() - begin

    bench.durations("3,000 returns from one task", step, count=1)


@workload("one get of 10,000 stored objects")
def get_many_stored(bench):
    np = numpy()
    count = bench.size(10_000)
    begin = time.perf_counter()
    refs = [ray.put(np.full(16_384, i, dtype=np.int64)) for i in range(count)]
    put_s = time.perf_counter() - begin

    def step():
        begin = time.perf_counter()
        arrays = ray.get(refs)
        took_s = time.perf_counter() - begin
        for i, array in enumerate(arrays):
            if array[0] != i or array[-1] != i:
                raise RuntimeError("object %d is wrong" % i)
        return took_s

    bench.durations("one get of 10,000 stored objects", step)
    bench.report("one get of 10,000 stored objects: putting them", put_s, "s", better="lower")


def time_new_actor(bench, name):
    """How long a new actor takes to answer while tasks are queued."""
    actor = actor_class()
    begin = time.perf_counter()
    handle = actor.remote()
    ray.get(handle.small_value.remote(), timeout=300)
    bench.report(name, time.perf_counter() - begin, "s", better="lower")


@workload("1,000,000 queued tasks", once=True)
def queued_tasks(bench):
    name = bench.workload
    count = bench.size(1_000_000)

    @ray.remote
    def hold(path):
        # A wait that the runtime can not see, so that the processor stays taken.
        while os.path.exists(path):
            time.sleep(0.02)

    @ray.remote
    def nothing():
        return None

    with tempfile.TemporaryDirectory(prefix="ray-bench-") as folder:
        path = os.path.join(folder, "held")
        open(path, "w").close()
        try:
            holders = [hold.remote(path) for _ in range(int(ray.cluster_resources()["CPU"]))]
            begin = time.perf_counter()
            refs = [nothing.remote() for _ in range(count)]
            submitted = time.perf_counter()
            time_new_actor(bench, name + ": a new actor answers while they wait")
        finally:
            os.unlink(path)
        released = time.perf_counter()
        time_new_actor(bench, name + ": a new actor answers while they run")
        for at in range(0, count, 10_000):
            ray.get(refs[at : at + 10_000])
        end = time.perf_counter()
        ray.get(holders)
    bench.report(name, count / ((submitted - begin) + (end - released)), "tasks/s")
    bench.report(name + ": submitting", count / (submitted - begin), "tasks/s")
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    bench.report(name + ": the driver's memory", memory_mb, "MB", better="lower")


# Starting ----------------------------------------------------------------------------------------

FIRST_RESULT = """
import time
begin = time.perf_counter()
import ray
imported = time.perf_counter()
@ray.remote
def first():
    return 1
assert ray.get(first.remote()) == 1
got = time.perf_counter()
ray.shutdown()
print("BENCH", imported - begin, got - begin, time.perf_counter() - got)
"""

IMPORT_ONLY = """
import time
begin = time.perf_counter()
import ray
print("BENCH", time.perf_counter() - begin)
"""


def fresh_interpreter(program):
    """Runs a program in a new interpreter; the numbers that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        timeout=READY_S,
        check=True,
        text=True,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("BENCH ")]
    return [float(number) for number in lines[-1].split()[1:]]


@workload("cold start to the first result", alone=True)
def cold_start(bench):
    fresh_interpreter(FIRST_RESULT)  # fills the file cache
    runs = [fresh_interpreter(FIRST_RESULT) for _ in range(bench.rounds)]
    _imports, results, ends = (iter(column) for column in zip(*runs))
    bench.durations(bench.workload, lambda: next(results))
    bench.durations("shutdown after one task", lambda: next(ends))


@workload("import ray", alone=True)
def import_ray(bench):
    fresh_interpreter(IMPORT_ONLY)
    bench.durations("import ray", lambda: fresh_interpreter(IMPORT_ONLY)[0], "ms", 1e3)


@workload("actors created, called once and dropped, in turn")
def actors_in_turn(bench):
    actor = actor_class()

    def step():
        handle = actor.remote()
        ray.get(handle.small_value.remote())

    bench.rate(step, 1, "actors/s")


@workload("500 actors alive together", once=True)
def actors_together(bench):
    wanted = bench.size(500)
    actor = actor_class()
    actors = []
    begin = time.perf_counter()
    reason = ""
    while len(actors) < wanted and not reason:
        step = min(25, wanted - len(actors))
        actors.extend(actor.remote() for _ in range(step))
        ray.get([each.small_value.remote() for each in actors[-step:]], timeout=READY_S)
        if processes.available_memory_mb() < 4096:
            reason = "memory ran low"
        elif time.perf_counter() - begin > max(bench.limit_s, 20):
            reason = "time ran out"
    took_s = time.perf_counter() - begin
    if ray.get([each.small_value.remote() for each in actors], timeout=READY_S) != [SMALL] * len(
        actors
    ):
        raise RuntimeError("an actor answered wrongly")
    if reason:
        print("stopped at %d actors: %s" % (len(actors), reason), file=sys.stderr)
    bench.report(bench.workload, len(actors), "actors")
    bench.report(bench.workload + ": creating them", len(actors) / took_s, "actors/s")


# Idle --------------------------------------------------------------------------------------------


@workload("idle runtime", alone=True, once=True)
def idle_runtime(bench):
    global ray
    mark = "RAY_BENCH_MARK=" + uuid.uuid4().hex
    os.environ["RAY_BENCH_MARK"] = mark.split("=")[1]
    import ray

    wait_s = max(1.0, min(5.0, bench.round_s * 2.5))
    ray.init()
    try:
        time.sleep(wait_s)  # idle is what is measured
        pids = processes.of_runtime(mark)
        if not pids:
            raise measure.Skip("none of the runtime's processes could be found")
        before_mb = processes.pss_mb(pids)
        bench.report("idle memory before any put", before_mb, "MB", better="lower")
        print(json.dumps(processes.describe(pids)), file=sys.stderr)
        used_s = processes.cpu_seconds(pids)
        time.sleep(wait_s)
        used_s = processes.cpu_seconds(pids) - used_s
        bench.report("idle processor use", 100 * used_s / wait_s, "% of a core", better="lower")
        np = numpy()
        driver_mb = processes.pss_mb([os.getpid()])
        array = np.ones(bench.size(1_000_000_000), dtype=np.uint8)
        ref = ray.put(array)
        del array, ref
        time.sleep(wait_s)
        pids = processes.of_runtime(mark)
        after_mb = processes.pss_mb(pids)
        bench.report("idle memory after a freed 1 GB put", after_mb, "MB", better="lower")
        grown_mb = processes.pss_mb([os.getpid()]) - driver_mb
        bench.report("driver's growth after a freed 1 GB put", grown_mb, "MB", better="lower")
    finally:
        ray.shutdown()


if __name__ == "__main__":
    sys.exit(measure.main(__doc__.splitlines()[0], REGISTRY, start, stop))
