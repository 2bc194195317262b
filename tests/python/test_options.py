# SPDX-License-Identifier: Apache-2.0
"""Every option: which types and values it takes, and what it means to the runtime."""

import warnings

import pytest
from ray._private import options as opt
from ray.exceptions import RayError


@pytest.mark.parametrize("name", ["num_cpus", "num_gpus", "memory"])
@pytest.mark.parametrize("check", [opt.check_task, opt.check_actor])
def test_amounts(name, check):
    for good in (None, 0, 1, 2.0, 0.5, 0.0001, True):
        check({name: good})
    with pytest.raises(ValueError, match="cannot be negative"):
        check({name: -1})
    with pytest.raises(ValueError, match="cannot be negative"):
        check({name: -0.5})
    with pytest.raises(ValueError, match="precision .* cannot go beyond 0.0001"):
        check({name: 0.00009})
    with pytest.raises(TypeError, match=f"The type of keyword '{name}' must be"):
        check({name: "1"})
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ValueError):
            check({name: bad})


def test_whole_gpus():
    opt.check_task({"num_gpus": 2.0})
    with pytest.raises(ValueError, match="whole number"):
        opt.check_task({"num_gpus": 1.5})


def test_resources():
    opt.check_task({"resources": {"a": 1, "b": 0.5}})
    for reserved in ("CPU", "GPU"):
        with pytest.raises(ValueError, match="Use the 'num_cpus' and 'num_gpus' keyword"):
            opt.check_task({"resources": {reserved: 1}})
    for reserved in ("memory", "object_store_memory"):
        with pytest.raises(ValueError):
            opt.check_actor({"resources": {reserved: 1}})
    with pytest.raises(ValueError, match="cannot be negative"):
        opt.check_task({"resources": {"a": -1}})
    with pytest.raises(ValueError, match="precision"):
        opt.check_task({"resources": {"a": 0.00001}})
    with pytest.raises(TypeError):
        opt.check_task({"resources": [("a", 1)]})


def test_unknown_names():
    with pytest.raises(ValueError, match="Invalid option keyword nope for remote functions"):
        opt.check_task({"nope": 1})
    with pytest.raises(ValueError, match="Invalid option keyword nope for actors"):
        opt.check_actor({"nope": 1})
    with pytest.raises(ValueError, match="for remote functions"):
        opt.check_task({"max_restarts": 1})
    with pytest.raises(ValueError, match="for actors"):
        opt.check_actor({"max_retries": 1})


def test_num_returns():
    for good in (None, 0, 1, 1000, "streaming", "dynamic"):
        opt.check_task({"num_returns": good})
    for bad in (-1, "other"):
        with pytest.raises(ValueError):
            opt.check_task({"num_returns": bad})
    with pytest.raises(TypeError):
        opt.check_task({"num_returns": 1.5})


@pytest.mark.parametrize(
    ("name", "check", "least"),
    [
        ("max_calls", opt.check_task, 0),
        ("max_retries", opt.check_task, -1),
        ("max_restarts", opt.check_actor, -1),
        ("max_task_retries", opt.check_actor, -1),
        ("max_pending_calls", opt.check_actor, -1),
        ("max_concurrency", opt.check_actor, 0),
    ],
)
def test_whole_numbers(name, check, least):
    for good in (None, least, 7):
        check({name: good})
    with pytest.raises(ValueError):
        check({name: least - 1})
    with pytest.raises(TypeError):
        check({name: 1.0})


def test_max_calls_belongs_to_the_decorator():
    with pytest.raises(ValueError, match="not supported in '.options\\(\\)'"):
        opt.check_task({"max_calls": 1}, in_options=True)
    with pytest.raises(ValueError, match="not supported in '.options\\(\\)'"):
        opt.check_actor({"concurrency_groups": {"a": 1}}, in_options=True)


def test_retry_exceptions():
    opt.check_task({"retry_exceptions": True})
    opt.check_task({"retry_exceptions": [ValueError, RayError]})
    opt.check_task({"retry_exceptions": (KeyError,)})
    with pytest.raises(ValueError):
        opt.check_task({"retry_exceptions": [1]})
    with pytest.raises(ValueError):
        opt.check_task({"retry_exceptions": [BaseException]})
    with pytest.raises(TypeError):
        opt.check_task({"retry_exceptions": "ValueError"})


def test_object_store_memory():
    with pytest.raises(ValueError, match="not implemented for tasks"):
        opt.check_task({"object_store_memory": 1})
    with pytest.warns(DeprecationWarning):
        opt.check_actor({"object_store_memory": 100})
    with pytest.raises(ValueError):
        opt.check_actor({"object_store_memory": -1})


def test_actor_names():
    with pytest.raises(ValueError, match="Actor name cannot be an empty string."):
        opt.check_actor({"name": ""})
    with pytest.raises(ValueError, match="must be specified to use `get_if_exists`"):
        opt.check_actor({"get_if_exists": True})
    with pytest.raises(ValueError):
        opt.check_actor({"namespace": ""})
    with pytest.raises(TypeError):
        opt.check_actor({"namespace": 1})
    for bad in ("forever", ""):
        with pytest.raises(ValueError):
            opt.check_actor({"lifetime": bad})
    opt.check_actor({"lifetime": "detached", "name": "n", "namespace": "s", "get_if_exists": True})


def test_backpressure_and_fallback():
    opt.check_task({"_generator_backpressure_num_objects": -1})
    with pytest.raises(ValueError):
        opt.check_task({"_generator_backpressure_num_objects": 0})
    with pytest.raises(ValueError):
        opt.check_task({"fallback_strategy": [{}]})
    with pytest.raises(ValueError):
        opt.check_task({"fallback_strategy": [{"other": 1}]})


