"""What surrounds a fit and a prediction: torch's settings, threads, processes, read-only memory."""

import contextlib
import os
import pickle
import signal
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
import torch
from quick import QUICK
from torch import nn

from sklearn_protopnet import ProtoPNetClassifier, load
from sklearn_protopnet._network import working_conditions


@contextlib.contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        assert torch.get_default_dtype() == dtype  # as the user has left it
        torch.set_default_dtype(before)


@contextlib.contextmanager
def default_device(device):
    torch.set_default_device(device)
    try:
        yield
    finally:
        assert torch.get_default_device().type == device
        torch.set_default_device(None)


@contextlib.contextmanager
def short_products():
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        assert torch.get_float32_matmul_precision() == "medium"
        torch.set_float32_matmul_precision("highest")


@contextlib.contextmanager
def no_onednn():
    torch.backends.mkldnn.enabled = False
    try:
        yield
    finally:
        assert not torch.backends.mkldnn.enabled
        torch.backends.mkldnn.enabled = True


SURROUNDINGS = {
    "default dtype float64": lambda: default_dtype(torch.float64),
    "default device meta": lambda: default_device("meta"),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "short products": short_products,
    "no oneDNN": no_onednn,
    "anomaly detection": lambda: torch.autograd.set_detect_anomaly(True, check_nan=False),
}


@pytest.fixture(scope="module")
def few(digits):
    X, y = digits
    return X[:60], y[:60]


@pytest.fixture(scope="module")
def expected(few):
    clf = ProtoPNetClassifier(image_shape=(8, 8), **QUICK).fit(*few)
    images = few[0]
    alone = clf.explain(images[:1], localizer="upsample")
    return clf.decision_function(images), clf.explain(images[:2], localizer="occlusion"), alone


@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
@pytest.mark.parametrize("name", SURROUNDINGS)
def test_fit_and_what_follows_give_the_same_bits_whatever_torch_is_set_to(name, few, expected):
    X, y = few
    logits, why, alone = expected
    with SURROUNDINGS[name]():
        clf = ProtoPNetClassifier(image_shape=(8, 8), **QUICK).fit(X, y)
        assert np.array_equal(clf.decision_function(X), logits)
        assert clf.explain(X[:2], localizer="occlusion").equals(why)
        assert clf.explain(X[:1], localizer="upsample").equals(alone)  # filled up to a batch
        assert np.array_equal(clf.refit_last_layer(X, y).decision_function(X), logits)


@pytest.mark.parametrize("name", ["default dtype float64", "default device meta"])
def test_a_network_that_is_restored_anew_gives_the_same_bits_too(name, few, expected, tmp_path):
    clf = ProtoPNetClassifier(image_shape=(8, 8), **QUICK).fit(*few)
    joblib.dump(clf, tmp_path / "clf.joblib")
    with SURROUNDINGS[name]():
        restored = joblib.load(tmp_path / "clf.joblib")
        assert np.array_equal(restored.decision_function(few[0]), expected[0])


def test_arrays_that_cannot_be_written_to_give_the_same_bits(few, expected, tmp_path):
    X, y = few
    clf = ProtoPNetClassifier(image_shape=(8, 8), **QUICK).fit(X, y)
    joblib.dump(clf, tmp_path / "clf.joblib")
    mapped = joblib.load(tmp_path / "clf.joblib", mmap_mode="r")
    images = X.copy()
    images.setflags(write=False)
    assert not mapped.prototypes_.flags.writeable
    assert np.array_equal(mapped.decision_function(images), expected[0])
    assert mapped.explain(images[:2], localizer="occlusion").equals(expected[1])
    mapped.save(tmp_path / "clf.ppn")
    assert np.array_equal(load(tmp_path / "clf.ppn").decision_function(X), expected[0])
    assert np.array_equal(mapped.refit_last_layer(images, y).coef_, clf.coef_)


