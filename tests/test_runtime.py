"""The conditions under which torch runs, and that they are undone."""

import ctypes
from unittest import mock

import pytest
import torch

from sklearn_protopnet._network import _runtime, working_conditions


@pytest.fixture
def libc():
    """The C library, with calls of its settings noted and not made."""
    fake = mock.Mock(spec=["mallopt", "malloc_trim", "gnu_get_libc_version"])
    with mock.patch.object(ctypes, "CDLL", return_value=fake):
        yield fake


def settings_of(libc):
    return [call.args for call in libc.mallopt.call_args_list]


def test_a_tiny_problem_gets_one_thread_for_as_long_as_anyone_needs_it():
    torch.set_num_threads(2)
    try:
        with working_conditions(tiny=True):
            with working_conditions(tiny=True):
                assert torch.get_num_threads() == 1
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_others_keep_freed_memory_until_the_last_one_ends(libc):
    with working_conditions(tiny=False):
        kept = settings_of(libc)
        assert dict(kept) == {-3: 2**30, -1: 2**31 - 1, -2: 2**26}
        with working_conditions(tiny=False):
            pass
        assert settings_of(libc) == kept
        libc.malloc_trim.assert_not_called()
    assert dict(settings_of(libc)[len(kept) :]) == {-3: 2**25, -1: 2**26, -2: 2**17}
    libc.malloc_trim.assert_called_once_with(0)


def test_an_error_ends_it_too(libc):
    with pytest.raises(ZeroDivisionError), working_conditions(tiny=False):
        raise ZeroDivisionError
    libc.malloc_trim.assert_called_once_with(0)


def test_other_c_libraries_are_left_alone():
    fake = mock.Mock(spec=[])
    with mock.patch.object(ctypes, "CDLL", return_value=fake), working_conditions(tiny=False):
        pass
    assert fake.method_calls == []


def test_the_numbers_are_those_of_malloc_h():
    assert _runtime._MALLOPT_KEYS == (-3, -1, -2)  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD
