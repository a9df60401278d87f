"""../shared/API_SEMANTICS.md, lines 27 to 31: each test is named after its line. What the garbage collector does of
line 31 is in tests/unit/controllers/test_garbage_collector.py.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from kubecore.api import meta
from kubecore.clock import RealClock
from tests.integration.apiserver.conftest import config_map, deployment, pod
from tests.integration.apiserver.semantics.conftest import JSON, Rest

pytestmark = pytest.mark.asyncio(loop_scope="module")

MAPS, PODS, DEPLOYMENTS = "{ns}/configmaps", "{ns}/pods", "{apps}/deployments"


async def bound_pod(rest: Rest, name: str) -> JSON:
    """A pod on a node, so that its deletion waits for the node's kubelet."""
    await rest.made(PODS, pod(name))
    binding = {"metadata": {"name": name}, "target": {"kind": "Node", "name": "n1"}}
    assert (await rest.post(f"{PODS}/{name}/binding", binding)).status == 201
    return (await rest.get(f"{PODS}/{name}")).json


async def test_27_delete_answers_a_status_with_the_uid(rest: Rest) -> None:
    made = await rest.made(MAPS, config_map("a"))
    answer = (await rest.delete(f"{MAPS}/a")).json
    assert (answer["kind"], answer["status"]) == ("Status", "Success")
    assert answer["details"] == {"name": "a", "kind": "configmaps", "uid": made["metadata"]["uid"]}


async def test_27_pods_and_what_stays_answer_the_object(rest: Rest) -> None:
    await rest.made(PODS, pod("a"))
    assert (await rest.delete(f"{PODS}/a")).json["kind"] == "Pod"
    kept = config_map("a")
    kept["metadata"]["finalizers"] = ["x.example/stay"]
    await rest.made(MAPS, kept)
    answer = (await rest.delete(f"{MAPS}/a")).json
    assert answer["kind"] == "ConfigMap"
    assert "deletionTimestamp" in answer["metadata"]
    await rest.patch(f"{MAPS}/a", {"metadata": {"finalizers": None}})


@pytest.mark.parametrize(
    ("path", "obj"),
    [
        ("/apis/storage.k8s.io/v1/storageclasses", {"provisioner": "x.example/y"}),
        ("/apis/storage.k8s.io/v1/csidrivers", {"spec": {}}),
        ("/apis/resource.k8s.io/v1/deviceclasses", {"spec": {}}),
    ],
)
async def test_27_some_kinds_answer_the_object_that_is_gone(rest: Rest, path: str, obj: dict[str, object]) -> None:
    made = await rest.made(path, {"metadata": {"name": "gone.example"}, **obj})
    answer = (await rest.delete(f"{path}/gone.example")).json
    assert (answer["kind"], answer["metadata"]["uid"]) == (made["kind"], made["metadata"]["uid"])
    assert (await rest.get(f"{path}/gone.example")).status == 404


async def test_28_delete_collection_answers_the_list(rest: Rest) -> None:
    for name in ("a", "b"):
        made = config_map(name)
        made["metadata"]["labels"] = {"go": "yes"}
        await rest.made(MAPS, made)
    await rest.made(MAPS, config_map("c"))
    answer = (await rest.delete(f"{MAPS}?labelSelector=go")).json
    assert answer["kind"] == "ConfigMapList"
    assert [item["metadata"]["name"] for item in answer["items"]] == ["a", "b"]
    assert [item["metadata"]["name"] for item in (await rest.get(MAPS)).json["items"]] == ["c"]


async def test_29_graceful_deletion_marks_the_pod_and_counts_up_generation(rest: Rest) -> None:
    before = (await bound_pod(rest, "a"))["metadata"]
    clock, grace, second = RealClock(), timedelta(seconds=20), timedelta(seconds=1)
    began = clock.now()
    marked = (await rest.delete(f"{PODS}/a?gracePeriodSeconds=20")).json["metadata"]
    assert marked["deletionGracePeriodSeconds"] == 20
    assert began - second <= meta.parse_time(marked["deletionTimestamp"]) - grace <= clock.now() + second
    assert marked["generation"] == before["generation"] + 1
    await rest.delete(f"{PODS}/a?gracePeriodSeconds=0")


