"""What an aggregated ClusterRole is made of."""

from __future__ import annotations

from typing import Any

from kubecore.controllers.identities.clusterrole_aggregation import ClusterRoleAggregationController, aggregated_rules
from tests.support.comparisons import counting
from tests.support.fake_api import FakeAPI
from tests.unit.controllers.conftest import Running

JSON = dict[str, Any]


def role(name: str, *resources: str, **labels: str) -> JSON:
    rules = [{"apiGroups": [""], "resources": [one], "verbs": ["get"]} for one in resources]
    return {"metadata": {"name": name, "labels": labels}, "rules": rules}


def of(*labels: dict[str, str]) -> JSON:
    selectors = [{"matchLabels": one} for one in labels]
    return {
        "metadata": {"name": "all", "labels": {"to": "all"}},
        "aggregationRule": {"clusterRoleSelectors": selectors},
    }


def resources(rules: list[JSON]) -> list[str]:
    return [resource for rule in rules for resource in rule["resources"]]


def test_selectors_are_taken_in_order_roles_by_name_and_each_rule_once() -> None:
    roles = [role("b", "pods", "secrets", to="all"), role("a", "nodes", "pods", to="all"), role("c", "jobs", more="x")]
    made = aggregated_rules(of({"more": "x"}, {"to": "all"}), [*roles, of({"to": "all"}), role("d", "events")])
    assert resources(made) == ["jobs", "nodes", "pods", "secrets"]


def test_rules_that_say_the_same_in_another_order_of_fields_are_one() -> None:
    turned = {"verbs": ["get"], "resources": ["pods"], "apiGroups": [""]}
    other = {"metadata": {"name": "b", "labels": {"to": "all"}}, "rules": [turned]}
    assert len(aggregated_rules(of({"to": "all"}), [role("a", "pods", to="all"), other])) == 1


def test_rules_are_not_each_held_against_each() -> None:
    """Roles may have tens of thousands, which would be hundreds of millions of comparisons."""
    text, many = counting(), 500
    names = [text(f"r{number}") for number in range(many)]
    made = aggregated_rules(of({"to": "all"}), [role("a", *names, to="all"), role("b", *reversed(names), to="all")])
    assert resources(made) == names
    assert text.compared <= 20 * many


async def test_where_nothing_is_chosen_any_more_nobody_owns_the_rules(api: FakeAPI, running: Running) -> None:
    roles = "clusterroles.rbac.authorization.k8s.io"
    api.add(roles, of({"to": "x"}) | {"rules": role("a", "pods")["rules"]})
    await running.start(ClusterRoleAggregationController(running.context))
    [applied] = [one for one in api.requests if one.verb.startswith("patch clusterroles")]
    assert "rules" not in applied.body
