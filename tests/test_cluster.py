"""Searches on a cluster, through joblib's backends: the serial results, to the last bit."""

import os
import signal
import tempfile
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import joblib
import numpy as np
import pytest
import ray
from distributed import Client, LocalCluster
from quick import QUICK
from ray.util.joblib import register_ray
from sklearn.model_selection import GridSearchCV

from sklearn_protopnet import ProtoPNetClassifier

GRID = {"learning_rate": [1e-3, 1e-2], "l1_weight": [1e-4, 1e-2]}


class Recorder:
    """Leaves images as they are, and notes in a folder which process looked at how many."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, image):
        with Path(self.folder, str(os.getpid())).open("a") as file:
            file.write(".")
        return image


class Mortal:
    """Leaves images as they are, and kills the first other process that has looked at so many."""

    def __init__(self, folder, n_images):
        self.folder, self.n_left, self.parent = folder, n_images, os.getpid()

    def __call__(self, image):
        self.n_left -= 1
        if self.n_left == 0 and os.getpid() != self.parent:
            try:
                Path(self.folder, "died").touch(exist_ok=False)
            except FileExistsError:
                return image
            os.kill(os.getpid(), signal.SIGKILL)
        return image


def search(**changes):
    return GridSearchCV(ProtoPNetClassifier(**{**QUICK, **changes}), GRID, cv=2)


@contextmanager
def dask_backend():
    """Start two worker processes."""
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster),
        joblib.parallel_config("dask"),
    ):
        yield


@contextmanager
def ray_backend():
    """Start two worker processes."""
    here = {"env_vars": {"PYTHONPATH": str(Path(__file__).parent)}}  # of `Recorder`
    options = {"include_dashboard": False, "log_to_driver": False, "configure_logging": False}
    # Workers would give way to everything else on the machine, and other tests never rest.
    with (
        tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder,
        mock.patch.dict(os.environ, {"RAY_worker_niceness": "0"}),
    ):
        ray.init("local", num_cpus=2, runtime_env=here, _temp_dir=folder, **options)
        try:
            register_ray()
            with joblib.parallel_config("ray", n_jobs=2):
                yield
        finally:
            ray.shutdown()


def assert_same_results(one, other):
    for name, expected in other.cv_results_.items():
        if not name.endswith("_time"):
            assert np.array_equal(one.cv_results_[name], expected), name
    assert np.array_equal(one.best_estimator_.coef_, other.best_estimator_.coef_)


@pytest.mark.parametrize("backend", [dask_backend, ray_backend], ids=["dask", "ray"])
def test_results_are_those_of_the_serial_search(few, tmp_path, backend):
    memory, states, seen = (tmp_path / name for name in ("memory", "states", "seen"))
    seen.mkdir()
    shared = {"memory": str(memory), "checkpoint": states, "augment": Recorder(str(seen))}
    expected = search(augment=Recorder(str(seen))).fit(*few)
    (mine,) = seen.iterdir()
    n_images = len(mine.read_text())
    mine.unlink()
    with backend():
        found = search(**shared).fit(*few)
    assert_same_results(found, expected)
    assert list(states.iterdir()) == []
    assert [each for each in seen.iterdir() if each.name != mine.name]
    # Two candidates of four train nothing, unless two processes train the same at the same time.
    assert sum(len(each.read_text()) for each in seen.iterdir()) <= n_images


def test_a_worker_that_dies_costs_its_task_only(few, tmp_path):
    dying = Mortal(str(tmp_path), 50)
    plain = search(augment=Mortal(str(tmp_path), -1)).fit(*few)
    with dask_backend():
        found = search(augment=dying, checkpoint=tmp_path / "states").fit(*few)
    assert (tmp_path / "died").exists()
    assert_same_results(found, plain)
    assert list((tmp_path / "states").iterdir()) == []
