"""Has mode ipvs carry connections in the kernel it is the first process of, in a User-Mode Linux.

`mode.py MODULES OUT`: the folder of the kernel's modules, and where it is told what happened. All of 10.0.0.0/8 is an
address of the loopback device; clients and endpoints are both here.
"""

from __future__ import annotations

import ipaddress
import itertools
import json
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from kubecore.netlink import Netlink
from kubecore.proxy.host_ports import HostPorts
from kubecore.proxy.ipvs import table as ipvs
from kubecore.proxy.ipvs.packet_rules import Led, PacketRules
from kubecore.proxy.leading import INSIDE, Group
from kubecore.proxy.nftables.ruleset import Site
from kubecore.proxy.virtual_servers import NodeHere, Part, VirtualServer
from tests.e2e.ipvs.guest import LIBC, POWER_OFF, SO_MARK, bring_up_loopback, load_modules

SECONDS = 30.0
A, B = ("10.9.0.1", 9000), ("10.9.0.2", 9000)
SIX_A = ("fd00::a", 9000)
VIP, NODE = "10.8.0.1", "10.0.0.1"
_NUMBERS = itertools.count()


def serve(name: str, address: tuple[str, int]) -> None:
    """TCP: tells its name, and again for every byte it gets. UDP: its name and what was asked for a packet."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    listener, packets = socket.socket(family), socket.socket(family, socket.SOCK_DGRAM)
    listener.bind(address)
    listener.listen(16)
    packets.bind(address)

    def talk(client: socket.socket) -> None:
        with suppress(OSError), client:
            client.sendall(name.encode())
            while client.recv(1):
                client.sendall(name.encode())

    def accept() -> None:
        while True:
            threading.Thread(target=talk, args=(listener.accept()[0],), daemon=True).start()

    def answer() -> None:
        while True:
            asked, client = packets.recvfrom(16)
            packets.sendto(name.encode() + asked, client)

    for work in (accept, answer):
        threading.Thread(target=work, daemon=True).start()


class Marks(PacketRules):
    """This kernel's nf_tables knows no addresses: clients mark what they send themselves."""

    def __init__(self) -> None:
        super().__init__(Site(table="none"))
        self.marks: dict[Led, int] = {}

    def tighten(self, service: str, servers: Iterable[VirtualServer], marks: Mapping[Led, int]) -> None:
        self.marks = dict(marks)

    def loosen(self, service: str, servers: Iterable[VirtualServer], marks: Mapping[Led, int]) -> None:
        pass

    def commit(self) -> None:
        pass


def connect(address: str, port: int, *, source: str = "", mark: int = 0) -> socket.socket:
    client = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    client.settimeout(SECONDS)
    client.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
    if source:
        client.bind((source, 0))
    client.connect((address, port))
    return client


def ask(address: str, port: int, *, source: str = "", mark: int = 0) -> str:
    try:
        with connect(address, port, source=source, mark=mark) as client:
            return client.recv(16).decode()
    except OSError as error:
        return type(error).__name__


def ask_udp(address: str, port: int) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(SECONDS)
        try:
            client.connect((address, port))
            client.send(b"?")
            return client.recv(16).decode().removesuffix("?")
        except OSError as error:
            return type(error).__name__


def ask_on(client: socket.socket) -> str:
    """Of UDP, by one flow, until there is an answer: what is sent while its endpoint goes is lost, which the kernel
    tells who sends from here. What comes late, of what was asked before, is no answer."""
    ends = time.monotonic() + SECONDS
    client.settimeout(0.2)
    while time.monotonic() < ends:
        asked = f" {next(_NUMBERS)}"
        with suppress(TimeoutError, PermissionError):
            client.send(asked.encode())
            while not (said := client.recv(16).decode()).endswith(asked):
                pass
            return said.removesuffix(asked)
    return "nothing"


def counted(table: ipvs.IpvsTable, connections: int) -> dict[str, Any]:
    """The row of the web's Service, once it has so many; the kernel adds up every two seconds."""
    ends = time.monotonic() + SECONDS
    while True:
        row = next(one for one in table.rows() if (one["protocol"], one["address"], one["port"]) == ("TCP", VIP, 80))
        if row["connections"] == connections or time.monotonic() >= ends:
            return row


