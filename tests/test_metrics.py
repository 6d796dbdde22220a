"""Metrics, on cases worked out by hand."""

import re
import tracemalloc

import numpy as np
import pytest

from sklearn_protopnet import metrics
from sklearn_protopnet.metrics import (
    box_necessity,
    box_sufficiency,
    causal_parts,
    centre_baseline,
    centre_boxes,
    consistency,
    coverage,
    deletion_auc,
    global_size,
    insertion_auc,
    local_size,
    location_change,
    n_distinct_prototypes,
    part_presence,
    part_rates,
    pointing_game,
    purity,
    random_baseline,
    random_boxes,
    relevance_mass,
    sparsity,
    spatial_misalignment,
    stability,
)

NAN = float("nan")


class TestSize:
    COEF = np.array([[1.0, 0, 0, -0.5], [0, 2, 0, 0]])

    def test_sparsity_is_the_share_of_zeros(self):
        assert sparsity(self.COEF) == 5 / 8
        assert sparsity(np.zeros((2, 3))) == 1
        assert sparsity([[1e-300]]) == 0

    def test_the_global_size_counts_prototypes_with_a_weight(self):
        assert global_size(self.COEF) == 3
        assert global_size([[0.0], [0.0]]) == 0
        assert global_size([[0.0], [-1.0]]) == 1

    def test_the_local_size_counts_contributions_near_the_largest(self):
        contributions = [[10, -1, 0.99], [0, 0, 0], [3, 3, 3]]
        assert local_size(contributions) == (2 + 0 + 3) / 3
        assert local_size(contributions, threshold=0) == (3 + 0 + 3) / 3
        assert local_size(contributions, threshold=1) == (1 + 0 + 3) / 3
        assert local_size([[-4.0]]) == 1

    def test_prototypes_that_are_equal_are_one(self):
        prototypes = np.zeros((4, 2, 1, 1))
        prototypes[1, 0] = prototypes[3, 0] = 1e-12
        assert n_distinct_prototypes(prototypes) == 2
        assert n_distinct_prototypes(prototypes[:1]) == 1


class TestPointingGame:
    def test_it_is_the_share_of_largest_values_in_masks(self):
        maps = np.zeros((4, 2, 3))
        maps[[0, 1, 2, 3], [0, 1, 0, 1], [2, 0, 1, 1]] = [1, 5, 2, 1e-9]
        masks = np.zeros((4, 2, 3), dtype=bool)
        masks[0, 0, 2] = masks[1, 0] = masks[3] = True
        assert pointing_game(maps, masks) == (1 + 0 + 0 + 1) / 4

    def test_an_empty_mask_is_no_hit(self):
        assert pointing_game(np.random.default_rng(0).random((3, 4, 5)), np.zeros((3, 4, 5))) == 0

    def test_ties_score_what_chance_does(self):
        masks = np.zeros((1, 4, 5), dtype=bool)
        masks[0, 1, :3] = True
        assert pointing_game(np.zeros((1, 4, 5)), masks) == 3 / 20 == random_baseline(masks)

    def test_negative_maps_have_a_largest_value_too(self):
        assert pointing_game([[[-3.0, -1.0]]], [[[False, True]]]) == 1


class TestRelevanceMass:
    def test_it_is_the_share_of_positive_relevance_in_masks(self):
        maps = [[[2.0, 6.0, -9.0]], [[0.0, -1.0, 0.0]], [[1.0, 1.0, 2.0]]]
        masks = [[[1, 0, 1]], [[1, 1, 1]], [[0, 0, 1]]]
        assert relevance_mass(maps, masks) == (2 / 8 + 0 + 2 / 4) / 3

    def test_an_empty_mask_holds_nothing(self):
        assert relevance_mass([[[1.0]]], [[[False]]]) == 0

    def test_a_constant_map_scores_what_chance_does(self):
        masks = np.random.default_rng(0).random((3, 4, 5)) < 0.3
        assert relevance_mass(np.ones((3, 4, 5)), masks) == pytest.approx(random_baseline(masks))


