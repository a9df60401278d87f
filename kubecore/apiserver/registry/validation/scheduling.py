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

_EFFECTS = ("NoExecute", "NoSchedule", "PreferNoSchedule")
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
                problems.check(f"{where}.operator", value or "", names.label_value)
            case "Exists":
                if value:
                    detail = "value must be empty when `operator` is 'Exists'"
                    problems.invalid(f"{where}.operator", toleration, detail)
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
        validate_node_selector_term(problems, preferred.get("preference") or {}, f"{where}.preference")
    for kind in ("podAffinity", "podAntiAffinity"):
        terms = affinity.get(kind) or {}
        for index, term in enumerate(terms.get(_REQUIRED) or []):
            _pod_term(problems, term, f"{path}.{kind}.{_REQUIRED}[{index}]")
        for index, preferred in enumerate(terms.get(_PREFERRED) or []):
            where = f"{path}.{kind}.{_PREFERRED}[{index}]"
            _weight(problems, preferred, where)
            _pod_term(problems, preferred.get("podAffinityTerm") or {}, f"{where}.podAffinityTerm")


def _weight(problems: Problems, preferred: JSON, path: str) -> None:
    weight = preferred.get("weight", 0)
    if not 1 <= weight <= 100:
        problems.invalid(f"{path}.weight", weight, "must be in the range 1-100")


def _pod_term(problems: Problems, term: JSON, path: str) -> None:
    validate_label_selector(problems, term.get("labelSelector"), f"{path}.labelSelector")
    validate_label_selector(problems, term.get("namespaceSelector"), f"{path}.namespaceSelector")
    for index, namespace in enumerate(term.get("namespaces") or []):
        problems.check(f"{path}.namespaces[{index}]", namespace, names.dns_label)
    key = term.get("topologyKey")
    if not key:
        problems.required(f"{path}.topologyKey", "can not be empty")
    else:
        problems.check(f"{path}.topologyKey", key, names.qualified_name)


def validate_topology_spread(problems: Problems, constraints: list[JSON], path: str) -> None:
    taken: set[tuple[str, str]] = set()
    for index, constraint in enumerate(constraints):
        where = f"{path}[{index}]"
        skew, key = constraint.get("maxSkew", 0), constraint.get("topologyKey")
        when = constraint.get("whenUnsatisfiable")
        if skew <= 0:
            problems.invalid(f"{where}.maxSkew", skew, names.POSITIVE)
        if not key:
            problems.required(f"{where}.topologyKey", "can not be empty")
        else:
            problems.check(f"{where}.topologyKey", key, names.qualified_name)
        if when not in ("DoNotSchedule", "ScheduleAnyway"):
            problems.unsupported(f"{where}.whenUnsatisfiable", when or "", ("DoNotSchedule", "ScheduleAnyway"))
        minimum = constraint.get("minDomains")
        if minimum is not None:
            if minimum <= 0:
                problems.invalid(f"{where}.minDomains", minimum, names.POSITIVE)
            if when != "DoNotSchedule":
                detail = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {when}"
                problems.invalid(f"{where}.minDomains", minimum, detail)
        if (key or "", when or "") in taken:
            problems.duplicate(f"{where}.{{topologyKey, whenUnsatisfiable}}", f"{{{key}, {when}}}")
        taken.add((key or "", when or ""))
        for field in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
            problems.one_of(f"{where}.{field}", constraint.get(field), ("Honor", "Ignore"))
        validate_label_selector(problems, constraint.get("labelSelector"), f"{where}.labelSelector")


def validate_gates(problems: Problems, spec: JSON, path: str) -> None:
    """Readiness gates and scheduling gates."""
    for index, gate in enumerate(spec.get("readinessGates") or []):
        where = f"{path}.readinessGates[{index}].conditionType"
        problems.check(where, gate.get("conditionType", ""), names.qualified_name)
    taken: set[str] = set()
    for index, gate in enumerate(spec.get("schedulingGates") or []):
        name, where = gate.get("name", ""), f"{path}.schedulingGates[{index}]"
        problems.check(where, name, names.qualified_name)
        if name in taken:
            problems.duplicate(where, name)
        taken.add(name)


def validate_taints(problems: Problems, taints: list[JSON], path: str) -> None:
    """The taints of a node."""
    taken: set[tuple[str, str]] = set()
    for index, taint in enumerate(taints):
        where, key, effect = f"{path}[{index}]", taint.get("key", ""), taint.get("effect", "")
        problems.check(f"{where}.key", key, names.qualified_name)
        if taint.get("value"):
            problems.check(f"{where}.value", taint["value"], names.label_value)
        problems.one_of(f"{where}.effect", effect, _EFFECTS, required=True)
        if (key, effect) in taken:
            shown = {"key": key, "value": taint.get("value", ""), "effect": effect}
            problems.duplicate(where, shown)
        taken.add((key, effect))
