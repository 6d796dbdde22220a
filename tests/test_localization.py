"""Localizers: from maps to boxes, in tables and alone."""

from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from quick import QUICK
from sklearn.exceptions import NotFittedError
from torch import nn

from sklearn_protopnet import ProtoPNetClassifier
from sklearn_protopnet.inspection import (
    ExplanationDisplay,
    PrototypeDisplay,
    localize,
    similarity_maps,
)
from sklearn_protopnet.inspection._boxes import percentile_box, relevance_box
from sklearn_protopnet.inspection._localizers import LOCALIZERS, Localizer

BOX = ["y0", "y1", "x0", "x1"]
SOURCE_BOX = [f"source_{edge}" for edge in BOX]
OTHERS = [name for name, localizer in LOCALIZERS.items() if not localizer.is_exact]


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (24, 40, 56, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def clf(images):
    """Images of 40 x 56 pixels, resized to 32 x 36; one patch of each counts."""
    changes = {"image_size": (32, 36), "n_pooled_patches": 1}
    return ProtoPNetClassifier(**QUICK, **changes).fit(images, np.arange(24) % 2)


@pytest.mark.parametrize("localizer", LOCALIZERS)
def test_a_backbone_may_write_to_its_images(localizer):
    X = np.random.default_rng(0).normal(size=(12, 8, 8))
    y, before = np.arange(12) % 2, X.copy()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        convolution = nn.Conv2d(1, 4, 3)
    found = []
    for is_inplace in (True, False):
        backbone = nn.Sequential(nn.ReLU(is_inplace), convolution)
        clf = ProtoPNetClassifier(backbone=backbone, **QUICK).fit(X, y)
        found.append(clf.explain(X[:2], localizer=localizer))
    pd.testing.assert_frame_equal(*found)
    assert_array_equal(X, before)


class TestRelevanceBox:
    def test_it_leaves_out_five_percent_on_each_side(self):
        """Of 100 in all, 5 may be left out on each side."""
        relevance = np.zeros((6, 8))
        relevance[1, 2] = 4  # left out with the row above it
        relevance[2, 3] = 40
        relevance[3, 5] = 52
        relevance[4, 6] = 4
        assert relevance_box(relevance).tolist() == [2, 4, 3, 6]

    def test_negative_relevance_does_not_count(self):
        relevance = np.full((6, 8), -3.0)
        relevance[4, 1] = 2
        assert relevance_box(relevance).tolist() == [4, 5, 1, 2]

    @pytest.mark.parametrize("value", [0.0, -1.0, np.nan])
    def test_without_relevance_there_is_no_box(self, value):
        assert relevance_box(np.full((6, 8), value)) is None

    def test_all_ties_leave_out_what_may_be_left_out(self):
        assert relevance_box(np.ones((100, 20))).tolist() == [5, 95, 1, 19]

    def test_one_pixel_is_its_own_box(self):
        assert relevance_box(np.ones((1, 1))).tolist() == [0, 1, 0, 1]

    def test_the_scale_does_not_matter(self):
        relevance = np.random.default_rng(0).normal(size=(20, 30))
        assert_array_equal(relevance_box(relevance), relevance_box(relevance * 1e-4))

    def test_rounding_is_no_relevance(self):
        assert relevance_box(np.random.default_rng(0).random((20, 30)) * 1e-7) is None


class TestPercentileBox:
    def test_it_holds_the_largest_five_percent(self):
        values = np.arange(400.0).reshape(20, 20)  # the last row is the top 5 %
        assert percentile_box(values).tolist() == [19, 20, 0, 20]

    def test_ties_with_the_percentile_do_not_make_it_the_whole_image(self):
        values = np.zeros((20, 20))
        values[3, 4:9] = 1  # 1.25 %: the 95th percentile is 0
        assert percentile_box(values).tolist() == [3, 4, 4, 9]

    def test_ties_at_the_top_are_all_meant(self):
        values = np.zeros((20, 20))
        values[10:, :5] = 1
        assert percentile_box(values).tolist() == [10, 20, 0, 5]

    def test_without_a_peak_the_box_is_the_image(self):
        assert percentile_box(np.ones((20, 30))).tolist() == [0, 20, 0, 30]


@pytest.mark.parametrize(
    ("prototype_size", "kind"),
    [
        ((1, 1), "receptive_field"),
        ((2, 3), "receptive_field"),
        ((2, 4), "wide_receptive_field"),
        ((4, 4), "whole_image"),
    ],
)
def test_a_receptive_field_of_half_of_the_image_is_wide(prototype_size, kind):
    X, y = np.random.default_rng(0).normal(size=(8, 8, 8)), np.arange(8) % 2
    backbone = nn.Sequential(nn.Conv2d(1, 4, 2, stride=2), nn.ReLU())  # of cells of 2 x 2 pixels
    settings = {**QUICK, "prototype_size": prototype_size}
    clf = ProtoPNetClassifier(backbone=backbone, **settings).fit(X, y)
    for table, box in ((clf.explain(X), BOX), (clf.prototype_table(), SOURCE_BOX)):
        y0, y1, x0, x1 = (table[edge] for edge in box)
        assert ((y1 - y0 == 2 * prototype_size[0]) & (x1 - x0 == 2 * prototype_size[1])).all()
        assert (table["box_kind"] == kind).all()


class TestLocalize:
    @pytest.mark.parametrize("localizer", LOCALIZERS)
    def test_maps_and_boxes_are_in_pixels_of_the_image(self, clf, images, localizer):
        found = localize(clf, images[:2], prototypes=[2, 0], localizer=localizer)
        assert found.prototypes.tolist() == [2, 0]
        assert [each.shape for each in found.maps] == [(2, 40, 56)] * 2
        assert {each.dtype for each in found.maps} == {np.dtype(np.float32)}
        assert found.boxes.shape == (2, 2, 4)
        y0, y1, x0, x1 = np.moveaxis(found.boxes, 2, 0)
        assert ((y0 >= 0) & (y0 < y1) & (y1 <= 40)).all()
        assert ((x0 >= 0) & (x0 < x1) & (x1 <= 56)).all()
        is_whole = (y1 - y0) * (x1 - x0) == 40 * 56
        assert_array_equal(found.box_kinds, np.where(is_whole, "whole_image", localizer))
        assert not is_whole.all()

    @pytest.mark.parametrize("localizer", ["integrated_gradients", "occlusion", "prp"])
    def test_boxes_lie_within_the_receptive_field(self, clf, images, localizer):
        boxes = localize(clf, images[:2], localizer=localizer).boxes
        fields = localize(clf, images[:2], localizer="receptive_field").boxes
        assert (boxes[..., [0, 2]] >= fields[..., [0, 2]]).all()
        assert (boxes[..., [1, 3]] <= fields[..., [1, 3]]).all()
        assert (boxes != fields).any(2).mean() > 0.9

    def test_the_receptive_field_is_the_one_of_explain(self, clf, images):
        found = localize(clf, images[:4], localizer="receptive_field")
        why = clf.explain(images[:4])
        place = why["sample"], why["prototype"]
        assert_array_equal(found.boxes[place], why[BOX])
        for maps, boxes in zip(found.maps, found.boxes, strict=True):
            for each, (y0, y1, x0, x1) in zip(maps, boxes, strict=True):
                assert each[y0:y1, x0:x1].all()
                assert each.sum() == (y1 - y0) * (x1 - x0)

    def test_all_prototypes_by_default(self, clf, images):
        assert localize(clf, images[:1]).prototypes.tolist() == [0, 1, 2, 3]

    @pytest.mark.parametrize("localizer", LOCALIZERS)
    def test_deltas_are_of_maps_that_should_have_a_sum(self, clf, images, localizer):
        found = localize(clf, images[:1], prototypes=[0], localizer=localizer)
        has_sum = localizer in {"integrated_gradients", "prp"}
        assert np.isfinite(found.convergence_deltas).all() == has_sum

    def test_an_image_does_not_depend_on_the_images_beside_it(self, clf, images):
        alone = localize(clf, images[5:6], localizer="prp")
        among = localize(clf, images[3:7], localizer="prp")
        assert_array_equal(alone.maps[0], among.maps[2])

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"localizer": "magic"}, "localizer must be one of .* got 'magic'"),
            ({"prototypes": [4]}, r"prototypes must be numbers from 0 to 3, got \[4\]"),
            ({"prototypes": [-1]}, "prototypes must be numbers from 0 to 3"),
            ({"prototypes": []}, "prototypes must be numbers from 0 to 3"),
            ({"prototypes": [0.5]}, "prototypes must be numbers from 0 to 3"),
        ],
    )
    def test_bad_arguments_are_refused(self, clf, images, settings, message):
        with pytest.raises(ValueError, match=message):
            localize(clf, images[:1], **settings)

    @pytest.mark.parametrize("function", [localize, similarity_maps])
    def test_a_classifier_that_is_not_fitted_is_refused(self, images, function):
        with pytest.raises(NotFittedError):
            function(ProtoPNetClassifier(), images)


