"""Counting what pods have on the disk, while they come and go."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from kubecore.kubelet.logs.writing import pod_log_directory
from kubecore.kubelet.pods.disks import PodDisks
from kubecore.kubelet.serving.usage import RunningPod

POD = {"spec": {"containers": [{"name": "main"}]}}


@pytest.mark.parametrize("read", ["scandir", "listdir"])
async def test_a_pod_that_goes_meanwhile_keeps_no_other_from_being_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: str
) -> None:
    pods = [RunningPod("default", name, f"uid-{name}", ()) for name in ("going", "staying")]
    going, staying = (pod_log_directory(tmp_path, one.namespace, one.name, one.uid) for one in pods)
    for folder in (going, staying):
        (folder / "main").mkdir(parents=True)
    read_folder = getattr(os, read)

    def gone(path: Any) -> Any:
        if path == going:
            raise FileNotFoundError(path)
        return read_folder(path)

    monkeypatch.setattr(os, read, gone)
    found = await PodDisks(tmp_path, lambda: []).of([(POD, one) for one in pods])
    assert set(found) == {"uid-going", "uid-staying"}
    assert set(found["uid-staying"].logs) == {"main"}
