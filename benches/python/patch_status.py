"""PATCH of a Pod's status (10 KB Pod, strategic merge patch of one condition, as a kubelet sends it), beside
Kubernetes' own API server: over TLS, with a service account's token, 16 clients with a pod each.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

from _conversations import held, request
from _kubernetes import NAME, kube_apiserver
from _load import Load
from _payloads import pod
from _report import compared, interleaved
from _servers import CORE, Server, kubecore, token

CLIENTS, REQUESTS, BYTES = 16, 2_000, 10_000
STRATEGIC = "application/strategic-merge-patch+json"


def patches(number: int, bearer: str, counter: Iterator[int]) -> Iterator[bytes]:
    for _ in range(REQUESTS // CLIENTS):
        condition = {"type": "Ready", "status": "False", "message": f"containers with unready status: {next(counter)}"}
        body = json.dumps({"status": {"conditions": [condition]}}).encode()
        path = f"{CORE}/pods/patched-{number}/status"
        yield request("PATCH", path, token=bearer, body=body, media_type=STRATEGIC)


class Patched:
    """One server with its pods."""

    def __init__(self, server: Server) -> None:
        self.server, self.token = server, token(server, **{"pods/status": ["patch"]})
        self.counter = itertools.count()
        for number in range(CLIENTS):
            server.call("POST", f"{CORE}/pods", pod(size=BYTES, name=f"patched-{number}"))
        self.size = len(server.call("GET", f"{CORE}/pods/patched-0"))

    def run(self) -> Load:
        every = [patches(number, self.token, self.counter) for number in range(CLIENTS)]
        return held(self.server, self.server.url, every)


def main() -> None:
    with kubecore() as ours, kube_apiserver() as peer:
        left, right = Patched(ours), Patched(peer)
        a, b = interleaved(left.run, right.run)
        compared(f"patch-status ({left.size} B pod)", a, b, NAME)


if __name__ == "__main__":
    main()
