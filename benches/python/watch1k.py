"""1,000 watchers of 1 KB events that come in a burst, beside etcd: a connection each, the same bytes in every event.

The CPU of making the objects (300 creates, 300 puts) is in the figures: a three-hundred-thousandth of it per delivery.
"""

from __future__ import annotations

import json
import os
import resource

from _load import GRPC_HEADERS, JSON_HEADERS, Load, etcd_put, grpc_frame, h2load
from _payloads import encoded
from _report import Target, compared, interleaved
from _servers import LOAD_CPU, Server, etcd, kubecore
from _watchers import MARKER, closing, counted, settle, watch_etcd, watch_kubecore

WATCHERS, EVENTS, BYTES = 1_000, 300, 1024
TARGET = Target("at least x 4 a core", 4, "at least")
PATH = "/api/v1/namespaces/burst/configmaps"


def template(size: int) -> bytes:
    return encoded({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "e-"}}, size, MARKER)


def body_of(server: Server) -> tuple[bytes, bytes]:
    """A request whose object is stored in 1 KB, and that object."""
    size = BYTES
    for _ in range(2):
        stored = server.call("POST", PATH, json.loads(template(size)))
        size += BYTES - len(stored)
    return template(size), stored


def main() -> None:
    os.sched_setaffinity(0, {int(LOAD_CPU)})
    resource.setrlimit(resource.RLIMIT_NOFILE, (8192, max(8192, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
    with kubecore() as ours, etcd() as peer:
        ours.call("POST", "/api/v1/namespaces", {"metadata": {"name": "burst"}})
        body, stored = body_of(ours)
        put = grpc_frame(etcd_put(b"/burst/key", stored))

        def create() -> None:
            url = f"http://127.0.0.1:{ours.port}{PATH}"
            h2load(ours, url, requests=EVENTS, clients=32, body=body, headers=JSON_HEADERS, http1=True)

        def create_peer() -> None:
            url = f"{peer.url}/etcdserverpb.KV/Put"
            h2load(peer, url, requests=EVENTS, clients=32, body=put, headers=GRPC_HEADERS)

        def deliver() -> Load:
            revision = json.loads(ours.call("GET", f"{PATH}?limit=1"))["metadata"]["resourceVersion"]
            with closing([watch_kubecore(ours.port, PATH, revision) for _ in range(WATCHERS)]) as sockets:
                settle(ours)
                return counted(sockets, EVENTS, create, ours)

        def deliver_peer() -> Load:
            with closing([watch_etcd(peer.port, b"/burst/") for _ in range(WATCHERS)]) as sockets:
                settle(peer)
                return counted(sockets, EVENTS, create_peer, peer)

        a, b = interleaved(deliver, deliver_peer)
        name = f"watch1k ({EVENTS} events of {len(stored)} B)"
        compared(name, a, b, "etcd Watch", target=TARGET, figure="per_core")


if __name__ == "__main__":
    main()
