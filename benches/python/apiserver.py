"""What clients ask most, beside Kubernetes' own API server: GET, LIST of 10,000 Pods in JSON and in protobuf, durable
create; over TLS, a service account's token. Then how long both take to start, and their memory with those Pods.
"""

from __future__ import annotations

from _kubernetes import NAME, kube_apiserver
from _load import JSON_HEADERS, Load, h2load
from _payloads import encoded, fill_pods, stored_items
from _report import compared, interleaved, row
from _servers import CORE, Server, kubecore, token

PODS = 10_000
PATH = f"{CORE}/pods"
PROTOBUF = "application/vnd.kubernetes.protobuf"


class Asked:
    """One server with its pods."""

    def __init__(self, server: Server, name: str) -> None:
        self.server, self.name = server, name
        bearer = token(server, pods=["get", "list"], configmaps=["create"])
        self.headers = (f"authorization: Bearer {bearer}",)

    def get(self) -> Load:
        return self._read(f"{PATH}/{self.name}", requests=6_000, clients=32, least=3_000)

    def list(self) -> Load:
        return self._read(PATH, requests=8, clients=4, least=PODS * 3_000)

    def list_protobuf(self) -> Load:
        return self._read(PATH, requests=8, clients=4, least=PODS * 1_000, accept=PROTOBUF)

    def create(self) -> Load:
        body = encoded({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "bench-"}}, 2048)
        url = f"{self.server.url}{CORE}/configmaps"
        headers = (*self.headers, *JSON_HEADERS)
        return h2load(self.server, url, requests=3_000, clients=64, body=body, headers=headers, http1=True)

    def _read(self, path: str, *, requests: int, clients: int, least: int, accept: str = "application/json") -> Load:
        return h2load(
            self.server,
            f"{self.server.url}{path}",
            requests=requests,
            clients=clients,
            headers=(*self.headers, f"accept: {accept}"),
            http1=True,
            answer_bytes=least,
        )


def main() -> None:
    with kubecore() as ours:
        fill_pods(ours, PODS)
        items = stored_items(ours, PATH)
        with kube_apiserver([(f"/registry/pods/default/{name}", value) for name, value in items]) as peer:
            left, right = Asked(ours, items[0][0]), Asked(peer, items[0][0])
            compared("apiserver: get", *interleaved(left.get, right.get), NAME)
            compared(f"apiserver: list of {PODS} pods", *interleaved(left.list, right.list), NAME)
            lists = interleaved(left.list_protobuf, right.list_protobuf)
            compared(f"apiserver: list of {PODS} pods, protobuf", *lists, NAME)
            memory = [f"{server.rss_mib() * 1.048576:.0f} MB" for server in (ours, peer)]
            row(f"apiserver: memory with {PODS} pods", memory[0], f"{NAME}: {memory[1]}")
    with kubecore() as ours, kube_apiserver() as peer:
        ready = [f"ready in {server.ready_seconds:.2f} s" for server in (ours, peer)]
        row("apiserver: start", ready[0], f"{NAME}: {ready[1]}")
        left, right = Asked(ours, ""), Asked(peer, "")
        compared("apiserver: create, 64 in flight", *interleaved(left.create, right.create), NAME)


if __name__ == "__main__":
    main()
