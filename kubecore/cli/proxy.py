"""`kubecore proxy`: the service proxy alone, with kube-proxy's own flag names; `kubecore proxy ls`: what one has."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kubecore.cli import logs, options
from kubecore.cli.component import run_component
from kubecore.cli.proxy_options import IpvsScheduler
from kubecore.cli.up import ProxyMode, Verbosity

if TYPE_CHECKING:
    from kubecore.client.client import Client
    from kubecore.cluster import Component

app = typer.Typer(
    name="proxy",
    help="The service proxy alone, for nodes in loopback mode; `ls` shows what a running one has.",
    invoke_without_command=True,
)

METRICS_PORT, HEALTH_PORT = 10249, 10256


@app.callback()
def proxy(
    context: typer.Context,
    kubeconfig: Annotated[
        Path | None, typer.Option(help="How to reach the API server.", exists=True, dir_okay=False)
    ] = None,
    proxy_mode: Annotated[ProxyMode, typer.Option(help="How Services are balanced.")] = ProxyMode.USERSPACE,
    ipvs_scheduler: IpvsScheduler = "rr",
    hostname_override: Annotated[
        str, typer.Option(help="The node whose endpoints count as local; by default all do.")
    ] = "",
    cluster_cidr: Annotated[
        str, typer.Option(callback=options.networks, help="Ranges of pods, comma separated: what is not outside.")
    ] = "",
    nodeport_addresses: Annotated[
        str,
        typer.Option(
            callback=options.networks_or_primary,
            help="Ranges of this host's addresses where node ports work, or primary: the node's own of each family; by "
            "default: all.",
        ),
    ] = "",
    healthz_bind_address: Annotated[
        str, typer.Option(callback=options.address_and_port, help="Where /healthz and /livez answer, if at all.")
    ] = f"0.0.0.0:{HEALTH_PORT}",
    metrics_bind_address: Annotated[
        str,
        typer.Option(callback=options.address_and_port, help="Where /metrics and /proxyMode answer, if at all."),
    ] = f"127.0.0.1:{METRICS_PORT}",
    verbosity: Verbosity = 0,
    logging_format: logs.LoggingFormat = "text",
) -> None:
    """The service proxy alone, for nodes in loopback mode."""
    if context.invoked_subcommand is not None:
        return
    if kubeconfig is None:
        raise typer.BadParameter("it is needed to reach the API server", param_hint="'--kubeconfig'")
    from kubecore.clock import RealClock
    from kubecore.proxy.modes import ProxyConfig
    from kubecore.proxy.node_addresses import addresses_in
    from kubecore.proxy.proxy import ServiceProxy

    primary = nodeport_addresses == options.PRIMARY
    if primary and not hostname_override:
        raise typer.BadParameter("primary needs --hostname-override", param_hint="'--nodeport-addresses'")
    logs.configure(verbosity=verbosity, file=None, form=logging_format)
    config = ProxyConfig(
        mode=proxy_mode.value,
        scheduler=ipvs_scheduler,
        node_name=hostname_override,
        node_port_addresses=addresses_in(() if primary else options.split(nodeport_addresses)),
        primary_node_ports=primary,
        pod_ranges=options.split(cluster_cidr),
        health_address=options.host_and_port(healthz_bind_address),
        metrics_address=options.host_and_port(metrics_bind_address),
    )

    def make(client: Client) -> Component:
        return ServiceProxy(client, RealClock(), replace(config, table=_table(kubeconfig)))

    run_component(kubeconfig, "kube-proxy", make)


def _table(kubeconfig: Path) -> str:
    """One for each cluster that has a proxy on this host."""
    from kubecore.client.kubeconfig import Kubeconfig

    server = Kubeconfig.load(kubeconfig).server
    return f"kubecore-{hashlib.sha256(server.encode()).hexdigest()[:8]}"


@app.command()
def ls(
    data_dir: Annotated[
        Path, typer.Option(callback=options.folder, help="Data directory of the `kubecore up` whose proxy is asked.")
    ] = options.DATA_DIR,
    server: Annotated[
        str,
        typer.Option(help="HOST:PORT of a `kubecore proxy` to ask instead: its --metrics-bind-address."),
    ] = "",
    stats: Annotated[
        bool,
        typer.Option("--stats", help="What each has carried, instead of what is open; -: not counted in this mode."),
    ] = False,
    output: Annotated[
        str,
        typer.Option(
            "--output", "-o", callback=options.one_of(["", "json"]), help="json: everything, also what --stats shows."
        ),
    ] = "",
) -> None:
    """Services and their endpoints, as `ipvsadm -Ln` shows them."""
    import json

    from kubecore.proxy.asking import ProxyUnreachable, ask

    try:
        told = ask(data_dir / "proxy.sock", server)
    except ProxyUnreachable as error:
        typer.echo(f"kubecore: {error}", err=True)
        raise typer.Exit(1) from None
    if output == "json":
        typer.echo(json.dumps(told, indent=2))
        return
    for line in table(told, stats=stats):
        typer.echo(line)


def table(told: dict[str, Any], *, stats: bool) -> list[str]:
    """The lines of it."""
    lines = [f"kubecore service proxy, mode {told['mode']}", *(_STATS_HEAD if stats else _HEAD)]
    for row in sorted(told["services"], key=lambda row: (row["service"], row["protocol"], row["address"], row["port"])):
        lines += _rows(row, stats=stats)
    return lines


_HEAD = (
    "Prot LocalAddress:Port Scheduler Flags",
    "  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn",
)
_STATS_HEAD = (
    "Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes",
    "  -> RemoteAddress:Port",
)
_COUNTED = ("connections", "packets_in", "packets_out", "bytes_in", "bytes_out")


def _rows(row: dict[str, Any], *, stats: bool) -> list[str]:
    where = _where(row)
    if stats:
        sums = [row.get(name, _sum(row["destinations"], name)) for name in _COUNTED]
        lines = [f"{row['protocol']:<4} {where:<30} {_numbers(sums)}"]
        lines += [
            f"  -> {_where(one):<30} {_numbers([one.get(name) for name in _COUNTED])}" for one in row["destinations"]
        ]
        return lines
    lasts = row["persistence_seconds"]
    flags = f" persistent {lasts:.0f}" if lasts else ""
    silent = "" if row["listening"] else " not listening"
    lines = [f"{row['protocol']:<4} {where} {row['scheduler']}{flags}{silent}  ({row['service']}, {row['purpose']})"]
    lines += [
        f"  -> {_where(one):<28} Masq    {one['weight']:<6} {one['active']:<10} {one['inactive']:<10}".rstrip()
        for one in row["destinations"]
    ]
    return lines


def _where(one: dict[str, Any]) -> str:
    host = f"[{one['address']}]" if ":" in one["address"] else one["address"]
    return f"{host}:{one['port']}"


def _sum(destinations: list[dict[str, Any]], name: str) -> int | None:
    """Of a server whose mode counts by destination alone."""
    found = [one[name] for one in destinations if name in one]
    return sum(found) if found else None


def _numbers(values: list[int | None]) -> str:
    """A mode may not know all of them."""
    return " ".join(f"{'-' if value is None else value:>8}" for value in values)
