"""Questions to a classifier, and their answers."""

import copy
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from quick import QUICK
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_protopnet import ProtoPNetClassifier
from sklearn_protopnet.inspection import (
    activated_prototypes,
    explain,
    last_layer_path,
    localize,
    nearest_patches,
)

SMALL = {"image_shape": (8, 8), **QUICK}
LABELS = ["ant", "bee", "cat"]
PATCH = ["similarity", "distance", "y0", "y1", "x0", "x1", "box_kind"]


@pytest.fixture(scope="module")
def of_classes(digits):
    """Give a classifier of three or ten digits other labels, in their order."""
    X, y = digits
    known = {n: ProtoPNetClassifier(**SMALL).fit(X[y < n], y[y < n]) for n in (3, 10)}

    def renamed(labels):
        clf = copy.copy(known[len(labels)])
        owners = np.searchsorted(clf.classes_, clf.prototype_classes_)
        clf.classes_ = np.asarray(labels)
        clf.prototype_classes_ = clf.classes_[owners]
        return clf

    return renamed


def classes_of(table):
    """The classes of a table about one image, in their order."""
    return table["class"].drop_duplicates().tolist()


class TestClasses:
    @pytest.mark.parametrize(
        ("classes", "expected"),
        [
            ("all", LABELS),
            ("bee", ["bee"]),
            (("cat", "ant"), ["cat", "ant"]),
            (np.array(["bee", "cat"]), ["bee", "cat"]),
        ],
    )
    def test_words_and_labels_are_taken(self, of_classes, digits, classes, expected):
        table = of_classes(LABELS).explain(digits[0][:1], classes=classes, top_k=1)
        assert classes_of(table) == expected

    def test_of_logits_that_tie_the_first_is_on_top(self, of_classes, digits):
        clf, X = of_classes(LABELS), digits[0][:1]
        clf.coef_ = np.ones_like(clf.coef_)
        clf.coef_[1] = 0.5
        assert classes_of(clf.explain(X, top_k=1)) == ["ant"] == clf.predict(X).tolist()
        for n_top_classes, expected in ((1, ["ant"]), (np.uint8(2), ["ant", "cat"])):
            table = clf.explain(X, n_top_classes=n_top_classes, top_k=1)
            assert classes_of(table) == expected
        assert classes_of(clf.explain(X, n_top_classes=3, top_k=1)) == ["ant", "cat", "bee"]

    @pytest.mark.parametrize("classes", [7, [7, 2], np.array([2]), np.array([2, 7], dtype=">i4")])
    def test_numbers_are_taken(self, of_classes, digits, classes):
        table = of_classes([2, 7, 10]).explain(digits[0][:1], classes=classes, top_k=1)
        assert classes_of(table) == np.atleast_1d(classes).tolist()

    @pytest.mark.parametrize(
        "classes",
        [
            *("dog", "", ["ant", "dog"], [], 0, [["ant", "bee"]], [None], None, ["predicted"]),
            *({"bee"}, {"ant": 1}, [{"ant"}], [["ant"], ["ant", "bee"]]),
        ],
        ids=repr,
    )
    def test_unknown_labels_are_named(self, of_classes, digits, classes):
        message = r"labels among \['ant', 'bee', 'cat'\], got "
        with pytest.raises(ValueError, match=message) as caught:
            of_classes(LABELS).explain(digits[0][:1], classes=classes)
        assert repr(classes) in str(caught.value)

    @pytest.mark.parametrize("n_classes", [3, 10])
    @pytest.mark.parametrize("classes", ["2", ["2", "1"], [1, "2"], 2.5, [[1, 2]], True + 1j])
    def test_numbers_and_text_are_not_mixed_up(self, of_classes, digits, classes, n_classes):
        labels = range(n_classes)
        for known, asked in ((labels, classes), ([*map(str, labels)], [1, 2])):
            with pytest.raises(ValueError, match=r"labels among .*, got "):
                of_classes(known).explain(digits[0][:1], classes=asked)

    def test_labels_are_taken_in_any_order_and_each_once(self, of_classes, digits):
        labels = sorted(map(str, range(2, 12)))  # "10" and "11" come before "2"
        for known, asked, expected in (
            (labels, ["2", "10", "2"], ["2", "10"]),
            (range(10), np.array([2, 7, 2.0]), [2, 7]),
            ([0, 1, 2], [True], [1]),
            ([0, 1, 2], np.array([1, 0]), [1, 0]),
        ):
            table = of_classes(known).explain(digits[0][:1], classes=asked, top_k=1)
            assert classes_of(table) == expected

    def test_truth_values_are_the_numbers_0_and_1(self, digits):
        X, y = digits
        clf = ProtoPNetClassifier(**SMALL).fit(X[y < 2], y[y < 2] == 1)
        for classes in ([True], np.array([1])):
            assert classes_of(clf.explain(X[:1], classes=classes, top_k=1)) == [True]


