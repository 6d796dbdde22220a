"""The editor: constrained optima, their costs, and that nothing else changes."""

import copy
import json
import pickle
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as given_settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from pandas.testing import assert_frame_equal
from quick import QUICK
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from test_last_layer import random_problem
from torch import nn

from sklearn_protopnet import ProtoPNetClassifier, ProtoPNetEnsemble, load, solve_last_layer
from sklearn_protopnet._fitted import fitted_network
from sklearn_protopnet._last_layer import (
    Constraints,
    Hessian,
    Problem,
    _newton,
    off_class_mask,
    solve_near,
)
from sklearn_protopnet.editing import PrototypeEditor, _selection
from sklearn_protopnet.editing._costs import costs as costs_of
from sklearn_protopnet.editing._tables import COST_COLUMNS, LOG_COLUMNS
from sklearn_protopnet.inspection import (
    activated_prototypes,
    image_digest,
    last_layer_path,
    nearest_patches,
    write_report,
)
from sklearn_protopnet.metrics import prototype_report

N_CLASSES, PER_CLASS = 3, 3


def problem_of(given_problem, l1_weight, l2_weight):
    """Give a random problem of three classes with these penalties."""
    return Problem(
        given_problem["similarities"],
        given_problem["y"],
        given_problem["sample_weight"],
        off_class_mask(given_problem["prototype_classes"], 3),
        l1_weight,
        l2_weight,
    )


@pytest.fixture(scope="module")
def data():
    X, y = load_digits(n_class=N_CLASSES, return_X_y=True)
    return X.reshape(-1, 8, 8), y


@pytest.fixture(scope="module")
def train(data):
    return data[0][:120], data[1][:120]


@pytest.fixture(scope="module")
def held_out(data):
    return data[0][120:200], data[1][120:200]


@pytest.fixture(scope="module")
def clf(train):
    epochs = {"pretraining_epochs": 10, "joint_epochs": 3}
    settings = {**QUICK, **epochs, "n_prototypes_per_class": PER_CLASS, "prototype_depth": 16}
    return ProtoPNetClassifier(**settings).fit(*train)


@pytest.fixture
def editor(clf, train, held_out):
    return PrototypeEditor(clf, *train, X_val=held_out[0], y_val=held_out[1])


@pytest.fixture
def owners(clf):
    return np.searchsorted(clf.classes_, clf.prototype_classes_)


def one_each():
    """Give a classifier with a prototype of each class, to be fitted in no time."""
    return ProtoPNetClassifier(**{**QUICK, "n_prototypes_per_class": 1})


def bits(clf):
    """All fitted attributes, as bytes."""
    return pickle.dumps({name: value for name, value in vars(clf).items() if name.endswith("_")})


def solved(clf, train, forbidden=(), required=()):
    """The constrained optimum by the public function, without forbidden columns at all."""
    kept = np.setdiff1d(np.arange(len(clf.prototypes_)), forbidden)
    owners = np.searchsorted(clf.classes_, clf.prototype_classes_)
    found = solve_last_layer(
        clf.transform(train[0])[:, kept],
        train[1],
        owners[kept],
        l1_weight=clf.l1_weight_,
        l2_weight=clf.l2_weight_,
        tol=1e-10,
    )
    coef = np.zeros_like(clf.coef_)
    coef[:, kept] = found.coef
    return coef, found.objective


class TestForbid:
    def test_the_rest_is_the_optimum_without_the_columns(self, editor, clf, train):
        edited = editor.forbid([0, 4]).classifier_
        coef, objective = solved(clf, train, [0, 4])
        row = editor.log().iloc[-1]
        assert_array_equal(edited.coef_[:, [0, 4]], 0.0)
        assert row["gap"] <= 1e-6 * row["objective"]
        assert row["objective"] - row["gap"] <= objective <= row["objective"] * (1 + 1e-10)
        distance = np.linalg.norm(edited.coef_ - coef)
        assert distance <= np.sqrt(2 * row["gap"] / clf.l2_weight_) + 1e-5

    def test_the_classifier_that_was_given_stays_as_it_was(self, editor, clf):
        before = bits(clf)
        editor.forbid(1).require(0, min_weight=3.0).rename({2: "two"})
        assert bits(clf) == before

    def test_edits_add_up(self, editor, clf, train):
        one_by_one = editor.forbid(0).forbid(4).classifier_
        _, objective = solved(clf, train, [0, 4])
        row = editor.log().iloc[-1]
        assert_array_equal(one_by_one.coef_[:, [0, 4]], 0.0)
        assert_allclose(row["objective"], objective, rtol=2e-6)

    def test_a_class_keeps_one(self, editor, clf, owners):
        of_first = np.flatnonzero(owners == 0)
        before = bits(editor.classifier_)
        with pytest.raises(ValueError, match=r"Every class must keep a prototype.*\[0\]"):
            editor.forbid(of_first)
        editor.forbid(of_first[:-1])
        with pytest.raises(ValueError, match="Every class must keep a prototype"):
            editor.forbid(of_first[-1])
        assert bits(editor.undo().classifier_) == before

    def test_it_can_be_allowed_again(self, editor, clf):
        row = editor.forbid([0, 4]).allow([0, 4]).log().iloc[-1]
        assert_allclose(row["objective"], editor.log()["objective_before"][0], rtol=2e-6)
        with pytest.raises(ValueError, match=r"must be forbidden, merged or required, got \[4\]"):
            editor.allow(4)

    @pytest.mark.parametrize(
        "wrong", [-1, 9, 1.0, True, [0, 9], "nobody", "", None, [[0]], np.float64(2), {0, 9}]
    )
    def test_an_unknown_prototype_is_an_error(self, editor, wrong):
        before = bits(editor.classifier_)
        with pytest.raises(ValueError, match="Prototypes must be numbers from 0 to 8"):
            editor.forbid(wrong)
        assert bits(editor.classifier_) == before
        assert editor.log().empty

    def test_sets_and_numpy_integers_will_do(self, editor):
        editor.forbid({0, 4}).forbid(np.int64(7)).forbid(np.array(8))
        assert editor.log()["prototypes"].tolist() == [(0, 4), (7,), (8,)]
        with pytest.raises(ValueError, match="must be a prototype to edit, got none"):
            editor.forbid([])

    def test_a_refit_and_a_path_hold_to_it(self, editor, train):
        edited = editor.forbid(0).require(1, min_weight=4.0).classifier_
        refitted = copy.deepcopy(edited).refit_last_layer(*train, l1_weight=1e-2)
        assert_array_equal(refitted.coef_[:, 0], 0.0)
        assert refitted.coef_[0, 1] >= 4.0
        again = copy.deepcopy(edited).refit_last_layer(*train)
        assert_allclose(again.coef_, edited.coef_, atol=1e-2)
        free = last_layer_path(editor.undo().undo().classifier_, *train, l1_weights=[1e-3])
        bound = last_layer_path(edited, *train, l1_weights=[1e-3])
        assert bound["objective"][0] > free["objective"][0] + bound["gap"][0]


