"""Evidence in files: what comes back, what is refused, and what is left where it ends early."""

import json
import os
import sqlite3
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from quick import QUICK
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_protopnet import ProtoPNetClassifier
from sklearn_protopnet.inspection import explain, export_evidence, read_evidence
from sklearn_protopnet.inspection._export_formats import FORMATS, ROWS_OF_ANY_FILE
from sklearn_protopnet.inspection._export_manifest import Manifest

SMALL = {"image_shape": (8, 8), **QUICK}
SUFFIXES = [".csv", ".parquet", ".sqlite"]
TEXTS = ["01", "NA", 'a "b", c', "é\n", "", "=1+1", "'=x", "'quoted'", "\r\n@x", "\uff1d1+1"]


@pytest.fixture(scope="module")
def frame(digits):
    index = [f"{'-' * (i % 2)}{i:03}" for i in range(60)]
    return pd.DataFrame(digits[0][::5], index=index)


@pytest.fixture(scope="module")
def of_texts(frame, digits):
    """A classifier whose labels and samples are texts that look like something else."""
    return ProtoPNetClassifier(**SMALL).fit(frame, np.array(TEXTS)[digits[1][::5]])


@pytest.fixture(scope="module")
def detailed(fitted, digits):
    settings = {"localizer": "prp", "details": ["margin", "digest", "convergence"], "top_k": 20}
    return settings, fitted.explain(digits[0][:3], **settings)


@pytest.fixture(scope="module")
def sparse(frame, digits):
    """A classifier without any weight, of labels that are one byte long."""
    clf = ProtoPNetClassifier(**SMALL, l1_weight=1e6, l2_weight=1e9)
    return clf.fit(frame, digits[1][::5].astype(np.uint8))


def files(folder):
    return {path.name for path in folder.iterdir()}


def written(path):
    """Names of the files that an export to this path leaves."""
    return {path.name, f"{path.name}.json"} if path.suffix == ".csv" else {path.name}


