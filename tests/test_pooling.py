"""Several patches of an image that are pooled: what each adds, where it is, and what it proves."""

import pickle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from numpy.testing import assert_allclose
from quick import QUICK
from sklearn.model_selection import GridSearchCV
from test_report import Parsed

from sklearn_protopnet import ProtoPNetClassifier, load
from sklearn_protopnet.inspection import (
    ExplanationDisplay,
    export_evidence,
    read_evidence,
    similarity_maps,
    write_report,
)

PAIR = ["sample", "class", "prototype"]
BOX = ["y0", "y1", "x0", "x1"]
K = 3


def classifier(**changes):
    return ProtoPNetClassifier(**{**QUICK, "image_shape": (8, 8), "n_pooled_patches": K, **changes})


@pytest.fixture(scope="module")
def pooled(digits):
    return classifier().fit(*digits)


@pytest.fixture(scope="module")
def table(pooled, digits):
    return pooled.explain(digits[0][:5], classes="all", details=["patches", "box"])


def test_the_similarity_is_the_mean_of_the_most_similar_patches(pooled, digits):
    X = digits[0][:20]
    maps = similarity_maps(pooled, X).reshape(20, len(pooled.prototypes_), -1)
    expected = np.sort(maps, axis=2)[:, :, -K:].mean(2)
    assert_allclose(pooled.transform(X), expected, rtol=1e-9)
    assert_allclose(pooled.decision_function(X), expected @ pooled.coef_.T, rtol=1e-8)


def test_rows_of_patches_add_up_to_the_similarity_and_to_the_logit(pooled, table, digits):
    plain = pooled.explain(digits[0][:5], classes="all")
    assert len(table) == K * len(plain)
    pairs = table.groupby(PAIR, sort=False)
    assert_allclose(pairs["share"].sum(), plain["similarity"], rtol=1e-14)
    assert_allclose(pairs["contribution"].sum(), plain["contribution"], rtol=1e-13, atol=1e-15)
    classes = table.groupby(["sample", "class"])
    assert_allclose(classes["contribution"].sum(), classes["logit"].first(), rtol=1e-9)
    assert (table["contribution"] == table["weight"] * table["share"]).all()
    assert (pairs["patch"].agg(list).map(tuple) == (1, 2, 3)).all()
    assert pairs["patch_similarity"].agg(lambda found: found.is_monotonic_decreasing).all()
    assert pairs["distance"].agg(lambda found: found.is_monotonic_increasing).all()


def test_without_the_group_the_most_similar_patch_stands_for_all(pooled, table, digits):
    plain = pooled.explain(digits[0][:5], classes="all")
    first = table[table["patch"] == 1].reset_index(drop=True)
    shared = [name for name in plain if name != "contribution"]
    assert first[shared].equals(plain[shared])
    assert (plain["contribution"] == plain["weight"] * plain["similarity"]).all()


def test_every_box_is_sufficient_for_its_patch(table):
    assert_allclose(table["similarity_in_box"], table["patch_similarity"], rtol=1e-6)
    for _, boxes in table.groupby(PAIR)[BOX]:
        assert not boxes.duplicated().any()  # no patch counts twice


def test_noise_outside_of_the_boxes_changes_no_share(pooled, table, digits):
    """What the certificate says, without the code that measures it."""
    random = np.random.default_rng(0)
    rows = table[(table["sample"] == 0) & (table["class"] == 0)]
    for prototype, patches in rows.groupby("prototype"):
        inside = np.zeros((8, 8), dtype=bool)
        for y0, y1, x0, x1 in patches[BOX].to_numpy():
            inside[y0:y1, x0:x1] = True
        image = digits[0][0].reshape(8, 8)
        changed = np.where(inside, image, random.uniform(0, 16, (8, 8)))
        maps = [similarity_maps(pooled, each[None])[0, prototype] for each in (image, changed)]
        best = np.sort(maps[0].ravel())[-K:]
        at = np.isin(maps[0], best)
        assert_allclose(maps[1][at], maps[0][at], rtol=1e-6)


def test_one_patch_has_one_row_whose_share_is_the_similarity(digits):
    single = classifier(n_pooled_patches=1).fit(*digits)
    plain = single.explain(digits[0][:3])
    found = single.explain(digits[0][:3], details="patches")
    assert found[list(plain)].equals(plain)
    assert (found["patch"] == 1).all()
    assert (found["share"] == found["similarity"]).all()
    assert (found["patch_similarity"] == found["similarity"]).all()


