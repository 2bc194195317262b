# SPDX-License-Identifier: Apache-2.0
"""Remote generators: streaming, dynamic, with a fixed number of returns; with real kills."""

import asyncio
import gc
import os
import pickle
import signal
import time

import numpy as np
import pytest
import ray
from common import kill_me, until, values
from ray.exceptions import RayTaskError, TaskCancelledError, WorkerCrashedError

pytestmark = pytest.mark.usefixtures("session")


def indexes(refs):
    return [int.from_bytes(ref.binary()[24:], "little") for ref in refs]


def size(path):
    return os.path.getsize(path) if os.path.exists(path) else 0


def note(path, text="."):
    with open(path, "a") as file:
        file.write(text)


@ray.remote
def count(n):
    yield from range(n)


@ray.remote
def fail_after(n):
    yield from range(n)
    raise ValueError("enough")


# ---- reading ----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 5, 1000])
def test_items_come_in_order(n):
    generator = count.remote(n)
    assert isinstance(generator, ray.ObjectRefGenerator)
    assert values(generator) == list(range(n))
    with pytest.raises(StopIteration):
        next(generator)
    assert ray.get(generator.completed()) is None


def test_items_come_before_the_task_ends(tmp_path):
    gate = tmp_path / "gate"

    @ray.remote
    def wait_between():
        yield 1
        until(gate.exists)
        yield 2

    generator = wait_between.remote()
    assert ray.get(next(generator)) == 1
    assert not generator.next_ready()
    assert not generator.is_finished()
    assert generator._next_sync(0) == ray.ObjectRef.nil()
    assert generator._next_sync(0.01).is_nil()
    assert ray.wait([generator.completed()], timeout=0) == ([], [generator.completed()])
    gate.touch()
    assert ray.get(generator._next_sync(45)) == 2
    ray.get(generator.completed())
    assert generator.is_finished()
    assert not generator.next_ready()


def test_ids_follow_the_task():
    generator = count.remote(3)
    task = generator.completed().task_id()
    assert generator.task_id() == task
    refs = list(generator)
    assert [ref.task_id() for ref in refs] == [task] * 3
    assert indexes(refs) == [2, 3, 4]


def test_large_items_and_references():
    @ray.remote
    def mix():
        yield np.full(300_000, 7)
        yield [ray.put(11), ray.put(np.ones(200_000))]
        yield "small"

    large, refs, small = values(mix.remote())
    assert large.sum() == 2_100_000
    assert ray.get(refs[0]) == 11
    assert ray.get(refs[1]).sum() == 200_000
    assert small == "small"


def test_a_signal_ends_the_wait(run_program):
    code, out, err = run_program("""
        import signal, time
        import ray
        ray.init(num_cpus=1, log_to_driver=False)

        @ray.remote
        def never():
            time.sleep(1000)
            yield 1

        class Enough(Exception):
            pass

        def stop(number, frame):
            raise Enough

        signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        try:
            next(never.remote())
        except Enough:
            print("stopped")
        """)
    assert (code, out) == (0, "stopped\n"), err


def test_references_outlive_their_generator():
    generator = count.remote(3)
    first = next(generator)
    del generator
    assert ray.get(first) == 0


def test_items_are_arguments():
    @ray.remote
    def twice(x):
        return 2 * x

    assert ray.get([twice.remote(ref) for ref in count.remote(5)]) == [0, 2, 4, 6, 8]


def test_one_generator_reads_another_on_one_cpu(run_program):
    code, out, err = run_program("""
        import ray
        ray.init(num_cpus=1, log_to_driver=False)

        @ray.remote
        def numbers(n):
            yield from range(n)

        @ray.remote
        def squares(n):
            for ref in numbers.remote(n):
                yield ray.get(ref) ** 2

        print([ray.get(ref) for ref in squares.remote(5)])
        """)
    assert (code, out) == (0, "[0, 1, 4, 9, 16]\n"), err


