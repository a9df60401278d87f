"""postStart and preStop, the order in which containers end, and containers that are changed while they run."""

from __future__ import annotations

from typing import Any

from kubecore.kubelet.runtime.interface import ExecResult, RuntimeFailure
from tests.unit.kubelet.conftest import Node, container

Object = dict[str, Any]


def hooked(name: str = "main", **commands: str) -> Object:
    """`postStart`, `preStop`: one word."""
    return container(name, lifecycle={kind: {"exec": {"command": [word]}} for kind, word in commands.items()})


def calls(node: Node, *names: str) -> list[str]:
    """What was done to the containers from their start on."""
    return [f"{what} {name}" for what, name in node.runtime.calls if name in names and what != "start"]


# ---- preStop


async def test_a_container_is_stopped_when_its_pre_stop_is_over(node: Node) -> None:
    node.runtime.exec_seconds["drain"] = 5
    await node.run(hooked(preStop="drain"), terminationGracePeriodSeconds=20)
    await node.delete()
    await node.settle(4)
    assert calls(node, "main") == ["drain main"]
    await node.settle(1)
    assert calls(node, "main") == ["drain main", "drain done main", "stop main"]
    await node.settle(2)
    assert node.api.get("pods", "pod") is None


async def test_the_status_of_a_pod_that_ends_does_not_end_it_sooner(node: Node) -> None:
    node.runtime.exec_seconds["drain"] = 5
    await node.run(hooked(preStop="drain"))
    await node.delete()
    for number in range(3):
        node.api.change("pods", "pod", metadata={"annotations": {"number": str(number)}})
        await node.settle(1)
    assert calls(node, "main") == ["drain main"]


async def test_pre_stop_has_no_more_time_than_the_pod(node: Node) -> None:
    node.runtime.exec_seconds["drain"] = 60
    await node.run(hooked(preStop="drain"), terminationGracePeriodSeconds=10)
    node.runtime.stubborn.add("main")
    await node.delete()
    await node.settle(10)
    assert calls(node, "main") == ["drain main", "stop main"]
    assert node.runtime.running() == ["main"]
    await node.settle(2)  # what every container gets after its hook
    assert node.runtime.running() == []


async def test_who_deletes_again_with_less_time_is_obeyed(node: Node) -> None:
    node.runtime.exec_seconds["drain"] = 60
    await node.run(hooked(preStop="drain"), terminationGracePeriodSeconds=100)
    await node.delete()
    await node.settle(1)
    await node.delete(grace_seconds=3)
    assert calls(node, "main")[-1] == "drain main"
    await node.settle(3)
    assert calls(node, "main")[-1] == "stop main"
    assert node.runtime.running() == []


async def test_an_event_of_a_hook_that_failed_does_not_tell_what_it_said(node: Node) -> None:
    node.runtime.execute = lambda name, argv: ExecResult(b"a secret", b"", 1)
    await node.run(hooked(preStop="drain"))
    await node.delete()
    await node.settle(2)
    assert node.events("FailedPreStopHook") == ["PreStopHook failed"]


async def test_a_container_is_stopped_whatever_is_wrong_with_its_pre_stop(node: Node) -> None:
    def broken(name: str, argv: list[str]) -> ExecResult:
        raise ValueError("nobody has thought of this")

    node.runtime.execute = broken
    await node.run(hooked(preStop="drain"))
    await node.delete()
    await node.settle(2)
    assert calls(node, "main")[-1] == "stop main"
    assert node.events("FailedPreStopHook") == ["PreStopHook failed"]
    assert node.api.get("pods", "pod") is None


# ---- who ends when


async def test_sidecars_end_after_the_main_containers_last_started_first(node: Node) -> None:
    sidecars = [container(name, restartPolicy="Always") for name in ("first", "second")]
    node.runtime.stubborn.update(("main", "second"))
    await node.run(container(), initContainers=sidecars, terminationGracePeriodSeconds=30)
    await node.delete()
    await node.settle(5)
    assert calls(node, "main", "first", "second") == ["stop main"]
    node.runtime.end("main")
    await node.settle()
    assert calls(node, "main", "first", "second") == ["stop main", "stop second"]
    node.runtime.end("second")
    await node.settle()
    assert calls(node, "main", "first", "second") == ["stop main", "stop second", "stop first"]


