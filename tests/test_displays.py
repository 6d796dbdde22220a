"""Displays draw what the tables say."""

import re
import sys
from io import BytesIO
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from quick import QUICK
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC

from sklearn_protopnet import ProtoPNetClassifier
from sklearn_protopnet.editing import PrototypeEditor
from sklearn_protopnet.inspection import (
    ExplanationDisplay,
    LastLayerPathDisplay,
    PrototypeDisplay,
    SimilarityMapDisplay,
    localize,
    similarity_maps,
)
from sklearn_protopnet.inspection._pictures import format_number

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.patches import Rectangle

BOX = ["y0", "y1", "x0", "x1"]
SOURCE_BOX = ["source_y0", "source_y1", "source_x0", "source_x1"]
SMALL = {"image_shape": (8, 8), **QUICK, "n_prototypes_per_class": 3, "n_pooled_patches": 1}
NO_IMAGE = "no training\nimage"


@pytest.fixture(scope="module")
def few(digits):
    """Sixty images of three classes."""
    X, y = digits
    rows = np.concatenate([np.flatnonzero(y == label)[:20] for label in range(3)])
    return X[rows], y[rows]


@pytest.fixture(scope="module")
def fitted(few):
    return ProtoPNetClassifier(**SMALL).fit(*few)


@pytest.fixture(scope="module")
def search(few):
    """A search that ends in a pipeline, which turns black and white around, with a classifier."""
    X, y = few
    pipeline = make_pipeline(FunctionTransformer(inverted), ProtoPNetClassifier(**SMALL))
    grid = {"protopnetclassifier__l1_weight": [1e-4]}
    split = np.arange(0, 60, 2), np.arange(1, 60, 2)
    return GridSearchCV(pipeline, grid, cv=[split]).fit(X, y)


def inverted(X):
    """Turn black and white digits around; an array also of a frame."""
    return 16 - np.asarray(X)


def boxes(ax):
    """y0, y1, x0, x1 of all rectangles, in pixels."""
    found = []
    for patch in ax.patches:
        assert isinstance(patch, Rectangle)
        x, y = patch.get_xy()
        found.append([y, y + patch.get_height(), x, x + patch.get_width()])
    return [[edge + 0.5 for edge in box] for box in found]


def numbers(text):
    return [float(n) for n in re.findall(r"-?\d+\.\d+", text.replace("\N{MINUS SIGN}", "-"))]


def all_texts(figure):
    return [text.get_text() for text in figure.findobj(mpl.text.Text)]


def shown(ax):
    return ax.images[0].get_array()


def test_an_explanation_has_the_boxes_images_and_numbers_of_the_table(fitted, few):
    X, _ = few
    display = ExplanationDisplay.from_estimator(fitted, X, sample=7, top_k=3)
    why = fitted.explain(X[7:8])
    drawn = why[:3]
    assert display.axes_.shape == (3, 2)
    assert boxes(display.image_ax_) == drawn[BOX].to_numpy().tolist()
    assert np.allclose(shown(display.image_ax_), X[7].reshape(8, 8) / X[7].max())
    texts = all_texts(display.figure_)
    for axes, text, (_, row) in zip(display.axes_, display.texts_, drawn.iterrows(), strict=True):
        source = row["source_sample"]
        assert boxes(axes[0]) == [row[BOX].tolist()]
        assert boxes(axes[1]) == [row[SOURCE_BOX].tolist()]
        assert np.allclose(shown(axes[0]), shown(display.image_ax_))
        assert np.allclose(shown(axes[1]), X[source].reshape(8, 8) / X[source].max())
        assert f"training row {source}, class {row['prototype_class']}" in texts
        expected = row[["similarity", "weight", "contribution"]].tolist()
        assert np.allclose(numbers(text.get_text()), expected, atol=0.0051)
    assert {f"Why class {fitted.predict(X[7:8])[0]}?", "image 7"} <= set(texts)
    assert any(text.startswith("Predicted class: ") for text in texts)