def test_placement():
    with pytest.raises(ValueError):
        opt.check_task({"placement_group": object(), "scheduling_strategy": "SPREAD"})
    with pytest.raises(ValueError):
        opt.check_task({"placement_group_bundle_index": 1})


def test_methods():
    opt.check_method({"num_returns": 2, "name": "x"})
    with pytest.raises(ValueError):
        opt.check_method({"num_cpus": 1})
    with pytest.raises(ValueError):
        opt.check_method({"retry_exceptions": [1]})


def test_task_plan_defaults(monkeypatch):
    monkeypatch.delenv("RAY_TASK_MAX_RETRIES", raising=False)
    plan = opt.plan_task({})
    assert plan.resources == {"CPU": 1.0}
    assert (plan.num_returns, plan.max_retries, plan.max_calls) == (1, 3, 0)
    assert plan.retry_exceptions is False and plan.name is None


def test_task_plan_resources():
    plan = opt.plan_task(
        {
            "num_cpus": 0.5,
            "num_gpus": 1,
            "memory": 1000,
            "resources": {"x": 2},
            "accelerator_type": "A100",
        }
    )
    assert plan.resources == {
        "CPU": 0.5,
        "GPU": 1.0,
        "memory": 1000.0,
        "x": 2.0,
        "accelerator_type:A100": 0.001,
    }
    assert plan.max_calls == 1  # a process that used a GPU is not used again
    assert opt.plan_task({"num_gpus": 1, "max_calls": 0}).max_calls == 0
    assert opt.plan_task({"num_cpus": 0}).resources == {}


def test_task_plan_retries(monkeypatch):
    monkeypatch.setenv("RAY_TASK_MAX_RETRIES", "7")
    assert opt.plan_task({}).max_retries == 7
    assert opt.plan_task({"max_retries": 0}).max_retries == 0
    plan = opt.plan_task({"retry_exceptions": [KeyError]})
    assert plan.retry_exceptions and plan.retry_on == (KeyError,)
    assert opt.plan_task({"retry_exceptions": True}).retry_on == ()
    assert opt.plan_task({"retry_exceptions": []}).retry_exceptions is False


def test_actor_plan_resources():
    plan = opt.plan_actor({})
    assert plan.resources == {} and plan.placement == {"CPU": 1.0}
    plan = opt.plan_actor({"memory": 5})
    assert plan.resources == {"memory": 5.0} and plan.placement == {"CPU": 1.0, "memory": 5.0}
    plan = opt.plan_actor({"num_gpus": 0.5})
    assert plan.resources == plan.placement == {"CPU": 1.0, "GPU": 0.5}
    plan = opt.plan_actor({"num_cpus": 0})
    assert plan.resources == plan.placement == {}


@pytest.mark.parametrize(
    "options",
    [
        {"runtime_env": {"env_vars": {"A": "1"}}},
        {"label_selector": {"a": "b"}},
    ],
)
def test_unbuilt_actor_features_say_so(options):
    with pytest.raises(NotImplementedError, match="not built yet"):
        opt.plan_actor(options)


def test_actor_plan_concurrency():
    plan = opt.plan_actor({})
    assert (plan.max_concurrency, plan.concurrency_groups, plan.in_event_loop) == (0, {}, False)
    plan = opt.plan_actor({"max_concurrency": 7, "concurrency_groups": {"io": 2}}, has_async=True)
    assert (plan.max_concurrency, plan.concurrency_groups, plan.in_event_loop) == (
        7,
        {"io": 2},
        True,
    )
    plan = opt.plan_actor({"concurrency_groups": [{"name": "io", "max_concurrency": 3}]})
    assert plan.concurrency_groups == {"io": 3}


@pytest.mark.parametrize(
    "groups", [{"": 1}, {"a\nb": 1}, {"a": 0}, {"a": "1"}, {1: 1}, ["io"], [{"name": "io"}]]
)
def test_concurrency_groups_that_make_no_sense(groups):
    with pytest.raises(ValueError, match="concurrency"):
        opt.check_actor({"concurrency_groups": groups})


def test_unbuilt_task_features_say_so():
    with pytest.raises(NotImplementedError, match="not built yet"):
        opt.plan_task({"scheduling_strategy": object()})
    with pytest.raises(ValueError):
        opt.plan_task({"scheduling_strategy": "OTHER"})
    opt.plan_task({"scheduling_strategy": "SPREAD"})


@pytest.mark.parametrize("plan_of", [opt.plan_task, opt.plan_method])
def test_plans_of_generators(plan_of):
    def kind(options, is_generator=True):
        plan = plan_of(options, is_generator)
        return plan.num_returns, plan.generator

    assert kind({}) == kind({"num_returns": "streaming"}) == (1, 1)
    assert kind({"num_returns": "dynamic"}) == (1, 2)
    assert kind({"num_returns": 3}) == (3, 0)
    assert kind({}, False) == (1, 0)
    for given in ("streaming", "dynamic"):
        with pytest.raises(ValueError, match="generator"):
            plan_of({"num_returns": given})
    limit = "_generator_backpressure_num_objects"
    assert plan_of({limit: 5}, True).generator_limit == 5
    assert plan_of({limit: -1}, True).generator_limit == 0
    assert plan_of({}, True).generator_limit == 0


def test_nothing_warns_by_default():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opt.check_actor({})
        opt.check_task({})


def test_merge():
    merged = opt.merge({"num_cpus": 1, "_metadata": {"a": 1}}, {"name": "n", "_metadata": {"b": 2}})
    assert merged == {"num_cpus": 1, "name": "n", "_metadata": {"a": 1, "b": 2}}
