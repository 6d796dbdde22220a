"""The loop: what each stage moves, at which rates, and what it writes down."""

import math
import re
from typing import ClassVar

import numpy as np
import pytest
import torch
from joblib import Parallel, delayed, parallel_config
from sklearn.base import clone
from torch import nn
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from sklearn_protopnet import ProtoPNetClassifier
from sklearn_protopnet._network._architecture import CONTRAST
from sklearn_protopnet._training._optimization import Adam, WeightAverage

STILL = 1e-30
"""A learning rate that moves no float32."""


class Backbone(nn.Sequential):
    """A small backbone that notes how it is run; the notes are shared by its copies."""

    notes: ClassVar = []

    def __init__(self):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            super().__init__(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())

    def forward(self, images):
        if images.device.type == "cpu" and len(images) > 0:
            moves = {p.requires_grad for p in self.parameters()}
            learns = torch.is_grad_enabled()
            modes = {module.training for module in self.modules()}
            self.notes.append((learns, modes, moves, len(images)))
        return super().forward(images)


@pytest.fixture
def notes():
    Backbone.notes.clear()
    return Backbone.notes


def classifier(**changes):
    plain = {
        "backbone": Backbone(),
        "prototype_depth": 5,
        "n_prototypes_per_class": 2,
        "pretraining_epochs": 0,
        "warmup_epochs": 0,
        "joint_epochs": 0,
        "projection_interval": 100,
        "learning_rate": 0.01,
        "backbone_learning_rate": 0.01,
        "batch_size": 100,
        "random_state": 0,
    }
    return ProtoPNetClassifier(**{**plain, **changes})


@pytest.fixture(scope="module")
def images():
    """Noise of three classes, of which one is brighter and one darker; 17 images."""
    y = np.arange(17) % 3
    return np.random.default_rng(0).normal(size=(17, 5, 6)) + y[:, None, None] - 1, y


def of_part(clf, part):
    backbone = clf.backbone_.state_dict().items() if hasattr(clf, "backbone_") else ()
    network = {
        **clf.state_["network"],
        **{f"backbone.{name}": value.numpy() for name, value in backbone},
        "prototypes": clf.prototypes_,
        "head": clf.coef_,
    }
    return {name: value for name, value in network.items() if name.startswith(part)}


def assert_equal_parts(one, other, *parts):
    for part in parts:
        values, others = of_part(one, part), of_part(other, part)
        assert values.keys() == others.keys() != set()
        assert all(np.array_equal(values[name], others[name]) for name in values), part


