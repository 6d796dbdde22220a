"""Whether a classifier's attributes are such as a fit leaves, each by itself and all together.

What is wrong is found after a file was read and before one is written, not by a prediction.

Shapes: K classes, P prototypes of depth D and H1 x W1 cells, images of H x W pixels and C channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import copy
from dataclasses import fields
from functools import partial
from numbers import Integral, Real
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from sklearn_protopnet._compat import OUTPUT_CONFIG
from sklearn_protopnet._edits import EditRow
from sklearn_protopnet._fit_result import FITTED
from sklearn_protopnet._fitted import fitted_network
from sklearn_protopnet._last_layer import Constraints
from sklearn_protopnet._network import BACKBONES, SIMILARITIES, ReceptiveField, working_conditions
from sklearn_protopnet._training import N_QUANTILES, NO_SOURCE, HistoryRow
from sklearn_protopnet._validation import class_indices

OPTIONAL: Final = ("feature_names_in_", OUTPUT_CONFIG)
"""A classifier has these attributes if `X` was a frame, and if `set_output` was called."""

STATE: Final = (
    "architecture",
    "constraints",
    "is_backbone_frozen",
    "is_resized",
    "linear_head",
    "n_prototypes_per_class",
    "network",
    "receptive_field",
    "standardization",
)
"""The entries of `state_` have these names."""

ARCHITECTURE: Final = ("backbone", "feature_stride", "n_pooled_patches", "similarity")
"""The entries of `state_["architecture"]` have these names."""

KINDS: Final = {"int": Integral, "str": str, "float": Real, "list[int]": list}
"""A field of a row of the history, or of the edits, that is annotated so holds one of these."""


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
    parameters = estimator.get_params(deep=False)
    # What is None a fit has not left: so callbacks are told of it, while the fit goes on.
    found = {
        name for name, each in vars(estimator).items() if name in parameters or each is not None
    }
    allowed = {*parameters, *FITTED}
    _require(
        found - set(OPTIONAL) == allowed,
        "Attributes must be parameters and those that a fit leaves",
        f"missing {sorted(allowed - found)}, unknown {sorted(found - allowed - set(OPTIONAL))}",
    )
    state = estimator.state_
    _require(set(state) == set(STATE), f"state_ must have {sorted(STATE)}", sorted(state))
    _check_classes(estimator.classes_)
    _check_shapes(estimator)
    _check_architecture(state["architecture"])
    field = ReceptiveField(**state["receptive_field"])
    _check_receptive_field(field, estimator.input_shape_)
    _check_last_layer(estimator)
    _check_prototypes(estimator)
    _check_sources(estimator, field)
    _check_constraints(estimator, field)
    _check_history(estimator)
    _check_rows("edits_", estimator.edits_, EditRow)
    _check_standardization(state["standardization"], estimator.input_shape_[2])
    for name in ("is_backbone_frozen", "is_resized"):
        _require(isinstance(state[name], bool), f"{name} must be a truth value", "another")
    _check_network(estimator)


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
    output = getattr(estimator, OUTPUT_CONFIG, {})
    _require(
        set(output) <= {"transform"} and all(isinstance(each, str) for each in output.values()),
        "What set_output leaves must be a name",
        "something else",
    )


def _check_architecture(values: Mapping[str, Any]) -> None:
    found = sorted(values)
    _require(found == sorted(ARCHITECTURE), f"The architecture must have {ARCHITECTURE}", found)
    for name, known in (("backbone", BACKBONES), ("similarity", SIMILARITIES)):
        value = values[name]
        is_known = isinstance(value, str) and value in known
        _require(is_known, f"The {name} must be known", repr(value)[:100])
    for name in ("feature_stride", "n_pooled_patches"):
        value = values[name]
        is_right = _is_integer(value) or (name == "feature_stride" and value is None)
        _require(is_right, f"{name} must be a positive integer", repr(value)[:100])


def _check_receptive_field(field: ReceptiveField, input_shape: tuple[int, int, int]) -> None:
    """Check that every cell's receptive field lies in the image."""
    axes = ("rows", field.rows, input_shape[0]), ("columns", field.columns, input_shape[1])
    for name, intervals, n_pixels in axes:
        _check_array(f"The receptive field's {name}", intervals, np.int64, (len(intervals), 2))
        starts, ends = intervals.T
        is_within = (starts >= 0) & (starts <= ends) & (ends <= n_pixels)
        _require(
            len(intervals) and is_within.all(),
            f"The receptive field's {name} must be intervals of {n_pixels} pixels",
            "others",
        )


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