class TestBaselines:
    def test_the_centre_scores_its_share_in_masks(self):
        masks = np.zeros((2, 4, 5), dtype=bool)
        masks[0, 1, 2] = True  # rows 1 and 2 are in the middle, column 2 is
        masks[1, :, 2] = True
        assert centre_baseline(masks) == (1 / 2 + 1) / 2
        assert centre_baseline([[[True]]]) == 1
        assert centre_baseline(np.eye(4)[None]) == 2 / 4

    def test_chance_scores_the_share_of_the_masks(self):
        assert random_baseline(np.eye(4)[None]) == 1 / 4

    def test_masks_take_no_more_memory_than_a_few_of_themselves(self):
        masks = np.zeros((100, 100, 100), dtype=bool)
        masks[:, :50] = True
        tracemalloc.start()
        try:
            assert random_baseline(masks) == 0.5
            assert tracemalloc.get_traced_memory()[1] < 3 * masks.nbytes
        finally:
            tracemalloc.stop()


class TestBoxesThatKnowNothing:
    def test_boxes_of_the_same_size_go_to_the_centre(self):
        boxes = [[[0, 3, 1, 5], [2, 2, 0, 7]], [[1, 5, 0, 1], [0, 0, 0, 0]]]
        sizes = [[9, 7], [5, 4]]
        expected = [[[3, 6, 1, 5], [4, 4, 0, 7]], [[0, 4, 1, 2], [2, 2, 2, 2]]]
        assert centre_boxes(boxes, sizes).tolist() == expected
        assert centre_boxes(boxes[:1], [9, 7]).tolist() == expected[:1]

    def test_places_at_random_are_all_equally_likely(self):
        boxes = np.tile([0, 2, 0, 5], (4000, 1, 1))
        found = random_boxes(boxes, (4, 5), random_state=0)[:, 0]
        assert (found[:, 1::2] - found[:, ::2] == [2, 5]).all()
        assert (found[:, 2] == 0).all()
        starts, counts = np.unique(found[:, 0], return_counts=True)
        assert starts.tolist() == [0, 1, 2]
        assert np.abs(counts / 4000 - 1 / 3).max() < 0.03  # four standard errors
        assert np.array_equal(random_boxes(boxes, (4, 5), random_state=0)[:, 0], found)

    @pytest.mark.parametrize("place", [centre_boxes, random_boxes])
    def test_a_box_that_is_the_whole_image_stays(self, place):
        assert place([[[0, 4, 0, 3]]], (4, 3)).tolist() == [[[0, 4, 0, 3]]]

    @pytest.mark.parametrize("place", [centre_boxes, random_boxes])
    @pytest.mark.parametrize(
        ("boxes", "sizes", "message"),
        [
            ([[[0, 4, 0, 3]]], (4, 2), "no larger than their images"),
            ([[[4, 0, 0, 3]]], (4, 3), "end after they start"),
            ([[[0, 4, 0]]], (4, 3), r"got \(1, 1, 3\) and \(2,\)"),
            ([[[0, 4, 0, 3]]], (4, 3, 3), r"got \(1, 1, 4\) and \(3,\)"),
            ([[[0, 4, 0, 3]]], [[4, 3]] * 2, r"got \(1, 1, 4\) and \(2, 2\)"),
        ],
    )
    def test_bad_boxes_and_sizes_are_refused(self, place, boxes, sizes, message):
        with pytest.raises(ValueError, match=message):
            place(boxes, sizes)


