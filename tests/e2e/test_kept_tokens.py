"""A Secret that keeps a token of a service account, made and used with kubectl."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tests.support.kubectl import Kubectl
from tests.support.process import RunningCluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SECRET = """
apiVersion: v1
kind: Secret
type: kubernetes.io/service-account-token
metadata: {name: kept, annotations: {kubernetes.io/service-account.name: robot}}
"""


def test_a_secret_for_an_account_gets_a_token_that_the_api_takes(
    kubectl: Kubectl, namespace: str, cluster: RunningCluster, tmp_path: Path
) -> None:
    kubectl("-n", namespace, "create", "serviceaccount", "robot")
    assert kubectl.run("-n", namespace, "create", "-f", "-", stdin=SECRET).status == 0
    kubectl("-n", namespace, "wait", "--for=jsonpath={.data.token}", "secret/kept", "--timeout=180s")
    data = kubectl.json("-n", namespace, "get", "secret", "kept")["data"]
    assert base64.b64decode(data["namespace"]).decode() == namespace
    authority = tmp_path / "ca.crt"
    authority.write_bytes(base64.b64decode(data["ca.crt"]))
    server = ("--server", cluster.url, "--certificate-authority", str(authority), "--kubeconfig", "/dev/null")
    token = base64.b64decode(data["token"]).decode()
    said = kubectl("auth", "whoami", "--token", token, *server)
    assert f"system:serviceaccount:{namespace}:robot" in said

    kubectl("-n", namespace, "delete", "serviceaccount", "robot")
    kubectl("-n", namespace, "wait", "--for=delete", "secret/kept", "--timeout=180s")
