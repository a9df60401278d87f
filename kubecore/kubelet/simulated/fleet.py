"""All simulated nodes of a process: one component in the place of a kubelet each, on the cluster's shared caches."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
import orjson

from kubecore.api import errors, meta
from kubecore.api.errors import StatusError
from kubecore.client.client import Client
from kubecore.client.events import EventRecorder
from kubecore.client.informer import InformerFactory, Of
from kubecore.client.workqueue import RateLimitingQueue, RateLimits
from kubecore.clock import Clock
from kubecore.driving import TakeOver, drive, taking_over
from kubecore.kubelet.node.lease import LEASE_SECONDS, NodeLease
from kubecore.kubelet.simulated import nodes
from kubecore.kubelet.simulated.addresses import NODES, PODS, Addresses
from kubecore.kubelet.simulated.pod import SimulatedPod, Step

log = logging.getLogger(__name__)

Object = dict[str, Any]
K = TypeVar("K")

_PODS_BY_NODE = "simulated-node"
_IN_FLIGHT = 64
_RENEWALS_A_SECOND = 200
# Fewer are no load: a timer for each would be more than the renewals.
_SMALLEST_SHARE = 8
_LONGEST_RENEWAL = 0.8
"""Of the silence after which a node counts as lost: so long between two renewals, where nodes are many."""
_LIMITS = RateLimits(base=0.1, maximum=30.0, rate=200.0, burst=1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetConfig:
    """The nodes to be there from the start. Nodes that somebody makes with the annotation
    `simulation.kubecore.dev/node: "true"` are simulated, too.
    """

    names: tuple[str, ...] = ()
    families: tuple[str, ...] = ("IPv4",)
    """Of the addresses of nodes and pods, the cluster's own first."""
    lease_seconds: int = LEASE_SECONDS
    """How long a lease says that it lasts; a quarter of it is between two renewals, more where nodes are many."""
    grace_seconds: float = 50.0
    """Silence after which a node counts as lost."""


class _Meta(msgspec.Struct):
    resourceVersion: str


class _Versioned(msgspec.Struct):
    metadata: _Meta


_VERSIONED = msgspec.json.Decoder(_Versioned)


@dataclass(slots=True)
class _Known:
    """A pod on a simulated node. `answer`: what the API said to our last write, until the cache has it, and of which
    version that is."""

    pod: SimulatedPod
    uid: str
    answer: bytes | None = None
    version: int = 0


class SimulatedFleet:
    """`run` works until cancelled; `ready` is set once the nodes are registered and their pods are followed."""

    def __init__(
        self, client: Client, clock: Clock, config: FleetConfig, *, informers: InformerFactory | None = None
    ) -> None:
        self.ready = asyncio.Event()
        self._client = client
        self._clock = clock
        self._config = config
        self._own_informers = informers is None
        self._informers = informers or InformerFactory(client, clock)
        self._recorder = EventRecorder(client, clock, "kubelet", host="simulated")
        self._nodes = self._informers.informer("nodes")
        self._pods = self._informers.informer("pods")
        self._pods.add_index(_PODS_BY_NODE, _node_of, of=Of.SPEC)
        self._leases: dict[str, NodeLease] = {}
        self._renewing: set[str] = set()
        self._any_nodes = asyncio.Event()
        self._silent: set[str] = set()
        self._node_addresses = Addresses([NODES[family] for family in config.families])
        self._pod_addresses = Addresses([PODS[family] for family in config.families])
        self._known: dict[str, _Known] = {}
        self._node_queue: RateLimitingQueue[str] = RateLimitingQueue(clock, _LIMITS)
        self._pod_queue: RateLimitingQueue[str] = RateLimitingQueue(clock, _LIMITS)

    async def run(self) -> None:
        await self._informers.start()
        try:
            await self._nodes.wait_synced()
            await self._pods.wait_synced()
            self._keep_addresses()
            self._nodes.add_handler(self._node_seen, lambda _, new: self._node_seen(new), self._node_gone)
            await self._make_nodes()
            self._pods.add_handler(self._pod_seen, self._pod_changed, self._pod_gone)
            async with asyncio.TaskGroup() as group:
                for index in range(8):
                    work = _work(self._node_queue, self._sync_node)
                    group.create_task(work, name=f"simulated nodes {index}")
                for index in range(_IN_FLIGHT):
                    work = _work(self._pod_queue, self._sync_pod)
                    group.create_task(work, name=f"simulated pods {index}")
                group.create_task(self._renew_leases(), name="simulated leases")
                self.ready.set()
        finally:
            self.ready.clear()
            self._node_queue.shut_down()
            self._pod_queue.shut_down()
            await self._recorder.stop()
            if self._own_informers:
                await self._informers.stop()

    def _keep_addresses(self) -> None:
        for node in self._nodes.list():
            for entry in (node.get("status") or {}).get("addresses") or []:
                self._node_addresses.keep(meta.name(node), entry["address"])
        for pod in self._pods.list():
            self._pod_addresses.keep(meta.uid(pod), (pod.get("status") or {}).get("podIP", ""))

    # ---- nodes

    async def _make_nodes(self) -> None:
        """Those there should be from the start, and none that an earlier start made beyond them."""
        wanted = dict.fromkeys(self._config.names)
        made = [meta.name(node) for node in self._nodes.list() if nodes.is_made(node)]
        await _for_each([name for name in made if name not in wanted], self._remove_node)
        await _for_each([one for one in enumerate(wanted) if self._nodes.get(one[1]) is None], self._make_node)
        if wanted:
            log.info("%d simulated nodes are registered", len(wanted))

    async def _remove_node(self, name: str) -> None:
        try:
            await self._client.delete("nodes", name)
        except StatusError as error:
            if not errors.is_not_found(error):
                raise

    async def _make_node(self, numbered: tuple[int, str]) -> None:
        index, name = numbered
        made = nodes.make_node(name, index, self._node_addresses.of(name), self._clock.now())
        try:
            await self._client.create("nodes", made)
        except StatusError as error:
            if not errors.is_already_exists(error):
                raise

    def _node_seen(self, node: Object) -> None:
        name = meta.name(node)
        was, is_ours = name in self._leases, nodes.is_simulated(node)
        if is_ours and not was:
            self._any_nodes.set()
            self._leases[name] = NodeLease(self._client, self._clock, name)
        elif was and not is_ours:
            del self._leases[name]
        if not is_ours:
            return
        self._node_queue.add(name)
        spoke = name in self._silent
        if nodes.is_silent(node):
            self._silent.add(name)
            return
        self._silent.discard(name)
        if spoke or not was:
            for pod in self._pods.by_index(_PODS_BY_NODE, name):
                self._pod_seen(pod)

    def _node_gone(self, node: Object) -> None:
        name = meta.name(node)
        if self._leases.pop(name, None) is not None:
            self._silent.discard(name)
            self._node_addresses.release(name)
            for pod in self._pods.by_index(_PODS_BY_NODE, name):
                self._pod_gone(pod)

    async def _sync_node(self, name: str) -> float | None:
        """Bring its status to what it should say, unless it plays dead; a dead node's pods are left alone, too."""
        node = self._nodes.get(name)
        if node is None or name not in self._leases:
            return None
        if nodes.is_silent(node):
            return None
        if missing := nodes.missing_metadata(node):
            node = await self._client.patch("nodes", name, {"metadata": missing}, patch_type="merge")
        try:
            status = nodes.wanted_status(node, self._node_addresses.of(name), self._clock.now())
        except nodes.ConditionsError as error:
            about = {**node, "metadata": {"name": name, "uid": name}}
            self._recorder.event(about, "Warning", "InvalidSimulation", str(error))
            return None
        if status is not None:
            await self._lease(name, node)
            await self._client.update("nodes", {**node, "status": status}, subresource="status")
        return None

    # ---- leases

    def _renew_seconds(self) -> float:
        usual = self._config.lease_seconds / 4
        longest = max(usual, _LONGEST_RENEWAL * self._config.grace_seconds)
        return min(max(usual, len(self._leases) / _RENEWALS_A_SECOND), longest)

    async def _renew_leases(self) -> None:
        """A share at a time, so that the load is even. Each begins when it is due, whether or not the one before is
        through: where the API is busy, a round that waited for it would let nodes count as lost."""
        due = self._clock.monotonic()
        async with asyncio.TaskGroup() as group:
            while True:
                names, seconds = list(self._leases), self._renew_seconds()
                if not names:
                    self._any_nodes.clear()
                    await self._any_nodes.wait()
                    due = self._clock.monotonic()
                    continue
                size = max(math.ceil(len(names) / seconds), _SMALLEST_SHARE)
                shares = [names[start : start + size] for start in range(0, len(names), size)]
                for share in shares:
                    left = [name for name in share if name not in self._renewing]
                    self._renewing.update(left)
                    self._begin_renewals(left, taking_over(group.create_task))
                    due += seconds / len(shares)
                    await self._clock.sleep(max(0.0, due - self._clock.monotonic()))

    def _begin_renewals(self, names: Sequence[str], take_over: TakeOver) -> None:
        """Some at a time, so that they share the store's commits; each takes a task only if it waits for more."""
        left = iter(names)

        async def some() -> None:
            for name in left:
                await self._renew(name)

        for _ in range(min(_IN_FLIGHT, len(names))):
            drive(some(), take_over)

    async def _renew(self, name: str) -> None:
        try:
            node = self._nodes.get(name)
            if node is not None and not nodes.is_silent(node):
                await self._lease(name, node)
        finally:
            self._renewing.discard(name)

    async def _lease(self, name: str, node: Object) -> None:
        lease = self._leases.get(name)
        if lease is None:
            return
        # Four renewals, as upstream, of as many nodes as there are by now.
        lease.seconds = math.ceil(4 * self._renew_seconds())
        try:
            await lease.renew(node)
        except (StatusError, OSError) as error:
            log.debug("lease of node %s: %s", name, error)

    # ---- pods

    def _pod_seen(self, pod: Object) -> None:
        if pod["spec"].get("nodeName", "") in self._leases:
            self._pod_queue.add(meta.key(pod))

    def _pod_changed(self, old: Object, new: Object) -> None:
        known = self._known.get(meta.key(new))
        if known is not None and known.answer is not None and _version(new) >= known.version:
            known.answer = None
        if not _look_alike(old, new):
            self._pod_seen(new)

    def _pod_gone(self, pod: Object) -> None:
        known = self._known.pop(meta.key(pod), None)
        if known is not None:
            self._pod_addresses.release(known.uid)

    async def _sync_pod(self, key: str) -> float | None:
        pod = self._pods.get(key)
        node_name = pod["spec"].get("nodeName", "") if pod is not None else ""
        node = self._nodes.get(node_name)
        if pod is None or node is None or node_name not in self._leases or nodes.is_silent(node):
            return None
        known = self._known_pod(key, pod, node_name)
        # News may come before the answer to an older write.
        newest = pod if known.answer is None or _version(pod) >= known.version else orjson.loads(known.answer)
        step = known.pod.step(newest, self._clock.now())
        for warning in step.warnings:
            self._recorder.event(newest, "Warning", warning.reason, warning.message, field_path=warning.field_path)
        await self._write(known, newest, step)
        return max(step.wait.total_seconds(), 0.001) if step.wait is not None else None

    def _known_pod(self, key: str, pod: Object, node_name: str) -> _Known:
        uid = meta.uid(pod)
        known = self._known.get(key)
        if known is None or known.uid != uid:
            simulated = SimulatedPod(
                pod,
                host=self._node_addresses.of(node_name),
                addresses=self._pod_addresses.of(uid),
                now=self._clock.now(),
            )
            known = self._known[key] = _Known(simulated, uid)
        return known

    async def _write(self, known: _Known, pod: Object, step: Step) -> None:
        try:
            if step.status is not None and (status := _merged(pod.get("status") or {}, step.status)) is not None:
                answer = await self._client.put("pods", {**pod, "status": status}, subresource="status")
                known.answer, known.version = answer, _number(_VERSIONED.decode(answer).metadata.resourceVersion)
            if step.gone:
                name, namespace = meta.name(pod), meta.namespace(pod)
                await self._client.delete("pods", name, namespace, uid=known.uid, grace_period_seconds=0)
        except StatusError as error:
            known.answer = None
            if not errors.is_not_found(error):
                raise


def _merged(held: Object, wanted: Object) -> Object | None:
    """The status to write: what others say of a pod stays. None when it is the one held."""
    own = {one["type"] for one in wanted["conditions"]}
    others = [one for one in held.get("conditions") or [] if one["type"] not in own]
    conditions = [{key: value for key, value in one.items() if value is not None} for one in wanted["conditions"]]
    kept = {key: value for key, value in held.items() if key not in ("reason", "message")}
    status = {**kept, **wanted, "conditions": [*conditions, *others]}
    return None if status == held else status


def _look_alike(one: Object, other: Object) -> bool:
    """Whether two versions of a pod are the same to what a simulated one follows: its own reports must not wake it."""
    if _is_ready(one) and not _is_ready(other):
        # perhaps somebody else says so, who had not heard of the node for too long
        return False
    before, now = one["metadata"], other["metadata"]
    if any(before.get(field) != now.get(field) for field in _FOLLOWED):
        return False
    spec, new_spec = one["spec"], other["spec"]
    if spec.get("nodeName") != new_spec.get("nodeName"):
        return False
    gates = new_spec.get("readinessGates")
    return gates == spec.get("readinessGates") and (not gates or _gates(one, gates) == _gates(other, gates))


_FOLLOWED = ("annotations", "deletionTimestamp", "finalizers", "generation")


def _is_ready(pod: Object) -> bool:
    return (meta.condition(pod, "Ready") or {}).get("status") == "True"


def _gates(pod: Object, gates: list[Object]) -> list[Object | None]:
    return [meta.condition(pod, gate["conditionType"]) for gate in gates]


def _node_of(pod: Object) -> Sequence[str]:
    name = pod["spec"].get("nodeName")
    return (name,) if name else ()


def _version(obj: Object) -> int:
    return _number(meta.resource_version(obj))


def _number(version: str) -> int:
    return int(version) if version.isdigit() else 0


async def _for_each(keys: Sequence[K], do: Callable[[K], Awaitable[None]]) -> None:
    """Some at a time, so that they share the store's commits. The first error ends it."""
    left = iter(keys)

    async def some() -> None:
        for key in left:
            await do(key)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(_IN_FLIGHT, len(keys))):
            group.create_task(some())


async def _work(queue: RateLimitingQueue[str], sync: Callable[[str], Awaitable[float | None]]) -> None:
    """One worker of a queue. A key that fails comes again with back-off."""
    while True:
        key = await queue.get()
        try:
            again = await sync(key)
        except (StatusError, OSError) as error:
            log.debug("simulated %s: %s", key, error)
            queue.add_rate_limited(key)
        except Exception:
            log.exception("simulated %s failed", key)
            queue.add_rate_limited(key)
        else:
            queue.forget(key)
            if again is not None:
                queue.add_after(key, again)
        finally:
            queue.done(key)