class TestWhatMoves:
    @pytest.mark.parametrize("warmup_epochs", [0, 2])
    def test_a_warm_up_leaves_the_backbone_alone_statistics_included(self, images, warmup_epochs):
        clf = classifier(warmup_epochs=warmup_epochs).fit(*images)
        initial = clf.backbone.state_dict()
        found = of_part(clf, "backbone.")
        assert {name.removeprefix("backbone.") for name in found} == set(initial)
        for name, value in initial.items():
            assert np.array_equal(found[f"backbone.{name}"], value.numpy()), name
        before, after = of_part(classifier().fit(*images), "add_on"), of_part(clf, "add_on")
        moved = {not np.array_equal(before[name], after[name]) for name in before}
        assert moved == {warmup_epochs > 0}

    @pytest.mark.parametrize("how", ["parameters that need no gradient", "rate 0"])
    def test_a_frozen_backbone_stays_in_joint_epochs_statistics_included(self, images, how):
        module = Backbone()
        is_frozen = how != "rate 0"
        module.requires_grad_(not is_frozen)
        clf = classifier(
            backbone=module,
            pretraining_epochs=1 if is_frozen else 0,
            joint_epochs=2,
            backbone_learning_rate=0.01 if is_frozen else 0,
        ).fit(*images)
        found = of_part(clf, "backbone.")
        for name, value in module.state_dict().items():
            assert np.array_equal(found[f"backbone.{name}"], value.numpy()), name
        before, after = of_part(classifier().fit(*images), "add_on"), of_part(clf, "add_on")
        assert all(not np.array_equal(before[name], after[name]) for name in before)

    def test_statistics_of_a_layer_that_the_user_froze_stay(self, images):
        module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        module.extend([nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(4, affine=False)])
        module[:2].requires_grad_(False)
        clf = classifier(backbone=module, joint_epochs=2, backbone_learning_rate=0.01).fit(*images)
        found = of_part(clf, "backbone.")
        moved = {
            name for name, value in module.state_dict().items()
            if not np.array_equal(found[f"backbone.{name}"], value.numpy())
        }  # fmt: skip
        names = [f"{i}.{name}" for i in (4, 5) for name in ("running_mean", "running_var")]
        names += ["3.weight", "3.bias", "4.weight", "4.bias"]
        names += ["4.num_batches_tracked", "5.num_batches_tracked"]
        assert moved == set(names)

    def test_dropout_in_threads_draws_what_it_draws_alone(self, images):
        module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Dropout(0.5))
        plans = [classifier(backbone=module, joint_epochs=1, random_state=i) for i in (0, 1, 0)]
        before = torch.get_rng_state()
        alone = [clone(plan).fit(*images) for plan in plans]
        assert torch.equal(before, torch.get_rng_state())
        assert_equal_parts(alone[0], alone[2], "backbone", "add_on", "prototypes", "head")
        with parallel_config("threading", n_jobs=3):
            together = Parallel()(delayed(clone(plan).fit)(*images) for plan in plans)
        for one, other in zip(alone, together, strict=True):
            assert_equal_parts(one, other, "backbone", "add_on", "prototypes", "head")

    def test_joint_epochs_move_every_part(self, images):
        at_start, clf = classifier().fit(*images), classifier(joint_epochs=2).fit(*images)
        before, after = (of_part(c, ("backbone", "add_on")) for c in (at_start, clf))
        assert all(not np.array_equal(before[name], after[name]) for name in before)

    def test_a_pretraining_moves_the_backbone_only(self, images):
        at_start, clf = classifier().fit(*images), classifier(pretraining_epochs=2).fit(*images)
        assert_equal_parts(clf, at_start, "add_on")
        before, after = of_part(at_start, "backbone"), of_part(clf, "backbone")
        assert all(not np.array_equal(before[name], after[name]) for name in before)
        assert clf.state_["network"].keys() == at_start.state_["network"].keys()

    def test_projection_and_last_layer_move_prototypes_and_head_only(self, images):
        still = {"learning_rate": STILL, "backbone_learning_rate": STILL}
        never = classifier(**still).fit(*images)
        twice = classifier(joint_epochs=2, projection_interval=1, **still).fit(*images)
        weights = "backbone.0", "backbone.1.weight"
        assert_equal_parts(twice, never, "add_on", *weights)
        assert (twice.prototype_distances_ == 0).all()
        own = twice.prototype_classes_ == twice.classes_[:, None]
        assert not np.array_equal(twice.coef_, np.where(own, 1.0, -0.5))

    def test_what_a_stage_does_not_name_is_frozen_and_in_eval(self, images, notes):
        X, y = images
        classifier(
            pretraining_epochs=1, warmup_epochs=2, joint_epochs=3, projection_interval=2
        ).fit(X, y, X_val=X[:3], y_val=y[:3])
        learning = [(modes, moves) for learns, modes, moves, _ in notes if learns]
        # Warm-up epochs do not run the backbone: its maps are kept.
        assert learning == 4 * [({True}, {True})]
        assert all(modes == {False} for learns, modes, *_ in notes if not learns)

    @pytest.mark.parametrize(("n_images", "batch_size"), [(17, 8), (5, 2), (4, 3)])
    def test_batches_are_even_and_never_of_one_image(self, images, notes, n_images, batch_size):
        X, y = images
        classifier(joint_epochs=2, batch_size=batch_size).fit(X[:n_images], y[:n_images])
        sizes = [n for learns, _, _, n in notes if learns]
        n_batches = len(sizes) // 2
        for epoch in (sizes[:n_batches], sizes[n_batches:]):
            assert sum(epoch) == n_images
            assert min(epoch) >= 2
            assert max(epoch) - min(epoch) <= 1
            assert max(epoch) <= max(batch_size, 3)


