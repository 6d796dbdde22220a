"""The report of prototypes: every column against its metric, on images with known parts."""

import re
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from quick import QUICK
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from torchvision.transforms.functional import gaussian_blur

from sklearn_protopnet import ProtoPNetClassifier
from sklearn_protopnet.datasets import make_part_images, render_part_image
from sklearn_protopnet.inspection import localize, nearest_patches, similarity_maps
from sklearn_protopnet.metrics import (
    causal_parts,
    centre_baseline,
    centre_boxes,
    consistency,
    coverage,
    deletion_auc,
    insertion_auc,
    local_size,
    part_presence,
    part_rates,
    pointing_game,
    prototype_report,
    purity,
    random_baseline,
    relevance_mass,
)
from sklearn_protopnet.metrics._report._column import Column
from sklearn_protopnet.metrics._report._columns import COLUMNS

BOX = ["y0", "y1", "x0", "x1"]
PLACED = ["part_rate", "consistent", "coverage", "purity"]
ONE_A_CLASS = {**QUICK, "n_prototypes_per_class": 1}
ALWAYS = [
    "prototype",
    "prototype_class",
    "source_sample",
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
def without_cue(data):
    return np.stack([render_part_image(each, remove_spurious=True) for each in data.params])


@pytest.fixture(scope="module")
def without_part(data):
    return np.stack([render_part_image(each, remove_parts=[0]) for each in data.params])


@pytest.fixture(scope="module")
def clf(data):
    """Three classes of 20 images, two prototypes each, which look at two patches of an image."""
    changes = {"n_pooled_patches": 2, "joint_epochs": 4, "precision": "float32"}
    return ProtoPNetClassifier(**{**QUICK, **changes}).fit(data.images, data.target)


@pytest.fixture(scope="module")
def everything(clf, data, without_cue, without_part):
    """By a localizer whose boxes are no receptive fields."""
    return prototype_report(
        clf,
        data.images,
        data.target,
        localizer="upsample",
        part_centres=data.part_centres,
        masks=data.object_mask,
        interventions={"cue": without_cue, "part": without_part},
        max_images=3,
        min_count=3,
        random_state=0,
    )


def rows_of(clf, data, p, n=20):
    """The first images of a prototype's class."""
    return np.flatnonzero(data.target == clf.prototype_classes_[p])[:n]


class TestAlways:
    def test_columns_of_no_group_are_always_there(self, clf, data):
        report = prototype_report(clf, data.images, data.target, groups=())
        assert list(report) == ALWAYS
        table = clf.prototype_table()
        for name in ("prototype", "prototype_class", "source_sample", "n_duplicates"):
            assert_array_equal(report[name], table[name])
        assert_array_equal(report["n_images"], 20)
        assert_array_equal(report["n_classes"], (clf.coef_ != 0).sum(0))
        similarities = clf.transform(data.images)
        for p, row in report.iterrows():
            is_own = data.target == row["prototype_class"]
            assert row["similarity"] == pytest.approx(similarities[is_own, p].mean())
            assert row["similarity_others"] == pytest.approx(similarities[~is_own, p].mean())
        units = dict.fromkeys(("similarity", "similarity_others"), "the network's similarity score")
        assert report.attrs["units"] == units

    def test_the_summary_is_of_the_classifier_as_a_whole(self, clf, data):
        summary = prototype_report(clf, data.images, data.target, groups=()).attrs["summary"]
        why = clf.explain(data.images).pivot_table("contribution", "sample", "prototype")
        assert summary == {
            "accuracy": clf.score(data.images, data.target),
            "sparsity": (clf.coef_ == 0).mean(),
            "global_size": (clf.coef_ != 0).any(0).sum(),
            "local_size": pytest.approx(local_size(why.to_numpy())),
            "n_distinct_prototypes": len(np.unique(clf.prototypes_.reshape(6, -1), axis=0)),
        }

    def test_a_class_without_images_has_no_numbers(self, clf, data, without_cue):
        rows = data.target != 1
        report = prototype_report(
            clf,
            data.images[rows],
            data.target[rows],
            part_centres=data.part_centres[rows],
            masks=data.object_mask[rows],
            interventions={"cue": without_cue[rows]},
            max_images=1,
        )
        nobody = report[report["prototype_class"] == 1]
        assert_array_equal(nobody["n_images"], 0)
        assert_array_equal(nobody["part"], -1)
        assert_array_equal(nobody["cause"], "")
        said = {"prototype", "prototype_class", "source_sample", "n_images", "n_classes"}
        said |= {"n_duplicates", "similarity_others", "part", "cause"}
        said |= {"purity", "purity_centre", "purity_random"}
        said |= {"effect_cue_others", "cause_others", "cause_rate_others"}
        assert nobody.drop(columns=list(said)).isna().all(axis=None)
        assert report.loc[report["prototype_class"] != 1, "box_necessity"].notna().all()

    def test_a_pipeline_is_reported_like_its_classifier(self, clf, data, without_cue):
        """What it does to images, it does to those of interventions as well."""
        doubling = make_pipeline(FunctionTransformer(lambda X: 2 * X), clf)
        found, expected = (
            prototype_report(
                estimator,
                scale * data.images,
                data.target,
                groups=(),
                interventions={"cue": scale * without_cue},
            )
            for estimator, scale in ((doubling, 0.5), (clf, 1))
        )
        pd.testing.assert_frame_equal(found, expected)

    def test_parts_and_masks_are_in_pixels_that_reach_the_classifier(self, clf, data):
        """A pipeline doubles the sides of images: what was annotated is half as large."""
        smaller = data.images[:, ::2, ::2]
        larger = make_pipeline(FunctionTransformer(lambda X: X.repeat(2, 1).repeat(2, 2)), clf)
        settings = {"groups": (), "localizer": "upsample", "max_images": 3, "min_count": 2}
        settings["random_state"] = 0
        parts = {"part_centres": data.part_centres, "masks": data.object_mask}
        found = prototype_report(larger, smaller, data.target, **parts, **settings)
        reached = smaller.repeat(2, 1).repeat(2, 2)
        expected = prototype_report(clf, reached, data.target, **parts, **settings)
        pd.testing.assert_frame_equal(found, expected)
        assert found["part_rate"].notna().any()
        with pytest.raises(ValueError, match=r"masks\[0\] must have the shape \(32, 32\)"):
            prototype_report(
                larger, smaller, data.target, masks=data.object_mask[:, ::2, ::2], **settings
            )

    def test_parts_outside_of_what_reaches_the_classifier_are_refused(self, clf, data):
        """A pipeline halves the sides of images: what was annotated is twice as large."""
        halving = make_pipeline(FunctionTransformer(lambda X: X[:, ::2, ::2]), clf)
        given = data.images.repeat(2, 1).repeat(2, 2)
        message = r"must lie in the image that reaches the classifier, of 32 x 32 pixels for image"
        with pytest.raises(ValueError, match=message):
            prototype_report(
                halving, given, data.target, groups=(), part_centres=2 * data.part_centres
            )


class TestExtension:
    """A column is added by its record, and is there in all that is read off the records."""

    def test_a_column_may_be_measured_in_images_as_a_group_of_its_own(self, clf, data, monkeypatch):
        record = Column(
            "height",
            "Mean height of boxes.",
            measure=lambda image: image.patches.located.boxes @ [-1, 1, 0, 0],
            needs=("heights",),
            summary="mean_height",
        )
        monkeypatch.setitem(COLUMNS, "height", record)
        assert "height" not in prototype_report(clf, data.images, data.target, groups="box")
        report = prototype_report(
            clf, data.images, data.target, groups="heights", localizer="upsample", max_images=2
        )
        assert list(report) == [*ALWAYS, "height"]
        for p, height in report["height"].items():
            boxes = localize(
                clf, data.images[rows_of(clf, data, p, 2)], prototypes=[p], localizer="upsample"
            ).boxes
            assert height == (boxes @ [-1, 1, 0, 0]).mean()
        assert report.attrs["summary"]["mean_height"] == report["height"].mean()
        with pytest.raises(ValueError, match=r"groups must be 'all' or names among .*'heights'"):
            prototype_report(clf, data.images, data.target, groups="mine")

    def test_the_docstring_tells_of_all_columns(self):
        text = " ".join(prototype_report.__doc__.split())
        for name, column in COLUMNS.items():
            needs = "" if "box" not in column.needs else 'Group ``"box"``. '
            assert f"``{name}`` {needs}" in text
            assert column.description in text

    def test_directions_are_those_of_the_metrics(self):
        scores = [each for each in COLUMNS.values() if each.better and each.metric]
        assert scores
        for column in scores:
            text = " ".join(column.metric.__doc__.split())
            is_said = re.search(r"larger[^.]* is better|1 is best", text) is not None
            assert is_said == (column.better == "larger")


class Recording(torch.nn.Module):
    """A backbone that keeps the images that it was given, whatever copies are made of it."""

    images: ClassVar = []

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 4, 3, stride=2)

    def forward(self, images):
        self.images.append(images.detach().clone())
        return self.layer(images)


