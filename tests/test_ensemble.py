"""Several networks: logits that are added, and evidence of all that adds up to them."""

import copy
import json
import pickle
import re
from unittest import SkipTest

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from quick import QUICK
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.estimator_checks import (
    check_param_validation,
    check_set_output_transform,
    check_set_output_transform_pandas,
    check_transformer_get_feature_names_out,
    check_transformer_get_feature_names_out_pandas,
    estimator_checks_generator,
    parametrize_with_checks,
)
from torch import nn

from sklearn_protopnet import ProtoPNetClassifier, ProtoPNetEnsemble, load
from sklearn_protopnet.inspection import (
    ExplanationDisplay,
    PrototypeDisplay,
    explain,
    export_evidence,
    localize,
    nearest_patches,
    read_evidence,
    write_report,
)
from sklearn_protopnet.metrics import prototype_report, sparsity_scorer

SMALL = {"image_shape": (8, 8), **QUICK}
WIDE = {
    **SMALL,
    "image_size": (12, 10),
    "n_prototypes_per_class": 3,
    "n_pooled_patches": 2,
    "similarity": "linear",
    "random_state": 1,
}
RESNET = {
    **SMALL,
    "backbone": "resnet18",
    "image_size": (16, 16),
    "feature_stride": 8,
    "pretraining_epochs": 0,
    "n_pooled_patches": 1,
}


def summed(why):
    """Sums of contributions, (n_samples, n_classes)."""
    return why.pivot_table("contribution", "sample", "class", aggfunc="sum")


def small(**parameters):
    return ProtoPNetClassifier(**{**SMALL, **parameters})


def pair(**parameters):
    return [("one", small(**parameters)), ("two", small(random_state=1, **parameters))]


QUICK_PAIR = ProtoPNetEnsemble(
    [
        ("one", ProtoPNetClassifier(**{**QUICK, "pretraining_epochs": 5, "joint_epochs": 3})),
        ("two", ProtoPNetClassifier(**{**QUICK, "pretraining_epochs": 5, "random_state": 1})),
    ]
)


@parametrize_with_checks([QUICK_PAIR])
def test_every_check_of_scikit_learn_passes(estimator, check):
    try:
        check(estimator)
    except SkipTest as reason:
        pytest.fail(f"A check was skipped: {reason}")


def test_checks_of_all_that_it_does_are_among_them():
    """A tag that is wrong makes scikit-learn leave out checks without a word."""
    checks = estimator_checks_generator(QUICK_PAIR, mark=None)
    assert {
        "check_classifiers_train",
        "check_estimators_pickle",
        "check_methods_sample_order_invariance",
        "check_methods_subset_invariance",
        "check_sample_weight_equivalence_on_dense_data",
        "check_sample_weights_shape",
        "check_transformer_general",
    } <= {getattr(check, "func", check).__name__ for _, check in checks}


@pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names:UserWarning")
@pytest.mark.parametrize(
    "check",
    [
        check_param_validation,
        check_set_output_transform,
        check_set_output_transform_pandas,
        check_transformer_get_feature_names_out,
        check_transformer_get_feature_names_out_pandas,
    ],
)
def test_checks_that_scikit_learn_keeps_for_itself_pass(check):
    check("ProtoPNetEnsemble", clone(QUICK_PAIR))


@pytest.fixture(scope="module")
def few(digits):
    """Twenty images of each of three classes, which have names."""
    X, y = digits
    rows = np.sort(np.concatenate([np.flatnonzero(y == label)[:20] for label in range(3)]))
    return X[rows], np.array(["nought", "one", "two"])[y[rows]]


@pytest.fixture(scope="module")
def members():
    return [
        ("small", small()),
        ("wide", ProtoPNetClassifier(**WIDE)),
        ("resnet", ProtoPNetClassifier(**RESNET)),
        ("scaled", make_pipeline(StandardScaler(), small(random_state=2))),
    ]


@pytest.fixture(scope="module")
def ensemble(members, few):
    return ProtoPNetEnsemble(members).fit(*few)


def added_logits(ensemble, X):
    """Logits of three classes or more, by the members' own methods."""
    return sum(member.decision_function(X) for member in ensemble.estimators_)


