"""Deletion as users see it: what becomes of dependents, of finalizers, and of a namespace with all that is in it."""

from __future__ import annotations

import pytest

from tests.support.kubectl import Kubectl

pytestmark = [pytest.mark.slow]

HELD = '{"metadata":{"finalizers":["example.org/held"]}}'
LET_GO = '{"metadata":{"finalizers":null}}'


@pytest.fixture
def owned(kubectl: Kubectl, namespace: str) -> str:
    """A Deployment without pods; the name of its ReplicaSet."""
    kubectl("-n", namespace, "create", "deployment", "owner", "--image=none", "--replicas=0")
    wait(kubectl, namespace, "--for=jsonpath={.status.observedGeneration}=1", "deployment/owner")
    found = kubectl("-n", namespace, "get", "replicasets", "-o", "name").split()
    assert len(found) == 1
    return found[0]


def wait(kubectl: Kubectl, namespace: str, what: str, *of: str) -> None:
    kubectl("-n", namespace, "wait", what, *of, "--timeout=180s")


def test_in_the_background_the_owner_goes_at_once_and_dependents_follow(
    kubectl: Kubectl, namespace: str, owned: str
) -> None:
    kubectl("-n", namespace, "patch", owned, "--type=merge", "-p", HELD)
    kubectl("-n", namespace, "delete", "deployment", "owner", "--cascade=background", "--wait=false")
    wait(kubectl, namespace, "--for=delete", "deployment/owner")
    wait(kubectl, namespace, "--for=jsonpath={.metadata.deletionTimestamp}", owned)
    kubectl("-n", namespace, "patch", owned, "--type=merge", "-p", LET_GO)
    wait(kubectl, namespace, "--for=delete", owned)


def test_in_the_foreground_the_owner_waits_for_its_dependents(kubectl: Kubectl, namespace: str, owned: str) -> None:
    kubectl("-n", namespace, "patch", owned, "--type=merge", "-p", HELD)
    kubectl("-n", namespace, "delete", "deployment", "owner", "--cascade=foreground", "--wait=false")
    wait(kubectl, namespace, "--for=jsonpath={.metadata.deletionTimestamp}", owned)
    owner = kubectl.json("-n", namespace, "get", "deployment", "owner")
    assert owner["metadata"]["finalizers"] == ["foregroundDeletion"]
    kubectl("-n", namespace, "patch", owned, "--type=merge", "-p", LET_GO)
    wait(kubectl, namespace, "--for=delete", "deployment/owner", owned)


def test_orphans_stay_and_belong_to_nobody(kubectl: Kubectl, namespace: str, owned: str) -> None:
    kubectl("-n", namespace, "delete", "deployment", "owner", "--cascade=orphan")
    left = kubectl.json("-n", namespace, "get", owned)
    assert "ownerReferences" not in left["metadata"]
    assert "deletionTimestamp" not in left["metadata"]


def test_a_namespace_says_what_it_waits_for_and_takes_nothing_new(kubectl: Kubectl, namespace: str) -> None:
    kubectl("-n", namespace, "create", "configmap", "held")
    kubectl("-n", namespace, "patch", "configmap", "held", "--type=merge", "-p", HELD)
    kubectl("delete", "namespace", namespace, "--wait=false")
    remaining = "--for=condition=NamespaceFinalizersRemaining"
    kubectl("wait", remaining, f"namespace/{namespace}", "--timeout=180s")
    found = kubectl.json("get", "namespace", namespace)["status"]
    assert found["phase"] == "Terminating"
    told = {one["type"]: (one["status"], one["message"]) for one in found["conditions"]}
    assert told["NamespaceContentRemaining"] == (
        "True",
        "Some resources are remaining: configmaps. has 1 resource instances",
    )
    assert told["NamespaceFinalizersRemaining"] == (
        "True",
        "Some content in the namespace has finalizers remaining: example.org/held in 1 resource instances",
    )
    assert told["NamespaceDeletionContentFailure"][0] == "False"
    refused = kubectl.run("-n", namespace, "create", "configmap", "new").errors
    assert f"unable to create new content in namespace {namespace} because it is being terminated" in refused
    kubectl("-n", namespace, "patch", "configmap", "held", "--type=merge", "-p", LET_GO)
    kubectl("wait", "--for=delete", f"namespace/{namespace}", "--timeout=180s")
    # The fixture deletes it, too.
    kubectl("create", "namespace", namespace)
