"""A component's HTTPS server: /metrics, /healthz, /livez and /readyz, and what a component adds to these.

Who may read them is asked of the API server; health anybody may see (upstream's `--authorization-always-allow-paths`).
The socket is bound at once; what serves HTTP (the API server's own listener, with nothing to read) is made when
somebody comes. (kubernetes `cmd/kube-scheduler/app/server.go`, apiserver `pkg/server/options`.)
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kubecore.api import errors
from kubecore.api.errors import StatusError
from kubecore.client.delegated_access import DelegatedAccess
from kubecore.first_connection import first_connection
from kubecore.handed_over import HandedOver
from kubecore.metrics import Metrics

if TYPE_CHECKING:
    from kubecore._native import Front, Request
    from kubecore.client.client import Client
    from kubecore.clock import Clock

log = logging.getLogger(__name__)

HEALTH = ("/healthz", "/livez", "/readyz")
_AUTHORITY_SECONDS, _RETRY_SECONDS = 60.0, 5.0
_PLAIN = "text/plain; charset=utf-8"
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
_TRUST = ("configmaps", "extension-apiserver-authentication", "kube-system")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """Port 0 picks a free one. Without a certificate and its key one is made, which vouches for itself."""

    name: str
    address: str = "127.0.0.1"
    port: int
    certificate: Path | None = None
    key: Path | None = None


class ComponentServer:
    def __init__(
        self,
        client: Client,
        clock: Clock,
        config: ServerConfig,
        metrics: Metrics,
        documents: Mapping[str, Callable[[], bytes]] | None = None,
    ) -> None:
        """`documents` are further texts by their path, told to who may see them."""
        self._documents = documents or {}
        self._client = client
        self._clock = clock
        self._config = config
        self._metrics = metrics
        self._access = DelegatedAccess(client, clock)
        self._authority = b""
        self._listener: socket.socket | None = None

    def listen(self) -> int:
        """Returns the port. Raises OSError, for a certificate or key that cannot be used, too."""
        config = self._config
        if config.certificate is not None and config.key is not None:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(config.certificate, config.key)
        family = socket.AF_INET6 if ":" in self._config.address else socket.AF_INET
        self._listener = socket.create_server((self._config.address, self._config.port), family=family)
        self._listener.setblocking(False)
        return int(self._listener.getsockname()[1])

    async def run(self) -> None:
        """Serve until cancelled."""
        assert self._listener is not None, "listen first"
        with self._listener as listener:
            await first_connection(listener)
            front = await self._make_front(listener)
            requests = HandedOver(front, self._handle, self._config.name)
            requests.begin()
            try:
                while True:
                    await self._clock.sleep(_AUTHORITY_SECONDS if self._authority else _RETRY_SECONDS)
                    await self._renew_authority(front)
            finally:
                await requests.end()

    async def _make_front(self, listener: socket.socket) -> Front:
        from kubecore import _native, self_signed

        front = _native.Front(_native.WatchCache())
        front.set_ready(True)
        front.set_metrics_source(self._metrics.render, alone=True)
        # Whoever is no administrator by RBAC's own rule is judged here.
        front.authorizer().set_modes(["Webhook"])
        authenticator = front.authenticator()
        authenticator.set_delegate(True)
        authenticator.set_anonymous(True)
        await self._renew_authority(front)
        config = self._config
        if config.certificate is not None and config.key is not None:
            certificate, key = config.certificate.read_bytes(), config.key.read_bytes()
        else:
            certificate, key = self_signed.make(config.name, self._clock, addresses=[config.address])
        front.listen_tls_on(listener.fileno(), _native.ServingCertificate(certificate, key))
        return front

    async def _renew_authority(self, front: Front) -> None:
        """Who vouches for the cluster's client certificates; whoever did where that cannot be found out."""
        try:
            found = await self._client.get(*_TRUST)
            told = str((found.get("data") or {}).get("client-ca-file") or "").encode()
            if told and told != self._authority:
                front.authenticator().set_client_ca(told)
                self._authority = told
        except (StatusError, OSError, ValueError) as error:
            say = log.debug if self._authority else log.warning
            say("client certificates are judged as before: %s/%s: %s", _TRUST[2], _TRUST[1], error)

    # ------------------------------------------------------------------ requests
    async def _handle(self, request: Request) -> None:
        try:
            await self._answer(request)
        except Exception as error:
            if not isinstance(error, StatusError | OSError):
                log.exception("%s %s failed", request.method, request.path)
            with suppress(RuntimeError):  # it was answered, or the client has gone
                text = f'Internal Server Error: "{request.path}": {error}\n'
                request.respond(500, text.encode(), _PLAIN)

    async def _answer(self, request: Request) -> None:
        if request.authorized:
            document = self._documents.get(request.path)
            if document is None:
                request.respond(404, b"404 page not found\n", _PLAIN)
            else:
                request.respond(200, document(), _PROMETHEUS)
            return
        try:
            user = await self._access.who(request)
        except (StatusError, OSError) as error:
            log.warning("nobody can tell who asks for %s: %s", request.path, error)
            user = None
        if user is None:
            request.respond(401, errors.unauthorized().to_json())
            return
        path, verb = request.path, request.method.lower()
        allowed, reason = path in HEALTH, ""
        if not allowed:
            allowed, reason = await self._access.allows(user, nonResourceAttributes={"path": path, "verb": verb})
        if allowed:
            request.resume(user, authorized=True)
            return
        said = f'User "{user.username}" cannot {verb} path "{path}"'
        refusal = errors.forbidden("", "", "", f"{said}: {reason}" if reason else said)
        request.respond(403, refusal.to_json())
