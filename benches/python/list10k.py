"""LIST of 10,000 Pods of 3.7 KB (37 MB), beside etcd's Range over the same values."""

from __future__ import annotations

import concurrent.futures

from _harness import (
    ETCD_HEADERS,
    Load,
    Server,
    call,
    etcd,
    field,
    grpc_frame,
    h2load,
    interleaved,
    kubecore,
    pod,
    report,
)

PODS = 10_000


def fill(ours: Server) -> None:
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        path = "/api/v1/namespaces/default/pods"
        list(pool.map(lambda i: call(ours.port, "POST", path, pod(f"bench-{i:05}")), range(PODS)))


def fill_peer(peer: Server, value: bytes) -> None:
    import base64
    import json
    import urllib.request
    from concurrent.futures import ThreadPoolExecutor

    def put(i: int) -> None:
        key = base64.b64encode(f"/registry/pods/default/bench-{i:05}".encode()).decode()
        body = json.dumps({"key": key, "value": base64.b64encode(value).decode()}).encode()
        urllib.request.urlopen(f"http://127.0.0.1:{peer.port}/v3/kv/put", data=body, timeout=60).read()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(put, range(PODS)))


def main() -> None:
    with kubecore() as ours, etcd() as peer:
        fill(ours)
        value = call(ours.port, "GET", "/api/v1/namespaces/default/pods/bench-00000")
        fill_peer(peer, value)
        size = len(call(ours.port, "GET", "/api/v1/pods"))
        start, end = b"/registry/pods/", b"/registry/pods0"
        body = grpc_frame(field(1, start) + field(2, end))
        url, peer_url = (
            f"http://127.0.0.1:{ours.port}/api/v1/pods",
            f"http://127.0.0.1:{peer.port}/etcdserverpb.KV/Range",
        )

        def ask() -> Load:
            return h2load(ours, url, requests=100, clients=4, http1=True)

        def ask_peer() -> Load:
            return h2load(peer, peer_url, requests=20, clients=4, body=body, headers=ETCD_HEADERS)

        a, b = interleaved(ask, ask_peer)
        report(f"list10k ({size / 1e6:.0f} MB)", a, b, "etcd Range")


if __name__ == "__main__":
    main()
