"""Training images that vary: what is done to them, and that seeds alone decide it."""

import random
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from quick import QUICK
from test_classifier import assert_same_bits
from torchvision.transforms import v2

from sklearn_protopnet import ProtoPNetClassifier
from sklearn_protopnet._images import AUGMENTATIONS, ArrayImages, Changes, transform_by

SHAPE = (10, 12, 2)


def noise(n=6, shape=SHAPE, dtype=np.float64):
    return np.random.default_rng(0).integers(0, 200, (n, *shape)).astype(dtype)


def changed(pixels, transform, seeds, rows=None):
    """The images in these rows, each changed with its seed."""
    rows = np.arange(len(pixels)) if rows is None else np.array(rows)
    changes = Changes(transform, np.array(seeds))
    return changes.applied_to(ArrayImages(pixels).reader(rows), rows)()


def many(image, transform, n=200):
    """One image, changed with as many seeds."""
    return changed(np.repeat(image[None], n, axis=0), transform, range(n))


class TestTransforms:
    def test_nothing_and_what_the_user_wrote_stay_as_they_are(self):
        for shape in (SHAPE, (1, 1, 3)):
            assert transform_by(None, shape, np.zeros(3)) is None
            assert transform_by(torch.abs, shape, np.zeros(3)) is torch.abs

    @pytest.mark.parametrize("name", AUGMENTATIONS)
    @pytest.mark.parametrize("shape", [(1, 1, 64), (3, 100, 1), (100, 3, 1)])
    def test_tiny_images_do_not_vary(self, name, shape):
        assert transform_by(name, shape, np.zeros(shape[2])) is None

    @pytest.mark.parametrize("name", AUGMENTATIONS)
    @pytest.mark.parametrize("shape", [(4, 4, 1), (4, 9, 3), (30, 4, 7)])
    def test_larger_images_vary(self, name, shape):
        images = noise(8, shape)
        found = changed(images, transform_by(name, shape, np.zeros(shape[2])), range(8))
        assert found.shape == images.shape
        assert (found != images).any((1, 2, 3)).all()

    @pytest.mark.parametrize("name", AUGMENTATIONS)
    def test_warps_are_the_papers(self, name):
        """Of pixels that tell their places, the slopes in the middle are those of the warp."""
        y, x = np.mgrid[:33, :33] - 16.0
        image = np.stack([x, y], axis=2)
        found = many(image, transform_by(name, image.shape, np.zeros(2)), n=150)[:, 15:18, 15:18]
        slopes = np.stack([found[:, 1, 2] - found[:, 1, 0], found[:, 2, 1] - found[:, 0, 1]], 2) / 2
        slopes[slopes[:, 0, 0] < 0, :, 0] *= -1  # mirrored
        gram = slopes.transpose(0, 2, 1) @ slopes
        is_rotated = np.isclose(gram, np.eye(2), atol=1e-6).all((1, 2))
        degrees = np.degrees(np.arcsin(slopes[is_rotated, 0, 1]))
        assert 13 < np.abs(degrees).max() <= 15
        is_sheared = np.isclose(np.linalg.inv(slopes)[:, 0, 0], 1, atol=1e-6) & ~is_rotated
        degrees = np.degrees(np.arctan(np.linalg.inv(slopes)[is_sheared]))[:, [0, 1], [1, 0]]
        assert 8 < np.abs(degrees).max() <= 10
        assert 30 < is_rotated.sum() < 70
        assert 30 < is_sheared.sum() < 70  # the others are seen from aside

    def test_every_other_image_is_mirrored_and_none_without_flips(self):
        image = noise(1)[0]
        flipped, plain = (many(image, transform_by(n, SHAPE, np.ones(2))) for n in AUGMENTATIONS)
        as_plain = (flipped == plain).all((1, 2, 3))
        is_mirrored = (flipped == plain[:, :, ::-1]).all((1, 2, 3))
        assert (as_plain ^ is_mirrored).all()
        assert 80 < is_mirrored.sum() < 120

    @pytest.mark.parametrize("name", AUGMENTATIONS)
    def test_warps_turn_and_skew_around_the_middle(self, name):
        image = np.zeros((33, 33, 1))
        image[14:19, 14:19] = 1
        found = many(image, transform_by(name, (33, 33, 1), np.zeros(1)), n=60)
        assert found[:, 16, 16].min() == pytest.approx(1, rel=1e-12)
        y, x = np.nonzero(found.max((0, 3)))
        # A skew moves corners by up to 0.2 times 16, and a pixel has a part in its neighbours.
        assert min(y.min(), x.min()) >= 14 - 4
        assert max(y.max(), x.max()) <= 18 + 4


