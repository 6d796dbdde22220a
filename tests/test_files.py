"""Estimators in files: all of it comes back, and nothing else is let in."""

import os
import re
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from skops import io
from torch import nn

from sklearn_protopnet import ProtoPNetClassifier, _persistence, load
from sklearn_protopnet._persistence import check_place, replacing

TINY = {
    "n_prototypes_per_class": 2,
    "prototype_depth": 4,
    "pretraining_epochs": 0,
    "warmup_epochs": 0,
    "joint_epochs": 1,
}


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return rng.normal(size=(12, 6, 5, 2)), np.arange(12) % 3


@pytest.fixture(scope="module")
def tiny(images):
    return ProtoPNetClassifier(**TINY, random_state=0).fit(*images)


@pytest.fixture
def path(tiny, tmp_path):
    tiny.save(tmp_path / "clf.skops")
    return tmp_path / "clf.skops"


class TestRoundTrip:
    def test_predictions_are_the_same_bits(self, tiny, images, path):
        X, _ = images
        twin = load(path)
        assert type(twin) is ProtoPNetClassifier
        for method in ("decision_function", "predict_proba", "predict", "transform"):
            one, other = (getattr(clf, method)(X) for clf in (tiny, twin))
            assert one.dtype == other.dtype
            assert np.array_equal(one, other), method

    def test_tables_and_attributes_are_the_same(self, tiny, images, path):
        twin = load(path)
        for table, other in (
            (tiny.explain(images[0], classes="all"), twin.explain(images[0], classes="all")),
            (tiny.prototype_table(), twin.prototype_table()),
            (tiny.history_table(), twin.history_table()),
        ):
            pd.testing.assert_frame_equal(table, other, check_exact=True)
            assert table.attrs == other.attrs
        assert twin.get_params() == tiny.get_params()
        names = {name for name in vars(tiny) if name.endswith("_") and not name.startswith("_")}
        assert names == {name for name in vars(twin) if name.endswith("_")}
        for name in names:
            assert type(getattr(twin, name)) is type(getattr(tiny, name)), name

    def test_a_twin_can_be_saved_and_fitted_again(self, tiny, images, path):
        X, y = images
        twin = load(path)
        twin.save(path)
        assert np.array_equal(load(path).prototypes_, tiny.prototypes_)
        assert np.array_equal(twin.fit(X, y).prototypes_, tiny.prototypes_)

    @pytest.mark.parametrize(
        "labels", [["cat", "dog", "eel"], [1.0, 2.0, -3.0], np.array(["a", "b", "c"], dtype=object)]
    )
    def test_labels_of_any_kind(self, images, tmp_path, labels):
        X, y = images
        labels = np.asarray(labels)
        weights = dict.fromkeys(labels.tolist(), 2.0)
        clf = ProtoPNetClassifier(**TINY, class_weight=weights, random_state=0)
        clf.fit(X, labels[y])
        clf.save(tmp_path / "clf")
        assert np.array_equal(load(tmp_path / "clf").predict(X), clf.predict(X))

    @pytest.mark.parametrize(
        "parameters",
        [
            {"random_state": np.random.RandomState(3)},
            {"image_shape": [6, 5, 2]},
            {"prototype_size": [2, 3]},
            {"learning_rate": np.float64(1e-3), "batch_size": np.int64(7)},
        ],
        ids=lambda parameters: next(iter(parameters)),
    )
    def test_parameters_of_any_accepted_type(self, images, tmp_path, parameters):
        clf = ProtoPNetClassifier(**{**TINY, **parameters}).fit(*images)
        clf.save(str(tmp_path / "clf"))
        twin = load(str(tmp_path / "clf"))
        assert np.array_equal(twin.decision_function(images[0]), clf.decision_function(images[0]))

    def test_names_of_columns(self, images, tmp_path):
        frame = pd.DataFrame(images[0].reshape(12, -1)).add_prefix("pixel")
        clf = ProtoPNetClassifier(**TINY, image_shape=(6, 5, 2)).fit(frame, images[1])
        clf.save(tmp_path / "clf")
        twin = load(tmp_path / "clf")
        assert twin.feature_names_in_.tolist() == list(frame.columns)
        assert np.array_equal(twin.predict(frame), clf.predict(frame))


