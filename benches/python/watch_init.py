"""A streaming list (watch with sendInitialEvents) of 10,000 Pods up to the bookmark that ends it, as client-go's
reflectors start, beside Kubernetes' own API server: over TLS, a service account's token, one client.
"""

from __future__ import annotations

import os
import time

from _conversations import Connection, request
from _kubernetes import NAME, kube_apiserver
from _load import Load
from _payloads import fill_pods, stored_items
from _report import compared, interleaved
from _servers import LOAD_CPU, Server, kubecore, token

PODS, STREAMS = 10_000, 3
PATH = "/api/v1/namespaces/default/pods"
QUERY = f"{PATH}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
END = b"k8s.io/initial-events-end"


class Streamed:
    """One server with its pods."""

    def __init__(self, server: Server) -> None:
        self.server, self.token = server, token(server, pods=["watch"])

    def run(self) -> Load:
        cpu, began = self.server.cpu_seconds(), time.monotonic()
        for _ in range(STREAMS):
            self._stream()
        return Load(STREAMS, time.monotonic() - began, self.server.cpu_seconds() - cpu)

    def _stream(self) -> None:
        connection, added, tail = Connection(self.server.url), 0, b""
        connection.send(request("GET", QUERY, token=self.token))
        while True:
            # What a read cuts in two is found with the next one.
            data = tail + connection.receive()
            added += data.count(b'"type":"ADDED"')
            if END in data:
                break
            tail = data[-len(END) :]
            added -= tail.count(b'"type":"ADDED"')
        connection.close()
        if added < PODS:
            raise RuntimeError(f"{added} of {PODS} pods came")


def main() -> None:
    os.sched_setaffinity(0, {int(LOAD_CPU)})
    with kubecore() as ours:
        fill_pods(ours, PODS)
        objects = [(f"/registry/pods/default/{name}", value) for name, value in stored_items(ours, PATH)]
        with kube_apiserver(objects) as peer:
            a, b = interleaved(Streamed(ours).run, Streamed(peer).run)
            compared(f"watch-init ({PODS} pods)", a, b, NAME)


if __name__ == "__main__":
    main()
