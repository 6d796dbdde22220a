"""The tables: their schemas, and the identities that they promise."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

BOX = ["y0", "y1", "x0", "x1"]
SOURCE_BOX = [f"source_{edge}" for edge in BOX]
EXPLANATION = [
    *("sample", "class", "prototype", "prototype_class", "rank"),
    *("similarity", "distance", "weight", "contribution", "logit", "probability"),
    *(*BOX, "box_kind", "source_sample", *SOURCE_BOX),
]


def grid(table, name):
    """A column of an explanation of all classes, (samples, classes, ranks)."""
    shape = table["sample"].nunique(), table["class"].nunique(), -1
    return table[name].to_numpy().reshape(shape)


@pytest.fixture(scope="module")
def tied(fitted):
    """Random weights, of which many are 0, so that contributions tie."""
    clf, rng = copy.copy(fitted), np.random.default_rng(0)
    shape = fitted.coef_.shape
    clf.coef_ = rng.normal(size=shape) * rng.integers(0, 2, shape)
    return clf


class TestExplanation:
    def test_the_schema_is_the_promised_one(self, fitted, digits):
        table = fitted.explain(digits[0][:2])
        assert table.columns.tolist() == EXPLANATION
        assert table.attrs["schema"] == "sklearn_protopnet.explanation"
        assert table.attrs["schema_version"] == 2
        assert {*table.attrs["units"]} == {
            *("similarity", "distance", "contribution"),
            *BOX,
            *SOURCE_BOX,
        }
        numbers = ["similarity", "distance", "weight", "contribution", "logit", "probability"]
        assert set(table[numbers].dtypes) == {np.dtype(np.float64)}
        assert table.index.tolist() == list(range(len(table)))

    def test_contributions_are_ranked_and_add_up_to_the_logit(self, tied, digits):
        X, _ = digits
        table = tied.explain(X, classes="all")
        logits = tied.decision_function(X)
        contribution, prototype = grid(table, "contribution"), grid(table, "prototype")
        error = np.abs(contribution.sum(2) - logits)
        rounding = 1e-15 * np.abs(contribution).sum(2)
        assert (error <= 1e-9 * np.abs(logits) + rounding).all()
        assert (grid(table, "logit") == logits[:, :, None]).all()
        assert (grid(table, "probability") == tied.predict_proba(X)[:, :, None]).all()
        powers = np.exp(logits)
        assert_allclose(tied.predict_proba(X), powers / powers.sum(1, keepdims=True), rtol=1e-12)
        assert_array_equal(table["contribution"], table["weight"] * table["similarity"])
        n_prototypes = len(tied.prototypes_)
        assert (grid(table, "rank") == np.arange(1, n_prototypes + 1)).all()
        assert (np.sort(prototype) == np.arange(n_prototypes)).all()
        falls, ties = np.diff(contribution) < 0, np.diff(contribution) == 0
        assert (falls | (ties & (np.diff(prototype) > 0))).all()  # ties by number
        assert ties.any()

    def test_every_row_says_what_was_found(self, tied, digits):
        X, _ = digits
        table = tied.explain(X[:9], classes="all")
        what = tied.prototype_table()
        i, p = table["sample"].to_numpy(), table["prototype"].to_numpy()
        k = np.searchsorted(tied.classes_, table["class"])
        for name, expected in (
            ("similarity", tied.transform(X[:9])[i, p]),
            ("weight", tied.coef_[k, p]),
            ("prototype_class", tied.prototype_classes_[p]),
            ("source_sample", what["source_sample"][p]),
            (SOURCE_BOX, what.loc[p, SOURCE_BOX]),
        ):
            assert_array_equal(table[name], expected)
        epsilon = 1e-4
        patches = tied.explain(X[:9], classes="all", details="patches")
        expected = np.log((patches["distance"] + 1) / (patches["distance"] + epsilon))
        assert_allclose(patches["patch_similarity"], expected, rtol=1e-12)
        means = expected.to_numpy().reshape(len(table), -1).mean(1)
        assert_allclose(table["similarity"], means, rtol=1e-12)

    @pytest.mark.parametrize("top_k", [1, 3, 50])
    def test_top_k_are_the_first_ranks(self, tied, digits, top_k):
        full = tied.explain(digits[0][:4], classes="all")
        expected = full[full["rank"] <= top_k].reset_index(drop=True)
        found = tied.explain(digits[0][:4], classes="all", top_k=top_k)
        pd.testing.assert_frame_equal(found, expected, check_exact=True)

    def test_rows_follow_the_samples_and_the_classes_asked_for(self, tied, digits):
        table = tied.explain(digits[0][:4], classes=[7, 2])
        pairs = table.loc[table["rank"] == 1, ["sample", "class"]].to_numpy().tolist()
        assert pairs == [[i, label] for i in range(4) for label in (7, 2)]
        full = tied.explain(digits[0][:4], classes="all")
        expected = table[["sample", "class", "rank"]].merge(full, on=["sample", "class", "rank"])
        pd.testing.assert_frame_equal(table, expected[EXPLANATION])


class TestPrototypes:
    def test_every_row_is_a_prototype_by_its_number(self, tied):
        table = tied.prototype_table()
        assert table.columns.tolist() == [
            *("prototype", "prototype_class", "source_sample", *SOURCE_BOX),
            *("distance", "n_duplicates", "box_kind"),
            *(f"weight_{label}" for label in range(10)),
        ]
        assert table.attrs["schema"] == "sklearn_protopnet.prototype"
        assert table.attrs["schema_version"] == 2
        assert {*table.attrs["units"]} == {"distance", *SOURCE_BOX}
        assert table["prototype"].tolist() == list(range(len(tied.prototypes_)))
        for name, expected in (
            ("prototype_class", tied.prototype_classes_),
            ("source_sample", tied.prototype_sample_indices_),
            (SOURCE_BOX, tied.prototype_boxes_),
            ("distance", tied.prototype_distances_),
        ):
            assert_array_equal(table[name], expected)
        assert_array_equal(table.filter(like="weight_").T, tied.coef_)

    def test_duplicates_are_the_others_with_the_same_bits(self, fitted):
        clf = pickle.loads(pickle.dumps(fitted))
        clf.prototypes_[[3, 8]] = clf.prototypes_[1]
        clf.prototypes_[5] = clf.prototypes_[4]
        clf.prototypes_[6] = np.nextafter(clf.prototypes_[4], np.float32(2))
        n_duplicates = clf.prototype_table()["n_duplicates"]
        assert n_duplicates[[1, 3, 8]].tolist() == [2, 2, 2]
        assert n_duplicates[[4, 5]].tolist() == [1, 1]
        assert n_duplicates.sum() == 3 * 2 + 2 * 1


def test_the_history_is_what_was_recorded(fitted):
    table = fitted.history_table()
    assert table.columns[:5].tolist() == ["round", "stage", "epoch", "seconds", "loss"]
    assert table.attrs["schema"] == "sklearn_protopnet.history"
    assert table.attrs["schema_version"] == 2
    assert table.attrs["units"] == {"seconds": "s"}
    np.testing.assert_equal(table.to_dict("records"), fitted.history_)
