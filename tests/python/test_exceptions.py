# SPDX-License-Identifier: Apache-2.0
"""The tree of exceptions, their texts, and what becomes of a user's exception on its way."""

import pickle
import sys
import threading
import traceback

import pytest
from ray import exceptions as e
from ray._private import errors

PARENTS = {
    "RayError": "Exception",
    "CrossLanguageError": "RayError",
    "TaskCancelledError": "RayError",
    "RayTaskError": "RayError",
    "LocalRayletDiedError": "RayError",
    "WorkerCrashedError": "RayError",
    "RayActorError": "RayError",
    "ActorDiedError": "RayActorError",
    "ActorUnavailableError": "RayActorError",
    "RaySystemError": "RayError",
    "RayChannelError": "RaySystemError",
    "RayChannelTimeoutError": "RayChannelError",
    "RayCgraphCapacityExceeded": "RaySystemError",
    "UserCodeException": "RayError",
    "ObjectStoreFullError": "RayError",
    "OutOfDiskError": "RayError",
    "OutOfMemoryError": "RayError",
    "NodeDiedError": "RayError",
    "ObjectLostError": "RayError",
    "ObjectFetchTimedOutError": "ObjectLostError",
    "ReferenceCountingAssertionError": "ObjectLostError",
    "ObjectFreedError": "ObjectLostError",
    "OwnerDiedError": "ObjectLostError",
    "ObjectReconstructionFailedError": "ObjectLostError",
    "ObjectReconstructionFailedMaxAttemptsExceededError": "ObjectLostError",
    "ObjectReconstructionFailedLineageEvictedError": "ObjectLostError",
    "RpcError": "RayError",
    "GetTimeoutError": "RayError",
    "PlasmaObjectNotAvailable": "RayError",
    "AsyncioActorExit": "RayError",
    "RuntimeEnvSetupError": "RayError",
    "TaskPlacementGroupRemoved": "RayError",
    "ActorPlacementGroupRemoved": "RayError",
    "PendingCallsLimitExceeded": "RayError",
    "TaskUnschedulableError": "RayError",
    "ActorUnschedulableError": "RayError",
    "ObjectRefStreamEndOfStreamError": "RayError",
    "UnserializableException": "RayError",
    "OufOfBandObjectRefSerializationException": "RayError",
    "ActorAlreadyExistsError": "ValueError",
    "ActorHandleNotFoundError": "ValueError",
    "RayDirectTransportError": "RayError",
    "AuthenticationError": "RayError",
}


@pytest.mark.parametrize(("name", "parent"), PARENTS.items())
def test_tree(name, parent):
    cls = getattr(e, name)
    assert cls.__bases__[0].__name__ == parent
    assert issubclass(cls, e.RayError)


def test_also_builtins():
    assert issubclass(e.GetTimeoutError, TimeoutError)
    assert issubclass(e.RayChannelTimeoutError, TimeoutError)
    assert issubclass(e.ReferenceCountingAssertionError, AssertionError)
    assert all(issubclass(cls, e.RayError) for cls in e.RAY_EXCEPTION_TYPES)


def task_error(cause_maker, **kwargs):
    try:
        cause_maker()
    except BaseException as exc:
        return e.RayTaskError("f", traceback.format_exc(), exc, pid=12, ip="10.0.0.1", **kwargs)
    raise AssertionError("nothing was raised")


def test_dual_class():
    error = task_error(lambda: 1 / 0)
    dual = error.as_instanceof_cause()
    assert isinstance(dual, e.RayTaskError) and isinstance(dual, ZeroDivisionError)
    assert type(dual).__name__ == type(dual).__qualname__ == "RayTaskError(ZeroDivisionError)"
    assert type(dual).__bases__ == (e.RayTaskError, ZeroDivisionError)
    assert dual.args == (dual.cause,) and isinstance(dual.cause, ZeroDivisionError)
    assert str(dual) == str(error)
    assert dual.as_instanceof_cause() is dual


class NeedsArguments(Exception):
    def __init__(self, code, detail):
        super().__init__(code)
        self.code = code
        self.detail = detail

    def __str__(self):
        return "never seen"


def raise_needs_arguments():
    raise NeedsArguments(7, "detail")


def test_attributes_fall_through_to_the_cause():
    dual = task_error(raise_needs_arguments).as_instanceof_cause()
    assert (dual.code, dual.detail) == (7, "detail")
    assert "never seen" in str(dual)  # as the last line of the traceback
    assert str(dual).startswith("ray::f() (pid=12, ip=10.0.0.1)")
    with pytest.raises(AttributeError):
        _ = dual.nothing_of_the_kind


def raise_not_found():
    open("/nonexistent/file")


def test_members_of_builtin_errors_are_the_causes():
    dual = task_error(raise_not_found).as_instanceof_cause()
    assert isinstance(dual, FileNotFoundError)
    assert (dual.errno, dual.strerror) == (2, "No such file or directory")
    assert dual.filename == "/nonexistent/file" and dual.filename2 is None
    copy = pickle.loads(pickle.dumps(dual))
    assert (copy.errno, copy.filename) == (2, "/nonexistent/file")
    decoding = task_error(lambda: b"a\xff".decode()).as_instanceof_cause()
    assert (decoding.encoding, decoding.start, decoding.object) == ("utf-8", 1, b"a\xff")
    assert task_error(lambda: next(iter(()))).as_instanceof_cause().value is None


