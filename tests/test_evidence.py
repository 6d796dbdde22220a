"""The tables: their schemas, and the identities that they promise."""

from dataclasses import asdict, fields

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sklearn_protopnet._training import HistoryRow
from sklearn_protopnet.inspection._explained_classes import explained_classes
from sklearn_protopnet.inspection._tables import (
    EXPLANATION_COLUMNS,
    PROTOTYPE_COLUMNS,
    SCHEMA_VERSION,
    PrototypeRecord,
    Rows,
    SampleEvidence,
    explanation_table,
    history_table,
    prototype_table,
    ranked_prototypes,
)

LABELS = np.array(["ant", "bee", "cat"])


def softmax(logits):
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def random_record(rng, n_prototypes=7):
    return PrototypeRecord(
        classes=LABELS[rng.integers(0, 3, n_prototypes)],
        coef=rng.normal(size=(3, n_prototypes)) * rng.integers(0, 2, (3, n_prototypes)),
        samples=rng.integers(0, 100, n_prototypes),
        boxes=rng.integers(0, 20, (n_prototypes, 4)),
        distances=np.zeros(n_prototypes),
        vectors=rng.random((n_prototypes, 5), dtype=np.float32),
    )


def random_evidence(rng, record, n_samples=4):
    shape = (n_samples, len(record.classes))
    similarities = rng.exponential(size=shape)
    logits = similarities @ record.coef.T
    corners, sizes = rng.integers(0, 10, (*shape, 2)), rng.integers(1, 10, (*shape, 2))
    boxes = np.stack([corners, corners + sizes], axis=-1).reshape(*shape, 4)
    return SampleEvidence(
        samples=np.arange(n_samples),
        distances=rng.exponential(size=shape),
        similarities=similarities,
        boxes=boxes,
        box_kinds=rng.choice(np.array(["receptive_field", "whole_image"], dtype=object), shape),
        logits=logits,
        probabilities=softmax(logits),
    )


def explanation(seed=0, *, classes="all", top_k=None, **changes):
    rng = np.random.default_rng(seed)
    record = random_record(rng)
    evidence = random_evidence(rng, record)
    evidence = SampleEvidence(**{**vars(evidence), **changes})
    explained = explained_classes(classes, LABELS, evidence.logits)
    ranked = ranked_prototypes(record.coef, evidence.similarities, explained, top_k)
    table = explanation_table(evidence, record, LABELS, Rows.of(explained, ranked))
    return table, evidence, record


def prototypes_of(record):
    kinds = np.array([f"kind {p}" for p in range(len(record.classes))], dtype=object)
    return prototype_table(record, kinds, LABELS)


