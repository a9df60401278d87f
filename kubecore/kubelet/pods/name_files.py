"""/etc/hosts and /etc/resolv.conf of pods.

Where the cluster's DNS cannot be had (an unprivileged user may not bind port 53), the pod's hosts file names the
Services instead, and is kept current in place: it is bind-mounted into containers, so its inode must stay.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from kubecore import resolv_conf as host_file
from kubecore.api import meta
from kubecore.kubelet.networks.network import Mode
from kubecore.resolv_conf import ResolvConf

Object = dict[str, Any]

_MOST_SERVERS, _MOST_SEARCHES, _LONGEST_SEARCH, _LONGEST_SEARCH_LINE = 3, 32, 253, 2048
_LONGEST_HOSTNAME = 64


@dataclass(frozen=True, slots=True)
class Naming:
    """The cluster's names. No `servers`: Services are named in hosts files."""

    domain: str
    servers: tuple[str, ...]
    host_resolv_conf: Path = host_file.PATH
    host_hosts: Path = Path("/etc/hosts")
    network: Mode = "loopback"

    def on_the_host(self, pod: Object) -> bool:
        """Whether the pod's loopback is the host's."""
        return self.network == "loopback" or (self.network == "netns" and bool(pod["spec"].get("hostNetwork")))


def pod_hostname(pod: Object) -> str:
    """63 characters at most, as a kernel's host name should be."""
    spec = pod["spec"]
    name: str = spec.get("hostnameOverride") or spec.get("hostname") or meta.name(pod)
    return name[:63].rstrip("-.")


def pod_domain(pod: Object, cluster_domain: str) -> str:
    """The pod's fully qualified name if it has a subdomain, else ""."""
    subdomain = pod["spec"].get("subdomain")
    if not subdomain or pod["spec"].get("hostnameOverride"):
        return ""
    return f"{pod_hostname(pod)}.{subdomain}.{meta.namespace(pod)}.svc.{cluster_domain}"


class LongName(Exception):
    """A pod's full name does not fit a kernel's host name; the text is for its events."""


def kernel_hostname(pod: Object, cluster_domain: str) -> str:
    """What `hostname` says in it. Raises LongName."""
    full = pod_domain(pod, cluster_domain) if pod["spec"].get("setHostnameAsFQDN") else ""
    if len(full) > _LONGEST_HOSTNAME:
        raise LongName(
            f"Failed to construct FQDN from Pod hostname and cluster domain, FQDN {full} is too long "
            f"({_LONGEST_HOSTNAME} characters is the max, {len(full)} characters requested)"
        )
    return full or pod_hostname(pod)


def hosts_file(pod: Object, pod_ips: Sequence[str], naming: Naming, services: Mapping[str, Sequence[str]]) -> str:
    """The file's text. `pod_ips`: of each family one. `services`: names of an address, in order, for the Services to be
    named here."""
    lines = _of_host(naming) if pod["spec"].get("hostNetwork") else _of_pod(pod, pod_ips, naming)
    aliases = pod["spec"].get("hostAliases") or []
    if aliases:
        lines += ["", "# Entries added by HostAliases."]
        lines += ["\t".join([alias["ip"], *(alias.get("hostnames") or [])]) for alias in aliases]
    if services:
        lines += ["", "# Services, named here because the cluster's DNS is out of reach."]
        lines += ["\t".join([address, *names]) for address, names in services.items()]
    return "\n".join(lines) + "\n"


def _of_pod(pod: Object, pod_ips: Sequence[str], naming: Naming) -> list[str]:
    names = [name for name in (pod_domain(pod, naming.domain), pod_hostname(pod)) if name]
    return [
        "# Kubernetes-managed hosts file.",
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        "fe00::0\tip6-localnet",
        "fe00::0\tip6-mcastprefix",
        "fe00::1\tip6-allnodes",
        "fe00::2\tip6-allrouters",
        *("\t".join([address, *names]) for address in pod_ips),
    ]


def _of_host(naming: Naming) -> list[str]:
    """A pod on its network has its names, too."""
    found: list[str] = []
    with suppress(OSError):
        found = naming.host_hosts.read_text("utf-8", "surrogateescape").splitlines()
    return ["# Kubernetes-managed hosts file (host network).", *found]


def service_names(
    namespace: str, services: Iterable[Object], slices: Iterable[Object], cluster_domain: str
) -> dict[str, list[str]]:
    """Address -> names, for a pod of `namespace`: cluster IPs, and the ready endpoints of headless Services.

    A hosts file cannot spread requests: a headless name leads to its first ready endpoint, each pod's own name to it.
    """
    found: dict[str, list[str]] = {}
    headless: dict[str, Object] = {}
    for service in sorted(services, key=meta.key):
        spec = service.get("spec") or {}
        addresses = spec.get("clusterIPs") or [spec.get("clusterIP", "")]
        if addresses == ["None"]:
            headless[meta.key(service)] = service
        for address in filter(_is_address, addresses):
            found.setdefault(address, []).extend(_names(meta.name(service), service, namespace, cluster_domain))
    for one in sorted(slices, key=meta.key):
        owner = headless.get(meta.make_key(meta.namespace(one), meta.labels(one).get("kubernetes.io/service-name", "")))
        if owner is not None:
            _name_endpoints(found, owner, one, namespace, cluster_domain)
    return found


