"""What pods ask for, as /metrics/resources tells it."""

from __future__ import annotations

from typing import Any

from kubecore.client.client import Object
from kubecore.scheduler.pod_resources import render

AMOUNTS = {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": "1", "example.com/card": "2"}}


def pod(name: str, phase: str = "Running", **spec: Any) -> Object:
    containers = [{"name": "c", "resources": AMOUNTS}]
    metadata = {"name": name, "namespace": "default"}
    return {"metadata": metadata, "spec": {"containers": containers, **spec}, "status": {"phase": phase}}


def told(*pods: Object) -> dict[str, str]:
    lines = [line for line in render(pods).decode().splitlines() if not line.startswith("#")]
    return dict(line.rsplit(" ", 1) for line in lines)  # type: ignore[misc]


def test_requests_and_limits_are_told_by_pod_with_their_units() -> None:
    found = told(pod("a", nodeName="n", priority=7, schedulerName="mine"))

    def series(what: str, resource: str, unit: str) -> str:
        of_pod = 'namespace="default",node="n",pod="a",priority="7"'
        return f'kube_pod_resource_{what}{{{of_pod},resource="{resource}",scheduler="mine",unit="{unit}"}}'

    assert found == {
        series("request", "cpu", "cores"): "0.5",
        series("request", "memory", "bytes"): "1073741824",
        series("limit", "cpu", "cores"): "1",
        series("limit", "example.com/card", ""): "2",
    }


def test_pods_that_have_ended_are_left_out_and_those_without_a_node_are_not() -> None:
    found = told(pod("done", "Succeeded", nodeName="n"), pod("failed", "Failed", nodeName="n"), pod("waits", "Pending"))
    assert {name.split('pod="')[1].split('"')[0] for name in found} == {"waits"}
    assert all('scheduler="default-scheduler"' in name and 'priority=""' in name for name in found)
