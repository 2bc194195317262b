# SPDX-License-Identifier: Apache-2.0
"""Failures of the runtime, turned into the classes of ``ray.exceptions``; and their texts."""

from __future__ import annotations

import builtins
import os
import sys
from typing import TYPE_CHECKING, Any

from ray import exceptions

if TYPE_CHECKING:
    from ray.exceptions import RayTaskError

DEPENDENCY_LINE = "  At least one of the input arguments for this task could not be computed:"
_CYAN, _RESET = "\x1b[36m", "\x1b[39m"

# Frames of Ray's own machinery say nothing to the user and are left out of tracebacks.
_INTERNAL = (
    "ray/_private/",
    "ray/util/tracing/",
    "ray/_raylet.pyx",
    "ray/worker.py",
    "ray/_native",
)


class ExceptionParts:
    """An exception on its way, for classes whose constructor wants other arguments than `args`.

    Such an exception pickles, but can't be unpickled; taken apart it can be put together again.
    """

    def __init__(self, exc: BaseException) -> None:
        self.exc = exc

    def __reduce__(self) -> tuple[Any, ...]:
        return _join_parts, (type(self.exc), self.exc.args, dict(self.exc.__dict__))


def _join_parts(cls: type[BaseException], args: tuple[Any, ...], state: Any) -> BaseException:
    exc = cls.__new__(cls, *args)
    exc.args = args
    exc.__dict__.update(state)
    return exc


def _travels(obj: Any) -> Exception | None:
    import pickle

    import cloudpickle

    try:
        pickle.loads(cloudpickle.dumps(obj))
    except Exception as exc:
        return exc
    return None


def make_portable(cause: BaseException) -> tuple[BaseException, bool]:
    """The cause, and whether it must travel in parts; a RayError that tells of it if it can't."""
    problem = _travels(cause)
    if problem is None:
        return cause, False
    if _travels(ExceptionParts(cause)) is None:
        return cause, True
    import logging

    text = (
        f"The original cause of the RayTaskError ({type(cause)}) isn't serializable: {problem}. "
        f"It reads: {cause!r}. Overwriting the cause to a RayError."
    )
    logging.getLogger("ray").warning("%s", text)
    return exceptions.RayError(text), False


def _where(error: RayTaskError) -> str:
    title = error.proctitle or f"ray::{error.function_name}"
    if not title.endswith("()"):
        title += "()"
    place = f"pid={error.pid}, ip={error.ip}"
    if error.actor_repr:
        place += f", actor_id={error._actor_id}, repr={error.actor_repr}"
    if sys.stderr is not None and getattr(sys.stderr, "isatty", bool)():
        title = f"{_CYAN}{title}{_RESET}"
    return f"{title} ({place})"


def _is_internal(frame_line: str) -> bool:
    return frame_line.lstrip().startswith("File ") and any(
        part in frame_line.replace("\\", "/") for part in _INTERNAL
    )


def render_traceback(error: RayTaskError) -> str:
    """The remote traceback: the place instead of its heading, and the user's frames only."""
    out: list[str] = []
    skipping = False
    for line in error.traceback_str.strip().split("\n"):
        if line.startswith("Traceback "):
            out.append(_where(error))
            skipping = False
        elif line.lstrip().startswith("File ") and line.startswith("  "):
            skipping = _is_internal(line)
            if not skipping:
                out.append(line)
        elif skipping and line.startswith("    "):
            continue
        else:
            skipping = False
            out.append(line)
    return "\n".join(out)


def exception_class(name: str) -> type[BaseException]:
    """The class of that name, from ``ray.exceptions`` or the built-ins."""
    found = getattr(exceptions, name, None) or getattr(builtins, name, None)
    return found if isinstance(found, type) else exceptions.RaySystemError


def from_status(status: int, class_name: str, text: str) -> BaseException:
    """The exception for a call that the runtime refused, with what it said."""
    cls = exception_class(class_name)
    if issubclass(cls, exceptions.ActorUnavailableError):
        return cls(text, None)
    if issubclass(cls, exceptions.ActorDiedError):
        return cls({"error_message": text})
    if issubclass(cls, exceptions.ObjectLostError):
        error = cls()
        error.detail = text
        return error
    if cls is exceptions.GetTimeoutError:
        return cls("Get timed out: some object(s) not ready.")
    if cls is RuntimeError and "has not been started" in text:
        return cls(f"Ray has not been started yet. Call ray.init(). ({text})")
    return cls(text)


