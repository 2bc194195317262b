# SPDX-License-Identifier: Apache-2.0
"""@ray.remote in all its forms, and what it refuses. Nothing here starts a session."""

import pytest
import ray
from ray.actor import ActorClass, ActorClassInheritanceException
from ray.remote_function import RemoteFunction


def plain(x, y=1):
    """Adds."""
    return x + y


class Plain:
    def method(self):
        return 1


def test_forms():
    assert isinstance(ray.remote(plain), RemoteFunction)
    assert isinstance(ray.remote(num_cpus=2)(plain), RemoteFunction)
    assert isinstance(ray.remote(Plain), ActorClass)
    assert isinstance(ray.remote(num_cpus=2)(Plain), ActorClass)
    assert isinstance(ray.remote(len), RemoteFunction)


def test_attributes():
    remote = ray.remote(plain)
    assert remote.__name__ == "plain" and remote.__doc__ == "Adds."
    assert remote._function is plain and remote.__wrapped__ is plain
    actor = ray.remote(Plain)
    assert actor.__name__ == "Plain" and actor.__module__ == __name__


def test_wrong_use():
    for wrong in (lambda: ray.remote(), lambda: ray.remote(plain, num_cpus=1)):
        with pytest.raises(AssertionError, match="must be applied either with no arguments"):
            wrong()
    with pytest.raises(AssertionError):
        ray.remote(1, 2)
    for wrong in (1, "text", None, [plain]):
        with pytest.raises(TypeError, match="either a function or a class"):
            ray.remote(wrong)


def test_async_functions():
    async def task():
        pass

    with pytest.raises(ValueError, match="'async def' should not be used for remote tasks"):
        ray.remote(task)


def test_direct_calls():
    with pytest.raises(TypeError, match="Remote functions cannot be called directly"):
        ray.remote(plain)(1)
    with pytest.raises(TypeError, match="Actors cannot be instantiated directly"):
        ray.remote(Plain)()


def test_inheritance():
    actor = ray.remote(Plain)
    with pytest.raises(ActorClassInheritanceException):

        class Derived(actor):
            pass

    assert issubclass(ActorClassInheritanceException, TypeError)


def test_options_are_checked():
    with pytest.raises(ValueError, match="Invalid option keyword nope"):
        ray.remote(nope=1)
    with pytest.raises(ValueError, match="keyword max_restarts for remote functions"):
        ray.remote(max_restarts=1)(plain)
    with pytest.raises(ValueError, match="Invalid option keyword max_retries for actors"):
        ray.remote(max_retries=1)(Plain)
    with pytest.raises(ValueError, match="not supported in '.options"):
        ray.remote(plain).options(max_calls=1)
    with pytest.raises(TypeError):
        ray.remote(plain).options(num_cpus="2")
    with pytest.raises(ValueError, match="must be specified to use `get_if_exists`"):
        ray.remote(Plain).options(get_if_exists=True)


def test_signatures_are_checked_before_anything_starts():
    remote = ray.remote(plain)
    with pytest.raises(TypeError, match="missing a required argument: 'x'"):
        remote.remote()
    with pytest.raises(TypeError, match="too many positional arguments"):
        remote.remote(1, 2, 3)
    with pytest.raises(TypeError, match="unexpected keyword argument 'z'"):
        remote.remote(1, z=2)
    with pytest.raises(TypeError, match="multiple values for argument 'x'"):
        remote.remote(1, x=2)
    assert not ray.is_initialized()


def test_method_decorator():
    with pytest.raises(AssertionError):
        ray.method()
    with pytest.raises(AssertionError):
        ray.method(nope=1)
    with pytest.raises(ValueError):
        ray.method(num_returns=-1)
    with pytest.raises(NotImplementedError):
        ray.method(_num_objects_per_yield=2)

    class Two:
        @ray.method(num_returns=2)
        def two(self):
            return 1, 2

        @ray.method
        def bare(self):
            return 1

    assert Two().two() == (1, 2) and Two().bare() == 1
    metadata = ray.remote(Two).__ray_metadata__
    assert metadata.methods["two"].options == {"num_returns": 2}


def test_old_option_name():
    with pytest.warns(DeprecationWarning):
        remote = ray.remote(num_return_vals=3)(plain)
    assert remote._default_options == {"num_returns": 3}


def test_what_is_not_built_says_so():
    with pytest.raises(NotImplementedError, match="not built yet"):
        ray.remote(Plain).options(enable_tensor_transport=True).remote()
    with pytest.raises(NotImplementedError, match="not built yet"):
        ray.remote(Plain).options(runtime_env={"env_vars": {"A": "b"}}).remote()
    assert not ray.is_initialized()


def test_control_functions_check_their_arguments():
    with pytest.raises(ValueError, match="only supported for actors"):
        ray.kill(1)
    with pytest.raises(TypeError, match="For actors, try ray.kill"):
        ray.cancel(1)
    with pytest.raises(ValueError, match="non-empty"):
        ray.get_actor("")
    assert not ray.is_initialized()


def test_object_ref_by_itself():
    one = ray.ObjectRef.from_random()
    assert ray.ObjectRef.size() == 28 and len(one.binary()) == 28
    assert ray.ObjectRef(one.binary()) == one == ray.ObjectRef.from_hex(one.hex())
    assert hash(ray.ObjectRef(one.binary())) == hash(one)
    assert repr(one) == f"ObjectRef({one.hex()})"
    assert ray.ObjectRef.nil().is_nil() and not one.is_nil()
    assert one.task_id().binary() == one.binary()[:24]
    assert one.job_id().binary() == one.binary()[20:24]
    assert ray.ObjectRef[int].__origin__ is ray.ObjectRef
    with pytest.raises(ValueError):
        ray.ObjectRef(b"short")
    with pytest.raises(TypeError):
        ray.ObjectRef("text")
