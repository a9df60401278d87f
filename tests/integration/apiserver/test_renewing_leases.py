"""Renewals of leases in process: of each comes what comes of a PUT of the lease."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import orjson
import pytest

from kubecore.apiserver.audit.options import AuditOptions, LogOptions
from kubecore.apiserver.audit.policy import load
from kubecore.apiserver.server import APIServer
from kubecore.client.client import Client
from kubecore.clock import VirtualClock

from .conftest import JSON, Api
from .serving import served
from .test_validating_policies import policed

pytestmark = pytest.mark.asyncio(loop_scope="module")

KIND, KEY = "coordination.k8s.io/v1/leases", "leases.coordination.k8s.io"
MANAGER = "kubelet"
BEFORE, AFTER = "2026-01-02T03:04:05.000000Z", "2026-01-02T03:04:15.000000Z"
SPEC = {"holderIdentity": "me", "leaseDurationSeconds": 40, "renewTime": BEFORE, "acquireTime": BEFORE}
_numbers = itertools.count(1)


async def lease_of(api: Api, spec: JSON | None = None, **metadata: Any) -> JSON:
    """Made by another request than the one it is renewed by, so that its time is another one, too."""
    given = {"metadata": {"name": f"lease-{next(_numbers)}", **metadata}, "spec": SPEC if spec is None else spec}
    code, made = await api.create(KIND, given, fieldManager=MANAGER)
    assert code == 201, made
    return made


async def put(api: Api, lease: JSON, manager: str = MANAGER) -> tuple[int, JSON]:
    """What a component elsewhere sends in its place."""
    renewed = {**lease, "spec": {**(lease.get("spec") or {}), "renewTime": AFTER}}
    return await api.update(KIND, renewed, fieldManager=manager)


async def renewed(api: Api, lease: JSON, manager: str = MANAGER) -> JSON | None:
    place = [lease["metadata"][one] for one in ("namespace", "name", "resourceVersion")]
    answer = await api.transport.renew_lease(*place, AFTER, query={"fieldManager": manager})
    return None if answer is None else orjson.loads(answer)


def comparable(lease: JSON) -> str:
    """Without what tells one of two like leases from the other, and in the order in which it is told."""
    metadata = {**lease["metadata"], "name": "", "uid": "", "resourceVersion": "", "creationTimestamp": ""}
    # Seconds end between the writes of one lease and not of the other.
    metadata["managedFields"] = [{**one, "time": ""} for one in metadata.get("managedFields") or ()]
    return orjson.dumps({**lease, "metadata": metadata}).decode()


STATES: dict[str, dict[str, Any]] = {
    "of a node": {"ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u1"}]},
    "of a leader": {"spec": {**SPEC, "leaseTransitions": 3}},
    "labelled": {"labels": {"a": "b"}, "annotations": {"c": "d"}, "finalizers": ["example.com/held"]},
}


@pytest.mark.parametrize("state", STATES)
async def test_a_lease_is_renewed_as_by_a_put(api: Api, state: str) -> None:
    one, other = [await lease_of(api, **STATES[state]) for _ in range(2)]
    code, wanted = await put(api, one)
    told = await renewed(api, other)
    assert code == 200 and told is not None
    shown = [(await api.get(KIND, each["metadata"]["name"]))[1] for each in (one, other)]
    assert told == shown[1] and wanted == shown[0]
    assert comparable(shown[1]) == comparable(shown[0])
    assert shown[1]["spec"]["renewTime"] == AFTER
    (entry,) = told["metadata"]["managedFields"]
    assert (entry["manager"], entry["operation"]) == (MANAGER, "Update")


async def test_the_time_at_which_its_manager_wrote_it_is_that_of_the_renewal(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with served(tmp_path, clock) as server:
        api = Api(server.transport(username="admin", groups=["system:masters"]), "default")
        one, other = await lease_of(api), await lease_of(api)
        await clock.advance(10)
        told = await renewed(api, one), (await put(api, other))[1]
        times = [lease["metadata"]["managedFields"][0]["time"] for lease in told if lease is not None]
        assert times == ["2026-01-01T00:00:10Z"] * 2


async def test_a_watch_is_told_of_it_as_of_a_put(api: Api) -> None:
    one, other = [await lease_of(api) for _ in range(2)]
    since = {"resourceVersion": other["metadata"]["resourceVersion"], "allowWatchBookmarks": "false"}
    watch = api.transport.watch(api.path(KIND), query=since)
    await put(api, one)
    await renewed(api, other)
    seen: list[tuple[str, str]] = []
    async for batch in watch:
        seen += [(event.type, comparable(orjson.loads(event.object))) for event in batch]
        if len(seen) == 2:
            break
    assert seen[0] == seen[1] and seen[0][0] == "MODIFIED"


async def test_what_is_no_mere_renewal_is_left_to_the_put(server: APIServer, api: Api) -> None:
    there = await lease_of(api)
    # Another owns it, or a part of it, or nobody does.
    assert await renewed(api, there, "another") is None
    shared = await lease_of(api)
    labels = {"metadata": {"labels": {"a": "b"}}}
    code, shared = await api.patch(KIND, shared["metadata"]["name"], labels, "merge-patch", fieldManager="another")
    assert code == 200 and await renewed(api, shared) is None
    forgotten = await lease_of(api)
    patch = {"metadata": {"managedFields": [{}]}}
    code, forgotten = await api.patch(KIND, forgotten["metadata"]["name"], patch, "merge-patch")
    assert code == 200 and await renewed(api, forgotten) is None
    # It says what it says already, or has never been renewed.
    assert await renewed(api, await lease_of(api, {**SPEC, "renewTime": AFTER})) is None
    assert await renewed(api, await lease_of(api, {"holderIdentity": "me"})) is None
    assert await renewed(api, await lease_of(api, {})) is None


async def test_what_is_refused_of_a_renewal_is_left_to_the_put_which_says_why(server: APIServer, api: Api) -> None:
    there = await lease_of(api)
    code, newer = await put(api, there)
    assert code == 200
    assert await renewed(api, there) is None and (await put(api, there))[0] == 409
    nobody = Api(server.transport(username="nobody"), api.namespace)
    older = {**newer, "spec": SPEC}
    assert await renewed(nobody, older) is None and (await put(nobody, older))[0] == 403
    gone = {**newer, "metadata": {**newer["metadata"], "name": "gone"}}
    assert await renewed(api, gone) is None


async def test_one_that_is_to_go_goes_by_a_put_of_the_last_word_on_it(api: Api) -> None:
    held = await lease_of(api, finalizers=["example.com/held"])
    await api.delete(KIND, held["metadata"]["name"])
    _, going = await api.get(KIND, held["metadata"]["name"])
    assert "deletionTimestamp" in going["metadata"]
    assert await renewed(api, going) is None


async def test_of_two_that_renew_the_same_version_one_is_told_of_a_conflict(server: APIServer, api: Api) -> None:
    there = await lease_of(api)
    assert await renewed(api, there) is not None
    client = Client(api.transport, field_manager=MANAGER)
    with pytest.raises(Exception, match="the object has been modified"):
        await client.renew_lease(there, "2026-01-02T03:04:25.000000Z")


async def test_policies_are_asked_of_renewals(api: Api, cluster: Api) -> None:
    there, other = await lease_of(api), await lease_of(api)
    assert await renewed(api, other) is not None
    rule = {"apiGroups": ["coordination.k8s.io"], "apiVersions": ["v1"], "operations": ["UPDATE"]}
    validation = {"expression": "false", "message": "stay"}
    async with policed(api, cluster, validation, rule={**rule, "resources": ["leases"]}):
        assert await renewed(api, there) is None
        assert "stay" in (await put(api, there))[1]["message"]


async def test_kubelets_renew_their_own_lease_alone(server: APIServer, api: Api, cluster: Api) -> None:
    kubelet = Api(server.transport(username="system:node:n2", groups=["system:nodes"]), api.namespace)
    assert await renewed(kubelet, await lease_of(api)) is None


async def test_an_audit_hears_of_renewals(tmp_path: Path) -> None:
    rules = load("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- level: Metadata\n")
    options = AuditOptions(policy=rules, log=LogOptions(path=str(tmp_path / "audit.log")))
    async with served(tmp_path, audit=options) as server:
        api = Api(server.transport(username="admin", groups=["system:masters"]), "default")
        assert await renewed(api, await lease_of(api)) is None
