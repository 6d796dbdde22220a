"""Images with known parts: what is said of them is what they show."""

import itertools
import pickle

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sklearn_protopnet.datasets import make_part_images, render_part_image

SIZE = 32
KINDS = ["patch", "corner", "tint"]


def make(**settings):
    return make_part_images(**{"n_samples": 24, "image_size": SIZE, "random_state": 0, **settings})


class TestBunch:
    def test_arrays_have_the_promised_shapes_and_types(self):
        data = make(n_classes=5, n_parts=4, n_variants=2)
        assert data.images.shape == (24, SIZE, SIZE, 3)
        assert data.images.dtype == np.float32
        assert data.images.min() >= 0
        assert data.images.max() <= 1
        assert data.part_masks.shape == (24, 4, SIZE, SIZE)
        assert data.part_centres.shape == (24, 4, 2)
        assert data.part_visible.shape == (24, 4)
        assert data.object_mask.shape == data.spurious_mask.shape == (24, SIZE, SIZE)
        assert {
            data[name].dtype for name in data if name.endswith("mask") or name == "part_masks"
        } == {np.dtype(bool)}
        assert data.class_codes.shape == (5, 4)
        assert len(data.target_names) == 5
        assert len(data.params) == 24

    def test_images_and_target_may_be_had_alone(self):
        images, target = make(return_X_y=True)
        assert_array_equal(images, make().images)
        assert_array_equal(target, make().target)

    @pytest.mark.parametrize("n_samples", [24, 25, 5, 1])
    def test_classes_are_as_frequent_as_one_another(self, n_samples):
        counts = np.bincount(make(n_samples=n_samples).target, minlength=6)
        assert counts.max() - counts.min() <= 1
        assert counts.sum() == n_samples

    def test_a_seed_gives_the_same_images_and_another_does_not(self):
        assert_array_equal(make().images, make().images)
        assert (make().images != make(random_state=1).images).any()

    def test_parameters_can_be_pickled(self):
        params = make(n_samples=1).params[0]
        assert pickle.loads(pickle.dumps(params)) == params


class TestClasses:
    @pytest.mark.parametrize(
        ("n_classes", "n_parts", "n_variants"), [(6, 3, 3), (8, 3, 2), (2, 1, 2), (50, 9, 4)]
    )
    def test_codes_differ(self, n_classes, n_parts, n_variants):
        codes = make(n_classes=n_classes, n_parts=n_parts, n_variants=n_variants).class_codes
        assert len(np.unique(codes, axis=0)) == n_classes
        assert codes.min() >= 0
        assert codes.max() < n_variants

    def test_few_codes_are_as_far_apart_as_they_can_be(self):
        codes = make(n_classes=3, n_parts=4, n_variants=3).class_codes
        for one, other in itertools.combinations(codes, 2):
            assert (one != other).all()

    def test_codes_depend_on_their_own_seed_only(self):
        codes = make().class_codes
        assert_array_equal(make(random_state=1, n_samples=3).class_codes, codes)
        assert (make(class_seed=1).class_codes != codes).any()

    def test_images_show_the_code_of_their_class(self):
        data = make()
        for label, params in zip(data.target, data.params, strict=True):
            assert params.variants == tuple(data.class_codes[label])

    def test_no_two_kinds_of_parts_have_a_colour_in_common(self):
        data = make(n_samples=1, noise=0.0, n_distractors=0, image_size=96)
        (params,) = data.params
        colours = []
        for part, variant in itertools.product(range(3), range(3)):
            image = render_part_image(params, set_variant={part: variant})
            without = render_part_image(params, remove_parts=[part])
            changed = (image != without).any(2)
            colours.append(np.median(image[changed], axis=0))
        for one, other in itertools.combinations(colours, 2):
            assert np.abs(one - other).max() > 0.2


