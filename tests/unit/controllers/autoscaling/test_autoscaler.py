"""HorizontalPodAutoscalers: what metrics, windows and policies make of a target's size."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import unquote

import orjson
import pytest

from kubecore.api import errors, meta
from kubecore.api.selectors import Selector
from kubecore.client.client import Object
from kubecore.clock import VirtualClock
from kubecore.controllers.autoscaling.autoscaler import HorizontalPodAutoscalerController
from tests.support.fake_api import FakeAPI
from tests.unit.controllers.conftest import Running, events

HPAS = "horizontalpodautoscalers.autoscaling"
CPU = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}
LABELS = {"app": "web"}


class ScalingAPI(FakeAPI):
    """With the scale subresource of Deployments, and the metrics that tests put in."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock)
        self.usage: dict[str, dict[str, str]] = {}
        """By container ("" for the only one), of every pod: cpu and memory; None serves no such API."""
        self.served = True
        self.silent: set[str] = set()
        self.values: dict[str, Any] = {}
        """By path below custom.metrics.k8s.io and external.metrics.k8s.io."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> tuple[int, bytes]:
        if path.startswith("/apis/metrics.k8s.io/"):
            return self._resource_metrics(path, query or {})
        if path in self.values:
            return 200, orjson.dumps({"items": self.values[path]})
        if path == "/apis" and self.values:
            group = {"name": "custom.metrics.k8s.io", "versions": [{"version": "v1beta1"}]}
            return 200, orjson.dumps({"groups": [{**group, "preferredVersion": {"version": "v1beta1"}}]})
        if path.endswith("/scale"):
            name = unquote(path.split("/")[-2])
            return self._scale(method, name, orjson.loads(body) if body else {})
        if ".metrics.k8s.io/" in path:
            return 404, errors.no_such_path().to_json()
        return await super().request(method, path, query=query, body=body, content_type=content_type)

    def _scale(self, method: str, name: str, body: Object) -> tuple[int, bytes]:
        found = self.get("deployments.apps", name)
        if found is None:
            return 404, errors.not_found("apps", "deployments", name).to_json()
        if method == "PUT":
            found = self.change("deployments.apps", name, spec={"replicas": body["spec"]["replicas"]})
        selector = ",".join(f"{key}={value}" for key, value in found["spec"]["selector"]["matchLabels"].items())
        status = {"replicas": len(self.all("pods")), "selector": selector}
        metadata = {"name": name, "namespace": "default", "resourceVersion": meta.resource_version(found)}
        scale = {"metadata": metadata, "spec": {"replicas": found["spec"]["replicas"]}, "status": status}
        return 200, orjson.dumps(scale)

    def _resource_metrics(self, path: str, query: Mapping[str, str]) -> tuple[int, bytes]:
        if not self.served:
            return 404, errors.no_such_path().to_json()
        selector = Selector.parse(query["labelSelector"])
        containers = [{"name": name or "c", "usage": usage} for name, usage in self.usage.items()]
        stamp = meta.format_time(self.clock.now())
        items = [
            {"metadata": {"name": meta.name(pod)}, "timestamp": stamp, "window": "15s", "containers": containers}
            for pod in self.all("pods")
            if selector.matches(meta.labels(pod)) and meta.name(pod) not in self.silent
        ]
        return 200, orjson.dumps({"items": items})

    def size(self, name: str = "web") -> int:
        found = self.get("deployments.apps", name)
        assert found is not None
        replicas: int = found["spec"]["replicas"]
        return replicas

    def status(self, name: str = "web") -> Object:
        found = self.get(HPAS, name)
        assert found is not None
        return found.get("status") or {}

    def condition(self, kind: str, name: str = "web") -> tuple[str, str, str]:
        found = next(one for one in self.status(name)["conditions"] if one["type"] == kind)
        return found["status"], found["reason"], found["message"]


@pytest.fixture
def api(clock: VirtualClock) -> ScalingAPI:
    return ScalingAPI(clock)


class Scaled:
    """A Deployment whose pods follow its size at once and are ready for long, and its autoscaler."""

    def __init__(
        self,
        api: ScalingAPI,
        running: Running,
        clock: VirtualClock,
        controller: HorizontalPodAutoscalerController | None = None,
    ) -> None:
        self.api, self.running, self.clock = api, running, clock
        self.controller = controller or HorizontalPodAutoscalerController(running.context)

    async def start(self, replicas: int, *metrics: Object, cpu: str = "100m", **spec: Any) -> None:
        selector = {"matchLabels": LABELS}
        self.api.add(
            "deployments.apps", {"metadata": {"name": "web"}, "spec": {"replicas": replicas, "selector": selector}}
        )
        self.cpu = cpu
        self.follow()
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
        made = {
            "scaleTargetRef": target,
            "maxReplicas": 10,
            "minReplicas": 1,
            "metrics": list(metrics) or [CPU],
            **spec,
        }
        self.api.add(HPAS, {"metadata": {"name": "web"}, "spec": made})
        await self.running.start(self.controller)

    def follow(self) -> None:
        names = {meta.name(pod) for pod in self.api.all("pods")}
        wanted = {f"web-{number}" for number in range(self.api.size())}
        for name in names - wanted:
            self.api.remove("pods", name)
        for name in sorted(wanted - names):
            self.api.add("pods", pod(name, self.cpu))

    async def later(self, seconds: float = 15.0) -> int:
        """The size after so long, pods having followed it."""
        await self.clock.advance(seconds)
        self.follow()
        return self.api.size()


def pod(name: str, cpu: str = "100m", *, started: str = "2025-12-31T00:00:00Z", ready: str = "True") -> Object:
    container = {"name": "c", "resources": {"requests": {"cpu": cpu, "memory": "100Mi"}}}
    conditions = [{"type": "Ready", "status": ready, "lastTransitionTime": started}]
    status = {"phase": "Running", "startTime": started, "conditions": conditions}
    return {"metadata": {"name": name, "labels": LABELS}, "spec": {"containers": [container]}, "status": status}


@pytest.fixture
async def scaled(api: ScalingAPI, running: Running, clock: VirtualClock) -> AsyncIterator[Scaled]:
    yield Scaled(api, running, clock)


# ---------------------------------------------------------------------- utilisation
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


# ---------------------------------------------------------------------- other metrics
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


# ---------------------------------------------------------------------- behaviour
def rules(*policies: tuple[str, int, int], select: str = "Max", window: int = 0) -> Object:
    listed = [{"type": kind, "value": value, "periodSeconds": period} for kind, value, period in policies]
    return {"policies": listed, "selectPolicy": select, "stabilizationWindowSeconds": window}


ANY = rules(("Percent", 100, 15))


async def test_policies_limit_how_much_is_added_in_a_period(scaled: Scaled, api: ScalingAPI) -> None:
    api.usage = {"": {"cpu": "500m"}}
    up = rules(("Pods", 2, 60), ("Percent", 10, 60))
    await scaled.start(1, maxReplicas=50, behavior={"scaleUp": up, "scaleDown": ANY})
    sizes = [await scaled.later() for _ in range(8)]
    assert sizes == [3, 3, 3, 5, 5, 5, 5, 7]
    assert api.condition("ScalingLimited")[:2] == ("True", "ScaleUpLimit")


async def test_the_narrowest_policy_may_be_chosen(scaled: Scaled, api: ScalingAPI) -> None:
    api.usage = {"": {"cpu": "500m"}}
    await scaled.start(
        4,
        maxReplicas=50,
        behavior={"scaleUp": rules(("Pods", 9, 60), ("Percent", 50, 60), select="Min"), "scaleDown": ANY},
    )
    assert api.size() == 6


async def test_a_direction_may_be_disabled(scaled: Scaled, api: ScalingAPI) -> None:
    api.usage = {"": {"cpu": "1m"}}
    down = rules(("Percent", 100, 15), select="Disabled")
    await scaled.start(4, behavior={"scaleUp": ANY, "scaleDown": down})
    assert await scaled.later(600) == 4
    assert api.condition("ScalingLimited")[:2] == ("True", "ScaleDownLimit")


async def test_shrinking_by_policy(scaled: Scaled, api: ScalingAPI) -> None:
    api.usage = {"": {"cpu": "1m"}}
    await scaled.start(9, behavior={"scaleUp": ANY, "scaleDown": rules(("Pods", 3, 30))})
    assert [await scaled.later() for _ in range(4)] == [6, 3, 3, 1]


async def test_growing_may_have_to_last(scaled: Scaled, api: ScalingAPI) -> None:
    api.usage = {"": {"cpu": "50m"}}
    await scaled.start(2, behavior={"scaleUp": rules(("Pods", 4, 15), window=60), "scaleDown": ANY})
    api.usage = {"": {"cpu": "100m"}}
    assert await scaled.later(45) == 2
    assert api.condition("AbleToScale")[1] == "ScaleUpStabilized"
    assert await scaled.later(45) == 4