def test_more_patches_than_there_are_pool_all_of_them(digits):
    X, y = digits
    many, all_of_them = (classifier(n_pooled_patches=k).fit(X, y) for k in (1_000, 64))
    assert np.array_equal(many.decision_function(X), all_of_them.decision_function(X))
    assert len(many.explain(X[:1], top_k=1, details="patches")) == 64


def test_a_projected_prototype_finds_its_own_patch_first(pooled, digits):
    assert (pooled.prototype_table()["distance"] == 0).all()
    sources = pooled.prototype_sample_indices_
    rows = pooled.explain(digits[0][sources], classes="all", details="patches")
    own = rows[(rows["patch"] == 1) & (rows["prototype"] == rows["sample"])]
    assert (own["distance"] == 0).all()
    assert_allclose(own["patch_similarity"], np.log(1e4), rtol=1e-12)


def test_the_fit_keeps_it_whatever_becomes_of_the_parameter(pooled, digits, tmp_path):
    X = digits[0]
    logits = pooled.decision_function(X)
    pooled.save(tmp_path / "clf")
    for twin in (load(tmp_path / "clf"), pickle.loads(pickle.dumps(pooled))):
        twin.set_params(n_pooled_patches=1)
        assert np.array_equal(twin.decision_function(X), logits)
    alone = np.concatenate([pooled.decision_function(X[i : i + 1]) for i in range(3)])
    assert_allclose(alone, logits[:3], rtol=1e-6)


def test_a_search_with_a_cache_tells_networks_apart(digits, tmp_path):
    """The number of patches is in the key: a cached network of another one is not taken."""
    X, y = digits
    scores = {}
    for memory in (None, str(tmp_path)):
        search = GridSearchCV(classifier(memory=memory), {"n_pooled_patches": [1, 4]}, cv=2)
        scores[memory] = search.fit(X, y).cv_results_["split0_test_score"].tolist()
    assert len({tuple(each) for each in scores.values()}) == 1
    assert scores[None][0] != scores[None][1]


@pytest.mark.parametrize("value", [0, -1, 1.5, None, "all"])
def test_it_is_a_positive_integer(digits, value):
    with pytest.raises(ValueError, match="'n_pooled_patches' parameter"):
        classifier(n_pooled_patches=value).fit(*digits)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".sqlite"])
def test_files_hold_a_row_for_each_patch(pooled, table, digits, tmp_path, suffix):
    path = tmp_path / f"evidence{suffix}"
    export_evidence(pooled, digits[0][:5], path, classes="all", details=["patches", "box"])
    pd.testing.assert_frame_equal(read_evidence(path), table)


def test_other_localizers_box_every_patch(pooled, digits):
    rows = pooled.explain(digits[0][:1], top_k=2, details="patches", localizer="upsample")
    assert (rows["box_kind"] == "upsample").all()
    rows = pooled.explain(digits[0][:1], top_k=2, details="patches", localizer="occlusion")
    fields = pooled.explain(digits[0][:1], top_k=2, details="patches")
    for edge, is_within in (("y0", np.greater_equal), ("y1", np.less_equal)):
        assert is_within(rows[edge], fields[edge]).all()


def test_a_display_draws_them_all(pooled, table, digits):
    display = ExplanationDisplay.from_estimator(pooled, digits[0][:1], class_label=0, top_k=2)
    rows = table[(table["sample"] == 0) & (table["class"] == 0)]
    for rank, axes in enumerate(display.axes_[:, 0], 1):
        drawn = [
            [
                box.get_y(),
                box.get_y() + box.get_height(),
                box.get_x(),
                box.get_x() + box.get_width(),
            ]
            for box in axes.patches
        ]
        boxes = rows.loc[rows["rank"] == rank, BOX].to_numpy() - 0.5
        assert sorted(drawn) == sorted(boxes.tolist())
    texts = [text.get_text() for text in display.figure_.findobj(Text)]
    assert any("means over thick and thin boxes" in text for text in texts)
    plt.close(display.figure_)


def test_the_report_has_the_boxes_of_all(pooled, digits, tmp_path):
    X = digits[0][:5]
    page = Parsed(write_report(pooled, X, tmp_path / "r.html", top_k=2))
    rows = pooled.explain(X, top_k=2, details="patches")
    assert "the mean over the parts of the image in all boxes" in page.html
    for row in page.rows:
        (_, _, parts), *_ = row["claims"]
        for rank, part in enumerate(parts, 1):
            of_pair = rows[(rows["sample"] == int(row["name"])) & (rows["rank"] == rank)]
            assert [part[4:8], *part[9]] == of_pair[BOX].to_numpy().tolist()
