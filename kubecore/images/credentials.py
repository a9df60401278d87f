"""Who to be towards a registry, from Secrets of type dockerconfigjson and dockercfg."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from kubecore.images.references import Reference

Object = dict[str, Any]

_OF_DOCKER_HUB = ("docker.io", "index.docker.io", "https://index.docker.io/v1/")


class Origin(NamedTuple):
    """A Secret."""

    uid: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Credentials:
    """Either a name and a password, or a token that stands for them. `origin`: where they are from, if known."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    origin: Origin | None = field(default=None, compare=False)

    @property
    def fingerprint(self) -> str:
        """By which the same ones are known elsewhere."""
        told = json.dumps([self.username, self.password, self.identity_token])
        return hashlib.sha256(told.encode()).hexdigest()


def from_secrets(secrets: Iterable[Object]) -> dict[str, list[Credentials]]:
    """By registry as the Secrets name it, with a path perhaps. What cannot be read is left out."""
    found: dict[str, list[Credentials]] = {}
    for secret in secrets:
        data = secret.get("data") or {}
        metadata = secret.get("metadata") or {}
        origin = Origin(*(metadata.get(name, "") for name in ("uid", "namespace", "name")))
        for key, inside in ((".dockerconfigjson", "auths"), (".dockercfg", "")):
            if data.get(key):
                for name, one in _entries(data[key], inside).items():
                    found.setdefault(name, []).append(replace(one, origin=origin))
    return found


def _entries(encoded: str, inside: str) -> dict[str, Credentials]:
    try:
        told = json.loads(base64.b64decode(encoded))
        entries: Mapping[str, Object] = told.get(inside) or {} if inside else told
        return {name: _entry(one) for name, one in entries.items()}
    except (ValueError, AttributeError, binascii.Error):
        return {}


def _entry(told: Object) -> Credentials:
    username, password = told.get("username", ""), told.get("password", "")
    if told.get("auth"):
        username, _, password = base64.b64decode(told["auth"]).decode().partition(":")
    return Credentials(username, password, told.get("identitytoken", ""))


def for_image(known: Mapping[str, Iterable[Credentials]], reference: Reference) -> list[Credentials]:
    """To be tried in turn, those of the longest name first; a part of a host may be `*`."""
    matching = [name for name in known if _matches(name, reference)]
    return [one for name in sorted(matching, key=len, reverse=True) for one in known[name]]


def _matches(name: str, reference: Reference) -> bool:
    if name in _OF_DOCKER_HUB:
        return reference.host == "docker.io"
    plain = name.removeprefix("https://").removeprefix("http://")
    host, _, path = plain.partition("/")
    path = path.strip("/").removeprefix("v1").removeprefix("v2").strip("/")
    wanted, given = reference.host.split("."), host.split(".")
    if len(wanted) != len(given) or not all(map(fnmatchcase, wanted, given)):
        return False
    return not path or reference.path == path or reference.path.startswith(path + "/")