class MadeOfTwo(Exception):
    def __new__(cls, first, second):
        made = super().__new__(cls, first)
        made.second = second
        return made

    def __init__(self, first, second):
        super().__init__(first)

    def __reduce__(self):
        return MadeOfTwo, (*self.args, self.second)


def raise_made_of_two():
    raise MadeOfTwo(1, "two")


def test_errors_that_are_made_in_their_own_way():
    dual = task_error(lambda: bytearray(1 << 50)).as_instanceof_cause()
    assert isinstance(dual, MemoryError) and isinstance(dual, e.RayTaskError)
    dual = task_error(raise_made_of_two).as_instanceof_cause()
    assert isinstance(dual, MadeOfTwo) and dual.second == "two"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="there are no exception groups")
def test_exception_groups():
    def fail():
        raise ExceptionGroup("both", [ValueError(1), KeyError(2)])

    dual = task_error(fail).as_instanceof_cause()
    assert isinstance(dual, ExceptionGroup) and isinstance(dual, e.RayTaskError)
    assert dual.message == "both" and dual.args == (dual.cause,)
    values, rest = dual.split(ValueError)
    assert [type(exc) for exc in (*values.exceptions, *rest.exceptions)] == [ValueError, KeyError]
    assert isinstance(pickle.loads(pickle.dumps(dual)), ExceptionGroup)


class Final(Exception):
    def __init_subclass__(cls, **kwargs):
        raise TypeError("not a base")


def raise_final():
    raise Final("x")


def raise_plain():
    raise Exception("plain")


def raise_base():
    raise BaseException("base")


@pytest.mark.parametrize("maker", [raise_final, raise_plain, raise_base])
def test_no_dual_class(maker):
    error = task_error(maker)
    assert error.as_instanceof_cause() is error
    assert str(error.cause) in ("x", "plain", "base")


def test_dual_of_a_ray_error():
    def crash():
        raise e.WorkerCrashedError()

    dual = task_error(crash).as_instanceof_cause()
    assert isinstance(dual, e.WorkerCrashedError) and isinstance(dual, e.RayTaskError)


class WithProperties(Exception):
    @property
    def pid(self):
        return "mine"


def test_a_cause_with_clashing_properties():
    def fail():
        raise WithProperties()

    assert isinstance(task_error(fail).as_instanceof_cause(), WithProperties)


MAKERS = [lambda: 1 / 0, raise_needs_arguments, lambda: open("/nowhere/x")]


@pytest.mark.parametrize("maker", MAKERS)
def test_pickled_twice(maker):
    dual = task_error(maker).as_instanceof_cause()
    for _ in range(2):
        copy = pickle.loads(pickle.dumps(dual))
        assert type(copy).__name__ == type(dual).__name__
        assert str(copy) == str(dual)
        assert isinstance(copy, type(dual.cause))
        dual = copy


def test_every_ray_error_pickles():
    for name in PARENTS:
        cls = getattr(e, name)
        if name in ("RayTaskError", "CrossLanguageError"):
            continue
        try:
            error = cls("text")
        except TypeError:
            error = cls()
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is cls and str(copy) == str(error)


class Unpicklable(Exception):
    def __init__(self):
        super().__init__("holds a lock")
        self.lock = threading.Lock()


def test_unpicklable_cause_is_replaced(caplog):
    def fail():
        raise Unpicklable()

    error = task_error(fail)
    assert type(error.cause) is e.RayError
    assert "isn't serializable" in str(error.cause) and "holds a lock" in str(error.cause)
    assert "holds a lock" in str(error)
    assert "isn't serializable" in caplog.text


def test_internal_frames_are_left_out():
    text = (
        "Traceback (most recent call last):\n"
        '  File "/x/ray/_private/executor.py", line 1, in run\n'
        "    function()\n"
        '  File "/somewhere/program.py", line 3, in f\n'
        "    1 / 0\n"
        "    ~~^~~\n"
        "ZeroDivisionError: division by zero"
    )
    error = e.RayTaskError("f", text, ZeroDivisionError("division by zero"), pid=1, ip="::1")
    assert str(error).split("\n") == [
        "ray::f() (pid=1, ip=::1)",
        '  File "/somewhere/program.py", line 3, in f',
        "    1 / 0",
        "    ~~^~~",
        "ZeroDivisionError: division by zero",
    ]


def test_actor_errors_tell_the_actor():
    error = task_error(lambda: 1 / 0, actor_repr="Counter(3)", actor_id="ab" * 16)
    assert str(error).startswith(
        f"ray::f() (pid=12, ip=10.0.0.1, actor_id={'ab' * 16}, repr=Counter(3))"
    )


