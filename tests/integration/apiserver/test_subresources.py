"""Binding, eviction, scale, tokens, reviews, component statuses."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kubecore.apiserver.server import APIServer

from .conftest import Api, deployment, pod

pytestmark = pytest.mark.asyncio(loop_scope="module")

PODS = "v1/pods"
DEPLOY = "apps/v1/deployments"
_OTHER_NAMESPACE = "the namespace of the provided object does not match the namespace sent on the request"


def _binding(name: str, node: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "target": {"kind": "Node", "name": node}}


async def test_binding_puts_a_pod_onto_a_node_once(api: Api) -> None:
    await api.create(PODS, pod("p"))
    status, answer = await api.call("POST", api.path(PODS, "p", "binding"), _binding("p", "n1"))
    assert (status, answer["status"]) == (201, "Success")
    _, bound = await api.get(PODS, "p")
    assert bound["spec"]["nodeName"] == "n1"
    scheduled = [one for one in bound["status"]["conditions"] if one["type"] == "PodScheduled"]
    assert scheduled[0]["status"] == "True"
    status, error = await api.call("POST", api.path(PODS, "p", "binding"), _binding("p", "n2"))
    assert status == 409
    assert 'pod p is already assigned to node "n1"' in error["message"]


async def test_a_bound_pod_is_nominated_for_no_node_any_more(api: Api) -> None:
    await api.create(PODS, pod("p"))
    await api.patch(PODS, "p", {"status": {"nominatedNodeName": "n1"}}, subresource="status")
    assert (await api.get(PODS, "p"))[1]["status"]["nominatedNodeName"] == "n1"
    assert (await api.call("POST", api.path(PODS, "p", "binding"), _binding("p", "n1")))[0] == 201
    assert "nominatedNodeName" not in (await api.get(PODS, "p"))[1]["status"]


async def test_bindings_is_the_same_without_the_pod_in_the_path(api: Api) -> None:
    await api.create(PODS, pod("p"))
    assert (await api.call("POST", api.path("v1/bindings"), _binding("p", "n1")))[0] == 201
    assert (await api.get(PODS, "p"))[1]["spec"]["nodeName"] == "n1"


async def test_what_is_wrong_with_a_bindings_target_is_a_plain_error(api: Api) -> None:
    await api.create(PODS, pod("p"))
    path = api.path(PODS, "p", "binding")
    for target, message in (
        ({"name": ""}, "target.name: Required value"),
        ({"kind": "Foo", "name": "n"}, 'target.kind: Unsupported value: "Foo": supported values: "Node", "<empty>"'),
    ):
        status, refused = await api.call("POST", path, {"metadata": {"name": "p"}, "target": target})
        assert (status, refused["message"]) == (500, message)
        assert "reason" not in refused


async def test_a_binding_names_its_pod_and_namespace(api: Api) -> None:
    await api.create(PODS, pod("p"))
    path, target = api.path(PODS, "p", "binding"), {"kind": "Node", "name": "n"}
    for metadata in ({}, {"name": "q"}):
        status, refused = await api.call("POST", path, {"metadata": metadata, "target": target})
        assert (status, refused["message"]) == (400, "name in URL does not match name in Binding object")
    status, refused = await api.call("POST", path, {"metadata": {"name": "p", "namespace": "x"}, "target": target})
    assert (status, refused["message"]) == (400, _OTHER_NAMESPACE)


async def test_a_bound_pod_gets_the_labels_of_its_binding_and_of_its_nodes_place(api: Api, cluster: Api) -> None:
    zone = {
        "topology.kubernetes.io/zone": "z",
        "topology.kubernetes.io/region": "r",
        "topology.kubernetes.io/rack": "k",
    }
    assert (await cluster.create("v1/nodes", {"metadata": {"name": "placed", "labels": zone}}))[0] == 201
    await api.create(PODS, pod("p"))
    binding = {"metadata": {"name": "p", "labels": {"a": "b"}}, "target": {"kind": "Node", "name": "placed"}}
    assert (await api.call("POST", api.path(PODS, "p", "binding"), binding))[0] == 201
    placed = {"topology.kubernetes.io/zone": "z", "topology.kubernetes.io/region": "r"}
    assert (await api.get(PODS, "p"))[1]["metadata"]["labels"] == {"a": "b", **placed}
    direct = pod("q")
    direct["spec"]["nodeName"] = "placed"
    assert (await api.create(PODS, direct))[1]["metadata"]["labels"] == placed
    for name in ("p", "q"):
        await api.delete(PODS, name, {"gracePeriodSeconds": 0})
    await api.delete("v1/nodes", "placed")


async def test_an_eviction_names_its_pod_and_namespace(api: Api) -> None:
    await api.create(PODS, pod("p"))
    path = api.path(PODS, "p", "eviction")
    status, refused = await api.call("POST", path, {"apiVersion": "policy/v1", "kind": "Eviction"})
    assert (status, refused["message"]) == (400, "name in URL does not match name in Eviction object")
    wrong = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p", "namespace": "x"}}
    status, refused = await api.call("POST", path, wrong)
    assert (status, refused["message"]) == (400, _OTHER_NAMESPACE)


@pytest.mark.parametrize(
    ("metadata", "status", "message"),
    [
        ({"name": "x"}, 422, 'metadata.name: Invalid value: "x": must match the service account name if specified'),
        ({"namespace": "x"}, 400, "the namespace of the provided object does not match the namespace sent"),
        ({"uid": "x"}, 409, "the UID in the token request (x) does not match the UID of the service account"),
    ],
)
async def test_a_token_is_asked_for_the_account_of_the_path(
    api: Api, metadata: dict[str, str], status: int, message: str
) -> None:
    await api.create("v1/serviceaccounts", {"metadata": {"name": "asked"}})
    path = api.path("v1/serviceaccounts", "asked", "token")
    got, refused = await api.call("POST", path, {"metadata": metadata, "spec": {}})
    assert got == status
    assert message in refused["message"]
    _, made = await api.call("POST", path, {"spec": {}})
    account = (await api.get("v1/serviceaccounts", "asked"))[1]
    assert made["metadata"]["uid"] == account["metadata"]["uid"]


@pytest.mark.parametrize(("ref", "kind"), [({}, "/, Kind="), ({"apiVersion": "v1", "kind": "Foo"}, "/v1, Kind=Foo")])
async def test_a_token_is_bound_to_pods_secrets_and_nodes_alone(api: Api, ref: dict[str, str], kind: str) -> None:
    await api.create("v1/serviceaccounts", {"metadata": {"name": "bound"}})
    path = api.path("v1/serviceaccounts", "bound", "token")
    status, refused = await api.call("POST", path, {"spec": {"boundObjectRef": ref}})
    assert (status, refused["message"]) == (400, f"cannot bind token to object of type {kind}")


async def test_eviction_deletes_unless_a_budget_forbids(api: Api) -> None:
    for name in ("a", "b"):
        given = pod(name)
        given["metadata"]["labels"] = {"app": "x"}
        await api.create(PODS, given)
        ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        await api.patch(PODS, name, {"status": ready}, subresource="status")
    budget = {"metadata": {"name": "pdb"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "x"}}}}
    status, made = await api.create("policy/v1/poddisruptionbudgets", budget)
    assert status == 201, made
    state = {
        "observedGeneration": 1,
        "disruptionsAllowed": 1,
        "currentHealthy": 2,
        "desiredHealthy": 1,
        "expectedPods": 2,
    }
    await api.patch("policy/v1/poddisruptionbudgets", "pdb", {"status": state}, subresource="status")
    assert (await api.call("POST", api.path(PODS, "a", "eviction"), {"metadata": {"name": "a"}}))[0] == 201
    assert (await api.get(PODS, "a"))[0] == 404
    status, error = await api.call("POST", api.path(PODS, "b", "eviction"), {"metadata": {"name": "b"}})
    assert (status, error["reason"]) == (429, "TooManyRequests")
    assert error["details"]["causes"][0]["reason"] == "DisruptionBudget"


def _eviction(name: str, **options: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, **({"deleteOptions": options} if options else {})}


async def _run(api: Api, name: str, *, ready: bool = True) -> str:
    """A pod that runs on a node, which it would take its time to leave; its resourceVersion."""
    given = pod(name)
    given["metadata"]["labels"] = {"app": "x"}
    given["spec"]["nodeName"] = "n"
    assert (await api.create(PODS, given))[0] == 201
    state = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True" if ready else "False"}]}
    _, running = await api.patch(PODS, name, {"status": state}, subresource="status")
    return str(running["metadata"]["resourceVersion"])


async def _budget(api: Api, **status: Any) -> None:
    budget = {"metadata": {"name": "pdb"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "x"}}}}
    assert (await api.create("policy/v1/poddisruptionbudgets", budget))[0] == 201
    state = {"observedGeneration": 1, "disruptionsAllowed": 0, "currentHealthy": 1, "desiredHealthy": 1, **status}
    answer = await api.patch(
        "policy/v1/poddisruptionbudgets", "pdb", {"status": {"expectedPods": 1, **state}}, subresource="status"
    )
    assert answer[0] == 200, answer


async def test_what_an_eviction_takes_from_a_budget_is_the_servers(api: Api) -> None:
    await _budget(api, disruptionsAllowed=2, currentHealthy=3)
    await _run(api, "a")
    assert (await api.call("POST", api.path(PODS, "a", "eviction"), _eviction("a")))[0] == 201
    _, budget = await api.get("policy/v1/poddisruptionbudgets", "pdb")
    [entry] = [one for one in budget["metadata"]["managedFields"] if one["manager"] == "kube-apiserver"]
    assert entry["subresource"] == "status"
    assert entry["fieldsV1"]["f:status"] == {"f:disruptedPods": {".": {}, "f:a": {}}, "f:disruptionsAllowed": {}}


async def test_who_spends_the_last_of_a_budget_says_so(api: Api) -> None:
    told = {"type": "DisruptionAllowed", "status": "True", "reason": "SufficientPods", "message": ""}
    since = "2026-01-01T00:00:00Z"
    condition = {**told, "lastTransitionTime": since, "observedGeneration": 1}
    await _budget(api, disruptionsAllowed=2, currentHealthy=3, conditions=[condition])
    for name, left in (("a", "True"), ("b", "False")):
        await _run(api, name)
        assert (await api.call("POST", api.path(PODS, name, "eviction"), _eviction(name)))[0] == 201
        _, budget = await api.get("policy/v1/poddisruptionbudgets", "pdb")
        [condition] = budget["status"]["conditions"]
        assert condition["status"] == left
    assert condition.pop("lastTransitionTime") > since
    assert condition == {**told, "status": "False", "reason": "InsufficientPods", "observedGeneration": 1}


async def test_a_pod_of_two_budgets_cannot_be_evicted(api: Api) -> None:
    await _run(api, "p")
    for name in ("one", "two"):
        spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": "x"}}}
        await api.create("policy/v1/poddisruptionbudgets", {"metadata": {"name": name}, "spec": spec})
    status, error = await api.call("POST", api.path(PODS, "p", "eviction"), _eviction("p"))
    told = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
    assert (status, error["message"]) == (500, told) and not {"reason", "details"} & error.keys()


async def test_an_evicted_pod_says_why_it_goes(api: Api) -> None:
    version = await _run(api, "p")
    path = api.path(PODS, "p", "eviction")
    assert (await api.call("POST", path, _eviction("p", dryRun=["All"])))[0] == 201
    assert (await api.get(PODS, "p"))[1]["metadata"]["resourceVersion"] == version, "a dry run leaves it alone"
    assert (await api.call("POST", path, _eviction("p", preconditions={"resourceVersion": version})))[0] == 201
    _, going = await api.get(PODS, "p")
    assert going["metadata"]["deletionTimestamp"]
    [mark] = [one for one in going["status"]["conditions"] if one["type"] == "DisruptionTarget"]
    assert (mark["status"], mark["reason"], mark["message"]) == (
        "True",
        "EvictionByEvictionAPI",
        "Eviction API: evicting",
    )


@pytest.mark.parametrize("precondition", [{"resourceVersion": "1"}, {"uid": "other"}])
async def test_only_the_pod_that_is_meant_is_evicted(api: Api, precondition: dict[str, str]) -> None:
    await _run(api, "p")
    status, refused = await api.call(
        "POST", api.path(PODS, "p", "eviction"), _eviction("p", preconditions=precondition)
    )
    assert (status, refused["reason"]) == (409, "Conflict")
    _, kept = await api.get(PODS, "p")
    assert "deletionTimestamp" not in kept["metadata"]
    assert [one["type"] for one in kept["status"]["conditions"]] == ["Ready"]


async def test_a_pod_that_is_not_ready_costs_a_healthy_budget_nothing(api: Api) -> None:
    await _budget(api)
    await _run(api, "p", ready=False)
    assert (await api.call("POST", api.path(PODS, "p", "eviction"), _eviction("p")))[0] == 201
    _, budget = await api.get("policy/v1/poddisruptionbudgets", "pdb")
    assert "disruptedPods" not in budget["status"]
    assert (await api.get(PODS, "p"))[1]["metadata"]["deletionTimestamp"]


def _allowed(reason: str) -> dict[str, str]:
    return {"type": "DisruptionAllowed", "status": "False", "reason": reason, "message": "m"} | {
        "lastTransitionTime": "2026-01-01T00:00:00Z"
    }


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ({"observedGeneration": 0}, "The disruption budget pdb is still being processed by the server."),
        ({}, "The disruption budget pdb needs 1 healthy pods and has 1 currently"),
        ({"currentHealthy": 2}, "The disruption budget pdb does not allow evicting pods currently"),
        (
            {"currentHealthy": 2, "conditions": [_allowed("Odd")]},
            "The disruption budget pdb does not allow evicting pods currently (Odd): m",
        ),
        (
            {"conditions": [_allowed("SyncFailed")]},
            "The disruption budget pdb does not allow evicting pods currently because it failed sync: m",
        ),
    ],
)
async def test_a_budget_says_why_it_forbids_an_eviction(api: Api, state: dict[str, Any], told: str) -> None:
    await _budget(api, **state)
    version = await _run(api, "p")
    status, refused = await api.call("POST", api.path(PODS, "p", "eviction"), _eviction("p"))
    assert (status, refused["details"]["causes"]) == (429, [{"reason": "DisruptionBudget", "message": told}])
    assert (await api.get(PODS, "p"))[1]["metadata"]["resourceVersion"] == version


async def test_scale_speaks_autoscaling_v1(api: Api) -> None:
    await api.create(DEPLOY, deployment("d", 2))
    _, scale = await api.get(DEPLOY, "d", "scale")
    assert (scale["apiVersion"], scale["kind"]) == ("autoscaling/v1", "Scale")
    assert scale["spec"] == {"replicas": 2}
    assert scale["status"]["selector"] == "app=d"
    scale["spec"]["replicas"] = 5
    status, updated = await api.update(DEPLOY, scale, "scale")
    assert (status, updated["spec"]["replicas"]) == (200, 5)
    _, obj = await api.get(DEPLOY, "d")
    assert (obj["spec"]["replicas"], obj["metadata"]["generation"]) == (5, 2)
    status, patched = await api.patch(DEPLOY, "d", {"spec": {"replicas": 1}}, subresource="scale")
    assert (status, patched["spec"]["replicas"]) == (200, 1)
    assert (await api.update(DEPLOY, scale, "scale"))[0] == 409


async def test_a_requested_token_names_its_account_and_works(api: Api, server: APIServer) -> None:
    request = {"spec": {"expirationSeconds": 1200}}
    status, answer = await api.call("POST", api.path("v1/serviceaccounts", "default", "token"), request)
    assert status == 201
    token = answer["status"]["token"]
    claims = orjson.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    assert claims["sub"] == f"system:serviceaccount:{api.namespace}:default"
    assert claims["exp"] - claims["iat"] == 1200
    review = {"spec": {"token": token}}
    path = "/apis/authentication.k8s.io/v1/tokenreviews"
    status, reviewed = await api.call("POST", path, review)
    assert (status, reviewed["status"]["authenticated"]) == (201, True)
    assert reviewed["status"]["user"]["username"] == claims["sub"]
    await api.delete("v1/serviceaccounts", "default")
    _, reviewed = await api.call("POST", path, review)
    assert not reviewed["status"].get("authenticated")


async def test_a_token_bound_to_a_pod_of_another_account_is_refused(api: Api) -> None:
    await api.create(PODS, pod("p"))
    await api.create("v1/serviceaccounts", {"metadata": {"name": "other"}})
    bound = {"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p"}}}
    assert (await api.call("POST", api.path("v1/serviceaccounts", "default", "token"), bound))[0] == 201
    assert (await api.call("POST", api.path("v1/serviceaccounts", "other", "token"), bound))[0] == 400


async def test_a_token_must_last_ten_minutes(api: Api) -> None:
    request = {"spec": {"expirationSeconds": 10}}
    status, error = await api.call("POST", api.path("v1/serviceaccounts", "default", "token"), request)
    assert status == 422
    assert "may not specify a duration less than 10 minutes" in error["message"]


async def test_access_reviews_answer_for_others_and_oneself(api: Api, server: APIServer) -> None:
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    spec = {"user": "jane", "resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "default"}}
    status, answer = await api.call("POST", path, {"spec": spec})
    assert (status, answer["status"]["allowed"]) == (201, False)
    spec["groups"] = ["system:masters"]
    assert (await api.call("POST", path, {"spec": spec}))[1]["status"]["allowed"]
    status, answer = await api.call("POST", path, {"spec": {"nonResourceAttributes": {}}})
    why = 'spec.user: Invalid value: "": at least one of user or group must be specified'
    assert (status, answer["message"]) == (422, f'.authorization.k8s.io "" is invalid: {why}')
    assert answer["details"].keys() == {"group", "causes"}
    nobody = Api(server.transport(username="nobody"), "default")
    own = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    _, answer = await nobody.call("POST", own, {"spec": {"resourceAttributes": {"verb": "list", "resource": "pods"}}})
    assert answer["status"]["allowed"] is False
    rules = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
    _, answer = await nobody.call("POST", rules, {"spec": {"namespace": "default"}})
    assert any("selfsubjectaccessreviews" in rule["resources"] for rule in answer["status"]["resourceRules"])
    who = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    _, answer = await nobody.call("POST", who, {})
    assert answer["status"]["userInfo"]["username"] == "nobody"


async def test_component_statuses_tell_who_is_well(cluster: Api, server: APIServer) -> None:
    server.register_component("scheduler", lambda: (True, "ok"))
    _, answer = await cluster.list("v1/componentstatuses")
    states = {one["metadata"]["name"]: one["conditions"][0]["status"] for one in answer["items"]}
    assert states == {"scheduler": "True", "controller-manager": "False"}
    status, answer = await cluster.get("v1/componentstatuses", "nothing")
    assert (status, answer["message"]) == (404, 'componentstatus "nothing" not found')


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({"labelSelector": "a=b"}, []),
        ({"labelSelector": "!a"}, ["scheduler", "controller-manager"]),
        ({"fieldSelector": "metadata.name=scheduler"}, ["scheduler"]),
    ],
)
async def test_component_statuses_are_selected_by_their_names(
    cluster: Api, query: dict[str, str], names: list[str]
) -> None:
    _, answer = await cluster.list("v1/componentstatuses", **query)
    assert [one["metadata"]["name"] for one in answer["items"]] == names


async def test_component_statuses_cannot_be_watched(cluster: Api) -> None:
    status, answer = await cluster.list("v1/componentstatuses", watch="true")
    assert (status, answer["reason"]) == (405, "MethodNotAllowed")


def certificate_request() -> bytes:
    """A PEM certificate request for user jane, signed by a key of its own."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "jane")])
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM)


async def test_approval_changes_the_conditions_of_a_request_only(cluster: Api) -> None:
    key = "certificates.k8s.io/v1/certificatesigningrequests"
    given = {
        "metadata": {"name": "csr"},
        "spec": {
            "request": base64.b64encode(certificate_request()).decode(),
            "signerName": "kubernetes.io/kube-apiserver-client",
            "usages": ["client auth"],
        },
    }
    status, obj = await cluster.create(key, given)
    assert status == 201, obj
    obj["spec"]["signerName"] = "example.com/other"
    approved = {"type": "Approved", "status": "True", "reason": "x"}
    obj["status"] = {"certificate": base64.b64encode(b"forged").decode(), "conditions": [approved]}
    status, answer = await cluster.update(key, obj, "approval")
    assert status == 200
    assert answer["spec"]["signerName"] == "kubernetes.io/kube-apiserver-client"
    assert [one["type"] for one in answer["status"]["conditions"]] == ["Approved"]
    assert "certificate" not in answer["status"]
