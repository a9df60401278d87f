"""A volume of the host's may be on a file system whose server does not answer. A container with one waits beside the
event loop until it does, so that what is planned and carried out then finds it answering."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kubecore.kubelet.runtime import mounting
from kubecore.kubelet.runtime.interface import Mount
from kubecore.own_threads import on_own_thread


async def answered(mounts: Iterable[Mount], pod: Path) -> None:
    """Returns once those do that are not the node's own: below the folder of the `pod`, or in memory."""
    others = [one for one in mounts if not one.in_memory and not one.source.is_relative_to(pod)]

    def look() -> None:
        for one in others:
            mounting.is_folder(one)

    if others:
        await on_own_thread(look, "kubelet looking at volumes of a container")
