"""Ctrl-C: the first one ends a training with what there is, the second one at once."""

import copy
import inspect
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from quick import QUICK
from test_callbacks import Silent
from test_classifier import assert_same_bits

from sklearn_protopnet import ProtoPNetClassifier

EPOCHS = {**QUICK, "pretraining_epochs": 2, "warmup_epochs": 2, "joint_epochs": 3}


class Press(Silent):
    """Presses Ctrl-C so many times at the end of the n-th epoch, and notes the stages."""

    def __init__(self, n_epochs, n_times=1):
        self.n_left, self.n_times = n_epochs, n_times
        self.begun = []

    def on_fit_task_begin(self, estimator, context):
        self.begun.append(context.task_name)

    def on_fit_task_end(self, estimator, context):
        self.n_left -= context.task_name == "epoch"
        if self.n_left == 0 and context.task_name == "epoch":
            for _ in range(self.n_times):
                signal.raise_signal(signal.SIGINT)


def slowly(image):
    """Leave images as they are, in a while."""
    time.sleep(0.002)
    return image


@pytest.fixture(autouse=True)
def handler():
    """Interrupts are Python's, before and after."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class TestOnce:
    def test_after_a_joint_epoch_it_is_the_fit_that_ends_there(self, few):
        clf = ProtoPNetClassifier(**EPOCHS).set_callbacks(Press(6))
        with pytest.warns(UserWarning, match=r"interrupted in stage 'joint', epoch 6 of 7") as got:
            clf.fit(*few)
        assert got[0].filename == __file__
        ended = ProtoPNetClassifier(**{**EPOCHS, "joint_epochs": 2}).fit(*few)
        assert_same_bits(clf, ended)
        assert clf.n_iter_ == 6

    @pytest.mark.parametrize(("n_epochs", "stage"), [(1, "pretraining"), (3, "warmup")])
    def test_earlier_stages_leave_a_classifier_too(self, few, n_epochs, stage):
        press = Press(n_epochs)
        clf = ProtoPNetClassifier(**EPOCHS).set_callbacks(press)
        with pytest.warns(UserWarning, match=f"stage '{stage}', epoch {n_epochs} of 7"):
            clf.fit(*few)
        assert press.begun[-2:] == ["projection", "last_layer"]
        assert press.begun.count("epoch") == n_epochs
        assert (clf.prototype_distances_ == 0).all()
        assert clf.score(*few) > 0.6

    def test_within_an_epoch_it_is_the_next_step(self, few):
        def press(image):
            n_images.append(len(image))
            if len(n_images) == 70:  # in the second epoch of the pretraining
                signal.raise_signal(signal.SIGINT)
            return image

        n_images = []
        clf = ProtoPNetClassifier(**EPOCHS, augment=press, batch_size=10)
        with pytest.warns(UserWarning, match=r"stage 'pretraining', epoch 2 of 7"):
            clf.fit(*few)
        assert len(n_images) < 120
        assert clf.n_iter_ == 1
        assert (clf.prototype_distances_ == 0).all()

    def test_the_best_state_counts(self, few):
        X, y = few
        settings = {**EPOCHS, "joint_epochs": 12, "early_stopping": True, "learning_rate": 0.05}
        clf = ProtoPNetClassifier(**settings).set_callbacks(Press(14))
        with pytest.warns(UserWarning, match="interrupted"):
            clf.fit(X, y)
        history = clf.history_table()
        best = history.query("stage == 'joint'")["validation_accuracy"].max()
        assert history["validation_accuracy"].iloc[-1] == best

    def test_it_is_not_kept_as_the_result_and_can_go_on(self, few, tmp_path):
        folders = {
            "memory": str(tmp_path / "memory"),
            "checkpoint": tmp_path / "states",
            "checkpoint_interval": 0.0,
        }
        clf = ProtoPNetClassifier(**EPOCHS, **folders).set_callbacks(Press(5))
        with pytest.warns(UserWarning, match="interrupted"):
            clf.fit(*few)
        assert len(list((tmp_path / "states").iterdir())) == 2
        watch = Press(0)
        clf.set_callbacks(watch).fit(*few)
        assert watch.begun.count("epoch") == 2
        assert_same_bits(clf, ProtoPNetClassifier(**EPOCHS).fit(*few))

    def test_an_interrupt_that_something_else_raises_is_one(self, few):
        def interrupt(image):
            n_images.append(1)
            if len(n_images) > 130:
                raise KeyboardInterrupt
            return image

        n_images = []
        clf = ProtoPNetClassifier(**EPOCHS, augment=interrupt)
        with pytest.warns(UserWarning, match=r"stage 'warmup', epoch 3 of 7"):
            clf.fit(*few)
        assert clf.n_iter_ == 2

    def test_readers_leave_it_to_their_parent(self, few, tmp_path):
        """A terminal sends it to all processes of a group."""
        X, y = few
        np.savez(tmp_path / "data.npz", X=X, y=y)
        script = f"""
            import os, signal, sys, threading, warnings
            import numpy as np
            from sklearn_protopnet import ProtoPNetClassifier
            sys.path.insert(0, {str(Path(__file__).parent)!r})
            from test_interruption import EPOCHS, slowly
            from test_callbacks import Silent
            class Press(Silent):
                def on_fit_task_end(self, estimator, context):
                    if context.task_name == "pretraining":
                        threading.Timer(0.2, os.killpg, (os.getpgid(0), signal.SIGINT)).start()
            data = np.load({str(tmp_path / "data.npz")!r})
            settings = {{**EPOCHS, "warmup_epochs": 50}}
            clf = ProtoPNetClassifier(**settings, augment=slowly, n_jobs=2)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                clf.set_callbacks(Press()).fit(data["X"], data["y"])
            print([str(each.message) for each in caught if "interrupted" in str(each.message)])
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script)],
            capture_output=True,
            text=True,
            check=False,
            process_group=0,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        assert "interrupted in stage 'warmup'" in done.stdout