def _check_prototypes(estimator: Any) -> None:
    """Check the prototypes and what is known of each, (P, ...)."""
    vectors, labels = estimator.prototypes_, estimator.prototype_classes_
    classes = estimator.classes_
    n_prototypes = len(vectors)
    _require(
        vectors.ndim == 4 and min(vectors.shape) > 0,
        "prototypes_ must have four axes, none of them empty",
        vectors.shape,
    )
    _check_array("prototypes_", vectors, np.float32, vectors.shape)
    _check_array("prototype_classes_", labels, classes.dtype, (n_prototypes,))
    _require(
        np.isin(labels, classes).all(), "prototype_classes_ must be among classes_", "other labels"
    )
    names = estimator.prototype_names_
    _require(
        isinstance(names, np.ndarray) and names.dtype.kind == "U" and names.shape == labels.shape,
        f"prototype_names_ must be {n_prototypes} texts",
        type(names).__name__,
    )
    quantiles = estimator.similarity_quantiles_
    shape = 2, n_prototypes, N_QUANTILES
    _check_array("similarity_quantiles_", quantiles, np.float64, shape, is_finite=False)
    is_missing = np.isnan(quantiles).any(2)  # (2, P): no training image
    similarity = SIMILARITIES[estimator.state_["architecture"]["similarity"]]
    lowest, highest = similarity.range
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
    _require((rows >= NO_SOURCE).all(), "prototype_sample_indices_ must be rows, or -1", "less")
    is_patch = rows != NO_SOURCE  # (P,)
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
    history, losses = estimator.history_, estimator.loss_curve_
    _check_rows("history_", history, HistoryRow)
    _require(len(history) > 0, "history_ must be a list of rows", "none")
    _require(
        isinstance(losses, list)
        and all(isinstance(loss, float) and math.isfinite(loss) for loss in losses)
        and _is_integer(estimator.n_iter_, least=0)
        and len(losses) == estimator.n_iter_,
        "loss_curve_ must be n_iter_ floats",
        "others",
    )


def _check_rows(name: str, rows: Any, record: type[HistoryRow] | type[EditRow]) -> None:
    """Check a list of the fields of records."""
    kinds = {each.name: KINDS[str(each.type)] for each in fields(record)}
    _require(isinstance(rows, list), f"{name} must be a list of rows", type(rows).__name__)
    for row in rows:
        _require(set(row) == set(kinds), f"Rows of {name} must have {sorted(kinds)}", sorted(row))
        wrong = [name for name, kind in kinds.items() if not isinstance(row[name], kind)]
        wrong += [name for name in wrong or kinds if _has_no_integers(row[name])]
        _require(not wrong, f"Rows of {name} must be numbers and names", wrong)


def _has_no_integers(value: Any) -> bool:
    return isinstance(value, list) and not all(map(partial(_is_integer, least=0), value))


