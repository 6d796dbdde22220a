"""The projection against a brute-force search over all patches."""

import itertools
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torch import nn

from sklearn_protopnet._network import SIMILARITIES, PrototypeNetwork
from sklearn_protopnet._ranks import Ranks
from sklearn_protopnet._training._projection import Projector, Refused

DEPTH = 3


def network_of(classes, *, prototype_size=(1, 1), similarity="log", seed=0):
    """A network whose backbone is not used: prototypes and how they are compared."""
    network = PrototypeNetwork(
        nn.Identity(),
        DEPTH,
        torch.tensor(classes),
        n_classes=max(classes) + 1,
        prototype_depth=DEPTH,
        prototype_size=prototype_size,
        similarity=SIMILARITIES[similarity],
    )
    with torch.no_grad():
        shape = network.prototypes.shape
        network.prototypes.copy_(
            torch.rand(shape, generator=torch.Generator().manual_seed(seed + 1000))
        )
    return network


def random_patches(n_images, n_patches, *, size=DEPTH, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((n_images, n_patches, size), generator=generator)


def project(network, patches, labels, chunks=None):
    """Add all patches, in chunks that end at these images, and replace the prototypes."""
    projector = Projector(network)
    labels = torch.as_tensor(labels)
    ends = [*(chunks or []), len(labels)]
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        if start < end:
            projector.add(patches[start:end], torch.arange(start, end), labels[start:end])
    return projector.replace_prototypes()


def distance(one, other, similarity="log"):
    """Squared distance in Python's own numbers, summed without rounding."""
    one, other = one.tolist(), other.tolist()
    if similarity == "cosine":
        lengths = [math.sqrt(math.fsum(a * a for a in vector)) for vector in (one, other)]
        one, other = (
            [a / length for a in v] for v, length in zip((one, other), lengths, strict=True)
        )
    return math.fsum((a - b) ** 2 for a, b in zip(one, other, strict=True))


def distinct_patches(patches, labels, label):
    """Where each distinct patch of a class is first, by its bytes."""
    places = {}
    for image, position in itertools.product(range(len(labels)), range(patches.shape[1])):
        if labels[image] == label:
            places.setdefault(patches[image, position].numpy().tobytes(), (image, position))
    return places


@pytest.mark.parametrize("similarity", ["log", "linear", "cosine"])
def test_a_single_prototype_becomes_the_nearest_patch_of_its_class(similarity):
    network = network_of([0, 1, 2], similarity=similarity)
    patches, labels = random_patches(7, 6), [0, 1, 1, 2, 0, 2, 1]
    before = network.prototypes.detach().clone().flatten(1)
    projection = project(network, patches, labels)
    for p in range(3):
        own = [
            (distance(before[p], patches[i, j], similarity), i, j)
            for i, j in itertools.product(range(7), range(6))
            if labels[i] == p
        ]
        assert (projection.images[p], projection.positions[p]) == min(own)[1:]
        assert torch.equal(network.prototypes[p].flatten(), patches[min(own)[1:]])


@st.composite
def problems(draw):
    """Classes of the prototypes, patches, labels and where the stream of images is cut."""
    n_classes, n_images = draw(st.integers(1, 3)), draw(st.integers(1, 7))
    classes = sorted(
        [*range(n_classes), *draw(st.lists(st.integers(0, n_classes - 1), max_size=6))]
    )
    labels = draw(st.lists(st.integers(0, n_classes - 1), min_size=n_images, max_size=n_images))
    cuts = draw(st.lists(st.integers(0, n_images), max_size=4))
    seed = draw(st.integers(0, 2**32))
    patches = random_patches(n_images, draw(st.integers(1, 5)), seed=seed)
    for _ in range(draw(st.integers(0, 4))):  # patches of one value, as blank corners are
        source, target = (draw(st.integers(0, n_images - 1)) for _ in range(2))
        patches[target, 0] = patches[source, -1]
    return classes, patches, labels, sorted(cuts), draw(st.sampled_from(["log", "cosine"])), seed


@given(problems())
def test_no_patch_is_taken_twice_and_the_sum_of_the_distances_is_the_least(problem):
    classes, patches, labels, cuts, similarity, seed = problem
    network = network_of(classes, similarity=similarity, seed=seed)
    before = network.prototypes.detach().clone().flatten(1)
    projection = project(network, patches, labels, cuts)
    for label in set(classes):
        members = [p for p, k in enumerate(classes) if k == label]
        places = distinct_patches(patches, labels, label)
        if not places:
            assert set(projection.images[members]) == {-1}
            assert torch.equal(network.prototypes.flatten(1)[members], before[members])
            continue
        origins = list(places.values())
        table = np.array(
            [[distance(before[p], patches[o], similarity) for o in origins] for p in members]
        )
        found = zip(projection.images[members], projection.positions[members], strict=True)
        chosen = [origins.index(origin) for origin in found]
        for p, column in zip(members, chosen, strict=True):
            assert torch.equal(network.prototypes[p].flatten(), patches[origins[column]])
        rows, columns = linear_sum_assignment(table)  # over all patches, none left out
        if len(members) <= len(origins):
            assert len(set(chosen)) == len(members)
            total = table[range(len(members)), chosen].sum()
            assert total == pytest.approx(table[rows, columns].sum(), rel=1e-9)
        else:
            assert set(chosen) == set(range(len(origins)))
            nearest = table[range(len(members)), chosen] == table.min(1)
            assert nearest.sum() >= len(members) - len(origins)


def test_the_closest_pair_may_have_to_part():
    """Joined first, it would leave the other prototype with a patch that is far away."""
    network = network_of([0, 0])
    with torch.no_grad():
        network.prototypes.copy_(torch.tensor([0.0, 1.0])[:, None, None, None].expand(2, 3, 1, 1))
    patches = torch.tensor([0.9, 2.0])[None, :, None].expand(1, 2, DEPTH)
    assert project(network, patches, [0]).positions.tolist() == [0, 1]


@settings(max_examples=30)
@given(problems())
def test_the_cuts_of_the_stream_do_not_matter(problem):
    classes, patches, labels, cuts, similarity, seed = problem
    results = []
    for chunks in ([], cuts, list(range(1, len(labels)))):
        network = network_of(classes, similarity=similarity, seed=seed)
        projection = project(network, patches, labels, chunks)
        results.append([network.prototypes.detach(), projection.images, projection.positions])
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))


