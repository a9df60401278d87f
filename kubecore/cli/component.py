"""One component each, with Kubernetes' own flag names: `kubecore apiserver`, `kubecore scheduler` and so on."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kubecore.cli.up import run_on_loop

if TYPE_CHECKING:
    from kubecore.client.client import Client
    from kubecore.cluster import Component

Kubeconfig = Annotated[Path, typer.Option(help="How to reach the API server.", exists=True, dir_okay=False)]
Verbosity = Annotated[int, typer.Option("--v", "-v", min=0, max=9, help="Log verbosity on standard error.")]


async def _until_signal(work: Callable[[], Awaitable[None]]) -> int:
    """Run `work` until it ends or SIGINT or SIGTERM comes; 0 on a signal, 1 when it died by itself."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    running = asyncio.ensure_future(work())
    ended = asyncio.create_task(stopping.wait(), name="signal")
    await asyncio.wait((running, ended), return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        error = running.exception()
        typer.echo(f"kubecore: {error}" if error else "kubecore: ended by itself", err=True)
        return 1
    running.cancel()
    await asyncio.wait((running,))
    return 0


def _run_component(kubeconfig: Path, field_manager: str, make: Callable[[Client], Component]) -> None:
    """Connect with `kubeconfig`, make one component on that client, run it until a signal."""

    async def work() -> None:
        from kubecore.client.client import Client
        from kubecore.client.http import HTTPTransport
        from kubecore.client.kubeconfig import load

        transport = HTTPTransport(load(kubeconfig))
        try:
            await make(Client(transport, field_manager=field_manager)).run()
        finally:
            await transport.close()

    raise typer.Exit(run_on_loop(_until_signal(work)))