def test_what_is_not_supported():
    generator = count.remote(1)
    for method in ("send", "throw"):
        with pytest.raises(NotImplementedError):
            getattr(generator, method)(None)
    with pytest.raises(NotImplementedError):
        generator.close()
    assert ray.get(generator) is generator
    with pytest.raises(TypeError):
        ray.get([generator])
    with pytest.raises(TypeError):
        type(generator)()
    with pytest.raises(TypeError, match="You cannot return or pass a generator to other task"):
        pickle.dumps(generator)
    with pytest.raises(TypeError, match="You cannot return or pass a generator to other task"):
        ray.put(generator)
    with pytest.raises(TypeError, match="You cannot return or pass a generator to other task"):
        count.remote(generator)

    @ray.remote
    def gives_one():
        return count.remote(2)

    with pytest.raises(TypeError, match="You cannot return or pass a generator to other task"):
        ray.get(gives_one.remote())


def test_only_generators_stream():
    @ray.remote
    def plain():
        return 1

    for kind in ("streaming", "dynamic"):
        with pytest.raises(ValueError, match="generator"):
            plain.options(num_returns=kind).remote()
    with pytest.raises(ValueError, match="async def"):

        @ray.remote
        async def yields():
            yield 1


# ---- failures ---------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 3])
def test_an_exception_is_the_last_item(n):
    generator = fail_after.remote(n)
    assert [ray.get(next(generator)) for _ in range(n)] == list(range(n))
    last = next(generator)
    for _ in range(2):
        with pytest.raises(ValueError, match="enough"):
            ray.get(last)
    with pytest.raises(StopIteration):
        next(generator)
    assert generator.is_finished()
    with pytest.raises(RayTaskError):
        ray.get(generator.completed())


def test_an_argument_that_failed_is_the_first_item():
    @ray.remote
    def fails():
        raise KeyError("no number")

    first, = count.remote(fails.remote())
    with pytest.raises(KeyError):
        ray.get(first)


def test_an_item_that_cannot_be_pickled_is_the_failure():
    import threading

    @ray.remote
    def locks():
        yield 1
        yield threading.Lock()
        yield 3

    first, second = locks.remote()
    assert ray.get(first) == 1
    with pytest.raises(TypeError, match="serialize"):
        ray.get(second)


# ---- retries ----------------------------------------------------------------------------------

ITEMS = 6


@ray.remote(max_retries=2)
def die_once(at, path, after):
    for i in range(ITEMS + 1):
        if i == at and not os.path.exists(path):
            note(path)
            kill_me()
        if i < ITEMS:
            yield (i, os.getpid()) if not after else np.full(50_000, i)


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("at", range(ITEMS + 1))
def test_worker_killed_at_every_item(at, large, tmp_path):
    generator = die_once.remote(at, str(tmp_path / "died"), large)
    refs = list(generator)
    assert indexes(refs) == list(range(2, 2 + ITEMS))
    got = ray.get(refs)
    if large:
        assert [int(item[0]) for item in got] == list(range(ITEMS))
    else:
        assert [i for i, _ in got] == list(range(ITEMS))
        # What came before the death stayed as it was.
        assert len({pid for _, pid in got}) <= 2
    assert ray.get(generator.completed()) is None
    assert size(tmp_path / "died") == 1


@pytest.mark.parametrize("at", range(ITEMS + 1))
def test_worker_killed_with_items_read_and_back_pressure(at, tmp_path):
    slow = die_once.options(_generator_backpressure_num_objects=2)
    generator = slow.remote(at, str(tmp_path / "died"), False)
    assert [ray.get(ref)[0] for ref in generator] == list(range(ITEMS))


@pytest.mark.parametrize("at", range(4))
def test_worker_killed_without_retries(at, tmp_path):
    once = die_once.options(max_retries=0)
    refs = list(once.remote(at, str(tmp_path / "died"), False))
    assert 1 <= len(refs) <= at + 1
    assert [i for i, _ in ray.get(refs[:-1])] == list(range(len(refs) - 1))
    with pytest.raises(WorkerCrashedError):
        ray.get(refs[-1])


@pytest.mark.parametrize("limit", [-1, 5])
@pytest.mark.parametrize("size", [10, 20_000], ids=["small", "large"])
def test_killed_from_outside_while_items_flow(size, limit):
    @ray.remote(max_retries=-1, _generator_backpressure_num_objects=limit)
    def flow(n):
        for i in range(n):
            yield np.full(size, i), os.getpid()

    count = 300
    for kill_at in (0, 1, 50, 299):
        got = []
        for ref in flow.remote(count):
            array, pid = ray.get(ref)
            assert len(array) == size
            assert (array == array[0]).all()
            got.append(int(array[0]))
            if len(got) - 1 == kill_at:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass  # it had left already
        assert got == list(range(count))


