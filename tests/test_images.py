"""What users pass as X: paths, images of every form, rows; and images brought to one size."""

import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sklearn_protopnet._images import (
    as_array,
    check_shape,
    check_size,
    describe,
    find_images,
    find_paths,
    resize_all,
    shape_of_rows,
)
from sklearn_protopnet._images._resizing import original_boxes, resize

PATHS = ["a.png", "folder/b c.jpg", "/d.bmp"]


def colours(n=5, shape=(4, 3, 2), dtype=np.float64):
    return np.random.default_rng(0).integers(0, 200, (n, *shape)).astype(dtype)


def found_in(X, image_size=None):
    """Images found in what users pass, which are always an array and never a subclass."""
    pixels, sizes = find_images(as_array(X), image_size)
    assert type(pixels) is np.ndarray
    return pixels, sizes


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


class TestPaths:
    @pytest.mark.parametrize(
        "form",
        [
            pytest.param(list, id="list"),
            pytest.param(tuple, id="tuple"),
            pytest.param(lambda p: [Path(path) for path in p], id="list of Path"),
            pytest.param(lambda p: [p[0], Path(p[1]), np.str_(p[2])], id="list of several kinds"),
            pytest.param(lambda p: np.array(p, dtype=object), id="object array"),
            pytest.param(lambda p: np.array([Path(x) for x in p]), id="array of Path"),
            pytest.param(np.array, id="string array"),
            pytest.param(lambda p: np.array(p, np.dtypes.StringDType()), id="new string array"),
            pytest.param(lambda p: np.array(p)[:, None], id="string column"),
            pytest.param(lambda p: np.array(p, dtype=object)[:, None], id="object column"),
            pytest.param(pd.Series, id="series"),
            pytest.param(lambda p: pd.Series(p, index=[7, 7, 1], dtype=object), id="object series"),
            pytest.param(lambda p: pd.Series([Path(x) for x in p]), id="series of Path"),
            pytest.param(lambda p: pd.DataFrame({"path": p}), id="frame"),
            pytest.param(lambda p: pl.Series(p), id="polars series"),
            pytest.param(lambda p: pl.DataFrame({"path": p}), id="polars frame"),
        ],
    )
    def test_paths_of_every_form_become_absolute_strings(self, form):
        found = find_paths(form(PATHS))
        assert found == [os.path.abspath(path) for path in PATHS]
        assert {type(path) for path in found} == {str}

    def test_a_scanned_folder_holds_paths(self, tmp_path):
        (tmp_path / "one.png").touch()
        assert find_paths(list(os.scandir(tmp_path))) == [str(tmp_path / "one.png")]

    @pytest.mark.parametrize("one", ["cells", Path("cells")])
    def test_one_path_is_no_list_of_them(self, one):
        with pytest.raises(TypeError, match=r"list of paths, got one, 'cells'.*load_image_folder"):
            find_paths(one)

    @pytest.mark.parametrize("item", [None, np.nan, 1.0, b"a.png", ["a.png"], np.zeros((4, 4))])
    @pytest.mark.parametrize("form", [list, pd.Series])
    def test_paths_do_not_mix_with_anything_else(self, item, form):
        message = r"paths of images only where it holds one, got \w+ in row 2"
        with pytest.raises(TypeError, match=message):
            find_paths(form(["a.png", Path("b.png"), item, "d.png", None]))

    @pytest.mark.parametrize("kind", "?bBhHiIlLqQefdgFDSVmM")
    @pytest.mark.parametrize("shape", [(), (3,), (3, 1), (3, 2), (3, 4, 4), (3, 4, 4, 1)])
    def test_arrays_of_anything_else_hold_no_paths(self, kind, shape):
        dtype = {"m": "m8[s]", "M": "M8[s]", "V": "V4", "S": "S5"}.get(kind, kind)
        assert find_paths(np.zeros(shape, dtype)) is None

    @pytest.mark.parametrize(
        "X",
        [
            None,
            b"images",
            [],
            (),
            np.array([], dtype=str),
            pd.Series([], dtype=object),
            np.array("a.png"),
            np.array([["a.png", "b.png"]]),
            [["a.png"], ["b.png"]],
            [0.0, 1.0],
            [b"a.png"],
            [None, "a.png"],
            np.array([1.0, 2.0], dtype=object),
            [np.zeros((4, 4))],
            {"a.png": 0},
            torch.zeros(3, 1),
            pd.Series([1.0, 2.0]),
            pd.DataFrame({"a": ["a.png"], "b": ["b.png"]}),
            pd.DataFrame(np.zeros((3, 4))),
            pl.DataFrame(np.zeros((3, 4))),
        ],
        ids=repr,
    )
    def test_what_is_no_column_of_paths_is_none(self, X):
        assert find_paths(X) is None


