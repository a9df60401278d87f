"""What is told of autoscalers' work, under upstream's names."""

from __future__ import annotations

import pytest

from kubecore.clock import VirtualClock
from kubecore.controllers.autoscaling.autoscaler import HorizontalPodAutoscalerController
from tests.unit.controllers.conftest import Running

from .conftest import CPU, HPAS, Scaled, ScalingAPI

PREFIX = "horizontal_pod_autoscaler_controller_"


@pytest.fixture
def controller(running: Running) -> HorizontalPodAutoscalerController:
    return HorizontalPodAutoscalerController(running.context)


@pytest.fixture
def scaled(
    api: ScalingAPI, running: Running, clock: VirtualClock, controller: HorizontalPodAutoscalerController
) -> Scaled:
    return Scaled(api, running, clock, controller)


def told(controller: HorizontalPodAutoscalerController) -> dict[str, str]:
    lines = [line for metric in controller.metrics for line in metric.lines() if not line.startswith("#")]
    return dict(line.removeprefix(PREFIX).rsplit(" ", 1) for line in lines)  # type: ignore[misc]


async def test_a_look_that_scales_is_told_by_its_direction_and_so_are_its_metrics(
    scaled: Scaled, api: ScalingAPI, controller: HorizontalPodAutoscalerController
) -> None:
    api.usage = {"": {"cpu": "100m"}}
    await scaled.start(2)
    found = told(controller)
    assert found['reconciliations_total{action="scale_up",error="none"}'] == "1"
    assert found['metric_computation_total{action="scale_up",error="none",metric_type="Resource"}'] == "1"
    assert found['reconciliation_duration_seconds_count{action="scale_up",error="none"}'] == "1"
    assert found["num_horizontal_pod_autoscalers"] == "1"
    assert found['desired_replicas{hpa_name="web",namespace="default"}'] == "4"
    api.usage = {"": {"cpu": "50m"}}
    await scaled.later()
    assert told(controller)['reconciliations_total{action="none",error="none"}'] == "1"


async def test_metrics_that_nobody_serves_are_an_internal_error(
    scaled: Scaled, api: ScalingAPI, controller: HorizontalPodAutoscalerController
) -> None:
    api.served = False
    await scaled.start(2)
    found = told(controller)
    assert found['reconciliations_total{action="none",error="internal"}'] == "1"
    assert found['metric_computation_total{action="none",error="internal",metric_type="Resource"}'] == "1"


async def test_a_target_of_no_version_is_an_error_of_the_spec(
    scaled: Scaled, controller: HorizontalPodAutoscalerController
) -> None:
    await scaled.start(2, CPU, scaleTargetRef={"apiVersion": "a/b/c", "kind": "Deployment", "name": "web"})
    assert told(controller)['reconciliations_total{action="none",error="spec"}'] == "1"


async def test_an_autoscaler_that_is_gone_is_told_no_more(
    scaled: Scaled, api: ScalingAPI, controller: HorizontalPodAutoscalerController
) -> None:
    api.usage = {"": {"cpu": "50m"}}
    await scaled.start(2)
    api.remove(HPAS, "web")
    await scaled.later(1)
    found = told(controller)
    assert found["num_horizontal_pod_autoscalers"] == "0"
    assert not [name for name in found if name.startswith("desired_replicas")]
