# SPDX-License-Identifier: Apache-2.0
"""A worker that lives on only for its objects is killed: how soon everybody knows."""

import os

from worlds import SLOW, count

OWNER_DIES = """
from ray.exceptions import OwnerDiedError
rng = random.Random(argument["seed"])
start(num_cpus=2)

@ray.remote(num_cpus=0)
def forever():
    time.sleep(1000)

@ray.remote(num_cpus=0, max_calls=1)
def begin(values):
    refs = [ray.put(np.zeros(50_000 * (n % 2) + 1)) for n in range(values)]
    return os.getpid(), [forever.remote()], refs

def wait_for(ref):
    '''When it is known that it never comes.'''
    try:
        ray.get(ref)
    except OwnerDiedError:
        return time.monotonic()
    raise AssertionError("it came")

def wait_for_values(refs):
    '''When the last of those that are there is gone.'''
    for ref in refs:
        try:
            while True:
                ray.get(ref)
        except OwnerDiedError:
            pass
    return time.monotonic()

@ray.remote(num_cpus=0)
class Borrower:
    def take(self, box):
        self.pending, self.values = box
        return True
    def lend_to(self, other):
        ray.get(other.take.remote([self.pending, self.values]))
        self.pending = self.values = None
    def wait(self):
        return wait_for(self.pending[0])
    def wait_for_values(self):
        return wait_for_values(self.values)

@ray.remote(num_cpus=0, max_retries=0)
def wait_in_task(box):
    return wait_for(box[0][0])

@ray.remote(num_cpus=0, max_retries=0)
def wait_in_nested(ref):
    return wait_for(ray.get(ref[0])[0])

@ray.remote(num_cpus=0, max_retries=0)
def use(value):
    raise AssertionError("it ran")

longest = {}
for n in range(argument["rounds"]):
    pid, pending, values = ray.get(begin.remote(4))
    until(lambda: any(w["pid"] == pid and w["state"] == "draining" for w in state("workers")),
          "it drains")
    here, lent, far = (Borrower.remote() for _ in range(3))
    ray.get([here.take.remote([pending, values]), lent.take.remote([pending, values])])
    ray.get(lent.lend_to.remote(far))
    waits = {
        "actor": here.wait.remote(),
        "through two hops": far.wait.remote(),
        "task": wait_in_task.remote([pending]),
        "nested": wait_in_nested.remote([ray.put(pending)]),
    }
    values_at = lent.take.remote([pending, values])
    waits["values"] = lent.wait_for_values.remote()
    dependent = use.remote(pending[0])
    times = {}
    def note(kind, refs):
        try:
            ray.get(refs)
        except OwnerDiedError:
            times[kind] = time.monotonic()
    threads = [threading.Thread(target=note, args=("driver", pending)),
               threading.Thread(target=note, args=("driver, many", values[:1] + pending)),
               threading.Thread(target=note, args=("argument", dependent))]
    for t in threads:
        t.start()
    ray.wait(list(waits.values()), timeout=rng.random() * 0.05)  # the moment of the blow
    killed = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    for t in threads:
        t.join()
    times.update(zip(waits, ray.get(list(waits.values()))))
    assert len(times) == 8, times
    for kind, when in times.items():
        longest[kind] = max(longest.get(kind, 0), when - killed)
    del pending, values, waits, dependent, here, far, lent, values_at, threads
until(lambda: not state("references"), "no reference is known here")
until(lambda: not any(w["actor"] for w in state("workers")), "the actors end")
say("longest", seconds=longest)
ray.shutdown()
say("end")
"""


def test_everybody_hears_of_it_within_a_second(world, rng):
    rounds = count(8, 200)
    driver = world.start(OWNER_DIES, {"rounds": rounds, "seed": rng.getrandbits(32)})
    longest = driver.hear("longest")["seconds"]
    driver.hear("end")
    driver.finish()
    told = ", ".join(f"{kind} {seconds:.3f} s" for kind, seconds in longest.items())
    print(f"{rounds} owners killed; at most: {told}; load average {os.getloadavg()[0]:.1f}")
    assert max(longest.values()) < 1 * SLOW, told
