"""../shared/API_SEMANTICS.md, lines 32 to 37: each test is named after its line. What controllers do of lines 34 and 35
is in tests/unit/controllers/test_namespaces.py; line 37 across a restart in test_restart.py and the e2e tests.
"""

from __future__ import annotations

import pytest

from tests.integration.apiserver.conftest import config_map, deployment, pod
from tests.integration.apiserver.semantics.conftest import Rest

pytestmark = pytest.mark.asyncio(loop_scope="module")

MAPS, PODS = "{ns}/configmaps", "{ns}/pods"
BUDGETS = "/apis/policy/v1/namespaces/{name}/poddisruptionbudgets"


def eviction(name: str) -> dict[str, object]:
    return {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}


def running() -> dict[str, object]:
    return {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}


async def labelled_pod(rest: Rest, name: str) -> None:
    made = pod(name)
    made["metadata"]["labels"] = {"app": "a"}
    await rest.made(PODS, made)


async def test_32_an_eviction_is_201(rest: Rest) -> None:
    await labelled_pod(rest, "a")
    answer = await rest.post(f"{PODS}/a/eviction", eviction("a"))
    assert (answer.status, answer.json["status"]) == (201, "Success")
    assert (await rest.get(f"{PODS}/a")).status == 404


async def test_32_an_eviction_as_older_clients_post_it_is_201(rest: Rest) -> None:
    await labelled_pod(rest, "a")
    answer = await rest.post(f"{PODS}/a/eviction", {**eviction("a"), "apiVersion": "policy/v1beta1"})
    assert (answer.status, answer.json["status"]) == (201, "Success")


async def test_32_an_eviction_that_a_budget_forbids_is_429_with_its_cause(rest: Rest) -> None:
    await labelled_pod(rest, "a")
    budgets = BUDGETS.replace("{name}", rest.namespace)
    spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": "a"}}}
    await rest.made(budgets, {"metadata": {"name": "b"}, "spec": spec})
    await rest.post(f"{PODS}/a/binding", {"metadata": {"name": "a"}, "target": {"kind": "Node", "name": "n1"}})
    await rest.patch(f"{PODS}/a/status", running())
    answer = await rest.post(f"{PODS}/a/eviction", eviction("a"))
    assert (answer.status, answer.json["reason"]) == (429, "TooManyRequests")
    assert answer.json["details"]["causes"][0]["reason"] == "DisruptionBudget"
    await rest.delete(f"{PODS}/a?gracePeriodSeconds=0")


async def test_32_binding_a_bound_pod_is_409(rest: Rest) -> None:
    await rest.made(PODS, pod("a"))
    binding = {"metadata": {"name": "a"}, "target": {"kind": "Node", "name": "n1"}}
    assert (await rest.post(f"{PODS}/a/binding", binding)).status == 201
    answer = await rest.post(f"{PODS}/a/binding", binding)
    assert (answer.status, answer.json["reason"]) == (409, "Conflict")
    await rest.delete(f"{PODS}/a?gracePeriodSeconds=0")


async def test_32_ephemeral_containers_are_only_appended(rest: Rest) -> None:
    await rest.made(PODS, pod("a"))
    path = f"{PODS}/a/ephemeralcontainers"
    debug = {"name": "debug", "image": "none", "terminationMessagePolicy": "File", "imagePullPolicy": "Always"}
    added = await rest.patch(path, {"spec": {"ephemeralContainers": [debug]}})
    assert added.status == 200, added.body
    for changed in (None, [{**debug, "image": "other"}], [{**debug, "name": "another"}]):
        answer = await rest.patch(path, {"spec": {"ephemeralContainers": changed}})
        assert (answer.status, answer.json["reason"]) == (422, "Invalid")
    more = [debug, {**debug, "name": "more"}]
    assert (await rest.patch(path, {"spec": {"ephemeralContainers": more}})).status == 200
    assert (await rest.patch(f"{PODS}/a", {"spec": {"ephemeralContainers": [*more, debug]}})).status == 422


@pytest.mark.parametrize(
    "path", ["{apps}/deployments", "{apps}/replicasets", "{apps}/statefulsets", "{ns}/replicationcontrollers"]
)
async def test_32_scale_speaks_autoscaling_v1_whatever_the_parent(rest: Rest, path: str) -> None:
    parent = {"metadata": {"name": "a"}, "spec": deployment("a", replicas=2)["spec"]}
    if path.startswith("{ns}"):
        parent["spec"]["selector"] = {"app": "a"}
    await rest.made(path, parent)
    scale = (await rest.get(f"{path}/a/scale")).json
    assert (scale["apiVersion"], scale["kind"], scale["spec"]) == ("autoscaling/v1", "Scale", {"replicas": 2})
    assert scale["status"]["selector"] == "app=a"
    scale["spec"]["replicas"] = 3
    assert (await rest.put(f"{path}/a/scale", scale)).json["spec"] == {"replicas": 3}
    assert (await rest.get(f"{path}/a")).json["spec"]["replicas"] == 3


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/apis/authentication.k8s.io/v1/tokenreviews", {"spec": {"token": "x"}}),
        ("/apis/authentication.k8s.io/v1/selfsubjectreviews", {}),
        (
            "/apis/authorization.k8s.io/v1/subjectaccessreviews",
            {"spec": {"user": "x", "resourceAttributes": {"verb": "get", "resource": "pods"}}},
        ),
        (
            "/apis/authorization.k8s.io/v1/namespaces/default/localsubjectaccessreviews",
            {"spec": {"user": "x", "resourceAttributes": {"namespace": "default", "verb": "get", "resource": "pods"}}},
        ),
        ("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", {"spec": {"nonResourceAttributes": {"path": "/"}}}),
        ("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", {"spec": {"namespace": "default"}}),
    ],
)
async def test_33_reviews_are_201_and_never_stored(rest: Rest, path: str, body: dict[str, object]) -> None:
    answer = await rest.post(path, body)
    assert answer.status == 201, answer.body
    assert "status" in answer.json
    assert (await rest.get(path)).status == 405