def _name_endpoints(
    found: dict[str, list[str]], service: Object, one: Object, namespace: str, cluster_domain: str
) -> None:
    publish = (service.get("spec") or {}).get("publishNotReadyAddresses", False)
    for endpoint in one.get("endpoints") or []:
        if not publish and (endpoint.get("conditions") or {}).get("ready") is False:
            continue
        for address in endpoint.get("addresses") or []:
            if not _is_address(address):
                continue
            names = found.setdefault(address, [])
            if endpoint.get("hostname"):
                own = f"{endpoint['hostname']}.{meta.name(service)}"
                names.extend(_names(own, service, namespace, cluster_domain))
            names.extend(_names(meta.name(service), service, namespace, cluster_domain))


def _names(name: str, service: Object, namespace: str, cluster_domain: str) -> list[str]:
    home = meta.namespace(service)
    names = [f"{name}.{home}", f"{name}.{home}.svc", f"{name}.{home}.svc.{cluster_domain}"]
    return [name, *names] if home == namespace else names


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


class Resolver(NamedTuple):
    """resolv.conf's text, and what resolvers would not have taken, in words for the pod's DNSConfigForming events."""

    text: str
    left_out: tuple[str, ...] = ()


def resolv_conf(pod: Object, naming: Naming) -> Resolver:
    """By the pod's dnsPolicy and dnsConfig (upstream `pkg/kubelet/network/dns/dns.go`)."""
    spec = pod["spec"]
    policy = spec.get("dnsPolicy", "ClusterFirst")
    clustered = policy == "ClusterFirstWithHostNet" or (policy == "ClusterFirst" and not spec.get("hostNetwork"))
    servers: list[str] = []
    searches: list[str] = []
    options: dict[str, str | None] = {}
    if policy != "None":
        host = ResolvConf.read(naming.host_resolv_conf)
        servers, searches, options = list(host.servers), list(host.searches), dict(host.options)
        if not naming.on_the_host(pod):
            servers = _reached_from_elsewhere(servers, naming.servers)
    if clustered and naming.servers:
        servers = list(naming.servers)
        domain = naming.domain
        searches = [f"{meta.namespace(pod)}.svc.{domain}", f"svc.{domain}", domain, *searches]
        options = {"ndots": "5"}
    config = spec.get("dnsConfig") or {}
    servers, lost_servers = _servers_within_limits([*servers, *(config.get("nameservers") or [])])
    searches, lost_searches = _searches_within_limits([*searches, *(config.get("searches") or [])])
    for option in config.get("options") or []:
        options[option["name"]] = option.get("value")
    lines = []
    if searches:
        lines.append("search " + " ".join(searches))
    lines += [f"nameserver {one}" for one in servers]
    if options:
        lines.append("options " + " ".join(f"{name}:{value}" if value else name for name, value in options.items()))
    return Resolver("\n".join(lines) + "\n", (*lost_servers, *lost_searches))


def _reached_from_elsewhere(servers: list[str], cluster: tuple[str, ...]) -> list[str]:
    """In the place of those that listen on the host's loopback (systemd-resolved's 127.0.0.53, say) the cluster's DNS,
    which asks them."""
    found: list[str] = []
    for one in servers:
        found += cluster if cluster and _is_loopback(one) else (one,)
    return list(dict.fromkeys(found))


def _is_loopback(address: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(address).is_loopback
    return False


def _servers_within_limits(given: list[str]) -> tuple[list[str], list[str]]:
    found = list(dict.fromkeys(given))
    kept = found[:_MOST_SERVERS]
    if kept == found:
        return kept, []
    text = "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: "
    return kept, [text + " ".join(kept)]


def _searches_within_limits(given: list[str]) -> tuple[list[str], list[str]]:
    found = list(dict.fromkeys(given))
    kept = [one for one in found[:_MOST_SEARCHES] if len(one) <= _LONGEST_SEARCH]
    while len(" ".join(kept)) > _LONGEST_SEARCH_LINE:
        kept.pop()
    if kept == found:
        return kept, []
    text = "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: "
    return kept, [text + " ".join(kept)]


def write_in_place(path: Path, text: str) -> None:
    """Replace the content, keep the inode; nothing is written when it is the same."""
    data = text.encode("utf-8", "surrogateescape")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if os.pread(descriptor, len(data) + 1, 0) == data:
            return
        os.pwrite(descriptor, data, 0)
        os.ftruncate(descriptor, len(data))
    finally:
        os.close(descriptor)
