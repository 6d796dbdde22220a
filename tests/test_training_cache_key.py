"""The key of a training: all that a record holds, unless it is named as not counting."""

import copy
import enum
import functools
import itertools
import os
import pickle
import subprocess
import sys
import threading
import types
from dataclasses import field, fields, make_dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.transforms import v2

from sklearn_protopnet._images import (
    ArrayImages,
    Dataset,
    Standardization,
    canonical_dataset,
    unstandardized,
)
from sklearn_protopnet._network import Architecture
from sklearn_protopnet._training import Settings, TrainingTask

SETTINGS = Settings(
    pretraining_epochs=1,
    warmup_epochs=2,
    joint_epochs=4,
    projection_interval=4,
    learning_rate=1e-3,
    backbone_learning_rate=1e-4,
    weight_decay=1e-3,
    batch_size=10,
    cluster_weight=0.8,
    separation_weight=0.08,
    linear_head_weight=1.0,
    l1_weight=1e-4,
    l2_weight=1e-3,
    is_trained=True,
    freeze_statistics=False,
    is_warm_start=False,
    has_forbidden=False,
    patience=None,
)
ARCHITECTURE = Architecture("auto", (4, 4, 1), 2, (0, 0, 1, 1), 8, (1, 1), "log")
PIXELS = np.arange(96).reshape(6, 4, 4, 1)


class Backbone(nn.Module):
    def __init__(self, rate=0.5):
        super().__init__()
        self.rate = rate
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.layers = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Dropout(rate))

    def extra_repr(self):
        return "kind" if self.rate in {"one", "two", "three", "four"} else ""


def brighter(image, by=0.5, *, at_most=1.0):
    return (image + by).clamp(max=at_most)


def brightened(by):
    """A function that encloses a value."""

    def change(image):
        return image + by

    return change


class Unpicklable:
    def __deepcopy__(self, _):
        return self

    def __reduce_ex__(self, _):
        raise TypeError("not this one")


def wrapped(function):
    """A method that encloses another one."""

    @functools.wraps(function)
    def call(self, *given):
        return function(*given)

    return call


class Brighten:
    """A callable with an attribute, and methods that may be given in its place."""

    limit = 1.0

    def __init__(self, by):
        self.by = by

    def __call__(self, image):
        return self.plainly(image)

    def plainly(self, image):
        return (image + self.by).clamp(max=self.limit)


def of_body(body, kind="def apply(image): return {}"):
    """A function of another text, under the same name."""
    space = {}
    exec(kind.format(body), space)
    return space["apply"]


def reused(function):
    """A decorator that knows the function that it makes."""

    @functools.wraps(function)
    def call(*given):
        return call.__wrapped__(*given)

    return call


class Rich(Backbone):
    """A module of a class whose members are of many kinds."""

    names = frozenset({"alpha", "beta", "gamma", "delta"})
    kinds: ClassVar = {int: "number", str: "text"}
    lock = threading.Lock()
    functional = torch.nn.functional
    table = types.MappingProxyType({"alpha": 1})
    number = enum.Enum("number", ["one", "two"])
    scale = (0.1, 0.2)

    def __init__(self, scale=(0.1, 0.2), names=frozenset({"one", "two", "three"})):
        super().__init__()
        self.scale, self.names, self.given = scale, names, {int: scale, "a": 1}
        self.other = types.MethodType(brighter, self)
        self.function = lambda image: image

    @torch.compiler.disable
    def compiled(self, images):
        return images

    @torch.profiler.record_function("recorded")
    def recorded(self, images):
        return images

    @torch.autocast("cpu")
    def cast(self, images):
        return images

    @reused
    def twice(self, images):
        return super().forward(images)

    @functools.cached_property
    def cached(self):
        return Rich

    def forward(self, images):
        return self.layers(self.cast(self.recorded(images)))


def dataset(pixels=PIXELS, labels=None, weights=None, standardization=None):
    source = unstandardized(ArrayImages(pixels))
    labels = np.arange(6) % 2 if labels is None else labels
    found = canonical_dataset(source, labels, np.ones(6) if weights is None else weights)
    return found if standardization is None else found.standardized(standardization)


