"""metrics.k8s.io: what nodes and pods use now, as `kubectl top` and autoscalers ask for it.

Nothing is collected beforehand: a request is answered from the kubelets' /stats/summary, which measure when asked.
Who asks while a kubelet is being asked hears the same answer, and no more than so many are asked at once: every
autoscaler and every `kubectl top` asks all the nodes that it is about.
After kubernetes-sigs/metrics-server; it is served here because there is no other place for it to run.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Iterable
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

import orjson

from kubecore.api import errors, meta, quantity
from kubecore.api.errors import StatusError
from kubecore.api.queries import parse_query
from kubecore.api.schemas import BuiltinKind
from kubecore.api.scheme import Resource
from kubecore.apiserver.handlers import negotiation
from kubecore.apiserver.handlers.kubelets import KubeletConnection, kubelet_of
from kubecore.apiserver.handlers.request import Request, Response
from kubecore.apiserver.handlers.served import Served
from kubecore.apiserver.handlers.transforming import shape_of
from kubecore.apiserver.registry.codec import loads
from kubecore.apiserver.tables.column import NAME, Column, KindTable

if TYPE_CHECKING:
    from datetime import datetime

    from kubecore._native import UserInfo
    from kubecore.apiserver.registry.registry import Registry

log = logging.getLogger(__name__)

JSON = dict[str, Any]

_GROUP, _VERSION = "metrics.k8s.io", "v1beta1"
_API_VERSION = f"{_GROUP}/{_VERSION}"
_TIMEOUT_SECONDS = 10
_ASKED_AT_ONCE = 64
_SELECTORS = ("labelSelector", "fieldSelector")


def _resource(kind: str, plural: str, *, namespaced: bool) -> Resource:
    key = f"{plural}.{_GROUP}"
    return Resource(
        group=_GROUP,
        version=_VERSION,
        kind=kind,
        plural=plural,
        singular="",
        namespaced=namespaced,
        verbs=frozenset({"get", "list"}),
        short_names=(),
        categories=(),
        subresources=MappingProxyType({}),
        api_version=_API_VERSION,
        key=key,
        storage_key=key,
    )


NODES = _resource("NodeMetrics", "nodes", namespaced=False)
PODS = _resource("PodMetrics", "pods", namespaced=True)
RESOURCES = (NODES, PODS)


class _Usage(NamedTuple):
    """`cpu` in billionths of a CPU, `memory` in bytes."""

    cpu: int
    memory: int
    timestamp: str
    window: float


class ResourceMetrics:
    def __init__(self, registry: Registry, kubelets: KubeletConnection) -> None:
        self._registry = registry
        self._kubelets = kubelets
        self._asked: dict[str, asyncio.Task[JSON | None]] = {}
        self._slots = asyncio.Semaphore(_ASKED_AT_ONCE)

    def served(self) -> list[Served]:
        """What is to be served, with its handlers."""
        handlers = ((NODES, self._get_node, self._list_nodes), (PODS, self._get_pod, self._list_pods))
        return [
            Served(
                resource,
                None,
                f"{_API_VERSION}/{resource.kind}",
                BuiltinKind(self._registry.schemas, f"{_API_VERSION}/{resource.kind}"),
                table=_TABLE,
                special={("", "get"): get, ("", "list"): list_all},
            )
            for resource, get, list_all in handlers
        ]

    # --- requests

    async def _list_nodes(self, request: Request, user: UserInfo, served: Served) -> Response:
        listing = self._registry.cacher.query("nodes", _selected(request.query))
        return await self._answer_list(request, served, [_metadata(item) for item in listing.items], self._of_nodes)

    async def _list_pods(self, request: Request, user: UserInfo, served: Served) -> Response:
        listing = self._registry.cacher.query("pods", _selected(request.query), request.namespace)
        return await self._answer_list(request, served, list(map(loads, listing.items)), self._of_pods)

    async def _answer_list(self, request: Request, served: Served, objects: list[JSON], measure: Any) -> Response:
        shape = shape_of(request.accept, request.query, served, self._registry.clock)
        found = [orjson.dumps(one) for one in await measure(objects)]
        body, media = negotiation.encode(shape.form, shape.many(found, None))
        return Response(200, body, media)

    async def _get_node(self, request: Request, user: UserInfo, served: Served) -> Response:
        node = self._registry.get("nodes", "", request.name)
        found = await self._of_nodes([node]) if node is not None else []
        return self._answer_one(request, served, found, "nodemetrics", request.name)

    async def _get_pod(self, request: Request, user: UserInfo, served: Served) -> Response:
        pod = self._registry.get("pods", request.namespace, request.name)
        found = await self._of_pods([pod]) if pod is not None else []
        return self._answer_one(request, served, found, "podmetrics", f"{request.namespace}/{request.name}")

    def _answer_one(self, request: Request, served: Served, found: list[JSON], plural: str, name: str) -> Response:
        if not found:
            raise errors.not_found(_GROUP, plural, name)
        shape = shape_of(request.accept, request.query, served, self._registry.clock)
        body, media = negotiation.encode(shape.form, shape.one(orjson.dumps(found[0])))
        return Response(200, body, media)

    # --- measuring

    async def _of_nodes(self, nodes: list[JSON]) -> list[JSON]:
        summaries = await self._summaries(meta.name(node) for node in nodes)
        found = []
        for node in nodes:
            told = summaries.get(meta.name(node))
            usage = _usage(told["node"]) if told is not None else None
            if usage is not None:
                found.append({**_head("NodeMetrics", node, usage), "usage": _shown(usage)})
        return found

    async def _of_pods(self, pods: list[JSON]) -> list[JSON]:
        running = [
            pod for pod in pods if pod["spec"].get("nodeName") and (pod.get("status") or {}).get("phase") == "Running"
        ]
        summaries = await self._summaries({pod["spec"]["nodeName"] for pod in running})
        told = {one["podRef"]["uid"]: one for summary in summaries.values() for one in summary.get("pods") or ()}
        found = []
        for pod in running:
            containers = (told.get(meta.uid(pod)) or {}).get("containers") or ()
            usages = [(one["name"], usage) for one in containers if (usage := _usage(one)) is not None]
            # What is incomplete would be told as less than it is.
            if usages and len(usages) == len(containers):
                oldest = min((usage for _, usage in usages), key=lambda usage: usage.timestamp)
                listed = [{"name": name, "usage": _shown(usage)} for name, usage in usages]
                found.append({**_head("PodMetrics", pod, oldest), "containers": listed})
        return found

    async def _summaries(self, nodes: Iterable[str]) -> dict[str, JSON]:
        """By node; those that do not answer are left out."""
        names = sorted(nodes)
        answers = await asyncio.gather(*map(self._summary, names))
        return {name: answer for name, answer in zip(names, answers, strict=True) if answer is not None}

    def _summary(self, node: str) -> Awaitable[JSON | None]:
        asked = self._asked.get(node)
        if asked is None:
            asked = self._asked[node] = asyncio.create_task(self._ask(node), name=f"usage of {node}")
            asked.add_done_callback(lambda _: self._asked.pop(node))
        # One who goes away takes no answer from the others.
        return asyncio.shield(asked)

    async def _ask(self, node: str) -> JSON | None:
        import aiohttp

        try:
            kubelet = kubelet_of(self._registry, node)
            url = kubelet.url("/stats/summary?only_cpu_and_memory=true")
            try:
                # Real time, as the kubelet's is; waiting for one's turn counts.
                async with (
                    asyncio.timeout(_TIMEOUT_SECONDS),
                    self._slots,
                    self._kubelets.session().get(url) as answer,
                ):
                    if answer.status != 200:
                        raise ValueError(f'request failed, status: "{answer.status} {answer.reason}"')
                    found: JSON = orjson.loads(await answer.read())
                    return found
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise ValueError(kubelet.unanswered(url, error)) from error
        except (StatusError, ValueError) as error:
            log.info("node %s does not tell what it uses: %s", node, error)
            return None


def _selected(query: str) -> str:
    """The selectors alone: there are no pages, and no revisions."""
    params = parse_query(query) if query else {}
    return urlencode({name: params[name] for name in _SELECTORS if params.get(name)})


def _metadata(item: bytes) -> JSON:
    return {"metadata": loads(item)["metadata"]}


def _usage(told: JSON) -> _Usage | None:
    """None while there is no rate yet."""
    cpu, memory = told.get("cpu") or {}, told.get("memory") or {}
    if cpu.get("usageNanoCores") is None or memory.get("workingSetBytes") is None:
        return None
    return _Usage(cpu["usageNanoCores"], memory["workingSetBytes"], cpu["time"], cpu.get("windowSeconds") or 0.0)


def _head(kind: str, obj: JSON, usage: _Usage) -> JSON:
    metadata: JSON = {"name": meta.name(obj), "creationTimestamp": usage.timestamp}
    if namespace := meta.namespace(obj):
        metadata["namespace"] = namespace
    if labels := meta.labels(obj):
        metadata["labels"] = labels
    window = f"{usage.window:.3f}".rstrip("0").rstrip(".") + "s"
    return {
        "kind": kind,
        "apiVersion": _API_VERSION,
        "metadata": metadata,
        "timestamp": usage.timestamp,
        "window": window,
    }


def _shown(usage: _Usage) -> JSON:
    # Whole kibibytes, as metrics-server has them.
    memory = usage.memory // 1024 * 1024
    return {"cpu": quantity.format_nano(usage.cpu), "memory": quantity.format_nano(memory * 10**9, binary=True)}


def _total(resource: str) -> Any:
    def cell(obj: JSON, _now: datetime) -> str:
        parts = [obj["usage"]] if "usage" in obj else [one["usage"] for one in obj["containers"]]
        total = sum(quantity.nano(part[resource]) for part in parts)
        return quantity.format_nano(total, binary=resource == "memory")

    return cell


def _window(obj: JSON, _now: datetime) -> str:
    return str(obj["window"])


_TABLE = KindTable(
    (
        NAME,
        Column("Cpu", _total("cpu"), "CPU in use."),
        Column("Memory", _total("memory"), "Memory in use."),
        Column("Window", _window, "How long it was measured for."),
    )
)
