"""ResourceQuotas, LimitRanges, Events, IPAddresses and ServiceCIDRs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.apiserver.registry.writing import Writer, changed

QUOTAS, RANGES, EVENTS = Writer("resourcequotas"), Writer("limitranges"), Writer("events")
ADDRESSES = Writer("ipaddresses.networking.k8s.io", namespaced=False)
CIDRS = Writer("servicecidrs.networking.k8s.io", namespaced=False)


def named(**fields: Any) -> dict[str, Any]:
    return {"metadata": {"name": "x"}, **fields}


# --- ResourceQuotas


def quota(**spec: Any) -> dict[str, Any]:
    return named(spec=spec)


def test_what_is_counted_must_be_in_the_reach_of_the_scope() -> None:
    assert not QUOTAS.problems(quota(hard={"pods": "1"}, scopes=["BestEffort"]))
    assert QUOTAS.problems(quota(hard={"services": "1"}, scopes=["BestEffort"])) == [
        'spec.scopes: Invalid value: ["BestEffort"]: unsupported scope applied to resource'
    ]


def test_things_are_counted_in_whole_numbers() -> None:
    assert QUOTAS.problems(quota(hard={"pods": "1500m"})) == [
        'spec.hard[pods]: Invalid value: "1500m": must be an integer'
    ]


@pytest.mark.parametrize(
    ("requirement", "problem"),
    [
        (
            {"scopeName": "PriorityClass", "operator": "In"},
            "values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
        ),
        (
            {"scopeName": "PriorityClass", "operator": "Exists", "values": ["a"]},
            "values: Invalid value: [\"a\"]: must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope "
            "selector",
        ),
        ({"scopeName": "Odd", "operator": "Exists"}, 'scopeName: Invalid value: "Odd": unsupported scope'),
        (
            {"scopeName": "PriorityClass", "operator": "Gt"},
            'operator: Invalid value: "Gt": not a valid selector operator',
        ),
    ],
)
def test_a_scope_selector_names_a_scope_and_what_to_do_with_values(requirement: dict[str, Any], problem: str) -> None:
    selector = {"matchExpressions": [requirement]}
    assert QUOTAS.problems(quota(hard={"pods": "1"}, scopeSelector=selector)) == [
        f"spec.scopeSelector.matchExpressions.{problem}"
    ]


def test_scopes_stay_whatever_their_order() -> None:
    stored = QUOTAS.create(quota(hard={"pods": "1"}, scopes=["BestEffort", "Terminating"]))
    assert not QUOTAS.update_problems(stored, changed(stored, "spec.scopes", ["Terminating", "BestEffort"]))
    assert QUOTAS.update_problems(stored, changed(stored, "spec.scopes", ["Terminating"])) == [
        'spec.scopes: Invalid value: ["Terminating"]: field is immutable'
    ]


def test_an_empty_list_of_scopes_is_not_stored() -> None:
    assert QUOTAS.create(quota(hard={"pods": "1"}, scopes=[]))["spec"] == {"hard": {"pods": "1"}}


# --- LimitRanges


def limit(**item: Any) -> dict[str, Any]:
    return named(spec={"limits": [{"type": "Container", **item}]})


def test_a_ratio_cannot_be_wider_than_minimum_and_maximum() -> None:
    fits = limit(min={"cpu": "500m"}, max={"cpu": "2"}, maxLimitRequestRatio={"cpu": "4"})
    assert not RANGES.problems(fits)
    assert RANGES.problems(changed(fits, "spec.limits.0.min", {"cpu": "1"})) == [
        'spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: "4": ratio 4 is greater than max/min = 2.000000'
    ]


def test_what_cannot_be_overcommitted_has_one_default() -> None:
    item = limit(default={"example.com/gpu": "2"}, defaultRequest={"example.com/gpu": "1"})
    assert RANGES.problems(item) == [
        'spec.limits[0].defaultRequest[example.com/gpu]: Invalid value: "1": '
        "default value 2 must equal to defaultRequest value 1 in example.com/gpu"
    ]


def test_a_limit_range_without_a_name_is_given_one() -> None:
    stored = RANGES.create({"metadata": {}, "spec": {"limits": []}})
    assert len(stored["metadata"]["name"]) == 36


# --- Events

STRICT = {
    "involvedObject": {},
    "eventTime": "2026-01-01T00:00:00.000000Z",
    "reportingComponent": "example.com/c",
    "reportingInstance": "c-1",
    "action": "Act",
    "reason": "Started",
    "type": "Normal",
}


def test_an_old_event_is_in_the_namespace_of_its_object() -> None:
    assert not EVENTS.problems(named(involvedObject={"namespace": "default"}))
    assert EVENTS.problems(named(involvedObject={"namespace": "other"})) == [
        'involvedObject.namespace: Invalid value: "other": does not match event.namespace'
    ]


def test_an_event_with_a_time_says_who_did_what_and_why() -> None:
    assert not EVENTS.problems(named(**STRICT))
    (problem,) = EVENTS.problems(named(**{**STRICT, "action": ""}))
    assert problem == "action: Required value"


def test_an_event_of_the_new_group_has_a_time_and_one_of_two_types() -> None:
    writer = Writer("events", api_version="events.k8s.io/v1")
    assert not writer.problems(named(**STRICT))
    found = writer.problems(named(involvedObject={}, type="Odd", count=2))
    assert found == [
        "eventTime: Required value",
        'type: Invalid value: "": has invalid value: Odd',
        'count: Invalid value: "": needs to be unset',
    ]


def test_the_new_group_changes_only_the_series_of_an_event() -> None:
    writer = Writer("events", api_version="events.k8s.io/v1")
    stored = writer.create(named(**STRICT))
    series = {"count": 2, "lastObservedTime": "2026-01-01T00:00:01.000000Z"}
    assert not writer.update_problems(stored, changed(stored, "series", series))
    assert writer.update_problems(stored, changed(stored, "message", "new")) == [
        'message: Invalid value: "new": field is immutable'
    ]
    assert not EVENTS.update_problems(stored, changed(stored, "message", "new"))


# --- addresses of Services


def test_an_ip_address_is_named_for_the_address_and_belongs_to_something() -> None:
    owned = {"spec": {"parentRef": {"resource": "services", "namespace": "default", "name": "s"}}}
    assert not ADDRESSES.problems({"metadata": {"name": "10.0.0.5"}, **owned})
    (problem,) = ADDRESSES.problems({"metadata": {"name": "x"}, **owned})
    assert "must be a valid IP address" in problem
    assert ADDRESSES.problems({"metadata": {"name": "10.0.0.5"}, "spec": {}}) == ["spec.parentRef: Required value"]


def test_the_owner_of_an_ip_address_stays() -> None:
    stored = ADDRESSES.create({"metadata": {"name": "10.0.0.5"}, "spec": {"parentRef": {"resource": "r", "name": "a"}}})
    (problem,) = ADDRESSES.update_problems(stored, changed(stored, "spec.parentRef.name", "b"))
    assert problem.startswith("spec.parentRef: Invalid value:") and problem.endswith("field is immutable")


def test_a_service_cidr_may_be_joined_by_one_of_the_other_family() -> None:
    stored = CIDRS.create(named(spec={"cidrs": ["10.97.0.0/16"]}))
    assert not CIDRS.update_problems(stored, changed(stored, "spec.cidrs", ["10.97.0.0/16", "fd00::/112"]))
    (problem,) = CIDRS.update_problems(stored, changed(stored, "spec.cidrs", ["10.97.0.0/16", "10.98.0.0/16"]))
    assert "may specify no more than one IP for each IP family" in problem
    assert CIDRS.update_problems(stored, changed(stored, "spec.cidrs", ["10.98.0.0/16"])) == [
        'spec.cidrs[0]: Invalid value: "10.98.0.0/16": field is immutable'
    ]
