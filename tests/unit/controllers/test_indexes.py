"""What indexes of informers say that they look at: of the rest they are not told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from kubecore.client.client import Object
from kubecore.client.informer import IndexFunction, Of, SharedInformer
from kubecore.clock import VirtualClock
from kubecore.controllers.manager import ControllerManager
from kubecore.kubelet.simulated.fleet import FleetConfig, SimulatedFleet
from kubecore.scheduler.scheduler import Scheduler
from tests.support.fake_api import FakeAPI

LASTING = ("name", "namespace", "labels", "annotations", "ownerReferences", "finalizers")


class Read(dict[str, Any]):
    """Notes what is read of it, by path."""

    def __init__(self, members: Object, seen: set[str], path: str = "") -> None:
        super().__init__(members)
        self._seen, self._path = seen, path

    def __getitem__(self, name: str) -> Any:
        self._seen.add(self._path + name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self._seen.add(self._path + name)
        return super().get(name, default)

    def __iter__(self) -> Iterator[str]:
        raise AssertionError(f"{self._path or 'object'} is looked at as a whole")


def an_object(seen: set[str]) -> Object:
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "u1", "controller": True}
    metadata = {"name": "web-1", "namespace": "default", "uid": "u2", "labels": {"a": "b"}, "ownerReferences": [owner]}
    claims = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}, {"name": "tmp", "ephemeral": {"x": {}}}]
    return Read(
        {
            "metadata": Read(metadata, seen, "metadata."),
            "spec": {"nodeName": "n1", "volumes": claims},
            "status": {"phase": "Running"},
        },
        seen,
    )


def test_an_index_looks_at_no_more_of_an_object_than_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    declared: dict[tuple[str, str], set[tuple[IndexFunction, Of]]] = {}
    add_index = SharedInformer.add_index

    def noted(self: SharedInformer, name: str, function: IndexFunction, *, of: Of = Of.OBJECT) -> None:
        declared.setdefault((self.resource, name), set()).add((function, of))
        add_index(self, name, function, of=of)

    monkeypatch.setattr(SharedInformer, "add_index", noted)
    clock = VirtualClock()
    client = FakeAPI(clock).client()
    ControllerManager(client, clock)
    SimulatedFleet(client, clock, FleetConfig())
    Scheduler(client, clock)
    told = [(index, one) for index, ones in declared.items() for one in ones if one[1] is not Of.OBJECT]
    assert len(told) > 5
    for index, (function, of) in told:
        seen: set[str] = set()
        assert function(an_object(seen)), index
        allowed = {"metadata", *(f"metadata.{name}" for name in LASTING), *(["spec"] if of is Of.SPEC else [])}
        assert seen <= allowed, (index, seen - allowed)
    # Who shares an index agrees on what it looks at.
    assert [index for index, ones in declared.items() if len(ones) > 1] == []
