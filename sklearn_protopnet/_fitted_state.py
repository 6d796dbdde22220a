"""Whether a classifier's attributes are such as a fit leaves, each by itself and all together.

What is wrong is found before any image is predicted: after a file was read, and before one is
written.

Shapes: K classes, P prototypes of depth D and H1 x W1 cells, images of H x W pixels and C channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from numbers import Integral, Real
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from sklearn_protopnet._network import BACKBONES, Architecture, ReceptiveField, functional
from sklearn_protopnet._training import HistoryRow

FITTED: Final = (
    "classes_",
    "coef_",
    "history_",
    "image_shape_",
    "input_shape_",
    "l1_weight_",
    "l2_weight_",
    "last_layer_gap_",
    "loss_curve_",
    "n_features_in_",
    "n_iter_",
    "prototype_boxes_",
    "prototype_classes_",
    "prototype_distances_",
    "prototype_image_sizes_",
    "prototype_images_",
    "prototype_sample_indices_",
    "prototypes_",
    "similarity_quantiles_",
    "state_",
)
"""Every fitted classifier has these attributes."""

OPTIONAL: Final = ("feature_names_in_", "_sklearn_output_config")
"""A classifier has these attributes if `X` was a frame, and if `set_output` was called."""

STATE: Final = (
    "architecture",
    "is_backbone_frozen",
    "network",
    "receptive_field",
    "standardization",
)
"""The entries of `state_` have these names."""

PARTS: Final = ("backbone.", "add_on.")
"""The arrays of `state_["network"]` have names that begin so."""

N_QUANTILES: Final = 101
"""There are so many quantiles: of 0, 1, ..., 100 %."""

KINDS: Final = {"int": Integral, "str": str, "float": Real}
"""A field of a row of the history that is annotated so holds one of these."""

UNPROJECTED: Final = -1
"""A prototype that is no patch of a training image has this row."""


def check_fitted_state(estimator: Any) -> None:
    """Raise unless a classifier's fitted attributes are sound and consistent.

    Parameters
    ----------
    estimator : ProtoPNetClassifier
        Without anything that only serves its speed.

    Raises
    ------
    AttributeError, KeyError, TypeError
        If something is missing, or of another kind than anything is that a fit leaves.
    ValueError
        If something has another dtype, shape or value than a fit leaves, or does not fit the rest.
    """
    found, allowed = set(vars(estimator)), {*estimator.get_params(deep=False), *FITTED}
    _require(
        found - set(OPTIONAL) == allowed,
        "Attributes must be parameters and those that a fit leaves",
        f"missing {sorted(allowed - found)}, unknown {sorted(found - allowed - set(OPTIONAL))}",
    )
    _require(
        set(estimator.state_) == set(STATE), f"state_ must have {STATE}", sorted(estimator.state_)
    )
    _check_classes(estimator.classes_)
    _check_shapes(estimator)
    architecture = _architecture_of(estimator)
    field = _receptive_field_of(estimator)
    _check_last_layer(estimator)
    _check_prototypes(estimator, architecture.similarity)
    _check_sources(estimator, field)
    _check_history(estimator)
    _check_standardization(estimator.state_["standardization"], estimator.input_shape_[2])
    _check_network(estimator, architecture, field)


def _require(is_right: Any, rule: str, found: Any) -> None:
    if not is_right:
        raise ValueError(f"{rule}, found {found}.")


def _check_array(
    name: str, value: Any, dtype: Any, shape: tuple[int, ...], *, is_finite: bool = True
) -> None:
    wanted = np.dtype(dtype)
    _require(
        isinstance(value, np.ndarray) and value.dtype == wanted and value.shape == shape,
        f"{name} must be an array of {wanted} and shape {shape}",
        f"{getattr(value, 'dtype', type(value).__name__)} and {getattr(value, 'shape', None)}",
    )
    if is_finite and wanted.kind == "f":
        _require(np.isfinite(value).all(), f"{name} must be finite", "numbers that are not")


def _is_integer(value: Any, least: int = 1) -> bool:
    return type(value) is int and value >= least


def _check_classes(classes: Any) -> None:
    is_array = isinstance(classes, np.ndarray) and classes.ndim == 1 and classes.dtype.kind != "c"
    _require(is_array, "classes_ must be an array of labels", type(classes).__name__)
    if classes.dtype.kind == "O":
        _require(all(isinstance(label, str) for label in classes), "Labels must be text", "others")
    if classes.dtype.kind == "f":
        _require(np.isfinite(classes).all(), "Labels must be finite", "some that are not")
    _require(
        len(classes) >= 2 and (classes[:-1] < classes[1:]).all(),
        "classes_ must be two labels at least, unique and sorted",
        f"{len(classes)} others",
    )


def _check_shapes(estimator: Any) -> None:
    """Check what is said of images, before and after they are resized."""
    shapes = estimator.image_shape_, estimator.input_shape_
    for name, shape in zip(("image_shape_", "input_shape_"), shapes, strict=True):
        is_shape = type(shape) is tuple and len(shape) == 3 and all(map(_is_integer, shape))
        _require(is_shape, f"{name} must be (height, width, channels)", repr(shape)[:100])
    _require(shapes[0][2] == shapes[1][2], "image_shape_ and input_shape_ must agree", shapes)
    n_features = estimator.n_features_in_
    _require(
        _is_integer(n_features) and n_features == math.prod(shapes[0]),
        f"n_features_in_ must be the numbers in an image, {math.prod(shapes[0])}",
        repr(n_features)[:100],
    )
    names = getattr(estimator, "feature_names_in_", None)
    if names is not None:
        _check_array("feature_names_in_", names, object, (n_features,))
        _require(all(isinstance(each, str) for each in names), "Names must be text", "others")
    output = getattr(estimator, "_sklearn_output_config", {})
    _require(
        set(output) <= {"transform"} and all(isinstance(each, str) for each in output.values()),
        "What set_output leaves must be a name",
        "something else",
    )


def _architecture_of(estimator: Any) -> Architecture:
    """Check what the network is to be, against arrays that are there, before it is built."""
    values = estimator.state_["architecture"]
    architecture = Architecture(**values)
    names = {each.name for each in fields(Architecture)} - {"weights"}
    _require(set(values) == names, f"The architecture must have {sorted(names)}", sorted(values))
    expected = {
        "input_shape": (tuple(architecture.image_shape), estimator.input_shape_),
        "n_classes": (architecture.n_classes, len(estimator.classes_)),
        "prototypes": (
            (
                architecture.n_classes * architecture.n_prototypes_per_class,
                architecture.prototype_depth,
                *architecture.prototype_size,
            ),
            estimator.prototypes_.shape,
        ),
    }
    for name, (found, wanted) in expected.items():
        _require(found == wanted, f"The architecture's {name} must be {wanted}", found)
    for name, known in (("backbone", BACKBONES), ("similarity", functional.SIMILARITIES)):
        value = getattr(architecture, name)
        _require(isinstance(value, str) and value in known, f"The {name} must be known", value)
    stride = architecture.feature_stride
    _require(stride is None or _is_integer(stride), "feature_stride must be an integer", stride)
    return architecture


def _receptive_field_of(estimator: Any) -> ReceptiveField:
    """Check that every cell's receptive field lies in the image."""
    field = ReceptiveField(**estimator.state_["receptive_field"])
    height, width, _ = estimator.input_shape_
    for name, intervals, n_pixels in (
        ("rows", field.rows, height),
        ("columns", field.columns, width),
    ):
        _check_array(f"The receptive field's {name}", intervals, np.int64, (len(intervals), 2))
        starts, ends = intervals.T
        _require(
            len(intervals) and ((starts >= 0) & (starts <= ends) & (ends <= n_pixels)).all(),
            f"The receptive field's {name} must be intervals of {n_pixels} pixels",
            "others",
        )
    _require(_is_integer(field.depth), "The receptive field's depth must be an integer", "another")
    return field


