"""Which pods a node takes: the scheduler is not asked about pods that name their node, and it may be behind.

(kubernetes `pkg/kubelet/lifecycle/predicate.go`, which asks the scheduler's plugins for resources, affinity and ports.)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple

from kubecore.api import amounts, meta, pod_resources
from kubecore.api.amounts import Amounts
from kubecore.api.host_ports import conflicts, host_ports
from kubecore.api.node_selection import accepts_node
from kubecore.kubelet.pods import mandatory_access, sysctls

Object = dict[str, Any]

_NODE_RESOURCES = ("cpu", "memory", "ephemeral-storage")


class Refusal(NamedTuple):
    """As the pod's status tells it."""

    reason: str
    message: str


def refusal(
    pod: Object, node: Object, others: Iterable[Object], *, allowed_sysctls: Iterable[str] = ()
) -> Refusal | None:
    """Why a pod cannot run on the node beside the `others` that do; the first reason in upstream's order."""
    if forbidden := sysctls.forbidden(pod, allowed_sysctls):
        return Refusal("SysctlForbidden", forbidden)
    spec, others = pod["spec"], list(others)
    system = (spec.get("os") or {}).get("name") or "linux"
    if system != "linux":
        return Refusal("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS")
    if _strict_groups(pod) and not ((node.get("status") or {}).get("features") or {}).get("supplementalGroupsPolicy"):
        text = "SupplementalGroupsPolicy=Strict is not supported in this node"
        return Refusal("SupplementalGroupsPolicyNotSupported", text)
    allocatable = amounts.parse((node.get("status") or {}).get("allocatable"))
    short = _shortage(pod, allocatable, others)
    if short is not None:
        return short
    if not accepts_node(spec, name=meta.name(node), labels=meta.labels(node)):
        return _failed("NodeAffinity", "node(s) didn't match Pod's node affinity/selector")
    taken = [port for other in others for port in host_ports(other["spec"])]
    if any(conflicts(port, taken) for port in host_ports(spec)):
        return _failed("NodePorts", "node(s) didn't have free ports for the requested pod ports")
    return None


def _strict_groups(pod: Object) -> bool:
    return (pod["spec"].get("securityContext") or {}).get("supplementalGroupsPolicy") == "Strict"


def _failed(predicate: str, why: str) -> Refusal:
    return Refusal(predicate, f"Predicate {predicate} failed: {why}")


def _shortage(pod: Object, allocatable: Amounts, others: list[Object]) -> Refusal | None:
    places = allocatable.get("pods")
    if places is not None and len(others) >= places.nano // 10**9:
        return _insufficient("pods", 1, len(others), places.nano // 10**9)
    wanted = pod_resources.requests(pod)
    used: Amounts = {}
    for other in others:
        amounts.accumulate(used, pod_resources.requests(other))
    # resources that the node does not tell of are the cluster's
    names = [*_NODE_RESOURCES, *sorted(name for name in wanted if name in allocatable and name not in _NODE_RESOURCES)]
    for name in names:
        asked, there, gone = (each.get(name, amounts.ZERO).nano for each in (wanted, allocatable, used))
        if asked > 0 and asked > there - gone:
            unit = 10**6 if name == "cpu" else 10**9
            return _insufficient(name, -(-asked // unit), -(-gone // unit), there // unit)
    return None


def _insufficient(name: str, requested: int, used: int, capacity: int) -> Refusal:
    amounts_told = f"requested: {requested}, used: {used}, capacity: {capacity}"
    return Refusal(f"OutOf{name}", f"Node didn't have enough resource: {name}, {amounts_told}")


class PodAdmission:
    """`node()` is the Node as last heard of, `ask()` gets it anew (StatusError, OSError) before a pod is refused, which
    is for good: its labels may have been changed since, or it may not have been heard of at all. `admitted()`: the pods
    that the node has. `allowed_sysctls`: as in `sysctls.forbidden`."""

    def __init__(
        self,
        node: Callable[[], Object],
        ask: Callable[[], Awaitable[Object]],
        admitted: Callable[[], Iterable[Object]],
        *,
        allowed_sysctls: Iterable[str] = (),
        pressure: Callable[[Object], str] = lambda pod: "",
        app_armor_lack: str = "",
    ) -> None:
        """`pressure(pod)`: why what the node is short of keeps the pod away, "" if it does not. `app_armor_lack`: why
        no profile can be enforced here, "" if it can."""
        self.shutting_down = False
        self._app_armor_lack = app_armor_lack
        self._pressure = pressure
        self._allowed_sysctls = tuple(allowed_sysctls)
        self._node = node
        self._ask = ask
        self._admitted = admitted

    async def refusal(self, pod: Object) -> Refusal | None:
        """Decided in one step, so that of two pods that come at a time the one sees the other."""
        if self.shutting_down:
            return Refusal("NodeShutdown", "Pod was rejected as the node is shutting down.")
        if why := self._pressure(pod):
            return Refusal("Evicted", why)
        found = self._refusal(pod, self._node())
        if found is not None:
            found = self._refusal(pod, await self._ask())
        if found is None and (lack := mandatory_access.app_armor_refusal(pod, self._app_armor_lack)):
            return Refusal("AppArmor", f"Cannot enforce AppArmor: {lack}")
        return found

    async def resize_refusal(self, pod: Object) -> Refusal | None:
        """Why a pod that runs cannot have what it asks for now: `Infeasible` for good, `Deferred` for as long as the
        others need so much."""
        found = self._resize_refusal(pod, self._node())
        return found if found is None else self._resize_refusal(pod, await self._ask())

    def _resize_refusal(self, pod: Object, node: Object) -> Refusal | None:
        # What it has been given so far does not matter here.
        wanted = {**pod, "status": {}}
        there = amounts.parse((node.get("status") or {}).get("allocatable"))
        asked = pod_resources.requests(wanted)
        for name, unit in (("memory", 10**9), ("cpu", 10**6)):
            if name in there and asked.get(name, amounts.ZERO).nano > there[name].nano:
                told = f"{name}, requested: {-(-asked[name].nano // unit)}, capacity: {there[name].nano // unit}"
                return Refusal("Infeasible", f"Node didn't have enough capacity: {told}")
        others = [other for other in self._admitted() if meta.uid(other) != meta.uid(pod)]
        short = _shortage(wanted, there, others)
        return None if short is None else Refusal("Deferred", short.message)

    def _refusal(self, pod: Object, node: Object) -> Refusal | None:
        return refusal(pod, node, self._admitted(), allowed_sysctls=self._allowed_sysctls)
