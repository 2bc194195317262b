# SPDX-License-Identifier: Apache-2.0
"""Every option of ``@ray.remote`` and ``.options()``: its types, its range, its default.

One table row an option. ``check_task`` and ``check_actor`` validate what a user wrote; ``TaskPlan``
and ``ActorPlan`` are what the validated options mean to the runtime, with features that this
version does not have refused by name.
"""

from __future__ import annotations

import os

from ray._private.unbuilt import not_built

TYPE_CHECKING = False  # see ray/__init__.py
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

RESOURCE_UNIT = 10000  # amounts are whole multiples of 1/10000
DEFAULT_TASK_MAX_RETRIES = 3
INT32_MAX = 2**31 - 1

_NUMBER = (int, float, type(None))
_WHOLE = (int, type(None))
_TEXT = (str, type(None))
_DICT = (dict, type(None))
_ANY: tuple[type, ...] = (object,)


class Option:
    """What one option accepts. ``check`` returns what is wrong with a value, or None."""

    __slots__ = ("check", "default", "types")

    def __init__(
        self,
        types: tuple[type, ...],
        default: Any = None,
        check: Callable[[Any], str | None] | None = None,
    ) -> None:
        self.types = types
        self.default = default
        self.check = check


def _quantity(name: str) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        if value is None:
            return None
        if value != value or value in (float("inf"), float("-inf")):
            return f"The quantity of resource {name} must be a finite number, got {value}."
        if value < 0:
            return f"The quantity of resource {name} cannot be negative"
        if isinstance(value, float) and value != 0.0 and int(value * RESOURCE_UNIT) == 0:
            return (
                f"The precision of the fractional quantity of resource {name} cannot go beyond "
                f"{1 / RESOURCE_UNIT}"
            )
        if name in ("num_gpus", "GPU") and value > 1 and int(value) != value:
            return (
                f"The quantity of resource {name} must be a whole number when it is above 1, got "
                f"{value}."
            )
        return None

    return check


def _at_least(name: str, least: int, special: str = "") -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        if value is None or value >= least:
            return None
        accepted = special or f"integers >= {least}"
        return f"The keyword '{name}' only accepts {accepted}, got {value}."

    return check


def _resources(value: Any) -> str | None:
    if value is None:
        return None
    if "CPU" in value or "GPU" in value:
        return (
            "Use the 'num_cpus' and 'num_gpus' keyword instead of 'CPU' and 'GPU' in 'resources' "
            "keyword"
        )
    for reserved in ("memory", "object_store_memory"):
        if reserved in value:
            return f"Use the '{reserved}' keyword instead of '{reserved}' in 'resources' keyword"
    for name, amount in value.items():
        if not isinstance(name, str):
            return f"The names in 'resources' must be strings, got {name!r}."
        if not isinstance(amount, (int, float)):
            return f"The quantity of resource {name} must be a number, got {amount!r}."
        problem = _quantity(name)(amount)
        if problem is not None:
            return problem
    return None


def _num_returns(value: Any) -> str | None:
    if value is None or value in ("streaming", "dynamic"):
        return None
    if isinstance(value, str) or not 0 <= value <= INT32_MAX:
        return (
            "The keyword 'num_returns' only accepts None, a non-negative integer, 'streaming' (for "
            f"generators), or 'dynamic', got {value!r}."
        )
    return None


def _retry_exceptions(value: Any) -> str | None:
    if isinstance(value, bool):
        return None
    for item in value:
        if not (isinstance(item, type) and issubclass(item, Exception)):
            return (
                "The keyword 'retry_exceptions' must be True, False or a list of Exception "
                f"subclasses, but it holds {item!r}."
            )
    return None


def _backpressure(value: Any) -> str | None:
    if value is None or value == -1 or value > 0:
        return None
    return (
        "The keyword '_generator_backpressure_num_objects' only accepts a positive integer, or -1 "
        f"to turn it off, got {value}."
    )


_LIFETIMES = {None: 0, "non_detached": 1, "detached": 2}


def _lifetime(value: Any) -> str | None:
    if value in _LIFETIMES:
        return None
    return f"Invalid 'lifetime' {value!r}: it must be one of None, 'detached' and 'non_detached'."


