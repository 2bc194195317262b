# SPDX-License-Identifier: Apache-2.0
"""How large the log files of a session may grow."""

import os
import time

import pytest
import ray

pytestmark = pytest.mark.usefixtures("fresh")

FILE, BACKUPS, SESSION = 100_000, 2, 500_000
READ = 64 * 1024  # the raylet appends so much at once


@pytest.fixture
def logs(monkeypatch):
    monkeypatch.setenv("RAY_ROTATION_MAX_BYTES", str(FILE))
    monkeypatch.setenv("RAY_ROTATION_BACKUP_COUNT", str(BACKUPS))
    monkeypatch.setenv("RAY_LOG_SESSION_MAX_BYTES", str(SESSION))
    context = ray.init(num_cpus=2, log_to_driver=False)
    return os.path.join(context.address_info["session_dir"], "logs")


def sizes(logs):
    """Of the workers' files, by name."""
    found = {}
    for name in os.listdir(logs):
        if name.startswith("worker-"):
            try:
                found[name] = os.stat(os.path.join(logs, name)).st_size
            except FileNotFoundError:  # rotated meanwhile
                continue
    return found


def wait_until(condition):
    while not condition():
        time.sleep(0.01)


@ray.remote(num_cpus=0)
class Talker:
    def say(self, lines, last):
        for i in range(lines):
            print(f"{i:099}")
        print(last, flush=True)
        return os.getpid()


def ends_with(logs, text):
    for name in sizes(logs):
        try:
            with open(os.path.join(logs, name), "rb") as f:
                if f.read().endswith(text.encode() + b"\n"):
                    return True
        except FileNotFoundError:  # rotated meanwhile
            continue
    return False


def test_a_file_is_rotated_and_its_copies_are_counted(logs):
    talker = Talker.remote()
    ray.get(talker.say.remote(10_000, "done with a million"))
    wait_until(lambda: ends_with(logs, "done with a million"))
    found = sizes(logs)
    base = next(name for name in found if name.endswith(".out"))
    assert sorted(found) == [base, base + ".1", base + ".2"]
    assert all(size < FILE + READ for size in found.values())
    # Nothing is lost between one file and the next.
    text = b"".join(
        open(os.path.join(logs, base + suffix), "rb").read() for suffix in (".2", ".1", "")
    )
    numbers = [int(line) for line in text.split(b"\n")[1:-2]]
    assert numbers == list(range(numbers[0], 10_000))


def test_a_session_is_capped(logs):
    gone, pids = [], []
    for i in range(4):
        talker = Talker.remote()
        pids.append(ray.get(talker.say.remote(3_000, f"last of {i}")))
        wait_until(lambda i=i: ends_with(logs, f"last of {i}"))
        gone.append(talker)
        if i < 2:
            del talker
            gone.clear()
            wait_until(lambda: not os.path.exists(f"/proc/{pids[-1]}"))
        # A file that is written to stays; so the cap may be passed by that, for those that live.
        assert sum(sizes(logs).values()) <= SESSION + FILE + READ
    left = sizes(logs)
    assert not [name for name in left if f"-{pids[0]}." in name]  # the oldest went first
    assert [name for name in left if f"-{pids[3]}." in name]
