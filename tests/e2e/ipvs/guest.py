"""Runs scripts of `scripts.py` against the IPVS of the kernel it is the first process of, in a User-Mode Linux.

`guest.py MODULES SCRIPTS ANSWERS`: the folder of the kernel's modules, the scripts as JSON, and where the answers go.
Everything is on the loopback device, all of 10.0.0.0/8 is its address; a client's and a server's socket are both here.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import resource
import socket
import struct
import sys
import time
import traceback
from pathlib import Path
from typing import Any

SIOCSIFADDR, SIOCSIFFLAGS, SIOCSIFNETMASK = 0x8916, 0x8914, 0x891C
IFF_UP_RUNNING = 0x41
FINIT_MODULE = 313
POWER_OFF = 0x4321FEDC
SO_MARK = 36
IP_PKTINFO = 8
IP_VS_BASE = 64 + 1024 + 64
ADD, ADD_DESTINATION, DELETE_DESTINATION, EDIT_DESTINATION = (IP_VS_BASE + n for n in (2, 7, 8, 9))
TIMEOUTS = IP_VS_BASE + 10
PERSISTENT, FALLBACK, PORT = 1, 8, 16
SERVER_PORT = 9000
ESTABLISHED_SECONDS, UDP_SECONDS = 900, 300
UDP_CLOSING_SECONDS = 5
HANDSHAKE = 3
"""Packets, each brought about by the one before, until a connection is there."""
LIBC = ctypes.CDLL(None, use_errno=True)


def load_modules(folder: Path) -> None:
    """ip_vs, its schedulers and what they need, by the names in the modules' own `depends`."""
    files = {path.stem.replace("-", "_"): path for path in folder.rglob("*.ko")}
    loaded: set[str] = set()

    def load(name: str) -> None:
        if name in loaded or name not in files:
            return
        loaded.add(name)
        image = files[name].read_bytes()
        _, found, rest = image.partition(b"\0depends=")
        for needed in rest.partition(b"\0")[0].decode().split(",") if found else ():
            load(needed.replace("-", "_"))
        descriptor = os.open(files[name], os.O_RDONLY)
        if LIBC.syscall(FINIT_MODULE, descriptor, b"", 0) != 0:
            raise OSError(ctypes.get_errno(), f"cannot load {name}")
        os.close(descriptor)

    for name in sorted(files):
        if name.startswith("ip_vs"):
            load(name)


def bring_up_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for name, address in (("lo", "127.0.0.1"), ("lo:1", "10.0.0.1")):
            for request, value in ((SIOCSIFADDR, address), (SIOCSIFNETMASK, "255.0.0.0")):
                packed = struct.pack("16sHH4s8x", name.encode(), socket.AF_INET, 0, socket.inet_aton(value))
                fcntl.ioctl(control, request, packed)
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP_RUNNING))


class Kernel:
    """IPVS by its socket options (struct ip_vs_service_user and ip_vs_dest_user of linux/ip_vs.h)."""

    def __init__(self) -> None:
        self.control = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)

    def service(self, key: Key, scheduler: bytes = b"", flags: int = 0, timeout: int = 0, mask: int = 0) -> bytes:
        name = struct.pack("=HxxIHxxI", key.protocol, key.address, socket.htons(key.port), key.mark)
        return name + struct.pack("=16sIII", scheduler, flags, timeout, mask)

    def add_service(self, key: Key, scheduler: str, flags: int, timeout: int, mask: int) -> None:
        self.set(ADD, self.service(key, scheduler.encode(), flags, timeout, mask))

    def destination(self, command: int, key: Key, address: int, weight: int, upper: int, lower: int) -> None:
        row = struct.pack("=IHxxIiII", address, socket.htons(SERVER_PORT), 0, weight, upper, lower)
        self.set(command, self.service(key) + row)

    def set_udp_timeout(self, seconds: int) -> None:
        self.set(TIMEOUTS, struct.pack("=iii", 0, 0, seconds))

    def set(self, command: int, value: bytes) -> None:
        self.control.setsockopt(socket.IPPROTO_IP, command, value)


