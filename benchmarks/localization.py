"""Which localizer finds the part that a prototype looks at, on images with known parts.

``python benchmarks/localization.py`` measures and writes results.md; ``--quick`` is a smoke run
that writes nothing.

The protocol is fixed: for each seed, the classifier with its defaults on 600 images of
`make_part_images`, and 300 other images to look at. The *causal part* of an image and a prototype
is the one whose removal lowers the similarity of the patch most, by a tenth at least. A localizer
hits if the largest value of its map lies on that part.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from itertools import groupby
from typing import NamedTuple

import numpy as np
from common import publish
from numpy.typing import NDArray
from torch import from_numpy

from sklearn_protopnet import ProtoPNetClassifier
from sklearn_protopnet.datasets import make_part_images, render_part_image
from sklearn_protopnet.inspection import localize, similarity_maps
from sklearn_protopnet.inspection._attribution import blurred
from sklearn_protopnet.metrics import (
    causal_parts,
    centre_baseline,
    centre_boxes,
    consistency,
    coverage,
    deletion_auc,
    insertion_auc,
    part_presence,
    pointing_game,
    random_baseline,
    random_boxes,
)

LOCALIZERS = ("upsample", "integrated_gradients", "prp", "occlusion")
BOXES = ("receptive_field", "upsample", "prp")
"""Whose boxes are looked at for all images and prototypes of the same class."""
PLACES = ("as found", "centre", "random")
"""Where these boxes are, and where the same boxes are compared with it."""
N_PARTS = 3
SEEDS = (0, 1, 2)
N_EXPLAINED = 60
"""Test images whose maps are looked at; of every fourth of them also the curves."""


class Pair(NamedTuple):
    """An image and a prototype of its class that looks at one of its parts."""

    image: int
    prototype: int
    position: int
    part: int


def patch_similarities(
    clf: ProtoPNetClassifier, images: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Similarity of every patch to every prototype, (n, P, L)."""
    maps = similarity_maps(clf, images)
    return maps.reshape(*maps.shape[:2], -1)


def find_pairs(clf: ProtoPNetClassifier, data, n_images: int) -> list[Pair]:
    """Prototypes of the own class and what they look at, for the first images."""
    positions = patch_similarities(clf, data.images[:n_images]).argmax(2)  # (n, P)
    pairs = []
    for i in range(n_images):
        own = np.flatnonzero(clf.prototype_classes_ == data.target[i])
        variants = np.stack(
            [
                data.images[i],
                *(render_part_image(data.params[i], remove_parts=[k]) for k in range(N_PARTS)),
            ]
        )
        found = patch_similarities(clf, variants)[:, own, positions[i, own]]  # (1 + A, Q)
        parts = causal_parts(found[:1], found[None, 1:], data.part_visible[i : i + 1])[0]
        pairs += [
            Pair(i, int(p), int(positions[i, p]), int(part))
            for p, part in zip(own, parts, strict=True)
            if part >= 0
        ]
    return pairs


