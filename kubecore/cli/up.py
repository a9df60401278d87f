"""`kubecore up`: a whole cluster in the foreground."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import shlex
import signal
import sys
from collections.abc import Coroutine, Sequence
from enum import StrEnum
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kubecore.apiserver.admission.options import AdmissionOptions
from kubecore.apiserver.audit.options import AuditOptions
from kubecore.background_tasks import unless
from kubecore.cli import logs, one_command, open_files, options
from kubecore.cli.access_options import Access, access_options
from kubecore.cli.admission_options import admission_options
from kubecore.cli.audit_options import audit_options
from kubecore.cli.controller_options import NodeMonitorGracePeriod
from kubecore.cli.dns_options import Autopath, DnsUpstreams, StubDomains, dns_config
from kubecore.cli.kubelet_options import (
    MaxPods,
    NodesConfigFile,
    cri_config,
    cri_options,
    node_settings,
    oci_options,
)
from kubecore.cli.leading import seconds
from kubecore.cli.one_command import CANNOT_BE_RUN, Place, Stopping
from kubecore.cli.option_groups import headed, stands_for
from kubecore.cli.proxy_options import IpvsScheduler, LoadBalancerCIDR, RuntimeConfig
from kubecore.cli.stop_signals import stop_signals
from kubecore.event_loops import loop_factory

if TYPE_CHECKING:
    from kubecore.cluster import Cluster

log = logging.getLogger("kubecore.cli")


class ProxyMode(StrEnum):
    """How Services are balanced."""

    USERSPACE = "userspace"
    NFTABLES = "nftables"
    IPVS = "ipvs"


class PodNetwork(StrEnum):
    """What network pods have."""

    AUTO = "auto"
    NETNS = "netns"
    ROOTLESS = "rootless"
    LOOPBACK = "loopback"


class IpFamily(StrEnum):
    """Of Services and pods; of two, the first named is the cluster's own."""

    IPV4 = "ipv4"
    IPV6 = "ipv6"
    DUAL = "dual"


SimulatedNodes = Annotated[
    int, typer.Option(min=0, max=50_000, help="Nodes without a machine, whose pods run nothing.")
]
SchedulerConfigFile = Annotated[
    Path | None,
    typer.Option(help="A KubeSchedulerConfiguration: the scheduler's profiles and plugins.", dir_okay=False),
]
IngressPort = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=65535,
        help="Port that Ingresses are served at; 0 picks a free one. By default the protocol's own where that can be "
        "had, else 8080 or 8443, else a free one: `kubectl get ingress -o yaml` tells.",
    ),
]
IngressAccessLog = Annotated[
    Path | None,
    typer.Option(
        callback=options.file_to_append_to,
        help="File, in a folder that exists, to which a line of JSON is appended for each request.",
    ),
]
Ingress = Annotated[bool, typer.Option("--ingress/--no-ingress", help="Serve Ingresses.")]
LeaderElect = Annotated[
    bool,
    typer.Option(
        "--leader-elect/--no-leader-elect",
        help="Scheduler and controllers work only while they hold their leases, so that others may be run beside them.",
    ),
]
RUNTIMES = ("host", "oci", "cri", "simulated")
BindAddress = Annotated[str, typer.Option(help="Address the API server listens on.")]
InsecurePort = Annotated[
    int, typer.Option(min=0, max=65535, help="Plain HTTP on loopback without authentication; 0 means off.")
]
Nodes = Annotated[int, typer.Option(min=0, max=64, help="Nodes that run real processes.")]
DnsPort = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=65535,
        help="Port of the bind address where DNS answers too, which it does not by default; 0 picks a free one (see "
        "ports.json).",
    ),
]
DefaultRuntime = Annotated[
    str,
    typer.Option(
        callback=options.one_of(RUNTIMES),
        help="Runtime of pods without a RuntimeClass: host, or oci for images, or cri for a container runtime of this "
        "machine; with simulated, all nodes are.",
    ),
]
Storage = Annotated[
    str, typer.Option(callback=options.one_of(["lmdb"], to_come=["etcd"]), help="Where objects live: lmdb.")
]
PodNetworkMode = Annotated[
    PodNetwork,
    typer.Option(
        help="Network namespaces for pods: netns, on a bridge of the host's, as root; rootless, on one in a user "
        "namespace, which the host reaches by node ports, port-forward and the API server's proxy; or loopback, none: "
        "pods are on the host's network, at addresses of 127.0.0.0/8. auto: the first that can be had."
    ),
]
ServiceCIDR = Annotated[
    str,
    typer.Option(
        callback=options.service_ranges_if_any,
        help="Range of cluster IPs, or one of each family, comma separated; the first one's is what Services get "
        "unasked. By default a range that is free.",
    ),
]
PodCIDR = Annotated[
    str,
    typer.Option(
        callback=options.pod_ranges,
        help="Range of pods that have network namespaces, or one of each family. By default a range that is free.",
    ),
]
IpFamilies = Annotated[
    IpFamily | None,
    typer.Option(
        "--ip-family",
        help="Of ranges that are not given: ipv4, ipv6, or dual for both. IPv6 needs network namespaces for pods.",
        show_default="ipv4",
    ),
]
Verbosity = Annotated[int, typer.Option("--v", "-v", help="Log verbosity on standard error.")]


