"""A node that joins with a bootstrap token, as `kubeadm join` has it: real processes, with kubectl."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubecore.client.kubeconfig import Kubeconfig
from tests.support.kubectl import Kubectl, of_version
from tests.support.process import PATIENCE, ROOT, Command, RunningCluster, running_cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TOKEN = "abcdef.0123456789abcdef"
BOOTSTRAPPERS = "system:bootstrappers:kubeadm:default-node-token"
SIGNING = "system:certificates.k8s.io:certificatesigningrequests"


def binding(name: str, role: str, group: str) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group}],
    }


# What kubeadm makes in a cluster.
OBJECTS = [
    {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "bootstrap-token-abcdef", "namespace": "kube-system"},
        "type": "bootstrap.kubernetes.io/token",
        "stringData": {
            "token-id": "abcdef",
            "token-secret": "0123456789abcdef",
            "usage-bootstrap-authentication": "true",
            "auth-extra-groups": BOOTSTRAPPERS,
        },
    },
    binding("kubeadm:kubelet-bootstrap", "system:node-bootstrapper", BOOTSTRAPPERS),
    binding("kubeadm:node-autoapprove-bootstrap", f"{SIGNING}:nodeclient", BOOTSTRAPPERS),
    binding("kubeadm:node-autoapprove-certificate-rotation", f"{SIGNING}:selfnodeclient", "system:nodes"),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    with running_cluster(tmp_path_factory.mktemp("cluster"), "--enable-bootstrap-token-auth") as running:
        yield running


@pytest.fixture(scope="module")
def kubectl(cluster: RunningCluster, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    kubectl = of_version("1.37", cluster.kubeconfig, tmp_path_factory.mktemp("kubectl"))
    kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": OBJECTS}))
    return kubectl


def bootstrap_kubeconfig(cluster: RunningCluster, folder: Path, token: str) -> Path:
    authority = Kubeconfig.load(cluster.kubeconfig).certificate_authority
    file = folder / "bootstrap.kubeconfig"
    Kubeconfig(server=cluster.url, certificate_authority=authority, token=token, user="kubelet-bootstrap").save(file)
    return file


def kubelet(node: str, folder: Path, bootstrap: Path) -> Command:
    own = ("--hostname-override", node, "--root-dir", str(folder / "root"))
    known_by = ("--kubeconfig", str(folder / "kubelet.kubeconfig"), "--bootstrap-kubeconfig", str(bootstrap))
    return Command("kubelet", *own, *known_by, "--rotate-certificates")


def test_a_node_joins_with_a_token_and_needs_it_no_more_afterwards(
    cluster: RunningCluster, kubectl: Kubectl, tmp_path: Path
) -> None:
    bootstrap = bootstrap_kubeconfig(cluster, tmp_path, TOKEN)
    first = kubelet("joined", tmp_path, bootstrap)
    try:
        first.wait_for("is ready")
        kubectl("wait", "--for=condition=Ready", "node/joined", "--timeout=180s")
    finally:
        first.stop()
    (asked,) = kubectl.json("get", "csr")["items"]
    assert asked["spec"]["username"] == "system:bootstrap:abcdef"
    told = [(one["type"], one["reason"]) for one in asked["status"]["conditions"]]
    assert told == [("Approved", "AutoApproved")]
    pair = (tmp_path / "root" / "pki" / "kubelet-client-current.pem").read_bytes()
    own = Kubeconfig.load(tmp_path / "kubelet.kubeconfig")
    assert own.client_certificate == own.client_key == pair

    bootstrap.unlink()
    kubectl("delete", "secret", "-n", "kube-system", "bootstrap-token-abcdef")
    second = kubelet("joined", tmp_path, bootstrap)
    try:
        second.wait_for("is ready")
    finally:
        second.stop()
    assert len(kubectl.json("get", "csr")["items"]) == 1


def eventually(kubectl: Kubectl, *arguments: str) -> str:
    """What a command says once it says anything."""
    deadline = time.monotonic() + PATIENCE
    while True:
        answer = kubectl.run(*arguments)
        if (answer.status == 0 and answer.output) or time.monotonic() > deadline:
            assert answer.status == 0, answer.errors
            return answer.output
        time.sleep(0.2)


def test_pods_of_a_node_are_read_once_its_serving_certificate_is_approved(
    cluster: RunningCluster, kubectl: Kubectl, tmp_path: Path
) -> None:
    """The API server of `kubecore up` knows kubelets by its own authority, and asks nobody else."""
    user = ["kubeconfig", "user", "--data-dir", str(cluster.data_dir), "--client-name", "system:node:asked"]
    made = subprocess.run(
        [sys.executable, "-m", "kubecore", *user, "--org", "system:nodes"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    own, config = tmp_path / "own.kubeconfig", tmp_path / "config.yaml"
    own.write_text(made.stdout)
    config.write_text(
        "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nserverTLSBootstrap: true\n"
    )
    command = ("--kubeconfig", str(own), "--config", str(config), "--root-dir", str(tmp_path / "root"))
    node = Command("kubelet", *command, "--hostname-override", "asked")
    try:
        node.wait_for("is ready")
        container = {"name": "main", "image": "none", "command": ["sh", "-c", "echo said; exec sleep 1000"]}
        spec = {"nodeName": "asked", "terminationGracePeriodSeconds": 0, "containers": [container]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "far"}, "spec": spec}
        kubectl("create", "-f", "-", stdin=json.dumps(pod))
        kubectl("wait", "pod/far", "--for=condition=Ready", "--timeout=180s")
        assert kubectl.run("logs", "far").status == 1
        mine = "--field-selector=spec.signerName=kubernetes.io/kubelet-serving"
        asked = eventually(kubectl, "get", "csr", mine, "-o", "name").split()
        kubectl("certificate", "approve", *asked)
        assert eventually(kubectl, "logs", "far") == "said\n"
        assert kubectl("exec", "far", "--", "echo", "inside") == "inside\n"
    finally:
        node.stop()


def test_a_node_with_a_token_that_nobody_knows_ends_and_says_why(cluster: RunningCluster, tmp_path: Path) -> None:
    refused = kubelet("stranger", tmp_path, bootstrap_kubeconfig(cluster, tmp_path, "zzzzzz.0123456789abcdef"))
    assert refused.process.wait(timeout=60) == 1
    assert refused.errors.splitlines()[-1] == "kubecore: Unauthorized"
    assert not (tmp_path / "kubelet.kubeconfig").exists()
    refused.kill()