def test_retried_exceptions_go_on_where_they_were(tmp_path):
    path = str(tmp_path / "tries")

    @ray.remote(retry_exceptions=True, max_retries=3)
    def third_time():
        note(path)
        for i in range(5):
            if i == 3 and size(path) < 3:
                raise OSError("not yet")
            yield (i, size(path))

    assert values(third_time.remote()) == [(0, 1), (1, 1), (2, 1), (3, 3), (4, 3)]

    @ray.remote(retry_exceptions=[OSError], max_retries=3)
    def wrong_kind():
        yield 1
        raise ValueError("for good")

    first, second = wrong_kind.remote()
    with pytest.raises(ValueError, match="for good"):
        ray.get(second)


@pytest.mark.parametrize("tries", [1, 2, 3])
def test_exceptions_of_other_generators_are_retried(tries, tmp_path):
    @ray.remote(retry_exceptions=True, max_retries=2)
    def nth_time(path):
        note(path)
        yield "first"
        if size(path) < tries or tries == 3:
            raise OSError(f"try {size(path)}")
        yield "second"

    kinds = {"dynamic": lambda ref: list(ray.get(ref)), 2: list}
    for kind, refs_of in kinds.items():
        path = str(tmp_path / str(kind))
        first, second = refs_of(nth_time.options(num_returns=kind).remote(path))
        assert ray.get(first) == "first"
        if tries == 3:
            with pytest.raises(OSError, match="try 3"):
                ray.get(second)
        else:
            assert ray.get(second) == "second"
        assert size(path) == tries


def test_fewer_items_the_second_time(tmp_path):
    path = str(tmp_path / "died")

    @ray.remote(max_retries=1)
    def shrinks():
        for i in range(2 if os.path.exists(path) else 100):
            if i == 4:
                until(lambda: os.path.exists(path))
                kill_me()
            yield i

    generator = shrinks.remote()
    refs = [next(generator) for _ in range(4)]
    note(path)
    assert list(generator) == []
    assert ray.get(refs) == [0, 1, 2, 3]


# ---- back-pressure ----------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 7])
def test_never_more_unread_than_the_limit(limit, tmp_path):
    path = str(tmp_path / "made")

    @ray.remote(_generator_backpressure_num_objects=limit)
    def noted():
        for i in range(30):
            note(path)
            yield i

    generator = noted.remote()
    for i in range(30):
        most = min(i + limit, 30)
        until(lambda most=most: size(path) == most)
        assert ray.get(next(generator)) == i
    with pytest.raises(StopIteration):
        next(generator)


def test_a_waiting_producer_lends_its_cpu(run_program):
    code, out, err = run_program("""
        import ray
        ray.init(num_cpus=1, log_to_driver=False)

        @ray.remote(_generator_backpressure_num_objects=1)
        def slow():
            yield from range(3)

        @ray.remote
        def other():
            return "ran"

        generator = slow.remote()
        ray.wait([generator])
        print(ray.get(other.remote(), timeout=45))
        print([ray.get(ref) for ref in generator])
        """)
    assert (code, out) == (0, "ran\n[0, 1, 2]\n"), err


def test_limits_are_checked():
    for bad in (0, -2):
        with pytest.raises(ValueError, match="_generator_backpressure_num_objects"):
            count.options(_generator_backpressure_num_objects=bad)
    assert values(count.options(_generator_backpressure_num_objects=-1).remote(4)) == [0, 1, 2, 3]


# ---- readers that go --------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [-1, 3])
def test_an_endless_generator_ends_with_its_reader(limit, tmp_path):
    path = tmp_path / "closed"

    @ray.remote(_generator_backpressure_num_objects=limit)
    def endless():
        try:
            while True:
                yield 1
                time.sleep(0.001)
        finally:
            path.touch()

    generator = endless.remote()
    assert ray.get(next(generator)) == 1
    del generator
    until(path.exists)


