# SPDX-License-Identifier: Apache-2.0
"""What a dying ray-gcs had not read is not lost: it is stopped, told something, and killed."""

import signal

from worlds import in_role

PROGRAM = """
from ray.exceptions import ActorDiedError
start(num_cpus=4)

@ray.remote(num_cpus=0)
class Actor:
    def __init__(self, wait=None):
        while wait and not os.path.exists(wait):
            time.sleep(0.005)
        if wait:
            raise ValueError("mine")
    def pid(self):
        return os.getpid()
    def make(self):
        self.child = Actor.remote()
        return ray.get(self.child.pid.remote())
    def leave(self):
        ray.actor.exit_actor()

def alive(pid):
    return any(w["pid"] == pid and w["is_alive"] for w in state("workers"))

def gone(*pids):
    until(lambda: not any(alive(pid) for pid in pids), f"{pids} end")

def died(call, why):
    try:
        ray.get(call())
        raise SystemExit("no error")
    except ActorDiedError as e:
        assert why in str(e), e
"""


def run(world, code):
    """Runs a program that says when ray-gcs is to be stopped, and when to be killed."""
    driver = world.start(PROGRAM + code)
    driver.hear("stop it")
    (gcs,) = in_role("gcs")
    gcs.kill(signal.SIGSTOP)
    driver.tell("stopped")
    driver.hear("kill it")
    gcs.kill()
    driver.tell("killed")
    driver.hear("end")
    driver.finish()


def test_the_end_of_an_actor_and_of_its_creator(world):
    run(
        world,
        """
parent = Actor.remote()
pids = [ray.get(parent.pid.remote()), ray.get(parent.make.remote())]
say("stop it")
hear()
os.kill(pids[0], signal.SIGKILL)
gone(pids[0])
say("kill it")
hear()
gone(pids[1])
died(parent.pid.remote, "SIGKILL")
ray.shutdown()
say("end")
""",
    )


def test_a_constructor_that_fails(world):
    run(
        world,
        """
path = os.getcwd() + "/go"
actor = Actor.remote(path)
ref = actor.pid.remote()
until(lambda: any(w["running"] for w in state("workers")), "the constructor runs")
say("stop it")
hear()
open(path, "w").close()
until(lambda: not any(w["running"] for w in state("workers")), "the constructor ends")
say("kill it")
hear()
os.unlink(path)
died(lambda: ref, "mine")
until(lambda: not any(w["actor"] for w in state("workers")), "its process ends")
ray.shutdown()
say("end")
""",
    )


def test_what_the_driver_wants(world):
    run(
        world,
        """
actors = [Actor.remote() for _ in range(2)]
pids = ray.get([a.pid.remote() for a in actors])
say("stop it")
hear()
ray.kill(actors[0])
del actors[1]
late = Actor.remote()
ref = late.pid.remote()
ray.available_resources()   # the raylet has read what came before
say("kill it")
hear()
gone(*pids)
died(actors[0].pid.remote, "ray.kill")
assert alive(ray.get(ref))
ray.shutdown()
say("end")
""",
    )
