# SPDX-License-Identifier: Apache-2.0
"""The worker's slow paths: what the C executor calls when a call isn't plain sailing."""

from __future__ import annotations

import os
import pickle
import sys
from typing import Any, NoReturn

from ray import _native, exceptions
from ray._private.errors import DEPENDENCY_LINE

_actor_class: type | None = None
_own_handle: Any = None

# As the job's environment has it; this module is loaded before a lease changes the variable.
_job_devices = os.environ.get("CUDA_VISIBLE_DEVICES", "")


def name_devices(numbers: list[str]) -> list[str] | None:
    """The devices of these numbers in the job's own CUDA_VISIBLE_DEVICES; None if it has none."""
    if not _job_devices:
        return None
    names = _job_devices.split(",")
    return [names[int(n)] if int(n) < len(names) else n for n in numbers]


def set_actor(instance: Any) -> None:
    """Remembers the actor that this process is."""
    global _actor_class, _own_handle
    _actor_class, _own_handle = type(instance), None


def current_actor() -> Any:
    """A weak handle to the actor that this process is; RuntimeError elsewhere.

    It is kept, so that ``current_actor.method.remote()`` works, and its class is looked at once.
    """
    global _own_handle
    from ray.actor import ActorHandle, ActorMeta

    if _actor_class is None:
        raise RuntimeError("This method is only available in an actor.")
    if _own_handle is None:
        name = _actor_class.__qualname__.rsplit("<locals>.", 1)[-1]
        _own_handle = _native.current_actor(ActorMeta.of_class(_actor_class, name), ActorHandle)
    return _own_handle


def _is_retried(exc: BaseException, metadata: bytes) -> bool:
    """Whether the task's retry_exceptions cover this exception: all do when no list was given."""
    if not metadata:
        return True
    retry_on = pickle.loads(metadata)
    if isinstance(exc, exceptions.UserCodeException) and exc.__cause__ is not None:
        exc = exc.__cause__
    return isinstance(exc, tuple(retry_on))


def _format(exc: BaseException, from_argument: bool) -> str:
    import traceback

    if not from_argument:
        lines = traceback.format_exception(type(exc), exc, exc.__traceback__)
        if lines and not lines[0].startswith("Traceback "):
            lines.insert(0, "Traceback (most recent call last):\n")
        return "".join(lines)
    return f"Traceback (most recent call last):\n{DEPENDENCY_LINE}\n{exc}"


def _for_c(text: str) -> str:
    """The text without what no C string in UTF-8 can have: NULs and lone surrogates."""
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()


def _actor_repr(actor: Any) -> str | None:
    if actor is None:
        return None
    try:
        return repr(actor)
    except Exception as exc:
        return f"<{type(actor).__qualname__}; its repr raised {type(exc).__name__}>"


def describe_failure(
    exc: BaseException,
    function_name: str,
    actor: Any,
    actor_id: bytes,
    metadata: bytes,
    from_argument: bool,
    node_ip: str,
) -> tuple[bytes, str, bool]:
    """What to report of an exception: its pickle, its text, and whether the task may be retried."""
    import cloudpickle

    text = _for_c(_format(exc, from_argument))
    cause: BaseException = exc
    if isinstance(exc, exceptions.RayTaskError):
        cause = exc.cause  # an error of an error is not nested any deeper
    error = exceptions.RayTaskError(
        function_name,
        text,
        cause,
        proctitle=f"ray::{function_name}",
        pid=os.getpid(),
        ip=node_ip,
        actor_repr=_actor_repr(actor),
        actor_id=None if actor_id == b"\xff" * len(actor_id) else actor_id.hex(),
    )
    return cloudpickle.dumps(error), text, _is_retried(exc, metadata)


def exit_code(exc: SystemExit) -> int:
    """The exit code that a SystemExit asks for."""
    code = exc.code
    if code is None:
        return 0
    return code if isinstance(code, int) else 1


def raise_wrong_count(function_name: str, expected: int, value: Any) -> NoReturn:
    """The error for a task that returned another number of values than it declared."""
    try:
        count: Any = len(value)
    except TypeError:
        raise ValueError(
            f"Task {function_name} has num_returns={expected}, but it returned a single object of "
            f"type {type(value).__name__}. Return a tuple or list of {expected} values."
        ) from None
    what = "returned" if count else "returned only"
    raise ValueError(
        f"Task {function_name} has num_returns={expected} return values, but {what} {count} "
        f"objects: the number of values must be {expected}."
    )


def raise_wrong_yields(function_name: str, expected: int, count: int) -> NoReturn:
    """The error for a generator that yielded another number of values than it declared."""
    what = "at least" if count > expected else "only"
    raise ValueError(
        f"Task {function_name} has num_returns={expected} return values, but it yielded {what} "
        f"{count}: the number of values must be {expected}."
    )


def as_values(function_name: str, expected: int, value: Any) -> Any:
    """The values of a task with several returns, as a tuple or list of just that length."""
    if not isinstance(value, (tuple, list)):
        try:
            value = list(value) if hasattr(value, "__len__") else value
        except TypeError:
            pass
    if not isinstance(value, (tuple, list)) or len(value) != expected:
        raise_wrong_count(function_name, expected, value)
    return value


def warn_ignored_return(function_name: str) -> None:
    """Says once that a task with num_returns=0 returned something."""
    from ray.util.debug import log_once

    if log_once(f"num_returns_0:{function_name}"):
        import warnings

        warnings.warn(
            f"{function_name} has num_returns=0, but it returned a value, which is dropped.",
            stacklevel=2,
        )


def call_implicit(actor: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Runs one of the methods that every actor has."""
    if name == "__ray_ready__":
        return True
    if name == "__ray_call__":
        return args[0](actor, *args[1:], **kwargs)
    from ray.actor import exit_actor

    exit_actor()


def flush_output() -> None:
    """Writes out what was printed."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # closed, or gone with its reader
            continue
