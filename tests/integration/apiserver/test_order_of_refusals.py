"""What is told first of a request that is wrong in more than one way: who may not do it at all hears that (403), and
not what else is wrong with it (422, 409). Upstream's plugins refuse where they mutate, before an object is judged, and
its registry asks about roles before it looks at what they say; webhooks and policies that validate come last.
"""

from __future__ import annotations

from typing import Any

import pytest
import pytest_asyncio

from kubecore.apiserver.server import APIServer
from tests.support.admission_webhook import deny

from .conftest import JSON, Api, config_map, pod
from .hooks import hooking

pytestmark = pytest.mark.asyncio(loop_scope="module")

PODS, NODES, CLAIMS = "v1/pods", "v1/nodes", "v1/persistentvolumeclaims"
GROUP = "rbac.authorization.k8s.io"
ROLES, BINDINGS = f"{GROUP}/v1/clusterroles", f"{GROUP}/v1/clusterrolebindings"
LEASES, SIGNING = "coordination.k8s.io/v1/leases", "certificates.k8s.io/v1/certificatesigningrequests"
MIRROR = {"kubernetes.io/config.mirror": "x"}
EVERYBODY = {"kind": "Group", "name": "system:authenticated", "apiGroup": GROUP}


def told(answer: JSON) -> str:
    return str(answer["message"]).partition(" is forbidden: ")[2]


async def grant(cluster: Api, name: str, rule: JSON, subject: JSON) -> None:
    assert (await cluster.create(ROLES, {"metadata": {"name": name}, "rules": [rule]}))[0] == 201
    reference = {"kind": "ClusterRole", "name": name, "apiGroup": GROUP}
    binding = {"metadata": {"name": name}, "roleRef": reference, "subjects": [subject]}
    assert (await cluster.create(BINDINGS, binding))[0] == 201


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def all_nodes_may(server: APIServer) -> None:
    """Whoever says that he is a node, so that it is NodeRestriction alone that keeps him from it."""
    cluster = Api(server.transport(username="admin", groups=["system:masters"]), "")
    verbs = ["get", "create", "update", "patch", "delete", "deletecollection"]
    rule = {"apiGroups": ["*"], "resources": ["*"], "verbs": verbs}
    await grant(cluster, "all-of-nodes", rule, {"kind": "Group", "name": "system:nodes", "apiGroup": GROUP})
    for name in ("own", "other"):
        assert (await cluster.create(NODES, {"metadata": {"name": name}}))[0] == 201


@pytest.fixture
def node(server: APIServer, api: Api, all_nodes_may: None) -> Api:
    return Api(server.transport(username="system:node:own", groups=["system:nodes"]), api.namespace)


@pytest.fixture
def root_node(node: Api) -> Api:
    return Api(node.transport, "")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def granter(server: APIServer) -> Api:
    """He may write roles and bindings, and nothing else."""
    cluster = Api(server.transport(username="admin", groups=["system:masters"]), "")
    verbs = ["create", "update", "patch"]
    rule = {"apiGroups": [GROUP], "resources": ["*"], "verbs": verbs}
    await grant(cluster, "granter", rule, {"kind": "User", "name": "granter", "apiGroup": GROUP})
    return Api(server.transport(username="granter", groups=["system:authenticated"]), "")


# --- what a node may not


@pytest.mark.parametrize(
    ("made", "why"),
    [
        ({"metadata": {"name": "A b"}, "spec": {}}, 'pod does not have "kubernetes.io/config.mirror" annotation'),
        ({"metadata": {"generateName": "a"}, "spec": {}}, 'pod does not have "kubernetes.io/config.mirror" annotation'),
        (
            {"metadata": {"name": "a", "annotations": MIRROR}, "spec": {}},
            'node "own" can only create pods with spec.',
        ),
    ],
)
async def test_a_node_hears_that_it_may_make_no_such_pod_and_not_what_is_wrong_with_it(
    node: Api, made: JSON, why: str
) -> None:
    status, answer = await node.create(PODS, made)
    assert (status, told(answer)[: len(why)]) == (403, why)