class TestRequire:
    def test_weights_are_as_large(self, editor, clf, owners):
        least = clf.coef_[owners, np.arange(9)][[1, 5]] + [1.0, 2.0]
        edited = editor.require([1, 5], min_weight=least).classifier_
        assert (edited.coef_[owners[[1, 5]], [1, 5]] >= least).all()
        row = editor.log().iloc[0]
        assert row["gap"] <= 1e-6 * row["objective"]
        assert row["objective"] > row["objective_before"]

    def test_each_has_its_own_weight(self, editor):
        edited = editor.require([5, 1], min_weight=[6.0, 4.0]).classifier_
        assert edited.coef_[1, 5] >= 6.0
        assert 4.0 <= edited.coef_[0, 1] < 6.0
        with pytest.raises(ValueError, match=r"Each prototype must be there once, got \[1, 1\]"):
            editor.require([1, 1], min_weight=[4.0, 4.0])

    def test_a_bound_that_does_not_bind_changes_nothing(self, editor, clf, owners):
        own = clf.coef_[owners, np.arange(9)]
        strong = int(own.argmax())
        row = editor.require(strong, min_weight=own[strong] / 2).log().iloc[0]
        assert_allclose(row["objective"], row["objective_before"], rtol=2e-6)

    def test_contradictions_are_errors(self, editor):
        editor.forbid(0).require(1, min_weight=0.0)
        before = bits(editor.classifier_)
        with pytest.raises(
            ValueError, match=r"required must not be forbidden or merged, got \[0\]"
        ):
            editor.require([0, 2], min_weight=1.0)
        with pytest.raises(ValueError, match=r"forbidden must not be required, got \[1\]"):
            editor.forbid([1, 3])
        assert bits(editor.classifier_) == before

    @pytest.mark.parametrize("wrong", [-0.1, np.nan, np.inf, 1e51, "much", [1.0, 2.0, 3.0], None])
    def test_a_weight_that_is_none_is_an_error(self, editor, wrong):
        with pytest.raises(ValueError, match="min_weight must be a number"):
            editor.require([0, 1], min_weight=wrong)


class TestDuplicates:
    @pytest.fixture
    def doubled(self, clf):
        """Prototypes 1 and 2 are 0, and 3 has the same values but is another class's."""
        changed = copy.deepcopy(clf)
        changed.prototypes_ = clf.prototypes_.copy()
        changed.prototypes_[[1, 2, 3]] = clf.prototypes_[0]
        return changed

    def test_no_logit_changes(self, doubled, train, held_out):
        editor = PrototypeEditor(doubled.refit_last_layer(*train), *train).merge_duplicates()
        assert_allclose(
            editor.classifier_.decision_function(held_out[0]),
            doubled.decision_function(held_out[0]),
            rtol=1e-12,
            atol=1e-12,
        )
        assert_array_equal(editor.classifier_.coef_[:, [1, 2]], 0.0)
        assert_allclose(editor.classifier_.coef_[:, 0], doubled.coef_[:, :3].sum(1), rtol=1e-12)
        assert_array_equal(editor.classifier_.coef_[:, 3:], doubled.coef_[:, 3:])
        assert editor.log()["prototypes"][0] == (1, 2)
        assert editor.log()["n_changed"][0] == 0

    def test_the_merged_ones_have_no_weight_in_later_solutions(self, doubled, train):
        editor = PrototypeEditor(doubled.refit_last_layer(*train), *train)
        editor.merge_duplicates().forbid(8)
        assert_array_equal(editor.classifier_.coef_[:, [1, 2, 8]], 0.0)
        with pytest.raises(ValueError, match="Every class must keep a prototype"):
            editor.forbid(0)
        editor.allow([1]).forbid(0)
        assert editor.classifier_.coef_[0, 1] > 0

    def test_a_required_one_has_no_part_in_it(self, doubled, train):
        doubled.refit_last_layer(*train)
        editor = PrototypeEditor(doubled, *train).require(2, min_weight=30.0).merge_duplicates()
        assert editor.log()["prototypes"][1] == (1,)
        assert editor.classifier_.coef_[0, 2] >= 30.0

    def test_without_any_nothing_happens(self, editor, clf):
        assert_array_equal(editor.merge_duplicates().classifier_.coef_, clf.coef_)
        assert editor.log()["prototypes"][0] == ()


class TestPrune:
    def test_it_is_the_papers_rule(self, editor, clf, train, owners):
        distances = clf.explain(train[0], classes="all").drop_duplicates(["sample", "prototype"])
        wide = distances.pivot_table(index="sample", columns="prototype", values="distance")
        nearest = np.argsort(wide.to_numpy(), axis=0)[:4]
        n_same = (train[1][nearest] == clf.classes_[owners]).sum(0)
        for least in (2, 3, 4):
            leaves = n_same < least
            for k in range(N_CLASSES):
                if leaves[owners == k].all():
                    members = np.flatnonzero(owners == k)
                    best = members[n_same[members] == n_same[members].max()]
                    away = np.sort(wide.to_numpy(), axis=0)[:4].mean(0)
                    leaves[best[away[best].argmin()]] = False
            editor.prune(n_nearest=4, min_same_class=least)
            assert editor.log()["prototypes"].iloc[-1] == tuple(np.flatnonzero(leaves).tolist())
            editor.undo()

    def test_no_class_is_emptied_and_what_is_required_stays(self, editor, clf, train, owners):
        wrong = (train[1] + 1) % N_CLASSES  # no prototype's images are of its class
        editor = PrototypeEditor(clf, train[0], wrong).require([0, 1], min_weight=0.0)
        editor.prune(n_nearest=3, min_same_class=3)
        left = editor.classifier_.coef_.any(0)
        assert left[[0, 1]].all()
        assert len(editor.log()["prototypes"].iloc[-1]) >= 4
        assert set(owners[~np.isin(np.arange(9), editor.log()["prototypes"].iloc[-1])]) == {0, 1, 2}

    @pytest.mark.parametrize("name", ["n_nearest", "min_same_class"])
    def test_numbers_are_checked(self, editor, name):
        with pytest.raises(ValueError, match=f"{name} must be a positive integer"):
            editor.prune(**{name: 0})
        with pytest.raises(ValueError, match="min_same_class must be at most n_nearest"):
            editor.prune(n_nearest=2, min_same_class=3)


