"""LIST with a label selector that 1 % of 150,000 Pods match, beside Kubernetes' own API server over the same ones."""

from __future__ import annotations

import json
from collections.abc import Callable

from _kubernetes import NAME, kube_apiserver
from _load import Load, h2load
from _payloads import fill_pods, stored_items
from _report import compared, interleaved
from _servers import Server, kubecore, token

PODS, MATCHING, BYTES = 150_000, 1_500, 1_850
PATH = "/api/v1/namespaces/default/pods"
QUERY = f"{PATH}?labelSelector=tier%3Dfront"
REQUESTS, CLIENTS = 40, 4


def main() -> None:
    with kubecore() as ours:
        fill_pods(ours, PODS - MATCHING, size=BYTES)
        fill_pods(ours, MATCHING, size=BYTES, labels={"app": "bench", "tier": "front"})
        objects = [(f"/registry/pods/default/{name}", value) for name, value in stored_items(ours, PATH)]
        with kube_apiserver(objects) as peer:
            del objects
            a, b = interleaved(lister(ours), lister(peer))
            compared(f"list-selector ({MATCHING:,} of {PODS:,} pods)", a, b, NAME)


def lister(server: Server) -> Callable[[], Load]:
    bearer = token(server, pods=["list"])
    answer = server.call("GET", QUERY)
    found = len(json.loads(answer)["items"])
    if found != MATCHING:
        raise RuntimeError(f"{QUERY}: {found} pods")

    def run() -> Load:
        return h2load(
            server,
            f"{server.url}{QUERY}",
            requests=REQUESTS,
            clients=CLIENTS,
            headers=(f"authorization: Bearer {bearer}",),
            http1=True,
            answer_bytes=len(answer) * 9 // 10,
        )

    return run


if __name__ == "__main__":
    main()