async def test_a_pods_name_that_is_yet_to_be_made_is_not_told(node: Api) -> None:
    status, answer = await node.create(PODS, {"metadata": {"generateName": "many-"}, "spec": {}})
    assert (status, answer["message"].partition(" is ")[0]) == (403, 'pods "many-"')
    status, answer = await Api(node.transport, "").create(NODES, {"metadata": {"generateName": "own"}})
    assert (status, told(answer)) == (403, 'node "own" is not allowed to modify node ""')


@pytest.mark.parametrize(
    "change",
    [
        {"metadata": {"labels": {"not a label": "x"}}},
        {"metadata": {"resourceVersion": "1"}},
        {"spec": {"containers": []}},
    ],
)
async def test_a_node_changes_no_pod_however_wrong_or_late_the_change_is(node: Api, api: Api, change: JSON) -> None:
    assert (await api.create(PODS, pod("a", nodeName="own")))[0] == 201
    status, answer = await node.patch(PODS, "a", change)
    assert (status, told(answer)[:29]) == (403, 'unexpected operation "UPDATE"')


async def test_a_node_hears_whose_pod_it_is_before_it_hears_that_the_pod_has_changed(node: Api, api: Api) -> None:
    assert (await api.create(PODS, pod("a", nodeName="other")))[0] == 201
    late = {"metadata": {"name": "a", "resourceVersion": "1"}, "status": {"phase": "Running"}}
    status, answer = await node.update(PODS, late, "status")
    assert status == 403, answer
    status, answer = await api.update(PODS, late, "status")
    assert status == 409, answer


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}}, "modify taints"),
        ({"spec": {"configSource": {}}}, "update configSource to a new non-nil configSource"),
    ],
)
async def test_a_node_is_refused_what_a_write_of_its_status_would_not_change(
    root_node: Api, change: JSON, what: str
) -> None:
    status, answer = await root_node.patch(NODES, "own", change, subresource="status")
    assert (status, told(answer)) == (403, f'node "own" is not allowed to {what}')
    status, answer = await root_node.update(NODES, {"metadata": {"name": "own"}, **change}, "status")
    assert (status, told(answer)) == (403, f'node "own" is not allowed to {what}')


async def test_a_node_is_refused_a_claims_spec_with_its_status(node: Api, api: Api) -> None:
    spec: JSON = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    assert (await api.create(CLAIMS, {"metadata": {"name": "c"}, "spec": spec}))[0] == 201
    size = {"capacity": {"storage": "2Gi"}}
    status, answer = await node.patch(CLAIMS, "c", {"spec": {"volumeName": "v"}, "status": size}, subresource="status")
    assert status == 403, answer
    whole = {"metadata": (await api.get(CLAIMS, "c"))[1]["metadata"], "spec": spec, "status": {"phase": "Pending"}}
    whole["status"].update(size)
    assert (await node.update(CLAIMS, whole, "status"))[0] == 200


@pytest.mark.parametrize(
    ("resource", "made"),
    [
        (CLAIMS, {"metadata": {"name": "c"}, "spec": {}}),
        (LEASES, {"metadata": {"name": "own"}, "spec": {"leaseDurationSeconds": -1}}),
        (SIGNING, {"metadata": {"name": "c"}, "spec": {"signerName": "kubernetes.io/kubelet-serving"}}),
        ("storage.k8s.io/v1/csinodes", {"metadata": {"name": "other"}, "spec": {"drivers": [{"name": ""}]}}),
        ("resource.k8s.io/v1/resourceslices", {"metadata": {"name": "s"}, "spec": {"nodeName": "other"}}),
    ],
)
async def test_what_a_node_may_not_make_is_not_judged(node: Api, resource: str, made: JSON) -> None:
    within = resource in (CLAIMS, LEASES)
    status, answer = await Api(node.transport, node.namespace if within else "").create(resource, made)
    assert (status, answer["reason"]) == (403, "Forbidden"), answer


async def test_a_node_deletes_no_collection_of_pods(node: Api, api: Api) -> None:
    """As upstream, which looks for the pod that the request names."""
    assert (await api.create(PODS, pod("a", nodeName="own")))[0] == 201
    assert (await node.delete(PODS))[0] == 200
    assert (await api.get(PODS, "a"))[0] == 200


