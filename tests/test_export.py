"""Evidence in files: what comes back, and what is left where it ends early."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from quick import QUICK
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_protopnet import ProtoPNetClassifier
from sklearn_protopnet.inspection import _export as export_module
from sklearn_protopnet.inspection import (
    explain,
    export_evidence,
    read_evidence,
)
from sklearn_protopnet.inspection._explanation import Explainer
from sklearn_protopnet.inspection._view import View

SMALL = {"image_shape": (8, 8), **QUICK}
SUFFIXES = [".csv", ".parquet", ".sqlite", ".db"]
EXPORT_THAT_STOPS = """
import pickle, sys
from contextlib import contextmanager
from sklearn_protopnet.inspection import _export

def stopping(writer):
    def write(path):
        appends = []
        def append_and_stop(append):
            def call(table):
                append(table)
                appends.append(table)
                if len(appends) == 2:
                    print("in the middle", flush=True)
                    sys.stdin.read()
            return call
        with writer(path) as append:
            yield append_and_stop(append)
    return contextmanager(write)

suffix, path = sys.argv[1:]
_export.WRITERS[suffix] = stopping(_export.WRITERS[suffix])
_export.CHUNK_ROWS = 30
clf, X = pickle.load(sys.stdin.buffer)
_export.export_evidence(clf, X, path)
"""


class TestExport:
    @pytest.mark.parametrize("suffix", SUFFIXES)
    @pytest.mark.parametrize("chunk_rows", [1, 4 * 30, 10**6])
    def test_what_is_read_is_what_explain_gives(
        self, fitted, digits, tmp_path, monkeypatch, suffix, chunk_rows
    ):
        X, _ = digits
        monkeypatch.setattr(export_module, "CHUNK_ROWS", chunk_rows)
        path = tmp_path / f"evidence{suffix}"
        n_rows = export_evidence(fitted, X[:7], path, classes="all", top_k=3, localizer="upsample")
        expected = fitted.explain(X[:7], classes="all", top_k=3, localizer="upsample")
        found = read_evidence(path)
        pd.testing.assert_frame_equal(found, expected)
        assert found.attrs == expected.attrs
        assert n_rows == len(expected)

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_labels_and_names_that_look_like_something_else(self, digits, tmp_path, suffix):
        X, y = digits
        labels = np.array(["01", "NA", 'a "b", c', "é\n", "", "6", "None", "nan", "1e3", "x"])
        frame = pd.DataFrame(X, index=[f"{i:03}" for i in range(len(X))])
        clf = ProtoPNetClassifier(**SMALL).fit(frame, labels[y])
        path = tmp_path / f"evidence{suffix}"
        export_evidence(clf, frame, path)
        pd.testing.assert_frame_equal(read_evidence(path), clf.explain(frame))

    @pytest.mark.parametrize("suffix", SUFFIXES)
    @pytest.mark.parametrize("localizer", ["prp", "integrated_gradients"])
    def test_details_with_numbers_that_are_missing(
        self, fitted, digits, tmp_path, suffix, localizer
    ):
        path = tmp_path / f"evidence{suffix}"
        settings = {"details": iter(["margin", "digest", "convergence", "box"]), "top_k": 20}
        export_evidence(fitted, digits[0][:5], path, localizer=localizer, **settings)
        settings["details"] = ["margin", "digest", "convergence", "box"]
        expected = fitted.explain(digits[0][:5], localizer=localizer, **settings)
        assert expected["flip_similarity"].isna().any()
        pd.testing.assert_frame_equal(read_evidence(path), expected)

    @pytest.mark.parametrize("suffix", SUFFIXES)
    @pytest.mark.parametrize("labels", [np.array([False, True]), np.array([1.0, 2.0])])
    def test_labels_that_are_no_text(self, digits, tmp_path, suffix, labels):
        X, y = digits
        frame = pd.DataFrame(X, index=[f"{i:03}" for i in range(len(X))])
        clf = ProtoPNetClassifier(**SMALL).fit(frame, labels[y % 2])
        path = tmp_path / f"evidence{suffix}"
        export_evidence(clf, frame[:3], path)
        pd.testing.assert_frame_equal(read_evidence(path), clf.explain(frame[:3]))

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_names_that_no_file_has(self, digits, tmp_path, suffix):
        X, y = digits
        frame = pd.DataFrame(X, index=pd.date_range("2026-01-01", periods=len(X)))
        clf = ProtoPNetClassifier(**SMALL).fit(frame, y)
        path = tmp_path / f"evidence{suffix}"
        message = r"must be text, numbers or truth values .* got datetime64\S* such as .*2026-01-01"
        with pytest.raises(ValueError, match=f"{message}.*frame.index.astype"):
            export_evidence(clf, frame[:3], path)
        assert not list(tmp_path.iterdir())
        frame.index = frame.index.astype(str)  # the remedy
        export_evidence(clf, frame[:3], path)
        assert set(read_evidence(path)["sample"]) == {f"2026-01-0{day}" for day in (1, 2, 3)}

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_integers_that_only_parquet_has(self, digits, tmp_path, suffix):
        X, y = digits
        path = tmp_path / f"evidence{suffix}"
        index = np.arange(len(X), dtype=np.uint64)
        index[7] = 2**63
        frame = pd.DataFrame(X, index=index)
        of_frame, of_labels = (
            ProtoPNetClassifier(**SMALL).fit(X, labels)
            for labels in (y, np.array([3, 2**64 - 1], dtype=np.uint64)[y % 2])
        )
        export_evidence(of_frame, frame[:7], path)  # the same type, but small
        assert set(read_evidence(path)["sample"]) == set(range(7))
        export_evidence(of_frame, frame[:7].set_axis(np.arange(7) * 1e20), path)  # no integers
        assert set(read_evidence(path)["sample"]) == set(np.arange(7) * 1e20)
        path.unlink()
        for clf, images, message in (
            (of_frame, frame, rf"got {2**63} for 'sample'\..*parquet.* frame.index.astype\(str\)"),
            (of_labels, X[:9], rf"got {2**64 - 1} for 'class'\..*parquet.* y.astype\(str\)"),
        ):
            if suffix == ".parquet":
                export_evidence(clf, images, path)
                pd.testing.assert_frame_equal(read_evidence(path), clf.explain(images))
                continue
            with pytest.raises(ValueError, match=rf"less than 2\*\*63 .* {suffix} file, {message}"):
                export_evidence(clf, images, path)
            assert not list(tmp_path.iterdir())

    def test_top_classes_in_files(self, fitted, digits, tmp_path):
        X, _ = digits
        path = tmp_path / "evidence.parquet"
        export_evidence(fitted, X[:7], path, n_top_classes=2, top_k=3)
        expected = fitted.explain(X[:7], n_top_classes=2, top_k=3)
        pd.testing.assert_frame_equal(read_evidence(path), expected)
        path.unlink()
        with pytest.raises(ValueError, match="at most the number of classes, 10, got 11"):
            export_evidence(fitted, X[:7], path, n_top_classes=11)
        assert not list(tmp_path.iterdir())

    def test_a_folder_in_its_place(self, fitted, digits, tmp_path):
        (tmp_path / "e.csv").mkdir()
        with pytest.raises(IsADirectoryError, match="is a folder"):
            export_evidence(fitted, digits[0][:3], tmp_path / "e.csv")

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_sparse_evidence_adds_up(self, digits, tmp_path, suffix):
        X, y = digits
        clf = ProtoPNetClassifier(**SMALL, l1_weight=0.1).fit(X, y)
        path = tmp_path / f"evidence{suffix}"
        n_rows = export_evidence(clf, X, path, classes="all", sparse=True)
        found, every = read_evidence(path), clf.explain(X, classes="all")
        assert n_rows == len(found) < len(every)
        assert (found["contribution"] != 0).all()
        sums = found.groupby(["sample", "class"])["contribution"].sum()
        logits = every.groupby(["sample", "class"])["logit"].first()
        np.testing.assert_allclose(sums, logits[sums.index], rtol=1e-9)

    @pytest.mark.parametrize("suffix", SUFFIXES)
    @pytest.mark.parametrize("labels", [np.arange(10), np.array(list("abcdefghij"))])
    def test_no_contribution_at_all(self, digits, tmp_path, suffix, labels):
        X, y = digits
        clf = ProtoPNetClassifier(**SMALL, l1_weight=1e6, l2_weight=1e9).fit(X, labels[y])
        assert not clf.coef_.any()
        path = tmp_path / f"evidence{suffix}"
        settings = {"details": ["margin", "digest"]}
        assert export_evidence(clf, X[:5], path, sparse=True, **settings) == 0
        why = clf.explain(X[:5], **settings)
        expected = why[why["contribution"] != 0].reset_index(drop=True)
        pd.testing.assert_frame_equal(read_evidence(path), expected)
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_no_contribution_at_first(self, digits, tmp_path, monkeypatch, suffix):
        X, y = digits
        frame = pd.DataFrame(X, index=[f"{i:03}" for i in range(len(X))])
        clf = ProtoPNetClassifier(**SMALL).fit(frame, y.astype(str))
        why = clf.explain(frame[:9])
        table = Explainer.table

        def without_first(self, start, stop):
            found = table(self, start, stop)
            return found.assign(contribution=0.0) if start == 0 else found

        monkeypatch.setattr(Explainer, "table", without_first)
        export_evidence(clf, frame[:9], tmp_path / f"evidence{suffix}", sparse=True)
        is_kept = (why["contribution"] != 0) & (why["sample"] != "000")
        expected = why[is_kept].reset_index(drop=True)
        pd.testing.assert_frame_equal(read_evidence(tmp_path / f"evidence{suffix}"), expected)

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_text_that_is_objects_as_in_pandas_2(self, fitted, digits, tmp_path, suffix):
        """Of which no rows do not tell that they are text."""
        why = fitted.explain(digits[0][:2])
        with export_module.WRITERS[suffix](tmp_path / f"evidence{suffix}") as append:
            append(why[:0].astype({"box_kind": object}))
            append(why.astype({"box_kind": object}))
        found = read_evidence(tmp_path / f"evidence{suffix}")
        pd.testing.assert_frame_equal(found, why, check_dtype=False)
        assert found["box_kind"].tolist() == why["box_kind"].tolist()

    def test_a_pipeline_and_a_list_of_paths_like_any_estimator(self, digits, tmp_path):
        X, y = digits
        pipeline = make_pipeline(StandardScaler(), ProtoPNetClassifier(**SMALL)).fit(X, y)
        export_evidence(pipeline, X[:5], tmp_path / "e.csv")
        pd.testing.assert_frame_equal(read_evidence(tmp_path / "e.csv"), explain(pipeline, X[:5]))

    @pytest.mark.parametrize("suffix", SUFFIXES)
    @pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
    def test_an_export_that_fails_leaves_what_was_there(
        self, fitted, digits, tmp_path, monkeypatch, suffix, error
    ):
        path = tmp_path / f"evidence{suffix}"
        path.write_bytes(b"precious")
        table = Explainer.table

        def fail(self, start, stop):
            if start < 5:
                return table(self, start, stop)
            assert len(list(tmp_path.iterdir())) == 2  # it is in the middle
            raise error

        monkeypatch.setattr(export_module, "CHUNK_ROWS", 30)
        monkeypatch.setattr(Explainer, "table", fail)
        with pytest.raises(type(error)):
            export_evidence(fitted, digits[0][:20], path)
        assert path.read_bytes() == b"precious"
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.skipif(os.name != "posix", reason="nobody removes what is left")
    @pytest.mark.parametrize(
        ("suffix", "old"), [(".csv", None), (".parquet", b"precious"), (".sqlite", b"precious")]
    )
    def test_an_export_that_is_killed_leaves_what_was_there(
        self, fitted, digits, tmp_path, suffix, old
    ):
        path = tmp_path / f"evidence{suffix}"
        if old is not None:
            path.write_bytes(old)
        with subprocess.Popen(
            [sys.executable, "-c", EXPORT_THAT_STOPS, suffix, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process:
            process.stdin.write(pickle.dumps((fitted, digits[0][:20])))
            process.stdin.flush()
            assert process.stdout.readline() == b"in the middle\n"
            process.kill()
        assert (path.read_bytes() if path.exists() else None) == old
        (left,) = set(tmp_path.iterdir()) - {path}
        assert left.name.startswith(f".{path.name}.")
        assert f".{process.pid}." in left.name
        export_evidence(fitted, digits[0][:2], path)
        assert list(tmp_path.iterdir()) == [path]
        pd.testing.assert_frame_equal(read_evidence(path), fitted.explain(digits[0][:2]))

    def test_through_a_link_the_file_is_replaced(self, fitted, digits, tmp_path):
        path, link = tmp_path / "e.csv", tmp_path / "link.csv"
        link.symlink_to(path)
        for n_images in (2, 3):
            export_evidence(fitted, digits[0][:n_images], link)
            assert link.is_symlink()
            assert read_evidence(path).equals(fitted.explain(digits[0][:n_images]))
        assert set(tmp_path.iterdir()) == {path, link}

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_an_export_that_is_repeated_replaces_the_first(self, fitted, digits, tmp_path, suffix):
        X, _ = digits
        path = tmp_path / f"evidence{suffix}"
        export_evidence(fitted, X[:9], path)
        export_evidence(fitted, X[:2], path)
        pd.testing.assert_frame_equal(read_evidence(path), fitted.explain(X[:2]))

    def test_a_progress_bar_on_request(self, fitted, digits, tmp_path, capsys):
        export_evidence(fitted, digits[0][:3], tmp_path / "e.csv")
        assert capsys.readouterr() == ("", "")
        export_evidence(fitted, digits[0][:3], tmp_path / "e.csv", verbose=1)
        assert "3/3" in capsys.readouterr().err

    def test_small_tables_cost_no_further_looks(self, fitted, digits, tmp_path, monkeypatch):
        """300 images are two chunks, however few of them a table explains."""
        looks = []
        arrays = View.arrays

        def counted(self, *names):
            looks.append(len(self.rows))
            return arrays(self, *names)

        monkeypatch.setattr(View, "arrays", counted)
        monkeypatch.setattr("sklearn_protopnet.inspection._export.CHUNK_ROWS", 7 * 30)
        path = tmp_path / "evidence.csv"
        assert export_evidence(fitted, digits[0], path) == 300 * 30
        assert len(looks) == 2
        assert sum(looks) < 300 + 7
        pd.testing.assert_frame_equal(read_evidence(path), fitted.explain(digits[0]))

    def test_no_image(self, fitted, digits, tmp_path):
        with pytest.raises(ValueError, match="0 sample"):
            export_evidence(fitted, digits[0][:0], tmp_path / "e.csv")
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("name", ["evidence.xlsx", "evidence"])
    def test_a_suffix_that_is_no_format(self, fitted, digits, tmp_path, name):
        for function in (
            lambda path: export_evidence(fitted, digits[0][:1], path),
            read_evidence,
        ):
            with pytest.raises(ValueError, match=r"path must end in one of \['.csv'.* got"):
                function(tmp_path / name)

    @pytest.mark.parametrize("suffix", SUFFIXES)
    @pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"a,b\n1\n2,3,4\n", b"\xff\x00\xff"])
    def test_a_file_of_something_else(self, tmp_path, suffix, content):
        path = tmp_path / f"evidence{suffix}"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"must be evidence in its format|columns of evidence"):
            read_evidence(path)
        assert path.read_bytes() == content

    def test_a_table_of_something_else(self, fitted, tmp_path):
        fitted.prototype_table().to_parquet(tmp_path / "p.parquet")
        with pytest.raises(ValueError, match="are missing: class, rank, similarity"):
            read_evidence(tmp_path / "p.parquet")

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_no_file(self, tmp_path, suffix):
        with pytest.raises(FileNotFoundError):
            read_evidence(tmp_path / f"evidence{suffix}")
        assert not list(tmp_path.iterdir())

    def test_no_folder(self, fitted, digits, tmp_path):
        with pytest.raises(OSError, match="nowhere"):
            export_evidence(fitted, digits[0][:1], tmp_path / "nowhere" / "e.csv")