class TestStart:
    def test_a_warm_up_sees_the_maps_of_the_joint_epochs(self):
        """Batch normalisation by the images' statistics or, in joint epochs, the batch's."""
        y = np.arange(24) % 3
        X = 50 + 5 * np.random.default_rng(0).normal(size=(24, 32, 32)) + y[:, None, None]
        still = {"learning_rate": STILL, "backbone_learning_rate": STILL}
        clf = classifier(backbone="auto", warmup_epochs=1, joint_epochs=1, **still).fit(X, y)
        warmup, joint = clf.loss_curve_
        assert warmup == pytest.approx(joint, rel=0.01)

    def test_prototypes_start_at_different_patches_of_their_class(self, images):
        X, y = images
        clf = classifier(warmup_epochs=1, n_prototypes_per_class=6, learning_rate=STILL).fit(X, y)
        history = clf.history_table()  # nothing has moved, so that they are projected to themselves
        assert history["accuracy_before"].iloc[-2] == history["accuracy_before"].iloc[-1]
        np.testing.assert_array_equal(y[clf.prototype_sample_indices_], clf.prototype_classes_)
        assert len(np.unique(clf.prototypes_.reshape(18, -1), axis=0)) == 18
        assert (clf.prototype_table()["n_duplicates"] == 0).all()

    def test_they_stay_what_they_are_without_epochs(self, images):
        X, y = images
        clf = classifier().fit(X, y)
        history = clf.history_table()
        assert history["stage"].tolist() == ["projection", "last_layer"]
        before = history["accuracy_before"]
        assert before[0] == before[1]

    def test_another_seed_draws_other_patches(self, images):
        one, other = (classifier(random_state=seed).fit(*images) for seed in (0, 1))
        sources = [
            set(zip(c.prototype_sample_indices_, map(tuple, c.prototype_boxes_), strict=True))
            for c in (one, other)
        ]
        assert sources[0] != sources[1]


@pytest.fixture
def steps():
    """Learning rate and weight decay of every part in every step of an optimizer."""
    seen = []

    def note(optimizer, args, kwargs):
        seen.append(
            {
                tuple(parameter.shape): (group["lr"], group["weight_decay"])
                for group in optimizer.param_groups
                for parameter in group["params"]
            }
        )

    hook = register_optimizer_step_pre_hook(note)
    yield seen
    hook.remove()


BACKBONE, ADD_ON, PROTOTYPES, LINEAR_HEAD = (4, 1, 3, 3), (5, 4, 1, 1), (6, 5, 1, 1), (3, 4)
"""Shapes of a parameter of each part."""


RATES = {"learning_rate": 0.01, "backbone_learning_rate": 0.002, "weight_decay": 0.03}


class TestRates:
    def test_every_part_has_its_own_rate_and_no_prototype_decays(self, images, steps):
        classifier(warmup_epochs=1, joint_epochs=1, **RATES).fit(*images)
        warmup, joint = steps
        assert BACKBONE not in warmup
        assert joint[BACKBONE] == (0.002, 0.03)
        assert warmup[ADD_ON] == joint[ADD_ON] == (0.01, 0.03)
        assert warmup[PROTOTYPES] == joint[PROTOTYPES] == (0.01, 0)

    def test_a_pretraining_moves_backbone_and_linear_head(self, images, steps):
        classifier(pretraining_epochs=4, **RATES).fit(*images)
        for step in steps:
            assert not {ADD_ON, PROTOTYPES} & set(step)
            assert step[BACKBONE] == step[LINEAR_HEAD] == (0.01, 0.03)

    def test_a_first_step_of_adam_is_as_long_as_the_rate(self, images):
        at_start = classifier().fit(*images)
        clf = classifier(joint_epochs=1, **RATES).fit(*images)
        for name, rate in (("backbone.0.weight", 0.002), ("add_on.0.weight", 0.01)):
            move = of_part(clf, name)[name] - of_part(at_start, name)[name]
            assert np.abs(move).max() == pytest.approx(rate, rel=1e-3)

    @pytest.mark.parametrize("interval", [2, 100])
    def test_rates_stay_what_they_are(self, images, steps, interval):
        epochs = {"pretraining_epochs": 3, "warmup_epochs": 3, "joint_epochs": 5}
        classifier(**epochs, projection_interval=interval, **RATES).fit(*images)
        assert {step[ADD_ON] for step in steps if ADD_ON in step} == {(0.01, 0.03)}
        assert [step[BACKBONE][0] for step in steps if BACKBONE in step] == 3 * [0.01] + 5 * [0.002]

    @pytest.mark.parametrize(("backbone", "expected"), [("auto", 0.01), (Backbone(), 1e-4)])
    def test_a_backbone_that_is_taken_to_be_trained_moves_slowly(
        self, images, steps, backbone, expected
    ):
        changes = {"learning_rate": 0.01, "backbone_learning_rate": "auto"}
        classifier(backbone=backbone, joint_epochs=1, **changes).fit(*images)
        rates = {rate for part, (rate, _) in steps[0].items() if part[2:] == (3, 3)}
        assert rates == {expected}

    @pytest.mark.parametrize("stage", ["warmup_epochs", "joint_epochs"])
    def test_the_linear_head_learns_on_beside_the_prototypes(self, images, steps, stage):
        classifier(**{stage: 1}).fit(*images)
        assert steps[0][LINEAR_HEAD] == (0.01, 0.001)
        steps.clear()
        classifier(**{stage: 1}, linear_head_weight=0).fit(*images)
        assert LINEAR_HEAD not in steps[0]
        steps.clear()
        classifier(**{stage: 1}, backbone_learning_rate=0).fit(*images)  # it would teach nothing
        assert LINEAR_HEAD not in steps[0]