async def test_a_pod_that_goes_already_is_not_asked_about_and_stays_as_it_is(node: Api, api: Api) -> None:
    assert (await api.create(PODS, pod("a", nodeName="other")))[0] == 201
    assert (await api.delete(PODS, "a"))[0] == 200
    for options in (None, {"gracePeriodSeconds": 30}, {"propagationPolicy": "Orphan"}):
        status, answer = await node.delete(PODS, "a", options)
        assert (status, answer["metadata"].get("finalizers")) == (200, None), answer
    assert (await node.delete(PODS, "a", {"gracePeriodSeconds": 1}))[0] == 403
    status, answer = await api.delete(PODS, "a", {"gracePeriodSeconds": 1, "propagationPolicy": "Orphan"})
    assert (status, answer["metadata"]["finalizers"]) == (200, ["orphan"])
    assert answer["metadata"]["deletionGracePeriodSeconds"] == 1


# --- mirror pods and accounts


async def test_a_mirror_pod_is_refused_its_secrets_before_it_is_judged(api: Api) -> None:
    volumes = [{"name": "v", "secret": {"secretName": "s"}}]
    mirror = {"metadata": {"name": "a", "annotations": MIRROR}, "spec": {"volumes": volumes}}
    status, answer = await api.create(PODS, mirror)
    assert (status, told(answer)) == (403, "a mirror pod may not reference secrets")


async def test_a_pod_is_refused_secrets_that_are_not_its_accounts_before_it_is_judged(api: Api) -> None:
    strict = {"name": "strict", "annotations": {"kubernetes.io/enforce-mountable-secrets": "true"}}
    assert (await api.create("v1/serviceaccounts", {"metadata": strict}))[0] == 201
    volumes = [{"name": "v", "secret": {"secretName": "s"}}]
    spec = {"serviceAccountName": "strict", "volumes": volumes, "containers": []}
    status, answer = await api.create(PODS, {"metadata": {"name": "a"}, "spec": spec})
    assert (status, told(answer)[:35]) == (403, 'volume with secret.secretName="s" i')


async def test_a_namespace_that_stays_is_not_deleted_whatever_the_request_expects_of_it(cluster: Api) -> None:
    status, answer = await cluster.delete("v1/namespaces", "default")
    assert (status, told(answer)) == (403, "this namespace may not be deleted")


# --- rights that are given on


def role(**more: Any) -> JSON:
    return {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], **more}


@pytest.mark.parametrize(
    "made",
    [
        {"metadata": {"name": "a/b"}, "rules": [role()]},
        {"metadata": {"name": "a"}, "rules": [role(), {"verbs": []}]},
        {"metadata": {"name": "granter"}, "rules": [role()]},
    ],
)
async def test_who_would_give_what_he_does_not_hold_hears_that_and_no_more(granter: Api, made: JSON) -> None:
    status, answer = await granter.create(ROLES, made)
    assert (status, answer["reason"]) == (403, "Forbidden"), answer
    assert "is attempting to grant RBAC permissions not currently held" in answer["message"]


async def test_what_is_wrong_with_a_role_is_told_to_who_holds_it(granter: Api) -> None:
    wrong = {"metadata": {"name": "a"}, "rules": [{"apiGroups": [GROUP], "resources": ["*"], "verbs": []}]}
    status, answer = await granter.create(ROLES, wrong)
    assert (status, answer["reason"]) == (422, "Invalid"), answer


async def test_a_role_that_has_changed_is_given_to_nobody_who_does_not_hold_it(granter: Api) -> None:
    late = {"metadata": {"name": "granter", "resourceVersion": "1"}, "rules": [role()]}
    assert (await granter.update(ROLES, late))[0] == 403
    kept = {"apiGroups": [GROUP], "resources": ["*"], "verbs": ["create", "update", "patch"]}
    assert (await granter.update(ROLES, {**late, "rules": [kept]}))[0] == 409


