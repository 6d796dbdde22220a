"""scikit-learn's tools and the forms of X: which work together, and what scikit-learn refuses.

`test_sklearn_tools.py` runs every tool on every form, and the user guide's table is made of the
same records. To add a tool is to add its record to `TOOLS`, and a form to add it to `FORMS`.

Shapes: n images of H x W pixels, K classes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sklearn
from numpy.typing import NDArray
from PIL import Image
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV, CalibrationDisplay
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 - enables by its import
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    ConfusionMatrixDisplay,
    DetCurveDisplay,
    PrecisionRecallDisplay,
    RocCurveDisplay,
    balanced_accuracy_score,
)
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
    LearningCurveDisplay,
    RandomizedSearchCV,
    TunedThresholdClassifierCV,
    ValidationCurveDisplay,
    cross_val_predict,
    cross_val_score,
)
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import Pipeline, make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer
from sklearn.semi_supervised import SelfTrainingClassifier


def write_images(rows: NDArray[Any], shape: tuple[int, int], folder: Path) -> list[str]:
    """Write rows (n, H W) of small whole numbers as images, and give their paths."""
    paths = [str(folder / f"{row}.png") for row in range(len(rows))]
    for pixels, path in zip(rows.astype(np.uint8), paths, strict=True):
        Image.fromarray(pixels.reshape(shape)).save(path)
    return paths


def polars() -> Any:
    """Import polars when it is used: the documentation, which reads the records, needs none."""
    import polars as pl

    return pl


def names_of_pixels(rows: NDArray[Any]) -> list[str]:
    return [f"pixel {number}" for number in range(rows.shape[1])]


FORMS: Mapping[str, Callable[[NDArray[Any], tuple[int, int], Path], Any]] = {
    "2-D rows": lambda rows, shape, folder: rows,
    "pandas frame": lambda rows, shape, folder: pd.DataFrame(rows, columns=names_of_pixels(rows)),
    "polars frame": lambda rows, shape, folder: polars().DataFrame(rows, names_of_pixels(rows)),
    "3-D array": lambda rows, shape, folder: rows.reshape(-1, *shape),
    "4-D array": lambda rows, shape, folder: rows.reshape(-1, *shape, 1),
    "list of images": lambda rows, shape, folder: list(rows.reshape(-1, *shape)),
    "list of paths": write_images,
    "pandas series of paths": lambda *images: pd.Series(write_images(*images)),
    "polars series of paths": lambda *images: polars().Series(write_images(*images)),
    "pandas column of paths": lambda *images: pd.DataFrame({"file": write_images(*images)}),
    "polars column of paths": lambda *images: polars().DataFrame({"file": write_images(*images)}),
}
"""Each of these forms of X is made of the same images: rows (n, H W), (H, W), and a folder."""

ARRAYS = ("3-D array", "4-D array", "list of images")
SERIES = ("pandas series of paths", "polars series of paths")
COLUMNS = ("pandas column of paths", "polars column of paths")

ARRAYS_REFUSED = dict.fromkeys(ARRAYS, "Found array with dim [34], while dim <= 2 is required")
PATHS_REFUSED = dict.fromkeys(
    ("list of paths", *SERIES), "Expected (2D array, got 1D array|a 2-dimensional container)"
)
NOT_NUMBERS = "could not convert string to float"
NUMBERS_ASKED = {
    **ARRAYS_REFUSED,
    **PATHS_REFUSED,
    "pandas series of paths": NOT_NUMBERS,
    "pandas column of paths": NOT_NUMBERS,
}
"""`check_array` of scikit-learn says this where a tool asks for numbers; polars' text slips by."""


def are_probabilities(result: NDArray[Any], y: NDArray[Any]) -> bool:
    """Tell whether probabilities (n, K) are some, and name classes better than by chance."""
    whole = (result >= 0).all() and np.allclose(result.sum(axis=1), 1)
    return bool(whole) and are_labels(result.argmax(axis=1), y)


