# SPDX-License-Identifier: Apache-2.0
"""The nodes of an actor class, and of calls of an actor's methods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from ray._private import options as opt
from ray.dag.dag_node import DAGNode

if TYPE_CHECKING:
    from ray.actor import ActorHandle, Creator, MethodSpec

PARENT_CLASS_NODE_KEY = "parent_class_node"
PREV_CLASS_METHOD_CALL_KEY = "prev_class_method_call"
IS_CLASS_METHOD_OUTPUT_KEY = "is_class_method_output"


class ClassNode(DAGNode):
    """An actor to be: ``Cls.bind(...)``. Its attributes are the class's methods, with ``.bind``.

    Each execution starts an actor of its own. It ends when the calls of that execution are done,
    unless the handle was kept.
    """

    def __init__(
        self,
        cls: Creator | type,
        cls_args: tuple[Any, ...],
        cls_kwargs: dict[str, Any],
        cls_options: dict[str, Any],
        other_args_to_resolve: dict[str, Any] | None = None,
    ) -> None:
        from ray.actor import ActorClass, Creator

        if isinstance(cls, type):
            cls = Creator(ActorClass._make(cls, cls_options), cls_options)
        self._body = cls
        self._last_call: ClassMethodNode | None = None
        super().__init__(cls_args, cls_kwargs, cls_options, other_args_to_resolve)

    def _copy_impl(
        self,
        new_args: tuple[Any, ...],
        new_kwargs: dict[str, Any],
        new_options: dict[str, Any],
        new_other_args_to_resolve: dict[str, Any],
    ) -> ClassNode:
        return ClassNode(self._body, new_args, new_kwargs, new_options, new_other_args_to_resolve)

    def _execute_impl(self, *args: Any, **kwargs: Any) -> ActorHandle:
        handle: ActorHandle = self._body.remote(*self._bound_args, **self._bound_kwargs)
        return handle

    def __getattr__(self, method_name: str) -> Any:
        if method_name.startswith("__") and method_name.endswith("__"):
            raise AttributeError(method_name)
        source = self._body._source
        spec = source.__ray_metadata__.methods.get(method_name)
        if spec is not None:
            return _UnboundClassMethodNode(self, spec)
        if method_name in ("bind", "remote"):
            return DAGNode.__getattr__(self, method_name)
        raise AttributeError(
            f"type object '{source._class_name}' has no attribute '{method_name}'"
        )

    def _describe(self) -> str:
        return self._body._source._class_name


class _UnboundClassMethodNode:
    """A method of a ClassNode before its arguments are bound."""

    def __init__(self, actor: ClassNode, spec: MethodSpec) -> None:
        self._actor = actor
        self._spec = spec

    def bind(self, *args: Any, **kwargs: Any) -> Any:
        """Makes a call's node; it comes after all calls that were bound on this actor before."""
        others = {
            PARENT_CLASS_NODE_KEY: self._actor,
            PREV_CLASS_METHOD_CALL_KEY: self._actor._last_call,
        }
        node = ClassMethodNode(self._spec, args, kwargs, _overlay(self._spec), others)
        self._actor._last_call = node
        return _outputs(node)

    def options(self, **options: Any) -> _UnboundClassMethodNode:
        """The same method with other options."""
        opt.check_method(options)
        return _UnboundClassMethodNode(self._actor, self._spec.with_options(options))

    def __getattr__(self, attr: str) -> NoReturn:
        if attr == "remote":
            raise AttributeError(
                ".remote() cannot be used on ClassMethodNodes. Use .bind() instead to express an "
                "symbolic actor call."
            )
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{attr}'")


class ClassMethodNode(DAGNode):
    """A call of an actor's method to be: ``node.method.bind(...)`` or ``handle.method.bind(...)``.

    Its parent is a ClassNode, or the handle of an actor that lives on after the execution. With
    several return values there is a further node for each of them, whose arguments are the node of
    the call and an index.
    """

    def __init__(
        self,
        method: MethodSpec,
        method_args: tuple[Any, ...],
        method_kwargs: dict[str, Any],
        method_options: dict[str, Any],
        other_args_to_resolve: dict[str, Any],
    ) -> None:
        self._method = method
        self._method_name = method.name
        super().__init__(method_args, method_kwargs, method_options, other_args_to_resolve)
        self._parent_class_node = self._bound_other_args_to_resolve[PARENT_CLASS_NODE_KEY]

    def _copy_impl(
        self,
        new_args: tuple[Any, ...],
        new_kwargs: dict[str, Any],
        new_options: dict[str, Any],
        new_other_args_to_resolve: dict[str, Any],
    ) -> ClassMethodNode:
        return ClassMethodNode(
            self._method, new_args, new_kwargs, new_options, new_other_args_to_resolve
        )

    def _execute_impl(self, *args: Any, **kwargs: Any) -> Any:
        if self.is_class_method_output:
            refs, index = self._bound_args
            return refs[index]
        from ray.actor import ActorMethod

        method = ActorMethod(self._parent_class_node, self._method)
        return method.remote(*self._bound_args, **self._bound_kwargs)

    def get_method_name(self) -> str:
        """The name of the method."""
        return self._method_name

    @property
    def num_returns(self) -> int | str:
        """How many references the call gives; "streaming" or "dynamic" for generators."""
        given = self._method.options.get("num_returns")
        if given is None:
            return "streaming" if self._method.is_generator else 1
        return given  # type: ignore[no-any-return]

    @property
    def is_class_method_call(self) -> bool:
        """Whether this is a call, rather than one of its return values."""
        return not self.is_class_method_output

    @property
    def is_class_method_output(self) -> bool:
        """Whether this is one of several return values of a call."""
        return bool(self._bound_other_args_to_resolve.get(IS_CLASS_METHOD_OUTPUT_KEY))

    @property
    def class_method_call(self) -> ClassMethodNode | None:
        """The call that this is a return value of."""
        return self._bound_args[0] if self.is_class_method_output else None

    @property
    def output_idx(self) -> int | None:
        """Which return value of the call this is."""
        return self._bound_args[1] if self.is_class_method_output else None

    def _describe(self) -> str:
        which = f"[{self._bound_args[1]}]" if self.is_class_method_output else ""
        return f"{self._method.class_name}.{self._method_name}{which}"


def _overlay(spec: MethodSpec) -> dict[str, Any]:
    return {name: value for name, value in spec.options.items() if name in opt.METHOD_OPTIONS}


def _outputs(node: ClassMethodNode) -> Any:
    """The node, or a tuple of nodes when the call returns several values."""
    count = node.num_returns
    if isinstance(count, str) or count <= 1:
        return node
    others = {
        PARENT_CLASS_NODE_KEY: node._parent_class_node,
        IS_CLASS_METHOD_OUTPUT_KEY: True,
    }
    return tuple(ClassMethodNode(node._method, (node, i), {}, {}, others) for i in range(count))


def bind_method(handle: ActorHandle, spec: MethodSpec, args: Any, kwargs: Any) -> Any:
    """The node of a call of an actor that exists already."""
    others = {PARENT_CLASS_NODE_KEY: handle, PREV_CLASS_METHOD_CALL_KEY: None}
    return _outputs(ClassMethodNode(spec, args, kwargs, _overlay(spec), others))
