"""The state of a training on disk, so that a process that ends loses little of it.

A file holds a digest and what `torch.save` writes of tensors and plain values. Reading executes
nothing.
"""

from __future__ import annotations

import io
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import torch

from sklearn_protopnet._files import check_regular, replacing
from sklearn_protopnet._training._cache_key import digest_bytes

LARGEST_SHARE: Final = 0.02
"""Writing takes no more of the time than this, where no interval is given."""

LEFT_BEHIND: Final = 3600
"""Nobody has been writing a state for so many seconds."""


class Checkpoint:
    """Keeps the last two states of one training.

    Parameters
    ----------
    folder : path-like or None
        Made if there is none. None keeps nothing.
    key : str
        Digests all that the training depends on.
    interval : float or "auto"
        Seconds between two states at least; with ``"auto"`` those after the first one are kept only
        while writing takes no more than `LARGEST_SHARE` of the time.

    Raises
    ------
    OSError
        If the folder cannot be made.
    """

    def __init__(
        self, folder: str | os.PathLike[str] | None, key: str, interval: float | str
    ) -> None:
        self._key, self._interval = key, interval
        self.folder = "" if folder is None else os.fspath(folder)
        self._paths: list[Path] = []
        self.problems: dict[str, str] = {}
        """What users should know, in sentences, by what it is about."""
        self._begun = self._last = time.monotonic()
        self._cost = self._spent = 0.0
        if folder is not None:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self._paths = [Path(folder, f"{key}.{which}") for which in ("checkpoint", "previous")]

    @property
    def is_due(self) -> bool:
        """Whether it is time for another state."""
        if not self._paths:
            return False
        now = time.monotonic()
        if isinstance(self._interval, str):  # the first state comes at once, the next has to wait
            return self._spent + self._cost <= LARGEST_SHARE * (now - self._begun)
        return now - self._last >= self._interval

    def write(self, state: dict[str, Any]) -> None:
        """Keep a state, and the one before it.

        Parameters
        ----------
        state : dict
            Tensors and plain values.

        If that is not possible those that are there stay, and it is among the problems.
        """
        start = time.monotonic()
        buffer = io.BytesIO()
        torch.save(state, buffer)
        content = buffer.getbuffer()
        newest, previous = self._paths
        try:
            with replacing(newest) as path:
                with path.open("wb") as file:
                    file.write(self._digest(content))
                    file.write(content)
                with suppress(FileNotFoundError):  # a process with the same task may have come
                    newest.replace(previous)
        except OSError as error:
            self.problems["write"] = (
                "The training went on without another checkpoint, which could not be written: "
                f"{error}"
            )
        self._last = time.monotonic()
        self._cost = self._last - start
        self._spent += self._cost

    def read(self) -> dict[str, Any] | None:
        """Give the newest state that is sound; None if there is none.

        That one is damaged is among the problems.
        """
        for path in self._paths:
            try:
                check_regular(path)
                return self._state(path.read_bytes())
            except FileNotFoundError:
                continue
            except Exception as error:  # what is damaged may fail in any way
                self.problems[path.name] = (
                    f"A checkpoint must be as it was written; {str(path)!r} is damaged, and the "
                    f"one before it was used if there was one: {error}"
                )
        return None

    def remove(self) -> None:
        """Remove what is kept, and what killed processes left while they wrote it, if possible."""
        for path in self._paths:
            with suppress(OSError):
                path.unlink()
            for left in path.parent.glob(f".{path.name}.*"):
                with suppress(OSError):
                    if time.time() - left.stat().st_mtime > LEFT_BEHIND:
                        shutil.rmtree(left)

    def _state(self, data: bytes) -> dict[str, Any]:
        length = len(self._digest(memoryview(b"")))
        content = memoryview(data)[length:]
        if data[:length] != self._digest(content):
            raise ValueError("its digest differs")
        state: dict[str, Any] = torch.load(
            io.BytesIO(content), map_location="cpu", weights_only=True
        )
        return state

    def _digest(self, content: memoryview) -> bytes:
        return digest_bytes(self._key.encode(), content).encode()