async def test_hooks_of_sidecars_run_while_the_main_containers_end(node: Node) -> None:
    sidecar = {**hooked("proxy", preStop="drain"), "restartPolicy": "Always"}
    node.runtime.stubborn.add("main")
    await node.run(container(), initContainers=[sidecar], terminationGracePeriodSeconds=30)
    await node.delete()
    await node.settle()
    assert set(calls(node, "main", "proxy")) == {"stop main", "drain proxy"}
    node.runtime.end("main")
    await node.settle()
    assert calls(node, "main", "proxy")[-1] == "stop proxy"


async def test_sidecars_have_two_seconds_when_the_main_containers_took_all(node: Node) -> None:
    node.runtime.stubborn.update(("main", "proxy"))
    await node.run(
        container(), initContainers=[container("proxy", restartPolicy="Always")], terminationGracePeriodSeconds=10
    )
    await node.delete()
    await node.settle(10)
    assert node.runtime.running() == ["proxy"]
    await node.settle(2)
    assert node.runtime.running() == []


async def test_a_container_has_two_seconds_though_its_pod_has_less(node: Node) -> None:
    node.runtime.stubborn.add("main")
    await node.run()
    await node.delete(grace_seconds=1)
    await node.settle(1.5)
    assert node.runtime.running() == ["main"]
    await node.settle(0.5)
    assert node.runtime.running() == []


# ---- postStart


async def test_a_container_is_not_ready_and_the_next_does_not_start_before_post_start_is_over(node: Node) -> None:
    node.runtime.exec_seconds["prepare"] = 5
    await node.run(hooked("first", postStart="prepare"), container("second"))
    await node.settle(4)
    assert node.runtime.running() == ["first"]
    assert node.container("first")["state"] == {"waiting": {"reason": "ContainerCreating"}}
    assert node.container("first")["ready"] is False
    await node.settle(1)
    assert node.runtime.running() == ["first", "second"]
    assert node.container("first")["ready"] is True


async def test_a_post_start_that_fails_ends_the_container_and_is_told_without_its_words(node: Node) -> None:
    node.runtime.execute = lambda name, argv: ExecResult(b"a secret", b"", 1)
    await node.run(hooked(postStart="prepare"))
    assert node.events("FailedPostStartHook")[0] == "PostStartHook failed"
    assert node.events("Killing")[0] == "FailedPostStartHook"
    assert node.container()["ready"] is False
    assert "secret" not in str(node.status())


async def test_a_pod_that_is_deleted_does_not_wait_for_post_start(node: Node) -> None:
    node.runtime.exec_seconds["prepare"] = 600
    await node.run(hooked(postStart="prepare"))
    await node.delete()
    await node.settle(1)
    assert node.api.get("pods", "pod") is None


async def test_a_failing_post_start_keeps_no_deletion_waiting(node: Node) -> None:
    node.runtime.execute = lambda name, argv: ExecResult(b"", b"", 1)
    node.runtime.stubborn.add("main")
    await node.run(hooked(postStart="prepare"), terminationGracePeriodSeconds=600)
    await node.settle(5)
    await node.delete(grace_seconds=2)
    await node.settle(3)
    assert node.runtime.running() == []
    assert node.api.get("pods", "pod") is None


async def test_a_pod_that_is_evicted_starts_nothing_more(node: Node) -> None:
    node.runtime.exec_seconds["prepare"] = 600
    await node.run(hooked("first", postStart="prepare"), container("second"))
    worker = node.kubelet.workers.find("default", "pod")
    assert worker is not None
    worker.evict("The node was low on resource: memory.", 1.0, disrupted=True)
    await node.settle(2)
    assert ("start", "second") not in node.runtime.calls
    assert (node.status()["phase"], node.status()["reason"]) == ("Failed", "Evicted")


# ---- less time


async def test_a_deletion_that_leaves_less_time_cuts_what_a_deadline_gave(node: Node) -> None:
    node.runtime.stubborn.add("main")
    await node.run(activeDeadlineSeconds=5, terminationGracePeriodSeconds=600)
    await node.settle(6)
    await node.delete(grace_seconds=2)
    await node.settle(3)
    assert node.runtime.running() == []


async def test_a_pod_that_is_being_deleted_can_still_be_evicted_sooner(node: Node) -> None:
    node.runtime.stubborn.add("main")
    await node.run(terminationGracePeriodSeconds=3600)
    await node.delete()
    worker = node.kubelet.workers.find("default", "pod")
    assert worker is not None
    worker.evict("The node was low on resource: memory.", 1.0, disrupted=True)
    await node.settle(2)
    assert node.runtime.running() == []


