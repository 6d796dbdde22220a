"""New prototypes, and new classes, of a network that stays as it is.

Shapes: n images, P prototypes, q new ones, K classes, L patches of an image.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from numbers import Integral
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import column_or_1d

from sklearn_protopnet._last_layer import solve_near
from sklearn_protopnet._training import Similarities, similarity_quantiles, sources_in
from sklearn_protopnet._validation import (
    check_images,
    check_positive,
    check_text,
    class_indices,
)
from sklearn_protopnet.editing._comparison import Comparison
from sklearn_protopnet.editing._selection import Patches, best_patches
from sklearn_protopnet.editing._snapshot import Edit, Snapshot

NEW_WEIGHT: Final = 0.25
"""What an image of a new class counts. The network was trained on those of the old classes, which
are therefore told apart better than other images of them. Where a digit was added to the other nine
(20 splits), these lost 0.64 points of test accuracy with a weight of 1 and 0.31 with this one; the
accuracy on all ten was the same (0.980)."""

Additions = tuple[Edit, Comparison | None, Comparison | None]
"""An edit, with images to solve the last layer for and images to score, where they are others."""


def new_prototypes(
    now: Snapshot, label: Any, sample: int | None, box: ArrayLike | None, n: int | None
) -> Additions:
    """Find new prototypes of a class: the patch at a box, or the `n` best ones."""
    k = _known_class(now, label)
    if (sample is None) != (box is None) or (sample is None) == (n is None):
        raise ValueError("Either sample and box must be given, or n, got another combination.")
    if n is not None:
        check_positive("n", n)
        chosen = best_patches(now, k, int(n))
        detail = f"label={now.classifier.classes_[k]}, n={n}"
    else:
        chosen, box = _patch_at(now, k, sample, box)
        detail = f"label={now.classifier.classes_[k]}, sample={sample}, box={list(box)}"
    attributes, training, validation = _extended(now, k, chosen)
    numbers = np.arange(len(now.owners), len(now.owners) + len(chosen.rows))
    coef = attributes.pop("coef_")
    edit = Edit("add_prototypes", numbers, detail, None, attributes, coef)
    return edit, training, validation


def new_class(
    now: Snapshot, X: Any, y: Any, n_prototypes: int | None, sample_weight: ArrayLike | None
) -> Additions:
    """Take in images of a class that is not known, and choose prototypes of it."""
    clf = now.classifier
    if n_prototypes is None:
        n_prototypes = clf.state_["n_prototypes_per_class"]
    check_positive("n_prototypes", n_prototypes)
    source = now.fitted.source(check_images(clf, X))
    label = _new_label(y, len(source), clf.classes_)
    draft = _with_class(now, label)
    k = int(class_indices(label, draft.classifier.classes_)[0])
    if sample_weight is None:
        given = now.training.given_weights[: len(now.training.sources[0])]  # none that were added
        largest = given.max()
        mean = largest * np.mean(given[given > 0] / largest)  # 1e308 is a weight, too
        sample_weight = np.full(len(source), NEW_WEIGHT * mean)
    images = Comparison.of(draft.fitted, source, np.full(len(source), k), sample_weight)
    draft = replace(draft, training=draft.training.with_images(images))
    draft.training.check_present(clf.class_weight, draft.classifier.classes_)
    solved, _ = solve_near(draft.problem, draft.coef, None)
    draft = draft.with_attributes({"coef_": solved.coef})
    chosen = best_patches(draft, k, int(n_prototypes))
    attributes, training, validation = _extended(draft, k, chosen)
    numbers = np.arange(len(now.owners), len(now.owners) + len(chosen.rows))
    names = ("classes_", "prototype_classes_", "state_")
    attributes = {**{name: getattr(draft.classifier, name) for name in names}, **attributes}
    owners = np.append(draft.owners, np.full(len(chosen.rows), k))
    attributes["similarity_quantiles_"] = _quantiles(draft, training.similarities, owners)
    coef = attributes.pop("coef_")
    weights = images.given_weights.tolist()
    counted = "..".join(dict.fromkeys(map(repr, (min(weights), max(weights)))))
    detail = f"label={label[0]}, {len(source)} images of weight {counted}"
    edit = Edit("add_class", numbers, detail, None, attributes, coef)
    return edit, training, validation


def _known_class(now: Snapshot, label: Any) -> int:
    classes = now.classifier.classes_
    is_label = np.ndim(label) == 0 and isinstance(label, Hashable)
    k = int(class_indices(np.array([label]), classes)[0]) if is_label else -1
    if k < 0:
        raise ValueError(f"label must be a class among {classes.tolist()}, got {label!r}.")
    return k


def _new_label(y: Any, n_images: int, classes: NDArray[Any]) -> NDArray[Any]:
    """Check the label of a class that is not known, (1,)."""
    labels = np.array([y] * n_images) if np.ndim(y) == 0 else column_or_1d(y)
    check_text("Labels in y", labels)
    found: NDArray[Any] = np.array(list(dict.fromkeys(labels.tolist())))
    if len(labels) != n_images or len(found) != 1:
        raise ValueError(
            f"y must be one new label for all of the {n_images} images, got {len(labels)} of "
            f"{found[:5].tolist()}."
        )
    kinds = {"i": "iu", "u": "iu", "f": "fiu", "U": "UO", "O": "UO"}.get(classes.dtype.kind, "")
    is_text = all(isinstance(each, str) for each in found.tolist())
    is_right = found.dtype.kind in kinds and (classes.dtype.kind not in "UO" or is_text)
    if not is_right or (found.dtype.kind == "f" and not np.isfinite(found[0])):
        raise ValueError(
            f"A new label must be of the kind of {classes.tolist()[:5]}, got {found.tolist()[0]!r}."
        )
    if class_indices(found, classes)[0] >= 0:
        raise ValueError(
            f"y must be a class that is not known, got {found.tolist()[0]!r}, which is."
        )
    return found


def _with_class(now: Snapshot, label: NDArray[Any]) -> Snapshot:
    """Let the classifier have a class more, of no images and no prototypes."""
    clf = now.classifier
    classes = np.unique(_joined(clf.classes_, label))
    places = class_indices(clf.classes_, classes)  # of the old ones among all
    coef = np.zeros((len(classes), now.coef.shape[1]))
    coef[places] = now.coef
    head = clf.state_["linear_head"]
    wider = {
        name: np.zeros((len(classes), *array.shape[1:]), array.dtype)
        for name, array in head.items()
    }
    for name, array in head.items():
        wider[name][places] = array
    return replace(
        now.with_attributes(
            {
                "classes_": classes,
                "prototype_classes_": clf.prototype_classes_.astype(classes.dtype),
                "coef_": coef,
                "state_": {**clf.state_, "linear_head": wider},
            }
        ),
        training=now.training.with_labels(places),
        validation=None if now.validation is None else now.validation.with_labels(places),
    )


def _joined(classes: NDArray[Any], label: NDArray[Any]) -> NDArray[Any]:
    """Put labels together; integers of several dtypes would become floats, which are fewer."""
    if classes.dtype.kind not in "iu":
        return np.concatenate([classes, label])
    values = [*classes.tolist(), *label.tolist()]
    for dtype in (classes.dtype, np.dtype(np.int64), np.dtype(np.uint64)):
        limits = np.iinfo(dtype)
        if limits.min <= min(values) and max(values) <= limits.max:
            return np.array(values, dtype=dtype)
    raise ValueError(f"No type of integers holds the labels {values}.")


def _patch_at(now: Snapshot, k: int, sample: Any, box: Any) -> tuple[Patches, list[int]]:
    """Find the patch whose receptive field has its centre nearest to that of a box.

    And give the box, checked.
    """
    n_images, classes = len(now.training), now.classifier.classes_
    is_number = isinstance(sample, Integral) and not isinstance(sample, bool)
    if not is_number or not 0 <= int(sample) < n_images:
        raise ValueError(
            f"sample must be a position in X, an integer from 0 to {n_images - 1}, got {sample!r}."
        )
    row = int(sample)
    if now.training.labels[row] != k:
        wanted_label, label = classes[[k, now.training.labels[row]]].tolist()
        raise ValueError(
            f"sample must be an image of class {wanted_label!r}, got {row}, which is one of class "
            f"{label!r}."
        )
    source, _ = now.training.image(row)
    wanted = _check_box(box, source.sizes[0])
    patches = now.fitted.patches(source)[0]  # (L, D1)
    fields = now.fitted.receptive_fields(source, np.arange(len(patches))[None]).boxes[0]  # (L, 4)
    away = (_centres(fields) - _centres(wanted[None])) ** 2  # (L, 2)
    position = int(np.lexsort((-_overlaps(fields, wanted), away.sum(1)))[0])
    if (fields[position] == [0, source.sizes[0, 0], 0, source.sizes[0, 1]]).all():
        raise ValueError(
            "A patch that is pointed at must see a part of the image, the one at "
            f"{wanted.tolist()} sees all of it with this backbone."
        )
    chosen = Patches(patches[[position]], np.array([row]), np.array([position]))
    vectors, owners = now.fitted.prototypes.vectors, now.owners
    known = np.flatnonzero((vectors == chosen.vectors).all(1) & (owners == k))
    if len(known):
        raise ValueError(
            f"The patch at {wanted.tolist()} must be a new one, got that of prototype {known[0]}."
        )
    return chosen, wanted.tolist()


def _check_box(box: Any, size: NDArray[np.int64]) -> NDArray[np.int64]:
    rule = f"box must be integers y0 < y1, x0 < x1 within the image of {size[0]} x {size[1]} pixels"
    try:
        edges = np.asarray(box, dtype=np.float64)  # also of a row of a table, whose dtype is object
    except (TypeError, ValueError) as error:
        raise ValueError(f"{rule}, found: {error}") from error
    starts, ends = edges[::2], edges[1::2]
    is_box = edges.shape == (4,) and (edges == np.round(edges)).all()
    if not is_box or not ((starts >= 0) & (starts < ends) & (ends <= size)).all():
        raise ValueError(f"{rule}, got {box!r}.")
    return edges.astype(np.int64)


def _centres(boxes: NDArray[np.int64]) -> NDArray[np.float64]:
    return (boxes[:, ::2] + boxes[:, 1::2]) / 2


def _overlaps(boxes: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pixels that boxes (L, 4) share with one (4,)."""
    low = np.maximum(boxes[:, ::2], wanted[::2])
    high = np.minimum(boxes[:, 1::2], wanted[1::2])
    shared: NDArray[np.int64] = np.maximum(high - low, 0).prod(1)
    return shared


