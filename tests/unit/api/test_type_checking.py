"""What is wrong with expressions of policies, given the types of objects."""

from __future__ import annotations

from typing import Any

import pytest

from kubecore.api import scheme
from kubecore.api.type_checking import Kind, Types, expression_warnings

JSON = dict[str, Any]

BAN: JSON = {
    "spec": {
        "group": "example.com",
        "names": {"plural": "bans", "kind": "Ban"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {"spec": {"type": "object", "properties": {"most": {"type": "integer"}}}},
                    }
                },
            },
            {"name": "v2", "served": False},
        ],
    }
}


def policy(*expressions: str, **spec: Any) -> JSON:
    rule = {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["*"], "resources": ["deployments"]}
    validations = [{"expression": one} for one in expressions]
    return {"spec": {"matchConstraints": {"resourceRules": [rule]}, "validations": validations, **spec}}


def warnings(found: JSON) -> list[JSON]:
    return expression_warnings(found, Types([BAN]))


@pytest.mark.parametrize(
    "expression",
    [
        "object.spec.replicas > 1 && object.metadata.labels.exists(k, k == 'a')",
        "object.spec.template.spec.containers.all(c, c.image.startsWith('x') && c.resources.limits['cpu'] != '')",
        "object.metadata.creationTimestamp < timestamp('2030-01-01T00:00:00Z') || oldObject.spec.paused",
        "object.spec.strategy.rollingUpdate.maxSurge == 1 || object.spec.strategy.rollingUpdate.maxSurge == '1%'",
    ],
)
def test_expressions_that_fit_the_built_in_type_are_silent(expression: str) -> None:
    assert warnings(policy(expression)) == []


def test_a_warning_names_the_field_and_the_kind() -> None:
    found = policy("true", "object.spec.replicas == 'x'")
    found["spec"]["validations"][0]["messageExpression"] = "object.spec.colour"
    first, second = warnings(found)
    assert first["fieldRef"] == "spec.validations[0].messageExpression"
    assert first["warning"].startswith("apps/v1, Kind=Deployment: ERROR: <input>:1:12: undefined field 'colour'\n")
    assert first["warning"].endswith("^\n")
    assert second["fieldRef"] == "spec.validations[1].expression"
    assert "no matching overload for '_==_' applied to '(int, string)'" in second["warning"]


def test_custom_kinds_and_parameters_have_the_types_of_their_definitions() -> None:
    kind = {"apiVersion": "example.com/v1", "kind": "Ban"}
    assert warnings(policy("object.spec.replicas <= params.spec.most", paramKind=kind)) == []
    [warning] = warnings(policy("params.spec.least == 1", paramKind=kind))
    assert "undefined field 'least'" in warning["warning"]
    found = policy("object.spec.color == ''")
    rule = found["spec"]["matchConstraints"]["resourceRules"][0]
    rule |= {"apiGroups": ["example.com"], "resources": ["bans", "bans/status"], "apiVersions": ["v1", "v2"]}
    [warning] = warnings(found)
    assert warning["warning"].startswith("example.com/v1, Kind=Ban: ")
    assert warning["warning"].count("Kind=Ban") == 1


def test_variables_carry_their_types() -> None:
    variables = [{"name": "replicas", "expression": "object.spec.replicas"}]
    [warning] = warnings(policy("variables.replicas == 'x'", variables=variables))
    assert "no matching overload" in warning["warning"]


def test_rules_for_everything_are_not_looked_at() -> None:
    found = policy("object.nonsense")
    found["spec"]["matchConstraints"]["resourceRules"][0]["apiGroups"] = ["*"]
    assert warnings(found) == []


def test_every_built_in_kind_has_a_type() -> None:
    types = Types([])
    for resource in scheme.default().resources:
        if "create" in resource.verbs and "get" in resource.verbs:
            assert types.of(Kind(resource.group, resource.version, resource.kind)) is not None, resource.key
