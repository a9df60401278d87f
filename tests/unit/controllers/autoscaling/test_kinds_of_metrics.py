"""HorizontalPodAutoscalers: metrics of other kinds than the utilisation of whole pods, and those that fail."""

from __future__ import annotations

import pytest

from kubecore.api import errors
from kubecore.client.client import Object
from tests.unit.controllers.conftest import events

from .conftest import CPU, Scaled, ScalingAPI


async def test_average_values_and_single_containers(scaled: Scaled, api: ScalingAPI) -> None:
    api.usage = {"c": {"cpu": "20m", "memory": "200Mi"}, "side": {"cpu": "500m", "memory": "100Mi"}}
    memory = {"name": "memory", "target": {"type": "AverageValue", "averageValue": "100Mi"}}
    one = {"name": "cpu", "container": "c", "target": {"type": "Utilization", "averageUtilization": 80}}
    await scaled.start(
        2, {"type": "Resource", "resource": memory}, {"type": "ContainerResource", "containerResource": one}
    )
    # the most that any of them asks for
    assert api.size() == 4
    assert api.status()["currentMetrics"] == [
        {"type": "Resource", "resource": {"name": "memory", "current": {"averageValue": "300Mi"}}},
        {
            "type": "ContainerResource",
            "containerResource": {
                "name": "cpu",
                "container": "c",
                "current": {"averageUtilization": 20, "averageValue": "20m"},
            },
        },
    ]


async def test_pods_object_and_external_metrics(scaled: Scaled, api: ScalingAPI) -> None:
    stamp = "2026-01-01T00:00:00Z"
    custom = "/apis/custom.metrics.k8s.io/v1beta1/namespaces/default"
    api.values = {
        f"{custom}/pods/*/rate": [
            {"describedObject": {"name": f"web-{n}"}, "value": "15", "timestamp": stamp} for n in (0, 1)
        ],
        f"{custom}/services/front/hits": [{"describedObject": {"name": "front"}, "value": "1k", "timestamp": stamp}],
        "/apis/external.metrics.k8s.io/v1beta1/namespaces/default/queue": [
            {"value": "30", "timestamp": stamp},
            {"value": "12", "timestamp": stamp},
        ],
    }
    rate = {"metric": {"name": "rate"}, "target": {"type": "AverageValue", "averageValue": "10"}}
    front = {"kind": "Service", "name": "front", "apiVersion": "v1"}
    hits = {"metric": {"name": "hits"}, "describedObject": front, "target": {"type": "Value", "value": "400"}}
    chosen = {"name": "queue", "selector": {"matchLabels": {"a": "1"}}}
    queue = {"metric": chosen, "target": {"type": "AverageValue", "averageValue": "6"}}
    await scaled.start(
        2, {"type": "Pods", "pods": rate}, {"type": "Object", "object": hits}, {"type": "External", "external": queue},
        maxReplicas=100,
    )  # fmt: skip
    assert api.size() == 4
    assert api.condition("ScalingLimited")[1] == "ScaleUpLimit"
    pods, described, external = api.status()["currentMetrics"]
    assert pods["pods"] == {"metric": {"name": "rate"}, "current": {"averageValue": "15"}}
    assert described["object"]["current"] == {"value": "1k"}
    assert external["external"]["current"] == {"averageValue": "21"}
    selector = "&LabelSelector{MatchLabels:map[string]string{a: 1,},MatchExpressions:[]LabelSelectorRequirement{},}"
    assert api.condition("ScalingActive")[2].endswith(f"from external metric queue({selector})")


@pytest.mark.parametrize(
    ("code", "body", "told"),
    [
        (404, errors.not_found("", "metrics", "cpu").to_json(), 'metrics "cpu" not found'),
        (403, errors.forbidden("", "pods", "", "no").to_json(), "pods is forbidden: no"),
        (404, b"404 page not found\n", "the server could not find the requested resource (get pods.metrics.k8s.io)"),
        (
            503,
            b"service unavailable\n",
            "the server is currently unable to handle the request (get pods.metrics.k8s.io)",
        ),
        (
            500,
            b"oops",
            'an error on the server ("oops") has prevented the request from succeeding (get pods.metrics.k8s.io)',
        ),
        (
            418,
            b"",
            "the server responded with the status code 418 but did not return more information (get "
            "pods.metrics.k8s.io)",
        ),
    ],
)
async def test_why_metrics_cannot_be_had_is_told_in_client_gos_words(
    scaled: Scaled, api: ScalingAPI, code: int, body: bytes, told: str
) -> None:
    api.refused = (code, body)
    await scaled.start(2, CPU)
    assert api.condition("ScalingActive")[2].endswith(f"unable to fetch metrics from resource metrics API: {told}")


async def test_one_metric_that_fails_keeps_from_shrinking_only(scaled: Scaled, api: ScalingAPI) -> None:
    missing = {"metric": {"name": "queue"}, "target": {"type": "AverageValue", "averageValue": "6"}}
    api.usage = {"": {"cpu": "100m"}}
    await scaled.start(2, {"type": "External", "external": missing}, CPU)
    assert api.size() == 4
    scaled.follow()
    api.usage = {"": {"cpu": "1m"}}
    assert await scaled.later(900) == 4
    assert api.condition("ScalingActive")[:2] == ("False", "FailedGetExternalMetric")
    assert api.status()["currentMetrics"][0] == {"type": ""}


@pytest.mark.parametrize(
    ("target", "inner"),
    [
        ({"type": "AverageValue", "averageValue": "6"}, "failed to get queue external metric"),
        ({"type": "Value", "value": "6"}, "failed to get external metric queue"),
    ],
)
async def test_an_external_metric_that_cannot_be_had_is_told_in_upstreams_words(
    scaled: Scaled, api: ScalingAPI, target: Object, inner: str
) -> None:
    missing = {"metric": {"name": "queue", "selector": {"matchLabels": {"a": "1"}}}, "target": target}
    await scaled.start(2, {"type": "External", "external": missing})
    (why,) = events(api, "FailedGetExternalMetric")
    selector = "&LabelSelector{MatchLabels:map[string]string{a: 1,},MatchExpressions:[]LabelSelectorRequirement{},}"
    assert why.startswith(f"unable to get external metric default/queue/{selector}: unable to fetch metrics from ")
    assert events(api, "FailedComputeMetricsReplicas") == [
        "invalid metrics (1 invalid out of 1), first error is: "
        f"failed to get queue external metric value: {inner}: {why}"
    ]


async def test_no_custom_metrics_api_is_told(scaled: Scaled, api: ScalingAPI) -> None:
    rate: Object = {"metric": {"name": "rate"}, "target": {"type": "AverageValue", "averageValue": "10"}}
    hits = {**rate, "describedObject": {"apiVersion": "v1", "kind": "Service", "name": "front"}}
    await scaled.start(1, {"type": "Pods", "pods": rate}, {"type": "Object", "object": hits})
    assert "unable to get metric rate: Service on default front/unable to fetch" in str(events(api))
    assert api.condition("ScalingActive") == (
        "False",
        "FailedGetPodsMetric",
        "the HPA was unable to compute the replica count: unable to get metric rate: unable to fetch metrics from "
        "custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered",
    )