@pytest.mark.parametrize(("top_k", "said"), [(2, "other 7 prototypes"), (8, "other 1 prototype ")])
def test_the_stated_sum_is_the_logit(fitted, few, top_k, said):
    X, _ = few
    label = (fitted.predict(X[3:4])[0] + 1) % 3
    display = ExplanationDisplay.from_estimator(fitted, X, sample=3, class_label=label, top_k=top_k)
    logit = fitted.decision_function(X[3:4])[0, label]
    contributions = fitted.explain(X[3:4], classes=[label])["contribution"]
    stated = display.sum_text_.get_text()
    expected = [contributions[:top_k].sum(), contributions[top_k:].sum(), logit]
    assert np.allclose(numbers(stated), expected, atol=0.0051)
    assert said in stated
    texts = all_texts(display.figure_)
    assert f"What speaks for class {label}?" in texts
    assert any(f"The predicted class is {display.predicted_class}." in text for text in texts)


def test_nothing_is_left_of_all_prototypes(fitted, few):
    display = ExplanationDisplay.from_estimator(fitted, few[0], top_k=20)
    text = display.sum_text_.get_text()
    assert display.axes_.shape == (9, 2)
    assert text.startswith("all shown ")
    assert numbers(text)[-1] == pytest.approx(fitted.decision_function(few[0][:1]).max(), abs=0.006)


@pytest.mark.parametrize("class_label", [None, 2])
def test_rows_that_are_drawn_have_boxes_of_the_localizer(fitted, few, class_label):
    X, _ = few
    display = ExplanationDisplay.from_estimator(
        fitted, X, sample=3, class_label=class_label, top_k=2, localizer="prp"
    )
    classes = "predicted" if class_label is None else [class_label]
    by_localizer = fitted.explain(X[3:4], classes=classes, localizer="prp")
    fields = fitted.explain(X[3:4], classes=classes)
    expected = pd.concat([by_localizer[:2], fields[2:]], ignore_index=True)
    expected["sample"] = 3
    pd.testing.assert_frame_equal(display.evidence, expected, check_exact=True)
    assert display.evidence.attrs == expected.attrs


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((10, 6, 3), np.uint8),
        ((6, 10, 4), np.uint8),
        ((8, 5, 1), np.float64),
        ((8, 5, 2), np.uint8),
        ((1, 1, 7), np.float64),
    ],
)
def test_any_shape_of_images_is_drawn(fitted, few, shape, dtype):
    why = fitted.explain(few[0][:1])
    why[BOX] = whole = [0, shape[0], 0, shape[1]]
    why["box_kind"] = "whole_image"
    why[SOURCE_BOX] = [0, 1, 0, 1]
    pixels = np.random.default_rng(0).integers(0, 200, shape).astype(dtype)
    display = ExplanationDisplay(
        evidence=why, image=pixels, source_images=[pixels], predicted_class=0, image_name="it"
    ).plot()
    image = pixels / 255 if dtype == np.uint8 else pixels
    image = image if shape[2] in {3, 4} else image.mean(2)
    if dtype != np.uint8:
        span = image.max() - image.min()
        image = (image - image.min()) / (span or 1)
    assert np.allclose(shown(display.image_ax_), image)
    assert boxes(display.image_ax_) == [whole]
    assert not display.image_ax_.patches[0].get_clip_on()  # a box on the border is drawn whole
    texts = all_texts(display.figure_)
    assert {"it", "the whole image"} <= set(texts)
    assert any(text.endswith(", all of it") for text in texts) == (shape[:2] == (1, 1))


def test_a_prototype_without_source_is_said(few):
    X, y = few
    with pytest.warns(UserWarning, match="No training image of classes"):
        clf = ProtoPNetClassifier(**SMALL).fit(X, y, sample_weight=y != 2)
    display = ExplanationDisplay.from_estimator(clf, X, class_label=2, top_k=9)
    for axes, source in zip(display.axes_[:, 1], display.evidence["source_sample"], strict=True):
        is_missing = source == -1
        assert (NO_IMAGE in [text.get_text() for text in axes.texts]) == is_missing
        assert (boxes(axes) == []) == is_missing
    assert all_texts(display.figure_).count(NO_IMAGE) == 3
    gallery = PrototypeDisplay.from_estimator(clf, classes=[2])
    assert all_texts(gallery.figure_).count(NO_IMAGE) == 3


