"""Writes kubeconfig files: server, CA and a client certificate, embedded."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import orjson

from kubecore.api.configuration_file import parsed
from kubecore.apiserver.authentication.pki import KeyPair, write_private


def kubeconfig(server: str, ca: bytes, pair: KeyPair, *, user: str, cluster: str = "kubecore") -> bytes:
    """A kubeconfig as JSON, which is YAML too, so that no YAML library need be loaded."""
    context = f"{user}@{cluster}"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster, "cluster": {"server": server, "certificate-authority-data": _encode(ca)}}],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate-data": _encode(pair.certificate),
                    "client-key-data": _encode(pair.key),
                },
            }
        ],
        "contexts": [{"name": context, "context": {"cluster": cluster, "user": user}}],
        "current-context": context,
        "preferences": {},
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n"


def keep(file: Path, fresh: bytes) -> None:
    """Writes the cluster, user and context of a kubeconfig into a file, which may have others."""
    write_private(file, renewed(file.read_bytes(), fresh) if file.exists() else fresh)


def renewed(held: bytes, fresh: bytes) -> bytes:
    """A file that its owner may have changed, with the cluster, user and context of a new one: what else it holds
    stays, the context's namespace and the choice of another context included. What is no kubeconfig is replaced."""
    try:
        document = _parsed(held)
        new = orjson.loads(fresh)
        for kind in ("clusters", "users", "contexts"):
            entries = {one["name"]: one for one in document.get(kind) or []}
            for entry in new[kind]:
                if kind == "contexts" and "namespace" in entries.get(entry["name"], {}).get("context", {}):
                    entry["context"]["namespace"] = entries[entry["name"]]["context"]["namespace"]
                entries[entry["name"]] = entry
            document[kind] = list(entries.values())
        if document.get("current-context") not in {one["name"] for one in document["contexts"]}:
            document["current-context"] = new["current-context"]
        return orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n"
    except (ValueError, TypeError, KeyError, AttributeError):
        return fresh


def _parsed(held: bytes) -> dict[str, Any]:
    """Raises ValueError."""
    try:
        document = orjson.loads(held)
    except orjson.JSONDecodeError:
        document = parsed(held)  # Only what kubectl has written is YAML.
    if not isinstance(document, dict) or document.get("kind") != "Config":
        raise ValueError("no kubeconfig")
    return document


def _encode(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
