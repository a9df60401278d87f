"""What an HTTP extender is sent and how its answers are understood, by a real server on loopback."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trustme
from aiohttp import web

from kubecore.client.client import Object
from kubecore.clock import VirtualClock
from kubecore.scheduler.extender import ExtenderConfig, ExtenderError, HTTPExtender, is_interested
from kubecore.scheduler.preemption import Candidate
from tests.support.ports import free_port
from tests.unit.scheduler.builders import cache_of, container, info, node, node_info, pod

NODES = [node_info("a"), node_info("b")]


class Served:
    """A server that notes what it is asked and answers what it is told to, by verb."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.answers: dict[str, Any] = {}
        self.status = 200
        self.url = ""
        self._runners: list[web.AppRunner] = []
        self._open: list[HTTPExtender] = []

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        app = web.Application()
        app.router.add_post("/scheduler/{verb}", self._answer)
        runner = web.AppRunner(app)
        await runner.setup()
        self._runners.append(runner)
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        port = runner.addresses[0][1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}/scheduler/"

    async def _answer(self, request: web.Request) -> web.Response:
        verb = request.match_info["verb"]
        self.asked.append((verb, await request.json()))
        answer = self.answers.get(verb, {})
        text = answer if isinstance(answer, str) else json.dumps(answer)
        return web.Response(text=text, status=self.status)

    def extender(self, **fields: Any) -> HTTPExtender:
        made = HTTPExtender(ExtenderConfig(**{"url": self.url, **fields}), VirtualClock())
        self._open.append(made)
        return made

    async def stop(self) -> None:
        for extender in self._open:
            await extender.close()
        for runner in self._runners:
            await runner.cleanup()


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    made = Served()
    await made.start()
    yield made
    await made.stop()


class TestFiltering:
    async def test_nodes_are_sent_and_come_back_as_they_are(self, served: Served) -> None:
        served.answers["fit"] = {"Nodes": {"items": [node("b")]}, "FailedNodes": {"a": "too hot"}}
        found = await served.extender(filter_verb="fit").filter(info("p"), NODES)
        assert [one.name for one in found.nodes] == ["b"] and found.failed == {"a": "too hot"}
        ((verb, asked),) = served.asked
        assert (verb, asked["Pod"]["metadata"]["name"], asked["NodeNames"]) == ("fit", "p", None)
        assert [one["metadata"]["name"] for one in asked["Nodes"]["items"]] == ["a", "b"]

    async def test_one_that_knows_the_nodes_gets_their_names(self, served: Served) -> None:
        served.answers["fit"] = {"NodeNames": ["a"]}
        found = await served.extender(filter_verb="fit", node_cache_capable=True).filter(info("p"), NODES)
        assert [one.name for one in found.nodes] == ["a"]
        assert (served.asked[0][1]["Nodes"], served.asked[0][1]["NodeNames"]) == (None, ["a", "b"])

    async def test_what_pods_that_leave_cannot_help_goes_before_what_they_can(self, served: Served) -> None:
        served.answers["fit"] = {
            "nodenames": [],
            "failednodes": {"a": "full", "b": "full"},
            "failedandunresolvablenodes": {"b": "no such device"},
        }
        found = await served.extender(filter_verb="fit", node_cache_capable=True).filter(info("p"), NODES)
        assert (found.failed, found.hopeless) == ({"a": "full"}, {"b": "no such device"})

    async def test_without_the_verb_nobody_is_asked(self, served: Served) -> None:
        assert (await served.extender().filter(info("p"), NODES)).nodes == NODES
        assert served.asked == []

    async def test_a_node_that_nobody_asked_for_is_an_error(self, served: Served) -> None:
        served.answers["fit"] = {"NodeNames": ["c"]}
        told = f'extender "{served.url}" claims a filtered node "c" which is not found in the input node list'
        with pytest.raises(ExtenderError, match=told):
            await served.extender(filter_verb="fit", node_cache_capable=True).filter(info("p"), NODES)


class TestPrioritizing:
    async def test_scores_are_by_host(self, served: Served) -> None:
        served.answers["rank"] = [{"Host": "a", "Score": 3}, {"host": "b", "score": 10}]
        assert await served.extender(prioritize_verb="rank").prioritize(info("p"), NODES) == {"a": 3, "b": 10}


