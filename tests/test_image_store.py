"""Images in memory or on disk, looked at once, and the way from them to batches."""

import os
import pickle
import re
import subprocess
import sys
import threading
import time
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from joblib import parallel_config
from PIL import Image

from sklearn_protopnet._images import (
    ArrayImages,
    FileImages,
    ImageSource,
    Standardization,
    fill_up,
    read_ahead,
)
from sklearn_protopnet._images._decoding import Header
from sklearn_protopnet._images._resizing import resize


def colours(n=5, shape=(4, 3, 2), dtype=np.float64):
    return np.random.default_rng(0).integers(0, 200, (n, *shape)).astype(dtype)


def standard_of(pixels, rows, weights):
    return Standardization.of(ArrayImages(pixels).survey, rows, weights)


def plain(channels):
    return Standardization(np.zeros(channels), np.ones(channels))


def source_of(pixels, standard=None):
    return ImageSource(ArrayImages(pixels), standard or plain(pixels.shape[3]))


def assert_same_survey(one, other):
    for name in ("digests", "means", "deviations"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name


@pytest.fixture(scope="module")
def pictures():
    """Colour images of several sizes."""
    rng = np.random.default_rng(0)
    sizes = [(9, 7), (4, 12), (20, 20), (6, 5), (6, 5)]
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


@pytest.fixture(scope="module")
def paths(pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    paths = [str(folder / f"{row}.png") for row in range(len(pictures))]
    for picture, path in zip(pictures, paths, strict=True):
        Image.fromarray(picture).save(path)
    return paths


@pytest.fixture(scope="module")
def on_disk(pictures, paths):
    headers = [Header(picture.shape[:2], is_colour=True) for picture in pictures]
    return FileImages(paths, (6, 5, 3), headers)


@pytest.fixture(scope="module")
def in_memory(pictures, on_disk):
    pixels = np.concatenate([resize(picture[None], (6, 5)) for picture in pictures])
    return ArrayImages(pixels, on_disk.sizes)


class TestSurvey:
    @pytest.mark.parametrize("n_images", [1, 2, 300])
    def test_every_image_is_looked_at_once_in_order(self, n_images):
        pixels = np.random.default_rng(0).normal(size=(n_images, 4, 3, 2))
        survey = ArrayImages(pixels).survey
        np.testing.assert_allclose(survey.means, pixels.mean((1, 2)), rtol=0, atol=1e-15)
        np.testing.assert_allclose(survey.deviations, pixels.std((1, 2)), rtol=1e-13)
        assert survey.digests.dtype == np.uint64
        assert survey.digests.shape == (n_images, 2)
        for row in {0, n_images // 2, n_images - 1}:
            alone = ArrayImages(pixels[row : row + 1]).survey
            assert np.array_equal(alone.digests[0], survey.digests[row])
            assert np.array_equal(alone.means[0], survey.means[row])
            assert np.array_equal(alone.deviations[0], survey.deviations[row])

    @pytest.mark.parametrize(
        "dtype", [bool, np.uint8, np.int8, np.int16, np.uint16, np.int64, np.float16, np.float32]
    )
    def test_equal_numbers_of_different_dtypes_are_the_same(self, dtype):
        pixels = np.random.default_rng(0).integers(0, 100, (40, 3, 4, 2)).astype(dtype)
        assert_same_survey(
            ArrayImages(pixels).survey, ArrayImages(pixels.astype(np.float64)).survey
        )

    def test_memory_does_not_matter(self):
        pixels = colours(n=40)
        expected = ArrayImages(pixels).survey
        assert_same_survey(ArrayImages(np.asfortranarray(pixels)).survey, expected)
        assert_same_survey(ArrayImages(pixels.astype(">f8")).survey, expected)

    def test_digests_are_equal_for_equal_images_only(self):
        pixels = np.zeros((7, 4, 3, 1))
        pixels[1] = -0.0
        pixels[2, 0, 0], pixels[3, 0, 1], pixels[4, 1, 0] = 1, 1, 1
        pixels[5, 0, 0] = np.nextafter(1, 2)
        pixels[6] = pixels[3]
        digests = [tuple(row) for row in ArrayImages(pixels).survey.digests.tolist()]
        assert digests[0] == digests[1]
        assert digests[3] == digests[6]
        assert len(set(digests)) == 5

    @pytest.mark.parametrize("value", [0.1, 1 / 3, -7.3, 1e9 + 0.1, 1e-300])
    def test_a_constant_image_has_its_value_as_mean_and_no_variance(self, value):
        survey = ArrayImages(np.full((3, 7, 5, 2), value)).survey
        assert (survey.means == value).all()
        assert (survey.deviations == 0).all()

    def test_files_and_arrays_of_the_same_pixels_look_the_same(self, on_disk, in_memory):
        assert_same_survey(on_disk.survey, in_memory.survey)


class TestArrayImages:
    @pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
    def test_rows_are_read_in_any_order_and_as_often_as_asked(self, dtype):
        pixels = colours(dtype=dtype)
        images = ArrayImages(pixels)
        rows = np.array([3, 0, 3, 4])
        read = images.read(rows)
        assert read.dtype == dtype
        assert np.array_equal(read, pixels[rows])
        assert not np.shares_memory(read, pixels)
        assert (len(images), images.shape) == (5, (4, 3, 2))
        assert images.are_bytes == (dtype == np.uint8)

    def test_a_reader_takes_what_is_set_of_pillow_with_it(self, on_disk, monkeypatch):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 7)
        pickled = pickle.dumps(on_disk.reader(np.array([0])))
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # as in another process
        with pytest.raises(ValueError, match="decompression bomb"):
            pickle.loads(pickled)()
        assert Image.MAX_IMAGE_PIXELS == 7

    def test_a_reader_can_be_pickled_and_takes_its_own_images_only(self):
        images = ArrayImages(colours(n=1000))
        data = pickle.dumps(images.reader(np.array([7, 5])))
        assert len(data) < 2 * images.pixels[:2].nbytes
        assert np.array_equal(pickle.loads(data)(), images.pixels[[7, 5]])

    def test_images_that_were_not_resized_keep_their_boxes_and_sizes(self):
        images, rows = ArrayImages(colours()), np.array([1, 1, 4])
        boxes = np.array([[0, 2, 1, 3]] * 3)
        assert np.array_equal(images.original_boxes(rows, boxes), boxes)
        assert images.original_sizes(rows).tolist() == [[4, 3]] * 3

    def test_boxes_and_sizes_are_those_of_the_rows(self, in_memory):
        rows = np.array([2, 0])
        assert in_memory.original_sizes(rows).tolist() == [[20, 20], [9, 7]]
        boxes = in_memory.original_boxes(rows, np.array([[0, 6, 0, 5]] * 2))
        assert boxes.tolist() == [[0, 20, 0, 20], [0, 9, 0, 7]]


class TestFileImages:
    def test_files_are_read_by_row_and_resized(self, on_disk, in_memory):
        assert (len(on_disk), on_disk.shape) == (5, (6, 5, 3))
        for rows in ([0, 1, 2, 3, 4], [4, 4, 0], [2]):
            read = on_disk.read(np.array(rows))
            assert read.dtype == np.uint8
            assert np.array_equal(read, in_memory.pixels[rows])

    def test_a_file_of_the_right_size_is_read_as_it_is(self, on_disk, pictures):
        assert np.array_equal(on_disk.read(np.array([4]))[0], pictures[4])

    def test_boxes_and_sizes_are_those_of_arrays(self, on_disk, in_memory):
        rows, boxes = np.array([2, 0, 3]), np.array([[1, 3, 2, 4], [0, 1, 0, 1], [2, 5, 0, 5]])
        for method in ("original_boxes", "original_sizes"):
            arguments = (rows, boxes) if method == "original_boxes" else (rows,)
            found, expected = (getattr(x, method)(*arguments) for x in (on_disk, in_memory))
            assert np.array_equal(found, expected)
        assert on_disk.original_boxes(rows, boxes)[2].tolist() == boxes[2].tolist()

    def test_grey_is_read_as_grey_or_as_colour(self, tmp_path):
        path, grey = str(tmp_path / "grey.png"), colours(1, (4, 3), np.uint8)[0]
        Image.fromarray(grey).save(path)
        for channels in (1, 3):
            images = FileImages([path], (4, 3, channels), [Header((4, 3), is_colour=False)])
            expected = np.repeat(grey[None, :, :, None], channels, axis=3)
            assert np.array_equal(images.read(np.array([0])), expected)

    def test_a_reader_can_be_pickled(self, on_disk, in_memory):
        reader = pickle.loads(pickle.dumps(on_disk.reader(np.array([3, 1]))))
        assert np.array_equal(reader(), in_memory.pixels[[3, 1]])

    def test_errors_name_the_row_and_the_file(self, on_disk, paths, tmp_path):
        missing, cut, text = (str(tmp_path / name) for name in ("no.png", "cut.png", "text.png"))
        with open(paths[2], "rb") as file, open(cut, "wb") as target:
            target.write(file.read()[:-200])
        with open(text, "w") as file:
            file.write("no image")
        for path, kind in ((missing, FileNotFoundError), (cut, ValueError), (text, ValueError)):
            images = FileImages([*paths[:3], path], on_disk.shape, on_disk.headers[:4])
            assert images.read(np.arange(3)).shape == (3, 6, 5, 3)
            with pytest.raises(kind, match=f"Row 3 of X: .*{re.escape(path)}"):
                images.read(np.array([0, 3]))
            with pytest.raises(kind, match=f"Row 3 of X: .*{re.escape(path)}"):
                images.survey  # noqa: B018


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
        found = standard_of(pixels, rows, weights)
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

    def test_many_images_are_combined(self):
        n_images = 300
        rng = np.random.default_rng(0)
        pixels = rng.normal([1e5, -3.0], [1.0, 1e-3], (n_images, 2, 3, 2))
        rows, weights = rng.permutation(n_images), rng.exponential(size=n_images)
        found = standard_of(pixels, rows, weights)
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
        found = standard_of(pixels, rows, weights)
        same = standard_of(pixels.astype(np.float64), rows, weights)
        assert np.array_equal(found.mean, same.mean)
        assert np.array_equal(found.scale, same.scale)
        flat = pixels.reshape(-1, 2).astype(np.float64)
        np.testing.assert_allclose(found.mean, flat.mean(0), rtol=1e-12)
        np.testing.assert_allclose(found.scale, flat.std(0), rtol=1e-12)

    @pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, -7.3, 1e9 + 0.1, 1e-300])
    def test_a_constant_channel_has_scale_1_whatever_its_value(self, value):
        rng = np.random.default_rng(0)
        pixels = np.stack([np.full((100, 7, 5), value), rng.normal(size=(100, 7, 5))], axis=-1)
        found = standard_of(pixels, np.arange(100), rng.uniform(0.1, 2, 100))
        assert found.mean[0] == value
        assert found.scale[0] == 1
        assert 0.9 < found.scale[1] < 1.1
        batch = source_of(pixels, found).batch(np.arange(3))
        assert (batch[:, 0] == 0).all()

    def test_small_variations_on_a_large_offset_are_seen(self):
        pixels = 1e9 + np.random.default_rng(0).normal(size=(400, 4, 4, 1))
        found = standard_of(pixels, np.arange(400), np.ones(400))
        assert found.scale[0] == pytest.approx(pixels.std(), rel=1e-9)

    def test_weights_count_like_repetitions(self):
        pixels, counts = colours(n=6), np.array([1, 3, 2, 1, 4, 1])
        one = standard_of(pixels, np.arange(6), counts.astype(float))
        index = np.repeat(np.arange(6), counts)
        other = standard_of(pixels, index, np.ones(len(index)))
        np.testing.assert_allclose(one.mean, other.mean, rtol=1e-14)
        np.testing.assert_allclose(one.scale, other.scale, rtol=1e-14)

    def test_rows_left_out_do_not_count(self):
        pixels = colours(n=6)
        pixels[[1, 4]] = 1e9
        rows, weights = np.array([5, 0, 2, 3]), np.array([1.0, 2, 3, 4])
        one, other = (
            standard_of(pixels, rows, weights),
            standard_of(pixels[rows], range(4), weights),
        )
        assert np.array_equal(one.mean, other.mean)
        assert np.array_equal(one.scale, other.scale)

    @pytest.mark.parametrize("n_channels", [1, 2, 3])
    def test_bytes_that_are_looked_up_are_the_bits_of_the_formula(self, n_channels):
        rng = np.random.default_rng(0)
        pixels = np.arange(256, dtype=np.uint8).repeat(n_channels).reshape(4, 8, 8, n_channels)
        for _ in range(20):
            standard = Standardization(
                rng.uniform(0, 255, n_channels), rng.exponential(50, n_channels)
            )
            looked_up = standard.apply(pixels)
            assert torch.equal(looked_up, standard.apply(pixels.astype(np.float64)))
            expected = (pixels - standard.mean) / standard.scale
            assert np.array_equal(
                looked_up.numpy(), expected.transpose(0, 3, 1, 2).astype(np.float32)
            )

    @pytest.mark.parametrize("value", [1e300, -1e300, 4e38, np.inf, np.nan])
    def test_numbers_too_large_for_float32_are_refused(self, value):
        pixels = np.zeros((2, 3, 3, 2))
        pixels[1, 2, 2, 1] = value
        with pytest.raises(ValueError, match=r"must be finite in float32; some are too large"):
            plain(2).apply(pixels)


