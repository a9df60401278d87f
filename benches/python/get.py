"""GET of a 3.7 KB Pod over 32 plain connections, beside etcd's Range of a value of the same bytes."""

from __future__ import annotations

from _load import GRPC_HEADERS, etcd_put, etcd_range, grpc_frame, h2load
from _payloads import pod
from _report import Target, compared, interleaved
from _servers import etcd, kubecore

REQUESTS, CLIENTS = 60_000, 32
TARGET = Target("CPU at most 1/5", 0.2, "at most")


def main() -> None:
    with kubecore() as ours, etcd() as peer:
        ours.call("POST", "/api/v1/namespaces/default/pods", pod(name="bench"))
        path, key = "/api/v1/namespaces/default/pods/bench", b"/registry/pods/default/bench"
        stored = ours.call("GET", path)
        service = f"{peer.url}/etcdserverpb.KV"
        put = grpc_frame(etcd_put(key, stored))
        h2load(peer, f"{service}/Put", requests=1, clients=1, body=put, headers=GRPC_HEADERS)
        get, size = grpc_frame(etcd_range(key)), len(stored)
        url = f"http://127.0.0.1:{ours.port}{path}"
        a, b = interleaved(
            lambda: h2load(ours, url, requests=REQUESTS, clients=CLIENTS, http1=True, answer_bytes=size),
            lambda: h2load(
                peer,
                f"{service}/Range",
                requests=REQUESTS // 4,
                clients=CLIENTS,
                body=get,
                headers=GRPC_HEADERS,
                answer_bytes=size,
            ),
        )
        compared(f"get ({size} B pod)", a, b, "etcd Range", target=TARGET)


if __name__ == "__main__":
    main()
