"""Objects from the bytes of lists and events, without what no consumer looks at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypedDict

import msgspec
import orjson

from kubecore.api.scheme import Resource
from kubecore.client.client import Object


class _ObjectMeta(TypedDict, total=False):
    """All of ObjectMeta but managedFields, which are as long as the rest of a pod and of no use to a consumer."""

    name: Any
    generateName: Any
    namespace: Any
    selfLink: Any
    uid: Any
    resourceVersion: Any
    generation: Any
    creationTimestamp: Any
    deletionTimestamp: Any
    deletionGracePeriodSeconds: Any
    labels: Any
    annotations: Any
    ownerReferences: Any
    finalizers: Any


class _Workload(TypedDict, total=False):
    """What has a spec and a status and nothing else."""

    apiVersion: Any
    kind: Any
    metadata: _ObjectMeta
    spec: Any
    status: Any


_WORKLOADS = msgspec.json.Decoder(_Workload)
# The kinds that change most; what is not known of others here must not be lost.
_SPEC_AND_STATUS = frozenset(
    {"pods", "nodes", "leases.coordination.k8s.io", "replicasets.apps", "deployments.apps", "jobs.batch"}
)


def decoder_of(resource: Resource) -> Callable[[bytes], Object]:
    """Decodes objects of the resource. They get kind and apiVersion, which items of a list lack, and lose
    managedFields."""
    kind, api_version = resource.kind, resource.api_version

    def plain(data: bytes) -> Object:
        obj: Object = orjson.loads(data)
        obj["metadata"].pop("managedFields", None)
        obj.setdefault("apiVersion", api_version)
        obj.setdefault("kind", kind)
        return obj

    def skipping(data: bytes) -> Object:
        obj: Object = _WORKLOADS.decode(data)  # type: ignore[assignment]
        obj.setdefault("apiVersion", api_version)
        obj.setdefault("kind", kind)
        return obj

    return skipping if resource.key in _SPEC_AND_STATUS else plain
