"""A pod that is put onto a node gets the node's labels of zone and region, for the downward API to tell (KEP-4742).

After upstream plugin/pkg/admission/podtopologylabels and the BindingREST of registry/core/pod/storage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from kubecore.apiserver.admission.chain import CREATE, Plugin

if TYPE_CHECKING:
    from kubecore.apiserver.registry.strategy import RequestContext
    from kubecore.apiserver.storage.cacher import Cacher

JSON = dict[str, Any]


class _Labels(msgspec.Struct):
    labels: dict[str, str] | None = None


class _Labelled(msgspec.Struct):
    metadata: _Labels


_METADATA = msgspec.json.Decoder(_Labelled)
LABELS = ("topology.kubernetes.io/region", "topology.kubernetes.io/zone")
_TRACE = b'"topology.kubernetes.io/'


class PodTopologyLabels(Plugin):
    name = "PodTopologyLabels"

    def __init__(self, cacher: Cacher) -> None:
        self._cacher = cacher

    def handles(self, resource_key: str, operation: str, subresource: str) -> bool:
        return resource_key == "pods" and operation == CREATE and not subresource

    def mutate(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> bool:
        node = (obj.get("spec") or {}).get("nodeName")
        found = topology_labels(self._cacher, node) if node else {}
        if found:
            metadata = obj["metadata"]
            metadata["labels"] = {**(metadata.get("labels") or {}), **found}
        return False


def topology_labels(cacher: Cacher, node: str) -> dict[str, str]:
    """The labels of a node that its pods get; none of one that is not there."""
    found = cacher.get("nodes", "", node)
    # Few nodes have any, and a binding should not read all of a node to learn that.
    if found is None or _TRACE not in found.value:
        return {}
    labels: dict[str, str] = _METADATA.decode(found.value).metadata.labels or {}
    return {key: labels[key] for key in LABELS if key in labels}
