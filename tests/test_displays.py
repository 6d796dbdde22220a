"""Displays draw what the tables say."""

import re
import sys
from io import BytesIO
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC
from sklearn_protopnet.inspection._view import View

from sklearn_protopnet import ProtoPNetClassifier
from sklearn_protopnet.inspection import (
    ExplanationDisplay,
    LastLayerPathDisplay,
    PrototypeDisplay,
    SimilarityMapDisplay,
    localize,
    similarity_maps,
)

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.patches import Rectangle

BOX = ["y0", "y1", "x0", "x1"]
SOURCE_BOX = ["source_y0", "source_y1", "source_x0", "source_x1"]
SMALL = {
    "n_prototypes_per_class": 3,
    "prototype_depth": 8,
    "pretraining_epochs": 2,
    "joint_epochs": 2,
    "random_state": 0,
}


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(n_class=3, return_X_y=True)
    return X[:60], y[:60]


@pytest.fixture(scope="module")
def fitted(digits):
    return ProtoPNetClassifier(image_shape=(8, 8), **SMALL).fit(*digits)


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


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


def draw(display):
    display.figure_.canvas.draw()
    return display


def test_boxes_are_those_of_the_table(fitted, digits):
    X, _ = digits
    display = draw(ExplanationDisplay.from_estimator(fitted, X, sample=7, top_k=3))
    why = fitted.explain(X[7:8], top_k=3)
    assert display.axes_.shape == (3, 2)
    assert boxes(display.image_ax_) == why[BOX].to_numpy().tolist()
    for axes, (_, row) in zip(display.axes_, why.iterrows(), strict=True):
        assert boxes(axes[0]) == [row[BOX].tolist()]
        assert boxes(axes[1]) == [row[SOURCE_BOX].tolist()]


def test_images_are_the_sample_and_the_rows_of_the_training_set(fitted, digits):
    X, _ = digits
    display = ExplanationDisplay.from_estimator(fitted, X, sample=7, top_k=3)

    def shown(ax):
        return ax.images[0].get_array()

    assert np.allclose(shown(display.image_ax_), X[7].reshape(8, 8) / X[7].max())
    sources = fitted.explain(X[7:8], top_k=3)["source_sample"]
    for axes, source in zip(display.axes_, sources, strict=True):
        assert np.allclose(shown(axes[0]), shown(display.image_ax_))
        assert np.allclose(shown(axes[1]), X[source].reshape(8, 8) / X[source].max())
        assert f"training row {source}, " in "\n".join(all_texts(display.figure_))


def test_texts_hold_the_numbers_of_the_table(fitted, digits):
    X, _ = digits
    display = ExplanationDisplay.from_estimator(fitted, X, sample=3, top_k=4)
    why = fitted.explain(X[3:4], top_k=4)
    columns = why[["similarity", "weight", "contribution"]].to_numpy()
    for text, expected in zip(display.texts_, columns, strict=True):
        assert np.allclose(numbers(text.get_text()), expected, atol=0.0051)


@pytest.mark.parametrize("class_label", [None, 0, 1, 2])
def test_the_stated_sum_is_the_logit(fitted, digits, class_label):
    X, _ = digits
    display = ExplanationDisplay.from_estimator(
        fitted, X, sample=3, class_label=class_label, top_k=2
    )
    label = fitted.predict(X[3:4])[0] if class_label is None else class_label
    logit = fitted.decision_function(X[3:4])[0, label]
    contributions = fitted.explain(X[3:4], classes=[label])["contribution"]
    stated = display.sum_text_.get_text()
    expected = [contributions[:2].sum(), contributions[2:].sum(), logit]
    assert np.allclose(numbers(stated), expected, atol=0.0051)
    assert "other 7 prototypes" in stated


@pytest.mark.parametrize("top_k", [8, 9, 20])
def test_the_sum_counts_what_is_left(fitted, digits, top_k):
    X, _ = digits
    display = ExplanationDisplay.from_estimator(fitted, X, top_k=top_k)
    text = display.sum_text_.get_text()
    assert display.axes_.shape == (min(top_k, 9), 2)
    assert ("other 1 prototype " in text) == (top_k == 8)
    assert ("all shown" in text) == (top_k > 8)
    assert numbers(text)[-1] == pytest.approx(fitted.decision_function(X[:1])[0].max(), abs=0.0051)


