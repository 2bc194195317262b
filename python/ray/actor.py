# SPDX-License-Identifier: Apache-2.0
"""Actors: classes whose instances live in worker processes of their own."""

from __future__ import annotations

from _weakref import ref as weak_reference

from ray import _native
from ray._private import options as opt
from ray._private import signature as sig
from ray._private.unbuilt import not_built

TYPE_CHECKING = False  # see ray/__init__.py
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from ray.dag.class_node import ClassNode

_METHOD_KEYS = (
    "num_returns",
    "concurrency_group",
    "max_task_retries",
    "retry_exceptions",
    "_generator_backpressure_num_objects",
    "enable_task_events",
    "tensor_transport",
    "_num_objects_per_yield",
)

# Methods that every actor has: name -> its signature.
_IMPLICIT = {
    "__ray_ready__": sig.NOTHING,
    "__ray_terminate__": sig.NOTHING,
    "__ray_call__": sig.Signature(("fn",), 1, 0, (), (), True, True),
}


class ActorClassInheritanceException(TypeError):
    """A class was derived from an actor class."""


def method(*args: Any, **kwargs: Any) -> Any:
    """Sets options of one method of an actor class.

    ``@ray.method(num_returns=2)``; see METHOD_OPTIONS in ``ray._private.options`` for the keywords.
    """
    if len(args) == 1 and callable(args[0]) and not kwargs:
        return args[0]
    if args or not kwargs or not set(kwargs) <= set(_METHOD_KEYS):
        raise AssertionError(
            "The @ray.method decorator must be applied using at least one of the arguments in the "
            f"list {list(_METHOD_KEYS)}, for example '@ray.method(num_returns=2)'."
        )
    opt.check_method({k: v for k, v in kwargs.items() if k != "_num_objects_per_yield"})
    if kwargs.get("_num_objects_per_yield") not in (None, 1):
        raise not_built("The method option '_num_objects_per_yield'")

    def annotate(function: Callable[..., Any]) -> Callable[..., Any]:
        function.__ray_method_options__ = dict(kwargs)  # type: ignore[attr-defined]
        return function

    return annotate


class MethodSpec(_native.MethodSpecBase):
    """What is the same for one method of all handles of a class: name, signature, options."""

    def __init__(
        self,
        class_name: str,
        name: str,
        signature: sig.Signature,
        options: dict[str, Any],
        is_generator: bool,
    ) -> None:
        self.class_name = class_name
        self.name = name
        self.options = options
        self.is_generator = is_generator
        self._set_signature(signature)

    def _export(self) -> None:
        """Prepares the method for the current session; called by the first call in it."""
        from ray._private import api, definitions

        session = api.ensure_session()
        plan = opt.plan_method(self.options, self.is_generator)
        function = _native.export_method(f"{self.class_name}.{self.name}", self.name)
        prepared = definitions.prepare_method_options(plan)
        self._bind(function, prepared, definitions.returns_of(plan), session)

    def with_options(self, method_options: dict[str, Any]) -> MethodSpec:
        """The same method with options that overlay its own."""
        merged = opt.merge(self.options, method_options)
        return MethodSpec(
            self.class_name, self.name, self._signature, merged, self.is_generator
        )

    def state(self) -> tuple[Any, ...]:
        """What travels with a handle."""
        return self.name, tuple(self._signature), self.options, self.is_generator


_NO_METHODS = ("__class__", "__init_subclass__", "__new__", "__subclasshook__")


def _callable_member(cls: type, name: str) -> Any:
    """A function of a class that handles should have; None for anything else."""
    if name in _NO_METHODS:
        return None
    try:
        member = getattr(cls, name)
    except Exception:  # a descriptor that doesn't work on the class
        return None
    if name in object.__dict__ and member is getattr(object, name):
        return None
    return member if callable(member) and not isinstance(member, type) else None


class ActorMeta:
    """What is known of an actor's class wherever a handle is: its name and its methods."""

    def __init__(self, class_name: str, methods: dict[str, MethodSpec]) -> None:
        self.class_name = class_name
        self.methods = methods

    @staticmethod
    def of_class(cls: type, class_name: str) -> ActorMeta:
        """Reads the methods of a class."""
        methods: dict[str, MethodSpec] = {}
        for name in dir(cls):
            function = _callable_member(cls, name)
            if function is None:
                continue
            methods[name] = MethodSpec(
                class_name,
                name,
                sig.of_method(cls, name),
                getattr(function, "__ray_method_options__", {}),
                sig.is_generator(function),
            )
        return ActorMeta(class_name, methods).with_implicit()

    def with_implicit(self) -> ActorMeta:
        """Adds the methods that every actor has."""
        for name, signature in _IMPLICIT.items():
            self.methods.setdefault(
                name, MethodSpec(self.class_name, name, signature, {}, False)
            )
        return self

    def with_retries(self, max_task_retries: int) -> ActorMeta:
        """The same class whose methods are retried so often, but for those that say it
        themselves."""
        methods = {
            name: spec
            if spec.options.get("max_task_retries") is not None
            else spec.with_options({"max_task_retries": max_task_retries})
            for name, spec in self.methods.items()
        }
        return ActorMeta(self.class_name, methods)

    def __reduce__(self) -> tuple[Any, ...]:
        methods = tuple(m.state() for name, m in self.methods.items() if name not in _IMPLICIT)
        return _load_meta, (self.class_name, methods)