def task(**changes):
    """A task with other settings, architecture or fields."""
    plain = {
        "training": dataset(),
        "validation": None,
        "augment": None,
        "seed": 0,
        "device": torch.device("cpu"),
        "precision": torch.float32,
        "architecture": replace(
            ARCHITECTURE, **{k: changes.pop(k) for k in list(changes) if k in vars(ARCHITECTURE)}
        ),
        "settings": replace(
            SETTINGS, **{k: changes.pop(k) for k in list(changes) if k in vars(SETTINGS)}
        ),
    }
    return TrainingTask(**{**plain, **changes})


def keys(name, values):
    return [task(**{name: value}).key() for value in values]


class TestWhatCounts:
    @pytest.mark.parametrize("name", [each.name for each in fields(Settings)])
    def test_every_setting_does_but_the_penalties_of_the_last_layer(self, name):
        other = {name: 3 if getattr(SETTINGS, name) is None else getattr(SETTINGS, name) * 2 + 1}
        is_counting = task(**other).key() != task().key()
        assert is_counting == (name not in {"l1_weight", "l2_weight"})
        rounds = {"joint_epochs": 20}
        assert task(**{**rounds, **other}).key() != task(**rounds).key()

    @pytest.mark.parametrize(
        "changes",
        [
            {"backbone": "resnet18"},
            {"backbone": nn.Conv2d(1, 3, 3)},
            {"weights": "imagenet"},
            {"image_shape": (4, 4, 3)},
            {"n_classes": 3},
            {"feature_stride": 2},
            {"prototype_classes": (0, 1, 1, 1)},
            {"prototype_depth": 9},
            {"prototype_size": (2, 1)},
            {"similarity": "linear"},
            {"augment": "paper"},
            {"augment": v2.GaussianBlur(3)},
            {"precision": torch.bfloat16},
            {"seed": 1},
            {"device": torch.device("meta")},
            {"validation": dataset()},
            {"training": dataset(PIXELS[::-1])},
            {"training": dataset(PIXELS.astype(np.float32))},
            {"training": dataset(labels=np.array([0, 1, 0, 1, 1, 1]))},
            {"training": dataset(weights=np.array([1, 1, 1, 1, 1, 2.0]))},
            {"training": dataset(standardization=Standardization(np.ones(1), np.ones(1)))},
        ],
        ids=str,
    )
    def test_architecture_images_and_surroundings_do(self, changes):
        assert task(**changes).key() != task().key()

    @pytest.mark.parametrize("record", ["task", "settings", "architecture", "training"])
    def test_a_field_that_nobody_thought_of_does(self, record):
        """A setting that is added later is a miss until it is named as not counting."""
        plain = task()
        value = plain if record == "task" else getattr(plain, record)
        extra = ("extra", object, field(default=None))
        extended = make_dataclass("More", [extra], bases=(type(value),), frozen=True)
        found = set()
        for extra in (0, 1, 0.5, "text", None, (1, 2), np.ones(2), np.zeros(2), brighter):
            own = {each.name: getattr(value, each.name) for each in fields(value)}
            more = extended(**own, extra=extra)
            whole = more if record == "task" else replace(plain, **{record: more})
            found.add(whole.key())
        assert len(found | {plain.key()}) == 10

    @pytest.mark.parametrize(
        "changes",
        [
            {"batch_size": np.int64(10)},
            {"learning_rate": np.float64(1e-3)},
            {"training": dataset(weights=np.full(6, 7.0))},
            {
                "training": dataset(
                    PIXELS[[3, 1, 5, 0, 2, 4]], (np.arange(6) % 2)[[3, 1, 5, 0, 2, 4]]
                )
            },
        ],
        ids=["integers of NumPy", "floats of NumPy", "a weight of all", "the order of rows"],
    )
    def test_nothing_else_does(self, changes):
        assert task(**changes).key() == task().key()

    def test_neither_do_rows_that_equal_images_are_in(self):
        twice = Dataset(
            unstandardized(ArrayImages(np.concatenate([PIXELS, PIXELS]))),
            dataset().rows + 6,
            dataset().labels,
            dataset().weights,
        )
        assert task(training=twice).key() == task().key()


