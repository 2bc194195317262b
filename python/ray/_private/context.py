# SPDX-License-Identifier: Apache-2.0
"""``ray.init`` and ``ray.shutdown``: checking arguments, starting, and what ``init`` returns."""

from __future__ import annotations

import _thread
import os
import sys

from ray import _native
from ray._private.unbuilt import not_built

TYPE_CHECKING = False  # see ray/__init__.py
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

MIN_OBJECT_STORE_MEMORY = 75 << 20
_MAX_OPEN_FILES = 65536

# Keywords that only tests and libraries use, with their defaults.
_HIDDEN: dict[str, Any] = {
    "_cgroup_path": None,
    "_driver_object_store_memory": None,
    "_enable_object_reconstruction": False,
    "_memory": None,
    "_metrics_export_port": None,
    "_node_ip_address": None,
    "_node_name": None,
    "_plasma_directory": None,
    "_redis_password": "",
    "_redis_username": "",
    "_skip_env_hook": False,
    "_system_config": None,
    "_temp_dir": None,
    "_tracing_startup_hook": None,
    "cgroup_path": None,
    "object_spilling_directory": None,
    "proxy_server_url": None,
    "storage": None,
}
# Those of them that mean something already.
_HONOURED = ("_memory", "_skip_env_hook", "_system_config", "_temp_dir")

_current: RayContext | None = None
_log_thread_done: Any = None
_starting = _thread.allocate_lock()  # one thread starts at a time, the others find it started
_starter: int | None = None  # that thread


class RayContext:
    """What ``ray.init`` returns: where the runtime is. Leaving it as a context manager ends Ray."""

    def __init__(self, address_info: dict[str, Any]) -> None:
        from ray import _version

        self.address_info = address_info
        self.dashboard_url: str | None = address_info.get("webui_url") or ""
        self.python_version = "{}.{}.{}".format(*sys.version_info[:3])
        self.ray_version = _version.__version__
        self.ray_commit = _version.__commit__

    def __getitem__(self, key: str) -> Any:
        if key in self.address_info:
            return self.address_info[key]
        raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return key in self.address_info

    def __iter__(self) -> Iterator[str]:
        return iter(self.address_info)

    def __len__(self) -> int:
        return len(self.address_info)

    def get(self, key: str, default: Any = None) -> Any:
        """One item of `address_info`."""
        return self.address_info.get(key, default)

    def keys(self) -> Any:
        """Names of the items of `address_info`."""
        return self.address_info.keys()

    def items(self) -> Any:
        """The items of `address_info`."""
        return self.address_info.items()

    def disconnect(self) -> None:
        """Ends Ray, as `ray.shutdown` does."""
        stop()

    def __enter__(self) -> RayContext:
        return self

    def __exit__(self, *exc: object) -> None:
        stop()

    def __repr__(self) -> str:
        return (
            f"RayContext(dashboard_url={self.dashboard_url!r}, "
            f"python_version={self.python_version!r}, ray_version={self.ray_version!r})"
        )


# ---- arguments -----------------------------------------------------------------------------------


def _check_hidden(kwargs: dict[str, Any]) -> dict[str, Any]:
    if "allow_multiple" in kwargs:
        raise RuntimeError("`allow_multiple` argument is passed when a local cluster is started.")
    unknown = [name for name in kwargs if name not in _HIDDEN]
    if unknown:
        raise RuntimeError(f"Unknown keyword argument(s): {', '.join(unknown)}")
    hidden = {**_HIDDEN, **kwargs}
    config = hidden["_system_config"]
    if config is not None and not isinstance(config, dict):
        raise TypeError("The _system_config must be a dict.")
    return hidden


