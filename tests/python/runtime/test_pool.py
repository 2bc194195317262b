# SPDX-License-Identifier: Apache-2.0
"""ray.util.multiprocessing.Pool: the same tests as for a pool of the standard library."""

import functools
import itertools
import multiprocessing
import os
import threading
import time
from multiprocessing.pool import ThreadPool

import pytest
import ray
from ray.util.multiprocessing import Pool, TimeoutError

pytestmark = pytest.mark.usefixtures("session")


@pytest.fixture(params=["ray", "standard"])
def pool(request):
    """A pool with two processes; once that of the standard library, to show what is expected."""
    with Pool(2) if request.param == "ray" else ThreadPool(2) as made:
        yield made


def square(x):
    return x * x


def add(x, y=0, *, z=0):
    return x + y + z


def invert(x):
    return 1 / x


def read(path):
    with open(path) as file:
        return file.read()


@pytest.fixture
def gate(tmp_path):
    """A file that `read` waits for; `open_gate` lets it go on."""
    path = str(tmp_path / "gate")
    os.mkfifo(path)
    return path


def open_gate(path):
    with open(path, "w") as file:
        file.write("open")


# ---- as in the standard library ------------------------------------------------------------------


def test_apply(pool):
    assert pool.apply(add, (1, 2)) == 3
    assert pool.apply(add, (1,), {"z": 5}) == 6
    assert pool.apply(add, (1,), kwds={"y": 2, "z": 3}) == 6
    with pytest.raises(ZeroDivisionError):
        pool.apply(invert, (0,))


def test_apply_async(pool, gate):
    result = pool.apply_async(read, (gate,))
    assert not result.ready()
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    result.wait(0.01)
    with pytest.raises(multiprocessing.TimeoutError):
        result.get(timeout=0.01)
    other = pool.apply_async(add, [1], {"y": 1})  # goes past the one that waits
    assert other.get(timeout=30) == 2 and other.ready() and other.successful()
    open_gate(gate)
    assert result.get(30) == "open" and result.get() == "open"
    failed = pool.apply_async(invert, (0,))
    failed.wait()
    assert failed.ready() and not failed.successful()
    with pytest.raises(ZeroDivisionError):
        failed.get()


@pytest.mark.parametrize("chunksize", [None, 1, 3, 100])
def test_map(pool, chunksize):
    assert pool.map(square, range(10), chunksize) == [x * x for x in range(10)]
    assert pool.map(square, iter((1, 2)), chunksize=chunksize) == [1, 4]
    assert pool.map(square, [], chunksize) == []
    assert pool.map_async(square, {3: 0}.keys(), chunksize).get() == [9]
    assert pool.starmap(add, [(1, 2), (3, 4)], chunksize) == [3, 7]
    assert pool.starmap_async(add, iter([[1, 2]]), chunksize).get() == [3]


def test_errors_of_map(pool):
    result = pool.map_async(invert, [1, 0, 2], chunksize=1)
    with pytest.raises(ZeroDivisionError):
        result.get()
    assert not result.successful()
    with pytest.raises(ZeroDivisionError):
        pool.starmap(add, [(1, 2), (1 / 3, 0)]) and pool.starmap(invert, [(0,)])
    with pytest.raises(TypeError):
        pool.map(square, 5)


def test_callbacks(pool):
    done = threading.Event()
    seen = []

    def note(value):
        seen.append(value)
        done.set()

    def wait():
        assert done.wait(30)
        done.clear()
        return seen.pop()

    pool.apply_async(square, (3,), callback=note)
    assert wait() == 9
    pool.apply_async(invert, (0,), callback=note, error_callback=note)
    assert isinstance(wait(), ZeroDivisionError)
    result = pool.map_async(square, [1, 2], callback=note)
    assert wait() == [1, 4]
    result.wait()
    assert result.ready() and not seen
    pool.starmap_async(invert, [(1,), (0,)], chunksize=1, callback=note, error_callback=note)
    assert isinstance(wait(), ZeroDivisionError)


def test_callback_comes_before_ready(pool):
    order = []
    result = pool.apply_async(square, (2,), callback=lambda value: order.append(result.ready()))
    assert result.get() == 4 and order == [False]


def test_more_calls_from_a_callback(pool):
    done = threading.Event()

    def again(value):
        if value < 1000:
            pool.apply_async(square, (value,), callback=again)
        else:
            done.set()

    pool.apply_async(square, (2,), callback=again)
    assert done.wait(30)


