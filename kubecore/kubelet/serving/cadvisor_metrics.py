"""What /metrics/cadvisor tells: what the machine is and what containers, pods and the node use, under cAdvisor's names.

Of what cAdvisor tells, that which is measured here: nothing is told of what no kernel has counted. (github.com/google/
cadvisor `metrics/prometheus.go`, `prometheus_machine.go`; labels as kubernetes `pkg/kubelet/server/server.go`.)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from kubecore.kubelet.cgroups.measuring import GroupLimits, Memory, Pressures, pressures_of_machine
from kubecore.kubelet.node.node import Machine
from kubecore.kubelet.serving.stats import Sampled
from kubecore.kubelet.serving.summary import NODE, Sample
from kubecore.kubelet.serving.usage import RunningContainer, RunningPod, Used, disk_of
from kubecore.metrics import Metrics, Named, Samples

_LABELS = ("container", "id", "image", "name", "namespace", "pod")

Value = float | None
"""None for what is not known."""


class _Family(NamedTuple):
    """One value of each."""

    name: str
    told: str
    value: Callable[[Used], Value]
    kind: str = "gauge"


def _seconds(nanoseconds: int | None) -> Value:
    return None if nanoseconds is None else nanoseconds / 1e9


def _memory(name: str) -> Callable[[Used], Value]:
    def value(used: Used) -> Value:
        counted: Memory | None = used.counted.memory
        found: int | None = None if counted is None else getattr(counted, name)
        return found

    return value


def _memory_kills(used: Used) -> Value:
    """The kernel's, or ours where we look in its place."""
    return _memory("kills")(used) if used.memory_kills is None else used.memory_kills


def _throttled(name: str, unit: float = 1.0) -> Callable[[Used], Value]:
    """Of those that have a quota."""

    def value(used: Used) -> Value:
        throttled = used.counted.throttled
        return None if throttled is None or not throttled.periods else getattr(throttled, name) / unit

    return value


_FAMILIES = (
    _Family(
        "container_cpu_user_seconds_total",
        "Cumulative user cpu time consumed in seconds.",
        lambda used: _seconds(used.counted.user),
        "counter",
    ),
    _Family(
        "container_cpu_system_seconds_total",
        "Cumulative system cpu time consumed in seconds.",
        lambda used: _seconds(used.counted.system),
        "counter",
    ),
    _Family(
        "container_cpu_cfs_periods_total",
        "Number of elapsed enforcement period intervals.",
        _throttled("periods"),
        "counter",
    ),
    _Family(
        "container_cpu_cfs_throttled_periods_total",
        "Number of throttled period intervals.",
        _throttled("hit"),
        "counter",
    ),
    _Family(
        "container_cpu_cfs_throttled_seconds_total",
        "Total time duration the container has been throttled.",
        _throttled("nanoseconds", 1e9),
        "counter",
    ),
    _Family("container_memory_working_set_bytes", "Current working set in bytes.", lambda used: used.memory),
    _Family(
        "container_memory_usage_bytes",
        "Current memory usage in bytes, including all memory regardless of when it was accessed",
        _memory("usage"),
    ),
    _Family("container_memory_rss", "Size of RSS in bytes.", _memory("rss")),
    _Family("container_memory_cache", "Number of bytes of page cache memory.", _memory("cache")),
    _Family("container_memory_mapped_file", "Size of memory mapped files in bytes.", _memory("mapped_files")),
    _Family("container_memory_swap", "Container swap usage in bytes.", _memory("swap")),
    _Family("container_memory_failcnt", "Number of memory usage hits limits", _memory("failures"), "counter"),
    _Family("container_memory_max_usage_bytes", "Maximum memory usage recorded in bytes", _memory("most")),
    _Family("container_memory_total_active_file_bytes", "Current total active file in bytes.", _memory("active_files")),
    _Family(
        "container_memory_total_inactive_file_bytes", "Current total inactive file in bytes.", _memory("inactive_files")
    ),
    _Family(
        "container_oom_events_total",
        "Count of out of memory events observed for the container",
        _memory_kills,
        "counter",
    ),
    _Family("container_processes", "Number of processes running inside the container.", lambda used: used.processes),
    _Family("container_threads", "Number of threads running inside the container", lambda used: used.counted.tasks),
)

