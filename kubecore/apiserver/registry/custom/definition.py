"""A CustomResourceDefinition as the server needs it: small, immutable, and compared to see what a change changes.

Schemas stay in the watch cache, as part of the definition's bytes: a thousand definitions must cost little, and most
schemas are asked for late or never. Here they are known by their digest.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from types import MappingProxyType

import msgspec

from kubecore.api.scheme import Resource, Subresource, group_version
from kubecore.apiserver.registry.custom.versions import by_priority

DEFINITIONS = "customresourcedefinitions.apiextensions.k8s.io"
GROUP = "apiextensions.k8s.io"

VERBS = frozenset({"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"})
# What discovery tells of a resource whose definition is being deleted; updates are served all the same.
_VERBS_AT_THE_END = VERBS - {"create", "patch", "update"}
_SUBRESOURCE_VERBS = frozenset({"get", "patch", "update"})


_ABSENT = msgspec.Raw(b"")


class _Scale(msgspec.Struct, frozen=True):
    specReplicasPath: str
    statusReplicasPath: str
    labelSelectorPath: str = ""


class _Subresources(msgspec.Struct):
    status: msgspec.Raw = _ABSENT
    scale: _Scale | None = None


class _Column(msgspec.Struct, frozen=True):
    name: str
    type: str
    jsonPath: str
    description: str = ""
    format: str = ""
    priority: int = 0


class _Field(msgspec.Struct):
    jsonPath: str


class _Validation(msgspec.Struct):
    openAPIV3Schema: msgspec.Raw = _ABSENT


class _Version(msgspec.Struct):
    name: str
    served: bool
    storage: bool
    deprecated: bool = False
    deprecationWarning: str | None = None
    schema: _Validation | None = None
    subresources: _Subresources | None = None
    additionalPrinterColumns: list[_Column] | None = None
    selectableFields: list[_Field] | None = None


class _Names(msgspec.Struct):
    plural: str = ""
    singular: str = ""
    kind: str = ""
    listKind: str = ""
    shortNames: list[str] | None = None
    categories: list[str] | None = None


class _Service(msgspec.Struct, frozen=True):
    namespace: str
    name: str
    path: str = ""
    port: int = 443


class _ClientConfig(msgspec.Struct):
    url: str = ""
    service: _Service | None = None
    caBundle: str = ""


class _Webhook(msgspec.Struct):
    conversionReviewVersions: list[str]
    clientConfig: _ClientConfig | None = None


class _Conversion(msgspec.Struct):
    strategy: str = "None"
    webhook: _Webhook | None = None


class _Spec(msgspec.Struct):
    group: str
    scope: str
    versions: list[_Version]
    conversion: _Conversion | None = None
    preserveUnknownFields: bool = False


class _Condition(msgspec.Struct):
    type: str
    status: str


class _Status(msgspec.Struct):
    acceptedNames: _Names = msgspec.field(default_factory=_Names)
    conditions: list[_Condition] | None = None
    storedVersions: list[str] | None = None


class _Metadata(msgspec.Struct):
    name: str
    uid: str = ""
    deletionTimestamp: str = ""


class _Body(msgspec.Struct):
    metadata: _Metadata
    spec: _Spec
    status: _Status = msgspec.field(default_factory=_Status)


_ANYTHING = b'{"type":"object","x-kubernetes-preserve-unknown-fields":true}'
_DECODER = msgspec.json.Decoder(_Body)

PrinterColumn = _Column
ScalePaths = _Scale
ServiceReference = _Service


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a definition. `fields` are the JSON paths of selectable fields, `schema` a digest."""

    name: str
    served: bool
    storage: bool
    warning: str
    """What every client of a deprecated version is told; "" for others."""
    status: bool
    scale: ScalePaths | None
    columns: tuple[PrinterColumn, ...]
    fields: tuple[str, ...]
    schema: bytes