class TestNames:
    def test_they_show_and_serve(self, editor, held_out, tmp_path):
        edited = editor.rename({2: "a stroke", 5: "<em>"}).classifier_
        assert edited.prototype_table()["name"].tolist()[2] == "a stroke"
        for table in (
            nearest_patches(edited, held_out[0], k=1),
            activated_prototypes(edited, held_out[0][:2], k=9),
            prototype_report(edited, *held_out, groups=()),
            editor.costs([2, 5]),
        ):
            assert (table["name"][table["prototype"] == 2] == "a stroke").all()
        why = edited.explain(held_out[0][:2])
        assert set(why["name"]) == {"a stroke", "<em>", ""}
        assert (why["name"][why["prototype"] == 5] == "<em>").all()
        page = write_report(edited, held_out[0][:3], tmp_path / "report.html").read_text()
        assert "a stroke" in page
        assert "<em>" not in page
        assert_array_equal(editor.forbid("a stroke").classifier_.coef_[:, 2], 0.0)

    def test_several_may_have_one(self, editor):
        edited = editor.rename({2: "12", 5: "12", 1: "x"}).forbid("12").classifier_
        assert_array_equal(np.flatnonzero(~edited.coef_.any(0)), [2, 5])
        assert editor.rename({"12": "y"}).classifier_.prototype_names_[[2, 5]].tolist() == ["y"] * 2

    def test_they_change_nothing_else(self, clf, train):
        """The gap is that of the images that the last layer was solved for."""
        editor = PrototypeEditor(clf, train[0][:40], train[1][:40]).rename({0: "a"})
        assert editor.classifier_.last_layer_gap_ == clf.last_layer_gap_
        assert editor.log()["gap"][0] > 1e-3

    def test_without_names_there_is_no_column(self, clf, held_out):
        assert "name" not in clf.prototype_table()
        assert "name" not in clf.explain(held_out[0][:1])

    def test_they_can_be_changed_and_taken_away(self, editor):
        editor.rename({2: "a"}).rename({"a": "b", 3: "a"})
        assert editor.classifier_.prototype_names_.tolist() == ["", "", "b", "a", *[""] * 5]
        editor.rename({"b": "", "a": ""})
        assert "name" not in editor.classifier_.prototype_table()

    @pytest.mark.parametrize(
        ("names", "kind", "message"),
        [
            ({9: "x"}, ValueError, "Prototypes must be numbers"),
            ({"a": "x", 0: "y"}, ValueError, "Prototype 0 must have one name, got 'x' and 'y'"),
            ({1: 7}, ValueError, "A name must be text"),
            ({1: " x"}, ValueError, "A name must be text"),
            ({1: "a\nb"}, ValueError, "A name must be text"),
            ({1: "x" * 201}, ValueError, "A name must be text"),
            (["x"], TypeError, "names must be a mapping"),
        ],
    )
    def test_bad_names_are_errors(self, editor, names, kind, message):
        editor.rename({0: "a", 1: "a"})
        before = bits(editor.classifier_)
        with pytest.raises(kind, match=message):
            editor.rename(names)
        assert bits(editor.classifier_) == before


class TestNetworks:
    def test_edits_share_the_network_that_they_do_not_change(self, fitted, digits):
        editor = PrototypeEditor(fitted, *digits)
        for prototype in (0, 3, 6, 9):
            editor.forbid(prototype)
        assert len(editor._snapshots) == 5
        networks = {fitted_network(each.classifier).network for each in editor._snapshots}
        assert len(networks) == 1


class TestUndo:
    EDITS = (
        lambda e: e.forbid([0, 4]),
        lambda e: e.require(1, min_weight=5.0),
        lambda e: e.merge_duplicates(),
        lambda e: e.prune(n_nearest=3, min_same_class=2),
        lambda e: e.rename({3: "three"}),
        lambda e: e.add_prototypes(1, n=1),
        lambda e: e.apply(choice(forbid=[0], keep=[1])),
    )

    def test_an_edit_and_its_undo_give_back_the_bits(self, editor, clf):
        before = bits(clf)
        for edit in self.EDITS:
            edit(editor)
            assert bits(editor.classifier_) != before
            assert bits(editor.undo().classifier_) == before

    def test_what_is_done_to_the_classifier_meanwhile_is_nothing_to_it(self, clf, train):
        given = copy.deepcopy(clf)
        editor = PrototypeEditor(given, *train).forbid(0)
        given.refit_last_layer(*train, l2_weight=1.0).set_params(class_weight={0: 50.0})
        given.set_output(transform="pandas")
        assert bits(editor.undo().classifier_) == bits(clf)
        assert editor.classifier_.class_weight is None
        assert isinstance(editor.classifier_.transform(train[0][:1]), np.ndarray)

    def test_undone_edits_can_be_done_again(self, editor):
        versions = [bits(editor.classifier_)]
        for edit in self.EDITS[:5]:
            versions.append(bits(edit(editor).classifier_))
        for version in versions[-2::-1]:
            assert bits(editor.undo().classifier_) == version
        for version in versions[1:]:
            assert bits(editor.redo().classifier_) == version

    def test_a_new_edit_ends_what_could_be_done_again(self, editor):
        editor.forbid(0).undo().forbid(1)
        with pytest.raises(ValueError, match="must be an edit that was undone"):
            editor.redo()
        editor.undo()
        with pytest.raises(ValueError, match="must be an edit to undo"):
            editor.undo()


class TestEditedClassifier:
    def test_it_is_one_of_its_own(self, editor, train, held_out, tmp_path):
        edited = editor.forbid(0).rename({1: "one"}).classifier_
        expected = edited.decision_function(held_out[0])
        edited.save(tmp_path / "edited.skops")
        for other in (
            load(tmp_path / "edited.skops"),
            pickle.loads(pickle.dumps(edited)),
            copy.deepcopy(edited),
        ):
            assert_array_equal(other.decision_function(held_out[0]), expected)
            assert other.edits_ == edited.edits_
            assert other.prototype_names_.tolist() == edited.prototype_names_.tolist()
            assert other.refit_last_layer(*train).coef_[:, 0].tolist() == [0.0] * N_CLASSES
        assert_array_equal(edited.decision_function(held_out[0]), expected)

    def test_a_later_editor_goes_on(self, editor, train, tmp_path):
        editor.forbid(0).classifier_.save(tmp_path / "edited.skops")
        later = PrototypeEditor(load(tmp_path / "edited.skops"), *train).forbid(4)
        assert_array_equal(later.classifier_.coef_[:, [0, 4]], 0.0)
        assert later.log()["action"].tolist() == ["forbid", "forbid"]
        assert later.log()["prototypes"].tolist() == [(0,), (4,)]

    def test_what_becomes_of_it_is_nothing_to_the_editor(self, editor, clf, train):
        before = bits(clf)
        trained = editor.classifier_.set_params(warm_start=True, joint_epochs=1).fit(*train)
        assert bits(clf) == before
        edited = editor.forbid(0).classifier_
        edited.coef_[:] = 0.0
        edited.prototypes_[:] = 0.0
        editor.classifier_.refit_last_layer(*train, l1_weight=1.0)
        row = editor.forbid(4).log().iloc[-1]
        _, objective = solved(clf, train, [0, 4])
        assert_allclose(row["objective"], objective, rtol=2e-6)
        assert (trained.prototypes_ != clf.prototypes_).any()

    def test_without_images_of_a_class_there_is_a_warning(self, clf, train):
        X, y = train
        with pytest.warns(UserWarning, match=r"No image of classes \[2\] is in X"):
            PrototypeEditor(clf, X[y != 2], y[y != 2])

    def test_what_holds_now_is_a_table(self, editor):
        editor.forbid([4, 0]).require(1, min_weight=2.5).rename({1: "one"})
        table = editor.constraints()
        assert table["prototype"].tolist() == [0, 1, 4]
        assert table["constraint"].tolist() == ["forbidden", "required", "forbidden"]
        assert table["name"].tolist() == ["", "one", ""]
        assert table["min_weight"].tolist()[1] == 2.5
        assert table["min_weight"].isna().sum() == 2
        assert len(editor.allow([0, 1, 4]).constraints()) == 0

    def test_a_new_fit_forgets(self, editor, train):
        edited = editor.forbid(0).rename({1: "one"}).classifier_
        again = edited.fit(*train)
        assert again.edits_ == []
        assert not (again.prototype_names_ != "").any()
        assert again.coef_[:, 0].any()

    def test_a_file_that_is_not_sound_is_refused(self, editor, tmp_path):
        edited = copy.deepcopy(editor.forbid([0, 4]).require(1, min_weight=1.0).classifier_)
        for name, value in (
            ("forbidden", np.array([0, 1])),
            ("forbidden", np.array([0, 9])),
            ("forbidden", np.array([4, 4])),
            ("patch_positions", np.array([0, 10**6])),
            ("patch_prototypes", np.array([0, 9])),
            ("patch_images", edited.prototype_images_[:1]),
            ("min_weights", np.array([1e3])),
            ("min_weights", np.array([np.nan])),
            ("required", np.array([1, 1])),
        ):
            spoilt = copy.deepcopy(edited)
            spoilt.state_["constraints"][name] = value
            with pytest.raises(ValueError, match="found"):
                spoilt.save(tmp_path / "spoilt.skops")


