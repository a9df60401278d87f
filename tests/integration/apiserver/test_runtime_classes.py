"""A pod and the RuntimeClass it names, in the words of kube-apiserver v1.35."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_asyncio

from .conftest import Api, pod

pytestmark = pytest.mark.asyncio(loop_scope="module")

CLASSES = "node.k8s.io/v1/runtimeclasses"
PODS = "v1/pods"
DIFFERS = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"
TOLERATION = {"key": "k", "operator": "Exists", "effect": "NoSchedule"}


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def classes(server: Any) -> None:
    root = Api(server.transport(username="admin", groups=["system:masters"]), "")
    heavy = {"overhead": {"podFixed": {"cpu": "100m", "memory": "64Mi"}}}
    placed = {"scheduling": {"nodeSelector": {"arch": "x"}, "tolerations": [TOLERATION]}}
    for name, more in (("plain", {}), ("heavy", heavy), ("placed", placed)):
        made = {"metadata": {"name": name}, "handler": "h", **more}
        assert (await root.create(CLASSES, made))[0] == 201


async def test_a_class_that_is_not_there_is_refused(api: Api) -> None:
    status, answer = await api.create(PODS, pod("p", runtimeClassName="none"))
    assert (status, answer["message"]) == (
        403,
        'pods "p" is forbidden: pod rejected: RuntimeClass "none" not found',
    )


async def test_the_class_says_what_a_pod_costs(api: Api) -> None:
    _, made = await api.create(PODS, pod("p", runtimeClassName="heavy"))
    assert made["spec"]["overhead"] == {"cpu": "100m", "memory": "64Mi"}
    status, _ = await api.create(PODS, pod("q", runtimeClassName="heavy", overhead={"cpu": "0.1", "memory": "65536Ki"}))
    assert status == 201


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"runtimeClassName": "heavy", "overhead": {"cpu": "1"}}, DIFFERS),
        (
            {"overhead": {"cpu": "1"}},
            "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
        ),
        (
            {"runtimeClassName": "placed", "nodeSelector": {"arch": "y"}},
            "conflict: runtimeClass.scheduling.nodeSelector[arch] = x; pod.spec.nodeSelector[arch] = y",
        ),
    ],
)
async def test_a_pod_that_says_otherwise_is_refused(api: Api, spec: dict[str, Any], words: str) -> None:
    status, answer = await api.create(PODS, pod("p", **spec))
    assert (status, answer["message"]) == (403, f'pods "p" is forbidden: {words}')


async def test_the_class_says_where_a_pod_goes(api: Api) -> None:
    _, made = await api.create(PODS, pod("p", runtimeClassName="placed", nodeSelector={"disk": "ssd"}))
    assert made["spec"]["nodeSelector"] == {"arch": "x", "disk": "ssd"}
    assert TOLERATION in made["spec"]["tolerations"]
