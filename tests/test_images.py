"""What users pass as X: every form of images, numbers of every kind; and images of one size."""

import copy
import re
import warnings
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from quick import QUICK

from sklearn_protopnet import ProtoPNetClassifier
from sklearn_protopnet._images import INPUT_FORMS
from sklearn_protopnet._images._resizing import original_boxes, resize

Y = np.array(["cat", "dog"] * 4)


def noise(*shape, dtype=np.uint8):
    """Images, of which every other one is darker."""
    images = np.random.default_rng(0).integers(0, 200, shape)
    images[1::2] //= 4
    return images.astype(dtype)


GREY = noise(8, 8, 9)
COLOUR = noise(8, 8, 9, 3)


@pytest.fixture(scope="module")
def grey():
    return ProtoPNetClassifier(**QUICK).fit(GREY, Y)


@pytest.fixture(scope="module")
def colour():
    return ProtoPNetClassifier(**QUICK).fit(COLOUR, Y)


def filter_weights(original, resized):
    """The triangular filter of a bilinear resize with antialiasing, (resized, original)."""
    scale = original / resized
    centres = (np.arange(resized)[:, None] + 0.5) * scale
    distances = np.abs(np.arange(original) + 0.5 - centres) / max(scale, 1)
    weights = np.clip(1 - distances, 0, None)
    return weights / weights.sum(1, keepdims=True)


def measured_weights(original, resized, dtype=np.float64):
    """What `resize` weighs the pixels of a column with, (resized, original)."""
    impulses = np.eye(original, dtype=dtype)[None, :, None, :]  # one column, many channels
    return resize(impulses, (resized, 1))[0, :, 0, :]


def objects(items):
    array = np.empty(len(items), object)
    for row, item in enumerate(items):
        array[row] = item
    return array


def as_pictures(images):
    return [Image.fromarray(image) for image in images]


def objects_in_polars(items):
    return pl.Series("image", list(items), dtype=pl.Object)


LISTS = {
    "list": list,
    "tuple": tuple,
    "nested lists": np.ndarray.tolist,
    "tensors": lambda a: list(torch.from_numpy(a)),
    "pictures": as_pictures,
    "object array": objects,
    "object column": lambda a: objects(a)[:, None],
    "series": lambda a: pd.Series(list(a), index=list("abcdefgh")),
    "series of pictures": lambda a: pd.Series(as_pictures(a)),
    "frame": lambda a: pd.DataFrame({"image": list(a)}),
    "frame of pictures": lambda a: pd.DataFrame({"image": as_pictures(a)}),
    "polars arrays": pl.Series,
    "polars lists": lambda a: pl.Series(a.tolist()),
    "polars frame": lambda a: pl.DataFrame({"image": pl.Series(a)}),
    "polars objects": objects_in_polars,
    "polars pictures": lambda a: objects_in_polars(as_pictures(a)).to_frame(),
}
ARRAYS = {
    "array": lambda a: a,
    "tensor": torch.from_numpy,
    "tensor with gradient": lambda a: torch.from_numpy(a.astype("f4")).requires_grad_(),
    "bfloat16": lambda a: torch.from_numpy(a).to(torch.bfloat16),
    "numbers as objects": lambda a: a.astype(object),
    "columns first": np.asfortranarray,
    "big-endian": lambda a: a.astype(">f4"),
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
}


class TestForms:
    @pytest.mark.parametrize("form", [*LISTS, *ARRAYS])
    def test_images_of_every_form_are_the_same(self, grey, colour, form):
        make = {**LISTS, **ARRAYS}[form]
        for clf, images in ((grey, GREY), (colour, COLOUR)):
            expected = clf.transform(images)
            assert np.array_equal(clf.transform(make(images)), expected)
        if form in LISTS:  # grey images may have a channel axis or none
            one_channel = GREY[..., None] if "picture" not in form else GREY
            assert np.array_equal(grey.transform(make(one_channel)), grey.transform(GREY))

    @pytest.mark.parametrize("form", ["series of pictures", "frame", "polars frame"])
    def test_a_fit_and_what_follows_take_columns_of_images(self, colour, form):
        X = LISTS[form](COLOUR)
        clf = ProtoPNetClassifier(**QUICK).fit(X, Y, X_val=X, y_val=Y)
        assert np.array_equal(clf.prototypes_, colour.prototypes_)
        assert (clf.image_shape_, clf.input_shape_) == ((8, 9, 3), (8, 9, 3))
        assert (
            clf.explain(X)
            .drop(columns="sample")
            .equals(colour.explain(COLOUR).drop(columns="sample"))
        )
        assert np.array_equal(clf.refit_last_layer(X, Y).coef_, colour.coef_)

    def test_the_index_of_a_series_of_images_names_the_samples(self, grey):
        index = list("abcdefgh")
        assert grey.explain(LISTS["series"](GREY), top_k=1)["sample"].tolist() == index

    def test_images_in_memory_are_not_copied_into_a_fit(self):
        images = noise(8, 5, 5, dtype=np.float32)
        images.flags.writeable = False
        before = images.copy()
        ProtoPNetClassifier(**QUICK).fit(images, Y)
        assert np.array_equal(images, before)


