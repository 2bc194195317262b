# SPDX-License-Identifier: Apache-2.0
"""Real drivers in a world of their own, the processes under them, and what they leave.

The process that runs the tests is a child subreaper: daemons that a driver starts and leaves become
its children, so whatever a driver brought about is found by walking down from here.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json
import os
import queue
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from typing import Any

# For slow machines: multiplies every bound in seconds.
SLOW = float(os.environ.get("RAY_TEST_TIMEOUT_MULTIPLIER", "1"))
FULL = os.environ.get("RAY_CHAOS_FULL") == "1"
# How long anything may take that isn't bounded by a promise. Only a hang reaches it.
HANG_S = float(os.environ.get("RAY_CHAOS_HANG_S", "60")) * SLOW

_PR_SET_CHILD_SUBREAPER = 36
if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
    raise OSError(ctypes.get_errno(), "prctl")

# What every driver program begins with.
PRELUDE = """
import json, os, random, signal, socket, sys, threading, time
import numpy as np
import ray
from ray import _native

argument = json.loads(sys.argv[1])

def report():
    '''On demand: where every thread is, and what this process and the raylet know.'''
    import faulthandler
    while os.read(int(sys.argv[2]), 1):
        faulthandler.dump_traceback(all_threads=True)
        for what in ("leases", "store", "workers", "references"):
            try:
                print(what, _native.state_json(what), file=sys.stderr, flush=True)
            except BaseException as e:
                print(what, e, file=sys.stderr, flush=True)
        try:
            for pid, told in all_references(timeout=3).items():
                print(pid, json.dumps(told), file=sys.stderr, flush=True)
        except BaseException as e:
            print(e, file=sys.stderr, flush=True)
        print("end of report", file=sys.stderr, flush=True)

threading.Thread(target=report, daemon=True).start()
out = os.fdopen(os.dup(1), "w", buffering=1)

def say(what, **more):
    out.write(json.dumps({"what": what, **more}) + "\\n")

def hear():
    line = sys.stdin.readline()
    return line.strip() if line else "end"

def start(**options):
    options.setdefault("num_cpus", 2)
    options.setdefault("log_to_driver", False)
    return ray.init(_temp_dir=os.environ["RAY_CHAOS_SESSIONS"], **options)

def state(what):
    return json.loads(_native.state_json(what))

def all_references(timeout=None):
    '''What this process knows, and what the workers that can be reached do.'''
    @ray.remote(num_cpus=0, max_retries=0)
    def ask():
        time.sleep(0.01)
        return os.getpid(), state("references")
    told = dict(ray.get([ask.remote() for _ in range(20)], timeout=timeout))
    return {"here": state("references"), **told}

def until(condition, what, limit=float(os.environ["RAY_CHAOS_HANG_S"]) / 2):
    '''There is no event for it: looks again and again.'''
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"never came about: {what}; store {state('store')}, "
                                 f"leases {state('leases')}, workers {state('workers')}, "
                                 f"references {all_references()}")
        time.sleep(0.01)
"""


def count(quick: int, full: int) -> int:
    """Repetitions: few by default, all with RAY_CHAOS_FULL=1."""
    return full if FULL else quick


@dataclasses.dataclass(frozen=True)
class Process:
    """A process as /proc shows it; `start` tells it from a later one of the same number."""

    pid: int
    parent: int
    start: int
    state: str
    name: str
    command: str

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Sends a signal; it may have ended meanwhile."""
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            pass