def strided(kind):
    """Draw parameters that lie in memory in many ways."""
    torch.manual_seed(0)
    maps, volumes = torch.randn(6, 5, 3, 2), torch.randn(3, 4, 2, 2, 2)
    tensors = [
        maps,
        maps.to(memory_format=torch.channels_last),
        volumes.to(memory_format=torch.channels_last_3d),
        maps[..., :1, :1].contiguous(),
        torch.randn(5, 8),
        torch.randn(7),
    ]
    if kind == "with gaps":
        tensors += [torch.randn(16)[::2], torch.randn(4, 6, 2, 2)[:, ::2]]
    if kind == "complex":
        tensors.append(torch.randn(3, dtype=torch.complex64))
    return [nn.Parameter(each) for each in tensors]


class TestAdam:
    """It takes the steps of torch's own."""

    @pytest.mark.parametrize("kind", ["dense", "with gaps", "complex"])
    def test_however_parameters_lie_in_memory(self, kind):
        one = strided(kind)
        other = [nn.Parameter(each.detach().clone().contiguous()) for each in one]
        mine = Adam([{"params": one, "lr": 0.1, "weight_decay": 1e-2}])
        its = torch.optim.Adam([{"params": other, "lr": 0.1, "weight_decay": 1e-2}])
        for step in range(6):
            mine.zero_grad()
            assert all(each.grad is None for each in one)
            for i, (a, b) in enumerate(zip(one, other, strict=True)):
                b.grad = torch.randn_like(b).contiguous()
                if i % 5 == step % 5:
                    b.grad = None  # of a part that is frozen
                elif step % 2:
                    a.grad = b.grad.clone()  # in the order of its indices
                else:
                    a.grad = torch.empty_like(a).copy_(b.grad)  # as the parameter lies
            n_gradients = sum(each.grad is not None for each in one)
            assert len(mine.gradients()) == n_gradients
            mine.step()
            its.step()
            if step == 2:  # a training that goes on from a file
                state = mine.state_dict()
                mine = Adam([{"params": one, "lr": 0.1, "weight_decay": 1e-2}])
                mine.load_state_dict(state)
        for a, b in zip(one, other, strict=True):
            np.testing.assert_allclose(a.detach(), b.detach(), rtol=1e-5, atol=1e-5)


