"""Answers requests for OpenAPI documents. They are built on the first request and kept as bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import orjson

from kubecore.api.scheme import Scheme
from kubecore.apiserver.discovery.accepting import media_ranges
from kubecore.apiserver.discovery.serving import JSON_TYPE, Answer
from kubecore.apiserver.openapi import gnostic, v2, v3
from kubecore.apiserver.openapi.definitions import Definitions, builtin, builtin_digest
from kubecore.apiserver.openapi.operations import root_path

V2_PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
# The name it had before media types were found to allow no "@".
_V2_PROTOBUF_OLD = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
# Part of every digest: to be changed whenever documents of the same facts come out differently.
_FORM = b"1"
_IMMUTABLE = (("Cache-Control", "public, immutable"), ("Expires", "Fri, 31 Dec 9999 23:59:59 GMT"))
_FRESH = (("Cache-Control", "no-cache, private"),)


class _Document(NamedTuple):
    body: bytes
    digest: str


class OpenAPI:
    """The documents of one scheme, with definitions of custom kinds beside the built-in ones.

    Documents are made from megabytes of definitions, which are let go again as soon as a document is made.
    """

    def __init__(self, scheme: Scheme, *, server_version: str) -> None:
        """`server_version` as `v1.35.0`."""
        self._server_version = server_version
        self._scheme = scheme
        self._extra: Mapping[str, dict[str, Any]] = {}
        self._facts = b""
        self._documents: dict[str, _Document] = {}

    def replace(self, scheme: Scheme, extra_definitions: Mapping[str, dict[str, Any]]) -> None:
        """Serve this scheme from now on; `extra_definitions` are those of custom kinds, by name."""
        self._scheme = scheme
        self._extra = extra_definitions
        self._facts = b""
        self._documents = {}

    def respond(self, path: str, query: str = "", accept: str = "", if_none_match: str = "") -> Answer | None:
        """The answer for a GET of `/openapi/v2`, `/openapi/v3` or below; None if the path is none of these.

        An Accept that cannot be met gives 406 with an empty body: the caller words the Status.
        """
        path = path.rstrip("/")
        if path == "/openapi/v2":
            return self._v2(accept, if_none_match)
        group_version = self._group_version(path)
        if path != "/openapi/v3" and group_version is None:
            return None
        if not any(media.covers(JSON_TYPE) for media in media_ranges(accept)):
            return Answer(406, b"", JSON_TYPE)
        if group_version is None:
            index = self._index()
            return _answer(_Document(index, _digest(index)), JSON_TYPE, _FRESH, if_none_match)
        digest = self._digest_of(*group_version)
        wanted = parse_qs(query).get("hash", [""])[0]
        if wanted and wanted != digest:
            # The client's index is old: send it to the document as it is now.
            return Answer(301, b"", JSON_TYPE, (("Location", f"{path}?hash={digest}"),))
        document = self._kept(path, digest, lambda known: self._v3(known, *group_version))
        return _answer(document, JSON_TYPE, _IMMUTABLE if wanted else _FRESH, if_none_match)

    def _kept(self, key: str, digest: str, make: Callable[[Definitions], bytes]) -> _Document:
        if key not in self._documents:
            known = Definitions({**builtin(), **self._extra})
            self._documents[key] = _Document(make(known), digest)
        return self._documents[key]

    def _digest_of(self, group: str, version: str) -> str:
        """Of what a document is made of, so that the index needs no document. Empty names: all of them."""
        if not self._facts:
            parts = [_FORM, self._server_version.encode(), builtin_digest(), orjson.dumps(self._extra)]
            self._facts = hashlib.sha512(b"".join(parts)).digest()
        wanted = [(group, version)] if version else None
        served = [
            [
                one.key,
                one.version,
                one.kind,
                sorted(one.verbs),
                [[s.name, sorted(s.verbs)] for s in one.subresources.values()],
            ]
            for one in self._scheme.resources
            if wanted is None or (one.group, one.version) in wanted
        ]
        return _digest(self._facts + f"{group}/{version}".encode() + orjson.dumps(served))

    # --- v2

    def _v2(self, accept: str, if_none_match: str) -> Answer:
        digest = self._digest_of("", "")
        for media in media_ranges(accept):
            if media.covers(JSON_TYPE):
                document = self._kept("v2", digest, lambda known: orjson.dumps(self._v2_document(known)))
                return _answer(document, JSON_TYPE, _FRESH, if_none_match)
            if media.media in (V2_PROTOBUF, _V2_PROTOBUF_OLD):
                document = self._kept("v2.pb", digest, lambda known: gnostic.encode(self._v2_document(known)))
                return _answer(document, V2_PROTOBUF, _FRESH, if_none_match)
        return Answer(406, b"", JSON_TYPE)

    def _v2_document(self, known: Definitions) -> dict[str, Any]:
        return v2.document(self._scheme, known, self._server_version)

    # --- v3

    def _index(self) -> bytes:
        paths = {}
        for group in self._scheme.groups():
            for version in group.versions:
                path = root_path(group.name, version)
                url = f"/openapi/v3{path}?hash={self._digest_of(group.name, version)}"
                paths[path[1:]] = {"serverRelativeURL": url}
        return orjson.dumps({"paths": paths})

    def _v3(self, known: Definitions, group: str, version: str) -> bytes:
        return orjson.dumps(v3.document(self._scheme, known, group, version, self._server_version))

    def _group_version(self, path: str) -> tuple[str, str] | None:
        for group in self._scheme.groups():
            for version in group.versions:
                if path == "/openapi/v3" + root_path(group.name, version):
                    return group.name, version
        return None


def _digest(content: bytes) -> str:
    return hashlib.sha512(content).hexdigest().upper()


def _answer(document: _Document, content_type: str, caching: tuple[tuple[str, str], ...], if_none_match: str) -> Answer:
    headers = (("ETag", f'"{document.digest}"'), ("Vary", "Accept"), *caching)
    if if_none_match and document.digest in if_none_match:
        return Answer(304, b"", content_type, headers)
    return Answer(200, document.body, content_type, headers)
