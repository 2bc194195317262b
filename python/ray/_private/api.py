# SPDX-License-Identifier: Apache-2.0
"""The functions of ``import ray``: starting, submitting, waiting, looking around."""

from __future__ import annotations

import _thread
import os

from ray import _native
from ray._native import get, put, wait
from ray._private.unbuilt import not_built

TYPE_CHECKING = False  # see ray/__init__.py
if TYPE_CHECKING:
    from typing import Any

    from ray._private.context import RayContext
    from ray.actor import ActorHandle

SCRIPT_MODE, WORKER_MODE, LOCAL_MODE = 0, 1, 2

_starting = _thread.allocate_lock()

__all__ = [
    "LOCAL_MODE",
    "SCRIPT_MODE",
    "WORKER_MODE",
    "available_resources",
    "cancel",
    "cluster_resources",
    "get",
    "get_actor",
    "get_gpu_ids",
    "init",
    "is_initialized",
    "kill",
    "method",
    "nodes",
    "put",
    "remote",
    "shutdown",
    "timeline",
    "wait",
]

_REMOTE_USAGE = (
    "The @ray.remote decorator must be applied either with no arguments and no parentheses, for "
    "example '@ray.remote', or it must be applied using some of the arguments in the list "
    "{names}, for example '@ray.remote(num_returns=2, resources={{\"CustomResource\": 1}})'."
)


# ---- starting and stopping -----------------------------------------------------------------------


def init(
    address: str | None = None,
    *,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    resources: dict[str, float] | None = None,
    labels: dict[str, str] | None = None,
    object_store_memory: int | None = None,
    local_mode: bool = False,
    ignore_reinit_error: bool = False,
    include_dashboard: bool | None = None,
    dashboard_host: str = "127.0.0.1",
    dashboard_port: int | None = None,
    job_config: Any = None,
    configure_logging: bool = True,
    logging_level: int | str | None = None,
    logging_format: str | None = None,
    logging_config: Any = None,
    log_to_driver: bool | None = None,
    namespace: str | None = None,
    runtime_env: dict[str, Any] | None = None,
    enable_resource_isolation: bool = False,
    system_reserved_cpu: float | None = None,
    system_reserved_memory: int | None = None,
    **kwargs: Any,
) -> RayContext:
    """Starts Ray on this machine, or joins a running cluster, and makes this process its driver.

    Nothing needs to be configured: the processors, GPUs and memory of the machine are found out.
    Functions that need Ray call this by themselves when nobody has.

    Args:
        address: a cluster to join; None or "local" starts a runtime of one's own.
        num_cpus: processors to hand out; by default those that this process may use.
        num_gpus: GPUs to hand out; by default those of the machine.
        resources: further resources by name, in any amount.
        labels: labels of this node.
        object_store_memory: bytes for shared objects; by default 30 % of memory.
        ignore_reinit_error: return the context instead of raising when Ray runs already.
        log_to_driver: show what workers print.
        namespace: where named actors of this job live; an anonymous one by default.
        logging_level: level of the logger "ray".
        job_config: a `ray.job_config.JobConfig`.

    Returns:
        A RayContext, which shuts Ray down when used as a context manager.

    Raises:
        RuntimeError: Ray runs already, or a keyword is unknown.
        ConnectionError: the cluster can't be reached.
    """
    from ray._private import context

    given = {k: v for k, v in locals().items() if k not in ("kwargs", "context")}
    return context.start(given, kwargs)


def shutdown(_exiting_interpreter: bool = False) -> None:
    """Ends the driver's job and, when `ray.init` started one, the runtime. May be called again.

    Arrays that were obtained stay readable.
    """
    from ray._private import context

    context.stop()


def is_initialized() -> bool:
    """Whether Ray runs and this process is part of it."""
    return _native.is_initialized()


def ensure_session() -> int:
    """The number of the current session; starts Ray when nobody has. Called on first use."""
    session = _native.session()
    if session and _native.is_initialized():
        return session
    if session:
        _raise_if_died()
    from ray._private import futures

    if futures.on_callback_thread():
        raise RuntimeError("Ray was shut down before the object was ready.")
    if os.environ.get("RAY_ENABLE_AUTO_CONNECT", "1") == "0":
        raise RuntimeError(
            "Ray has not been started yet. You can start Ray with 'ray.init()' (it is not started "
            "by itself since RAY_ENABLE_AUTO_CONNECT=0)."
        )
    with _starting:  # several threads may make the first call
        if not _native.is_initialized():
            init()
        return _native.session()


def _raise_if_died() -> None:
    """A runtime that died under the program is not replaced behind its back: it had options and
    actors that a new one would not have. Only ``init`` makes another."""
    from ray.exceptions import LocalRayletDiedError

    try:
        _native.state_json("leases")
    except LocalRayletDiedError:
        raise
    except Exception:
        pass  # in a forked child, for one


# ---- remote --------------------------------------------------------------------------------------


def _make_remote(target: Any, options: dict[str, Any]) -> Any:
    from ray._private import options as opt

    if isinstance(target, type):
        opt.check_actor(options)
        from ray.actor import ActorClass

        return ActorClass._make(target, options)
    if not callable(target) or not _is_function(target):
        raise TypeError(
            "The @ray.remote decorator must be applied to either a function or a class, got "
            f"{type(target)}."
        )
    from ray._private import signature as sig

    if sig.is_async(target):
        raise ValueError(
            "'async def' should not be used for remote tasks. You can wrap the async function with "
            "`asyncio.run(f())`, or use an actor."
        )
    opt.check_task(options)
    from ray.remote_function import RemoteFunction

    return RemoteFunction(target, options)


