"""What extension API servers say of themselves: their resources and specifications, kept and renewed every minute.

After upstream kube-aggregator `pkg/apiserver/handler_discovery.go` and `pkg/controllers/openapi{,v3}`.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from kubecore import _native
from kubecore.apiserver.aggregation.asking import Answer, Unreachable
from kubecore.apiserver.aggregation.availability import AGGREGATOR
from kubecore.apiserver.aggregation.identity import Untrusted
from kubecore.apiserver.aggregation.resolving import Unresolvable
from kubecore.apiserver.aggregation.resource_lists import of_every_version, of_list
from kubecore.apiserver.discovery.foreign import ForeignVersion
from kubecore.apiserver.openapi.merging import ForeignSpecification

if TYPE_CHECKING:
    from kubecore.apiserver.aggregation.asking import Asker
    from kubecore.apiserver.aggregation.remotes import Backend, Remote
    from kubecore.clock import Clock

log = logging.getLogger("kubecore.apiserver.aggregation")

JSON = dict[str, Any]
Version = tuple[str, str]

_REFRESH_SECONDS = 60.0
_DISCOVERY_SECONDS, _SPECIFICATION_SECONDS = 5.0, 60.0
_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_AGGREGATED_BETA = _AGGREGATED.replace("v=v2", "v=v2beta1")
# Who asks for resources of one version, and for specifications: as anybody who is authenticated may.
_LISTER, _SPECIFIER = (_native.UserInfo(f"system:{name}", "", []) for name in ("kube-aggregator", "aggregator"))
_FAILURES = (Unresolvable, Untrusted, Unreachable, ValueError, KeyError, TypeError, AttributeError)


@dataclass(slots=True)
class _Told:
    """What one backend has said last; by version, where it serves several."""

    etag: str = ""
    resources: dict[Version, list[JSON]] = field(default_factory=dict)
    current: set[Version] = field(default_factory=set)
    specification_etag: str = ""
    specification: JSON | None = None
    digest: str = ""
    has_v3: bool = True
    paths: dict[str, str] = field(default_factory=dict)


class Described:
    """`watch` whatever there is; `changed` is called when documents have to be made anew."""

    def __init__(self, asker: Asker, clock: Clock, changed: Callable[[Described], None]) -> None:
        self._asker = asker
        self._clock = clock
        self._changed = changed
        self._remotes: dict[Version, Remote] = {}
        self._told: dict[Backend, _Told] = {}
        self._shown: object = None
        self._due = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def watch(self, remotes: Iterable[Remote]) -> None:
        """These and no others."""
        self._remotes = {one.group_version: one for one in remotes}
        backends = {one.backend for one in self._remotes.values()}
        self._told = {backend: self._told.get(backend) or _Told() for backend in backends}
        self._show()
        self._due.set()
        if self._remotes and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work(), name="extension documents")
        elif not self._remotes and self._task is not None:
            self._task.cancel()
            self._task = None

    # --- what is known

    def versions(self) -> list[ForeignVersion]:
        return [
            ForeignVersion(
                remote.group,
                remote.version,
                remote.priority,
                self._told[remote.backend].resources.get(version, ()),
                version in self._told[remote.backend].current,
            )
            for version, remote in self._remotes.items()
            if remote.group
        ]

    def specifications(self) -> list[ForeignSpecification]:
        """In the order in which they have their way."""
        ranked = sorted(self._remotes.values(), key=lambda one: (-one.priority.group, -one.priority.version, one.name))
        found = []
        for one in ranked:
            told = self._told[one.backend]
            if told.specification is not None:
                alone = not told.has_v3
                found.append(ForeignSpecification(one.group, one.version, told.specification, told.digest, alone))
        return found

    def paths(self) -> dict[str, str]:
        """Of documents of OpenAPI v3: below `/openapi/v3/`, to where they are told to be."""
        return {path: url for told in self._told.values() for path, url in told.paths.items()}

    def owner(self, path: str) -> Remote | None:
        """Who has that document of OpenAPI v3."""
        for remote in self._remotes.values():
            if path in self._told[remote.backend].paths:
                return remote
        return None

    def _show(self) -> None:
        """Others hear of it where it is not what they heard last."""
        specifications = [(one.group, one.version, one.digest, one.alone) for one in self.specifications()]
        shown = (self.versions(), specifications, self.paths())
        if shown != self._shown:
            self._shown = shown
            self._changed(self)

    # --- asking

    async def _work(self) -> None:
        failures = 0
        while True:
            self._due.clear()
            began = self._clock.monotonic()
            try:
                await self._refresh()
            except Exception:
                log.exception("documents of extension API servers")
            failures = 0 if self._knows_all() else failures + 1
            if failures:
                left = min(2.0 ** (failures - 1), _REFRESH_SECONDS)
            elif (left := began + _REFRESH_SECONDS - self._clock.monotonic()) <= 0:
                continue
            timer = self._clock.call_later(left, self._due.set)
            try:
                await self._due.wait()
            finally:
                timer.cancel()

    def _knows_all(self) -> bool:
        """Whether every server that answers has told of its resources."""
        return all(
            version in self._told[remote.backend].current
            for version, remote in self._remotes.items()
            if remote.available
        )

    async def _refresh(self) -> None:
        served: dict[Backend, list[Remote]] = {}
        for remote in self._remotes.values():
            served.setdefault(remote.backend, []).append(remote)
        await asyncio.gather(*(self._renew(backend, remotes) for backend, remotes in served.items()))

    async def _renew(self, backend: Backend, remotes: list[Remote]) -> None:
        told = self._told.get(backend)
        if told is None:
            return
        # What is told meanwhile is what was known before.
        current: set[Version] = set()
        reachable = [one for one in remotes if one.available]
        if reachable:
            await self._tried(backend, "discovery", self._discover(backend, told, reachable, current))
        told.current = current
        self._show()
        if reachable:
            await self._tried(backend, "OpenAPI v3", self._list_paths(backend, told, remotes))
            await self._tried(backend, "OpenAPI v2", self._specify(backend, told))
            self._show()

    async def _tried(self, backend: Backend, what: str, work: Awaitable[None]) -> None:
        try:
            await work
        except _FAILURES as error:
            log.warning("%s of %s: %s", what, backend.host, error)

    async def _discover(self, backend: Backend, told: _Told, remotes: list[Remote], current: set[Version]) -> None:
        """Adds to `current` what is known for sure then."""
        every = {one.group_version for one in remotes}
        headers = {"Accept": f"{_AGGREGATED},{_AGGREGATED_BETA}"}
        if told.etag:
            headers["If-None-Match"] = told.etag
        answer = await self._get(backend, "/apis", AGGREGATOR, headers, _DISCOVERY_SECONDS)
        if answer.status == 304:
            current |= every
        elif answer.status == 200 and "as=APIGroupDiscoveryList" in answer.content_type:
            told.resources = of_every_version(answer.body)
            told.etag = answer.headers.get("Etag", "")
            current |= every
        elif answer.status != 503:
            await asyncio.gather(*(self._discover_version(backend, told, one, current) for one in remotes))

    async def _discover_version(self, backend: Backend, told: _Told, remote: Remote, current: set[Version]) -> None:
        """For servers that do not tell of everything at once."""
        headers = {"Accept": "application/json"}
        answer = await self._get(backend, remote.path, _LISTER, headers, _DISCOVERY_SECONDS)
        if answer.status != 200:
            raise Unreachable(f"failed to download legacy discovery for {remote.path}: {answer.status}")
        told.resources[remote.group_version] = of_list(answer.body)
        current.add(remote.group_version)

    async def _list_paths(self, backend: Backend, told: _Told, remotes: list[Remote]) -> None:
        answer = await self._get(backend, "/openapi/v3", _SPECIFIER, {"Accept": "application/json"})
        if answer.status == 404:
            told.paths, told.has_v3 = {}, False
        elif answer.status == 200:
            told.has_v3 = True
            document = orjson.loads(answer.body)
            _check_members(document, "paths")
            paths = document["paths"]
            own = {f"apis/{one.group}/{one.version}" for one in remotes}
            urls = {path: one["serverRelativeURL"] for path, one in paths.items() if path in own}
            told.paths = {path: url for path, url in urls.items() if isinstance(url, str)}

    async def _specify(self, backend: Backend, told: _Told) -> None:
        headers = {"Accept": "application/json"}
        if told.specification_etag:
            headers["If-None-Match"] = told.specification_etag
        answer = await self._get(backend, "/openapi/v2", _SPECIFIER, headers)
        if answer.status == 404:
            told.specification = None
        elif answer.status == 200:
            document = orjson.loads(answer.body)
            if "swagger" in document:
                _check_members(document, "paths", "definitions", "parameters")
                told.specification, told.digest = document, hashlib.sha256(answer.body).hexdigest()
                told.specification_etag = answer.headers.get("Etag", "")

    async def _get(
        self,
        backend: Backend,
        path: str,
        user: _native.UserInfo,
        headers: Mapping[str, str],
        seconds: float = _SPECIFICATION_SECONDS,
    ) -> Answer:
        return await self._asker.ask(backend, path, user, headers=headers, seconds=seconds)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


def _check_members(document: JSON, *names: str) -> None:
    """Raises ValueError where one of them is no object of objects: documents of all are put together of these."""
    for name in names:
        members = document.get(name) or {}
        if not isinstance(members, dict) or not all(isinstance(one, dict) for one in members.values()):
            raise ValueError(f"its {name} are no objects")
