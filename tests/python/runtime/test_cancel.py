# SPDX-License-Identifier: Apache-2.0
"""ray.cancel: what has not begun never runs, what runs is interrupted, and nobody else is."""

import asyncio
import os
import random
import time

import pytest
import ray
from ray.exceptions import RayError, RayTaskError, TaskCancelledError, WorkerCrashedError

LONG = 1000  # seconds that nobody waits


@pytest.fixture(autouse=True)
def _use(session):
    pass


def wait_for(condition):
    """Until it holds; what would never come fails by the test's timeout."""
    while not condition():
        time.sleep(0.001)


def begun(path):
    """Until something was said there: the file alone may be the work of who is about to say it."""
    wait_for(lambda: lines(path))


def lines(path):
    return path.read_text().split() if path.exists() else []


def say(path, word="x"):
    """Appends a word that nobody else's can be mixed with."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, f"{word}\n".encode())
    os.close(fd)


@ray.remote
def hang(path, how="spin"):
    """Runs until it is interrupted, and tells of its begin and its end."""
    try:
        say(f"{path}.begun")
        if how == "spin":
            while True:
                pass
        elif how == "sleep":
            time.sleep(LONG)
        elif how == "get":
            ray.get(hang.options(num_cpus=0).remote(f"{path}.child", "sleep"))
        elif how == "wait":
            ray.wait([hang.options(num_cpus=0).remote(f"{path}.child", "sleep")])
        elif how == "read":
            os.read(os.pipe()[0], 1)
    except KeyboardInterrupt:
        say(f"{path}.interrupted")
        raise


@ray.remote
def echo(value):
    return value


def cancelled(ref):
    with pytest.raises(TaskCancelledError) as caught:
        ray.get(ref)
    return caught.value


# ---- tasks that run ------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["spin", "sleep", "get", "wait", "read"])
def test_running_task_is_interrupted_and_not_retried(tmp_path, how):
    path = tmp_path / how
    ref = hang.options(max_retries=-1, retry_exceptions=True).remote(str(path), how)
    begun(tmp_path / f"{how}.begun")
    ray.cancel(ref)
    error = cancelled(ref)
    assert ref.task_id().hex() in str(error) and "was cancelled" in str(error)
    assert lines(tmp_path / f"{how}.begun") == ["x"]
    assert lines(tmp_path / f"{how}.interrupted") == ["x"]
    assert ray.get(echo.remote(how)) == how


def test_all_returns_of_the_task_and_what_depends_on_them(tmp_path):
    refs = hang.options(num_returns=2).remote(str(tmp_path / "a"), "sleep")
    dependent = echo.remote(refs[1])
    begun(tmp_path / "a.begun")
    ray.cancel(refs[1])
    cancelled(refs[0])
    cancelled(refs[1])
    cancelled(dependent)


def test_interrupt_that_the_task_catches(tmp_path):
    @ray.remote
    def stubborn(path):
        for _ in range(2):
            try:
                say(path)
                time.sleep(LONG)
            except KeyboardInterrupt:
                ray.get(echo.options(num_cpus=0).remote(0))
        return ray.get_runtime_context().is_canceled()

    ref = stubborn.remote(str(tmp_path / "s"))
    for n in (1, 2):
        wait_for(lambda n=n: len(lines(tmp_path / "s")) == n)
        ray.cancel(ref)
    assert ray.get(ref) is True
    assert ray.get_runtime_context().is_canceled() is False


def test_exception_of_its_own_is_not_retried(tmp_path):
    @ray.remote(retry_exceptions=True, max_retries=5)
    def fails(path):
        try:
            say(path)
            time.sleep(LONG)
        except KeyboardInterrupt:
            raise ValueError("instead") from None

    ref = fails.remote(str(tmp_path / "f"))
    begun(tmp_path / "f")
    ray.cancel(ref)
    with pytest.raises(ValueError, match="instead"):
        ray.get(ref)
    assert lines(tmp_path / "f") == ["x"]


def test_force_ends_the_worker_and_nothing_else(tmp_path):
    @ray.remote(max_retries=-1)
    def deaf(path):
        while True:
            try:
                say(path, os.getpid())
                time.sleep(LONG)
            except KeyboardInterrupt:
                continue

    @ray.remote(max_retries=0)
    def short(value):
        return value

    assert ray.get([short.remote(i) for i in range(50)]) == list(range(50))
    ref = deaf.remote(str(tmp_path / "d"))
    others = [short.remote(i) for i in range(300)]
    begun(tmp_path / "d")
    ray.cancel(ref)
    ray.cancel(ref, force=True)
    with pytest.raises((WorkerCrashedError, TaskCancelledError), match="cancelled"):
        ray.get(ref)
    assert ray.get(others) == list(range(300))
    assert len(set(lines(tmp_path / "d"))) == 1  # one process, so it ran once


# ---- tasks that wait -----------------------------------------------------------------------------


def test_task_that_waits_for_an_argument(tmp_path):
    slow = hang.remote(str(tmp_path / "slow"), "sleep")
    waits, bystander = echo.remote(slow), echo.remote(slow)
    twice = hang.remote(slow, slow)
    for ref in (waits, twice):
        ray.cancel(ref)
        cancelled(ref)
    assert ray.wait([bystander, slow], timeout=0)[0] == []
    begun(tmp_path / "slow.begun")
    ray.cancel(slow)
    cancelled(bystander)


def test_task_that_waits_for_a_processor(tmp_path):
    blockers = [hang.remote(str(tmp_path / f"b{i}"), "sleep") for i in range(4)]
    for i in range(4):
        begun(tmp_path / f"b{i}.begun")
    queued = [hang.remote(str(tmp_path / f"q{i}")) for i in range(20)]
    kept = echo.remote("kept")
    for ref in queued:
        ray.cancel(ref, force=True)
    for ref in queued:
        cancelled(ref)
    for ref in blockers:
        ray.cancel(ref)
    assert ray.get(kept) == "kept"
    assert not list(tmp_path.glob("q*"))


def test_nothing_to_cancel():
    ref = echo.remote(5)
    assert ray.get(ref) == 5
    ray.cancel(ref)
    ray.cancel(ref, force=True, recursive=False)
    assert ray.get(ref) == 5
    put = ray.put("put")
    ray.cancel(put)
    assert ray.get(put) == "put"


def test_pipelined_tasks_of_which_some_are_cancelled(tmp_path):
    path = str(tmp_path / "interrupted")

    @ray.remote(max_retries=0)
    def short(number):
        try:
            end = time.perf_counter_ns() + 50_000
            while time.perf_counter_ns() < end:
                pass
            return number
        except KeyboardInterrupt:
            say(path, number)
            raise

    ray.get([short.remote(i) for i in range(100)])
    dice = random.Random(7)
    named, answered = set(), 0
    for start in range(0, 3000, 100):
        numbers = range(start, start + 100)
        refs = [short.remote(i) for i in numbers]
        chosen = [i for i in numbers if dice.random() < 0.5]
        for i in chosen:
            ray.cancel(refs[i - start])
        named.update(chosen)
        for i in numbers:
            try:
                assert ray.get(refs[i - start]) == i
                answered += 1
            except TaskCancelledError:
                assert i in named
    assert {int(n) for n in lines(tmp_path / "interrupted")} <= named
    assert answered >= 3000 - len(named)


# ---- children ------------------------------------------------------------------------------------


@ray.remote(num_cpus=0)
def family(path, generations):
    child = family.remote(f"{path}.c", generations - 1) if generations else None
    try:
        say(f"{path}.begun")
        time.sleep(LONG)
    except KeyboardInterrupt:
        say(f"{path}.interrupted")
        raise
    return child


def test_recursive_reaches_children_and_theirs(tmp_path):
    top = family.remote(str(tmp_path / "f"), 2)
    for name in ("f", "f.c", "f.c.c"):
        begun(tmp_path / f"{name}.begun")
    ray.cancel(top)
    cancelled(top)
    for name in ("f", "f.c", "f.c.c"):
        begun(tmp_path / f"{name}.interrupted")


def test_not_recursive_leaves_children_alone(tmp_path):
    @ray.remote(num_cpus=0)
    def child(path, gate):
        say(path)
        while not os.path.exists(gate):
            time.sleep(0.001)
        return "done"

    @ray.remote(num_cpus=0)
    class Keeper:
        def keep(self, refs):
            self.ref = refs[0]

        def value(self):
            return ray.get(self.ref)

    @ray.remote(num_cpus=0)
    def parent(path, gate, keeper):
        ref = child.remote(path, gate)
        ray.get(keeper.keep.remote([ref]))
        say(f"{path}.kept")
        ray.get(ref)

    keeper = Keeper.remote()
    gate = tmp_path / "gate"
    ref = parent.remote(str(tmp_path / "c"), str(gate), keeper)
    begun(tmp_path / "c")
    begun(tmp_path / "c.kept")
    ray.cancel(ref, recursive=False)
    cancelled(ref)
    gate.touch()
    assert ray.get(keeper.value.remote()) == "done"


def test_force_takes_the_children_along(tmp_path):
    @ray.remote(num_cpus=0)
    def child(path):
        say(path, os.getpid())
        while True:
            pass

    @ray.remote(num_cpus=0)
    def parent(path):
        ray.get(child.remote(path))

    top = parent.remote(str(tmp_path / "c"))
    wait_for(lambda: lines(tmp_path / "c"))
    pid = int(lines(tmp_path / "c")[0])
    ray.cancel(top, force=True)
    with pytest.raises((WorkerCrashedError, TaskCancelledError)):
        ray.get(top)
    wait_for(lambda: not os.path.exists(f"/proc/{pid}"))


# ---- by somebody who isn't the owner -------------------------------------------------------------


def test_borrowers_cancel(tmp_path):
    @ray.remote(num_cpus=0)
    def canceller(refs, force):
        ray.cancel(refs[0], force=force)

    @ray.remote(num_cpus=0)
    class Canceller:
        def cancel(self, refs, force=False):
            ray.cancel(refs[0], force=force)

    ref = hang.remote(str(tmp_path / "a"))
    begun(tmp_path / "a.begun")
    ray.get(canceller.remote([ref], False))
    cancelled(ref)
    actor = Canceller.remote()
    ref = hang.remote(str(tmp_path / "b"), "sleep")
    begun(tmp_path / "b.begun")
    ray.get(actor.cancel.remote([ref], True))
    with pytest.raises((WorkerCrashedError, TaskCancelledError)):
        ray.get(ref)
    never = hang.remote(str(tmp_path / "c"), "sleep")
    waits = echo.remote(never)
    ray.get(actor.cancel.remote([waits]))
    cancelled(waits)
    ray.cancel(never)  # its processor is another test's
    call = actor.cancel.remote([waits])
    with pytest.raises(ValueError, match="force=True is not supported for actor tasks"):
        ray.get(canceller.remote([call], True))


# ---- calls of actors -----------------------------------------------------------------------------


@ray.remote(num_cpus=0)
class Plain:
    def __init__(self):
        self.seen = []

    def wait(self, path, gate):
        say(path)
        while not os.path.exists(gate):
            time.sleep(0.001)
        return ray.get_runtime_context().is_canceled()

    def add(self, number):
        self.seen.append(number)
        return number

    def get(self):
        return self.seen


@pytest.mark.parametrize("threads", [1, 4])
def test_calls_that_wait_are_dropped_and_running_ones_go_on(tmp_path, threads):
    actor = Plain.options(max_concurrency=threads).remote()
    gate = tmp_path / "gate"
    runs = [actor.wait.remote(str(tmp_path / f"r{i}"), str(gate)) for i in range(threads)]
    for i in range(threads):
        begun(tmp_path / f"r{i}")
    calls = [actor.add.remote(i) for i in range(200)]
    never = hang.remote(str(tmp_path / "never"), "sleep")
    late = actor.add.remote(never)
    chosen = set(range(0, 200, 3))
    for i in chosen:
        ray.cancel(calls[i])
    for i in chosen:
        cancelled(calls[i])
    ray.cancel(late)
    cancelled(late)
    with pytest.raises(ValueError, match="force=True"):
        ray.cancel(calls[1], force=True)
    ray.cancel(runs[0])
    more = [actor.add.remote(200 + i) for i in range(10)]
    gate.touch()
    assert not any(ray.get(runs)[1:])
    kept = [i for i in range(200) if i not in chosen]
    assert [ray.get(calls[i]) for i in kept] == kept
    assert ray.get(more) == list(range(200, 210))
    ray.cancel(never)  # its processor is another test's
    seen = ray.get(actor.get.remote())
    expected = [*kept, *range(200, 210)]
    assert seen == expected if threads == 1 else sorted(seen) == expected


def test_running_call_can_ask_whether_it_was_cancelled(tmp_path):
    @ray.remote(num_cpus=0)
    class Polite:
        def work(self, path):
            say(path)
            while not ray.get_runtime_context().is_canceled():
                time.sleep(0.001)
            return "stopped"

        def next(self):
            return ray.get_runtime_context().is_canceled()

    for options in ({}, {"max_concurrency": 2}):
        actor = Polite.options(**options).remote()
        path = tmp_path / f"p{len(options)}"
        ref = actor.work.remote(str(path))
        begun(path)
        ray.cancel(ref)
        assert ray.get(ref) == "stopped"
        assert ray.get(actor.next.remote()) is False


@ray.remote(num_cpus=0, max_task_retries=3)
class Async:
    def __init__(self):
        self.begun, self.stopped, self.seen = 0, 0, []
        self.event = asyncio.Event()

    async def wait(self, number):
        self.begun += 1
        try:
            await self.event.wait()
        except asyncio.CancelledError:
            self.stopped += 1
            raise
        return number

    async def open(self):
        self.event.set()

    async def counts(self):
        return self.begun, self.stopped

    async def caught(self):
        self.begun += 1
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            self.seen.append("caught")
            return "caught"

    async def nested(self, path):
        await hang.options(num_cpus=0).remote(path, "sleep")

    async def add(self, number):
        self.seen.append(number)

    async def order(self):
        return self.seen


def test_async_actor_with_a_thousand_calls_half_of_them_cancelled():
    actor = Async.options(max_concurrency=800).remote()
    calls = [actor.wait.remote(i) for i in range(1000)]
    assert ray.wait(calls, timeout=0)[0] == []
    chosen = list(range(0, 1000, 2))
    for i in chosen:
        ray.cancel(calls[i])
    for i in chosen:
        cancelled(calls[i])
    ray.get(actor.open.remote())
    rest = list(range(1, 1000, 2))
    assert ray.get([calls[i] for i in rest]) == rest
    count, stopped = ray.get(actor.counts.remote())
    assert count - stopped == len(rest)
    for i in range(100):
        actor.add.remote(i)
    assert ray.get(actor.order.remote()) == list(range(100))


def test_async_call_that_catches_its_cancellation():
    actor = Async.remote()
    ref = actor.caught.remote()
    wait_for(lambda: ray.get(actor.counts.remote())[0] == 1)
    ray.cancel(ref)
    with pytest.raises(RayTaskError, match="was cancelled"):
        ray.get(ref)
    cancelled(ref)
    assert ray.get(actor.order.remote()) == ["caught"]


def test_async_call_takes_its_children_along(tmp_path):
    actor = Async.remote()
    ref = actor.nested.remote(str(tmp_path / "n"))
    begun(tmp_path / "n.begun")
    ray.cancel(ref)
    cancelled(ref)
    begun(tmp_path / "n.interrupted")


@pytest.mark.parametrize("options", [{}, {"concurrency_groups": {"other": 1}}], ids=str)
def test_cancelled_calls_take_no_memory_behind_a_long_one(options, tmp_path):
    """Their frames go before their turn comes, and the others keep their order."""

    @ray.remote(num_cpus=0, **options)
    class Busy:
        def __init__(self):
            self.notes = []

        def hold(self, path):
            say(f"{path}.begun")
            with open(path) as gate:
                gate.read()

        def note(self, what, data=b""):
            self.notes.append(what)

        def all(self):
            return self.notes

        def peak(self):
            with open("/proc/self/status") as status:
                return next(int(line.split()[1]) for line in status if "VmHWM" in line) >> 10

    path = tmp_path / "gate"
    os.mkfifo(path)
    actor = Busy.remote()
    before = ray.get(actor.peak.remote())
    held = actor.hold.remote(path)
    begun(tmp_path / "gate.begun")
    data = b"x" * 90_000  # as long as it may be and travel with the call
    kept = []
    for i in range(4000):
        ref = actor.note.remote(i, data)
        if i % 500 == 0:
            kept.append(ref)
        else:
            ray.cancel(ref)
    path.write_text("go")
    ray.get([held, *kept])
    assert ray.get(actor.all.remote()) == list(range(0, 4000, 500))
    # 360 MB were sent. What has room in the rings is read, and dropped, in its turn.
    assert ray.get(actor.peak.remote()) - before < 150


def test_cancelled_calls_no_longer_count_as_pending(tmp_path):
    actor = Plain.options(max_pending_calls=3).remote()
    gate = tmp_path / "gate"
    first = actor.wait.remote(str(tmp_path / "w"), str(gate))
    begun(tmp_path / "w")
    for _ in range(10):
        ref = actor.add.remote(1)
        ray.cancel(ref)
        cancelled(ref)
    gate.touch()
    assert ray.get(first) is False
    assert ray.get(actor.get.remote()) == []


def test_cancel_after_shutdown(fresh, tmp_path):
    ray.init(num_cpus=1, log_to_driver=False)
    ref = hang.remote(str(tmp_path / "h"), "sleep")
    begun(tmp_path / "h.begun")
    ray.shutdown()
    ray.init(num_cpus=1, log_to_driver=False)
    with pytest.raises((ValueError, RayError)):
        ray.cancel(ref)
