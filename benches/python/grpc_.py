"""The gRPC API beside etcd's, both over TLS with the same certificate: unary get (Range), unary create (Put), batch of
100 creates (Txn of 100 puts), and 100 watchers of a burst (Watch). kubecore authenticates and authorizes every call.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from pathlib import Path

import grpc
import grpc.aio
from _load import GRPC_HEADERS, JSON_HEADERS, Load, etcd_put, etcd_range, etcd_txn, field, grpc_frame, h2load
from _payloads import encoded, pod
from _report import compared, interleaved
from _servers import Server, etcd, kubecore, token
from _watchers import MARKER

from kubecore.api.v1pb import objects_pb2 as pb

CLIENTS, BYTES, BATCH = 32, 2048, 100
WATCHERS, EVENTS = 100, 1_000
CONFIG_MAPS = pb.Resource(version="v1", resource="configmaps")
PODS = pb.Resource(version="v1", resource="pods")


def config_map(size: int, marker: str = "") -> bytes:
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "bench-"}}
    return encoded(obj, size, marker)


class Sides:
    """kubecore and etcd, and how each is called."""

    def __init__(self, ours: Server, peer: Server) -> None:
        self.ours, self.peer = ours, peer
        allowed = token(ours, configmaps=["create", "watch"], pods=["get"])
        self.authorization = f"Bearer {allowed}"
        self.headers = (*GRPC_HEADERS, f"authorization: {self.authorization}")
        self.ca = (ours.data_dir / "pki" / "ca.crt").read_bytes()

    def call(
        self, method: str, message: bytes, *, requests: int, clients: int, answer_bytes: int, weight: int = 1
    ) -> Load:
        return h2load(
            self.ours,
            f"https://127.0.0.1:{self.ours.ports['grpc']}/kubecore.v1.Objects/{method}",
            requests=requests,
            clients=clients,
            body=grpc_frame(message),
            headers=self.headers,
            answer_bytes=answer_bytes,
            weight=weight,
        )

    def call_peer(
        self, method: str, message: bytes, *, requests: int, clients: int, answer_bytes: int, weight: int = 1
    ) -> Load:
        return h2load(
            self.peer,
            f"{self.peer.url}/etcdserverpb.KV/{method}",
            requests=requests,
            clients=clients,
            body=grpc_frame(message),
            headers=GRPC_HEADERS,
            answer_bytes=answer_bytes,
            weight=weight,
        )


def get(sides: Sides) -> None:
    stored = sides.ours.call("POST", "/api/v1/namespaces/default/pods", pod(name="bench"))
    key, size = b"/registry/pods/default/bench", len(stored)
    sides.call_peer("Put", etcd_put(key, stored), requests=1, clients=1, answer_bytes=1)
    ask = pb.GetRequest(resource=PODS, namespace="default", name="bench").SerializeToString()
    a, b = interleaved(
        lambda: sides.call("Get", ask, requests=8_000, clients=CLIENTS, answer_bytes=size),
        lambda: sides.call_peer("Range", etcd_range(key), requests=8_000, clients=CLIENTS, answer_bytes=size),
    )
    compared(f"grpc get ({size} B pod)", a, b, "etcd Range, TLS")


def create(sides: Sides) -> None:
    body = config_map(BYTES)
    make = pb.CreateRequest(resource=CONFIG_MAPS, namespace="default", json=body)
    one, put = make.SerializeToString(), etcd_put(b"/registry/configmaps/default/bench", body)
    a, b = interleaved(
        lambda: sides.call("Create", one, requests=6_000, clients=64, answer_bytes=BYTES),
        lambda: sides.call_peer("Put", put, requests=6_000, clients=64, answer_bytes=1),
    )
    compared("grpc create, 64 in flight", a, b, "etcd Put, TLS")

    many = pb.BatchRequest(operations=[pb.Operation(create=make)] * BATCH).SerializeToString()
    puts = etcd_txn([etcd_put(b"/registry/configmaps/default/bench-%d" % number, body) for number in range(BATCH)])
    load = {"requests": 100, "clients": 4, "weight": BATCH}
    a, b = interleaved(
        lambda: sides.call("Batch", many, answer_bytes=BATCH * BYTES, **load),
        lambda: sides.call_peer("Txn", puts, answer_bytes=BATCH, **load),
    )
    compared(f"grpc batch of {BATCH} creates, 4 in flight", a, b, f"etcd Txn of {BATCH}, TLS")


class Watchers:
    """Watch streams, a connection each, whose messages are counted undecoded."""

    def __init__(self, target: str, ca: bytes, method: str, first: bytes, authorization: str = "") -> None:
        self._target, self._method, self._first = target, method, first
        self._credentials = grpc.ssl_channel_credentials(ca)
        self._metadata = (("authorization", authorization),) if authorization else ()
        self.seen = 0

    async def __aenter__(self) -> Watchers:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
        self._channels = [
            grpc.aio.secure_channel(self._target, self._credentials, options=options) for _ in range(WATCHERS)
        ]
        calls = [channel.stream_stream(self._method)(metadata=self._metadata) for channel in self._channels]
        await asyncio.gather(*(one.write(self._first) for one in calls))
        self._reading = [asyncio.create_task(self._read(one)) for one in calls]
        return self

    async def _read(self, stream: grpc.aio.StreamStreamCall) -> None:
        mark = MARKER.encode()
        async for message in stream:
            self.seen += message.count(mark)

    async def expect(self, count: int) -> None:
        while self.seen < count:
            for reading in self._reading:
                if reading.done():
                    raise RuntimeError(f"a watch ended: {reading.exception()}")
            await asyncio.sleep(0.01)

    async def __aexit__(self, *_: object) -> None:
        for reading in self._reading:
            reading.cancel()
        await asyncio.gather(*self._reading, return_exceptions=True)
        await asyncio.gather(*(channel.close() for channel in self._channels))


async def delivered(watchers: Watchers, server: Server, burst: threading.Thread) -> Load:
    async with watchers:
        await asyncio.sleep(2)
        cpu, started = server.cpu_seconds(), time.monotonic()
        burst.start()
        await asyncio.wait_for(watchers.expect(WATCHERS * EVENTS), 120)
        load = Load(WATCHERS * EVENTS, time.monotonic() - started, server.cpu_seconds() - cpu)
        await asyncio.to_thread(burst.join)
        return load


def watch(sides: Sides) -> None:
    ours, peer = sides.ours, sides.peer
    path = "/api/v1/namespaces/default/configmaps"
    body = config_map(700, MARKER)
    stored = ours.call("POST", path, json.loads(body))
    put = grpc_frame(etcd_put(b"/burst/key", stored))

    def burst() -> None:
        url = f"http://127.0.0.1:{ours.port}{path}"
        h2load(ours, url, requests=EVENTS, clients=32, body=body, headers=JSON_HEADERS, http1=True)

    def burst_peer() -> None:
        url = f"{peer.url}/etcdserverpb.KV/Put"
        h2load(peer, url, requests=EVENTS, clients=32, body=put, headers=GRPC_HEADERS)

    def deliver() -> Load:
        revision = json.loads(ours.call("GET", f"{path}?limit=1"))["metadata"]["resourceVersion"]
        first = pb.WatchRequest(resource=CONFIG_MAPS, namespace="default", resource_version=revision)
        target, method = f"127.0.0.1:{ours.ports['grpc']}", "/kubecore.v1.Objects/Watch"
        watchers = Watchers(target, sides.ca, method, first.SerializeToString(), sides.authorization)
        return asyncio.run(delivered(watchers, ours, threading.Thread(target=burst)))

    def deliver_peer() -> Load:
        first = field(1, etcd_range(b"/burst/", b"/burst0"))
        watchers = Watchers(f"127.0.0.1:{peer.port}", sides.ca, "/etcdserverpb.Watch/Watch", first)
        return asyncio.run(delivered(watchers, peer, threading.Thread(target=burst_peer)))

    a, b = interleaved(deliver, deliver_peer)
    compared(f"grpc watch ({WATCHERS} watchers, {EVENTS} events of {len(stored)} B)", a, b, "etcd Watch, TLS")


def main() -> None:
    with kubecore() as ours, etcd(pki=Path(ours.data_dir) / "pki") as peer:
        sides = Sides(ours, peer)
        get(sides)
        create(sides)
        watch(sides)


if __name__ == "__main__":
    main()