class TestPreempting:
    cache = cache_of(node("a"), pods=[pod("low", node="a"), pod("other", node="a")])

    async def asked(self, served: Served, **fields: Any) -> tuple[list[Candidate], Object]:
        low = self.cache.pod("default/low")
        assert low is not None
        extender = served.extender(preempt_verb="preempt", **fields)
        found = await extender.preempt(info("p"), [Candidate("a", (low,), 1)], self.cache)
        return found, served.asked[0][1]

    async def test_victims_are_sent_and_named_in_the_answer(self, served: Served) -> None:
        victims = {"Pods": [{"UID": "uid-of-other"}], "NumPDBViolations": 2}
        served.answers["preempt"] = {"NodeNameToMetaVictims": {"a": victims}}
        found, asked = await self.asked(served)
        assert [(one.node, [pod.key for pod in one.victims], one.violations) for one in found] == [
            ("a", ["default/other"], 2)
        ]
        sent = asked["NodeNameToVictims"]["a"]
        assert (sent["Pods"][0]["metadata"]["name"], sent["NumPDBViolations"]) == ("low", 1)
        assert asked["NodeNameToMetaVictims"] is None

    async def test_one_that_knows_the_nodes_gets_their_uids(self, served: Served) -> None:
        _, asked = await self.asked(served, node_cache_capable=True)
        assert asked["NodeNameToMetaVictims"] == {"a": {"Pods": [{"UID": "uid-of-low"}], "NumPDBViolations": 1}}

    async def test_a_victim_that_is_not_there_is_an_error(self, served: Served) -> None:
        served.answers["preempt"] = {"NodeNameToMetaVictims": {"a": {"Pods": [{"UID": "x"}]}}}
        with pytest.raises(ExtenderError, match=r"claims to preempt pod .UID: x. on node: a, but the pod is not found"):
            await self.asked(served)


class TestBinding:
    async def test_pod_and_node_are_named(self, served: Served) -> None:
        await served.extender(bind_verb="bind").bind(info("p"), "a")
        expected = {"PodName": "p", "PodNamespace": "default", "PodUID": "uid-of-p", "Node": "a"}
        assert served.asked == [("bind", expected)]

    async def test_what_it_says_is_the_error(self, served: Served) -> None:
        served.answers["bind"] = {"Error": "not today"}
        with pytest.raises(ExtenderError, match="not today"):
            await served.extender(bind_verb="bind").bind(info("p"), "a")


class TestFailing:
    async def message(self, extender: HTTPExtender) -> str:
        with pytest.raises(ExtenderError) as caught:
            await extender.filter(info("p"), NODES)
        return str(caught.value)

    async def test_any_other_status_than_200(self, served: Served) -> None:
        served.status = 503
        told = await self.message(served.extender(filter_verb="fit"))
        assert told == f"failed fit with extender at URL {served.url}fit, code 503"

    async def test_an_answer_that_is_no_json_or_no_object(self, served: Served) -> None:
        served.answers["fit"] = "<html>"
        assert "answer of the extender at URL" in await self.message(served.extender(filter_verb="fit"))
        served.answers["fit"] = []
        assert "answers no object" in await self.message(served.extender(filter_verb="fit"))

    async def test_nobody_listens(self, served: Served) -> None:
        served.url = f"http://127.0.0.1:{free_port()}/"
        told = await self.message(served.extender(filter_verb="fit"))
        assert told.startswith(f'Post "{served.url}fit": cannot connect to 127.0.0.1')


class TestTLS:
    @pytest.fixture
    def authority(self) -> trustme.CA:
        return trustme.CA()

    async def serve(self, served: Served, authority: trustme.CA, *, clients: bool = False) -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        if clients:
            context.verify_mode = ssl.CERT_REQUIRED
            authority.configure_trust(context)
        await served.start(context)
        served.answers["fit"] = {"NodeNames": ["a"]}

    @pytest.fixture
    def fits(self, served: Served) -> Callable[..., Any]:
        async def ask(**tls: Any) -> bool:
            extender = served.extender(filter_verb="fit", node_cache_capable=True, **tls)
            return [one.name for one in (await extender.filter(info("p"), NODES)).nodes] == ["a"]

        return ask

    async def test_it_must_be_vouched_for(
        self, served: Served, authority: trustme.CA, fits: Callable[..., Any]
    ) -> None:
        await self.serve(served, authority)
        assert await fits(certificate_authority=authority.cert_pem.bytes())
        assert await fits(insecure=True)
        with pytest.raises(ExtenderError, match="Post"):
            await fits(certificate_authority=trustme.CA().cert_pem.bytes())

    async def test_one_may_show_a_certificate_of_ones_own(
        self, served: Served, authority: trustme.CA, fits: Callable[..., Any]
    ) -> None:
        await self.serve(served, authority, clients=True)
        mine = authority.issue_cert("scheduler@example.com")
        chain = b"".join(one.bytes() for one in mine.cert_chain_pems)
        assert await fits(insecure=True, client_certificate=chain, client_key=mine.private_key_pem.bytes())


def test_one_with_resources_of_its_own_is_asked_only_of_pods_that_want_them() -> None:
    class Managing:
        config = ExtenderConfig(url="", managed_resources=frozenset({"example.com/gpu"}))

    wants = {"resources": {"limits": {"example.com/gpu": "1"}}}
    managing: Any = Managing()
    assert not is_interested(managing, info(requests={"cpu": "1"}))
    assert is_interested(managing, info(requests={"example.com/gpu": "1"}))
    assert is_interested(managing, info(containers=[container()], initContainers=[container("i", **wants)]))
