"""A definition as upstream sees it when it validates: what all versions have in common stands in the spec itself.

So a fault of the schema of an only version is one of `spec.validation`. After k8s.io/apiextensions-apiserver
pkg/apis/apiextensions/v1/conversion.go.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kubecore.apiserver.registry.equality import same

JSON = dict[str, Any]

_COMMON = ("schema", "subresources", "additionalPrinterColumns", "selectableFields")


@dataclass(frozen=True, slots=True)
class Part:
    """The spec itself, or one version of it, with what is told of as its own."""

    path: str
    """`spec` or `spec.versions[0]`."""
    version: str
    """Its name; of the spec itself that of the first version."""
    validation: JSON | None
    validation_path: str
    subresources: JSON | None
    columns: list[JSON]
    selectable: list[JSON]
    is_whole: bool


class Definition:
    """The parts of a spec."""

    def __init__(self, spec: JSON) -> None:
        versions: list[JSON] = spec.get("versions") or []
        self._versions = versions
        self._none = spec.get("versions") is None
        self._common = {
            field: versions[0].get(field)
            for field in _COMMON
            if versions and all(same(one.get(field), versions[0].get(field)) for one in versions)
        }

    @property
    def whole(self) -> Part:
        return self._part("spec", self._versions[0] if self._versions else {}, is_whole=True)

    def versions(self) -> Iterator[Part]:
        for index, version in enumerate(self._versions):
            yield self._part(f"spec.versions[{index}]", version, is_whole=False)

    def shown_versions(self) -> list[JSON] | None:
        """The versions as errors show them: by the names of their fields in Go; None where there is not even a list."""
        return None if self._none else [self._shown(version) for version in self._versions]

    def _shown(self, version: JSON) -> JSON:
        own = {field: None if field in self._common else version.get(field) for field in _COMMON}
        return {
            "Name": version.get("name") or "",
            "Served": bool(version.get("served")),
            "Storage": bool(version.get("storage")),
            "Deprecated": bool(version.get("deprecated")),
            "DeprecationWarning": version.get("deprecationWarning"),
            **{f"{field[0].upper()}{field[1:]}": value for field, value in own.items()},
        }

    def has_status(self, part: Part) -> bool:
        """Whether the schema of this part is for objects with a status subresource; for the spec's that of any is."""
        if part.is_whole:
            return any((one.get("subresources") or {}).get("status") is not None for one in self._versions)
        # Versions of the same name are one and the same here.
        found: JSON = next(one for one in self._versions if (one.get("name") or "") == part.version)
        return (found.get("subresources") or {}).get("status") is not None

    def _part(self, path: str, version: JSON, *, is_whole: bool) -> Part:
        def own(field: str) -> Any:
            return version.get(field) if (field in self._common) == is_whole else None

        return Part(
            path=path,
            version=version.get("name") or "",
            validation=own("schema"),
            validation_path=f"{path}.{'validation' if is_whole else 'schema'}",
            subresources=own("subresources"),
            columns=own("additionalPrinterColumns") or [],
            selectable=own("selectableFields") or [],
            is_whole=is_whole,
        )
