"""HorizontalPodAutoscalers: what metrics, windows and policies make of a target's size."""

from __future__ import annotations

from typing import Any

import pytest

from kubecore.api import meta
from kubecore.clock import VirtualClock
from tests.unit.controllers.conftest import events

from .conftest import HPAS, Scaled, ScalingAPI, pod


async def test_replicas_follow_the_utilisation(scaled: Scaled, api: ScalingAPI) -> None:
    api.usage = {"": {"cpu": "100m", "memory": "10Mi"}}
    await scaled.start(2)
    assert api.size() == 4
    status = api.status()
    assert (status["currentReplicas"], status["desiredReplicas"]) == (2, 4)
    current = {"averageUtilization": 100, "averageValue": "100m"}
    assert status["currentMetrics"] == [{"type": "Resource", "resource": {"name": "cpu", "current": current}}]
    assert status["lastScaleTime"] == "2026-01-01T00:00:00Z"
    assert api.condition("AbleToScale") == (
        "True",
        "SucceededRescale",
        "the HPA controller was able to update the target scale to 4",
    )
    metric = "cpu resource utilization (percentage of request)"
    told = f"the HPA was able to successfully calculate a replica count from {metric}"
    assert api.condition("ScalingActive") == ("True", "ValidMetricFound", told)
    assert events(api) == [f"New size: 4; reason: {metric} above target"]


async def test_small_differences_change_nothing(scaled: Scaled, api: ScalingAPI) -> None:
    api.usage = {"": {"cpu": "55m"}}
    await scaled.start(4)
    assert await scaled.later() == 4
    assert api.condition("AbleToScale")[1] == "ReadyForNewScale"
    assert api.condition("ScalingLimited")[:2] == ("False", "DesiredWithinRange")


async def test_the_tolerance_can_be_said(scaled: Scaled, api: ScalingAPI) -> None:
    api.usage = {"": {"cpu": "55m"}}
    rules = {"policies": [{"type": "Pods", "value": 10, "periodSeconds": 15}]}
    await scaled.start(4, behavior={"scaleUp": {**rules, "tolerance": "0.05"}, "scaleDown": rules})
    assert api.size() == 5


async def test_growth_without_behaviour_is_limited_to_twice_the_size(scaled: Scaled, api: ScalingAPI) -> None:
    api.usage = {"": {"cpu": "500m"}}
    await scaled.start(3)
    assert api.size() == 6
    assert api.condition("ScalingLimited") == (
        "True",
        "ScaleUpLimit",
        "the desired replica count is increasing faster than the maximum scale rate",
    )
    scaled.follow()
    assert await scaled.later() == 10
    assert api.condition("ScalingLimited")[:2] == ("True", "TooManyReplicas")


async def test_shrinking_waits_for_the_window_of_stabilisation(scaled: Scaled, api: ScalingAPI) -> None:
    api.usage = {"": {"cpu": "50m"}}
    await scaled.start(8)
    api.usage = {"": {"cpu": "5m"}}
    assert await scaled.later(285) == 8
    assert api.condition("AbleToScale")[1] == "ScaleDownStabilized"
    assert await scaled.later(45) == 1
    assert events(api)[-1] == "New size: 1; reason: All metrics below target"


async def test_missing_requests_are_told(scaled: Scaled, api: ScalingAPI) -> None:
    api.usage = {"": {"cpu": "50m"}}
    await scaled.start(1)
    api.change("pods", "web-0", spec={"containers": [{"name": "c"}]})
    await scaled.clock.advance(15)
    why = "failed to get cpu utilization: missing request for cpu in container c of Pod web-0"
    told = f"the HPA was unable to compute the replica count: {why}"
    assert api.condition("ScalingActive") == ("False", "FailedGetResourceMetric", told)
    first = f"invalid metrics (1 invalid out of 1), first error is: failed to get cpu resource metric value: {why}"
    assert events(api) == [why, first]


async def test_without_a_metrics_api_the_size_stays_and_it_is_told(scaled: Scaled, api: ScalingAPI) -> None:
    api.served = False
    await scaled.start(2)
    assert api.size() == 2
    why = (
        "failed to get cpu utilization: unable to get metrics for resource cpu: unable to fetch metrics from resource "
        "metrics API: the server could not find the requested resource (get pods.metrics.k8s.io)"
    )
    told = f"the HPA was unable to compute the replica count: {why}"
    assert api.condition("ScalingActive") == ("False", "FailedGetResourceMetric", told)
    assert api.status()["currentReplicas"] == 2


