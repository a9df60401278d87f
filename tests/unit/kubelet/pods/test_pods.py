"""The life of pods on a node, as their status and events tell it."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from kubecore.kubelet.runtime.interface import ExecResult, RuntimeFailure
from kubecore.kubelet.runtime.oci_programs import finding
from tests.unit.kubelet.conftest import Node, container

# --- running and ending


async def test_a_bound_pod_runs_and_becomes_ready(node: Node) -> None:
    await node.run()
    status = node.status()
    assert (status["phase"], status["podIP"], status["qosClass"]) == ("Running", "10.1.0.1", "BestEffort")
    assert status["hostIP"] == "127.64.0.1"
    assert node.container()["state"].keys() == {"running"}
    assert node.container()["ready"] and node.container()["started"]
    states = {one["type"]: one["status"] for one in status["conditions"]}
    assert states == {
        "PodReadyToStartContainers": "True",
        "Initialized": "True",
        "Ready": "True",
        "ContainersReady": "True",
        "PodScheduled": "True",
    }
    assert node.events("Created") == ["Container created"]
    assert node.events("Started") == ["Container started"]


async def test_a_container_tells_what_it_was_given(node: Node) -> None:
    requests = {"cpu": "100m", "memory": "8Mi"}
    mounts = [
        {"name": "v", "mountPath": "/v"},
        {"name": "v", "mountPath": "/r", "readOnly": True},
    ]
    spec = container(resources={"requests": requests}, volumeMounts=mounts)
    await node.run(spec, volumes=[{"name": "v", "emptyDir": {}}])
    told = node.container()
    assert told["allocatedResources"] == told["resources"]["requests"] == requests
    assert told["volumeMounts"] == [mounts[0], {**mounts[1], "recursiveReadOnly": "Disabled"}]


async def test_a_container_without_limits_says_so_once_it_was_made(node: Node) -> None:
    await node.run(initContainers=[container("first")])
    assert node.container("first")["resources"] == {}
    assert "resources" not in node.container("main")


async def test_an_unchanged_status_is_written_once(node: Node) -> None:
    await node.run()
    written = len(node.api.writes("patch pods/status"))
    await node.settle(3600)
    assert len(node.api.writes("patch pods/status")) == written == 1


async def test_a_status_that_somebody_else_has_changed_is_written_again_after_ten_seconds(node: Node) -> None:
    await node.run()
    body = {"status": {"phase": "Pending", "conditions": [{"type": "Ready", "status": "False"}, {"type": "mine"}]}}
    await node.api.client().patch("pods", "pod", body, "default", subresource="status")
    await node.settle(5)
    assert node.status()["phase"] == "Pending"
    await node.settle(5)
    states = {one["type"]: one.get("status") for one in node.status()["conditions"]}
    assert (node.status()["phase"], states["Ready"]) == ("Running", "True")
    assert "mine" in states, "another's condition stays"
    await node.settle(3600)
    assert len(node.api.writes("patch pods/status")) == 3


async def test_a_pod_that_ends_well_has_succeeded(node: Node) -> None:
    await node.run(restartPolicy="Never")
    node.runtime.end("main")
    await node.settle()
    assert node.status()["phase"] == "Succeeded"
    assert node.container()["state"]["terminated"]["reason"] == "Completed"
    assert node.condition("Ready")["reason"] == "PodCompleted"


async def test_a_pod_that_ends_badly_and_is_not_restarted_has_failed(node: Node) -> None:
    await node.run(restartPolicy="Never")
    node.runtime.end("main", 3)
    await node.settle()
    assert node.status()["phase"] == "Failed"
    assert node.container()["state"]["terminated"]["exitCode"] == 3
    assert node.container()["state"]["terminated"]["reason"] == "Error"
    assert node.condition("Ready")["reason"] == "PodFailed"


async def test_a_failed_container_is_restarted_on_failure_and_left_when_it_succeeds(node: Node) -> None:
    await node.run(restartPolicy="OnFailure")
    node.runtime.end("main", 1)
    await node.settle(1)
    assert (node.container()["restartCount"], node.runtime.running()) == (1, ["main"])
    node.runtime.end("main", 0)
    await node.settle()
    assert node.status()["phase"] == "Succeeded"


async def test_a_pod_past_its_deadline_is_ended(node: Node) -> None:
    await node.run(activeDeadlineSeconds=60)
    await node.settle(61)
    assert (node.status()["phase"], node.status()["reason"]) == ("Failed", "DeadlineExceeded")
    assert node.runtime.running() == []


async def test_the_termination_message_is_what_the_container_wrote(node: Node) -> None:
    await node.run(restartPolicy="Never")
    source = next(m.source for m in node.runtime.config("main").mounts if m.target == "/dev/termination-log")
    source.write_text("it broke")
    node.runtime.end("main", 1)
    await node.settle()
    assert node.container()["state"]["terminated"]["message"] == "it broke"


# --- back-off


async def test_the_first_restart_comes_at_once_and_the_next_after_ten_seconds_then_twenty(node: Node) -> None:
    await node.run()
    node.runtime.end("main", 1)
    await node.settle()
    assert node.runtime.attempts("main") == 2
    node.runtime.end("main", 1)
    await node.settle()
    waiting = node.container()["state"]["waiting"]
    assert waiting["reason"] == "CrashLoopBackOff"
    uid = node.pod()["metadata"]["uid"]
    assert waiting["message"] == f"back-off 10s restarting failed container=main pod=pod_default({uid})"
    assert node.container()["lastState"]["terminated"]["exitCode"] == 1
    assert node.status()["phase"] == "Running"
    await node.settle(9.5)
    assert node.runtime.attempts("main") == 2
    await node.settle(1)
    assert node.runtime.attempts("main") == 3
    node.runtime.end("main", 1)
    await node.settle(19)
    assert node.runtime.attempts("main") == 3
    await node.settle(1.5)
    assert node.runtime.attempts("main") == 4
    assert node.events("BackOff")


async def test_back_off_is_forgotten_once_a_container_ran_ten_minutes(node: Node) -> None:
    await node.run()
    for _ in range(2):
        node.runtime.end("main", 1)
        await node.settle(11)
    await node.settle(601)
    attempts = node.runtime.attempts("main")
    node.runtime.end("main", 1)
    await node.settle()
    assert node.runtime.attempts("main") == attempts + 1


# --- init containers and sidecars


async def test_init_containers_run_one_after_the_other_before_the_rest(node: Node) -> None:
    await node.run(initContainers=[container("first"), container("second")])
    assert node.runtime.running() == ["first"]
    assert node.condition("Initialized")["message"] == "containers with incomplete status: [first second]"
    assert node.container()["state"]["waiting"]["reason"] == "PodInitializing"
    assert node.status()["phase"] == "Pending"
    node.runtime.end("first")
    await node.settle()
    assert node.runtime.running() == ["second"]
    node.runtime.end("second")
    await node.settle()
    assert node.runtime.running() == ["main"]
    assert node.status()["phase"] == "Running"


async def test_an_init_container_that_fails_is_retried_unless_the_policy_is_never(node: Node) -> None:
    await node.run(initContainers=[container("first")])
    node.runtime.end("first", 1)
    await node.settle()
    assert node.runtime.attempts("first") == 2
    await node.run(initContainers=[container("setup")], restartPolicy="Never", name="other")
    node.runtime.end("setup", 1)
    await node.settle()
    assert node.status("other")["phase"] == "Failed"


async def test_a_sidecar_starts_before_the_main_container_and_ends_after_it(node: Node) -> None:
    await node.run(initContainers=[container("proxy", restartPolicy="Always")], restartPolicy="Never")
    assert [name for action, name in node.runtime.calls if action == "start"] == ["proxy", "main"]
    node.runtime.end("main")
    await node.settle()
    assert node.runtime.running() == []
    assert node.status()["phase"] == "Succeeded"


async def test_what_starts_after_sidecars_does_not_wait_for_them_to_prove_themselves(node: Node) -> None:
    sidecars = [container(name, restartPolicy="Always") for name in ("proxy", "logs")]
    spec = {"nodeName": "node", "initContainers": sidecars, "containers": [container()]}
    node.api.add("pods", {"metadata": {"name": "pod"}, "spec": spec})
    for _ in range(20):
        await node.clock.settle()
    assert node.runtime.running() == ["proxy", "logs", "main"]


# --- deletion


async def test_a_deleted_pod_is_stopped_reported_and_then_removed(node: Node) -> None:
    await node.run()
    await node.delete()
    assert node.api.get("pods", "pod") is None
    assert node.runtime.running() == []
    assert node.runtime.sandboxes == {}
    assert node.events("Killing") == ["Stopping container main"]
    assert list((node.root / "pods").iterdir()) == []


async def test_one_deleted_before_it_was_started_has_failed_for_who_holds_it(node: Node) -> None:
    await node.run(container(envFrom=[{"configMapRef": {"name": "settings"}}]))
    node.api.change("pods", "pod", metadata={"finalizers": ["batch.kubernetes.io/job-tracking"]})
    await node.delete()
    held = node.api.get("pods", "pod")
    assert held is not None
    assert held["status"]["phase"] == "Failed"


async def test_a_process_that_does_not_end_is_killed_after_the_grace_period(node: Node) -> None:
    node.runtime.stubborn.add("main")
    await node.run(terminationGracePeriodSeconds=30)
    await node.delete()
    await node.settle(29)
    assert node.runtime.running() == ["main"]
    await node.settle(2)
    assert node.api.get("pods", "pod") is None


async def test_a_pod_forced_out_of_the_api_is_ended_all_the_same(node: Node) -> None:
    await node.run()
    await node.delete(grace_seconds=0)
    await node.settle(2)
    assert node.api.get("pods", "pod") is None
    assert node.runtime.running() == []


async def test_pre_stop_runs_before_the_container_is_stopped(node: Node) -> None:
    seen: list[list[str]] = []

    def execute(name: str, argv: object) -> ExecResult:
        seen.append([name, *argv, *node.runtime.running()])  # type: ignore[misc]
        return ExecResult(b"", b"", 0)

    node.runtime.execute = execute
    await node.run(container(lifecycle={"preStop": {"exec": {"command": ["drain"]}}}))
    await node.delete()
    assert seen == [["main", "drain", "main"]]


async def test_a_new_pod_of_the_same_name_gets_its_own_life(node: Node) -> None:
    node.runtime.stubborn.add("main")
    await node.run()
    await node.delete(grace_seconds=0)
    await node.run()
    assert node.runtime.running() == ["main", "main"]
    await node.settle(31)
    assert node.status()["phase"] == "Running"
    assert node.runtime.running() == ["main"]


async def test_a_seccomp_profile_of_the_node_is_a_file_below_its_folder(node: Node) -> None:
    profile = {"type": "Localhost", "localhostProfile": "strict/web.json"}
    await node.run(container(securityContext={"seccompProfile": profile}))
    assert node.runtime.config("main").seccomp == f"localhost/{node.root}/seccomp/strict/web.json"


async def test_a_mount_tells_whether_later_ones_within_it_are_seen(node: Node) -> None:
    mounts = [{"name": "data", "mountPath": "/one"}, {"name": "data", "mountPath": "/other"}]
    mounts[1]["mountPropagation"] = "HostToContainer"
    await node.run(container(volumeMounts=mounts), volumes=[{"name": "data", "emptyDir": {}}])
    found = {one.target: one.propagation for one in node.runtime.config("main").mounts}
    assert (found["/one"], found["/other"]) == ("None", "HostToContainer")


async def test_a_path_within_a_volume_may_refer_to_variables_that_have_a_value(node: Node) -> None:
    mounts = [{"name": "data", "mountPath": "/data", "subPathExpr": "of-$(NAME)/$(EMPTY)$(NONE)"}]
    env = [{"name": "NAME", "value": "pod"}, {"name": "EMPTY", "value": ""}]
    volumes = [{"name": "data", "emptyDir": {}}]
    await node.run(container(volumeMounts=mounts, env=env), volumes=volumes)
    told = {"reason": "CreateContainerConfigError", "message": "missing value for EMPTY, NONE"}
    assert node.container()["state"]["waiting"] == told
    mounts[0]["subPathExpr"] = "of-$(NAME)/$$(NAME)"
    await node.run(container(volumeMounts=mounts, env=env), volumes=volumes, name="other")
    assert node.runtime.config("main").mounts[0].sub_path == "of-pod/$(NAME)"


# --- what is missing


async def test_a_container_waits_for_a_missing_config_map_and_starts_when_it_appears(node: Node) -> None:
    await node.run(container(envFrom=[{"configMapRef": {"name": "settings"}}]))
    waiting = node.container()["state"]["waiting"]
    assert waiting == {"reason": "CreateContainerConfigError", "message": 'configmap "settings" not found'}
    assert node.events("Failed") == ['Error: configmap "settings" not found']
    node.api.add("configmaps", {"metadata": {"name": "settings"}, "data": {"A": "b"}})
    await node.settle()
    assert ("A", "b") in node.runtime.config("main").environment
    assert node.status()["phase"] == "Running"


async def test_a_volume_that_cannot_be_set_up_is_told_and_tried_again(node: Node) -> None:
    await node.run(volumes=[{"name": "hidden", "secret": {"secretName": "gone"}}])
    assert node.container()["state"]["waiting"]["reason"] == "ContainerCreating"
    assert node.events("FailedMount") == ['MountVolume.SetUp failed for volume "hidden" : secret "gone" not found']
    node.api.add("secrets", {"metadata": {"name": "gone"}, "data": {}})
    await node.settle()
    assert node.status()["phase"] == "Running"


async def test_a_program_that_cannot_be_started_is_a_failed_attempt(node: Node) -> None:
    node.runtime.fail_start["main"] = RuntimeFailure("RunContainerError", "no such program")
    await node.run(restartPolicy="Never")
    ended = node.container()["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"], ended["message"]) == (128, "StartError", "no such program")
    assert ended["startedAt"] == "1970-01-01T00:00:00Z"
    assert node.status()["phase"] == "Failed"


async def test_a_pod_without_a_runtime_says_what_there_is(node: Node) -> None:
    node.api.add("runtimeclasses.node.k8s.io", {"metadata": {"name": "other"}, "handler": "other"})
    await node.run(runtimeClassName="other")
    assert node.container()["state"]["waiting"] == {"reason": "ContainerCreating"}
    [told] = node.events("FailedCreatePodSandBox")
    assert 'failed to get sandbox runtime: no runtime for "other" is configured (on node node there is: ' in told


async def test_a_handlers_program_that_is_not_installed_is_no_runtime(
    node: Node, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(finding, "FURTHER", ())
    node.api.add("runtimeclasses.node.k8s.io", {"metadata": {"name": "runc"}, "handler": "runc"})
    await node.run(runtimeClassName="runc")
    [told] = node.events("FailedCreatePodSandBox")
    assert 'Failed to create pod sandbox: failed to get sandbox runtime: no runtime for "runc" is configured' in told


# --- probes


async def test_readiness_decides_whether_the_pod_is_ready(node: Node) -> None:
    answers = {"ready": 1}
    node.runtime.execute = lambda name, argv: ExecResult(b"not yet", b"", answers["ready"])
    probe = {"exec": {"command": ["check"]}, "periodSeconds": 5, "failureThreshold": 2}
    await node.run(container(readinessProbe=probe))
    assert node.condition("Ready")["status"] == "False"
    assert node.condition("Ready")["message"] == "containers with unready status: [main]"
    assert node.events("Unhealthy") == ["Readiness probe failed: not yet"]
    answers["ready"] = 0
    await node.settle(5)
    assert node.condition("Ready")["status"] == "True"
    answers["ready"] = 1
    await node.settle(5)
    assert node.condition("Ready")["status"] == "True"
    await node.settle(5)
    assert node.condition("Ready")["status"] == "False"


async def test_a_container_that_fails_its_liveness_is_killed_and_restarted(node: Node) -> None:
    node.runtime.execute = lambda name, argv: ExecResult(b"", b"dead", 1)
    probe = {"exec": {"command": ["check"]}, "periodSeconds": 10, "failureThreshold": 3}
    await node.run(container(livenessProbe=probe))
    await node.settle(19)
    assert node.runtime.attempts("main") == 1
    await node.settle(2)
    assert node.runtime.attempts("main") == 2
    assert node.events("Killing") == ["Container main failed liveness probe, will be restarted"]


async def test_other_probes_wait_for_the_startup_probe(node: Node) -> None:
    asked: list[str] = []
    up = {"startup": 1}

    def execute(name: str, argv: object) -> ExecResult:
        word = str(next(iter(argv)))  # type: ignore[call-overload]
        asked.append(word)
        return ExecResult(b"", b"", up.get(word, 0))

    node.runtime.execute = execute
    startup = {"exec": {"command": ["startup"]}, "periodSeconds": 1, "failureThreshold": 30}
    readiness = {"exec": {"command": ["readiness"]}, "periodSeconds": 1}
    await node.run(container(startupProbe=startup, readinessProbe=readiness))
    await node.settle(5)
    assert set(asked) == {"startup"}
    assert not node.container()["started"]
    up["startup"] = 0
    await node.settle(2)
    assert node.container()["started"] and node.container()["ready"]


# --- its name


@pytest.mark.parametrize(
    ("spec", "name"), [({}, "pod"), ({"hostname": "web"}, "web"), ({"hostNetwork": True}, socket.gethostname())]
)
async def test_its_hostname_file_says_its_name_which_is_the_hosts_on_the_hosts_network(
    node: Node, spec: dict[str, Any], name: str
) -> None:
    await node.run(**spec)
    (sandbox,) = node.runtime.sandboxes.values()
    assert sandbox.hostname_file is not None
    assert (sandbox.hostname, sandbox.hostname_file.read_text()) == (name, f"{name}\n")


# --- who it runs as


@pytest.mark.parametrize(
    ("user", "root_by_default", "message"),
    [
        (None, True, "container has runAsNonRoot and image will run as root"),
        (0, False, "container's runAsUser breaks non-root policy"),
        (None, False, ""),
        (1000, True, ""),
    ],
)
async def test_a_container_that_must_not_be_root_is_not_started_as_root(
    node: Node, user: int | None, root_by_default: bool, message: str
) -> None:
    node.runtime.root_by_default = root_by_default
    await node.run(container(), securityContext={"runAsNonRoot": True, "runAsUser": user})
    if message:
        told = f'{message} (pod: "pod_default({node.pod()["metadata"]["uid"]})", container: main)'
        assert node.container()["state"]["waiting"] == {"reason": "CreateContainerConfigError", "message": told}
    else:
        assert node.status()["phase"] == "Running"


async def test_an_ephemeral_container_runs_once_beside_the_others(node: Node) -> None:
    await node.run()
    spec = node.pod()["spec"]
    added = {**container(), "name": "debug", "targetContainerName": "main"}
    node.api.change("pods", "pod", spec={**spec, "ephemeralContainers": [added]})
    await node.settle()
    (told,) = node.status()["ephemeralContainerStatuses"]
    assert (told["name"], told["state"].keys(), told["ready"]) == ("debug", {"running"}, False)
    assert node.runtime.config("debug").target
    assert node.condition("Ready")["status"] == "True"
    node.runtime.end("debug", 1)
    await node.settle(60)
    (told,) = node.status()["ephemeralContainerStatuses"]
    assert told["state"]["terminated"]["exitCode"] == 1
    assert (node.runtime.attempts("debug"), node.status()["phase"]) == (1, "Running")