class TestExplain:
    def test_it_is_the_method_of_the_classifier(self, fitted, digits):
        X, _ = digits
        pd.testing.assert_frame_equal(
            explain(fitted, X[:2], classes=[3, 1], top_k=3, localizer="prp"),
            fitted.explain(X[:2], classes=[3, 1], top_k=3, localizer="prp"),
        )

    def test_the_top_classes_are_those_of_each_image(self, fitted, digits):
        X, _ = digits
        top = explain(fitted, X[:40], n_top_classes=3, details="margin")
        order = np.argsort(-fitted.decision_function(X[:40]), axis=1, kind="stable")[:, :3]
        assert_array_equal(top["class"], fitted.classes_[np.repeat(order.ravel(), 30)])
        assert_array_equal(top["rank"], np.tile(np.arange(1, 31), 40 * 3))
        sums = top.groupby(["sample", "class"])[["contribution"]].sum()["contribution"]
        logits = top.groupby(["sample", "class"])["logit"].first()
        pd.testing.assert_series_equal(sums, logits, check_names=False, rtol=1e-9)
        every = fitted.explain(X[:40], classes="all", details="margin")
        names = ["sample", "class", "prototype"]
        expected = top[names].merge(every, on=names)
        pd.testing.assert_frame_equal(top[expected.columns], expected)

    def test_one_top_class_is_the_predicted_one(self, fitted, digits):
        X, _ = digits
        found = fitted.explain(X, n_top_classes=1, top_k=2)
        pd.testing.assert_frame_equal(found, fitted.explain(X, top_k=2))

    def test_all_top_classes_are_all(self, fitted, digits):
        X, _ = digits
        names = ["sample", "class", "rank"]
        found = fitted.explain(X[:5], n_top_classes=10).sort_values(names, ignore_index=True)
        pd.testing.assert_frame_equal(found, fitted.explain(X[:5], classes="all"))

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"n_top_classes": 0}, "n_top_classes must be a positive integer, got 0"),
            ({"n_top_classes": 1.0}, r"n_top_classes must be a positive integer, got 1\.0"),
            ({"n_top_classes": "2"}, "n_top_classes must be a positive integer, got '2'"),
            ({"n_top_classes": 11}, "at most the number of classes, 10, got 11"),
            (
                {"n_top_classes": 2, "classes": "all"},
                "must stand instead of classes, got 2 and classes='all'",
            ),
            (
                {"n_top_classes": 2, "classes": [1]},
                r"must stand instead of classes, got 2 and classes=\[1\]",
            ),
        ],
    )
    def test_top_classes_that_cannot_be_are_refused(self, fitted, digits, settings, message):
        for ask in (fitted.explain, lambda X, **rest: explain(fitted, X, **rest)):
            with pytest.raises(ValueError, match=message):
                ask(digits[0][:2], **settings)

    def test_a_pipeline_explains_what_reaches_the_classifier(self, fitted, digits):
        X, _ = digits
        scaler = StandardScaler().fit(X)
        expected = fitted.explain(scaler.transform(X[:9]), n_top_classes=2)
        for pipeline in (
            make_pipeline(scaler, fitted),
            make_pipeline(make_pipeline(scaler, fitted)),
        ):
            pd.testing.assert_frame_equal(explain(pipeline, X[:9], n_top_classes=2), expected)
        expected = fitted.explain(X[:9])
        pd.testing.assert_frame_equal(explain(make_pipeline(fitted), X[:9]), expected)

    def test_a_search_explains_by_its_best_pipeline(self, digits):
        X, y = digits
        pipeline = make_pipeline(StandardScaler(), ProtoPNetClassifier(**SMALL))
        search = GridSearchCV(pipeline, {"protopnetclassifier__l1_weight": [1e-3]}, cv=2)
        search.fit(X[:60], y[:60])
        expected = explain(search.best_estimator_, X[:9])
        pd.testing.assert_frame_equal(explain(search, X[:9]), expected)

    @pytest.mark.parametrize(
        "front",
        [
            StandardScaler(),
            FunctionTransformer(),
            FunctionTransformer(lambda frame: frame.reset_index(drop=True)),
        ],
    )
    def test_samples_have_the_names_of_the_frame(self, fitted, digits, front):
        """An array is made of the frame, or it stays, or another one takes its place."""
        X, _ = digits
        frame = pd.DataFrame(X, index=[f"cell {i}" for i in range(len(X))])
        pipeline = make_pipeline(front.fit(frame), fitted)
        for found in (
            explain(pipeline, frame[4:7], top_k=1),
            activated_prototypes(pipeline, frame[4:7], k=1),
        ):
            assert found["sample"].tolist() == ["cell 4", "cell 5", "cell 6"]

    @pytest.mark.parametrize(
        "index",
        [
            np.array([7, 3], dtype=">i4"),
            np.array([7, 3], dtype=">f8"),
            pd.date_range("2026-01-01", periods=2),
            [("x", 1), ("x", 2)],
        ],
    )
    def test_any_index_names_samples_and_tables_can_be_merged_by_it(self, fitted, digits, index):
        frame = pd.DataFrame(digits[0][:2])
        frame.index = pd.Index(index)
        why = fitted.explain(frame, top_k=2)
        names = list(frame.index)
        assert why["sample"].tolist() == list(np.repeat(frame.index, 2))
        assert why.groupby("sample")["rank"].max().tolist() == [2, 2]
        for found in (activated_prototypes(fitted, frame, k=2), nearest_patches(fitted, frame)):
            merged = why.merge(found, on=["sample", "prototype"])
            assert_array_equal(merged["similarity_x"], merged["similarity_y"])
        assert len(why.merge(pd.DataFrame({"sample": names}), on="sample")) == 4

    def test_every_number_has_native_byte_order_whatever_came_in(self, digits):
        X, y = digits
        X, y = X[y < 3].astype(">f8"), y[y < 3].astype(">i4")
        clf = ProtoPNetClassifier(**SMALL).fit(X, y)
        frame = pd.DataFrame(X[:4], index=np.arange(4, dtype=">i8"))
        for table in (
            clf.explain(frame, classes=y[:1], details="all"),
            clf.prototype_table(),
            clf.history_table(),
            nearest_patches(clf, frame),
            activated_prototypes(clf, frame),
            last_layer_path(clf, X, y, l1_weights=np.array([1e-3], dtype=">f4")),
        ):
            assert all(getattr(dtype, "isnative", True) for dtype in table.dtypes)
        assert clf.explain(X[:4]).groupby("class")["contribution"].sum().notna().all()

    def test_integers_of_numpy_are_integers(self, fitted, digits):
        X, _ = digits
        for kind in (np.uint8, np.int64):
            options = {"top_k": kind(2), "n_top_classes": kind(3)}
            expected = fitted.explain(X[:2], top_k=2, n_top_classes=3)
            pd.testing.assert_frame_equal(fitted.explain(X[:2], **options), expected)
            found = localize(fitted, X[:2], prototypes=kind(2), localizer="receptive_field")
            assert found.prototypes.tolist() == [2]
            assert len(nearest_patches(fitted, X[:2], k=kind(1))) == 30

    def test_an_image_is_explained_alike_alone_and_among_others(self, fitted, digits):
        X, _ = digits
        together = fitted.explain(X[:40], classes="all")
        alone = fitted.explain(X[23:24], classes="all")
        alone["sample"] = 23
        rows = together[together["sample"] == 23].reset_index(drop=True)
        pd.testing.assert_frame_equal(alone, rows, check_exact=False, rtol=1e-6)

    def test_explaining_changes_nothing(self, fitted, digits):
        X = digits[0][:3].copy()
        before, expected = fitted.prototypes_.copy(), fitted.explain(X)
        table = fitted.explain(X)
        table.loc[:, ["weight", "source_y0"]] = 0
        pd.testing.assert_frame_equal(fitted.explain(X), expected)
        assert_array_equal(fitted.prototypes_, before)
        assert_array_equal(X, digits[0][:3])

    @pytest.mark.parametrize(
        "estimator",
        [
            ProtoPNetClassifier(),
            make_pipeline(StandardScaler(), ProtoPNetClassifier()),
            GridSearchCV(ProtoPNetClassifier(), {"l1_weight": [1e-4]}),
        ],
    )
    def test_what_is_not_fitted_explains_nothing(self, estimator, digits):
        with pytest.raises(NotFittedError):
            explain(estimator, digits[0])

    def test_another_classifier_at_the_end_is_refused(self, digits):
        X, y = digits
        pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
        with pytest.raises(TypeError, match="a search with refit that ends in one, got Pipeline"):
            explain(pipeline, X)


