"""A node writes what is its own: its Node, its pods' status, tokens for its pods; nothing that leads elsewhere.

The classes of vulnerabilities are those of nodes that steer workloads, take over identities or delete what others have
(CVE-2020-8558's kin, CVE-2023-5528's, CVE-2025-4563 and CVE-2025-5187: claims of mirror pods, owners of nodes).
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kubecore.apiserver.server import APIServer

from .conftest import JSON, Api, pod

pytestmark = pytest.mark.asyncio(loop_scope="module")

PODS, NODES, ACCOUNTS, CLAIMS = "v1/pods", "v1/nodes", "v1/serviceaccounts", "v1/persistentvolumeclaims"
MIRROR = {"kubernetes.io/config.mirror": "x"}


class Kubelet(NamedTuple):
    """Node `own` as it reaches the namespace of a test and the cluster; `node` is its object."""

    here: Api
    root: Api
    node: JSON

    def owner(self, **more: Any) -> JSON:
        uid = self.node["metadata"]["uid"]
        return {"apiVersion": "v1", "kind": "Node", "name": "own", "uid": uid, "controller": True, **more}

    def mirror(self, name: str = "mirror", *, owners: list[JSON] | None = None, **spec: Any) -> JSON:
        made = pod(name, nodeName="own", **spec)
        made["metadata"].update(annotations=MIRROR, ownerReferences=[self.owner()] if owners is None else owners)
        return made


@pytest_asyncio.fixture(loop_scope="module")
async def kubelet(server: APIServer, api: Api) -> AsyncIterator[Kubelet]:
    transport = server.transport(username="system:node:own", groups=["system:nodes"])
    root = Api(transport, "")
    status, node = await root.create(NODES, {"metadata": {"name": "own"}})
    assert status == 201, node
    yield Kubelet(Api(transport, api.namespace), root, node)
    await Api(api.transport, "").delete(NODES, "own")


def told(answer: JSON) -> str:
    return str(answer["message"]).partition(" is forbidden: ")[2]


# --- who it is


async def test_who_does_not_say_which_node_he_is_writes_nothing_of_nodes(server: APIServer) -> None:
    nameless = Api(server.transport(username="system:node:", groups=["system:nodes", "system:masters"]), "")
    status, answer = await nameless.create(NODES, {"metadata": {"name": "any"}})
    assert (status, told(answer)) == (403, 'could not determine node from user "system:node:"')


async def test_a_nodes_name_does_not_select_pods_that_have_no_node(server: APIServer, api: Api) -> None:
    assert (await api.create("v1/secrets", {"metadata": {"name": "s"}}))[0] == 201
    waiting = pod("waiting", volumes=[{"name": "v", "secret": {"secretName": "s"}}])
    assert (await api.create(PODS, waiting))[0] == 201
    odd = server.transport(username="system:node:,metadata.name!=x", groups=["system:nodes"])
    assert (await Api(odd, api.namespace).get("v1/secrets", "s"))[0] == 403


# --- its Node


@pytest.mark.parametrize(
    ("labels", "refused"),
    [
        ({"node-restriction.kubernetes.io/team": "a"}, "node-restriction.kubernetes.io/team"),
        ({"node-role.kubernetes.io/control-plane": ""}, "node-role.kubernetes.io/control-plane"),
        ({"x.k8s.io/y": "1", "kubernetes.io/z": "2"}, "kubernetes.io/z, x.k8s.io/y"),
        ({"topology.kubernetes.io/zone": "z", "node.kubernetes.io/any": "", "a.kubelet.kubernetes.io/b": ""}, ""),
        ({"example.com/mine": "yes", "kubernetes.io/os": "linux"}, ""),
    ],
)
async def test_a_node_labels_itself_with_what_is_its_to_say(kubelet: Kubelet, labels: JSON, refused: str) -> None:
    status, answer = await kubelet.root.patch(NODES, "own", {"metadata": {"labels": labels}})
    assert status == (403 if refused else 200), answer
    if refused:
        assert told(answer) == f"is not allowed to modify labels: {refused}"


async def test_a_node_takes_no_label_away_that_others_have_set(kubelet: Kubelet, cluster: Api) -> None:
    await cluster.patch(NODES, "own", {"metadata": {"labels": {"node-restriction.kubernetes.io/team": "a"}}})
    gone = {"metadata": {"labels": {"node-restriction.kubernetes.io/team": None}}}
    assert (await kubelet.root.patch(NODES, "own", gone))[0] == 403
    assert (await kubelet.root.patch(NODES, "own", gone, subresource="status"))[0] == 403


async def test_a_new_node_comes_without_labels_that_are_not_its_to_say(server: APIServer) -> None:
    other = Api(server.transport(username="system:node:other", groups=["system:nodes"]), "")
    labels = {"node-restriction.kubernetes.io/team": "a"}
    status, answer = await other.create(NODES, {"metadata": {"name": "other", "labels": labels}})
    assert (status, told(answer)) == (
        403,
        'node "other" is not allowed to set the following labels: node-restriction.kubernetes.io/team',
    )


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"spec": {"taints": []}}, "taints"),
        (
            {"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "1"}]}},
            "ownerReferences",
        ),
    ],
)
async def test_a_node_changes_neither_its_taints_nor_its_owners(kubelet: Kubelet, change: JSON, detail: str) -> None:
    status, answer = await kubelet.root.patch(NODES, "own", change)
    assert (status, told(answer)) == (403, f'node "own" is not allowed to modify {detail}')


async def test_a_node_writes_no_other_node(kubelet: Kubelet, cluster: Api) -> None:
    await cluster.create(NODES, {"metadata": {"name": "neighbour"}})
    status, answer = await kubelet.root.patch(NODES, "neighbour", {"metadata": {"labels": {"a": "b"}}})
    assert (status, told(answer)) == (403, 'node "own" is not allowed to modify node "neighbour"')
    await cluster.delete(NODES, "neighbour")


# --- its pods


async def test_a_mirror_pod_is_made_where_its_node_owns_it(kubelet: Kubelet) -> None:
    status, answer = await kubelet.here.create(PODS, kubelet.mirror())
    assert status == 201, answer
    assert (await kubelet.here.delete(PODS, "mirror", gracePeriodSeconds="0"))[0] == 200


@pytest.mark.parametrize(
    ("owner", "detail"),
    [
        ([], "can only create pods with an owner reference set to itself"),
        ([{"name": "else"}], "can only create pods with an owner reference set to itself"),
        ([{"kind": "Pod"}], "can only create pods with an owner reference set to itself"),
        ([{}, {"uid": "2", "controller": False}], "can only create pods with a single owner reference set to itself"),
        ([{"controller": False}], "can only create pods with a controller owner reference set to itself"),
        ([{"blockOwnerDeletion": True}], "must not set blockOwnerDeletion on an owner reference"),
    ],
)
async def test_a_mirror_pod_has_its_node_and_nobody_else_as_owner(
    kubelet: Kubelet, owner: list[JSON], detail: str
) -> None:
    made = kubelet.mirror(owners=[kubelet.owner(**one) for one in owner])
    status, answer = await kubelet.here.create(PODS, made)
    assert (status, told(answer)) == (403, f'node "own" {detail}')


async def test_a_mirror_pod_is_not_owned_by_an_earlier_node_of_that_name(kubelet: Kubelet) -> None:
    status, answer = await kubelet.here.create(PODS, kubelet.mirror(owners=[kubelet.owner(uid="earlier")]))
    assert status == 403
    assert "node own UID mismatch: expected earlier got " in answer["message"]


CONTAINER = {"name": "main", "image": "none"}


@pytest.mark.parametrize(
    ("spec", "what"),
    [
        ({"containers": [{**CONTAINER, "envFrom": [{"secretRef": {"name": "s"}}]}]}, "secrets"),
        ({"initContainers": [{**CONTAINER, "name": "i", "envFrom": [{"configMapRef": {"name": "c"}}]}]}, "configmaps"),
        ({"imagePullSecrets": [{"name": "s"}]}, "secrets"),
        ({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}, "persistentvolumeclaims"),
        ({"volumes": [{"name": "v", "csi": {"driver": "d"}}]}, "csidrivers (via CSI volumes)"),
        (
            {"volumes": [{"name": "v", "projected": {"sources": [{"configMap": {"name": "c"}}]}}]},
            "configmaps",
        ),
    ],
)
async def test_a_mirror_pod_refers_to_nothing_of_the_api(kubelet: Kubelet, spec: JSON, what: str) -> None:
    status, answer = await kubelet.here.create(PODS, kubelet.mirror(**spec))
    assert status == 403
    # ServiceAccount has words of its own about secrets.
    assert told(answer) in (f'node "own" can not create pods that reference {what}', _of_accounts(what))


def _of_accounts(what: str) -> str:
    return f"a mirror pod may not reference {what}"


async def test_a_node_makes_deletes_evicts_and_speaks_of_its_own_pods_alone(kubelet: Kubelet, api: Api) -> None:
    claim = {"name": "c", "resourceClaimTemplateName": "t"}
    status, answer = await api.create(PODS, pod("mine", nodeName="own", resourceClaims=[claim]))
    assert status == 201, answer
    await api.create(PODS, pod("theirs", nodeName="other"))
    status, answer = await kubelet.here.create(PODS, pod("plain", nodeName="own"))
    assert status == 403
    assert told(answer).startswith('pod does not have "kubernetes.io/config.mirror" annotation')
    running = {"status": {"phase": "Running"}}
    assert (await kubelet.here.patch(PODS, "mine", running, subresource="status"))[0] == 200
    assert (await kubelet.here.patch(PODS, "theirs", running, subresource="status"))[0] == 403
    relabelled = {"metadata": {"labels": {"app": "victim"}}, **running}
    assert (await kubelet.here.patch(PODS, "mine", relabelled, subresource="status"))[0] == 403
    claims = {"status": {"resourceClaimStatuses": [{"name": "c", "resourceClaimName": "theirs"}]}}
    assert (await kubelet.here.patch(PODS, "mine", claims, subresource="status"))[0] == 403
    for name, code in (("theirs", 403), ("mine", 201)):
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
        status, answer = await kubelet.here.call("POST", api.path(PODS, name, "eviction"), eviction)
        assert status == code, answer
    assert (await kubelet.here.delete(PODS, "theirs"))[0] == 403


# --- tokens, claims, certificates


async def asked_for(kubelet: Kubelet, bound: JSON | None, *audiences: str) -> tuple[int, JSON]:
    spec: JSON = {"audiences": list(audiences)}
    if bound is not None:
        spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Pod", **bound}
    path = kubelet.here.path(ACCOUNTS, "default", "token")
    return await kubelet.here.call("POST", path, {"spec": spec})


async def test_a_node_gets_tokens_for_pods_that_run_on_it_alone(kubelet: Kubelet, api: Api) -> None:
    _, mine = await api.create(PODS, pod("mine", nodeName="own"))
    _, theirs = await api.create(PODS, pod("theirs", nodeName="other"))
    uid, other = mine["metadata"]["uid"], theirs["metadata"]["uid"]
    assert (await asked_for(kubelet, {"name": "mine", "uid": uid}))[0] == 201
    for bound, detail in (
        (None, "node requested token not bound to a pod"),
        ({"kind": "Secret", "name": "s", "uid": uid}, "node requested token not bound to a pod"),
        ({"name": "mine"}, "node requested token with a pod binding without a uid"),
        ({"name": "theirs", "uid": other}, "node requested token bound to a pod scheduled on a different node"),
        ({"name": "mine", "uid": other}, f"the UID in the bound object reference ({other}) does not match the UID in"),
    ):
        status, answer = await asked_for(kubelet, bound)
        assert status == 403
        assert told(answer).startswith(detail)


async def test_a_nodes_tokens_are_for_whom_the_pods_volumes_say(kubelet: Kubelet, api: Api, cluster: Api) -> None:
    token = {"serviceAccountToken": {"path": "t", "audience": "vault"}}
    volumes = [{"name": "v", "projected": {"sources": [token]}}]
    _, mine = await api.create(PODS, pod("mine", nodeName="own", volumes=volumes))
    bound = {"name": "mine", "uid": mine["metadata"]["uid"]}
    assert (await asked_for(kubelet, bound, "vault"))[0] == 201
    status, answer = await asked_for(kubelet, bound, "bank")
    assert (status, told(answer)) == (
        403,
        'audience "bank" not found in pod spec volume, system:node:own is not authorized to request tokens for this '
        "audience",
    )
    assert (await asked_for(kubelet, bound, "vault", "bank"))[0] == 403
    verbs = {"apiGroups": [""], "resources": ["bank"], "verbs": ["request-serviceaccounts-token-audience"]}
    rbac = "rbac.authorization.k8s.io"
    await cluster.create(f"{rbac}/v1/clusterroles", {"metadata": {"name": "bankers"}, "rules": [verbs]})
    binding = {
        "metadata": {"name": "bankers"},
        "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "bankers"},
        "subjects": [{"kind": "Group", "apiGroup": rbac, "name": "system:nodes"}],
    }
    await cluster.create(f"{rbac}/v1/clusterrolebindings", binding)
    assert (await asked_for(kubelet, bound, "bank"))[0] == 201
    await cluster.delete(f"{rbac}/v1/clusterrolebindings", "bankers")


async def test_a_node_says_of_a_claims_status_what_it_measures(kubelet: Kubelet, api: Api) -> None:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    await api.create(CLAIMS, {"metadata": {"name": "c"}, "spec": spec})
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]
    await api.create(PODS, pod("mine", nodeName="own", volumes=volumes))
    capacity = {"status": {"capacity": {"storage": "1Gi"}}}
    assert (await kubelet.here.patch(CLAIMS, "c", capacity, subresource="status"))[0] == 200
    for change in ({"status": {"phase": "Bound"}}, {"metadata": {"finalizers": ["example.com/x"]}}):
        status, answer = await kubelet.here.patch(CLAIMS, "c", change, subresource="status")
        assert status == 403, answer
        assert "is not allowed to update fields other than status.quantity" in answer["message"]


def request_of(name: str) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"), x509.NameAttribute(NameOID.COMMON_NAME, name)]
    )
    made = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return base64.b64encode(made.public_bytes(serialization.Encoding.PEM)).decode()


async def test_a_node_asks_for_certificates_in_its_own_name(kubelet: Kubelet) -> None:
    for name, code in (("system:node:other", 403), ("system:node:own", 201)):
        spec = {
            "request": request_of(name),
            "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
            "usages": ["client auth", "digital signature"],
        }
        made = {"metadata": {"name": name.replace(":", "-")}, "spec": spec}
        status, answer = await kubelet.root.create("certificates.k8s.io/v1/certificatesigningrequests", made)
        assert status == code, answer


async def test_a_node_publishes_slices_of_its_own_devices(kubelet: Kubelet) -> None:
    for node, code in (("other", 403), ("own", 201)):
        spec = {"driver": "d.example.com", "nodeName": node, "pool": {"name": "p", "resourceSliceCount": 1}}
        made = {"metadata": {"name": f"slice-{node}"}, "spec": spec}
        status, answer = await kubelet.root.create("resource.k8s.io/v1/resourceslices", made)
        assert status == code, answer
