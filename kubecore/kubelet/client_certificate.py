"""The certificate that a node is known by (`rotateCertificates`): the kubeconfig's is the first, others are asked for
with the one before.

After upstream `buildKubeletClientConfig` in `cmd/kubelet/app/server.go`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kubecore.background_tasks import BackgroundTasks, see_out
from kubecore.client.kubeconfig import Kubeconfig
from kubecore.kubelet.requested_certificates import CLIENT, Names, Pair, RequestedCertificates

if TYPE_CHECKING:
    from kubecore.client.client import Client
    from kubecore.client.http import HTTPTransport
    from kubecore.clock import Clock
    from kubecore.kubelet.settings.kubelet_config import KubeletConfig


log = logging.getLogger(__name__)


@asynccontextmanager
async def kept(
    kubeconfig: Path, settings: KubeletConfig, client: Client, transport: HTTPTransport, clock: Clock
) -> AsyncGenerator[None]:
    """The body runs with one: what the node was signed before, or the kubeconfig's, or, where that has a token alone,
    the first that is signed. `client` asks by way of `transport`."""
    known = Kubeconfig.load(kubeconfig)
    first = Pair(known.client_certificate, known.client_key) if known.client_certificate else None
    certificates = RequestedCertificates(
        client,
        clock,
        settings.root_dir / "pki",
        Names(settings.node_name),
        CLIENT,
        first=first,
        authorities=known.certificate_authority,
    )

    async def use() -> None:
        await certificates.changed.wait()
        certificates.changed.clear()
        if certificates.current is not None:
            transport.use_certificate(*certificates.current)

    async def go_on() -> None:
        while True:
            try:
                await use()
            except (OSError, ValueError):  # the next one may be good again
                log.exception("node %s goes on with its former certificate", settings.node_name)

    if certificates.current is None:
        log.info("node %s waits until there is a certificate: its request has to be approved", settings.node_name)
    tasks = BackgroundTasks(log)
    try:
        asking = tasks.spawn(certificates.run(), "kubelet client certificate")
        used = asyncio.create_task(use())
        try:
            await asyncio.wait((used, asking), return_when=asyncio.FIRST_COMPLETED)
            (used if used.done() else asking).result()
        finally:
            await see_out(used)
        tasks.spawn(go_on(), "kubelet client certificate in use")
        yield
    finally:
        await tasks.close()
