"""Volumes that show what an image holds (KEP-4639): pulled before the pod's sandbox is made, read-only, and not to be
executed from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from kubecore.api import meta
from kubecore.kubelet.pods.image_pulling import ImagePuller, Tell
from kubecore.kubelet.runtime.interface import ImageDirectory

Object = dict[str, Any]

FOLDER = "kubernetes.io~image"


class StillPulling(Exception):
    """An image is on its way; whoever waits for it is woken."""


async def image_directories(
    pod: Object, folder: Path, puller: ImagePuller, tell: Tell, wake: Callable[[], None]
) -> tuple[ImageDirectory, ...]:
    """`folder`: of the pod's volumes. Raises StillPulling, RuntimeFailure."""
    found = []
    for declared in pod["spec"].get("volumes") or []:
        source = declared.get("image")
        if source is None:
            continue
        wanted = {"image": source.get("reference", ""), "imagePullPolicy": source.get("pullPolicy")}
        image = await puller.image_for(pod, wanted, tell, wake)
        if image is None:
            raise StillPulling(f"{meta.key(pod)}: {wanted['image']}")
        found.append(ImageDirectory(folder / FOLDER / declared["name"], puller.store.root, image.id, image.layers))
    return tuple(found)
