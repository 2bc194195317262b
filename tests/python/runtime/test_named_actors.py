# SPDX-License-Identifier: Apache-2.0
"""Named actors on one runtime: names, namespaces, weak handles, get_if_exists, and who frees a
name."""

import os
import signal
import threading
import time

import pytest
import ray
from common import Count

pytestmark = pytest.mark.usefixtures("session")


@ray.remote
class Counter(Count):
    def context(self):
        context = ray.get_runtime_context()
        return context.get_actor_name(), context.namespace

    def me(self):
        return ray.get_runtime_context().current_actor


class Plain:
    def hello(self):
        return "hello"


Other = ray.remote(Plain)


def until_free(name, namespace=None):
    """Waits until nobody has the name."""
    while True:
        try:
            ray.get_actor(name, namespace=namespace)
        except ValueError:
            return
        time.sleep(0.01)


def test_found_by_name_everywhere():
    actor = Counter.options(name="everywhere").remote(5)
    found = ray.get_actor("everywhere")
    assert found == actor
    assert ray.get(found.add.remote()) == 6

    @ray.remote
    def elsewhere():
        return ray.get(ray.get_actor("everywhere").add.remote())

    assert ray.get(elsewhere.remote()) == 7
    name, namespace = ray.get(actor.context.remote())
    assert (name, namespace) == ("everywhere", ray.get_runtime_context().namespace)
    assert "everywhere" in ray.util.list_named_actors()


def test_names_are_unique_until_the_end():
    actor = Counter.options(name="one").remote()
    with pytest.raises(ValueError, match="already taken") as caught:
        Counter.options(name="one").remote()
    assert isinstance(caught.value, ray.exceptions.ActorAlreadyExistsError)
    assert "one" in str(caught.value)
    ray.kill(actor)
    again = Counter.options(name="one").remote(10)
    assert ray.get(again.add.remote()) == 11
    del again
    until_free("one")


def test_what_is_refused():
    with pytest.raises(ValueError, match="Actor name cannot be an empty string"):
        Counter.options(name="").remote()
    with pytest.raises(TypeError):
        Counter.options(name=1).remote()
    with pytest.raises(ValueError, match="non-empty"):
        ray.get_actor("")
    with pytest.raises(ValueError, match="Failed to look up actor with name 'nobody'"):
        ray.get_actor("nobody")
    with pytest.raises(ValueError, match="namespace"):
        ray.get_actor("nobody", namespace="")
    with pytest.raises(TypeError):
        ray.get_actor("nobody", namespace=1)
    with pytest.raises(ValueError, match="namespace"):
        Counter.options(name="n", namespace="").remote()
    with pytest.raises(ValueError, match="must be specified to use `get_if_exists`"):
        Counter.options(get_if_exists=True).remote()
    with pytest.raises(ValueError, match="1 to 500 bytes"):
        Counter.options(name="n" * 501).remote()
    with pytest.raises(ValueError, match="null character"):
        Counter.options(name="n\0m").remote()
    with pytest.raises(ValueError, match="lifetime"):
        Counter.options(lifetime="for ever").remote()


def test_namespaces_are_apart():
    here = Counter.options(name="same").remote(0)
    there = Counter.options(name="same", namespace="there").remote(100)
    assert ray.get(ray.get_actor("same").add.remote()) == 1
    assert ray.get(ray.get_actor("same", namespace="there").add.remote()) == 101
    assert here != there
    everywhere = ray.util.list_named_actors(all_namespaces=True)
    assert {"name": "same", "namespace": "there"} in everywhere
    assert {"name": "same", "namespace": ray.get_runtime_context().namespace} in everywhere
    assert ray.util.list_named_actors().count("same") == 1


def test_a_found_handle_does_not_keep_it_alive():
    actor = Counter.options(name="weak").remote()
    found = ray.get_actor("weak")
    assert ray.get(found.add.remote()) == 1
    del actor
    until_free("weak")
    with pytest.raises(ray.exceptions.RayActorError):
        while True:  # it may still end what it had queued
            ray.get(found.add.remote())


