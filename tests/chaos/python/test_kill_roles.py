# SPDX-License-Identifier: Apache-2.0
"""kill -9 under load, by role: every result right, no hang, nothing left."""

import os
import signal
import time

import pytest
from loads import LOAD
from worlds import SLOW, await_ends, count, in_role

KILLS = count(20, 200)


def descriptors(role):
    """How many descriptors the process of a role has open."""
    return len(os.listdir(f"/proc/{in_role(role)[0].pid}/fd"))


def begin_load(world, rng, forks=False):
    """Starts the load."""
    driver = world.start(LOAD, {"seed": rng.getrandbits(32), "forks": forks})
    driver.hear("under way")
    driver.hear("ready")
    driver.raylet_descriptors = descriptors("raylet")
    return driver


def one_batch(driver, rng, strike):
    """One batch of it, with a blow at a random moment."""
    driver.tell("go")
    driver.hear("under way")
    time.sleep(rng.random() * 0.02)  # the moment of the blow, not a wait
    strike(rng)
    return driver.hear("done")


def end_load(driver):
    """Lets it come to rest, and looks for what it should have given back."""
    driver.tell("stop")
    said = driver.hear("quiet")
    before = driver.raylet_descriptors
    assert descriptors("raylet") <= before + 20, "the raylet keeps descriptors"
    assert said["fds"] <= 120, "the driver keeps descriptors"
    driver.tell("shutdown")
    driver.hear("end")
    driver.finish()
    assert "AddressSanitizer" not in driver.errors() and "assert" not in driver.errors()


def run_load(world, rng, strike, forks=False):
    """Lets the load run, striking once in each batch."""
    driver = begin_load(world, rng, forks)
    for _ in range(KILLS):
        one_batch(driver, rng, strike)
    end_load(driver)


def kill_one(role):
    """A blow that kills one process of a role, when there is one."""

    def strike(rng):
        found = in_role(role)
        if found:
            rng.choice(found).kill()

    return strike


@pytest.mark.parametrize("forks", [False, True], ids=["", "that_forked"])
def test_worker_is_killed(world, rng, forks):
    run_load(world, rng, kill_one("worker"), forks)


def test_zygote_is_killed(world, rng):
    run_load(world, rng, kill_one("zygote"))


def test_gcs_is_killed(world, rng):
    """The raylet gives up after three deaths in 10 s, so there are batches between the blows."""
    struck = []

    def strike(rng):
        if len(struck) >= 3 and time.monotonic() - struck[-3] < 11:
            return
        (old,) = in_role("gcs")
        old.kill()
        struck.append(time.monotonic())
        end = time.monotonic() + 1 * SLOW
        while not [p for p in in_role("gcs") if p.pid != old.pid]:
            assert time.monotonic() < end, "ray-gcs is not back within a second"
            time.sleep(0.005)

    driver = begin_load(world, rng)
    while len(struck) < count(5, 200):
        one_batch(driver, rng, strike)
    end_load(driver)


def test_worker_is_stopped(world, rng):
    """Nothing but delay."""

    def strike(rng):
        found = in_role("worker")
        if found:
            stopped = rng.choice(found)
            stopped.kill(signal.SIGSTOP)
            time.sleep(5)  # what is tried: 5 s of nothing
            stopped.kill(signal.SIGCONT)

    driver = begin_load(world, rng)
    for _ in range(count(2, 5)):
        said = one_batch(driver, rng, strike)
        assert said["lost"] == {"actors": 0, "objects": 0, "actor_calls": 0}
    end_load(driver)