class TestLog:
    def test_it_says_what_was_done_and_what_it_did(self, editor, clf, train, held_out):
        start = clf.score(*train), clf.score(*held_out)
        edited = editor.forbid([0, 4]).classifier_
        log = editor.log()
        assert tuple(log) == LOG_COLUMNS
        assert log.attrs["schema"] == "sklearn_protopnet.edits"
        row = log.iloc[0]
        assert (row["edit"], row["action"], row["prototypes"]) == (1, "forbid", (0, 4))
        assert (row["train_score_before"], row["validation_score_before"]) == start
        assert row["train_score"] == edited.score(*train)
        assert row["validation_score"] == edited.score(*held_out)
        assert row["n_weights_before"] == np.count_nonzero(clf.coef_)
        assert row["n_weights"] == np.count_nonzero(edited.coef_)
        assert row["n_prototypes_in_use"] == edited.coef_.any(0).sum()
        changed = edited.predict(train[0]) != clf.predict(train[0])
        assert row["n_changed"] == changed.sum()
        assert row["objective_before"] + row["gap"] < row["objective"]

    def test_weights_of_samples_and_classes_count(self, clf, train):
        weights = np.linspace(0.1, 2, len(train[0]))
        weighted = copy.deepcopy(clf).set_params(class_weight={0: 2.0})
        weighted.refit_last_layer(*train, sample_weight=weights)
        editor = PrototypeEditor(weighted, *train, sample_weight=weights).rename({0: "x"})
        row = editor.log().iloc[0]
        assert row["gap"] <= 1e-6 * row["objective"]
        assert row["train_score"] == weighted.score(*train, sample_weight=weights)
        unweighted = PrototypeEditor(weighted, *train).rename({0: "x"}).log().iloc[0]
        assert unweighted["gap"] > 1e-6 * row["objective"]


class TestCosts:
    def test_bounds_hold_and_nothing_is_edited(self, editor, clf, train, owners):
        before = bits(editor.classifier_)
        table = editor.costs(tol=1e-3)
        assert tuple(table) == COST_COLUMNS
        assert bits(editor.classifier_) == before
        _, optimum = solved(clf, train)
        for row in table.itertuples():
            _, objective = solved(clf, train, [row.prototype])
            assert row.objective_lower <= objective * (1 + 1e-9)
            assert objective <= row.objective_upper * (1 + 1e-9)
            increase = objective - optimum
            assert row.increase_lower <= increase + 1e-9 * objective
            assert increase <= row.increase_upper + 1e-9 * objective
            assert row.objective_upper - row.objective_lower <= 1e-3 * row.objective_upper
        assert not table["is_last"].any()

    def test_scores_are_those_of_the_edit(self, editor, clf, train):
        table = editor.costs([2, 6], tol=1e-8).set_index("prototype")
        assert table.index.tolist() == [2, 6]
        for number in (2, 6):
            row = editor.forbid(number).log().iloc[-1]
            assert table["train_score"][number] == row["train_score"]
            assert table["validation_score"][number] == row["validation_score"]
            assert table["n_changed"][number] == row["n_changed"]
            editor.undo()

    def test_what_can_go_within_a_loss(self, editor):
        increases = editor.costs(tol=1e-8)["increase_upper"]
        limit = float(np.sort(increases)[4:6].mean())
        table = editor.costs(max_increase=limit, tol=1e-1)
        assert table["can_go"].dtype == "boolean"
        assert_array_equal(table["can_go"].to_numpy(bool), increases <= limit)
        assert editor.costs(max_increase=0.0, tol=1e-1)["can_go"].sum() == (increases == 0).sum()

    def test_what_forbid_refuses_cannot_go(self, editor, owners):
        members = np.flatnonzero(owners == 1)
        table = editor.forbid(members[1:]).require(0, min_weight=0.0).costs(max_increase=10.0)
        assert not table["can_go"][[0, members[0]]].any()
        assert table["can_go"].sum() == 7

    def test_other_images_than_those_of_the_last_solution(self, clf, train):
        """The optimum with all prototypes is found first."""
        table = PrototypeEditor(clf, train[0][:50], train[1][:50]).forbid(3).undo().costs()
        assert (table["increase_upper"] < table["objective_upper"]).all()
        assert (table["increase_upper"] - table["increase_lower"] < 1e-3).all()

    def test_the_last_of_a_class_is_said(self, editor, owners):
        members = np.flatnonzero(owners == 1)
        table = editor.forbid(members[1:]).costs()
        assert np.flatnonzero(table["is_last"]).tolist() == [members[0]]
        assert (table["increase_upper"][members[1:]] <= table["objective_upper"].max() * 1e-6).all()

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"prototypes": [10]}, "Prototypes must be"),
            ({"tol": -1}, "tol must be a positive number"),
            ({"tol": 0.0}, "tol must be a positive number"),
            ({"tol": "x"}, "tol must be"),
            ({"max_increase": np.nan}, "max_increase must be"),
        ],
    )
    def test_bad_questions_are_errors(self, editor, changes, message):
        with pytest.raises(ValueError, match=message):
            editor.costs(**changes)

    @given(seed=st.integers(0, 2**16), l1=st.sampled_from([0.0, 1e-3, 1e-1, np.inf]))
    @given_settings(max_examples=25, deadline=None)
    def test_bounds_hold_on_any_problem(self, seed, l1):
        """Against cold solves without the column, through what costs are made of."""
        given_problem = random_problem(seed)
        problem = problem_of(given_problem, l1, 1e-2)
        start, hessian = solve_near(problem, given_problem["coef_init"], None)
        for number in range(3):
            kept = np.delete(np.arange(6), number)
            cold = solve_last_layer(
                given_problem["similarities"][:, kept],
                given_problem["y"],
                given_problem["prototype_classes"][kept],
                sample_weight=given_problem["sample_weight"],
                coef_init=np.zeros((3, 5)),
                l1_weight=l1,
                l2_weight=1e-2,
                tol=1e-12,
                max_iter=100_000,
            )
            bound = np.full((3, 6), np.inf)
            bound[:, number] = 0.0
            without = replace(problem, lower=-bound, upper=bound)
            warm, _ = solve_near(without, start.coef, hessian, tol=1e-4)
            assert warm.objective - warm.gap <= cold.objective * (1 + 1e-9)
            assert cold.objective - cold.gap <= warm.objective * (1 + 1e-9)
            assert not warm.coef[:, number].any()


def choice(**changes):
    plain = {
        "schema": "sklearn_protopnet.choice",
        "schema_version": 1,
        "forbid": [],
        "keep": [],
        "names": {},
    }
    return {**plain, **changes}


