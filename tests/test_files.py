"""Files that are written: all of one or nothing, and only where a file may be."""

import os
import signal
import socket
import stat
import warnings
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest
from quick import QUICK

from sklearn_protopnet import ProtoPNetClassifier, load
from sklearn_protopnet.inspection import export_evidence, write_report

WRITERS = {
    "save": lambda clf, X, path: clf.save(path),
    "export": lambda clf, X, path: export_evidence(clf, X[:1], path),
    "report": lambda clf, X, path: write_report(clf, X[:1], path),
}


@pytest.fixture(scope="module")
def clf():
    """A small one: its file is written in a moment."""
    images = np.random.default_rng(0).normal(size=(4, 4, 4))
    return ProtoPNetClassifier(**{**QUICK, "prototype_depth": 2}).fit(images, [0, 1, 0, 1])


def is_whole(clf, path):
    return np.array_equal(load(path).coef_, clf.coef_)


def make(kind, path):
    """Make something that is no regular file, which goes with the test's folder."""
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        with closing(socket.socket(socket.AF_UNIX)) as each:
            before = Path.cwd()
            os.chdir(path.parent)  # a socket's name is short
            try:
                each.bind(path.name)
            finally:
                os.chdir(before)


class TestPlaces:
    @pytest.mark.parametrize("kind", ["FIFO", "socket", "folder"])
    @pytest.mark.parametrize("writer", WRITERS)
    @pytest.mark.parametrize("is_link", [False, True])
    def test_only_files_are_replaced(self, fitted, digits, tmp_path, writer, kind, is_link):
        path = thing = tmp_path / "e.csv"
        if is_link:
            thing = tmp_path / "thing"
            path.symlink_to(thing)
        make(kind, thing)
        before = thing.stat()
        with pytest.raises(OSError, match=r"e\.csv' must be a .*file"):
            WRITERS[writer](fitted, digits[0], path)
        assert thing.stat() == before
        assert set(tmp_path.iterdir()) == {path, thing}

    @pytest.mark.parametrize("writer", WRITERS)
    def test_a_folder_that_is_not_there_is_named(self, fitted, digits, tmp_path, writer):
        with pytest.raises(FileNotFoundError, match="nowhere"):
            WRITERS[writer](fitted, digits[0], tmp_path / "nowhere" / "e.csv")

    @pytest.mark.parametrize("writer", WRITERS)
    def test_a_link_to_nowhere_is_found_before_the_work(self, clf, digits, tmp_path, writer):
        link = tmp_path / "e.csv"
        link.symlink_to(tmp_path / "nowhere" / "e.csv")
        estimator = clf if writer == "save" else ProtoPNetClassifier()  # which can do no work
        with pytest.raises(FileNotFoundError, match=r"There is no folder .*nowhere"):
            WRITERS[writer](estimator, digits[0], link)


class TestReplacing:
    @pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o755])
    def test_a_file_keeps_its_mode(self, clf, tmp_path, mode):
        target = tmp_path / "e"
        target.touch()
        target.chmod(mode)
        clf.save(target)
        assert stat.S_IMODE(target.stat().st_mode) == mode
        assert is_whole(clf, target)

    @pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
    def test_a_new_file_has_the_mode_of_any_other(self, clf, tmp_path, umask):
        before = os.umask(umask)
        try:
            clf.save(tmp_path / "new")
            (tmp_path / "other").touch()
        finally:
            os.umask(before)
        assert (tmp_path / "new").stat().st_mode == (tmp_path / "other").stat().st_mode

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")
    def test_a_file_keeps_its_owner_where_that_is_allowed(self, clf, tmp_path):
        target = tmp_path / "e"
        target.touch()
        os.chown(target, 1234, 4321)
        clf.save(target)
        assert (target.stat().st_uid, target.stat().st_gid) == (1234, 4321)

    def test_who_reads_the_old_file_goes_on_reading_it(self, clf, tmp_path):
        target = tmp_path / "e"
        target.write_bytes(b"old")
        with target.open("rb") as file:
            clf.save(target)
            assert file.read() == b"old"
        assert list(tmp_path.iterdir()) == [target]

    @pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
    @pytest.mark.parametrize("old", [None, b"old"])
    def test_what_fails_leaves_what_was_there(self, clf, tmp_path, monkeypatch, error, old):
        def fail(*paths):
            raise error

        target = tmp_path / "e"
        if old is not None:
            target.write_bytes(old)
        monkeypatch.setattr(os, "replace", fail)
        with pytest.raises(type(error)):
            clf.save(target)
        assert [path.read_bytes() for path in tmp_path.iterdir()] == [old] * (old is not None)

    @pytest.mark.parametrize("step", ["mkdir", "replace"])
    def test_errors_name_the_path_that_was_given(self, clf, tmp_path, monkeypatch, step):
        def refuse(path, *args, **kwargs):
            raise PermissionError(13, "Permission denied", os.fspath(path))

        target = tmp_path / "e.csv"
        monkeypatch.setattr(os, step, refuse)  # nobody refuses root anything
        with pytest.raises(PermissionError) as caught:
            clf.save(target)
        assert caught.value.filename == str(target)
        assert ".e.csv" not in str(caught.value)

    def test_errors_about_other_files_name_those(self, clf, tmp_path, monkeypatch):
        def fail(*paths):
            raise FileNotFoundError(2, "No such file or directory", "another")

        monkeypatch.setattr(os, "replace", fail)
        with pytest.raises(FileNotFoundError) as caught:
            clf.save(tmp_path / "e.csv")
        assert caught.value.filename == "another"

    @pytest.mark.parametrize("character", ["e", "é", "\N{CJK UNIFIED IDEOGRAPH-4E00}"])
    def test_a_name_may_be_as_long_as_there_are(self, clf, tmp_path, character):
        target = tmp_path / (character * (255 // len(character.encode())))
        clf.save(target)
        assert list(tmp_path.iterdir()) == [target]

    @pytest.mark.parametrize("old", [None, b"old"])
    def test_through_a_link_the_file_is_replaced(self, clf, tmp_path, old):
        target, link = tmp_path / "files" / "e.csv", tmp_path / "links" / "e.csv"
        target.parent.mkdir()
        link.parent.mkdir()
        link.symlink_to(Path("..", "files", "e.csv"))
        if old is not None:
            target.write_bytes(old)
        clf.save(link)
        assert link.is_symlink()
        assert is_whole(clf, target)
        assert list(target.parent.iterdir()) == [target]
        assert list(link.parent.iterdir()) == [link]

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing is forked here")
    def test_a_kill_leaves_what_was_there_and_a_hidden_folder(self, clf, tmp_path):
        target = tmp_path / "e.csv"
        target.write_bytes(b"old")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
            child = os.fork()
        if child == 0:
            os.replace = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)
            with suppress(BaseException):
                clf.save(target)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGKILL
        assert target.read_bytes() == b"old"
        (left,) = set(tmp_path.iterdir()) - {target}
        assert left.name.startswith(".e.csv.")
        assert stat.S_IMODE(left.stat().st_mode) == 0o700
        clf.save(target)
        assert is_whole(clf, target)
