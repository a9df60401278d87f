"""One component each, with Kubernetes' own flag names: `kubecore apiserver`, `kubecore scheduler` and so on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kubecore.apiserver.admission.options import AdmissionOptions
from kubecore.apiserver.audit.options import AuditOptions
from kubecore.cli import logs, options
from kubecore.cli.access_options import Access, access_options
from kubecore.cli.admission_options import admission_options
from kubecore.cli.audit_options import audit_options
from kubecore.cli.dns_options import Autopath, DnsUpstreams, StubDomains, dns_config
from kubecore.cli.kubelet_options import (
    AllowedSysctls,
    BootstrapKubeconfig,
    ClientAuthority,
    ClusterDns,
    ConfigFile,
    ManifestPath,
    MaxPods,
    Mirrors,
    MostPids,
    NodeKubeconfig,
    NodeRuntime,
    OrphanedPodsTimeout,
    RootDir,
    RotateCertificates,
    ServerCertificate,
    ServerKey,
    check_shutdown,
    cri_config,
    cri_options,
    eviction_options,
    oci_options,
    registries,
    shutdown_options,
)
from kubecore.cli.leading import Leading, leads, seconds
from kubecore.cli.proxy_options import RuntimeConfig
from kubecore.cli.serving_options import Serving, serves
from kubecore.cli.stop_signals import stop_signals
from kubecore.cli.up import (
    IngressAccessLog,
    IngressPort,
    SchedulerConfigFile,
    Verbosity,
    rest_collector,
    run_on_loop,
    told,
)
from kubecore.whole_file import write_whole

if TYPE_CHECKING:
    from kubecore.apiserver.config import APIServerConfig
    from kubecore.client.client import Client
    from kubecore.client.http import HTTPTransport
    from kubecore.cluster import Component
    from kubecore.kubelet.settings.kubelet_config import KubeletConfig

Kubeconfig = Annotated[Path, typer.Option(help="How to reach the API server.", exists=True, dir_okay=False)]


async def _until_signal(
    work: Callable[[], Awaitable[None]], leave: Callable[[], Coroutine[Any, Any, None]] | None = None
) -> int:
    """Run `work` until it ends or a signal to stop comes; 0 then, 1 when it died by itself. After the signal
    `leave` is given the time it takes, unless another one comes."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in stop_signals():
        loop.add_signal_handler(number, stopping.set)
    running = asyncio.ensure_future(work())
    ended = asyncio.create_task(stopping.wait(), name="signal")
    await asyncio.wait((running, ended), return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        error = running.exception()
        typer.echo(f"kubecore: {told(error)}" if error else "kubecore: ended by itself", err=True)
        return 1
    if leave is not None:
        stopping.clear()
        ended = asyncio.create_task(stopping.wait(), name="second signal")
        leaving = asyncio.create_task(leave(), name="leave")
        await asyncio.wait((running, ended, leaving), return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
    running.cancel()
    await asyncio.wait((running,))
    return 0


async def _nothing() -> None:
    """There is nothing to be seen to."""


def run_component(
    kubeconfig: Path,
    field_manager: str,
    make: Callable[[Client], Component],
    leading: Leading | None = None,
    *,
    serving: Serving | None = None,
    leave: Callable[[], Coroutine[Any, Any, None]] = _nothing,
    join: Callable[[], Awaitable[None]] = _nothing,
    known_by: Callable[[Client, HTTPTransport], AbstractAsyncContextManager[None]] | None = None,
) -> None:
    """Connect with `kubeconfig`, make one component on that client, run it until a signal; says when it works. `leave`
    is what it does then, before it ends. `join`: sees to it that there is such a kubeconfig. `known_by`: sees to what
    the API server knows it by, while it runs."""

    async def tell(component: Component) -> None:
        await component.ready.wait()
        typer.echo(f"kubecore: {field_manager} is ready")

    async def work() -> None:
        from kubecore.client.client import Client
        from kubecore.client.http import HTTPTransport
        from kubecore.client.kubeconfig import Kubeconfig
        from kubecore.clock import RealClock

        await join()
        transport = HTTPTransport(Kubeconfig.load(kubeconfig))
        try:
            client = Client(transport, field_manager=field_manager)
            async with AsyncExitStack() as stack:
                if known_by is not None:
                    await stack.enter_async_context(known_by(client, transport))
                component = make(client)
                telling = asyncio.create_task(tell(component), name="tell")
                try:
                    if serving is not None:
                        metrics = [*getattr(component, "metrics", ()), transport.requests]
                        documents = getattr(component, "documents", {})
                        await stack.enter_async_context(serving.serving(field_manager, client, metrics, documents))
                    if leading is None:
                        await component.run()
                    else:
                        await leading.run(client, RealClock(), component.run)
                finally:
                    telling.cancel()
        finally:
            await transport.close()

    raise typer.Exit(run_on_loop(_until_signal(work, leave)))


@admission_options
@audit_options
@access_options
def apiserver(
    data_dir: options.DataDir = options.DATA_DIR,
    secure_port: Annotated[int, typer.Option(min=0, max=65535, help="HTTPS port; 0 picks a free one.")] = 6443,
    bind_address: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    insecure_port: Annotated[int, typer.Option(min=0, max=65535, help="Plain HTTP on loopback; 0 means off.")] = 0,
    grpc_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="gRPC port; 0 picks a free one. Without it: no gRPC.")
    ] = None,
    *,
    access: Access,
    admission: AdmissionOptions,
    audit: AuditOptions,
    runtime_config: RuntimeConfig = "",
    enable_priority_and_fairness: Annotated[
        bool, typer.Option(help="Requests have seats, by FlowSchemas and PriorityLevelConfigurations.")
    ] = True,
    max_requests_inflight: Annotated[
        int, typer.Option(min=0, help="Seats; without priority and fairness: requests that read, at once; 0: no bound.")
    ] = 400,
    max_mutating_requests_inflight: Annotated[
        int, typer.Option(min=0, help="More seats; without priority and fairness: other requests, at once.")
    ] = 200,
    service_cluster_ip_range: Annotated[
        str,
        typer.Option(
            callback=options.service_ranges,
            help="Range of cluster IPs, or one of each family, comma separated; for nodes in loopback mode a part of "
            "127.0.0.0/8, such as 127.97.0.0/16.",
        ),
    ] = "10.96.0.0/16",
    service_node_port_range: Annotated[
        str, typer.Option(callback=options.port_range, help="Range of node ports.")
    ] = "30000-32767",
    verbosity: Verbosity = 0,
    logging_format: logs.LoggingFormat = "text",
) -> None:
    """The API server alone."""
    import ipaddress

    from kubecore.apiserver.config import APIServerConfig
    from kubecore.kubelet.networks import network

    logs.configure(verbosity=verbosity, file=None, form=logging_format)
    own = service_cluster_ip_range.split(",")[0]
    if (":" in own) != (":" in bind_address):
        problem = f'service IP family "{own}" must match public address family "{bind_address}"'
        raise typer.BadParameter(problem, param_hint="'--bind-address'")
    config = APIServerConfig(
        data_dir=data_dir,
        bind_address=bind_address,
        secure_port=secure_port,
        insecure_port=insecure_port,
        grpc_port=grpc_port,
        **access,
        admission=admission,
        audit=audit,
        runtime_config=options.settings(runtime_config),
        priority_and_fairness=enable_priority_and_fairness,
        max_requests_inflight=max_requests_inflight,
        max_mutating_requests_inflight=max_mutating_requests_inflight,
        service_cidr=service_cluster_ip_range,
        service_port=network.https_port(str(ipaddress.ip_network(own)[1])),
        node_ports=options.ports(service_node_port_range),
    )

    raise typer.Exit(run_on_loop(_until_signal(partial(_serve, config))))


