"""What annotations say of a simulated pod's life."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from kubecore.kubelet.pods.records import records_of
from kubecore.kubelet.simulated.script import Script, ScriptError, Span

Object = dict[str, Any]


def pod(**rules: str) -> Object:
    said = {f"simulation.kubecore.dev/{key.replace('_', '-')}": value for key, value in rules.items()}
    spec = {"containers": [{"name": "main"}, {"name": "other"}], "initContainers": [{"name": "setup"}]}
    return {"metadata": {"name": "p", "uid": "u", "annotations": said}, "spec": spec}


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("500ms", 0.5), ("1h30m", 5400), ("1.5s", 1.5), ("0s", 0)])
def test_a_duration_is_written_as_in_go(text: str, seconds: float) -> None:
    span = Span.parse(text)
    assert span.shortest == span.longest == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "5", "5 s", "-1s", "s", "5s..1s", "1s..", "..", "1d"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Span.parse(text)


def test_a_range_gives_every_attempt_its_own_value_and_always_the_same() -> None:
    span = Span.parse("1s..5s")
    picked = [span.pick("u", attempt) for attempt in range(50)]
    assert picked == [span.pick("u", attempt) for attempt in range(50)]
    assert len(set(picked)) == 50
    assert all(timedelta(seconds=1) <= one <= timedelta(seconds=5) for one in picked)


def test_a_rule_is_about_the_main_containers_and_one_with_a_name_about_that_one() -> None:
    described = pod(**{"run_for": "10s", "exit_code": "2", "run-for.other": "20s", "exit-code.setup": "3"})
    script, records = Script(described), records_of(described)
    runs = {name: script.run_for(record) for name, record in records.items()}
    assert runs == {"setup": timedelta(0), "main": timedelta(seconds=10), "other": timedelta(seconds=20)}
    codes = {name: script.exit_code(record) for name, record in records.items()}
    assert codes == {"setup": 3, "main": 2, "other": 2}


def test_without_rules_containers_run_for_ever_and_those_of_pods_that_are_to_end_for_a_second() -> None:
    plain = pod()
    assert Script(plain).run_for(records_of(plain)["main"]) is None
    for policy, runs_for in (("Always", None), ("OnFailure", timedelta(seconds=1)), ("Never", timedelta(seconds=1))):
        plain["spec"]["restartPolicy"] = policy
        assert Script(plain).run_for(records_of(plain)["main"]) == runs_for


def test_a_container_with_a_restart_policy_of_its_own_goes_by_it() -> None:
    mixed = pod()
    mixed["spec"] |= {
        "restartPolicy": "Never",
        "containers": [{"name": "serves", "restartPolicy": "Always"}, {"name": "main"}],
        "initContainers": [{"name": "proxy", "restartPolicy": "Always"}],
    }
    runs = {name: Script(mixed).run_for(record) for name, record in records_of(mixed).items()}
    assert runs == {"proxy": None, "serves": None, "main": timedelta(seconds=1)}


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"run_for": "soon"}, "run-for: 'soon' is not a duration such as 30s or a range such as 1s..5s"),
        ({"exit_code": "256"}, "exit-code: '256' is not a number from 0 to 255"),
        ({"ready": "no"}, "ready: 'no' is not true or false"),
        ({"waiting": "no image"}, "waiting: 'no image' is not a reason such as ImagePullBackOff"),
        ({"restart_at": "noon"}, "restart-at: 'noon' is not a time such as"),
        ({"restart_at": "2026-01-01T00:00:00"}, "is not a time such as"),
        ({"run-for.nobody": "1s"}, "run-for.nobody: the pod has no container 'nobody'"),
        ({"run_fro": "1s"}, "run-fro: there is no such rule; there are: exit-code, ready, ready-delay, restart-at"),
        ({"stop-delay.main": "1s"}, "there is no such rule"),
    ],
)
def test_a_wrong_annotation_is_named(rules: dict[str, str], words: str) -> None:
    with pytest.raises(ScriptError, match=r"^annotation simulation\.kubecore\.dev/") as told:
        Script(pod(**rules))
    assert words in str(told.value)
