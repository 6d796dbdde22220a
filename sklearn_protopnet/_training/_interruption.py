"""Ctrl-C: the first one ends a training at its next step, the second one at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Self


class Interruption:
    """Notes the first Ctrl-C of a block of code; a second one acts at once.

    An interrupt between two lines of an optimizer would leave half a step. Nothing is noted where
    the interrupt is somebody else's: outside of the main thread, and where Python's own handler is
    not in place.
    """

    def __init__(self) -> None:
        self.n_signals = 0
        self._before: Any = None

    def __enter__(self) -> Self:
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.n_signals += 1
        if self.is_repeated:
            signal.default_int_handler(number, frame)

    @property
    def has_come(self) -> bool:
        """Whether there was one."""
        return self.n_signals > 0

    @property
    def is_repeated(self) -> bool:
        """Whether there was a second one."""
        return self.n_signals > 1
