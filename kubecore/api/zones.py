"""In which zone a node is, by its labels (component-helpers `node/topology`)."""

from __future__ import annotations

from collections.abc import Mapping

_FAMILIES = ("failure-domain.beta.kubernetes.io", "topology.kubernetes.io")


def region_and_zone(labels: Mapping[str, str]) -> tuple[str, str]:
    """Each "" where no label tells it. The older labels come first, as upstream."""
    region, zone = (
        next((labels[name] for family in _FAMILIES if (name := f"{family}/{part}") in labels), "")
        for part in ("region", "zone")
    )
    return region, zone
