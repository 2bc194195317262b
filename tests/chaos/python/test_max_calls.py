# SPDX-License-Identifier: Apache-2.0
"""Tasks of one call a process that return references to their own puts: each process stays as long
as one of them is there, and not longer."""

from worlds import count

MAX_CALLS = """
from ray.exceptions import OwnerDiedError
rng = random.Random(argument["seed"])
start(num_cpus=2, object_store_memory=300_000_000)

@ray.remote(max_calls=1)
def make(n):
    return os.getpid(), [ray.put(n), ray.put(np.full(50_000, n)), ray.put([ray.put(n)])]

@ray.remote(max_calls=1)
def wrap(n, box):
    '''Puts around what others have put.'''
    return os.getpid(), ray.put([n, box])

@ray.remote(max_calls=1)
def read(n, box):
    return check(n, box)

@ray.remote(max_calls=1, max_retries=-1)
def dies_now_and_then(n, path):
    '''The first attempt dies, with or without having put something that nobody hears of.'''
    ref = ray.put(n)
    if not os.path.exists(path):
        open(path, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid(), [ref]

def check(n, refs):
    small, large, nested = refs
    assert ray.get(small) == n
    assert (ray.get(large) == n).all()
    assert ray.get(ray.get(nested)[0]) == n
    return True

def workers(*states):
    return {w["pid"] for w in state("workers") if w["state"] in states}

def settle():
    until(lambda: not state("references"), "no reference is known here")
    until(lambda: not workers("draining", "exiting"), "who isn't needed has gone")
    until(lambda: state("store")["used"] == 0, "the store is empty")

for _ in range(argument["rounds"]):
    made = ray.get([make.remote(n) for n in range(12)])
    pids = [pid for pid, _ in made]
    assert len(set(pids)) == 12, pids
    until(lambda: workers("draining") == set(pids), "all of them drain")
    assert all(ray.get([read.remote(n, refs) for n, (_, refs) in enumerate(made)]))
    for n in range(12):
        check(n, made[n][1])
    until(lambda: workers("draining") == set(pids), "only they do")
    for n in rng.sample(range(12), 6):
        made[n] = None
    left = {made[n][0] for n in range(12) if made[n]}
    until(lambda: workers("draining") == left, "those that nobody needs have gone")
    for n in range(12):
        if made[n]:
            check(n, made[n][1])
    made = None
    settle()

    inner_pid, inner = ray.get(make.remote(7))
    middle_pid, middle = ray.get(wrap.remote(8, inner))
    outer_pid, outer = ray.get(wrap.remote(9, [middle]))
    inner = middle = None
    until(lambda: workers("draining") == {inner_pid, middle_pid, outer_pid}, "all three drain")
    nine, [middle] = ray.get(outer)
    eight, inner = ray.get(middle)
    assert (nine, eight) == (9, 8)
    check(7, inner)
    outer = middle = None
    until(lambda: workers("draining") == {inner_pid}, "the innermost stays")
    check(7, inner)
    inner = None
    settle()

    path = f"died{random.random()}"
    pid, [ref] = ray.get(dies_now_and_then.remote(3, path))
    assert ray.get(ref) == 3
    os.unlink(path)
    del ref
    settle()

    refs = [make.remote(n) for n in range(6)]
    del refs  # nobody waits for them
    settle()
    say("round")
ray.shutdown()
say("end")
"""


def test_each_stays_as_long_as_it_is_needed(world, rng):
    rounds = count(3, 40)
    driver = world.start(MAX_CALLS, {"rounds": rounds, "seed": rng.getrandbits(32)})
    for _ in range(rounds):
        driver.hear("round")
    driver.hear("end")
    driver.finish()
