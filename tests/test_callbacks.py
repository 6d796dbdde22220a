"""scikit-learn's callbacks: the tree of tasks, stopping, the estimator that they may ask for."""

import pickle

import numpy as np
import pandas as pd
import pytest
from quick import QUICK
from sklearn.base import clone
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from test_classifier import assert_same_bits
from test_training_cache import GIVEN, Backbone

from sklearn_protopnet import ProtoPNetClassifier, load

ROUNDS = {**QUICK, "joint_epochs": 3, "projection_interval": 2}


class Silent:
    """A callback that does nothing."""

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        pass


def path_of(context):
    above = [] if context.parent is None else path_of(context.parent)
    return [*above, f"{context.task_name} {context.task_id}"]


class Notes(Silent):
    """Notes begins and ends."""

    def __init__(self):
        self.calls = []

    def setup(self, estimator, context):
        self.calls.append("setup")

    def teardown(self, estimator, context):
        self.calls.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.calls.append(f"begin {' > '.join(path_of(context))}")

    def on_fit_task_end(self, estimator, context):
        self.calls.append(f"end {' > '.join(path_of(context))}")


class Stop(Silent):
    """Asks to stop at the end of tasks of some names."""

    def __init__(self, *names):
        self.names = names

    def on_fit_task_end(self, estimator, context):
        return context.task_name in self.names


class StopAfter(Silent):
    """Ends a stage after so many epochs."""

    def __init__(self, stage, n_epochs):
        self.stage, self.n_left = stage, n_epochs

    def on_fit_task_end(self, estimator, context):
        self.n_left -= context.task_name == "epoch" and context.parent.task_name == self.stage
        return self.n_left == 0 and context.task_name == "epoch"


class Fitted(Silent):
    """Keeps the estimators that it may ask for, by what they would be after."""

    def __init__(self):
        self.found = {}

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        self.found[" > ".join(path_of(context))] = fitted_estimator


def nested(names):
    """Give the calls for a tree of lists of names."""
    for name, children in names:
        yield f"begin {name}"
        yield from (call.replace(" ", f" {name} > ", 1) for call in nested(children))
        yield f"end {name}"


def stages(n_joint, *before):
    rest = [("joint", n_joint), ("projection", 0), ("last_layer", 0)]
    return [
        (f"{name} {i}", [(f"epoch {k}", []) for k in range(n_epochs)])
        for i, (name, n_epochs) in enumerate([*before, *rest])
    ]


class TestTree:
    def test_tasks_are_rounds_of_stages_of_epochs(self, few):
        notes = Notes()
        ProtoPNetClassifier(**ROUNDS).set_callbacks(notes).fit(*few)
        first = stages(2, ("pretraining", 1), ("initialization", 0), ("warmup", 1))
        tree = [("fit 0", [("round 0", first), ("round 1", stages(1))])]
        assert notes.calls == ["setup", *nested(tree), "teardown"]

    def test_a_fit_that_fails_tears_down(self, few):
        notes = Notes()
        clf = ProtoPNetClassifier(**ROUNDS, augment=lambda image: image[:0]).set_callbacks(notes)
        with pytest.raises(ValueError, match="augment"):
            clf.fit(*few)
        assert notes.calls[-1] == "teardown"
        clf.set_params(augment=None).fit(*few)
        assert notes.calls.count("teardown") == 2

    def test_a_fit_with_callbacks_has_the_same_bits(self, few):
        plain = ProtoPNetClassifier(**ROUNDS).fit(*few)
        watched = ProtoPNetClassifier(**ROUNDS).set_callbacks(Notes(), Fitted()).fit(*few)
        assert_same_bits(watched, plain)

    def test_weights_are_among_the_metadata(self, few):
        class Metadata(Silent):
            def on_fit_task_end(self, estimator, context, *, X=None, y=None, metadata=None):
                found.append((X, y, metadata))

        found = []
        X, y = few
        weight = np.ones(len(y))
        clf = ProtoPNetClassifier(**QUICK).set_callbacks(Metadata())
        clf.fit(X, y, sample_weight=weight)
        assert all(each[0] is X and each[2]["sample_weight"] is weight for each in found)
        assert all(np.array_equal(each[1], y) for each in found)


