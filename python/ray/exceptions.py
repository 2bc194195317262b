# SPDX-License-Identifier: Apache-2.0
"""The exceptions of Ray.

Everything derives from ``RayError``. An exception that a task raised comes back as an instance of
both ``RayTaskError`` and the user's own class (see ``RayTaskError.as_instanceof_cause``), so it can
be caught as either, and prints the remote traceback.
"""

from __future__ import annotations

import builtins
from typing import Any

_NO_ID = "ff" * 28


class RayError(Exception):
    """The root of all errors of Ray."""

    def to_bytes(self) -> bytes:
        """This error as bytes, for `from_bytes`."""
        import cloudpickle

        return cloudpickle.dumps(self)

    @staticmethod
    def from_bytes(data: bytes) -> BaseException:
        """The error that `to_bytes` wrote; a RuntimeError when it can't be read back."""
        import pickle

        try:
            error = pickle.loads(data)
        except Exception as exc:
            return RuntimeError(f"Failed to unpickle serialized exception: {exc}")
        return error if isinstance(error, BaseException) else RuntimeError(repr(error))


class CrossLanguageError(RayError):
    """An exception that was raised by a worker of another language."""

    def __init__(self, ray_exception: Any) -> None:
        language = getattr(ray_exception, "language", "another language")
        text = getattr(ray_exception, "formatted_exception_string", str(ray_exception))
        super().__init__(f"An exception raised from {language}:\n{text}")


class TaskCancelledError(RayError):
    """The task was cancelled."""

    def __init__(self, task_id: Any = None, error_message: str | None = None) -> None:
        super().__init__(task_id, error_message)
        self.task_id = task_id
        self.error_message = error_message

    def __str__(self) -> str:
        if self.task_id is None:
            return "This task or its dependency was cancelled by"
        text = f"Task: {self.task_id!r} was cancelled"
        return f"{text}. {self.error_message}" if self.error_message else text


class RayTaskError(RayError):
    """A task or an actor's method raised an exception.

    Attributes:
        function_name: what ran.
        traceback_str: the remote traceback.
        cause: the exception itself.
        proctitle, pid, ip: where it ran.
        actor_repr: ``repr`` of the actor, when an actor's method raised.
    """

    def __init__(
        self,
        function_name: str,
        traceback_str: str,
        cause: BaseException,
        proctitle: str | None = None,
        pid: int | None = None,
        ip: str | None = None,
        actor_repr: str | None = None,
        actor_id: str | None = None,
    ) -> None:
        from ray._private.errors import make_portable

        self.function_name = function_name
        self.traceback_str = traceback_str
        self.cause, self._in_parts = make_portable(cause)
        self.proctitle = proctitle if proctitle is not None else f"ray::{function_name}"
        self.pid = pid
        self.ip = ip
        self.actor_repr = actor_repr
        self._actor_id = actor_id
        super().__init__(function_name, traceback_str, self.cause, self.proctitle, pid, ip)

    def __reduce__(self) -> tuple[Any, ...]:
        cause: Any = self.cause
        if self._in_parts:
            from ray._private.errors import ExceptionParts

            cause = ExceptionParts(cause)
        return _rebuild_task_error, (
            self.function_name,
            self.traceback_str,
            cause,
            self.proctitle,
            self.pid,
            self.ip,
            self.actor_repr,
            self._actor_id,
            self._in_parts,
            self._is_dual,
        )

    _is_dual = False

    def make_dual_exception_type(self) -> type[RayTaskError]:
        """The class that is both RayTaskError and the cause's class.

        Raises TypeError when the cause's class can't be a base.
        """
        cause_class = type(self.cause)
        name = f"RayTaskError({cause_class.__name__})"
        # What stands here is found before the cause's own constructor, reduction and text.
        members = {
            "__module__": "ray.exceptions",
            "__qualname__": name,
            "__doc__": cause_class.__doc__,
            "__init__": _dual_init,
            "__getattr__": _dual_getattr,
            "__str__": _dual_str,
            "__reduce__": RayTaskError.__reduce__,
            "_is_dual": True,
        }
        return type(name, (RayTaskError, cause_class), members)

    def as_instanceof_cause(self) -> RayTaskError:
        """This error as an instance of the cause's class too, where that is possible."""
        cause_class = type(self.cause)
        if self._is_dual or issubclass(RayTaskError, cause_class):
            return self
        try:
            dual_class = self.make_dual_exception_type()
            dual: RayTaskError = _dual_new(dual_class, self.cause)
            _dual_init(dual, self)
            return dual
        except TypeError as exc:
            import logging

            logging.getLogger("ray").warning(
                "User exception type %s in RayTaskError can't be subclassed (%s). Use "
                "`ray_task_error.cause` to get at the exception.",
                cause_class,
                exc,
            )
            return self

    def __str__(self) -> str:
        from ray._private.errors import render_traceback

        return render_traceback(self)


