"""Whole clusters of simulated nodes, and how long until all of something is so: asked over plain HTTP, which costs the
server little (a list with a limit of one).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from _servers import Server, kubecore

Object = dict[str, Any]

LONGEST_SECONDS = 600
_LOOK_SECONDS = 0.05


@contextmanager
def simulated(nodes: int) -> Iterator[Server]:
    """`kubecore up` with simulated nodes alone, on no core of its own: everything of a cluster is in it."""
    with kubecore("up", "--nodes", "0", "--simulated-nodes", str(nodes), cpu=None) as server:
        yield server


def until(holds: Callable[[], bool]) -> float:
    """Seconds that pass until it does."""
    started = time.monotonic()
    while not holds():
        if time.monotonic() - started > LONGEST_SECONDS:
            raise RuntimeError(f"not so after {LONGEST_SECONDS} s")
        time.sleep(_LOOK_SECONDS)
    return time.monotonic() - started


def count(server: Server, path: str) -> int:
    """How many objects a collection has."""
    page = json.loads(server.call("GET", f"{path}?limit=1"))
    return len(page["items"]) + int(page["metadata"].get("remainingItemCount") or 0)


def any_match(server: Server, path: str, field_selector: str) -> bool:
    page = json.loads(server.call("GET", f"{path}?limit=1&fieldSelector={quote(field_selector)}"))
    return bool(page["items"])


def all_running(server: Server, path: str, pods: int) -> bool:
    """There are that many pods, and all of them run."""
    return count(server, path) == pods and not any_match(server, path, "status.phase!=Running")


def deployment(name: str, replicas: int) -> Object:
    labels = {"app": name}
    resources = {"requests": {"cpu": "10m", "memory": "16Mi"}}
    spec = {"containers": [{"name": "main", "image": "nginx", "resources": resources}]}
    return {
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }
