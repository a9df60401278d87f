"""Policies in a file, one JSON object a line, for the mode ABAC. Rust holds requests to them.

After upstream pkg/auth/authorizer/abac and pkg/apis/abac (conversion of versions).
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import orjson

from kubecore.api import configuration_file

JSON = dict[str, Any]

log = logging.getLogger("kubecore.apiserver.authorization")

_GROUP = "abac.authorization.kubernetes.io"
_TEXTS = ("user", "group", "apiGroup", "resource", "namespace", "nonResourcePath")
_EVERYBODY = "system:authenticated"
_UNKNOWN = "couldn't get version/kind; json parse error"
_HEAD = 'struct { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }'


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
            document = _read(text)
            version = document.get("apiVersion") or ""
            unversioned |= not version
            policies.append(_current(document) if version else _old(document))
        except ValueError as error:
            shown = line.decode("utf-8", "replace")
            raise PolicyFileError(f"error reading policy file {path}, line {number}: {shown}: {error}") from None
    if unversioned:
        log.warning("Policy file %s contained unversioned rules", path)
    return policies


def _read(line: bytes) -> JSON:
    """Of JSON, or what YAML can have in a line. Raises ValueError."""
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        if line.startswith(b"{"):
            why = "unexpected end of JSON input" if str(error).startswith("unexpected end of data") else str(error)
            raise ValueError(f"{_UNKNOWN}: {why}") from None
        found = configuration_file.parsed(line)
    if isinstance(found, dict):
        return found
    raise ValueError(f"{_UNKNOWN}: json: cannot unmarshal {_go_kind(found)} into Go value of type {_HEAD}")


def _go_kind(value: Any) -> str:
    kinds = ((bool, "bool"), (str, "string"), (list, "array"), (dict, "object"))
    return next((name for kind, name in kinds if isinstance(value, kind)), "number")


def _current(document: JSON) -> JSON:
    if document["apiVersion"] != f"{_GROUP}/v1beta1" or document.get("kind") != "Policy":
        kind, version = document.get("kind") or "Policy", document["apiVersion"]
        raise ValueError(
            f'no kind "{kind}" is registered for version "{version}" in scheme "pkg/runtime/scheme.go:111"'
        )
    spec = _checked(document.get("spec") or {}, "PolicySpec.spec")
    if "*" in (spec.get("user"), spec.get("group")):
        spec.update(user="", group=_EVERYBODY)
    return spec


def _old(document: JSON) -> JSON:
    """Without a version: what is left out means everything there is."""
    spec = {
        key: value
        for key, value in _checked(document, "Policy").items()
        if key in (*_TEXTS[:2], *_TEXTS[3:5], "readonly")
    }
    user, group = spec.get("user") or "", spec.get("group") or ""
    if (not user and not group) or "*" in (user, group):
        spec.update(user="" if "*" in (user, group) else user, group=_EVERYBODY)
    if not spec.get("namespace") and not spec.get("resource"):
        spec["nonResourcePath"] = "*"
    spec.update(namespace=spec.get("namespace") or "*", resource=spec.get("resource") or "*", apiGroup="*")
    return spec


def _checked(spec: Any, struct: str) -> JSON:
    """Raises ValueError for fields of other types; `struct` is what Go calls what they are of."""

    def wrong(field: str, value: Any, wanted: str) -> ValueError:
        return ValueError(f"json: cannot unmarshal {_go_kind(value)} into Go struct field {field} of type {wanted}")

    if not isinstance(spec, dict):
        raise wrong("Policy.spec", spec, "v1beta1.PolicySpec")
    made: JSON = {}
    for name in _TEXTS:
        value = spec.get(name)
        if not isinstance(value, str | None):
            raise wrong(f"{struct}.{name}", value, "string")
        if value:
            made[name] = value
    readonly = spec.get("readonly")
    if not isinstance(readonly, bool | None):
        raise wrong(f"{struct}.readonly", readonly, "bool")
    made["readonly"] = bool(readonly)
    return made