@pytest.mark.parametrize(
    ("reference", "status", "message"),
    [
        ({"kind": "ClusterRole", "name": "cluster-admin", "apiGroup": GROUP}, 403, "is attempting to grant RBAC"),
        ({"kind": "ClusterRole", "name": "none", "apiGroup": GROUP}, 404, f'clusterrolebindings.{GROUP} "none" not fo'),
        ({"kind": "Role", "name": "any", "apiGroup": GROUP}, 400, "Namespace parameter required."),
        ({"kind": "Other", "name": "any", "apiGroup": GROUP}, 500, 'unsupported role reference kind: "Other"'),
    ],
)
async def test_what_a_binding_gives_is_asked_before_whom(
    granter: Api, reference: JSON, status: int, message: str
) -> None:
    nobody = {"kind": "Nobody", "name": ""}
    made = {"metadata": {"name": "b"}, "roleRef": reference, "subjects": [nobody]}
    found, answer = await granter.create(BINDINGS, made)
    assert (found, message in answer["message"]) == (status, True), answer


# --- what is not stored


async def test_an_eviction_and_a_binding_are_refused_to_a_node_before_their_names_are_compared(
    node: Api, api: Api
) -> None:
    assert (await api.create(PODS, pod("a", nodeName="other")))[0] == 201
    path = api.path(PODS, "a", "eviction")
    status, answer = await node.call("POST", path, {"metadata": {"name": "b"}})
    assert (status, told(answer)) == (403, "node own can only evict pods with spec.nodeName set to itself")
    status, answer = await api.call("POST", path, {"metadata": {"name": "b"}})
    assert (status, answer["message"]) == (400, "name in URL does not match name in Eviction object")
    status, answer = await node.call("POST", api.path(PODS, "a", "binding"), {"metadata": {"name": "b"}})
    assert (status, told(answer)[:24]) == (403, "unexpected pod subresour")


async def test_a_binding_says_which_state_of_the_pod_it_is_for(api: Api) -> None:
    status, made = await api.create(PODS, pod("a"))
    assert status == 201
    wanted = {"metadata": {"name": "a", "resourceVersion": "1"}, "target": {"name": "n"}}
    status, answer = await api.call("POST", api.path(PODS, "a", "binding"), wanted)
    assert (status, "ResourceVersion in precondition: 1, Resource" in answer["message"]) == (409, True), answer
    wanted["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"]
    assert (await api.call("POST", api.path(PODS, "a", "binding"), wanted))[0] == 201


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        ({"ignoreStoreReadErrorWithClusterBreakingPotential": True}, 422, "can not be set for pod eviction"),
        ({"dryRun": ["x"]}, 500, "Non-matching dry-run options in request and content: [All] and [x]"),
    ],
)
async def test_options_that_an_eviction_cannot_have(api: Api, options: JSON, status: int, message: str) -> None:
    assert (await api.create(PODS, pod("a")))[0] == 201
    eviction = {"metadata": {"name": "a"}, "deleteOptions": options}
    found, answer = await api.call("POST", api.path(PODS, "a", "eviction"), eviction, dryRun="All")
    assert (found, message in answer["message"]) == (status, True), answer


async def test_webhooks_that_validate_do_not_see_a_token_that_cannot_be(api: Api, cluster: Api) -> None:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["serviceaccounts/token"]}
    async with hooking(api, cluster, "Validating", deny, rule=rule):
        path = api.path("v1/serviceaccounts", "default", "token")
        status, answer = await api.call("POST", path, {"spec": {"expirationSeconds": 1}})
        assert (status, answer["reason"]) == (422, "Invalid"), answer
        status, answer = await api.call("POST", path, {"spec": {}})
        assert (status, "denied the request" in answer["message"]) == (400, True), answer


# --- updates


async def test_webhooks_that_mutate_refuse_an_update_before_it_is_too_late(api: Api, cluster: Api) -> None:
    assert (await api.create("v1/configmaps", config_map("a")))[0] == 201
    late = config_map("a", key="value")
    late["metadata"]["resourceVersion"] = "1"
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["configmaps"]}
    async with hooking(api, cluster, "Mutating", deny, rule=rule):
        status, answer = await api.update("v1/configmaps", late)
        assert (status, "denied the request" in answer["message"]) == (400, True), answer
    async with hooking(api, cluster, "Validating", deny, rule=rule):
        assert (await api.update("v1/configmaps", late))[0] == 409
