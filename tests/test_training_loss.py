"""Stage 1's costs, by hand and against loops."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sklearn_protopnet._training._loss import costs


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def costs_of(pair, labels, weights, classes):
    """Costs of a pair of distances and logits."""
    distances, logits = (
        values if isinstance(values, torch.Tensor) else tensor(values) for values in pair
    )
    return costs(distances, logits, labels, weights, prototype_classes=classes)


def test_the_costs_of_two_images_by_hand():
    pair = (
        [[1.0, 2.0, 3.0, 4.0], [5.0, 1.0, 2.0, 0.5]],
        [[0.0, math.log(3)], [0.0, 0.0]],
    )
    labels, classes = torch.tensor([0, 1]), torch.tensor([0, 0, 1, 1])
    found = costs_of(pair, labels, tensor([1.5, 0.5]), classes)
    assert found.cross_entropy.item() == pytest.approx(
        (1.5 * math.log(4) + 0.5 * math.log(2)) / 2, rel=1e-15
    )
    assert found.cluster.item() == (1.5 * 1.0 + 0.5 * 0.5) / 2
    assert found.separation.item() == -(1.5 * 3.0 + 0.5 * 1.0) / 2
    total = 0.875 * 2 * math.log(2) + 0.8 * 0.875 - 0.08 * 2.5
    assert found.total(0.8, 0.08, 0).item() == pytest.approx(total, rel=1e-15)
    assert found.linear_head.isnan()
    logits = tensor([[math.log(2), 0.0], [0.0, math.log(7)]])
    found = costs(
        *(tensor(values) for values in pair),
        labels,
        tensor([1.5, 0.5]),
        prototype_classes=classes,
        linear_logits=logits,
    )
    of_head = (1.5 * math.log(1.5) + 0.5 * math.log(8 / 7)) / 2
    assert found.linear_head.item() == pytest.approx(of_head, rel=1e-15)
    assert found.total(0.8, 0.08, 0.3).item() == pytest.approx(total + 0.3 * of_head, rel=1e-15)


def test_a_class_without_images_in_the_batch_only_separates():
    distances = [[3.0, 0.25, 7.0], [1.0, 6.0, 0.5]]
    pair = (distances, np.zeros((2, 3)).tolist())
    found = costs_of(pair, torch.tensor([0, 0]), torch.ones(2), torch.tensor([0, 1, 2]))
    assert found.cluster.item() == (3.0 + 1.0) / 2
    assert found.separation.item() == -(0.25 + 0.5) / 2


@pytest.mark.parametrize("scale", [1.0, 1e12, 1e30])
def test_only_the_nearest_prototypes_get_a_gradient_however_far_they_are(scale):
    distances = (scale * tensor([[2.0, 1.0, 4.0, 3.0], [9.0, 8.0, 6.0, 7.0]])).requires_grad_()
    weights, classes = tensor([0.5, 1.5]), torch.tensor([0, 0, 1, 1])
    found = costs_of((distances, torch.zeros(2, 2)), torch.tensor([0, 1]), weights, classes)
    (of_cluster,) = torch.autograd.grad(found.cluster, distances, retain_graph=True)
    (of_separation,) = torch.autograd.grad(found.separation, distances)
    assert of_cluster.tolist() == [[0, 0.25, 0, 0], [0, 0, 0.75, 0]]
    assert of_separation.tolist() == [[0, 0, 0, -0.25], [0, -0.75, 0, 0]]


@st.composite
def batches(draw):
    """Distances, logits, labels, weights and the classes of the prototypes; 2 to 4 classes."""
    n_classes, n_images = draw(st.integers(2, 4)), draw(st.integers(1, 6))
    extra = draw(st.lists(st.integers(0, n_classes - 1), max_size=5))
    classes = draw(st.permutations([*range(n_classes), *extra]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return (
        rng.exponential(size=(n_images, len(classes))).tolist(),
        rng.normal(scale=5, size=(n_images, n_classes)).tolist(),
        rng.integers(0, n_classes, n_images).tolist(),
        rng.integers(0, 4, n_images).tolist(),
        classes,
    )


@given(batches())
def test_costs_are_weighted_means_over_the_images(batch):
    distances, logits, labels, weights, classes = batch
    n_images = len(labels)
    found = costs_of(
        (distances, logits), torch.tensor(labels), tensor(weights), torch.tensor(classes)
    )
    own, others, entropies = [], [], []
    for row, scores, label in zip(distances, logits, labels, strict=True):
        own.append(min(d for d, k in zip(row, classes, strict=True) if k == label))
        others.append(min(d for d, k in zip(row, classes, strict=True) if k != label))
        entropies.append(math.log(math.fsum(math.exp(s - scores[label]) for s in scores)))
    for cost, values, sign in (
        (found.cross_entropy, entropies, 1),
        (found.cluster, own, 1),
        (found.separation, others, -1),
    ):
        expected = sign * math.fsum(map(math.prod, zip(weights, values, strict=True))) / n_images
        assert cost.item() == pytest.approx(expected, rel=1e-12, abs=1e-12)


@given(batches())
def test_a_weight_counts_like_repetitions(batch):
    distances, logits, labels, weights, classes = batch
    index = np.repeat(np.arange(len(labels)), weights)
    weighted = costs_of(
        (distances, logits), torch.tensor(labels), tensor(weights), torch.tensor(classes)
    )
    if len(index) == 0:
        assert weighted.total(1, 1, 0).item() == 0
        return
    repeated = costs_of(
        (tensor(distances)[index], tensor(logits)[index]),
        torch.tensor(labels)[index],
        torch.ones(len(index)),
        torch.tensor(classes),
    )
    for name in ("cross_entropy", "cluster", "separation"):
        one, other = len(labels) * getattr(weighted, name), len(index) * getattr(repeated, name)
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_the_cross_entropy_is_that_of_torch_and_does_not_overflow():
    logits = tensor([[1e4, -1e4, 0.0], [3.0, 1.0, 2.0]])
    labels = torch.tensor([1, 2])
    found = costs_of((torch.ones(2, 3), logits), labels, torch.ones(2), torch.tensor([0, 1, 2]))
    assert torch.equal(found.cross_entropy, nn.functional.cross_entropy(logits, labels))
    assert found.cross_entropy.item() == pytest.approx(1e4, rel=1e-3)