_metas: dict[Any, ActorMeta] = {}


def _load_meta(class_name: str, methods: tuple[Any, ...]) -> ActorMeta:
    """Makes, or finds, the description of a class that came with a handle."""
    try:
        key = repr((class_name, methods))
        meta = _metas.get(key)
    except Exception:
        key, meta = None, None
    if meta is None:
        specs = {m[0]: MethodSpec(class_name, m[0], m[1], m[2], m[3]) for m in methods}
        meta = ActorMeta(class_name, specs).with_implicit()
        if key is not None and len(_metas) < 1000:
            _metas[key] = meta
    return meta


def _load_info(info: bytes) -> ActorMeta:
    """The description of a class as the creator of a named actor left it."""
    import pickle

    meta: ActorMeta = pickle.loads(info)
    return meta


def _no_info() -> ActorMeta:
    """Of a named actor that no Python program made."""
    return ActorMeta("", {}).with_implicit()


class ActorMethod(_native.ActorMethodBase):
    """A method of an actor. ``handle.method.remote(...)`` calls it; ``remote`` is C.

    It does not keep the actor alive: only handles do.
    """

    def __init__(self, handle: ActorHandle, spec: MethodSpec) -> None:
        self._init(weak_reference(handle), spec)

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(
            "Actor methods cannot be called directly. Instead of running "
            f"'object.{self._spec.name}()', try 'object.{self._spec.name}.remote()'."
        )

    def options(self, **method_options: Any) -> ActorMethod:
        """The same method with other options."""
        opt.check_method(method_options)
        return ActorMethod(self._actor(), self._spec.with_options(method_options))

    def bind(self, *args: Any, **kwargs: Any) -> Any:
        """Makes a node of a task graph; one for each value if the method returns several."""
        from ray.dag.class_node import bind_method

        return bind_method(self._actor(), self._spec, args, kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self._actor(), self._spec.name)

    def __repr__(self) -> str:
        return f"<ray.actor.ActorMethod {self._spec.class_name}.{self._spec.name}>"


class ActorHandle(_native.ActorHandleBase):
    """A handle to an actor. When the last handle goes, the actor ends after its queued calls."""

    def __getattr__(self, name: str) -> Any:
        meta = self._ray_meta
        spec = meta.methods.get(name) if meta is not None else None
        if spec is None:
            raise AttributeError(f"'ActorHandle' object has no attribute '{name}'")
        bound = ActorMethod(self, spec)
        if self._ray_is_counted():
            self.__dict__[name] = bound
        else:  # nothing ends with this handle, so `ray.get_actor(name).method.remote()` may work
            bound._keeps = self  # type: ignore[attr-defined]
        return bound

    @property
    def _actor_id(self) -> Any:
        from ray._private.ids import ActorID

        return ActorID(self._ray_id())

    _ray_actor_id = _actor_id

    @property
    def _actor_class_name(self) -> str:
        return self._ray_meta.class_name  # type: ignore[no-any-return]

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *self._ray_meta.methods})

    def __repr__(self) -> str:
        return f"Actor({self._ray_meta.class_name}, {self._ray_id().hex()})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Ray's own picklers never come here: this is a handle that travels outside of values.
        if not self._ray_is_counted():
            return _native.actor_from_id, (self._ray_id(), self._ray_meta)
        ref = self._ray_as_ref()
        return _native.actor_from_ref, (ref, self._ray_meta)