@pytest.fixture(scope="module")
def recording(data):
    clf = ProtoPNetClassifier(backbone=Recording(), **ONE_A_CLASS)
    return clf.fit(data.images, data.target)


class TestPasses:
    def passes(self, *args, **settings):
        Recording.images.clear()
        report = prototype_report(*args, **settings)
        return report, torch.cat(Recording.images)

    def test_images_go_through_the_network_once(self, recording, data):
        _, images = self.passes(
            recording, data.images, data.target, groups=(), part_centres=data.part_centres
        )
        assert len(images) == 60

    def test_noise_is_small_and_an_images_own(self, recording, data):
        settings = {"groups": "noise", "random_state": 3}
        report, images = self.passes(recording, data.images, data.target, **settings)
        noise = images[60:120] - images[:60]
        assert 0.24 < noise.abs().max() <= 0.25 + 1e-6
        assert 0.15 < noise.std() < 0.2
        assert not noise[0].allclose(noise[1])
        _, fewer = self.passes(recording, data.images[:40], data.target[:40], **settings)
        assert_array_equal(fewer[40:80], images[60:100])
        assert report["location_change"].between(0, 1).all()


class TestCounts:
    def test_more_images_with_a_part_than_are_looked_at_are_refused(self, clf, data):
        settings = {"localizer": "upsample", "part_centres": data.part_centres, "groups": ()}
        with pytest.raises(ValueError, match=r"max_images must be at least min_count .* 9 and 10"):
            prototype_report(clf, data.images, data.target, max_images=9, **settings)
        report = prototype_report(clf, data.images, data.target, **settings)
        assert report["part_rate"].notna().all()  # with the defaults, of parts that may be missing

    def test_no_part_is_no_answer(self, clf, data):
        with pytest.raises(ValueError, match=r"n_parts not be 0, got \(60, 0, 2\)"):
            prototype_report(clf, data.images, data.target, part_centres=np.zeros((60, 0, 2)))