class TestMasks:
    def test_parts_lie_where_their_masks_are(self):
        data = make(noise=0.0)
        ys, xs = np.indices((SIZE, SIZE)) + 0.5
        for masks, centres in zip(data.part_masks, data.part_centres, strict=True):
            for mask, (y, x) in zip(masks, centres, strict=True):
                assert mask.any()
                assert np.hypot(ys[mask] - y, xs[mask] - x).max() <= 0.13 * SIZE

    def test_masks_hold_what_changes_with_the_part(self):
        """All pixels that a part covers, but for those on its edge."""
        data = make(noise=0.0, n_distractors=0, image_size=96)
        for image, masks, params in zip(data.images, data.part_masks, data.params, strict=True):
            for part, mask in enumerate(masks):
                changed = (image != render_part_image(params, remove_parts=[part])).any(2)
                assert changed[mask].all()
                assert mask.sum() > 0.6 * changed.sum()

    @pytest.mark.parametrize("n_parts", [1, 9])
    def test_the_smallest_parts_have_a_pixel(self, n_parts):
        data = make(n_parts=n_parts, n_classes=2, image_size=16)
        assert data.part_masks.any((2, 3)).all()
        assert (data.object_mask[:, None] | ~data.part_masks).all()

    def test_parts_do_not_overlap(self):
        for n_parts in (2, 3, 6, 9):
            masks = make(n_parts=n_parts, n_classes=2, n_variants=2, image_size=64).part_masks
            assert masks.sum(1).max() == 1

    def test_the_object_holds_its_parts(self):
        data = make()
        assert (data.object_mask | ~data.part_masks.any(1)).all()

    @pytest.mark.parametrize("spurious", KINDS)
    @pytest.mark.parametrize("image_size", [16, 33])
    def test_a_cue_never_overlaps_the_object(self, spurious, image_size):
        data = make(spurious=spurious, image_size=image_size, n_samples=100, spurious_leak=1.0)
        assert not (data.spurious_mask & data.object_mask).any()
        assert data.spurious_mask.any((1, 2)).all()


class TestSpuriousCue:
    @pytest.mark.parametrize("spurious", KINDS)
    def test_it_betrays_its_class(self, spurious):
        data = make(spurious=spurious, spurious_class=2)
        assert_array_equal(data.spurious_mask.any((1, 2)), data.target == 2)

    def test_alignment_and_leak_are_shares(self):
        data = make(
            n_samples=600, image_size=16, spurious="corner", spurious_align=0.7, spurious_leak=0.1
        )
        has_cue = data.spurious_mask.any((1, 2))
        assert abs(has_cue[data.target == 0].mean() - 0.7) < 0.1
        assert abs(has_cue[data.target != 0].mean() - 0.1) < 0.04

    @pytest.mark.parametrize("spurious", KINDS)
    def test_the_cue_shows_where_its_mask_is(self, spurious):
        data = make(spurious=spurious, spurious_leak=1.0, noise=0.0)
        for image, mask, params in zip(data.images, data.spurious_mask, data.params, strict=True):
            changed = (image != render_part_image(params, remove_spurious=True)).any(2)
            assert not (changed & ~mask).any()
            assert changed[mask].mean() > 0.9  # a cue may have the colour that was there

    @pytest.mark.parametrize("spurious", KINDS)
    def test_one_that_is_added_equals_one_that_is_there(self, spurious):
        data = make(spurious=spurious)
        clean = make()
        for params, expected, has_cue in zip(
            clean.params, data.images, data.spurious_mask.any((1, 2)), strict=True
        ):
            if has_cue:
                assert_array_equal(render_part_image(params, add_spurious=spurious), expected)


