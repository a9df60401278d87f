"""After many pods nothing is left of them: no process, mount, namespace, link, cgroup, file or descriptor.

LEAK_PODS=1000 makes it a thousand, which takes some minutes. By default those that runc runs are few.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from kubecore.kubelet.networks.network import bridge_name
from kubecore.kubelet.runtime.leftovers import node_mark
from kubecore.kubelet.runtime.oci_programs import finding
from tests.support.kubectl import of_version
from tests.support.process import ROOT, running_cluster
from tests.support.small_image import SmallImage, programs

PODS, AT_ONCE = int(os.environ.get("LEAK_PODS", "60")), 30
PODS_OF_RUNC = int(os.environ.get("LEAK_PODS", "10"))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900 + 10 * PODS)]

IMAGE = "docker.io/library/leaks:1"
SETTINGS = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"a": "1"}}
RUNC = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "runc"}, "handler": "runc"}
# What was ready stays so, however little of the machine the pods get.
PATIENT = {"periodSeconds": 2, "timeoutSeconds": 60, "failureThreshold": 1000}


def pod(number: int, runtime_class: str = "") -> dict[str, Any]:
    """With a bit of everything. Without a class every other one runs an image."""
    mounts = [{"name": name, "mountPath": f"/{name}"} for name in ("disk", "memory", "settings")]
    mounts.append({"name": "disk", "mountPath": "/part", "subPath": "part"})
    script = "echo said; echo kept > /part/file; exec sleep 1000"
    main = {
        "name": "main",
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "command": ["/bin/sh", "-c", script],
        "volumeMounts": mounts,
        "readinessProbe": {**PATIENT, "exec": {"command": ["/bin/sh", "-c", "test -e /part/file"]}},
    }
    brief = {"name": "brief", "image": IMAGE, "imagePullPolicy": "Never", "command": ["/bin/sh", "-c", "exit 0"]}
    spec = {
        "containers": [main, brief],
        "shareProcessNamespace": number % 4 == 0,
        "restartPolicy": "OnFailure",
        "terminationGracePeriodSeconds": 0,
        "volumes": [
            {"name": "disk", "emptyDir": {}},
            {"name": "memory", "emptyDir": {"medium": "Memory"}},
            {"name": "settings", "configMap": {"name": "settings"}},
        ],
    }
    if runtime_class or number % 2:
        spec["runtimeClassName"] = runtime_class or "oci"
    metadata = {"name": f"pod-{number}", "labels": {"one": "of-many"}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def holder() -> dict[str, Any]:
    """Stays, so that the image is in use all the time: on a disk that is nearly full it would be removed."""
    main = {"name": "main", "image": IMAGE, "imagePullPolicy": "Never", "command": ["sleep", "1000000"]}
    spec = {"containers": [main], "runtimeClassName": "oci", "terminationGracePeriodSeconds": 0}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "holder"}, "spec": spec}


def family(pid: int) -> Iterator[int]:
    """A process and all that it and its children have started."""
    yield pid
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from family(int(child))


def everything(cluster: int, data: Path) -> Counter[str]:
    """How much there is of what pods are made of."""
    found: Counter[str] = Counter()
    namespaces = set()
    for pid in family(cluster):
        with suppress(OSError):
            found["processes"] += 1
            namespaces |= {str(one.readlink()) for one in Path(f"/proc/{pid}/ns").iterdir()}
            keeper = b"kubecore.kubelet.keeper.process" in Path(f"/proc/{pid}/cmdline").read_bytes()
            if keeper:
                found["descriptors"] += len(list(Path(f"/proc/{pid}/fd").iterdir()))
                mounts = Path(f"/proc/{pid}/mountinfo").read_text(errors="surrogateescape").split("\n")
                found["mounts"] += len([line for line in mounts if str(data) in line])
    found["namespaces"] = len(namespaces)
    found["links"] = len(list(Path(f"/sys/class/net/{bridge_name(data)}/brif").glob("*")))
    for node in (data / "nodes").iterdir():
        mark = node_mark(node, node.name)
        found["groups"] += pod_groups(mark)
        for name in ("pods", "var/log/pods", "var/log/containers"):
            found[name] += len(list((node / name).iterdir()))
    return found


def pod_groups(mark: str) -> int:
    """Of a node's pods, in all hierarchies. Some may go while they are looked for."""
    below = f"/kubecore-{mark}/kubepods"
    walked = os.walk("/sys/fs/cgroup")
    return sum(below in folder and name.startswith("pod") for folder, names, _ in walked for name in names)


def settled(cluster: int, data: Path, wanted: Callable[[Counter[str]], bool]) -> Counter[str]:
    """What there is, once it is what is wanted, or after some minutes."""
    patience = threading.Event()
    for _ in range(400):
        found = everything(cluster, data)
        if wanted(found):
            break
        patience.wait(0.5)
    return found


def at_rest(found: Counter[str], *, processes: int) -> bool:
    """The cluster, its keeper and the holder are all that runs, with what runc needs."""
    return (
        found["processes"] == processes and found["pods"] == found["var/log/pods"] == found["var/log/containers"] == 1
    )


def excess(found: Counter[str], before: Counter[str]) -> dict[str, int]:
    """What there is more of than before. The last pods' cgroups may be dying still, and go with those of the next."""
    dying = {"groups": 12, "descriptors": 4}
    return {name: found[name] - before[name] for name in found if found[name] > before[name] + dying.get(name, 0)}


@pytest.mark.parametrize(
    ("runtime_class", "pods", "processes"),
    [
        pytest.param("", PODS, 3, id="own"),
        pytest.param(
            "runc",
            PODS_OF_RUNC,
            4,  # with the monitor of what runc leaves behind
            id="runc",
            marks=pytest.mark.skipif(not finding.find("runc"), reason="there is no runc (Debian's package runc)"),
        ),
    ],
)
def test_nothing_is_left_of_many_pods(tmp_path: Path, runtime_class: str, pods: int, processes: int) -> None:
    data = tmp_path / "data"
    archive = SmallImage([programs()], {}, [IMAGE]).docker_archive(tmp_path / "image.tar")
    load = [sys.executable, "-m", "kubecore", "image", "load", "--data-dir", str(data), str(archive)]
    subprocess.run(load, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    with running_cluster(data) as cluster:
        kubectl = of_version("1.37", cluster.kubeconfig, tmp_path)
        kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=180s")

        def run(numbers: range) -> None:
            items = [pod(number, runtime_class) for number in numbers]
            kubectl("create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
            ready = "--for=jsonpath={.status.containerStatuses[?(@.name=='main')].ready}=true"
            kubectl("wait", "pods", "-l", "one=of-many", ready, "--timeout=180s")
            kubectl("delete", "pods", "-l", "one=of-many", "--timeout=180s")

        for one in (SETTINGS, RUNC, holder()):
            kubectl("create", "-f", "-", stdin=json.dumps(one))
        run(range(2))
        before = settled(cluster.process.pid, data, lambda found: at_rest(found, processes=processes))
        assert at_rest(before, processes=processes), before
        for first in range(2, pods, AT_ONCE):
            run(range(first, min(first + AT_ONCE, pods)))
        after = settled(cluster.process.pid, data, lambda found: excess(found, before) == {})
        assert excess(after, before) == {}