class TestPredictions:
    def test_logits_are_the_sums_of_the_members(self, ensemble, few):
        X, y = few
        logits = ensemble.decision_function(X)
        assert_array_equal(logits, added_logits(ensemble, X))
        assert_array_equal(ensemble.predict(X), ensemble.classes_[logits.argmax(1)])
        exponentials = np.exp(logits - logits.max(1, keepdims=True))
        expected = exponentials / exponentials.sum(1, keepdims=True)
        assert_allclose(ensemble.predict_proba(X), expected, rtol=1e-12, atol=1e-300)
        assert_allclose(np.exp(ensemble.predict_log_proba(X)), expected, rtol=1e-9, atol=1e-300)
        assert ensemble.score(X, y) == (ensemble.predict(X) == y).mean()

    def test_of_two_classes_there_is_one_column(self, few):
        X, y = few[0], few[1] == "one"
        ensemble = ProtoPNetEnsemble(pair()).fit(X, y)
        lead = ensemble.decision_function(X)
        assert lead.shape == (60,)
        assert_allclose(lead, added_logits(ensemble, X), rtol=1e-12, atol=1e-12)
        assert_array_equal(ensemble.predict(X), lead > 0)
        assert_allclose(ensemble.predict_proba(X)[:, 1], 1 / (1 + np.exp(-lead)), rtol=1e-9)
        why = ensemble.explain(X, classes="all")
        sums = summed(why)
        assert_allclose(sums[True] - sums[False], lead, rtol=1e-9)

    def test_one_member_is_as_it_is_alone(self, few):
        X, y = few
        alone = small().fit(X, y)
        ensemble = ProtoPNetEnsemble([("only", small())]).fit(X, y)
        assert_array_equal(ensemble.decision_function(X), alone.decision_function(X))
        why = ensemble.explain(X, details="all")
        assert set(why.pop("member")) == {"only"}
        pd.testing.assert_frame_equal(why, alone.explain(X, details="all"), check_exact=True)

    def test_similarities_stand_side_by_side(self, ensemble, few):
        X, _ = few
        parts = [member.transform(X) for member in ensemble.estimators_]
        assert_array_equal(ensemble.transform(X), np.hstack(parts))
        names = ensemble.get_feature_names_out()
        assert names[[0, 6, 15, -1]].tolist() == [
            "small__protopnetclassifier0",
            "wide__protopnetclassifier0",
            "resnet__protopnetclassifier0",
            "scaled__protopnetclassifier5",
        ]
        frame = clone(ensemble).fit(*few).set_output(transform="pandas").transform(X)
        assert list(frame.columns) == list(names)