class TestTwice:
    def test_it_ends_at_once_and_changes_nothing(self, few):
        X, y = few
        clf = ProtoPNetClassifier(**EPOCHS).fit(X, y)
        before = dict(vars(clf))
        clf.set_callbacks(Press(1, n_times=2))
        with pytest.raises(KeyboardInterrupt):
            clf.fit(X[:, ::-1], y)
        clf.set_callbacks()
        assert vars(clf) == before

    def test_the_second_may_come_while_prototypes_are_projected(self, few):
        class PressAgain(Press):
            def on_fit_task_begin(self, estimator, context):
                if context.task_name == "projection":
                    signal.raise_signal(signal.SIGINT)

        clf = ProtoPNetClassifier(**EPOCHS).set_callbacks(PressAgain(1))
        with pytest.raises(KeyboardInterrupt):
            clf.fit(*few)
        assert not hasattr(clf, "coef_")


class TestOthers:
    @pytest.mark.parametrize("method", ["fit", "refit_last_layer"])
    def test_at_the_very_end_it_leaves_one_fit_or_the_other(self, few, method):
        X, y = few
        code, stop = inspect.unwrap(getattr(ProtoPNetClassifier, method)).__code__, 0
        before = ProtoPNetClassifier(**QUICK).fit(X, y)
        after = getattr(copy.copy(before).set_params(random_state=1, l1_weight=0.1), method)(X, y)
        expected = [each.decision_function(X) for each in (before, after)]
        is_interrupted, n_of_each = True, [0, 0]
        while is_interrupted:
            clf, stop, n_lines = copy.copy(before), stop + 1, 0
            clf.set_params(random_state=1, l1_weight=0.1)

            def trace(frame, event, _, stop=stop):
                nonlocal n_lines
                if frame.f_code is not code:
                    return None
                n_lines += event == "line" and {"end", "row"} & set(frame.f_locals) != set()
                if n_lines == stop:
                    raise KeyboardInterrupt
                return trace

            before_trace = sys.gettrace()  # that of coverage
            sys.settrace(trace)
            try:
                getattr(clf, method)(X, y)
                is_interrupted = False
            except KeyboardInterrupt:
                pass
            finally:
                sys.settrace(before_trace)
            logits = clf.decision_function(X)
            (which,) = [i for i in (0, 1) if np.array_equal(logits, expected[i])]
            n_of_each[which] += 1
        assert min(n_of_each) > 0

    def test_a_handler_of_the_user_stays(self, few):
        pressed = []

        def mine(number, frame):
            pressed.append(number)

        signal.signal(signal.SIGINT, mine)
        try:
            clf = ProtoPNetClassifier(**EPOCHS).set_callbacks(Press(1)).fit(*few)
            assert signal.getsignal(signal.SIGINT) is mine
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        assert pressed == [signal.SIGINT]
        assert clf.n_iter_ == 7

    def test_other_threads_fit_without_a_handler(self, few):
        fitted = []
        clf = ProtoPNetClassifier(**EPOCHS)
        thread = threading.Thread(target=lambda: fitted.append(clf.fit(*few)))
        thread.start()
        thread.join()
        assert np.isfinite(fitted[0].coef_).all()
