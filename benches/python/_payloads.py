"""What is stored and read in the benches: objects of a given size, and ways to store many of them quickly."""

from __future__ import annotations

import base64
import json
import urllib.request

from _load import JSON_HEADERS, h2load
from _servers import Server

_TXN_PUTS = 100


def pod(*, size: int = 3700, labels: dict[str, str] | None = None, **metadata: object) -> dict[str, object]:
    """A pod whose stored form is about `size` bytes: half of it is what every pod has and gets, managedFields too."""
    env = [{"name": f"VARIABLE_{i:02}", "value": "x" * 40} for i in range(max(0, (size - 1850) // 139))]
    container = {"name": "main", "image": "registry.example/app:1", "command": ["sleep", "1"], "env": env}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": "default", "labels": labels or {"app": "bench", "tier": "back"}, **metadata},
        "spec": {"containers": [container], "schedulerName": "none", "automountServiceAccountToken": False},
    }


def config_map(value: str, **metadata: object) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"value": value}}


def encoded(obj: object, size: int, marker: str = "") -> bytes:
    """A config map's JSON, its value made so long that the request's body has `size` bytes."""
    assert isinstance(obj, dict)
    obj["data"] = {"value": marker}
    missing = size - len(json.dumps(obj).encode())
    obj["data"] = {"value": marker + "x" * missing}
    return json.dumps(obj).encode()


def fill_pods(server: Server, count: int, **kind: object) -> None:
    """Stores `count` pods whose names the server makes."""
    body = json.dumps(pod(generateName="bench-", **kind)).encode()  # type: ignore[arg-type]
    url = f"http://127.0.0.1:{server.port}/api/v1/namespaces/default/pods"
    h2load(server, url, requests=count, clients=64, body=body, headers=JSON_HEADERS, http1=True)


def stored_items(server: Server, path: str) -> list[tuple[str, bytes]]:
    """Name and JSON of each object of a list, as etcd would hold them."""
    listing = json.loads(server.call("GET", path))
    head = {"apiVersion": listing["apiVersion"], "kind": listing["kind"].removesuffix("List")}
    items = [{**head, **item} for item in listing["items"]]
    return [(item["metadata"]["name"], json.dumps(item, separators=(",", ":")).encode()) for item in items]


def fill_etcd(server: Server, pairs: list[tuple[str, bytes]]) -> None:
    """Stores key and value of each pair, a hundred in a transaction."""

    def text(raw: bytes) -> str:
        return base64.b64encode(raw).decode()

    for start in range(0, len(pairs), _TXN_PUTS):
        puts = [
            {"requestPut": {"key": text(key.encode()), "value": text(value)}}
            for key, value in pairs[start : start + _TXN_PUTS]
        ]
        body = json.dumps({"success": puts}).encode()
        with urllib.request.urlopen(f"{server.url}/v3/kv/txn", data=body, timeout=60) as answer:
            answer.read()
