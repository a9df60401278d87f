"""The body of /stats/summary, from what has been measured (k8s.io/kubelet `pkg/apis/stats/v1alpha1`)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from kubecore.api import meta
from kubecore.kubelet.cgroups.measuring import Pressure, Pressures, pressures_of_machine
from kubecore.kubelet.eviction import machine
from kubecore.kubelet.node.images import ImageDisk
from kubecore.kubelet.pods.disks import PodDisk, total
from kubecore.kubelet.runtime.interface import Written
from kubecore.kubelet.serving.usage import (
    DiskUse,
    InterfaceUse,
    RunningContainer,
    RunningPod,
    Used,
    disk_of,
    networks_of_machine,
)

Object = dict[str, Any]

NODE = ""
_PROC = Path("/proc")
_NOTHING = Written()


@dataclass(frozen=True, slots=True)
class Sample:
    """At `at` (monotonic seconds) and `when`."""

    at: float
    when: datetime
    used: Used


@dataclass(frozen=True, slots=True)
class Measured:
    """`rate` in billionths of a CPU, over `window` seconds; None while there is one sample only."""

    sample: Sample
    rate: int | None = None
    window: float = 0.0


@dataclass(frozen=True, slots=True)
class Disks:
    """`root`: on the file system that holds the node's files. `pods`: by uid. `images`: None where nobody knows."""

    root: Path
    pods: Mapping[str, PodDisk]
    images: ImageDisk | None = None


def told(node_name: str, pods: Sequence[RunningPod], measured: Mapping[str, Measured], disks: Disks | None) -> Object:
    """Asks disks, of which some may be far away. Without `disks` no more than CPU and memory are told."""
    summary = _Summary(measured, disks)
    return {
        "node": summary.node(node_name),
        "pods": [one for pod in pods if (one := summary.pod(pod)) is not None],
    }


