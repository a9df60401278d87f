"""What the Node mode allows a kubelet: what its own pods need, and its own Node."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson
import pytest

from kubecore._native import FieldSelector, UserInfo
from kubecore.apiserver.authorization.attributes import Attributes
from kubecore.apiserver.authorization.node import NodeAuthorizer

JSON = dict[str, Any]
KUBELET = UserInfo("system:node:mine", "", ["system:nodes", "system:authenticated"])


class Found(NamedTuple):
    value: bytes


class Items(NamedTuple):
    items: list[bytes]


class Known(NamedTuple):
    number: int


def volume(claim: str = "data", namespace: str = "default", **source: Any) -> JSON:
    reference = {"claimRef": {"namespace": namespace, "name": claim}}
    return {"kind": "PersistentVolume", "spec": {**reference, **source}}


def pod(name: str, node: str, **more: Any) -> JSON:
    return {
        "metadata": {"name": name, "namespace": "default", **more.pop("metadata", {})},
        "spec": {"nodeName": node, **more},
    }


class Objects:
    """As much of the cache as is asked."""

    def __init__(self, *pods: JSON, **others: JSON) -> None:
        self.pods = pods
        self.others = others
        self.changes = 0
        self.listed = 0

    def list(self, resource: str, *, field_selector: str = "") -> Items:
        if resource == "persistentvolumes":
            return Items([orjson.dumps(one) for one in self.others.values() if one.get("kind") == "PersistentVolume"])
        self.listed += 1
        ((_, _, node),) = FieldSelector.parse(field_selector).requirements()
        return Items([orjson.dumps(one) for one in self.pods if one["spec"]["nodeName"] == node])

    def get(self, resource: str, namespace: str, name: str) -> Found | None:
        known = {("pods", one["metadata"]["name"]): one for one in self.pods}
        known.update({(resource, name): one for name, one in self.others.items()})
        found = known.get((resource, name))
        return None if found is None else Found(orjson.dumps(found))

    def cached(self, resource: str) -> Known:
        return Known(0)

    def changed(self, resource: str) -> int:
        return self.changes if resource == "pods" else len(self.others)


MOUNTS = [
    {"name": "v", "secret": {"secretName": "cert"}},
    {"name": "c", "persistentVolumeClaim": {"claimName": "data"}},
]


def judge(attributes: Attributes, *pods: JSON, **others: JSON) -> tuple[bool | None, str]:
    given = pods or (pod("web", "mine", volumes=MOUNTS, serviceAccountName="robot"), pod("other", "theirs"))
    return NodeAuthorizer(Objects(*given, **others)).authorize(KUBELET, attributes)  # type: ignore[arg-type]


def asked(verb: str, resource: str, name: str = "", subresource: str = "", **more: str) -> Attributes:
    cluster_wide = resource in ("nodes", "persistentvolumes")
    namespace = more.pop("namespace", "" if cluster_wide else "default")
    return Attributes(verb, "", "v1", resource, subresource, namespace, name, **more)


@pytest.mark.parametrize(
    "attributes",
    [
        asked("get", "secrets", "cert"),
        asked("watch", "secrets", "cert"),
        asked("get", "persistentvolumeclaims", "data"),
        asked("patch", "persistentvolumeclaims", "data", "status"),
        asked("get", "persistentvolumes", "vol"),
        asked("create", "serviceaccounts", "robot", "token"),
        asked("get", "serviceaccounts", "robot"),
        asked("get", "nodes", "mine"),
        asked("list", "nodes", "mine"),
        asked("patch", "nodes", "mine", "status"),
        asked("get", "pods", "web"),
        asked("list", "pods", namespace="", field_selector="spec.nodeName=mine"),
        asked("watch", "pods", namespace="", field_selector="status.phase!=Failed,spec.nodeName=mine"),
        asked("delete", "pods", "web"),
        asked("update", "pods", "web", "status"),
        asked("create", "pods", "web", "eviction"),
        asked("list", "services", namespace=""),
    ],
)
def test_a_kubelet_reaches_what_its_pods_need(attributes: Attributes) -> None:
    assert judge(attributes, vol=volume()) == (True, "")


@pytest.mark.parametrize(
    ("attributes", "why"),
    [
        (asked("get", "secrets", "else"), "no relationship found between node 'mine' and this object"),
        (asked("list", "secrets"), "No Object name found"),
        (asked("delete", "secrets", "cert"), "can only read resources of this type"),
        (asked("get", "secrets", "cert", "x"), "cannot read subresource"),
        (asked("get", "secrets", "cert", namespace="other"), "no relationship found between node 'mine'"),
        (asked("list", "persistentvolumeclaims"), "can only get individual resources of this type"),
        (asked("create", "serviceaccounts", "default", "token"), "no relationship found between node 'mine'"),
        (asked("delete", "serviceaccounts", "robot"), "can only create tokens for individual service accounts"),
        (asked("get", "nodes", "theirs"), "node 'mine' cannot read 'theirs', only its own Node object"),
        (asked("list", "nodes"), "node 'mine' cannot read all nodes, only its own Node object"),
        (asked("get", "pods", "other"), "no relationship found between node 'mine'"),
        (asked("list", "pods"), "can only list/watch pods with spec.nodeName field selector"),
        (asked("list", "pods", field_selector="spec.nodeName=theirs"), "can only list/watch pods with spec.nodeName"),
        (asked("list", "pods", field_selector="spec.nodeName!=mine"), "can only list/watch pods with spec.nodeName"),
        (asked("delete", "nodes", "mine"), ""),
        (asked("update", "pods", "web"), ""),
    ],
)
def test_a_kubelet_reaches_nothing_else(attributes: Attributes, why: str) -> None:
    allowed, reason = judge(attributes)
    assert allowed is None
    assert reason.startswith(why)


def test_a_pod_that_a_node_made_itself_opens_nothing_to_it() -> None:
    mirror = {"annotations": {"kubernetes.io/config.mirror": "x"}}
    made = pod("web", "mine", volumes=MOUNTS, metadata=mirror)
    assert judge(asked("get", "secrets", "cert"), made)[0] is None


def test_claims_for_devices_are_reached_through_their_pods() -> None:
    claims = [{"name": "gpu", "resourceClaimName": "shared"}]
    user = pod("web", "mine", resourceClaims=claims)
    user["status"] = {
        "resourceClaimStatuses": [{"name": "own", "resourceClaimName": "made"}],
        "extendedResourceClaimStatus": {"requestMappings": [], "resourceClaimName": "extended"},
    }
    for name, allowed in (("shared", True), ("made", True), ("extended", True), ("other", None)):
        attributes = Attributes("get", "resource.k8s.io", "v1", "resourceclaims", "", "default", name)
        assert judge(attributes, user)[0] is allowed


def test_slices_are_a_nodes_own() -> None:
    def of_slices(verb: str, name: str = "", field_selector: str = "") -> bool | None:
        asked = Attributes(verb, "resource.k8s.io", "v1", "resourceslices", name=name, field_selector=field_selector)
        return judge(asked, here={"spec": {"nodeName": "mine"}}, there={"spec": {"nodeName": "theirs"}})[0]

    assert of_slices("create") and of_slices("update", "here") and of_slices("list", "", "spec.nodeName=mine")
    assert of_slices("update", "there") is None and of_slices("list") is None


def test_others_are_not_nodes() -> None:
    authorizer = NodeAuthorizer(Objects())  # type: ignore[arg-type]
    jane = UserInfo("system:node:mine", "", ["system:authenticated"])
    assert authorizer.authorize(jane, asked("get", "nodes", "mine")) == (None, "")


def test_who_does_not_say_which_node_he_is_reaches_nothing() -> None:
    authorizer = NodeAuthorizer(Objects(pod("waiting", "", volumes=MOUNTS)))  # type: ignore[arg-type]
    nameless = UserInfo("system:node:", "", ["system:nodes", "system:authenticated"])
    told = 'unknown node for user "system:node:"'
    assert authorizer.authorize(nameless, asked("get", "secrets", "cert")) == (None, told)


@pytest.mark.parametrize("name", [",", ",metadata.name!=x", "a=b", "a\\"])
def test_a_name_that_reads_like_a_selector_is_a_name(name: str) -> None:
    """Pods that have no node yet are nobody's."""
    authorizer = NodeAuthorizer(Objects(pod("waiting", "", volumes=MOUNTS), pod("odd", name, volumes=[])))  # type: ignore[arg-type]
    odd = UserInfo(f"system:node:{name}", "", ["system:nodes", "system:authenticated"])
    assert authorizer.authorize(odd, asked("get", "secrets", "cert"))[0] is None


