"""Volumes that show what an image holds (KEP-4639): pulled before the pod's sandbox is made, read-only, and not to be
executed from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from kubecore.api import meta
from kubecore.kubelet.pods.image_pulling import ImagePuller, Tell
from kubecore.kubelet.runtime.interface import ImageDirectory, RuntimeFailure

Object = dict[str, Any]

FOLDER = "kubernetes.io~image"


class StillPulling(Exception):
    """An image is on its way; whoever waits for it is woken."""


class MissingImage(RuntimeFailure):
    """The image of a volume cannot be had: what that means for containers that mount it."""

    def __init__(self, volume: str, failure: RuntimeFailure) -> None:
        super().__init__(failure.reason, failure.message)
        self._volume = volume

    def concerns(self, container: Object) -> bool:
        return any(one["name"] == self._volume for one in container.get("volumeMounts") or [])


async def image_directories(
    pod: Object, folder: Path, puller: ImagePuller, tell: Tell, wake: Callable[[], None]
) -> tuple[ImageDirectory, ...]:
    """`folder`: of the pod's volumes. Raises StillPulling, MissingImage."""
    found = []
    for declared in pod["spec"].get("volumes") or []:
        source = declared.get("image")
        if source is None:
            continue
        wanted = {"image": source.get("reference", ""), "imagePullPolicy": source.get("pullPolicy")}
        try:
            image = await puller.image_for(pod, wanted, tell, wake)
        except RuntimeFailure as failure:
            raise MissingImage(declared["name"], failure) from failure
        if image is None:
            raise StillPulling(f"{meta.key(pod)}: {wanted['image']}")
        found.append(ImageDirectory(folder / FOLDER / declared["name"], puller.store.root, image.id, image.layers))
    return tuple(found)
