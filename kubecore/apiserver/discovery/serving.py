"""Answers requests for discovery documents. Documents are built on the first request and kept as bytes."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import orjson

from kubecore.api.scheme import Scheme
from kubecore.apiserver.discovery import aggregated, legacy
from kubecore.apiserver.discovery.accepting import media_ranges

JSON_TYPE = "application/json"
_AGGREGATED_VERSIONS = ("v2", "v2beta1")


class Answer(NamedTuple):
    """A response, in the order in which the handlers take one: status, body, Content-Type, further headers."""

    status: int
    body: bytes
    content_type: str
    headers: tuple[tuple[str, str], ...] = ()


class _Document(NamedTuple):
    body: bytes
    content_type: str
    etag: str


class Discovery:
    """The documents of one scheme. `replace` takes another scheme when resources come or go."""

    def __init__(self, scheme: Scheme, *, server_address: str = "") -> None:
        self._scheme = scheme
        self._server_address = server_address
        self._documents: dict[tuple[str, str], _Document | None] = {}

    def replace(self, scheme: Scheme) -> None:
        """Serve this scheme from now on."""
        self._scheme = scheme
        self._documents = {}

    def respond(self, path: str, accept: str = "", if_none_match: str = "") -> Answer | None:
        """The answer for a GET of `/api`, `/apis` or a path below them; None if the path is no document of these.

        An Accept that cannot be met gives 406 with an empty body: the caller words the Status.
        """
        path = path.rstrip("/")
        form = self._form(path, accept)
        if form is None:
            return Answer(406, b"", JSON_TYPE) if self._document(path, "") else None
        document = self._document(path, form)
        if document is None:
            return None
        headers = (("ETag", document.etag), ("Vary", "Accept"), ("Cache-Control", "no-cache, private"))
        if if_none_match and document.etag in if_none_match:
            return Answer(304, b"", document.content_type, headers)
        return Answer(200, document.body, document.content_type, headers)

    def _form(self, path: str, accept: str) -> str | None:
        """The apidiscovery version wanted, "" for the legacy form, None for what is not served."""
        for media in media_ranges(accept):
            if not media.covers(JSON_TYPE):
                continue
            if "as" not in media.parameters:
                return ""
            wanted = (media.parameters.get("g"), media.parameters["as"])
            version = media.parameters.get("v", "")
            is_aggregated = wanted == ("apidiscovery.k8s.io", "APIGroupDiscoveryList")
            if path in ("/api", "/apis") and is_aggregated and version in _AGGREGATED_VERSIONS:
                return version
        return None

    def _document(self, path: str, form: str) -> _Document | None:
        key = (path, form)
        if key not in self._documents:
            content = self._aggregated(path, form) if form else self._legacy(path)
            if content is None:
                # Unknown paths are not kept: there is no end of them.
                return None
            body = orjson.dumps(content)
            suffix = f";g=apidiscovery.k8s.io;v={form};as=APIGroupDiscoveryList" if form else ""
            etag = f'"{hashlib.sha512(body).hexdigest().upper()}"'
            self._documents[key] = _Document(body, JSON_TYPE + suffix, etag)
        return self._documents[key]

    def _aggregated(self, path: str, form: str) -> dict[str, Any]:
        wants_core = path == "/api"
        groups = [group for group in self._scheme.groups() if (group.name == "") == wants_core]
        return aggregated.group_discovery_list(self._scheme, groups, form)

    def _legacy(self, path: str) -> dict[str, Any] | None:
        match path.split("/")[1:]:
            case ["api"]:
                return legacy.api_versions(self._server_address)
            case ["apis"]:
                return legacy.group_list(self._scheme)
            case ["api", version] if self._serves("", version):
                return legacy.resource_list(self._scheme, "", version)
            case ["apis", name] if name and (found := self._scheme.group(name)):
                return legacy.group(found)
            case ["apis", name, version] if name and self._serves(name, version):
                return legacy.resource_list(self._scheme, name, version)
        return None

    def _serves(self, name: str, version: str) -> bool:
        group = self._scheme.group(name)
        return group is not None and version in group.versions
