"""Two processes that train one network: the same classifier in both, and that of one process."""

import copy
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from distributed_worker import FITS, SLOW, layer_and_batch, trained_on
from numpy.testing import assert_allclose
from test_classifier import assert_same_bits
from torch import distributed, nn

from sklearn_protopnet import ProtoPNetClassifier
from sklearn_protopnet._ranks import Ranks, share_statistics, unshare_statistics

WORKER = Path(__file__).with_name("distributed_worker.py")


def run(*command, **variables):
    """Have two processes run a script, in an environment with variables; give what they print."""
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *start, *map(str, command)],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def data():
    from sklearn.datasets import load_digits

    X, y = load_digits(n_class=4, return_X_y=True)
    return X[:160], y[:160], X[160:], y[160:]


@pytest.fixture(scope="module")
def ranks(data, tmp_path_factory):
    """What the processes have left."""
    folder = tmp_path_factory.mktemp("ranks")
    np.savez(folder / "data.npz", X=data[0], y=data[1])
    run(WORKER, folder)
    return [pickle.loads((folder / f"rank{rank}").read_bytes()) for rank in (0, 1)]


def test_the_example_is_such_a_script():
    said = run(WORKER.parents[1] / "examples" / "train_with_torchrun.py", CUDA_VISIBLE_DEVICES="")
    assert re.search(
        r"^2 processes, 12 epochs, test accuracy (0\.9\d\d|1\.000)$", said, re.MULTILINE
    )


@pytest.mark.parametrize("name", [*FITS, "edited", "drawn", "kept", "cached", "cut", "resumed"])
def test_every_process_has_the_same_classifier(ranks, data, name):
    one, other = (found[name] for found in ranks)
    assert_same_bits(one, other)
    assert np.array_equal(one.prototype_sample_indices_, other.prototype_sample_indices_)
    for table in ("network", "linear_head"):
        for key, value in one.state_[table].items():
            assert np.array_equal(value, other.state_[table][key]), key
    X_test = data[2].reshape(-1, 8, 8) if name == "module" else data[2]
    assert np.array_equal(one.decision_function(X_test), other.decision_function(X_test))


@pytest.mark.parametrize("name", [*(name for name in FITS if name != "usual"), "edited"])
def test_slow_steps_end_at_the_same_sources(ranks, data, name):
    """Rounding has little to grow from."""
    X, y, X_test, _ = data
    single = trained_on(X, y) if name == "edited" else ProtoPNetClassifier(**FITS[name]).fit(X, y)
    found = ranks[0][name]
    assert np.array_equal(found.prototype_sample_indices_, single.prototype_sample_indices_)
    assert np.array_equal(found.prototype_boxes_, single.prototype_boxes_)
    assert (found.prototype_distances_ == 0).all()
    assert found.n_iter_ == single.n_iter_
    # The log similarity of a prototype to its own patch makes 10,000 times as much of rounding.
    rtol = 1e-3 if name == "edited" else 1e-4
    assert_allclose(found.loss_curve_, single.loss_curve_, rtol=rtol)
    assert_allclose(found.prototypes_, single.prototypes_, atol=1e-3)
    columns = ["accuracy_before", "accuracy", "validation_accuracy"]
    assert_allclose(found.history_table()[columns], single.history_table()[columns], atol=0.02)
    assert (found.predict(X_test) == single.predict(X_test)).mean() > 0.99


def test_without_a_step_it_is_the_same_to_the_last_bits(ranks, data):
    single = ProtoPNetClassifier(**FITS["still"]).fit(*data[:2])
    assert np.array_equal(ranks[0]["still"].prototypes_, single.prototypes_)
    assert_allclose(ranks[0]["still"].coef_, single.coef_, rtol=1e-9, atol=1e-9)


def test_the_accuracy_is_that_of_one_process(ranks, data):
    X, y, X_test, y_test = data
    single = ProtoPNetClassifier(**FITS["usual"]).fit(X, y).score(X_test, y_test)
    found = ranks[0]["usual"].score(X_test, y_test)
    assert single > 0.9
    assert abs(found - single) < 0.03


@pytest.mark.parametrize("n_dims", [2, 3, 4, 5])
def test_statistics_and_gradients_are_those_of_the_whole_batch(ranks, n_dims):
    parts = [found["normalisation"][n_dims] for found in ranks]
    layer, batch, factors = layer_and_batch(n_dims)
    batch.requires_grad_()
    output = layer(batch)
    (factors * output).sum().backward()
    expected = {"weight": layer.weight.grad, "bias": layer.bias.grad}
    expected |= {"running_mean": layer.running_mean, "running_var": layer.running_var}
    for name, value in expected.items():
        for part in parts:
            assert_allclose(part[name], value.numpy(), rtol=1e-5, atol=1e-6, err_msg=name)
    for name, value in {"output": output, "gradient": batch.grad}.items():
        whole = np.concatenate([part[name] for part in parts])
        assert_allclose(whole, value.detach().numpy(), rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.fixture
def group(tmp_path):
    """A group of this process alone."""
    distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1
    )
    yield
    distributed.destroy_process_group()


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("settings", [{}, {"affine": False}, {"track_running_stats": False}])
def test_alone_it_is_batch_normalisation(group, momentum, settings):
    torch.manual_seed(0)
    plain = nn.BatchNorm2d(3, momentum=momentum, **settings)
    shared = copy.deepcopy(plain)
    share_statistics(shared, Ranks(0, 2))
    assert type(shared) is not nn.BatchNorm2d
    for dtype in (torch.float32, torch.float32, torch.bfloat16):
        maps = torch.randn(6, 3, 4, 5).to(dtype)
        found, expected = shared(maps), plain(maps)
        assert found.dtype == expected.dtype
        assert_allclose(*(each.detach().float() for each in (found, expected)), atol=1e-2)
    for name, value in plain.state_dict().items():
        assert_allclose(shared.state_dict()[name], value, rtol=1e-3, atol=1e-5)
    shared.load_state_dict(plain.state_dict())
    if plain.track_running_stats:  # without, it goes by the batch ever after
        maps = torch.randn(6, 3, 4, 5)
        assert torch.equal(shared.eval()(maps), plain.eval()(maps))
    unshare_statistics(shared)
    assert type(shared) is nn.BatchNorm2d


