"""CustomResourceDefinitions as kubectl's users meet them, on a whole cluster."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support.conversion_webhook import ConversionWebhook, serving
from tests.support.kubectl import Kubectl, program
from tests.support.process import RunningCluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CRONTABS = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: crontabs.steady.example.com}
spec:
  group: steady.example.com
  scope: Namespaced
  names: {plural: crontabs, singular: crontab, kind: CronTab, shortNames: [ct], categories: [all]}
  versions:
    - name: v1
      served: true
      storage: true
      schema:
        openAPIV3Schema:
          type: object
          description: A table of things to do.
          properties:
            spec:
              type: object
              description: What is wanted.
              required: [cronSpec]
              x-kubernetes-validations:
                - rule: "!has(self.replicas) || self.replicas <= 10"
                  messageExpression: "'%d replicas, no more than 10 may be'.format([self.replicas])"
                  fieldPath: .replicas
              properties:
                cronSpec:
                  type: string
                  description: When to do it.
                  x-kubernetes-validations: [{rule: self == oldSelf, message: is immutable}]
                image: {type: string, default: busybox}
                replicas: {type: integer, minimum: 0}
            status:
              type: object
              properties: {replicas: {type: integer}, labelSelector: {type: string}}
      subresources:
        status: {}
        scale:
          specReplicasPath: .spec.replicas
          statusReplicasPath: .status.replicas
          labelSelectorPath: .status.labelSelector
      additionalPrinterColumns:
        - {name: Spec, type: string, jsonPath: .spec.cronSpec}
        - {name: Replicas, type: integer, jsonPath: .spec.replicas}
        - {name: Image, type: string, jsonPath: .spec.image, priority: 1}
"""

CRONTAB = """
apiVersion: steady.example.com/v1
kind: CronTab
metadata: {{name: {name}}}
spec: {{cronSpec: "*/5 * * * *", replicas: 2}}
"""


@pytest.fixture(scope="module", params=["1.27", "1.37"])
def kubectl(
    cluster: RunningCluster, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Kubectl:
    found = program(request.param)
    if found is None:
        pytest.skip(f"kubectl {request.param} is not on this machine")
    return Kubectl(found, cluster.kubeconfig, tmp_path_factory.mktemp("home"))


def made_namespace(kubectl: Kubectl, name: str) -> None:
    kubectl("create", "-f", "-", stdin=f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n")


@pytest.fixture
def namespace(kubectl: Kubectl, request: pytest.FixtureRequest) -> Iterator[str]:
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[-50:].strip("-")
    made_namespace(kubectl, name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="module")
def crontabs(kubectl: Kubectl) -> Iterator[str]:
    kubectl("create", "-f", "-", stdin=CRONTABS)
    kubectl.established("crontabs.steady.example.com")
    yield "crontabs.steady.example.com"
    kubectl("delete", "crd", "crontabs.steady.example.com", "--ignore-not-found", "--timeout=180s")


def crontab(kubectl: Kubectl, namespace: str, name: str) -> None:
    kubectl("-n", namespace, "apply", "-f", "-", stdin=CRONTAB.format(name=name))


# What was there before the kind it is about: who may see its objects, and how many there may be.
BEFOREHAND = """
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: sees}
rules: [{apiGroups: [soon.example.com], resources: [ctabs], verbs: [get, list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: sees}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: sees}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: jane}]
---
apiVersion: v1
kind: ResourceQuota
metadata: {name: one}
spec: {hard: {count/ctabs.soon.example.com: "1"}}
"""


@pytest.fixture
def ctabs(kubectl: Kubectl, namespace: str) -> Iterator[str]:
    """Just defined: what was said of the kind before, its definition, and no wait but that of the condition."""
    kubectl("-n", namespace, "create", "-f", "-", stdin=BEFOREHAND)
    definition = CRONTABS.replace("crontabs", "ctabs").replace("crontab", "ctab").replace("CronTab", "CTab")
    definition = definition.replace("steady.example.com", "soon.example.com").replace("[ct]", "[cx]")
    kubectl("create", "-f", "-", stdin=definition)
    kubectl.established("ctabs.soon.example.com")
    yield "ctabs.soon.example.com"
    kubectl("delete", "crd", "ctabs.soon.example.com", "--timeout=180s")


def ctab(name: str) -> str:
    return CRONTAB.format(name=name).replace("steady", "soon").replace("CronTab", "CTab")


def test_a_definition_is_there_at_once(kubectl: Kubectl, namespace: str, ctabs: str) -> None:
    """In discovery, both forms of OpenAPI and `explain`, under RBAC and quota, and for the garbage collector."""
    listed = kubectl("api-resources", "--api-group=soon.example.com", "--no-headers").split()
    assert listed == ["ctabs", "cx", "soon.example.com/v1", "true", "CTab"]
    assert re.search(r"^ *cronSpec\b.*<string>", kubectl("explain", "ctab", "--recursive"), re.MULTILINE)
    documents = [kubectl("get", "--raw", path) for path in ("/openapi/v3/apis/soon.example.com/v1", "/openapi/v2")]
    assert all("com.example.soon.v1.CTab" in text and "When to do it." in text for text in documents)

    assert kubectl("-n", namespace, "get", "cx", "-o", "name", "--as=jane") == ""
    refused = kubectl.run("-n", namespace, "create", "-f", "-", "--as=jane", stdin=ctab("first")).errors
    assert 'User "jane" cannot create resource "ctabs" in API group "soon.example.com"' in refused

    counted = f"--for=jsonpath={{.status.used.count/{ctabs.replace('.', chr(92) + '.')}}}=0"
    kubectl("-n", namespace, "wait", "resourcequota/one", counted, "--timeout=180s")
    kubectl("-n", namespace, "create", "-f", "-", stdin=ctab("first"))
    assert kubectl("-n", namespace, "get", "cx", "-o", "name", "--as=jane").strip() == "ctab.soon.example.com/first"
    refused = kubectl.run("-n", namespace, "create", "-f", "-", stdin=ctab("second")).errors
    assert (
        f"exceeded quota: one, requested: count/{ctabs}=1, used: count/{ctabs}=1, limited: count/{ctabs}=1" in refused
    )

    uid = kubectl("-n", namespace, "get", "cx", "first", "-o", "jsonpath={.metadata.uid}")
    owner = {"apiVersion": "soon.example.com/v1", "kind": "CTab", "name": "first", "uid": uid}
    owned = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "its", "ownerReferences": [owner]}}
    kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(owned))
    kubectl("-n", namespace, "delete", "cx", "first")
    kubectl("-n", namespace, "wait", "--for=delete", "configmap/its", "--timeout=180s")