RAYLET_DIES = """
from ray.exceptions import LocalRayletDiedError

@ray.remote
def forever():
    time.sleep(1000)

@ray.remote
def outer():
    return ray.get(forever.remote())

@ray.remote
class Actor:
    def forever(self):
        time.sleep(1000)
    def one(self):
        return 1

for round in range(argument["rounds"]):
    start()
    assert not round or ray.is_initialized()
    array = ray.get(ray.put(np.arange(100_000)))
    actor = Actor.remote()
    assert ray.get(actor.one.remote()) == 1
    refs = [forever.remote(), outer.remote(), actor.forever.remote()]
    big = [ray.put(np.zeros(100_000)) for _ in range(4)]
    ended = []
    def wait_for(kind):
        try:
            if kind == "get":
                ray.get(refs)
            elif kind == "wait":
                ray.wait(refs, timeout=None)
            elif kind == "future":
                refs[0].future().result()
            elif kind == "loop":
                while True:
                    ray.get(actor.one.remote())
            elif kind == "put":
                while True:
                    ray.put(np.zeros(200_000))
            ended.append((kind, "nothing", time.monotonic()))
        except BaseException as e:
            ended.append((kind, type(e).__name__ + ": " + str(e), time.monotonic()))
    kinds = ["get", "wait", "future", "put"]
    threads = [threading.Thread(target=wait_for, args=(k,)) for k in kinds]
    for t in threads:
        t.start()
    say("waiting")
    assert hear() == "killed"
    killed = time.monotonic()
    for t in threads:
        t.join()
    say("ended", seconds=max(e[2] for e in ended) - killed, ended=ended,
        initialized=ray.is_initialized())
    assert (array == np.arange(100_000)).all()
    try:
        ray.get(ray.put(1))
        said = ""
    except Exception as e:
        said = type(e).__name__
    assert hear() == "again"
    ray.shutdown()
    del refs, big, actor
    say("shut down", error=said)
start()
assert ray.get(ray.put(3)) == 3
ray.shutdown()
say("end")
"""


def test_raylet_is_killed(world, rng):
    rounds = count(8, 200)
    driver = world.start(RAYLET_DIES, {"rounds": rounds})
    for _ in range(rounds):
        driver.hear("waiting")
        (raylet,) = in_role("raylet")
        time.sleep(rng.random() * 0.05)
        raylet.kill()
        driver.tell("killed")
        said = driver.hear("ended")
        for kind, error, _ in said["ended"]:
            assert error.startswith("LocalRayletDiedError"), (kind, error)
            assert str(raylet.pid) in error and "SIGKILL" in error, (kind, error)
        assert said["seconds"] < 1 * SLOW, said
        assert said["initialized"] is False
        world.check_gone(2 * SLOW)
        driver.tell("again")
        driver.hear("shut down")
    driver.hear("end")
    driver.finish()


DRIVER_DIES = """
@ray.remote
def spin(x):
    end = time.monotonic() + 0.01
    while time.monotonic() < end:
        pass
    return x

@ray.remote
def forks():
    if os.fork() == 0:
        signal.pause()
    time.sleep(1000)

@ray.remote
class Actor:
    def call(self, x):
        return x

start()
actors = [Actor.remote() for _ in range(2)]
stay = [ray.put(np.zeros(200_000)) for _ in range(4)]
refs = [spin.remote(i) for i in range(100)] + [a.call.remote(i) for a in actors for i in range(50)]
if argument["forks"]:
    refs.append(forks.remote())
ray.get(refs[0])
say("busy")
while True:
    ray.get([spin.remote(i) for i in range(20)])
"""


def test_driver_is_killed(world, rng):
    for _ in range(count(12, 200)):
        driver = world.start(DRIVER_DIES, {"forks": rng.random() < 0.5})
        driver.hear("busy")
        time.sleep(rng.random() * 0.05)
        driver.process.kill()
        driver.finish(-signal.SIGKILL)
        world.check_gone(2 * SLOW)


def test_driver_is_killed_while_it_starts(world, rng):
    """At any moment of `init`."""
    for _ in range(count(20, 200)):
        driver = world.start("say('begin')\nstart()\nsay('started')\nhear()", None)
        driver.hear("begin")
        time.sleep(rng.random() * 0.1)
        driver.process.kill()
        driver.finish(-signal.SIGKILL)
        world.check_gone(2 * SLOW)


def test_two_drivers_of_one_machine(world, rng):
    """Two runtimes side by side: the death of one is nothing to the other."""
    first = begin_load(world, rng)
    second = world.start(DRIVER_DIES, {"forks": True})
    second.hear("busy")
    mine = world.mine()
    first.tell("go")
    first.hear("under way")
    second.process.kill()
    second.finish(-signal.SIGKILL)
    first.hear("done")
    assert len(await_ends(mine, 0)) < len(mine)
    end_load(first)
