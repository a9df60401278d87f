"""Files of pods that went while no kubelet ran."""

from __future__ import annotations

import shutil
from pathlib import Path

from kubecore.kubelet.logs import writing as logs
from kubecore.kubelet.runtime.cri import mounts


def remove(root: Path, alive: set[str]) -> None:
    """`root`: the node's folder. `alive`: uids of the pods that have not gone."""
    for folder in _entries(root / "pods"):
        if folder.name not in alive:
            mounts.release(folder)  # not to remove what is a volume's
            shutil.rmtree(folder, ignore_errors=True)
    for folder in _entries(root / "var/log/pods"):
        if folder.name.rsplit("_", 1)[-1] not in alive:
            shutil.rmtree(folder, ignore_errors=True)
    logs.remove_dead_links(root)


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []
