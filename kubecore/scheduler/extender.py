"""Asks a process of somebody else's about pods: a scheduler extender, by HTTP.

What is sent and understood is kube-scheduler's `extender/v1` (kubernetes `pkg/scheduler/extender.go`). Fields of
answers are found whatever their case, as Go's decoder finds them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol

import orjson

from kubecore.api import durations, meta
from kubecore.client.client import Object
from kubecore.client.kubeconfig import Kubeconfig
from kubecore.clock import Clock
from kubecore.scheduler.cache import Cache, NodeInfo
from kubecore.scheduler.pods import PodInfo
from kubecore.scheduler.preemption import Candidate

JSON = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtenderConfig:
    """One of `extenders` in a KubeSchedulerConfiguration. A verb that is empty is not supported."""

    url: str
    filter_verb: str = ""
    prioritize_verb: str = ""
    preempt_verb: str = ""
    bind_verb: str = ""
    weight: int = 0
    timeout: float = 5.0
    """Seconds a call may take."""
    node_cache_capable: bool = False
    """Nodes and victims are named to it, and not sent as they are."""
    managed_resources: frozenset[str] = frozenset()
    """Only pods that ask for one of these concern it; all do if there are none."""
    ignored_resources: tuple[str, ...] = ()
    """Those that the scheduler itself does not look at."""
    ignorable: bool = False
    """The scheduler goes on without it when it fails."""
    certificate_authority: bytes = b""
    client_certificate: bytes = b""
    client_key: bytes = b""
    """PEM."""
    server_name: str = ""
    insecure: bool = False


class ExtenderError(Exception):
    """The extender could not be asked, or said that it failed."""


@dataclass(frozen=True, slots=True)
class Filtered:
    """The nodes that are left, and by the names of others why they will not do; `hopeless` whatever pods leave them."""

    nodes: list[NodeInfo]
    failed: Mapping[str, str] = field(default_factory=dict)
    hopeless: Mapping[str, str] = field(default_factory=dict)


class Extender(Protocol):
    """All methods that ask raise ExtenderError."""

    @property
    def config(self) -> ExtenderConfig: ...

    async def filter(self, pod: PodInfo, nodes: Sequence[NodeInfo]) -> Filtered: ...

    async def prioritize(self, pod: PodInfo, nodes: Sequence[NodeInfo]) -> Mapping[str, int]:
        """Scores from 0 to 10 by the nodes' names."""

    async def preempt(self, pod: PodInfo, candidates: Sequence[Candidate], cache: Cache) -> list[Candidate]:
        """The candidates that are left, with the victims that it wants."""

    async def bind(self, pod: PodInfo, node: str) -> None: ...

    async def close(self) -> None: ...


def is_interested(extender: Extender, pod: PodInfo) -> bool:
    managed = extender.config.managed_resources
    if not managed:
        return True
    containers = [*(pod.spec.get("containers") or ()), *(pod.spec.get("initContainers") or ())]
    asked = (one.get("resources") or {} for one in containers)
    return any(name in managed for one in asked for kind in ("requests", "limits") for name in one.get(kind) or ())