class TestApply:
    @pytest.mark.parametrize("changes", [{"keep": [6]}, {"names": {"6": "foot"}}, {}])
    def test_nothing_need_be_forbidden(self, editor, clf, changes):
        edited = editor.apply(choice(**changes)).classifier_
        assert edited.prototype_names_[6] == changes.get("names", {}).get("6", "")
        if "keep" in changes:
            assert editor.constraints()["prototype"].tolist() == [6]
            assert edited.coef_[2, 6] >= max(clf.coef_[2, 6], 0)
        else:
            assert_allclose(edited.coef_, clf.coef_, atol=1e-3)

    def test_one_edit_does_all_of_it(self, editor, clf, owners):
        edited = editor.apply(choice(forbid=[0], keep=[1], names={"2": "two"})).classifier_
        assert_array_equal(edited.coef_[:, 0], 0.0)
        assert edited.coef_[0, 1] >= max(clf.coef_[0, 1], 0)
        assert edited.prototype_names_[2] == "two"
        row = editor.log().iloc[0]
        assert (row["action"], row["prototypes"]) == ("apply", (0, 1, 2))
        assert row["gap"] <= 1e-6 * row["objective"]
        assert len(editor.log()) == 1

    def test_a_choice_of_the_page_is_read(self, editor, clf, train, tmp_path):
        page = write_report(clf, train[0][:2], tmp_path / "report.html").read_text()
        digest = re.search(r'"modelDigest":"(\w+)"', page).group(1)
        chosen = choice(forbid=[3], model_digest=digest)
        path = tmp_path / "choice.json"
        path.write_text(json.dumps(chosen))
        assert_array_equal(editor.forbid(1).apply(path).classifier_.coef_[:, [1, 3]], 0.0)
        later = PrototypeEditor(editor.add_prototypes(0, n=1).classifier_, *train)
        assert_array_equal(later.apply(path).classifier_.coef_[:, [1, 3]], 0.0)
        chosen["model_digest"] = "0" * 64
        with pytest.raises(ValueError, match="must be made on a report of the prototypes that are"):
            editor.apply(chosen)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"forbid": [9]}, "Prototypes must be numbers"),
            ({"keep": [9]}, "Prototypes must be numbers"),
            ({"names": {"9": "x"}}, "Prototypes must be numbers"),
            ({"forbid": [0, 1, 2]}, "Every class must keep a prototype"),
            ({"schema": "other"}, "schema"),
        ],
    )
    def test_what_cannot_be_changes_nothing(self, editor, changes, message):
        before = bits(editor.classifier_)
        with pytest.raises(ValueError, match=message):
            editor.apply(choice(**changes))
        assert bits(editor.classifier_) == before

    def test_it_takes_back_what_was_asked_of_the_same_prototypes(self, editor):
        edited = (
            editor.forbid(0)
            .require(1, min_weight=1.0)
            .apply(choice(forbid=[1], keep=[0]))
            .classifier_
        )
        assert_array_equal(edited.coef_[:, 1], 0.0)
        assert edited.coef_[0, 0] > 0


class TestAdditions:
    def test_the_patch_at_a_box_becomes_a_prototype(self, editor, clf, train):
        row = int(np.flatnonzero(train[1] == 2)[3])
        edited = editor.add_prototypes(2, sample=row, box=(1, 4, 4, 7)).classifier_
        assert len(edited.prototypes_) == 10
        table = edited.prototype_table().iloc[9]
        assert (table["prototype"], table["prototype_class"], table["source_sample"]) == (9, 2, row)
        assert table["distance"] == 0.0
        centre = (
            table[["source_y0", "source_y1"]].mean(),
            table[["source_x0", "source_x1"]].mean(),
        )
        fields = np.unique(
            edited.explain(train[0][row : row + 1], classes="all", details="patches")[
                ["y0", "y1", "x0", "x1"]
            ],
            axis=0,
        )
        others = np.stack([fields[:, :2].mean(1), fields[:, 2:].mean(1)], 1)
        distance = np.hypot(*(np.array(centre) - [2.5, 5.5]))
        assert distance <= np.hypot(*(others - [2.5, 5.5]).T).min() + 1e-12
        assert_array_equal(edited.prototype_images_[9][..., 0], train[0][row])
        assert_array_equal(edited.prototypes_[:9], clf.prototypes_)
        similarity = edited.transform(train[0][row : row + 1])[0, 9]
        assert similarity > np.quantile(edited.transform(train[0])[:, 9], 0.9)
        rows = editor.log().iloc[0]
        assert rows["objective"] <= rows["objective_before"] + rows["gap_before"]
        assert rows["gap"] <= 1e-6 * rows["objective"]

    def test_old_columns_keep_their_bits_and_quantiles_are_right(self, editor, clf, train):
        edited = editor.add_prototypes(1, n=2).classifier_
        assert_array_equal(edited.transform(train[0])[:, :9], clf.transform(train[0]))
        own = np.sort(edited.transform(train[0][train[1] == 1])[:, 10])
        assert_allclose(edited.similarity_quantiles_[0, 10, [0, 100]], own[[0, -1]], rtol=1e-12)
        assert set(edited.explain(train[0][:3])["prototype"]) == set(range(11))

    def test_chosen_ones_lower_the_objective_more_than_others(self, editor, train, monkeypatch):
        bests = []
        for n_tried in (1, _selection.N_TRIED, _selection.N_CANDIDATES):
            monkeypatch.setattr(_selection, "N_TRIED", n_tried)
            bests.append(editor.add_prototypes(0, n=1).log()["objective"].iloc[-1])
            editor.undo()
        assert (np.diff(bests) <= 1e-5 * bests[0]).all()  # the more are tried, the lower
        objectives = []
        for row in np.flatnonzero(train[1] == 0)[:8].tolist():
            objectives.append(
                editor.add_prototypes(0, sample=row, box=(2, 6, 2, 6)).log()["objective"].iloc[-1]
            )
            editor.undo()
        assert bests[1] < np.median(objectives)
        assert bests[2] <= min(objectives) * (1 + 1e-5)

    def test_a_file_holds_them_and_they_can_be_edited(self, editor, train, tmp_path):
        edited = editor.add_prototypes(0, n=2).forbid([0, 1, 2, 10]).classifier_
        edited.save(tmp_path / "more.skops")
        again = load(tmp_path / "more.skops")
        assert_array_equal(again.predict_proba(train[0]), edited.predict_proba(train[0]))
        assert (again.coef_[:, [0, 1, 2, 10]] == 0).all()
        assert again.coef_[0, 9] > 0

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"label": 7, "n": 1}, r"label must be a class among \[0, 1, 2\], got 7"),
            ({"label": "0", "n": 1}, "label must be a class"),
            ({"label": [0], "n": 1}, "label must be a class"),
            ({"label": 0}, "Either sample and box must be given, or n"),
            ({"label": 0, "sample": 0}, "Either sample and box"),
            ({"label": 0, "sample": 0, "box": (0, 2, 0, 2), "n": 1}, "Either sample and box"),
            ({"label": 0, "n": 0}, "n must be a positive integer"),
            ({"label": 0, "n": 10**6}, "There must be 1000000 patches of class"),
            ({"label": 0, "sample": 120, "box": (0, 2, 0, 2)}, "sample must be a position in X"),
            ({"label": 0, "sample": 0.0, "box": (0, 2, 0, 2)}, "sample must be a position in X"),
            ({"label": 0, "sample": 1, "box": (0, 2, 0, 2)}, "sample must be an image of class"),
            ({"label": 0, "sample": 0, "box": (0, 9, 0, 2)}, "box must be integers"),
            ({"label": 0, "sample": 0, "box": (-1, 2, 0, 2)}, "box must be integers"),
            ({"label": 0, "sample": 0, "box": (2, 2, 0, 2)}, "box must be integers"),
            ({"label": 0, "sample": 0, "box": (0.5, 2, 0, 2)}, "box must be integers"),
            ({"label": 0, "sample": 0, "box": "all"}, "box must be integers"),
            ({"label": 0, "sample": True, "box": (0, 2, 0, 2)}, "sample must be a position in X"),
            ({"label": 0, "sample": 0, "box": (0, 2, 0)}, "box must be integers"),
        ],
    )
    def test_what_cannot_be_changes_nothing(self, editor, arguments, message):
        before = bits(editor.classifier_)
        with pytest.raises(ValueError, match=message):
            editor.add_prototypes(**arguments)
        assert bits(editor.classifier_) == before

    def test_a_box_may_come_from_a_table(self, editor, clf):
        row = clf.prototype_table().iloc[0]
        box = row[["source_y0", "source_y1", "source_x0", "source_x1"]]
        with pytest.raises(ValueError, match="must be a new one, got that of prototype 0"):
            editor.add_prototypes(0, sample=row["source_sample"], box=box)

    def test_a_network_that_sees_all_of_an_image_has_no_places(self, train):
        wide = nn.Sequential(nn.Conv2d(1, 4, 9, padding=8), nn.ReLU())
        clf = ProtoPNetClassifier(**QUICK, backbone=wide).fit(*train)
        with pytest.raises(ValueError, match="must see a part of the image"):
            PrototypeEditor(clf, *train).add_prototypes(0, sample=0, box=(3, 5, 3, 5))

    def test_a_class_whose_images_weigh_nothing(self, clf, train):
        X, y = train
        with pytest.warns(UserWarning, match="No image of classes"):
            editor = PrototypeEditor(clf, X, y, sample_weight=(y != 2).astype(float))
        with pytest.raises(ValueError, match="an image of class 2 of positive weight, got none"):
            editor.add_prototypes(2, n=1)
        row = int(np.flatnonzero(y == 2)[0])
        edited = editor.add_prototypes(2, sample=row, box=(1, 4, 4, 7)).classifier_
        assert np.isnan(edited.similarity_quantiles_[0, 9]).all()

    def test_a_patch_becomes_one_prototype_only(self, editor):
        place = {"sample": 0, "box": (2, 6, 2, 6)}
        editor.add_prototypes(0, **place)
        with pytest.raises(ValueError, match="must be a new one, got that of prototype 9"):
            editor.add_prototypes(0, **place)


