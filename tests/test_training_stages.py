"""The stages, as data."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sklearn_protopnet._training import Settings
from sklearn_protopnet._training._stages import count_batches, usual_pretraining


def settings(**changes):
    plain = {
        "pretraining_epochs": 0,
        "warmup_epochs": 2,
        "joint_epochs": 7,
        "projection_interval": 3,
        "learning_rate": 0.1,
        "backbone_learning_rate": 0.01,
        "weight_decay": 1e-3,
        "batch_size": 4,
        "cluster_weight": 0.8,
        "separation_weight": 0.08,
        "linear_head_weight": 1.0,
        "l1_weight": 1e-4,
        "l2_weight": 1e-3,
        "is_trained": True,
        "freeze_statistics": False,
        "is_warm_start": False,
        "has_forbidden": False,
        "patience": None,
    }
    return Settings(**{**plain, **changes})


@given(
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(0, 12),
    st.one_of(st.none(), st.integers(1, 6)),
)
def test_every_round_ends_with_a_projection_and_a_last_layer(pretraining, warmup, joint, interval):
    plan = settings(
        pretraining_epochs=pretraining,
        warmup_epochs=warmup,
        joint_epochs=joint,
        projection_interval=interval,
    )
    stages = [stage for stages in plan.rounds() for stage in stages]
    names = [(stage.name, getattr(stage, "epochs", None)) for stage in stages]
    begin = [("pretraining", pretraining), ("initialization", None), ("warmup", warmup)]
    most = interval or max(1, joint)
    n_rounds = max(1, math.ceil(joint / most))
    assert plan.needs_last_layers == (n_rounds > 1)
    assert len(plan.rounds()) == n_rounds
    for i in range(n_rounds):
        begin.append(("joint", min(most, joint - i * most)))
        begin += [("projection", None), ("last_layer", None)]
    assert names == [each for each in begin if each[1] != 0]
    assert plan.n_epochs == pretraining + warmup + joint


class TestBatches:
    @pytest.mark.parametrize(
        ("n_images", "expected"),
        [(1, 1), (2, 1), (3, 1), (80, 1), (81, 2), (600, 8), (10_000, 125)],
    )
    def test_they_are_as_few_as_the_batch_size_allows(self, n_images, expected):
        assert count_batches(n_images, 80) == expected

    @given(st.integers(2, 500), st.integers(2, 100))
    def test_none_is_of_one_image_or_too_large(self, n_images, batch_size):
        n_batches = count_batches(n_images, batch_size)
        assert n_images // n_batches >= 2
        assert math.ceil(n_images / n_batches) <= max(batch_size, 3)

    @pytest.mark.parametrize(
        ("n_images", "expected"), [(10, 40), (600, 40), (1_347, 19), (2_000, 15), (60_000, 15)]
    )
    def test_few_images_are_seen_more_often(self, n_images, expected):
        assert usual_pretraining(n_images, 80) == expected