def test_actor_died():
    assert str(e.ActorDiedError()).startswith("The actor died unexpectedly before finishing")
    failed = e.ActorDiedError(task_error(lambda: 1 / 0, actor_id="ab" * 16))
    assert failed.actor_init_failed and failed.actor_id == "ab" * 16
    assert "error raised in its creation task" in str(failed) and "ZeroDivisionError" in str(failed)
    died = e.ActorDiedError(
        {
            "class_name": "A",
            "actor_id": b"\xab" * 16,
            "pid": 5,
            "ip": "10.0.0.1",
            "error_message": "killed by `ray.kill`.",
            "never_started": True,
        }
    )
    text = str(died)
    assert "\tclass_name: A\n" in text and f"\tactor_id: {'ab' * 16}\n" in text
    assert "\tpid: 5\n" in text and "\tip: 10.0.0.1\n" in text and "killed by `ray.kill`." in text
    assert "never ran" in text and not died.actor_init_failed
    assert e.RayActorError.from_task_error(failed_cause()).actor_init_failed


def failed_cause():
    return task_error(lambda: 1 / 0)


def test_texts():
    assert str(e.TaskCancelledError()) == "This task or its dependency was cancelled by"
    assert "was cancelled. why" in str(e.TaskCancelledError("id", "why"))
    assert "maximum number of task retries" in str(
        e.ObjectReconstructionFailedMaxAttemptsExceededError()
    )
    assert "All copies of ab have been lost" in str(e.ObjectLostError("ab", b"", "a | b"))
    assert "created at: a\n  b" in str(e.ObjectLostError("ab", b"", "a | b"))
    assert "full of objects that are still in scope" in str(e.ObjectStoreFullError("big"))
    assert str(e.RaySystemError("x", "tb")) == "System error: x\ntraceback: tb"
    assert "unavailable: gone" in str(e.ActorUnavailableError("gone", b"\x01" * 16))
    assert "not schedulable: no GPU" in str(e.TaskUnschedulableError("no GPU"))
    assert str(e.RuntimeEnvSetupError("pip")).endswith("\npip")
    crashed = e.WorkerCrashedError("killed by signal 9")
    assert "The worker died unexpectedly" in str(crashed) and "signal 9" in str(crashed)


def failure(**fields):
    made = {
        "status": -99,
        "status_name": "SYSTEM",
        "python_class": "RaySystemError",
        "text": "what happened",
        "function": "f",
        "pid": 3,
        "node_ip": "10.0.0.1",
        "actor_id": b"\xff" * 16,
        "task_id": b"\xff" * 24,
        "object_id": b"\x01" * 28,
        "class_name": "",
        "actor_init_failed": False,
        "never_started": False,
        "data": None,
    }
    made.update(fields)
    return made


def test_failures_of_the_runtime():
    made = errors.from_failure(failure(python_class="WorkerCrashedError"))
    assert isinstance(made, e.WorkerCrashedError) and "what happened" in str(made)
    made = errors.from_failure(failure(python_class="OwnerDiedError"))
    assert isinstance(made, e.OwnerDiedError)
    assert "01" * 28 in str(made) and "what happened" in str(made)
    made = errors.from_failure(failure(python_class="TaskCancelledError", task_id=b"\x02" * 24))
    assert "02" * 24 in str(made) and not isinstance(made, e.RayTaskError)
    running = failure(python_class="TaskCancelledError", task_id=b"\x02" * 24, pid=7)
    made = errors.from_failure({**running, "actor_id": b"\x03" * 16})
    assert isinstance(made, e.TaskCancelledError) and isinstance(made, e.RayTaskError)
    assert "02" * 24 in str(made)
    made = errors.from_failure(failure(python_class="ActorDiedError", class_name="A"))
    assert isinstance(made, e.ActorDiedError) and "class_name: A" in str(made)
    made = errors.from_failure(failure(python_class="ActorUnavailableError"))
    assert isinstance(made, e.ActorUnavailableError)
    made = errors.from_failure(failure(python_class="NoSuchClass"))
    assert isinstance(made, e.RaySystemError)


def test_failure_of_a_task():
    data = pickle.dumps(task_error(lambda: 1 / 0))
    made = errors.from_failure(failure(status_name="TASK_FAILED", data=data))
    assert isinstance(made, ZeroDivisionError)
    made = errors.from_failure(failure(status_name="TASK_FAILED", data=b"rubbish"))
    assert isinstance(made, e.RayTaskError) and "what happened" in str(made)
    made = errors.from_failure(failure(status_name="TASK_FAILED"))
    assert isinstance(made, e.RayTaskError)


def test_failure_of_a_constructor():
    data = pickle.dumps(task_error(lambda: 1 / 0))
    made = errors.from_failure(
        failure(python_class="ActorDiedError", actor_init_failed=True, data=data)
    )
    assert isinstance(made, e.ActorDiedError) and made.actor_init_failed
    assert isinstance(made.__cause__, ZeroDivisionError)


def test_to_and_from_bytes():
    copy = e.RayError.from_bytes(e.OutOfMemoryError("m").to_bytes())
    assert isinstance(copy, e.OutOfMemoryError) and copy.message == "m"
    assert "Failed to unpickle serialized exception" in str(e.RayError.from_bytes(b"rubbish"))