def _concurrency_groups(value: Any) -> str | None:
    groups = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list):
        if not all(isinstance(g, dict) and {"name", "max_concurrency"} <= set(g) for g in value):
            return (
                "A list in 'concurrency_groups' must hold dicts with 'name' and 'max_concurrency', "
                f"got {value!r}."
            )
        groups = [(g["name"], g["max_concurrency"]) for g in value]
    for name, limit in groups:
        if not isinstance(name, str) or not name or "\n" in name:
            return f"The name of a concurrency group must be a non-empty string, got {name!r}."
        if not isinstance(limit, int) or not 1 <= limit <= INT32_MAX:
            return f"The concurrency group {name!r} needs a limit of 1 or more, got {limit!r}."
    return None


def _groups(options: Mapping[str, Any]) -> dict[str, int]:
    """Name -> limit, of the option in either form."""
    value = options.get("concurrency_groups") or {}
    if isinstance(value, list):
        return {g["name"]: g["max_concurrency"] for g in value}
    return dict(value)


def _actor_name(value: Any) -> str | None:
    return "Actor name cannot be an empty string." if value == "" else None


def _namespace(value: Any) -> str | None:
    return '"" is not a valid namespace. Pass None to not specify one.' if value == "" else None


def _fallback(value: Any) -> str | None:
    for item in value or ():
        if not isinstance(item, dict) or not item:
            return f"Each item of 'fallback_strategy' must be a non-empty dict, got {item!r}."
        unknown = set(item) - {"label_selector"}
        if unknown:
            return f"Unknown keys in 'fallback_strategy': {sorted(unknown)}. Use 'label_selector'."
    return None


_COMMON: dict[str, Option] = {
    "accelerator_type": Option(_TEXT),
    "enable_task_events": Option((bool,), True),
    "fallback_strategy": Option((list, type(None)), None, _fallback),
    "label_selector": Option(_DICT),
    "memory": Option(_NUMBER, None, _quantity("memory")),
    "num_cpus": Option(_NUMBER, None, _quantity("num_cpus")),
    "num_gpus": Option(_NUMBER, None, _quantity("num_gpus")),
    "placement_group": Option(_ANY, "default"),
    "placement_group_bundle_index": Option((int,), -1),
    "placement_group_capture_child_tasks": Option((bool, type(None))),
    "resources": Option(_DICT, None, _resources),
    "runtime_env": Option(_DICT),
    "scheduling_strategy": Option(_ANY),
    "_labels": Option(_DICT),
    "_metadata": Option(_DICT),
}

TASK_OPTIONS: dict[str, Option] = {
    **_COMMON,
    "max_calls": Option(_WHOLE, 0, _at_least("max_calls", 0)),
    "max_retries": Option(
        _WHOLE, None, _at_least("max_retries", -1, "0, -1 or a positive integer")
    ),
    "name": Option(_TEXT),
    "num_returns": Option((int, str, type(None)), None, _num_returns),
    "object_store_memory": Option(
        _WHOLE,
        None,
        lambda v: "Setting 'object_store_memory' is not implemented for tasks"
        if v is not None
        else None,
    ),
    "retry_exceptions": Option((bool, list, tuple), False, _retry_exceptions),
    "_generator_backpressure_num_objects": Option(_WHOLE, None, _backpressure),
}

ACTOR_OPTIONS: dict[str, Option] = {
    **_COMMON,
    "allow_out_of_order_execution": Option((bool, type(None))),
    "concurrency_groups": Option((list, dict, type(None)), None, _concurrency_groups),
    "enable_tensor_transport": Option((bool, type(None))),
    "get_if_exists": Option((bool,), False),
    "lifetime": Option(_TEXT, None, _lifetime),
    "max_concurrency": Option(_WHOLE, None, _at_least("max_concurrency", 0)),
    "max_pending_calls": Option(_WHOLE, -1, _at_least("max_pending_calls", -1)),
    "max_restarts": Option(_WHOLE, 0, _at_least("max_restarts", -1, "0, -1 or a positive integer")),
    "max_task_retries": Option(
        _WHOLE, 0, _at_least("max_task_retries", -1, "0, -1 or a positive integer")
    ),
    "name": Option(_TEXT, None, _actor_name),
    "namespace": Option(_TEXT, None, _namespace),
    "object_store_memory": Option(_WHOLE, None, _quantity("object_store_memory")),
}

