"""Simulated nodes: what they look like, how they live and how they seem to die."""

from __future__ import annotations

from typing import Any

import pytest

from kubecore.api import meta
from kubecore.kubelet.simulated import fleet as fleets
from tests.unit.kubelet.simulated.conftest import Fleet

RENEWALS = "update leases.coordination.k8s.io"


async def test_nodes_are_there_from_the_start_in_zones_with_room_for_pods(fleet: Fleet) -> None:
    node = fleet.node("sim-1")
    assert node["metadata"]["labels"]["topology.kubernetes.io/zone"] == "zone-b"
    assert node["metadata"]["labels"]["kubernetes.io/hostname"] == "sim-1"
    assert {key: node["status"]["capacity"][key] for key in ("cpu", "pods")} == {"cpu": "32", "pods": "110"}
    assert fleet.conditions("sim-1")["Ready"] == "True"


async def test_nodes_of_an_earlier_start_that_had_more_of_them_go(fleet: Fleet) -> None:
    fleet.api.add("nodes", {"metadata": {"name": "real"}})
    await fleet.stop()
    await fleet.start("sim-0")
    assert {node["metadata"]["name"] for node in fleet.api.all("nodes")} == {"sim-0", "real"}


async def test_a_node_renews_its_lease_every_ten_seconds(fleet: Fleet) -> None:
    await fleet.settle(10)
    before = fleet.renewed("sim-0")
    await fleet.settle(10)
    assert before is not None and fleet.renewed("sim-0") != before


async def test_few_nodes_renew_their_leases_together(fleet: Fleet) -> None:
    await fleet.settle(20)
    assert fleet.renewed("sim-0") == fleet.renewed("sim-1")