_TASK_ERROR_FIELDS = (
    "function_name",
    "traceback_str",
    "cause",
    "proctitle",
    "pid",
    "ip",
    "actor_repr",
    "_actor_id",
    "_in_parts",
)


def _dual_new(dual_class: Any, cause: Any) -> Any:
    groups = getattr(builtins, "BaseExceptionGroup", ())  # none before Python 3.11
    args = (cause.message, cause.exceptions) if isinstance(cause, groups) else (cause,)
    try:
        return dual_class.__new__(dual_class, *args)
    except TypeError:  # MemoryError's must not be called for this class; a user's may want more
        new: Any = Exception.__new__
        return new(dual_class, cause)


def _dual_init(self: Any, error: RayTaskError) -> None:
    # Straight into the dictionary: the cause's class may have properties of the same names.
    self.__dict__.update((name, getattr(error, name)) for name in _TASK_ERROR_FIELDS)
    self.__dict__["_text"] = str(error)
    self.args = (error.cause,)
    _copy_members(self, error.cause)


def _copy_members(dual: Any, cause: BaseException) -> None:
    """Gives a dual error what the cause has in members of its class, such as `errno`.

    They are found on the dual's class as well, so that `_dual_getattr` is never asked for them.
    """
    from types import GetSetDescriptorType, MemberDescriptorType

    for cls in type(cause).__mro__:
        if cls in (Exception, BaseException, object):
            continue
        for name, member in vars(cls).items():
            if name.startswith("__"):
                continue
            if isinstance(member, (GetSetDescriptorType, MemberDescriptorType)):
                try:
                    member.__set__(dual, member.__get__(cause))
                except (AttributeError, TypeError):  # not set in the cause, or read-only
                    continue


def _dual_getattr(self: Any, name: str) -> Any:
    """Attributes that are not found here are the cause's."""
    if name.startswith("__") or name in ("cause", "_text"):
        raise AttributeError(name)
    return getattr(self.cause, name)


def _dual_str(self: Any) -> str:
    return self.__dict__["_text"]  # type: ignore[no-any-return]


def _rebuild_task_error(
    function_name: str,
    traceback_str: str,
    cause: BaseException,
    proctitle: str,
    pid: int | None,
    ip: str | None,
    actor_repr: str | None,
    actor_id: str | None,
    in_parts: bool,
    dual: bool,
) -> RayTaskError:
    """Makes a task error again without trying once more whether its cause can be pickled."""
    error = RayTaskError.__new__(RayTaskError)
    head = (function_name, traceback_str, cause, proctitle, pid, ip)
    values = (*head, actor_repr, actor_id, in_parts)
    error.__dict__.update(zip(_TASK_ERROR_FIELDS, values))
    error.args = head
    return error.as_instanceof_cause() if dual else error


class LocalRayletDiedError(RayError):
    """The node's manager died, and with it everything that it ran."""

    def __str__(self) -> str:
        return _text_or(
            self,
            "The task's local raylet died. Check raylet.err in the session's logs for more "
            "information.",
        )


class WorkerCrashedError(RayError):
    """The process that ran the task died."""

    def __str__(self) -> str:
        return _text_or(
            self,
            "The worker died unexpectedly while executing this task. Check "
            "worker-*.err in the session's logs for more information.",
        )