def look(pid: int) -> Process | None:
    """The process of that number, if there is one."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read().decode(errors="replace")
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            command = file.read().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return None
    name = stat[stat.index("(") + 1 : stat.rindex(")")]
    fields = stat[stat.rindex(")") + 2 :].split()
    return Process(pid, int(fields[1]), int(fields[19]), fields[0], name, command)


def descendants() -> list[Process]:
    """Everything below this process, but for what has ended."""
    everyone = [look(int(name)) for name in os.listdir("/proc") if name.isdigit()]
    children: dict[int, list[Process]] = {}
    for process in everyone:
        if process is not None:
            children.setdefault(process.parent, []).append(process)
    found, todo = [], [os.getpid()]
    while todo:
        for process in children.get(todo.pop(), []):
            if process.state not in "ZX":
                found.append(process)
                todo.append(process.pid)
    return found


def in_role(role: str) -> list[Process]:
    """The processes below this one that have a role, oldest first."""
    everyone = descendants()
    raylets = {p.pid for p in everyone if p.name == "raylet"}
    tests = {
        "guard": lambda p: p.name == "raylet" and p.parent not in raylets,
        "raylet": lambda p: p.name == "raylet" and p.parent in raylets,
        "gcs": lambda p: p.name == "ray-gcs",
        "zygote": lambda p: "ray._private.zygote" in p.command and p.parent in raylets,
        "worker": lambda p: p.command.startswith("ray::") and p.parent in raylets,
    }
    return sorted((p for p in everyone if tests[role](p)), key=lambda p: p.start)


def await_ends(processes: list[Process], seconds: float) -> list[Process]:
    """Waits until all have ended; those that have not in time."""
    end = time.monotonic() + seconds
    left = []
    for process in processes:
        try:
            fd = os.pidfd_open(process.pid)
        except ProcessLookupError:
            continue
        try:
            now = look(process.pid)
            if now is None or now.start != process.start or now.state in "ZX":
                continue
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            if not poll.poll(max(0.0, end - time.monotonic()) * 1000):
                left.append(process)
        finally:
            os.close(fd)
    return left


class Driver:
    """A program that uses ray, in a process of its own, with what it says."""

    def __init__(self, world: World, code: str, argument: Any) -> None:
        path = os.path.join(world.path, f"program{len(world.drivers)}.py")
        with open(path, "w", encoding="utf-8") as file:
            file.write(PRELUDE + textwrap.dedent(code))
        self._err_path = path + ".err"
        asked, self._ask = os.pipe()
        with open(self._err_path, "w", encoding="utf-8") as err:
            self.process = subprocess.Popen(
                [sys.executable, path, json.dumps(argument), str(asked)],
                pass_fds=[asked],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=err,
                text=True,
                bufsize=1,
                env=world.environment,
                cwd=world.path,
            )
        os.close(asked)
        self.pid = self.process.pid
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def errors(self) -> str:
        """What it wrote to stderr, and what the workers and daemons of its session did."""
        with open(self._err_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def tell(self, word: str) -> None:
        """One line to its stdin."""
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def hear(self, what: str | None = None, seconds: float = HANG_S) -> dict[str, Any]:
        """The next thing it says; it must be `what`."""
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            raise AssertionError(f"nothing was heard; expected {what}\n{self.describe()}") from None
        if line is None:
            raise AssertionError(f"the driver ended; expected {what}\n{self.describe()}")
        try:
            said: dict[str, Any] = json.loads(line)
        except ValueError:
            raise AssertionError(f"the driver printed: {line}\n{self.describe()}") from None
        assert what is None or said["what"] == what, f"{said}\n{self.describe()}"
        return said

    def finish(self, status: int | None = 0, seconds: float = HANG_S) -> None:
        """Waits for its end, which must be with that status."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the driver does not end\n{self.describe()}") from None
        assert status is None or self.process.returncode == status, self.describe()

    def close(self) -> None:
        """Gives up what this object holds."""
        for stream in (self.process.stdin, self.process.stdout):
            if stream:
                with contextlib.suppress(OSError):
                    stream.close()
        self._reader.join()
        if self._ask >= 0:
            os.close(self._ask)
            self._ask = -1

    def describe(self) -> str:
        """What is known about it, for a failed test."""
        if self.process.poll() is None and "end of report" not in self.errors():
            with contextlib.suppress(BrokenPipeError):  # it may end just now
                os.write(self._ask, b"?")
            end = time.monotonic() + 5
            while "end of report" not in self.errors() and time.monotonic() < end:
                time.sleep(0.05)
        stacks = []
        for process in descendants():
            try:
                with open(f"/proc/{process.pid}/wchan", encoding="ascii") as file:
                    stacks.append(f"{process} in {file.read()}")
            except OSError:
                continue
        where = "\n".join(stacks)
        return f"exit status {self.process.poll()}; stderr:\n{self.errors()}\nprocesses:\n{where}"