class TestImages:
    @pytest.mark.parametrize(
        "form",
        [
            pytest.param(lambda a: a, id="array"),
            pytest.param(list, id="list of arrays"),
            pytest.param(tuple, id="tuple of arrays"),
            pytest.param(lambda a: a.tolist(), id="nested lists"),
            pytest.param(torch.from_numpy, id="tensor"),
            pytest.param(lambda a: list(torch.from_numpy(a)), id="list of tensors"),
            pytest.param(lambda a: torch.from_numpy(a).requires_grad_(), id="tensor with gradient"),
            pytest.param(
                lambda a: [torch.from_numpy(image).requires_grad_() for image in a],
                id="list of tensors with gradient",
            ),
            pytest.param(np.asfortranarray, id="columns first"),
            pytest.param(lambda a: a[:, ::-1][:, ::-1], id="view"),
        ],
    )
    @pytest.mark.parametrize("shape", [(4, 3), (4, 3, 1), (4, 3, 2), (1, 7, 3), (1, 1, 5)])
    def test_images_of_every_form_become_one_array(self, form, shape):
        images = colours(shape=shape)
        pixels, sizes = found_in(form(images))
        assert pixels.shape == (5, *(*shape, 1)[:3])
        assert np.array_equal(pixels, images.reshape(pixels.shape))
        assert sizes is None

    @pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.float16, np.float32])
    def test_the_dtype_stays(self, dtype):
        images = colours(dtype=dtype)
        for form in (images, list(images), torch.from_numpy(images)):
            assert found_in(form)[0].dtype == dtype

    @pytest.mark.parametrize("shape", [(4, 3, 1), (4, 3, 3), (4, 3, 4)])
    def test_pictures_of_pillow(self, shape):
        images = colours(shape=shape, dtype=np.uint8)
        pixels, _ = found_in([Image.fromarray(a.squeeze()) for a in images])
        assert np.array_equal(pixels, images)

    @pytest.mark.parametrize(
        "X",
        [
            np.zeros((3, 4)),
            np.zeros(4),
            [[1.0, 2.0], [3.0, 4.0]],
            [np.zeros(4), np.ones(4)],
            [],
            (),
            pd.DataFrame(np.zeros((3, 4))),
            pl.DataFrame(np.zeros((3, 4))),
            ["one.png", "other.png"],
            None,
            "images",
        ],
        ids=lambda X: type(X).__name__,
    )
    @pytest.mark.parametrize("image_size", [None, (2, 2)])
    def test_what_is_no_array_of_images_is_left_to_scikit_learn(self, X, image_size):
        assert as_array(X) is X
        assert find_images(X, image_size) is None

    def test_rows_in_a_tensor_become_an_array(self):
        X = as_array(torch.ones(2, 3))
        assert np.array_equal(X, np.ones((2, 3)))
        assert find_images(X, None) is None

    def test_an_array_is_not_copied(self):
        images = colours()
        assert np.shares_memory(found_in(images)[0], images)
        assert np.shares_memory(found_in(torch.from_numpy(images))[0], images)

    @pytest.mark.parametrize("image_size", [None, (2, 2)])
    @pytest.mark.parametrize("shape", [(0, 4, 3), (3, 0, 3), (3, 4, 0), (3, 4, 3, 0)])
    def test_no_pixels_are_left_to_scikit_learn(self, shape, image_size):
        pixels, sizes = found_in(np.zeros(shape), image_size)
        assert pixels.shape == (*shape, 1)[:4]
        assert sizes is None

    @pytest.mark.parametrize("n_dimensions", [5, 6])
    @pytest.mark.parametrize("image_size", [None, (2, 2)])
    def test_too_many_dimensions(self, n_dimensions, image_size):
        message = rf"must be 2-D rows, 3-D .* or 4-D .* got an array with {n_dimensions} dimensions"
        for form in (np.asarray, list):
            with pytest.raises(ValueError, match=message):
                find_images(form(np.zeros((2,) * n_dimensions)), image_size)

    def test_images_of_several_shapes_are_named_with_the_remedy(self):
        images = [np.zeros(shape) for shape in [(4, 4), (4, 3), (4, 4), (2, 2), (9, 9)]]
        found = "one shape, got (2, 2), (4, 3), (4, 4) and so on. Set image_size to have them"
        with pytest.raises(ValueError, match=re.escape(found)):
            find_images(images, None)

    def test_grey_and_colour_images_do_not_mix(self):
        with pytest.raises(ValueError, match=r"got \(4, 4\), \(4, 4, 3\)"):
            find_images([np.zeros((4, 4)), np.zeros((4, 4, 3))], None)

    def test_bfloat16_becomes_float32(self):
        images = torch.arange(24, dtype=torch.bfloat16).reshape(2, 3, 4)
        for form in (images, list(images)):
            pixels, _ = found_in(form)
            assert pixels.dtype == np.float32
            assert np.array_equal(pixels, np.arange(24).reshape(2, 3, 4, 1))

    def test_tensors_elsewhere_are_refused(self):
        with pytest.raises(TypeError, match="must be on the CPU, got one on meta"):
            as_array(torch.zeros(2, 3, 4, device="meta"))
        with pytest.raises(TypeError, match="must be on the CPU, got one on meta"):
            find_images([torch.zeros(3, 4, device="meta")], None)


