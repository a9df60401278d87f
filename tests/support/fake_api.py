"""A small API server in memory, for the tests of everything that speaks through kubecore.client.

It is honest where components depend on it: resourceVersions and conflicts, generation, no-op writes, watches with
selectors, bookmarks and 410, finalizers and graceful deletion, propagation policies, terminating namespaces, status,
binding and finalize subresources. It does not validate, default or authorize; strategic merge patches merge lists only
by the keys in `_MERGE_KEYS`.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import unquote

import orjson

from kubecore.api import errors, meta, scheme
from kubecore.api.errors import StatusError
from kubecore.api.scheme import Resource
from kubecore.client.client import Client
from kubecore.client.informer import InformerFactory
from kubecore.client.transport import Event
from kubecore.clock import Clock
from tests.support.fake_patch import merge_patch, strategic_patch
from tests.support.fake_reviews import Rights
from tests.support.fake_selectors import field_selector, label_selector

Object = dict[str, Any]
Predicate = Callable[[Object], bool]

_STATUS_ON_CREATE = ("nodes", "customresourcedefinitions.apiextensions.k8s.io")


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    resource: Resource
    namespace: str
    name: str
    subresource: str
    body: Any
    query: Mapping[str, str]

    @property
    def verb(self) -> str:
        """As in `create pods`, `update deployments.apps/status`: what tests look for."""
        verbs = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
        return f"{verbs[self.method]} {self.resource.key}" + (f"/{self.subresource}" if self.subresource else "")


@dataclass(slots=True)
class _Change:
    revision: int
    resource: Resource
    old: Object | None
    new: Object | None


@dataclass(eq=False, slots=True)
class _Watcher:
    resource: Resource
    namespace: str
    matches: Predicate
    queue: list[Event] = field(default_factory=list)
    ended: bool = False
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    def see(self, change: _Change) -> None:
        if change.resource.key != self.resource.key:
            return
        old = change.old is not None and self._wants(change.old)
        new = change.new is not None and self._wants(change.new)
        if not old and not new:
            return
        shown = change.new if new else change.old
        assert shown is not None
        kind = "ADDED" if not old else "MODIFIED" if new else "DELETED"
        if kind == "DELETED":
            shown = meta.deepcopy(shown)
            shown["metadata"]["resourceVersion"] = str(change.revision)
        self.queue.append(Event(kind, orjson.dumps(shown)))
        self.woken.set()

    def _wants(self, obj: Object) -> bool:
        return (not self.namespace or meta.namespace(obj) == self.namespace) and self.matches(obj)


class FakeAPI:
    """Satisfies kubecore.client.transport.Transport. `requests` records all writes, in order."""

    def __init__(self, clock: Clock, *, namespaces: tuple[str, ...] = ("default", "kube-system")) -> None:
        self.clock = clock
        self.revision = 1
        self.requests: list[Request] = []
        self.rights = Rights()
        self._objects: dict[tuple[str, str, str], Object] = {}
        self._history: list[_Change] = []
        self._compacted = 0
        self._watchers: set[_Watcher] = set()
        self._reactions: list[tuple[str, StatusError | OSError, int]] = []
        for name in namespaces:
            self.add("namespaces", {"metadata": {"name": name}, "spec": {"finalizers": ["kubernetes"]}})

    # ------------------------------------------------------------------ for tests
    def client(self, field_manager: str = "test") -> Client:
        return Client(self, field_manager=field_manager)

    def informers(self) -> InformerFactory:
        return InformerFactory(self.client(), self.clock)

    def add(self, resource: str, obj: Object, namespace: str = "") -> Object:
        """Put an object in as given, status too, without a request."""
        known = scheme.default().resource(resource)
        obj = meta.deepcopy(obj)
        if known.namespaced:
            obj["metadata"].setdefault("namespace", namespace or "default")
        return meta.deepcopy(self._insert(known, obj))

    def get(self, resource: str, name: str, namespace: str = "default") -> Object | None:
        known = scheme.default().resource(resource)
        found = self._objects.get((known.key, namespace if known.namespaced else "", name))
        return meta.deepcopy(found) if found is not None else None

    def all(self, resource: str, namespace: str = "") -> list[Object]:
        return [
            meta.deepcopy(obj)
            for (key, space, _), obj in sorted(self._objects.items())
            if key == resource and (not namespace or space == namespace)
        ]

    def change(self, resource: str, name: str, namespace: str = "default", **sections: Any) -> Object:
        """Merge `sections` (spec=..., status=..., metadata=...) into an object, without a request."""
        known = scheme.default().resource(resource)
        key = (known.key, namespace if known.namespaced else "", name)
        return meta.deepcopy(self._replace(known, key, merge_patch(self._objects[key], sections), own_status=True))

    def remove(self, resource: str, name: str, namespace: str = "default") -> None:
        """Take an object away at once, whatever its finalizers say."""
        known = scheme.default().resource(resource)
        self._drop(known, (known.key, namespace if known.namespaced else "", name))

    def react(self, verb: str, error: StatusError | OSError, times: int = 1) -> None:
        """Refuse the next `times` requests of that verb ("create pods") with `error`."""
        self._reactions.append((verb, error, times))

    def compact(self) -> None:
        """Forget all history: watches from before now get 410."""
        self._history.clear()
        self._compacted = self.revision

    def end_watches(self) -> None:
        """End every watch under way, as a server that goes down does."""
        for watcher in self._watchers:
            watcher.ended = True
            watcher.woken.set()

    def is_watched(self, resource: str) -> bool:
        return self.watches(resource) > 0

    def watches(self, resource: str) -> int:
        """How many watches of it are open."""
        return sum(1 for watcher in self._watchers if watcher.resource.key == resource)

    def writes(self, verb: str = "") -> list[Request]:
        return [request for request in self.requests if not verb or request.verb == verb]

    # ------------------------------------------------------------------ the transport
    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> tuple[int, bytes]:
        await asyncio.sleep(0)
        if path == "/apis":
            return 200, orjson.dumps(_groups())
        try:
            request = self._parse(method, path, query or {}, orjson.loads(body) if body else None)
            if method != "GET":
                self.requests.append(request)
            self._refuse(request)
            return (201 if method == "POST" else 200), orjson.dumps(self._serve(request, content_type))
        except StatusError as error:
            return error.code, error.to_json()

    async def watch(self, path: str, *, query: Mapping[str, str] | None = None) -> AsyncGenerator[list[Event], None]:
        await asyncio.sleep(0)
        query = query or {}
        request = self._parse("GET", path, query, None)
        watcher = _Watcher(request.resource, request.namespace, self._filter(request))
        start = int(query.get("resourceVersion") or 0)
        if start and start < self._compacted:
            gone = errors.expired(f"too old resource version: {start} ({self._compacted})")
            yield [Event("ERROR", gone.to_json())]
            return
        if start:
            for change in self._history:
                if change.revision > start:
                    watcher.see(change)
        else:
            watcher.queue = [Event("ADDED", orjson.dumps(item)) for item in self._list(request)]
        self._watchers.add(watcher)
        try:
            while not watcher.ended or watcher.queue:
                if watcher.queue:
                    batch, watcher.queue = watcher.queue, []
                    yield batch
                    continue
                watcher.woken.clear()
                await watcher.woken.wait()
        finally:
            self._watchers.discard(watcher)

    async def close(self) -> None:
        self.end_watches()

    # ------------------------------------------------------------------ requests
    def _parse(self, method: str, path: str, query: Mapping[str, str], body: Any) -> Request:
        parts = [unquote(part) for part in path.strip("/").split("/")]
        group, version, rest = ("", parts[1], parts[2:]) if parts[0] == "api" else (parts[1], parts[2], parts[3:])
        namespace = ""
        if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
            namespace, rest = rest[1], rest[2:]
        resource = scheme.default().lookup(group, version, rest[0])
        if resource is None:
            raise errors.no_such_path()
        name = rest[1] if len(rest) > 1 else ""
        return Request(method, resource, namespace, name, rest[2] if len(rest) > 2 else "", body, query)

    def _refuse(self, request: Request) -> None:
        for index, (verb, error, times) in enumerate(self._reactions):
            if verb == request.verb:
                self._reactions[index] = (verb, error, times - 1)
                if times <= 1:
                    del self._reactions[index]
                raise error

    def _serve(self, request: Request, content_type: str) -> Object:
        key = (request.resource.key, request.namespace, request.name)
        if request.method == "GET":
            return self._find(request) if request.name else self._list_answer(request)
        if request.method == "POST":
            reviewed = self.rights.answer(request.resource.plural, request.body)
            if reviewed is not None:
                return reviewed
            return self._bind(request) if request.subresource == "binding" else self._create(request)
        if request.method == "PUT":
            current = self._find(request)
            self._check_version(request, request.body, current)
            return self._write(request, key, request.body)
        if request.method == "PATCH":
            current = self._find(request)
            merge = strategic_patch if content_type.startswith("application/strategic") else merge_patch
            patched = merge(current, request.body)
            self._check_version(request, patched, current)
            return self._write(request, key, patched)
        if request.name:
            return self._delete(request, key)
        for item in self._list(request):
            self._delete(request, (request.resource.key, meta.namespace(item), meta.name(item)))
        return {"kind": "Status", "apiVersion": "v1", "status": "Success"}

    def _find(self, request: Request) -> Object:
        found = self._objects.get((request.resource.key, request.namespace, request.name))
        if found is None:
            raise errors.not_found(request.resource.group, request.resource.plural, request.name)
        return found

    def _filter(self, request: Request) -> Predicate:
        labels = label_selector(request.query.get("labelSelector", ""))
        fields = field_selector(request.query.get("fieldSelector", ""))
        return lambda obj: labels(meta.labels(obj)) and fields(obj)

    def _list(self, request: Request) -> list[Object]:
        matches = self._filter(request)
        return [
            obj
            for (key, space, _), obj in sorted(self._objects.items())
            if key == request.resource.key and request.namespace in ("", space) and matches(obj)
        ]

    def _list_answer(self, request: Request) -> Object:
        items = self._list(request)
        start = int(request.query.get("continue") or 0)
        limit = int(request.query.get("limit") or 0) or len(items)
        metadata = {"resourceVersion": str(self.revision)}
        if start + limit < len(items):
            metadata["continue"] = str(start + limit)
        page = [{k: v for k, v in item.items() if k not in ("kind", "apiVersion")} for item in items[start:][:limit]]
        kind, version = request.resource.kind + "List", request.resource.api_version
        return {"kind": kind, "apiVersion": version, "metadata": metadata, "items": page}

    # ------------------------------------------------------------------ writes
    def _create(self, request: Request) -> Object:
        resource, obj = request.resource, meta.deepcopy(request.body)
        metadata = obj.setdefault("metadata", {})
        if metadata.get("resourceVersion"):
            raise errors.bad_request("resourceVersion should not be set on objects to be created")
        if resource.namespaced:
            self._check_namespace(request)
            metadata["namespace"] = request.namespace
        if not metadata.get("name"):
            metadata["name"] = meta.generate_name(metadata["generateName"])
        if (resource.key, request.namespace, metadata["name"]) in self._objects:
            raise errors.already_exists(resource.group, resource.plural, metadata["name"])
        for name in ("uid", "creationTimestamp", "deletionTimestamp"):
            metadata.pop(name, None)
        if "status" in resource.subresources and resource.key not in _STATUS_ON_CREATE:
            obj.pop("status", None)
        if resource.key == "pods":
            obj["status"] = {"phase": "Pending"}
        if resource.key == "namespaces":
            obj.setdefault("spec", {})["finalizers"] = ["kubernetes"]
            obj["status"] = {"phase": "Active"}
        return self._insert(resource, obj)

    def _check_namespace(self, request: Request) -> None:
        space = self._objects.get(("namespaces", "", request.namespace))
        if space is None:
            raise errors.not_found("", "namespaces", request.namespace)
        if meta.is_deleting(space):
            message = f"unable to create new content in namespace {request.namespace} because it is being terminated"
            cause = errors.Cause("NamespaceTerminating", f"namespace {request.namespace} is being terminated")
            raise errors.forbidden(
                request.resource.group, request.resource.plural, request.name, message, causes=[cause]
            )

    def _insert(self, resource: Resource, obj: Object) -> Object:
        self.revision += 1
        metadata = obj["metadata"]
        metadata.setdefault("uid", str(uuid.uuid4()))
        metadata.setdefault("creationTimestamp", meta.format_time(self.clock.now()))
        metadata["resourceVersion"] = str(self.revision)
        if "spec" in obj:
            metadata.setdefault("generation", 1)
        obj = {"apiVersion": resource.api_version, "kind": resource.kind, **obj}
        self._objects[resource.key, metadata.get("namespace", ""), metadata["name"]] = obj
        self._record(_Change(self.revision, resource, None, obj))
        return obj

    def _check_version(self, request: Request, obj: Object, current: Object) -> None:
        wanted = meta.resource_version(obj)
        if wanted and wanted != meta.resource_version(current):
            raise errors.conflict(request.resource.group, request.resource.plural, request.name)

    def _write(self, request: Request, key: tuple[str, str, str], obj: Object) -> Object:
        current = self._objects[key]
        if request.subresource == "status":
            # metadata other than labels and annotations is not a status writer's to change
            obj = {**current, "metadata": obj["metadata"], "status": obj.get("status", {})}
        if request.subresource == "finalize":
            spec = {**current["spec"], "finalizers": (obj.get("spec") or {}).get("finalizers") or []}
            obj = {**current, "spec": spec}
        own_status = request.subresource == "status" or "status" not in request.resource.subresources
        return self._replace(request.resource, key, obj, own_status=own_status)

    def _replace(self, resource: Resource, key: tuple[str, str, str], obj: Object, *, own_status: bool) -> Object:
        current, obj = self._objects[key], meta.deepcopy(obj)
        for name in ("uid", "creationTimestamp", "generation", "deletionTimestamp", "resourceVersion"):
            obj["metadata"].pop(name, None)
            if name in current["metadata"]:
                obj["metadata"][name] = current["metadata"][name]
        if not own_status:
            obj.pop("status", None)
            if "status" in current:
                obj["status"] = current["status"]
        if obj.get("spec") != current.get("spec") and key[0] != "namespaces":
            obj["metadata"]["generation"] = current["metadata"].get("generation", 0) + 1
        if obj == current:
            return current
        return self._store(resource, key, obj)

    def _store(self, resource: Resource, key: tuple[str, str, str], obj: Object) -> Object:
        current = self._objects[key]
        spec_finalizers = key[0] == "namespaces" and obj["spec"].get("finalizers")
        if meta.is_deleting(obj) and not meta.finalizers(obj) and not spec_finalizers:
            grace = obj["metadata"].get("deletionGracePeriodSeconds", 0)
            if not grace or key[0] == "namespaces":
                self._objects[key] = obj
                self._drop(resource, key)
                return obj
        self.revision += 1
        obj["metadata"]["resourceVersion"] = str(self.revision)
        self._objects[key] = obj
        self._record(_Change(self.revision, resource, current, obj))
        return obj

    def _bind(self, request: Request) -> Object:
        key = (request.resource.key, request.namespace, request.name)
        pod = meta.deepcopy(self._find(request))
        if pod["spec"].get("nodeName"):
            detail = f'pod {request.name} is already assigned to node "{pod["spec"]["nodeName"]}"'
            raise errors.conflict("", "pods/binding", request.name, detail)
        pod["spec"]["nodeName"] = request.body["target"]["name"]
        conditions = pod.setdefault("status", {}).setdefault("conditions", [])
        conditions[:] = [c for c in conditions if c["type"] != "PodScheduled"]
        conditions.append({"type": "PodScheduled", "status": "True"})
        self._store(request.resource, key, pod)
        return {"kind": "Status", "apiVersion": "v1", "status": "Success"}

    # ------------------------------------------------------------------ deletion
    def _delete(self, request: Request, key: tuple[str, str, str]) -> Object:
        resource, options = request.resource, request.body or {}
        current = self._objects.get(key)
        if current is None:
            raise errors.not_found(resource.group, resource.plural, key[2])
        for name, value in (options.get("preconditions") or {}).items():
            if current["metadata"].get(name) != value:
                detail = f"Precondition failed: {name} in precondition: {value}"
                raise errors.conflict(resource.group, resource.plural, key[2], detail)
        obj = meta.deepcopy(current)
        finalizers = obj["metadata"].setdefault("finalizers", [])
        policy = options.get("propagationPolicy")
        if policy:
            finalizers[:] = [one for one in finalizers if one not in ("foregroundDeletion", "orphan")]
            finalizers += {"Foreground": ["foregroundDeletion"], "Orphan": ["orphan"]}.get(policy, [])
        if not finalizers:
            del obj["metadata"]["finalizers"]
        grace = self._grace(key[0], obj, options)
        held = finalizers or grace or (key[0] == "namespaces" and obj["spec"].get("finalizers"))
        if not held:
            self._drop(resource, key)
            return obj
        if not meta.is_deleting(obj) or grace < obj["metadata"].get("deletionGracePeriodSeconds", 0):
            obj["metadata"]["deletionTimestamp"] = meta.format_time(self.clock.now() + timedelta(seconds=grace))
            obj["metadata"]["deletionGracePeriodSeconds"] = grace
            if key[0] == "namespaces":
                obj["status"] = {**obj.get("status", {}), "phase": "Terminating"}
        return current if obj == current else self._store(resource, key, obj)

    def _grace(self, resource: str, obj: Object, options: Object) -> int:
        if resource != "pods" or not obj["spec"].get("nodeName"):
            return 0
        if obj.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            return 0
        wanted = options.get("gracePeriodSeconds")
        return int(wanted if wanted is not None else obj["spec"].get("terminationGracePeriodSeconds", 30))

    def _drop(self, resource: Resource, key: tuple[str, str, str]) -> None:
        self.revision += 1
        self._record(_Change(self.revision, resource, self._objects.pop(key), None))

    def _record(self, change: _Change) -> None:
        self._history.append(change)
        for watcher in self._watchers:
            watcher.see(change)


def _groups() -> Object:
    groups = [
        {
            "name": group.name,
            "versions": [{"version": v} for v in group.versions],
            "preferredVersion": {"version": "v1"},
        }
        for group in scheme.default().groups()
        if group.name
    ]
    return {"kind": "APIGroupList", "groups": groups}
