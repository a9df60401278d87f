"""Many creates in one collection at once, in process: each is a create like any other."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from kubecore.apiserver.server import APIServer

from .conftest import JSON, Api, config_map, pod

pytestmark = pytest.mark.asyncio(loop_scope="module")

CM = "v1/configmaps"
PODS = "v1/pods"


async def create_all(api: Api, resource: str, bodies: list[bytes]) -> list[tuple[int, JSON]]:
    query = {"fieldManager": "maker"}
    answers = await api.transport.create_all(api.path(resource), bodies, query=query)
    return [(status, orjson.loads(body)) for status, body in answers]


async def test_they_are_written_and_answered_in_their_order(api: Api) -> None:
    made = await create_all(api, CM, [orjson.dumps(config_map(f"c{number}", k="v")) for number in range(20)])
    assert [status for status, _ in made] == [201] * 20
    revisions = [int(one["metadata"]["resourceVersion"]) for _, one in made]
    assert revisions == sorted(revisions)
    assert [(await api.get(CM, f"c{number}"))[1] for number in range(20)] == [one for _, one in made]


async def test_one_that_is_refused_takes_none_with_it(api: Api) -> None:
    bodies = [orjson.dumps(config_map("a")), b"{", orjson.dumps(config_map("a")), orjson.dumps(config_map("b"))]
    made = await create_all(api, CM, bodies)
    assert [status for status, _ in made] == [201, 400, 409, 201]
    assert made[2][1]["message"] == 'configmaps "a" already exists'


def without_identity(obj: JSON) -> dict[str, Any]:
    own = ("name", "uid", "resourceVersion", "creationTimestamp")
    metadata = {name: value for name, value in obj["metadata"].items() if name not in own}
    metadata["managedFields"] = [{**entry, "time": ""} for entry in metadata["managedFields"]]
    return {**obj, "metadata": metadata}


async def test_of_one_body_comes_what_each_create_of_it_alone_makes(api: Api) -> None:
    given = pod("")
    given["metadata"] = {"generateName": "web-", "labels": {"app": "web"}}
    _, alone = await api.create(PODS, given, fieldManager="maker")
    body = orjson.dumps(given)
    made = await create_all(api, PODS, [body] * 5)
    assert [status for status, _ in made] == [201] * 5
    assert len({one["metadata"]["name"] for _, one in made} | {one["metadata"]["uid"] for _, one in made}) == 10
    for _, one in made:
        expected = without_identity(alone)
        shown = without_identity(one)
        # The volume of the token has a random name.
        for obj in (expected, shown):
            text = orjson.dumps(obj).decode()
            for volume in obj["spec"].get("volumes", []):
                text = text.replace(volume["name"], "token")
            obj |= orjson.loads(text)
        assert shown == expected


def event(name: str, **more: str) -> bytes:
    involved = {"kind": "Pod", "name": "web", "namespace": "default"}
    told = {"reason": "Pulled", "message": name, "type": "Normal", "source": {"component": "tester"}}
    metadata = {"name": name, "namespace": "default"}
    return orjson.dumps({"metadata": metadata, "involvedObject": involved, **told, **more})


async def test_each_event_is_owned_by_what_was_said_of_it(api: Api) -> None:
    there = Api(api.transport, "default")
    named, acting, again = (
        one["metadata"]["managedFields"][0]["fieldsV1"]
        for _, one in await create_all(there, "v1/events", [event("a.1"), event("b.2", action="Pull"), event("c.3")])
    )
    assert named == again and "f:action" not in named
    assert {name for name in acting if name not in named} == {"f:action"}


INVOLVED = {"kind": "Pod", "name": "web", "namespace": "default"}
OLD = {"involvedObject": INVOLVED, "reason": "Pulled", "type": "Normal", "count": 1, "source": {"component": "tester"}}
NEW = {
    "involvedObject": INVOLVED,
    "reason": "Scheduled",
    "action": "Binding",
    "type": "Normal",
    "eventTime": "2026-01-02T03:04:05.000006Z",
    "reportingComponent": "example.com/tester",
    "reportingInstance": "tester-1",
    "related": {**INVOLVED, "name": "other"},
}
ELSEWHERE = {**INVOLVED, "namespace": "other"}
EVENTS: dict[str, JSON] = {
    "as the core group has them": OLD,
    "as events.k8s.io has them": NEW,
    "of a series": {**NEW, "series": {"count": 2, "lastObservedTime": "2026-01-02T03:04:05.000006Z"}},
    "with more of metadata": {**OLD, "metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}},
    "named by the server": {**OLD, "metadata": {"name": "", "generateName": "tell-"}},
    "without a namespace of its own": {**OLD, "metadata": {"namespace": ""}},
    "of another namespace": {**OLD, "metadata": {"namespace": "other"}},
    "about what is elsewhere": {**OLD, "involvedObject": ELSEWHERE},
    "without what is needed": {**NEW, "action": "", "reportingComponent": ""},
    "of no name that can be in a path": {**OLD, "metadata": {"name": "a/b"}},
    "without any name": {**OLD, "metadata": {"name": ""}},
    "of a message that is too long": {**NEW, "message": "x" * 1025},
    "with what nobody knows": {**OLD, "unknown": 1},
    "of wrong types": {**OLD, "count": "one"},
    "of another kind": {**OLD, "kind": "Pod", "apiVersion": "v1"},
    "of a revision": {**OLD, "metadata": {"resourceVersion": "7"}},
    "too large": {**OLD, "message": "x" * 2_000_000},
}


def told(answer: tuple[int, JSON], name: str) -> tuple[int, JSON]:
    """With nothing of the one event in it."""
    status, obj = answer
    if status == 201:
        return status, without_identity(obj)
    return status, orjson.loads(orjson.dumps(obj).decode().replace(name, "NAME"))


@pytest.mark.parametrize("kind", EVENTS)
async def test_each_event_of_many_is_what_it_is_alone(api: Api, kind: str) -> None:
    there = Api(api.transport, "default")
    names = {one: f"{kind.replace(' ', '-').lower()}.{one}" for one in ("alone", "before", "among", "after")}

    def body(which: str, given: JSON) -> bytes:
        metadata = {"name": names[which], "namespace": "default", **given.get("metadata", {})}
        return orjson.dumps({**given, "metadata": metadata})

    alone = await there.create("v1/events", body("alone", EVENTS[kind]), fieldManager="maker")
    bodies = [body("before", OLD), body("among", EVENTS[kind]), body("after", OLD)]
    before, among, after = await create_all(there, "v1/events", bodies)
    assert told(among, names["among"]) == told(alone, names["alone"])
    for which, answer in (("before", before), ("after", after)):
        assert answer == (201, (await there.get("v1/events", names[which]))[1])
    if among[0] == 201:
        assert among[1] == (await there.get("v1/events", among[1]["metadata"]["name"]))[1]


async def test_events_in_a_namespace_that_goes_or_is_not_there_are_refused_each(api: Api, cluster: Api) -> None:
    await cluster.create("v1/namespaces", {"metadata": {"name": "going"}})
    await cluster.delete("v1/namespaces", "going")
    for namespace, expected in (("going", 403), ("nowhere", 404)):
        bodies = [
            orjson.dumps({"metadata": {"name": name}, "involvedObject": {"namespace": namespace}}) for name in "ab"
        ]
        made = await create_all(Api(api.transport, namespace), "v1/events", bodies)
        assert [status for status, _ in made] == [expected] * 2
        assert namespace in made[0][1]["message"]


async def test_of_two_events_of_one_name_the_second_is_refused(api: Api) -> None:
    there = Api(api.transport, "default")
    made = await create_all(there, "v1/events", [event("twice.1"), event("twice.1"), event("once.2")])
    assert [status for status, _ in made] == [201, 409, 201]
    assert made[1][1]["message"] == 'events "twice.1" already exists'


async def test_who_may_not_create_there_is_refused_each(server: APIServer, api: Api) -> None:
    nobody = Api(server.transport(username="nobody"), api.namespace)
    made = await create_all(nobody, CM, [orjson.dumps(config_map("a"))] * 2)
    assert [(status, one["reason"]) for status, one in made] == [(403, "Forbidden")] * 2


async def test_what_is_not_kept_is_answered_too(cluster: Api) -> None:
    review = {"spec": {"user": "somebody", "nonResourceAttributes": {"path": "/version", "verb": "get"}}}
    made = await create_all(cluster, "authorization.k8s.io/v1/subjectaccessreviews", [orjson.dumps(review)] * 2)
    assert [(status, "allowed" in one["status"]) for status, one in made] == [(201, True)] * 2


async def test_there_is_nothing_to_do_for_no_body(api: Api) -> None:
    assert await create_all(api, CM, []) == []


async def test_a_collection_that_is_not_there_is_not_found(api: Api) -> None:
    made = await create_all(api, "v1/unknowns", [b"{}"])
    assert [(status, one["reason"]) for status, one in made] == [(404, "NotFound")]