def test_the_prediction_is_said(fitted, digits):
    X, _ = digits
    predicted = fitted.predict(X[:1])[0]
    texts = all_texts(ExplanationDisplay.from_estimator(fitted, X).figure_)
    assert f"Why class {predicted}?" in texts
    assert any(f"Predicted class: {predicted}, " in text for text in texts)
    other = (predicted + 1) % 3
    texts = all_texts(ExplanationDisplay.from_estimator(fitted, X, class_label=other).figure_)
    assert f"What speaks for class {other}?" in texts
    assert any(f"The predicted class is {predicted}." in text for text in texts)


def test_a_frame_gives_its_index_and_a_name_overrides_it(fitted, digits):
    frame = pd.DataFrame(digits[0][:3], index=["a", "b", "c"])
    named = fitted.__class__(image_shape=(8, 8), **SMALL).fit(frame, [0, 1, 2])
    texts = all_texts(ExplanationDisplay.from_estimator(named, frame, sample=1).figure_)
    assert "image b" in texts
    display = ExplanationDisplay.from_estimator(named, frame, sample=1, image_name="my scan")
    assert "my scan" in all_texts(display.figure_)


@pytest.mark.parametrize("container", [list, tuple, np.asarray])
def test_any_container_of_images_will_do(fitted, digits, container):
    images = digits[0].reshape(-1, 8, 8)
    display = ExplanationDisplay.from_estimator(fitted, container(images), sample=5)
    assert "image 5" in all_texts(display.figure_)