class TestExplanation:
    def test_the_schema(self):
        table, *_ = explanation()
        assert tuple(table.columns) == EXPLANATION_COLUMNS
        assert len(set(EXPLANATION_COLUMNS)) == len(EXPLANATION_COLUMNS) == 21
        assert table.attrs["schema"] == "sklearn_protopnet.explanation"
        assert table.attrs["schema_version"] == SCHEMA_VERSION
        assert set(table.attrs["units"]) <= set(EXPLANATION_COLUMNS)
        assert {table.attrs["units"][name] for name in ("y0", "y1", "x0", "x1")} == {
            "pixel, half-open"
        }
        reals = ["similarity", "distance", "weight", "contribution", "logit", "probability"]
        assert set(table[reals].dtypes) == {np.dtype(np.float64)}
        assert table.index.tolist() == list(range(len(table)))

    @given(st.integers(0, 2**32))
    def test_contributions_add_up_to_the_logit(self, seed):
        table, evidence, record = explanation(seed)
        shape = *evidence.logits.shape, len(record.classes)  # (n, K, P)
        contributions = table["contribution"].to_numpy().reshape(shape)
        error = np.abs(contributions.sum(2) - evidence.logits)
        rounding = 1e-15 * np.abs(contributions).sum(2)
        assert (error <= 1e-9 * np.abs(evidence.logits) + rounding).all()
        for name, values in (
            ("logit", evidence.logits),
            ("probability", evidence.probabilities),
        ):
            assert (table[name].to_numpy().reshape(shape) == values[:, :, None]).all()
        assert np.array_equal(table["contribution"], table["weight"] * table["similarity"])

    @given(st.integers(0, 2**32))
    def test_every_row_says_what_the_network_saw(self, seed):
        table, evidence, record = explanation(seed)
        i, p = table["sample"].to_numpy(), table["prototype"].to_numpy()
        k = np.searchsorted(LABELS, table["class"])
        assert np.array_equal(table["similarity"], evidence.similarities[i, p])
        assert np.array_equal(table["distance"], evidence.distances[i, p])
        assert np.array_equal(table["weight"], record.coef[k, p])
        assert np.array_equal(table["prototype_class"], record.classes[p])
        assert np.array_equal(table[["y0", "y1", "x0", "x1"]], evidence.boxes[i, p])
        assert np.array_equal(table["source_sample"], record.samples[p])
        sources = table[["source_y0", "source_y1", "source_x0", "source_x1"]]
        assert np.array_equal(sources, record.boxes[p])

    @given(st.integers(0, 2**32))
    def test_ranks_order_the_contributions_of_a_sample_and_class(self, seed):
        table, evidence, record = explanation(seed)
        n_prototypes = len(record.classes)
        shape = *evidence.logits.shape, n_prototypes  # (n, K, P)
        rank, prototype, contribution, sample = (
            table[name].to_numpy().reshape(shape)
            for name in ("rank", "prototype", "contribution", "sample")
        )
        assert (rank == np.arange(1, n_prototypes + 1)).all()
        assert (np.sort(prototype) == np.arange(n_prototypes)).all()
        assert (sample == np.arange(len(sample))[:, None, None]).all()
        falls, ties = np.diff(contribution) < 0, np.diff(contribution) == 0
        assert (falls | (ties & (np.diff(prototype) > 0))).all()  # ties by number

    @pytest.mark.parametrize("top_k", [1, 3, 7, 50])
    def test_top_k_are_the_first_ranks(self, top_k):
        full, *_ = explanation()
        table, *_ = explanation(top_k=top_k)
        expected = full[full["rank"] <= top_k].reset_index(drop=True)
        pd.testing.assert_frame_equal(table, expected, check_exact=True)

    def test_rows_follow_the_samples_and_the_classes_asked_for(self):
        table, *_ = explanation(classes=["cat", "ant"])
        pairs = table.loc[table["rank"] == 1, ["sample", "class"]].to_numpy().tolist()
        assert pairs == [[i, label] for i in range(4) for label in ("cat", "ant")]
        full, *_ = explanation()
        keys = ["sample", "class", "rank"]
        merged = table.merge(full, on=keys, suffixes=("", "_full"))
        assert len(merged) == len(table)
        assert (merged["contribution"] == merged["contribution_full"]).all()

    def test_the_predicted_class_is_that_of_the_largest_logit(self):
        table, evidence, _ = explanation(classes="predicted")
        predicted = table.groupby("sample")["class"].agg(["nunique", "first"])
        assert (predicted["nunique"] == 1).all()
        assert predicted["first"].tolist() == LABELS[evidence.logits.argmax(1)].tolist()
        best = table.groupby("sample")["probability"].first()
        assert np.array_equal(best, evidence.probabilities.max(1))

    def test_samples_have_their_names(self):
        names = np.array(["p", "q", "r", "p"], dtype=object)
        table, *_ = explanation(samples=names)
        numbered, *_ = explanation()
        assert table["sample"].tolist() == names[numbered["sample"]].tolist()

    def test_boxes_and_what_they_are_belong_to_sample_and_prototype(self):
        table, evidence, _ = explanation()
        place = table["sample"], table["prototype"]
        assert np.array_equal(table[["y0", "y1", "x0", "x1"]], evidence.boxes[place])
        assert np.array_equal(table["box_kind"], evidence.box_kinds[place])