def test_the_gallery_has_a_row_for_each_class_and_the_boxes_of_the_table(fitted, few):
    display = PrototypeDisplay.from_estimator(fitted)
    table = fitted.prototype_table()
    assert display.axes_.shape == (3, 3)
    texts = all_texts(display.figure_)
    for ax, (_, row) in zip(display.axes_.ravel(), table.iterrows(), strict=True):
        assert boxes(ax) == [row[SOURCE_BOX].tolist()]
        image = few[0][row["source_sample"]].reshape(8, 8)
        assert np.allclose(shown(ax), image / image.max())
        assert f"{row['prototype']}: row {row['source_sample']}" in texts


def test_the_gallery_shows_chosen_classes_once_in_the_order_asked(fitted):
    display = PrototypeDisplay.from_estimator(fitted, classes=[2, 0, 2], max_per_class=2)
    assert display.axes_.shape == (2, 2)
    assert display.table["prototype"].tolist() == [6, 7, 0, 1]
    assert display.plot() is display


class TestSimilarityMaps:
    def test_maps_are_the_numbers(self, fitted, few):
        X, _ = few
        display = SimilarityMapDisplay.from_estimator(fitted, X, sample=7, top_k=3)
        chosen = fitted.explain(X[7:8], top_k=3)["prototype"].to_numpy()
        expected = similarity_maps(fitted, X[7:8])[0, chosen]
        assert display.prototypes.tolist() == chosen.tolist()
        for drawn, numbers_ in zip(display.maps_, expected, strict=True):
            assert (drawn.get_array() == numbers_).all()
            assert drawn.get_clim() == (expected.min(), expected.max())
        found = localize(fitted, X[7:8], prototypes=chosen, localizer="receptive_field").boxes[0]
        assert [boxes(axes) for axes in display.axes_] == [[box] for box in found.tolist()]
        assert np.allclose(display.similarities, expected.max((1, 2)), rtol=1e-5)
        assert boxes(display.image_ax_) == []
        assert "image 7" in all_texts(display.figure_)

    def test_all_pooled_patches_have_boxes_and_their_mean_stands_above(self, few):
        fitted = ProtoPNetClassifier(**SMALL | {"n_pooled_patches": 4}).fit(*few)
        display = SimilarityMapDisplay.from_estimator(fitted, few[0], sample=7, top_k=3)
        pooled = fitted.explain(few[0][7:8], top_k=3, details="patches")
        texts = all_texts(display.figure_)
        for axes, p in zip(display.axes_, display.prototypes, strict=True):
            rows = pooled[pooled["prototype"] == p]
            assert len(rows) == 4
            first, *others = rows[BOX].to_numpy().tolist()
            assert boxes(axes) == [*others, first]  # the first one lies above
            similarity = format_number(rows["similarity"].iloc[0])
            assert f"prototype {p}, class {fitted.prototype_classes_[p]}: {similarity}" in texts

    def test_prototypes_may_be_chosen(self, fitted, few):
        display = SimilarityMapDisplay.from_estimator(
            fitted, few[0], prototypes=[8, 0], localizer="occlusion", image_name="a digit"
        )
        texts = all_texts(display.figure_)
        for p in (8, 0):
            label = f"prototype {p}, class {fitted.prototype_classes_[p]}: "
            assert any(text.startswith(label) for text in texts)
        assert "a digit" in texts

    def test_squares_lie_over_the_middles_of_patches(self):
        display = SimilarityMapDisplay(
            image=np.eye(8)[..., None],
            maps=np.zeros((1, 3, 2)),  # of a feature map of 4 x 4
            prototypes=np.array([0]),
            prototype_classes=np.array([0]),
            boxes=np.array([[0, 4, 0, 6]]),
            prototype_size=(2, 3),
        ).plot()
        left, right, bottom, top = display.maps_[0].get_extent()
        assert (top, bottom) == (1 - 0.5, 7 - 0.5)
        assert (left, right) == (2 - 0.5, 6 - 0.5)
        assert display.axes_[0].get_xlim() == (-0.5, 7.5)

    def test_colour_images_that_were_resized_have_maps_of_their_size(self):
        rng = np.random.default_rng(0)
        display = SimilarityMapDisplay(
            image=rng.integers(0, 256, (6, 9, 3), dtype=np.uint8),
            maps=rng.random((2, 3, 3)),
            prototypes=np.array([4, 1]),
            prototype_classes=np.array(["a", "b"]),
            boxes=np.array([[0, 12, 0, 9], [0, 6, 3, 18]]),
            image_size=(12, 18),
        ).plot()
        assert display.axes_[1].get_ylim() == (11.5, -0.5)


