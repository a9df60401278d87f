"""What /metrics/resource tells: CPU and memory of containers, pods and the node.

(kubernetes `pkg/kubelet/metrics/collectors/resource_metrics.go`.)
"""

from __future__ import annotations

from collections.abc import Sequence

from kubecore.kubelet.serving.stats import Sampled
from kubecore.kubelet.serving.summary import NODE, Sample
from kubecore.metrics import Metrics, Named, Samples

_LABELS = {"container": ("container", "namespace", "pod"), "pod": ("namespace", "pod"), "node": ()}


def render(sampled: Sampled) -> bytes:
    """In Prometheus' text format."""
    told = Metrics()
    started = Samples(
        Named(
            "container_start_time_seconds",
            "[STABLE] Start time of the container since unix epoch in seconds",
            _LABELS["container"],
        )
    )
    families = {kind: _Family(kind) for kind in _LABELS}
    families["node"].tell(sampled.samples[NODE])
    for pod in sampled.pods:
        for one in pod.containers:
            if one.id in sampled.samples:
                labels = (one.name, pod.namespace, pod.name)
                families["container"].tell(sampled.samples[one.id], labels)
                started.add(one.started_at.timestamp(), *labels)
        if pod.uid in sampled.samples:
            families["pod"].tell(sampled.samples[pod.uid], (pod.namespace, pod.name))
    for family in families.values():
        told.add(family.cpu, family.memory)
    failed = Samples(
        Named(
            "resource_scrape_error", "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise", ()
        )
    )
    failed.add(0)
    told.add(started, failed)
    return told.render()


class _Family:
    """Of containers, pods or the node."""

    def __init__(self, kind: str) -> None:
        self.cpu = Samples(
            Named(
                f"{kind}_cpu_usage_seconds_total",
                f"[STABLE] Cumulative cpu time consumed by the {kind} in core-seconds",
                _LABELS[kind],
            ),
            "counter",
        )
        self.memory = Samples(
            Named(
                f"{kind}_memory_working_set_bytes",
                f"[STABLE] Current working set of the {kind} in bytes",
                _LABELS[kind],
            )
        )

    def tell(self, sample: Sample, labels: Sequence[str] = ()) -> None:
        at = sample.when.timestamp()
        self.cpu.add(sample.used.cpu / 1e9, *labels, at=at)
        self.memory.add(sample.used.memory, *labels, at=at)
