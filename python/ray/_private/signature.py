# SPDX-License-Identifier: Apache-2.0
"""Signatures, reduced to what checking a call needs.

Plain functions are read from their code object, so that a decorator does not have to import
``inspect``; everything else goes through ``inspect.signature``. The check itself runs in C; this
module words the error when it fails.
"""

from __future__ import annotations

import types

TYPE_CHECKING = False  # see ray/__init__.py
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

_VARARGS, _VARKEYWORDS, _GENERATOR, _COROUTINE, _ASYNC_GENERATOR = 0x04, 0x08, 0x20, 0x80, 0x200


class Signature(tuple):
    """Parameters of a function, without `self`; a tuple, as the C code reads it.

    names: the positional parameters; positional_only: how many of them can't be given by name;
    defaults: how many of them, from the end, have a default; keyword_only, keyword_required: those
    that must be named, and those of them without a default; varargs, varkeywords: whether there is
    a ``*args``, a ``**kwargs``.
    """

    __slots__ = ()

    def __new__(
        cls,
        names: tuple[str, ...],
        positional_only: int,
        defaults: int,
        keyword_only: tuple[str, ...],
        keyword_required: tuple[str, ...],
        varargs: bool,
        varkeywords: bool,
    ) -> Signature:
        values: tuple[Any, ...] = (names, positional_only, defaults)
        values += (keyword_only, keyword_required, varargs, varkeywords)
        return tuple.__new__(cls, values)

    def __getnewargs__(self) -> tuple[Any, ...]:
        return tuple(self)

    names = property(lambda self: self[0])
    positional_only = property(lambda self: self[1])
    defaults = property(lambda self: self[2])
    keyword_only = property(lambda self: self[3])
    keyword_required = property(lambda self: self[4])
    varargs = property(lambda self: self[5])
    varkeywords = property(lambda self: self[6])



ANYTHING = Signature((), 0, 0, (), (), True, True)
NOTHING = Signature((), 0, 0, (), (), False, False)


def _from_code(function: types.FunctionType, skip: int) -> Signature | None:
    code = function.__code__
    count = code.co_argcount
    if count < skip:
        return None  # self comes in through *args
    names = code.co_varnames
    keyword_only = names[count : count + code.co_kwonlyargcount]
    given = function.__kwdefaults__ or {}
    return Signature(
        names=tuple(names[skip:count]),
        positional_only=max(0, code.co_posonlyargcount - skip),
        defaults=min(len(function.__defaults__ or ()), count - skip),
        keyword_only=tuple(keyword_only),
        keyword_required=tuple(name for name in keyword_only if name not in given),
        varargs=bool(code.co_flags & _VARARGS),
        varkeywords=bool(code.co_flags & _VARKEYWORDS),
    )


def _from_inspect(function: Callable[..., Any], skip: int) -> Signature:
    import inspect

    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return ANYTHING  # a built-in that doesn't tell
    positional = [
        p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ][skip:]
    keyword_only = [p for p in parameters if p.kind == p.KEYWORD_ONLY]
    return Signature(
        names=tuple(p.name for p in positional),
        positional_only=sum(p.kind == p.POSITIONAL_ONLY for p in positional),
        defaults=sum(p.default is not p.empty for p in positional),
        keyword_only=tuple(p.name for p in keyword_only),
        keyword_required=tuple(p.name for p in keyword_only if p.default is p.empty),
        varargs=any(p.kind == p.VAR_POSITIONAL for p in parameters),
        varkeywords=any(p.kind == p.VAR_KEYWORD for p in parameters),
    )


def of_function(function: Callable[..., Any], skip: int = 0) -> Signature:
    """The signature of a function, without its first `skip` parameters."""
    if type(function) is types.FunctionType:
        attributes = function.__dict__
        if "__wrapped__" not in attributes and "__signature__" not in attributes:
            signature = _from_code(function, skip)
            if signature is not None:
                return signature
    return _from_inspect(function, skip)


def of_class(cls: type) -> Signature:
    """The signature of a class's constructor."""
    init = cls.__init__  # type: ignore[misc]
    if init is object.__init__:
        return NOTHING if cls.__new__ is object.__new__ else ANYTHING
    return of_function(init, 1)


def of_method(cls: type, name: str) -> Signature:
    """The signature of one method of a class, as called on an instance."""
    for base in cls.__mro__:
        if name in base.__dict__:
            attribute = base.__dict__[name]
            if isinstance(attribute, staticmethod):
                return of_function(attribute.__func__)
            if isinstance(attribute, classmethod):
                return of_function(attribute.__func__, 1)
            return of_function(attribute, 1)
    return ANYTHING


def _flags(function: Any) -> int:
    seen = 0
    while seen < 32:
        wrapped = getattr(function, "__wrapped__", None) or getattr(function, "func", None)
        if wrapped is None or not callable(wrapped):
            break
        function, seen = wrapped, seen + 1
    if isinstance(function, (staticmethod, classmethod, types.MethodType)):
        function = function.__func__
    code = getattr(function, "__code__", None)
    return int(getattr(code, "co_flags", 0))


def is_generator(function: Any) -> bool:
    """Whether calling the function makes a generator."""
    return bool(_flags(function) & (_GENERATOR | _ASYNC_GENERATOR))


def is_async(function: Any) -> bool:
    """Whether the function is an ``async def``."""
    return bool(_flags(function) & (_COROUTINE | _ASYNC_GENERATOR))


def explain(signature: Sequence[Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Raises the TypeError that says why a call doesn't fit; returns when it does."""
    s = Signature(*signature)
    required = s.names[: len(s.names) - s.defaults]
    if len(args) > len(s.names) and not s.varargs:
        raise TypeError("too many positional arguments")
    by_name = s.names[s.positional_only :]
    for name in s.names[: len(args)]:
        if name in kwargs and name in by_name:
            raise TypeError(f"multiple values for argument {name!r}")
    for index, name in enumerate(required):
        if index >= len(args) and (name not in kwargs or name not in by_name):
            raise TypeError(f"missing a required argument: {name!r}")
    for name in s.keyword_required:
        if name not in kwargs:
            raise TypeError(f"missing a required argument: {name!r}")
    if not s.varkeywords:
        for name in kwargs:
            if name not in by_name and name not in s.keyword_only:
                raise TypeError(f"got an unexpected keyword argument {name!r}")
