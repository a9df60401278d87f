"""What is asked for: the attributes of a request that modes of authorization decide by."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from kubecore import _native

JSON = dict[str, Any]

COLLECTIONS = ("list", "watch", "deletecollection")


class Attributes(NamedTuple):
    """A resource request, or with a `path` one for what is no resource. Rust takes these ten texts in this order.

    Selectors are texts in the syntax of the query parameters; one that cannot be parsed selects nothing in particular,
    so that nobody is allowed more because of it."""

    verb: str
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    field_selector: str = ""
    label_selector: str = ""


@lru_cache(maxsize=512)
def field_requirements(selector: str) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    """(key, In or NotIn, values) each; nothing for a selector that is none."""
    try:
        parsed = _native.FieldSelector.parse(selector).requirements()
    except ValueError:
        return ()
    return tuple((field, "In" if operator == "=" else "NotIn", (value,)) for field, operator, value in parsed)


@lru_cache(maxsize=512)
def label_requirements(selector: str) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    """(key, operator, values) each, without the operators that reviews do not know (`<` and `>`)."""
    try:
        parsed = _native.LabelSelector.parse(selector).requirements()
    except ValueError:
        return ()
    return tuple((key, operator, tuple(values)) for key, operator, values in parsed if operator not in ("Gt", "Lt"))


def review_spec(user: _native.UserInfo, attributes: Attributes) -> JSON:
    """The question as the spec of a SubjectAccessReview of authorization.k8s.io/v1."""
    spec: JSON = {"user": user.username, "groups": list(user.groups)}
    if user.uid:
        spec["uid"] = user.uid
    if user.extra:
        spec["extra"] = {key: list(values) for key, values in user.extra.items()}
    if attributes.path:
        spec["nonResourceAttributes"] = {"path": attributes.path, "verb": attributes.verb}
        return spec
    names = ("namespace", "verb", "group", "version", "resource", "subresource", "name")
    asked: JSON = {name: value for name in names if (value := getattr(attributes, name))}
    for name, found in (
        ("fieldSelector", field_requirements(attributes.field_selector)),
        ("labelSelector", label_requirements(attributes.label_selector)),
    ):
        if found:
            asked[name] = {"requirements": [_requirement(*one) for one in found]}
    spec["resourceAttributes"] = asked
    return spec


def _requirement(key: str, operator: str, values: tuple[str, ...]) -> JSON:
    made: JSON = {"key": key, "operator": operator}
    if values:
        made["values"] = list(values)
    return made