METHOD_OPTIONS: dict[str, Option] = {
    "concurrency_group": Option(_TEXT),
    "enable_task_events": Option((bool,), True),
    "max_task_retries": Option(_WHOLE, None, _at_least("max_task_retries", -1)),
    "name": Option(_TEXT),
    "num_returns": Option((int, str, type(None)), None, _num_returns),
    "retry_exceptions": Option((bool, list, tuple, type(None)), None),
    "tensor_transport": Option(_TEXT),
    "_generator_backpressure_num_objects": Option(_WHOLE, None, _backpressure),
}


def _type_names(types: tuple[type, ...]) -> str:
    names = ["None" if t is type(None) else t.__name__ for t in types]
    return names[0] if len(names) == 1 else f"one of {', '.join(names)}"


def _check(options: Mapping[str, Any], table: Mapping[str, Option], what: str) -> None:
    for name, value in options.items():
        option = table.get(name)
        if option is None:
            raise ValueError(
                f"Invalid option keyword {name} for {what}. Valid ones are {sorted(table)}."
            )
        if not isinstance(value, option.types):
            raise TypeError(
                f"The type of keyword '{name}' must be {_type_names(option.types)}, but received "
                f"type {type(value)}"
            )
        problem = option.check(value) if option.check is not None else None
        if problem is not None:
            raise ValueError(problem)


def _check_placement(options: Mapping[str, Any]) -> None:
    group = options.get("placement_group", "default")
    strategy = options.get("scheduling_strategy")
    if group not in (None, "default") and strategy is not None:
        raise ValueError(
            "Placement groups should be specified via the scheduling_strategy option. The "
            "placement_group option is deprecated, and can't be given together with it."
        )
    if options.get("placement_group_bundle_index", -1) != -1 and group in (None, "default"):
        raise ValueError("A bundle index needs a placement group, and none is given.")


def check_task(options: Mapping[str, Any], in_options: bool = False) -> None:
    """Validates options of a remote function; `in_options` when they come from ``.options()``."""
    _check(options, TASK_OPTIONS, "remote functions")
    if in_options and options.get("max_calls") is not None:
        raise ValueError(
            "Setting 'max_calls' is not supported in '.options()'. Give it to the decorator."
        )
    _check_placement(options)


def check_actor(options: Mapping[str, Any], in_options: bool = False) -> None:
    """Validates options of an actor class; `in_options` when they come from ``.options()``."""
    _check(options, ACTOR_OPTIONS, "actors")
    if in_options and options.get("concurrency_groups") is not None:
        raise ValueError(
            "Setting 'concurrency_groups' is not supported in '.options()'. Give it to the "
            "decorator."
        )
    if not in_options:
        check_get_if_exists(options)
    if options.get("object_store_memory") is not None:
        import warnings

        warnings.warn(
            "Setting 'object_store_memory' for actors is deprecated, since it reserves nothing.",
            DeprecationWarning,
            stacklevel=3,
        )
    _check_placement(options)


def check_get_if_exists(options: Mapping[str, Any]) -> None:
    """What all options of an actor together must fulfil."""
    if options.get("get_if_exists") and not options.get("name"):
        raise ValueError("The actor name must be specified to use `get_if_exists`.")


def check_method(options: Mapping[str, Any]) -> None:
    """Validates options of one actor method."""
    _check(options, METHOD_OPTIONS, "actor methods")
    retry = options.get("retry_exceptions")
    problem = None if retry is None else _retry_exceptions(retry)
    if problem is not None:
        raise ValueError(problem)


