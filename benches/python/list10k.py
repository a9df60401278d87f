"""LIST of 10,000 Pods of 3.7 KB (37 MB), beside etcd's Range over the same values."""

from __future__ import annotations

from _load import GRPC_HEADERS, etcd_range, grpc_frame, h2load
from _payloads import fill_etcd, fill_pods, stored_items
from _report import Target, compared, interleaved, median
from _servers import etcd, kubecore

PODS, CLIENTS = 10_000, 4
TARGET = Target("50 LIST/s per core", 50, "at least")


def main() -> None:
    with kubecore() as ours, etcd() as peer:
        fill_pods(ours, PODS)
        path = "/api/v1/pods"
        items = stored_items(ours, path)
        fill_etcd(peer, [(f"/registry/pods/default/{name}", value) for name, value in items])
        size, least = len(ours.call("GET", path)), sum(len(value) for _, value in items)
        body = grpc_frame(etcd_range(b"/registry/pods/", b"/registry/pods0"))
        url, peer_url = f"http://127.0.0.1:{ours.port}{path}", f"{peer.url}/etcdserverpb.KV/Range"
        a, b = interleaved(
            lambda: h2load(ours, url, requests=100, clients=CLIENTS, http1=True, answer_bytes=size),
            lambda: h2load(
                peer, peer_url, requests=12, clients=CLIENTS, body=body, headers=GRPC_HEADERS, answer_bytes=least
            ),
        )
        per_core = median([load.per_core for load in a])
        target = Target(f"{TARGET.text} (is {per_core:.0f})", TARGET.bound, TARGET.sense)
        compared(f"list10k ({len(items)} pods, {size / 1e6:.0f} MB)", a, b, "etcd Range", target=target, value=per_core)


if __name__ == "__main__":
    main()