def entries(clf, X, y):
    """Ways in for X, with the name that their errors give it."""
    fresh = ProtoPNetClassifier(**QUICK)
    good = GREY if clf.input_shape_[2] == 1 else COLOUR
    return [
        ("X", lambda: fresh.fit(X, y)),
        ("X_val", lambda: fresh.fit(good, Y, X_val=X, y_val=y)),
        ("X", lambda: clf.predict(X)),
        ("X", lambda: clf.explain(X)),
        ("X", lambda: clf.refit_last_layer(X, y)),
    ]


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("make", "found"),
        [
            (lambda: (image for image in COLOUR), "generator"),
            (lambda: {1, 2}, "set"),
            (lambda: map(np.asarray, COLOUR), "map"),
            (lambda: dict.fromkeys(range(8)).keys(), "dict_keys"),
            (lambda: {"image": COLOUR}, "dict"),
            (lambda: b"images", "bytes"),
            (lambda: 3, "int"),
            (lambda: Image.fromarray(COLOUR[0]), "PIL.Image.Image"),
            (lambda: torch.utils.data.TensorDataset(torch.from_numpy(COLOUR)), "TensorDataset"),
            (lambda: [(image, 0) for image in torch.from_numpy(COLOUR)], "list of tuple"),
            (lambda: [b"\x89PNG"] * 8, "list of bytes"),
            (lambda: pd.Series([b"a.png"] * 8), "list of bytes"),
            (lambda: np.array([b"a.png"] * 8), "list of numpy.bytes_"),
            (lambda: pd.DataFrame({"image": [{"bytes": b""}] * 8}), "list of dict"),
            (lambda: [None] * 8, "list of NoneType"),
            (lambda: list(np.zeros((8, 2, 2, 2, 2))), "list of numpy.ndarray of 4 dimensions"),
            (lambda: np.zeros((8, 2, 2, 2, 2)), "numpy.ndarray of 5 dimensions"),
        ],
    )
    def test_one_sentence_says_what_images_may_be(self, grey, make, found):
        for name, enter in entries(grey, make(), Y):
            with pytest.raises((TypeError, ValueError), match=f"^{name} must be 2-D rows") as error:
                enter()
            text = str(error.value)
            assert all(form.name in text for form in INPUT_FORMS)
            assert re.search(rf"; got (\S*\.)?{re.escape(found)}\.$", text)

    @pytest.mark.parametrize("one", ["cells", Path("cells")])
    def test_one_path_is_no_list_of_them(self, grey, one):
        for name, enter in entries(grey, one, Y):
            message = f"^{name} must be a list of paths, got one, 'cells'.*load_image_folder"
            with pytest.raises(TypeError, match=message):
                enter()

    @pytest.mark.parametrize(
        ("item", "message"),
        [
            (None, "2 or 3 dimensions, got NoneType in row 3 of X"),
            ("a.png", "2 or 3 dimensions, got str in row 3 of X"),
            (np.zeros(4), "2 or 3 dimensions, got numpy.ndarray of 1 dimensions in row 3 of X"),
            (torch.zeros(2, 2, 2, 2), r"got torch.Tensor of 4 dimensions in row 3 of X"),
            ([[1, 2], [3]], "lines of one length, got others in row 3 of X"),
            (np.zeros((0, 4)), r"must have pixels, got an array \(0, 4\) in row 3 of X"),
            (torch.zeros(4, 4, device="meta"), "on the CPU, got .* on meta"),
            (np.full((8, 9), "a"), "row 3 of X must hold real numbers, got <U1"),
            (np.full((8, 9), {}, object), "row 3 of X must hold real numbers: .*dict"),
        ],
        ids=str,
    )
    def test_what_is_no_image_among_images_is_named_by_its_row(self, grey, item, message):
        X = [*GREY[:3], item, *GREY[4:]]
        for make in (list, objects):
            with pytest.raises((TypeError, ValueError), match=message):
                grey.predict(make(X))

    def test_scikit_learn_has_the_word_on_rows(self, grey):
        sparse = torch.ones(8, 72).to_sparse()
        for X, kind, message in [
            (np.zeros(72), ValueError, "Expected 2D array"),
            ([], ValueError, "Expected 2D array"),
            (pd.Series(np.zeros(72)), ValueError, "Expected a 2-dim"),
            (np.zeros((2, 3)), ValueError, "X has 3 features, but .* expecting 72"),
            (np.full((2, 72), np.nan), ValueError, "Input X contains NaN"),
            (np.full((2, 72), "a"), ValueError, "strings"),
            (sparse, TypeError, "must be dense and on the CPU, got one of torch.sparse_coo"),
            (np.zeros((0, 8, 9)), ValueError, r"0 sample\(s\)"),
            (np.zeros((2, 0, 9)), ValueError, r"0 feature\(s\)"),
        ]:
            with pytest.raises(kind, match=message):
                grey.predict(X)

    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            (np.full((8, 72), np.nan), "Input X_val contains NaN"),
            (np.zeros((8, 3)), "X_val has 3 features, but ProtoPNetClassifier is expecting 72"),
            (np.zeros((8, 8, 8)), "Images in X_val must have 8 x 9 pixels .* got 8 x 8 pixels"),
            (np.full((8, 8, 9), np.inf), "Input X_val contains infinity"),
            (np.zeros((8, 72), "M8[s]"), r"X_val must hold real numbers, got datetime64\[s\]"),
            (np.full((8, 72), 2**60), r"X_val must hold integers of at most 2\*\*53"),
            ([*GREY[:7], None], "NoneType in row 7 of X_val"),
        ],
    )
    def test_errors_in_validation_images_name_them(self, rows, message):
        with pytest.raises((TypeError, ValueError), match=message):
            ProtoPNetClassifier(image_shape=(8, 9), **QUICK).fit(
                GREY.reshape(8, -1), Y, X_val=rows, y_val=Y
            )

    def test_columns_of_validation_rows_are_those_of_the_rows(self):
        frame = pd.DataFrame(GREY.reshape(8, -1)).rename(columns="pixel {}".format)
        clf = ProtoPNetClassifier(image_shape=(8, 9), **QUICK)
        with pytest.raises(ValueError, match="feature names should match"):
            clf.fit(frame, Y, X_val=frame.rename(columns=str.upper), y_val=Y)


