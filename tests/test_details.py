"""Evidence on request: what it says is so."""

import copy
import pickle
from hashlib import blake2b

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from quick import QUICK
from torch import nn

from sklearn_protopnet import ProtoPNetClassifier, load
from sklearn_protopnet._network import Evidence
from sklearn_protopnet._training import Similarities, similarity_quantiles
from sklearn_protopnet.inspection import (
    export_evidence,
    image_digest,
    localize,
    read_evidence,
    similarity_maps,
)
from sklearn_protopnet.inspection._attribution import blurred
from sklearn_protopnet.inspection._details import (
    DETAILS,
    flip_similarities,
    margins,
    percentiles,
)
from sklearn_protopnet.metrics import box_necessity, box_sufficiency

COLUMNS = {
    "patches": ["patch", "patch_similarity", "share"],
    "box": ["patch_similarity", "similarity_in_box", "similarity_without_box"],
    "percentile": ["percentile_own", "percentile_others"],
    "margin": ["margin", "flip_similarity"],
    "digest": ["source_digest", "model_digest"],
    "convergence": ["convergence_delta"],
}


@pytest.fixture(scope="module")
def three_classes(digits):
    X, y = digits
    return X[y < 3], y[y < 3]


def small(**settings):
    return ProtoPNetClassifier(
        **{**QUICK, "image_shape": (8, 8), "n_prototypes_per_class": 1, **settings}
    )


def model_digest_of(clf, X):
    (digest,) = clf.explain(X[:1], details="digest")["model_digest"].unique()
    return digest


class TestColumns:
    def test_each_group_adds_its_own_and_none_is_there_unless_asked_for(self, fitted, digits):
        assert list(DETAILS) == list(COLUMNS)
        plain = fitted.explain(digits[0][:2], top_k=2)
        whole = fitted.explain(digits[0][:2], details="all", top_k=2)
        added = dict.fromkeys(column for columns in COLUMNS.values() for column in columns)
        assert whole.columns.tolist() == [*plain.columns, *added]
        every = whole[whole["patch"] == 1].reset_index(drop=True)
        assert plain.drop(columns="contribution").equals(every[plain.columns.drop("contribution")])
        for names in (reversed(list(DETAILS)), (name for name in DETAILS)):  # read once
            assert fitted.explain(digits[0][:2], details=names, top_k=2).equals(whole)
        for name, columns in COLUMNS.items():
            table = fitted.explain(digits[0][:2], details=name, top_k=2)
            assert table.columns.tolist() == [*plain.columns, *columns]
            if name == "patches":  # which has rows for all patches
                assert table.equals(whole[table.columns])
            else:
                assert table[plain.columns].equals(plain)
                assert table[columns].equals(every[columns])

    def test_each_column_has_its_unit_and_is_documented(self, fitted, digits):
        table = fitted.explain(digits[0][:1], details="all", top_k=1)
        for name, detail in DETAILS.items():
            assert f'``"{name}"``' in ProtoPNetClassifier.explain.__doc__
            for column, unit in detail.columns.items():
                assert f"``{column}``" in ProtoPNetClassifier.explain.__doc__
                assert table.attrs["units"].get(column) == unit

    @pytest.mark.parametrize("details", ["magic", ["box", "magic"], [["box"]], [None], 3])
    def test_a_group_that_is_none_is_refused(self, fitted, digits, details):
        with pytest.raises(ValueError, match=r"details must be 'all' or names among .*box"):
            fitted.explain(digits[0][:2], details=details)

    def test_they_are_exported(self, fitted, digits, tmp_path):
        path = tmp_path / "evidence.parquet"
        export_evidence(fitted, digits[0][:3], path, details="all", localizer="prp", top_k=2)
        expected = fitted.explain(digits[0][:3], details="all", localizer="prp", top_k=2)
        found = read_evidence(path)
        assert found.equals(expected)
        assert found.attrs == expected.attrs


class TestBoxes:
    @pytest.mark.parametrize("localizer", ["prp", "upsample"])
    def test_they_are_what_is_left_and_metrics_are_shares_of_it(self, fitted, digits, localizer):
        X, _ = digits
        table = fitted.explain(X[:2], details="box", localizer=localizer, top_k=2)
        for row in table.itertuples():
            image = X[row.sample].reshape(8, 8, 1)
            baseline = blurred(torch.from_numpy(image).permute(2, 0, 1)[None])[0, 0, ..., None]

            def score(variants, p=row.prototype, image=image):
                maps = similarity_maps(fitted, np.concatenate([image[None], variants]))[:, p]
                place = np.unravel_index(maps[0].argmax(), maps[0].shape)
                return maps[1:, *place]

            images = score, image, (row.y0, row.y1, row.x0, row.x1), baseline.numpy()
            in_box, without_box = (
                each / row.patch_similarity
                for each in (row.similarity_in_box, row.similarity_without_box)
            )
            assert_allclose(box_sufficiency(*images), in_box, rtol=1e-5)
            assert_allclose(box_necessity(*images), 1 - without_box, rtol=1e-4, atol=1e-6)

    def test_a_receptive_field_is_sufficient(self, fitted, digits):
        table = fitted.explain(digits[0][:20], details="box")
        assert_allclose(table["similarity_in_box"], table["patch_similarity"], rtol=1e-5)