def are_labels(result: NDArray[Any], y: NDArray[Any]) -> bool:
    """Tell whether labels (n,) are better than by chance."""
    return bool(balanced_accuracy_score(y, result) > 0.5)


def halves(y: NDArray[Any]) -> NDArray[Any]:
    """Make two classes of three."""
    return (y > 1).astype(int)


def are_halves(result: NDArray[Any], y: NDArray[Any]) -> bool:
    return are_labels(result, halves(y))


def are_scores(result: NDArray[Any], y: NDArray[Any]) -> bool:
    """Tell whether scores are rates, on the whole better than by chance among three classes."""
    return are_rates(result, y) and bool(result.mean() > 1 / 3)


def are_rates(result: NDArray[Any], y: NDArray[Any]) -> bool:
    return bool(((result >= 0) & (result <= 1)).all())


def are_importances(result: NDArray[Any], y: NDArray[Any]) -> bool:
    """Tell whether importances are differences of accuracies, and something is important."""
    return bool((np.abs(result) <= 1).all() and result.max() > 0)


def are_similarities(result: NDArray[Any], y: NDArray[Any]) -> bool:
    return len(result) == len(y) and bool((result > 0).all())


@dataclass(frozen=True)
class Tool:
    """A tool of scikit-learn around a classifier of images."""

    name: str
    """The documentation calls it this: what scikit-learn does, and in what way after a comma."""
    use: Callable[[Any, Any, NDArray[Any]], Any]
    """Runs the tool end to end with an unfitted classifier, X and y, and gives numbers."""
    holds: Callable[[NDArray[Any], NDArray[Any]], bool] = are_probabilities
    """Whether they can be the numbers that the tool should give for labels y."""
    refuses: Mapping[str, str] = field(default_factory=dict)
    """What scikit-learn says of the forms that it refuses by itself, as regular expressions."""
    warns: Mapping[str, str] = field(default_factory=dict)
    """What scikit-learn says of forms of which it loses something, as regular expressions."""
    unlike_rows: tuple[str, ...] = ()
    """Forms that rightly have other numbers than rows have."""


def fitted(tool: Callable[[Any], Any]) -> Callable[[Any, Any, NDArray[Any]], Any]:
    """Use a tool that is a classifier itself: fit it, and predict."""
    return lambda clf, X, y: tool(clf).fit(X, y).predict_proba(X)


def another(clf: Any) -> Any:
    return clone(clf).set_params(prototype_depth=4)


def logistic() -> LogisticRegression:
    return LogisticRegression(max_iter=2000)


DEPTHS = {"prototype_depth": [8, 16]}
EPOCHS = {
    "resource": "joint_epochs",
    "min_resources": 1,
    "max_resources": 2,
    "factor": 2,
    "random_state": 0,
}
SEARCHES: Mapping[str, Callable[[Any], Any]] = {
    "GridSearchCV": lambda clf: GridSearchCV(clf, DEPTHS, cv=2),
    "RandomizedSearchCV": lambda clf: RandomizedSearchCV(
        clf, DEPTHS, n_iter=1, cv=2, random_state=0
    ),
    "HalvingGridSearchCV, over joint_epochs": lambda clf: HalvingGridSearchCV(
        clf, DEPTHS, cv=2, **EPOCHS
    ),
    "HalvingRandomSearchCV, over joint_epochs": lambda clf: HalvingRandomSearchCV(
        clf, DEPTHS, n_candidates=2, cv=2, **EPOCHS
    ),
}
"""Searches of a classifier, by the names of their tools."""


def calibrate_frozen(clf: Any, X: Any, y: NDArray[Any]) -> Any:
    frozen = FrozenEstimator(clf.fit(X, y))
    return CalibratedClassifierCV(frozen, method="temperature").fit(X, y).predict_proba(X)


def stack(*, passthrough: bool) -> Callable[[Any], Any]:
    return lambda clf: StackingClassifier(
        [("images", clf)], logistic(), cv=2, passthrough=passthrough
    )


