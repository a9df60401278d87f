"""Secrets: stringData is merged into data, and typed ones must hold what their type promises."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any

from kubecore.api.errors import Cause
from kubecore.api.schemas import json_object_fault
from kubecore.apiserver.registry.resources.configmaps import MAX_SIZE, decoded_size, validate_immutable
from kubecore.apiserver.registry.strategy import RequestContext, Strategy
from kubecore.apiserver.registry.validation import advice, names
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

_ACCOUNT = "kubernetes.io/service-account.name"


class SecretStrategy(Strategy):
    resource_key = "secrets"
    tracks_generation = False

    def default(self, obj: JSON) -> None:
        obj["type"] = obj.get("type") or "Opaque"
        strings = obj.pop("stringData", None)
        if strings:
            data = obj.get("data")
            if data is None:
                data = obj["data"] = {}
            for key, value in strings.items():
                data[key] = base64.b64encode(value.encode()).decode()

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems, size = Problems(), 0
        data: JSON = obj.get("data") or {}
        for key, value in data.items():
            problems.check(f"data[{key}]", key, names.config_key)
            size += decoded_size(value or "")
        if size > MAX_SIZE:
            problems.too_long("data", MAX_SIZE)
        check = _TYPES.get(obj.get("type", ""))
        if check is not None:
            check(problems, obj, data)
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = validate_immutable(obj, old, ("data",))
        problems.immutable("type", obj.get("type"), old.get("type"))
        return problems

    def warnings(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> list[str]:
        if obj.get("type") != "kubernetes.io/tls":
            return []
        data = obj.get("data") or {}
        return advice.of_key_pair(_text(data.get("tls.crt")), _text(data.get("tls.key")))


def _text(value: str | None) -> bytes:
    try:
        return base64.b64decode(value or "", validate=True)
    except (binascii.Error, ValueError):
        return b""


def _account_token(problems: Problems, obj: JSON, data: JSON) -> None:
    if not (obj["metadata"].get("annotations") or {}).get(_ACCOUNT):
        problems.required(f"metadata.annotations[{_ACCOUNT}]")


def _docker_config(key: str) -> Callable[[Problems, JSON, JSON], None]:
    def check(problems: Problems, obj: JSON, data: JSON) -> None:
        path = f"data[{key}]"
        if key not in data:
            problems.required(path)
            return
        fault = json_object_fault(_text(data[key]))
        if fault is not None:
            problems.invalid(path, "<secret contents redacted>", fault)

    return check


def _basic_auth(problems: Problems, obj: JSON, data: JSON) -> None:
    if "username" not in data and "password" not in data:
        problems.required("data[username]")
        problems.required("data[password]")


def _ssh_auth(problems: Problems, obj: JSON, data: JSON) -> None:
    if not data.get("ssh-privatekey"):
        problems.required("data[ssh-privatekey]")


def _tls(problems: Problems, obj: JSON, data: JSON) -> None:
    for key in ("tls.crt", "tls.key"):
        if key not in data:
            problems.required(f"data[{key}]")


_TYPES: dict[str, Callable[[Problems, JSON, JSON], None]] = {
    "kubernetes.io/service-account-token": _account_token,
    "kubernetes.io/dockercfg": _docker_config(".dockercfg"),
    "kubernetes.io/dockerconfigjson": _docker_config(".dockerconfigjson"),
    "kubernetes.io/basic-auth": _basic_auth,
    "kubernetes.io/ssh-auth": _ssh_auth,
    "kubernetes.io/tls": _tls,
}
