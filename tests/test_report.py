"""A report says what the tables say, holds all that it needs, and works in a real browser."""

import base64
import hashlib
import io
import json
import re
from copy import deepcopy
from html.parser import HTMLParser
from importlib.metadata import version

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from quick import QUICK
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_protopnet import ProtoPNetClassifier
from sklearn_protopnet._fitted import fitted_network
from sklearn_protopnet.editing import PrototypeEditor
from sklearn_protopnet.editing._choice import LONGEST_NAME, Choice
from sklearn_protopnet.inspection import explain, write_report
from sklearn_protopnet.inspection._details import prototypes_digest
from sklearn_protopnet.inspection._pictures import picture_of
from sklearn_protopnet.inspection._report import _image_files

SMALL = {"image_shape": (8, 8), **QUICK}
FIELDS = (
    *("name", "file", "truth", "predicted", "probability", "margin", "next", "height", "width"),
    "claims",
)
SOURCE_BOX = ["source_y0", "source_y1", "source_x0", "source_x1"]
PART = ["prototype", "similarity", "weight", "contribution", "y0", "y1", "x0", "x1"]
HOSTILE = [
    "</script><img src=x onerror=alert(1)>",
    "\"'><svg onload=alert(2)>",
    "<!--<script> & &lt;b&gt; \u2028 \u202e rtl \U0001f98a",
]
VOID = {"meta", "input", "link", "br"}


def numbers(parts):
    """What `PART` names, of each part."""
    return np.array([part[: len(PART)] for part in parts])


class Parsed(HTMLParser):
    """A page, taken apart as a browser does."""

    def __init__(self, path):
        super().__init__()
        self.html = path.read_text(encoding="utf-8")
        self.tags, self.attributes, self.texts, self.elements = [], [], [], {}
        self._open = []
        self.feed(self.html)
        self.close()
        assert self._open == []
        self.data = json.loads(self.elements["report-data"])
        rows = json.loads(self.elements["report-rows"])
        self.rows = [dict(zip(FIELDS, row, strict=True)) for row in rows]
        for row in self.rows:
            row["logit"], row["others"], row["evidence"] = row["claims"][0]
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag not in VOID:
            self._open.append((tag, dict(attrs).get("id")))

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self._open.pop()

    def handle_endtag(self, tag):
        assert self._open.pop()[0] == tag

    def handle_data(self, data):
        tag, name = self._open[-1] if self._open else (None, None)
        if name is not None:
            self.elements[name] = self.elements.get(name, "") + data
        if tag not in {"script", "style"}:
            self.texts.append(data)

    @property
    def images(self):
        """Stored images, in the order of the rows."""
        blocks = [name for name in self.elements if re.fullmatch(r"images-\d+", name)]
        return [uri for name in blocks for uri in json.loads(self.elements[name])]


def decoded(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))


@pytest.fixture(scope="module")
def shown(digits):
    """Images and labels, some of them wrong on purpose."""
    X, y = digits
    y = y[:120].copy()
    y[::17] = (y[::17] + 1) % 10
    return X[:120], y


@pytest.fixture(scope="module")
def path(fitted, shown, tmp_path_factory):
    X, y = shown
    return write_report(fitted, X, tmp_path_factory.mktemp("report") / "report.html", y, top_k=3)


@pytest.fixture(scope="module")
def page(path):
    return Parsed(path)


@pytest.fixture(scope="module")
def hostile(digits, tmp_path_factory):
    """A report whose labels and names of images are code."""
    X, y = digits
    X, y = X[y < 3], y[y < 3]
    frame = pd.DataFrame(X, index=[f"{i} {HOSTILE[i % 3]}" for i in range(len(X))])
    labels = np.array(HOSTILE, dtype=object)[y]
    clf = ProtoPNetClassifier(**SMALL).fit(frame, labels)
    labels[:2] = "<b>unheard of</b>"
    target = tmp_path_factory.mktemp("hostile") / "report.html"
    return write_report(clf, frame, target, labels, title=HOSTILE[0])


@pytest.fixture(scope="module")
def named(fitted, shown, tmp_path_factory):
    """A report in which two prototypes have names."""
    clf = deepcopy(fitted)
    target = tmp_path_factory.mktemp("named") / "report.html"
    clf.prototype_names_ = np.array(["", "", "eye", "", "", '<b>"x"', *[""] * 24])
    X, y = shown
    return write_report(clf, X, target, y, top_k=30)


@pytest.fixture(scope="module")
def wordy(digits, tmp_path_factory):
    """A report of long names: ten classes without a gap, and one of a whole sentence."""
    X, y = digits
    labels = np.array([f"Black_footed_Albatros{i}" for i in range(10)], dtype=object)[y]
    clf = ProtoPNetClassifier(**SMALL).fit(X, labels)
    labels[::9] = "a bird that nobody has seen before, and that may not be any bird at all"[:70]
    return write_report(clf, X, tmp_path_factory.mktemp("wordy") / "report.html", labels)