def test_explain_describes_the_kind(kubectl: Kubectl, crontabs: str) -> None:
    described = kubectl("explain", "crontab.spec")
    assert "What is wanted." in described
    assert "cronSpec" in described
    assert "-required-" in described
    assert "When to do it." in kubectl("explain", "ct.spec.cronSpec")


def test_api_resources_lists_it(kubectl: Kubectl, crontabs: str) -> None:
    listed = kubectl("api-resources", "--api-group=steady.example.com", "--no-headers").split()
    assert listed == ["crontabs", "ct", "steady.example.com/v1", "true", "CronTab"]


def test_get_prints_the_columns_asked_for(kubectl: Kubectl, crontabs: str, namespace: str) -> None:
    crontab(kubectl, namespace, "one")
    plain = kubectl("-n", namespace, "get", "ct").splitlines()
    assert plain[0].split() == ["NAME", "SPEC", "REPLICAS"]
    assert plain[1].split() == ["one", "*/5", "*", "*", "*", "*", "2"]
    assert "busybox" in kubectl("-n", namespace, "get", "ct", "-o", "wide")
    assert "crontab.steady.example.com/one" in kubectl("-n", namespace, "get", "all")


def test_apply_on_either_side(kubectl: Kubectl, crontabs: str, namespace: str) -> None:
    crontab(kubectl, namespace, "one")
    changed = CRONTAB.format(name="one").replace("replicas: 2", "replicas: 4")
    assert "configured" in kubectl("-n", namespace, "apply", "-f", "-", stdin=changed)
    assert kubectl.json("-n", namespace, "get", "ct", "one")["spec"]["replicas"] == 4
    assert "unchanged" in kubectl("-n", namespace, "apply", "-f", "-", stdin=changed)
    kubectl("-n", namespace, "apply", "--server-side", "-f", "-", stdin=CRONTAB.format(name="two"))
    assert kubectl.json("-n", namespace, "get", "ct", "two")["spec"]["image"] == "busybox"


def test_an_invalid_object_is_refused(kubectl: Kubectl, crontabs: str, namespace: str) -> None:
    bad = CRONTAB.format(name="bad").replace("replicas: 2", "replicas: -1")
    refused = kubectl.run("-n", namespace, "create", "-f", "-", stdin=bad)
    assert refused.status == 1
    assert "spec.replicas in body should be greater than or equal to 0" in refused.errors
    unknown = CRONTAB.format(name="bad").replace("replicas: 2", "relpicas: 2")
    refused = kubectl.run("-n", namespace, "create", "-f", "-", stdin=unknown)
    assert refused.status == 1
    assert 'unknown field "spec.relpicas"' in refused.errors


def test_rules_are_kept_to(kubectl: Kubectl, crontabs: str, namespace: str) -> None:
    many = CRONTAB.format(name="one").replace("replicas: 2", "replicas: 11")
    refused = kubectl.run("-n", namespace, "apply", "-f", "-", stdin=many)
    assert refused.status == 1
    told = "spec.replicas: Invalid value: 11 replicas, no more than 10 may be"
    assert f'The CronTab "one" is invalid: {told}' in refused.errors
    crontab(kubectl, namespace, "one")
    changed = CRONTAB.format(name="one").replace("*/5", "*/7")
    for side in ((), ("--server-side", "--force-conflicts")):
        refused = kubectl.run("-n", namespace, "apply", *side, "-f", "-", stdin=changed)
        assert 'spec.cronSpec: Invalid value: "*/7 * * * *": is immutable' in refused.errors
    assert kubectl.run("-n", namespace, "scale", "--replicas=11", "ct/one").status == 1