class TestPartPresence:
    def test_boxes_are_half_open(self):
        boxes = [[[2, 5, 1, 3]]]
        centres = [[[2, 1], [4.99, 2.99], [5, 1], [2, 3], [1.99, 1], [NAN, NAN]]]
        assert part_presence(boxes, centres).tolist() == [
            [[True, True, False, False, False, False]]
        ]

    def test_each_image_has_its_own_parts(self):
        boxes = np.tile([[0, 2, 0, 2], [2, 4, 2, 4]], (2, 1, 1))
        centres = [[[1, 1]], [[3, 3]]]
        assert part_presence(boxes, centres)[..., 0].tolist() == [[True, False], [False, True]]

    @pytest.mark.parametrize(
        ("boxes", "centres"),
        [
            ([[[0, 1, 0]]], [[[0, 0]]]),
            ([[[0, 1, 0, 1]]], [[0, 0]]),
            ([[[0, 1, 0, 1]]] * 2, [[[0, 0]]]),
        ],
    )
    def test_other_shapes_are_refused(self, boxes, centres):
        with pytest.raises(ValueError, match="boxes must have the shape"):
            part_presence(boxes, centres)


class TestConsistency:
    def test_it_is_the_share_of_prototypes_that_often_hold_a_part(self):
        """10 images, 2 parts: one prototype holds part 0 in 8, the other in 7 and part 1 in 3."""
        presence = np.zeros((10, 2, 2), dtype=bool)
        presence[:8, 0, 0] = presence[:7, 1, 0] = presence[7:, 1, 1] = True
        visible = np.ones((10, 2), dtype=bool)
        assert consistency(presence, visible) == 1 / 2
        assert consistency(presence, visible, threshold=0.7) == 1
        assert consistency(presence, visible, threshold=0.81) == 0

    def test_a_part_that_is_not_seen_cannot_be_held(self):
        presence = np.zeros((12, 1, 1), dtype=bool)
        presence[:8] = True
        visible = np.arange(12)[:, None] < 10
        assert consistency(presence, visible) == 1
        assert consistency(presence, np.ones((12, 1))) == 0

    def test_a_part_that_is_seen_too_rarely_does_not_count(self):
        presence = np.zeros((20, 1, 2), dtype=bool)
        presence[:9, 0, 1] = True
        visible = np.stack([np.ones(20), np.arange(20) < 9], axis=1)
        assert consistency(presence, visible) == 0
        assert consistency(presence, visible, min_count=9) == 1
        assert np.isnan(consistency(presence, visible, min_count=21))
        assert np.isnan(consistency(presence, np.zeros((20, 2)), min_count=1))

    def test_images_of_other_classes_are_left_out_for_a_prototype(self):
        presence = np.ones((20, 2, 1), dtype=bool)
        presence[:10, 1] = False
        of_class = np.arange(20)[:, None] // 10 == np.arange(2)  # (n, P)
        assert consistency(presence, np.ones((20, 1))) == 1 / 2
        assert consistency(presence, of_class[:, :, None]) == 1

    def test_without_a_part_in_a_box_it_is_0(self):
        assert consistency(np.zeros((10, 3, 2)), np.ones((10, 2))) == 0


class TestPartRates:
    def test_they_are_shares_of_the_images_that_show_the_part(self):
        presence = np.zeros((4, 2, 2), dtype=bool)
        presence[:3, 0, 0] = presence[0, 1, 1] = presence[3, 1, 1] = True
        visible = np.array([[1, 1], [1, 0], [1, 1], [1, 0]])
        rates = part_rates(presence, visible, min_count=2)
        assert rates.tolist() == [[3 / 4, 0], [0, 1 / 2]]
        rare = part_rates(presence, visible, min_count=3)
        assert rare[:, 0].tolist() == [3 / 4, 0]
        assert np.isnan(rare[:, 1]).all()


class TestPurity:
    def test_it_is_the_mean_share_of_the_most_frequent_part(self):
        presence = np.zeros((4, 2, 2), dtype=bool)
        presence[:3, 0, 0] = presence[3, 0, 1] = presence[:1, 1, 1] = True
        assert purity(presence) == (3 / 4 + 1 / 4) / 2

    def test_a_part_that_one_patch_shows_is_no_purity(self):
        presence = np.zeros((10, 1, 2), dtype=bool)
        presence[3, 0, 1] = True
        assert purity(presence) == 1 / 10

    def test_without_a_part_in_a_box_it_is_0(self):
        assert purity(np.zeros((10, 3, 2))) == 0


