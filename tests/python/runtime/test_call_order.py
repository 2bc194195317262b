# SPDX-License-Identifier: Apache-2.0
"""allow_out_of_order_execution: whether calls overtake those whose arguments are not ready yet."""

import threading

import pytest
import ray

pytestmark = pytest.mark.usefixtures("session")


@ray.remote(num_cpus=0, max_concurrency=2)
class Gate:
    """What it gives is ready when it is opened."""

    def __init__(self):
        self.opened = threading.Event()

    def open(self):
        self.opened.set()

    def wait(self):
        self.opened.wait()
        return "late"


class Order:
    def __init__(self):
        self.seen = []

    def note(self, what):
        self.seen.append(what)

    def all(self):
        return list(self.seen)


class AsyncOrder(Order):
    async def anything(self):
        pass


FREE = {"allow_out_of_order_execution": True}
KEPT = {"allow_out_of_order_execution": False}


def of(decorated, options=None):
    """Actors of a class: by what it was made with, and by what was said later."""
    made = ray.remote(num_cpus=0, **decorated)
    return lambda cls: made(cls).options(**options) if options else made(cls)


@pytest.mark.parametrize(
    "make",
    [
        of(FREE),
        of({}, FREE),
        of(KEPT, FREE),
        of(FREE, {"max_concurrency": 1}),
        of({"max_concurrency": 2}),
        of({"max_concurrency": 2}, FREE),
        of({"max_concurrency": 2, "allow_out_of_order_execution": None}),
        of({"concurrency_groups": {"other": 1}}),
    ],
    ids=str,
)
@pytest.mark.parametrize("through", ["handle", "another process"])
def test_late_calls_are_overtaken(make, through):
    expect_overtaken(make(Order), through)


@pytest.mark.parametrize("make", [of({}), of({}, FREE), of(FREE)], ids=str)
def test_late_calls_of_event_loops_are_overtaken(make):
    expect_overtaken(make(AsyncOrder), "handle")


@ray.remote(num_cpus=0)
class Caller:
    def note(self, actor, refs):
        self.late = actor.note.remote(refs[0])
        ray.get([actor.note.remote(i) for i in range(50)])
        return ray.get(actor.all.remote())

    def finish(self):
        ray.get(self.late)


def expect_overtaken(cls, through):
    gate, actor, caller = Gate.remote(), cls.remote(), Caller.remote()
    ref = gate.wait.remote()
    if through == "handle":
        late = actor.note.remote(ref)
        ray.get([actor.note.remote(i) for i in range(50)], timeout=60)
        seen = ray.get(actor.all.remote(), timeout=60)
    else:
        seen = ray.get(caller.note.remote(actor, [ref]), timeout=60)
        late = caller.finish.remote()
    assert sorted(seen) == list(range(50))
    ray.get(gate.open.remote())
    ray.get(late, timeout=60)
    assert ray.get(actor.all.remote())[-1] == "late"


@pytest.mark.parametrize(
    "make",
    [
        of({}),
        of({"allow_out_of_order_execution": None}),
        of(KEPT),
        of(FREE, KEPT),
        of({"max_concurrency": 1}, KEPT),
        of({"concurrency_groups": {"other": 1}}, KEPT),
    ],
    ids=str,
)
def test_order_is_kept(make):
    gate, actor, witness = Gate.remote(), make(Order).remote(), Caller.remote()
    ready = ray.put("another caller")
    late = actor.note.remote(gate.wait.remote())
    later = [actor.note.remote(i) for i in range(50)]
    # Another caller's calls are not behind it, and came when nothing else had.
    assert ray.get(witness.note.remote(actor, [ready]), timeout=60) == [
        "another caller",
        *range(50),
    ]
    assert ray.wait(later, timeout=0)[0] == []
    ray.get(gate.open.remote())
    ray.get([late, *later], timeout=60)
    assert ray.get(actor.all.remote())[51:] == ["late", *range(50)]


@pytest.mark.parametrize(
    ("cls", "options", "kind"),
    [
        (AsyncOrder, {}, "async"),
        (AsyncOrder, {"max_concurrency": 1}, "async"),
        (Order, {"max_concurrency": 2}, "multi-threaded"),
    ],
)
def test_what_can_not_keep_the_order(cls, options, kind):
    for make in (of({**options, **KEPT}), of(options, KEPT)):
        with pytest.raises(ValueError, match=f"you're using {kind} actors") as error:
            make(cls).remote()
        assert "Set `allow_out_of_order_execution=True`" in str(error.value)


def test_only_for_actors_and_of_one_kind():
    with pytest.raises(TypeError, match="allow_out_of_order_execution"):
        of({"allow_out_of_order_execution": 1})(Order)
    with pytest.raises(ValueError, match="allow_out_of_order_execution"):
        ray.remote(allow_out_of_order_execution=True)(lambda: 1)