class TestRefusals:
    @pytest.mark.parametrize(
        ("content", "found"),
        [
            ({"clf": ProtoPNetClassifier()}, "builtins.dict"),
            ([ProtoPNetClassifier()], "builtins.list"),
            (np.arange(3), "numpy.ndarray"),
            (LogisticRegression(), "sklearn.linear_model._logistic.LogisticRegression"),
            (ProtoPNetClassifier(class_weight={"f": os.system}), "posix.system"),
            (ProtoPNetClassifier(backbone=re.compile), "re.compile"),
            (nn.Flatten(), "torch.nn.modules.flatten.Flatten"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_a_file_that_holds_anything_else(self, tmp_path, content, found):
        (tmp_path / "other").write_bytes(io.dumps(content))
        message = rf"'.*other' must hold a \S+ProtoPNetClassifier only, found .*{re.escape(found)}"
        with pytest.raises(ValueError, match=message):
            load(tmp_path / "other")

    def test_nothing_in_a_refused_file_is_executed(self, tmp_path):
        class Trap:
            def __reduce__(self):
                return (tmp_path / "sprung").touch, ()

        clf = ProtoPNetClassifier(class_weight={0: Trap()})
        (tmp_path / "trap").write_bytes(io.dumps(clf))
        (tmp_path / "sprung").unlink(missing_ok=True)
        with pytest.raises(ValueError, match=r"must hold a .* only, found .*Trap"):
            load(tmp_path / "trap")
        assert not (tmp_path / "sprung").exists()

    @pytest.mark.parametrize(
        "spoil",
        [
            pytest.param(lambda data: b"", id="empty"),
            pytest.param(lambda data: b"\x80\x04 no zip file", id="garbage"),
            pytest.param(lambda data: data[: len(data) // 2], id="half"),
            pytest.param(lambda data: data[:-1], id="last byte missing"),
            pytest.param(
                lambda data: data[:2000] + bytes([data[2000] ^ 255]) + data[2001:], id="bit"
            ),
        ],
    )
    def test_a_spoilt_file(self, path, spoil):
        path.write_bytes(spoil(path.read_bytes()))
        with pytest.raises(ValueError, match=r"'.*clf\.skops' must be a file written by save: \S+"):
            load(path)

    @pytest.mark.parametrize("members", [{}, {"schema.json": "{}"}, {"schema.json": "no json"}])
    def test_an_archive_of_something_else(self, tmp_path, members):
        with zipfile.ZipFile(tmp_path / "archive", "w") as archive:
            for name, text in members.items():
                archive.writestr(name, text)
        with pytest.raises(ValueError, match="must be a file written by save"):
            load(tmp_path / "archive")

    def test_a_file_that_is_not_there(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="nowhere"):
            load(tmp_path / "nowhere")

    def test_an_unfitted_classifier_is_not_saved(self, tmp_path):
        with pytest.raises(NotFittedError):
            ProtoPNetClassifier().save(tmp_path / "clf")
        assert list(tmp_path.iterdir()) == []


class TestAllOrNothing:
    @pytest.mark.parametrize("module", [nn.Conv2d(2, 3, 2), nn.ReLU()], ids=["weights", "none"])
    def test_a_module_is_refused_and_the_old_file_stays(self, images, path, module):
        before = path.read_bytes()
        clf = ProtoPNetClassifier(**TINY, backbone=module).fit(*images)
        message = r"plain values only, .* no module .* found .*\. Or pickle the estimator\."
        with pytest.raises(TypeError, match=message):
            clf.save(path)
        assert path.read_bytes() == before
        assert list(path.parent.iterdir()) == [path]

    def test_a_file_is_replaced_as_a_whole(self, tiny, images, path):
        opened = path.open("rb")
        before = path.read_bytes()
        other = ProtoPNetClassifier(**TINY, random_state=1).fit(*images)
        other.save(path)
        with opened:
            assert opened.read() == before  # who reads the old file goes on reading it
        assert np.array_equal(load(path).prototypes_, other.prototypes_)
        assert list(path.parent.iterdir()) == [path]

    @pytest.mark.parametrize("step", ["write_bytes", "replace"])
    def test_a_disk_that_fails_loses_nothing(self, tiny, path, monkeypatch, step):
        before = path.read_bytes()

        def fail(self, *args):
            if step == "write_bytes":
                self.touch()
            raise OSError("disk full")

        monkeypatch.setattr(type(path), step, fail)
        with pytest.raises(OSError, match="disk full"):
            tiny.save(path)
        monkeypatch.undo()
        assert path.read_bytes() == before
        assert list(path.parent.iterdir()) == [path]

    def test_a_folder_is_not_replaced(self, tiny, tmp_path):
        (tmp_path / "folder").mkdir()
        with pytest.raises(OSError, match="folder"):
            tiny.save(tmp_path / "folder")
        assert list(tmp_path.iterdir()) == [tmp_path / "folder"]

    def test_a_folder_that_is_not_there_is_named(self, tiny, tmp_path):
        with pytest.raises(FileNotFoundError, match="nowhere"):
            tiny.save(tmp_path / "nowhere" / "clf")

    def test_a_file_is_as_readable_as_any_other(self, path):
        other = path.with_name("other")
        other.write_bytes(b"")
        assert path.stat().st_mode == other.stat().st_mode


def write(target):
    """Write a file, and say what it was called before it was whole."""
    with replacing(target) as temporary:
        temporary.write_bytes(b"new")
    assert target.read_bytes() == b"new"
    return temporary


@pytest.fixture
def dead():
    """A number that no process has."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def leave(monkeypatch):
    """Write what a process would leave that is killed."""

    def leave(target, pid=None, host=None):
        pid, host = pid or os.getpid(), host or socket.gethostname()
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: pid)
            patch.setattr(socket, "gethostname", lambda: host)
            with pytest.raises(OSError, match="No such file"), replacing(target) as temporary:
                pass  # nothing to put in its place
        temporary.write_bytes(b"half")
        return temporary

    return leave


@pytest.mark.skipif(os.name != "posix", reason="one cannot ask whether a process lives")
class TestWhatAKillLeaves:
    def test_the_next_one_removes_it(self, tmp_path, dead, leave):
        target = tmp_path / "e.csv"
        for left in [leave(target, dead), leave(target, dead)]:
            left.write_bytes(b"half")  # the second one has removed the first
        assert len(list(tmp_path.iterdir())) == 2
        write(target)
        assert list(tmp_path.iterdir()) == [target]

    def test_what_may_still_be_written_stays(self, tmp_path, dead, leave):
        target = tmp_path / "e.csv"
        others = {
            leave(target),  # by another thread of this process
            leave(target, pid=1),  # by somebody else
            leave(target, dead, host="another"),  # where this number may mean a process
            leave(tmp_path / "f.csv", dead),
            leave(tmp_path / "e.csv.gz", dead),
        }
        mine = leave(target, dead)
        others.add(mine.with_name(f"{mine.name}.bak"))
        others.add(mine.with_name(mine.name.replace(str(dead), "x")))
        for other in others:
            other.write_bytes(b"half")
        write(target)
        assert set(tmp_path.iterdir()) == {target, *others}

    def test_a_process_in_another_container_stays(self, tmp_path, dead, leave, monkeypatch):
        """Of the same host, by its name: the number may mean a process there."""
        target = tmp_path / "e.csv"
        with monkeypatch.context() as patch:
            realpath = os.path.realpath
            patch.setattr(
                os.path,
                "realpath",
                lambda path: "/proc/1/ns/pid:[1]" if "proc/self" in str(path) else realpath(path),
            )
            other = leave(target, dead)
        write(target)
        assert set(tmp_path.iterdir()) == {target, other}

    def test_a_folder_that_cannot_be_listed(self, tmp_path, monkeypatch):
        def refuse(self):
            raise PermissionError("not for you")

        with monkeypatch.context() as patch:
            patch.setattr(Path, "iterdir", refuse)
            write(tmp_path / "e.csv")
        assert list(tmp_path.iterdir()) == [tmp_path / "e.csv"]

    def test_where_a_question_would_end_a_process(self, tmp_path, dead, leave, monkeypatch):
        target = tmp_path / "e.csv"
        other = leave(target, dead)
        asked = []
        monkeypatch.setattr(os, "kill", lambda *args: asked.append(args))
        with monkeypatch.context() as patch:
            patch.setattr(os, "name", "nt")
            _persistence._remove_leftovers(tmp_path, other.name.split(str(dead))[0])
        assert asked == []
        assert other.exists()


@pytest.mark.parametrize("character", ["e", "é", "\N{CJK UNIFIED IDEOGRAPH-4E00}"])
def test_a_name_as_long_as_there_are(tmp_path, character):
    target = tmp_path / (character * (255 // len(character.encode())))
    assert write(target).name.startswith(f".{character * 60}")
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("old", [None, b"old"])
def test_through_a_link_the_file_is_replaced(tmp_path, old):
    target, link = tmp_path / "files" / "e.csv", tmp_path / "links" / "e.csv"
    target.parent.mkdir()
    link.parent.mkdir()
    link.symlink_to(Path("..", "files", "e.csv"))
    if old is not None:
        target.write_bytes(old)
    assert write(link).parent == target.parent
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert list(target.parent.iterdir()) == [target]
    assert list(link.parent.iterdir()) == [link]


def test_a_link_to_nowhere_is_found_before_the_work(tmp_path):
    link = tmp_path / "e.csv"
    link.symlink_to(tmp_path / "nowhere" / "e.csv")
    with pytest.raises(FileNotFoundError, match=r"There is no folder .*nowhere"):
        check_place(link)


@pytest.mark.parametrize("action", ["save", "load"])
def test_without_skops_the_remedy_is_named(tiny, path, monkeypatch, action):
    before = path.read_bytes()
    monkeypatch.setitem(sys.modules, "skops", None)
    with pytest.raises(ImportError, match=re.escape("pip install sklearn-protopnet[files]")):
        tiny.save(path) if action == "save" else load(path)
    assert path.read_bytes() == before