class TestStopping:
    @pytest.mark.parametrize(
        ("names", "ends_as"),
        [
            (("epoch",), {"joint_epochs": 1}),
            (("pretraining",), {"warmup_epochs": 0, "joint_epochs": 0}),
            (("warmup",), {"joint_epochs": 0}),
            (("initialization",), {"warmup_epochs": 0, "joint_epochs": 0}),
        ],
    )
    def test_it_ends_as_a_fit_that_asks_for_no_more(self, few, names, ends_as):
        settings = {**QUICK, "joint_epochs": 3, "linear_head_weight": 0.0}
        stopped = ProtoPNetClassifier(**settings).set_callbacks(Stop(*names)).fit(*few)
        ended = ProtoPNetClassifier(**{**settings, **ends_as}).fit(*few)
        assert_same_bits(stopped, ended)

    def test_a_round_may_be_the_last_one(self, few):
        stopped = ProtoPNetClassifier(**ROUNDS).set_callbacks(Stop("round")).fit(*few)
        ended = ProtoPNetClassifier(**{**ROUNDS, "joint_epochs": 2}).fit(*few)
        assert_same_bits(stopped, ended)

    def test_later_rounds_go_on(self, few):
        clf = ProtoPNetClassifier(**ROUNDS).set_callbacks(Stop("epoch")).fit(*few)
        assert clf.history_table()["round"].max() == 2
        assert clf.n_iter_ == 4  # pretraining, warm-up, one joint epoch of each round

    def test_what_was_cut_short_is_not_kept(self, few, tmp_path):
        settings = {**QUICK, "joint_epochs": 3, "memory": str(tmp_path)}
        stopped = ProtoPNetClassifier(**settings).set_callbacks(Stop("epoch")).fit(*few)
        whole = ProtoPNetClassifier(**settings).fit(*few)
        assert (stopped.n_iter_, whole.n_iter_) == (3, 5)


class TestFittedEstimator:
    def test_it_is_the_fit_that_ends_there(self, few):
        fitted = Fitted()
        clf = ProtoPNetClassifier(**ROUNDS).set_callbacks(fitted).fit(*few)
        X = few[0]
        for n_epochs, task in ((1, "round 0 > joint 3 > epoch 0"), (2, "round 0 > joint 3")):
            ended = ProtoPNetClassifier(**{**ROUNDS, "joint_epochs": n_epochs}).fit(*few)
            found = fitted.found[f"fit 0 > {task}"]
            assert np.array_equal(found.decision_function(X), ended.decision_function(X))
            assert np.array_equal(found.prototypes_, ended.prototypes_)
            assert found.explain(X[:2]).equals(ended.explain(X[:2]))
            names = [{each for each in vars(it) if each[-1] == "_"} for it in (found, clf)]
            assert names[0] == names[1]
        for task in ("fit 0", "fit 0 > round 1", "fit 0 > round 1 > last_layer 2"):
            last = fitted.found[task].decision_function(X)
            assert np.array_equal(last, clf.decision_function(X)), task

    def test_with_early_stopping_it_has_the_best_state(self, few):
        settings = {**QUICK, "joint_epochs": 5, "learning_rate": 0.05, "early_stopping": True}
        fitted = Fitted()
        ProtoPNetClassifier(**settings).set_callbacks(fitted).fit(*few)
        for n_epochs in (1, 2, 3, 4):
            stopped = ProtoPNetClassifier(**settings).set_callbacks(StopAfter("joint", n_epochs))
            stopped.fit(*few)
            found = fitted.found[f"fit 0 > round 0 > joint 3 > epoch {n_epochs - 1}"]
            assert np.array_equal(found.prototypes_, stopped.prototypes_)
            assert np.array_equal(found.coef_, stopped.coef_)

    @pytest.mark.parametrize("is_fitted", [False, True])
    def test_it_can_be_saved(self, few, tmp_path, is_fitted):
        class Save(Fitted):
            def on_fit_task_end(self, estimator, context, *, fitted_estimator):
                if context.task_name == "epoch":
                    fitted_estimator.save(tmp_path / "clf")
                    self.expected = fitted_estimator.decision_function(few[0])

        save, clf = Save(), ProtoPNetClassifier(**QUICK)
        if is_fitted:
            clf.fit(pd.DataFrame(few[0]).rename(columns="pixel {}".format), few[1])
        clf.set_callbacks(save).fit(*few)
        assert np.array_equal(load(tmp_path / "clf").decision_function(few[0]), save.expected)

    def test_the_end_is_told_where_warnings_are_errors(self, few):
        X, y = few
        notes = Notes()
        clf = ProtoPNetClassifier(**QUICK).set_callbacks(notes)
        with pytest.raises(UserWarning, match="No training image of classes"):
            clf.fit(X, y, sample_weight=(y != y[0]).astype(float))
        assert "end fit 0" in notes.calls
        assert len(clf.predict(X)) == len(X)

    def test_names_of_columns_are_those_of_the_fit(self, few):
        X, y = few
        frame = pd.DataFrame(X).rename(columns="pixel {}".format)
        monitor, clf = ScoringMonitor(scoring="accuracy"), ProtoPNetClassifier(**QUICK)
        for images in (frame, X, frame):  # a warning would be an error
            clf.set_callbacks(monitor).fit(images, y)
        assert len(monitor.get_logs("all")) == 3

    def test_every_task_has_one(self, few):
        fitted = Fitted()
        ProtoPNetClassifier(**ROUNDS).set_callbacks(fitted).fit(*few)
        assert len(fitted.found) == 1 + 2 + 6 + 3 + 5
        for task, each in fitted.found.items():
            assert (each.prototype_distances_ == 0).all(), task

    def test_it_costs_nothing_when_nobody_asks(self, few):
        X, y = few
        clf = ProtoPNetClassifier(backbone=Backbone(), **ROUNDS)
        counts = []
        for callbacks in ((), (Silent(),), (Fitted(),)):
            GIVEN.clear()
            clf.set_callbacks(*callbacks).fit(X.reshape(-1, 8, 8), y)
            counts.append(sum(GIVEN))
        assert counts[0] == counts[1] < counts[2]

    def test_one_that_was_fitted_before_is_not_mixed_up(self, few):
        X, y = few
        fitted = Fitted()
        clf = ProtoPNetClassifier(**QUICK).fit(X, y).set_callbacks(fitted)
        clf.fit(X, y + 5)
        assert set(fitted.found["fit 0 > round 0"].predict(X)) <= {5, 6, 7}


