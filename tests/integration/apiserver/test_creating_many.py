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