class TestImagesOfOneSize:
    @pytest.mark.parametrize("form", [np.asarray, list, torch.from_numpy])
    def test_images_are_resized_and_their_sizes_kept(self, form):
        images = colours()
        pixels, sizes = found_in(form(images), (7, 2))
        assert np.array_equal(pixels, resize(images, (7, 2)))
        assert sizes.dtype == np.int64
        assert sizes.tolist() == [[4, 3]] * 5

    def test_images_of_that_size_are_not_copied(self):
        images = colours()
        pixels, sizes = found_in(images, (4, 3))
        assert np.shares_memory(pixels, images)
        assert sizes is None

    def test_rows_that_were_unfolded_are_resized_alike(self):
        images = colours()
        for found, expected in zip(
            resize_all(images, (7, 2)), found_in(images, (7, 2)), strict=True
        ):
            assert np.array_equal(found, expected)
        assert resize_all(images, None) == (images, None)

    @pytest.mark.parametrize("n_channels", [None, 1, 2, 3])
    @pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
    def test_images_of_several_sizes_equal_each_resized_alone(self, n_channels, dtype):
        rng = np.random.default_rng(0)
        sizes = [(4, 3), (5, 5), (9, 2), (1, 1), (5, 5)]
        channels = () if n_channels is None else (n_channels,)
        images = [rng.integers(0, 200, (*size, *channels)).astype(dtype) for size in sizes]
        pixels, found = found_in(images, (5, 5))
        assert found.dtype == np.int64
        assert found.tolist() == [list(size) for size in sizes]
        assert pixels.shape == (5, 5, 5, n_channels or 1)
        for image, resized in zip(images, pixels, strict=True):
            (alone,), _ = found_in(image[None], (5, 5))
            assert np.array_equal(resized, alone)
            assert resized.dtype == alone.dtype or image.shape[:2] == (5, 5)

    @pytest.mark.parametrize(
        "form", [torch.from_numpy, Image.fromarray, np.ndarray.tolist], ids=lambda f: f.__name__
    )
    def test_images_of_several_sizes_of_every_form(self, form):
        images = [colours(1, (4, 3, 3), np.uint8)[0], colours(1, (2, 6, 3), np.uint8)[0]]
        pixels, sizes = found_in([form(image) for image in images], (3, 3))
        expected, _ = found_in([np.asarray(form(image)) for image in images], (3, 3))
        assert np.array_equal(pixels, expected)
        assert sizes.tolist() == [[4, 3], [2, 6]]

    @pytest.mark.parametrize(
        "shapes",
        [
            [(4, 4, 3), (4, 4, 3), (5, 5, 4)],
            [(4, 4), (4, 4), (5, 5, 1)],
            [(4, 4), (5, 5), (5,)],
            [(4, 4, 3), (5, 5, 3), (5, 5)],
            [(4, 4, 3), (5, 5, 3), (5, 5, 3, 1)],
        ],
    )
    def test_another_number_of_channels_is_named_by_its_row(self, shapes):
        message = f"one number of channels, got {shapes[0]} and, in row 2, {shapes[2]}."
        with pytest.raises(ValueError, match=re.escape(message)):
            find_images([np.zeros(shape) for shape in shapes], (4, 4))

    @pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0, 0)])
    def test_an_image_without_pixels_is_named_by_its_row(self, shape):
        message = re.escape(f"must have pixels, got {shape} in row 1")
        with pytest.raises(ValueError, match=message):
            find_images([np.zeros((4, 4)), np.zeros(shape)], (4, 4))

    def test_complex_numbers_are_refused(self):
        with pytest.raises(ValueError, match="must hold real numbers, got complex128"):
            find_images(np.zeros((2, 4, 4), complex), (2, 2))