_DISK = (
    ("container_fs_reads_bytes_total", "Cumulative count of bytes read", "read_bytes"),
    ("container_fs_reads_total", "Cumulative count of reads completed", "reads"),
    ("container_fs_writes_bytes_total", "Cumulative count of bytes written", "written_bytes"),
    ("container_fs_writes_total", "Cumulative count of writes completed", "writes"),
)
_PRESSURE = tuple(
    (f"container_pressure_{name}_{suffix}", f"Total time duration {whose} due to {shown} congestion.", name, part)
    for name, shown in (("cpu", "CPU"), ("memory", "memory"), ("io", "IO"))
    for suffix, whose, part in (
        ("stalled_seconds_total", "no tasks in the container could make progress", "full"),
        ("waiting_seconds_total", "tasks in the container have waited", "some"),
    )
)
_NETWORK = tuple(
    (f"container_network_{way}_{suffix}", f"Cumulative count of {what} {word}", field, part)
    for way, field, word, ing in (
        ("receive", "received", "received", "receiving"),
        ("transmit", "sent", "transmitted", "transmitting"),
    )
    for suffix, part, what, word in (
        ("bytes_total", "bytes", "bytes", word),
        ("packets_total", "packets", "packets", word),
        ("packets_dropped_total", "dropped", "packets dropped while", ing),
        ("errors_total", "errors", "errors encountered while", ing),
    )
)
_SPEC: tuple[tuple[str, str, Callable[[GroupLimits], Value]], ...] = (
    ("container_spec_cpu_shares", "CPU share of the container.", lambda one: one.cpu_shares),
    ("container_spec_cpu_quota", "CPU quota of the container.", lambda one: one.cpu_quota or None),
    ("container_spec_cpu_period", "CPU period of the container.", lambda one: one.cpu_period),
    ("container_spec_memory_limit_bytes", "Memory limit for the container.", lambda one: one.memory),
    (
        "container_threads_max",
        "Maximum number of threads allowed inside the container, infinity if value is zero",
        lambda one: one.tasks,
    ),
)


def render(sampled: Sampled, machine: Machine, root: Path) -> bytes:
    """In Prometheus' text format. `root`: on the file system that holds the node's files. Reads files: not for the
    event loop."""
    families = _Families()
    families.tell(sampled.samples[NODE], {"id": "/"})
    families.tell_pressures(sampled.samples[NODE], pressures_of_machine(), {"id": "/"})
    families.disk_of_node(sampled.samples[NODE], root)
    for pod in sampled.pods:
        if pod.uid in sampled.samples:
            families.tell_pod(pod, sampled.samples[pod.uid])
        for one in pod.containers:
            if one.id in sampled.samples:
                families.tell_container(pod, one, sampled.samples[one.id])
    told = Metrics()
    told.add(*_of_machine(machine), *families.all())
    return told.render()