@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_gradients_in_bfloat16_are_rounded_once(group, offset):
    torch.manual_seed(0)
    plain = nn.BatchNorm2d(5).train()
    shared = copy.deepcopy(plain)
    share_statistics(shared, Ranks(0, 2))
    maps, factors = torch.randn(2, 8, 5, 6, 7)
    maps, gradient = maps.bfloat16(), (factors + offset).bfloat16()
    found = []
    for layer, dtype in ((plain.double(), torch.float64), (shared, torch.bfloat16)):
        given = maps.to(dtype).requires_grad_()
        layer(given).backward(gradient.to(dtype))
        found.append(given.grad.double())
    error = (found[1] - found[0]).norm() / found[0].norm()
    assert error < 4e-3  # half a unit in the last place is 2e-3


def test_a_group_of_one_is_no_other_training(group, data):
    assert Ranks.now(torch.device("cpu")) == Ranks(0, 1, torch.device("cpu"))
    found = ProtoPNetClassifier(**SLOW).fit(*data[:2])
    distributed.destroy_process_group()
    assert_same_bits(found, ProtoPNetClassifier(**SLOW).fit(*data[:2]))
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)


def test_what_is_added_up_keeps_its_shapes_and_dtypes(group):
    large = torch.arange(2.0**17).reshape(2, 4, -1)
    tensors = [torch.arange(6.0).reshape(2, 3), torch.tensor(7.0), large, large.mT.contiguous().mT]
    arrays = np.arange(4), np.arange(6.0).reshape(3, 2)
    expected = [each.clone() for each in tensors], [each.copy() for each in arrays]
    ranks = Ranks(0, 2, torch.device("cpu"))
    ranks.add_up(tensors)
    ranks.add_up_arrays(*arrays)
    assert all(map(torch.equal, tensors, expected[0]))
    assert all(map(np.array_equal, arrays, expected[1]))
    assert [ranks.any(flag) for flag in (True, False)] == [True, False]


def test_a_trained_module_is_what_the_user_gave(ranks):
    assert [type(each) for each in ranks[0]["module"].backbone_] == [
        nn.Conv2d,
        nn.BatchNorm2d,
        nn.ReLU,
    ]


class TestAllTogether:
    def test_one_process_writes_and_all_read(self, ranks):
        assert_same_bits(ranks[0]["kept"], ranks[0]["slow"])
        assert_same_bits(ranks[1]["cached"], ranks[1]["slow"])
        assert [found["files"] for found in ranks] == [0, 0]

    def test_a_wish_of_one_is_everybodys(self, ranks):
        for found in ranks:  # an epoch of each round
            stages = found["cut"].history_table()["stage"].tolist()
            ends = ["projection", "last_layer"]
            assert stages == ["pretraining", *ends, "joint", *ends]

    def test_an_interrupt_of_one_is_everybodys_and_the_training_can_go_on(self, ranks):
        for found in ranks:
            assert found["pressed"] == 3
            assert any(
                "interrupted in stage 'warmup', epoch 3" in each for each in found["warnings"]
            )
            assert found["states"] == 2
            assert_same_bits(found["resumed"], found["slow"])

    def test_other_parameters_are_an_error_everywhere(self, ranks):
        for found in ranks:
            for name, error in found["different"].items():
                assert error is not None, name
                assert "must be given the same" in error, name

    def test_a_random_state_goes_on_alike(self, ranks):
        assert ranks[0]["drawn next"] == ranks[1]["drawn next"]

    @pytest.mark.parametrize("name", ["module", "frozen module", "fresh module"])
    def test_modules_are_trained_alike(self, ranks, data, name):
        X_test = data[2].reshape(-1, 8, 8)
        one, other = (found[name] for found in ranks)
        assert_same_bits(one, other)
        assert np.array_equal(one.decision_function(X_test), other.decision_function(X_test))

    def test_other_data_are_an_error_everywhere(self, ranks):
        for found in ranks:
            assert "must be given the same images, labels" in found["others"]

    def test_two_images_are_enough_for_two(self, ranks):
        assert all(np.isfinite(found["few"].coef_).all() for found in ranks)

    def test_batches_that_are_too_small_are_an_error(self, data, monkeypatch):
        monkeypatch.setattr(Ranks, "now", lambda device: Ranks(0, 3))
        monkeypatch.setattr(Ranks, "gather", lambda self, value: [value] * self.size)
        monkeypatch.setattr(Ranks, "from_first", lambda self, compute: compute())
        with pytest.raises(ValueError, match="an image for each of 3 processes, got one of 2"):
            ProtoPNetClassifier(**SLOW, batch_size=2).fit(*data[:2])
