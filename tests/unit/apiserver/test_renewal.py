"""Certificates are renewed while the server runs: whoever is connected to next is shown another one."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kubecore.apiserver.aggregation.identity import FrontProxy
from kubecore.apiserver.aggregation.options import AggregationOptions
from kubecore.apiserver.authentication.options import RequestHeaderOptions
from kubecore.apiserver.authentication.pki import CertificateAuthority
from kubecore.apiserver.handlers.kubelets import KubeletConnection
from kubecore.apiserver.renewal import renew
from kubecore.clock import VirtualClock

DAY = 86_400
START = datetime(2026, 1, 1, tzinfo=UTC)


def virtual() -> VirtualClock:
    """Which the machine's time does not go ahead of."""
    return VirtualClock(START, machine=lambda: START)


async def test_kubelets_are_shown_another_certificate_before_the_first_one_ends(tmp_path: Path) -> None:
    clock = virtual()
    kubelets = KubeletConnection(CertificateAuthority(tmp_path, clock))
    first, session = kubelets.tls(), kubelets.session()
    kubelets.renew()
    assert (kubelets.tls(), kubelets.session()) == (first, session)
    await clock.advance(340 * DAY)
    kubelets.renew()
    assert kubelets.tls() is not first
    assert kubelets.session() is not session
    # What goes on in the former one is not cut.
    assert not session.closed
    await kubelets.close()
    assert session.closed


async def test_extension_servers_are_shown_another_certificate_before_the_first_one_ends(tmp_path: Path) -> None:
    clock = virtual()
    headers = RequestHeaderOptions(
        client_ca_file=None,
        allowed_names=(),
        username_headers=(),
        uid_headers=(),
        group_headers=(),
        extra_headers_prefix=(),
    )
    proxy = FrontProxy(tmp_path, clock, AggregationOptions(), headers)
    first = proxy._shown()
    proxy.renew()
    assert proxy._shown() is first
    await clock.advance(340 * DAY)
    proxy.renew()
    assert proxy._shown() not in (None, first)


async def test_each_day_every_step_is_taken_whatever_comes_of_others(caplog: pytest.LogCaptureFixture) -> None:
    clock, taken = virtual(), list[float]()

    def fail() -> None:
        raise OSError("the disk is full")

    work = asyncio.create_task(renew([fail, lambda: taken.append(clock.monotonic())], clock))
    with caplog.at_level(logging.ERROR):
        await clock.advance(2.5 * DAY)
    work.cancel()
    assert taken == [DAY, 2 * DAY]
    assert caplog.messages == ["a certificate was not renewed"] * 2
