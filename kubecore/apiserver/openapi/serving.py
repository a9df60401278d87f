"""Answers requests for OpenAPI documents. They are built on the first request and kept as bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol
from urllib.parse import parse_qs

import orjson

from kubecore.api import protobuf
from kubecore.api.scheme import Scheme
from kubecore.apiserver.discovery.accepting import MediaRange, media_ranges
from kubecore.apiserver.discovery.serving import JSON_TYPE, Answer
from kubecore.apiserver.openapi import converting, gnostic, services, v2, v3
from kubecore.apiserver.openapi.definitions import Definitions, builtin, builtin_digest
from kubecore.apiserver.openapi.merging import ForeignSpecification, merged
from kubecore.apiserver.openapi.operations import root_path
from kubecore.apiserver.openapi.services import Service

JSON = dict[str, Any]

V2_PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
# The name it had before media types were found to allow no "@".
_V2_PROTOBUF_OLD = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
V3_PROTOBUF = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf"
# What client-go asks for.
_V3_PROTOBUF_OLD = "application/com.github.proto-openapi.spec.v3@v1.0+protobuf"
# Part of every digest: to be changed whenever documents of the same facts come out differently.
_FORM = b"4"
# What Go's server makes of the index, whose handler says nothing.
_INDEX_TYPE = "text/plain; charset=utf-8"
_FRESH = (("Cache-Control", "no-cache, private"),)
# Of OpenAPI v2 upstream has a handler of its own compress the answers, which says so whether it does or not.
_COMPRESSIBLE = ("Vary", "Accept-Encoding")


class _Document(NamedTuple):
    """`made` in whole seconds."""

    body: bytes
    digest: str
    made: datetime


class Known(NamedTuple):
    """What the client has already: the headers If-None-Match and If-Modified-Since."""

    tags: str = ""
    since: str = ""

    def covers(self, document: _Document) -> bool:
        """Go's server takes the tags apart, compares weakly, and asks for the time only where there are none."""
        if self.tags:
            known = [tag.strip().removeprefix("W/") for tag in self.tags.split(",")]
            return "*" in known or f'"{document.digest}"' in known
        try:
            since = parsedate_to_datetime(self.since)
        except ValueError:
            return False
        return document.made <= (since if since.tzinfo else since.replace(tzinfo=UTC))


_NOTHING = Known()


class CustomDefinitions(Protocol):
    """What custom kinds bring into the documents."""

    def digest(self, group: str, version: str) -> bytes:
        """Changes when the definitions of the group version do; b"" where there are none."""

    def v3(self, group: str, version: str) -> Mapping[str, JSON]:
        """The definitions of a group version, by name, with references as in OpenAPI v2."""

    def v2(self, group: str, version: str) -> Mapping[str, JSON]:
        """The same, as far as OpenAPI v2 can say them."""


class _NoCustomDefinitions:
    def digest(self, group: str, version: str) -> bytes:
        return b""

    def v3(self, group: str, version: str) -> Mapping[str, JSON]:
        return {}

    def v2(self, group: str, version: str) -> Mapping[str, JSON]:
        return {}


NO_DEFINITIONS: CustomDefinitions = _NoCustomDefinitions()