class TestWhatItSays:
    def test_numbers_are_those_of_explain(self, fitted, shown, page):
        why = fitted.explain(shown[0], top_k=3).groupby("sample")
        assert sorted(int(row["name"]) for row in page.rows) == list(range(120))
        for row in page.rows:
            expected = why.get_group(int(row["name"]))
            found = numbers(row["evidence"])
            assert_allclose(found[:, :8], expected[PART].to_numpy(float), atol=1e-6)
            assert row["logit"] == pytest.approx(expected["logit"].iloc[0], abs=1e-6)
            assert row["probability"] == expected["probability"].iloc[0]
            assert page.data["labels"][row["predicted"]] == str(expected["class"].iloc[0])
            source = page.data["prototypes"][row["evidence"][0][0]]
            assert source["sample"] == expected["source_sample"].iloc[0]
            assert source["box"] == expected[SOURCE_BOX].iloc[0].tolist()

    def test_wrong_predictions_have_the_evidence_for_the_true_class(self, fitted, shown, page):
        why = fitted.explain(shown[0], classes="all", top_k=3).groupby(["sample", "class"])
        for row in page.rows:
            assert len(row["claims"]) == 1 + (row["truth"] != row["predicted"])
            for logit, _, parts in row["claims"][1:]:
                expected = why.get_group((int(row["name"]), row["truth"]))
                found = numbers(parts)
                assert_allclose(found, expected[PART].to_numpy(float), atol=1e-6)
                assert logit == pytest.approx(expected["logit"].iloc[0], abs=1e-6)

    def test_contributions_and_the_others_add_up_to_the_logit(self, page):
        for logit, others, parts in (claim for row in page.rows for claim in row["claims"]):
            assert sum(part[3] for part in parts) + others == pytest.approx(logit, abs=1e-5)
            for _, similarity, weight, contribution, *_ in parts:
                assert similarity * weight == pytest.approx(contribution, abs=1e-4)

    def test_the_margin_is_to_the_next_class(self, fitted, shown, page):
        logits = fitted.decision_function(shown[0])
        for row in page.rows:
            mine = logits[int(row["name"])]
            order = np.argsort(-mine)
            assert [row["predicted"], row["next"]] == order[:2].tolist()
            assert row["margin"] == pytest.approx(mine[order[0]] - mine[order[1]], abs=1e-6)

    def test_wrong_predictions_come_first_and_then_the_least_certain(self, page):
        key = [(row["truth"] == row["predicted"], row["margin"]) for row in page.rows]
        assert key == sorted(key)
        assert 0 < sum(is_right for is_right, _ in key) < 120

    def test_images_are_those_of_the_rows(self, shown, page):
        assert len(page.images) == 120
        for row, uri in zip(page.rows, page.images, strict=True):
            image = shown[0][int(row["name"])].reshape(8, 8)
            assert_array_equal(decoded(uri), np.rint(255 * image / image.max()))

    def test_the_summary_counts_what_is_right_and_wrong(self, fitted, shown, page):
        X, y = shown
        n_right = int((fitted.predict(X) == y).sum())
        assert f"Accuracy {n_right / 1.2:.1f} % ({n_right} right)" in page.text
        assert "Prototypes 30 (" in page.text
        assert f"Weights that are 0 {100 * (fitted.coef_ == 0).mean():.1f} %" in page.text
        counts = pd.crosstab(y, fitted.predict(X)).to_numpy().ravel().tolist()
        cells = page.html.split('class="confusion"')[1].split("</table>")[0]
        assert [int(n) for n in re.findall(r"<td class=\"number[^>]*>(\d+)<", cells)] == counts

    def test_the_gallery_has_all_prototypes_with_their_boxes(self, fitted, page):
        table = fitted.prototype_table()
        pattern = r'<li id="prototype-(\d+)">.*?<rect class="box c0" x="(\d+)" y="(\d+)" '
        pattern += r'width="(\d+)" height="(\d+)"/>.*?, training row (\d+)'
        found = np.array(re.findall(pattern, page.html, flags=re.DOTALL), dtype=int)
        y0, y1, x0, x1 = (table[name] for name in SOURCE_BOX)
        expected = [table["prototype"], x0, y0, x1 - x0, y1 - y0, table["source_sample"]]
        assert_array_equal(found, np.array(expected).T)

    def test_the_gallery_says_what_is_forbidden_and_required(self, fitted, digits, shown, tmp_path):
        edited = PrototypeEditor(fitted, *digits).forbid([1, 3]).require(4, min_weight=0.5)
        target = write_report(edited.classifier_, shown[0][:5], tmp_path / "r.html")
        pattern = r"</span>: weight (\N{MINUS SIGN}?[\d.]+)(?: \((\w+)\))?"
        said = re.findall(pattern, Parsed(target).html)
        expected = dict.fromkeys(range(30), "") | {1: "forbidden", 3: "forbidden", 4: "required"}
        assert [constraint for _, constraint in said] == list(expected.values())
        assert [weight for weight, constraint in said if constraint][:2] == ["0.000", "0.000"]

    def test_boxes_are_those_of_a_localizer(self, fitted, shown, tmp_path):
        target = write_report(fitted, shown[0][:5], tmp_path / "r.html", top_k=2, localizer="prp")
        parsed = Parsed(target)
        why = fitted.explain(shown[0][:5], top_k=2, localizer="prp").groupby("sample")
        for row in parsed.rows:
            expected = why.get_group(int(row["name"]))[PART[4:]].to_numpy()
            assert_array_equal(numbers(row["evidence"])[:, 4:8], expected)
        boxes = fitted.prototype_table(localizer="prp")[SOURCE_BOX].to_numpy()
        assert [each["box"] for each in parsed.data["prototypes"]] == boxes.tolist()

    def test_without_labels_nothing_is_right_or_wrong(self, fitted, shown, tmp_path):
        parsed = Parsed(write_report(fitted, shown[0], tmp_path / "r.html"))
        margins = [row["margin"] for row in parsed.rows]
        assert margins == sorted(margins)
        assert {row["truth"] for row in parsed.rows} == {-1}
        assert "Accuracy" not in parsed.text
        assert "True class" not in parsed.text
        assert not parsed.data["hasTruth"]

    def test_labels_that_the_classifier_does_not_know_are_shown(self, fitted, shown, tmp_path):
        y = shown[1][:6].astype(object)
        y[2], y[4] = "bird", "fish"
        parsed = Parsed(write_report(fitted, shown[0][:6], tmp_path / "r.html", y))
        assert parsed.data["labels"][10:] == ["bird", "fish"]
        rows = {row["name"]: row for row in parsed.rows}
        assert [rows[name]["truth"] for name in "24"] == [10, 11]
        assert len(rows["2"]["claims"]) == 1
        assert [row["name"] for row in parsed.rows[:3]] != ["0", "1", "3"]

    def test_many_classes_list_what_is_confused(self, digits, tmp_path):
        X, y = digits
        X, y = X[::5], y[::5] + 10 * (np.arange(60) % 2)
        clf = ProtoPNetClassifier(**SMALL).fit(X, y)
        y = clf.predict(X)
        parsed = Parsed(write_report(clf, X, tmp_path / "r.html", y))
        assert "No image is confused with another class." in parsed.text
        first, second = pd.Series(y).value_counts().index[:2]
        truth = y.astype(object)
        truth[np.flatnonzero(y == first)[:1]] = "a bird"
        truth[np.flatnonzero(y == second)[:2]] = "a fish"
        parsed = Parsed(write_report(clf, X, tmp_path / "r.html", truth))
        (table,) = re.findall(r'<table class="confusion">.*?</table>', parsed.html, re.DOTALL)
        cells = re.findall(r"<td[^>]*>(?:<bdi>)?(.*?)<", table)
        assert cells == ["a fish", str(second), "2", "a bird", str(first), "1"]

    def test_a_prototype_without_source_is_shown(self, digits, tmp_path):
        X, y = digits
        X, y = X[y < 3], y[y < 3]
        with pytest.warns(UserWarning, match="No training image of classes"):
            clf = ProtoPNetClassifier(**SMALL).fit(X, y, sample_weight=y != 2)
        parsed = Parsed(write_report(clf, X[:3], tmp_path / "r.html"))
        assert parsed.texts.count("no training image") == 2


