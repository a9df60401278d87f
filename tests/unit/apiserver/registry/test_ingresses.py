"""Ingresses and PodDisruptionBudgets: what is refused of one that leads nowhere, and of what a status says."""

from __future__ import annotations

import pytest

from kubecore.api.errors import StatusError
from tests.unit.apiserver.registry.writing import Writer

INGRESSES, BUDGETS = Writer("ingresses.networking.k8s.io"), Writer("poddisruptionbudgets.policy")


def test_one_without_rules_and_backend_is_told_what_rules_it_has() -> None:
    detail = "either `defaultBackend` or `rules` must be specified"
    nothing = {"metadata": {"name": "a"}, "spec": {}}
    assert INGRESSES.problems(nothing) == [f"spec: Invalid value: null: {detail}"]
    assert INGRESSES.problems({"metadata": {"name": "a"}}) == [f"spec: Invalid value: null: {detail}"]


def test_a_status_names_addresses_and_hosts_that_are_some() -> None:
    backend = {"service": {"name": "s", "port": {"number": 80}}}
    old = INGRESSES.create({"metadata": {"name": "a"}, "spec": {"defaultBackend": backend}})

    def told(*ingress: dict[str, str]) -> list[str]:
        with pytest.raises(StatusError) as caught:
            INGRESSES.update(old, {**old, "status": {"loadBalancer": {"ingress": list(ingress)}}}, subresource="status")
        return [cause["field"] for cause in caught.value.causes]

    where = "status.loadBalancer.ingress"
    assert told({"ip": "10.0.0"}, {"hostname": "-a"}) == [f"{where}[0].ip", f"{where}[1].hostname"]
    assert told({"hostname": "10.0.0.1"}) == [f"{where}[0].hostname"]
    right = {"loadBalancer": {"ingress": [{"ip": "10.0.0.1", "hostname": "a.example"}]}}
    assert INGRESSES.update(old, {**old, "status": right}, subresource="status")["status"] == right


def test_a_budgets_conditions_are_conditions() -> None:
    old = BUDGETS.create({"metadata": {"name": "a"}, "spec": {"minAvailable": 1}})
    told = {"type": "T", "status": "Perhaps", "reason": "R", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    with pytest.raises(StatusError) as caught:
        BUDGETS.update(old, {**old, "status": {**old["status"], "conditions": [told]}}, subresource="status")
    (cause,) = caught.value.causes
    assert cause["field"] == "status.conditions[0].status"
    assert cause["message"] == 'Unsupported value: "Perhaps": supported values: "False", "True", "Unknown"'
