# SPDX-License-Identifier: Apache-2.0
"""The same work for the peers a Python user would otherwise take, where it makes sense for them.

A workload's name is "<peer>: <name of the row in workloads.py>".  A peer that can not be imported
is skipped with the reason.  As many worker processes as processors, one thread each.
"""

import contextlib
import multiprocessing
import multiprocessing.managers
import os
import subprocess
import sys
import time
from concurrent import futures

import measure

REGISTRY = measure.Registry()
CPUS = len(os.sched_getaffinity(0))
FRESH_S = 120


def small_value(_argument=None):
    return b"ok"


class Actor:
    def small_value(self):
        return b"ok"


class ActorManager(multiprocessing.managers.BaseManager):
    pass


ActorManager.register("Actor", Actor)


def peer(name, row, **options):
    return REGISTRY.workload("%s: %s" % (name, row), peer=name, row=row, **options)


def module(name):
    try:
        return __import__(name, fromlist=["*"])
    except ImportError as error:
        raise measure.Skip(str(error)) from None


def cold_start(bench, program):
    """Seconds from the first import to the first result, in new interpreters."""
    text = (
        "import time\nbegin = time.perf_counter()\n"
        + program
        + "\nprint('BENCH', time.perf_counter() - begin, flush=True)\nend()\n"
    )

    def step():
        # From a file, since some peers start their workers by running the main module again.
        folder = os.environ.get("TMPDIR", "/tmp")
        path = os.path.join(folder, "peer-cold-%d.py" % os.getpid())
        with open(path, "w") as file:
            file.write("if __name__ == '__main__':\n")
            file.writelines("    %s\n" % line for line in text.splitlines())
        try:
            done = subprocess.run(
                [sys.executable, path],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                timeout=FRESH_S,
                check=True,
                text=True,
            )
        finally:
            os.unlink(path)
        return float(done.stdout.split("BENCH", 1)[1].split()[0])

    step()
    bench.durations(bench.workload, step)


# multiprocessing.Pool ----------------------------------------------------------------------------

POOL = "multiprocessing.Pool"


@peer(POOL, "single client tasks sync")
def pool_sync(bench):
    with multiprocessing.Pool(CPUS) as pool:
        bench.rate(lambda: pool.apply(small_value), 1)


@peer(POOL, "single client tasks async")
def pool_async(bench):
    with multiprocessing.Pool(CPUS) as pool:

        def step():
            results = [pool.apply_async(small_value) for _ in range(1000)]
            return [result.get() for result in results]

        bench.rate(step, 1000)


@peer(POOL, "single client tasks and get batch")
def pool_batch(bench):
    with multiprocessing.Pool(CPUS) as pool:
        bench.rate(lambda: pool.map(small_value, range(1000), chunksize=1), 1, "batches/s")


@peer(POOL, "1,000,000 queued tasks", once=True)
def pool_queued(bench):
    count = bench.size(1_000_000)
    with multiprocessing.Pool(CPUS) as pool:
        begin = time.perf_counter()
        results = [pool.apply_async(small_value) for _ in range(count)]
        for result in results:
            result.get()
        bench.report(bench.workload, count / (time.perf_counter() - begin), "tasks/s")


@peer(POOL, "cold start to the first result")
def pool_cold(bench):
    cold_start(
        bench,
        "import multiprocessing\n"
        "pool = multiprocessing.Pool(%d)\n"
        "assert pool.apply(int) == 0\n"
        "end = pool.terminate" % CPUS,
    )


# concurrent.futures ------------------------------------------------------------------------------

EXECUTOR = "ProcessPoolExecutor"


@peer(EXECUTOR, "single client tasks sync")
def executor_sync(bench):
    with futures.ProcessPoolExecutor(CPUS) as pool:
        bench.rate(lambda: pool.submit(small_value).result(), 1)


@peer(EXECUTOR, "single client tasks async")
def executor_async(bench):
    with futures.ProcessPoolExecutor(CPUS) as pool:

        def step():
            results = [pool.submit(small_value) for _ in range(1000)]
            return [result.result() for result in results]

        bench.rate(step, 1000)


@peer(EXECUTOR, "single client wait 1k refs")
def executor_wait(bench):
    with futures.ProcessPoolExecutor(CPUS) as pool:

        def step():
            for _future in futures.as_completed([pool.submit(small_value) for _ in range(1000)]):
                pass

        bench.rate(step, 1, "rounds/s")


@peer(EXECUTOR, "cold start to the first result")
def executor_cold(bench):
    cold_start(
        bench,
        "from concurrent.futures import ProcessPoolExecutor\n"
        "pool = ProcessPoolExecutor(%d)\n"
        "assert pool.submit(int).result() == 0\n"
        "end = pool.shutdown" % CPUS,
    )


# multiprocessing.Manager -------------------------------------------------------------------------

MANAGER = "multiprocessing.Manager"