def test_a_found_handle_can_be_passed_on():
    actor = Counter.options(name="passed").remote()

    @ray.remote
    def use(handles):
        return [ray.get(h.add.remote()) for h in handles]

    assert ray.get(use.remote([ray.get_actor("passed"), actor])) == [1, 2]
    ref = ray.put({"it": ray.get_actor("passed")})
    assert ray.get(ray.get(ref)["it"].add.remote()) == 3


def test_get_if_exists():
    options = {"name": "shared", "get_if_exists": True}
    first = Counter.options(**options).remote(7)
    second = Counter.options(**options).remote(1000)
    assert first == second
    assert ray.get(second.add.remote()) == 8
    # A name of the decorator's does as well.
    third = ray.remote(name="shared")(Plain).options(get_if_exists=True).remote()
    assert third == first
    # The class is the existing actor's, whatever was asked for.
    other = Other.options(**options).remote()
    assert ray.get(other.add.remote()) == 9
    assert not hasattr(other, "hello")


def test_get_if_exists_by_many_at_once():
    @ray.remote(num_cpus=0)
    def get(name):
        actor = Counter.options(name=name, get_if_exists=True, lifetime="detached").remote()
        ray.get(actor.add.remote())
        return actor._actor_id.hex()

    for i in range(10):
        name = f"raced-{i}"
        assert len(set(ray.get([get.remote(name) for _ in range(4)]))) == 1
        actor = ray.get_actor(name)
        assert ray.get(actor.add.remote(0)) == 4
        ray.kill(actor)


def test_many_creators_and_one_wins():
    @ray.remote(num_cpus=0)
    class Creator:
        def create(self, name):
            try:
                self.made = Counter.options(name=name).remote()
            except ValueError:
                return False
            return True

    creators = [Creator.remote() for _ in range(4)]
    for i in range(25):
        won = ray.get([c.create.remote(f"contended-{i}") for c in creators])
        assert sum(won) == 1


def test_the_name_is_taken_before_the_arguments_come():
    gate = threading.Event()

    @ray.remote
    def wait(path):
        while not os.path.exists(path):
            time.sleep(0.01)
        return 41

    path = f"/tmp/ray-test-gate-{os.getpid()}-{time.monotonic_ns()}"
    actor = Counter.options(name="early").remote(wait.remote(path))
    with pytest.raises(ValueError, match="already taken"):
        Counter.options(name="early").remote()
    value = ray.get_actor("early").add.remote()
    open(path, "w").close()
    try:
        assert ray.get(value) == 42
    finally:
        os.unlink(path)
    gate.set()
    del actor


def test_killed_before_the_arguments_come():
    @ray.remote
    def never():
        time.sleep(1000)

    ref = never.remote()
    actor = Counter.options(name="unborn").remote(ref)
    ray.kill(actor)
    until_free("unborn")


def test_the_name_is_kept_over_a_restart():
    actor = Counter.options(name="restarted", max_restarts=-1, max_task_retries=-1).remote()
    found = ray.get_actor("restarted")
    for _ in range(3):
        pid = ray.get(found.pid.remote())
        os.kill(pid, signal.SIGKILL)
        while ray.get(found.pid.remote()) == pid:
            pass
        assert ray.get_actor("restarted") == actor
    ray.kill(actor)
    until_free("restarted")


def test_a_dying_process_frees_its_name():
    actor = Counter.options(name="mortal").remote()
    os.kill(ray.get(actor.pid.remote()), signal.SIGKILL)
    until_free("mortal")
    again = Counter.options(name="mortal").remote()
    assert ray.get(again.add.remote()) == 1


