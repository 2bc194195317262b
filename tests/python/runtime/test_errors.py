# SPDX-License-Identifier: Apache-2.0
"""What a task's failure looks like to whoever waits for it."""

import os
import signal
import sys
import threading

import pytest
import ray
from ray.exceptions import ActorDiedError, RayTaskError, TaskCancelledError, WorkerCrashedError

pytestmark = pytest.mark.usefixtures("session")


class Custom(Exception):
    def __init__(self, code, why):
        super().__init__(f"{code}: {why}")
        self.code = code


@ray.remote
def fail(kind="plain"):
    if kind == "custom":
        raise Custom(5, "why")
    return 1 / 0


@ray.remote
def use(x):
    return x


def test_both_classes_and_the_traceback():
    with pytest.raises(ZeroDivisionError) as info:
        ray.get(fail.remote())
    error = info.value
    assert isinstance(error, RayTaskError) and isinstance(error.cause, ZeroDivisionError)
    text = str(error)
    assert text.startswith("ray::fail() (pid=") and "return 1 / 0" in text
    assert text.endswith("ZeroDivisionError: division by zero")
    assert "ray/_private" not in text
    assert error.pid != os.getpid() and error.ip


def test_custom_exceptions_of_this_module():
    with pytest.raises(Custom) as info:
        ray.get(fail.remote("custom"))
    assert info.value.code == 5 and "5: why" in str(info.value)


def test_chains_through_dependent_tasks():
    with pytest.raises(ZeroDivisionError) as info:
        ray.get(use.remote(use.remote(fail.remote())))
    text = str(info.value)
    assert text.count("At least one of the input arguments for this task could not") == 2
    assert text.startswith("ray::use()") and "ray::fail()" in text


def test_through_a_nested_get():
    @ray.remote
    def outer():
        return ray.get(fail.remote())

    with pytest.raises(ZeroDivisionError) as info:
        ray.get(outer.remote())
    assert "ray::" in str(info.value)


def test_cause_chain():
    @ray.remote
    def chained():
        try:
            1 / 0  # noqa: B018
        except ZeroDivisionError as exc:
            raise ValueError("second") from exc

    with pytest.raises(ValueError) as info:
        ray.get(chained.remote())
    assert "direct cause of the following exception" in str(info.value)
    assert "ZeroDivisionError" in str(info.value)


def test_unpicklable_exception():
    @ray.remote
    def unpicklable():
        error = ValueError("has a lock")
        error.lock = threading.Lock()
        raise error

    with pytest.raises(RayTaskError) as info:
        ray.get(unpicklable.remote())
    assert "has a lock" in str(info.value)


@ray.remote
class Raiser:
    async def raises(self, text):
        raise Custom(5, text)

    async def yields(self, text):
        yield 1
        raise Custom(5, text)


@ray.remote
def raises(text):
    raise Custom(5, text)


@pytest.mark.parametrize("text", ["a\0b", "a file named \udc80"], ids=["nul", "surrogate"])
def test_texts_that_c_can_not_have(text):
    actor = Raiser.remote()
    calls = [
        raises.remote(text),
        actor.raises.remote(text),
        list(actor.yields.remote(text))[-1],
    ]
    for call in calls:
        with pytest.raises(Custom) as info:
            ray.get(call)
        assert info.value.code == 5 and info.value.cause.args == (f"5: {text}",)


def test_unserialisable_return():
    @ray.remote
    def lock():
        return threading.Lock()

    with pytest.raises(TypeError, match="Could not serialize the return value"):
        ray.get(lock.remote())


def test_unserialisable_argument_and_function():
    with pytest.raises(TypeError, match="Could not serialize the argument"):
        use.remote(threading.Lock())
    lock = threading.Lock()

    @ray.remote
    def captures():
        return lock

    with pytest.raises(TypeError, match="Could not serialize the function") as info:
        captures.remote()
    assert "lock" in str(info.value)


def test_a_definition_that_can_not_be_loaded():
    class Trap:
        def __reduce__(self):
            return _explode, ()

    trap = Trap()

    @ray.remote
    def trapped():
        return trap

    with pytest.raises(RuntimeError, match="exploded on loading"):
        ray.get(trapped.remote(), timeout=30)