def merge(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a decorator overlaid by those of ``.options()``."""
    merged = dict(old)
    merged.update(new)
    if old.get("_metadata") and new.get("_metadata"):
        merged["_metadata"] = {**old["_metadata"], **new["_metadata"]}
    return merged


def _refuse_unbuilt(options: Mapping[str, Any]) -> None:
    if options.get("runtime_env"):
        raise not_built(
            "The option 'runtime_env'", "Tasks and actors run in the driver's own environment."
        )
    strategy = options.get("scheduling_strategy")
    if strategy is not None and strategy not in ("DEFAULT", "SPREAD"):
        if isinstance(strategy, str):
            raise ValueError(
                f"Invalid scheduling_strategy {strategy!r}. Valid ones are 'DEFAULT' and 'SPREAD'."
            )
        raise not_built(f"The scheduling strategy {type(strategy).__name__}")
    if options.get("placement_group", "default") not in (None, "default"):
        raise not_built("The option 'placement_group'")
    for name in ("label_selector", "fallback_strategy"):
        if options.get(name):
            raise not_built(f"The option '{name}'")


def _resource_dict(options: Mapping[str, Any], default_cpus: float) -> dict[str, float]:
    """What the options ask for, by resource name; zero amounts are left out."""
    cpus = options.get("num_cpus")
    wanted: dict[str, float] = {"CPU": float(default_cpus if cpus is None else cpus)}
    for name, key in (("GPU", "num_gpus"), ("memory", "memory")):
        amount = options.get(key)
        if amount is not None:
            wanted[name] = float(amount)
    wanted.update((k, float(v)) for k, v in (options.get("resources") or {}).items())
    if options.get("accelerator_type"):
        wanted[f"accelerator_type:{options['accelerator_type']}"] = 0.001
    return {name: amount for name, amount in wanted.items() if amount}


def _retries(options: Mapping[str, Any]) -> int:
    value = options.get("max_retries")
    if value is None:
        text = os.environ.get("RAY_TASK_MAX_RETRIES", "")
        value = int(text) if text.isdecimal() else DEFAULT_TASK_MAX_RETRIES
    return min(int(value), INT32_MAX)


class TaskPlan:
    """What the options of a remote function mean to the runtime."""

    __slots__ = (
        "max_calls",
        "max_retries",
        "name",
        "num_returns",
        "generator",
        "generator_limit",
        "resources",
        "retry_exceptions",
        "retry_on",
    )
    num_returns: int
    generator: int  # 0: none; 1: streaming; 2: dynamic
    generator_limit: int
    resources: dict[str, float]
    max_retries: int
    max_calls: int
    name: str | None
    retry_exceptions: bool
    retry_on: tuple[type[Exception], ...]  # empty: any exception


# How a call gives what its function yields: enum ray_generator_kind of ray.h.
_GENERATORS = {"streaming": 1, "dynamic": 2}
STREAM = -1  # of plan.returns: the call gives a generator


def plan_num_returns(value: Any, is_generator: bool) -> tuple[int, int]:
    """The number of references that a call gives, and the kind of generator that it is."""
    if isinstance(value, str) and not is_generator:
        raise ValueError(
            f"num_returns={value!r} is for generator functions, and this is not one. Use an "
            "integer."
        )
    if value is None and is_generator:
        value = "streaming"
    if isinstance(value, str):
        return 1, _GENERATORS[value]
    return (1 if value is None else int(value)), 0


def _limit(options: Mapping[str, Any]) -> int:
    """The most items of a generator that may be unread; 0: no limit."""
    value = options.get("_generator_backpressure_num_objects")
    return 0 if value is None or value < 0 else min(int(value), INT32_MAX)


def plan_task(options: Mapping[str, Any], is_generator: bool = False) -> TaskPlan:
    """Turns validated options of a remote function into what the runtime is told."""
    _refuse_unbuilt(options)
    resources = _resource_dict(options, 1)
    max_calls = options.get("max_calls")
    if max_calls is None:
        # A process that has used a GPU may hold on to the device's memory until it ends.
        max_calls = 1 if "GPU" in resources else 0
    retry = options.get("retry_exceptions") or False
    plan = TaskPlan()
    plan.num_returns, plan.generator = plan_num_returns(options.get("num_returns"), is_generator)
    plan.generator_limit = _limit(options)
    plan.resources = resources
    plan.max_retries = _retries(options)
    plan.max_calls = min(int(max_calls), INT32_MAX)
    plan.name = options.get("name") or None
    plan.retry_exceptions = bool(retry)
    plan.retry_on = tuple(retry) if isinstance(retry, (list, tuple)) else ()
    return plan


class ActorPlan:
    """What the options of an actor class mean to the runtime."""

    __slots__ = (
        "call_order",
        "concurrency_groups",
        "get_if_exists",
        "in_event_loop",
        "lifetime",
        "max_concurrency",
        "max_pending_calls",
        "max_restarts",
        "name",
        "namespace",
        "placement",
        "resources",
    )
    resources: dict[str, float]  # held while the actor lives
    placement: dict[str, float]  # needed to be placed
    max_pending_calls: int
    max_restarts: int  # -1: for ever
    max_concurrency: int  # 0: the default, 1 or, with an event loop, 1000
    call_order: int  # enum ray_call_order: 0 the default, 1 kept, 2 free
    concurrency_groups: dict[str, int]
    in_event_loop: bool  # calls are coroutines
    name: str | None
    namespace: str | None  # None: the job's
    lifetime: int  # enum ray_lifetime: 0 the job's default, 1 counted, 2 detached
    get_if_exists: bool


def _clip(count: int) -> int:
    return min(int(count), INT32_MAX)


def _refuse_unbuilt_actor(options: Mapping[str, Any]) -> None:
    if options.get("enable_tensor_transport"):
        raise not_built("The option 'enable_tensor_transport'")


def _call_order(options: Mapping[str, Any], plan: ActorPlan) -> int:
    """Whether calls may overtake those whose arguments are late: an enum ray_call_order."""
    free = options.get("allow_out_of_order_execution")
    if free is None:
        return 0
    kind = "async" if plan.in_event_loop else "multi-threaded" if plan.max_concurrency > 1 else ""
    if kind and not free:
        raise ValueError(
            f"If you're using {kind} actors, Ray can't execute actor tasks in order. Set "
            "`allow_out_of_order_execution=True` to allow out-of-order execution."
        )
    return 2 if free else 1


def plan_actor(options: Mapping[str, Any], has_async: bool = False) -> ActorPlan:
    """Turns validated options of an actor class into what the runtime is told."""
    _refuse_unbuilt(options)
    _refuse_unbuilt_actor(options)
    asked = any(
        options.get(key) is not None for key in ("num_cpus", "num_gpus", "accelerator_type")
    ) or bool(options.get("resources"))
    held = _resource_dict(options, 1 if asked else 0)
    # An actor that asks for nothing is placed where a CPU is free, then holds none.
    placement = held if asked else {**held, "CPU": 1.0}
    limit = options.get("max_pending_calls")
    plan = ActorPlan()
    plan.resources = held
    plan.placement = placement
    plan.max_pending_calls = -1 if limit is None else int(limit)
    plan.max_restarts = _clip(options.get("max_restarts") or 0)
    plan.max_concurrency = min(int(options.get("max_concurrency") or 0), INT32_MAX)
    plan.concurrency_groups = _groups(options)
    plan.in_event_loop = has_async
    plan.call_order = _call_order(options, plan)
    plan.name = options.get("name")
    plan.namespace = options.get("namespace")
    plan.lifetime = _LIFETIMES[options.get("lifetime")]
    plan.get_if_exists = bool(options.get("get_if_exists"))
    return plan


class MethodPlan:
    """What the runtime is told about a method of an actor."""

    __slots__ = (
        "concurrency_group",
        "max_task_retries",
        "name",
        "num_returns",
        "generator",
        "generator_limit",
        "retry_exceptions",
        "retry_on",
    )

    num_returns: int
    generator: int  # as of a task
    generator_limit: int
    max_task_retries: int  # -1: for ever
    retry_exceptions: bool
    retry_on: tuple[type[Exception], ...]  # empty: all
    concurrency_group: str | None  # None: the default one
    name: str | None


def plan_method(options: Mapping[str, Any], is_generator: bool = False) -> MethodPlan:
    """Turns validated options of a method, over those of its class, into what the runtime is
    told."""
    if options.get("tensor_transport"):
        raise not_built("The method option 'tensor_transport'")
    retry = options.get("retry_exceptions") or False
    plan = MethodPlan()
    plan.num_returns, plan.generator = plan_num_returns(options.get("num_returns"), is_generator)
    plan.generator_limit = _limit(options)
    plan.max_task_retries = _clip(options.get("max_task_retries") or 0)
    plan.retry_exceptions = bool(retry)
    plan.retry_on = tuple(retry) if isinstance(retry, (list, tuple)) else ()
    plan.concurrency_group = options.get("concurrency_group") or None
    plan.name = options.get("name") or None
    return plan