class TestEveryDisplay:
    @pytest.mark.parametrize("layout", [None, "constrained"])
    def test_a_given_axes_is_drawn_in(self, fitted, few, layout):
        figure, (_, ax) = plt.subplots(1, 2, layout=layout)
        for display in (
            ExplanationDisplay.from_estimator(fitted, few[0], top_k=1, ax=ax),
            PrototypeDisplay.from_estimator(fitted, classes=[0], ax=ax),
            SimilarityMapDisplay.from_estimator(fitted, few[0], top_k=1, ax=ax),
        ):
            assert display.bounding_ax_ is ax
            assert display.figure_ is figure
        figure.canvas.draw()
        assert len(plt.get_fignums()) == 1

    def test_everything_stays_inside_the_figure(self, fitted, few):
        for display in (
            ExplanationDisplay.from_estimator(fitted, few[0], sample=4),
            PrototypeDisplay.from_estimator(fitted),
        ):
            width, height = display.figure_.canvas.get_width_height()
            for text in display.bounding_ax_.texts:
                extent = text.get_window_extent()
                assert extent.x0 >= 0, text
                assert extent.y0 >= 0, text
                assert extent.x1 <= width, text
                assert extent.y1 <= height, text

    @pytest.mark.parametrize("Display", [ExplanationDisplay, SimilarityMapDisplay])
    @pytest.mark.parametrize("container", [list, tuple, np.asarray, pd.DataFrame])
    def test_a_sample_has_its_name_in_the_frame_or_its_position(
        self, search, fitted, few, Display, container
    ):
        if container is pd.DataFrame:  # a transformer makes an array of it
            images = pd.DataFrame(few[0], index=[f"scan {i}" for i in range(60)])
            display = Display.from_estimator(search, images, sample=7)
        else:
            images = container(few[0].reshape(-1, 8, 8))
            display = Display.from_estimator(fitted, images, sample=7)
        name = "scan 7" if container is pd.DataFrame else 7
        assert f"image {name}" in all_texts(display.figure_)
        if Display is ExplanationDisplay:
            assert set(display.evidence["sample"]) == {name}

    @pytest.mark.parametrize(
        ("draw", "message"),
        [
            *(
                (
                    lambda clf, X, sample=sample: ExplanationDisplay.from_estimator(
                        clf, X, sample=sample
                    ),
                    rf"sample must be the position .* from 0 to 59, got {sample!r}\.",
                )
                for sample in (-1, 60, 1.5, None)
            ),
            (
                lambda clf, X: SimilarityMapDisplay.from_estimator(clf, X, sample=60),
                "sample must be the position of an image in X",
            ),
            (
                lambda clf, X: ExplanationDisplay.from_estimator(clf, X, top_k=0),
                r"top_k must be a positive integer, got 0\.",
            ),
            (
                lambda clf, X: SimilarityMapDisplay.from_estimator(clf, X, top_k=0),
                "top_k must be a positive integer",
            ),
            (
                lambda clf, X: SimilarityMapDisplay.from_estimator(clf, X, prototypes=[9]),
                "prototypes must be numbers from 0 to 8",
            ),
            (
                lambda clf, X: SimilarityMapDisplay.from_estimator(clf, X, localizer="mine"),
                "localizer must be one of",
            ),
            (
                lambda clf, X: PrototypeDisplay.from_estimator(clf, max_per_class=1.5),
                r"max_per_class must be a positive integer, got 1\.5\.",
            ),
            (
                lambda clf, X: ExplanationDisplay.from_estimator(clf, X, class_label=9),
                r"labels among \[0, 1, 2\], got \[9\]",
            ),
            *(
                (
                    lambda clf, X, classes=classes: PrototypeDisplay.from_estimator(
                        clf, classes=classes
                    ),
                    r"labels among \[0, 1, 2\], got",
                )
                for classes in ([0, 9], [], ["0"])
            ),
        ],
    )
    def test_what_cannot_be_drawn_opens_no_figure(self, fitted, few, draw, message):
        with pytest.raises(ValueError, match=message):
            draw(fitted, few[0])
        assert plt.get_fignums() == []

    @pytest.mark.parametrize("X", ["photo.png", iter([1])], ids=["path", "iterator"])
    @pytest.mark.parametrize("Display", [ExplanationDisplay, SimilarityMapDisplay])
    def test_what_holds_no_images_is_said_to(self, fitted, Display, X):
        found = "list of paths, got one, 'photo.png'" if isinstance(X, str) else "2-D rows"
        with pytest.raises(TypeError, match=f"X must be (a )?{found}"):
            Display.from_estimator(fitted, X)

    def test_long_labels_leave_room(self, few):
        X, y = few
        names = np.array([f"{label}" * 5000 for label in range(3)])
        clf = ProtoPNetClassifier(image_shape=(8, 8), **QUICK).fit(X, names[y])
        figure = PrototypeDisplay.from_estimator(clf).figure_
        assert figure.get_size_inches().max() < 10
        texts = "".join(all_texts(ExplanationDisplay.from_estimator(clf, X).figure_))
        assert any(29 * str(label) in texts for label in range(3))
        assert not any(30 * str(label) in texts for label in range(3))

    @pytest.mark.parametrize(
        "Display",
        [ExplanationDisplay, SimilarityMapDisplay, PrototypeDisplay, LastLayerPathDisplay],
    )
    def test_estimators_that_cannot_be_drawn_are_refused(self, few, Display, fitted, monkeypatch):
        X, y = few
        data = {ExplanationDisplay: (X,), SimilarityMapDisplay: (X,), LastLayerPathDisplay: (X, y)}
        arguments = data.get(Display, ())
        with pytest.raises(NotFittedError):
            Display.from_estimator(ProtoPNetClassifier(), *arguments)
        for other in (SVC(), make_pipeline(FunctionTransformer(inverted), SVC())):
            with pytest.raises(TypeError, match="estimator must be a ProtoPNetClassifier, or a "):
                Display.from_estimator(other.fit(X, y), *arguments)
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        with pytest.raises(ImportError, match=r"pip install sklearn-protopnet\[plot\]"):
            Display.from_estimator(fitted, *arguments)