@pytest.mark.parametrize("chunksize", [1, 4])
def test_imap(pool, chunksize):
    assert list(pool.imap(square, range(50), chunksize)) == [x * x for x in range(50)]
    assert sorted(pool.imap_unordered(square, range(50), chunksize)) == [
        x * x for x in range(50)
    ]
    assert list(pool.imap(square, [], chunksize)) == []
    assert next(pool.imap_unordered(square, iter([7]), chunksize)) == 49
    for method in (pool.imap, pool.imap_unordered):
        with pytest.raises(ValueError, match="Chunksize must be 1"):
            method(square, [1], 0)


def test_imap_goes_on_after_an_error(pool):
    results = pool.imap(invert, [1, 0, 2])
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert next(results) == 0.5
    with pytest.raises(StopIteration):
        next(results)


def test_imap_of_an_iterable_that_raises(pool):
    def items():
        yield 1
        yield 2
        raise KeyError("from the iterable")

    results = pool.imap(square, items())
    assert [next(results), next(results)] == [1, 4]
    with pytest.raises(KeyError, match="from the iterable"):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


def test_imap_time_limits(pool, gate):
    for method in (pool.imap, pool.imap_unordered):
        results = method(read, [gate])
        with pytest.raises(multiprocessing.TimeoutError):
            results.next(timeout=0.01)
        open_gate(gate)
        assert results.next(timeout=30) == "open"
        with pytest.raises(StopIteration):
            results.next()


def test_unordered_gives_first_what_is_there_first(pool, gate):
    results = pool.imap_unordered(lambda f: f(), [lambda: read(gate), lambda: "quick"])
    assert next(results) == "quick"
    open_gate(gate)
    assert next(results) == "open"


def test_close_and_join(pool):
    with pytest.raises(ValueError, match="Pool is still running"):
        pool.join()
    results = [pool.apply_async(square, (x,)) for x in range(20)]
    mapped = pool.map_async(square, range(20))
    lazily = pool.imap(square, range(100))
    pool.close()
    for method in (pool.apply_async, pool.apply):
        with pytest.raises(ValueError, match="Pool not running"):
            method(square, (1,))
    for method in (pool.map, pool.map_async, pool.imap, pool.imap_unordered, pool.starmap):
        with pytest.raises(ValueError, match="Pool not running"):
            method(square, [1])
    pool.join()
    assert all(r.ready() for r in results) and [r.get() for r in results][3] == 9
    assert mapped.get()[4] == 16 and len(list(lazily)) == 100
    pool.close()
    pool.join()
    with pytest.raises(ValueError, match="Pool not running"), pool:
        pass


def test_terminate_and_join(pool):
    assert pool.apply(square, (3,)) == 9
    pool.terminate()
    pool.terminate()
    pool.join()
    with pytest.raises(ValueError, match="Pool not running"):
        pool.map(square, [1])


def test_a_pool_is_not_pickled(pool):
    import pickle

    with pytest.raises(NotImplementedError, match="cannot be passed between processes"):
        pickle.dumps(pool)


@pytest.mark.parametrize("make", [Pool, multiprocessing.Pool])
def test_bad_arguments(make):
    with pytest.raises(ValueError):
        make(0)
    with pytest.raises(ValueError, match="maxtasksperchild must be a positive int or None"):
        make(1, maxtasksperchild=0)
    with pytest.raises(TypeError, match="initializer must be a callable"):
        make(1, initializer=5)


# ---- what processes of their own make different --------------------------------------------------


def pid(_=None):
    return os.getpid()


def test_processes():
    with Pool(3) as pool:
        pids = set(pool.map(pid, range(100), chunksize=1))
        assert len(pids) <= 3 and os.getpid() not in pids
        assert "state=RUN pool_size=3" in repr(pool)
    with Pool() as pool:
        assert pool._processes == 4
    with pytest.raises(ValueError, match="there are only 4 CPUs"):
        Pool(5)
    with pytest.raises(ValueError, match="must be >0"):
        Pool(-1)


def test_one_call_a_process_at_a_time(gate):
    """Two calls that wait for one another both run; a third waits its turn."""
    with Pool(2) as pool:
        results = pool.map_async(lambda f: f(), [lambda: read(gate), lambda: open_gate(gate)], 1)
        assert results.get(30) == ["open", None]


