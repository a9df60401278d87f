"""The metrics that autoscalers ask for: resource, custom and external, from whoever serves these APIs.

After upstream kubernetes pkg/controller/podautoscaler/metrics/client.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from kubecore.api import durations, errors, meta, quantity
from kubecore.api.errors import StatusError
from kubecore.api.unexplained import unexplained
from kubecore.client.client import Client, Object

_RESOURCE_API = "/apis/metrics.k8s.io/v1beta1"
_CUSTOM_GROUP = "custom.metrics.k8s.io"
_CUSTOM_VERSIONS = ("v1beta2", "v1beta1")
_EXTERNAL_API = "/apis/external.metrics.k8s.io/v1beta1"
_DEFAULT_WINDOW_SECONDS = 60.0


class MetricsError(Exception):
    """A metric cannot be had, or a replica count cannot be computed from it; the message says why."""


class PodMetric(NamedTuple):
    """In thousandths, measured over `window` seconds up to `timestamp`."""

    value: int
    timestamp: datetime
    window: float = _DEFAULT_WINDOW_SECONDS


class MetricsClient:
    """Each method raises MetricsError where there is no such metric."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def resource(self, resource: str, namespace: str, selector: str, container: str = "") -> dict[str, PodMetric]:
        """By pod: of all its containers together, or of one of them; pods that lack it are left out."""
        source = "resource metrics API"
        found = await self._get(
            f"{_RESOURCE_API}/namespaces/{namespace}/pods", source, "pods.metrics.k8s.io", labelSelector=selector
        )
        metrics: dict[str, PodMetric] = {}
        for item in _items(found, source):
            containers = item.get("containers") or ()
            chosen = [one for one in containers if not container or one.get("name") == container]
            amounts = [(one.get("usage") or {}).get(resource) for one in chosen]
            if amounts and None not in amounts:
                value = sum(quantity.milli(amount or 0) for amount in amounts)
                when = meta.parse_time(item["timestamp"])
                metrics[meta.name(item)] = PodMetric(value, when, _seconds(item.get("window") or "0s"))
        return metrics

    async def of_pods(self, name: str, namespace: str, selector: str, metric_selector: str) -> dict[str, PodMetric]:
        source = "custom metrics API"
        path = f"namespaces/{namespace}/pods/*/{name}"
        found = await self._custom(path, labelSelector=selector, metricLabelSelector=metric_selector)
        return {
            (item.get("describedObject") or {}).get("name") or "": PodMetric(
                quantity.milli(item["value"]), meta.parse_time(item["timestamp"]), _window(item)
            )
            for item in _items(found, source)
        }

    async def of_object(self, name: str, namespace: str, described: Object, metric_selector: str) -> int:
        """In thousandths, of another object."""
        group = (described.get("apiVersion") or "").rpartition("/")[0]
        if described["kind"] == "Namespace" and not group:
            path = f"namespaces/{namespace}/metrics/{name}"
        else:
            path = f"namespaces/{namespace}/{self._resource(described)}/{described['name']}/{name}"
        items = _items(await self._custom(path, metricLabelSelector=metric_selector), "custom metrics API")
        if len(items) != 1:
            told = f"the custom metrics API server returned {len(items)} results when we asked for exactly one"
            raise MetricsError(f"unable to fetch metrics from custom metrics API: {told}")
        return quantity.milli(items[0]["value"])

    async def external(self, name: str, namespace: str, metric_selector: str) -> list[int]:
        """In thousandths, of every series that is selected."""
        source = "external metrics API"
        path = f"{_EXTERNAL_API}/namespaces/{namespace}/{name}"
        found = await self._get(path, source, f"{name}.external.metrics.k8s.io", labelSelector=metric_selector)
        return [quantity.milli(item["value"]) for item in _items(found, source)]

    def _resource(self, described: Object) -> str:
        found = self._client.resource_for_kind(described.get("apiVersion") or "v1", described["kind"])
        if found is None:
            kind, api_version = described["kind"], described.get("apiVersion") or "v1"
            raise MetricsError(
                "unable to fetch metrics from custom metrics API: "
                f'unable to map kind {kind} to resource: no matches for kind "{kind}" in version "{api_version}"'
            )
        return found.key

    async def _custom(self, path: str, **query: str) -> Object:
        source = "custom metrics API"
        version = await self._custom_version(source)
        name = path.rpartition("/")[2]
        full = f"/apis/{_CUSTOM_GROUP}/{version}/{path}"
        return await self._get(full, source, f"{name}.{_CUSTOM_GROUP}", **query)

    async def _custom_version(self, source: str) -> str:
        try:
            groups = orjson.loads(await self._client.request("GET", "/apis")).get("groups") or ()
        except (StatusError, OSError) as error:
            raise MetricsError(f"unable to fetch metrics from {source}: {error}") from error
        served = {one["version"] for group in groups if group["name"] == _CUSTOM_GROUP for one in group["versions"]}
        for version in _CUSTOM_VERSIONS:
            if version in served:
                return version
        told = f"no custom metrics API ({_CUSTOM_GROUP}) registered"
        raise MetricsError(f"unable to fetch metrics from {source}: {told}")

    async def _get(self, path: str, source: str, what: str, **query: str) -> Object:
        given = {name: value for name, value in query.items() if value}
        try:
            answer: Object = orjson.loads(await self._client.request("GET", path, query=given))
        except StatusError as error:
            raise MetricsError(f"unable to fetch metrics from {source}: {_told(error, what)}") from error
        except (OSError, ValueError) as error:
            raise MetricsError(f"unable to fetch metrics from {source}: {error}") from error
        return answer


def _told(error: StatusError, what: str) -> str:
    """A Status speaks for itself; of an answer that is none, and of a path that nobody serves, client-go says this."""
    if error.unexplained:
        return f"{unexplained(error.code, error.message)} (get {what})"
    return f"{error.message} (get {what})" if error.message == errors.no_such_path().message else error.message


def _items(answer: Object, source: str) -> list[Object]:
    items: list[Object] = answer.get("items") or []
    if not items:
        raise MetricsError(f"no metrics returned from {source}")
    return items


def _window(item: Mapping[str, Any]) -> float:
    # v1beta2 and v1beta1
    seconds = item.get("windowSeconds", item.get("window"))
    return _DEFAULT_WINDOW_SECONDS if seconds is None else float(seconds)


def _seconds(text: str) -> float:
    try:
        return durations.seconds(text)
    except ValueError as error:
        raise MetricsError(str(error)) from None
