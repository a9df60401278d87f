"""SubjectAccessReview and its relatives: what may somebody do?"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from kubecore import _native
from kubecore.api import errors
from kubecore.api.errors import aggregated
from kubecore.apiserver.authorization.authorizer import Attributes, Authorizer
from kubecore.apiserver.handlers.failing import telling
from kubecore.apiserver.handlers.request import Request, Response
from kubecore.apiserver.registry import lifecycle
from kubecore.apiserver.registry.options import write_options
from kubecore.apiserver.registry.validation.access_reviews import validate_access_review

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubecore._native import UserInfo
    from kubecore.apiserver.handlers.served import Served
    from kubecore.apiserver.handlers.writing import Writing

JSON = dict[str, Any]


class AccessReviews:
    def __init__(self, writing: Writing, authorizer: Authorizer) -> None:
        self._writing = writing
        self._authorizer = authorizer

    async def subject(self, request: Request, user: UserInfo, served: Served) -> Response:
        """SubjectAccessReview, and LocalSubjectAccessReview within a namespace."""
        review, warnings = await self._review(request, user, served)
        spec = review.get("spec") or {}
        subject = _native.UserInfo(
            spec.get("user") or "", spec.get("uid") or "", spec.get("groups") or [], spec.get("extra") or {}
        )
        return self._answer(request, served, review, await self._judge(subject, spec), warnings)

    async def self_subject(self, request: Request, user: UserInfo, served: Served) -> Response:
        """SelfSubjectAccessReview (`kubectl auth can-i`)."""
        review, warnings = await self._review(request, user, served)
        spec = review.get("spec") or {}
        return self._answer(request, served, review, await self._judge(user, spec), warnings)

    async def rules(self, request: Request, user: UserInfo, served: Served) -> Response:
        """SelfSubjectRulesReview (`kubectl auth can-i --list`)."""
        review, warnings = await self._decode(request, user, served, _check_namespace)
        namespace = review["spec"]["namespace"]
        held = self._authorizer.rules(user, namespace)
        resource_rules, non_resource_rules = [], []
        for rule in held.rules:
            if rule.get("nonResourceURLs"):
                non_resource_rules.append({"verbs": rule["verbs"], "nonResourceURLs": rule["nonResourceURLs"]})
            if rule.get("resources"):
                names = ("verbs", "apiGroups", "resources", "resourceNames")
                resource_rules.append({name: rule[name] for name in names if rule.get(name)})
        status: JSON = {
            "resourceRules": resource_rules,
            "nonResourceRules": non_resource_rules,
            "incomplete": held.incomplete,
        }
        if held.failures:
            status["evaluationError"] = aggregated(held.failures)
        # Upstream's answer says nothing of the question.
        return self._answer(request, served, {}, status, warnings)

    async def _judge(self, user: UserInfo, spec: JSON) -> JSON:
        resource, other = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
        problems: list[str] = []
        if resource is not None:
            fields, labels, problems = _selectors(resource)
            attributes = Attributes(
                resource.get("verb") or "",
                resource.get("group") or "",
                resource.get("version") or "*",
                resource.get("resource") or "",
                resource.get("subresource") or "",
                resource.get("namespace") or "",
                resource.get("name") or "",
                "",
                fields,
                labels,
            )
        else:
            attributes = Attributes((other or {}).get("verb") or "", path=(other or {}).get("path") or "/")
        decision = await self._authorizer.decide(user, attributes)
        status: JSON = {"allowed": decision.allowed}
        if decision.denied:
            status["denied"] = True
        if decision.reason:
            status["reason"] = decision.reason
        if told := "; ".join(filter(None, [decision.error, *problems])):
            status["evaluationError"] = told
        return status

    async def _decode(
        self, request: Request, user: UserInfo, served: Served, judge: Callable[[JSON], None]
    ) -> tuple[JSON, list[str]]:
        """What is asked; `judge` raises what is wrong with it."""
        ctx = self._writing.context(request, user, served, write_options("create", request.query))
        review = self._writing.decode(ctx, served.kind, request.body, request.content_type)
        with telling(ctx.warnings):
            lifecycle.place(ctx, served.resource, review.setdefault("metadata", {}))
            self._writing.own(ctx, served.kind, review)
            await self._writing.admit(ctx, served, review, judge=partial(judge, review), reviews=True)
        return review, ctx.warnings

    async def _review(self, request: Request, user: UserInfo, served: Served) -> tuple[JSON, list[str]]:
        namespaced, of_oneself = served.resource.namespaced, served.resource.plural.startswith("self")

        def judge(review: JSON) -> None:
            causes = validate_access_review(review, of_oneself=of_oneself, namespaced=namespaced)
            if causes:
                # Upstream says of which group it is, and not of which kind.
                raise errors.invalid("", "", causes, group=served.resource.group)

        return await self._decode(request, user, served, judge)

    def _answer(self, request: Request, served: Served, review: JSON, status: JSON, warnings: list[str]) -> Response:
        answer = {
            "kind": served.resource.kind,
            "apiVersion": served.resource.api_version,
            "metadata": review.get("metadata") or {},
            "spec": review.get("spec") or {},
            "status": status,
        }
        return self._writing.review(answer, request, served, warnings)


def _check_namespace(review: JSON) -> None:
    if not (review.get("spec") or {}).get("namespace"):
        raise errors.bad_request("no namespace on request")


def _selectors(attributes: JSON) -> tuple[str, str, list[str]]:
    """Field and label selector as texts, and what is to be told of what could not be taken from them: what is left out
    makes the question a broader one."""
    texts, problems = [], []
    for name, parse, term in (
        ("fieldSelector", _native.FieldSelector.parse, _field_term),
        ("labelSelector", _native.LabelSelector.parse, _label_term),
    ):
        given = attributes.get(name) or {}
        raw, wanted = given.get("rawSelector") or "", given.get("requirements") or []
        terms = [raw] if raw else [one for requirement in wanted if (one := term(requirement)) is not None]
        lost = len(terms) < len(wanted)
        try:
            parse(text := ",".join(terms))
        except ValueError:
            text, lost = "", True
        texts.append(text)
        if lost:
            how = "partially ignored" if text else "ignored"
            problems.append(f"spec.resourceAttributes.{name} {how} due to parse error")
    return texts[0], texts[1], problems


def _field_term(requirement: JSON) -> str | None:
    values = requirement.get("values") or []
    operator = {"In": "=", "NotIn": "!="}.get(requirement.get("operator") or "")
    if operator is None or len(values) != 1:
        return None
    escaped = values[0].replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")
    return f"{requirement.get('key') or ''}{operator}{escaped}"


def _label_term(requirement: JSON) -> str | None:
    key, values = requirement.get("key") or "", requirement.get("values") or []
    match requirement.get("operator"), bool(values):
        case "In", True:
            term = f"{key} in ({','.join(values)})"
        case "NotIn", True:
            term = f"{key} notin ({','.join(values)})"
        case "Exists", False:
            term = key
        case "DoesNotExist", False:
            term = f"!{key}"
        case _:
            return None
    try:
        _native.LabelSelector.parse(term)
    except ValueError:
        return None
    return term