@pytest.mark.parametrize("shape", [(10, 6, 3), (6, 10, 4), (8, 5, 1), (8, 5, 2), (1, 1, 7)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_any_shape_of_images_is_drawn(shape, dtype):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 200, (12, *shape)).astype(dtype)
    clf = ProtoPNetClassifier(
        n_prototypes_per_class=2, prototype_depth=4, joint_epochs=1, random_state=0
    ).fit(X, np.repeat([0, 1], 6))
    display = draw(ExplanationDisplay.from_estimator(clf, X, sample=1, top_k=2))
    image = X[1] / 255 if dtype == np.uint8 else X[1]
    image = image if shape[2] in {3, 4} else image.mean(2)
    if dtype != np.uint8:
        span = image.max() - image.min()
        image = (image - image.min()) / (span or 1)
    assert np.allclose(display.image_ax_.images[0].get_array(), image)
    assert boxes(display.image_ax_) == clf.explain(X[1:2], top_k=2)[BOX].to_numpy().tolist()
    draw(PrototypeDisplay.from_estimator(clf))


def test_a_part_that_is_the_whole_image_is_said_and_seen():
    X = np.random.default_rng(0).normal(size=(12, 4))
    clf = ProtoPNetClassifier(
        n_prototypes_per_class=2, prototype_depth=4, joint_epochs=1, random_state=0
    ).fit(X, np.repeat([0, 1], 6))
    display = draw(ExplanationDisplay.from_estimator(clf, X, top_k=1))
    texts = all_texts(display.figure_)
    assert "the whole image" in texts
    assert any("all of it" in text for text in texts)
    for ax in display.axes_.ravel():
        (box,) = ax.patches
        assert boxes(ax) == [[0, 1, 0, 1]]
        assert not box.get_clip_on()


@pytest.fixture(scope="module")
def without_source(digits):
    """A classifier whose class 2 had no image of positive weight."""
    X, y = digits
    with pytest.warns(UserWarning, match="No training image of classes"):
        return ProtoPNetClassifier(image_shape=(8, 8), **SMALL).fit(X, y, sample_weight=y != 2)


def test_a_prototype_without_source_is_said(without_source, digits):
    display = draw(
        ExplanationDisplay.from_estimator(without_source, digits[0], class_label=2, top_k=9)
    )
    why = display.evidence
    for axes, source in zip(display.axes_[:, 1], why["source_sample"], strict=True):
        said = "no training\nimage" in [text.get_text() for text in axes.texts]
        assert said == (source == -1)
        assert (boxes(axes) == []) == (source == -1)
    assert (why["source_sample"] == -1).sum() == 3
    gallery = draw(PrototypeDisplay.from_estimator(without_source, classes=[2]))
    assert all_texts(gallery.figure_).count("no training\nimage") == 3


@pytest.mark.parametrize("make", ["subplots", "bare", "constrained"])
def test_a_given_axes_is_drawn_in(fitted, digits, make):
    if make == "bare":
        figure = plt.figure()
        ax = figure.add_axes((0.5, 0.5, 0.4, 0.4))
    else:
        figure, axes = plt.subplots(1, 2, layout="constrained" if make == "constrained" else None)
        ax = axes[1]
    display = draw(ExplanationDisplay.from_estimator(fitted, digits[0], ax=ax))
    assert display.bounding_ax_ is ax
    assert display.figure_ is figure
    gallery = draw(PrototypeDisplay.from_estimator(fitted, ax=ax))
    assert gallery.bounding_ax_ is ax
    assert len(plt.get_fignums()) == 1


def test_everything_stays_inside_the_figure(fitted, digits):
    for display in (
        ExplanationDisplay.from_estimator(fitted, digits[0], sample=4),
        PrototypeDisplay.from_estimator(fitted),
    ):
        draw(display)
        width, height = display.figure_.canvas.get_width_height()
        for text in display.figure_.findobj(mpl.text.Text):
            if text.get_text() and text.get_visible() and text.axes is display.bounding_ax_:
                extent = text.get_window_extent()
                assert extent.x0 >= 0, text
                assert extent.y0 >= 0, text
                assert extent.x1 <= width, text
                assert extent.y1 <= height, text


def test_plot_draws_again_and_returns_the_display(fitted, digits):
    display = ExplanationDisplay.from_estimator(fitted, digits[0])
    first = display.figure_
    assert display.plot() is display
    assert display.figure_ is not first
    gallery = PrototypeDisplay.from_estimator(fitted)
    assert gallery.plot() is gallery


def test_the_gallery_has_a_row_for_each_class_and_the_boxes_of_the_table(fitted, digits):
    display = draw(PrototypeDisplay.from_estimator(fitted))
    table = fitted.prototype_table()
    assert display.axes_.shape == (3, 3)
    texts = all_texts(display.figure_)
    for ax, (_, row) in zip(display.axes_.ravel(), table.iterrows(), strict=True):
        assert boxes(ax) == [row[BOX].tolist()]
        image = digits[0][int(row["sample"])].reshape(8, 8)
        assert np.allclose(ax.images[0].get_array(), image / image.max())
        assert f"{int(row['prototype'])}: row {int(row['sample'])}" in texts


def test_the_gallery_shows_chosen_classes_in_the_order_asked(fitted):
    display = PrototypeDisplay.from_estimator(fitted, classes=[2, 0], max_per_class=2)
    assert display.axes_.shape == (2, 2)
    assert display.table["prototype"].tolist() == [6, 7, 0, 1]


@pytest.mark.parametrize("sample", [-1, 60, 1.5, "0", None])
def test_a_bad_sample_is_refused(fitted, digits, sample):
    message = rf"sample must be the position .* from 0 to 59, got {re.escape(repr(sample))}\."
    with pytest.raises(ValueError, match=message):
        ExplanationDisplay.from_estimator(fitted, digits[0], sample=sample)


def test_bad_numbers_and_classes_are_refused(fitted, digits):
    with pytest.raises(ValueError, match=r"top_k must be a positive integer, got 0\."):
        ExplanationDisplay.from_estimator(fitted, digits[0], top_k=0)
    with pytest.raises(ValueError, match=r"max_per_class must be a positive integer, got 1\.5\."):
        PrototypeDisplay.from_estimator(fitted, max_per_class=1.5)
    with pytest.raises(ValueError, match=r"labels among \[0, 1, 2\], got \[9\]"):
        ExplanationDisplay.from_estimator(fitted, digits[0], class_label=9)
    for classes in ([0, 9], []):
        with pytest.raises(ValueError, match=r"labels among \[0, 1, 2\], got"):
            PrototypeDisplay.from_estimator(fitted, classes=classes)
    assert plt.get_fignums() == []


def test_an_unfitted_classifier_is_refused(digits):
    with pytest.raises(NotFittedError):
        ExplanationDisplay.from_estimator(ProtoPNetClassifier(), digits[0])
    with pytest.raises(NotFittedError):
        PrototypeDisplay.from_estimator(ProtoPNetClassifier())


def test_without_matplotlib_the_remedy_is_said(fitted, digits, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install sklearn-protopnet\[plot\]"):
        ExplanationDisplay.from_estimator(fitted, digits[0])
    with pytest.raises(ImportError, match=r"pip install sklearn-protopnet\[plot\]"):
        PrototypeDisplay.from_estimator(fitted)


@pytest.mark.parametrize(
    ("probability", "said"),
    [(0.0, "0.0 %"), (1e-6, "below 0.1 %"), (0.5, "50.0 %"), (1 - 1e-6, "over 99.9 %"), (1, "100")],
)
def test_a_probability_is_never_rounded_to_certainty(fitted, digits, probability, said):
    display = ExplanationDisplay.from_estimator(fitted, digits[0])
    display.evidence["probability"] = float(probability)
    texts = all_texts(display.plot().figure_)
    assert any(f"with probability {said}" in text for text in texts)


def test_a_class_named_twice_is_drawn_once(fitted):
    display = PrototypeDisplay.from_estimator(fitted, classes=[2, 0, 2])
    assert display.table["prototype_class"].unique().tolist() == [2, 0]
    assert len(display.table) == 6
    with pytest.raises(ValueError, match=r"classes must be labels among .*, got \['0'\]"):
        PrototypeDisplay.from_estimator(fitted, classes=["0"])


class TestSimilarityMaps:
    def test_maps_are_the_numbers(self, fitted, digits):
        X, _ = digits
        display = draw(SimilarityMapDisplay.from_estimator(fitted, X, sample=7, top_k=3))
        chosen = fitted.explain(X[7:8], top_k=3)["prototype"].to_numpy()
        expected = similarity_maps(fitted, X[7:8])[0, chosen]
        assert display.prototypes.tolist() == chosen.tolist()
        for drawn, numbers_ in zip(display.maps_, expected, strict=True):
            assert (drawn.get_array() == numbers_).all()
            assert drawn.get_clim() == (expected.min(), expected.max())
        found = localize(fitted, X[7:8], prototypes=chosen, localizer="receptive_field").boxes[0]
        assert [boxes(axes)[0] for axes in display.axes_] == found.tolist()
        assert boxes(display.image_ax_) == []
        assert "image 7" in all_texts(display.figure_)

    def test_prototypes_of_ones_own_choice(self, fitted, digits):
        X, _ = digits
        display = draw(
            SimilarityMapDisplay.from_estimator(
                fitted, X, prototypes=[8, 0], localizer="occlusion", image_name="a digit"
            )
        )
        texts = all_texts(display.figure_)
        for p in (8, 0):
            label = f"prototype {p}, class {fitted.prototype_classes_[p]}: "
            assert any(text.startswith(label) for text in texts)
        assert "a digit" in texts

    def test_squares_lie_over_the_middles_of_patches(self, digits):
        X, _ = digits
        display = SimilarityMapDisplay(
            image=X[0].reshape(8, 8, 1),
            maps=np.zeros((1, 3, 2)),  # of a feature map of 4 x 4
            prototypes=np.array([0]),
            prototype_classes=np.array([0]),
            boxes=np.array([[0, 4, 0, 6]]),
            prototype_size=(2, 3),
        )
        draw(display.plot())
        left, right, bottom, top = display.maps_[0].get_extent()
        assert (top, bottom) == (1 - 0.5, 7 - 0.5)
        assert (left, right) == (2 - 0.5, 6 - 0.5)
        assert display.axes_[0].get_xlim() == (-0.5, 7.5)

    def test_colour_images_and_axes_of_ones_own(self, digits):
        rng = np.random.default_rng(0)
        display = SimilarityMapDisplay(
            image=rng.integers(0, 256, (6, 9, 3), dtype=np.uint8),
            maps=rng.random((2, 3, 3)),
            prototypes=np.array([4, 1]),
            prototype_classes=np.array(["a", "b"]),
            boxes=np.array([[0, 12, 0, 9], [0, 6, 3, 18]]),
            image_size=(12, 18),
        )
        _, ax = plt.subplots()
        draw(display.plot(ax=ax))
        assert display.bounding_ax_ is ax
        assert display.axes_[1].get_ylim() == (11.5, -0.5)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"sample": 60}, "sample must be the position of an image in X"),
            ({"top_k": 0}, "top_k must be a positive integer"),
            ({"prototypes": [9]}, "prototypes must be numbers from 0 to 8"),
            ({"localizer": "mine"}, "localizer must be one of"),
        ],
    )
    def test_what_cannot_be_drawn(self, fitted, digits, settings, message):
        with pytest.raises(ValueError, match=message):
            SimilarityMapDisplay.from_estimator(fitted, digits[0], **settings)

    def test_not_fitted(self, digits):
        with pytest.raises(NotFittedError):
            SimilarityMapDisplay.from_estimator(ProtoPNetClassifier(), digits[0])


