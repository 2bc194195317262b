# SPDX-License-Identifier: Apache-2.0
"""Every end of an interpreter leaves nothing."""

import signal

import pytest
from worlds import SLOW

BUSY = """
start()

@ray.remote
def forever():
    time.sleep(1000)

@ray.remote
def one(x):
    return x

@ray.remote
class Actor:
    def call(self, x):
        return x

actor = Actor.remote()
refs = [forever.remote(), actor.call.remote(1), ray.put(np.zeros(300_000))]
assert ray.get([one.options(num_cpus=0).remote(1), actor.call.remote(2)]) == [1, 2]
array = ray.get(refs[2])
say("busy")
"""

ENDS = {
    "plain": ("pass", 0),
    "sys_exit": ("sys.exit(3)", 3),
    "exception": ("raise ValueError('mine')", 1),
    "os_exit": ("os._exit(4)", 4),
    "abort": ("os.abort()", -signal.SIGABRT),
    "sigterm": ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(1000)", None),
    "sigterm_in_get": (
        "threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start(); ray.get(refs[0])",
        None,
    ),
    "sighup": ("os.kill(os.getpid(), signal.SIGHUP); time.sleep(1000)", -signal.SIGHUP),
    "exit_in_thread": (
        "t = threading.Thread(target=lambda: ray.get(refs[0]), daemon=True); t.start()",
        0,
    ),
    "shutdown_twice": ("ray.shutdown(); ray.shutdown()", 0),
    "exec": ("os.execv('/bin/true', ['true'])", 0),
    "fork_then_exit": ("p = os.fork(); (os._exit(0) if p == 0 else os.waitpid(p, 0))", 0),
}


@pytest.mark.parametrize("how", ENDS)
def test_end(world, how):
    code, status = ENDS[how]
    driver = world.start(BUSY + code)
    driver.hear("busy")
    driver.finish(status)
    world.check_gone(10 * SLOW)


def test_sigint_in_get(world):
    # A shell starts what runs in its background with SIGINT ignored, and Python then keeps it so.
    driver = world.start(
        BUSY
        + """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    say("getting")
    ray.get(refs[0])
except KeyboardInterrupt:
    say("interrupted")
"""
    )
    driver.hear("busy")
    driver.hear("getting")
    driver.process.send_signal(signal.SIGINT)
    driver.hear("interrupted", 1 * SLOW)
    driver.finish(0)
    world.check_gone(10 * SLOW)


def test_a_forked_child_outlives_its_driver(world):
    """It holds the driver's descriptors at most, no runtime."""
    driver = world.start(
        BUSY
        + """
if os.fork() == 0:
    os.close(1); os.close(2); out.close()
    sys.stdin.readline()
    os._exit(0)
"""
    )
    driver.hear("busy")
    driver.finish(0)
    left = world.check_gone_but(1, 10 * SLOW)
    left[0].kill()
    world.check_gone()
