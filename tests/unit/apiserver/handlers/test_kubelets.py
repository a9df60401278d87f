"""Why a kubelet has not answered, in the words of Go's client."""

from __future__ import annotations

import errno
import os

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

from kubecore.apiserver.handlers.kubelets import Kubelet


def refused(host: str, number: int) -> aiohttp.ClientConnectorError:
    key = ConnectionKey(host, 10250, True, True, None, None, None)
    return aiohttp.ClientConnectorError(key, OSError(number, os.strerror(number)))


@pytest.mark.parametrize(
    ("host", "error", "told"),
    [
        ("10.0.0.1", refused("10.0.0.1", errno.ECONNREFUSED), "dial tcp 10.0.0.1:10250: connect: connection refused"),
        ("fd00::1", refused("fd00::1", errno.EHOSTUNREACH), "dial tcp [fd00::1]:10250: connect: no route to host"),
        ("fd00::1", aiohttp.ConnectionTimeoutError("Connection timeout"), "dial tcp [fd00::1]:10250: i/o timeout"),
        ("10.0.0.1", TimeoutError(), "context deadline exceeded"),
        ("10.0.0.1", aiohttp.ServerDisconnectedError(), "EOF"),
    ],
)
def test_a_failure_is_told_with_its_address_as_go_writes_it(host: str, error: Exception, told: str) -> None:
    kubelet = Kubelet(host, 10250)
    url = kubelet.url("/stats/summary")
    assert kubelet.unanswered(url, error) == f'Get "{url}": {told}'
