"""The API server: composes storage, cache, front, registry, admission and handlers, and starts them in order."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from kubecore import _native
from kubecore.api import enablement, schemas
from kubecore.apiserver import health, server_names
from kubecore.apiserver.access import Access
from kubecore.apiserver.admission import plugins
from kubecore.apiserver.admission.chain import AdmissionChain, Plugin
from kubecore.apiserver.admission.dynamic.admission import DynamicAdmission
from kubecore.apiserver.admission.dynamic.versions import Versions
from kubecore.apiserver.admission.metrics import AdmissionMetrics
from kubecore.apiserver.aggregation.aggregation import Aggregation
from kubecore.apiserver.aggregation.identity import FrontProxy
from kubecore.apiserver.audit.auditor import Auditor
from kubecore.apiserver.audit.recording import LocalAudit
from kubecore.apiserver.authentication.identify import Identification
from kubecore.apiserver.authentication.kubeconfig import keep, kubeconfig
from kubecore.apiserver.authentication.legacy_tokens import LegacyTokens
from kubecore.apiserver.authentication.pki import CertificateAuthority, KeyPair
from kubecore.apiserver.authentication.token_tracking import TokenTracking
from kubecore.apiserver.authentication.tokens import TokenIssuer
from kubecore.apiserver.authorization.always import demanding
from kubecore.apiserver.authorization.held import HeldRights
from kubecore.apiserver.bootstrap.kept import KeptKubernetes
from kubecore.apiserver.bootstrap.objects import Advertised
from kubecore.apiserver.bootstrap.reconcile import Bootstrap
from kubecore.apiserver.config import APIServerConfig
from kubecore.apiserver.extensions import serving
from kubecore.apiserver.extensions.cel_metrics import cel_metrics
from kubecore.apiserver.extensions.controller import DefinitionController
from kubecore.apiserver.flow_control.following import FlowControl
from kubecore.apiserver.grpc.front_transport import FrontTransport
from kubecore.apiserver.grpc.listener import GrpcListener
from kubecore.apiserver.handlers.chain import Handlers
from kubecore.apiserver.handlers.components import ComponentStatuses
from kubecore.apiserver.handlers.connecting import Connecting
from kubecore.apiserver.handlers.deprecations import deprecated_requests, deprecation_header
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
from kubecore.apiserver.handlers.watching import WatchHub
from kubecore.apiserver.handlers.writing import Writing
from kubecore.apiserver.local import LocalTransport
from kubecore.apiserver.registry import lifecycle
from kubecore.apiserver.registry.conversion import differs
from kubecore.apiserver.registry.fields import SELECTABLE
from kubecore.apiserver.registry.own_requests import SERVER
from kubecore.apiserver.registry.registry import Registry
from kubecore.apiserver.registry.resources import Strategies
from kubecore.apiserver.renewal import renew
from kubecore.apiserver.storage.cacher import Cacher
from kubecore.apiserver.storage.encryption import Sealing
from kubecore.apiserver.storage.lmdb import LMDBStorage
from kubecore.apiserver.storage.metrics import StoredObjects, storage_size
from kubecore.apiserver.tracing.requests import RequestTraces
from kubecore.apiserver.transport import driving
from kubecore.apiserver.transport.front_door import FrontDoor, listen_tls, told_where
from kubecore.apiserver.version import build_info, version_info
from kubecore.apiserver.webhooks.calling import WebhookCaller
from kubecore.background_tasks import BackgroundTasks
from kubecore.clock import native_clock
from kubecore.metrics import Metrics
from kubecore.process_metrics import process_metrics
from kubecore.whole_file import write_whole

if TYPE_CHECKING:
    from kubecore.apiserver.handlers.components import Probe
    from kubecore.clock import Clock

log = logging.getLogger("kubecore.apiserver")

# How long a thread may hold the interpreter while another waits. The writer takes it a few times per commit; with
# Python's default of 5 ms a busy loop would hold up every write by as much.
_SWITCH_SECONDS = 0.0005
_SHUTDOWN_GRACE = 1.0
_ALLOCATING = ["servicecidrs.networking.k8s.io", "ipaddresses.networking.k8s.io", "services"]


class APIServer:
    """One API server over its data directory.

    >>> server = APIServer(APIServerConfig(data_dir=path, secure_port=0), clock)
    >>> await server.start()       # ready: /readyz is ok
    >>> client = Client(server.transport(username="admin", groups=["system:masters"]), field_manager="me")
    >>> await server.stop()
    """

    def __init__(self, config: APIServerConfig, clock: Clock) -> None:
        self.config = config
        self.clock = clock
        self.secure_port = 0
        self.insecure_port = 0
        self.grpc_port = 0
        self._service_cidrs = tuple(str(ipaddress.ip_network(one.strip())) for one in config.service_cidr.split(","))
        self.service_ip = str(ipaddress.ip_network(self._service_cidrs[0])[1])
        self.metrics = Metrics()
        self._ready = asyncio.Event()
        self.addresses_given = False
        """From now on Services have addresses of the range, and stored ones keep them."""
        self._following = BackgroundTasks(log)
        self._traces: RequestTraces | None = None
        self._administrator: KeyPair | None = None
        self._started: list[str] = []
        self._stopped = False

    # --- starting

    async def start(self) -> None:
        """Everything up to a ready server. Raises DataDirError, OSError (port taken), PKIError."""
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        sys.setswitchinterval(_SWITCH_SECONDS)
        config = self.config
        config.data_dir.mkdir(parents=True, exist_ok=True)
        await self._open_storage()
        self._prepare_identity()
        self._compose()
        bootstrap = Bootstrap(self.registry)
        await bootstrap.ensure_base()
        await asyncio.gather(self._limit(), self._aggregation.start())
        for work in self._aggregation.work():
            self._following.spawn(work, "aggregation")
        health.stored(self.front)
        self.registry.restore(_ALLOCATING)
        self._auditor.start()
        self._started.append("audit")
        self._listen()
        advertised = Advertised(
            service_ip=self.service_ip,
            service_cidrs=self._service_cidrs,
            service_port=self.config.service_port,
            address=self.config.service_address or server_names.advertised(config, self.service_ip),
            port=self.secure_port,
            trust=self.access.trust(),
        )
        self.addresses_given = True
        tracking = TokenTracking(self.registry, self.hub)
        await asyncio.gather(bootstrap.ensure_kubernetes(advertised), tracking.start())
        kept = KeptKubernetes(bootstrap, advertised, self.access.trust, self.hub, self.clock)
        self._following.spawn(kept.run(), "what is kept")
        self._following.spawn(tracking.run(), "token tracking")
        self.access.trust_changed = lambda: bootstrap.ensure_trust(self.access.trust())
        self._write_kubeconfig()
        self._write_ports()
        health.begun(self.front)
        self._ready.set()
        log.info("API server ready at %s", self.url)

    async def _open_storage(self) -> None:
        self.scheme = enablement.served(dict(self.config.runtime_config))
        self.cacher = Cacher(self.clock)
        self.cacher.register_all(self.scheme, SELECTABLE)
        self._sealing = Sealing(self.config.encryption, self.clock)
        directory, rules = self.config.data_dir / "storage", self._sealing.rules
        with self._sealing.explained():
            self.storage = LMDBStorage(directory, self.clock, self.cacher, self.config.storage, encryption=rules)
            self._started.append("storage")
            self._definitions = await serving.stored_definitions(self.storage, self.scheme)
            for definition in self._definitions:
                serving.register(self.cacher, definition)
            await self.cacher.fill(self.storage)

    def _prepare_identity(self) -> None:
        config = self.config
        directory = config.data_dir / "pki"
        self.authority = CertificateAuthority(directory, self.clock)
        serving = self._serving()
        self._shown = _native.ServingCertificate(serving.certificate, serving.key)
        issuer = f"https://kubernetes.default.svc.{config.cluster_domain}"
        self.tokens = TokenIssuer(directory, self.clock, issuer=issuer, options=config.authentication.service_accounts)
        self.front = _native.Front(
            self.cacher.native, clock=native_clock(self.clock), min_watch_seconds=config.min_request_timeout
        )
        self.front.set_version(version_info())
        self.front.set_metrics_source(self.metrics.render)
        headers = config.authentication.request_header
        self._front_proxy = FrontProxy(directory, self.clock, config.aggregation, headers)
        # Spans tell the ids of requests.
        self._auditor = Auditor(self.front.audit(), config.audit, self.clock, numbers=config.tracing is not None)
        self._local_audit = LocalAudit(self.front.audit())
        authenticator = self.front.authenticator()
        tokens = self.tokens
        authenticator.set_service_account_keys(tokens.public_keys, tokens.issuers, tokens.audiences)
        self._kept_tokens = LegacyTokens(self.cacher, tokens, self.clock)
        self.metrics.add(*self._kept_tokens.metrics)
        self.access = Access(
            self.front,
            self.cacher,
            self.clock,
            authority=self.authority.certificate,
            issuers_of_accounts=self.tokens.issuers,
            audiences=self.tokens.audiences,
            authentication=self._front_proxy.believed(config.authentication),
            authorization=config.authorization,
            modes=config.authorization_modes,
            kept=self._kept_tokens,
            own_files=(self._front_proxy.ca_file,),
        )
        self._started.append("access")
        self.authorizer = self.access.authorizer

    def _compose(self) -> None:
        config = self.config
        native = self.front.authorizer()
        self.registry = Registry(
            scheme=self.scheme,
            storage=self.storage,
            cacher=self.cacher,
            schemas=schemas.default(),
            strategies=Strategies.of(config, self.metrics),
            admission=AdmissionChain(
                [*self._plugins(), *demanding(self.authorizer, native, self.scheme)],
                AdmissionMetrics(self.metrics, native_clock(self.clock)),
            ),
            clock=self.clock,
        )
        self.hub = WatchHub(self.cacher, self.clock, HeldRights(self.authorizer, native, self.clock))
        self._started.append("hub")
        self.served = ServedResources(self.registry)
        self._writing = Writing(self.registry, self.authorizer)
        self._reading = Reading(self.registry, self.hub)
        self._kubelets = kubelets = KubeletConnection(
            self.authority, self.authority.certificate if config.verify_kubelets else None
        )
        self._logs = PodLogs(self.registry, kubelets)
        connecting = Connecting(self.registry, self._writing)
        for served in ResourceMetrics(self.registry, kubelets).served():
            self.served.serve(served)
        self.components = ComponentStatuses(self.registry)
        self.documents = documents = Documents(
            self.registry, self.tokens, METRICS, in_cluster=f"kubernetes.default.svc.{config.cluster_domain}"
        )
        self.handlers = Handlers(
            served=self.served,
            identify=Identification(self.authorizer, self.access.tokens, self.front.judged(), self.clock),
            reading=self._reading,
            writing=self._writing,
            extra=special_handlers(
                registry=self.registry,
                writing=self._writing,
                tokens=self.tokens,
                modules=self.access.tokens,
                authorizer=self.authorizer,
                logs=self._logs,
                streams=PodStreams(self.registry, kubelets, self.authorizer, connecting),
                proxying=Proxying(self.registry, kubelets, connecting),
                components=self.components,
            ),
            documents=documents,
        )
        self._webhooks = WebhookCaller(self.registry, self.clock)
        self.custom = serving.CustomResources(
            registry=self.registry,
            served=self.served,
            writing=self._writing,
            documents=documents,
            front=self.front,
            caller=self._webhooks,
        )
        self.custom.adopt(self._definitions)
        self._aggregation = Aggregation(
            self.registry, self.hub, self.front, documents, self._front_proxy, config.aggregation
        )
        self._measure()
        self.handlers.delegation = self._aggregation.delegation
        self._admit_dynamically()
        self._follow()

    def _follow(self) -> None:
        """What is done behind what the store and files say."""
        controller = DefinitionController(self.registry, self.custom, self.hub)
        self._following.spawn(controller.run(), "definitions")
        self._following.spawn(self._kept_tokens.run(self.registry, self.hub), "kept tokens")
        self._followed = self.access.follow() + self._sealing.follow(self.storage)
        for file in self._followed:
            self._following.spawn(file.run(), "followed file")
        shown = [self._kubelets.renew, self._front_proxy.renew, self._write_kubeconfig, self._renew_serving]
        self._following.spawn(renew(shown, self.clock), "renewal of certificates")
        self._started.append("definitions")

    def _measure(self) -> None:
        """What is told beside what the parts count of their own work."""
        stored = (StoredObjects(self.cacher.counts), storage_size(self.storage.allocated))
        reloads = (*self.access.metrics, *self._sealing.metrics)
        process = (build_info(), *process_metrics(), *cel_metrics())
        deprecated = deprecated_requests(self.front.metrics, self.served.removed_release)
        self.metrics.add(self._aggregation.metrics, *stored, *reloads, *process, deprecated)

    def _plugins(self) -> list[Plugin]:
        options = self.config.admission
        self._configured = plugins.configured(options)
        parts = plugins.Parts(
            cacher=self.cacher,
            storage=self.storage,
            clock=self.clock,
            authorizer=self.authorizer,
            scheme=self.scheme,
            options=options,
            configured=self._configured,
            registry=lambda: self.registry,
            metrics=self.metrics,
            user=SERVER,
        )
        return plugins.made(options, parts)

    def _admit_dynamically(self) -> None:
        versions = Versions(self.scheme, self.served.find, self.custom.versions, self.custom.plural_of)
        self.registry.admission.dynamic = DynamicAdmission(
            self.cacher,
            versions,
            self._webhooks,
            self.authorizer,
            self.clock,
            plugins=self.config.admission.plugins,
            configured=self._configured,
            metrics=self.registry.admission.metrics,
        )

    async def _limit(self) -> None:
        config = self.config
        reading, mutating = config.max_requests_inflight, config.max_mutating_requests_inflight
        if not config.priority_and_fairness or reading + mutating == 0:
            self.front.set_in_flight(reading, mutating)
            return
        flow = FlowControl(self.registry, self.hub, self.front.flow(), reading + mutating)
        await flow.start()
        self._following.spawn(flow.run(), "flow control")

    def _listen(self) -> None:
        config = self.config
        for resource in self.scheme.resources:
            cached = self.cacher.cached(resource.key)
            # What must be converted is read through Python.
            if cached is not None and not differs(cached.resource, resource):
                self.front.route(
                    resource.group,
                    resource.version,
                    resource.plural,
                    cached.number,
                    resource.namespaced,
                    sorted(resource.verbs),
                    sorted(resource.subresources),
                    warning=deprecation_header(resource),
                )
        if config.tracing is not None:
            self._traces = RequestTraces(config.tracing, self.clock, log, instance=lifecycle.new_uid())
            self._traces.start()
            self.front.keep_traces(config.tracing.per_million)
        self._door = FrontDoor(self.front, driving.Driver(self.handlers, self.storage, self._traces))
        self._door.open()
        self._started.append("front")
        hosts = [config.bind_address]
        if config.service_address and config.bind_address != "::":
            hosts.append(config.service_address)
        self.secure_port = listen_tls(self.front, hosts, config.secure_port, self._shown)
        self.documents.listens(self.url.removeprefix("https://"), advertised=bool(config.advertise_address))
        if config.insecure_port:
            with told_where("127.0.0.1", config.insecure_port, "--insecure-port"):
                self.insecure_port = self.front.listen_plain("127.0.0.1", config.insecure_port)
        if config.grpc_port is not None:
            self._listen_grpc(config.bind_address, config.grpc_port)

    def _listen_grpc(self, host: str, port: int) -> None:
        self._grpc = GrpcListener(
            front=self.front,
            certificate=self._shown,
            transport_for=FrontTransport,
            run_dir=self.config.data_dir / "grpc",
        )
        with told_where(host, port, "--grpc-port"):
            self.grpc_port = self._grpc.listen(host, port)
        self._started.append("grpc")

    def _write_kubeconfig(self) -> None:
        pair = self.authority.client("admin", "kubernetes-admin", ["system:masters"])
        if pair == self._administrator:
            return
        self._administrator = pair
        content = kubeconfig(self.url, self.authority.certificate, pair, user="kubernetes-admin")
        keep(self.kubeconfig, content)

    def _renew_serving(self) -> None:
        pair = self._serving()
        self._shown.replace(pair.certificate, pair.key)

    def _serving(self) -> KeyPair:
        return self.authority.serving("apiserver", server_names.certified(self.config, self.service_ip))

    def _write_ports(self) -> None:
        """`ports.json`, for whoever let free ports be picked."""
        ports = {"secure": self.secure_port, "insecure": self.insecure_port, "grpc": self.grpc_port}
        content = orjson.dumps({name: port for name, port in ports.items() if port}) + b"\n"
        write_whole(self.config.data_dir / "ports.json", content)

    # --- while it runs

    @property
    def url(self) -> str:
        """`https://HOST:PORT`, for clients on this machine."""
        host = server_names.advertised(self.config, self.service_ip)
        return f"https://[{host}]:{self.secure_port}" if ":" in host else f"https://{host}:{self.secure_port}"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.config.data_dir / "admin.kubeconfig"

    async def wait_ready(self) -> None:
        await self._ready.wait()

    async def look(self) -> None:
        """Takes notice of files that have changed now and not a moment later."""
        for file in self._followed:
            await file.look()

    def transport_for(self, user: _native.UserInfo) -> LocalTransport:
        """In-process requests as any identity, through the same chain."""
        return LocalTransport(
            handlers=self.handlers,
            served=self.served,
            authorizer=self.authorizer,
            hub=self.hub,
            user=user,
            audit=self._local_audit,
        )

    def transport(self, *, username: str, groups: Sequence[str] = ()) -> LocalTransport:
        """In-process requests as that user, who belongs to system:authenticated too."""
        every = list(dict.fromkeys([*groups, "system:authenticated"]))
        return self.transport_for(_native.UserInfo(username, "", every))

    def issue_client_certificate(self, username: str, groups: Sequence[str] = ()) -> KeyPair:
        """A client certificate (CN user, O groups) signed by the cluster's CA."""
        return self.authority.issue_client(username, groups)

    def issue_serving_certificate(self, name: str, hosts: Sequence[str]) -> KeyPair:
        """A serving certificate for another component (a kubelet), kept under `name` in the PKI directory."""
        return self.authority.serving(name, hosts)

    def register_component(self, name: str, probe: Probe) -> None:
        """Health of a part of this process for componentstatuses: "scheduler", "controller-manager"."""
        self.components.register(name, probe)

    # --- ending

    async def stop(self) -> None:
        """Ends watches, lets requests in flight finish, closes the store. Idempotent."""
        if self._stopped:
            return
        self._stopped = True
        started = self._started
        if "front" in started:
            self.front.set_ready(False)
        # Its calls are answered through the front.
        if "grpc" in started:
            await self._grpc.close(_SHUTDOWN_GRACE)
        if "front" in started:
            await self._door.close(_SHUTDOWN_GRACE)
        if "definitions" in started:
            await self._following.close()
            await self._aggregation.close()
            await self._webhooks.close()
            await self.registry.admission.close()
        if "access" in started:
            await self.access.close()
        if "hub" in started:
            self.hub.close()
            await self._reading.close()
            await self._logs.close()
            await driving.finish()
        if self._traces is not None:
            await self._traces.close()
        if "storage" in started:
            await self.storage.close()
        if "audit" in started:
            await self._auditor.stop()
