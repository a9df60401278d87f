"""Which signals end a process that serves."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from kubecore.cli.stop_signals import stop_signals


def test_the_end_of_its_terminal_does_but_for_who_was_to_outlive_that(monkeypatch: pytest.MonkeyPatch) -> None:
    handled: dict[int, Any] = {signal.SIGHUP: signal.SIG_DFL}
    monkeypatch.setattr(signal, "getsignal", lambda number: handled[number])
    assert stop_signals() == [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    handled[signal.SIGHUP] = signal.SIG_IGN
    assert stop_signals() == [signal.SIGINT, signal.SIGTERM]