class RayActorError(RayError):
    """An actor died, or can't be reached."""

    BASE_ERROR_MSG = "The actor experienced an error before finishing this task."

    def __init__(
        self,
        actor_id: str | None = None,
        error_msg: str = BASE_ERROR_MSG,
        actor_init_failed: bool = False,
        preempted: bool = False,
    ) -> None:
        super().__init__(actor_id, error_msg, actor_init_failed, preempted)
        self.actor_id = actor_id
        self.error_msg = error_msg
        self._actor_init_failed = actor_init_failed
        self._preempted = preempted

    @property
    def actor_init_failed(self) -> bool:
        """Whether the actor's constructor failed."""
        return self._actor_init_failed

    @property
    def preempted(self) -> bool:
        """Whether the actor's node was taken away."""
        return self._preempted

    def __str__(self) -> str:
        return self.error_msg

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_actor_error, (type(self), dict(self.__dict__), self.args)

    @staticmethod
    def from_task_error(task_error: RayTaskError) -> RayActorError:
        """The error of an actor whose constructor raised `task_error`."""
        return ActorDiedError(task_error)


def _rebuild_actor_error(cls: type[Any], state: dict[str, Any], args: tuple[Any, ...]) -> Any:
    error = cls.__new__(cls)
    error.__dict__.update(state)
    error.args = args
    return error


class ActorDiedError(RayActorError):
    """The actor is dead.

    `cause` is None, the RayTaskError of a constructor that raised, or a mapping (or object) with
    ``class_name``, ``actor_id``, ``pid``, ``name``, ``namespace``, ``ip``, ``error_message`` and
    ``never_started``.
    """

    BASE_ERROR_MSG = "The actor died unexpectedly before finishing this task."

    def __init__(self, cause: Any = None) -> None:
        if cause is None:
            super().__init__(None, self.BASE_ERROR_MSG)
        elif isinstance(cause, RayTaskError):
            super().__init__(
                cause._actor_id,
                "The actor died because of an error raised in its creation task, " + str(cause),
                actor_init_failed=True,
            )
        else:
            self._init_from_context(cause)

    def _init_from_context(self, cause: Any) -> None:
        def field(name: str) -> Any:
            return cause.get(name) if isinstance(cause, dict) else getattr(cause, name, None)

        actor_id = field("actor_id")
        if isinstance(actor_id, bytes):
            actor_id = actor_id.hex()
        lines = [self.BASE_ERROR_MSG]
        lines.append(f"\tclass_name: {field('class_name') or ''}")
        lines.append(f"\tactor_id: {actor_id or ''}")
        for name in ("pid", "name", "namespace", "ip"):
            if field(name):
                lines.append(f"\t{name}: {field(name)}")
        if field("error_message"):
            lines.append(str(field("error_message")))
        if field("never_started"):
            lines.append("The actor never ran - it was cancelled before it started running.")
        super().__init__(actor_id, "\n".join(lines), preempted=bool(field("preempted")))

    @staticmethod
    def from_task_error(task_error: RayTaskError) -> ActorDiedError:
        """The error of an actor whose constructor raised `task_error`."""
        return ActorDiedError(task_error)


class ActorUnavailableError(RayActorError):
    """The actor can't be reached for the moment; the call may or may not have run."""

    def __init__(self, error_message: str, actor_id: bytes | str | None = None) -> None:
        hex_id = actor_id.hex() if isinstance(actor_id, bytes) else actor_id
        super().__init__(
            hex_id,
            f"The actor {hex_id} is unavailable: {error_message}. The task may or may not have "
            "been executed on the actor.",
        )


class RaySystemError(RayError):
    """Something inside Ray failed."""

    def __init__(self, client_exc: Any, traceback_str: str | None = None) -> None:
        super().__init__(client_exc, traceback_str)
        self.client_exc = client_exc
        self.traceback_str = traceback_str

    def __str__(self) -> str:
        text = f"System error: {self.client_exc}"
        return f"{text}\ntraceback: {self.traceback_str}" if self.traceback_str else text


class RayChannelError(RaySystemError):
    """A channel of a compiled graph failed or was closed."""


class RayChannelTimeoutError(RayChannelError, TimeoutError):
    """A channel of a compiled graph did not answer in time."""


class RayCgraphCapacityExceeded(RaySystemError):
    """Too many executions of a compiled graph are in flight."""


class UserCodeException(RayError):
    """A library wraps a user's exception; ``retry_exceptions`` looks at its ``__cause__``."""


class ObjectStoreFullError(RayError):
    """The object store is full, and nothing in it can be freed."""

    def __str__(self) -> str:
        return (
            super().__str__()
            + "\nThe local object store is full of objects that are still in scope and cannot be "
            "evicted."
        )


