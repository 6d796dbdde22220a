"""Localizers: from maps to boxes, in tables and alone."""

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from quick import QUICK
from sklearn.exceptions import NotFittedError

from sklearn_protopnet import ProtoPNetClassifier
from sklearn_protopnet.inspection import (
    ExplanationDisplay,
    PrototypeDisplay,
    localize,
    similarity_maps,
)
from sklearn_protopnet.inspection._attribution import WINDOW_SIDES, windows_of
from sklearn_protopnet.inspection._boxes import (
    LOCALIZERS,
    percentile_box,
    receptive_field_kinds,
    relevance_box,
)

BOX = ["y0", "y1", "x0", "x1"]
SOURCE_BOX = [f"source_{edge}" for edge in BOX]
OTHERS = [name for name in LOCALIZERS if name != "receptive_field"]


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (24, 40, 56, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def clf(images):
    """Images of 40 x 56 pixels, resized to 32 x 36."""
    return ProtoPNetClassifier(image_size=(32, 36), **QUICK).fit(images, np.arange(24) % 2)


class TestRelevanceBox:
    def test_by_hand(self):
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
    def test_no_relevance_no_box(self, value):
        assert relevance_box(np.full((6, 8), value)) is None

    def test_all_ties_leave_out_what_may_be_left_out(self):
        assert relevance_box(np.ones((100, 20))).tolist() == [5, 95, 1, 19]

    def test_one_pixel(self):
        assert relevance_box(np.ones((1, 1))).tolist() == [0, 1, 0, 1]

    def test_the_scale_does_not_matter(self):
        relevance = np.random.default_rng(0).normal(size=(20, 30))
        assert_array_equal(relevance_box(relevance), relevance_box(relevance * 1e-4))

    def test_rounding_is_no_relevance(self):
        assert relevance_box(np.random.default_rng(0).random((20, 30)) * 1e-7) is None


class TestPercentileBox:
    def test_by_hand(self):
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

    def test_no_peak_at_all(self):
        assert percentile_box(np.ones((20, 30))).tolist() == [0, 20, 0, 30]


def test_kinds_of_receptive_fields():
    boxes = np.array([[[0, 10, 0, 10], [0, 10, 0, 5], [0, 10, 0, 4]], [[0, 10, 0, 10]] * 3])
    kinds = receptive_field_kinds(boxes, np.array([[10, 10], [10, 30]]))
    assert kinds.tolist() == [
        ["whole_image", "wide_receptive_field", "receptive_field"],
        ["receptive_field"] * 3,
    ]


class TestLocalize:
    @pytest.mark.parametrize("localizer", LOCALIZERS)
    def test_maps_and_boxes_are_in_pixels_of_the_image(self, clf, images, localizer):
        found = localize(clf, images[:3], prototypes=[2, 0], localizer=localizer)
        assert found.prototypes.tolist() == [2, 0]
        assert [each.shape for each in found.maps] == [(2, 40, 56)] * 3
        assert {each.dtype for each in found.maps} == {np.dtype(np.float32)}
        assert found.boxes.shape == (3, 2, 4)
        y0, y1, x0, x1 = np.moveaxis(found.boxes, 2, 0)
        assert ((y0 >= 0) & (y0 < y1) & (y1 <= 40)).all()
        assert ((x0 >= 0) & (x0 < x1) & (x1 <= 56)).all()
        assert (found.box_kinds == localizer).all()

    @pytest.mark.parametrize("localizer", ["integrated_gradients", "occlusion", "prp"])
    def test_boxes_lie_within_the_receptive_field(self, clf, images, localizer):
        boxes = localize(clf, images[:6], localizer=localizer).boxes
        fields = localize(clf, images[:6], localizer="receptive_field").boxes
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

    def test_deltas_are_of_maps_that_should_have_a_sum(self, clf, images):
        assert np.isfinite(localize(clf, images[:2]).convergence_deltas).all()
        found = localize(clf, images[:2], localizer="prp")
        assert np.isfinite(found.convergence_deltas).all()
        for localizer in ("receptive_field", "occlusion", "upsample"):
            others = localize(clf, images[:2], localizer=localizer)
            assert np.isnan(others.convergence_deltas).all()

    def test_the_passes_of_occlusion_are_its_windows(self, clf, images):
        """And one plain image with each batch of them, of each of two sizes."""
        seen = []
        hook = clf._rebuilt_network().backbone.register_forward_hook(
            lambda *args: seen.append(len(args[1][0]))
        )
        localize(clf, images[:1], prototypes=[0], localizer="occlusion")
        hook.remove()
        (position,) = clf._view(images[:1]).arrays("positions")
        box = torch.from_numpy(clf._view(images[:1])._fields(position[:, :1])[0])
        windows = sum(len(windows_of(box, side)) for side in WINDOW_SIDES)
        assert sum(seen) == 2**18 // (32 * 36) + windows + len(WINDOW_SIDES)

    @pytest.mark.parametrize(
        ("localizer", "n_images"),
        [("receptive_field", 0), ("upsample", 1), ("prp", 1), ("integrated_gradients", 18)],
    )
    def test_passes_come_beside_one_look_that_is_filled_up(self, clf, images, localizer, n_images):
        """Forward passes, whatever the number of prototypes; 2^18 pixels are 227 of 32 x 36."""
        seen = []
        backbone = clf._rebuilt_network().backbone
        hook = backbone.register_forward_hook(lambda *args: seen.append(len(args[1][0])))
        localize(clf, images[:2], localizer=localizer)
        hook.remove()
        assert sum(seen) == 2**18 // (32 * 36) + 2 * n_images

    def test_an_image_does_not_depend_on_the_images_beside_it(self, clf, images):
        alone = localize(clf, images[5:6], localizer="prp")
        among = localize(clf, images, localizer="prp")
        assert_array_equal(alone.maps[0], among.maps[5])

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
    def test_errors(self, clf, images, settings, message):
        with pytest.raises(ValueError, match=message):
            localize(clf, images[:1], **settings)

    @pytest.mark.parametrize("function", [localize, similarity_maps])
    def test_a_classifier_that_is_not_fitted(self, images, function):
        with pytest.raises(NotFittedError):
            function(ProtoPNetClassifier(), images)


class TestSimilarityMaps:
    def test_the_largest_is_the_similarity(self, clf, images):
        maps = similarity_maps(clf, images)
        assert maps.shape == (24, 4, 8, 9)
        assert_allclose(maps.max((2, 3)), clf.transform(images), rtol=1e-9)

    def test_its_place_is_the_box(self, clf, images):
        positions = similarity_maps(clf, images).reshape(24, 4, -1).argmax(2)
        (expected,) = clf._view(images).arrays("positions")
        assert_array_equal(positions, expected)


class TestExplain:
    @pytest.mark.parametrize("localizer", OTHERS)
    def test_boxes_are_those_of_localize(self, clf, images, localizer):
        why = clf.explain(images[:2], localizer=localizer)
        found = localize(clf, images[:2], localizer=localizer)
        place = why["sample"], why["prototype"]
        assert_array_equal(why[BOX], found.boxes[place])
        assert_array_equal(why["box_kind"], found.box_kinds[place])

    @pytest.mark.parametrize("localizer", OTHERS)
    def test_sources_have_boxes_by_the_same_localizer(self, clf, images, localizer):
        why = clf.explain(images[:1], localizer=localizer)
        what = clf.prototype_table(localizer=localizer)
        source = what.set_index("prototype").loc[why["prototype"]]
        assert_array_equal(why[SOURCE_BOX], source[BOX])
        for row in what[:2].itertuples():
            found = localize(
                clf, images[[row.sample]], prototypes=[row.prototype], localizer=localizer
            )
            assert found.boxes[0, 0].tolist() == [row.y0, row.y1, row.x0, row.x1]

    def test_all_but_boxes_is_the_same(self, clf, images):
        columns = [*BOX, *SOURCE_BOX, "box_kind"]
        pd.testing.assert_frame_equal(
            clf.explain(images, localizer="prp").drop(columns=columns),
            clf.explain(images).drop(columns=columns),
        )

    def test_only_rows_of_the_table_are_located(self, clf, images, monkeypatch):
        from sklearn_protopnet.inspection import _look

        asked = []
        method = _look.METHODS["prp"]

        def watched(network, image, queries):
            asked.append(len(queries))
            return method(network, image, queries)

        monkeypatch.setitem(_look.METHODS, "prp", watched)
        why = clf.explain(images[:5], top_k=1, localizer="prp")
        n_sources = why["prototype"].nunique()
        assert asked == [1] * (5 + n_sources)

    def test_what_has_no_relevant_pixel_gets_its_receptive_field(self, clf, images, monkeypatch):
        from sklearn_protopnet.inspection import _look

        monkeypatch.setitem(
            _look.METHODS,
            "prp",
            _look.METHODS["receptive_field"],
        )
        monkeypatch.setitem(_look.BOX_RULES, "prp", lambda _: None)
        found = clf.explain(images[:2], localizer="prp")
        assert_array_equal(found[BOX], clf.explain(images[:2])[BOX])
        assert set(found["box_kind"]) == {"receptive_field"}

    def test_torch_remembers_nothing(self, clf, images):
        before = [p.grad for p in clf._rebuilt_network().parameters()]
        clf.explain(images[:1], localizer="integrated_gradients")
        assert torch.is_grad_enabled()
        after = [p.grad for p in clf._rebuilt_network().parameters()]
        assert all(one is other for one, other in zip(before, after, strict=True))

    @pytest.mark.parametrize("localizer", OTHERS)
    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
    def test_whatever_mode_torch_is_in(self, clf, images, localizer, mode):
        expected = clf.explain(images[:1], localizer=localizer, top_k=1)
        with mode():
            found = clf.explain(images[:1], localizer=localizer, top_k=1)
        pd.testing.assert_frame_equal(found, expected)

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
        assert what["sample"].tolist()[2] == -1
        assert what["box_kind"].tolist() == ["prp", "prp", ""]
        assert what[BOX].to_numpy()[2].tolist() == [0, 0, 0, 0]
        assert (what["y1"] > what["y0"]).tolist() == [True, True, False]


class TestDisplays:
    def test_an_explanation_with_boxes_by_a_localizer(self, clf, images):
        display = ExplanationDisplay.from_estimator(clf, images, sample=1, top_k=2, localizer="prp")
        why = clf.explain(images[1:2], localizer="prp")
        assert_array_equal(display.evidence[BOX][:2], why[BOX][:2])
        assert_array_equal(display.evidence[SOURCE_BOX][:2], why[SOURCE_BOX][:2])
        assert_allclose(display.evidence["contribution"], why["contribution"])

    def test_prototypes_with_boxes_by_a_localizer(self, clf):
        display = PrototypeDisplay.from_estimator(clf, localizer="prp")
        assert_array_equal(display.table[BOX], clf.prototype_table(localizer="prp")[BOX])
