#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A grid search of scikit-learn whose fits run on Ray, by joblib's backend "ray"."""

import joblib
from ray.util.joblib import register_ray
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC


def main():
    X, y = load_digits(return_X_y=True)
    search = GridSearchCV(SVC(), {"C": [1, 10], "gamma": [0.0005, 0.001]}, cv=3)
    register_ray()
    with joblib.parallel_backend("ray"):
        search.fit(X, y)
    print(f"best parameters: {search.best_params_}, accuracy {search.best_score_:.3f}")


if __name__ == "__main__":
    main()