class TestStability:
    def test_it_is_the_share_of_images_whose_parts_stay(self):
        before = np.array([[[1, 0], [0, 0], [1, 1]], [[0, 1], [0, 0], [0, 0]]])
        after = np.array([[[1, 0], [0, 0], [1, 0]], [[1, 0], [0, 0], [0, 1]]])
        assert stability(before, after) == 3 / 6
        assert stability(before, after, covered_only=True) == 1 / 3
        assert coverage(before) == 3 / 6

    def test_boxes_in_the_background_are_stable_and_tell_nothing(self):
        nothing = np.zeros((5, 2, 3))
        assert stability(nothing, nothing) == 1
        assert np.isnan(stability(nothing, nothing, covered_only=True))
        assert coverage(nothing) == 0


class TestLocationChange:
    def test_it_is_the_complement_of_the_overlap(self):
        """Shared 2 of 6, all of 4, and none."""
        before = [[0, 2, 0, 2], [1, 3, 1, 3], [0, 2, 0, 2]]
        after = [[0, 2, 1, 3], [1, 3, 1, 3], [2, 4, 0, 2]]
        assert location_change(before, after) == pytest.approx((2 / 3 + 0 + 1) / 3)

    def test_of_a_box_within_another_it_is_what_the_inner_one_leaves(self):
        assert location_change([[0, 4, 0, 4]], [[1, 3, 1, 3]]) == 1 - 4 / 16

    def test_a_box_without_pixels_has_changed_unless_it_is_the_same(self):
        assert location_change([[2, 2, 0, 3]], [[2, 2, 0, 3]]) == 0
        assert location_change([[2, 2, 0, 3]], [[1, 1, 0, 3]]) == 1
        assert location_change([[2, 2, 0, 3]], [[1, 3, 0, 3]]) == 1

    @pytest.mark.parametrize(
        ("before", "after"),
        [([[0, 1, 0]], [[0, 1, 0]]), ([[0, 1, 0, 1]], [[0, 1, 0, 1]] * 2)],
    )
    def test_other_shapes_are_refused(self, before, after):
        with pytest.raises(ValueError, match="must have one shape"):
            location_change(before, after)


class TestSpatialMisalignment:
    def test_it_is_the_mean_share_that_is_lost(self):
        assert spatial_misalignment([4.0, 2.0, 1.0], [1.0, 2.0, 1.5]) == (3 / 4 + 0 - 1 / 2) / 3

    def test_what_has_no_share_does_not_count(self):
        assert spatial_misalignment([0.0, -1.0, 2.0], [0.0, -2.0, 1.0]) == 1 / 2
        assert np.isnan(spatial_misalignment([0.0], [0.0]))

    def test_other_shapes_are_refused(self):
        with pytest.raises(ValueError, match="must have the shape of similarities"):
            spatial_misalignment([1.0, 2.0], [1.0])


def total(images):
    return images.sum((1, 2, 3))