class TestEvidence:
    @pytest.mark.parametrize("details", [(), "patches", "margin"])
    def test_contributions_of_all_members_add_up_to_the_logit(self, ensemble, few, details):
        X, _ = few
        why = ensemble.explain(X, classes="all", details=details)
        logits = ensemble.decision_function(X)
        assert_allclose(summed(why), logits, rtol=1e-9)
        ones = why.drop_duplicates(["sample", "class"])
        assert_array_equal(ones.pivot_table("logit", "sample", "class"), logits)
        probabilities = ones.pivot_table("probability", "sample", "class")
        assert_allclose(probabilities, ensemble.predict_proba(X), rtol=1e-12)
        assert len(why.drop_duplicates(["sample", "class", "logit", "probability"])) == len(ones)
        assert set(why["member"]) == {"small", "wide", "resnet", "scaled"}

    def test_the_table_is_that_of_a_classifier_with_a_column_more(self, ensemble, few):
        expected = list(ensemble.named_estimators_["small"].explain(few[0][:1]).columns)
        expected.insert(expected.index("prototype"), "member")
        why = ensemble.explain(few[0][:1])
        assert list(why.columns) == expected
        assert why.attrs == ensemble.named_estimators_["small"].explain(few[0][:1]).attrs

    def test_the_class_is_that_which_the_ensemble_predicts(self, ensemble, few):
        why = ensemble.explain(few[0])
        found = why.groupby("sample")["class"].agg(["first", "nunique"])
        assert_array_equal(found["first"], ensemble.predict(few[0]))
        assert (found["nunique"] == 1).all()
        assert (why.groupby("sample").size() == 6 + 9 + 6 + 6).all()

    def test_ranks_are_over_all_members(self, ensemble, few):
        why = ensemble.explain(few[0], classes="all")
        for _, rows in why.groupby(["sample", "class"], sort=False):
            assert rows["rank"].tolist() == list(range(1, 28))
            assert rows["contribution"].is_monotonic_decreasing
        first = why[why["rank"] <= 5].reset_index(drop=True)
        top = ensemble.explain(few[0], classes="all", top_k=5)
        pd.testing.assert_frame_equal(top, first, check_exact=True)

    @pytest.mark.parametrize("localizer", ["receptive_field", "upsample"])
    def test_rows_of_a_member_are_those_that_it_has_by_itself(self, ensemble, few, localizer):
        settings = {"localizer": localizer, "details": ["box", "percentile", "digest"]}
        X, keys = few[0][:3], ["sample", "class", "prototype"]
        why = ensemble.explain(X, classes="all", **settings)
        for name, member in ensemble.named_estimators_.items():
            own = explain(member, X, classes="all", **settings).sort_values(keys)
            found = why[why["member"] == name].drop(columns="member").sort_values(keys)
            joint = ["rank", "logit", "probability"]
            pd.testing.assert_frame_equal(
                found.drop(columns=joint).reset_index(drop=True),
                own.drop(columns=joint).reset_index(drop=True),
                check_exact=True,
            )

    def test_patches_of_each_member_have_their_rows(self, ensemble, few):
        why = ensemble.explain(few[0][:4], details="patches")
        n_patches = why.groupby(["sample", "member", "prototype"])["patch"].agg(["size", "max"])
        assert_array_equal(n_patches["size"], n_patches["max"])
        by_member = n_patches["size"].groupby("member").agg(["min", "max"]).T.to_dict("list")
        assert by_member == {"small": [5, 5], "wide": [2, 2], "resnet": [1, 1], "scaled": [5, 5]}
        ordered = why.groupby(["sample", "rank"], sort=False)["patch"].agg(list)
        assert all(patches == sorted(patches) for patches in ordered)
        assert why["sample"].is_monotonic_increasing

    def test_margins_and_flips_are_of_the_joint_decision(self, ensemble, few):
        X, _ = few
        why = ensemble.explain(X, classes="all", details="margin")
        logits = ensemble.decision_function(X)
        margin = why.pivot_table("margin", "sample", "class", aggfunc="first").to_numpy()
        for k in range(3):
            assert_allclose(margin[:, k], logits[:, k] - np.delete(logits, k, axis=1).max(1))
        first = why[(why["class"] == ensemble.predict(X)[why["sample"]]) & why["weight"].ne(0)]
        flips = first.dropna(subset="flip_similarity")
        assert set(flips["member"]) > {"small", "wide"}
        for row in flips.iloc[::17].itertuples():
            member = ensemble.named_estimators_[row.member]
            coef = (member[-1] if row.member == "scaled" else member).coef_[:, row.prototype]
            changed = logits[row.sample] + coef * (row.flip_similarity - row.similarity)
            top = np.sort(changed)
            assert_allclose(top[-1], top[-2], rtol=1e-9)

    def test_classes_are_chosen_as_for_a_classifier(self, ensemble, few):
        X, _ = few
        why = ensemble.explain(X, classes=["two"])
        assert set(why["class"]) == {"two"}
        top = ensemble.explain(X, n_top_classes=2).drop_duplicates(["sample", "class"])
        order = np.argsort(-ensemble.decision_function(X), axis=1, kind="stable")[:, :2]
        assert_array_equal(top["class"].to_numpy().reshape(-1, 2), ensemble.classes_[order])
        with pytest.raises(ValueError, match="labels among"):
            ensemble.explain(X, classes=["three"])
        with pytest.raises(ValueError, match="n_top_classes must be at most"):
            ensemble.explain(X, n_top_classes=4)

    def test_what_prototypes_are_merges_with_what_they_say(self, ensemble, few):
        table = ensemble.prototype_table()
        assert len(table) == 27
        assert list(table.columns[:3]) == ["member", "prototype", "prototype_class"]
        for name, member in ensemble.named_estimators_.items():
            own = (member[-1] if name == "scaled" else member).prototype_table()
            found = table[table["member"] == name].drop(columns="member").reset_index(drop=True)
            pd.testing.assert_frame_equal(found, own, check_exact=True)
            assert table.attrs == own.attrs
        why = ensemble.explain(few[0][:5], classes=["one"])
        both = why.merge(table, on=["member", "prototype"], suffixes=("", "_of"))
        assert len(both) == len(why)
        assert_array_equal(both["source_sample"], both["source_sample_of"])
        assert_array_equal(both["weight"], both["weight_one"])
        with pytest.raises(ValueError, match="localizer must be one of"):
            ensemble.prototype_table(localizer="nose")

    def test_samples_are_called_by_the_index_of_a_frame(self, few):
        index = [f"cell {i}" for i in range(60)]
        frame = pd.DataFrame(few[0], index=index).add_prefix("pixel")
        fitted = ProtoPNetEnsemble(pair()).fit(frame, few[1])
        assert fitted.feature_names_in_.tolist() == list(frame.columns)
        assert fitted.explain(frame, top_k=1)["sample"].tolist() == index
        assert fitted.explain(frame[3:5], top_k=1)["sample"].tolist() == index[3:5]

    def test_paths_of_images_become_each_members_size(self, tmp_path):
        rng = np.random.default_rng(0)
        paths = []
        for i in range(12):
            pixels = rng.integers(0, 255, (30 + 10 * (i % 2), 40, 3)).astype(np.uint8)
            paths.append(str(tmp_path / f"{i}.png"))
            Image.fromarray(pixels).save(paths[-1])
        members = [
            (f"s{side}", ProtoPNetClassifier(image_size=(side, side), **QUICK)) for side in (16, 24)
        ]
        ensemble = ProtoPNetEnsemble(members).fit(paths, np.arange(12) % 2)
        why = ensemble.explain(paths, classes="all")
        logits = summed(why)
        assert_allclose(logits[1] - logits[0], ensemble.decision_function(paths), rtol=1e-9)
        heights = why.groupby(["member", why["sample"] % 2])["y1"].max()
        assert heights.to_dict() == {("s16", 0): 30, ("s16", 1): 40, ("s24", 0): 30, ("s24", 1): 40}
        page = Page(write_report(ensemble, paths, tmp_path / "r.html"))
        for row in page.rows:
            assert row[1] == f"{row[0]}.png"
            assert row[7:9] == [30 + 10 * (int(row[0]) % 2), 40]


