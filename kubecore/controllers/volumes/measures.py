"""What is told of volumes and claims, under upstream's names.

(kubernetes `pkg/controller/volume/persistentvolume/metrics`.)
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable

from kubecore.api import meta
from kubecore.api import persistent_volumes as volumes
from kubecore.client.client import Object
from kubecore.metrics import Counter, Metric, Named, Reading

_UNKNOWN = "N/A"
_PLUGINS = {
    "fc": "kubernetes.io/fc",
    "hostPath": "kubernetes.io/host-path",
    "iscsi": "kubernetes.io/iscsi",
    "local": "kubernetes.io/local-volume",
    "nfs": "kubernetes.io/nfs",
}
_OF_CLAIMS = ("namespace", "storage_class", "volume_attributes_class")

_Labels = tuple[str, ...]
_Key = Callable[[Object], _Labels]


class VolumeMeasures:
    def __init__(self, held: Callable[[], Iterable[Object]], claims: Callable[[], Iterable[Object]]) -> None:
        """`held` and `claims` list the volumes and claims there are."""

        def gauge(
            name: str, told: str, labels: _Labels, found: Callable[[], Iterable[Object]], key: _Key, bound: bool | None
        ) -> Reading:
            def read() -> list[tuple[_Labels, float]]:
                those = (one for one in found() if bound is None or _is_bound(one) is bound)
                return list(Tally(map(key, those)).items())

            return Reading(Named(f"pv_collector_{name}", f"[ALPHA] Gauge measuring {told}", labels), read)

        of_volumes = "number of persistent volume currently"
        of_claims = "number of persistent volume claim currently"
        by_class = ("storage_class",)
        self._assigned = _counter("total", "Total number of retroactive StorageClass assignments")
        self._not_assigned = _counter("errors_total", "Total number of failed retroactive StorageClass assignments")
        self.all: tuple[Metric, ...] = (
            gauge(
                "total_pv_count",
                "total number of persistent volumes",
                ("plugin_name", "volume_mode"),
                held,
                lambda one: (_plugin(one), one["spec"].get("volumeMode") or "Filesystem"),
                None,
            ),
            gauge("bound_pv_count", f"{of_volumes} bound", by_class, held, lambda one: (volumes.class_of(one),), True),
            gauge(
                "unbound_pv_count", f"{of_volumes} unbound", by_class, held, lambda one: (volumes.class_of(one),), False
            ),
            gauge("bound_pvc_count", f"{of_claims} bound", _OF_CLAIMS, claims, _of_claim, True),
            gauge("unbound_pvc_count", f"{of_claims} unbound", _OF_CLAIMS, claims, _of_claim, False),
            self._assigned,
            self._not_assigned,
        )

    def assigned(self, *, succeeded: bool) -> None:
        """A claim that named no class was to get the default one."""
        self._assigned.add()
        if not succeeded:
            self._not_assigned.add()


def _counter(name: str, told: str) -> Counter:
    return Counter(Named(f"retroactive_storageclass_{name}", f"[ALPHA] {told} to persistent volume claim"))


def _is_bound(one: Object) -> bool:
    return (one.get("status") or {}).get("phase") == "Bound"


def _of_claim(claim: Object) -> _Labels:
    return meta.namespace(claim), volumes.class_of(claim), claim["spec"].get("volumeAttributesClassName") or ""


def _plugin(volume: Object) -> str:
    """The full name of what mounts it."""
    spec = volume["spec"]
    if "csi" in spec:
        return f"kubernetes.io/csi:{spec['csi'].get('driver', '')}"
    return next((name for field, name in _PLUGINS.items() if field in spec), _UNKNOWN)
