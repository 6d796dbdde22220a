"""The tables: their schemas, and the identities that they promise."""

from dataclasses import asdict, fields, replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_protopnet._fitted import LocatedBoxes, PrototypeRecord
from sklearn_protopnet._network import Evidence
from sklearn_protopnet._training import HistoryRow
from sklearn_protopnet.inspection._explained_classes import explained_classes
from sklearn_protopnet.inspection._tables import (
    EXPLANATION_COLUMNS,
    PROTOTYPE_COLUMNS,
    SCHEMA_VERSION,
    Explained,
    Rows,
    explanation_table,
    history_table,
    prototype_table,
    ranked_prototypes,
)

LABELS = np.array(["ant", "bee", "cat"])
BOX = ["y0", "y1", "x0", "x1"]
SOURCE_BOX = [f"source_{edge}" for edge in BOX]


def random_record(rng, n_prototypes=7):
    return PrototypeRecord(
        classes=LABELS[rng.integers(0, 3, n_prototypes)],
        coef=rng.normal(size=(3, n_prototypes)) * rng.integers(0, 2, (3, n_prototypes)),
        vectors=rng.random((n_prototypes, 5), dtype=np.float32),
        samples=rng.integers(0, 100, n_prototypes),
        boxes=rng.integers(0, 20, (n_prototypes, 4)),
        distances=np.zeros(n_prototypes),
        images=np.zeros((n_prototypes, 2, 2, 1)),
        sizes=np.full((n_prototypes, 2), 20),
        quantiles=np.zeros((2, n_prototypes, 101)),
    )


def explanation(seed=0, *, classes="all", top_k=None, names=None, n_samples=4):
    """A table of random evidence, and what it is made of."""
    rng = np.random.default_rng(seed)
    record = random_record(rng)
    shape = n_samples, len(record.classes)
    similarities = rng.exponential(size=shape)
    evidence = Evidence(
        distances=rng.exponential(size=shape),
        similarities=similarities,
        logits=similarities @ record.coef.T,
        positions=rng.integers(0, 9, shape),
    )
    located = LocatedBoxes(
        boxes=rng.integers(0, 20, (*shape, 4)),
        kinds=rng.choice(np.array(["receptive_field", "whole_image"], dtype=object), shape),
        effects=np.zeros((*shape, 2)),
        deltas=np.zeros(shape),
    )
    chosen = explained_classes(classes, LABELS, evidence.logits)
    ranked = ranked_prototypes(record.coef, evidence.similarities, chosen, top_k)
    names = np.arange(n_samples) if names is None else names
    explained = Explained(evidence, located, record, names, Rows.of(chosen, ranked))
    return explanation_table(explained, LABELS), explained


def prototypes_of(record):
    kinds = np.array([f"kind {p}" for p in range(len(record.classes))], dtype=object)
    return prototype_table(record, kinds, LABELS)


