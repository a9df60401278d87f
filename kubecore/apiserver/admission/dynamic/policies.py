"""Policies with their bindings, ready to judge and to change requests.

After upstream k8s.io/apiserver pkg/admission/plugin/policy/{validating,mutating}/{plugin,compilation}.go and
generic/policy_source.go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kubecore import _native
from kubecore.api.scheme import split_group_version
from kubecore.api.selectors import Selector
from kubecore.apiserver.admission.dynamic.rules import Match

JSON = dict[str, Any]

_NO_BUDGET = "validation failed due to running out of cost budget"


@dataclass(frozen=True, slots=True)
class ParamKind:
    group: str
    version: str
    kind: str

    def __str__(self) -> str:
        """As Go prints a GroupVersionKind."""
        return f"{self.group}/{self.version}, Kind={self.kind}"


@dataclass(frozen=True, slots=True)
class ParamRef:
    """Either a name or a selector."""

    name: str
    namespace: str
    selector: Selector | None
    denies_absence: bool


@dataclass(frozen=True, slots=True, eq=False)
class Binding:
    name: str
    match: Match | None
    params: ParamRef | None
    actions: tuple[str, ...]
    """Of a validating policy."""


@dataclass(frozen=True, slots=True)
class Validation:
    """`message` is what is said when there is no `message_at`, the place of its expression among all."""

    message: str
    reason: str
    message_at: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """All expressions are in `rules`: conditions first, then validations or mutations, and what else there is."""

    name: str
    match: Match
    rules: _native.AdmissionRules
    conditions: tuple[int, ...]
    ignores_failure: bool
    param_kind: ParamKind | None
    bindings: tuple[Binding, ...]
    validations: Mapping[int, Validation] = field(default_factory=dict)
    """By the places of their expressions."""
    annotations: Mapping[int, str] = field(default_factory=dict)
    """Keys of audit annotations, by the places of their expressions."""
    mutations: tuple[tuple[int, str], ...] = ()
    """Places of expressions and the types of patches they make, in order."""
    reinvoked: bool = False
    places: list[int] = field(init=False)
    """Of the validations."""
    is_plain: bool = field(init=False)
    """It is for all requests that it matches, and its validations are all there is to it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "places", list(self.validations))
        more = self.param_kind is not None or self.conditions or self.annotations
        plain = not more and all(binding.match is None for binding in self.bindings)
        object.__setattr__(self, "is_plain", plain)


class _Expressions:
    """Gathers the expressions of a policy, giving each its place."""

    def __init__(self) -> None:
        self.all: list[tuple[str, str]] = []

    def add(self, purpose: str, expression: str) -> int:
        self.all.append((purpose, expression))
        return len(self.all) - 1


def error_type(message: str) -> str:
    """What metrics call the error that a policy's expression has come to."""
    if message.startswith("compilation"):
        return "compile_error"
    return "out_of_budget" if message.startswith(_NO_BUDGET) else "invalid_error"


def validating_policies(policies: Sequence[JSON], bindings: Sequence[JSON]) -> list[Policy]:
    """Those that are bound, by name."""
    return [_validating(policy, bound) for policy, bound in _bound(policies, bindings)]


def mutating_policies(policies: Sequence[JSON], bindings: Sequence[JSON]) -> list[Policy]:
    """Those that are bound, by name."""
    return [_mutating(policy, bound) for policy, bound in _bound(policies, bindings)]


def _bound(policies: Sequence[JSON], bindings: Sequence[JSON]) -> list[tuple[JSON, tuple[Binding, ...]]]:
    by_policy: dict[str, list[Binding]] = {}
    for one in sorted(bindings, key=_name):
        by_policy.setdefault(one["spec"].get("policyName") or "", []).append(_binding(one))
    in_order = sorted(policies, key=_name)
    return [(policy, tuple(by_policy[_name(policy)])) for policy in in_order if _name(policy) in by_policy]


def _name(obj: JSON) -> str:
    return str(obj["metadata"]["name"])


def _binding(binding: JSON) -> Binding:
    spec = binding["spec"]
    match, reference = spec.get("matchResources"), spec.get("paramRef")
    return Binding(
        name=_name(binding),
        match=None if match is None else Match.of(match, "resourceRules", open=True),
        params=None if reference is None else _param_ref(reference),
        actions=tuple(spec.get("validationActions") or []),
    )


def _param_ref(reference: JSON) -> ParamRef:
    selector = reference.get("selector")
    return ParamRef(
        name=reference.get("name") or "",
        namespace=reference.get("namespace") or "",
        selector=None if selector is None else Selector.from_label_selector(selector),
        denies_absence=reference.get("parameterNotFoundAction") == "Deny",
    )


def _validating(policy: JSON, bindings: tuple[Binding, ...]) -> Policy:
    spec, expressions = policy["spec"], _Expressions()
    conditions = _conditions(spec, expressions)
    given = spec.get("validations") or []
    places = [expressions.add("validation", one["expression"]) for one in given]
    validations = {}
    for place, one in zip(places, given, strict=True):
        message_expression = one.get("messageExpression") or ""
        validations[place] = Validation(
            message=(one.get("message") or "").strip() or f"failed expression: {one['expression'].strip()}",
            reason=one.get("reason") or "Invalid",
            message_at=expressions.add("message", message_expression) if message_expression else None,
        )
    annotations = {
        expressions.add("annotation", one["valueExpression"]): one["key"] for one in spec.get("auditAnnotations") or []
    }
    return _policy(policy, bindings, expressions, conditions, validations=validations, annotations=annotations)


def _mutating(policy: JSON, bindings: tuple[Binding, ...]) -> Policy:
    spec, expressions = policy["spec"], _Expressions()
    conditions = _conditions(spec, expressions)
    mutations = []
    for one in spec.get("mutations") or []:
        applies = one["patchType"] == "ApplyConfiguration"
        held = one["applyConfiguration" if applies else "jsonPatch"]
        mutations.append((expressions.add("apply" if applies else "patch", held["expression"]), one["patchType"]))
    return _policy(
        policy,
        bindings,
        expressions,
        conditions,
        mutations=tuple(mutations),
        reinvoked=spec.get("reinvocationPolicy") == "IfNeeded",
    )


def _conditions(spec: JSON, expressions: _Expressions) -> tuple[int, ...]:
    return tuple(expressions.add("condition", one["expression"]) for one in spec.get("matchConditions") or [])


def _policy(
    policy: JSON, bindings: tuple[Binding, ...], expressions: _Expressions, conditions: tuple[int, ...], **own: Any
) -> Policy:
    spec, kind = policy["spec"], policy["spec"].get("paramKind")
    variables = [(one["name"], one["expression"]) for one in spec.get("variables") or []]
    return Policy(
        name=_name(policy),
        match=Match.of(spec.get("matchConstraints") or {}, "resourceRules", open=True),
        rules=_native.AdmissionRules(expressions.all, params=kind is not None, variables=variables),
        conditions=conditions,
        ignores_failure=spec.get("failurePolicy") == "Ignore",
        param_kind=None if kind is None else ParamKind(*split_group_version(kind["apiVersion"]), kind["kind"]),
        bindings=bindings,
        **own,
    )
