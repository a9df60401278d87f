"""In which zone a node is, by its labels (component-helpers `node/topology`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_REGION = ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region")
_ZONE = ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone")


def region_and_zone(labels: Mapping[str, str]) -> tuple[str, str]:
    """Each "" where no label tells it. The older labels come first, as upstream."""
    return _first(labels, _REGION), _first(labels, _ZONE)


def _first(labels: Mapping[str, str], names: Sequence[str]) -> str:
    for name in names:
        if name in labels:
            return labels[name]
    return ""
