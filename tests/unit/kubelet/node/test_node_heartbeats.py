"""A node's status and lease are held against what the API has of them: what somebody else wrote there is mended."""

from __future__ import annotations

from typing import Any

from tests.unit.kubelet.conftest import Node

Object = dict[str, Any]

LEASES = "leases.coordination.k8s.io"
REPORTS = "patch nodes/status"
LOST = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "message": "x"}


def found(node: Node) -> Object:
    known = node.api.get("nodes", "node")
    assert known is not None, "the node is gone"
    return known


def condition(node: Node, kind: str = "Ready") -> Object:
    (known,) = (one for one in found(node)["status"]["conditions"] if one["type"] == kind)
    return dict(known)


def lease(node: Node) -> Object:
    known = node.api.get(LEASES, "node", "kube-node-lease")
    assert known is not None, "the lease is gone"
    return known


def owners(node: Node) -> list[str]:
    return [one["uid"] for one in lease(node)["metadata"].get("ownerReferences") or []]


async def say_lost(node: Node) -> None:
    await node.api.client().patch(
        "nodes", "node", {"status": {"conditions": [LOST]}}, patch_type="strategic", subresource="status"
    )


# ---- status


async def test_a_node_that_somebody_calls_lost_says_within_ten_seconds_that_it_is_ready_again(node: Node) -> None:
    since = condition(node)["lastTransitionTime"]
    await node.settle(60)
    await say_lost(node)
    await node.settle(10)
    ready = condition(node)
    assert (ready["status"], ready["reason"]) == ("True", "KubeletReady")
    assert ready["lastTransitionTime"] > since
    assert sum(one.get("count", 1) for one in node.api.all("events") if one["reason"] == "NodeReady") == 2


async def test_of_what_the_node_has_what_somebody_else_said_is_put_right(node: Node) -> None:
    cpus = found(node)["status"]["capacity"]["cpu"]
    node.api.change("nodes", "node", status={"capacity": {"cpu": "1000"}})
    await node.settle(10)
    assert found(node)["status"]["capacity"]["cpu"] == cpus


async def test_a_status_that_is_right_is_reported_every_five_minutes_only(node: Node) -> None:
    await node.settle(10)
    before = len(node.api.writes(REPORTS))
    await node.settle(280)
    assert len(node.api.writes(REPORTS)) == before
    await node.settle(10)
    assert len(node.api.writes(REPORTS)) == before + 1


async def test_conditions_of_others_are_no_news(node: Node) -> None:
    before = len(node.api.writes(REPORTS))
    kept = found(node)["status"]["conditions"]
    node.api.change("nodes", "node", status={"conditions": [*kept, {"type": "KernelDeadlock", "status": "True"}]})
    await node.settle(60)
    assert len(node.api.writes(REPORTS)) == before


async def test_a_server_that_keeps_less_than_it_is_told_is_not_told_again_and_again(
    node: Node, monkeypatch: Any
) -> None:
    replace = node.api._replace

    def pruned(resource: Any, key: Any, obj: Object, *, own_status: bool) -> Object:
        if key[0] == "nodes":
            obj["status"].pop("features", None)
        return replace(resource, key, obj, own_status=own_status)

    monkeypatch.setattr(node.api, "_replace", pruned)
    await say_lost(node)
    await node.settle(10)
    before = len(node.api.writes(REPORTS))
    await node.settle(60)
    assert len(node.api.writes(REPORTS)) == before
    assert "features" not in found(node)["status"]


async def test_a_report_that_was_refused_is_made_at_the_next_look(node: Node) -> None:
    await say_lost(node)
    node.api.react(REPORTS, OSError("no route to host"))
    await node.settle(10)
    assert condition(node)["status"] == "Unknown"
    await node.settle(10)
    assert condition(node)["status"] == "True"


# ---- a node that somebody deletes


async def test_a_deleted_node_comes_back_within_ten_seconds_and_its_lease_is_its_own(node: Node) -> None:
    former = found(node)["metadata"]["uid"]
    await node.settle(20)
    assert owners(node) == [former]
    node.api.remove("nodes", "node")
    await node.settle(10)
    uid = found(node)["metadata"]["uid"]
    assert uid != former
    assert condition(node)["status"] == "True"
    await node.settle(10)
    assert owners(node) == [uid]


async def test_a_lease_that_went_with_its_node_comes_back_as_the_new_ones(node: Node) -> None:
    node.api.remove("nodes", "node")
    node.api.remove(LEASES, "node", "kube-node-lease")
    await node.settle(20)
    assert owners(node) == [found(node)["metadata"]["uid"]]


async def test_a_node_that_was_deleted_and_made_anew_by_somebody_owns_the_lease(node: Node) -> None:
    node.api.remove("nodes", "node")
    made = node.api.add("nodes", {"metadata": {"name": "node"}})
    await node.settle(20)
    assert owners(node) == [made["metadata"]["uid"]]
    assert condition(node)["status"] == "True"


async def test_a_lease_that_somebody_deletes_comes_back_and_goes_with_the_node(node: Node) -> None:
    node.api.remove(LEASES, "node", "kube-node-lease")
    await node.settle(20)
    assert owners(node) == [found(node)["metadata"]["uid"]]


async def test_a_lease_that_lost_its_owner_gets_it_again_and_keeps_others(node: Node) -> None:
    other = {"apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": "1"}
    node.api.change(LEASES, "node", "kube-node-lease", metadata={"ownerReferences": [other]})
    await node.settle(20)
    assert owners(node) == ["1", found(node)["metadata"]["uid"]]
