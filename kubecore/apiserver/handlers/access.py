"""SubjectAccessReview and its relatives: what may somebody do?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from kubecore import _native
from kubecore.api import errors
from kubecore.api.errors import Cause, FieldError
from kubecore.apiserver.authorization.authorizer import Attributes, Authorizer
from kubecore.apiserver.handlers.request import Request, Response
from kubecore.apiserver.registry.options import write_options

if TYPE_CHECKING:
    from kubecore._native import UserInfo
    from kubecore.apiserver.handlers.served import Served
    from kubecore.apiserver.handlers.writing import Writing
    from kubecore.apiserver.registry.registry import Registry

JSON = dict[str, Any]


class AccessReviews:
    def __init__(
        self, registry: Registry, writing: Writing, authorizer: Authorizer, native: _native.Authorizer
    ) -> None:
        self._registry = registry
        self._writing = writing
        self._authorizer = authorizer
        self._native = native

    async def subject(self, request: Request, user: UserInfo, served: Served) -> Response:
        """SubjectAccessReview, and LocalSubjectAccessReview within a namespace."""
        review, warnings = await self._decode(request, user, served)
        spec = review.get("spec") or {}
        causes = _spec_causes(spec)
        if not spec.get("user") and not spec.get("groups"):
            causes.append(FieldError.required("spec.user", "at least one of user or group must be specified"))
        local = served.resource.namespaced
        attributes = spec.get("resourceAttributes") or {}
        if local:
            if spec.get("nonResourceAttributes"):
                causes.append(
                    FieldError.invalid("spec.nonResourceAttributes", {}, "disallowed on this kind of request")
                )
            if attributes.get("namespace") != request.namespace:
                detail = "must match metadata.namespace"
                causes.append(
                    FieldError.invalid("spec.resourceAttributes.namespace", attributes.get("namespace") or "", detail)
                )
        self._refuse(served, causes)
        subject = _native.UserInfo(
            spec.get("user") or "", spec.get("uid") or "", spec.get("groups") or [], spec.get("extra") or {}
        )
        return self._answer(request, served, review, self._judge(subject, spec), warnings)

    async def self_subject(self, request: Request, user: UserInfo, served: Served) -> Response:
        """SelfSubjectAccessReview (`kubectl auth can-i`)."""
        review, warnings = await self._decode(request, user, served)
        spec = review.get("spec") or {}
        self._refuse(served, _spec_causes(spec))
        return self._answer(request, served, review, self._judge(user, spec), warnings)

    async def rules(self, request: Request, user: UserInfo, served: Served) -> Response:
        """SelfSubjectRulesReview (`kubectl auth can-i --list`)."""
        review, warnings = await self._decode(request, user, served)
        namespace = (review.get("spec") or {}).get("namespace") or ""
        if not namespace:
            raise errors.bad_request("no namespace on request")
        raw, failures = self._native.rules_for(user, namespace)
        resource_rules, non_resource_rules = [], []
        for rule in orjson.loads(raw):
            if rule.get("nonResourceURLs"):
                non_resource_rules.append({"verbs": rule["verbs"], "nonResourceURLs": rule["nonResourceURLs"]})
            if rule.get("resources"):
                names = ("verbs", "apiGroups", "resources", "resourceNames")
                resource_rules.append({name: rule[name] for name in names if rule.get(name)})
        status: JSON = {
            "resourceRules": resource_rules,
            "nonResourceRules": non_resource_rules,
            "incomplete": bool(failures),
        }
        if failures:
            status["evaluationError"] = ", ".join(failures)
        return self._answer(request, served, review, status, warnings)

    def _judge(self, user: UserInfo, spec: JSON) -> JSON:
        resource, other = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
        if resource is not None:
            attributes = Attributes(
                resource.get("verb") or "",
                resource.get("group") or "",
                resource.get("version") or "",
                resource.get("resource") or "",
                resource.get("subresource") or "",
                resource.get("namespace") or "",
                resource.get("name") or "",
            )
        else:
            attributes = Attributes((other or {}).get("verb") or "", path=(other or {}).get("path") or "/")
        allowed, reason = self._authorizer.authorize(user, attributes)
        status: JSON = {"allowed": allowed}
        if reason:
            status["reason"] = reason
        return status

    async def _decode(self, request: Request, user: UserInfo, served: Served) -> tuple[JSON, list[str]]:
        ctx = self._writing.context(request, user, served, write_options("create", request.query))
        review = self._writing.decode(ctx, served.kind, request.body, request.content_type)
        if served.resource.namespaced:
            review.setdefault("metadata", {})["namespace"] = request.namespace
        self._writing.own(ctx, served.kind, review)
        await self._writing.admit(ctx, served, review)
        return review, ctx.warnings

    def _refuse(self, served: Served, causes: list[Cause]) -> None:
        if causes:
            raise errors.invalid(served.resource.kind, "", causes, group=served.resource.group)

    def _answer(self, request: Request, served: Served, review: JSON, status: JSON, warnings: list[str]) -> Response:
        answer = {
            "kind": served.resource.kind,
            "apiVersion": served.resource.api_version,
            "metadata": review.get("metadata") or {},
            "spec": review.get("spec") or {},
            "status": status,
        }
        return self._writing.review(answer, request, served, warnings)


def _spec_causes(spec: JSON) -> list[Cause]:
    resource, other = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if resource is not None and other is not None:
        detail = "cannot be specified in combination with resourceAttributes"
        return [FieldError.invalid("spec.nonResourceAttributes", other, detail)]
    if resource is None and other is None:
        detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        return [FieldError.invalid("spec.resourceAttributes", None, detail)]
    return []
