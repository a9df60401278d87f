"""The extenders of a KubeSchedulerConfiguration: their fields, and what is wrong with them.

(kubernetes `pkg/scheduler/apis/config`: types.go, validation/validation.go; buildExtenders of `pkg/scheduler`.)
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kubecore.api.configuration_file import Duration
from kubecore.api.durations import seconds
from kubecore.api.errors import Cause, FieldError
from kubecore.scheduler.extender import ExtenderConfig
from kubecore.scheduler.plugin_arguments import label_name

JSON = dict[str, Any]

FIELDS: Mapping[str, Any] = {
    "urlPrefix": str,
    "filterVerb": str,
    "preemptVerb": str,
    "prioritizeVerb": str,
    "weight": int,
    "bindVerb": str,
    "enableHTTPS": bool,
    "tlsConfig": {
        "insecure": bool,
        "serverName": str,
        "certFile": str,
        "keyFile": str,
        "caFile": str,
        "certData": str,
        "keyData": str,
        "caData": str,
    },
    "httpTimeout": Duration,
    "nodeCacheCapable": bool,
    "managedResources": [{"name": str, "ignoredByScheduler": bool}],
    "ignorable": bool,
}

_DEFAULT_TIMEOUT_SECONDS = 5.0


def problems(extenders: Sequence[JSON]) -> list[Cause]:
    found: list[Cause] = []
    seen: set[str] = set()
    for index, one in enumerate(extenders):
        path, weight = f"extenders[{index}]", one.get("weight") or 0
        if one.get("prioritizeVerb") and weight <= 0:
            found.append(FieldError.invalid(f"{path}.weight", weight, "must have a positive weight applied to it"))
        for place, resource in enumerate(one.get("managedResources") or ()):
            name, where = resource.get("name") or "", f"{path}.managedResources[{place}].name"
            found += label_name(name, where) or _extended(name, where)
            if name in seen:
                found.append(FieldError.invalid(where, name, "duplicate extender managed resource name"))
            seen.add(name)
    binders = sum(bool(one.get("bindVerb")) for one in extenders)
    if binders > 1:
        told = f"found {binders} extenders implementing bind"
        found.append(FieldError.invalid("extenders", told, "only one extender can implement bind"))
    return found


def _extended(name: str, path: str) -> list[Cause]:
    if "/" not in name or "kubernetes.io/" in name or name.startswith("requests."):
        return [FieldError.invalid(path, name, "is an invalid extended resource name")]
    return []


def ignored_resources(extenders: Sequence[JSON]) -> list[str]:
    """Those that NodeResourcesFit is not to look at."""
    managed = (one for extender in extenders for one in extender.get("managedResources") or ())
    return [one.get("name") or "" for one in managed if one.get("ignoredByScheduler")]


def made(given: JSON) -> ExtenderConfig:
    """Raises ValueError where the URL is none, and where files cannot be read or say nothing of use."""
    tls, url = given.get("tlsConfig") or {}, given.get("urlPrefix") or ""
    urlsplit(url)
    insecure = bool(tls.get("insecure"))
    if insecure and (tls.get("caData") or tls.get("caFile")):
        raise ValueError("specifying a root certificates file with the insecure flag is not allowed")
    authority = _pem(tls, "ca")
    certificate, key = _pem(tls, "cert"), _pem(tls, "key")
    if bool(certificate) != bool(key):
        raise ValueError("a certificate and its key are needed, or none of them")
    return ExtenderConfig(
        url=url,
        filter_verb=given.get("filterVerb") or "",
        prioritize_verb=given.get("prioritizeVerb") or "",
        preempt_verb=given.get("preemptVerb") or "",
        bind_verb=given.get("bindVerb") or "",
        weight=given.get("weight") or 0,
        timeout=seconds(given.get("httpTimeout") or "0s") or _DEFAULT_TIMEOUT_SECONDS,
        node_cache_capable=bool(given.get("nodeCacheCapable")),
        managed_resources=frozenset(one.get("name") or "" for one in given.get("managedResources") or ()),
        ignorable=bool(given.get("ignorable")),
        certificate_authority=authority,
        client_certificate=certificate,
        client_key=key,
        server_name=tls.get("serverName") or "",
        # nobody to vouch for it is taken for an answer, as kube-scheduler does
        insecure=insecure or (bool(given.get("enableHTTPS")) and not authority),
    )


def _pem(tls: JSON, name: str) -> bytes:
    if data := tls.get(f"{name}Data"):
        try:
            return base64.b64decode(data, validate=True)
        except binascii.Error as error:
            raise ValueError(f"{name}Data: {error}") from None
    path = tls.get(f"{name}File")
    try:
        return Path(path).read_bytes() if path else b""
    except OSError as error:
        raise ValueError(f"open {path}: {(error.strerror or '').lower()}") from None
