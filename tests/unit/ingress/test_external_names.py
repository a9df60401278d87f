"""Names are followed for as long as they are wanted, and lead to nobody's own host."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import pytest

from kubecore.clock import VirtualClock
from kubecore.ingress.external_names import AFTER_FAILURE_SECONDS, AGAIN_SECONDS, ExternalNames, Found

NAME = "api.example.com"


class Resolver:
    """Knows `addresses` of every name; without any it is down."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)
        self.asked: list[str] = []

    async def __call__(self, name: str) -> list[str]:
        self.asked.append(name)
        if not self.addresses:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return self.addresses


class Following:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.resolver = Resolver("192.0.2.2", "192.0.2.1")
        self.changes: list[str] = []
        self.names = ExternalNames(self.clock, self.changes.append, look_up=self.resolver)

    async def follow(self, *names: str) -> None:
        self.names.follow(set(names))
        await self.clock.advance(0)


@pytest.fixture
async def following() -> AsyncIterator[Following]:
    made = Following()
    yield made
    await made.names.stop()


async def test_a_name_is_told_once_it_is_known_and_when_it_leads_elsewhere(following: Following) -> None:
    assert following.names.get(NAME) is None
    await following.follow(NAME)
    assert following.names.get(NAME) == Found(("192.0.2.1", "192.0.2.2"))
    await following.clock.advance(AGAIN_SECONDS)
    assert (len(following.resolver.asked), following.changes) == (2, [NAME])
    following.resolver.addresses = ["192.0.2.3"]
    await following.clock.advance(AGAIN_SECONDS)
    assert (following.names.get(NAME), following.changes) == (Found(("192.0.2.3",)), [NAME, NAME])


async def test_a_resolver_that_is_down_takes_no_addresses_and_is_asked_again_soon(following: Following) -> None:
    await following.follow(NAME)
    following.resolver.addresses = []
    await following.clock.advance(AGAIN_SECONDS)
    problem = f"{NAME} cannot be looked up: Temporary failure in name resolution"
    assert following.names.get(NAME) == Found(("192.0.2.1", "192.0.2.2"), problem)
    following.resolver.addresses = ["192.0.2.1"]
    await following.clock.advance(AFTER_FAILURE_SECONDS)
    assert following.names.get(NAME) == Found(("192.0.2.1",))


SPECIAL = ["127.0.0.1", "::ffff:127.0.0.1", "::1", "169.254.169.254", "fe80::1%eth0", "0.0.0.0", "224.0.0.1"]


@pytest.mark.parametrize("address", SPECIAL)
async def test_it_may_not_lead_to_the_proxys_own_host(following: Following, address: str) -> None:
    following.resolver.addresses = [address]
    await following.follow(NAME)
    found = following.names.get(NAME)
    assert found is not None
    assert (found.addresses, "which no backend may have" in found.problem) == ((), True)
    following.resolver.addresses = [address, "192.0.2.1"]
    await following.clock.advance(AFTER_FAILURE_SECONDS)
    assert following.names.get(NAME) == Found(("192.0.2.1",))


async def test_one_that_nobody_wants_is_asked_for_no_more(following: Following) -> None:
    await following.follow(NAME)
    await following.follow("other.example.com")
    await following.clock.advance(AGAIN_SECONDS)
    assert following.resolver.asked.count(NAME) == 1
    assert following.names.get(NAME) is None
