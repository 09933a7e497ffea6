"""Ctrl-C, or SIGTERM, that is not lost where a library swallows it: the next step stops all the same."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ENDING = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Remembers that the work is to end: Ctrl-C was pressed, or SIGTERM came."""

    def __init__(self) -> None:
        self._pressed = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Raise ``KeyboardInterrupt`` on either, and remember it, for as long as the context lasts."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread may handle signals
            return
        before = {number: signal.signal(number, self._press) for number in _ENDING}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def check(self) -> None:
        """Raise ``KeyboardInterrupt`` if either came and the work went on."""
        if self._pressed:
            raise KeyboardInterrupt

    def _press(self, number: int, frame: FrameType | None) -> None:
        self._pressed = True
        raise KeyboardInterrupt
