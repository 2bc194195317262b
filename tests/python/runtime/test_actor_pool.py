# SPDX-License-Identifier: Apache-2.0
"""ray.util.ActorPool: order, free actors, time limits, errors."""

import os

import pytest
import ray
from ray.util import ActorPool

pytestmark = pytest.mark.usefixtures("session")


@ray.remote(num_cpus=0)
class Worker:
    def __init__(self):
        self.calls = 0

    def double(self, x):
        self.calls += 1
        return 2 * x

    def fail(self, x):
        raise KeyError(x)

    def seen(self):
        return self.calls

    @ray.method(num_returns=2)
    def two(self, x):
        return x, -x


@pytest.fixture
def pipe(tmp_path):
    """A file that a call waits to read from, until somebody writes."""
    path = str(tmp_path / "pipe")
    os.mkfifo(path)
    return path


@ray.remote(num_cpus=0)
class Reader:
    def echo(self, x):
        return x

    def read(self, path):
        with open(path) as file:
            return file.read()

    def write(self, path):
        write(path)


def write(path):
    with open(path, "w") as file:
        file.write("written")


def double(actor, x):
    return actor.double.remote(x)


def test_map_keeps_the_order():
    pool = ActorPool([Worker.remote(), Worker.remote()])
    results = pool.map(double, range(20))
    assert next(results) == 0
    assert list(results) == [2 * x for x in range(1, 20)]
    assert list(pool.map(double, [])) == [] and not pool.has_next()
    assert list(pool.map(double, (x for x in (3, 4)))) == [6, 8]


def test_map_unordered():
    pool = ActorPool([Worker.remote() for _ in range(3)])
    assert sorted(pool.map_unordered(double, range(20))) == [2 * x for x in range(20)]


def test_each_actor_takes_part():
    workers = [Worker.remote() for _ in range(3)]
    assert len(list(ActorPool(workers).map(double, range(30)))) == 30
    counts = ray.get([w.seen.remote() for w in workers])
    assert sum(counts) == 30 and min(counts) >= 1


def test_a_slow_call_holds_up_nobody(pipe):
    """While the first result is waited for, the other actor does all the rest."""
    pool = ActorPool([Reader.remote(), Reader.remote()])
    pool.submit(lambda a, v: a.read.remote(v), pipe)
    for i in range(10):
        pool.submit(lambda a, v: a.echo.remote(v), i)
    pool.submit(lambda a, v: a.write.remote(v), pipe)  # lets the first one end
    assert pool.get_next(timeout=30) == "written"
    assert [pool.get_next() for _ in range(11)] == [*range(10), None]


def test_submit_and_get_next():
    pool = ActorPool([Worker.remote()])
    assert not pool.has_next() and pool.has_free()
    pool.submit(double, 1)
    assert pool.has_next() and not pool.has_free()
    pool.submit(double, 2)
    assert pool.get_next() == 2 and pool.get_next(timeout=30) == 4
    assert not pool.has_next() and pool.has_free()
    for take in (pool.get_next, pool.get_next_unordered):
        with pytest.raises(StopIteration, match="No more results to get"):
            take()


def test_get_next_after_unordered():
    pool = ActorPool([Worker.remote(), Worker.remote()])
    pool.submit(double, 1)
    pool.submit(double, 2)
    pool._wait([1], None)
    assert pool._take([1], None, False) == 4
    with pytest.raises(ValueError, match="not allowed to call get_next"):
        pool.get_next()
    assert pool.get_next_unordered() == 2


def test_time_limits(pipe):
    pool = ActorPool([Reader.remote()])
    pool.submit(lambda a, v: a.read.remote(v), pipe)
    for take in (pool.get_next, pool.get_next_unordered):
        with pytest.raises(TimeoutError, match="^Timed out waiting for result$"):
            take(timeout=0.01)
    assert pool.has_next()
    pool.submit(lambda a, v: a.echo.remote(v), "next")
    with pytest.raises(TimeoutError, match=r"The task ObjectRef\(.*\) has been ignored"):
        pool.get_next(timeout=0, ignore_if_timedout=True)
    write(pipe)
    assert pool.get_next() == "next" and not pool.has_next()


def test_ignored_when_unordered(pipe):
    pool = ActorPool([Reader.remote()])
    pool.submit(lambda a, v: a.read.remote(v), pipe)
    with pytest.raises(TimeoutError, match="has been ignored"):
        pool.get_next_unordered(timeout=0, ignore_if_timedout=True)
    assert not pool.has_next() and pool.has_free()
    write(pipe)


def test_map_forgets_earlier_submissions():
    pool = ActorPool([Worker.remote()])
    for x in (1, 2, 3):
        pool.submit(double, x)
    pool.submit(lambda a, x: a.fail.remote(x), "forgotten too")
    assert list(pool.map(double, [10, 20])) == [20, 40]
    pool.submit(double, 1)
    assert sorted(pool.map_unordered(double, [10, 20])) == [20, 40]


def test_errors_do_not_cost_an_actor():
    pool = ActorPool([Worker.remote()])
    pool.submit(lambda a, x: a.fail.remote(x), "key")
    with pytest.raises(KeyError, match="key"):
        pool.get_next()
    assert pool.has_free()
    with pytest.raises(AttributeError):
        pool.submit(lambda a, x: a.nope.remote(x), 1)
    assert list(pool.map(double, [1])) == [2]


def test_push_and_pop():
    first, second = Worker.remote(), Worker.remote()
    pool = ActorPool([first])
    with pytest.raises(ValueError, match="Actor already belongs to current ActorPool"):
        pool.push(first)
    pool.submit(double, 1)
    with pytest.raises(ValueError, match="Actor already belongs to current ActorPool"):
        pool.push(first)
    assert pool.pop_idle() is None
    pool.submit(double, 2)
    pool.push(second)  # takes up what waits
    assert [pool.get_next(), pool.get_next()] == [2, 4]
    assert {pool.pop_idle(), pool.pop_idle()} == {first, second}
    assert pool.pop_idle() is None and not pool.has_free()
    pool.push(first)
    assert pool.has_free()


def test_a_pool_without_actors():
    pool = ActorPool([])
    pool.submit(double, 1)
    assert not pool.has_next() and not pool.has_free() and pool.pop_idle() is None
    pool.push(Worker.remote())
    assert pool.get_next() == 2


def test_several_return_values():
    pool = ActorPool([Worker.remote()])
    results = pool.map(lambda a, x: a.two.remote(x), [1, 2])
    assert list(results) == [[1, -1], [2, -2]]
    assert next(pool.map_unordered(lambda a, x: a.two.remote(x), [3])) == [3, -3]