@peer(MANAGER, "1:1 actor calls sync")
def manager_calls(bench):
    with ActorManager() as manager:
        actor = manager.Actor()
        bench.rate(actor.small_value, 1)


@peer(MANAGER, "single client put calls (Plasma Store)")
def manager_put(bench):
    with multiprocessing.Manager() as manager:
        store = manager.dict()
        bench.rate(lambda: store.__setitem__("key", 0), 1)


@peer(MANAGER, "single client get calls (Plasma Store)")
def manager_get(bench):
    with multiprocessing.Manager() as manager:
        store = manager.dict({"key": 0})
        bench.rate(lambda: store["key"], 1)


@peer(MANAGER, "actors created, called once and dropped, in turn")
def manager_in_turn(bench):
    def step():
        with ActorManager() as manager:
            manager.Actor().small_value()

    bench.rate(step, 1, "actors/s")


# multiprocessing.shared_memory -------------------------------------------------------------------


@peer("shared_memory", "single client put gigabytes")
def shared_memory_put(bench):
    np = module("numpy")
    shared_memory = module("multiprocessing.shared_memory")
    array = np.zeros(100_000_000, dtype="int64")

    def step():
        block = shared_memory.SharedMemory(create=True, size=array.nbytes)
        try:
            np.copyto(np.ndarray(array.shape, array.dtype, block.buf), array)
        finally:
            block.close()
            block.unlink()

    bench.rate(step, 0.8, "GB/s")


# joblib ------------------------------------------------------------------------------------------


@peer("joblib", "single client tasks and get batch")
def joblib_batch(bench):
    joblib = module("joblib")
    with joblib.Parallel(n_jobs=CPUS) as pool:
        calls = [joblib.delayed(small_value)() for _ in range(1000)]
        bench.rate(lambda: pool(calls), 1, "batches/s")


@peer("joblib", "cold start to the first result")
def joblib_cold(bench):
    module("joblib")
    cold_start(
        bench,
        "import joblib\n"
        "assert joblib.Parallel(n_jobs=%d)([joblib.delayed(int)()] * 2) == [0, 0]\n"
        "end = int" % max(2, CPUS),
    )


# dask.distributed --------------------------------------------------------------------------------

DASK = "dask.distributed"


@contextlib.contextmanager
def dask_client():
    distributed = module("distributed")
    with distributed.LocalCluster(
        n_workers=CPUS, threads_per_worker=1, dashboard_address=None, silence_logs=50
    ) as cluster:
        with distributed.Client(cluster) as client:  # ends before the cluster does
            client.submit(small_value, pure=False).result()
            yield client


@peer(DASK, "single client tasks sync")
def dask_sync(bench):
    with dask_client() as client:
        bench.rate(lambda: client.submit(small_value, pure=False).result(), 1)


@peer(DASK, "single client tasks async")
def dask_async(bench):
    with dask_client() as client:
        bench.rate(
            lambda: client.gather([client.submit(small_value, pure=False) for _ in range(1000)]),
            1000,
        )


@peer(DASK, "single client tasks and get batch")
def dask_batch(bench):
    with dask_client() as client:
        bench.rate(
            lambda: client.gather(client.map(small_value, range(1000), pure=False)), 1, "batches/s"
        )


@peer(DASK, "single client wait 1k refs")
def dask_wait(bench):
    distributed = module("distributed")
    with dask_client() as client:

        def step():
            tasks = client.map(small_value, range(1000), pure=False)
            for _future in distributed.as_completed(tasks):
                pass

        bench.rate(step, 1, "rounds/s")


@peer(DASK, "1:1 actor calls sync")
def dask_actor_sync(bench):
    with dask_client() as client:
        actor = client.submit(Actor, actor=True).result()
        bench.rate(lambda: actor.small_value().result(), 1)


@peer(DASK, "1:1 actor calls async")
def dask_actor_async(bench):
    with dask_client() as client:
        actor = client.submit(Actor, actor=True).result()

        def step():
            results = [actor.small_value() for _ in range(1000)]
            return [result.result() for result in results]

        bench.rate(step, 1000)


@peer(DASK, "single client put calls (Plasma Store)")
def dask_put(bench):
    with dask_client() as client:
        bench.rate(lambda: client.scatter(0, hash=False), 1)


@peer(DASK, "single client get calls (Plasma Store)")
def dask_get(bench):
    with dask_client() as client:
        stored = client.scatter(0, hash=False)
        bench.rate(stored.result, 1)


@peer(DASK, "cold start to the first result")
def dask_cold(bench):
    module("distributed")
    cold_start(
        bench,
        "import distributed\n"
        "client = distributed.Client(n_workers=%d, threads_per_worker=1, dashboard_address=None)\n"
        "assert client.submit(int).result() == 0\n"
        "end = client.shutdown" % CPUS,
    )


if __name__ == "__main__":
    sys.exit(measure.main(__doc__.splitlines()[0], REGISTRY))