class TestDeletionAndInsertion:
    IMAGE = np.array([[[6.0], [3.0], [1.0], [0.0]]])  # (1, 4, 1), of 10 in all
    NOTHING = np.zeros((1, 4, 1))

    def area(self, metric, relevance, **settings):
        settings = {"n_steps": 4, **settings}
        return metric(total, self.IMAGE, [relevance], self.NOTHING, **settings)

    def test_they_are_areas_under_the_curves(self):
        """Left after each of four steps, the best order: 1, 0.4, 0.1, 0, 0."""
        assert self.area(deletion_auc, [4, 3, 2, 1]) == pytest.approx((0.5 + 0.4 + 0.1) / 4)
        assert self.area(insertion_auc, [4, 3, 2, 1]) == pytest.approx((0.6 + 0.9 + 1 + 0.5) / 4)
        assert self.area(deletion_auc, [1, 2, 3, 4]) == pytest.approx((0.5 + 1 + 0.9 + 0.6) / 4)

    def test_in_ties_the_first_go_first(self):
        assert self.area(deletion_auc, [0, 0, 0, 0]) == self.area(deletion_auc, [4, 3, 2, 1])

    def test_of_pixels_that_count_alike_the_area_is_one_half(self):
        score = total
        image = np.ones((4, 5, 3))
        relevance = np.random.default_rng(0).random((4, 5))
        for metric in (deletion_auc, insertion_auc):
            assert metric(score, image, relevance, 0 * image) == pytest.approx(0.5)

    def test_more_steps_than_pixels_are_as_many_as_pixels(self):
        assert self.area(deletion_auc, [4, 3, 2, 1], n_steps=100) == pytest.approx(
            (0.5 + 0.4 + 0.1) / 4, abs=0.02
        )

    def test_a_score_that_does_not_change_has_no_curve(self):
        for metric in (deletion_auc, insertion_auc):
            found = metric(lambda images: np.ones(len(images)), self.IMAGE, [[1] * 4], self.NOTHING)
            assert np.isnan(found)

    def test_against_a_baseline_that_is_nearly_as_good_there_is_no_curve(self):
        for share, is_known in ((0.91, False), (0.89, True), (1.12, True), (1.1, False)):
            for metric in (deletion_auc, insertion_auc):
                found = metric(total, self.IMAGE, [[4, 3, 2, 1]], share * self.IMAGE)
                assert np.isfinite(found) == is_known

    def test_all_channels_of_a_pixel_go_together(self):
        seen = []

        def score(images):
            seen.append(images)
            return total(images)

        deletion_auc(score, np.ones((1, 2, 3)), [[0, 1]], np.zeros((1, 2, 3)), n_steps=2)
        (images,) = seen
        assert images[..., 0].tolist() == [[[1, 1]], [[1, 0]], [[0, 0]]]
        assert (images == images[..., :1]).all()

    @pytest.mark.parametrize(
        ("image", "relevance", "baseline", "message"),
        [
            (np.ones((2, 2)), np.ones((2, 2)), np.ones((2, 2)), "must have one shape"),
            (np.ones((2, 2, 1)), np.ones((2, 2)), np.ones((2, 1, 1)), "must have one shape"),
            (np.ones((2, 2, 1)), np.ones((1, 2)), np.ones((2, 2, 1)), "relevance must have the"),
        ],
    )
    def test_other_shapes_are_refused(self, image, relevance, baseline, message):
        for metric in (deletion_auc, insertion_auc):
            with pytest.raises(ValueError, match=message):
                metric(total, image, relevance, baseline)


class TestBoxes:
    IMAGE = np.arange(1.0, 7).reshape(2, 3, 1)  # of 21 in all

    def test_they_are_shares_of_the_score(self):
        box, nothing = [0, 2, 1, 2], 0 * self.IMAGE  # 2 + 5
        assert box_sufficiency(total, self.IMAGE, box, nothing) == 7 / 21
        assert box_necessity(total, self.IMAGE, box, nothing) == pytest.approx(7 / 21)

    def test_the_whole_image_is_sufficient_and_an_empty_box_is_not(self):
        nothing = 0 * self.IMAGE
        assert box_sufficiency(total, self.IMAGE, [0, 2, 0, 3], nothing) == 1
        assert box_necessity(total, self.IMAGE, [0, 2, 0, 3], nothing) == 1
        assert box_sufficiency(total, self.IMAGE, [1, 1, 0, 0], nothing) == 0
        assert box_necessity(total, self.IMAGE, [1, 1, 0, 0], nothing) == 0

    @pytest.mark.parametrize("sign", [0, -1])
    def test_a_score_that_has_no_share_is_nan(self, sign):
        for metric in (box_sufficiency, box_necessity):
            assert np.isnan(metric(total, sign * self.IMAGE, [0, 1, 0, 1], self.IMAGE))


