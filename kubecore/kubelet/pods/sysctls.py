"""Kernel parameters of pods: which ones a node lets them set (upstream `pkg/kubelet/sysctl`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Object = dict[str, Any]

SAFE = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.tcp_wmem",
    }
)
"""Without influence on other pods, so that every pod may set them."""


def pod_sysctls(pod: Object) -> tuple[tuple[str, str], ...]:
    context = pod["spec"].get("securityContext") or {}
    return tuple((one["name"], one.get("value", "")) for one in context.get("sysctls") or [])


def forbidden(pod: Object, also_allowed: Iterable[str] = ()) -> str:
    """Why the node does not take the pod, "" if it does. `also_allowed`: names, or beginnings of names followed by `*`,
    that the node's administrator has allowed (`--allowed-unsafe-sysctls`)."""
    for name, _ in pod_sysctls(pod):
        plain = _plain(name)
        if plain not in SAFE and not any(_matches(plain, pattern) for pattern in also_allowed):
            return f'forbidden sysctl: "{plain}" not allowlisted'
        kind, field = ("net", "hostNetwork") if plain.startswith("net.") else ("ipc", "hostIPC")
        if pod["spec"].get(field):
            return f'forbidden sysctl: "{plain}" not allowed with host {kind} enabled'
    return ""


def _plain(name: str) -> str:
    """With dots between its parts: net/ipv4/conf/eth0.1 is net.ipv4.conf.eth0/1."""
    dot, slash = name.find("."), name.find("/")
    return name.translate(str.maketrans("./", "/.")) if slash >= 0 and (dot < 0 or slash < dot) else name


def _matches(name: str, pattern: str) -> bool:
    pattern = _plain(pattern)
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
