# SPDX-License-Identifier: Apache-2.0
"""Values that are lost from the store: made again from what their tasks were given, where they can
be. On one node nothing is lost by itself: `lose` takes the only copy out of the store."""

import asyncio
import gc
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import ray
from ray._private.internal_api import free, lose
from ray.exceptions import (
    ActorDiedError,
    GetTimeoutError,
    ObjectFreedError,
    ObjectLostError,
    ObjectReconstructionFailedError,
    ObjectReconstructionFailedLineageEvictedError,
    ObjectReconstructionFailedMaxAttemptsExceededError,
    TaskCancelledError,
    WorkerCrashedError,
)

pytestmark = pytest.mark.usefixtures("session")

LARGE = 50_000  # eight bytes each: it goes to the store


@ray.remote
def fill(value, path=None):
    """A large result; each run leaves a line."""
    if path:
        with open(path, "a") as file:
            file.write("run\n")
    return np.full(LARGE, value)


@ray.remote
def add(x, y):
    return x + y


@ray.remote
def first(x):
    return int(x[0])


@ray.remote(num_cpus=0)
class Holder:
    def hold(self, refs):
        self.refs = refs

    def read(self):
        return [int(x[0]) for x in ray.get(self.refs)]

    def fill(self, value):
        return np.full(LARGE, value)


def runs(path):
    return len(path.read_text().splitlines())


def check(ref, value):
    array = ray.get(ref)
    assert len(array) == LARGE and (array == value).all()


def test_a_lost_value_is_made_again(tmp_path):
    path = tmp_path / "runs"
    ref = fill.remote(7, path)
    check(ref, 7)
    assert runs(path) == 1
    for n in range(2, 5):
        lose(ref)
        check(ref, 7)
        assert runs(path) == n


def test_not_before_it_is_wanted(tmp_path):
    path = tmp_path / "runs"
    ref = fill.remote(7, path)
    ray.wait([ref])
    lose(ref)
    assert runs(path) == 1
    del ref


def test_max_retries_bounds_it():
    ref = fill.options(max_retries=1).remote(7)
    check(ref, 7)
    lose(ref)
    check(ref, 7)
    lose(ref)
    with pytest.raises(ObjectReconstructionFailedMaxAttemptsExceededError) as caught:
        ray.get(ref)
    assert ref.hex() in str(caught.value) and "max_retries" in str(caught.value)


def test_what_cannot_be_made_again():
    put = ray.put(np.zeros(LARGE))
    lose(put)
    with pytest.raises(ObjectReconstructionFailedError, match="ray.put"):
        ray.get(put)
    never = fill.options(max_retries=0).remote(7)
    ray.wait([never])
    lose(never)
    with pytest.raises(ObjectLostError) as caught:
        ray.get(never)
    assert type(caught.value) is ObjectLostError and caught.value.object_ref_hex == never.hex()
    actor = Holder.remote()
    result = actor.fill.remote(7)
    ray.wait([result])
    lose(result)
    with pytest.raises(ObjectReconstructionFailedError):
        ray.get(result)


def test_results_of_calls_with_retries():
    actor = Holder.options(max_task_retries=2, max_restarts=1).remote()
    result = actor.fill.remote(7)
    check(result, 7)
    lose(result)
    check(result, 7)
    ray.kill(actor)
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(actor.read.remote())
    lose(result)
    with pytest.raises(ObjectReconstructionFailedError):
        ray.get(result)


def test_arguments_are_made_again_first(tmp_path):
    paths = [tmp_path / f"runs{n}" for n in range(2)]
    one, two = (fill.remote(n + 1, paths[n]) for n in range(2))
    three = add.remote(one, two)
    six = add.remote(three, three)
    check(six, 6)
    lose([one, two, three, six])
    check(six, 6)
    assert [runs(p) for p in paths] == [2, 2]
    check(three, 3)
    assert [runs(p) for p in paths] == [2, 2]


