"""Flow schemas and priority levels."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.apiserver.registry.writing import Writer, changed

SCHEMAS = Writer("flowschemas.flowcontrol.apiserver.k8s.io", namespaced=False)
LEVELS = Writer("prioritylevelconfigurations.flowcontrol.apiserver.k8s.io", namespaced=False)
USER = {"kind": "User", "user": {"name": "u"}}
READS = {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "namespaces": ["*"]}


def schema(*rules: dict[str, Any], name: str = "x", **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "spec": {"priorityLevelConfiguration": {"name": "p"}, "rules": list(rules), **spec},
    }


def level(name: str = "x", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": spec}


def queuing(**numbers: int) -> dict[str, Any]:
    return level(type="Limited", limited={"limitResponse": {"type": "Queue", "queuing": numbers}})


def test_a_schema_stands_in_the_middle_and_only_exempt_comes_first() -> None:
    assert SCHEMAS.create(schema())["spec"]["matchingPrecedence"] == 1000
    assert SCHEMAS.problems(schema(matchingPrecedence=1)) == [
        "spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1"
    ]


def test_a_way_to_tell_flows_apart_is_shown_as_go_names_its_field() -> None:
    assert SCHEMAS.problems(schema(distinguisherMethod={})) == [
        'spec.distinguisherMethod.type: Unsupported value: {"Type":""}: supported values: "ByNamespace", "ByUser"'
    ]


def test_a_rule_is_about_somebody_and_something() -> None:
    assert SCHEMAS.problems(schema({})) == [
        "spec.rules[0].subjects: Required value: subjects must contain at least one value",
        "spec.rules[0]: Required value: at least one of resourceRules and nonResourceRules has to be non-empty",
    ]


@pytest.mark.parametrize(
    ("subject", "problem"),
    [
        ({"kind": "Robot"}, '.kind: Unsupported value: "Robot": supported values: "Group", "ServiceAccount", "User"'),
        ({"kind": "Group"}, ".group: Required value: group is required when subject kind is 'Group'"),
        (
            {**USER, "group": {"name": "g"}},
            ".group: Forbidden: group is forbidden when subject kind is not 'Group'",
        ),
        (
            {"kind": "ServiceAccount", "serviceAccount": {"name": "*"}},
            ".serviceAccount.namespace: Required value: must specify namespace for service account",
        ),
    ],
)
def test_a_subject_is_what_its_kind_says(subject: dict[str, Any], problem: str) -> None:
    found = SCHEMAS.problems(schema({"subjects": [subject], "resourceRules": [READS]}))
    assert found == [f"spec.rules[0].subjects[0]{problem}"]


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        ("healthz", "must start with slash"),
        ("/a b", "must not contain white-space"),
        ("/a//b", "must not contain double slash"),
        ("/a*", "wildcard can only do suffix matching"),
        ("/*/a/*", "wildcard can only do suffix matching"),
    ],
)
def test_paths_end_with_a_wildcard_at_most(url: str, wrong: str) -> None:
    rule = {"subjects": [USER], "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/ok/*", url]}]}
    assert SCHEMAS.problems(schema(rule)) == [
        f'spec.rules[0].nonResourceRules[0].nonResourceURLs[1]: Invalid value: "{url}": {wrong}'
    ]


def test_the_schemas_every_server_relies_on_stay_as_they_are() -> None:
    (problem,) = SCHEMAS.problems(schema({"subjects": [USER], "resourceRules": [READS]}, name="catch-all"))
    assert problem.endswith(": spec of 'catch-all' must equal the fixed value")


def test_only_exempt_is_exempt() -> None:
    assert LEVELS.problems(level(type="Exempt")) == [
        "spec.type: Invalid value: \"Exempt\": must be 'Exempt' if and only if `name` is 'exempt'"
    ]
    assert LEVELS.create(level("exempt", type="Exempt", exempt={}))["spec"]["exempt"] == {
        "nominalConcurrencyShares": 0,
        "lendablePercent": 0,
    }


def test_a_limited_level_has_shares_and_queues_by_default() -> None:
    limited = LEVELS.create(queuing())["spec"]["limited"]
    assert (limited["nominalConcurrencyShares"], limited["lendablePercent"]) == (30, 0)
    assert limited["limitResponse"]["queuing"] == {"queues": 64, "handSize": 8, "queueLengthLimit": 50}


@pytest.mark.parametrize(
    ("queues", "hand", "problem"),
    [
        (4, 5, "should not be greater than queues (4)"),
        (1024, 7, "required entropy bits of deckSize 1024 and handSize 7 should not be greater than 60"),
    ],
)
def test_hands_are_dealt_from_sixty_bits(queues: int, hand: int, problem: str) -> None:
    found = LEVELS.problems(queuing(queues=queues, handSize=hand))
    assert found == [f"spec.limited.limitResponse.queuing.handSize: Invalid value: {hand}: {problem}"]


def test_who_rejects_has_no_queues() -> None:
    rejecting = level(type="Limited", limited={"limitResponse": {"type": "Reject", "queuing": {}}})
    assert LEVELS.problems(rejecting) == [
        "spec.limited.limitResponse.queuing: Forbidden: must be nil if limited.limitResponse.type is not Limited"
    ]


def test_what_a_limited_level_gets_wrong_is_told_in_upstreams_order() -> None:
    limited = {"nominalConcurrencyShares": -1, "lendablePercent": 101, "borrowingLimitPercent": -1}
    found = LEVELS.problems(level(type="Limited", limited={**limited, "limitResponse": {"type": "Other"}}))
    assert [one.partition(":")[0].removeprefix("spec.limited.") for one in found] == [
        "nominalConcurrencyShares",
        "limitResponse.type",
        "lendablePercent",
        "borrowingLimitPercent",
    ]


def test_conditions_of_a_status_are_of_different_types() -> None:
    stored = SCHEMAS.create(schema())
    told = changed(stored, "status.conditions", [{"type": "A"}, {"type": "A"}, {}])
    assert SCHEMAS.update_problems(stored, told, subresource="status") == [
        'status.conditions[1].type: Duplicate value: "A"',
        "status.conditions[2].type: Required value",
    ]
