# SPDX-License-Identifier: Apache-2.0
"""An actor killed again and again while three callers have calls in flight."""

import collections
import os

import pytest
from worlds import HANG_S, SLOW, count

KILLED_WHILE_CALLED = """
from ray.exceptions import ActorUnavailableError
rng = random.Random(argument["seed"])
path = os.path.abspath("runs")
stop = os.path.abspath("stop")
open(path, "w").close()
start(num_cpus=2)

@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=argument["retries"],
            max_concurrency=argument["threads"])
class Actor:
    '''Notes every execution outside of itself, before it does anything else.'''
    def __init__(self, path):
        self.out = os.open(path, os.O_WRONLY | os.O_APPEND)
        self.name = f"{os.getpid()}.{time.monotonic_ns()}"
    def call(self, caller, number):
        os.write(self.out, f"{self.name} {caller} {number}\\n".encode())
        return caller, number

def stream(actor, caller):
    '''Keeps calls in flight until told to stop: how many, and which were not answered.'''
    sent, open_calls, failed = 0, [], []
    while True:
        stopping = os.path.exists(stop)
        while len(open_calls) < 50 and not stopping:
            open_calls.append((sent, actor.call.remote(caller, sent)))
            sent += 1
        if not open_calls:
            return sent, failed
        number, ref = open_calls.pop(0)
        try:
            assert ray.get(ref) == (caller, number), (caller, number)
        except ActorUnavailableError:
            failed.append(number)

@ray.remote(num_cpus=0, max_retries=0)
def stream_in_task(actor, caller):
    return stream(actor, caller)

@ray.remote(num_cpus=0)
class Caller:
    def stream(self, actor, caller):
        return stream(actor, caller)

actor = Actor.remote(path)
other = Caller.remote()
told = [stream_in_task.remote(actor, 0), other.stream.remote(actor, 1)]
here = []
thread = threading.Thread(target=lambda: here.append(stream(actor, 2)), daemon=True)
thread.start()

seen = open(path, "rb")
name, callers, killed, begun = None, set(), None, b""

def next_runs():
    '''Another process runs calls of all three.'''
    global name, callers, begun
    *lines, begun = (begun + seen.read()).split(b"\\n")  # the last one is still being written
    for line in lines:
        runs, caller, _ = line.split()
        if runs != name:
            name, callers = runs, set()
        callers.add(caller)
    return name != killed and len(callers) == 3

for n in range(argument["kills"]):
    until(next_runs, "calls go on")
    time.sleep(rng.random() * 0.003)  # the moment of the blow, not a wait
    os.kill(int(name.split(b".")[0]), signal.SIGKILL)
    killed = name
open(stop, "w").close()
thread.join()
callers = [*ray.get(told), *here]
say("callers", callers=callers, path=path)
assert hear() == "read"
os.unlink(path)
os.unlink(stop)
del actor, other, told
until(lambda: not state("references"), "no reference is known here")
ray.shutdown()
say("end")
"""


def read_runs(path):
    """The executions, in order: (process, caller, number)."""
    with open(path, encoding="ascii") as file:
        lines = [line.split() for line in file]
    return [(name, int(caller), int(number)) for name, caller, number in lines]


def check_order(runs, retries):
    """What runs again is what was running when the process died, before any later call."""
    last = {}
    for name, caller, number in runs:
        before_name, before = last.get(caller, ("", -1))
        if retries:
            again = number == before and name != before_name
            assert number == before + 1 or again, (caller, before, number)
        else:
            assert number > before, (caller, before, number)
        last[caller] = name, number


@pytest.mark.parametrize("threads", [1, 4], ids=["", "four_at_once"])
@pytest.mark.parametrize("retries", [-1, 0], ids=["retried", "never_twice"])
def test_an_actor_is_killed_while_three_call_it(world, rng, retries, threads):
    kills = count(10, 500)
    argument = {
        "kills": kills,
        "retries": retries,
        "threads": threads,
        "seed": rng.getrandbits(32),
    }
    driver = world.start(KILLED_WHILE_CALLED, argument)
    said = driver.hear("callers", seconds=HANG_S + kills * 2 * SLOW)
    runs = read_runs(said["path"])
    assert len({name for name, _, _ in runs}) >= kills
    times = collections.Counter((caller, number) for _, caller, number in runs)
    # At a death that many calls were running: of those only any can have run twice, or, when they
    # are not made again, can have failed.
    running = kills * threads
    assert sum(n - 1 for n in times.values()) <= (running if retries else 0)
    if threads == 1:
        check_order(runs, retries)
    lost = 0
    for caller, (sent, failed) in enumerate(said["callers"]):
        ran = {number for _, c, number in runs if c == caller}
        lost += len(failed)
        assert ran >= set(range(sent)) - set(failed), "an answer to a call that never ran"
        assert not failed or not retries
    assert lost <= running
    calls = sum(sent for sent, _ in said["callers"])
    twice = sum(n > 1 for n in times.values())
    print(
        f"{kills} kills, {calls} calls of three callers, {twice} ran twice, {lost} were lost; "
        f"load average {os.getloadavg()[0]:.1f}"
    )
    driver.tell("read")
    driver.hear("end")
    driver.finish()
