"""Typed verbs over a transport: paths, bodies and errors of the Kubernetes API, objects as plain dicts."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import msgspec
import orjson

from kubecore.api import errors, scheme
from kubecore.api.amendment import Amendment, PodName
from kubecore.api.errors import StatusError
from kubecore.api.scheme import Resource
from kubecore.client.transport import (
    AmendsPods,
    BindsPods,
    InProcess,
    ManyAtOnce,
    RenewsLeases,
    Transport,
    WatchEvent,
)

Object = dict[str, Any]

PATCH_TYPES = {
    "strategic": "application/strategic-merge-patch+json",
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "apply": "application/apply-patch+yaml",
}

_LEASES = "leases.coordination.k8s.io"

Outcomes = list[bytes | Exception]

_PAGE = 500
_AT_ONCE = 16
_is_plain = re.compile(r"[A-Za-z0-9._-]+").fullmatch


@dataclass(frozen=True, slots=True)
class ObjectList:
    """Items of a list and the resourceVersion they were all read at."""

    items: list[Object]
    resource_version: str


@dataclass(frozen=True, slots=True)
class RawList:
    """Items of a list, each still JSON bytes without kind and apiVersion, and their common resourceVersion."""

    items: list[bytes]
    resource_version: str


class _ListMeta(msgspec.Struct):
    resourceVersion: str = ""
    # `continue` is a keyword in Python
    continue_token: str = msgspec.field(name="continue", default="")


class _RawListBody(msgspec.Struct):
    metadata: _ListMeta
    items: list[msgspec.Raw] | None = None


_LIST_DECODER = msgspec.json.Decoder(_RawListBody)


class Client:
    """One identity's door to the API.

    `resource` is everywhere a group resource key: "pods", "deployments.apps". Objects are plain dicts as JSON decodes
    them. Every refusal raises kubecore.api.errors.StatusError; an unreachable server raises OSError.
    """

    def __init__(self, transport: Transport, *, field_manager: str) -> None:
        self.transport = transport
        self.field_manager = field_manager
        self._learnt: dict[str, Resource] = {}
        self._roots: dict[str, tuple[str, str, bool]] = {}
        # Settled once: asking a Protocol whether something complies with it takes longer than a small request.
        self._many = transport if isinstance(transport, ManyAtOnce) else None
        self._in_process = isinstance(transport, InProcess)
        self._amends = transport if isinstance(transport, AmendsPods) else None
        self._binds = transport if isinstance(transport, BindsPods) else None
        self._renews = transport if isinstance(transport, RenewsLeases) else None

    # ------------------------------------------------------------------ names
    def resource(self, key: str) -> Resource:
        """The served version of a resource key that this client speaks; KeyError for an unknown key."""
        return self._learnt.get(key) or scheme.default().resource(key)

    def learn(self, resource: Resource) -> None:
        """Make a resource that is not built in (found in discovery) known to this client under its key."""
        self._learnt[resource.key] = resource
        self._roots.pop(resource.key, None)

    def resource_for_kind(self, api_version: str, kind: str) -> Resource | None:
        """The resource whose objects are of this kind, built in or learnt."""
        group, version = scheme.split_group_version(api_version)
        found = scheme.default().for_kind(group, version, kind)
        if found is not None:
            return found
        learnt = (one for one in self._learnt.values() if one.group == group and one.kind == kind)
        return next(learnt, None)

    def is_near(self, resource: str) -> bool:
        """Whether it is served in this process, so that no connection can be dead without anybody knowing: who serves
        what was found in discovery may be elsewhere all the same."""
        return self._in_process and resource not in self._learnt

    def path(self, resource: str, namespace: str = "", name: str = "", subresource: str = "") -> str:
        root, plural, namespaced = self._roots.get(resource) or self._root(resource)
        path = f"{root}/namespaces/{_quoted(namespace)}/{plural}" if namespace and namespaced else f"{root}/{plural}"
        if name:
            path = f"{path}/{_quoted(name)}"
        return f"{path}/{subresource}" if subresource else path

    def _root(self, resource: str) -> tuple[str, str, bool]:
        known = self.resource(resource)
        root = f"/apis/{known.group}/{known.version}" if known.group else f"/api/{known.version}"
        found = self._roots[resource] = root, known.plural, known.namespaced
        return found

    # ------------------------------------------------------------------ reading
    async def get(self, resource: str, name: str, namespace: str = "", *, subresource: str = "") -> Object:
        return await self._call("GET", self.path(resource, namespace, name, subresource))

    async def find(self, resource: str, name: str, namespace: str = "", *, subresource: str = "") -> Object | None:
        """As `get`; None if there is none. Raises StatusError for what else is wrong."""
        try:
            return await self.get(resource, name, namespace, subresource=subresource)
        except StatusError as error:
            if errors.is_not_found(error):
                return None
            raise

    async def list(
        self,
        resource: str,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = _PAGE,
        resource_version: str = "",
    ) -> ObjectList:
        """All matching objects, read page by page (`limit` objects each; 0: all at once) at one resourceVersion."""
        raw = await self.list_raw(
            resource,
            namespace,
            label_selector=label_selector,
            field_selector=field_selector,
            limit=limit,
            resource_version=resource_version,
        )
        known = self.resource(resource)
        items: list[Object] = []
        for one in raw.items:
            item: Object = orjson.loads(one)
            item.setdefault("apiVersion", known.api_version)
            item.setdefault("kind", known.kind)
            items.append(item)
        return ObjectList(items, raw.resource_version)

    async def list_raw(
        self,
        resource: str,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 0,
        resource_version: str = "",
    ) -> RawList:
        """Like `list`, without decoding the items."""
        query = _selectors(label_selector, field_selector)
        if resource_version:
            query["resourceVersion"] = resource_version
        if limit:
            query["limit"] = str(limit)
        path = self.path(resource, namespace)
        items: list[bytes] = []
        while True:
            page = _LIST_DECODER.decode(await self.request("GET", path, query=query))
            items += map(bytes, page.items or ())
            if not page.metadata.continue_token:
                return RawList(items, page.metadata.resourceVersion)
            query["continue"] = page.metadata.continue_token
            query.pop("resourceVersion", None)

    def watch(
        self,
        resource: str,
        namespace: str = "",
        *,
        resource_version: str = "",
        label_selector: str = "",
        field_selector: str = "",
        bookmarks: bool = True,
        timeout_seconds: int | None = None,
    ) -> AsyncIterator[Sequence[WatchEvent]]:
        """Batches of events after `resource_version` (empty: the present state first, as ADDED events).

        Ends when the server ends it. Most consumers want an informer, which resumes and lists anew by itself.
        """
        query = _selectors(label_selector, field_selector)
        query["watch"] = "true"
        if resource_version:
            query["resourceVersion"] = resource_version
        if bookmarks:
            query["allowWatchBookmarks"] = "true"
        if timeout_seconds is not None:
            query["timeoutSeconds"] = str(timeout_seconds)
        return self.transport.watch(self.path(resource, namespace), query=query)

    # ------------------------------------------------------------------ writing
    async def create(
        self, resource: str, obj: Object, namespace: str = "", *, name: str = "", subresource: str = ""
    ) -> Object:
        """Create `obj` in `namespace` (else its own); with `name` and `subresource`, POST to a pod's binding, say."""
        made: Object = orjson.loads(await self.post(resource, obj, namespace, name=name, subresource=subresource))
        return made

    async def post(
        self, resource: str, obj: Object, namespace: str = "", *, name: str = "", subresource: str = ""
    ) -> bytes:
        """`create` for those who do not need all of what was made: the answer as it came."""
        namespace = namespace or _namespace(obj)
        return await self._send("POST", self.path(resource, namespace, name, subresource), obj)

    async def post_all(self, resource: str, objects: Iterable[Object], namespace: str = "") -> Outcomes:
        """`post` of each, of the same collection, many at once: what was answered, or how it failed."""
        path = self.path(resource, namespace)
        query, bodies = {"fieldManager": self.field_manager}, _encoded(objects)
        if self._many is not None:
            answers = await self._many.create_all(path, bodies, query=query)
            return [body if code < 400 else StatusError.from_body(code, body) for code, body in answers]
        outcomes: Outcomes = []
        for start in range(0, len(bodies), _AT_ONCE):
            some = bodies[start : start + _AT_ONCE]
            outcomes += await asyncio.gather(*(self._outcome(path, query, body) for body in some))
        return outcomes

    async def _outcome(self, path: str, query: Mapping[str, str], body: bytes) -> bytes | Exception:
        try:
            return await self.request("POST", path, query=query, body=body)
        except Exception as error:
            return error

    async def update(self, resource: str, obj: Object, *, subresource: str = "") -> Object:
        """Replace the object `obj` names; a resourceVersion in it must be the present one, else 409 Conflict."""
        written: Object = orjson.loads(await self.put(resource, obj, subresource=subresource))
        return written

    async def put(self, resource: str, obj: Object, *, subresource: str = "") -> bytes:
        """`update` for those who do not need all of what was written: the answer as it came."""
        path = self.path(resource, _namespace(obj), obj["metadata"]["name"], subresource)
        if subresource == "status" and resource not in self._learnt:
            # The server takes the spec from what it has, so that it need not be sent, or looked at there.
            obj = {name: part for name, part in obj.items() if name != "spec"}
        return await self._send("PUT", path, obj)

    async def patch(
        self,
        resource: str,
        name: str,
        patch: Any,
        namespace: str = "",
        *,
        patch_type: str = "strategic",
        subresource: str = "",
    ) -> Object:
        """`patch_type` is strategic, merge, json or apply."""
        answer = self.patch_raw(resource, name, patch, namespace, patch_type=patch_type, subresource=subresource)
        patched: Object = orjson.loads(await answer)
        return patched

    async def patch_raw(
        self,
        resource: str,
        name: str,
        patch: Any,
        namespace: str = "",
        *,
        patch_type: str = "strategic",
        subresource: str = "",
    ) -> bytes:
        """`patch` for those who do not need all of what was written: the answer as it came."""
        path = self.path(resource, namespace, name, subresource)
        return await self._send("PATCH", path, patch, PATCH_TYPES[patch_type])

    async def apply(self, resource: str, obj: Object, *, manager: str, subresource: str = "") -> None:
        """Server-side apply, by force, of what `obj` says; `manager` then owns that and nothing else."""
        path = self.path(resource, _namespace(obj), obj["metadata"]["name"], subresource)
        query = {"fieldManager": manager, "force": "true"}
        await self.request("PATCH", path, query=query, body=orjson.dumps(obj), content_type=PATCH_TYPES["apply"])

    async def amend_pods(self, amendments: Sequence[Amendment]) -> Outcomes | None:
        """What was answered to each, or how it failed; None where pods have to be patched, and deleted."""
        if self._amends is None:
            return None
        answers = await self._amends.amend_pods(amendments, query={"fieldManager": self.field_manager})
        if answers is None:
            return None
        return [body if code < 400 else StatusError.from_body(code, body) for code, body in answers]

    async def bind_pod(self, pod: PodName, node: str) -> None:
        """Put the pod onto the node."""
        query = {"fieldManager": self.field_manager}
        if self._binds is not None and await self._binds.bind_pod(pod, node, query=query):
            return
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": pod._asdict(),
            "target": {"kind": "Node", "name": node},
        }
        await self.post("pods", binding, pod.namespace, name=pod.name, subresource="binding")

    async def renew_lease(self, lease: Object, renew_time: str) -> Object:
        """`update` of a lease, which is as the API told of it, with another renewTime (`meta.format_micro_time`)."""
        if self._renews is not None:
            namespace, name, version = map(lease["metadata"].get, ("namespace", "name", "resourceVersion"))
            query = {"fieldManager": self.field_manager}
            answer = await self._renews.renew_lease(namespace, name, version, renew_time, query=query)
            if answer is not None:
                renewed: Object = orjson.loads(answer)
                return renewed
        return await self.update(_LEASES, {**lease, "spec": {**lease["spec"], "renewTime": renew_time}})

    async def delete(
        self,
        resource: str,
        name: str,
        namespace: str = "",
        *,
        uid: str = "",
        resource_version: str = "",
        grace_period_seconds: int | None = None,
        propagation_policy: str = "",
    ) -> None:
        """`uid` and `resource_version` are preconditions: 409 Conflict where they do not hold."""
        options: Object = {"kind": "DeleteOptions", "apiVersion": "v1"}
        preconditions = {k: v for k, v in (("uid", uid), ("resourceVersion", resource_version)) if v}
        if preconditions:
            options["preconditions"] = preconditions
        if grace_period_seconds is not None:
            options["gracePeriodSeconds"] = grace_period_seconds
        if propagation_policy:
            options["propagationPolicy"] = propagation_policy
        await self.request("DELETE", self.path(resource, namespace, name), body=orjson.dumps(options))

    async def delete_collection(
        self,
        resource: str,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        propagation_policy: str = "",
    ) -> None:
        body = None
        if propagation_policy:
            options = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": propagation_policy}
            body = orjson.dumps(options)
        query = _selectors(label_selector, field_selector)
        await self.request("DELETE", self.path(resource, namespace), query=query, body=body)

    # ------------------------------------------------------------------ the wire
    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> bytes:
        """The body of a successful answer; raises StatusError for any other."""
        code, answer = await self.transport.request(
            method, path, query=query or {}, body=body, content_type=content_type
        )
        if code >= 400:
            raise StatusError.from_body(code, answer)
        return answer

    async def _call(
        self, method: str, path: str, *, body: Any = None, content_type: str = "application/json"
    ) -> Object:
        answer: Object = orjson.loads(await self._send(method, path, body, content_type))
        return answer

    async def _send(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> bytes:
        query = {"fieldManager": self.field_manager} if method != "GET" else {}
        data = None if body is None else orjson.dumps(body)
        return await self.request(method, path, query=query, body=data, content_type=content_type)

    async def close(self) -> None:
        await self.transport.close()


def _quoted(name: str) -> str:
    """As a part of a path. Almost all names need nothing done."""
    return name if _is_plain(name) else quote(name, safe="")


def _encoded(objects: Iterable[Object]) -> list[bytes]:
    """The very same object gives the very same bytes."""
    bodies: list[bytes] = []
    last: Object | None = None
    for one in objects:
        bodies.append(bodies[-1] if one is last else orjson.dumps(one))
        last = one
    return bodies


def _namespace(obj: Object) -> str:
    namespace: str = obj["metadata"].get("namespace", "")
    return namespace


def _selectors(label_selector: str, field_selector: str) -> dict[str, str]:
    query = {}
    if label_selector:
        query["labelSelector"] = label_selector
    if field_selector:
        query["fieldSelector"] = field_selector
    return query