class ActorClass:
    """A class whose instances are actors. ``Cls.remote(...)`` starts one and gives its handle."""

    def __init__(self, *args: Any) -> None:
        # `class B(A)` with an actor class A makes Python call type(A)(name, bases, members).
        if len(args) == 3 and isinstance(args[0], str) and isinstance(args[1], tuple):
            _refuse_inheritance(args[1])
        raise TypeError("ActorClass objects are made by @ray.remote.")

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[Any, ...]:
        _refuse_inheritance(bases)

    @classmethod
    def _make(cls, wrapped: type, options: dict[str, Any]) -> ActorClass:
        self = cls.__new__(cls)
        self._setup(wrapped, options, None)
        return self

    def _setup(self, wrapped: type, options: dict[str, Any], known_hash: bytes | None) -> None:
        self._cls = wrapped
        self._class_name = wrapped.__qualname__.rsplit("<locals>.", 1)[-1]
        self._default_options = options
        self._hash = known_hash
        self._exported: tuple[int, Any] | None = None
        self._meta: ActorMeta | None = None
        self._creator: Creator | None = None
        for name in ("__module__", "__name__", "__qualname__", "__doc__"):
            setattr(self, name, getattr(wrapped, name))

    @property
    def __ray_metadata__(self) -> ActorMeta:
        if self._meta is None:
            self._meta = ActorMeta.of_class(self._cls, self._class_name)
        return self._meta

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(
            "Actors cannot be instantiated directly. Instead of running "
            f"'{self._class_name}()', try '{self._class_name}.remote()'."
        )

    def remote(self, *args: Any, **kwargs: Any) -> ActorHandle:
        """Starts an actor; arguments go to the class's constructor."""
        creator = self._creator
        if creator is None:
            creator = self._creator = Creator(self, self._default_options)
        return creator.remote(*args, **kwargs)

    def options(self, **actor_options: Any) -> Creator:
        """The same class with other options, which overlay those of the decorator."""
        return Creator(self, _overlay(self._default_options, actor_options))

    def bind(self, *args: Any, **kwargs: Any) -> ClassNode:
        """Makes a node of a task graph."""
        return Creator(self, self._default_options).bind(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        state = {"cls": self._cls, "options": self._default_options, "hash": self._hash}
        return _new_actor_class, (), state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._setup(state["cls"], state["options"], state["hash"])

    def __repr__(self) -> str:
        return f"<ray.actor.ActorClass {self._class_name}>"


def _overlay(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Options of an actor overlaid by those of ``.options()``, checked."""
    opt.check_actor(new, in_options=True)
    merged = opt.merge(old, new)
    opt.check_get_if_exists(merged)
    return merged


def _new_actor_class() -> ActorClass:
    return ActorClass.__new__(ActorClass)


def _refuse_inheritance(bases: tuple[Any, ...]) -> NoReturn:
    names = [b._class_name for b in bases if isinstance(b, ActorClass)]
    raise ActorClassInheritanceException(
        f"Attempted to define a class that derives from the actor class {' and '.join(names)}. "
        "Inheriting from actor classes is not supported. You can inherit from a plain class and "
        "decorate the derived one with @ray.remote."
    )


class Creator(_native.ActorCreatorBase):
    """An actor class with its options: makes actors. ``remote`` is C."""

    def __init__(self, source: ActorClass, options: dict[str, Any]) -> None:
        self._source = source
        self._options = options
        self._set_signature(sig.of_class(source._cls))

    def bind(self, *args: Any, **kwargs: Any) -> ClassNode:
        """Makes a node of a task graph."""
        from ray.dag.class_node import ClassNode

        return ClassNode(self, args, kwargs, self._options)

    def options(self, **actor_options: Any) -> Creator:
        """The same class with other options."""
        return Creator(self._source, _overlay(self._options, actor_options))

    def _export(self) -> None:
        """Prepares options and definition for the current session; called by the first actor."""
        from ray._private import api, definitions

        source = self._source
        plan = opt.plan_actor(self._options, _has_async(source._cls))
        _check_groups(source.__ray_metadata__, plan.concurrency_groups)
        session = api.ensure_session()
        function = definitions.export_class(source, session)
        retries = self._options.get("max_task_retries")
        meta = source.__ray_metadata__
        if retries:
            meta = meta.with_retries(retries)
        options = definitions.prepare_actor_options(plan, meta)
        self._bind(function, options, meta, ActorHandle, session)


def _check_groups(meta: ActorMeta, groups: dict[str, int]) -> None:
    for spec in meta.methods.values():
        group = spec.options.get("concurrency_group")
        if group and group not in groups:
            raise AssertionError(
                f"The method {spec.class_name}.{spec.name} is in the concurrency group {group!r}, "
                f"but the class declares {sorted(groups)} in its option 'concurrency_groups'."
            )


def _has_async(cls: type) -> bool:
    functions = (_callable_member(cls, name) for name in dir(cls))
    return any(sig.is_async(function) for function in functions if function is not None)


class _ActorExit(SystemExit):
    """Leaves the running method and, with it, the actor's process."""


def exit_actor() -> NoReturn:
    """Ends the current actor, after the method that calls this. Further calls fail.

    ``atexit`` handlers of the process run. Raises TypeError outside of an actor.
    """
    if not _native.in_actor():
        raise TypeError("exit_actor API is called on a non-actor worker. It needs an actor.")
    raise _ActorExit(0)