@pytest.mark.parametrize(
    "source",
    [
        {"csi": {"driver": "d", "nodePublishSecretRef": {"name": "cert"}}},
        {"iscsi": {"secretRef": {"name": "cert"}}},
        {"azureFile": {"secretName": "cert"}},
        {"projected": {"sources": [{"secret": {"name": "cert"}}]}},
    ],
)
def test_secrets_by_which_a_volume_is_reached_are_the_pods(source: JSON) -> None:
    assert judge(asked("get", "secrets", "cert"), pod("web", "mine", volumes=[{"name": "v", **source}])) == (True, "")


def test_a_volume_is_whose_claim_it_names_itself() -> None:
    """Whoever makes a claim may write the name of any volume into it."""
    wishing = {"spec": {"volumeName": "vol"}}
    for claimed, allowed in (({}, None), (volume("else")["spec"], None), (volume(namespace="else")["spec"], None)):
        assert judge(asked("get", "persistentvolumes", "vol"), data=wishing, vol={"spec": claimed})[0] is allowed
    unbound: JSON = {"spec": {}}
    assert judge(asked("get", "persistentvolumes", "vol"), data=unbound, vol=volume()) == (True, "")


@pytest.mark.parametrize("kind", ["cephfs", "flexVolume", "rbd", "scaleIO", "iscsi"])
def test_a_secret_that_a_pods_volume_names_is_the_nodes_to_read(kind: str) -> None:
    key = asked("get", "secrets", "key")
    assert judge(key)[0] is None
    assert judge(key, vol=volume(**{kind: {"secretRef": {"name": "key"}}})) == (True, "")
    assert judge(key, vol=volume("else", **{kind: {"secretRef": {"name": "key"}}}))[0] is None
    elsewhere = volume(**{kind: {"secretRef": {"name": "key", "namespace": "vault"}}})
    assert judge(key, vol=elsewhere)[0] is None
    assert judge(asked("get", "secrets", "key", namespace="vault"), vol=elsewhere) == (True, "")


