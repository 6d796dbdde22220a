"""Checkpoints: a fit that was killed goes on, and ends with the same bits."""

import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import warnings

import numpy as np
import pytest
import torch
from quick import QUICK
from sklearn.model_selection import GridSearchCV
from test_callbacks import Silent
from test_classifier import assert_same_bits
from torch import nn

from sklearn_protopnet import ProtoPNetClassifier
from sklearn_protopnet._training import Checkpoint, digest_bytes


class KilledError(Exception):
    """Stands for the end of a process."""


class Kill(Silent):
    """Kills a training at the end of its n-th task."""

    def __init__(self, n_tasks):
        self.n_left = n_tasks

    def on_fit_task_end(self, estimator, context):
        self.n_left -= 1
        if self.n_left == 0:
            raise KilledError


class Dropout(nn.Module):
    """A backbone that draws from torch's global generator."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            self.layers = nn.Sequential(
                nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout2d(0.3)
            )

    def forward(self, images):
        return self.layers(images)


class Counting(nn.Module):
    """A backbone with a buffer that is no part of its state."""

    def __init__(self):
        super().__init__()
        self.layers = Dropout().layers
        self.register_buffer("n_steps", torch.zeros(()), persistent=False)
        self.register_buffer("last", None, persistent=False)

    def forward(self, images):
        if self.training:  # in a batch of another size, a buffer has another shape
            self.n_steps += 1
            images = images if self.last is None else images + self.last.mean() / 9
            self.last = images.detach()
        return self.layers(images) * (1 + 1 / (1 + self.n_steps))


ROUNDS = {
    **QUICK,
    "pretraining_epochs": 2,
    "warmup_epochs": 2,
    "joint_epochs": 3,
    "projection_interval": 2,
}


@pytest.fixture(scope="module")
def few(digits):
    X, y = digits
    return X[:60].reshape(-1, 8, 8), y[:60] % 3


def killed(few, folder, n_tasks, **settings):
    """Fit until the end of the n-th task; the last two states are in the folder."""
    often = {"checkpoint_interval": 0.0}
    clf = ProtoPNetClassifier(**{**ROUNDS, **often, **settings}, checkpoint=folder)
    with pytest.raises(KilledError):
        clf.set_callbacks(Kill(n_tasks)).fit(*few)
    assert not hasattr(clf, "coef_")
    return clf.set_callbacks()


class TestGoingOn:
    @pytest.mark.parametrize(
        "settings",
        [
            {},
            {"augment": "no_flip"},
            {"augment": "no_flip", "n_jobs": 2},
            {"early_stopping": True, "n_iter_no_change": 1, "joint_epochs": 6},
            {"projection_interval": None, "precision": "bfloat16"},
            {"backbone": Dropout()},
            {"backbone": Counting()},
            {"pretraining_epochs": 0, "backbone_learning_rate": 0.0},
        ],
        ids=lambda settings: "-".join(settings) or "rounds",
    )
    def test_it_ends_with_the_same_bits_wherever_it_was_killed(self, few, tmp_path, settings):
        whole = ProtoPNetClassifier(**{**ROUNDS, **settings}).fit(*few)
        for n_tasks in (2, 5, 8, 11, 13):
            resumed = killed(few, tmp_path, n_tasks, **settings).fit(*few)
            assert_same_bits(resumed, whole)
            one, other = (clf.history_table().drop(columns="seconds") for clf in (resumed, whole))
            assert one.equals(other)
            assert list(tmp_path.iterdir()) == []

    def test_what_a_callback_has_left_out_stays_out(self, few, tmp_path):
        class StopAndDie(Kill):
            def on_fit_task_end(self, estimator, context):
                super().on_fit_task_end(estimator, context)
                return context.task_name == "epoch" and context.parent.task_name == "joint"

        settings = {**ROUNDS, "projection_interval": None, "joint_epochs": np.int64(3)}
        stopped = ProtoPNetClassifier(**settings).set_callbacks(StopAndDie(-1)).fit(*few)
        resumed = ProtoPNetClassifier(**settings, checkpoint=tmp_path, checkpoint_interval=0.0)
        with pytest.raises(KilledError):  # at the end of the joint stage, which has no state yet
            resumed.set_callbacks(StopAndDie(9)).fit(*few)
        with pytest.warns(UserWarning, match="without the epochs that a callback had left out"):
            resumed.set_callbacks().fit(*few)
        assert_same_bits(resumed, stopped)
        assert stopped.n_iter_ == 5

    def test_epochs_are_not_run_again(self, few, tmp_path):
        class Count(Silent):
            def on_fit_task_begin(self, estimator, context):
                begun.append(context.task_name)

        begun = []
        clf = killed(few, tmp_path, 3)  # two epochs and the stage; the stage's state is not kept
        clf.set_callbacks(Count()).fit(*few)
        assert begun.count("epoch") == 7 - 2

    def test_a_process_that_is_killed_loses_an_epoch_at_most(self, few, tmp_path):
        X, y = few
        np.savez(tmp_path / "data.npz", X=X, y=y)
        script = f"""
            import os, signal
            import numpy as np
            from sklearn_protopnet import ProtoPNetClassifier
            class Die:
                def setup(self, estimator, context): pass
                def teardown(self, estimator, context): pass
                def on_fit_task_begin(self, estimator, context):
                    if context.task_name == "warmup":
                        os.kill(os.getpid(), signal.SIGKILL)
                def on_fit_task_end(self, estimator, context): pass
            data = np.load({str(tmp_path / "data.npz")!r})
            clf = ProtoPNetClassifier(
                **{ROUNDS!r}, checkpoint={str(tmp_path / "states")!r}, checkpoint_interval=0.0
            )
            clf.set_callbacks(Die()).fit(data["X"], data["y"])
        """
        done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False)
        assert done.returncode == -signal.SIGKILL
        assert len(list((tmp_path / "states").iterdir())) == 2
        resumed = ProtoPNetClassifier(**ROUNDS, checkpoint=tmp_path / "states").fit(X, y)
        assert_same_bits(resumed, ProtoPNetClassifier(**ROUNDS).fit(X, y))

    def test_penalties_may_be_others(self, few, tmp_path):
        settings = {"projection_interval": None}
        clf = killed(few, tmp_path, 10, **settings)
        n_states = len(list(tmp_path.iterdir()))
        resumed = clf.set_params(l1_weight=1e-2).fit(*few)
        assert (n_states, len(list(tmp_path.iterdir()))) == (2, 0)
        fresh = ProtoPNetClassifier(**{**ROUNDS, **settings}, l1_weight=1e-2).fit(*few)
        assert_same_bits(resumed, fresh)

    @pytest.mark.parametrize("what", ["settings", "data", "seed"])
    def test_another_training_has_a_checkpoint_of_its_own(self, few, tmp_path, what):
        X, y = few
        clf = killed(few, tmp_path, 5)
        kept = {path: path.read_bytes() for path in tmp_path.iterdir()}
        if what == "data":
            X = X[::2].repeat(2, axis=0)
        clf.set_params(
            **{"settings": {"learning_rate": 0.1}, "seed": {"random_state": 1}}.get(what, {})
        )
        assert_same_bits(clf.fit(X, y), ProtoPNetClassifier(**clf.get_params()).fit(X, y))
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == kept

    def test_every_candidate_of_a_search_finds_its_own(self, few, tmp_path):
        grid = {"learning_rate": [1e-3, 1e-2]}
        search = GridSearchCV(
            ProtoPNetClassifier(**QUICK, checkpoint=tmp_path), grid, cv=2, error_score="raise"
        )
        plain = GridSearchCV(ProtoPNetClassifier(**QUICK), grid, cv=2, n_jobs=2).fit(*few)
        search.estimator.set_callbacks(Kill(20))  # in the second fit; the callback is shared
        with pytest.raises(KilledError):
            search.fit(*few)
        search.estimator.set_callbacks()
        search.set_params(n_jobs=2).fit(*few)
        for name in ("split0_test_score", "split1_test_score"):
            assert np.array_equal(search.cv_results_[name], plain.cv_results_[name])
        assert_same_bits(search.best_estimator_, plain.best_estimator_)


class TestFiles:
    def newest(self, tmp_path):
        (path,) = tmp_path.glob("*.checkpoint")
        return path

    @pytest.mark.parametrize("how", ["cut", "empty", "flipped", "folder"])
    def test_of_a_damaged_one_the_one_before_is_used(self, few, tmp_path, how):
        clf = killed(few, tmp_path, 9)
        path = self.newest(tmp_path)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        if how == "folder":
            path.unlink()
            path.mkdir()
        else:
            path.write_bytes({"cut": data[: len(data) // 2], "empty": b""}.get(how, data))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            clf.fit(*few)
        assert re.search("checkpoint must be .* damaged", str(caught[0].message))
        assert_same_bits(clf, ProtoPNetClassifier(**ROUNDS).fit(*few))

    def test_without_a_sound_one_it_starts_anew(self, few, tmp_path):
        clf = killed(few, tmp_path, 9)
        for path in tmp_path.iterdir():
            path.write_bytes(path.read_bytes()[:-1])
        with pytest.warns(UserWarning, match="damaged") as caught:
            clf.fit(*few)
        assert len([each for each in caught if "damaged" in str(each.message)]) == 2
        assert_same_bits(clf, ProtoPNetClassifier(**ROUNDS).fit(*few))

    def test_between_two_renames_there_is_the_one_before(self, few, tmp_path):
        clf = killed(few, tmp_path, 9)
        self.newest(tmp_path).unlink()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            clf.fit(*few)
        assert_same_bits(clf, ProtoPNetClassifier(**ROUNDS).fit(*few))

    def test_nothing_in_a_file_is_executed(self, few, tmp_path):
        class Evil:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "executed"),)

        clf = killed(few, tmp_path, 9)
        path = self.newest(tmp_path)
        torch.save({"trainer": Evil()}, tmp_path / "evil", pickle_module=pickle)
        content = (tmp_path / "evil").read_bytes()
        (tmp_path / "evil").unlink()
        path.write_bytes(digest_bytes(path.stem.encode(), content).encode() + content)
        with pytest.warns(UserWarning, match="damaged"):
            clf.fit(*few)
        assert not (tmp_path / "executed").exists()

    def test_what_a_killed_process_left_half_written_goes_when_it_is_old(self, few, tmp_path):
        clf = killed(few, tmp_path, 9)
        name = self.newest(tmp_path).name
        old, new, others = (tmp_path / f".{each}" for each in (f"{name}.a", f"{name}.b", "other.c"))
        for path in (old, new, others):
            path.mkdir()
            (path / name).write_bytes(b"half")
        for path in (old, others):
            os.utime(path, (0, 0))
        clf.fit(*few)
        assert sorted(tmp_path.iterdir()) == sorted([new, others])

    def test_they_are_thinned_by_time(self, few, tmp_path):
        killed(few, tmp_path / "states", 9, checkpoint_interval=3600.0)
        assert list((tmp_path / "states").iterdir()) == []

    def test_writing_takes_a_small_share_of_the_time(self, tmp_path, monkeypatch):
        monkeypatch.setattr(time, "monotonic", lambda: clock[0])
        clock = [0.0]
        checkpoint = Checkpoint(tmp_path, "key", "auto")
        save = torch.save

        def slow(*args):
            clock[0] += 3.0
            save(*args)

        monkeypatch.setattr(torch, "save", slow)
        written = []
        while clock[0] < 3_000:
            if checkpoint.is_due:
                written.append(clock[0])
                checkpoint.write({})
                assert len(written) == 1 or 3 * len(written) <= 0.02 * clock[0]
            clock[0] += 1.0  # an epoch
        assert written[0] == 0  # it is not known yet what writing costs
        assert 297 <= written[1] <= 300
        assert np.diff(written[1:]).max() <= 151
        assert 3 * len(written) >= 0.019 * clock[0]

    def test_a_place_that_goes_away_does_not_end_a_training(self, few, tmp_path):
        class Remove(Silent):
            def on_fit_task_begin(self, estimator, context):
                shutil.rmtree(tmp_path / "states", ignore_errors=True)

        clf = ProtoPNetClassifier(**ROUNDS, checkpoint=tmp_path / "states")
        with pytest.warns(UserWarning, match="went on without another checkpoint") as caught:
            clf.set_callbacks(Remove()).fit(*few)
        assert [each.filename for each in caught] == [__file__]
        assert_same_bits(clf, ProtoPNetClassifier(**ROUNDS).fit(*few))

    def test_a_place_that_cannot_be_is_an_error(self, few, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(OSError, match="file"):
            ProtoPNetClassifier(**QUICK, checkpoint=tmp_path / "file").fit(*few)

    def test_so_is_no_name_at_all(self, few):
        with pytest.raises(ValueError, match="checkpoint must name a directory"):
            ProtoPNetClassifier(**QUICK, checkpoint="").fit(*few)

    @pytest.mark.parametrize("random_state", [None, np.random.RandomState(0)])
    def test_a_seed_that_is_drawn_is_an_error(self, few, tmp_path, random_state):
        settings = {**QUICK, "random_state": random_state}
        with pytest.raises(ValueError, match="checkpoint needs an integer random_state"):
            ProtoPNetClassifier(**settings, checkpoint=tmp_path).fit(*few)
