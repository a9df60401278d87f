"""Policies in a file, one JSON object a line, for the mode ABAC. Rust holds requests to them.

After upstream pkg/auth/authorizer/abac and pkg/apis/abac (conversion of versions).
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import orjson

JSON = dict[str, Any]

log = logging.getLogger("kubecore.apiserver.authorization")

_GROUP = "abac.authorization.kubernetes.io"
_TEXTS = ("user", "group", "apiGroup", "resource", "namespace", "nonResourcePath")
_EVERYBODY = "system:authenticated"


class PolicyFileError(ValueError):
    """A line of the file is no policy; the message says which and why."""


def read_policies(path: Path) -> list[JSON]:
    """The specs of all policies. Raises PolicyFileError, OSError."""
    policies = []
    unversioned = False
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        text = line.strip()
        if not text or text.startswith(b"#"):
            continue
        try:
            document = orjson.loads(text)
            if not isinstance(document, dict):
                raise ValueError("a JSON object is expected")
            version = document.get("apiVersion") or ""
            unversioned |= not version
            policies.append(_current(document) if version else _old(document))
        except ValueError as error:
            shown = line.decode("utf-8", "replace")
            raise PolicyFileError(f"error reading policy file {path}, line {number}: {shown}: {error}") from None
    if unversioned:
        log.warning("Policy file %s contained unversioned rules", path)
    return policies


def _current(document: JSON) -> JSON:
    if document["apiVersion"] != f"{_GROUP}/v1beta1" or document.get("kind") != "Policy":
        kind, version = document.get("kind") or "Policy", document["apiVersion"]
        raise ValueError(
            f'no kind "{kind}" is registered for version "{version}" in scheme "pkg/runtime/scheme.go:111"'
        )
    spec = _checked(document.get("spec") or {})
    if "*" in (spec.get("user"), spec.get("group")):
        spec.update(user="", group=_EVERYBODY)
    return spec


def _old(document: JSON) -> JSON:
    """Without a version: what is left out means everything there is."""
    spec = {key: value for key, value in _checked(document).items() if key in (*_TEXTS[:2], *_TEXTS[3:5], "readonly")}
    user, group = spec.get("user") or "", spec.get("group") or ""
    if (not user and not group) or "*" in (user, group):
        spec.update(user="" if "*" in (user, group) else user, group=_EVERYBODY)
    if not spec.get("namespace") and not spec.get("resource"):
        spec["nonResourcePath"] = "*"
    spec.update(namespace=spec.get("namespace") or "*", resource=spec.get("resource") or "*", apiGroup="*")
    return spec


def _checked(spec: Any) -> JSON:
    """Raises ValueError for fields of other types."""
    if not isinstance(spec, dict):
        raise ValueError("a spec is an object")
    made: JSON = {}
    for name in _TEXTS:
        value = spec.get(name)
        if not isinstance(value, str | None):
            raise ValueError(f"{name} is a string")
        if value:
            made[name] = value
    readonly = spec.get("readonly")
    if not isinstance(readonly, bool | None):
        raise ValueError("readonly is true or false")
    made["readonly"] = bool(readonly)
    return made
