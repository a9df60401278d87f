"""A responder in virtual time against an API in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kubecore.clock import VirtualClock
from kubecore.dns.responder import DnsConfig, DnsResponder
from tests.support.dns_client import Answer, decode, query
from tests.support.fake_api import FakeAPI

Object = dict[str, Any]

HTTP = {"name": "http", "protocol": "TCP", "port": 80}


class Dns:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.api = FakeAPI(self.clock)
        self.responder = self.make()
        self._task: asyncio.Task[None] | None = None

    def make(self, **fields: Any) -> DnsResponder:
        return DnsResponder(self.api.client("coredns"), self.clock, DnsConfig(**fields))

    async def start(self) -> None:
        self._task = asyncio.create_task(self.responder.run())
        await self.clock.settle()

    async def stop(self) -> None:
        self.responder._server.shutdown()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def service(self, name: str, address: str, **spec: Any) -> None:
        body = {"clusterIP": address, "clusterIPs": [address], "ports": [HTTP], **spec}
        self.api.add("services", {"metadata": {"name": name}, "spec": body})

    def slice(self, name: str, service: str, *addresses: str) -> None:
        metadata = {"name": name, "labels": {"kubernetes.io/service-name": service}}
        endpoints = [{"addresses": [one], "conditions": {"ready": True}} for one in addresses]
        body: Object = {"metadata": metadata, "addressType": "IPv4", "endpoints": endpoints, "ports": [HTTP]}
        self.api.add("endpointslices.discovery.k8s.io", body)

    def ask(self, name: str, kind: str = "A") -> Answer:
        wire = self.responder.answer(query(f"{name}.cluster.local", kind))
        assert wire is not None
        return decode(wire)


@pytest.fixture
async def dns() -> AsyncIterator[Dns]:
    one = Dns()
    yield one
    await one.stop()