class TestNewClass:
    @pytest.fixture
    def threes(self):
        X, y = load_digits(return_X_y=True)
        return X[y == 3].reshape(-1, 8, 8)

    def test_it_is_recognised(self, editor, clf, threes, train, held_out):
        editor.add_class(threes[:60], 3, n_prototypes=4)
        edited = editor.classifier_
        assert edited.classes_.tolist() == [0, 1, 2, 3]
        assert edited.coef_.shape == (4, 13)
        assert (edited.predict(threes[60:]) == 3).mean() > 0.8
        assert edited.score(*held_out) > clf.score(*held_out) - 0.06
        row = editor.log().iloc[0]
        assert row["gap"] <= 1e-6 * row["objective"]
        assert row["prototypes"] == (9, 10, 11, 12)
        sources = edited.prototype_table()["source_sample"][9:] - len(train[0])
        assert ((sources >= 0) & (sources < 60)).all()
        for source, image in zip(sources, edited.prototype_images_[9:], strict=True):
            assert image_digest(image) == image_digest(threes[source])

    @pytest.mark.parametrize("scale", [1e-3, 1e3])
    def test_only_ratios_of_weights_count(self, clf, threes, train, scale):
        objectives = [
            PrototypeEditor(clf, *train, sample_weight=np.full(120, weight))
            .add_class(threes[:30], 3, n_prototypes=2)
            .log()["objective"][0]
            for weight in (1.0, scale)
        ]
        assert_allclose(objectives[1], objectives[0], rtol=1e-5)

    def test_a_new_image_counts_a_quarter_of_an_old_one(self, clf, train, threes):
        editor = PrototypeEditor(clf, *train, sample_weight=np.full(120, 3.0))
        plain = editor.add_class(threes[:30], 3, n_prototypes=2).classifier_
        given = editor.undo().add_class(
            threes[:30], 3, n_prototypes=2, sample_weight=np.full(30, 0.75)
        )
        assert_array_equal(given.classifier_.coef_, plain.coef_)

    def test_the_more_new_images_count_the_more_is_taken_for_them(self, editor, threes, held_out):
        found = []
        for weight in (0.01, 1.0, 100.0):
            editor.add_class(threes[:60], 3, n_prototypes=2, sample_weight=np.full(60, weight))
            edited = editor.classifier_
            images = np.concatenate([threes[60:], held_out[0].reshape(-1, 8, 8)])
            found.append(edited.predict_proba(images)[:, 3].mean())
            editor.undo()
        assert found[0] < found[1] < found[2]

    def test_all_new_classes_count_alike(self, editor, clf, train):
        X, y = load_digits(return_X_y=True)
        for label in (3, 4):
            editor.add_class(X[y == label][:20].reshape(-1, 8, 8), label, n_prototypes=1)
        said = editor.log()["detail"].tolist()
        assert said == [f"label={label}, 20 images of weight 0.25" for label in (3, 4)]
        weights = np.repeat([1.0, 0.25], [120, 40])
        X = np.concatenate([train[0], *(X[y == k][:20].reshape(-1, 8, 8) for k in (3, 4))])
        y = np.append(train[1], np.repeat([3, 4], 20))
        assert_allclose(
            editor.log()["train_score"][1], editor.classifier_.score(X, y, sample_weight=weights)
        )
        later = PrototypeEditor(editor.classifier_, X, y, sample_weight=weights).forbid(0)
        assert_allclose(later.classifier_.coef_, editor.forbid(0).classifier_.coef_, atol=1e-2)

    def test_one_number_is_the_weight_of_all(self, editor, threes):
        each = editor.add_class(threes[:30], 3, n_prototypes=1, sample_weight=np.full(30, 2.5))
        coef = each.classifier_.coef_
        one = editor.undo().add_class(threes[:30], 3, n_prototypes=1, sample_weight=2.5)
        assert_array_equal(one.classifier_.coef_, coef)
        assert one.log()["detail"][0] == "label=3, 30 images of weight 2.5"

    def test_balanced_classes_count_alike_whatever_the_weights(self, clf, train, threes):
        balanced = copy.deepcopy(clf).set_params(class_weight="balanced")
        editor = PrototypeEditor(balanced, *train)
        coefs = []
        for weight in (0.25, 4.0):
            given = np.full(30, weight)
            editor.add_class(threes[:30], 3, n_prototypes=1, sample_weight=given)
            coefs.append(editor.classifier_.coef_)
            editor.undo()
        assert_allclose(coefs[1], coefs[0], atol=1e-6)

    @pytest.mark.parametrize(
        ("dtype", "shift", "label", "expected"),
        [
            (np.uint64, 0, 300, np.uint64),
            (np.uint64, 2**60, 2**60 + 9, np.uint64),
            (np.int64, 2**60, 2**60 + 9, np.int64),
            (np.int64, 2**60, 2**63, np.uint64),
            (np.uint8, 0, 300, np.int64),
            (np.uint64, 0, -1, np.int64),
        ],
    )
    def test_integers_stay_what_they_are(self, train, threes, dtype, shift, label, expected):
        X, y = train[0], train[1].astype(dtype) + dtype(shift)
        clf = one_each().fit(X, y)
        edited = PrototypeEditor(clf, X, y).add_class(threes[:30], label).classifier_
        assert edited.classes_.dtype == edited.prototype_classes_.dtype == expected
        assert edited.classes_.tolist() == sorted([shift, shift + 1, shift + 2, label])
        assert edited.prototype_classes_.tolist() == [shift, shift + 1, shift + 2, label]
        assert set(edited.predict(X).tolist()) <= {shift, shift + 1, shift + 2, label}
        assert edited.predict(X).dtype == expected

    def test_integers_that_no_dtype_holds(self, train, threes):
        X, y = train[0], train[1] - 1
        clf = one_each().fit(X, y)
        editor = PrototypeEditor(clf, X, y)
        with pytest.raises(
            ValueError, match=r"No type of integers holds the labels \[-1, 0, 1, 92"
        ):
            editor.add_class(threes[:30], 2**63)
        assert editor.log().empty

    def test_weights_beside_which_the_others_are_none(self, clf, train, threes):
        editor = PrototypeEditor(clf, *train, sample_weight=np.full(120, 1e-300))
        with pytest.raises(ValueError, match="needs images of at least 2 classes with positive"):
            editor.add_class(threes[:30], 3, sample_weight=1e308)
        assert editor.log().empty

    def test_the_log_has_the_whole_weight(self, clf, train, threes):
        weights = np.ones(120)
        weights[:80] = 0.1
        editor = PrototypeEditor(clf, *train, sample_weight=weights)
        found = editor.add_class(threes[:30], 3, n_prototypes=1)
        said = float(found.log()["detail"][0].split()[-1])
        again = PrototypeEditor(clf, *train, sample_weight=weights).add_class(
            threes[:30], 3, n_prototypes=1, sample_weight=said
        )
        assert_array_equal(again.classifier_.coef_, found.classifier_.coef_)

    def test_class_weights_of_some_classes(self, clf, train, threes):
        """What a dict leaves out counts 1, also where a class has no images here."""
        named = copy.deepcopy(clf).set_params(class_weight={0: 1.0, 1: 2.0, 2: 3.0})
        X, y = train[0][train[1] > 0], train[1][train[1] > 0]
        with pytest.warns(UserWarning, match="No image of classes"):
            editor = PrototypeEditor(named, X, y)
        edited = editor.add_class(threes[:30], 3, n_prototypes=1).classifier_
        assert edited.classes_.tolist() == [0, 1, 2, 3]

    @pytest.mark.parametrize("scale", [1e308, 1e-308])
    def test_weights_may_be_of_any_size(self, clf, train, threes, scale):
        plain = PrototypeEditor(clf, *train).add_class(threes[:30], 3, n_prototypes=1)
        editor = PrototypeEditor(clf, *train, sample_weight=np.full(120, scale))
        found = editor.add_class(threes[:30], 3, n_prototypes=1)
        assert_allclose(found.classifier_.coef_, plain.classifier_.coef_, atol=1e-6)

    @pytest.mark.parametrize("weights", [[1.0] * 9, [-1.0] * 10, [np.nan] * 10, [0.0] * 10, "one"])
    def test_weights_that_cannot_be_change_nothing(self, editor, threes, weights):
        before = bits(editor.classifier_)
        with pytest.raises(ValueError, match="sample_weight must be None or hold a number for"):
            editor.add_class(threes[:10], 3, sample_weight=weights)
        assert bits(editor.classifier_) == before

    def test_the_log_says_what_the_old_classes_lose(self, editor, clf, threes, train):
        edited = editor.add_class(threes[:60], 3, n_prototypes=2).classifier_
        row = editor.log().iloc[0]
        assert row["train_score_before"] == clf.score(*train)
        assert row["train_score_known"] == edited.score(*train)
        X, y = np.concatenate([train[0], threes[:60]]), np.append(train[1], np.full(60, 3))
        weights = np.where(y == 3, 0.25, 1.0)
        assert_allclose(row["train_score"], edited.score(X, y, sample_weight=weights))
        most = edited.transform(X[y != 0])[:, 0].max()
        assert_allclose(edited.similarity_quantiles_[1, 0, 100], most, rtol=1e-12)

    def test_labels_in_between_are_sorted_in(self, data, threes):
        X, y = data
        names = np.array(["a", "c", "e"])[y[:120]]
        clf = ProtoPNetClassifier(**QUICK).fit(X[:120], names)
        editor = PrototypeEditor(
            clf, X[:120], names, X_val=X[120:160], y_val=np.array(["a", "c", "e"])[y[120:160]]
        )
        before = editor.rename({0: "zero"}).classifier_
        edited = editor.add_class(threes[:40], ["delta"] * 40).classifier_
        assert edited.classes_.tolist() == ["a", "c", "delta", "e"]
        assert edited.prototype_classes_[-2:].tolist() == ["delta", "delta"]
        table = edited.prototype_table()
        assert table["prototype_class"].tolist() == ["a", "a", "c", "c", "e", "e", "delta", "delta"]
        assert_array_equal(table["weight_delta"], edited.coef_[2])
        assert table["name"][0] == "zero"
        assert editor.log()["validation_score"].notna().all()
        assert_array_equal(editor.undo().classifier_.coef_, before.coef_)

    def test_the_edited_classifier_goes_on(self, editor, threes, train, tmp_path):
        edited = editor.add_class(threes[:40], 3, n_prototypes=2).forbid([0, 9]).classifier_
        edited.save(tmp_path / "four.skops")
        again = load(tmp_path / "four.skops")
        X = np.concatenate([train[0], threes[:40]])
        y = np.concatenate([train[1], np.full(40, 3)])
        assert_array_equal(again.predict(X), edited.predict(X))
        refitted = again.refit_last_layer(X, y, sample_weight=np.where(y == 3, 0.25, 1.0))
        assert_allclose(refitted.coef_, edited.coef_, atol=2e-2)
        assert set(edited.explain(threes[:1], classes="all")["class"]) == {0, 1, 2, 3}

    @pytest.mark.parametrize(
        ("label", "message"),
        [
            (1, "y must be a class that is not known, got .*1"),
            (3.5, "A new label must be of the kind of"),
            (np.inf, "A new label must be of the kind of"),
            (np.nan, "y must be one new label for all"),
            (None, "A new label must be of the kind of"),
            (True, "A new label must be of the kind of"),
            ("three", "A new label must be of the kind of"),
            ([3] * 9, "y must be one new label for all of the 10 images"),
            ([3] * 9 + [4], "y must be one new label for all of the 10 images"),
        ],
    )
    def test_labels_that_cannot_be_change_nothing(self, editor, threes, label, message):
        before = bits(editor.classifier_)
        with pytest.raises(ValueError, match=message):
            editor.add_class(threes[:10], label)
        assert bits(editor.classifier_) == before