def test_an_awaited_end_comes_without_a_reader(tmp_path):
    path = str(tmp_path / "made")

    @ray.remote(_generator_backpressure_num_objects=1)
    def noted():
        for i in range(10):
            note(path)
            yield i

    generator = noted.remote()
    done = generator.completed()
    next(generator)
    del generator
    assert ray.get(done, timeout=45) is None
    assert size(path) == 10


def test_unread_items_are_freed(run_program):
    code, out, err = run_program("""
        import gc
        import numpy as np
        import ray
        ray.init(num_cpus=2, object_store_memory=80 << 20, log_to_driver=False)

        @ray.remote
        def arrays(n):
            for i in range(n):
                yield np.full(1 << 20, i, np.uint8)

        @ray.remote
        def die(n):
            yield from (np.full(1 << 20, i, np.uint8) for i in range(n))
            import os, signal
            os.kill(os.getpid(), signal.SIGKILL)

        # More than four times the store, if any of it stayed.
        for i in range(12):
            generator = arrays.remote(30)
            for _ in range(i % 4):
                next(generator)
            ray.get(generator.completed()) if i % 2 else next(generator)
            del generator
        for _ in range(3):
            assert len(list(die.options(max_retries=1).remote(10))) == 11
        ray.get(ray.put(np.zeros(60 << 20, np.uint8)))
        print("held")
        """)
    assert (code, out) == (0, "held\n"), err


def test_shutdown_with_generators_at_work(run_program):
    code, out, err = run_program("""
        import ray
        ray.init(num_cpus=2, log_to_driver=False)

        @ray.remote
        def endless():
            while True:
                yield 1

        kept = [endless.remote(), endless.options(_generator_backpressure_num_objects=2).remote()]
        next(kept[0])
        ray.shutdown()
        for call in (lambda: next(kept[0]), lambda: kept[1].next_ready()):
            try:
                print(call())
            except Exception as e:
                print(type(e).__name__)
        ray.init(num_cpus=1, log_to_driver=False)
        del kept
        print([ray.get(r) for r in ray.remote(lambda: (yield 5)).remote()])
        """)
    assert code == 0, err
    assert out.splitlines()[1:] == ["False", "[5]"], out


# ---- cancelling -------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [-1, 2])
def test_a_cancelled_generator(limit):
    @ray.remote(_generator_backpressure_num_objects=limit)
    def slow():
        yield from range(2)
        while limit < 0:
            time.sleep(0.001)
        yield 2

    generator = slow.remote()
    ray.wait([generator])
    first = next(generator)
    if limit < 0:
        second = next(generator)
        assert ray.get([first, second]) == [0, 1]
    ray.cancel(generator)
    with pytest.raises(TaskCancelledError):
        ray.get(generator.completed())
    rest = list(generator)
    with pytest.raises(TaskCancelledError):
        ray.get(rest[-1])
    assert ray.get(rest[:-1]) == list(range(1, len(rest)))
    with pytest.raises(StopIteration):
        next(generator)


def test_a_generator_cancelled_before_it_began(tmp_path):
    gate = tmp_path / "gate"

    @ray.remote
    def late():
        until(gate.exists)
        return 3

    generator = count.remote(late.remote())
    ray.cancel(generator)
    only, = list(generator)
    with pytest.raises(TaskCancelledError):
        ray.get(only)
    gate.touch()


# ---- ray.wait, asyncio ------------------------------------------------------------------------


def test_wait_for_the_next_item(tmp_path):
    gates = [tmp_path / str(i) for i in range(3)]

    @ray.remote
    def gated():
        for gate in gates:
            until(gate.exists)
            yield gate.name

    @ray.remote
    def plain():
        return "plain"

    generator = gated.remote()
    ref = plain.remote()
    assert ray.wait([generator, ref], timeout=45) == ([ref], [generator])
    assert ray.wait([generator], timeout=0.01) == ([], [generator])
    gates[0].touch()
    ready, pending = ray.wait([generator, ref], num_returns=2, timeout=45, fetch_local=False)
    assert (ready, pending) == ([generator, ref], [])
    assert ray.get(next(generator)) == "0"
    assert ray.wait([generator], timeout=0) == ([], [generator])
    gates[1].touch()
    gates[2].touch()
    ray.get(generator.completed())
    for name in ("1", "2"):
        assert ray.wait([generator], timeout=0) == ([generator], [])
        assert ray.get(next(generator)) == name
    # At the end `next` doesn't wait either.
    assert ray.wait([generator], timeout=0) == ([generator], [])
    with pytest.raises(StopIteration):
        next(generator)
    with pytest.raises(ValueError, match="unique"):
        ray.wait([generator, generator])
    with pytest.raises(TypeError, match="got a single"):
        ray.wait(generator)