class TestCausalParts:
    def test_a_part_is_causal_where_its_removal_counts(self):
        before = [[5.0, 5.0, 5.0, -2.0]]
        without = [[[5, 4.6, 9, -2.2], [1, 4.5, 6, -4.0], [2, 4.5, 5, -3]]]
        assert causal_parts(before, without, [[1, 1, 1]]).tolist() == [[1, 1, -1, 1]]
        assert causal_parts(before, without, [[1, 0, 1]]).tolist() == [[2, 2, -1, 2]]
        assert causal_parts(before, without, [[1, 1, 1]], min_drop=0.5).tolist() == [[1, -1, -1, 1]]

    def test_without_parts_there_is_none(self):
        assert causal_parts([[5.0]], [[[0.0], [0.0]]], [[0, 0]]).tolist() == [[-1]]

    def test_where_nothing_changes_none_is_causal(self):
        assert causal_parts([[0.0]], [[[0.0]]], [[1]], min_drop=0).tolist() == [[-1]]

    def test_other_shapes_are_refused(self):
        with pytest.raises(ValueError, match="similarities_without must have the shape"):
            causal_parts([[1.0, 2.0]], [[[1.0]]], [[1]])
        with pytest.raises(ValueError, match="visible must have the shape"):
            causal_parts([[1.0]], [[[1.0]]], [[1, 1]])


@pytest.mark.parametrize("metric", [deletion_auc, insertion_auc])
class TestScores:
    def test_what_was_found_instead_is_said(self, metric):
        image, relevance = np.ones((2, 2, 1)), np.ones((2, 2))

        def infinite(images):
            return np.where(np.arange(len(images)) < 3, np.inf, total(images))

        for score, found in (
            (lambda images: total(images)[:, None], r"got an array of shape \(21, 1\)"),
            (lambda images: 1.0, r"got an array of shape \(\)"),
            (lambda images: total(images) * NAN, "found nan for 21 of them"),
            (infinite, "found inf for 3 of them"),
        ):
            with pytest.raises(ValueError, match=f"for each of 21 images, {found}"):
                metric(score, image, relevance, 0 * image)

    @pytest.mark.parametrize("n_steps", [0, -1, 2.5])
    def test_steps_are_positive_integers(self, metric, n_steps):
        with pytest.raises(ValueError, match="n_steps must be a positive integer"):
            metric(total, np.ones((2, 2, 1)), np.ones((2, 2)), np.zeros((2, 2, 1)), n_steps=n_steps)


@pytest.mark.parametrize("metric", [box_sufficiency, box_necessity])
@pytest.mark.parametrize(
    ("box", "message"),
    [
        ([0, 1, 0], "box must be four integers"),
        ([0.0, 1, 0, 1], "box must be four integers"),
        ([-1, 1, 0, 1], "box must lie in the image"),
        ([1, 0, 0, 1], "box must lie in the image"),
        ([0, 1, 0, 3], "box must lie in the image"),
    ],
)
def test_boxes_lie_in_the_image(metric, box, message):
    with pytest.raises(ValueError, match=message):
        metric(total, np.ones((2, 2, 1)), box, np.zeros((2, 2, 1)))


CALLS = {
    "causal_parts": lambda bad: causal_parts(bad, bad, bad),
    "box_necessity": lambda bad: box_necessity(total, bad, [0, 1, 0, 1], bad[..., :0]),
    "box_sufficiency": lambda bad: box_sufficiency(total, bad, [0, 1, 0, 1], bad[..., :0]),
    "deletion_auc": lambda bad: deletion_auc(total, bad, [[NAN]], bad),
    "insertion_auc": lambda bad: insertion_auc(total, bad, [[NAN]], bad),
    "sparsity": lambda bad: sparsity(bad),
    "global_size": lambda bad: global_size(bad),
    "local_size": lambda bad: local_size(bad),
    "n_distinct_prototypes": lambda bad: n_distinct_prototypes(bad),
    "pointing_game": lambda bad: pointing_game(bad, bad),
    "relevance_mass": lambda bad: relevance_mass(bad, bad),
    "centre_baseline": lambda bad: centre_baseline(bad),
    "random_baseline": lambda bad: random_baseline(bad),
    "centre_boxes": lambda bad: centre_boxes(bad, (2, 2)),
    "random_boxes": lambda bad: random_boxes(bad, (2, 2)),
    "part_presence": lambda bad: part_presence(bad, bad),
    "consistency": lambda bad: consistency(bad, bad),
    "purity": lambda bad: purity(bad),
    "stability": lambda bad: stability(bad, bad),
    "coverage": lambda bad: coverage(bad),
    "location_change": lambda bad: location_change(bad, bad),
    "part_rates": lambda bad: part_rates(bad, bad),
    "spatial_misalignment": lambda bad: spatial_misalignment(bad, bad),
}