class TestNoise:
    def test_a_seed_gives_the_same_numbers_again(self, clf, data):
        settings = {"groups": "noise", "part_centres": data.part_centres}
        first, again, other = (
            prototype_report(clf, data.images, data.target, random_state=seed, **settings)
            for seed in (0, 0, 1)
        )
        pd.testing.assert_frame_equal(first, again)
        columns = ["location_change", "stability"]
        assert not first[columns].equals(other[columns])
        assert first[columns].min(axis=None) >= 0
        assert first[columns].max(axis=None) <= 1

    def test_a_memory_takes_noisy_images_for_no_others(self, data, tmp_path):
        frozen = {"pretraining_epochs": 0, "backbone_learning_rate": 0.0, "memory": str(tmp_path)}
        cached = ProtoPNetClassifier(**{**QUICK, **frozen}).fit(data.images, data.target)
        settings = {"groups": "noise", "part_centres": data.part_centres, "random_state": 0}
        found = prototype_report(cached, data.images, data.target, **settings)
        cached.set_params(memory=None)
        expected = prototype_report(cached, data.images, data.target, **settings)
        pd.testing.assert_frame_equal(found, expected)
        assert found["location_change"].max() > 0


class TestLocalized:
    def test_a_receptive_field_is_sufficient_and_safe_from_attacks(self, clf, data):
        report = prototype_report(clf, data.images, data.target, max_images=1)
        assert_allclose(report["box_sufficiency"], 1, rtol=1e-6)
        assert_array_equal(report["spatial_misalignment"], 0)
        assert report[["deletion_auc", "insertion_auc"]].isna().all(axis=None)

    def test_the_papers_box_can_be_attacked_from_outside(self, everything):
        assert (everything["spatial_misalignment"] >= 0).all()
        assert everything["spatial_misalignment"].max() > 0.01

    def test_boxes_have_the_numbers_of_the_details(self, clf, data, everything):
        for p, row in everything.iterrows():
            why = clf.explain(
                data.images[rows_of(clf, data, p, 3)],
                classes=[row["prototype_class"]],
                localizer="upsample",
                details="box",
            ).query("prototype == @p")
            left = (why["similarity_in_box"] / why["patch_similarity"]).mean()
            gone = (1 - why["similarity_without_box"] / why["patch_similarity"]).mean()
            assert row["box_sufficiency"] == pytest.approx(left, rel=1e-5)
            assert row["box_necessity"] == pytest.approx(gone, rel=1e-5, abs=1e-5)

    def test_curves_are_of_the_similarity_of_the_patch(self, clf, data, everything):
        """Pixels that go are blurred, by a tenth of the image's side."""
        for p, row in everything.iloc[:2].iterrows():
            images = data.images[rows_of(clf, data, p, 3)]
            maps = localize(clf, images, prototypes=[p], localizer="upsample").maps
            found = []
            for image, relevance in zip(images, maps, strict=True):
                pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
                blurred = gaussian_blur(pixels, [21, 21], [3.2, 3.2])[0].permute(1, 2, 0).numpy()
                place = similarity_maps(clf, image[None])[0, p].argmax()

                def score(variants, p=p, place=place):
                    return similarity_maps(clf, variants)[:, p].reshape(len(variants), -1)[:, place]

                found.append(
                    [
                        metric(score, image, relevance[0], blurred)
                        for metric in (deletion_auc, insertion_auc)
                    ]
                )
            expected = pd.DataFrame(found).mean()  # of those that are known
            curves = row[["deletion_auc", "insertion_auc"]].astype(float)
            assert_allclose(curves, expected, rtol=1e-4, atol=1e-5)

    def test_masks_are_scored_by_the_metrics(self, clf, data, everything):
        for p, row in everything.iterrows():
            rows = rows_of(clf, data, p, 3)
            found = localize(clf, data.images[rows], prototypes=[p], localizer="upsample")
            maps, masks = np.concatenate(found.maps), data.object_mask[rows]
            assert row["pointing_game"] == pytest.approx(pointing_game(maps, masks))
            assert row["relevance_mass"] == pytest.approx(relevance_mass(maps, masks), rel=1e-4)
            assert row["centre_baseline"] == pytest.approx(centre_baseline(masks))
            assert row["random_baseline"] == pytest.approx(random_baseline(masks))

    def test_empty_masks_score_nothing(self, clf, data):
        report = prototype_report(
            clf, data.images, data.target, groups=(), masks=0 * data.object_mask, max_images=1
        )
        assert_array_equal(report[["pointing_game", "relevance_mass", "random_baseline"]], 0)

    @pytest.mark.parametrize("similarity", ["linear", "cosine"])
    def test_a_similarity_that_is_not_positive_has_no_share(self, data, without_cue, similarity):
        rows = data.target < 2
        other = ProtoPNetClassifier(similarity=similarity, **ONE_A_CLASS)
        report = prototype_report(
            other.fit(data.images[rows], data.target[rows]),
            data.images[rows],
            data.target[rows],
            groups=("box", "attack"),
            interventions={"cue": without_cue[rows]},
            max_images=2,
        )
        assert len(report) == 2
        if similarity == "linear":
            shares = ["box_sufficiency", "box_necessity", "spatial_misalignment", "effect_cue"]
            assert report[shares].isna().all(axis=None)
        else:
            assert_allclose(report["box_sufficiency"], 1, rtol=1e-5)

    def test_files_of_any_size_may_be_named_by_a_frame(self, data, tmp_path):
        """Boxes, parts and masks are in the pixels of each file."""
        scales = [(2, 3), (1, 2), (3, 1)]
        paths, masks, centres = [], [], []
        for i in range(18):
            scale = scales[i % 3]
            block = np.ones(scale)
            pixels = np.kron(data.images[i], block[..., None])
            paths.append(str(tmp_path / f"{i}.png"))
            Image.fromarray((255 * pixels).round().astype(np.uint8)).save(paths[-1])
            masks.append(np.kron(data.object_mask[i], block).astype(bool))
            centres.append(data.part_centres[i] * scale)
        frame = pd.DataFrame({"path": paths}, index=[f"image {i}" for i in range(18)])
        target = data.target[:18]
        clf = ProtoPNetClassifier(image_size=(32, 32), **ONE_A_CLASS).fit(frame, target)
        report = prototype_report(
            clf,
            frame,
            target,
            groups=(),
            localizer="upsample",
            part_centres=centres,
            masks=masks,
            max_images=4,
            min_count=2,
        )
        for p, row in report.iterrows():
            rows = np.flatnonzero(target == row["prototype_class"])[:4]
            found = localize(clf, frame.iloc[rows], prototypes=[p], localizer="upsample")
            presence = part_presence(found.boxes, np.array(centres)[rows])
            assert row["coverage"] == pytest.approx(coverage(presence))
            chosen = [masks[i] for i in rows]
            hits = [
                pointing_game(each, mask[None])
                for each, mask in zip(found.maps, chosen, strict=True)
            ]
            assert row["pointing_game"] == pytest.approx(np.mean(hits))
            y0, y1, x0, x1 = found.boxes[:, 0].T
            shares = (y1 - y0) * (x1 - x0) / [mask.size for mask in chosen]
            assert row["box_share"] == pytest.approx(shares.mean())