class TestTools:
    """scikit-learn's own callbacks, alone and inside of its tools."""

    @pytest.mark.parametrize("n_jobs", [None, 2])
    def test_in_a_grid_search(self, few, n_jobs):
        monitor = ScoringMonitor(scoring="accuracy")
        clf = ProtoPNetClassifier(**QUICK).set_callbacks(monitor)
        search = GridSearchCV(clf, {"l1_weight": [1e-4, 1e-3]}, cv=2, n_jobs=n_jobs)
        search.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(*few)
        logs = monitor.get_logs("all")
        log = logs[-1].data_as_pandas
        n_tasks = 1 + 1 + 6 + 3  # fit, round, stages, epochs
        assert len(log) == 5 * n_tasks  # four splits and the refit
        assert log["accuracy"].between(0, 1).all()
        assert {"fit", "round", "joint", "epoch"} <= set(log["task_name"])

    def test_in_a_pipeline(self, few, capsys):
        monitor = ScoringMonitor(scoring="accuracy")
        clf = ProtoPNetClassifier(**QUICK).set_callbacks(monitor)
        pipeline = make_pipeline(StandardScaler(), clf).set_callbacks(ProgressBar())
        pipeline.fit(*few)
        scores = monitor.get_logs().data_as_pandas["accuracy"]
        assert len(scores) == 1 + 1 + 6 + 3
        assert "joint" in capsys.readouterr().out

    def test_alone(self, few, capsys):
        ProtoPNetClassifier(**QUICK).set_callbacks(ProgressBar()).fit(*few)
        shown = capsys.readouterr().out
        for name in ("fit", "round", "pretraining", "warmup", "joint"):
            assert f"ProtoPNetClassifier - {name}" in shown

    def test_copies_have_them_and_files_do_not(self, few, tmp_path):
        clf = ProtoPNetClassifier(**QUICK).set_callbacks(Stop("epoch")).fit(*few)
        assert clone(clf).fit(*few).n_iter_ == clf.n_iter_
        assert_same_bits(pickle.loads(pickle.dumps(clf)), clf)
        clf.save(tmp_path / "model")
        assert_same_bits(load(tmp_path / "model"), clf)
