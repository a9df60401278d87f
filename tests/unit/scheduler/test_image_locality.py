"""Nodes that have a pod's images are better, the larger those are and the more nodes have them."""

from __future__ import annotations

from kubecore.client.client import Object
from kubecore.scheduler.cache import Cache
from kubecore.scheduler.framework import CycleState
from kubecore.scheduler.plugins.image_locality import ImageLocality, normalized
from kubecore.scheduler.pods import PodInfo
from tests.unit.scheduler.builders import cache_of, info, node

MEGABYTE = 1024 * 1024


def with_images(name: str, **megabytes: int) -> Object:
    made = node(name)
    made["status"]["images"] = [
        {"names": [f"{image}:1", f"registry.example/{image}:1"], "sizeBytes": size * MEGABYTE}
        for image, size in megabytes.items()
    ]
    return made


def scores(pod: PodInfo, cache: Cache) -> dict[str, int]:
    plugin, state = ImageLocality(), CycleState()
    if not plugin.pre_score(state, pod, cache.nodes(), cache):
        return {}
    return {one.name: plugin.score(state, pod, one) for one in cache.nodes()}


def container_with(image: str) -> Object:
    return {"name": "c", "image": image}


def test_the_size_counts_between_a_small_and_a_large_image() -> None:
    cache = cache_of(*(with_images(name, small=10, middle=500, large=2000) for name in ("a", "b")))
    found = [
        scores(info(containers=[container_with(f"{image}:1")]), cache)["a"] for image in ("small", "middle", "large")
    ]
    assert found == [0, 100 * (500 - 23) // (1000 - 23), 100]


def test_an_image_that_few_nodes_have_counts_for_less() -> None:
    cache = cache_of(with_images("a", app=800), node("b"), node("c"), node("d"))
    pod = info(containers=[container_with("app:1")])
    assert scores(pod, cache) == {"a": 100 * (200 - 23) // (1000 - 23), "b": 0, "c": 0, "d": 0}


def test_more_containers_need_more_images() -> None:
    cache = cache_of(with_images("a", app=1000))
    both = info(containers=[container_with("app:1"), container_with("other:1")])
    assert scores(both, cache) == {"a": 100 * (1000 - 23) // (2000 - 23)}


def test_images_of_init_containers_count() -> None:
    cache = cache_of(with_images("a", app=1000, tool=1000))
    pod = info(containers=[container_with("app:1")], initContainers=[container_with("tool:1")])
    assert scores(pod, cache) == {"a": 100}


def test_without_any_image_on_a_node_all_are_alike() -> None:
    assert scores(info(containers=[container_with("app:1")]), cache_of(node("a"))) == {}


def test_what_a_node_has_no_more_does_not_count() -> None:
    cache = cache_of(with_images("a", app=1000), with_images("b", app=1000))
    cache.set_node(node("b"))
    cache.remove_node("a")
    assert cache.image_sizes("app:1") == {}


def test_no_tag_means_latest() -> None:
    assert normalized("app") == "app:latest"
    assert normalized("registry.example:5000/app") == "registry.example:5000/app:latest"
    assert normalized("app:2") == "app:2"
    assert normalized("app@sha256:0") == "app@sha256:0"