class TestWhatComesBack:
    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_what_is_0_times_a_negative_similarity_is_0(self, digits, tmp_path, suffix):
        X, y = digits
        clf = ProtoPNetClassifier(**SMALL, similarity="linear", l1_weight=1.0).fit(X, y)
        settings = {"classes": "all", "details": "patches"}
        expected = clf.explain(X[:30], **settings)
        zeros = expected.loc[expected["weight"] == 0, "contribution"]
        assert len(zeros) > 0
        assert not np.signbit(zeros).any()
        export_evidence(clf, X[:30], tmp_path / f"evidence{suffix}", **settings)
        found = read_evidence(tmp_path / f"evidence{suffix}")
        pd.testing.assert_frame_equal(found, expected, check_exact=True)

    @pytest.mark.parametrize("suffix", [*SUFFIXES, ".db"])
    def test_it_is_what_explain_gives(self, fitted, digits, tmp_path, suffix, detailed):
        path, (settings, expected) = tmp_path / f"evidence #?{suffix}", detailed
        details = iter(settings["details"])
        n_rows = export_evidence(fitted, digits[0][:3], path, **{**settings, "details": details})
        found = read_evidence(path)
        assert expected["flip_similarity"].isna().any()
        pd.testing.assert_frame_equal(found, expected)
        assert found.attrs == expected.attrs
        assert n_rows == len(expected)
        assert files(tmp_path) == written(path)

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_texts_that_look_like_something_else_come_back(self, of_texts, frame, tmp_path, suffix):
        path = tmp_path / f"evidence{suffix}"
        export_evidence(of_texts, frame, path, classes="all", top_k=1)
        expected = of_texts.explain(frame, classes="all", top_k=1)
        pd.testing.assert_frame_equal(read_evidence(path), expected)

    @pytest.mark.parametrize("suffix", SUFFIXES)
    @pytest.mark.parametrize(
        "labels",
        [
            np.array([False, True]),
            np.array([1.0, -2.0], dtype=np.float32),
            np.array([3, 200], dtype=np.uint8),
        ],
        ids=["truth values", "single precision", "bytes"],
    )
    def test_labels_of_any_dtype_come_back(self, frame, tmp_path, suffix, labels):
        clf = ProtoPNetClassifier(**SMALL).fit(frame, labels[np.arange(len(frame)) % 2])
        path = tmp_path / f"evidence{suffix}"
        export_evidence(clf, frame[:3], path)
        pd.testing.assert_frame_equal(read_evidence(path), clf.explain(frame[:3]))

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_sparse_evidence_adds_up(self, digits, tmp_path, suffix):
        X, y = digits
        clf = ProtoPNetClassifier(**SMALL, l1_weight=0.1).fit(X[::3], y[::3])
        path = tmp_path / f"evidence{suffix}"
        n_rows = export_evidence(clf, X[:20], path, n_top_classes=3, sparse=True)
        found, every = read_evidence(path), clf.explain(X[:20], n_top_classes=3)
        assert n_rows == len(found) < len(every)
        assert (found["contribution"] != 0).all()
        sums = found.groupby(["sample", "class"])["contribution"].sum()
        logits = every.groupby(["sample", "class"])["logit"].first()
        np.testing.assert_allclose(sums, logits[sums.index], rtol=1e-9)

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_tables_without_a_contribution_come_back(self, sparse, frame, tmp_path, suffix):
        path = tmp_path / f"evidence{suffix}"
        assert export_evidence(sparse, frame, path, sparse=True, details="digest") == 0
        expected = sparse.explain(frame, details="digest")[:0]
        assert not sparse.coef_.any()
        pd.testing.assert_frame_equal(read_evidence(path), expected)

    def test_a_pipeline_is_exported_like_any_estimator(self, digits, tmp_path):
        X, y = digits
        pipeline = make_pipeline(StandardScaler(), ProtoPNetClassifier(**SMALL)).fit(X, y)
        export_evidence(pipeline, X[:5], tmp_path / "e.csv")
        pd.testing.assert_frame_equal(read_evidence(tmp_path / "e.csv"), explain(pipeline, X[:5]))

    def test_many_images_are_exported_some_at_a_time(self, fitted, digits, tmp_path):
        X = np.tile(digits[0], (4, 1))
        n_rows = export_evidence(fitted, X, tmp_path / "e.parquet", top_k=1)
        found = read_evidence(tmp_path / "e.parquet")
        assert n_rows == len(found) == 1200
        assert found["sample"].tolist() == list(range(1200))
        assert (found["logit"].to_numpy().reshape(4, -1) == found["logit"][:300].to_numpy()).all()

    def test_a_csv_file_is_read_by_anybody(self, fitted, digits, tmp_path):
        export_evidence(fitted, digits[0][:2], tmp_path / "e.csv")
        expected = fitted.explain(digits[0][:2])
        found = pd.read_csv(tmp_path / "e.csv")
        pd.testing.assert_frame_equal(found, expected)

    def test_a_progress_bar_is_shown_on_request(self, fitted, digits, tmp_path, capsys):
        export_evidence(fitted, digits[0][:3], tmp_path / "e.csv")
        assert capsys.readouterr() == ("", "")
        export_evidence(fitted, digits[0][:3], tmp_path / "e.csv", verbose=1)
        assert "3/3" in capsys.readouterr().err


class TestFormulas:
    STARTS = ("=", "+", "-", "@", "\t", "\r")

    @pytest.mark.parametrize("is_escaped", [False, True])
    def test_they_are_exact_or_harmless_and_come_back(self, of_texts, frame, tmp_path, is_escaped):
        path = tmp_path / "e.csv"
        settings = {"classes": "all", "top_k": 1}
        export_evidence(of_texts, frame, path, escape_formulas=is_escaped, **settings)
        plain = pd.read_csv(path, dtype=str, keep_default_na=False)
        texts = {text for name in ("sample", "class", "prototype_class") for text in plain[name]}
        assert any(text.startswith(self.STARTS) for text in texts) == (not is_escaped)
        assert "'quoted'" in texts
        pd.testing.assert_frame_equal(read_evidence(path), of_texts.explain(frame, **settings))

    def test_they_are_escaped_in_csv_only(self, fitted, digits, tmp_path):
        with pytest.raises(ValueError, match=r"escape_formulas is for \.csv files, got 'e\.db'"):
            export_evidence(fitted, digits[0], tmp_path / "e.db", escape_formulas=True)