class TestPercentiles:
    def test_quantiles_by_hand(self):
        """101 images of the own class, one of another; a quantile is an image's similarity."""
        values = np.append(np.arange(101.0), 7.5)[:, None]
        similarities = Similarities(values, np.append(np.zeros(101, int), 1), np.ones(102))
        own, others = similarity_quantiles(similarities, np.array([0]))[:, 0]
        assert own[[0, 1, 50, 100]].tolist() == [0, 1, 50, 100]
        assert (others == 7.5).all()

    def test_an_image_of_weight_2_is_the_image_twice(self):
        rng = np.random.default_rng(0)
        values, labels = rng.normal(size=(30, 4)), rng.integers(0, 2, 30)
        weights = rng.integers(1, 4, 30)
        prototype_classes = np.array([0, 0, 1, 1])
        weighted = Similarities(values, labels, weights.astype(float))
        rows = np.repeat(np.arange(30), weights)
        repeated = Similarities(values[rows], labels[rows], np.ones(len(rows)))
        assert_array_equal(
            similarity_quantiles(weighted, prototype_classes),
            similarity_quantiles(repeated, prototype_classes),
        )

    def test_a_class_without_images_has_no_percentiles(self):
        similarities = Similarities(np.ones((3, 2)), np.zeros(3, int), np.ones(3))
        quantiles = similarity_quantiles(similarities, np.array([0, 1]))
        assert np.isnan(quantiles[1, 0]).all()
        assert np.isnan(quantiles[0, 1]).all()
        found = percentiles(np.array([[1.0, 1.0]]), quantiles[1])
        assert_array_equal(found, [[np.nan, 100]])

    def test_percentiles_by_hand(self):
        quantiles = np.arange(101.0)[None] * 2  # 0, 2, ..., 200
        values = np.array([[-1.0], [0.0], [1.9], [2.0], [199.0], [200.0], [500.0]])
        assert percentiles(values, quantiles)[:, 0].tolist() == [0, 0, 0, 1, 99, 100, 100]

    def test_a_similarity_that_ties_is_above_all_of_its_ties(self):
        """Half of the images tie at 1: as similar as those is as similar as all of them."""
        quantiles = np.where(np.arange(101) <= 50, 1.0, 2.0)[None]
        assert percentiles(np.array([[1.0], [1.5], [2.0]]), quantiles)[:, 0].tolist() == [
            50,
            50,
            100,
        ]

    def test_a_prototype_is_the_most_similar_to_its_source(self, digits):
        """It is if one patch counts: another image may have five that are nearer in the mean."""
        X, y = digits
        fitted = small(n_pooled_patches=1, n_prototypes_per_class=3).fit(X, y)
        what = fitted.prototype_table()
        table = fitted.explain(X[what["source_sample"]], details="percentile")
        own = table[table["sample"] == table["prototype"]]  # image i is the source of prototype i
        assert len(own) == len(what)
        assert (own["percentile_own"] == 100).all()

    def test_they_are_those_of_the_training_images(self, fitted, digits):
        X, y = digits
        table = fitted.explain(X, details="percentile")
        is_own = y[table["sample"]] == table["prototype_class"]
        for column, rows in (("percentile_own", is_own), ("percentile_others", ~is_own)):
            ranks = table[rows].groupby("prototype")["similarity"].rank(method="max", pct=True)
            assert np.abs(table[column][rows] - 100 * ranks).max() <= 100 / 30 + 1


def evidence_of(similarities, coef):
    similarities = np.asarray(similarities, dtype=float)
    logits = similarities @ np.asarray(coef, dtype=float).T
    patches = similarities[:, :, None]
    return Evidence(similarities, logits, patches, patches, np.zeros(patches.shape, int))


