"""One torch thread, no display, and data that many tests share."""

import os

os.environ["SCIPY_ARRAY_API"] = "1"
os.environ["MPLBACKEND"] = "Agg"

import hypothesis
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from browser import Browser, find_chromium
from sklearn.datasets import load_digits

from sklearn_protopnet import ProtoPNetClassifier

torch.set_num_threads(1)
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def digits():
    X, y = load_digits(return_X_y=True)
    rows = np.sort(np.concatenate([np.flatnonzero(y == label)[:30] for label in range(10)]))
    return X[rows], y[rows]


@pytest.fixture(scope="module")
def few(digits):
    """Sixty digits of three classes."""
    X, y = digits
    return X[:60], y[:60] % 3


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    executable = find_chromium()
    if executable is None:
        pytest.skip("no Chromium is installed (Debian: apt-get install chromium)")
    found = Browser(executable, tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.fixture(scope="session")
def fitted(digits):
    clf = ProtoPNetClassifier(
        image_shape=(8, 8),
        n_prototypes_per_class=3,
        pretraining_epochs=3,
        warmup_epochs=1,
        joint_epochs=4,
        projection_interval=2,
        random_state=0,
    )
    return clf.fit(*digits)
