"""Kubernetes' own example of an extension API server, k8s.io/sample-apiserver, in a pod behind an APIService: set up by
the manifests of its module, used with kubectl.

Only its Deployment is ours: the host runtime runs the program in `sample_apiserver`, which brings its own store.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import go_programs
from tests.support.kubectl import Kubectl
from tests.support.process import RunningCluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

JSON = dict[str, Any]
SOURCES = Path(__file__).parent / "sample_apiserver"
MANIFESTS = ("ns", "sa", "rbac", "rbac-bind", "auth-delegator", "auth-reader")
GROUP, SERVER = "wardle.example.com", "wardle-server"
PATIENCE = 180.0
SERVICES = [f"{version}.{GROUP}" for version in ("v1alpha1", "v1beta1")]


def manifests() -> Path:
    asked = ["go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/sample-apiserver"]
    found = subprocess.run(asked, cwd=SOURCES, capture_output=True, text=True, check=True).stdout.strip()
    return Path(found, "artifacts", "example")


def deployment(program: Path, folder: Path) -> JSON:
    labels = {"apiserver": "true"}
    command = [str(program), str(folder / "store"), "--secure-port", "8443", "--cert-dir", str(folder / "certs")]
    container = {
        "name": SERVER,
        "image": "none",
        "command": [*command, "--audit-log-path", str(folder / "audit.log"), "--audit-policy-file"],
        "readinessProbe": {"httpGet": {"scheme": "HTTPS", "port": 8443, "path": "/readyz"}, "periodSeconds": 1},
    }
    policy = folder / "policy.yaml"
    policy.write_text("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]\n")
    container["command"].append(str(policy))
    template = {"metadata": {"labels": labels}, "spec": {"serviceAccountName": "apiserver", "containers": [container]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": SERVER, "namespace": "wardle"},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }


def service() -> JSON:
    ports = [{"port": 443, "protocol": "TCP", "targetPort": 8443}]
    spec = {"ports": ports, "selector": {"apiserver": "true"}}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "api", "namespace": "wardle"}, "spec": spec}


def api_service(name: str) -> JSON:
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": name},
        "spec": {
            "group": GROUP,
            "version": name.partition(".")[0],
            "groupPriorityMinimum": 1000,
            "versionPriority": 15,
            "insecureSkipTLSVerify": True,
            "service": {"name": "api", "namespace": "wardle"},
        },
    }


def kind(name: str, of: str = "Flunder", version: str = "v1alpha1", **more: Any) -> str:
    obj = {"apiVersion": f"{GROUP}/{version}", "kind": of, "metadata": {"name": name}, **more}
    return json.dumps(obj)


@pytest.fixture(scope="module")
def wardle(kubectl: Kubectl, cluster: RunningCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder that the extension API server keeps its files in, once it is available."""
    folder = tmp_path_factory.mktemp("wardle")
    program = go_programs.built(SOURCES.name)
    for name in MANIFESTS:
        kubectl("apply", "-f", str(manifests() / f"{name}.yaml"))
    for obj in (deployment(program, folder), service(), *map(api_service, SERVICES)):
        kubectl("apply", "-f", "-", stdin=json.dumps(obj))
    try:
        kubectl(
            "wait",
            "--for=condition=Available",
            *[f"apiservice/{one}" for one in SERVICES],
            "--timeout=180s",
        )
        yield folder
    finally:
        kubectl("delete", "apiservice", *SERVICES)
        kubectl("delete", "namespace", "wardle", "--wait=false")
        for name in MANIFESTS[2:]:
            kubectl("delete", "-f", str(manifests() / f"{name}.yaml"), "--ignore-not-found")


def test_its_kinds_are_discovered_and_explained(kubectl: Kubectl, wardle: Path) -> None:
    told = kubectl("api-resources", "--api-group", GROUP, "--no-headers")
    assert [line.split()[0] for line in told.splitlines()] == ["fischers", "flunders"]
    assert {f"{GROUP}/v1alpha1", f"{GROUP}/v1beta1"} <= set(kubectl("api-versions").split())
    explained = kubectl("explain", "flunders.spec.referenceType", "--api-version", f"{GROUP}/v1alpha1")
    assert 'defaults to "Flunder" if reference is set' in explained