def _check_last_layer(estimator: Any) -> None:
    shape = len(estimator.classes_), len(estimator.prototypes_)  # (K, P)
    _check_array("coef_", estimator.coef_, np.float64, shape)
    for name in ("last_layer_gap_", "l1_weight_", "l2_weight_"):
        value = getattr(estimator, name)
        _require(
            isinstance(value, float) and value >= 0,
            f"{name} must be a float of at least 0",
            repr(value)[:100],
        )


def _check_prototypes(estimator: Any, similarity: str) -> None:
    """Check the prototypes and what is known of each, (P, ...)."""
    vectors, labels = estimator.prototypes_, estimator.prototype_classes_
    classes = estimator.classes_
    n_prototypes = len(vectors)
    _check_array("prototypes_", vectors, np.float32, vectors.shape)
    _check_array("prototype_classes_", labels, classes.dtype, (n_prototypes,))
    _require(
        np.isin(labels, classes).all(), "prototype_classes_ must be among classes_", "other labels"
    )
    quantiles = estimator.similarity_quantiles_
    shape = 2, n_prototypes, N_QUANTILES
    _check_array("similarity_quantiles_", quantiles, np.float64, shape, is_finite=False)
    is_missing = np.isnan(quantiles).any(2)  # (2, P): no training image
    lowest, highest = functional.SIMILARITY_RANGES[similarity]
    kept = quantiles[~is_missing]  # (rows, 101)
    is_right = (np.diff(kept) >= 0) & np.isfinite(kept[:, 1:])
    is_within = (kept >= lowest - 1e-9) & (kept <= highest + 1e-9)
    _require(
        is_right.all() and is_within.all() and np.isnan(quantiles[is_missing]).all(),
        f"similarity_quantiles_ must rise, between {lowest} and {highest}, or be NaN",
        "others",
    )


