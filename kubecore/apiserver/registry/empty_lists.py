"""Lists that are in an object in any case: null when nothing is in them, since what upstream stores, protobuf, does not
tell an empty list from none.

Where Go's types have them without `omitempty` and validation lets them be empty. Held against upstream's registry by
tests/e2e/test_validation.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

JSON = dict[str, Any]
# Names of members; `*` are all elements of a list.
Path = tuple[str, ...]

_POD = "spec.volumes.*.projected.sources"
_JOB = ("spec.podFailurePolicy.rules", f"spec.template.{_POD}")
_PATHS: dict[str, tuple[str, ...]] = {
    "clusterroles.rbac.authorization.k8s.io": ("rules",),
    "cronjobs.batch": tuple(f"spec.jobTemplate.{path}" for path in _JOB),
    "customresourcedefinitions.apiextensions.k8s.io": ("status.conditions",),
    "csinodes.storage.k8s.io": ("spec.drivers", "spec.drivers.*.topologyKeys"),
    "endpointslices.discovery.k8s.io": ("endpoints", "ports"),
    "flowschemas.flowcontrol.apiserver.k8s.io": ("spec.rules.*.resourceRules.*.namespaces",),
    "horizontalpodautoscalers.autoscaling": ("status.currentMetrics",),
    "jobs.batch": _JOB,
    "limitranges": ("spec.limits",),
    "nodes": ("status.images.*.names",),
    "pods": (_POD,),
    "podtemplates": (f"template.{_POD}",),
    "resourceclaims.resource.k8s.io": ("spec.devices.requests", "status.devices.*.conditions"),
    "resourceclaimtemplates.resource.k8s.io": ("spec.spec.devices.requests",),
    "roles.rbac.authorization.k8s.io": ("rules",),
    **{
        key: (f"spec.template.{_POD}",)
        for key in (
            "daemonsets.apps",
            "deployments.apps",
            "replicasets.apps",
            "replicationcontrollers",
            "statefulsets.apps",
        )
    },
}


def paths_of(resource_key: str) -> tuple[Path, ...]:
    return tuple(tuple(path.split(".")) for path in _PATHS.get(resource_key, ()))


def to_null(obj: JSON, paths: tuple[Path, ...]) -> None:
    """Makes those that are empty null, in place."""
    for *way, name in paths:
        for holder in _holders(obj, way):
            if holder.get(name) == []:
                holder[name] = None


def _holders(value: Any, way: list[str]) -> Iterator[JSON]:
    for number, step in enumerate(way):
        if step == "*":
            for element in value:
                yield from _holders(element, way[number + 1 :])
            return
        value = value.get(step)
        if not value:
            return
    yield value
