"""Progress bars: neither without a terminal nor with a broken one may work end or wait."""

import io
import sys
import threading

import pytest
from quick import QUICK
from tqdm import tqdm

from sklearn_protopnet import ProtoPNetClassifier
from sklearn_protopnet.inspection import export_evidence, write_report


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


def stream_of(kind):
    if kind == "none":
        return None
    stream = Broken(0 if kind == "broken at once" else 6)
    if kind == "closed":
        stream.close()
    return stream


def assert_free(lock):
    """Another thread must get the lock."""
    got = threading.Event()

    def take():
        with lock:
            got.set()

    threading.Thread(target=take, daemon=True).start()
    assert got.wait(timeout=10)


@pytest.mark.parametrize("kind", ["none", "closed", "broken at once", "broken later"])
def test_fits_exports_and_reports_go_on_whatever_the_stream(digits, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(sys, "stderr", stream_of(kind))  # here: pytest sets it before each call
    X, y = digits[0][:40], digits[1][:40] % 2
    clf = ProtoPNetClassifier(image_shape=(8, 8), verbose=1, **QUICK).fit(X, y)
    export_evidence(clf, X[:3], tmp_path / "evidence.csv", verbose=1)
    write_report(clf, X[:3], tmp_path / "report.html", verbose=1)
    assert (tmp_path / "evidence.csv").exists()
    assert_free(tqdm.get_lock())


def test_an_error_in_between_leaves_no_lock(digits, capsys):
    def fail(image):
        raise KeyError("work")

    X, y = digits[0][:40], digits[1][:40] % 2
    clf = ProtoPNetClassifier(image_shape=(8, 8), verbose=1, augment=fail, **QUICK)
    with pytest.raises(KeyError, match="work"):
        clf.fit(X, y)
    assert_free(tqdm.get_lock())
    assert "0/3" in capsys.readouterr().err


def test_figures_that_are_known_are_shown_to_those_who_ask(digits, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    X, y = digits[0][:40], digits[1][:40] % 2
    clf = ProtoPNetClassifier(image_shape=(8, 8), **QUICK).fit(X, y)
    assert capsys.readouterr() == ("", "")
    clf.set_params(verbose=1).fit(X, y)
    out, shown = capsys.readouterr()
    assert out == ""
    assert "3/3" in shown
    for row in clf.history_[1:]:
        known = f"{row['stage']}: "
        assert known in shown
    assert f"loss={clf.history_[-1]['loss']:.3f}" in shown
    assert "validation" not in shown
    clf.fit(X, y, X_val=X, y_val=y)
    assert "validation=" in capsys.readouterr().err


def test_a_network_from_memory_says_that_it_skips_the_epochs(digits, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "200")
    X, y = digits[0][:40], digits[1][:40] % 2
    clf = ProtoPNetClassifier(image_shape=(8, 8), memory=str(tmp_path), verbose=1, **QUICK)
    assert "skipped" not in capsys.readouterr().err
    clf.fit(X, y)
    shown = capsys.readouterr().err
    assert "skipped" not in shown
    for part in ("cross_entropy=", "cluster=", "separation=", "linear_head=", "accuracy="):
        assert part in shown
    clf.fit(X, y)
    shown = capsys.readouterr().err
    assert "from memory, epochs skipped: 100%" in shown
    assert "joint" not in shown
