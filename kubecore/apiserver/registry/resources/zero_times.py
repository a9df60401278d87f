"""Times that are always there, null where nothing has set them.

Go's `metav1.Time` without a pointer is marshalled whatever its tag says: clients read `lastProbeTime: null`. Source:
the time fields without `omitzero` in k8s.io/api v0.35 types.go, of what clients leave unset.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

JSON = dict[str, Any]

TRANSITION = ("lastTransitionTime",)
PROBED = ("lastProbeTime", *TRANSITION)
HEARTBEAT = ("lastHeartbeatTime", *TRANSITION)
EVENT = ("firstTimestamp", "lastTimestamp", "eventTime")


def fill(obj: JSON, names: Iterable[str]) -> None:
    for name in names:
        obj.setdefault(name, None)


def fill_conditions(obj: JSON, names: Iterable[str]) -> None:
    """Those of the object's status."""
    for condition in (obj.get("status") or {}).get("conditions") or ():
        fill(condition, names)
