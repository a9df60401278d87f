"""PodCertificateRequests, and keys for them."""

from __future__ import annotations

import base64
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding

JSON = dict[str, Any]
UID = "a-uid"


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def public(key: Any) -> str:
    return encoded(
        key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def signed(key: Any, text: str = UID) -> str:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return encoded(key.sign(text.encode()))
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return encoded(key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
    salted = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.MAX_LENGTH)
    return encoded(key.sign(text.encode(), salted, hashes.SHA256()))


OWN = ed25519.Ed25519PrivateKey.generate()


def request(key: Any = OWN, **spec: Any) -> JSON:
    whole = {
        "signerName": "example.com/signer",
        **{"podName": "p", "podUID": UID, "serviceAccountName": "s", "serviceAccountUID": "u"},
        **{"nodeName": "n", "nodeUID": "u", "pkixPublicKey": public(key), "proofOfPossession": signed(key)},
    }
    return {"metadata": {"name": "a", "namespace": "default"}, "spec": {**whole, **spec}}


def condition(kind: str, status: str = "True") -> JSON:
    return {"type": kind, "status": status, "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}