class TestParameters:
    def test_those_of_members_are_reached_by_their_names(self, members):
        ensemble = ProtoPNetEnsemble(members)
        parameters = ensemble.get_params()
        assert parameters["small"] is members[0][1]
        assert parameters["scaled__protopnetclassifier__random_state"] == 2
        assert set(ensemble.get_params(deep=False)) == {"estimators", "n_jobs"}
        twin = clone(ensemble).set_params(small__l1_weight=0.5, wide="drop", n_jobs=1)
        assert dict(twin.estimators)["small"].l1_weight == 0.5
        assert dict(twin.estimators)["wide"] == "drop"
        assert members[0][1].l1_weight == 1e-4
        with pytest.raises(ValueError, match="Invalid parameter 'large'"):
            twin.set_params(large=small())

    def test_members_are_cloned_and_found_by_name(self, ensemble, members):
        assert list(ensemble.named_estimators_) == ["small", "wide", "resnet", "scaled"]
        assert ensemble.estimators_[1] is ensemble.named_estimators_.wide
        assert not any(hasattr(member, "classes_") for _, member in members)
        assert is_classifier(ensemble)

    def test_a_member_that_is_dropped_has_no_part(self, few):
        X, y = few
        alone = small().fit(X, y)
        ensemble = ProtoPNetEnsemble(pair()).set_params(two="drop").fit(X, y)
        assert list(ensemble.named_estimators_) == ["one"]
        assert_array_equal(ensemble.decision_function(X), alone.decision_function(X))
        assert set(ensemble.explain(X)["member"]) == {"one"}
        more = ensemble.set_params(two=small(random_state=5)).fit(X, y)
        assert len(more.estimators_) == 2

    @pytest.mark.parametrize(
        ("estimators", "error", "message"),
        [
            (5, ValueError, "'estimators' parameter of ProtoPNetEnsemble must be an instance of"),
            ([], ValueError, r"must have a member at least that is not 'drop', got \[\]"),
            ([("a", "drop")], ValueError, "must have a member at least"),
            ([small()], ValueError, r"must be a list of \(name, estimator\)"),
            ([(1, small())], ValueError, r"must be a list of \(name, estimator\)"),
            ([("a", small(), 1)], ValueError, r"must be a list of \(name, estimator\)"),
            ([("a", small())] * 2, ValueError, "not unique"),
            ([("n_jobs", small())], ValueError, "conflict with constructor arguments"),
            ([("a__b", small())], ValueError, "must not contain __"),
            ([("\ud800", small())], ValueError, "Names of members"),
            ([("a", LogisticRegression())], TypeError, r"got LogisticRegression\(\) for 'a'"),
            ([("a", ProtoPNetClassifier)], TypeError, "got <class .*> for 'a'"),
            ([("a", None)], TypeError, "got None for 'a'"),
            ([("a", small()), ("b", make_pipeline(StandardScaler()))], TypeError, "for 'b'"),
            ([("a", ProtoPNetEnsemble(pair()))], TypeError, "A member must be a ProtoPNetClassif"),
            ([("a", FrozenEstimator(small()))], NotFittedError, "not fitted yet"),
        ],
    )
    def test_what_is_no_ensemble_says_so(self, few, estimators, error, message):
        with pytest.raises(error, match=message):
            ProtoPNetEnsemble(estimators).fit(*few)

    def test_a_fit_that_fails_changes_nothing(self, few):
        X, y = few
        ensemble = ProtoPNetEnsemble(pair()).fit(X, y)
        before = ensemble.decision_function(X)
        with pytest.raises(ValueError, match="class_weight must hold"):
            ensemble.set_params(two__class_weight={"nought": -1}).fit(X, y)
        assert_array_equal(ensemble.decision_function(X), before)

    def test_before_a_fit_there_is_nothing(self, few):
        ensemble = ProtoPNetEnsemble(pair())
        assert not any(
            hasattr(ensemble, name)
            for name in ("classes_", "n_features_in_", "feature_names_in_", "estimators_")
        )
        for method in ("predict", "transform", "explain"):
            with pytest.raises(NotFittedError):
                getattr(ensemble, method)(few[0])
        with pytest.raises(NotFittedError):
            ensemble.prototype_table()
        with pytest.raises(NotFittedError):
            ensemble.get_feature_names_out()

    def test_a_search_looks_for_a_parameter_of_a_member_or_for_no_member(self, few):
        grid = [{"two__l1_weight": [1e-4, 1.0]}, {"two": ["drop"]}]
        search = GridSearchCV(ProtoPNetEnsemble(pair()), grid, cv=2, error_score="raise").fit(*few)
        assert len(search.cv_results_["params"]) == 3
        why = explain(search, few[0])
        pd.testing.assert_frame_equal(why, search.best_estimator_.explain(few[0]))
        assert len(cross_val_score(ProtoPNetEnsemble(pair()), *few, cv=2)) == 2

    def test_members_stand_side_by_side_in_a_notebook(self, members):
        html = ProtoPNetEnsemble(members)._repr_html_()
        assert all(f"<label>{name}</label>" in html for name, _ in members)
        assert "sk-parallel" in html


