"""What holds of DaemonSets and StatefulSets whatever users, nodes and pods do, and when controllers start anew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from kubecore.api import errors, meta
from kubecore.client.client import Client, Object
from kubecore.client.informer import InformerFactory
from kubecore.controllers.base import ControllerContext
from kubecore.controllers.workloads.daemonset import DaemonSetController
from kubecore.controllers.workloads.statefulset import StatefulSetController
from tests.support.fake_api import FakeAPI
from tests.unit.controllers.conftest import make_ready, template
from tests.unit.controllers.laws import INDEX, QUIET_SECONDS, Laws, Part

DAEMONS, STATEFUL = "daemonsets.apps", "statefulsets.apps"


def is_ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def is_well(pod: Object) -> bool:
    return is_ready(pod) and not meta.is_deleting(pod) and pod["status"]["phase"] == "Running"


def image(pod: Object) -> str:
    return str(pod["spec"]["containers"][0]["image"])


def node_of(pod: Object) -> str:
    required = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    return str(required["nodeSelectorTerms"][0]["matchFields"][0]["values"][0])


class Door:
    """The API as the controllers have it; each creation and deletion of a pod is judged by the state it comes into."""

    def __init__(self, api: FakeAPI) -> None:
        self._api = api
        # Controllers survive any exception, so what is wrong is kept for the test to see.
        self.wrong: list[str] = []

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] = {},
        body: bytes | None = None,
        content_type: str = "",
    ) -> tuple[int, bytes]:
        leaving = self._api.get("pods", path.rpartition("/")[2]) if method == "DELETE" and "/pods/" in path else None
        code, answer = await self._api.request(method, path, query=query, body=body, content_type=content_type)
        if code < 400 and leaving is not None and is_well(leaving):
            self.wrong += self._judge_deletion(leaving)
        if code < 400 and method == "POST" and path.endswith("/pods"):
            self.wrong += self._judge_creation(orjson.loads(answer))
        return code, answer

    def _judge_deletion(self, pod: Object) -> list[str]:
        """What is wrong with having deleted this pod, which was well."""
        if pod["metadata"]["name"].startswith("agent-"):
            return self._judge_daemons_deletion(pod)
        owner = self._api.get(STATEFUL, "db")
        assert owner is not None
        down = [one for one in in_range(self._api, owner) if one is None or not is_well(one)]
        name, kept = pod["metadata"]["name"], number_of(pod) in numbers(owner)
        if kept and len(down) > owner["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"]:
            return [f"{name} is deleted, and {len(down)} are not well"]
        if not kept and down and owner["spec"]["podManagementPolicy"] == "OrderedReady":
            return [f"{name} is deleted before those that stay are well"]
        return []

    def _judge_daemons_deletion(self, pod: Object) -> list[str]:
        owner = self._api.get(DAEMONS, "agent")
        assert owner is not None
        well = Counter(node_of(one) for one in pods_of(self._api, "agent") if is_well(one))
        wanted, _ = eligible(self._api)
        down = len(wanted - well.keys())
        rolling = owner["spec"]["updateStrategy"]["rollingUpdate"]
        if node_of(pod) not in wanted or well[node_of(pod)] or down <= rolling["maxUnavailable"]:
            return []
        return [f"the only daemon on {node_of(pod)} is deleted, and {down} nodes have none that is well"]

    def _judge_creation(self, pod: Object) -> list[str]:
        if pod["metadata"]["name"].startswith("agent-"):
            owner = self._api.get(DAEMONS, "agent")
            assert owner is not None
            alive = [one for one in pods_of(self._api, "agent") if not meta.is_deleting(one)]
            there = sum(node_of(one) == node_of(pod) and one["status"]["phase"] != "Failed" for one in alive)
            surge = owner["spec"]["updateStrategy"]["rollingUpdate"]["maxSurge"]
            return [f"{there} daemons on {node_of(pod)}"] if there > (2 if surge else 1) else []
        owner = self._api.get(STATEFUL, "db")
        assert owner is not None
        before = [self._api.get("pods", f"db-{number}") for number in numbers(owner) if number < number_of(pod)]
        if owner["spec"]["podManagementPolicy"] == "OrderedReady" and not all(one and is_well(one) for one in before):
            return [f"{pod['metadata']['name']} is made before those before it are well"]
        return []

    def watch(self, path: str, *, query: Mapping[str, str] = {}) -> Any:
        return self._api.watch(path, query=query)

    async def close(self) -> None:
        """Nothing of its own is open."""


def pods_of(api: FakeAPI, name: str) -> list[Object]:
    return [pod for pod in api.all("pods") if pod["metadata"]["name"].startswith(f"{name}-")]


def number_of(pod: Object) -> int:
    return int(pod["metadata"]["name"].rpartition("-")[2])


def numbers(stateful_set: Object) -> range:
    start = stateful_set["spec"]["ordinals"]["start"]
    return range(start, start + stateful_set["spec"]["replicas"])


def in_range(api: FakeAPI, stateful_set: Object) -> list[Object | None]:
    return [api.get("pods", f"db-{number}") for number in numbers(stateful_set)]


def eligible(api: FakeAPI) -> tuple[set[str], set[str]]:
    """Nodes that should have a daemon, and those that may keep one."""
    wanted: set[str] = set()
    tainted: set[str] = set()
    for node in api.all("nodes"):
        effects = {one["effect"] for one in node["spec"].get("taints") or ()}
        if node["metadata"]["labels"]["disk"] == "ssd" and "NoExecute" not in effects:
            (tainted if effects else wanted).add(node["metadata"]["name"])
    return wanted, tainted


class SetLaws(Laws):
    def __init__(self) -> None:
        super().__init__()
        self.door = Door(self.api)
        self.version = 1
        self.nodes = 0

    def parts(self, informers: InformerFactory) -> Iterable[Part]:
        context = ControllerContext(Client(self.door, field_manager="controllers"), self.clock, informers)
        return [DaemonSetController(context), StatefulSetController(context)]

    def wait(self, seconds: float) -> None:
        super().wait(seconds)
        assert not self.door.wrong, self.door.wrong

    def pick(self, index: int) -> Object | None:
        found = self.api.all("pods")
        return found[index % len(found)] if found else None

    @initialize(policy=st.sampled_from(["OrderedReady", "Parallel"]), unavailable=st.integers(1, 3))
    def begin(self, policy: str, unavailable: int) -> None:
        chosen = template(app="agent")
        chosen["spec"]["nodeSelector"] = {"disk": "ssd"}
        daemons = {
            "selector": {"matchLabels": {"app": "agent"}},
            "template": chosen,
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}},
            "revisionHistoryLimit": 2,
        }
        stateful = {
            "replicas": 2,
            "ordinals": {"start": 0},
            "selector": {"matchLabels": {"app": "db"}},
            "template": template(app="db"),
            "podManagementPolicy": policy,
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": unavailable}},
            "revisionHistoryLimit": 2,
        }
        for name in ("first", "second"):
            self.api.add("nodes", {"metadata": {"name": name, "labels": {"disk": "ssd"}}, "spec": {}})
        self.api.add(DAEMONS, {"metadata": {"name": "agent"}, "spec": daemons})
        self.api.add(STATEFUL, {"metadata": {"name": "db"}, "spec": stateful})
        self.start()

    # ------------------------------------------------------------------ users
    @rule(which=st.sampled_from([DAEMONS, STATEFUL]))
    def change_the_image(self, which: str) -> None:
        self.version += 1
        containers = [{"name": "c", "image": f"app:{self.version}"}]
        name = "agent" if which == DAEMONS else "db"
        self.api.change(which, name, spec={"template": {"spec": {"containers": containers}}})

    @rule(limits=st.sampled_from([(1, 0), (2, 0), (0, 1), (0, 2)]))
    def change_the_limits(self, limits: tuple[int, int]) -> None:
        rolling = {"maxUnavailable": limits[0], "maxSurge": limits[1]}
        self.api.change(DAEMONS, "agent", spec={"updateStrategy": {"rollingUpdate": rolling}})

    @rule(replicas=st.integers(0, 4), start=st.integers(0, 2))
    def scale(self, replicas: int, start: int) -> None:
        self.api.change(STATEFUL, "db", spec={"replicas": replicas, "ordinals": {"start": start}})

    # ------------------------------------------------------------------ nodes
    @rule(disk=st.sampled_from(["ssd", "hdd"]))
    def a_node_comes(self, disk: str) -> None:
        self.nodes += 1
        self.api.add("nodes", {"metadata": {"name": f"n{self.nodes}", "labels": {"disk": disk}}, "spec": {}})

    @rule(index=INDEX, change=st.sampled_from(["ssd", "hdd", "NoSchedule", "NoExecute", "untainted", "gone"]))
    def a_node_changes(self, index: int, change: str) -> None:
        found = self.api.all("nodes")
        if not found:
            return
        name = found[index % len(found)]["metadata"]["name"]
        if change == "gone":
            self.api.remove("nodes", name, "")
        elif change in ("ssd", "hdd"):
            self.api.change("nodes", name, "", metadata={"labels": {"disk": change}})
        else:
            taints = [] if change == "untainted" else [{"key": "reserved", "effect": change}]
            self.api.change("nodes", name, "", spec={"taints": taints})

    # ------------------------------------------------------------------ pods
    @rule(index=INDEX)
    def a_pod_runs(self, index: int) -> None:
        if (pod := self.pick(index)) is not None:
            node = node_of(pod) if pod["metadata"]["name"].startswith("agent-") else "first"
            self.api.change("pods", pod["metadata"]["name"], spec={"nodeName": node})
            make_ready(self.api, pod["metadata"]["name"])

    @rule(index=INDEX, how=st.sampled_from(["unready", "Failed", "Succeeded", "gone"]))
    def a_pod_ends(self, index: int, how: str) -> None:
        if (pod := self.pick(index)) is None:
            return
        name = pod["metadata"]["name"]
        if how == "gone":
            self.api.remove("pods", name)
        elif how == "unready":
            self.api.change("pods", name, status={"conditions": [{"type": "Ready", "status": "False"}]})
        else:
            self.api.change("pods", name, status={"phase": how, "conditions": []})

    # ------------------------------------------------------------------ what goes wrong
    @rule(times=st.integers(1, 4), verb=st.sampled_from(["create pods", "delete pods", f"update {DAEMONS}/status"]))
    def requests_fail(self, times: int, verb: str) -> None:
        self.api.react(verb, errors.internal_error("it is not well"), times=times)

    # ------------------------------------------------------------------ rest
    @rule()
    def everything_is_worked_off(self) -> None:
        for _ in range(40):
            before = self.api.revision
            self.wait(QUIET_SECONDS)
            self.nodes_do_their_work()
            if self.api.revision == before:
                break
        self.check_daemons()
        self.check_stateful()

    def nodes_do_their_work(self) -> None:
        nodes = {node["metadata"]["name"] for node in self.api.all("nodes")}
        for pod in self.api.all("pods"):
            name, bound = pod["metadata"]["name"], pod["spec"].get("nodeName")
            lost = name.startswith("agent-") and bound and bound not in nodes
            if meta.is_deleting(pod) or lost:
                self.api.remove("pods", name)
            elif pod["status"]["phase"] in ("Pending", "Running") and not is_ready(pod):
                make_ready(self.api, name)

    def check_daemons(self) -> None:
        daemon_set = self.api.get(DAEMONS, "agent")
        assert daemon_set is not None
        placed = Counter(node_of(pod) for pod in pods_of(self.api, "agent"))
        wanted, tainted = eligible(self.api)
        assert wanted <= placed.keys() <= wanted | tainted
        assert set(placed.values()) <= {1}
        newest = daemon_set["spec"]["template"]["spec"]["containers"][0]["image"]
        assert all(image(pod) == newest for pod in pods_of(self.api, "agent") if node_of(pod) in wanted)
        counted = daemon_set["status"]
        assert counted["desiredNumberScheduled"] == counted["numberReady"] == len(wanted)
        assert counted["numberMisscheduled"] == len(placed.keys() - wanted)
        assert counted.get("updatedNumberScheduled", 0) == counted.get("numberAvailable", 0) == len(wanted)
        assert counted["observedGeneration"] == daemon_set["metadata"]["generation"]

    def check_stateful(self) -> None:
        stateful_set = self.api.get(STATEFUL, "db")
        assert stateful_set is not None
        assert sorted(number_of(pod) for pod in pods_of(self.api, "db")) == list(numbers(stateful_set))
        newest = stateful_set["spec"]["template"]["spec"]["containers"][0]["image"]
        assert all(image(pod) == newest for pod in pods_of(self.api, "db"))
        counted, replicas = stateful_set["status"], stateful_set["spec"]["replicas"]
        names = ("replicas", "readyReplicas", "availableReplicas", "currentReplicas", "updatedReplicas")
        assert [counted.get(name, 0) for name in names] == [replicas] * 5
        assert counted["currentRevision"] == counted["updateRevision"]
        assert counted["observedGeneration"] == stateful_set["metadata"]["generation"]
        kept = Counter(
            one["metadata"]["ownerReferences"][0]["name"] for one in self.api.all("controllerrevisions.apps")
        )
        assert kept["db"] <= 3
        assert kept["agent"] <= 4


TestSetLaws = SetLaws.TestCase
TestSetLaws.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
