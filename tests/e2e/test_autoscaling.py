"""`kubectl top` and `kubectl autoscale` over what real processes use."""

from __future__ import annotations

import pytest

from tests.support.kubectl import Kubectl

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# A tenth of a CPU or so, which is far more than it requests.
BUSY = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: busy}
spec:
  replicas: 1
  selector: {matchLabels: {app: busy}}
  template:
    metadata: {labels: {app: busy}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: none
        command: [sh, -c, 'while :; do timeout 0.1 sh -c "while :; do :; done"; sleep 0.4; done']
        resources: {requests: {cpu: 5m}}
"""


def test_a_busy_deployment_is_scaled_up_by_what_its_processes_use(kubectl: Kubectl, namespace: str) -> None:
    kubectl("-n", namespace, "apply", "-f", "-", stdin=BUSY)
    kubectl("-n", namespace, "rollout", "status", "deployment/busy", "--timeout=180s")
    kubectl("-n", namespace, "autoscale", "deployment", "busy", "--cpu=50%", "--min=1", "--max=2")
    scaled = ("wait", "deployment/busy", "--for=jsonpath={.spec.replicas}=2", "--timeout=180s")
    kubectl("-n", namespace, *scaled)
    told = kubectl.event(namespace, "SuccessfulRescale")["message"]
    assert told == "New size: 2; reason: cpu resource utilization (percentage of request) above target"
    # what it was scaled by is told after it was scaled
    counted = ("wait", "hpa/busy", "--for=jsonpath={.status.desiredReplicas}=2", "--timeout=180s")
    kubectl("-n", namespace, *counted)
    described = kubectl("-n", namespace, "describe", "hpa", "busy")
    assert "the HPA was able to successfully calculate a replica count from cpu resource utilization" in described
    header, row, *_ = kubectl("-n", namespace, "top", "pods").splitlines()
    assert header.split() == ["NAME", "CPU(cores)", "MEMORY(bytes)"]
    assert row.startswith("busy-")
    header, row = kubectl("top", "nodes").splitlines()
    assert header.split() == ["NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)"]
    kubectl("-n", namespace, "delete", "hpa,deployment", "busy")
