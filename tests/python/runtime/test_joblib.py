# SPDX-License-Identifier: Apache-2.0
"""The joblib backend, by itself and under scikit-learn; emcee over a pool. Always against the
same computation in one process."""

import os

import emcee
import joblib
import numpy as np
import pytest
import ray
from ray.util.joblib import register_ray
from ray.util.multiprocessing import Pool
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

pytestmark = pytest.mark.usefixtures("session")

register_ray()


def on_ray(**arguments):
    return joblib.parallel_backend("ray", **arguments)


def square(x):
    return x * x


def pid(_=None):
    return os.getpid()


def test_parallel():
    with on_ray():
        assert joblib.Parallel()(joblib.delayed(square)(i) for i in range(100)) == [
            i * i for i in range(100)
        ]
        pids = joblib.Parallel(batch_size=1)(joblib.delayed(pid)() for _ in range(40))
    assert os.getpid() not in pids and len(set(pids)) <= 4
    with on_ray(n_jobs=2), joblib.Parallel() as parallel:
        for _ in range(2):  # the processes are kept
            assert parallel(joblib.delayed(square)(i) for i in range(10))[9] == 81


def test_numbers_of_jobs():
    with on_ray():
        assert joblib.effective_n_jobs() == 4
        assert joblib.effective_n_jobs(-2) == 3
        assert joblib.effective_n_jobs(1) == 1 and joblib.effective_n_jobs(-100) == 1
        assert joblib.Parallel(n_jobs=1)([joblib.delayed(pid)()]) == [os.getpid()]
        with pytest.raises(ValueError, match="n_jobs == 0"):
            joblib.Parallel(n_jobs=0)([joblib.delayed(pid)()])
        with pytest.raises(ValueError, match="there are only 4 CPUs"):
            joblib.Parallel(n_jobs=5)([joblib.delayed(pid)()])


def test_errors():
    def invert(x):
        return 1 / x

    with on_ray():
        with pytest.raises(ZeroDivisionError):
            joblib.Parallel(n_jobs=2)(joblib.delayed(invert)(x) for x in (1, 0, 2))
        assert joblib.Parallel(n_jobs=2)(joblib.delayed(invert)(x) for x in (1, 2)) == [1, 0.5]
        with joblib.Parallel(n_jobs=2) as parallel:
            with pytest.raises(ZeroDivisionError):
                parallel(joblib.delayed(invert)(x) for x in (1, 0, 2))
            assert parallel(joblib.delayed(invert)(x) for x in (1, 2)) == [1, 0.5]


def test_options_of_the_actors():
    def free():
        return ray.available_resources().get("custom", 0)

    with on_ray(ray_remote_args={"resources": {"custom": 0.5}}):
        assert joblib.Parallel(n_jobs=2)([joblib.delayed(free)()] * 2) == [1, 1]


def test_nested_calls_use_threads():
    def outer(i):
        inner = joblib.Parallel(n_jobs=2)(joblib.delayed(pid)() for _ in range(4))
        return set(inner) == {os.getpid()}

    with on_ray():
        assert all(joblib.Parallel(n_jobs=2)(joblib.delayed(outer)(i) for i in range(4)))


def test_large_arrays_are_shared():
    def look(i, array, other=None):
        again = array if other is None else other
        return float(array[i]), array.flags.writeable, array.flags.owndata, again is array

    array = np.arange(500_000.0)
    before = array.copy()
    with on_ray():
        calls = [joblib.delayed(look)(i, array, other=array) for i in range(8)]
        found = joblib.Parallel(n_jobs=2)(calls)
    assert [value for value, *_ in found] == list(range(8))
    assert all(not writeable and not owns for _, writeable, owns, _ in found)
    assert (array == before).all() and array.flags.writeable
    # The calls of the user are not touched.
    assert all(call[1][1] is array and call[2]["other"] is array for call in calls)


@pytest.fixture(scope="module")
def samples():
    return make_classification(
        n_samples=400, n_features=20, n_informative=8, n_classes=3, random_state=1
    )


def columns(results):
    return {
        name: list(values) for name, values in results.items() if not name.endswith("_time")
    }


def same(one, other):
    return set(one) == set(other) and all(
        np.array_equal(np.asarray(one[name]), np.asarray(other[name])) for name in one
    )


@pytest.mark.parametrize("rows", [400, 20_000])
def test_grid_search(rows, samples):
    X, y = samples
    if rows > 400:  # large enough to go through the object store
        X = np.repeat(X, rows // 400, axis=0)
        y = np.repeat(y, rows // 400)
        estimator = make_pipeline(StandardScaler(), RandomForestClassifier(5, random_state=0))
        grid = {"randomforestclassifier__max_depth": [2, 4]}
    else:
        estimator = make_pipeline(StandardScaler(), SVC(random_state=0))
        grid = {"svc__C": [0.1, 1, 10], "svc__gamma": ["scale", 0.01]}
    serial = GridSearchCV(estimator, grid, cv=3).fit(X, y)
    with on_ray():
        parallel = GridSearchCV(estimator, grid, cv=3).fit(X, y)
    assert same(columns(parallel.cv_results_), columns(serial.cv_results_))
    assert parallel.best_params_ == serial.best_params_
    assert parallel.best_score_ == serial.best_score_
    assert (parallel.predict(X) == serial.predict(X)).all()


def test_randomized_search_and_scores(samples):
    X, y = samples
    given = {"C": np.logspace(-2, 2, 20), "kernel": ["rbf", "linear"]}

    def search():
        return RandomizedSearchCV(SVC(), given, n_iter=6, cv=3, random_state=3).fit(X, y)

    serial, scores = search(), cross_val_score(SVC(), X, y, cv=5)
    with on_ray(n_jobs=2):
        parallel = search()
        assert (cross_val_score(SVC(), X, y, cv=5) == scores).all()
    assert same(columns(parallel.cv_results_), columns(serial.cv_results_))


def log_probability(theta, centre):
    return -0.5 * float(np.sum((theta - centre) ** 2))


def test_emcee():
    centre = np.array([1.0, -2.0, 3.0])
    start = np.random.default_rng(5).normal(size=(16, 3))

    def chain(pool):
        sampler = emcee.EnsembleSampler(16, 3, log_probability, args=(centre,), pool=pool)
        sampler._random.seed(11)
        sampler.run_mcmc(start, 100)
        return sampler

    serial = chain(None)
    with Pool(3) as pool:
        parallel = chain(pool)
    assert (parallel.get_chain() == serial.get_chain()).all()
    assert (parallel.get_log_prob() == serial.get_log_prob()).all()
    assert (parallel.acceptance_fraction == serial.acceptance_fraction).all()


def test_register_without_joblib(run_program):
    code, out, _ = run_program(
        """
        import sys
        sys.modules["joblib"] = None
        from ray.util.joblib import register_ray
        try:
            register_ray()
        except ImportError as exc:
            print(exc)
        """
    )
    assert code == 0 and "To use the ray backend you must install joblib" in out
