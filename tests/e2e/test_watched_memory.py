"""Limits on memory in `kubecore up` by a user without any rights, who has no cgroups."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.unprivileged import NoSuchUser, User, user
from tests.support.unprivileged_cluster import Running, up

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

LAST = "{.status.containerStatuses[0].lastState.terminated"
IN_PROGRESS = '{.status.conditions[?(@.type=="PodResizeInProgress")]'


@pytest.fixture(scope="module")
def somebody() -> Iterator[User]:
    try:
        with user() as found:
            yield found
    except NoSuchUser as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def cluster(somebody: User) -> Iterator[Running]:
    with up(somebody, "watched") as running:
        yield running


def takes(mebi: int, *, after: Path | None = None) -> list[str]:
    """A command that has so much, by pieces, once the file is there."""
    waits = f"while not os.path.exists({str(after)!r}): time.sleep(0.05)" if after is not None else ""
    script = f"import os, time\n{waits}\nkept = [b'x' * (1 << 20) for _ in range({mebi})]\ntime.sleep(1000)"
    return ["python3", "-c", script]


def limited(name: str, command: list[str], memory: str = "64Mi") -> dict[str, Any]:
    return {"name": name, "image": "none", "command": command, "resources": {"limits": {"memory": memory}}}


def create(running: Running, name: str, *containers: dict[str, Any], **spec: object) -> None:
    body = {"terminationGracePeriodSeconds": 0, "containers": list(containers), **spec}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": body}
    running.kubectl("create", "-f", "-", stdin=json.dumps(pod))


def wait(running: Running, name: str, path: str, value: str) -> None:
    running.kubectl("wait", "pod", name, f"--for=jsonpath={path}={value}", "--timeout=180s")


def test_a_container_that_takes_too_much_is_killed_and_started_anew_and_its_neighbour_goes_on(cluster: Running) -> None:
    create(cluster, "grows", limited("main", takes(400)), limited("quiet", takes(20), "256Mi"))
    wait(cluster, "grows", f"{LAST}.reason}}", "OOMKilled")
    wait(cluster, "grows", "{.status.containerStatuses[0].state.waiting.reason}", "CrashLoopBackOff")
    assert cluster.value(f"{LAST}.exitCode}}", "pod", "grows") == "137"
    assert cluster.value("{.status.containerStatuses[1].restartCount}", "pod", "grows") == "0"
    assert "Reason:       OOMKilled" in cluster.kubectl("describe", "pod", "grows")
    assert cluster.kubectl.event("default", "BackOff")["name"] == "grows"


def test_a_pod_that_is_not_restarted_shows_what_it_ended_of(cluster: Running) -> None:
    create(cluster, "never", limited("main", takes(400)), restartPolicy="Never")
    wait(cluster, "never", "{.status.phase}", "Failed")
    assert cluster.kubectl("get", "pod", "never", "--no-headers").split()[2] == "OOMKilled"


def test_an_init_container_is_held_to_its_own_limit(cluster: Running) -> None:
    first = limited("first", takes(400))
    create(cluster, "begins", limited("main", ["sleep", "1000"]), initContainers=[first], restartPolicy="Never")
    wait(cluster, "begins", "{.status.phase}", "Failed")
    assert cluster.kubectl("get", "pod", "begins", "--no-headers").split()[2] == "Init:OOMKilled"


def test_files_in_memory_count_with_what_processes_have(cluster: Running) -> None:
    command = takes(40)
    command[2] = f"open('/memory/file', 'wb').write(bytes(50 << 20))\n{command[2]}"
    mounted = {"volumeMounts": [{"name": "memory", "mountPath": "/memory"}]}
    volumes = [{"name": "memory", "emptyDir": {"medium": "Memory"}}]
    create(cluster, "files", limited("main", command, "80Mi") | mounted, volumes=volumes, restartPolicy="Never")
    wait(cluster, "files", "{.status.phase}", "Failed")
    assert cluster.kubectl("get", "pod", "files", "--no-headers").split()[2] == "OOMKilled"


def test_a_limit_of_the_pod_holds_for_its_containers_together(cluster: Running) -> None:
    pieces = {"large": 400, "small": 30}
    containers = [{"name": name, "image": "none", "command": takes(mebi)} for name, mebi in pieces.items()]
    create(cluster, "pair", *containers, resources={"limits": {"memory": "150Mi"}}, restartPolicy="Never")
    wait(cluster, "pair", "{.status.containerStatuses[0].state.terminated.reason}", "OOMKilled")
    assert cluster.value("{.status.containerStatuses[0].name}", "pod", "pair") == "large"
    assert cluster.value("{.status.containerStatuses[1].state.running}", "pod", "pair")


def resize(running: Running, name: str, memory: str) -> None:
    amounts = {"requests": {"memory": memory}, "limits": {"memory": memory}}
    wanted = {"spec": {"containers": [{"name": "main", "resources": amounts}]}}
    running.kubectl("patch", "pod", name, "--subresource=resize", "-p", json.dumps(wanted))


def test_a_limit_is_lowered_to_no_less_than_there_is_and_holds_from_then_on(cluster: Running, somebody: User) -> None:
    taken, sign = somebody.home / "taken", somebody.home / "take more"
    command = takes(100)
    ready, more = f"open({str(taken)!r}, 'w').close()", takes(400, after=sign)[2]
    command[2] = command[2].replace("time.sleep(1000)", f"{ready}\nfirst = kept\n{more}")
    probe = {"exec": {"command": ["test", "-e", str(taken)]}, "periodSeconds": 1}
    create(cluster, "resized", limited("main", command, "400Mi") | {"readinessProbe": probe})
    cluster.kubectl("wait", "pod", "resized", "--for=condition=Ready", "--timeout=180s")
    resize(cluster, "resized", "32Mi")
    wait(cluster, "resized", f"{IN_PROGRESS}.reason}}", "Error")
    told = cluster.value(f"{IN_PROGRESS}.message}}", "pod", "resized")
    assert told.startswith(
        "cannot decrease memory limits: [attempting to set pod memory limit (33554432) below current"
    )
    resize(cluster, "resized", "200Mi")
    wait(cluster, "resized", "{.status.containerStatuses[0].resources.limits.memory}", "200Mi")
    assert cluster.value("{.status.containerStatuses[0].restartCount}", "pod", "resized") == "0"
    sign.touch()
    wait(cluster, "resized", f"{LAST}.reason}}", "OOMKilled")


def test_the_user_is_told_how_limits_are_enforced(cluster: Running) -> None:
    told = cluster.value("{.items[*].message}", "events", "--field-selector=reason=LimitsNotEnforced")
    if not told:
        pytest.skip("somebody has delegated a cgroup to whoever runs the tests")
    assert "limits on CPU are not enforced; limits on memory are enforced by looking at what containers have" in told
    create(cluster, "told", limited("main", ["sleep", "1000"]))
    seen = cluster.kubectl.event("default", "MemoryLimitWatched")
    assert seen["message"].startswith("limits on memory are enforced by looking at what containers have")


def test_a_limit_holds_while_no_kubelet_runs_and_the_next_one_hears_of_it(somebody: User) -> None:
    sign = somebody.home / "take"
    with up(somebody, "killed") as running:
        create(running, "later", limited("main", takes(400, after=sign)))
        running.kubectl("wait", "pod", "later", "--for=condition=Ready", "--timeout=180s")
        running.command.stop(number=signal.SIGKILL)
        sign.touch()
    with up(somebody, "killed") as running:
        wait(running, "later", f"{LAST}.reason}}", "OOMKilled")
