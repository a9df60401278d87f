"""How objects of one resource count against quotas; this base counts them one by one.

After upstream k8s.io/apiserver pkg/quota/v1 (interfaces.go, generic/evaluator.go).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from kubecore.api import amounts
from kubecore.api.amounts import Amounts

JSON = dict[str, Any]
Requirement = JSON
"""A ScopedResourceSelectorRequirement: `scopeName`, `operator` and `values`."""

CREATE, UPDATE = "CREATE", "UPDATE"


class Evaluator:
    """Of one group resource ("pods", "widgets.example.com")."""

    def __init__(self, resource_key: str, alias: str = "") -> None:
        """`alias` is the name its count had before there was `count/<resource>`."""
        self.resource_key = resource_key
        self.count = f"count/{resource_key}"
        self.names = frozenset({self.count, alias} - {""})

    def handles(self, operation: str, subresource: str) -> bool:
        """Whether such a request can change what is used."""
        return operation == CREATE and not subresource

    def changes(self, obj: JSON, old: JSON | None, subresource: str) -> bool:
        """Whether a request that is handled does so with these objects."""
        return True

    def matching(self, names: Iterable[str]) -> list[str]:
        """Those of a quota's names that this resource counts against."""
        return [name for name in names if name in self.names]

    def in_scope(self, requirement: Requirement, obj: JSON) -> bool:
        return False

    def lacking(self, names: Iterable[str], obj: JSON) -> str:
        """What an object must say, so that it can be counted against these names, and does not; "" for nothing."""
        return ""

    def usage(self, obj: JSON) -> Amounts:
        """What the object takes."""
        return dict.fromkeys(self.names, amounts.ONE)


def requirements(quota: JSON) -> Iterator[Requirement]:
    """All of a quota's scopes."""
    spec = quota.get("spec") or {}
    for scope in spec.get("scopes") or ():
        yield {"scopeName": scope, "operator": "Exists"}
    yield from (spec.get("scopeSelector") or {}).get("matchExpressions") or ()


def in_scopes(evaluator: Evaluator, quota: JSON, obj: JSON) -> bool:
    return all(evaluator.in_scope(requirement, obj) for requirement in requirements(quota))


def selects(requirement: Requirement, values: Iterable[str]) -> bool:
    """Whether one of the values, or their absence, is what a requirement asks for (as label selectors do)."""
    found, operator, wanted = list(values), requirement.get("operator"), requirement.get("values") or ()
    if operator == "Exists":
        return bool(found)
    if operator == "DoesNotExist":
        return not found
    if operator == "In":
        return any(one in wanted for one in found)
    return not found or any(one not in wanted for one in found)
