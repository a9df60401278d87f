"""Who asks and whether they may, where Rust could not say: unknown tokens, impersonation, modes in Python."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Literal

from kubecore.api import errors
from kubecore.api.queries import escaped_path, parse_query
from kubecore.api.quoting import quoted
from kubecore.apiserver.authentication import impersonation
from kubecore.apiserver.authorization.attributes import COLLECTIONS, Attributes, field_requirements
from kubecore.apiserver.authorization.authorizer import Authorizer, Decision, refusal

if TYPE_CHECKING:
    from kubecore._native import Judged, UserInfo
    from kubecore.apiserver.audit.recording import Record
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

    async def __call__(self, request: Request) -> tuple[UserInfo, bool]:
        """The user the request goes on as, and whether it may. Of a user whom the front did not know that has not been
        asked yet: it gives the request a seat by that user first. Raises 401, 403."""
        began = self._clock.monotonic()
        user = await self._authenticate(request) if request.authenticated is None else request.user
        seconds = self._clock.monotonic() - began
        if user is None or request.authenticated is False:
            raise errors.unauthorized()
        if not request.resumed:
            request.identified(user)
            if request.authenticated is None and (record := request.audit) is not None:
                record.took("authentication", seconds)
            if (other := impersonation.wanted(request)) is not None:
                for attributes in other.demands():
                    await self._check(user, attributes)
                return other.identity(), False
            if request.authenticated is None:
                return user, False
        await self._authorize(request, user)
        return user, True

    async def _check(self, user: UserInfo, attributes: Attributes) -> None:
        """Whether he may be that as somebody else. A mode that fails is no more than one that does not allow it."""
        decision = await self._authorizer.judge(user, attributes)
        if not decision.allowed:
            raise refusal(user, attributes, decision._replace(error=""))

    async def _authenticate(self, request: Request) -> UserInfo | None:
        began, user = self._clock.monotonic(), None
        self._judged.asking()
        try:
            user = await self._bearer(request)
        finally:
            seconds = self._clock.monotonic() - began
            if user is None:
                self._judged.unknown(seconds)
            else:
                self._judged.known(user, seconds)
        return user

    async def _authorize(self, request: Request, user: UserInfo) -> None:
        attributes, began = attributes_of(request), self._clock.monotonic()
        decision = await self._authorizer.judge(user, attributes)
        seconds, record = self._clock.monotonic() - began, request.audit
        self._judged.authorized(_counted(decision), seconds)
        if record is not None:
            record.took("authorization", seconds)
        if not decision.allowed:
            if record is not None:
                _tell(record, decision)
            raise _failed(request, decision.error) if decision.error else refusal(user, attributes, decision)

    async def _bearer(self, request: Request) -> UserInfo | None:
        scheme, *rest = (request.header("authorization") or "").strip().split(" ", 2)
        if scheme.lower() != "bearer" or not rest or not rest[0]:
            return None
        return await self._tokens.authenticate(rest[0])


def _tell(record: Record, decision: Decision) -> None:
    """What the audit says of who may not."""
    if decision.error:
        record.annotate("authorization.k8s.io/reason", "internal error")
    else:
        record.decided("forbid", decision.reason)


def _failed(request: Request, why: str) -> errors.StatusError:
    """The 500 for a mode that failed, which upstream words as a line of text with the request's address."""
    error = errors.internal_error(why)
    target = escaped_path(request.path) + (f"?{request.query}" if request.query else "")
    error.plain = escape(f"Internal Server Error: {quoted(target)}: {why}", quote=False)
    return error


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
