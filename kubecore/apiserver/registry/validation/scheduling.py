"""Where pods may run: affinity, tolerations, topology spread, gates."""

from __future__ import annotations

from typing import Any

from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.labels import (
    validate_label_selector,
    validate_node_selector,
    validate_node_selector_term,
)
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def validate_tolerations(problems: Problems, tolerations: list[JSON], path: str) -> None:
    for index, toleration in enumerate(tolerations):
        where = f"{path}[{index}]"
        key, operator, value = toleration.get("key"), toleration.get("operator"), toleration.get("value")
        if key:
            problems.check(f"{where}.key", key, names.qualified_name)
        elif operator != "Exists":
            detail = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
            problems.invalid(f"{where}.operator", operator or "", detail)
        effect = toleration.get("effect")
        if toleration.get("tolerationSeconds") is not None and effect != "NoExecute":
            detail = "effect must be 'NoExecute' when `tolerationSeconds` is set"
            problems.invalid(f"{where}.effect", effect or "", detail)
        match operator:
            case "Equal" | "" | None:
                errors = names.label_value(value or "")
                if errors:
                    problems.invalid(f"{where}.operator", value, ";".join(errors))
            case "Exists":
                if value:
                    detail = "value must be empty when `operator` is 'Exists'"
                    problems.invalid(f"{where}.operator", value, detail)
            case "Lt" | "Gt":
                problems.unsupported(f"{where}.operator", operator, ("Equal", "Exists", "Lt", "Gt"))
            case _:
                problems.unsupported(f"{where}.operator", operator, ("Equal", "Exists"))
        problems.one_of(f"{where}.effect", effect, _EFFECTS)


def validate_affinity(problems: Problems, affinity: JSON | None, path: str) -> None:
    if not affinity:
        return
    node = affinity.get("nodeAffinity") or {}
    if node.get(_REQUIRED) is not None:
        validate_node_selector(problems, node[_REQUIRED], f"{path}.nodeAffinity.{_REQUIRED}")
    for index, preferred in enumerate(node.get(_PREFERRED) or []):
        where = f"{path}.nodeAffinity.{_PREFERRED}[{index}]"
        _weight(problems, preferred, where)
        term = preferred.get("preference") or {}
        validate_node_selector_term(problems, term, f"{where}.preference", lenient=True)
    for kind in ("podAffinity", "podAntiAffinity"):
        terms = affinity.get(kind) or {}
        for index, term in enumerate(terms.get(_REQUIRED) or []):
            _pod_term(problems, term, f"{path}.{kind}.{_REQUIRED}[{index}]")
        for index, preferred in enumerate(terms.get(_PREFERRED) or []):
            where = f"{path}.{kind}.{_PREFERRED}[{index}]"
            _weight(problems, preferred, where)
            _pod_term(problems, preferred.get("podAffinityTerm") or {}, f"{where}.podAffinityTerm")


def _weight(problems: Problems, preferred: JSON, path: str) -> None:
    weight = preferred.get("weight") or 0
    if not 1 <= weight <= 100:
        problems.invalid(f"{path}.weight", weight, "must be in the range 1-100")


def _pod_term(problems: Problems, term: JSON, path: str) -> None:
    validate_label_selector(problems, term.get("labelSelector"), f"{path}.labelSelector")
    validate_label_selector(problems, term.get("namespaceSelector"), f"{path}.namespaceSelector")
    for namespace in term.get("namespaces") or []:
        problems.check(f"{path}.namespace", namespace, names.dns_label)
    _label_keys(problems, term, path)
    key = term.get("topologyKey") or ""
    if not key:
        problems.required(f"{path}.topologyKey", "can not be empty")
    problems.check(f"{path}.topologyKey", key, names.qualified_name)