def test_its_objects_are_written_and_read_as_others(kubectl: Kubectl, wardle: Path, namespace: str) -> None:
    made = kubectl("-n", namespace, "create", "-f", "-", stdin=kind("one", spec={"reference": "two"}))
    assert made == f"flunder.{GROUP}/one created\n"
    alpha, beta = (f"flunders.{version}.{GROUP}" for version in ("v1alpha1", "v1beta1"))
    read = [kubectl.json("-n", namespace, "get", one, "one")["spec"] for one in (alpha, beta)]
    told = {"referenceType": "Flunder"}
    assert read == [{"reference": "two", **told}, {"flunderReference": "two", **told}]
    kubectl("-n", namespace, "label", "flunder", "one", "a=b")
    kubectl("-n", namespace, "patch", alpha, "one", "--type=merge", "-p", '{"spec":{"reference":"three"}}')
    applied = kind("one", spec={"reference": "four"})
    kubectl("-n", namespace, "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=applied)
    assert kubectl("-n", namespace, "get", alpha, "-l", "a=b", "-o", "jsonpath={..reference}") == "four"
    kubectl("-n", namespace, "delete", "flunder", "one")
    assert kubectl("-n", namespace, "get", "flunders", "-o", "name") == ""


def test_a_watch_of_its_objects_goes_through(kubectl: Kubectl, wardle: Path, namespace: str) -> None:
    command = ["-n", namespace, "get", "flunders", "--watch", "-o", "name"]
    with kubectl.running(*command, stdout=subprocess.PIPE) as watch:
        kubectl("-n", namespace, "create", "-f", "-", stdin=kind("seen"))
        assert watch.stdout is not None
        assert watch.stdout.readline().decode().strip() == f"flunder.{GROUP}/seen"


def test_its_own_admission_has_its_say(kubectl: Kubectl, wardle: Path, namespace: str) -> None:
    kubectl("create", "-f", "-", stdin=kind("fisher", of="Fischer", disallowedFlunders=["banned"]))
    try:
        # Its plugin follows what it bans by a watch of its own, and does not say how far it has come.
        asked = ("-n", namespace, "create", "--dry-run=server", "-f", "-")
        ends = time.monotonic() + PATIENCE
        while not (refused := kubectl.run(*asked, stdin=kind("banned"))).status:
            assert time.monotonic() < ends, f"a banned name may still be used after {PATIENCE} s: {refused.output}"
        assert refused.status == 1
        assert 'flunders.wardle.example.com "banned" is forbidden: this name may not be used' in refused.errors
        kubectl("-n", namespace, "create", "-f", "-", stdin=kind("allowed"))
    finally:
        kubectl("delete", "fischer", "fisher")


def test_it_hears_who_asks_and_only_of_who_may(kubectl: Kubectl, wardle: Path, namespace: str) -> None:
    refused = kubectl.run("-n", namespace, "get", "flunders", "--as", "jane", "--as-group", "dev")
    assert refused.status == 1
    assert 'User "jane" cannot list resource "flunders" in API group "wardle.example.com"' in refused.errors
    role = "reads-flunders"
    kubectl("-n", namespace, "create", "role", role, "--verb=list", f"--resource=flunders.{GROUP}")
    kubectl("-n", namespace, "create", "rolebinding", role, f"--role={role}", "--user=jane")
    kubectl("-n", namespace, "get", "flunders", "--as", "jane", "--as-group", "dev")
    heard = [json.loads(line) for line in (wardle / "audit.log").read_text().splitlines()]
    users = [one["user"] for one in heard if (one.get("objectRef") or {}).get("namespace") == namespace]
    assert {"username": "jane", "groups": ["dev", "system:authenticated"]} in users


def test_a_namespace_that_is_deleted_takes_its_objects_along(kubectl: Kubectl, wardle: Path) -> None:
    kubectl("create", "namespace", "flunders-in-here")
    kubectl("-n", "flunders-in-here", "create", "-f", "-", stdin=kind("one"))
    kubectl("delete", "namespace", "flunders-in-here", "--timeout=180s")
    assert kubectl("get", "flunders", "-A", "--field-selector", "metadata.name=one", "-o", "name") == ""