def test_arguments_that_nobody_else_refers_to(tmp_path):
    path = tmp_path / "runs"
    ref = fill.remote(1, path)
    for _ in range(10):
        ref = add.remote(ref, 1)
    check(ref, 11)
    lose(ref)
    check(ref, 11)
    assert runs(path) == 2  # it had been given up long ago
    lose(ref)
    check(ref, 11)


def test_an_argument_that_cannot_be_made_again():
    put = ray.put(np.zeros(LARGE))
    ref = add.remote(put, 1)
    check(ref, 1)
    del put
    lose(ref)
    with pytest.raises(ObjectReconstructionFailedError):
        ray.get(ref)


def test_small_arguments_are_kept():
    ref = fill.remote(ray.put(3))
    check(ref, 3)
    gc.collect()
    lose(ref)
    check(ref, 3)


def test_a_wait_for_it_can_end_before(tmp_path):
    @ray.remote
    def gated(path):
        again = os.path.exists(path)
        open(path, "w").close()
        while again and not os.path.exists(path + "open"):
            time.sleep(0.001)
        return np.full(LARGE, 5)

    path = str(tmp_path / "ran")
    ref = gated.remote(path)
    check(ref, 5)
    lose(ref)
    with pytest.raises(ray.exceptions.GetTimeoutError):
        ray.get(ref, timeout=0.05)
    with pytest.raises(ray.exceptions.GetTimeoutError):
        ray.get([ref, ref], timeout=0)
    assert ray.wait([ref], timeout=0)[0] == []
    open(path + "open", "w").close()
    check(ref, 5)


def test_every_way_to_want_it():
    def lost(n):
        ref = fill.remote(n)
        ray.wait([ref])
        check(ref, n)
        lose(ref)
        return ref

    async def awaited(ref):
        return int((await ref)[0])

    assert asyncio.run(awaited(lost(1))) == 1
    assert lost(2).future().result()[0] == 2
    assert [int(x[0]) for x in ray.get([ray.put([5]), lost(3), ray.put([6])])] == [5, 3, 6]
    assert ray.get(first.remote(lost(4))) == 4
    assert ray.get(first.options(max_retries=0).remote(lost(4))) == 4
    actor = Holder.remote()
    ray.get(actor.hold.remote([lost(6), lost(7)]))
    assert ray.get(actor.read.remote()) == [6, 7]


def test_losses_that_several_threads_find():
    """None of them is told that a time is up, which nobody has set."""

    @ray.remote(max_retries=-1)
    def make():
        return np.ones(100_000)

    ref, stop, count = make.remote(), False, 0
    ray.get(ref)

    def read():
        nonlocal count
        while not stop:
            assert ray.get(ref)[0] == 1
            count += 1

    with ThreadPoolExecutor() as pool:
        readers = [pool.submit(read) for _ in range(3)]
        try:
            for _ in range(100):
                lose(ref)
                assert ray.get([ref])[0][0] == 1
        finally:
            stop = True
        for reader in readers:
            reader.result()
    assert count > 0


def test_a_borrower_finds_out():
    ref = fill.remote(7)
    actor = Holder.remote()
    ray.get(actor.hold.remote([ref]))
    assert ray.get(actor.read.remote()) == [7]
    lose(ref)
    assert ray.get(actor.read.remote()) == [7]
    check(ref, 7)
    put = ray.put(np.zeros(LARGE))
    ray.get(actor.hold.remote([put]))
    assert ray.get(actor.read.remote()) == [0]
    lose(put)
    with pytest.raises(ObjectReconstructionFailedError):
        ray.get(actor.read.remote())