@settings(max_examples=30)
@given(problems())
def test_a_second_projection_changes_nothing(problem):
    classes, patches, labels, _, similarity, seed = problem
    network = network_of(classes, similarity=similarity, seed=seed)
    first = project(network, patches, labels)
    prototypes = network.prototypes.detach().clone()
    second = project(network, patches, labels)
    assert torch.equal(network.prototypes, prototypes)
    n_distinct = len(torch.unique(prototypes.flatten(1), dim=0))
    if n_distinct == len(prototypes):
        assert np.array_equal(first.images, second.images)
        assert np.array_equal(first.positions, second.positions)


def test_equal_prototypes_become_different_patches_while_there_are_enough():
    network = network_of([0] * 6)
    with torch.no_grad():
        network.prototypes[:] = network.prototypes[0]  # all want the same patch
    patches = random_patches(1, 6)
    projection = project(network, patches, [0])
    assert sorted(projection.positions.tolist()) == list(range(6))


def test_with_fewer_distinct_patches_than_prototypes_the_nearest_is_taken_again():
    network = network_of([0] * 5)
    vectors = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    patches = vectors[torch.tensor([[0, 0, 1], [1, 0, 1]])]  # (2, 3, D1)
    with torch.no_grad():
        near = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.6])[:, None].expand(5, DEPTH)
        network.prototypes.copy_(near.reshape(5, DEPTH, 1, 1))
    projection = project(network, patches, [0, 0])
    assert network.prototypes[:, 0, 0, 0].tolist() == [0, 0, 0, 0, 1]
    assert projection.images.tolist() == [0] * 5  # of equal patches the first one seen
    assert projection.positions.tolist() == [0, 0, 0, 0, 2]


def test_a_patch_that_repeats_counts_once_and_is_found_where_it_was_first_seen():
    network = network_of([0, 0])
    blank = network.prototypes[0].detach().flatten() + 1e-3
    patches = random_patches(3, 4)
    patches[1, 2] = patches[1, 3] = patches[2, 0] = blank
    projection = project(network, patches, [0, 0, 0], chunks=[1, 2])
    assert (projection.images[0], projection.positions[0]) == (1, 2)
    assert not torch.equal(network.prototypes[0], network.prototypes[1])


def test_memory_does_not_grow_with_the_number_of_images():
    projector, sizes = Projector(network_of([0, 0, 0, 1])), []
    for seed in range(50):
        images, labels = torch.tensor([2 * seed, 2 * seed + 1]), torch.tensor([0, 1])
        projector.add(random_patches(2, 20, seed=seed), images, labels)
        sizes.append(len(pickle.dumps(projector)))
    assert max(sizes) < 1.05 * sizes[1]