class TestModules:
    def test_parameters_statistics_and_attributes_are_in_the_key(self):
        modules = [Backbone() for _ in range(4)]
        with torch.no_grad():
            modules[0].layers[0].weight[0, 0, 0, 0] += 1e-6
            modules[1].layers[1].running_mean += 1
        modules[2].layers[0].weight.requires_grad_(False)
        modules[3].rate = 0.25
        assert len({*keys("backbone", modules), *keys("backbone", [Backbone()])}) == 5

    def test_parameters_that_are_one_are_in_the_key(self):
        tied, untied = (nn.Sequential(nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)) for _ in "ab")
        untied.load_state_dict(tied.state_dict())
        untied[1].load_state_dict(tied[0].state_dict())
        tied[1].weight, tied[1].bias = tied[0].weight, tied[0].bias
        assert task(backbone=tied).key() != task(backbone=untied).key()

    def test_copies_and_modes_are_not(self):
        module = Backbone()
        key = task(backbone=module).key()
        assert task(backbone=copy.deepcopy(module).eval()).key() == key
        assert all(part.training for part in module.modules())

    def test_neither_is_what_a_call_or_a_pickle_leaves(self):
        module = Rich()
        del module.function, module.other  # which cannot be pickled
        key = task(backbone=module).key()
        assert task(backbone=pickle.loads(pickle.dumps(module))).key() == key
        module.eval()(torch.zeros(1, 1, 4, 4))
        assert task(backbone=copy.deepcopy(module)).key() == key
        names = [[0.1, 0.2], frozenset({"one", "two"})]
        assert len({key, task(backbone=Rich(*names)).key(), task(backbone=Rich()).key()}) == 3

    def test_the_code_of_a_module_is_in_the_key(self, monkeypatch):
        found = set()
        for body in ("images + 1", "images + 2", "[image.sin() for image in images]"):
            space = {"__module__": __name__}
            exec(f"def forward(self, images):\n    return {body}", space)
            cls = type("Other", (Backbone,), space)
            monkeypatch.setitem(globals(), "Other", cls)  # for pickle to find it
            found.add(task(backbone=cls()).key())
        assert len(found) == 3

    def test_half_precision_and_scalars_are_hashed(self):
        module = nn.Conv2d(1, 1, 1).to(torch.bfloat16)
        module.register_buffer("scalar", torch.tensor(3))
        other = copy.deepcopy(module)
        other.scalar += 1
        assert task(backbone=module).key() != task(backbone=other).key()

    def test_one_that_cannot_be_pickled_is_named(self):
        module = Backbone()
        module.other = Unpicklable()
        message = r"checkpoint need a value of backbone that can be pickled, got .* from Backbone"
        with pytest.raises(ValueError, match=message):
            task(backbone=module).key()


