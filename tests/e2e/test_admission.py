"""Webhooks and policies with the real kubectl: a webhook in a process of its own, over TLS."""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest
import trustme

from tests.support import webhook_program
from tests.support.kubectl import Kubectl

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class Webhook:
    port: int
    ca_bundle: str


@pytest.fixture(scope="module")
def webhook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Webhook]:
    authority = trustme.CA()
    certificate = tmp_path_factory.mktemp("webhook") / "certificate.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
    command = [sys.executable, str(Path(webhook_program.__file__)), str(certificate)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Webhook(int(process.stdout.readline()), base64.b64encode(authority.cert_pem.bytes()).decode())
        finally:
            process.kill()


@pytest.fixture
def registered(kubectl: Kubectl, webhook: Webhook, namespace: str) -> Iterator[str]:
    """A namespace whose ConfigMaps the webhook sees."""
    configuration = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": namespace},
        "webhooks": [
            {
                "name": "maps.example.com",
                "clientConfig": {"url": f"https://127.0.0.1:{webhook.port}/", "caBundle": webhook.ca_bundle},
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"]}],
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
            }
        ],
    }
    kubectl("apply", "-f", "-", stdin=orjson.dumps(configuration).decode())
    yield namespace
    kubectl("delete", "mutatingwebhookconfiguration", namespace)


CONFIG_MAP = """
apiVersion: v1
kind: ConfigMap
metadata: {{name: {name}, labels: {{refuse: "{refuse}"}}}}
"""


def test_a_webhook_changes_and_refuses_what_kubectl_sends(kubectl: Kubectl, registered: str) -> None:
    created = kubectl("-n", registered, "create", "configmap", "a", "-o", "jsonpath={.metadata.annotations.hooked}")
    assert created == "CREATE"
    kubectl("-n", registered, "label", "configmap", "a", "x=y")
    annotation = ("get", "configmap", "a", "-o", "jsonpath={.metadata.annotations.hooked}")
    assert kubectl("-n", registered, *annotation) == "UPDATE"
    refused = kubectl.run("-n", registered, "apply", "-f", "-", stdin=CONFIG_MAP.format(name="b", refuse="not-today"))
    assert refused.status == 1
    assert 'admission webhook "maps.example.com" denied the request: not-today' in refused.errors
    seen = kubectl("-n", registered, "create", "configmap", "c", "--dry-run=server", "-o", "yaml")
    assert "hooked: CREATE" in seen
    kubectl("-n", registered, "delete", "configmap", "a")


POLICY = """
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {{name: {name}}}
spec:
  matchConstraints:
    resourceRules: [{{apiGroups: [apps], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [deployments]}}]
  validations:
  - {{expression: "object.spec.replicas <= 5"}}
  - {{expression: "object.spec.colour == 'red'"}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {{name: {name}}}
spec:
  policyName: {name}
  validationActions: [Deny]
  matchResources: {{namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {name}}}}}}}
"""


def test_a_policy_refuses_and_its_status_tells_what_is_wrong_with_it(kubectl: Kubectl, namespace: str) -> None:
    kubectl("apply", "-f", "-", stdin=POLICY.format(name=namespace))
    try:
        refused = kubectl.run("-n", namespace, "create", "deployment", "d", "--image=none", "--replicas=6")
        assert refused.status == 1
        told = f"ValidatingAdmissionPolicy '{namespace}' with binding '{namespace}' denied request: "
        assert told + "failed expression: object.spec.replicas <= 5" in refused.errors
        wanted = "jsonpath={.status.typeChecking.expressionWarnings[0].fieldRef}=spec.validations[1].expression"
        kubectl("wait", "validatingadmissionpolicy", namespace, f"--for={wanted}", "--timeout=180s")
        warning = "jsonpath={.status.typeChecking.expressionWarnings[0].warning}"
        found = kubectl("get", "validatingadmissionpolicy", namespace, "-o", warning)
        assert found.startswith("apps/v1, Kind=Deployment: ERROR: <input>:1:12: undefined field 'colour'")
    finally:
        kubectl("delete", "validatingadmissionpolicy,validatingadmissionpolicybinding", namespace)