class TestAverages:
    """Every stage ends with the average over its steps."""

    def test_the_step_s_counts_by_s_times_its_next_two(self):
        states = np.random.default_rng(0).normal(size=(7, 3))
        now = torch.full((3,), 9.0, dtype=torch.float64)
        average = WeightAverage([now])
        for state in states:
            now.copy_(torch.from_numpy(state))
            average.update()
        s = np.arange(1, 8)
        expected = np.average(states, axis=0, weights=s * (s + 1) * (s + 2))
        with average.in_place():
            np.testing.assert_allclose(now, expected, rtol=1e-14)
        np.testing.assert_array_equal(now, states[-1])
        average.put()
        np.testing.assert_allclose(now, expected, rtol=1e-14)

    @pytest.mark.parametrize(
        ("stage", "moving"), [("warmup_epochs", {ADD_ON}), ("joint_epochs", {ADD_ON, BACKBONE})]
    )
    def test_a_stage_leaves_the_average_of_its_steps(self, images, stage, moving):
        states = {}

        def note(optimizer, args, kwargs):
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    state = parameter.detach().numpy().copy()
                    states.setdefault(state.shape, []).append(state)

        hook = register_optimizer_step_post_hook(note)
        clf = classifier(**{stage: 3}, batch_size=9, random_state=0).fit(*images)
        hook.remove()
        names = {ADD_ON: "add_on.0.weight", BACKBONE: "backbone.0.weight"}
        assert moving == names.keys() & states.keys()
        s = np.arange(1, 1 + 3 * 2)
        for shape in moving:
            expected = np.average(states[shape], axis=0, weights=s * (s + 1) * (s + 2))
            found = of_part(clf, names[shape])[names[shape]]
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)

    def test_statistics_are_averaged_too(self, images):
        changes = {"learning_rate": STILL, "backbone_learning_rate": STILL}
        found, share = {}, {}
        for n in (1, 2, 40):
            s = np.arange(1, n + 1)
            # After s steps on the same images they have gone 1 - 0.9^s of the way to theirs.
            share[n] = np.average(1 - 0.9**s, weights=s * (s + 1) * (s + 2))
            clf = classifier(joint_epochs=n, **changes).fit(*images)
            found[n] = clf.backbone_[1].running_mean.numpy()
        way = (found[2] - found[1]) / (share[2] - share[1])
        expected = found[1] + (share[40] - share[1]) * way
        np.testing.assert_allclose(found[40], expected, rtol=1e-4, atol=1e-6)

    def test_a_validation_scores_the_average(self, images):
        X, y = images
        epochs = {"warmup_epochs": 1, "joint_epochs": 6, "projection_interval": 3}
        clf = classifier(**epochs, batch_size=4).fit(X, y, X_val=X, y_val=y)
        history = clf.history_table()
        of_projection = history.index[history["stage"] == "projection"]
        assert len(of_projection) == 2
        for row in of_projection:
            found = history["validation_accuracy"][row - 1]
            assert found == history["accuracy_before"][row]


