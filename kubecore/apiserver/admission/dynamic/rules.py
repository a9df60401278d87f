"""Which requests a webhook or a policy is for: rules, and the selectors of namespaces and objects.

After upstream k8s.io/apiserver pkg/admission/plugin/webhook/predicates and generic/webhook.go (ShouldCallHook).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from kubecore.api import errors, meta
from kubecore.api.selectors import Selector
from kubecore.apiserver.registry.codec import loads

if TYPE_CHECKING:
    from kubecore.api.scheme import Resource
    from kubecore.apiserver.admission.dynamic.subjects import Subject
    from kubecore.apiserver.storage.cacher import Cacher

JSON = dict[str, Any]

_NAMESPACES = ("", "v1", "namespaces")
_KNOWN = 4096


class Rule(NamedTuple):
    """One of `rules` or `resourceRules`; resources as (resource, subresource)."""

    operations: frozenset[str]
    groups: frozenset[str]
    versions: frozenset[str]
    resources: tuple[tuple[str, str], ...]
    scope: str
    names: frozenset[str]

    @classmethod
    def of(cls, rule: JSON) -> Rule:
        resources = [one.partition("/") for one in rule.get("resources") or []]
        return cls(
            operations=frozenset(rule.get("operations") or []),
            groups=frozenset(rule.get("apiGroups") or []),
            versions=frozenset(rule.get("apiVersions") or []),
            resources=tuple((resource, subresource) for resource, _, subresource in resources),
            scope=rule.get("scope") or "*",
            names=frozenset(rule.get("resourceNames") or []),
        )

    def matches(self, resource: Resource, subresource: str, operation: str, *, placed: bool) -> bool:
        """`placed`: the request is for a namespace, which one for a Namespace is not. Names are not looked at."""
        if self.scope != "*" and (self.scope == "Namespaced") != placed:
            return False
        if "*" not in self.operations and operation not in self.operations:
            return False
        if "*" not in self.groups and resource.group not in self.groups:
            return False
        if "*" not in self.versions and resource.version not in self.versions:
            return False
        return any((one in ("*", resource.plural)) and (part in ("*", subresource)) for one, part in self.resources)

    def names_allow(self, name: str) -> bool:
        return not self.names or name in self.names


Equivalents = Callable[["Resource"], Sequence["Resource"]]


@dataclass(frozen=True, slots=True, eq=False)
class Match:
    """Rules with their match policy, and selectors; None selects everything.

    `open`: without any rules it matches everything. What one of `excluded` is for is not matched.
    """

    rules: tuple[Rule, ...]
    excluded: tuple[Rule, ...]
    open: bool
    equivalent: bool
    namespaces: Selector | None
    objects: Selector | None

    @classmethod
    def of(cls, holder: JSON, rules: str, *, open: bool = False) -> Match:
        """Of a webhook, `matchConstraints` or `matchResources`; `rules` names the field that has them."""
        return cls(
            rules=tuple(Rule.of(one) for one in holder.get(rules) or []),
            excluded=tuple(Rule.of(one) for one in holder.get("excludeResourceRules") or []),
            open=open,
            equivalent=holder.get("matchPolicy") != "Exact",
            namespaces=_selector(holder.get("namespaceSelector")),
            objects=_selector(holder.get("objectSelector")),
        )

    @property
    def is_named(self) -> bool:
        """Whether names of objects count."""
        return any(rule.names for rule in (*self.rules, *self.excluded))

    def target(self, subject: Subject, equivalents: Equivalents) -> Resource | None:
        """The resource, in the version, that the request is seen as; None where no rule is for it."""
        if self.excluded and self._target(subject, self.excluded, equivalents) is not None:
            return None
        if self.open and not self.rules:
            return subject.resource
        return self._target(subject, self.rules, equivalents)

    def _target(self, subject: Subject, rules: Sequence[Rule], equivalents: Equivalents) -> Resource | None:
        resource = subject.resource
        placed, name = subject.placed, subject.name

        def fits(rule: Rule, one: Resource) -> bool:
            return rule.names_allow(name) and rule.matches(one, subject.subresource, subject.operation, placed=placed)

        if any(fits(rule, resource) for rule in rules):
            return resource
        if self.equivalent and rules:
            others = [one for one in equivalents(resource) if one.api_version != resource.api_version]
            for rule in rules:
                for one in others:
                    if fits(rule, one):
                        return one
        return None


def _selector(selector: JSON | None) -> Selector | None:
    """None for one that selects everything, or that is not given."""
    if selector is None:
        return None
    made = Selector.from_label_selector(selector)
    return None if made.empty else made


def is_placed(resource: Resource, namespace: str) -> bool:
    """Whether the request is for a namespace and not for the Namespace itself."""
    return bool(namespace) and (resource.group, resource.version, resource.plural) != _NAMESPACES


class Namespaces:
    """Labels of namespaces, and namespaces as they are."""

    def __init__(self, cacher: Cacher) -> None:
        self._cacher = cacher
        self._labels: dict[str, tuple[int, Mapping[str, str]]] = {}

    def stored(self, name: str) -> bytes:
        """Raises 404."""
        found = self._cacher.get("namespaces", "", name)
        if found is None:
            raise errors.not_found("", "namespaces", name)
        return found.value

    def selected(self, selector: Selector | None, subject: Subject) -> bool:
        """Raises 404 for a namespace that is not there."""
        is_namespace = subject.resource.plural == "namespaces"
        if selector is None or (not subject.namespace and not is_namespace):
            return True
        if is_namespace and not subject.subresource and subject.operation in ("CREATE", "UPDATE"):
            return selector.matches(subject.labels[0])
        return selector.matches(self._labels_of(subject.namespace))

    def _labels_of(self, name: str) -> Mapping[str, str]:
        found = self._cacher.get("namespaces", "", name)
        if found is None:
            raise errors.not_found("", "namespaces", name)
        known = self._labels.get(name)
        if known is not None and known[0] == found.revision:
            return known[1]
        if len(self._labels) >= _KNOWN:
            self._labels.clear()
        labels = meta.labels(loads(found.value))
        self._labels[name] = (found.revision, labels)
        return labels


def object_selected(selector: Selector | None, subject: Subject) -> bool:
    """Whether the object is selected, as it is to be or as it was."""
    return selector is None or any(labels is not None and selector.matches(labels) for labels in subject.labels)
