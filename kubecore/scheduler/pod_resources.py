"""What /metrics/resources tells: what pods request and are limited to.

(kubernetes `pkg/scheduler/metrics/resources/resources.go`.)
"""

from __future__ import annotations

from collections.abc import Iterable

from kubecore.api import meta, pod_resources
from kubecore.api.amounts import Amounts
from kubecore.client.client import Object
from kubecore.metrics import Metrics, Named, Samples
from kubecore.scheduler.pods import is_finished, scheduler_name

PATH = "/metrics/resources"

_LABELS = ("namespace", "pod", "node", "scheduler", "priority", "resource", "unit")
_TOLD = (
    "[STABLE] Resources {} workloads on the cluster, broken down by pod. This shows the resource usage the scheduler "
    "and kubelet expect per pod for resources along with the unit for the resource if any."
)
_UNITS = {"cpu": "cores", "memory": "bytes", "storage": "bytes", "ephemeral-storage": "bytes"}


def render(pods: Iterable[Object]) -> bytes:
    """In Prometheus' text format, of all that have not ended."""
    requests = Samples(Named("kube_pod_resource_request", _TOLD.format("requested by"), _LABELS))
    limits = Samples(Named("kube_pod_resource_limit", _TOLD.format("limit for"), _LABELS))
    for pod in pods:
        if pod["spec"].get("nodeName") and is_finished(pod):
            continue
        _tell(requests, pod, pod_resources.requests(pod))
        _tell(limits, pod, pod_resources.limits(pod))
    told = Metrics()
    told.add(requests, limits)
    return told.render()


def _tell(told: Samples, pod: Object, amounts: Amounts) -> None:
    spec = pod["spec"]
    priority = spec.get("priority")
    of_pod = (
        meta.namespace(pod),
        meta.name(pod),
        spec.get("nodeName") or "",
        scheduler_name(pod),
        "" if priority is None else str(priority),
    )
    for name, amount in amounts.items():
        if amount.nano:
            told.add(amount.nano / 10**9, *of_pod, name, _unit(name))


def _unit(resource: str) -> str:
    if resource.startswith("attachable-volumes-"):
        return "integer"
    return "bytes" if resource.startswith("hugepages-") else _UNITS.get(resource, "")