def _check_sources(estimator: Any, field: ReceptiveField) -> None:
    """Check where prototypes come from: patches of training images, or nowhere."""
    n_prototypes = len(estimator.prototypes_)
    rows, boxes = estimator.prototype_sample_indices_, estimator.prototype_boxes_
    sizes, distances = estimator.prototype_image_sizes_, estimator.prototype_distances_
    images = estimator.prototype_images_
    _check_array("prototype_sample_indices_", rows, np.int64, (n_prototypes,))
    _check_array("prototype_boxes_", boxes, np.int64, (n_prototypes, 4))
    _check_array("prototype_image_sizes_", sizes, np.int64, (n_prototypes, 2))
    _check_array("prototype_distances_", distances, np.float64, (n_prototypes,), is_finite=False)
    is_number = isinstance(images, np.ndarray) and images.dtype.kind in "biuf"
    _require(is_number, "prototype_images_ must be an array of numbers", type(images).__name__)
    shape = n_prototypes, *estimator.input_shape_
    _check_array("prototype_images_", images, images.dtype, shape)
    _require((rows >= UNPROJECTED).all(), "prototype_sample_indices_ must be rows, or -1", "less")
    is_patch = rows != UNPROJECTED  # (P,)
    has_blind_cells = any((a[:, 0] == a[:, 1]).any() for a in (field.rows, field.columns))
    are_boxes = _are_boxes(boxes, sizes, least=int(not has_blind_cells))
    _require(are_boxes[is_patch].all(), "prototype_boxes_ must lie in their images", "others")
    is_measured = np.isfinite(distances) & (distances >= 0)
    _require(
        (is_measured == is_patch).all() and np.isnan(distances[~is_patch]).all(),
        "prototype_distances_ must be at least 0, or NaN for what is no patch",
        "others",
    )
    is_empty = not (boxes[~is_patch].any() or sizes[~is_patch].any() or images[~is_patch].any())
    _require(is_empty, "Boxes, sizes and images of what is no patch must be zeros", "others")


def _are_boxes(boxes: NDArray[np.int64], sizes: NDArray[np.int64], least: int) -> NDArray[np.bool_]:
    """Say which boxes (P, 4) are half-open, of so many pixels a side, and in their images; (P,)."""
    starts, ends = boxes[:, ::2], boxes[:, 1::2]  # (P, 2)
    is_within = (starts >= 0) & (starts + least <= ends) & (ends <= sizes)  # (P, 2)
    return is_within[:, 0] & is_within[:, 1]


def _check_history(estimator: Any) -> None:
    """Check the rows of the history, and the curve that goes with them."""
    kinds = {each.name: KINDS[str(each.type)] for each in fields(HistoryRow)}
    history, losses = estimator.history_, estimator.loss_curve_
    _require(
        isinstance(history, list) and len(history) > 0, "history_ must be a list of rows", "none"
    )
    for row in history:
        _require(set(row) == set(kinds), f"Rows of history_ must have {sorted(kinds)}", sorted(row))
        wrong = [name for name, kind in kinds.items() if not isinstance(row[name], kind)]
        _require(not wrong, "Rows of history_ must be numbers and names of stages", wrong)
    _require(
        isinstance(losses, list)
        and all(isinstance(loss, float) and math.isfinite(loss) for loss in losses)
        and _is_integer(estimator.n_iter_, least=0)
        and len(losses) == estimator.n_iter_,
        "loss_curve_ must be n_iter_ floats",
        "others",
    )


def _check_standardization(values: Mapping[str, Any], n_channels: int) -> None:
    _require(set(values) == {"mean", "scale"}, "There must be a mean and a scale", sorted(values))
    for name, value in values.items():
        _check_array(f"The {name} of the channels", value, np.float64, (n_channels,))
    _require((values["scale"] > 0).all(), "The scale of a channel must be positive", "another")


def _check_network(estimator: Any, architecture: Architecture, field: ReceptiveField) -> None:
    """Check the network's arrays against those of one that is built anew."""
    is_frozen = estimator.state_["is_backbone_frozen"]
    _require(isinstance(is_frozen, bool), "is_backbone_frozen must be a truth value", "another")
    network, _ = architecture.build(field=field)
    network = network.to("meta").eval()
    height, width, channels = architecture.image_shape
    with torch.no_grad():
        features = network.backbone(torch.empty(1, channels, height, width, device="meta"))
    _require(
        tuple(features.shape) == (1, field.depth, *field.map_size),
        f"The receptive field must be that of a map of {tuple(features.shape[1:])}",
        (field.depth, *field.map_size),
    )
    wanted = {k: v for k, v in network.state_dict().items() if k.startswith(PARTS)}
    found = estimator.state_["network"]
    differing = sorted(set(wanted) ^ set(found))
    _require(not differing, "The network's arrays must be the architecture's", differing[:3])
    for name, expected in wanted.items():
        dtype = np.int64 if expected.dtype == torch.int64 else np.float32
        _check_array(name, found[name], dtype, tuple(expected.shape))
        if name.endswith(("running_var", "num_batches_tracked")):
            _require((found[name] >= 0).all(), f"{name} must be at least 0", "less")
