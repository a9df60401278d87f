"""What the node and its containers use.

Measured when somebody asks, and never otherwise. A rate needs two measurements: one of the last minute serves, if there
is one, else a second one is made a moment later. (Upstream: pkg/kubelet/server/stats.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from kubecore.clock import Clock
from kubecore.kubelet.node.images import ImageDisk
from kubecore.kubelet.pods.disks import PodDisk
from kubecore.kubelet.serving import summary
from kubecore.kubelet.serving.summary import Measured, Sample
from kubecore.kubelet.serving.usage import RunningPod, Used

Object = dict[str, Any]

_SHORTEST_SECONDS = 1.0
_WANTED_SECONDS = 10.0
_KEPT_EVERY_SECONDS = 5.0
_LONGEST_SECONDS = 60.0
# Of the time that files are counted in, and for a minute at most, as upstream (volumeStatsAggPeriod).
_SHARE_OF_COUNTING = 0.05


@dataclass(frozen=True, slots=True)
class Sampled:
    """`samples`: by the container's id and the pod's uid, of what still runs, and under NODE the node's."""

    pods: Sequence[RunningPod]
    samples: Mapping[str, Sample]


class Reader(Protocol):
    """As `usage.UsageReader`."""

    def __call__(self, pods: Sequence[RunningPod], *, details: bool) -> dict[str, Used]: ...


class NodeStats:
    """`root`: on the file system that holds the node's files. `disks`: what pods have there, by uid."""

    def __init__(
        self,
        clock: Clock,
        node_name: str,
        pods: Callable[[], Sequence[RunningPod]],
        read: Reader,
        root: Path,
        disks: Callable[[Collection[str]], Awaitable[Mapping[str, PodDisk]]],
        images: Callable[[], Awaitable[ImageDisk | None]],
    ) -> None:
        self._clock = clock
        self._node_name = node_name
        self._pods = pods
        self._read = read
        self._root = root
        self._disks = disks
        self._images = images
        self._counted: Mapping[str, PodDisk] = {}
        self._count_again_at = 0.0
        self._history: dict[str, list[Sample]] = {}
        self._lock = asyncio.Lock()
        self._counting = asyncio.Lock()

    async def summary(self, *, cpu_and_memory_only: bool = False) -> Object:
        """The body of /stats/summary."""
        pods, measured = await self._measure()
        disks = None
        if not cpu_and_memory_only:
            disks = summary.Disks(self._root, await self._of_disks({one.uid for one in pods}), await self._images())
        return await asyncio.to_thread(summary.told, self._node_name, pods, measured, disks)

    async def _of_disks(self, uids: set[str]) -> Mapping[str, PodDisk]:
        """Counted again when that has rested for long enough, so that pods with many files cost whoever asks often no
        more than others do. Who comes while that goes on waits for it."""
        async with self._counting:
            began = self._clock.monotonic()
            if began >= self._count_again_at or not uids <= self._counted.keys():
                self._counted = await self._disks(uids)
                ended = self._clock.monotonic()
                self._count_again_at = ended + min((ended - began) / _SHARE_OF_COUNTING, _LONGEST_SECONDS)
            return self._counted

    async def sample(self, *, details: bool = False) -> Sampled:
        """Now, without rates. `details`: all that the kernel has counted."""
        pods = self._pods()
        used = await asyncio.to_thread(partial(self._read, pods, details=details))
        at, when = self._clock.monotonic(), self._clock.now()
        return Sampled(pods, {key: Sample(at, when, one) for key, one in used.items()})

    async def _measure(self) -> tuple[Sequence[RunningPod], Mapping[str, Measured]]:
        async with self._lock:
            sampled = await self.sample()
            found = self._rates(sampled.samples)
            if any(one.rate is None for one in found.values()):
                await self._clock.sleep(_SHORTEST_SECONDS)
                sampled = await self.sample()
                found = self._rates(sampled.samples)
            return sampled.pods, found

    def _rates(self, samples: Mapping[str, Sample]) -> dict[str, Measured]:
        """From each and the one that was made long enough before it."""
        history: dict[str, list[Sample]] = {}
        found: dict[str, Measured] = {}
        for key, sample in samples.items():
            kept = [one for one in self._history.get(key, ()) if sample.at - one.at <= _LONGEST_SECONDS]
            found[key] = _measured(sample, kept)
            if not kept or sample.at - kept[-1].at >= _KEPT_EVERY_SECONDS:
                kept.append(sample)
            history[key] = kept
        self._history = history
        return found


def _measured(sample: Sample, kept: Sequence[Sample]) -> Measured:
    """Over a window that is not too short for what runs in turns, if there is one."""
    old = [one for one in kept if sample.at - one.at >= _SHORTEST_SECONDS]
    if not old:
        return Measured(sample)
    base = next((one for one in reversed(old) if sample.at - one.at >= _WANTED_SECONDS), old[0])
    seconds = sample.at - base.at
    return Measured(sample, max(0, int((sample.used.cpu - base.used.cpu) / seconds)), seconds)
