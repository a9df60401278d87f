"""What a pod's quality of service means on its node, also where it has resources of its own."""

from __future__ import annotations

from typing import Any

import pytest

from kubecore.kubelet.pods.fields import NodeFacts, resource_value
from kubecore.kubelet.pods.qos import oom_score_adj, qos_class

Object = dict[str, Any]

NODE_BYTES = 1000 * 1024 * 1024
NODE = NodeFacts("node", (), {"cpu": "4", "memory": "1000Mi", "ephemeral-storage": "1Gi", "hugepages-2Mi": "4Mi"})


def container(memory: str = "", **fields: Any) -> Object:
    return {"name": "main", "resources": {"requests": {"memory": memory} if memory else {}}, **fields}


def pod(*containers: Object, **spec: Any) -> Object:
    return {"metadata": {"name": "pod"}, "spec": {"containers": list(containers) or [container()], **spec}}


def whole(**kinds: Object) -> Object:
    return {"resources": kinds}


@pytest.mark.parametrize(
    ("spec", "quality"),
    [
        ({}, "BestEffort"),
        (whole(requests={"cpu": "1"}), "Burstable"),
        (whole(limits={"memory": "1Gi"}, requests={"memory": "1Gi"}), "Burstable"),
        (whole(limits={"cpu": "1", "memory": "1Gi"}, requests={"cpu": "1", "memory": "1Gi"}), "Guaranteed"),
    ],
)
def test_a_pod_with_resources_of_its_own_is_judged_by_them(spec: Object, quality: str) -> None:
    assert qos_class(pod(**spec)) == quality


def test_who_asks_for_more_memory_is_spared_longer() -> None:
    asking = pod(container("100Mi"), container("300Mi"))
    scores = [oom_score_adj(asking, one, NODE_BYTES) for one in asking["spec"]["containers"]]
    assert scores == [900, 700]


def test_what_a_pod_asks_for_beyond_its_containers_counts_for_all_of_them() -> None:
    asking = pod(container("100Mi"), container(), **whole(requests={"memory": "300Mi"}))
    scores = [oom_score_adj(asking, one, NODE_BYTES) for one in asking["spec"]["containers"]]
    assert scores == [800, 900]


def test_a_sidecar_is_spared_as_long_as_those_that_it_is_there_for() -> None:
    sidecar = container("10Mi", restartPolicy="Always")
    asking = pod(container("100Mi"), container("300Mi"), initContainers=[sidecar])
    assert oom_score_adj(asking, sidecar, NODE_BYTES) == 900


@pytest.mark.parametrize(
    ("spec", "score"),
    [
        ({}, 1000),
        ({"priorityClassName": "system-node-critical"}, -997),
        ({"priorityClassName": "system-cluster-critical"}, 1000),
        (whole(limits={"cpu": "1", "memory": "1Gi"}, requests={"cpu": "1", "memory": "1Gi"}), -997),
        (whole(requests={"cpu": "1"}), 999),
        (whole(requests={"memory": "1000Mi"}), 3),
    ],
)
def test_who_is_guaranteed_goes_last_and_who_asks_for_nothing_first(spec: Object, score: int) -> None:
    asking = pod(**spec)
    assert oom_score_adj(asking, asking["spec"]["containers"][0], NODE_BYTES) == score


@pytest.mark.parametrize(
    ("resource", "told"),
    [
        ("limits.cpu", "2"),
        ("limits.memory", str(64 * 1024 * 1024)),
        ("limits.ephemeral-storage", str(1024 * 1024 * 1024)),
        ("limits.hugepages-2Mi", "0"),
    ],
)
def test_a_limit_that_a_container_has_not_is_that_of_its_pod_or_what_the_node_has(resource: str, told: str) -> None:
    asking = pod(**whole(limits={"cpu": "2", "memory": "64Mi"}))
    assert resource_value(asking, {"resource": resource}, default_container="main", node=NODE) == told
