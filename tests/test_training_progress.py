"""Progress bars: neither without a terminal nor with a broken one may work end or wait."""

import io
import sys
import threading

import pytest
from quick import QUICK
from tqdm import tqdm

from sklearn_protopnet import ProtoPNetClassifier
from sklearn_protopnet._training import ProgressBar
from sklearn_protopnet.inspection import export_evidence


class Broken(io.StringIO):
    """A stream that takes a few lines and then no more; its reader may have gone."""

    def __init__(self, n_writes):
        super().__init__()
        self.n_left = n_writes

    def write(self, text):
        self.n_left -= 1
        if self.n_left < 0:
            raise BrokenPipeError(32, "Broken pipe")
        return super().write(text)

    def flush(self):
        self.write("")


@pytest.fixture(params=["none", "closed", "broken at once", "broken later"])
def stderr(request, monkeypatch):
    streams = {"none": None, "closed": io.StringIO()}
    stream = streams.get(request.param, Broken(0 if "once" in request.param else 6))
    if request.param == "closed":
        stream.close()
    monkeypatch.setattr(sys, "stderr", stream)


def assert_free(lock):
    """Another thread must get the lock."""
    got = []

    def take():
        got.append(lock.acquire(timeout=5))
        if got[0]:
            lock.release()

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    assert got == [True]


def test_fits_and_exports_go_on(digits, tmp_path, stderr):
    X, y = digits[0][:40], digits[1][:40] % 2
    clf = ProtoPNetClassifier(image_shape=(8, 8), verbose=1, **QUICK).fit(X, y)
    export_evidence(clf, X[:3], tmp_path / "evidence.csv", verbose=1)
    assert (tmp_path / "evidence.csv").exists()
    assert_free(tqdm.get_lock())


def test_an_error_in_between_leaves_no_lock(capsys):
    def fail():
        with ProgressBar(3, "image", visible=True) as bar:
            bar.update()
            raise KeyError("work")

    with pytest.raises(KeyError, match="work"):
        fail()
    assert_free(tqdm.get_lock())
    assert "1/3" in capsys.readouterr().err


def test_figures_that_are_known_are_shown(capsys):
    with ProgressBar(2, "epoch", visible=True) as bar:
        bar.update(1, "joint", loss=0.25, validation=float("nan"))
    shown = capsys.readouterr().err
    assert "joint" in shown
    assert "loss=0.250" in shown
    assert "validation" not in shown


def test_nothing_is_shown_unless_asked_for(capsys):
    with ProgressBar(2, "epoch", visible=False) as bar:
        bar.update()
    assert capsys.readouterr().err == ""