class World:
    """Directories of one test's own, and the drivers it starts."""

    def __init__(self) -> None:
        self._before = {p.pid for p in descendants()}
        self.path = tempfile.mkdtemp(prefix="rc-")
        self.runtime = os.path.join(self.path, "run")
        self.sessions = os.path.join(self.path, "sessions")
        self.temporary = os.path.join(self.path, "tmp")
        self._shm = set(os.listdir("/dev/shm"))
        for directory in (self.runtime, self.sessions, self.temporary):
            os.mkdir(directory, 0o700)
        self.environment = dict(
            os.environ,
            XDG_RUNTIME_DIR=self.runtime,
            RAY_CHAOS_SESSIONS=self.sessions,
            RAY_CHAOS_HANG_S=str(HANG_S),
            TMPDIR=self.temporary,
        )
        self.drivers: list[Driver] = []

    def start(self, code: str, argument: Any = None) -> Driver:
        """Starts a program."""
        driver = Driver(self, code, argument)
        self.drivers.append(driver)
        return driver

    def mine(self) -> list[Process]:
        """The processes of this world, but the drivers."""
        not_mine = self._before | {d.pid for d in self.drivers}
        return [p for p in descendants() if p.pid not in not_mine]

    def check_gone(self, seconds: float = HANG_S / 2) -> None:
        """All processes end, within that time."""
        end = time.monotonic() + seconds
        while left := self.mine():
            stubborn = await_ends(left, end - time.monotonic())
            assert not stubborn, f"still there after {seconds} s: {stubborn}"
        self._reap()

    def check_gone_but(self, number: int, seconds: float) -> list[Process]:
        """All but so many end, within that time; those."""
        end = time.monotonic() + seconds
        while len(left := self.mine()) > number:
            assert time.monotonic() < end, f"still there after {seconds} s: {left}"
            time.sleep(0.01)
        return left

    def check_clean(self) -> None:
        """Nothing is left but logs."""
        for driver in self.drivers:
            driver.finish(None)
        self.check_gone()
        self.check_files()

    def check_files(self) -> None:
        """No files but logs; for when there are no processes."""
        left = []
        for top in (self.runtime, self.temporary):
            for directory, _, files in os.walk(top):
                empty_base = top == self.runtime and directory in (top, top + "/ray-c")
                left += [os.path.join(directory, f) for f in files]
                left += [directory] if not empty_base and directory != top else []
        for directory, _, files in os.walk(self.sessions):
            if not directory.endswith("/logs") and "/logs/" not in directory:
                left += [os.path.join(directory, f) for f in files if not self._may_stay(f)]
        assert not left, left
        shm = {n for n in set(os.listdir("/dev/shm")) - self._shm if "ray" in n}
        shm = {n for n in shm if not n.startswith("ray_test_")}  # of C tests that run beside this
        assert not shm, shm

    @staticmethod
    def _may_stay(name: str) -> bool:
        return name == "raylet_exit.txt"

    def _reap(self) -> None:
        """The zombies that were left to this process."""
        known = {d.pid for d in self.drivers}
        for name in os.listdir("/proc"):
            process = look(int(name)) if name.isdigit() else None
            if process and process.parent == os.getpid() and process.state == "Z":
                if process.pid not in known and process.pid not in self._before:
                    os.waitpid(process.pid, os.WNOHANG)

    def remove(self) -> None:
        """Ends what a failed test left."""
        for driver in self.drivers:
            if driver.process.poll() is None:
                driver.process.kill()
                driver.process.wait()
            driver.close()
        for process in self.mine():
            process.kill()
        await_ends(self.mine(), 5 * SLOW)
        self._reap()
        if os.environ.get("RAY_CHAOS_KEEP") != "1":
            shutil.rmtree(self.path, ignore_errors=True)