async def _serve(config: APIServerConfig) -> None:
    """Until it is cancelled."""
    from kubecore.apiserver.server import APIServer
    from kubecore.clock import RealClock

    server = APIServer(config, RealClock())
    await server.start()
    typer.echo(f"kubecore is ready: {server.url} (kubeconfig {server.kubeconfig})")
    rest_collector()
    try:
        await asyncio.Event().wait()
    finally:
        await server.stop()


@serves
@leads("kube-scheduler")
def scheduler(
    kubeconfig: Kubeconfig,
    config: SchedulerConfigFile = None,
    *,
    leading: Leading,
    serving: Serving,
    verbosity: Verbosity = 0,
    logging_format: logs.LoggingFormat = "text",
) -> None:
    """The scheduler alone."""
    from kubecore.clock import RealClock
    from kubecore.scheduler.scheduler import Scheduler

    settings = options.scheduler_config(config, "--config")
    logs.configure(verbosity=verbosity, file=None, form=logging_format)
    if settings is not None:
        leading = leading.or_as_in(settings.leader_election, name="kube-scheduler")
    leading.check()
    run_component(
        kubeconfig,
        "kube-scheduler",
        lambda client: Scheduler(client, RealClock(), settings),
        leading,
        serving=serving,
    )


@cri_options
@oci_options
@eviction_options
@shutdown_options
def kubelet(
    kubeconfig: NodeKubeconfig,
    bootstrap_kubeconfig: BootstrapKubeconfig = None,
    config: ConfigFile = None,
    hostname_override: Annotated[str, typer.Option(help="Name of the node; the host's by default.")] = "",
    root_dir: RootDir = Path("~/.kubecore/kubelet"),
    client_ca_file: ClientAuthority = None,
    tls_cert_file: ServerCertificate = None,
    tls_private_key_file: ServerKey = None,
    rotate_certificates: RotateCertificates = False,
    cluster_dns: ClusterDns = "",
    cluster_domain: Annotated[str, typer.Option(help="The cluster's domain.")] = "cluster.local",
    default_runtime: NodeRuntime = "host",
    registry_mirror: Mirrors = None,
    pod_manifest_path: ManifestPath = None,
    pod_max_pids: MostPids = -1,
    allowed_unsafe_sysctls: AllowedSysctls = "",
    *,
    container_runtime: Any,
    oci_programs: Any,
    eviction: Any,
    orphaned_pods_timeout: OrphanedPodsTimeout = "1h0m0s",
    max_pods: MaxPods = 110,
    shutdown: Any,
    verbosity: Verbosity = 0,
    logging_format: logs.LoggingFormat = "text",
) -> None:
    """One node alone, in loopback mode.

    Ctrl-C or SIGTERM ends it, and its pods' processes with it. When it is killed they go on for an hour, in which
    another start with the same root directory takes them over."""
    import socket

    from kubecore.kubelet.settings.kubelet_config import KeeperConfig, KubeletConfig

    if bootstrap_kubeconfig is None and not kubeconfig.is_file():
        raise typer.BadParameter(f"File '{kubeconfig}' does not exist.", param_hint="'--kubeconfig'")
    cri = cri_config(default_runtime, container_runtime, root_dir / "cni")
    check_shutdown(config, shutdown)
    settings = KubeletConfig(
        keeper=KeeperConfig(seconds(orphaned_pods_timeout) or None),
        node_name=hostname_override or socket.gethostname().lower(),
        root_dir=root_dir,
        default_runtime=default_runtime,
        cri=cri,
        **oci_programs,
        registries=registries(registry_mirror),
        client_ca=client_ca_file,
        server_certificate=tls_cert_file,
        server_key=tls_private_key_file,
        cluster_dns=options.split(cluster_dns),
        cluster_domain=cluster_domain,
        eviction=eviction,
        pod_manifest_path=pod_manifest_path,
        max_pods=max_pods,
        shutdown=shutdown,
        pod_max_pids=pod_max_pids if pod_max_pids > 0 else None,
        allowed_unsafe_sysctls=options.split(allowed_unsafe_sysctls),
    )
    logs.configure(verbosity=verbosity, file=None, form=logging_format)
    settings = replace(settings, **config.settings)
    _run_node(kubeconfig, settings, bootstrap=bootstrap_kubeconfig, rotating=rotate_certificates)


