"""Whatever users, failing nodes and killed controllers do, the laws of workloads hold, and all comes right in the end.

The same runs each time; `make test-laws` looks for new ones.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from kubecore.api import meta
from kubecore.api.errors import StatusError
from tests.integration.controllers.world import PARTS, World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600 if "CONTROLLER_LAWS_EXAMPLES" in os.environ else 900)]

Object = dict[str, Any]
T = TypeVar("T")
NODES = 3
NAMES = st.sampled_from(["a", "b"])
SIZES = st.integers(min_value=0, max_value=5)
NODE_NAMES = st.sampled_from([f"node-{number}" for number in range(NODES)])
SILENT = "simulation.kubecore.dev/silent"
CONVERGED_SECONDS = 1800


@dataclass
class Wanted:
    """A Deployment as it was asked for, and between how many of its pods there may be meanwhile."""

    replicas: int
    surge: int
    unavailable: int
    least_ready: int = 0
    most: int = 0


def template(app: str, image: str = "none", **rules: str) -> Object:
    annotations = {f"simulation.kubecore.dev/{key.replace('_', '-')}": value for key, value in rules.items()}
    spec = {"containers": [{"name": "main", "image": image}], "terminationGracePeriodSeconds": 5}
    return {"metadata": {"labels": {"app": app}, "annotations": annotations}, "spec": spec}


def living(pods: list[Object]) -> list[Object]:
    return [pod for pod in pods if not meta.is_deleting(pod) and pod["status"]["phase"] in ("Pending", "Running")]


def ready(pods: list[Object]) -> list[Object]:
    return [pod for pod in living(pods) if (meta.condition(pod, "Ready") or {}).get("status") == "True"]


class Laws(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.world = World(Path(self.folder.name), NODES)
        self.run(self.world.start())
        self.deployments: dict[str, Wanted] = {}
        self.sets: dict[str, int] = {}
        self.daemons: set[str] = set()
        self.jobs: dict[str, int] = {}
        self.succeeded: Counter[str] = Counter()
        self.images = 0

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def teardown(self) -> None:
        try:
            self.run(self.converge())
            self.run(self.delete_everything())
            self.run(self.world.stop())
        finally:
            self.runner.close()
            self.folder.cleanup()

    # ---- what users do

    @rule(name=NAMES, replicas=SIZES, surge=st.integers(0, 2), unavailable=st.integers(0, 2))
    def a_deployment_is_made_or_scaled(self, name: str, replicas: int, surge: int, unavailable: int) -> None:
        if surge == unavailable == 0:
            surge = 1
        rolling = {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}
        app = f"deployment-{name}"
        known = self.deployments.get(name)
        if known is None:
            spec = {
                "replicas": replicas,
                "strategy": rolling,
                "selector": {"matchLabels": {"app": app}},
                "template": template(app, ready_delay="1s..4s", stop_delay="0s..3s"),
            }
            self.create("deployments.apps", name, spec)
            self.deployments[name] = Wanted(replicas, surge, unavailable, 0, replicas + surge)
        else:
            self.patch("deployments.apps", name, {"spec": {"replicas": replicas, "strategy": rolling}})
            known.least_ready = min(known.least_ready, max(replicas - unavailable, 0))
            known.most = max(known.most, replicas + surge)
            known.replicas, known.surge, known.unavailable = replicas, surge, unavailable
        self.look()

    @rule(name=NAMES)
    def a_deployment_gets_another_image(self, name: str) -> None:
        if name in self.deployments:
            self.images += 1
            container = {"name": "main", "image": f"image:{self.images}"}
            self.patch("deployments.apps", name, {"spec": {"template": {"spec": {"containers": [container]}}}})
            self.look()

    @rule(name=NAMES, replicas=SIZES, policy=st.sampled_from(["OrderedReady", "Parallel"]))
    def a_stateful_set_is_made_or_scaled(self, name: str, replicas: int, policy: str) -> None:
        if name in self.sets:
            self.patch("statefulsets.apps", name, {"spec": {"replicas": replicas}})
        else:
            app = f"set-{name}"
            spec = {
                "replicas": replicas,
                "podManagementPolicy": policy,
                "serviceName": app,
                "selector": {"matchLabels": {"app": app}},
                "template": template(app, ready_delay="1s"),
            }
            self.create("statefulsets.apps", name, spec)
        self.sets[name] = replicas
        self.look()

    @rule(name=NAMES)
    def a_stateful_set_gets_another_image(self, name: str) -> None:
        if name in self.sets:
            self.images += 1
            container = {"name": "main", "image": f"image:{self.images}"}
            self.patch("statefulsets.apps", name, {"spec": {"template": {"spec": {"containers": [container]}}}})
            self.look()

    @rule(name=NAMES)
    def a_daemon_set_is_made_or_updated(self, name: str) -> None:
        app = f"daemon-{name}"
        if name in self.daemons:
            self.images += 1
            container = {"name": "main", "image": f"image:{self.images}"}
            self.patch("daemonsets.apps", name, {"spec": {"template": {"spec": {"containers": [container]}}}})
        else:
            self.create("daemonsets.apps", name, {"selector": {"matchLabels": {"app": app}}, "template": template(app)})
            self.daemons.add(name)
        self.look()

    @rule(
        name=NAMES,
        completions=st.integers(1, 4),
        parallelism=st.integers(1, 3),
        indexed=st.booleans(),
        replaced=st.sampled_from(["Failed", "TerminatingOrFailed"]),
    )
    def a_job_is_made(self, name: str, completions: int, parallelism: int, indexed: bool, replaced: str) -> None:
        if name in self.jobs:
            return
        pod = template(f"job-{name}", run_for="1s..20s", stop_delay="0s..3s")
        pod["spec"]["restartPolicy"] = "Never"
        spec = {
            "completions": completions,
            "parallelism": parallelism,
            "completionMode": "Indexed" if indexed else "NonIndexed",
            "backoffLimit": 1000,
            "podReplacementPolicy": replaced,
            "template": pod,
        }
        self.create("jobs.batch", name, spec)
        self.jobs[name] = completions
        self.look()

    @rule(name=NAMES, suspended=st.booleans())
    def a_job_is_suspended_or_resumed(self, name: str, suspended: bool) -> None:
        if name in self.jobs:
            self.patch("jobs.batch", name, {"spec": {"suspend": suspended}})
            self.look()

    @rule(kind=st.sampled_from(["deployments.apps", "statefulsets.apps", "daemonsets.apps", "jobs.batch"]), name=NAMES)
    def something_is_deleted(self, kind: str, name: str) -> None:
        wanted: Any = {
            "deployments.apps": self.deployments,
            "statefulsets.apps": self.sets,
            "daemonsets.apps": self.daemons,
            "jobs.batch": self.jobs,
        }[kind]
        if name in wanted:
            self.run(self.world.client.delete(kind, name, "default", propagation_policy="Background"))
            self.run(self.gone(kind, name))
            wanted.discard(name) if isinstance(wanted, set) else wanted.pop(name)
            self.succeeded.pop(name, None)
            self.look()

    @rule(number=st.integers(0, 50))
    def a_pod_is_deleted(self, number: int) -> None:
        pods = self.pods()
        if pods:
            self.disturb()
            pod = sorted(pods, key=meta.name)[number % len(pods)]
            self.quietly(self.world.client.delete("pods", meta.name(pod), "default"))
            self.look()

    # ---- what fails

    @rule(node=NODE_NAMES, silent=st.booleans())
    def a_node_falls_silent_or_speaks_again(self, node: str, silent: bool) -> None:
        self.disturb()
        self.run(self.annotate(node, "true" if silent else None))
        self.look()

    @rule(node=NODE_NAMES, value=st.booleans())
    def a_node_is_cordoned_or_not(self, node: str, value: bool) -> None:
        self.run(self.world.client.patch("nodes", node, {"spec": {"unschedulable": value}}, patch_type="merge"))
        self.disturb()

    @rule(part=st.sampled_from(PARTS), later=st.floats(0, 2))
    def a_part_is_killed_and_started_again(self, part: str, later: float) -> None:
        self.run(self.restart(part, later))
        self.look()

    @rule(seconds=st.sampled_from([0.5, 2.0, 5.0, 20.0, 90.0, 400.0]))
    def time_passes(self, seconds: float) -> None:
        for _ in range(10):
            self.run(self.world.advance(seconds / 10))
            self.look()

    @rule()
    def all_comes_right(self) -> None:
        self.run(self.converge())

    # ---- laws that always hold

    def look(self) -> None:
        pods = self.pods()
        for name, wanted in self.deployments.items():
            own = [pod for pod in pods if meta.labels(pod).get("app") == f"deployment-{name}"]
            assert len(living(own)) <= wanted.most, f"deployment {name}: {len(living(own))} pods, {wanted}"
            assert len(ready(own)) >= wanted.least_ready, f"deployment {name}: {len(ready(own))} ready, {wanted}"
        for name in self.daemons:
            own = [pod for pod in pods if meta.labels(pod).get("app") == f"daemon-{name}"]
            nodes = Counter(_aimed_at(pod) for pod in living(own))
            assert all(count == 1 for count in nodes.values()), f"daemon set {name}: {nodes}"
        for job in self.run(self.list("jobs.batch")):
            name, succeeded = meta.name(job), (job.get("status") or {}).get("succeeded", 0)
            assert succeeded >= self.succeeded[name], f"job {name} counts backwards"
            assert succeeded <= job["spec"]["completions"], f"job {name} counts {succeeded}"
            own = [pod for pod in pods if (meta.controller_of(pod) or {}).get("uid") == meta.uid(job)]
            if job["spec"]["podReplacementPolicy"] == "Failed":
                # those on their way out count until they have ended
                there = [pod for pod in own if pod["status"]["phase"] in ("Pending", "Running")]
            else:
                there = living(own)
            assert len(there) <= job["spec"]["parallelism"], f"job {name} has {len(there)} pods"
            self.succeeded[name] = succeeded

    def disturb(self) -> None:
        """Pods go without the Deployment's doing: what it keeps to holds again once all is right."""
        for wanted in self.deployments.values():
            wanted.least_ready = 0

    # ---- what comes in the end

    async def converge(self) -> None:
        """Nodes are well again: within half an hour everything is as asked for."""
        for number in range(NODES):
            await self.annotate(f"node-{number}", None)
            uncordoned = {"spec": {"unschedulable": False}}
            await self.world.client.patch("nodes", f"node-{number}", uncordoned, patch_type="merge")
        for name in self.jobs:
            await self.world.client.patch("jobs.batch", name, {"spec": {"suspend": False}}, "default")
        wrong: list[str] = []
        for _ in range(CONVERGED_SECONDS // 10):
            await self.world.advance(10)
            wrong = await self.wrong()
            if not wrong:
                break
        assert not wrong, wrong
        for wanted in self.deployments.values():
            wanted.least_ready = max(wanted.replicas - wanted.unavailable, 0)
            wanted.most = wanted.replicas + wanted.surge

    async def wrong(self) -> list[str]:
        """What is not as it should be."""
        pods = await self.list("pods")
        told = [f"pod {meta.name(pod)} is being deleted" for pod in pods if meta.is_deleting(pod)]
        told += [f"pod {meta.name(pod)} has no node" for pod in living(pods) if not pod["spec"].get("nodeName")]
        told += await self.orphans(pods)
        wanted = {f"deployment-{name}": one.replicas for name, one in self.deployments.items()}
        wanted |= {f"set-{name}": replicas for name, replicas in self.sets.items()}
        wanted |= dict.fromkeys((f"daemon-{name}" for name in self.daemons), NODES)
        found = Counter(meta.labels(pod)["app"] for pod in ready(pods))
        told += [f"{app} has {found[app]} of {count}" for app, count in wanted.items() if found[app] != count]
        for deployment in await self.list("deployments.apps"):
            status, count = deployment.get("status") or {}, deployment["spec"]["replicas"]
            if (status.get("updatedReplicas", 0), status.get("replicas", 0)) != (count, count):
                told.append(f"deployment {meta.name(deployment)} is not rolled out: {status}")
        for one in await self.list("statefulsets.apps"):
            status, count = one.get("status") or {}, one["spec"]["replicas"]
            if status.get("currentRevision") != status.get("updateRevision") or status.get("replicas") != count:
                told.append(f"stateful set {meta.name(one)} is not rolled out: {status}")
        for one in await self.list("daemonsets.apps"):
            status = one.get("status") or {}
            if status.get("updatedNumberScheduled") != NODES:
                told.append(f"daemon set {meta.name(one)} is not rolled out: {status}")
        for job in await self.list("jobs.batch"):
            status = job.get("status") or {}
            if status.get("succeeded", 0) != job["spec"]["completions"] or status.get("uncountedTerminatedPods"):
                told.append(f"job {meta.name(job)} is not complete: {status}")
        return told

    async def orphans(self, pods: list[Object]) -> list[str]:
        owners = {
            meta.uid(one)
            for kind in ("replicasets.apps", "statefulsets.apps", "daemonsets.apps", "jobs.batch", "deployments.apps")
            for one in await self.list(kind)
        }
        owned = [*pods, *await self.list("replicasets.apps")]
        return [
            f"{meta.name(one)} is an orphan"
            for one in owned
            if (meta.controller_of(one) or {}).get("uid") not in owners
        ]

    async def delete_everything(self) -> None:
        for kind in ("deployments.apps", "statefulsets.apps", "daemonsets.apps", "jobs.batch"):
            await self.world.client.delete_collection(kind, "default", propagation_policy="Background")
        for _ in range(60):
            await self.world.advance(10)
            if not await self.list("pods") and not await self.list("replicasets.apps"):
                return
        raise AssertionError([meta.name(pod) for pod in await self.list("pods")])

    # ---- doing it

    def create(self, resource: str, name: str, spec: Object) -> None:
        body = {"metadata": {"name": name, "namespace": "default"}, "spec": spec}
        self.run(self.world.client.create(resource, body))

    def patch(self, resource: str, name: str, patch: Object) -> None:
        self.run(self.world.client.patch(resource, name, patch, "default"))

    def quietly(self, work: Coroutine[Any, Any, Any]) -> None:
        try:
            self.run(work)
        except StatusError as error:
            assert error.code == 404, error

    def pods(self) -> list[Object]:
        return self.run(self.list("pods"))

    async def list(self, resource: str) -> list[Object]:
        return (await self.world.client.list(resource, "default")).items

    async def annotate(self, node: str, value: str | None) -> None:
        patch = {"metadata": {"annotations": {SILENT: value}}}
        await self.world.client.patch("nodes", node, patch, patch_type="merge")

    async def gone(self, resource: str, name: str) -> None:
        """A name can be used again only once its old bearer is gone."""
        for _ in range(600):
            if name not in {meta.name(one) for one in await self.list(resource)}:
                return
            await self.world.advance(1)
        raise AssertionError(f"{resource} {name} is still there")

    async def restart(self, part: str, later: float) -> None:
        """Killed between any two of its steps."""
        await asyncio.sleep(0)
        await self.world.kill(part)
        await self.world.advance(later)
        self.world.launch(part)
        await self.world.advance(0.1)


def _aimed_at(pod: Object) -> str:
    """The node a daemon pod is for, bound or not."""
    terms = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    name: str = terms["nodeSelectorTerms"][0]["matchFields"][0]["values"][0]
    return name


def test_the_laws_of_workloads_hold() -> None:
    examples = int(os.environ.get("CONTROLLER_LAWS_EXAMPLES", "10"))
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Laws, settings=settings(max_examples=examples, stateful_step_count=25, deadline=None)
    )