class TestBatches:
    @pytest.mark.parametrize("dtype", [np.uint8, np.float64])
    def test_a_batch_is_standardised_with_its_channels_first(self, dtype):
        pixels = colours(dtype=dtype)
        standard = Standardization(np.array([10.0, 20.0]), np.array([2.0, 4.0]))
        batch = source_of(pixels, standard).batch(np.array([3, 0, 3]))
        assert batch.dtype == torch.float32
        assert batch.shape == (3, 2, 4, 3)
        assert batch.is_contiguous(memory_format=torch.channels_last)
        expected = (pixels[[3, 0, 3]].astype(float) - [10, 20]) / [2, 4]
        assert np.array_equal(batch.numpy(), expected.transpose(0, 3, 1, 2).astype(np.float32))

    def test_the_training_images_have_mean_0_and_scale_1(self):
        rng = np.random.default_rng(0)
        pixels = rng.normal([1e6, -3e-5], [1e3, 1e-5], (500, 4, 4, 2))
        standard = standard_of(pixels, np.arange(500), np.ones(500))
        batch = source_of(pixels, standard).batch(np.arange(500)).double()
        means, scales = batch.mean((0, 2, 3)), batch.std((0, 2, 3), correction=0)
        assert means.tolist() == pytest.approx([0, 0], abs=1e-6)
        assert scales.tolist() == pytest.approx([1, 1], abs=1e-6)

    def test_integers_do_not_wrap(self):
        pixels = np.array([0, 255], dtype=np.uint8).reshape(2, 1, 1, 1)
        standard = Standardization(np.array([128.0]), np.array([1.0]))
        assert source_of(pixels, standard).batch(np.arange(2)).flatten().tolist() == [-128, 127]

    def test_batches_follow_one_another(self):
        source, rows = source_of(colours(n=7)), [np.array([6, 0]), np.array([3]), np.array([3, 3])]
        batches = list(source.batches(rows))
        assert [len(batch) for batch in batches] == [2, 1, 2]
        for batch, index in zip(batches, rows, strict=True):
            assert torch.equal(batch, source.batch(index))

    def test_files_and_arrays_give_the_same_batches(self, on_disk, in_memory):
        standard, rows = Standardization(np.full(3, 99.5), np.full(3, 7.3)), np.array([4, 0, 2])
        one, other = (ImageSource(images, standard).batch(rows) for images in (on_disk, in_memory))
        assert torch.equal(one, other)

    @pytest.mark.parametrize("size", [(1, 1), (8, 8), (100, 90), (300, 300)])
    @pytest.mark.parametrize("n_images", [1, 7, 300])
    def test_chunks_have_every_image_once(self, size, n_images):
        pixels = np.broadcast_to(np.arange(20.0)[:, None, None, None], (20, *size, 1))
        source = source_of(pixels)
        rows = np.random.default_rng(0).integers(0, 20, n_images)
        found = []
        for index, images in source.chunks(rows):
            assert np.array_equal(images[: len(index), 0, 0, 0].numpy(), rows[index])
            found.extend(index.tolist())
        assert found == list(range(len(rows)))

    def test_no_rows_give_no_chunks(self):
        assert list(source_of(colours()).chunks(np.arange(0))) == []

    @pytest.mark.parametrize("size", [3, 4, 7, 8])
    def test_rows_are_repeated_until_there_are_enough(self, size):
        values = torch.arange(3 * 2 * 4 * 5.0).reshape(3, 2, 4, 5)
        filled = fill_up(values, size)
        assert filled.shape == (size, 2, 4, 5)
        assert filled.is_contiguous(memory_format=torch.channels_last)
        assert all(torch.equal(row, values[i % 3]) for i, row in enumerate(filled))


