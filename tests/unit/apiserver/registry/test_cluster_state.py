"""Candidates for leases, storage versions and their migration, workloads."""

from __future__ import annotations

from typing import Any

import pytest

from kubecore.apiserver.registry.validation.semver import parse_semver
from tests.unit.apiserver.registry.writing import Writer, changed

CANDIDATES = Writer("leasecandidates.coordination.k8s.io")
VERSIONS = Writer("storageversions.internal.apiserver.k8s.io", namespaced=False)
MIGRATIONS = Writer("storageversionmigrations.storagemigration.k8s.io", namespaced=False)
WORKLOADS = Writer("workloads.scheduling.k8s.io")
NOW = "2026-01-01T00:00:00Z"


# --- candidates


def candidate(**spec: Any) -> dict[str, Any]:
    whole = {
        "leaseName": "l",
        "binaryVersion": "1.35.0",
        "emulationVersion": "1.34.0",
        "strategy": "OldestEmulationVersion",
        **spec,
    }
    return {"metadata": {"name": "Me"}, "spec": whole}


def test_a_candidate_is_not_older_than_what_it_emulates() -> None:
    assert not CANDIDATES.problems(candidate())
    assert CANDIDATES.problems(candidate(binaryVersion="1.34.0-rc.1")) == [
        'spec.binaryVersion: Invalid value: "1.34.0-rc.1": must be greater than or equal to `emulationVersion`'
    ]


def test_the_oldest_emulation_version_must_be_known() -> None:
    assert CANDIDATES.problems(candidate(emulationVersion="")) == [
        "spec.emulationVersion: Required value: must be specified when `strategy` is 'OldestEmulationVersion'"
    ]
    assert not CANDIDATES.problems(candidate(emulationVersion="", strategy="example.com/mine"))


def test_a_candidate_keeps_its_lease() -> None:
    stored = CANDIDATES.create(candidate())
    assert CANDIDATES.update_problems(stored, changed(stored, "spec.leaseName", "m")) == [
        'spec.leaseName: Invalid value: "m": field is immutable'
    ]


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("1.9.0", "1.10.0"),
        ("1.0.0-rc.1", "1.0.0"),
        ("1.0.0-2", "1.0.0-10"),
        ("1.0.0-10", "1.0.0-a"),
        ("1.0.0-a", "1.0.0-a.b"),
    ],
)
def test_versions_are_ordered_by_precedence(older: str, newer: str) -> None:
    first, second = parse_semver(older), parse_semver(newer)
    assert first is not None
    assert second is not None
    assert first < second
    assert not second < first


@pytest.mark.parametrize("text", ["", "1", "1.2", "v1.2.3", "01.2.3", "1.2.3-", "1.2.3-01", "1.2.3+", "1.2.3 "])
def test_what_is_no_semantic_version(text: str) -> None:
    assert parse_semver(text) is None


def test_builds_of_a_version_are_equal() -> None:
    assert parse_semver("1.2.3+a") == parse_semver("1.2.3+b")


# --- storage versions


def test_a_storage_version_is_named_for_its_resource() -> None:
    assert not VERSIONS.problems({"metadata": {"name": "apps.deployments"}})
    assert VERSIONS.problems({"metadata": {"name": "pods"}}) == [
        'metadata.name: Invalid value: "pods": name must be in the form of <group>.<resource>'
    ]


def test_servers_agree_on_what_they_say_they_agree_on() -> None:
    stored = VERSIONS.create({"metadata": {"name": "apps.deployments"}})

    def problems(*encodings: str, common: str | None) -> list[str]:
        servers = [
            {"apiServerID": f"s{number}", "encodingVersion": one, "decodableVersions": [one]}
            for number, one in enumerate(encodings)
        ]
        told = changed(stored, "status.storageVersions", servers)
        return VERSIONS.update_problems(
            stored, changed(told, "status.commonEncodingVersion", common), subresource="status"
        )

    assert not problems("v1", "v1", common="v1")
    assert not problems("v1", "v2", common=None)
    path = "status.commonEncodingVersion: Invalid value"
    assert problems("v1", common=None) == [f"{path}: null: the common encoding version is v1"]
    assert problems("v1", common="v2") == [f'{path}: "v2": the actual common encoding version is v1']
    (problem,) = problems("v1", "v2", common="v1")
    assert problem.startswith(f'{path}: "v1": should be nil if servers do not agree')


