# SPDX-License-Identifier: Apache-2.0
"""Pickling of values that the fast paths in C don't take.

Three ways, tried in this order by the C code: a compact format for plain values; the C pickler, for
objects whose classes and functions can be imported by name; and `dump_by_value`, which carries
classes and functions of ``__main__``, closures and lambdas inside the pickle.

A reference or an actor handle inside a value is written as its number in the list of references
that travels beside the bytes. That works only in our own picklers. In any other
(``pickle.dumps(ref)``) the reference carries its owner's address, and its object is kept until the
job ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import cloudpickle

from ray import _native


class ValuePickler(cloudpickle.Pickler):
    """cloudpickle, with references, handles and registered serialisers as in the C code."""

    def reducer_override(self, obj: Any) -> Any:
        reduced = _native.reduce_in_context(obj)
        if reduced is not NotImplemented:
            return reduced
        return super().reducer_override(obj)


def dump_by_value(obj: Any, file: Any, buffer_callback: Callable[[Any], Any]) -> None:
    """Pickles to `file`, large buffers apart; called by the C code."""
    ValuePickler(file, 5, buffer_callback=buffer_callback).dump(obj)


def is_serialization_error(exc: BaseException) -> bool:
    """Whether pickling failed because of what the object is."""
    import pickle

    return isinstance(exc, (TypeError, AttributeError, pickle.PicklingError, RecursionError))


def explain_unserializable(obj: Any, name: str | None = None) -> str:
    """Names what inside an object can't be pickled."""
    import io

    from ray.util.check_serialize import inspect_serializability

    text = io.StringIO()
    try:
        inspect_serializability(obj, name=name, print_file=text)
    except Exception as exc:
        return f"(looking for the reason failed too: {exc!r})"
    return text.getvalue()


def raise_unserializable(exc: BaseException, what: str, obj: Any, name: str | None) -> NoReturn:
    """Raises the TypeError for an object that can't be pickled; any other error as it is."""
    if not is_serialization_error(exc):
        raise exc
    raise TypeError(
        f"Could not serialize {what}: {exc}\n{explain_unserializable(obj, name)}"
    ) from exc


def raise_unserializable_value(exc: BaseException, value: Any) -> NoReturn:
    """As above, for `ray.put`."""
    raise_unserializable(exc, f"the put value {_short(value)}", value, None)


def raise_unserializable_call(
    exc: BaseException, callee: Any, args: Any, kwargs: dict[str, Any]
) -> NoReturn:
    """As above, for a call: names the argument at fault."""
    if not is_serialization_error(exc):
        raise exc
    function_name = callee_name(callee)
    pairs = [(f"argument {i}", a) for i, a in enumerate(args)]
    pairs += [(f"argument {k!r}", v) for k, v in kwargs.items()]
    for name, value in pairs:
        if isinstance(value, _native.ObjectRef) or can_pickle(value):
            continue
        raise_unserializable(
            exc, f"the {name} {_short(value)} for a task or actor {function_name}", value, None
        )
    raise_unserializable(exc, f"the arguments for a task or actor {function_name}", args, None)


def raise_unserializable_return(exc: BaseException, function_name: str, value: Any) -> NoReturn:
    """As above, for what a task returns."""
    raise_unserializable(
        exc, f"the return value {_short(value)} of {function_name}", value, None
    )


def callee_name(callee: Any) -> str:
    """The name of what is called: a RemoteFunction, a Creator or a MethodSpec."""
    if hasattr(callee, "_function_name"):
        return str(callee._function_name)
    if hasattr(callee, "_source"):
        return str(callee._source._class_name)
    return f"{callee.class_name}.{callee.name}"


def check_out_of_band(ref: Any) -> None:
    """Raises when references must not be pickled outside of Ray's values."""
    import os

    from ray.exceptions import OufOfBandObjectRefSerializationException

    if os.environ.get("RAY_allow_out_of_band_object_ref_serialization", "1") == "0":
        raise OufOfBandObjectRefSerializationException(
            f"{ref} is pickled outside of Ray, and "
            "RAY_allow_out_of_band_object_ref_serialization=0 forbids that. Pass it as an "
            "argument, return it, or put it into an object instead."
        )


def can_pickle(value: Any) -> bool:
    """Whether a value can be stored."""
    try:
        _native.try_serialize(value)
    except Exception:
        return False
    return True


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:
        text = f"<{type(value).__qualname__}>"
    return text if len(text) <= 200 else text[:200] + "..."
