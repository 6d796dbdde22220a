"""The canonical dataset: neither order nor repetition can matter."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sklearn_protopnet._images import ArrayImages, Dataset, canonical_dataset, unstandardized

WEIGHTS = [0.0, 0.1, 0.3, 1.0, 2.5, 1e-9]


def canonical(flat, labels, weights):
    """The canonical dataset of rows, each of which is an image of one pixel."""
    return canonical_dataset(unstandardized(ArrayImages(flat[:, None, None])), labels, weights)


@st.composite
def labelled_rows(draw, weights=WEIGHTS):
    """Rows of few distinct values, so that rows and pairs of row and label repeat."""
    items = st.tuples(
        st.sampled_from([-1.5, 0.0, 1 / 3]),
        st.sampled_from([0.0, 7.0]),
        st.integers(0, 2),
        st.sampled_from(weights),
    )
    drawn = draw(st.lists(items, min_size=1, max_size=30))
    assume(any(weight > 0 for *_, weight in drawn))
    first, second, labels, weights = zip(*drawn, strict=True)
    flat = np.stack([first, second], axis=1).astype(np.float64)
    return flat, np.array(labels, dtype=np.int64), np.array(weights, dtype=np.float64)


def assert_same_bits(one, other, flat_one, flat_other):
    assert np.array_equal(flat_one[one.rows], flat_other[other.rows])
    assert np.array_equal(one.labels, other.labels)
    assert one.weights.tobytes() == other.weights.tobytes()


@given(labelled_rows())
def test_equal_pairs_are_merged_and_their_weights_added(data):
    flat, labels, weights = data
    found = canonical(flat, labels, weights)
    expected = {}
    for i in np.flatnonzero(weights):
        expected.setdefault((*flat[i], labels[i]), []).append(i)
    keys = [(*flat[row], label) for row, label in zip(found.rows, found.labels, strict=True)]
    assert sorted(keys) == sorted(expected)  # each pair once, pairs of weight 0 not at all
    mean = math.fsum(weights) / len(expected)
    for key, row, weight in zip(keys, found.rows, found.weights, strict=True):
        assert row == min(expected[key])
        assert weight == pytest.approx(math.fsum(weights[expected[key]]) / mean, rel=1e-13)
    assert found.weights.mean() == pytest.approx(1, rel=1e-14)
    assert (np.diff(found.labels) >= 0).all()
    assert len(found) == len(found.rows)


@given(labelled_rows(), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_change_a_bit(data, random):
    flat, labels, weights = data
    order = np.arange(len(flat))
    random.shuffle(order)
    one = canonical(flat, labels, weights)
    other = canonical(flat[order], labels[order], weights[order])
    assert_same_bits(one, other, flat, flat[order])


@given(labelled_rows(weights=[0.0, 1.0, 2.0, 3.0]))
def test_a_weight_and_repetitions_give_the_same_bits(data):
    flat, labels, weights = data
    index = np.repeat(np.arange(len(flat)), weights.astype(int))
    one = canonical(flat, labels, weights)
    other = canonical(flat[index], labels[index], np.ones(len(index)))
    assert_same_bits(one, other, flat, flat[index])


def test_weights_of_rows_of_one_value_are_added_in_one_order():
    weights = np.random.default_rng(0).exponential(size=1000)
    flat, labels = np.repeat([[1.0], [2.0]], 500, axis=0), np.zeros(1000, dtype=np.int64)
    reference = canonical(flat, labels, weights)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(1000)
        again = canonical(flat[order], labels, weights[order])
        assert_same_bits(reference, again, flat, flat[order])


def test_one_row_with_two_labels_stays_apart():
    flat = np.array([[5.0, 6.0]] * 4)
    found = canonical(flat, np.array([1, 0, 1, 0]), np.array([1.0, 2.0, 3.0, 0.0]))
    assert found.rows.tolist() == [1, 0]
    assert found.labels.tolist() == [0, 1]
    assert found.weights.tolist() == [2 / 3, 4 / 3]


def test_the_first_row_that_counts_stands_for_all():
    flat = np.array([[1.0], [1.0], [1.0]])
    found = canonical(flat, np.zeros(3, dtype=np.int64), np.array([0.0, 1.0, 1.0]))
    assert found.rows.tolist() == [1]


def test_the_two_zeros_are_one_number():
    flat = np.array([[0.0, 1.0], [-0.0, 1.0]])
    assert len(canonical(flat, np.zeros(2, dtype=np.int64), np.ones(2))) == 1


@pytest.mark.parametrize("dtype", [np.uint8, np.float16])
def test_equal_numbers_of_different_dtypes_are_sorted_alike(dtype):
    rng = np.random.default_rng(0)
    flat, labels = rng.integers(0, 200, (40, 6)), rng.integers(0, 3, 40)
    one = canonical(flat.astype(np.float64), labels, np.ones(40))
    other = canonical(flat.astype(dtype), labels, np.ones(40))
    assert np.array_equal(one.rows, other.rows)


def test_rows_that_differ_in_the_last_bit_are_two():
    flat = np.array([[1.0], [np.nextafter(1.0, 2.0)]])
    assert len(canonical(flat, np.zeros(2, dtype=np.int64), np.ones(2))) == 2


class TestTake:
    dataset = Dataset(
        unstandardized(ArrayImages(np.zeros((10, 1, 1, 1)))),
        rows=np.array([9, 4, 7, 2]),
        labels=np.array([0, 0, 1, 2]),
        weights=np.array([0.5, 1.0, 2.0, 0.5]),
    )

    @pytest.mark.parametrize("index", [[3, 0, 2], [0, 2, 3], [2, 3, 0]])
    def test_a_part_is_in_canonical_order_and_of_mean_weight_1(self, index):
        part = self.dataset.take(np.array(index))
        assert part.rows.tolist() == [9, 7, 2]
        assert part.labels.tolist() == [0, 1, 2]
        assert part.weights.tolist() == [0.5, 2.0, 0.5]

    def test_weights_are_scaled(self):
        assert self.dataset.take(np.array([1, 2])).weights.tolist() == [2 / 3, 4 / 3]
