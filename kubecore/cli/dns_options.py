"""What the cluster's DNS can be told on the command line, checked before anything is started."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from kubecore.dns.responder import DnsConfig


def _resolver(text: str) -> str:
    """An address, or an address and a port: "10.0.0.2", "10.0.0.2:5353", "fd00::1", "[fd00::1]:5353"."""
    host, port = text, "53"
    if text.startswith("["):
        host, _, port = text[1:].partition("]:")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is not an address of a resolver, such as 10.0.0.2 or 10.0.0.2:5353"
        ) from None
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise typer.BadParameter(f"{text!r} has no port between 1 and 65535")
    return text


def _upstreams(texts: list[str] | None) -> list[str] | None:
    for text in texts or ():
        _resolver(text)
    return texts


def _stub_domains(texts: list[str] | None) -> list[str] | None:
    seen = set()
    for text in texts or ():
        domain, equals, servers = text.partition("=")
        if not (equals and domain.strip(".") and servers):
            raise typer.BadParameter(f"{text!r} is not DOMAIN=RESOLVER[,RESOLVER...]")
        if domain in seen:
            raise typer.BadParameter(f"domain {domain!r} is given more than once")
        seen.add(domain)
        for server in servers.split(","):
            _resolver(server)
    return texts


DnsUpstreams = Annotated[
    list[str] | None,
    typer.Option(
        callback=_upstreams,
        metavar="ADDRESS",
        help="Resolver for names outside the cluster, instead of the host's; may be given several times.",
    ),
]
StubDomains = Annotated[
    list[str] | None,
    typer.Option(
        callback=_stub_domains,
        metavar="DOMAIN=ADDRESS[,ADDRESS...]",
        help="Resolvers for the names of one domain; may be given several times.",
    ),
]
Autopath = Annotated[
    bool, typer.Option("--dns-autopath", help="Go through pods' search path for them: one query instead of four.")
]


def dns_config(
    domain: str,
    *,
    upstreams: Sequence[str] | None,
    stub_domains: Sequence[str] | None,
    autopath: bool,
    resolv_conf: Path = Path("/etc/resolv.conf"),
) -> DnsConfig:
    """Of checked options; `resolv_conf` says what they leave open. BadParameter for a stub domain that is `domain` or
    above it."""
    from kubecore.dns.responder import DnsConfig
    from kubecore.resolv_conf import ResolvConf

    host = ResolvConf.read(resolv_conf)
    stubs = {}
    for text in stub_domains or ():
        name, _, servers = text.partition("=")
        if f".{domain.strip('.')}".endswith(f".{name.strip('.').lower()}"):
            raise typer.BadParameter(f"names of {name} are the cluster's own", param_hint="'--dns-stub-domain'")
        stubs[name] = tuple(servers.split(","))
    return DnsConfig(
        domain=domain,
        upstreams=tuple(upstreams or host.resolvers()),
        stub_domains=stubs,
        autopath=autopath,
        searches=host.searches,
    )