class OutOfDiskError(RayError):
    """The object store is full, and so is the disk it could spill to."""

    def __str__(self) -> str:
        return (
            super().__str__()
            + "\nThe object cannot be created because the local object store is full and the local "
            "disk's utilization is over capacity (95% by default). Tip: Use `df` on this node to "
            "check disk usage and `ray memory` to check object store memory usage."
        )


class OutOfMemoryError(RayError):
    """The process was killed because its node ran low on memory."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message


class NodeDiedError(RayError):
    """The node died or can't be reached."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message


_WORKER_ID_BYTES = 28  # an owner's address begins with its id


class ObjectLostError(RayError):
    """All copies of an object are gone, and it can't be made again."""

    def __init__(
        self, object_ref_hex: str = _NO_ID, owner_address: Any = None, call_site: str = ""
    ) -> None:
        super().__init__(object_ref_hex, owner_address, call_site)
        self.object_ref_hex = object_ref_hex
        self.owner_address = owner_address
        self.call_site = (call_site or "").replace(" | ", "\n  ")
        self.detail = ""

    def _base_str(self) -> str:
        text = f"Failed to retrieve object {self.object_ref_hex}. "
        if self.call_site:
            return f"{text}The ObjectRef was created at: {self.call_site}"
        return (
            f"{text}To see information about where this ObjectRef was created in Python, set the "
            "environment variable RAY_record_ref_creation_sites=1 during `ray start` and "
            "`ray.init()`."
        )

    def _why(self) -> str:
        return f"All copies of {self.object_ref_hex} have been lost due to node failure."

    def __str__(self) -> str:
        text = f"{self._base_str()}\n\n{self._why()}"
        return f"{text}\n{self.detail}" if self.detail else text

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_actor_error, (type(self), dict(self.__dict__), self.args)


class ObjectFetchTimedOutError(ObjectLostError):
    """No place that has the object was found in time."""

    def _why(self) -> str:
        return (
            f"Fetch for object {self.object_ref_hex} timed out because no locations were found for "
            "the object. This may indicate a system-level bug."
        )


class ReferenceCountingAssertionError(ObjectLostError, AssertionError):
    """The object was deleted before this reference to it reached its owner."""

    def _why(self) -> str:
        return (
            "The object has already been deleted by the reference counting protocol. This should "
            "not happen unless the reference travelled outside of Ray."
        )


class ObjectFreedError(ObjectLostError):
    """The object was freed by hand."""

    def _why(self) -> str:
        return (
            "The object was manually freed using the internal `free` call. Please ensure that "
            "`free` is only called once the object is no longer needed."
        )


class OwnerDiedError(ObjectLostError):
    """The process that owned the object has ended."""

    def _why(self) -> str:
        logs = "/tmp/ray/session_latest/logs"
        if isinstance(self.owner_address, bytes) and len(self.owner_address) >= _WORKER_ID_BYTES:
            logs += f"/*{self.owner_address[:_WORKER_ID_BYTES].hex()}*"
        return (
            "The object's owner has exited. This is the Python worker that first created the "
            f"ObjectRef via `.remote()` or `ray.put()`. Check the owner's logs ({logs}) for more "
            "information about its end."
        )


class ObjectReconstructionFailedError(ObjectLostError):
    """The object can't be made again."""

    def _why(self) -> str:
        return (
            "The object cannot be reconstructed because it was created by an actor, ray.put() "
            "call, or its ObjectRef was created by a different worker."
        )


class ObjectReconstructionFailedMaxAttemptsExceededError(ObjectLostError):
    """The object could not be made again within its task's retries."""

    def _why(self) -> str:
        return (
            "The object cannot be reconstructed because the maximum number of task retries has "
            "been exceeded. To allow more retries, set `max_retries` in the @ray.remote decorator "
            "(default 3)."
        )


class ObjectReconstructionFailedLineageEvictedError(ObjectLostError):
    """The record of how the object was made is no longer kept."""

    def _why(self) -> str:
        return (
            "The object cannot be reconstructed because its lineage has been evicted to reduce "
            "memory pressure. To keep more, set the environment variable RAY_max_lineage_bytes."
        )