class TestParameters:
    @pytest.mark.parametrize(
        "image_size", [(4, 16), [4, 16], np.array([4, 16]), (np.int64(4), np.uint8(16))]
    )
    def test_a_size_is_two_integers(self, image_size):
        found = check_size(image_size)
        assert found == (4, 16)
        assert {type(n) for n in found} == {int}

    def test_no_size_is_none(self):
        assert check_size(None) is None

    @pytest.mark.parametrize(
        "image_size", [(), (8,), (8, 8, 1), (8, 0), (8, -8), (8.0, 8.0), ("8", "8"), (8, None)]
    )
    def test_what_is_no_size_is_refused(self, image_size):
        message = "image_size must be (height, width) in positive integers, got "
        with pytest.raises(ValueError, match=re.escape(f"{message}{image_size!r}.")):
            check_size(image_size)

    @pytest.mark.parametrize(
        "image_shape",
        [(4, 16), [4, 16], (4, 16, 1), (np.int64(4), np.uint8(16)), np.array([4, 16, 1])],
    )
    def test_a_shape_is_three_integers_of_which_the_last_may_be_left_out(self, image_shape):
        found = check_shape(image_shape)
        assert found == (4, 16, 1)
        assert {type(n) for n in found} == {int}

    def test_no_shape_is_none(self):
        assert check_shape(None) is None

    @pytest.mark.parametrize(
        "image_shape", [(), (8,), (8, 8, 1, 1), (8, 0), (8, -8), (8.0, 8.0), ("8", "8"), (8, None)]
    )
    def test_what_is_no_shape_is_refused(self, image_shape):
        message = "in positive integers, got " + re.escape(repr(image_shape))
        with pytest.raises(ValueError, match=message):
            check_shape(image_shape)

    @pytest.mark.parametrize(
        ("n_features", "shape"),
        [
            (1, (1, 1, 1)),
            (49, (1, 1, 49)),
            (63, (1, 1, 63)),
            (64, (8, 8, 1)),
            (65, (1, 1, 65)),
            (784, (28, 28, 1)),
            (3 * 784, (1, 1, 2352)),
            (10_000, (100, 100, 1)),
        ],
    )
    def test_a_row_alone_unfolds_to_a_square_or_to_one_pixel(self, n_features, shape):
        assert shape_of_rows(None, n_features) == shape

    @pytest.mark.parametrize("shape", [(8, 8, 1), (4, 16, 1), (4, 4, 4), (1, 64, 1)])
    def test_a_row_unfolds_as_the_parameter_says(self, shape):
        assert shape_of_rows(shape, 64) == shape

    def test_rows_of_another_length_are_refused(self):
        message = "192 features to unfold to images of 8 x 8 pixels and 3 channels, got 64."
        with pytest.raises(ValueError, match=message):
            shape_of_rows((8, 8, 3), 64)

    def test_a_shape_is_described_in_words(self):
        assert describe((8, 9, 1)) == "8 x 9 pixels and 1 channel"
        assert describe((8, 9, 3)) == "8 x 9 pixels and 3 channels"


SIZES = [(1, 1), (2, 1), (1, 2), (3, 7), (8, 5), (4, 16), (13, 2)]


