"""Kinds through which the servers and controllers of a cluster agree: candidates for leases, storage versions and
their migration, workloads.

After kubernetes `pkg/apis/{coordination,apiserverinternal,storagemigration,scheduling}/validation/validation.go`.
"""

from __future__ import annotations

import re
from typing import Any

from kubecore.apiserver.registry.equality import same
from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.conditions import validate_conditions
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.semver import SemVer, parse_semver

JSON = dict[str, Any]

# --- candidates for leases

_OLDEST = "OldestEmulationVersion"


def validate_lease_candidate(problems: Problems, spec: JSON) -> None:
    if not spec.get("leaseName"):
        problems.required("spec.leaseName")
    emulated = _version(problems, spec, "emulationVersion")
    if not spec.get("binaryVersion"):
        problems.required("spec.binaryVersion")
    elif _version(problems, spec, "binaryVersion") < emulated and spec.get("emulationVersion"):
        detail = "must be greater than or equal to `emulationVersion`"
        problems.invalid("spec.binaryVersion", spec["binaryVersion"], detail)
    strategy = spec.get("strategy") or ""
    if not strategy:
        problems.required("spec.strategy")
        return
    if strategy == _OLDEST and emulated == SemVer():
        detail = f"must be specified when `strategy` is '{_OLDEST}'"
        problems.required("spec.emulationVersion", detail)
    if "/" in strategy:
        problems.check("spec.strategy.strategy", strategy, names.qualified_name)
    elif strategy != _OLDEST:
        problems.unsupported("spec.strategy.strategy", strategy, (_OLDEST,))


def _version(problems: Problems, spec: JSON, field: str) -> SemVer:
    """0.0.0 for none, and for one that is wrong."""
    given = spec.get(field) or ""
    if not given:
        return SemVer()
    found = parse_semver(given)
    if found is None:
        problems.invalid(f"spec.{field}", given, "must be a valid semantic version")
    return found or SemVer()


# --- storage versions

_API_VERSION_WRONG = names.by_pattern(
    "an apiVersion is a DNS-1035 label, which must consist of lower case alphanumeric characters or '-', "
    "start with an alphabetic character, and end with an alphanumeric character",
    "[a-z]([-a-z0-9]*[a-z0-9])?",
    "my-name",
    "abc-123",
)


def storage_version_name(text: str) -> list[str]:
    """`group.resource`."""
    group, dot, resource = text.rpartition(".")
    if not dot:
        return ["name must be in the form of <group>.<resource>"]
    wrong_group = [f"the group segment {error}" for error in names.dns_subdomain(group)]
    return [*wrong_group, *(f"the resource segment {error}" for error in names.dns_1035_label(resource))]


def validate_storage_version_status(problems: Problems, status: JSON) -> None:
    versions = status.get("storageVersions") or []
    taken: set[str] = set()
    for index, version in enumerate(versions):
        path, server = f"status.storageVersions[{index}]", version.get("apiServerID") or ""
        if server in taken:
            problems.duplicate(f"{path}.apiServerID", server)
        taken.add(server)
        _server_version(problems, version, path)
    _common_version(problems, versions, status.get("commonEncodingVersion"))
    _storage_conditions(problems, status.get("conditions") or [])


def _server_version(problems: Problems, version: JSON, path: str) -> None:
    encoding, decodable = version.get("encodingVersion") or "", version.get("decodableVersions") or []
    problems.check(f"{path}.apiServerID", version.get("apiServerID") or "", names.dns_subdomain)
    _api_version(problems, encoding, f"{path}.encodingVersion")
    for index, one in enumerate(decodable):
        _api_version(problems, one, f"{path}.decodableVersions[{index}]")
    if encoding not in decodable:
        detail = f"decodableVersions must include encodingVersion {encoding}"
        problems.invalid(f"{path}.decodableVersions", version.get("decodableVersions"), detail)
    for index, one in enumerate(version.get("servedVersions") or []):
        where = f"{path}.servedVersions[{index}]"
        _api_version(problems, one, where)
        if one not in decodable:
            among = f"must be included in decodableVersions : [{' '.join(decodable)}]"
            problems.invalid(where, one, f"individual served version : {one} {among}")


def _api_version(problems: Problems, given: str, path: str) -> None:
    """`version` or `group/version`."""
    if given.count("/") > 1:
        optional = " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyVersion')"
        problems.invalid(path, given, _API_VERSION_WRONG + optional)
        return
    group, slash, version = given.rpartition("/")
    errors: list[str] = []
    if slash:
        errors += [f"group part: {error}" for error in (names.dns_subdomain(group) if group else [names.EMPTY])]
    errors += [f"version part: {error}" for error in (names.dns_1035_label(version) if version else [names.EMPTY])]
    if errors:
        problems.invalid(path, given, ",".join(errors))


