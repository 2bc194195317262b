# SPDX-License-Identifier: Apache-2.0
"""Task graphs: .bind on functions, classes and methods; inputs and outputs; actors' lives."""

import os
import select

import pytest
import ray
from ray.dag import (
    ClassMethodNode,
    ClassNode,
    DAGInputData,
    DAGNode,
    FunctionNode,
    InputAttributeNode,
    InputNode,
    MultiOutputNode,
)

pytestmark = pytest.mark.usefixtures("session")


@ray.remote
def add(x, y=0):
    return x + y


@ray.remote
def double(x):
    return 2 * x


@ray.remote
class Tally:
    def __init__(self, start=0):
        self.value = start

    def inc(self, by=1):
        self.value += by
        return self.value

    def get(self):
        return self.value

    def pid(self):
        return os.getpid()

    @ray.method(num_returns=2)
    def both(self):
        return self.value, -self.value


def ends(pid):
    """Waits until a process has ended."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], 30)[0])
    finally:
        os.close(fd)


def test_functions_in_a_chain():
    first = add.bind(1, y=2)
    graph = double.bind(add.bind(first, y=double.bind(first)))
    assert isinstance(first, FunctionNode) and isinstance(graph, DAGNode)
    assert ray.get(first.execute()) == 3  # every node can be the root
    assert ray.get(graph.execute()) == 18
    assert ray.get(graph.execute()) == 18
    assert first.get_args() == (1,) and first.get_kwargs() == {"y": 2}


def test_a_node_is_executed_once(tmp_path):
    @ray.remote
    def note(path):
        with open(path, "a") as file:
            file.write("x")
        return 1

    shared = note.bind(str(tmp_path / "log"))
    graph = add.bind(add.bind(shared, shared), add.bind(shared, y=shared))
    assert ray.get(graph.execute()) == 4
    assert (tmp_path / "log").read_text() == "x"


def test_long_chains_and_wide_diamonds():
    node = add.bind(0)
    for _ in range(2000):
        node = add.bind(node, 1)
    seen = []
    node.apply_recursive(seen.append)
    assert len(seen) == 2001
    node = add.bind(1)
    for _ in range(40):  # 2**40 paths
        node = add.bind(node, node)
    assert ray.get(node.execute()) == 2**40


def test_options():
    node = add.options(name="sum", num_cpus=2, num_returns=1).bind(1, 2)
    assert node.get_options()["name"] == "sum" and ray.get(node.execute()) == 3

    @ray.remote(num_returns=2)
    def two():
        return 1, 2

    assert ray.get(two.bind().execute()) == [1, 2]
    assert ray.get(add.options(num_returns=0).bind(1).execute() or ray.put(None)) is None


class Holder:
    def __init__(self, node):
        self.inner = {"deep": [node]}


def test_nodes_anywhere_in_the_arguments():
    @ray.remote
    def total(items, *, holder):
        refs = [items[0], items[1]["k"], *items[2], *holder.inner["deep"]]
        return sum(ray.get(refs))

    one = add.bind(1)
    graph = total.bind([one, {"k": double.bind(one)}, (one,)], holder=Holder(double.bind(2)))
    assert len(graph._get_all_child_nodes()) == 3
    assert ray.get(graph.execute()) == 1 + 2 + 1 + 4
    shared = {"same": [1, 2]}
    kept = add.bind(one, y=shared)._apply_in_order(lambda node: node)
    assert any(node.get_kwargs().get("y") is shared for node in kept.values())


def test_a_container_that_holds_itself():
    @ray.remote
    def length(items):
        return len(items)

    items = [1]
    items.append(items)
    assert ray.get(length.bind(items).execute()) == 2


def test_errors_of_nodes():
    @ray.remote
    def bad():
        raise KeyError("in a node")

    with pytest.raises(KeyError, match="in a node"):
        ray.get(add.bind(bad.bind(), 1).execute())
    with pytest.raises(TypeError, match="missing a required argument"):
        add.bind().execute()


def test_classes_and_methods():
    actor = Tally.bind(10)
    assert isinstance(actor, ClassNode)
    value = actor.get.bind()
    assert isinstance(value, ClassMethodNode) and value.get_method_name() == "get"
    assert ray.get(value.execute()) == 10
    other = Tally.bind(start=10)
    actor.inc.bind(2)
    actor.inc.bind(4)
    other.inc.bind(by=6)
    graph = add.bind(actor.get.bind(), other.get.bind())
    assert ray.get(graph.execute()) == 32
    assert ray.get(graph.execute()) == 32  # new actors each time


def test_a_class_node_gives_a_handle():
    handle = Tally.bind(add.bind(1, 2)).execute()
    assert ray.get(handle.get.remote()) == 3
    assert ray.get(Tally.options(num_cpus=1).bind(4).execute().get.remote()) == 4


def test_actors_of_a_graph_end_with_it():
    pid = ray.get(Tally.bind().pid.bind().execute())
    assert ends(pid)


def test_calls_of_a_bound_actor_outlive_the_execution():
    @ray.remote
    def late(path):
        with open(path) as file:  # blocks until the test writes
            return int(file.read())

    path = f"/tmp/ray-dag-{os.getpid()}"
    os.mkfifo(path)
    try:
        actor = Tally.bind(1)
        ref = actor.inc.bind(late.bind(path)).execute()  # the handle is gone already
        with open(path, "w") as file:
            file.write("41")
        assert ray.get(ref, timeout=30) == 42
    finally:
        os.unlink(path)


def test_actors_made_before_are_reused():
    tally = Tally.remote()
    with InputNode() as by:
        graph = MultiOutputNode([tally.inc.bind(by)])
    assert [ray.get(graph.execute(n)) for n in (1, 2, 3)] == [[1], [3], [6]]
    assert ray.get(tally.get.remote()) == 6


def test_a_graph_keeps_its_actors():
    tally = Tally.remote(5)
    node = tally.get.bind()
    del tally
    assert ray.get(node.execute()) == 5
    method = Tally.remote().get
    with pytest.raises(RuntimeError, match="Lost reference to actor"):
        method.bind()


def test_several_return_values():
    actor = Tally.bind(7)
    plus, minus = actor.both.bind()
    assert plus.is_class_method_output and plus.output_idx == 0
    assert plus.class_method_call is minus.class_method_call
    assert plus.class_method_call.is_class_method_call
    assert ray.get(add.bind(plus, double.bind(minus)).execute()) == -7
    assert ray.get(MultiOutputNode([plus, minus]).execute()) == [7, -7]
    whole = actor.both.options(num_returns=1).bind()
    assert ray.get(whole.execute()) == (7, -7)
    handle = Tally.remote(3)
    assert ray.get(MultiOutputNode(handle.both.bind()).execute()) == [3, -3]
    assert ray.get(handle.both.options(num_returns=1).bind().execute()) == (3, -3)


def test_one_input():
    with InputNode() as x:
        graph = add.bind(double.bind(x), add.bind(x, 1))
    assert ray.get(graph.execute(2)) == 7
    assert ray.get(graph.execute(ray.put(3))) == 10
    assert x.execute("itself") == "itself"


class Point:
    def __init__(self, x, y):
        self.x, self.y = x, y


def test_parts_of_the_input():
    with InputNode() as given:
        graph = MultiOutputNode([add.bind(given["x"], given["y"]), double.bind(given["x"])])
        assert isinstance(given["x"], InputAttributeNode) and given["x"] is given["x"]
        by_index = add.bind(given[0], given[1])
        by_name = add.bind(given.x, given.y)
    assert ray.get(graph.execute({"x": 1, "y": 2})) == [3, 2]
    assert ray.get(graph.execute(x=3, y=4)) == [7, 6]
    assert ray.get(by_index.execute([5, 6])) == 11
    assert ray.get(by_index.execute(7, 8)) == 15
    assert ray.get(by_name.execute(Point(9, 1))) == 10
    assert ray.get(by_name.execute(x=1, y=1)) == 2
    with pytest.raises(KeyError):
        by_name.execute(x=1, z=2)


def test_several_inputs_as_one():
    with InputNode() as given:
        node = given
    data = node.execute(1, 2, key=3)
    assert isinstance(data, DAGInputData)
    assert (data[0], data[1], data["key"]) == (1, 2, 3)
    with pytest.raises(ValueError, match="Please only use int index or str"):
        _ = data[1.5]


def test_input_rules():
    for wrong in (lambda: InputNode(1), lambda: InputNode(x=1)):
        with pytest.raises(ValueError, match="InputNode should not take any args or kwargs"):
            wrong()
    with pytest.raises(AssertionError, match="should be only used in context manager"):
        double.bind(InputNode()).execute(1)
    with InputNode() as one, InputNode() as two:
        graph = add.bind(one, two)
        with pytest.raises(AssertionError, match="Please only use int index or str"):
            _ = one[1.5]
    with pytest.raises(AssertionError, match="Each DAG should only have one unique InputNode"):
        graph.execute(1)
    with pytest.raises(ValueError, match="Invalid input type for `args`"):
        MultiOutputNode(graph)


def test_what_nodes_refuse():
    actor = Tally.bind()
    with InputNode() as given:
        nodes = [add.bind(1), actor, actor.get.bind(), given, given["x"]]
    for node in nodes:
        with pytest.raises(AttributeError, match=r"\.remote\(\) cannot be used on"):
            node.remote()
        with pytest.raises(AttributeError, match=r"\.bind\(\) cannot be used again on"):
            node.bind()
        with pytest.raises(ValueError, match="DAGNode cannot be serialized"):
            ray.cloudpickle.dumps(node)
    with pytest.raises(AttributeError, match=r"\.remote\(\) cannot be used on ClassMethodNodes"):
        actor.get.remote()
    with pytest.raises(AttributeError, match="has no attribute 'nope'"):
        _ = actor.nope
    with pytest.raises(ValueError, match="DAGNode cannot be serialized"):
        add.remote(add.bind(1))


def test_traversal():
    one = add.bind(1)
    graph = double.bind([one, one])
    names = []
    result = graph.apply_recursive(lambda node: names.append(repr(node)) or len(names))
    assert result == 2 and "add" in names[0] and "double" in names[1]
    uuids = []
    graph.apply_recursive(lambda node: uuids.append(node.get_stable_uuid()))
    assert uuids == [one.get_stable_uuid(), graph.get_stable_uuid()]


def test_references_of_the_last_execution():
    import asyncio

    one = add.bind(1)
    graph = double.bind(one)
    ref = graph.execute(_ray_cache_refs=True)
    found = asyncio.run(graph.get_object_refs_from_last_execute())
    assert found[graph.get_stable_uuid()] == ref
    assert ray.get(found[one.get_stable_uuid()]) == 1
    graph.clear_cache()
    assert asyncio.run(graph.get_object_refs_from_last_execute()) == {}
