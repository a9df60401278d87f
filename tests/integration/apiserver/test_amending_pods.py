"""Conditions of many pods at once, and bindings, in process: of each comes what comes of a patch of its status, and of
a delete; or of a POST of the binding."""

from __future__ import annotations

import itertools
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import orjson
import pytest

from kubecore.api import meta
from kubecore.api.amendment import Amendment, PodName
from kubecore.apiserver.audit.options import AuditOptions, LogOptions
from kubecore.apiserver.audit.policy import load
from kubecore.apiserver.server import APIServer

from .conftest import JSON, Api, pod
from .serving import served
from .test_validating_policies import policed

pytestmark = pytest.mark.asyncio(loop_scope="module")

PODS = "v1/pods"
MANAGER = "kube-scheduler"
TIME = "2026-01-02T03:04:05Z"
TARGET = {"type": "DisruptionTarget", "status": "True", "lastTransitionTime": TIME, "reason": "Chosen", "message": "m"}
SCHEDULED = {"type": "PodScheduled", "status": "False", "lastTransitionTime": TIME, "reason": "Unschedulable"}
_numbers = itertools.count(1)


async def amended(api: Api, *amendments: Amendment) -> list[tuple[int, JSON]]:
    answers = await api.transport.amend_pods(amendments, query={"fieldManager": MANAGER})
    assert answers is not None
    return [(status, orjson.loads(body) if body else {}) for status, body in answers]


def amendment(obj: JSON, condition: JSON = TARGET, **more: Any) -> Amendment:
    metadata = obj["metadata"]
    return Amendment(metadata["namespace"], metadata["name"], metadata["uid"], condition, **more)


async def patched(api: Api, given: Amendment) -> tuple[int, JSON]:
    """What a component elsewhere asks for in its place, which knows the pod."""
    known = (await api.get(PODS, given.name))[1]
    held = known if known["kind"] == "Pod" else {}
    status = {**given.status, **meta.condition_patch(held, given.condition)}
    patch = {"metadata": {"uid": given.uid}, "status": status}
    return await api.patch(PODS, given.name, patch, "strategic-merge-patch", subresource="status", fieldManager=MANAGER)


def comparable(obj: JSON) -> JSON:
    """Without what tells one of two like pods from the other."""
    metadata = {k: v for k, v in obj["metadata"].items() if k not in ("name", "uid", "resourceVersion")}
    metadata["creationTimestamp"] = ""
    if "deletionTimestamp" in metadata:
        metadata["deletionTimestamp"] = ""
    # They are in the order of their seconds, which end between the writes of one pod and not of the other.
    entries = [{**one, "time": ""} for one in metadata["managedFields"]]
    metadata["managedFields"] = sorted(entries, key=orjson.dumps)
    text = orjson.dumps({**obj, "metadata": metadata}).decode()
    for volume in obj["spec"].get("volumes", []):
        text = text.replace(volume["name"], "token")
    made: JSON = orjson.loads(text)
    for one in (made.get("status") or {}).get("conditions") or []:
        if one["type"] == "PodScheduled" and one["status"] == "True":
            # of the binding
            one["lastTransitionTime"] = ""
    return made


async def pod_of(api: Api, metadata: JSON, status: JSON, *, node: str = "", **spec: Any) -> JSON:
    given = pod(f"pod-{next(_numbers)}", **spec)
    given["metadata"] |= metadata
    code, made = await api.create(PODS, given, fieldManager="maker")
    assert code == 201, made
    name = made["metadata"]["name"]
    if node:
        binding = {"metadata": {"name": name}, "target": {"kind": "Node", "name": node}}
        assert (await api.call("POST", api.path(PODS, name, "binding"), binding))[0] == 201
    if status:
        kind = {"subresource": "status", "fieldManager": "kubelet"}
        code, made = await api.patch(PODS, name, {"status": status}, "strategic-merge-patch", **kind)
        assert code == 200, made
    return (await api.get(PODS, name))[1]


OTHER = {"type": "Ready", "status": "True", "lastTransitionTime": TIME}
RUNNING = {"phase": "Running", "podIPs": [{"ip": "10.0.0.7"}], "podIP": "10.0.0.7", "hostIP": "10.1.0.1"}
HELD = {**TARGET, "status": "False", "reason": "Other", "observedGeneration": 1, "lastProbeTime": TIME}

