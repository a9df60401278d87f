"""GET of a 3.7 KB Pod over 32 plain connections, beside etcd's Range of a value of the same size."""

from __future__ import annotations

from _harness import ETCD_HEADERS, call, etcd, field, grpc_frame, h2load, interleaved, kubecore, pod, report

REQUESTS, CLIENTS = 60_000, 32


def main() -> None:
    with kubecore() as ours, etcd() as peer:
        call(ours.port, "POST", "/api/v1/namespaces/default/pods", pod("bench"))
        path = "/api/v1/namespaces/default/pods/bench"
        stored = call(ours.port, "GET", path)
        put = grpc_frame(field(1, b"/registry/pods/default/bench") + field(2, stored))
        root = f"http://127.0.0.1:{peer.port}/etcdserverpb.KV"
        h2load(peer, f"{root}/Put", requests=1, clients=1, body=put, headers=ETCD_HEADERS)
        get = grpc_frame(field(1, b"/registry/pods/default/bench"))
        a, b = interleaved(
            lambda: h2load(ours, f"http://127.0.0.1:{ours.port}{path}", requests=REQUESTS, clients=CLIENTS, http1=True),
            lambda: h2load(
                peer, f"{root}/Range", requests=REQUESTS // 2, clients=CLIENTS, body=get, headers=ETCD_HEADERS
            ),
        )
        report(f"get ({len(stored)} B pod)", a, b, "etcd Range")


if __name__ == "__main__":
    main()
