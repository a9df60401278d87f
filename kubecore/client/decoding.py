"""Objects from the bytes of lists and events, without what no consumer looks at."""

from __future__ import annotations

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


class _Undecided(TypedDict, total=False):
    """One whose spec is still to be decoded, if it has to be."""

    apiVersion: Any
    kind: Any
    metadata: _ObjectMeta
    spec: msgspec.Raw
    status: Any


_WORKLOADS = msgspec.json.Decoder(_Workload)
_UNDECIDED = msgspec.json.Decoder(_Undecided)
# The kinds that change most; what is not known of others here must not be lost.
_SPEC_AND_STATUS = frozenset({"nodes", "leases.coordination.k8s.io"})
# Of these the spec is most of the object, and most changes are of the status.
_LONG_SPECS = frozenset(
    {
        "pods",
        "replicationcontrollers",
        "replicasets.apps",
        "deployments.apps",
        "statefulsets.apps",
        "daemonsets.apps",
        "jobs.batch",
        "cronjobs.batch",
    }
)


class ObjectDecoder:
    """Decodes objects of the resource. They get kind and apiVersion, which items of a list lack, and no managedFields.
    Where the spec is written as in the version before, it is the very same."""

    def __init__(self, resource: Resource) -> None:
        self._kind = resource.kind
        self._api_version = resource.api_version

    def __call__(self, data: bytes) -> Object:
        obj = self._decoded(data)
        obj.setdefault("apiVersion", self._api_version)
        obj.setdefault("kind", self._kind)
        return obj

    def forget(self, obj: Object) -> None:
        """There will be no further version of it."""

    def _decoded(self, data: bytes) -> Object:
        obj: Object = orjson.loads(data)
        obj["metadata"].pop("managedFields", None)
        return obj


class _SkippingDecoder(ObjectDecoder):
    def _decoded(self, data: bytes) -> Object:
        obj: Object = _WORKLOADS.decode(data)  # type: ignore[assignment]
        return obj


class _RememberingDecoder(ObjectDecoder):
    def __init__(self, resource: Resource) -> None:
        super().__init__(resource)
        self._specs: dict[str, tuple[int, Any]] = {}
        """By uid: the hash of the spec's bytes and what it is. Python's hash of bytes has 64 bits and a secret, so that
        two texts of the same are neither to be expected nor to be found; the text itself would take too much memory."""

    def _decoded(self, data: bytes) -> Object:
        obj: Object = _UNDECIDED.decode(data)  # type: ignore[assignment]
        if "spec" in obj:
            text = bytes(obj["spec"])
            digest, uid = hash(text), obj["metadata"].get("uid", "")
            known = self._specs.get(uid)
            if known is None or known[0] != digest:
                known = self._specs[uid] = digest, orjson.loads(text)
            obj["spec"] = known[1]
        return obj

    def forget(self, obj: Object) -> None:
        self._specs.pop(obj["metadata"].get("uid", ""), None)


def decoder_of(resource: Resource) -> ObjectDecoder:
    if resource.key in _LONG_SPECS:
        return _RememberingDecoder(resource)
    return _SkippingDecoder(resource) if resource.key in _SPEC_AND_STATUS else ObjectDecoder(resource)