STATES = {
    "new": ({}, {}, {}),
    "bound": ({}, {}, {"node": "n1"}),
    "running": ({"labels": {"app": "web"}}, {**RUNNING, "conditions": [OTHER]}, {"node": "n1"}),
    "with the condition": ({}, {"conditions": [HELD, OTHER]}, {"node": "n1"}),
    "with the very condition": ({}, {"conditions": [{**TARGET, "lastProbeTime": None}]}, {}),
    "nominated": ({}, {"nominatedNodeName": "n2"}, {}),
    "with annotations": ({"annotations": {"a": "b"}}, {}, {"node": "n1"}),
    "held by a finalizer": ({"finalizers": ["example.com/held"]}, {}, {"node": "n1"}),
    "gated": ({}, {}, {"schedulingGates": [{"name": "example.com/wait"}]}),
    "without grace": ({}, {}, {"node": "n1", "terminationGracePeriodSeconds": 0}),
}
WISHES: dict[str, tuple[JSON, JSON]] = {
    "to go": (TARGET, {}),
    "with a generation": ({**TARGET, "observedGeneration": 1}, {}),
    "unscheduled": (SCHEDULED, {}),
    "nominated": (SCHEDULED, {"nominatedNodeName": "n3"}),
    "nominated no more": (SCHEDULED, {"nominatedNodeName": None}),
    "nominated for what is no name": (SCHEDULED, {"nominatedNodeName": "N 3"}),
}


@pytest.mark.parametrize("wish", WISHES)
@pytest.mark.parametrize("state", STATES)
async def test_the_pod_is_what_a_patch_makes_of_it(api: Api, state: str, wish: str) -> None:
    metadata, status, more = STATES[state]
    condition, members = WISHES[wish]
    one, other = [await pod_of(api, metadata, status, **more) for _ in range(2)]
    expected, _ = await patched(api, amendment(one, condition, status=members))
    ((code, refusal),) = await amended(api, amendment(other, condition, status=members))
    assert code == expected, refusal
    shown = [(await api.get(PODS, each["metadata"]["name"]))[1] for each in (one, other)]
    assert comparable(shown[1]) == comparable(shown[0])


async def told_until_it_goes(api: Api, made: JSON, ends: Coroutine[Any, Any, object]) -> list[tuple[str, JSON]]:
    """What a watch has from the pod as it is until it is deleted, or is to be."""
    metadata = made["metadata"]
    watch = api.transport.watch(
        f"/api/v1/namespaces/{api.namespace}/pods",
        query={"resourceVersion": metadata["resourceVersion"], "fieldSelector": f"metadata.name={metadata['name']}"},
    )
    await ends
    seen: list[tuple[str, JSON]] = []
    async for batch in watch:
        seen += [(event.type, comparable(orjson.loads(event.object))) for event in batch]
        if seen and "deletionTimestamp" in seen[-1][1]["metadata"]:
            break
    return seen


async def patched_and_deleted(api: Api, made: JSON) -> None:
    assert (await patched(api, amendment(made)))[0] == 200
    options = {"preconditions": {"uid": made["metadata"]["uid"]}}
    await api.delete(PODS, made["metadata"]["name"], options)


async def taken_away(api: Api, made: JSON) -> None:
    assert await amended(api, amendment(made, goes=True)) == [(200, {})]


@pytest.mark.parametrize("state", STATES)
async def test_one_that_goes_ends_as_one_that_is_patched_and_deleted(api: Api, state: str) -> None:
    metadata, status, more = STATES[state]
    one, other = [await pod_of(api, metadata, status, **more) for _ in range(2)]
    twice = await told_until_it_goes(api, one, patched_and_deleted(api, one))
    once = await told_until_it_goes(api, other, taken_away(api, other))
    assert once[-1] == twice[-1]


async def test_one_that_goes_is_told_of_once(api: Api) -> None:
    made = await pod_of(api, {}, RUNNING, node="n1")
    ((kind, told),) = await told_until_it_goes(api, made, taken_away(api, made))
    assert kind == "MODIFIED"
    assert meta.condition(told, "DisruptionTarget") is not None


TO_BIND: dict[str, tuple[JSON, JSON, JSON]] = {
    **{state: made for state, made in STATES.items() if not made[2].get("node")},
    "labelled": ({"labels": {"app": "web"}}, {"conditions": [SCHEDULED, OTHER], "nominatedNodeName": "n2"}, {}),
}


async def posted(api: Api, pod: PodName, node: str) -> tuple[int, JSON]:
    binding = {"metadata": pod._asdict(), "target": {"kind": "Node", "name": node}}
    return await api.call("POST", api.path(PODS, pod.name, "binding"), binding, fieldManager=MANAGER)


async def bound(api: Api, pod: PodName, node: str) -> bool:
    return await api.transport.bind_pod(pod, node, query={"fieldManager": MANAGER})


def named(obj: JSON) -> PodName:
    return PodName(*(obj["metadata"][one] for one in ("namespace", "name", "uid")))


@pytest.mark.parametrize("node", ["zoned", "nowhere"])
@pytest.mark.parametrize("state", TO_BIND)
async def test_a_pod_is_bound_as_by_a_post(api: Api, cluster: Api, state: str, node: str) -> None:
    labels = {"topology.kubernetes.io/zone": "z1", "topology.kubernetes.io/region": "r1", "other": "x"}
    await cluster.create("v1/nodes", {"metadata": {"name": "zoned", "labels": labels}})
    metadata, status, more = TO_BIND[state]
    one, other = [await pod_of(api, metadata, status, **more) for _ in range(2)]
    code, _ = await posted(api, named(one), node)
    assert await bound(api, named(other), node) is (code == 201)
    shown = [(await api.get(PODS, each["metadata"]["name"]))[1] for each in (one, other)]
    assert comparable(shown[1]) == comparable(shown[0])
    assert shown[1]["spec"].get("nodeName") == (node if code == 201 else None)


