"""A watch cache with one resource, driven as the store drives it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from kubecore import _native

PUT, DELETE = 0, 1
Delivery = tuple[int, str, int, bytes]


class Harness:
    """A cache with pods, and the next revision to write."""

    def __init__(self, history: int = 8192) -> None:
        self.cache = _native.WatchCache(history=history)
        fields = [("spec.nodeName", "/spec/nodeName"), ("status.phase", "/status/phase=Pending")]
        self.pods = self.cache.register("pods", "", "pods", "v1", "Pod", True, ["v1"], fields)
        self.revision = 0

    def put(self, name: str, *, namespace: str = "default", node: str = "", **labels: str) -> int:
        metadata = {"name": name, "namespace": namespace, "labels": labels}
        return self._publish(PUT, f"{namespace}/{name}", {"metadata": metadata, "spec": {"nodeName": node}})

    def delete(self, name: str, *, namespace: str = "default") -> int:
        stored = self.cache.get(self.pods, namespace, name)
        assert stored is not None
        return self._publish(DELETE, f"{namespace}/{name}", json.loads(stored[1]))

    def _publish(self, kind: int, key: str, obj: Mapping[str, Any]) -> int:
        self.revision += 1
        body = json.dumps({"kind": "Pod", "apiVersion": "v1", **obj}).encode()
        self.cache.publish(self.revision, [(self.pods, kind, key, self.revision, body)])
        return self.revision


def names(listing: _native.Listing) -> list[str]:
    return [json.loads(item)["metadata"]["name"] for item in listing.items]


def told(deliveries: list[Delivery]) -> list[tuple[str, str, int]]:
    return [(kind, json.loads(body)["metadata"].get("name", ""), revision) for _, kind, revision, body in deliveries]


def refusal(error: pytest.ExceptionInfo[_native.NativeStatus]) -> tuple[int, str]:
    return error.value.code, error.value.reason