def test_calls_whose_argument_was_lost_keep_their_order():
    @ray.remote
    class Log:
        def __init__(self):
            self.seen = []

        def note(self, number, _):
            self.seen.append(number)

        def all(self):
            return self.seen

    log = Log.remote()
    refs = [fill.remote(n) for n in range(6)]
    ray.wait(refs, num_returns=6)
    lose(refs[1])
    lose(refs[4])
    ray.get([log.note.remote(n, ref) for n, ref in enumerate(refs)])
    seen = ray.get(log.all.remote())
    assert sorted(seen) == list(range(6))


@ray.remote(num_cpus=0)
class Keeper:
    def __init__(self, *arrays):
        self.numbers = [x if isinstance(x, int) else int(x[0]) for x in arrays]

    def read(self):
        return self.numbers

    def pid(self):
        return os.getpid()


@pytest.mark.parametrize("options", [{}, {"name": "keeper"}, {"max_concurrency": 2}], ids=str)
def test_constructors_whose_argument_was_lost(tmp_path, options):
    path = tmp_path / "runs"
    refs = [fill.remote(n, path) for n in range(3)]
    ray.wait(refs, num_returns=3)
    lose(refs[0])
    lose(refs[2])
    actor = Keeper.options(**options).remote(*refs, 7)
    assert ray.get(actor.read.remote(), timeout=60) == [0, 1, 2, 7]
    assert runs(path) == 5


def test_a_constructor_that_runs_again_after_its_argument_was_lost(tmp_path):
    path = tmp_path / "runs"
    ref = add.remote(fill.remote(3, path), 1)
    actor = Keeper.options(max_restarts=1, max_task_retries=-1).remote(ref)
    assert ray.get(actor.read.remote(), timeout=60) == [4]
    lose(ref)
    os.kill(ray.get(actor.pid.remote()), signal.SIGKILL)
    assert ray.get(actor.read.remote(), timeout=60) == [4]


def test_a_constructor_whose_borrowed_argument_was_lost():
    @ray.remote(num_cpus=0)
    class Creator:
        def create(self, refs):
            self.actor = Keeper.remote(refs[0])
            return ray.get(self.actor.read.remote())

    ref = fill.remote(9)
    ray.wait([ref])
    lose(ref)
    assert ray.get(Creator.remote().create.remote([ref]), timeout=60) == [9]


def test_a_constructor_whose_argument_cannot_be_made_again():
    ref = ray.put(np.zeros(LARGE))
    lose(ref)
    actor = Keeper.remote(ref)
    with pytest.raises(ActorDiedError, match="cannot be reconstructed"):
        ray.get(actor.read.remote(), timeout=60)


def test_several_results_of_one_task(tmp_path):
    path = tmp_path / "runs"

    @ray.remote(num_returns=3)
    def three():
        with open(path, "a") as file:
            file.write("run\n")
        return np.full(LARGE, 1), [ray.put(5)], np.full(LARGE, 3)

    one, two, last = three.remote()
    [inner] = ray.get(two)
    check(last, 3)
    lose(one)
    check(one, 1)
    assert runs(path) == 2
    assert ray.get(inner) == 5 and ray.get(ray.get(two)[0]) == 5
    del one, two
    lose(last)
    check(last, 3)
    assert runs(path) == 3


@ray.remote(max_retries=-1)
def fill_then_hang(path):
    """A large result; when it is made again, it hangs."""
    with open(path, "a") as file:
        file.write("run\n")
    if runs(path) > 1:
        (path.parent / "again").touch()
        while True:
            time.sleep(0.01)
    return np.full(LARGE, 1)


@ray.remote(num_cpus=0)
class Canceller:
    def cancel(self, refs):
        ready = ray.wait(refs, timeout=0)[0]
        ray.cancel(refs[0])
        return len(ready)


def want(ref):
    """Reads it, which finds out that it was lost; it is made again from then on."""
    with pytest.raises(GetTimeoutError):
        ray.get(ref, timeout=0)