class TestWhatItTakes:
    def test_a_frame_gives_the_names(self, shown, tmp_path):
        frame = pd.DataFrame(shown[0], index=[f"cell {i}" for i in range(120)])
        pipeline = make_pipeline(StandardScaler(), ProtoPNetClassifier(**SMALL))
        search = GridSearchCV(
            pipeline,
            {"protopnetclassifier__l1_weight": [1e-4]},
            cv=[(np.arange(60), np.arange(60, 120))],
            error_score="raise",
        ).fit(frame, shown[1])
        parsed = Parsed(write_report(search, frame[5:40], tmp_path / "r.html", top_k=1))
        why = explain(search, frame[5:40], top_k=1).set_index("sample")
        assert sorted(row["name"] for row in parsed.rows) == sorted(why.index)
        for row in parsed.rows:
            assert row["evidence"][0][3] == pytest.approx(
                why.loc[row["name"], "contribution"], abs=1e-6
            )

    def test_paths_of_images_of_any_size_are_taken(self, tmp_path):
        rng = np.random.default_rng(0)
        paths = []
        for i in range(12):
            pixels = rng.integers(0, 255, (60 + 10 * (i % 2), 120, 3)).astype(np.uint8)
            paths.append(tmp_path / f"<i>{i}.png")
            Image.fromarray(pixels).save(paths[-1])
        settings = {**SMALL, "image_shape": None, "image_size": (32, 48)}
        clf = ProtoPNetClassifier(**settings).fit(paths, np.arange(12) % 2)
        parsed = Parsed(write_report(clf, paths, tmp_path / "r.html", image_size_px=40))
        for row, uri in zip(parsed.rows, parsed.images, strict=True):
            i = int(row["name"])
            assert row["file"] == f"<i>{i}.png"
            assert (row["height"], row["width"]) == (60 + 10 * (i % 2), 120)
            assert uri.startswith("data:image/jpeg;base64,")
            assert decoded(uri).shape == (20 + 3 * (i % 2), 40, 3)

    def test_some_images_are_left_out(self, fitted, shown, tmp_path):
        parsed = Parsed(write_report(fitted, *_both(shown, tmp_path), max_images=30))
        assert len(parsed.rows) == 120
        assert len(parsed.images) == 30
        assert "The pictures of the first 30 images are stored" in parsed.text
        assert Parsed(write_report(fitted, *_both(shown, tmp_path), max_images=0)).images == []

    def test_all_prototypes_leave_nothing_to_the_others(self, fitted, shown, tmp_path):
        parsed = Parsed(write_report(fitted, shown[0][:3], tmp_path / "r.html", top_k=100))
        for row in parsed.rows:
            assert len(row["evidence"]) == 30
            assert row["others"] == pytest.approx(0, abs=1e-6)

    def test_a_progress_bar_is_shown_on_request(self, fitted, shown, tmp_path, capsys):
        write_report(fitted, shown[0][:3], tmp_path / "r.html")
        assert capsys.readouterr() == ("", "")
        write_report(fitted, shown[0][:3], tmp_path / "r.html", verbose=1)
        assert "3/3" in capsys.readouterr().err

    @pytest.mark.parametrize("kind", [">i4", ">f8", ">U3"])
    def test_labels_in_any_byte_order_are_taken(self, digits, tmp_path, kind):
        X, y = digits
        X, y = X[y < 2], y[y < 2]
        native = np.dtype(kind).newbyteorder("=")
        clf = ProtoPNetClassifier(**SMALL).fit(X, y.astype(native))
        given = y.astype(kind)
        given[0] = 9
        expected = write_report(clf, X, tmp_path / "native.html", given.astype(native))
        found = write_report(clf, X, tmp_path / "r.html", given)
        assert found.read_bytes() == expected.read_bytes()

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"top_k": 0}, r"top_k must be a positive integer, got 0\."),
            ({"image_size_px": 1.5}, r"image_size_px must be a positive integer, got 1\.5\."),
            ({"max_images": -1}, r"max_images must be an integer from 0 on, got -1\."),
            ({"localizer": "magic"}, "localizer must be one of"),
            ({"y": [0, 1]}, "inconsistent numbers of samples"),
            (
                {"y": ["0", "1", "0"]},
                r"y must hold classes of .*, got none of them but \['0', '1'\]",
            ),
            ({"y": [0, np.nan, 1]}, "y must have a label for each image, got missing ones"),
        ],
    )
    def test_what_is_refused(self, fitted, shown, tmp_path, changed, message):
        with pytest.raises(ValueError, match=message):
            write_report(fitted, shown[0][:3], tmp_path / "r.html", **changed)
        assert not list(tmp_path.iterdir())

    def test_a_title_that_is_no_text_is_refused(self, fitted, shown, tmp_path):
        with pytest.raises(TypeError, match=r"title must be a str, got 5\."):
            write_report(fitted, shown[0][:3], tmp_path / "r.html", title=5)
        assert not list(tmp_path.iterdir())

    def test_no_image_is_too_few(self, fitted, shown, tmp_path):
        with pytest.raises(ValueError, match="0 sample"):
            write_report(fitted, shown[0][:0], tmp_path / "r.html")
        assert not list(tmp_path.iterdir())

    def test_estimators_that_cannot_be_reported_are_refused(self, shown, tmp_path):
        with pytest.raises(NotFittedError):
            write_report(ProtoPNetClassifier(), shown[0], tmp_path / "r.html")
        other = make_pipeline(LogisticRegression(max_iter=1000)).fit(shown[0] / 16, shown[1])
        with pytest.raises(TypeError, match="must be a ProtoPNetClassifier"):
            write_report(other, shown[0], tmp_path / "r.html")


def _both(shown, folder):
    X, y = shown
    return X, folder / "r.html", y