@pytest.mark.parametrize("kind", ["cinder", "storageos"])
def test_some_volumes_secrets_are_in_no_namespace_but_the_named(kind: str) -> None:
    key = asked("get", "secrets", "key")
    assert judge(key, vol=volume(**{kind: {"secretRef": {"name": "key", "namespace": "default"}}})) == (True, "")
    assert judge(key, vol=volume(**{kind: {"secretRef": {"name": "key"}}}))[0] is None


def test_the_secret_of_a_share_is_the_nodes_to_read() -> None:
    key = asked("get", "secrets", "key")
    assert judge(key, vol=volume(azureFile={"shareName": "s", "secretName": "key"})) == (True, "")
    elsewhere = volume(azureFile={"shareName": "s", "secretName": "key", "secretNamespace": "vault"})
    assert judge(key, vol=elsewhere)[0] is None
    assert judge(asked("get", "secrets", "key", namespace="vault"), vol=elsewhere) == (True, "")


@pytest.mark.parametrize(
    ("purpose", "allowed"),
    [
        ("nodePublish", True),
        ("nodeStage", True),
        ("nodeExpand", True),
        ("controllerPublish", None),
        ("controllerExpand", None),
    ],
)
def test_of_a_csi_volumes_secrets_the_controllers_are_not_for_nodes(purpose: str, allowed: bool | None) -> None:
    csi = {"driver": "d", f"{purpose}SecretRef": {"name": "key", "namespace": "vault"}}
    assert judge(asked("get", "secrets", "key", namespace="vault"), vol=volume(csi=csi))[0] is allowed


def test_what_volumes_name_is_known_as_they_are_now() -> None:
    objects = Objects(pod("web", "mine", volumes=MOUNTS))
    authorizer = NodeAuthorizer(objects)  # type: ignore[arg-type]
    key = asked("get", "secrets", "key")
    assert authorizer.authorize(KUBELET, key)[0] is None
    objects.others["vol"] = volume(iscsi={"secretRef": {"name": "key"}})
    assert authorizer.authorize(KUBELET, key) == (True, "")
    del objects.others["vol"]
    assert authorizer.authorize(KUBELET, key)[0] is None


def test_pods_are_looked_up_again_when_they_have_changed() -> None:
    objects = Objects(pod("web", "mine", volumes=MOUNTS))
    authorizer = NodeAuthorizer(objects)  # type: ignore[arg-type]
    asked = Attributes("watch", "", "v1", "secrets", "", "default", "cert")
    assert [authorizer.authorize(KUBELET, asked)[0] for _ in range(3)] == [True, True, True]
    assert objects.listed == 1
    objects.pods, objects.changes = (pod("web", "theirs", volumes=MOUNTS),), 1
    assert authorizer.authorize(KUBELET, asked)[0] is None
    assert authorizer.authorize(UserInfo("system:node:theirs", "", ["system:nodes"]), asked)[0] is True


@pytest.mark.parametrize(
    ("user", "asked", "expected"),
    [
        (KUBELET, Attributes("watch", "", "v1", "secrets", "", "default", "cert"), True),
        (KUBELET, Attributes("watch", "", "v1", "pods", "", "", field_selector="spec.nodeName=mine"), False),
        (KUBELET, Attributes("watch", "", "v1", "services"), False),
        (UserInfo("jane", "", []), Attributes("watch", "", "v1", "secrets", "", "default", "cert"), False),
    ],
)
def test_what_pods_lead_to_is_lost_without_a_word(user: UserInfo, asked: Attributes, expected: bool) -> None:
    assert NodeAuthorizer(Objects()).changes_unseen(user, asked) is expected  # type: ignore[arg-type]
