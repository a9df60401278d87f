"""A short tour of objects with each kubectl that test_kubectl_verbs.py leaves out: no pods run."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.kubectl import Kubectl, of_version, own_namespace
from tests.support.process import RunningCluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

IDLE = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: idle, labels: {app: idle}}
spec:
  replicas: 0
  selector: {matchLabels: {app: idle}}
  template:
    metadata: {labels: {app: idle}}
    spec: {containers: [{name: main, image: none}]}
"""
MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: map, labels: {of: test}}\ndata: {a: '1'}\n"


@pytest.fixture(scope="module", params=["1.28", "1.29", "1.30", "1.31", "1.32", "1.34", "1.35", "1.36"])
def kubectl(
    cluster: RunningCluster, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Kubectl:
    return of_version(request.param, cluster.kubeconfig, tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def namespace(kubectl: Kubectl) -> Iterator[str]:
    with own_namespace(kubectl, "versions") as name:
        kubectl("-n", name, "create", "-f", "-", stdin=IDLE)
        yield name


def test_it_shows_what_there_is(kubectl: Kubectl, namespace: str) -> None:
    get = ("-n", namespace, "get", "deployment", "idle")
    assert kubectl(*get).splitlines()[0].split() == ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"]
    assert kubectl(*get, "-o", "wide").splitlines()[0].split()[5:] == ["CONTAINERS", "IMAGES", "SELECTOR"]
    assert kubectl.json(*get)["spec"]["replicas"] == 0
    assert "  replicas: 0\n" in kubectl(*get, "-o", "yaml")
    with kubectl.running(*get, "-o", "name", "--watch", stdout=subprocess.PIPE) as watch:
        assert watch.stdout is not None
        assert watch.stdout.readline() == b"deployment.apps/idle\n"
    assert kubectl(*get, "-o", "jsonpath={.spec.replicas}") == "0"
    assert kubectl(*get, "-o", "custom-columns=N:.metadata.name").split() == ["N", "idle"]
    listed = (
        "-A",
        "-l",
        "app in (idle)",
        f"--field-selector=metadata.namespace={namespace}",
        "--sort-by=.metadata.name",
    )
    assert kubectl("get", "deployments", *listed, "-o", "name").strip() == "deployment.apps/idle"
    assert "StrategyType:" in kubectl("-n", namespace, "describe", "deployment", "idle")
    assert re.search(r"rollingUpdate\s+<", kubectl("explain", "deployment", "--recursive"))
    assert re.search(r"^deployments\s+deploy\s+apps/v1", kubectl("api-resources"), re.MULTILINE)
    assert "apps/v1" in kubectl("api-versions").split()
    assert "kubernetes-admin" in kubectl("auth", "whoami")


def test_it_writes_in_every_way(kubectl: Kubectl, namespace: str, tmp_path: Path) -> None:
    here, text = ("-n", namespace), ("-f", "-")
    assert "created" in kubectl(*here, "apply", *text, stdin=MAP)
    changed = MAP.replace("'1'", "'2'")
    assert '+  a: "2"' in kubectl.run(*here, "diff", *text, stdin=changed).output
    assert "configured" in kubectl(*here, "apply", *text, stdin=changed)
    side = ("apply", "--server-side", "--field-manager=other")
    assert "conflict" in kubectl.run(*here, *side, *text, stdin=MAP).errors
    assert "serverside-applied" in kubectl(*here, *side, "--force-conflicts", *text, stdin=MAP)
    assert "replaced" in kubectl(*here, "replace", *text, stdin=MAP.replace("a: '1'", "b: '1'"))
    for kind, patch in (
        ("strategic", {"data": {"c": "3"}}),
        ("merge", {"data": {"d": "4"}}),
        ("json", [{"op": "add", "path": "/data/e", "value": "5"}]),
    ):
        kubectl(*here, "patch", "configmap", "map", f"--type={kind}", "-p", json.dumps(patch))
    editing = tmp_path / "editor"
    editing.write_text('#!/bin/sh\nsed -i \'s/e: "5"/e: "6"/\' "$1"\n')
    editing.chmod(0o755)
    kubectl.with_variables(KUBE_EDITOR=str(editing))(*here, "edit", "configmap", "map")
    kubectl(*here, "label", "configmap", "map", "also=here")
    kubectl(*here, "annotate", "configmap", "map", "note=this")
    found = kubectl.json(*here, "get", "configmap", "map")
    assert found["data"] == {"b": "1", "c": "3", "d": "4", "e": "6"}
    assert found["metadata"]["labels"] == {"of": "test", "also": "here"}
    assert found["metadata"]["annotations"]["note"] == "this"
    kubectl(*here, "scale", "deployment", "idle", "--replicas=0", "--record")
    kubectl(*here, "set", "image", "deployment/idle", "main=other", "--record")
    causes = kubectl(*here, "get", "deployment", "idle", "-o", "jsonpath={.metadata.annotations}")
    assert "set image" in json.loads(causes)["kubernetes.io/change-cause"]


def test_it_deletes_and_waits(kubectl: Kubectl, namespace: str) -> None:
    here = ("-n", namespace)
    for name in ("one", "two"):
        kubectl(*here, "create", "configmap", name)
        kubectl(*here, "label", "configmap", name, "goes=away")
    assert len(kubectl(*here, "delete", "configmap", "-l", "goes=away").splitlines()) == 2
    kubectl(*here, "create", "-f", "-", stdin=IDLE.replace("idle", "owner"))
    kubectl(*here, "wait", "--for=jsonpath={.status.observedGeneration}=1", "deployment/owner", "--timeout=180s")
    kubectl(*here, "delete", "deployment", "owner", "--cascade=orphan")
    [left] = kubectl(*here, "get", "replicasets", "-l", "app=owner", "-o", "name").split()
    kubectl(*here, "delete", left, "--grace-period=0", "--force")
    kubectl(*here, "wait", "--for=delete", left, "--timeout=180s")
    assert "not found" in kubectl.run(*here, "get", left).errors