class TestFill:
    @pytest.mark.parametrize("name", AUGMENTATIONS)
    @pytest.mark.parametrize(
        ("dtype", "fill"),
        [
            (np.uint8, [0, 117, 255]),
            (np.int16, [-300, 0, 3000]),
            (np.float32, [0.25, -7.5, 1e6]),
            (np.float64, [0.1, -1e9 - 0.1, 1 / 3]),
        ],
    )
    def test_an_image_that_equals_the_fill_stays_as_it_is(self, name, dtype, fill):
        image = np.broadcast_to(np.array(fill, dtype), (9, 9, 3))
        found = many(image, transform_by(name, (9, 9, 3), np.array(fill, np.float64)), n=60)
        assert np.array_equal(found, np.broadcast_to(image, found.shape))

    def test_outside_of_the_image_is_the_fill_and_nothing_lies_beyond_both(self):
        image, fill = np.full((20, 20, 2), 50, np.uint8), np.array([200.0, 7.0])
        found = many(image, transform_by("paper", (20, 20, 2), fill), n=100)
        corners = found[:, [0, 0, -1, -1], [0, -1, 0, -1]]
        assert (corners == fill).all(2).any(1).mean() > 0.5
        assert (found[:, 10, 10] == 50).all()
        assert (found.min((0, 1, 2)) == [50, 7]).all()
        assert (found.max((0, 1, 2)) == [200, 50]).all()

    def test_bytes_are_rounded_numbers(self):
        images, fill = noise(dtype=np.uint8), np.array([99.6, 12.3])
        transform = transform_by("paper", SHAPE, fill)
        exact = changed(images.astype(np.float64), transform, range(6))
        found = changed(images, transform, range(6)).astype(np.float64)
        assert np.abs(found - exact).max() < 0.501  # in float32


class TestSeeds:
    @pytest.mark.parametrize("name", AUGMENTATIONS)
    @pytest.mark.parametrize("dtype", [np.uint8, np.float64])
    def test_an_image_has_the_same_bits_in_any_batch_and_order(self, name, dtype):
        images, seeds = noise(dtype=dtype), [5, 2**62 - 1, 0, 77, 5, 3]
        transform = transform_by(name, SHAPE, np.full(2, 9.5))
        together = changed(images, transform, seeds)
        for rows in ([3], [5, 4, 3, 2, 1, 0], [0, 2, 0], [1, 4]):
            assert np.array_equal(changed(images, transform, seeds, rows), together[rows])

    def test_other_seeds_change_images_in_other_ways(self):
        found = many(noise(1)[0], transform_by("paper", SHAPE, np.zeros(2)), n=50)
        assert len(np.unique(found.reshape(50, -1), axis=0)) == 50

    def test_equal_images_with_equal_seeds_stay_equal(self):
        images = noise()
        images[4] = images[1]
        found = changed(images, transform_by("paper", SHAPE, np.zeros(2)), [0, 1, 2, 3, 1, 1])
        assert np.array_equal(found[4], found[1])
        assert not np.array_equal(found[5], found[1])

    def test_threads_do_not_disturb_one_another(self):
        images, transform = noise(40), transform_by("paper", SHAPE, np.zeros(2))
        parts = np.arange(40).reshape(8, 5)
        with ThreadPoolExecutor(4) as threads:
            found = list(
                threads.map(lambda rows: changed(images, transform, range(40), rows), parts)
            )
        assert np.array_equal(np.concatenate(found), changed(images, transform, range(40)))

    def test_the_users_random_states_are_left_alone(self):
        def states():
            legacy = np.random.get_state()[1].tolist()  # noqa: NPY002
            return torch.get_rng_state().tolist(), legacy, random.getstate()

        def fail(image):
            torch.rand(3)
            raise KeyError("mine")

        before = states()
        changed(noise(), transform_by("paper", SHAPE, np.zeros(2)), range(6))
        assert states() == before
        with pytest.raises(KeyError, match="mine"):
            changed(noise(), fail, range(6))
        assert states() == before

    def test_what_the_user_wrote_draws_from_the_seed(self):
        def jitter(image):
            return image + torch.rand(image.shape, dtype=image.dtype)

        images = noise()
        found = changed(images, jitter, [7] * 6) - images
        drawn = torch.rand(
            (2, 10, 12), dtype=torch.float64, generator=torch.Generator().manual_seed(7)
        )
        np.testing.assert_allclose(found, np.stack([drawn.permute(1, 2, 0)] * 6), atol=1e-13)


