"""Server-side apply of a 10 KB Deployment in which one value has changed, beside Kubernetes' own API server: over TLS,
with a service account's token, 16 clients with a Deployment each.
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
from _servers import Server, kubecore, token

CLIENTS, REQUESTS = 16, 1_000
POD_BYTES = 18_800
"""Of the pod that lends its container; the Deployment has 10 KB then."""
PATH = "/apis/apps/v1/namespaces/default/deployments"
APPLY = "application/apply-patch+yaml"


def deployment(name: str, value: str) -> bytes:
    template = pod(size=POD_BYTES)
    container = template["spec"]["containers"][0]  # type: ignore[index]
    container["env"][0]["value"] = value
    labels = {"app": "bench", "tier": "back"}
    spec = {
        "replicas": 0,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
    }
    return json.dumps(
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}
    ).encode()


class Applied:
    """One server; the first round creates the objects."""

    def __init__(self, server: Server) -> None:
        self.server, self.counter = server, itertools.count()
        self.token = token(server, group="apps", deployments=["create", "patch", "get"])

    def applies(self, number: int) -> Iterator[bytes]:
        for _ in range(REQUESTS // CLIENTS):
            body = deployment(f"applied-{number}", f"value {next(self.counter)}")
            path = f"{PATH}/applied-{number}?fieldManager=bench"
            yield request("PATCH", path, token=self.token, body=body, media_type=APPLY)

    def run(self) -> Load:
        return held(self.server, self.server.url, [self.applies(number) for number in range(CLIENTS)])


def main() -> None:
    with kubecore() as ours, kube_apiserver() as peer:
        a, b = interleaved(Applied(ours).run, Applied(peer).run)
        compared(f"apply ({len(deployment('applied-0', 'value'))} B Deployment)", a, b, NAME)


if __name__ == "__main__":
    main()
