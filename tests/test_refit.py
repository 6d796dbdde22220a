"""Another last layer for the same network: refit, and networks from a cache."""

import pickle

import joblib
import numpy as np
import pytest
from quick import QUICK
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from test_classifier import assert_same_bits, logits_of
from torch import nn

from sklearn_protopnet import ProtoPNetClassifier, solve_last_layer

FITTED = ("coef_", "last_layer_gap_", "l1_weight_", "l2_weight_")


@pytest.fixture(scope="module")
def digits(digits):
    """Some ten images of each class."""
    X, y = digits
    return X[::3], y[::3]


@pytest.fixture(scope="module")
def small(digits):
    return ProtoPNetClassifier(image_shape=(8, 8), **QUICK).fit(*digits)


@pytest.fixture
def refitted(small):
    """A copy for a test to change."""
    return pickle.loads(pickle.dumps(small))


def training_of(clf):
    """How long its first epoch took: a network from the cache brings that of its training."""
    return clf.history_table()["seconds"].iloc[0]


def count_networks(directory):
    return len(list(directory.rglob("output.pkl")))


class TestRefit:
    def test_on_the_training_images_it_gives_the_same_bits(self, small, refitted, digits):
        X, y = digits
        refitted.refit_last_layer(X, y, l1_weight=1.0, l2_weight=1.0)
        assert not np.array_equal(refitted.coef_, small.coef_)
        order = np.random.default_rng(0).permutation(len(y))
        assert refitted.refit_last_layer(X[order], y[order]) is refitted
        for name in FITTED:
            assert np.array_equal(getattr(refitted, name), getattr(small, name))
        assert np.array_equal(refitted.decision_function(X), small.decision_function(X))

    def test_the_prototypes_stay(self, small, refitted, digits):
        X, y = digits
        refitted.refit_last_layer(X[::2], y[::2], l1_weight=0.01)
        assert np.array_equal(refitted.transform(X), small.transform(X))
        assert np.array_equal(refitted.prototypes_, small.prototypes_)
        one, other = refitted.prototype_table(), small.prototype_table()
        assert one.loc[:, :"n_duplicates"].equals(other.loc[:, :"n_duplicates"])

    def test_it_solves_the_problem_of_the_new_penalties(self, refitted, digits):
        X, y = digits
        weights = np.random.default_rng(0).uniform(0.5, 2.0, len(y))
        refitted.refit_last_layer(X, y, sample_weight=weights, l1_weight=0.01, l2_weight=0.1)
        solution = solve_last_layer(
            refitted.transform(X),
            y,
            refitted.prototype_classes_,
            l1_weight=0.01,
            l2_weight=0.1,
            sample_weight=weights,
            tol=1e-12,
        )
        assert (refitted.l1_weight_, refitted.l2_weight_) == (0.01, 0.1)
        assert (refitted.l1_weight, refitted.l2_weight) == (1e-4, 3e-4)
        distance = np.square(refitted.coef_ - solution.coef).sum()
        assert distance <= 4 * (refitted.last_layer_gap_ + solution.gap) / 0.1

    def test_tables_and_decisions_are_of_the_new_last_layer(self, refitted, digits):
        X, y = digits
        before = refitted.decision_function(X)  # a network is there to be replaced
        refitted.refit_last_layer(X, y, l1_weight=0.03)
        logits = refitted.decision_function(X)
        assert not np.allclose(logits, before)
        np.testing.assert_allclose(logits, refitted.transform(X) @ refitted.coef_.T, rtol=1e-12)
        np.testing.assert_allclose(logits_of(refitted.explain(X, classes="all")), logits, rtol=1e-9)
        copied = pickle.loads(pickle.dumps(refitted))
        assert np.array_equal(copied.decision_function(X), logits)

    def test_infinity_leaves_the_own_prototypes(self, refitted, digits):
        refitted.refit_last_layer(*digits, l1_weight=np.inf)
        own = refitted.prototype_classes_ == refitted.classes_[:, None]
        assert np.array_equal(refitted.coef_ != 0, own)

    def test_class_weights_count(self, digits):
        X, y = digits
        clf = ProtoPNetClassifier(image_shape=(8, 8), class_weight={3: 5.0}, **QUICK).fit(X, y)
        fitted = clf.coef_
        assert np.array_equal(clf.refit_last_layer(X, y).coef_, fitted)
        clf.set_params(class_weight=None)
        assert not np.array_equal(clf.refit_last_layer(X, y).coef_, fitted)

    def test_history_has_a_row_more(self, small, refitted, digits):
        X, y = digits
        refitted.refit_last_layer(X, y, l1_weight=0.01)
        history = refitted.history_table()
        assert len(history) == len(small.history_table()) + 1
        before, row = history.iloc[-2], history.iloc[-1]
        assert (row["stage"], row["round"], row["epoch"]) == ("refit", 1, before["epoch"])
        assert row["accuracy_before"] == before["accuracy"]
        assert row["accuracy"] == refitted.score(X, y)
        assert row["gap"] == refitted.last_layer_gap_ <= 1e-6 * row["loss"]
        assert np.isnan(row["validation_accuracy"])
        assert refitted.n_iter_ == small.n_iter_

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                {"y": lambda y: np.where(y == 3, 33, y)},
                r"of the training y only, .* \[33\]",
            ),
            ({"y": lambda y: y[:-1]}, "one label for each of the 100 images in X"),
            ({"y": lambda y: np.zeros_like(y)}, "at least 2 classes"),
            ({"X": lambda X: X[:, :-1]}, "features"),
            ({"X": lambda X: np.where(X == 0, np.nan, X)}, "NaN"),
            ({"sample_weight": lambda _: np.zeros(100)}, "non-zero"),
            ({"l1_weight": lambda _: -1.0}, "'l1_weight' parameter of .*refit_last_layer"),
            ({"l2_weight": lambda _: 0.0}, "'l2_weight' parameter of .*refit_last_layer"),
        ],
    )
    def test_bad_arguments_leave_everything_as_it_was(self, refitted, digits, change, message):
        arguments = dict(zip(("X", "y"), digits, strict=True))
        arguments |= {name: make(arguments.get(name)) for name, make in change.items()}
        predicted = refitted.decision_function(digits[0])
        before = dict(vars(refitted))
        with pytest.raises(ValueError, match=message):
            refitted.refit_last_layer(**arguments)
        assert vars(refitted) == before
        assert np.array_equal(refitted.decision_function(digits[0]), predicted)

    @pytest.mark.parametrize(
        "parameters", [{"l1_weight": -5.0}, {"l2_weight": 0}, {"class_weight": "nonsense"}]
    )
    def test_parameters_of_the_constructor_are_checked(self, refitted, digits, parameters):
        refitted.set_params(**parameters)
        with pytest.raises(ValueError, match=f"'{next(iter(parameters))}' parameter"):
            refitted.refit_last_layer(*digits)

    def test_labels_that_are_none_are_refused(self, refitted, digits):
        X, y = digits
        with pytest.raises(ValueError, match=r"of the training y only, .* \[None\]"):
            refitted.refit_last_layer(X, np.where(y == 3, None, y))

    def test_weights_changed_by_hand_change_decisions_and_reasons_alike(self, refitted, digits):
        X, _ = digits
        refitted.decision_function(X)  # a network is there
        refitted.coef_ *= -1
        logits = logits_of(refitted.explain(X, classes="all"))
        np.testing.assert_allclose(refitted.decision_function(X), logits, rtol=1e-9)

    def test_it_needs_a_fitted_classifier(self, digits):
        with pytest.raises(NotFittedError):
            ProtoPNetClassifier().refit_last_layer(*digits)

    def test_a_last_layer_that_is_not_solved_warns(self, refitted, digits):
        with pytest.warns(ConvergenceWarning, match="within .* of the minimum"):
            refitted.refit_last_layer(*digits, l1_weight=0.0, l2_weight=1e-30)

    def test_text_is_no_number(self, small, digits):
        """With as many classes NumPy would find "3" among the numbers."""
        X, y = digits
        with pytest.raises(ValueError, match=r"y must hold classes of .* got \['0'"):
            pickle.loads(pickle.dumps(small)).refit_last_layer(X, y.astype(str))


