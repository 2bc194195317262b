# SPDX-License-Identifier: Apache-2.0
"""Failures that nobody looks at: told at their owner when the last reference goes, once."""

import logging
import os
import queue
import re
import signal

import pytest
import ray
from ray.exceptions import RayError, TaskCancelledError


@pytest.fixture(scope="module", autouse=True)
def started(session):
    pass


@pytest.fixture
def told():
    """The next message about a failure that nobody has looked at."""
    found = queue.Queue()

    class Handler(logging.Handler):
        def emit(self, record):
            found.put(record.getMessage())

    handler = Handler()
    logger = logging.getLogger("ray._private.worker")
    logger.addHandler(handler)
    yield lambda: found.get(timeout=60)
    logger.removeHandler(handler)
    assert found.empty()


@ray.remote(max_retries=0)
def fail(mark):
    raise ValueError(mark)


@ray.remote
def use(value):
    return value


@ray.remote
class Actor:
    def fail(self, mark):
        raise ValueError(mark)

    def die(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def pid(self):
        return os.getpid()


def expect_only(told, mark):
    """Nothing was told before: these are told in the order in which they end."""
    fail.remote(mark)
    text = told()
    assert mark in text and "Unhandled error (suppress with" in text


def test_dropped_before_it_fails_and_after(told):
    fail.remote("early")
    assert "early" in told()
    ref = fail.remote("late")
    later = fail.remote("a later one")
    with pytest.raises(ValueError):
        ray.get(later)
    del ref
    text = told()
    assert "ValueError: late" in text and "RAY_IGNORE_UNHANDLED_ERRORS=1" in text


def test_methods_and_crashes(told):
    actor = Actor.remote()
    actor.fail.remote("of a method")
    assert "of a method" in told()

    @ray.remote(max_retries=0)
    def crash():
        os.kill(os.getpid(), signal.SIGKILL)

    crash.remote()
    assert "died unexpectedly" in told()


def test_what_was_looked_at(told):
    ref = fail.remote("got")
    with pytest.raises(ValueError):
        ray.get(ref)
    first, second = fail.remote("first of two"), fail.remote("second of two")
    ray.wait([first, second], num_returns=2)
    with pytest.raises(ValueError):
        ray.get([first, second])
    waited = fail.remote("waited for")
    ray.wait([waited])
    future = fail.remote("awaited").future()
    with pytest.raises(ValueError):
        future.result(timeout=60)
    del ref, first, second, waited, future
    expect_only(told, "the only one")


def test_passed_on(told):
    @ray.remote
    def look(refs):
        try:
            ray.get(refs[0])
        except RayError:
            return "seen"

    ref = fail.remote("an argument's")
    with pytest.raises(ValueError):
        ray.get(use.remote(ref))
    nested = fail.remote("a borrowed one's")
    assert ray.get(look.remote([nested]), timeout=60) == "seen"
    del ref, nested
    expect_only(told, "the only one")


def test_an_argument_that_failed_is_told_once(told):
    ref = fail.remote("the cause")
    dependent = use.remote(ref)
    del ref, dependent
    assert "the cause" in told()
    expect_only(told, "the next")


def test_exempt(told):
    @ray.remote(resources={"nowhere": 1})
    def never():
        pass

    cancelled = never.remote()
    ray.cancel(cancelled)
    ray.wait([cancelled])
    queued = never.remote()
    ray.cancel(queued)
    with pytest.raises(TaskCancelledError):
        ray.get(cancelled)
    actor = Actor.remote()
    lost = actor.die.remote()
    behind = actor.pid.remote()
    with pytest.raises(RayError):
        ray.get(behind)
    del cancelled, queued, lost, behind
    expect_only(told, "the only one")


def test_returns_of_one_task_are_told_once(told):
    refs = fail.options(num_returns=3).remote("three returns")
    del refs
    assert "three returns" in told()
    expect_only(told, "the next")


def test_generators(told):
    @ray.remote(max_retries=0)
    def some():
        yield 1
        raise ValueError("in the middle")

    read = some.remote()
    assert ray.get(next(read)) == 1
    with pytest.raises(ValueError):
        ray.get(next(read))
    with pytest.raises(StopIteration):
        next(read)
    del read
    unread = some.remote()
    ray.wait([unread.completed()])  # tells its failure, too
    del unread
    dropped = some.remote()
    assert ray.get(next(dropped)) == 1
    item = next(dropped)
    del dropped, item
    assert "in the middle" in told()
    expect_only(told, "the next")


def test_suppressed(told, monkeypatch):
    monkeypatch.setenv("RAY_IGNORE_UNHANDLED_ERRORS", "1")
    actor = Actor.remote()
    actor.fail.remote("suppressed")
    assert ray.get(actor.pid.remote(), timeout=60)  # whose reply comes after that one's
    read = queue.Queue()
    done = use.remote(1).future()  # called back by another thread, after those before it
    done.add_done_callback(lambda _: read.put(1))
    read.get(timeout=60)


def test_retried_tasks_tell_of_the_last_try_alone(told, tmp_path):
    @ray.remote(max_retries=1, retry_exceptions=True)
    def twice(path):
        with open(path, "a") as f:
            f.write(".")
        raise ValueError(f"try {os.path.getsize(path)}")

    twice.remote(str(tmp_path / "tries"))
    assert "try 2" in told()
    expect_only(told, "the next")


def test_programs(run_program):
    code, out, err = run_program(
        """
        import ray

        ray.init(num_cpus=2)

        @ray.remote(max_retries=0)
        def fail(mark):
            raise ValueError(mark)

        kept = fail.remote("kept until the end")
        fail.remote("at the driver")
        try:
            ray.get(fail.remote("looked at"))
        except ValueError:
            pass
        """
    )
    assert code == 0, err
    assert "Unhandled error" in err and "ValueError: at the driver" in err
    assert "looked at" not in err and "kept until the end" not in err


def test_a_worker_s_is_told_there_and_seen_here(run_program):
    code, out, err = run_program(
        """
        import sys, threading
        import ray

        seen = threading.Event()

        class Tee:
            def write(self, text):
                sys.__stderr__.write(text)
                if "of a child" in text:
                    seen.set()
            def flush(self):
                sys.__stderr__.flush()
            def isatty(self):
                return False

        sys.stderr = Tee()
        ray.init(num_cpus=2)

        @ray.remote(max_retries=0)
        def fail(mark):
            raise ValueError(mark)

        @ray.remote
        def parent():
            fail.remote("of a child")

        ray.get(parent.remote())
        assert seen.wait(120)
        """
    )
    assert code == 0, err
    # Under whatever name its worker has by then.
    assert re.search(r"^\(.*pid=\d+\) .*ValueError: of a child", err, re.MULTILINE)
