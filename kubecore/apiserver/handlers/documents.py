"""Paths that are no resources: discovery, OpenAPI, the keys of service account tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import orjson

from kubecore.api import errors, protobuf
from kubecore.api.scheme import Scheme
from kubecore.apiserver.discovery.serving import Answer, Discovery
from kubecore.apiserver.handlers.request import JSON_TYPE, Request, Response
from kubecore.apiserver.openapi.serving import CustomDefinitions, OpenAPI

if TYPE_CHECKING:
    from kubecore._native import UserInfo
    from kubecore.api.scheme import Resource
    from kubecore.apiserver.authentication.tokens import TokenIssuer
    from kubecore.apiserver.registry.registry import Registry

_CACHED = [("Cache-Control", "public, max-age=3600")]


class Documents:
    def __init__(self, registry: Registry, tokens: TokenIssuer, further: Sequence[Resource] = ()) -> None:
        """`further` resources are served, too, and in no schema."""
        self._further = tuple(further)
        self._discovery = Discovery(self._with_further(registry.scheme))
        self._openapi = OpenAPI(registry.scheme, server_version="v1.35.0")
        self._tokens = tokens
        self._describe: Callable[[], tuple[Scheme, CustomDefinitions]] | None = None

    def outdated(self, describe: Callable[[], tuple[Scheme, CustomDefinitions]]) -> None:
        """Resources have come or gone, or are described otherwise: as `describe` says when somebody asks."""
        self._describe = describe

    def _renew(self) -> None:
        if self._describe is not None:
            scheme, custom = self._describe()
            self._describe = None
            self._discovery.replace(self._with_further(scheme))
            self._openapi.replace(scheme, custom)

    def _with_further(self, scheme: Scheme) -> Scheme:
        groups = {group.name for group in scheme.groups()}
        return Scheme([*scheme.resources, *(one for one in self._further if one.group not in groups)])

    async def __call__(self, request: Request, user: UserInfo) -> Response | None:
        """The document at the path, None for an unknown one."""
        self._renew()
        path = request.path.rstrip("/")
        if path.startswith("/openapi/"):
            # A first document takes tens to hundreds of milliseconds: not on the loop.
            answer = await asyncio.to_thread(
                self._openapi.respond, request.path, request.query, request.accept, _if_none_match(request)
            )
            return _response(request, answer)
        if path.startswith("/api"):
            answer = self._discovery.respond(request.path, request.accept, _if_none_match(request))
            return _response(request, answer)
        if path == "/.well-known/openid-configuration":
            return Response(200, orjson.dumps(self._openid(request)), JSON_TYPE, _CACHED)
        if path == "/openid/v1/jwks":
            body = orjson.dumps(self._tokens.jwks())
            return Response(200, body, "application/jwk-set+json", _CACHED)
        return None

    def _openid(self, request: Request) -> dict[str, object]:
        issuer = self._tokens.issuer
        return {
            "issuer": issuer,
            "jwks_uri": f"{issuer}/openid/v1/jwks",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        }


def _if_none_match(request: Request) -> str:
    return request.header("if-none-match") or ""


def _response(request: Request, answer: Answer | None) -> Response | None:
    """Raises 405 for another method than GET, 406 for a form that cannot be had."""
    if answer is None:
        return None
    if request.method not in ("GET", "HEAD"):
        raise errors.method_not_allowed()
    if answer.status == 406:
        raise errors.not_acceptable([JSON_TYPE, protobuf.MEDIA])
    return Response(answer.status, answer.body, answer.content_type, answer.headers)
