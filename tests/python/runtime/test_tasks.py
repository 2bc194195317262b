# SPDX-License-Identifier: Apache-2.0
"""Tasks: arguments of every kind, returns, nesting, resources, names."""

import os
import time

import pytest
import ray

pytestmark = pytest.mark.usefixtures("session")


@ray.remote
def echo(*args, **kwargs):
    return args, kwargs


@ray.remote
def add(a, b=10):
    return a + b


def test_arguments_by_value():
    values = [None, True, False, 0, -1, 2**62, 2**80, -(2**70), 1.5, "", "é" * 300, b"", b"x"]
    assert ray.get(echo.remote(*values)) == (tuple(values), {})
    nested = [1, (2, {"c": None})]
    assert ray.get(echo.remote(a=1, b=nested)) == ((), {"a": 1, "b": nested})


def test_defaults_and_keywords():
    assert ray.get(add.remote(1)) == 11
    assert ray.get(add.remote(1, 2)) == 3
    assert ray.get(add.remote(b=1, a=2)) == 3


def test_references_as_arguments():
    one = add.remote(1, 1)
    assert ray.get(add.remote(one, one)) == 4
    assert ray.get(add.remote(one, b=ray.put(5))) == 7
    args, kwargs = ray.get(echo.remote([one], x={"k": one}))
    assert args[0][0] == one and kwargs["x"]["k"] == one
    assert ray.get(args[0][0]) == 2


def test_references_beside_things_that_need_pickle():
    one = ray.put(1)
    args, kwargs = ray.get(echo.remote(one, {1, 2}, one, key=frozenset([3]), ref=one))
    assert args == (1, {1, 2}, 1) and kwargs == {"key": frozenset([3]), "ref": 1}


def test_many_arguments():
    refs = [ray.put(i) for i in range(300)]
    assert ray.get(echo.remote(*refs))[0] == tuple(range(300))
    assert ray.get(echo.remote(*range(1000)))[0] == tuple(range(1000))


def test_closures_and_globals():
    captured = {"a": [1, 2]}
    ref = ray.put("referenced")

    @ray.remote
    def f(x):
        return captured["a"], ray.get(ref), add is not None, x

    assert ray.get(f.remote(3)) == ([1, 2], "referenced", True, 3)


def test_lambda_and_builtin():
    assert ray.get(ray.remote(lambda x: x * 2).remote(4)) == 8
    assert ray.get(ray.remote(len).remote([1, 2])) == 2


def test_num_returns():
    @ray.remote(num_returns=3)
    def three():
        return 1, 2, 3

    refs = three.remote()
    assert isinstance(refs, list) and ray.get(refs) == [1, 2, 3]
    assert three.options(num_returns=1).remote() is not None
    assert ray.get(three.options(num_returns=1).remote()) == (1, 2, 3)

    @ray.remote(num_returns=0)
    def none():
        return None

    assert none.remote() is None

    @ray.remote
    def as_list(n):
        return list(range(n))

    a, b = as_list.options(num_returns=2).remote(2)
    assert ray.get([a, b]) == [0, 1]


def test_generator_with_a_fixed_number_of_returns():
    @ray.remote(num_returns=3)
    def generate():
        yield from range(3)

    assert ray.get(generate.remote()) == [0, 1, 2]


@pytest.mark.parametrize("value", [(1, 2), (1, 2, 3, 4), 1, None], ids=str)
def test_wrong_number_of_returns(value):
    @ray.remote(num_returns=3)
    def wrong():
        return value

    for ref in wrong.remote():
        with pytest.raises(ValueError, match="num_returns=3"):
            ray.get(ref)


def test_recursion():
    @ray.remote
    def fib(n):
        return n if n < 2 else sum(ray.get([fib.remote(n - 1), fib.remote(n - 2)]))

    assert ray.get(fib.remote(7)) == 13


def test_mutual_recursion():
    @ray.remote
    def even(n):
        return True if n == 0 else ray.get(odd.remote(n - 1))

    @ray.remote
    def odd(n):
        return False if n == 0 else ray.get(even.remote(n - 1))

    assert ray.get(even.remote(6)) is True


def test_nested_tasks_deeper_than_processors():
    @ray.remote
    def nest(n):
        return 0 if n == 0 else 1 + ray.get(nest.remote(n - 1))

    assert ray.get(nest.remote(10)) == 10