class TestResize:
    def test_numbers_worked_out_by_hand(self):
        wider = resize(np.array([0.0, 10.0]).reshape(1, 1, 2, 1), (1, 4))
        assert wider.ravel().tolist() == [0, 2.5, 7.5, 10]
        # Weights 3/4, 3/4, 1/4 and 0, over their sum of 7/4.
        narrower = resize(np.array([0.0, 2.0, 4.0, 6.0]).reshape(1, 1, 4, 1), (1, 2))
        np.testing.assert_allclose(narrower.ravel(), [10 / 7, 32 / 7], rtol=1e-15)

    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("original", SIZES)
    @pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int32, np.uint8])
    def test_cells_are_means_with_triangular_weights(self, original, size, dtype):
        images = np.random.default_rng(0).integers(0, 256, (2, *original, 3)).astype(dtype)
        rows, columns = (filter_weights(*pair) for pair in zip(original, size, strict=True))
        expected = np.einsum("ih,nhwc,jw->nijc", rows, images.astype(float), columns)
        error = np.abs(resize(images, size) - expected).max()
        # Bytes are rounded after each of two passes, with weights of 8 bits or more.
        assert error <= {"uint8": 1.25, "float32": 1e-5}.get(np.dtype(dtype).name, 1e-12)

    @pytest.mark.parametrize("size", [(3, 4), (9, 11), (3, 11), (7, 4), (1, 2)])
    @pytest.mark.parametrize("n_channels", [1, 3, 5])
    def test_it_is_torchs_interpolation(self, size, n_channels):
        images = np.random.default_rng(0).normal(size=(2, 7, 5, n_channels))
        expected = torch.nn.functional.interpolate(
            torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(),
            size=size,
            mode="bilinear",
            antialias=True,
        )
        assert np.array_equal(resize(images, size), expected.permute(0, 2, 3, 1).numpy())

    @pytest.mark.parametrize("dtype", [bool, np.uint8, np.int8, np.uint16, np.int64, np.float16])
    def test_numbers_but_bytes_are_resized_in_float64(self, dtype):
        images = colours(shape=(7, 5, 3)).astype(dtype)
        resized, exact = resize(images, (3, 4)), resize(images.astype(np.float64), (3, 4))
        assert exact.dtype == np.float64
        if dtype == np.uint8:
            assert resized.dtype == np.uint8
            assert np.abs(resized - exact).max() <= 1.25
        else:
            assert resized.dtype == np.float64
            assert np.array_equal(resized, exact)

    def test_float32_is_rounded_once(self):
        images = np.random.default_rng(0).normal(size=(3, 7, 5, 3)).astype(np.float32)
        resized = resize(images, (3, 4))
        assert resized.dtype == np.float32
        exact = resize(images.astype(np.float64), (3, 4))
        assert np.array_equal(resized, exact.astype(np.float32))

    @pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
    def test_an_image_has_the_same_bits_whatever_the_images_beside_it(self, dtype):
        images = colours(n=40, shape=(9, 7, 3), dtype=dtype)
        together = resize(images, (5, 8))
        assert np.array_equal(together[::-3], resize(images[::-3], (5, 8)))
        assert np.array_equal(together[17:18], resize(images[17:18], (5, 8)))

    @pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.float16, np.float64])
    def test_to_the_same_size_is_the_identity(self, dtype):
        images = colours(dtype=dtype)
        assert resize(images, (4, 3)) is images

    @pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
    @pytest.mark.parametrize("value", [0, 1, 117, 255])
    def test_a_constant_image_stays_constant(self, dtype, value):
        resized = resize(np.full((1, 7, 5, 3), value, dtype), (4, 9))
        np.testing.assert_allclose(resized, value, rtol=4e-16, strict=False)

    @pytest.mark.parametrize("n_channels", [1, 3])
    @pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, np.uint16])
    def test_memory_does_not_matter(self, n_channels, dtype):
        images = colours(shape=(6, 5, n_channels), dtype=dtype)
        expected = resize(images, (4, 3))
        read_only = images.copy()
        read_only.flags.writeable = False
        for same in (
            read_only,
            np.asfortranarray(images),
            images[:, ::-1, ::-1].copy()[:, ::-1, ::-1],
            images.astype(images.dtype.newbyteorder()),
        ):
            assert np.array_equal(resize(same, (4, 3)), expected)
            assert resize(same, (4, 3)).dtype.isnative
        turned = np.ones((2, 1, 6, n_channels), dtype)[:, ::-1]
        assert (resize(turned, (4, 3)) == 1).all()


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