class TestFit:
    def test_weights_go_to_all_members(self, few):
        X, y = few
        weights = np.ones(60)
        weights[:7] = 2
        members = [("one", small()), ("two", make_pipeline(FunctionTransformer(), small()))]
        weighted = ProtoPNetEnsemble(members).fit(X, y, sample_weight=weights)
        rows = np.repeat(np.arange(60), weights.astype(int))
        repeated = ProtoPNetEnsemble(members).fit(X[rows], y[rows])
        plain = ProtoPNetEnsemble(members).fit(X, y)
        for one, other, third in zip(
            *(each.estimators_ for each in (weighted, repeated, plain)), strict=True
        ):
            assert_array_equal(one.decision_function(X), other.decision_function(X))
            assert not np.array_equal(one.decision_function(X), third.decision_function(X))

    def test_weights_are_routed_where_routing_is_enabled(self, few):
        X, y = few
        weights = np.linspace(1, 2, 60)
        expected = ProtoPNetEnsemble(pair()).fit(X, y, sample_weight=weights)
        with sklearn.config_context(enable_metadata_routing=True):
            asked = [(name, member.set_fit_request(sample_weight=True)) for name, member in pair()]
            routed = ProtoPNetEnsemble([*asked, ("no", "drop")]).fit(X, y, sample_weight=weights)
            assert_array_equal(routed.decision_function(X), expected.decision_function(X))
            ignored = [(name, m.set_fit_request(sample_weight=False)) for name, m in pair()]
            plain = ProtoPNetEnsemble(ignored).fit(X, y)
            with pytest.raises(TypeError, match=r"got unexpected argument.*sample_weight"):
                ProtoPNetEnsemble(ignored).fit(X, y, sample_weight=weights)
        assert not np.array_equal(plain.decision_function(X), expected.decision_function(X))
        with pytest.raises(TypeError, match=r"unless metadata routing is enabled, got \['X_val'\]"):
            ProtoPNetEnsemble(pair()).fit(X, y, X_val=X)

    def test_members_that_are_frozen_stay_as_they_are(self, few):
        X, y = few
        one, two = small().fit(X, y), make_pipeline(StandardScaler(), small()).fit(X, y)
        before = one.coef_.copy()
        frozen = [("one", FrozenEstimator(one)), ("two", FrozenEstimator(two))]
        ensemble = ProtoPNetEnsemble([*frozen, ("new", small(random_state=4))]).fit(X[:40], y[:40])
        assert_array_equal(one.coef_, before)
        assert_array_equal(
            ensemble.decision_function(X),
            one.decision_function(X)
            + two.decision_function(X)
            + ensemble.named_estimators_["new"].decision_function(X),
        )
        why = ensemble.explain(X, classes="all")
        logits = summed(why)
        assert_allclose(logits, ensemble.decision_function(X), rtol=1e-9)
        assert len(ensemble.prototype_table()) == 18
        assert explain(FrozenEstimator(one), X[:2]).equals(one.explain(X[:2]))

    def test_a_frozen_member_is_the_same_object_in_any_process(self, few):
        frozen = FrozenEstimator(small().fit(*few))
        members = [("one", frozen), ("new", small()), ("two", frozen)]
        ensemble = ProtoPNetEnsemble(members, n_jobs=2).fit(*few)
        assert list(ensemble.named_estimators_) == ["one", "new", "two"]
        assert ensemble.named_estimators_["one"] is ensemble.named_estimators_["two"] is frozen

    def test_weights_reach_a_pipeline_in_a_pipeline(self, few):
        X, y = few
        weights = np.linspace(1, 2, 60)
        inner = Pipeline([("scale", StandardScaler()), ("net", small())])
        outer = Pipeline([("scale", StandardScaler()), ("rest", inner)])
        ensemble = ProtoPNetEnsemble([("a", outer)]).fit(X, y, weights)
        expected = clone(outer).fit(X, y, rest__net__sample_weight=weights)
        assert_array_equal(ensemble.decision_function(X), expected.decision_function(X))

    def test_frozen_members_have_the_same_classes(self, few):
        X, y = few
        others = small().fit(X[y != "two"], y[y != "two"])
        members = [("all", small()), ("less", FrozenEstimator(others))]
        message = r"'all' has \['nought', 'one', 'two'\], 'less' \['nought', 'one'\]"
        with pytest.raises(ValueError, match=message):
            ProtoPNetEnsemble(members).fit(X, y)

    def test_processes_fit_the_same_bits(self, few):
        X, y = few
        here = ProtoPNetEnsemble(pair()).fit(X, y)
        there = ProtoPNetEnsemble(pair(), n_jobs=2).fit(X, y)
        assert_array_equal(here.decision_function(X), there.decision_function(X))