def _common_version(problems: Problems, versions: list[JSON], said: str | None) -> None:
    path, encodings = "status.commonEncodingVersion", {one.get("encodingVersion") or "" for one in versions}
    common = next(iter(encodings)) if len(encodings) == 1 else None
    if common is None and said is not None:
        agree = "should be nil if servers do not agree on the same encoding version, "
        problems.invalid(path, said, f"{agree}or if there is no server reporting the supported versions yet")
    elif common is not None and said is None:
        problems.invalid(path, None, f"the common encoding version is {common}")
    elif common != said:
        problems.invalid(path, said, f"the actual common encoding version is {common}")


def _storage_conditions(problems: Problems, conditions: list[JSON]) -> None:
    first: dict[str, int] = {}
    for index, condition in enumerate(conditions):
        # The path is upstream's.
        path, kind = f"status[{index}]", condition.get("type") or ""
        if kind in first:
            detail = f"the type of the condition is not unique, it also appears in conditions[{first[kind]}]"
            problems.invalid(f"{path}.type", kind, detail)
        first[kind] = index
        for field in ("type", "status"):
            problems.check(f"{path}.{field}", condition.get(field) or "", names.qualified_name)
        for field in ("reason", "message"):
            if not condition.get(field):
                problems.required(f"{path}.{field}")


# --- migrations

_REVISION_RE = re.compile("[1-9][0-9]*")


def validate_migration(problems: Problems, spec: JSON) -> None:
    resource = spec.get("resource") or {}
    path, name, group = "spec.resource.resource", resource.get("resource") or "", resource.get("group") or ""
    if not name:
        problems.required(path, "resource is required to be set")
    elif errors := names.dns_1035_label(name):
        problems.invalid(path, name, ",".join(errors))
    if group and (errors := names.dns_subdomain(group)):
        problems.invalid("spec.resource.group", group, ",".join(errors))


def validate_migration_status(problems: Problems, status: JSON, old: JSON) -> None:
    revision, before = status.get("resourceVersion") or "", old.get("resourceVersion") or ""
    if _REVISION_RE.fullmatch(revision) is None:
        problems.invalid("status.resourceVersion", revision, f"resource version is not well formed: {revision}")
    path, conditions = "status.conditions", status.get("conditions") or []
    validate_conditions(problems, conditions, path)
    if before and revision != before:
        problems.unchanged("status.resourceVersion", revision, before)
    now, had = _true_conditions(conditions), _true_conditions(old.get("conditions") or [])
    wrong = [
        ({"Succeeded", "Failed"} <= now, "Both success and failed conditions cannot be true at the same time"),
        ({"Succeeded", "Running"} <= now, "Running condition cannot be true when success condition is true"),
        ({"Failed", "Running"} <= now, "Running condition cannot be true when failed condition is true"),
        ("Succeeded" in had - now, "Success condition cannot be set to false once it is true"),
        ("Failed" in had - now, "Failed condition cannot be set to false once it is true"),
    ]
    for holds, detail in wrong:
        if holds:
            problems.invalid(path, status.get("conditions"), detail)


def _true_conditions(conditions: list[JSON]) -> set[str]:
    """Of several of a type the first counts."""
    first = {one.get("type") or "": one.get("status") for one in reversed(conditions)}
    return {kind for kind, status in first.items() if status == "True"}


# --- workloads

_MOST_GROUPS = 8


def validate_workload(problems: Problems, spec: JSON) -> None:
    controller = spec.get("controllerRef")
    if controller is not None:
        if controller.get("apiGroup"):
            problems.check("spec.controllerRef.apiGroup", controller["apiGroup"], names.dns_subdomain)
        for field in ("kind", "name"):
            problems.check_needed(f"spec.controllerRef.{field}", controller.get(field), names.path_segment)
    groups = spec.get("podGroups") or []
    if not groups:
        problems.required("spec.podGroups", "must have at least one item")
    if len(groups) > _MOST_GROUPS:
        problems.too_many("spec.podGroups", len(groups), _MOST_GROUPS)
        return
    taken: set[str] = set()
    for index, group in enumerate(groups):
        path, name = f"spec.podGroups[{index}]", group.get("name") or ""
        problems.check(f"{path}.name", name, names.dns_label)
        if name in taken:
            problems.duplicate(f"{path}.name", name)
        taken.add(name)
        _group_policy(problems, group.get("policy") or {}, f"{path}.policy")


def _group_policy(problems: Problems, policy: JSON, path: str) -> None:
    given = [f"`{field}`" for field in ("basic", "gang") if policy.get(field) is not None]
    needed = "exactly one of `basic`, `gang` is required"
    if not given:
        problems.required(path, needed)
    elif len(given) > 1:
        problems.invalid(path, f"{{{', '.join(given)}}}", f"{needed}, but multiple fields are set")
    elif policy.get("gang") is not None:
        count = policy["gang"].get("minCount") or 0
        if count <= 0:
            problems.invalid(f"{path}.gang.minCount", count, names.POSITIVE)


def validate_workload_update(problems: Problems, spec: JSON, old: JSON) -> None:
    # The paths are upstream's.
    if old.get("controllerRef") is not None:
        problems.unchanged("controllerRef", spec.get("controllerRef"), old["controllerRef"])
    if not same(spec.get("podGroups"), old.get("podGroups")):
        problems.invalid("podGroups", spec.get("podGroups"), names.IMMUTABLE)