class TestNearestPatches:
    def test_they_are_the_images_at_the_smallest_distance(self, fitted, digits):
        X, _ = digits
        found = nearest_patches(fitted, X, k=3)
        expected = ["prototype", "prototype_class", "rank", "sample", *PATCH]
        assert found.columns.tolist() == expected
        why = fitted.explain(X)
        for prototype, rows in found.groupby("prototype"):
            assert rows["rank"].tolist() == [1, 2, 3]
            distances = why[why["prototype"] == prototype].set_index("sample")["distance"]
            expected = distances.sort_values(kind="stable")[:3]
            assert_array_equal(rows["distance"], expected)
            assert_array_equal(rows["sample"], expected.index)

    def test_in_the_training_images_the_first_is_the_prototype_itself(self, fitted, digits):
        X, _ = digits
        first = nearest_patches(fitted, X, k=1)
        assert (first["distance"] == 0).all()
        what = fitted.prototype_table()
        is_source = first["sample"].to_numpy() == what["source_sample"].to_numpy()
        assert is_source.mean() > 0.8  # the same patch may be in an earlier image
        box = ["y0", "y1", "x0", "x1"]
        source_box = [f"source_{edge}" for edge in box]
        assert_array_equal(first[box][is_source], what[source_box][is_source])

    def test_boxes_are_those_of_explain(self, fitted, digits):
        X, _ = digits
        columns = ["sample", "prototype", "y0", "y1", "x0", "x1", "box_kind"]
        for localizer in ("receptive_field", "upsample"):
            found = nearest_patches(fitted, X[:3], k=2, localizer=localizer)[columns]
            why = fitted.explain(X[:3], localizer=localizer)[columns]
            merged = found.merge(why, on=["sample", "prototype"], suffixes=("", "_of_explain"))
            assert len(merged) == len(found)
            for name in columns[2:]:
                assert_array_equal(merged[name], merged[f"{name}_of_explain"])

    def test_more_than_there_are_are_all(self, fitted, digits):
        found = nearest_patches(fitted, digits[0][:2], k=9)
        assert len(found) == 2 * len(fitted.prototypes_)
        assert found["rank"].max() == 2


