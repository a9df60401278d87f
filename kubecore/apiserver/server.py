"""The API server: composes its parts (store, identity, access, data path, ports), starts and ends them in order."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kubecore import _native
from kubecore.api import enablement
from kubecore.apiserver import health, server_names
from kubecore.apiserver.access import Access
from kubecore.apiserver.audit.auditor import Auditor
from kubecore.apiserver.audit.recording import LocalAudit
from kubecore.apiserver.authentication.legacy_tokens import LegacyTokens
from kubecore.apiserver.authentication.pki import KeyPair
from kubecore.apiserver.authentication.token_tracking import TokenTracking
from kubecore.apiserver.authorization.held import HeldRights
from kubecore.apiserver.bootstrap.kept import KeptKubernetes
from kubecore.apiserver.bootstrap.objects import Advertised
from kubecore.apiserver.bootstrap.reconcile import Bootstrap
from kubecore.apiserver.config import APIServerConfig
from kubecore.apiserver.data_path import DataPath
from kubecore.apiserver.extensions import serving
from kubecore.apiserver.extensions.cel_metrics import cel_metrics
from kubecore.apiserver.extensions.controller import DefinitionController
from kubecore.apiserver.flow_control.following import FlowControl
from kubecore.apiserver.handlers.deprecations import deprecated_requests
from kubecore.apiserver.handlers.watching import WatchHub
from kubecore.apiserver.listening import Listening
from kubecore.apiserver.local import LocalTransport
from kubecore.apiserver.own_identity import OwnIdentity
from kubecore.apiserver.registry import lifecycle
from kubecore.apiserver.registry.fields import SELECTABLE
from kubecore.apiserver.renewal import renew
from kubecore.apiserver.storage.cacher import Cacher
from kubecore.apiserver.storage.encryption import Sealing
from kubecore.apiserver.storage.lmdb import LMDBStorage
from kubecore.apiserver.storage.metrics import StoredObjects, storage_size
from kubecore.apiserver.tracing.requests import RequestTraces
from kubecore.apiserver.transport import driving
from kubecore.apiserver.version import build_info, version_info
from kubecore.background_tasks import BackgroundTasks
from kubecore.clock import native_clock
from kubecore.metrics import Metrics
from kubecore.process_metrics import process_metrics

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
        await asyncio.gather(self._limit(), self._path.aggregation.start())
        for work in self._path.aggregation.work():
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
        self._listening.write_ports()
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
        self.identity = identity = OwnIdentity(config, self.service_ip, self.clock)
        self.authority, self.tokens = identity.authority, identity.tokens
        self.front = _native.Front(
            self.cacher.native, clock=native_clock(self.clock), min_watch_seconds=config.min_request_timeout
        )
        self.front.set_version(version_info())
        self.front.set_metrics_source(self.metrics.render)
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
            authentication=identity.front_proxy.believed(config.authentication),
            authorization=config.authorization,
            modes=config.authorization_modes,
            kept=self._kept_tokens,
            own_files=(identity.front_proxy.ca_file,),
        )
        self._started.append("access")
        self.authorizer = self.access.authorizer

    def _compose(self) -> None:
        self.hub = WatchHub(self.cacher, self.clock, HeldRights(self.authorizer, self.front.authorizer(), self.clock))
        self._started.append("hub")
        self._path = path = DataPath(
            self.config,
            scheme=self.scheme,
            storage=self.storage,
            cacher=self.cacher,
            hub=self.hub,
            front=self.front,
            access=self.access,
            identity=self.identity,
            definitions=self._definitions,
            metrics=self.metrics,
            clock=self.clock,
        )
        self._started.append("path")
        self.registry, self.documents = path.registry, path.documents
        self._measure()
        self._follow()

    def _measure(self) -> None:
        """What is told beside what the parts count of their own work."""
        stored = (StoredObjects(self.cacher.counts), storage_size(self.storage.allocated))
        reloads = (*self.access.metrics, *self._sealing.metrics)
        process = (build_info(), *process_metrics(), *cel_metrics())
        deprecated = deprecated_requests(self.front.metrics, self._path.served.removed_release)
        self.metrics.add(self._path.aggregation.metrics, *stored, *reloads, *process, deprecated)

    def _follow(self) -> None:
        """What is done behind what the store and files say."""
        controller = DefinitionController(self.registry, self._path.custom, self.hub)
        self._following.spawn(controller.run(), "definitions")
        self._following.spawn(self._kept_tokens.run(self.registry, self.hub), "kept tokens")
        self._followed = self.access.follow() + self._sealing.follow(self.storage)
        for file in self._followed:
            self._following.spawn(file.run(), "followed file")
        own = self.identity
        shown = [self._path.kubelets.renew, own.front_proxy.renew, self._write_kubeconfig, own.renew_serving]
        self._following.spawn(renew(shown, self.clock), "renewal of certificates")

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
        self._path.route_reads()
        if self.config.tracing is not None:
            self._traces = RequestTraces(self.config.tracing, self.clock, log, instance=lifecycle.new_uid())
            self._traces.start()
            self.front.keep_traces(self.config.tracing.per_million)
        driver = driving.Driver(self._path.handlers, self.storage, self._traces)
        self._listening = listening = Listening(self.front, driver, self.identity.shown, self.config)
        self._started.append("front")
        listening.open()
        self.secure_port, self.insecure_port = listening.secure_port, listening.insecure_port
        self.grpc_port = listening.grpc_port
        self.documents.listens(self.url.removeprefix("https://"), advertised=bool(self.config.advertise_address))

    def _write_kubeconfig(self) -> None:
        self.identity.write_kubeconfig(self.kubeconfig, self.url)

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
            handlers=self._path.handlers,
            served=self._path.served,
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
        self._path.components.register(name, probe)

    # --- ending

    async def stop(self) -> None:
        """Ends watches, lets requests in flight finish, closes the store. Idempotent."""
        if self._stopped:
            return
        self._stopped = True
        started = self._started
        if "front" in started:
            await self._listening.close(_SHUTDOWN_GRACE)
        if "path" in started:
            await self._following.close()
            await self._path.end_asking()
        if "access" in started:
            await self.access.close()
        if "hub" in started:
            self.hub.close()
        if "path" in started:
            await self._path.close()
        if self._traces is not None:
            await self._traces.close()
        if "storage" in started:
            await self.storage.close()
        if "audit" in started:
            await self._auditor.stop()