class TestArguments:
    def test_the_classifier(self, clf, train):
        with pytest.raises(NotFittedError):
            PrototypeEditor(ProtoPNetClassifier(), *train)
        with pytest.raises(
            TypeError, match="clf must be a fitted ProtoPNetClassifier, got Logistic"
        ):
            PrototypeEditor(LogisticRegression().fit(train[0].reshape(120, -1), train[1]), *train)
        pipeline = make_pipeline(FunctionTransformer(), clf)
        PrototypeEditor(FrozenEstimator(clf), *train).forbid(0)
        with pytest.raises(TypeError, match="Of a pipeline give the last step"):
            PrototypeEditor(pipeline, *train)

    def test_images_and_labels(self, clf, train):
        X, y = train
        with pytest.raises(ValueError, match="y must hold classes of the training y only"):
            PrototypeEditor(clf, X, y + 1)
        with pytest.raises(ValueError, match="y must have one label for each of the 120"):
            PrototypeEditor(clf, X, y[:-1])
        with pytest.raises(ValueError, match="given together"):
            PrototypeEditor(clf, X, y, X_val=X)
        with pytest.raises(ValueError, match="y_val must hold classes"):
            PrototypeEditor(clf, X, y, X_val=X, y_val=y + 1)
        with pytest.raises(ValueError, match="at least 2 classes"):
            PrototypeEditor(clf, X, y, sample_weight=(y == 0).astype(float))
        with pytest.raises(ValueError, match="sample_weight must be"):
            PrototypeEditor(clf, X, y, sample_weight=-np.ones(len(y)))