def _refuse_unbuilt(given: dict[str, Any], hidden: dict[str, Any]) -> None:
    for name in ("local_mode", "include_dashboard", "enable_resource_isolation", "labels"):
        if given[name]:
            raise not_built(f"ray.init({name}=...)")
    for name in ("system_reserved_cpu", "system_reserved_memory"):
        if given[name] is not None:
            raise ValueError(f"{name} needs enable_resource_isolation=True.")
    if hidden["_system_config"]:
        raise not_built("ray.init(_system_config=...)")
    for name, default in _HIDDEN.items():
        if name not in _HONOURED and hidden[name] != default:
            raise not_built(f"ray.init({name}=...)")


def _resolve_address(address: Any, temp_dir: str | None) -> str | None:
    """The runtime to join; None to start one."""
    if address is not None and not isinstance(address, str):
        raise TypeError(f"The address must be a string, got {type(address)}.")
    if address == "":
        address = "local"
    if address is not None and "://" in address:
        raise not_built(f"Connecting to {address} (Ray Client)")
    return _native.find_runtime(address, temp_dir) or None


def _check_joining(address: str, given: dict[str, Any], hidden: dict[str, Any]) -> None:
    names = ("num_cpus", "num_gpus", "resources", "labels", "object_store_memory")
    refused = [name for name in names if given[name] is not None]
    names = ("storage", "_system_config", "_enable_object_reconstruction", "_node_name")
    refused += [name for name in names if hidden[name]]
    if refused:
        raise ValueError(
            f"When connecting to an existing cluster, {refused[0]} must not be provided. This "
            f"would join {address}; address=\"local\" starts a runtime of its own."
        )


def _amount(name: str, value: Any) -> float:
    """A resource amount of this node; negative: find it out."""
    if value is None:
        return -1.0
    if not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, got {type(value)}.")
    if value < 0 or value != value:
        raise ValueError(f"{name} must not be negative, got {value}.")
    return float(value)


def _custom_resources(resources: Any) -> dict[str, float]:
    if resources is None:
        return {}
    if not isinstance(resources, dict):
        raise TypeError(f"resources must be a dict, got {type(resources)}.")
    for name, value in resources.items():
        if not isinstance(name, str):
            raise TypeError(f"The names in resources must be strings, got {name!r}.")
        if name in ("CPU", "GPU", "memory", "object_store_memory"):
            key = {"CPU": "num_cpus", "GPU": "num_gpus"}.get(name, name)
            raise ValueError(f"Use the argument {key} instead of {name!r} in resources.")
        _amount(f"resources[{name!r}]", value)
    return {name: float(value) for name, value in resources.items()}


def _bytes(name: str, value: Any, least: int) -> int:
    if value is None:
        return 0
    if not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of bytes, got {type(value)}.")
    if value < least:
        raise ValueError(
            f"Attempting to use {name}={int(value)} bytes, but it must be at least {least} bytes."
        )
    return int(value)


def check_namespace(namespace: Any) -> None:
    """Raises unless this is a namespace, or None."""
    if namespace is None:
        return
    if not isinstance(namespace, str):
        raise TypeError("namespace must be None or a string.")
    if namespace == "":
        raise ValueError('"" is not a valid namespace. Pass None to not specify one.')


def _namespace(given: dict[str, Any], job_config: Any) -> str | None:
    namespace = given["namespace"]
    check_namespace(namespace)
    if namespace is None and job_config is not None:
        namespace = job_config.ray_namespace
    return namespace or os.environ.get("RAY_NAMESPACE") or None


def _job_config(given: dict[str, Any]) -> Any:
    job_config = given["job_config"]
    if job_config is not None:
        from ray.job_config import JobConfig

        if not isinstance(job_config, JobConfig):
            raise TypeError(
                f"job_config must be a ray.job_config.JobConfig or None, got {type(job_config)}."
            )
    if given["runtime_env"] or (job_config is not None and job_config.runtime_env):
        raise not_built("A runtime environment (runtime_env)")
    return job_config


def _env_flag(name: str, default: bool) -> bool:
    text = os.environ.get(name)
    return default if text is None else text == "1" or text.lower() == "true"