class TestParts:
    def check(self, clf, data, report, localizer, n_images, min_count):
        """Compare the columns with the metrics of boxes that `localize` finds."""
        nearest = nearest_patches(clf, data.images, 10, localizer=localizer)
        for p, row in report.iterrows():
            rows = rows_of(clf, data, p, n_images)
            boxes = localize(clf, data.images[rows], prototypes=[p], localizer=localizer).boxes
            visible, close = data.part_visible[rows], nearest[nearest["prototype"] == p]
            near = close[BOX].to_numpy()[:, None], data.part_centres[close["sample"]]
            for suffix, move in (("", np.asarray), ("_centre", self.centred)):
                presence = part_presence(move(boxes), data.part_centres[rows])
                rates = part_rates(presence, visible, min_count=min_count)[0]
                if suffix == "":
                    assert row["part"] == np.nanargmax(rates)
                assert row[f"part_rate{suffix}"] == np.nanmax(rates)
                assert row[f"consistent{suffix}"] == consistency(
                    presence, visible, min_count=min_count
                )
                counted = presence & ~np.isnan(rates)
                assert row[f"coverage{suffix}"] == pytest.approx(coverage(counted))
                of_nearest = part_presence(move(near[0]), near[1])
                assert row[f"purity{suffix}"] == pytest.approx(purity(of_nearest))

    def centred(self, boxes):
        return centre_boxes(boxes, (32, 32))

    def test_parts_are_scored_in_boxes_of_a_localizer(self, clf, data, everything):
        self.check(clf, data, everything, "upsample", 3, min_count=3)

    def test_parts_are_scored_in_receptive_fields(self, clf, data):
        report = prototype_report(
            clf, data.images, data.target, groups=(), part_centres=data.part_centres, min_count=5
        )
        self.check(clf, data, report, "receptive_field", 20, min_count=5)
        at_random, at_centre = (
            report[[f"{name}_{place}" for name in PLACED]].mean().to_numpy()
            for place in ("random", "centre")
        )
        assert (at_random <= at_centre).all()
        for suffix in ("", "_centre", "_random"):
            mean = report[f"consistent{suffix}"].mean()
            assert report.attrs["summary"][f"consistency{suffix}"] == mean

    def test_a_part_that_is_seen_too_rarely_does_not_count(self, clf, data):
        settings = {"groups": "noise", "part_centres": data.part_centres}
        names = [f"{name}{place}" for place in ("", "_centre", "_random") for name in PLACED]
        names += ["stability", "stability_covered"]
        report = prototype_report(clf, data.images, data.target, min_count=21, **settings)
        assert_array_equal(report["part"], -1)
        of_any_class = [name for name in names if name.startswith("purity")]
        assert report[of_any_class].notna().all(axis=None)
        assert report[names].drop(columns=of_any_class).isna().all(axis=None)
        assert np.isnan(report.attrs["summary"]["consistency"])
        report = prototype_report(clf, data.images, data.target, min_count=61, **settings)
        assert report[names].isna().all(axis=None)

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

    def test_parts_that_are_said_not_to_be_seen_do_not_count(self, clf, data):
        visible = np.zeros((60, 3), dtype=bool)
        visible[:, 1] = data.part_visible[:, 1]
        nowhere = np.where(visible[..., None], data.part_centres, np.nan)
        settings = {"groups": "noise", "random_state": 0}
        said, unsaid = (
            prototype_report(clf, data.images, data.target, **settings, **given)
            for given in (
                {"part_centres": data.part_centres, "part_visible": visible},
                {"part_centres": nowhere},
            )
        )
        assert_array_equal(said["part"], 1)
        pd.testing.assert_frame_equal(said, unsaid)

    @pytest.mark.parametrize(
        "place", [[-0.1, 3], [3, -0.1], [32, 3], [3, 32], [np.inf, 3], [np.nan, 3]]
    )
    def test_a_part_that_is_seen_lies_in_the_image(self, clf, data, place):
        centres, visible = data.part_centres.copy(), data.part_visible.copy()
        centres[0, 0] = 0, np.nextafter(32, 0)  # edges are half-open
        centres[7, 1], visible[7, 1] = place, True
        settings = {"groups": (), "part_centres": centres}
        with pytest.raises(ValueError, match=r"32 x 32 pixels for image 7, got .* for part 1"):
            prototype_report(clf, data.images, data.target, part_visible=visible, **settings)
        visible[7, 1] = False  # one that is not seen may be anywhere
        report = prototype_report(clf, data.images, data.target, part_visible=visible, **settings)
        assert report["coverage"].notna().all()