def train_oneself(clf: Any, X: Any, y: NDArray[Any]) -> Any:
    """Leave every fourth label out, and let the tool label those images."""
    known = np.where(np.arange(len(y)) % 4, y, -1)
    n_unknown = int((known < 0).sum())
    labelled = SelfTrainingClassifier(clf, criterion="k_best", k_best=n_unknown, max_iter=1)
    return labelled.fit(X, known).predict_proba(X)


def permute(clf: Any, X: Any, y: NDArray[Any]) -> Any:
    tried = permutation_importance(clf.fit(X, y), X, y, n_repeats=1, max_samples=20, random_state=0)
    return tried.importances_mean


def curve(display: Any, result: str, **settings: Any) -> Callable[[Any, Any, NDArray[Any]], Any]:
    return lambda clf, X, y: getattr(display.from_estimator(clf, X, y, **settings), result)


def evaluated(display: Any, result: str, **settings: Any) -> Callable[..., Any]:
    """Use a display that shows how a fitted classifier tells two classes apart."""
    return lambda clf, X, y: getattr(
        display.from_estimator(clf.fit(X, halves(y)), X, halves(y), **settings), result
    )


def transform_columns(clf: Any, X: Any, y: NDArray[Any]) -> Any:
    return ColumnTransformer([("images", clf, slice(0, None))]).fit_transform(X, y)


def route_weights(clf: Any, X: Any, y: NDArray[Any]) -> Any:
    with sklearn.config_context(enable_metadata_routing=True):
        clf = clf.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        search = GridSearchCV(clf, {"l1_weight": [1e-3]}, cv=2)
        return search.fit(X, y, sample_weight=np.linspace(0.5, 2, len(y))).predict_proba(X)


def route_validation_images(clf: Any, X: Any, y: NDArray[Any]) -> Any:
    with sklearn.config_context(enable_metadata_routing=True):
        clf = clf.set_params(early_stopping=True).set_fit_request(X_val=True, y_val=True)
        steps = [("same", FunctionTransformer()), ("classify", clf)]
        pipeline = Pipeline(steps, transform_input=["X_val"])
        return pipeline.fit(X, y, X_val=X, y_val=y).predict_proba(X)