class TestChannels:
    @pytest.mark.parametrize("form", ["array", "tensor", "list", "tensors", "series"])
    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_channels_first_are_refused_with_the_remedy(self, colour, form, channels):
        X = {**LISTS, **ARRAYS}[form](noise(8, channels, 9, 8))
        for name, enter in entries(colour, X, Y):
            message = rf"^Images in {name} must have their channels last.*moveaxis.*image_shape"
            with pytest.raises(ValueError, match=message):
                enter()

    def test_image_shape_says_that_they_are_meant(self):
        X = noise(8, 3, 9, 8)
        clf = ProtoPNetClassifier(image_shape=(3, 9, 8), **QUICK).fit(X, Y)
        assert clf.input_shape_ == (3, 9, 8)
        assert np.array_equal(clf.set_params(image_shape=None).predict(X), clf.predict(list(X)))

    @pytest.mark.parametrize("shape", [(3, 9, 4), (5, 3, 8), (1, 9, 1), (6, 7, 5)])
    def test_other_shapes_have_their_channels_last(self, shape):
        assert ProtoPNetClassifier(**QUICK).fit(noise(8, *shape), Y).input_shape_ == shape

    @pytest.mark.parametrize("form", [list, as_pictures, objects, pd.Series])
    def test_grey_beside_colour_is_colour(self, colour, form):
        mixed, whole = [*GREY[:3], *COLOUR[3:]], COLOUR.copy()
        whole[:3] = GREY[:3, :, :, None]
        for X in (form(mixed), form(mixed[::-1])[::-1]):
            assert np.array_equal(colour.transform(X), colour.transform(whole))
        assert np.array_equal(colour.transform(form(mixed[:2])), colour.transform(whole[:2]))
        one, other = (ProtoPNetClassifier(**QUICK).fit(X, Y) for X in (form(mixed), whole))
        assert np.array_equal(one.prototypes_, other.prototypes_)

    def test_grey_of_any_size_beside_colour_is_colour(self):
        clf = ProtoPNetClassifier(image_size=(6, 6), **QUICK)
        mixed = [GREY[0], GREY[1, :5, :, None], *COLOUR[2:5], *COLOUR[5:, :7]]
        whole = [np.dstack([GREY[0]] * 3), np.dstack([GREY[1, :5]] * 3), *mixed[2:]]
        expected = clf.fit(whole, Y).prototypes_
        assert np.array_equal(clf.fit(mixed, Y).prototypes_, expected)
        assert (clf.image_shape_, clf.input_shape_) == ((6, 6, 3), (6, 6, 3))

    def test_other_numbers_of_channels_do_not_mix(self, colour, grey):
        for other in (2, 4):
            X = [COLOUR[0], *noise(7, 8, 9, other)]
            with pytest.raises(
                ValueError, match=f"one number of channels, .* got 3 .* {other} in row 1"
            ):
                ProtoPNetClassifier(**QUICK).fit(X, Y)
        for X in (COLOUR, list(COLOUR), [*GREY[:4], *COLOUR[4:]]):
            with pytest.raises(ValueError, match=r"and 1 channel as in fit, got .* 3 channels"):
                grey.predict(X)
        with pytest.raises(ValueError, match=r"and 3 channels as in fit, got .* 1 channel"):
            colour.predict(GREY)