def inverted(X):
    """Turn black and white digits around; an array also of a frame."""
    return 16 - np.asarray(X)


@pytest.fixture(scope="module")
def alone(digits):
    X, y = digits
    return ProtoPNetClassifier(image_shape=(8, 8), **SMALL).fit(inverted(X), y)


@pytest.fixture(scope="module")
def pipeline(digits):
    return make_pipeline(
        FunctionTransformer(inverted), ProtoPNetClassifier(image_shape=(8, 8), **SMALL)
    ).fit(*digits)


@pytest.fixture(scope="module")
def search(pipeline, digits):
    grid = {"protopnetclassifier__l1_weight": [pipeline[-1].l1_weight]}
    return GridSearchCV(pipeline, grid, cv=2).fit(*digits)


@pytest.fixture(params=["pipeline", "search"])
def around(request):
    """What ends in a classifier that is as good as `alone`."""
    return request.getfixturevalue(request.param)


class TestPipelinesAndSearches:
    @pytest.mark.parametrize(
        ("class_label", "localizer"), [(None, "prp"), (0, "prp"), (1, "receptive_field")]
    )
    def test_an_explanation_is_that_of_the_classifier_alone(
        self, around, alone, digits, class_label, localizer
    ):
        X, _ = digits
        options = {"sample": 7, "class_label": class_label, "top_k": 3, "localizer": localizer}
        found = ExplanationDisplay.from_estimator(around, X, **options)
        expected = ExplanationDisplay.from_estimator(alone, inverted(X), **options)
        pd.testing.assert_frame_equal(found.evidence, expected.evidence, check_exact=True)
        assert np.array_equal(found.image, inverted(X)[7].reshape(8, 8, 1))
        assert np.array_equal(found.source_images, expected.source_images)
        assert found.predicted_class == expected.predicted_class == around.predict(X[7:8])[0]
        for one, other in zip(found.axes_.ravel(), expected.axes_.ravel(), strict=True):
            assert boxes(one) == boxes(other)
        assert boxes(found.image_ax_) == boxes(expected.image_ax_)
        assert all_texts(found.figure_) == all_texts(expected.figure_)

    def test_prototypes_are_those_of_the_classifier_alone(self, around, alone):
        found = PrototypeDisplay.from_estimator(around, localizer="prp")
        expected = PrototypeDisplay.from_estimator(alone, localizer="prp")
        pd.testing.assert_frame_equal(found.table, expected.table, check_exact=True)
        assert np.array_equal(found.images, expected.images)
        for one, other in zip(found.axes_.ravel(), expected.axes_.ravel(), strict=True):
            assert boxes(one) == boxes(other)

    @pytest.mark.parametrize("prototypes", [None, [8, 0]])
    def test_similarity_maps_are_those_of_the_classifier_alone(
        self, around, alone, digits, prototypes
    ):
        X, _ = digits
        options = {"sample": 7, "prototypes": prototypes, "localizer": "prp"}
        found = SimilarityMapDisplay.from_estimator(around, X, **options)
        expected = SimilarityMapDisplay.from_estimator(alone, inverted(X), **options)
        assert np.array_equal(found.image, inverted(X)[7].reshape(8, 8, 1))
        for name in ("maps", "boxes", "prototypes", "prototype_classes"):
            assert np.array_equal(getattr(found, name), getattr(expected, name)), name
        assert all_texts(found.figure_) == all_texts(expected.figure_)

    @pytest.mark.parametrize("Display", [ExplanationDisplay, SimilarityMapDisplay])
    def test_a_sample_has_its_name_in_the_frame_or_its_position(self, around, digits, Display):
        X, _ = digits
        frame = pd.DataFrame(X, index=[f"scan {i}" for i in range(len(X))])
        assert "image scan 7" in all_texts(Display.from_estimator(around, frame, sample=7).figure_)
        assert "image 7" in all_texts(Display.from_estimator(around, X, sample=7).figure_)

    def test_the_evidence_calls_the_sample_the_same(self, around, digits):
        X, _ = digits
        frame = pd.DataFrame(X, index=[f"scan {i}" for i in range(len(X))])
        for images, name in ((frame, "scan 7"), (X, 7)):
            display = ExplanationDisplay.from_estimator(around, images, sample=7)
            assert display.evidence["sample"].tolist() == [name] * 9

    @pytest.mark.parametrize("front", [(), (FunctionTransformer(inverted),)])
    def test_another_classifier_is_refused(self, digits, front):
        X, y = digits
        another = make_pipeline(*front, SVC()).fit(X, y) if front else SVC().fit(X, y)
        message = "estimator must be a ProtoPNetClassifier, or a pipeline or a search"
        with pytest.raises(TypeError, match=message):
            ExplanationDisplay.from_estimator(another, X)
        with pytest.raises(TypeError, match=message):
            PrototypeDisplay.from_estimator(another)
        with pytest.raises(TypeError, match=message):
            SimilarityMapDisplay.from_estimator(another, X)
        with pytest.raises(TypeError, match=message):
            LastLayerPathDisplay.from_estimator(another, X, y)
        assert plt.get_fignums() == []