class TestPrototypes:
    def test_the_schema(self):
        table = prototypes_of(random_record(np.random.default_rng(0)))
        weights = ("weight_ant", "weight_bee", "weight_cat")
        assert tuple(table.columns) == (*PROTOTYPE_COLUMNS, *weights)
        assert table.attrs["schema"] == "sklearn_protopnet.prototype"
        assert table.attrs["schema_version"] == SCHEMA_VERSION
        assert set(table.attrs["units"]) == {"distance", "y0", "y1", "x0", "x1"}

    def test_every_row_is_a_prototype_by_its_number(self):
        record = random_record(np.random.default_rng(1))
        table = prototypes_of(record)
        assert table["prototype"].tolist() == list(range(7))
        assert table["prototype_class"].tolist() == record.classes.tolist()
        assert table["sample"].tolist() == record.samples.tolist()
        assert np.array_equal(table[["y0", "y1", "x0", "x1"]], record.boxes)
        assert np.array_equal(table.filter(like="weight_").T, record.coef)

    @given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2)), min_size=1, max_size=12))
    def test_duplicates_are_the_others_with_the_same_values(self, vectors):
        rng = np.random.default_rng(0)
        record = PrototypeRecord(
            **{
                **vars(random_record(rng, len(vectors))),
                "vectors": np.array(vectors, dtype=np.float32) / 3,
            }
        )
        table = prototypes_of(record)
        assert table["n_duplicates"].tolist() == [vectors.count(v) - 1 for v in vectors]

    def test_the_last_bit_tells_prototypes_apart(self):
        record = random_record(np.random.default_rng(0), 2)
        record.vectors[1] = np.nextafter(record.vectors[0], np.float32(2))
        assert prototypes_of(record)["n_duplicates"].tolist() == [0, 0]


class TestHistory:
    rows = (
        HistoryRow(1, "warmup", 1, 0.5, 3.0, 2.0, 1.0, -0.5, accuracy=0.25),
        HistoryRow(1, "projection", 1, 0.1, accuracy_before=0.5),
        HistoryRow(1, "last_layer", 1, 0.2, 0.7, accuracy_before=0.5, accuracy=0.75, gap=1e-6),
    )

    def test_the_schema(self):
        table = history_table([asdict(row) for row in self.rows])
        assert list(table.columns) == [field.name for field in fields(HistoryRow)]
        assert table.attrs["schema"] == "sklearn_protopnet.history"
        assert table.attrs["schema_version"] == SCHEMA_VERSION
        assert table.attrs["units"] == {"seconds": "s"}

    def test_rows_are_what_was_recorded(self):
        rows = [asdict(row) for row in self.rows]
        table = history_table(rows)
        assert table["stage"].tolist() == ["warmup", "projection", "last_layer"]
        np.testing.assert_equal(table.to_dict("records"), rows)


class TestOfAClassifier:
    """What the estimator adds: names of samples, and the network's own numbers."""

    def test_columns_and_attributes(self, fitted, digits):
        X, _ = digits
        assert tuple(fitted.explain(X[:2]).columns) == EXPLANATION_COLUMNS
        columns = tuple(fitted.prototype_table().columns)
        assert columns == (*PROTOTYPE_COLUMNS, *(f"weight_{k}" for k in range(10)))
        for table, name in (
            (fitted.explain(X[:2]), "explanation"),
            (fitted.prototype_table(), "prototype"),
            (fitted.history_table(), "history"),
        ):
            assert table.attrs["schema"] == f"sklearn_protopnet.{name}"
            assert table.attrs["schema_version"] == SCHEMA_VERSION
            assert table.attrs["units"]

    @pytest.mark.parametrize(
        "index", [["b", "a"], [7, 3], pd.date_range("2026-01-01", periods=2), [("x", 1), ("x", 2)]]
    )
    def test_a_frames_index_names_its_samples(self, fitted, digits, index):
        frame = pd.DataFrame(digits[0][:2])
        frame.index = pd.Index(index)
        table = fitted.explain(frame, top_k=2)
        assert table["sample"].tolist() == list(np.repeat(frame.index, 2))

    def test_an_image_is_explained_alike_alone_and_among_others(self, fitted, digits):
        X, _ = digits
        together = fitted.explain(X[:40], classes="all")
        alone = fitted.explain(X[23:24], classes="all")
        alone["sample"] = 23
        rows = together[together["sample"] == 23].reset_index(drop=True)
        pd.testing.assert_frame_equal(alone, rows, check_exact=True)

    def test_explaining_changes_nothing(self, fitted, digits):
        X, _ = digits
        before, image = fitted.prototypes_.copy(), X[:3].copy()
        table = fitted.explain(X[:3])
        table.loc[:, "weight"] = 0.0
        pd.testing.assert_frame_equal(fitted.explain(X[:3]), fitted.explain(image))
        assert not (fitted.explain(X[:3])["weight"] == 0).all()
        assert np.array_equal(fitted.prototypes_, before)
        assert np.array_equal(X[:3], image)