def _extended(
    now: Snapshot, k: int, chosen: Patches
) -> tuple[dict[str, Any], Comparison, Comparison | None]:
    """Give the fitted attributes with new prototypes of class k, and the comparisons with them."""
    clf, fitted, n_new = now.classifier, now.fitted, len(chosen.rows)
    similarities, distances = now.training.columns(fitted, chosen.vectors)
    quantiles = _quantiles(now, similarities, np.full(n_new, k))
    found = [_source(now, chosen, i) for i in range(n_new)]
    boxes, images, sizes, away = (np.concatenate(each) for each in zip(*found, strict=True))
    shape = (n_new, *clf.prototypes_.shape[1:])
    attributes = {
        "prototypes_": np.concatenate([clf.prototypes_, chosen.vectors.reshape(shape)]),
        "prototype_classes_": np.concatenate(
            [clf.prototype_classes_, np.full(n_new, clf.classes_[k], clf.classes_.dtype)]
        ),
        "prototype_sample_indices_": np.concatenate([clf.prototype_sample_indices_, chosen.rows]),
        "prototype_boxes_": np.concatenate([clf.prototype_boxes_, boxes]),
        "prototype_images_": np.concatenate([clf.prototype_images_, images]),
        "prototype_image_sizes_": np.concatenate([clf.prototype_image_sizes_, sizes]),
        "prototype_distances_": np.concatenate([clf.prototype_distances_, away]),
        "prototype_names_": np.concatenate([clf.prototype_names_, np.zeros(n_new, np.str_)]),
        "similarity_quantiles_": np.concatenate([clf.similarity_quantiles_, quantiles], axis=1),
        "coef_": np.hstack([now.coef, np.zeros((len(now.coef), n_new))]),
    }
    validation = now.validation
    if validation is not None:
        validation = validation.with_columns(*validation.columns(fitted, chosen.vectors))
    return attributes, now.training.with_columns(similarities, distances), validation


def _quantiles(
    now: Snapshot, similarities: NDArray[np.float64], owners: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Quantiles of similarities (n, P) of prototypes of these classes (P,)."""
    clf = now.classifier
    weights = now.training.weighted(clf.class_weight, clf.classes_).weights
    is_there = weights > 0
    found = Similarities(similarities[is_there], now.training.labels[is_there], weights[is_there])
    return similarity_quantiles(found, owners)


def _source(now: Snapshot, chosen: Patches, i: int) -> tuple[NDArray[Any], ...]:
    """Say what a new prototype is a patch of: box, image, size, distance, one of each."""
    source, row = now.training.image(int(chosen.rows[i]))
    one = sources_in(source.images, np.array([row]), now.fitted.input_boxes(chosen.positions[[i]]))
    (away,) = now.fitted.comparing(chosen.vectors[[i]]).gather(source, "distances")
    return one.boxes, one.images, one.sizes, away[:, 0]