class OpenAPI:
    """The documents of one scheme, with definitions of custom kinds beside the built-in ones.

    Documents are made from megabytes of definitions, which are let go again as soon as a document is made. May be asked
    from several threads; a document that is made while resources come or go is of one state or the other.
    """

    def __init__(self, scheme: Scheme, *, server_version: str, now: Callable[[], datetime]) -> None:
        """`server_version` as `1.35`."""
        self._server_version = server_version
        self._now = now
        self._state = _State(scheme, NO_DEFINITIONS)
        self._facts = b""
        self._documents: dict[str, _Document] = {}

    def replace(
        self,
        scheme: Scheme,
        custom: CustomDefinitions,
        foreign: Sequence[ForeignSpecification] = (),
        elsewhere: Mapping[str, str] | None = None,
    ) -> None:
        """Serve this scheme from now on. Documents that it does not change are kept. Others have specifications of
        their own, and documents of OpenAPI v3 `elsewhere`: their paths and where they are told to be."""
        self._state = _State(scheme, custom, foreign, elsewhere or {})

    def respond(self, path: str, query: str = "", accept: str = "", known: Known = _NOTHING) -> Answer | None:
        """The answer for a GET of `/openapi/v2`, `/openapi/v3` or below; None if the path is none of these.

        An Accept that cannot be met gives 406 with an empty body, as upstream; the index has one form for all.
        """
        path, state = path.rstrip("/"), self._state
        if path == "/openapi/v2":
            return self._v2(state, accept, known)
        group_version = _group_version(state.scheme, path)
        below = path.removeprefix("/openapi/v3/")
        service = None if group_version else services.served(state.scheme).get(below)
        foreign = None if group_version or service else state.converted.get(below)
        if path != "/openapi/v3" and group_version is None and service is None and foreign is None:
            return None
        wanted_types = media_ranges(accept)
        if path != "/openapi/v3" and not wanted_types:
            # To an Accept that names nothing upstream says nothing.
            return Answer(200, b"", "")
        content_type = _form_of_v3(wanted_types)
        if path != "/openapi/v3" and not content_type:
            return Answer(406, b"", "", (("Vary", "Accept"),))
        if group_version is not None:
            digest, make = self._digest_of(state, *group_version), partial(self._v3, state, *group_version)
        elif service is not None:
            digest, make = self._digest_of_service(service), partial(self._of_service, service)
        elif foreign is not None:
            digest, make = foreign.digest.upper(), partial(_converted, foreign)
        else:
            # Upstream's is made anew for each request, and has no tag. Nobody knows it by the time, of whole seconds: a
            # definition may have been added within the second.
            return Answer(200, self._index(state), _INDEX_TYPE, (_modified(self._second()), *_FRESH))
        wanted = parse_qs(query).get("hash", [""])[0]
        if wanted and wanted != digest:
            # The client's index is old: send it to the document as it is now.
            return Answer(301, b"", content_type, (("Location", f"{path}?hash={digest}"), *_tagged(digest)))
        if content_type == V3_PROTOBUF:
            document = self._kept(f"{path}.pb", digest, lambda: protobuf.encode_openapi_v3(make()))
        else:
            document = self._kept(path, digest, make)
        return _answer(document, content_type, self._lasting() if wanted else _FRESH, known)

    def _kept(self, key: str, digest: str, make: Callable[[], bytes]) -> _Document:
        document = self._documents.get(key)
        if document is None or document.digest != digest:
            made = self._second()
            if document is not None:
                # Two of one second would be one to who asks by the time alone.
                made = max(made, document.made + timedelta(seconds=1))
            document = self._documents[key] = _Document(make(), digest, made)
        return document

    def _second(self) -> datetime:
        return self._now().replace(microsecond=0)

    def _lasting(self) -> tuple[tuple[str, str], ...]:
        """What a document is told with that was asked for by its digest: another one has another address."""
        now = self._second()
        leap_day = (now.month, now.day) == (2, 29)
        year_later = now.replace(year=now.year + 1, month=3 if leap_day else now.month, day=1 if leap_day else now.day)
        return (("Cache-Control", "public, immutable"), ("Expires", format_datetime(year_later, usegmt=True)))

    def _digest_of(self, state: _State, group: str, version: str) -> str:
        """Of what a document is made of, so that the index needs no document."""
        found = state.digests.get((group, version))
        if found is None:
            served = [
                [
                    one.key,
                    one.version,
                    one.kind,
                    sorted(one.verbs),
                    [[s.name, sorted(s.verbs)] for s in one.subresources.values()],
                ]
                for one in state.scheme.of_version(group, version)
            ]
            custom = state.custom.digest(group, version)
            found = _digest(self._built_in() + f"{group}/{version}".encode() + orjson.dumps(served) + custom)
            state.digests[group, version] = found
        return found

    def _built_in(self) -> bytes:
        if not self._facts:
            parts = [_FORM, self._server_version.encode(), builtin_digest()]
            self._facts = hashlib.sha512(b"".join(parts)).digest()
        return self._facts

    def _digest_of_service(self, service: Service) -> str:
        return _digest(self._built_in() + service.path.encode())

    # --- v2

    def _v2(self, state: _State, accept: str, known: Known) -> Answer:
        served = [(group.name, version) for group in state.scheme.groups() for version in group.versions]
        parts = [*(self._digest_of(state, *one) for one in served), *(one.digest for one in state.foreign)]
        digest = _digest("".join(parts).encode())
        for media in media_ranges(accept):
            if media.covers(JSON_TYPE):
                document = self._kept("v2", digest, lambda: v2.as_json(*self._v2_parts(state)))
                return _answer(document, JSON_TYPE, (_COMPRESSIBLE, *_FRESH), known)
            if media.media in (V2_PROTOBUF, _V2_PROTOBUF_OLD):
                document = self._kept("v2.pb", digest, lambda: gnostic.encoded(*self._v2_parts(state)))
                return _answer(document, V2_PROTOBUF, (_COMPRESSIBLE, *_FRESH), known)
        return Answer(406, b"", "", (("Vary", "Accept"), _COMPRESSIBLE))

    def _v2_parts(self, state: _State) -> tuple[Iterator[v2.Member], JSON]:
        """The members of the document, and the rest of it."""
        own = v2.members(state.scheme, Definitions(builtin()), state.custom.v2)
        if not state.foreign:
            return own, v2.frame(self._server_version)
        whole = merged(v2.document(own, self._server_version), state.foreign)
        return v2.members_of(whole), {key: value for key, value in whole.items() if key not in v2.PLACES}

    # --- v3

    def _index(self, state: _State) -> bytes:
        paths = {
            path: {"serverRelativeURL": f"/openapi/v3/{path}?hash={self._digest_of_service(service)}"}
            for path, service in services.served(state.scheme).items()
        }
        for group in state.scheme.groups():
            for version in group.versions:
                path = root_path(group.name, version)
                url = f"/openapi/v3{path}?hash={self._digest_of(state, group.name, version)}"
                paths[path[1:]] = {"serverRelativeURL": url}
        paths |= {path: {"serverRelativeURL": url} for path, url in state.elsewhere.items()}
        for path, foreign in state.converted.items():
            paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={foreign.digest.upper()}"}
        return orjson.dumps({"paths": dict(sorted(paths.items()))})

    def _of_service(self, service: Service) -> bytes:
        return orjson.dumps(v3.service_document(service, Definitions(builtin()), self._server_version))

    def _v3(self, state: _State, group: str, version: str) -> bytes:
        known = Definitions({**builtin(), **state.custom.v3(group, version)})
        return orjson.dumps(v3.document(state.scheme, known, group, version, self._server_version))


