"""DaemonSets and StatefulSets as kubectl sees them, with real processes."""

from __future__ import annotations

import pytest

from tests.support.kubectl import Kubectl

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

DAEMON = """
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: main, image: 'agent:1', command: [sleep, '3600']}]
"""


def wait_rolled_out(kubectl: Kubectl, namespace: str, what: str) -> str:
    return kubectl("-n", namespace, "rollout", "status", what, "--timeout=180s")


def images(kubectl: Kubectl, namespace: str, selector: str) -> list[str]:
    found = kubectl.json("-n", namespace, "get", "pods", "-l", selector)["items"]
    return [pod["spec"]["containers"][0]["image"] for pod in found if "deletionTimestamp" not in pod["metadata"]]


def test_a_daemon_set_is_created_rolled_out_undone_restarted_and_deleted(kubectl: Kubectl, namespace: str) -> None:
    answer = kubectl.run("-n", namespace, "apply", "-f", "-", stdin=DAEMON)
    assert (answer.status, answer.errors) == (0, "")
    assert 'daemon set "agent" successfully rolled out' in wait_rolled_out(kubectl, namespace, "daemonset/agent")
    assert images(kubectl, namespace, "app=agent") == ["agent:1"]

    kubectl("-n", namespace, "set", "image", "daemonset/agent", "main=agent:2")
    wait_rolled_out(kubectl, namespace, "daemonset/agent")
    assert images(kubectl, namespace, "app=agent") == ["agent:2"]
    history = kubectl("-n", namespace, "rollout", "history", "daemonset/agent").splitlines()
    assert [line.split()[0] for line in history if line[:1].isdigit()] == ["1", "2"]
    assert "agent:1" in kubectl("-n", namespace, "rollout", "history", "daemonset/agent", "--revision=1")
    again = kubectl("-n", namespace, "rollout", "undo", "daemonset/agent", "--to-revision=2")
    assert "skipped rollback (current template already matches revision 2)" in again

    assert "rolled back" in kubectl("-n", namespace, "rollout", "undo", "daemonset/agent")
    wait_rolled_out(kubectl, namespace, "daemonset/agent")
    assert images(kubectl, namespace, "app=agent") == ["agent:1"]
    before = kubectl("-n", namespace, "get", "pods", "-l", "app=agent", "-o", "name")
    kubectl("-n", namespace, "rollout", "restart", "daemonset/agent")
    wait_rolled_out(kubectl, namespace, "daemonset/agent")
    assert kubectl("-n", namespace, "get", "pods", "-l", "app=agent", "-o", "name") != before

    kubectl("-n", namespace, "delete", "daemonset", "agent", "--cascade=foreground", "--timeout=180s")
    assert kubectl("-n", namespace, "get", "pods,controllerrevisions", "-o", "name") == ""


STATEFUL = """
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  replicas: 2
  serviceName: peers
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: main, image: 'db:1', command: [sleep, '3600']}]
"""


def test_a_stateful_set_is_created_scaled_rolled_out_undone_and_deleted(kubectl: Kubectl, namespace: str) -> None:
    answer = kubectl.run("-n", namespace, "apply", "-f", "-", stdin=STATEFUL)
    assert (answer.status, answer.errors) == (0, "")
    assert "roll out complete: 2 new pods" in wait_rolled_out(kubectl, namespace, "statefulset/db")
    pods = kubectl("-n", namespace, "get", "pods", "-l", "app=db", "-o", "name").split()
    assert pods == ["pod/db-0", "pod/db-1"]
    uids = "jsonpath={.items[*].metadata.uid}"
    first = kubectl("-n", namespace, "get", "pods", "-l", "app=db", "-o", uids).split()

    kubectl("-n", namespace, "scale", "statefulset", "db", "--replicas=3")
    wait_rolled_out(kubectl, namespace, "statefulset/db")
    kubectl("-n", namespace, "set", "image", "statefulset/db", "main=db:2")
    wait_rolled_out(kubectl, namespace, "statefulset/db")
    assert images(kubectl, namespace, "app=db") == ["db:2"] * 3
    second = kubectl("-n", namespace, "get", "pods", "-l", "app=db", "-o", uids).split()
    assert not set(first) & set(second)
    history = kubectl("-n", namespace, "rollout", "history", "statefulset/db").splitlines()
    assert [line.split()[0] for line in history if line[:1].isdigit()] == ["1", "2"]

    assert "rolled back" in kubectl("-n", namespace, "rollout", "undo", "statefulset/db")
    wait_rolled_out(kubectl, namespace, "statefulset/db")
    assert images(kubectl, namespace, "app=db") == ["db:1"] * 3
    kubectl("-n", namespace, "scale", "statefulset", "db", "--replicas=1")
    kubectl("-n", namespace, "wait", "--for=delete", "pod/db-1", "pod/db-2", "--timeout=180s")
    assert kubectl("-n", namespace, "get", "pods", "-l", "app=db", "-o", "name").split() == ["pod/db-0"]

    kubectl("-n", namespace, "delete", "statefulset", "db", "--cascade=foreground", "--timeout=180s")
    assert kubectl("-n", namespace, "get", "pods,controllerrevisions", "-o", "name") == ""
