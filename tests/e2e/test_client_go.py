"""client-go and controller-runtime, built from the Go module proxy, against kubecore."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import go_programs
from tests.support.kubectl import Kubectl
from tests.support.process import RunningCluster
from tests.support.streamed_pod import STREAMED

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

WIDGETS = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.judges.example.com}
spec:
  group: judges.example.com
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget, listKind: WidgetList}
  versions:
    - name: v1
      served: true
      storage: true
      subresources: {status: {}}
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec: {type: object, required: [text], properties: {text: {type: string}}}
            status:
              type: object
              properties: {written: {type: string}, observedGeneration: {type: integer, format: int64}}
"""


@pytest.fixture(scope="module")
def programs() -> Path:
    """The folder of the built programs."""
    return go_programs.built("client_go", "clients").parent


def said(*command: str | Path) -> str:
    """What a program prints, which must end well."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-8000:]
    return done.stdout


def test_client_go_informers_sync_over_every_kind_and_see_changes(cluster: RunningCluster, programs: Path) -> None:
    assert "one change seen" in said(programs / "informers", cluster.kubeconfig)


@pytest.mark.parametrize("part", ["typed", "dynamic", "metadata", "watchlist", "election"])
def test_client_go_gets_what_it_gets_from_kubernetes(
    cluster: RunningCluster, programs: Path, namespace: str, part: str
) -> None:
    said(programs / "clients", part, cluster.kubeconfig, namespace)


@pytest.fixture
def widgets(kubectl: Kubectl) -> Iterator[None]:
    kubectl("create", "-f", "-", stdin=WIDGETS)
    kubectl.established("widgets.judges.example.com")
    yield
    kubectl("delete", "crd", "widgets.judges.example.com", "--wait=false")


@pytest.mark.usefixtures("widgets")
def test_a_controller_of_controller_runtime_works(cluster: RunningCluster, programs: Path, namespace: str) -> None:
    assert "reconciled" in said(programs / "manager", cluster.kubeconfig, namespace)


def test_envtest_installs_webhooks_that_trust_their_own_certificate(
    cluster: RunningCluster, programs: Path, namespace: str
) -> None:
    assert "defaulted, refused and converted" in said(programs / "environment", cluster.kubeconfig, namespace)


@pytest.mark.parametrize("transport", ["spdy", "websocket"])
def test_client_go_executes_commands_and_forwards_ports(
    cluster: RunningCluster, programs: Path, kubectl: Kubectl, namespace: str, transport: str
) -> None:
    kubectl("-n", namespace, "apply", "-f", "-", stdin=STREAMED)
    kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/streamed", "--timeout=180s")
    assert "streamed" in said(programs / "streams", transport, cluster.kubeconfig, namespace, "streamed")