class TestCopiesAndFiles:
    @pytest.mark.parametrize("copied", [lambda e: pickle.loads(pickle.dumps(e)), copy.deepcopy])
    def test_copies_predict_the_same_bits(self, ensemble, few, copied):
        twin = copied(ensemble)
        assert_array_equal(twin.decision_function(few[0]), ensemble.decision_function(few[0]))
        pd.testing.assert_frame_equal(twin.explain(few[0][:2]), ensemble.explain(few[0][:2]))

    @pytest.fixture
    def plain(self, ensemble, few):
        """Of fitted classifiers, one of which would be fitted again."""
        named = ensemble.named_estimators_
        members = [("small", named["small"]), ("wide", FrozenEstimator(named["wide"]))]
        return ProtoPNetEnsemble([*members, ("none", "drop")]).fit(*few)

    def test_all_is_the_same_in_a_file(self, plain, few, tmp_path):
        X, y = few
        plain.set_output(transform="pandas").save(tmp_path / "ensemble")
        twin = load(tmp_path / "ensemble")
        assert type(twin) is ProtoPNetEnsemble
        assert_array_equal(twin.decision_function(X), plain.decision_function(X))
        pd.testing.assert_frame_equal(
            twin.explain(X, details="all"), plain.explain(X, details="all"), check_exact=True
        )
        pd.testing.assert_frame_equal(twin.transform(X), plain.transform(X), check_exact=True)
        assert [name for name, _ in twin.estimators] == ["small", "wide", "none"]
        assert twin.estimators[0][1].get_params() == plain.estimators[0][1].get_params()
        assert not hasattr(twin.estimators[0][1], "classes_")
        again = twin.fit(X, y)
        assert_array_equal(again.decision_function(X), plain.decision_function(X))
        again.save(tmp_path / "ensemble")
        assert_array_equal(load(tmp_path / "ensemble").predict(X), plain.predict(X))

    def test_directories_of_members_are_no_part_of_a_file(self, few, tmp_path):
        members = pair(memory=str(tmp_path / "cache"), checkpoint=str(tmp_path / "state"))
        ProtoPNetEnsemble(members).fit(*few).save(tmp_path / "ensemble")
        assert str(tmp_path).encode() not in (tmp_path / "ensemble").read_bytes()
        twin = load(tmp_path / "ensemble")
        for member in (*twin.estimators_, *dict(twin.estimators).values()):
            assert (member.memory, member.checkpoint) == (None, None)
        assert members[0][1].memory == str(tmp_path / "cache")

    def test_a_file_takes_classifiers_only(self, ensemble, few, tmp_path):
        with pytest.raises(TypeError, match=r"no pipeline as a member, found .*Pipeline"):
            ensemble.save(tmp_path / "ensemble")
        module = ProtoPNetEnsemble(pair(backbone=nn.Conv2d(1, 4, 3))).fit(*few)
        with pytest.raises(TypeError, match="no module as a backbone"):
            module.save(tmp_path / "ensemble")
        with pytest.raises(NotFittedError):
            ProtoPNetEnsemble(pair()).save(tmp_path / "ensemble")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda e: setattr(e, "extra", 1), "parameters and members, found .*extra"),
            (lambda e: setattr(e, "n_jobs", "many"), "'n_jobs' parameter"),
            (lambda e: setattr(e, "named_estimators_", [1]), "must be a dict, found list"),
            (lambda e: e.estimators_[0].coef_.fill(np.nan), "coef_ must be finite"),
            (lambda e: setattr(e.estimators[1][1].estimator, "n_iter_", 0), "loss_curve_ must be"),
            (lambda e: setattr(e.estimators[0][1], "batch_size", 0), "'batch_size' parameter"),
            (lambda e: e.named_estimators_.update(b=LogisticRegression()), "Logistic"),
        ],
    )
    def test_what_a_fit_does_not_leave_is_not_written(self, plain, tmp_path, spoil, message):
        spoilt = copy.deepcopy(plain)
        spoil(spoilt)
        with pytest.raises((TypeError, ValueError), match=message):
            spoilt.save(tmp_path / "ensemble")
        assert list(tmp_path.iterdir()) == []

    def test_a_parameter_that_is_fitted_is_refused(self, plain, tmp_path, monkeypatch):
        """`save` clones them; a file that somebody else wrote may hold what it likes."""
        monkeypatch.setattr("sklearn_protopnet._ensemble.clone", lambda member: member)
        with pytest.raises(ValueError, match=r"'small' must not be fitted, found \['classes_'"):
            plain.save(tmp_path / "ensemble")


class Page:
    """The data of a report."""

    def __init__(self, path):
        self.html = path.read_text(encoding="utf-8")
        self.data, self.rows = (
            json.loads(re.search(rf'id="report-{name}">(.*?)</script>', self.html, re.DOTALL)[1])
            for name in ("data", "rows")
        )


def test_a_member_may_be_frozen_twice(few, tmp_path):
    X, y = few
    member = FrozenEstimator(FrozenEstimator(small().fit(X, y)))
    ensemble = ProtoPNetEnsemble([("twice", member)]).fit(X, y)
    ensemble.save(tmp_path / "ensemble")
    twin = load(tmp_path / "ensemble")
    assert_array_equal(twin.decision_function(X), ensemble.decision_function(X))


