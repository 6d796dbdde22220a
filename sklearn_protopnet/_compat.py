"""Every private name of scikit-learn, torch and joblib that this package leans on, in one place.

joblib's are private in that its documentation does not have them.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from joblib.hashing import Hasher, NumpyHasher
from joblib.parallel import BACKENDS, get_active_backend
from sklearn.base import _fit_context as fit_context
from sklearn.ensemble._base import _BaseHeterogeneousEnsemble as HeterogeneousEnsemble
from sklearn.utils._param_validation import Interval, StrOptions, validate_params
from sklearn.utils._repr_html.estimator import _VisualBlock as VisualBlock
from sklearn.utils.validation import _check_feature_names_in as check_feature_names_in
from sklearn.utils.validation import _check_sample_weight as check_sample_weight
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = [
    "CALLBACKS",
    "METADATA_REQUEST",
    "OUTPUT_CONFIG",
    "BatchNorm",
    "Hasher",
    "HeterogeneousEnsemble",
    "Interval",
    "NumpyHasher",
    "StrOptions",
    "TorchDispatchMode",
    "VisualBlock",
    "check_feature_names_in",
    "check_sample_weight",
    "count_writes",
    "fit_context",
    "get_active_backend",
    "has_hooks_for_saved_tensors",
    "is_loky",
    "is_mutable",
    "storage_key",
    "validate_params",
]

CALLBACKS: Final = (
    "_callback_fit_ctx",
    "_parent_callback_ctx",
    "_skl_callbacks",
    "_skl_callbacks_to_teardown",
)
"""Attributes of these names hold an estimator's callbacks, and where in a search it is."""

METADATA_REQUEST: Final = "_metadata_request"
"""An estimator's attribute of this name holds what `set_fit_request` was told."""

OUTPUT_CONFIG: Final = "_sklearn_output_config"
"""An estimator's attribute of this name holds what `set_output` was told."""


def is_loky(backend: Any) -> bool:
    """Tell whether a backend of joblib starts processes on this machine."""
    return isinstance(backend, BACKENDS["loky"])


def is_mutable(operator: Any) -> bool:
    """Tell whether an operator of torch writes to its arguments."""
    return bool(operator._schema.is_mutable)


def storage_key(tensor: Tensor) -> int:
    """Give the number of the storage that a tensor lies in; those that share it have one number."""
    return int(tensor.untyped_storage()._cdata)


def count_writes(tensor: Tensor) -> int:
    """Count how often a tensor has been written to in place."""
    return int(tensor._version)


def has_hooks_for_saved_tensors() -> bool:
    """Tell whether what a forward pass saves goes through hooks, as with checkpoints of torch."""
    return torch._C._autograd._top_saved_tensors_default_hooks(True) is not None
