"""All of it: what is registered, what follows it, and what requests and documents of others are served by."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from kubecore.apiserver.aggregation.aggregator import Aggregator
from kubecore.apiserver.aggregation.asking import Asker
from kubecore.apiserver.aggregation.availability import Availability
from kubecore.apiserver.aggregation.described import Described
from kubecore.apiserver.aggregation.metrics import AggregationMetrics
from kubecore.apiserver.aggregation.registration import Registration
from kubecore.apiserver.aggregation.resolving import Resolver
from kubecore.followed_file import FollowedFile

if TYPE_CHECKING:
    from kubecore import _native
    from kubecore._native import UserInfo
    from kubecore.apiserver.aggregation.identity import FrontProxy
    from kubecore.apiserver.aggregation.options import AggregationOptions
    from kubecore.apiserver.handlers.documents import Documents
    from kubecore.apiserver.handlers.request import Request, Response
    from kubecore.apiserver.handlers.watching import WatchHub
    from kubecore.apiserver.registry.registry import Registry


class Aggregation:
    """`start`, then `work` until it is cancelled, then `close`."""

    def __init__(
        self,
        registry: Registry,
        hub: WatchHub,
        front: _native.Front,
        documents: Documents,
        identity: FrontProxy,
        options: AggregationOptions,
    ) -> None:
        self._registry = registry
        self._identity = identity
        resolver = Resolver(registry, to_endpoints=options.to_endpoints)
        self._asker = Asker(identity, resolver, registry.clock)
        self._registration = Registration(registry, hub)
        self.metrics = AggregationMetrics(registry)
        self._availability = Availability(registry, hub, self._asker, self.metrics)
        self.delegation = Aggregator(
            registry,
            hub,
            front,
            identity=identity,
            asker=self._asker,
            rejects_redirects=options.rejects_redirects,
        )
        self._described = Described(self._asker, registry.clock, lambda _: documents.changed_elsewhere())
        documents.elsewhere = DocumentsElsewhere(self._described, self.delegation)
        self.delegation.changed += [self._availability.watch, self._described.watch]

    async def start(self) -> None:
        """Raises StatusError."""
        await self._registration.start()
        self.delegation.start()

    def work(self) -> list[Coroutine[Any, Any, None]]:
        clock, files = self._registry.clock, self._identity.files()
        followed = [FollowedFile(one, clock, self._renewed, known=one.read_bytes()) for one in files]
        return [self._registration.run(), self.delegation.run(), *(one.run() for one in followed)]

    async def _renewed(self, _: bytes) -> None:
        self._identity.forget()

    async def close(self) -> None:
        await self._availability.close()
        await self._described.close()
        await self._asker.close()


class DocumentsElsewhere:
    """What `handlers.documents` needs of it."""

    def __init__(self, described: Described, delegation: Aggregator) -> None:
        self._described = described
        self._delegation = delegation
        self.versions = described.versions
        self.specifications = described.specifications
        self.paths = described.paths

    def has(self, path: str) -> bool:
        return self._described.owner(path.removeprefix("/openapi/v3/")) is not None

    async def document(self, request: Request, user: UserInfo) -> Response | None:
        remote = self._described.owner(request.path.removeprefix("/openapi/v3/"))
        assert remote is not None, f"{request.path} is ours"
        return await self._delegation.pass_on_to(remote, request, user)