def ends(pids):
    """Waits until processes have ended."""
    import select

    for number in pids:
        try:
            fd = os.pidfd_open(number)
        except ProcessLookupError:
            continue
        assert select.select([fd], [], [], 30)[0]
        os.close(fd)
    return True


@pytest.mark.parametrize("end", [Pool.close, Pool.terminate])
def test_join_ends_the_processes(end):
    pool = Pool(2)
    pids = set(pool.map(pid, range(20), 1))
    end(pool)
    pool.join()
    assert ends(pids)


def test_processes_end_with_the_pool():
    pool = Pool(2)
    pids = set(pool.map(pid, range(20), 1))
    result = pool.apply_async(square, (2,))
    del pool
    assert result.get() == 4
    del result
    assert ends(pids)


def test_terminate_fails_what_is_not_done(gate):
    pool = Pool(1)
    running = pool.apply_async(read, (gate,))
    waiting = pool.map_async(square, [1, 2])
    lazily = pool.imap(square, itertools.count())
    pool.terminate()
    pool.join()
    for result in (running, waiting):
        with pytest.raises(ray.exceptions.RayActorError):
            result.get(30)
    with pytest.raises((ray.exceptions.RayActorError, ValueError)):
        while True:
            lazily.next(30)


def test_endless_iterables():
    with Pool(2) as pool:
        results = pool.imap(square, itertools.count())
        assert list(itertools.islice(results, 100)) == [x * x for x in range(100)]


def test_order_of_errors():
    """All items are run, and the first error by position is raised."""
    with Pool(2) as pool:

        def run(x):
            if x in (3, 7):
                raise ValueError(x)
            return x

        with pytest.raises(ValueError, match="3"):
            pool.map(run, range(10), chunksize=5)
        results = pool.imap(run, range(10), chunksize=5)
        outcomes = []
        while len(outcomes) < 10:
            try:
                outcomes.append(next(results))
            except ValueError as exc:
                outcomes.append(exc.args)
        assert outcomes == [0, 1, 2, (3,), 4, 5, 6, (7,), 8, 9]


class Picky(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one}-{two}")


def test_exceptions_tell_where_they_were_raised():
    def fail(kind):
        if kind == "parts":
            raise Picky(1, 2)
        if kind == "lock":
            raise ValueError(threading.Lock())
        raise KeyError("there")

    with Pool(1) as pool:
        with pytest.raises(KeyError, match="there") as info:
            pool.apply(fail, ("plain",))
        assert type(info.value) is KeyError and "in fail" in str(info.value.__cause__)
        with pytest.raises(Picky, match="1-2") as info:
            pool.apply(fail, ("parts",))
        assert "in fail" in str(info.value.__cause__)
        with pytest.raises(ray.exceptions.RayError, match="lock"):
            pool.apply(fail, ("lock",))
        with pytest.raises(Exception, match="lock"):
            pool.apply(threading.Lock)  # a result that can't be sent
        with pytest.raises(TypeError):
            pool.apply(square, (threading.Lock(),))  # an argument that can't
        with pytest.raises(TypeError):
            pool.map(functools.partial(add, threading.Lock()), range(10))
        assert pool.apply(square, (2,)) == 4


state = None


def initialize(value):
    global state
    state = [value]


def get_state(_=None):
    return state


class Counted:
    def __call__(self, x):
        state.append(x)
        return len(state)


def test_initializer():
    with Pool(2, initialize, ("set",)) as pool:
        assert pool.map(get_state, range(8), 1) == [["set"]] * 8
        assert pool.apply(lambda: state) == ["set"]
    with Pool(1, initializer=initialize, initargs=[0]) as pool:
        assert [pool.apply(Counted(), (1,)) for _ in range(3)] == [2, 3, 4]
    with pytest.raises(ray.exceptions.RayActorError, match="division by zero"):
        Pool(1, invert, (0,))


def test_initializer_of_a_program(run_program):
    code, out, err = run_program(
        """
        import functools
        from ray.util.multiprocessing import Pool

        table, untouched = None, "as it was"

        def load(values):
            global table
            table = values

        def helper(x):
            return table[x]

        def find(x, scale=1):
            return helper(x) * scale, untouched

        if __name__ == "__main__":
            with Pool(2, load, ({1: 10, 2: 20},)) as pool:
                print(pool.map(find, [1, 2]), table)
                print(pool.map(functools.partial(find, scale=2), [1]))
        """
    )
    assert code == 0, err
    assert out == (
        "[(10, 'as it was'), (20, 'as it was')] None\n[(20, 'as it was')]\n"
    )


