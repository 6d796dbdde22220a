"""The classifier on image files: pixels stay on disk, and all else is as with arrays."""

import os
import pickle
import re
import shutil
from functools import partial
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import polars as pl
import pytest
from PIL import Image
from PIL.ImageFile import ImageFile
from quick import QUICK
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline

from sklearn_protopnet import ProtoPNetClassifier, load
from sklearn_protopnet._images._resizing import resize
from sklearn_protopnet.inspection import ExplanationDisplay, PrototypeDisplay, last_layer_path

mpl.use("Agg")


BOX = ["y0", "y1", "x0", "x1"]
SOURCE_BOX = ["source_y0", "source_y1", "source_x0", "source_x1"]
SMALL = {"image_size": (16, 16), **QUICK}
Y = np.array(["cat", "dog"] * 5)
SIZES = [(20, 24), (17, 9), (16, 16), (8, 30), (40, 16), (16, 15), (33, 33), (11, 12), (9, 9)]
SIZES = [*SIZES, (50, 21)]


def noise(sizes=SIZES, channels=(3,), seed=0):
    """Noise images in bytes, of which every other one is darker on the left."""
    rng = np.random.default_rng(seed)
    images = [rng.integers(0, 256, (*size, *channels), dtype=np.uint8) for size in sizes]
    for image in images[1::2]:
        image[:, : image.shape[1] // 2] //= 4
    return images


def write(folder, images, kind="png"):
    paths = [str(folder / f"{row} of {len(images)}.{kind}") for row in range(len(images))]
    for image, path in zip(images, paths, strict=True):
        Image.fromarray(image).save(path)
    return paths


def resized(images):
    """Images (n, 16, 16, C) as the network sees them."""
    return np.concatenate(
        [resize(image.reshape(1, *image.shape[:2], -1), (16, 16)) for image in images]
    )


def assert_equal_values(one, other, name=""):
    """Equal to the last bit, in dictionaries of dictionaries of arrays too."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_equal_values(one[key], other[key], f"{name}.{key}")
    else:
        assert np.array_equal(one, other), name


def assert_same_fit(one, other):
    """Equal to the last bit in all that a fit names, but for the time that it took."""
    names = {name for name in vars(one) if name.endswith("_")} - {"history_"}
    assert names == {name for name in vars(other) if name.endswith("_")} - {"history_"}
    for name in sorted(names):
        assert_equal_values(getattr(one, name), getattr(other, name), name)
    tables = [clf.history_table().drop(columns="seconds") for clf in (one, other)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)


def assert_same_reasons(one, other):
    pd.testing.assert_frame_equal(one, other, check_exact=True)


@pytest.fixture(scope="module")
def images():
    return noise()


@pytest.fixture(scope="module")
def paths(images, tmp_path_factory):
    return write(tmp_path_factory.mktemp("images"), images)


@pytest.fixture(scope="module")
def fitted(paths):
    return ProtoPNetClassifier(**SMALL).fit(paths, Y)


@pytest.fixture(scope="module")
def greys():
    return noise(channels=())


@pytest.fixture(scope="module")
def grey_paths(greys, tmp_path_factory):
    return write(tmp_path_factory.mktemp("greys"), greys)


@pytest.fixture(scope="module")
def grey_fitted(grey_paths):
    return ProtoPNetClassifier(**SMALL).fit(grey_paths, Y)


class TestFilesAndArrays:
    def test_files_are_their_decoded_images_to_the_last_bit(self, fitted, paths, images):
        other = ProtoPNetClassifier(**SMALL).fit(images, Y)
        assert_same_fit(fitted, other)
        assert fitted.image_shape_ == fitted.input_shape_ == (16, 16, 3)
        assert fitted.n_features_in_ == 768
        why = fitted.explain(paths, classes="all")
        for clf, X in ((fitted, images), (other, paths)):
            assert_same_reasons(clf.explain(X, classes="all"), why)
        for method in ("predict", "predict_proba", "decision_function", "transform"):
            assert np.array_equal(getattr(fitted, method)(paths), getattr(other, method)(images))
        assert np.array_equal(fitted.transform(paths[3:4])[0], fitted.transform(images)[3])

    def test_files_are_images_that_were_resized_before(self, fitted, images):
        before = resized(images)
        plain = ProtoPNetClassifier(**QUICK).fit(before, Y)
        for name in ("prototypes_", "coef_", "prototype_images_", "prototype_sample_indices_"):
            assert np.array_equal(getattr(plain, name), getattr(fitted, name))
        assert np.array_equal(plain.transform(before), fitted.transform(images))
        assert np.array_equal(fitted.prototype_images_, before[fitted.prototype_sample_indices_])

    @pytest.mark.parametrize(
        "form",
        [
            pytest.param(lambda p: [Path(path) for path in p], id="list of Path"),
            pytest.param(np.array, id="array"),
            pytest.param(lambda p: pd.Series(p, index=list("abcdefghij")), id="series"),
            pytest.param(lambda p: pd.DataFrame({"file": p}), id="frame"),
            pytest.param(lambda p: pl.Series(p), id="polars series"),
        ],
    )
    def test_paths_of_every_form_are_the_same(self, fitted, paths, form):
        other = ProtoPNetClassifier(**SMALL).fit(form(paths), Y)
        assert_same_fit(fitted, other)
        assert np.array_equal(other.decision_function(form(paths)), fitted.decision_function(paths))

    def test_the_order_of_the_rows_does_not_matter(self, fitted, paths):
        order = np.random.default_rng(3).permutation(len(paths))
        shuffled = ProtoPNetClassifier(**SMALL).fit(np.array(paths)[order], Y[order])
        assert_equal_values(shuffled.state_, fitted.state_)
        for name in ("coef_", "prototypes_", "prototype_boxes_", "prototype_image_sizes_"):
            assert np.array_equal(getattr(shuffled, name), getattr(fitted, name))
        rows = shuffled.prototype_sample_indices_
        assert np.array_equal(order[rows], fitted.prototype_sample_indices_)

    def test_copies_in_another_format_count_as_repetitions(self, fitted, paths, images, tmp_path):
        copies = write(tmp_path, images, "bmp")
        twice = ProtoPNetClassifier(**SMALL).fit([*paths, *copies], np.tile(Y, 2))
        assert_same_fit(fitted, twice)

    @pytest.mark.parametrize("augment", ["paper"])
    def test_processes_give_the_same_bits(self, paths, images, augment):
        settings = {**SMALL, "batch_size": 3, "augment": augment}
        alone = ProtoPNetClassifier(**settings).fit(paths, Y)
        for X in (paths, images):
            shared = ProtoPNetClassifier(**settings, n_jobs=2).fit(X, Y)
            assert_same_fit(alone, shared)
            assert_same_reasons(alone.explain(X), shared.explain(X))

    def test_processes_know_the_formats_that_the_user_registered(
        self, images, tmp_path, monkeypatch
    ):
        class Turned(ImageFile):
            """Rows from the last to the first, of one size."""

            format = "TURNED"

            def _open(self):
                self._mode, self._size = "L", (8, 8)
                self.tile = [("raw", (0, 0, 8, 8), 4, ("L", 0, -1))]

        pixels = np.random.default_rng(0).integers(0, 256, (10, 8, 8), dtype=np.uint8)
        paths = [tmp_path / f"{row}.turned" for row in range(10)]
        for path, image in zip(paths, pixels, strict=True):
            path.write_bytes(b"TURN" + image[::-1].tobytes())
        expected = ProtoPNetClassifier(**QUICK).fit(pixels, Y)
        Image.init()
        monkeypatch.setitem(Image.OPEN, "TURNED", (Turned, lambda start: start[:4] == b"TURN"))
        monkeypatch.setattr(Image, "ID", [*Image.ID, "TURNED"])
        for n_jobs in (1, 2):
            clf = ProtoPNetClassifier(**QUICK, n_jobs=n_jobs).fit(paths, Y)
            assert_same_fit(clf, expected)

    def test_images_that_vary_give_another_network_with_patches_of_plain_images(
        self, fitted, images
    ):
        varied = ProtoPNetClassifier(**SMALL, augment="paper").fit(images, Y)
        assert not np.array_equal(varied.prototypes_, fitted.prototypes_)
        assert (varied.prototype_distances_ == 0).all()
        rows = varied.prototype_sample_indices_
        assert np.array_equal(varied.prototype_images_, resized(images)[rows])

    def test_what_the_user_wrote_varies_images_of_files_and_of_arrays_alike(self, paths, images):
        def turn(image):
            return image.flip(2)

        one, other = (ProtoPNetClassifier(**SMALL, augment=turn).fit(X, Y) for X in (paths, images))
        assert_same_fit(one, other)


class TestColours:
    def test_grey_files_have_one_channel(self, grey_fitted, grey_paths, greys):
        assert grey_fitted.image_shape_ == (16, 16, 1)
        assert_same_fit(grey_fitted, ProtoPNetClassifier(**SMALL).fit(greys, Y))
        assert np.array_equal(grey_fitted.transform(grey_paths), grey_fitted.transform(greys))

    def test_grey_files_among_colour_files_are_grey_in_colour(self, greys, images, tmp_path):
        mixed = [*greys[:4], *images[4:]]
        clf = ProtoPNetClassifier(**SMALL).fit(write(tmp_path, mixed), Y)
        assert clf.input_shape_ == (16, 16, 3)
        repeated = [np.dstack([grey] * 3) for grey in greys[:4]]
        assert_same_fit(clf, ProtoPNetClassifier(**SMALL).fit([*repeated, *images[4:]], Y))

    def test_one_colour_file_is_enough_wherever_it_stands(self, greys, images, tmp_path):
        mixed = [*greys[:9], images[9]]
        clf = ProtoPNetClassifier(**SMALL).fit(write(tmp_path, mixed), Y)
        assert clf.input_shape_ == (16, 16, 3)

    def test_a_grey_classifier_sees_colour_files_in_grey(self, grey_fitted, paths, images):
        luma = [np.asarray(Image.fromarray(image).convert("L")) for image in images]
        assert np.array_equal(grey_fitted.transform(paths), grey_fitted.transform(luma))

    def test_a_colour_classifier_sees_grey_files_in_colour(self, fitted, grey_paths, greys):
        repeated = [np.dstack([grey] * 3) for grey in greys]
        assert np.array_equal(fitted.transform(grey_paths), fitted.transform(repeated))
        assert np.array_equal(fitted.transform(grey_paths[3:4])[0], fitted.transform(repeated)[3])

    def test_a_classifier_of_other_channels_refuses_files(self, paths):
        images = np.random.default_rng(0).integers(0, 9, (10, 16, 16, 2))
        clf = ProtoPNetClassifier(**SMALL).fit(images, Y)
        with pytest.raises(
            ValueError, match=r"must have 2 channels as in fit, and files give 1 or 3"
        ):
            clf.predict(paths)


class TestReasons:
    def test_the_index_names_the_samples(self, fitted, paths):
        index = list("abcdefghij")
        expected = fitted.explain(paths, top_k=1)["sample"]
        assert expected.tolist() == list(range(10))
        for frame in (pd.Series(paths, index=index), pd.DataFrame({"p": paths}, index=index)):
            assert fitted.explain(frame, top_k=1)["sample"].tolist() == index
            assert fitted.explain(frame[3:5], top_k=1)["sample"].tolist() == ["d", "e"]
        assert fitted.explain(pl.Series(paths), top_k=1)["sample"].tolist() == expected.tolist()

    def test_boxes_lie_in_the_images_and_hold_what_the_network_sees(self, fitted, paths, images):
        table = fitted.explain(paths, classes="all")
        seen = fitted.explain(resized(images), classes="all")
        heights, widths = np.array(SIZES)[table["sample"]].T
        for (start, stop), length in ((("y0", "y1"), heights), (("x0", "x1"), widths)):
            assert table[start].ge(0).all()
            assert table[start].lt(table[stop]).all()
            assert table[stop].le(length).all()
            scale = length / 16
            assert table[start].le(seen[start] * scale).all()
            assert table[stop].ge(seen[stop] * scale).all()
        is_same = (heights == 16) & (widths == 16)
        assert table[BOX][is_same].equals(seen[BOX][is_same])
        is_whole = (
            table[BOX].to_numpy() == np.stack([0 * heights, heights, 0 * widths, widths], 1)
        ).all(1)
        assert np.array_equal(table["box_kind"] == "whole_image", is_whole)

    def test_pixels_outside_of_a_box_do_not_matter(self, fitted, paths, images, tmp_path):
        rng = np.random.default_rng(1)
        why = fitted.explain(paths)
        why = why[why["box_kind"] != "whole_image"].drop_duplicates("sample")
        changed = [image.copy() for image in images]
        for row in why.itertuples():
            box = slice(row.y0, row.y1), slice(row.x0, row.x1)
            changed[row.sample] = rng.integers(0, 256, images[row.sample].shape, dtype=np.uint8)
            changed[row.sample][box] = images[row.sample][box]
            assert not np.array_equal(changed[row.sample], images[row.sample])
        assert len(why) > 3
        distances = fitted.explain(write(tmp_path, changed), classes="all")
        distances = distances.drop_duplicates(["sample", "prototype"])
        distances = distances.set_index(["sample", "prototype"])["distance"]
        for row in why.itertuples():
            assert distances[row.sample, row.prototype] <= row.distance

    def test_sources_are_patches_of_the_files(self, fitted, paths):
        prototypes = fitted.prototype_table()
        sources = np.array(paths)[prototypes["source_sample"]]
        at_home = fitted.explain(sources, classes="all")
        at_home = at_home[at_home["sample"] == at_home["prototype"]].drop_duplicates("sample")
        assert (at_home["distance"] == 0).all()
        assert np.array_equal(at_home[BOX], at_home[SOURCE_BOX])
        assert np.array_equal(at_home[SOURCE_BOX], prototypes[SOURCE_BOX])
        assert np.array_equal(
            fitted.prototype_image_sizes_, np.array(SIZES)[prototypes["source_sample"]]
        )

    def test_an_explanation_is_drawn_in_pixels_of_the_file(self, fitted, paths):
        for X, name in ((paths, 4), (pd.Series(paths, index=list("abcdefghij")), "e")):
            display = ExplanationDisplay.from_estimator(fitted, X, sample=4, top_k=3)
            height, width = SIZES[4]
            assert tuple(display.image_size) == (height, width)
            axes = [display.image_ax_, *display.axes_[:, 0]]
            for each in axes:
                assert each.images[0].get_extent() == [-0.5, width - 0.5, height - 0.5, -0.5]
            why = fitted.explain(paths[4:5], top_k=3)
            assert boxes_in(display.image_ax_) == why[BOX].to_numpy().tolist()
            for each, (_, row) in zip(display.axes_[:, 1], why.iterrows(), strict=True):
                height, width = SIZES[row["source_sample"]]
                assert each.images[0].get_extent() == [-0.5, width - 0.5, height - 0.5, -0.5]
                assert boxes_in(each) == [row[SOURCE_BOX].tolist()]
            assert f"image {name}" in [
                text.get_text() for text in display.figure_.findobj(mpl.text.Text)
            ]

    def test_prototypes_are_drawn_in_pixels_of_their_files(self, fitted):
        display = PrototypeDisplay.from_estimator(fitted)
        table = fitted.prototype_table()
        for each, (_, row) in zip(display.axes_.ravel(), table.iterrows(), strict=True):
            height, width = SIZES[row["source_sample"]]
            assert each.images[0].get_extent() == [-0.5, width - 0.5, height - 0.5, -0.5]
            assert boxes_in(each) == [row[SOURCE_BOX].tolist()]


def boxes_in(axes):
    """y0, y1, x0, x1 of all rectangles, in pixels."""
    found = [(*patch.get_xy(), patch.get_width(), patch.get_height()) for patch in axes.patches]
    return [[y + 0.5, y + height + 0.5, x + 0.5, x + width + 0.5] for x, y, width, height in found]


class TestSizes:
    def test_files_of_one_size_need_no_image_size(self, tmp_path):
        images = noise([(16, 13)] * 10)
        paths = write(tmp_path, images)
        for shape in (None, (16, 13, 3)):
            clf = ProtoPNetClassifier(image_shape=shape, **QUICK).fit(paths, Y)
            assert clf.image_shape_ == (16, 13, 3)
        assert_same_fit(clf, ProtoPNetClassifier(image_shape=(16, 13, 3), **QUICK).fit(images, Y))
        assert (clf.explain(paths)["x1"] <= 13).all()
        with pytest.raises(ValueError, match=r"16 x 13 pixels and 3 .* as in fit, got 20 x 24"):
            clf.predict(write(tmp_path, noise([(20, 24)])))
        wrong = r"image_shape, 13 x 16 pixels and 3 channels, got 16 x 13"
        with pytest.raises(ValueError, match=wrong):
            ProtoPNetClassifier(image_shape=(13, 16, 3), **QUICK).fit(paths, Y)
        with pytest.raises(
            ValueError, match=r"16 x 13 pixels and 1 channel, got .* and 3 channels"
        ):
            ProtoPNetClassifier(image_shape=(16, 13), **QUICK).fit(paths, Y)

    def test_files_of_several_sizes_are_named_with_the_remedy(self, paths):
        message = (
            f"one size unless image_size is set, got {SIZES[0]} in row 0 for {paths[0]!r} and "
            f"{SIZES[1]} in row 1 for {paths[1]!r}."
        )
        for form in (list, np.array, pd.Series):
            with pytest.raises(ValueError, match=re.escape(message)):
                ProtoPNetClassifier(**QUICK).fit(form(paths), Y)

    def test_arrays_of_every_form_are_resized(self):
        images = np.stack(noise([(20, 12)] * 10, channels=()))
        reference = ProtoPNetClassifier(**SMALL).fit(list(images), Y)
        rows = images.reshape(10, -1)
        for X, image_shape in ((rows, (20, 12)), (images, None), (images[..., None], None)):
            clf = ProtoPNetClassifier(image_shape=image_shape, **SMALL).fit(X, Y)
            assert_equal_values(clf.state_, reference.state_)
            assert np.array_equal(clf.coef_, reference.coef_)
            assert (clf.image_shape_, clf.input_shape_) == ((20, 12, 1), (16, 16, 1))
            assert_same_reasons(clf.explain(X), reference.explain(images))
            assert clf.explain(X)["y1"].max() > 16
            assert (clf.prototype_image_sizes_ == [20, 12]).all()
        plain = ProtoPNetClassifier(**QUICK).fit(resized(images), Y)
        assert np.array_equal(plain.coef_, reference.coef_)
        assert np.array_equal(plain.prototypes_, reference.prototypes_)

    def test_rows_keep_the_number_of_their_features(self):
        rows = np.random.default_rng(0).integers(0, 256, (10, 400))
        clf = ProtoPNetClassifier(**SMALL).fit(rows, Y)
        assert clf.n_features_in_ == 400
        assert np.array_equal(clf.transform(rows), clf.transform(rows.reshape(10, 20, 20)))
        with pytest.raises(ValueError, match=r"X has 256 features, but .* expecting 400"):
            clf.predict(rows[:, :256])

    @pytest.mark.parametrize("image_size", [(16,), (16, 0), (16.0, 16.0), [16, 16, 3]])
    def test_what_is_no_size_is_refused(self, paths, image_size):
        message = f"image_size must be (height, width) in positive integers, got {image_size!r}."
        with pytest.raises(ValueError, match=re.escape(message)):
            ProtoPNetClassifier(**{**SMALL, "image_size": image_size}).fit(paths, Y)

    def test_an_image_without_pixels_is_refused(self):
        with pytest.raises(ValueError, match=r"0 feature\(s\)"):
            ProtoPNetClassifier(**SMALL).fit(np.zeros((10, 0, 8)), Y)


class TestBadFiles:
    @pytest.fixture
    def bad(self, paths, tmp_path):
        """A path of every kind that is no image, and the error that it leads to."""
        kinds = {
            "missing": (tmp_path / "no.png", FileNotFoundError),
            "broken link": (tmp_path / "link.png", FileNotFoundError),
            "truncated": (tmp_path / "cut.png", ValueError),
            "text": (tmp_path / "text.png", ValueError),
            "empty": (tmp_path / "empty.png", ValueError),
            "three bytes": (tmp_path / "tiny.png", ValueError),
            "folder": (tmp_path, IsADirectoryError),
            "pipe": (tmp_path / "pipe.png", ValueError),
            "device": (Path("/dev/zero"), ValueError),
        }
        kinds["broken link"][0].symlink_to("nowhere.png")
        kinds["truncated"][0].write_bytes(Path(paths[0]).read_bytes()[:-300])
        kinds["text"][0].write_text("no image")
        kinds["empty"][0].touch()
        kinds["three bytes"][0].write_bytes(b"\x0a\x05\x01")
        os.mkfifo(kinds["pipe"][0])  # which has nobody to write to it
        return kinds

    def test_one_error_names_file_and_row_and_changes_nothing(self, fitted, paths, bad):
        for path, error in bad.values():
            message = f"^Row 7 of X: .*{re.escape(repr(str(path)))}"
            message_val = message.replace("X", "X_val", 1)
            X = [*paths[:7], path, *paths[8:]]
            before = dict(vars(fitted))
            refit = fitted.refit_last_layer
            for enter in (
                fitted.predict,
                fitted.explain,
                *(partial(f, y=Y) for f in (fitted.fit, refit)),
            ):
                with pytest.raises(error, match=message):
                    enter(X)
            with pytest.raises(error, match=message_val):
                fitted.fit(paths, Y, X_val=X, y_val=Y)
            assert vars(fitted) == before

    @pytest.mark.parametrize("n_jobs", [None, 2])
    def test_a_file_must_stay_what_its_header_said(self, images, tmp_path, n_jobs):
        paths = write(tmp_path, images)
        grey = images[3][..., 0]
        others = {"7 x 30": images[3][:-1], "grey of 8": grey, "of 16": grey.astype(np.uint16)}
        for found, other in others.items():

            def replace(image, other=other):  # when the first image varies, all headers are read
                Image.fromarray(other).save(paths[3])
                return image

            clf = ProtoPNetClassifier(**SMALL, augment=replace, n_jobs=n_jobs)
            rule = f"Row 3 of X: {re.escape(repr(paths[3]))} must stay the image that it was"
            message = f"{rule}, of .* in colour of 8 bits, got .*{found}"
            with pytest.raises(ValueError, match=message):
                clf.fit(paths, Y)
            Image.fromarray(images[3]).save(paths[3])

    @pytest.mark.parametrize("empty", ["", np.str_("")])
    def test_an_empty_path_is_no_folder(self, fitted, paths, empty):
        for form in (list, np.array, pd.Series):
            with pytest.raises(ValueError, match=r"^Row 1 of X must be the path of an image"):
                fitted.predict(form([paths[0], empty]))

    def test_what_is_no_path_among_paths_is_named_by_its_row(self, fitted, paths):
        with pytest.raises(TypeError, match="got float in row 3"):
            fitted.predict([*paths[:3], np.nan, *paths[4:]])

    def test_numbers_that_are_not_finite_are_refused(self, images, tmp_path):
        paths = write(tmp_path, [image[..., 0] for image in images])
        values = np.ones((16, 16), np.float32)
        values[3, 5] = np.nan
        paths[4] = str(tmp_path / "nan.tif")
        Image.fromarray(values).save(paths[4])
        message = f"^Row 4 of X: .*{re.escape(paths[4])}.* pixels that are NaN or infinite"
        with pytest.raises(ValueError, match=message):
            ProtoPNetClassifier(**SMALL).fit(paths, Y)

    def test_files_may_go_after_the_fit(self, paths, tmp_path):
        copies = [shutil.copy(path, tmp_path) for path in paths]
        clf = ProtoPNetClassifier(**SMALL).fit(copies, Y)
        table, why = clf.prototype_table(), clf.explain(paths)
        for copy in copies:
            os.remove(copy)
        assert_same_reasons(clf.prototype_table(), table)
        assert_same_reasons(clf.explain(paths), why)
        assert PrototypeDisplay.from_estimator(clf).axes_.shape == (2, 2)
        assert ExplanationDisplay.from_estimator(clf, paths, top_k=2).axes_.shape == (2, 2)
        with pytest.raises(FileNotFoundError, match=f"Row 0 of X: .*{re.escape(copies[0])}"):
            clf.predict(copies)


class TestScikitLearn:
    def test_a_grid_search_takes_paths(self, paths):
        grid = {"l1_weight": [1e-4, 1e-3], "image_size": [(16, 16)]}
        search = GridSearchCV(ProtoPNetClassifier(**SMALL), grid, cv=2, error_score="raise")
        search.fit(pd.Series(paths), Y)
        assert set(search.predict(paths)) <= {"cat", "dog"}
        one = ProtoPNetClassifier(**SMALL).set_params(**search.best_params_).fit(paths, Y)
        assert_same_fit(one, search.best_estimator_)

    @pytest.mark.parametrize("form", [list, np.array])
    def test_cross_validation_takes_paths(self, paths, images, form):
        clf = ProtoPNetClassifier(**SMALL)
        scores = cross_val_score(clf, form(paths), Y, cv=2, error_score="raise")
        odd = np.arange(10) % 4 > 1  # a stratified half
        folds = [(np.flatnonzero(odd), np.flatnonzero(~odd))]
        (score,) = cross_val_score(clf, form(paths), Y, cv=folds, error_score="raise")
        train, test = ([images[i] for i in rows] for rows in folds[0])
        assert score == clone(clf).fit(train, Y[odd]).score(test, Y[~odd])
        assert scores.shape == (2,)

    def test_a_pipeline_takes_paths(self, fitted, paths):
        pipeline = make_pipeline(ProtoPNetClassifier(**SMALL)).fit(paths, Y)
        assert_same_fit(pipeline[-1], fitted)
        assert np.array_equal(pipeline.predict_proba(paths), fitted.predict_proba(paths))

    def test_a_clone_is_not_fitted_and_fits_the_same(self, fitted, paths):
        twin = clone(fitted)
        assert not [name for name in vars(twin) if name.endswith("_")]
        assert_same_fit(twin.fit(paths, Y), fitted)

    def test_copies_and_files_predict_the_same_bits(self, fitted, paths, tmp_path):
        fitted.save(tmp_path / "clf.skops")
        for copy in (pickle.loads(pickle.dumps(fitted)), load(tmp_path / "clf.skops")):
            assert_same_fit(copy, fitted)
            assert_same_reasons(copy.explain(paths), fitted.explain(paths))
            assert_same_reasons(copy.prototype_table(), fitted.prototype_table())

    def test_a_fit_on_rows_forgets_that_there_were_paths_and_the_reverse(self, fitted, paths):
        frame = pd.DataFrame(np.random.default_rng(0).normal(size=(10, 256)))
        clf = clone(fitted).fit(frame.rename(columns="pixel {}".format), Y)
        assert clf.image_shape_ == (16, 16, 1)
        assert len(clf.feature_names_in_) == 256
        assert_same_fit(clf.fit(paths, Y), fitted)


class TestTraining:
    def test_validation_files_are_scored_and_not_learned_from(self, fitted, paths, images):
        validation = {"X_val": paths[:6], "y_val": Y[:6][::-1], "sample_weight_val": range(1, 7)}
        watched = ProtoPNetClassifier(**SMALL).fit(paths, Y, **validation)
        assert_equal_values(watched.state_, fitted.state_)
        last = watched.history_table()["validation_accuracy"].iloc[-1]
        assert last == fitted.score(images[:6], Y[:6][::-1], range(1, 7))

    def test_early_stopping_sets_the_same_files_and_arrays_aside(self, paths, images):
        settings = {**SMALL, "early_stopping": True, "validation_fraction": 0.4, "joint_epochs": 2}
        one, other = (ProtoPNetClassifier(**settings).fit(X, Y) for X in (paths, images))
        assert_same_fit(one, other)
        assert one.history_table()["validation_accuracy"].iloc[-1] in {0, 0.25, 0.5, 0.75, 1}

    def test_the_last_layer_is_solved_for_again_on_files(self, fitted, paths, images):
        again = pickle.loads(pickle.dumps(fitted)).refit_last_layer(paths, Y)
        assert np.array_equal(again.coef_, fitted.coef_)
        one, other = (
            pickle.loads(pickle.dumps(fitted)).refit_last_layer(X, Y, l1_weight=1e-3)
            for X in (pd.Series(paths), images)
        )
        assert np.array_equal(one.coef_, other.coef_)
        assert not np.array_equal(one.coef_, fitted.coef_)

    def test_the_path_of_the_last_layer_takes_files(self, fitted, paths, images):
        one, other = (
            last_layer_path(fitted, X, Y, l1_weights=[1e-4, 1e-3], X_val=X[:4], y_val=Y[:4])
            for X in (paths, images)
        )
        assert_same_reasons(one, other)

    def test_weights_count_like_repetitions(self, paths):
        weights = np.arange(10) % 3
        weighted = ProtoPNetClassifier(**SMALL).fit(paths, Y, sample_weight=weights)
        repeated = ProtoPNetClassifier(**SMALL).fit(
            np.repeat(paths, weights), np.repeat(Y, weights)
        )
        assert_equal_values(weighted.state_, repeated.state_)
        assert np.array_equal(weighted.prototype_images_, repeated.prototype_images_)


class TestDepths:
    @pytest.fixture
    def files(self, tmp_path):
        """Grey files of 8, 16 and 32 bits with the same numbers on the scale of a byte."""
        numbers = np.random.default_rng(0).integers(0, 256, (9, 7))
        paths = [tmp_path / name for name in ("8.png", "16.png", "32.tif")]
        for path, pixels in zip(
            paths,
            (numbers.astype(np.uint8), (257 * numbers).astype(np.uint16), numbers.astype("f4")),
            strict=True,
        ):
            Image.fromarray(pixels).save(path)
        return [str(path) for path in paths]

    def test_what_a_file_gives_does_not_depend_on_the_files_beside_it(self, files):
        clf = ProtoPNetClassifier(**SMALL).fit(files, [0, 1, 0])
        together = clf.transform(files)
        np.testing.assert_allclose(together[1], together[2], rtol=1e-6)  # bytes stay bytes
        for row, path in enumerate(files):
            np.testing.assert_allclose(clf.transform([path])[0], together[row], rtol=1e-6)

    def test_bytes_and_files_of_16_bits_are_standardised_as_published_weights_expect(self, files):
        settings = {**SMALL, "image_size": (32, 32), "backbone": "efficientnet_lite0"}
        settings |= {"weights": "imagenet", "feature_stride": 2, "pretraining_epochs": 0}
        clf = ProtoPNetClassifier(**settings)
        means = []
        for X in (files[:2], files):
            pictures = [Image.open(path) for path in X]
            for each in (X, pictures):
                clf.fit(each, np.arange(len(X)) % 2)
                means.append(clf.state_["standardization"]["mean"].tolist())
            for picture in pictures:
                picture.close()
        assert means[0] == means[1] == [127]
        assert means[2] == means[3] != [127]
