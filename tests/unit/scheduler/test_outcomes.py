"""Whatever happens in whatever order: nothing is overcommitted, and nobody waits who need not wait.

Random clusters live for a while, with pods of several priorities that keep near to, apart from and out of the way of
each other, with nodes that come, go and are cordoned, with requests that fail, and with the scheduler killed in
between. Time stands nearly still at the end, so that only the events that the plugins are woken by can have brought
about what is found.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from kubecore.api import meta
from kubecore.api.errors import StatusError
from kubecore.client.client import Object
from kubecore.scheduler.cache import Cache
from kubecore.scheduler.evaluator import PluginEvaluator
from kubecore.scheduler.framework import Decision, Score
from kubecore.scheduler.node_filter import NodeFilter
from kubecore.scheduler.pods import PodInfo
from kubecore.scheduler.preemption import Candidate, select_victims
from kubecore.scheduler.profile import EXTENSION_POINTS, Profile
from tests.unit.scheduler.builders import container, taint
from tests.unit.scheduler.conftest import Running

STEPS = 40
APPS = ("a", "b", "c")


class World:
    """Does something at random to a running cluster."""

    def __init__(self, cluster: Running, seed: int) -> None:
        self.cluster = cluster
        self.chance = random.Random(seed)
        self.made = 0

    async def step(self) -> None:
        actions = (self.add_pod, self.add_pod, self.add_pod, self.delete_pod, self.add_node, self.change_node)
        await self.chance.choice((*actions, self.remove_node, self.restart, self.wait, self.trouble))()
        self.end_deleted()

    async def add_node(self) -> None:
        labels = {"zone": self.chance.choice("xy")} if self.chance.random() < 0.8 else {}
        taints = [taint("special")] if self.chance.random() < 0.2 else []
        self.made += 1
        await self.cluster.add_node(f"n{self.made}", labels=labels, taints=taints)

    async def change_node(self) -> None:
        if nodes := self.cluster.api.all("nodes"):
            name = meta.name(self.chance.choice(nodes))
            change = self.chance.choice(
                (
                    {"spec": {"unschedulable": self.chance.random() < 0.5, "taints": None}},
                    {"metadata": {"labels": {"zone": self.chance.choice("xy")}}},
                    {"status": {"allocatable": {"cpu": self.chance.choice("4568"), "pods": "9"}}},
                )
            )
            self.cluster.api.change("nodes", name, **change)
            await self.cluster.settle()

    async def remove_node(self) -> None:
        nodes = self.cluster.api.all("nodes")
        if len(nodes) > 3:
            name = meta.name(self.chance.choice(nodes))
            self.cluster.api.remove("nodes", name)
            for pod in self.cluster.api.all("pods"):
                if pod["spec"].get("nodeName") == name:
                    self.cluster.api.remove("pods", meta.name(pod))
            await self.cluster.settle()

    async def add_pod(self) -> None:
        self.made += 1
        ports = [{"containerPort": 80, "hostPort": 80}] if self.chance.random() < 0.1 else []
        cpu = self.chance.choice(("500m", "1", "2", "3"))
        spec: dict[str, Any] = {
            "labels": {"app": self.chance.choice(APPS)},
            "priority": self.chance.choice((0, 0, 5, 10)),
            "containers": [container(requests={"cpu": cpu}, ports=ports)],
        }
        if self.chance.random() < 0.4:
            spec["affinity"] = self.affinity()
        if self.chance.random() < 0.2:
            spec["tolerations"] = [{"operator": "Exists"}]
        if self.chance.random() < 0.2:
            spec["topologySpreadConstraints"] = [
                {
                    "maxSkew": 1,
                    "topologyKey": "zone",
                    "whenUnsatisfiable": "DoNotSchedule",
                    "labelSelector": {"matchLabels": spec["labels"]},
                }
            ]
        await self.cluster.add_pod(f"p{self.made}", **spec)

    def affinity(self) -> Object:
        kind = self.chance.choice(("podAffinity", "podAntiAffinity", "podAntiAffinity"))
        selector = {"matchLabels": {"app": self.chance.choice(APPS)}}
        key = self.chance.choice(("zone", "kubernetes.io/hostname"))
        return {
            kind: {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": key, "labelSelector": selector}]}
        }

    async def delete_pod(self) -> None:
        if pods := self.cluster.api.all("pods"):
            self.cluster.api.remove("pods", meta.name(self.chance.choice(pods)))
            await self.cluster.settle()

    def end_deleted(self) -> None:
        """What kubelets do with pods that are deleted."""
        for pod in self.cluster.api.all("pods"):
            if meta.is_deleting(pod):
                self.cluster.api.remove("pods", meta.name(pod))

    async def restart(self) -> None:
        await self.cluster.stop()
        await self.cluster.start()

    async def trouble(self) -> None:
        """The next such request fails."""
        request = self.chance.choice(("create pods/binding", "delete pods", "patch pods/status"))
        error = self.chance.choice((StatusError(500, "InternalError", "no"), ConnectionRefusedError("no")))
        self.cluster.api.react(request, error, times=self.chance.randint(1, 2))

    async def wait(self) -> None:
        await self.cluster.clock.advance(self.chance.choice((1, 5, 20)))

    async def come_to_rest(self) -> None:
        """Shorter than a pod waits that is tried again for its own sake."""
        for _ in range(6):
            await self.cluster.clock.advance(12)
            self.end_deleted()


def cache_of_all(cluster: Running) -> Cache:
    cache = Cache()
    for node in cluster.api.all("nodes"):
        cache.set_node(node)
    for pod in cluster.api.all("pods"):
        if pod["spec"].get("nodeName"):
            cache.add_pod(PodInfo(pod))
    return cache


def without_scores(cluster: Running) -> Profile:
    assert cluster.scheduler is not None
    profile = cluster.scheduler.profiles["default-scheduler"]
    points = {kind: profile.at(kind) for kind in EXTENSION_POINTS.values() if kind is not Score}
    return Profile(points)


def waiting(cluster: Running) -> Iterator[tuple[PodInfo, Decision, Cache]]:
    cache = cache_of_all(cluster)
    evaluator = PluginEvaluator(without_scores(cluster))
    for pod in cluster.api.all("pods"):
        if not pod["spec"].get("nodeName"):
            assert not (pod.get("status") or {}).get("nominatedNodeName"), "room is being made for ever"
            yield PodInfo(pod), evaluator.evaluate(PodInfo(pod), cache), cache


def waiting_though_there_is_room(cluster: Running) -> Iterator[tuple[str, str]]:
    for pod, decision, _ in waiting(cluster):
        if decision.node:
            yield pod.key, decision.node


def waiting_though_others_could_go(cluster: Running) -> Iterator[tuple[str, str]]:
    node_filter = NodeFilter(without_scores(cluster))
    for pod, decision, cache in waiting(cluster):
        for name in decision.diagnosis.crowded if decision.diagnosis else ():
            on = cache.node(name)
            assert on is not None
            found = select_victims(
                node_filter,
                decision.state,
                pod,
                on,
                budgets=[],
                nominations=cache.nominations,
                now=cluster.clock.now(),
            )
            if isinstance(found, Candidate):
                yield pod.key, name


@pytest.mark.parametrize("seed", range(12))
async def test_who_could_run_does_and_nothing_is_overcommitted(cluster: Running, seed: int) -> None:
    await cluster.start()
    world = World(cluster, seed)
    for _ in range(3):
        await world.add_node()
    for _ in range(STEPS):
        await world.step()
    await world.come_to_rest()

    for name, node in waiting_though_there_is_room(cluster):
        pytest.fail(f"{name} waits though it fits on {node}")
    for node in cache_of_all(cluster).nodes():
        ports = [port for pod in node.pods.values() for port in pod.ports]
        assert len(ports) == len(set(ports)), f"two pods with one port on {node.name}"
    # What hinders preemption wakes nobody when it goes, as in Kubernetes: such pods are tried again after five minutes.
    for _ in range(3):
        await cluster.clock.advance(340)
        await world.come_to_rest()
    for name, node in waiting_though_others_could_go(cluster):
        pytest.fail(f"{name} waits though others could make room on {node}")