async def test_leases_are_renewed_in_time_by_a_server_that_answers_late(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = fleet.api.request

    async def request(method: str, path: str, **options: Any) -> tuple[int, bytes]:
        await fleet.clock.sleep(4)
        return await answer(method, path, **options)

    monkeypatch.setattr(fleet.api, "request", request)
    await fleet.settle(20)
    before = len(fleet.api.writes(RENEWALS))
    await fleet.settle(100)
    assert len(fleet.api.writes(RENEWALS)) - before == 2 * 10


async def test_a_lease_that_is_long_in_coming_holds_up_no_other(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = fleet.api.request

    async def request(method: str, path: str, **options: Any) -> tuple[int, bytes]:
        if path.endswith("leases/sim-0"):
            await fleet.clock.sleep(60)
        return await answer(method, path, **options)

    monkeypatch.setattr(fleet.api, "request", request)
    await fleet.settle(20)
    before = len(fleet.api.writes(RENEWALS))
    await fleet.settle(120)
    renewed = [write.name for write in fleet.api.writes(RENEWALS)[before:]]
    assert (renewed.count("sim-0"), renewed.count("sim-1")) == (2, 12)


async def test_a_lease_lasts_for_four_renewals_of_as_many_nodes_as_there_are(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fleet.lease("sim-0")["leaseDurationSeconds"] == 40
    # Two nodes at one renewal in ten seconds.
    monkeypatch.setattr(fleets, "_RENEWALS_A_SECOND", 0.1)
    await fleet.settle(40)
    assert fleet.lease("sim-0")["leaseDurationSeconds"] == 80


async def test_leases_last_as_long_as_was_asked_and_are_renewed_at_a_quarter_of_it(fleet: Fleet) -> None:
    await fleet.stop()
    await fleet.start(lease_seconds=400)
    before = len(fleet.api.writes(RENEWALS))
    await fleet.settle(1000)
    assert len(fleet.api.writes(RENEWALS)) - before == 2 * 10
    assert fleet.lease("sim-0")["leaseDurationSeconds"] == 400


async def test_many_nodes_renew_in_time_for_a_silence_of_another_length(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleets, "_RENEWALS_A_SECOND", 0.01)
    await fleet.settle(200)
    assert fleet.lease("sim-0")["leaseDurationSeconds"] == 160
    await fleet.stop()
    await fleet.start(grace_seconds=25)
    await fleet.settle(100)
    assert fleet.lease("sim-0")["leaseDurationSeconds"] == 80


async def test_who_waits_for_nodes_once_all_are_gone_does_not_spin(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    sleep = fleet.clock.sleep

    async def noted(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(seconds)

    monkeypatch.setattr(fleet.clock, "sleep", noted)
    # One of the two is due, the other is not yet.
    for name in ("sim-0", "sim-1"):
        await fleet.api.client().delete("nodes", name)
    await fleet.settle(60)
    assert len(pauses) < 10


async def test_a_silent_node_renews_nothing_and_leaves_its_pods_alone_until_it_speaks_again(fleet: Fleet) -> None:
    await fleet.settle(10)
    await fleet.annotate("nodes", "sim-0", silent="true")
    before = fleet.renewed("sim-0")
    await fleet.run()
    fleet.api.change("nodes", "sim-0", status={"conditions": [{"type": "Ready", "status": "Unknown"}]})
    await fleet.settle(60)
    assert fleet.renewed("sim-0") == before
    assert fleet.conditions("sim-0")["Ready"] == "Unknown"
    assert fleet.phase() == "Pending"
    await fleet.annotate("nodes", "sim-0", silent=None)
    assert fleet.conditions("sim-0")["Ready"] == "True"
    assert fleet.phase() == "Running"


async def test_an_annotation_gives_a_node_other_conditions_while_it_is_there(fleet: Fleet) -> None:
    await fleet.annotate("nodes", "sim-0", conditions="DiskPressure=True, KernelDeadlock=True")
    wanted = {"DiskPressure": "True", "KernelDeadlock": "True", "Ready": "True"}
    assert fleet.conditions("sim-0").items() >= wanted.items()
    await fleet.annotate("nodes", "sim-0", conditions=None)
    assert fleet.conditions("sim-0")["DiskPressure"] == "False"


async def test_a_wrong_list_of_conditions_is_told_and_changes_nothing(fleet: Fleet) -> None:
    await fleet.annotate("nodes", "sim-0", conditions="Ready=Maybe")
    assert fleet.conditions("sim-0")["Ready"] == "True"
    [told] = fleet.events("InvalidSimulation")
    assert "'Ready=Maybe' is not of a list such as Ready=False,DiskPressure=True" in told


async def test_a_node_that_somebody_makes_with_the_annotation_is_simulated_with_the_size_it_was_given(
    fleet: Fleet,
) -> None:
    size = {"cpu": "8", "memory": "64Gi", "pods": "10", "example.com/gpu": "4"}
    metadata = {"name": "gpu", "annotations": {"simulation.kubecore.dev/node": "true"}}
    fleet.api.add("nodes", {"metadata": metadata, "status": {"capacity": size}})
    await fleet.settle()
    status = fleet.node("gpu")["status"]
    assert (status["capacity"], status["allocatable"]) == (size, size)
    assert fleet.conditions("gpu")["Ready"] == "True"
    assert fleet.renewed("gpu") is not None
    await fleet.run(nodeName="gpu")
    assert fleet.phase() == "Running"


async def test_a_node_that_somebody_makes_gets_the_labels_a_kubelet_gives_but_for_those_it_has(fleet: Fleet) -> None:
    annotations = {"simulation.kubecore.dev/node": "true"}
    labels = {"kubernetes.io/arch": "arm64", "disk": "ssd"}
    fleet.api.add("nodes", {"metadata": {"name": "mine", "labels": labels, "annotations": annotations}})
    await fleet.settle()
    found = fleet.node("mine")["metadata"]["labels"]
    expected = {**labels, "kubernetes.io/hostname": "mine", "kubernetes.io/os": "linux"}
    assert found.items() >= expected.items()
    assert fleet.conditions("mine")["Ready"] == "True"


async def test_a_deleted_node_does_not_come_back(fleet: Fleet) -> None:
    await fleet.api.client().delete("nodes", "sim-0")
    await fleet.settle(60)
    assert fleet.api.get("nodes", "sim-0") is None


async def test_a_node_that_somebody_calls_lost_says_that_it_is_ready_again(fleet: Fleet) -> None:
    await fleet.settle(60)
    lost = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "lastTransitionTime": "x"}
    fleet.api.change("nodes", "sim-0", status={"conditions": [lost]})
    await fleet.settle()
    (ready,) = (one for one in fleet.node("sim-0")["status"]["conditions"] if one["type"] == "Ready")
    now = meta.format_time(fleet.clock.now())
    assert (ready["status"], ready["reason"], ready["lastTransitionTime"]) == ("True", "KubeletReady", now)


async def test_a_lease_belongs_to_the_node_that_has_its_name_now(fleet: Fleet) -> None:
    annotations = {"simulation.kubecore.dev/node": "true"}
    await fleet.settle(10)
    fleet.api.remove("nodes", "sim-0")
    await fleet.settle(10)
    made = fleet.api.add("nodes", {"metadata": {"name": "sim-0", "annotations": annotations}})
    await fleet.settle(10)
    lease = fleet.api.get("leases.coordination.k8s.io", "sim-0", "kube-node-lease")
    assert lease is not None
    assert [one["uid"] for one in lease["metadata"]["ownerReferences"]] == [made["metadata"]["uid"]]


async def test_nodes_leave_it_to_the_controller_to_have_volumes_attached(fleet: Fleet) -> None:
    fleet.api.add("nodes", {"metadata": {"name": "mine", "annotations": {"simulation.kubecore.dev/node": "true"}}})
    await fleet.settle()
    for name in ("sim-0", "mine"):
        annotations = fleet.node(name)["metadata"]["annotations"]
        assert annotations["volumes.kubernetes.io/controller-managed-attach-detach"] == "true"