TOOLS: tuple[Tool, ...] = (
    *(Tool(name, fitted(search)) for name, search in SEARCHES.items()),
    Tool("cross_val_score", lambda clf, X, y: cross_val_score(clf, X, y, cv=2), are_scores),
    Tool(
        "cross_val_predict",
        lambda clf, X, y: cross_val_predict(clf, X, y, cv=2, method="predict_proba"),
    ),
    Tool(
        "learning_curve, and its display",
        curve(
            LearningCurveDisplay,
            "test_scores",
            cv=2,
            train_sizes=[0.5, 1.0],
            shuffle=True,
            random_state=0,
        ),
        are_scores,
    ),
    Tool(
        "validation_curve, and its display",
        curve(
            ValidationCurveDisplay,
            "test_scores",
            cv=2,
            param_name="joint_epochs",
            param_range=[0, 1],
        ),
        are_scores,
    ),
    Tool(
        "CalibratedClassifierCV, with a sigmoid",
        fitted(lambda clf: CalibratedClassifierCV(clf, method="sigmoid", cv=2)),
    ),
    Tool(
        "CalibratedClassifierCV, isotonic",
        fitted(lambda clf: CalibratedClassifierCV(clf, method="isotonic", cv=2)),
    ),
    Tool("CalibratedClassifierCV, by a temperature over a FrozenEstimator", calibrate_frozen),
    Tool(
        "FixedThresholdClassifier",
        lambda clf, X, y: FixedThresholdClassifier(clf, threshold=0.4).fit(X, halves(y)).predict(X),
        are_halves,
    ),
    Tool(
        "TunedThresholdClassifierCV",
        lambda clf, X, y: (
            TunedThresholdClassifierCV(clf, cv=2, thresholds=9).fit(X, halves(y)).predict(X)
        ),
        are_halves,
    ),
    Tool("StackingClassifier", fitted(stack(passthrough=False))),
    Tool(
        "StackingClassifier, with passthrough",
        fitted(stack(passthrough=True)),
        refuses={
            **dict.fromkeys(
                (*ARRAYS, "list of paths", *SERIES),
                "all the input arrays must have same number of dimensions",
            ),
            **dict.fromkeys(COLUMNS, NOT_NUMBERS),
        },
    ),
    Tool(
        "VotingClassifier",
        fitted(
            lambda clf: VotingClassifier([("one", clf), ("other", another(clf))], voting="soft")
        ),
    ),
    Tool(
        "BaggingClassifier",
        fitted(lambda clf: BaggingClassifier(clf, 2, random_state=0)),
        refuses={**ARRAYS_REFUSED, **PATHS_REFUSED},
    ),
    Tool(
        "AdaBoostClassifier",
        fitted(lambda clf: AdaBoostClassifier(clf, n_estimators=2, random_state=0)),
        refuses=PATHS_REFUSED,
    ),
    Tool("SelfTrainingClassifier", train_oneself, refuses=NUMBERS_ASKED),
    Tool("OneVsRestClassifier", fitted(OneVsRestClassifier)),
    Tool(
        "OneVsOneClassifier",
        lambda clf, X, y: OneVsOneClassifier(clf).fit(X, y).predict(X),
        are_labels,
        refuses=NUMBERS_ASKED,
    ),
    Tool(
        "MultiOutputClassifier",
        lambda clf, X, y: (
            MultiOutputClassifier(clf).fit(X, np.stack([y, halves(y)], axis=1)).predict_proba(X)[0]
        ),
    ),
    Tool("Pipeline", fitted(lambda clf: make_pipeline(FunctionTransformer(), clf))),
    Tool(
        "Pipeline, with X_val in transform_input",
        route_validation_images,
    ),
    Tool(
        "Pipeline, with the classifier as a transformer",
        fitted(lambda clf: make_pipeline(clf, logistic())),
    ),
    Tool(
        "FeatureUnion",
        lambda clf, X, y: make_union(clf, another(clf)).fit(X, y).transform(X),
        are_similarities,
    ),
    Tool(
        "ColumnTransformer",
        transform_columns,
        are_similarities,
        refuses={
            **dict.fromkeys(
                ARRAYS[:2], "should be a 2D NumPy array, 2D sparse matrix or dataframe"
            ),
            "list of images": ARRAYS_REFUSED["list of images"],
            "list of paths": PATHS_REFUSED["list of paths"],
            **dict.fromkeys(SERIES, "tuple index out of range"),
        },
    ),
    Tool("GridSearchCV, with sample_weight by metadata routing", route_weights),
    Tool(
        "permutation_importance",
        permute,
        are_importances,
        refuses={
            **ARRAYS_REFUSED,
            **PATHS_REFUSED,
            "pandas series of paths": "tuple index out of range",
        },
        warns={"polars frame": "X does not have valid feature names"},
        unlike_rows=COLUMNS,  # an image is one feature
    ),
    Tool("RocCurveDisplay", evaluated(RocCurveDisplay, "roc_auc"), are_scores),
    Tool(
        "PrecisionRecallDisplay",
        evaluated(PrecisionRecallDisplay, "average_precision"),
        are_scores,
    ),
    Tool("DetCurveDisplay", evaluated(DetCurveDisplay, "fnr"), are_rates),
    Tool("CalibrationDisplay", evaluated(CalibrationDisplay, "prob_true", n_bins=3), are_rates),
    Tool(
        "ConfusionMatrixDisplay",
        lambda clf, X, y: np.diag(
            ConfusionMatrixDisplay.from_estimator(
                clf.fit(X, y), X, y, normalize="true"
            ).confusion_matrix
        ),
        are_scores,
    ),
)
"""These tools of scikit-learn are run with every form of X."""