class TestNewton:
    @given(seed=st.integers(0, 2**16), n_forbidden=st.integers(0, 4), floor=st.floats(0, 5))
    @given_settings(max_examples=30, deadline=None)
    def test_it_ends_where_the_solver_ends(self, seed, n_forbidden, floor):
        given_problem = random_problem(seed, n_images=60, per_class=4)
        owners = given_problem["prototype_classes"]
        constraints = Constraints.none(np.zeros((0, 1, 1, 1))).forbid(np.arange(n_forbidden))
        constraints = constraints.require(np.array([7]), np.array([floor]))
        free = Problem(
            given_problem["similarities"],
            given_problem["y"],
            given_problem["sample_weight"],
            off_class_mask(owners, 3),
            1e-3,
            1e-2,
        )
        lower, upper = constraints.bounds(owners, 3)
        bound = replace(free, lower=lower, upper=upper)
        start, hessian = solve_near(free, given_problem["coef_init"], None)
        assert hessian is not None
        one, _ = solve_near(bound, start.coef, hessian, tol=1e-10)
        other = solve_last_layer(
            given_problem["similarities"],
            given_problem["y"],
            owners,
            sample_weight=given_problem["sample_weight"],
            l1_weight=1e-3,
            l2_weight=1e-2,
            bounds=(lower, upper),
            tol=1e-10,
            max_iter=50_000,
        )
        assert_allclose(one.objective, other.objective, rtol=1e-9)
        assert_allclose(one.coef, other.coef, atol=np.sqrt(8 * max(one.gap, other.gap) / 1e-2))
        assert (one.coef >= lower).all()
        assert (one.coef <= upper).all()

    def test_too_many_weights_are_left_to_the_solver(self, monkeypatch):
        monkeypatch.setattr(_newton, "MOST_WEIGHTS", 3)
        given_problem = random_problem(1)
        problem = problem_of(given_problem, 1e-3, 1e-2)
        solution, hessian = solve_near(problem, given_problem["coef_init"], None)
        assert hessian is None
        assert solution.converged
        assert solution.n_iter > 0

    def test_a_ridge_that_rounding_swallows(self):
        """Equal columns then have a Hessian that cannot be inverted."""
        given_problem = random_problem(1, duplicated=True)
        problem = problem_of(given_problem, 0.0, 1e-17)
        solution, _ = solve_near(problem, given_problem["coef_init"], None)
        assert np.isfinite(solution.objective)

    def test_the_hessian_is_the_second_derivative(self):
        given_problem = random_problem(3, n_images=40)
        problem = problem_of(given_problem, 0.0, 1e-2)
        point = problem.point(given_problem["coef_init"])
        hessian = Hessian.at(problem, point)
        assert hessian.index.tolist() == list(range(18))
        step = 1e-5
        for i in range(18):
            moved = [given_problem["coef_init"].copy() for _ in range(2)]
            moved[0].flat[i] += step
            moved[1].flat[i] -= step
            up, down = (problem.smooth_gradient(problem.point(coef)) for coef in moved)
            assert_allclose(hessian.matrix[i], (up - down).ravel() / (2 * step), atol=1e-8)

    def test_weights_that_bounds_hold_are_not_in_it(self):
        given_problem = random_problem(3, n_images=40)
        free = problem_of(given_problem, 0.0, 1e-2)
        bound = np.full((3, 6), np.inf)
        bound[:, 2] = 0.0
        point = free.point(given_problem["coef_init"])
        whole = Hessian.at(free, point)
        part = Hessian.at(replace(free, lower=-bound, upper=bound), point)
        assert part.index.tolist() == np.flatnonzero(bound).tolist()
        assert_allclose(part.matrix, whole.matrix[np.ix_(part.index, part.index)], rtol=1e-12)

    def test_it_takes_in_the_weights_that_it_lacks(self):
        """Where the others rest, at the point that it is of: as if it had known of them then."""
        given_problem = random_problem(3, n_images=40)
        problem = problem_of(given_problem, 0.0, 1e-2)
        bound = np.full((3, 6), np.inf)
        bound[:, 2] = 0.0
        held = replace(problem, lower=-bound, upper=bound)
        start, hessian = solve_near(held, given_problem["coef_init"], None, tol=1e-12)
        renewed = hessian.renewed(problem, problem.point(start.coef))
        assert renewed.point is hessian.point
        assert renewed.index.tolist() == [*hessian.index, 2, 8, 14]
        whole = Hessian.at(problem, hessian.point)
        assert_allclose(
            renewed.matrix, whole.matrix[np.ix_(renewed.index, renewed.index)], rtol=1e-9
        )
        moved = problem.point(2 * start.coef)  # where the others do not rest
        anew = hessian.renewed(problem, moved)
        assert anew.point is moved
        assert_allclose(anew.matrix, Hessian.at(problem, moved).matrix, rtol=1e-12)


def test_costs_no_closer_than_rounding(editor):
    assert_frame_equal(editor.costs([0, 4], tol=1e-300), editor.costs([0, 4], tol=1e-10))


def test_costs_are_of_arrays_alone(editor):
    """What the table is made of, without a network."""
    found = costs_of(editor._now, np.array([0]), 1e-4, None)
    assert found[0].prototype == 0
    assert found[0].can_go is None


def test_an_ensemble_of_edited_members(editor, clf, train, held_out, tmp_path):
    edited = editor.forbid(0).rename({1: "one"}).classifier_
    members = [("as it was", FrozenEstimator(clf)), ("edited", FrozenEstimator(edited))]
    ensemble = ProtoPNetEnsemble(members).fit(*train)
    logits = clf.decision_function(held_out[0]) + edited.decision_function(held_out[0])
    assert_allclose(ensemble.decision_function(held_out[0]), logits, rtol=1e-12)
    table = ensemble.explain(held_out[0][:2], classes="all")
    named = table[table["name"] != ""]
    assert set(zip(named["member"], named["prototype"], strict=True)) == {("edited", 1)}
    assert ensemble.prototype_table()["name"].tolist() == [*[""] * 10, "one", *[""] * 7]
    page = write_report(ensemble, held_out[0][:2], tmp_path / "report.html").read_text()
    assert '"modelDigest":null' in page.replace(" ", "")
    with pytest.raises(TypeError, match="clf must be a fitted ProtoPNetClassifier"):
        PrototypeEditor(ensemble, *train)
