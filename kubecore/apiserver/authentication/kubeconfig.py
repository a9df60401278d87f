"""Writes kubeconfig files: server, CA and a client certificate, embedded."""

from __future__ import annotations

import base64

import orjson

from kubecore.apiserver.authentication.pki import KeyPair


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


def _encode(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