@pytest.mark.parametrize(
    ("probability", "said"),
    [(0.0, "0.0 %"), (1e-6, "below 0.1 %"), (0.5, "50.0 %"), (1 - 1e-6, "over 99.9 %"), (1, "100")],
)
def test_a_probability_is_never_rounded_to_certainty(fitted, few, probability, said):
    display = ExplanationDisplay(
        evidence=fitted.explain(few[0][:1]).assign(probability=float(probability)),
        image=few[0][0].reshape(8, 8, 1),
        source_images=[few[0][0].reshape(8, 8, 1)],
        predicted_class=0,
    )
    texts = all_texts(display.plot().figure_)
    assert any(f"probability {said}" in text for text in texts)


class TestPipelinesAndSearches:
    @pytest.mark.parametrize(("class_label", "localizer"), [(None, "prp"), (1, "receptive_field")])
    def test_an_explanation_is_that_of_the_classifier_alone(
        self, search, few, class_label, localizer
    ):
        X, _ = few
        options = {"sample": 7, "class_label": class_label, "top_k": 3, "localizer": localizer}
        alone = search.best_estimator_[-1]
        found = ExplanationDisplay.from_estimator(search, X, **options)
        expected = ExplanationDisplay.from_estimator(alone, inverted(X), **options)
        pd.testing.assert_frame_equal(found.evidence, expected.evidence, check_exact=True)
        assert np.array_equal(found.image, inverted(X)[7].reshape(8, 8, 1))
        assert np.array_equal(found.source_images, expected.source_images)
        assert found.predicted_class == expected.predicted_class == search.predict(X[7:8])[0]

    def test_prototypes_are_those_of_the_classifier_alone(self, search):
        alone = search.best_estimator_[-1]
        found = PrototypeDisplay.from_estimator(search, localizer="prp", classes=[1])
        expected = PrototypeDisplay.from_estimator(alone, localizer="prp", classes=[1])
        pd.testing.assert_frame_equal(found.table, expected.table, check_exact=True)
        assert np.array_equal(found.images, expected.images)

    @pytest.mark.parametrize("prototypes", [None, [8, 0]])
    def test_similarity_maps_are_those_of_the_classifier_alone(self, search, few, prototypes):
        X, _ = few
        options = {"sample": 7, "prototypes": prototypes, "localizer": "prp"}
        alone = search.best_estimator_[-1]
        found = SimilarityMapDisplay.from_estimator(search, X, **options)
        expected = SimilarityMapDisplay.from_estimator(alone, inverted(X), **options)
        assert np.array_equal(found.image, inverted(X)[7].reshape(8, 8, 1))
        for name in ("maps", "boxes", "prototypes", "prototype_classes"):
            assert np.array_equal(getattr(found, name), getattr(expected, name)), name