def _is_function(target: Any) -> bool:
    import types

    return isinstance(
        target, (types.FunctionType, types.BuiltinFunctionType, types.MethodType)
    ) or hasattr(target, "__wrapped__") or type(target).__name__ == "cython_function_or_method"


def remote(*args: Any, **kwargs: Any) -> Any:
    """Makes a function a remote function, or a class an actor class.

    ``@ray.remote``, ``@ray.remote(num_cpus=2)`` or ``ray.remote(f)``. Options are those of
    `ray._private.options`: TASK_OPTIONS and ACTOR_OPTIONS.

    Example::

        @ray.remote
        def square(x):
            return x * x

        assert ray.get(square.remote(4)) == 16
    """
    if len(args) == 1 and not kwargs:
        return _make_remote(args[0], {})
    from ray._private import options as opt

    if args or not kwargs:
        names = sorted({*opt.TASK_OPTIONS, *opt.ACTOR_OPTIONS})
        raise AssertionError(_REMOTE_USAGE.format(names=names))
    options = _modern(kwargs)
    # Known everywhere or nowhere: what is wrong with one kind is said when the kind is known.
    for name in options:
        if name not in opt.TASK_OPTIONS and name not in opt.ACTOR_OPTIONS:
            known = sorted({*opt.TASK_OPTIONS, *opt.ACTOR_OPTIONS})
            raise ValueError(
                f"Invalid option keyword {name} for remote functions or actors. Valid ones are "
                f"{known}."
            )
    return lambda target: _make_remote(target, options)


def _modern(options: dict[str, Any]) -> dict[str, Any]:
    """Options with names of early releases replaced."""
    if "num_return_vals" not in options:
        return options
    import warnings

    warnings.warn("Use num_returns instead of num_return_vals.", DeprecationWarning, stacklevel=3)
    options = dict(options)
    options["num_returns"] = options.pop("num_return_vals")
    return options


def method(*args: Any, **kwargs: Any) -> Any:
    """Sets options of one method of an actor class: ``@ray.method(num_returns=2)``."""
    from ray import actor

    return actor.method(*args, **kwargs)


# ---- actors and tasks ----------------------------------------------------------------------------


def kill(actor: ActorHandle, *, no_restart: bool = True) -> None:
    """Ends an actor's process at once. Calls in flight fail; its exit handlers don't run.

    With `no_restart` false, the actor starts again if its max_restarts allows.

    Raises ValueError for anything but a handle.
    """
    if not isinstance(actor, _native.ActorHandleBase):
        raise ValueError(
            "ray.kill() only supported for actors. For tasks, try ray.cancel(). Got: "
            f"{type(actor)}."
        )
    ensure_session()
    _native.kill_actor(actor, bool(no_restart))


def cancel(ray_waitable: Any, *, force: bool = False, recursive: bool = True) -> None:
    """Cancels the task that makes an object, as well as it goes.

    A task that has not begun never runs. A running one gets a ``KeyboardInterrupt``; a running call
    of an async actor has its ``asyncio.Task`` cancelled; other calls of actors run on, and may ask
    ``ray.get_runtime_context().is_canceled()``. ``ray.get`` then raises ``TaskCancelledError``, or
    ``WorkerCrashedError`` after ``force``. A task that has ended is left alone, and one that was
    cancelled is not retried.

    Args:
        ray_waitable: a reference that the task returned, or its generator.
        force: end the worker process of a running task. ValueError for calls of actors.
        recursive: also cancel the tasks and calls that the running task has submitted.
    """
    if isinstance(ray_waitable, _native.StreamBase):
        ray_waitable = ray_waitable.completed()
    if not isinstance(ray_waitable, _native.ObjectRef):
        raise TypeError(
            "ray.cancel() only supported for object refs. For actors, try ray.kill(). Got: "
            f"{type(ray_waitable)}."
        )
    ensure_session()
    _native.cancel(ray_waitable, bool(force), bool(recursive))


def get_actor(name: str, namespace: str | None = None) -> ActorHandle:
    """Finds a living actor by its name.

    The handle does not keep the actor alive: only handles that its creator passed on do, and
    ``lifetime="detached"``.

    Args:
        name: the name that it was created with.
        namespace: where to look; by default the job's namespace.

    Raises ValueError when no living actor has that name there.
    """
    from ray._private import context

    if not name:
        raise ValueError("Please supply a non-empty value to get_actor")
    context.check_namespace(namespace)
    ensure_session()
    return _native.find_actor(name, namespace)


# ---- looking around ------------------------------------------------------------------------------


def _state(what: str) -> Any:
    import json

    ensure_session()
    return json.loads(_native.state_json(what))


def nodes() -> list[dict[str, Any]]:
    """A description of each node of the cluster."""
    found: list[dict[str, Any]] = _state("nodes")
    return found


def cluster_resources() -> dict[str, float]:
    """What the cluster has, by resource name."""
    found: dict[str, float] = _state("cluster_resources")
    return found


def available_resources() -> dict[str, float]:
    """What of it is free at the moment; names with nothing free are left out."""
    found: dict[str, float] = _state("available_resources")
    return found


def get_gpu_ids() -> list[int] | list[str]:
    """The GPUs that the current task or actor was given; an empty list outside of one.

    Numbers, or strings when CUDA_VISIBLE_DEVICES was set before Ray started.
    """
    if not _native.is_initialized() or _native.context()["is_driver"]:
        return []
    from ray._private import executor

    ids: list[str] = _state("accelerator_ids").get("GPU") or []
    named = executor.name_devices(ids)
    return [int(i) for i in ids] if named is None else named


def timeline(filename: str | None = None) -> Any:
    """A record of what ran where."""
    if not _native.is_initialized():
        raise RuntimeError("Ray has not been initialized yet.")
    raise not_built("ray.timeline()")