def test_one_without_names_is_an_ensemble_still(few, tmp_path):
    ensemble = ProtoPNetEnsemble([("", small())]).fit(*few)
    page = Page(write_report(ensemble, few[0][:2], tmp_path / "r.html"))
    assert page.data["modelDigest"] is None


def test_a_pipeline_of_nothing_is_no_member(few):
    with pytest.raises(TypeError, match="A member must be"):
        ProtoPNetEnsemble([("empty", Pipeline([]))]).fit(*few)


@pytest.fixture(scope="module")
def path(ensemble, few, tmp_path_factory):
    X, y = few
    y = y.copy()
    y[::9] = "two"
    folder = tmp_path_factory.mktemp("report")
    return write_report(ensemble, X, folder / "report.html", y, top_k=6)


@pytest.fixture(scope="module")
def page(path):
    return Page(path)


class TestReportAndPictures:
    def test_numbers_are_those_of_explain(self, ensemble, few, page):
        why = ensemble.explain(few[0], classes="all", top_k=6)
        why["id"] = why["prototype"] + why["member"].map(
            {"small": 0, "wide": 6, "resnet": 15, "scaled": 21}
        )
        groups = why.groupby(["sample", "class"])
        n_claims = 0
        for name, _, truth, predicted, *_, claims in page.rows:
            for (logit, others, parts), label in zip(
                claims, dict.fromkeys([predicted, truth]), strict=True
            ):
                rows = groups.get_group((int(name), page.data["labels"][label]))
                columns = ["id", "similarity", "weight", "contribution", "y0", "y1", "x0", "x1"]
                assert_allclose(np.array([part[:8] for part in parts]), rows[columns], atol=1e-6)
                assert_allclose(logit, rows["logit"], atol=1e-6)
                assert_allclose(rows["contribution"].sum() + others, logit, atol=1e-5)
                n_pooled = rows["member"].map({"small": 4, "wide": 1, "resnet": 0, "scaled": 4})
                assert [len(part[9]) for part in parts] == n_pooled.tolist()
                n_claims += 1
        assert n_claims > len(page.rows) == 60

    def test_each_prototype_says_whose_it_is(self, ensemble, page):
        table = ensemble.prototype_table()
        found = pd.DataFrame(page.data["prototypes"])
        assert_array_equal(found["member"], table["member"])
        assert_array_equal(found["number"], table["prototype"])
        assert_array_equal(found["sample"], table["source_sample"])
        boxes = table[["source_y0", "source_y1", "source_x0", "source_x1"]]
        assert_array_equal(found["box"].tolist(), boxes)
        captions = re.findall(r'<li id="prototype-(\d+)">.*?<b>(\d+) \(<bdi>(\w+)<', page.html, 16)
        assert sorted((int(i), int(number), name) for i, number, name in captions) == [
            (i, row.prototype, row.member) for i, row in enumerate(table.itertuples())
        ]

    def test_the_summary_is_of_all(self, ensemble, page):
        facts = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page.html))
        assert facts["Networks whose logits are added"] == "small, wide, resnet, scaled"
        assert facts["Prototypes"].startswith("27 (")
        classifiers = [*ensemble.estimators_[:3], ensemble.estimators_[3][-1]]
        coef = np.hstack([each.coef_ for each in classifiers])
        assert facts["Weights that are 0"] == f"{100 * (coef == 0).mean():.1f} %"
        gap = max(each.last_layer_gap_ for each in classifiers)
        assert facts["Gap of the last layer"] == f"at most {gap:.1e} each"

    def test_a_browser_shows_whose_prototype_it_is(self, path, page, browser):
        with browser.page(path) as opened:
            found = opened.run("""
                document.querySelector("#table tbody button").click();
                const why = document.querySelector("tr.evidence .why");
                const captions = [...why.querySelectorAll(".parts figcaption")];
                return [captions.map((e) => e.textContent),
                        [...why.querySelectorAll("image")].length,
                        why.querySelector(".sum").textContent];
            """)
            assert opened.errors == []
        captions, n_images, total = found
        (_, _, parts), *_ = page.rows[0][-1]
        told = [page.data["prototypes"][part[0]] for part in parts]
        expected = [f"prototype {each['number']} ({each['member']}): training" for each in told]
        assert [" ".join(text.split()[:4]) for text in captions[1::2]] == expected
        assert n_images == 13
        assert "all other 21 prototypes" in total

    def test_names_of_members_are_text(self, few, tmp_path):
        name = "</script><b>&"
        ensemble = ProtoPNetEnsemble([(name, small()), ("other", small(random_state=1))]).fit(*few)
        page = Page(write_report(ensemble, few[0][:2], tmp_path / "r.html"))
        assert page.data["prototypes"][0]["member"] == name
        assert name not in page.html
        plt.close(ExplanationDisplay.from_estimator(ensemble, few[0]).figure_)

    def test_a_display_draws_the_rows_of_all(self, ensemble, few):
        X, _ = few
        display = ExplanationDisplay.from_estimator(ensemble, X, sample=4, top_k=27)
        why = ensemble.explain(X[4:5])
        assert display.evidence["sample"].eq(4).all()
        pd.testing.assert_frame_equal(
            display.evidence.drop(columns="sample"), why.drop(columns="sample"), check_exact=True
        )
        shapes = why["member"].map({"small": (8, 8), "wide": (12, 10), "resnet": (16, 16)})
        for image, size, shape in zip(
            display.source_images, display.source_sizes, shapes.fillna(""), strict=True
        ):
            assert image.shape[:2] == (shape or (8, 8))
            assert size == (8, 8)
        n_others = [len(boxes) for boxes in display.other_boxes]
        assert (
            n_others
            == why["member"].map({"small": 4, "wide": 1, "resnet": 0, "scaled": 4}).tolist()
        )
        assert display.image.shape == (16, 16, 1)
        texts = {text.get_text() for text in display.bounding_ax_.texts}
        assert {f"network {name}" for name in ensemble.named_estimators_} <= texts
        plt.close(display.figure_)

    def test_pictures_need_images_of_one_size(self, few, tmp_path):
        X, y = few
        halved = FunctionTransformer(lambda images: images[:, :32])
        members = [("all", small()), ("half", make_pipeline(halved, small(image_shape=(4, 8))))]
        ensemble = ProtoPNetEnsemble(members).fit(X, y)
        why = ensemble.explain(X, classes="all")
        logits = summed(why)
        assert_allclose(logits, ensemble.decision_function(X), rtol=1e-9)
        for draw in (
            lambda: write_report(ensemble, X, tmp_path / "r.html"),
            lambda: ExplanationDisplay.from_estimator(ensemble, X),
        ):
            with pytest.raises(
                ValueError, match=r"those of 'half' have another size than .* 'all'"
            ):
                draw()
        assert list(tmp_path.iterdir()) == []
        plt.close("all")

    def test_what_is_of_one_network_takes_a_member(self, ensemble, few):
        X, y = few
        for ask in (
            lambda e: nearest_patches(e, X),
            lambda e: localize(e, X[:1]),
            lambda e: PrototypeDisplay.from_estimator(e),
            lambda e: prototype_report(e, X, y),
            lambda e: sparsity_scorer(e, X),
        ):
            with pytest.raises(TypeError, match=r"one network here, .*\['resnet', 'scaled', "):
                ask(ensemble)
        assert len(nearest_patches(ensemble.named_estimators_["scaled"], X, k=1)) == 6


