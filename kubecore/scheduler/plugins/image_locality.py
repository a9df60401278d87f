"""Prefers nodes that have the images of a pod's containers already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kubecore.client.client import Object
from kubecore.scheduler.cache import Cache, NodeInfo
from kubecore.scheduler.framework import MAXIMUM_SCORE, CycleState, Score
from kubecore.scheduler.pods import PodInfo

_MEGABYTE = 1024 * 1024
# What images are usually as large as, compressed in a registry.
_LEAST = 23 * _MEGABYTE
_MOST_OF_CONTAINER = 1000 * _MEGABYTE


class ImageLocality(Score):
    name = "ImageLocality"

    def concerns(self, pod: PodInfo, cache: Cache) -> bool:
        return cache.has_images and any(map(cache.image_sizes, images_of(pod)))

    def pre_score(self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo], cache: Cache) -> bool:
        held = [sizes for sizes in map(cache.image_sizes, images_of(pod)) if sizes]
        state.notes[self.name] = (held, len(cache.nodes()))
        return bool(held)

    def score(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> int:
        held: list[Mapping[str, int]]
        held, nodes = state.notes[self.name]
        # an image that few nodes have counts for little, or all pods with it would go there
        total = sum(int(sizes[node.name] * (len(sizes) / nodes)) for sizes in held if node.name in sizes)
        most = _MOST_OF_CONTAINER * len(_containers(pod))
        return MAXIMUM_SCORE * (min(max(total, _LEAST), most) - _LEAST) // (most - _LEAST)


def _containers(pod: PodInfo) -> list[Object]:
    return [*(pod.spec.get("initContainers") or ()), *(pod.spec.get("containers") or ())]


def images_of(pod: PodInfo) -> list[str]:
    """The images of all containers, init containers with them, each with its tag."""
    return [normalized(one.get("image") or "") for one in _containers(pod)]


def normalized(image: str) -> str:
    """With the tag that is meant when there is none."""
    return image if image.rfind(":") > image.rfind("/") else f"{image}:latest"
