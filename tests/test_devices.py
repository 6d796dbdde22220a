"""Devices: fits that run side by side take different graphics cards."""

import subprocess
import sys
import tempfile
import uuid
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
import torch
from filelock import FileLock

from sklearn_protopnet._network import claimed_device, resolve_device
from sklearn_protopnet._ranks import Ranks


@pytest.fixture
def cards(monkeypatch, tmp_path):
    """Three graphics cards, and a place for locks of their own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    names = [uuid.uuid4() for _ in range(3)]
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda n: SimpleNamespace(uuid=names[n])
    )
    return [tmp_path / f"sklearn-protopnet-{name}.lock" for name in names]


def numbers(stack, n_fits):
    return [
        stack.enter_context(claimed_device(resolve_device("auto"), Ranks())).index
        for _ in range(n_fits)
    ]


def test_fits_side_by_side_take_different_cards(cards):
    with ExitStack() as fits:
        assert numbers(fits, 3) == [0, 1, 2]
        (shared,) = numbers(fits, 1)
        assert shared in {0, 1, 2}
    with ExitStack() as later:
        assert numbers(later, 2) == [0, 1]


def test_one_that_ends_by_an_error_frees_its_card(cards):
    def fail():
        with claimed_device(torch.device("cuda"), Ranks()):
            raise MemoryError

    with pytest.raises(MemoryError):
        fail()
    with ExitStack() as fits:
        assert numbers(fits, 1) == [0]


def test_processes_are_told_from_each_other(cards):
    script = f"""
        import sys
        from filelock import FileLock
        with FileLock({str(cards[0])!r}):
            print("held", flush=True)
            sys.stdin.read()
    """
    other = subprocess.Popen(
        [sys.executable, "-c", "\n".join(line[8:] for line in script.splitlines())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with other, ExitStack() as fits:
        assert other.stdout.readline() == b"held\n"
        assert numbers(fits, 2) == [1, 2]
        other.kill()
    with ExitStack() as fits:
        assert numbers(fits, 1) == [0]


def test_a_card_whose_lock_cannot_be_had_is_left_out(cards):
    cards[0].mkdir()
    with ExitStack() as fits, FileLock(cards[1]):
        assert numbers(fits, 1) == [2]


@pytest.mark.parametrize("name", ["cpu", "cuda:1"])
def test_a_device_with_a_number_is_taken_as_it_is(cards, name):
    device = torch.device(name)
    for _ in range(2):
        with claimed_device(device, Ranks()) as one, claimed_device(device, Ranks()) as two:
            assert one == two == device
    assert not any(path.exists() for path in cards)


def test_a_process_that_torchrun_has_started_takes_its_own(cards, monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "2")
    assert resolve_device("auto") == torch.device("cuda", 2)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)  # it sees no others
    assert resolve_device("auto") == torch.device("cuda", 0)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: False)
    assert resolve_device("auto") == torch.device("cuda")


def test_processes_that_train_together_claim_nothing(cards):
    with claimed_device(torch.device("cuda"), Ranks(1, 2)) as device:
        assert device == torch.device("cuda")
    assert not any(path.exists() for path in cards)


def test_others_may_lock_the_same_files(cards):
    with ExitStack() as fits:
        numbers(fits, 1)
        assert cards[0].stat().st_mode & 0o666 == 0o666
