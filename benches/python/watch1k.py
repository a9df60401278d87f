"""1,000 watchers of 1 KB events that come in a burst, beside etcd. Both are read by the same raw client, which counts a
marker that every event carries, so that the client costs both the same.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import threading
import time

from _harness import (
    ETCD_HEADERS,
    LOAD_CPU,
    Load,
    Server,
    call,
    config_map,
    etcd,
    field,
    grpc_frame,
    h2load,
    interleaved,
    kubecore,
    report,
)

WATCHERS, EVENTS = 1_000, 300
MARKER = b"MARKERmarkerMARK"


def counted(sockets: list[socket.socket], expected: int, burst: threading.Thread, server: Server) -> Load:
    """Start the burst and read until every watcher has had every event."""
    poll = select.epoll()
    tails = {}
    by_fd = {}
    for one in sockets:
        one.setblocking(False)
        poll.register(one.fileno(), select.EPOLLIN)
        tails[one.fileno()], by_fd[one.fileno()] = b"", one
    seen, cpu, started = 0, server.cpu_seconds(), time.monotonic()
    burst.start()
    while seen < expected:
        ready = poll.poll(30)
        if not ready:
            raise RuntimeError(f"only {seen} of {expected} events came")
        for number, _ in ready:
            data = tails[number] + by_fd[number].recv(1 << 20)
            seen += data.count(MARKER)
            last = data.rfind(MARKER)
            tails[number] = data[max(last + len(MARKER), len(data) - len(MARKER) + 1) :]
    return Load(expected, time.monotonic() - started, server.cpu_seconds() - cpu)


def hpack(name: str, value: str) -> bytes:
    """A header as a literal that is never indexed; both parts shorter than 127 bytes."""
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def watch_etcd(port: int) -> socket.socket:
    """One HTTP/2 connection with one Watch stream and windows so large that no update is ever due."""
    one = socket.create_connection(("127.0.0.1", port))
    largest = 2**31 - 1
    headers = [(":method", "POST"), (":scheme", "http"), (":path", "/etcdserverpb.Watch/Watch"), (":authority", "x")]
    headers += [tuple(h.split(": ")) for h in ETCD_HEADERS]  # type: ignore[misc]
    create = field(1, field(1, b"/burst/") + field(2, b"/burst0"))
    one.sendall(
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        + frame(4, 0, 0, struct.pack(">HI", 4, largest))
        + frame(8, 0, 0, struct.pack(">I", largest - 65535))
        + frame(4, 1, 0, b"")
        + frame(1, 4, 1, b"".join(hpack(n, v) for n, v in headers))
        + frame(0, 0, 1, grpc_frame(create))
    )
    return one


def watch_ours(port: int, revision: str) -> socket.socket:
    one = socket.create_connection(("127.0.0.1", port))
    path = f"/api/v1/namespaces/burst/configmaps?watch=1&resourceVersion={revision}"
    one.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return one


def burst_ours(server: Server) -> None:
    body = config_map(1024, generateName="e-")
    body["data"] = {"value": MARKER.decode() + "x" * 500}
    data = json.dumps(body).encode()
    url = f"http://127.0.0.1:{server.port}/api/v1/namespaces/burst/configmaps"
    h2load(server, url, requests=EVENTS, clients=32, body=data, headers=("content-type: application/json",), http1=True)


def burst_etcd(server: Server) -> None:
    body = grpc_frame(field(1, b"/burst/key") + field(2, MARKER + b"x" * 1008))
    url = f"http://127.0.0.1:{server.port}/etcdserverpb.KV/Put"
    h2load(server, url, requests=EVENTS, clients=32, body=body, headers=ETCD_HEADERS)


def main() -> None:
    import os

    os.sched_setaffinity(0, {int(LOAD_CPU)})
    with kubecore() as ours, etcd() as peer:
        call(ours.port, "POST", "/api/v1/namespaces", {"metadata": {"name": "burst"}})

        def one_round(server: Server, ours_too: bool) -> Load:
            if ours_too:
                head = json.loads(call(server.port, "GET", "/api/v1/namespaces/burst/configmaps?limit=1"))
                revision = head["metadata"]["resourceVersion"]
                sockets = [watch_ours(server.port, revision) for _ in range(WATCHERS)]
            else:
                sockets = [watch_etcd(server.port) for _ in range(WATCHERS)]
            time.sleep(2)
            burst = threading.Thread(target=burst_ours if ours_too else burst_etcd, args=(server,))
            try:
                return counted(sockets, WATCHERS * EVENTS, burst, server)
            finally:
                burst.join()
                for one in sockets:
                    one.close()
                time.sleep(1)

        a, b = interleaved(lambda: one_round(ours, True), lambda: one_round(peer, False))
        report(f"watch1k ({EVENTS} events)", a, b, "etcd Watch")


if __name__ == "__main__":
    main()
