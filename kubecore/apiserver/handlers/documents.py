"""Paths that are no resources: the index, discovery, OpenAPI, the keys of service account tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import orjson

from kubecore.api import errors
from kubecore.api.scheme import Scheme
from kubecore.apiserver import health
from kubecore.apiserver.discovery.accepting import passes_the_router
from kubecore.apiserver.discovery.foreign import ForeignVersion, without
from kubecore.apiserver.discovery.serving import MADE, Answer, Discovery, is_refused_by_the_router, is_version_list
from kubecore.apiserver.handlers.request import JSON_TYPE, Request, Response
from kubecore.apiserver.openapi.merging import ForeignSpecification
from kubecore.apiserver.openapi.serving import NO_DEFINITIONS, CustomDefinitions, Known, OpenAPI

if TYPE_CHECKING:
    from kubecore._native import UserInfo
    from kubecore.api.scheme import Resource
    from kubecore.apiserver.authentication.tokens import TokenIssuer
    from kubecore.apiserver.registry.registry import Registry

_CACHED = [("Cache-Control", "public, max-age=3600")]
_OTHER_PATHS = ("/metrics", "/metrics/slis", "/openapi/v2", "/openapi/v3", "/openapi/v3/", "/version", *health.paths())
_OPENID, _KEYS = "/.well-known/openid-configuration", "/openid/v1/jwks"


class Elsewhere(Protocol):
    """What other servers tell of the versions that they serve."""

    def versions(self) -> list[ForeignVersion]: ...

    def specifications(self) -> list[ForeignSpecification]: ...

    def paths(self) -> Mapping[str, str]:
        """Of their documents of OpenAPI v3, below `/openapi/v3/`, and where clients find them."""

    def has(self, path: str) -> bool:
        """Whether it is that of one of these documents."""

    def document(self, request: Request, user: UserInfo) -> Awaitable[Response | None]:
        """One of these documents, as a Handler answers."""


class Documents:
    def __init__(
        self, registry: Registry, tokens: TokenIssuer, further: Sequence[Resource] = (), *, in_cluster: str
    ) -> None:
        """`further` resources are served, too, and in no schema; pods know the server by the name `in_cluster`."""
        self._further = tuple(further)
        self._discovery = Discovery(self._with_further(registry.scheme))
        self._openapi = OpenAPI(registry.scheme, server_version="1.35", now=registry.clock.now)
        self._tokens = tokens
        self._describe: Callable[[], tuple[Scheme, CustomDefinitions]] = lambda: (registry.scheme, NO_DEFINITIONS)
        self._is_outdated = False
        self._found_at = in_cluster
        self.elsewhere: Elsewhere | None = None
        self.texts: dict[str, Callable[[], bytes]] = {}
        """By path, what components of this process tell in Prometheus' format."""

    def outdated(self, describe: Callable[[], tuple[Scheme, CustomDefinitions]]) -> None:
        """Resources have come or gone, or are described otherwise: as `describe` says when somebody asks."""
        self._describe = describe
        self._is_outdated = True

    def changed_elsewhere(self) -> None:
        """Others serve something else than before."""
        self._is_outdated = True

    def _renew(self) -> None:
        if not self._is_outdated:
            return
        self._is_outdated = False
        scheme, custom = self._describe()
        if self.elsewhere is None:
            self._discovery.replace(self._with_further(scheme))
            self._openapi.replace(scheme, custom)
            return
        versions = self.elsewhere.versions()
        self._discovery.replace(self._with_further(scheme), versions)
        ours = without(scheme, versions)
        self._openapi.replace(ours, custom, self.elsewhere.specifications(), self.elsewhere.paths())

    def _with_further(self, scheme: Scheme) -> Scheme:
        groups = {group.name for group in scheme.groups()}
        return Scheme([*scheme.resources, *(one for one in self._further if one.group not in groups)])

    def listens(self, address: str, *, advertised: bool) -> None:
        """Where the server listens, HOST:PORT: documents that name it are right from now on. Only an address that is
        `advertised` is known to lead here from pods, too, which may have a network of their own."""
        if advertised:
            self._found_at = address
        self._discovery.address(address)

    async def __call__(self, request: Request, user: UserInfo) -> Response | None:
        """The document at the path, None for an unknown one."""
        self._renew()
        path = request.path
        if path.startswith("/openapi/"):
            if self.elsewhere is not None and self.elsewhere.has(path):
                return await self.elsewhere.document(request, user)
            return await self._of_openapi(request)
        if path.startswith("/api"):
            answer = self._discovery.respond(path, request.accept, _if_none_match(request))
            return _discovered(request, answer)
        if path in ("/", "/index.html"):
            return Response(200, orjson.dumps({"paths": self._paths()}, option=orjson.OPT_INDENT_2))
        if path in self.texts:
            _check_get(request)
            return Response(200, self.texts[path](), "text/plain; version=0.0.4; charset=utf-8")
        made = self._of_tokens(path.rstrip("/"))
        if made is not None:
            _check_get(request)
            if not passes_the_router(request.accept, [made.content_type]):
                raise errors.no_representation([made.content_type])
        return made

    async def _of_openapi(self, request: Request) -> Response | None:
        path = request.path
        if path in ("/openapi/v2/", "/openapi/v3/"):
            return None
        # A first document takes tens to hundreds of milliseconds: not on the loop.
        known = Known(_if_none_match(request), request.header("if-modified-since") or "")
        answer = await asyncio.to_thread(self._openapi.respond, path, request.query, request.accept, known)
        return None if answer is None else Response(*answer)

    def _of_tokens(self, path: str) -> Response | None:
        """What tells others how to check service accounts' tokens, if their issuer can be one of OpenID."""
        if path not in (_OPENID, _KEYS) or (metadata := self._tokens.metadata(self._found_at)) is None:
            return None
        if path == _OPENID:
            return Response(200, orjson.dumps(metadata), JSON_TYPE, _CACHED)
        return Response(200, orjson.dumps(self._tokens.jwks()), "application/jwk-set+json", _CACHED)

    def _paths(self) -> list[str]:
        """What there is, as `/` lists it."""
        openid = () if self._tokens.metadata(self._found_at) is None else (_OPENID, _KEYS)
        return sorted([*_OTHER_PATHS, *self.texts, *openid, *self._discovery.paths()])


def _if_none_match(request: Request) -> str:
    return request.header("if-none-match") or ""


def _check_get(request: Request) -> None:
    if request.method != "GET":
        raise errors.method_not_allowed()


def _discovered(request: Request, answer: Answer | None) -> Response | None:
    """Raises 405 and 406, which the list of a version's resources words in another way than that of groups."""
    if answer is None:
        return None
    if is_version_list(request.path):
        _check_get(request)
    if answer.status == 406:
        refused = is_refused_by_the_router(request.path, request.accept)
        raise (errors.no_representation if refused else errors.not_acceptable)(MADE)
    return Response(answer.status, answer.body, answer.content_type, answer.headers)