class TestOneLook:
    @pytest.fixture
    def looks(self, monkeypatch):
        """The methods of views that look at images, with the prototypes that they look for."""
        calls = []
        arrays, located = View.arrays, View.located

        def count_arrays(view, *names):
            calls.append(("arrays", len(view.rows)))
            return arrays(view, *names)

        def count_located(view, localizer, positions, wanted, **options):
            calls.append(("located", [each.tolist() for each in wanted]))
            return located(view, localizer, positions, wanted, **options)

        monkeypatch.setattr(View, "arrays", count_arrays)
        monkeypatch.setattr(View, "located", count_located)
        return calls

    def test_the_network_looks_at_the_image_once(self, fitted, digits, looks):
        display = ExplanationDisplay.from_estimator(fitted, digits[0], sample=3, top_k=2)
        assert looks == [("arrays", 1)]
        assert display.predicted_class == fitted.predict(digits[0][3:4])[0]

    def test_a_localizer_looks_for_what_is_drawn(self, fitted, digits, looks):
        ExplanationDisplay.from_estimator(fitted, digits[0], sample=3, top_k=2, localizer="prp")
        calls = looks.copy()
        why = fitted.explain(digits[0][3:4], top_k=2)
        first, second = sorted(why["prototype"])
        assert calls == [
            ("arrays", 1),
            ("located", [[first, second]]),
            ("arrays", 2),  # the images that the two prototypes come from
            ("located", [[first], [second]]),
        ]

    @pytest.mark.parametrize("top_k", [1, 4, 20])
    @pytest.mark.parametrize("class_label", [None, 2])
    def test_rows_that_are_drawn_have_boxes_of_the_localizer(
        self, fitted, digits, class_label, top_k
    ):
        X, _ = digits
        display = ExplanationDisplay.from_estimator(
            fitted, X, sample=3, class_label=class_label, top_k=top_k, localizer="prp"
        )
        classes = "predicted" if class_label is None else [class_label]
        by_localizer = fitted.explain(X[3:4], classes=classes, localizer="prp")
        fields = fitted.explain(X[3:4], classes=classes)
        expected = pd.concat([by_localizer[:top_k], fields[top_k:]], ignore_index=True)
        expected["sample"] = 3
        pd.testing.assert_frame_equal(display.evidence, expected, check_exact=True)
        assert display.evidence.attrs == expected.attrs


