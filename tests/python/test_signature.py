# SPDX-License-Identifier: Apache-2.0
"""Signatures, and the words of calls that don't fit: they must agree with inspect."""

import functools
import inspect

import pytest
from ray._private import signature as sig


def plain(a, b, c=3):
    pass


def everything(a, /, b, c=3, *args, d, e=5, **kwargs):
    pass


def keyword_only(*, a, b=2):
    pass


def nothing():
    pass


CALLS = [
    ((), {}),
    ((1,), {}),
    ((1, 2), {}),
    ((1, 2, 3), {}),
    ((1, 2, 3, 4), {}),
    ((1,), {"b": 2}),
    ((), {"a": 1, "b": 2}),
    ((1, 2), {"b": 3}),
    ((1, 2), {"d": 3}),
    ((1, 2), {"d": 3, "zz": 4}),
    ((), {"a": 1}),
    ((), {"b": 1}),
    ((1,), {"b": 2, "c": 3, "d": 4, "e": 5, "a": 6}),
]


@pytest.mark.parametrize("function", [plain, everything, keyword_only, nothing])
@pytest.mark.parametrize("call", CALLS, ids=str)
def test_agrees_with_inspect(function, call):
    args, kwargs = call
    try:
        inspect.signature(function).bind(*args, **kwargs)
        expected = True
    except TypeError:
        expected = False
    try:
        sig.explain(sig.of_function(function), args, kwargs)
        found = True
    except TypeError:
        found = False
    assert found == expected


@pytest.mark.parametrize("function", [plain, everything, keyword_only, nothing])
def test_code_and_inspect_give_the_same(function):
    assert sig._from_code(function, 0) == sig._from_inspect(function, 0)


def test_messages():
    s = sig.of_function(plain)
    with pytest.raises(TypeError, match="missing a required argument: 'b'"):
        sig.explain(s, (1,), {})
    with pytest.raises(TypeError, match="too many positional arguments"):
        sig.explain(s, (1, 2, 3, 4), {})
    with pytest.raises(TypeError, match="unexpected keyword argument 'x'"):
        sig.explain(s, (1, 2), {"x": 1})
    with pytest.raises(TypeError, match="multiple values for argument 'a'"):
        sig.explain(s, (1, 2), {"a": 1})


def test_wrapped_functions():
    @functools.wraps(plain)
    def wrapper(*args, **kwargs):
        return plain(*args, **kwargs)

    assert sig.of_function(wrapper) == sig.of_function(plain)


def test_classes_and_methods():
    class WithInit:
        def __init__(self, a, b=1):
            pass

        def method(self, x, *, y):
            pass

        @staticmethod
        def static(x):
            pass

        @classmethod
        def of_class(cls, x):
            pass

        def only_args(*args):
            pass

    class Without:
        pass

    assert sig.of_class(WithInit).names == ("a", "b")
    assert sig.of_class(Without) == sig.NOTHING
    assert sig.of_method(WithInit, "method").names == ("x",)
    assert sig.of_method(WithInit, "method").keyword_required == ("y",)
    assert sig.of_method(WithInit, "static").names == ("x",)
    assert sig.of_method(WithInit, "of_class").names == ("x",)
    assert sig.of_method(WithInit, "only_args").varargs
    assert sig.of_method(WithInit, "missing") == sig.ANYTHING


def test_builtins_take_anything_or_tell():
    assert sig.of_function(max) == sig.ANYTHING
    assert sig.of_function(len).names == ("obj",)


def test_kinds():
    def generator():
        yield 1

    async def coroutine():
        pass

    async def async_generator():
        yield 1

    assert sig.is_generator(generator) and not sig.is_generator(plain)
    assert sig.is_async(coroutine) and not sig.is_async(plain)
    assert sig.is_generator(async_generator) and sig.is_async(async_generator)
    assert sig.is_generator(functools.partial(generator))
    assert not sig.is_generator(len)