Ends = tuple[socket.socket, socket.socket | None, int]
"""A connection's sockets, the client's first, and its server's number."""


class Key:
    """What names a service; `address` in network order, as the kernel's structures have it."""

    def __init__(self, script: dict[str, Any]) -> None:
        self.udp = script["protocol"] == "UDP"
        self.mark = script["mark"]
        self.protocol = socket.IPPROTO_UDP if self.udp else socket.IPPROTO_TCP
        self.address = 0 if self.mark else packed(script["targets"][0])
        self.port = 0 if self.mark else script["port"]


def packed(address: str) -> int:
    return int(struct.unpack("=I", socket.inet_aton(address))[0])


class Servers:
    """The real servers: one listener for all addresses."""

    def __init__(self) -> None:
        self.tcp = socket.socket()
        self.tcp.bind(("0.0.0.0", SERVER_PORT))
        self.tcp.listen(1024)
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("0.0.0.0", SERVER_PORT))
        self.udp.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        self.udp.setblocking(False)
        self.tcp.setblocking(False)
        self.marker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.marker.bind(("127.0.0.1", 0))
        self.marker.connect(self.marker.getsockname())

    def settle(self) -> None:
        """What was under way has arrived, or never will. The loopback device of one processor keeps packets in order:
        what was sent before a marker is there before it, however long that takes."""
        self.marker.send(b".")
        self.marker.recv(1)

    def accept(self) -> tuple[socket.socket, Any] | None:
        """The connection that a client has begun, if it got here."""
        for _ in range(HANDSHAKE):
            self.settle()
            try:
                return self.tcp.accept()
            except BlockingIOError:
                continue
        return None

    def receive(self) -> str | None:
        """The address the packet came to that was sent just now, if it got here."""
        self.settle()
        try:
            _, ancillary, _, _ = self.udp.recvmsg(2048, 256)
        except BlockingIOError:
            return None
        [(_, _, info)] = ancillary
        return socket.inet_ntoa(info[8:12])