def _run_node(kubeconfig: Path, settings: KubeletConfig, *, bootstrap: Path | None, rotating: bool) -> None:
    """With addresses that no other kubelet of the machine has."""
    from kubecore.clock import RealClock
    from kubecore.held_directory import DirectoryInUse, HeldDirectory
    from kubecore.kubelet.kubelet import Kubelet
    from kubecore.kubelet.networks import loopback_ranges
    from kubecore.kubelet.networks.range_claims import Claim, claim_first

    try:
        # Whoever comes second must not end what the first one runs there.
        held = HeldDirectory(settings.root_dir)
    except (DirectoryInUse, OSError) as error:
        typer.echo(f"kubecore: {told(error)}; choose another root directory with --root-dir", err=True)
        raise typer.Exit(1) from None
    claims: list[Claim] = []  # held as long as this process lives
    made: list[Kubelet] = []

    async def leave() -> None:
        for kubelet in made:
            await kubelet.shut_down()

    def make(client: Client) -> Component:
        claim = claim_first(loopback_ranges.all_services(str(settings.root_dir)))
        claims.append(claim)
        own = replace(
            settings,
            pod_cidrs=(loopback_ranges.pods_of(claim.network, 0),),
            client_ca=settings.client_ca or _saved_authority(kubeconfig, settings.root_dir),
        )
        made.append(Kubelet(client, RealClock(), own))
        return made[-1]

    try:
        known_by = partial(_own_certificate, kubeconfig, settings) if rotating else None
        join = partial(_join, kubeconfig, bootstrap, settings) if bootstrap is not None else _nothing
        run_component(kubeconfig, "kubelet", make, leave=leave, join=join, known_by=known_by)
    finally:
        held.release()


