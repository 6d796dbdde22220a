"""Which classes are explained: words, labels, and labels that are none."""

import numpy as np
import pytest

from sklearn_protopnet.inspection._explained_classes import explained_classes, known_classes

LABELS = np.array(["ant", "bee", "cat"])


class TestExplainedClasses:
    logits = np.array([[0.0, 2.0, 1.0], [5.0, -1.0, 5.0]])

    @pytest.mark.parametrize(
        ("classes", "expected"),
        [
            ("predicted", [[1], [0]]),
            ("all", [[0, 1, 2]] * 2),
            ("bee", [[1]] * 2),
            (["cat"], [[2]] * 2),
            (("cat", "ant"), [[2, 0]] * 2),
            (np.array(["bee", "cat"]), [[1, 2]] * 2),
        ],
    )
    def test_words_and_labels(self, classes, expected):
        assert explained_classes(classes, LABELS, self.logits).tolist() == expected

    @pytest.mark.parametrize("classes", [7, [7, 2], np.array([2])])
    def test_numbers(self, classes):
        found = explained_classes(classes, np.array([2, 7, 10]), self.logits)
        assert found[0].tolist() == [[2, 7, 10].index(k) for k in np.atleast_1d(classes)]

    @pytest.mark.parametrize(
        "classes", ["dog", "", ["ant", "dog"], [], 0, [["ant", "bee"]], [None], None, ["predicted"]]
    )
    def test_unknown_labels_are_named(self, classes):
        message = r"labels among \['ant', 'bee', 'cat'\], got "
        with pytest.raises(ValueError, match=message) as caught:
            explained_classes(classes, LABELS, self.logits)
        assert repr(classes) in str(caught.value)

    @pytest.mark.parametrize("n_classes", [3, 12, 30])  # NumPy compares many in another way
    @pytest.mark.parametrize(
        "classes", ["2", ["1"], ["2", "1"], [1, "2"], 2.5, [[1, 2]], True + 1j]
    )
    def test_numbers_and_text_are_not_mixed_up(self, classes, n_classes):
        with pytest.raises(ValueError, match=r"labels among .*, got "):
            explained_classes(classes, np.arange(n_classes), self.logits)
        texts = np.sort(np.arange(n_classes).astype(str))
        with pytest.raises(ValueError, match=r"labels among .*, got "):
            explained_classes([1, 2], texts, self.logits)

    def test_labels_in_any_order_and_each_once(self):
        labels = np.sort(np.arange(12).astype(str))  # "10" and "11" come before "2"
        assert known_classes(["2", "10", "2"], labels).tolist() == [4, 2]
        assert known_classes(np.array([2, 10, 2.0]), np.arange(12)).tolist() == [2, 10]

    @pytest.mark.parametrize("labels", [np.array([False, True]), np.array([0, 1])])
    def test_truth_values_are_the_numbers_0_and_1(self, labels):
        assert known_classes([True], labels).tolist() == [1]
        assert known_classes(np.array([1, 0]), labels).tolist() == [1, 0]


class TestTopClasses:
    logits = np.array([[0.0, 2.0, 1.0], [5.0, -1.0, 5.0], [3.0, 3.0, 3.0]])

    def top(self, n_top_classes):
        return explained_classes("predicted", LABELS, self.logits, n_top_classes)

    def test_by_hand(self):
        assert self.top(2).tolist() == [[1, 2], [0, 2], [0, 1]]
        assert self.top(3).tolist() == [[1, 2, 0], [0, 2, 1], [0, 1, 2]]

    def test_one_is_the_predicted_class_also_in_ties(self):
        predicted = explained_classes("predicted", LABELS, self.logits)
        assert self.top(1).tolist() == predicted.tolist() == [[1], [0], [0]]

    def test_more_than_there_are(self):
        with pytest.raises(ValueError, match="at most the number of classes, 3, got 4"):
            self.top(4)
