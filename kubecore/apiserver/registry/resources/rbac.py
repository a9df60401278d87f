"""Roles and bindings: names are path segments, the role a binding names never changes.

After upstream pkg/apis/rbac/{v1/defaults,validation/validation}.go.
"""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause, FieldError
from kubecore.apiserver.registry.strategy import RequestContext, Strategy
from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.labels import validate_label_selector
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

GROUP = "rbac.authorization.k8s.io"


class RoleStrategy(Strategy):
    """Roles and ClusterRoles."""

    tracks_generation = False
    allow_create_on_update = True
    name_errors = staticmethod(names.path_segment)

    def __init__(self, *, namespaced: bool) -> None:
        self._namespaced = namespaced

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems = Problems()
        for index, rule in enumerate(obj.get("rules") or []):
            _rule(problems, rule, f"rules[{index}]", namespaced=self._namespaced)
        if obj.get("aggregationRule") is not None:
            _aggregation(problems, obj["aggregationRule"])
        return problems


def _aggregation(problems: Problems, aggregation: JSON) -> None:
    path, selectors = "aggregationRule.clusterRoleSelectors", aggregation.get("clusterRoleSelectors") or []
    if not selectors:
        problems.required(path, "at least one clusterRoleSelector required if aggregationRule is non-nil")
    for index, selector in enumerate(selectors):
        before = len(problems)
        validate_label_selector(problems, selector, f"{path}[{index}]")
        if len(problems) > before:
            problems.invalid(f"{path}[{index}]", selector, "invalid label selector.")


def _rule(problems: Problems, rule: JSON, path: str, *, namespaced: bool) -> None:
    if not rule.get("verbs"):
        problems.required(f"{path}.verbs", "verbs must contain at least one value")
    if rule.get("nonResourceURLs"):
        if namespaced:
            detail = "namespaced rules cannot apply to non-resource URLs"
            problems.invalid(f"{path}.nonResourceURLs", rule["nonResourceURLs"], detail)
        if rule.get("apiGroups") or rule.get("resources") or rule.get("resourceNames"):
            detail = "rules cannot apply to both regular resources and non-resource URLs"
            problems.invalid(f"{path}.nonResourceURLs", rule["nonResourceURLs"], detail)
        return
    if not rule.get("apiGroups"):
        problems.required(f"{path}.apiGroups", "resource rules must supply at least one api group")
    if not rule.get("resources"):
        problems.required(f"{path}.resources", "resource rules must supply at least one resource")


class BindingStrategy(Strategy):
    """RoleBindings and ClusterRoleBindings."""

    tracks_generation = False
    allow_create_on_update = True
    name_errors = staticmethod(names.path_segment)

    def __init__(self, *, namespaced: bool) -> None:
        self._namespaced = namespaced

    def default(self, obj: JSON) -> None:
        reference = obj.get("roleRef")
        if isinstance(reference, dict) and not reference.get("apiGroup"):
            reference["apiGroup"] = GROUP
        for subject in obj.get("subjects") or []:
            if not subject.get("apiGroup") and subject.get("kind") in ("User", "Group"):
                subject["apiGroup"] = GROUP

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems = Problems()
        reference = obj.get("roleRef") or {}
        if reference.get("apiGroup") != GROUP:
            problems.unsupported("roleRef.apiGroup", reference.get("apiGroup") or "", [GROUP])
        kinds = ["Role", "ClusterRole"] if self._namespaced else ["ClusterRole"]
        if reference.get("kind") not in kinds:
            problems.unsupported("roleRef.kind", reference.get("kind") or "", kinds)
        if not reference.get("name"):
            problems.required("roleRef.name")
        else:
            problems.check("roleRef.name", reference["name"], names.path_segment)
        for index, subject in enumerate(obj.get("subjects") or []):
            _subject(problems, subject, f"subjects[{index}]", namespaced=self._namespaced)
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        if obj.get("roleRef") == old.get("roleRef"):
            return []
        # Upstream shows its internal type, whose fields have Go's names.
        named = obj.get("roleRef") or {}
        shown = {go: named.get(own) or "" for go, own in (("APIGroup", "apiGroup"), ("Kind", "kind"), ("Name", "name"))}
        return [FieldError.invalid("roleRef", shown, "cannot change roleRef")]


def _subject(problems: Problems, subject: JSON, path: str, *, namespaced: bool) -> None:
    kind, name = subject.get("kind") or "", subject.get("name") or ""
    if not name:
        problems.required(f"{path}.name")
    if kind == "ServiceAccount":
        if name:
            problems.check(f"{path}.name", name, names.dns_subdomain)
        if subject.get("apiGroup"):
            problems.unsupported(f"{path}.apiGroup", subject["apiGroup"], [""])
        if not subject.get("namespace") and not namespaced:
            problems.required(f"{path}.namespace")
    elif kind in ("User", "Group"):
        if subject.get("apiGroup") != GROUP:
            problems.unsupported(f"{path}.apiGroup", subject.get("apiGroup") or "", [GROUP])
    else:
        problems.unsupported(f"{path}.kind", kind, ["ServiceAccount", "User", "Group"])


def strategy(plural: str) -> Strategy:
    """The strategy of `roles`, `clusterroles`, `rolebindings` or `clusterrolebindings`."""
    namespaced = not plural.startswith("cluster")
    made: Strategy = (RoleStrategy if plural.endswith("roles") else BindingStrategy)(namespaced=namespaced)
    made.resource_key = f"{plural}.{GROUP}"
    return made
