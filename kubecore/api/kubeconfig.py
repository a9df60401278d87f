"""Reads and writes kubeconfig files (clientcmd.k8s.io, v1): the current context's server and credentials."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubecore.api.configuration_file import InvalidConfiguration, parsed


class KubeconfigError(ValueError):
    """The file is no usable kubeconfig; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubeconfig:
    """Where a cluster is and who one is there. Certificates and keys are PEM; empty means none."""

    server: str
    certificate_authority: bytes = b""
    client_certificate: bytes = b""
    client_key: bytes = b""
    token: str = ""
    token_file: Path | None = None
    """Where the token was read, and is renewed."""
    username: str = ""
    password: str = ""
    other_credentials: str = ""
    """How else one would show who one is there, which nobody here can: `exec` or `auth-provider`."""
    insecure_skip_tls_verify: bool = False
    tls_server_name: str = ""
    namespace: str = "default"
    cluster: str = "kubecore"
    user: str = "admin"
    context: str = ""

    @classmethod
    def load(cls, path: Path, *, context: str = "") -> Kubeconfig:
        """The named context of a file, or its current one. Raises KubeconfigError, OSError."""
        try:
            document = parsed(path.read_text())
        except InvalidConfiguration as error:
            raise KubeconfigError(f"{path}: {error}") from error
        if not isinstance(document, dict):
            raise KubeconfigError(f"{path}: not a kubeconfig")
        context = context or document.get("current-context") or ""
        chosen = _named(document, "contexts", "context", context, path)
        cluster_name, user_name = chosen.get("cluster", ""), chosen.get("user", "")
        cluster = _named(document, "clusters", "cluster", cluster_name, path)
        user = _named(document, "users", "user", user_name, path) if user_name else {}
        if not cluster.get("server"):
            raise KubeconfigError(f"{path}: cluster {cluster_name!r} has no server")
        token, token_file = user.get("token") or "", None
        if not token and user.get("tokenFile"):
            token_file = path.parent / user["tokenFile"]
            token = token_file.read_text().strip()
        return cls(
            server=cluster["server"].rstrip("/"),
            certificate_authority=pem_of(cluster, "certificate-authority", path),
            client_certificate=pem_of(user, "client-certificate", path),
            client_key=pem_of(user, "client-key", path),
            token=token,
            token_file=token_file,
            username=user.get("username") or "",
            password=user.get("password") or "",
            other_credentials=next((one for one in ("exec", "auth-provider") if user.get(one)), ""),
            insecure_skip_tls_verify=bool(cluster.get("insecure-skip-tls-verify")),
            tls_server_name=cluster.get("tls-server-name") or "",
            namespace=chosen.get("namespace") or "default",
            cluster=cluster_name,
            user=user_name,
            context=context,
        )

    def save(self, path: Path) -> None:
        """Write a file with this one context, credentials embedded, readable by its owner only, all or nothing."""
        cluster: dict[str, Any] = {"server": self.server}
        _embed(cluster, "certificate-authority-data", self.certificate_authority)
        if self.insecure_skip_tls_verify:
            cluster["insecure-skip-tls-verify"] = True
        if self.tls_server_name:
            cluster["tls-server-name"] = self.tls_server_name
        user: dict[str, Any] = {}
        _embed(user, "client-certificate-data", self.client_certificate)
        _embed(user, "client-key-data", self.client_key)
        if self.token:
            user["token"] = self.token
        context = self.context or self.cluster
        chosen = {"cluster": self.cluster, "user": self.user}
        if self.namespace != "default":
            chosen["namespace"] = self.namespace
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": self.cluster, "cluster": cluster}],
            "users": [{"name": self.user, "user": user}],
            "contexts": [{"name": context, "context": chosen}],
            "current-context": context,
            "preferences": {},
        }
        import yaml  # here: most starts read no such file, and it takes them some 20 ms

        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            yaml.safe_dump(document, file, sort_keys=False)
        temporary.replace(path)


def _named(document: dict[str, Any], plural: str, singular: str, name: str, path: Path) -> dict[str, Any]:
    for entry in document.get(plural) or ():
        if entry.get("name") == name:
            found: dict[str, Any] = entry.get(singular) or {}
            return found
    raise KubeconfigError(f"{path}: no {singular} named {name!r}")


def pem_of(section: dict[str, Any], key: str, path: Path) -> bytes:
    """What `key` or `key`-data of a section says; empty for nothing. Raises KubeconfigError, OSError."""
    data = section.get(f"{key}-data")
    if data:
        try:
            return base64.b64decode(data, validate=True)
        except ValueError as error:
            raise KubeconfigError(f"{path}: {key}-data is not base64") from error
    file = section.get(key)
    return (path.parent / file).read_bytes() if file else b""


def _embed(section: dict[str, Any], key: str, pem: bytes) -> None:
    if pem:
        section[key] = base64.b64encode(pem).decode()
