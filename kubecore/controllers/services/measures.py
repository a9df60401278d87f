"""What is told of EndpointSlices, under upstream's names.

(kubernetes `staging/src/k8s.io/endpointslice/metrics` and `pkg/controller/endpointslicemirroring/metrics`.)
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from kubecore.client.client import Object
from kubecore.controllers.services.slice_planning import MAXIMUM_PER_SLICE, Endpoint, Group, endpoint_key
from kubecore.metrics import Counter, Histogram, Metric, Named, Reading, exponential

_SIZES = exponential(2, 2, 15)
_DEFAULT_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class _Extent(NamedTuple):
    """Of one Service: the slices there are, the fewest that would do, and the endpoints."""

    slices: int
    fewest: int
    endpoints: int


class SliceMeasures:
    """What the two controllers of slices have in common. Keys are Services' or Endpoints'."""

    subsystem = "endpoint_slice_controller"
    of_what = "Service"
    fewest_slices = 1
    """Of a Service without endpoints."""

    def __init__(self) -> None:
        self._extents: dict[str, _Extent] = {}
        self._added = self._per_sync("endpoints_added_per_sync", "endpoints added")
        self._removed = self._per_sync("endpoints_removed_per_sync", "endpoints removed")
        self._changes = Counter(self._named("changes", "Number of EndpointSlice changes", "operation"))
        fewest = "Number of EndpointSlices that would exist with perfect endpoint allocation"
        self.all: tuple[Metric, ...] = (
            self._added,
            self._removed,
            self._changes,
            self._sum("endpoints_desired", "Number of endpoints desired", 2),
            self._sum("num_endpoint_slices", "Number of EndpointSlices", 0),
            self._sum("desired_endpoint_slices", fewest, 1),
        )

    def changed(self, operation: str) -> None:
        """A slice was written: create, update or delete."""
        self._changes.add(operation)

    def planned(
        self, key: str, groups: Iterable[Group], existing: Sequence[Object], *, created: int, updated: int, deleted: int
    ) -> None:
        """What a sync is about to make of the `existing` slices, so that they have the endpoints of the groups."""
        wanted = [group.endpoints for group in groups]
        slices = len(existing) + created - deleted
        fewest = sum(-(-len(endpoints) // MAXIMUM_PER_SLICE) for endpoints in wanted)
        self._extents[key] = _Extent(slices, max(fewest, self.fewest_slices), sum(map(len, wanted)))
        if not created + updated + deleted:
            self._compared({}, {})
            return
        before = _by_key(endpoint for one in existing for endpoint in one.get("endpoints") or ())
        self._compared(before, _by_key(endpoint for endpoints in wanted for endpoint in endpoints))

    def _compared(self, before: Mapping[tuple[str, ...], Endpoint], now: Mapping[tuple[str, ...], Endpoint]) -> None:
        self._added.observe(len(now.keys() - before.keys()))
        self._removed.observe(len(before.keys() - now.keys()))

    def forget(self, key: str) -> None:
        self._extents.pop(key, None)

    def _named(self, name: str, told: str, *labels: str) -> Named:
        return Named(f"{self.subsystem}_{name}", f"[ALPHA] {told}", labels)

    def _per_sync(self, name: str, what: str) -> Histogram:
        return Histogram(self._named(name, f"Number of {what} on each {self.of_what} sync"), _SIZES)

    def _sum(self, name: str, told: str, part: int) -> Reading:
        return Reading.alone(self._named(name, told), lambda: sum(one[part] for one in list(self._extents.values())))


class ServiceSliceMeasures(SliceMeasures):
    """Of Services with a selector."""

    def __init__(self) -> None:
        super().__init__()
        self._distributions: dict[str, str] = {}
        self._per_service = Histogram(
            self._named(
                "endpointslices_changed_per_sync",
                "Number of EndpointSlices changed on each Service sync",
                "topology",
                "traffic_distribution",
            ),
            _DEFAULT_BOUNDS,
        )
        self._syncs = Counter(self._named("syncs", "Number of EndpointSlice syncs", "result"))
        told = "Number of Services using some specific trafficDistribution"
        distributions = self._named("services_count_by_traffic_distribution", told, "traffic_distribution")
        self.all += (self._per_service, self._syncs, Reading(distributions, self._by_distribution))

    def synced(self, result: str) -> None:
        """success, error, or stale where the cache lacks what was written."""
        self._syncs.add(result)

    def written(self, key: str, slices: int, *, hinted: bool, distribution: str) -> None:
        """So many slices were changed; `hinted` by zones, or by how the Service wants its traffic distributed."""
        self._per_service.observe(slices, "Auto" if hinted else "Disabled", "" if hinted else distribution)
        self._distributions.pop(key, None)
        if distribution:
            self._distributions[key] = distribution

    def forget(self, key: str) -> None:
        super().forget(key)
        self._distributions.pop(key, None)

    def _by_distribution(self) -> list[tuple[tuple[str, ...], float]]:
        return [((name,), count) for name, count in Tally(list(self._distributions.values())).items()]


class MirrorMeasures(SliceMeasures):
    """Of Endpoints that people made."""

    subsystem = "endpoint_slice_mirroring_controller"
    of_what = "Endpoints"
    fewest_slices = 0

    def __init__(self) -> None:
        super().__init__()
        self._updated = self._per_sync("endpoints_updated_per_sync", "endpoints updated")
        skipped = "addresses skipped on each Endpoints sync due to being invalid or exceeding MaxEndpointsPerSubset"
        self._skipped = Histogram(self._named("addresses_skipped_per_sync", f"Number of {skipped}"), _SIZES)
        durations = self._named("endpoints_sync_duration", "Duration of syncEndpoints() in seconds")
        self._durations = Histogram(durations, exponential(0.001, 2, 15))
        self.all += (self._updated, self._skipped, self._durations)

    def skipped(self, addresses: int) -> None:
        self._skipped.observe(addresses)

    def took(self, seconds: float) -> None:
        self._durations.observe(seconds)

    def _compared(self, before: Mapping[tuple[str, ...], Endpoint], now: Mapping[tuple[str, ...], Endpoint]) -> None:
        super()._compared(before, now)
        self._updated.observe(sum(1 for key in now.keys() & before.keys() if now[key] != before[key]))


def _by_key(endpoints: Iterable[Endpoint]) -> dict[tuple[str, ...], Endpoint]:
    return {endpoint_key(one): one for one in endpoints}
