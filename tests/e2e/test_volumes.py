"""Persistent volumes as users have them: claims, the default class, classes of their own, StatefulSets."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.kubectl import Kubectl

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CLAIM = """
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: NAME}
spec:
  CLASS
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 1Gi}}
"""

POD = """
apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: app, command: [sh, -c, 'COMMAND'], volumeMounts: [{name: data, mountPath: /data}]}
  volumes: [{name: data, persistentVolumeClaim: {claimName: CLAIM}}]
"""

CLASS = """
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: kept}
provisioner: kubecore.dev/local-path
volumeBindingMode: Immediate
reclaimPolicy: Retain
"""

SET = """
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  replicas: 2
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: db
        command: [sh, -c, 'echo $HOSTNAME >> /data/log; sleep 3600']
        volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
"""


def apply(kubectl: Kubectl, namespace: str, manifest: str, **values: str) -> None:
    for name, value in values.items():
        manifest = manifest.replace(name, value)
    answer = kubectl.run("-n", namespace, "apply", "-f", "-", stdin=manifest)
    assert (answer.status, answer.errors) == (0, "")


def run_to_end(kubectl: Kubectl, namespace: str, name: str, command: str, claim: str, manifest: str = POD) -> str:
    """What a pod that mounts the claim at /data and runs the command says; the pod is deleted."""
    apply(kubectl, namespace, manifest, NAME=name, COMMAND=command, CLAIM=claim)
    phase = "--for=jsonpath={.status.phase}=Succeeded"
    kubectl("-n", namespace, "wait", phase, f"pod/{name}", "--timeout=180s")
    said = kubectl("-n", namespace, "logs", name)
    kubectl("-n", namespace, "delete", "pod", name, "--timeout=180s")
    return said


def volume_of(kubectl: Kubectl, namespace: str, claim: str) -> str:
    return kubectl("-n", namespace, "get", "pvc", claim, "-o", "jsonpath={.spec.volumeName}")


def folder_of(kubectl: Kubectl, volume: str) -> Path:
    return Path(kubectl("get", "pv", volume, "-o", "jsonpath={.spec.hostPath.path}"))


def test_what_a_pod_writes_into_its_claim_another_reads_and_the_folder_goes_with_the_claim(
    kubectl: Kubectl, namespace: str
) -> None:
    assert "standard (default)" in kubectl("get", "storageclass")
    apply(kubectl, namespace, CLAIM, NAME="data", CLASS="")
    waiting = kubectl("-n", namespace, "get", "pvc", "data", "--no-headers").split()
    assert waiting[1:3] == ["Pending", "standard"]
    told = {"name": "data", "component": "persistentvolume-controller"}
    told["message"] = "waiting for first consumer to be created before binding"
    assert kubectl.event(namespace, "WaitForFirstConsumer") == told

    run_to_end(kubectl, namespace, "writer", "echo kept > /data/file", "data")
    assert run_to_end(kubectl, namespace, "reader", "cat /data/file", "data") == "kept\n"

    volume = volume_of(kubectl, namespace, "data")
    folder = folder_of(kubectl, volume)
    assert (folder / "file").read_text() == "kept\n"
    kubectl("-n", namespace, "delete", "pvc", "data", "--timeout=180s")
    kubectl("wait", "--for=delete", f"pv/{volume}", "--timeout=180s")
    assert not folder.exists()


def test_a_class_of_ones_own_binds_at_once_and_retains(kubectl: Kubectl, namespace: str) -> None:
    apply(kubectl, namespace, CLASS)
    try:
        apply(kubectl, namespace, CLAIM, NAME="data", CLASS="storageClassName: kept")
        bound = "--for=jsonpath={.status.phase}=Bound"
        kubectl("-n", namespace, "wait", bound, "pvc/data", "--timeout=180s")
        run_to_end(kubectl, namespace, "writer", "echo kept > /data/file", "data")
        volume = volume_of(kubectl, namespace, "data")
        folder = folder_of(kubectl, volume)
        kubectl("-n", namespace, "delete", "pvc", "data", "--timeout=180s")
        released = "--for=jsonpath={.status.phase}=Released"
        kubectl("wait", released, f"pv/{volume}", "--timeout=180s")
        assert (folder / "file").read_text() == "kept\n"
        kubectl("delete", "pv", volume, "--timeout=180s")
    finally:
        kubectl("delete", "storageclass", "kept")


def test_each_pod_of_a_stateful_set_keeps_its_claim(kubectl: Kubectl, namespace: str) -> None:
    apply(kubectl, namespace, SET)
    kubectl("-n", namespace, "rollout", "status", "statefulset/db", "--timeout=180s")
    claims = kubectl.json("-n", namespace, "get", "pvc")["items"]
    assert {one["metadata"]["name"]: one["status"]["phase"] for one in claims} == {
        "data-db-0": "Bound",
        "data-db-1": "Bound",
    }
    log = folder_of(kubectl, volume_of(kubectl, namespace, "data-db-1")) / "log"

    def until_written(lines: int) -> None:
        """A pod is ready before its program has written anything."""
        until = f"until [ $(wc -l < /data/log) -ge {lines} ]; do sleep 0.1; done"
        kubectl("-n", namespace, "exec", "db-1", "--", "sh", "-c", until)

    until_written(1)
    kubectl("-n", namespace, "delete", "pod", "db-1", "--timeout=180s")
    kubectl("-n", namespace, "rollout", "status", "statefulset/db", "--timeout=180s")
    kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/db-1", "--timeout=180s")
    until_written(2)
    assert log.read_text().split() == ["db-1", "db-1"]


def test_a_claim_in_use_may_grow_and_is_kept_until_its_pod_is_gone(kubectl: Kubectl, namespace: str) -> None:
    apply(kubectl, namespace, CLAIM, NAME="data", CLASS="")
    apply(kubectl, namespace, POD, NAME="user", COMMAND="sleep 3600", CLAIM="data")
    kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/user", "--timeout=180s")
    kubectl("-n", namespace, "patch", "pvc", "data", "-p", '{"spec":{"resources":{"requests":{"storage":"3Gi"}}}}')
    grown = "--for=jsonpath={.status.capacity.storage}=3Gi"
    kubectl("-n", namespace, "wait", grown, "pvc/data", "--timeout=180s")

    kubectl("-n", namespace, "delete", "pvc", "data", "--wait=false")
    assert "Terminating" in kubectl("-n", namespace, "get", "pvc", "data")
    kubectl("-n", namespace, "delete", "pod", "user", "--timeout=180s")
    kubectl("-n", namespace, "wait", "--for=delete", "pvc/data", "--timeout=180s")


def test_an_ephemeral_volume_comes_and_goes_with_its_pod(kubectl: Kubectl, namespace: str) -> None:
    template = "{spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}"
    ephemeral = POD.replace(
        "persistentVolumeClaim: {claimName: CLAIM}", f"ephemeral: {{volumeClaimTemplate: {template}}}"
    )
    said = run_to_end(kubectl, namespace, "short", "echo here > /data/file; cat /data/file", "", ephemeral)
    assert said == "here\n"
    kubectl("-n", namespace, "wait", "--for=delete", "pvc/short-data", "--timeout=180s")


RECYCLED = """
apiVersion: v1
kind: PersistentVolume
metadata: {name: recycled}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  storageClassName: recycled
  persistentVolumeReclaimPolicy: Recycle
  hostPath: {path: FOLDER}
"""


def test_a_volume_that_is_recycled_is_emptied_and_available_again(
    kubectl: Kubectl, namespace: str, tmp_path: Path
) -> None:
    folder = tmp_path / "recycled"
    folder.mkdir()
    (folder / "file").write_text("of the last one")
    made = kubectl.run("apply", "-f", "-", stdin=RECYCLED.replace("FOLDER", str(folder)))
    assert "The Recycle reclaim policy is deprecated" in made.errors
    apply(kubectl, namespace, CLAIM, NAME="data", CLASS="storageClassName: recycled")
    kubectl("-n", namespace, "wait", "--for=jsonpath={.status.phase}=Bound", "pvc/data", "--timeout=180s")
    kubectl("-n", namespace, "delete", "pvc", "data", "--timeout=180s")
    kubectl("wait", "--for=jsonpath={.status.phase}=Available", "pv/recycled", "--timeout=180s")
    assert list(folder.iterdir()) == []
    assert kubectl.event("default", "VolumeRecycled")["message"] == "Volume recycled"
    kubectl("delete", "pv", "recycled", "--timeout=180s")