def test_names_of_a_creator_that_dies_are_freed():
    @ray.remote
    class Creator:
        def make(self):
            self.actor = Counter.options(name="orphan").remote()
            return os.getpid()

        def late(self):
            self.late = Counter.options(name="late-orphan", lifetime="detached").remote(
                wait_for_ever.remote()
            )

    @ray.remote(num_cpus=0)
    def wait_for_ever():
        time.sleep(1000)

    creator = Creator.remote()
    pid = ray.get(creator.make.remote())
    ray.get(creator.late.remote())
    ray.get_actor("orphan")
    ray.get_actor("late-orphan")
    os.kill(pid, signal.SIGKILL)
    until_free("orphan")
    until_free("late-orphan")  # detached, but nobody can send its arguments any more


def test_killed_in_the_middle_of_creation():
    """Creators that die at any time leave the name to the next."""

    @ray.remote(max_restarts=0, num_cpus=0)
    class Creator:
        def pid(self):
            return os.getpid()

        def make(self):
            for i in range(1000):
                self.actor = Counter.options(name="middle", num_cpus=0).remote(i)
                ray.kill(self.actor)

    for delay in range(10):
        creator = Creator.remote()
        pid = ray.get(creator.pid.remote())
        ref = creator.make.remote()
        time.sleep(delay / 1000)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(ray.exceptions.RayActorError):
            ray.get(ref)
    until_free("middle")
    actor = Counter.options(name="middle").remote(1)
    assert ray.get(actor.add.remote()) == 2


def test_a_constructor_that_fails_frees_the_name():
    @ray.remote
    class Broken:
        def __init__(self):
            raise RuntimeError("no")

        def call(self):
            pass

    broken = Broken.options(name="broken").remote()
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(broken.call.remote())
    until_free("broken")


def test_a_detached_actor_needs_no_handle():
    Counter.options(name="detached", lifetime="detached").remote(3)
    assert ray.get(ray.get_actor("detached").add.remote()) == 4
    me = ray.get(ray.get_actor("detached").me.remote())
    assert ray.get(me.add.remote()) == 5
    ray.kill(me)
    until_free("detached")


def test_names_survive_the_control_service(kill_gcs):
    actor = Counter.options(name="survivor").remote()
    assert ray.get(actor.add.remote()) == 1
    for _ in range(2):
        kill_gcs()
        assert ray.get(ray.get_actor("survivor").add.remote()) > 1
        with pytest.raises(ValueError, match="already taken"):
            Counter.options(name="survivor").remote()


@pytest.mark.parametrize("point", ["gcs.round.before_commit", "gcs.round.before_answers"])
def test_the_control_service_dies_around_a_commit(run_program, tmp_path, point):
    """Stored or not, answered or not: a request that is sent again is answered alike."""
    program = """
        import ray
        @ray.remote(num_cpus=0)
        class Counter:
            def __init__(self, start):
                self.value = start
            def add(self):
                self.value += 1
                return self.value
        ray.init(num_cpus=1)
        made = []
        for i in range(3):
            made.append(Counter.options(name=f"n{i}").remote(i))
            try:
                Counter.options(name=f"n{i}").remote(100)
                raise SystemExit("the name was given twice")
            except ValueError:
                pass
            assert ray.get_actor(f"n{i}") == made[i]
            assert ray.get(made[i].add.remote()) == i + 1
        assert sorted(ray.util.list_named_actors()) == ["n0", "n1", "n2"]
        ray.kill(made[0])
        again = Counter.options(name="n0").remote(50)
        assert ray.get(again.add.remote()) == 51
    """
    died = 0
    for n in range(1, 25, 2):
        token = tmp_path / f"token-{n}"
        token.touch()
        env = {
            **os.environ,
            "RAY_FAULT": f"gcs/{point}:crash:nth={n}",
            "RAY_FAULT_TOKEN": str(token),
        }
        code, out, err = run_program(program, env=env)
        assert code == 0, out + err
        died += not token.exists()
    assert died > 5
