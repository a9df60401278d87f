"""Gives pods of a container runtime their addresses on kubecore's own network.

Such a runtime makes a pod's network namespace itself and has CNI plugins connect it. kubecore is one: a folder that the
runtime is pointed to has a configuration and a plugin that asks back here, over a socket, with the namespace in hand
(`cni_plugin`). So all pods of a node are on the same bridge, whichever runtime they are of, Services and DNS reach them
alike, and the runtime may be in whatever network and mount namespaces it likes. A runtime that is pointed to other
plugins works too; pods then have the addresses that those give them.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path

from kubecore.kubelet.networks.network import NetworkError, NetworkNamespace, PodNetwork
from kubecore.whole_file import write_whole

_NETWORK = "kubecore"
_PROGRAM = Path(__file__).with_name("cni_plugin.py")
_LARGEST = 64 * 1024


def write_configuration(folder: Path) -> None:
    """`net.d` and `bin` below `folder`, as a runtime's `conf_dir` and `bin_dir` are to name them."""
    folder = folder.absolute()
    for name in ("net.d", "bin", "sockets"):
        (folder / name).mkdir(parents=True, exist_ok=True, mode=0o755)
    (folder / "sockets").chmod(0o700)
    plugin = {"type": _NETWORK, "sockets": str(folder / "sockets")}
    listed = {"cniVersion": "1.0.0", "name": _NETWORK, "plugins": [plugin]}
    program = f"#!{sys.executable} -IS\n".encode() + _PROGRAM.read_bytes()
    for name in (_NETWORK, "loopback"):
        write_whole(folder / "bin" / name, program)
        (folder / "bin" / name).chmod(0o755)
    # Last, since a runtime looks for it.
    write_whole(folder / "net.d" / "10-kubecore.conflist", json.dumps(listed, indent=1).encode())


class CniListener:
    """Answers the plugin for pods that are `expected`. `addresses`: what they were given."""

    def __init__(self, network: PodNetwork, folder: Path, name: str) -> None:
        """`name`: of the node, of which several may share the folder."""
        self._network = network
        self._path = folder.absolute() / "sockets" / f"{name}.sock"
        self._socket: socket.socket | None = None
        self.expected: set[str] = set()

    def start(self) -> None:
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        place = os.open(self._path.parent, os.O_PATH)
        try:
            listener.bind(f"/proc/self/fd/{place}/{self._path.name}")  # a path of any length
        finally:
            os.close(place)
        listener.listen(64)
        asyncio.get_running_loop().add_reader(listener.fileno(), self._accept)
        self._socket = listener

    def close(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
            self._path.unlink(missing_ok=True)

    def _accept(self) -> None:
        with suppress(BlockingIOError):
            if self._socket is not None:
                channel, _ = self._socket.accept()
                channel.setblocking(False)
                asyncio.get_running_loop().add_reader(channel.fileno(), self._serve, channel)

    def _serve(self, channel: socket.socket) -> None:
        """One question each."""
        asyncio.get_running_loop().remove_reader(channel.fileno())
        with channel:
            descriptors: list[int] = []
            try:
                question, descriptors, _, _ = socket.recv_fds(channel, _LARGEST, 2)
                answer = self._answer(json.loads(question)["uid"], descriptors)
                if answer:
                    channel.send(json.dumps(answer).encode())
            except (OSError, ValueError, KeyError):
                """Not the plugin, or it has been ended; it hears of it, if it still can."""
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)

    def _answer(self, uid: str, descriptors: list[int]) -> dict[str, object]:
        """Nothing for a pod that another kubelet may know."""
        if uid not in self.expected or len(descriptors) != 2:
            return {}
        try:
            return {"addresses": self._network.attach(uid, NetworkNamespace(*descriptors))}
        except NetworkError as error:
            return {"error": str(error)}
