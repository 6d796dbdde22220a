"""The path of last layers: a table, and the picture of it."""

import copy

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from quick import QUICK
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC

from sklearn_protopnet import ProtoPNetClassifier, solve_last_layer
from sklearn_protopnet.inspection import LastLayerPathDisplay, last_layer_path

COLUMNS = [
    "l1_weight",
    "objective",
    "gap",
    "n_off_class_weights",
    "off_class_share",
    "n_prototypes_in_use",
    "mean_contributions_per_class",
    "train_score",
    "validation_score",
]


@pytest.fixture(scope="module")
def halves(digits):
    X, y = digits
    return X[::2], y[::2], X[1::2], y[1::2]


@pytest.fixture(scope="module")
def path(fitted, halves):
    X, y, X_val, y_val = halves
    return last_layer_path(fitted, X, y, n_l1_weights=8, X_val=X_val, y_val=y_val)


def solved(clf, X, y, l1_weight, **options):
    return solve_last_layer(
        clf.transform(X),
        np.searchsorted(clf.classes_, y),
        np.searchsorted(clf.classes_, clf.prototype_classes_),
        l1_weight=l1_weight,
        l2_weight=clf.l2_weight_,
        **options,
    )


def halved(X):
    return X / 2


class TestTable:
    def test_it_has_its_columns_and_says_what_it_is(self, path, fitted):
        assert path.columns.tolist() == COLUMNS
        assert path.attrs["schema"] == "sklearn_protopnet.last_layer_path"
        assert path.attrs["l2_weight"] == fitted.l2_weight_
        n_off_class = 9 * len(fitted.prototypes_)
        assert np.array_equal(path["off_class_share"], path["n_off_class_weights"] / n_off_class)

    def test_it_goes_from_no_off_class_weight_to_nearly_all(self, path):
        assert path["l1_weight"].is_monotonic_decreasing
        assert path["n_off_class_weights"].is_monotonic_increasing
        assert path["n_off_class_weights"].iloc[0] == 0
        assert path["off_class_share"].iloc[-1] > 0.9
        assert path["objective"].is_monotonic_decreasing
        assert path["l1_weight"].iloc[-1] == pytest.approx(path["l1_weight"].iloc[0] / 10_000)

    def test_the_first_penalty_is_the_smallest_without_off_class_weights(
        self, path, fitted, halves
    ):
        largest = path["l1_weight"].iloc[0]
        off = fitted.classes_[:, None] != fitted.prototype_classes_
        above = solved(fitted, *halves[:2], 1.001 * largest, tol=1e-10)
        below = solved(fitted, *halves[:2], 0.995 * largest, tol=1e-10)
        assert np.count_nonzero(above.coef[off]) == 0
        assert 1 <= np.count_nonzero(below.coef[off]) <= 5

    def test_every_row_is_the_solution_of_its_problem(self, path, fitted, halves):
        X, y, X_val, y_val = halves
        for _, row in path[::3].iterrows():
            cold = solved(fitted, X, y, row["l1_weight"])
            assert row["gap"] <= 1e-6 * row["objective"]
            assert abs(row["objective"] - cold.objective) <= max(row["gap"], cold.gap)
        coef = solved(fitted, X, y, row["l1_weight"], tol=1e-9).coef
        for name, images, labels in (("train_score", X, y), ("validation_score", X_val, y_val)):
            predicted = fitted.classes_[(fitted.transform(images) @ coef.T).argmax(1)]
            assert row[name] == pytest.approx(np.mean(predicted == labels), abs=0.01)

    def test_counts_are_of_weights_that_are_not_zero(self, fitted, halves):
        (row,) = last_layer_path(fitted, *halves[:2], l1_weights=[1e-3]).to_dict("records")
        coef = solved(fitted, *halves[:2], 1e-3).coef
        off = fitted.classes_[:, None] != fitted.prototype_classes_
        assert abs(row["n_off_class_weights"] - np.count_nonzero(coef[off])) <= 2
        n_own = np.count_nonzero(coef[~off])
        expected = (row["n_off_class_weights"] + n_own) / len(coef)
        assert row["mean_contributions_per_class"] == pytest.approx(expected)
        assert row["n_prototypes_in_use"] == np.count_nonzero(coef.any(0))
        assert np.isnan(row["validation_score"])

    def test_a_row_is_what_a_refit_gives(self, path, fitted, halves):
        X, y, X_val, y_val = halves
        before = dict(vars(fitted))
        row = path.iloc[4]
        clf = copy.copy(fitted).refit_last_layer(X, y, l1_weight=row["l1_weight"])
        assert clf.score(X_val, y_val) == pytest.approx(row["validation_score"], abs=0.01)
        assert clf.history_[-1]["loss"] == pytest.approx(row["objective"], rel=1e-6)
        assert vars(fitted) == before

    def test_penalties_of_the_users_are_sorted(self, fitted, halves):
        table = last_layer_path(fitted, *halves[:2], l1_weights=[0, 1e-3, np.inf, 1e-3])
        assert table["l1_weight"].tolist() == [np.inf, 1e-3, 0.0]
        assert table["off_class_share"].iloc[[0, -1]].tolist() == [0.0, 1.0]

    def test_weights_of_samples_and_classes_count(self, fitted, halves):
        X, y = halves[:2]
        repeats = np.where(y == 3, 3, 1)
        counted = last_layer_path(
            fitted, np.repeat(X, repeats, axis=0), np.repeat(y, repeats), l1_weights=[1e-3]
        )
        weighted = last_layer_path(fitted, X, y, sample_weight=repeats, l1_weights=[1e-3])
        assert weighted["objective"][0] == pytest.approx(counted["objective"][0], rel=2e-6)
        assert weighted["train_score"][0] == pytest.approx(counted["train_score"][0])
        clf = copy.copy(fitted).set_params(class_weight={3: 3.0})
        by_class = last_layer_path(clf, X, y, l1_weights=[1e-3])
        assert by_class["objective"][0] == pytest.approx(weighted["objective"][0], rel=2e-6)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"l1_weights": []}, "l1_weights must be one-dimensional"),
            ({"l1_weights": 0.1}, r"l1_weights must be one-dimensional .*, got shape \(\)"),
            ({"l1_weights": [0.1, -1.0]}, r"l1_weights .* not negative, got -1\.0"),
            ({"l1_weights": [np.nan]}, "l1_weights .* not negative, got nan"),
            ({"l1_weights": ["a"]}, "l1_weights .* not negative, found: could not convert"),
            ({"l1_weights": [1j]}, "l1_weights .* not negative, found: "),
            ({"l1_weights": [[1], [1, 2]]}, "l1_weights .* not negative, found: "),
            ({"n_l1_weights": 0}, "n_l1_weights must be a positive integer"),
            ({"n_l1_weights": 2.5}, "n_l1_weights must be a positive integer"),
            ({"X_val": np.zeros((2, 64))}, "X_val and y_val must be given together"),
            ({"y_val": [1]}, "X_val and y_val must be given together"),
            ({"X_val": np.zeros((2, 64)), "y_val": [1]}, "each of the 2 images in X_val"),
            ({"X_val": np.zeros((2, 63)), "y_val": [1, 1]}, "X_val has 63 features"),
            ({"X_val": np.full((1, 64), np.nan), "y_val": [1]}, "Input X_val contains NaN"),
            ({"X_val": np.zeros((1, 64)), "y_val": [77]}, r"classes of the training y.*\[77\]"),
            ({"sample_weight": [1.0]}, r"sample_weight.shape"),
        ],
    )
    def test_bad_arguments_are_refused(self, fitted, halves, options, message):
        with pytest.raises(ValueError, match=message):
            last_layer_path(fitted, *halves[:2], **options)

    def test_it_needs_a_fitted_classifier(self, halves):
        with pytest.raises(NotFittedError):
            last_layer_path(ProtoPNetClassifier(), *halves[:2])

    def test_images_pass_through_a_pipeline(self, path, fitted, halves):
        X, y, X_val, y_val = halves
        pipeline = make_pipeline(FunctionTransformer(halved).fit(X), fitted)
        options = {"n_l1_weights": 8, "X_val": 2 * X_val, "y_val": y_val}
        found = last_layer_path(pipeline, 2 * X, y, **options)
        pd.testing.assert_frame_equal(found, path, check_exact=True)
        display = LastLayerPathDisplay.from_estimator(pipeline, 2 * X, y, **options)
        pd.testing.assert_frame_equal(display.path, path, check_exact=True)
        assert display.l1_weight == fitted.l1_weight_
        plt.close(display.figure_)

    def test_a_search_has_the_path_of_its_best_estimator(self, halves):
        X, y = halves[0], halves[1]
        clf = ProtoPNetClassifier(image_shape=(8, 8), **QUICK)
        pipeline = make_pipeline(FunctionTransformer(halved), clf)
        grid = {"protopnetclassifier__l1_weight": [1e-3]}
        search = GridSearchCV(pipeline, grid, cv=2).fit(X, y)
        best = search.best_estimator_[-1]
        expected = last_layer_path(best, halved(X), y, n_l1_weights=2)
        found = last_layer_path(search, X, y, n_l1_weights=2)
        pd.testing.assert_frame_equal(found, expected, check_exact=True)
        display = LastLayerPathDisplay.from_estimator(search, X, y, n_l1_weights=2)
        assert display.l1_weight == 1e-3
        plt.close(display.figure_)

    def test_another_classifier_is_refused(self, halves):
        another = SVC().fit(*halves[:2])
        for estimator in (another, make_pipeline(FunctionTransformer(halved), another)):
            with pytest.raises(TypeError, match=r"ends in one, got (SVC|Pipeline)\."):
                last_layer_path(estimator, *halves[:2])

    def test_a_row_that_is_not_solved_warns_the_caller(self):
        X, y = np.random.default_rng(0).normal(size=(12, 6, 6)), np.arange(12) % 3
        clf = ProtoPNetClassifier(**QUICK).fit(X, y)
        clf.l2_weight_ = 1e-20  # next to nothing holds the weights
        with pytest.warns(ConvergenceWarning, match="within .* of the minimum") as caught:
            last_layer_path(clf, X, y, l1_weights=[0.0])
        assert caught[0].filename == __file__