def _explode():
    raise RuntimeError("exploded on loading")


def test_crash():
    @ray.remote(max_retries=0)
    def crash():
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(WorkerCrashedError, match="The worker died unexpectedly"):
        ray.get(crash.remote(), timeout=30)


def test_a_crash_tells_where():
    @ray.remote(max_retries=0)
    def segfault():
        import ctypes

        ctypes.string_at(0)

    with pytest.raises(WorkerCrashedError, match="in segfault"):
        ray.get(segfault.remote(), timeout=30)


def test_sys_exit():
    @ray.remote(max_retries=0)
    def leave():
        sys.exit(4)

    with pytest.raises(WorkerCrashedError):
        ray.get(leave.remote(), timeout=30)


@pytest.mark.parametrize("code", [0, 3])
def test_sys_exit_is_tried_again_like_a_crash(tmp_path, code):
    path = str(tmp_path / "tries")

    @ray.remote(max_retries=2)
    def leave(last):
        if _tries(path) < last:
            sys.exit(code)
        return "stayed"

    assert ray.get(leave.remote(3), timeout=60) == "stayed"
    os.unlink(path)
    with pytest.raises(WorkerCrashedError, match=f"exit code {code}"):
        ray.get(leave.remote(100), timeout=60)
    assert os.path.getsize(path) == 3


def test_retry_after_a_crash(tmp_path):
    path = tmp_path / "tries"

    @ray.remote(max_retries=2)
    def crash_twice():
        with open(path, "a") as f:
            f.write("x")
        if path.stat().st_size < 3:
            os._exit(1)
        return path.stat().st_size

    assert ray.get(crash_twice.remote(), timeout=60) == 3


def _tries(path):
    with open(path, "a") as f:
        f.write("x")
    return os.path.getsize(path)


@pytest.mark.parametrize("retry", [True, [ValueError], (KeyError, ValueError)], ids=str)
def test_retry_exceptions(tmp_path, retry):
    path = str(tmp_path / "tries")

    @ray.remote(max_retries=3, retry_exceptions=retry)
    def unsteady():
        if _tries(path) < 3:
            raise ValueError("again")
        return "done"

    assert ray.get(unsteady.remote(), timeout=60) == "done"


@pytest.mark.parametrize("retry", [False, [KeyError]], ids=str)
def test_exceptions_that_are_not_retried(tmp_path, retry):
    path = str(tmp_path / "tries")

    @ray.remote(max_retries=3, retry_exceptions=retry)
    def unsteady():
        _tries(path)
        raise ValueError("once")

    with pytest.raises(ValueError):
        ray.get(unsteady.remote(), timeout=60)
    assert os.path.getsize(path) == 1


def test_a_keyboard_interrupt_of_the_task_s_own(tmp_path):
    """It is how a cancelled task ends, and looks like that; it is not tried again."""
    path = str(tmp_path / "tries")

    @ray.remote(max_retries=3, retry_exceptions=True)
    def interrupt():
        _tries(path)
        raise KeyboardInterrupt("mine")

    with pytest.raises(TaskCancelledError, match="raised KeyboardInterrupt"):
        ray.get(interrupt.remote(), timeout=30)
    assert os.path.getsize(path) == 1

    @ray.remote
    class Actor:
        def interrupt(self):
            raise KeyboardInterrupt("mine")

        def lives(self):
            return True

    actor = Actor.remote()
    with pytest.raises(TaskCancelledError):
        ray.get(actor.interrupt.remote(), timeout=30)
    assert ray.get(actor.lives.remote(), timeout=30)


def test_base_exceptions():
    class Mine(BaseException):
        pass

    @ray.remote
    def fail():
        raise Mine("mine")

    with pytest.raises(RayTaskError, match="mine"):
        ray.get(fail.remote(), timeout=30)


def test_constructors_that_are_interrupted():
    @ray.remote
    class Actor:
        def __init__(self):
            raise KeyboardInterrupt("mine")

        def method(self):
            pass

    with pytest.raises(ActorDiedError, match="KeyboardInterrupt"):
        actor = Actor.remote()
        ray.get(actor.method.remote(), timeout=30)