class Readers:
    """Readers that note when they were asked for and when they were called."""

    def __init__(self, n):
        self.n, self.asked, self.called, self.threads = n, 0, [], set()

    def __iter__(self):
        for i in range(self.n):
            self.asked += 1
            yield partial(self._read, i)

    def _read(self, i):
        self.called.append(i)
        self.threads.add(threading.get_ident())
        return i


class TestReadAhead:
    @pytest.mark.parametrize("n_jobs", [None, 1])
    def test_alone_each_reader_is_called_when_its_turn_comes(self, n_jobs):
        readers = Readers(5)
        given_out = read_ahead(readers, n_jobs)
        assert readers.asked == 0
        for i in range(5):
            assert next(given_out) == i
            assert readers.called == list(range(i + 1))
        assert list(given_out) == []

    def test_inside_a_worker_of_a_search_nothing_is_read_ahead(self):
        readers = Readers(5)
        with parallel_config(backend="threading", n_jobs=2):  # what joblib nests in a process
            given_out = read_ahead(readers, 2)
            assert [next(given_out), next(given_out)] == [0, 1]
        assert readers.called == [0, 1]
        assert readers.threads == {threading.get_ident()}

    def test_an_error_comes_when_its_turn_comes(self):
        readers = [partial(divmod, 7, 2), partial(divmod, 7, 0)]
        given_out = read_ahead(readers, None)
        assert next(given_out) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            next(given_out)

    def test_processes_keep_the_order_and_do_not_run_away(self):
        def readers():
            for i in range(50):
                asked.append(i)
                yield partial(divmod, i, 7)

        asked = []
        given_out = read_ahead(readers(), 2)
        for i in range(50):
            assert next(given_out) == divmod(i, 7)
            assert len(asked) <= i + 1 + 2 * 2
        assert list(given_out) == []
        assert list(read_ahead([], 2)) == []

    def test_errors_in_a_process_come_through_and_leave_the_processes_alive(self):
        processes = set(read_ahead([os.getpid] * 9, 2))
        failing = read_ahead([partial(divmod, i, i - 5) for i in range(50)], 2)
        assert list(islice(failing, 5)) == [divmod(i, i - 5) for i in range(5)]
        with pytest.raises(ZeroDivisionError, match="by zero") as caught:
            next(failing)
        assert "in _call" in caught.value.__notes__[0]
        assert list(failing) == []
        stopped = read_ahead((partial(divmod, i, 7) for i in range(50)), 2)
        assert next(stopped) == (0, 0)
        stopped.close()
        processes |= set(read_ahead([os.getpid] * 9, 2))
        assert len(processes) <= 2
        assert os.getpid() not in processes

    def test_processes_end_with_the_one_that_is_killed(self):
        """A kill cannot be handled: the processes must find out that their parent has gone."""
        code = (
            "import os, time; from functools import partial;"
            "from sklearn_protopnet._images import read_ahead;"
            "tasks = [os.getpid] * 4 + [partial(time.sleep, 600)] * 4;"
            "[print(pid, flush=True) for pid in read_ahead(tasks, 2)]"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as parent:
            workers = {int(parent.stdout.readline()) for _ in range(4)}
            parent.kill()
        end = time.monotonic() + 60
        while any(map(is_running, workers)) and time.monotonic() < end:
            time.sleep(0.1)
        assert not any(map(is_running, workers))


def is_running(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{process}/stat")
    return not (stat.exists() and ") Z " in stat.read_text())  # a zombie has ended