class _Summary:
    def __init__(self, measured: Mapping[str, Measured], disks: Disks | None) -> None:
        self._measured = measured
        self._disks = disks
        self._time = meta.format_time(measured[NODE].sample.when)
        self._root = disk_of(disks.root) if disks is not None else None
        of_images = disks.images if disks is not None else None
        self._image_disk = disk_of(of_images.root) if of_images is not None else self._root

    def node(self, name: str) -> Object:
        node: Object = {"nodeName": name, "startTime": _boot_time(), **_used(self._measured[NODE])}
        self._tell_pressures(node, pressures_of_machine())
        if self._disks is None:
            return node
        _tell_left(node, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        node |= self._networks(networks_of_machine())
        if self._root is not None:
            node["fs"] = self._filesystem(self._root, Written(self._root.used, self._root.inodes_used))
        if self._disks.images is not None and self._image_disk is not None:
            layers = [layer for pod in self._disks.pods.values() for layer in pod.layers.values()]
            node["runtime"] = {
                "imageFs": self._filesystem(self._image_disk, self._disks.images.used),
                "containerFs": self._filesystem(self._image_disk, total(layers)),
            }
        return node | self._processes()

    def pod(self, pod: RunningPod) -> Object | None:
        """None when none of its containers could be measured."""
        disk = self._disks.pods.get(pod.uid) if self._disks is not None else None
        containers = [self._container(one, disk) for one in pod.containers if one.id in self._measured]
        if not containers or pod.uid not in self._measured:
            return None
        whole = self._measured[pod.uid]
        started = pod.started_at or min(one.started_at for one in pod.containers)
        told: Object = {
            "podRef": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
            "startTime": meta.format_time(started),
            "containers": containers,
            **_used(whole),
        }
        self._tell_pressures(told, _pressures(whole))
        if self._disks is None:
            return told
        _tell_left(told, _memory_limit(whole))
        told |= self._networks(whole.sample.used.networks)
        if volumes := self._volumes(pod, disk or PodDisk()):
            told["volume"] = volumes
        if disk is not None and self._root is not None:
            told["ephemeral-storage"] = self._filesystem(self._root, disk.ephemeral)
        if whole.sample.used.processes is not None:
            told["process_stats"] = {"process_count": whole.sample.used.processes}
        return told

    def _container(self, container: RunningContainer, disk: PodDisk | None) -> Object:
        measured, started = self._measured[container.id], meta.format_time(container.started_at)
        told = {"name": container.name, "startTime": started, **_used(measured)}
        self._tell_pressures(told, _pressures(measured))
        if disk is not None and self._root is not None and self._image_disk is not None:
            _tell_left(told, _memory_limit(measured))
            told["rootfs"] = self._filesystem(self._image_disk, disk.layers.get(container.name, _NOTHING))
            told["logs"] = self._filesystem(self._root, disk.logs.get(container.name, _NOTHING))
        return told

    def _volumes(self, pod: RunningPod, disk: PodDisk) -> list[Object]:
        """Those that are files of the pod, in memory or on the node's disk, then those that outlive it."""
        found = []
        if self._root is not None:
            found += [{**self._filesystem(self._root, used), "name": name} for name, used in disk.volumes.items()]
        for one in pod.memory_folders:
            if (held := disk_of(one.path)) is not None:
                found.append({**self._filesystem(held, Written(held.used, held.inodes_used)), "name": one.name})
        for claimed in pod.claims:
            if (held := disk_of(claimed.path)) is not None:
                claim = {"name": claimed.claim, "namespace": pod.namespace}
                used = Written(held.used, held.inodes_used)
                found.append({**self._filesystem(held, used), "name": claimed.name, "pvcRef": claim})
        return found

    def _networks(self, used: Sequence[InterfaceUse]) -> Object:
        networks = [_network(one) for one in used]
        if not networks:
            return {}
        first = next((one for one in networks if one["name"] == "eth0"), networks[0])
        return {"network": {"time": self._time, **first, "interfaces": networks}}

    def _filesystem(self, disk: DiskUse, used: Written) -> Object:
        """With what somebody has of it."""
        return {
            "time": self._time,
            "availableBytes": disk.available,
            "capacityBytes": disk.capacity,
            "usedBytes": used.bytes,
            "inodesFree": disk.inodes_free,
            "inodes": disk.inodes,
            "inodesUsed": used.inodes,
        }

    def _tell_pressures(self, told: Object, pressures: Pressures) -> None:
        """As far as the kernel tells them; of disks only who asks for those."""
        for name, one in pressures.items():
            if name != "io":
                told[name]["psi"] = _pressure(one)
            elif self._disks is not None:
                told[name] = {"time": told["cpu"]["time"], "psi": _pressure(one)}

    def _processes(self) -> Object:
        with suppress(OSError, ValueError):
            left = machine.processes()
            running = left.capacity - left.available
            return {"rlimit": {"time": self._time, "maxpid": left.capacity, "curproc": running}}
        return {}


def _used(measured: Measured) -> Object:
    """CPU, memory, and what has been swapped out of that."""
    time, used = meta.format_time(measured.sample.when), measured.sample.used
    cpu: Object = {"time": time, "usageCoreNanoSeconds": used.cpu}
    if measured.rate is not None:
        cpu["usageNanoCores"] = measured.rate
        cpu["windowSeconds"] = round(measured.window, 3)
    memory: Object = {"time": time, "workingSetBytes": used.memory, "usageBytes": used.memory}
    told = {"cpu": cpu, "memory": memory}
    if counted := used.counted.memory:
        memory |= {
            "usageBytes": counted.usage,
            "rssBytes": counted.rss,
            "pageFaults": counted.faults,
            "majorPageFaults": counted.major_faults,
        }
        told["swap"] = {"time": time, "swapUsageBytes": counted.swap}
    return told


def _tell_left(told: Object, limit: int) -> None:
    """Of memory, where there is a limit."""
    if limit:
        told["memory"]["availableBytes"] = max(limit - told["memory"]["workingSetBytes"], 0)


def _pressure(one: Pressure) -> Object:
    return {"full": one.full._asdict(), "some": one.some._asdict()}


def _pressures(measured: Measured) -> Pressures:
    group = measured.sample.used.group
    return group.pressures() if group is not None else {}


def _memory_limit(measured: Measured) -> int:
    """0 for none."""
    group = measured.sample.used.group
    return (group.limits().memory or 0) if group is not None else 0


def _network(used: InterfaceUse) -> Object:
    return {
        "name": used.name,
        "rxBytes": used.received.bytes,
        "rxErrors": used.received.errors,
        "txBytes": used.sent.bytes,
        "txErrors": used.sent.errors,
    }


@cache
def _boot_time() -> str:
    for line in (_PROC / "stat").read_text().splitlines():
        if line.startswith("btime "):
            return meta.format_time(datetime.fromtimestamp(int(line.split()[1]), UTC))
    return ""