DOLLARS = np.array(["a $1", r"c \frac$", "cost $5 and $6"])
"""Names of classes that are wrong mathematics, alone or after one another, or right."""


@pytest.fixture(scope="module")
def paid(few):
    """A classifier and images, with dollars in all names."""
    X, y = few
    frame = pd.DataFrame(X, index=[rf"${i}^$ \% {{" for i in range(len(X))])
    return ProtoPNetClassifier(**SMALL).fit(frame, DOLLARS[y]), frame


def drawn_texts(figure):
    """All lines of text as a reader of the picture sees them; mathematics has no dollar signs."""
    file = BytesIO()
    with mpl.rc_context({"svg.fonttype": "none"}):
        figure.savefig(file, format="svg")
    root = ElementTree.fromstring(file.getvalue())
    return ["".join(each.itertext()) for each in root.iter("{http://www.w3.org/2000/svg}text")]


class TestNamesAreText:
    def test_an_explanation_shows_names_as_they_are(self, paid):
        display = ExplanationDisplay.from_estimator(
            *paid, sample=7, class_label=DOLLARS[1], top_k=9
        )
        texts = drawn_texts(display.figure_)
        asked = "Why" if display.predicted_class == DOLLARS[1] else "What speaks for"
        assert f"{asked} class {DOLLARS[1]}?" in texts
        assert f"and so adds to the logit of class {DOLLARS[1]}:" in texts
        assert r"image $7^$ \% {" in texts
        for row in display.evidence.itertuples():
            source = f"training row {row.source_sample}, class {row.prototype_class}"
            assert any(text.startswith(source) for text in texts)

    @pytest.mark.parametrize(
        ("name", "said"), [(DOLLARS[2], DOLLARS[2]), ("$x^2$", "$x^2$"), ("caf\udce9", "caf?")]
    )
    def test_an_image_shows_names_as_they_are(self, fitted, few, name, said):
        for Display in (ExplanationDisplay, SimilarityMapDisplay):
            display = Display.from_estimator(fitted, few[0], image_name=name, top_k=1)
            assert said in drawn_texts(display.figure_)

    def test_prototypes_show_names_as_they_are(self, paid):
        texts = drawn_texts(PrototypeDisplay.from_estimator(paid[0]).figure_)
        assert {f"class {label}" for label in DOLLARS} <= set(texts)

    def test_similarity_maps_show_names_as_they_are(self, paid):
        display = SimilarityMapDisplay.from_estimator(*paid, prototypes=[0, 3, 6], sample=7)
        texts = drawn_texts(display.figure_)
        assert r"image $7^$ \% {" in texts
        for p, label in zip(display.prototypes, display.prototype_classes, strict=True):
            assert any(text.startswith(f"prototype {p}, class {label}: ") for text in texts)


def test_names_are_drawn(fitted, few):
    X, y = few
    names = {number: f"<part {number}> $x" for number in range(9)}
    named = PrototypeEditor(fitted, X, y).rename(names).classifier_
    displays = [
        ExplanationDisplay.from_estimator(named, X, top_k=2),
        PrototypeDisplay.from_estimator(named),
        SimilarityMapDisplay.from_estimator(named, X, prototypes=[4]),
    ]
    expected = [
        {names[number] for number in named.explain(X[:1], top_k=2)["prototype"]},
        set(names.values()),
        {names[4]},
    ]
    for display, wanted in zip(displays, expected, strict=True):
        texts = {text.get_text() for text in display.figure_.findobj(mpl.text.Text)}
        assert wanted == {text for text in texts if text.startswith("<part")}
        display.figure_.canvas.draw()
        plt.close(display.figure_)
