"""Who owns what of objects that several versions show: each entry is in the words of the version it was written
through, and a write is judged in those (checked beside kube-apiserver v1.35)."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from .conftest import Api

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = dict[str, Any]
V1, V2 = "autoscaling/v1/horizontalpodautoscalers", "autoscaling/v2/horizontalpodautoscalers"
CORE, EVENTS = "v1/events", "events.k8s.io/v1/events"
TARGET = {"kind": "Deployment", "name": "web", "apiVersion": "apps/v1"}
SHARE = "f:targetCPUUtilizationPercentage"


def autoscaler(version: str, **spec: Any) -> JSON:
    whole = {"scaleTargetRef": TARGET, "maxReplicas": 3, **spec}
    kind = {"apiVersion": f"autoscaling/{version}", "kind": "HorizontalPodAutoscaler"}
    return {**kind, "metadata": {"name": "web"}, "spec": whole}


def cpu(share: int) -> JSON:
    target = {"type": "Utilization", "averageUtilization": share}
    return {"type": "Resource", "resource": {"name": "cpu", "target": target}}


def event(namespace: str) -> JSON:
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": "e"},
        "regarding": {"kind": "Pod", "name": "p", "namespace": namespace},
        "reason": "R",
        "note": "n",
        "type": "Normal",
        "action": "A",
        "reportingController": "example.com/c",
        "reportingInstance": "i",
        "eventTime": "2026-01-01T00:00:00.000000Z",
    }


def owners(obj: JSON) -> dict[tuple[str, str], JSON]:
    """Fields by manager and version."""
    entries = obj["metadata"].get("managedFields", [])
    return {(one["manager"], one["apiVersion"]): one["fieldsV1"] for one in entries}


async def apply(api: Api, resource: str, obj: JSON, manager: str, **query: str) -> tuple[int, JSON]:
    path = api.path(resource, obj["metadata"]["name"])
    kind = "application/apply-patch+yaml"
    return await api.call("PATCH", path, orjson.dumps(obj), kind, fieldManager=manager, **query)


async def test_an_entry_is_of_the_version_of_the_request_and_in_its_words(api: Api) -> None:
    await api.create(V1, autoscaler("v1", targetCPUUtilizationPercentage=70), fieldManager="a")
    _, shown = await api.get(V2, "web")
    assert owners(shown).keys() == {("a", "autoscaling/v1")}
    assert owners(shown)["a", "autoscaling/v1"]["f:spec"].keys() == {
        "f:maxReplicas",
        "f:minReplicas",
        "f:scaleTargetRef",
        SHARE,
    }


async def test_one_manager_has_an_entry_for_each_version_it_updates_through(api: Api) -> None:
    await api.create(V1, autoscaler("v1", targetCPUUtilizationPercentage=70), fieldManager="a")
    _, shown = await api.patch(V2, "web", {"spec": {"minReplicas": 2}}, fieldManager="a")
    assert owners(shown)["a", "autoscaling/v2"] == {"f:spec": {"f:minReplicas": {}}}
    assert SHARE in owners(shown)["a", "autoscaling/v1"]["f:spec"]


async def test_what_changes_in_one_version_is_taken_from_who_owns_it_in_another(api: Api) -> None:
    await api.create(V1, autoscaler("v1", targetCPUUtilizationPercentage=70), fieldManager="a")
    _, shown = await api.patch(V2, "web", {"spec": {"metrics": [cpu(40)]}}, fieldManager="b")
    assert owners(shown)["b", "autoscaling/v2"] == {"f:spec": {"f:metrics": {}}}
    assert SHARE not in owners(shown)["a", "autoscaling/v1"]["f:spec"]


async def test_a_conflict_is_told_in_the_version_of_the_owner(api: Api) -> None:
    await api.create(V1, autoscaler("v1", targetCPUUtilizationPercentage=70), fieldManager="a")
    status, refused = await apply(api, V2, autoscaler("v2", metrics=[cpu(40)]), "b")
    assert status == 409
    assert refused["details"]["causes"] == [
        {
            "reason": "FieldManagerConflict",
            "message": 'conflict with "a" using autoscaling/v1',
            "field": ".spec.targetCPUUtilizationPercentage",
        }
    ]


async def test_an_applier_that_moves_to_another_version_gives_up_what_it_says_no_more(api: Api) -> None:
    await apply(api, V1, autoscaler("v1", targetCPUUtilizationPercentage=70, minReplicas=2), "a")
    status, shown = await apply(api, V2, autoscaler("v2", metrics=[cpu(70)]), "a")
    assert status == 200
    assert shown["spec"]["metrics"] == [cpu(70)]
    assert shown["spec"]["minReplicas"] == 1  # by default
    assert owners(shown).keys() == {("a", "autoscaling/v2")}


async def test_what_conversion_fills_in_stays_when_an_applier_moves(api: Api) -> None:
    """autoscaling/v1 cannot say that no metric is wanted: upstream's conversion from it brings its default."""
    await apply(api, V1, autoscaler("v1", targetCPUUtilizationPercentage=66, minReplicas=2), "a")
    _, shown = await apply(api, V2, autoscaler("v2"), "a")
    assert (shown["spec"]["metrics"], shown["spec"]["minReplicas"]) == ([cpu(66)], 1)


async def test_events_are_owned_in_the_words_of_the_group_they_were_written_through(api: Api) -> None:
    _, shown = await api.create(EVENTS, event(api.namespace), fieldManager="a")
    own = owners(shown)["a", "events.k8s.io/v1"]
    assert {"f:regarding", "f:reportingController", "f:note"} <= own.keys()
    assert not {"f:message", "f:involvedObject"} & own.keys()


async def test_an_update_through_the_other_group_forgets_who_wrote_an_event(api: Api) -> None:
    """As upstream, whose servers of the core group and of the others know each other's types not."""
    await api.create(EVENTS, event(api.namespace), fieldManager="a")
    _, shown = await api.patch(CORE, "e", {"message": "other"}, fieldManager="b")
    assert owners(shown) == {("b", "v1"): {"f:message": {}}}


async def test_the_status_of_a_version_is_nobodys_of_a_new_object(api: Api) -> None:
    """autoscaling/v1 always shows some of it."""
    await api.create(V1, autoscaler("v1"), fieldManager="a")
    assert owners((await api.get(V1, "web"))[1])["a", "autoscaling/v1"].keys() == {"f:spec"}