async def test_29_a_repeated_delete_can_only_shorten_the_grace(rest: Rest) -> None:
    await bound_pod(rest, "a")
    first = (await rest.delete(f"{PODS}/a?gracePeriodSeconds=20")).json["metadata"]
    longer = (await rest.delete(f"{PODS}/a?gracePeriodSeconds=60")).json["metadata"]
    assert longer["deletionTimestamp"] == first["deletionTimestamp"]
    shorter = (await rest.delete(f"{PODS}/a?gracePeriodSeconds=5")).json["metadata"]
    assert shorter["deletionGracePeriodSeconds"] == 5
    assert shorter["deletionTimestamp"] < first["deletionTimestamp"]
    await rest.delete(f"{PODS}/a?gracePeriodSeconds=0")
    assert (await rest.get(f"{PODS}/a")).status == 404


async def test_29_an_unscheduled_pod_goes_at_once(rest: Rest) -> None:
    await rest.made(PODS, pod("a"))
    await rest.delete(f"{PODS}/a")
    assert (await rest.get(f"{PODS}/a")).status == 404


async def test_30_nobody_clears_a_deletion_timestamp_or_adds_finalizers(rest: Rest) -> None:
    kept = config_map("a")
    kept["metadata"]["finalizers"] = ["x.example/stay"]
    await rest.made(MAPS, kept)
    marked = (await rest.delete(f"{MAPS}/a")).json["metadata"]["deletionTimestamp"]
    answer = await rest.patch(f"{MAPS}/a", {"metadata": {"deletionTimestamp": None, "labels": {"x": "y"}}})
    assert answer.json["metadata"]["deletionTimestamp"] == marked
    answer = await rest.patch(f"{MAPS}/a", {"metadata": {"finalizers": ["x.example/stay", "x.example/more"]}})
    assert (answer.status, answer.json["reason"]) == (422, "Invalid")
    assert "no new finalizers can be added if the object is being deleted" in answer.json["message"]
    assert (await rest.patch(f"{MAPS}/a", {"metadata": {"finalizers": []}})).status == 200
    assert (await rest.get(f"{MAPS}/a")).status == 404


async def test_31_a_missed_precondition_conflicts(rest: Rest) -> None:
    made = (await rest.made(MAPS, config_map("a")))["metadata"]
    for precondition in ({"uid": "other"}, {"resourceVersion": "1"}):
        answer = await rest.delete(f"{MAPS}/a", {"preconditions": precondition})
        assert (answer.status, answer.json["reason"]) == (409, "Conflict")
    right = {"uid": made["uid"], "resourceVersion": made["resourceVersion"]}
    assert (await rest.delete(f"{MAPS}/a", {"preconditions": right})).status == 200


async def test_31_preconditions_stand_in_the_query_where_there_is_no_body(rest: Rest) -> None:
    made = (await rest.made(MAPS, config_map("a")))["metadata"]
    for query in ("uid=other", "resourceVersion=1"):
        answer = await rest.delete(f"{MAPS}/a?{query}")
        assert (answer.status, answer.json["reason"]) == (409, "Conflict")
    # That of a list is one for each of its objects, too.
    assert (await rest.delete(f"{MAPS}?resourceVersion=0")).status == 409
    right = f"uid={made['uid']}&resourceVersion={made['resourceVersion']}"
    assert (await rest.delete(f"{MAPS}/a?{right}")).status == 200


async def test_31_orphan_dependents_and_a_propagation_policy_exclude_each_other(rest: Rest) -> None:
    await rest.made(MAPS, config_map("a"))
    answer = await rest.delete(f"{MAPS}/a", {"orphanDependents": True, "propagationPolicy": "Orphan"})
    assert (answer.status, answer.json["reason"]) == (422, "Invalid")


@pytest.mark.parametrize(("policy", "finalizer"), [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")])
async def test_31_foreground_and_orphan_leave_a_finalizer(rest: Rest, policy: str, finalizer: str) -> None:
    await rest.made(DEPLOYMENTS, deployment("a"))
    answer = (await rest.delete(f"{DEPLOYMENTS}/a?propagationPolicy={policy}")).json
    assert answer["metadata"]["finalizers"] == [finalizer]
    await rest.patch(f"{DEPLOYMENTS}/a", {"metadata": {"finalizers": None}})


async def test_31_background_goes_at_once(rest: Rest) -> None:
    await rest.made(DEPLOYMENTS, deployment("a"))
    assert (await rest.delete(f"{DEPLOYMENTS}/a?propagationPolicy=Background")).json["kind"] == "Status"
    assert (await rest.get(f"{DEPLOYMENTS}/a")).status == 404
