"""The stages, as data."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sklearn_protopnet._training import Settings
from sklearn_protopnet._training._stages import (
    GradientStage,
    InitializationStage,
    LastLayerStage,
    ProjectionStage,
    count_batches,
    usual_pretraining,
)


def settings(**changes):
    plain = {
        "pretraining_epochs": 0,
        "warmup_epochs": 2,
        "joint_epochs": 7,
        "projection_interval": 3,
        "learning_rate": 0.1,
        "backbone_learning_rate": 0.01,
        "decay_factor": 0.5,
        "decay_interval": 2,
        "weight_decay": 1e-3,
        "batch_size": 4,
        "cluster_weight": 0.8,
        "separation_weight": 0.08,
        "l1_weight": 1e-4,
        "l2_weight": 1e-3,
        "freeze_statistics": False,
        "patience": None,
    }
    return Settings(**{**plain, **changes})


class TestStages:
    @given(st.integers(0, 3), st.integers(0, 3), st.integers(0, 12), st.integers(1, 6))
    def test_every_round_ends_with_a_projection_and_a_last_layer(
        self, pretraining, warmup, joint, interval
    ):
        plan = settings(
            pretraining_epochs=pretraining,
            warmup_epochs=warmup,
            joint_epochs=joint,
            projection_interval=interval,
        )
        stages = list(plan.stages())
        assert plan.n_epochs == pretraining + warmup + joint
        if pretraining:
            first = stages.pop(0)
            assert (first.name, first.epochs) == ("pretraining", pretraining)
        assert isinstance(stages.pop(0), InitializationStage)
        if warmup:
            first = stages.pop(0)
            assert (first.name, first.epochs) == ("warmup", warmup)
        descents = [stage for stage in stages if isinstance(stage, GradientStage)]
        n_rounds = max(1, math.ceil(joint / interval))
        assert sum(stage.epochs for stage in descents) == joint
        assert all(1 <= stage.epochs <= interval for stage in descents)
        ends = [stage for stage in stages if not isinstance(stage, GradientStage)]
        between = [ProjectionStage(), LastLayerStage(is_last=False)] * (n_rounds - 1)
        assert ends == [*between, ProjectionStage(), LastLayerStage(is_last=True)]
        for stage, following in itertools.pairwise(stages):
            is_descent = isinstance(stage, GradientStage)
            assert is_descent == isinstance(following, ProjectionStage) or joint == 0

    def test_rounds_by_hand(self):
        names = [(stage.name, getattr(stage, "epochs", None)) for stage in settings().stages()]
        begin = [("initialization", None), ("warmup", 2)]
        end = [("projection", None), ("last_layer", None)]
        assert names == [*begin, *2 * [("joint", 3), *end], ("joint", 1), *end]

    def test_without_epochs_there_is_a_projection_all_the_same(self):
        plan = settings(warmup_epochs=0, joint_epochs=0)
        assert list(plan.stages())[1:] == [ProjectionStage(), LastLayerStage()]

    def test_each_stage_names_the_parts_that_move(self):
        pretraining, initialization, warmup, joint, *_ = settings(pretraining_epochs=3).stages()
        assert pretraining.learning_rates == {"backbone": 0.1, "linear_head": 0.1}
        assert warmup.learning_rates == {"add_on": 0.1, "prototypes": 0.1}
        assert set(initialization.moving) == set(warmup.learning_rates)
        _, initialization, joint, *_ = settings(pretraining_epochs=3, warmup_epochs=0).stages()
        assert set(initialization.moving) == set(joint.learning_rates)
        assert [stage.is_pretraining for stage in (pretraining, warmup, joint)] == [1, 0, 0]
        assert joint.learning_rates == {"backbone": 0.01, "add_on": 0.1, "prototypes": 0.1}

    def test_rates_decay_by_steps_and_in_the_pretraining_along_a_cosine(self):
        pretraining, _, warmup, joint, *_ = settings(pretraining_epochs=4).stages()
        for stage in (warmup, joint):
            assert [stage.decay(epoch) for epoch in range(5)] == [1, 1, 0.5, 0.5, 0.25]
        half = math.sqrt(0.5)
        cosine = [1, (1 + half) / 2, 0.5, (1 - half) / 2]
        assert [pretraining.decay(epoch) for epoch in range(4)] == pytest.approx(cosine, rel=1e-14)


class TestBatches:
    @pytest.mark.parametrize(
        ("n_images", "expected"),
        [(1, 1), (2, 1), (3, 1), (80, 1), (81, 2), (600, 8), (10_000, 125)],
    )
    def test_by_hand(self, n_images, expected):
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