@pytest.mark.parametrize("named", ["sample", "class"])
def test_null_characters_are_refused_where_they_would_be_lost(frame, digits, tmp_path, named):
    X, y = frame.rename(index=lambda name: f"{name}\0"), digits[1][::5].astype(str)
    if named == "class":
        X, y = frame, np.char.add(y, "\0b")
    clf = ProtoPNetClassifier(**SMALL).fit(X, y)
    with pytest.raises(ValueError, match=f"no null characters .*got one for '{named}'"):
        export_evidence(clf, X, tmp_path / "e.csv")
    assert not files(tmp_path)
    for suffix in (".parquet", ".sqlite"):
        path = tmp_path / f"e{suffix}"
        export_evidence(clf, X[:3], path)
        pd.testing.assert_frame_equal(read_evidence(path), clf.explain(X[:3]))


class TestWhereItIsWritten:
    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_an_export_that_fails_leaves_what_was_there(self, fitted, digits, tmp_path, suffix):
        """The last image's file is cut, which shows when others have been written."""
        folder = tmp_path / "images"
        folder.mkdir()
        paths = [str(folder / f"{i}.png") for i in range(5)]
        for path, row in zip(paths, digits[0], strict=False):
            Image.fromarray(row.reshape(8, 8).astype(np.uint8)).save(path)
        Path(paths[-1]).write_bytes(Path(paths[-1]).read_bytes()[:50])
        target = tmp_path / f"evidence{suffix}"
        export_evidence(fitted, digits[0][:2], target)
        before = {name: (tmp_path / name).read_bytes() for name in written(target)}
        with pytest.raises(ValueError, match=r"4\.png"):
            export_evidence(fitted, paths, target)
        assert {name: (tmp_path / name).read_bytes() for name in written(target)} == before
        assert files(tmp_path) == {"images", *written(target)}
        export_evidence(fitted, paths[:-1], target)
        assert read_evidence(target)["sample"].nunique() == 4

    @pytest.mark.parametrize("name", ["e.csv", "e.csv.json", "e.parquet"])
    def test_what_is_no_file_is_refused_before_the_work(self, digits, tmp_path, name):
        os.mkfifo(tmp_path / name)
        unfitted = ProtoPNetClassifier()
        with pytest.raises(OSError, match=rf"{name}' must be a regular file or a new one"):
            export_evidence(unfitted, digits[0], tmp_path / name.removesuffix(".json"))
        assert files(tmp_path) == {name}

    @pytest.mark.parametrize("function", [export_evidence, read_evidence])
    def test_a_suffix_that_is_no_format_is_refused(self, fitted, digits, tmp_path, function):
        given = (fitted, digits[0]) if function is export_evidence else ()
        for name in ("evidence.xlsx", "evidence"):
            with pytest.raises(ValueError, match=r"path must end in one of \['.csv'.* got"):
                function(*given, tmp_path / name)


class TestNames:
    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_names_that_no_file_can_hold_are_refused_with_the_remedy(
        self, fitted, digits, tmp_path, suffix
    ):
        dates = pd.date_range("2026-01-01", periods=3)
        frame = pd.DataFrame(digits[0][:3], index=dates)
        message = r"must be text, numbers or truth values .* got datetime64\S* such as .*2026-01-01"
        with pytest.raises(ValueError, match=f"{message}.*frame.index.map"):
            export_evidence(fitted, frame, tmp_path / f"evidence{suffix}")
        assert not files(tmp_path)
        frame.index = frame.index.map(str)  # the remedy
        export_evidence(fitted, frame, tmp_path / f"evidence{suffix}")
        samples = read_evidence(tmp_path / f"evidence{suffix}")["sample"]
        assert set(samples) == {f"2026-01-0{day} 00:00:00" for day in (1, 2, 3)}
        frame.index = pd.MultiIndex.from_product([[1], ["a", "b", "c"]])
        with pytest.raises(ValueError, match=r"frame.index.map"):
            export_evidence(fitted, frame, tmp_path / f"evidence{suffix}")
        frame.index = frame.index.map(str)
        export_evidence(fitted, frame, tmp_path / f"evidence{suffix}")
        samples = read_evidence(tmp_path / f"evidence{suffix}")["sample"]
        assert samples.unique().tolist() == ["(1, 'a')", "(1, 'b')", "(1, 'c')"]

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_large_unsigned_integers_come_back_from_parquet_only(
        self, fitted, digits, tmp_path, suffix
    ):
        path = tmp_path / f"evidence{suffix}"
        index = np.array([5, 6, 2**63], dtype=np.uint64)
        frame = pd.DataFrame(digits[0][:3], index=index)
        export_evidence(fitted, frame[:2], path)  # the same type, but small
        pd.testing.assert_frame_equal(read_evidence(path), fitted.explain(frame[:2]))
        if suffix == ".parquet":
            export_evidence(fitted, frame, path)
            pd.testing.assert_frame_equal(read_evidence(path), fitted.explain(frame))
            return
        message = rf"less than 2\*\*63 .* {suffix} file, got {2**63} for 'sample'\..*parquet"
        with pytest.raises(ValueError, match=message):
            export_evidence(fitted, frame, path)


