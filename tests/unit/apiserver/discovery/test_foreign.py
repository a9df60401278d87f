"""Versions that others serve, among our own."""

from __future__ import annotations

import orjson

from kubecore.api import scheme
from kubecore.apiserver.discovery.foreign import ForeignVersion
from kubecore.apiserver.discovery.priorities import Priority
from kubecore.apiserver.discovery.serving import Discovery

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
FLUNDERS = [{"resource": "flunders", "verbs": ["get"]}]


def told(path: str, *foreign: ForeignVersion, accept: str = "") -> dict[str, object]:
    discovery = Discovery(scheme.default())
    discovery.replace(scheme.default(), foreign)
    answer = discovery.respond(path, accept)
    assert answer is not None
    found: dict[str, object] = orjson.loads(answer.body)
    return found


def names(document: dict[str, object]) -> list[str]:
    groups = document.get("groups") or document["items"]
    assert isinstance(groups, list)
    return [one.get("name") or one["metadata"]["name"] for one in groups]


def foreign(
    group: str, version: str = "v1", priority: int = 1000, own: int = 15, *, current: bool = True
) -> ForeignVersion:
    return ForeignVersion(group, version, Priority(priority, own), FLUNDERS, current)


def test_groups_stand_where_their_priority_says() -> None:
    for accept in ("", AGGREGATED):
        found = names(
            told("/apis", foreign("low.example.com", priority=10), foreign("high.io", priority=17750), accept=accept)
        )
        assert found[:4] == ["apiregistration.k8s.io", "apps", "events.k8s.io", "high.io"]
        assert found[-1] == "low.example.com"


def test_versions_of_a_group_stand_in_order_of_theirs_and_then_of_their_age() -> None:
    group = "wardle.example.com"
    versions = [
        foreign(group, "v1alpha1"),
        foreign(group, "v1"),
        foreign(group, "v3", own=10),
        foreign(group, "v1beta1"),
    ]
    found = told(f"/apis/{group}", *versions)
    assert isinstance(found["versions"], list)
    assert [one["version"] for one in found["versions"]] == ["v1", "v1beta1", "v1alpha1", "v3"]
    assert found["preferredVersion"] == {"groupVersion": f"{group}/v1", "version": "v1"}


def test_resources_are_told_of_who_answers_and_of_others_that_they_did_not() -> None:
    group = "wardle.example.com"
    document = told("/apis", foreign(group), foreign(group, "v2", current=False), accept=AGGREGATED)
    assert isinstance(document["items"], list)
    found = next(one for one in document["items"] if one["metadata"]["name"] == group)
    assert found["versions"] == [
        {"version": "v2", "freshness": "Stale"},
        {"version": "v1", "resources": FLUNDERS, "freshness": "Current"},
    ]


def test_a_version_of_ours_that_others_serve_is_theirs() -> None:
    document = told("/apis", foreign("batch", priority=17400), accept=AGGREGATED)
    assert isinstance(document["items"], list)
    found = next(one for one in document["items"] if one["metadata"]["name"] == "batch")
    assert found["versions"][0]["resources"] == FLUNDERS


def test_without_any_the_order_is_the_same_as_with_one_but_for_that_one() -> None:
    for accept in ("", AGGREGATED):
        with_one = names(told("/apis", foreign("z.example.com", priority=1), accept=accept))
        assert [one for one in with_one if one != "z.example.com"] == names(told("/apis", accept=accept))
