"""What an extension API server says that it serves: read as upstream reads it, so that nothing of another type comes
into our own documents, which clients read as a whole.

After upstream kube-aggregator `pkg/apiserver/handler_discovery.go` and k8s.io/apiserver `pkg/endpoints/installer.go`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

JSON = dict[str, Any]
Version = tuple[str, str]

_EVERY = "APIGroupDiscoveryList"
_EVERY_VERSIONS = ("apidiscovery.k8s.io/v2", "apidiscovery.k8s.io/v2beta1")
_Texts = list[str | None] | None


class _Head(msgspec.Struct):
    apiVersion: str | None = None
    kind: str | None = None


class _Kind(msgspec.Struct):
    group: str | None = None
    version: str | None = None
    kind: str | None = None

    def told(self) -> JSON:
        return {"group": self.group or "", "version": self.version or "", "kind": self.kind or ""}


# Old clients stumble over a kind that is missing.
_NO_KIND = _Kind()


class _Subresource(msgspec.Struct):
    subresource: str | None = None
    responseKind: _Kind | None = None
    acceptedTypes: list[_Kind | None] | None = None
    verbs: _Texts = None

    def told(self) -> JSON:
        made: JSON = {"subresource": self.subresource or "", "responseKind": (self.responseKind or _NO_KIND).told()}
        if self.acceptedTypes:
            made["acceptedTypes"] = [(one or _NO_KIND).told() for one in self.acceptedTypes]
        return {**made, "verbs": _texts(self.verbs)}


class _Resource(msgspec.Struct):
    resource: str | None = None
    responseKind: _Kind | None = None
    scope: str | None = None
    singularResource: str | None = None
    verbs: _Texts = None
    shortNames: _Texts = None
    categories: _Texts = None
    subresources: list[_Subresource | None] | None = None

    def told(self) -> JSON:
        made: JSON = {
            "resource": self.resource or "",
            "responseKind": (self.responseKind or _NO_KIND).told(),
            "scope": self.scope or "",
            "singularResource": self.singularResource or "",
            "verbs": _texts(self.verbs),
        }
        more = {
            "shortNames": _texts(self.shortNames),
            "categories": _texts(self.categories),
            "subresources": [(one or _Subresource()).told() for one in self.subresources or ()],
        }
        return {**made, **{key: value for key, value in more.items() if value}}


class _VersionDiscovery(msgspec.Struct):
    version: str | None = None
    resources: list[_Resource | None] | None = None


class _Metadata(msgspec.Struct):
    name: str | None = None


class _Group(msgspec.Struct):
    metadata: _Metadata | None = None
    versions: list[_VersionDiscovery | None] | None = None


class _Every(_Head):
    items: list[_Group | None] | None = None


class _Listed(msgspec.Struct):
    name: str | None = None
    singularName: str | None = None
    namespaced: bool | None = None
    group: str | None = None
    version: str | None = None
    kind: str | None = None
    verbs: _Texts = None
    shortNames: _Texts = None
    categories: _Texts = None

    @property
    def scope(self) -> str:
        return "Namespaced" if self.namespaced else "Cluster"

    @property
    def response_kind(self) -> _Kind:
        return _Kind(self.group, self.version, self.kind)


class _List(_Head):
    resources: list[_Listed | None] | None = None


_EVERY_DECODER, _LIST_DECODER = msgspec.json.Decoder(_Every), msgspec.json.Decoder(_List)


def of_every_version(body: bytes) -> dict[Version, list[JSON]]:
    """From an APIGroupDiscoveryList, in the form of apidiscovery.k8s.io/v2. Raises ValueError."""
    document = _EVERY_DECODER.decode(body)
    _check_kind(document, _EVERY, _EVERY_VERSIONS)
    found: dict[Version, list[JSON]] = {}
    for group in filter(None, document.items or ()):
        name = (group.metadata or _Metadata()).name or ""
        for version in filter(None, group.versions or ()):
            resources = [(one or _Resource()).told() for one in version.resources or ()]
            found[name, version.version or ""] = resources
    return found


def of_list(body: bytes) -> list[JSON]:
    """The same from an APIResourceList of one version. Raises ValueError."""
    document = _LIST_DECODER.decode(body)
    _check_kind(document, "APIResourceList", ("v1",))
    listed = [one or _Listed() for one in document.resources or ()]
    made: list[_Resource] = []
    parents: dict[str, _Resource] = {}
    for one in listed:
        if "/" not in (name := one.name or ""):
            parents[name] = _Resource(
                name,
                one.response_kind,
                one.scope,
                one.singularName,
                one.verbs,
                one.shortNames,
                one.categories,
                [],
            )
            made.append(parents[name])
    for one in listed:
        name, slash, subresource = (one.name or "").partition("/")
        if not slash:
            continue
        parent = parents.get(name)
        if parent is None:
            parent = parents[name] = _Resource(name, scope=one.scope, subresources=[])
            made.append(parent)
        if parent.scope != one.scope:
            raise ValueError(f"{name} is {parent.scope}, and its {subresource} is {one.scope}")
        kind = one.response_kind if one.kind else None
        assert parent.subresources is not None
        parent.subresources.append(_Subresource(subresource, kind, None, one.verbs))
    return [one.told() for one in made]


def _check_kind(document: _Head, kind: str, versions: Sequence[str]) -> None:
    """Raises ValueError; what it does not say of itself is as expected."""
    if (document.kind or kind) != kind or (document.apiVersion or versions[0]) not in versions:
        raise ValueError(f"it is no {kind} but {document.kind} of {document.apiVersion}")


def _texts(given: _Texts) -> list[str] | None:
    return None if given is None else [one or "" for one in given]