def mutants(content, seed, n):
    """Cut files, and files of which one bit, or one byte, is another."""
    rng = np.random.default_rng(seed)
    for i in range(n):
        changed = bytearray(content)
        place = int(rng.integers(len(content)))
        if i % 4 == 0:
            yield content[:place]
            continue
        changed[place] ^= 1 << int(rng.integers(8)) if i % 4 < 3 else int(rng.integers(1, 256))
        yield bytes(changed)


def what_is_read(path):
    """Read a file; None where an error names it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a library may warn of what the digest then refuses
        try:
            return read_evidence(path)
        except ValueError as error:
            message = str(error)
    assert repr(str(path)) in message
    return None


class TestSpoiltFiles:
    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_none_is_read_to_other_rows(self, of_texts, frame, tmp_path, suffix):
        path = tmp_path / f"evidence{suffix}"
        settings = {"classes": "all", "top_k": 1}
        export_evidence(of_texts, frame[:6], path, **settings)
        expected = of_texts.explain(frame[:6], **settings)
        contents = {name: (tmp_path / name).read_bytes() for name in sorted(written(path))}
        n_refused = 0
        for seed, (name, content) in enumerate(contents.items()):
            for mutant in mutants(content, seed, 40 // len(contents)):
                (tmp_path / name).write_bytes(mutant)
                found = what_is_read(path)
                n_refused += found is None
                assert found is None or found.equals(expected)
            (tmp_path / name).write_bytes(content)
        assert n_refused > 20  # the rest are bytes that hold nothing
        pd.testing.assert_frame_equal(read_evidence(path), expected)

    def test_a_file_with_a_row_less_or_cut_in_the_middle_is_refused(self, fitted, digits, tmp_path):
        path = tmp_path / "e.csv"
        export_evidence(fitted, digits[0][:2], path)
        text = path.read_text()
        for end in (text.rindex("\n", 0, -1) + 1, len(text) - 20):
            path.write_text(text[:end])
            with pytest.raises(
                ValueError, match=r"e\.csv' must be evidence .* found: its content|60"
            ):
                read_evidence(path)

    def test_a_csv_file_without_its_manifest_is_refused(self, fitted, digits, tmp_path):
        export_evidence(fitted, digits[0][:2], tmp_path / "e.csv")
        (tmp_path / "e.csv.json").unlink()
        with pytest.raises(ValueError, match=r"must lie beside it, found no 'e\.csv\.json'"):
            read_evidence(tmp_path / "e.csv")

    def test_another_version_of_the_columns_is_refused(self, fitted, digits, tmp_path):
        export_evidence(fitted, digits[0][:2], tmp_path / "e.csv")
        manifest = json.loads((tmp_path / "e.csv.json").read_text())
        manifest["schema_version"] += 1
        (tmp_path / "e.csv.json").write_text(json.dumps(manifest))
        with pytest.raises(ValueError, match=r"its schema must be of version \d+, found \d+"):
            read_evidence(tmp_path / "e.csv")

    @pytest.mark.parametrize("suffix", SUFFIXES)
    @pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"\xff\x00\xff"])
    def test_a_file_of_something_else_is_refused(self, tmp_path, suffix, content):
        path = tmp_path / f"evidence{suffix}"
        path.write_bytes(content)
        (tmp_path / f"{path.name}.json").write_bytes(content)
        with pytest.raises(ValueError, match=rf"evidence{suffix}' must be evidence as export_"):
            read_evidence(path)
        assert path.read_bytes() == content

    def test_a_table_of_something_else_is_refused(self, fitted, tmp_path):
        fitted.prototype_table().to_parquet(tmp_path / "p.parquet")
        with pytest.raises(ValueError, match=r"p\.parquet' must be evidence .* its manifest must"):
            read_evidence(tmp_path / "p.parquet")

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_what_is_missing_or_no_file_is_refused(self, tmp_path, suffix):
        path = tmp_path / f"evidence{suffix}"
        with pytest.raises(FileNotFoundError, match=path.name):
            read_evidence(path)
        assert not files(tmp_path)
        os.mkfifo(path)  # which would be waited for
        with pytest.raises(ValueError, match=r"must be a regular file, found .*FIFO"):
            read_evidence(path)

    @pytest.mark.parametrize(
        "statement",
        [
            "CREATE VIEW evidence AS WITH RECURSIVE n(i) AS "
            "(SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n",
            "CREATE TABLE evidence (i, j AS (zeroblob(1000000000)))",
            "CREATE VIRTUAL TABLE evidence USING fts5(i)",
            "CREATE TABLE other (i)",
        ],
        ids=["a view without end", "a column that is computed", "a virtual table", "none"],
    )
    def test_a_database_that_computes_is_refused(self, fitted, digits, tmp_path, statement):
        path = tmp_path / "e.sqlite"
        export_evidence(fitted, digits[0][:1], path)
        with sqlite3.connect(path) as connection:
            connection.execute("DROP TABLE evidence")
            connection.execute(statement)
        connection.close()
        with pytest.raises(ValueError, match="'evidence' must be a table whose values are stored"):
            read_evidence(path)

    @pytest.mark.parametrize("suffix", [".csv", ".sqlite"])
    @pytest.mark.parametrize("dtype", ["S20000000", "object", "datetime64[ns]", "V9", "nonsense"])
    def test_dtypes_that_no_evidence_has_are_refused(self, fitted, digits, tmp_path, suffix, dtype):
        path = tmp_path / f"e{suffix}"
        export_evidence(fitted, digits[0][:1], path)
        if suffix == ".csv":
            sidecar = Path(f"{path}.json")
            sidecar.write_text(sidecar.read_text().replace('"float64"', f'"{dtype}"'))
        else:
            with sqlite3.connect(path) as connection:
                change = "UPDATE manifest SET json = replace(json, ?, ?)"
                connection.execute(change, ('"float64"', f'"{dtype}"'))
            connection.close()
        with pytest.raises(ValueError, match="name dtypes of text and numbers"):
            read_evidence(path)

    def test_rows_that_take_no_room_are_refused(self, tmp_path):
        rows, path = ROWS_OF_ANY_FILE + 1, tmp_path / "e.parquet"
        (parquet,) = [each for each in FORMATS if ".parquet" in each.suffixes]
        with parquet.write(path) as writer:
            writer.append(pd.DataFrame({"similarity": np.zeros(rows)}))
            writer.finish(Manifest(rows, {"similarity": "float64"}, False).to_json())
        assert path.stat().st_size < rows / 100
        with pytest.raises(ValueError, match=r"rows must fit into its \d+ bytes"):
            read_evidence(path)

    def test_rows_without_end_are_refused(self, fitted, digits, tmp_path):
        path = tmp_path / "e.sqlite"
        export_evidence(fitted, digits[0][:1], path)
        with sqlite3.connect(path) as connection:
            ((text,),) = connection.execute("SELECT json FROM manifest").fetchall()
            manifest = json.dumps({**json.loads(text), "rows": 10**15})
            connection.execute("UPDATE manifest SET json = ?", (manifest,))
        connection.close()
        with pytest.raises(ValueError, match=r"rows must fit into its \d+ bytes"):
            read_evidence(path)
