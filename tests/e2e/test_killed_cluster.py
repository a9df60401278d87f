"""`kubecore up` is killed while pods run, and started again over the same data directory: they do not notice."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.kubectl import of_version
from tests.support.process import running_cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

COUNT = "echo mine > /data/kept; i=0; while :; do i=$((i + 1)); echo $i; sleep 0.02; done"
WAIT = "until [ -e {go} ]; do sleep 0.02; done; exit 3"


def pod(name: str, script: str, **spec: Any) -> dict[str, Any]:
    mounts = [{"name": "data", "mountPath": "/data"}]
    main = {"name": "main", "image": "none", "command": ["/bin/sh", "-c", script], "volumeMounts": mounts}
    whole = {"containers": [main], "volumes": [{"name": "data", "emptyDir": {"medium": "Memory"}}], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": whole}


def test_pods_go_on_without_their_cluster_and_the_next_start_takes_them_over(tmp_path: Path) -> None:
    data, go = tmp_path / "data", tmp_path / "go"
    with running_cluster(data) as cluster:
        kubectl = of_version("1.37", cluster.kubeconfig, tmp_path)
        kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=30s", timeout=60)
        for one in (pod("counting", COUNT), pod("ending", WAIT.format(go=go), restartPolicy="Never")):
            kubectl("apply", "-f", "-", stdin=json.dumps(one))
        kubectl("wait", "pod", "--all", "--for=condition=Ready", "--timeout=60s", timeout=90)
        before = kubectl.json("get", "pod", "counting")["status"]
        inside = kubectl("exec", "counting", "--", "sh", "-c", "readlink /proc/1/ns/net /proc/1/ns/mnt")
        cluster.stop(number=signal.SIGKILL)
    go.touch()
    with running_cluster(data) as cluster:
        kubectl("wait", "pod", "ending", "--for=jsonpath={.status.phase}=Failed", "--timeout=60s", timeout=90)
        ended = kubectl.json("get", "pod", "ending")["status"]["containerStatuses"][0]["state"]["terminated"]
        assert ended["exitCode"] == 3
        assert kubectl.json("get", "pod", "counting")["status"] == before
        assert kubectl("exec", "counting", "--", "cat", "/data/kept") == "mine\n"
        assert kubectl("exec", "counting", "--", "sh", "-c", "readlink /proc/1/ns/net /proc/1/ns/mnt") == inside
        lines = [int(line) for line in kubectl("logs", "counting").split()]
        assert lines == list(range(1, len(lines) + 1))
        assert cluster.stop(seconds=30) == 0
    assert list(data.glob("nodes/*/keeper.sock")) == []
