"""What CONTRIBUTING says of additions holds: one record, registered in one place, is all."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from quick import QUICK
from torch import nn

from sklearn_protopnet import ProtoPNetClassifier, build_backbone, load
from sklearn_protopnet._images import _forms
from sklearn_protopnet._images._forms import INPUT_FORMS, InputForm
from sklearn_protopnet._images._store import ArrayImages
from sklearn_protopnet._network._backbones import BACKBONES
from sklearn_protopnet._network._similarity import SIMILARITIES, Similarity
from sklearn_protopnet._network._weights import Backbone
from sklearn_protopnet.inspection import (
    ExplanationDisplay,
    export_evidence,
    localize,
    read_evidence,
    write_report,
)
from sklearn_protopnet.inspection._attribution import Attribution
from sklearn_protopnet.inspection._boxes import relevance_box
from sklearn_protopnet.inspection._details import DETAILS, Detail
from sklearn_protopnet.inspection._localizers import LOCALIZERS, Localizer
from sklearn_protopnet.metrics import prototype_report
from sklearn_protopnet.metrics._report._column import Column
from sklearn_protopnet.metrics._report._columns import COLUMNS


@pytest.fixture
def images(digits):
    X, y = digits
    return X[y < 3].reshape(-1, 8, 8), y[y < 3]


def goes_all_the_way(clf, X, tmp_path):
    """Explain, save, load and report with a fitted classifier; return the explanation."""
    why = clf.explain(X, classes="all", details="all")
    sums = why.groupby(["sample", "class"])["contribution"].sum()
    assert_allclose(sums, clf.decision_function(X).ravel(), rtol=1e-9, atol=1e-12)
    clf.save(tmp_path / "classifier.skops")
    again = load(tmp_path / "classifier.skops")
    assert_array_equal(again.decision_function(X), clf.decision_function(X))
    assert write_report(again, X, tmp_path / "report.html").stat().st_size > 0
    assert export_evidence(again, X, tmp_path / "evidence.sqlite") > 0
    report = prototype_report(again, X, again.predict(X), groups="box", max_images=1)
    assert report["box_sufficiency"].dropna().round(6).eq(1).all()
    return why


def test_a_similarity_is_added_by_its_record(images, tmp_path, monkeypatch):
    record = Similarity(
        name="inverse",
        function=lambda distances: 1 / (1 + distances),
        range=(0.0, 1.0),
        on_unit_vectors=False,
        description="``1 / (1 + d)``",
    )
    monkeypatch.setitem(SIMILARITIES, record.name, record)

    X, y = images
    clf = ProtoPNetClassifier(similarity="inverse", n_pooled_patches=1, **QUICK).fit(X, y)
    why = goes_all_the_way(clf, X[:4], tmp_path)

    assert_allclose(why["similarity"], 1 / (1 + why["distance"]), rtol=1e-12)
    assert why["flip_similarity"].dropna().between(0, 1).all()
    assert_allclose(clf.transform(clf.prototype_images_).max(0), 1, rtol=1e-9)


def test_a_backbone_is_added_by_its_record(images, tmp_path, monkeypatch):
    def build(channels, size):
        return nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.ReLU(), nn.Flatten())

    filters = torch.linspace(-1, 1, 72).reshape(8, 1, 3, 3)
    record = Backbone(
        name="published",
        build=build,
        features=lambda network: network[:2],
        weights=lambda: {"0.weight": filters.repeat(1, 3, 1, 1)},
        standardization=lambda: ([90.0, 100.0, 110.0], [40.0, 50.0, 60.0]),
    )
    monkeypatch.setitem(BACKBONES, record.name, record)

    X, y = images
    clf = ProtoPNetClassifier(
        backbone="published", weights="imagenet", backbone_learning_rate=0, **QUICK
    ).set_params(pretraining_epochs=0)
    colour = np.repeat((16 * X).clip(0, 255).astype(np.uint8)[..., None], 3, axis=3)
    goes_all_the_way(clf.fit(colour, y), colour[:4], tmp_path)

    assert_array_equal(clf.state_["network"]["backbone.0.weight"], filters.repeat(1, 3, 1, 1))
    assert_array_equal(clf.state_["standardization"]["mean"], [90.0, 100.0, 110.0])
    of_grey = clf.fit(colour[..., 0], y).state_["standardization"]
    assert (of_grey["mean"].tolist(), of_grey["scale"].tolist()) == ([100], [50])
    monkeypatch.setitem(BACKBONES, record.name, replace(record, standardization=None))
    assert_allclose(clf.fit(colour, y).state_["standardization"]["mean"], colour.mean((0, 1, 2)))
    grey = build_backbone("published", channels=1, weights="imagenet")
    assert_allclose(grey[0].weight.detach(), 3 * filters, rtol=1e-6)


def test_a_localizer_is_added_by_its_record(images, tmp_path, monkeypatch):
    def middle_pixels(network, image, queries):
        maps = torch.zeros(len(queries), *image.shape[2:])
        for each, (y0, y1, x0, x1) in zip(maps, queries.boxes.tolist(), strict=True):
            each[(y0 + y1) // 2, (x0 + x1) // 2] = 1
        return Attribution(maps)

    record = Localizer(
        name="middle",
        attribute=middle_pixels,
        box=relevance_box,
        cost="none",
        description="the pixel in the middle",
    )
    monkeypatch.setitem(LOCALIZERS, record.name, record)

    X, y = images
    clf = ProtoPNetClassifier(**QUICK).fit(X, y)
    goes_all_the_way(clf, X[:4], tmp_path)
    fields, why = clf.explain(X[:4]), clf.explain(X[:4], localizer="middle")

    assert (why["box_kind"] == "middle").all()
    assert_array_equal(why["y0"], (fields["y0"] + fields["y1"]) // 2)
    assert_array_equal(why["x1"] - why["x0"], 1)
    table = clf.prototype_table(localizer="middle")
    assert_array_equal(table["source_y1"] - table["source_y0"], 1)
    assert localize(clf, X[:1], localizer="middle").maps[0].sum() == len(clf.prototypes_)
    ExplanationDisplay.from_estimator(clf, X, sample=0, localizer="middle")
    write_report(clf, X[:2], tmp_path / "middle.html", localizer="middle")
    export_evidence(clf, X[:2], tmp_path / "middle.csv", localizer="middle")
    assert (read_evidence(tmp_path / "middle.csv")["box_kind"] == "middle").all()
    report = prototype_report(clf, X, y, groups=(), localizer="middle", max_images=2)
    assert_allclose(report["box_share"], 1 / 64)


def test_a_metric_is_added_by_its_function_and_the_record_of_its_column(images, monkeypatch):
    def selectivity(similarities, is_own):
        """Share of images of the own class that are more similar than any other image."""
        return float((similarities[is_own] > similarities[~is_own].max()).mean())

    column = Column(
        name="selectivity",
        description="Share of images of its class that are more similar than any other image.",
        compute=lambda context: [
            selectivity(similarities, is_own)
            for similarities, is_own in zip(
                context.evidence.similarities.T, context.own.T, strict=True
            )
        ],
        metric=selectivity,
        better="larger",
        needs=("mine",),
        summary="selectivity",
    )
    monkeypatch.setitem(COLUMNS, column.name, column)

    X, y = images
    clf = ProtoPNetClassifier(**QUICK).fit(X, y)
    report = prototype_report(clf, X, y, groups="mine")

    similarities = clf.transform(X)
    by_hand = [
        selectivity(similarities[:, p], y == label)
        for p, label in enumerate(clf.prototype_classes_)
    ]
    assert_array_equal(report["selectivity"], by_hand)
    assert math.isclose(report.attrs["summary"]["selectivity"], np.mean(by_hand))
    assert "selectivity" not in prototype_report(clf, X, y, groups=())


class Mosaic:
    """One picture, whose tiles of 8 x 8 pixels are the images."""

    def __init__(self, picture):
        self.picture = picture  # (8 n, 8)

    def __len__(self):
        return len(self.picture) // 8

    def __getitem__(self, part):
        return Mosaic(self.picture.reshape(-1, 8, 8)[part].reshape(-1, 8))


def test_a_form_of_images_is_added_by_its_record(images, tmp_path, monkeypatch):
    def read(X, expected):
        assert expected.name in {"X", "X_val"}
        return ArrayImages(X.picture.reshape(-1, 8, 8, 1))

    record = InputForm(
        name="a mosaic",
        image="``(8, 8, 1)``",
        matches=lambda X: isinstance(X, Mosaic),
        read=read,
    )
    monkeypatch.setattr(_forms, "INPUT_FORMS", (*INPUT_FORMS, record))

    X, y = images
    mosaic = Mosaic(X.reshape(-1, 8))
    clf = ProtoPNetClassifier(**QUICK).fit(mosaic, y, X_val=mosaic[:9], y_val=y[:9])
    goes_all_the_way(clf, mosaic[:4], tmp_path)

    of_arrays = ProtoPNetClassifier(**QUICK).fit(X, y, X_val=X[:9], y_val=y[:9])
    assert_array_equal(clf.decision_function(mosaic), of_arrays.decision_function(X))
    fitted = clf.coef_.copy()
    assert_array_equal(clf.refit_last_layer(mosaic, y).coef_, fitted)
    ExplanationDisplay.from_estimator(clf, mosaic, sample=3)
    export_evidence(clf, mosaic[:4], tmp_path / "mosaic.csv")
    assert read_evidence(tmp_path / "mosaic.csv").equals(clf.explain(X[:4]))
    with pytest.raises(TypeError, match="files or a mosaic, where a CPU tensor counts"):
        clf.predict({1, 2})
    monkeypatch.undo()
    with pytest.raises(TypeError, match=r"^X must be 2-D rows, .*got .*Mosaic\."):
        clf.predict(mosaic)


def test_a_group_of_details_is_added_by_its_record(fitted, digits, tmp_path, monkeypatch):
    def shares(context):
        rows, evidence = context.explained.rows, context.explained.evidence
        weights = context.fitted.prototypes.coef[rows.class_, rows.prototype]
        similarities = evidence.similarities[rows.sample, rows.prototype]
        return (100 * weights * similarities / evidence.logits[rows.sample, rows.class_],)

    record = Detail(
        name="share",
        columns={"share": "%"},
        description="the share of the logit",
        compute=shares,
    )
    monkeypatch.setitem(DETAILS, record.name, record)

    X, _ = digits
    why = fitted.explain(X[:3], details="share")

    assert_allclose(why.groupby("sample")["share"].sum(), 100)
    assert why.attrs["units"]["share"] == "%"
    export_evidence(fitted, X[:3], tmp_path / "share.csv", details="share")
    assert read_evidence(tmp_path / "share.csv").equals(why)
