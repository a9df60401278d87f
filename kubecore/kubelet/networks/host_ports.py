"""Ports of the node that lead to its pods: `hostPort` of their containers, as long as a pod's sandbox lasts.

What the portmap plugin of CNI does, with these differences: a port that somebody has is not taken from him, but told of
in an event of the pod, whose containers run as they do upstream; it is tried again until it is free. Ports of init
containers are served, too.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from kubecore.api import meta
from kubecore.client.events import EventRecorder
from kubecore.clock import Clock, Timer
from kubecore.kubelet.runtime.interface import SandboxStatus
from kubecore.port_names import EVERYWHERE

log = logging.getLogger(__name__)

Object = Mapping[str, Any]
PortKey = tuple[str, str, int]
"""(protocol, address, port)"""
Listens = Literal["", "there", "everywhere"]

REASON = "HostPortNotServed"
_FIRST_RETRY_SECONDS, _LONGEST_RETRY_SECONDS = 1.0, 60.0
# How soon it is seen that a process listens, or that the host has other addresses.
_LOOK_SECONDS, _ADDRESSES_SECONDS = 1.0, 30.0


class Carrier(Protocol):
    """Carries what comes to ports of the host to one pod."""

    def open(self, key: PortKey, destination: tuple[str, int]) -> None:
        """OSError: it cannot be had; `strerror` is for the user."""

    def close(self, key: PortKey) -> None:
        """One that is open. Its connections live on."""

    def renew(self) -> None:
        """Others of the host who know whose ports these are know it still, whoever of several pods told them first."""

    def shut_down(self) -> None:
        """Close all, and end all connections."""


class Host(Protocol):
    """The machine, as one of its nodes sees it."""

    def addresses(self) -> Iterable[str]:
        """Where ports of the node are served that are asked for everywhere."""

    def carrier(self) -> Carrier:
        """For one pod."""

    def listens(self, key: PortKey) -> Listens:
        """Whether a process listens at this very address, or at all of the host's."""

    def close(self) -> None:
        """Nothing is carried any more."""


class ClientAddresses(Protocol):
    """Connections may be made in the names of clients from outside (`proxy.borrowed_addresses`)."""

    def allowed(self) -> bool:
        """Whether the host keeps the answers; it is prepared at the first call."""

    def sweep(self) -> None:
        """Remove what a killed run left of it."""

    def close(self) -> None:
        """No connection is made so any more."""


class PortMapping(NamedTuple):
    """`address` "" stands for all of the node, of both families."""

    protocol: str
    address: str
    port: int
    container_port: int
    field_path: str


def port_mappings(spec: Object) -> Iterator[PortMapping]:
    """What the containers ask for; those of a hostNetwork pod are on the node already."""
    if spec.get("hostNetwork"):
        return
    for kind in ("containers", "initContainers"):
        for container in spec.get(kind) or ():
            for port in container.get("ports") or ():
                if port.get("hostPort"):
                    protocol, address = port.get("protocol") or "TCP", port.get("hostIP") or ""
                    where = f"spec.{kind}{{{container['name']}}}"
                    yield PortMapping(protocol, address, port["hostPort"], port["containerPort"], where)


class HostPorts:
    """Of one node, by the sandboxes of its pods. Calls never wait."""

    def __init__(self, clock: Clock, recorder: EventRecorder, host: Host) -> None:
        self._clock, self._recorder, self._host = clock, recorder, host
        self._pods: dict[str, _PodPorts] = {}

    def serve(self, pod: Object, sandbox: SandboxStatus) -> None:
        """From now on, of a sandbox that runs."""
        mappings = list(port_mappings(pod["spec"]))
        if mappings and sandbox.ips and sandbox.id not in self._pods:
            try:
                one = _PodPorts(pod, sandbox.ips, mappings, self._clock, self._recorder, self._host)
            except OSError:  # no descriptors are left, say
                log.exception("host ports of pod %s are not served", meta.key(pod))
                return
            self._pods[sandbox.id] = one
            one.bring()

    def stop(self, sandbox_id: str) -> None:
        """It is about to be stopped."""
        one = self._pods.pop(sandbox_id, None)
        if one is not None:
            one.close()

    def close(self) -> None:
        while self._pods:
            self._pods.popitem()[1].close()
        self._host.close()


@dataclass(frozen=True, slots=True)
class _Wanted:
    destination: tuple[str, int]
    mapping: PortMapping
    everywhere: bool