# ---- starting ------------------------------------------------------------------------------------


def zygote_argv() -> list[str]:
    """The command line of the interpreter that forks this job's workers.

    It gets this interpreter's flags and its search path, entry by entry.
    """
    argv = [sys.executable]
    flags = sys.flags
    for letter, count in (
        ("O", flags.optimize),
        ("B", flags.dont_write_bytecode),
        ("s", flags.no_user_site and not flags.isolated),
        ("E", flags.ignore_environment and not flags.isolated),
        ("I", flags.isolated),
    ):
        if count:
            argv.append("-" + letter * int(count))
    argv += [f"-W{option}" for option in sys.warnoptions]
    for key, value in sys._xoptions.items():
        argv.append(f"-X{key}" if value is True else f"-X{key}={value}")
    path = [os.getcwd() if entry == "" else entry for entry in sys.path]
    code = f"import sys; sys.path[:] = {path!r}; from ray._private.zygote import main; main()"
    return [*argv, "-c", code]


def _raise_file_limit() -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            pass  # not ours to raise


def _on_sigterm(signum: int, frame: Any) -> None:
    if os.getpid() != _sigterm_pid:  # a forked child: it ends as if there were no handler
        import _signal

        _signal.signal(signum, _signal.SIG_DFL)
        os.kill(os.getpid(), signum)
    sys.exit(signum)


_sigterm_pid = 0


def _install_sigterm() -> None:
    """Makes SIGTERM end the program the normal way, unless the program has a handler itself."""
    import _signal

    global _sigterm_pid
    _sigterm_pid = os.getpid()
    try:
        if _signal.getsignal(_signal.SIGTERM) == _signal.SIG_DFL:
            _signal.signal(_signal.SIGTERM, _on_sigterm)
    except ValueError:  # only the main thread may
        import warnings

        warnings.warn(
            "ray.init() was called outside of the main thread, so SIGTERM won't shut Ray down in "
            "order.",
            stacklevel=5,
        )


def _configure_logging(given: dict[str, Any]) -> None:
    config = given["logging_config"]
    level = given["logging_level"]
    if config is not None:
        from ray import LoggingConfig

        if not isinstance(config, LoggingConfig):
            raise TypeError(
                f"logging_config must be a ray.LoggingConfig or None, got {type(config)}."
            )
        if config.encoding != "TEXT" or config.additional_log_standard_attrs:
            raise not_built("A LoggingConfig with an encoding or additional attributes")
        level = config.log_level
    if not given["configure_logging"] or (level is None and given["logging_format"] is None):
        return
    import logging

    logger = logging.getLogger("ray")
    if level is not None:
        logger.setLevel(level.upper() if isinstance(level, str) else level)
    if given["logging_format"] is not None:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter(given["logging_format"]))
        logger.handlers[:] = [handler]
        logger.propagate = False


def _preload() -> None:
    """Imports what the first call needs, while the runtime starts."""
    try:
        import cloudpickle  # noqa: F401
    except ImportError:
        pass  # said by whoever needs it


def _start_log_thread() -> None:
    global _log_thread_done
    from ray._private import logs

    printer = logs.LogPrinter()
    done = _thread.allocate_lock()
    done.acquire()

    def run() -> None:
        try:
            logs.run(printer)
        finally:
            done.release()

    _thread.start_new_thread(run, ())
    _log_thread_done = done


def _forget_session() -> None:
    """In a child made by fork: nothing of the session is the child's, and it has no such thread."""
    global _current, _log_thread_done, _starter, _starting
    _current = _log_thread_done = _starter = None
    _starting = _thread.allocate_lock()


