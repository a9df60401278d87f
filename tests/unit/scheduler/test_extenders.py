"""Extenders have a say in where pods go, for whom room is made, and who binds."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import yaml
from aiohttp import web

from kubecore.api import meta
from kubecore.api.configuration_file import InvalidConfiguration
from kubecore.scheduler.cache import Cache, NodeInfo
from kubecore.scheduler.configuration import load
from kubecore.scheduler.extender import ExtenderConfig, ExtenderError, Filtered
from kubecore.scheduler.pods import PodInfo
from kubecore.scheduler.preemption import Candidate
from kubecore.scheduler.scheduler import SchedulerConfig
from tests.unit.scheduler.conftest import Running

URL = "http://extender"


class Fake:
    """An extender in this process; `broken` fails at everything."""

    def __init__(self, *, broken: bool = False, **fields: Any) -> None:
        verbs = {verb: "x" for verb in ("filter_verb", "prioritize_verb", "preempt_verb", "bind_verb")}
        self.config = ExtenderConfig(**{"url": URL, "weight": 1, **verbs, "bind_verb": "", **fields})
        self.broken = broken
        self.refuses: dict[str, str] = {}
        self.hopeless: dict[str, str] = {}
        self.likes = ""
        self.spares = ""
        self.bound: list[tuple[str, str]] = []

    def _try(self) -> None:
        if self.broken:
            raise ExtenderError("out of order")

    async def filter(self, pod: PodInfo, nodes: Sequence[NodeInfo]) -> Filtered:
        self._try()
        left = [one for one in nodes if one.name not in self.refuses and one.name not in self.hopeless]
        names = {one.name for one in nodes}
        return Filtered(
            left,
            {name: why for name, why in self.refuses.items() if name in names},
            {name: why for name, why in self.hopeless.items() if name in names},
        )

    async def prioritize(self, pod: PodInfo, nodes: Sequence[NodeInfo]) -> Mapping[str, int]:
        self._try()
        return {self.likes: 10}

    async def preempt(self, pod: PodInfo, candidates: Sequence[Candidate], cache: Cache) -> list[Candidate]:
        self._try()
        return [one for one in candidates if one.node != self.spares]

    async def bind(self, pod: PodInfo, node: str) -> None:
        self._try()
        self.bound.append((pod.key, node))

    async def close(self) -> None:
        pass


async def start(cluster: Running, *extenders: Fake, nodes: str = "ab") -> None:
    waiting = iter(extenders)
    config = SchedulerConfig(extenders=tuple(one.config for one in extenders))
    await cluster.start(config=config, make_extender=lambda _, __: next(waiting))
    for name in nodes:
        await cluster.add_node(name)


class TestFiltering:
    async def test_pods_go_where_it_lets_them(self, cluster: Running) -> None:
        extender = Fake()
        extender.refuses = {"a": "too hot"}
        await start(cluster, extender)
        for name in ("p1", "p2", "p3"):
            await cluster.add_pod(name)
        assert {cluster.node_of(name) for name in ("p1", "p2", "p3")} == {"b"}

    async def test_what_it_says_against_nodes_is_counted_with_what_plugins_say(self, cluster: Running) -> None:
        extender = Fake()
        extender.refuses = {"a": "too hot"}
        await start(cluster, extender, nodes="a")
        await cluster.add_node("b", unschedulable=True)
        await cluster.add_pod()
        assert cluster.condition()["message"].startswith(
            "0/2 nodes are available: 1 node(s) were unschedulable, 1 too hot. no new claims to deallocate, "
            "preemption: 0/2 nodes are available: 1 No preemption victims found for incoming pod, "
            "1 Preemption is not helpful for scheduling."
        )

    async def test_whatever_happens_may_change_its_mind(self, cluster: Running) -> None:
        extender = Fake()
        extender.refuses = {"a": "too hot"}
        await start(cluster, extender, nodes="a")
        await cluster.add_pod()
        extender.refuses = {}
        cluster.api.change("nodes", "a", metadata={"annotations": {"cooled": "yes"}})
        cluster.api.change("nodes", "a", metadata={"labels": {"cooled": "yes"}})
        await cluster.clock.advance(12)
        assert cluster.node_of() == "a"

    async def test_its_failure_is_the_schedulers_and_the_pod_is_tried_again(self, cluster: Running) -> None:
        extender = Fake(broken=True)
        await start(cluster, extender)
        await cluster.add_pod()
        assert (cluster.condition()["reason"], cluster.condition()["message"]) == ("SchedulerError", "out of order")
        extender.broken = False
        await cluster.clock.advance(12)
        assert cluster.node_of()

    async def test_unless_it_may_be_ignored(self, cluster: Running) -> None:
        await start(cluster, Fake(broken=True, ignorable=True))
        await cluster.add_pod()
        assert cluster.node_of()

    async def test_pods_that_do_not_concern_it_are_none_of_its_business(self, cluster: Running) -> None:
        await start(cluster, Fake(broken=True, managed_resources=frozenset({"example.com/gpu"})))
        await cluster.add_pod()
        assert cluster.node_of()


class TestScoring:
    async def test_its_score_decides_among_nodes_that_are_alike(self, cluster: Running) -> None:
        extender = Fake(weight=5)
        extender.likes = "b"
        await start(cluster, extender)
        for name in ("p1", "p2", "p3"):
            await cluster.add_pod(name, requests={"cpu": "100m"})
        assert {cluster.node_of(name) for name in ("p1", "p2", "p3")} == {"b"}


class TestPreempting:
    async def two_full_nodes(self, cluster: Running, extender: Fake) -> None:
        await start(cluster, extender)
        for name in "ab":
            await cluster.add_pod(f"on-{name}", requests={"cpu": "3"}, nodeSelector={"kubernetes.io/hostname": name})
        await cluster.add_pod("high", requests={"cpu": "3"}, priority=9)

    async def test_it_may_spare_a_node(self, cluster: Running) -> None:
        extender = Fake()
        extender.spares = "a"
        await self.two_full_nodes(cluster, extender)
        assert cluster.pod("high")["status"]["nominatedNodeName"] == "b"
        assert meta.is_deleting(cluster.pod("on-b")) and not meta.is_deleting(cluster.pod("on-a"))

    async def test_nodes_that_it_refused_for_good_are_left_alone(self, cluster: Running) -> None:
        extender = Fake()
        await start(cluster, extender, nodes="a")
        await cluster.add_pod("low", requests={"cpu": "1"})
        extender.hopeless = {"a": "no such device"}
        await cluster.add_pod("high", requests={"cpu": "1"}, priority=9)
        assert not meta.is_deleting(cluster.pod("low"))


class TestBinding:
    async def test_it_binds_in_the_schedulers_place(self, cluster: Running) -> None:
        extender = Fake(bind_verb="bind")
        await start(cluster, extender, nodes="a")
        await cluster.add_pod()
        assert extender.bound == [("default/p", "a")] and cluster.bindings() == []

    async def test_a_binder_that_fails_and_may_be_ignored_leaves_it_to_the_scheduler(self, cluster: Running) -> None:
        await start(cluster, Fake(bind_verb="bind", broken=True, ignorable=True), nodes="a")
        await cluster.add_pod()
        assert cluster.node_of() == "a"


# ---------------------------------------------------------------------- configuration
HEAD = {"apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration"}


def configured(*extenders: Any) -> SchedulerConfig:
    return load(yaml.safe_dump({**HEAD, "extenders": list(extenders)}))


class TestConfiguration:
    def test_all_fields(self) -> None:
        (made,) = configured(
            {
                "urlPrefix": "https://extender/x",
                "filterVerb": "f",
                "prioritizeVerb": "p",
                "preemptVerb": "e",
                "bindVerb": "b",
                "weight": 3,
                "enableHTTPS": True,
                "tlsConfig": {"serverName": "extender", "caData": "UEVN"},
                "httpTimeout": "1m30s",
                "nodeCacheCapable": True,
                "ignorable": True,
                "managedResources": [{"name": "example.com/gpu", "ignoredByScheduler": True}],
            }
        ).extenders
        assert made == ExtenderConfig(
            url="https://extender/x",
            filter_verb="f",
            prioritize_verb="p",
            preempt_verb="e",
            bind_verb="b",
            weight=3,
            timeout=90,
            node_cache_capable=True,
            ignorable=True,
            managed_resources=frozenset({"example.com/gpu"}),
            server_name="extender",
            certificate_authority=b"PEM",
        )

    def test_five_seconds_are_enough_and_nobody_need_vouch_for_https(self) -> None:
        (made,) = configured({"urlPrefix": "https://extender", "enableHTTPS": True}).extenders
        assert (made.timeout, made.insecure) == (5, True)

    def test_resources_that_it_looks_after_are_not_looked_at_here(self) -> None:
        resource = {"name": "example.com/gpu", "ignoredByScheduler": True}
        config = configured({"urlPrefix": URL, "managedResources": [resource]})
        assert config.profiles[0].arguments["NodeResourcesFit"]["ignoredResources"] == ["example.com/gpu"]

    @pytest.mark.parametrize(
        ("extenders", "told"),
        [
            (
                [{"prioritizeVerb": "p"}],
                "extenders[0].weight: Invalid value: 0: must have a positive weight applied to it",
            ),
            (
                [{"bindVerb": "b"}, {"bindVerb": "b"}],
                'extenders: Invalid value: "found 2 extenders implementing bind": only one extender can implement bind',
            ),
            (
                [{"managedResources": [{"name": "cpu"}]}],
                'extenders[0].managedResources[0].name: Invalid value: "cpu": is an invalid extended resource name',
            ),
            (
                [{"managedResources": [{"name": "a.io/b"}]}, {"managedResources": [{"name": "a.io/b"}]}],
                'extenders[1].managedResources[0].name: Invalid value: "a.io/b": duplicate extender managed resource '
                "name",
            ),
            ([{"httpTimeout": "soon"}], 'time: invalid duration "soon"'),
            ([{"urlPrefix": "http://[::1"}], "couldn't build extenders: Invalid IPv6 URL"),
            (
                [{"tlsConfig": {"caFile": "/nowhere"}}],
                "couldn't build extenders: open /nowhere: no such file or directory",
            ),
            (
                [{"tlsConfig": {"caFile": "/nowhere", "insecure": True}}],
                "couldn't build extenders: specifying a root certificates file with the insecure flag is not allowed",
            ),
            ([{"verb": "f"}], 'strict decoding error: unknown field "extenders[0].verb"'),
        ],
    )
    def test_what_cannot_be_is_told_as_kube_scheduler_tells_it(self, extenders: list[Any], told: str) -> None:
        with pytest.raises(InvalidConfiguration) as caught:
            configured(*extenders)
        assert str(caught.value) == told


async def test_a_real_extender_filters_and_binds(cluster: Running) -> None:
    async def filters(request: web.Request) -> web.Response:
        asked = await request.json()
        return web.json_response({"NodeNames": [name for name in asked["NodeNames"] if name != "a"]})

    bound: list[Any] = []

    async def binds(request: web.Request) -> web.Response:
        bound.append(await request.json())
        done.set()
        return web.json_response({})

    done = asyncio.Event()
    app = web.Application()
    app.add_routes([web.post("/filter", filters), web.post("/bind", binds)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    given = {"urlPrefix": url, "filterVerb": "filter", "bindVerb": "bind", "nodeCacheCapable": True}
    try:
        await cluster.start(config=configured(given))
        for name in "ab":
            await cluster.add_node(name)
        await cluster.add_pod()
        async with asyncio.timeout(30):
            await done.wait()
        assert [(one["PodName"], one["Node"]) for one in bound] == [("p", "b")]
    finally:
        await cluster.stop()
        await runner.cleanup()