RED_AND_BLUE = Image.new("P", (8, 8))
RED_AND_BLUE.putpalette([255, 0, 0, 0, 0, 255])
RED_AND_BLUE.putdata([0, 1, 1, 0] * 16)


def turned(orientation):
    block = Image.Exif()
    block[0x0112] = orientation
    return {"exif": block.tobytes()}


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (8, 8, 4), dtype=np.uint8)
    rgba = Image.fromarray(pixels)
    deep = Image.fromarray(rng.integers(0, 65536, (8, 8), dtype=np.uint16))
    pictures = {
        "palette.png": (RED_AND_BLUE, {}),
        "palette.gif": (RED_AND_BLUE, {"transparency": 1}),
        "rgba.png": (rgba, {}),
        "la.png": (rgba.convert("LA"), {}),
        "cmyk.jpg": (rgba.convert("CMYK"), {}),
        "cmyk.tif": (rgba.convert("CMYK"), {}),
        "black and white.png": (rgba.convert("1"), {}),
        "turned.jpg": (rgba.convert("RGB"), turned(6)),
        "turned.png": (rgba.convert("L"), turned(3)),
        "turned.tif": (rgba.convert("RGB"), {"tiffinfo": {0x0112: 8}}),
        "deep.png": (deep, {}),
        "transparent.png": (rgba.convert("L"), {"transparency": int(pixels[0, 0, 0])}),
    }
    for name, (picture, options) in pictures.items():
        picture.save(folder / name, **options)
    return [folder / name for name in pictures]


class TestPictures:
    """Images of Pillow are their files."""

    @pytest.mark.parametrize("channels", [1, 3])
    def test_they_have_the_pixels_of_their_files(self, paths, channels):
        shape = (8, 8, channels)
        clf = ProtoPNetClassifier(image_shape=shape, **QUICK).fit(noise(8, *shape), Y)
        expected = clf.transform(paths)
        with ExitStack() as stack:
            pictures = [stack.enter_context(Image.open(path)) for path in paths]
            for X in (pictures, pd.Series(pictures), [p.copy() for p in pictures]):
                assert np.array_equal(clf.transform(X), expected)
            for row in (0, 3, 10):  # whatever stands beside it
                assert np.array_equal(clf.transform(pictures[row : row + 1])[0], expected[row])

    def test_a_fit_on_them_is_that_on_their_files(self, paths):
        clf = ProtoPNetClassifier(image_size=(6, 6), **QUICK)
        y = np.arange(len(paths)) % 2
        expected = clf.fit(paths, y).prototypes_
        with ExitStack() as stack:
            pictures = [stack.enter_context(Image.open(path)) for path in paths]
            assert np.array_equal(clf.fit(pictures, y).prototypes_, expected)

    def test_they_stay_as_they_were(self, paths, grey):
        for path in paths:
            with Image.open(path) as picture:
                before = dict(picture.info), picture.size
                with pytest.raises(ValueError, match="8 x 9 pixels"):
                    grey.predict([picture])
                assert (dict(picture.info), picture.size) == before

    def test_modes_that_few_files_have(self):
        clf = ProtoPNetClassifier(image_shape=(8, 8, 3), **QUICK).fit(noise(8, 8, 8, 3), Y)
        # Hue 85 of 255 is a third of the circle; premultiplied 51 under an alpha of 51 is 255.
        for mode, value, shown in [
            ("HSV", (85, 255, 255), (0, 255, 0)),
            ("YCbCr", (255, 128, 128), (255, 255, 255)),
            ("RGBa", (51, 0, 0, 51), (255, 204, 204)),
            ("La", (0, 51), (204, 204, 204)),
            ("I;16", 257 * 40, (40, 40, 40)),
        ]:
            picture, same = Image.new(mode, (8, 8), value), Image.new("RGB", (8, 8), shown)
            assert np.array_equal(clf.transform([picture]), clf.transform([same]))

    def test_one_that_cannot_be_loaded_is_named_by_its_row(self, paths, grey, tmp_path):
        (tmp_path / "cut.png").write_bytes(paths[2].read_bytes()[:-40])
        closed = Image.open(paths[0])
        closed.close()
        with Image.open(tmp_path / "cut.png") as cut:
            for bad in (cut, closed):
                with pytest.raises(
                    ValueError, match=r"^Row 1 of X: an image of Pillow must be one that"
                ):
                    grey.predict([as_pictures(GREY)[0], bad])


