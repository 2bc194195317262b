# SPDX-License-Identifier: Apache-2.0
"""The load under which processes are killed: a program that does one batch a word it is told."""

# Tasks that depend on tasks, nested ones, large and small values, actors. Every result is checked.
# What only a worker had (its actor, what it owns) may be lost with it, in a typed error.
LOAD = """
from ray.exceptions import (ActorDiedError, ActorUnavailableError, OwnerDiedError,
                            RayActorError, WorkerCrashedError)

forks = argument.get("forks", False)

@ray.remote(max_retries=-1)
def square(x):
    return x * x

@ray.remote(max_retries=-1)
def big(x):
    if forks and x % 3 == 0:
        child = os.fork()
        if child == 0:
            signal.pause()       # outlives its parent's last breath, holding its sockets
            os._exit(0)
    return np.full(60_000, x, dtype=np.int64)

@ray.remote(max_retries=-1)
def total(array, *others):
    return int(array[0]) + int(array.sum() // array.size) + sum(others)

@ray.remote(max_retries=-1)
def nested(x):
    return sum(ray.get([square.remote(i) for i in range(x, x + 5)]))

@ray.remote(max_retries=-1)
def owner(x):
    return [ray.put(np.full(30_000, x, dtype=np.int64)), ray.put(x)]

@ray.remote
class Counter:
    def __init__(self):
        self.n = 0
    def add(self, x):
        self.n += 1
        return x + 1
    def total(self, array):
        return int(array.sum() // array.size)

# Actors that come and go, each in its own way: what the control service has to do with. All is
# exact, since only the control service is killed.
@ray.remote(num_cpus=0)
class Comer:
    def __init__(self, box, fail=False):
        self.box = box
        if fail:
            raise ValueError("mine")
    def look(self):
        return int(ray.get(self.box[0])[0])
    def leave(self):
        ray.actor.exit_actor()
    def write(self, path):
        time.sleep(0.001)
        with open(path, "a") as f:
            f.write("x")

@ray.remote(num_cpus=0)
class Parent:
    def make(self, x):
        self.made = [Comer.remote([ray.put([x])]) for _ in range(2)]
        return sum(ray.get([m.look.remote() for m in self.made]))
    def crash(self):
        os._exit(1)  # those it made end with it

def died(ref, why):
    try:
        got = ray.get(ref)
        raise AssertionError(f"no error but {got}")
    except ActorDiedError as e:
        assert why in str(e), e

def come_and_go(rng):
    base = rng.randrange(1000)
    small = [Comer.remote([ray.put([base + i])]) for i in range(3)]
    looks = [a.look.remote() for a in small]
    large = Comer.remote([ray.put(np.full(60_000, base))])
    bad = Comer.remote([ray.put([0])], True)
    fails = [bad.look.remote() for _ in range(2)]
    parents = [Parent.remote() for _ in range(2)]
    made = [p.make.remote(base + i) for i, p in enumerate(parents)]
    crash = parents[0].crash.remote()
    path = f"{os.getcwd()}/written{base}"
    writer = Comer.remote([ray.put([0])])
    for _ in range(20):
        writer.write.remote(path)
    del writer
    time.sleep(rng.random() * 0.02)
    ray.kill(small[0])
    gone = small[1].leave.remote()
    after = large.look.remote()
    for i, ref in enumerate(looks):
        if i > 0:
            assert ray.get(ref) == base + i
    died(small[0].look.remote(), "ray.kill")
    died(gone, "exit")
    died(small[1].look.remote(), "exit")
    assert ray.get(small[2].look.remote()) == base + 2
    assert ray.get(after) == base
    for ref in fails:
        died(ref, "mine")
    assert ray.get(made) == [2 * base, 2 * base + 2]
    died(crash, "exit code 1")
    until(lambda: os.path.exists(path) and os.path.getsize(path) == 20, "queued calls are done")
    os.unlink(path)

# How long the control service left a question unanswered, at most.
outage = 0.0

def ask_on():
    global outage
    while True:
        begin = time.monotonic()
        try:
            ray.nodes()
        except BaseException:
            return
        outage = max(outage, time.monotonic() - begin)
        time.sleep(0.002)

lost = {"actors": 0, "objects": 0, "actor_calls": 0}
counter = None

def batch(rng):
    global counter
    base = rng.randrange(1000)
    squares = [square.remote(base + i) for i in range(40)]
    bigs = [big.remote(base + i) for i in range(6)]
    totals = [total.remote(b, s) for b, s in zip(bigs, squares)]
    nests = [nested.remote(base + i) for i in range(4)]
    owners = [owner.remote(base + i) for i in range(3)]
    if counter is None:
        counter = Counter.remote()
    calls = [counter.add.remote(base + i) for i in range(10)]
    calls.append(counter.total.remote(ray.put(np.full(30_000, base, dtype=np.int64))))
    say("under way")
    if argument.get("actors"):
        come_and_go(rng)
    assert ray.get(squares) == [(base + i) ** 2 for i in range(40)]
    for i, b in enumerate(bigs):
        array = ray.get(b)
        assert array.size == 60_000 and (array == base + i).all(), (i, base, array)
    assert ray.get(totals) == [2 * (base + i) + (base + i) ** 2 for i in range(6)]
    assert ray.get(nests) == [sum(j * j for j in range(base + i, base + i + 5)) for i in range(4)]
    for i, o in enumerate(owners):
        large, small = ray.get(o)
        try:
            assert (ray.get(large) == base + i).all() and ray.get(small) == base + i
        except OwnerDiedError:
            lost["objects"] += 1
    died = False
    for i, c in enumerate(calls):
        try:
            got = ray.get(c)
            assert got == (base if i == 10 else base + i + 1), (i, base, got)
        except RayActorError:
            died = True
            lost["actor_calls"] += 1
    if died:
        lost["actors"] += 1
        counter = None

def quiet():
    until(lambda: state("leases")["leases"] == 0 and state("leases")["pending_units"] == 0,
          "all leases come back")
    until(lambda: state("store")["objects"] == 0 and state("store")["dying"] == 0,
          "all objects are freed")
    until(lambda: ray.available_resources()["CPU"] == ray.cluster_resources()["CPU"],
          "all processors are free")
    until(lambda: sum(w["worker_type"] == "WORKER" for w in state("workers")) <= 8
          and not any(w["actor"] for w in state("workers")), "no more processes than need be")
    until(lambda: not state("references"), "no reference is known here")

start(num_cpus=argument.get("num_cpus", 2), object_store_memory=200_000_000)
rng = random.Random(argument["seed"])
batch(rng)
say("ready")
if argument.get("actors"):
    threading.Thread(target=ask_on, daemon=True).start()
while hear() == "go":
    outage = 0.0
    batch(rng)
    say("done", lost=lost, outage=outage)
counter = None
import gc
gc.collect()
quiet()
say("quiet", fds=len(os.listdir("/proc/self/fd")), lost=lost)
hear()
ray.shutdown()
say("end")
"""
