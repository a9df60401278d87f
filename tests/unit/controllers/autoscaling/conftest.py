"""A Deployment whose size follows what tests put into its metrics."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import unquote

import orjson
import pytest

from kubecore.api import errors, meta
from kubecore.api.selectors import Selector
from kubecore.client.client import Object
from kubecore.clock import VirtualClock
from kubecore.controllers.autoscaling.autoscaler import HorizontalPodAutoscalerController
from tests.support.fake_api import FakeAPI
from tests.unit.controllers.conftest import Running

HPAS = "horizontalpodautoscalers.autoscaling"
CPU = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}
LABELS = {"app": "web"}


class ScalingAPI(FakeAPI):
    """With the scale subresource of Deployments, and the metrics that tests put in."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock)
        self.usage: dict[str, dict[str, str]] = {}
        """By container ("" for the only one), of every pod: cpu and memory; None serves no such API."""
        self.served = True
        self.silent: set[str] = set()
        self.values: dict[str, Any] = {}
        """By path below custom.metrics.k8s.io and external.metrics.k8s.io."""
        self.refused: tuple[int, bytes] | None = None
        """What is answered instead of metrics of pods."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> tuple[int, bytes]:
        if path.startswith("/apis/metrics.k8s.io/"):
            return self._resource_metrics(path, query or {})
        if path in self.values:
            return 200, orjson.dumps({"items": self.values[path]})
        if path == "/apis" and self.values:
            group = {"name": "custom.metrics.k8s.io", "versions": [{"version": "v1beta1"}]}
            return 200, orjson.dumps({"groups": [{**group, "preferredVersion": {"version": "v1beta1"}}]})
        if path.endswith("/scale"):
            name = unquote(path.split("/")[-2])
            return self._scale(method, name, orjson.loads(body) if body else {})
        if ".metrics.k8s.io/" in path:
            return 404, errors.no_such_path().to_json()
        return await super().request(method, path, query=query, body=body, content_type=content_type)

    def _scale(self, method: str, name: str, body: Object) -> tuple[int, bytes]:
        found = self.get("deployments.apps", name)
        if found is None:
            return 404, errors.not_found("apps", "deployments", name).to_json()
        if method == "PUT":
            found = self.change("deployments.apps", name, spec={"replicas": body["spec"]["replicas"]})
        selector = ",".join(f"{key}={value}" for key, value in found["spec"]["selector"]["matchLabels"].items())
        status = {"replicas": len(self.all("pods")), "selector": selector}
        metadata = {"name": name, "namespace": "default", "resourceVersion": meta.resource_version(found)}
        scale = {"metadata": metadata, "spec": {"replicas": found["spec"]["replicas"]}, "status": status}
        return 200, orjson.dumps(scale)

    def _resource_metrics(self, path: str, query: Mapping[str, str]) -> tuple[int, bytes]:
        if not self.served:
            return 404, errors.no_such_path().to_json()
        if self.refused is not None:
            return self.refused
        selector = Selector.parse(query["labelSelector"])
        containers = [{"name": name or "c", "usage": usage} for name, usage in self.usage.items()]
        stamp = meta.format_time(self.clock.now())
        items = [
            {"metadata": {"name": meta.name(pod)}, "timestamp": stamp, "window": "15s", "containers": containers}
            for pod in self.all("pods")
            if selector.matches(meta.labels(pod)) and meta.name(pod) not in self.silent
        ]
        return 200, orjson.dumps({"items": items})

    def size(self, name: str = "web") -> int:
        found = self.get("deployments.apps", name)
        assert found is not None
        replicas: int = found["spec"]["replicas"]
        return replicas

    def status(self, name: str = "web") -> Object:
        found = self.get(HPAS, name)
        assert found is not None
        return found.get("status") or {}

    def condition(self, kind: str, name: str = "web") -> tuple[str, str, str]:
        found = next(one for one in self.status(name)["conditions"] if one["type"] == kind)
        return found["status"], found["reason"], found["message"]


class Scaled:
    """A Deployment whose pods follow its size at once and are ready for long, and its autoscaler."""

    def __init__(
        self,
        api: ScalingAPI,
        running: Running,
        clock: VirtualClock,
        controller: HorizontalPodAutoscalerController | None = None,
    ) -> None:
        self.api, self.running, self.clock = api, running, clock
        self.controller = controller or HorizontalPodAutoscalerController(running.context)

    async def start(self, replicas: int, *metrics: Object, cpu: str = "100m", **spec: Any) -> None:
        selector = {"matchLabels": LABELS}
        self.api.add(
            "deployments.apps", {"metadata": {"name": "web"}, "spec": {"replicas": replicas, "selector": selector}}
        )
        self.cpu = cpu
        self.follow()
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
        made = {
            "scaleTargetRef": target,
            "maxReplicas": 10,
            "minReplicas": 1,
            "metrics": list(metrics) or [CPU],
            **spec,
        }
        self.api.add(HPAS, {"metadata": {"name": "web"}, "spec": made})
        await self.running.start(self.controller)

    def follow(self) -> None:
        names = {meta.name(pod) for pod in self.api.all("pods")}
        wanted = {f"web-{number}" for number in range(self.api.size())}
        for name in names - wanted:
            self.api.remove("pods", name)
        for name in sorted(wanted - names):
            self.api.add("pods", pod(name, self.cpu))

    async def later(self, seconds: float = 15.0) -> int:
        """The size after so long, pods having followed it."""
        await self.clock.advance(seconds)
        self.follow()
        return self.api.size()


def pod(name: str, cpu: str = "100m", *, started: str = "2025-12-31T00:00:00Z", ready: str = "True") -> Object:
    container = {"name": "c", "resources": {"requests": {"cpu": cpu, "memory": "100Mi"}}}
    conditions = [{"type": "Ready", "status": ready, "lastTransitionTime": started}]
    status = {"phase": "Running", "startTime": started, "conditions": conditions}
    return {"metadata": {"name": name, "labels": LABELS}, "spec": {"containers": [container]}, "status": status}


@pytest.fixture
def api(clock: VirtualClock) -> ScalingAPI:
    return ScalingAPI(clock)


@pytest.fixture
async def scaled(api: ScalingAPI, running: Running, clock: VirtualClock) -> AsyncIterator[Scaled]:
    yield Scaled(api, running, clock)
