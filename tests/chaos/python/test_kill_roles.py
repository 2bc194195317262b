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


def load_average():
    """How busy the machine is, for those who read of a bound that was missed."""
    return f"load average {os.getloadavg()[0]:.1f}"


def begin_load(world, rng, **options):
    """Starts the load."""
    driver = world.start(LOAD, {"seed": rng.getrandbits(32), **options})
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
    driver = begin_load(world, rng, forks=forks)
    for _ in range(KILLS):
        said = one_batch(driver, rng, strike)
    end_load(driver)
    print(f"{KILLS} kills; lost with the dead: {said['lost']}")


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
    """The raylet gives up at the fourth death in 10 s, so there are batches between the blows."""
    struck, late = [], []
    longest = 0.0

    def strike(rng):
        for _ in range(rng.randrange(1, 4)):
            if len(struck) >= 3 and time.monotonic() - struck[-3] < 10.5:
                return
            found = in_role("gcs")
            if found:
                found[0].kill()
                struck.append(time.monotonic())
                time.sleep(rng.random() * 0.05)  # the moment of the next blow, not a wait

    driver = begin_load(world, rng, actors=True)
    while len(struck) < count(3, 200):
        said = one_batch(driver, rng, strike)
        longest = max(longest, said["outage"])
        if said["outage"] >= 1 * SLOW:
            late.append((len(struck), said["outage"], load_average()))
        assert said["lost"] == {"actors": 0, "objects": 0, "actor_calls": 0}
    end_load(driver)
    print(f"ray-gcs: {len(struck)} kills, back within {longest:.3f} s at most; {load_average()}")
    assert not late, f"ray-gcs was not back within a second: {late}"


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
    for _ in range(count(1, 5)):
        said = one_batch(driver, rng, strike)
        assert said["lost"] == {"actors": 0, "objects": 0, "actor_calls": 0}
    end_load(driver)


RAYLET_DIES = """
from ray.exceptions import LocalRayletDiedError

@ray.remote
def forever():
    time.sleep(1000)

@ray.remote(num_cpus=0)
def outer():
    return ray.get(forever.remote())

@ray.remote(num_cpus=0)
def add(x, y):
    return x + y

@ray.remote(num_cpus=0)
def big(x):
    return np.full(30_000, x)

@ray.remote(num_cpus=0)
class Actor:
    def forever(self):
        time.sleep(1000)
    def one(self):
        return 1

@ray.remote(num_cpus=1000)
class Never:
    pass

rng = random.Random(argument["seed"])

def on_and_on(what):
    while True:
        what()

def come_and_go():
    actor = Actor.remote()
    assert ray.get(actor.one.remote()) == 1

def depend():
    assert ray.get(add.remote(add.remote(1, 2), add.remote(3, 4))) == 10

def read():
    assert ray.get(big.remote(7))[0] == 7

for round in range(argument["rounds"]):
    start()
    array = ray.get(ray.put(np.arange(100_000)))
    stuck, busy, never = Actor.remote(), Actor.remote(), Never.remote()
    assert ray.get(busy.one.remote()) == 1
    refs = [forever.remote(), outer.remote(), stuck.forever.remote()]
    held = [ray.put(np.zeros(100_000)) for _ in range(4)]
    waits = {
        "get": lambda: ray.get(refs),
        "get one": lambda: ray.get(refs[1], timeout=1000),
        "wait": lambda: ray.wait(refs, timeout=None),
        "future": lambda: refs[0].future().result(),
        "actor that waits": lambda: ray.get(never.__ray_ready__.remote()),
        "actor calls": lambda: on_and_on(lambda: ray.get(busy.one.remote())),
        "actors": lambda: on_and_on(come_and_go),
        "tasks": lambda: on_and_on(depend),
        "values": lambda: on_and_on(read),
        "put": lambda: on_and_on(lambda: ray.put(np.zeros(200_000))),
        "state": lambda: on_and_on(ray.available_resources),
        "nodes": lambda: on_and_on(ray.nodes),
    }
    kinds = rng.sample(sorted(waits), 6)
    ended = []
    def wait_for(kind):
        try:
            waits[kind]()
            ended.append((kind, "nothing", time.monotonic()))
        except BaseException as e:
            ended.append((kind, type(e).__name__ + ": " + str(e), time.monotonic()))
    threads = [threading.Thread(target=wait_for, args=(k,)) for k in kinds]
    for t in threads:
        t.start()
    say("waiting")
    killed = float(hear())
    for t in threads:
        t.join()
    say("ended", seconds=max(e[2] for e in ended) - killed, ended=ended,
        initialized=ray.is_initialized())
    assert (array == np.arange(100_000)).all()
    try:
        ray.get(ray.put(1))
        raise SystemExit("no error")
    except LocalRayletDiedError:
        pass
    assert hear() == "again"
    if rng.random() < 0.5:
        ray.shutdown()
    if rng.random() < 0.5:
        del refs, held, stuck, busy, never, waits, threads
    say("shut down")
start()
assert ray.get(ray.put(3)) == 3
ray.shutdown()
say("end")
"""


def test_raylet_is_killed(world, rng):
    rounds = count(8, 200)
    driver = world.start(RAYLET_DIES, {"rounds": rounds, "seed": rng.getrandbits(32)})
    longest = 0.0
    for n in range(rounds):
        driver.hear("waiting")
        (raylet,) = in_role("raylet")
        time.sleep(rng.random() * 0.1)  # the moment of the blow, not a wait
        raylet.kill()
        killed = time.monotonic()
        driver.tell(str(killed))
        said = driver.hear("ended")
        for kind, error, when in said["ended"]:
            assert error.startswith("LocalRayletDiedError"), (n, kind, error)
            assert str(raylet.pid) in error and "SIGKILL" in error, (n, kind, error)
            assert when - killed < 1 * SLOW, (n, kind, when - killed, load_average())
        longest = max(longest, said["seconds"])
        assert said["initialized"] is False
        world.check_gone(2 * SLOW)
        world.check_files()
        driver.tell("again")
        driver.hear("shut down")
    driver.hear("end")
    driver.finish()
    print(f"raylet: {rounds} kills, every wait over within {longest:.3f} s; {load_average()}")


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


def kill_driver(world, driver):
    """Kills it, and looks until nothing is left; how long that took."""
    driver.process.kill()
    killed = time.monotonic()
    driver.finish(-signal.SIGKILL)
    world.check_gone(2 * SLOW - (time.monotonic() - killed))
    world.check_files()
    return time.monotonic() - killed


def test_driver_is_killed(world, rng):
    kills, longest = count(12, 200), 0.0
    for _ in range(kills):
        driver = world.start(DRIVER_DIES, {"forks": rng.random() < 0.5})
        driver.hear("busy")
        time.sleep(rng.random() * 0.05)  # the moment of the blow, not a wait
        longest = max(longest, kill_driver(world, driver))
    print(f"driver: {kills} kills, nothing left after {longest:.3f} s; {load_average()}")


def test_driver_is_killed_while_it_starts(world, rng):
    """At any moment of `init`."""
    kills, longest = count(20, 200), 0.0
    for _ in range(kills):
        driver = world.start("say('begin')\nstart()\nsay('started')\nhear()", None)
        driver.hear("begin")
        time.sleep(rng.random() * 0.1)  # the moment of the blow, not a wait
        longest = max(longest, kill_driver(world, driver))
    print(f"starting driver: {kills} kills, nothing left after {longest:.3f} s; {load_average()}")


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
