# SPDX-License-Identifier: Apache-2.0
"""Looks at processes through /proc: which ones a runtime has started, and what they use.

Ray's API does not tell, so a process counts as the runtime's if it carries the mark that was put in
the environment before the start, or descends from this process, or from the one that
RAY_BENCH_REAPER names (run.py, to whom daemons that detach themselves are given).  Standard library
only.
"""

import os
import signal
import time


def read(path):
    """A file of /proc as bytes; empty if the process has gone or may not be looked at."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def all_pids():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def stat_fields(pid):
    """The fields of /proc/<pid>/stat behind the command, the state being number 0; or []."""
    return read("/proc/%d/stat" % pid).rpartition(b")")[2].split()


def children_by_parent():
    children = {}
    for pid in all_pids():
        fields = stat_fields(pid)
        if fields:
            children.setdefault(int(fields[1]), []).append(pid)
    return children


def descendants(root):
    children = children_by_parent()
    found, queue = [], list(children.get(root, ()))
    while queue:
        pid = queue.pop()
        found.append(pid)
        queue.extend(children.get(pid, ()))
    return found


def of_runtime(mark):
    """Live processes that the runtime of this process consists of, without this process."""
    reaper = int(os.environ.get("RAY_BENCH_REAPER", "0"))
    found = set(descendants(os.getpid()))
    if reaper:
        found.update(descendants(reaper))
    wanted = mark.encode()
    for pid in all_pids():
        if wanted in read("/proc/%d/environ" % pid).split(b"\0"):
            found.add(pid)
    mine, pid = {reaper}, os.getpid()
    while pid > 1 and pid != reaper:  # this process and those that only started it
        mine.add(pid)
        pid = int((stat_fields(pid) or [b"Z", b"0"])[1])
    return sorted(pid for pid in found - mine if is_alive(pid))


def is_alive(pid):
    fields = stat_fields(pid)
    return bool(fields) and fields[0] not in (b"Z", b"X")


def pss_mb(pids):
    """Proportional set size: shared pages are divided among the processes that map them."""
    total_kb = 0
    for pid in pids:
        for line in read("/proc/%d/smaps_rollup" % pid).splitlines():
            if line.startswith(b"Pss:"):
                total_kb += int(line.split()[1])
    return total_kb / 1024


def cpu_seconds(pids):
    """Processor time of all threads, from the scheduler's own count where there is one."""
    total = 0.0
    for pid in pids:
        for task in threads(pid):
            ran = read("/proc/%d/task/%s/schedstat" % (pid, task)).split()
            if ran:
                total += int(ran[0]) * 1e-9
            else:
                fields = stat_fields(pid)
                total += sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK") if fields else 0.0
                break
    return total


def threads(pid):
    try:
        return os.listdir("/proc/%d/task" % pid)
    except OSError:
        return []


def command(pid):
    words = read("/proc/%d/cmdline" % pid).replace(b"\0", b" ").decode(errors="replace").strip()
    return words or read("/proc/%d/comm" % pid).decode(errors="replace").strip()


def describe(pids):
    """One entry a process, for a person who wonders what the sum is made of."""
    return [
        {"pid": pid, "pss_mb": round(pss_mb([pid]), 1), "command": command(pid)[:80]}
        for pid in pids
    ]


def available_memory_mb():
    for line in read("/proc/meminfo").splitlines():
        if line.startswith(b"MemAvailable:"):
            return int(line.split()[1]) / 1024
    return float("inf")


def reap():
    """Collects children that have ended and that nobody waits for."""
    while True:
        try:
            pid, _status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return


def wait_until_gone(find, seconds):
    """Waits for the processes that `find` returns to end; those that are still there."""
    stop = time.monotonic() + seconds
    while True:
        reap()
        left = [pid for pid in find() if is_alive(pid)]
        if not left or time.monotonic() >= stop:
            reap()  # some may have ended between the lines above
            return left
        time.sleep(0.02)


def kill(pids):
    """Kills processes for good, each by a descriptor so that no other one can be hit."""
    for pid in pids:
        try:
            fd = os.pidfd_open(pid)
        except (OSError, AttributeError):
            continue
        try:
            signal.pidfd_send_signal(fd, signal.SIGKILL)
        except OSError:
            pass
        finally:
            os.close(fd)