class TestHistory:
    def test_rounds_stages_and_epochs(self, images):
        clf = classifier(
            pretraining_epochs=1, warmup_epochs=1, joint_epochs=3, projection_interval=2
        ).fit(*images)
        rows = [(row["round"], row["stage"], row["epoch"]) for row in clf.history_]
        assert rows == [
            (1, "pretraining", 1),
            (1, "warmup", 2),
            (1, "joint", 3),
            (1, "joint", 4),
            (1, "projection", 4),
            (1, "last_layer", 4),
            (2, "joint", 5),
            (2, "projection", 5),
            (2, "last_layer", 5),
        ]
        assert clf.n_iter_ == 5
        epochs = [row for row in clf.history_ if row["stage"] not in {"projection", "last_layer"}]
        assert clf.loss_curve_ == [row["loss"] for row in epochs]

    def test_a_column_that_does_not_apply_is_nan(self, images):
        X, y = images
        clf = classifier(pretraining_epochs=1, warmup_epochs=1, joint_epochs=1)
        clf.fit(X, y, X_val=X, y_val=y)
        costs = {"loss", "cross_entropy", "cluster", "separation", "linear_head"}
        rates = {"learning_rate", "backbone_learning_rate"}
        scores = {"accuracy", "validation_accuracy"}
        expected = {
            "pretraining": {"loss", "cross_entropy", *scores, *rates},
            "warmup": {*costs, *scores, *rates},
            "joint": {*costs, *scores, *rates},
            "projection": {"accuracy_before"},
            "last_layer": {"loss", "accuracy_before", "accuracy", "validation_accuracy", "gap"},
        }
        for row in clf.history_:
            figures = {k: v for k, v in row.items() if k not in {"round", "stage", "epoch"}}
            assert figures.pop("seconds") > 0
            known = {name for name, value in figures.items() if not math.isnan(value)}
            assert known == expected[row["stage"]]

    @pytest.mark.parametrize(
        ("parameters", "expected"),
        [
            ({"pretraining_epochs": 1}, {"pretraining": 0.02, "warmup": 0.0, "joint": 0.02}),
            ({"pretraining_epochs": 0}, {"warmup": 0.0, "joint": 0.02}),
            ({"backbone_learning_rate": 0.1}, {"warmup": 0.0, "joint": 0.1}),
            ({"backbone_learning_rate": 0.0}, {"warmup": 0.0, "joint": 0.0}),
            ({"backbone": nn.Conv2d(1, 4, 1)}, {"warmup": 0.0, "joint": 1e-4}),
        ],
    )
    def test_history_has_the_rates_that_auto_came_to(self, images, parameters, expected):
        usual = {"backbone": "auto", "backbone_learning_rate": "auto", "learning_rate": 0.02}
        clf = classifier(warmup_epochs=1, joint_epochs=1, **usual | parameters)
        history = clf.fit(*images).history_table()
        epochs = history[history["learning_rate"].notna()].set_index("stage")
        assert (epochs["learning_rate"] == 0.02).all()
        found = epochs["backbone_learning_rate"].to_dict()
        assert {name: found[name] for name in expected} == expected

    def test_the_loss_is_the_weighted_sum_of_its_costs(self, images):
        weights = {"cluster_weight": 0.3, "separation_weight": 0.7, "linear_head_weight": 0.4}
        for row in classifier(joint_epochs=3, batch_size=5, **weights).fit(*images).history_[:3]:
            total = (
                row["cross_entropy"]
                + 0.3 * row["cluster"]
                + 0.7 * row["separation"]
                + 0.4 * row["linear_head"]
            )
            assert row["loss"] == pytest.approx(total, rel=1e-6)

    def test_an_epochs_figures_are_weighted_means_over_the_images(self, images):
        X, y = images
        weights = np.random.default_rng(0).uniform(0.2, 3, len(y))
        rows = [
            # The logarithm would enlarge what rounding leaves of distances that are 0.
            classifier(warmup_epochs=1, learning_rate=STILL, batch_size=size, similarity="linear")
            .fit(X, y, sample_weight=weights)
            .history_[0]
            for size in (2, 5, 100)
        ]
        for name in ("loss", "cross_entropy", "cluster", "separation", "linear_head", "accuracy"):
            assert rows[1][name] == pytest.approx(rows[0][name], rel=1e-4, abs=1e-7)
            assert rows[2][name] == pytest.approx(rows[0][name], rel=1e-4, abs=1e-7)

    def test_a_pretraining_knows_a_cross_entropy_and_no_prototypes(self, images):
        X, y = images
        weights = np.random.default_rng(0).uniform(0.2, 3, len(y))
        clf = classifier(pretraining_epochs=1).fit(X, y, sample_weight=weights)
        row = clf.history_[0]
        assert row["loss"] == row["cross_entropy"]
        assert np.isnan([row["cluster"], row["separation"]]).all()
        again = classifier(pretraining_epochs=1).fit(X, y, sample_weight=3 * weights).history_[0]
        for name in ("loss", "accuracy"):
            assert again[name] == pytest.approx(row[name], rel=1e-6)

    def test_the_first_step_of_a_pretraining_moves_the_backbone(self, images):
        """A head that started at zero would pass no gradient on."""
        start = Backbone()
        clf = classifier(backbone=start, pretraining_epochs=1, weight_decay=0.0).fit(*images)
        for before, after in zip(start.parameters(), clf.backbone_.parameters(), strict=True):
            assert not torch.equal(before, after)

    def test_the_last_row_is_the_classifier(self, images):
        X, y = images
        weights = np.random.default_rng(0).uniform(0.2, 3, len(y))
        clf = classifier(joint_epochs=3, l1_weight=0.01, l2_weight=0.1)
        clf.fit(X, y, sample_weight=weights, X_val=X[:5], y_val=y[:5])
        row = clf.history_[-1]
        assert row["accuracy"] == pytest.approx(clf.score(X, y, weights), rel=1e-12)
        assert row["validation_accuracy"] == clf.score(X[:5], y[:5])
        own = clf.classes_[:, None] == clf.prototype_classes_
        probabilities = clf.predict_proba(X)[np.arange(len(y)), y]
        objective = (
            np.average(-np.log(probabilities), weights=weights)
            + 0.01 * np.abs(clf.coef_[~own]).sum()
            + 0.1 / 2 * np.square(clf.coef_).sum()
        )
        assert row["loss"] == pytest.approx(objective, rel=1e-8)
        assert row["gap"] == clf.last_layer_gap_ <= 1e-4 * objective


class Watched(Backbone):
    """Notes the images of training steps, and how many others there are that are not blank."""

    steps: ClassVar = []
    others: ClassVar = []

    def forward(self, images):
        if torch.is_grad_enabled():
            self.steps.append(images.detach().clone())
        elif images.abs().amax() > CONTRAST:
            self.others.append(len(torch.unique(images.flatten(1), dim=0)))
        return super().forward(images)


@pytest.fixture
def watched():
    """A backbone that notes what it is given."""
    Watched.steps.clear()
    Watched.others.clear()
    return Watched()