@pytest.mark.parametrize("remote", [count, fail_after], ids=["end", "failure"])
def test_who_waits_learns_of_the_end(remote, tmp_path):
    gate = tmp_path / "gate"

    @ray.remote
    def late():
        until(gate.exists)
        return 2

    generator = remote.remote(late.remote())
    assert ray.wait([generator], timeout=0) == ([], [generator])
    gate.touch()
    got = 0
    while True:
        assert ray.wait([generator], timeout=45) == ([generator], [])
        try:
            next(generator)
        except StopIteration:
            break
        got += 1
    assert got == (3 if remote is fail_after else 2)


def test_async_for():
    async def read(n):
        return [await ref async for ref in count.remote(n)]

    async def all_of_them():
        return await asyncio.gather(*(read(n) for n in range(8)))

    assert asyncio.run(all_of_them()) == [list(range(n)) for n in range(8)]

    async def by_hand():
        generator = fail_after.remote(1)
        assert await (await generator.__anext__()) == 0
        failed = await generator._next_async(45)
        with pytest.raises(ValueError, match="enough"):
            await failed
        with pytest.raises(StopAsyncIteration):
            await generator.__anext__()

    asyncio.run(by_hand())


# ---- dynamic, and a fixed number --------------------------------------------------------------


@ray.remote(num_returns="dynamic")
def dynamic(n, fails=False):
    for i in range(n):
        yield np.full(30_000, i)
    if fails:
        raise ValueError("enough")


def test_dynamic_generators():
    ref = dynamic.remote(4)
    assert isinstance(ref, ray.ObjectRef)
    refs = ray.get(ref)
    assert isinstance(refs, ray.DynamicObjectRefGenerator)
    assert len(refs) == 4
    del ref
    gc.collect()
    assert [int(ray.get(r)[0]) for r in refs] == [0, 1, 2, 3]
    assert len(ray.get(dynamic.remote(0))) == 0

    @ray.remote
    def total(generator):
        return sum(int(ray.get(r)[0]) for r in generator)

    assert ray.get(total.remote(dynamic.remote(5))) == 10
    assert ray.get(total.remote(ray.get(dynamic.remote(5)))) == 10
    one, two, three = ray.get(dynamic.remote(2, fails=True))
    assert [int(a[0]) for a in ray.get([one, two])] == [0, 1]
    with pytest.raises(ValueError, match="enough"):
        ray.get(three)


@pytest.mark.parametrize("at", range(ITEMS + 1))
def test_dynamic_generators_are_retried(at, tmp_path):
    ref = die_once.options(num_returns="dynamic").remote(at, str(tmp_path / "died"), True)
    assert [int(ray.get(r)[0]) for r in ray.get(ref)] == list(range(ITEMS))


def test_dynamic_generators_without_retries(tmp_path):
    again = die_once.options(num_returns="dynamic", max_retries=0)
    with pytest.raises(WorkerCrashedError):
        ray.get(again.remote(2, str(tmp_path / "died"), True))


def test_a_fixed_number_of_returns():
    four = fail_after.options(num_returns=4).remote(2)
    assert ray.get(four[:2]) == [0, 1]
    for ref in four[2:]:
        with pytest.raises(ValueError, match="enough"):
            ray.get(ref)
    # All were there when it raised.
    assert ray.get(list(fail_after.options(num_returns=2).remote(2))) == [0, 1]
    few = count.options(num_returns=3).remote(2)
    assert ray.get(few[:2]) == [0, 1]
    with pytest.raises(ValueError, match="num_returns=3"):
        ray.get(few[2])
    for ref in count.options(num_returns=3).remote(4):
        with pytest.raises(ValueError, match="num_returns=3"):
            ray.get(ref)
