# SPDX-License-Identifier: Apache-2.0
"""An actor with a name, found by whoever needs it.

Run it as it is, or twice while `ray start --head` stands: the detached actor is there the second
time, and goes on counting.
"""

import ray


@ray.remote
class Visitors:
    """Counts."""

    def __init__(self):
        self.count = 0

    def enter(self):
        self.count += 1
        return self.count


@ray.remote
def visit():
    # No handle was passed: the name is enough, in the namespace that the job is in.
    return ray.get(ray.get_actor("visitors").enter.remote())


ray.init(namespace="museum")

# The first who comes makes it, everybody else gets that one.
visitors = Visitors.options(
    name="visitors", get_if_exists=True, lifetime="detached", num_cpus=0
).remote()
before = ray.get(visitors.enter.remote())
ray.get([visit.remote() for _ in range(9)])
print("visitors:", ray.get(visitors.enter.remote()) - before)

print("names:", ray.util.list_named_actors())
try:
    ray.get_actor("visitors", namespace="library")
except ValueError:
    print("nobody has that name in another namespace")

# ray.kill(visitors) would end it, and free its name.
