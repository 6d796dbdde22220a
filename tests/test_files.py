"""Files that are written: all of one or nothing, and only where a file may be."""

import os
import signal
import socket
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from sklearn_protopnet import _files
from sklearn_protopnet._files import check_place, check_regular, replacing
from sklearn_protopnet.inspection import export_evidence, write_report

WRITERS = {
    "save": lambda clf, X, path: clf.save(path),
    "export": lambda clf, X, path: export_evidence(clf, X[:1], path),
    "report": lambda clf, X, path: write_report(clf, X[:1], path),
}


def write(target, content=b"new", error=None):
    with replacing(target) as temporary:
        temporary.write_bytes(content)
        if error is not None:
            raise error


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

    def test_a_link_to_nowhere_is_found_before_the_work(self, tmp_path):
        link = tmp_path / "e.csv"
        link.symlink_to(tmp_path / "nowhere" / "e.csv")
        with pytest.raises(FileNotFoundError, match=r"There is no folder .*nowhere"):
            check_place(link)

    def test_only_files_are_read(self, tmp_path):
        make("FIFO", tmp_path / "e")
        with pytest.raises(ValueError, match=r"e' must be a regular file"):
            check_regular(tmp_path / "e")
        with pytest.raises(FileNotFoundError, match=r"There is no file '.*nowhere'"):
            check_regular(tmp_path / "nowhere")


class TestReplacing:
    @pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o755])
    def test_a_file_keeps_its_mode(self, tmp_path, mode):
        target = tmp_path / "e"
        target.touch()
        target.chmod(mode)
        write(target)
        assert stat.S_IMODE(target.stat().st_mode) == mode
        assert target.read_bytes() == b"new"

    @pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
    def test_a_new_file_has_the_mode_of_any_other(self, tmp_path, umask):
        before = os.umask(umask)
        try:
            write(tmp_path / "new")
            (tmp_path / "other").touch()
        finally:
            os.umask(before)
        assert (tmp_path / "new").stat().st_mode == (tmp_path / "other").stat().st_mode

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")
    def test_a_file_keeps_its_owner_where_that_is_allowed(self, tmp_path):
        target = tmp_path / "e"
        target.touch()
        os.chown(target, 1234, 4321)
        write(target)
        assert (target.stat().st_uid, target.stat().st_gid) == (1234, 4321)

    def test_who_reads_the_old_file_goes_on_reading_it(self, tmp_path):
        target = tmp_path / "e"
        target.write_bytes(b"old")
        with target.open("rb") as file:
            write(target)
            assert file.read() == b"old"
        assert list(tmp_path.iterdir()) == [target]

    @pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
    @pytest.mark.parametrize("old", [None, b"old"])
    def test_what_fails_leaves_what_was_there(self, tmp_path, error, old):
        target = tmp_path / "e"
        if old is not None:
            target.write_bytes(old)
        with pytest.raises(type(error)):
            write(target, b"half", error)
        assert [path.read_bytes() for path in tmp_path.iterdir()] == [old] * (old is not None)

    def test_errors_name_the_path_that_was_given(self, tmp_path):
        target = tmp_path / "e.csv"
        with pytest.raises(FileNotFoundError) as caught, replacing(target):
            pass  # nothing is written that could take its place
        assert caught.value.filename == str(target)
        assert ".e.csv" not in str(caught.value)
        with pytest.raises(FileNotFoundError) as caught, replacing(target):
            Path(tmp_path, "another").read_bytes()
        assert caught.value.filename == str(tmp_path / "another")

    def test_a_folder_that_may_not_be_written_to(self, tmp_path, monkeypatch):
        def refuse(path, *args, **kwargs):
            raise PermissionError(13, "Permission denied", os.fspath(path))

        monkeypatch.setattr(os, "mkdir", refuse)  # nobody refuses root anything
        with pytest.raises(PermissionError) as caught:
            write(tmp_path / "e.csv")
        assert caught.value.filename == str(tmp_path / "e.csv")

    @pytest.mark.parametrize("character", ["e", "é", "\N{CJK UNIFIED IDEOGRAPH-4E00}"])
    def test_a_name_as_long_as_there_are(self, tmp_path, character):
        target = tmp_path / (character * (255 // len(character.encode())))
        write(target)
        assert list(tmp_path.iterdir()) == [target]

    @pytest.mark.parametrize("old", [None, b"old"])
    def test_through_a_link_the_file_is_replaced(self, tmp_path, old):
        target, link = tmp_path / "files" / "e.csv", tmp_path / "links" / "e.csv"
        target.parent.mkdir()
        link.parent.mkdir()
        link.symlink_to(Path("..", "files", "e.csv"))
        if old is not None:
            target.write_bytes(old)
        write(link)
        assert link.is_symlink()
        assert target.read_bytes() == b"new"
        assert list(target.parent.iterdir()) == [target]
        assert list(link.parent.iterdir()) == [link]

    @pytest.mark.skipif(os.name != "posix", reason="there is no such signal")
    def test_a_kill_leaves_what_was_there_and_a_hidden_folder(self, tmp_path):
        target = tmp_path / "e.csv"
        target.write_bytes(b"old")
        script = (
            "import os, runpy, sys\n"
            "with runpy.run_path(sys.argv[1])['replacing'](sys.argv[2]) as temporary:\n"
            "    temporary.write_bytes(b'half')\n"
            "    os.kill(os.getpid(), 9)\n"
        )
        killed = subprocess.run([sys.executable, "-c", script, _files.__file__, target])
        assert killed.returncode == -signal.SIGKILL
        assert target.read_bytes() == b"old"
        (left,) = set(tmp_path.iterdir()) - {target}
        assert left.name.startswith(".e.csv.")
        assert stat.S_IMODE(left.stat().st_mode) == 0o700
        write(target)
        assert target.read_bytes() == b"new"