def test_maxtasksperchild():
    with Pool(1, maxtasksperchild=3) as pool:
        pids = [pool.apply(pid) for _ in range(9)]
        assert [len(set(pids[i : i + 3])) for i in (0, 3, 6)] == [1, 1, 1]
        assert len(set(pids)) == 3 and ends(set(pids[:6]))
        assert len(set(pool.map(pid, range(40), chunksize=10))) == 2
        pool.close()
        pool.join()


def test_a_process_that_dies_is_replaced():
    with Pool(2) as pool:
        with pytest.raises(ray.exceptions.ActorDiedError):
            pool.apply(os._exit, (1,))
        died = pool.map_async(lambda x: os._exit(1) if x == 3 else x, range(6), chunksize=1)
        with pytest.raises(ray.exceptions.ActorDiedError):
            died.get(30)
        assert pool.map(square, range(10), 1) == [x * x for x in range(10)]


def test_ray_remote_args():
    def free():
        return ray.available_resources()["CPU"]

    while free() < 4:  # what earlier tests had comes back by and by
        time.sleep(0.01)
    with Pool(2, ray_remote_args={"num_cpus": 1}) as pool:
        assert pool.map(square, [1, 2]) == [1, 4] and free() == 2
    with pytest.raises(ValueError, match="Invalid option keyword"):
        Pool(1, ray_remote_args={"nope": 1})


def test_context_is_ignored(caplog):
    with Pool(1, context=multiprocessing.get_context("spawn")) as pool:
        assert pool.apply(square, (2,)) == 4


def test_references_and_tasks_inside():
    @ray.remote
    def task(x):
        return x + 1

    ref = ray.put(41)
    with Pool(2) as pool:
        assert pool.map(lambda r: ray.get(r), [ref, ref]) == [41, 41]
        assert pool.map(lambda x: ray.get(task.remote(x)), range(4)) == [1, 2, 3, 4]


def test_a_pool_inside_of_a_task_gives_its_cpu_back():
    @ray.remote
    def task(x):
        return x + 1

    @ray.remote(num_cpus=4)
    def outer():
        with Pool(2) as pool:
            refs = pool.map(lambda x: ray.get(task.remote(x)), range(4))
            lazily = list(pool.imap(lambda x: ray.get(task.remote(x)), range(4)))
        return refs, lazily

    assert ray.get(outer.remote(), timeout=60) == ([1, 2, 3, 4], [1, 2, 3, 4])


def test_several_threads_share_a_pool():
    with Pool(3) as pool:
        sums = {}

        def use(n):
            sums[n] = sum(pool.map(square, range(n), chunksize=1)), sum(
                pool.imap_unordered(square, range(n))
            )

        threads = [threading.Thread(target=use, args=(n,)) for n in (50, 60, 70)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for n in (50, 60, 70):
            assert sums[n] == (sum(x * x for x in range(n)),) * 2


def test_it_starts_ray(run_program):
    code, out, err = run_program(
        """
        import ray
        from ray.util.multiprocessing import Pool
        pool = Pool(processes=2)
        print(pool.map(abs, [-1, -2]), ray.cluster_resources()["CPU"])
        """
    )
    assert (code, out) == (0, "[1, 2] 2.0\n"), err
    assert TimeoutError is multiprocessing.TimeoutError


def test_shutdown_ends_the_wait(run_program):
    code, out, err = run_program(
        """
        import ray, time
        from ray.util.multiprocessing import Pool
        pool = Pool(1)
        results = [pool.apply_async(time.sleep, (100,)), pool.apply_async(abs, (-1,))]
        ray.shutdown()
        for result in results:
            try:
                result.get(30)
            except Exception as exc:
                print(type(exc).__name__)
        try:
            pool.apply(abs, (1,))
        except ValueError as exc:
            print(exc)
        pool.terminate()
        pool.join()
        print(ray.is_initialized())
        """
    )
    assert code == 0, err
    assert out == "RuntimeError\nActorDiedError\nPool not running\nFalse\n", err
