"""Who asks and whether they may, where Rust could not say: unknown tokens, impersonation, modes in Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from kubecore.api import errors
from kubecore.api.queries import parse_query
from kubecore.apiserver.authentication import impersonation
from kubecore.apiserver.authorization.attributes import COLLECTIONS, Attributes, field_requirements
from kubecore.apiserver.authorization.authorizer import Authorizer, Decision, refusal

if TYPE_CHECKING:
    from kubecore._native import Judged, UserInfo
    from kubecore.apiserver.authentication.modules import TokenModules
    from kubecore.apiserver.handlers.request import Request
    from kubecore.clock import Clock


class Identification:
    """The first links of the chain for a request Rust handed over undecided; counts what they find out, as Rust does.

    Upstream counts the request's own authorization alone, not whether its user may act as somebody else."""

    def __init__(self, authorizer: Authorizer, tokens: TokenModules, judged: Judged, clock: Clock) -> None:
        self._authorizer = authorizer
        self._tokens = tokens
        self._judged = judged
        self._clock = clock

    async def __call__(self, request: Request) -> UserInfo:
        """The user the request acts as. Raises 401, 403."""
        user = await self._authenticate(request) if request.authenticated is None else request.user
        if user is None or request.authenticated is False:
            raise errors.unauthorized()
        request.identified(user)
        other = impersonation.wanted(request)
        if other is not None:
            for attributes in other.demands():
                await self._authorizer.check(user, attributes)
            user = other.identity()
            request.identified(user)
        await self._authorize(user, attributes_of(request))
        return user

    async def _authenticate(self, request: Request) -> UserInfo | None:
        began, user = self._clock.monotonic(), None
        try:
            user = await self._bearer(request)
        finally:
            seconds = self._clock.monotonic() - began
            if user is None:
                self._judged.unknown(seconds)
            else:
                self._judged.known(user, seconds)
        return user

    async def _authorize(self, user: UserInfo, attributes: Attributes) -> None:
        began = self._clock.monotonic()
        decision = await self._authorizer.judge(user, attributes)
        self._judged.authorized(_counted(decision), self._clock.monotonic() - began)
        if not decision.allowed:
            raise refusal(user, attributes, decision)

    async def _bearer(self, request: Request) -> UserInfo | None:
        scheme, _, token = (request.header("authorization") or "").strip().partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            return None
        return await self._tokens.authenticate(token.strip())


def _counted(decision: Decision) -> Literal["allowed", "denied", "no-opinion", "error"]:
    if decision.allowed:
        return "allowed"
    if decision.error:
        return "error"
    return "denied" if decision.denied else "no-opinion"


def attributes_of(request: Request) -> Attributes:
    if not request.is_resource:
        return Attributes(request.verb, path=request.path)
    name, fields, labels = request.name, "", ""
    if request.verb in COLLECTIONS and "Selector=" in request.query:
        query = parse_query(request.query)
        fields, labels = query.get("fieldSelector", ""), query.get("labelSelector", "")
        name = name or (_selected_name(fields) if request.verb != "deletecollection" else "")
    return Attributes(
        request.verb,
        request.api_group,
        request.api_version,
        request.resource,
        request.subresource,
        request.namespace,
        name,
        "",
        fields,
        labels,
    )


def _selected_name(selector: str) -> str:
    """A list or watch of the one object that `metadata.name=` selects is authorized as a request for that object."""
    for field, operator, (value,) in field_requirements(selector):
        if field == "metadata.name" and operator == "In":
            return "" if value in (".", "..") or "/" in value or "%" in value else value
    return ""