class TestRows:
    @pytest.mark.parametrize(
        ("n_features", "shape"),
        [(1, (1, 1, 1)), (63, (1, 1, 63)), (64, (8, 8, 1)), (784, (28, 28, 1))],
    )
    def test_a_row_alone_is_one_pixel_or_a_square_without_a_word(self, n_features, shape):
        clf = ProtoPNetClassifier(**QUICK).fit(noise(8, n_features), Y)
        assert (clf.image_shape_, clf.input_shape_) == (shape, shape)
        assert clf.n_features_in_ == n_features

    @pytest.mark.parametrize("image_size", [None, (32, 32)])
    @pytest.mark.parametrize("n_features", [65, 192, 3072])
    def test_other_rows_need_image_shape(self, n_features, image_size):
        message = f"unless image_shape says how they unfold, got {n_features} features. Set image_"
        with pytest.raises(ValueError, match=message):
            ProtoPNetClassifier(image_size=image_size, **QUICK).fit(noise(8, n_features), Y)

    @pytest.mark.parametrize("half", [16, 17, 32])
    def test_rows_that_may_have_four_channels_are_said_to_be_grey(self, half):
        rows, params = noise(8, 4 * half**2), {**QUICK, "image_size": (8, 8)}
        message = f"grey images of {2 * half} x {2 * half} .* also be {half} x {half} .* 4 channels"
        with pytest.warns(UserWarning, match=message):
            clf = ProtoPNetClassifier(**params).fit(rows, Y)
        assert clf.image_shape_ == (2 * half, 2 * half, 1)
        with warnings.catch_warnings(action="error"):  # one that is said is no guess
            clf.predict(rows)
            clf.set_params(image_shape=(half, half, 4)).fit(rows, Y)
        assert clf.image_shape_ == (half, half, 4)

    def test_image_shape_unfolds_rows(self):
        rows = noise(8, 48)
        for shape, found in [
            ((6, 8), (6, 8, 1)),
            ([4, 4, 3], (4, 4, 3)),
            ((np.int64(1), 48), None),
        ]:
            clf = ProtoPNetClassifier(image_shape=shape, **QUICK).fit(rows, Y)
            assert clf.image_shape_ == (found or (1, 48, 1))
            assert {type(n) for n in clf.image_shape_} == {int}
            assert np.array_equal(
                clf.transform(rows), clf.transform(rows.reshape(8, *clf.image_shape_))
            )
        with pytest.raises(ValueError, match=r"48 features to unfold to images of 4 x 4 .* got 64"):
            ProtoPNetClassifier(image_shape=(4, 4, 3), **QUICK).fit(noise(8, 64), Y)

    def test_rows_are_resized(self):
        rows = noise(8, 400)
        clf = ProtoPNetClassifier(image_size=(6, 7), **QUICK).fit(rows, Y)
        assert (clf.image_shape_, clf.input_shape_) == ((20, 20, 1), (6, 7, 1))
        assert clf.n_features_in_ == 400
        assert np.array_equal(clf.transform(rows), clf.transform(rows.reshape(8, 20, 20)))

    @pytest.mark.parametrize("name", ["image_size", "image_shape"])
    @pytest.mark.parametrize("value", [(), (8,), (8, 8, 1, 1), (8, 0), (8.0, 8.0), ("8", 8)])
    def test_lengths_are_positive_integers(self, name, value):
        message = f"{name} must be (height, width)"
        with pytest.raises(
            ValueError, match=f"^{re.escape(message)}.* got {re.escape(repr(value))}"
        ):
            ProtoPNetClassifier(**{**QUICK, name: value}).fit(GREY, Y)


