"""Durable create of a 2 KB ConfigMap through authentication, RBAC, admission, validation and managedFields, with 1, 64
and 512 requests in flight, beside etcd's Put of the same bytes. kubecore speaks TLS here, etcd plain HTTP/2.
"""

from __future__ import annotations

import json

from _harness import (
    ETCD_HEADERS,
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

IN_FLIGHT = {1: 2_000, 64: 20_000, 512: 20_000}


def token(ours: Server) -> str:
    """A service account that RBAC lets create config maps and nothing else."""
    core, rbac = "/api/v1/namespaces/default", "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
    call(ours.port, "POST", f"{core}/serviceaccounts", {"metadata": {"name": "bench"}})
    rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]}
    call(ours.port, "POST", f"{rbac}/roles", {"metadata": {"name": "bench"}, "rules": [rule]})
    subject = {"kind": "ServiceAccount", "name": "bench", "namespace": "default"}
    ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "bench"}
    call(
        ours.port,
        "POST",
        f"{rbac}/rolebindings",
        {"metadata": {"name": "bench"}, "subjects": [subject], "roleRef": ref},
    )
    body = {"spec": {"expirationSeconds": 7200}}
    return str(json.loads(call(ours.port, "POST", f"{core}/serviceaccounts/bench/token", body))["status"]["token"])


def main() -> None:
    with kubecore() as ours, etcd() as peer:
        headers = (f"authorization: Bearer {token(ours)}", "content-type: application/json")
        body = json.dumps(config_map(2048, generateName="bench-")).encode()
        put = grpc_frame(field(1, b"/registry/configmaps/default/bench") + field(2, body))
        url = f"{ours.url}/api/v1/namespaces/default/configmaps"
        peer_url = f"http://127.0.0.1:{peer.port}/etcdserverpb.KV/Put"
        for clients, requests in IN_FLIGHT.items():

            def create(n: int = requests, c: int = clients) -> Load:
                return h2load(ours, url, requests=n, clients=c, body=body, headers=headers, http1=True)

            def create_peer(n: int = requests, c: int = clients) -> Load:
                return h2load(peer, peer_url, requests=n, clients=c, body=put, headers=ETCD_HEADERS)

            a, b = interleaved(create, create_peer)
            report(f"create-fsync, {clients} in flight", a, b, "etcd Put")


if __name__ == "__main__":
    main()