_NETWORK = "Service, DNS and Ingress options"


def _to_come(sentence: str) -> Any:
    """An option of the contract that nothing is behind yet."""
    return typer.Option(callback=options.not_yet(sentence), hidden=True)


def _served_ingress(
    ingress_http_port: IngressPort = None,
    ingress_https_port: IngressPort = None,
    ingress_access_log: IngressAccessLog = None,
    ingress: Ingress = True,
) -> Any:
    from kubecore.ingress.options import IngressConfig

    if not ingress:
        return None
    return IngressConfig(http_port=ingress_http_port, https_port=ingress_https_port, access_log=ingress_access_log)


def _told_parts(
    scheduler_config: SchedulerConfigFile = None,
    kubelet_config: NodesConfigFile = None,
    node_monitor_grace_period: NodeMonitorGracePeriod = "50s",
    leader_elect: LeaderElect = True,
) -> dict[str, Any]:
    """Fields of a ClusterConfig. Raises BadParameter."""
    from kubecore.cluster_config import lease_problem
    from kubecore.kubelet.node.lease import LEASE_SECONDS

    kubelet, grace = node_settings(kubelet_config), seconds(node_monitor_grace_period)
    if (problem := lease_problem(kubelet.get("lease_seconds", LEASE_SECONDS), grace)) is not None:
        raise typer.BadParameter(problem, param_hint="'--node-monitor-grace-period'")
    return {
        "scheduler": options.scheduler_config(scheduler_config, "--scheduler-config"),
        "kubelet": kubelet,
        "node_monitor_grace_seconds": grace,
        "leader_elect": leader_elect,
    }


