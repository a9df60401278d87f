"""Options of a component's own HTTPS server, with Kubernetes' names."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kubecore.background_tasks import BackgroundTasks
from kubecore.cli import options
from kubecore.cli.option_groups import stands_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kubecore.client.client import Client
    from kubecore.metrics import Metric

log = logging.getLogger(__name__)

_OFF = 0
_USUAL = {"kube-scheduler": 10259, "kube-controller-manager": 10257}


@dataclass(frozen=True, slots=True)
class Serving:
    """`port` None: the usual one, unless somebody has it already; 0: none."""

    port: int | None
    address: str
    certificate: Path | None
    key: Path | None

    @asynccontextmanager
    async def serving(
        self, name: str, client: Client, metrics: list[Metric], documents: Mapping[str, Callable[[], bytes]]
    ) -> AsyncIterator[None]:
        """For a component of that name; `documents` are told by path. Raises OSError, which names a port that was asked
        for and cannot be had."""
        if self.port == _OFF:
            yield
            return
        from kubecore.clock import RealClock
        from kubecore.component_server import ComponentServer, ServerConfig
        from kubecore.metrics import Metrics
        from kubecore.process_metrics import process_metrics

        told = Metrics()
        told.add(*metrics, *process_metrics())
        port = _USUAL[name] if self.port is None else self.port
        config = ServerConfig(name=name, address=self.address, port=port, certificate=self.certificate, key=self.key)
        server = ComponentServer(client, RealClock(), config, told, documents)
        try:
            server.listen()
        except OSError as error:
            if isinstance(error, ssl.SSLError):
                raise OSError(f"unable to load server certificate: {error}") from error
            if self.port is not None:
                raise OSError(f"cannot listen on {self.address}:{port}: {error.strerror}") from error
            log.info("no metrics and health are served: %s:%d: %s", self.address, port, error.strerror)
            yield
            return
        tasks = BackgroundTasks(log)
        tasks.spawn(server.run(), f"{name}'s server")
        try:
            yield
        finally:
            await tasks.close()


def _asked(
    secure_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="HTTPS port of /metrics, /healthz, /livez and /readyz; 0: none. By default Kubernetes' own (10259 of "
            "the scheduler, 10257 of the controller manager), where nobody else has it.",
        ),
    ] = None,
    bind_address: Annotated[str, typer.Option(help="Address of that port.")] = "127.0.0.1",
    tls_cert_file: Annotated[
        Path | None,
        typer.Option(help="Certificate for it; without one it vouches for itself.", exists=True, dir_okay=False),
    ] = None,
    tls_private_key_file: Annotated[
        Path | None, typer.Option(help="The certificate's key.", exists=True, dir_okay=False)
    ] = None,
) -> Serving:
    if (tls_cert_file is None) != (tls_private_key_file is None):
        raise typer.BadParameter("--tls-cert-file and --tls-private-key-file belong together")
    address = options.ip_address(bind_address, "--bind-address")
    return Serving(secure_port, address, tls_cert_file, tls_private_key_file)


serves = stands_for("serving", _asked, "Metrics and health options")
"""For a command with a parameter `serving`: the options of its server stand in its place."""
