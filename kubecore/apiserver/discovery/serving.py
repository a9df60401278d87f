"""Answers requests for discovery documents. Documents are built on the first request and kept as bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from kubecore.api import protobuf
from kubecore.api.scheme import APIGroup, Scheme, every
from kubecore.apiserver.discovery import aggregated, legacy
from kubecore.apiserver.discovery.accepting import MediaRange, media_ranges, passes_the_router
from kubecore.apiserver.discovery.foreign import ForeignVersion, in_order, without

JSON_TYPE, YAML_TYPE = "application/json", "application/yaml"
MADE = (JSON_TYPE, YAML_TYPE, protobuf.MEDIA)
_AGGREGATED_VERSION = "v2"


class Answer(NamedTuple):
    """A response, in the order in which the handlers take one: status, body, Content-Type, further headers."""

    status: int
    body: bytes
    content_type: str
    headers: tuple[tuple[str, str], ...] = ()


class _Form(NamedTuple):
    """A media type, and the apidiscovery version or "" for the legacy documents (which are there in YAML, too)."""

    media: str
    version: str


_PLAIN = _Form(JSON_TYPE, "")


class _Document(NamedTuple):
    body: bytes
    content_type: str
    etag: str


class Discovery:
    """The documents of one scheme. `replace` takes another scheme when resources come or go."""

    def __init__(self, scheme: Scheme, *, server_address: str = "") -> None:
        self._scheme = scheme
        self._foreign: Sequence[ForeignVersion] = ()
        self._server_address = server_address
        self._documents: dict[tuple[str, _Form], _Document] = {}

    def address(self, server_address: str) -> None:
        """Where the server listens, as `/api` tells it."""
        self._server_address = server_address
        self._documents = {}

    def paths(self) -> list[str]:
        """Where there are documents."""
        groups = [group for group in self._groups() if group.name]
        below = [f"/apis/{group.name}" for group in groups]
        versions = [f"/apis/{group.name}/{version}" for group in groups for version in group.versions]
        return ["/api", "/api/v1", "/apis", "/apis/", *below, *versions]

    def replace(self, scheme: Scheme, foreign: Sequence[ForeignVersion] = ()) -> None:
        """Serve this scheme from now on, and tell of versions that others serve."""
        self._scheme, self._foreign = without(scheme, foreign), foreign
        self._documents = {}

    def _groups(self, *, aggregated: bool = False) -> list[APIGroup]:
        return in_order(self._scheme, self._foreign, aggregated=aggregated)

    def respond(self, path: str, accept: str = "", if_none_match: str = "") -> Answer | None:
        """The answer for a GET of `/api`, `/apis` or a path below them; None if the path is no document of these.

        An Accept that cannot be met gives 406 with an empty body: the caller words the Status.
        """
        path = path.rstrip("/")
        form = self._form(path, accept)
        if form is None:
            return Answer(406, b"", JSON_TYPE) if self._document(path, _PLAIN) else None
        document = self._document(path, form)
        if document is None:
            return None
        if not form.version:
            # Upstream tells only of the one document of all groups when it changes.
            return Answer(200, document.body, document.content_type)
        headers = (("ETag", document.etag), ("Vary", "Accept"), ("Cache-Control", "public"))
        # Neither a list of tags nor "*" is taken apart.
        if if_none_match == document.etag:
            return Answer(304, b"", "", headers)
        return Answer(200, document.body, document.content_type, headers)

    def _form(self, path: str, accept: str) -> _Form | None:
        """The form wanted, None for what is not served."""
        if is_refused_by_the_router(path, accept):
            return None
        for wanted in media_ranges(accept):
            media = next((made for made in MADE if wanted.covers(made)), None)
            if media is None or not _can_have(wanted, media):
                continue
            if not wanted.parameters.keys() & {"as", "g", "v"}:
                return _Form(media, "")
            kind = (wanted.parameters.get("g"), wanted.parameters.get("as"))
            version = wanted.parameters.get("v", "")
            is_aggregated = kind == ("apidiscovery.k8s.io", "APIGroupDiscoveryList")
            if path in ("/api", "/apis") and is_aggregated and version == _AGGREGATED_VERSION:
                return _Form(media, version)
        return None

    def _document(self, path: str, form: _Form) -> _Document | None:
        key = (path, form)
        if key not in self._documents:
            version = form.version
            content = self._aggregated(path) if version else self._legacy(path)
            if content is None:
                # Unknown paths are not kept: there is no end of them.
                return None
            body = orjson.dumps(content)
            # The same for all media types, as it is of the content.
            etag = f'"{hashlib.sha512(body).hexdigest().upper()}"'
            if form.media == protobuf.MEDIA:
                # In JSON, the lists of the core group do not say their own version.
                body = protobuf.encode(orjson.dumps({"apiVersion": "v1", **content}))
            elif form.media == YAML_TYPE:
                body = _yaml(content)
            suffix = f";g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList" if version else ""
            self._documents[key] = _Document(body, form.media + suffix, etag)
        return self._documents[key]

    def _aggregated(self, path: str) -> dict[str, Any]:
        wants_core = path == "/api"
        groups = [group for group in self._groups(aggregated=True) if (group.name == "") == wants_core]
        return aggregated.group_discovery_list(self._scheme, groups, self._foreign)

    def _legacy(self, path: str) -> dict[str, Any] | None:
        match path.split("/")[1:]:
            case ["api"]:
                return legacy.api_versions(self._server_address)
            case ["apis"]:
                return legacy.group_list(self._groups())
            case ["api", version] if self._serves("", version):
                return legacy.resource_list(self._scheme, "", version)
            case ["apis", name] if name and (found := self._group(name)):
                return legacy.group(found)
            case ["apis", name, version] if name and self._serves(name, version):
                return legacy.resource_list(self._scheme, name, version)
        return None

    def _group(self, name: str) -> APIGroup | None:
        return next((one for one in self._groups() if one.name == name), None)

    def _serves(self, name: str, version: str) -> bool:
        group = self._scheme.group(name)
        return group is not None and version in group.versions


def _can_have(wanted: MediaRange, media: str) -> bool:
    """What upstream's negotiation has each type say of itself: documents could be streamed, too, but not in YAML."""
    stream = wanted.parameters.get("stream", "")
    streams = not stream or (stream == "watch" and media != YAML_TYPE)
    return streams and not wanted.parameters.get("sv")


def is_refused_by_the_router(path: str, accept: str) -> bool:
    """Lists of a built-in version's resources are routed as the resources are."""
    if passes_the_router(accept, MADE) or not is_version_list(path):
        return False
    parts = path.rstrip("/").split("/")[1:]
    return parts[0] == "api" or any(group.name == parts[1] for group in every().groups())


def is_version_list(path: str) -> bool:
    """Whether a document is one that a version's own service answers, which takes GET alone and no ranges of types."""
    parts = path.rstrip("/").split("/")[1:]
    return parts[0] == "api" or len(parts) >= 3


def _yaml(content: dict[str, Any]) -> bytes:
    import yaml

    return yaml.safe_dump(content).encode()