class Run:
    """One script under way."""

    def __init__(self, script: dict[str, Any], kernel: Kernel, servers: Servers) -> None:
        self.script, self.kernel, self.servers = script, kernel, servers
        self.key = Key(script)
        self.steps = list(script["steps"])
        self.open: dict[int, Ends] = {}
        self.present: set[int] = set()
        self.connections = -1
        self.answers: list[Any] = []
        flags = FALLBACK * script["fallback"] | PORT * script["hash_port"] | PERSISTENT * bool(script["persistence"])
        mask = packed(script["netmask"])
        kernel.add_service(self.key, script["scheduler"], flags, script["persistence"], mask)

    def phase(self) -> bool:
        """Steps up to the next wait; False: there are none left."""
        while self.steps:
            step, *arguments = self.steps.pop(0)
            if step == "wait":
                return True
            getattr(self, step)(*arguments)
        return False

    def add(self, number: int, weight: int, upper: int, lower: int) -> None:
        self.present.add(number)
        self.change(ADD_DESTINATION, number, weight, upper, lower)

    def edit(self, number: int, weight: int, upper: int, lower: int) -> None:
        self.change(EDIT_DESTINATION, number, weight, upper, lower)

    def remove(self, number: int) -> None:
        self.present.remove(number)
        self.change(DELETE_DESTINATION, number, 0, 0, 0)

    def change(self, command: int, number: int, weight: int, upper: int, lower: int) -> None:
        address = packed(self.script["servers"][number])
        self.kernel.destination(command, self.key, address, weight, upper, lower)

    def connect(self, source: str, port: int, target: int) -> None:
        kind = socket.SOCK_DGRAM if self.key.udp else socket.SOCK_STREAM
        client = socket.socket(socket.AF_INET, kind)
        if self.key.mark:
            client.setsockopt(socket.SOL_SOCKET, SO_MARK, self.key.mark)
        client.bind((source, port))
        client.setblocking(False)
        server, picked = None, None
        client.connect_ex((self.script["targets"][target], self.script["port"]))
        if self.key.udp:
            with contextlib.suppress(OSError):
                client.send(b"1")
            picked = self.servers.receive()
        elif accepted := self.servers.accept():
            server, peer = accepted
            assert peer == (source, port), peer
            picked = server.getsockname()[0]
        if picked is None:
            client.close()
        number = self.script["servers"].index(picked) if picked else None
        self.answers.append(number)
        self.connections += 1
        if number is not None:
            self.open[self.connections] = (client, server, number)

    def half_close(self, connection: int) -> None:
        if (found := self.reachable(connection)) and not self.key.udp:
            finish(found[0])

    def server_half_close(self, connection: int) -> None:
        if found := self.reachable(connection):
            finish(found[1])

    def close(self, connection: int) -> None:
        """TCP: both ends finish, the client first unless the server has. UDP: a last packet, with a short time-out."""
        if not (found := self.reachable(connection)):
            return
        client, server, _ = found
        del self.open[connection]
        if server is None:
            self.kernel.set_udp_timeout(UDP_CLOSING_SECONDS)
            client.send(b"2")
            self.servers.receive()
            self.kernel.set_udp_timeout(UDP_SECONDS)
        else:
            finish(client)
            server.close()
        client.close()

    def reset(self, connection: int) -> None:
        if not (found := self.reachable(connection)):
            return
        client, server, _ = found
        del self.open[connection]
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        if server is not None:
            server.close()

    def reachable(self, connection: int) -> Ends | None:
        """None also while the connection's server is removed: IPVS drops its packets then."""
        ends = self.open.get(connection)
        return ends if ends is not None and ends[2] in self.present else None

    def counts(self) -> None:
        """[server, weight, active, inactive] of each destination, in the kernel's order."""
        rows, ours = [], False
        own = (
            f"FWM  {self.key.mark:08X} "
            if self.key.mark
            else f"{self.script['protocol']}  {hexadecimal(self.script['targets'][0])}:{self.script['port']:04X} "
        )
        for line in Path("/proc/net/ip_vs").read_text().splitlines()[3:]:
            if not line.startswith("  ->"):
                ours = line.startswith(own)
            elif ours:
                _, address, _, weight, active, inactive = line.split()
                number = [hexadecimal(server) for server in self.script["servers"]].index(address.split(":")[0])
                rows.append([number, int(weight), int(active), int(inactive)])
        self.answers.append(rows)


def finish(end: socket.socket | None) -> None:
    """Send FIN, unless that has been done. UDP has no such thing, and no socket of the server's."""
    if end is not None:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_WR)


def hexadecimal(address: str) -> str:
    return socket.inet_aton(address).hex().upper()


def answers(modules: Path, scripts: list[dict[str, Any]]) -> dict[str, Any]:
    load_modules(modules)
    bring_up_loopback()
    resource.setrlimit(resource.RLIMIT_NOFILE, (65536, 65536))
    kernel, servers = Kernel(), Servers()
    kernel.set_udp_timeout(UDP_SECONDS)
    runs = [Run(script, kernel, servers) for script in scripts]
    waits = max(script["wait_seconds"] for script in scripts)
    # One wait serves all.
    while any([run.phase() for run in runs]):
        time.sleep(waits)
    return {run.script["name"]: run.answers for run in runs}


def main() -> None:
    modules, scripts, out = (Path(word) for word in sys.argv[1:])
    try:
        for kind, folder in (("proc", "/proc"), ("sysfs", "/sys")):
            LIBC.mount(kind.encode(), folder.encode(), kind.encode(), 0, None)
        found: dict[str, Any] = {
            "kernel": os.uname().release,
            "answers": answers(modules, json.loads(scripts.read_text())),
        }
    except BaseException:
        found = {"failed": traceback.format_exc()}
    out.write_text(json.dumps(found))
    os.sync()
    LIBC.reboot(POWER_OFF)


if __name__ == "__main__":
    main()