def _hex(raw: bytes | None) -> str | None:
    return None if raw is None or raw == b"\xff" * len(raw) else raw.hex()


def _task_error(failure: dict[str, Any]) -> RayTaskError:
    """The RayTaskError that the executing worker pickled, or what is left of it."""
    import pickle

    data = failure["data"]
    if data is not None:
        try:
            error = pickle.loads(data)
            if isinstance(error, exceptions.RayTaskError):
                return error
            problem: Any = f"found a {type(error).__name__} in its place"
        except Exception as exc:
            problem = exc
        substitute: Exception = exceptions.UnserializableException(
            f"{failure['text']}\n(It can't be unpickled here: {problem})"
        )
    else:
        substitute = exceptions.RaySystemError(failure["text"] or "the task failed")
    return exceptions._rebuild_task_error(
        failure["function"],
        f"Traceback (most recent call last):\n{failure['text']}",
        substitute,
        f"ray::{failure['function']}",
        failure["pid"],
        failure["node_ip"],
        None,
        _hex(failure["actor_id"]),
        False,
        False,
    )


def _actor_died(failure: dict[str, Any]) -> BaseException:
    if failure["actor_init_failed"] and failure["data"] is not None:
        task_error = _task_error(failure)
        if task_error._actor_id is None:
            task_error._actor_id = _hex(failure["actor_id"])
        error = exceptions.ActorDiedError(task_error)
        error.__cause__ = task_error.as_instanceof_cause()
        return error
    error = exceptions.ActorDiedError(
        {
            "class_name": failure["class_name"],
            "actor_id": _hex(failure["actor_id"]),
            "pid": failure["pid"],
            "ip": failure["node_ip"],
            "error_message": failure["text"],
            "never_started": failure["never_started"],
        }
    )
    error._actor_init_failed = failure["actor_init_failed"]
    return error


def _cancelled(failure: dict[str, Any]) -> BaseException:
    """TaskCancelledError; for a call that was running in its actor also a RayTaskError."""
    from ray._private.ids import TaskID

    raw, actor_id = failure["task_id"], failure["actor_id"]
    error = exceptions.TaskCancelledError(TaskID(raw) if _hex(raw) else None, failure["text"])
    if not failure["pid"] or actor_id[:12] == b"\xff" * 12:
        return error
    return exceptions._rebuild_task_error(
        failure["function"],
        f"Traceback (most recent call last):\nray.exceptions.TaskCancelledError: {error}",
        error,
        f"ray::{failure['function']}",
        failure["pid"],
        failure["node_ip"],
        None,
        _hex(actor_id),
        False,
        True,
    )


def from_failure(failure: dict[str, Any]) -> BaseException:
    """The exception for a value that is an error; `failure` holds the fields of ray_failure."""
    cls = exception_class(failure["python_class"])
    text = failure["text"]
    if failure["status_name"] == "TASK_FAILED" or cls is exceptions.RayTaskError:
        return _task_error(failure).as_instanceof_cause()
    if issubclass(cls, exceptions.ActorUnavailableError):
        return cls(text, _hex(failure["actor_id"]))
    if issubclass(cls, exceptions.RayActorError):
        return _actor_died(failure)
    if issubclass(cls, exceptions.TaskCancelledError):
        return _cancelled(failure)
    if issubclass(cls, exceptions.ObjectLostError):
        error = cls(_hex(failure["object_id"]) or "ff" * 28, failure["data"])
        error.detail = text
        return error
    return from_status(failure["status"], failure["python_class"], text)


def tell_unhandled(failure: dict[str, Any], dropped: int) -> None:
    """A task's failure is gone, and nobody has looked at it: the log says so."""
    if "RAY_IGNORE_UNHANDLED_ERRORS" in os.environ:
        return
    import logging

    logger = logging.getLogger("ray._private.worker")
    if dropped:
        logger.error("%d unhandled errors came faster than they could be told.", dropped)
    logger.error(
        "Unhandled error (suppress with 'RAY_IGNORE_UNHANDLED_ERRORS=1'): %s",
        from_failure(failure),
    )
