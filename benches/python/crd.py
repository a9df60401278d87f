"""CustomResourceDefinitions by the thousand: from POST to Established, memory of each, and a start with all of them.
No peer; the figures have targets of their own.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

from _report import Target, row
from _servers import Server, kubecore, scratch

DEFINITIONS, GROUPS = 1_000, 50
PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
MEMORY = Target("< 100 KB", 100.0, "at most")
START = Target("< 2 s", 2.0, "at most")


def definition(number: int) -> dict[str, Any]:
    """About 7 KB, as a small operator brings it."""
    group = f"g{number % GROUPS}.example.com"
    fields = {f"field{index}": {"type": "string", "description": "What it is for. " * 5} for index in range(40)}
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": fields}}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": f"things{number}", "kind": f"Thing{number}"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"things{number}.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [version]},
    }


def established(server: Server) -> int:
    items = json.loads(server.call("GET", PATH))["items"]
    conditions = [one for item in items for one in (item.get("status") or {}).get("conditions") or []]
    return sum(one["type"] == "Established" and one["status"] == "True" for one in conditions)


def served(server: Server, number: int) -> None:
    """Until objects of the definition can be listed."""
    path = f"/apis/g{number % GROUPS}.example.com/v1/things{number}"
    while True:
        try:
            server.call("GET", path)
            return
        except HTTPError:
            time.sleep(0.001)


def main() -> None:
    with scratch("kubecore-crd-") as folder:
        with kubecore("up", "--nodes", "0", data_dir=Path(folder)) as server:
            server.call("POST", PATH, definition(0))
            before = server.rss_mib()
            spent, delays = server.cpu_seconds(), []
            for number in range(1, DEFINITIONS + 1):
                began = time.monotonic()
                server.call("POST", PATH, definition(number))
                if number % 100 == 0:
                    served(server, number)
                    delays.append((time.monotonic() - began) * 1000)
            while established(server) <= DEFINITIONS:
                time.sleep(0.05)
            each = (server.cpu_seconds() - spent) / DEFINITIONS * 1e6
            memory = (server.rss_mib() - before) * 1024 * 1.024 * 1024 / 1000 / DEFINITIONS
            row("crd: POST until served", f"{min(delays):.1f}-{max(delays):.1f} ms, {each:,.0f} CPU-µs each")
            told = f"{memory:.0f} KB each of {DEFINITIONS:,}"
            row("crd: memory", told, target=MEMORY.text, verdict=MEMORY.verdict(memory))
        with kubecore("up", "--nodes", "0", data_dir=Path(folder)) as server:
            ready = server.ready_seconds
            told = f"ready in {ready:.2f} s with {DEFINITIONS:,}"
            row("crd: start", told, target=START.text, verdict=START.verdict(ready))


if __name__ == "__main__":
    main()