class TestMargins:
    def test_margins_by_hand(self):
        assert margins(np.array([[3.0, 1.0, 2.5], [4.0, 4.0, 1.0]])).tolist() == [
            [0.5, -2.0, -0.5],
            [0.0, 0.0, -3.0],
        ]

    def test_flips_by_hand(self):
        """Logits 2 s0 and s1: 4 against 3 flips at s0 = 1.5 or s1 = 4."""
        coef = np.array([[2.0, 0], [0, 1]])
        found = flip_similarities(evidence_of([[2, 3]], coef), coef, (0, 9))
        assert found.tolist() == [[1.5, 4]]

    def test_of_several_classes_the_nearest_flips_it(self):
        coef = np.array([[1.0], [0.5], [0.9]])  # and constants from a second prototype
        coef = np.hstack([coef, [[0], [1], [0.05]]])
        found = flip_similarities(evidence_of([[8, 1]], coef), coef, (0, 9))
        # Logits 8, 5, 7.25: class 1 catches up at s0 = 8 - 3 / 0.5 = 2, class 2 at 8 - 7.5 = 0.5.
        assert found[0, 0] == pytest.approx(2)

    def test_what_a_similarity_cannot_be_flips_nothing(self):
        coef = np.array([[2.0, 0], [0, 1]])
        found = flip_similarities(evidence_of([[2, 3]], coef), coef, (1.9, 3.5))
        assert np.isnan(found).all()

    def test_a_prototype_without_a_say_flips_nothing(self):
        coef = np.array([[2.0, 0.7], [0, 0.7]])
        found = flip_similarities(evidence_of([[2, 3]], coef), coef, (0, 9))
        assert found[0, 0] == 0
        assert np.isnan(found[0, 1])

    @pytest.mark.parametrize("similarity", ["log", "cosine", "linear"])
    def test_the_prediction_flips_there(self, three_classes, similarity):
        X, y = three_classes
        clf = small(pretraining_epochs=3, joint_epochs=2, similarity=similarity).fit(X, y)
        similarities, predicted = clf.transform(X[:30]), clf.predict(X[:30])
        table = clf.explain(X[:30], details="margin")
        assert table["flip_similarity"].notna().any()
        logits = clf.decision_function(X[:30])
        for row in table.itertuples():
            assert row.margin == pytest.approx(
                np.sort(logits[row.sample])[-1] - np.sort(logits[row.sample])[-2]
            )
            if np.isnan(row.flip_similarity):
                continue
            step = row.flip_similarity - row.similarity
            for factor, is_flipped in ((1 - 1e-6, False), (1 + 1e-6, True)):
                changed = similarities[row.sample].copy()
                changed[row.prototype] += factor * step
                label = clf.classes_[(clf.coef_ @ changed).argmax()]
                assert (label != predicted[row.sample]) == is_flipped


class TestDigests:
    def test_a_table_is_traced_to_the_model_and_the_source(self, fitted, digits):
        X, _ = digits
        table = fitted.explain(X[:5], details="digest")
        assert table["model_digest"].nunique() == 1
        sources = table.groupby("source_sample")["source_digest"].nunique()
        assert (sources == 1).all()
        unequal = np.unique(X[np.unique(table["source_sample"])], axis=0)
        assert table["source_digest"].nunique() == len(unequal)

    def test_another_last_layer_is_another_model(self, fitted, digits):
        X, y = digits
        before = fitted.explain(X[:1], details="digest")
        other = pickle.loads(pickle.dumps(fitted)).refit_last_layer(X, y, l1_weight=0.01)
        after = other.explain(X[:1], details="digest")
        assert before["model_digest"][0] != after["model_digest"][0]
        assert set(before["source_digest"]) == set(after["source_digest"])

    @pytest.mark.parametrize("labels", [[0, 1, 2], np.array(["u", "v", "w"], dtype=object)])
    def test_the_digest_is_the_same_in_copies_and_other_fits(self, three_classes, tmp_path, labels):
        X, y = three_classes
        clf = small().fit(X, np.asarray(labels)[y])
        clf.save(tmp_path / "clf.skops")
        copies = [
            load(tmp_path / "clf.skops"),
            pickle.loads(pickle.dumps(clf, protocol=2)),
            small().fit(X, np.asarray(labels)[y]),
        ]
        found = [model_digest_of(each, X) for each in copies]
        assert found == [model_digest_of(clf, X)] * 3

    def test_other_classes_are_another_model_and_how_wide_their_text_is_makes_none(
        self, fitted, digits
    ):
        def renamed(names, dtype=None):
            clf = copy.copy(fitted)
            clf.classes_ = np.array([*names, *fitted.classes_[len(names) :]], dtype=dtype)
            owners = np.searchsorted(fitted.classes_, fitted.prototype_classes_)
            clf.prototype_classes_ = clf.classes_[owners]
            return model_digest_of(clf, digits[0])

        names = [range(10), [0, 1], [0, -1], [0.5]]
        assert len({renamed(each) for each in names}) == 3
        texts = [renamed(list("abcdefghij"), dtype) for dtype in ("U1", "U9", object)]
        assert len({*texts, renamed(list("0123456789")), renamed(range(10))}) == 3

    def test_a_module_of_other_layers_is_another_model(self, three_classes):
        X, y = three_classes
        digests = set()
        for pooling in (nn.MaxPool2d(2), nn.AvgPool2d(2), nn.AvgPool2d(2, 1)):
            backbone = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), pooling)
            still = {"pretraining_epochs": 0, "warmup_epochs": 0, "joint_epochs": 0}
            clf = small(backbone=backbone, **still).fit(X, y)
            for name, values in backbone.state_dict().items():
                clf.backbone_.state_dict()[name].copy_(torch.ones_like(values))
            clf.prototypes_ = np.ones_like(clf.prototypes_)
            clf.coef_ = np.ones_like(clf.coef_)
            clf.prototype_sample_indices_ = np.zeros_like(clf.prototype_sample_indices_)
            digests.add(model_digest_of(clf, X))
        assert len(digests) == 3

    def test_what_is_no_patch_has_no_digest(self, three_classes):
        X, y = three_classes
        clf = small(class_weight={0: 1.0, 1: 1.0, 2: 0.0})
        with pytest.warns(UserWarning, match="No training image"):
            clf.fit(X, y)
        why = clf.explain(X[:1], details="digest")
        assert ((why["source_digest"] == "") == (why["source_sample"] == -1)).all()
        assert (why["source_digest"] == "").any()

    def test_other_rows_of_the_sources_are_another_model(self, three_classes):
        """The same images in another order give the same network, of other rows."""
        X, y = three_classes
        one, other = small().fit(X, y), small().fit(X[::-1], y[::-1])
        assert_array_equal(one.prototypes_, other.prototypes_)
        assert model_digest_of(one, X) != model_digest_of(other, X)