def _label_keys(problems: Problems, term: JSON, path: str) -> None:
    """Keys whose values are the new pod's own; they have been added to the selector already."""
    match, mismatch, selector = (
        term.get("matchLabelKeys") or [],
        term.get("mismatchLabelKeys") or [],
        term.get("labelSelector"),
    )
    for field, keys in (("matchLabelKeys", match), ("mismatchLabelKeys", mismatch)):
        if keys and selector is None:
            problems.forbidden(f"{path}.{field}", "must not be specified when labelSelector is not set")
            continue
        for index, key in enumerate(keys):
            problems.check(f"{path}.{field}[{index}]", key, names.qualified_name)
    if match and selector is not None:
        selected = set(selector.get("matchLabels") or {})
        places = {key: index for index, key in enumerate(match)}
        for expression in selector.get("matchExpressions") or []:
            key = expression.get("key") or ""
            if key in places and key in selected:
                problems.invalid(f"{path}[{places[key]}]", key, "exists in both matchLabelKeys and labelSelector")
            selected.add(key)
    others = set(mismatch)
    for index, key in enumerate(match):
        if key in others:
            detail = "exists in both matchLabelKeys and mismatchLabelKeys"
            problems.invalid(f"{path}.matchLabelKeys[{index}]", key, detail)


def validate_topology_spread(problems: Problems, constraints: list[JSON], path: str) -> None:
    kinds = [(one.get("topologyKey") or "", one.get("whenUnsatisfiable") or "") for one in constraints]
    last = {kind: index for index, kind in enumerate(kinds)}
    for index, constraint in enumerate(constraints):
        where = f"{path}[{index}]"
        skew, (key, when) = constraint.get("maxSkew") or 0, kinds[index]
        if skew <= 0:
            problems.invalid(f"{where}.maxSkew", skew, names.POSITIVE)
        if not key:
            problems.required(f"{where}.topologyKey", "can not be empty")
        if when not in ("DoNotSchedule", "ScheduleAnyway"):
            problems.unsupported(f"{where}.whenUnsatisfiable", when, ("DoNotSchedule", "ScheduleAnyway"))
        if last[kinds[index]] > index:
            problems.duplicate(f"{where}.{{topologyKey, whenUnsatisfiable}}", f"{{{key}, {when}}}")
        minimum = constraint.get("minDomains")
        if minimum is not None:
            if minimum <= 0:
                problems.invalid(f"{where}.minDomains", minimum, names.POSITIVE)
            if when != "DoNotSchedule":
                detail = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {when}"
                problems.invalid(f"{where}.minDomains", minimum, detail)
        for field in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
            policy = constraint.get(field)
            if policy is not None and policy not in ("Honor", "Ignore"):
                problems.unsupported(f"{where}.{field}", policy, ("Honor", "Ignore"))
        _label_keys(problems, {**constraint, "mismatchLabelKeys": None}, where)
        validate_label_selector(problems, constraint.get("labelSelector"), f"{where}.labelSelector")


def validate_gates(problems: Problems, spec: JSON, path: str) -> None:
    """Readiness gates and scheduling gates."""
    for index, gate in enumerate(spec.get("readinessGates") or []):
        where = f"{path}.readinessGates[{index}].conditionType"
        problems.check(where, gate.get("conditionType") or "", names.qualified_name)
    taken: set[str] = set()
    for index, gate in enumerate(spec.get("schedulingGates") or []):
        name, where = gate.get("name") or "", f"{path}.schedulingGates[{index}]"
        problems.check(where, name, names.qualified_name)
        if name in taken:
            problems.duplicate(where, name)
        taken.add(name)


def validate_taints(problems: Problems, taints: list[JSON], path: str) -> None:
    """The taints of a node."""
    taken: set[tuple[str, str]] = set()
    for index, taint in enumerate(taints):
        where, key, effect = f"{path}[{index}]", taint.get("key") or "", taint.get("effect") or ""
        problems.check(f"{where}.key", key, names.qualified_name)
        errors = names.label_value(taint.get("value") or "")
        if errors:
            problems.invalid(f"{where}.value", taint["value"], ";".join(errors))
        problems.one_of(f"{where}.effect", effect, _EFFECTS, required=True)
        if (key, effect) in taken:
            problems.duplicate(where, taint, "taints must be unique by key and effect pair")
        taken.add((key, effect))
