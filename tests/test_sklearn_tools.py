"""scikit-learn's tools around the classifier, on images of every form."""

import traceback
from collections import Counter
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
import sklearn
from quick import QUICK
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import BaggingClassifier
from sklearn.feature_selection import VarianceThreshold
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import ClassifierChain
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from tools_table import DEPTHS, FORMS, SEARCHES, TOOLS, write_images

from sklearn_protopnet import ProtoPNetClassifier

ROWS = "2-D rows"


@pytest.fixture
def clf():
    return ProtoPNetClassifier(image_shape=(8, 8), **{**QUICK, "pretraining_epochs": 4})


@pytest.fixture(scope="module")
def few(digits):
    """Sixteen images of each of three classes."""
    X, y = digits
    rows = np.sort(np.concatenate([np.flatnonzero(y == label)[:16] for label in range(3)]))
    return X[rows], y[rows]


@pytest.fixture(scope="module")
def images(few, tmp_path_factory):
    return {
        name: make(few[0], (8, 8), tmp_path_factory.mktemp("images"))
        for name, make in FORMS.items()
    }


@pytest.fixture(scope="module")
def of_rows():
    """What tools give for rows, by the names of the tools: filled as they are run."""
    return {}


def packages_of(error):
    """Name the packages that an error came through, each frame's."""
    frames = [frame for frame, _ in traceback.walk_tb(error.tb)]
    return {frame.f_globals["__name__"].partition(".")[0] for frame in frames}


def run(tool, clf, X, y):
    return np.asarray(tool.use(clone(clf), X, y))


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
@pytest.mark.parametrize("form", FORMS)
def test_a_tool_gives_the_same_bits_for_images_of_every_form(form, tool, clf, few, images, of_rows):
    X, y = images[form], few[1]
    if form in tool.refuses:
        errors = (ValueError, TypeError, IndexError)
        with pytest.raises(errors, match=tool.refuses[form]) as error:
            run(tool, clf, X, y)
        assert "sklearn" in packages_of(error)
        assert "sklearn_protopnet" not in packages_of(error)
        return
    if tool.name not in of_rows:
        of_rows[tool.name] = run(tool, clf, images[ROWS], y)
    with pytest.warns(match=tool.warns[form]) if form in tool.warns else nullcontext():
        result = of_rows[tool.name] if form == ROWS else run(tool, clf, X, y)
    assert np.isfinite(result).all()
    assert tool.holds(result, y)
    assert np.array_equal(result, of_rows[tool.name]) == (form not in tool.unlike_rows)


def test_the_table_names_tools_once_and_forms_that_there_are():
    assert max(Counter(tool.name for tool in TOOLS).values()) == 1
    for tool in TOOLS:
        assert {*tool.refuses, *tool.warns, *tool.unlike_rows} <= FORMS.keys() - {ROWS}


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_ends_with_a_fit_of_what_was_best(name, clf, few):
    X, y = few
    search = SEARCHES[name](clf).fit(X, y)
    best = dict(search.best_params_)
    if "Halving" in name:
        assert search.n_resources_ == [1, 2]
        assert search.n_candidates_ == [2, 1]
        best["joint_epochs"] = 2
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    alone = clone(clf).set_params(**best).fit(X, y)
    assert alone.prototypes_.shape[1] == best["prototype_depth"]
    assert np.array_equal(search.predict_proba(X), alone.predict_proba(X))


def test_a_temperature_multiplies_the_logits_of_a_frozen_classifier(clf, few):
    X, y = few
    clf.fit(X[::2], y[::2])
    before = clf.decision_function(X)
    calibrated = CalibratedClassifierCV(FrozenEstimator(clf), method="temperature")
    logarithms = np.log(calibrated.fit(X[1::2], y[1::2]).predict_proba(X))
    assert np.array_equal(clf.decision_function(X), before)
    centred = [each - each.mean(axis=1, keepdims=True) for each in (logarithms, before)]
    (factor,), *_ = np.linalg.lstsq(centred[1].reshape(-1, 1), centred[0].reshape(-1))
    assert factor > 0
    assert np.allclose(centred[0], factor * centred[1], rtol=1e-4, atol=1e-4)


def test_validation_images_go_through_the_steps_before(clf, few):
    X, y = few
    clf.set_params(early_stopping=True)
    alone = clone(clf).fit(np.sqrt(X), y, X_val=np.sqrt(X[::3]), y_val=y[::3])
    with sklearn.config_context(enable_metadata_routing=True):
        clf.set_fit_request(X_val=True, y_val=True)
        steps = [("root", FunctionTransformer(np.sqrt)), ("classify", clf)]
        pipeline = Pipeline(steps, transform_input=["X_val"]).fit(X, y, X_val=X[::3], y_val=y[::3])
    assert np.array_equal(pipeline.predict_proba(X), alone.predict_proba(np.sqrt(X)))
    tables = [each.history_table().drop(columns="seconds") for each in (clf, alone)]
    assert tables[1]["validation_accuracy"].notna().any()
    pd.testing.assert_frame_equal(*tables, check_exact=True)


def test_weights_are_routed_to_the_rows_that_they_belong_to(clf, few):
    """Images with a wrong label and no weight count neither in a fit nor in a score."""
    X, y = few
    weights = np.tile([1.0, 1.0, 0.0, 2.0], 12)
    wrong = np.where(weights, y, (y + 1) % 3)
    folds = [(np.arange(24), np.arange(24, 48)), (np.arange(24, 48), np.arange(24))]
    with sklearn.config_context(enable_metadata_routing=True):
        clf.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        search = GridSearchCV(clf, DEPTHS, cv=folds)
        searches = [clone(search).fit(X, labels, sample_weight=weights) for labels in (y, wrong)]
    one, other = (each.cv_results_["mean_test_score"] for each in searches)
    assert np.array_equal(one, other)
    alone = clone(clf).set_params(**searches[0].best_params_).fit(X, y, sample_weight=weights)
    for each in searches:
        assert np.array_equal(each.predict_proba(X), alone.predict_proba(X))


def test_a_column_of_paths_stands_beside_numbers(clf, few, tmp_path):
    X, y = few
    patients = pd.DataFrame({"age": np.arange(48), "scan": write_images(X, (8, 8), tmp_path)})
    columns = ColumnTransformer([("images", clf, ["scan"]), ("numbers", "passthrough", ["age"])])
    features = columns.fit_transform(patients, y)
    similarities = clone(clf).fit(X, y).transform(X)
    assert np.array_equal(features, np.column_stack([similarities, patients["age"]]))


@pytest.mark.parametrize(
    ("tool", "n_features"),
    [
        (lambda clf: ClassifierChain(clf), 65),
        (lambda clf: BaggingClassifier(clf, max_features=0.5), 32),
        (lambda clf: make_pipeline(VarianceThreshold(), clf), 50),
    ],
    ids=["ClassifierChain", "BaggingClassifier", "VarianceThreshold"],
)
def test_what_adds_pixels_or_takes_some_away_leaves_no_images(tool, n_features, clf, few):
    X, y = few
    labels = np.stack([y > 0, y > 1], axis=1) if n_features == 65 else y > 0
    with pytest.raises(ValueError, match=f"must have 64 features .* got {n_features}"):
        tool(clf).fit(X, labels)