def _address_info() -> dict[str, Any]:
    c = _native.context()
    return {
        "node_ip_address": c["node_ip"],
        "raylet_ip_address": c["node_ip"],
        "redis_address": None,
        "object_store_address": c["raylet_socket"],
        "raylet_socket_name": c["raylet_socket"],
        "webui_url": "",
        "session_dir": c["session_dir"],
        "metrics_export_port": None,
        "gcs_address": c["raylet_socket"],
        "address": c["raylet_socket"],
        "dashboard_agent_listen_port": None,
        "node_id": c["node_id"].hex(),
    }


def start(given: dict[str, Any], kwargs: dict[str, Any]) -> RayContext:
    """Checks the arguments of `ray.init` and starts."""
    global _starter
    hidden = _check_hidden(kwargs)
    if _starter == _thread.get_ident():  # in a signal's handler or a finalizer: it can't wait
        raise RuntimeError("ray.init was called while this thread is starting Ray.")
    with _starting:
        _starter = _thread.get_ident()
        try:
            return _start(given, hidden)
        finally:
            _starter = None


def _start(given: dict[str, Any], hidden: dict[str, Any]) -> RayContext:
    global _current
    if _native.is_initialized():
        if given["ignore_reinit_error"]:
            if _current is None:
                _current = RayContext(_address_info())
            return _current
        raise RuntimeError(
            "Maybe you called ray.init twice by accident? This error can be suppressed by passing "
            "in 'ignore_reinit_error=True' or by calling 'ray.shutdown()' prior to 'ray.init()'."
        )
    temp_dir = os.fspath(hidden["_temp_dir"] or os.environ.get("RAY_TMPDIR") or "") or None
    if given["address"] not in (None, "", "auto", "local"):
        _check_joining(str(given["address"]), given, hidden)
    address = _resolve_address(given["address"], temp_dir)
    if address is not None:
        _check_joining(address, given, hidden)
    job_config = _job_config(given)
    _refuse_unbuilt(given, hidden)
    log_to_driver = given["log_to_driver"]
    if log_to_driver is None:
        log_to_driver = _env_flag("RAY_LOG_TO_DRIVER", True)
    settings = {
        "address": address or "local",
        "num_cpus": _amount("num_cpus", given["num_cpus"]),
        "num_gpus": _amount("num_gpus", given["num_gpus"]),
        "resources": _custom_resources(given["resources"]),
        "object_store_memory": _bytes(
            "object_store_memory", given["object_store_memory"], MIN_OBJECT_STORE_MEMORY
        ),
        "memory": _bytes("_memory", hidden["_memory"], 1),
        "namespace": _namespace(given, job_config),
        "detached_by_default": job_config is not None
        and job_config.default_actor_lifetime == "detached",
        "temp_dir": temp_dir,
        "zygote_argv": zygote_argv(),
        "log_to_driver": bool(log_to_driver),
    }
    _configure_logging(given)
    _install_sigterm()
    _raise_file_limit()
    return _launch(settings)


def _launch(settings: dict[str, Any]) -> RayContext:
    global _current
    if _native.session():
        stop()  # what is left of a session whose raylet died
    if "cloudpickle" not in sys.modules:
        _thread.start_new_thread(_preload, ())
    _native.init(settings)
    if settings["log_to_driver"]:
        _start_log_thread()
    _register_exit()
    _bind_names()
    _current = RayContext(_address_info())
    return _current


_exit_registered = False


def _bind_names() -> None:
    """Makes the public functions plain attributes of `ray`: nothing can be imported at the end."""
    import ray
    from ray._private import api

    for name in api.__all__:
        setattr(ray, name, getattr(api, name))


def _register_exit() -> None:
    global _exit_registered
    if not _exit_registered:
        import atexit

        atexit.register(stop)
        os.register_at_fork(after_in_child=_forget_session)
        _exit_registered = True


def stop() -> None:
    """`ray.shutdown`: ends the session and prints what workers said last."""
    global _current, _log_thread_done
    _current = None
    _native.shutdown()
    done, _log_thread_done = _log_thread_done, None
    if done is not None and done.acquire(timeout=5):
        done.release()