async def test_a_runtime_that_fails_to_stop_a_container_is_asked_again(node: Node) -> None:
    await node.run(container(), container("other"))
    node.runtime.fail_stop["main"] = [RuntimeFailure("KillContainerError", "connection refused")]
    await node.delete()
    assert node.runtime.running() == ["main"]
    assert node.api.get("pods", "pod") is not None
    await node.settle(3)
    assert node.runtime.running() == []
    assert node.api.get("pods", "pod") is None


# ---- changes


async def test_a_stop_that_waits_for_a_hook_does_not_hit_the_next_attempt(node: Node) -> None:
    node.runtime.exec_seconds["drain"] = 10
    lifecycle = {"preStop": {"exec": {"command": ["drain"]}}}
    await node.run(container(lifecycle=lifecycle), restartPolicy="Never")
    changed = container(image="app:2", lifecycle=lifecycle)
    node.api.change("pods", "pod", spec={**node.pod()["spec"], "containers": [changed]})
    await node.settle(3)
    node.runtime.end("main")
    await node.settle(10)
    assert node.runtime.running() == ["main"]
    assert ("stop", "main") not in node.runtime.calls
    assert node.status()["phase"] == "Running"


async def test_another_image_ends_a_back_off(node: Node) -> None:
    await node.run()
    for _ in range(4):
        node.runtime.end("main", 1)
        await node.settle()
        await node.settle(100)
    node.runtime.end("main", 1)
    await node.settle()
    assert node.container()["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    node.api.change("pods", "pod", spec={**node.pod()["spec"], "containers": [container(image="app:2")]})
    await node.settle()
    assert node.runtime.config("main").image == "app:2"
    assert node.runtime.running() == ["main"]


async def test_another_image_does_not_bring_resources_that_were_not_granted(node: Node) -> None:
    await node.run(container(resources={"requests": {"cpu": "10m"}}))
    changed = container(image="app:2", resources={"requests": {"cpu": "100000"}})
    node.api.change("pods", "pod", spec={**node.pod()["spec"], "containers": [changed]})
    await node.settle()
    assert node.container()["allocatedResources"] == {"cpu": "10m"}
    assert node.condition("PodResizePending")["reason"] == "Infeasible"


async def test_a_container_with_another_image_is_restarted(node: Node) -> None:
    await node.run(restartPolicy="Never")
    node.api.change("pods", "pod", spec={**node.pod()["spec"], "containers": [container(image="app:2")]})
    await node.settle()
    assert node.events("Killing") == ["Container main definition changed, will be restarted"]
    assert node.runtime.config("main").image == "app:2"
    assert (node.container()["restartCount"], node.status()["phase"]) == (1, "Running")


async def test_of_init_containers_only_sidecars_are_restarted_for_another_image(node: Node) -> None:
    sidecar = container("side", restartPolicy="Always")
    await node.run(container(), initContainers=[sidecar, container("first")])
    changed = [{**sidecar, "image": "app:2"}, container("first", image="app:2")]
    node.api.change("pods", "pod", spec={**node.pod()["spec"], "initContainers": changed})
    await node.settle()
    assert node.events("Killing") == ["Init container side definition changed"]
    assert (node.container("side")["restartCount"], node.container("first")["restartCount"]) == (1, 0)
    node.runtime.end("first", 1)
    await node.settle()
    assert node.runtime.config("first").image == "app:2"


async def test_another_image_is_taken_that_was_given_while_no_kubelet_ran(node: Node) -> None:
    await node.run(container(), container("other"))
    await node.kill()
    pod = node.pod()["spec"]
    node.api.change("pods", "pod", spec={**pod, "containers": [container(image="app:2"), container("other")]})
    await node.start()
    await node.settle(1)
    assert node.runtime.config("main").image == "app:2"
    assert (node.container()["image"], node.container()["restartCount"]) == ("app:2", 1)
    assert node.container("other")["restartCount"] == 0


async def test_a_container_that_could_not_start_takes_the_image_it_is_given(node: Node) -> None:
    await node.run(container(envFrom=[{"configMapRef": {"name": "settings"}}]))
    changed = container(image="app:2", envFrom=[{"configMapRef": {"name": "settings"}}])
    node.api.change("pods", "pod", spec={**node.pod()["spec"], "containers": [changed]})
    node.api.add("configmaps", {"metadata": {"name": "settings"}, "data": {"A": "b"}})
    await node.settle()
    assert node.runtime.config("main").image == "app:2"
