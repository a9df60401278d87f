"""What a server says of its audit when it starts."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from kubecore import _native
from kubecore.apiserver.audit.auditor import Auditor
from kubecore.apiserver.audit.options import AuditOptions
from kubecore.clock import RealClock


def test_a_log_without_a_policy_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    options = AuditOptions()
    front = _native.Front(_native.WatchCache())
    with caplog.at_level(logging.WARNING):
        Auditor(front.audit(), replace(options, log=replace(options.log, path="audit.log")), RealClock()).start()
    assert caplog.messages == ["No audit policy file provided, no events will be recorded for log backend"]