DOLLARS = np.array(["a $1", r"c \frac$", "cost $5 and $6"])
"""Names of classes that are wrong mathematics, alone or after one another, or right."""


@pytest.fixture(scope="module")
def paid(digits):
    """A classifier and images, with dollars in all names."""
    X, y = digits
    frame = pd.DataFrame(X, index=[rf"${i}^$ \% {{" for i in range(len(X))])
    return ProtoPNetClassifier(image_shape=(8, 8), **SMALL).fit(frame, DOLLARS[y]), frame


def drawn_texts(figure):
    """All lines of text as a reader of the picture sees them; mathematics has no dollar signs."""
    figure.savefig(BytesIO(), format="png")
    file = BytesIO()
    with mpl.rc_context({"svg.fonttype": "none"}):
        figure.savefig(file, format="svg")
    root = ElementTree.fromstring(file.getvalue())
    return ["".join(each.itertext()) for each in root.iter("{http://www.w3.org/2000/svg}text")]


class TestNamesAreText:
    @pytest.mark.parametrize("label", DOLLARS)
    def test_an_explanation(self, paid, label):
        display = ExplanationDisplay.from_estimator(*paid, sample=7, class_label=label, top_k=9)
        texts = drawn_texts(display.figure_)
        asked = "Why" if label == display.predicted_class else "What speaks for"
        assert f"{asked} class {label}?" in texts
        assert f"and so adds to the logit of class {label}:" in texts
        assert r"image $7^$ \% {" in texts
        for row in display.evidence.itertuples():
            source = f"training row {row.source_sample}, class {row.prototype_class}"
            assert any(text.startswith(source) for text in texts)

    @pytest.mark.parametrize("name", [*DOLLARS, "$x^2$"])
    def test_an_image(self, paid, name):
        texts = drawn_texts(ExplanationDisplay.from_estimator(*paid, image_name=name).figure_)
        assert name in texts
        texts = drawn_texts(SimilarityMapDisplay.from_estimator(*paid, image_name=name).figure_)
        assert name in texts
        assert f"Where {name} is similar to prototypes" in texts

    def test_prototypes(self, paid):
        texts = drawn_texts(PrototypeDisplay.from_estimator(paid[0]).figure_)
        assert {f"class {label}" for label in DOLLARS} <= set(texts)

    def test_similarity_maps(self, paid):
        display = SimilarityMapDisplay.from_estimator(*paid, prototypes=range(9), sample=7)
        texts = drawn_texts(display.figure_)
        assert r"image $7^$ \% {" in texts
        for p, label in zip(display.prototypes, display.prototype_classes, strict=True):
            assert any(text.startswith(f"prototype {p}, class {label}: ") for text in texts)

    def test_the_path_of_the_last_layer_draws_no_names(self, paid, digits):
        clf, frame = paid
        display = LastLayerPathDisplay.from_estimator(
            clf, frame, DOLLARS[digits[1]], n_l1_weights=3
        )
        assert not any("$" in text for text in drawn_texts(display.figure_))
