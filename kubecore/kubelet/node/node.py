"""The Node object and its lease: what this node is, that it is well, and that it is alive."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import shutil
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from kubecore.api import meta
from kubecore.api.errors import StatusError
from kubecore.client.client import Client
from kubecore.clock import Clock
from kubecore.kubelet.networks.network import MEANING
from kubecore.kubelet.node.lease import LEASE_SECONDS, NodeLease

log = logging.getLogger(__name__)

Object = dict[str, Any]

KUBERNETES_VERSION = "v1.35.0"
STATUS_SECONDS = 300.0
"""How often an unchanged status is reported anew (upstream nodeStatusReportFrequency)."""
LOOK_SECONDS = 10.0
"""How often it is looked whether it has changed, here or at the API (upstream nodeStatusUpdateFrequency)."""
_RESERVED_MEMORY = 100 * 1024 * 1024
_RETRY_SECONDS = 1.0
_LONGEST_RETRY_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Machine:
    """What the operating system says of the machine. Memory and storage in bytes."""

    cpus: int
    memory: int
    storage: int
    hostname: str
    machine_id: str
    system_uuid: str
    boot_id: str
    kernel: str
    os_image: str
    architecture: str
    max_pods: int = 110
    reserved: Mapping[str, int] = field(default_factory=dict)
    """What pods are not given of a resource, in billionths."""

    @classmethod
    def read(cls, root: Path, *, max_pods: int = 110, reserved: Mapping[str, int] | None = None) -> Machine:
        """`root`: the folder whose file system holds the node's files."""
        release = platform.freedesktop_os_release() if Path("/etc/os-release").exists() else {}
        machine_id = _text(Path("/etc/machine-id"))
        return cls(
            cpus=len(os.sched_getaffinity(0)),
            memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            storage=shutil.disk_usage(root).total,
            hostname=platform.node(),
            machine_id=machine_id,
            system_uuid=_text(Path("/sys/class/dmi/id/product_uuid")) or machine_id,
            boot_id=_text(Path("/proc/sys/kernel/random/boot_id")),
            kernel=platform.release(),
            os_image=release.get("PRETTY_NAME", "Linux"),
            max_pods=max_pods,
            reserved=reserved or {},
            architecture={"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
        )

    def capacity(self) -> dict[str, str]:
        return {
            "cpu": str(self.cpus),
            "ephemeral-storage": f"{self.storage // 1024}Ki",
            "hugepages-1Gi": "0",
            "hugepages-2Mi": "0",
            "memory": f"{self.memory // 1024}Ki",
            "pods": str(self.max_pods),
        }

    def allocatable(self) -> dict[str, str]:
        """Capacity without what is reserved and what the kubelet keeps free before it would evict: 100 Mi of memory, a
        tenth of the disk."""
        storage = self.storage * 9 // 10 - self._reserved("ephemeral-storage")
        memory = self.memory - _RESERVED_MEMORY - self._reserved("memory")
        cpu = max(self.cpus * 1000 - self.reserved.get("cpu", 0) // 10**6, 0)
        return {
            **self.capacity(),
            "cpu": str(cpu // 1000) if cpu % 1000 == 0 else f"{cpu}m",
            "ephemeral-storage": str(max(storage, 0)),
            "memory": f"{max(memory, 0) // 1024}Ki",
        }

    def _reserved(self, resource: str) -> int:
        return self.reserved.get(resource, 0) // 10**9


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """`addresses` and `pod_cidrs`: of each family one, the cluster's own first. `handlers`: the runtime handlers served
    here. `taints`: of a Node that was not there before. `lease_seconds`: after which it may be taken for dead."""

    name: str
    addresses: tuple[str, ...]
    port: int
    pod_cidrs: tuple[str, ...]
    network_mode: str
    runtime: str
    handlers: tuple[str, ...]
    taints: tuple[Mapping[str, Any], ...] = ()
    lease_seconds: int = LEASE_SECONDS
    features: Callable[[str], Object] = lambda handler: {}
    """What pods can have by one of the `handlers`, as `runtimeHandlers` of the status has it; "" is the default one."""
    no_way_out: str = ""
    """Why pods reach nothing outside of the cluster, in network mode rootless."""
    strict_groups: bool = True
    """Pods may ask for the policy Strict of supplemental groups."""

    @property
    def renew_seconds(self) -> float:
        """A quarter, as upstream's kubelet has it."""
        return self.lease_seconds / 4


ATTACHED_FOR_IT = {"volumes.kubernetes.io/controller-managed-attach-detach": "true"}
"""The annotation of a node whose kubelet leaves it to the attach-detach controller to have volumes attached."""


def node_labels(name: str, machine: Machine) -> dict[str, str]:
    """What a kubelet says of its node, so that pods can be kept to it or spread over its like."""
    return {
        "beta.kubernetes.io/arch": machine.architecture,
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": machine.architecture,
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
    }


def node_object(identity: NodeIdentity, machine: Machine, now: datetime) -> Object:
    labels = node_labels(identity.name, machine)
    annotations = {"kubecore.dev/network-mode": identity.network_mode, **ATTACHED_FOR_IT}
    if identity.network_mode == "rootless":  # it has less than one would expect of a network of one's own
        lacks = f"; nothing leads out of it but to Services: {identity.no_way_out}" if identity.no_way_out else ""
        annotations["kubecore.dev/network"] = MEANING["rootless"] + lacks
    ranges = identity.pod_cidrs
    spec: Object = {"podCIDR": ranges[0], "podCIDRs": list(ranges)} if ranges else {}
    if identity.taints:
        spec["taints"] = [dict(one) for one in identity.taints]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": identity.name, "labels": labels, "annotations": annotations},
        "spec": spec,
        "status": node_status(identity, machine, now, []),
    }


# Condition -> (reason, message) where it does not hold, and where it does.
PRESSURES = {
    "MemoryPressure": (
        ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
    ),
    "DiskPressure": (
        ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("KubeletHasDiskPressure", "kubelet has disk pressure"),
    ),
    "PIDPressure": (
        ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
    ),
}
_READY = ("Ready", "True", "KubeletReady", "kubelet is posting ready status")


def node_conditions(
    now: datetime, known: list[Object], pressures: Collection[str] = (), *, trouble: str = ""
) -> list[Object]:
    """`known`: what the API has, whose transition times stay where nothing changed. `pressures`: those that hold.
    `trouble`: why the node is not ready, "" if it is."""
    held = {one.get("type"): one for one in known}
    wanted = [(kind, str(kind in pressures), *texts[kind in pressures]) for kind, texts in PRESSURES.items()]
    conditions, told = [], meta.format_time(now)
    ready = ("Ready", "False", "KubeletNotReady", trouble) if trouble else _READY
    for kind, state, reason, message in (*wanted, ready):
        conditions.append(
            {
                "type": kind,
                "status": state,
                "lastHeartbeatTime": told,
                "lastTransitionTime": meta.transition_time(held.get(kind), state, told),
                "reason": reason,
                "message": message,
            }
        )
    return conditions


def node_status(
    identity: NodeIdentity,
    machine: Machine,
    now: datetime,
    known: list[Object],
    pressures: Collection[str] = (),
    *,
    trouble: str = "",
) -> Object:
    """`known`, `pressures`, `trouble`: as for `node_conditions`."""
    return {
        "addresses": [
            *({"type": "InternalIP", "address": address} for address in identity.addresses),
            {"type": "Hostname", "address": identity.name},
        ],
        "allocatable": machine.allocatable(),
        "capacity": machine.capacity(),
        "conditions": node_conditions(now, known, pressures, trouble=trouble),
        "daemonEndpoints": {"kubeletEndpoint": {"Port": identity.port}},
        "nodeInfo": {
            "architecture": machine.architecture,
            "bootID": machine.boot_id,
            "containerRuntimeVersion": f"{identity.runtime}://{KUBERNETES_VERSION[1:]}",
            "kernelVersion": machine.kernel,
            "kubeProxyVersion": "",
            "kubeletVersion": KUBERNETES_VERSION,
            "machineID": machine.machine_id,
            "operatingSystem": "linux",
            "osImage": machine.os_image,
            "systemUUID": machine.system_uuid,
        },
        "features": {"supplementalGroupsPolicy": identity.strict_groups},
        "runtimeHandlers": [_runtime_handler(name, identity.features(name)) for name in ("", *identity.handlers)],
    }


def _runtime_handler(name: str, features: Object) -> Object:
    return {"name": name, "features": features} if features else {"name": name}


def of_others(status: Object, own: Collection[str]) -> Object:
    """What is allocatable beside the resources that are the kubelet's `own` to tell: what somebody else says that the
    node has; None for what nobody does any more. (Upstream `MachineInfo` in `pkg/kubelet/nodestatus/setters.go`.)"""
    capacity, allocatable = status.get("capacity") or {}, status.get("allocatable") or {}
    gone = [name for name in allocatable if name not in capacity and "/" in name and "kubernetes.io/" not in name]
    return {**dict.fromkeys(gone), **{name: amount for name, amount in capacity.items() if name not in own}}


def _version(node: Object) -> int:
    return int(meta.resource_version(node) or 0)


def own_part(status: Object, fields: Collection[str]) -> Object:
    """What a kubelet that tells of `fields` is to see there again: of conditions its own ones, whenever told."""
    kinds = {*PRESSURES, "Ready"}
    told = [one for one in status.get("conditions") or [] if one.get("type") in kinds]
    conditions = {one["type"]: (one.get("status"), one.get("reason"), one.get("message")) for one in told}
    return {**_without_nulls({name: status.get(name) for name in fields}), "conditions": conditions}


def _without_nulls(said: Object) -> Object:
    """As it looks once it is merged."""
    return {
        name: _without_nulls(value) if isinstance(value, dict) else value
        for name, value in said.items()
        if value is not None
    }


async def _no_trouble() -> str:
    return ""


class NodeKeeper:
    """Registers the node, then keeps its lease and status fresh until cancelled."""

    def __init__(
        self,
        client: Client,
        clock: Clock,
        identity: NodeIdentity,
        machine: Machine,
        pressures: Callable[[], Collection[str]] = tuple,
        runtime_trouble: Callable[[], Awaitable[str]] = _no_trouble,
        became: Callable[[str], None] = lambda state: None,
        images: Callable[[], Sequence[Object]] = tuple,
    ) -> None:
        """`pressures()`: the conditions of PRESSURES that hold. `runtime_trouble()`: why no container can be started,
        else "". `became` is called with NodeReady, NodeHasDiskPressure and the like once the API knows. `images()`: as
        the status tells them."""
        self._images = images
        self._pressures = pressures
        self._runtime_trouble = runtime_trouble
        self._became = became
        self.shutting_down = False
        self._changed = asyncio.Event()
        self._client = client
        self._clock = clock
        self._identity = identity
        self._machine = machine
        self._told: dict[str, str] = {}
        self._of_others: Object = {}
        self._node: Object = {}
        self._deleted = ""
        # The last status that the API took, and what it made of it: where neither has changed, nothing is to be said.
        self._said: Object = {}
        self._taken: Object = {}
        self._said_at = clock.monotonic()
        self._lease = NodeLease(client, clock, identity.name, seconds=identity.lease_seconds)
        self.rebooted = ""
        """The machine's present boot, by its id, if a former kubelet of the node saw another one."""

    @property
    def node(self) -> Object:
        """The Node as the API last had it, {} while it has none."""
        return self._node

    async def register(self) -> None:
        """Create the Node or take an existing one over; tries until the API takes it."""
        failures = 0
        while True:
            try:
                await self._register()
                return
            except (StatusError, OSError) as error:
                failures += 1
                log.warning("node %s could not be registered: %s", self._identity.name, error)
                await self._clock.sleep(min(_RETRY_SECONDS * failures, _LONGEST_RETRY_SECONDS))

    async def _register(self) -> None:
        wanted = node_object(self._identity, self._machine, self._clock.now())
        try:
            answer = await self._client.create("nodes", wanted)
            self._took(wanted["status"], answer)
            self._of_others = {}
            self._tell(wanted["status"]["conditions"])
            return
        except StatusError as error:
            if error.code != 409:
                raise
        metadata = {key: wanted["metadata"][key] for key in ("labels", "annotations")}
        self._keep(await self._client.patch("nodes", self._identity.name, {"metadata": metadata}))
        former = ((self._node.get("status") or {}).get("nodeInfo") or {}).get("bootID")
        self.rebooted = self._machine.boot_id if former not in (None, "", self._machine.boot_id) else ""
        wanted["spec"].pop("taints", None)  # who removed one does not want it back
        if wanted["spec"] and not (self._node.get("spec") or {}).get("podCIDR"):
            self._keep(await self._client.patch("nodes", self._identity.name, {"spec": wanted["spec"]}))
        await self._say(await self._wanted_status(), registering=True)

    async def report(self) -> None:
        """Write the status."""
        await self._say(await self._wanted_status())

    async def _look(self) -> None:
        """Write the status if it is time, if it is another one by now, or if somebody else has written another one."""
        if not self._node:
            await self.register()
            return
        status = await self._wanted_status()
        held = own_part(self._node.get("status") or {}, self._taken)
        is_time = self._clock.monotonic() - self._said_at >= STATUS_SECONDS
        if is_time or held != self._taken or own_part(status, status) != self._said:
            await self._say(status)

    async def _wanted_status(self) -> Object:
        self._changed.clear()
        trouble = "node is shutting down" if self.shutting_down else await self._runtime_trouble()
        known = self._node.get("status") or {}
        status = node_status(
            self._identity,
            self._machine,
            self._clock.now(),
            known.get("conditions") or [],
            self._pressures(),
            trouble=trouble,
        )
        status["allocatable"] |= of_others(known, status["capacity"])
        if (images := list(self._images())) or known.get("images"):
            status["images"] = images or None
        return status

    async def _say(self, status: Object, *, registering: bool = False) -> None:
        """`registering`: that the node is ready is told by who has it registered."""
        held, fields = self._node.get("status") or {}, {**status}
        was, now = (meta.condition({"status": one}, "Ready") or {"status": ""} for one in (held, status))
        self._said = {}
        # Merged by type, as strategic merge has it, two addresses of a type would become one.
        if held.get("addresses") != (addresses := fields.pop("addresses")):
            await self._patch_status({"addresses": addresses}, "merge")
        answer = await self._patch_status(fields, "strategic")
        self._took(status, answer)
        self._tell(status["conditions"])
        if was["status"] != now["status"] and not (registering and now["status"] == "True"):
            self._became("NodeReady" if now["status"] == "True" else "NodeNotReady")

    def _took(self, status: Object, answer: Object) -> None:
        self._said, self._taken = own_part(status, status), own_part(answer.get("status") or {}, status)
        self._said_at = self._clock.monotonic()
        self._keep(answer)

    def _tell(self, conditions: list[Object]) -> None:
        """NodeHasDiskPressure and the like, of each that this kubelet has not told so before."""
        for one in conditions:
            kind, reason = one["type"], one["reason"]
            if kind in PRESSURES and self._told.get(kind) != reason:
                self._told[kind] = reason
                self._became(reason.replace("Kubelet", "Node"))

    def seen(self, node: Object) -> None:
        """Somebody has changed a Node, maybe this one: what it has been given beside what the kubelet tells of is for
        pods to ask for; of what else it says, the next look sees whether it is right."""
        if meta.name(node) != self._identity.name:
            return
        self._keep(node)
        status = node.get("status") or {}
        told = of_others(status, self._machine.capacity())
        untold = any((status.get("allocatable") or {}).get(name) != amount for name, amount in told.items())
        if untold and told != self._of_others:  # a webhook, say, that undoes it is not fought with
            self._of_others = told
            self.changed()

    def gone(self, node: Object) -> None:
        """Somebody has deleted a Node. If it is this one, its kubelet lives: the next look brings it back."""
        if meta.name(node) == self._identity.name:
            self._deleted = meta.uid(node)
            if meta.uid(self._node) == self._deleted:
                self._node = {}

    def _keep(self, node: Object) -> None:
        """News may come before the answer to an older write."""
        if meta.uid(node) != self._deleted and _version(node) >= _version(self._node):
            self._node = node

    async def _patch_status(self, status: Object, patch_type: str) -> Object:
        name = self._identity.name
        return await self._client.patch("nodes", name, {"status": status}, patch_type=patch_type, subresource="status")

    def changed(self) -> None:
        """The conditions have: report it at once."""
        self._changed.set()

    async def keep_status(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with self._clock.timeout(LOOK_SECONDS):
                    await self._changed.wait()
            try:
                await self._look()
            except StatusError as error:
                if error.code == 404:
                    # Somebody deleted the node while its kubelet lives: it comes back.
                    await self.register()
                else:
                    log.warning("status of node %s was not taken: %s", self._identity.name, error.message)
            except OSError as error:
                log.warning("status of node %s was not taken: %s", self._identity.name, error)

    async def keep_lease(self) -> None:
        failures = 0
        while True:
            try:
                await self._lease.renew(self._node)
                failures = 0
                await self._clock.sleep(self._identity.renew_seconds)
            except (StatusError, OSError) as error:
                failures += 1
                log.debug("lease of node %s: %s", self._identity.name, error)
                await self._clock.sleep(min(0.2 * 2.0**failures, 7.0))