class HTTPExtender:
    def __init__(self, config: ExtenderConfig, clock: Clock) -> None:
        # imported here because it costs start time
        from kubecore.client.http import HTTPTransport

        self.config = config
        self._clock = clock
        self._transport = HTTPTransport(
            Kubeconfig(
                server=config.url.rstrip("/"),
                certificate_authority=config.certificate_authority,
                client_certificate=config.client_certificate,
                client_key=config.client_key,
                insecure_skip_tls_verify=config.insecure,
                tls_server_name=config.server_name,
            ),
            user_agent="kube-scheduler",
        )

    async def close(self) -> None:
        await self._transport.close()

    async def filter(self, pod: PodInfo, nodes: Sequence[NodeInfo]) -> Filtered:
        if not self.config.filter_verb:
            return Filtered(list(nodes))
        answer = _fields(await self._send(self.config.filter_verb, self._arguments(pod, nodes)))
        if error := answer.get("error"):
            raise ExtenderError(error)
        known = {node.name: node for node in nodes}
        names = answer.get("nodenames") if self.config.node_cache_capable else None
        if names is None:
            names = [meta.name(node) for node in (answer.get("nodes") or {}).get("items") or ()]
        for name in names:
            if name not in known:
                raise ExtenderError(
                    f'extender "{self.config.url}" claims a filtered node "{name}" which is not found in the input '
                    "node list"
                )
        hopeless = answer.get("failedandunresolvablenodes") or {}
        failed = {name: why for name, why in (answer.get("failednodes") or {}).items() if name not in hopeless}
        return Filtered([known[name] for name in names], failed, hopeless)

    async def prioritize(self, pod: PodInfo, nodes: Sequence[NodeInfo]) -> Mapping[str, int]:
        if not self.config.prioritize_verb:
            return {}
        answer = await self._send(self.config.prioritize_verb, self._arguments(pod, nodes))
        scores: dict[str, int] = {}
        for one in map(_fields, answer or ()):
            scores[one.get("host", "")] = scores.get(one.get("host", ""), 0) + int(one.get("score") or 0)
        return scores

    async def preempt(self, pod: PodInfo, candidates: Sequence[Candidate], cache: Cache) -> list[Candidate]:
        answer = _fields(await self._send(self.config.preempt_verb, self._victims(pod, candidates)))
        return [
            self._candidate(node, _fields(given or {}), cache)
            for node, given in (answer.get("nodenametometavictims") or {}).items()
        ]

    async def bind(self, pod: PodInfo, node: str) -> None:
        name = meta.name(pod.obj)
        asked = {"PodName": name, "PodNamespace": pod.namespace, "PodUID": pod.uid, "Node": node}
        answer = _fields(await self._send(self.config.bind_verb, asked))
        if error := answer.get("error"):
            raise ExtenderError(error)

    # ------------------------------------------------------------------ what is sent
    def _arguments(self, pod: PodInfo, nodes: Sequence[NodeInfo]) -> JSON:
        if self.config.node_cache_capable:
            return {"Pod": pod.obj, "Nodes": None, "NodeNames": [node.name for node in nodes]}
        return {"Pod": pod.obj, "Nodes": {"metadata": {}, "items": [node.obj for node in nodes]}, "NodeNames": None}

    def _victims(self, pod: PodInfo, candidates: Sequence[Candidate]) -> JSON:
        def told(one: Candidate) -> JSON:
            if self.config.node_cache_capable:
                pods: list[Object] = [{"UID": victim.uid} for victim in one.victims]
            else:
                pods = [victim.obj for victim in one.victims]
            return {"Pods": pods, "NumPDBViolations": one.violations}

        by_node = {one.node: told(one) for one in candidates}
        whole, named = (None, by_node) if self.config.node_cache_capable else (by_node, None)
        return {"Pod": pod.obj, "NodeNameToVictims": whole, "NodeNameToMetaVictims": named}

    def _candidate(self, name: str, given: JSON, cache: Cache) -> Candidate:
        node = cache.node(name)
        if node is None:
            raise ExtenderError(f'nodeinfo not found for node name "{name}"')
        there = {pod.uid: pod for pod in node.pods.values()}
        victims = []
        for one in map(_fields, given.get("pods") or ()):
            if one.get("uid") not in there:
                raise ExtenderError(
                    f"extender: {self.config.url} claims to preempt pod (UID: {one.get('uid', '')}) on node: {name}, "
                    "but the pod is not found on that node"
                )
            victims.append(there[one["uid"]])
        return Candidate(name, tuple(victims), int(given.get("numpdbviolations") or 0))

    async def _send(self, verb: str, asked: JSON) -> Any:
        """The answer, decoded."""
        url = f"{self.config.url.rstrip('/')}/{verb}"
        try:
            async with self._clock.outside(self.config.timeout):
                status, body = await self._transport.request("POST", f"/{verb}", body=orjson.dumps(asked))
        except TimeoutError:
            raise ExtenderError(f'Post "{url}": no answer within {durations.text(self.config.timeout)}') from None
        except OSError as error:
            raise ExtenderError(f'Post "{url}": {error}') from error
        if status != HTTPStatus.OK:
            raise ExtenderError(f"failed {verb} with extender at URL {url}, code {status}")
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise ExtenderError(f"answer of the extender at URL {url}: {error}") from None


def _fields(given: Any) -> JSON:
    """By their names in small letters. Raises ExtenderError for what is no object."""
    if not isinstance(given, dict):
        raise ExtenderError(f"the extender answers no object but {str(given)[:100]!r}")
    return {name.lower(): value for name, value in given.items()}