async def test_what_is_refused_of_a_binding_is_left_to_the_post_which_says_why(server: APIServer, api: Api) -> None:
    taken, going = await pod_of(api, {}, {}, node="n1"), await pod_of(api, {"finalizers": ["example.com/held"]}, {})
    await api.delete(PODS, going["metadata"]["name"])
    there = named(await pod_of(api, {}, {}))
    refused = [named(taken), named(going), there._replace(uid="another"), there._replace(name="gone")]
    assert [await bound(api, one, "n2") for one in refused] == [False] * 4
    assert [(await posted(api, one, "n2"))[0] for one in refused] == [409, 409, 409, 404]
    assert not await bound(Api(server.transport(username="nobody"), api.namespace), there, "n2")
    assert not await bound(api, there, "")
    assert "nodeName" not in (await api.get(PODS, there.name))[1]["spec"]


async def test_one_that_fails_takes_none_with_it(api: Api) -> None:
    good, meant = [await pod_of(api, {}, {}) for _ in range(2)]
    gone = amendment(good)._replace(name="gone")
    another = amendment(meant, goes=True)._replace(uid="another")
    answers = await amended(api, gone, another, amendment(good, goes=True))
    assert [code for code, _ in answers] == [404, 422, 200]
    assert answers[0][1] == (await patched(api, gone))[1]
    assert answers[1][1] == (await patched(api, another))[1]
    assert "conditions" not in (await api.get(PODS, meant["metadata"]["name"]))[1]["status"]
    assert (await api.get(PODS, good["metadata"]["name"]))[0] == 404


async def test_who_may_not_is_refused(server: APIServer, api: Api) -> None:
    there = await pod_of(api, {}, {})
    nobody = Api(server.transport(username="nobody"), api.namespace)
    ((code, refusal),) = await amended(nobody, amendment(there, goes=True))
    assert (code, refusal) == await patched(nobody, amendment(there))


async def test_who_may_patch_alone_deletes_nothing(server: APIServer, api: Api, cluster: Api) -> None:
    there = await pod_of(api, {}, {}, node="n1")
    role = {"rules": [{"apiGroups": [""], "resources": ["pods/status"], "verbs": ["patch"]}]}
    role["metadata"] = {"name": "patcher"}
    assert (await api.create("rbac.authorization.k8s.io/v1/roles", role))[0] == 201
    given = {"kind": "Role", "name": "patcher", "apiGroup": "rbac.authorization.k8s.io"}
    who = {"kind": "User", "name": "patcher", "apiGroup": "rbac.authorization.k8s.io"}
    binding = {"metadata": {"name": "patcher"}, "roleRef": given, "subjects": [who]}
    assert (await api.create("rbac.authorization.k8s.io/v1/rolebindings", binding))[0] == 201
    patcher = Api(server.transport(username="patcher"), api.namespace)
    ((code, refusal),) = await amended(patcher, amendment(there, goes=True))
    assert (code, refusal["message"].partition(" in API group")[0]) == (
        403,
        f'pods "{there["metadata"]["name"]}" is forbidden: User "patcher" cannot delete resource "pods"',
    )
    shown = (await api.get(PODS, there["metadata"]["name"]))[1]
    assert [one["type"] for one in shown["status"]["conditions"]] == ["PodScheduled", "DisruptionTarget"]


async def test_policies_are_asked(api: Api, cluster: Api) -> None:
    there = await pod_of(api, {}, {}, node="n1")
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["pods/status"]}
    validation = {"expression": "object.status.conditions.all(c, c.type != 'DisruptionTarget')", "message": "stay"}
    async with policed(api, cluster, validation, rule=rule):
        ((code, refusal),) = await amended(api, amendment(there, goes=True))
        assert (code, refusal) == await patched(api, amendment(there))
        assert "stay" in refusal["message"]
    assert await amended(api, amendment(there)) == [(200, {})]


async def test_kubelets_write_of_their_own_pods_alone(server: APIServer, api: Api) -> None:
    there = await pod_of(api, {}, {}, node="n1")
    kubelet = Api(server.transport(username="system:node:n2", groups=["system:nodes"]), api.namespace)
    ((code, refusal),) = await amended(kubelet, amendment(there))
    assert (code, refusal) == await patched(kubelet, amendment(there))


async def test_an_audit_hears_of_each_alone(tmp_path: Path) -> None:
    rules = load("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- level: Metadata\n")
    options = AuditOptions(policy=rules, log=LogOptions(path=str(tmp_path / "audit.log")))
    async with served(tmp_path, audit=options) as server:
        transport = server.transport(username="admin", groups=["system:masters"])
        assert await transport.amend_pods([Amendment("default", "a", "b", TARGET)]) is None
        assert await transport.bind_pod(PodName("default", "a", "b"), "n1") is False