class TestCallables:
    def test_an_image_comes_with_its_channels_first_and_goes_back_with_them_last(self):
        seen = []

        def turn(image):
            seen.append(image.clone())
            return image.flip(2)

        images = noise()
        found = changed(images, turn, range(6), rows=[4, 1])
        assert np.array_equal(found, images[[4, 1], :, ::-1])
        for image, row in zip(seen, [4, 1], strict=True):
            assert np.array_equal(image.numpy(), images[row].transpose(2, 0, 1))

    @pytest.mark.parametrize(
        "dtype", [bool, np.uint8, np.int16, np.uint16, np.int64, np.float16, np.float32, np.float64]
    )
    @pytest.mark.parametrize("augment", [*AUGMENTATIONS, lambda image: image.flip(1)])
    def test_the_dtype_stays(self, augment, dtype):
        images = noise(dtype=dtype)
        found = changed(images, transform_by(augment, SHAPE, np.zeros(2)), range(6))
        assert found.dtype == dtype
        assert found.shape == images.shape

    @pytest.mark.parametrize("n_channels", [1, 2])
    def test_an_image_may_be_changed_in_place_and_stays_as_it_was(self, n_channels):
        images = noise(shape=(4, 5, n_channels))
        before = images.copy()
        images.flags.writeable = False

        class ReadOnly:
            def __call__(self):
                return images

        found = Changes(lambda image: image.mul_(2), np.arange(6)).applied_to(
            ReadOnly(), np.arange(6)
        )()
        assert np.array_equal(found, 2 * before)
        assert np.array_equal(images, before)

    @pytest.mark.parametrize("dtype", [">f4", ">u2", ">f8"])
    def test_the_order_of_bytes_does_not_matter(self, dtype):
        images, transform = noise(dtype=dtype), transform_by("paper", SHAPE, np.zeros(2))
        native = images.astype(images.dtype.newbyteorder("="))
        found, expected = (changed(x, transform, range(6)) for x in (images, native))
        assert np.array_equal(found, expected)

    @pytest.mark.parametrize(
        ("augment", "found"),
        [
            (lambda image: image[:, 1:], "(2, 9, 12) in torch.float64"),
            (lambda image: image[0], "(10, 12) in torch.float64"),
            (lambda image: image.permute(1, 2, 0), "(10, 12, 2) in torch.float64"),
            (lambda image: image.float(), "(2, 10, 12) in torch.float32"),
            (v2.ToDtype(torch.uint8), "(2, 10, 12) in torch.uint8"),
            (lambda image: image.numpy(), "ndarray"),
            (lambda image: [image], "list"),
            (lambda image: None, "NoneType"),
        ],
    )
    def test_what_is_no_such_image_is_refused(self, augment, found):
        rule = "augment must map a tensor (channels, height, width) to one of the same shape and "
        message = re.escape(f"{rule}dtype, got {found} for (2, 10, 12) in torch.float64.")
        with pytest.raises(ValueError, match=message):
            changed(noise(), augment, range(6))

    @pytest.mark.parametrize("augment", [lambda image: image.to("meta"), torch.Tensor.to_sparse])
    def test_an_image_that_is_elsewhere_is_refused(self, augment):
        message = "Tensors in the result of augment must be dense and on the CPU"
        with pytest.raises(TypeError, match=message):
            changed(noise(), augment, range(6))


def test_what_cannot_be_pickled_does_in_one_process_only():
    lock = threading.Lock()

    def keep(image):
        with lock:
            return image

    clf = ProtoPNetClassifier(image_shape=SHAPE, augment=keep, **QUICK)
    clf.fit(noise(8), [0, 1] * 4)
    with pytest.raises(ValueError, match=r"With n_jobs=2, augment .* pickle.* set n_jobs=None"):
        clf.set_params(n_jobs=2).fit(noise(8), [0, 1] * 4)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("X", [noise(6), noise(6, dtype=np.float32).reshape(6, -1)])
def test_pixels_stay_finite(bad, X):
    def spoil(image):
        image[0, 0, 0] = bad
        return image

    clf = ProtoPNetClassifier(image_shape=SHAPE, augment=spoil, **QUICK)
    with pytest.raises(ValueError, match="augment must give finite pixels, got NaN or infinity"):
        clf.fit(X, [0, 1] * 3)


def test_fits_are_the_same_while_other_threads_vary_images():
    X, y = noise(6, (8, 8, 1)), np.arange(6) % 2
    alone = ProtoPNetClassifier(**QUICK).fit(X, y)
    is_done = threading.Event()

    def keep_varying():
        while not is_done.is_set():
            changed(noise(), transform_by("paper", SHAPE, np.zeros(2)), range(6))

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(keep_varying) for _ in range(2)]
        try:
            beside = [ProtoPNetClassifier(**QUICK).fit(X, y) for _ in range(3)]
        finally:
            is_done.set()
        for each in running:
            each.result()
    for clf in beside:
        assert_same_bits(clf, alone)