class TestMemory:
    def test_a_network_from_the_cache_is_the_same(self, small, digits, tmp_path):
        X, y = digits
        memory = joblib.Memory(str(tmp_path), verbose=0)
        trainings = set()
        for form in (str(tmp_path), memory):
            clf = clone(small).set_params(memory=form).fit(X, y)
            assert_same_bits(clf, small)
            assert np.array_equal(clf.decision_function(X), small.decision_function(X))
            columns = clf.history_table().columns.drop("seconds")
            assert clf.history_table()[columns].equals(small.history_table()[columns])
            trainings.add(training_of(clf))
        assert len(trainings) == 1

    def test_nothing_is_left_in_a_cache_that_is_mapped(self, small, digits, tmp_path):
        memory = joblib.Memory(str(tmp_path), mmap_mode="r", verbose=0)
        for _ in range(2):
            clf = clone(small).set_params(memory=memory).fit(*digits)
        arrays = [value for value in vars(clf).values() if isinstance(value, np.ndarray)]
        arrays += clf.state_["network"].values()
        assert {type(array) for array in arrays} == {np.ndarray}
        assert all(array.flags.writeable for array in arrays)
        assert_same_bits(clf, small)

    def test_rows_are_those_of_the_new_order(self, small, digits, tmp_path):
        X, y = digits
        first = clone(small).set_params(memory=str(tmp_path)).fit(X, y)
        order = np.random.default_rng(0).permutation(len(y))
        clf = clone(small).set_params(memory=str(tmp_path)).fit(X[order], y[order])
        assert training_of(clf) == training_of(first)
        assert np.array_equal(order[clf.prototype_sample_indices_], small.prototype_sample_indices_)
        assert np.array_equal(clf.prototype_images_, small.prototype_images_)

    def test_labels_may_have_other_names(self, small, digits, tmp_path):
        X, y = digits
        names = np.array([f"digit {label}" for label in range(10)])
        first = clone(small).set_params(memory=str(tmp_path)).fit(X, y)
        clf = clone(small).set_params(memory=str(tmp_path)).fit(X, names[y])
        assert training_of(clf) == training_of(first)
        assert np.array_equal(clf.predict(X), names[small.predict(X)])

    def test_a_grid_over_penalties_trains_once_for_each_split(self, digits, tmp_path):
        clf = ProtoPNetClassifier(image_shape=(8, 8), memory=str(tmp_path), **QUICK)
        grid = {"l1_weight": [1e-4, 1e-3], "l2_weight": [1e-3, 1e-2]}
        search = GridSearchCV(clf, grid, cv=2).fit(*digits)
        assert count_networks(tmp_path) == 3  # two splits, and all images at the end
        plain = GridSearchCV(clone(clf).set_params(memory=None), grid, cv=2).fit(*digits)
        for name in ("split0_test_score", "split1_test_score"):
            assert np.array_equal(search.cv_results_[name], plain.cv_results_[name])
        assert np.array_equal(search.best_estimator_.coef_, plain.best_estimator_.coef_)

    def test_with_a_last_layer_between_rounds_penalties_count(self, digits, tmp_path):
        rounds = {**QUICK, "joint_epochs": 2, "projection_interval": 1}
        clf = ProtoPNetClassifier(image_shape=(8, 8), memory=str(tmp_path), **rounds)
        for l1_weight, count in ((1e-4, 1), (1e-3, 2), (1e-4, 2)):
            clf.set_params(l1_weight=l1_weight).fit(*digits)
            assert count_networks(tmp_path) == count

    def test_validation_scores_come_from_the_cache_too(self, digits, tmp_path):
        X, y = digits
        clf = ProtoPNetClassifier(image_shape=(8, 8), memory=str(tmp_path), **QUICK)
        held_out = {"X_val": X[::3], "y_val": y[::3]}
        one, other = (clf.fit(X, y, **held_out).history_table() for _ in "ab")
        assert one["validation_accuracy"].equals(other["validation_accuracy"])
        assert other["validation_accuracy"].iloc[-1] == clf.score(X[::3], y[::3])
        assert one["seconds"].iloc[0] == other["seconds"].iloc[0]

    def test_a_module_is_cached_by_what_it_holds(self, digits, tmp_path):
        X, y = digits
        backbone = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU())
        clf = ProtoPNetClassifier(
            image_shape=(8, 8), backbone=backbone, memory=str(tmp_path), **QUICK
        )
        one, other = clone(clf).fit(X, y), clone(clf).fit(X, y)
        assert training_of(one) == training_of(other)
        assert_same_bits(one, other)
        nn.init.ones_(backbone[0].bias)
        assert training_of(clf.fit(X, y)) != training_of(one)

    def test_what_changes_a_training_has_its_own(self, digits, tmp_path):
        X, y = (values[::3] for values in digits)
        dropouts = [{"augment": nn.Dropout(rate)} for rate in (0.1, 0.2)]
        changes = ({}, *dropouts, {"precision": "bfloat16"})
        for _ in range(2):
            for change in changes:
                clf = ProtoPNetClassifier(image_shape=(8, 8), memory=str(tmp_path), **QUICK)
                clf.set_params(**{"precision": "float32", **change}).fit(X, y)
                assert clf.score(X, y) == clf.history_table()["accuracy"].iloc[-1]
        assert count_networks(tmp_path) == len(changes)

    def test_a_failed_training_leaves_nothing(self, digits, tmp_path):
        X, y = digits
        clf = ProtoPNetClassifier(image_shape=(8, 8), memory=str(tmp_path), **QUICK)
        with pytest.raises(ValueError, match="must stay finite"):
            clf.set_params(learning_rate=1e30).fit(X, y)
        assert count_networks(tmp_path) == 0

    def test_memory_is_a_directory_or_joblibs(self, digits):
        with pytest.raises(ValueError, match="'memory' parameter"):
            ProtoPNetClassifier(memory=3).fit(*digits)