class TestCauses:
    @pytest.mark.parametrize(
        ("names", "message"),
        [
            (["cue", "cue_others"], "got 'cue' and 'cue_others'"),
            (["a_others", "a_others_others"], "got 'a_others' and 'a_others_others'"),
            ([1], "must be text, and not empty, got 1"),
            (["1", 1], "must be text, and not empty, got 1"),
            ([""], "must be text, and not empty, got ''"),
            ([None], "must be text, and not empty, got None"),
        ],
    )
    def test_names_by_which_columns_would_be_one_are_refused(self, clf, data, names, message):
        interventions = dict.fromkeys(names, data.images)
        with pytest.raises(ValueError, match=message):
            prototype_report(clf, data.images, data.target, interventions=interventions)

    @pytest.mark.parametrize("interventions", [[], [("cue", None)], "cue", np.zeros(2)])
    def test_interventions_that_have_no_names_are_refused(self, clf, data, interventions):
        kind = type(interventions).__name__
        with pytest.raises(TypeError, match=f"a dict of names to images, got {kind}"):
            prototype_report(clf, data.images, data.target, interventions=interventions)

    def test_names_that_are_alike_keep_their_columns(self, clf, data, without_cue):
        """As an intervention named "others", and one whose name ends so."""
        changed = {"others": without_cue, "cue_others": data.images, "<name>": data.images}
        report = prototype_report(clf, data.images, data.target, groups=(), interventions=changed)
        columns = [f"effect_{name}{end}" for end in ("", "_others") for name in changed]
        assert [name for name in report if name.startswith("effect_")] == columns
        none = prototype_report(clf, data.images, data.target, groups=(), interventions={})
        assert list(none) == ALWAYS

    def test_effects_are_differences_of_similarities_before_and_after(
        self, clf, data, without_cue, without_part
    ):
        """The cue is in images of class 0 only, and three images of it are too few to count."""
        is_first = (data.target == data.target.min())[:, None, None, None]
        blank = np.where(is_first, data.images, data.images.mean())  # no cause of the first class
        changed = {
            "cue": without_cue,
            "part": without_part,
            "inverted": 1 - data.images,
            "blank": blank,
        }
        before = clf.transform(data.images)
        after = np.stack([clf.transform(each) for each in changed.values()], axis=1)
        there = np.stack(
            [(each != data.images).any((1, 2, 3)) for each in changed.values()], axis=1
        )
        causes = causal_parts(before, after, there)
        for rows in (np.arange(60), np.sort(np.argsort(data.target, kind="stable")[17:])):
            report = prototype_report(
                clf,
                data.images[rows],
                data.target[rows],
                groups=(),
                interventions={name: images[rows] for name, images in changed.items()},
            )
            is_own = data.target[rows, None] == clf.prototype_classes_
            for suffix, scope in (("", is_own), ("_others", ~is_own)):
                for p, row in report.iterrows():
                    rates = {}
                    for i, name in enumerate(changed):
                        those = rows[scope[:, p] & there[rows, i]]
                        effect = row[f"effect_{name}{suffix}"]
                        if len(those) < 10:
                            assert np.isnan(effect)
                            continue
                        share = 1 - after[those, i, p] / before[those, p]
                        assert effect == pytest.approx(share.mean(), abs=1e-12)
                        rates[name] = (causes[those, p] == i).mean()
                    rate = max(rates.values(), default=np.nan)
                    assert row[f"cause_rate{suffix}"] == pytest.approx(rate, nan_ok=True)
                    cause = max(rates, key=rates.get) if rate > 0.5 else ""
                    assert row[f"cause{suffix}"] == cause
            assert len({*report["cause"], *report["cause_others"]}) > 1

    def test_what_is_in_no_image_is_no_cause(self, clf, data):
        report = prototype_report(
            clf, data.images, data.target, groups=(), interventions={"same": data.images}
        )
        names = ["effect_same", "effect_same_others", "cause_rate", "cause_rate_others"]
        assert report[names].isna().all(axis=None)
        assert (report[["cause", "cause_others"]] == "").all(axis=None)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"groups": "boxes"}, "groups must be 'all' or names among"),
        ({"groups": 3}, "groups must be 'all' or names among"),
        ({"groups": "masks"}, "groups must be 'all' or names among"),
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
def test_what_cannot_be_reported_is_refused(clf, data, settings, message):
    with pytest.raises(ValueError, match=message):
        prototype_report(clf, data.images, data.target, **{"groups": (), **settings})


def test_labels_that_do_not_fit_are_refused(clf, data):
    with pytest.raises(ValueError, match="y must have one label for each of the 60 images"):
        prototype_report(clf, data.images, data.target[:59])
    with pytest.raises(ValueError, match="y must hold classes of the training y only"):
        prototype_report(clf, data.images, data.target + 1)
    with pytest.raises(ValueError, match="y must hold classes of the training y only"):
        prototype_report(clf, data.images, data.target.astype(str))