def test_a_fit_leaves_as_many_threads_as_there_were(few):
    torch.set_num_threads(2)
    try:
        ProtoPNetClassifier(image_shape=(8, 8), **QUICK).fit(*few).predict(few[0])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_threads_that_overlap_each_get_theirs_back():
    torch.set_num_threads(2)
    found, barrier = {}, threading.Barrier(2, timeout=60)

    def first():
        with working_conditions(tiny=True):
            with working_conditions(tiny=True):
                barrier.wait()  # the second one comes
            found["first, inside"] = torch.get_num_threads()
            barrier.wait()
        found["first, after"] = torch.get_num_threads()
        barrier.wait()

    def second():
        barrier.wait()
        with working_conditions(tiny=True):
            barrier.wait()  # the first one goes
            barrier.wait()
            found["second, inside"] = torch.get_num_threads()
            with ThreadPoolExecutor(1) as pool:
                pool.submit(third).result(60)
        found["second, after"] = torch.get_num_threads()

    def third():
        with working_conditions(tiny=True):
            found["third, inside"] = torch.get_num_threads()
        found["third, after"] = torch.get_num_threads()

    try:
        with ThreadPoolExecutor(2) as pool:
            for each in [pool.submit(first), pool.submit(second)]:
                each.result(60)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert {place: n for place, n in found.items() if place.endswith("inside")} == {
        "first, inside": 1, "second, inside": 1, "third, inside": 1
    }  # fmt: skip
    assert {place: n for place, n in found.items() if place.endswith("after")} == {
        "first, after": 2, "second, after": 2, "third, after": 2
    }  # fmt: skip


def test_every_table_adds_up_beside_a_refit_in_another_thread(few):
    X, y = few
    clf = ProtoPNetClassifier(image_shape=(8, 8), **QUICK).fit(X, y)
    is_over = threading.Event()

    def refit():
        while not is_over.is_set():
            for l1_weight in (1e-4, 1.0):
                clf.refit_last_layer(X, y, l1_weight=l1_weight)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(refit)
        weights, n_tables, latest = set(), 0, time.monotonic() + 60
        while (n_tables < 25 or len(weights) < 2) and time.monotonic() < latest:
            n_tables += 1
            why = clf.explain(X[:3], classes="all")
            sums = why.groupby(["sample", "class"])["contribution"].sum()
            logits = why.groupby(["sample", "class"])["logit"].first()
            np.testing.assert_allclose(sums, logits, rtol=1e-9, atol=1e-12)
            weights.add(why["weight"].abs().sum())
        is_over.set()
        running.result()
    assert len(weights) > 1  # there were refits in between


@pytest.fixture(scope="module")
def pickled(few):
    return pickle.dumps(ProtoPNetClassifier(image_shape=(8, 8), **QUICK).fit(*few))


class Held(nn.Module):
    """A backbone whose training waits, once it has begun, until a test lets it go on."""

    begun, go_on = threading.Event(), threading.Event()

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(1, 4, 3)

    def forward(self, images):
        if self.training and torch.is_grad_enabled():
            self.begun.set()
            assert self.go_on.wait(60)
        return self.convolution(images)


@pytest.fixture
def training_beside(few):
    """A fit of a module, which holds the global draws, in another thread."""
    clf = ProtoPNetClassifier(image_shape=(8, 8), backbone=Held(), **QUICK)
    Held.begun.clear()
    Held.go_on.clear()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(clf.fit, *few)
        assert Held.begun.wait(60)
        yield running
        Held.go_on.set()
        running.result()


def test_a_prediction_does_not_wait_for_a_fit_in_another_thread(
    few, expected, pickled, training_beside
):
    restored = pickle.loads(pickled)  # has no network yet
    assert np.array_equal(restored.decision_function(few[0]), expected[0])
    assert not training_beside.done()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing is forked here")
def test_a_child_that_is_forked_during_a_fit_can_fit(few, training_beside):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
        child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(BaseException):
            ProtoPNetClassifier(image_shape=(8, 8), **QUICK).fit(*few)
            code = 0
        os._exit(code)
    deadline = time.monotonic() + 60
    status = (0, 0)
    while status[0] == 0 and time.monotonic() < deadline:
        time.sleep(0.05)
        status = os.waitpid(child, os.WNOHANG)
    if status[0] == 0:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert status == (child, 0)
