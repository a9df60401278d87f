"""Which requests a webhook or a policy is for: rules, and the selectors of namespaces and objects.

After upstream k8s.io/apiserver pkg/admission/plugin/webhook/predicates and generic/webhook.go (ShouldCallHook).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from kubecore import _native
from kubecore.api import meta
from kubecore.api.selectors import Selector
from kubecore.apiserver.admission.held_namespaces import HeldNamespaces
from kubecore.apiserver.registry.codec import dumps

if TYPE_CHECKING:
    from kubecore.api.scheme import Resource
    from kubecore.apiserver.admission.dynamic.subjects import Subject
    from kubecore.apiserver.storage.cacher import Cacher

JSON = dict[str, Any]

_NAMESPACES = ("", "v1", "namespaces")


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


class Targets:
    """What requests are seen as by whoever is for them. Most requests are of few sorts: what is found is remembered for
    as long as there are the same matches (`forget`)."""

    def __init__(self, equivalents: Equivalents, are_fixed: Callable[[Resource], bool]) -> None:
        """`are_fixed`: what versions a resource has will not change."""
        self._equivalents = equivalents
        self._are_fixed = are_fixed
        self._known: dict[tuple[Match, str, str, str, str, bool], Resource | None] = {}

    def of(self, match: Match, subject: Subject) -> Resource | None:
        resource = subject.resource
        sort = (
            match,
            resource.api_version,
            resource.plural,
            subject.subresource,
            subject.operation,
            subject.placed,
        )
        if sort in self._known:
            return self._known[sort]
        found = match.target(subject, self._equivalents)
        if self._are_fixed(resource) and not match.is_named:
            self._known[sort] = found
        return found

    def forget(self) -> None:
        self._known.clear()


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
    """Labels of namespaces, and namespaces as expressions see them."""

    def __init__(self, cacher: Cacher) -> None:
        self._labels: HeldNamespaces[Mapping[str, str]] = HeldNamespaces(cacher, meta.labels)
        self._shown: HeldNamespaces[_native.AdmissionNamespace] = HeldNamespaces(cacher, _shown)

    def shown(self, name: str) -> _native.AdmissionNamespace:
        """Raises 404."""
        return self._shown.get(name)

    def selected(self, selector: Selector | None, subject: Subject) -> bool:
        """Raises 404 for a namespace that is not there."""
        is_namespace = subject.resource.plural == "namespaces"
        if selector is None or (not subject.namespace and not is_namespace):
            return True
        if is_namespace and not subject.subresource and subject.operation in ("CREATE", "UPDATE"):
            return selector.matches(subject.labels[0])
        return selector.matches(self._labels.get(subject.namespace))


_SHOWN = tuple(one for one in meta.FIELDS if one not in ("selfLink", "ownerReferences", "managedFields"))


def _shown(namespace: JSON) -> _native.AdmissionNamespace:
    metadata = namespace["metadata"]
    kept = {name: metadata[name] for name in _SHOWN if name in metadata}
    parts = {"metadata": kept, "spec": namespace.get("spec") or {}, "status": namespace.get("status") or {}}
    return _native.AdmissionNamespace(dumps(parts))


def object_selected(selector: Selector | None, subject: Subject) -> bool:
    """Whether the object is selected, as it is to be or as it was."""
    return selector is None or any(labels is not None and selector.matches(labels) for labels in subject.labels)