@pytest.mark.parametrize("by", ["owner", "borrower", "force"])
def test_a_task_that_runs_again_can_be_cancelled(tmp_path, by):
    path = tmp_path / "runs"
    ref = fill_then_hang.remote(path)
    ray.wait([ref])
    lose(ref)
    want(ref)
    while not (tmp_path / "again").exists():
        time.sleep(0.005)
    if by == "borrower":
        assert ray.get(Canceller.remote().cancel.remote([ref]), timeout=60) == 0
    else:
        ray.cancel(ref, force=by == "force")
    with pytest.raises(WorkerCrashedError if by == "force" else TaskCancelledError):
        ray.get(ref, timeout=60)
    assert runs(path) == 2
    assert ray.get(first.remote(fill.remote(3)), timeout=60) == 3


def test_a_task_that_waits_to_run_again_can_be_cancelled(tmp_path):
    path = tmp_path / "runs"
    source = fill_then_hang.remote(path)
    refs = [add.remote(source, 1) for _ in range(4)]
    blocked = fill.options(resources={"custom": 1}).remote(5)
    ray.wait([*refs, blocked], num_returns=5)
    for ref in (*refs, source, blocked):
        lose(ref)
    want(refs[0])
    ray.cancel(refs[0])  # wherever it is
    with pytest.raises(TaskCancelledError):
        ray.get(refs[0], timeout=60)
    want(source)
    while not (tmp_path / "again").exists():
        time.sleep(0.005)
    for ref in refs[1:]:  # each waits for `source`, which hangs
        want(ref)
        ray.cancel(ref)
        with pytest.raises(TaskCancelledError):
            ray.get(ref, timeout=60)
    ray.cancel(source)
    with pytest.raises(TaskCancelledError):
        ray.get(source, timeout=60)
    # One that no processor is free for.
    holders = Holder.options(resources={"custom": 2}).remote()
    ray.get(holders.hold.remote([]))
    want(blocked)
    ray.cancel(blocked)
    with pytest.raises(TaskCancelledError):
        ray.get(blocked, timeout=60)


def test_what_is_inside_comes_anew():
    @ray.remote
    def box():
        return [ray.put(os.getpid()), np.zeros(LARGE)]

    ref = box.remote()
    pid = ray.get(ray.get(ref)[0])
    lose(ref)
    assert isinstance(ray.get(ray.get(ref)[0]), int)
    assert isinstance(pid, int)


def test_freed_is_not_lost():
    ref = fill.remote(7)
    check(ref, 7)
    free(ref)
    with pytest.raises(ObjectFreedError):
        ray.get(ref)
    other = fill.remote(8)
    check(other, 8)
    lose(other)
    free([other])
    with pytest.raises(ObjectFreedError):
        ray.get(other)


LIMITED = """
import os
os.environ["RAY_max_lineage_bytes"] = "4000"
import numpy as np
import ray
from ray._private.internal_api import lose

@ray.remote
def fill(n):
    return np.full(50_000, n)

ray.init(num_cpus=2, log_to_driver=False)
refs = [fill.remote(n) for n in range(30)]
ray.wait(refs, num_returns=30)
lose(refs)
lost = 0
for n, ref in enumerate(refs):
    try:
        assert ray.get(ref)[0] == n
    except ray.exceptions.ObjectReconstructionFailedLineageEvictedError as e:
        assert "RAY_max_lineage_bytes" in str(e)
        lost += 1
assert 0 < lost < 30, lost
ray.shutdown()
print("done", lost)
"""


def test_lineage_is_bounded(run_program):
    code, out, err = run_program(LIMITED)
    assert code == 0 and out.startswith("done"), err
    assert ObjectReconstructionFailedLineageEvictedError is not None


def test_nothing_is_left():
    """Neither references nor values, when the results go."""
    import json

    def known():
        return len(json.loads(ray._native.state_json("references")))

    gc.collect()
    before = known()
    ref = fill.remote(1)
    for n in range(20):
        ref = add.remote(ref, fill.remote(n))
    ray.get(ref)
    assert known() > before
    del ref
    while known() > before:
        gc.collect()
