"""What users pass as X, and the batches that come of it."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from sklearn_protopnet._images import (
    CHUNK_PIXELS,
    LARGEST_CHUNK,
    ImageSource,
    Standardization,
    flatten_images,
    resolve_image_shape,
)


def colours(n=5, shape=(4, 3, 2), dtype=np.float64):
    return np.random.default_rng(0).integers(0, 200, (n, *shape)).astype(dtype)


class TestFlattenImages:
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
    def test_images_of_every_form_become_rows(self, form, shape):
        images = colours(shape=shape)
        flat, found = flatten_images(form(images))
        assert found == (*shape, 1)[:3]
        assert type(flat) is np.ndarray
        assert np.array_equal(flat, images.reshape(5, -1))

    @pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.float16, np.float32])
    def test_the_dtype_stays(self, dtype):
        images = colours(dtype=dtype)
        assert flatten_images(images)[0].dtype == dtype
        assert flatten_images(list(images))[0].dtype == dtype
        assert flatten_images(torch.from_numpy(images))[0].dtype == dtype

    @pytest.mark.parametrize("shape", [(4, 3, 1), (4, 3, 3), (4, 3, 4)])
    def test_pictures_of_pillow(self, shape):
        images = colours(shape=shape, dtype=np.uint8)
        flat, found = flatten_images([Image.fromarray(a.squeeze()) for a in images])
        assert found == shape
        assert np.array_equal(flat, images.reshape(5, -1))

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
            pd.Series(["one.png", "other.png"]),
            None,
            "images",
        ],
        ids=lambda X: type(X).__name__,
    )
    def test_what_is_no_array_of_images_is_left_to_scikit_learn(self, X):
        flat, shape = flatten_images(X)
        assert flat is X
        assert shape is None

    def test_rows_in_a_tensor_become_an_array(self):
        flat, shape = flatten_images(torch.ones(2, 3))
        assert shape is None
        assert np.array_equal(flat, np.ones((2, 3)))

    def test_an_array_is_not_copied(self):
        images = colours()
        assert np.shares_memory(flatten_images(images)[0], images)
        tensor = torch.from_numpy(images)
        assert np.shares_memory(flatten_images(tensor)[0], images)

    def test_no_images_have_a_shape_too(self):
        flat, shape = flatten_images(np.zeros((0, 4, 3)))
        assert flat.shape == (0, 12)
        assert shape == (4, 3, 1)

    @pytest.mark.parametrize("n_dimensions", [5, 6])
    def test_too_many_dimensions(self, n_dimensions):
        message = rf"must be 2-D rows, 3-D .* or 4-D .* got an array with {n_dimensions} dimensions"
        with pytest.raises(ValueError, match=message):
            flatten_images(np.zeros((2,) * n_dimensions))
        with pytest.raises(ValueError, match=message):
            flatten_images(list(np.zeros((2,) * n_dimensions)))

    def test_images_of_several_shapes_are_named(self):
        images = [np.zeros(shape) for shape in [(4, 4), (4, 3), (4, 4), (2, 2), (9, 9)]]
        found = "one shape, got (2, 2), (4, 3), (4, 4) and so on. Resize or crop them first."
        with pytest.raises(ValueError, match=re.escape(found)):
            flatten_images(images)

    def test_grey_and_colour_images_do_not_mix(self):
        with pytest.raises(ValueError, match=r"got \(4, 4\), \(4, 4, 3\)"):
            flatten_images([np.zeros((4, 4)), np.zeros((4, 4, 3))])

    @pytest.mark.parametrize("path", ["one.png", Path("one.png")])
    def test_paths_are_refused_by_name(self, path):
        with pytest.raises(TypeError, match="not paths of images"):
            flatten_images([path, path])

    def test_bfloat16_becomes_float32(self):
        images = torch.arange(24, dtype=torch.bfloat16).reshape(2, 3, 4)
        flat, shape = flatten_images(images)
        assert shape == (3, 4, 1)
        assert np.array_equal(flat, np.arange(24, dtype=np.float32).reshape(2, 12))

    def test_tensors_elsewhere_are_refused(self):
        with pytest.raises(TypeError, match="must be on the CPU, got one on meta"):
            flatten_images(torch.zeros(2, 3, 4, device="meta"))


class TestResolveImageShape:
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
        assert resolve_image_shape(None, None, n_features) == shape

    @pytest.mark.parametrize("of_arrays", [(8, 8, 1), (4, 16, 1), (4, 4, 4), (1, 64, 1)])
    def test_an_arrays_own_shape_wins_over_the_length_of_its_rows(self, of_arrays):
        assert resolve_image_shape(None, of_arrays, 64) == of_arrays

    @pytest.mark.parametrize(
        "parameter",
        [(4, 16), [4, 16], (4, 16, 1), (np.int64(4), np.uint8(16)), np.array([4, 16, 1])],
    )
    @pytest.mark.parametrize("of_arrays", [None, (4, 16, 1)])
    def test_a_parameter_is_taken_by_its_word(self, parameter, of_arrays):
        found = resolve_image_shape(parameter, of_arrays, 64)
        assert found == (4, 16, 1)
        assert {type(n) for n in found} == {int}

    @pytest.mark.parametrize(
        "parameter", [(), (8,), (8, 8, 1, 1), (8, 0), (8, -8), (8.0, 8.0), ("8", "8"), (8, None)]
    )
    def test_what_is_no_shape_is_refused(self, parameter):
        message = "in positive integers, got " + re.escape(repr(parameter))
        with pytest.raises(ValueError, match=message):
            resolve_image_shape(parameter, None, 64)

    def test_arrays_of_another_shape_are_refused(self):
        message = re.escape("must have the shape of image_shape=(8, 8), got (4, 16, 1)")
        with pytest.raises(ValueError, match=message):
            resolve_image_shape((8, 8), (4, 16, 1), 64)

    def test_rows_of_another_length_are_refused(self):
        message = re.escape("must have 192 features to unfold to image_shape=(8, 8, 3), got 64")
        with pytest.raises(ValueError, match=message):
            resolve_image_shape((8, 8, 3), None, 64)


TENTHS = st.integers(-(10**6), 10**6).map(lambda n: n / 10)


class TestStandardization:
    @given(
        arrays(np.float64, st.tuples(st.integers(1, 9), *3 * [st.integers(1, 3)]), elements=TENTHS),
        st.data(),
    )
    def test_mean_and_scale_are_those_of_all_pixels_with_weights(self, pixels, data):
        n = len(pixels)
        rows = np.array(data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=12)))
        weights = data.draw(arrays(np.float64, len(rows), elements=st.floats(0.1, 10)))
        found = Standardization.of(pixels, rows, weights)
        values = pixels[rows].reshape(len(rows), -1, pixels.shape[3])
        repeated = np.repeat(weights, values.shape[1])
        flat = values.reshape(-1, pixels.shape[3])
        mean = np.average(flat, axis=0, weights=repeated)
        scale = np.sqrt(np.average(np.square(flat - mean), axis=0, weights=repeated))
        is_constant = (flat == flat[0]).all(0)
        size = np.abs(flat).max()
        np.testing.assert_allclose(found.mean, mean, rtol=0, atol=1e-14 * size)
        np.testing.assert_allclose(
            found.scale, np.where(is_constant, 1, scale), rtol=1e-12, atol=1e-14 * size
        )

    @pytest.mark.parametrize("n_images", [LARGEST_CHUNK, LARGEST_CHUNK + 1, 3 * LARGEST_CHUNK + 7])
    def test_parts_are_combined(self, n_images):
        rng = np.random.default_rng(0)
        pixels = rng.normal([1e5, -3.0], [1.0, 1e-3], (n_images, 2, 3, 2))
        rows, weights = rng.permutation(n_images), rng.exponential(size=n_images)
        found = Standardization.of(pixels, rows, weights)
        values = pixels[rows].transpose(3, 0, 1, 2).reshape(2, n_images, 6)
        mean = np.average(values.mean(2), axis=1, weights=weights)
        deviation = np.square(values - mean[:, None, None]).mean(2)
        scale = np.sqrt(np.average(deviation, axis=1, weights=weights))
        np.testing.assert_allclose(found.mean, mean, rtol=1e-13)
        np.testing.assert_allclose(found.scale, scale, rtol=1e-10)

    @pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.uint16, np.float16, np.float32])
    def test_any_dtype_counts_as_its_numbers(self, dtype):
        pixels = np.random.default_rng(0).integers(0, 2000, (300, 3, 4, 2)).astype(dtype)
        rows, weights = np.arange(300), np.ones(300)
        found = Standardization.of(pixels, rows, weights)
        same = Standardization.of(pixels.astype(np.float64), rows, weights)
        assert np.array_equal(found.mean, same.mean)
        assert np.array_equal(found.scale, same.scale)
        flat = pixels.reshape(-1, 2).astype(np.float64)
        np.testing.assert_allclose(found.mean, flat.mean(0), rtol=1e-12)
        np.testing.assert_allclose(found.scale, flat.std(0), rtol=1e-12)

    @pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, -7.3, 1e9 + 0.1, 1e-300])
    def test_a_constant_channel_has_scale_1_whatever_its_value(self, value):
        rng = np.random.default_rng(0)
        pixels = np.stack([np.full((600, 7, 5), value), rng.normal(size=(600, 7, 5))], axis=-1)
        found = Standardization.of(pixels, np.arange(600), rng.uniform(0.1, 2, 600))
        assert found.mean[0] == value
        assert found.scale[0] == 1
        assert 0.9 < found.scale[1] < 1.1
        batch = ImageSource(pixels, found).batch(np.arange(3))
        assert (batch[:, 0] == 0).all()

    def test_small_variations_on_a_large_offset_are_seen(self):
        pixels = 1e9 + np.random.default_rng(0).normal(size=(400, 4, 4, 1))
        found = Standardization.of(pixels, np.arange(400), np.ones(400))
        assert found.scale[0] == pytest.approx(pixels.std(), rel=1e-9)

    def test_weights_count_like_repetitions(self):
        pixels, counts = colours(n=6), np.array([1, 3, 2, 1, 4, 1])
        one = Standardization.of(pixels, np.arange(6), counts.astype(float))
        index = np.repeat(np.arange(6), counts)
        other = Standardization.of(pixels, index, np.ones(len(index)))
        np.testing.assert_allclose(one.mean, other.mean, rtol=1e-14)
        np.testing.assert_allclose(one.scale, other.scale, rtol=1e-14)


def plain(channels):
    return Standardization(np.zeros(channels), np.ones(channels))


class TestBatches:
    def test_a_batch_is_standardised_with_its_channels_first(self):
        pixels = colours(dtype=np.uint8)
        standard = Standardization(np.array([10.0, 20.0]), np.array([2.0, 4.0]))
        batch = ImageSource(pixels, standard).batch(np.array([3, 0, 3]))
        assert batch.dtype == torch.float32
        assert batch.is_contiguous()
        assert batch.shape == (3, 2, 4, 3)
        expected = (pixels[[3, 0, 3]].astype(float) - [10, 20]) / [2, 4]
        assert np.array_equal(batch.numpy(), expected.transpose(0, 3, 1, 2).astype(np.float32))

    def test_the_training_images_have_mean_0_and_scale_1(self):
        rng = np.random.default_rng(0)
        pixels = rng.normal([1e6, -3e-5], [1e3, 1e-5], (500, 4, 4, 2))
        standard = Standardization.of(pixels, np.arange(500), np.ones(500))
        batch = ImageSource(pixels, standard).batch(np.arange(500)).double()
        means, scales = batch.mean((0, 2, 3)), batch.std((0, 2, 3), correction=0)
        assert means.tolist() == pytest.approx([0, 0], abs=1e-6)
        assert scales.tolist() == pytest.approx([1, 1], abs=1e-6)

    def test_integers_do_not_wrap(self):
        pixels = np.array([0, 255], dtype=np.uint8).reshape(2, 1, 1, 1)
        standard = Standardization(np.array([128.0]), np.array([1.0]))
        assert ImageSource(pixels, standard).batch(np.arange(2)).flatten().tolist() == [-128, 127]

    @pytest.mark.parametrize("size", [(1, 1), (8, 8), (100, 90), (300, 300)])
    @pytest.mark.parametrize("n_images", [1, 3, 7, 8, 600])
    def test_chunks_have_one_shape_and_every_image_once(self, size, n_images):
        pixels = np.broadcast_to(np.arange(20.0)[:, None, None, None], (20, *size, 1))
        source = ImageSource(pixels, plain(1))
        limit = min(LARGEST_CHUNK, max(1, CHUNK_PIXELS // (size[0] * size[1])))
        rows = np.random.default_rng(0).integers(0, 20, min(n_images, 4 * limit))
        seen, shapes = [], set()
        for index, images in source.chunks(rows):
            assert len(index) <= len(images)
            own = images[: len(index), 0, 0, 0].numpy()
            assert np.array_equal(own, rows[index])
            shapes.add(tuple(images.shape))
            seen.extend(index.tolist())
        assert seen == list(range(len(rows)))
        assert shapes == {(limit, 1, *size)}

    def test_the_last_chunk_is_filled_with_images_of_its_own(self):
        pixels = np.arange(3.0).reshape(3, 1, 1, 1)
        ((index, images),) = ImageSource(pixels, plain(1)).chunks(np.array([2, 0]))
        assert index.tolist() == [0, 1]
        assert images.shape == (LARGEST_CHUNK, 1, 1, 1)
        assert images.flatten().tolist() == [2, 0] * (LARGEST_CHUNK // 2)

    def test_an_image_is_the_same_bits_in_any_chunk(self):
        pixels = np.random.default_rng(0).normal(size=(600, 3, 4, 2))
        source = ImageSource(pixels, Standardization.of(pixels, np.arange(600), np.ones(600)))
        ((_, alone),) = source.chunks(np.array([431]))
        together = {}
        for index, images in source.chunks(np.arange(600)):
            together.update(zip(index.tolist(), images, strict=False))
        assert torch.equal(alone[0], together[431])

    def test_no_rows_give_no_chunks(self):
        assert list(ImageSource(colours(), plain(2)).chunks(np.arange(0))) == []

    def test_the_length_is_the_number_of_images(self):
        assert len(ImageSource(colours(n=7), plain(2))) == 7
