"""What is wrong with the expressions of a ValidatingAdmissionPolicy, given the types of the objects that it matches.

After upstream k8s.io/apiserver pkg/admission/plugin/policy/validating/typechecking.go. The facade of
``_native.AdmissionType``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import orjson

from kubecore._native import AdmissionType
from kubecore.api import schemas, scheme
from kubecore.api.scheme import group_version, split_group_version

JSON = dict[str, Any]

_MOST_TYPES = 10


class Kind(NamedTuple):
    group: str
    version: str
    kind: str

    def __str__(self) -> str:
        """As Go prints a GroupVersionKind."""
        return f"{self.group}/{self.version}, Kind={self.kind}"


class Types:
    """The types of kinds: built-in ones, and those of CustomResourceDefinitions."""

    def __init__(self, definitions: Iterable[JSON]) -> None:
        self._definitions = list(definitions)

    def kinds(self, group: str, version: str, plural: str) -> list[Kind]:
        """Of the objects of a resource."""
        found = scheme.default().lookup(group, version, plural)
        if found is not None:
            return [Kind(group, version, found.kind)]
        names = [(one["spec"], one["spec"]["names"]) for one in self._definitions]
        return [
            Kind(group, version, name["kind"])
            for spec, name in names
            if (spec["group"], name["plural"]) == (group, plural) and _schema(spec, version) is not None
        ]

    def of(self, kind: Kind) -> AdmissionType | None:
        """None where nothing is known of the kind."""
        if scheme.default().for_kind(*kind) is not None:
            return AdmissionType.of_kind(schemas.default(), f"{group_version(kind.group, kind.version)}/{kind.kind}")
        for one in self._definitions:
            spec = one["spec"]
            if (spec["group"], spec["names"]["kind"]) == (kind.group, kind.kind):
                schema = _schema(spec, kind.version)
                if schema is not None:
                    return AdmissionType.of_schema(orjson.dumps(schema), kind.kind)
        return None


def _schema(spec: JSON, version: str) -> JSON | None:
    found = next((one for one in spec["versions"] if one["name"] == version and one.get("served")), None)
    return None if found is None else (found.get("schema") or {}).get("openAPIV3Schema")


def expression_warnings(policy: JSON, types: Types) -> list[JSON]:
    """What `status.typeChecking.expressionWarnings` is to say."""
    spec = policy["spec"]
    known = [(kind, found) for kind in _kinds(spec, types) if (found := types.of(kind)) is not None]
    params = _params(spec, types)
    variables = [(one["name"], one["expression"]) for one in spec.get("variables") or []]
    fields, expressions = [], []
    for index, validation in enumerate(spec.get("validations") or []):
        for name in ("expression", "messageExpression"):
            if validation.get(name):
                fields.append(f"spec.validations[{index}].{name}")
                expressions.append(validation[name])
    told: list[list[str]] = [[] for _ in fields]
    for kind, type_ in known:
        for texts, fault in zip(told, type_.faults(expressions, variables=variables, params=params), strict=True):
            if fault is not None:
                texts.append(f"{kind}: {fault}\n")
    return [
        {"fieldRef": field, "warning": "\n".join(texts)} for field, texts in zip(fields, told, strict=True) if texts
    ]


def _params(spec: JSON, types: Types) -> AdmissionType | None:
    kind = spec.get("paramKind")
    return None if kind is None else types.of(Kind(*split_group_version(kind["apiVersion"]), kind["kind"]))


def _kinds(spec: JSON, types: Types) -> Sequence[Kind]:
    """Those of the rules that say without a wildcard what they are for, in order."""
    found: set[Kind] = set()
    for rule in (spec.get("matchConstraints") or {}).get("resourceRules") or []:
        groups, versions = rule.get("apiGroups") or [], rule.get("apiVersions") or []
        plurals = [one for one in rule.get("resources") or [] if "*" not in one and "/" not in one]
        if "*" in "".join([*groups, *versions]):
            continue
        for group in sorted(groups):
            for version in sorted(versions):
                for plural in sorted(plurals):
                    found.update(types.kinds(group, version, plural))
                    if len(found) >= _MOST_TYPES:
                        return sorted(found)
    return sorted(found)