class TestActivatedPrototypes:
    def test_they_are_the_most_similar(self, fitted, digits):
        X, _ = digits
        found = activated_prototypes(fitted, X[:9], k=4)
        expected = ["sample", "rank", "prototype", "prototype_class", *PATCH]
        assert found.columns.tolist() == expected
        similarities = fitted.transform(X[:9])
        for sample, rows in found.groupby("sample"):
            expected = np.argsort(-similarities[sample], kind="stable")[:4]
            assert_array_equal(rows["prototype"], expected)
            assert_array_equal(rows["similarity"], similarities[sample, expected])
            assert rows["rank"].tolist() == [1, 2, 3, 4]
        assert_array_equal(found["prototype_class"], fitted.prototype_classes_[found["prototype"]])

    def test_more_than_there_are_are_all(self, fitted, digits):
        assert len(activated_prototypes(fitted, digits[0][:2], k=99)) == 2 * 30


@pytest.mark.parametrize("function", [nearest_patches, activated_prototypes])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": 0}, "k must be a positive integer, got 0"),
        ({"k": 1.5}, "k must be a positive integer, got 1.5"),
        ({"localizer": "magic"}, "localizer must be one of"),
    ],
)
def test_questions_that_have_no_answer_are_refused(fitted, digits, function, settings, message):
    with pytest.raises(ValueError, match=message):
        function(fitted, digits[0][:2], **settings)