class TestNumbers:
    @pytest.mark.parametrize("dtype", ["i2", ">i4", "u8", "f2", ">f4", "g", ">f8", object])
    def test_any_dtype_counts_as_its_numbers(self, grey, dtype):
        images = GREY.astype(dtype)
        clf = ProtoPNetClassifier(**QUICK).fit(images, Y)
        assert np.array_equal(clf.prototypes_, grey.prototypes_)
        assert clf.prototype_images_.dtype.isnative
        assert np.array_equal(clf.transform(list(images)), grey.transform(GREY))

    @pytest.mark.parametrize("dtype", ["f4", "u2"])
    def test_the_order_of_bytes_does_not_matter_to_what_is_resized_and_varied(self, dtype):
        clf = ProtoPNetClassifier(image_size=(5, 6), augment="paper", **QUICK)
        for form in (np.asarray, list, lambda a: a.reshape(8, -1)):
            clf.set_params(image_shape=(8, 9))
            expected = clf.fit(form(GREY.astype(f"<{dtype}")), Y).prototypes_
            assert np.array_equal(clf.fit(form(GREY.astype(f">{dtype}")), Y).prototypes_, expected)

    @pytest.mark.parametrize("exponent", [-1030, -548, 508, 1000])
    @pytest.mark.parametrize("form", ["rows", "list of constant images", "resized"])
    def test_any_range_is_as_good_as_another(self, exponent, form):
        images = np.random.default_rng(0).integers(0, 100, (8, 8, 8)) - 50.0
        if form == "list of constant images":
            images[:] = images[:, :1, :1]
        far = np.ldexp(images, exponent)
        X = {"rows": far.reshape(8, -1), "resized": far}.get(form, list(far))
        size = (5, 6) if form == "resized" else None
        clf = ProtoPNetClassifier(image_size=size, **QUICK).fit(X, Y)
        mean, scale = (
            np.ldexp(clf.state_["standardization"][name], -exponent) for name in ("mean", "scale")
        )
        usual = images if size is None else resize(images[..., None], size)
        np.testing.assert_allclose(mean, usual.mean(), rtol=1e-10)
        np.testing.assert_allclose(scale, usual.std(), rtol=1e-10)
        assert len(np.unique(clf.transform(X), axis=0)) > 1

    @pytest.mark.parametrize("form", ["list", "series", "tensor", "array"])
    @pytest.mark.parametrize("offset", [2**62, -(2**62), 2**53])
    def test_integers_that_float64_does_not_hold_are_refused(self, grey, form, offset):
        X = {**LISTS, **ARRAYS}[form](GREY.astype(np.int64) + offset)
        for _, enter in entries(grey, X, Y):
            with pytest.raises(ValueError, match=r"must hold integers of at most 2\*\*53"):
                enter()

    def test_numbers_that_differ_by_more_than_float64_holds_are_refused(self):
        images = np.full((8, 8, 8), 1.7e308)
        one_by_one = images * np.array([1, -1] * 4)[:, None, None]
        images[:, :4] *= -1
        for X in (images, one_by_one):
            with pytest.raises(ValueError, match="must not differ by more than float64 holds"):
                ProtoPNetClassifier(**QUICK).fit(X, Y)
        with pytest.raises(ValueError, match="infinity"):
            ProtoPNetClassifier(**QUICK).fit(GREY * np.longdouble("1e4000"), Y)

    @pytest.mark.parametrize("dtype", ["M8[s]", "m8[s]", "c16", "S3", "V4"])
    @pytest.mark.parametrize("image_size", [None, (4, 4)])
    def test_what_is_no_real_number_is_refused(self, dtype, image_size):
        images = np.zeros((8, 8, 8), dtype)
        for X in (images, list(images), images.reshape(8, 64), pd.Series(list(images))):
            with pytest.raises((TypeError, ValueError), match=r"real numbers|omplex|strings|void"):
                ProtoPNetClassifier(image_size=image_size, **QUICK).fit(X, Y)

    @pytest.mark.parametrize("dtype", ["M8[s]", "m8[s]", "datetime64[s, UTC]"])
    def test_times_beside_numbers_are_refused_with_their_column(self, grey, dtype):
        frame = pd.DataFrame(GREY.reshape(8, -1)).rename(columns="pixel {}".format)
        frame["pixel 71"] = pd.Series(np.zeros(8, np.int64)).astype(dtype)
        clf = ProtoPNetClassifier(image_shape=(8, 9), **QUICK)
        for enter in (partial(clf.fit, y=Y), grey.predict):
            with pytest.raises(ValueError, match=r"^X must hold .* got .* in column 'pixel 71'"):
                enter(frame)

    @pytest.mark.parametrize("n_jobs", [0, 1.5, "a", [1]])
    def test_n_jobs_is_a_number_of_processes_whatever_reads_the_images(self, grey, n_jobs):
        clf = copy.copy(grey).set_params(n_jobs=n_jobs)
        for enter in (clf.predict, clf.explain, partial(clf.fit, y=Y)):
            with pytest.raises(ValueError, match=r"n_jobs.* must be .*(got|Got) "):
                enter(GREY)


