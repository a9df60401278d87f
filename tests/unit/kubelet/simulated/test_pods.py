"""The life of pods on simulated nodes, as their status and events tell it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.kubelet.simulated.conftest import Fleet

# --- running


async def test_a_bound_pod_runs_at_once_with_an_address_of_its_own(fleet: Fleet) -> None:
    await fleet.run()
    await fleet.run(name="second")
    status = fleet.pod()["status"]
    assert (status["phase"], status["hostIP"], status["podIP"]) == ("Running", "240.0.0.1", "241.0.0.1")
    assert fleet.pod("second")["status"]["podIP"] == "241.0.0.2"
    assert {one["type"]: one["status"] for one in status["conditions"]} == {
        "PodReadyToStartContainers": "True",
        "Initialized": "True",
        "Ready": "True",
        "ContainersReady": "True",
        "PodScheduled": "True",
    }
    assert fleet.container()["containerID"].startswith("simulated://")


async def test_a_pod_of_a_real_node_is_left_alone(fleet: Fleet) -> None:
    fleet.api.add("nodes", {"metadata": {"name": "real"}})
    await fleet.run(nodeName="real")
    assert fleet.pod()["status"] == {"phase": "Pending"}


async def test_an_unchanged_status_is_written_once(fleet: Fleet) -> None:
    await fleet.run()
    await fleet.settle(600)
    assert len(fleet.api.writes("update pods/status")) == 1


async def test_conditions_of_others_stay(fleet: Fleet) -> None:
    await fleet.run(rules={"start-delay": "5s"})
    others = {"type": "example.com/checked", "status": "True"}
    status = fleet.pod()["status"]
    fleet.api.change("pods", "pod", status={"conditions": [*status["conditions"], others]})
    await fleet.settle(5)
    assert fleet.phase() == "Running"
    assert others in fleet.pod()["status"]["conditions"]


async def test_containers_start_after_the_start_delay_and_are_ready_after_the_ready_delay(fleet: Fleet) -> None:
    await fleet.run(rules={"start-delay": "5s", "ready-delay": "3s"})
    assert (fleet.phase(), fleet.state()) == ("Pending", "ContainerCreating")
    await fleet.settle(5)
    assert (fleet.phase(), fleet.state(), fleet.container()["ready"]) == ("Running", "running", False)
    await fleet.settle(3)
    assert fleet.container()["ready"]


async def test_init_containers_come_first_and_sidecars_stay(fleet: Fleet) -> None:
    sidecar = {"name": "proxy", "restartPolicy": "Always"}
    await fleet.run(rules={"run-for.setup": "4s"}, initContainers=[{"name": "setup"}, sidecar])
    assert (fleet.state("setup"), fleet.state("proxy"), fleet.state()) == (
        "running",
        "PodInitializing",
        "PodInitializing",
    )
    await fleet.settle(4)
    assert (fleet.state("setup"), fleet.state("proxy"), fleet.state()) == ("terminated", "running", "running")


# --- ending


async def test_a_container_that_ends_by_itself_completes_a_pod_that_is_not_restarted(fleet: Fleet) -> None:
    await fleet.run(rules={"run-for": "60s"}, restartPolicy="Never")
    await fleet.settle(59)
    assert fleet.phase() == "Running"
    await fleet.settle(1)
    assert fleet.phase() == "Succeeded"
    ended = fleet.container()["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (0, "Completed")
    assert (ended["startedAt"], ended["finishedAt"]) == ("2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z")


async def test_a_pod_that_is_to_end_does_so_after_a_second_whoever_made_it(fleet: Fleet) -> None:
    await fleet.run(restartPolicy="Never")
    await fleet.run(name="again", restartPolicy="OnFailure", rules={"stop-delay": "1s"})
    assert (fleet.phase(), fleet.phase("again")) == ("Running", "Running")
    await fleet.settle(1)
    assert (fleet.phase(), fleet.phase("again")) == ("Succeeded", "Succeeded")


async def test_a_failing_container_fails_a_pod_that_is_not_restarted(fleet: Fleet) -> None:
    await fleet.run(rules={"run-for": "1s", "exit-code": "3"}, restartPolicy="Never")
    await fleet.settle(1)
    assert (fleet.phase(), fleet.container()["state"]["terminated"]["exitCode"]) == ("Failed", 3)


async def test_a_failing_container_is_restarted_with_growing_back_off(fleet: Fleet) -> None:
    await fleet.run(rules={"run-for": "1s", "exit-code": "1"})
    counts = []
    for _ in range(4):
        await fleet.settle(1)
        counts.append((fleet.container()["restartCount"], fleet.state()))
        await fleet.settle(10)
    assert counts[:2] == [(1, "running"), (2, "running")]
    assert fleet.container()["restartCount"] == 3
    assert fleet.state() == "CrashLoopBackOff"
    assert fleet.events("BackOff")[0].startswith("Back-off restarting failed container main in pod pod_default(")


async def test_a_pod_past_its_deadline_fails(fleet: Fleet) -> None:
    await fleet.run(activeDeadlineSeconds=30)
    await fleet.settle(30)
    assert (fleet.phase(), fleet.pod()["status"]["reason"]) == ("Failed", "DeadlineExceeded")


async def test_a_deleted_pod_is_gone_once_it_has_stopped(fleet: Fleet) -> None:
    await fleet.run(rules={"stop-delay": "4s"})
    await fleet.api.client().delete("pods", "pod", "default", grace_period_seconds=30)
    await fleet.settle(3.9)
    assert fleet.phase() == "Running"
    await fleet.settle(0.1)
    assert fleet.api.get("pods", "pod") is None


async def test_a_deleted_pod_stops_within_its_grace_period(fleet: Fleet) -> None:
    await fleet.run(rules={"stop-delay": "1h"})
    await fleet.api.client().delete("pods", "pod", "default", grace_period_seconds=5)
    await fleet.settle(5)
    assert fleet.api.get("pods", "pod") is None


async def test_a_deletion_that_is_seen_before_a_report_is_answered_is_carried_out(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = fleet.api.request

    async def late(method: str, path: str, **more: Any) -> tuple[int, bytes]:
        answer = await request(method, path, **more)
        if method == "PUT" and path.endswith("/pods/pod/status"):
            await fleet.clock.sleep(1)
        return answer

    monkeypatch.setattr(fleet.api, "request", late)
    await fleet.run()
    await fleet.api.client().delete("pods", "pod", "default", grace_period_seconds=5)
    await fleet.settle(60)
    assert fleet.api.get("pods", "pod") is None


async def test_who_holds_a_deleted_pod_by_a_finalizer_sees_how_it_ended(fleet: Fleet) -> None:
    await fleet.run()
    fleet.api.change("pods", "pod", metadata={"finalizers": ["batch.kubernetes.io/job-tracking"]})
    await fleet.api.client().delete("pods", "pod", "default", grace_period_seconds=5)
    await fleet.settle(1)
    # it was not done, so that its Job makes another one
    ended = fleet.container()["state"]["terminated"]
    assert (fleet.phase(), ended["exitCode"], ended["reason"]) == ("Failed", 143, "Error")


async def test_one_that_was_deleted_before_it_was_started_has_failed_for_who_holds_it(fleet: Fleet) -> None:
    await fleet.run(rules={"start-delay": "1h"})
    assert fleet.phase() == "Pending"
    fleet.api.change("pods", "pod", metadata={"finalizers": ["batch.kubernetes.io/job-tracking"]})
    await fleet.api.client().delete("pods", "pod", "default", grace_period_seconds=5)
    await fleet.settle(1)
    assert fleet.phase() == "Failed"


# --- what annotations do to a pod that runs


async def test_a_container_cannot_start_as_long_as_an_annotation_says_so(fleet: Fleet) -> None:
    await fleet.run(rules={"waiting": "ImagePullBackOff: no such image"})
    assert (fleet.phase(), fleet.state()) == ("Pending", "ImagePullBackOff")
    assert fleet.container()["state"]["waiting"]["message"] == "no such image"
    await fleet.annotate("pods", "pod", waiting=None)
    assert fleet.phase() == "Running"


async def test_a_container_is_not_ready_as_long_as_an_annotation_says_so(fleet: Fleet) -> None:
    await fleet.run()
    await fleet.annotate("pods", "pod", ready="false")
    assert not fleet.container()["ready"]
    await fleet.annotate("pods", "pod", ready="true")
    assert fleet.container()["ready"]


async def test_containers_are_restarted_at_the_time_an_annotation_names_once(fleet: Fleet) -> None:
    await fleet.run(rules={"restart-at": "2026-01-01T00:10:00Z"})
    await fleet.settle(599)
    assert fleet.container()["restartCount"] == 0
    await fleet.settle(1)
    assert (fleet.container()["restartCount"], fleet.state()) == (1, "running")
    assert fleet.container()["lastState"]["terminated"]["exitCode"] == 137
    await fleet.settle(600)
    assert fleet.container()["restartCount"] == 1


async def test_a_wrong_annotation_is_told_and_the_pod_runs_once_it_is_mended(fleet: Fleet) -> None:
    await fleet.run(rules={"run-for": "soon"})
    assert fleet.state() == "CreateContainerConfigError"
    assert len(fleet.events("InvalidSimulation")) == 1
    await fleet.annotate("pods", "pod", run_for="1h")
    assert fleet.phase() == "Running"


async def test_who_says_that_a_running_pod_is_not_ready_is_contradicted(fleet: Fleet) -> None:
    await fleet.run()
    said = [
        {**one, "status": "False"} if one["type"] == "Ready" else one for one in fleet.pod()["status"]["conditions"]
    ]
    fleet.api.change("pods", "pod", status={**fleet.pod()["status"], "conditions": said})
    await fleet.settle(1)
    (ready,) = [one for one in fleet.pod()["status"]["conditions"] if one["type"] == "Ready"]
    assert ready["status"] == "True"


# --- being started again


async def test_pods_go_on_where_they_were_when_the_process_is_started_again(fleet: Fleet) -> None:
    await fleet.run(rules={"run-for": "60s", "exit-code": "1"})
    await fleet.settle(30)
    address = fleet.pod()["status"]["podIP"]
    await fleet.stop()
    await fleet.start()
    assert (fleet.container()["restartCount"], fleet.state()) == (0, "running")
    assert fleet.pod()["status"]["podIP"] == address
    await fleet.run(name="second")
    assert fleet.pod("second")["status"]["podIP"] != address
    await fleet.settle(30)
    assert fleet.container()["restartCount"] == 1


# --- of both address families


async def test_nodes_and_pods_have_an_address_of_each_family_and_keep_them(fleet: Fleet) -> None:
    await fleet.stop()
    await fleet.start("dual", families=("IPv6", "IPv4"))
    await fleet.run(nodeName="dual")
    node = fleet.api.get("nodes", "dual")
    assert node is not None
    own = [one["address"] for one in node["status"]["addresses"] if one["type"] == "InternalIP"]
    status = fleet.pod()["status"]
    assert [one["ip"] for one in status["hostIPs"]] == own
    assert [":" in one for one in own] == [True, False]
    assert status["podIPs"] == [{"ip": "100::f100:1"}, {"ip": "241.0.0.1"}]
    await fleet.stop()
    await fleet.start("dual", families=("IPv6", "IPv4"))
    await fleet.run(name="second", nodeName="dual")
    assert fleet.pod("second")["status"]["podIP"] == "100::f100:2"