class TestTheFile:
    def test_the_same_input_gives_the_same_bytes(self, fitted, shown, path, tmp_path):
        X, y = shown
        again = write_report(fitted, X, tmp_path / "other.html", list(y), top_k=3)
        assert again.read_bytes() == path.read_bytes()

    def test_a_report_that_fails_leaves_what_was_there(self, tmp_path):
        folder = tmp_path / "images"
        folder.mkdir()
        paths = [folder / f"{i}.png" for i in range(8)]
        for i, file in enumerate(paths):
            Image.fromarray(np.full((8, 8), 20 * i, np.uint8)).save(file)
        settings = {**SMALL, "image_shape": None, "image_size": (8, 8)}
        clf = ProtoPNetClassifier(**settings).fit(paths, np.arange(8) % 2)
        whole = paths[-1].read_bytes()
        at = whole.index(b"IDAT") + 4
        paths[-1].write_bytes(whole[:at] + bytes(8) + whole[at + 8 :])  # the header is right
        target = tmp_path / "r.html"
        target.write_bytes(b"precious")
        with pytest.raises(ValueError, match=r"7\.png"):
            write_report(clf, paths, target)
        assert target.read_bytes() == b"precious"
        assert set(tmp_path.iterdir()) == {target, folder}

    def test_it_needs_no_network_and_runs_nothing_else(self, page):
        assert not re.search(r"https?://|//[a-z]+\.", page.html.replace("// ", ""))
        (policy,) = (
            value
            for _, name, value in page.attributes
            if name == "content" and "default-src" in value
        )
        assert policy.startswith("default-src 'none'; img-src data:;")
        assert "unsafe" not in policy
        for tag in ("style", "script"):
            (code,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page.html, flags=re.DOTALL)
            digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
            assert f"{tag}-src 'sha256-{digest}'" in policy
        assert not [name for _, name, _ in page.attributes if name.startswith("on")]
        assert "style" not in {name for _, name, _ in page.attributes}

    def test_what_comes_from_the_data_is_text(self, hostile):
        parsed = Parsed(hostile)
        assert "img" not in parsed.tags
        assert "b" not in parsed.tags or parsed.tags.count("b") == 6  # numbers of prototypes
        assert not [name for _, name, _ in parsed.attributes if name.startswith("on")]
        assert parsed.data["labels"] == [*sorted(HOSTILE), "<b>unheard of</b>"]
        assert "<title>&lt;/script&gt;&lt;img src=x" in parsed.html
        for code in HOSTILE:
            assert code in parsed.texts
            assert code not in parsed.html
        assert "\u2028" not in parsed.elements["report-data"]

    def test_titles_and_true_labels_that_are_no_unicode_are_shown(self, fitted, shown, tmp_path):
        X = shown[0][:20]
        clf = ProtoPNetClassifier(**SMALL).fit(X, np.array(["a", "b"])[np.arange(20) % 2])
        truth = np.array(["a", "na\udcefve"], dtype=object)
        parsed = Parsed(write_report(clf, X[:2], tmp_path / "r.html", truth, title="th\udce9"))
        assert "<h1>th?</h1>" in parsed.html
        assert "<bdi>na?ve</bdi>" in parsed.html

    def test_there_are_headings_labels_and_texts_for_those_who_do_not_see(self, page):
        assert page.tags.count("h1") == 1
        assert [tag for tag in page.tags if re.fullmatch(r"h\d", tag)][:3] == ["h1", "h2", "h2"]
        assert page.html.split('id="images"')[0].count('role="img"') == 30
        for name in ("text", "truth", "predicted", "wrong"):
            before = page.html.split(f'id="{name}"')[0]
            assert before.rfind("<label") > before.rfind("</label>")
        scopes = re.findall(r"<th(?: scope=\"(\w+)\")?", page.html)
        assert set(scopes) <= {"col", "row", ""}
        assert 'lang="en"' in page.html

    def test_without_scripts_the_first_rows_are_a_table(self, page):
        table = page.html.split("<noscript>")[1].split("</noscript>")[0]
        names = re.findall(r"<tr><td><bdi>(\d+)</bdi></td>", table)
        assert names == [row["name"] for row in page.rows[:20]]
        assert table.count("<td>wrong</td>") == min(
            20, sum(row["truth"] != row["predicted"] for row in page.rows)
        )


class TestPictures:
    @pytest.mark.parametrize(
        ("shape", "image_size", "largest", "expected", "kind"),
        [
            ((8, 8), None, 96, (8, 8), "png"),
            ((200, 100, 3), None, 96, (96, 48, 3), "jpeg"),
            ((100, 50, 3), (64, 64), 96, (64, 32, 3), "jpeg"),
            ((8, 8, 1), (32, 32), 96, (32, 32), "png"),
            ((2, 500, 2), None, 96, (1, 96), "jpeg"),
            ((63,), None, 96, (1, 1), "png"),
        ],
    )
    def test_they_have_the_proportions_of_the_image(
        self, tmp_path, shape, image_size, largest, expected, kind
    ):
        X = np.random.default_rng(0).integers(0, 255, (4, *shape)).astype(np.uint8)
        clf = ProtoPNetClassifier(image_size=image_size, **QUICK).fit(X, [0, 1, 0, 1])
        page = Parsed(write_report(clf, X[:1], tmp_path / "r.html", image_size_px=largest))
        (uri,) = page.images
        assert uri.startswith(f"data:image/{kind};base64,")
        assert decoded(uri).shape == expected

    def test_what_is_transparent_is_white(self, tmp_path):
        X = np.zeros((4, 2, 2, 4), np.uint8)
        X[:, 0, 0] = 255, 0, 0, 255
        X[1::2, 1, 1] = 255
        clf = ProtoPNetClassifier(**QUICK).fit(X, [0, 1, 0, 1])
        (uri,) = Parsed(write_report(clf, X[:1], tmp_path / "r.html")).images
        assert decoded(uri).tolist() == [[[255, 0, 0], [255] * 3], [[255] * 3, [255] * 3]]


def test_pictures_that_are_left_out_are_not_read(fitted, digits, tmp_path, monkeypatch):
    sizes = []
    real = _image_files.data_uri
    monkeypatch.setattr(_image_files, "data_uri", lambda *args: sizes.append(1) or real(*args))
    for n_images in (0, 7, 100):
        write_report(fitted, digits[0][:40], tmp_path / "report.html", max_images=n_images)
        assert len(sizes) == min(n_images, 40)
        sizes.clear()


@pytest.mark.parametrize(("most", "alpha"), [(1.0, 0.4), (200.0, 1.0), (200.0, 255.0)])
def test_alpha_has_a_range_of_its_own(most, alpha):
    image = np.full((2, 2, 4), alpha)
    image[..., :3] = np.linspace(most / 2, most, 12).reshape(2, 2, 3)
    shown = picture_of(image)
    assert shown[..., :3].min() == 0
    assert shown[..., :3].max() == 1
    assert (shown[..., 3] == min(alpha, 1)).all()


NAMES_SHOWN = """
    return [...document.querySelectorAll("#table tr.sample th bdi")].map((e) => e.textContent);
"""


RIGHT_EDGES = """
    const { clientWidth, scrollWidth } = document.documentElement;
    return [innerWidth, clientWidth, scrollWidth,
            ...[...document.querySelectorAll("WITHIN *:not(svg *)")]
              .map((e) => Math.floor(e.getBoundingClientRect().right))];
"""


