"""FlowSchemas and PriorityLevelConfigurations. After kubernetes `pkg/apis/flowcontrol/validation/validation.go`."""

from __future__ import annotations

import math
from typing import Any

from kubecore.apiserver.registry.equality import same
from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

_MOST_PRECEDENCE, _MOST_QUEUES = 10_000, 10_000_000
# Bits of a request's hash that dealing queues may use up.
_HASH_BITS = 60
_DISTINGUISHERS = ("ByNamespace", "ByUser")
_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch")
# The kind of a subject, and the field that names it.
_SUBJECTS = {"Group": "group", "ServiceAccount": "serviceAccount", "User": "user"}

_EVERYTHING: JSON = {
    "resourceRules": [
        {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": True, "namespaces": ["*"]}
    ],
    "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
}


def _groups(*wanted: str) -> list[JSON]:
    return [{"kind": "Group", "group": {"name": name}} for name in wanted]


# Objects that every server relies on (k8s.io/apiserver `pkg/apis/flowcontrol/bootstrap`).
_FIXED_SCHEMAS: dict[str, JSON] = {
    "exempt": {
        "priorityLevelConfiguration": {"name": "exempt"},
        "matchingPrecedence": 1,
        "rules": [{"subjects": _groups("system:masters"), **_EVERYTHING}],
    },
    "catch-all": {
        "priorityLevelConfiguration": {"name": "catch-all"},
        "matchingPrecedence": _MOST_PRECEDENCE,
        "distinguisherMethod": {"type": "ByUser"},
        "rules": [{"subjects": _groups("system:unauthenticated", "system:authenticated"), **_EVERYTHING}],
    },
}
_CATCH_ALL_LEVEL: JSON = {
    "type": "Limited",
    "limited": {"nominalConcurrencyShares": 5, "lendablePercent": 0, "limitResponse": {"type": "Reject"}},
}


# --- flow schemas


def validate_flow_schema(problems: Problems, name: str, spec: JSON) -> None:
    _precedence(problems, name, spec.get("matchingPrecedence") or 0)
    method = spec.get("distinguisherMethod")
    if method is not None and method.get("type") not in _DISTINGUISHERS:
        # Upstream shows the whole, by the name of its field in Go.
        shown = {"Type": method.get("type") or ""}
        problems.unsupported("spec.distinguisherMethod.type", shown, _DISTINGUISHERS)
    path, level = "spec.priorityLevelConfiguration.name", (spec.get("priorityLevelConfiguration") or {}).get("name")
    if not level:
        problems.required(path, "must reference a priority level")
    else:
        problems.check(path, level, names.dns_subdomain)
    for index, rule in enumerate(spec.get("rules") or []):
        _rule(problems, rule, f"spec.rules[{index}]")
    if name in _FIXED_SCHEMAS and not same(spec, _FIXED_SCHEMAS[name]):
        problems.invalid("spec", spec, f"spec of '{name}' must equal the fixed value")


def _precedence(problems: Problems, name: str, precedence: int) -> None:
    path = "spec.matchingPrecedence"
    if precedence <= 0:
        problems.invalid(path, precedence, "must be a positive value")
    if precedence > _MOST_PRECEDENCE:
        problems.invalid(path, precedence, f"must not be greater than {_MOST_PRECEDENCE}")
    if precedence == 1 and name != "exempt":
        problems.invalid(path, precedence, "only the schema named 'exempt' may have matchingPrecedence 1")


def _rule(problems: Problems, rule: JSON, path: str) -> None:
    subjects, resources, others = (rule.get(field) or [] for field in ("subjects", "resourceRules", "nonResourceRules"))
    if not subjects:
        problems.required(f"{path}.subjects", "subjects must contain at least one value")
    for index, subject in enumerate(subjects):
        _subject(problems, subject, f"{path}.subjects[{index}]")
    if not resources and not others:
        problems.required(path, "at least one of resourceRules and nonResourceRules has to be non-empty")
    for index, one in enumerate(resources):
        _resource_rule(problems, one, f"{path}.resourceRules[{index}]")
    for index, one in enumerate(others):
        _non_resource_rule(problems, one, f"{path}.nonResourceRules[{index}]")


def _subject(problems: Problems, subject: JSON, path: str) -> None:
    kind = subject.get("kind") or ""
    if kind not in _SUBJECTS:
        problems.unsupported(f"{path}.kind", kind, tuple(_SUBJECTS))
        return
    for other, field in _SUBJECTS.items():
        named, where = subject.get(field), f"{path}.{field}"
        if other != kind:
            if named is not None:
                problems.forbidden(where, f"{field} is forbidden when subject kind is not '{other}'")
        elif named is None:
            problems.required(where, f"{field} is required when subject kind is '{kind}'")
        elif kind == "ServiceAccount":
            _service_account(problems, named, where)
        elif not named.get("name"):
            problems.required(f"{where}.name")


def _service_account(problems: Problems, account: JSON, path: str) -> None:
    if account.get("name") != "*":
        problems.check_needed(f"{path}.name", account.get("name"), names.dns_subdomain)
    if not account.get("namespace"):
        problems.required(f"{path}.namespace", "must specify namespace for service account")
    else:
        problems.check(f"{path}.namespace", account["namespace"], names.dns_label)


def _verbs(problems: Problems, verbs: list[str], path: str) -> None:
    if not verbs:
        problems.required(path, "verbs must contain at least one value")
    elif "*" in verbs:
        _alone(problems, verbs, path, "verbs")
    elif not set(verbs) <= set(_VERBS):
        problems.unsupported(path, verbs, _VERBS)


def _alone(problems: Problems, values: list[str], path: str, what: str) -> None:
    if len(values) > 1 and "*" in values:
        problems.invalid(path, values, f"if '*' is present, must not specify other {what}")


def _resource_rule(problems: Problems, rule: JSON, path: str) -> None:
    _verbs(problems, rule.get("verbs") or [], f"{path}.verbs")
    for field, one, more in (("apiGroups", "api group", "api groups"), ("resources", "resource", "resources")):
        if not rule.get(field):
            problems.required(f"{path}.{field}", f"resource rules must supply at least one {one}")
        _alone(problems, rule.get(field) or [], f"{path}.{field}", more)
    path, namespaces = f"{path}.namespaces", rule.get("namespaces") or []
    if not namespaces and not rule.get("clusterScope"):
        detail = "resource rules that are not cluster scoped must supply at least one namespace"
        problems.required(path, detail)
    _alone(problems, namespaces, path, "namespaces")
    for index, namespace in enumerate(namespaces if "*" not in namespaces else ()):
        for error in names.dns_label(namespace):
            detail = f"each member of this list must be '*' or a DNS-1123 label; {error}"
            problems.invalid(f"{path}[{index}]", namespace, detail)


def _non_resource_rule(problems: Problems, rule: JSON, path: str) -> None:
    _verbs(problems, rule.get("verbs") or [], f"{path}.verbs")
    path, urls = f"{path}.nonResourceURLs", rule.get("nonResourceURLs") or []
    if not urls:
        problems.required(path, "nonResourceURLs must contain at least one value")
    _alone(problems, urls, path, "non-resource URLs")
    for index, url in enumerate(urls if "*" not in urls else ()):
        if wrong := _wrong_url(url):
            problems.invalid(f"{path}[{index}]", url, wrong)


def _wrong_url(path: str) -> str:
    """What is wrong with a path that is no resource's; it may end with `/*`."""
    if not path:
        return "must not be empty"
    if not path.startswith("/"):
        return "must start with slash"
    if " " in path:
        return "must not contain white-space"
    if "//" in path:
        return "must not contain double slash"
    if "*" in path.removesuffix("/*"):
        return "wildcard can only do suffix matching"
    return ""


# --- priority levels


def validate_priority_level(problems: Problems, name: str, spec: JSON) -> None:
    kind, limited, exempt = spec.get("type") or "", spec.get("limited"), spec.get("exempt")
    if (name == "exempt") != (kind == "Exempt"):
        problems.invalid("spec.type", kind, "must be 'Exempt' if and only if `name` is 'exempt'")
    if kind == "Exempt":
        if limited is not None:
            problems.forbidden("spec.limited", "must be nil if the type is not Limited")
        _shares(problems, exempt or {}, "spec.exempt")
        _lent(problems, exempt or {}, "spec.exempt")
    elif kind == "Limited":
        if exempt is not None:
            problems.forbidden("spec.exempt", "must be nil if the type is Limited")
        if limited is None:
            problems.required("spec.limited", "must not be empty when type is Limited")
        else:
            _limited(problems, limited)
    else:
        problems.unsupported("spec.type", kind, ("Exempt", "Limited"))
    if name == "exempt" and not same({**spec, "exempt": None}, {"type": "Exempt"}):
        detail = f"spec of '{name}' except the 'spec.exempt' field must equal the fixed value"
        problems.invalid("spec", spec, detail)
    if name == "catch-all" and not same(spec, _CATCH_ALL_LEVEL):
        problems.invalid("spec", spec, f"spec of '{name}' must equal the fixed value")


def _shares(problems: Problems, holder: JSON, path: str) -> None:
    shares = holder.get("nominalConcurrencyShares") or 0
    if shares < 0:
        problems.invalid(f"{path}.nominalConcurrencyShares", shares, "must be a non-negative integer")


def _lent(problems: Problems, holder: JSON, path: str) -> None:
    problems.between(f"{path}.lendablePercent", holder.get("lendablePercent"), 0, 100)


def _limited(problems: Problems, limited: JSON) -> None:
    _shares(problems, limited, "spec.limited")
    _response(problems, limited)
    _lent(problems, limited, "spec.limited")
    borrowed = limited.get("borrowingLimitPercent")
    if borrowed is not None and borrowed < 0:
        detail = "if specified, must be a non-negative integer"
        problems.invalid("spec.limited.borrowingLimitPercent", borrowed, detail)


def _response(problems: Problems, limited: JSON) -> None:
    path, response = "spec.limited.limitResponse", limited.get("limitResponse") or {}
    kind, queuing = response.get("type") or "", response.get("queuing")
    if kind == "Reject":
        if queuing is not None:
            problems.forbidden(f"{path}.queuing", "must be nil if limited.limitResponse.type is not Limited")
    elif kind == "Queue":
        if queuing is None:
            problems.required(f"{path}.queuing", "must not be empty if limited.limitResponse.type is Limited")
        else:
            _queuing(problems, queuing, f"{path}.queuing")
    else:
        problems.unsupported(f"{path}.type", kind, ("Queue", "Reject"))


def _queuing(problems: Problems, queuing: JSON, path: str) -> None:
    queues, hand = queuing.get("queues") or 0, queuing.get("handSize") or 0
    for field in ("queueLengthLimit", "queues", "handSize"):
        if (queuing.get(field) or 0) <= 0:
            problems.invalid(f"{path}.{field}", queuing.get(field) or 0, "must be positive")
    if queues > _MOST_QUEUES:
        problems.invalid(f"{path}.queues", queues, f"must not be greater than {_MOST_QUEUES}")
    if hand <= 0:
        return
    if hand > queues:
        problems.invalid(f"{path}.handSize", hand, f"should not be greater than queues ({queues})")
    elif math.ceil(math.log2(queues) * hand) > _HASH_BITS:
        bits = f"required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {_HASH_BITS}"
        problems.invalid(f"{path}.handSize", hand, bits)


# --- status of both


def validate_flow_status(problems: Problems, status: JSON) -> None:
    taken: set[str] = set()
    for index, condition in enumerate(status.get("conditions") or []):
        path, kind = f"status.conditions[{index}].type", condition.get("type") or ""
        if kind in taken:
            problems.duplicate(path, kind)
        taken.add(kind)
        if not kind:
            problems.required(path)
