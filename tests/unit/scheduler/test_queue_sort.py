"""Pods are tried in the order that a QueueSort plugin gives them, and none is lost when it fails."""

from __future__ import annotations

from kubecore.clock import VirtualClock
from kubecore.scheduler.framework import QueueSort
from kubecore.scheduler.pods import PodInfo
from kubecore.scheduler.profile import DEFAULT_NAME, Profile
from kubecore.scheduler.queue import SchedulingQueue
from tests.unit.scheduler.builders import info


class ByLabel(QueueSort):
    name = "ByLabel"

    def order(self, pod: PodInfo, since: float) -> object:
        text = pod.labels["turn"]
        return int(text) if text.isdigit() else text


def popped(**turns: str) -> list[str]:
    queue = SchedulingQueue(VirtualClock(), {DEFAULT_NAME: Profile.of([ByLabel()])})
    for name, turn in turns.items():
        queue.add(info(name, labels={"turn": turn} if turn else {}))
    found = []
    while (entry := queue.pop_now()) is not None:
        found.append(entry.pod.key.removeprefix("default/"))
    return found


def test_a_plugin_sorts_as_it_likes() -> None:
    assert popped(a="3", b="1", c="2") == ["b", "c", "a"]


def test_pods_that_it_cannot_place_come_last_as_they_came() -> None:
    assert popped(lost="", a="2", gone="", b="1") == ["b", "a", "lost", "gone"]


def test_keys_that_cannot_be_compared_lose_no_pod() -> None:
    assert sorted(popped(a="2", b="x", c="1")) == ["a", "b", "c"]