class TestAugmentations:
    @pytest.mark.parametrize("kind", ["def apply(image): return {}", "apply = lambda image: {}"])
    def test_the_code_of_a_function_is_in_the_key(self, kind):
        bodies = ("image + 1", "image + 2", "image - 1", "image.flip(2)", "image.flip(1)")
        bodies += ("[value.sin() for value in image]", "[value.cos() for value in image]")
        found = keys("augment", [of_body(body, kind) for body in bodies])
        assert len(set(found)) == len(bodies)
        assert found == keys("augment", [of_body(body, kind) for body in bodies])

    def test_what_a_function_encloses_and_its_defaults_are_in_the_key(self):
        by = [0.5, 1.0, None, "much", torch.tensor([1.0]), torch.tensor([2.0]), np.ones(2)]
        functions = [brightened(value) for value in by]
        for arguments in ("image, by=1", "image, by=2", "image, *, by=1", "image, *, by=2"):
            functions.append(of_body("image + by", f"def apply({arguments}): return {{}}"))
        assert len(set(keys("augment", functions))) == len(functions)
        assert keys("augment", functions[:7]) == keys("augment", map(brightened, by))

    def test_arguments_and_code_of_a_partial_function_are_in_the_key(self, monkeypatch):
        partials = [{"by": 1.0}, {"by": 2.0}, {"at_most": 1.0}]
        found = keys("augment", [brighter, *(functools.partial(brighter, **p) for p in partials)])
        assert len(set(found)) == 4
        darker = of_body("image - by", "def apply(image, by=0.5): return {}")
        darker.__name__ = darker.__qualname__ = "brighter"
        darker.__module__ = __name__
        monkeypatch.setitem(globals(), "brighter", darker)
        assert task(augment=functools.partial(darker, by=1.0)).key() not in found

    @pytest.mark.parametrize("make", [Brighten, lambda by: Brighten(by).plainly])
    def test_attributes_of_an_object_are_in_the_key(self, make):
        assert len(set(keys("augment", map(make, (0.5, 0.5, 1.0))))) == 2

    @pytest.mark.parametrize(
        "members",
        [
            {"__call__": of_body("image", "def apply(self, image): return {}")},
            {"helper": of_body("image")},
            {"helper": staticmethod(of_body("image"))},
            {"helper": classmethod(of_body("image"))},
            {"helper": property(of_body("image"))},
            {"helper": property(None, of_body("image"))},
            {"helper": functools.cached_property(of_body("image"))},
            {"helper": staticmethod(functools.cache(of_body("image")))},
            {"helper": torch.no_grad()(of_body("image"))},
            {"helper": wrapped(of_body("image"))},
            {"helper": of_body("image", "def apply(self, image, by=3): return {}")},
            {"helper": functools.partialmethod(of_body("image"))},
            {"helper": functools.singledispatchmethod(of_body("image"))},
            {"helper": functools.update_wrapper(Brighten(1), of_body("image"))},
            {"__call__": functools.partialmethod(of_body("image"))},
            {"__call__": staticmethod(torch.fliplr)},
            {"__factor__": 2},
            {"limit": 2.0},
            {"limit": (1, 2)},
            {"limit": {"at": [1]}},
            {"limit": torch.ones(2)},
        ],
        ids=lambda members: f"{next(iter(members))} {type(next(iter(members.values()))).__name__}",
    )
    @pytest.mark.parametrize("make", [lambda cls: cls(1), lambda cls: cls(1).plainly])
    def test_the_code_of_a_class_is_in_the_key(self, monkeypatch, members, make):
        found = set()
        for changes in ({}, members, {"helper": staticmethod(of_body("image + 2"))}):
            cls = type("Other", (Brighten,), {**changes, "__module__": __name__})
            monkeypatch.setitem(globals(), "Other", cls)  # for pickle to find it
            found.add(task(augment=make(cls)).key())
        assert len(found) == 3

    def test_what_differs_in_a_wrapped_function_or_in_a_value_of_a_class_does(self, monkeypatch):
        found = set()
        members = [wrapped(of_body("image")), wrapped(of_body("image + 1")), (1, 2), (1, 3)]
        members += [torch.no_grad()(of_body("image + 1")), torch.ones(1), torch.zeros(1)]
        for member in members:
            cls = type("Other", (Brighten,), {"helper": member, "__module__": __name__})
            monkeypatch.setitem(globals(), "Other", cls)
            found.add(task(augment=cls(1)).key())
        assert len(found) == len(members)

    def test_what_several_functions_of_a_class_do_is_in_the_key(self, monkeypatch):
        found = set()
        for bodies in itertools.product(("image", "image + 1"), repeat=2):
            helper = functools.singledispatchmethod(of_body("image"))
            helper.register(int, of_body(bodies[0]))
            helper.register(str, of_body(bodies[1]))
            both = {of_body(f"{body} * 2") for body in bodies}
            members = {"helper": helper, "both": {int: both}, "__module__": __name__}
            cls = type("Other", (Brighten,), members)
            monkeypatch.setitem(globals(), "Other", cls)
            found.add(task(augment=cls(1)).key())
        assert len(found) == 4

    @pytest.mark.parametrize("kind", ["method", "cached function", "partial method", "in a set"])
    def test_the_code_of_functions_of_any_kind_is_in_the_key(self, kind):
        found = set()
        for body in ("image", "image + 1"):
            function, brighten = of_body(body, "def apply(self, image=0): return {}"), Brighten(1)
            if kind == "method":
                function = types.MethodType(function, brighten)
            elif kind == "cached function":
                function = functools.lru_cache(function)
            elif kind == "in a set":
                brighten.by, function = {function, len}, brighten
            else:
                brighten.by, function = functools.partialmethod(function, 1), brighten
            found.add(task(augment=function).key())
        assert len(found) == 2

    @pytest.mark.parametrize(
        "around", [lambda it: v2.Compose([it]), v2.Lambda, functools.partial, lambda it: it]
    )
    def test_the_code_of_what_another_object_holds_is_in_the_key(self, monkeypatch, around):
        found = set()
        for body in ("image", "image + 1"):
            call = of_body(body, "def apply(self, image): return {}")
            cls = type("Other", (Brighten,), {"__call__": call, "__module__": __name__})
            monkeypatch.setitem(globals(), "Other", cls)
            found.add(task(augment=around(cls(1))).key())
        assert len(found) == 2

    def test_the_code_of_a_base_class_and_of_a_hook_is_in_the_key(self, monkeypatch):
        found = set()
        for body in ("image", "image + 1"):
            base = type("Base", (Brighten,), {"plainly": of_body(body), "__module__": __name__})
            cls = type("Other", (base,), {"__module__": __name__})
            hook = of_body(body, "def apply(module, image, output): return {}")
            hook.__module__ = __name__
            for name, value in {"Other": cls, "apply": hook}.items():
                monkeypatch.setitem(globals(), name, value)
            module = Backbone()
            module.register_forward_hook(hook)
            found |= {task(augment=cls(1)).key(), task(backbone=module).key()}
        assert len(found) == 4

    def test_options_of_torchvisions_are_in_the_key(self):
        transforms = [v2.RandomRotation(15), v2.RandomRotation(10), v2.RandomHorizontalFlip()]
        transforms += [v2.Compose(transforms), v2.RandomChoice(transforms), "paper", "no_flip"]
        assert len(set(keys("augment", transforms))) == 7
        assert keys("augment", [v2.RandomRotation(15)]) == keys("augment", transforms[:1])

    def test_one_that_cannot_be_pickled_is_named(self):
        message = r"need a value of augment that can be pickled, got an error from Compose"
        with pytest.raises(ValueError, match=message):
            task(augment=v2.Compose([Brighten(Unpicklable())])).key()


