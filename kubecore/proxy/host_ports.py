"""Addresses and ports that several clusters of one host may want, or its pods: node ports, addresses from outside."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack

from kubecore import node_network, port_names
from kubecore.proxy.claims import Problem, where
from kubecore.proxy.virtual_servers import ServerKey, VirtualServer


class HostPorts:
    """Those of one cluster, by the Services that ask for them. Cluster IPs are each cluster's own, unless others may
    have `equal_ranges`."""

    def __init__(self, *, equal_ranges: bool = False) -> None:
        self._equal_ranges = equal_ranges
        self._names: dict[ServerKey, ExitStack] = {}
        self._asked: dict[str, set[ServerKey]] = {}
        # How many Services ask for each.
        self._holders: Counter[ServerKey] = Counter()

    def take(self, service: str, servers: Iterable[VirtualServer]) -> tuple[list[VirtualServer], list[Problem]]:
        """`servers` are all that the Service asks for from now on. Returns those that no other cluster has."""
        had: list[VirtualServer] = []
        problems: list[Problem] = []
        asked: set[ServerKey] = set()
        for server in servers:
            try:
                if self._equal_ranges or not _is_own(server):
                    self._name(server)
                    asked.add(server.key)
                had.append(server)
            except OSError as error:
                why = "another cluster on this host has it" if error.errno == errno.EADDRINUSE else error.strerror
                message = f"cannot listen on {where(server)}: {why}"
                problems.append(Problem(server, "FailedToListen", message, passing=True))
        before = self._asked.pop(service, set())
        if asked:
            self._asked[service] = asked
        self._holders.update(asked - before)
        for key in before - asked:
            self._holders[key] -= 1
            if not self._holders[key]:
                del self._holders[key]
                self._names.pop(key).close()
        return had, problems

    def close(self) -> None:
        self._asked.clear()
        self._holders.clear()
        while self._names:
            self._names.popitem()[1].close()

    def _name(self, server: VirtualServer) -> None:
        """OSError, EADDRINUSE where another cluster has it."""
        if server.key in self._names:
            return
        with ExitStack() as names:
            names.enter_context(port_names.claim(*server.key))
            version = 6 if ":" in server.address else 4
            everywhere = server.address == port_names.EVERYWHERE[version]
            # an address of its own goes before those of all the host, so a Service's may have the port of a pod
            if everywhere and port_names.is_pods(server.protocol, version, server.port):
                raise OSError(errno.EBUSY, "pods of this host have it as a host port")
            if server.purpose == "NodePort":
                _name_of_node(server, version, names, everywhere=everywhere)
            self._names[server.key] = names.pop_all()


def _is_own(server: VirtualServer) -> bool:
    """No other cluster has such an address."""
    return server.purpose == "ClusterIP" or node_network.is_elsewhere(server.address)


def _name_of_node(server: VirtualServer, version: int, names: ExitStack, *, everywhere: bool) -> None:
    """One cluster may have a node port at all addresses of the host, or several at some: each tells of itself, then
    looks for others."""
    if everywhere:
        had = port_names.is_nodes(server.protocol, version, server.port)
    else:
        names.enter_context(port_names.claim_for_node(server.protocol, version, server.port))
        had = port_names.is_claimed(server.protocol, port_names.EVERYWHERE[version], server.port)
    if had:
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def taken(
    ports: HostPorts | None, service: str, servers: Iterable[VirtualServer]
) -> tuple[list[VirtualServer], list[Problem]]:
    """`ports.take`; without any, nobody else is asked."""
    return ports.take(service, servers) if ports is not None else (list(servers), [])
