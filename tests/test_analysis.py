"""Questions to a classifier, and their answers."""

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
    nearest_patches,
)
from sklearn_protopnet.inspection._analysis import ACTIVATED_COLUMNS, NEAREST_COLUMNS

SMALL = {"image_shape": (8, 8), **QUICK}


class TestExplain:
    def test_a_classifier(self, fitted, digits):
        X, _ = digits
        pd.testing.assert_frame_equal(
            explain(fitted, X[:9], classes="all", top_k=3, localizer="prp"),
            fitted.explain(X[:9], classes="all", top_k=3, localizer="prp"),
        )

    def test_the_top_classes_of_each_image(self, fitted, digits):
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

    def test_top_classes_of_a_pipeline_and_of_two_classes(self, digits):
        X, y = digits
        X, y = X[y < 2], y[y < 2]
        pipeline = make_pipeline(StandardScaler(), ProtoPNetClassifier(**SMALL)).fit(X, y)
        found = explain(pipeline, X[:9], n_top_classes=2, top_k=1)
        predicted = pipeline.predict(X[:9])
        assert_array_equal(found["class"], np.stack([predicted, 1 - predicted], axis=1).ravel())

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
    def test_top_classes_that_cannot_be(self, fitted, digits, settings, message):
        for ask in (fitted.explain, lambda X, **rest: explain(fitted, X, **rest)):
            with pytest.raises(ValueError, match=message):
                ask(digits[0][:2], **settings)

    def test_a_pipeline_explains_what_reaches_the_classifier(self, digits):
        X, y = digits
        pipeline = make_pipeline(StandardScaler(), ProtoPNetClassifier(**SMALL)).fit(X, y)
        expected = pipeline[-1].explain(pipeline[:-1].transform(X[:9]))
        pd.testing.assert_frame_equal(explain(pipeline, X[:9]), expected)

    def test_a_pipeline_of_one_step_and_one_within_another(self, digits):
        X, y = digits
        pipeline = make_pipeline(make_pipeline(ProtoPNetClassifier(**SMALL))).fit(X, y)
        expected = pipeline[-1][-1].explain(X[:9])
        pd.testing.assert_frame_equal(explain(pipeline, X[:9]), expected)

    def test_a_search_over_a_pipeline(self, digits):
        X, y = digits
        pipeline = make_pipeline(StandardScaler(), ProtoPNetClassifier(**SMALL))
        grid = {"protopnetclassifier__l1_weight": [1e-4, 1e-3]}
        search = GridSearchCV(pipeline, grid, cv=2).fit(X[:60], y[:60])
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
    def test_samples_have_the_names_of_the_frame(self, digits, front):
        """An array is made of the frame, or it stays, or another one takes its place."""
        X, y = digits
        frame = pd.DataFrame(X, index=[f"cell {i}" for i in range(len(X))])
        pipeline = make_pipeline(front, ProtoPNetClassifier(**SMALL)).fit(frame, y)
        found = explain(pipeline, frame[4:7], top_k=1)
        assert found["sample"].tolist() == ["cell 4", "cell 5", "cell 6"]

    @pytest.mark.parametrize(
        "estimator",
        [
            ProtoPNetClassifier(),
            make_pipeline(StandardScaler(), ProtoPNetClassifier()),
            GridSearchCV(ProtoPNetClassifier(), {"l1_weight": [1e-4]}),
        ],
    )
    def test_nothing_is_fitted(self, estimator, digits):
        with pytest.raises(NotFittedError):
            explain(estimator, digits[0])

    def test_another_classifier_at_the_end(self, digits):
        X, y = digits
        pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
        with pytest.raises(TypeError, match="a search with refit that ends in one, got Pipeline"):
            explain(pipeline, X)


class TestNearestPatches:
    def test_they_are_the_images_at_the_smallest_distance(self, fitted, digits):
        X, _ = digits
        found = nearest_patches(fitted, X, k=3)
        assert tuple(found.columns) == NEAREST_COLUMNS
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
        is_source = first["sample"].to_numpy() == what["sample"].to_numpy()
        assert is_source.mean() > 0.8  # the same patch may be in an earlier image
        box = ["y0", "y1", "x0", "x1"]
        assert_array_equal(first[box][is_source], what[box][is_source])

    def test_boxes_are_those_of_explain(self, fitted, digits):
        X, _ = digits
        columns = ["sample", "prototype", "y0", "y1", "x0", "x1", "box_kind"]
        for localizer in ("receptive_field", "prp"):
            found = nearest_patches(fitted, X[:7], k=2, localizer=localizer)[columns]
            why = fitted.explain(X[:7], localizer=localizer)[columns]
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
        assert tuple(found.columns) == ACTIVATED_COLUMNS
        similarities = fitted.transform(X[:9])
        for sample, rows in found.groupby("sample"):
            expected = np.argsort(-similarities[sample], kind="stable")[:4]
            assert_array_equal(rows["prototype"], expected)
            assert_array_equal(rows["similarity"], similarities[sample, expected])
            assert rows["rank"].tolist() == [1, 2, 3, 4]
        assert_array_equal(found["prototype_class"], fitted.prototype_classes_[found["prototype"]])

    def test_samples_have_the_names_of_a_frame(self, digits):
        X, y = digits
        frame = pd.DataFrame(X, index=[f"cell {i}" for i in range(len(X))])
        clf = ProtoPNetClassifier(**SMALL).fit(frame, y)
        found = activated_prototypes(clf, frame[:2], k=1)
        assert found["sample"].tolist() == ["cell 0", "cell 1"]
        pipeline = make_pipeline(StandardScaler(), clf).fit(frame, y)
        found = activated_prototypes(pipeline, frame[:2], k=1)
        assert found["sample"].tolist() == ["cell 0", "cell 1"]

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
def test_questions_that_have_no_answer(fitted, digits, function, settings, message):
    with pytest.raises(ValueError, match=message):
        function(fitted, digits[0][:2], **settings)


def test_an_estimator_that_cannot_explain(digits):
    with pytest.raises(TypeError, match="must be a ProtoPNetClassifier"):
        explain(StandardScaler().fit(digits[0]), digits[0])