def test_patch_scale_and_label(kubectl: Kubectl, crontabs: str, namespace: str) -> None:
    crontab(kubectl, namespace, "one")
    kubectl("-n", namespace, "scale", "--replicas=7", "ct/one")
    kubectl("-n", namespace, "patch", "ct", "one", "--type=merge", "-p", '{"spec":{"image":"other"}}')
    kubectl("-n", namespace, "label", "ct", "one", "a=b")
    status = '{"status":{"replicas":3}}'
    kubectl("-n", namespace, "patch", "ct", "one", "--subresource=status", "--type=merge", "-p", status)
    found = kubectl.json("-n", namespace, "get", "ct", "-l", "a=b")["items"][0]
    assert (found["spec"]["replicas"], found["spec"]["image"], found["status"]) == (7, "other", {"replicas": 3})
    assert found["metadata"]["generation"] == 3
    strategic = kubectl.run("-n", namespace, "patch", "ct", "one", "-p", '{"spec":{"image":"x"}}')
    assert strategic.status == 1


def test_what_a_custom_resource_owns_goes_with_it(kubectl: Kubectl, crontabs: str, namespace: str) -> None:
    crontab(kubectl, namespace, "owner")
    uid = kubectl.json("-n", namespace, "get", "ct", "owner")["metadata"]["uid"]
    owner = {"apiVersion": "steady.example.com/v1", "kind": "CronTab", "name": "owner", "uid": uid}
    owned = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owned", "ownerReferences": [owner]}}
    kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(owned))
    kubectl("-n", namespace, "delete", "ct", "owner")
    kubectl("-n", namespace, "wait", "--for=delete", "configmap/owned", "--timeout=180s")
    assert "NotFound" in kubectl.run("-n", namespace, "get", "configmap", "owned").errors


def test_a_namespace_takes_its_custom_resources_along(kubectl: Kubectl, crontabs: str) -> None:
    made_namespace(kubectl, "crontabs-go")
    crontab(kubectl, "crontabs-go", "one")
    kubectl("delete", "namespace", "crontabs-go", "--timeout=180s")
    left = kubectl.json("get", "ct", "-A")["items"]
    assert "crontabs-go" not in {item["metadata"]["namespace"] for item in left}


@contextmanager
def conversion_webhook() -> Iterator[ConversionWebhook]:
    """On a loop of its own, in a thread: kubectl is waited for in this one."""
    webhook, loop, ready = ConversionWebhook(), asyncio.new_event_loop(), threading.Event()
    ending = asyncio.Event()

    async def run() -> None:
        async with serving(webhook):
            ready.set()
            await ending.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),), name="webhook")
    thread.start()
    try:
        assert ready.wait(60)
        yield webhook
    finally:
        loop.call_soon_threadsafe(ending.set)
        thread.join()
        loop.close()


def test_two_versions_and_a_webhook_between_them(kubectl: Kubectl, namespace: str) -> None:
    def schema(*names: str) -> Any:
        spec = {"type": "object", "properties": {name: {"type": "string"} for name in names}}
        return {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}

    versions = [
        {"name": "v1", "served": True, "storage": True, "schema": schema("host", "port")},
        {"name": "v1beta1", "served": True, "storage": False, "schema": schema("hostPort")},
    ]
    with conversion_webhook() as webhook:
        config = {"url": webhook.url, "caBundle": webhook.ca_bundle}
        conversion = {"strategy": "Webhook", "webhook": {"clientConfig": config, "conversionReviewVersions": ["v1"]}}
        names = {"plural": "hosts", "kind": "Host"}
        spec = {"group": "hosts.example.com", "scope": "Namespaced", "names": names, "versions": versions}
        definition = {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": "hosts.hosts.example.com"},
            "spec": {**spec, "conversion": conversion},
        }
        kubectl("create", "-f", "-", stdin=json.dumps(definition))
        kubectl.established("hosts.hosts.example.com")
        old = {"apiVersion": "hosts.example.com/v1beta1", "kind": "Host", "metadata": {"name": "a"}}
        kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps({**old, "spec": {"hostPort": "here:80"}}))
        assert kubectl.json("-n", namespace, "get", "hosts", "a")["spec"] == {"host": "here", "port": "80"}
        assert kubectl.json("-n", namespace, "get", "hosts.v1beta1.hosts.example.com", "a")["spec"] == {
            "hostPort": "here:80"
        }
        kubectl("delete", "crd", "hosts.hosts.example.com", "--timeout=180s")
        assert webhook.reviews


def test_deleting_the_definition_deletes_its_instances(kubectl: Kubectl, crontabs: str, namespace: str) -> None:
    crontab(kubectl, namespace, "last")
    kubectl("delete", "crd", "crontabs.steady.example.com", "--timeout=180s")
    refused = kubectl.run("-n", namespace, "get", "ct")
    assert refused.status == 1
    kubectl("create", "-f", "-", stdin=CRONTABS)
    kubectl.established("crontabs.steady.example.com")
    assert kubectl.json("-n", namespace, "get", "ct")["items"] == []