class TestResize:
    def test_numbers_worked_out_by_hand(self):
        wider = resize(np.array([0.0, 10.0]).reshape(1, 1, 2, 1), (1, 4))
        assert wider.ravel().tolist() == [0, 2.5, 7.5, 10]
        # Weights 3/4, 3/4, 1/4 and 0, over their sum of 7/4.
        narrower = resize(np.array([0.0, 2.0, 4.0, 6.0]).reshape(1, 1, 4, 1), (1, 2))
        np.testing.assert_allclose(narrower.ravel(), [10 / 7, 32 / 7], rtol=1e-15)

    @pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int32, np.uint8])
    def test_cells_are_means_with_triangular_weights(self, dtype):
        sizes = [(1, 1), (2, 1), (1, 2), (3, 7), (8, 5), (4, 16), (13, 2)]
        for original in sizes:
            images = np.random.default_rng(0).integers(0, 256, (2, *original, 3)).astype(dtype)
            for size in sizes:
                rows, columns = (filter_weights(*pair) for pair in zip(original, size, strict=True))
                expected = np.einsum("ih,nhwc,jw->nijc", rows, images.astype(float), columns)
                error = np.abs(resize(images, size) - expected).max()
                # Bytes are rounded after each of two passes, with weights of 8 bits or more.
                assert error <= {"uint8": 1.25, "float32": 1e-5}.get(np.dtype(dtype).name, 1e-12)

    @pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, np.uint16])
    def test_an_image_has_the_same_bits_whatever_its_memory_and_the_images_beside_it(self, dtype):
        images = noise(40, 9, 7, 3, dtype=dtype)
        together = resize(images, (5, 8))
        assert together.dtype == (np.float64 if dtype == np.uint16 else dtype)
        assert np.array_equal(together[::-3], resize(images[::-3], (5, 8)))
        assert np.array_equal(together[17:18], resize(images[17:18], (5, 8)))
        for same in (
            np.asfortranarray(images),
            images[:, ::-1, ::-1].copy()[:, ::-1, ::-1],
            images.astype(images.dtype.newbyteorder()),
        ):
            assert np.array_equal(resize(same, (5, 8)), together)
        assert resize(images, (9, 7)) is images

    def test_images_of_several_sizes_are_resized_each_by_itself(self):
        clf = ProtoPNetClassifier(image_size=(6, 6), **QUICK)
        X = [image[: 5 + row % 3] for row, image in enumerate(COLOUR)]
        clf.fit(X, Y)
        expected = np.concatenate([resize(image[None], (6, 6)) for image in X])
        rows = clf.prototype_sample_indices_
        assert np.array_equal(clf.prototype_images_, expected[rows])
        assert clf.prototype_image_sizes_.tolist() == [list(X[row].shape[:2]) for row in rows]
        for form in (as_pictures, objects, lambda X: [x.tolist() for x in X]):
            alike = ProtoPNetClassifier(image_size=(6, 6), **QUICK).fit(form(X), Y)
            rows = alike.prototype_sample_indices_
            assert alike.prototype_image_sizes_.tolist() == [list(X[row].shape[:2]) for row in rows]
        with pytest.raises(
            ValueError, match=r"one size unless image_size is set, got \(5, 9\) in r"
        ):
            ProtoPNetClassifier(**QUICK).fit(X, Y)