class TestImageDigest:
    def test_it_is_the_one_of_the_table(self, fitted, digits):
        X, _ = digits
        table = fitted.explain(X[:3], details="digest", classes="all")
        for row in table.drop_duplicates("prototype").itertuples():
            image = X[row.source_sample].reshape(8, 8)
            assert image_digest(fitted.prototype_images_[row.prototype]) == row.source_digest
            assert image_digest(image) == image_digest(image[..., None]) == row.source_digest

    @pytest.mark.parametrize("dtype", [np.uint8, np.float32])
    def test_it_is_of_images_as_they_were_resized(self, dtype):
        X = np.random.default_rng(0).integers(0, 9, (12, 10, 12, 3)).astype(dtype)
        clf = small(image_shape=None, image_size=(8, 9)).fit(X, np.arange(12) % 2)
        assert clf.prototype_images_.dtype == dtype
        table = clf.explain(X[:1], details="digest").set_index("prototype")
        for p, image in enumerate(clf.prototype_images_):
            assert image_digest(image) == table["source_digest"][p]

    def test_it_is_what_the_docstring_says(self):
        image = np.arange(12, dtype=np.float32).reshape(3, 4)
        text = b"<f4(3, 4, 1)" if image.dtype.str[0] == "<" else b">f4(3, 4, 1)"
        assert image_digest(image) == blake2b(text + image.tobytes(), digest_size=16).hexdigest()
        assert image_digest(image.tolist()) == image_digest(image.astype(np.float64))

    def test_memory_does_not_matter_and_values_dtype_and_shape_do(self):
        image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
        assert image_digest(np.asfortranarray(image)) == image_digest(image)
        assert image_digest(np.repeat(image, 2, axis=0)[::2]) == image_digest(image)
        others = [image + 1, image.astype(np.int8), image.reshape(4, 2, 3), image[:, :, 0]]
        assert len({image_digest(each) for each in [image, *others]}) == 5

    @pytest.mark.parametrize(
        ("image", "message"),
        [
            (np.zeros(4), r"got one of shape \(4,\) and dtype float64"),
            (np.zeros((1, 2, 2, 1)), r"got one of shape \(1, 2, 2, 1\) and dtype float64"),
            ([["a"]], r"got one of shape \(1, 1\) and dtype <U1"),
            (np.array([[None]]), r"got one of shape \(1, 1\) and dtype object"),
            ("cat.png", r"got one of shape \(\) and dtype <U7"),
        ],
    )
    def test_what_is_no_image_is_refused(self, image, message):
        with pytest.raises(ValueError, match=message):
            image_digest(image)


def test_convergence_is_that_of_integrated_gradients(fitted, digits):
    X, _ = digits
    table = fitted.explain(X[:3], details="convergence", localizer="integrated_gradients")
    found = localize(fitted, X[:3], localizer="integrated_gradients")
    place = table["sample"], table["prototype"]
    assert_array_equal(table["convergence_delta"], found.convergence_deltas[place])
    assert fitted.explain(X[:1], details="convergence")["convergence_delta"].isna().all()