@admission_options
@audit_options
@access_options
@cri_options
@oci_options
@stands_for("served_ingress", _served_ingress, _NETWORK)
@stands_for("told_parts", _told_parts)
@stands_for("place", one_command.place)
@headed(
    {
        "Node and pod options": (
            "nodes",
            "simulated_nodes",
            "default_runtime",
            "max_pods",
            "kubelet_config",
            "node_monitor_grace_period",
            "pod_network",
            "pod_cidr",
            "scheduler_config",
        ),
        _NETWORK: (
            "service_cidr",
            "ip_family",
            "load_balancer_cidr",
            "proxy_mode",
            "ipvs_scheduler",
            "dns_port",
            "dns_upstream",
            "dns_stub_domain",
            "dns_autopath",
        ),
    }
)
def up(
    *,
    place: Place,
    bind_address: BindAddress = "127.0.0.1",
    insecure_port: InsecurePort = 0,
    nodes: Nodes = 1,
    dns_port: DnsPort = None,
    dns_upstream: DnsUpstreams = None,
    dns_stub_domain: StubDomains = None,
    dns_autopath: Autopath = False,
    default_runtime: DefaultRuntime = "host",
    simulated_nodes: SimulatedNodes = 0,
    proxy_mode: Annotated[ProxyMode, typer.Option(help="How Services are balanced.")] = ProxyMode.USERSPACE,
    ipvs_scheduler: IpvsScheduler = "rr",
    load_balancer_cidr: LoadBalancerCIDR = "",
    container_runtime: Any,
    oci_programs: Any,
    access: Access,
    admission: AdmissionOptions,
    audit: AuditOptions,
    runtime_config: RuntimeConfig = "",
    storage: Storage = "lmdb",
    etcd_servers: Annotated[str, _to_come("storage in etcd is not part of this version yet")] = "",
    served_ingress: Any,
    told_parts: dict[str, Any],
    max_pods: MaxPods = 110,
    pod_network: PodNetworkMode = PodNetwork.AUTO,
    service_cidr: ServiceCIDR = "",
    pod_cidr: PodCIDR = "",
    ip_family: IpFamilies = None,
    verbosity: Verbosity = 0,
    logging_format: logs.LoggingFormat = "text",
) -> None:
    """Start API server, controllers, scheduler, kubelet, service proxy, DNS and Ingress in the foreground.

    Prints one line when the cluster is ready. Ctrl-C, SIGTERM or the end of its terminal (not under nohup) ends it, and
    its pods' processes with it; a second one waits only a moment for a container runtime that takes its time. When it
    is killed they go on for five minutes, in which another start with the same data directory takes them over."""
    from kubecore.cluster import CLUSTER_DOMAIN, Cluster, ClusterConfig

    with place.folder() as data_dir:
        config = ClusterConfig(
            data_dir=data_dir,
            **place.settings,
            bind_address=bind_address,
            insecure_port=insecure_port,
            nodes=nodes,
            max_pods=max_pods,
            simulated_nodes=simulated_nodes,
            dns_port=dns_port,
            dns=dns_config(CLUSTER_DOMAIN, upstreams=dns_upstream, stub_domains=dns_stub_domain, autopath=dns_autopath),
            default_runtime=default_runtime,
            cri=cri_config(default_runtime, container_runtime, data_dir / "cni"),
            proxy_mode=proxy_mode.value,
            ipvs_scheduler=ipvs_scheduler,
            load_balancer_ranges=options.split(load_balancer_cidr),
            **access,
            admission=admission,
            audit=audit,
            runtime_config=options.settings(runtime_config),
            network_mode=pod_network.value,
            **_ranges(service_cidr, pod_cidr, ip_family),
            ingress=served_ingress,
            **told_parts | {"kubelet": told_parts["kubelet"] | oci_programs},
        )
        _hold(cluster := Cluster(config), verbosity, logging_format)
        status = run_on_loop(_serve(cluster, place.command))
    raise typer.Exit(status)


def _hold(cluster: Cluster, verbosity: int, form: str) -> None:
    """Take the data directory and log to it; Exit with the reason where that cannot be."""
    from kubecore.held_directory import DirectoryInUse

    directory = cluster.config.data_dir
    try:
        # First of all: the log of a cluster that runs is not to be written to by a second one.
        cluster.hold()
        logs.configure(verbosity=verbosity, file=directory / "log" / "kubecore.log", form=form)
    except DirectoryInUse as error:
        typer.echo(f"kubecore: {error}; choose another one with --data-dir", err=True)
        raise typer.Exit(1) from None
    except OSError as error:
        problem = no_room(error, directory) or f"{told(error)}; choose one with --data-dir"
        typer.echo(f"kubecore: cannot write to the data directory: {problem}", err=True)
        raise typer.Exit(1) from None


def _ranges(services: str, pods: str, asked: IpFamily | None) -> dict[str, Any]:
    """Of a ClusterConfig. Raises BadParameter."""
    split = options.split
    return {
        "service_cidrs": split(services),
        "pod_cidrs": split(pods),
        "ip_families": _ip_families(services, pods, asked),
    }


