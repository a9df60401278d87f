"""One component each, with Kubernetes' own flag names: `kubecore apiserver`, `kubecore scheduler` and so on."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kubecore.cli import logs
from kubecore.cli.up import DataDir, ProxyMode, run_on_loop

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
        from kubecore.client.kubeconfig import Kubeconfig

        transport = HTTPTransport(Kubeconfig.load(kubeconfig))
        try:
            await make(Client(transport, field_manager=field_manager)).run()
        finally:
            await transport.close()

    raise typer.Exit(run_on_loop(_until_signal(work)))


def apiserver(
    data_dir: DataDir = Path("~/.kubecore"),
    secure_port: Annotated[int, typer.Option(min=0, max=65535, help="HTTPS port; 0 picks a free one.")] = 6443,
    bind_address: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    insecure_port: Annotated[int, typer.Option(min=0, max=65535, help="Plain HTTP on loopback; 0 means off.")] = 0,
    grpc_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="gRPC port; 0 picks a free one. Without it: no gRPC.")
    ] = None,
    authorization_mode: Annotated[str, typer.Option(help="Authorizers in turn, comma separated.")] = "Node,RBAC",
    service_cluster_ip_range: Annotated[str, typer.Option(help="Range of cluster IPs.")] = "10.96.0.0/16",
    verbosity: Verbosity = 0,
) -> None:
    """The API server alone."""
    from kubecore.apiserver.server import APIServer, APIServerConfig
    from kubecore.clock import RealClock

    logs.configure(verbosity=verbosity, file=None)
    config = APIServerConfig(
        data_dir=data_dir.expanduser().absolute(),
        bind_address=bind_address,
        secure_port=secure_port,
        insecure_port=insecure_port,
        grpc_port=grpc_port,
        authorization_modes=tuple(mode.strip() for mode in authorization_mode.split(",") if mode.strip()),
        service_cidr=service_cluster_ip_range,
    )

    async def work() -> None:
        server = APIServer(config, RealClock())
        await server.start()
        typer.echo(f"kubecore is ready: {server.url} (kubeconfig {server.kubeconfig})")
        try:
            await asyncio.Event().wait()
        finally:
            await server.stop()

    raise typer.Exit(run_on_loop(_until_signal(work)))


def controller_manager(
    kubeconfig: Kubeconfig,
    root_ca_file: Annotated[Path | None, typer.Option(help="Published to every namespace.", exists=True)] = None,
    verbosity: Verbosity = 0,
) -> None:
    """The controllers alone."""
    from kubecore.clock import RealClock
    from kubecore.controllers.manager import ControllerManager, ControllerManagerConfig

    logs.configure(verbosity=verbosity, file=None)
    config = ControllerManagerConfig(root_ca=root_ca_file.read_bytes() if root_ca_file else b"")
    _run_component(kubeconfig, "kube-controller-manager", lambda client: ControllerManager(client, RealClock(), config))


def scheduler(kubeconfig: Kubeconfig, verbosity: Verbosity = 0) -> None:
    """The scheduler alone."""
    from kubecore.clock import RealClock
    from kubecore.scheduler.scheduler import Scheduler

    logs.configure(verbosity=verbosity, file=None)
    _run_component(kubeconfig, "kube-scheduler", lambda client: Scheduler(client, RealClock()))


def kubelet(
    kubeconfig: Kubeconfig,
    hostname_override: Annotated[str, typer.Option(help="Name of the node; the host's by default.")] = "",
    root_dir: Annotated[Path, typer.Option(help="Pods' files and logs.")] = Path("~/.kubecore/kubelet"),
    client_ca_file: Annotated[Path | None, typer.Option(help="CA of clients of its own server.", exists=True)] = None,
    cluster_dns: Annotated[
        str, typer.Option(help="Addresses pods ask for names, comma separated; none: hosts files name the Services.")
    ] = "",
    cluster_domain: Annotated[str, typer.Option(help="The cluster's domain.")] = "cluster.local",
    verbosity: Verbosity = 0,
) -> None:
    """One node alone, in loopback mode."""
    import socket

    from kubecore.clock import RealClock
    from kubecore.kubelet.kubelet import Kubelet, KubeletConfig

    logs.configure(verbosity=verbosity, file=None)
    config = KubeletConfig(
        node_name=hostname_override or socket.gethostname().lower(),
        root_dir=root_dir.expanduser().absolute(),
        default_runtime="host",
        client_ca=client_ca_file,
        cluster_dns=tuple(address.strip() for address in cluster_dns.split(",") if address.strip()),
        cluster_domain=cluster_domain,
    )
    _run_component(kubeconfig, "kubelet", lambda client: Kubelet(client, RealClock(), config))


def proxy(
    kubeconfig: Kubeconfig,
    proxy_mode: Annotated[ProxyMode, typer.Option(help="How Services are balanced.")] = ProxyMode.USERSPACE,
    verbosity: Verbosity = 0,
) -> None:
    """The service proxy alone, for a node in loopback mode."""
    from kubecore.clock import RealClock
    from kubecore.proxy.proxy import ProxyConfig, ServiceProxy

    logs.configure(verbosity=verbosity, file=None)
    config = ProxyConfig(mode=proxy_mode.value)
    _run_component(kubeconfig, "kube-proxy", lambda client: ServiceProxy(client, RealClock(), config))


def dns(
    kubeconfig: Kubeconfig,
    address: Annotated[
        str, typer.Option("--address", "--dns-bind-address", help="Address to listen on.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", "--dns-port", min=0, max=65535, help="UDP and TCP port; 0 picks a free one.")
    ] = 53,
    domain: Annotated[str, typer.Option(help="The cluster's domain.")] = "cluster.local",
    resolv_conf: Annotated[Path, typer.Option(help="Names the resolvers for all other domains.")] = Path(
        "/etc/resolv.conf"
    ),
    verbosity: Verbosity = 0,
) -> None:
    """The cluster's DNS alone."""
    from kubecore.clock import RealClock
    from kubecore.dns.resolvers import host_resolvers
    from kubecore.dns.responder import DnsConfig, DnsResponder

    logs.configure(verbosity=verbosity, file=None)
    config = DnsConfig(domain=domain, upstreams=host_resolvers(resolv_conf))

    def make(client: Client) -> Component:
        responder = DnsResponder(client, RealClock(), config)
        bound = responder.listen([address], port)
        typer.echo(f"kubecore answers DNS for {domain} at {address} port {bound}")
        return responder

    _run_component(kubeconfig, "coredns", make)