def blurred_image(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Say what takes the place of pixels."""
    return blurred(from_numpy(image).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()


def curves(clf, image, relevance, pair: Pair) -> tuple[float, float]:
    """Compute deletion and insertion of a map."""

    def score(images: NDArray[np.float32]) -> NDArray[np.float64]:
        return patch_similarities(clf, images)[:, pair.prototype, pair.position]

    baseline = blurred_image(image)
    return (
        deletion_auc(score, image, relevance, baseline),
        insertion_auc(score, image, relevance, baseline),
    )


def part_scores(clf, data, localizer: str) -> dict[tuple[str, str], float]:
    """Consistency and coverage of boxes, of images and prototypes of the same class.

    Where they are, and of the same boxes at the centre of the image and at random places.
    """
    scores = defaultdict(list)
    for label in clf.classes_:
        rows, own = data.target == label, np.flatnonzero(clf.prototype_classes_ == label)
        boxes = localize(clf, data.images[rows], prototypes=own, localizer=localizer).boxes
        sizes = data.images.shape[1:3]
        places = boxes, centre_boxes(boxes, sizes), random_boxes(boxes, sizes, random_state=0)
        for place, moved in zip(PLACES, places, strict=True):
            presence = part_presence(moved, data.part_centres[rows])
            counts = {"min_count": min(10, rows.sum())}
            scores["consistency", place].append(
                consistency(presence, data.part_visible[rows], **counts)
            )
            scores["coverage", place].append(coverage(presence))
    return {name: np.mean(values) for name, values in scores.items()}


def causal_consistency(clf, data) -> float:
    """Consistency of prototypes in what they look at: presence is to be the causal part."""
    without = [
        clf.transform(np.stack([render_part_image(p, remove_parts=[k]) for p in data.params]))
        for k in range(N_PARTS)
    ]
    causes = causal_parts(clf.transform(data.images), np.stack(without, 1), data.part_visible)
    presence = causes[:, :, None] == np.arange(N_PARTS)  # (n, P, A)
    is_own = clf.classes_[data.target][:, None] == clf.prototype_classes_  # (n, P)
    visible = data.part_visible[:, None] & is_own[:, :, None]
    return consistency(presence, visible, min_count=min(10, len(data.target) // 6))


def measure(seed: int, n_images: int, n_explained: int) -> dict[object, object]:
    """Fit with one seed, and look at every localizer."""
    train = make_part_images(n_images, random_state=seed)
    test = make_part_images(n_images // 2, random_state=1000 + seed)
    clf = ProtoPNetClassifier(random_state=seed).fit(train.images, train.target)
    pairs = find_pairs(clf, test, n_explained)
    masks = np.stack([test.part_masks[pair.image, pair.part] for pair in pairs])
    found: dict[object, object] = {
        "accuracy": clf.score(test.images, test.target),
        "consistency": causal_consistency(clf, test),
        "pairs": len(pairs),
        "has a causal part": len(pairs) / (n_explained * clf.n_prototypes_per_class),
        "centre": centre_baseline(masks),
        "random": random_baseline(masks),
    }
    for name in BOXES:
        found |= {(name, *score): value for score, value in part_scores(clf, test, name).items()}
    for name in LOCALIZERS:
        maps, areas = [], []
        for i, own in groupby(pairs, key=lambda pair: pair.image):
            of_image = list(own)
            image = test.images[i]
            asked = [pair.prototype for pair in of_image]
            (seen,) = localize(clf, image[None], prototypes=asked, localizer=name).maps
            maps.extend(seen)
            if i % 4 == 0:
                areas += [
                    curves(clf, image, map_, pair)
                    for map_, pair in zip(seen, of_image, strict=True)
                ]
        found[name, "hits"] = pointing_game(np.stack(maps), masks)
        found[name, "deletion"], found[name, "insertion"] = np.nanmean(areas, axis=0)
        found[name, "median deletion"] = np.nanmedian(areas, axis=0)[0]
        found[name, "curves"] = np.isfinite(areas).all(axis=1).sum()
        found[name, "curves asked"] = len(areas)
    print(f"seed {seed}:", {key: np.round(value, 3) for key, value in found.items()}, flush=True)
    return found


def main() -> None:
    """Measure all seeds and write the tables down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    runs = [
        measure(seed, 60 if quick else 600, 3 if quick else N_EXPLAINED)
        for seed in SEEDS[: 1 if quick else None]
    ]
    write(runs, is_quick=quick)


def write(runs: list[dict[object, object]], *, is_quick: bool) -> None:
    """Write the tables of runs down."""
    mean: dict[object, float] = defaultdict(float)
    for key in runs[0]:
        mean[key] = float(np.mean([run[key] for run in runs]))

    def total(*key: str) -> int:
        return int(sum(run[key] for run in runs))

    def of_seeds(key: str) -> str:
        return ", ".join(f"{run[key]:.3f}" for run in runs)

    lines = [
        "| localizer | hits the causal part | times `upsample` | deletion | its median "
        "| insertion | pairs with curves |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {name} | {mean[name, 'hits']:.3f} | "
            f"{mean[name, 'hits'] / max(mean['upsample', 'hits'], 1e-9):.1f} | "
            f"{mean[name, 'deletion']:.3f} | {mean[name, 'median deletion']:.3f} | "
            f"{mean[name, 'insertion']:.3f} | {total(name, 'curves')} of "
            f"{total(name, 'curves asked')} |"
            for name in LOCALIZERS
        ),
        f"| (centre of the image) | {mean['centre']:.3f} | | | | | |",
        f"| (random map) | {mean['random']:.3f} | | | | | |",
        "",
        "| a part counts if | consistent prototypes | the same boxes at the centre of the image "
        "| at random places | boxes that hold a part | at the centre | at random places |",
        f"|{'---|' * 7}",
        f"| its removal costs the most similarity | {mean['consistency']:.3f} | | | | | |",
        *(
            f"| its centre is in the box by {name} | "
            + " | ".join(
                f"{mean[name, score, place]:.3f}"
                for score in ("consistency", "coverage")
                for place in PLACES
            )
            + " |"
            for name in BOXES
        ),
    ]
    head = (
        f"Seeds {', '.join(map(str, SEEDS[: len(runs)]))}: test accuracy of the defaults "
        f"{of_seeds('accuracy')}, consistent prototypes by removal {of_seeds('consistency')}; "
        f"{mean['has a causal part']:.3f} of "
        "the pairs of a test image and a prototype of its class have a causal part. Figures are "
        f"means over the seeds, {int(sum(run['pairs'] for run in runs))} pairs in all. "
        "A pair has curves if its similarity changes by a tenth at least when the whole image is "
        "blurred."
    )
    publish("Localizers (images with known parts)", [head, "", *lines], is_quick=is_quick)


if __name__ == "__main__":
    main()
