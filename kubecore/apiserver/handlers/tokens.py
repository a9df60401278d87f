"""TokenRequest (serviceaccounts/NAME/token), TokenReview and SelfSubjectReview."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from kubecore.api import errors, meta
from kubecore.api.errors import Cause, FieldError, aggregated
from kubecore.api.scheme import split_group_version
from kubecore.apiserver.authentication.modules import Refused
from kubecore.apiserver.authentication.refused_tokens import why_refused
from kubecore.apiserver.authentication.tokens import BoundObject, TokenIssuer
from kubecore.apiserver.handlers.failing import telling
from kubecore.apiserver.handlers.request import Request, Response
from kubecore.apiserver.registry import lifecycle
from kubecore.apiserver.registry.codec import loads
from kubecore.apiserver.registry.options import write_options

if TYPE_CHECKING:
    from kubecore._native import UserInfo
    from kubecore.apiserver.authentication.modules import TokenModules
    from kubecore.apiserver.handlers.served import Served
    from kubecore.apiserver.handlers.writing import Writing
    from kubecore.apiserver.registry.registry import Registry
    from kubecore.apiserver.registry.strategy import RequestContext

JSON = dict[str, Any]

_DEFAULT_SECONDS = 3600
_MIN_SECONDS = 600
_MAX_SECONDS = 1 << 32


def user_info(user: UserInfo) -> JSON:
    """authentication/v1 UserInfo."""
    info: JSON = {"username": user.username} if user.username else {}
    if user.uid:
        info["uid"] = user.uid
    if user.groups:
        info["groups"] = list(user.groups)
    if user.extra:
        info["extra"] = {name: list(values) for name, values in user.extra.items()}
    return info


class TokenSubresources:
    def __init__(self, registry: Registry, writing: Writing, issuer: TokenIssuer, modules: TokenModules) -> None:
        self._registry = registry
        self._writing = writing
        self._issuer = issuer
        self._modules = modules

    async def request(self, request: Request, user: UserInfo, served: Served) -> Response:
        ctx = self._writing.context(request, user, served, write_options("create", request.query))
        kind = "authentication.k8s.io/v1/TokenRequest"
        wanted = self._writing.decode(ctx, kind, request.body, request.content_type, _last_an_hour)
        spec = wanted["spec"]
        self._writing.own(ctx, kind, wanted)
        with telling(ctx.warnings):
            account: JSON = {}

            def judge() -> None:
                account.update(_account(wanted, request, served))

            await self._writing.admit(ctx, served, wanted, kind=kind, subresource="token", judge=judge)
        seconds = spec["expirationSeconds"]
        audiences = spec.get("audiences") or list(self._issuer.audiences)
        bound, node = self._bound(ctx, request, spec.get("boundObjectRef"))
        seconds = self._shortened(ctx, seconds)
        token, expires, credential_id = self._issuer.issue(
            namespace=request.namespace,
            account=request.name,
            account_uid=meta.uid(account),
            audiences=audiences,
            seconds=seconds,
            bound=bound,
            node=node,
        )
        ctx.annotate("authentication.kubernetes.io/issued-credential-id", credential_id)
        answer = {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {
                **(wanted.get("metadata") or {}),
                "name": request.name,
                "namespace": request.namespace,
                "uid": meta.uid(account),
                "creationTimestamp": ctx.now,
            },
            "spec": {
                "audiences": audiences,
                "expirationSeconds": seconds,
                "boundObjectRef": spec.get("boundObjectRef"),
            },
            "status": {
                "token": token,
                "expirationTimestamp": meta.format_time(datetime.fromtimestamp(expires, UTC)),
            },
        }
        return self._writing.review(answer, request, served, ctx.warnings)

    def _shortened(self, ctx: RequestContext, seconds: int) -> int:
        most = self._issuer.options.max_seconds
        if not most or seconds <= most:
            return seconds
        ctx.warn(f"requested expiration of {seconds} seconds shortened to {most} seconds")
        return most

    def _bound(
        self, ctx: RequestContext, request: Request, reference: JSON | None
    ) -> tuple[BoundObject | None, tuple[str, str] | None]:
        """The object a token is bound to. Raises 404 when it is not there, 409 for another uid."""
        if reference is None:
            return None, None
        kind, name = reference.get("kind") or "", reference.get("name") or ""
        given = reference.get("apiVersion") or ""
        # What is no group and version is of none, as upstream.
        group, version = split_group_version(given) if given.count("/") < 2 else ("", "")
        keys = {"Pod": "pods", "Secret": "secrets", "Node": "nodes"}
        if kind not in keys or group:
            raise errors.bad_request(f"cannot bind token to object of type {group}/{version}, Kind={kind}")
        key = keys[kind]
        obj = self._registry.get(key, "" if kind == "Node" else request.namespace, name)
        if obj is None:
            raise errors.not_found("", key, name)
        node = None
        if kind == "Pod":
            account = (obj.get("spec") or {}).get("serviceAccountName") or ""
            if account != request.name:
                raise errors.bad_request(
                    f'cannot bind token for serviceaccount "{request.name}" to pod running with different '
                    "serviceaccount name."
                )
            node_name = (obj.get("spec") or {}).get("nodeName")
            if node_name:
                found = self._registry.get("nodes", "", node_name)
                node = (node_name, meta.uid(found) if found else "")
        uid = reference.get("uid")
        if uid and uid != meta.uid(obj):
            detail = (
                f"the UID in the bound object reference ({uid}) does not match the UID in record. "
                "The object might have been deleted and then recreated"
            )
            raise errors.conflict("", kind, name, detail)
        return BoundObject(kind.lower(), name, meta.uid(obj)), node

    async def review(self, request: Request, user: UserInfo, served: Served) -> Response:
        """TokenReview: who is the bearer of this token?"""
        ctx = self._writing.context(request, user, served, write_options("create", request.query))
        review = self._writing.decode(ctx, served.kind, request.body, request.content_type)
        lifecycle.place(ctx, served.resource, review.setdefault("metadata", {}))
        self._writing.own(ctx, served.kind, review)

        def judge() -> None:
            if not (review.get("spec") or {}).get("token"):
                raise errors.bad_request("token is required for TokenReview in authentication")

        with telling(ctx.warnings):
            await self._writing.admit(ctx, served, review, judge=judge, reviews=True)
        spec = review["spec"]
        token = spec["token"]
        audiences = spec.get("audiences") or []
        found = await self._modules.review(token, audiences)
        status: JSON = {"user": {}}
        if isinstance(found, Refused):
            wanted = audiences or self._modules.audiences
            why = why_refused(token, wanted, self._issuer, self._registry.get, ctx.clock.now().timestamp())
            # The first of upstream's modules knows one token, of the server itself, and has this to say of all others.
            status["error"] = aggregated([one for one in ("invalid bearer token", why, *found.why) if one])
        else:
            status = {"authenticated": True, "user": user_info(found[0])}
            if found[1]:
                status["audiences"] = list(found[1])
            if stale := self._issuer.stale(token):
                ctx.annotate("authentication.k8s.io/stale-token", stale)
        answer = {**_head(served), "metadata": review.get("metadata") or {}, "spec": spec, "status": status}
        return self._writing.review(answer, request, served, ctx.warnings)

    async def self_review(self, request: Request, user: UserInfo, served: Served) -> Response:
        """SelfSubjectReview (`kubectl auth whoami`)."""
        ctx = self._writing.context(request, user, served, write_options("create", request.query))
        self._writing.decode(ctx, served.kind, request.body, request.content_type)
        await self._writing.admit(ctx, served, _head(served), reviews=True)
        answer = {
            **_head(served),
            "metadata": {"creationTimestamp": ctx.now},
            "status": {"userInfo": user_info(user)},
        }
        return self._writing.review(answer, request, served, ctx.warnings)


def _last_an_hour(wanted: JSON) -> None:
    """A token of which nobody says how long it lasts."""
    spec = wanted.setdefault("spec", {})
    if spec.get("expirationSeconds") is None:
        spec["expirationSeconds"] = _DEFAULT_SECONDS


def _head(served: Served) -> JSON:
    return {"kind": served.resource.kind, "apiVersion": served.resource.api_version}


def _account(wanted: JSON, request: Request, served: Served) -> JSON:
    """The service account, of which a token is wanted that may be. Raises 400, 404, 409, 422."""
    given = wanted.get("metadata") or {}
    _check_account(given, request)
    account: JSON = loads(served.stored().get(request.namespace, request.name).value)
    _check_uid(given, request, meta.uid(account))
    if causes := _seconds_causes(wanted["spec"]["expirationSeconds"]):
        raise errors.invalid("TokenRequest", "", causes, group="authentication.k8s.io")
    return account


def _check_account(given: JSON, request: Request) -> None:
    """Raises 400 and 422 for a request that names another service account than its path."""
    if given.get("namespace") not in (None, "", request.namespace):
        raise errors.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    if given.get("name") not in (None, "", request.name):
        cause = FieldError.invalid("metadata.name", given["name"], "must match the service account name if specified")
        raise errors.invalid("TokenRequest", request.name, [cause], group="authentication.k8s.io")


def _check_uid(given: JSON, request: Request, uid: str) -> None:
    """Raises 409."""
    if given.get("uid") not in (None, "", uid):
        detail = f"the UID in the token request ({given['uid']}) does not match the UID of the service account ({uid})"
        raise errors.conflict("authentication.k8s.io", "TokenRequest", request.name, detail)


def _seconds_causes(seconds: int) -> list[Cause]:
    if seconds < _MIN_SECONDS:
        return [
            FieldError.invalid("spec.expirationSeconds", seconds, "may not specify a duration less than 10 minutes")
        ]
    if seconds > _MAX_SECONDS:
        return [
            FieldError.invalid("spec.expirationSeconds", seconds, "may not specify a duration larger than 2^32 seconds")
        ]
    return []
