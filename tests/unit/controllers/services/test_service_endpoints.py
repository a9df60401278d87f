"""What of a pod matters to endpoints."""

from typing import Any

import pytest

from kubecore.client.client import Object
from kubecore.controllers.services.service_endpoints import serve_alike


def pod(metadata: Object | None = None, spec: Object | None = None, status: Object | None = None) -> Object:
    ready = [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]
    return {
        "metadata": {"name": "web", "labels": {"app": "web"}, **(metadata or {})},
        "spec": {"nodeName": "n1", **(spec or {})},
        "status": {"phase": "Running", "podIP": "10.0.0.1", "conditions": ready, **(status or {})},
    }


@pytest.mark.parametrize(
    "changed",
    [
        {"metadata": {"labels": {"app": "db"}}},
        {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}},
        {"spec": {"nodeName": "n2"}},
        {"spec": {"hostname": "one"}},
        {"spec": {"subdomain": "web"}},
        {"status": {"podIP": "10.0.0.2"}},
        {"status": {"podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}},
        {"status": {"phase": "Succeeded"}},
        {"status": {"conditions": [{"type": "Ready", "status": "False"}]}},
    ],
)
def test_a_pod_serves_otherwise_when_that_changes(changed: dict[str, Any]) -> None:
    assert not serve_alike(pod(), pod(**changed))


def test_what_a_pod_tells_besides_makes_no_difference() -> None:
    later = [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-02T00:00:00Z"}]
    told = pod({"annotations": {"a": "b"}}, {"priority": 1}, {"conditions": later, "startTime": "2026-01-01T00:00:00Z"})
    assert serve_alike(pod(), told)
