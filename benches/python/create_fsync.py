"""Durable create of a 2 KB ConfigMap through authentication, RBAC, admission, validation and managedFields, with 1, 64
and 512 requests in flight, beside etcd's Put of the same bytes.

kubecore speaks TLS to a service account here; etcd is asked over TLS too, with the same certificate, and over plain
HTTP/2 as well. Every object is a new one; etcd's key is always the same, which spares it the growth of its index.
"""

from __future__ import annotations

from _load import GRPC_HEADERS, JSON_HEADERS, Load, etcd_put, grpc_frame, h2load
from _payloads import encoded
from _report import Target, compared, interleaved
from _servers import Server, etcd, kubecore, token

IN_FLIGHT = {1: 500, 64: 20_000, 512: 20_000}
BYTES = 2048
TARGET = Target("rate at least x 1.5", 1.5, "at least")


def main() -> None:
    with kubecore() as ours, etcd() as plain, etcd(pki=ours.data_dir / "pki") as encrypted:
        headers = (f"authorization: Bearer {token(ours, configmaps=['create'])}", *JSON_HEADERS)
        body = encoded({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "bench-"}}, BYTES)
        put = grpc_frame(etcd_put(b"/registry/configmaps/default/bench", body))
        url = f"{ours.url}/api/v1/namespaces/default/configmaps"

        def create(requests: int, clients: int) -> Load:
            return h2load(
                ours,
                url,
                requests=requests,
                clients=clients,
                body=body,
                headers=headers,
                http1=True,
                answer_bytes=BYTES,
            )

        def create_peer(peer: Server, requests: int, clients: int) -> Load:
            put_url = f"{peer.url}/etcdserverpb.KV/Put"
            return h2load(peer, put_url, requests=requests, clients=clients, body=put, headers=GRPC_HEADERS)

        for clients, requests in IN_FLIGHT.items():
            for peer, name in ((plain, "etcd Put"), (encrypted, "etcd Put, TLS")):
                a, b = interleaved(
                    lambda n=requests, c=clients: create(n, c),  # type: ignore[misc]
                    lambda s=peer, n=requests, c=clients: create_peer(s, n, c),  # type: ignore[misc]
                )
                target = TARGET if clients == 64 else None
                compared(f"create-fsync, {clients} in flight", a, b, name, target=target, figure="rate")


if __name__ == "__main__":
    main()
