# SPDX-License-Identifier: Apache-2.0
"""What several of these tests need: an actor to talk to, and waiting for what others do."""

import os
import signal
import time

import ray


class Count:
    """A plain class that counts; tests make actors of it, or of what they derive from it."""

    def __init__(self, start=0):
        self.value = start

    def add(self, n=1):
        self.value += n
        return self.value

    def pid(self):
        return os.getpid()


def until(condition):
    """Waits for an event of another process."""
    deadline = time.monotonic() + 45
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.005)


def values(generator):
    """What a remote generator yields."""
    return [ray.get(ref) for ref in generator]


def kill_me():
    """Ends the process, as the kernel would."""
    os.kill(os.getpid(), signal.SIGKILL)


def await_other_pid(actor, pid):
    """Waits until the actor answers from another process, and gives its id."""
    while True:
        try:
            other = ray.get(actor.pid.remote())
        except ray.exceptions.ActorUnavailableError:
            continue
        if other != pid:
            return other


def gcs_pid():
    """The ray-gcs of this session: the one whose socket directory is ours."""
    session = ray.get_runtime_context().get_session_name()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as f:
                    argv = f.read().split(b"\0")
            except OSError:
                continue
            if os.path.basename(argv[0]) == b"ray-gcs" and session.encode() in b"\0".join(argv):
                return int(entry)
    return None