class TestInTheBrowser:
    @pytest.fixture(scope="class")
    def opened(self, browser, path):
        with browser.page(path) as found:
            yield found

    def test_it_opens_from_disk_and_asks_for_nothing(self, browser, path, page):
        with browser.page(path) as opened:
            names = opened.run(NAMES_SHOWN)
            assert names == [row["name"] for row in page.rows[:50]]
            assert opened.errors == []
            assert {url.split(":")[0] for url in opened.requests} <= {"file", "data"}
            assert not opened.run("return document.querySelector('noscript h2') !== null")
            status = opened.run("return document.getElementById('status').textContent")
            assert status == "Images 1 to 50 of 120."
            opened.send("Page.captureScreenshot")
            n_drawn = "return document.querySelectorAll('#table td.thumbnail image').length"
            assert opened.run(n_drawn) == 50

    def test_a_row_opens_to_its_evidence_by_the_keyboard(self, browser, path, page):
        with browser.page(path) as opened:
            opened.run("document.querySelector('#table tbody button').focus()")
            for key, is_open in (("Enter", True), (" ", False), ("Enter", True)):
                opened.press(key)
                found = opened.run("""
                    const button = document.activeElement;
                    return [button.getAttribute("aria-expanded"),
                            document.querySelectorAll("tr.evidence").length];
                """)
                assert found == [str(is_open).lower(), int(is_open)]
            opened.press("Tab")
            assert opened.run("return document.activeElement.textContent") == page.rows[1]["name"]

    @pytest.mark.parametrize("which", [0, 1])
    def test_the_evidence_is_that_of_the_row(self, browser, path, page, which):
        with browser.page(path) as opened:
            found = opened.run(
                """
                document.querySelector("#table tbody button").click();
                const all = document.querySelector("tr.evidence");
                const cases = [...all.querySelectorAll(".why")];
                const row = cases[Number("WHICH")];
                const edges = (svg) => [...svg.querySelectorAll("rect.box")].map(
                  (r) => ["y", "height", "x", "width"].map((n) => Number(r.getAttribute(n))));
                return {
                  formulas: [...row.querySelectorAll(".formula")].map((e) => e.textContent),
                  sum: row.querySelector(".sum").textContent,
                  answer: all.querySelector("p").textContent,
                  headings: [...all.querySelectorAll("h3")].map((e) => e.textContent),
                  whole: edges(row.querySelector("svg")),
                  parts: [...row.querySelectorAll(".parts svg.picture")].map(edges),
                  images: [...row.querySelectorAll("image")].map((e) => e.href.baseVal),
                  alts: [...row.querySelectorAll("svg.picture")].map((e) => e.ariaLabel),
                };
            """.replace("WHICH", str(which))
            )
            assert opened.errors == []
        row = page.rows[0]
        logit, others, parts = row["claims"][which]
        evidence = pd.DataFrame(numbers(parts), columns=PART)
        assert_allclose(
            [_numbers(formula) for formula in found["formulas"]],
            evidence[["similarity", "weight", "contribution"]],
            atol=0.0051,
        )
        assert_allclose(_numbers(found["sum"]), [logit - others, others, logit], atol=0.0051)
        assert "all other 27 prototypes" in found["sum"]
        truth = page.data["labels"][row["truth"]]
        assert f"This is wrong: it is of class {truth}, which has logit" in found["answer"]
        predicted = page.data["labels"][row["predicted"]]
        assert found["headings"] == [f"Why class {predicted}?", f"What speaks for class {truth}?"]
        boxes = [[y0, y1 - y0, x0, x1 - x0] for y0, y1, x0, x1 in evidence[PART[4:]].to_numpy()]
        assert found["whole"] == boxes
        assert [drawn[-1] for drawn in found["parts"][::2]] == boxes
        assert {len(drawn) for drawn in found["parts"][::2]} == {5}  # patches that are pooled
        sources = [page.data["prototypes"][int(j)]["box"] for j in evidence["prototype"]]
        assert found["parts"][1::2] == [[[y0, y1 - y0, x0, x1 - x0]] for y0, y1, x0, x1 in sources]
        assert found["images"][0] == found["images"][1] == page.images[0]
        assert len(found["images"]) == 7
        assert all(found["alts"])

    def test_rows_can_be_sorted(self, browser, path, page):
        with browser.page(path) as opened:
            click = """
                document.querySelector('#table th[data-key="{}"] button').click();
                return [...document.querySelectorAll("#table th[aria-sort]")]
                  .map((e) => [e.dataset.key, e.ariaSort]);
            """
            assert opened.run(click.format("sample")) == [["sample", "ascending"]]
            assert opened.run(NAMES_SHOWN) == [str(i) for i in range(50)]
            assert opened.run(click.format("sample")) == [["sample", "descending"]]
            assert opened.run(NAMES_SHOWN) == [str(119 - i) for i in range(50)]
            assert opened.run(click.format("probability")) == [["probability", "ascending"]]
            expected = sorted(page.rows, key=lambda row: row["probability"])
            assert opened.run(NAMES_SHOWN) == [row["name"] for row in expected[:50]]
            opened.run(click.format("result"))
            assert opened.run(NAMES_SHOWN) == [row["name"] for row in page.rows[:50]]
            opened.run(click.format("result"))
            assert opened.run(NAMES_SHOWN) == [row["name"] for row in page.rows[:-51:-1]]

    def test_rows_can_be_filtered(self, browser, path, page):
        with browser.page(path) as opened:
            opened.run("document.getElementById('wrong').click()")
            wrong = [row for row in page.rows if row["truth"] != row["predicted"]]
            assert opened.run(NAMES_SHOWN) == [row["name"] for row in wrong]
            status = "return document.getElementById('status').textContent"
            assert opened.run(status) == (
                f"Images 1 to {len(wrong)} of {len(wrong)}, chosen from 120."
            )
            choose = """
                const select = document.getElementById("{}");
                select.value = "{}";
                select.dispatchEvent(new Event("change"));
            """
            opened.run(choose.format("truth", wrong[0]["truth"]))
            expected = [row["name"] for row in wrong if row["truth"] == wrong[0]["truth"]]
            assert opened.run(NAMES_SHOWN) == expected
            opened.run("document.getElementById('wrong').click()")
            opened.run(choose.format("truth", ""))
            opened.run(choose.format("predicted", 4))
            expected = [row["name"] for row in page.rows if row["predicted"] == 4]
            assert opened.run(NAMES_SHOWN) == expected
            opened.run(choose.format("predicted", ""))
            opened.run("document.getElementById('text').focus()")
            opened.type("11")
            expected = [row["name"] for row in page.rows if "11" in row["name"]]
            assert opened.run(NAMES_SHOWN) == expected
            opened.type("no such image")
            assert opened.run(status) == "No image, chosen from 120."

    def test_rows_come_in_pages(self, browser, path, page):
        with browser.page(path) as opened:
            state = """
                return ["page", "before", "after"].map((id) => document.getElementById(id))
                  .map((e) => e.disabled ?? e.textContent);
            """
            assert opened.run(state) == ["Page 1 of 3", True, False]
            opened.run("for (const i of [1, 2]) document.getElementById('after').click()")
            assert opened.run(state) == ["Page 3 of 3", False, True]
            assert opened.run("return document.activeElement.id") == "before"
            assert opened.run(NAMES_SHOWN) == [row["name"] for row in page.rows[100:]]
            opened.run("document.getElementById('before').click()")
            assert opened.run(NAMES_SHOWN) == [row["name"] for row in page.rows[50:100]]

    def test_all_rows_open_and_close(self, browser, path):
        with browser.page(path) as opened:
            n_open = "return document.querySelectorAll('tr.evidence').length"
            opened.run("document.getElementById('open').click()")
            assert opened.run(n_open) == 50
            opened.run("document.getElementById('close').click()")
            assert opened.run(n_open) == 0

    @pytest.mark.parametrize("which", ["path", "hostile", "wordy"])
    def test_nothing_sticks_out(self, browser, request, which):
        with browser.page(request.getfixturevalue(which)) as opened:
            opened.run("document.querySelector('#table tbody button').click()")
            for width in (320, 360, 640, 641, 660, 752, 1000):
                opened.resize(width)
                for section in ("#prototypes", "#images"):
                    found = opened.run(RIGHT_EDGES.replace("WITHIN", section))
                    assert found[0] == width
                    assert max(found[2:]) <= found[1], width  # without the scroll bar
            opened.run("document.getElementById('open').click()")
            opened.send("Emulation.setEmulatedMedia", media="print")
            for width in (642, 717, 1000):  # A4 with margins of 2 and of 1 cm, and A3
                opened.resize(width)
                found = opened.run(RIGHT_EDGES.replace("WITHIN", "main"))
                assert max(found[2:]) <= found[1], width

    def test_colours_follow_the_night(self, browser, path):
        colour = "return getComputedStyle(document.body).backgroundColor"
        with browser.page(path, prefers_color_scheme="dark") as opened:
            assert opened.run(colour) == "rgb(22, 24, 27)"
        with browser.page(path, prefers_color_scheme="light") as opened:
            assert opened.run(colour) == "rgb(255, 255, 255)"

    def test_print_has_the_rows_that_are_chosen(self, browser, path):
        with browser.page(path) as opened:
            opened.run("""
                addEventListener("beforeprint", () => {
                  window.nPrinted = document.querySelectorAll("#table tr.sample").length;
                });
            """)
            pdf = base64.b64decode(opened.send("Page.printToPDF")["data"])
            assert pdf.startswith(b"%PDF")
            assert opened.run("return window.nPrinted") == 120
            assert len(opened.run(NAMES_SHOWN)) == 50
            opened.send("Emulation.setEmulatedMedia", media="print")
            hidden = "return getComputedStyle(document.querySelector('.controls')).display"
            assert opened.run(hidden) == "none"

    def test_data_never_becomes_code(self, browser, hostile):
        with browser.page(hostile) as opened:
            opened.run("document.getElementById('open').click()")
            found = opened.run("""
                return [document.images.length, document.scripts.length,
                        document.querySelector("#table tr.sample th bdi").textContent,
                        document.getElementById("table").textContent];
            """)
            assert opened.errors == []
            assert {url.split(":")[0] for url in opened.requests} <= {"file", "data"}
        assert found[0] == 0
        parsed = Parsed(hostile)
        assert found[1] == parsed.tags.count("script")
        assert found[2] == parsed.rows[0]["name"]
        assert "which the classifier does not know" in found[3]

    def test_foreign_code_would_not_run(self, browser, path, tmp_path):
        code = "<script>window.hasRun = true</script><img src='https://127.0.0.1:1/x'>"
        target = tmp_path / "changed.html"
        target.write_text(
            path.read_text(encoding="utf-8").replace("</main>", f"{code}</main>", 1),
            encoding="utf-8",
        )
        with browser.page(target) as opened:
            assert not opened.run("return window.hasRun === true")
            assert len(opened.run(NAMES_SHOWN)) == 50
            assert opened.forbidden == ["csp"]

    def test_without_labels_the_least_certain_rows_come_first(
        self, browser, fitted, shown, tmp_path
    ):
        target = write_report(fitted, shown[0][:4], tmp_path / "r.html", max_images=2, top_k=30)
        with browser.page(target) as opened:
            opened.run("document.getElementById('open').click()")
            found = opened.run("""
                return [document.querySelectorAll("#table td.thumbnail image").length,
                        [...document.querySelectorAll(".sum")].map((e) => e.textContent),
                        document.querySelector("#table th[aria-sort]").dataset.key];
            """)
            assert opened.errors == []
        assert found[0] == 2
        assert all(text.startswith("all shown ") for text in found[1])
        assert found[2] == "margin"


