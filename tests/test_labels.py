"""Labels and their weights: found, balanced, set aside."""

from dataclasses import replace

import numpy as np
import pytest

from sklearn_protopnet import ProtoPNetClassifier
from sklearn_protopnet._images import ArrayImages, Dataset, unstandardized
from sklearn_protopnet._validation import class_indices, effective_weights, split_validation

CLASSES, LABELS = np.array(["a", "b"]), np.array([0, 0, 0, 1])


class TestClassIndices:
    @pytest.mark.parametrize(
        ("labels", "classes", "expected"),
        [
            ([3, 1, 3, 2], [1, 3], [1, 0, 1, -1]),
            ([3.0, 1.5], [1, 3], [1, -1]),
            (["3", "1"], [1, 3], [-1, -1]),
            ([3, 1], ["1", "3"], [-1, -1]),
            (["b", "c", "a"], ["a", "b"], [1, -1, 0]),
            ([True, False], [0, 1], [1, 0]),
            ([1, 0, 2], [False, True], [1, 0, -1]),
            ([], [1, 3], []),
        ],
    )
    def test_by_hand(self, labels, classes, expected):
        assert class_indices(np.array(labels), np.array(classes)).tolist() == expected

    def test_text_of_either_kind(self):
        classes = np.array(["a", "b"])
        assert class_indices(np.array(["b", None, "a"], dtype=object), classes).tolist() == [
            1,
            -1,
            0,
        ]
        found = class_indices(np.array(["b", "a"]), classes.astype(object))
        assert found.tolist() == [1, 0]


class TestWeights:
    @pytest.mark.parametrize(
        ("sample_weight", "class_weight", "expected"),
        [
            (None, None, [1, 1, 1, 1]),
            ([1, 2, 0, 4], None, [1, 2, 0, 4]),
            (None, {"a": 2.0}, [2, 2, 2, 1]),
            ([1, 2, 0, 4], {"a": 2, "b": 0.5}, [2, 4, 0, 2]),
            (None, "balanced", [4 / 6, 4 / 6, 4 / 6, 2]),
            ([1, 2, 0, 9], "balanced", [2, 4, 0, 6]),  # each class as heavy as the other
        ],
    )
    def test_sample_and_class_weights_are_multiplied(self, sample_weight, class_weight, expected):
        found = effective_weights(sample_weight, class_weight, CLASSES, LABELS)
        assert found.dtype == np.float64
        # As they stand to each other: a power of 2 may be common to all.
        assert (found / found.sum()).tolist() == pytest.approx(
            np.array(expected) / np.sum(expected), rel=1e-14
        )

    @pytest.mark.parametrize(
        ("sample_weight", "class_weight"), [(None, {"a": 0, "b": 0}), ([1, 1, 1, 0], {"a": 0.0})]
    )
    def test_weights_that_leave_no_image_are_refused(self, sample_weight, class_weight):
        with pytest.raises(ValueError, match=r"must leave an image .* got none with class_weight="):
            effective_weights(sample_weight, class_weight, CLASSES, LABELS)

    @pytest.mark.parametrize("sample_weight", [[1, 1], [1, -1, 1, 1], [1, np.nan, 1, 1], [0] * 4])
    def test_bad_sample_weights_are_refused_by_scikit_learn(self, sample_weight):
        with pytest.raises(ValueError, match=r"(?i)sample_?.?weight"):
            effective_weights(sample_weight, None, CLASSES, LABELS)

    @pytest.mark.parametrize("weight", [-1.0, np.nan, np.inf])
    def test_bad_weights_of_classes_are_refused(self, weight):
        with pytest.raises(ValueError, match=r"must be finite and not negative, got \{'a'"):
            effective_weights(None, {"a": weight}, CLASSES, LABELS)

    def test_a_class_without_weight_is_left_out_of_the_balance(self):
        found = effective_weights([1, 3, 0, 0], "balanced", CLASSES, LABELS)
        assert (found / found.sum()).tolist() == [0.25, 0.75, 0, 0]

    def test_classes_without_weight_are_no_classes(self):
        clf = ProtoPNetClassifier(class_weight={0: 0.0}, joint_epochs=1)
        X = np.random.default_rng(0).normal(size=(6, 8, 8))
        with pytest.raises(ValueError, match=r"at least 2 classes .* got one class: 1"):
            clf.fit(X, [0, 1] * 3)


class TestSplit:
    dataset = Dataset(
        unstandardized(ArrayImages(np.zeros((1, 1, 1, 1)))),
        rows=np.arange(100, 140),
        labels=np.repeat([0, 1], [10, 30]),
        weights=np.linspace(0.5, 1.5, 40),
    )

    def test_the_parts_are_disjoint_stratified_and_whole(self):
        kept, set_aside = split_validation(self.dataset, 0.2, seed=0)
        assert sorted([*kept.rows, *set_aside.rows]) == self.dataset.rows.tolist()
        assert np.bincount(set_aside.labels).tolist() == [2, 6]
        for part in (kept, set_aside):
            assert (np.diff(part.rows) > 0).all()
            assert part.labels.tolist() == self.dataset.labels[part.rows - 100].tolist()
            ratios = part.weights / self.dataset.weights[part.rows - 100]
            assert ratios == pytest.approx(np.full(len(part), ratios[0]), rel=1e-12)
            assert part.weights.mean() == pytest.approx(1, rel=1e-12)

    @pytest.mark.parametrize(
        ("labels", "fraction"), [([0, 0, 0, 1], 0.5), ([0, 0, 1, 1], 0.1), ([0, 0, 1, 1], 0.7)]
    )
    def test_too_few_images_are_refused_with_the_remedy(self, labels, fraction):
        four = replace(self.dataset, rows=np.arange(4), labels=np.array(labels), weights=np.ones(4))
        with pytest.raises(ValueError, match=rf"validation_fraction={fraction} of 4 images .* or"):
            split_validation(four, fraction, seed=0)

    def test_the_seed_decides(self):
        one, again, other = (
            split_validation(self.dataset, 0.2, seed)[1].rows.tolist() for seed in (0, 0, 1)
        )
        assert one == again != other

    def test_images_that_are_equal_are_on_one_side(self):
        rng = np.random.default_rng(0)
        X, y = rng.normal(size=(20, 8, 8)), np.arange(20) % 2
        twice = np.concatenate([X, X])
        settings = {
            "n_prototypes_per_class": 2,
            "early_stopping": True,
            "validation_fraction": 0.4,
            "prototype_depth": 4,
            "pretraining_epochs": 1,
            "warmup_epochs": 0,
            "joint_epochs": 1,
        }
        one, other = (
            ProtoPNetClassifier(**settings, random_state=0).fit(images, labels)
            for images, labels in ((X, y), (twice, np.tile(y, 2)))
        )
        assert one.loss_curve_ == other.loss_curve_
