"""The way of a request that the front does not answer: composes handlers, admission, registry, and what definitions of
resources and extension API servers add to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubecore.api import schemas
from kubecore.apiserver.admission import plugins
from kubecore.apiserver.admission.chain import AdmissionChain, Plugin
from kubecore.apiserver.admission.dynamic.admission import DynamicAdmission
from kubecore.apiserver.admission.dynamic.versions import Versions
from kubecore.apiserver.admission.metrics import AdmissionMetrics
from kubecore.apiserver.aggregation.aggregation import Aggregation
from kubecore.apiserver.authentication.identify import Identification
from kubecore.apiserver.authorization.always import demanding
from kubecore.apiserver.extensions import serving
from kubecore.apiserver.handlers.chain import Handlers
from kubecore.apiserver.handlers.components import ComponentStatuses
from kubecore.apiserver.handlers.connecting import Connecting
from kubecore.apiserver.handlers.deprecations import deprecation_header
from kubecore.apiserver.handlers.documents import Documents
from kubecore.apiserver.handlers.kubelets import KubeletConnection
from kubecore.apiserver.handlers.logs import PodLogs
from kubecore.apiserver.handlers.pod_streams import PodStreams
from kubecore.apiserver.handlers.proxying import Proxying
from kubecore.apiserver.handlers.reading import Reading
from kubecore.apiserver.handlers.resource_metrics import RESOURCES as METRICS
from kubecore.apiserver.handlers.resource_metrics import ResourceMetrics
from kubecore.apiserver.handlers.routes import special_handlers
from kubecore.apiserver.handlers.served import ServedResources
from kubecore.apiserver.handlers.writing import Writing
from kubecore.apiserver.registry.conversion import differs
from kubecore.apiserver.registry.own_requests import SERVER
from kubecore.apiserver.registry.registry import Registry
from kubecore.apiserver.registry.resources import Strategies
from kubecore.apiserver.transport import driving
from kubecore.apiserver.webhooks.calling import WebhookCaller
from kubecore.clock import native_clock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kubecore import _native
    from kubecore.api.scheme import Scheme
    from kubecore.apiserver.access import Access
    from kubecore.apiserver.config import APIServerConfig
    from kubecore.apiserver.handlers.watching import WatchHub
    from kubecore.apiserver.own_identity import OwnIdentity
    from kubecore.apiserver.registry.custom.definition import Definition
    from kubecore.apiserver.storage.cacher import Cacher
    from kubecore.apiserver.storage.interface import Storage
    from kubecore.clock import Clock
    from kubecore.metrics import Metrics


class DataPath:
    """`handlers` are its beginning, `registry` its end."""

    def __init__(
        self,
        config: APIServerConfig,
        *,
        scheme: Scheme,
        storage: Storage,
        cacher: Cacher,
        hub: WatchHub,
        front: _native.Front,
        access: Access,
        identity: OwnIdentity,
        definitions: Sequence[Definition],
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        """`definitions` of resources are those that are stored already. Raises ValueError for options of admission."""
        self._config = config
        self._scheme = scheme
        self._cacher = cacher
        self._hub = hub
        self._front = front
        self._access = access
        self._identity = identity
        self._metrics = metrics
        self._clock = clock
        self.registry = self._make_registry(storage)
        self.served = ServedResources(self.registry)
        self._writing = Writing(self.registry, access.authorizer)
        self._reading = Reading(self.registry, hub)
        authority = identity.authority
        self.kubelets = KubeletConnection(authority, authority.certificate if config.verify_kubelets else None)
        self._logs = PodLogs(self.registry, self.kubelets)
        for served in ResourceMetrics(self.registry, self.kubelets).served():
            self.served.serve(served)
        self.components = ComponentStatuses(self.registry)
        self.documents = Documents(
            self.registry, identity.tokens, METRICS, in_cluster=f"kubernetes.default.svc.{config.cluster_domain}"
        )
        self.handlers = self._make_handlers()
        self._webhooks = WebhookCaller(self.registry, clock)
        self.custom = serving.CustomResources(
            registry=self.registry,
            served=self.served,
            writing=self._writing,
            documents=self.documents,
            front=front,
            caller=self._webhooks,
        )
        self.custom.adopt(definitions)
        self.aggregation = Aggregation(
            self.registry, hub, front, self.documents, identity.front_proxy, config.aggregation
        )
        self.handlers.delegation = self.aggregation.delegation
        self._admit_dynamically()

    # --- composing

    def _make_registry(self, storage: Storage) -> Registry:
        asked = demanding(self._access.authorizer, self._front.authorizer(), self._scheme)
        return Registry(
            scheme=self._scheme,
            storage=storage,
            cacher=self._cacher,
            schemas=schemas.default(),
            strategies=Strategies.of(self._config, self._metrics),
            admission=AdmissionChain(
                [*self._plugins(storage), *asked], AdmissionMetrics(self._metrics, native_clock(self._clock))
            ),
            clock=self._clock,
        )

    def _plugins(self, storage: Storage) -> list[Plugin]:
        options = self._config.admission
        self._configured = plugins.configured(options)
        parts = plugins.Parts(
            cacher=self._cacher,
            storage=storage,
            clock=self._clock,
            authorizer=self._access.authorizer,
            scheme=self._scheme,
            options=options,
            configured=self._configured,
            registry=lambda: self.registry,
            metrics=self._metrics,
            user=SERVER,
        )
        return plugins.made(options, parts)

    def _make_handlers(self) -> Handlers:
        access, kubelets = self._access, self.kubelets
        connecting = Connecting(self.registry, self._writing)
        return Handlers(
            served=self.served,
            identify=Identification(access.authorizer, access.tokens, self._front.judged(), self._clock),
            reading=self._reading,
            writing=self._writing,
            extra=special_handlers(
                registry=self.registry,
                writing=self._writing,
                tokens=self._identity.tokens,
                modules=access.tokens,
                authorizer=access.authorizer,
                logs=self._logs,
                streams=PodStreams(self.registry, kubelets, access.authorizer, connecting),
                proxying=Proxying(self.registry, kubelets, connecting),
                components=self.components,
            ),
            documents=self.documents,
        )

    def _admit_dynamically(self) -> None:
        versions = Versions(self._scheme, self.served.find, self.custom.versions, self.custom.plural_of)
        self.registry.admission.dynamic = DynamicAdmission(
            self._cacher,
            versions,
            self._webhooks,
            self._access.authorizer,
            self._clock,
            plugins=self._config.admission.plugins,
            configured=self._configured,
            metrics=self.registry.admission.metrics,
        )

    # --- while it runs

    def route_reads(self) -> None:
        """Has the front answer what is read as it is stored."""
        for resource in self._scheme.resources:
            cached = self._cacher.cached(resource.key)
            # What must be converted is read through Python.
            if cached is not None and not differs(cached.resource, resource):
                self._front.route(
                    resource.group,
                    resource.version,
                    resource.plural,
                    cached.number,
                    resource.namespaced,
                    sorted(resource.verbs),
                    sorted(resource.subresources),
                    warning=deprecation_header(resource),
                )

    async def end_asking(self) -> None:
        """Asks webhooks and extension API servers nothing more."""
        await self.aggregation.close()
        await self._webhooks.close()
        await self.registry.admission.close()

    async def close(self) -> None:
        """After the last request and the hub's end: what is under way is brought to its end."""
        await self._reading.close()
        await self._logs.close()
        await driving.finish()