def test_an_estimator_that_cannot_explain_is_refused(digits):
    with pytest.raises(TypeError, match="must be a ProtoPNetClassifier"):
        explain(StandardScaler().fit(digits[0]), digits[0])


class TestFittedStateOnly:
    """After a fit, parameters of the constructor say nothing of what the classifier is."""

    BY_CONTRACT = ("class_weight", "device", "l1_weight", "l2_weight", "memory", "n_jobs")
    """What a refit or a call takes from the constructor."""

    OTHERS: ClassVar = {
        "image_shape": (4, 16),
        "image_size": None,
        "backbone": "resnet18",
        "weights": "imagenet",
        "feature_stride": 4,
        "prototype_depth": 7,
        "n_prototypes_per_class": 5,
        "prototype_size": (3, 3),
        "similarity": "cosine",
        "n_pooled_patches": 3,
        "cluster_weight": 0.1,
        "separation_weight": 0.1,
        "linear_head_weight": 0.1,
        "pretraining_epochs": 7,
        "warmup_epochs": 7,
        "joint_epochs": 7,
        "projection_interval": 7,
        "learning_rate": 0.1,
        "backbone_learning_rate": 0.1,
        "weight_decay": 0.1,
        "batch_size": 7,
        "augment": "paper",
        "early_stopping": True,
        "validation_fraction": 0.4,
        "n_iter_no_change": 7,
        "precision": "float32",
        "checkpoint": "nowhere",
        "checkpoint_interval": 7.0,
        "warm_start": True,
        "random_state": 7,
        "verbose": 0,
    }

    def answers(self, clf, X, y):
        yield from (clf.predict_proba(X), clf.decision_function(X), clf.transform(X))
        yield clf.explain(X[:3], details="all", localizer="prp", top_k=2)
        yield clf.prototype_table(localizer="upsample")
        yield localize(clf, X[:3], localizer="upsample").boxes
        yield from (clf.get_feature_names_out(), clf.history_table())
        clf.refit_last_layer(X, y)
        yield from (clf.coef_, clf.explain(X[:3]))

    @pytest.mark.parametrize("image_size", [None, (10, 12)])
    def test_other_parameters_change_no_answer(self, digits, image_size):
        X, y = digits
        X, y = X[y < 3], y[y < 3]
        settings = SMALL if image_size is None else {**QUICK, "image_size": image_size}
        X = X if image_size is None else X.reshape(-1, 8, 8)
        clf = ProtoPNetClassifier(**settings).fit(X, y)
        assert {*self.OTHERS, *self.BY_CONTRACT} == {*clf.get_params()}
        other = copy.deepcopy(clf).set_params(**self.OTHERS)
        for expected, found in zip(self.answers(clf, X, y), self.answers(other, X, y), strict=True):
            if isinstance(expected, pd.DataFrame):
                expected, found = (
                    t.drop(columns="seconds", errors="ignore") for t in (expected, found)
                )
                pd.testing.assert_frame_equal(found, expected, check_exact=True)
            else:
                assert_array_equal(found, expected)