async def _join(kubeconfig: Path, bootstrap: Path, settings: KubeletConfig) -> None:
    """The bootstrap kubeconfig is read only when it is needed: who joins nodes takes it away afterwards."""
    from kubecore.client import kubeconfig as credentials
    from kubecore.client.client import Client
    from kubecore.client.http import HTTPTransport
    from kubecore.clock import RealClock
    from kubecore.kubelet.bootstrap import is_good, join

    clock = RealClock()
    if is_good(kubeconfig, clock.now()):
        return
    known = credentials.Kubeconfig.load(bootstrap)
    transport = HTTPTransport(known)
    try:
        client = Client(transport, field_manager="kubelet")
        await join(kubeconfig, known, client, settings.root_dir / "pki", settings.node_name, clock)
    finally:
        await transport.close()


def _own_certificate(
    kubeconfig: Path, settings: KubeletConfig, client: Client, transport: HTTPTransport
) -> AbstractAsyncContextManager[None]:
    from kubecore.clock import RealClock
    from kubecore.kubelet.client_certificate import kept

    return kept(kubeconfig, settings, client, transport, RealClock())


def _saved_authority(kubeconfig: Path, folder: Path) -> Path | None:
    """The CA that the kubeconfig trusts, as a file in `folder`; None when it names none."""
    from kubecore.client import kubeconfig as credentials

    authority = credentials.Kubeconfig.load(kubeconfig).certificate_authority
    if not authority:
        return None
    file = folder / "pki" / "client-ca.crt"
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_whole(file, authority)
    return file


def dns(
    kubeconfig: Kubeconfig,
    address: Annotated[
        str, typer.Option("--address", "--dns-bind-address", help="Addresses to listen on, comma separated.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", "--dns-port", min=0, max=65535, help="UDP and TCP port; 0 picks a free one.")
    ] = 53,
    domain: Annotated[str, typer.Option(help="The cluster's domain.")] = "cluster.local",
    resolv_conf: Annotated[Path, typer.Option(help="Names the resolvers for all other domains.")] = Path(
        "/etc/resolv.conf"
    ),
    dns_upstream: DnsUpstreams = None,
    dns_stub_domain: StubDomains = None,
    dns_autopath: Autopath = False,
    verbosity: Verbosity = 0,
    logging_format: logs.LoggingFormat = "text",
) -> None:
    """The cluster's DNS alone."""
    from kubecore.clock import RealClock
    from kubecore.dns.responder import DnsResponder

    logs.configure(verbosity=verbosity, file=None, form=logging_format)
    config = dns_config(
        domain, upstreams=dns_upstream, stub_domains=dns_stub_domain, autopath=dns_autopath, resolv_conf=resolv_conf
    )

    addresses = [options.ip_address(one, "--address") for one in options.split(address)]

    def make(client: Client) -> Component:
        responder = DnsResponder(client, RealClock(), config)
        bound = responder.listen(addresses, port)
        typer.echo(f"kubecore answers DNS for {domain} at {', '.join(addresses)} port {bound}")
        return responder

    run_component(kubeconfig, "coredns", make)


def ingress(
    kubeconfig: Kubeconfig,
    address: Annotated[str, typer.Option(help="Address to listen on, once there is an Ingress.")] = "127.0.0.1",
    publish_status_address: Annotated[
        str, typer.Option(help="Address that Ingresses' status shows; by default the one listened on.")
    ] = "",
    http_port: IngressPort = None,
    https_port: IngressPort = None,
    access_log: IngressAccessLog = None,
    verbosity: Verbosity = 0,
    logging_format: logs.LoggingFormat = "text",
) -> None:
    """The Ingress controller and its HTTP proxy alone."""
    from kubecore.clock import RealClock
    from kubecore.ingress.controller import IngressController
    from kubecore.ingress.options import IngressConfig

    logs.configure(verbosity=verbosity, file=None, form=logging_format)
    config = IngressConfig(
        address=options.ip_address(address, "--address"),
        published=publish_status_address and options.ip_address(publish_status_address, "--publish-status-address"),
        http_port=http_port,
        https_port=https_port,
        access_log=access_log,
    )
    run_component(kubeconfig, "kubecore-ingress", lambda client: IngressController(client, RealClock(), config))