def _check_constraints(estimator: Any, field: ReceptiveField) -> None:
    """Check what an editor has asked for."""
    constraints = Constraints(**estimator.state_["constraints"])
    images, positions = constraints.patch_images, constraints.patch_positions
    owners = constraints.patch_prototypes
    n_prototypes, n_patches = len(estimator.prototypes_), len(owners)
    _require(
        _is_integer(estimator.state_["n_prototypes_per_class"]),
        "n_prototypes_per_class must be a positive integer",
        repr(estimator.state_["n_prototypes_per_class"])[:100],
    )
    for name in ("forbidden", "merged", "required"):
        numbers = getattr(constraints, name)
        _check_array(f"Prototypes that are {name}", numbers, np.int64, np.shape(numbers)[:1])
    numbers = np.concatenate([constraints.weightless, constraints.required])
    _require(
        len(np.unique(numbers)) == len(numbers)
        and ((numbers >= 0) & (numbers < n_prototypes)).all(),
        f"Constraints must be on prototypes below {n_prototypes}, one on each",
        "others",
    )
    _check_array("min_weights", constraints.min_weights, np.float64, constraints.required.shape)
    shape = n_patches, *estimator.input_shape_
    _check_array("patch_images", images, estimator.prototype_images_.dtype, shape)
    _check_array("patch_positions", positions, np.int64, (n_patches,))
    _check_array("patch_prototypes", owners, np.int64, (n_patches,))
    n_positions = len(field.rows) * len(field.columns)
    is_position = (positions >= 0) & (positions < n_positions)
    is_owner = (owners >= 0) & (owners < n_prototypes)
    _require((is_position & is_owner).all(), "Patches must be on the map, of prototypes", "others")
    classes = class_indices(estimator.prototype_classes_, estimator.classes_)
    lower, upper = constraints.bounds(classes, len(estimator.classes_))
    coef = estimator.coef_
    _require(((lower <= coef) & (coef <= upper)).all(), "coef_ must obey constraints", "others")


def _check_standardization(values: Mapping[str, Any], n_channels: int) -> None:
    _require(set(values) == {"mean", "scale"}, "There must be a mean and a scale", sorted(values))
    for name, value in values.items():
        _check_array(f"The {name} of the channels", value, np.float64, (n_channels,))
    _require((values["scale"] > 0).all(), "The scale of a channel must be positive", "another")


def _check_network(estimator: Any) -> None:
    """Check the network's arrays against the network that is restored from them."""
    found, depth = estimator.state_["network"], estimator.state_["receptive_field"]["depth"]
    for name, array in found.items():
        dtype = np.int64 if name.endswith("num_batches_tracked") else np.float32
        _check_array(name, array, dtype, np.shape(array))
        if name.endswith(("running_var", "num_batches_tracked")):
            _require((array >= 0).all(), f"{name} must be at least 0", "less")
    n_channels = found["add_on.0.weight"].shape[1]
    _require(
        _is_integer(depth) and depth == n_channels,
        f"The receptive field must be that of {n_channels} channels",
        repr(depth)[:100],
    )
    head, n_classes = estimator.state_["linear_head"], len(estimator.classes_)
    _require(set(head) == {"weight", "bias"}, "The linear head must have two arrays", sorted(head))
    _check_array("The linear head's weight", head["weight"], np.float32, (n_classes, depth))
    _check_array("The linear head's bias", head["bias"], np.float32, (n_classes,))
    fitted = fitted_network(copy(estimator).set_params(device="cpu", memory=None))
    network, field = fitted.network, fitted.field
    restored = network.state_dict()
    for name, array in found.items():  # PyTorch takes an axis of one number for none
        _require(array.shape == restored[name].shape, f"{name} must have its shape", array.shape)
    with working_conditions(tiny=fitted.architecture.is_tiny), torch.no_grad():
        height, width, channels = estimator.input_shape_
        features = network.feature_maps(torch.zeros(1, channels, height, width))
    n_cells = tuple(features.shape[2:])
    _require(
        field.map_size == n_cells and np.less_equal(network.prototype_size, n_cells).all(),
        f"Prototypes and the receptive field must be those of a map of {n_cells} cells",
        f"{network.prototype_size} and {field.map_size}",
    )