# ---------------------------------------------------------------------- pods that do not count
async def test_pods_without_metrics_hold_growth_and_shrinking_back(scaled: Scaled, api: ScalingAPI) -> None:
    api.silent = {"web-0", "web-1"}
    api.usage = {"": {"cpu": "100m"}}
    await scaled.start(4)
    # the silent ones are taken to use nothing: 200m of 400m
    assert api.size() == 4
    api.usage = {"": {"cpu": "20m"}}
    # and now to use all they request: 240m of 400m is above half, and that turns no shrinking into growth
    assert await scaled.later(600) == 4


async def test_pods_that_start_do_not_count(scaled: Scaled, api: ScalingAPI, clock: VirtualClock) -> None:
    api.usage = {"": {"cpu": "90m"}}
    await scaled.start(1)
    assert api.size() == 2
    api.add("pods", pod("web-1", started=meta.format_time(clock.now()), ready="False"))
    await clock.advance(15)
    # taken to use nothing, it keeps 90m of 200m within the target
    assert api.size() == 2
    assert api.status()["currentMetrics"][0]["resource"]["current"]["averageUtilization"] == 90


async def test_finished_and_deleted_pods_are_ignored(scaled: Scaled, api: ScalingAPI) -> None:
    api.usage = {"": {"cpu": "100m"}}
    await scaled.start(1)
    assert api.size() == 2
    api.add("pods", pod("web-1"))
    api.change("pods", "web-1", status={"phase": "Failed"})
    await scaled.clock.advance(15)
    assert api.size() == 2


# ---------------------------------------------------------------------- bounds and targets
async def test_bounds_come_before_metrics(scaled: Scaled, api: ScalingAPI) -> None:
    await scaled.start(20)
    assert api.size() == 10
    assert events(api) == ["New size: 10; reason: Current number of replicas above Spec.MaxReplicas"]
    api.change(HPAS, "web", spec={"minReplicas": 12, "maxReplicas": 15})
    await scaled.running.settle()
    assert api.size() == 12
    assert events(api)[-1] == "New size: 12; reason: Current number of replicas below Spec.MinReplicas"


async def test_a_target_of_no_replicas_is_left_alone(scaled: Scaled, api: ScalingAPI) -> None:
    await scaled.start(0)
    assert api.size() == 0
    told = "scaling is disabled since the replica count of the target is zero"
    assert api.condition("ScalingActive") == ("False", "ScalingDisabled", told)
    assert {**api.status(), "conditions": None} == {"desiredReplicas": 0, "currentMetrics": None, "conditions": None}
    await scaled.later(300)
    assert len(api.writes(f"update {HPAS}/status")) == 1


async def test_a_target_that_is_not_there_is_told(scaled: Scaled, api: ScalingAPI) -> None:
    await scaled.start(1)
    for target, why in (
        ({"kind": "Deployment", "name": "none"}, 'deployments.apps "none" not found'),
        ({"kind": "Gadget", "name": "web"}, 'no matches for kind "Gadget" in group "apps"'),
    ):
        api.change(HPAS, "web", spec={"scaleTargetRef": target})
        await scaled.running.settle()
        told = f"the HPA controller was unable to get the target's current scale: {why}"
        assert api.condition("AbleToScale") == ("False", "FailedGetScale", told)
        assert events(api, "FailedGetScale")[-1] == why


async def test_two_autoscalers_of_the_same_pods_do_nothing(scaled: Scaled, api: ScalingAPI) -> None:
    api.usage = {"": {"cpu": "50m"}}
    await scaled.start(2)
    first = api.get(HPAS, "web")
    assert first is not None
    api.usage = {"": {"cpu": "100m"}}
    api.add(HPAS, {"metadata": {"name": "other"}, "spec": first["spec"]})
    await scaled.running.settle()
    told = "pods by selector app=web are controlled by multiple HPAs: [default/other default/web]"
    assert api.condition("ScalingActive", "other") == ("False", "AmbiguousSelector", told)
    assert await scaled.later(60) == 2


async def test_an_autoscaler_that_goes_while_it_is_looked_at_is_in_nobodys_way(
    scaled: Scaled, api: ScalingAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.usage = {"": {"cpu": "50m"}}
    await scaled.start(2)
    first, answer = api.get(HPAS, "web"), api.request
    assert first is not None

    async def request(method: str, path: str, **options: Any) -> tuple[int, bytes]:
        if path.endswith("/scale") and api.get(HPAS, "other") is not None:
            api.remove(HPAS, "other")
            await scaled.clock.sleep(0.1)
        return await answer(method, path, **options)

    monkeypatch.setattr(api, "request", request)
    api.usage = {"": {"cpu": "100m"}}
    api.add(HPAS, {"metadata": {"name": "other"}, "spec": first["spec"]})
    await scaled.running.settle()
    assert api.get(HPAS, "other") is None
    assert await scaled.later() == 4
