"""kubectl logs with all its options, the files behind it, and a pod whose sidecars stream what it writes to files."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.kubectl import Kubectl, make_namespace
from tests.support.process import RunningCluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NAMESPACE = "logs"
LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}(Z|[+-]\d\d:\d\d) (stdout|stderr) [FP] ")

# Of Kubernetes' documentation (Logging architecture), but for the image.
COUNTER = """
i=0
while true; do
  echo "$i: $(date)" >> /var/log/counted/1.log
  echo "$(date) INFO $i" >> /var/log/counted/2.log
  i=$((i+1))
  sleep 0.1
done
"""


def container(name: str, script: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "image": "none", "command": ["/bin/sh", "-c", script], **fields}


def manifest(name: str, *containers: dict[str, Any], **spec: Any) -> str:
    metadata = {"name": name, "namespace": NAMESPACE, "labels": {"app": name}}
    body = {"containers": list(containers), "terminationGracePeriodSeconds": 0, **spec}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": body})


@pytest.fixture(scope="module", autouse=True)
def _namespace(kubectl: Kubectl) -> Iterator[None]:
    make_namespace(kubectl, NAMESPACE)
    yield
    kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def first_lines(kubectl: Kubectl, number: int, *arguments: str) -> list[str]:
    """What is said first of what is followed."""
    with kubectl.running("-n", NAMESPACE, "logs", "--follow", *arguments, stdout=subprocess.PIPE) as logs:
        assert logs.stdout is not None
        return [logs.stdout.readline().decode().rstrip("\n") for _ in range(number)]


@pytest.mark.parametrize("native", [False, True], ids=["containers", "native sidecars"])
def test_sidecars_stream_what_a_container_writes_to_its_files(kubectl: Kubectl, native: bool) -> None:
    mounts = [{"name": "counted", "mountPath": "/var/log/counted"}]
    name = "native" if native else "counter"
    streaming = [
        container(f"count-log-{number}", f"exec tail -n+1 -F /var/log/counted/{number}.log", volumeMounts=mounts)
        for number in (1, 2)
    ]
    spec: dict[str, Any] = {"volumes": [{"name": "counted", "emptyDir": {}}]}
    if native:
        spec["initContainers"] = [{**one, "restartPolicy": "Always"} for one in streaming]
    count = container("count", COUNTER, volumeMounts=mounts)
    text = manifest(name, count, *([] if native else streaming), **spec)
    kubectl("create", "-f", "-", stdin=text)
    kubectl("-n", NAMESPACE, "wait", "--for=condition=Ready", f"pod/{name}", "--timeout=180s")
    first = [one for one in first_lines(kubectl, 6, name, "-c", "count-log-1") if not one.startswith("tail:")]
    assert [one.partition(":")[0] for one in first] == [str(number) for number in range(len(first))]
    second = [one for one in first_lines(kubectl, 6, name, "-c", "count-log-2") if not one.startswith("tail:")]
    assert [one.partition(" INFO ")[2] for one in second] == [str(number) for number in range(len(second))]
    assert kubectl("-n", NAMESPACE, "logs", name, "-c", "count") == ""
    both = kubectl("-n", NAMESPACE, "logs", name, "--all-containers", "--prefix").splitlines()
    assert {one.partition(" ")[0] for one in both} == {f"[pod/{name}/count-log-{number}]" for number in (1, 2)}
    kubectl("-n", NAMESPACE, "delete", "pod", name, "--wait=false")


@pytest.fixture(scope="module")
def talker(kubectl: Kubectl, _namespace: None) -> str:
    """It says ten lines, and once more after its first container has ended and been restarted."""
    script = "echo attempt; i=0; while [ $i -lt 10 ]; do echo line $i; i=$((i+1)); done; "
    ends_once = script + "[ -e /once/done ] || { touch /once/done; exit 3; }; exec sleep 3600"
    mounts = [{"name": "once", "mountPath": "/once"}]
    text = manifest(
        "talker",
        container("main", ends_once, volumeMounts=mounts),
        container("other", "echo wrong >&2; exec sleep 3600"),
        volumes=[{"name": "once", "emptyDir": {}}],
    )
    kubectl("create", "-f", "-", stdin=text)
    restarted = "--for=jsonpath={.status.containerStatuses[?(@.name=='main')].restartCount}=1"
    kubectl("-n", NAMESPACE, "wait", restarted, "pod/talker", "--timeout=180s")
    kubectl("-n", NAMESPACE, "wait", "--for=condition=Ready", "pod/talker", "--timeout=180s")
    assert first_lines(kubectl, 11, "talker", "-c", "main")[-1] == "line 9"
    assert first_lines(kubectl, 1, "talker", "-c", "other") == ["wrong"]
    return "talker"


def test_the_end_of_a_log_is_told_by_lines_bytes_and_time(kubectl: Kubectl, talker: str) -> None:
    def logs(*options: str) -> list[str]:
        return kubectl("-n", NAMESPACE, "logs", talker, "-c", "main", *options).splitlines()

    assert logs() == ["attempt", *(f"line {number}" for number in range(10))]
    assert logs("--tail=2") == ["line 8", "line 9"]
    assert logs("--limit-bytes=10") == ["attempt", "li"]
    assert logs("--since=1h") == logs()
    later = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert logs(f"--since-time={later}") == []
    stamp, _, rest = logs("--timestamps", "--tail=1")[0].partition(" ")
    assert rest == "line 9"
    assert abs(datetime.now(UTC) - datetime.fromisoformat(stamp[:19] + "+00:00")) < timedelta(hours=1)


def test_the_former_container_s_log_can_be_had_and_no_earlier_one(kubectl: Kubectl, talker: str) -> None:
    former = kubectl("-n", NAMESPACE, "logs", talker, "-c", "main", "-p").splitlines()
    assert former == ["attempt", *(f"line {number}" for number in range(10))]
    refused = kubectl.run("-n", NAMESPACE, "logs", talker, "-c", "other", "--previous")
    assert refused.status == 1
    assert 'previous terminated container "other" in pod "talker" not found' in refused.errors


def test_logs_of_all_containers_and_of_what_a_selector_finds(kubectl: Kubectl, talker: str) -> None:
    everything = kubectl("-n", NAMESPACE, "logs", talker, "--all-containers").splitlines()
    assert everything.count("line 9") == everything.count("wrong") == 1
    chosen = kubectl("-n", NAMESPACE, "logs", "-l", f"app={talker}", "--all-containers", "--tail=1").splitlines()
    assert sorted(chosen) == ["line 9", "wrong"]


def test_a_log_is_a_file_in_cri_format_and_has_a_link(kubectl: Kubectl, cluster: RunningCluster, talker: str) -> None:
    pod = kubectl.json("-n", NAMESPACE, "get", "pod", talker)
    (root,) = (cluster.data_dir / "nodes").iterdir()
    folder = root / "var/log/pods" / f"{NAMESPACE}_{talker}_{pod['metadata']['uid']}"
    assert sorted(one.name for one in folder.iterdir()) == ["main", "other"]
    assert sorted(one.name for one in (folder / "main").iterdir()) == ["0.log", "1.log"]
    lines = (folder / "main/1.log").read_text().splitlines()
    assert all(LINE.match(line) for line in lines)
    assert lines[-1].split(" ", 3)[1:] == ["stdout", "F", "line 9"]
    assert (folder / "other/0.log").read_text().endswith(" stderr F wrong\n")
    (status,) = [one for one in pod["status"]["containerStatuses"] if one["name"] == "main"]
    container_id = status["containerID"].partition("://")[2]
    link = Path(root, "var/log/containers", f"{talker}_{NAMESPACE}_main-{container_id}.log")
    assert link.resolve() == (folder / "main/1.log").resolve()