class TestExports:
    @pytest.mark.parametrize("suffix", [".csv", ".parquet", ".sqlite"])
    def test_what_comes_back_is_what_explain_gives(self, ensemble, few, tmp_path, suffix):
        X, path = few[0], tmp_path / f"evidence{suffix}"
        settings = {"classes": "all", "details": ["margin", "patches"]}
        n_rows = export_evidence(ensemble, X, path, **settings)
        expected = ensemble.explain(X, **settings)
        assert n_rows == len(expected)
        found = read_evidence(path)
        pd.testing.assert_frame_equal(found, expected, check_exact=True)
        assert found.attrs == expected.attrs

    def test_a_pipeline_and_a_search_may_stand_around(self, few, tmp_path):
        X, y = few
        pipeline = make_pipeline(StandardScaler(), ProtoPNetEnsemble(pair()))
        grid = {"protopnetensemble__one__l1_weight": [1e-4]}
        search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(X, y)
        why = explain(search, X, classes="all")
        logits = summed(why)
        assert_allclose(logits, search.decision_function(X), rtol=1e-9)
        export_evidence(search, X, tmp_path / "evidence.parquet", classes="all")
        pd.testing.assert_frame_equal(read_evidence(tmp_path / "evidence.parquet"), why)
        assert write_report(search, X, tmp_path / "r.html").exists()
        named = FunctionTransformer(lambda rows: pd.DataFrame(rows).set_axis(list("abc")))
        ensemble = make_pipeline(named, search.best_estimator_[-1])
        assert explain(ensemble, X[:3], top_k=1)["sample"].tolist() == [0, 1, 2]

    def test_names_of_members_come_back_as_they_are(self, few, tmp_path):
        members = [("=1+1", small()), ("'=1", small(random_state=1))]
        ensemble = ProtoPNetEnsemble(members).fit(*few)
        path = tmp_path / "evidence.csv"
        export_evidence(ensemble, few[0], path, escape_formulas=True, sparse=True)
        assert set(read_evidence(path)["member"]) == {"=1+1", "'=1"}
        assert '"=1+1"' not in path.read_text(encoding="utf-8")
        null = ProtoPNetEnsemble([("a\0", FrozenEstimator(ensemble.estimators_[0]))]).fit(*few)
        with pytest.raises(ValueError, match=r"no null characters .*got one for 'member'"):
            export_evidence(null, few[0], path)