class TestSimilarityMaps:
    def test_the_largest_is_the_similarity(self, clf, images):
        maps = similarity_maps(clf, images)
        assert maps.shape == (24, 4, 8, 9)
        assert_allclose(maps.max((2, 3)), clf.transform(images), rtol=1e-9)

    def test_its_place_is_the_box(self, clf, images):
        maps = similarity_maps(clf, images[:3])  # (n, P, h, w)
        boxes = localize(clf, images[:3], localizer="receptive_field").boxes
        of_place = {}
        for i, p in np.ndindex(3, 4):
            place = np.unravel_index(maps[i, p].argmax(), maps.shape[2:])
            assert of_place.setdefault(place, boxes[i, p].tolist()) == boxes[i, p].tolist()
        assert len({tuple(box) for box in of_place.values()}) == len(of_place) > 1


class TestExplain:
    @pytest.mark.parametrize("localizer", OTHERS)
    def test_boxes_are_those_of_localize(self, clf, images, localizer):
        why = clf.explain(images[:2], localizer=localizer, top_k=2)
        found = localize(clf, images[:2], localizer=localizer)
        place = why["sample"], why["prototype"]
        assert_array_equal(why[BOX], found.boxes[place])
        assert_array_equal(why["box_kind"], found.box_kinds[place])

    @pytest.mark.parametrize("localizer", OTHERS)
    def test_sources_have_boxes_by_the_same_localizer(self, clf, images, localizer):
        why = clf.explain(images[:1], localizer=localizer, top_k=2)
        what = clf.prototype_table(localizer=localizer)
        source = what.set_index("prototype").loc[why["prototype"]]
        assert_array_equal(why[SOURCE_BOX], source[SOURCE_BOX])
        source, prototype = what.loc[2, ["source_sample", "prototype"]]
        found = localize(clf, images[[source]], prototypes=[prototype], localizer=localizer)
        assert found.boxes[0, 0].tolist() == what.loc[2, SOURCE_BOX].tolist()

    def test_all_but_boxes_is_the_same(self, clf, images):
        columns = [*BOX, *SOURCE_BOX, "box_kind"]
        pd.testing.assert_frame_equal(
            clf.explain(images[:3], localizer="prp").drop(columns=columns),
            clf.explain(images[:3]).drop(columns=columns),
        )

    def test_only_rows_of_the_table_are_located(self, clf, images, monkeypatch):
        asked = []
        receptive_field = LOCALIZERS["receptive_field"].attribute

        def count(network, image, queries):
            asked.append(len(queries))
            return receptive_field(network, image, queries)

        counting = Localizer("counting", count, relevance_box, "", "no further pass")
        monkeypatch.setitem(LOCALIZERS, "counting", counting)
        why = clf.explain(images[:5], top_k=1, localizer="counting")
        assert asked == [1] * (5 + why["prototype"].nunique())  # the images, and the sources
        assert set(why["box_kind"]) == {"counting"}

    def test_what_has_no_relevant_pixel_gets_its_receptive_field(self, clf, images, monkeypatch):
        receptive_field = LOCALIZERS["receptive_field"].attribute
        nothing = Localizer("nothing", receptive_field, lambda _: None, "", "no further pass")
        monkeypatch.setitem(LOCALIZERS, "nothing", nothing)
        found = clf.explain(images[:2], localizer="nothing")
        pd.testing.assert_frame_equal(found, clf.explain(images[:2]))

    @pytest.mark.parametrize("localizer", OTHERS)
    def test_the_mode_of_torch_changes_nothing(self, clf, images, localizer):
        expected = clf.explain(images[:1], localizer=localizer, top_k=1)
        for mode in (torch.no_grad, torch.inference_mode):
            with mode():
                found = clf.explain(images[:1], localizer=localizer, top_k=1)
            pd.testing.assert_frame_equal(found, expected)
        assert torch.is_grad_enabled()

    @pytest.mark.parametrize("localizer", ["integrated_gradients", "occlusion"])
    def test_nothing_counts_in_a_constant_image(self, clf, localizer):
        constant = np.full((1, 40, 56, 3), 130, dtype=np.uint8)
        found = clf.explain(constant, localizer=localizer, top_k=2)
        assert_array_equal(found[BOX], clf.explain(constant, top_k=2)[BOX])
        assert set(found["box_kind"]) == {"receptive_field"}

    def test_a_prototype_without_a_source_keeps_none(self, images):
        y = np.arange(24) % 3
        classifier = ProtoPNetClassifier(
            **{**QUICK, "image_size": (32, 36), "n_prototypes_per_class": 1}
        )
        with pytest.warns(UserWarning, match="No training image of classes"):
            classifier.fit(images, y, sample_weight=y != 2)
        what = classifier.prototype_table(localizer="prp")
        assert what["source_sample"].tolist()[2] == -1
        assert what["box_kind"].tolist() == ["prp", "prp", ""]
        assert what[SOURCE_BOX].to_numpy()[2].tolist() == [0, 0, 0, 0]
        assert (what["source_y1"] > what["source_y0"]).tolist() == [True, True, False]