def _numbers(text):
    return [float(n) for n in re.findall(r"[-+]?\d+\.\d+", text.replace("\N{MINUS SIGN}", "-"))]


COUNT = "return document.getElementById('count').textContent"
TICKED = """
    return [...document.querySelectorAll("#prototypes input:checked")].map((e) => e.ariaLabel);
"""
CONTROLS = """
    return [...document.querySelectorAll("#choose, .choice, #choice")]
      .map((e) => [e.className || e.id, e.checkVisibility({ contentVisibilityAuto: false })]);
"""
CAPTIONS = """
    return [...document.querySelectorAll("#prototypes figcaption")].map((e) => e.textContent);
"""
WOULD_WARN = """
    return !window.dispatchEvent(new Event("beforeunload", { cancelable: true }));
"""


def box(kind, j):
    return f'input[aria-label="{kind} prototype {j}"]'


def field(j):
    return f'input[aria-label="name of prototype {j}"]'


def rename(opened, j, name):
    """Write over a name, as a user does."""
    opened.run(f"document.querySelector('{field(j)}').select()")
    if name:
        opened.type(name)
    else:
        opened.press("Delete")


def save(browser, opened, folder):
    return browser.download(folder, lambda: opened.click("#save"))


class TestTheChoice:
    def test_the_mouse_ticks_one_box_of_a_prototype(self, browser, path):
        with browser.page(path) as opened:
            assert opened.run(COUNT) == "0 forbidden, 0 kept, 0 named"
            for kind, j, ticked, count in (
                ("forbid", 7, ["forbid prototype 7"], "1 forbidden, 0 kept, 0 named"),
                ("keep", 7, ["keep prototype 7"], "0 forbidden, 1 kept, 0 named"),
                (
                    *("forbid", 0, ["forbid prototype 0", "keep prototype 7"]),
                    "1 forbidden, 1 kept, 0 named",
                ),
                (
                    *("forbid", 7, ["forbid prototype 0", "forbid prototype 7"]),
                    "2 forbidden, 0 kept, 0 named",
                ),
                ("forbid", 0, ["forbid prototype 7"], "1 forbidden, 0 kept, 0 named"),
            ):
                opened.click(box(kind, j))
                assert opened.run(TICKED) == ticked
                assert opened.run(COUNT) == count
            opened.click(f"label:has({box('keep', 29)})")
            assert opened.run(TICKED) == ["forbid prototype 7", "keep prototype 29"]
            assert opened.errors == []

    def test_the_keyboard_is_enough(self, browser, path, tmp_path):
        with browser.page(path, prefers_reduced_motion="reduce") as opened:
            focused = "return document.activeElement.ariaLabel ?? document.activeElement.id"
            opened.run("document.querySelector('nav a:last-of-type').focus()")
            while not opened.run(focused).startswith("forbid"):
                opened.press("Tab")
            opened.press(" ")
            for expected in ("keep prototype 0", "name of prototype 0", "forbid prototype 1"):
                opened.press("Tab")
                assert opened.run(focused) == expected
            opened.press("Tab")
            opened.press(" ")
            opened.press("Tab")
            opened.type("left eye")
            assert opened.run(COUNT) == "1 forbidden, 1 kept, 1 named"
            for _ in range(3 * 28 + 1):
                opened.press("Tab")
                assert opened.run("""
                    const bar = document.getElementById("choice").getBoundingClientRect();
                    const { top, bottom } = document.activeElement.getBoundingClientRect();
                    return document.activeElement.id === "save"
                      || (0 <= top && bottom <= bar.top);
                """)
            assert opened.run(focused) == "save"
            file = browser.download(tmp_path / "choice", lambda: opened.press("Enter"))
            choice = Choice.read(file)
            opened.press("Tab")
            opened.press(" ")
            assert opened.run(COUNT) == "0 forbidden, 0 kept, 0 named"
        assert choice.forbid.tolist() == [0]
        assert choice.keep.tolist() == [1]
        assert choice.names == {1: "left eye"}

    def test_the_saved_file_says_what_was_chosen(self, browser, fitted, shown, named, tmp_path):
        digest = prototypes_digest(fitted_network(fitted).prototypes)
        with browser.page(named) as opened:
            for j in (21, 3, 10):
                opened.click(box("forbid", j))
            for j in (29, 4):
                opened.click(box("keep", j))
            rename(opened, 10, 'na\u00efve \U0001f98a "\\')
            rename(opened, 2, "")
            rename(opened, 5, "beak")
            rename(opened, 0, "no")
            rename(opened, 0, "")
            assert opened.run(COUNT) == "3 forbidden, 2 kept, 3 named"
            file = save(browser, opened, tmp_path / "first")
            assert file.name == "choice.json"
            assert json.loads(file.read_text(encoding="utf-8")) == {
                "schema": "sklearn_protopnet.choice",
                "schema_version": 1,
                "model_digest": digest,
                "forbid": [3, 10, 21],
                "keep": [4, 29],
                "names": {"2": "", "5": "beak", "10": 'na\u00efve \U0001f98a "\\'},
            }
            rename(opened, 2, "eye")  # as it was
            rename(opened, 5, '<b>"x"')
            again = save(browser, opened, tmp_path / "second")
            assert opened.errors == []
            assert {url.split(":")[0] for url in opened.requests} <= {"file", "data", "blob"}
        choice = Choice.read(again)
        assert choice.forbid.tolist() == [3, 10, 21]
        assert choice.keep.tolist() == [4, 29]
        assert choice.names == {10: 'na\u00efve \U0001f98a "\\'}
        assert choice.model_digest == digest

    def test_what_is_pasted_becomes_a_name_that_can_be_read(self, browser, path, tmp_path):
        with browser.page(path) as opened:
            rename(opened, 1, " left\teye\x00 \x9f")
            rename(opened, 2, 2 * LONGEST_NAME * "x")
            rename(opened, 3, " \t ")
            opened.run(f"""
                const field = document.querySelector('{field(4)}');
                field.value = "\\ud83e" + "\\u{{1f98a}}".repeat({LONGEST_NAME + 1});
                for (const kind of ["input", "change"]) field.dispatchEvent(new Event(kind));
            """)
            assert opened.run(f"return document.querySelector('{field(1)}').value") == "left eye"
            assert opened.run(COUNT) == "0 forbidden, 0 kept, 3 named"
            choice = Choice.read(save(browser, opened, tmp_path / "choice"))
        fox = LONGEST_NAME * "\U0001f98a"
        assert choice.names == {1: "left eye", 2: LONGEST_NAME * "x", 4: fox}

    def test_names_are_shown_wherever_prototypes_are(self, browser, fitted, named, path):
        captions = """
            return [...document.querySelectorAll("tr.evidence .parts figcaption")]
              .map((e) => e.textContent).filter((text) => /^prototype (2|5|7)\\b/.test(text));
        """
        with browser.page(named) as opened:
            opened.run("document.querySelector('#table tbody button').click()")
            rows = fitted.prototype_sample_indices_

            def expected(**names):
                found = [
                    f"prototype {j}{f', {name}' if name else ''}: training row {rows[j]}, "
                    f"class {fitted.prototype_classes_[j]}"
                    for j, name in zip((2, 5, 7), names.values(), strict=True)
                ]
                return sorted(2 * found)  # it is shown for the predicted and for the true class

            assert sorted(opened.run(captions)) == expected(two="eye", five='<b>"x"', seven="")
            rename(opened, 2, "")
            rename(opened, 7, "<img src=x onerror=alert(1)>&lt;")
            after = expected(two="", five='<b>"x"', seven="<img src=x onerror=alert(1)>&lt;")
            assert sorted(opened.run(captions)) == after
            opened.run("document.getElementById('close').click()")
            opened.run("document.querySelector('#table tbody button').click()")
            assert sorted(opened.run(captions)) == after
            gallery = opened.run(CAPTIONS)
            assert gallery[2].startswith("2: weight ")
            assert gallery[5].startswith('5, <b>"x": weight ')
            assert gallery[7].startswith("7, <img src=x onerror=alert(1)>&lt;: weight ")
            assert opened.run("return document.images.length") == 0
            assert opened.run("return document.querySelectorAll('bdi b').length") == 0
            assert opened.errors == []
        parsed = Parsed(named)
        assert [each["name"] for each in parsed.data["prototypes"]][:6] == [
            *("", "", "eye", "", "", '<b>"x"')
        ]
        assert parsed.tags.count("b") == 30  # numbers of prototypes
        assert '<b>"x"' not in parsed.html
        with browser.page(path) as opened:
            gallery = opened.run(CAPTIONS)
        assert all(text.startswith(f"{j}: weight ") for j, text in enumerate(gallery))

    def test_it_outlasts_all_that_the_table_does(self, browser, path):
        with browser.page(path) as opened:
            opened.click(box("forbid", 4))
            opened.click(box("keep", 8))
            rename(opened, 8, "wing")
            opened.run("""
                document.querySelector('#table th[data-key="sample"] button').click();
                document.getElementById("wrong").click();
                document.getElementById("open").click();
                document.getElementById("wrong").click();
                document.getElementById("after").click();
            """)
            opened.send("Page.printToPDF")
            opened.resize(500)
            assert opened.run(TICKED) == ["forbid prototype 4", "keep prototype 8"]
            assert opened.run(f"return document.querySelector('{field(8)}').value") == "wing"
            assert opened.run(COUNT) == "1 forbidden, 1 kept, 1 named"

    def test_clear_leaves_what_the_page_came_with(self, browser, named, tmp_path):
        with browser.page(named) as opened:
            before = opened.run(CAPTIONS)
            opened.run("window.confirm = (text) => { window.asked = text; return false; };")
            opened.click("#clear")
            opened.click(box("forbid", 2))
            opened.click(box("keep", 3))
            rename(opened, 2, "ear")
            rename(opened, 5, "")
            chosen = opened.run(CAPTIONS)
            assert chosen != before
            assert not opened.run("return window.asked")
            opened.click("#clear")
            assert opened.run("return window.asked") == "This choice is not saved. Clear it?"
            assert opened.run(COUNT) == "1 forbidden, 1 kept, 2 named"
            assert opened.run(CAPTIONS) == chosen
            save(browser, opened, tmp_path / "choice")
            opened.click("#clear")  # what is saved needs no question
            assert opened.run(COUNT) == "0 forbidden, 0 kept, 0 named"
            assert opened.run(TICKED) == []
            assert opened.run(CAPTIONS) == before
            values = [
                opened.run(f"return document.querySelector('{field(j)}').value") for j in (2, 5)
            ]
            assert values == ["eye", '<b>"x"']
            opened.click(box("forbid", 9))
            opened.run("window.confirm = () => true;")
            opened.click("#clear")
            assert opened.run(TICKED) == []

    def test_leaving_warns_of_a_choice_that_is_not_saved(self, browser, path, tmp_path):
        with browser.page(path) as opened:
            assert not opened.run(WOULD_WARN)
            opened.click(box("keep", 1))
            assert opened.run(WOULD_WARN)
            save(browser, opened, tmp_path / "choice")
            assert not opened.run(WOULD_WARN)
            rename(opened, 1, "eye")
            assert opened.run(WOULD_WARN)
            rename(opened, 1, "")
            assert not opened.run(WOULD_WARN)  # it is what was saved
            opened.click(box("keep", 1))
            assert not opened.run(WOULD_WARN)  # there is nothing to lose
            opened.click(box("keep", 1))
            opened.click(box("keep", 2))
            opened.run("setTimeout(() => location.assign('about:blank'))")
            opened.wait_for("Page.javascriptDialogOpening", type="beforeunload")
            opened.send("Page.handleJavaScriptDialog", accept=False)
            assert opened.run(TICKED) == ["keep prototype 1", "keep prototype 2"]

    def test_paper_shows_names_and_no_controls(self, browser, named):
        with browser.page(named) as opened:
            assert all(is_shown for _, is_shown in opened.run(CONTROLS))
            rename(opened, 3, "claw")
            opened.send("Emulation.setEmulatedMedia", media="print")
            found = opened.run(CONTROLS)
            assert len(found) == 32
            assert not any(is_shown for _, is_shown in found)
            text = opened.run("return document.getElementById('prototypes').innerText")
            for start in ("2, eye: weight", "3, claw: weight", '5, <b>"x": weight'):
                assert start in text
            opened.click(box("keep", 3))  # it is not there to be clicked
            assert opened.run(TICKED) == []
            opened.send("Emulation.setEmulatedMedia", media="")
            rename(opened, 3, "")

    def test_without_scripts_there_are_names_and_no_controls(self, browser, named):
        with browser.page(named) as opened:
            opened.send("Emulation.setScriptExecutionDisabled", value=True)
            opened.reload()
            found = opened.run(CONTROLS)
            assert sorted(found) == [["choice", False], ["choose", False]]
            assert opened.run("return document.querySelectorAll('#prototypes input').length") == 0
            text = opened.run("return document.getElementById('prototypes').innerText")
            assert "2, eye: weight" in text
            assert "Save choice" not in text

    def test_a_prototype_without_source_can_be_chosen(self, browser, digits, tmp_path):
        X, y = digits
        X, y = X[y < 3], y[y < 3]
        with pytest.warns(UserWarning, match="No training image of classes"):
            clf = ProtoPNetClassifier(**SMALL).fit(X, y, sample_weight=y != 2)
        clf.prototype_names_ = np.array(["", "", "", "", "", "blank"])
        with browser.page(write_report(clf, X[:3], tmp_path / "r.html", top_k=6)) as opened:
            opened.click(box("forbid", 5))
            rename(opened, 4, "void")
            choice = Choice.read(save(browser, opened, tmp_path / "choice"))
            opened.run("document.querySelector('#table tbody button').click()")
            captions = opened.run("""
                return [...document.querySelectorAll(".parts figcaption")]
                  .map((e) => e.textContent).filter((text) => text.includes(" of class "));
            """)
        assert choice.forbid.tolist() == [5]
        assert choice.names == {4: "void"}
        assert sorted(captions) == [
            *("prototype 4, void of class 2", "prototype 5, blank of class 2")
        ]


def test_many_images_are_some_at_a_time(browser, fitted, digits, tmp_path):
    X, y = digits
    few = Parsed(write_report(fitted, X, tmp_path / "few.html", y))
    rows = np.arange(2_100) % len(X)
    target = write_report(fitted, X[rows], tmp_path / "r.html", y[rows])
    parsed = Parsed(target)
    expected = {row["name"]: (row, uri) for row, uri in zip(few.rows, few.images, strict=True)}
    assert sorted(int(row["name"]) for row in parsed.rows) == list(range(2_100))
    for row, uri in zip(parsed.rows, parsed.images, strict=True):
        same, picture = expected[str(rows[int(row["name"])])]
        assert {**row, "name": ""} == {**same, "name": ""}
        assert uri == picture
    with browser.page(target) as opened:
        n_elements = opened.run("""
            document.querySelector('#table th[data-key="sample"] button').click();
            return document.querySelectorAll("*").length;
        """)
        assert opened.run(NAMES_SHOWN) == [str(i) for i in range(50)]
    assert n_elements < 5_000


def test_the_version_is_that_of_the_package(page):
    assert f"sklearn-protopnet {version('sklearn-protopnet')}" in page.text