class TestOriginalBoxes:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("original", [1, 2, 3, 5, 7, 12, 16, 21, 24])
    def test_an_interval_holds_every_weight_and_ends_with_the_filter(self, original, dtype):
        for resized in range(1, 20):
            weights = measured_weights(original, resized, dtype) > 0  # (resized, original)
            starts, lengths = (index.ravel() for index in np.indices((resized, resized)))
            stops = np.minimum(starts + lengths + 1, resized)
            boxes = np.stack([starts, stops, 0 * starts, 0 * starts + 1], axis=1)
            found = original_boxes(boxes, np.tile([original, 1], (len(boxes), 1)), (resized, 1))
            assert (found[:, 2:] == [0, 1]).all()
            scale = original / resized
            for start, stop, (low, high) in zip(starts, stops, found[:, :2], strict=True):
                seen = np.flatnonzero(weights[start:stop].any(0))
                assert low == seen[0]
                beyond = high - 1 - seen[-1]
                assert beyond in {0, 1}
                if beyond:  # a pixel exactly where the filter has fallen to 0
                    end = (stop - 0.5) * scale + max(scale, 1)
                    assert high - 0.5 == pytest.approx(end, rel=1e-14)

    @settings(max_examples=40)
    @given(st.data(), st.sampled_from([np.uint8, np.float32, np.float64]))
    def test_pixels_outside_do_not_matter_and_those_on_the_border_do(self, data, dtype):
        lengths = st.integers(1, 40)
        original, size = (data.draw(st.tuples(lengths, lengths)) for _ in range(2))
        y0, y1 = sorted(data.draw(st.tuples(*2 * [st.integers(0, size[0])])))
        x0, x1 = sorted(data.draw(st.tuples(*2 * [st.integers(0, size[1])])))
        if y0 == y1 or x0 == x1:
            y0, y1, x0, x1 = 0, 1, 0, 1
        box = np.array([[y0, y1, x0, x1]])
        ((top, bottom, left, right),) = original_boxes(box, np.array([original]), size).tolist()
        assert 0 <= top < bottom <= original[0]
        assert 0 <= left < right <= original[1]

        def region(image):
            return resize(image[None], size)[0, y0:y1, x0:x1]

        rng = np.random.default_rng(0)
        image, other = rng.integers(0, 256, (2, *original, 3)).astype(dtype)
        inside = slice(top, bottom), slice(left, right)
        other[inside] = image[inside]
        assert np.array_equal(region(other), region(image))

        rows, columns = (measured_weights(*pair) for pair in zip(original, size, strict=True))
        for line, weights in (
            (np.s_[top, left:right], rows[y0:y1, top]),
            (np.s_[bottom - 1, left:right], rows[y0:y1, bottom - 1]),
            (np.s_[top:bottom, left], columns[x0:x1, left]),
            (np.s_[top:bottom, right - 1], columns[x0:x1, right - 1]),
        ):
            brighter = image.astype(np.float64)
            brighter[line] += 1e6
            is_seen = not np.array_equal(region(brighter), region(image.astype(np.float64)))
            assert is_seen == (weights > 0).any()

    def test_where_sizes_agree_nothing_was_resized(self):
        boxes = np.array([[[1, 3, 0, 2], [0, 4, 1, 2]]])
        assert np.array_equal(original_boxes(boxes, np.array([[4, 3]]), (4, 3)), boxes)
        found = original_boxes(boxes, np.array([[4, 30]]), (4, 3))
        assert np.array_equal(found[..., :2], boxes[..., :2])
        assert found[..., 2:].tolist() == [[[0, 25], [5, 25]]]

    @pytest.mark.parametrize("original", [(1, 1), (3, 50), (50, 3), (17, 17)])
    def test_the_whole_image_stays_whole(self, original):
        found = original_boxes(np.array([[0, 8, 0, 9]]), np.array([original]), (8, 9))
        assert found.tolist() == [[0, original[0], 0, original[1]]]

    def test_an_empty_box_stays_empty(self):
        boxes = np.array([[0, 0, 0, 0], [3, 3, 1, 5], [1, 5, 8, 8], [8, 8, 8, 8]])
        found = original_boxes(boxes, np.array([[90, 70]] * 4), (8, 8))
        heights, widths = (np.diff(found[:, axes]).ravel() for axes in ([0, 1], [2, 3]))
        assert (heights * widths == 0).all()
        assert found[0].tolist() == [0, 0, 0, 0]

    def test_every_box_is_of_its_own_image(self):
        rng = np.random.default_rng(0)
        starts = rng.integers(0, 6, (7, 5, 2))
        stops = starts + rng.integers(1, 3, (7, 5, 2))
        boxes = np.stack([starts, stops], axis=-1).reshape(7, 5, 4)
        sizes = rng.integers(1, 40, (7, 2))
        found = original_boxes(boxes, sizes, (8, 8))
        assert found.shape == (7, 5, 4)
        for i, j in np.ndindex(7, 5):
            alone = original_boxes(boxes[i, j][None], sizes[i : i + 1], (8, 8))
            assert np.array_equal(found[i, j], alone[0])
