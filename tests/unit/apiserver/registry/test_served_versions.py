"""Objects in a version that says the same in other words: HorizontalPodAutoscalers and Events."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kubecore.apiserver.registry.versions import autoscalers, events

JSON = dict[str, Any]
CPU = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}
PODS = {"type": "Pods", "pods": {"metric": {"name": "m"}, "target": {"type": "AverageValue", "averageValue": "5"}}}


def autoscaler(**fields: Any) -> JSON:
    return {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "x"}, **fields}


def notes_of(obj: JSON) -> JSON:
    found: JSON = obj["metadata"].get("annotations") or {}
    return found


def test_a_target_of_cpu_is_a_field_of_v1() -> None:
    shown = autoscalers.served(autoscaler(spec={"maxReplicas": 3, "metrics": [CPU]}))
    assert shown["spec"] == {"maxReplicas": 3, "targetCPUUtilizationPercentage": 80}
    assert not notes_of(shown)
    assert autoscalers.stored(shown)["spec"]["metrics"] == [CPU]


def test_other_metrics_are_an_annotation_of_v1() -> None:
    shown = autoscalers.served(autoscaler(spec={"maxReplicas": 3, "metrics": [PODS, CPU]}))
    assert json.loads(notes_of(shown)[autoscalers.METRICS]) == [
        {"type": "Pods", "pods": {"metricName": "m", "targetAverageValue": "5"}}
    ]
    assert autoscalers.stored(shown)["spec"]["metrics"] == [PODS, CPU]


def test_behavior_has_gos_names_in_its_annotation() -> None:
    rules = {"selectPolicy": "Max", "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}]}
    shown = autoscalers.served(autoscaler(spec={"maxReplicas": 3, "behavior": {"scaleUp": rules}}))
    assert json.loads(notes_of(shown)[autoscalers.BEHAVIOR]) == {
        "ScaleUp": {
            "StabilizationWindowSeconds": None,
            "SelectPolicy": "Max",
            "Policies": [{"Type": "Pods", "Value": 4, "PeriodSeconds": 15}],
            "Tolerance": None,
        },
        "ScaleDown": None,
    }
    assert autoscalers.stored(shown)["spec"]["behavior"] == {"scaleUp": rules}


def test_status_and_conditions_come_back_from_v1() -> None:
    current = {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 40}}}
    condition = {"type": "AbleToScale", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    status = {"currentReplicas": 2, "desiredReplicas": 3, "currentMetrics": [current], "conditions": [condition]}
    shown = autoscalers.served(autoscaler(spec={"maxReplicas": 3}, status=status))
    assert shown["status"] == {"currentReplicas": 2, "desiredReplicas": 3, "currentCPUUtilizationPercentage": 40}
    back = autoscalers.stored(shown)["status"]
    assert back["conditions"] == [condition]
    # v1 always has an amount, and what was not known is nothing there.
    value = {"averageValue": "0", "averageUtilization": 40}
    assert back["currentMetrics"] == [{"type": "Resource", "resource": {"name": "cpu", "current": value}}]


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[1]",
        '[{"type":"Pods","pods":{"targetAverageValue":"much"}}]',
        '[{"type":"Pods","pods":{"targetAverageValue":"5","selector":"all"}}]',
        '[{"type":"Resource","resource":{"name":"cpu","targetAverageUtilization":"80"}}]',
    ],
)
def test_an_annotation_that_cannot_be_read_counts_as_none(text: str) -> None:
    given = autoscaler(spec={"maxReplicas": 3})
    given["metadata"]["annotations"] = {autoscalers.METRICS: text, "kept": "yes"}
    found = autoscalers.stored(given)
    assert found["spec"]["metrics"] == [CPU]  # by default
    assert notes_of(found) == {"kept": "yes"}


@pytest.mark.parametrize("value", ['"4"', "1.5", "{}", "3000000000"])
def test_a_behavior_of_other_types_than_v2s_counts_as_none(value: str) -> None:
    given = autoscaler(spec={"maxReplicas": 3})
    policies = f'[{{"Type":"Pods","Value":{value},"PeriodSeconds":15}}]'
    given["metadata"]["annotations"] = {autoscalers.BEHAVIOR: f'{{"ScaleUp":{{"Policies":{policies}}}}}'}
    assert "behavior" not in autoscalers.stored(given)["spec"]


def test_an_event_has_other_names_in_the_other_group() -> None:
    core = {
        "metadata": {"name": "x"},
        "involvedObject": {"kind": "Pod"},
        "message": "m",
        "source": {},
        "count": 1,
        "reportingComponent": "",
        "reportingInstance": "",
    }
    shown = events.served(core)
    assert shown == {
        "metadata": {"name": "x"},
        "regarding": {"kind": "Pod"},
        "note": "m",
        "deprecatedSource": {},
        "deprecatedCount": 1,
    }
    assert events.stored(shown) == core