class _PodPorts:
    """`_open` is what the carrier serves. A timer runs while anything may change without our being told."""

    def __init__(
        self,
        pod: Object,
        ips: tuple[str, ...],
        mappings: list[PortMapping],
        clock: Clock,
        recorder: EventRecorder,
        host: Host,
    ) -> None:
        self._pod, self._mappings = pod, mappings
        self._ips = {ipaddress.ip_address(ip).version: ip for ip in reversed(ips)}
        self._clock, self._recorder, self._host = clock, recorder, host
        self._carrier = host.carrier()
        self._open: set[PortKey] = set()
        self._told: set[tuple[str, str]] = set()
        self._delay = 0.0
        self._timer: Timer | None = None

    def bring(self) -> None:
        """Serve all that can be served, and come back for what may be later. Never raises: a pod runs without its host
        ports where they cannot be had."""
        self._timer = None
        try:
            pause = self._bring()
        except (OSError, ValueError):  # no descriptors are left, say
            log.exception("host ports of pod %s", meta.key(self._pod))
            pause = _LONGEST_RETRY_SECONDS
        if pause is not None:
            self._timer = self._clock.call_later(pause, self.bring)

    def _bring(self) -> float | None:
        """In how many seconds to come back; None: there is nothing to come back for."""
        wanted = self._wanted()
        for key in self._open - wanted.keys():
            self._carrier.close(key)
        self._open &= wanted.keys()
        self._carrier.renew()
        failed: dict[tuple[PortMapping, str], list[str]] = {}
        waits, passing = False, False
        for key, one in wanted.items():
            if key in self._open:
                continue
            if _is_on_the_host(one) and self._host.listens((key[0], *one.destination)) != "there":
                waits = True  # a process that listens everywhere has the host's port itself
                continue
            try:
                self._carrier.open(key, one.destination)
                self._open.add(key)
            except OSError as error:
                failed.setdefault((one.mapping, error.strerror or str(error)), []).append(key[1])
                passing = passing or error.errno != errno.EACCES
        self._tell({**self._hopeless(), **{key: _listening(*key, at) for key, at in failed.items()}})
        self._delay = min(self._delay * 2, _LONGEST_RETRY_SECONDS) or _FIRST_RETRY_SECONDS if passing else 0.0
        pauses = [self._delay] if passing else []
        pauses += [_LOOK_SECONDS] if waits else []
        pauses += [_ADDRESSES_SECONDS] if self._open or any(one.everywhere for one in wanted.values()) else []
        return min(pauses, default=None)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._carrier.shut_down()

    def _wanted(self) -> dict[PortKey, _Wanted]:
        """Of several mappings of one port the first counts."""
        found: dict[PortKey, _Wanted] = {}
        mappings = [one for one in self._mappings if one.protocol != "SCTP" and not _is_no_address(one.address)]
        everywhere = ("", *EVERYWHERE.values())
        host = list(self._host.addresses()) if any(one.address in everywhere for one in mappings) else []
        for mapping in mappings:
            all_of_host = mapping.address in everywhere
            for address in host if all_of_host else [mapping.address]:
                version = ipaddress.ip_address(address).version
                if version in self._ips and mapping.address in ("", address, EVERYWHERE[version]):
                    destination = (self._ips[version], mapping.container_port)
                    key = (mapping.protocol, address, mapping.port)
                    found.setdefault(key, _Wanted(destination, mapping, all_of_host))
        return found

    def _hopeless(self) -> dict[tuple[PortMapping, str], str]:
        found = {}
        for one in self._mappings:
            why = ""
            if one.protocol == "SCTP":
                why = "SCTP is not supported"
            elif _is_no_address(one.address):
                why = f"{one.address!r} is not an IP address of a host"
            elif one.address and (version := ipaddress.ip_address(one.address).version) not in self._ips:
                why = f"the pod has no IPv{version} address"
            if why:
                found[one, why] = f"host port {one.protocol} {one.port} is not served: {why}"
        return found

    def _tell(self, troubles: Mapping[tuple[PortMapping, str], str]) -> None:
        """Once for as long as the trouble lasts."""
        now = {(mapping.field_path, message): message for (mapping, _), message in troubles.items()}
        for field_path, message in now.keys() - self._told:
            log.warning("pod %s: %s", meta.key(self._pod), message)
            self._recorder.event(dict(self._pod), "Warning", REASON, message, field_path=field_path)
        self._told = set(now)


def _is_no_address(text: str) -> bool:
    """The API takes any text."""
    try:
        return bool(text) and "%" in str(ipaddress.ip_address(text))
    except ValueError:
        return True


def _is_on_the_host(one: _Wanted) -> bool:
    """Whether the container's port is one of the host's network as well, and has the same number."""
    address, port = one.destination
    return port == one.mapping.port and ipaddress.ip_address(address).is_loopback


def _listening(mapping: PortMapping, why: str, addresses: list[str]) -> str:
    return f"host port {mapping.protocol} {mapping.port}: cannot listen on {', '.join(addresses)}: {why}"