class _Families:
    def __init__(self) -> None:
        self._all: dict[str, Samples] = {}

    def all(self) -> Iterable[Samples]:
        return self._all.values()

    def _family(self, name: str, told: str, kind: str, *more: str) -> Samples:
        found = self._all.get(name)
        if found is None:
            found = self._all[name] = Samples(Named(name, told, (*_LABELS, *more)), kind)
        return found

    def tell_pod(self, pod: RunningPod, sample: Sample) -> None:
        group = sample.used.group
        labels = {"id": group.name if group else "", "namespace": pod.namespace, "pod": pod.name}
        self.tell(sample, labels)

    def tell_container(self, pod: RunningPod, container: RunningContainer, sample: Sample) -> None:
        group = sample.used.group
        labels = {
            "id": group.name if group else "",
            "name": container.id,
            "image": container.image,
            "container": container.name,
            "namespace": pod.namespace,
            "pod": pod.name,
        }
        started = self._family(
            "container_start_time_seconds", "Start time of the container since unix epoch in seconds.", "gauge"
        )
        started.add(int(container.started_at.timestamp()), *_values(labels))
        self.tell(sample, labels)

    def tell(self, sample: Sample, labels: Mapping[str, str]) -> None:
        used, at, values = sample.used, sample.when.timestamp(), _values(labels)
        cpu = self._family(
            "container_cpu_usage_seconds_total", "Cumulative cpu time consumed in seconds.", "counter", "cpu"
        )
        cpu.add(used.cpu / 1e9, *values, "total", at=at)
        seen = self._family("container_last_seen", "Last time a container was seen by the exporter", "gauge")
        seen.add(int(at), *values, at=at)
        for one in _FAMILIES:
            value = one.value(used)
            if value is not None:
                self._family(one.name, one.told, one.kind).add(value, *values, at=at)
        for name, told, field in _DISK:
            for disk in used.counted.disks or ():
                family = self._family(name, told, "counter", "device")
                family.add(getattr(disk, field), *values, _device(disk.device), at=at)
        for name, told, way, part in _NETWORK:
            for interface in used.networks:
                family = self._family(name, told, "counter", "interface")
                family.add(getattr(getattr(interface, way), part), *values, interface.name, at=at)
        if used.group is not None:
            limits = used.group.limits()
            for name, told, limit in _SPEC:
                if (most := limit(limits)) is not None:
                    self._family(name, told, "gauge").add(most, *values)
            self.tell_pressures(sample, used.group.pressures(), labels)

    def tell_pressures(self, sample: Sample, pressures: Pressures, labels: Mapping[str, str]) -> None:
        at, values = sample.when.timestamp(), _values(labels)
        for name, told, what, part in _PRESSURE:
            if what in pressures:
                seconds = getattr(pressures[what], part).total / 1e6
                self._family(name, told, "counter").add(seconds, *values, at=at)

    def disk_of_node(self, sample: Sample, root: Path) -> None:
        disk = disk_of(root)
        if disk is None:
            return
        number = root.stat().st_dev
        device = _device(f"{os.major(number)}:{os.minor(number)}")
        for name, told, value in (
            ("inodes_free", "Number of available Inodes", disk.inodes - disk.inodes_used),
            ("inodes_total", "Number of Inodes", disk.inodes),
            (
                "limit_bytes",
                "Number of bytes that can be consumed by the container on this filesystem.",
                disk.capacity,
            ),
            ("usage_bytes", "Number of bytes that are consumed by the container on this filesystem.", disk.used),
        ):
            family = self._family(f"container_fs_{name}", told, "gauge", "device")
            family.add(value, *_values({"id": "/"}), device, at=sample.when.timestamp())


def _values(labels: Mapping[str, str]) -> list[str]:
    return [labels.get(one, "") for one in _LABELS]


def _device(number: str) -> str:
    """By its name, if the kernel tells one."""
    with suppress(OSError):
        for line in Path(f"/sys/dev/block/{number}/uevent").read_text().splitlines():
            name, _, value = line.partition("=")
            if name == "DEVNAME":
                return f"/dev/{value}"
    return number


def _of_machine(machine: Machine) -> list[Samples]:
    labels = ("boot_id", "machine_id", "system_uuid")
    values = (machine.boot_id, machine.machine_id, machine.system_uuid)
    found = []
    for name, told, value in (
        ("machine_cpu_cores", "Number of logical CPU cores.", machine.cpus),
        ("machine_memory_bytes", "Amount of memory installed on the machine.", machine.memory),
        ("machine_swap_bytes", "Amount of swap memory available on the machine.", _swap()),
    ):
        one = Samples(Named(name, told, labels))
        one.add(value, *values)
        found.append(one)
    return found


def _swap() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("SwapTotal:"):
            return int(line.split()[1]) * 1024
    return 0
