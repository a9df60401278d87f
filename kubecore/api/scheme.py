"""What this server serves: kinds, resources, verbs, subresources and versions of v1.35, from the baked facts."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

DATA = Path(__file__).parent / "data"


@dataclass(frozen=True, slots=True)
class Subresource:
    """One path below an object. Its kind may be of another group: ``deployments/scale`` speaks autoscaling/v1."""

    name: str
    group: str
    version: str
    kind: str
    verbs: frozenset[str]


@dataclass(frozen=True, slots=True)
class Resource:
    """One served (group, version, plural)."""

    group: str
    version: str
    kind: str
    plural: str
    singular: str
    namespaced: bool
    verbs: frozenset[str]
    """Of get, list, watch, create, update, patch, delete, deletecollection."""
    short_names: tuple[str, ...]
    categories: tuple[str, ...]
    subresources: Mapping[str, Subresource]
    api_version: str
    """``apps/v1``, or ``v1`` for the core group."""
    key: str
    """The group resource, the same for all versions: ``deployments.apps``, ``pods``."""
    storage_key: str
    """The group resource it is stored as. Not ``key`` only where two groups serve the same objects (events)."""
    storage_version: str = ""
    """The version objects are stored in where that is not the preferred one (custom resources)."""
    list_kind: str = ""
    """What lists of it are called where that is not the kind and "List" (custom resources)."""


@dataclass(frozen=True, slots=True)
class APIGroup:
    """A group and its served versions, the preferred one first. The core group's name is empty."""

    name: str
    versions: tuple[str, ...]

    @property
    def preferred_version(self) -> str:
        return self.versions[0]


class Scheme:
    """Immutable look-up of served resources, which are given in discovery order, preferred versions first.

    Objects are stored in the version that `of` prefers, whether that is served or not."""

    def __init__(self, resources: Iterable[Resource], *, of: Scheme | None = None) -> None:
        self.resources: Sequence[Resource] = tuple(resources)
        self._by_path = {(r.group, r.version, r.plural): r for r in self.resources}
        self._by_kind = {(r.group, r.version, r.kind): r for r in self.resources}
        self._preferred: dict[str, Resource] = {}
        self._stored = self._preferred if of is None else of._preferred
        self._of_version: dict[tuple[str, str], list[Resource]] = {}
        versions: dict[str, dict[str, None]] = {}
        for resource in self.resources:
            self._preferred.setdefault(resource.key, resource)
            self._of_version.setdefault((resource.group, resource.version), []).append(resource)
            versions.setdefault(resource.group, {})[resource.version] = None
        self._groups = {name: APIGroup(name, tuple(ordered)) for name, ordered in versions.items()}

    def lookup(self, group: str, version: str, plural: str) -> Resource | None:
        """The resource served at this path, if any."""
        return self._by_path.get((group, version, plural))

    def for_kind(self, group: str, version: str, kind: str) -> Resource | None:
        """The resource whose objects are of this kind, if any. Kinds of subresources alone (Scale) have none."""
        return self._by_kind.get((group, version, kind))

    def resource(self, key: str) -> Resource:
        """The group resource in its preferred version. Raises KeyError."""
        return self._preferred[key]

    def knows(self, key: str) -> bool:
        """Whether this group resource is built in."""
        return key in self._preferred

    def storage(self, key: str) -> Resource:
        """The resource, in the version, that objects of this group resource are stored as. Raises KeyError."""
        return self._stored[self._preferred[key].storage_key]

    def keys(self) -> Sequence[str]:
        """Every group resource, in discovery order."""
        return tuple(self._preferred)

    def versions(self, key: str) -> tuple[str, ...]:
        """The versions that serve a group resource, the preferred one first. Empty for an unknown one."""
        return tuple(resource.version for resource in self.resources if resource.key == key)

    def of_version(self, group: str, version: str) -> Sequence[Resource]:
        """What a group version serves, in discovery order."""
        return self._of_version.get((group, version), ())

    def group(self, name: str) -> APIGroup | None:
        return self._groups.get(name)

    def groups(self) -> list[APIGroup]:
        """Every group, the core group too, in discovery order."""
        return list(self._groups.values())


def group_version(group: str, version: str) -> str:
    """``apps/v1``, or ``v1`` for the core group."""
    return f"{group}/{version}" if group else version


def split_group_version(api_version: str) -> tuple[str, str]:
    """``apps/v1`` → ``("apps", "v1")``; ``v1`` → ``("", "v1")``."""
    group, _, version = api_version.rpartition("/")
    return group, version


@functools.cache
def every() -> Scheme:
    """The built-in resources of v1.35, those of beta and alpha versions too."""
    return Scheme(_resource(fact) for fact in json.loads((DATA / "resources.json").read_bytes()))


@functools.cache
def default() -> Scheme:
    """What of them is served where nothing is said about it (see `enablement`): the stable versions."""
    return Scheme(resource for resource in every().resources if is_stable(resource.version))


def is_stable(version: str) -> bool:
    """``v1``, and not ``v1beta1``."""
    return version[:1] == "v" and version[1:].isdecimal()


def _resource(fact: dict[str, Any]) -> Resource:
    subresources = {
        sub["name"]: Subresource(sub["name"], sub["group"], sub["version"], sub["kind"], frozenset(sub["verbs"]))
        for sub in fact["subresources"]
    }
    return Resource(
        group=fact["group"],
        version=fact["version"],
        kind=fact["kind"],
        plural=fact["plural"],
        singular=fact["singular"],
        namespaced=fact["namespaced"],
        verbs=frozenset(fact["verbs"]),
        short_names=tuple(fact["short_names"]),
        categories=tuple(fact["categories"]),
        subresources=MappingProxyType(subresources),
        api_version=group_version(fact["group"], fact["version"]),
        key=fact["key"],
        storage_key=fact["storage"],
    )


if TYPE_CHECKING:
    SCHEME: Scheme


def __getattr__(name: str) -> Scheme:
    # Loading costs milliseconds that commands such as `kubecore version` need not pay.
    if name == "SCHEME":
        return default()
    raise AttributeError(name)