class _State:
    """What the documents are made of at one time."""

    def __init__(
        self,
        scheme: Scheme,
        custom: CustomDefinitions,
        foreign: Sequence[ForeignSpecification] = (),
        elsewhere: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.scheme = scheme
        self.custom = custom
        self.foreign = foreign
        self.elsewhere = elsewhere
        self.converted = {f"apis/{one.group}/{one.version}": one for one in foreign if one.alone}
        """Documents of OpenAPI v3 that others do not have, by their paths: made from what they have."""
        self.digests: dict[tuple[str, str], str] = {}


def _converted(foreign: ForeignSpecification) -> bytes:
    return orjson.dumps(converting.converted(foreign.document))


def _form_of_v3(acceptable: Sequence[MediaRange]) -> str:
    """The content type of a document; empty if there is none that the client takes."""
    for media in acceptable:
        if media.covers(JSON_TYPE):
            return JSON_TYPE
        if media.media in (V3_PROTOBUF, _V3_PROTOBUF_OLD):
            return V3_PROTOBUF
    return ""


def _group_version(scheme: Scheme, path: str) -> tuple[str, str] | None:
    match path.split("/")[3:]:
        case ["api", version]:
            name = ""
        case ["apis", name, version] if name:
            pass
        case _:
            return None
    group = scheme.group(name)
    return (name, version) if group is not None and version in group.versions else None


def _digest(content: bytes) -> str:
    return hashlib.sha512(content).hexdigest().upper()


def _answer(document: _Document, content_type: str, caching: tuple[tuple[str, str], ...], known: Known) -> Answer:
    tagged = _tagged(document.digest)
    if known.covers(document):
        # A tag says it all.
        return Answer(304, b"", "", (*tagged, *caching))
    return Answer(200, document.body, content_type, (*tagged, _modified(document.made), *caching))


def _modified(made: datetime) -> tuple[str, str]:
    return ("Last-Modified", format_datetime(made, usegmt=True))


def _tagged(digest: str) -> tuple[tuple[str, str], ...]:
    return (("ETag", f'"{digest}"'), ("Vary", "Accept"))