class TestExplanation:
    def test_the_schema(self):
        table, _ = explanation()
        assert tuple(table.columns) == EXPLANATION_COLUMNS
        assert len(set(EXPLANATION_COLUMNS)) == len(EXPLANATION_COLUMNS) == 21
        assert table.attrs["schema"] == "sklearn_protopnet.explanation"
        assert table.attrs["schema_version"] == SCHEMA_VERSION
        assert set(table.attrs["units"]) == {
            *("similarity", "distance", "contribution"),
            *BOX,
            *SOURCE_BOX,
        }
        numbers = ["similarity", "distance", "weight", "contribution", "logit", "probability"]
        assert set(table[numbers].dtypes) == {np.dtype(np.float64)}
        assert table.index.tolist() == list(range(len(table)))

    @settings(max_examples=30)
    @given(st.integers(0, 2**32))
    def test_contributions_are_ranked_and_add_up_to_the_logit(self, seed):
        table, explained = explanation(seed)
        evidence, n_prototypes = explained.evidence, len(explained.sources.classes)
        shape = *evidence.logits.shape, n_prototypes  # (n, K, P)
        rank, prototype, contribution, sample, logit, probability = (
            table[name].to_numpy().reshape(shape)
            for name in ("rank", "prototype", "contribution", "sample", "logit", "probability")
        )
        error = np.abs(contribution.sum(2) - evidence.logits)
        rounding = 1e-15 * np.abs(contribution).sum(2)
        assert (error <= 1e-9 * np.abs(evidence.logits) + rounding).all()
        powers = np.exp(evidence.logits)
        expected = (powers / powers.sum(1, keepdims=True))[:, :, None]
        np.testing.assert_allclose(probability, np.broadcast_to(expected, shape), rtol=1e-12)
        assert (logit == evidence.logits[:, :, None]).all()
        assert np.array_equal(table["contribution"], table["weight"] * table["similarity"])
        assert (rank == np.arange(1, n_prototypes + 1)).all()
        assert (np.sort(prototype) == np.arange(n_prototypes)).all()
        assert (sample == np.arange(len(sample))[:, None, None]).all()
        falls, ties = np.diff(contribution) < 0, np.diff(contribution) == 0
        assert (falls | (ties & (np.diff(prototype) > 0))).all()  # ties by number

    def test_every_row_says_what_was_found(self):
        table, explained = explanation()
        evidence, located, record = explained.evidence, explained.located, explained.sources
        i, p = table["sample"].to_numpy(), table["prototype"].to_numpy()
        k = np.searchsorted(LABELS, table["class"])
        for name, expected in (
            ("similarity", evidence.similarities[i, p]),
            ("distance", evidence.distances[i, p]),
            ("weight", record.coef[k, p]),
            ("prototype_class", record.classes[p]),
            (BOX, located.boxes[i, p]),
            ("box_kind", located.kinds[i, p]),
            ("source_sample", record.samples[p]),
            (SOURCE_BOX, record.boxes[p]),
        ):
            np.testing.assert_array_equal(table[name], expected)

    @pytest.mark.parametrize("top_k", [1, 3, 50])
    def test_top_k_are_the_first_ranks(self, top_k):
        full, _ = explanation()
        table, _ = explanation(top_k=top_k)
        expected = full[full["rank"] <= top_k].reset_index(drop=True)
        pd.testing.assert_frame_equal(table, expected, check_exact=True)

    def test_rows_follow_the_samples_and_the_classes_asked_for(self):
        table, _ = explanation(classes=["cat", "ant"])
        pairs = table.loc[table["rank"] == 1, ["sample", "class"]].to_numpy().tolist()
        assert pairs == [[i, label] for i in range(4) for label in ("cat", "ant")]
        full, _ = explanation()
        expected = table[["sample", "class", "rank"]].merge(full, on=["sample", "class", "rank"])
        pd.testing.assert_frame_equal(table, expected[list(EXPLANATION_COLUMNS)])

    def test_the_predicted_class_is_that_of_the_largest_logit(self):
        table, explained = explanation(classes="predicted")
        predicted = LABELS[explained.evidence.logits.argmax(1)]
        assert table["class"].tolist() == np.repeat(predicted, 7).tolist()

    def test_samples_have_their_names(self):
        names = np.array(["p", "q", "r", "p"], dtype=object)
        table, _ = explanation(names=names)
        numbered, _ = explanation()
        assert table["sample"].tolist() == names[numbered["sample"]].tolist()


class TestPrototypes:
    def test_every_row_is_a_prototype_by_its_number(self):
        record = random_record(np.random.default_rng(1))
        table = prototypes_of(record)
        weights = ("weight_ant", "weight_bee", "weight_cat")
        assert tuple(table.columns) == (*PROTOTYPE_COLUMNS, *weights)
        assert table.attrs["schema"] == "sklearn_protopnet.prototype"
        assert table.attrs["schema_version"] == SCHEMA_VERSION
        assert set(table.attrs["units"]) == {"distance", *SOURCE_BOX}
        assert table["prototype"].tolist() == list(range(7))
        assert table["prototype_class"].tolist() == record.classes.tolist()
        assert table["source_sample"].tolist() == record.samples.tolist()
        assert np.array_equal(table[SOURCE_BOX], record.boxes)
        assert np.array_equal(table.filter(like="weight_").T, record.coef)

    @settings(max_examples=30)
    @given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2)), min_size=1, max_size=12))
    def test_duplicates_are_the_others_with_the_same_values(self, vectors):
        record = replace(
            random_record(np.random.default_rng(0), len(vectors)),
            vectors=np.array(vectors, dtype=np.float32) / 3,
        )
        assert record.n_duplicates.tolist() == [vectors.count(v) - 1 for v in vectors]

    def test_the_last_bit_tells_prototypes_apart(self):
        record = random_record(np.random.default_rng(0), 2)
        record.vectors[1] = np.nextafter(record.vectors[0], np.float32(2))
        assert prototypes_of(record)["n_duplicates"].tolist() == [0, 0]


def test_history_rows_are_what_was_recorded():
    rows = [
        asdict(row)
        for row in (
            HistoryRow(1, "warmup", 1, 0.5, 3.0, 2.0, 1.0, -0.5, accuracy=0.25),
            HistoryRow(1, "projection", 1, 0.1, accuracy_before=0.5),
            HistoryRow(1, "last_layer", 1, 0.2, 0.7, accuracy=0.75, gap=1e-6),
        )
    ]
    table = history_table(rows)
    assert list(table.columns) == [field.name for field in fields(HistoryRow)]
    assert table.attrs["schema"] == "sklearn_protopnet.history"
    assert table.attrs["schema_version"] == SCHEMA_VERSION
    assert table.attrs["units"] == {"seconds": "s"}
    np.testing.assert_equal(table.to_dict("records"), rows)
