"""Where prototypes start: patches that tell their class."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_protopnet._network import SIMILARITIES, PrototypeNetwork
from sklearn_protopnet._training._initialization import (
    draw_images,
    initial_prototypes,
    sensitivity,
)

NOTHING = 0.5
"""What the patches show that tell no class from another."""


class TestSensitivity:
    def test_it_is_the_difference_in_units_of_the_spread(self):
        # Means 2 and 6, variances 1 and 7: the difference 4 in units of sqrt(8 / 2) = 2.
        own = np.array([[1.0], [3.0]])
        other = 6 + math.sqrt(7) * np.array([[1.0], [-1.0], [1.0], [-1.0]])
        np.testing.assert_allclose(sensitivity(own, other), [2.0], rtol=1e-12)
        np.testing.assert_allclose(sensitivity(other, own), [-2.0], rtol=1e-12)

    def test_equal_distances_tell_nothing(self):
        same = np.full((3, 2), 0.25)
        np.testing.assert_array_equal(sensitivity(same, same[:1]), [0.0, 0.0])

    def test_one_image_of_each_is_enough(self):
        near, far = np.array([[1.0, 1.0]]), np.array([[2.0, 1.0]])
        score = sensitivity(near, far)
        assert np.isfinite(score).all()
        assert score[0] > 1e6 > score[1] == 0


def network_of(prototype_classes, n_classes, depth=3, similarity="log"):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return PrototypeNetwork(
            nn.Identity(),
            depth,
            torch.tensor(prototype_classes),
            n_classes=n_classes,
            prototype_depth=depth,
            prototype_size=(1, 1),
            similarity=SIMILARITIES[similarity],
        )


def reader(maps, batch_size=4, notes=None):
    """Read maps (n, F, H, W)."""

    def read(index):
        if notes is not None:
            notes.append(np.sort(index))
        for batch in np.array_split(index, math.ceil(len(index) / batch_size)):
            yield batch, torch.from_numpy(maps[batch]).float()

    return read


def start(prototype_classes, patches, labels, seed=0, notes=None, **changes):
    """Choose among patches (n, L, D) themselves: no add-on layer changes them."""
    network = network_of(prototype_classes, 1 + max(prototype_classes), **changes)
    network.add_on = nn.Identity()
    generator = torch.Generator().manual_seed(seed)
    drawn = draw_images(labels, generator)
    read = reader(patches.transpose(0, 2, 1)[..., None], notes=notes)
    return initial_prototypes(network, labels, drawn, read, generator).numpy()


@pytest.fixture
def marks():
    """Images of three classes, of 4 patches each, with a little noise.

    In class k, patch k has a 1 in channel k; no other patch tells anything.
    """
    labels = np.repeat([0, 1, 2], 40)
    patches = np.full((120, 4, 3), NOTHING)
    for i, label in enumerate(labels):
        patches[i, label, label] = 1.0
    patches += np.random.default_rng(0).normal(scale=0.01, size=patches.shape)
    return patches, labels


class TestInitialPrototypes:
    @pytest.mark.parametrize("similarity", ["log", "linear", "cosine"])
    def test_they_start_at_patches_that_tell_the_class(self, marks, similarity):
        classes = [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]
        chosen = start(classes, *marks, similarity=similarity)
        np.testing.assert_array_equal(chosen.argmax(1), classes)
        assert (chosen.max(1) > 0.9).all()

    def test_each_is_a_patch_of_its_class_and_of_its_own(self, marks):
        patches, labels = marks
        classes = [0, 0, 0, 1, 1, 2]
        chosen = start(classes, patches, labels)
        for vector, label in zip(chosen, classes, strict=True):
            of_class = patches[labels == label].astype(np.float32).reshape(-1, 3)
            assert (of_class == vector).all(1).sum() == 1
        assert len(np.unique(chosen, axis=0)) == len(classes)

    def test_the_other_classes_have_their_turns(self):
        """Class 0 shares one of its two marks with class 1, the other one with class 2."""
        labels = np.repeat([0, 1, 2], 40)
        patches = np.full((120, 3, 2), NOTHING)
        patches[labels == 0, 0, 0] = patches[labels == 0, 1, 1] = 1.0
        patches[labels == 1, 0, 0] = patches[labels == 2, 1, 1] = 1.0
        patches += np.random.default_rng(0).normal(scale=0.01, size=patches.shape)
        for seed in range(5):
            chosen = start([0, 0, 0, 0, 1, 2], patches, labels, seed, depth=2)[:4]
            marks = chosen.argmax(1)  # channel 0 tells it from class 2, channel 1 from class 1
            assert sorted(marks) == [0, 0, 1, 1]
            assert marks[0] != marks[1]

    def test_as_many_images_of_each_large_class_are_drawn_and_all_of_a_small_one(self):
        labels = np.repeat([0, 1, 2], [7, 400, 900])
        patches = np.random.default_rng(0).random((len(labels), 1, 2))
        notes = []
        start([0, 1, 2], patches, labels, notes=notes, depth=2)
        first, second = notes
        np.testing.assert_array_equal(first, second)
        small, large, larger = np.bincount(labels[first])
        assert small == 7
        assert 7 < large == larger < 400
        assert not np.array_equal(first[7 : 7 + large], 7 + np.arange(large))  # but by chance

    def test_a_class_without_images_starts_at_any(self, marks):
        patches, labels = marks
        present = labels != 1
        chosen = start([0, 1, 1, 2], patches[present], labels[present])
        known = patches[present].astype(np.float32).reshape(-1, 3)
        assert all((known == vector).all(1).any() for vector in chosen)

    def test_one_class_alone_starts_at_its_patches(self, marks):
        patches, labels = marks
        only = labels == 0
        chosen = start([0, 0], patches[only], labels[only])
        known = patches[only].astype(np.float32).reshape(-1, 3)
        assert all((known == vector).all(1).any() for vector in chosen)

    def test_fewer_patches_than_prototypes_are_shared(self):
        patches = np.array([[[0.0]], [[1.0]]])
        chosen = start([0, 0, 0, 1, 1], patches, np.array([0, 1]), depth=1)
        np.testing.assert_array_equal(chosen[:, 0], [0, 0, 0, 1, 1])

    def test_patches_that_are_equal_are_one(self):
        patches = np.tile([[0.0], [0.2], [0.9]], (6, 1, 1))  # three values in each of six images
        patches[3:] += 1
        labels = np.repeat([0, 1], 3)
        chosen = start([0, 0, 0, 1, 1, 1], patches, labels, depth=1)
        np.testing.assert_allclose(np.sort(chosen[:3, 0]), [0.0, 0.2, 0.9], rtol=1e-6)