def test_a_server_reads_what_it_writes_and_serves() -> None:
    stored = VERSIONS.create({"metadata": {"name": "apps.deployments"}})
    server = {"apiServerID": "a", "encodingVersion": "v1", "decodableVersions": ["v2"], "servedVersions": ["v3"]}
    told = {**stored, "status": {"commonEncodingVersion": "v1", "storageVersions": [server]}}
    path = "status.storageVersions[0]"
    assert VERSIONS.update_problems(stored, told, subresource="status") == [
        f'{path}.decodableVersions: Invalid value: ["v2"]: decodableVersions must include encodingVersion v1',
        f'{path}.servedVersions[0]: Invalid value: "v3": '
        "individual served version : v3 must be included in decodableVersions : [v2]",
    ]


# --- migrations


def condition(kind: str, status: str = "True") -> dict[str, str]:
    return {"type": kind, "status": status, "reason": "R", "message": "m", "lastTransitionTime": NOW}


def migration(*conditions: dict[str, str], revision: str = "5") -> dict[str, Any]:
    stored = MIGRATIONS.create({"metadata": {"name": "m"}, "spec": {"resource": {"group": "apps", "resource": "d"}}})
    return {**stored, "status": {"resourceVersion": revision, "conditions": list(conditions)}}


def test_a_migration_is_of_what_it_was_made_for() -> None:
    stored = migration()
    (problem,) = MIGRATIONS.update_problems(stored, changed(stored, "spec.resource.resource", "other"))
    assert problem.endswith(": field is immutable")


@pytest.mark.parametrize(
    ("before", "after", "detail"),
    [
        ([], ["Succeeded", "Failed"], "Both success and failed conditions cannot be true at the same time"),
        ([], ["Succeeded", "Running"], "Running condition cannot be true when success condition is true"),
        ([], ["Failed", "Running"], "Running condition cannot be true when failed condition is true"),
        (["Succeeded"], [], "Success condition cannot be set to false once it is true"),
        (["Failed"], [], "Failed condition cannot be set to false once it is true"),
    ],
)
def test_a_migration_ends_once_and_one_way(before: list[str], after: list[str], detail: str) -> None:
    stored, told = (migration(*(condition(kind) for kind in some)) for some in (before, after))
    (problem,) = MIGRATIONS.update_problems(stored, told, subresource="status")
    assert problem.endswith(f": {detail}")


def test_a_migration_keeps_the_revision_it_began_with() -> None:
    assert MIGRATIONS.update_problems(migration(), migration(revision="6"), subresource="status") == [
        'status.resourceVersion: Invalid value: "6": field is immutable'
    ]
    assert MIGRATIONS.update_problems(migration(revision=""), migration(revision="05"), subresource="status") == [
        'status.resourceVersion: Invalid value: "05": resource version is not well formed: 05'
    ]


# --- workloads


def workload(*groups: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "w"}, "spec": {"podGroups": list(groups), **spec}}


def test_a_group_of_pods_is_scheduled_one_way() -> None:
    needed = "exactly one of `basic`, `gang` is required"
    both = {"basic": {}, "gang": {"minCount": 1}}
    assert WORKLOADS.problems(workload({"name": "a"}, {"name": "b", "policy": both})) == [
        f"spec.podGroups[0].policy: Required value: {needed}",
        f'spec.podGroups[1].policy: Invalid value: "{{`basic`, `gang`}}": {needed}, but multiple fields are set',
    ]
    assert WORKLOADS.problems(workload({"name": "a", "policy": {"gang": {}}})) == [
        "spec.podGroups[0].policy.gang.minCount: Invalid value: 0: must be greater than zero"
    ]


def test_groups_of_a_workload_stay_and_its_controller_comes_once() -> None:
    stored = WORKLOADS.create(workload({"name": "a", "policy": {"basic": {}}}))
    owned = changed(stored, "spec.controllerRef", {"apiGroup": "batch", "kind": "Job", "name": "j"})
    assert not WORKLOADS.update_problems(stored, owned)
    (problem,) = WORKLOADS.update_problems(owned, stored)
    assert problem == "controllerRef: Invalid value: null: field is immutable"
    (problem,) = WORKLOADS.update_problems(stored, changed(stored, "spec.podGroups.0.name", "b"))
    assert problem.startswith("podGroups: Invalid value: ")