@dataclass(frozen=True, slots=True)
class Webhook:
    """Who converts between versions: a URL or a service, the CAs (base64 PEM) that vouch for it, and the versions of
    ConversionReview it understands."""

    url: str
    service: ServiceReference | None
    ca_bundle: str
    review_versions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Definition:
    """What is served for one definition, under the names that have been accepted."""

    name: str
    uid: str
    group: str
    namespaced: bool
    plural: str
    singular: str
    kind: str
    list_kind: str
    short_names: tuple[str, ...]
    categories: tuple[str, ...]
    versions: tuple[Version, ...]
    """In order of preference."""
    webhook: Webhook | None
    uniform: bool
    """Objects in the cache are all in the storage version: they can be read there as they are."""
    terminating: bool

    @property
    def storage(self) -> Version:
        return next(version for version in self.versions if version.storage)

    @property
    def served(self) -> tuple[Version, ...]:
        return tuple(version for version in self.versions if version.served)

    def version(self, name: str) -> Version | None:
        return next((version for version in self.versions if version.name == name), None)

    def api_version(self, version: str) -> str:
        return group_version(self.group, version)

    @property
    def cached_as(self) -> tuple[object, ...]:
        """What the cache's copy of the objects depends on: while this is equal, it stays."""
        schemas = tuple((version.name, version.schema) for version in self.versions)
        return (
            self.uid,
            self.kind,
            self.list_kind,
            self.namespaced,
            self.storage.name,
            schemas,
            self.fields,
            self.uniform,
        )

    @property
    def fields(self) -> tuple[str, ...]:
        """Selectable fields of all versions."""
        return tuple(dict.fromkeys(path for version in self.versions for path in version.fields))

    def resource(self, version: Version, *, told: bool = False) -> Resource:
        """The resource one version is served as; `told`: as discovery is to describe it."""
        api_version = self.api_version(version.name)
        subresources = {}
        if version.status:
            subresources["status"] = Subresource("status", self.group, version.name, self.kind, _SUBRESOURCE_VERBS)
        if version.scale is not None:
            subresources["scale"] = Subresource("scale", "autoscaling", "v1", "Scale", _SUBRESOURCE_VERBS)
        return Resource(
            group=self.group,
            version=version.name,
            kind=self.kind,
            plural=self.plural,
            singular=self.singular,
            namespaced=self.namespaced,
            verbs=_VERBS_AT_THE_END if told and self.terminating else VERBS,
            short_names=self.short_names,
            categories=self.categories,
            subresources=MappingProxyType(subresources),
            api_version=api_version,
            key=self.name,
            storage_key=self.name,
            storage_version=self.storage.name,
            list_kind=self.list_kind,
        )


def _read(body: bytes) -> _Body:
    try:
        return _DECODER.decode(body)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not a CustomResourceDefinition: {error}") from None


def parse(body: bytes) -> Definition:
    """From the stored bytes of a definition whose names have been accepted. Raises ValueError."""
    read = _read(body)
    spec, names = read.spec, read.status.acceptedNames
    preferred = sorted(spec.versions, key=lambda version: by_priority(version.name))
    webhook = _webhook(spec.conversion)
    stored_in = read.status.storedVersions or []
    return Definition(
        name=read.metadata.name,
        uid=read.metadata.uid,
        group=spec.group,
        namespaced=spec.scope == "Namespaced",
        plural=names.plural,
        singular=names.singular,
        kind=names.kind,
        list_kind=names.listKind,
        short_names=tuple(names.shortNames or ()),
        categories=tuple(names.categories or ()),
        versions=tuple(_version(spec, names.kind, version) for version in preferred),
        webhook=webhook,
        uniform=webhook is None or len(stored_in) <= 1,
        terminating=bool(read.metadata.deletionTimestamp),
    )


def is_served(body: bytes) -> bool:
    """Whether the stored definition's names have been accepted at some time, and so its resource is served.

    Raises ValueError.
    """
    conditions = {one.type: one.status for one in _read(body).status.conditions or ()}
    return conditions.get("Established") == "True"


def schema_of(body: bytes, version: str) -> bytes:
    """The openAPIV3Schema of a version in a stored definition; one that allows anything when it has none.

    Raises ValueError.
    """
    for one in _read(body).spec.versions:
        if one.name == version and one.schema is not None:
            return bytes(one.schema.openAPIV3Schema) or _ANYTHING
    return _ANYTHING


def _version(spec: _Spec, kind: str, version: _Version) -> Version:
    schema = version.schema.openAPIV3Schema if version.schema is not None else _ABSENT
    subresources = version.subresources or _Subresources()
    return Version(
        name=version.name,
        served=version.served,
        storage=version.storage,
        warning=_warning(spec, kind, version),
        status=bool(bytes(subresources.status)),
        scale=subresources.scale,
        columns=tuple(version.additionalPrinterColumns or ()),
        fields=tuple(field.jsonPath for field in version.selectableFields or ()),
        schema=hashlib.sha256(bytes(schema)).digest(),
    )


def _warning(spec: _Spec, kind: str, version: _Version) -> str:
    if not version.deprecated:
        return ""
    if version.deprecationWarning is not None:
        return version.deprecationWarning
    text = f"{spec.group}/{version.name} {kind} is deprecated"
    rank = by_priority(version.name)
    better = [one.name for one in spec.versions if one.served and not one.deprecated and by_priority(one.name) < rank]
    if better:
        text += f"; use {spec.group}/{min(better, key=by_priority)} {kind}"
    return text


def _webhook(conversion: _Conversion | None) -> Webhook | None:
    if conversion is None or conversion.strategy != "Webhook" or conversion.webhook is None:
        return None
    config = conversion.webhook.clientConfig or _ClientConfig()
    return Webhook(config.url, config.service, config.caBundle, tuple(conversion.webhook.conversionReviewVersions))


def pointer(path: str) -> str:
    """A selectable field's path as a JSON pointer: `.spec.color` → `/spec/color`."""
    steps = path.removeprefix(".").split(".")
    return "".join(f"/{step.replace('~', '~0').replace('/', '~1')}" for step in steps)