def _ip_families(service_cidr: str, pod_cidr: str, asked: IpFamily | None) -> tuple[str, ...]:
    """What is asked for where no range says it; BadParameter where they say different things."""
    named = {IpFamily.IPV4: ("IPv4",), IpFamily.IPV6: ("IPv6",), IpFamily.DUAL: ("IPv4", "IPv6")}
    services, pods = (
        tuple("IPv6" if ":" in one else "IPv4" for one in options.split(text)) for text in (service_cidr, pod_cidr)
    )
    if services and pods and services != pods:
        raise typer.BadParameter(
            "must have the IP families of --service-cidr, in the same order", param_hint="'--pod-cidr'"
        )
    ranges = services or pods
    if ranges and asked is not None and set(named[asked]) != set(ranges):
        raise typer.BadParameter(f"the ranges are of {' and '.join(ranges)}", param_hint="'--ip-family'")
    return ranges or (named[asked] if asked is not None else ())


async def _serve(cluster: Cluster, command: Sequence[str]) -> int:
    stopping = Stopping()
    loop = asyncio.get_running_loop()

    def stop(number: signal.Signals) -> None:
        log.info("%s received", number.name)
        if stopping.told(number):
            cluster.cut_stop()

    for number in stop_signals():
        loop.add_signal_handler(number, stop, number)
    # What a reader of the log can type himself; of the command that is run beside it, which may name secrets, nothing.
    log.info("starting with %s", shlex.join(takewhile(lambda word: word != "--", sys.argv[1:])))
    try:
        starting = asyncio.create_task(cluster.start(), name="start")
        ended = asyncio.create_task(stopping.asked.wait(), name="signal")
        await asyncio.wait((starting, ended), return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.wait((starting,))
            return stopping.status if command else 0
        try:
            starting.result()
        except Exception as error:
            problem = no_room(error, cluster.config.data_dir) or told(error)
            log.info("start failed: %s", problem)
            log.debug("because of", exc_info=True)
            typer.echo(f"kubecore: {problem}", err=True)
            return 1
        if cluster.config.real_nodes:
            typer.echo(f"kubecore: pod network {cluster.networks}", err=True)
        ready = f"kubecore is ready: {cluster.url} (kubeconfig {cluster.kubeconfig})"
        typer.echo(ready, err=bool(command))
        rest_collector()
        return await _last(cluster, command, stopping)
    finally:
        await cluster.stop()


async def _last(cluster: Cluster, command: Sequence[str], stopping: Stopping) -> int:
    """Until a signal, the command's end, or that of a component."""
    assert cluster.failed is not None
    work: Coroutine[Any, Any, int | bool] = (
        one_command.run(command, cluster.kubeconfig, stopping) if command else stopping.asked.wait()
    )
    lasting = asyncio.create_task(work, name="command")
    await asyncio.wait((lasting, cluster.failed), return_when=asyncio.FIRST_COMPLETED)
    if cluster.failed.done():
        lasting.cancel()
        await asyncio.wait((lasting,))
        typer.echo(f"kubecore: a component died: {cluster.failed.result()!r}", err=True)
        return 1
    await unless(stopping.cut, cluster.shut_down())
    try:
        return int(lasting.result()) if command else 0
    except OSError as error:
        typer.echo(f"kubecore: cannot run {command[0]}: {error.strerror}", err=True)
        return CANNOT_BE_RUN


def rest_collector() -> None:
    """What a start has made stays for good: the garbage collector need not go through it again and again.

    A full collection of it takes 15 ms, in which no request is answered. Requests leave few cycles behind, and where
    many objects arrive that stay, they are gone through in small parts: a million at once would take 0.4 s.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 2, 700)


def no_room(error: BaseException, directory: Path) -> str:
    """What to do where the error says that the disk is full, else "". Such an error does not name the file."""
    if isinstance(error, BaseExceptionGroup):
        return no_room(error.exceptions[0], directory)
    if not isinstance(error, OSError) or error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return ""
    return f"{error.filename or directory}: {error.strerror}; make room there, or choose another place with --data-dir"


def told(error: BaseException) -> str:
    """An error in words, without the number that Python puts before an OSError's; the first one of a group."""
    if isinstance(error, BaseExceptionGroup):
        return told(error.exceptions[0])
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def run_on_loop(work: Coroutine[Any, Any, int]) -> int:
    """Run `work` to its exit status on uvloop, or on the standard loop where uvloop is missing."""
    open_files.allow_many()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(work)
