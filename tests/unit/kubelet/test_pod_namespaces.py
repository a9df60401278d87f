"""Who acts in pods' names is told where their network namespaces are, as long as there are any."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from kubecore.kubelet.runtime.interface import RuntimeFailure
from kubecore.pod_namespaces import PodNamespaces
from tests.unit.kubelet.conftest import Node
from tests.unit.kubelet.fake_runtime import FakeRuntime


class Runtime(FakeRuntime):
    """Its pods have network namespaces, unless they are the host's: any descriptor will do. `ends` are those of pipes,
    whose other ends were given away."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.ends: list[int] = []

    async def pod_network(self, sandbox_id: str) -> tuple[int, tuple[str, ...]]:
        status = self.pod_sandbox_status(sandbox_id)
        if not status.running:
            raise RuntimeFailure("NotFound", "it does not run")
        if not status.ips:
            return -1, ()
        end, given = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.ends.append(end)
        return given, status.ips


class Told(PodNamespaces):
    def __init__(self) -> None:
        super().__init__(["10.1.0.0/16"])
        self.known: set[str] = set()

    def add(self, addresses: Iterable[str], namespace: int) -> None:
        os.fstat(namespace)
        self.known.update(addresses)

    def remove(self, addresses: Iterable[str]) -> None:
        self.known.difference_update(addresses)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
async def node(tmp_path: Path, told: Told) -> AsyncIterator[Node]:
    node = Node(tmp_path)
    node.runtime = Runtime(node.clock)
    await node.start(pod_namespaces=told)
    yield node
    await node.stop()
    for end in node.runtime.ends:
        os.close(end)


async def test_a_pod_is_known_while_it_has_its_addresses(node: Node, told: Told) -> None:
    await node.run()
    assert told.known == {node.status()["podIP"]}
    await node.delete()
    assert told.known == set()


async def test_descriptors_are_not_kept(node: Node, told: Told) -> None:
    await node.run()
    assert isinstance(node.runtime, Runtime)
    (end,) = node.runtime.ends
    assert os.read(end, 1) == b""


async def test_a_pod_of_the_hosts_network_is_not_known(node: Node, told: Told) -> None:
    await node.run(hostNetwork=True)
    assert told.known == set()


async def test_a_sandbox_that_is_made_anew_is_known_by_its_new_addresses(node: Node, told: Told) -> None:
    await node.run()
    first = set(told.known)
    node.runtime.lose()
    await node.settle(60)
    assert told.known == {node.status()["podIP"]}
    assert told.known != first


async def test_a_pod_that_is_taken_over_is_known_to_the_next_kubelet(node: Node, told: Told) -> None:
    await node.run()
    known = set(told.known)
    await node.kill()
    told.known.clear()
    await node.start(pod_namespaces=told)
    assert told.known == known