OF_ESTIMATORS = {name for name in metrics.__all__ if name.endswith(("_scorer", "_report"))}


@pytest.mark.parametrize("name", sorted(set(metrics.__all__) - OF_ESTIMATORS))
def test_nothing_and_nan_are_refused(name):
    for bad in (np.empty((0, 0)), np.empty((0, 2, 2)), np.full((1, 1, 1), NAN)):
        with pytest.raises(ValueError, match="must"):
            CALLS[name](bad)


def test_masks_hold_truth_values_of_the_same_shape():
    with pytest.raises(ValueError, match="masks must hold truth values, got float64"):
        pointing_game(np.zeros((1, 2, 2)), np.full((1, 2, 2), 0.5))
    with pytest.raises(ValueError, match=r"masks must have the shape \(1, 2, 2\), got \(1, 2, 3\)"):
        relevance_mass(np.zeros((1, 2, 2)), np.zeros((1, 2, 3)))
    with pytest.raises(ValueError, match="masks must hold truth values"):
        centre_baseline(np.full((1, 2, 2), 2))


DIRECTION = (
    r"\b(larger|smaller)( rate [^.]*)? is better|\b[01] is best|no score|direction is better"
)


@pytest.mark.parametrize("name", metrics.__all__)
def test_docstrings_say_source_needs_and_direction(name):
    text = " ".join(getattr(metrics, name).__doc__.split())
    assert re.search(r"\bNeeds (no annotation|masks|part positions|images|labels)\b", text)
    assert re.search(DIRECTION, text, re.IGNORECASE)
    is_named = re.search(r"\b(ACL|BMVC|CVPR|ICCV|IJCV|AAAI|NeurIPS|Fusion|Press) \d{4}\b", text)
    is_own = "this package's own" in text
    assert is_named or is_own or name.endswith("_scorer")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (3.0, r"prototypes must have at least one axis and at least one number, got .* shape \(\)"),
        ([], r"prototypes must have at least one axis and at least one number, got .* \(0,\)"),
        (None, "prototypes must have at least one axis"),
        ("a", "prototypes must be an array of numbers, found: dtype <U1"),
        ([[1j]], "prototypes must be an array of numbers, found: dtype complex128"),
        (np.zeros((1, 1), "M8[D]"), "prototypes must be an array of numbers, found: dtype dat"),
        ([[1.0], [1.0, 2.0]], "prototypes must be an array of numbers, found: .*inhomogeneous"),
        ({}, "prototypes must be an array of numbers, found: "),
        ([NAN], "prototypes must be finite, found NaN or infinity"),
    ],
)
def test_what_are_no_numbers_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        n_distinct_prototypes(values)


@pytest.mark.parametrize("min_count", ["a", 0, 2.5, None])
@pytest.mark.parametrize("metric", [part_rates, consistency])
def test_counts_are_positive_integers(metric, min_count):
    with pytest.raises(
        ValueError, match=f"min_count must be a positive integer, got {min_count!r}"
    ):
        metric(np.ones((4, 1, 1)), np.ones((4, 1)), min_count=min_count)


def test_shares_are_between_0_and_1():
    with pytest.raises(ValueError, match=r"threshold must be between 0 and 1, got 1\.5"):
        consistency(np.zeros((1, 1, 1)), np.zeros((1, 1)), threshold=1.5)
    with pytest.raises(ValueError, match=r"threshold must be between 0 and 1, got -0\.1"):
        local_size([[1.0]], threshold=-0.1)