class TestDisplay:
    def test_it_draws_what_the_table_says(self, path, fitted, halves):
        X, y, X_val, y_val = halves
        display = LastLayerPathDisplay.from_estimator(
            fitted, X, y, n_l1_weights=8, X_val=X_val, y_val=y_val
        )
        assert display.path.equals(path)
        for line, name in zip(display.lines_, ("train_score", "validation_score"), strict=True):
            assert np.array_equal(line.get_xdata(), path["l1_weight"])
            assert np.array_equal(line.get_ydata(), path[name])
        (area,) = display.share_ax_.collections
        corners = area.get_paths()[0].vertices
        for point in zip(path["l1_weight"], path["off_class_share"], strict=True):
            assert np.isclose(corners, point, rtol=1e-12).all(1).any()
        assert display.share_ax_.get_ylim() == (0, 1)
        labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
        assert labels == ["train score", "validation score", "l1_weight 0.0001"]
        assert display.ax_.get_xlim() == tuple(path["l1_weight"].iloc[[0, -1]])

    def test_without_validation_images_there_is_one_line(self, fitted, halves):
        display = LastLayerPathDisplay.from_estimator(fitted, *halves[:2], n_l1_weights=3)
        assert len(display.lines_) == 1

    def test_it_draws_in_the_axes_it_is_given_and_again(self, path):
        figure, axes = plt.subplots()
        display = LastLayerPathDisplay(path=path)
        assert display.plot(ax=axes) is display
        assert (display.ax_, display.figure_) == (axes, figure)
        labels = [text.get_text() for text in axes.get_legend().get_texts()]
        assert labels == ["train score", "validation score"]
        assert display.plot().figure_ is not figure

    @pytest.mark.parametrize("penalties", [[0.0], [np.inf, 1e-3, 0.0]])
    def test_penalties_without_a_logarithm_are_drawn(self, fitted, halves, penalties):
        display = LastLayerPathDisplay.from_estimator(fitted, *halves[:2], l1_weights=penalties)
        display.figure_.canvas.draw()
        assert len(display.path) == len(penalties)