class RpcError(RayError):
    """A request to another process of the cluster failed."""

    def __init__(self, message: str, rpc_code: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.rpc_code = rpc_code

    def __str__(self) -> str:
        return self.message


class GetTimeoutError(RayError, TimeoutError):
    """``ray.get`` ran out of time."""


RayTimeoutError = GetTimeoutError  # the name in early releases


class PlasmaObjectNotAvailable(RayError):
    """The object did not become local in time."""


class AsyncioActorExit(RayError):
    """Leaves an asyncio actor; seen by the runtime only."""


class RuntimeEnvSetupError(RayError):
    """The runtime environment could not be set up."""

    def __init__(self, error_message: str | None = None) -> None:
        super().__init__(error_message)
        self.error_message = error_message

    def __str__(self) -> str:
        text = "Failed to set up runtime environment."
        return f"{text}\n{self.error_message}" if self.error_message else text


class TaskPlacementGroupRemoved(RayError):
    """The task's placement group was removed."""

    def __str__(self) -> str:
        return "The placement group corresponding to this task has been removed."


class ActorPlacementGroupRemoved(RayError):
    """The actor's placement group was removed."""

    def __str__(self) -> str:
        return "The placement group corresponding to this Actor has been removed."


class PendingCallsLimitExceeded(RayError):
    """The handle has as many calls in flight as ``max_pending_calls`` allows."""


class TaskUnschedulableError(RayError):
    """The task can never be placed."""

    def __init__(self, error_message: str = "") -> None:
        super().__init__(error_message)
        self.error_message = error_message

    def __str__(self) -> str:
        return f"The task is not schedulable: {self.error_message}"


class ActorUnschedulableError(RayError):
    """The actor can never be placed."""

    def __init__(self, error_message: str = "") -> None:
        super().__init__(error_message)
        self.error_message = error_message

    def __str__(self) -> str:
        return f"The actor is not schedulable: {self.error_message}"


class ObjectRefStreamEndOfStreamError(RayError):
    """The end of a stream of references; seen by the runtime only."""


class UnserializableException(RayError):
    """A task's exception arrived but can't be unpickled here."""

    def __init__(self, original_stack_trace: str = "") -> None:
        super().__init__(original_stack_trace)
        self._original_stack_trace = original_stack_trace

    def __str__(self) -> str:
        return (
            "The exception of the task could not be unpickled in this process. Its original stack "
            f"trace:\n{self._original_stack_trace}"
        )


class OufOfBandObjectRefSerializationException(RayError):
    """A reference was pickled outside of Ray, and that is forbidden."""


class ActorAlreadyExistsError(ValueError, RayError):
    """The name is taken by another actor of the namespace."""


class ActorHandleNotFoundError(ValueError, RayError):
    """The handle belongs to another session."""


class RayDirectTransportError(RayError):
    """A direct transfer of a tensor failed."""


class AuthenticationError(RayError):
    """The cluster asks for a token that is missing or wrong."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return (
            f"{self.message} Set RAY_AUTH_MODE=token and give the cluster's token by "
            "RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token."
        )


def _text_or(error: RayError, default: str) -> str:
    """What the runtime told about the failure, after the fixed text that programs look for."""
    told = "\n".join(str(arg) for arg in error.args if arg)
    if not told:
        return default
    return told if default in told else f"{default}\n{told}"


RAY_EXCEPTION_TYPES = [
    PlasmaObjectNotAvailable,
    RayError,
    TaskCancelledError,
    RayTaskError,
    WorkerCrashedError,
    RayActorError,
    ActorDiedError,
    ActorUnavailableError,
    RaySystemError,
    RayChannelError,
    RayChannelTimeoutError,
    ObjectStoreFullError,
    OutOfDiskError,
    OutOfMemoryError,
    NodeDiedError,
    ObjectLostError,
    ObjectFetchTimedOutError,
    ReferenceCountingAssertionError,
    ObjectFreedError,
    OwnerDiedError,
    ObjectReconstructionFailedError,
    ObjectReconstructionFailedMaxAttemptsExceededError,
    ObjectReconstructionFailedLineageEvictedError,
    RpcError,
    GetTimeoutError,
    AsyncioActorExit,
    RuntimeEnvSetupError,
    TaskPlacementGroupRemoved,
    ActorPlacementGroupRemoved,
    PendingCallsLimitExceeded,
    LocalRayletDiedError,
    TaskUnschedulableError,
    ActorUnschedulableError,
    AuthenticationError,
]