async def test_33_a_token_request_is_201(rest: Rest) -> None:
    answer = await rest.post("{ns}/serviceaccounts/default/token", {"spec": {}})
    assert answer.status == 201
    assert answer.json["status"]["token"].count(".") == 2


async def test_33_what_is_never_stored_says_who_has_sent_it(rest: Rest) -> None:
    labelled = {"metadata": {"labels": {"a": "b"}}, "spec": {"audiences": ["x"]}}
    token = (await rest.post("{ns}/serviceaccounts/default/token?fieldManager=me", labelled)).json
    (entry,) = token["metadata"]["managedFields"]
    assert (entry["manager"], entry["operation"], entry["subresource"]) == ("me", "Update", "token")
    assert entry["fieldsV1"] == {
        "f:metadata": {"f:labels": {".": {}, "f:a": {}}},
        "f:spec": {"f:audiences": {}, "f:expirationSeconds": {}},
    }
    asked = {"spec": {"user": "u", "resourceAttributes": {"verb": "get", "resource": "pods"}}}
    review = (await rest.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", asked)).json
    (entry,) = review["metadata"]["managedFields"]
    assert entry["fieldsV1"]["f:spec"]["f:resourceAttributes"] == {".": {}, "f:resource": {}, "f:verb": {}}


async def test_34_a_namespace_terminates_until_its_finalizer_is_taken(rest: Rest) -> None:
    assert (await rest.get("{ns}")).json["status"]["phase"] == "Active"
    marked = (await rest.delete("{ns}")).json
    assert marked["status"]["phase"] == "Terminating"
    assert marked["spec"]["finalizers"] == ["kubernetes"]
    marked["spec"]["finalizers"] = []
    assert (await rest.put("{ns}/finalize", marked)).status == 200
    assert (await rest.get("{ns}")).status == 404


async def test_35_what_a_cluster_begins_with_is_there(rest: Rest) -> None:
    for name in ("default", "kube-system", "kube-public", "kube-node-lease"):
        assert (await rest.get(f"/api/v1/namespaces/{name}")).status == 200
    service = (await rest.get("/api/v1/namespaces/default/services/kubernetes")).json
    assert service["spec"]["ports"][0]["name"] == "https"


@pytest.mark.parametrize("path", ["/api/v9", "/apis/apps/v9/things", "/apis/apps/v1/unicorns", "{ns}/unicorns"])
async def test_36_an_unknown_path_is_a_404_status(rest: Rest, path: str) -> None:
    answer = await rest.get(path)
    assert answer.status == 404
    assert (answer.json["kind"], answer.json["reason"], answer.json["code"]) == ("Status", "NotFound", 404)
    assert answer.json["message"] == "the server could not find the requested resource"


@pytest.mark.parametrize("path", ["/nowhere", "/apis/none.example/v1/things", "/apis/none.example", "/openapi/v4"])
async def test_36_where_nothing_is_served_the_404_is_plain_text_as_upstream(rest: Rest, path: str) -> None:
    for method in (rest.get, rest.delete):
        answer = await method(path)
        assert (answer.status, answer.body) == (404, b"404 page not found\n")
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"


async def test_36_a_missing_object_is_named_with_kind_and_group(rest: Rest) -> None:
    answer = (await rest.get("{apps}/deployments/absent")).json
    assert answer["message"] == 'deployments.apps "absent" not found'
    assert answer["details"] == {"name": "absent", "group": "apps", "kind": "deployments"}


async def test_36_a_verb_that_a_resource_lacks_is_405(rest: Rest) -> None:
    for answer in (await rest.patch(MAPS, {}), await rest.post(f"{MAPS}/a", config_map("a"))):
        assert (answer.status, answer.json["reason"]) == (405, "MethodNotAllowed")
        assert answer.json["message"] == "the server does not allow this method on the requested resource"


async def test_37_a_watch_from_a_lists_revision_misses_nothing_and_repeats_nothing(rest: Rest) -> None:
    await rest.made(MAPS, config_map("a"))
    revision = (await rest.get(MAPS)).json["metadata"]["resourceVersion"]
    for name in ("b", "c"):
        await rest.made(MAPS, config_map(name))
    await rest.delete(f"{MAPS}/b")
    async with rest.watch(f"{MAPS}?watch=true&resourceVersion={revision}") as events:
        seen = [await events.next() for _ in range(3)]
    assert [(event["type"], event["object"]["metadata"]["name"]) for event in seen] == [
        ("ADDED", "b"),
        ("ADDED", "c"),
        ("DELETED", "b"),
    ]
