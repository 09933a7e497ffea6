"""Ctrl-C stops the work even where something in between swallows it."""

from __future__ import annotations

import os
import signal

import pytest

from privynet.toolkit.console import Interrupted, Screen


@pytest.mark.parametrize("sent", (signal.SIGINT, signal.SIGTERM))
def test_a_swallowed_interrupt_stops_the_next_step(sent: signal.Signals) -> None:
    before = signal.getsignal(sent)
    reached = []
    with pytest.raises(Interrupted), Screen(as_json=True).working() as progress:
        with progress.task("first"):
            try:
                os.kill(os.getpid(), sent)
                signal.sigtimedwait([], 1)
            except KeyboardInterrupt:
                reached.append("swallowed")
        with progress.task("second"):
            reached.append("went on")
    assert reached == ["swallowed"]
    assert signal.getsignal(sent) is before