@pytest.mark.parametrize("similarity", ["log", "cosine"])
@pytest.mark.parametrize("size", [(2, 1), (4, 5)])
def test_a_larger_prototype_is_a_window_of_a_feature_map_bit_for_bit(size, similarity):
    network = network_of([0, 0, 1], prototype_size=size, similarity=similarity).eval()
    images = torch.rand((4, DEPTH, 4, 5), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        maps = network.backbone(images)
        features, patches = network.add_on(maps), network.raw_patches(maps)
    projection = project(network, patches, [0, 0, 1, 1], chunks=[1, 3])
    for prototype, image, position in zip(
        network.prototypes, projection.images, projection.positions, strict=True
    ):
        top, left = divmod(int(position), 5 - size[1] + 1)
        window = features[int(image), :, top : top + size[0], left : left + size[1]]
        assert torch.equal(prototype, window)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_a_projected_prototype_is_at_distance_exactly_0_of_its_source(similarity):
    network = network_of([0, 0, 1, 1], similarity=similarity)
    patches = random_patches(6, 8, seed=5)
    projection = project(network, patches, [0, 1, 0, 1, 0, 1])
    distances, _, positions = network.compare(patches)
    for p in range(4):
        assert distances[projection.images[p], p] == 0
        assert positions[projection.images[p], p] == projection.positions[p]


def test_refused_patches_are_left_out():
    """Those of the class that are nearer than the radius; other classes may have them."""
    network, patches = network_of([0, 0, 1]), random_patches(6, 4)
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    vector = patches[0, 0].double()
    away = (patches.double() - vector).square().sum(2)  # (6, 4)
    radius = float(away[:3].flatten().sort().values[5])
    projector = Projector(network, [Refused(0, vector, radius)])
    projector.add(patches, torch.arange(6), labels)
    found = projector.replace_prototypes()
    for image, position in zip(found.images[:2], found.positions[:2], strict=True):
        assert away[image, position] >= radius
    alone = project(network_of([0, 0, 1]), patches, labels)
    assert (found.images[2], found.positions[2]) == (alone.images[2], alone.positions[2])


@pytest.mark.parametrize("n_pooled", [1, 2])
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_candidates_that_are_more_like_a_refused_patch_than_like_other_classes(
    similarity, n_pooled
):
    """Other classes would become more similar to them by it."""
    network = network_of([0, 0, 1], similarity=similarity)
    network.n_pooled_patches = n_pooled
    patches, labels = random_patches(9, 4, seed=3), torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 1])
    refused = Refused(0, patches[0, 0].double(), 1e-9)

    def similarities(vectors, images):
        wanted, given = (network.comparable(each.double()) for each in (vectors, images))
        squared = (given[:, :, None] - wanted).square().sum(3)  # (n, L, q)
        nearest = squared.topk(min(n_pooled, len(images[0])), dim=1, largest=False).values
        return network.similarity(nearest).mean(1)  # (n, q)

    own = patches[:4].flatten(0, 1)  # (16, D1)
    usual = similarities(own, patches[4:]).median(0).values
    to_refused = network.similarity(
        (network.comparable(own.double()) - network.comparable(refused.vector)).square().sum(1)
    )
    is_like = to_refused > usual
    assert is_like.sum() > 1  # the patch itself, and others
    assert (~is_like).sum() > 2
    projector = Projector(network, [refused])
    projector.add(patches, torch.arange(9), labels)
    chunks = [(np.arange(3), patches[:3]), (np.arange(3, 9), patches[3:])]
    projector.compare(chunks, labels.numpy(), Ranks())
    found = projector.replace_prototypes()
    chosen = found.images[:2] * 4 + found.positions[:2]
    assert not is_like[torch.from_numpy(chosen)].any()


def test_so_many_as_are_wanted_remain():
    network = network_of([0, 0, 0, 1])
    patches = torch.rand(2, 3, DEPTH, generator=torch.Generator().manual_seed(0)) * 1e-3
    patches[1] += 1.0  # the other class is far away from all patches
    projector = Projector(network, [Refused(0, torch.zeros(DEPTH).double(), 0.0)])
    projector.add(patches, torch.arange(2), torch.tensor([0, 1]))
    projector.compare([(np.arange(2), patches)], np.array([0, 1]), Ranks())
    assert sorted(projector.replace_prototypes().positions[:3]) == [0, 1, 2]


def test_a_class_of_which_all_is_refused_is_an_error():
    network, patches = network_of([0, 1]), random_patches(4, 3)
    projector = Projector(network, [Refused(1, patches[2, 0].double(), 1e9)])
    projector.add(patches, torch.arange(4), torch.tensor([0, 0, 1, 1]))
    with pytest.raises(ValueError, match=r"unlike those that are forbidden, class 1 .* has none"):
        projector.replace_prototypes()


def test_pinned_prototypes_become_their_own_patches_and_others_do_not():
    network, patches = network_of([0, 0, 1]), random_patches(4, 3)
    with torch.no_grad():
        network.prototypes[0] = patches[1, 2].view(DEPTH, 1, 1)  # would take the pinned patch
    projector = Projector(network, pinned={1: (1, 2), 2: (3, 0)})
    labels = torch.tensor([0, 0, 1, 1])
    for rows in (slice(0, 2), slice(2, 4)):
        projector.add(patches[rows], torch.arange(4)[rows], labels[rows])
    found = projector.replace_prototypes()
    assert (found.images[1], found.positions[1]) == (1, 2)
    assert (found.images[2], found.positions[2]) == (3, 0)
    assert torch.equal(network.prototypes[1].flatten(), patches[1, 2])
    assert (found.images[0], found.positions[0]) != (1, 2)