class TestInterventions:
    def test_nothing_changed_is_the_same_image(self):
        data = make(spurious="patch", part_drop=0.3)
        for image, params in zip(data.images, data.params, strict=True):
            assert_array_equal(render_part_image(params), image)

    def test_a_part_that_is_removed_is_gone_and_nothing_else(self):
        data = make(noise=0.1)
        for image, masks, params in zip(data.images, data.part_masks, data.params, strict=True):
            changed = (render_part_image(params, remove_parts=[1]) != image).any(2)
            assert changed[masks[1]].mean() > 0.98  # noise may clip both to one value
            assert not changed[masks[0] | masks[2]].any()
            ys, xs = np.nonzero(changed)
            centre = data.part_centres[data.params.index(params), 1]
            assert np.hypot(ys + 0.5 - centre[0], xs + 0.5 - centre[1]).max() <= 0.12 * SIZE

    def test_a_variant_that_is_set_is_that_of_another_class(self):
        data = make()
        one, other = data.class_codes[:2]
        i = int(np.flatnonzero(data.target == 0)[0])
        image = render_part_image(data.params[i], set_variant=dict(enumerate(other)))
        again = render_part_image(data.params[i], set_variant=dict(enumerate(one)))
        assert (image != data.images[i]).any()
        assert_array_equal(again, data.images[i])

    @pytest.mark.parametrize("part", [0, 1, 2])
    def test_a_variant_that_is_set_changes_its_part_only(self, part):
        data = make(noise=0.1, spurious="patch", spurious_leak=1.0)
        ys, xs = np.indices((SIZE, SIZE)) + 0.5
        for i, params in enumerate(data.params):
            variant = (params.variants[part] + 1 + i % 2) % 3
            image = render_part_image(params, set_variant={part: variant})
            changed = (image != data.images[i]).any(2)
            y, x = data.part_centres[i, part]
            assert np.hypot(ys[changed] - y, xs[changed] - x).max() <= 0.12 * SIZE
            assert changed[data.part_masks[i, part]].mean() > 0.98  # noise may clip both to 0 or 1
            others = np.delete(data.part_masks[i], part, axis=0).any(0)
            assert not changed[others].any()
            same = render_part_image(params, set_variant={part: params.variants[part]})
            assert_array_equal(same, data.images[i])

    def test_a_dropped_part_appears_with_its_variant(self):
        data = make(part_drop=0.5)
        i, part = (int(k) for k in np.argwhere(~data.part_visible)[0])
        image = render_part_image(data.params[i], set_variant={part: data.params[i].variants[part]})
        assert (image != data.images[i]).any()
        assert np.isnan(data.part_centres[i, part]).all()
        assert not data.part_masks[i, part].any()

    def test_an_object_keeps_a_part(self):
        data = make(part_drop=0.95, n_samples=200, image_size=16)
        assert data.part_visible.any(1).all()
        assert data.part_visible.mean() < 0.5

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"remove_parts": [3]}, r"Parts must be integers from 0 to 2, got 3\."),
            ({"remove_parts": [-1]}, r"Parts must be integers from 0 to 2, got -1\."),
            ({"remove_parts": [1.0]}, r"Parts must be integers from 0 to 2, got 1\.0\."),
            ({"remove_parts": "1"}, r"Parts must be integers from 0 to 2, got '1'\."),
            ({"remove_parts": [[1]]}, r"Parts must be integers from 0 to 2, got \[1\]\."),
            ({"set_variant": {1.0: 1}}, r"Parts must be integers from 0 to 2, got 1\.0\."),
            ({"set_variant": {3: 1}}, r"Parts must be integers from 0 to 2, got 3\."),
            ({"set_variant": {0: 3}}, r"Variants must be integers from 0 to 2, got 3\."),
            ({"set_variant": {0: 1.0}}, r"Variants must be integers from 0 to 2, got 1\.0\."),
            ({"set_variant": {0: None}}, r"Variants must be integers from 0 to 2, got None\."),
            ({"add_spurious": "hat"}, r"add_spurious must be one of .*'patch'.*, got 'hat'\."),
        ],
    )
    def test_what_is_not_there_cannot_be_changed(self, changes, message):
        with pytest.raises(ValueError, match=message):
            render_part_image(make(n_samples=1).params[0], **changes)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"remove_parts": 1}, r"remove_parts must be an iterable of integers, got 1\."),
            ({"remove_parts": None}, r"remove_parts must be an iterable of integers, got None\."),
            ({"set_variant": 1}, r"set_variant must be a dict of integers to integers, got 1\."),
            (
                {"set_variant": [(0, 1)]},
                r"must be a dict of integers to integers, got \[\(0, 1\)\]",
            ),
        ],
    )
    def test_what_holds_no_changes_is_refused(self, changes, message):
        with pytest.raises(TypeError, match=message):
            render_part_image(make(n_samples=1).params[0], **changes)

    def test_what_is_no_image_of_parts_is_refused(self):
        with pytest.raises(
            TypeError, match=r"one of the params of make_part_images, got ndarray\."
        ):
            render_part_image(make(n_samples=1).images[0])

    def test_integers_of_any_kind_are_taken(self):
        params = make(n_samples=1).params[0]
        assert_array_equal(
            render_part_image(params, remove_parts=np.array([1])),
            render_part_image(params, remove_parts=iter([1])),
        )
        assert_array_equal(
            render_part_image(params, set_variant={np.int64(0): np.uint8(1)}),
            render_part_image(params, set_variant={0: 1}),
        )


class TestErrors:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"n_classes": 9, "n_variants": 2}, r"n_classes must be at most .* = 8, got 9\."),
            ({"spurious_class": 6}, r"spurious_class must be below n_classes=6, got 6\."),
            ({"n_samples": 0}, "The 'n_samples' parameter"),
            ({"spurious": "hat"}, "The 'spurious' parameter"),
            ({"part_drop": 1.0}, "The 'part_drop' parameter"),
            ({"image_size": 8}, "The 'image_size' parameter"),
            ({"noise": -1}, "The 'noise' parameter"),
        ],
    )
    def test_settings_that_cannot_be_are_refused(self, settings, message):
        with pytest.raises(ValueError, match=message):
            make(**settings)

    def test_all_codes_that_there_are_may_be_asked_for(self):
        codes = make(n_samples=1, n_classes=6561, n_parts=8).class_codes
        assert len(np.unique(codes, axis=0)) == 6561
