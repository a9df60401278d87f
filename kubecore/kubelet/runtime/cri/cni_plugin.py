# ruff: noqa: PTH208
"""A CNI plugin (https://www.cni.dev/docs/spec/) that has the node's kubelet connect a pod's network namespace.

A program by itself: container runtimes execute it for a moment, with nothing of kubecore to import. It hands the
kubelet the namespace and a netlink socket within, wherever the runtime has put it, and prints what it is answered.
Under the name `loopback` it sees to `lo`.
"""

from __future__ import annotations

import array
import ctypes
import fcntl
import json
import os
import socket
import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

VERSIONS = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]
_NEW_NETWORK = 0x40000000
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 0x1
_TRY_LATER = 11


def fail(version: str, code: int, text: str) -> NoReturn:
    print(json.dumps({"cniVersion": version, "code": code, "msg": text}))
    sys.exit(1)


def enter(path: str) -> int:
    """This process's network is that of the pod from now on. Returns a descriptor of it."""
    namespace = os.open(path, os.O_RDONLY)
    library = ctypes.CDLL(None, use_errno=True)
    if library.setns(namespace, _NEW_NETWORK):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)
    return namespace


def loopback(version: str, path: str) -> dict[str, Any]:
    enter(path)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(any_socket, _GET_FLAGS, request))[1]
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sH14x", b"lo", flags | _UP))
    return {
        "cniVersion": version,
        "interfaces": [{"name": "lo", "sandbox": path}],
        "ips": [{"version": "4", "address": "127.0.0.1/8", "interface": 0}],
    }


def ask(folder: str, message: dict[str, str], descriptors: list[int]) -> dict[str, Any] | None:
    """Whichever of the cluster's kubelets of this machine knows the pod. None if none does."""
    for name in sorted(os.listdir(folder)):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as channel:
            place = os.open(folder, os.O_PATH)
            try:
                # Paths of sockets may not be long; this one is not.
                channel.connect(f"/proc/self/fd/{place}/{name}")
            except OSError:
                continue  # its kubelet does not run
            finally:
                os.close(place)
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
            channel.sendmsg([json.dumps(message).encode()], [rights])
            answer = channel.recv(65536)
            if answer:
                found: dict[str, Any] = json.loads(answer)
                return found
    return None


def connect(settings: dict[str, Any], version: str, path: str) -> dict[str, Any]:
    words = [one.split("=", 1) for one in os.environ.get("CNI_ARGS", "").split(";") if "=" in one]
    uid = dict(words).get("K8S_POD_UID", "")
    if os.environ.get("CNI_IFNAME", "eth0") != "eth0":
        fail(version, 4, "pods of kubecore have their address at eth0")
    namespace = enter(path)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
        answer = ask(settings["sockets"], {"uid": uid}, [namespace, netlink.fileno()])
    if answer is None:
        fail(version, _TRY_LATER, f"no kubelet of kubecore waits for pod {uid!r}")
    if "error" in answer:
        fail(version, 100, answer["error"])
    ips = []
    for address in answer["addresses"]:
        bits, family = (128, "6") if ":" in address else (32, "4")
        ips.append({"version": family, "address": f"{address}/{bits}", "interface": 0})
    return {"cniVersion": version, "interfaces": [{"name": "eth0", "sandbox": path}], "ips": ips}


def main() -> None:
    command = os.environ.get("CNI_COMMAND", "")
    settings = json.load(sys.stdin)
    version = settings.get("cniVersion", "1.0.0")
    if command == "VERSION":
        print(json.dumps({"cniVersion": version, "supportedVersions": VERSIONS}))
    elif command == "ADD":
        path = os.environ["CNI_NETNS"]
        try:
            is_loopback = sys.argv[0].endswith("/loopback")
            result = loopback(version, path) if is_loopback else connect(settings, version, path)
        except OSError as error:
            fail(version, 100, str(error))
        print(json.dumps(result))
    # Links go with their namespace, and the kubelet takes addresses back when it removes the pod: DEL, CHECK and what
    # may come have nothing to do.


if __name__ == "__main__":
    main()
