"""
A search on a cluster
=====================

The same search on whatever engine is there: two worker processes of dask or of ray on this
machine, or a cluster that is running already. Run it as a script::

    python search_on_a_cluster.py dask
    python search_on_a_cluster.py dask tcp://scheduler:8786
    python search_on_a_cluster.py ray
"""

import sys
from contextlib import ExitStack, contextmanager
from tempfile import TemporaryDirectory

import joblib
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV

from sklearn_protopnet import ProtoPNetClassifier


@contextmanager
def dask(address=None):
    """Hand joblib's work to a cluster of dask."""
    from distributed import Client, LocalCluster

    with ExitStack() as stack:
        cluster = address or stack.enter_context(LocalCluster(n_workers=2, threads_per_worker=1))
        stack.enter_context(Client(cluster))
        stack.enter_context(joblib.parallel_config("dask"))
        yield


@contextmanager
def ray(address=None):
    """Hand joblib's work to a cluster of ray."""
    import ray
    from ray.util.joblib import register_ray

    ray.init(address=address, num_cpus=None if address else 2)
    register_ray()
    with joblib.parallel_config("ray", n_jobs=2):
        yield
    ray.shutdown()


def main(engine, address=None):
    """Search over the depth and the penalty of the last layer."""
    X, y = load_digits(return_X_y=True)
    X, y = X[:300], y[:300]
    # Workers on other machines need a directory that they share with this one.
    with TemporaryDirectory() as shared, engine(address):
        clf = ProtoPNetClassifier(
            image_shape=(8, 8),
            n_prototypes_per_class=3,
            pretraining_epochs=8,
            joint_epochs=5,
            memory=f"{shared}/memory",  # a network for each depth and split, not for each penalty
            checkpoint=f"{shared}/checkpoints",  # a worker that dies costs an epoch
            random_state=0,
        )
        grid = {"prototype_depth": [8, 32], "l1_weight": [1e-4, 1e-3]}
        search = GridSearchCV(clf, grid, cv=2).fit(X, y)
    columns = ["param_prototype_depth", "param_l1_weight", "mean_test_score", "mean_fit_time"]
    print(pd.DataFrame(search.cv_results_)[columns].to_string(index=False))


if __name__ == "__main__":
    engines = {"dask": dask, "ray": ray}
    if len(sys.argv) < 2 or sys.argv[1] not in engines:
        sys.exit(__doc__)
    main(engines[sys.argv[1]], *sys.argv[2:])
