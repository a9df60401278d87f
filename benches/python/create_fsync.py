"""Durable create of a 2 KB ConfigMap through authentication, RBAC, admission, validation and managedFields, with 1, 64
and 256 requests in flight (flow control has places for 300 of one flow), beside etcd's Put of the same bytes.

kubecore speaks TLS to a service account here; etcd is asked over TLS too, with the same certificate, and over plain
HTTP/2 as well. Every object is a new one, so kubecore's store and cache grow; etcd's key is always the same, which
spares it that. Servers are new ones for each row, to keep the growth within bounds.
"""

from __future__ import annotations

from _load import GRPC_HEADERS, JSON_HEADERS, Load, etcd_put, grpc_frame, h2load
from _payloads import encoded
from _report import Target, compared, interleaved
from _servers import etcd, kubecore, token

IN_FLIGHT = {1: 500, 64: 10_000, 256: 10_000}
BYTES = 2048
TARGET = Target("at least x 1.5 a core", 1.5, "at least")


def beside(clients: int, requests: int, *, tls: bool) -> None:
    with kubecore() as ours, etcd(pki=ours.data_dir / "pki" if tls else None) as peer:
        headers = (f"authorization: Bearer {token(ours, configmaps=['create'])}", *JSON_HEADERS)
        body = encoded({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "bench-"}}, BYTES)
        put = grpc_frame(etcd_put(b"/registry/configmaps/default/bench", body))

        def create() -> Load:
            return h2load(
                ours,
                f"{ours.url}/api/v1/namespaces/default/configmaps",
                requests=requests,
                clients=clients,
                body=body,
                headers=headers,
                http1=True,
                answer_bytes=BYTES,
            )

        def create_peer() -> Load:
            url = f"{peer.url}/etcdserverpb.KV/Put"
            return h2load(peer, url, requests=requests, clients=clients, body=put, headers=GRPC_HEADERS)

        a, b = interleaved(create, create_peer)
        target = TARGET if clients == 64 else None
        name = "etcd Put, TLS" if tls else "etcd Put"
        compared(f"create-fsync, {clients} in flight", a, b, name, target=target, figure="per_core")


def main() -> None:
    for clients, requests in IN_FLIGHT.items():
        for tls in (True, False):
            beside(clients, requests, tls=tls)


if __name__ == "__main__":
    main()