class Counting(nn.Module):
    """A small backbone that counts the images that it is given."""

    counts: ClassVar[list[int]] = []

    def __init__(self, kernel_size=3):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 4, kernel_size), nn.ReLU(), nn.MaxPool2d(2))

    def forward(self, images):
        self.counts.append(len(images))
        return self.layers(images)


@pytest.fixture(scope="module")
def counted(digits):
    X, y = digits
    settings = {**QUICK, "image_shape": (8, 8), "pretraining_epochs": 0}
    return ProtoPNetClassifier(backbone=Counting(), **settings).fit(X[y < 2], y[y < 2])


class TestCosts:
    def n_passes(self, clf, X, localizer, **options):
        """Images that a localizer passes through the network beside those of `predict`."""
        counts = []
        for ask in (
            lambda: localize(clf, X, localizer=localizer, **options),
            lambda: clf.predict(X),
        ):
            Counting.counts.clear()
            ask()
            counts.append(sum(Counting.counts))
        return counts[0] - counts[1]

    def test_costs_are_in_the_documentation(self):
        text = " ".join(localize.__doc__.lower().split())
        for localizer in LOCALIZERS.values():
            assert f'``"{localizer.name}"``' in text
            assert f". {localizer.cost.lower()}." in text

    def test_forward_passes_are_as_documented_whatever_the_number_of_prototypes(
        self, counted, digits
    ):
        expected = {"receptive_field": 0, "upsample": 1, "prp": 1, "integrated_gradients": 18}
        found = {name: self.n_passes(counted, digits[0][:2], name) for name in expected}
        assert found == {name: 2 * n for name, n in expected.items()}

    @pytest.mark.parametrize(
        ("kernel_size", "least", "most"),
        [(1, 2, 250), (10, 2, 250), (17, 130 / 1.5, 130 * 1.5), (31, 130 / 1.5, 130 * 1.5)],
    )
    def test_so_are_those_of_occlusion(self, kernel_size, least, most):
        X, y = np.random.default_rng(0).normal(size=(4, 34, 34)), np.arange(4) % 2
        settings = {**QUICK, "n_prototypes_per_class": 1, "pretraining_epochs": 0}
        clf = ProtoPNetClassifier(backbone=Counting(kernel_size), **settings).fit(X, y)
        for image in X:
            for prototype in (0, 1):
                n = self.n_passes(clf, image[None], "occlusion", prototypes=[prototype])
                assert least <= n <= most


class TestDisplays:
    def test_they_draw_boxes_by_a_localizer(self, clf, images):
        display = ExplanationDisplay.from_estimator(clf, images, sample=1, top_k=2, localizer="prp")
        why = clf.explain(images[1:2], localizer="prp")
        assert_array_equal(display.evidence[BOX][:2], why[BOX][:2])
        assert_array_equal(display.evidence[SOURCE_BOX][:2], why[SOURCE_BOX][:2])
        assert_allclose(display.evidence["contribution"], why["contribution"])
        display = PrototypeDisplay.from_estimator(clf, localizer="prp")
        what = clf.prototype_table(localizer="prp")
        assert_array_equal(display.table[SOURCE_BOX], what[SOURCE_BOX])