def told() -> dict[str, Any]:
    rules = Marks()
    table = ipvs.IpvsTable(node_addresses=lambda: [NODE], rules=rules)
    web = VirtualServer("TCP", VIP, 80, "ClusterIP", "rr", None, (A, B))
    port = replace(web, address="0.0.0.0", port=30080, purpose="NodePort", endpoints=(B,))
    names = replace(web, protocol="UDP", port=53)
    sticky = replace(web, port=81, affinity_seconds=600.0)
    six = replace(web, address="fd00::1", endpoints=(SIX_A,))
    local = replace(web, port=82, purpose="LoadBalancer", endpoints=(A,), inside=(A, B))
    local_six = replace(local, address="fd00::1", endpoints=(), inside=(SIX_A,))
    found: dict[str, Any] = {}
    problems, _ = table.apply("default/web", [web, port, names, sticky, six, local, local_six])
    found["problems"] = [problem.message for problem in problems]
    found["spread"] = sorted(ask(VIP, 80) for _ in range(4))
    found["node port"] = ask(NODE, 30080)
    found["udp"] = sorted(ask_udp(VIP, 53) for _ in range(2))
    flows = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    for flow in flows:
        flow.connect((VIP, 53))
    found["udp, two flows"] = sorted(ask_on(flow) for flow in flows)
    found["sticky"] = len({ask(VIP, 81, source="10.7.0.1") for _ in range(4)})
    found["six"] = ask("fd00::1", 80)
    found["policy local, outside"] = [ask(VIP, 82) for _ in range(3)]
    found["policy local, inside"] = sorted(ask(VIP, 82, mark=rules.marks[local.key, INSIDE]) for _ in range(4))
    found["policy local, inside, six"] = ask("fd00::1", 82, mark=rules.marks[local_six.key, INSIDE])
    held = [connect(VIP, 80) for _ in range(2)]
    who = {client.recv(16): client for client in held}
    (row,) = [one for one in table.rows() if (one["port"], one["protocol"]) == (80, "TCP") and one["address"] == VIP]
    found["rows"] = sorted((one["address"], one["weight"], one["active"]) for one in row["destinations"])
    row = counted(table, 6)
    found["counted"] = row["connections"], row["packets_in"] > 0, row["bytes_out"] > 0
    table.apply("default/web", [replace(web, endpoints=(B,)), replace(names, endpoints=(B,))])
    found["to be made again"] = table.restore()
    found["udp, two flows, after a change"] = [ask_on(flow) for flow in flows]
    found["after a change"] = [ask(VIP, 80) for _ in range(3)]
    who[b"a"].send(b"?")
    found["who is connected stays so"] = who[b"a"].recv(16).decode()
    table.apply("default/web", [replace(web, endpoints=(), scheduler="wlc")])
    found["without endpoints"] = ask(VIP, 80)
    found["counted, without endpoints"] = counted(table, 9)["connections"]
    kernel = ipvs.connect()
    found["services"] = list(kernel.services())
    table.apply("default/local", [local])
    found["with a mark"] = [key for key in kernel.services() if key[0] == "FWM"] == [
        ("FWM", "0.0.0.0", rules.marks[local.key, INSIDE])
    ]
    parts = [Part(NodeHere(name), (to,)) for name, to in (("one", A), ("other", B))]
    apart = replace(web, port=83, parts=tuple(parts))
    problems, _ = table.apply("default/apart", [apart])
    marks = [rules.marks[apart.key, Group(number, inside=True)] for number in (0, 1)]
    found["several nodes"] = [[ask(VIP, 83, mark=mark) for _ in range(3)] for mark in marks]
    for key in kernel.services():
        kernel.delete_service(key)
    found["to be made again, after all is cleared"] = sorted(table.restore() or ())
    table.apply("default/apart", [apart])
    found["once it is"] = sorted(ask(VIP, 83) for _ in range(2))
    table.close()
    found["at the end"] = list(kernel.services())
    found["with another proxy"] = with_another(web)
    return found


def with_another(web: VirtualServer) -> list[Any]:
    """A second one comes, which finds the first one's virtual service, is asked for the same, and ends."""
    with closing(_one_of_several()) as first:
        first.apply("default/web", [replace(web, endpoints=(A,))])
        with closing(_one_of_several()) as second:
            problems, _ = second.apply("default/web", [replace(web, endpoints=(B,))])
            second.sweep()
        return [problem.message for problem in problems] + [ask(VIP, 80) for _ in range(2)]


def _one_of_several() -> ipvs.IpvsTable:
    return ipvs.IpvsTable(node_addresses=lambda: [NODE], rules=Marks(), ports=HostPorts(equal_ranges=True))


def main() -> None:
    modules, out = (Path(word) for word in sys.argv[1:])
    try:
        for kind, folder in (("proc", "/proc"), ("sysfs", "/sys")):
            LIBC.mount(kind.encode(), folder.encode(), kind.encode(), 0, None)
        load_modules(modules)
        bring_up_loopback()
        _add_ipv6("fd00::1", SIX_A[0])
        for name, address in (("a", A), ("b", B), ("six", SIX_A)):
            serve(name, address)
        found = told()
    except BaseException:
        found = {"failed": traceback.format_exc()}
    out.write_text(json.dumps(found))
    os.sync()
    LIBC.reboot(POWER_OFF)


def _add_ipv6(*addresses: str) -> None:
    with Netlink() as netlink:
        for address in addresses:
            netlink.add_address(1, ipaddress.ip_interface(address))


if __name__ == "__main__":
    main()