class TestFrozenBackbone:
    STAGES = (
        {"warmup_epochs": 4},
        {"joint_epochs": 4, "projection_interval": 2, "backbone_learning_rate": 0},
        {"warmup_epochs": 1, "joint_epochs": 2, "backbone_learning_rate": 0},
    )

    @pytest.mark.parametrize("stages", STAGES, ids=str)
    def test_it_takes_every_image_once(self, images, watched, stages):
        X, y = images
        classifier(backbone=watched, batch_size=4, **stages).fit(X, y)
        assert not watched.steps
        assert sum(watched.others) == 17

    def test_it_takes_validation_images_once_too(self, images, watched):
        X, y = images
        clf = classifier(backbone=watched, warmup_epochs=4, batch_size=4)
        clf.fit(X[:12], y[:12], X_val=X[12:], y_val=y[12:])
        assert sum(watched.others) == 17

    def test_after_it_has_moved_its_maps_are_computed_anew(self, images, watched):
        """Initialization, warm-up, and two rounds: one pass each time that it has moved."""
        stages = {"warmup_epochs": 2, "joint_epochs": 2, "projection_interval": 1}
        classifier(backbone=watched, **stages).fit(*images)
        assert [len(step) for step in watched.steps] == 2 * [17]
        assert sum(watched.others) == 3 * 17


def darkened(image):
    return image * 0


def same(image):
    return image


class TestAugmentation:
    @pytest.mark.parametrize(
        ("stages", "n_epochs"),
        [
            ({"warmup_epochs": 3}, 3),
            ({"joint_epochs": 2, "backbone_learning_rate": 0}, 2),
            ({"pretraining_epochs": 1, "warmup_epochs": 1, "joint_epochs": 2}, 4),
        ],
        ids=str,
    )
    def test_every_epoch_sees_varied_images_and_nothing_else_does(
        self, images, watched, stages, n_epochs
    ):
        X, y = images
        clf = classifier(backbone=watched, augment=darkened, batch_size=6, **stages).fit(X, y)
        standard = clf.state_["standardization"]
        dark = np.float32(-standard["mean"][0] / standard["scale"][0])
        assert sum(map(len, watched.steps)) == n_epochs * 17
        assert all((step == dark).all() for step in watched.steps)
        # Prototypes start at patches of plain images, and are projected to such.
        assert (clf.prototype_distances_ == 0).all()
        found = clf.explain(X[clf.prototype_sample_indices_], classes="all", details="patches")
        at_home = found[(found["sample"] == found["prototype"]) & (found["patch"] == 1)]
        np.testing.assert_allclose(at_home["patch_similarity"], math.log(1 / 1e-4), rtol=1e-14)
        vectors = clf.prototypes_.reshape(6, -1)
        assert len(np.unique(vectors, axis=0)) > 1

    def test_projection_and_last_layer_share_a_pass(self, images, watched):
        clf = classifier(backbone=watched, augment=darkened, joint_epochs=2, projection_interval=1)
        X, y = images
        clf.fit(X, y, X_val=X[:5], y_val=y[:5])
        # All images are looked at twice for the start, then once in each round, which looks
        # at the validation images after its epoch and for the last layer.
        assert sum(watched.others) == 2 * 17 + 2 * (5 + 17 + 5)

    @pytest.mark.parametrize("rounds", [1, 2])
    def test_kept_maps_of_plain_images_are_not_trained_on(self, images, watched, rounds):
        """After the first round of a frozen backbone they are there."""
        clf = classifier(
            backbone=watched,
            augment=darkened,
            joint_epochs=2 * rounds,
            projection_interval=2,
            backbone_learning_rate=0,
        ).fit(*images)
        assert [len(step) for step in watched.steps] == 2 * rounds * [17]
        assert sum(watched.others) == 2 * 17 + 17
        assert (clf.prototype_distances_ == 0).all()

    def test_the_loss_is_that_of_the_varied_images(self, images):
        """Dark images are all alike: without a step, all logits are those of one image."""
        X, y = images
        clf = classifier(augment=darkened, warmup_epochs=2, learning_rate=STILL).fit(X, y)
        plain = classifier(warmup_epochs=2, learning_rate=STILL).fit(X, y)
        accuracies = [row["accuracy"] for row in clf.history_[:2]]
        shares = np.bincount(y) / len(y)
        assert min(abs(shares - accuracies[0])) < 1e-6
        assert accuracies[0] == accuracies[1]
        assert clf.loss_curve_[0] == pytest.approx(clf.loss_curve_[1], rel=1e-6)
        assert clf.loss_curve_[0] != pytest.approx(plain.loss_curve_[0], rel=1e-2)
        # Nothing has moved, and the projection looks at plain images.
        assert_equal_parts(clf, plain, "backbone", "add_on", "prototypes", "head")

    def test_validation_images_are_plain(self, images):
        X, y = images
        clf = classifier(augment=darkened, joint_epochs=2)
        clf.fit(X, y, X_val=X[:5], y_val=y[:5])
        assert clf.history_[-1]["validation_accuracy"] == clf.score(X[:5], y[:5])
        assert clf.history_[-1]["accuracy"] == clf.score(X, y)

    def test_what_changes_nothing_gives_the_same_bits(self, images):
        """In one epoch: the seeds of the images are drawn before the order of a second one."""
        one, other = (
            classifier(augment=augment, joint_epochs=1).fit(*images) for augment in (None, same)
        )
        assert_equal_parts(one, other, "backbone", "add_on", "prototypes", "head")


