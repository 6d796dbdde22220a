"""The report of prototypes: every column against its metric, on images with known parts."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from quick import QUICK
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn_protopnet.inspection._view import View

from sklearn_protopnet import ProtoPNetClassifier
from sklearn_protopnet.datasets import make_part_images, render_part_image
from sklearn_protopnet.inspection import localize, nearest_patches
from sklearn_protopnet.metrics import (
    box_necessity,
    box_sufficiency,
    centre_baseline,
    centre_boxes,
    consistency,
    coverage,
    deletion_auc,
    insertion_auc,
    part_presence,
    part_rates,
    pointing_game,
    prototype_report,
    purity,
    random_baseline,
    relevance_mass,
)
from sklearn_protopnet.metrics._report._parts import BASELINES, SCORES

BOX = ["y0", "y1", "x0", "x1"]
ONE_A_CLASS = {**QUICK, "n_prototypes_per_class": 1}
ALWAYS = [
    "prototype",
    "prototype_class",
    "sample",
    "n_images",
    "n_classes",
    "n_duplicates",
    "similarity",
    "similarity_others",
    "box_share",
]


@pytest.fixture(scope="module")
def data():
    return make_part_images(
        60, n_classes=3, image_size=32, spurious="patch", part_drop=0.2, random_state=0
    )


@pytest.fixture(scope="module")
def clf(data):
    """Three classes of 20 images, two prototypes each."""
    return ProtoPNetClassifier(
        n_prototypes_per_class=2,
        prototype_depth=8,
        pretraining_epochs=6,
        warmup_epochs=2,
        joint_epochs=4,
        random_state=0,
    ).fit(data.images, data.target)


def own(clf, data, p):
    return np.flatnonzero(data.target == clf.prototype_classes_[p])


def without_cue(data):
    return np.stack([render_part_image(each, remove_spurious=True) for each in data.params])


class TestAlways:
    def test_columns(self, clf, data):
        report = prototype_report(clf, data.images, data.target, groups=())
        assert list(report) == ALWAYS
        table = clf.prototype_table()
        for name in ("prototype", "prototype_class", "sample", "n_duplicates"):
            assert_array_equal(report[name], table[name])
        assert_array_equal(report["n_images"], 20)
        assert_array_equal(report["n_classes"], (clf.coef_ != 0).sum(0))
        similarities = clf.transform(data.images)
        for p, row in report.iterrows():
            rows = own(clf, data, p)
            assert row["similarity"] == pytest.approx(similarities[rows, p].mean())
            others = np.delete(similarities[:, p], rows)
            assert row["similarity_others"] == pytest.approx(others.mean())

    def test_the_classifier_as_a_whole(self, clf, data):
        summary = prototype_report(clf, data.images, data.target, groups=()).attrs["summary"]
        assert summary["accuracy"] == clf.score(data.images, data.target)
        assert summary["sparsity"] == (clf.coef_ == 0).mean()
        assert set(summary) == {
            "accuracy",
            "sparsity",
            "global_size",
            "local_size",
            "n_distinct_prototypes",
        }

    def test_a_class_without_images(self, clf, data):
        rows = data.target != 1
        report = prototype_report(
            clf,
            data.images[rows],
            data.target[rows],
            part_centres=data.part_centres[rows],
            masks=data.object_mask[rows],
            interventions={"cue": without_cue(data)[rows]},
            max_images=1,
        )
        nobody = report[report["prototype_class"] == 1]
        assert_array_equal(nobody["n_images"], 0)
        assert_array_equal(nobody["part"], -1)
        assert_array_equal(nobody["cause"], "")
        said = {"prototype", "prototype_class", "sample", "n_images", "n_classes", "n_duplicates"}
        said |= {"similarity_others", "part", "cause", "purity"}
        said |= {"purity_centre", "purity_random"}
        said |= {"effect_cue_others", "cause_others", "cause_rate_others"}
        assert nobody.drop(columns=list(said)).isna().all(axis=None)
        assert report.loc[report["prototype_class"] != 1, "box_necessity"].notna().all()

    def test_a_pipeline(self, clf, data):
        halved = FunctionTransformer(lambda X: X / 2)
        pipeline = make_pipeline(halved, clf)
        found = prototype_report(
            pipeline,
            2 * data.images,
            data.target,
            groups=(),
            interventions={"cue": 2 * without_cue(data)},
        )
        expected = prototype_report(
            clf, data.images, data.target, groups=(), interventions={"cue": without_cue(data)}
        )
        pd.testing.assert_frame_equal(found, expected)

    def test_parts_and_masks_are_in_pixels_that_reach_the_classifier(self, clf, data):
        """A pipeline doubles the sides of images: what was annotated is half as large."""
        smaller = data.images[:, ::2, ::2]
        larger = make_pipeline(FunctionTransformer(lambda X: X.repeat(2, 1).repeat(2, 2)), clf)
        settings = {"groups": (), "localizer": "prp", "max_images": 3, "random_state": 0}
        parts = {"part_centres": data.part_centres, "masks": data.object_mask}
        found = prototype_report(larger, smaller, data.target, **parts, **settings)
        reached = smaller.repeat(2, 1).repeat(2, 2)
        expected = prototype_report(clf, reached, data.target, **parts, **settings)
        pd.testing.assert_frame_equal(found, expected)
        with pytest.raises(ValueError, match=r"masks\[0\] must have the shape \(32, 32\)"):
            prototype_report(
                larger, smaller, data.target, masks=data.object_mask[:, ::2, ::2], **settings
            )

    def test_parts_outside_of_what_reaches_the_classifier(self, clf, data):
        """A pipeline halves the sides of images: what was annotated is twice as large."""
        halving = make_pipeline(FunctionTransformer(lambda X: X[:, ::2, ::2]), clf)
        given = data.images.repeat(2, 1).repeat(2, 2)
        message = r"must lie in the image that reaches the classifier, of 32 x 32 pixels for image"
        with pytest.raises(ValueError, match=message):
            prototype_report(
                halving, given, data.target, groups=(), part_centres=2 * data.part_centres
            )
        settings = {"groups": (), "part_centres": data.part_centres, "random_state": 0}
        pd.testing.assert_frame_equal(
            prototype_report(halving, given, data.target, **settings),
            prototype_report(clf, data.images, data.target, **settings),
        )


class TestCloseLook:
    def test_a_receptive_field_is_sufficient_and_safe_from_attacks(self, clf, data):
        report = prototype_report(clf, data.images, data.target, max_images=2)
        assert_allclose(report["box_sufficiency"], 1, rtol=1e-6)
        assert_array_equal(report["spatial_misalignment"], 0)
        assert report[["deletion_auc", "insertion_auc"]].isna().all(axis=None)

    def test_boxes_of_a_localizer_against_details(self, clf, data):
        report = prototype_report(
            clf, data.images, data.target, groups="box", localizer="prp", max_images=3
        )
        for p, row in report.iterrows():
            images = data.images[own(clf, data, p)[:3]]
            why = clf.explain(
                images, classes=[row["prototype_class"]], localizer="prp", details="box"
            )
            why = why[why["prototype"] == p]
            left = (why["box_sufficiency"] / why["similarity"]).mean()
            gone = (1 - why["box_necessity"] / why["similarity"]).mean()
            assert row["box_sufficiency"] == pytest.approx(left, rel=1e-5)
            assert row["box_necessity"] == pytest.approx(gone, rel=1e-5, abs=1e-5)

    def test_the_papers_box_can_be_attacked_from_outside(self, clf, data):
        report = prototype_report(
            clf, data.images, data.target, groups="attack", localizer="upsample", max_images=3
        )
        assert (report["spatial_misalignment"] >= 0).all()
        assert report["spatial_misalignment"].max() > 0.01

    def test_masks(self, clf, data):
        report = prototype_report(
            clf,
            data.images,
            data.target,
            groups=(),
            localizer="prp",
            masks=data.object_mask,
            max_images=3,
        )
        for p, row in report.iterrows():
            rows = own(clf, data, p)[:3]
            found = localize(clf, data.images[rows], prototypes=[p], localizer="prp")
            maps, masks = np.concatenate(found.maps), data.object_mask[rows]
            assert row["pointing_game"] == pytest.approx(pointing_game(maps, masks))
            assert row["relevance_mass"] == pytest.approx(relevance_mass(maps, masks), rel=1e-4)
            assert row["centre_baseline"] == pytest.approx(centre_baseline(masks))
            assert row["random_baseline"] == pytest.approx(random_baseline(masks))

    @pytest.mark.parametrize("similarity", ["linear", "cosine"])
    def test_a_similarity_that_is_not_positive_has_no_share(self, data, similarity):
        other = ProtoPNetClassifier(similarity=similarity, **ONE_A_CLASS).fit(
            data.images, data.target
        )
        report = prototype_report(
            other, data.images, data.target, interventions={"cue": without_cue(data)}, max_images=2
        )
        columns = ["box_sufficiency", "box_necessity", "spatial_misalignment"]
        if similarity == "linear":
            assert report[[*columns, "effect_cue"]].isna().all(axis=None)
        else:
            assert_allclose(report["box_sufficiency"], 1, rtol=1e-5)

    def test_files_of_any_size_and_a_frame_that_names_them(self, data, tmp_path):
        """Boxes, parts and masks are in the pixels of each file."""
        scales = [(2, 3), (1, 2), (3, 1)]
        paths, masks, centres = [], [], []
        for i in range(30):
            scale = scales[i % 3]
            block = np.ones(scale)
            pixels = np.kron(data.images[i], block[..., None])
            paths.append(str(tmp_path / f"{i}.png"))
            Image.fromarray((255 * pixels).round().astype(np.uint8)).save(paths[-1])
            masks.append(np.kron(data.object_mask[i], block).astype(bool))
            centres.append(data.part_centres[i] * scale)
        frame = pd.DataFrame({"path": paths}, index=[f"image {i}" for i in range(30)])
        clf = ProtoPNetClassifier(image_size=(32, 32), **ONE_A_CLASS).fit(frame, data.target[:30])
        report = prototype_report(
            clf,
            frame,
            data.target[:30],
            groups=(),
            localizer="prp",
            part_centres=centres,
            masks=masks,
            max_images=10,
            min_count=2,
        )
        for p, row in report.iterrows():
            rows = np.flatnonzero(data.target[:30] == row["prototype_class"])[:10]
            found = localize(clf, frame.iloc[rows], prototypes=[p], localizer="prp")
            presence = part_presence(found.boxes, np.array(centres)[rows])
            assert row["coverage"] == pytest.approx(coverage(presence))
            hits = [
                pointing_game(each, masks[i][None])
                for each, i in zip(found.maps, rows, strict=True)
            ]
            assert row["pointing_game"] == pytest.approx(np.mean(hits))
            areas = (found.boxes[..., 1] - found.boxes[..., 0]) * (
                found.boxes[..., 3] - found.boxes[..., 2]
            )
            shares = [area[0] / masks[i].size for area, i in zip(areas, rows, strict=True)]
            assert row["box_share"] == pytest.approx(np.mean(shares))

    def test_empty_masks(self, clf, data):
        report = prototype_report(
            clf,
            data.images,
            data.target,
            groups=(),
            masks=np.zeros((60, 32, 32), dtype=bool),
            max_images=1,
        )
        assert_array_equal(report[["pointing_game", "relevance_mass", "random_baseline"]], 0)

    def test_two_classes_of_one_prototype(self, data):
        rows = data.target < 2
        X, y = data.images[rows], data.target[rows]
        clf = ProtoPNetClassifier(**ONE_A_CLASS).fit(X, y)
        report = prototype_report(clf, X, y, max_images=1, part_centres=data.part_centres[rows])
        assert len(report) == 2
        assert_array_equal(report["spatial_misalignment"], 0)


class TestNoise:
    def test_a_seed_is_repeated(self, clf, data):
        calls = [
            prototype_report(
                clf,
                data.images,
                data.target,
                groups="noise",
                part_centres=data.part_centres,
                random_state=seed,
            )
            for seed in (0, 0, 1)
        ]
        pd.testing.assert_frame_equal(calls[0], calls[1])
        columns = ["location_change", "stability"]
        assert not calls[0][columns].equals(calls[2][columns])
        assert calls[0]["location_change"].between(0, 1).all()

    def test_noise_is_small_and_an_images_own(self, clf, data):
        view = clf._view(data.images)
        noisy = view.with_noise(3)
        (rows, plain), (_, changed) = (
            next(view.source.chunks(view.rows)),
            next(noisy.source.chunks(view.rows)),
        )
        noise = (changed - plain)[: len(rows)]
        assert 0.24 < noise.abs().max() <= 0.25 + 1e-6
        assert 0.15 < noise.std() < 0.2
        assert not noise[0].allclose(noise[1])
        _, alone = next(noisy.source.chunks(view.rows[7:8]))
        assert_array_equal(alone[0].numpy(), changed[7].numpy())

    def test_without_a_change_all_is_stable(self, clf, data, monkeypatch):
        monkeypatch.setattr("sklearn_protopnet.metrics._report._noise.LARGEST", 0)
        report = prototype_report(
            clf, data.images, data.target, groups="noise", part_centres=data.part_centres
        )
        assert_array_equal(report["location_change"], 0)
        assert_array_equal(report["stability"], 1)
        covered = report["coverage"] > 0
        assert_array_equal(report.loc[covered, "stability_covered"], 1)


class TestParts:
    @pytest.mark.parametrize("localizer", ["receptive_field", "upsample"])
    def test_columns(self, clf, data, localizer):
        report = prototype_report(
            clf,
            data.images,
            data.target,
            groups=(),
            localizer=localizer,
            part_centres=data.part_centres,
            max_images=12,
            min_count=5,
        )
        nearest = nearest_patches(clf, data.images, 10, localizer=localizer)
        for p, row in report.iterrows():
            rows = own(clf, data, p)[: 20 if localizer == "receptive_field" else 12]
            boxes = localize(clf, data.images[rows], prototypes=[p], localizer=localizer).boxes
            presence = part_presence(boxes, data.part_centres[rows])
            visible = data.part_visible[rows]
            rates = part_rates(presence, visible, min_count=5)[0]
            assert row["part"] == np.nanargmax(rates)
            assert row["part_rate"] == np.nanmax(rates)
            assert row["consistent"] == consistency(presence, visible, min_count=5)
            assert row["coverage"] == pytest.approx(coverage(presence))
            close = nearest[nearest["prototype"] == p]
            centres = data.part_centres[close["sample"]]
            assert row["purity"] == purity(part_presence(close[BOX].to_numpy()[:, None], centres))
        assert report.attrs["summary"]["consistency"] == report["consistent"].mean()

    def test_a_part_that_is_seen_too_rarely_does_not_count(self, clf, data):
        report = prototype_report(
            clf,
            data.images,
            data.target,
            groups=(),
            part_centres=data.part_centres,
            min_count=21,
        )
        assert_array_equal(report["part"], -1)
        columns = [*SCORES, *BASELINES]
        own_class_only = [name for name in columns if not name.startswith("purity")]
        assert report[own_class_only].isna().all(axis=None)
        assert report["purity"].notna().all()  # of images of any class
        assert np.isnan(report.attrs["summary"]["consistency"])
        report = prototype_report(
            clf,
            data.images,
            data.target,
            groups="noise",
            part_centres=data.part_centres,
            min_count=61,
        )
        assert report[[*columns, "stability", "stability_covered"]].isna().all(axis=None)

    def test_a_rare_part_is_in_no_box(self, clf, data):
        """Of three parts two are seen often enough; they alone make coverage and purity."""
        centres, often = data.part_centres.copy(), data.part_centres.copy()
        centres[12:, 0], often[:, 0] = np.nan, np.nan
        settings = {"groups": "noise", "min_count": 13, "random_state": 0}
        found, expected = (
            prototype_report(clf, data.images, data.target, part_centres=each, **settings)
            for each in (centres, often)
        )
        pd.testing.assert_frame_equal(found, expected)

    @pytest.mark.parametrize("localizer", ["receptive_field", "upsample"])
    def test_boxes_that_know_nothing(self, clf, data, localizer):
        settings = {"localizer": localizer, "max_images": 12, "min_count": 5, "random_state": 0}
        report = prototype_report(
            clf, data.images, data.target, groups=(), part_centres=data.part_centres, **settings
        )
        for p, row in report.iterrows():
            rows = own(clf, data, p)[: 20 if localizer == "receptive_field" else 12]
            boxes = localize(clf, data.images[rows], prototypes=[p], localizer=localizer).boxes
            presence = part_presence(centre_boxes(boxes, (32, 32)), data.part_centres[rows])
            visible = data.part_visible[rows]
            rates = part_rates(presence, visible, min_count=5)
            assert row["part_rate_centre"] == np.nanmax(rates)
            assert row["consistent_centre"] == consistency(presence, visible, min_count=5)
            assert row["coverage_centre"] == pytest.approx(coverage(presence))
        assert report[list(BASELINES)].notna().all(axis=None)
        assert (
            report[[f"{name}_random" for name in SCORES]].mean()
            <= report[[f"{name}_centre" for name in SCORES]].mean().to_numpy()
        ).all()
        for place in ("centre", "random"):
            mean = report[f"consistent_{place}"].mean()
            assert report.attrs["summary"][f"consistency_{place}"] == mean

    def test_parts_that_are_said_not_to_be_seen(self, clf, data):
        visible = np.zeros((60, 3), dtype=bool)
        visible[:, 1] = data.part_visible[:, 1]
        report = prototype_report(
            clf,
            data.images,
            data.target,
            groups=(),
            part_centres=data.part_centres,
            part_visible=visible,
        )
        assert_array_equal(report["part"], 1)
        nowhere = np.where(visible[..., None], data.part_centres, np.nan)
        settings = {"groups": "noise", "random_state": 0}
        said, unsaid = (
            prototype_report(clf, data.images, data.target, **settings, **given)
            for given in (
                {"part_centres": data.part_centres, "part_visible": visible},
                {"part_centres": nowhere},
            )
        )
        pd.testing.assert_frame_equal(said, unsaid)

    @pytest.mark.parametrize(
        "place", [[-0.1, 3], [3, -0.1], [32, 3], [3, 32], [np.inf, 3], [np.nan, 3]]
    )
    def test_a_part_that_is_seen_lies_in_the_image(self, clf, data, place):
        centres, visible = data.part_centres.copy(), data.part_visible.copy()
        centres[7, 1], visible[7, 1] = place, True
        settings = {"groups": (), "part_centres": centres}
        with pytest.raises(ValueError, match=r"32 x 32 pixels for image 7, got .* for part 1"):
            prototype_report(clf, data.images, data.target, part_visible=visible, **settings)
        visible[7, 1] = False  # one that is not seen may be anywhere
        report = prototype_report(clf, data.images, data.target, part_visible=visible, **settings)
        assert report["coverage"].notna().all()

    def test_edges_of_the_image_are_half_open(self, clf, data):
        centres = data.part_centres.copy()
        centres[0, 0] = 0, np.nextafter(32, 0)
        prototype_report(clf, data.images, data.target, groups=(), part_centres=centres)


class TestCauses:
    @pytest.mark.parametrize(
        ("names", "error", "message"),
        [
            (["cue", "cue_others"], ValueError, "got 'cue' and 'cue_others'"),
            (["a_others", "a_others_others"], ValueError, "got 'a_others' and 'a_others_others'"),
            ([1], ValueError, "must be text, and not empty, got 1"),
            (["1", 1], ValueError, "must be text, and not empty, got 1"),
            ([""], ValueError, "must be text, and not empty, got ''"),
            ([None], ValueError, "must be text, and not empty, got None"),
        ],
    )
    def test_names_by_which_columns_would_be_one(self, clf, data, names, error, message):
        with pytest.raises(error, match=message):
            prototype_report(
                clf,
                data.images,
                data.target,
                groups=(),
                interventions=dict.fromkeys(names, data.images),
            )

    @pytest.mark.parametrize("interventions", [[], [("cue", None)], "cue", np.zeros(2)])
    def test_interventions_that_have_no_names(self, clf, data, interventions):
        kind = type(interventions).__name__
        with pytest.raises(TypeError, match=f"a dict of names to images, got {kind}"):
            prototype_report(clf, data.images, data.target, groups=(), interventions=interventions)

    def test_names_that_are_alike_keep_their_columns(self, clf, data):
        """As an intervention named "others", and one whose name ends so."""
        changed = {"others": without_cue(data), "cue_others": data.images, "Cue": data.images}
        report = prototype_report(clf, data.images, data.target, groups=(), interventions=changed)
        columns = [f"effect_{name}{end}" for end in ("", "_others") for name in changed]
        assert [name for name in report if name.startswith("effect_")] == columns
        none = prototype_report(clf, data.images, data.target, groups=(), interventions={})
        assert list(none) == ALWAYS

    def test_by_hand(self, clf, data, monkeypatch):
        """Two interventions, seen through similarities that are given."""
        before = np.full((60, 6), 4.0)
        cue, part = before.copy(), before.copy()
        zero = data.target == 0
        cue[zero, 0], cue[zero, 1] = 1.0, 3.8  # a twentieth is no cause
        part[:, 2], part[zero, 0] = 2.0, 3.0
        given = {"a": (cue, zero), "b": (part, np.ones(60, dtype=bool))}

        class Given:
            rows = np.arange(60)

            def __init__(self, name):
                self.similarities, self.was_there = given[name]

            def arrays(self, *_):
                return [self.similarities]

        view = ProtoPNetClassifier._view
        monkeypatch.setattr(
            ProtoPNetClassifier,
            "_view",
            lambda self, X: Given(X) if isinstance(X, str) else view(self, X),
        )
        seen = [before, np.eye(3)[data.target], np.zeros((60, 6), np.int64)]
        monkeypatch.setattr(View, "arrays", lambda self, *names: seen)
        monkeypatch.setattr(View, "differs_from", lambda self, other: other.was_there)
        report = prototype_report(
            clf, data.images, data.target, groups=(), interventions={"cue": "a", "part": "b"}
        )
        assert report["cause"].tolist() == ["cue", "", "part", "", "", ""]
        assert report["cause_rate"].tolist() == [1, 0, 1, 0, 0, 0]
        assert_allclose(report["effect_cue"], [3 / 4, 0.05, *[np.nan] * 4])
        assert_allclose(report["effect_part"], [1 / 4, 0, 1 / 2, 0, 0, 0])
        assert report["cause_others"].tolist() == ["", "", "part", "", "", ""]
        assert report["cause_rate_others"].tolist() == [0, 0, 1, 0, 0, 0]
        assert_allclose(report["effect_cue_others"], [np.nan, np.nan, 0, 0, 0, 0])
        assert_allclose(report["effect_part_others"], [0, 0, 1 / 2, 0, 0, 0])

    def test_a_cause_is_one_in_most_images_that_had_the_thing(self, clf, data):
        """The cue is there in some images of every class; of class 0 in too few to count."""
        leaky = make_part_images(
            60, n_classes=3, image_size=32, spurious="patch", spurious_align=0.3,
            spurious_leak=0.8, random_state=5,
        )  # fmt: skip
        cleaned = without_cue(leaky)
        report = prototype_report(
            clf, leaky.images, leaky.target, groups=(), interventions={"cue": cleaned}
        )
        has_cue = leaky.spurious_mask.any((1, 2))
        after, before = clf.transform(cleaned), clf.transform(leaky.images)
        for p, row in report.iterrows():
            is_own = leaky.target == row["prototype_class"]
            for suffix, rows in (("", has_cue & is_own), ("_others", has_cue & ~is_own)):
                if rows.sum() < 10:
                    assert np.isnan(row[f"effect_cue{suffix}"])
                    assert np.isnan(row[f"cause_rate{suffix}"])
                    assert row[f"cause{suffix}"] == ""
                    continue
                share = 1 - after[rows, p] / before[rows, p]
                rate = (share >= 0.1).mean()
                assert row[f"effect_cue{suffix}"] == pytest.approx(share.mean(), abs=1e-12)
                assert row[f"cause_rate{suffix}"] == rate
                assert row[f"cause{suffix}"] == ("cue" if rate > 0.5 else "")
        assert report["effect_cue"].notna().sum() == 4
        assert report["effect_cue_others"].notna().all()

    def test_a_cue_costs_nothing_where_it_is_not(self, clf, data):
        report = prototype_report(
            clf, data.images, data.target, groups=(), interventions={"cue": without_cue(data)}
        )
        others = report[report["prototype_class"] != 0]
        assert others["effect_cue"].isna().all()
        assert others["effect_cue_others"].notna().all()
        assert_array_equal(others["cause"], "")
        of_class = report[report["prototype_class"] == 0]
        after, before = clf.transform(without_cue(data)), clf.transform(data.images)
        rows = np.flatnonzero(data.target == 0)
        for p, effect in of_class["effect_cue"].items():
            share = 1 - after[rows, p] / before[rows, p]
            assert effect == pytest.approx(share.mean(), abs=1e-12)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"groups": "boxes"}, "groups must be 'all' or names among"),
        ({"groups": 3}, "groups must be 'all' or names among"),
        ({"localizer": "mine"}, "localizer must be one of"),
        ({"max_images": 0}, "max_images must be a positive integer"),
        ({"min_count": 0}, "min_count must be a positive integer"),
        ({"part_centres": np.zeros((60, 2))}, "part_centres must have the shape"),
        ({"part_centres": np.zeros((59, 3, 2))}, "part_centres must have the shape"),
        (
            {"part_centres": np.zeros((60, 3, 2)), "part_visible": np.ones((60, 2))},
            "part_visible must have the shape",
        ),
        ({"part_visible": np.ones((60, 3))}, "part_visible needs part_centres"),
        ({"random_state": "a"}, "cannot be used to seed"),
        ({"masks": 5}, "masks must hold one for each of the 60 images in X, got 5"),
        ({"masks": np.zeros((59, 32, 32))}, "masks must hold one for each of the 60 images"),
        ({"masks": np.zeros((60, 32, 31))}, r"masks\[0\] must have the shape"),
        ({"masks": np.full((60, 32, 32), 2)}, r"masks\[0\] must hold truth values"),
        ({"interventions": {"cue": np.zeros((59, 32, 32, 3))}}, "Interventions must have the 60"),
    ],
)
def test_what_cannot_be_reported(clf, data, settings, message):
    with pytest.raises(ValueError, match=message):
        prototype_report(clf, data.images, data.target, **{"groups": (), **settings})


def test_labels(clf, data):
    with pytest.raises(ValueError, match="y must have one label for each of the 60 images"):
        prototype_report(clf, data.images, data.target[:59])
    with pytest.raises(ValueError, match="y must hold classes of the training y only"):
        prototype_report(clf, data.images, data.target + 1)
    with pytest.raises(ValueError, match="y must hold classes of the training y only"):
        prototype_report(clf, data.images, data.target.astype(str))


@pytest.mark.parametrize(
    ("group", "metric"),
    [
        ("box", box_sufficiency),
        ("box", box_necessity),
        ("curves", deletion_auc),
        ("curves", insertion_auc),
    ],
)
def test_columns_are_what_the_metrics_say(clf, data, group, metric):
    """Pixels that go are blurred, as everywhere; means over the images that count."""
    report = prototype_report(
        clf, data.images, data.target, groups=group, localizer="integrated_gradients", max_images=2
    )
    assert report[metric.__name__].notna().any()
    for p, expected in report[metric.__name__].items():
        view = clf._view(data.images[own(clf, data, p)[:2]])
        (positions,) = view.arrays("positions")

        def look(each):
            located = each.located("integrated_gradients")
            place = located.boxes[0] if group == "box" else located.maps[0]

            def score(variants):
                return each.similarities(variants)[:, 0]

            return metric(score, each.pixels, place, each.baseline)

        found = np.array(
            [value for _, value in view.examined(positions, [np.array([p])] * 2, look)]
        )
        known = found[~np.isnan(found)]
        mean = known.mean() if len(known) else np.nan
        assert expected == pytest.approx(mean, rel=1e-4, abs=1e-6, nan_ok=True)