class TestWeights:
    @pytest.fixture
    def path(self, tmp_path):
        torch.save({"weight": torch.ones(3)}, tmp_path / "one.pt")
        return tmp_path / "one.pt"

    def test_a_file_is_known_by_its_content(self, path, tmp_path, monkeypatch):
        key = task(weights=str(path)).key()
        assert key != task().key()
        other = tmp_path / "other.pt"
        other.write_bytes(path.read_bytes())
        monkeypatch.chdir(path.parent)
        monkeypatch.setenv("HOME", str(path.parent))
        assert set(keys("weights", [str(other), path.name, f"~/{path.name}"])) == {key}
        torch.save({"weight": torch.full((3,), 2.0)}, path)
        assert task(weights=str(path)).key() != key

    def test_published_ones_are_known_by_their_network(self):
        names = ("resnet18", "resnet34", "efficientnet_lite0")
        found = {task(weights="imagenet", backbone=name).key() for name in names}
        assert len(found | set(keys("backbone", names))) == 6

    def test_a_module_with_weights_has_both_in_its_key(self, path):
        found = {
            task(backbone=backbone, weights=weights).key()
            for backbone in (Backbone(0.5), Backbone(0.25))
            for weights in (None, str(path))
        }
        assert len(found) == 4


def keys_of_all_kinds(path):
    changes = (brighter, brightened(0.5), Brighten(0.5), Brighten(0.5).plainly, v2.GaussianBlur(3))
    return [
        task().key(),
        task(backbone=Backbone()).key(),
        task(backbone=Rich()).key(),
        task(weights=str(path), feature_stride=2, precision=torch.bfloat16).key(),
        *keys("augment", [*changes, functools.partial(brighter, by=1.0)]),
    ]


def test_keys_are_the_same_in_another_process(tmp_path):
    path = tmp_path / "state.pt"
    torch.save({"weight": torch.ones(3)}, path)
    code = (
        "from test_training_cache_key import keys_of_all_kinds\n"
        f"print(*keys_of_all_kinds({str(path)!r}))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent,
        # Sets are in another order there.
        env={"PYTHONHASHSEED": "12345", "PYTHONPATH": os.environ.get("PYTHONPATH", "")},
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    assert printed.split() == keys_of_all_kinds(path)
    assert len(set(printed.split())) == 10
