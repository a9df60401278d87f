"""Autoscalers of what has a scale subresource, over a real API server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest
import pytest_asyncio

from kubecore.apiserver.server import APIServer
from kubecore.client.client import Client
from kubecore.client.informer import InformerFactory
from kubecore.controllers.autoscaling.autoscaler import AutoscalerConfig, HorizontalPodAutoscalerController
from kubecore.controllers.base import ControllerContext

from .conftest import Api, deployment
from .definitions import condition, crd, define, version

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = dict[str, Any]
HPAS = "autoscaling/v2/horizontalpodautoscalers"
SCALE = {
    "specReplicasPath": ".spec.replicas",
    "statusReplicasPath": ".status.replicas",
    "labelSelectorPath": ".status.selector",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def controller(server: APIServer) -> AsyncIterator[None]:
    client = Client(server.transport(username="manager", groups=["system:masters"]), field_manager="manager")
    informers = InformerFactory(client, server.clock)
    context = ControllerContext(client, server.clock, informers)
    running = HorizontalPodAutoscalerController(context, config=AutoscalerConfig(sync_period=0.1))
    await informers.start()
    task = asyncio.get_running_loop().create_task(running.run(), name="autoscalers")
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await informers.stop()


async def until(api: Api, resource: str, name: str, holds: Callable[[JSON], bool]) -> JSON:
    """The object, once it is so."""
    query = {"fieldSelector": f"metadata.name={name}"}
    async with asyncio.timeout(60):
        async for batch in api.transport.watch(api.path(resource), query=query):
            for event in batch:
                obj: JSON = orjson.loads(event.object)
                if event.type in ("ADDED", "MODIFIED") and holds(obj):
                    return obj
    raise AssertionError


async def autoscale(api: Api, target: JSON, **spec: Any) -> None:
    code, made = await api.create(
        HPAS, {"metadata": {"name": "h"}, "spec": {"scaleTargetRef": target, "maxReplicas": 5, **spec}}
    )
    assert code == 201, made


async def test_a_custom_kind_with_a_scale_is_kept_within_the_bounds(api: Api) -> None:
    served = version(subresources={"status": {}, "scale": SCALE})
    await define(api, crd("flocks", "Flock", served, group="scaled.example.com"))
    flock = {"apiVersion": "scaled.example.com/v1", "kind": "Flock", "metadata": {"name": "f"}}
    code, made = await api.create("scaled.example.com/v1/flocks", {**flock, "spec": {"size": 1, "replicas": 1}})
    assert code == 201, made
    await autoscale(api, {"apiVersion": "scaled.example.com/v1", "kind": "Flock", "name": "f"}, minReplicas=3)
    await until(api, "scaled.example.com/v1/flocks", "f", lambda obj: obj["spec"]["replicas"] == 3)
    # what is within them needs metrics, and for these a selector, which nobody has told
    found = await until(api, HPAS, "h", lambda obj: condition(obj, "ScalingActive")["status"] == "False")
    active = condition(found, "ScalingActive")
    assert (active["reason"], active["message"]) == ("InvalidSelector", "the HPA target's scale is missing a selector")


async def test_without_pods_there_are_no_metrics_and_that_is_told_as_kubernetes_tells_it(api: Api) -> None:
    assert (await api.create("apps/v1/deployments", deployment("d", replicas=2)))[0] == 201
    await autoscale(api, {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"})
    found = await until(api, HPAS, "h", lambda obj: condition(obj, "ScalingActive")["status"] == "False")
    assert condition(found, "ScalingActive")["message"] == (
        "the HPA was unable to compute the replica count: failed to get cpu utilization: unable to get metrics for "
        "resource cpu: no metrics returned from resource metrics API"
    )
    assert condition(found, "AbleToScale")["reason"] == "SucceededGetScale"
    assert found["status"]["currentReplicas"] == 2