class TestStatistics:
    """Of batch normalisation, in joint epochs."""

    @staticmethod
    def state():
        """As of a training on other images."""
        state = Backbone().state_dict()
        state["1.running_mean"] += torch.tensor([0.5, -0.5, 0.25, 0.0])
        state["1.running_var"] *= 3
        state["1.num_batches_tracked"] += 7
        return state

    @pytest.mark.parametrize("pretraining_epochs", [0, 1])
    def test_given_weights_keep_theirs_while_their_parameters_move(
        self, images, tmp_path, pretraining_epochs
    ):
        torch.save(self.state(), tmp_path / "weights.pt")
        clf = classifier(
            weights=str(tmp_path / "weights.pt"),
            pretraining_epochs=pretraining_epochs,
            joint_epochs=2,
        ).fit(*images)
        found = of_part(clf, "backbone.")
        for name, value in self.state().items():
            is_statistic = name in {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
            is_same = np.array_equal(found[f"backbone.{name}"], value.numpy())
            assert is_same == is_statistic, name

    def test_a_step_with_given_weights_sees_them(self, images, tmp_path):
        """The first loss is that of a backbone in `eval()`, kept maps or not."""
        torch.save(self.state(), tmp_path / "weights.pt")
        weights = str(tmp_path / "weights.pt")
        plain = {
            "weights": weights,
            "joint_epochs": 1,
            "linear_head_weight": 0,
            "precision": "float32",
        }
        joint = classifier(**plain).fit(*images)
        frozen = classifier(**plain, backbone_learning_rate=0).fit(*images)
        assert joint.loss_curve_ == pytest.approx(frozen.loss_curve_, rel=1e-5)

    def test_a_module_without_weights_moves_its_own(self, images):
        module = Backbone()
        module.load_state_dict(self.state())
        clf = classifier(backbone=module, joint_epochs=2).fit(*images)
        found = of_part(clf, "backbone.")
        for name, value in self.state().items():
            assert not np.array_equal(found[f"backbone.{name}"], value.numpy()), name
        # One for each epoch, and two for what the prototypes start at.
        assert found["backbone.1.num_batches_tracked"] == 7 + 2 + 2


class TestFiniteLoss:
    @pytest.mark.parametrize("stage", ["pretraining", "warmup", "joint"])
    def test_a_loss_that_is_not_finite_is_named_with_its_stage_and_epoch(self, images, stage):
        clf = classifier(learning_rate=1e30, **{f"{stage}_epochs": 9})
        message = rf"loss must stay finite; it became (nan|inf) in stage '{stage}', epoch [23]\."
        with pytest.raises(ValueError, match=message):
            clf.fit(*images)
        assert not hasattr(clf, "classes_")

    def test_epochs_are_counted_over_stages(self, images):
        clf = classifier(learning_rate=STILL, backbone_learning_rate=1e30, joint_epochs=3)
        with pytest.raises(ValueError, match="in stage 'joint'") as caught:
            clf.set_params(warmup_epochs=4).fit(*images)
        assert int(re.search(r"epoch (\d+)", str(caught.value))[1]) in {6, 7}

    def test_a_last_step_that_diverges_is_noticed(self, images):
        clf = classifier(backbone_learning_rate=1e30, joint_epochs=1, batch_size=100)
        with pytest.raises(ValueError, match=r"finite; .* 'projection', after epoch 1"):
            clf.fit(*images)