def test_returning_references():
    @ray.remote
    def outer():
        return add.remote(1, 2), [ray.put("inner")]

    first, rest = ray.get(outer.remote())
    assert ray.get(first) == 3 and ray.get(rest[0]) == "inner"


def test_names_and_title():
    @ray.remote
    def title():
        context = ray.get_runtime_context()
        with open("/proc/self/cmdline") as f:
            return f.read().rstrip("\0"), context.get_task_name()

    cmdline, name = ray.get(title.remote())
    assert cmdline == f"ray::{name}" and name.endswith("title")
    assert ray.get(title.options(name="special").remote()) == ("ray::special", "special")


def test_title_agrees_with_setproctitle():
    setproctitle = pytest.importorskip("setproctitle")

    @ray.remote
    def title():
        return setproctitle.getproctitle()

    assert ray.get(title.options(name="special_f").remote()) == "ray::special_f"


def test_gpus():
    @ray.remote
    def gpus():
        return ray.get_gpu_ids(), os.environ.get("CUDA_VISIBLE_DEVICES")

    assert ray.get(gpus.remote())[0] == []
    assert ray.get(gpus.options(num_gpus=1).remote()) == ([0], "0")


def test_devices_of_the_job(run_program):
    code = """
        import os
        os.environ["CUDA_VISIBLE_DEVICES"] = "3,GPU-abc,5"
        import ray
        ray.init(num_cpus=2, num_gpus=3)
        @ray.remote(num_gpus=2)
        def gpus():
            return ray.get_gpu_ids(), os.environ["CUDA_VISIBLE_DEVICES"]
        print(ray.get(gpus.remote()))
    """
    assert run_program(code)[1] == "(['3', 'GPU-abc'], '3,GPU-abc')\n"


def test_omp_threads():
    @ray.remote
    def threads():
        return os.environ.get("OMP_NUM_THREADS")

    if "OMP_NUM_THREADS" not in os.environ:
        assert ray.get(threads.remote()) == "1"
        assert ray.get(threads.options(num_cpus=3).remote()) == "3"


def test_custom_and_fractional_resources():
    assert ray.get(add.options(resources={"custom": 1}, num_cpus=0.5).remote(1)) == 11
    assert ray.get(add.options(num_cpus=0).remote(1)) == 11


def test_max_calls_gives_new_processes():
    @ray.remote(max_calls=1)
    def pid():
        return os.getpid()

    pids = [ray.get(pid.remote()) for _ in range(3)]
    assert len(set(pids)) == 3


def test_working_directory_and_argv():
    @ray.remote
    def where():
        return os.getcwd(), os.environ.get("PATH")

    assert ray.get(where.remote()) == (os.getcwd(), os.environ.get("PATH"))


def test_random_numbers_differ():
    @ray.remote(max_calls=1)
    def draw():
        import random

        return random.random()

    assert len(set(ray.get([draw.remote() for _ in range(4)]))) == 4


def test_redefinition():
    results = []
    for i in range(3):

        @ray.remote
        def f(i=i):
            return i

        results.append(ray.get(f.remote()))
    assert results == [0, 1, 2]


def test_options_do_not_change_the_function():
    assert ray.get(add.options(num_cpus=2).remote(1)) == 11
    assert add._default_options == {}


def test_futures():
    assert add.remote(1, 2).future().result(timeout=30) == 3

    @ray.remote
    def fail():
        raise KeyError("x")

    with pytest.raises(KeyError):
        fail.remote().future().result(timeout=30)


def test_await():
    import asyncio

    async def main():
        one, two = await asyncio.gather(add.remote(1, 1), add.remote(2, 2))
        return one + two

    assert asyncio.run(main()) == 6


def test_what_a_used_up_worker_owns_outlives_its_last_call():
    @ray.remote(max_calls=1)
    def make(i):
        return os.getpid(), [ray.put(i)]

    made = ray.get([make.remote(i) for i in range(20)])
    # Longer than the time after which a process that doesn't exit when asked to is killed.
    time.sleep(6)
    assert [ray.get(refs[0]) for _, refs in made] == list(range(20))
    pids = [pid for pid, _ in made]
    del made
    while any(os.path.exists(f"/proc/{pid}") for pid in pids):
        time.sleep(0.01)
